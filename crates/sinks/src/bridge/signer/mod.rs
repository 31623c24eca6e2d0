//! Device and time in, credentials out. Pure apart from secrets that live in files and are read at each signature.

mod aliyun;
mod aws;
mod azure;
mod china;
pub(crate) mod content;
mod inputs;
pub(crate) mod mac;
mod verbatim;

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

pub use inputs::Inputs;

use super::plan::Address;
use crate::codes;
use crate::error::SinkError;

/// What a CONNECT carries.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnectCreds {
    /// The client id.
    pub client_id: String,
    /// The user.
    pub username: Option<String>,
    /// Whether the user's name is the secret.
    pub secret_username: bool,
    /// The password.
    pub password: Option<Zeroizing<String>>,
    /// The signed address of a WebSocket.
    pub url: Option<Zeroizing<String>>,
    /// The protocol that the TLS handshake names, where the provider says whether it names one.
    pub alpn: Option<Option<String>>,
    /// The port that goes with it.
    pub port: Option<u16>,
    /// When the credentials expire.
    pub expires_at_ms: Option<i64>,
    /// Whether the remote cuts a live link then.
    pub ends_session: bool,
}

impl std::fmt::Debug for ConnectCreds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let username = self.username.as_deref();
        f.debug_struct("ConnectCreds")
            .field("client_id", &self.client_id)
            .field(
                "username",
                &username.map(|name| if self.secret_username { "***" } else { name }),
            )
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("url", &self.url.as_ref().map(|_| "***"))
            .field("alpn", &self.alpn)
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// The credentials in the open, for `weir bridge sign` and `--show-secrets` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownCreds {
    /// The client id.
    pub client_id: String,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The signed address of a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The protocol that the TLS handshake names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<Option<String>>,
    /// The port that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether the user's name is the secret.
    #[serde(skip)]
    pub secret_username: bool,
}

impl ConnectCreds {
    /// The credentials in the open.
    pub fn show(&self) -> ShownCreds {
        ShownCreds {
            client_id: self.client_id.clone(),
            username: self.username.clone(),
            password: self.password.as_ref().map(|password| password.to_string()),
            url: self.url.as_ref().map(|url| url.to_string()),
            alpn: self.alpn.clone(),
            port: self.port,
            secret_username: self.secret_username,
        }
    }

    /// How long a link that was signed at `now_ms` may stay up before it is signed anew (CR-4); `None` where nothing
    /// ends it, or the end was before.
    pub fn renew_after_ms(&self, now_ms: i64) -> Option<i64> {
        const EARLY_MS: i64 = 120_000;
        const SHORTEST_MS: i64 = 1_000;
        let lifetime = self
            .expires_at_ms
            .filter(|_| self.ends_session)?
            .saturating_sub(now_ms);
        // A lifetime shorter than that still gets its half. What is signed anew may end at the same time as before, as a
        // token that nobody replaces: then the halves end with a second.
        let early = EARLY_MS.max(lifetime / 10).min(lifetime / 2);
        let after = (lifetime - early).max(SHORTEST_MS).min(lifetime);
        (after > 0).then_some(after)
    }
}

impl ShownCreds {
    /// Hides what must not be shown.
    #[must_use]
    pub fn masked(mut self, mask: impl Fn(&str) -> String) -> Self {
        self.password = self.password.as_deref().map(&mask);
        self.url = self.url.as_deref().map(&mask);
        if self.secret_username {
            self.username = self.username.as_deref().map(&mask);
        }
        self
    }
}

/// When a signature is made, and what chance adds to it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time in milliseconds since 1970.
    pub now_ms: i64,
    /// Fresh for each signature.
    pub random: u64,
}

impl Moment {
    /// Before this (2020-01-01) a clock is not set.
    const CLOCK_IS_SET_MS: i64 = 1_577_836_800_000;

    /// The moment of a clock's reading, with fresh randomness.
    pub fn at(now_ms: i64) -> Self {
        Self {
            now_ms,
            random: rand::random(),
        }
    }

    fn clock_is_set(self) -> bool {
        self.now_ms >= Self::CLOCK_IS_SET_MS
    }

    fn seconds(self) -> i64 {
        self.now_ms.div_euclid(1000)
    }

    /// Letters and digits out of the randomness; ten at most are independent.
    pub(super) fn letters(self, count: usize) -> String {
        const LETTERS: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut rest = self.random;
        (0..count)
            .map(|_| {
                let place = usize::try_from(rest % 62).unwrap_or_default();
                rest /= 62;
                char::from(LETTERS[place])
            })
            .collect()
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No such provider here.
    #[error("no credential provider `{0}`; there are {names}", names = provider_names())]
    Provider(String),
    /// An input is missing or of the wrong kind.
    #[error("{0}")]
    Input(String),
    /// What was given to sign in with has ended.
    #[error("{0}")]
    Over(&'static str),
    /// A secret's file cannot be read.
    #[error("a secret cannot be read")]
    Secret(#[from] std::io::Error),
    /// The clock is before 2020 and the credentials need the time.
    #[error("the system's clock is not set")]
    ClockUnset,
}

impl From<SignError> for SinkError {
    fn from(error: SignError) -> Self {
        match &error {
            SignError::Provider(_) => Self::new(codes::PROVIDER, error.to_string()),
            SignError::Input(message) => Self::new(codes::INPUTS, message.clone()).configuration(),
            SignError::Over(_) => Self::new(codes::NOT_RENEWED, error.to_string()),
            SignError::Secret(source) => {
                Self::new(codes::BRIDGE, "a secret cannot be read").caused_by(source)
            }
            SignError::ClockUnset => Self::new(codes::CLOCK_UNSET, "the system's clock is not set"),
        }
    }
}

/// One way to sign in: what it takes, and what makes credentials of it.
pub struct Provider {
    /// Its name in vectors.
    pub name: &'static str,
    /// Inputs that may be shown.
    pub keys: &'static [&'static str],
    /// Inputs that may not.
    pub secrets: &'static [&'static str],
    /// The inputs that the remote knows a client by; without any, the client id.
    identity: &'static [&'static str],
    sign: fn(&Inputs, Moment) -> Result<ConnectCreds, SignError>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const ALIYUN_DEVICE: &[&str] = &["device_name", "product_key"];
const ALIYUN_MQ_CLIENT: &[&str] = &["group_id", "device_id"];

/// Every way to sign in.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        name: "plain",
        keys: &["client_id", "username"],
        secrets: &["password"],
        identity: &[],
        sign: verbatim::plain,
    },
    Provider {
        name: "aliyun_iot",
        keys: &[
            "product_key",
            "device_name",
            "client_id",
            "sign_method",
            "securemode",
            "timestamp",
            "extra",
            "x509",
        ],
        secrets: &["device_secret"],
        identity: ALIYUN_DEVICE,
        sign: aliyun::device,
    },
    Provider {
        name: "aliyun_iot_dynreg",
        keys: &[
            "product_key",
            "device_name",
            "client_id",
            "auth_type",
            "random",
            "sign_method",
            "securemode",
            "instance_id",
        ],
        secrets: &["product_secret"],
        identity: ALIYUN_DEVICE,
        sign: aliyun::register,
    },
    Provider {
        name: "aliyun_iot_connwl",
        keys: &["product_key", "device_name", "client_id"],
        secrets: &["device_token"],
        identity: ALIYUN_DEVICE,
        sign: aliyun::token,
    },
    Provider {
        name: "aliyun_mq_signature",
        keys: &["group_id", "device_id", "access_key", "instance_id"],
        secrets: &["access_secret"],
        identity: ALIYUN_MQ_CLIENT,
        sign: china::aliyun_mq_signature,
    },
    Provider {
        name: "aliyun_mq_token",
        keys: &["group_id", "device_id", "access_key", "instance_id"],
        secrets: &["tokens", "tokens_from"],
        identity: ALIYUN_MQ_CLIENT,
        sign: china::aliyun_mq_token,
    },
    Provider {
        name: "tencent_iot",
        keys: &[
            "product_id",
            "device_name",
            "sdk_app_id",
            "conn_id",
            "expiry",
            "expires",
            "sign_method",
            "x509",
        ],
        secrets: &["device_secret"],
        identity: &[],
        sign: china::tencent,
    },
    Provider {
        name: "huawei_iotda",
        keys: &["device_id", "check_timestamp", "x509"],
        secrets: &["device_secret"],
        identity: &["device_id"],
        sign: china::huawei,
    },
    Provider {
        name: "baidu_iotcore",
        keys: &[
            "core_id",
            "device_key",
            "client_id",
            "timestamp",
            "algorithm",
            "short_username",
        ],
        secrets: &["device_secret"],
        identity: &[],
        sign: china::baidu,
    },
    Provider {
        name: "onenet",
        keys: &[
            "product_id",
            "device_name",
            "et",
            "expires",
            "method",
            "version",
            "scope",
        ],
        secrets: &["access_key"],
        identity: &["product_id", "device_name"],
        sign: china::onenet,
    },
    Provider {
        name: "azure_iothub",
        keys: &[
            "host",
            "device_id",
            "module_id",
            "se",
            "expires",
            "api_version",
            "policy",
            "x509",
        ],
        secrets: &["key"],
        identity: &["host", "device_id", "module_id"],
        sign: azure::iot_hub,
    },
    Provider {
        name: "aws_x509",
        keys: &["client_id", "host", "port"],
        secrets: &[],
        identity: &[],
        sign: aws::x509,
    },
    Provider {
        name: "aws_sigv4_ws",
        keys: &[
            "client_id",
            "host",
            "region",
            "service",
            "amz_date",
            "expires",
        ],
        secrets: &[
            "access_key_id",
            "secret_access_key",
            "session_token",
            "session_expires",
        ],
        identity: &["client_id"],
        sign: aws::sigv4,
    },
    Provider {
        name: "aws_custom_auth",
        keys: &[
            "client_id",
            "host",
            "port",
            "username",
            "authorizer",
            "token_key",
        ],
        secrets: &["password", "token_value", "token_signature"],
        identity: &[],
        sign: aws::custom_authorizer,
    },
    Provider {
        name: "thingsboard",
        keys: &["client_id", "username", "x509"],
        secrets: &["access_token", "password"],
        identity: &[],
        sign: verbatim::thingsboard,
    },
    Provider {
        name: "cumulocity",
        keys: &["client_id", "tenant", "user"],
        secrets: &["password"],
        identity: &[],
        sign: verbatim::cumulocity,
    },
];

fn provider_names() -> String {
    let names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name).collect();
    names.join(", ")
}

impl Provider {
    /// The provider of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<&'static Self, SignError> {
        PROVIDERS
            .iter()
            .find(|provider| provider.name == name)
            .ok_or_else(|| SignError::Provider(name.to_owned()))
    }

    /// The inputs of a JSON object, each of which has to be known.
    ///
    /// # Errors
    /// An input that the provider does not take, or of a kind that no input has.
    pub fn inputs(&self, given: &Value) -> Result<Inputs, SignError> {
        let inputs = Inputs::from_json(given, |key| self.secrets.contains(&key))?;
        let known = |key: &str| {
            key == "now_unix" || self.keys.contains(&key) || self.secrets.contains(&key)
        };
        let strange = inputs.keys().find(|key| !known(key)).map(str::to_owned);
        match strange {
            None => Ok(inputs),
            Some(key) => Err(SignError::Input(format!(
                "`{}` takes no `{key}`; it takes {}",
                self.name,
                [self.keys, self.secrets].concat().join(", ")
            ))),
        }
    }

    /// The credentials at a moment; `now_unix` among the inputs is another clock.
    ///
    /// # Errors
    /// An input that is missing or malformed, a secret that cannot be read, a clock that is not set.
    pub fn sign(&self, inputs: &Inputs, mut at: Moment) -> Result<ConnectCreds, SignError> {
        if let Some(seconds) = inputs.number("now_unix")? {
            at.now_ms = seconds.saturating_mul(1000);
        }
        (self.sign)(inputs, at)
    }
}

/// Signs the inputs of one test vector.
///
/// # Errors
/// An unknown provider, or an input that is missing or malformed.
pub fn sign_vector(provider: &str, inputs: &Value) -> Result<ConnectCreds, SignError> {
    sign_at(provider, inputs, Moment::at(crate::now_ms()))
}

/// The same at a moment of the caller's choice.
///
/// # Errors
/// As [`sign_vector`].
pub fn sign_at(provider: &str, inputs: &Value, at: Moment) -> Result<ConnectCreds, SignError> {
    let provider = Provider::named(provider)?;
    provider.sign(&provider.inputs(inputs)?, at)
}

/// How a bridge logs in.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who signs.
    pub provider: &'static Provider,
    /// What is signed.
    pub inputs: Inputs,
    /// Whether the host among it is that of the address, and not of the file.
    pub host_follows: bool,
}

impl Credentials {
    /// Fresh credentials for one CONNECT.
    ///
    /// # Errors
    /// A secret that cannot be read, an input that cannot be signed.
    pub fn sign(&self, at: Moment) -> Result<ConnectCreds, SignError> {
        self.provider.sign(&self.inputs, at)
    }

    /// The same for a CONNECT to this address: some sign the host, and some say in TLS what its port wants.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn sign_for(&self, address: &Address, at: Moment) -> Result<ConnectCreds, SignError> {
        let mut inputs = self.inputs.clone();
        if inputs.has("port") {
            inputs.set_number("port", Some(address.port.into()));
        }
        if self.host_follows {
            inputs.set_text("host", Some(&address.host));
        }
        self.provider.sign(&inputs, at)
    }

    /// What the remote takes for "the same client".
    pub fn identity(&self) -> String {
        let parts: Vec<_> = self
            .provider
            .identity
            .iter()
            .filter_map(|key| self.inputs.optional(key).ok().flatten())
            .collect();
        if !parts.is_empty() {
            return parts.join("&");
        }
        // A fixed moment: where the client id holds a time, other inputs are the identity.
        self.sign(Moment {
            now_ms: 0,
            random: 0,
        })
        .map(|creds| creds.client_id)
        .unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "vector_tests.rs"]
mod tests;
