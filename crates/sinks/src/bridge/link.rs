//! The one connection of a bridge: made, kept, and made anew; publishes go in, acknowledgements come out.
//!
//! The sinks' queues are the source of truth: when the link is lost, every message that was not acknowledged goes
//! back to its sink, which gives it again in order. Nothing is remembered here over a lost link.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::client::{
    self, Driver, Failure, GOODBYE, Happening, Limits, Publisher, Refusal, Version,
};
use super::plan::BridgePlan;
use super::reconnect::{Loss, Reconnect, Waiting};
use super::signer::Moment;
use crate::config::connector::{Failover, Protocol};
use crate::connector::{Health, LinkState};
use crate::error::SinkError;
use crate::render::MqttMessage;
use crate::{codes, now_ms};

/// What a bridge has done.
#[derive(Debug, Default)]
pub struct BridgeStats {
    /// Signatures made; one for each CONNECT.
    pub sign_calls: AtomicU64,
    /// Attempts to connect.
    pub connects: AtomicU64,
    /// Attempts that the remote accepted.
    pub connected: AtomicU64,
    /// Messages handed to the link.
    pub sent: AtomicU64,
    /// Messages that the remote has taken.
    pub acknowledged: AtomicU64,
    /// Messages that the remote has refused.
    pub refused: AtomicU64,
    /// Messages that went back to their sink because the link was lost.
    pub returned: AtomicU64,
}

/// One bridge; clones are the same bridge. It connects when the first sink asks and ends with the last clone.
#[derive(Clone)]
pub(crate) struct BridgeLink {
    inner: Arc<Inner>,
    _owner: Arc<Owner>,
}

struct Inner {
    plan: BridgePlan,
    base: PathBuf,
    health: Arc<Health>,
    stats: BridgeStats,
    link: Mutex<Option<Up>>,
    /// Counts changes of the link; odd numbers are up.
    changed: watch::Sender<u64>,
    stop: Notify,
    started: Mutex<bool>,
}

/// Tells the driver to leave when nobody holds the bridge any more.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop.notify_one();
    }
}

/// A link that is up.
struct Up {
    number: u64,
    publisher: Publisher,
    limits: Limits,
    window: Arc<Semaphore>,
    /// Handed to the client, not yet on the wire, in order.
    submitted: VecDeque<Pending>,
    /// On the wire, by packet id.
    outstanding: HashMap<u16, Pending>,
    leaks: usize,
}

struct Pending {
    qos: u8,
    since: Instant,
    done: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
}

/// What became of one publish.
#[derive(Debug)]
pub(crate) enum Answer {
    Taken,
    Refused(Refusal),
}

/// Why a publish was not even handed over.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// There is no link.
    Down,
    /// The remote cannot take such a message.
    Unfit(SinkError),
}

impl BridgeLink {
    pub(crate) fn new(plan: BridgePlan, base: PathBuf, health: Arc<Health>) -> Self {
        let inner = Arc::new(Inner {
            plan,
            base,
            health,
            stats: BridgeStats::default(),
            link: Mutex::new(None),
            changed: watch::Sender::new(0),
            stop: Notify::new(),
            started: Mutex::new(false),
        });
        Self {
            _owner: Arc::new(Owner(Arc::clone(&inner))),
            inner,
        }
    }

    pub(crate) fn plan(&self) -> &BridgePlan {
        &self.inner.plan
    }

    pub(crate) fn stats(&self) -> &BridgeStats {
        &self.inner.stats
    }

    /// Connects and stays connected.
    pub(crate) fn start(&self) {
        let mut started = self.inner.started.lock();
        if !*started {
            *started = true;
            tokio::spawn(drive(Arc::clone(&self.inner)));
        }
    }

    /// Waits until there is a link, for at most `limit`; its number, or why there is none.
    pub(crate) async fn up(&self, limit: Duration) -> Result<u64, SinkError> {
        let mut changed = self.inner.changed.subscribe();
        let up = tokio::time::timeout(limit, changed.wait_for(|number| number % 2 == 1)).await;
        match up {
            Ok(Ok(number)) => Ok(*number),
            _ => Err(self.inner.health.last_error().unwrap_or_else(|| {
                SinkError::new(
                    codes::LINK_DOWN,
                    "the link to the remote broker is not up yet",
                )
            })),
        }
    }

    /// Hands a message over when the window has room; its answer comes later.
    pub(crate) async fn publish(
        &self,
        message: &MqttMessage,
    ) -> Result<oneshot::Receiver<Answer>, NotSent> {
        let (window, number) = {
            let link = self.inner.link.lock();
            let up = link.as_ref().ok_or(NotSent::Down)?;
            check_fit(message, &up.limits, &self.inner.plan).map_err(NotSent::Unfit)?;
            (Arc::clone(&up.window), up.number)
        };
        // The window is closed with the link, so nobody waits here for ever.
        let place = window.acquire_owned().await.map_err(|_| NotSent::Down)?;
        let (done, answer) = oneshot::channel();
        let mut link = self.inner.link.lock();
        let up = link
            .as_mut()
            .filter(|up| up.number == number)
            .ok_or(NotSent::Down)?;
        let qos = message
            .qos
            .min(up.limits.maximum_qos)
            .min(self.inner.plan.qos_cap);
        let retain = message.retain && up.limits.retain_available && self.inner.plan.retain_allowed;
        // Both under one lock: answers are matched to calls by their order.
        if !up.publisher.publish(message, qos, retain) {
            return Err(NotSent::Down);
        }
        up.submitted.push_back(Pending {
            qos,
            since: Instant::now(),
            done,
            _place: place,
        });
        drop(link);
        self.inner.stats.sent.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }
}

/// Whether the remote can take the message at all.
fn check_fit(message: &MqttMessage, limits: &Limits, plan: &BridgePlan) -> Result<(), SinkError> {
    let payload = message.payload.0.len();
    if plan.max_payload.is_some_and(|limit| payload > limit) {
        let message = format!("a payload of {payload} bytes is over the bridge's limit");
        return Err(SinkError::new(codes::TOO_LARGE, message));
    }
    // Fixed header, topic length, packet id, properties: what stands beside topic and payload.
    let around = 32 + message.content_type.as_ref().map_or(0, String::len);
    let packet = payload + message.topic.len() + around;
    if limits
        .maximum_packet_size
        .is_some_and(|limit| packet > limit)
    {
        let message = format!("a packet of {packet} bytes is over the remote's limit");
        return Err(SinkError::new(codes::TOO_LARGE, message));
    }
    if let Some((length, slashes)) = plan.preset.topic_limits
        && (message.topic.len() > length || message.topic.matches('/').count() > slashes)
    {
        let message = format!("the topic has more than {length} bytes or {slashes} slashes");
        return Err(SinkError::new(codes::TOO_LARGE, message));
    }
    Ok(())
}

/// Connects, polls, waits, connects again, until nobody holds the bridge.
async fn drive(inner: Arc<Inner>) {
    let mut reconnect = Reconnect::new(inner.plan.backoff.clone(), rand::random());
    let mut address = 0;
    let mut version = match inner.plan.protocol {
        Protocol::V311 => Version::V311,
        Protocol::V5 | Protocol::Auto => Version::V5,
    };
    let mut proven = inner.plan.protocol != Protocol::Auto;
    loop {
        let began = Instant::now();
        inner.health.set(LinkState::Connecting);
        let attempt = Attempt::run(&inner, address, version).await;
        let held = attempt.up_at.map(|at| at.elapsed());
        let Some(failure) = attempt.failure else {
            return inner.health.set(LinkState::Stopped);
        };
        proven |= held.is_some();
        if !proven && matches!(failure.loss, Loss::Version | Loss::Network) {
            // A remote that does not know MQTT 5 says so, or just hangs up.
            version = if version == Version::V5 {
                Version::V311
            } else {
                Version::V5
            };
        }
        address = match (inner.plan.failover, held) {
            (Failover::Primary, Some(_)) => 0,
            _ => (address + 1) % inner.plan.addresses.len(),
        };
        let (wait, waiting) = reconnect.after(failure.loss, held, began.elapsed());
        let state = match (waiting, failure.error.code()) {
            (_, codes::CLOCK_UNSET) => LinkState::ClockUnset,
            (Waiting::Backoff, _) => LinkState::Backoff,
            (Waiting::AuthFailed, _) => LinkState::AuthFailed,
            (Waiting::Evicted, _) => LinkState::Evicted,
        };
        inner.health.failed(&failure.error, state, Some(wait));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inner.stop.notified() => return inner.health.set(LinkState::Stopped),
        }
    }
}

/// One CONNECT and the link that comes of it.
struct Attempt {
    up_at: Option<Instant>,
    /// `None` when the bridge was told to leave.
    failure: Option<Failure>,
}

impl Attempt {
    async fn run(inner: &Arc<Inner>, address: usize, version: Version) -> Self {
        inner.stats.connects.fetch_add(1, Ordering::Relaxed);
        inner.stats.sign_calls.fetch_add(1, Ordering::Relaxed);
        // CR-1: signed anew for each CONNECT, at its own time.
        let now = now_ms().saturating_add(inner.plan.clock_offset_ms);
        let made = inner
            .plan
            .credentials
            .sign(Moment::at(now))
            .map_err(SinkError::from)
            .and_then(|creds| {
                let renew = creds
                    .renew_after_ms(now)
                    .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
                client::connect(
                    &inner.plan,
                    &inner.plan.addresses[address],
                    version,
                    &creds,
                    &inner.base,
                )
                .map(|(publisher, driver)| (publisher, driver, renew))
            });
        let (publisher, mut driver, renew) = match made {
            Ok(made) => made,
            Err(error) => {
                return Self {
                    up_at: None,
                    failure: Some(Failure {
                        loss: Loss::Network,
                        error,
                    }),
                };
            }
        };
        let mut attempt = Self {
            up_at: None,
            failure: None,
        };
        let failure = attempt.poll(inner, &publisher, &mut driver, renew).await;
        inner.take_down(failure.as_ref());
        attempt.failure = failure;
        attempt
    }

    async fn poll(
        &mut self,
        inner: &Arc<Inner>,
        publisher: &Publisher,
        driver: &mut Driver,
        renew: Option<Duration>,
    ) -> Option<Failure> {
        // Far beyond any link where nothing expires.
        let renewal = Instant::now() + renew.unwrap_or(Duration::from_secs(10 * 365 * 86_400));
        let mut closing = false;
        loop {
            let turn = {
                let mut polled = std::pin::pin!(driver.poll());
                loop {
                    if closing && inner.is_quiet() {
                        break Turn::Renew;
                    }
                    let renewal = if closing { renewal + DRAIN } else { renewal };
                    tokio::select! {
                        happening = &mut polled => break Turn::Happened(happening),
                        () = inner.overdue() => break Turn::Stalled,
                        () = inner.stop.notified() => break Turn::Stop,
                        () = tokio::time::sleep_until(renewal) => {
                            if closing {
                                break Turn::Renew;
                            }
                            // CR-4: nothing new goes in, and what is out may still be acknowledged.
                            closing = true;
                            inner.stop_taking();
                        }
                    }
                }
            };
            // Leaving a poll half way is safe where the driver only says goodbye afterwards.
            let happening = match turn {
                Turn::Happened(happening) => happening,
                Turn::Stalled => return Some(inner.stalled()),
                Turn::Stop => {
                    say_goodbye(publisher, driver).await;
                    return None;
                }
                Turn::Renew => {
                    say_goodbye(publisher, driver).await;
                    return Some(renewed());
                }
            };
            match happening {
                Ok(Happening::Connected(limits)) => {
                    self.up_at = Some(Instant::now());
                    inner.bring_up(publisher.clone(), limits);
                }
                Ok(happening) => {
                    if let Some(failure) = inner.apply(happening) {
                        return Some(failure);
                    }
                }
                Err(failure) => return Some(failure),
            }
        }
    }
}

/// Why a poll was left.
enum Turn {
    Happened(Result<Happening, Failure>),
    Stalled,
    Stop,
    Renew,
}

/// How long acknowledgements may take before a link is closed to sign in anew.
const DRAIN: Duration = Duration::from_secs(5);

fn renewed() -> Failure {
    let message = "the link is made anew before its credentials expire";
    Failure {
        loss: Loss::Renewal,
        error: SinkError::new(codes::LINK_DOWN, message),
    }
}

async fn say_goodbye(publisher: &Publisher, driver: &mut Driver) {
    publisher.disconnect();
    let _ = tokio::time::timeout(GOODBYE, async {
        while let Ok(happening) = driver.poll().await {
            if matches!(happening, Happening::Left) {
                break;
            }
        }
    })
    .await;
}

impl Inner {
    fn bring_up(&self, publisher: Publisher, limits: Limits) {
        let window = usize::from(
            limits
                .receive_maximum
                .unwrap_or(u16::MAX)
                .min(self.plan.max_inflight)
                .max(1),
        );
        let number = *self.changed.borrow() + 1;
        *self.link.lock() = Some(Up {
            number,
            publisher,
            limits,
            window: Arc::new(Semaphore::new(window)),
            submitted: VecDeque::new(),
            outstanding: HashMap::new(),
            leaks: 0,
        });
        self.stats.connected.fetch_add(1, Ordering::Relaxed);
        self.health.ok();
        tracing::info!(connector = %self.health.name(), window, "bridge is up");
        self.changed.send_replace(number);
    }

    /// No further message is taken by this link.
    fn stop_taking(&self) {
        if let Some(up) = &*self.link.lock() {
            up.window.close();
        }
    }

    /// Whether nothing waits for an acknowledgement.
    fn is_quiet(&self) -> bool {
        let link = self.link.lock();
        link.as_ref()
            .is_none_or(|up| up.submitted.is_empty() && up.outstanding.is_empty())
    }

    /// The link is gone: what was not acknowledged goes back to its sink when its sender is dropped here.
    fn take_down(&self, failure: Option<&Failure>) {
        let Some(up) = self.link.lock().take() else {
            return;
        };
        up.window.close();
        let returned = up.submitted.len() + up.outstanding.len();
        self.stats
            .returned
            .fetch_add(returned as u64, Ordering::Relaxed);
        // The state is told before the sinks are: they show the failure as their own.
        if let Some(failure) = failure {
            self.health.failed(&failure.error, LinkState::Backoff, None);
        }
        self.changed.send_replace(up.number + 1);
        drop(up);
    }

    fn apply(&self, happening: Happening) -> Option<Failure> {
        let mut link = self.link.lock();
        let up = link.as_mut()?;
        match happening {
            Happening::Sent(packet_id) => {
                let pending = up.submitted.pop_front()?;
                if pending.qos == 0 {
                    self.stats.acknowledged.fetch_add(1, Ordering::Relaxed);
                    let _ = pending.done.send(Answer::Taken);
                } else {
                    up.outstanding.insert(packet_id, pending);
                }
            }
            Happening::Taken(packet_id) => {
                if let Some(pending) = up.outstanding.remove(&packet_id) {
                    self.stats.acknowledged.fetch_add(1, Ordering::Relaxed);
                    let _ = pending.done.send(Answer::Taken);
                }
            }
            Happening::Refused(packet_id, refusal) => {
                up.leaks += usize::from(refusal.leaks);
                if let Some(pending) = up.outstanding.remove(&packet_id) {
                    self.stats.refused.fetch_add(1, Ordering::Relaxed);
                    let _ = pending.done.send(Answer::Refused(refusal));
                }
                // The client keeps counting a refused QoS 2 message as in flight; a new link forgets it.
                if up.leaks >= usize::from(self.plan.max_inflight) {
                    let error = SinkError::new(
                        codes::PUBLISH_REFUSED,
                        "too many messages were refused on one link",
                    );
                    return Some(Failure {
                        loss: Loss::Network,
                        error,
                    });
                }
            }
            Happening::Left => {
                let error = SinkError::new(codes::LINK_DOWN, "the link was closed");
                return Some(Failure {
                    loss: Loss::Network,
                    error,
                });
            }
            Happening::Connected(_) | Happening::Other => {}
        }
        None
    }

    /// Resolves when the oldest message has waited too long for its acknowledgement.
    async fn overdue(&self) {
        loop {
            let oldest = self.link.lock().as_ref().and_then(Up::oldest);
            let deadline = oldest.map_or_else(
                || Instant::now() + self.plan.ack_timeout,
                |at| at + self.plan.ack_timeout,
            );
            if oldest.is_some() && Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    fn stalled(&self) -> Failure {
        let seconds = self.plan.ack_timeout.as_secs();
        let message = format!("the remote broker has not acknowledged a message for {seconds} s");
        Failure {
            loss: Loss::Network,
            error: SinkError::new(codes::ACK_OVERDUE, message),
        }
    }
}

impl Up {
    fn oldest(&self) -> Option<Instant> {
        let submitted = self.submitted.front().map(|pending| pending.since);
        self.outstanding
            .values()
            .map(|pending| pending.since)
            .chain(submitted)
            .min()
    }
}
