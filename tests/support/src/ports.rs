//! Free ports for servers that cannot say which one they were given.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below the ports that Linux gives to outgoing connections, and above those of well-known servers.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A TCP port on loopback that nothing listens on now, and that no outgoing connection is given: a server that is
/// stopped finds it free again when it is started.
///
/// Another process may take it before the caller's server does: servers that can bind port 0 and say
/// what they got should do that instead, and the others are started again on another port.
#[must_use]
pub fn free_port() -> u16 {
    let chance = RandomState::new();
    (0_u32..1000)
        .map(|attempt| {
            let number = chance.hash_one(attempt) % u64::from(PORTS.end - PORTS.start);
            PORTS.start + u16::try_from(number).expect("it is less than a port")
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("loopback has a free port")
}
