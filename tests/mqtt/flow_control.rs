//! Chapter 4.9: the receive maximum, and what it does not hold back.

use std::num::NonZeroU16;

use weir::broker::BrokerSettings;
use weir_mqtt::{Connect, Packet, PubAck, PubComp, PubRec, PubRel, ReasonCode, Utf8};

use crate::client::{Client, TestBroker, V5, id, publish};

async fn subscriber(broker: &TestBroker, receive_maximum: u16) -> Client {
    let mut connect = Connect::new(V5, Utf8::from("sub"));
    connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
    let (mut subscriber, _) = broker.connect_with(connect).await;
    subscriber.subscribe("t", 2).await;
    subscriber
}

#[tokio::test]
async fn the_quota_begins_at_the_receive_maximum_and_each_answer_gives_one_back() {
    // [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
    let broker = TestBroker::start().await;
    for maximum in [1, 2, 7] {
        let mut subscriber = subscriber(&broker, maximum).await;
        let mut publisher = broker.connect(V5, "pub").await;
        for number in 1..=20 {
            publisher.publish(publish("t", "x", 2, number)).await;
        }
        let mut received = 0;
        let mut in_flight = Vec::new();
        for _ in 0..maximum {
            in_flight.push(subscriber.receive_publish().await);
            received += 1;
        }
        subscriber.expect_nothing().await;
        for message in in_flight {
            let packet_id = message.packet_id.unwrap();
            // PUBREC gives nothing back, PUBCOMP does, and so does a PUBREC that refuses.
            if received % 2 == 0 {
                let refused = PubRec::new(packet_id, ReasonCode::QuotaExceeded);
                subscriber.send(Packet::PubRec(refused)).await;
            } else {
                let accepted = PubRec::success(packet_id);
                subscriber.send(Packet::PubRec(accepted)).await;
                let release = Packet::PubRel(PubRel::success(packet_id));
                assert_eq!(subscriber.receive().await, release);
                subscriber.expect_nothing().await;
                let completed = PubComp::success(packet_id);
                subscriber.send(Packet::PubComp(completed)).await;
            }
            subscriber.receive_publish().await;
            received += 1;
            subscriber.expect_nothing().await;
        }
        subscriber.disconnect().await;
    }
}

#[tokio::test]
async fn a_client_without_receive_maximum_is_sent_no_more_than_the_broker_allows_itself() {
    // [MQTT-4.9.0-1]
    let settings = BrokerSettings {
        max_inflight: 4,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut subscriber = subscriber(&broker, 65_535).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=10 {
        publisher.publish(publish("t", "x", 1, number)).await;
    }
    for _ in 0..4 {
        subscriber.receive_publish().await;
    }
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn a_spent_quota_holds_back_nothing_but_publish() {
    // [MQTT-3.3.4-10] [MQTT-4.9.0-3]
    let broker = TestBroker::start().await;
    let mut client = subscriber(&broker, 1).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=2 {
        publisher.publish(publish("t", "x", 2, number)).await;
    }
    let first = client.receive_publish().await;
    client.expect_nothing().await;
    // Its own messages, subscriptions and pings are answered as ever; messages of QoS 0 still come.
    assert_eq!(client.subscribe("other", 0).await, [ReasonCode::Success]);
    assert_eq!(client.unsubscribe("none").await.len(), 1);
    client
        .send(Packet::Publish(publish("other", "own", 1, 5)))
        .await;
    let (mut acknowledged, mut delivered) = (false, false);
    for _ in 0..2 {
        match client.receive().await {
            Packet::PubAck(PubAck { packet_id, .. }) => acknowledged = packet_id == id(5),
            Packet::Publish(message) => delivered = &message.payload[..] == b"own",
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(acknowledged && delivered);
    client
        .send(Packet::Publish(publish("none", "own", 2, 6)))
        .await;
    client.receive_pubrec(id(6)).await;
    client.send(Packet::PubRel(PubRel::success(id(6)))).await;
    assert_eq!(
        client.receive().await,
        Packet::PubComp(PubComp::success(id(6)))
    );
    client.acknowledge(&first).await;
    client.receive_publish().await;
}
