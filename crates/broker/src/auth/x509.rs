//! The client's certificate as its name. The listener has verified it; here it only becomes a user.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde::Deserialize;
use weir_mqtt::{ReasonCode, Utf8};

use super::certificate::PeerCertificate;
use super::{Authenticator, ConnectRequest, Decision, Identity};

/// Which name of a certificate is the user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, schemars(rename = "CertificateUser"))]
pub enum CertificateName {
    /// The common name.
    #[default]
    Cn,
    /// The whole subject, as RFC 4514 writes it.
    Dn,
    /// The first alternative name.
    San,
}

/// Admits clients by their certificates.
#[derive(Clone, Copy, Debug)]
pub struct X509 {
    name: CertificateName,
    /// The certificate is enough. Otherwise it must be the same as the user name that is sent, and what comes after
    /// this in the chain checks the password.
    alone: bool,
}

impl X509 {
    /// Takes the user name from `name`. Unless the certificate is enough (`alone`), the rest of the chain must still
    /// agree.
    pub fn new(name: CertificateName, alone: bool) -> Self {
        Self { name, alone }
    }

    fn decide(self, request: &ConnectRequest) -> Decision {
        let Some(certificate) = request.certificate.as_deref() else {
            return if self.alone {
                Decision::Ignore
            } else {
                Decision::Deny(ReasonCode::NotAuthorized)
            };
        };
        // A certificate without such a name, or with one that MQTT cannot carry, names nobody.
        let name = name_of(self.name, certificate).and_then(|name| Utf8::new(name).ok());
        match name {
            Some(name) if self.alone => Decision::Allow(Identity::user(name)),
            Some(name) if request.username.as_ref() == Some(&name) => Decision::Ignore,
            Some(_) | None => Decision::Deny(ReasonCode::NotAuthorized),
        }
    }
}

fn name_of(name: CertificateName, certificate: &PeerCertificate) -> Option<&str> {
    match name {
        CertificateName::Cn => certificate.common_name.as_deref(),
        CertificateName::Dn => Some(&*certificate.subject),
        CertificateName::San => certificate.alt_names.first().map(String::as_str),
    }
    .filter(|name| !name.is_empty())
}

impl Authenticator for X509 {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        ready(self.decide(request)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::auth::tests::request;

    fn with_certificate(username: Option<&'static str>) -> ConnectRequest {
        let certificate = PeerCertificate {
            common_name: Some("dev-7".to_owned()),
            subject: "CN=dev-7,O=plant".to_owned(),
            alt_names: vec!["dev-7.plant.example".to_owned()],
        };
        ConnectRequest {
            certificate: Some(Arc::new(certificate)),
            ..request(username, "", false)
        }
    }

    async fn answer(x509: X509, request: ConnectRequest) -> Decision {
        x509.authenticate(&request).await
    }

    #[tokio::test]
    async fn a_certificate_alone_names_the_user() {
        for (name, user) in [
            (CertificateName::Cn, "dev-7"),
            (CertificateName::Dn, "CN=dev-7,O=plant"),
            (CertificateName::San, "dev-7.plant.example"),
        ] {
            let decision = answer(X509::new(name, true), with_certificate(Some("liar"))).await;
            assert_eq!(decision, Decision::Allow(Identity::user(Utf8::from(user))));
        }
        let none = answer(
            X509::new(CertificateName::Cn, true),
            request(None, "", true),
        )
        .await;
        assert_eq!(none, Decision::Ignore);
    }

    #[tokio::test]
    async fn as_one_of_two_factors_it_must_be_the_user_that_logs_in() {
        let x509 = X509::new(CertificateName::Cn, false);
        let denied = Decision::Deny(ReasonCode::NotAuthorized);
        assert_eq!(
            answer(x509, with_certificate(Some("dev-7"))).await,
            Decision::Ignore
        );
        assert_eq!(answer(x509, with_certificate(Some("dev-8"))).await, denied);
        assert_eq!(answer(x509, with_certificate(None)).await, denied);
        assert_eq!(
            answer(x509, request(Some("dev-7"), "x", true)).await,
            denied
        );
    }
}
