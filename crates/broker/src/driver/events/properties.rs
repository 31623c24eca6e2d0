//! MQTT 5 properties as rules see them: an object under the specification's names, with hyphens.

use bytes::Bytes;
use weir_mqtt::properties::{
    AckProperties, ConnectProperties, DisconnectProperties, PayloadFormat, PublishProperties,
};
use weir_mqtt::{SubscriptionId, TopicName, Utf8};
use weir_rules::value::{Object, Text, Value};

use super::{Fields, text_of};

const PAYLOAD_FORMAT: &str = "Payload-Format-Indicator";
const MESSAGE_EXPIRY: &str = "Message-Expiry-Interval";
const CONTENT_TYPE: &str = "Content-Type";
const RESPONSE_TOPIC: &str = "Response-Topic";
const CORRELATION_DATA: &str = "Correlation-Data";
const SESSION_EXPIRY: &str = "Session-Expiry-Interval";
const REASON_STRING: &str = "Reason-String";
const USER_PROPERTY: &str = "User-Property";
const USER_PROPERTY_PAIRS: &str = "User-Property-Pairs";

/// MQTT 5 properties under their hyphenated names.
pub(super) fn of_publish(properties: &PublishProperties) -> Object {
    let format = properties
        .payload_format_indicator
        .map(|format| i64::from(format == PayloadFormat::Utf8));
    let response_topic = properties
        .response_topic
        .as_ref()
        .map(|topic| text_of(topic.as_utf8()));
    Fields::new()
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
        )
        .user_properties(&properties.user_properties)
}

pub(super) fn of_connect(properties: &ConnectProperties) -> Object {
    let session_expiry = properties.session_expiry_interval_s.map(i64::from);
    let receive_maximum = properties.receive_maximum.map(|most| i64::from(most.get()));
    let packet_size = properties
        .maximum_packet_size
        .map(|most| i64::from(most.get()));
    let method = properties.authentication_method.as_ref().map(text_of);
    Fields::new()
        .optional(SESSION_EXPIRY, session_expiry)
        .optional("Receive-Maximum", receive_maximum)
        .optional("Maximum-Packet-Size", packet_size)
        .optional(
            "Topic-Alias-Maximum",
            properties.topic_alias_maximum.map(i64::from),
        )
        .optional(
            "Request-Response-Information",
            properties.request_response_information.map(i64::from),
        )
        .optional(
            "Request-Problem-Information",
            properties.request_problem_information.map(i64::from),
        )
        .optional("Authentication-Method", method)
        .user_properties(&properties.user_properties)
}

pub(super) fn of_disconnect(properties: &DisconnectProperties) -> Object {
    let session_expiry = properties.session_expiry_interval_s.map(i64::from);
    Fields::new()
        .optional(SESSION_EXPIRY, session_expiry)
        .optional(
            REASON_STRING,
            properties.reason_string.as_ref().map(text_of),
        )
        .user_properties(&properties.user_properties)
}

pub(super) fn of_acknowledgement(properties: &AckProperties) -> Object {
    Fields::new()
        .optional(
            REASON_STRING,
            properties.reason_string.as_ref().map(text_of),
        )
        .user_properties(&properties.user_properties)
}

pub(super) fn of_subscribe(id: Option<SubscriptionId>, user_properties: &[(Utf8, Utf8)]) -> Object {
    let id = id.map(|id| i64::from(id.get()));
    Fields::new()
        .optional("Subscription-Identifier", id)
        .user_properties(user_properties)
}

impl Fields {
    fn user_properties(mut self, pairs: &[(Utf8, Utf8)]) -> Object {
        self.0.extend(user_properties_object(pairs));
        self.0
    }
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
pub(super) fn to_publish(object: &Object) -> PublishProperties {
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
