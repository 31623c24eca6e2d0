//! One application message inside the broker, and its way to many receivers.
//!
//! A message that was just read shares the bytes of its socket read; what is kept for longer is detached first,
//! so that a small message in a queue never holds a large read buffer.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use weir_mqtt::properties::PublishProperties;
use weir_mqtt::{EncodeError, ProtocolVersion, PublishFrame, QoS, TopicError, TopicName, Utf8};
use weir_rules::event::RuleId;
use weir_rules::value::Object;

use super::Millis;

/// Payloads from here on are shared when a message is kept: the connection that read one has seen to it that it stands
/// in no buffer of more than twice its size. Smaller ones are copied out of the read buffer.
const SHARE_WHEN_KEPT: usize = 16 * 1024;

/// Who published a message.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The client identifier; empty for messages made inside the broker.
    pub client_id: Utf8,
    /// The user name, when there is one.
    pub username: Option<Utf8>,
    /// The network address; `None` for messages made inside the broker.
    pub peer: Option<SocketAddr>,
    /// What the client's sign-in said of it, as rules see it; `None` for nothing.
    pub attributes: Option<Arc<Object>>,
}

/// An application message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Unique among all messages.
    pub id: u128,
    /// The topic name, free of wildcards and not empty.
    pub topic: Utf8,
    /// The application's bytes.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// The DUP flag it was published with.
    pub dup: bool,
    /// Properties that are passed on; never topic alias or subscription identifiers.
    pub properties: Option<Box<PublishProperties>>,
    /// When it is no longer worth delivering.
    pub expires_at: Option<Millis>,
    /// How long it is retained, in seconds, where that is not for ever: `$retain/{seconds}/topic`. Who gets it at once is
    /// not concerned.
    pub retain_s: Option<u32>,
    /// When the broker accepted it.
    pub accepted_at: Millis,
    /// Who published it.
    pub origin: Arc<Origin>,
    /// How many rules republished it before it came here.
    pub hops: u8,
    /// The rule that republished it.
    pub made_by: Option<RuleId>,
}

impl Message {
    /// A message made inside the broker. Its identifier and time of acceptance are set when it is published.
    pub fn new(topic: TopicName, payload: Bytes, qos: QoS, retain: bool) -> Self {
        Self {
            id: 0,
            topic: topic.into_utf8(),
            payload,
            qos,
            retain,
            dup: false,
            properties: None,
            expires_at: None,
            retain_s: None,
            accepted_at: 0,
            origin: Arc::default(),
            hops: 0,
            made_by: None,
        }
    }

    /// A QoS 0 message of text.
    ///
    /// # Errors
    /// When `topic` is no topic name.
    pub fn text(topic: &str, payload: &str) -> Result<Self, TopicError> {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Ok(Self::new(
            TopicName::new(topic)?,
            payload,
            QoS::AtMostOnce,
            false,
        ))
    }

    /// The same message with another QoS.
    #[must_use]
    pub fn with_qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    /// The same message, to be kept for those who subscribe later; an empty payload deletes the one that is kept.
    #[must_use]
    pub fn retained(self) -> Self {
        Self {
            retain: true,
            ..self
        }
    }

    /// Bytes that keeping this message costs, roughly.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 160;
        let properties = self.properties.as_deref().map_or(0, properties_size);
        OVERHEAD + self.topic.len() + self.payload.len() + properties
    }

    /// Whether its message expiry interval has passed.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The same message in memory of its own, to be kept.
    pub fn detached(&self) -> Self {
        self.detached_with(None)
    }

    /// The same where the topic is known in memory that may be kept.
    fn detached_with(&self, topic: Option<&Utf8>) -> Self {
        let share = self.payload.len() >= SHARE_WHEN_KEPT;
        let payload = if share {
            self.payload.clone()
        } else {
            Bytes::copy_from_slice(&self.payload)
        };
        self.kept_as(
            topic.map_or_else(|| self.topic.detached(), Utf8::clone),
            payload,
        )
    }

    /// The same message with even a large payload copied, to be kept for very long.
    pub fn owned(&self) -> Self {
        self.kept_as(self.topic.detached(), Bytes::copy_from_slice(&self.payload))
    }

    fn kept_as(&self, topic: Utf8, payload: Bytes) -> Self {
        Self {
            topic,
            payload,
            properties: self.properties.as_deref().map(detached_properties),
            origin: Arc::clone(&self.origin),
            made_by: self.made_by.clone(),
            ..*self
        }
    }

    /// The copy that is retained, in memory of its own: it expires when its time there is over, if not before.
    pub fn to_be_retained(&self) -> Self {
        let mut kept = self.owned();
        if let Some(seconds) = kept.retain_s.take() {
            let properties = kept.properties.get_or_insert_default();
            let own_s = properties.message_expiry_interval_s.unwrap_or(seconds);
            properties.message_expiry_interval_s = Some(own_s.min(seconds));
            let at = kept.accepted_at + u64::from(seconds) * 1000;
            kept.expires_at = Some(kept.expires_at.unwrap_or(at).min(at));
        }
        kept
    }

    /// The properties as they go out now: the message expiry interval has been counted down. `[MQTT-3.3.2-6]`
    pub fn properties_at(&self, now: Millis) -> Option<Box<PublishProperties>> {
        let mut properties = self.properties.clone();
        if let (Some(at), Some(properties)) = (self.expires_at, properties.as_deref_mut()) {
            let left_s = at.saturating_sub(now).div_ceil(1000);
            properties.message_expiry_interval_s = Some(u32::try_from(left_s).unwrap_or(u32::MAX));
        }
        properties
    }
}

fn properties_size(properties: &PublishProperties) -> usize {
    let user: usize = properties
        .user_properties
        .iter()
        .map(|(key, value)| key.len() + value.len() + 80)
        .sum();
    user + properties
        .content_type
        .as_ref()
        .map_or(0, |text| text.len())
        + properties
            .response_topic
            .as_ref()
            .map_or(0, |text| text.len())
        + properties.correlation_data.as_ref().map_or(0, Bytes::len)
}

fn detached_properties(properties: &PublishProperties) -> Box<PublishProperties> {
    let mut own = properties.clone();
    own.content_type = own.content_type.map(|text| text.detached());
    own.response_topic = own
        .response_topic
        .and_then(|topic| TopicName::parse(topic.as_utf8().detached()).ok());
    own.correlation_data = own
        .correlation_data
        .map(|data| Bytes::copy_from_slice(&data));
    for (key, value) in &mut own.user_properties {
        *key = key.detached();
        *value = value.detached();
    }
    Box::new(own)
}

/// One message on its way to all its receivers: encoded at most once per wire format, detached at most once.
#[derive(Debug)]
pub struct Fanout<'a> {
    message: Message,
    /// The topic in memory that may be kept.
    topic: Option<&'a Utf8>,
    /// For the first frame.
    buffer: Vec<u8>,
    before_v5: Option<PublishFrame>,
    v5: Option<PublishFrame>,
    kept: Option<Arc<Message>>,
}

impl<'a> Fanout<'a> {
    /// Nothing is encoded or copied until a receiver needs it.
    pub fn new(message: Message) -> Self {
        Self {
            message,
            topic: None,
            buffer: Vec::new(),
            before_v5: None,
            v5: None,
            kept: None,
        }
    }

    /// The same with the message's topic in memory of its own, and a buffer to encode in.
    pub fn with(message: Message, topic: &'a Utf8, buffer: Vec<u8>) -> Self {
        debug_assert_eq!(message.topic, *topic, "it is the same topic");
        Self {
            topic: Some(topic),
            buffer,
            ..Self::new(message)
        }
    }

    /// The buffer for the next message.
    pub fn into_buffer(self) -> Vec<u8> {
        match self.before_v5.or(self.v5) {
            Some(frame) => frame.into_buffer(),
            None => self.buffer,
        }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message, back again.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// The frame for receivers of `version`.
    pub fn frame(&mut self, version: ProtocolVersion) -> Result<&PublishFrame, EncodeError> {
        let slot = if version.is_v5() {
            &mut self.v5
        } else {
            &mut self.before_v5
        };
        if slot.is_none() {
            let properties = self
                .message
                .properties
                .as_deref()
                .filter(|_| version.is_v5());
            *slot = Some(PublishFrame::new_in(
                std::mem::take(&mut self.buffer),
                &self.message.topic,
                properties,
                &self.message.payload,
                version,
            )?);
        }
        Ok(slot.as_ref().expect("the frame was made above"))
    }

    /// The message to be kept by a session or the store.
    pub fn kept(&mut self) -> &Arc<Message> {
        self.kept
            .get_or_insert_with(|| Arc::new(self.message.detached_with(self.topic)))
    }
}
