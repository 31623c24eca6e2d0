//! The Will: the message that a client leaves for the case that its connection breaks.

use std::sync::Arc;

use weir_mqtt::properties::PublishProperties;

use super::Millis;
use super::message::{Message, Origin};

/// A Will, ready to be published.
#[derive(Clone, Debug)]
pub struct Will {
    /// What is published. Its expiry interval begins when it is published.
    message: Message,
    /// Its message expiry interval.
    expiry_interval_s: Option<u32>,
    /// How long after the end of the connection.
    delay_s: u32,
}

impl Will {
    /// The Will of a CONNECT.
    pub fn new(will: &weir_mqtt::Will, origin: Arc<Origin>) -> Self {
        let properties = PublishProperties {
            payload_format_indicator: will.properties.payload_format_indicator,
            message_expiry_interval_s: will.properties.message_expiry_interval_s,
            content_type: will.properties.content_type.clone(),
            response_topic: will.properties.response_topic.clone(),
            correlation_data: will.properties.correlation_data.clone(),
            user_properties: will.properties.user_properties.clone(),
            ..PublishProperties::default()
        };
        let has_properties = properties != PublishProperties::default();
        let message = Message {
            properties: has_properties.then(|| Box::new(properties)),
            origin,
            ..Message::new(
                will.topic.clone(),
                will.payload.clone(),
                will.qos,
                will.retain,
            )
        };
        Self {
            message: message.owned(),
            expiry_interval_s: will.properties.message_expiry_interval_s,
            delay_s: will.properties.will_delay_interval_s.unwrap_or(0),
        }
    }

    /// A Will as a storage has kept it.
    pub fn restored(message: Message, delay_s: u32) -> Self {
        let properties = message.properties.as_deref();
        Self {
            expiry_interval_s: properties
                .and_then(|properties| properties.message_expiry_interval_s),
            message,
            delay_s,
        }
    }

    /// What is published; its times are those of the moment when it is.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How many seconds after the end of the connection.
    pub fn delay_s(&self) -> u32 {
        self.delay_s
    }

    /// When it is due after the connection ended at `now`, of a session that lives on for `session_expiry_s`;
    /// the end of the session does not wait. `[MQTT-3.1.3-9]`
    pub fn due(&self, now: Millis, session_expiry_s: u32) -> Millis {
        now + u64::from(self.delay_s.min(session_expiry_s)) * 1000
    }

    /// The message to publish now.
    pub fn into_message(self, now: Millis) -> Message {
        let expires_at = self
            .expiry_interval_s
            .map(|seconds| now + u64::from(seconds) * 1000);
        Message {
            expires_at,
            ..self.message
        }
    }
}
