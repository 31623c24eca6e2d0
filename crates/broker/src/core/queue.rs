//! Messages that wait in a session: for its client to come back, or for room in the receive maximum.
//!
//! Bounded by count and by bytes. When full, the oldest QoS 0 message makes room; without one the new message is refused.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_mqtt::{QoS, SubscriptionId};

use super::message::Message;
use super::shared_groups::Group;

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
    waiting: VecDeque<Waiting>,
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
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of all that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the memory for so many more, and not for twice as many.
    pub(crate) fn make_room(&mut self, messages: usize) {
        self.waiting.reserve_exact(messages);
    }

    /// Appends a message, if the limits allow it.
    pub fn push(&mut self, waiting: Waiting, limits: QueueLimits) -> Pushed {
        let size = waiting.message.size();
        if size > limits.bytes {
            return Pushed::Full;
        }
        let mut evicted = Vec::new();
        while self.waiting.len() >= limits.messages || self.bytes + size > limits.bytes {
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
        let oldest = self
            .waiting
            .iter()
            .position(|waiting| waiting.qos == QoS::AtMostOnce)?;
        let evicted = self.waiting.remove(oldest)?;
        self.qos0 -= 1;
        self.bytes -= evicted.message.size();
        Some(evicted)
    }

    /// The oldest.
    pub fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
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
