//! What of the remote's messages is not passed on: what it was sent itself, and what it has said before. Both only where
//! the file asks for it, and in MQTT 3.1.1 alone: MQTT 5 has words for it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use weir_mqtt::Publish;

use super::client::Version;
use super::echo_guard::{EchoGuard, Sent};
use super::home::{Dropped, Gateway};
use super::link::Outgoing;
use super::plan::BridgePlan;
use super::retained_in::RetainedIn;

/// What both remember, over all links of a bridge.
#[derive(Debug, Default)]
pub(super) struct Guards {
    has_echo_guard: AtomicBool,
    echo: Mutex<EchoGuard>,
    dedupes_retained: AtomicBool,
    retained: Mutex<RetainedIn>,
}

impl Guards {
    /// A link is up in this version, or has another plan.
    pub(super) fn set(&self, plan: &BridgePlan, version: Option<Version>) {
        let is_v311 = version == Some(Version::V311);
        let set = |guard: &AtomicBool, on: bool| guard.store(is_v311 && on, Ordering::Relaxed);
        set(&self.has_echo_guard, plan.echo_guard);
        set(&self.dedupes_retained, plan.dedupe_retained);
    }

    /// A message was put on the wire.
    pub(super) fn sent(&self, sent: Option<Sent>) {
        if let Some(sent) = sent {
            self.echo.lock().sent(sent);
        }
    }

    /// The entries of `in` are others.
    pub(super) fn rerouted(&self) {
        self.retained.lock().forget();
    }
}

impl Gateway {
    /// What is to be remembered of a message that goes out, where the remote may send it back.
    pub(super) fn echo_of(&self, message: &Outgoing<'_>, plan: &BridgePlan) -> Option<Sent> {
        if !self.guards.has_echo_guard.load(Ordering::Relaxed) {
            return None;
        }
        // The remote has it already: it was remembered then.
        let numbered = message.numbered;
        if numbered.is_some_and(|numbered| numbered.released.contains(numbered.seq)) {
            return None;
        }
        let routes = self.routes();
        let retain = message.retain && plan.retain_allowed;
        routes
            .iter()
            .any(|route| route.filter.matches(message.topic))
            .then(|| Sent::of(message.topic, message.payload, retain))
    }

    /// Why a message of the remote, under its topic there, is not to be taken: it is
    /// acknowledged then. `None`: it is to be taken, and may be asked about again.
    pub fn holds_back(&self, publish: &Publish) -> Option<Dropped> {
        let guards = &self.guards;
        if guards.has_echo_guard.load(Ordering::Relaxed) && guards.echo.lock().is_echo(publish) {
            return Some(Dropped::Echo);
        }
        let is_known = guards.dedupes_retained.load(Ordering::Relaxed)
            && guards.retained.lock().is_known(publish);
        is_known.then_some(Dropped::Known)
    }

    /// The broker has taken a message of the remote.
    pub fn has_taken(&self, publish: &Publish) {
        if publish.retain && self.guards.dedupes_retained.load(Ordering::Relaxed) {
            self.guards.retained.lock().has_taken(publish);
        }
    }
}
