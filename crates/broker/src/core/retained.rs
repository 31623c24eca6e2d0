//! Retained messages: the last one of each topic, given to new subscriptions.
//!
//! Bounded by count and bytes; each has memory of its own and holds no read buffer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use weir_mqtt::TopicFilter;

use super::Millis;
use super::message::Message;

/// The bounds of the retained messages.
#[derive(Clone, Copy, Debug)]
pub struct RetainedLimits {
    /// The most messages.
    pub messages: usize,
    /// The most bytes.
    pub bytes: usize,
}

/// The retained message of each topic.
#[derive(Debug)]
pub struct Retained {
    /// In the order of topics, so that a filter looks only at topics that begin like it.
    by_topic: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
    limits: RetainedLimits,
}

/// What became of a message with the RETAIN flag.
#[derive(Clone, Debug)]
pub enum Set {
    /// It is the topic's retained message now.
    Kept(Arc<Message>),
    /// Its payload is empty: there was a retained message and it is gone.
    Cleared,
    /// Its payload is empty and there was none.
    Nothing,
    /// The bounds are reached, and the topic has no retained message now: the one before would be stale.
    Full {
        /// There was one.
        cleared: bool,
    },
}

impl Retained {
    /// None yet.
    pub fn new(limits: RetainedLimits) -> Self {
        Self {
            by_topic: BTreeMap::new(),
            bytes: 0,
            limits,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A message with the RETAIN flag was published. `[MQTT-3.3.1-5]` `[MQTT-3.3.1-6]`
    pub fn set(&mut self, message: &Message) -> Set {
        if message.payload.is_empty() {
            return if self.remove(&message.topic) {
                Set::Cleared
            } else {
                Set::Nothing
            };
        }
        let kept = Arc::new(message.owned());
        let replaced = self.by_topic.get(&*message.topic).map(|old| old.size());
        let bytes = self.bytes - replaced.unwrap_or(0) + kept.size();
        let count = self.by_topic.len() + usize::from(replaced.is_none());
        if bytes > self.limits.bytes || count > self.limits.messages {
            let cleared = self.remove(&message.topic);
            return Set::Full { cleared };
        }
        self.bytes = bytes;
        self.by_topic
            .insert(Box::from(&*message.topic), Arc::clone(&kept));
        Set::Kept(kept)
    }

    fn remove(&mut self, topic: &str) -> bool {
        self.by_topic.remove(topic).is_some_and(|old| {
            self.bytes -= old.size();
            true
        })
    }

    /// The retained message of one topic.
    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.by_topic.get(topic)
    }

    /// Whether `message` is still the retained message of its topic.
    pub fn is_current(&self, message: &Arc<Message>) -> bool {
        self.get(&message.topic)
            .is_some_and(|current| Arc::ptr_eq(current, message))
    }

    /// The retained messages that match a filter and have not expired, in the order of their topics.
    pub fn matching<'a>(
        &'a self,
        filter: &'a TopicFilter,
        now: Millis,
    ) -> impl Iterator<Item = &'a Arc<Message>> {
        let text = filter.as_str();
        let literal = text
            .find(['+', '#'])
            .map_or(text, |wildcard| &text[..wildcard]);
        // `sport/#` also matches `sport`: begin before the separator.
        let prefix = literal.strip_suffix('/').unwrap_or(literal);
        self.by_topic
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .filter(move |(topic, message)| filter.matches(topic) && !message.is_expired(now))
            .map(|(_, message)| message)
    }

    /// Removes what has expired; gives how many those were.
    pub fn expire(&mut self, now: Millis) -> usize {
        let before = self.by_topic.len();
        let bytes = &mut self.bytes;
        self.by_topic.retain(|_, message| {
            let keep = !message.is_expired(now);
            if !keep {
                *bytes -= message.size();
            }
            keep
        });
        before - self.by_topic.len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_mqtt::{QoS, TopicName};

    use super::*;

    const LIMITS: RetainedLimits = RetainedLimits {
        messages: 5,
        bytes: 1 << 20,
    };

    fn message(topic: &str, payload: &'static str) -> Message {
        Message::new(
            TopicName::new(topic).unwrap(),
            Bytes::from_static(payload.as_bytes()),
            QoS::AtMostOnce,
            true,
        )
    }

    fn topics(retained: &Retained, filter: &str, now: Millis) -> Vec<String> {
        let filter = TopicFilter::parse(filter).unwrap();
        retained
            .matching(&filter, now)
            .map(|message| message.topic.to_string())
            .collect()
    }

    #[test]
    fn filters_find_what_they_match_and_nothing_else() {
        let mut retained = Retained::new(LIMITS);
        for topic in [
            "sport",
            "sport/tennis",
            "sport/tennis/p1",
            "sports",
            "$SYS/up",
        ] {
            assert!(matches!(retained.set(&message(topic, "x")), Set::Kept(_)));
        }
        assert_eq!(
            topics(&retained, "sport/#", 0),
            ["sport", "sport/tennis", "sport/tennis/p1"]
        );
        assert_eq!(topics(&retained, "sport/+", 0), ["sport/tennis"]);
        assert_eq!(topics(&retained, "+", 0), ["sport", "sports"]);
        assert_eq!(topics(&retained, "sports", 0), ["sports"]);
        assert_eq!(
            topics(&retained, "#", 0).len(),
            4,
            "topics with $ are not for wildcards"
        );
    }

    #[test]
    fn an_empty_payload_deletes_and_the_bounds_hold() {
        let mut retained = Retained::new(RetainedLimits {
            messages: 2,
            ..LIMITS
        });
        assert!(matches!(retained.set(&message("a", "1")), Set::Kept(_)));
        assert!(matches!(retained.set(&message("b", "1")), Set::Kept(_)));
        assert!(matches!(
            retained.set(&message("c", "1")),
            Set::Full { cleared: false }
        ));
        assert!(
            matches!(retained.set(&message("b", "2")), Set::Kept(_)),
            "replacing needs no further place"
        );
        assert!(matches!(retained.set(&message("a", "")), Set::Cleared));
        assert!(matches!(retained.set(&message("a", "")), Set::Nothing));
        assert!(matches!(retained.set(&message("c", "1")), Set::Kept(_)));
        assert_eq!(retained.len(), 2);
    }

    #[test]
    fn a_message_that_cannot_be_retained_leaves_no_stale_one() {
        let mut retained = Retained::new(RetainedLimits {
            bytes: 400,
            ..LIMITS
        });
        assert!(matches!(retained.set(&message("a", "old")), Set::Kept(_)));
        let large = Message {
            payload: Bytes::from(vec![0; 400]),
            ..message("a", "")
        };
        assert!(matches!(retained.set(&large), Set::Full { cleared: true }));
        assert!(retained.get("a").is_none());
        assert_eq!(retained.bytes(), 0);
    }

    #[test]
    fn expired_messages_are_not_given_out_and_leave_no_bytes() {
        let mut retained = Retained::new(LIMITS);
        retained.set(&Message {
            expires_at: Some(100),
            ..message("a", "1")
        });
        assert_eq!(topics(&retained, "a", 99), ["a"]);
        assert!(topics(&retained, "a", 100).is_empty());
        assert_eq!(retained.expire(100), 1);
        assert_eq!(retained.bytes(), 0);
    }
}
