//! The certificate that a bridge shows to its remote: when it ends, and what the remote says of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::client::Failure;
use super::reconnect::Loss;
use crate::codes;
use crate::config::connector::{BridgeConfig, TlsChoice, TlsConfig};
use crate::error::{ConfigError, SinkError};
use crate::now_ms;

/// From so long before the end on it is warned of.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Milliseconds since the epoch. `None` without a certificate; that one cannot be read is told by who uses it. Reads the
/// file.
pub(super) fn ends_ms(tls: &TlsConfig, base: &Path) -> Option<i64> {
    let path = base.join(tls.cert.as_ref()?);
    // The first is the client's own; the others are those that vouch for it.
    let own = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
    end_of(&own)
}

/// The same of a certificate that is at hand.
pub(super) fn end_of(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(
        read.validity()
            .not_after
            .timestamp()
            .saturating_mul(1000)
            .max(1),
    )
}

/// What is to be said of a certificate that ends then.
pub(super) fn warning(ends_ms: i64, now_ms: i64) -> Option<String> {
    let left_ms = ends_ms.saturating_sub(now_ms);
    let soon = i64::try_from(SOON.as_millis()).unwrap_or(i64::MAX);
    (left_ms < soon).then(|| match left_ms {
        ..0 => "the client certificate (`tls.cert`) has expired".to_owned(),
        _ => format!(
            "the client certificate (`tls.cert`) expires in {} days",
            left_ms / (24 * 3600 * 1000)
        ),
    })
}

/// What `weir check` warns of: a client certificate that ends soon. `base` is where relative paths start.
pub fn check_certificate(config: &BridgeConfig, base: &Path) -> Option<ConfigError> {
    let Some(TlsChoice::Settings(tls)) = &config.tls else {
        return None;
    };
    let warning = warning(ends_ms(tls, base)?, now_ms())?;
    let warning = ConfigError::new("W4110", "tls.cert", warning);
    Some(warning.help("put a new one in its place: it is read at the next connect"))
}

/// The remote's refusal of the certificate that it was shown, or was not. In TLS 1.3 it comes where CONNACK should.
pub(super) fn refused(error: &io::Error) -> Option<Failure> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::AlertReceived(alert) = inner else {
        return None;
    };
    let why = match alert {
        AlertDescription::CertificateRevoked => "it has been revoked",
        AlertDescription::CertificateExpired => "it has expired there",
        AlertDescription::CertificateRequired => "it wants one, and was shown none",
        AlertDescription::UnknownCA => "it does not trust the authority that signed it",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it is not one that may sign in",
        _ => return None,
    };
    let message = format!("the remote broker refuses the client certificate: {why}");
    Some(Failure {
        loss: Loss::Credentials,
        ..Failure::network(SinkError::new(codes::CERTIFICATE, message).caused_by(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_from_thirty_days_before_its_end_on() {
        let day = 24 * 3600 * 1000;
        assert_eq!(warning(31 * day, 0), None);
        assert_eq!(warning(30 * day, 0), None);
        let said = |ends| warning(ends, 0).unwrap();
        assert!(said(30 * day - 1).ends_with("in 29 days"));
        assert!(said(day / 2).ends_with("in 0 days"));
        assert!(said(-1).ends_with("has expired"));
    }

    #[test]
    fn a_file_without_a_certificate_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let named = |cert: Option<&str>| TlsConfig {
            cert: cert.map(str::to_owned),
            ..TlsConfig::default()
        };
        assert_eq!(ends_ms(&named(None), folder.path()), None);
        assert_eq!(ends_ms(&named(Some("none.pem")), folder.path()), None);
        std::fs::write(folder.path().join("bad.pem"), "x").unwrap();
        assert_eq!(ends_ms(&named(Some("bad.pem")), folder.path()), None);
    }
}
