//! Retained messages: the last one of each topic, given to new subscriptions.
//!
//! Bounded by count and bytes; each has memory of its own and holds no read buffer. They lie in the order of their
//! topics, in which a filter jumps from branch to branch as in a trie, and a session that is being given a million of
//! them remembers only how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use weir_mqtt::{TopicFilter, Utf8};

use super::Millis;
use super::message::Message;

/// Topics of the broker itself. They count under no limit: nobody else can publish to them.
const SYSTEM: &str = "$SYS/";

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
    by_topic: BTreeMap<Utf8, Entry>,
    /// What expires, by when and number.
    expiring: BTreeSet<(Millis, u64, Utf8)>,
    /// How many count under the limit.
    count: usize,
    bytes: usize,
    limits: RetainedLimits,
    /// The number of the last message that was retained.
    last_number: u64,
    /// The number of the last change.
    changes: u64,
}

#[derive(Debug)]
struct Entry {
    /// Tells in which order messages were retained.
    number: u64,
    message: Arc<Message>,
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

/// The way of one new subscription through the retained messages, to be gone in as many steps as it takes.
#[derive(Clone, Debug)]
pub struct Walk {
    filter: TopicFilter,
    /// Messages with higher numbers reached the subscriber as they were published.
    up_to: u64,
    /// The last topic that was passed.
    after: Option<Utf8>,
}

impl Walk {
    /// The filter of the subscription.
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// The walk has passed `message`.
    pub fn pass(&mut self, message: &Message) {
        self.after = Some(message.topic.clone());
    }
}

impl Retained {
    /// None yet.
    pub fn new(limits: RetainedLimits) -> Self {
        Self {
            by_topic: BTreeMap::new(),
            expiring: BTreeSet::new(),
            count: 0,
            bytes: 0,
            limits,
            last_number: 0,
            changes: 0,
        }
    }

    /// How many there are, without the broker's own.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Bytes of all of them, without the broker's own.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the last change; see [`Persist::Retained`](super::persist::Persist::Retained).
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes what a storage has kept, the last change of which had the number `changes`.
    pub fn restore<'a>(&mut self, kept: impl Iterator<Item = &'a Arc<Message>>, changes: u64) {
        // Bounds that have become narrower keep what there was.
        for message in kept {
            self.insert(Arc::clone(message));
        }
        self.changes = changes;
    }

    /// A message with the RETAIN flag was published. `[MQTT-3.3.1-5]` `[MQTT-3.3.1-6]`
    pub fn set(&mut self, message: &Message) -> Set {
        self.changes += 1;
        if message.payload.is_empty() {
            return if self.remove(&message.topic) {
                Set::Cleared
            } else {
                Set::Nothing
            };
        }
        let kept = Arc::new(message.to_be_retained());
        let cleared = self.remove(&message.topic);
        if counts(&kept) {
            let (bytes, count) = (self.bytes + kept.size(), self.count + 1);
            if bytes > self.limits.bytes || count > self.limits.messages {
                return Set::Full { cleared };
            }
        }
        self.insert(Arc::clone(&kept));
        Set::Kept(kept)
    }

    /// Takes the message of a topic that has none.
    fn insert(&mut self, message: Arc<Message>) {
        if counts(&message) {
            self.bytes += message.size();
            self.count += 1;
        }
        self.last_number += 1;
        let number = self.last_number;
        let topic = message.topic.clone();
        if let Some(at) = message.expires_at {
            self.expiring.insert((at, number, topic.clone()));
        }
        self.by_topic.insert(topic, Entry { number, message });
    }

    fn remove(&mut self, topic: &str) -> bool {
        let Some((topic, Entry { number, message })) = self.by_topic.remove_entry(topic) else {
            return false;
        };
        if counts(&message) {
            self.bytes -= message.size();
            self.count -= 1;
        }
        if let Some(at) = message.expires_at {
            self.expiring.remove(&(at, number, topic));
        }
        true
    }

    /// The retained message of one topic.
    pub fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.by_topic.get(topic).map(|entry| &entry.message)
    }

    /// The way of a subscription that begins now: past everything that is retained now.
    pub fn walk(&self, filter: TopicFilter) -> Walk {
        Walk {
            filter,
            up_to: self.last_number,
            after: None,
        }
    }

    /// Whether there is one that a subscription with this filter gets.
    pub fn has_some_for(&self, filter: &TopicFilter, now: Millis) -> bool {
        self.ahead(&self.walk(filter.clone()), now).next().is_some()
    }

    /// The messages that a walk has before it, in the order of their topics.
    pub fn ahead<'a, 'w>(
        &'a self,
        walk: &'w Walk,
        now: Millis,
    ) -> impl Iterator<Item = &'a Arc<Message>> + use<'a, 'w> {
        let beginning = beginning_of_all(&walk.filter);
        let from = match &walk.after {
            Some(topic) => Bound::Excluded(&**topic),
            None => Bound::Included(beginning),
        };
        let mut range = self.by_topic.range::<str, _>((from, Bound::Unbounded));
        std::iter::from_fn(move || {
            loop {
                let (topic, entry) = range.next()?;
                if !topic.starts_with(beginning) {
                    return None;
                }
                match fit(walk.filter.as_str(), topic) {
                    Fit::Matches
                        if entry.number <= walk.up_to && !entry.message.is_expired(now) =>
                    {
                        return Some(&entry.message);
                    }
                    Fit::Matches | Fit::Next => {}
                    Fit::Jump(to) => {
                        let from = Bound::Included(to.as_str());
                        range = self.by_topic.range::<str, _>((from, Bound::Unbounded));
                    }
                    Fit::End => return None,
                }
            }
        })
    }

    /// Removes what has expired; gives the messages.
    pub fn expire(&mut self, now: Millis) -> Vec<Arc<Message>> {
        let mut expired = Vec::new();
        while let Some((at, _, topic)) = self.expiring.first()
            && *at <= now
        {
            let topic = topic.clone();
            expired.extend(self.get(&topic).cloned());
            self.remove(&topic);
        }
        self.changes += u64::from(!expired.is_empty());
        expired
    }
}

fn counts(message: &Message) -> bool {
    !message.topic.starts_with(SYSTEM)
}

/// How every topic begins that matches: they lie side by side.
fn beginning_of_all(filter: &TopicFilter) -> &str {
    let text = filter.as_str();
    let beginning = text.split(['+', '#']).next().unwrap_or_default();
    if text.len() == beginning.len() + 1 && text.ends_with('#') {
        // `sport/#` matches `sport`.
        return beginning.strip_suffix('/').unwrap_or(beginning);
    }
    beginning
}

/// How a topic stands to a filter, and where in the order of topics the next one can be that matches.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Matches,
    /// Look at the next topic.
    Next,
    /// None before this one matches.
    Jump(String),
    /// No later topic matches.
    End,
}

/// The byte after the separator: with it in place of a last separator, a text follows everything below that level.
const AFTER_SEPARATOR: char = '0';

fn fit(filter: &str, topic: &str) -> Fit {
    // [MQTT-4.7.2-1] `%` is the byte after `$`.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Fit::Jump("%".to_owned());
    }
    // Where the topic's next level begins; past its end when there is none.
    let mut at = 0;
    let mut parts = filter.split('/').peekable();
    while let Some(part) = parts.next() {
        if part == "#" {
            return Fit::Matches;
        }
        let Some((before, rest)) = topic.split_at_checked(at) else {
            return Fit::Next;
        };
        let level = rest.split_once('/').map_or(rest, |(level, _)| level);
        if part != "+" && part != level {
            return after_mismatch(before, part, topic, parts.peek().is_some());
        }
        at += level.len() + 1;
    }
    match topic.split_at_checked(at) {
        None => Fit::Matches,
        Some((above, _)) => Fit::Jump(after_all_below(above)),
    }
}

/// Below `before` the filter wants the level `part`, and `topic` has another one there.
fn after_mismatch(before: &str, part: &str, topic: &str, goes_on: bool) -> Fit {
    let wanted = format!("{before}{part}");
    if topic < wanted.as_str() {
        return Fit::Jump(wanted);
    }
    let below = wanted + "/";
    if goes_on && topic < below.as_str() {
        return Fit::Jump(below);
    }
    if before.is_empty() {
        return Fit::End;
    }
    Fit::Jump(after_all_below(before))
}

/// `above` ends with a separator.
fn after_all_below(above: &str) -> String {
    let mut text = above.strip_suffix('/').unwrap_or(above).to_owned();
    text.push(AFTER_SEPARATOR);
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use weir_mqtt::properties::PublishProperties;
    use weir_mqtt::{QoS, TopicName};

    use super::*;

    #[test]
    fn a_look_begins_where_the_topics_of_the_filter_do() {
        let filter = |text| TopicFilter::parse(text).unwrap();
        for (text, beginning) in [
            ("#", ""),
            ("+/a", ""),
            ("/#", ""),
            ("sport/#", "sport"),
            ("sport/+", "sport/"),
            ("sport/+/#", "sport/"),
            ("sport/a", "sport/a"),
        ] {
            assert_eq!(beginning_of_all(&filter(text)), beginning);
        }
        let mut retained = Retained::new(LIMITS);
        retained.set(&message("sport", "1"));
        retained.set(&message("spot/a", "1"));
        for (text, is_some) in [
            ("sport/#", true),
            ("sport/+", false),
            ("sp/#", false),
            ("spot/+", true),
            ("+", true),
        ] {
            assert_eq!(retained.has_some_for(&filter(text), 0), is_some, "{text}");
        }
    }

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
        let walk = retained.walk(filter);
        retained
            .ahead(&walk, now)
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
        assert_eq!(retained.expire(100).len(), 1);
        assert_eq!(retained.bytes(), 0);
    }

    #[test]
    fn a_message_is_retained_for_its_time_from_its_acceptance_on_or_for_less() {
        // How long it is retained, when it expires by itself, and when it is gone.
        for (retain_s, expires_at, gone_at) in [
            (Some(60), None, Some(61_000)),
            (Some(60), Some(30_000), Some(30_000)),
            (Some(60), Some(90_000), Some(61_000)),
            (None, Some(90_000), Some(90_000)),
            (None, None, None),
        ] {
            let mut retained = Retained::new(LIMITS);
            let properties = PublishProperties {
                message_expiry_interval_s: expires_at.map(|_| 1000),
                ..PublishProperties::default()
            };
            retained.set(&Message {
                retain_s,
                expires_at,
                accepted_at: 1000,
                properties: expires_at.map(|_| Box::new(properties)),
                ..message("a", "1")
            });
            let kept = retained.get("a").unwrap();
            assert_eq!((kept.expires_at, kept.retain_s), (gone_at, None));
            let told = kept
                .properties_at(1000)
                .and_then(|of| of.message_expiry_interval_s);
            let left_s = gone_at.map(|at| u32::try_from((at - 1000) / 1000).unwrap());
            assert_eq!(told, left_s);
        }
    }

    #[test]
    fn a_walk_goes_on_where_it_was_and_passes_what_came_after_it_began() {
        let mut retained = Retained::new(LIMITS);
        for topic in ["a", "b", "c"] {
            retained.set(&message(topic, "old"));
        }
        let mut walk = retained.walk(TopicFilter::parse("#").unwrap());
        let first = Arc::clone(retained.ahead(&walk, 0).next().unwrap());
        walk.pass(&first);
        retained.set(&message("b", "new"));
        retained.set(&message("d", "new"));
        retained.set(&message("a", "new"));
        let left: Vec<_> = retained
            .ahead(&walk, 0)
            .map(|m| m.topic.to_string())
            .collect();
        assert_eq!(left, ["c"], "the new ones were delivered as they came");
    }

    #[test]
    fn the_brokers_own_topics_count_under_no_limit() {
        let mut retained = Retained::new(RetainedLimits {
            messages: 0,
            bytes: 0,
        });
        assert!(matches!(
            retained.set(&message("$SYS/x", "1")),
            Set::Kept(_)
        ));
        assert!(matches!(
            retained.set(&message("$SYS/x", "2")),
            Set::Kept(_)
        ));
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
        assert_eq!(topics(&retained, "$SYS/#", 0), ["$SYS/x"]);
    }

    #[test]
    fn a_filter_looks_only_into_branches_that_can_match() {
        assert_eq!(fit("+/up", "dev1/down/7"), Fit::Jump("dev1/up".to_owned()));
        assert_eq!(fit("+/up", "dev1/up-2"), Fit::Jump("dev10".to_owned()));
        assert_eq!(fit("+/up", "dev1/up/x"), Fit::Jump("dev1/up0".to_owned()));
        assert_eq!(fit("a/#", "a-b"), Fit::Jump("a/".to_owned()));
        assert_eq!(fit("a/b", "b"), Fit::End);
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_the_filter_matches(
            names in proptest::collection::btree_set("[$]?[ab0-]{0,2}(/[ab0-]{0,2}){0,3}", 0..40),
            filter in "([$]?[ab0-]{0,2}|[+])(/([ab0-]{1,2}|[+])){0,3}(/#)?",
        ) {
            prop_assume!(TopicFilter::parse(&filter).is_ok());
            let mut retained = Retained::new(RetainedLimits { messages: 100, ..LIMITS });
            let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
            for name in &names {
                retained.set(&message(name, "x"));
            }
            let parsed = TopicFilter::parse(&filter).unwrap();
            let matching: Vec<_> =
                names.iter().filter(|name| parsed.matches(name)).cloned().collect();
            prop_assert_eq!(topics(&retained, &filter, 0), matching);
        }
    }
}
