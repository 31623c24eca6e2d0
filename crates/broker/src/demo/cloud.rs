//! The demo's cloud: a second broker in the process that lets in only a device whose Aliyun signature is right.

use futures_util::future::BoxFuture;
use subtle::ConstantTimeEq;
use weir_mqtt::ReasonCode;

use crate::auth::{Authenticator, ConnectRequest, Decision, Identity};

/// The one device that the demo's cloud knows.
pub(super) struct Device {
    pub(super) product_key: &'static str,
    pub(super) device_name: &'static str,
    pub(super) secret: String,
}

/// Checks the signature of a CONNECT as the cloud does (device-secret sign-in).
impl Authenticator for Device {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        let decision = if self.signed(request) {
            Decision::Allow(Identity {
                username: request.username.clone(),
                ..Identity::default()
            })
        } else {
            Decision::Deny(ReasonCode::BadUserNameOrPassword)
        };
        Box::pin(std::future::ready(decision))
    }
}

impl Device {
    fn signed(&self, request: &ConnectRequest) -> bool {
        let Some(expected) = self.password_for(&request.client_id) else {
            return false;
        };
        let username = format!("{}&{}", self.device_name, self.product_key);
        let given = request
            .password
            .as_ref()
            .map(|password| password.to_vec())
            .unwrap_or_default();
        request.username.as_deref() == Some(&username)
            && bool::from(expected.as_bytes().ct_eq(&given))
    }

    /// The password that belongs to a client id `core|key=value,…|`, by the parameters that it names.
    fn password_for(&self, client_id: &str) -> Option<String> {
        let (core, parameters) = client_id.strip_suffix('|')?.split_once('|')?;
        let mut inputs = serde_json::json!({
            "product_key": self.product_key,
            "device_name": self.device_name,
            "device_secret": self.secret,
            "client_id": core,
        });
        for pair in parameters.split(',') {
            let (key, value) = pair.split_once('=')?;
            match key {
                "securemode" => inputs["securemode"] = value.parse::<i64>().ok()?.into(),
                "signmethod" => inputs["sign_method"] = value.into(),
                "timestamp" => inputs["timestamp"] = value.parse::<i64>().ok()?.into(),
                _ => {}
            }
        }
        let credentials = weir_sinks::bridge::sign_vector("aliyun_iot", &inputs).ok()?;
        credentials.show().password
    }
}
