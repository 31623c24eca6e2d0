//! Aliyun IoT Platform, sign-in with a device secret.

use hmac::{Hmac, Mac};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{ConnectCreds, SignError, optional, required};
use crate::secret::Secret;

/// A device of the platform.
#[derive(Clone, Debug)]
pub struct Device {
    /// The product.
    pub product_key: String,
    /// The device.
    pub device_name: String,
    /// The key of the signature: its text, not decoded.
    pub device_secret: Secret,
    /// The client id's core; without one `{product_key}.{device_name}`.
    pub client_id: Option<String>,
    /// Which HMAC.
    pub method: SignMethod,
    /// 2 on TLS, 3 on plain TCP.
    pub secure_mode: i32,
    /// Which time is sent.
    pub timestamp: Timestamp,
    /// Pairs at the end of the client id that are not signed.
    pub extra: Vec<(String, String)>,
}

/// Which HMAC signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignMethod {
    /// HMAC-MD5.
    Md5,
    /// HMAC-SHA1.
    Sha1,
    /// HMAC-SHA256.
    #[default]
    Sha256,
}

impl SignMethod {
    /// The method of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "hmacmd5" => Some(Self::Md5),
            "hmacsha1" => Some(Self::Sha1),
            "hmacsha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "hmacmd5",
            Self::Sha1 => "hmacsha1",
            Self::Sha256 => "hmacsha256",
        }
    }

    fn hex_mac(self, key: &[u8], content: &[u8]) -> String {
        fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], content: &[u8]) -> String {
            let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(content);
            hex(&mac.finalize().into_bytes())
        }
        match self {
            Self::Md5 => mac::<Hmac<md5::Md5>>(key, content),
            Self::Sha1 => mac::<Hmac<sha1::Sha1>>(key, content),
            Self::Sha256 => mac::<Hmac<sha2::Sha256>>(key, content),
        }
    }
}

/// Which time is sent; the cloud does not check it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamp {
    /// None.
    Omit,
    /// The time of the signature.
    #[default]
    Now,
    /// This one, in milliseconds.
    Fixed(i64),
}

/// Before this (2020-01-01) a clock is not set.
const CLOCK_IS_SET_MS: i64 = 1_577_836_800_000;

impl Device {
    /// The device of a test vector.
    pub(super) fn from_inputs(inputs: &Value) -> Result<Self, SignError> {
        let method = match optional(inputs, "sign_method")? {
            None => SignMethod::default(),
            Some(name) => SignMethod::from_name(&name)
                .ok_or_else(|| SignError::Input(format!("`sign_method`: there is no `{name}`")))?,
        };
        let number = |key: &str| match inputs.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_i64()
                .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
                .map(Some)
                .ok_or_else(|| SignError::Input(format!("`{key}` has to be an integer"))),
        };
        let secure_mode = i32::try_from(number("securemode")?.unwrap_or(2))
            .map_err(|_| SignError::Input("`securemode` is out of range".into()))?;
        Ok(Self {
            product_key: required(inputs, "product_key")?,
            device_name: required(inputs, "device_name")?,
            device_secret: Secret::new(required(inputs, "device_secret")?),
            client_id: optional(inputs, "client_id")?,
            method,
            secure_mode,
            timestamp: number("timestamp")?.map_or(Timestamp::Omit, Timestamp::Fixed),
            extra: extra(inputs)?,
        })
    }

    /// What goes between the client id's core and its end, unsigned pairs last.
    fn parameters(&self, timestamp: Option<i64>) -> String {
        let mut text = format!(
            "securemode={},signmethod={}",
            self.secure_mode,
            self.method.name()
        );
        if let Some(timestamp) = timestamp {
            text.push_str(&format!(",timestamp={timestamp}"));
        }
        for (key, value) in &self.extra {
            text.push_str(&format!(",{key}={value}"));
        }
        text
    }

    /// Whether every part may stand where the client id puts it.
    fn check(&self, core: &str) -> Result<(), SignError> {
        let clean = |text: &str, forbidden: &[char]| {
            !text.is_empty() && !text.contains(forbidden) && !text.contains(char::is_control)
        };
        if !clean(&self.product_key, &['&', '|', '/', '+', '#']) {
            return Err(SignError::Input(
                "`product_key` is empty or holds a separator".into(),
            ));
        }
        if !clean(&self.device_name, &['&', '|', '/', '+', '#']) {
            return Err(SignError::Input(
                "`device_name` is empty or holds a separator".into(),
            ));
        }
        if !clean(core, &['|']) || core.chars().count() > 64 {
            return Err(SignError::Input(
                "`client_id` is empty, longer than 64 characters or holds `|`".into(),
            ));
        }
        let pairs = self
            .extra
            .iter()
            .all(|(key, value)| clean(key, &['|', ',', '=']) && !value.contains(['|', ',']));
        if pairs {
            Ok(())
        } else {
            Err(SignError::Input(
                "`extra` holds `|`, `,` or an empty key".into(),
            ))
        }
    }
}

fn extra(inputs: &Value) -> Result<Vec<(String, String)>, SignError> {
    let wrong = || SignError::Input("`extra` is a list of [key, value]".into());
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(wrong()),
    };
    match inputs.get("extra") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([key, value]) => Ok((text(key)?, text(value)?)),
                _ => Err(wrong()),
            })
            .collect(),
        Some(Value::Object(pairs)) => pairs
            .iter()
            .map(|(key, value)| Ok((key.clone(), text(value)?)))
            .collect(),
        Some(_) => Err(wrong()),
    }
}

/// The credentials of `device` at `now_ms`.
///
/// # Errors
/// A part that the client id cannot carry; a secret that cannot be read.
pub fn sign(device: &Device, now_ms: i64) -> Result<ConnectCreds, SignError> {
    let core = device
        .client_id
        .clone()
        .unwrap_or_else(|| format!("{}.{}", device.product_key, device.device_name));
    device.check(&core)?;
    let timestamp = match device.timestamp {
        Timestamp::Omit => None,
        // A clock that is not set yet: the form without a time is as good to the cloud.
        Timestamp::Now => (now_ms >= CLOCK_IS_SET_MS).then_some(now_ms),
        Timestamp::Fixed(timestamp) => Some(timestamp),
    };
    let secret = device.device_secret.reveal()?;
    let content = content(&core, &device.device_name, &device.product_key, timestamp);
    let password = device.method.hex_mac(secret.as_bytes(), content.as_bytes());
    Ok(ConnectCreds {
        client_id: format!("{core}|{}|", device.parameters(timestamp)),
        username: Some(format!("{}&{}", device.device_name, device.product_key)),
        password: Some(Zeroizing::new(password)),
    })
}

/// What is signed: every key with its value, in byte order of the keys, without separators.
fn content(core: &str, device_name: &str, product_key: &str, timestamp: Option<i64>) -> String {
    let mut text = format!("clientId{core}deviceName{device_name}productKey{product_key}");
    if let Some(timestamp) = timestamp {
        text.push_str(&format!("timestamp{timestamp}"));
    }
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
#[path = "aliyun_tests.rs"]
mod tests;
