//! A real HTTP server on loopback that remembers what it was sent and answers as it is told.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// How long it thinks about it.
    pub delay: Duration,
    /// Headers, such as `retry-after`.
    pub headers: Vec<(String, String)>,
    /// The body; none by default.
    pub body: String,
}

impl Answer {
    /// A status at once.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            delay: Duration::ZERO,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// The same, later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, with a body.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// The same, with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST`.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case, in the order that they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When it had been read.
    pub at: Instant,
    /// The status that it was answered with.
    pub answered: u16,
}

impl Request {
    /// The first header of a name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            let body = String::from_utf8_lossy(&self.body);
            panic!("the body is not JSON ({error}): {body}")
        })
    }
}

#[derive(Default)]
struct Book {
    requests: Vec<Request>,
    /// Used up from the front.
    next: VecDeque<Answer>,
    /// When `next` is empty; 204 when this is too.
    always: Option<Answer>,
    /// Larger bodies are answered with 413, whatever else was told.
    most_bytes: Option<usize>,
}

/// The server; it ends with this value.
pub struct Webhook {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: JoinHandle<()>,
}

impl Webhook {
    /// Starts on a free port; every request is answered with 204.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has one");
        let book = Arc::new(Mutex::new(Book::default()));
        let app = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&book));
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Self {
            address,
            book,
            server,
        }
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// One more answer for one more request; answers are used in the order given.
    pub fn answer_next(&self, answer: Answer) {
        self.book().next.push_back(answer);
    }

    /// The answer for all requests that have none of their own.
    pub fn answer_always(&self, answer: Answer) {
        self.book().always = Some(answer);
    }

    /// Bodies that are larger are answered with 413.
    pub fn refuse_larger_than(&self, bytes: usize) {
        self.book().most_bytes = Some(bytes);
    }

    /// Everything received up to now.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.book().requests.clone()
    }

    /// Everything received, when there are at least `count` requests.
    ///
    /// # Panics
    /// When they do not come within `deadline`.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Vec<Request> {
        crate::wait_for(&format!("{count} requests"), deadline, || async {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics with the book open")
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(book): State<Arc<Mutex<Book>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut book = book.lock().expect("nothing panics with the book open");
        let answer = if book.most_bytes.is_some_and(|most| body.len() > most) {
            Answer::status(413)
        } else {
            book.next
                .pop_front()
                .or_else(|| book.always.clone())
                .unwrap_or_else(|| Answer::status(204))
        };
        book.requests.push(Request {
            method: method.to_string(),
            target: uri.to_string(),
            headers: text_headers(&headers),
            body: body.to_vec(),
            at: Instant::now(),
            answered: answer.status,
        });
        answer
    };
    tokio::time::sleep(answer.delay).await;
    let status = StatusCode::from_u16(answer.status).expect("a test gives a real status");
    let mut response = (status, answer.body).into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(
            HeaderName::try_from(name).expect("a test gives a real header name"),
            HeaderValue::try_from(value).expect("a test gives a real header value"),
        );
    }
    response
}

fn text_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}
