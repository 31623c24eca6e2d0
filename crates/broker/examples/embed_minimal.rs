//! A broker in five lines, and a client of it.
//!
//! `cargo run --example embed_minimal`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use weir::{Broker, Message};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::builder().listen("127.0.0.1:0").start().await?;
    let port = broker.addresses()[0].port();

    let options = MqttOptions::new("reader", "127.0.0.1", port);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("greeting", QoS::AtLeastOnce).await?;
    loop {
        match events.poll().await? {
            Event::Incoming(Packet::SubAck(_)) => {
                broker.publish(Message::text("greeting", "hello")?);
            }
            Event::Incoming(Packet::Publish(message)) => {
                println!("{}: {:?}", message.topic, message.payload);
                break;
            }
            _ => {}
        }
    }
    broker.stop(Duration::from_secs(1)).await;
    Ok(())
}
