//! Who may connect, one question per CONNECT and one answer, and what those who did may do.
//!
//! Whether a listener admits clients without credentials is the listener's own decision; it comes with the request.

pub mod access_list;
pub mod acl;
pub mod anonymous;
pub mod authorizer;
pub mod banned;
pub mod certificate;
pub mod chain;
pub mod devices;
pub mod enhanced;
pub mod http;
pub mod jwt;
mod open;
pub mod password_file;
pub mod password_hash;
pub mod postgres;
pub mod scram;
mod user_lines;
pub mod x509;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
pub use futures_util::future::BoxFuture;
use weir_mqtt::{ProtocolVersion, ReasonCode, SubscriptionRequest, Utf8};

use certificate::PeerCertificate;

pub use acl::Acl;
pub use authorizer::{AllowAll, Authorizer, PublishVerdict, Subject};
pub use open::{Access, check_files};
pub use user_lines::is_user_name;

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
    /// Whether there is TLS below MQTT.
    pub encrypted: bool,
    /// The keep-alive that the client asks for, in seconds; 0 is none.
    pub keep_alive_s: u16,
}

impl ConnectRequest {
    /// The common name of the client's certificate.
    pub fn cert_cn(&self) -> Option<&str> {
        self.certificate.as_deref()?.common_name.as_deref()
    }
}

/// Who the client is, once admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The authenticated user name; `None` for an anonymous client.
    pub username: Option<Utf8>,
    /// Under which name the session is kept, where that is not the client identifier.
    pub session: Option<Utf8>,
    /// What the client is subscribed to without asking for it.
    pub subscriptions: Vec<SubscriptionRequest>,
    /// What the client is sent when it comes, where one of `subscriptions` is to the topic.
    pub first_message: Option<Box<FirstMessage>>,
    /// May do everything.
    pub superuser: bool,
    /// What this client may do, before the access list of all.
    pub acl: Option<Arc<Acl>>,
    /// When the permission ends, in seconds since the Unix epoch: then the connection ends too.
    pub expires_at_s: Option<i64>,
    /// The tokens that the client was let in for, where it hears of their end and may show others.
    pub lease: Option<Arc<devices::TokenLease>>,
    /// Whose rules the client is held to.
    pub cloud: Option<devices::Cloud>,
    /// What else the authenticator knows of the client.
    pub attributes: BTreeMap<String, String>,
}

/// What a client alone is sent when it comes.
#[derive(Clone, PartialEq, Eq)]
pub struct FirstMessage {
    /// The topic.
    pub topic: Utf8,
    /// May be a secret.
    pub payload: Bytes,
}

impl std::fmt::Debug for FirstMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FirstMessage")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// A user without special rights.
    pub fn user(username: Utf8) -> Self {
        Self {
            username: Some(username),
            ..Self::default()
        }
    }
}

/// The answer to a [`ConnectRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Welcome.
    Allow(Identity),
    /// Refused with this reason.
    Deny(ReasonCode),
    /// Nothing is known of the client here: the next in the chain is asked. At the end that is a refusal.
    Ignore,
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a client of this machine says in CONNECT.
    pub(crate) fn request(
        username: Option<&'static str>,
        password: &'static str,
        allow_anonymous: bool,
    ) -> ConnectRequest {
        ConnectRequest {
            client_id: Utf8::from("c"),
            username: username.map(Utf8::from),
            password: Some(Bytes::from_static(password.as_bytes())),
            peer: Some("127.0.0.1:1".parse().unwrap()),
            listener: "test".into(),
            certificate: None,
            version: ProtocolVersion::V5,
            allow_anonymous,
            encrypted: false,
            keep_alive_s: 60,
        }
    }
}
