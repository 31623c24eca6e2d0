//! Device and time in, credentials out. Pure apart from secrets that live in files and are read at each signature.

pub mod aliyun;

use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::codes;
use crate::error::SinkError;
use crate::secret::Secret;

/// What a CONNECT carries.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectCreds {
    /// The client id.
    pub client_id: String,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for ConnectCreds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectCreds")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
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
}

impl ConnectCreds {
    /// The credentials in the open.
    pub fn show(&self) -> ShownCreds {
        ShownCreds {
            client_id: self.client_id.clone(),
            username: self.username.clone(),
            password: self.password.as_ref().map(|password| password.to_string()),
        }
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No such provider here.
    #[error("no credential provider `{0}`; this version signs `aliyun_iot` and `plain`")]
    Provider(String),
    /// An input is missing or of the wrong kind.
    #[error("{0}")]
    Input(String),
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
            SignError::Provider(name) => {
                Self::new(codes::PROVIDER, format!("no credential provider `{name}`"))
            }
            SignError::Input(message) => Self::new(codes::INPUTS, message.clone()).configuration(),
            SignError::Secret(source) => {
                Self::new(codes::BRIDGE, "a secret cannot be read").caused_by(source)
            }
            SignError::ClockUnset => Self::new(codes::CLOCK_UNSET, "the system's clock is not set"),
        }
    }
}

/// Signs the inputs of one test vector.
///
/// # Errors
/// An unknown provider, or an input that is missing or malformed.
pub fn sign_vector(provider: &str, inputs: &Value) -> Result<ConnectCreds, SignError> {
    match provider {
        "aliyun_iot" => aliyun::sign(&aliyun::Device::from_inputs(inputs)?, 0),
        "plain" => Ok(ConnectCreds {
            client_id: required(inputs, "client_id")?,
            username: optional(inputs, "username")?,
            password: optional(inputs, "password")?.map(Zeroizing::new),
        }),
        other => Err(SignError::Provider(other.to_owned())),
    }
}

fn optional(inputs: &Value, key: &str) -> Result<Option<String>, SignError> {
    match inputs.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(SignError::Input(format!("`{key}` has to be a text"))),
    }
}

fn required(inputs: &Value, key: &str) -> Result<String, SignError> {
    optional(inputs, key)?.ok_or_else(|| SignError::Input(format!("`{key}` is missing")))
}

/// How a bridge logs in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// As written.
    Plain {
        /// The client id.
        client_id: String,
        /// The user.
        username: Option<String>,
        /// The password.
        password: Option<Secret>,
    },
    /// Signed with an Aliyun device secret.
    Aliyun(aliyun::Device),
}

impl Credentials {
    /// Fresh credentials for one CONNECT.
    ///
    /// # Errors
    /// A secret that cannot be read, an input that cannot be signed.
    pub fn sign(&self, now_ms: i64) -> Result<ConnectCreds, SignError> {
        match self {
            Self::Plain {
                client_id,
                username,
                password,
            } => Ok(ConnectCreds {
                client_id: client_id.clone(),
                username: username.clone(),
                password: password.as_ref().map(Secret::reveal).transpose()?,
            }),
            Self::Aliyun(device) => aliyun::sign(device, now_ms),
        }
    }

    /// What the remote takes for "the same client".
    pub fn identity(&self) -> String {
        match self {
            Self::Plain { client_id, .. } => client_id.clone(),
            Self::Aliyun(device) => format!("{}&{}", device.device_name, device.product_key),
        }
    }
}
