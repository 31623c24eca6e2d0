//! Under which name the broker knows a client.

use std::net::SocketAddr;

use bytes::Bytes;
use weir_mqtt::{ProtocolVersion, Utf8};

use crate::auth::certificate::PeerCertificate;

/// What is known of a client when its name is asked for. Nothing of it has been checked yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IdentityRequest<'a> {
    /// The client identifier, as sent or as assigned.
    pub client_id: &'a Utf8,
    /// The user name, when there is one.
    pub username: Option<&'a Utf8>,
    /// The password, when there is one.
    pub password: Option<&'a Bytes>,
    /// The client's address; `None` over a unix socket.
    pub peer: Option<SocketAddr>,
    /// The certificate that the client has proven to own, when there is one.
    pub certificate: Option<&'a PeerCertificate>,
    /// The protocol version.
    pub version: ProtocolVersion,
}

/// Gives the name that counts instead of the client identifier: for the session, for takeover, in access rules, to
/// rules and hooks.
///
/// Asked before the client is authenticated, so that an authenticator sees the name that counts. An empty answer, or
/// one that is too long, refuses the client: its identifier is not valid.
///
/// ```
/// use weir::hooks::IdentityRequest;
///
/// let builder = weir::Broker::builder().unique_id(|request: &IdentityRequest<'_>| {
///     let tenant = request.username.map_or("nobody", |name| name.as_str());
///     format!("{tenant}/{}", request.client_id.as_str())
/// });
/// # drop(builder);
/// ```
pub trait UniqueId: Send + Sync + 'static {
    /// The name that counts.
    fn unique_id(&self, request: &IdentityRequest<'_>) -> String;
}

impl<F> UniqueId for F
where
    F: Fn(&IdentityRequest<'_>) -> String + Send + Sync + 'static,
{
    fn unique_id(&self, request: &IdentityRequest<'_>) -> String {
        self(request)
    }
}
