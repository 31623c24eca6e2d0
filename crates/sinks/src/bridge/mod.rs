//! Bridges to other MQTT brokers: one connection per connector, shared by the sinks that name it.
//!
//! Signing, presets, topic names and the waits between attempts are pure; `drive` carries packets. Never here: weir's own listeners
//! and sessions.

mod certificate;
pub(crate) mod client;
mod dial;
mod drive;
mod echo_guard;
mod endpoint;
pub mod failures;
mod guards;
pub mod home;
mod home_line;
pub(crate) mod lanes;
pub(crate) mod link;
mod mirror;
pub(crate) mod numbering;
pub mod pace;
mod places;
pub mod plan;
pub mod preset;
#[cfg(test)]
mod preset_tables;
pub mod provision;
pub mod reconnect;
mod redirect;
pub(crate) mod released;
pub mod remote_status;
mod retained_in;
pub mod route;
pub mod signer;
pub mod stages;
pub mod start;
pub mod topic_limits;
pub mod verifier;
mod web_socket;

pub use certificate::check_certificate;
pub use endpoint::sign_with_endpoint;
pub use home::{Gateway, Home};
pub use link::BridgeStats;
pub use signer::{ConnectCreds, Moment, SignError, sign_at, sign_vector};
pub use stages::{Stage, test};
pub use start::Command;
