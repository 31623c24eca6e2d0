//! Dynamic registration at Aliyun IoT: a device that knows its product's secret fetches its own, once
//! (cloud-bridges §2.3). Over HTTPS, or over MQTT with TLS: the answer is a secret.

mod broker;

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
/// How new instances of the cloud want it said that the device is registered (older ones: 2).
const INSTANCE_SECUREMODE: i64 = -2;

/// Where a device is registered.
#[derive(Clone, Debug)]
pub struct Registrar {
    place: Place,
    tls: TlsConfig,
}

#[derive(Clone, Debug)]
enum Place {
    Web(url::Url),
    /// `mqtts://host:port`
    Broker(String),
}

/// What the cloud gave.
pub struct Registered {
    /// The device's secret, or its token.
    pub secret: Zeroizing<String>,
    /// Of a token: the client id that goes with it.
    pub token_of: Option<String>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered")
            .field("token_of", &self.token_of)
            .finish_non_exhaustive()
    }
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

    /// The one of an instance, which registers over MQTT.
    ///
    /// # Errors
    /// When that is no instance's id.
    pub fn of_instance(id: &str, tls: TlsConfig) -> Result<Self, SinkError> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if id.is_empty() || !id.chars().all(plain) {
            return Err(refused(format!("`{id}` is no instance")));
        }
        let port = super::preset::ALIYUN_IOT.ports.1;
        Self::at(
            &format!("mqtts://{id}.mqtt.iothub.aliyuncs.com:{port}"),
            tls,
        )
    }

    /// The one at an address.
    ///
    /// # Errors
    /// When it is neither https nor mqtts.
    pub fn at(url: &str, tls: TlsConfig) -> Result<Self, SinkError> {
        let parsed = url::Url::parse(url)
            .map_err(|error| refused(format!("`{url}` is no address: {error}")))?;
        let place = match parsed.scheme() {
            "https" => Place::Web(parsed),
            "mqtts" => Place::Broker(url.to_owned()),
            _ => {
                return Err(refused(
                    "the endpoint has to be https:// or mqtts://: the answer is a secret"
                        .to_owned(),
                ));
            }
        };
        Ok(Self { place, tls })
    }

    /// Registers a device: `product_key`, `device_name` and `product_secret` among the inputs. Gives its secret, or with
    /// `auth_type = "regnwl"` the token of a device that the cloud makes by this.
    ///
    /// # Errors
    /// What cannot be signed, a cloud that cannot be reached, and one that refuses.
    pub async fn register(&self, inputs: &Value, base: &Path) -> Result<Registered, SinkError> {
        let at = Moment::at(now_ms());
        let provider = Provider::named("aliyun_iot_dynreg")?;
        let mut inputs = provider.inputs(inputs)?;
        if inputs.has("instance_id") && !inputs.has("securemode") {
            inputs.set_number("securemode", Some(INSTANCE_SECUREMODE));
        }
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
        let url = match &self.place {
            Place::Broker(address) => {
                let whom = (&*product, &*device);
                return broker::register(address, &self.tls, base, &signed, whom).await;
            }
            Place::Web(_) if inputs.shown("auth_type").is_some_and(|it| it != "register") => {
                return Err(refused(
                    "a device that the cloud does not know yet is registered over MQTT alone: give an endpoint mqtts://"
                        .to_owned(),
                ));
            }
            Place::Web(url) => url,
        };
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
        let data = read(self.ask(url, body, base).await?)?;
        let other =
            |given: Option<String>, wanted: &str| given.is_some_and(|given| given != wanted);
        if other(data.product_key, &product) || other(data.device_name, &device) {
            return Err(refused(
                "the cloud's answer is about another device".to_owned(),
            ));
        }
        match data.device_secret.map(Zeroizing::new) {
            Some(secret) if !secret.is_empty() => Ok(Registered {
                secret,
                token_of: None,
            }),
            _ => Err(refused(
                "the cloud's answer has no device secret".to_owned(),
            )),
        }
    }

    async fn ask(
        &self,
        url: &url::Url,
        body: String,
        base: &Path,
    ) -> Result<Zeroizing<Vec<u8>>, SinkError> {
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
            .post(url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await;
        let mut response = sent.map_err(|error| {
            SinkError::new(codes::UNREACHABLE, format!("{url} cannot be asked")).caused_by(&error)
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(format!("{url} answers {status}")));
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
    fn only_what_is_encrypted_is_asked() {
        let tls = TlsConfig::default;
        assert!(Registrar::at("http://127.0.0.1/x", tls()).is_err());
        assert!(Registrar::at("mqtt://127.0.0.1", tls()).is_err());
        assert!(Registrar::at("mqtts://127.0.0.1", tls()).is_ok());
        assert!(Registrar::of_instance("a/b", tls()).is_err());
        assert!(Registrar::of_instance("iot-060a0weir", tls()).is_ok());
        assert!(Registrar::of_region("a.example/", tls()).is_err());
        assert!(Registrar::of_region("cn-shanghai", tls()).is_ok());
    }
}
