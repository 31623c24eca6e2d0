//! What clients of other brokers met when connections came, broke and fought each other.

use tokio::net::TcpStream;
use weir_mqtt::{Connect, Packet, Utf8, codec};

use crate::client::{TestBroker, V3_1_1, V5, persistent, publish};

/// [LESSON-M2]
#[tokio::test]
async fn packets_mean_the_same_in_single_bytes_and_all_at_once() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 1).await;
    let mut bytes = Vec::new();
    let connect = Connect::new(V3_1_1, Utf8::from("pub"));
    let packets = [
        Packet::Connect(Box::new(connect)),
        Packet::Publish(publish("t", "one", 1, 1)),
        Packet::PingReq,
        Packet::Publish(publish("t", "two", 1, 2)),
    ];
    for packet in packets {
        codec::encode(&packet, V3_1_1, &mut bytes).unwrap();
    }
    for size in [1, 2, 3, 7, bytes.len()] {
        let mut publisher = broker.open(V3_1_1).await;
        for piece in bytes.chunks(size) {
            publisher.send_bytes(piece).await;
        }
        assert!(matches!(publisher.receive().await, Packet::ConnAck(_)));
        for payload in ["one", "two"] {
            let message = subscriber.receive_publish().await;
            assert_eq!(&message.payload[..], payload.as_bytes(), "{size}");
            subscriber.acknowledge(&message).await;
        }
    }
}

/// [LESSON-M3]
#[tokio::test]
async fn a_client_that_was_thrown_out_and_comes_back_has_its_session() {
    let broker = TestBroker::start().await;
    let (mut client, _) = broker.connect_with(persistent(V5, "same")).await;
    client.subscribe("t", 1).await;
    for round in 0..20 {
        assert!(
            broker
                .broker
                .disconnect("same", weir_mqtt::ReasonCode::AdministrativeAction)
        );
        // The new connection is there before the old one has seen its end.
        let (mut back, connack) = broker.connect_with(persistent(V5, "same")).await;
        assert!(connack.session_present, "{round}");
        while client.receive_or_end().await.is_some() {}
        let mut publisher = broker.connect(V5, "pub").await;
        publisher.publish(publish("t", "x", 1, 1)).await;
        let message = back.receive_publish().await;
        back.acknowledge(&message).await;
        client = back;
    }
}

/// [LESSON-M5]
#[tokio::test]
async fn what_is_published_after_suback_arrives() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut subscriber = broker.connect(V5, "sub").await;
    for round in 1..=300 {
        // Known to the publisher's connection as a topic that nobody wants.
        let topic = format!("t/{round}");
        publisher.publish(publish(&topic, "before", 1, 1)).await;
        subscriber.subscribe(&topic, 1).await;
        publisher.publish(publish(&topic, "after", 1, 2)).await;
        let message = subscriber.receive_publish().await;
        assert_eq!(&message.payload[..], b"after", "{round}");
        subscriber.acknowledge(&message).await;
    }
}

/// [LESSON-M6]
#[tokio::test]
async fn a_retained_message_without_a_subscriber_waits_for_the_first_one() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V3_1_1, "pub").await;
    for (number, topic) in [(1, "a"), (2, "b/c"), (3, "$own/d")] {
        let mut message = publish(topic, topic, 1, number);
        message.retain = true;
        publisher.publish(message).await;
    }
    publisher.disconnect().await;
    for filter in ["a", "b/+", "$own/#"] {
        let mut subscriber = broker.connect(V3_1_1, "sub").await;
        subscriber.subscribe(filter, 1).await;
        let message = subscriber.receive_publish().await;
        assert!(message.retain);
        assert_eq!(&message.payload[..], message.topic.as_bytes());
        subscriber.acknowledge(&message).await;
        subscriber.expect_nothing().await;
        subscriber.disconnect().await;
    }
}

/// [LESSON-M7]
#[tokio::test]
async fn half_a_packet_of_an_old_connection_means_nothing_to_the_next_one() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "watch").await;
    subscriber.subscribe("t", 1).await;
    let mut whole = Vec::new();
    let message = Packet::Publish(publish("t", "cut off", 1, 1));
    codec::encode(&message, V3_1_1, &mut whole).unwrap();
    for length in 1..whole.len() {
        let (mut client, _) = broker.connect_with(persistent(V3_1_1, "same")).await;
        client.send_bytes(&whole[..length]).await;
        client.vanish();
    }
    let (mut client, _) = broker.connect_with(persistent(V3_1_1, "same")).await;
    client.publish(publish("t", "whole", 1, 1)).await;
    let message = subscriber.receive_publish().await;
    assert_eq!(&message.payload[..], b"whole");
    subscriber.acknowledge(&message).await;
    subscriber.expect_nothing().await;
}

/// [LESSON-M8]
#[tokio::test]
async fn clients_that_throw_each_other_out_keep_the_session_and_what_it_is_owed() {
    const ROUNDS: u16 = 50;
    let broker = TestBroker::start().await;
    let (mut client, _) = broker.connect_with(persistent(V3_1_1, "same")).await;
    client.subscribe("t", 1).await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut others = Vec::new();
    for round in 1..=ROUNDS {
        publisher
            .publish(publish("t", &round.to_string(), 1, round))
            .await;
        let mut other = broker.open(V3_1_1).await;
        let connect = Packet::Connect(Box::new(persistent(V3_1_1, "same")));
        let received = || broker.broker.stats().received_packets.get();
        let before = received();
        other.send(connect).await;
        // Connections are served by several threads: so that it is known which CONNECT comes first.
        while received() == before {
            tokio::task::yield_now().await;
        }
        others.push(other);
    }
    // Who came last has what nobody has acknowledged, and is not thrown out.
    let mut last = others.pop().unwrap();
    let Packet::ConnAck(connack) = last.receive().await else {
        panic!("expected CONNACK")
    };
    assert!(connack.session_present);
    for round in 1..=ROUNDS {
        let message = last.receive_publish().await;
        assert_eq!(message.payload, round.to_string().as_bytes());
        last.acknowledge(&message).await;
    }
    last.expect_nothing().await;
    for mut other in others {
        assert!(matches!(other.receive().await, Packet::ConnAck(_)));
        while other.receive_or_end().await.is_some() {}
    }
}

/// [LESSON-M9]
#[tokio::test]
async fn newcomers_are_accepted_beside_many_that_break_off_or_say_nothing() {
    let broker = TestBroker::start().await;
    let mut silent = Vec::new();
    for round in 0..200 {
        // Broken off before a byte, in the middle of CONNECT, and in silence.
        drop(TcpStream::connect(broker.address).await.unwrap());
        let mut half = broker.open(V5).await;
        half.send_bytes(b"\x10\x20\x00\x04MQ").await;
        half.vanish();
        silent.push(TcpStream::connect(broker.address).await.unwrap());
        if round % 20 == 0 {
            let mut client = broker.connect(V5, "good").await;
            client.publish(publish("t", "x", 1, 1)).await;
            client.disconnect().await;
        }
    }
    let mut client = broker.connect(V5, "good").await;
    client.publish(publish("t", "x", 1, 1)).await;
}
