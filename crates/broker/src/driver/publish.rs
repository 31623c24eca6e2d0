//! PUBLISH from a client: authorize, take QoS 2 once, rules, retained messages, subscribers, acknowledge.

use std::sync::Arc;
use std::time::Duration;

use weir_mqtt::properties::PayloadFormat;
use weir_mqtt::{PacketId, PubAck, PubRec, Publish, QoS, ReasonCode, Utf8};
use weir_sinks::bridge::home::{has_come_round, path_of};

use super::client::{Client, Leave};
use super::router::Routed;
use super::topic_cache::Topic;
use crate::auth::PublishVerdict;
use crate::core::Millis;
use crate::core::message::Message;
use crate::core::special_topic::treat;
use crate::core::topic_rewrite::Sender;
use crate::pipeline::StoreRoom;
use crate::stats::{CloseReason, DropReason};

/// Between two tries of a publish that found no room twice.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// What an MQTT 5 client is told.
const NOT_ALLOWED: &str = "the client may not publish to this topic";
const STORE_FULL: &str = "the server has no room to keep this message now";

impl Client {
    /// A PUBLISH has come.
    pub(super) fn publish(&mut self, now: Millis, mut publish: Publish) -> Result<(), Leave> {
        self.counts.messages[usize::from(publish.qos.as_u8())] += 1;
        self.counts.payload_bytes += publish.payload.len() as u64;
        if self.ingress.is_some() {
            // The remote's limits are not ours, and its topics are not either.
            if self.parked.is_empty() {
                return self.accept_ingress(now, publish);
            }
            self.parked.push_back(publish);
            return Ok(());
        }
        let capabilities = &self.shared.connect_limits.capabilities;
        if let Some(refused) = capabilities.refuse_publish(publish.qos, publish.retain) {
            return Err(refused.into());
        }
        self.check_form(&mut publish)?;
        if self.takes_token(&publish)? || !self.is_taken_by_cloud(now, &mut publish)? {
            return Ok(());
        }
        if !self.shared.settings.rewrites.is_empty() {
            self.rewrite_topic(&mut publish.topic);
        }
        // Behind a publish that waits for room everything waits: the order of one client is kept.
        if !self.parked.is_empty() {
            self.parked.push_back(publish);
            return Ok(());
        }
        self.accept(now, publish)
    }

    /// What the codec cannot know: the connection's aliases and limits.
    fn check_form(&mut self, publish: &mut Publish) -> Result<(), Leave> {
        if let Some(properties) = publish.properties.as_deref_mut() {
            // [MQTT-3.3.4-6]
            if !properties.subscription_identifiers.is_empty() {
                let why = "only the server sends subscription identifiers in PUBLISH";
                return Err(Leave::because(ReasonCode::ProtocolError, why));
            }
            if let Some(alias) = properties.topic_alias.take() {
                self.resolve_alias(alias.get(), &mut publish.topic)?;
            }
            if properties.is_empty() {
                publish.properties = None;
            }
        }
        let separators = publish
            .topic
            .as_bytes()
            .iter()
            .filter(|byte| **byte == b'/')
            .count();
        if separators >= self.shared.connect_limits.topic_levels {
            let why = "the topic has more levels than this server allows";
            return Err(Leave::because(ReasonCode::TopicNameInvalid, why));
        }
        Ok(())
    }

    /// `[MQTT-3.3.2-8]` to `[MQTT-3.3.2-12]`
    fn resolve_alias(&mut self, alias: u16, topic: &mut Utf8) -> Result<(), Leave> {
        if alias > self.shared.connect_limits.topic_alias {
            let why = "the topic alias is above the topic alias maximum of this server";
            return Err(Leave::because(ReasonCode::TopicAliasInvalid, why));
        }
        let at = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.aliases.get(at).cloned().flatten();
            let why = "the topic alias has not been given a topic";
            *topic = known.ok_or(Leave::because(ReasonCode::ProtocolError, why))?;
        } else {
            if self.aliases.len() <= at {
                self.aliases.resize(at + 1, None);
            }
            self.aliases[at] = Some(topic.detached());
        }
        Ok(())
    }

    /// Routes a publish and acknowledges it, or parks it when a sink has no room.
    pub(super) fn accept(&mut self, now: Millis, mut publish: Publish) -> Result<(), Leave> {
        if self.ingress.is_some() {
            return self.accept_ingress(now, publish);
        }
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if self.has_taken_token(&publish) {
            return self.acknowledge(qos, packet_id, ReasonCode::Success);
        }
        let (mut delay_s, mut retain_s) = (None, None);
        let mut topic_as_sent = publish
            .topic
            .starts_with('$')
            .then(|| publish.topic.clone());
        if publish.topic.starts_with('$') {
            match self.take_prefixes(&mut publish) {
                Ok(times) => (delay_s, retain_s) = times,
                Err(why) => return self.bad_topic(now, publish, why),
            }
        }
        let topic = self.router.topic(&publish.topic);
        let verdict = self
            .router
            .verdict(&topic, &publish.topic, qos, publish.retain);
        if verdict != PublishVerdict::Allow {
            return self.forbidden(now, publish, verdict);
        }
        let max_payload = self.shared.settings.limits.client.max_payload;
        if max_payload.is_some_and(|max| publish.payload.len() > max) {
            let message = self.message(now, publish);
            self.router
                .drop_message(DropReason::PayloadTooLarge, &message);
            let why = "the payload is larger than this server allows";
            return self.refuse(qos, packet_id, ReasonCode::QuotaExceeded, why);
        }
        if self.is_in_wrong_format(&publish) {
            let message = self.message(now, publish);
            self.router
                .drop_message(DropReason::PayloadFormat, &message);
            let why = "the payload is said to be UTF-8 text and is not";
            return self.refuse(qos, packet_id, ReasonCode::PayloadFormatInvalid, why);
        }
        let path = path_of(publish.properties.as_deref());
        if path.is_some_and(|path| has_come_round(path, self.shared.pipeline.world().id())) {
            // A bridge of another broker brings back what came from here.
            let message = self.message(now, publish);
            self.router.drop_message(DropReason::Loop, &message);
            return self.acknowledge(qos, packet_id, ReasonCode::Success);
        }
        // Who waits for room is looked at anew when there is some.
        let waits = qos > QoS::AtMostOnce && !self.info.version.is_v5();
        if !waits || (delay_s.is_none() && retain_s.is_none()) {
            topic_as_sent = None;
        }
        if self.finds_store_full(&publish, &topic, delay_s.is_some()) {
            publish.topic = topic_as_sent.unwrap_or(publish.topic);
            let message = self.message(now, publish);
            let shared = Arc::clone(&self.shared);
            let room = async move { shared.store.has_room().await };
            let why = STORE_FULL;
            return self.no_room(message, packet_id, DropReason::StoreFull, why, room);
        }
        if let Some(id) = packet_id
            && !self.take_once(qos, id)?
        {
            // [MQTT-4.3.3-10] Acknowledged again, routed once.
            return self.acknowledge(qos, packet_id, ReasonCode::Success);
        }
        let mut message = self.message(now, publish);
        message.retain_s = retain_s;
        if let Some(delay_s) = delay_s {
            return self.publish_later(now, delay_s, packet_id, &message);
        }
        let store = if self.shared.store.is_full() {
            StoreRoom::None
        } else {
            StoreRoom::Given
        };
        match self.router.publish_to(now, message, topic, store) {
            Routed::Done(true) => self.acknowledge(qos, packet_id, ReasonCode::Success),
            Routed::Done(false) => {
                self.acknowledge(qos, packet_id, ReasonCode::NoMatchingSubscribers)
            }
            Routed::NoRoom(room, mut message) => {
                self.not_taken(qos, packet_id);
                message.topic = topic_as_sent.unwrap_or(message.topic);
                let why = "a rule's sink has no room for this message now";
                let room = async move { room.wait().await };
                self.no_room(*message, packet_id, DropReason::SinkFull, why, room)
            }
            Routed::StoreFull(mut message) => {
                self.not_taken(qos, packet_id);
                message.topic = topic_as_sent.unwrap_or(message.topic);
                let shared = Arc::clone(&self.shared);
                let room = async move { shared.store.has_room().await };
                let why = STORE_FULL;
                self.no_room(*message, packet_id, DropReason::StoreFull, why, room)
            }
        }
    }

    /// Forgets the identifier of a QoS 2 message that was taken too early.
    pub(super) fn not_taken(&mut self, qos: QoS, packet_id: Option<PacketId>) {
        if let (QoS::ExactlyOnce, Some(id)) = (qos, packet_id) {
            let mut slot = self.handle.lock();
            slot.session.release(id, &mut self.router.effects);
        }
    }

    /// Whether the message would leave something in the storage, which has no room. What was taken before is only
    /// acknowledged again.
    fn finds_store_full(&self, publish: &Publish, topic: &Topic, is_later: bool) -> bool {
        if !self.shared.store.is_full() {
            return false;
        }
        let mut slot = self.handle.lock();
        let is_known = |id| slot.session.received().contains(id);
        if publish.qos == QoS::ExactlyOnce && publish.packet_id.is_some_and(is_known) {
            return false;
        }
        let keeps_id = publish.qos == QoS::ExactlyOnce && slot.session.is_durable();
        drop(slot);
        let router = &self.router;
        is_later || keeps_id || router.finds_store_full(publish.qos, publish.retain, topic)
    }

    /// There is no room for what a message makes, and nothing has happened yet.
    fn no_room(
        &mut self,
        message: Message,
        packet_id: Option<PacketId>,
        reason: DropReason,
        why: &'static str,
        room: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Leave> {
        if message.qos == QoS::AtMostOnce || self.info.version.is_v5() {
            self.router.drop_message(reason, &message);
            return self.refuse(message.qos, packet_id, ReasonCode::QuotaExceeded, why);
        }
        // An older client cannot be told: it waits, and so does everything it sends after this.
        self.parked.push_front(Publish {
            dup: message.dup,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id,
            properties: message.properties,
            payload: message.payload,
        });
        self.wait(room);
        Ok(())
    }

    /// The first parked publish is tried again when `room` resolves.
    pub(super) fn wait(&mut self, room: impl Future<Output = ()> + Send + 'static) {
        // Whoever finds no room again and again asks no more often than this, whatever the sink says.
        let pause = std::mem::take(&mut self.retrying);
        self.room = Some(Box::pin(async move {
            if pause {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            room.await;
        }));
    }

    /// The client may not publish there.
    fn forbidden(
        &mut self,
        now: Millis,
        publish: Publish,
        verdict: PublishVerdict,
    ) -> Result<(), Leave> {
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let message = self.message(now, publish);
        self.router
            .drop_message(DropReason::NotAuthorized, &message);
        if verdict == PublishVerdict::Disconnect {
            return Err(Leave {
                reason: CloseReason::NotAuthorized,
                say: Some(ReasonCode::NotAuthorized),
                why: NOT_ALLOWED,
            });
        }
        if let (QoS::ExactlyOnce, Some(id), true) = (qos, packet_id, self.info.version.is_v5()) {
            // Allowed when it first came, forbidden when it came again: the refusal frees the identifier.
            self.handle
                .lock()
                .session
                .release(id, &mut self.router.effects);
        }
        self.refuse(qos, packet_id, ReasonCode::NotAuthorized, NOT_ALLOWED)
    }

    /// Takes `$delayed/…` and `$retain/…` off the topic; gives how long to wait, and how long to retain it, in seconds.
    fn take_prefixes(
        &self,
        publish: &mut Publish,
    ) -> Result<(Option<u32>, Option<u32>), &'static str> {
        let Some(treated) = treat(&publish.topic)? else {
            return Ok((None, None));
        };
        treated.check_retain(publish.retain)?;
        publish.topic = treated.topic;
        self.rewrite_topic(&mut publish.topic);
        let retain_s = treated.retain_s.filter(|seconds| *seconds > 0);
        Ok((treated.delay_s, retain_s))
    }

    /// Puts another topic in place of this one, where a rule of the operator says so.
    fn rewrite_topic(&self, topic: &mut Utf8) {
        if let Some(other) = self.shared.settings.rewrites.publish(topic, self.sender()) {
            *topic = other;
        }
    }

    /// Who publishes and subscribes, for rules that rewrite topics.
    pub(super) fn sender(&self) -> Sender<'_> {
        let origin = &self.info.origin;
        Sender {
            client_id: &origin.client_id,
            username: origin.username.as_deref().unwrap_or(""),
        }
    }

    fn bad_topic(&mut self, now: Millis, publish: Publish, why: &'static str) -> Result<(), Leave> {
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let message = self.message(now, publish);
        self.router.drop_message(DropReason::TopicInvalid, &message);
        self.refuse(qos, packet_id, ReasonCode::TopicNameInvalid, why)
    }

    /// Keeps a message until its time and acknowledges it.
    fn publish_later(
        &mut self,
        now: Millis,
        delay_s: u32,
        packet_id: Option<PacketId>,
        message: &Message,
    ) -> Result<(), Leave> {
        let at = now + u64::from(delay_s) * 1000;
        if self
            .shared
            .publish_later(at, message, &mut self.router.effects)
        {
            return self.acknowledge(message.qos, packet_id, ReasonCode::Success);
        }
        if let (QoS::ExactlyOnce, Some(id)) = (message.qos, packet_id) {
            self.handle
                .lock()
                .session
                .release(id, &mut self.router.effects);
        }
        self.router.drop_message(DropReason::DelayedFull, message);
        let why = "too many delayed messages wait";
        self.refuse(message.qos, packet_id, ReasonCode::QuotaExceeded, why)
    }

    /// Whether the payload is not the text that it is said to be. A server may look (MQTT 5, 3.3.2.3.2).
    fn is_in_wrong_format(&self, publish: &Publish) -> bool {
        publish.properties.as_deref().is_some_and(|properties| {
            properties.payload_format_indicator == Some(PayloadFormat::Utf8)
                && self.shared.settings.check_payload_format
                && std::str::from_utf8(&publish.payload).is_err()
        })
    }

    /// Notes a publish that wants an acknowledgement; false for a QoS 2 message that was routed before.
    pub(super) fn take_once(&mut self, qos: QoS, id: PacketId) -> Result<bool, Leave> {
        let receive_maximum = usize::from(self.shared.connect_limits.receive_maximum);
        let unacknowledged = self.gate.publishes() + self.replies.publishes;
        // A bridge passes on what its remote sends; whether that keeps to the receive maximum is not the bridge's doing.
        let is_bounded = self.info.version.is_v5() && self.ingress.is_none();
        if qos == QoS::AtLeastOnce {
            // [MQTT-3.3.4-9] Versions before 5 were told no receive maximum.
            if is_bounded && unacknowledged >= receive_maximum {
                let received = self.handle.lock().session.received().len();
                return check_receive_maximum(unacknowledged + received, receive_maximum);
            }
            return Ok(true);
        }
        let mut slot = self.handle.lock();
        if slot.session.received().contains(id) {
            slot.session.first_sight(id, &mut self.router.effects);
            return Ok(false);
        }
        if is_bounded {
            check_receive_maximum(
                unacknowledged + slot.session.received().len(),
                receive_maximum,
            )?;
        }
        Ok(slot.session.first_sight(id, &mut self.router.effects))
    }

    /// The PUBACK or PUBREC of a publish. It leaves through the gate.
    pub(super) fn acknowledge(
        &mut self,
        qos: QoS,
        id: Option<PacketId>,
        reason: ReasonCode,
    ) -> Result<(), Leave> {
        let Some(id) = id else { return Ok(()) };
        if qos == QoS::AtLeastOnce {
            self.replies.publishes += 1;
            return self.reply(|version, out| PubAck::new(id, reason).encode(version, out));
        }
        self.reply(|version, out| PubRec::new(id, reason).encode(version, out))
    }

    /// The PUBACK or PUBREC of a publish that goes nowhere, with the reason in words.
    pub(super) fn refuse(
        &mut self,
        qos: QoS,
        id: Option<PacketId>,
        reason: ReasonCode,
        why: &'static str,
    ) -> Result<(), Leave> {
        let Some(id) = id else { return Ok(()) };
        if qos == QoS::AtLeastOnce {
            self.replies.publishes += 1;
            return self.reply_because(why, |properties, version, out| {
                let puback = PubAck {
                    properties,
                    ..PubAck::new(id, reason)
                };
                puback.encode(version, out)
            });
        }
        if reason.is_error() && !self.info.version.is_v5() {
            // PUBREC without a reason means that it was taken; PUBREL will find the identifier.
            self.handle
                .lock()
                .session
                .first_sight(id, &mut self.router.effects);
        }
        self.reply_because(why, |properties, version, out| {
            let pubrec = PubRec {
                properties,
                ..PubRec::new(id, reason)
            };
            pubrec.encode(version, out)
        })
    }

    /// The message of a PUBLISH that is accepted now.
    pub(super) fn message(&mut self, now: Millis, publish: Publish) -> Message {
        let expiry_s = publish
            .properties
            .as_deref()
            .and_then(|properties| properties.message_expiry_interval_s);
        Message {
            id: self.router.message_id(now),
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties: publish.properties,
            expires_at: expiry_s.map(|seconds| now + u64::from(seconds) * 1000),
            retain_s: None,
            accepted_at: now,
            origin: Arc::clone(&self.info.origin),
            hops: 0,
            made_by: None,
        }
    }
}

fn check_receive_maximum(unacknowledged: usize, receive_maximum: usize) -> Result<bool, Leave> {
    if unacknowledged >= receive_maximum {
        let why = "more publishes without acknowledgement than the receive maximum of this server";
        return Err(Leave::because(ReasonCode::ReceiveMaximumExceeded, why));
    }
    Ok(true)
}
