//! `[[listeners]]`: where MQTT clients connect.

use std::net::SocketAddr;

use serde::Deserialize;

/// One of `[[listeners]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The transport.
    #[serde(default = "tcp")]
    pub kind: ListenerKind,
    /// Address and port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Connections beyond this are refused.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
}

/// Transports that this version speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// Plain TCP.
    Tcp,
}

const fn tcp() -> ListenerKind {
    ListenerKind::Tcp
}

const fn max_connections() -> usize {
    100_000
}

impl Listener {
    /// A plain listener with the defaults.
    pub fn tcp(bind: SocketAddr) -> Self {
        Self {
            kind: tcp(),
            bind,
            max_connections: max_connections(),
        }
    }
}
