//! The MQTT server without rules on one port: for load generators and conformance suites.
//!
//! `cargo run --release --example broker_only -- 127.0.0.1:1883`

use std::sync::Arc;

use weir::Broker;
use weir::broker::{BrokerSettings, ListenerSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:1883".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let settings = BrokerSettings {
        max_inflight: 1000,
        max_queued: 100_000,
        ..BrokerSettings::default()
    };
    let broker = Broker::builder()
        .settings(settings)
        .start()
        .await
        .map_err(std::io::Error::other)?;
    let listener_settings = ListenerSettings {
        name: Arc::from("only"),
        max_connections: 100_000,
        allow_anonymous: true,
        ..ListenerSettings::default()
    };
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    broker.serve(listener, listener_settings, interrupted).await;
    broker.stop(std::time::Duration::from_secs(1)).await;
    Ok(())
}
