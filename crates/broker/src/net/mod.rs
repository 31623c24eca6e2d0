//! Bytes to packets and back: listeners and connections. Nothing is decided here.

pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod transport;
