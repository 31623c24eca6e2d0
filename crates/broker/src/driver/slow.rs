//! Who reads too slowly: found when someone asks, so that it costs messages nothing.

use std::cmp::Reverse;

use serde::Serialize;
use weir_mqtt::Utf8;

use super::Shared;
use crate::core::Millis;

/// A session with something that waits for its client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlowSubscriber {
    /// Whose session it is.
    #[serde(serialize_with = "as_text")]
    pub client_id: Utf8,
    /// Whether a connection serves it now.
    pub connected: bool,
    /// How long the oldest message has waited for its turn.
    pub waiting_ms: Millis,
    /// Messages that wait for their turn.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Messages that wait for an acknowledgement.
    pub in_flight: usize,
    /// Bytes that wait to be written.
    pub outbox_bytes: usize,
}

fn as_text<S: serde::Serializer>(text: &Utf8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Shared {
    /// The sessions whose clients are furthest behind, the slowest first, at most `limit` of them.
    pub(crate) fn slow_subscribers(&self, limit: usize) -> Vec<SlowSubscriber> {
        let now = self.clock.now();
        let mut slow = Vec::new();
        self.registry.each(|handle| {
            let mut slot = handle.lock();
            let session = &slot.session;
            let oldest = session.oldest_waiting();
            let mut found = SlowSubscriber {
                client_id: handle.client_id.clone(),
                connected: session.is_connected(),
                waiting_ms: oldest.map_or(0, |at| now.saturating_sub(at)),
                queued: session.queued_len(),
                queued_bytes: session.queued_bytes(),
                in_flight: session.in_flight_len(),
                outbox_bytes: 0,
            };
            found.outbox_bytes = slot.session.outbox().len();
            if found.queued > 0 || found.outbox_bytes > 0 {
                slow.push(found);
            }
        });
        slow.sort_by_key(|one| Reverse((one.waiting_ms, one.queued, one.outbox_bytes)));
        slow.truncate(limit);
        slow
    }
}
