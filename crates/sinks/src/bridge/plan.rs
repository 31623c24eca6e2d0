//! A bridge's connector file that was checked against its preset.

use std::sync::Arc;
use std::time::Duration;

use weir_mqtt::QoS;

use super::pace::Rate;
use super::preset::{self, AWS_IOT, LATER, PLAIN, Preset, TopicOwner};
use super::remote_status::RemoteStatus;
use super::route::{self, InRoute, OutRoute, Way};
use super::signer::{Credentials, Inputs, Moment, Provider, SignError};
use super::start::Start;
use crate::codes;
use crate::config::BufferKind;
use crate::config::connector::{
    BridgeConfig, BridgeFull, BridgeQueue, BridgeRoute, Failover, Protocol, RetainPolicy,
    TlsChoice, TlsConfig,
};
use crate::error::ConfigError;
use crate::plan::{BufferLimits, WhenFull};

/// A bridge that can be connected.
#[derive(Clone, Debug)]
pub struct BridgePlan {
    /// What is known of the remote.
    pub preset: Preset,
    /// Where it is, in order of preference; never empty.
    pub addresses: Vec<Address>,
    /// How the next address is chosen.
    pub failover: Failover,
    /// Whether the remote may name another of them to go to.
    pub follow_redirect: bool,
    /// Which MQTT.
    pub protocol: Protocol,
    /// How it logs in.
    pub credentials: Credentials,
    /// Added to the clock before signing.
    pub clock_offset_ms: i64,
    /// How often an idle link is tested.
    pub keepalive: Duration,
    /// No message leaves with a higher `QoS`.
    pub qos_cap: u8,
    /// Whether the remote takes retained messages.
    pub retain_allowed: bool,
    /// How many messages may be unacknowledged.
    pub max_inflight: u16,
    /// The same where the remote cannot say how many it takes, and the file does not either.
    pub max_inflight_untold: u16,
    /// The largest payload.
    pub max_payload: Option<usize>,
    /// The largest packet, where the cloud counts all of it.
    pub max_packet: Option<usize>,
    /// Messages a second.
    pub rate: Option<Rate>,
    /// Bytes a second.
    pub byte_rate: Option<u32>,
    /// How long an acknowledgement may take.
    pub ack_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Trust and names for `mqtts` addresses.
    pub tls: TlsConfig,
    /// When the link is made.
    pub start: Start,
    /// The first and the longest wait, and how long a link must hold before they start over.
    pub backoff: Backoff,
    /// Whose topics it may use.
    pub owner: Option<TopicOwner>,
    /// What is taken from the remote, in the order of the file.
    pub inbound: Arc<[InRoute]>,
    /// What is sent there without a rule, in the order of the file.
    pub out: Arc<[OutRoute]>,
    /// Whether the remote forgets the session with the link.
    pub clean_start: bool,
    /// Whether it is asked to keep it all the same for a rule's sink at `QoS` 2, so that nothing comes twice.
    pub session_if_exact: bool,
    /// How long it keeps one, on MQTT 5.
    pub session_expiry: Duration,
    /// Whether a remote of 3.1.1 is told that this is a bridge.
    pub bridge_flag: bool,
    /// Whether what a remote of 3.1.1 sends back is dropped.
    pub echo_guard: bool,
    /// Whether retained messages that a remote of 3.1.1 has sent before are dropped.
    pub dedupe_retained: bool,
    /// Whether what is retained here is sent when an entry of `out` is new.
    pub initial_retained: bool,
    /// How much of `out` may wait.
    pub queue: BufferLimits,
    /// And for how long.
    pub queue_ttl: Option<Duration>,
    /// Whether messages of `QoS` 0 wait there while the link is down.
    pub store_qos0: bool,
    /// Whether the broker says on a topic whether the link is up.
    pub status: bool,
    /// Whether the remote does, and on which topic where that is not the usual one.
    pub remote_status: Option<RemoteStatus>,
}

/// Waits between attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// How long a link must hold before the waits start over.
    pub stable: Duration,
    /// The shortest time between two CONNECTs, whatever the reason.
    pub spacing: Duration,
}

impl BridgePlan {
    /// Checks a bridge's file: the plan and warnings, or every mistake.
    ///
    /// # Errors
    /// Each mistake names its key and what would cure it.
    pub fn check(config: &BridgeConfig) -> Result<(Self, Vec<ConfigError>), Vec<ConfigError>> {
        let name = config.preset.as_deref().unwrap_or(PLAIN.name);
        let Some(preset) = preset::ALL
            .iter()
            .find(|preset| preset.name == name)
            .cloned()
        else {
            return Err(vec![no_preset(name)]);
        };
        let mut check = Check {
            config,
            preset,
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        check.queue_options();
        check.options();
        let start = check.start();
        check.tls();
        let addresses = check.addresses();
        let credentials = check.credentials(&addresses);
        let backoff = check.backoff();
        let keepalive = check.keepalive();
        let qos_cap = check.qos_cap();
        check.limits(qos_cap);
        let (rate, byte_rate) = check.rates();
        let owner = credentials.as_ref().and_then(|credentials| {
            TopicOwner::of(&check.preset, &credentials.inputs, credentials.identity())
        });
        let (inbound, out) = check.routes(qos_cap, owner.as_ref());
        let remote_status = check.remote_status(owner.as_ref());
        let preset = check.preset.clone();
        let cloud = preset.name != PLAIN.name;
        let plan = credentials.map(|credentials| Self {
            owner,
            start,
            inbound: inbound.into(),
            out: out.into(),
            clean_start: config.is_clean_start(),
            session_if_exact: config.clean_start.is_none(),
            session_expiry: config
                .session_expiry
                .map_or(Duration::from_secs(3600), |span| span.0),
            bridge_flag: config.bridge_flag.unwrap_or(false),
            echo_guard: config.echo_guard.unwrap_or(false),
            dedupe_retained: config.dedupe_retained.unwrap_or(false),
            initial_retained: config.initial_retained.unwrap_or(false),
            queue: queue(config.queue.as_ref()),
            queue_ttl: (config.queue.as_ref())
                .and_then(|queue| queue.ttl)
                .map(|span| span.0),
            store_qos0: (config.queue.as_ref())
                .and_then(|queue| queue.store_qos0)
                .unwrap_or(true),
            status: config.status.clone().unwrap_or_default().local,
            remote_status,
            addresses,
            failover: config.failover,
            follow_redirect: config.follow_redirect.unwrap_or(false),
            protocol: config.protocol.unwrap_or(if preset.v311 {
                Protocol::V311
            } else {
                Protocol::Auto
            }),
            credentials,
            clock_offset_ms: config.clock_offset_ms.unwrap_or(0),
            keepalive,
            qos_cap,
            retain_allowed: preset.retain,
            max_inflight: config
                .max_inflight
                .unwrap_or(preset.max_inflight)
                .clamp(1, MAX_INFLIGHT),
            max_inflight_untold: config.max_inflight.unwrap_or(match qos_cap {
                2 => preset.max_inflight.min(UNTOLD_INFLIGHT),
                _ => preset.max_inflight,
            }),
            max_payload: config
                .max_payload
                .map(|size| usize::try_from(size.0).unwrap_or(usize::MAX))
                .or(preset.max_payload),
            max_packet: preset.max_packet.filter(|_| config.max_payload.is_none()),
            rate,
            byte_rate,
            ack_timeout: config
                .ack_timeout
                .map_or(Duration::from_secs(30), |span| span.0),
            connect_timeout: config
                .connect_timeout
                .map_or(Duration::from_secs(10), |span| span.0),
            tls: match &config.tls {
                Some(TlsChoice::Settings(settings)) => settings.clone(),
                _ => TlsConfig::default(),
            },
            backoff,
            preset,
        });
        if let Some(plan) = &plan {
            check.alpn(plan);
            let has_tls = plan.addresses.iter().any(|address| address.tls);
            if matches!(config.tls, Some(TlsChoice::Settings(_))) && !has_tls {
                check.warn(
                    "tls",
                    "the table is not used: no address is `mqtts://` or `wss://`",
                );
            }
            if plan.tls.insecure {
                check.warn("tls.insecure", "the remote's certificate is not checked");
            }
            if cloud && config.tls == Some(TlsChoice::Switch(false)) {
                check.warn(
                    "tls",
                    "without TLS everybody on the way can read what is sent",
                );
            }
        }
        match plan {
            Some(plan) if check.errors.is_empty() => Ok((plan, check.warnings)),
            _ => Err(check.errors),
        }
    }
}

/// So much of `out` may wait where the file does not say.
const QUEUE_BYTES: usize = 1_000_000_000;
const QUEUE_RECORDS: usize = 10_000_000;

fn queue(given: Option<&BridgeQueue>) -> BufferLimits {
    let given = given.cloned().unwrap_or_default();
    BufferLimits {
        kind: BufferKind::Disk,
        max_rows: given.max_records.map_or(QUEUE_RECORDS, |records| {
            usize::try_from(records).unwrap_or(usize::MAX).max(1)
        }),
        max_bytes: given.max_bytes.map_or(QUEUE_BYTES, |size| {
            usize::try_from(size.0).unwrap_or(usize::MAX).max(1)
        }),
        when_full: match given.full {
            BridgeFull::DropOldest => WhenFull::DropOldest,
            BridgeFull::DropNewest => WhenFull::DropNewest,
            BridgeFull::BlockQos => WhenFull::Block,
        },
    }
}

const fn qos_of(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// A remote of 3.1.1 does not say how many messages of `QoS` 2 it takes at a time. mosquitto closes the link of who sends
/// more than its `max_inflight_messages`, which is 20 unless set.
const UNTOLD_INFLIGHT: u16 = 20;

/// More unacknowledged messages than any remote takes.
pub(crate) const MAX_INFLIGHT: u16 = 4096;

fn no_preset(name: &str) -> ConfigError {
    let names: Vec<_> = preset::ALL.iter().map(|preset| preset.name).collect();
    let help = format!("use one of: {}", names.join(", "));
    let error = match name {
        // Shut down in August 2023.
        "google_iot" => ConfigError::new(
            codes::BRIDGE,
            "preset",
            "Google has shut its IoT Core down; ClearBlade is its successor",
        ),
        name if LATER.contains(&name) => ConfigError::new(
            codes::NOT_YET,
            "preset",
            format!("preset `{name}` is not supported yet"),
        ),
        name => ConfigError::new(
            codes::BRIDGE,
            "preset",
            format!("there is no preset `{name}`"),
        ),
    };
    error.help(help)
}

pub(super) struct Check<'a> {
    pub(super) config: &'a BridgeConfig,
    pub(super) preset: Preset,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Check<'_> {
    pub(super) fn error(
        &mut self,
        code: &'static str,
        key: &str,
        message: impl Into<String>,
        help: &str,
    ) {
        self.errors
            .push(ConfigError::new(code, key, message).help(help));
    }

    fn warn(&mut self, key: &str, message: &str) {
        self.warnings.push(ConfigError::new("W4101", key, message));
    }

    /// A bound that the cloud enforces is a mistake to cross; one that is only our caution, a risk.
    fn bound(&mut self, hard: bool, key: &str, message: String, help: &str) {
        if hard {
            self.error(codes::BOUND, key, message, help);
        } else {
            self.warnings
                .push(ConfigError::new("W4102", key, message).help(help));
        }
    }

    /// A queue that nothing goes into, or from which nothing leaves.
    fn queue_options(&mut self) {
        let c = self.config;
        if c.queue.is_some() && c.out.is_empty() {
            self.error(
                codes::BRIDGE,
                "queue",
                "`queue` belongs to `out`, and there is none",
                "remove the key; a rule's sink has a `buffer` of its own",
            );
        }
        let ttl = c.queue.as_ref().and_then(|queue| queue.ttl);
        if ttl.is_some_and(|ttl| ttl.0 < Duration::from_secs(1)) {
            self.error(
                codes::BAD_VALUE,
                "queue.ttl",
                "`ttl` is less than a second: nothing would be sent",
                "leave it out where messages wait for ever",
            );
        }
    }

    /// Which way to sign in the given keys ask for.
    fn provider(&self) -> Result<&'static Provider, SignError> {
        let c = self.config;
        Provider::named(match self.preset.name {
            "aliyun_iot" if c.device_token.is_some() => "aliyun_iot_connwl",
            "aliyun_mq" if c.tokens.is_empty() && c.tokens_from.is_none() => "aliyun_mq_signature",
            "aliyun_mq" => "aliyun_mq_token",
            "aws_iot" if c.access_key_id.is_some() => "aws_sigv4_ws",
            "aws_iot" if c.authorizer.is_some() => "aws_custom_auth",
            "aws_iot" => "aws_x509",
            name => name,
        })
    }

    fn credentials(&mut self, addresses: &[Address]) -> Option<Credentials> {
        let c = self.config;
        let provider = match self.provider() {
            Ok(provider) => provider,
            Err(error) => {
                self.error(codes::PROVIDER, "preset", error.to_string(), "use another");
                return None;
            }
        };
        let mut inputs = c.sign_inputs();
        let takes = |key: &str| provider.keys.contains(&key) || provider.secrets.contains(&key);
        let host_keys = self.preset.host_keys;
        let strange: Vec<_> = inputs
            .keys()
            .filter(|key| !takes(key) && !host_keys.contains(key))
            .map(str::to_owned)
            .collect();
        for key in strange {
            let (message, help) = if self.preset.name == PLAIN.name {
                (
                    format!("`{key}` needs a preset"),
                    "add the cloud's `preset`",
                )
            } else {
                (
                    format!("`{key}` is not used by `{}`", provider.name),
                    "remove it, or take another preset",
                )
            };
            self.error(codes::BRIDGE, &key, message, help);
        }
        for (key, given) in [
            ("client_id", c.client_id.is_some()),
            ("username", c.username.is_some()),
            ("password", c.password.is_some()),
        ] {
            if given && !takes(key) {
                self.error(
                    codes::BRIDGE,
                    key,
                    format!("`{key}` is derived from the device"),
                    "remove it",
                );
            }
        }
        if c.password.is_some() && c.username.is_none() && self.preset.name == PLAIN.name {
            self.error(
                codes::KEY_MISSING,
                "username",
                "a password needs a user",
                "add `username`",
            );
        }
        inputs.set_text("client_id", c.client_id.as_deref());
        inputs.set_text("username", c.username.as_deref());
        inputs.set_secret("password", c.password.as_ref());
        let host_follows = provider.keys.contains(&"host") && !inputs.has("host");
        self.derived(provider, &mut inputs, addresses);
        self.signable(provider, &inputs);
        Some(Credentials {
            provider,
            inputs,
            host_follows,
        })
    }

    /// Inputs that follow from the rest of the file.
    fn derived(&mut self, provider: &Provider, inputs: &mut Inputs, addresses: &[Address]) {
        let c = self.config;
        let address = addresses.first();
        let tls = address.is_some_and(|address| address.tls);
        let certificate =
            matches!(&c.tls, Some(TlsChoice::Settings(settings)) if settings.cert.is_some());
        match provider.name {
            "aliyun_iot" => {
                let derived = if tls { 2 } else { 3 };
                if c.securemode.is_some_and(|given| given != derived) {
                    self.warn(
                        "securemode",
                        "it disagrees with the transport (2 is TLS, 3 plain TCP)",
                    );
                }
                inputs.set_number("securemode", c.securemode.or(Some(derived)).map(i64::from));
                inputs.set_flag("timestamp", Some(c.timestamp.unwrap_or(true)));
            }
            "baidu_iotcore" => {
                // `true` is the default: the time of the signature.
                inputs.remove("timestamp");
                if c.timestamp == Some(false) {
                    inputs.set_number("timestamp", Some(0));
                }
                if !tls && (c.timestamp == Some(false) || c.short_username == Some(true)) {
                    self.warn(
                        "timestamp",
                        "without a time and without TLS the password can be copied and never expires",
                    );
                }
            }
            _ => {}
        }
        if provider.keys.contains(&"x509") && certificate {
            let secret = provider.secrets.iter().any(|key| inputs.has(key));
            inputs.set_flag("x509", (!secret).then_some(true));
            let is_aliyun = self.preset.name == preset::ALIYUN_IOT.name;
            if is_aliyun && !secret && addresses.iter().any(|address| !address.tls) {
                self.error(
                    codes::BRIDGE,
                    "addresses",
                    "a certificate is shown over TLS alone",
                    "write mqtts://, or give `device_secret`",
                );
            }
        }
        if let Some(address) = address {
            inputs.set_number(
                "port",
                provider
                    .keys
                    .contains(&"port")
                    .then_some(i64::from(address.port)),
            );
            if provider.keys.contains(&"host") && !inputs.has("host") {
                inputs.set_text("host", Some(&address.host));
            }
        }
        if addresses.iter().any(|address| !address.tls) && self.preset.ports.0.is_none() {
            let message = format!("`{}` speaks TLS alone", self.preset.name);
            self.error(
                codes::BOUND,
                "addresses",
                message,
                "write mqtts:// or wss://",
            );
        }
        if provider.name == "aws_x509" && !certificate {
            self.error(
                codes::KEY_MISSING,
                "tls.cert",
                "`aws_iot` needs a certificate, an access key or an authorizer",
                "`tls = { cert = \"device.pem\", key = \"device.key\" }`",
            );
        }
        let in_web_socket = |address: &Address| address.web_socket.is_some();
        if provider.name == "aws_x509" && addresses.iter().any(in_web_socket) {
            self.error(
                codes::BRIDGE,
                "addresses",
                "AWS takes no certificate in a WebSocket",
                "write mqtts://",
            );
        }
        let is_signed = self.preset.name == AWS_IOT.name && provider.name == "aws_sigv4_ws";
        if is_signed && !addresses.iter().all(in_web_socket) {
            self.error(
                codes::BRIDGE,
                "addresses",
                "what an access key signs is the address of a WebSocket",
                "write wss://, or leave `addresses` out",
            );
        }
    }

    /// Signs once: an input that is missing or wrong shows now and not at the first CONNECT.
    fn signable(&mut self, provider: &Provider, inputs: &Inputs) {
        if !self.errors.is_empty() {
            return;
        }
        // A time at which every provider can sign.
        let at = Moment {
            now_ms: 1_700_000_000_000,
            random: 0,
        };
        let Err(SignError::Input(message)) = provider.sign(inputs, at) else {
            return;
        };
        let key = message.split('`').nth(1).unwrap_or("preset").to_owned();
        let code = if message.ends_with("is missing") {
            codes::KEY_MISSING
        } else {
            codes::BRIDGE
        };
        self.error(
            code,
            &key,
            message,
            "compare with the device's page in the console",
        );
    }

    fn backoff(&mut self) -> Backoff {
        let given = self.config.backoff.clone().unwrap_or_default();
        let floor = self.preset.connect_spacing;
        let base = given.base.map_or(self.preset.backoff_base, |span| span.0);
        let cap = given.cap.map_or(Duration::from_secs(60), |span| span.0);
        if base < floor && self.preset.name != PLAIN.name {
            self.error(
                codes::BOUND,
                "backoff.base",
                format!(
                    "this cloud refuses more than one CONNECT in {} s",
                    floor.as_secs()
                ),
                "use at least that",
            );
        }
        if cap < base {
            self.error(
                codes::BAD_VALUE,
                "backoff.cap",
                "`cap` lies below `base`",
                "raise it",
            );
        }
        // A plain remote's spacing is our own politeness: who writes a shorter base means it.
        let spacing = if self.preset.name == PLAIN.name {
            floor.min(base)
        } else {
            floor
        };
        Backoff {
            base,
            cap,
            stable: given.stable.map_or(Duration::from_secs(30), |span| span.0),
            spacing,
        }
    }

    fn keepalive(&mut self) -> Duration {
        let keepalive = self
            .config
            .keepalive
            .map_or(self.preset.keepalive, |span| span.0);
        let (low, high) = self
            .preset
            .keepalive_bounds
            .unwrap_or((Duration::from_secs(5), Duration::from_secs(65_535)));
        if keepalive < low || keepalive > high {
            let hard = self.preset.hard || self.preset.keepalive_bounds.is_none();
            self.bound(
                hard && self.preset.name != preset::BAIDU_IOTCORE.name,
                "keepalive",
                format!(
                    "{} s lies outside {} s to {} s",
                    keepalive.as_secs(),
                    low.as_secs(),
                    high.as_secs()
                ),
                "the remote cuts the link otherwise",
            );
        }
        Duration::from_secs(keepalive.as_secs())
    }

    fn qos_cap(&mut self) -> u8 {
        let cap = self.config.qos_cap.unwrap_or(self.preset.qos_cap);
        if cap > self.preset.qos_cap {
            let hard = self.preset.hard || cap > 2;
            self.bound(
                hard,
                "qos_cap",
                format!(
                    "QoS {cap} is above what the remote takes ({})",
                    self.preset.qos_cap
                ),
                "lower it",
            );
        }
        cap.min(2)
    }
}

#[path = "plan_address.rs"]
mod address;
#[path = "plan_limits.rs"]
mod limits;
#[path = "plan_options.rs"]
mod options;
#[path = "plan_routes.rs"]
mod routes;

pub use address::Address;
pub(super) use address::Pattern;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
