//! Shared subscriptions: who gets a message, and what becomes of one whose member is gone.

use std::collections::BTreeMap;

use weir::broker::BrokerSettings;
use weir::core::shared_groups::{Strategies, Strategy};
use weir_mqtt::{Disconnect, Packet, ProtocolVersion, PubAck, PubRec, Publish, ReasonCode};

use crate::client::{ALL, Client, TestBroker, V5, persistent, publish, until};

async fn broker(strategy: Strategy) -> TestBroker {
    let shared_groups = Strategies {
        default: strategy,
        by_group: BTreeMap::new(),
    };
    TestBroker::with(BrokerSettings {
        shared_groups,
        ..BrokerSettings::default()
    })
    .await
}

async fn member(broker: &TestBroker, version: ProtocolVersion, name: &str, filter: &str) -> Client {
    let mut client = broker.connect(version, name).await;
    client.subscribe(filter, 2).await;
    client
}

/// Everything that has come by now, acknowledged.
async fn drain(client: &mut Client) -> Vec<Publish> {
    client.send(Packet::PingReq).await;
    let mut all = Vec::new();
    loop {
        match client.receive().await {
            Packet::Publish(message) => {
                if let Some(id) = message.packet_id {
                    client.send(Packet::PubAck(PubAck::success(id))).await;
                }
                all.push(message);
            }
            Packet::PingResp => return all,
            other => panic!("unexpected {other:?}"),
        }
    }
}

fn topics(messages: &[Publish]) -> Vec<String> {
    messages.iter().map(|one| one.topic.to_string()).collect()
}

#[tokio::test]
async fn a_sticky_group_stays_with_one_member_until_it_is_gone() {
    for version in ALL {
        let broker = broker(Strategy::Sticky).await;
        let mut one = member(&broker, version, "one", "$share/g/t").await;
        let mut two = member(&broker, version, "two", "$share/g/t").await;
        let mut publisher = broker.connect(version, "pub").await;
        for number in 1..=5 {
            publisher.publish(publish("t", "x", 1, number)).await;
        }
        assert_eq!(drain(&mut one).await.len(), 5);
        assert!(drain(&mut two).await.is_empty());
        one.disconnect().await;
        for number in 1..=5 {
            publisher.publish(publish("t", "x", 1, number)).await;
        }
        assert_eq!(drain(&mut two).await.len(), 5);
    }
}

#[tokio::test]
async fn a_group_by_publisher_keeps_the_order_of_each() {
    let broker = broker(Strategy::HashClient).await;
    let mut members = Vec::new();
    for name in ["one", "two", "three"] {
        members.push(member(&broker, V5, name, "$share/g/#").await);
    }
    for number in 0..12 {
        let name = format!("pub{number}");
        let mut publisher = broker.connect(V5, &name).await;
        for id in 1..=3 {
            publisher
                .publish(publish(&name, &id.to_string(), 1, id))
                .await;
        }
    }
    let mut had = Vec::new();
    for member in &mut members {
        let got = topics(&drain(member).await);
        for three in got.chunks(3) {
            assert!(three.iter().all(|name| *name == three[0]) && three.len() == 3);
        }
        had.push(got.len());
    }
    assert_eq!(had.iter().sum::<usize>(), 36);
    assert!(had.iter().filter(|n| **n > 0).count() > 1, "{had:?}");
}

#[tokio::test]
async fn random_gives_each_message_to_one_member() {
    let broker = broker(Strategy::Random).await;
    let mut one = member(&broker, V5, "one", "$share/g/t").await;
    let mut two = member(&broker, V5, "two", "$share/g/t").await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=30 {
        publisher.publish(publish("t", "x", 1, number)).await;
    }
    let had = [drain(&mut one).await.len(), drain(&mut two).await.len()];
    assert_eq!(had[0] + had[1], 30);
    assert!(had.iter().all(|n| *n > 0), "{had:?}");
}

#[tokio::test]
async fn a_queue_is_one_group_for_all() {
    for version in ALL {
        let broker = TestBroker::start().await;
        let mut one = member(&broker, version, "one", "$queue/t").await;
        let mut two = member(&broker, version, "two", "$queue/t").await;
        let mut publisher = broker.connect(version, "pub").await;
        for number in 1..=4 {
            publisher.publish(publish("t", "x", 1, number)).await;
        }
        assert_eq!(drain(&mut one).await.len(), 2);
        assert_eq!(drain(&mut two).await.len(), 2);
        one.unsubscribe("$queue/t").await;
        publisher.publish(publish("t", "x", 1, 5)).await;
        assert_eq!(drain(&mut two).await.len(), 1);
    }
}

#[tokio::test]
async fn what_a_member_did_not_acknowledge_at_qos_1_goes_to_another_when_its_session_ends() {
    for version in ALL {
        let broker = TestBroker::start().await;
        let mut publisher = broker.connect(version, "pub").await;
        let mut gone = broker.connect(version, "gone").await;
        gone.subscribe("$share/g/t", 1).await;
        publisher.publish(publish("t", "precious", 1, 1)).await;
        gone.receive_publish().await;
        let mut heir = member(&broker, version, "heir", "$share/g/t").await;
        gone.vanish();
        let message = heir.receive_publish().await;
        assert_eq!(&message.payload[..], b"precious");
        assert!(!message.dup, "to this client it is new");
        heir.acknowledge(&message).await;
    }
}

#[tokio::test]
async fn what_was_begun_at_qos_2_goes_to_nobody_else() {
    // [MQTT-4.8.2-5]
    for version in ALL {
        let broker = TestBroker::start().await;
        let mut publisher = broker.connect(version, "pub").await;
        let mut gone = broker.connect(version, "gone").await;
        gone.subscribe("$share/g/t", 2).await;
        publisher.publish(publish("t", "x", 2, 1)).await;
        gone.receive_publish().await;
        let mut other = member(&broker, version, "other", "$share/g/t").await;
        gone.disconnect().await;
        other.expect_nothing().await;
    }
}

/// [MQTT-3.3.2-6]
#[tokio::test]
async fn what_another_gets_has_what_is_left_of_its_time() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut dead = member(&broker, V5, "dead", "$share/g/t").await;
    let mut message = publish("t", "x", 1, 1);
    let properties = message.properties.get_or_insert_default();
    properties.message_expiry_interval_s = Some(1000);
    publisher.publish(message).await;
    dead.receive_publish().await;
    let mut heir = member(&broker, V5, "heir", "$share/g/t").await;
    publisher.subscribe("clock", 0).await;
    // A message that comes after a second has passed, by the broker's own clock.
    let clock = publish("$delayed/1/clock", "x", 0, 0);
    publisher.send(Packet::Publish(clock)).await;
    publisher.receive_publish().await;
    dead.vanish();
    let properties = heir.receive_publish().await.properties.unwrap();
    let left = properties.message_expiry_interval_s.unwrap();
    assert!((1..1000).contains(&left), "{left}");
}

#[tokio::test]
async fn while_the_session_lives_the_message_waits_in_it() {
    // [MQTT-4.8.2-4]
    for level in [1, 2] {
        let broker = TestBroker::start().await;
        let mut publisher = broker.connect(V5, "pub").await;
        let (mut away, _) = broker.connect_with(persistent(V5, "away")).await;
        away.subscribe("$share/g/t", 2).await;
        publisher.publish(publish("t", "mine", level, 1)).await;
        away.receive_publish().await;
        let mut other = member(&broker, V5, "other", "$share/g/t").await;
        away.vanish();
        until(|| broker.broker.stats().sessions_connected.get() == 2).await;
        other.expect_nothing().await;
        let (mut back, connack) = broker.connect_with(persistent(V5, "away")).await;
        assert!(connack.session_present);
        let message = back.receive_publish().await;
        assert!(message.dup);
        back.acknowledge(&message).await;
    }
}

#[tokio::test]
async fn who_takes_its_own_session_over_keeps_what_it_had() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    let (mut first, _) = broker.connect_with(persistent(V5, "a")).await;
    first.subscribe("$share/g/t", 1).await;
    publisher.publish(publish("t", "mine", 1, 1)).await;
    first.receive_publish().await;
    let mut other = member(&broker, V5, "other", "$share/g/t").await;
    let (mut second, _) = broker.connect_with(persistent(V5, "a")).await;
    let message = second.receive_publish().await;
    assert!(message.dup);
    other.expect_nothing().await;
    first.expect_disconnect(ReasonCode::SessionTakenOver).await;
}

#[tokio::test]
async fn what_waited_for_an_absent_member_goes_to_another_when_its_session_ends() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    let (mut away, _) = broker.connect_with(persistent(V5, "away")).await;
    away.subscribe("$share/g/t", 2).await;
    away.disconnect().await;
    for level in [1, 2] {
        publisher.publish(publish("t", "x", level, 1)).await;
    }
    let mut heir = member(&broker, V5, "heir", "$share/g/t").await;
    heir.expect_nothing().await;
    // A clean start ends the session.
    let mut connect = persistent(V5, "away");
    connect.clean_start = true;
    let (mut fresh, _) = broker.connect_with(connect).await;
    for level in [1, 2] {
        let message = heir.receive_publish().await;
        assert_eq!(message.qos.as_u8(), level);
        heir.acknowledge(&message).await;
    }
    fresh.expect_nothing().await;
}

#[tokio::test]
async fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    // [MQTT-4.8.2-6]
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut one = member(&broker, V5, "one", "$share/g/t").await;
    for level in [1, 2] {
        publisher.publish(publish("t", "x", level, 1)).await;
        let id = one.receive_publish().await.packet_id.unwrap();
        let refused = ReasonCode::QuotaExceeded;
        one.send(match level {
            1 => Packet::PubAck(PubAck::new(id, refused)),
            _ => Packet::PubRec(PubRec::new(id, refused)),
        })
        .await;
    }
    let mut two = member(&broker, V5, "two", "$share/g/t").await;
    one.send(Packet::Disconnect(Disconnect::new(ReasonCode::Success)))
        .await;
    assert_eq!(one.receive_or_end().await, None);
    two.expect_nothing().await;
}
