//! A device that knows its product's secret asks for its own (cloud-bridges §2.3, §15.3): one short connection, on which
//! it is sent its secret and may do nothing.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use weir_mqtt::{QoS, SubscriptionFilter, SubscriptionRequest, Utf8};
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::{Claim, Reason, Scheme};

use super::{Devices, Source};
use crate::auth::{Acl, ConnectRequest, FirstMessage, Identity};
use crate::driver::auto_subscribe::options;
use crate::pipeline::world::now_ms;

/// Where the secret is sent; the device does not subscribe to it.
const TOPIC: &str = "/ext/register";
/// How long the device may stay, in seconds.
const STAY_S: i64 = 15;

/// A product, whose secret all its devices know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Product {
    pub(super) scheme: String,
    pub(super) tenant_key: String,
    pub(super) secret: Secret,
    #[serde(rename = "note")]
    _note: Option<String>,
}

impl Product {
    /// What is wrong with it: the key, what, and the cure.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let usable = |secret: &Secret| secret.reveal().is_ok_and(|secret| !secret.is_empty());
        if self.scheme != Scheme::AliyunIot.name() {
            let cure = "scheme = \"aliyun_iot\"; the others do not register over MQTT";
            Some((
                "scheme",
                "only products of aliyun_iot register devices",
                cure,
            ))
        } else if self.tenant_key.is_empty() {
            let cure = "it is the ProductKey";
            Some(("tenant_key", "`tenant_key` is empty", cure))
        } else if !usable(&self.secret) {
            let cure = "copy it whole from the cloud's console";
            Some(("secret", "`secret` is empty or cannot be read", cure))
        } else {
            None
        }
    }
}

impl Devices {
    /// Admits a device for as long as it takes to tell it its secret.
    pub(super) fn register(
        &self,
        claim: &Claim,
        request: &ConnectRequest,
    ) -> Result<Identity, Reason> {
        if !request.encrypted {
            return Err(Reason::Malformed(
                "a device is told its secret over TLS alone: let it come to a listener of kind \"tls\" or \"wss\"",
            ));
        }
        let Source::Table(table) = &self.source else {
            return Err(Reason::MayNotRegister);
        };
        let table = table.load();
        let product = table.product(claim);
        // As much work where there is none.
        let secret = product.map_or(&self.nobody, |product| &product.secret);
        let signed = self.is_signed(claim, secret)?;
        if product.is_none() {
            return Err(Reason::UnknownDevice);
        }
        if !signed {
            return Err(Reason::WrongSignature);
        }
        let device = table.find(claim).ok_or(Reason::UnknownDevice)?;
        if !device.enabled {
            return Err(Reason::Disabled);
        }
        if !device.register {
            return Err(Reason::MayNotRegister);
        }
        let secret = device.secret.reveal().map_err(|_| Reason::Unavailable)?;
        let told = serde_json::json!({
            "productKey": device.tenant, "deviceName": device.name, "deviceSecret": *secret,
        });
        tracing::info!(product = %device.tenant, device = %device.name, "a device is told its secret");
        // It keeps the client id that it sent: the device itself may be connected.
        Ok(Identity {
            username: request.username.clone(),
            subscriptions: subscription().into_iter().collect(),
            first_message: Some(Box::new(FirstMessage {
                topic: Utf8::from(TOPIC),
                payload: Bytes::from(told.to_string()),
            })),
            acl: Some(Arc::new(nothing())),
            expires_at_s: Some(now_ms() / 1000 + STAY_S),
            ..Identity::default()
        })
    }
}

fn subscription() -> Option<SubscriptionRequest> {
    Some(SubscriptionRequest {
        filter: SubscriptionFilter::parse(TOPIC).ok()?,
        options: options(QoS::AtMostOnce, true, false, 2),
    })
}

/// May have what it is sent, and do nothing.
fn nothing() -> Acl {
    let own = serde_json::json!([{"permission": "allow", "action": "subscribe", "topic": TOPIC}]);
    Acl::from_json(&own).unwrap_or_default().closed()
}
