//! Rows as HTTP requests: what means delivered, what is worth a retry, and a key that stays the same over retries so
//! that the server can tell a repeat.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use sha2::{Digest, Sha256};

use crate::bridge::signer::mac::hex;
use crate::config::connector::HttpConnector;
use crate::config::{Auth, BatchFormat};
use crate::halving::{Write, WriteError, write_halving};
use crate::message_ids::row_id;
use crate::plan::HttpPlan;
use crate::render::{HttpRequest, http_request};
use crate::{Batch, Outcome, Record, Sink, SinkError, codes, now_ms, tls};

/// A pool of connections to web servers.
#[derive(Clone)]
pub(crate) struct HttpClient(reqwest::Client);

impl HttpClient {
    pub(crate) fn open(config: &HttpConnector, base: &Path) -> Result<Self, SinkError> {
        let tls = tls::client_config(&config.tls.settings().unwrap_or_default(), base)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            // A redirected POST would silently become a GET.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                SinkError::new(codes::TLS, "the HTTP client cannot be made").caused_by(&error)
            })?;
        Ok(Self(client))
    }
}

/// Delivers by requests.
pub(crate) struct HttpSink {
    client: HttpClient,
    plan: HttpPlan,
    store_id: String,
}

impl HttpSink {
    pub(crate) fn new(client: HttpClient, plan: HttpPlan, store_id: String) -> Self {
        Self {
            client,
            plan,
            store_id,
        }
    }
}

#[async_trait]
impl Sink for HttpSink {
    fn shares_requests(&self) -> bool {
        self.plan.format != BatchFormat::Single
    }

    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let now = now_ms();
        let rendered: Vec<_> = batch
            .records
            .iter()
            .map(|record| http_request(&self.plan, &record.row, now))
            .collect();
        let mut outcomes = Vec::with_capacity(batch.records.len());
        let mut at = 0;
        while at < rendered.len() {
            let request = match &rendered[at] {
                Ok(request) => request,
                Err(error) => {
                    outcomes.push(Outcome::Rejected {
                        error: error.clone().into(),
                    });
                    at += 1;
                    continue;
                }
            };
            let end = self.shared_end(&rendered, at, request);
            let requests: Vec<_> = rendered[at..end].iter().flatten().cloned().collect();
            let mut call = Call {
                sink: self,
                batch,
                requests,
                first: at,
            };
            let written = write_halving(&mut call, &batch.records[at..end]).await;
            let failed = matches!(
                written.last(),
                Some(Outcome::Retry { .. } | Outcome::Untried)
            );
            outcomes.extend(written);
            at = end;
            if failed {
                // Order: nothing later goes out before what failed.
                let last = outcomes.last().cloned().unwrap_or(Outcome::Delivered);
                outcomes.resize(rendered.len(), last);
                break;
            }
        }
        outcomes
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        // There is no request that a server of unknown purpose could be sent without consequences.
        Ok(())
    }
}

impl HttpSink {
    /// How far the rows from `at` can share one request: same URL and headers, and a format for several.
    fn shared_end(
        &self,
        rendered: &[Result<HttpRequest, crate::RenderError>],
        at: usize,
        first: &HttpRequest,
    ) -> usize {
        if self.plan.format == BatchFormat::Single {
            return at + 1;
        }
        let same = |request: &Result<HttpRequest, _>| {
            request
                .as_ref()
                .is_ok_and(|request| request.url == first.url && request.headers == first.headers)
        };
        at + rendered[at..]
            .iter()
            .take_while(|request| same(request))
            .count()
    }

    fn body(&self, requests: &[HttpRequest]) -> Bytes {
        let bodies = requests.iter().map(|request| &request.body.0);
        match self.plan.format {
            BatchFormat::Single => requests
                .first()
                .map(|request| request.body.0.clone())
                .unwrap_or_default(),
            BatchFormat::JsonArray => {
                let mut out = vec![b'['];
                for (place, body) in bodies.enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(body);
                }
                out.push(b']');
                out.into()
            }
            BatchFormat::Ndjson => {
                let mut out = Vec::new();
                for body in bodies {
                    out.extend_from_slice(body);
                    out.push(b'\n');
                }
                out.into()
            }
        }
    }

    /// The same for the same rows, whatever process or attempt sends them.
    fn idempotency_key(store_id: &str, batch: &Batch<'_>, records: &[Record]) -> String {
        let mut digest = Sha256::new();
        for record in records {
            digest.update(row_id(store_id, batch, record));
        }
        hex(&digest.finalize()[..16])
    }

    fn authorize(
        &self,
        request: reqwest::RequestBuilder,
        body: &[u8],
    ) -> Result<reqwest::RequestBuilder, SinkError> {
        let unreadable = |error: std::io::Error| {
            SinkError::new(codes::LOGIN, "a secret cannot be read").caused_by(&error)
        };
        Ok(match &self.plan.auth {
            Auth::None => request,
            Auth::Basic { user, password } => {
                request.basic_auth(user, Some(password.reveal().map_err(unreadable)?.as_str()))
            }
            Auth::Bearer { token } => {
                request.bearer_auth(token.reveal().map_err(unreadable)?.as_str())
            }
            Auth::HmacSha256 {
                key,
                header,
                timestamp_header,
            } => {
                let key = key.reveal().map_err(unreadable)?;
                let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
                    .expect("HMAC takes keys of any length");
                let mut request = request;
                if let Some(name) = timestamp_header {
                    let seconds = (now_ms() / 1000).to_string();
                    mac.update(seconds.as_bytes());
                    mac.update(b".");
                    request = request.header(name.as_str(), seconds);
                }
                mac.update(body);
                request.header(
                    header.as_deref().unwrap_or("x-signature"),
                    hex(&mac.finalize().into_bytes()),
                )
            }
        })
    }

    async fn send(
        &self,
        batch: &Batch<'_>,
        records: &[Record],
        requests: &[HttpRequest],
    ) -> Result<(), WriteError> {
        let Some(first) = requests.first() else {
            return Ok(());
        };
        let retry = |error| WriteError::Retry { after: None, error };
        let body = self.body(requests);
        let method = reqwest::Method::from_bytes(first.method.as_bytes()).map_err(|error| {
            WriteError::Refused(
                SinkError::new(codes::BAD_VALUE, "no HTTP method").caused_by(&error),
            )
        })?;
        let mut request = self
            .client
            .0
            .request(method, &first.url)
            .timeout(self.plan.timeout);
        for (name, value) in &first.headers {
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            else {
                let message = format!("the header `{name}` cannot be sent");
                return Err(WriteError::Refused(SinkError::new(codes::BAD_URL, message)));
            };
            request = request.header(name, value);
        }
        if !first
            .headers
            .iter()
            .any(|(name, _)| name == "idempotency-key")
        {
            request = request.header(
                "idempotency-key",
                Self::idempotency_key(&self.store_id, batch, records),
            );
        }
        request = self.authorize(request, &body).map_err(retry)?;
        if first.method != "GET" {
            request = request.body(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| transport_error(&error))?;
        let status = response.status().as_u16();
        let after = retry_after(&response);
        if self
            .plan
            .ok_status
            .iter()
            .any(|range| range.0.contains(&status))
        {
            discard(response).await;
            return Ok(());
        }
        // Servers like to quote the request in what they say.
        let said = excerpt(response).await;
        let message = format!("the server answered {status}");
        if matches!(status, 408 | 425 | 429 | 500..=599) {
            return Err(WriteError::Retry {
                after,
                error: SinkError::new(codes::HTTP_LATER, message).detail(said),
            });
        }
        Err(WriteError::Refused(
            SinkError::new(codes::HTTP_REFUSED, message).detail(said),
        ))
    }
}

/// Some rows of a batch and their requests.
struct Call<'a> {
    sink: &'a HttpSink,
    batch: &'a Batch<'a>,
    requests: Vec<HttpRequest>,
    /// Where the first of them stands in the batch.
    first: usize,
}

#[async_trait]
impl Write for Call<'_> {
    async fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
        let first = records.first().map_or(0, |record| record.seq);
        let place = self.batch.records[self.first..]
            .iter()
            .position(|record| record.seq == first)
            .unwrap_or(0);
        let requests = &self.requests[place..place + records.len()];
        self.sink.send(self.batch, records, requests).await
    }
}

fn transport_error(error: &reqwest::Error) -> WriteError {
    if error.is_builder() {
        return WriteError::Refused(
            SinkError::new(codes::BAD_URL, "the request cannot be made").caused_by(error),
        );
    }
    let (code, message) = if error.is_timeout() {
        (codes::TIMEOUT, "the server did not answer in time")
    } else {
        (codes::UNREACHABLE, "the server cannot be reached")
    };
    // The URL may carry a token in its query.
    let causes = std::error::Error::source(error);
    let error = match causes {
        Some(source) => SinkError::new(code, message).caused_by(source),
        None => SinkError::new(code, message),
    };
    WriteError::Retry { after: None, error }
}

/// Seconds, or a date.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .unwrap_or_default(),
    };
    // A server that says "tomorrow" is asked once an hour all the same.
    Some(wait.min(Duration::from_secs(3600)))
}

/// The beginning of what the server said.
async fn excerpt(mut response: reqwest::Response) -> String {
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
        if text.len() >= 256 {
            break;
        }
    }
    String::from_utf8_lossy(&text)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

/// Reads a short body to its end, so that the connection can be used again. A longer or broken one costs the
/// connection and nothing else: the server has said that it took the request.
async fn discard(mut response: reqwest::Response) {
    let mut left: usize = 64 * 1024;
    while let Ok(Some(chunk)) = response.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_rules::value::{Text, Value};

    use super::*;
    use crate::Fence;

    /// The key of rows 1 and 2, made of messages of which the first has this number and time.
    fn key(message_id: u128, accepted_at_ms: i64) -> String {
        let records: Vec<_> = (1..=2)
            .map(|seq| Record {
                seq,
                message_id: message_id + u128::from(seq),
                client_id: Text::from_static("c"),
                accepted_at_ms,
                path: Text::default(),
                row: Value::Null,
            })
            .collect();
        // Another start gives the same key.
        let fence = Fence::fresh();
        let batch = Batch {
            rule: "r",
            sink: "s",
            epoch: 1,
            given_to: 0,
            fence: &fence,
            records: &records,
        };
        HttpSink::idempotency_key("store", &batch, &records)
    }

    #[test]
    fn rows_that_copies_of_one_store_number_alike_have_keys_of_their_own() {
        let first = key(9, 5);
        assert_eq!(first.len(), 32);
        assert_eq!(first, key(9, 5));
        assert_ne!(first, key(8, 5), "another message");
        assert_ne!(first, key(9, 6), "another time");
    }
}
