//! MQTT over everything that carries it, and what stands below it there.

mod limits;
mod proxy;
mod tls;
mod unix;
mod web_socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use weir::auth::{Authorizer, PublishVerdict, Subject};
use weir::broker::{Broker, BrokerSettings, ListenerSettings};
use weir::stats::{HandshakeFailure, ListenerStats};
use weir_mqtt::{Packet, PubRel, QoS, ReasonCode, SubscriptionFilter};

use crate::client::{Client, TestBroker, id, publish};

/// A broker with one listener of the test's making.
struct Scene {
    broker: TestBroker,
    address: SocketAddr,
    guests: Guests,
}

/// Who has published, as the broker knows them.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<Vec<Subject>>>);

impl Authorizer for Guests {
    fn generation(&self) -> u64 {
        0
    }

    fn publish(&self, subject: &Subject, _: &str, _: QoS, _: bool) -> PublishVerdict {
        self.0.lock().push(subject.clone());
        PublishVerdict::Allow
    }

    fn subscribe(&self, _: &Subject, _: &SubscriptionFilter, qos: QoS) -> Result<QoS, ReasonCode> {
        Ok(qos)
    }
}

impl Scene {
    async fn start(settings: ListenerSettings) -> Self {
        Self::with(BrokerSettings::default(), settings).await
    }

    async fn with(settings: BrokerSettings, listener: ListenerSettings) -> Self {
        let guests = Guests::default();
        let broker = Broker::builder()
            .settings(settings)
            .authorizer(guests.clone())
            .start()
            .await
            .unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let broker = TestBroker { broker, address };
        broker.listen(socket, listener);
        Self {
            broker,
            address,
            guests,
        }
    }

    /// The listener's counters.
    fn stats(&self) -> Arc<ListenerStats> {
        Arc::clone(&self.broker.broker.stats().listeners.read()[0])
    }

    /// Waits until a handshake has failed for the n-th time with this reason.
    async fn failed(&self, reason: HandshakeFailure, times: u64) {
        let counted = async {
            loop {
                // The listener counts from its first moment on, which may not have come.
                let listeners = self.broker.broker.stats().listeners.read().clone();
                let count = listeners
                    .first()
                    .map_or(0, |stats| stats.handshake_failures[reason as usize].get());
                if count >= times {
                    return count;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let count = tokio::time::timeout(Duration::from_secs(10), counted).await;
        assert_eq!(count, Ok(times), "{reason:?}");
    }

    /// What the broker knows of whoever is at the other end of `client`.
    async fn guest(&self, client: &mut Client) -> Subject {
        client.publish(publish("who/am/i", "x", 1, 1)).await;
        self.guests.0.lock().last().unwrap().clone()
    }
}

/// A client is welcome, and messages of every size go both ways.
async fn speaks_mqtt(mut client: Client, client_id: &str) {
    assert_eq!(client.hello(client_id).await.reason, ReasonCode::Success);
    client.subscribe("echo", 0).await;
    for (size, level) in [(0, 0), (1, 1), (300_000, 2), (900_000, 0)] {
        let mut message = publish("echo", "", level, 5);
        message.payload = Bytes::from(vec![7; size]);
        let payload = message.payload.clone();
        client.send(Packet::Publish(message)).await;
        let (mut came, mut done) = (false, level == 0);
        while !(came && done) {
            match client.receive().await {
                Packet::Publish(message) => {
                    assert!(message.payload == payload, "{size} bytes");
                    came = true;
                }
                Packet::PubRec(_) => client.send(Packet::PubRel(PubRel::success(id(5)))).await,
                Packet::PubAck(_) | Packet::PubComp(_) => done = true,
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
    client.disconnect().await;
}
