//! A web service that decides who may connect: one POST for each CONNECT.
//!
//! 200 admits, 4xx refuses, 204 or `{"result": "ignore"}` leaves it to the next. Everything else, and silence, admits
//! nobody: a service that is away must not open the door.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use weir_mqtt::ReasonCode;
use weir_sinks::config::connector::TlsConfig;

use super::{Acl, Authenticator, ConnectRequest, Decision, Identity};

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Where to ask, and how.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The whole URL.
    pub url: weir_sinks::Secret,
    /// Sent with every request, such as `authorization`.
    pub headers: BTreeMap<String, weir_sinks::Secret>,
    /// How long an answer may take, from the first byte of the connection to the last of the answer.
    pub timeout: Duration,
    /// Questions that wait for an answer at once; who comes later waits for its turn within the time-out.
    pub max_concurrent: usize,
    /// How the service proves who it is.
    pub tls: TlsConfig,
}

/// Asks a web service.
pub struct HttpService {
    client: reqwest::Client,
    settings: HttpSettings,
    headers: HeaderMap,
    turns: Semaphore,
}

/// Why the settings cannot be used. Never with a value, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum HttpServiceError {
    /// No URL that could be asked.
    #[error("the URL is not of the form https://host/path")]
    Url,
    /// A header that HTTP cannot carry.
    #[error("`{0}` is no header with a value that can be sent")]
    Header(String),
    /// A value is read from a file that cannot be read.
    #[error("the file with a secret cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] weir_sinks::SinkError),
    /// The client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client,
}

/// What the service says in a 200. Unknown members are the service's own business.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    result: Option<AnswerResult>,
    #[serde(alias = "is_superuser")]
    superuser: bool,
    acl: Option<Value>,
    #[serde(alias = "expire_at")]
    expires_at: Option<i64>,
    #[serde(alias = "client_attrs")]
    attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnswerResult {
    Allow,
    Deny,
    Ignore,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the service does not answer in time")]
    Timeout,
    #[error("the service cannot be reached")]
    Unreachable,
    #[error("the service answers with status {0}")]
    Status(u16),
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the answer is not understood: {0}")]
    Content(String),
}

impl HttpService {
    /// A client of the service; nothing is asked yet.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn open(settings: HttpSettings) -> Result<Self, HttpServiceError> {
        let url = settings.url.reveal()?;
        let parsed = url::Url::parse(&url).map_err(|_| HttpServiceError::Url)?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(HttpServiceError::Url);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            let bad = || HttpServiceError::Header(name.clone());
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let mut value = HeaderValue::from_str(&value.reveal()?).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let tls = weir_sinks::tls::client_config(&settings.tls, Path::new("."))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.timeout)
            .pool_max_idle_per_host(settings.max_concurrent)
            .tcp_nodelay(true)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| HttpServiceError::Client)?;
        Ok(Self {
            client,
            turns: Semaphore::new(settings.max_concurrent.clamp(1, Semaphore::MAX_PERMITS)),
            headers,
            settings,
        })
    }

    async fn decide(&self, request: &ConnectRequest) -> Decision {
        let asked = tokio::time::timeout(self.settings.timeout, self.ask(request));
        match asked.await.unwrap_or(Err(Failure::Timeout)) {
            Ok(decision) => decision,
            Err(failure) => {
                // Without the URL, the client's words and the answer's: any of them may hold a secret.
                tracing::error!(%failure, "the web service that decides who may connect is of no help");
                Decision::Deny(ReasonCode::ServerUnavailable)
            }
        }
    }

    async fn ask(&self, request: &ConnectRequest) -> Result<Decision, Failure> {
        // Closed never: the semaphore lives as long as `self`.
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| Failure::Unreachable)?;
        let url = self
            .settings
            .url
            .reveal()
            .map_err(|_| Failure::Unreachable)?;
        let mut response = self
            .client
            .post(url.as_str())
            .headers(self.headers.clone())
            .body(question(request).to_string())
            .send()
            .await
            .map_err(|error| transport(&error))?;
        let status = response.status().as_u16();
        match status {
            200 => {}
            204 => return Ok(Decision::Ignore),
            // The service is too busy, or thinks that weir is: no opinion about the client.
            408 | 425 | 429 => return Err(Failure::Status(status)),
            400..=499 => return Ok(Decision::Deny(ReasonCode::NotAuthorized)),
            _ => return Err(Failure::Status(status)),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        read_answer(&body, request)
    }
}

fn transport(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        Failure::Timeout
    } else {
        Failure::Unreachable
    }
}

/// What the service is told of the client.
fn question(request: &ConnectRequest) -> Value {
    let password = request
        .password
        .as_deref()
        .map(|password| String::from_utf8_lossy(password));
    let certificate = request.certificate.as_deref();
    json!({
        "clientid": &*request.client_id,
        "username": request.username.as_deref(),
        "password": password,
        "peerhost": request.peer.map(|peer| peer.ip().to_canonical().to_string()),
        "peerport": request.peer.map(|peer| peer.port()),
        "listener": &*request.listener,
        "proto_ver": request.version.level(),
        "cert_common_name": certificate.and_then(|certificate| certificate.common_name.as_deref()),
        "cert_subject": certificate.map(|certificate| &certificate.subject),
    })
}

fn read_answer(body: &[u8], request: &ConnectRequest) -> Result<Decision, Failure> {
    let answer: Answer = if body.trim_ascii().is_empty() {
        Answer::default()
    } else {
        // Without serde's quotation of what it met.
        serde_json::from_slice(body).map_err(|error| {
            Failure::Content(format!(
                "not the JSON that is asked for, at line {} column {}",
                error.line(),
                error.column()
            ))
        })?
    };
    match answer.result {
        Some(AnswerResult::Deny) => return Ok(Decision::Deny(ReasonCode::NotAuthorized)),
        Some(AnswerResult::Ignore) => return Ok(Decision::Ignore),
        Some(AnswerResult::Allow) | None => {}
    }
    let acl = answer.acl.as_ref().map(Acl::from_json).transpose();
    let acl = acl.map_err(|error| Failure::Content(format!("`acl`: {error}")))?;
    Ok(Decision::Allow(Identity {
        username: request.username.clone(),
        superuser: answer.superuser,
        acl: acl.map(Arc::new),
        expires_at_s: answer.expires_at,
        attributes: answer.attributes,
        ..Identity::default()
    }))
}

impl Authenticator for HttpService {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.decide(request).boxed()
    }
}
