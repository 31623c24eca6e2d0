//! Messages that wait in a session: for its client to come back, or for room in the receive maximum.
//!
//! Bounded by count and by bytes. When full, the oldest QoS 0 message makes room; without one the new message is refused.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_mqtt::{QoS, SubscriptionId};

use super::Millis;
use super::message::Message;
use super::shared_groups::Group;
use crate::store::Stored;

/// So many of the messages that a storage gave back are made ready when the next one is asked for.
const UNPACKED_AT_ONCE: usize = 32;

/// A message that waits, with the way it will be delivered.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The message.
    pub message: Arc<Message>,
    /// The QoS of the delivery.
    pub qos: QoS,
    /// The RETAIN flag of the delivery.
    pub retain: bool,
    /// The subscription identifiers of the delivery.
    pub subscription_ids: Option<Arc<[SubscriptionId]>>,
    /// Its place in the session's order.
    pub number: u64,
    /// The group that another member can be found in.
    pub group: Option<Arc<Group>>,
}

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// The most messages.
    pub messages: usize,
    /// The most bytes.
    pub bytes: usize,
}

/// The waiting messages of one session, oldest first.
#[derive(Debug, Default)]
pub struct Queue {
    /// The first `ahead` of them are older than `restored`, the others younger.
    waiting: VecDeque<Waiting>,
    ahead: usize,
    /// What a storage gave back and nobody has asked for, oldest last.
    restored: Vec<Stored>,
    bytes: usize,
    /// How many of them have QoS 0.
    qos0: usize,
}

/// What became of a message that was to wait.
#[derive(Debug)]
pub enum Pushed {
    /// It waits.
    Kept {
        /// Older QoS 0 messages that were dropped for it.
        evicted: Vec<Waiting>,
    },
    /// There was no room.
    Full,
}

impl Queue {
    /// What a storage has kept, oldest first. It was within bounds when it was accepted, whatever they are now.
    pub(crate) fn restored(mut stored: Vec<Stored>) -> Self {
        let is_qos0 = |stored: &&Stored| stored.qos() == QoS::AtMostOnce;
        stored.reverse();
        Self {
            bytes: stored.iter().map(Stored::size).sum(),
            qos0: stored.iter().filter(is_qos0).count(),
            restored: stored,
            ..Self::default()
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.restored.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message, if the limits allow it.
    pub fn push(&mut self, waiting: Waiting, limits: QueueLimits) -> Pushed {
        let size = waiting.message.size();
        if size > limits.bytes {
            return Pushed::Full;
        }
        let mut evicted = Vec::new();
        while self.len() >= limits.messages || self.bytes + size > limits.bytes {
            match self.evict_qos0() {
                Some(oldest) => evicted.push(oldest),
                // What made room before is gone too, which only a message larger than many others can bring about.
                None => return Pushed::Full,
            }
        }
        self.bytes += size;
        self.qos0 += usize::from(waiting.qos == QoS::AtMostOnce);
        self.waiting.push_back(waiting);
        Pushed::Kept { evicted }
    }

    fn evict_qos0(&mut self) -> Option<Waiting> {
        if self.qos0 == 0 {
            return None;
        }
        let is_qos0 = |stored: &Stored| stored.qos() == QoS::AtMostOnce;
        let oldest = self
            .waiting
            .iter()
            .position(|waiting| waiting.qos == QoS::AtMostOnce);
        // What is ahead is older than what is packed, and that is older than the rest.
        let in_restored = || self.restored.iter().rposition(is_qos0);
        let evicted = if let Some(oldest) = oldest.filter(|oldest| *oldest < self.ahead) {
            self.ahead -= 1;
            self.waiting.remove(oldest)?
        } else if let Some(packed) = in_restored() {
            self.restored.remove(packed).into_waiting()
        } else {
            self.waiting.remove(oldest?)?
        };
        self.qos0 -= 1;
        self.bytes -= evicted.message.size();
        Some(evicted)
    }

    /// Brings the oldest to the front of `waiting`, with some behind it.
    fn unpack(&mut self) {
        if self.ahead > 0 || self.restored.is_empty() {
            return;
        }
        let rest = self.restored.len().saturating_sub(UNPACKED_AT_ONCE);
        for stored in self.restored.drain(rest..) {
            self.waiting.push_front(stored.into_waiting());
            self.ahead += 1;
        }
        if self.restored.is_empty() {
            self.restored = Vec::new();
        }
    }

    /// When the oldest was accepted.
    pub fn oldest_accepted_at(&self) -> Option<Millis> {
        match self.restored.last() {
            Some(stored) if self.ahead == 0 => Some(stored.to_waiting().message.accepted_at),
            _ => Some(self.waiting.front()?.message.accepted_at),
        }
    }

    /// The oldest.
    pub fn front(&mut self) -> Option<&Waiting> {
        self.unpack();
        self.waiting.front()
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Waiting> {
        self.unpack();
        let waiting = self.waiting.pop_front()?;
        self.ahead = self.ahead.saturating_sub(1);
        self.bytes -= waiting.message.size();
        self.qos0 -= usize::from(waiting.qos == QoS::AtMostOnce);
        if self.waiting.is_empty() && self.waiting.capacity() > 64 {
            self.waiting = VecDeque::new();
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_mqtt::TopicName;

    use super::*;

    fn waiting(payload: &'static str, qos: QoS) -> Waiting {
        let topic = TopicName::new("t").unwrap();
        let message = Arc::new(Message::new(
            topic,
            Bytes::from_static(payload.as_bytes()),
            qos,
            false,
        ));
        Waiting {
            message,
            qos,
            retain: false,
            subscription_ids: None,
            number: 0,
            group: None,
        }
    }

    fn evicted(pushed: Pushed) -> Option<usize> {
        match pushed {
            Pushed::Kept { evicted } => Some(evicted.len()),
            Pushed::Full => None,
        }
    }

    fn payloads(queue: &mut Queue) -> Vec<Bytes> {
        std::iter::from_fn(|| queue.pop())
            .map(|waiting| waiting.message.payload.clone())
            .collect()
    }

    #[test]
    fn the_oldest_qos0_message_makes_room_and_nothing_else_does() {
        let limits = QueueLimits {
            messages: 3,
            bytes: usize::MAX,
        };
        let mut queue = Queue::default();
        for (payload, qos) in [
            ("a", QoS::AtLeastOnce),
            ("b", QoS::AtMostOnce),
            ("c", QoS::AtMostOnce),
        ] {
            assert_eq!(evicted(queue.push(waiting(payload, qos), limits)), Some(0));
        }
        assert_eq!(
            evicted(queue.push(waiting("d", QoS::AtLeastOnce), limits)),
            Some(1)
        );
        assert_eq!(
            evicted(queue.push(waiting("e", QoS::AtLeastOnce), limits)),
            Some(1)
        );
        assert_eq!(
            evicted(queue.push(waiting("f", QoS::AtLeastOnce), limits)),
            None
        );
        assert_eq!(payloads(&mut queue), ["a", "d", "e"]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_a_storage_gave_back_is_older_than_everything_else_and_counts_like_it() {
        let limits = QueueLimits {
            messages: 100,
            bytes: usize::MAX,
        };
        let names: Vec<&'static str> = vec![
            "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13",
            "14", "15", "16", "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27",
            "28", "29", "30", "31", "32", "33", "34", "35", "36", "37", "38", "39",
        ];
        assert!(names.len() > UNPACKED_AT_ONCE);
        let restored = || {
            let stored = names.iter().enumerate().map(|(number, name)| {
                // Two of them may be dropped: one that is made ready first, and one that is not.
                let qos = match number {
                    3 | 35 => QoS::AtMostOnce,
                    _ => QoS::AtLeastOnce,
                };
                Stored::new(waiting(name, qos), &mut Vec::new())
            });
            Queue::restored(stored.collect())
        };
        for begun in [false, true] {
            let mut queue = restored();
            queue.push(waiting("new", QoS::AtMostOnce), limits);
            assert_eq!(queue.oldest_accepted_at(), Some(0));
            if begun {
                assert_eq!(queue.pop().unwrap().message.payload, "00");
            }
            let most = QueueLimits {
                messages: queue.len(),
                ..limits
            };
            for dropped in ["03", "35", "new"] {
                let Pushed::Kept { evicted } = queue.push(waiting("more", QoS::AtLeastOnce), most)
                else {
                    panic!("one makes room");
                };
                assert_eq!(evicted[0].message.payload, dropped);
            }
            assert!(matches!(
                queue.push(waiting("more", QoS::AtLeastOnce), most),
                Pushed::Full
            ));
            let mut expected = names.clone();
            expected.retain(|name| !["03", "35"].contains(name));
            if begun {
                expected.remove(0);
            }
            expected.extend(["more"; 3]);
            assert_eq!(queue.len(), expected.len());
            assert_eq!(queue.front().unwrap().message.payload, expected[0]);
            assert_eq!(payloads(&mut queue), expected);
            assert_eq!((queue.bytes(), queue.len()), (0, 0));
        }
    }

    #[test]
    fn bytes_are_a_bound_of_their_own() {
        let size = waiting("12345", QoS::AtLeastOnce).message.size();
        let limits = QueueLimits {
            messages: 100,
            bytes: 2 * size,
        };
        let mut queue = Queue::default();
        for _ in 0..2 {
            assert!(matches!(
                queue.push(waiting("12345", QoS::AtLeastOnce), limits),
                Pushed::Kept { .. }
            ));
        }
        assert!(matches!(
            queue.push(waiting("12345", QoS::AtLeastOnce), limits),
            Pushed::Full
        ));
        queue.pop();
        assert!(matches!(
            queue.push(waiting("12345", QoS::AtLeastOnce), limits),
            Pushed::Kept { .. }
        ));
    }
}
