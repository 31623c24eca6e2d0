//! The end of a client: its Will, what becomes of its session and of what it leaves behind.

use super::client::Client;
use super::events;
use super::forgotten::Forgotten;
use super::handle::{NEVER, Writer};
use crate::core::Millis;
use crate::core::session::NEVER_EXPIRES;
use crate::core::will::Will;
use crate::stats::CloseReason;

impl Client {
    /// The connection is over: the Will, the session's future, the events; then others may have the session.
    pub(crate) fn leave(&mut self, now: Millis, reason: CloseReason) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        // Mostly that was done before, when there was time for it.
        while self.is_unfinished() {
            let _ = self.go_on(now);
        }
        self.route_parked_qos0(now);
        let (will, ends) = self.detach(now);
        if let Some(will) = will {
            self.router.publish_will(now, *will, Some(&self.subject));
        }
        if self.router.watch().disconnected {
            let said = self.farewell.as_deref();
            let event = events::disconnected(&self.info, reason, said);
            self.router.observe(event);
        }
        self.tell_offline(reason);
        self.handle.retire_task();
        if ends {
            self.end_session();
        }
        // Before anyone else may have the session and say something of it.
        drop(self.router.finish(now));
        self.handle.lock().owner = None;
        self.handle.released();
        self.shared.set_alarm(&self.handle);
        self.shared.stats.closed(reason);
        self.shared.stats.sessions_connected.sub(1);
        if reason != CloseReason::ServerShutdown
            && self.shared.entrance.left(now, &self.handle.client_id)
        {
            tracing::warn!(client_id = %self.handle.client_id, "a client that comes and goes too often is banned for a while");
        }
    }

    /// What stands behind a parked publish and needs no acknowledgement is not lost with the connection. It is looked at
    /// as ever; at QoS 0 it waits for nothing, and nobody is told of a refusal.
    fn route_parked_qos0(&mut self, now: Millis) {
        for publish in std::mem::take(&mut self.parked) {
            if publish.packet_id.is_none() {
                let _ = self.accept(now, publish);
            }
        }
    }

    /// The session is without connection from now on, but not yet free. Gives a Will that is due, and whether the
    /// session ends.
    fn detach(&mut self, now: Millis) -> (Option<Box<Will>>, bool) {
        let mut slot = self.handle.lock();
        slot.session.detach();
        (slot.close, slot.farewell) = (None, None);
        slot.socket = None;
        slot.carried = None;
        slot.writer = Writer::Nobody;
        slot.session
            .note_disconnected(now, &mut self.router.effects);
        let expiry_s = slot.session.expiry_interval_s();
        let mut due = None;
        // [MQTT-3.1.2-10] An orderly DISCONNECT has taken it out.
        if let Some(will) = slot.session.will() {
            let at = will.due(now, expiry_s);
            if at <= now {
                due = slot.session.take_will(&mut self.router.effects);
            } else {
                slot.will_at = at;
            }
        }
        if expiry_s > 0 && expiry_s != NEVER_EXPIRES {
            slot.expires_at = now + u64::from(expiry_s) * 1000;
        }
        (due, expiry_s == 0)
    }

    /// `[MQTT-3.1.2-23]` The session does not outlive the connection.
    fn end_session(&mut self) {
        let mut filters = None;
        let (handle, effects) = (&self.handle, &mut self.router.effects);
        self.shared.registry.remove_if(handle, || {
            let mut slot = handle.lock();
            slot.ended = true;
            slot.owner = None;
            slot.will_at = NEVER;
            filters = Some(slot.session.end(effects));
            true
        });
        let forgotten = filters.map(|filters| Forgotten::new(&self.shared, handle.key, filters));
        self.forgotten = forgotten.filter(|some| !some.is_done());
        self.shared.stats.sessions.sub(1);
    }

    /// After the client has left: filters that are still to be taken out of the index, if they are many.
    pub(crate) fn take_forgotten(&mut self) -> Option<Forgotten> {
        self.forgotten.take()
    }
}
