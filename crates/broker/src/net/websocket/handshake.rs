//! The request that turns HTTP into a WebSocket that carries MQTT, and its answer.
//!
//! Deciding is pure; [`accept`] reads exactly one request off a stream, within a limit.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest request. Browsers send their cookies along.
const REQUEST_MAX: usize = 16 * 1024;
/// The sub-protocols that mean MQTT, in the order of preference: 3.1.1 and 5 have one, 3.1 has another.
const SUB_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// RFC 6455 §1.3.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a listener asks of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The path of the request.
    pub path: String,
    /// The pages whose scripts may connect, as `https://example.org`; empty: every page's.
    pub origins: Vec<String>,
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            path: "/mqtt".to_owned(),
            origins: Vec::new(),
        }
    }
}

/// What of a request matters.
#[derive(Debug)]
pub(crate) struct Request<'r> {
    /// `GET`
    pub(crate) method: &'r str,
    /// The path without a query.
    pub(crate) path: &'r str,
    /// Names and values; a name's case means nothing.
    pub(crate) headers: Vec<(&'r str, &'r str)>,
}

/// What the client is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The sub-protocol.
    pub(crate) protocol: &'static str,
    /// `Sec-WebSocket-Accept`
    pub(crate) key: String,
}

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// The status of the answer.
    pub(crate) status: u16,
    /// One sentence for the client.
    pub(crate) message: &'static str,
}

/// Why a handshake has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The connection ended within it.
    #[error("the connection ended: {0}")]
    Ended(#[from] io::Error),
    /// The request was answered with a refusal.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Decides about a request.
pub(crate) fn decide(
    request: &Request<'_>,
    settings: &WebSocketSettings,
) -> Result<Accepted, Refused> {
    let refuse = |status, message| Err(Refused { status, message });
    if request.path != settings.path {
        return refuse(404, "MQTT is not at this path");
    }
    if request.method != "GET" {
        return refuse(405, "a WebSocket begins with GET");
    }
    if !request.lists("connection", "upgrade") || !request.lists("upgrade", "websocket") {
        return refuse(426, "this path speaks WebSocket only");
    }
    if request.header("sec-websocket-version") != Some("13") {
        return refuse(426, "the WebSocket version is 13");
    }
    let key = match request.header("sec-websocket-key") {
        Some(key) if BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16) => key,
        _ => return refuse(400, "Sec-WebSocket-Key is not 16 bytes in base64"),
    };
    let origin = request.header("origin");
    // Only browsers send one, and they cannot be made to lie.
    let welcome = origin.is_none_or(|origin| {
        settings
            .origins
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(origin))
    });
    if !settings.origins.is_empty() && !welcome {
        return refuse(403, "this page's origin is not listed");
    }
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4]
    let Some(protocol) = SUB_PROTOCOLS
        .into_iter()
        .find(|protocol| request.lists("sec-websocket-protocol", protocol))
    else {
        return refuse(400, "the sub-protocol mqtt is not offered");
    };
    let key = BASE64.encode(
        Sha1::new()
            .chain_update(key)
            .chain_update(KEY_SUFFIX)
            .finalize(),
    );
    Ok(Accepted { protocol, key })
}

impl<'r> Request<'r> {
    /// The first value of a header.
    fn header(&self, name: &str) -> Option<&'r str> {
        self.values(name).next()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'r str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// Whether a header that holds a list names `item`, on any of its lines.
    fn lists(&self, name: &str, item: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|listed| listed.trim().eq_ignore_ascii_case(item))
    }

    /// Reads the lines before the empty one.
    fn parse(head: &'r str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if version != "HTTP/1.1" || words.next().is_some() {
            return None;
        }
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                let named = !name.is_empty() && !name.contains([' ', '\t']);
                named.then_some((name, value.trim_matches([' ', '\t'])))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            method,
            path: target.split('?').next().unwrap_or(target),
            headers,
        })
    }
}

/// Reads the request and answers it; gives the bytes that came after it.
pub(crate) async fn accept<S>(
    stream: &mut S,
    settings: &WebSocketSettings,
) -> Result<Vec<u8>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    let result = read_head(stream, &mut head).await?.and_then(|end| {
        let malformed = Refused {
            status: 400,
            message: "this is no HTTP/1.1 request",
        };
        let text = str::from_utf8(&head[..end]).map_err(|_| malformed)?;
        let request = Request::parse(text).ok_or(malformed)?;
        Ok((decide(&request, settings)?, end + 4))
    });
    match result {
        Ok((Accepted { protocol, key }, end)) => {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            Ok(head.split_off(end))
        }
        Err(refused) => {
            let Refused { status, message } = refused;
            let phrase = match status {
                400 => "Bad Request",
                403 => "Forbidden",
                404 => "Not Found",
                405 => "Method Not Allowed",
                426 => "Upgrade Required",
                _ => "Request Header Fields Too Large",
            };
            let answer = format!(
                "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: {}\r\n\r\n{message}\n",
                message.len() + 1
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            Err(refused.into())
        }
    }
}

/// Reads up to the empty line; gives where it stands.
async fn read_head<S>(stream: &mut S, head: &mut Vec<u8>) -> io::Result<Result<usize, Refused>>
where
    S: AsyncRead + Unpin,
{
    let mut chunk = [0; 1024];
    loop {
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&chunk[..n]);
        let found = head[from..].windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(at) = found {
            return Ok(Ok(from + at));
        }
        if head.len() > REQUEST_MAX {
            return Ok(Err(Refused {
                status: 431,
                message: "the request is too long",
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt?x=1 HTTP/1.1\r\nHost: h\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt";

    fn decided(head: &str, settings: &WebSocketSettings) -> Result<Accepted, u16> {
        let request = Request::parse(head).unwrap();
        decide(&request, settings).map_err(|refused| refused.status)
    }

    /// [MQTT-6.0.0-4] [MQTT3-6.0.0-4]
    #[test]
    fn the_key_is_answered_as_the_rfc_shows_and_mqtt_is_chosen() {
        let accepted = decided(GOOD, &WebSocketSettings::default()).unwrap();
        assert_eq!(accepted.key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accepted.protocol, "mqtt");
        let old = GOOD.replace("mqttv3.1, mqtt", "mqttv3.1");
        let accepted = decided(&old, &WebSocketSettings::default()).unwrap();
        assert_eq!(accepted.protocol, "mqttv3.1");
    }

    #[test]
    fn a_request_for_something_else_is_told_so() {
        for (from, to, status) in [
            ("GET", "POST", 405),
            ("/mqtt?", "/other?", 404),
            ("WebSocket", "h2c", 426),
            ("keep-alive, Upgrade", "keep-alive", 426),
            ("Version: 13", "Version: 8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
            ("mqttv3.1, mqtt", "chat, mqtt2", 400),
            ("\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt", "", 400),
        ] {
            let head = GOOD.replace(from, to);
            assert_ne!(head, GOOD);
            let decision = decided(&head, &WebSocketSettings::default());
            assert_eq!(decision, Err(status), "{head}");
        }
    }

    #[test]
    fn a_page_must_come_from_a_listed_origin_and_a_program_needs_none() {
        let settings = WebSocketSettings {
            origins: vec!["https://example.org".to_owned()],
            ..WebSocketSettings::default()
        };
        let from = |origin: &str| format!("{GOOD}\r\nOrigin: {origin}");
        assert!(decided(&from("https://Example.org"), &settings).is_ok());
        assert_eq!(decided(&from("https://example.com"), &settings), Err(403));
        assert!(decided(GOOD, &settings).is_ok());
        let open = WebSocketSettings::default();
        assert!(decided(&from("https://example.com"), &open).is_ok());
    }

    #[test]
    fn what_is_no_request_is_none() {
        for head in [
            "",
            "GET /mqtt",
            "GET /mqtt HTTP/1.0",
            "GET /mqtt HTTP/1.1 x",
            "GET /mqtt HTTP/1.1\r\nno colon",
            "GET /mqtt HTTP/1.1\r\n folded: x",
        ] {
            assert!(Request::parse(head).is_none(), "{head}");
        }
    }
}
