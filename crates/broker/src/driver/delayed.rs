//! Messages that are published later: `$delayed/{seconds}/topic`.
//!
//! Bounded by count and bytes, in the order in which they are due, and kept when their publisher leaves. They live in
//! memory and end with the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Shared;
use super::router::{Routed, Router};
use crate::core::Millis;
use crate::core::message::Message;
use crate::stats::DropReason;

/// The bounds of the delayed messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct DelayedLimits {
    /// The most messages.
    pub(super) messages: usize,
    /// The most bytes.
    pub(super) bytes: usize,
}

/// Delayed messages in the order in which they are due; of one moment, in the order in which they came.
#[derive(Debug)]
pub(super) struct Delayed {
    waiting: Mutex<Waiting>,
    limits: DelayedLimits,
}

#[derive(Debug, Default)]
struct Waiting {
    by_time: BTreeMap<(Millis, u64), Message>,
    bytes: usize,
    last: u64,
}

impl Delayed {
    pub(super) fn new(limits: DelayedLimits) -> Self {
        Self {
            waiting: Mutex::default(),
            limits,
        }
    }

    /// Keeps a message until `at`. Gives whether it is the next that is due, or the message back when there is no room.
    pub(super) fn hold(&self, at: Millis, message: &Message) -> Option<bool> {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes + message.size();
        if waiting.by_time.len() >= self.limits.messages || bytes > self.limits.bytes {
            return None;
        }
        waiting.bytes = bytes;
        waiting.last += 1;
        let key = (at, waiting.last);
        waiting.by_time.insert(key, message.owned());
        let first = waiting.by_time.first_key_value();
        Some(first.is_some_and(|(first, _)| *first == key))
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Millis> {
        let waiting = self.waiting.lock();
        waiting.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    fn len(&self) -> usize {
        self.waiting.lock().by_time.len()
    }

    fn take_due(&self, now: Millis) -> Option<Message> {
        let mut waiting = self.waiting.lock();
        let first = waiting.by_time.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let message = first.remove();
        waiting.bytes -= message.size();
        Some(message)
    }
}

impl Shared {
    /// Keeps a message for later; false when there is no room.
    pub(super) fn publish_later(&self, at: Millis, message: &Message) -> bool {
        let held = self.delayed.hold(at, message);
        if held == Some(true) {
            self.look_at_the_clock();
        }
        self.stats.delayed_messages.set(self.delayed.len() as u64);
        held.is_some()
    }

    /// Publishes what is due. There is nobody to wait: what a sink that blocks has no room for is dropped and counted.
    pub(super) fn publish_due(self: &Arc<Self>, now: Millis) {
        let Some(mut message) = self.delayed.take_due(now) else {
            return;
        };
        let mut router = Router::new(self);
        loop {
            // Its expiry interval begins when it is published.
            let expiry_s = message
                .properties
                .as_deref()
                .and_then(|properties| properties.message_expiry_interval_s);
            message.expires_at = expiry_s.map(|seconds| now + u64::from(seconds) * 1000);
            message.accepted_at = now;
            if let Routed::NoRoom(_, message) = router.publish(now, message) {
                router.drop_message(DropReason::SinkFull, &message);
            }
            match self.delayed.take_due(now) {
                Some(next) => message = next,
                None => break,
            }
        }
        drop(router.finish(now));
        self.stats.delayed_messages.set(self.delayed.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_mqtt::{QoS, TopicName};

    use super::*;

    fn message(payload: &'static str) -> Message {
        let topic = TopicName::new("t").unwrap();
        Message::new(
            topic,
            Bytes::from_static(payload.as_bytes()),
            QoS::AtMostOnce,
            false,
        )
    }

    fn due(delayed: &Delayed, now: Millis) -> Vec<Bytes> {
        std::iter::from_fn(|| delayed.take_due(now))
            .map(|message| message.payload)
            .collect()
    }

    #[test]
    fn messages_come_when_they_are_due_in_their_order() {
        let delayed = Delayed::new(DelayedLimits {
            messages: 10,
            bytes: 10_000,
        });
        assert_eq!(delayed.hold(30, &message("c")), Some(true));
        assert_eq!(delayed.hold(10, &message("a")), Some(true));
        assert_eq!(delayed.hold(10, &message("b")), Some(false));
        assert_eq!(delayed.next(), Some(10));
        assert!(due(&delayed, 9).is_empty());
        assert_eq!(due(&delayed, 29), ["a", "b"]);
        assert_eq!(due(&delayed, 30), ["c"]);
        assert_eq!((delayed.next(), delayed.waiting.lock().bytes), (None, 0));
    }

    #[test]
    fn the_bounds_hold() {
        let two = Delayed::new(DelayedLimits {
            messages: 2,
            bytes: 10_000,
        });
        assert!(two.hold(1, &message("a")).is_some() && two.hold(1, &message("b")).is_some());
        assert_eq!(two.hold(1, &message("c")), None);
        due(&two, 1);
        assert!(two.hold(1, &message("c")).is_some());
        let small = Delayed::new(DelayedLimits {
            messages: 2,
            bytes: 10,
        });
        assert_eq!(small.hold(1, &message("a")), None);
    }
}
