//! SUBSCRIBE and UNSUBSCRIBE.

use std::num::NonZeroU32;

use tokio::net::TcpSocket;
use weir::broker::{BrokerSettings, ListenerSettings};
use weir_mqtt::{
    Connect, Packet, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionFilter,
    SubscriptionId, SubscriptionRequest, Unsubscribe, Utf8,
};

use crate::client::{ALL, Client, TestBroker, V3_1, V3_1_1, V5, id, publish, qos, until};

/// [MQTT-3.3.4-2] [MQTT3-3.3.5-1]
/// [LESSON-M1]
#[tokio::test]
async fn overlapping_subscriptions_give_one_copy_with_the_highest_qos() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("a/+", 0).await;
        subscriber.subscribe("a/b", 1).await;
        subscriber.subscribe("a/#", 0).await;
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(publish("a/b", "x", 2, 1)).await;
        let message = subscriber.receive_publish().await;
        assert_eq!(message.qos, QoS::AtLeastOnce);
        subscriber.acknowledge(&message).await;
        subscriber.expect_nothing().await;
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[tokio::test]
async fn every_matching_subscription_identifier_comes_along() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    for (filter, number) in [("a/+", 3), ("a/#", 268_435_455), ("b", 5)] {
        let requests = vec![SubscriptionRequest {
            filter: SubscriptionFilter::parse(filter).unwrap(),
            options: SubscribeOptions::with_qos(QoS::AtMostOnce),
        }];
        let mut subscribe = Subscribe {
            packet_id: id(1),
            requests,
            properties: Some(Box::default()),
        };
        subscribe
            .properties
            .as_mut()
            .unwrap()
            .subscription_identifier = SubscriptionId::new(number);
        subscriber.send(Packet::Subscribe(subscribe)).await;
        assert!(matches!(subscriber.receive().await, Packet::SubAck(_)));
    }
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(publish("a/x", "x", 0, 0)).await;
    let properties = subscriber.receive_publish().await.properties.unwrap();
    let mut ids: Vec<u32> = properties
        .subscription_identifiers
        .iter()
        .map(|id| id.get())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 268_435_455]);
}

/// [MQTT-3.8.3-3]
#[tokio::test]
async fn no_local_keeps_own_messages_away() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "both").await;
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::default()
    };
    client.subscribe_with("t", options).await;
    client.publish(publish("t", "own", 1, 1)).await;
    client.expect_nothing().await;
    let mut other = broker.connect(V5, "other").await;
    other.publish(publish("t", "other", 0, 0)).await;
    assert_eq!(&client.receive_publish().await.payload[..], b"other");
}

/// [MQTT-3.10.4-2] [MQTT-3.10.4-5]
#[tokio::test]
async fn after_unsubscribe_nothing_comes() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    assert_eq!(subscriber.unsubscribe("t").await, [ReasonCode::Success]);
    assert_eq!(
        subscriber.unsubscribe("t").await,
        [ReasonCode::NoSubscriptionExisted]
    );
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(publish("t", "x", 0, 0)).await;
    subscriber.expect_nothing().await;
    assert_eq!(broker.broker.stats().subscriptions.get(), 0);
}

#[tokio::test]
async fn a_shared_group_gets_each_message_once_in_turns() {
    let broker = TestBroker::start().await;
    let (mut one, mut two) = (
        broker.connect(V5, "one").await,
        broker.connect(V5, "two").await,
    );
    one.subscribe("$share/g/t/#", 1).await;
    two.subscribe("$share/g/t/#", 1).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=10 {
        publisher
            .publish(publish("t/x", &number.to_string(), 1, number))
            .await;
    }
    let mut all = Vec::new();
    for member in [&mut one, &mut two] {
        for _ in 0..5 {
            let message = member.receive_publish().await;
            member.acknowledge(&message).await;
            all.push(
                String::from_utf8(message.payload.to_vec())
                    .unwrap()
                    .parse::<u16>()
                    .unwrap(),
            );
        }
        member.expect_nothing().await;
    }
    all.sort_unstable();
    assert_eq!(all, (1..=10).collect::<Vec<_>>());
    // A member that leaves is not waited for.
    one.disconnect().await;
    for number in 1..=4 {
        publisher.publish(publish("t/x", "y", 1, number)).await;
        let message = two.receive_publish().await;
        two.acknowledge(&message).await;
    }
}

#[tokio::test]
async fn subscriptions_above_the_limit_are_refused_one_by_one() {
    let settings = BrokerSettings {
        max_subscriptions_per_client: 2,
        max_topic_levels: 3,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut client = broker.connect(V5, "a").await;
    assert_eq!(
        client.subscribe("a/b/c/d", 1).await,
        [ReasonCode::TopicFilterInvalid]
    );
    assert_eq!(client.subscribe("a", 1).await, [ReasonCode::GrantedQoS1]);
    assert_eq!(client.subscribe("b", 1).await, [ReasonCode::GrantedQoS1]);
    assert_eq!(client.subscribe("c", 1).await, [ReasonCode::QuotaExceeded]);
    assert_eq!(
        client.subscribe("a", 2).await,
        [ReasonCode::GrantedQoS2],
        "an old one may change"
    );
    let stats = broker.broker.stats();
    assert_eq!(stats.subscriptions.get(), 2);
    let refused: Vec<_> = stats.subscribes_refused.nonzero().collect();
    let code = ReasonCode::as_u8;
    let expected = [
        (code(ReasonCode::TopicFilterInvalid), 1),
        (code(ReasonCode::QuotaExceeded), 1),
    ];
    assert_eq!(refused, expected);
}

fn request(filter: &str, level: u8) -> SubscriptionRequest {
    SubscriptionRequest {
        filter: SubscriptionFilter::parse(filter).unwrap(),
        options: SubscribeOptions::with_qos(qos(level)),
    }
}

async fn subscribe_all(client: &mut Client, requests: Vec<SubscriptionRequest>) -> Vec<ReasonCode> {
    client
        .send(Packet::Subscribe(Subscribe {
            packet_id: id(7),
            requests,
            properties: None,
        }))
        .await;
    match client.receive().await {
        Packet::SubAck(suback) => suback.reasons,
        other => panic!("expected SUBACK, got {other:?}"),
    }
}

/// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT3-3.8.4-4]
#[tokio::test]
async fn a_filter_that_stands_many_times_in_one_subscribe_counts_once_with_its_last_options() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut publisher = broker.connect(version, "pub").await;
        let mut message = publish("t", "kept", 1, 1);
        message.retain = true;
        publisher.publish(message).await;
        let mut subscriber = broker.connect(version, "sub").await;
        let mut requests = vec![request("t", 0); 500];
        requests.push(request("t", 1));
        let reasons = subscribe_all(&mut subscriber, requests).await;
        assert_eq!(reasons.len(), 501);
        assert_eq!(reasons[0], ReasonCode::Success);
        assert_eq!(reasons[500], ReasonCode::GrantedQoS1);
        let message = subscriber.receive_publish().await;
        assert_eq!(message.qos, QoS::AtLeastOnce);
        subscriber.acknowledge(&message).await;
        subscriber.expect_nothing().await;
        assert_eq!(broker.broker.stats().subscriptions.get(), 1);
        subscriber.disconnect().await;
        publisher.disconnect().await;
    }
}

/// [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT3-3.9.3-2]
#[tokio::test]
async fn more_filters_in_one_subscribe_than_a_session_may_have_are_refused() {
    let settings = BrokerSettings {
        max_subscriptions_per_client: 3,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for version in ALL {
        let refused = match version {
            V5 => ReasonCode::QuotaExceeded,
            V3_1_1 => ReasonCode::UnspecifiedError,
            // MQTT 3.1 has no failure in SUBACK.
            V3_1 => ReasonCode::Success,
        };
        let mut client = broker.connect(version, "a").await;
        let repeated = vec![request("a", 0); 5];
        let ok = ReasonCode::Success;
        assert_eq!(
            subscribe_all(&mut client, repeated).await,
            [ok, ok, ok, refused, refused]
        );
        let others = vec![request("b", 0), request("c", 0), request("d", 0)];
        assert_eq!(subscribe_all(&mut client, others).await, [ok, ok, refused]);
        assert_eq!(broker.broker.stats().subscriptions.get(), 3);
        client.disconnect().await;
    }
}

#[tokio::test]
async fn one_answer_has_a_code_for_each_filter_in_their_order() {
    // [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
    // [MQTT3-3.8.4-1] [MQTT3-3.8.4-2] [MQTT3-3.8.4-4] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT3-3.9.3-2]
    let settings = BrokerSettings {
        max_topic_levels: 3,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for version in ALL {
        let mut client = broker.connect(version, "a").await;
        let filters = [
            ("a", 1),
            ("a/b/c/d", 1),
            ("b", 0),
            ("c", 2),
            ("e/f/g/h/i", 0),
        ];
        let mut body = vec![0x12, 0x34];
        body.extend(crate::raw::properties(version, b""));
        for (filter, level) in filters {
            body.extend(crate::raw::text(filter.as_bytes()));
            body.push(level);
        }
        client.send_bytes(&crate::raw::frame(0x82, &body)).await;
        let head = client.receive_bytes(4).await;
        assert_eq!((head[0], &head[2..]), (0x90, &b"\x12\x34"[..]));
        let rest = client.receive_bytes(usize::from(head[1]) - 2).await;
        let expected: [u8; 5] = match version {
            V5 => [1, 0x8F, 0, 2, 0x8F],
            V3_1_1 => [1, 0x80, 0, 2, 0x80],
            // MQTT 3.1 has no failure in SUBACK.
            V3_1 => [1, 1, 0, 2, 0],
        };
        // Of MQTT 5 its properties stand before the codes.
        let codes = if version.is_v5() {
            &rest[1 + usize::from(rest[0])..]
        } else {
            &rest
        };
        assert_eq!(codes, expected);
        // As granted.
        let mut publisher = broker.connect(version, "pub").await;
        for (topic, level) in [("a", 1), ("b", 0), ("c", 2)] {
            publisher.publish(publish(topic, "x", 2, 1)).await;
            let message = client.receive_publish().await;
            assert_eq!((&*message.topic, message.qos.as_u8()), (topic, level));
            client.acknowledge(&message).await;
        }
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn subscribing_again_replaces_with_retained_messages_again_and_loses_nothing() {
    // [MQTT-3.8.4-3] [MQTT-3.8.4-4] [MQTT3-3.8.4-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        // It does not wait for acknowledgements, as a client of MQTT 5 must.
        let mut publisher = broker.connect(V3_1_1, "pub").await;
        let mut kept = publish("t/kept", "kept", 0, 0);
        kept.retain = true;
        publisher.publish(kept).await;
        let mut subscriber = broker.connect(version, "sub").await;
        for level in [2, 0, 1] {
            subscriber.subscribe("t/+", level).await;
            assert!(subscriber.receive_publish().await.retain);
            // Replaced: one copy, with the new QoS.
            publisher.publish(publish("t/x", "once", 2, 1)).await;
            let message = subscriber.receive_publish().await;
            assert_eq!(message.qos.as_u8(), level);
            subscriber.acknowledge(&message).await;
            subscriber.expect_nothing().await;
        }
        // Messages on their way while the subscription is replaced again and again.
        let mut expected = Vec::new();
        for number in 1..=50 {
            let payload = number.to_string();
            publisher
                .send(Packet::Publish(publish("t/x", &payload, 1, number)))
                .await;
            let requests = vec![request("t/+", 1)];
            subscriber
                .send(Packet::Subscribe(Subscribe {
                    packet_id: id(number),
                    requests,
                    properties: None,
                }))
                .await;
            expected.push(payload.into_bytes());
        }
        let (mut received, mut retained, mut granted) = (Vec::new(), 0, 0);
        while received.len() < 50 || retained < 50 || granted < 50 {
            match subscriber.receive().await {
                Packet::SubAck(_) => granted += 1,
                Packet::Publish(message) if message.retain => retained += 1,
                Packet::Publish(message) => {
                    received.push(message.payload.to_vec());
                    subscriber.acknowledge(&message).await;
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(received, expected);
        subscriber.expect_nothing().await;
    }
}

#[tokio::test]
async fn answers_larger_than_the_client_takes_are_not_sent() {
    // [MQTT-3.1.2-24]
    let broker = TestBroker::start().await;
    let connect = |size| {
        let mut connect = Connect::new(V5, Utf8::from("small"));
        connect.properties.maximum_packet_size = NonZeroU32::new(size);
        connect
    };
    let mut client = broker.open(V5).await;
    client.send(Packet::Connect(Box::new(connect(8)))).await;
    assert_eq!(client.receive_or_end().await, None);
    assert_eq!(broker.broker.stats().sessions.get(), 0);

    let (mut client, _) = broker.connect_with(connect(60)).await;
    let requests: Vec<_> = (0..60).map(|n| request(&n.to_string(), 0)).collect();
    let filters = requests.iter().map(|one| one.filter.clone()).collect();
    client
        .send(Packet::Subscribe(Subscribe {
            packet_id: id(1),
            requests,
            properties: None,
        }))
        .await;
    client.expect_disconnect(ReasonCode::PacketTooLarge).await;

    let (mut client, _) = broker.connect_with(connect(60)).await;
    client
        .send(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(1),
            filters,
            properties: None,
        }))
        .await;
    client.expect_disconnect(ReasonCode::PacketTooLarge).await;
}

#[tokio::test]
async fn a_flood_of_subscribes_whose_answers_nobody_reads_is_left_in_the_socket() {
    let settings = BrokerSettings {
        max_outbox_bytes: 10_000,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut good = broker.connect(V5, "good").await;
    good.subscribe("good", 0).await;
    let mut publisher = broker.connect(V5, "publisher").await;
    let mut hostile = through_small_buffers(&broker).await;
    hostile.hello("hostile").await;
    let flood = crate::raw::subscribe(V5, b"hostile/+", 0).repeat(1000);
    let flooding = tokio::spawn(async move { while hostile.try_send_bytes(&flood).await {} });
    let handled = || broker.broker.stats().handled_packets.get();
    let mut before = 0;
    loop {
        for _ in 0..100 {
            publisher.publish(publish("good", "hello", 1, 1)).await;
            good.receive_publish().await;
        }
        // The good one is served on and on; the flood is read no further.
        let now = handled();
        if now - std::mem::replace(&mut before, now) <= 100 {
            break;
        }
    }
    assert_eq!(broker.broker.stats().subscriptions.get(), 2);
    flooding.abort();
    // That was its end, with all that it had.
    until(|| broker.broker.stats().subscriptions.get() == 1).await;
}

/// A connection that is full after some thousand bytes, of which nothing has been said.
async fn through_small_buffers(broker: &TestBroker) -> Client {
    const SMALL: u32 = 4096;
    let inside = TcpSocket::new_v4().unwrap();
    inside.set_send_buffer_size(SMALL).unwrap();
    inside.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = inside.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let settings = ListenerSettings {
        name: "small".into(),
        max_connections: 1,
        allow_anonymous: true,
        ..ListenerSettings::default()
    };
    broker.listen(listener, settings);
    let outside = TcpSocket::new_v4().unwrap();
    outside.set_recv_buffer_size(SMALL).unwrap();
    Client::over(outside.connect(address).await.unwrap(), V5)
}
