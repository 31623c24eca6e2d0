//! MQTT in a WebSocket: the handshake of a client, and a stream of bytes out of its messages.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http::{Request, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::certificate;
use super::client::{Failure, Io, MAX_INCOMING};
use super::plan::Address;
use super::reconnect::Loss;
use crate::codes;
use crate::error::SinkError;

/// The bytes of one connection. A message of the WebSocket may hold any part of them. [MQTT-6.0.0-2]
struct Tunnel {
    socket: WebSocketStream<Box<dyn Io>>,
    /// What of the last message has not been read.
    rest: Bytes,
}

/// Makes a WebSocket of a connection to `address`. `signed` is the whole address that the credentials are in, where they
/// are.
pub(super) async fn open(
    stream: Box<dyn Io>,
    address: &Address,
    path: &str,
    signed: Option<&str>,
) -> Result<Box<dyn Io>, Failure> {
    let target = Target::of(address, path, signed)?;
    let request = Request::builder()
        .uri(&target.uri)
        .header("Host", &target.host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        // [MQTT-6.0.0-3]
        .header("Sec-WebSocket-Protocol", "mqtt")
        .body(())
        .map_err(|_| {
            let message = "the address makes no request for a WebSocket";
            Failure::network(SinkError::new(codes::BRIDGE, message).configuration())
        })?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_INCOMING))
        .max_frame_size(Some(MAX_INCOMING));
    let opened = client_async_with_config(request, stream, Some(config)).await;
    let (socket, _) = opened.map_err(|error| refused(&error))?;
    Ok(Box::new(Tunnel {
        socket,
        rest: Bytes::new(),
    }))
}

/// What is asked for.
struct Target {
    uri: String,
    host: String,
}

impl Target {
    fn of(address: &Address, path: &str, signed: Option<&str>) -> Result<Self, Failure> {
        let host = if address.host.contains(':') {
            format!("[{}]", address.host)
        } else {
            address.host.clone()
        };
        let default = if address.tls { 443 } else { 80 };
        let scheme = if address.tls { "wss" } else { "ws" };
        let Some(signed) = signed else {
            let host = match address.port {
                port if port == default => host,
                port => format!("{host}:{port}"),
            };
            return Ok(Self {
                uri: format!("{scheme}://{host}{path}"),
                host,
            });
        };
        // The name that was signed has no port, whatever way the connection took.
        let parts = signed
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'));
        let (authority, path) = parts.ok_or_else(|| {
            let message = "the signed address has no path";
            Failure::network(SinkError::new(codes::BRIDGE, message))
        })?;
        let host = authority.strip_suffix(":443").unwrap_or(authority);
        Ok(Self {
            uri: format!("{scheme}://{host}/{path}"),
            host: host.to_owned(),
        })
    }
}

fn refused(error: &Error) -> Failure {
    let Error::Http(answer) = error else {
        if let Error::Io(error) = error
            && let Some(refused) = certificate::refused(error)
        {
            return refused;
        }
        // What it says holds no address: that may be a secret.
        let message = "the remote makes no WebSocket";
        return Failure::network(SinkError::new(codes::LINK_DOWN, message).caused_by(error));
    };
    let status = answer.status();
    let (loss, code) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (Loss::Credentials, codes::AUTH),
        _ => (Loss::Network, codes::LINK_DOWN),
    };
    let message = format!("the remote broker refuses the WebSocket: HTTP {status}");
    Failure {
        loss,
        ..Failure::network(SinkError::new(code, message))
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                // [MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    let message = "the remote sends text in the WebSocket";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
                }
                // Pings are answered by the socket itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) | None => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(broken)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        socket.start_send(message).map_err(broken)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_that_was_signed_is_named_without_its_port() {
        let target = |host: &str, port, tls, path: &str, signed| {
            let address = Address {
                host: host.to_owned(),
                port,
                tls,
                web_socket: Some(path.to_owned()),
            };
            let target = Target::of(&address, path, signed).ok().unwrap();
            (target.uri, target.host)
        };
        let own = |uri: &str, host: &str| (uri.to_owned(), host.to_owned());
        let signed = "wss://data.example:443/mqtt?X-Amz-Signature=00";
        assert_eq!(
            target("127.0.0.1", 8443, true, "/mqtt", Some(signed)),
            own("wss://data.example/mqtt?X-Amz-Signature=00", "data.example")
        );
        assert_eq!(
            target("::1", 8083, false, "/x", None),
            own("ws://[::1]:8083/x", "[::1]:8083")
        );
        assert_eq!(
            target("h", 443, true, "/mqtt", None),
            own("wss://h/mqtt", "h")
        );
    }
}
