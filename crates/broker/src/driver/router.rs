//! One message to everyone who wants it: rules, retained messages, subscribers, shared groups.
//!
//! A router belongs to one publisher. It remembers where topics lead, and whom it has to wake: each receiver once for
//! all messages of one socket read.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_mqtt::{QoS, Utf8};
use weir_rules::event::{Event, Publish as RulePublish, What};
use weir_sinks::{Claim, Owed};

use super::Shared;
use super::events::{self, Receiver, Watch};
use super::flush;
use super::handle::{SessionHandle, Slot};
use super::opening::Opening;
use super::topic_cache::{Topic, TopicCache};
use crate::auth::authorizer::Verdicts;
use crate::auth::{PublishVerdict, Subject};
use crate::core::delivery::Delivery;
use crate::core::message::{Fanout, Message};
use crate::core::persist::Persist;
use crate::core::retained::Set;
use crate::core::shared_groups::Orphan;
use crate::core::subscriptions::{GroupRoute, Route, SessionKey, Terms};
use crate::core::{Effects, Millis};
use crate::pipeline::{Accepted, Matched, Room, StoreRoom};
use crate::stats::DropReason;
use crate::store::{Ticket, Waits};

/// What became of a message.
pub(crate) enum Routed {
    /// It went to everyone who wants it; false when nobody does.
    Done(bool),
    /// A sink that blocks has no room: nothing has happened. The message comes back.
    NoRoom(Room, Box<Message>),
    /// Rows would have to be kept, and the store has no room: the same.
    StoreFull(Box<Message>),
}

impl Routed {
    /// The message that was not routed, where its publisher cannot wait; and why.
    pub(crate) fn dropped(self) -> Option<(DropReason, Message)> {
        match self {
            Self::Done(_) => None,
            Self::NoRoom(_, message) => Some((DropReason::SinkFull, *message)),
            Self::StoreFull(message) => Some((DropReason::StoreFull, *message)),
        }
    }
}

/// A publisher's way into the broker.
pub(crate) struct Router {
    pub(super) shared: Arc<Shared>,
    /// The publisher's session, which needs not be woken.
    publisher: Option<SessionKey>,
    /// Who publishes; `None` for the broker itself, which may.
    subject: Option<Arc<Subject>>,
    topics: TopicCache,
    /// Receivers whose outboxes have got something since the last `finish`.
    touched: Vec<Arc<SessionHandle>>,
    /// Receivers whose outboxes hold something until the present step is kept.
    held: Vec<Arc<SessionHandle>>,
    /// What state machines want done.
    pub(crate) effects: Effects,
    /// Which broker events any rule listens to.
    watch: Watch,
    /// What rules republished because of events; routed by the next `finish`.
    made_by_events: Vec<RulePublish>,
    /// Rows for the store; committed by the next `finish`.
    rows: OwedRows,
    /// The first half of message identifiers made here.
    message_id_base: u64,
    messages: u64,
    /// Whether a hook sees messages.
    observed: bool,
    /// Messages come from another broker and go to none.
    local: bool,
    /// Rules have run since the connection last asked.
    pub(super) ran_rules: bool,
    /// To whom a message of this step went, if to anybody else than the publisher or a shared group.
    receiver: Option<SessionKey>,
    /// Where messages are encoded.
    buffer: Vec<u8>,
}

impl Router {
    /// A router for messages from inside.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            message_id_base: shared.next_key(),
            shared: Arc::clone(shared),
            publisher: None,
            subject: None,
            topics: TopicCache::new(&shared.cached_routes),
            touched: Vec::new(),
            held: Vec::new(),
            effects: Effects::default(),
            watch: Watch::default(),
            made_by_events: Vec::new(),
            rows: OwedRows {
                shared: Arc::clone(shared),
                owed: Vec::new(),
            },
            messages: 0,
            observed: shared.hooks.messages.is_some(),
            local: false,
            ran_rules: false,
            receiver: None,
            buffer: Vec::new(),
        }
    }

    /// A router for messages that come from another broker.
    pub(crate) fn of_elsewhere(shared: &Arc<Shared>) -> Self {
        Self {
            local: true,
            ..Self::new(shared)
        }
    }

    /// A router for the messages of one session.
    pub(crate) fn of_session(
        shared: &Arc<Shared>,
        session: SessionKey,
        subject: Arc<Subject>,
    ) -> Self {
        Self {
            publisher: Some(session),
            subject: Some(subject),
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

    /// Publishes: rules first, and only if they have room for what they make of it everyone else. What the store has no
    /// room for waits in the line.
    pub(crate) fn publish(&mut self, now: Millis, message: Message) -> Routed {
        let topic = self.topic(&message.topic);
        self.publish_to(now, message, topic, StoreRoom::Given)
    }

    /// The same for a message whose way is known.
    pub(crate) fn publish_to(
        &mut self,
        now: Millis,
        message: Message,
        mut topic: Arc<Topic>,
        store: StoreRoom,
    ) -> Routed {
        self.watch();
        let capture = self.shared.capture.clone();
        let _passing = capture.as_ref().and_then(|capture| {
            let passing = (topic.captured || topic.matched.is_some()).then(|| capture.pass());
            // Looked up once more: from now on no hand-over changes the answer.
            topic = self.topic(&message.topic);
            passing
        });
        let mut republished = Vec::new();
        if let Some(matched) = &topic.matched {
            self.ran_rules |= matched.may_take_long(message.payload.len());
            match self
                .shared
                .pipeline
                .accept(matched, events::rule_publish(&message), store)
            {
                Accepted::Kept { republish, rows } => {
                    republished = republish;
                    self.rows.owed.extend(rows);
                }
                Accepted::NoRoom(room) => return Routed::NoRoom(room, Box::new(message)),
                Accepted::StoreFull => return Routed::StoreFull(Box::new(message)),
            }
        }
        let reached = self.distribute(message, topic) || !republished.is_empty();
        self.distribute_republished(now, republished);
        Routed::Done(reached)
    }

    /// The same for a message that came over a bridge. Rules on the bridge see it first; it goes to nobody else where it is
    /// not to be published.
    pub(crate) fn publish_ingress(
        &mut self,
        now: Millis,
        message: Message,
        ingress: Option<(&Matched, Event)>,
        is_published: bool,
    ) -> Routed {
        let capture = self.shared.capture.clone();
        let passing = capture.as_ref().map(|capture| capture.pass());
        let looked_up;
        let ingress = match (ingress, &passing) {
            // Looked up once more: from now on no hand-over changes the answer.
            (Some((_, event)), Some(_)) => {
                looked_up = match &event.what {
                    What::Ingress { source, .. } => source
                        .as_str()
                        .and_then(|source| self.shared.pipeline.matched_bridge(source)),
                    _ => None,
                };
                looked_up.as_deref().map(|matched| (matched, event))
            }
            (ingress, _) => ingress,
        };
        let Some((matched, event)) = ingress else {
            drop(passing);
            if is_published {
                return self.publish(now, message);
            }
            return Routed::Done(false);
        };
        self.watch();
        self.ran_rules |= matched.may_take_long(message.payload.len());
        let publish = is_published.then(|| events::rule_publish(&message));
        let waits = message.qos > QoS::AtMostOnce;
        match self
            .shared
            .pipeline
            .accept_ingress(matched, event, publish, waits)
        {
            Accepted::Kept { republish, rows } => {
                self.rows.owed.extend(rows);
                if is_published {
                    let topic = self.topic(&message.topic);
                    self.distribute(message, topic);
                }
                self.distribute_republished(now, republish);
                Routed::Done(true)
            }
            Accepted::NoRoom(room) => Routed::NoRoom(room, Box::new(message)),
            Accepted::StoreFull => Routed::StoreFull(Box::new(message)),
        }
    }

    /// Whether a message leaves something in the storage, which has no room. Rows of sinks are not looked at: what rules make
    /// of it is not known yet.
    pub(crate) fn finds_store_full(&self, qos: QoS, retain: bool, topic: &Topic) -> bool {
        let is_kept = |route: &Route<Arc<SessionHandle>>| route.handle.lock().session.is_durable();
        let routes = &topic.routes;
        self.shared.store.is_full()
            && (retain
                || qos > QoS::AtMostOnce
                    && (routes.sessions.iter().any(is_kept)
                        || routes
                            .groups
                            .iter()
                            .any(|group| group.members.iter().any(is_kept))))
    }

    /// Whether the publisher may publish to `topic`, whose name is `name`.
    pub(crate) fn verdict(
        &mut self,
        topic: &Topic,
        name: &str,
        qos: QoS,
        retain: bool,
    ) -> PublishVerdict {
        let Some(subject) = &self.subject else {
            return PublishVerdict::Allow;
        };
        let mut asked = false;
        let verdict = topic.verdicts.of(qos, retain, || {
            asked = true;
            self.shared.may_publish(subject, name, qos, retain)
        });
        if asked {
            self.tell_authorized("publish", name, verdict == PublishVerdict::Allow);
        }
        verdict
    }

    /// Tells that the access list was asked about this client.
    pub(crate) fn tell_authorized(&mut self, action: &'static str, topic: &str, allowed: bool) {
        if self.watch().authorized
            && let Some(subject) = &self.subject
        {
            let event = events::authorized(subject, action, topic, allowed);
            self.observe(event);
        }
    }

    /// Publishes what the broker says of itself. Nothing is told about it: it is no news that nobody listens.
    pub(super) fn publish_system(&mut self, now: Millis, message: Message) {
        let watch = std::mem::take(&mut self.watch);
        let capture = self.shared.capture.clone();
        let _passing = capture.as_ref().map(|capture| capture.pass());
        let topic = self.topic(&message.topic);
        let mut republished = Vec::new();
        if let Some(matched) = &topic.matched
            && let Accepted::Kept { republish, rows } = self.shared.pipeline.accept(
                matched,
                events::rule_publish(&message),
                StoreRoom::Given,
            )
        {
            republished = republish;
            self.rows.owed.extend(rows);
        }
        self.distribute(message, topic);
        self.distribute_republished(now, republished);
        self.watch = watch;
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
        let (republished, rows) = self.shared.pipeline.observe(event);
        self.made_by_events.extend(republished);
        self.rows.owed.extend(rows);
    }

    /// Where `name` leads now.
    pub(crate) fn topic(&mut self, name: &Utf8) -> Arc<Topic> {
        let rules_generation = self.shared.pipeline.generation();
        let access_generation = self.shared.authorizer.generation();
        if let Some(topic) = self.topics.get(name)
            && topic.rules_generation == rules_generation
            && topic.access_generation == access_generation
            && topic.leads_on(self.shared.index_changes())
        {
            return Arc::clone(topic);
        }
        let (index_generation, routes) = self.shared.routes(name);
        let matched = self.shared.pipeline.matched(name);
        let capture = self.shared.capture.as_ref();
        let topic = Arc::new(Topic {
            captured: capture.is_some_and(|capture| capture.wants(name)),
            name: name.detached(),
            index_generation: AtomicU64::new(index_generation),
            index_parts: self.shared.index_changes().parts_of(name),
            rules_generation,
            access_generation,
            verdicts: Verdicts::default(),
            routes,
            matched,
        });
        self.topics.insert(&topic);
        topic
    }

    /// To subscribers, sessions and the retained messages; false when nobody wanted it.
    fn distribute(&mut self, message: Message, topic: Arc<Topic>) -> bool {
        if self.observed {
            self.shared.hooks.message_accepted(&message, !self.local);
        }
        if topic.captured
            && let Some(capture) = &self.shared.capture
        {
            capture.record(&message);
        }
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
        let mut reached = topic.matched.is_some() || !topic.routes.groups.is_empty();
        // The youngest: those who want everything have mostly been here before.
        let mut youngest = topic.routes.sessions.iter().rev();
        let youngest = youngest.find(|route| Some(route.key) != self.publisher);
        self.receiver = youngest.map(|route| route.key).or(self.receiver);
        let buffer = std::mem::take(&mut self.buffer);
        let mut fanout = Fanout::with(message, &topic.name, buffer);
        for route in &topic.routes.sessions {
            // [MQTT-3.8.3-3]
            let own = || fanout.message().origin.client_id == route.handle.client_id;
            let terms = if route.terms.no_local && own() {
                route.terms.for_own()
            } else {
                Some(&route.terms)
            };
            reached |= terms.is_none_or(|terms| self.deliver(route, terms, &mut fanout));
        }
        for group in &topic.routes.groups {
            self.deliver_to_group(group, &mut fanout);
        }
        if !reached && self.watch.dropped {
            self.tell_dropped(fanout.message(), "no_subscribers");
        }
        self.buffer = fanout.into_buffer();
        reached
    }

    /// Sets or deletes the retained message. A subscription that comes at the same time gets either the retained or the
    /// live message: the way of the live one is looked up before new subscriptions may look at the retained ones again.
    fn retain(&mut self, message: &Message, topic: Arc<Topic>) -> Arc<Topic> {
        let shared = Arc::clone(&self.shared);
        let mut retained = shared.retained.write();
        let set = retained.set(message);
        let change = retained.changes();
        match set {
            // What the broker says of itself is said again after a start.
            Set::Kept(message) if message.topic.starts_with("$SYS/") => {}
            Set::Kept(message) => self
                .effects
                .persist
                .push(Persist::Retained { message, change }),
            Set::Cleared => self.effects.persist.push(Persist::RetainedCleared {
                topic: message.topic.detached(),
                change,
            }),
            Set::Nothing => {}
            Set::Full { cleared } => {
                self.shared.stats.dropped(DropReason::RetainedFull, 1);
                if cleared {
                    self.effects.persist.push(Persist::RetainedCleared {
                        topic: message.topic.detached(),
                        change,
                    });
                }
            }
        }
        shared.gauge_retained(&retained);
        if topic.leads_on(shared.index_changes()) {
            topic
        } else {
            self.topic(&message.topic)
        }
    }

    /// Hands a message to one client if it has subscribed to the topic; false when it has not.
    pub(crate) fn deliver_to(&mut self, client_id: &str, message: Message) -> bool {
        let (_, routes) = self.shared.routes(&message.topic);
        let members = routes.groups.iter().flat_map(|group| &group.members);
        let fanout = &mut Fanout::new(message);
        // The session before the present one may have filters that are yet to leave the index.
        let all = routes.sessions.iter().chain(members);
        all.filter(|route| route.handle.client_id.as_str() == client_id)
            .any(|route| self.deliver(route, &route.terms, fanout))
    }

    /// The same for a message of `QoS` 0 that is the client's secret: no rule is told what becomes of it.
    pub(super) fn deliver_untold(&mut self, client_id: &str, message: Message) {
        let watch = std::mem::take(&mut self.watch);
        self.deliver_to(client_id, message);
        self.watch = watch;
    }

    /// False when the session has ended, with filters that are yet to leave the index: that is no subscriber.
    fn deliver(
        &mut self,
        route: &Route<Arc<SessionHandle>>,
        terms: &Terms,
        fanout: &mut Fanout<'_>,
    ) -> bool {
        let mut slot = route.handle.lock();
        if slot.ended {
            return false;
        }
        let (delivery, signal) = self.hand(&mut slot, terms, fanout);
        self.note_held(&route.handle, &mut slot);
        drop(slot);
        self.delivered(route, fanout, delivery, signal);
        true
    }

    /// Notes a receiver that has got something which leaves only when the present step is kept.
    pub(super) fn note_held(&mut self, handle: &Arc<SessionHandle>, slot: &mut Slot) {
        let noted = |last: &Arc<SessionHandle>| Arc::ptr_eq(last, handle);
        if self.effects.hold.is_some()
            && slot.session.outbox().is_held()
            && !self.held.last().is_some_and(noted)
        {
            self.held.push(Arc::clone(handle));
        }
    }

    /// Into the session; the second value: whether its connection must be woken.
    fn hand(
        &mut self,
        slot: &mut Slot,
        terms: &Terms,
        fanout: &mut Fanout<'_>,
    ) -> (Delivery, bool) {
        let delivery = slot.session.deliver(fanout, terms, &mut self.effects);
        (delivery, slot.session.outbox().signal())
    }

    fn delivered(
        &mut self,
        route: &Route<Arc<SessionHandle>>,
        fanout: &Fanout<'_>,
        delivery: Delivery,
        signal: bool,
    ) {
        if signal {
            self.touched.push(Arc::clone(&route.handle));
        }
        match delivery {
            Delivery::Sent if self.watch.delivered => {
                let subject = route.handle.lock().subject.clone();
                self.tell_receiver(
                    &events::DELIVERED,
                    fanout.message(),
                    Receiver {
                        client_id: &route.handle.client_id,
                        subject: subject.as_deref(),
                    },
                    None,
                );
            }
            Delivery::Sent | Delivery::Queued => {}
            Delivery::Dropped(reason) => {
                self.shared.stats.dropped(reason, 1);
                if self.watch.delivery_dropped {
                    let name = Some(reason.name());
                    let subject = route.handle.lock().subject.clone();
                    self.tell_receiver(
                        &events::DELIVERY_DROPPED,
                        fanout.message(),
                        Receiver {
                            client_id: &route.handle.client_id,
                            subject: subject.as_deref(),
                        },
                        name,
                    );
                }
            }
        }
    }

    /// One copy for the group: to the next member that is connected, else into the queue of one that will be back.
    fn deliver_to_group(
        &mut self,
        group: &GroupRoute<Arc<SessionHandle>>,
        fanout: &mut Fanout<'_>,
    ) {
        let turn = group.turn(fanout.message());
        let mut refused = None;
        for connected in [true, false] {
            for route in turn.clone() {
                let mut slot = route.handle.lock();
                let session = &slot.session;
                let may_have = session.is_connected() == connected
                    && (connected || session.is_durable())
                    && !slot.ended;
                if !may_have {
                    continue;
                }
                let (delivery, signal) = self.hand(&mut slot, &route.terms, fanout);
                self.note_held(&route.handle, &mut slot);
                drop(slot);
                match delivery {
                    Delivery::Dropped(reason) => {
                        if signal {
                            self.touched.push(Arc::clone(&route.handle));
                        }
                        refused = refused.or(Some((route, reason)));
                    }
                    Delivery::Sent | Delivery::Queued => {
                        group.group.chose(route.key);
                        return self.delivered(route, fanout, delivery, signal);
                    }
                }
            }
        }
        // Dropped once, whoever else had no room.
        let ended = || {
            let first = turn.clone().next()?;
            Some((first, DropReason::SessionEnded))
        };
        if let Some((route, reason)) = refused.or_else(ended) {
            self.delivered(route, fanout, Delivery::Dropped(reason), false);
        }
    }

    /// A member's session has ended with a message that it had not acknowledged: to another member.
    fn deliver_again(&mut self, now: Millis, Orphan { group, message }: Orphan) {
        let topic = self.topic(&message.topic);
        let mut groups = topic.routes.groups.iter();
        match groups.find(|route| route.group.name == group.name) {
            Some(_) if message.is_expired(now) => self.drop_message(DropReason::Expired, &message),
            Some(route) => {
                let mut message = Message::clone(&message);
                message.properties = message.properties_at(now);
                let mut fanout = Fanout::new(message);
                self.deliver_to_group(route, &mut fanout);
            }
            None => self.drop_message(DropReason::SessionEnded, &message),
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
        receiver: Receiver<'_>,
        reason: Option<&'static str>,
    ) {
        self.observe(events::of_receiver(name, message, receiver, reason, None));
    }

    /// The end of a step, such as one socket read: hands what must be kept to the store, counts what was dropped, and
    /// wakes every receiver once. The ticket says when all of it would survive a crash.
    pub(crate) fn finish(&mut self, now: Millis) -> Ticket {
        self.finish_for(now, Waits::Somebody)
    }

    /// The same; `waits`: who has a use for the ticket. What is held until the step is kept waits in any case.
    pub(crate) fn finish_for(&mut self, now: Millis, waits: Waits) -> Ticket {
        if !self.made_by_events.is_empty() {
            // Nothing is told of these messages: an event that causes a message that causes the event would never end.
            let watch = std::mem::take(&mut self.watch);
            let republished = std::mem::take(&mut self.made_by_events);
            self.distribute_republished(now, republished);
            self.watch = watch;
        }
        for orphan in std::mem::take(&mut self.effects.orphans) {
            self.deliver_again(now, orphan);
        }
        for (reason, message) in std::mem::take(&mut self.effects.dropped) {
            self.shared.stats.dropped(reason, 1);
            if self.watch.dropped {
                self.tell_dropped(&message, reason.name());
            }
        }
        let claims = self.rows.take_into(&mut self.effects.persist);
        let waits = match &self.effects.hold {
            Some(_) => Waits::Somebody,
            None => waits,
        };
        let ticket = if self.effects.persist.is_empty() {
            Ticket::ready()
        } else {
            self.shared
                .store
                .commit_with(&mut self.effects.persist, claims, waits)
        };
        if let Some(hold) = self.effects.hold.take() {
            let held = std::mem::take(&mut self.held);
            if ticket.is_ready() {
                hold.open();
                self.touched.extend(held);
            } else {
                Opening::when_kept(hold, ticket.clone(), held);
            }
        }
        if let Some(receiver) = self.receiver.take() {
            flush::note_receiver(receiver);
        }
        // Only now: what a receiver says of a message stands behind the message itself, where that can be had.
        self.wake();
        ticket
    }

    /// Wakes every receiver that has got something.
    pub(crate) fn wake(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let publisher = self.publisher;
        // A publisher looks at its own outbox anyway.
        let others = |handle: &Arc<SessionHandle>| Some(handle.key) != publisher;
        flush::owe(self.touched.drain(..).filter(others));
    }

    /// Gives memory back after a while without messages.
    pub(crate) fn shrink(&mut self) {
        self.topics.clear();
        self.buffer = Vec::new();
        self.touched = Vec::new();
        self.effects.persist = Vec::new();
    }
}

/// Rows of durable sinks that are to be committed: at the latest when their router goes.
struct OwedRows {
    shared: Arc<Shared>,
    owed: Vec<Owed>,
}

impl OwedRows {
    /// Puts the rows into a batch; the claims are told what becomes of it.
    fn take_into(&mut self, batch: &mut Vec<Persist>) -> Vec<Claim> {
        into_batch(std::mem::take(&mut self.owed), batch)
    }
}

/// Puts rows into a batch; gives who is to hear what becomes of it.
pub(crate) fn into_batch(owed: Vec<Owed>, batch: &mut Vec<Persist>) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for Owed { queue, rows, claim } in owed {
        batch.extend(rows.into_iter().map(|row| Persist::Row { queue, row }));
        // Each message has made its own; a sink hears of them once.
        match claims.iter_mut().find(|known| known.is_of_queue_of(&claim)) {
            Some(known) => known.join(claim),
            None => claims.push(claim),
        }
    }
    claims
}

impl Drop for OwedRows {
    fn drop(&mut self) {
        if !self.owed.is_empty() {
            let mut batch = Vec::new();
            let claims = self.take_into(&mut batch);
            let store = &self.shared.store;
            drop(store.commit_with(&mut batch, claims, Waits::Nobody));
        }
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

#[cfg(test)]
pub(super) mod tests;
