//! Enhanced authentication of MQTT 5 (its section 4.12): a conversation in place of a password.
//!
//! A mechanism is a pure state machine: what the client said in, what is answered out. Who carries the bytes, at
//! CONNECT and when a client signs in again, is `net` and `driver`.

use std::sync::Arc;

use bytes::Bytes;
use weir_mqtt::{ReasonCode, Utf8};

use super::Identity;
use crate::hooks::{GuardedMechanism, Panics};

/// One way to sign in, under the name that clients ask for as authentication method.
pub trait Mechanism: Send + Sync + 'static {
    /// The authentication method. Asked for once, when the broker starts.
    fn name(&self) -> &str;

    /// A conversation with one client.
    fn begin(&self) -> Box<dyn Exchange>;
}

/// A conversation with one client.
pub trait Exchange: Send {
    /// What the client says in CONNECT or AUTH; empty when it sends no authentication data.
    fn step(&mut self, data: &[u8]) -> Step;
}

/// The answer to what a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client is asked for more.
    Continue(Bytes),
    /// The client is who it says.
    Done {
        /// Who it is.
        identity: Identity,
        /// The last word, with which the server shows who it is.
        data: Option<Bytes>,
    },
    /// The client is not admitted.
    Refused(ReasonCode),
}

/// The mechanisms of a broker.
#[derive(Clone, Default)]
pub struct Mechanisms(Vec<Arc<dyn Mechanism>>);

impl Mechanisms {
    /// Adds one; the first of a name counts.
    #[must_use]
    pub fn with(mut self, mechanism: Arc<dyn Mechanism>) -> Self {
        self.0.push(mechanism);
        self
    }

    /// The same mechanisms, none of which harms the broker when it panics.
    pub(crate) fn guarded(&self, panics: &Arc<Panics>) -> Self {
        let guarded = self.0.iter().filter_map(|mechanism| {
            let guarded = GuardedMechanism::new(Arc::clone(mechanism), panics)?;
            Some(Arc::new(guarded) as Arc<dyn Mechanism>)
        });
        Self(guarded.collect())
    }

    /// The mechanism of a name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Mechanism>> {
        self.0.iter().find(|mechanism| mechanism.name() == name)
    }
}

/// What a client has shown before it is admitted.
pub(crate) struct Proof {
    /// Who it is.
    pub(crate) identity: Identity,
    /// How it showed that.
    pub(crate) mechanism: Arc<dyn Mechanism>,
    /// The mechanism's last word, for CONNACK.
    pub(crate) data: Option<Bytes>,
}

impl Proof {
    /// The authentication method.
    pub(crate) fn method(&self) -> Utf8 {
        Utf8::new(self.mechanism.name()).unwrap_or_default()
    }
}
