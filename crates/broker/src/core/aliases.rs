//! Topic aliases towards one client: numbers that the broker gives to the topics it sends most.
//!
//! A table belongs to one connection. It is filled in the order in which topics come. When it is full, every eighth message
//! without an alias looks at one number: a topic that was used since the last look keeps it, another gives it up. So a
//! stream of topics that never come twice costs next to nothing.

use std::num::NonZeroU16;

use ahash::HashMap;
use weir_mqtt::{AliasUse, TopicAlias};

/// Shorter topics are sent as they are: the property would be as long.
const WORTHWHILE: usize = AliasUse::PROPERTY_LEN + 1;

/// Messages without an alias for one look at a number.
const LOOK_EVERY: u8 = 8;

/// The aliases of one connection.
#[derive(Debug)]
pub struct OutboundAliases {
    /// The highest number that the client takes.
    max: NonZeroU16,
    numbers: HashMap<Box<[u8]>, u16>,
    /// The topic of each number from 1 on.
    topics: Vec<Named>,
    /// The place that the next newcomer looks at.
    hand: usize,
    /// Messages without an alias since the last look.
    missed: u8,
}

#[derive(Debug)]
struct Named {
    topic: Box<[u8]>,
    used: bool,
}

impl OutboundAliases {
    /// An empty table; `None` when the client takes no aliases. `[MQTT-3.1.2-27]`
    pub fn new(max: u16) -> Option<Box<Self>> {
        let max = NonZeroU16::new(max)?;
        Some(Box::new(Self {
            max,
            numbers: HashMap::default(),
            topics: Vec::new(),
            hand: 0,
            missed: 0,
        }))
    }

    /// How a message of `topic` that goes out now says its topic; `None`: in full. What is given must be sent.
    pub fn next_use(&mut self, topic: &[u8]) -> Option<AliasUse> {
        if topic.len() < WORTHWHILE {
            return None;
        }
        if let Some(number) = self.numbers.get(topic).copied() {
            if let Some(named) = self.topics.get_mut(usize::from(number) - 1) {
                named.used = true;
            }
            return TopicAlias::new(number).map(AliasUse::InPlace);
        }
        let number = self.number_for(topic)?;
        self.numbers.insert(topic.into(), number);
        TopicAlias::new(number).map(AliasUse::Introduce)
    }

    /// A number that is free, or that was not used since the last look.
    fn number_for(&mut self, topic: &[u8]) -> Option<u16> {
        let newcomer = || Named {
            topic: topic.into(),
            used: false,
        };
        if self.topics.len() < usize::from(self.max.get()) {
            self.topics.push(newcomer());
            return u16::try_from(self.topics.len()).ok();
        }
        self.missed += 1;
        if self.missed < LOOK_EVERY {
            return None;
        }
        self.missed = 0;
        let at = self.hand;
        self.hand = (at + 1) % self.topics.len();
        let named = self.topics.get_mut(at)?;
        if std::mem::take(&mut named.used) {
            return None;
        }
        self.numbers.remove(&named.topic);
        *named = newcomer();
        u16::try_from(at + 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(max: u16) -> OutboundAliases {
        *OutboundAliases::new(max).unwrap()
    }

    fn introduce(number: u16) -> Option<AliasUse> {
        TopicAlias::new(number).map(AliasUse::Introduce)
    }

    fn in_place(number: u16) -> Option<AliasUse> {
        TopicAlias::new(number).map(AliasUse::InPlace)
    }

    #[test]
    fn a_topic_is_named_once_and_then_stands_as_a_number() {
        let mut aliases = table(2);
        assert_eq!(aliases.next_use(b"site/one"), introduce(1));
        assert_eq!(aliases.next_use(b"site/two"), introduce(2));
        assert_eq!(aliases.next_use(b"site/one"), in_place(1));
        assert_eq!(aliases.next_use(b"site/two"), in_place(2));
    }

    #[test]
    fn a_topic_no_longer_than_the_property_has_no_alias() {
        assert_eq!(table(9).next_use(b"abc"), None);
    }

    #[test]
    fn a_client_that_takes_no_aliases_has_no_table() {
        assert!(OutboundAliases::new(0).is_none());
    }

    #[test]
    fn topics_in_use_keep_their_numbers_and_others_give_them_up() {
        let mut aliases = table(2);
        aliases.next_use(b"busy");
        aliases.next_use(b"once");
        aliases.next_use(b"busy");
        for _ in 1..2 * LOOK_EVERY {
            assert_eq!(aliases.next_use(b"new1"), None, "`busy` was used");
        }
        assert_eq!(aliases.next_use(b"new1"), introduce(2), "`once` was not");
        assert_eq!(aliases.next_use(b"busy"), in_place(1));
        assert_eq!(aliases.next_use(b"new1"), in_place(2));
    }

    #[test]
    fn the_client_never_sees_a_number_that_it_does_not_know() {
        let mut aliases = table(3);
        let mut client = vec![None; 3];
        for round in 0..1000_u32 {
            let topic = format!("topic/{}", round.wrapping_mul(2_654_435_761) % 7);
            match aliases.next_use(topic.as_bytes()) {
                None => {}
                Some(AliasUse::Introduce(alias)) => {
                    client[usize::from(alias.get()) - 1] = Some(topic);
                }
                Some(AliasUse::InPlace(alias)) => {
                    assert_eq!(client[usize::from(alias.get()) - 1], Some(topic));
                }
            }
        }
    }
}
