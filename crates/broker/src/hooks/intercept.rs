//! What happens on each connection, step by step.

use std::net::SocketAddr;
use std::time::Duration;

use weir_mqtt::{Packet, Utf8};

/// A network connection as interceptors see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The address it connected to.
    pub local: Option<SocketAddr>,
    /// Who it is, once it was welcomed.
    pub client_id: Option<Utf8>,
}

/// Sees the steps of each connection. Called on the connection's task, in the order that
/// [`BrokerBuilder::interceptor`](crate::BrokerBuilder::interceptor) was told; must not wait.
pub trait Interceptor: Send + Sync + 'static {
    /// The connection is there; nothing has been read.
    fn after_connected(&self, connection: &ConnectionInfo) {
        let _ = connection;
    }

    /// Bytes have come.
    fn after_received_bytes(&self, connection: &ConnectionInfo, bytes: usize) {
        let _ = (connection, bytes);
    }

    /// A packet was decoded; it is handled next.
    fn after_decoded(&self, connection: &ConnectionInfo, packet: &Packet) {
        let _ = (connection, packet);
    }

    /// The packet that was decoded last has been handled, in `cost`. Its acknowledgement may still wait for the storage.
    fn after_handled(&self, connection: &ConnectionInfo, cost: Duration) {
        let _ = (connection, cost);
    }

    /// Bytes were written.
    fn after_sent(&self, connection: &ConnectionInfo, bytes: usize) {
        let _ = (connection, bytes);
    }
}
