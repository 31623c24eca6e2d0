//! What one client, and all together, may do in a while: settings only, see `token_bucket` and `flapping`.

use serde::Deserialize;

use super::flapping::FlappingLimits;
use super::token_bucket::Rate;

/// What becomes of a client that sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum WhenExceeded {
    /// Nothing of it is read for a while: it has to wait, and nothing is lost.
    #[default]
    Wait,
    /// It is disconnected; MQTT 5 clients are told why.
    Disconnect,
}

/// Limits of each client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// PUBLISH packets.
    pub messages: Option<Rate>,
    /// Bytes of all packets.
    pub bytes: Option<Rate>,
    /// What becomes of a client that sends more.
    pub when_exceeded: WhenExceeded,
    /// The largest payload in bytes.
    pub max_payload: Option<usize>,
}

/// Limits of clients and of those who want to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Of each client.
    pub client: ClientLimits,
    /// CONNECT packets.
    pub connects: Option<Rate>,
    /// CONNECT packets from one address, or one /64 of IPv6.
    pub connects_per_address: Option<Rate>,
    /// Who comes and goes all the time.
    pub flapping: Option<FlappingLimits>,
}
