//! Bridges to other MQTT brokers: one connection per connector, shared by the sinks that name it.
//!
//! Signing, presets and the waits between attempts are pure; `link` carries bytes. Never here: weir's own listeners
//! and sessions.

pub(crate) mod client;
pub(crate) mod link;
pub mod plan;
pub mod preset;
pub mod provision;
pub mod reconnect;
pub mod signer;
pub mod stages;
pub mod verifier;

pub use link::BridgeStats;
pub use signer::{ConnectCreds, Moment, SignError, sign_at, sign_vector};
pub use stages::{Stage, test};
