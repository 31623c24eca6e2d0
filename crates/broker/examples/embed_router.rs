//! Functions for topics: `${name}` stands for one level and can be asked for.
//!
//! `cargo run --example embed_router`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::mpsc::channel;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde::Deserialize;
use weir::Broker;
use weir::hooks::TopicRouter;

#[derive(Deserialize)]
struct Reading {
    celsius: f64,
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (lines, shown) = channel();
    let readings = lines.clone();
    let router = TopicRouter::new()
        .on("/sys/${product}/${device}/thing/#", move |call| {
            let names: Vec<_> = call.names().collect();
            drop(lines.send(format!("{names:?}")));
        })?
        .on_json("room/${room}/reading", move |call, reading: Reading| {
            let room = call.get("room").unwrap_or_default();
            drop(readings.send(format!("room {room}: {} °C", reading.celsius)));
        })?;
    let broker = Broker::builder()
        .on_message(router)
        .listen("127.0.0.1:0")
        .start()
        .await?;

    let port = broker.addresses()[0].port();
    let options = MqttOptions::new("device", "127.0.0.1", port);
    let (client, mut events) = AsyncClient::new(options, 10);
    let qos = QoS::AtLeastOnce;
    let topic = "/sys/pump/7/thing/event";
    client.publish(topic, qos, false, "on").await?;
    let reading = r#"{"celsius": 21.5}"#;
    client
        .publish("room/12/reading", qos, false, reading)
        .await?;
    let mut acknowledged = 0;
    while acknowledged < 2 {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await? {
            acknowledged += 1;
        }
    }
    let shown: Vec<String> = shown.try_iter().collect();
    println!("{}", shown.join("\n"));
    if shown.len() != 2 {
        return Err("a handler was not called".into());
    }
    broker.stop(Duration::from_secs(1)).await;
    Ok(())
}
