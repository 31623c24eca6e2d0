//! What a link is told by its driver: it comes up and goes, and the remote answers.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use weir_mqtt::{Packet, PacketId, ReasonCode, codec};

use super::{Answer, Asked, Inner, Pending, Session, Up, Who};
use crate::bridge::client::{Failure, Limits, Refusal, Version};
use crate::bridge::lanes::{ASK_IDS, LANE_IDS, Lanes, RING_IDS, ring_of};
use crate::bridge::mirror::{self, Mirror};
use crate::bridge::plan::BridgePlan;
use crate::bridge::reconnect::Loss;
use crate::bridge::released::Released;
use crate::bridge::start::Standing;
use crate::connector::LinkState;

impl Inner {
    pub(in crate::bridge) fn plan(&self) -> Arc<BridgePlan> {
        Arc::clone(&self.plan.read())
    }

    /// Whether the remote is asked to begin a new session.
    pub(in crate::bridge) fn is_clean_start(&self, plan: &BridgePlan) -> bool {
        plan.clean_start && !(plan.session_if_exact && self.is_exact())
    }

    /// Whether a rule's sink needs the session at the remote: one that is here, or that was in an earlier life.
    pub(in crate::bridge) fn is_exact(&self) -> bool {
        self.exact.load(Ordering::Relaxed) || self.laneless.is_any_there()
    }

    /// Of what was released nothing holds any more.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub(in crate::bridge) fn forget_released(
        &self,
        data_dir: &Path,
        mirror: &Mirror,
    ) -> std::io::Result<()> {
        let known = self.released.lock();
        for released in &*known {
            released.forget()?;
        }
        let epochs: Vec<u64> = known.iter().map(|released| released.epoch()).collect();
        let lanes = Lanes::of(data_dir, self.health.name());
        lanes.keep(&epochs)?;
        self.laneless.are_there(lanes.is_there());
        mirror::remove(&mirror.file("released"))
    }

    /// Whether the link that is up has asked for no session, and one is needed by now.
    pub(in crate::bridge) fn wants_session(&self) -> bool {
        let is_clean = self.with_up(|up| up.clean).unwrap_or_default();
        is_clean && !self.is_clean_start(&self.plan())
    }

    pub(in crate::bridge) fn bring_up(
        &self,
        version: Version,
        limits: Limits,
        session: Session,
        clean: bool,
    ) {
        let resumed = session == Session::Resumed;
        let plan = self.plan();
        let most = match version {
            Version::V311 => plan.max_inflight_untold.min(plan.max_inflight),
            Version::V5 => plan.max_inflight,
        };
        let window = usize::from(limits.receive_maximum.unwrap_or(u16::MAX).min(most).max(1));
        let held_back = if self.suspect.lock().goes_alone() {
            window - 1
        } else {
            0
        };
        let number = *self.changed.borrow() + 1;
        let ring = ring_of(plan.max_inflight);
        let mut up = Up {
            number,
            version,
            limits,
            window: Arc::new(Semaphore::new(window - held_back)),
            places: window,
            busy_at: Instant::now(),
            held_back,
            resumed,
            clean,
            out: Vec::new(),
            out_total: 0,
            written_total: 0,
            unwritten: VecDeque::new(),
            outstanding: HashMap::new(),
            asked: HashMap::new(),
            last_ring: ring - 1,
            last_ask: u16::MAX,
            ring,
            aliases: HashMap::new(),
            freeing: HashSet::new(),
            unanswered_to: 0,
            heard_to: 0,
            sounded: None,
            freed: Arc::default(),
            shows_token: false,
        };
        if session != Session::New && plan.qos_cap.min(up.limits.maximum_qos) == 2 {
            if session == Session::Strange {
                up.free((1..RING_IDS).chain(LANE_IDS..ASK_IDS));
            }
            // Ids of messages without a number are given anew on every link: none may be taken for one of before.
            up.free(RING_IDS..RING_IDS + ring);
        }
        self.gateway.guards.set(&plan, Some(version));
        self.pace.link_is_up();
        *self.link.lock() = Some(up);
        self.standing.send_if_modified(Standing::has_come_up);
        self.stats.connected.fetch_add(1, Ordering::Relaxed);
        self.health.ok();
        tracing::info!(connector = %self.health.name(), window, resumed, version = version.name(), "bridge is up");
        self.changed.send_replace(number);
        self.tell(true);
    }

    /// No further message is taken by this link.
    pub(in crate::bridge) fn stop_taking(&self) {
        if let Some(up) = &*self.link.lock() {
            up.window.close();
        }
    }

    /// Whether nothing waits for an acknowledgement.
    pub(in crate::bridge) fn is_quiet(&self) -> bool {
        let link = self.link.lock();
        link.as_ref()
            .is_none_or(|up| up.unwritten.is_empty() && up.outstanding.is_empty())
    }

    /// Since when no message was to be sent; `None` while one is on its way, or waits for its turn.
    pub(in crate::bridge) fn idle_since(&self) -> Option<Instant> {
        let link = self.link.lock();
        let idle = link.as_ref().filter(|up| {
            let free = up.window.available_permits() + up.held_back;
            free >= up.places
        });
        // While ids of before are freed, somebody may be waiting for that, who gives up after as long.
        idle.map(|up| {
            if up.freeing.is_empty() {
                up.busy_at
            } else {
                up.busy_at + self.plan().ack_timeout
            }
        })
    }

    /// An attempt has failed, or the link is gone, which was `idle` or not; true when there is to be none now.
    pub(in crate::bridge) fn has_lost(&self, loss: Loss, idle: bool) -> bool {
        let mut rests = false;
        self.standing.send_if_modified(|standing| {
            let before = *standing;
            rests = standing.has_lost(loss, idle);
            *standing != before
        });
        rests
    }

    /// The link is gone: what was not acknowledged goes back to its sink when its sender is dropped here. True when the
    /// remote has closed it over one message.
    pub(in crate::bridge) fn take_down(&self, failure: Option<&Failure>) -> bool {
        if failure.is_some_and(|failure| failure.loss.is_an_outage()) {
            self.pace.remote_is_away();
        }
        let Some(up) = self.link.lock().take() else {
            return false;
        };
        let closed = failure.is_some_and(|failure| failure.closed) && up.asked.is_empty();
        let (on_their_way, certain) = up.on_their_way();
        let over_one = closed && {
            let mut suspect = self.suspect.lock();
            let over_one = suspect.closed_over(&on_their_way, certain);
            if let (Some(half), true) = (up.half_written(), up.outstanding.is_empty()) {
                suspect.was_half_written(half.message);
            }
            over_one
        };
        up.window.close();
        let returned = up.unwritten.len() + up.outstanding.len();
        self.stats
            .returned
            .fetch_add(returned as u64, Ordering::Relaxed);
        self.stats.in_flight.store(0, Ordering::Relaxed);
        // The state is told before the sinks are: they show the failure as their own.
        match failure {
            Some(failure) if failure.loss == Loss::Rest => {
                let at_rest = self.standing.borrow().at_rest();
                self.health.set(at_rest);
            }
            Some(failure) => self.health.failed(&failure.error, LinkState::Backoff, None),
            None => {}
        }
        self.changed.send_replace(up.number + 1);
        self.tell(false);
        drop(up);
        over_one
    }

    pub(super) fn tell(&self, up: bool) {
        if let Some(home) = self.home.as_ref().filter(|_| self.plan().status) {
            home.linked(self.health.name(), up);
        }
    }

    pub(in crate::bridge) fn has_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Something about the link that is up; `None` when there is none.
    pub(in crate::bridge) fn with_up<T>(&self, act: impl FnOnce(&mut Up) -> T) -> Option<T> {
        self.link.lock().as_mut().map(act)
    }

    /// What is to be written.
    pub(in crate::bridge) fn take_out(&self) -> Bytes {
        let mut link = self.link.lock();
        let Some(up) = link.as_mut() else {
            return Bytes::new();
        };
        let in_flight = up.unwritten.len() + up.outstanding.len();
        self.stats
            .in_flight
            .store(in_flight as u64, Ordering::Relaxed);
        std::mem::take(&mut up.out).into()
    }

    /// So many bytes more are with the socket.
    pub(in crate::bridge) fn wrote(&self, bytes: usize) {
        let mut link = self.link.lock();
        let Some(up) = link.as_mut() else { return };
        up.written_total += bytes as u64;
        while up
            .unwritten
            .front()
            .is_some_and(|(end, _)| *end <= up.written_total)
        {
            if let Some((_, pending)) = up.unwritten.pop_front() {
                up.busy_at = Instant::now();
                self.stats.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.suspect.lock().written(pending.message);
                pending.answer(Answer::Taken);
            }
        }
        if up.held_back > 0 && !self.suspect.lock().goes_alone() {
            up.window.add_permits(std::mem::take(&mut up.held_back));
        }
    }

    /// PUBACK or PUBCOMP: the remote has taken a message.
    pub(in crate::bridge) fn taken(&self, id: PacketId) {
        let take = |up: &mut Up| {
            if up.freeing.remove(&id.get()) {
                up.freed.notify_waiters();
                return None;
            }
            up.settle(id)
        };
        let pending = self.with_up(take).flatten();
        if let Some(pending) = pending {
            self.done_with(pending.message);
            if let Some((released, seq)) = &pending.released {
                released.done(*seq);
            }
            self.sizes.lock().taken(pending.bytes);
            self.stats.acknowledged.fetch_add(1, Ordering::Relaxed);
            pending.answer(Answer::Taken);
        }
    }

    /// The remote has refused a message.
    pub(in crate::bridge) fn refused(&self, id: PacketId, refusal: Refusal) {
        let pending = self.with_up(|up| up.settle(id)).flatten();
        if let Some(pending) = pending {
            self.done_with(pending.message);
            self.stats.refused.fetch_add(1, Ordering::Relaxed);
            let refusal = self.weighed(refusal, &pending);
            pending.answer(Answer::Refused(refusal));
        }
    }

    /// What is refused for now is refused for good when it is too large for the remote.
    fn weighed(&self, refusal: Refusal, pending: &Pending) -> Refusal {
        let Some(who) = pending.who else {
            return refusal;
        };
        let least = self.plan().least_suspected();
        let mut sizes = self.sizes.lock();
        if !refusal.later {
            sizes.forget(who);
            return refusal;
        }
        let Some(times) = sizes.refused(who, pending.bytes, least) else {
            return refusal;
        };
        self.stats.given_up.fetch_add(1, Ordering::Relaxed);
        let meanwhile = if sizes.has_taken_some() {
            "while everything smaller is taken"
        } else {
            "and it has taken no other message since weir began"
        };
        Refusal {
            reason: format!(
                "{}, {times} times, {meanwhile}: its payload of {} bytes seems too large for the remote",
                refusal.reason, pending.bytes
            ),
            later: false,
        }
    }

    /// PUBREC with Packet Identifier in use: the remote holds a message under this id. Of a repeat this is the message
    /// itself, and where its release is to be remembered is given back. Else it is one of before: it is released, and
    /// the message is sent again later.
    pub(in crate::bridge) fn in_use(&self, id: PacketId) -> Option<(Arc<Released>, u64)> {
        let pending = self.with_up(|up| {
            let known = up.outstanding.get(&id.get())?;
            if known.again && known.released.is_some() {
                return Some(Err(known.released.clone()));
            }
            let pending = up.outstanding.remove(&id.get());
            up.free(std::iter::once(id.get()));
            Some(Ok(pending))
        });
        match pending.flatten()? {
            Err(released) => released,
            Ok(pending) => {
                if let Some(pending) = pending {
                    self.stats.refused.fetch_add(1, Ordering::Relaxed);
                    let refusal = Refusal::of(ReasonCode::PacketIdentifierInUse);
                    pending.answer(Answer::Refused(refusal));
                }
                None
            }
        }
    }

    /// Where the release of a message is to be remembered before PUBREL.
    pub(in crate::bridge) fn to_release(&self, id: PacketId) -> Option<(Arc<Released>, u64)> {
        let (who, released) = self
            .with_up(|up| {
                let pending = up.outstanding.get_mut(&id.get())?;
                // It has the message: what comes now is not the message's fault.
                pending.who = None;
                up.heard_to = up.heard_to.max(pending.behind);
                Some((pending.message, pending.released.clone()))
            })
            .flatten()?;
        self.suspect.lock().answered(who);
        released
    }

    /// What tells that the link of this number has changed; `None` when `holds` is true of it, or it is gone.
    pub(super) fn still(&self, number: u64, holds: impl Fn(&Up) -> bool) -> Option<Arc<Notify>> {
        let link = self.link.lock();
        let up = link.as_ref().filter(|up| up.number == number)?;
        (!holds(up)).then(|| Arc::clone(&up.freed))
    }

    /// Asks whether the remote has read every message of `QoS` 0, where that is not known: it answers in order.
    pub(super) fn sound(&self, number: u64) {
        let mut link = self.link.lock();
        let Some(up) = link.as_mut().filter(|up| up.number == number) else {
            return;
        };
        if up.heard_to < up.unanswered_to {
            up.sounded = Some(up.unanswered_to);
            up.append(|version, out| codec::encode(&Packet::PingReq, version, out));
            drop(link);
            self.written.notify_one();
        }
    }

    /// PINGRESP.
    pub(in crate::bridge) fn heard(&self) {
        self.with_up(|up| {
            if let Some(sounded) = up.sounded.take() {
                if sounded > up.heard_to {
                    self.suspect.lock().has_read();
                }
                up.heard_to = up.heard_to.max(sounded);
                up.freed.notify_waiters();
            }
        });
    }

    /// A message is done with.
    fn done_with(&self, who: Who) {
        let together = {
            let mut suspect = self.suspect.lock();
            suspect.answered(who);
            suspect.done()
        };
        if together {
            self.with_up(|up| up.window.add_permits(std::mem::take(&mut up.held_back)));
        }
    }

    /// Since when the oldest SUBSCRIBE or UNSUBSCRIBE waits for its answer.
    pub(in crate::bridge) fn asked_since(&self) -> Option<Instant> {
        let link = self.link.lock();
        let asked = link.as_ref()?.asked.values();
        asked.map(|(since, _)| *since).min()
    }

    /// What was asked under this id, which is answered now.
    pub(in crate::bridge) fn take_asked(&self, id: PacketId) -> Option<Asked> {
        self.with_up(|up| {
            let asked = up.asked.remove(&id.get());
            up.freed.notify_waiters();
            asked.map(|(_, asked)| asked)
        })
        .flatten()
    }

    pub(in crate::bridge) fn oldest(&self) -> Option<Instant> {
        self.link.lock().as_ref().and_then(Up::oldest)
    }
}
