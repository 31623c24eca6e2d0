//! The demo's webhook receiver: a real HTTP server that counts requests once each.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// Counts the requests that came, each idempotency key once.
#[derive(Clone, Default)]
pub(super) struct Webhook {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    keys: HashSet<String>,
    without_key: u64,
}

impl Webhook {
    /// Listens on a free loopback port until the runtime ends.
    pub(super) async fn start(&self) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .fallback(any(receive))
            .with_state(self.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the demo's webhook receiver has ended");
            }
        });
        Ok(address)
    }

    /// How many different requests came.
    pub(super) fn hits(&self) -> u64 {
        let seen = self.seen.lock();
        seen.keys.len() as u64 + seen.without_key
    }
}

async fn receive(State(webhook): State<Webhook>, headers: HeaderMap) -> StatusCode {
    let mut seen = webhook.seen.lock();
    match headers
        .get("idempotency-key")
        .and_then(|key| key.to_str().ok())
    {
        Some(key) => {
            seen.keys.insert(key.to_owned());
        }
        None => seen.without_key += 1,
    }
    StatusCode::ACCEPTED
}
