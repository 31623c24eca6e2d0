//! TLS for connections that weir opens: one provider (ring), TLS 1.2 and 1.3, the system's roots or a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::codes;
use crate::config::connector::{TlsConfig, TlsVersion};
use crate::error::SinkError;

/// A client's settings, with its files read now: a renewed certificate is taken at the next connection.
///
/// # Errors
/// When a file cannot be read or holds no certificate or key.
pub fn client_config(config: &TlsConfig, base: &Path) -> Result<Arc<ClientConfig>, SinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(config, base, &provider)?;
    let versions = match config.min_version {
        TlsVersion::V12 => rustls::ALL_VERSIONS,
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| tls_error("no TLS version is usable", &error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut client = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(&resolve(base, cert))?;
            let path = resolve(base, key);
            let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| {
                tls_error(
                    &format!("`{}` holds no private key", path.display()),
                    &error,
                )
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                tls_error("client certificate and key do not go together", &error)
            })?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(
                SinkError::new(codes::TLS, "`tls.cert` and `tls.key` go together").configuration(),
            );
        }
    };
    let names = config.alpn.iter();
    client.alpn_protocols = names.map(|name| name.clone().into_bytes()).collect();
    Ok(Arc::new(client))
}

/// The name that a server is asked for, and that its certificate must have.
pub(crate) fn server_name(
    config: &TlsConfig,
    host: &str,
) -> Result<ServerName<'static>, SinkError> {
    let name = config.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned())
        .map_err(|error| tls_error(&format!("`{name}` is no server name"), &error))
}

fn verifier(
    config: &TlsConfig,
    base: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, SinkError> {
    if config.insecure {
        return Ok(Arc::new(Anyone(Arc::clone(provider))));
    }
    let roots = roots(config.ca.as_deref().unwrap_or("system"), base)?;
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| tls_error("the trusted certificates cannot be used", &error))?;
    match &config.server_name {
        None => Ok(inner),
        // Not everybody who connects can be told to ask for another name than the host's.
        Some(_) => {
            let name = server_name(config, "")?;
            Ok(Arc::new(Named { name, inner }))
        }
    }
}

fn roots(ca: &str, base: &Path) -> Result<RootCertStore, SinkError> {
    let mut roots = RootCertStore::empty();
    if ca == "system" {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(
                SinkError::new(codes::TLS, "the system has no trusted certificates")
                    .configuration(),
            );
        }
        return Ok(roots);
    }
    let path = resolve(base, ca);
    let (added, _) = roots.add_parsable_certificates(certificates(&path)?);
    if added == 0 {
        let message = format!("`{}` holds no certificate", path.display());
        return Err(SinkError::new(codes::TLS, message).configuration());
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| tls_error(&format!("`{}` cannot be read", path.display()), &error))
}

fn resolve(base: &Path, path: &str) -> PathBuf {
    base.join(path)
}

fn tls_error(message: &str, error: &(dyn std::error::Error + 'static)) -> SinkError {
    SinkError::new(codes::TLS, message)
        .caused_by(error)
        .configuration()
}

/// Checks the certificate against a name of the operator's choice instead of the host.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `insecure = true`: any certificate will do, but who shows it must hold its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
