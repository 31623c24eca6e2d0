//! What all devices of a product know, or what signs for any of them (cloud-bridges §2.3, §7).

use serde::Deserialize;
use weir_sinks::Secret;
use weir_sinks::bridge::verifier::Scheme;

use super::table::Wrong;
use super::topics;

/// One product as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Product {
    scheme: String,
    pub(super) tenant_key: String,
    /// The secret of a product of Aliyun, the access key of one of OneNET.
    pub(super) secret: Secret,
    #[serde(rename = "note")]
    _note: Option<String>,
}

impl Product {
    /// Its scheme.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<Scheme, Wrong> {
        let wrong = |key, message: &str, help| {
            Err(Wrong {
                key,
                message: message.to_owned(),
                help,
            })
        };
        let known = [Scheme::AliyunIot, Scheme::Onenet];
        let Some(scheme) = Scheme::named(&self.scheme).filter(|scheme| known.contains(scheme))
        else {
            return wrong(
                "scheme",
                "only products of aliyun_iot and onenet have secrets",
                "scheme = \"aliyun_iot\" or \"onenet\": devices of the others sign with their own secrets alone",
            );
        };
        if self.tenant_key.is_empty() {
            let help = "it is the ProductKey, or the product id";
            return wrong("tenant_key", "`tenant_key` is empty", help);
        }
        topics::check_name(scheme, "tenant_key", &self.tenant_key)?;
        let usable = |secret: &Secret| secret.reveal().map(|secret| scheme.takes_secret(&secret));
        if !usable(&self.secret).unwrap_or(false) {
            let message = if scheme.secret_is_base64() {
                "`secret` is not base64 with padding"
            } else {
                "`secret` is empty or cannot be read"
            };
            return wrong("secret", message, "copy it whole from the cloud's console");
        }
        Ok(scheme)
    }
}
