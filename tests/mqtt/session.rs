//! Sessions that outlive their connection.

use std::time::Duration;

use weir::broker::BrokerSettings;
use weir::stats::DropReason;
use weir_mqtt::{
    Connect, Packet, PubRec, Publish, QoS, ReasonCode, Subscribe, SubscribeOptions,
    SubscriptionFilter, SubscriptionRequest, Unsubscribe, Utf8,
};

use crate::client::{ALL, TestBroker, V3_1, V3_1_1, V5, id, persistent, publish};

async fn wait_until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it never came true");
}

/// [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-3.2.2-3] [MQTT3-3.1.2-4] [MQTT3-3.1.2-5] [MQTT3-3.1.2-6]
#[tokio::test]
async fn messages_wait_for_a_client_that_comes_back() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut client, connack) = broker.connect_with(persistent(version, "sub")).await;
        assert!(!connack.session_present);
        client.subscribe("t", 2).await;
        client.disconnect().await;
        let mut publisher = broker.connect(version, "pub").await;
        for (number, level) in [(1, 1), (2, 0), (3, 2)] {
            publisher
                .publish(publish("t", &number.to_string(), level, number))
                .await;
        }
        let (mut client, connack) = broker.connect_with(persistent(version, "sub")).await;
        assert_eq!(connack.session_present, version > V3_1);
        // QoS 0 does not wait.
        for payload in ["1", "3"] {
            let message = client.receive_publish().await;
            assert_eq!(&message.payload[..], payload.as_bytes());
            assert!(!message.dup, "it is sent for the first time");
            client.acknowledge(&message).await;
        }
        client.expect_nothing().await;
        client.disconnect().await;
        let (client, connack) = broker
            .connect_with(Connect::new(version, Utf8::from("sub")))
            .await;
        assert!(!connack.session_present, "a clean start forgets");
        client.disconnect().await;
    }
    assert_eq!(broker.broker.stats().drops(DropReason::OfflineQos0), 3);
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_order_with_its_identifiers() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut client, _) = broker.connect_with(persistent(version, "sub")).await;
        client.subscribe("t", 2).await;
        let mut publisher = broker.connect(version, "pub").await;
        for (number, level) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
            publisher
                .publish(publish("t", &number.to_string(), level, number))
                .await;
        }
        let mut first: Vec<Publish> = Vec::new();
        for _ in 0..4 {
            first.push(client.receive_publish().await);
        }
        // The third gets as far as PUBREC, and the answer is seen.
        client
            .send(Packet::PubRec(PubRec::success(first[2].packet_id.unwrap())))
            .await;
        assert!(matches!(client.receive().await, Packet::PubRel(_)));
        client.vanish();
        let (mut client, _) = broker.connect_with(persistent(version, "sub")).await;
        for at in [0, 1] {
            let again = client.receive_publish().await;
            assert!(again.dup);
            assert_eq!(
                Publish {
                    dup: false,
                    ..again
                },
                first[at]
            );
        }
        let Packet::PubRel(pubrel) = client.receive().await else {
            panic!("expected PUBREL")
        };
        assert_eq!(Some(pubrel.packet_id), first[2].packet_id);
        let again = client.receive_publish().await;
        assert_eq!(again.packet_id, first[3].packet_id);
        client.disconnect().await;
        broker.connect(version, "sub").await.disconnect().await;
    }
}

#[tokio::test]
async fn a_qos2_identifier_is_remembered_over_connections() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    let (mut publisher, _) = broker.connect_with(persistent(V5, "pub")).await;
    publisher
        .send(Packet::Publish(publish("t", "once", 2, 1)))
        .await;
    publisher.receive_pubrec(id(1)).await;
    publisher.vanish();
    let (mut publisher, _) = broker.connect_with(persistent(V5, "pub")).await;
    let mut again = publish("t", "once", 2, 1);
    again.dup = true;
    publisher.publish(again).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"once");
    subscriber.expect_nothing().await;
}

/// [MQTT-4.1.0-2] [MQTT-3.1.2-23]
#[tokio::test]
async fn a_session_ends_when_it_expires() {
    let broker = TestBroker::start().await;
    let mut connect = persistent(V5, "sub");
    connect.properties.session_expiry_interval_s = Some(1);
    // [MQTT-4.1.0-1] Not while there is a connection, however short it is to live after it.
    let mut stays = connect.clone();
    stays.client_id = Utf8::from("stays");
    let (mut stays, _) = broker.connect_with(stays).await;
    stays.subscribe("t", 1).await;
    let (mut client, _) = broker.connect_with(connect.clone()).await;
    client.subscribe("t", 1).await;
    client.disconnect().await;
    let stats = broker.broker.stats().clone();
    assert_eq!((stats.sessions.get(), stats.subscriptions.get()), (2, 2));
    wait_until(|| stats.sessions.get() == 1).await;
    assert_eq!(stats.subscriptions.get(), 1);
    let (mut client, connack) = broker.connect_with(connect).await;
    assert!(!connack.session_present);
    client.publish(publish("t", "x", 1, 1)).await;
    assert_eq!(&stays.receive_publish().await.payload[..], b"x");
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[tokio::test]
async fn an_expired_message_is_not_delivered_and_a_living_one_counts_down() {
    let broker = TestBroker::start().await;
    let (mut client, _) = broker.connect_with(persistent(V5, "sub")).await;
    client.subscribe("t", 1).await;
    client.disconnect().await;
    let mut publisher = broker.connect(V5, "pub").await;
    for (payload, seconds) in [("short", 1), ("long", 100)] {
        let mut message = publish("t", payload, 1, 1);
        message
            .properties
            .insert(Box::default())
            .message_expiry_interval_s = Some(seconds);
        publisher.publish(message).await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (mut client, _) = broker.connect_with(persistent(V5, "sub")).await;
    let message = client.receive_publish().await;
    assert_eq!(&message.payload[..], b"long");
    let left = message
        .properties
        .unwrap()
        .message_expiry_interval_s
        .unwrap();
    assert!((95..100).contains(&left), "{left} s");
    assert_eq!(broker.broker.stats().drops(DropReason::Expired), 1);
}

#[tokio::test]
async fn a_clean_session_lives_as_long_as_its_connection() {
    // [MQTT-4.1.0-1] [MQTT3-4.1.0-1] [MQTT3-4.1.0-2] [MQTT3-3.1.2-6]
    let broker = TestBroker::start().await;
    let stats = broker.broker.stats().clone();
    for version in ALL {
        let mut client = broker.connect(version, "clean").await;
        client.subscribe("t", 1).await;
        let mut publisher = broker.connect(version, "pub").await;
        for number in 1..=3 {
            publisher.publish(publish("t", "x", 1, number)).await;
            let message = client.receive_publish().await;
            client.acknowledge(&message).await;
        }
        publisher.disconnect().await;
        client.vanish();
        wait_until(|| stats.sessions.get() == 0).await;
        assert_eq!(stats.subscriptions.get(), 0);
        let (mut client, connack) = broker.connect_with(persistent(version, "clean")).await;
        assert!(!connack.session_present);
        client.publish(publish("t", "x", 1, 1)).await;
        client.expect_nothing().await;
        client.disconnect().await;
        broker.connect(version, "clean").await.disconnect().await;
        wait_until(|| stats.sessions.get() == 0).await;
    }
}

#[tokio::test]
async fn the_brokers_disconnect_says_nothing_of_the_expiry() {
    // [MQTT-3.14.2-2]
    let broker = TestBroker::start().await;
    let (first, _) = broker.connect_with(persistent(V5, "a")).await;
    let (mut second, _) = broker.connect_with(persistent(V5, "a")).await;
    first.expect_disconnect(ReasonCode::SessionTakenOver).await;
    second.send_bytes(b"\0\0").await;
    second.expect_disconnect(ReasonCode::MalformedPacket).await;
}

/// [MQTT-3.8.4-6] [MQTT-3.1.2-4] [MQTT-3.10.4-6]
#[tokio::test]
async fn a_session_of_very_many_filters_begins_and_ends_as_a_whole() {
    const MANY: usize = 5000;
    let settings = BrokerSettings {
        max_subscriptions_per_client: MANY,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let count = || broker.broker.stats().subscriptions.get();
    let mut publisher = broker.connect(V5, "pub").await;
    let filters = || (0..MANY).map(|number| SubscriptionFilter::parse(&format!("t/{number}")));
    let options = SubscribeOptions::with_qos(QoS::AtLeastOnce);
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: id(1),
        requests: filters()
            .map(|filter| SubscriptionRequest {
                filter: filter.unwrap(),
                options,
            })
            .collect(),
        properties: None,
    });
    let unsubscribe = Packet::Unsubscribe(Unsubscribe {
        packet_id: id(2),
        filters: filters().map(Result::unwrap).collect(),
        properties: None,
    });
    for round in 0..3 {
        let mut connect = persistent(V5, "many");
        connect.properties.session_expiry_interval_s = Some(if round == 2 { 1 } else { 100 });
        let (mut client, connack) = broker.connect_with(connect).await;
        assert!(!connack.session_present);
        client.send(subscribe.clone()).await;
        let Packet::SubAck(suback) = client.receive().await else {
            panic!("expected SUBACK")
        };
        assert_eq!(suback.reasons, vec![ReasonCode::GrantedQoS1; MANY]);
        assert_eq!(count(), MANY as u64);
        for topic in ["t/0", "t/4999"] {
            publisher.publish(publish(topic, "x", 1, 1)).await;
            let message = client.receive_publish().await;
            client.acknowledge(&message).await;
        }
        match round {
            0 => {
                client.send(unsubscribe.clone()).await;
                let Packet::UnsubAck(unsuback) = client.receive().await else {
                    panic!("expected UNSUBACK")
                };
                assert_eq!(unsuback.reasons, vec![ReasonCode::Success; MANY]);
                assert_eq!(count(), 0);
                client.disconnect().await;
                let again = Connect::new(V5, Utf8::from("many"));
                broker.connect_with(again).await.0.disconnect().await;
            }
            1 => {
                let again = Connect::new(V5, Utf8::from("many"));
                let (mut client, connack) = broker.connect_with(again).await;
                assert!(!connack.session_present);
                publisher.publish(publish("t/4999", "x", 1, 1)).await;
                client.expect_nothing().await;
                client.disconnect().await;
                wait_until(|| count() == 0).await;
            }
            _ => {
                client.disconnect().await;
                wait_until(|| broker.broker.stats().sessions.get() == 1).await;
                let reason = publisher.publish(publish("t/4999", "x", 1, 1)).await;
                assert_eq!(reason, ReasonCode::NoMatchingSubscribers);
                wait_until(|| count() == 0).await;
            }
        }
    }
}

/// [LESSON-21]
#[tokio::test]
async fn the_queue_of_an_absent_client_is_bounded_and_drops_are_counted() {
    let settings = BrokerSettings {
        max_queued: 3,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let (mut client, _) = broker.connect_with(persistent(V3_1_1, "sub")).await;
    client.subscribe("t", 1).await;
    client.disconnect().await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=5 {
        publisher
            .publish(publish("t", &number.to_string(), 1, number))
            .await;
    }
    assert_eq!(broker.broker.stats().drops(DropReason::QueueFull), 2);
    let (mut client, _) = broker.connect_with(persistent(V3_1_1, "sub")).await;
    for payload in ["1", "2", "3"] {
        let message = client.receive_publish().await;
        assert_eq!(&message.payload[..], payload.as_bytes());
    }
    client.expect_nothing().await;
}
