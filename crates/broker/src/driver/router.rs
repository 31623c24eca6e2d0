//! One message to everyone who wants it: rules, retained messages, subscribers, shared groups.
//!
//! A router belongs to one publisher. It remembers where topics lead, and whom it has to wake: each receiver once for
//! all messages of one socket read.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::HashMap;
use weir_mqtt::{QoS, Utf8};
use weir_rules::event::{Event, Publish as RulePublish};

use super::Shared;
use super::events::{self, Watch};
use super::handle::SessionHandle;
use crate::core::delivery::Delivery;
use crate::core::message::{Fanout, Message};
use crate::core::persist::Persist;
use crate::core::retained::Set;
use crate::core::subscriptions::{GroupRoute, Route, Routes, SessionKey};
use crate::core::{Effects, Millis};
use crate::pipeline::{Accepted, Matched, Room};
use crate::stats::DropReason;
use crate::store::Ticket;

/// Topics that a router remembers at most; devices publish to few.
const MAX_TOPICS: usize = 256;

/// Where one topic leads, as long as both generations are the present ones.
struct Topic {
    index_generation: u64,
    rules_generation: u64,
    routes: Routes<Arc<SessionHandle>>,
    matched: Option<Arc<Matched>>,
}

/// What became of a message.
pub(crate) enum Routed {
    /// It went to everyone who wants it; false when nobody does.
    Done(bool),
    /// A sink that blocks has no room: nothing has happened. The message comes back.
    NoRoom(Room, Box<Message>),
}

/// A publisher's way into the broker.
pub(crate) struct Router {
    shared: Arc<Shared>,
    /// The publisher's session, for `no_local`.
    publisher: Option<SessionKey>,
    topics: HashMap<Utf8, Arc<Topic>>,
    /// Receivers whose outboxes have got something since the last `finish`.
    touched: Vec<Arc<SessionHandle>>,
    /// What state machines want done.
    pub(crate) effects: Effects,
    /// Which broker events any rule listens to.
    watch: Watch,
    /// What rules republished because of events; routed by the next `finish`.
    made_by_events: Vec<RulePublish>,
    /// The first half of message identifiers made here.
    message_id_base: u64,
    messages: u64,
}

impl Router {
    /// A router for messages from inside.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            message_id_base: shared.next_key(),
            shared: Arc::clone(shared),
            publisher: None,
            topics: HashMap::default(),
            touched: Vec::new(),
            effects: Effects::default(),
            watch: Watch::default(),
            made_by_events: Vec::new(),
            messages: 0,
        }
    }

    /// A router for the messages of one session.
    pub(crate) fn of_session(shared: &Arc<Shared>, session: SessionKey) -> Self {
        Self {
            publisher: Some(session),
            ..Self::new(shared)
        }
    }

    /// Which broker events any rule listens to now.
    pub(crate) fn watch(&mut self) -> &Watch {
        self.watch.refresh(&self.shared.pipeline);
        self.effects.watch_deliveries = self.watch.delivered;
        &self.watch
    }

    /// An identifier for a message that is accepted now: time, publisher, count.
    pub(crate) fn message_id(&mut self, now: Millis) -> u128 {
        self.messages += 1;
        u128::from(now) << 80
            | u128::from(self.message_id_base & 0xFF_FFFF_FFFF) << 40
            | u128::from(self.messages & 0xFF_FFFF_FFFF)
    }

    /// Publishes: rules first, and only if they have room for what they make of it everyone else.
    pub(crate) fn publish(&mut self, now: Millis, message: Message) -> Routed {
        self.watch();
        let topic = self.topic(&message.topic);
        let mut republished = Vec::new();
        if let Some(matched) = &topic.matched {
            match self
                .shared
                .pipeline
                .accept(matched, events::rule_publish(&message))
            {
                Accepted::Kept { republish } => republished = republish,
                Accepted::NoRoom(room) => return Routed::NoRoom(room, Box::new(message)),
            }
        }
        let reached = self.distribute(message, topic) || !republished.is_empty();
        self.distribute_republished(now, republished);
        Routed::Done(reached)
    }

    /// Publishes a Will. One that finds no room in a sink is dropped and counted: there is nobody to wait.
    pub(crate) fn publish_will(&mut self, now: Millis, will: crate::core::will::Will) {
        let mut message = will.into_message(now);
        message.id = self.message_id(now);
        message.accepted_at = now;
        if let Routed::NoRoom(_, message) = self.publish(now, message) {
            self.drop_message(DropReason::SinkFull, &message);
        }
    }

    fn distribute_republished(&mut self, now: Millis, republished: Vec<RulePublish>) {
        for publish in republished {
            let Some(message) = events::message_of(publish, now) else {
                continue;
            };
            let topic = self.topic(&message.topic);
            self.distribute(message, topic);
        }
    }

    /// Tells the rules of a broker event. What they republish is routed by the next `finish`.
    pub(crate) fn observe(&mut self, event: Event) {
        self.made_by_events
            .extend(self.shared.pipeline.observe(event));
    }

    /// Where `name` leads now.
    fn topic(&mut self, name: &Utf8) -> Arc<Topic> {
        let rules_generation = self.shared.pipeline.generation();
        if let Some(topic) = self.topics.get(&**name)
            && topic.rules_generation == rules_generation
            && topic.index_generation == self.shared.index_generation()
        {
            return Arc::clone(topic);
        }
        let (index_generation, routes) = self.shared.routes(name);
        let matched = self.shared.pipeline.matched(name);
        let topic = Arc::new(Topic {
            index_generation,
            rules_generation,
            routes,
            matched,
        });
        if self.topics.len() >= MAX_TOPICS {
            self.topics.clear();
        }
        self.topics.insert(name.detached(), Arc::clone(&topic));
        topic
    }

    /// To subscribers, sessions and the retained messages; false when nobody wanted it.
    fn distribute(&mut self, message: Message, topic: Arc<Topic>) -> bool {
        let topic = if message.retain {
            self.retain(&message, topic)
        } else {
            topic
        };
        if topic.routes.is_empty() {
            if self.watch.dropped && topic.matched.is_none() {
                self.tell_dropped(&message, "no_subscribers");
            }
            return topic.matched.is_some();
        }
        let mut fanout = Fanout::new(message);
        for route in &topic.routes.sessions {
            // [MQTT-3.8.3-3]
            if !(route.terms.no_local && Some(route.key) == self.publisher) {
                self.deliver(route, &mut fanout);
            }
        }
        for group in &topic.routes.groups {
            self.deliver_to_group(group, &mut fanout);
        }
        true
    }

    /// Sets or deletes the retained message. A subscription that comes at the same time gets either the retained or the
    /// live message: the way of the live one is looked up before new subscriptions may look at the retained ones again.
    fn retain(&mut self, message: &Message, topic: Arc<Topic>) -> Arc<Topic> {
        let shared = Arc::clone(&self.shared);
        let mut retained = shared.retained.write();
        match retained.set(message) {
            Set::Kept(message) => self.effects.persist.push(Persist::Retained { message }),
            Set::Cleared => self.effects.persist.push(Persist::RetainedCleared {
                topic: message.topic.detached(),
            }),
            Set::Nothing => {}
            Set::Full => self.shared.stats.dropped(DropReason::RetainedFull, 1),
        }
        shared.gauge_retained(&retained);
        if topic.index_generation == shared.index_generation() {
            topic
        } else {
            self.topic(&message.topic)
        }
    }

    fn deliver(&mut self, route: &Route<Arc<SessionHandle>>, fanout: &mut Fanout) {
        let (delivery, signal) = {
            let mut slot = route.handle.lock();
            let delivery = slot
                .session
                .deliver(fanout, &route.terms, &mut self.effects);
            (delivery, slot.session.outbox().signal())
        };
        self.delivered(route, fanout, delivery, signal);
    }

    fn delivered(
        &mut self,
        route: &Route<Arc<SessionHandle>>,
        fanout: &Fanout,
        delivery: Delivery,
        signal: bool,
    ) {
        if signal {
            self.touched.push(Arc::clone(&route.handle));
        }
        match delivery {
            Delivery::Sent if self.watch.delivered => {
                self.tell_receiver(
                    &events::DELIVERED,
                    fanout.message(),
                    &route.handle.client_id,
                    None,
                );
            }
            Delivery::Sent | Delivery::Queued => {}
            Delivery::Dropped(reason) => {
                self.shared.stats.dropped(reason, 1);
                if self.watch.delivery_dropped {
                    let name = Some(reason.name());
                    self.tell_receiver(
                        &events::DELIVERY_DROPPED,
                        fanout.message(),
                        &route.handle.client_id,
                        name,
                    );
                }
            }
        }
    }

    /// One copy for the group: to the next member that is connected, else into the queue of one that will be back.
    fn deliver_to_group(&mut self, group: &GroupRoute<Arc<SessionHandle>>, fanout: &mut Fanout) {
        for route in group.turn() {
            let mut slot = route.handle.lock();
            if !slot.session.is_connected() {
                continue;
            }
            let delivery = slot
                .session
                .deliver(fanout, &route.terms, &mut self.effects);
            let signal = slot.session.outbox().signal();
            drop(slot);
            if !matches!(delivery, Delivery::Dropped(_)) {
                return self.delivered(route, fanout, delivery, signal);
            }
        }
        if let Some(route) = group.turn().next() {
            self.deliver(route, fanout);
        }
    }

    /// Counts and tells that a message reaches nobody.
    pub(crate) fn drop_message(&mut self, reason: DropReason, message: &Message) {
        self.shared.stats.dropped(reason, 1);
        if self.watch().dropped {
            self.tell_dropped(message, reason.name());
        }
    }

    fn tell_dropped(&mut self, message: &Message, reason: &'static str) {
        self.observe(events::message_dropped(message, reason));
    }

    /// Tells of a message and one receiver.
    pub(crate) fn tell_receiver(
        &mut self,
        name: &events::Name,
        message: &Message,
        receiver: &Utf8,
        reason: Option<&'static str>,
    ) {
        self.observe(events::of_receiver(name, message, receiver, reason));
    }

    /// The end of a step, such as one socket read: hands what must be kept to the store, counts what was dropped, and
    /// wakes every receiver once. The ticket says when all of it would survive a crash.
    pub(crate) fn finish(&mut self, now: Millis) -> Ticket {
        if !self.made_by_events.is_empty() {
            // Nothing is told of these messages: an event that causes a message that causes the event would never end.
            let watch = std::mem::take(&mut self.watch);
            let republished = std::mem::take(&mut self.made_by_events);
            self.distribute_republished(now, republished);
            self.watch = watch;
        }
        for (reason, message) in std::mem::take(&mut self.effects.dropped) {
            self.shared.stats.dropped(reason, 1);
            if self.watch.dropped {
                self.tell_dropped(&message, reason.name());
            }
        }
        self.wake();
        if self.effects.persist.is_empty() {
            return Ticket::ready();
        }
        self.shared.store.commit(&mut self.effects.persist)
    }

    /// Wakes every receiver that has got something.
    pub(crate) fn wake(&mut self) {
        for handle in self.touched.drain(..) {
            // A publisher looks at its own outbox anyway.
            if Some(handle.key) != self.publisher {
                handle.wake();
            }
        }
    }

    /// Gives memory back after a while without messages.
    pub(crate) fn shrink(&mut self) {
        self.topics = HashMap::default();
        self.touched = Vec::new();
        self.effects.persist = Vec::new();
    }
}

/// Milliseconds since the Unix epoch by the wall clock, for what rules see.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The QoS of a rule's publish.
pub(super) fn qos_of(number: u8) -> QoS {
    QoS::try_from(number).unwrap_or(QoS::AtMostOnce)
}
