//! `[[listeners]]`: where MQTT clients connect, over what, and what is below MQTT there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::{Auth, Durable};
use crate::auth::acl::Network;
use crate::net::settings::{CertificateName, ListenerSettings, ProxySettings};
use crate::net::tls::{ClientAuth, Pem, ServerCertificate, Tls, TlsSettings};
use crate::net::transport::Transport;
use crate::net::websocket::handshake::WebSocketSettings;
use crate::problem::Problem;

/// One of `[[listeners]]`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The transport.
    #[serde(default)]
    pub kind: Transport,
    /// The name in logs, metrics and rules of access; `KIND:ADDRESS` unless set.
    pub name: Option<String>,
    /// Address and port, where port 0 takes a free one; the path of the socket for `unix`.
    pub bind: Bind,
    /// The permissions of a unix socket's file.
    pub mode: Option<FileMode>,
    /// Connections beyond this are refused.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
    /// Whether clients without credentials are admitted here, whatever `[auth]` says.
    pub allow_anonymous: Option<bool>,
    /// What clients that come here wait for, where that is less than the broker's own `durability`.
    pub durability: Option<Durable>,
    /// The server's certificate and those between it and its CA: a PEM file, or the text of one.
    pub cert: Option<String>,
    /// Its private key.
    pub key: Option<String>,
    /// More certificates, chosen by the name that the client asks for.
    #[serde(default)]
    pub sni: Vec<Sni>,
    /// The CAs of clients' certificates.
    pub client_ca: Option<String>,
    /// Whether clients show a certificate.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Revoked certificates of clients.
    pub crl: Option<String>,
    /// The oldest version of TLS: `1.2` or `1.3`.
    #[serde(default)]
    pub min_tls: MinTls,
    /// The cipher suites by name; empty: all that are sound.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Which name in a client's certificate is its user name.
    #[serde(default)]
    pub identity: CertificateName,
    /// The path of WebSocket requests.
    pub path: Option<String>,
    /// The pages whose scripts may connect over WebSocket; empty: every page's.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Whether every connection begins with a PROXY header, version 1 or 2.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The proxies that are believed, as addresses or networks; empty: everybody.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
}

/// One of `sni`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Sni {
    /// The host name, or `*.example.org`.
    pub name: String,
    /// As the listener's `cert`.
    pub cert: String,
    /// As the listener's `key`.
    pub key: String,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// On the network.
    Address(SocketAddr),
    /// In the file system.
    Path(PathBuf),
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
pub enum MinTls {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Permissions such as `"0660"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains('/') {
            return Ok(Self::Path(text.into()));
        }
        Err(D::Error::custom(format!(
            "`{text}` is not an address with its port, such as \"127.0.0.1:1883\", nor the path of a unix socket"
        )))
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err(D::Error::custom(format!(
                "`{text}` is not a file's mode such as \"0660\""
            ))),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

const fn max_connections() -> usize {
    100_000
}

/// Who may read and write a unix socket unless `mode` says otherwise: weir's user and group.
const UNIX_MODE: u32 = 0o660;

impl Listener {
    /// A plain listener with the defaults.
    pub fn tcp(address: SocketAddr) -> Self {
        Self {
            kind: Transport::Tcp,
            name: None,
            bind: Bind::Address(address),
            mode: None,
            max_connections: max_connections(),
            allow_anonymous: None,
            durability: None,
            cert: None,
            key: None,
            sni: Vec::new(),
            client_ca: None,
            client_auth: ClientAuth::None,
            crl: None,
            min_tls: MinTls::default(),
            ciphers: Vec::new(),
            identity: CertificateName::None,
            path: None,
            origins: Vec::new(),
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
        }
    }

    /// Where it is on the network; `None` for a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.bind {
            Bind::Address(address) => Some(address),
            Bind::Path(_) => None,
        }
    }

    /// The mode of a unix socket's file.
    pub fn mode(&self) -> u32 {
        self.mode.map_or(UNIX_MODE, |mode| mode.0)
    }

    /// Whether only this machine's own clients can come in. Behind a proxy they are the proxy's clients.
    pub fn is_local(&self) -> bool {
        self.address()
            .is_none_or(|address| address.ip().is_loopback())
            && !self.proxy_protocol
    }

    /// Whether nobody comes in without a certificate.
    fn asks_for_a_certificate(&self) -> bool {
        self.kind.is_encrypted() && self.client_auth == ClientAuth::Require
    }

    /// Whether clients without credentials are admitted: as configured, else where only this machine's clients and
    /// those with a certificate come in, and nobody asks them who they are.
    pub fn admits_anonymous(&self, auth: &Auth) -> bool {
        let configured = self.allow_anonymous.or(auth.allow_anonymous);
        configured.unwrap_or((self.is_local() || self.asks_for_a_certificate()) && !auth.asks())
    }

    /// Whether the network comes in without anybody having said so.
    pub(super) fn is_open_by_accident(&self, auth: &Auth) -> bool {
        !self.is_local()
            && !self.asks_for_a_certificate()
            && !auth.asks()
            && self.allow_anonymous.or(auth.allow_anonymous) != Some(true)
    }

    /// What does not fit together; `at` is the listener's place in the list.
    pub(super) fn check(&self, at: usize, refuse: &mut impl FnMut(String, &str)) {
        let kind = self.kind.name();
        let mut refuse = |key: &str, what: &str, help: &str| {
            refuse(format!("listeners[{at}].{key} {what}"), help)
        };
        if (self.kind == Transport::Unix) != matches!(self.bind, Bind::Path(_)) {
            let what = format!("is `{}` for kind = \"{kind}\"", self.bind);
            refuse(
                "bind",
                &what,
                "a unix listener has a path with a `/`, every other one an address with a port",
            );
        }
        let needs_tls = "kind = \"tls\" and \"wss\" have it";
        let tls_only = [
            ("cert", self.cert.is_some()),
            ("key", self.key.is_some()),
            ("sni", !self.sni.is_empty()),
            ("client_ca", self.client_ca.is_some()),
            ("client_auth", self.client_auth != ClientAuth::None),
            ("crl", self.crl.is_some()),
            ("min_tls", self.min_tls != MinTls::default()),
            ("ciphers", !self.ciphers.is_empty()),
        ];
        for (key, is_set) in tls_only {
            if is_set && !self.kind.is_encrypted() {
                refuse(
                    key,
                    &format!("is set, but there is no TLS on kind = \"{kind}\""),
                    needs_tls,
                );
            }
        }
        if self.kind.is_encrypted() {
            for (key, value) in [("cert", &self.cert), ("key", &self.key)] {
                if value.is_none() {
                    refuse(
                        key,
                        "is missing",
                        "name the PEM files of the server's certificate and its private key",
                    );
                }
            }
            if self.client_auth == ClientAuth::None
                && (self.client_ca.is_some() || self.crl.is_some())
            {
                refuse(
                    "client_auth",
                    "is \"none\" beside client_ca or crl",
                    "set it to \"optional\" or \"require\"",
                );
            }
        }
        if self.identity != CertificateName::None
            && self.client_auth == ClientAuth::None
            && !self.proxy_protocol
        {
            refuse(
                "identity",
                "is set, but nobody asks clients for a certificate",
                "set client_auth = \"require\" and client_ca",
            );
        }
        for (key, is_set) in [
            ("path", self.path.is_some()),
            ("origins", !self.origins.is_empty()),
        ] {
            if is_set && !self.kind.is_web_socket() {
                refuse(
                    key,
                    &format!("is set for kind = \"{kind}\""),
                    "only kind = \"ws\" and \"wss\" have it",
                );
            }
        }
        if self
            .path
            .as_ref()
            .is_some_and(|path| !path.starts_with('/'))
        {
            refuse("path", "does not begin with `/`", "for example \"/mqtt\"");
        }
        if self.mode.is_some() && self.kind != Transport::Unix {
            refuse(
                "mode",
                &format!("is set for kind = \"{kind}\""),
                "only kind = \"unix\" has a file",
            );
        }
        if !self.trusted_proxies.is_empty() && !self.proxy_protocol {
            refuse(
                "trusted_proxies",
                "is set, but proxy_protocol is not",
                "set proxy_protocol = true",
            );
        }
        for network in &self.trusted_proxies {
            if Network::parse(network).is_none() {
                refuse(
                    "trusted_proxies",
                    &format!("holds `{network}`"),
                    "an address such as 10.0.0.7, or a network such as 10.0.0.0/8",
                );
            }
        }
    }

    /// The files of TLS and what is made of them; `None` where there is no TLS.
    pub fn tls(&self, at: usize) -> Option<TlsSettings> {
        let (cert, key) = (self.cert.as_ref()?, self.key.as_ref()?);
        let first = ServerCertificate {
            name: None,
            cert: Pem::new(cert),
            key: Pem::new(key),
        };
        let more = self.sni.iter().map(|sni| ServerCertificate {
            name: Some(sni.name.clone()),
            cert: Pem::new(&sni.cert),
            key: Pem::new(&sni.key),
        });
        self.kind.is_encrypted().then(|| TlsSettings {
            place: format!("listeners[{at}]"),
            certificates: std::iter::once(first).chain(more).collect(),
            client_ca: self.client_ca.as_deref().map(Pem::new),
            client_auth: self.client_auth,
            crl: self.crl.as_deref().map(Pem::new),
            tls12: self.min_tls == MinTls::Tls12,
            ciphers: self.ciphers.clone(),
        })
    }

    /// The name in logs, metrics and rules of access.
    pub(super) fn known_as(&self) -> String {
        let unnamed = || format!("{}:{}", self.kind.name(), self.bind);
        self.name.clone().unwrap_or_else(unnamed)
    }

    /// Opens the listener's certificates and gives everything that it decides for itself.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub fn settings(&self, at: usize, auth: &Auth) -> Result<ListenerSettings, Box<Problem>> {
        let tls = self.tls(at).map(Tls::open).transpose()?.map(Arc::new);
        let web_socket = self.kind.is_web_socket().then(|| {
            let defaults = WebSocketSettings::default();
            WebSocketSettings {
                path: self.path.clone().unwrap_or(defaults.path),
                origins: self.origins.clone(),
            }
        });
        let proxy = self.proxy_protocol.then(|| ProxySettings {
            trusted: self
                .trusted_proxies
                .iter()
                .filter_map(|network| Network::parse(network))
                .collect(),
        });
        Ok(ListenerSettings {
            name: self.known_as().into(),
            transport: self.kind,
            max_connections: self.max_connections,
            allow_anonymous: self.admits_anonymous(auth),
            durability: self.durability.unwrap_or_default().into(),
            proxy,
            tls,
            identity: self.identity,
            web_socket,
        })
    }
}
