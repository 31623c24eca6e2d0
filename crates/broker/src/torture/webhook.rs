//! A webhook of ours: it notes what it takes by Idempotency-Key, and answers badly when it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::plan::Answer;
use super::session::read;
use super::verdict::Requests;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// 204.
    Well,
    Answers(Answer),
    /// Requests wait.
    Hangs,
    /// Dead: every connection is closed.
    Gone,
}

/// The webhook. It keeps its port and its book over its deaths, as a server keeps its database.
pub(crate) struct Webhook {
    port: u16,
    book: Arc<Mutex<Requests>>,
    mood: watch::Sender<Mood>,
    task: Option<JoinHandle<()>>,
}

const MOST: usize = 4 << 20;

impl Webhook {
    pub(crate) async fn start(port: u16) -> io::Result<Self> {
        let mut webhook = Self {
            port,
            book: Arc::default(),
            mood: watch::Sender::new(Mood::Gone),
            task: None,
        };
        webhook.revive().await?;
        Ok(webhook)
    }

    /// What it has taken so far.
    pub(crate) fn book(&self) -> Requests {
        self.book.lock().clone()
    }

    /// How many rows came so far.
    pub(crate) fn rows(&self) -> usize {
        self.book.lock().arrivals.len()
    }

    /// Ends like a process that is killed.
    pub(crate) fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.mood.send_replace(Mood::Gone);
    }

    /// Listens again on its port.
    pub(crate) async fn revive(&mut self) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) if tries == 20 => return Err(error),
                // The listener that was aborted is closed a moment later.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
            tries += 1;
        };
        self.mood.send_replace(Mood::Well);
        let (book, mood) = (Arc::clone(&self.book), self.mood.subscribe());
        self.task = Some(tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(live(stream, Arc::clone(&book), mood.clone()));
                    }
                    Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        }));
        Ok(())
    }

    pub(crate) fn answer(&self, answer: Option<Answer>) {
        self.mood
            .send_replace(answer.map_or(Mood::Well, Mood::Answers));
    }

    pub(crate) fn hang(&self, hangs: bool) {
        self.mood
            .send_replace(if hangs { Mood::Hangs } else { Mood::Well });
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One connection, until it or the webhook ends.
async fn live(stream: TcpStream, book: Arc<Mutex<Requests>>, mood: watch::Receiver<Mood>) {
    let mut death = mood.clone();
    tokio::select! {
        // A connection that breaks has broken: the client sees it.
        _ = serve(stream, &book, mood) => {}
        _ = death.wait_for(|mood| *mood == Mood::Gone) => {}
    }
}

async fn serve(
    mut stream: TcpStream,
    book: &Mutex<Requests>,
    mut mood: watch::Receiver<Mood>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        let Some(request) = request(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        let _ = mood.wait_for(|mood| *mood != Mood::Hangs).await;
        let now = *mood.borrow();
        let answer: &[u8] = match now {
            Mood::Well => b"HTTP/1.1 204 No Content\r\n\r\n",
            Mood::Answers(Answer::Error) => {
                b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 3\r\n\r\nno\n"
            }
            Mood::Answers(Answer::TooMany) => {
                b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
            }
            Mood::Answers(Answer::Half) => b"HTTP/1.1 2",
            Mood::Hangs | Mood::Gone => return Ok(()),
        };
        if matches!(now, Mood::Well | Mood::Answers(Answer::Half)) {
            book.lock().take(&request.key, request.rows);
        }
        stream.write_all(answer).await?;
        if now == Mood::Answers(Answer::Half) {
            return Ok(());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    key: String,
    rows: Vec<(u32, u32)>,
}

/// The next request of a connection; `None` at its end.
async fn request(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    loop {
        if let Some((request, length)) = parse(buffer)? {
            let _ = buffer.split_to(length);
            return Ok(Some(request));
        }
        if buffer.len() > MOST {
            return Err(io::Error::other("a request is too large"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// A whole request at the beginning of the bytes, and its length.
fn parse(bytes: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let header = |wanted: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let found = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").and_then(|text| text.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("a request without a length"))?;
    let whole = end + 4 + length;
    if bytes.len() < whole {
        return Ok(None);
    }
    let body = &bytes[end + 4..whole];
    let nonsense = || io::Error::other("a request that is no list of rows");
    let rows: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_slice(body).map_err(|_| nonsense())?;
    let rows = rows.iter().map(|row| {
        let row = read(row.get().as_bytes())?;
        Some((row.sender, row.number))
    });
    let rows = rows.collect::<Option<_>>().ok_or_else(nonsense)?;
    let key = header("idempotency-key").unwrap_or_default();
    Ok(Some((Request { key, rows }, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "[{\"p\":1,\"n\":2},{\"p\":3,\"n\":4}]";

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let text = format!(
            "POST /hook HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        assert_eq!(parse(&text.as_bytes()[..text.len() - 1]).unwrap(), None);
        assert_eq!(parse(b"POST /").unwrap(), None);
        let (request, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        assert_eq!(request.key, "k");
        assert_eq!(request.rows, [(1, 2), (3, 4)]);
        assert!(parse(b"POST / HTTP/1.1\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn it_takes_what_it_answers_well_or_by_half_and_keeps_its_book_over_its_death() {
        let [port] = crate::torture::process::free_ports().unwrap();
        let mut webhook = Webhook::start(port).await.unwrap();
        let send = async |key: &str| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap();
            let text = format!(
                "POST / HTTP/1.1\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{BODY}",
                BODY.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = vec![0; 12];
            let read = stream.read(&mut answer).await.unwrap_or(0);
            String::from_utf8_lossy(&answer[..read]).into_owned()
        };
        assert_eq!(send("a").await, "HTTP/1.1 204");
        webhook.answer(Some(Answer::Error));
        assert_eq!(send("b").await, "HTTP/1.1 500");
        webhook.answer(Some(Answer::TooMany));
        assert_eq!(send("b").await, "HTTP/1.1 429");
        webhook.answer(Some(Answer::Half));
        assert_eq!(send("b").await, "HTTP/1.1 2");
        webhook.kill();
        webhook.revive().await.unwrap();
        assert_eq!(send("b").await, "HTTP/1.1 204");
        let book = webhook.book();
        assert_eq!((book.repeated, book.changed), (1, 0));
        assert_eq!(webhook.rows(), 6);
    }
}
