//! Signed tokens as credentials: the signature, the claims, and what they say of the client.
//!
//! Which algorithms a token may name is settled by the key, never by the token: a public key is no secret that a token
//! could be signed with, and `none` is no algorithm.

mod claims;
mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use weir_mqtt::{ReasonCode, Utf8};

use super::{Acl, Authenticator, ConnectRequest, Decision, Identity};
pub use keys::{KeyError, Keys};

/// Where a client puts its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum TokenPlace {
    /// The password.
    #[default]
    Password,
    /// The user name.
    Username,
}

/// What a token must say.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Where the token is.
    pub from: TokenPlace,
    /// The claim that names the user.
    pub username_claim: String,
    /// The issuer, where it must be a certain one.
    pub issuer: Option<String>,
    /// The audience, where the token must be for a certain one.
    pub audience: Option<String>,
    /// What other claims must say, with `%c` and `%u` for what the client says of itself.
    pub claims: BTreeMap<String, String>,
    /// The claim with an access list.
    pub acl_claim: String,
    /// How far clocks may differ.
    pub leeway_s: i64,
}

/// Admits clients by their tokens.
pub struct Jwt {
    keys: Arc<Keys>,
    settings: JwtSettings,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the token is not readable")]
    Unreadable,
    #[error("no key fits the token's algorithm and key id")]
    NoKey,
    #[error("the signature is not of any key that fits")]
    Signature,
    #[error("{0}")]
    Claim(String),
}

impl Jwt {
    /// Tokens that are signed with one of `keys`, which can change.
    pub fn new(keys: Arc<Keys>, settings: JwtSettings) -> Self {
        Self { keys, settings }
    }

    fn decide(&self, request: &ConnectRequest, now_s: i64) -> Decision {
        let place = match self.settings.from {
            TokenPlace::Password => request
                .password
                .as_deref()
                .and_then(|password| std::str::from_utf8(password).ok()),
            TokenPlace::Username => request.username.as_deref(),
        };
        // Three parts with dots between them. Anything else is a password of someone else's.
        let Some(token) = place.filter(|token| token.matches('.').count() == 2) else {
            return Decision::Ignore;
        };
        match self.read(token, request, now_s) {
            Ok(identity) => Decision::Allow(identity),
            Err(refused) => {
                tracing::debug!(client_id = %request.client_id, %refused, "a token is not believed");
                Decision::Deny(ReasonCode::BadUserNameOrPassword)
            }
        }
    }

    fn read(&self, token: &str, request: &ConnectRequest, now_s: i64) -> Result<Identity, Refused> {
        let claims = self.verified(token)?;
        let settings = &self.settings;
        claims::check(&claims, settings, request, now_s).map_err(Refused::Claim)?;
        let acl = claims
            .get(&settings.acl_claim)
            .map(Acl::from_json)
            .transpose()
            .map_err(|error| Refused::Claim(format!("`{}`: {error}", settings.acl_claim)))?;
        let attributes = claims.get("client_attrs").and_then(Value::as_object);
        Ok(Identity {
            username: self.username(&claims, request)?,
            superuser: claims
                .get("superuser")
                .or_else(|| claims.get("is_superuser"))
                == Some(&Value::Bool(true)),
            acl: acl.map(Arc::new),
            expires_at_s: claims::time(&claims, "exp").map_err(Refused::Claim)?,
            attributes: attributes
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            ..Identity::default()
        })
    }

    /// The name that the token vouches for. One that the client merely sends is believed only where a claim was held
    /// against it.
    fn username(&self, claims: &Value, request: &ConnectRequest) -> Result<Option<Utf8>, Refused> {
        if let Some(name) = claims
            .get(&self.settings.username_claim)
            .and_then(Value::as_str)
        {
            return Utf8::new(name)
                .map(Some)
                .map_err(|_| Refused::Claim("the user's name is no MQTT text".to_owned()));
        }
        let vouched = self.settings.claims.values().any(|value| value == "%u");
        Ok(request.username.clone().filter(|_| vouched))
    }

    /// The claims of a token whose signature is right.
    fn verified(&self, token: &str) -> Result<Value, Refused> {
        // Unknown algorithms end here, and so does `none`.
        let header = decode_header(token).map_err(|_| Refused::Unreadable)?;
        let keys = self.keys.fitting(header.alg, header.kid.as_deref());
        if keys.is_empty() {
            return Err(Refused::NoKey);
        }
        let mut validation = Validation::new(header.alg);
        // The claims are checked here, against a clock that tests can set.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        keys.iter()
            .find_map(|key| decode::<Value>(token, key, &validation).ok())
            .map(|token| token.claims)
            .ok_or(Refused::Signature)
    }
}

impl Authenticator for Jwt {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        ready(self.decide(request, now_s())).boxed()
    }
}

fn now_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
