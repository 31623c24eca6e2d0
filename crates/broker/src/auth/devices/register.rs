//! A device that knows its product's secret asks for its own, or for a token (cloud-bridges §2.3, §15.3): one short
//! connection, on which it is sent that and may do nothing.

use std::sync::Arc;

use bytes::Bytes;
use weir_mqtt::{QoS, SubscriptionFilter, SubscriptionRequest, Utf8};
use weir_sinks::bridge::verifier::{Claim, Reason};

use super::{Devices, Source};
use crate::auth::{Acl, ConnectRequest, FirstMessage, Identity};
use crate::core::subscribe_options::options;
use crate::pipeline::world::now_ms;

/// Where the secret, or the token, is sent; the device does not subscribe to it.
const SECRET: &str = "/ext/register";
const TOKEN: &str = "/ext/regnwl";
/// How long the device may stay, in seconds.
const STAY_S: i64 = 15;

impl Devices {
    /// Admits a device for as long as it takes to tell it what the table has for it: as its secret, or as a token that it
    /// then shows as it is.
    pub(super) fn register(
        &self,
        claim: &Claim,
        request: &ConnectRequest,
        wants_token: bool,
    ) -> Result<Identity, Reason> {
        if !request.encrypted && !self.settings.allow_plain_provision {
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
        let (topic, told) = if wants_token {
            let told = serde_json::json!({
                "productKey": device.tenant, "deviceName": device.name,
                "clientId": format!("{}.{}", device.tenant, device.name), "deviceToken": *secret,
            });
            (TOKEN, told)
        } else {
            let told = serde_json::json!({
                "productKey": device.tenant, "deviceName": device.name, "deviceSecret": *secret,
            });
            (SECRET, told)
        };
        tracing::info!(product = %device.tenant, device = %device.name, "a device is told its secret");
        // It keeps the client id that it sent: the device itself may be connected.
        Ok(Identity {
            username: request.username.clone(),
            subscriptions: subscription(topic).into_iter().collect(),
            first_message: Some(Box::new(FirstMessage {
                topic: Utf8::from(topic),
                payload: Bytes::from(told.to_string()),
            })),
            acl: Some(Arc::new(nothing_but(topic))),
            expires_at_s: Some(now_ms() / 1000 + STAY_S),
            ..Identity::default()
        })
    }
}

fn subscription(topic: &str) -> Option<SubscriptionRequest> {
    Some(SubscriptionRequest {
        filter: SubscriptionFilter::parse(topic).ok()?,
        options: options(QoS::AtMostOnce, true, false, 2),
    })
}

/// May have what it is sent, and do nothing.
fn nothing_but(topic: &str) -> Acl {
    let own = serde_json::json!([{"permission": "allow", "action": "subscribe", "topic": topic}]);
    Acl::from_json(&own).unwrap_or_default().closed()
}
