//! The one connection of a bridge as its sinks see it: publishes go in, acknowledgements come out.
//!
//! The sinks' queues are the source of truth: when the link is lost, every message that was not acknowledged goes
//! back to its sink, which gives it again in order. `drive` makes the connection and keeps it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;
use weir_mqtt::ReasonCode;
use weir_mqtt::properties::PublishProperties;
use zeroize::Zeroizing;

use self::laneless::Laneless;
use self::sending::{about, check_fit, is_of_ring};
use self::sizes::Sizes;
use self::suspect::Suspect;
pub(super) use self::suspect::Who;
use super::client::{Limits, Refusal, Version};
use super::drive::drive;
use super::failures::Reason;
use super::home::{Dropped, Gateway, Home};
use super::lanes::{Ids, Lanes, Whose};
use super::pace::Pace;
use super::plan::BridgePlan;
use super::released::Released;
use super::route::Unmapped;
use super::start::Standing;
use crate::codes;
use crate::connector::Health;
use crate::error::SinkError;

mod inner;
mod laneless;
mod sending;
mod sizes;
mod suspect;
mod waking;

#[cfg(test)]
mod blame_tests;

/// What a bridge has done.
#[derive(Debug, Default)]
pub struct BridgeStats {
    /// Signatures made; one for each CONNECT.
    pub sign_calls: AtomicU64,
    /// Attempts to connect.
    pub connects: AtomicU64,
    /// Attempts that the remote accepted.
    pub connected: AtomicU64,
    /// Attempts and links that failed, by reason.
    pub failures: [AtomicU64; Reason::ALL.len()],
    /// When the credentials of the last attempt end, in milliseconds since the epoch; 0 where they do not.
    pub credentials_end_ms: AtomicI64,
    /// When the client's certificate of the last attempt ends, in milliseconds since the epoch; 0 without one.
    pub certificate_ends_ms: AtomicI64,
    /// Messages handed to the link.
    pub sent: AtomicU64,
    /// Their payloads.
    pub sent_bytes: AtomicU64,
    /// Messages that the remote has taken.
    pub acknowledged: AtomicU64,
    /// Messages that the remote has refused.
    pub refused: AtomicU64,
    /// Messages that went back to their sink because the link was lost.
    pub returned: AtomicU64,
    /// Messages that the remote has sent.
    pub received: AtomicU64,
    /// Their payloads.
    pub received_bytes: AtomicU64,
    /// Messages of `QoS` 1 and 2 of the remote that were acknowledged for good.
    pub received_acknowledged: AtomicU64,
    /// Messages of the remote that went nowhere, by reason.
    pub dropped_in: [AtomicU64; Dropped::ALL.len()],
    /// Messages that went out with a lower `QoS` than they came with.
    pub qos_downgrades: AtomicU64,
    /// Messages that were too old when their turn came.
    pub expired: AtomicU64,
    /// Messages of `QoS` 0 that were not kept while the link was down.
    pub not_kept: AtomicU64,
    /// Messages that were given up because the remote closed the link over them, or refused them for their size.
    pub given_up: AtomicU64,
    /// Messages of `out` without a name at the remote, by reason.
    pub unmapped: [AtomicU64; Unmapped::ALL.len()],
    /// Filters that the remote refuses now.
    pub refused_filters: AtomicU64,
    /// Links that have ended since nothing was to be sent (`start = "lazy"`).
    pub rests: AtomicU64,
    /// Messages that are on their way to the remote now.
    pub in_flight: AtomicU64,
    /// How long the last PINGRESP took, in microseconds; 0 before the first.
    pub round_trip_us: AtomicU64,
}

/// One bridge; clones are the same bridge. It connects when the first sink asks and ends with the last clone.
#[derive(Clone)]
pub(crate) struct BridgeLink {
    inner: Arc<Inner>,
    _owner: Arc<Owner>,
}

pub(super) struct Inner {
    plan: RwLock<Arc<BridgePlan>>,
    pub(super) base: PathBuf,
    pub(super) health: Arc<Health>,
    pub(super) stats: Arc<BridgeStats>,
    pub(super) home: Option<Arc<dyn Home>>,
    pub(super) gateway: Arc<Gateway>,
    link: Mutex<Option<Up>>,
    pace: Pace,
    /// Counts changes of the link; odd numbers are up.
    changed: watch::Sender<u64>,
    pub(super) stop: Notify,
    /// The next attempt is to come now.
    pub(super) hurry: Notify,
    /// There is something to write.
    pub(super) written: Notify,
    /// The filters of `in` have changed.
    pub(super) rerouted: Notify,
    started: Mutex<bool>,
    /// Whether there is to be a link now.
    pub(super) standing: watch::Sender<Standing>,
    /// What queues have released that the remote has PUBREC of: `out`, and rules' sinks.
    released: Mutex<Vec<Arc<Released>>>,
    /// A rule's sink sends at `QoS` 2: the session at the remote is to outlive the link.
    exact: AtomicBool,
    laneless: Laneless,
    suspect: Mutex<Suspect>,
    sizes: Mutex<Sizes>,
    /// Filters that the remote refuses.
    pub(super) refused_filters: Mutex<BTreeMap<String, ReasonCode>>,
    /// The password of the last attempt.
    pub(super) signed_with: Mutex<Option<Zeroizing<String>>>,
    /// The tokens of which the cloud has said that they are over for good.
    pub(super) barred: Mutex<Option<Zeroizing<String>>>,
    /// The task that keeps the link has ended.
    ended: watch::Sender<bool>,
}

/// Tells the driver to leave when nobody holds the bridge any more.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop.notify_one();
    }
}

/// A link that is up.
pub(super) struct Up {
    number: u64,
    version: Version,
    limits: Limits,
    window: Arc<Semaphore>,
    /// How many places it has.
    places: usize,
    /// When a message was last sent or answered, or the link came up.
    busy_at: Instant,
    /// So many places the window has beside those that are there now: while messages go one at a time.
    held_back: usize,
    /// The session at the remote is the one of before.
    resumed: bool,
    /// It was asked to end with this link.
    clean: bool,
    /// Bytes for the socket.
    out: Vec<u8>,
    /// How many bytes were put there, and how many the socket has.
    out_total: u64,
    written_total: u64,
    /// Messages of `QoS` 0 with where their bytes end.
    unwritten: VecDeque<(u64, Pending)>,
    /// On the wire, by packet id.
    outstanding: HashMap<u16, Pending>,
    /// Ids of SUBSCRIBE and UNSUBSCRIBE that are not answered, and since when.
    asked: HashMap<u16, (Instant, Asked)>,
    /// The last id of each kind that was given.
    last_ring: u16,
    last_ask: u16,
    /// So many ids are for messages of `QoS` 2 without a number.
    ring: u16,
    aliases: HashMap<String, u16>,
    /// Ids of an earlier link that the remote is asked to free. Their PUBCOMP speaks of no message of this one.
    freeing: HashSet<u16>,
    /// So many messages of `QoS` 0 were put on the wire, and so many has the remote read for certain: it has answered
    /// for something behind them.
    unanswered_to: u64,
    heard_to: u64,
    /// How many were there before PINGREQ, while that is not answered.
    sounded: Option<u64>,
    /// One of them was freed, a SUBSCRIBE was answered, or the link is gone.
    freed: Arc<Notify>,
    /// The remote is shown another token: no message leaves until it has answered.
    shows_token: bool,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.freed.notify_waiters();
    }
}

/// What is known of the session at the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// It begins with this link.
    New,
    /// It is the one of before.
    Resumed,
    /// It is there, but is not the one that is known here: anything may be half way in it.
    Strange,
}

/// What a SUBSCRIBE, UNSUBSCRIBE or PUBLISH of the bridge's own is about.
pub(super) enum Asked {
    /// Another token.
    Token,
    /// A filter, at a `QoS`.
    Subscribe(String, u8),
    Unsubscribe,
}

struct Pending {
    since: Instant,
    message: Who,
    /// The same, until the remote has said anything to it.
    who: Option<Who>,
    /// How large its payload is.
    bytes: usize,
    done: Option<oneshot::Sender<Answer>>,
    /// For a `QoS` 2 message whose release is remembered: where, and under which number.
    released: Option<(Arc<Released>, u64)>,
    /// It was sent as a repeat: the remote may have it from an earlier link.
    again: bool,
    /// So many messages of `QoS` 0 went before it.
    behind: u64,
    /// Where its bytes begin in those of the link.
    begins: u64,
    _place: Option<OwnedSemaphorePermit>,
}

impl Pending {
    fn answer(mut self, answer: Answer) {
        if let Some(done) = self.done.take() {
            let _ = done.send(answer);
        }
    }
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

/// A message for the remote.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a Bytes,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Option<PublishProperties>,
    /// The same message has the same whenever it is given.
    pub(crate) who: Who,
    pub(crate) numbered: Option<Numbered<'a>>,
}

/// A message whose packet id follows from its number in the queue: the same after a restart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbered<'a> {
    pub(crate) seq: u64,
    /// It may have been sent before.
    pub(crate) again: bool,
    pub(crate) released: &'a Arc<Released>,
}

impl Numbered<'_> {
    pub(crate) fn id(&self) -> u16 {
        self.released.ids().of(self.seq)
    }
}

/// So many topics of one link get an alias.
const MOST_ALIASES: u16 = 256;

impl BridgeLink {
    pub(crate) fn new(
        plan: BridgePlan,
        base: PathBuf,
        health: Arc<Health>,
        home: Option<Arc<dyn Home>>,
    ) -> Self {
        let stats: Arc<BridgeStats> = Arc::default();
        let lanes = (home.as_ref()).map(|home| Lanes::of(home.data_dir(), health.name()));
        let gateway = Gateway::new(health.name(), plan.inbound.clone(), Arc::clone(&stats));
        let inner = Arc::new(Inner {
            standing: watch::Sender::new(Standing::new(plan.start)),
            pace: Pace::new(&plan),
            plan: RwLock::new(Arc::new(plan)),
            base,
            health,
            stats,
            home,
            gateway: Arc::new(gateway),
            link: Mutex::new(None),
            changed: watch::Sender::new(0),
            stop: Notify::new(),
            hurry: Notify::new(),
            written: Notify::new(),
            rerouted: Notify::new(),
            started: Mutex::new(false),
            released: Mutex::default(),
            exact: AtomicBool::new(false),
            laneless: Laneless::new(lanes.is_some_and(|lanes| lanes.is_there())),
            suspect: Mutex::default(),
            sizes: Mutex::default(),
            refused_filters: Mutex::default(),
            signed_with: Mutex::default(),
            barred: Mutex::default(),
            ended: watch::Sender::new(false),
        });
        inner.tell(false);
        Self {
            _owner: Arc::new(Owner(Arc::clone(&inner))),
            inner,
        }
    }

    pub(crate) fn plan(&self) -> Arc<BridgePlan> {
        self.inner.plan()
    }

    pub(crate) fn stats(&self) -> &BridgeStats {
        &self.inner.stats
    }

    /// Whether it is connected with the broker it belongs to, and in the place of another one only when that has ended:
    /// then no sink starts it.
    pub(crate) fn starts_by_itself(&self) -> bool {
        let plan = self.inner.plan();
        self.inner.home.is_some() && !(plan.inbound.is_empty() && plan.out.is_empty())
    }

    /// Connects and stays connected.
    pub(crate) fn start(&self) {
        let waits = self
            .inner
            .home
            .as_ref()
            .is_some_and(|home| !home.is_ready());
        let plan = self.inner.plan();
        if waits && !(plan.inbound.is_empty() && plan.out.is_empty()) {
            // It is started again when there is a way in.
            return;
        }
        let mut started = self.inner.started.lock();
        if !*started {
            *started = true;
            tokio::spawn(drive(Arc::clone(&self.inner)));
        }
    }

    /// Takes another plan for the same connection: filters change on the link that is up.
    pub(crate) fn reroute(&self, plan: BridgePlan) {
        let gateway = &self.inner.gateway;
        if *gateway.routes() != *plan.inbound {
            gateway.guards.rerouted();
        }
        let version = self.inner.with_up(|up| up.version());
        gateway.guards.set(&plan, version);
        gateway.set_routes(plan.inbound.clone());
        *self.inner.plan.write() = Arc::new(plan);
        self.inner.rerouted.notify_one();
    }

    /// The remote is asked for nothing any more.
    pub(crate) fn take_no_more(&self) {
        self.inner.gateway.set_routes(Arc::from([]));
        self.inner.rerouted.notify_one();
    }

    /// Ends the link, whoever holds it. Resolves when it has said goodbye.
    pub(crate) async fn end(&self) {
        {
            let mut started = self.inner.started.lock();
            if !*started {
                // It never was, and never will be.
                *started = true;
                self.inner.ended.send_replace(true);
            }
        }
        self.inner.stop.notify_one();
        let mut ended = self.inner.ended.subscribe();
        // The sender lives as long as `self`.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// The session at the remote is wanted, where the file does not say otherwise. A link that was made without is made
    /// anew.
    pub(crate) fn keep_session(&self) {
        self.inner.exact.store(true, Ordering::Relaxed);
        if self.inner.wants_session() {
            self.inner.rerouted.notify_one();
        }
    }

    /// Waits, for at most `limit`, until the link of this number has the session that is wanted; false when it is to be
    /// made anew first.
    pub(crate) async fn has_session(&self, number: u64, limit: Duration) -> bool {
        if !self.inner.wants_session() {
            return true;
        }
        let _ = tokio::time::timeout(limit, self.is_gone(number)).await;
        false
    }

    /// What the queue with this epoch has released: one for all sinks that deliver it one after the other. `None` when
    /// there are no packet identifiers left that it could have for itself.
    ///
    /// # Errors
    /// When it cannot be remembered which identifiers are its.
    pub(crate) fn released(
        &self,
        data_dir: &Path,
        epoch: u64,
        whose: Whose,
    ) -> std::io::Result<Option<Arc<Released>>> {
        let mut all = self.inner.released.lock();
        if let Some(known) = all.iter().find(|known| known.epoch() == epoch) {
            return Ok(Some(Arc::clone(known)));
        }
        let name = self.inner.health.name();
        let (ids, path) = match whose {
            Whose::Out => (
                Ids::OUT,
                data_dir.join("bridges").join(format!("{name}.released")),
            ),
            // What a queue before may have left half way under these identifiers is none of this one.
            Whose::Rule => match Lanes::of(data_dir, name).take(epoch, |ids, path| {
                Released::open(path, epoch, ids).give_up(ids.numbers())
            })? {
                Some(lane) => lane,
                None => return Ok(None),
            },
        };
        if whose == Whose::Rule {
            self.inner.laneless.are_there(true);
        }
        // Of another queue of `out` nothing holds any more.
        all.retain(|known| known.path() != path);
        let released = Arc::new(Released::open(&path, epoch, ids));
        all.push(Arc::clone(&released));
        Ok(Some(released))
    }

    /// Only queues with these epochs are filled or hold rows: the lanes of other rules' sinks are free again. May wait for a
    /// file.
    ///
    /// # Errors
    /// When it cannot be read or remembered which lanes are taken.
    pub(crate) fn keep_lanes(&self, epochs: &[u64]) -> std::io::Result<()> {
        let Some(home) = &self.inner.home else {
            return Ok(());
        };
        let mut all = self.inner.released.lock();
        let lanes = Lanes::of(home.data_dir(), self.inner.health.name());
        lanes.keep(epochs)?;
        all.retain(|known| known.ids() == Ids::OUT || epochs.contains(&known.epoch()));
        self.inner.laneless.are_there(lanes.is_there());
        drop(all);
        self.inner.lanes_may_be_free(epochs);
        Ok(())
    }

    /// Whether the remote goes on with the session of before on this link; `None` when it is not up any more.
    pub(crate) fn is_resumed(&self, number: u64) -> Option<bool> {
        let link = self.inner.link.lock();
        let up = link.as_ref().filter(|up| up.number == number)?;
        Some(up.resumed)
    }

    /// Hands a message over to the link of this number when the window has room; its answer comes later. On a newer link
    /// it would overtake what the sink has given to this one.
    pub(crate) async fn publish(
        &self,
        message: Outgoing<'_>,
        number: u64,
    ) -> Result<oneshot::Receiver<Answer>, NotSent> {
        let plan = self.inner.plan();
        let window = {
            let link = self.inner.link.lock();
            let up = link
                .as_ref()
                .filter(|up| up.number == number)
                .ok_or(NotSent::Down)?;
            check_fit(&message, up, &plan).map_err(NotSent::Unfit)?;
            let least = plan.least_suspected();
            let to_blame = self.inner.suspect.lock().is_to_blame(message.who, least);
            if let Some(times) = to_blame {
                self.inner.stats.given_up.fetch_add(1, Ordering::Relaxed);
                return Err(NotSent::Unfit(closed_over(&message, times)));
            }
            Arc::clone(&up.window)
        };
        // The window is closed with the link, so nobody waits here for ever.
        let place = match Arc::clone(&window).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => match window.acquire_owned().await {
                Ok(place) => place,
                Err(_) => {
                    // One that is about to end takes nothing: asking it over and over would keep a thread busy.
                    self.is_gone(number).await;
                    return Err(NotSent::Down);
                }
            },
        };
        let qos = message.qos.min(plan.qos_cap);
        let turn = tokio::select! {
            biased;
            turn = self.inner.pace.wait(qos, about(&message)) => turn,
            () = self.is_gone(number) => return Err(NotSent::Down),
        };
        self.clear_the_way(&message, number, &plan).await;
        let echo = self.inner.gateway.echo_of(&message, &plan);
        let (done, answer) = oneshot::channel();
        let mut link = self.lock_to_send(number).await;
        let up = link
            .as_mut()
            .filter(|up| up.number == number)
            .ok_or(NotSent::Down)?;
        let pending = Pending {
            since: Instant::now(),
            message: message.who,
            who: Some(message.who),
            bytes: message.payload.len(),
            done: Some(done),
            released: None,
            again: false,
            behind: up.unanswered_to,
            begins: up.out_total,
            _place: Some(place),
        };
        let bytes = message.payload.len() as u64;
        let lowered = up.send(message, &plan, pending)?;
        turn.used();
        // Before the driver can write it.
        self.inner.gateway.guards.sent(echo);
        drop(link);
        self.inner.stats.sent.fetch_add(1, Ordering::Relaxed);
        (self.inner.stats.sent_bytes).fetch_add(bytes, Ordering::Relaxed);
        if lowered {
            self.inner
                .stats
                .qos_downgrades
                .fetch_add(1, Ordering::Relaxed);
        }
        self.inner.written.notify_one();
        Ok(answer)
    }

    /// Waits for what must be answered before the message may go.
    async fn clear_the_way(&self, message: &Outgoing<'_>, number: u64, plan: &BridgePlan) {
        let qos = message.qos.min(plan.qos_cap);
        if self.inner.suspect.lock().goes_alone() {
            // What ends the link now shall be the message and nothing else. A SUBSCRIBE that is not answered ends it, too.
            self.until(number, |up| up.asked.is_empty()).await;
            self.freed(number, HashSet::is_empty).await;
            self.inner.sound(number);
            self.until(number, |up| up.heard_to >= up.unanswered_to)
                .await;
        } else if let Some(numbered) = message.numbered.filter(|_| qos > 0) {
            let id = numbered.id();
            self.freed(number, |ids| !ids.contains(&id)).await;
        } else if qos == 2 {
            self.freed(number, |ids| !ids.iter().any(|id| is_of_ring(*id)))
                .await;
        }
    }

    /// The link, when no token keeps messages from leaving: looked at under the lock that they are sent under.
    async fn lock_to_send(&self, number: u64) -> MutexGuard<'_, Option<Up>> {
        loop {
            self.until(number, |up| !up.shows_token).await;
            let link = self.inner.link.lock();
            let waits = |up: &Up| up.number == number && up.shows_token;
            if !link.as_ref().is_some_and(waits) {
                return link;
            }
        }
    }

    /// Resolves when the link of this number is gone.
    async fn is_gone(&self, number: u64) {
        let mut changed = self.inner.changed.subscribe();
        // The sender lives as long as `self`.
        let _ = changed.wait_for(|now| *now != number).await;
    }

    /// Waits until the ids that may be half way at the remote are as `holds` says. A remote that does not say so in time does not answer
    /// for ids that it does not know: it is not waited for again on this link.
    pub(crate) async fn freed(&self, number: u64, holds: impl Fn(&HashSet<u16>) -> bool) {
        let freed = self.until(number, |up| holds(&up.freeing));
        let limit = self.inner.plan().ack_timeout;
        if tokio::time::timeout(limit, freed).await.is_err() {
            tracing::warn!(connector = %self.inner.health.name(), "the remote does not answer PUBREL for packet ids of before");
            let mut link = self.inner.link.lock();
            if let Some(up) = link.as_mut().filter(|up| up.number == number) {
                up.freeing.clear();
                up.freed.notify_waiters();
            }
        }
    }

    /// Waits until the link of this number is as `holds` says, or is gone.
    async fn until(&self, number: u64, holds: impl Fn(&Up) -> bool) {
        while let Some(freed) = self.inner.still(number, &holds) {
            let notified = freed.notified();
            tokio::pin!(notified);
            // What is freed between the look and the wait is seen.
            notified.as_mut().enable();
            if self.inner.still(number, &holds).is_none() {
                return;
            }
            notified.await;
        }
    }

    /// Frees packet ids at the remote that an earlier link, or life, may have left half way.
    pub(crate) fn release(&self, released: &Released, seqs: impl Iterator<Item = u64>) {
        let ids: Vec<u16> = seqs.map(|seq| released.ids().of(seq)).collect();
        self.free(&ids);
    }

    pub(crate) fn free(&self, ids: &[u16]) {
        self.inner.with_up(|up| up.free(ids.iter().copied()));
        self.inner.written.notify_one();
    }
}

fn closed_over(message: &Outgoing<'_>, times: u32) -> SinkError {
    let text = format!(
        "the remote broker closed the link {times} times right after this message of {} bytes on `{}`, or answered with what is no MQTT",
        message.payload.len(),
        message.topic
    );
    SinkError::new(codes::CLOSED_OVER, text)
}
