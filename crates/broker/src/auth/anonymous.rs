//! Without a password file: everyone is welcome where the listener admits clients without credentials.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use weir_mqtt::ReasonCode;

use super::{Authenticator, ConnectRequest, Decision, Identity};

/// Admits every client on listeners that admit clients without credentials, and nobody elsewhere.
///
/// A user name that is sent along is believed: there is nothing to check it against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Authenticator for Anonymous {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        let decision = if request.allow_anonymous {
            Decision::Allow(Identity {
                username: request.username.clone(),
                ..Identity::default()
            })
        } else {
            Decision::Deny(ReasonCode::NotAuthorized)
        };
        ready(decision).boxed()
    }
}
