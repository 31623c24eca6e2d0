//! What one connection tells interceptors and the statistics of its address. A connection has none unless someone
//! listens, so that every step costs one look at an empty place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_mqtt::{Packet, Utf8};

use super::addresses::Entry;
use super::{ConnectionInfo, Hook, Hooks, Interceptor};
use crate::driver::admission::Door;

/// One connection's way to those who watch it.
pub(crate) struct Tap {
    hooks: Arc<Hooks>,
    connection: ConnectionInfo,
    address: Option<Arc<Entry>>,
    /// When the packet that is being handled was decoded.
    decoded_at: Instant,
}

/// The address is banned.
pub(crate) struct Banned;

impl Hooks {
    /// A connection is there; `None` when nobody watches connections.
    pub(crate) fn tap(self: &Arc<Self>, door: &Door) -> Result<Option<Box<Tap>>, Banned> {
        let address = match (&self.addresses, door.peer) {
            (Some(addresses), Some(peer)) => Some(addresses.accepted(peer.ip()).ok_or(Banned)?),
            _ => None,
        };
        if self.interceptors.is_empty() && address.is_none() {
            return Ok(None);
        }
        let tap = Tap {
            hooks: Arc::clone(self),
            connection: ConnectionInfo {
                peer: door.peer,
                local: door.local,
                client_id: None,
            },
            address,
            decoded_at: Instant::now(),
        };
        tap.each(|hook, connection| hook.after_connected(connection));
        Ok(Some(Box::new(tap)))
    }
}

impl Tap {
    fn each(&self, call: impl Fn(&dyn Interceptor, &ConnectionInfo)) {
        for (_, hook) in &self.hooks.interceptors {
            let call = || call(hook.as_ref(), &self.connection);
            self.hooks.panics.guard(Hook::Interceptor, call);
        }
    }

    /// The client was welcomed.
    pub(crate) fn welcomed(&mut self, client_id: &Utf8) {
        self.connection.client_id = Some(client_id.clone());
    }

    /// Bytes have come.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(address) = &self.address {
            address.received(bytes as u64);
        }
        self.each(|hook, connection| hook.after_received_bytes(connection, bytes));
    }

    /// A packet was decoded.
    pub(crate) fn decoded(&mut self, packet: &Packet) {
        self.each(|hook, connection| hook.after_decoded(connection, packet));
        self.decoded_at = Instant::now();
    }

    /// It was handled.
    pub(crate) fn handled(&self) {
        let cost: Duration = self.decoded_at.elapsed();
        self.each(|hook, connection| hook.after_handled(connection, cost));
    }

    /// Bytes were written.
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(address) = &self.address {
            address.sent(bytes as u64);
        }
        self.each(|hook, connection| hook.after_sent(connection, bytes));
    }

    /// The client broke the protocol or was refused.
    pub(crate) fn failed(&self) {
        if let Some(address) = &self.address {
            address.failed();
        }
    }
}
