//! What the broker tells the program: messages, clients that come and go, subscriptions.
//!
//! `cargo run --example embed_listener`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use weir::Broker;
use weir::hooks::{
    ClientInfo, ConnectStatusListener, Offline, SessionListener, Subscription, message_channel,
};

struct Told;

impl ConnectStatusListener for Told {
    fn online(&self, client: &ClientInfo) {
        println!("{} is here", client.client_id);
    }

    fn offline(&self, client: &ClientInfo, why: &Offline) {
        println!("{} is gone: {}", client.client_id, why.text);
    }
}

impl SessionListener for Told {
    fn subscribed(&self, client: &ClientInfo, subscription: &Subscription) {
        println!("{} reads {}", client.client_id, subscription.filter);
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Hooks must not wait: what takes time gets its messages through a channel.
    let (channel, mut messages) = message_channel(1000);
    let broker = Broker::builder()
        .on_message(channel.clone())
        .on_status(Told)
        .on_session(Told)
        .listen("127.0.0.1:0")
        .start()
        .await?;
    let port = broker.addresses()[0].port();

    let options = MqttOptions::new("sensor", "127.0.0.1", port);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("sensor/set", QoS::AtMostOnce).await?;
    let published = client.publish("sensor/temperature", QoS::AtLeastOnce, false, "21.5");
    published.await?;
    while !matches!(events.poll().await?, Event::Incoming(Packet::PubAck(_))) {}

    let message = messages.recv().await.ok_or("the broker is gone")?;
    println!("{} = {:?}", message.topic, message.payload);
    println!("{} messages were missed", channel.missed());
    broker.stop(Duration::from_secs(1)).await;
    Ok(())
}
