//! The way to a remote below MQTT: its name, a socket, and TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::certificate;
use super::client::{Failure, Io};
use super::plan::{Address, BridgePlan};
use super::signer::ConnectCreds;
use crate::error::SinkError;
use crate::{codes, tls};

/// So many times as long as one may all addresses of a name take together.
const ALL: u32 = 3;
/// For so long may the remote's machine take nothing of what was sent (TCP), or be gone.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNTAKEN_MS: u32 = 20_000;

/// A socket to the remote. The name is resolved anew, and each of its addresses is tried in the resolver's order: one that
/// does not answer leaves time for the next.
pub(super) async fn reach(plan: &BridgePlan, address: &Address) -> Result<TcpStream, Failure> {
    let each = plan.connect_timeout;
    let reached = async {
        let named = lookup_host((address.host.as_str(), address.port));
        let found = tokio::time::timeout(each, named).await??;
        first_of(found, each).await
    };
    let stream = tokio::time::timeout(each * ALL, reached)
        .await
        .unwrap_or_else(|late| Err(late.into()))
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => no_answer(),
            _ => Failure::io(&error),
        })?;
    prepare(&stream);
    Ok(stream)
}

/// How a socket to a remote behaves.
pub(super) fn prepare(stream: &TcpStream) {
    // What is written together leaves together already.
    let _ = stream.set_nodelay(true);
    // A PINGREQ is only asked for when nothing comes, and not while messages of QoS 0 go into the void.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, UNTAKEN_MS);
}

pub(super) fn no_answer() -> Failure {
    let message = "the remote broker does not answer";
    Failure::network(SinkError::new(codes::TIMEOUT, message))
}

/// The first that takes a connection, each asked for so long.
async fn first_of(
    addresses: impl Iterator<Item = SocketAddr>,
    each: Duration,
) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(last)
}

/// TLS where the address wants it.
pub(super) async fn secure(
    stream: TcpStream,
    plan: &BridgePlan,
    address: &Address,
    creds: &ConnectCreds,
    base: &Path,
) -> Result<Box<dyn Io>, Failure> {
    if !address.tls {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(
        handshake(stream, plan, address, creds, base).await?,
    ))
}

/// The handshake of TLS. Certificates are read now, away from the tasks that carry packets.
pub(super) async fn handshake(
    stream: TcpStream,
    plan: &BridgePlan,
    address: &Address,
    creds: &ConnectCreds,
    base: &Path,
) -> Result<TlsStream<TcpStream>, Failure> {
    let (settings, base) = (plan.tls.clone(), base.to_owned());
    let read = tokio::task::spawn_blocking(move || tls::client_config(&settings, &base)).await;
    let mut config = read
        .unwrap_or_else(|error| {
            Err(SinkError::new(codes::TLS, "no secure connection").caused_by(&error))
        })
        .map_err(Failure::network)?;
    if let Some(alpn) = protocols(plan, address, creds) {
        Arc::make_mut(&mut config).alpn_protocols = alpn;
    }
    let name = tls::server_name(&plan.tls, &address.host).map_err(Failure::network)?;
    tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| {
            certificate::refused(&error).unwrap_or_else(|| {
                let no_tls = SinkError::new(codes::TLS, "no secure connection");
                Failure::network(no_tls.caused_by(&error))
            })
        })
}

/// What ALPN names, where it is not what the file says. Below a WebSocket it is HTTP that is spoken, whatever file and
/// credentials are for.
fn protocols(plan: &BridgePlan, address: &Address, creds: &ConnectCreds) -> Option<Vec<Vec<u8>>> {
    if address.web_socket.is_some() {
        return Some(Vec::new());
    }
    let alpn = creds.alpn.as_ref()?.as_ref()?;
    (plan.tls.alpn.is_empty()).then(|| vec![alpn.clone().into_bytes()])
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    #[test]
    fn below_a_websocket_no_protocol_is_named_whatever_the_file_says() {
        let text = "addresses = [\"mqtts://h\", \"wss://h\"]\nclient_id = \"c\"\ntls = { alpn = [\"mqtt\"] }";
        let (plan, _) = BridgePlan::check(&toml::from_str(text).unwrap()).unwrap();
        let creds = ConnectCreds {
            alpn: Some(Some("x-amzn-mqtt-ca".into())),
            ..ConnectCreds::default()
        };
        let named = |at: usize| protocols(&plan, &plan.addresses[at], &creds);
        assert_eq!(named(0), None, "what the file says holds");
        assert_eq!(named(1), Some(Vec::new()));
    }

    /// An address that leaves who connects without an answer, and what holds it so.
    async fn silent() -> (SocketAddr, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // Its queue is full when one more is not let in.
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 100, "its queue has no end");
        }
        // Nobody accepts, and nobody closes it.
        std::mem::forget(listener);
        (address, waiting)
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next_one() {
        let (silent, _waiting) = silent().await;
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().map(|at| (good, at)).unwrap();
        let each = Duration::from_millis(300);
        let reached = first_of([silent, good.1].into_iter(), each).await.unwrap();
        assert_eq!(reached.peer_addr().unwrap(), good.1);
        let alone = first_of([silent].into_iter(), each).await;
        assert_eq!(alone.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let none = first_of(std::iter::empty(), each).await;
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_remote_that_is_gone_without_a_word_is_noticed_after_20_s() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        prepare(&stream);
        let waits_ms = rustix::net::sockopt::tcp_user_timeout(&stream).unwrap();
        assert_eq!((waits_ms, stream.nodelay().unwrap()), (20_000, true));
    }
}
