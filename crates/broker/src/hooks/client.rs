//! What hooks and the facade say of a connected client.

use std::net::SocketAddr;

use weir_mqtt::{ProtocolVersion, QoS, SubscriptionFilter, SubscriptionId, Utf8};

use crate::core::subscriptions::SubscriptionOptions;

/// A connected client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The identifier under which the broker knows it.
    pub client_id: Utf8,
    /// The user name, when there is one.
    pub username: Option<Utf8>,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The address it connected to.
    pub local: Option<SocketAddr>,
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Seconds of silence that it promised not to exceed; 0: any.
    pub keep_alive_s: u16,
    /// When it connected, in milliseconds since the Unix epoch.
    pub connected_at_ms: i64,
    /// Tells connections of one client apart: of two, the later one is greater, over restarts too.
    pub session_epoch: u64,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The filter, with the group of a shared subscription.
    pub filter: SubscriptionFilter,
    /// The highest QoS of deliveries.
    pub qos: QoS,
    /// Not what the client itself publishes.
    pub no_local: bool,
    /// The RETAIN flag of deliveries is as it was published.
    pub retain_as_published: bool,
    /// The subscription identifier.
    pub id: Option<SubscriptionId>,
}

impl Subscription {
    pub(crate) fn new(filter: SubscriptionFilter, options: SubscriptionOptions) -> Self {
        Self {
            filter,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            id: options.id,
        }
    }
}
