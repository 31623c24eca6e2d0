//! `[mqtt]`: limits of the protocol.

use std::time::Duration;

use serde::Deserialize;

use super::{ByteSize, Span};
use crate::broker::BrokerSettings;

/// `[mqtt]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// The largest packet that is taken: 1KiB to 256MiB.
    pub max_packet_size: ByteSize,
    /// The longest client id in bytes: 1 to 65535.
    pub max_client_id: usize,
    /// The most levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Receive maximum: unacknowledged QoS 1 and 2 publishes per client and direction.
    pub max_inflight: u16,
    /// Messages that wait for one session beyond its window.
    pub max_queued: usize,
    /// Bytes that wait for one session beyond its window.
    pub max_queued_bytes: ByteSize,
    /// The longest that a session outlives its connection.
    pub session_expiry_max: Span,
    /// A client is gone after this many keep-alive intervals without a packet.
    pub keepalive_factor: f64,
    /// How long a connection may take for its handshakes and CONNECT.
    pub connect_timeout: Span,
    /// How long a packet may be in coming once it has begun; 0s: for ever.
    pub packet_timeout: Span,
    /// Subscriptions of one client.
    pub max_subscriptions_per_client: usize,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            max_packet_size: ByteSize::mib(1),
            max_client_id: 256,
            max_topic_levels: 64,
            max_inflight: 32,
            max_queued: 1000,
            max_queued_bytes: ByteSize::mib(8),
            session_expiry_max: Span(Duration::from_secs(2 * 3600)),
            keepalive_factor: 1.5,
            connect_timeout: Span(Duration::from_secs(10)),
            packet_timeout: Span(Duration::from_secs(30)),
            max_subscriptions_per_client: 1000,
        }
    }
}

impl Mqtt {
    /// What lies outside its bounds.
    pub(super) fn check(&self, refuse: &mut impl FnMut(String, &str)) {
        let packet = self.max_packet_size.bytes();
        if !(1024..=256 * 1024 * 1024).contains(&packet) {
            refuse(
                format!("mqtt.max_packet_size is {packet} bytes"),
                "it must lie between 1KiB and 256MiB",
            );
        }
        if !(1..=65_535).contains(&self.max_client_id) {
            refuse(
                format!("mqtt.max_client_id is {}", self.max_client_id),
                "it must lie between 1 and 65535",
            );
        }
        if self.max_inflight == 0 {
            refuse(
                "mqtt.max_inflight is 0".to_owned(),
                "it must be at least 1 [MQTT-3.1.2-26]",
            );
        }
        if self.connect_timeout.0.is_zero() {
            refuse(
                "mqtt.connect_timeout is 0".to_owned(),
                "it must be longer: no client could connect",
            );
        }
        if !(1.0..=10.0).contains(&self.keepalive_factor) {
            refuse(
                format!("mqtt.keepalive_factor is {}", self.keepalive_factor),
                "it must lie between 1 and 10; the protocol asks for 1.5 [MQTT-3.1.2-22]",
            );
        }
    }

    /// The limits as the MQTT server takes them.
    pub fn settings(&self) -> BrokerSettings {
        BrokerSettings {
            max_packet_size: self.max_packet_size.bytes(),
            max_client_id: self.max_client_id,
            max_topic_levels: self.max_topic_levels,
            max_inflight: self.max_inflight,
            max_queued: self.max_queued,
            max_queued_bytes: self.max_queued_bytes.bytes(),
            session_expiry_max: self.session_expiry_max.0,
            keepalive_factor: self.keepalive_factor,
            connect_timeout: self.connect_timeout.0,
            packet_timeout: Some(self.packet_timeout.0).filter(|limit| !limit.is_zero()),
            max_subscriptions_per_client: self.max_subscriptions_per_client,
            ..BrokerSettings::default()
        }
    }
}
