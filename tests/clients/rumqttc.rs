//! rumqttc, the client in Rust.

use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(20);

/// A connected client: what came, and how often its subscriptions and publishes were acknowledged.
struct Client {
    client: AsyncClient,
    inbox: mpsc::UnboundedReceiver<Publish>,
    acknowledged: mpsc::UnboundedReceiver<()>,
    /// Its connection breaks with this task.
    task: JoinHandle<()>,
}

impl Client {
    async fn connect(port: u16, name: &str, will: Option<LastWill>) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options.set_max_packet_size(Some(1 << 20));
        if let Some(will) = will {
            options.set_last_will(will);
        }
        let (client, mut events) = AsyncClient::new(options, 10);
        let (to_inbox, inbox) = mpsc::unbounded_channel();
        let (acks, mut acknowledged) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::Publish(publish)) => drop(to_inbox.send(publish)),
                    Event::Incoming(
                        Packet::ConnAck(_)
                        | Packet::SubAck(_)
                        | Packet::PubAck(_)
                        | Packet::PubComp(_),
                    ) => drop(acks.send(())),
                    _ => {}
                }
            }
        });
        let connack = tokio::time::timeout(PATIENCE, acknowledged.recv()).await;
        assert_eq!(connack, Ok(Some(())), "CONNACK");
        Self {
            client,
            inbox,
            acknowledged,
            task,
        }
    }

    async fn acknowledged(&mut self) {
        let ack = tokio::time::timeout(PATIENCE, self.acknowledged.recv()).await;
        assert_eq!(ack, Ok(Some(())));
    }

    async fn subscribe(&mut self, filter: &str) {
        self.client
            .subscribe(filter, QoS::ExactlyOnce)
            .await
            .unwrap();
        self.acknowledged().await;
    }

    async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: &[u8]) {
        let sent = self.client.publish(topic, qos, retain, payload.to_vec());
        sent.await.unwrap();
        if qos != QoS::AtMostOnce {
            self.acknowledged().await;
        }
    }

    async fn receive(&mut self) -> Publish {
        let message = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
        message.expect("a message comes").unwrap()
    }
}

#[tokio::test]
async fn rumqttc_sees_a_whole_conversation_through() {
    let scene = Scene::start().await;
    let port = scene.port("mqtt");
    let mut alice = Client::connect(port, "alice", None).await;
    let mut bob = Client::connect(port, "bob", None).await;
    bob.subscribe("t/#").await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        alice.publish("t/1", qos, false, b"x").await;
        assert_eq!(bob.receive().await.qos, qos);
    }

    alice.publish("r", QoS::AtLeastOnce, true, b"kept").await;
    bob.subscribe("r").await;
    let kept = bob.receive().await;
    assert_eq!((&kept.payload[..], kept.retain), (&b"kept"[..], true));

    bob.subscribe("w").await;
    let will = LastWill::new("w", "gone", QoS::AtLeastOnce, false, None);
    let mortal = Client::connect(port, "mortal", Some(will)).await;
    mortal.task.abort();
    assert_eq!(&bob.receive().await.payload[..], b"gone");

    let mut members = Vec::new();
    for name in ["one", "two"] {
        let mut member = Client::connect(port, name, None).await;
        member.subscribe("$share/g/s").await;
        members.push(member);
    }
    for n in 0..10 {
        alice.publish("s", QoS::AtLeastOnce, false, &[n]).await;
    }
    let mut numbers = Vec::new();
    for member in &mut members {
        for _ in 0..5 {
            numbers.push(member.receive().await.payload[0]);
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<u8>>());

    let large = vec![7; 900_000];
    alice
        .publish("t/large", QoS::ExactlyOnce, false, &large)
        .await;
    assert!(bob.receive().await.payload == large);
}
