//! A bridge's connector file that was checked against its preset.

use std::time::Duration;

use super::preset::{ALIYUN_IOT, LATER, PLAIN, Preset, TopicOwner};
use super::signer::Credentials;
use super::signer::aliyun::{Device, SignMethod, Timestamp};
use crate::codes;
use crate::config::connector::{BridgeConfig, Failover, Protocol, TlsChoice, TlsConfig};
use crate::error::ConfigError;

/// A bridge that can be connected.
#[derive(Clone, Debug)]
pub struct BridgePlan {
    /// What is known of the remote.
    pub preset: Preset,
    /// Where it is, in order of preference; never empty.
    pub addresses: Vec<Address>,
    /// How the next address is chosen.
    pub failover: Failover,
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
    /// The largest payload.
    pub max_payload: Option<usize>,
    /// Messages a second at `QoS` 0 and at `QoS` 1 or 2.
    pub rate: Option<(u32, u32)>,
    /// How long an acknowledgement may take.
    pub ack_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Trust and names for `mqtts` addresses.
    pub tls: TlsConfig,
    /// The first and the longest wait, and how long a link must hold before they start over.
    pub backoff: Backoff,
    /// Whose topics it may use.
    pub owner: Option<TopicOwner>,
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

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The name or number of the host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}://{}:{}",
            if self.tls { "mqtts" } else { "mqtt" },
            self.host,
            self.port
        )
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        let url =
            url::Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
        let tls = match url.scheme() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            other => {
                return Err(format!(
                    "`{other}://` is not supported; use mqtt:// or mqtts://"
                ));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "user and password belong to `username` and `password`, not into the address"
                    .into(),
            );
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| format!("`{text}` names no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            host,
            port: url.port().unwrap_or(if tls { 8883 } else { 1883 }),
            tls,
        })
    }
}

impl BridgePlan {
    /// Checks a bridge's file: the plan and warnings, or every mistake.
    ///
    /// # Errors
    /// Each mistake names its key and what would cure it.
    pub fn check(config: &BridgeConfig) -> Result<(Self, Vec<ConfigError>), Vec<ConfigError>> {
        let preset = match config.preset.as_deref() {
            None | Some("plain") => PLAIN,
            Some("aliyun_iot") => ALIYUN_IOT,
            Some(name) => {
                let code = if LATER.contains(&name) {
                    codes::NOT_YET
                } else {
                    codes::BRIDGE
                };
                let message = if LATER.contains(&name) {
                    format!("preset `{name}` is not supported yet")
                } else {
                    format!("there is no preset `{name}`")
                };
                return Err(vec![
                    ConfigError::new(code, "preset", message).help("use `plain` or `aliyun_iot`"),
                ]);
            }
        };
        let mut check = Check {
            config,
            preset,
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        check.unsupported();
        let addresses = check.addresses();
        let tls = addresses.first().is_some_and(|address| address.tls);
        let credentials = check.credentials(tls);
        let backoff = check.backoff();
        let keepalive = check.keepalive();
        let qos_cap = check.qos_cap();
        let preset = check.preset.clone();
        let aliyun = preset.name == ALIYUN_IOT.name;
        let plan = credentials.map(|credentials| Self {
            owner: match &credentials {
                Credentials::Aliyun(device) => Some(TopicOwner {
                    product_key: device.product_key.clone(),
                    device_name: device.device_name.clone(),
                }),
                Credentials::Plain { .. } => None,
            },
            addresses,
            failover: config.failover,
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
            max_payload: config
                .max_payload
                .map(|size| usize::try_from(size.0).unwrap_or(usize::MAX))
                .or(preset.max_payload),
            rate: config
                .rate
                .map(|rate| (rate.max(1), rate.max(1)))
                .or(preset.rate),
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
            if plan.tls.insecure {
                check.warn("tls.insecure", "the remote's certificate is not checked");
            }
            if aliyun && config.tls == Some(TlsChoice::Switch(false)) {
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

/// More unacknowledged messages than any remote takes.
const MAX_INFLIGHT: u16 = 4096;

struct Check<'a> {
    config: &'a BridgeConfig,
    preset: Preset,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Check<'_> {
    fn error(&mut self, code: &'static str, key: &str, message: impl Into<String>, help: &str) {
        self.errors
            .push(ConfigError::new(code, key, message).help(help));
    }

    fn warn(&mut self, key: &str, message: &str) {
        self.warnings.push(ConfigError::new("W4101", key, message));
    }

    /// Keys of the specification that this version refuses rather than ignores.
    fn unsupported(&mut self) {
        let c = self.config;
        let status = c.status.as_ref();
        let keys = [
            (
                "in",
                !c.inbound.is_empty(),
                "subscribing to the remote is not supported yet",
            ),
            (
                "out",
                !c.out.is_empty(),
                "sending topics on without a rule is not supported yet",
            ),
            (
                "start",
                c.start.as_deref().is_some_and(|start| start != "automatic"),
                "only `automatic` is supported",
            ),
            (
                "clean_start",
                c.clean_start == Some(false),
                "resuming the remote's session is not supported yet",
            ),
            (
                "session_expiry",
                c.session_expiry.is_some(),
                "resuming the remote's session is not supported yet",
            ),
            (
                "status.remote",
                status.is_some_and(|status| status.remote),
                "a status at the remote is not supported yet",
            ),
            (
                "status.local",
                status.is_some_and(|status| status.local),
                "a status topic is not supported yet",
            ),
            (
                "queue",
                c.queue.is_some(),
                "`queue` belongs to `out`, which is not supported yet",
            ),
        ];
        for (key, given, message) in keys {
            if given {
                self.error(
                    codes::NOT_YET,
                    key,
                    message,
                    "remove the key; a rule's sink sends to the bridge",
                );
            }
        }
        if self.preset.name != ALIYUN_IOT.name {
            let keys = [
                ("product_key", c.product_key.is_some()),
                ("device_name", c.device_name.is_some()),
                ("device_secret", c.device_secret.is_some()),
                ("region", c.region.is_some()),
                ("instance_id", c.instance_id.is_some()),
                ("sign_method", c.sign_method.is_some()),
                ("securemode", c.securemode.is_some()),
                ("timestamp", c.timestamp.is_some()),
                ("extra", !c.extra.is_empty()),
            ];
            for (key, given) in keys {
                if given {
                    self.error(
                        codes::BRIDGE,
                        key,
                        format!("`{key}` needs a preset"),
                        "add `preset = \"aliyun_iot\"`",
                    );
                }
            }
        }
    }

    fn addresses(&mut self) -> Vec<Address> {
        let c = self.config;
        let no_tls = c.tls == Some(TlsChoice::Switch(false));
        if c.addresses.is_empty() {
            return self.preset_address(!no_tls).into_iter().collect();
        }
        let mut addresses = Vec::new();
        for text in &c.addresses {
            match Address::parse(text) {
                Ok(address) if address.tls && no_tls => self.error(
                    codes::BRIDGE,
                    "tls",
                    format!("`tls = false` and `{text}` contradict each other"),
                    "write mqtt:// for plain TCP",
                ),
                Ok(address) => addresses.push(address),
                Err(message) => self.error(
                    codes::BRIDGE,
                    "addresses",
                    message,
                    "`addresses = [\"mqtts://host:8883\"]`",
                ),
            }
        }
        if addresses.iter().any(|address| address.tls)
            && addresses.iter().any(|address| !address.tls)
        {
            self.error(
                codes::BRIDGE,
                "addresses",
                "addresses with and without TLS are mixed",
                "credentials would cross the network in the open after a failover",
            );
        }
        addresses
    }

    fn preset_address(&mut self, tls: bool) -> Option<Address> {
        let c = self.config;
        if self.preset.name != ALIYUN_IOT.name {
            self.error(
                codes::KEY_MISSING,
                "addresses",
                "a bridge needs an address",
                "`addresses = [\"mqtts://host:8883\"]`",
            );
            return None;
        }
        // Port 1883 speaks both, and its certificate chains to a root that systems know.
        let host = match (&c.instance_id, &c.region, &c.product_key) {
            (Some(instance), _, _) => format!("{instance}.mqtt.iothub.aliyuncs.com"),
            (None, Some(region), Some(product)) => {
                format!("{product}.iot-as-mqtt.{region}.aliyuncs.com")
            }
            _ => {
                self.error(
                    codes::KEY_MISSING,
                    "region",
                    "the cloud's address is not known",
                    "give `region`, `instance_id` or `addresses`",
                );
                return None;
            }
        };
        Some(Address {
            host,
            port: 1883,
            tls,
        })
    }

    fn credentials(&mut self, tls: bool) -> Option<Credentials> {
        let c = self.config;
        if self.preset.name != ALIYUN_IOT.name {
            let Some(client_id) = c.client_id.clone().filter(|id| !id.is_empty()) else {
                self.error(
                    codes::KEY_MISSING,
                    "client_id",
                    "a plain bridge needs a client id",
                    "`client_id = \"weir.site-7\"`",
                );
                return None;
            };
            if c.password.is_some() && c.username.is_none() {
                self.error(
                    codes::KEY_MISSING,
                    "username",
                    "a password needs a user",
                    "add `username`",
                );
            }
            return Some(Credentials::Plain {
                client_id,
                username: c.username.clone(),
                password: c.password.clone(),
            });
        }
        for (key, given) in [
            ("username", c.username.is_some()),
            ("password", c.password.is_some()),
        ] {
            if given {
                self.error(
                    codes::BRIDGE,
                    key,
                    format!("`{key}` is derived from the device"),
                    "remove it",
                );
            }
        }
        let mut need = |key: &str, value: &Option<String>| {
            if value.as_deref().is_none_or(str::is_empty) {
                self.error(
                    codes::KEY_MISSING,
                    key,
                    format!("`aliyun_iot` needs `{key}`"),
                    "the device's page in the console shows it",
                );
            }
            value.clone().unwrap_or_default()
        };
        let product_key = need("product_key", &c.product_key);
        let device_name = need("device_name", &c.device_name);
        let Some(device_secret) = c.device_secret.clone() else {
            self.error(
                codes::KEY_MISSING,
                "device_secret",
                "`aliyun_iot` needs `device_secret`",
                "the device's page in the console shows it",
            );
            return None;
        };
        let method = match c.sign_method.as_deref() {
            None => SignMethod::default(),
            Some(name) => SignMethod::from_name(name).unwrap_or_else(|| {
                self.error(
                    codes::BRIDGE,
                    "sign_method",
                    format!("there is no `{name}`"),
                    "hmacsha256, hmacsha1 or hmacmd5",
                );
                SignMethod::default()
            }),
        };
        let derived = if tls { 2 } else { 3 };
        if c.securemode.is_some_and(|given| given != derived) {
            self.warn(
                "securemode",
                "it disagrees with the transport (2 is TLS, 3 plain TCP)",
            );
        }
        let device = Device {
            product_key,
            device_name,
            device_secret,
            client_id: c.client_id.clone(),
            method,
            secure_mode: c.securemode.unwrap_or(derived),
            timestamp: if c.timestamp.unwrap_or(true) {
                Timestamp::Now
            } else {
                Timestamp::Omit
            },
            extra: c.extra.clone(),
        };
        if self.errors.is_empty()
            && let Err(super::SignError::Input(message)) = super::signer::aliyun::sign(&device, 0)
        {
            self.error(
                codes::BRIDGE,
                "device_name",
                message,
                "compare with the device's page in the console",
            );
        }
        Some(Credentials::Aliyun(device))
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
            self.error(
                codes::BOUND,
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
            self.error(
                codes::BOUND,
                "qos_cap",
                format!(
                    "QoS {cap} is above what the remote takes ({})",
                    self.preset.qos_cap
                ),
                "lower it",
            );
        }
        cap.min(self.preset.qos_cap)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
