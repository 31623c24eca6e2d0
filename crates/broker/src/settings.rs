//! What the operator decides for the MQTT server as a whole, as plain values.
//!
//! They come from `weir.toml` or from a program that embeds the broker, and are read by everything below it.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;
use weir_mqtt::SubscribeOptions;

use crate::core::connect::Capabilities;
use crate::core::limits::LimitSettings;
use crate::core::shared_groups::Strategies;
use crate::core::topic_rewrite::Rewrites;

/// Limits of the MQTT server; the names are those of `[mqtt]` in `weir.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSettings {
    /// The largest packet that is read, in bytes with its fixed header.
    pub max_packet_size: usize,
    /// The longest client identifier, in bytes.
    pub max_client_id: usize,
    /// The most levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// The receive maximum in both directions.
    pub max_inflight: u16,
    /// The most messages that wait in one session.
    pub max_queued: usize,
    /// The most bytes that wait in one session.
    pub max_queued_bytes: usize,
    /// The longest time that a session outlives its connection.
    pub session_expiry_max: Duration,
    /// A client is given up after its keep-alive times this.
    pub keepalive_factor: f64,
    /// The longest keep-alive; MQTT 5 clients that ask for more or for none are told this one. `None`: theirs counts.
    pub keepalive_max_s: Option<u16>,
    /// The most subscriptions of one session.
    pub max_subscriptions_per_client: usize,
    /// How many bytes may wait to be written to one client.
    pub max_outbox_bytes: usize,
    /// The highest topic alias that an MQTT 5 client may use.
    pub topic_alias_maximum: u16,
    /// The highest topic alias that the broker uses, where the client takes any.
    pub topic_alias_out: u16,
    /// What clients may do at all.
    pub capabilities: Capabilities,
    /// Whether the broker makes a client identifier for clients that send an empty one; otherwise they are refused.
    pub empty_client_ids: bool,
    /// Whether MQTT 3.1 clients are held to identifiers of 1 to 23 characters.
    pub short_v31_client_ids: bool,
    /// A client without keep-alive is given up after this long without a packet. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Whether MQTT 5 clients are told in words why something is refused.
    pub reason_strings: bool,
    /// Whether payloads that are said to be UTF-8 text are checked.
    pub check_payload_format: bool,
    /// What MQTT 5 clients that ask get as response information; `%c` is the client identifier.
    pub response_information: Option<String>,
    /// The server that clients are sent to when this one shuts down or cannot take them.
    pub server_reference: Option<String>,
    /// The most messages of `$delayed/…` that wait.
    pub max_delayed: usize,
    /// The most bytes of messages that wait so.
    pub max_delayed_bytes: usize,
    /// How shared subscriptions choose among their members.
    pub shared_groups: Strategies,
    /// Topics that are replaced by others on their way in.
    pub rewrites: Rewrites,
    /// What every client is subscribed to when it connects.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// How often `$SYS/broker/#` is said. `None`: never.
    pub sys_interval: Option<Duration>,
    /// What a client of MQTT 3.1 or 3.1.1 does not acknowledge for this long is sent again over the same connection.
    /// `None`: only over the next.
    pub retry_interval: Option<Duration>,
    /// How much clients may send, and how fast they may come.
    pub limits: LimitSettings,
    /// How long a connection may take to send CONNECT.
    pub connect_timeout: Duration,
    /// How long a packet may be in coming once it has begun; a large one may take longer while enough of it comes.
    /// `None`: for ever.
    pub packet_timeout: Option<Duration>,
    /// The most retained messages.
    pub max_retained: usize,
    /// The most bytes of retained messages.
    pub max_retained_bytes: usize,
    /// Under which name the broker knows a client.
    pub identity: ClientIdentity,
    /// Whether client identifiers such as `aliyun_iot:a1Example:gw-01`, which begin with the name of a devices' scheme
    /// and a colon, are kept for the devices that `[auth.devices]` admits.
    pub reserve_device_names: bool,
    /// Threads for plain TCP connections. `None`: as many as the machine has processors.
    pub threads: Option<NonZeroUsize>,
}

/// Under which name the broker knows a client: its session, takeover, access rules, events.
///
/// Refused is a client that has no such name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ClientIdentity {
    /// Its client identifier.
    #[default]
    ClientId,
    /// The user name that was authenticated.
    Username,
    /// The common name of its certificate.
    #[serde(rename = "cert_cn")]
    CertCn,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            max_packet_size: 1 << 20,
            max_client_id: 256,
            max_topic_levels: 64,
            max_inflight: 32,
            max_queued: 1000,
            max_queued_bytes: 16 << 20,
            session_expiry_max: Duration::from_secs(2 * 60 * 60),
            keepalive_factor: 1.5,
            keepalive_max_s: None,
            max_subscriptions_per_client: 1000,
            max_outbox_bytes: 1 << 20,
            topic_alias_maximum: 16,
            topic_alias_out: 16,
            capabilities: Capabilities::default(),
            empty_client_ids: true,
            short_v31_client_ids: false,
            idle_timeout: None,
            reason_strings: true,
            check_payload_format: true,
            response_information: None,
            server_reference: None,
            max_delayed: 10_000,
            max_delayed_bytes: 64 << 20,
            shared_groups: Strategies::default(),
            rewrites: Rewrites::default(),
            auto_subscribe: Vec::new(),
            sys_interval: None,
            retry_interval: None,
            limits: LimitSettings::default(),
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Some(Duration::from_secs(30)),
            max_retained: 1_000_000,
            max_retained_bytes: 256 << 20,
            identity: ClientIdentity::ClientId,
            reserve_device_names: false,
            threads: None,
        }
    }
}

/// One subscription for every client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoSubscribe {
    /// The filter, with `%c` for the client identifier and `%u` for the user name.
    pub topic: String,
    /// How.
    pub options: SubscribeOptions,
}
