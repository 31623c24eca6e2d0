//! MQTT over WebSocket on the HTTP port, where `http.mqtt_path` asks for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Admin, problem};
use crate::net::listener::Listener;
use crate::net::websocket::WebSocket;
use crate::net::websocket::handshake::{self, Accepted};

/// How long the HTTP side may take to let go of the connection once it has answered.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Whatever has no route of its own: MQTT's path, or nothing.
pub(super) async fn mqtt_or_nothing(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let Some(listener) = admin.mqtt.filter(|listener| {
        let settings = listener.settings().web_socket.as_ref();
        settings.is_some_and(|settings| settings.path == request.uri().path())
    }) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    match answer(&request, &listener) {
        Ok(Accepted { protocol, key }) => {
            if let Some(upgrade) = upgrade {
                tokio::spawn(hand_over(upgrade, listener, peer));
            }
            let headers = [
                (header::CONNECTION, "Upgrade"),
                (header::UPGRADE, "websocket"),
                (header::SEC_WEBSOCKET_ACCEPT, &*key),
                (header::SEC_WEBSOCKET_PROTOCOL, protocol),
            ];
            (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
        }
        Err(refused) => {
            let reason = crate::stats::HandshakeFailure::WebSocket;
            listener.stats().handshake_failed(reason);
            let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
            problem(status, "E1404", "no WebSocket", refused.message)
        }
    }
}

fn answer(request: &Request, listener: &Listener) -> Result<Accepted, handshake::Refused> {
    let headers = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let asked = handshake::Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        headers: headers.collect(),
    };
    let settings = listener.settings().web_socket.clone().unwrap_or_default();
    handshake::decide(&asked, &settings)
}

async fn hand_over(upgrade: OnUpgrade, listener: Arc<Listener>, peer: SocketAddr) {
    match tokio::time::timeout(HAND_OVER, upgrade).await {
        Ok(Ok(upgraded)) => {
            let stream = WebSocket::new(TokioIo::new(upgraded), Vec::new());
            listener.adopt(Box::new(stream), peer);
        }
        Ok(Err(error)) => tracing::debug!(%error, "a WebSocket did not come about"),
        Err(_) => {}
    }
}
