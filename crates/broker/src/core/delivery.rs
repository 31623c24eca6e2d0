//! Sending to a client: what goes out now, what waits, what is settled by an acknowledgement.

use std::sync::Arc;

use ahash::HashSet;
use weir_mqtt::{
    AliasUse, Delivery as Wire, PacketId, PubRel, PublishFrame, QoS, SubscriptionFilter,
    SubscriptionId,
};

use super::in_flight::{Awaiting, Entry, Settled};
use super::message::{Fanout, Message};
use super::outbox::Outbox;
use super::persist::Persist;
use super::queue::{Pushed, Waiting};
use super::retained::Retained;
use super::session::{Link, Retrieval, Session};
use super::subscriptions::{SubscriptionOptions, Terms};
use super::{Effects, Millis};
use crate::stats::DropReason;

/// Payloads from here on are not copied into an outbox but shared.
const SHARED_PAYLOAD: usize = 4096;

/// What became of a message that was handed to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the outbox.
    Sent,
    /// It waits in the session.
    Queued,
    /// It will not reach the client.
    Dropped(DropReason),
}

/// Why a frame was not put into the outbox.
enum Unsent {
    /// Not now.
    NoRoom,
    /// Never: the client does not take packets of this size.
    TooLarge,
}

impl Session {
    /// Hands a message to the session: into the outbox, into the queue, or dropped with a reason.
    pub fn deliver(
        &mut self,
        fanout: &mut Fanout<'_>,
        terms: &Terms,
        effects: &mut Effects,
    ) -> Delivery {
        let qos = fanout.message().qos.min(terms.qos);
        // [MQTT-3.3.1-12] [MQTT-3.3.1-13] Only retain-as-published keeps the flag on a live message.
        let retain = fanout.message().retain && terms.retain_as_published;
        if qos == QoS::AtMostOnce {
            return self.deliver_qos0(fanout, retain, ids(&terms.subscription_ids));
        }
        match self.send_at_once(fanout, qos, retain, terms, effects) {
            Ok(()) => Delivery::Sent,
            Err(Unsent::TooLarge) => Delivery::Dropped(DropReason::TooLarge),
            Err(Unsent::NoRoom) => {
                let waiting = self.waiting(fanout, qos, retain, terms);
                self.enqueue(waiting, effects)
            }
        }
    }

    /// A message that the session is owed from now on.
    fn waiting(
        &mut self,
        fanout: &mut Fanout<'_>,
        qos: QoS,
        retain: bool,
        terms: &Terms,
    ) -> Waiting {
        let number = self.next_number;
        self.next_number += 1;
        Waiting {
            message: Arc::clone(fanout.kept()),
            qos,
            retain,
            subscription_ids: terms.subscription_ids.clone(),
            number,
            group: terms.group.clone(),
        }
    }

    fn deliver_qos0(
        &mut self,
        fanout: &mut Fanout<'_>,
        retain: bool,
        ids: &[SubscriptionId],
    ) -> Delivery {
        let Some(link) = self.link else {
            return Delivery::Dropped(DropReason::OfflineQos0);
        };
        let Ok(frame) = fanout.frame(link.version) else {
            return Delivery::Dropped(DropReason::TooLarge);
        };
        let fits = self.check_room(frame, link, QoS::AtMostOnce, ids);
        match fits.and_then(|()| self.put(frame, link, Wire::AtMostOnce, retain, ids)) {
            Ok(()) => Delivery::Sent,
            Err(Unsent::NoRoom) => Delivery::Dropped(DropReason::OutboxFull),
            Err(Unsent::TooLarge) => Delivery::Dropped(DropReason::TooLarge),
        }
    }

    /// Sends a QoS 1 or 2 message if nothing stands before it and the client has room for it.
    fn send_at_once(
        &mut self,
        fanout: &mut Fanout<'_>,
        qos: QoS,
        retain: bool,
        terms: &Terms,
        effects: &mut Effects,
    ) -> Result<(), Unsent> {
        let link = self.link.ok_or(Unsent::NoRoom)?;
        if !self.queue.is_empty() || !self.backlog.is_empty() {
            return Err(Unsent::NoRoom);
        }
        let frame = fanout.frame(link.version).map_err(|_| Unsent::TooLarge)?;
        self.may_start(frame, link, qos, ids(&terms.subscription_ids))?;
        let waiting = self.waiting(fanout, qos, retain, terms);
        let frame = fanout.frame(link.version).map_err(|_| Unsent::TooLarge)?;
        self.hold(qos, effects);
        let id = self.start(frame, link, waiting.clone())?;
        self.note_sent(&waiting, id, effects);
        Ok(())
    }

    /// A QoS 2 message leaves when it is kept that it is owed, and under which identifier, not before: after a crash its
    /// sender would send it anew, under another identifier towards the client, and the client would take it twice; and it
    /// would take the next message under the first identifier for a repetition, and lose it.
    fn hold(&mut self, qos: QoS, effects: &mut Effects) {
        if qos != QoS::ExactlyOnce || !self.is_durable() {
            return;
        }
        self.remember_hold(effects);
        for hold in &self.holds {
            self.outbox.hold(hold);
        }
    }

    /// The present step has to be kept before what the session is owed by it may leave.
    fn remember_hold(&mut self, effects: &mut Effects) {
        self.holds.retain(|hold| !hold.is_open());
        let hold = effects.hold.get_or_insert_default();
        if !self.holds.iter().any(|known| known.is(hold)) {
            self.holds.push(hold.clone());
        }
    }

    /// Whether a message may take a packet identifier and be sent now.
    fn may_start(
        &self,
        frame: &PublishFrame,
        link: Link,
        qos: QoS,
        ids: &[SubscriptionId],
    ) -> Result<(), Unsent> {
        if !self.in_flight.has_room(link.receive_maximum) {
            return Err(Unsent::NoRoom);
        }
        self.check_room(frame, link, qos, ids)
    }

    /// Takes a packet identifier and sends what `may_start` has allowed.
    fn start(
        &mut self,
        frame: &PublishFrame,
        link: Link,
        waiting: Waiting,
    ) -> Result<PacketId, Unsent> {
        let (qos, retain) = (waiting.qos, waiting.retain);
        let subscription_ids = waiting.subscription_ids.clone();
        let id = self.in_flight.start(waiting);
        // What cannot be encoded was refused before.
        self.put(
            frame,
            link,
            wire(qos, id, false),
            retain,
            ids(&subscription_ids),
        )
        .map(|()| id)
    }

    fn check_room(
        &self,
        frame: &PublishFrame,
        link: Link,
        qos: QoS,
        ids: &[SubscriptionId],
    ) -> Result<(), Unsent> {
        let len = frame.len(qos, ids);
        // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
        if len > link.max_packet_size {
            return Err(Unsent::TooLarge);
        }
        let room = self.outbox.has_room(len, self.limits.outbox_bytes);
        if room { Ok(()) } else { Err(Unsent::NoRoom) }
    }

    /// Into the outbox, for which [`check_room`](Self::check_room) has found room.
    fn put(
        &mut self,
        frame: &PublishFrame,
        link: Link,
        wire: Wire,
        retain: bool,
        ids: &[SubscriptionId],
    ) -> Result<(), Unsent> {
        let alias = match &mut self.aliases {
            None => None,
            Some(aliases) => {
                // An alias that is told for the first time makes the packet longer.
                let longest = frame.len(wire.qos(), ids) + AliasUse::PROPERTY_LEN + 2;
                let fits = longest <= link.max_packet_size;
                fits.then(|| aliases.next_use(frame.topic())).flatten()
            }
        };
        let long = frame.payload().len() >= SHARED_PAYLOAD;
        let out = self.outbox.publish(wire.qos(), frame.payload().len());
        let written = match alias {
            None if !long => frame.write(wire, retain, ids, out),
            _ => frame.write_head_aliased(wire, retain, ids, alias, out),
        };
        if long {
            self.outbox.share(frame.payload().clone());
        } else if alias.is_some() {
            out.extend_from_slice(frame.payload());
        }
        written.map_err(|_| Unsent::TooLarge)
    }

    fn enqueue(&mut self, waiting: Waiting, effects: &mut Effects) -> Delivery {
        match self.queue.push(waiting.clone(), self.limits.queue) {
            Pushed::Full => Delivery::Dropped(DropReason::QueueFull),
            Pushed::Kept { evicted } => {
                for evicted in evicted {
                    self.note_settled(evicted.number, effects);
                    effects
                        .dropped
                        .push((DropReason::QueueFull, evicted.message));
                }
                if waiting.qos == QoS::ExactlyOnce && self.is_durable() {
                    self.remember_hold(effects);
                }
                self.note_owed(&waiting, effects);
                Delivery::Queued
            }
        }
    }

    fn note_owed(&self, waiting: &Waiting, effects: &mut Effects) {
        if self.is_durable() {
            let (session, waiting) = (self.id.clone(), waiting.clone());
            effects.persist.push(Persist::Owed { session, waiting });
        }
    }

    /// Owed and sent at once. The client may acknowledge it, and its connection say so, before this is said: then what
    /// is owed must be the last word, so that nothing of the message is left.
    fn note_sent(&self, waiting: &Waiting, packet_id: PacketId, effects: &mut Effects) {
        self.note_in_flight(waiting.number, packet_id, effects);
        self.note_owed(waiting, effects);
    }

    fn note_in_flight(&self, number: u64, packet_id: PacketId, effects: &mut Effects) {
        if self.is_durable() {
            let session = self.id.clone();
            effects.persist.push(Persist::InFlight {
                session,
                number,
                packet_id,
            });
        }
    }

    fn note_released(&self, number: u64, effects: &mut Effects) {
        if self.is_durable() {
            let session = self.id.clone();
            effects.persist.push(Persist::Released { session, number });
        }
    }

    fn note_settled(&self, number: u64, effects: &mut Effects) {
        if self.is_durable() {
            effects.persist.push(Persist::Settled {
                session: self.id.clone(),
                number,
            });
        }
    }

    /// Begins to send the retained messages of new subscriptions, each with another filter. One that was begun before for
    /// the same filter is over: so there are never more of them than subscriptions.
    pub fn retrieve(&mut self, retrievals: Vec<Retrieval>) {
        if !self.backlog.is_empty() {
            let again: HashSet<_> = retrievals.iter().map(|new| new.walk.filter()).collect();
            self.backlog
                .retain(|before| !again.contains(before.walk.filter()));
        }
        self.backlog.extend(retrievals);
    }

    /// Whether retained messages wait, which `refill` can only send with a look at what is retained now.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether there is anything that `refill` could send now or later.
    pub fn has_some_waiting(&self) -> bool {
        !self.in_flight.all_sent() || self.has_backlog() || !self.queue.is_empty()
    }

    /// Whether `refill` could send something as soon as the outbox is taken.
    pub fn has_sendable(&self) -> bool {
        let Some(link) = self.link else { return false };
        self.in_flight.next_unsent(link.receive_maximum).is_some()
            || self.has_backlog()
            || (!self.queue.is_empty() && self.in_flight.has_room(link.receive_maximum))
    }

    /// Sends what waits, as far as the receive maximum and the outbox allow: first what a lost connection left
    /// unacknowledged, then retained messages for new subscriptions, then the queue.
    pub fn refill(&mut self, now: Millis, retained: Option<&Retained>, effects: &mut Effects) {
        let Some(link) = self.link else { return };
        if !self.send_again(now, link, effects) {
            return;
        }
        if let Some(retained) = retained {
            self.send_backlog(now, link, retained, effects);
        }
        if self.backlog.is_empty() {
            self.send_queue(now, link, effects);
        }
    }

    /// `[MQTT-4.4.0-1]` The same packets with their identifiers, in their order; false when some still wait.
    fn send_again(&mut self, now: Millis, link: Link, effects: &mut Effects) -> bool {
        while let Some(entry) = self.in_flight.next_unsent(link.receive_maximum).cloned() {
            match self.repeat(now, link, &entry) {
                Ok(()) => self.in_flight.mark_sent(),
                Err(Unsent::NoRoom) => return false,
                Err(Unsent::TooLarge) => self.give_up_unsent(effects),
            }
        }
        self.in_flight.all_sent()
    }

    fn repeat(&mut self, now: Millis, link: Link, entry: &Entry) -> Result<(), Unsent> {
        let (Awaiting::Ack(message) | Awaiting::Rec(message)) = &entry.awaiting else {
            for hold in &self.holds {
                self.outbox.hold(hold);
            }
            return pubrel(entry.id, link, &mut self.outbox);
        };
        let (qos, ids) = (entry.qos(), ids(&entry.subscription_ids));
        let frame = frame_of(message, now, link)?;
        self.check_room(&frame, link, qos, ids)?;
        if qos == QoS::ExactlyOnce {
            for hold in &self.holds {
                self.outbox.hold(hold);
            }
        }
        // [MQTT-3.3.1-1]
        self.put(&frame, link, wire(qos, entry.id, true), entry.retain, ids)
    }

    /// `[MQTT-3.1.2-25]` As if it had been sent.
    fn give_up_unsent(&mut self, effects: &mut Effects) {
        let Some(entry) = self.in_flight.give_up_unsent() else {
            return;
        };
        let number = entry.number;
        match entry.awaiting {
            Awaiting::Ack(message) => {
                effects.dropped.push((DropReason::TooLarge, message));
                self.note_settled(number, effects);
            }
            Awaiting::Rec(message) => {
                effects.dropped.push((DropReason::TooLarge, message));
                if self.is_durable() {
                    // After a crash the message would be sent again, and the client, which has forgotten the
                    // identifier at PUBREL, would take it twice: so PUBREL leaves when this is kept.
                    self.remember_hold(effects);
                    self.note_released(number, effects);
                }
            }
            Awaiting::Comp => {}
        }
    }

    fn send_backlog(
        &mut self,
        now: Millis,
        link: Link,
        retained: &Retained,
        effects: &mut Effects,
    ) {
        while let Some(mut retrieval) = self.backlog.pop_front() {
            let filter = SubscriptionFilter {
                share: None,
                filter: retrieval.walk.filter().clone(),
            };
            // [MQTT-3.10.4-2] Nothing more is begun for a subscription that has ended, or whose right was lost.
            if !self.is_subscribed(&filter) {
                continue;
            }
            if !self.send_retained(now, link, retained, &mut retrieval, effects) {
                self.backlog.push_front(retrieval);
                return;
            }
        }
    }

    /// False when there was no room for all of them.
    fn send_retained(
        &mut self,
        now: Millis,
        link: Link,
        retained: &Retained,
        retrieval: &mut Retrieval,
        effects: &mut Effects,
    ) -> bool {
        let Retrieval { walk, options } = retrieval;
        let mut last = None;
        let mut all = true;
        for message in retained.ahead(walk, now) {
            // [MQTT-3.8.3-3]
            let own = options.no_local && message.origin.client_id == self.id.client_id;
            if !own && !self.send_one_retained(now, link, message, *options, effects) {
                all = false;
                break;
            }
            last = Some(message);
        }
        if let Some(message) = last {
            walk.pass(message);
        }
        all
    }

    /// False when there was no room.
    fn send_one_retained(
        &mut self,
        now: Millis,
        link: Link,
        message: &Arc<Message>,
        options: SubscriptionOptions,
        effects: &mut Effects,
    ) -> bool {
        let waiting = Waiting {
            qos: message.qos.min(options.qos),
            message: Arc::clone(message),
            retain: true,
            subscription_ids: options.id.map(|id| Arc::from([id])),
            number: self.next_number,
            group: None,
        };
        match self.send_waiting(now, link, &waiting, effects) {
            Ok(id) => {
                self.next_number += 1;
                if let Some(id) = id {
                    self.note_sent(&waiting, id, effects);
                }
                effects.note_delivered(waiting.message);
            }
            Err(Unsent::NoRoom) => return false,
            Err(Unsent::TooLarge) => effects
                .dropped
                .push((DropReason::TooLarge, waiting.message)),
        }
        true
    }

    fn send_queue(&mut self, now: Millis, link: Link, effects: &mut Effects) {
        while let Some(waiting) = self.queue.front().cloned() {
            // [MQTT-3.3.2-5]
            let expired = waiting.message.is_expired(now);
            let sent = if expired {
                Err(Unsent::TooLarge)
            } else {
                self.send_waiting(now, link, &waiting, effects)
            };
            match sent {
                Err(Unsent::NoRoom) => return,
                Err(Unsent::TooLarge) => {
                    let reason = if expired {
                        DropReason::Expired
                    } else {
                        DropReason::TooLarge
                    };
                    effects.dropped.push((reason, waiting.message));
                    self.note_settled(waiting.number, effects);
                }
                Ok(id) => {
                    if let Some(id) = id {
                        self.note_in_flight(waiting.number, id, effects);
                    }
                    effects.note_delivered(waiting.message);
                }
            }
            self.queue.pop();
        }
    }

    fn send_waiting(
        &mut self,
        now: Millis,
        link: Link,
        waiting: &Waiting,
        effects: &mut Effects,
    ) -> Result<Option<PacketId>, Unsent> {
        if waiting.qos > QoS::AtMostOnce && !self.in_flight.has_room(link.receive_maximum) {
            return Err(Unsent::NoRoom);
        }
        let frame = frame_of(&waiting.message, now, link)?;
        if waiting.qos > QoS::AtMostOnce {
            self.may_start(&frame, link, waiting.qos, ids(&waiting.subscription_ids))?;
            self.hold(waiting.qos, effects);
            return self.start(&frame, link, waiting.clone()).map(Some);
        }
        let ids = ids(&waiting.subscription_ids);
        self.check_room(&frame, link, QoS::AtMostOnce, ids)?;
        self.put(&frame, link, Wire::AtMostOnce, waiting.retain, ids)
            .map(|()| None)
    }

    /// PUBACK came. Gives the message that has arrived; `None` when none is in flight under this identifier.
    pub fn puback(&mut self, id: PacketId, effects: &mut Effects) -> Option<Arc<Message>> {
        match self.in_flight.acknowledged(id) {
            Settled::Done(entry) => {
                self.note_settled(entry.number, effects);
                entry.into_message()
            }
            Settled::Release(_) | Settled::Unknown => None,
        }
    }

    /// PUBREC came. Gives whether PUBREL is due, and the message that has arrived now.
    pub fn pubrec(
        &mut self,
        id: PacketId,
        refused: bool,
        effects: &mut Effects,
    ) -> (bool, Option<Arc<Message>>) {
        match self.in_flight.received(id, refused) {
            Settled::Release(entry) => {
                self.note_released(entry.number, effects);
                (true, entry.into_message())
            }
            Settled::Done(entry) => {
                self.note_settled(entry.number, effects);
                (false, None)
            }
            Settled::Unknown => (false, None),
        }
    }

    /// PUBCOMP came; false when no exchange waits for it.
    pub fn pubcomp(&mut self, id: PacketId, effects: &mut Effects) -> bool {
        match self.in_flight.completed(id) {
            Settled::Done(entry) => {
                self.note_settled(entry.number, effects);
                true
            }
            Settled::Release(_) | Settled::Unknown => false,
        }
    }
}

fn ids(subscription_ids: &Option<Arc<[SubscriptionId]>>) -> &[SubscriptionId] {
    subscription_ids.as_deref().unwrap_or(&[])
}

fn wire(qos: QoS, packet_id: PacketId, dup: bool) -> Wire {
    match qos {
        QoS::AtMostOnce => Wire::AtMostOnce,
        QoS::AtLeastOnce => Wire::AtLeastOnce { packet_id, dup },
        QoS::ExactlyOnce => Wire::ExactlyOnce { packet_id, dup },
    }
}

/// The frame of a message that has waited: what it says of its expiry is of now.
fn frame_of(message: &Message, now: Millis, link: Link) -> Result<PublishFrame, Unsent> {
    let properties = if link.version.is_v5() {
        message.properties_at(now)
    } else {
        None
    };
    PublishFrame::new(
        &message.topic,
        properties.as_deref(),
        &message.payload,
        link.version,
    )
    .map_err(|_| Unsent::TooLarge)
}

fn pubrel(id: PacketId, link: Link, outbox: &mut Outbox) -> Result<(), Unsent> {
    PubRel::success(id)
        .encode(link.version, outbox.held_control())
        .map_err(|_| Unsent::TooLarge)
}

#[cfg(test)]
mod tests {
    use weir_mqtt::{Packet, ProtocolVersion, SubscriptionFilter, TopicName, Utf8, codec};

    use super::*;
    use crate::core::outbox::WriteBatch;
    use crate::core::queue::QueueLimits;
    use crate::core::session::SessionLimits;
    use crate::core::subscriptions::Index;

    fn link(max_packet_size: usize) -> Link {
        Link {
            version: ProtocolVersion::V5,
            receive_maximum: 10,
            max_packet_size,
            topic_aliases: 0,
        }
    }

    fn sent(session: &mut Session) -> Vec<u8> {
        let mut batch = WriteBatch::default();
        session.outbox().take_into(&mut batch);
        batch.contiguous().unwrap().to_vec()
    }

    #[test]
    fn what_is_given_up_is_kept_as_released_before_its_client_hears_of_it() {
        let queue = QueueLimits {
            messages: 10,
            bytes: 1000,
        };
        let limits = SessionLimits {
            queue,
            outbox_bytes: 1000,
        };
        let mut session = Session::new(Default::default(), limits);
        session.set_expiry_interval(1000, &mut Effects::default());
        session.attach(link(usize::MAX));
        let mut index = Index::default();
        let filter = SubscriptionFilter::parse("t").unwrap();
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            id: None,
        };
        index.subscribe(0, (), &filter, options);
        let mut begun = Effects::default();
        for route in &index.routes(&Utf8::from("t")).sessions {
            let topic = TopicName::new("t").unwrap();
            let message = Message::new(topic, vec![0; 100].into(), QoS::ExactlyOnce, false);
            session.deliver(&mut Fanout::new(message), &route.terms, &mut begun);
        }
        begun.hold.unwrap().open();
        assert!(sent(&mut session).len() > 100);
        session.detach();

        let mut given_up = Effects::default();
        session.attach(link(50));
        session.refill(0, None, &mut given_up);
        let [Persist::Released { number: 1, .. }] = given_up.persist[..] else {
            panic!("{:?}", given_up.persist)
        };
        assert!(sent(&mut session).is_empty(), "it is not kept yet");
        given_up.hold.unwrap().open();
        let released = codec::decode(sent(&mut session).into(), ProtocolVersion::V5);
        let pubrel = PubRel::success(PacketId::MIN);
        assert_eq!(released.unwrap(), Packet::PubRel(pubrel));
        assert_eq!(session.in_flight_len(), 1, "until PUBCOMP");
        assert!(session.pubcomp(PacketId::MIN, &mut Effects::default()));
    }
}
