//! Who may connect: one question per CONNECT, one answer.
//!
//! Whether a listener admits clients without credentials is the listener's own decision; it comes with the request.

pub mod anonymous;
pub mod certificate;
pub mod password_file;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use weir_mqtt::{ProtocolVersion, ReasonCode, Utf8};

use certificate::PeerCertificate;

/// What a client says about itself in CONNECT.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The client identifier, as sent or as assigned.
    pub client_id: Utf8,
    /// The user name, when there is one.
    pub username: Option<Utf8>,
    /// The password, when there is one.
    pub password: Option<Bytes>,
    /// The client's address; `None` over a unix socket.
    pub peer: Option<SocketAddr>,
    /// The name of the listener that the client came to.
    pub listener: Arc<str>,
    /// The certificate that the client has proven to own, when there is one.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// The protocol version.
    pub version: ProtocolVersion,
    /// Whether the listener admits clients without credentials.
    pub allow_anonymous: bool,
}

/// Who the client is, once admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The authenticated user name; `None` for an anonymous client.
    pub username: Option<Utf8>,
}

/// The answer to a [`ConnectRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Welcome.
    Allow(Identity),
    /// Refused with this reason.
    Deny(ReasonCode),
}

/// Decides who may connect.
pub trait Authenticator: Send + Sync + 'static {
    /// Answers one CONNECT.
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision>;
}

impl<A: Authenticator + ?Sized> Authenticator for Arc<A> {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        (**self).authenticate(request)
    }
}
