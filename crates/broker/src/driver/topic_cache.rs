//! Where topics lead, remembered by the publisher: devices publish to the same topics again and again.
//!
//! An answer holds as long as the rules and rights that it was found under, and as nothing changes in the parts of the
//! index that it depends on. What all publishers of a broker remember is
//! bounded by the routes, not only by the topics: one topic may lead to a hundred thousand clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use ahash::HashMap;
use weir_mqtt::Utf8;

use super::handle::SessionHandle;
use crate::auth::authorizer::Verdicts;
use crate::core::index_changes::{IndexChanges, IndexParts};
use crate::core::subscriptions::Routes;
use crate::pipeline::Matched;

/// Topics of one publisher: a gateway speaks for this many devices.
const MAX_TOPICS: usize = 2048;

/// Topics and routes of all publishers of a broker, some 60 bytes each.
const MAX_ROUTES: usize = 1 << 19;

/// Where one topic leads, until rules, rights, or what it depends on of the index changes.
pub(crate) struct Topic {
    /// In memory of its own.
    pub(super) name: Utf8,
    /// A generation of the index in which the routes are right, and what they depend on.
    pub(super) index_generation: AtomicU64,
    pub(super) index_parts: IndexParts,
    pub(super) rules_generation: u64,
    pub(super) access_generation: u64,
    /// Whether the publisher may publish here.
    pub(super) verdicts: Verdicts,
    pub(super) routes: Routes<Arc<SessionHandle>>,
    pub(super) matched: Option<Arc<Matched>>,
    /// Whether messages to it are captured.
    pub(super) captured: bool,
}

impl Topic {
    /// Whether the routes are still right.
    pub(super) fn leads_on(&self, changes: &IndexChanges) -> bool {
        let since = self.index_generation.load(Relaxed);
        let unchanged = changes.unchanged(since, &self.index_parts);
        if let Some(generation) = unchanged
            && generation != since
        {
            self.index_generation.store(generation, Relaxed);
        }
        unchanged.is_some()
    }

    /// What it costs to remember this.
    fn weight(&self) -> usize {
        let members: usize = self
            .routes
            .groups
            .iter()
            .map(|group| group.members.len())
            .sum();
        4 + self.routes.sessions.len() + members
    }
}

/// The topics of one publisher.
pub(super) struct TopicCache {
    /// The one that was last put in: most devices publish to no other.
    recent: Option<Arc<Topic>>,
    /// All of them, once there are any.
    topics: Option<Box<HashMap<Utf8, Arc<Topic>>>>,
    weight: usize,
    /// What all publishers remember.
    total: Arc<AtomicUsize>,
}

impl TopicCache {
    /// An empty one that counts towards `total`.
    pub(super) fn new(total: &Arc<AtomicUsize>) -> Self {
        Self {
            recent: None,
            topics: None,
            weight: 0,
            total: Arc::clone(total),
        }
    }

    /// What is remembered of a topic, however old.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Topic>> {
        let recent = self.recent.as_ref();
        recent
            .filter(|topic| *topic.name == *name)
            .or_else(|| self.topics.as_ref()?.get(name))
    }

    /// Remembers a topic, if there is room for it.
    pub(super) fn insert(&mut self, topic: &Arc<Topic>) {
        if self.topics.as_ref().map_or(0, |topics| topics.len()) >= MAX_TOPICS {
            self.clear();
        }
        let weight = topic.weight();
        let topics = self.topics.get_or_insert_default();
        if let Some(place) = topics.get_mut(&topic.name) {
            self.total.fetch_add(weight, Relaxed);
            self.weight += weight;
            let before = std::mem::replace(place, Arc::clone(topic)).weight();
            self.weight -= before;
            self.total.fetch_sub(before, Relaxed);
            self.recent = Some(Arc::clone(topic));
            return;
        }
        if self.total.fetch_add(weight, Relaxed) + weight > MAX_ROUTES {
            self.total.fetch_sub(weight, Relaxed);
            return;
        }
        self.weight += weight;
        topics.insert(topic.name.clone(), Arc::clone(topic));
        self.recent = Some(Arc::clone(topic));
    }

    /// Forgets everything, with its memory.
    pub(super) fn clear(&mut self) {
        self.topics = None;
        self.recent = None;
        self.total.fetch_sub(self.weight, Relaxed);
        self.weight = 0;
    }
}

impl Drop for TopicCache {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::{QoS, SubscriptionFilter};

    use super::*;
    use crate::core::persist::SessionId;
    use crate::core::queue::QueueLimits;
    use crate::core::session::{Session, SessionLimits};
    use crate::core::subscriptions::{Index, SubscriptionOptions};

    /// A topic that leads to `sessions` clients.
    fn topic(name: &str, sessions: u64) -> Arc<Topic> {
        let mut index = Index::default();
        let filter = SubscriptionFilter::parse(name).unwrap();
        for key in 0..sessions {
            let limits = SessionLimits {
                queue: QueueLimits {
                    messages: 1,
                    bytes: 1,
                },
                outbox_bytes: 1,
            };
            let session = Session::new(SessionId::default(), limits);
            let handle = SessionHandle::new(key, Utf8::from("c"), session, Arc::default());
            let options = SubscriptionOptions {
                qos: QoS::AtMostOnce,
                no_local: false,
                retain_as_published: false,
                id: None,
            };
            index.subscribe(key, handle, &filter, options);
        }
        Arc::new(Topic {
            name: Utf8::new(name).unwrap(),
            index_generation: AtomicU64::new(0),
            index_parts: IndexParts::default(),
            rules_generation: 0,
            access_generation: 0,
            verdicts: Verdicts::default(),
            routes: index.routes(name),
            matched: None,
            captured: false,
        })
    }

    #[test]
    fn what_is_remembered_is_counted_by_routes_and_given_back() {
        let total = Arc::default();
        let mut cache = TopicCache::new(&total);
        cache.insert(&topic("few", 1));
        let few = total.load(Relaxed);
        cache.insert(&topic("many", 101));
        assert_eq!(total.load(Relaxed), 2 * few + 100);
        cache.insert(&topic("many", 1));
        assert_eq!(
            total.load(Relaxed),
            2 * few,
            "the newer answer is remembered"
        );
        assert_eq!(cache.get("many").unwrap().routes.sessions.len(), 1);
        drop(cache);
        assert_eq!(total.load(Relaxed), 0);
    }

    #[test]
    fn a_publisher_to_endless_topics_remembers_no_more_than_its_share() {
        let total = Arc::default();
        let mut cache = TopicCache::new(&total);
        for number in 0..10_000 {
            cache.insert(&topic(&format!("t/{number}"), 0));
            assert!(cache.topics.as_ref().unwrap().len() <= MAX_TOPICS);
        }
    }

    #[test]
    fn when_the_broker_is_full_nothing_more_is_remembered() {
        let total = Arc::new(AtomicUsize::new(MAX_ROUTES));
        let mut cache = TopicCache::new(&total);
        cache.insert(&topic("t", 1));
        assert!(cache.get("t").is_none());
        assert_eq!(total.load(Relaxed), MAX_ROUTES);
    }
}
