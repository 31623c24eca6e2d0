//! `[mqtt]`: limits of the protocol.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;
use weir_mqtt::{QoS, SubscriptionFilter};

use super::{ByteSize, Span};
use crate::core::connect::Capabilities;
use crate::core::shared_groups::{Strategies, Strategy};
use crate::core::subscribe_options::options;
use crate::core::topic_rewrite::{RewriteAction, RewriteRule, Rewrites};
use crate::settings::{AutoSubscribe, BrokerSettings, ClientIdentity};

/// `[mqtt]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Threads for plain TCP connections; as many as the machine has processors if it is not said.
    pub threads: Option<NonZeroUsize>,
    /// The largest packet that is taken: 20B to 256MiB.
    pub max_packet_size: ByteSize,
    /// The longest client id in bytes: 1 to 65535.
    #[cfg_attr(test, schemars(range(min = 1, max = 65_535)))]
    pub max_client_id: usize,
    /// The most levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// Receive maximum: unacknowledged QoS 1 and 2 publishes per client and direction.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub max_inflight: u16,
    /// Messages that wait for one session beyond its window.
    pub max_queued: usize,
    /// Bytes that wait for one session beyond its window.
    pub max_queued_bytes: ByteSize,
    /// The longest that a session outlives its connection.
    pub session_expiry_max: Span,
    /// A client is gone after this many keep-alive intervals without a packet.
    #[cfg_attr(test, schemars(range(min = 1.0, max = 10.0)))]
    pub keepalive_factor: f64,
    /// How long a connection may take for its handshakes and CONNECT.
    pub connect_timeout: Span,
    /// How long a packet may be in coming once it has begun; 0s: for ever.
    pub packet_timeout: Span,
    /// Subscriptions of one client.
    pub max_subscriptions_per_client: usize,
    /// The highest QoS that clients may publish with: 0, 1 or 2.
    #[cfg_attr(test, schemars(range(max = 2)))]
    pub max_qos: u8,
    /// Whether messages may be retained.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether subscriptions may be shared.
    pub shared_subscriptions: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifiers: bool,
    /// The longest keep-alive; MQTT 5 clients that ask for more or for none are told this one.
    pub keepalive_max: Option<Span>,
    /// A client without keep-alive is gone after this long without a packet.
    pub idle_timeout: Option<Span>,
    /// The highest topic alias that clients may use; 0: none.
    pub topic_alias_in: u16,
    /// The highest topic alias that the broker uses; 0: none.
    pub topic_alias_out: u16,
    /// Makes a client identifier for clients that send an empty one; otherwise they are refused.
    pub empty_client_ids: bool,
    /// Holds MQTT 3.1 clients to identifiers of at most 23 characters.
    pub short_v31_client_ids: bool,
    /// Tells MQTT 5 clients in words why something is refused, beside the reason code.
    pub reason_strings: bool,
    /// Checks payloads that are said to be UTF-8 text.
    pub check_payload_format: bool,
    /// What clients that ask get as the basis of response topics; `%c` is the client identifier.
    pub response_information: Option<String>,
    /// Where clients are sent when this server shuts down or is too busy.
    pub server_reference: Option<String>,
    /// Messages of `$delayed/{seconds}/topic` that wait at most.
    pub max_delayed: usize,
    /// Bytes of such messages.
    pub max_delayed_bytes: ByteSize,
    /// How often `$SYS/broker/#` is published; 0: never.
    pub sys_interval: Span,
    /// Sends MQTT 3.1 and 3.1.1 clients again what they do not acknowledge for this long.
    pub retry_interval: Option<Span>,
    /// How shared subscriptions choose among their members. A member that is away keeps what it had for as long as its
    /// session is kept, then another gets it: workers connect with clean start, or with a short session expiry.
    pub shared_strategy: SharedStrategy,
    /// The same for single groups, by name; `$queue` is the group of `$queue/filter`.
    pub shared_strategies: BTreeMap<String, SharedStrategy>,
    /// Topics that are replaced by others on their way in; the first that matches counts.
    pub rewrite: Vec<Rewrite>,
    /// What every client is subscribed to when it connects.
    pub auto_subscribe: Vec<AutoSubscription>,
    /// Under which name the broker knows a client.
    pub identity: ClientIdentity,
}

/// How a shared subscription chooses among its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum SharedStrategy {
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The same one until it is gone.
    Sticky,
    /// The same one for each publisher.
    HashClientid,
    /// The same one for each topic.
    HashTopic,
}

impl SharedStrategy {
    fn strategy(self) -> Strategy {
        match self {
            Self::RoundRobin => Strategy::RoundRobin,
            Self::Random => Strategy::Random,
            Self::Sticky => Strategy::Sticky,
            Self::HashClientid => Strategy::HashClient,
            Self::HashTopic => Strategy::HashTopic,
        }
    }
}

/// `[[mqtt.rewrite]]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Which packets: `publish`, `subscribe` or `all`.
    pub action: Action,
    /// The filter of topics that are looked at.
    pub source: String,
    /// The regular expression that they must match too.
    pub regex: String,
    /// The new topic, with `$1` for groups of the expression, `%c` for the client id and `%u` for the user name.
    pub destination: String,
}

/// Which packets are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE and UNSUBSCRIBE.
    Subscribe,
    /// All of them.
    All,
}

/// `[[mqtt.auto_subscribe]]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AutoSubscription {
    /// The filter, with `%c` for the client id and `%u` for the user name.
    pub topic: String,
    /// The highest QoS of deliveries.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(max = 2)))]
    pub qos: u8,
    /// Not what the client itself published.
    #[serde(default)]
    pub no_local: bool,
    /// Keeps the RETAIN flag as it was published.
    #[serde(default)]
    pub retain_as_published: bool,
    /// When retained messages come: 0 always, 1 for a new subscription, 2 never.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(max = 2)))]
    pub retain_handling: u8,
}

impl Rewrite {
    fn rule(&self) -> Result<RewriteRule, String> {
        let action = match self.action {
            Action::Publish => RewriteAction::Publish,
            Action::Subscribe => RewriteAction::Subscribe,
            Action::All => RewriteAction::All,
        };
        RewriteRule::new(action, &self.source, &self.regex, &self.destination)
    }
}

impl AutoSubscription {
    fn check(&self) -> Result<(), String> {
        // Names of clients are checked when they come.
        let example = self.topic.replace("%c", "c").replace("%u", "u");
        SubscriptionFilter::parse(&example).map_err(|error| error.to_string())?;
        if self.qos > 2 || self.retain_handling > 2 {
            return Err("qos and retain_handling are 0, 1 or 2".to_owned());
        }
        Ok(())
    }

    fn settings(&self) -> AutoSubscribe {
        AutoSubscribe {
            topic: self.topic.clone(),
            options: options(
                QoS::try_from(self.qos).unwrap_or(QoS::ExactlyOnce),
                self.no_local,
                self.retain_as_published,
                self.retain_handling,
            ),
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            max_packet_size: ByteSize::mib(1),
            max_client_id: 256,
            max_topic_levels: 64,
            threads: None,
            max_inflight: 32,
            max_queued: 1000,
            max_queued_bytes: ByteSize::mib(8),
            session_expiry_max: Span(Duration::from_secs(2 * 3600)),
            keepalive_factor: 1.5,
            connect_timeout: Span(Duration::from_secs(10)),
            packet_timeout: Span(Duration::from_secs(30)),
            max_subscriptions_per_client: 1000,
            max_qos: 2,
            retain_available: true,
            wildcard_subscriptions: true,
            shared_subscriptions: true,
            subscription_identifiers: true,
            keepalive_max: None,
            idle_timeout: None,
            topic_alias_in: 16,
            topic_alias_out: 16,
            empty_client_ids: true,
            short_v31_client_ids: false,
            reason_strings: true,
            check_payload_format: true,
            response_information: None,
            server_reference: None,
            max_delayed: 10_000,
            max_delayed_bytes: ByteSize::mib(64),
            sys_interval: Span(Duration::from_secs(10)),
            retry_interval: None,
            shared_strategy: SharedStrategy::RoundRobin,
            shared_strategies: BTreeMap::new(),
            rewrite: Vec::new(),
            auto_subscribe: Vec::new(),
            identity: ClientIdentity::ClientId,
        }
    }
}

impl Mqtt {
    /// What lies outside its bounds.
    pub(super) fn check(&self, refuse: &mut impl FnMut(String, &str)) {
        let packet = self.max_packet_size.bytes();
        if !(20..=256 * 1024 * 1024).contains(&packet) {
            refuse(
                format!("mqtt.max_packet_size is {packet} bytes"),
                "it must lie between 20B and 256MiB",
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
        if self.max_qos > 2 {
            refuse(
                format!("mqtt.max_qos is {}", self.max_qos),
                "it must be 0, 1 or 2",
            );
        }
        let keepalive_s = self.keepalive_max.map(|span| span.0.as_secs());
        if keepalive_s.is_some_and(|s| !(1..=65_535).contains(&s)) {
            refuse(
                "mqtt.keepalive_max is out of bounds".to_owned(),
                "it must lie between 1s and 65535s; leave it out to take what clients ask for",
            );
        }
        for rewrite in &self.rewrite {
            if let Err(error) = rewrite.rule() {
                refuse(
                    format!("mqtt.rewrite of `{}`: {error}", rewrite.source),
                    "`source` is a topic filter, `regex` a regular expression",
                );
            }
        }
        for one in &self.auto_subscribe {
            if let Err(error) = one.check() {
                refuse(
                    format!("mqtt.auto_subscribe to `{}`: {error}", one.topic),
                    "`topic` is a topic filter, with %c for the client id and %u for the user name",
                );
            }
        }
        if self
            .retry_interval
            .is_some_and(|span| span.0 < Duration::from_secs(1))
        {
            refuse(
                "mqtt.retry_interval is shorter than a second".to_owned(),
                "leave it out to send again only over a new connection [MQTT-4.4.0-1]",
            );
        }
        if self.idle_timeout.is_some_and(|span| span.0.is_zero()) {
            refuse(
                "mqtt.idle_timeout is 0".to_owned(),
                "leave it out to let clients without keep-alive be silent for ever",
            );
        }
        for (key, text) in [
            ("response_information", &self.response_information),
            ("server_reference", &self.server_reference),
        ] {
            if text
                .as_deref()
                .is_some_and(|text| weir_mqtt::Utf8::new(text).is_err())
            {
                refuse(
                    format!("mqtt.{key} cannot be sent"),
                    "it must be shorter than 64 KiB and have no U+0000",
                );
            }
        }
    }

    /// The limits as the MQTT server takes them.
    pub fn settings(&self) -> BrokerSettings {
        BrokerSettings {
            threads: self.threads,
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
            keepalive_max_s: self
                .keepalive_max
                .map(|span| u16::try_from(span.0.as_secs()).unwrap_or(u16::MAX)),
            idle_timeout: self.idle_timeout.map(|span| span.0),
            topic_alias_maximum: self.topic_alias_in,
            topic_alias_out: self.topic_alias_out,
            capabilities: Capabilities {
                max_qos: QoS::try_from(self.max_qos).unwrap_or(QoS::ExactlyOnce),
                retain: self.retain_available,
                wildcard_subscriptions: self.wildcard_subscriptions,
                shared_subscriptions: self.shared_subscriptions,
                subscription_identifiers: self.subscription_identifiers,
            },
            empty_client_ids: self.empty_client_ids,
            short_v31_client_ids: self.short_v31_client_ids,
            reason_strings: self.reason_strings,
            check_payload_format: self.check_payload_format,
            response_information: self.response_information.clone(),
            server_reference: self.server_reference.clone(),
            max_delayed: self.max_delayed,
            max_delayed_bytes: self.max_delayed_bytes.bytes(),
            sys_interval: Some(self.sys_interval.0).filter(|every| !every.is_zero()),
            retry_interval: self.retry_interval.map(|span| span.0),
            shared_groups: Strategies {
                default: self.shared_strategy.strategy(),
                by_group: self
                    .shared_strategies
                    .iter()
                    .map(|(group, strategy)| (group.clone(), strategy.strategy()))
                    .collect(),
            },
            // What is wrong was told by `check`.
            rewrites: Rewrites::new(self.rewrite.iter().flat_map(Rewrite::rule).collect()),
            auto_subscribe: self
                .auto_subscribe
                .iter()
                .map(AutoSubscription::settings)
                .collect(),
            identity: self.identity,
            ..BrokerSettings::default()
        }
    }
}
