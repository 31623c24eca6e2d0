//! The state machines of the MQTT server: sessions, the topic index, retained messages.
//!
//! Plain values: no socket, no task, no clock (the time is handed in), so a test can live through years in a moment.
//! Where they meet threads is `driver`; [`persist::Persist`] says what of their state must outlive a crash.

pub mod aliases;
pub mod bans;
pub mod connect;
pub mod delivery;
pub mod filters;
pub mod flapping;
pub mod in_flight;
pub mod index_changes;
pub mod limits;
pub mod message;
pub(crate) mod network;
pub mod outbox;
pub mod persist;
pub mod queue;
pub mod received;
pub mod retained;
pub mod session;
pub mod shared_groups;
pub mod special_topic;
pub(crate) mod subscribe_options;
pub mod subscriptions;
pub mod token_bucket;
pub mod topic_rewrite;
pub mod will;

#[cfg(test)]
mod sim;

use std::sync::Arc;

use crate::stats::DropReason;

/// A point in time: milliseconds since the Unix epoch, never going back.
pub type Millis = u64;

/// What a step of a state machine wants done besides sending: the caller stores, counts and tells.
#[derive(Debug, Default)]
pub struct Effects {
    /// What must outlive a crash, in order.
    pub persist: Vec<persist::Persist>,
    /// What was put into outboxes and must not leave before `persist` is kept, if there is any.
    pub hold: Option<outbox::Hold>,
    /// Messages that reach nobody, with the reason.
    pub dropped: Vec<(DropReason, Arc<message::Message>)>,
    /// Messages of shared subscriptions that a session leaves behind: their groups must find other members.
    pub orphans: Vec<shared_groups::Orphan>,
    /// Whether anyone wants to know what is delivered.
    pub watch_deliveries: bool,
    /// Messages that had waited and were sent now; only kept while `watch_deliveries`.
    pub delivered: Vec<Arc<message::Message>>,
}

impl Effects {
    fn note_delivered(&mut self, message: Arc<message::Message>) {
        if self.watch_deliveries {
            self.delivered.push(message);
        }
    }
}
