//! What the state machines say must outlive a crash. One list of these per socket read is one batch of the store.
//!
//! Only sessions that outlive their connection produce records; retained messages always do.

use std::sync::Arc;

use weir_mqtt::{PacketId, SubscriptionFilter, Utf8};

use super::Millis;
use super::bans::{Ban, Who};
use super::message::Message;
use super::queue::Waiting;
use super::subscriptions::SubscriptionOptions;
use super::will::Will;

/// Which session: of a client identifier there may have been many, one after another.
///
/// Records of a session may come when it has ended already and another one has begun under the same client identifier:
/// they mean nothing to that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionId {
    /// Whose.
    pub client_id: Utf8,
    /// Every session of a data folder has another number, and a later one has a greater number.
    pub epoch: u64,
}

/// One change of durable state. Applying all of them in order to nothing gives the state back; what the order may be
/// stands at [`Storage`](crate::store::Storage).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Persist {
    /// A session begins, or its expiry interval changes.
    Session {
        /// Whose.
        session: SessionId,
        /// Seconds it outlives its connection.
        expiry_interval_s: u32,
    },
    /// The connection of a session has ended.
    Disconnected {
        /// Whose.
        session: SessionId,
        /// When: the session expires so long after this.
        at: Millis,
    },
    /// A session and all that belongs to it ends.
    SessionEnded {
        /// Whose.
        session: SessionId,
    },
    /// A subscription begins or changes.
    Subscribed {
        /// Whose.
        session: SessionId,
        /// The filter with its share prefix.
        filter: SubscriptionFilter,
        /// How.
        options: SubscriptionOptions,
    },
    /// A subscription ends.
    Unsubscribed {
        /// Whose.
        session: SessionId,
        /// The filter with its share prefix.
        filter: SubscriptionFilter,
    },
    /// A message is owed to a session.
    Owed {
        /// Whose.
        session: SessionId,
        /// What is owed, with its place in the session's order.
        waiting: Waiting,
    },
    /// A message that is owed was sent under a packet identifier.
    InFlight {
        /// Whose.
        session: SessionId,
        /// Which message.
        number: u64,
        /// The identifier it must be sent again with.
        packet_id: PacketId,
    },
    /// PUBREC came: only PUBREL is owed from now on.
    Released {
        /// Whose.
        session: SessionId,
        /// Which message.
        number: u64,
    },
    /// A message is no longer owed: acknowledged, or dropped and counted.
    Settled {
        /// Whose.
        session: SessionId,
        /// Which message.
        number: u64,
    },
    /// A QoS 2 packet identifier was seen and not yet released by its sender.
    Received {
        /// Whose.
        session: SessionId,
        /// The identifier.
        packet_id: PacketId,
    },
    /// The sender released a QoS 2 packet identifier.
    ReceivedDone {
        /// Whose.
        session: SessionId,
        /// The identifier.
        packet_id: PacketId,
    },
    /// A retained message is set.
    Retained {
        /// It.
        message: Arc<Message>,
        /// Changes of retained messages are numbered: of one topic's, the one with the greatest number counts.
        change: u64,
    },
    /// A retained message is deleted.
    RetainedCleared {
        /// The topic.
        topic: Utf8,
        /// The number of this change.
        change: u64,
    },
    /// The Will that is published when the connection of a session has ended, or that there is none any more.
    Will {
        /// Whose.
        session: SessionId,
        /// It.
        will: Option<Box<Will>>,
    },
    /// A message waits for its time.
    Delayed {
        /// Delayed messages are numbered: of one moment, the one with the smaller number is due first.
        number: u64,
        /// When it is due.
        at: Millis,
        /// It.
        message: Arc<Message>,
    },
    /// A message that had waited for its time was published.
    DelayedDone {
        /// Which.
        number: u64,
    },
    /// A broker begins with what was kept. Of what came in part before, the rest is not on its way any more.
    Began {
        /// The number of the last change of retained messages.
        change: u64,
        /// The number of the last session.
        epoch: u64,
    },
    /// An operator turns someone away.
    Banned {
        /// Whom.
        who: Who,
        /// Since when, for how long, why.
        ban: Ban,
    },
    /// Someone is let in again.
    Unbanned {
        /// Whom.
        who: Who,
    },
    /// A row that a rule made for a durable sink. It is no part of a [`State`](crate::store::State): the storage puts it
    /// behind the other rows of its queue.
    Row {
        /// The queue: the [`id`](weir_sinks::RowLog::id) of a log that [`Storage::rows`](crate::store::Storage::rows) gave.
        queue: u64,
        /// The row, encoded.
        row: bytes::Bytes,
    },
}
