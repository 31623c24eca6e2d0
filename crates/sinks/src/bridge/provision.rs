//! Dynamic registration at Aliyun IoT: a device that knows its product's secret fetches its own, once
//! (cloud-bridges §2.3). Over HTTPS alone: the answer is a secret.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::signer::{Moment, Provider, SignError};
use crate::config::connector::TlsConfig;
use crate::error::SinkError;
use crate::{codes, now_ms, tls};

/// How long the cloud may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// No answer of it is longer.
const MAX_ANSWER: usize = 16 * 1024;

/// Where a device is registered.
#[derive(Clone, Debug)]
pub struct Registrar {
    url: url::Url,
    tls: TlsConfig,
}

#[derive(Deserialize)]
struct Answer {
    code: i64,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    device_secret: Option<String>,
    product_key: Option<String>,
    device_name: Option<String>,
}

impl Registrar {
    /// The one of a region.
    ///
    /// # Errors
    /// When that is no region's name.
    pub fn of_region(region: &str, tls: TlsConfig) -> Result<Self, SinkError> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if region.is_empty() || !region.chars().all(plain) {
            return Err(refused(format!("`{region}` is no region")));
        }
        let url = format!("https://iot-auth.{region}.aliyuncs.com/auth/register/device");
        Self::at(&url, tls)
    }

    /// The one at an address.
    ///
    /// # Errors
    /// When it is not https.
    pub fn at(url: &str, tls: TlsConfig) -> Result<Self, SinkError> {
        let url = url::Url::parse(url)
            .map_err(|error| refused(format!("`{url}` is no address: {error}")))?;
        if url.scheme() != "https" {
            return Err(refused(
                "the endpoint has to be https://: the answer is a secret".to_owned(),
            ));
        }
        Ok(Self { url, tls })
    }

    /// Registers a device: `product_key`, `device_name` and `product_secret` among the inputs. Gives its secret.
    ///
    /// # Errors
    /// What cannot be signed, a cloud that cannot be reached, and one that refuses.
    pub async fn register(
        &self,
        inputs: &Value,
        base: &Path,
    ) -> Result<Zeroizing<String>, SinkError> {
        let at = Moment::at(now_ms());
        let provider = Provider::named("aliyun_iot_dynreg")?;
        let mut inputs = provider.inputs(inputs)?;
        // A fresh one for each attempt.
        let random = at.letters(10);
        inputs.set_text("random", Some(&random));
        let signed = provider.sign(&inputs, at)?;
        let missing = |key: &str| SignError::Input(format!("`{key}` is missing"));
        let product = inputs
            .shown("product_key")
            .ok_or_else(|| missing("product_key"))?;
        let device = inputs
            .shown("device_name")
            .ok_or_else(|| missing("device_name"))?;
        let method = inputs
            .shown("sign_method")
            .unwrap_or_else(|| "hmacsha256".to_owned());
        let sign = signed.password.unwrap_or_default();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("productKey", &product)
            .append_pair("deviceName", &device)
            .append_pair("random", &random)
            .append_pair("sign", &sign)
            .append_pair("signMethod", &method)
            .finish();
        let data = read(self.ask(body, base).await?)?;
        let other =
            |given: Option<String>, wanted: &str| given.is_some_and(|given| given != wanted);
        if other(data.product_key, &product) || other(data.device_name, &device) {
            return Err(refused(
                "the cloud's answer is about another device".to_owned(),
            ));
        }
        match data.device_secret.map(Zeroizing::new) {
            Some(secret) if !secret.is_empty() => Ok(secret),
            _ => Err(refused(
                "the cloud's answer has no device secret".to_owned(),
            )),
        }
    }

    async fn ask(&self, body: String, base: &Path) -> Result<Zeroizing<Vec<u8>>, SinkError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls::client_config(&self.tls, base)?))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                SinkError::new(codes::TLS, "the HTTP client cannot be made").caused_by(&error)
            })?;
        let sent = client
            .post(self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await;
        let mut response = sent.map_err(|error| {
            SinkError::new(codes::UNREACHABLE, format!("{} cannot be asked", self.url))
                .caused_by(&error)
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(format!("{} answers {status}", self.url)));
        }
        let mut answer = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| {
            SinkError::new(codes::UNREACHABLE, "the cloud's answer breaks off").caused_by(&error)
        })? {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER {
                return Err(refused("the cloud's answer is too long".to_owned()));
            }
        }
        Ok(answer)
    }
}

fn read(answer: Zeroizing<Vec<u8>>) -> Result<Data, SinkError> {
    // What the parser would say may quote the answer, and that may be a secret.
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| refused("the cloud's answer is not the JSON that it should be".to_owned()))?;
    match (answer.code, answer.data) {
        (200, Some(data)) => Ok(data),
        (code, _) => {
            let message: String = answer
                .message
                .unwrap_or_default()
                .chars()
                .filter(|letter| !letter.is_control())
                .take(200)
                .collect();
            Err(refused(format!("the cloud says {code}: {message}")))
        }
    }
}

fn refused(message: String) -> SinkError {
    SinkError::new(codes::NOT_REGISTERED, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &str) -> String {
        let read = read(Zeroizing::new(answer.as_bytes().to_vec()));
        read.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_is_told_and_a_strange_answer_not_repeated() {
        let said = told(r#"{"code":6288,"message":"device is already active","data":null}"#);
        assert!(said.contains("6288: device is already active"), "{said}");
        for strange in [
            "",
            "hunter2",
            r#"{"data":{"deviceSecret":"hunter2"}}"#,
            "[]",
        ] {
            assert!(!told(strange).contains("hunter2"), "{strange}");
        }
        let good =
            r#"{"code":200,"data":{"deviceSecret":"s","productKey":"p"},"message":"success"}"#;
        let data = read(Zeroizing::new(good.as_bytes().to_vec())).unwrap();
        assert_eq!(data.device_secret.unwrap(), "s");
    }

    #[test]
    fn only_https_is_asked() {
        let tls = TlsConfig::default;
        assert!(Registrar::at("http://127.0.0.1/x", tls()).is_err());
        assert!(Registrar::at("mqtts://127.0.0.1", tls()).is_err());
        assert!(Registrar::of_region("a.example/", tls()).is_err());
        assert!(Registrar::of_region("cn-shanghai", tls()).is_ok());
    }
}
