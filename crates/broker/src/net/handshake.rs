//! What stands before MQTT on a connection that is not plain TCP: PROXY header, TLS, WebSocket, in this order.
//!
//! All of it and CONNECT share one deadline; what fails is counted with its reason.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::timeout_at;
use tokio_rustls::TlsAcceptor;
use weir_mqtt::Utf8;

use super::connection;
use super::proxy_protocol::{self, Header, HeaderError};
use super::settings::{CertificateName, ListenerSettings, ProxySettings};
use super::stream::{AnyStream, Flushed};
use super::tls::Tls;
use super::websocket::WebSocket;
use super::websocket::handshake::{self, HandshakeError};
use crate::auth::certificate::PeerCertificate;
use crate::driver::Shared;
use crate::driver::admission::Door;
use crate::stats::{HandshakeFailure, ListenerStats};

/// Why a connection never came to MQTT.
#[derive(Debug)]
struct Failure(HandshakeFailure, String);

/// Serves a connection with something below MQTT.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: AnyStream,
    mut door: Box<Door>,
    settings: Arc<ListenerSettings>,
    stats: Arc<ListenerStats>,
) {
    let deadline = door.deadline;
    let handshakes = Box::pin(handshakes(stream, &mut door, &settings));
    let failure = match timeout_at(deadline, handshakes).await {
        Ok(Ok(stream)) => return connection::serve(shared, stream, door).await,
        Ok(Err(failure)) => failure,
        Err(_) => Failure(HandshakeFailure::Timeout, String::new()),
    };
    let Failure(reason, detail) = failure;
    stats.handshake_failed(reason);
    tracing::debug!(
        listener = %settings.name, peer = ?door.peer, reason = reason.name(), detail, "a handshake failed"
    );
}

/// Everything below MQTT, from the outside in. What is learned of the client goes into `door`.
async fn handshakes(
    mut stream: AnyStream,
    door: &mut Door,
    settings: &ListenerSettings,
) -> Result<AnyStream, Failure> {
    if let Some(proxy) = &settings.proxy {
        read_proxy_header(&mut stream, door, proxy).await?;
    }
    if let Some(tls) = &settings.tls {
        stream = encrypted(stream, door, tls).await?;
    }
    if let Some(certificate) = &door.certificate
        && settings.identity != CertificateName::None
    {
        let name = settings
            .identity
            .of(certificate)
            .and_then(|name| Utf8::try_from(name).ok());
        // A certificate that does not say who it is for must not let in somebody without a name.
        door.identity = Some(name.ok_or_else(|| {
            let detail = "the certificate lacks the name that stands for the user".to_owned();
            Failure(HandshakeFailure::ClientCertificate, detail)
        })?);
    }
    if let Some(web_socket) = &settings.web_socket {
        let early =
            handshake::accept(&mut stream, web_socket)
                .await
                .map_err(|error| match error {
                    HandshakeError::Ended(error) => closed(&error),
                    HandshakeError::Refused(refused) => {
                        Failure(HandshakeFailure::WebSocket, refused.to_string())
                    }
                })?;
        stream = Box::new(WebSocket::new(stream, early));
    }
    Ok(stream)
}

fn closed(error: &io::Error) -> Failure {
    Failure(HandshakeFailure::Closed, error.to_string())
}

async fn read_proxy_header(
    stream: &mut AnyStream,
    door: &mut Door,
    proxy: &ProxySettings,
) -> Result<(), Failure> {
    let listed = |peer: SocketAddr| {
        proxy
            .trusted
            .iter()
            .any(|network| network.contains(peer.ip()))
    };
    // Over a unix socket whoever may open the file is trusted.
    let trusted = door.peer.is_none_or(listed);
    if !trusted && !proxy.trusted.is_empty() {
        let detail = "the proxy is not one of trusted_proxies".to_owned();
        return Err(Failure(HandshakeFailure::Proxy, detail));
    }
    let header = proxy_protocol::read(stream)
        .await
        .map_err(|error| match error {
            HeaderError::Ended(error) => closed(&error),
            HeaderError::Malformed(detail) => Failure(HandshakeFailure::Proxy, detail.to_owned()),
        })?;
    let Header {
        source,
        destination,
        common_name,
    } = header;
    door.peer = source.or(door.peer);
    door.local = destination.or(door.local);
    door.certificate = common_name
        .filter(|_| trusted)
        .map(|name| Arc::new(PeerCertificate::named(&name)));
    Ok(())
}

async fn encrypted(stream: AnyStream, door: &mut Door, tls: &Tls) -> Result<AnyStream, Failure> {
    let stream = TlsAcceptor::from(tls.current())
        .accept(stream)
        .await
        .map_err(|error| tls_failure(&error))?;
    let shown = stream.get_ref().1.peer_certificates();
    if let Some(leaf) = shown.and_then(<[_]>::first) {
        let certificate = PeerCertificate::parse(leaf).ok_or_else(|| {
            let detail = "the certificate cannot be read".to_owned();
            Failure(HandshakeFailure::ClientCertificate, detail)
        })?;
        door.certificate = Some(Arc::new(certificate));
    }
    Ok(Box::new(Flushed::new(stream)))
}

fn tls_failure(error: &io::Error) -> Failure {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let reason = match cause {
        None => HandshakeFailure::Closed,
        Some(
            rustls::Error::NoCertificatesPresented
            | rustls::Error::InvalidCertificate(_)
            | rustls::Error::InvalidCertRevocationList(_),
        ) => HandshakeFailure::ClientCertificate,
        Some(_) => HandshakeFailure::Tls,
    };
    Failure(reason, error.to_string())
}
