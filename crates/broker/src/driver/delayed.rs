//! Messages that are published later: `$delayed/{seconds}/topic`.
//!
//! Bounded by count and bytes, in the order in which they are due, and kept when their publisher leaves and when the
//! broker ends: what became due meanwhile is published when the next one begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_mqtt::Utf8;

use super::Shared;
use super::router::Router;
use crate::core::message::Message;
use crate::core::persist::Persist;
use crate::core::special_topic::treat;
use crate::core::{Effects, Millis};

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
    by_time: BTreeMap<(Millis, u64), Arc<Message>>,
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

    /// Keeps a message until `at`. Gives its number and whether it is the next that is due; `None` when there is no room.
    fn hold(&self, at: Millis, message: &Arc<Message>) -> Option<(u64, bool)> {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes + message.size();
        if waiting.by_time.len() >= self.limits.messages || bytes > self.limits.bytes {
            return None;
        }
        waiting.bytes = bytes;
        waiting.last += 1;
        let key = (at, waiting.last);
        waiting.by_time.insert(key, Arc::clone(message));
        let first = waiting.by_time.first_key_value();
        Some((key.1, first.is_some_and(|(first, _)| *first == key)))
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Millis> {
        let waiting = self.waiting.lock();
        waiting.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// What an earlier broker held, whatever the limits are now.
    pub(super) fn restore<'s>(&self, kept: impl Iterator<Item = (u64, Millis, &'s Arc<Message>)>) {
        let mut waiting = self.waiting.lock();
        for (number, at, message) in kept {
            waiting.bytes += message.size();
            waiting.last = waiting.last.max(number);
            waiting.by_time.insert((at, number), Arc::clone(message));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().by_time.len()
    }

    fn take_due(&self, now: Millis) -> Option<(u64, Message)> {
        let mut waiting = self.waiting.lock();
        let first = waiting.by_time.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let number = first.key().1;
        let message = first.remove();
        waiting.bytes -= message.size();
        Some((number, Arc::unwrap_or_clone(message)))
    }
}

impl Shared {
    /// Keeps a message for later; false when there is no room.
    pub(super) fn publish_later(
        &self,
        at: Millis,
        message: &Message,
        effects: &mut Effects,
    ) -> bool {
        let mut message = message.owned();
        // How long it is to be retained counts from then on. Until then its topic says it, which is kept anyway.
        if let Some(seconds) = message.retain_s.take() {
            let topic = Utf8::try_from(format!("$retain/{seconds}/{}", message.topic));
            let Ok(topic) = topic else { return false };
            message.topic = topic;
        }
        let message = Arc::new(message);
        let Some((number, is_first)) = self.delayed.hold(at, &message) else {
            return false;
        };
        effects.persist.push(Persist::Delayed {
            number,
            at,
            message,
        });
        if is_first {
            self.look_at_the_clock();
        }
        self.stats.delayed_messages.set(self.delayed.len() as u64);
        true
    }

    /// Publishes what is due. There is nobody to wait: what a sink that blocks has no room for is dropped and counted.
    pub(super) fn publish_due(self: &Arc<Self>, now: Millis) {
        let Some((mut number, mut message)) = self.delayed.take_due(now) else {
            return;
        };
        let mut router = Router::new(self);
        loop {
            // In one batch with what comes of it.
            let done = Persist::DelayedDone { number };
            router.effects.persist.push(done);
            // Its expiry interval begins when it is published.
            let expiry_s = message
                .properties
                .as_deref()
                .and_then(|properties| properties.message_expiry_interval_s);
            message.expires_at = expiry_s.map(|seconds| now + u64::from(seconds) * 1000);
            message.accepted_at = now;
            if let Ok(Some(treated)) = treat(&message.topic) {
                (message.topic, message.retain_s) = (treated.topic, treated.retain_s);
            }
            if let Some((reason, message)) = router.publish(now, message).dropped() {
                router.drop_message(reason, &message);
            }
            match self.delayed.take_due(now) {
                Some(next) => (number, message) = next,
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

    fn message(payload: &'static str) -> Arc<Message> {
        let topic = TopicName::new("t").unwrap();
        Arc::new(Message::new(
            topic,
            Bytes::from_static(payload.as_bytes()),
            QoS::AtMostOnce,
            false,
        ))
    }

    fn due(delayed: &Delayed, now: Millis) -> Vec<Bytes> {
        std::iter::from_fn(|| delayed.take_due(now))
            .map(|(_, message)| message.payload)
            .collect()
    }

    #[test]
    fn messages_come_when_they_are_due_in_their_order() {
        let delayed = Delayed::new(DelayedLimits {
            messages: 10,
            bytes: 10_000,
        });
        assert_eq!(delayed.hold(30, &message("c")), Some((1, true)));
        assert_eq!(delayed.hold(10, &message("a")), Some((2, true)));
        assert_eq!(delayed.hold(10, &message("b")), Some((3, false)));
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
