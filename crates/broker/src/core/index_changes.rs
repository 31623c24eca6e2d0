//! Whether what was found in the topic index still holds: who subscribes to something else changes nothing for a topic.
//!
//! Filters fall into parts by the levels before their first wildcard. A topic is reached from few of the parts, and each
//! part knows when it last changed. Two that have nothing to do with each other may share a part: then a topic is looked
//! up once too often. A filter that begins with a wildcard concerns every topic.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use weir_mqtt::{SubscriptionFilter, TopicFilter};

/// How many parts there are.
const PARTS: u16 = 1 << 15;

/// Levels before the first wildcard that are told apart.
const LEVELS: usize = 5;

/// When each part of the index has changed.
///
/// Changes are noted while nobody looks into the index, and are seen by everyone from [`publish`](Self::publish) on.
#[derive(Debug)]
pub struct IndexChanges {
    /// The generation of the index.
    latest: AtomicU64,
    /// The generation that changed a part last.
    parts: Box<[AtomicU64]>,
    /// Keyed at random, since clients choose what is hashed.
    hasher: RandomState,
}

/// The parts that filters can be in which match one topic: the topic itself, and what begins with so many of its levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexParts([u16; LEVELS + 2]);

impl Default for IndexChanges {
    fn default() -> Self {
        Self {
            latest: AtomicU64::new(0),
            parts: (0..PARTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl IndexChanges {
    /// The generation of the index.
    pub fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// Who wants what `filter` matches changes; the index is locked for that.
    pub fn note(&self, filter: &SubscriptionFilter) {
        let next = self.latest.load(Ordering::Relaxed) + 1;
        let part = usize::from(self.part_of(&filter.filter));
        // Seen at the latest by whoever sees the new generation.
        self.parts[part].store(next, Ordering::Release);
    }

    /// All that was noted has happened.
    pub fn publish(&self) {
        self.latest.fetch_add(1, Ordering::Release);
    }

    /// The parts that a topic is reached from.
    pub fn parts_of(&self, topic: &str) -> IndexParts {
        let mut ends = topic.match_indices('/').map(|(at, _)| at);
        let mut levels = 0;
        IndexParts(array::from_fn(|at| match at {
            0 => self.part("=", topic),
            1 => self.part("", ""),
            _ => {
                // Past the last level the last prefix comes again.
                levels = ends.next().unwrap_or(topic.len());
                self.part("", &topic[..levels])
            }
        }))
    }

    /// The present generation, if what was found in generation `since` still holds.
    pub fn unchanged(&self, since: u64, parts: &IndexParts) -> Option<u64> {
        let latest = self.latest();
        let changed = |part: &u16| self.parts[usize::from(*part)].load(Ordering::Acquire) > since;
        (latest == since || !parts.0.iter().any(changed)).then_some(latest)
    }

    fn part_of(&self, filter: &TopicFilter) -> u16 {
        let text = filter.as_str();
        if filter.is_exact() {
            return self.part("=", text);
        }
        let literal = text
            .split('/')
            .take(LEVELS)
            .take_while(|level| !matches!(*level, "+" | "#"));
        let len = literal.map(|level| level.len() + 1).sum::<usize>();
        self.part("", text.get(..len.saturating_sub(1)).unwrap_or(text))
    }

    fn part(&self, kind: &str, text: &str) -> u16 {
        let [first, second, ..] = self.hasher.hash_one((kind, text)).to_le_bytes();
        u16::from_le_bytes([first, second]) % PARTS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> SubscriptionFilter {
        SubscriptionFilter::parse(text).unwrap()
    }

    fn is_among(changes: &IndexChanges, text: &str, topic: &str) -> bool {
        let part = changes.part_of(&filter(text).filter);
        changes.parts_of(topic).0.contains(&part)
    }

    #[test]
    fn a_topic_holds_while_others_subscribe_elsewhere_and_not_when_it_is_subscribed_to() {
        let changes = IndexChanges::default();
        let parts = changes.parts_of("dev/7/up");
        let before = changes.latest();
        let elsewhere = ["dev/8/up", "dev/8/+", "home/#", "dev/7/down/+"].map(filter);
        let apart = |one: &&SubscriptionFilter| !parts.0.contains(&changes.part_of(&one.filter));
        for filter in elsewhere.iter().filter(apart) {
            changes.note(filter);
            changes.publish();
        }
        let now = changes.unchanged(before, &parts).unwrap();
        assert!(now > before, "there was one that shares no part");
        changes.note(&filter("dev/+/up"));
        changes.publish();
        assert_eq!(changes.unchanged(now, &parts), None);
    }

    #[test]
    fn what_is_noted_counts_at_the_latest_once_it_is_published() {
        let changes = IndexChanges::default();
        let parts = changes.parts_of("a");
        changes.note(&filter("a"));
        let seen = changes.latest();
        changes.publish();
        assert_eq!(changes.unchanged(seen, &parts), None);
        assert_eq!(changes.unchanged(changes.latest(), &parts), Some(1));
    }

    #[test]
    fn a_filter_is_in_a_part_of_the_topics_that_it_matches() {
        let changes = IndexChanges::default();
        for (filter, topic) in [
            ("#", "a"),
            ("+", "a"),
            ("a/#", "a"),
            ("/+", "/x"),
            ("/#", "/"),
            ("a//+", "a//x"),
            ("a/b/c/d/+/f", "a/b/c/d/e/f"),
            ("$share/g/a/+", "a/x"),
            ("a/b/#", "a/b"),
            ("a/b/c/#", "a/b/c"),
        ] {
            assert!(is_among(&changes, filter, topic), "{filter} {topic}");
        }
    }

    proptest! {
        #[test]
        fn no_filter_that_matches_is_missed(
            levels in prop::collection::vec(("[ab]{0,2}", any::<bool>()), 1..9),
            end in 0..12_usize,
        ) {
            let topic: Vec<_> = levels.iter().map(|(level, _)| level.as_str()).collect();
            let topic = topic.join("/");
            let of = |(level, is_any): &(String, bool)| if *is_any { "+".to_owned() } else { level.clone() };
            let mut filter: Vec<_> = levels.iter().map(of).collect();
            // Cut off, or with nothing more below it, or as long as the topic.
            if end <= levels.len() {
                filter.truncate(end);
                filter.push("#".to_owned());
            }
            let text = filter.join("/");
            prop_assume!(!topic.is_empty() && !text.is_empty());
            let filter = SubscriptionFilter::parse(&text).unwrap();
            prop_assert!(filter.filter.matches(&topic), "{text} {topic}");
            prop_assert!(is_among(&IndexChanges::default(), &text, &topic), "{text} {topic}");
        }
    }
}
