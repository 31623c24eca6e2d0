//! Free ports for servers that cannot say which one they were given.

use std::net::{Ipv4Addr, TcpListener};

/// A TCP port on loopback that nothing listens on now.
///
/// Another process may take it before the caller's server does: servers that can bind port 0 and say
/// what they got should do that instead, and the others are started again on another port.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}
