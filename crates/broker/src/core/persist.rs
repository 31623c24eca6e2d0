//! What the state machines say must outlive a crash. One list of these per socket read is one batch of the store.
//!
//! Only sessions that outlive their connection produce records; retained messages always do.

use std::sync::Arc;

use weir_mqtt::{PacketId, SubscriptionFilter, Utf8};

use super::Millis;
use super::message::Message;
use super::queue::Waiting;
use super::subscriptions::SubscriptionOptions;

/// One change of durable state. Applying all of them in order to nothing gives the state back; what the order may be
/// stands at [`Storage`](crate::store::Storage).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Persist {
    /// A session begins, or its expiry interval changes.
    Session {
        /// Whose.
        client_id: Utf8,
        /// Seconds it outlives its connection.
        expiry_interval_s: u32,
    },
    /// The connection of a session has ended.
    Disconnected {
        /// Whose.
        client_id: Utf8,
        /// When: the session expires so long after this.
        at: Millis,
    },
    /// A session and all that belongs to it ends.
    SessionEnded {
        /// Whose.
        client_id: Utf8,
    },
    /// A subscription begins or changes.
    Subscribed {
        /// Whose.
        client_id: Utf8,
        /// The filter with its share prefix.
        filter: SubscriptionFilter,
        /// How.
        options: SubscriptionOptions,
    },
    /// A subscription ends.
    Unsubscribed {
        /// Whose.
        client_id: Utf8,
        /// The filter with its share prefix.
        filter: SubscriptionFilter,
    },
    /// A message is owed to a session.
    Owed {
        /// Whose.
        client_id: Utf8,
        /// What is owed, with its place in the session's order.
        waiting: Waiting,
    },
    /// A message that is owed was sent under a packet identifier.
    InFlight {
        /// Whose.
        client_id: Utf8,
        /// Which message.
        number: u64,
        /// The identifier it must be sent again with.
        packet_id: PacketId,
    },
    /// PUBREC came: only PUBREL is owed from now on.
    Released {
        /// Whose.
        client_id: Utf8,
        /// Which message.
        number: u64,
    },
    /// A message is no longer owed: acknowledged, or dropped and counted.
    Settled {
        /// Whose.
        client_id: Utf8,
        /// Which message.
        number: u64,
    },
    /// A QoS 2 packet identifier was seen and not yet released by its sender.
    Received {
        /// Whose.
        client_id: Utf8,
        /// The identifier.
        packet_id: PacketId,
    },
    /// The sender released a QoS 2 packet identifier.
    ReceivedDone {
        /// Whose.
        client_id: Utf8,
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
    /// A row that a rule made for a durable sink. It is no part of a [`State`](crate::store::State): the storage puts it
    /// behind the other rows of its queue.
    Row {
        /// The queue: the [`id`](weir_sinks::RowLog::id) of a log that [`Storage::rows`](crate::store::Storage::rows) gave.
        queue: u64,
        /// The row, encoded.
        row: bytes::Bytes,
    },
}
