//! AUTH from a client that is connected: it signs in again with the method that it came with (MQTT 5, 4.12.1).
//!
//! Other packets go on meanwhile; a client that fails is sent away.

use std::sync::Arc;

use weir_mqtt::properties::AuthProperties;
use weir_mqtt::{Auth, ReasonCode, Utf8};

use super::client::{Client, Leave};
use crate::auth::Identity;
use crate::auth::enhanced::{Exchange, Mechanism, Step};

/// How a client signed in, to do it again.
pub(crate) struct SignIn {
    mechanism: Arc<dyn Mechanism>,
    method: Utf8,
    /// While the client signs in again.
    exchange: Option<Box<dyn Exchange>>,
}

impl SignIn {
    /// With this mechanism.
    pub(super) fn new(mechanism: Arc<dyn Mechanism>, method: Utf8) -> Box<Self> {
        Box::new(Self {
            mechanism,
            method,
            exchange: None,
        })
    }

    /// The next step, and the exchange if there is to be another.
    fn step(&mut self, auth: Auth) -> Result<Step, Leave> {
        let properties = auth
            .properties
            .map(|properties| *properties)
            .unwrap_or_default();
        // [MQTT-4.12.1-1]
        if properties.authentication_method.as_ref() != Some(&self.method) {
            let why = "AUTH names another method than CONNECT";
            return Err(Leave::because(ReasonCode::BadAuthenticationMethod, why));
        }
        let mut exchange = match (auth.reason, self.exchange.take()) {
            (ReasonCode::ReAuthenticate, None) => self.mechanism.begin(),
            (ReasonCode::ContinueAuthentication, Some(exchange)) => exchange,
            _ => {
                let why = "AUTH does not fit the state of the authentication";
                return Err(Leave::because(ReasonCode::ProtocolError, why));
            }
        };
        let data = properties.authentication_data.unwrap_or_default();
        let step = exchange.step(&data);
        if let Step::Continue(_) = step {
            self.exchange = Some(exchange);
        }
        Ok(step)
    }
}

impl Client {
    /// `[MQTT-4.12.0-6]` `[MQTT-4.12.0-7]` Without a method in CONNECT there is no AUTH.
    pub(super) fn auth(&mut self, auth: Auth) -> Result<(), Leave> {
        let Some(sign_in) = &mut self.sign_in else {
            let why = "AUTH without an authentication method in CONNECT";
            return Err(Leave::because(ReasonCode::ProtocolError, why));
        };
        let step = sign_in.step(auth)?;
        let method = sign_in.method.clone();
        let (reason, data) = match step {
            Step::Continue(data) => (ReasonCode::ContinueAuthentication, Some(data)),
            Step::Done { identity, data } if self.is_still(&identity) => {
                (ReasonCode::Success, data)
            }
            // What the client may do was decided for the one that it came as.
            Step::Done { .. } => {
                let why = "signing in again cannot change who the client is";
                return Err(Leave::because(ReasonCode::NotAuthorized, why));
            }
            // [MQTT-4.12.1-2]
            Step::Refused(reason) => {
                self.shared.stats.auth_failures.of(reason.as_u8()).add(1);
                let why = "the client has failed to sign in again";
                return Err(Leave::because(reason, why));
            }
        };
        let answer = Auth {
            reason,
            properties: Some(Box::new(AuthProperties {
                authentication_method: Some(method),
                authentication_data: data,
                ..AuthProperties::default()
            })),
        };
        self.reply(|version, out| answer.encode(version, out))
    }

    fn is_still(&self, identity: &Identity) -> bool {
        identity.username == self.info.origin.username
    }
}
