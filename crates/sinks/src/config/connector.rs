//! One connector file: a far side that several sinks share.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::bridge::signer::Inputs;
use crate::secret::Secret;
use crate::units::{Size, Span};

mod tls;

pub use tls::{TlsChoice, TlsConfig, TlsVersion};

/// One `connectors/NAME.toml`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ConnectorConfig {
    /// A Postgres database.
    Postgres(PostgresConnector),
    /// A SQLite file.
    Sqlite(SqliteConnector),
    /// A web server, or what requests to several have in common.
    Http(HttpConnector),
    /// A bridge to another MQTT broker.
    Mqtt(Box<BridgeConfig>),
}

impl ConnectorConfig {
    /// The type's name.
    pub const fn kind(&self) -> super::Kind {
        match self {
            Self::Postgres(_) => super::Kind::Postgres,
            Self::Sqlite(_) => super::Kind::Sqlite,
            Self::Http(_) => super::Kind::Http,
            Self::Mqtt(_) => super::Kind::Mqtt,
        }
    }

    /// What `${conn:key}` gives: a key of this file that is no secret.
    pub fn value(&self, key: &str) -> Option<String> {
        match self {
            Self::Mqtt(bridge) => bridge.value(key),
            Self::Http(http) => match key {
                "url" => http.url.clone(),
                _ => None,
            },
            Self::Sqlite(sqlite) => (key == "path").then(|| sqlite.path.clone()),
            // A database's URL holds its password.
            Self::Postgres(_) => None,
        }
    }
}

/// A Postgres database.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PostgresConnector {
    /// `postgres://user:pw@host/db?sslmode=verify-full`.
    pub url: Secret,
    /// How many connections.
    #[serde(default)]
    pub pool: PoolConfig,
    /// How long one statement may take.
    #[serde(default = "ten_seconds")]
    pub statement_timeout: Span,
    /// How often the database is asked whether it is there.
    #[serde(default)]
    pub health: HealthConfig,
}

/// A SQLite file.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(transform = crate::schema::path_may_be_called_url))]
pub struct SqliteConnector {
    /// The database file.
    #[serde(alias = "url")]
    pub path: String,
    /// How many connections; writers wait for each other anyway.
    #[serde(default)]
    pub pool: PoolConfig,
    /// How long one statement may take.
    #[serde(default = "ten_seconds")]
    pub statement_timeout: Span,
    /// How often the file is looked at.
    #[serde(default)]
    pub health: HealthConfig,
}

/// `pool = { max = 8, acquire_timeout = "5s" }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// At most so many connections.
    pub max: Option<u32>,
    /// How long to wait for one.
    pub acquire_timeout: Option<Span>,
}

/// `health = { every = "15s", timeout = "3s" }`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// How often.
    #[serde(default = "fifteen_seconds")]
    pub every: Span,
    /// How long an answer may take.
    #[serde(default = "three_seconds")]
    pub timeout: Span,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            every: fifteen_seconds(),
            timeout: three_seconds(),
        }
    }
}

/// What requests to a web server have in common.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HttpConnector {
    /// Where sinks without a URL of their own send.
    pub url: Option<String>,
    /// Headers of every request; a sink's own win.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How requests are signed, unless the sink says.
    pub auth: Option<super::Auth>,
    /// How long one request may take, unless the sink says.
    pub timeout: Option<Span>,
    /// Trust and names.
    #[serde(default)]
    pub tls: TlsChoice,
}

/// A bridge to another MQTT broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BridgeConfig {
    /// `plain` (default) or a cloud.
    pub preset: Option<String>,
    /// `mqtt://host:port` or `mqtts://host:port`, in order of preference.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// How the next address is chosen.
    #[serde(default)]
    pub failover: Failover,
    /// Whether a remote of MQTT 5 may name another of the addresses to go to (default false).
    pub follow_redirect: Option<bool>,
    /// Which MQTT.
    pub protocol: Option<Protocol>,
    /// The client id, or with a cloud preset its core.
    pub client_id: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Whether the remote forgets the session with the link; by default it does where there is no `in` and no `out`.
    pub clean_start: Option<bool>,
    /// How long the remote keeps the session without a link, on MQTT 5 (default one hour).
    pub session_expiry: Option<Span>,
    /// Tells a remote of MQTT 3.1.1 that this is a bridge, so that it sends nothing back. mosquitto knows it.
    pub bridge_flag: Option<bool>,
    /// For a remote of MQTT 3.1.1 that sends back what it was sent: the first message within 30 s that is the same as one
    /// that went out is dropped. That may be one of somebody else.
    pub echo_guard: Option<bool>,
    /// For a remote of MQTT 3.1.1 that sends its retained messages again at every link: those that are as they were are
    /// dropped.
    pub dedupe_retained: Option<bool>,
    /// Whether messages that are retained here when an entry of `out` is new are sent, once (default false).
    pub initial_retained: Option<bool>,
    /// How often an idle link is tested.
    pub keepalive: Option<Span>,
    /// When the link is made (default `automatic`).
    pub start: Option<StartMode>,
    /// `start = "lazy"`: so many messages of one queue have to wait before the link is made (default 10).
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub threshold: Option<u32>,
    /// `start = "lazy"`: the link ends when nothing was sent for so long (default 60s).
    pub idle_timeout: Option<Span>,
    /// No message leaves with a higher `QoS`.
    #[cfg_attr(feature = "schema", schemars(range(max = 2)))]
    pub qos_cap: Option<u8>,
    /// How many messages may be unacknowledged.
    pub max_inflight: Option<u16>,
    /// The largest payload.
    pub max_payload: Option<Size>,
    /// How many messages a second, at most.
    pub rate: Option<u32>,
    /// How many bytes of messages a second, at most.
    pub byte_rate: Option<Size>,
    /// How long an acknowledgement may take before the link is made anew.
    pub ack_timeout: Option<Span>,
    /// How long connecting may take.
    pub connect_timeout: Option<Span>,
    /// Trust and names; `false` for plain TCP.
    pub tls: Option<TlsChoice>,
    /// When the link is tried again.
    pub backoff: Option<BackoffConfig>,
    /// Where messages of `out` wait.
    pub queue: Option<BridgeQueue>,
    /// The status topic.
    pub status: Option<BridgeStatus>,
    /// Topics sent on as they are.
    #[serde(default)]
    pub out: Vec<BridgeRoute>,
    /// Topics taken in.
    #[serde(default, rename = "in")]
    pub inbound: Vec<BridgeRoute>,

    /// Aliyun: the product.
    pub product_key: Option<String>,
    /// Aliyun: the device.
    pub device_name: Option<String>,
    /// Aliyun: the device's secret.
    pub device_secret: Option<Secret>,
    /// Aliyun: the region of an old public instance.
    pub region: Option<String>,
    /// Aliyun: the instance, where it has an id of its own.
    pub instance_id: Option<String>,
    /// Aliyun: `hmacsha256` (default), `hmacsha1` or `hmacmd5`.
    pub sign_method: Option<String>,
    /// Aliyun: overrides what follows from the transport.
    pub securemode: Option<i32>,
    /// Aliyun: whether the time is sent (default true).
    pub timestamp: Option<bool>,
    /// Azure: whether messages of `out` take the name of their topic along, as the property `wt` (default true).
    pub carry_topic: Option<bool>,
    /// Added to the clock before signing, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Aliyun: unsigned pairs at the end of the client id.
    #[serde(default)]
    pub extra: Vec<(String, String)>,
    /// Aliyun: the token of a registration without a device, instead of `device_secret`.
    pub device_token: Option<Secret>,
    /// Aliyun MQ: the group.
    pub group_id: Option<String>,
    /// Aliyun MQ, Huawei, Azure: the device.
    pub device_id: Option<String>,
    /// Aliyun MQ: the access key. OneNET: the key of the device, or of the product.
    pub access_key: Option<Secret>,
    /// Aliyun MQ: the secret of the access key.
    pub access_secret: Option<Secret>,
    /// Tencent, OneNET: the product.
    pub product_id: Option<String>,
    /// Tencent: the application (default 12010126).
    pub sdk_app_id: Option<String>,
    /// Huawei: 1 when the cloud checks the hour (default), or 0.
    pub check_timestamp: Option<i64>,
    /// Baidu: the IoT Core.
    pub core_id: Option<String>,
    /// Baidu: the device.
    pub device_key: Option<String>,
    /// Baidu: `SHA256` (default) or `MD5`.
    pub algorithm: Option<String>,
    /// Baidu: the short form of the user name, without time and with MD5.
    pub short_username: Option<bool>,
    /// OneNET: `sha256` (default), `sha1` or `md5`.
    pub method: Option<String>,
    /// OneNET: `device` (default) or `product`, by what the key belongs to.
    pub scope: Option<String>,
    /// Azure, AWS: the endpoint of the account.
    pub host: Option<String>,
    /// Azure: the module of the device.
    pub module_id: Option<String>,
    /// Azure: the device's key.
    pub key: Option<Secret>,
    /// Azure: the policy that the key belongs to, where it is not the device's own.
    pub policy: Option<String>,
    /// Azure: the version of its interface.
    pub api_version: Option<String>,
    /// Tencent, OneNET, Azure, AWS: how long a signature is valid.
    pub expires: Option<Span>,
    /// AWS: the access key, to sign with instead of a certificate.
    pub access_key_id: Option<Secret>,
    /// AWS: the secret of the access key.
    pub secret_access_key: Option<Secret>,
    /// AWS: the token that comes with temporary access keys.
    pub session_token: Option<Secret>,
    /// AWS: when temporary access keys end, `2026-11-29T20:00:00Z` or seconds since 1970, both in quotes. Each of the
    /// four may be `${file:PATH}`: the link is signed anew with what the files hold before the end.
    pub session_expires: Option<Secret>,
    /// AWS: the service that is signed for (default `iotdevicegateway`).
    pub service: Option<String>,
    /// AWS: the custom authorizer.
    pub authorizer: Option<String>,
    /// AWS: the name of the authorizer's token.
    pub token_key: Option<String>,
    /// AWS: the authorizer's token.
    pub token_value: Option<Secret>,
    /// AWS: the token's signature.
    pub token_signature: Option<Secret>,
    /// ThingsBoard: the device's access token.
    pub access_token: Option<Secret>,
    /// Cumulocity: the tenant.
    pub tenant: Option<String>,
    /// Cumulocity: the user.
    pub user: Option<String>,
    /// Aliyun MQ: tokens instead of the access key's secret, `[["RW", "…"]]`.
    #[serde(default)]
    pub tokens: Vec<(String, Secret)>,
    /// Aliyun MQ: `${file:PATH}` with tokens that a service of yours renews:
    /// `{"tokens": [{"type": "RW", "token": "…"}], "expires_ms": 1700000000000}`. The link is signed anew before they end.
    pub tokens_from: Option<Secret>,
}

impl BridgeConfig {
    /// What was given to sign with, apart from client id, user and password.
    pub(crate) fn sign_inputs(&self) -> Inputs {
        let mut inputs = Inputs::default();
        for (key, value) in [
            ("product_key", &self.product_key),
            ("device_name", &self.device_name),
            ("region", &self.region),
            ("instance_id", &self.instance_id),
            ("sign_method", &self.sign_method),
            ("group_id", &self.group_id),
            ("device_id", &self.device_id),
            ("product_id", &self.product_id),
            ("sdk_app_id", &self.sdk_app_id),
            ("core_id", &self.core_id),
            ("device_key", &self.device_key),
            ("algorithm", &self.algorithm),
            ("method", &self.method),
            ("scope", &self.scope),
            ("host", &self.host),
            ("module_id", &self.module_id),
            ("policy", &self.policy),
            ("api_version", &self.api_version),
            ("service", &self.service),
            ("authorizer", &self.authorizer),
            ("token_key", &self.token_key),
            ("tenant", &self.tenant),
            ("user", &self.user),
        ] {
            inputs.set_text(key, value.as_deref());
        }
        for (key, value) in [
            ("device_secret", &self.device_secret),
            ("device_token", &self.device_token),
            ("access_key", &self.access_key),
            ("access_secret", &self.access_secret),
            ("key", &self.key),
            ("access_key_id", &self.access_key_id),
            ("secret_access_key", &self.secret_access_key),
            ("session_token", &self.session_token),
            ("session_expires", &self.session_expires),
            ("token_value", &self.token_value),
            ("token_signature", &self.token_signature),
            ("access_token", &self.access_token),
        ] {
            inputs.set_secret(key, value.as_ref());
        }
        inputs.set_number("securemode", self.securemode.map(i64::from));
        inputs.set_number("check_timestamp", self.check_timestamp);
        inputs.set_number(
            "expires",
            self.expires
                .map(|span| i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX)),
        );
        inputs.set_flag("timestamp", self.timestamp);
        inputs.set_flag("short_username", self.short_username);
        let extra = self.extra.iter();
        inputs.set_pairs(
            "extra",
            extra
                .map(|(key, value)| (key.clone(), Secret::new(value.clone())))
                .collect(),
        );
        inputs.set_pairs("tokens", self.tokens.clone());
        inputs.set_secret("tokens_from", self.tokens_from.as_ref());
        inputs
    }

    /// Whether both make the same connection to the remote: other filters and another queue are no reason for a new one.
    pub(crate) fn connects_like(&self, other: &Self) -> bool {
        let connection = |config: &Self| Self {
            inbound: Vec::new(),
            out: Vec::new(),
            queue: None,
            // What the remote says of a lost link it was told at CONNECT.
            status: config.status.clone().map(|status| BridgeStatus {
                local: true,
                ..status
            }),
            echo_guard: None,
            dedupe_retained: None,
            initial_retained: None,
            // It follows from the filters where it is not given.
            clean_start: Some(config.is_clean_start()),
            ..config.clone()
        };
        connection(self) == connection(other)
    }

    pub(crate) fn is_clean_start(&self) -> bool {
        self.clean_start
            .unwrap_or(self.inbound.is_empty() && self.out.is_empty())
    }

    /// Whether topics cross the bridge by themselves, without a rule's sink.
    pub fn has_routes(&self) -> bool {
        !self.inbound.is_empty() || !self.out.is_empty()
    }

    fn value(&self, key: &str) -> Option<String> {
        match key {
            "product_key" => self.product_key.clone(),
            "device_name" => self.device_name.clone(),
            "region" => self.region.clone(),
            "instance_id" => self.instance_id.clone(),
            "client_id" => self.client_id.clone(),
            "username" => self.username.clone(),
            "preset" => self.preset.clone(),
            "product_id" => self.product_id.clone(),
            "device_id" => self.device_id.clone(),
            "device_key" => self.device_key.clone(),
            "host" => self.host.clone(),
            _ => None,
        }
    }
}

/// How the next address is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Failover {
    /// From the first, in order.
    #[default]
    Primary,
    /// The next one after each failure.
    RoundRobin,
}

/// Which MQTT a bridge speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// 5, and 3.1.1 where the remote does not know it.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

/// When a bridge connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StartMode {
    /// With the broker, and again whenever the link is lost.
    #[default]
    Automatic,
    /// When messages wait for it. The link ends when nothing was sent for `idle_timeout`. Not with `in`.
    Lazy,
    /// With the broker, and not again when that fails or the link is lost.
    Once,
    /// By `weir bridge start NAME`, until `weir bridge stop NAME`.
    Manual,
}

/// `backoff = { base = "12s", cap = "60s" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BackoffConfig {
    /// The shortest wait.
    pub base: Option<Span>,
    /// The longest wait.
    pub cap: Option<Span>,
    /// How long a link must hold before the waits start over.
    pub stable: Option<Span>,
}

/// The queue of `out`: messages wait in the store until the remote has taken them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BridgeQueue {
    /// How many bytes may wait (default 1GB).
    pub max_bytes: Option<Size>,
    /// How many messages may wait (default 10,000,000).
    pub max_records: Option<u64>,
    /// What happens when it is full.
    #[serde(default)]
    pub full: BridgeFull,
    /// Whether messages of `QoS` 0 wait, too (default). With `false` they are dropped while the link is down.
    pub store_qos0: Option<bool>,
    /// A message that has waited for so long is not sent any more (default: it waits for ever).
    pub ttl: Option<Span>,
}

/// What a full queue of `out` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BridgeFull {
    /// The oldest messages make room.
    #[default]
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// Publishers of `QoS` 1 and 2 wait; messages of `QoS` 0 are dropped.
    BlockQos,
}

/// Where it is said whether the bridge is connected.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BridgeStatus {
    /// Retained on the own broker (default true): 1 or 0 there, and as JSON on `$SYS/bridges/NAME`.
    #[serde(default = "yes")]
    pub local: bool,
    /// Retained 1 or 0 on the remote (default false).
    #[serde(default)]
    pub remote: bool,
    /// The topic at the remote (default `$SYS/broker/connection/CLIENT_ID/state`).
    pub topic: Option<String>,
}

impl Default for BridgeStatus {
    fn default() -> Self {
        Self {
            local: true,
            remote: false,
            topic: None,
        }
    }
}

/// One entry of `in` or `out`: which topics cross, and what they are called on the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BridgeRoute {
    /// The filter without the prefix of the side that messages come from. Empty: one topic, named by both prefixes.
    pub filter: Option<String>,
    /// What stands before it here.
    pub local_prefix: Option<String>,
    /// What stands before it at the remote.
    pub remote_prefix: Option<String>,
    /// `in`: the topic here, with places such as `${1}`.
    pub local_topic: Option<String>,
    /// `out`: the topic at the remote, with places such as `${1}`.
    pub remote_topic: Option<String>,
    /// The highest `QoS` (default `qos_cap`).
    #[cfg_attr(feature = "schema", schemars(range(max = 2)))]
    pub qos: Option<u8>,
    /// `out`: the `QoS` with which every message leaves, whatever it came with; at most `qos_cap`.
    #[cfg_attr(feature = "schema", schemars(range(max = 2)))]
    pub qos_force: Option<u8>,
    /// What becomes of the RETAIN flag (default `keep`, or `strip` where the remote takes no retained messages).
    pub retain: Option<RetainPolicy>,
    /// Another payload, with places such as `${payload}`, `${base64:payload}` and those of topics. One that begins with `{` or
    /// `[` is JSON.
    pub payload: Option<String>,
    /// `in`: the group of several weirs that share what the remote sends.
    pub share: Option<String>,
    /// `in`: the messages are for rules `FROM "$bridges/mqtt:NAME"` and are not published here.
    #[serde(default)]
    pub rules_only: bool,
}

/// What becomes of the RETAIN flag of a message that crosses a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RetainPolicy {
    /// It stays as it is.
    #[default]
    Keep,
    /// The message is not retained.
    Strip,
    /// The message is retained.
    Set,
}

const fn yes() -> bool {
    true
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

fn fifteen_seconds() -> Span {
    Span(Duration::from_secs(15))
}

fn three_seconds() -> Span {
    Span(Duration::from_secs(3))
}
