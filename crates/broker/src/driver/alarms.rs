//! What happens to a session without a connection when time passes: its Will is published, it expires.
//!
//! At most one alarm is worth anything for each session; a session that comes back simply outlives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Shared;
use super::forgotten::Forgotten;
use super::handle::{NEVER, SessionHandle, Slot};
use super::router::Router;
use super::sys::SystemTopics;
use crate::core::Millis;
use crate::core::persist::Persist;
use crate::core::will::Will;

/// Expired retained messages are looked for this often.
const SWEEP_EVERY: Millis = 60_000;

/// A storage is asked this often whether it has room.
const LOOK_EVERY: Millis = 1000;

/// Alarms in the order of their times.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: Mutex<BTreeMap<(Millis, u64), Arc<SessionHandle>>>,
    changed: Notify,
}

impl Alarms {
    fn set(&self, at: Millis, handle: &Arc<SessionHandle>) {
        let mut set = self.set.lock();
        let first = set
            .first_key_value()
            .is_none_or(|((first, _), _)| at < *first);
        set.insert((at, handle.key), Arc::clone(handle));
        drop(set);
        if first {
            self.changed.notify_one();
        }
    }

    fn next(&self) -> Option<Millis> {
        self.set.lock().first_key_value().map(|((at, _), _)| *at)
    }

    fn take_due(&self, now: Millis) -> Vec<(Millis, Arc<SessionHandle>)> {
        let mut set = self.set.lock();
        let later = set.split_off(&(now + 1, 0));
        std::mem::replace(&mut *set, later)
            .into_iter()
            .map(|((at, _), handle)| (at, handle))
            .collect()
    }
}

impl Shared {
    /// Makes sure that the session is looked at when its Will is due or it expires, whichever comes first.
    pub(super) fn set_alarm(&self, handle: &Arc<SessionHandle>) {
        let at = {
            let mut slot = handle.lock();
            let at = slot.expires_at.min(slot.will_at);
            // An earlier alarm looks again and sets the next: so a flapping client has one alarm, not thousands.
            if at == NEVER || slot.alarm <= at {
                return;
            }
            slot.alarm = at;
            at
        };
        self.alarms.set(at, handle);
    }

    /// Lives as long as the broker.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        let mut ending = self.ending.subscribe();
        let mut sweep_at = self.clock.now() + SWEEP_EVERY;
        let every = self.settings.sys_interval;
        let mut look_at = self.store.is_there().then(|| self.clock.now());
        let mut system = every.map(|every| SystemTopics::new(every, self.clock.now()));
        loop {
            let system_at = system.as_ref().map(SystemTopics::next);
            let times = [self.alarms.next(), self.delayed.next(), system_at, look_at];
            let next = times.into_iter().flatten().min();
            let next = next.unwrap_or(sweep_at).min(sweep_at);
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.instant(next)) => {}
                () = self.alarms.changed.notified() => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
            let now = self.clock.now();
            self.do_what_is_due(now);
            if let Some(system) = system.as_mut().filter(|system| system.next() <= now) {
                self.tell_of_itself(now, system);
            }
            if look_at.is_some_and(|at| at <= now) {
                look_at = Some(now + LOOK_EVERY);
                self.look_at_the_store();
            }
            if sweep_at <= now {
                sweep_at = now + SWEEP_EVERY;
                self.expire_retained(now);
            }
        }
    }

    /// Delayed Wills, the ends of sessions, delayed messages.
    pub(crate) fn do_what_is_due(self: &Arc<Self>, now: Millis) {
        for (at, handle) in self.alarms.take_due(now) {
            self.alarm_rings(now, at, &handle);
        }
        self.publish_due(now);
    }

    /// Whether the storage has room, and whoever waits for it goes on.
    pub(crate) fn look_at_the_store(&self) {
        self.store.look();
        self.stats.store_full.set(self.store.is_full().into());
    }

    /// Something is due earlier than what [`keep_time`](Self::keep_time) waits for.
    pub(super) fn look_at_the_clock(&self) {
        self.alarms.changed.notify_one();
    }

    /// Forgets retained messages whose time is over.
    pub(crate) fn expire_retained(&self, now: Millis) {
        let mut cleared: Vec<_> = {
            let mut retained = self.retained.write();
            let expired = retained.expire(now);
            self.gauge_retained(&retained);
            let change = retained.changes();
            expired
                .into_iter()
                .map(|message| Persist::RetainedCleared {
                    topic: message.topic.clone(),
                    change,
                })
                .collect()
        };
        if !cleared.is_empty() {
            // Nobody waits for it: what has expired is not delivered anyway.
            drop(self.store.commit(&mut cleared));
        }
    }

    fn alarm_rings(self: &Arc<Self>, now: Millis, at: Millis, handle: &Arc<SessionHandle>) {
        let mut router = Router::new(self);
        let (will, expired, subject) = {
            let mut slot = handle.lock();
            if slot.alarm == at {
                slot.alarm = NEVER;
            }
            if slot.owner.is_some() || slot.ended {
                return;
            }
            let will_due = slot.will_at <= now;
            let expired = slot.expires_at <= now;
            let will = if will_due || expired {
                slot.session.take_will(&mut router.effects)
            } else {
                None
            };
            if will.is_some() {
                slot.will_at = NEVER;
            }
            (will, expired, slot.subject.clone())
        };
        if let Some(will) = will {
            router.publish_will(now, *will, subject.as_deref());
        }
        if expired {
            // Someone may have taken it meanwhile, and even left it again.
            let still = |slot: &Slot| slot.expires_at <= now;
            // Nobody is there who could take its filters out of the index: they are swept out.
            if let (Some(will), _) = self.end_session(handle, &mut router, still) {
                router.publish_will(now, *will, subject.as_deref());
            }
        }
        router.finish(now);
        self.set_alarm(handle);
    }

    /// Forgets a session that nobody owns and that `may_end`. Gives the Will that still waited, which is due, and the
    /// filters, which lead to nobody.
    pub(super) fn end_session(
        self: &Arc<Self>,
        handle: &Arc<SessionHandle>,
        router: &mut Router,
        may_end: impl FnOnce(&Slot) -> bool,
    ) -> (Option<Box<Will>>, Option<Forgotten>) {
        let mut filters = None;
        let mut will = None;
        let ended = self.registry.remove_if(handle, || {
            let mut slot = handle.lock();
            let ends = slot.owner.is_none() && !slot.ended && may_end(&slot);
            if ends {
                slot.ended = true;
                slot.expires_at = NEVER;
                slot.will_at = NEVER;
                will = slot.session.take_will(&mut router.effects);
                filters = Some(slot.session.end(&mut router.effects));
            }
            ends
        });
        if ended {
            self.stats.sessions.sub(1);
        }
        let forgotten = filters.map(|filters| Forgotten::new(self, handle.key, filters));
        (will, forgotten)
    }
}
