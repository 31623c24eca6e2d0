//! Bytes to packets and back: listeners, what stands below MQTT, and connections. Nothing is decided here.

pub(crate) mod connection;
pub(crate) mod event_loop;
mod exchange;
mod frames;
pub(crate) mod handshake;
mod held;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod in_memory;
pub(crate) mod listener;
pub(crate) mod proxy_protocol;
pub(crate) mod settings;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod websocket;
mod welcome;
pub(crate) mod wire;

#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod takeover_tests;
