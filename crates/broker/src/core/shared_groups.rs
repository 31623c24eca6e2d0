//! Shared subscriptions: which member of a group gets a message.
//!
//! What a group remembers lives as long as it has members, whatever else happens to the index. A message that a member
//! leaves behind when its session ends goes to another: at QoS 1 even if it was sent, since nobody knows whether it
//! arrived; at QoS 2 only if it was never sent `[MQTT-4.8.2-5]`. While the session lives the message waits in it, so that
//! a short absence costs no repetition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use ahash::RandomState;
use weir_mqtt::SubscriptionFilter;

use super::message::Message;
use super::subscriptions::SessionKey;

/// How a group chooses among its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// The same one until it is gone.
    Sticky,
    /// The same one for each publisher.
    HashClient,
    /// The same one for each topic.
    HashTopic,
}

/// The strategies of all groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategies {
    /// Of groups that are not named below.
    pub default: Strategy,
    /// By the name of the group.
    pub by_group: BTreeMap<String, Strategy>,
}

impl Strategies {
    fn of(&self, name: &SubscriptionFilter) -> Strategy {
        let group = name.share.as_deref().unwrap_or("");
        let strategy = self.by_group.get(group);
        strategy.copied().unwrap_or(self.default)
    }
}

/// What the members of one shared subscription have in common.
#[derive(Debug)]
pub struct Group {
    /// Share name and filter.
    pub name: SubscriptionFilter,
    strategy: Strategy,
    /// How many messages it has had.
    turn: AtomicUsize,
    /// Who had the last one, if that matters.
    last: AtomicU64,
    hasher: RandomState,
}

impl Group {
    /// A group without members.
    pub fn new(name: SubscriptionFilter, strategies: &Strategies) -> Arc<Self> {
        Arc::new(Self {
            strategy: strategies.of(&name),
            name,
            turn: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            hasher: RandomState::new(),
        })
    }

    /// Which of `members`, in the order of their keys, is to be tried first. Asked once for each message.
    pub fn first(&self, members: &[SessionKey], message: &Message) -> usize {
        let number = match self.strategy {
            Strategy::RoundRobin => self.turn.fetch_add(1, Relaxed),
            Strategy::Random => {
                let turn = self.turn.fetch_add(1, Relaxed);
                self.hash(turn)
            }
            Strategy::Sticky => {
                let last = self.last.load(Relaxed);
                // The next one if the last is gone.
                members.partition_point(|key| *key < last)
            }
            Strategy::HashClient => self.hash(&*message.origin.client_id),
            Strategy::HashTopic => self.hash(&*message.topic),
        };
        number % members.len().max(1)
    }

    fn hash(&self, what: impl std::hash::Hash) -> usize {
        usize::try_from(self.hasher.hash_one(what) >> 33).unwrap_or(0)
    }

    /// The member that has got the message.
    pub fn chose(&self, member: SessionKey) {
        if self.strategy == Strategy::Sticky {
            self.last.store(member, Relaxed);
        }
    }
}

/// A message whose group must find another member.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// The group.
    pub group: Arc<Group>,
    /// The message.
    pub message: Arc<Message>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use weir_mqtt::{QoS, TopicName, Utf8};

    use super::*;
    use crate::core::message::Origin;

    const MEMBERS: [SessionKey; 4] = [3, 5, 8, 9];

    fn group(strategy: Strategy) -> Arc<Group> {
        let strategies = Strategies {
            default: Strategy::RoundRobin,
            by_group: BTreeMap::from([("g".to_owned(), strategy)]),
        };
        let name = SubscriptionFilter::parse("$share/g/t").unwrap();
        Group::new(name, &strategies)
    }

    fn message(topic: &str, client_id: &'static str) -> Message {
        let origin = Origin {
            client_id: Utf8::from(client_id),
            ..Origin::default()
        };
        Message {
            origin: Arc::new(origin),
            ..Message::new(
                TopicName::new(topic).unwrap(),
                Bytes::new(),
                QoS::AtMostOnce,
                false,
            )
        }
    }

    fn choices(group: &Group, messages: impl Iterator<Item = Message>) -> Vec<usize> {
        let choose = |message| {
            let at = group.first(&MEMBERS, &message);
            group.chose(MEMBERS[at]);
            at
        };
        messages.map(choose).collect()
    }

    #[test]
    fn round_robin_takes_turns() {
        let same = std::iter::repeat_with(|| message("t", "a")).take(6);
        let chosen = choices(&group(Strategy::RoundRobin), same);
        assert_eq!(chosen, [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn random_reaches_all_without_an_order() {
        let same = std::iter::repeat_with(|| message("t", "a")).take(200);
        let chosen = choices(&group(Strategy::Random), same);
        for member in 0..4 {
            let count = chosen.iter().filter(|at| **at == member).count();
            assert!((20..90).contains(&count), "{member}: {count} of 200");
        }
    }

    #[test]
    fn sticky_stays_with_one_and_goes_to_the_next_when_it_is_gone() {
        let group = group(Strategy::Sticky);
        let same = std::iter::repeat_with(|| message("t", "a")).take(5);
        assert_eq!(choices(&group, same), [0; 5]);
        group.chose(5);
        assert_eq!(group.first(&MEMBERS, &message("t", "a")), 1);
        assert_eq!(
            group.first(&[3, 8, 9], &message("t", "a")),
            1,
            "8 follows 5"
        );
        group.chose(9);
        assert_eq!(group.first(&[3, 8], &message("t", "a")), 0);
    }

    #[test]
    fn hashes_keep_a_publisher_or_a_topic_with_one_member() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        for (strategy, one) in [
            (
                Strategy::HashClient,
                (|name| message("t", name)) as fn(&'static str) -> Message,
            ),
            (Strategy::HashTopic, |name| message(name, "a")),
        ] {
            let group = group(strategy);
            let first = choices(&group, names.into_iter().map(one));
            assert_eq!(first, choices(&group, names.into_iter().map(one)));
            let members: BTreeSet<_> = first.into_iter().collect();
            assert!(members.len() > 1, "all went to one");
        }
    }

    #[test]
    fn a_group_that_is_not_named_has_the_default() {
        let strategies = Strategies {
            default: Strategy::Sticky,
            by_group: BTreeMap::from([("g".to_owned(), Strategy::Random)]),
        };
        let of = |text| strategies.of(&SubscriptionFilter::parse(text).unwrap());
        assert_eq!(of("$share/g/t"), Strategy::Random);
        assert_eq!(of("$share/h/t"), Strategy::Sticky);
        assert_eq!(of("$queue/t"), Strategy::Sticky);
    }
}
