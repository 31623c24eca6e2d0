//! Broker events and messages as rules see them (rule-SQL §4.3), and messages that rules made.
//!
//! Built only when a rule listens: whether one does is a flag, looked up once for each generation of the rules.

use std::sync::Arc;

use bytes::Bytes;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_mqtt::{Connect, ProtocolVersion, SubscriptionFilter, TopicName, Utf8};
use weir_rules::event::{Event, Publish, What};
use weir_rules::value::{Object, Text, Value};

use super::router::{qos_of, wall_ms};
use crate::core::Millis;
use crate::core::connect::Admission;
use crate::core::message::{Message, Origin};
use crate::core::subscriptions::SubscriptionOptions;
use crate::pipeline::Pipeline;
use crate::stats::CloseReason;

/// The two names of a broker event.
pub(crate) struct Name {
    topic: &'static str,
    event: &'static str,
}

const CONNECTED: Name = Name {
    topic: "$events/client/connected",
    event: "client.connected",
};
const DISCONNECTED: Name = Name {
    topic: "$events/client/disconnected",
    event: "client.disconnected",
};
const SUBSCRIBED: Name = Name {
    topic: "$events/session/subscribed",
    event: "session.subscribed",
};
const UNSUBSCRIBED: Name = Name {
    topic: "$events/session/unsubscribed",
    event: "session.unsubscribed",
};
const DROPPED: Name = Name {
    topic: "$events/message/dropped",
    event: "message.dropped",
};
/// A message went to a client.
pub(crate) const DELIVERED: Name = Name {
    topic: "$events/message/delivered",
    event: "message.delivered",
};
/// A client acknowledged a message.
pub(crate) const ACKED: Name = Name {
    topic: "$events/message/acked",
    event: "message.acked",
};
/// A message did not go to a client that wanted it.
pub(crate) const DELIVERY_DROPPED: Name = Name {
    topic: "$events/message/delivery_dropped",
    event: "delivery.dropped",
};

/// Which broker events any rule listens to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// The generation of the rules that this was asked of.
    generation: Option<u64>,
    /// `$events/client/connected`
    pub(crate) connected: bool,
    /// `$events/client/disconnected`
    pub(crate) disconnected: bool,
    /// `$events/session/subscribed`
    pub(crate) subscribed: bool,
    /// `$events/session/unsubscribed`
    pub(crate) unsubscribed: bool,
    /// `$events/message/dropped`
    pub(crate) dropped: bool,
    /// `$events/message/delivered`
    pub(crate) delivered: bool,
    /// `$events/message/acked`
    pub(crate) acked: bool,
    /// `$events/message/delivery_dropped`
    pub(crate) delivery_dropped: bool,
}

impl Watch {
    /// Asks again when the rules have changed.
    pub(crate) fn refresh(&mut self, pipeline: &Pipeline) {
        let generation = pipeline.generation();
        if self.generation == Some(generation) {
            return;
        }
        *self = Self {
            generation: Some(generation),
            connected: pipeline.wants_event(CONNECTED.topic),
            disconnected: pipeline.wants_event(DISCONNECTED.topic),
            subscribed: pipeline.wants_event(SUBSCRIBED.topic),
            unsubscribed: pipeline.wants_event(UNSUBSCRIBED.topic),
            dropped: pipeline.wants_event(DROPPED.topic),
            delivered: pipeline.wants_event(DELIVERED.topic),
            acked: pipeline.wants_event(ACKED.topic),
            delivery_dropped: pipeline.wants_event(DELIVERY_DROPPED.topic),
        };
    }
}

/// What events say of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    /// Who.
    pub(crate) origin: Arc<Origin>,
    /// The listener's address.
    pub(crate) local: Option<std::net::SocketAddr>,
    /// The protocol.
    pub(crate) version: ProtocolVersion,
    /// When it connected, by the wall clock.
    pub(crate) connected_at_ms: i64,
    /// Seconds of silence that it promised not to exceed; 0: any.
    pub(crate) keep_alive_s: u16,
    /// Of two connections of one client, the later one's is greater, over restarts too.
    pub(crate) session_epoch: u64,
}

/// The fields of an event while it is being built.
struct Fields(Object);

impl Fields {
    fn new() -> Self {
        Self(Object::default())
    }

    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    fn text(self, key: &str, text: &Utf8) -> Self {
        self.set(key, text_of(text))
    }

    /// What is unknown stays undefined.
    fn optional<V: Into<Value>>(self, key: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    fn client(self, origin: &Origin) -> Self {
        self.text("clientid", &origin.client_id)
            .optional("username", origin.username.as_ref().map(text_of))
            .optional("peername", origin.peer.map(|peer| peer.to_string()))
            .optional("peerhost", origin.peer.map(|peer| peer.ip().to_string()))
    }

    fn protocol(self, info: &ClientInfo) -> Self {
        self.client(&info.origin)
            .optional("sockname", info.local.map(|local| local.to_string()))
            .set("proto_name", info.version.protocol_name())
            .set("proto_ver", i64::from(info.version.level()))
            .set("connected_at", info.connected_at_ms)
            .attributes(&info.origin)
    }

    /// What the sign-in said of the client; an empty object for nothing.
    fn attributes(self, origin: &Origin) -> Self {
        let attributes = origin.attributes.clone().unwrap_or_default();
        self.set("client_attrs", Value::Object(attributes))
    }

    fn message(self, message: &Message) -> Self {
        let flags = Fields::new()
            .set("dup", message.dup)
            .set("retain", message.retain);
        self.set("id", format!("{:032x}", message.id))
            .set("payload", Text::from_bytes(message.payload.clone()))
            .text("topic", &message.topic)
            .set("qos", i64::from(message.qos.as_u8()))
            .set("flags", flags.0)
            .set("retain", message.retain)
            .set(
                "pub_props",
                message
                    .properties
                    .as_deref()
                    .map(properties_object)
                    .unwrap_or_default(),
            )
            .set("publish_received_at", signed(message.accepted_at))
    }

    fn event(self, name: &Name) -> Event {
        let what = What::Broker {
            topic: name.topic,
            event: name.event,
            fields: Arc::new(self.0),
        };
        Event {
            timestamp_ms: wall_ms(),
            what,
        }
    }
}

fn text_of(text: &Utf8) -> Text {
    Text::from_bytes(text.bytes().clone())
}

fn signed(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// A client is connected.
pub(crate) fn connected(info: &ClientInfo, connect: &Connect, admission: &Admission) -> Event {
    Fields::new()
        .protocol(info)
        .set("mountpoint", Value::Undefined)
        .set("keepalive", i64::from(admission.keep_alive_s))
        .set("clean_start", connect.clean_start)
        .set("receive_maximum", i64::from(admission.link.receive_maximum))
        .set("expiry_interval", i64::from(admission.session_expiry_s))
        .set("is_bridge", false)
        .set(
            "conn_props",
            user_properties_object(&connect.properties.user_properties),
        )
        .event(&CONNECTED)
}

/// A client is gone.
pub(crate) fn disconnected(info: &ClientInfo, reason: CloseReason) -> Event {
    let reason = match reason {
        CloseReason::ProtocolError | CloseReason::ServerShutdown => "internal_error",
        other => other.name(),
    };
    Fields::new()
        .protocol(info)
        .set("reason", reason)
        .set("disconnected_at", wall_ms())
        .set("disconn_props", Object::default())
        .event(&DISCONNECTED)
}

/// A session has subscribed.
pub(crate) fn subscribed(
    info: &ClientInfo,
    filter: &SubscriptionFilter,
    options: SubscriptionOptions,
) -> Event {
    let id = options.id.map(|id| i64::from(id.get()));
    Fields::new()
        .client(&info.origin)
        .set("topic", filter.to_string())
        .set("qos", i64::from(options.qos.as_u8()))
        .set(
            "sub_props",
            Fields::new().optional("Subscription-Identifier", id).0,
        )
        .attributes(&info.origin)
        .event(&SUBSCRIBED)
}

/// A session has unsubscribed.
pub(crate) fn unsubscribed(info: &ClientInfo, filter: &SubscriptionFilter) -> Event {
    Fields::new()
        .client(&info.origin)
        .set("topic", filter.to_string())
        .set("unsub_props", Object::default())
        .attributes(&info.origin)
        .event(&UNSUBSCRIBED)
}

/// A message was not routed at all.
pub(crate) fn message_dropped(message: &Message, reason: &'static str) -> Event {
    Fields::new()
        .client(&message.origin)
        .message(message)
        .set("reason", reason)
        .event(&DROPPED)
}

/// Something became of a message at one receiver.
pub(crate) fn of_receiver(
    name: &Name,
    message: &Message,
    receiver: &Utf8,
    reason: Option<&'static str>,
) -> Event {
    Fields::new()
        .text("clientid", receiver)
        .text("from_clientid", &message.origin.client_id)
        .optional(
            "from_username",
            message.origin.username.as_ref().map(text_of),
        )
        .message(message)
        .optional("reason", reason)
        .event(name)
}

/// A message as rules see it. Nothing is copied.
pub(crate) fn rule_publish(message: &Message) -> Publish {
    Publish {
        id: message.id,
        topic: text_of(&message.topic),
        payload: message.payload.clone(),
        client_id: text_of(&message.origin.client_id),
        username: message.origin.username.as_ref().map(text_of),
        peer: message.origin.peer,
        qos: message.qos.as_u8(),
        retain: message.retain,
        dup: message.dup,
        properties: message
            .properties
            .as_deref()
            .map(|properties| Arc::new(properties_object(properties))),
        received_at_ms: wall_ms(),
        hops: message.hops,
        made_by: message.made_by.clone(),
        client_attrs: message.origin.attributes.clone(),
        given: None,
    }
}

/// A message that a rule made; `None` when its topic is none.
pub(crate) fn message_of(publish: Publish, now: Millis) -> Option<Message> {
    let topic = TopicName::parse(Utf8::try_from(publish.topic.bytes().clone()).ok()?).ok()?;
    let properties = publish
        .properties
        .as_deref()
        .map(properties_of)
        .filter(|properties| !properties.is_empty());
    let expiry_s = properties
        .as_ref()
        .and_then(|properties| properties.message_expiry_interval_s);
    let origin = Origin {
        client_id: Utf8::try_from(publish.client_id.bytes().clone()).unwrap_or_default(),
        username: publish
            .username
            .and_then(|name| Utf8::try_from(name.bytes().clone()).ok()),
        peer: publish.peer,
        attributes: publish.client_attrs,
    };
    Some(Message {
        id: publish.id,
        dup: publish.dup,
        properties: properties.map(Box::new),
        expires_at: expiry_s.map(|seconds| now + u64::from(seconds) * 1000),
        accepted_at: now,
        origin: Arc::new(origin),
        hops: publish.hops,
        made_by: publish.made_by,
        ..Message::new(topic, publish.payload, qos_of(publish.qos), publish.retain)
    })
}

const PAYLOAD_FORMAT: &str = "Payload-Format-Indicator";
const MESSAGE_EXPIRY: &str = "Message-Expiry-Interval";
const CONTENT_TYPE: &str = "Content-Type";
const RESPONSE_TOPIC: &str = "Response-Topic";
const CORRELATION_DATA: &str = "Correlation-Data";
const USER_PROPERTY: &str = "User-Property";
const USER_PROPERTY_PAIRS: &str = "User-Property-Pairs";

/// MQTT 5 properties under their hyphenated names.
fn properties_object(properties: &PublishProperties) -> Object {
    let format = properties
        .payload_format_indicator
        .map(|format| i64::from(format == PayloadFormat::Utf8));
    let response_topic = properties
        .response_topic
        .as_ref()
        .map(|topic| text_of(topic.as_utf8()));
    let mut fields = Fields::new()
        .optional(PAYLOAD_FORMAT, format)
        .optional(
            MESSAGE_EXPIRY,
            properties.message_expiry_interval_s.map(i64::from),
        )
        .optional(CONTENT_TYPE, properties.content_type.as_ref().map(text_of))
        .optional(RESPONSE_TOPIC, response_topic)
        .optional(
            CORRELATION_DATA,
            properties.correlation_data.clone().map(Text::from_bytes),
        );
    fields
        .0
        .extend(user_properties_object(&properties.user_properties));
    fields.0
}

fn user_properties_object(pairs: &[(Utf8, Utf8)]) -> Object {
    if pairs.is_empty() {
        return Object::default();
    }
    let map = pairs.iter().fold(Fields::new(), |fields, (key, value)| {
        fields.text(key, value)
    });
    let list: Vec<Value> = pairs
        .iter()
        .map(|(key, value)| Fields::new().text("key", key).text("value", value).0.into())
        .collect();
    Fields::new()
        .set(USER_PROPERTY, map.0)
        .set(USER_PROPERTY_PAIRS, list)
        .0
}

/// The way back; what does not fit is left out.
fn properties_of(object: &Object) -> PublishProperties {
    let text = |key: &str| object.get(key).and_then(utf8_of);
    let number = |key: &str| match object.get(key) {
        Some(Value::Int(number)) => u32::try_from(*number).ok(),
        _ => None,
    };
    let format = |number| match number {
        0 => Some(PayloadFormat::Unspecified),
        1 => Some(PayloadFormat::Utf8),
        _ => None,
    };
    PublishProperties {
        payload_format_indicator: number(PAYLOAD_FORMAT).and_then(format),
        message_expiry_interval_s: number(MESSAGE_EXPIRY),
        content_type: text(CONTENT_TYPE),
        response_topic: text(RESPONSE_TOPIC).and_then(|topic| TopicName::parse(topic).ok()),
        correlation_data: object.get(CORRELATION_DATA).and_then(bytes_of),
        user_properties: user_properties_of(object),
        ..PublishProperties::default()
    }
}

fn user_properties_of(object: &Object) -> Vec<(Utf8, Utf8)> {
    let pair = |pair: &Value| match pair {
        Value::Object(pair) => Some((utf8_of(pair.get("key")?)?, utf8_of(pair.get("value")?)?)),
        _ => None,
    };
    match (object.get(USER_PROPERTY_PAIRS), object.get(USER_PROPERTY)) {
        (Some(Value::Array(pairs)), _) => pairs.iter().filter_map(pair).collect(),
        (_, Some(Value::Object(map))) => map
            .iter()
            .filter_map(|(key, value)| Some((Utf8::new(key).ok()?, utf8_of(value)?)))
            .collect(),
        _ => Vec::new(),
    }
}

fn bytes_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Text(text) => Some(text.bytes().clone()),
        _ => None,
    }
}

fn utf8_of(value: &Value) -> Option<Utf8> {
    Utf8::try_from(bytes_of(value)?).ok()
}
