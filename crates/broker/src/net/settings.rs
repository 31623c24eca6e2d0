//! What one listener decides for itself, as plain values.

use std::sync::Arc;

use super::tls::Tls;
use super::transport::Transport;
use super::websocket::handshake::WebSocketSettings;
use crate::auth::acl::Network;
use crate::auth::certificate::PeerCertificate;
use crate::store::Durability;

/// What one listener decides for itself.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The name in logs, metrics and rules of access.
    pub name: Arc<str>,
    /// How the bytes are carried.
    pub transport: Transport,
    /// The most connections that are open at once.
    pub max_connections: usize,
    /// Whether clients without credentials are admitted.
    pub allow_anonymous: bool,
    /// Clients that come here are content with this, where the storage promises more: their acknowledgements do not wait
    /// for it. What they leave is kept like everything else.
    pub durability: Durability,
    /// Whether a PROXY header stands before everything else, and whose is believed.
    pub proxy: Option<ProxySettings>,
    /// The certificates, where there is TLS.
    pub tls: Option<Arc<Tls>>,
    /// Which name in a client's certificate is its user name.
    pub identity: CertificateName,
    /// What is asked of the handshake, where MQTT is carried over WebSocket.
    pub web_socket: Option<WebSocketSettings>,
}

impl ListenerSettings {
    /// Whether MQTT begins with the first byte of a connection.
    pub(crate) fn is_plain(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.web_socket.is_none()
    }
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            name: "listener".into(),
            transport: Transport::default(),
            max_connections: 100_000,
            allow_anonymous: false,
            durability: Durability::Fsync,
            proxy: None,
            tls: None,
            identity: CertificateName::None,
            web_socket: None,
        }
    }
}

/// Which name in a client's certificate is its user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum CertificateName {
    /// None: who the client is, CONNECT says.
    #[default]
    None,
    /// The common name.
    Cn,
    /// The whole subject as RFC 4514 writes it.
    Dn,
    /// The first alternative name.
    San,
}

impl CertificateName {
    pub(super) fn of(self, certificate: &PeerCertificate) -> Option<String> {
        match self {
            Self::None => None,
            Self::Cn => certificate.common_name.clone(),
            Self::Dn => Some(certificate.subject.clone()),
            Self::San => certificate.alt_names.first().cloned(),
        }
        .filter(|name| !name.is_empty())
    }
}

/// Whose PROXY headers are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// Where proxies are; empty: anywhere, but then what they say of certificates is not believed.
    pub trusted: Vec<Network>,
}
