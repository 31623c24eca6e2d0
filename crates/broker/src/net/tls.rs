//! TLS of a listener: PEM files to a server's configuration, and anew when the files change.
//!
//! A handshake takes the configuration that is current when it begins; connections that stand keep theirs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::problem::{Problem, shown};

/// Where the text of a PEM file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// A file, read anew at each reload.
    File(PathBuf),
    /// The text itself, out of a variable or a credential.
    Text(String),
}

impl Pem {
    /// A path, `${file:PATH}`, or the text itself.
    pub fn new(text: &str) -> Self {
        if text.contains("-----BEGIN ") {
            return Self::Text(text.to_owned());
        }
        let path = text
            .strip_prefix("${file:")
            .and_then(|rest| rest.strip_suffix('}'));
        Self::File(path.unwrap_or(text).into())
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They may; one that is shown must be good.
    Optional,
    /// They must.
    Require,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    /// The host name that it is for, or `*.example.org`; the listener's first certificate serves every other name.
    pub name: Option<String>,
    /// The certificate and those between it and the CA, in this order.
    pub cert: Pem,
    /// Its private key.
    pub key: Pem,
}

/// What the TLS side of a listener is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where in the configuration this stands, for errors: `listeners[1]`.
    pub place: String,
    /// The certificates; the first is the default.
    pub certificates: Vec<ServerCertificate>,
    /// The CAs of clients' certificates.
    pub client_ca: Option<Pem>,
    /// Whether clients must show one.
    pub client_auth: ClientAuth,
    /// Revoked certificates of clients.
    pub crl: Option<Pem>,
    /// Whether TLS 1.2 is spoken beside TLS 1.3.
    pub tls12: bool,
    /// The cipher suites by name; empty: all that are sound.
    pub ciphers: Vec<String>,
}

/// The code of everything that is wrong with these files.
const CODE: &str = "E1014";

impl TlsSettings {
    /// Every file that is read.
    pub fn files(&self) -> Vec<PathBuf> {
        let of_server = self
            .certificates
            .iter()
            .flat_map(|certificate| [&certificate.cert, &certificate.key]);
        let mut files: Vec<PathBuf> = of_server
            .chain(&self.client_ca)
            .chain(&self.crl)
            .filter_map(Pem::path)
            .map(Path::to_path_buf)
            .collect();
        files.sort();
        files.dedup();
        files
    }

    /// Reads the files and makes the server's configuration.
    ///
    /// # Errors
    /// What is wrong, with the file, the key of the configuration and the cure.
    pub fn load(&self) -> Result<ServerConfig, Box<Problem>> {
        let provider = self.provider()?;
        let mut certificates = Vec::new();
        for (at, certificate) in self.certificates.iter().enumerate() {
            let place = match at {
                0 => self.place.clone(),
                at => format!("{}.sni[{}]", self.place, at - 1),
            };
            let key = certified(certificate, &place, &provider)?;
            certificates.push((certificate.name.clone(), Arc::new(key)));
        }
        let versions: &[&SupportedProtocolVersion] = if self.tls12 {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13]
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| {
                Problem::whole("weir.toml", CODE, format!("{}.ciphers: {error}", self.place)).help(
                    "each TLS version needs one of its suites: name a TLS13_ one, and a TLS_ECDHE_ one or min_tls = \"1.3\"",
                )
            })?;
        let builder = match self.client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Optional | ClientAuth::Require => {
                builder.with_client_cert_verifier(self.verifier(&provider)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(certificates)));
        // Sessions are resumed without keeping them here. A reload makes another key, so that who was revoked meanwhile
        // does not come in again that way.
        if let Ok(ticketer) = rustls::crypto::ring::Ticketer::new() {
            config.ticketer = ticketer;
        }
        Ok(config)
    }

    fn provider(&self) -> Result<Arc<CryptoProvider>, Box<Problem>> {
        let mut provider = rustls::crypto::ring::default_provider();
        if !self.ciphers.is_empty() {
            let known = cipher_names(&provider);
            if let Some(unknown) = self
                .ciphers
                .iter()
                .find(|name| !known.contains(&name.as_str()))
            {
                let message = format!("{}.ciphers: `{unknown}` is not known", self.place);
                return Err(Problem::whole("weir.toml", CODE, message)
                    .help(format!("known suites: {}", known.join(", ")))
                    .into());
            }
            provider.cipher_suites.retain(|suite| {
                let name = suite.suite().as_str();
                name.is_some_and(|name| self.ciphers.iter().any(|wanted| wanted == name))
            });
        }
        Ok(Arc::new(provider))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Box<Problem>> {
        let key = format!("{}.client_ca", self.place);
        let Some(pem) = &self.client_ca else {
            return Err(Problem::whole("weir.toml", CODE, format!("{key} is missing"))
                .help("name the PEM file of the CA that signs the clients' certificates, or set client_auth = \"none\"")
                .into());
        };
        let mut roots = RootCertStore::empty();
        for certificate in read_all::<CertificateDer<'static>>(pem, &key, "certificate")? {
            roots.add(certificate).map_err(|error| {
                problem(
                    pem,
                    &key,
                    &format!("holds a certificate that is no CA's: {error}"),
                )
            })?;
        }
        let mut verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        if let Some(crl) = &self.crl {
            let key = format!("{}.crl", self.place);
            let lists =
                read_all::<CertificateRevocationListDer<'static>>(crl, &key, "revocation list")?;
            // As elsewhere: the clients' certificates are looked up, those of the CAs between are not.
            verifier = verifier.with_crls(lists).only_check_end_entity_revocation();
        }
        if self.client_auth == ClientAuth::Optional {
            verifier = verifier.allow_unauthenticated();
        }
        verifier.build().map_err(|error| {
            let (pem, key) = match &self.crl {
                Some(crl) => (crl, format!("{}.crl", self.place)),
                None => (pem, key),
            };
            problem(pem, &key, &format!("cannot be used: {error}")).into()
        })
    }
}

fn cipher_names(provider: &CryptoProvider) -> Vec<&'static str> {
    provider
        .cipher_suites
        .iter()
        .filter_map(|suite| suite.suite().as_str())
        .collect()
}

fn certified(
    certificate: &ServerCertificate,
    place: &str,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Box<Problem>> {
    let cert_key = format!("{place}.cert");
    let chain = read_all::<CertificateDer<'static>>(&certificate.cert, &cert_key, "certificate")?;
    let key_key = format!("{place}.key");
    let key = read_all::<PrivateKeyDer<'static>>(&certificate.key, &key_key, "private key")?;
    let Some(key) = key.into_iter().next() else {
        return Err(problem(&certificate.key, &key_key, "holds no private key").into());
    };
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        if let rustls::Error::InconsistentKeys(_) = error {
            let message = format!("does not belong to the certificate of {cert_key}");
            let problem = problem(&certificate.key, &key_key, &message);
            return problem
                .help("give the key that the certificate was made with")
                .into();
        }
        problem(
            &certificate.key,
            &key_key,
            &format!("cannot be used: {error}"),
        )
        .into()
    })
}

/// Every item of one kind in a PEM file; none is an error.
fn read_all<T: PemObject>(pem: &Pem, key: &str, what: &str) -> Result<Vec<T>, Box<Problem>> {
    let bytes = match pem {
        Pem::Text(text) => text.as_bytes().to_vec(),
        Pem::File(path) => std::fs::read(path)
            .map_err(|error| problem(pem, key, &format!("cannot be read: {error}")))?,
    };
    let items: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
    match items {
        Ok(items) if items.is_empty() => Err(match (keystore(&bytes), pem) {
            (Some((form, convert)), Pem::File(path)) => {
                let convert = convert.replace("FILE", &path.display().to_string());
                let problem = problem(pem, key, &format!("is {form}, not PEM"));
                problem.help(format!(
                    "convert it once with `{convert}`, and name server.pem for cert and for key"
                ))
            }
            _ => problem(pem, key, &format!("holds no {what} in PEM form")),
        }
        .into()),
        Ok(items) => Ok(items),
        Err(error) => Err(problem(pem, key, &format!("is not valid PEM: {error}")).into()),
    }
}

/// What a file is that is not PEM, and the command that makes PEM of it.
fn keystore(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const OF_JAVA: [u8; 4] = [0xFE, 0xED, 0xFE, 0xED];
    // A sequence that begins with the version, 3.
    let version = match bytes {
        [0x30, length, rest @ ..] if length & 0x80 == 0 => rest,
        [0x30, length, rest @ ..] => rest.get(usize::from(length & 0x7F)..)?,
        _ if bytes.starts_with(&OF_JAVA) => {
            return Some((
                "a Java keystore",
                "keytool -importkeystore -srckeystore FILE -deststoretype PKCS12 -destkeystore server.p12 && \
                 openssl pkcs12 -in server.p12 -nodes -out server.pem",
            ));
        }
        _ => return None,
    };
    version.starts_with(&[2, 1, 3]).then_some((
        "a PKCS#12 keystore",
        "openssl pkcs12 -in FILE -nodes -out server.pem",
    ))
}

/// A problem with what a key of the configuration names.
fn problem(pem: &Pem, key: &str, message: &str) -> Problem {
    let (file, help) = match pem {
        Pem::File(path) => (
            shown(path),
            "the file must be there, readable by weir's user, and PEM: lines between BEGIN and END",
        ),
        Pem::Text(_) => (
            "weir.toml".into(),
            "the value must be PEM: lines between BEGIN and END",
        ),
    };
    Problem::whole(file, CODE, format!("{key} {message}")).help(help)
}

/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct ByName(Vec<(Option<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let named = asked.and_then(|asked| {
            self.0
                .iter()
                .find(|(name, _)| name.as_ref().is_some_and(|name| is_named(asked, name)))
        });
        named.or(self.0.first()).map(|(_, key)| Arc::clone(key))
    }
}

/// `*.example.org` stands for one more label.
fn is_named(asked: &str, name: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => asked
            .split_once('.')
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => asked.eq_ignore_ascii_case(name),
    }
}

/// The TLS side of a listener, as it is now.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: ArcSwap<ServerConfig>,
    /// What the files held when they were last looked at, good or bad.
    seen: Mutex<Vec<Option<Vec<u8>>>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`TlsSettings::load`].
    pub fn open(settings: TlsSettings) -> Result<Self, Box<Problem>> {
        let seen = contents(&settings);
        Ok(Self {
            current: ArcSwap::from_pointee(settings.load()?),
            settings,
            seen: Mutex::new(seen),
        })
    }

    /// For the next handshake.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// What it was made of.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// The files that are not what they were when they were last taken over or refused.
    pub fn changed(&self) -> Vec<PathBuf> {
        let now = contents(&self.settings);
        let seen = self.seen.lock();
        let pairs = now.iter().zip(seen.iter()).zip(self.settings.files());
        pairs
            .filter(|((now, seen), _)| now != seen)
            .map(|(_, file)| file)
            .collect()
    }

    /// Reads the files again; with an error the old configuration goes on. With `dry_run` it goes on in any case.
    ///
    /// # Errors
    /// As [`TlsSettings::load`].
    pub fn reload(&self, dry_run: bool) -> Result<(), Box<Problem>> {
        let seen = contents(&self.settings);
        let loaded = self.settings.load();
        if dry_run {
            return loaded.map(drop);
        }
        *self.seen.lock() = seen;
        self.current.store(Arc::new(loaded?));
        Ok(())
    }
}

/// What stands in the files now; `None` for one that cannot be read.
fn contents(settings: &TlsSettings) -> Vec<Option<Vec<u8>>> {
    settings
        .files()
        .iter()
        .map(|file| std::fs::read(file).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keystores_are_known_by_how_they_begin() {
        let form = |bytes: &[u8]| keystore(bytes).map(|(form, _)| form);
        let pkcs12 = Some("a PKCS#12 keystore");
        assert_eq!(form(&[0x30, 0x82, 4, 12, 2, 1, 3, 0x30]), pkcs12);
        assert_eq!(form(&[0x30, 0x70, 2, 1, 3, 0x30]), pkcs12);
        assert_eq!(form(&[0x30, 0x80, 2, 1, 3, 0x30]), pkcs12);
        assert_eq!(
            form(&[0xFE, 0xED, 0xFE, 0xED, 0, 0]),
            Some("a Java keystore")
        );
        // A certificate, and pieces of anything.
        for other in [
            &[0x30, 0x82, 1, 1, 0x30, 0x82][..],
            &[0x30],
            &[0x30, 0xFF],
            &[],
        ] {
            assert_eq!(form(other), None);
        }
    }
}
