//! Chapters 4.3, 4.4 and 4.6: the exchanges of QoS 1 and 2 in both directions, what is sent again and what is not.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use weir::stats::DropReason;
use weir_mqtt::{Packet, PubAck, PubComp, PubRec, PubRel, Publish, QoS, ReasonCode};

use crate::client::{ALL, Client, TestBroker, V3_1_1, V5, id, persistent, publish};

/// A subscriber with a session that is kept, and a publisher.
async fn pair(
    broker: &TestBroker,
    version: weir_mqtt::ProtocolVersion,
    level: u8,
) -> (Client, Client) {
    broker.connect(version, "sub").await.disconnect().await;
    let (mut subscriber, _) = broker.connect_with(persistent(version, "sub")).await;
    subscriber.subscribe("t", level).await;
    (subscriber, broker.connect(version, "pub").await)
}

async fn come_back(broker: &TestBroker, client: Client) -> Client {
    let version = client.version;
    client.vanish();
    let (client, _) = broker.connect_with(persistent(version, "sub")).await;
    client
}

#[tokio::test]
async fn deliveries_take_identifiers_that_are_not_in_use() {
    // [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT3-2.3.1-4]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut subscriber, mut publisher) = pair(&broker, version, 2).await;
        let mut in_use = BTreeSet::new();
        let mut kept: Vec<Publish> = Vec::new();
        for number in 1..=40u16 {
            let level = 1 + u8::try_from(number % 2).unwrap();
            publisher
                .publish(publish("t", "x", level, number.max(1)))
                .await;
            let message = subscriber.receive_publish().await;
            // [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT3-4.3.2-1] [MQTT3-4.3.3-1]
            assert_eq!((message.qos.as_u8(), message.dup), (level, false));
            let packet_id = message.packet_id.unwrap();
            assert!(in_use.insert(packet_id), "{packet_id} is in use");
            kept.push(message);
            // At most ten are in flight; they are acknowledged in no order.
            if kept.len() == 10 {
                let message = kept.swap_remove(usize::from(number) % 10);
                subscriber.acknowledge(&message).await;
                in_use.remove(&message.packet_id.unwrap());
            }
        }
    }
}

#[tokio::test]
async fn qos_0_is_sent_as_such_and_without_identifier() {
    // [MQTT-2.2.1-2] [MQTT-3.3.1-2] [MQTT-4.3.1-1] [MQTT3-2.3.1-5] [MQTT3-3.3.1-2] [MQTT3-4.3.1-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut subscriber, mut publisher) = pair(&broker, version, 0).await;
        for level in 0..=2 {
            publisher.publish(publish("t", "x", level, 1)).await;
            let end: &[u8] = if version.is_v5() { b"\0x" } else { b"x" };
            let length = u8::try_from(3 + end.len()).unwrap();
            let expected = [&[0x30, length], &b"\0\x01t"[..], end].concat();
            assert_eq!(subscriber.receive_bytes(expected.len()).await, expected);
        }
    }
}

#[tokio::test]
async fn every_publish_is_answered_as_its_qos_wants() {
    // [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT3-3.3.4-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (_subscriber, mut client) = pair(&broker, version, 0).await;
        client.send(Packet::Publish(publish("t", "x", 0, 0))).await;
        client.expect_nothing().await;
        client.send(Packet::Publish(publish("t", "x", 1, 7))).await;
        assert_eq!(
            client.receive().await,
            Packet::PubAck(PubAck::success(id(7)))
        );
        client.send(Packet::Publish(publish("t", "x", 2, 8))).await;
        assert_eq!(
            client.receive().await,
            Packet::PubRec(PubRec::success(id(8)))
        );
        client.send(Packet::PubRel(PubRel::success(id(8)))).await;
        assert_eq!(
            client.receive().await,
            Packet::PubComp(PubComp::success(id(8)))
        );
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn an_identifier_means_a_new_message_once_its_exchange_is_over() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut subscriber, mut publisher) = pair(&broker, version, 0).await;
        // [MQTT-4.3.2-5] [MQTT3-4.3.2-2] Whatever DUP says.
        // [MQTT-4.3.3-12] [MQTT3-4.3.3-2]
        for level in [1, 2] {
            for (payload, dup) in [("first", false), ("second", true), ("third", false)] {
                let mut message = publish("t", payload, level, 5);
                message.dup = dup;
                publisher.publish(message).await;
                let received = subscriber.receive_publish().await;
                assert_eq!(received.payload, payload.as_bytes());
                // [MQTT-3.3.1-3] [MQTT3-3.3.1-3]
                assert!(!received.dup);
            }
        }
    }
    // [MQTT-4.3.3-9] After a refusal too: nobody waits for PUBREL.
    let (mut subscriber, mut publisher) = pair(&broker, V5, 0).await;
    let refused = publish("$SYS/x", "refused", 2, 6);
    publisher.send(Packet::Publish(refused)).await;
    assert_eq!(
        publisher.receive_pubrec(id(6)).await,
        ReasonCode::NotAuthorized
    );
    publisher.publish(publish("t", "new", 2, 6)).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"new");
}

#[tokio::test]
async fn dup_of_a_delivery_does_not_come_from_the_publisher() {
    // [MQTT-3.3.1-3] [MQTT3-3.3.1-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut subscriber, mut publisher) = pair(&broker, version, 2).await;
        for level in [1, 2] {
            let mut message = publish("t", "x", level, 1);
            message.dup = true;
            publisher.publish(message).await;
            let received = subscriber.receive_publish().await;
            assert!(!received.dup);
            subscriber.acknowledge(&received).await;
        }
    }
}

#[tokio::test]
async fn what_was_sent_is_sent_again_over_the_next_connection_and_only_there() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut subscriber, mut publisher) = pair(&broker, version, 2).await;
        publisher.publish(publish("t", "1", 1, 1)).await;
        publisher.publish(publish("t", "2", 2, 2)).await;
        let one = subscriber.receive_publish().await;
        let two = subscriber.receive_publish().await;
        subscriber.expect_nothing().await;
        // [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT3-4.3.2-1] [MQTT3-4.3.3-1]
        for _ in 0..2 {
            subscriber = come_back(&broker, subscriber).await;
            for message in [&one, &two] {
                let again = subscriber.receive_publish().await;
                let expected = Publish {
                    dup: true,
                    ..message.clone()
                };
                assert_eq!(again, expected);
            }
            subscriber.expect_nothing().await;
        }
        subscriber.acknowledge(&one).await;
        let received = PubRec::success(two.packet_id.unwrap());
        subscriber.send(Packet::PubRec(received)).await;
        // [MQTT-4.3.3-4] [MQTT-2.2.1-5] [MQTT3-2.3.1-6]
        let release = Packet::PubRel(PubRel::success(two.packet_id.unwrap()));
        assert_eq!(subscriber.receive().await, release);
        subscriber.expect_nothing().await;
        // [MQTT-4.3.3-5] [MQTT-4.3.3-6] PUBREL again, PUBLISH no more.
        for _ in 0..2 {
            subscriber = come_back(&broker, subscriber).await;
            assert_eq!(subscriber.receive().await, release);
            subscriber.expect_nothing().await;
        }
        let completed = PubComp::success(two.packet_id.unwrap());
        subscriber.send(Packet::PubComp(completed)).await;
        subscriber.expect_nothing().await;
        subscriber = come_back(&broker, subscriber).await;
        subscriber.expect_nothing().await;
    }
}

#[tokio::test]
async fn what_the_client_refused_is_not_sent_again() {
    // [MQTT-4.4.0-2]
    let broker = TestBroker::start().await;
    let (mut subscriber, mut publisher) = pair(&broker, V5, 2).await;
    let reason = ReasonCode::QuotaExceeded;
    for level in [1, 2] {
        publisher.publish(publish("t", "x", level, 1)).await;
        let packet_id = subscriber.receive_publish().await.packet_id.unwrap();
        let refusal = match level {
            1 => Packet::PubAck(PubAck::new(packet_id, reason)),
            _ => Packet::PubRec(PubRec::new(packet_id, reason)),
        };
        subscriber.send(refusal).await;
        // No PUBREL either.
        subscriber.expect_nothing().await;
    }
    let mut subscriber = come_back(&broker, subscriber).await;
    subscriber.expect_nothing().await;
    publisher.publish(publish("t", "next", 1, 1)).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"next");
}

#[tokio::test]
async fn an_exchange_that_began_goes_on_when_the_message_expires() {
    let broker = TestBroker::start().await;
    let (mut subscriber, mut publisher) = pair(&broker, V5, 2).await;
    let mut message = publish("t", "short", 2, 1);
    message
        .properties
        .insert(Box::default())
        .message_expiry_interval_s = Some(1);
    publisher.send(Packet::Publish(message.clone())).await;
    publisher.receive_pubrec(id(1)).await;
    let sent = subscriber.receive_publish().await;
    // One that is not begun shows when the time is over.
    let (mut absent, _) = broker.connect_with(persistent(V5, "absent")).await;
    absent.subscribe("other", 1).await;
    absent.disconnect().await;
    let mut other = publish("other", "short", 1, 2);
    other.properties = message.properties.clone();
    publisher.publish(other).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (mut absent, _) = broker.connect_with(persistent(V5, "absent")).await;
    absent.expect_nothing().await;
    // [MQTT-4.3.3-7]
    let mut subscriber = come_back(&broker, subscriber).await;
    let again = subscriber.receive_publish().await;
    assert_eq!(
        (again.packet_id, &again.payload[..]),
        (sent.packet_id, &b"short"[..])
    );
    subscriber.acknowledge(&again).await;
    // [MQTT-4.3.3-13]
    message.dup = true;
    publisher.send(Packet::Publish(message)).await;
    publisher.receive_pubrec(id(1)).await;
    publisher.send(Packet::PubRel(PubRel::success(id(1)))).await;
    assert_eq!(
        publisher.receive().await,
        Packet::PubComp(PubComp::success(id(1)))
    );
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn an_exchange_that_began_is_ended_when_the_message_has_become_too_large() {
    let broker = TestBroker::start().await;
    let (mut subscriber, mut publisher) = pair(&broker, V5, 2).await;
    let large = publish("t", &"x".repeat(100), 2, 1);
    publisher.publish(large).await;
    let packet_id = subscriber.receive_publish().await.packet_id.unwrap();
    // [MQTT-3.1.2-25] As if it had been sent: else the client, which still holds the identifier, would take the next
    // message that gets it for this one.
    let released = Packet::PubRel(PubRel::success(packet_id));
    for _ in 0..2 {
        subscriber.vanish();
        let mut connect = persistent(V5, "sub");
        connect.properties.maximum_packet_size = NonZeroU32::new(50);
        (subscriber, _) = broker.connect_with(connect).await;
        assert_eq!(subscriber.receive().await, released);
        subscriber.expect_nothing().await;
    }
    assert_eq!(broker.broker.stats().drops(DropReason::TooLarge), 1);
    // Whoever has never seen the message answers with Packet Identifier not found, which is no error here.
    let reason = ReasonCode::PacketIdentifierNotFound;
    let completed = Packet::PubComp(PubComp::new(packet_id, reason));
    subscriber.send(completed).await;
    let mut subscriber = come_back(&broker, subscriber).await;
    subscriber.expect_nothing().await;
    publisher.publish(publish("t", "next", 2, 2)).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"next");
}

#[tokio::test]
async fn an_accepted_message_is_in_the_session_of_everyone_who_wants_it() {
    // [MQTT-4.5.0-1] [MQTT-3.1.2-23] [MQTT3-4.5.0-1] [MQTT3-3.1.2-5] [MQTT3-4.1.0-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let names = ["one", "two", "three"];
        for name in names {
            let (mut client, _) = broker.connect_with(persistent(version, name)).await;
            client.subscribe("t/#", 2).await;
            client.disconnect().await;
        }
        let (mut present, _) = broker.connect_with(persistent(version, "one")).await;
        let mut publisher = broker.connect(version, "pub").await;
        for level in [1, 2] {
            publisher.publish(publish("t/x", "x", level, 1)).await;
        }
        for level in [1, 2] {
            let message = present.receive_publish().await;
            assert_eq!(message.qos.as_u8(), level);
            present.acknowledge(&message).await;
        }
        present.disconnect().await;
        for name in ["two", "three"] {
            let (mut client, _) = broker.connect_with(persistent(version, name)).await;
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let message = client.receive_publish().await;
                assert_eq!(message.qos, qos);
                client.acknowledge(&message).await;
            }
            client.expect_nothing().await;
            client.disconnect().await;
        }
        for name in names {
            broker.connect(version, name).await.disconnect().await;
        }
    }
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_is_acknowledged_to_who_cannot_be_told() {
    // [MQTT3-3.3.5-2]
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V3_1_1, "sub").await;
    subscriber.subscribe("$SYS/#", 0).await;
    let mut publisher = broker.connect(V3_1_1, "pub").await;
    for level in [1, 2] {
        publisher.publish(publish("$SYS/x", "x", level, 1)).await;
    }
    subscriber.expect_nothing().await;
}
