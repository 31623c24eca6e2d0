//! The topic index: who wants a message that is published to a topic.
//!
//! Overlapping subscriptions of one session become one delivery with the highest QoS and every subscription identifier;
//! a shared group becomes one delivery to one of its members.

use std::sync::Arc;

use ahash::HashMap;
use weir_mqtt::{QoS, SubscriptionFilter, SubscriptionId, TopicTree};

use super::index_changes::IndexChanges;
use super::message::Message;
use super::shared_groups::{Group, Strategies};

/// Identifies a session for as long as the process lives.
pub type SessionKey = u64;

/// How a session wants the messages of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The highest QoS of deliveries.
    pub qos: QoS,
    /// Not what the session itself published.
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// The subscription identifier.
    pub id: Option<SubscriptionId>,
}

/// One subscription in the index.
#[derive(Clone, Debug)]
struct Subscriber<H> {
    key: SessionKey,
    handle: H,
    options: SubscriptionOptions,
    /// The group of a shared subscription.
    group: Option<Arc<Group>>,
}

/// Filters to subscribers. `H` is whatever leads to a session.
#[derive(Debug)]
pub struct Index<H> {
    tree: TopicTree<Subscriber<H>>,
    /// Every shared group with the number of its members.
    groups: HashMap<SubscriptionFilter, (Arc<Group>, usize)>,
    strategies: Strategies,
    changes: Arc<IndexChanges>,
}

/// How one session gets a message.
#[derive(Clone, Debug)]
pub struct Route<H> {
    /// Whose session it is.
    pub key: SessionKey,
    /// The way to it.
    pub handle: H,
    /// How it wants the message.
    pub terms: Terms,
}

/// The combined wishes of a session's subscriptions that match one topic.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The highest QoS of the delivery.
    pub qos: QoS,
    /// A subscription that matches refuses the session's own messages.
    pub no_local: bool,
    /// The wishes of those that do not, if there are both.
    of_others: Option<Box<Self>>,
    /// Keep the RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// The identifiers of all subscriptions that match.
    pub subscription_ids: Option<Arc<[SubscriptionId]>>,
    /// The group that shares the subscription.
    pub group: Option<Arc<Group>>,
}

/// A shared group that wants a message.
#[derive(Clone, Debug)]
pub struct GroupRoute<H> {
    /// What the members have in common.
    pub group: Arc<Group>,
    /// The members, in the order of their keys.
    pub members: Box<[Route<H>]>,
    keys: Box<[SessionKey]>,
}

/// Everyone who wants the messages of one topic.
#[derive(Clone, Debug)]
pub struct Routes<H> {
    /// Sessions with plain subscriptions; each at most once.
    pub sessions: Box<[Route<H>]>,
    /// Shared groups; each gets one copy.
    pub groups: Box<[GroupRoute<H>]>,
}

impl<H> GroupRoute<H> {
    /// The members in the order in which they should be tried for one message. To be asked for once for each message.
    pub fn turn(&self, message: &Message) -> impl Iterator<Item = &Route<H>> + Clone + use<'_, H> {
        let first = self.group.first(&self.keys, message);
        self.members[first..].iter().chain(&self.members[..first])
    }
}

impl<H> Routes<H> {
    /// Whether nobody wants the topic.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.groups.is_empty()
    }
}

impl<H> Default for Index<H> {
    fn default() -> Self {
        Self {
            tree: TopicTree::default(),
            groups: HashMap::default(),
            strategies: Strategies::default(),
            changes: Arc::default(),
        }
    }
}

impl<H: Clone> Index<H> {
    /// Nothing yet; groups will choose among their members like this. What changes is noted in `changes`.
    pub fn new(strategies: Strategies, changes: Arc<IndexChanges>) -> Self {
        Self {
            strategies,
            changes,
            ..Self::default()
        }
    }

    /// Whether nobody has subscribed to anything.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty() && self.groups.is_empty()
    }

    /// Adds or replaces a session's subscription; true when it is new.
    pub fn subscribe(
        &mut self,
        key: SessionKey,
        handle: H,
        filter: &SubscriptionFilter,
        options: SubscriptionOptions,
    ) -> bool {
        let existed = self.unsubscribe(key, filter);
        self.restore(key, handle, filter, options);
        !existed
    }

    /// Adds a subscription of a session that does not have it: it is not looked for among those that others have.
    pub fn restore(
        &mut self,
        key: SessionKey,
        handle: H,
        filter: &SubscriptionFilter,
        options: SubscriptionOptions,
    ) {
        self.changes.note(filter);
        let group = filter.share.is_some().then(|| self.join(filter));
        self.tree.insert(
            &filter.filter,
            Subscriber {
                key,
                handle,
                options,
                group,
            },
        );
    }

    fn join(&mut self, name: &SubscriptionFilter) -> Arc<Group> {
        let new = || (Group::new(name.clone(), &self.strategies), 0);
        let (group, members) = self.groups.entry(name.clone()).or_insert_with(new);
        *members += 1;
        Arc::clone(group)
    }

    /// Removes a session's subscription; false when there was none.
    pub fn unsubscribe(&mut self, key: SessionKey, filter: &SubscriptionFilter) -> bool {
        let name = filter.share.is_some().then_some(filter);
        let same = |subscriber: &Subscriber<H>| {
            let group = subscriber.group.as_ref().map(|group| &group.name);
            subscriber.key == key && group == name
        };
        let removed = self.tree.remove(&filter.filter, same).is_some();
        if removed {
            self.changes.note(filter);
        }
        if removed && let Some((_, members)) = self.groups.get_mut(filter) {
            *members -= 1;
            if *members == 0 {
                self.groups.remove(filter);
            }
        }
        removed
    }

    /// Everyone who wants what is published to `topic`.
    pub fn routes(&self, topic: &str) -> Routes<H> {
        let mut plain: Vec<&Subscriber<H>> = Vec::with_capacity(8);
        let mut shared: Vec<(&Arc<Group>, Vec<Route<H>>)> = Vec::new();
        self.tree
            .matching(topic, |subscriber| match &subscriber.group {
                None => plain.push(subscriber),
                Some(group) => {
                    let route = Route {
                        key: subscriber.key,
                        handle: subscriber.handle.clone(),
                        terms: Terms::of(std::slice::from_ref(&subscriber)),
                    };
                    match shared
                        .iter_mut()
                        .find(|(known, _)| Arc::ptr_eq(known, group))
                    {
                        Some((_, members)) => members.push(route),
                        None => shared.push((group, vec![route])),
                    }
                }
            });
        // Stable: a session's subscriptions stay in the order in which the tree gave them.
        plain.sort_by_key(|subscriber| subscriber.key);
        let mut sessions = Vec::with_capacity(plain.len());
        sessions.extend(
            plain
                .chunk_by(|one, other| one.key == other.key)
                .map(|same| Route {
                    key: same[0].key,
                    handle: same[0].handle.clone(),
                    terms: Terms::of(same),
                }),
        );
        let sessions = sessions.into_boxed_slice();
        let groups = shared
            .into_iter()
            .map(|(group, mut members)| {
                members.sort_by_key(|route| route.key);
                GroupRoute {
                    group: Arc::clone(group),
                    keys: members.iter().map(|route| route.key).collect(),
                    members: members.into(),
                }
            })
            .collect();
        Routes { sessions, groups }
    }
}

impl Terms {
    /// `[MQTT-3.3.4-2]` One delivery for several subscriptions: the highest QoS, and the identifier of each that has one.
    fn of<H>(subscribers: &[&Subscriber<H>]) -> Self {
        let mut terms = Self {
            qos: QoS::AtMostOnce,
            no_local: false,
            of_others: None,
            retain_as_published: false,
            subscription_ids: None,
            group: subscribers.first().and_then(|one| one.group.clone()),
        };
        for subscriber in subscribers {
            terms.qos = terms.qos.max(subscriber.options.qos);
            terms.no_local |= subscriber.options.no_local;
            terms.retain_as_published |= subscriber.options.retain_as_published;
        }
        if terms.no_local {
            let mut others = subscribers.to_vec();
            others.retain(|subscriber| !subscriber.options.no_local);
            terms.of_others = (!others.is_empty()).then(|| Box::new(Self::of(&others)));
        }
        let ids: Vec<SubscriptionId> = subscribers
            .iter()
            .filter_map(|subscriber| subscriber.options.id)
            .collect();
        terms.subscription_ids = (!ids.is_empty()).then(|| ids.into());
        terms
    }

    /// How the session gets what it has published itself, if at all. `[MQTT-3.8.3-3]`
    pub fn for_own(&self) -> Option<&Self> {
        if self.no_local {
            self.of_others.as_deref()
        } else {
            Some(self)
        }
    }

    /// The terms of one subscription alone.
    pub fn single(options: SubscriptionOptions) -> Self {
        Self {
            qos: options.qos,
            no_local: options.no_local,
            of_others: None,
            retain_as_published: options.retain_as_published,
            subscription_ids: options.id.map(|id| Arc::from([id])),
            group: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(qos: QoS, id: Option<u32>) -> SubscriptionOptions {
        let id = id.and_then(SubscriptionId::new);
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            id,
        }
    }

    fn filter(text: &str) -> SubscriptionFilter {
        SubscriptionFilter::parse(text).unwrap()
    }

    #[test]
    fn overlapping_subscriptions_of_one_session_are_one_delivery() {
        let mut index = Index::default();
        index.subscribe(
            1,
            "alice",
            &filter("a/+"),
            options(QoS::AtMostOnce, Some(7)),
        );
        index.subscribe(
            1,
            "alice",
            &filter("a/#"),
            options(QoS::ExactlyOnce, Some(8)),
        );
        index.subscribe(1, "alice", &filter("b"), options(QoS::ExactlyOnce, Some(9)));
        index.subscribe(2, "bob", &filter("a/b"), options(QoS::AtLeastOnce, None));
        let routes = index.routes("a/b");
        assert_eq!(routes.sessions.len(), 2);
        let alice = routes
            .sessions
            .iter()
            .find(|route| route.handle == "alice")
            .unwrap();
        assert_eq!(alice.terms.qos, QoS::ExactlyOnce);
        let ids = alice.terms.subscription_ids.clone().unwrap();
        let mut ids: Vec<u32> = ids.iter().map(|id| id.get()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [7, 8]);
    }

    #[test]
    fn a_subscription_that_refuses_own_messages_does_not_count_for_them() {
        // [MQTT-3.8.3-3]
        let mut index = Index::default();
        let refusing = SubscriptionOptions {
            no_local: true,
            ..options(QoS::ExactlyOnce, Some(7))
        };
        index.subscribe(1, "alice", &filter("a/+"), refusing);
        let terms = |index: &Index<_>| index.routes("a/b").sessions[0].terms.clone();
        assert!(terms(&index).for_own().is_none());
        index.subscribe(
            1,
            "alice",
            &filter("a/#"),
            options(QoS::AtMostOnce, Some(8)),
        );
        let terms = terms(&index);
        assert_eq!(terms.qos, QoS::ExactlyOnce);
        let own = terms.for_own().unwrap();
        assert_eq!(own.qos, QoS::AtMostOnce);
        let ids: Vec<u32> = own
            .subscription_ids
            .iter()
            .flat_map(|ids| ids.iter())
            .map(|id| id.get())
            .collect();
        assert_eq!(ids, [8]);
    }

    #[test]
    fn subscribing_again_replaces() {
        let mut index = Index::default();
        assert!(index.subscribe(1, "alice", &filter("a"), options(QoS::AtMostOnce, None)));
        assert!(!index.subscribe(1, "alice", &filter("a"), options(QoS::AtLeastOnce, None)));
        let routes = index.routes("a");
        assert_eq!(routes.sessions.len(), 1);
        assert_eq!(routes.sessions[0].terms.qos, QoS::AtLeastOnce);
        assert!(index.unsubscribe(1, &filter("a")));
        assert!(!index.unsubscribe(1, &filter("a")));
        assert!(index.routes("a").is_empty());
    }

    #[test]
    fn a_shared_group_takes_turns_and_is_apart_from_plain_subscriptions() {
        let mut index = Index::default();
        index.subscribe(
            1,
            "alice",
            &filter("$share/g/a"),
            options(QoS::AtMostOnce, None),
        );
        index.subscribe(
            2,
            "bob",
            &filter("$share/g/a"),
            options(QoS::AtMostOnce, None),
        );
        index.subscribe(
            1,
            "alice",
            &filter("$share/h/a"),
            options(QoS::AtMostOnce, None),
        );
        index.subscribe(1, "alice", &filter("a"), options(QoS::AtMostOnce, None));
        let routes = index.routes("a");
        assert_eq!(routes.sessions.len(), 1);
        assert_eq!(routes.groups.len(), 2);
        let group = routes
            .groups
            .iter()
            .find(|group| group.members.len() == 2)
            .unwrap();
        let topic = weir_mqtt::TopicName::new("a").unwrap();
        let message = Message::new(topic, bytes::Bytes::new(), QoS::AtMostOnce, false);
        let first: Vec<_> = (0..4)
            .map(|_| group.turn(&message).next().unwrap().handle)
            .collect();
        assert_eq!(first, ["alice", "bob", "alice", "bob"]);
        assert!(index.unsubscribe(1, &filter("$share/g/a")));
        assert_eq!(
            index.routes("a").sessions.len(),
            1,
            "the plain subscription is another one"
        );
        assert!(index.unsubscribe(2, &filter("$share/g/a")));
        assert_eq!(index.groups.len(), 1, "an empty group is forgotten");
    }
}
