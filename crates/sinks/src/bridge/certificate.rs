//! When the certificate ends that a bridge shows to its remote.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::connector::TlsConfig;

/// From so long before the end on it is warned of.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Milliseconds since the epoch. `None` without a certificate; that one cannot be read is told by who uses it. Reads the
/// file.
pub(super) fn ends_ms(tls: &TlsConfig, base: &Path) -> Option<i64> {
    let path = base.join(tls.cert.as_ref()?);
    // The first is the client's own; the others are those that vouch for it.
    let own = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
    let (_, read) = x509_parser::parse_x509_certificate(&own).ok()?;
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
