//! PUBLISH in both directions.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use weir::broker::BrokerSettings;
use weir::pipeline::world::World;
use weir::pipeline::{LiveRule, LiveSink, Pipeline, Target};
use weir::project::rule_file::OnError;
use weir::stats::DropReason;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_mqtt::{Connect, Packet, PubRel, QoS, ReasonCode, TopicAlias, TopicName, Utf8};
use weir_rules::script::{ScriptLimits, Scripts};
use weir_rules::{Catalog, compile};

use crate::client::{ALL, TestBroker, V3_1_1, V5, id, persistent, publish, qos};

/// [MQTT-3.8.4-7] [MQTT-3.8.4-8] [MQTT3-3.8.4-5] [MQTT3-3.8.4-6]
#[tokio::test]
async fn every_qos_reaches_every_version_with_the_lower_of_both_qos() {
    let broker = TestBroker::start().await;
    for from in ALL {
        for to in ALL {
            for (published, granted) in [(0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)] {
                let mut subscriber = broker.connect(to, "sub").await;
                assert_eq!(
                    subscriber.subscribe("t/+", granted).await,
                    [ReasonCode::granted(qos(granted))]
                );
                let mut publisher = broker.connect(from, "pub").await;
                assert_eq!(
                    publisher.publish(publish("t/1", "x", published, 5)).await,
                    ReasonCode::Success
                );
                let message = subscriber.receive_publish().await;
                assert_eq!((&*message.topic, &message.payload[..]), ("t/1", &b"x"[..]));
                assert_eq!(message.qos, qos(published.min(granted)));
                assert!(!message.dup && !message.retain);
                subscriber.acknowledge(&message).await;
                subscriber.expect_nothing().await;
                subscriber.disconnect().await;
                publisher.disconnect().await;
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_qos2_publish_is_acknowledged_again_and_routed_once() {
    // [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT3-4.3.3-2]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("t", 0).await;
        let mut publisher = broker.connect(version, "pub").await;
        for dup in [false, true, true] {
            let mut message = publish("t", "once", 2, 7);
            message.dup = dup;
            publisher.send(Packet::Publish(message)).await;
            assert_eq!(publisher.receive_pubrec(id(7)).await, ReasonCode::Success);
        }
        publisher.send(Packet::PubRel(PubRel::success(id(7)))).await;
        assert!(matches!(publisher.receive().await, Packet::PubComp(_)));
        assert_eq!(&subscriber.receive_publish().await.payload[..], b"once");
        subscriber.expect_nothing().await;
        // The identifier is free again: the next message under it is a new one.
        publisher.publish(publish("t", "next", 2, 7)).await;
        assert_eq!(&subscriber.receive_publish().await.payload[..], b"next");
    }
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT3-4.6.0-5] [MQTT3-4.6.0-6]
#[tokio::test]
async fn messages_of_one_publisher_arrive_in_order_at_every_qos() {
    let settings = BrokerSettings {
        max_queued: 2000,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for (to, level) in [V3_1_1, V5]
        .into_iter()
        .flat_map(|to| [0, 1, 2].map(|level| (to, level)))
    {
        let mut subscriber = broker.connect(to, "sub").await;
        subscriber.subscribe("t", 2).await;
        let mut publisher = broker.connect(V3_1_1, "pub").await;
        let mut bytes = Vec::new();
        for number in 1..=1000 {
            let message = Packet::Publish(publish("t", &number.to_string(), level, number));
            weir_mqtt::codec::encode(&message, V3_1_1, &mut bytes).unwrap();
        }
        publisher.send_bytes(&bytes).await;
        for number in 1..=1000 {
            // PUBREL and PUBCOMP of others stand between.
            let message = loop {
                match subscriber.receive().await {
                    Packet::Publish(message) => break message,
                    Packet::PubRel(pubrel) => {
                        let done = weir_mqtt::PubComp::success(pubrel.packet_id);
                        subscriber.send(Packet::PubComp(done)).await;
                    }
                    other => panic!("unexpected {other:?}"),
                }
            };
            assert_eq!(message.payload, Bytes::from(number.to_string()));
            match message.qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => subscriber.acknowledge(&message).await,
                QoS::ExactlyOnce => {
                    let received = weir_mqtt::PubRec::success(message.packet_id.unwrap());
                    subscriber.send(Packet::PubRec(received)).await;
                }
            }
        }
    }
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-2]
#[tokio::test]
async fn no_more_is_in_flight_than_the_client_takes() {
    let broker = TestBroker::start().await;
    let mut connect = Connect::new(V5, Utf8::from("sub"));
    connect.properties.receive_maximum = NonZeroU16::new(2);
    let (mut subscriber, _) = broker.connect_with(connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=5 {
        publisher
            .publish(publish("t", &number.to_string(), 1, number))
            .await;
    }
    let first = subscriber.receive_publish().await;
    let second = subscriber.receive_publish().await;
    assert_ne!(first.packet_id, second.packet_id);
    subscriber.expect_nothing().await;
    subscriber.acknowledge(&second).await;
    let third = subscriber.receive_publish().await;
    assert_eq!(&third.payload[..], b"3");
    assert!(
        third.packet_id != first.packet_id,
        "the first is still in flight"
    );
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn a_message_larger_than_the_client_takes_is_dropped_and_counted() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    let broker = TestBroker::start().await;
    let mut connect = Connect::new(V5, Utf8::from("sub"));
    connect.properties.maximum_packet_size = NonZeroU32::new(50);
    let (mut subscriber, _) = broker.connect_with(connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = broker.connect(V5, "pub").await;
    publisher
        .publish(publish("t", &"x".repeat(100), 1, 1))
        .await;
    publisher.publish(publish("t", "small", 1, 2)).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"small");
    assert_eq!(broker.broker.stats().drops(DropReason::TooLarge), 1);
}

#[tokio::test]
async fn large_payloads_arrive_whole() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = broker.connect(V3_1_1, "pub").await;
    let sizes = [1, 4095, 4096, 65_536, 900_000];
    for (number, size) in (1..).zip(sizes) {
        publisher
            .publish(publish("t", &"y".repeat(size), 1, number))
            .await;
        let message = subscriber.receive_publish().await;
        assert_eq!(message.payload.len(), size);
        assert!(message.payload.iter().all(|byte| *byte == b'y'));
        subscriber.acknowledge(&message).await;
    }
}

#[tokio::test]
async fn a_topic_alias_stands_for_its_topic_and_is_not_passed_on() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("long/topic", 0).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for topic in ["long/topic", "", ""] {
        let mut message = publish(topic, "x", 1, 1);
        message.properties = Some(Box::default());
        message.properties.as_mut().unwrap().topic_alias = TopicAlias::new(4);
        assert_eq!(publisher.publish(message).await, ReasonCode::Success);
        let message = subscriber.receive_publish().await;
        assert_eq!(&*message.topic, "long/topic");
        assert_eq!(message.properties, None);
    }
}

#[tokio::test]
async fn properties_are_passed_on() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut message = publish("t", "x", 0, 0);
    let properties = message.properties.insert(Box::default());
    properties.content_type = Some(Utf8::from("text/plain"));
    properties.correlation_data = Some(Bytes::from_static(b"\x00\x01"));
    properties.message_expiry_interval_s = Some(100);
    properties.user_properties = vec![
        (Utf8::from("b"), Utf8::from("1")),
        (Utf8::from("a"), Utf8::from("2")),
        (Utf8::from("b"), Utf8::from("3")),
    ];
    let sent = message.properties.clone();
    publisher.publish(message).await;
    assert_eq!(subscriber.receive_publish().await.properties, sent);
}

#[tokio::test]
async fn properties_of_a_message_reach_live_late_and_returning_subscribers_unaltered() {
    // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    let broker = TestBroker::start().await;
    let pairs = [
        ("z", "1"),
        ("a", ""),
        ("z", "1"),
        ("\u{1F980}", "é"),
        ("a", "3"),
    ];
    let indicators = [
        None,
        Some(PayloadFormat::Unspecified),
        Some(PayloadFormat::Utf8),
    ];
    for (topic, indicator) in ["one", "two", "three"].into_iter().zip(indicators) {
        let mut live = broker.connect(V5, "live").await;
        live.subscribe(topic, 1).await;
        let (mut away, _) = broker.connect_with(persistent(V5, "away")).await;
        away.subscribe(topic, 1).await;
        away.disconnect().await;
        let sent = PublishProperties {
            payload_format_indicator: indicator,
            response_topic: Some(TopicName::new("answer//here").unwrap()),
            correlation_data: Some(Bytes::from_static(b"\0\xFF\x01")),
            content_type: Some(Utf8::from("text/é")),
            user_properties: pairs
                .map(|(name, value)| (Utf8::from(name), Utf8::from(value)))
                .to_vec(),
            ..PublishProperties::default()
        };
        let mut message = publish(topic, "x", 1, 1);
        message.properties = Some(Box::new(sent.clone()));
        message.retain = true;
        broker.connect(V5, "pub").await.publish(message).await;
        let mut late = broker.connect(V5, "late").await;
        late.subscribe(topic, 1).await;
        let (mut away, _) = broker.connect_with(persistent(V5, "away")).await;
        for client in [&mut live, &mut late, &mut away] {
            let received = client.receive_publish().await;
            assert_eq!(received.properties.as_deref(), Some(&sent));
        }
        away.disconnect().await;
        broker.connect(V5, "away").await.disconnect().await;
    }
}

#[tokio::test]
async fn every_topic_alias_that_was_granted_works_and_none_outlives_its_connection() {
    let settings = BrokerSettings {
        topic_alias_maximum: 300,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t/+", 0).await;
    let with_alias = |topic: &str, alias| {
        let mut message = publish(topic, "x", 0, 0);
        message.properties.insert(Box::default()).topic_alias = TopicAlias::new(alias);
        message
    };
    let (mut publisher, connack) = broker.connect_with(persistent(V5, "pub")).await;
    assert_eq!(connack.properties.topic_alias_maximum, Some(300));
    // [MQTT-3.3.2-12]
    for alias in 1..=300 {
        let named = with_alias(&format!("t/{alias}"), alias);
        publisher.send(Packet::Publish(named)).await;
    }
    for alias in 1..=300 {
        publisher.send(Packet::Publish(with_alias("", alias))).await;
    }
    for alias in (1..=300).chain(1..=300) {
        let message = subscriber.receive_publish().await;
        assert_eq!(*message.topic, format!("t/{alias}"));
    }
    // [MQTT-3.3.2-7] The session goes on, its aliases do not.
    publisher.vanish();
    let (mut publisher, connack) = broker.connect_with(persistent(V5, "pub")).await;
    assert!(connack.session_present);
    publisher.send(Packet::Publish(with_alias("", 1))).await;
    publisher.expect_disconnect(ReasonCode::ProtocolError).await;
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn a_topic_alias_is_refused_where_none_was_granted() {
    // [MQTT-3.2.2-18]
    let settings = BrokerSettings {
        topic_alias_maximum: 0,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let (mut publisher, connack) = broker
        .connect_with(Connect::new(V5, Utf8::from("pub")))
        .await;
    assert_eq!(connack.properties.topic_alias_maximum, None);
    let mut message = publish("t", "x", 0, 0);
    message.properties.insert(Box::default()).topic_alias = TopicAlias::new(1);
    publisher.send(Packet::Publish(message)).await;
    publisher
        .expect_disconnect(ReasonCode::TopicAliasInvalid)
        .await;
}

#[tokio::test]
async fn clients_do_not_speak_for_the_broker() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("$SYS/#", 0).await;
    let mut publisher = broker.connect(V5, "pub").await;
    assert_eq!(
        publisher.publish(publish("$SYS/x", "x", 1, 1)).await,
        ReasonCode::NotAuthorized
    );
    assert_eq!(
        publisher.publish(publish("$SYS/x", "x", 2, 2)).await,
        ReasonCode::NotAuthorized
    );
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn a_message_for_nobody_says_so() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    assert_eq!(
        publisher.publish(publish("t", "x", 1, 1)).await,
        ReasonCode::NoMatchingSubscribers
    );
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_bounded_memory_and_harms_nobody() {
    let settings = BrokerSettings {
        max_outbox_bytes: 100_000,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut lazy = broker.connect(V3_1_1, "lazy").await;
    lazy.subscribe("t", 0).await;
    let mut quick = broker.connect(V3_1_1, "quick").await;
    quick.subscribe("t", 0).await;
    let mut publisher = broker.connect(V3_1_1, "pub").await;
    let stats = broker.broker.stats().clone();
    let mut sent = 0;
    // Until the kernel's buffers are full and the broker has to drop.
    while stats.drops(DropReason::OutboxFull) == 0 {
        publisher
            .publish(publish("t", &"z".repeat(50_000), 1, 1))
            .await;
        assert_eq!(quick.receive_publish().await.payload.len(), 50_000);
        sent += 1;
        assert!(sent < 10_000, "nothing was ever dropped");
    }
    lazy.expect_publishes_then_nothing(sent - 1).await;
}

impl crate::client::Client {
    /// At least one message and at most `most`, whole, and the connection still works.
    async fn expect_publishes_then_nothing(&mut self, most: usize) {
        self.send(Packet::PingReq).await;
        let mut received = 0;
        loop {
            match self.receive().await {
                Packet::Publish(message) => {
                    assert_eq!(message.payload.len(), 50_000);
                    received += 1;
                }
                Packet::PingResp => break,
                other => panic!("unexpected {other:?}"),
            }
        }
        assert!(
            (1..=most).contains(&received),
            "{received} of at most {most}"
        );
    }
}

/// [MQTT-4.2-1] [MQTT3-7.1.1-1]
/// [LESSON-M2]
#[tokio::test]
async fn a_large_packet_in_small_pieces_arrives_and_the_connection_goes_on() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.connect(V3_1_1, "pub").await;
    let payload = "x".repeat(300_000);
    let mut bytes = Vec::new();
    for packet in [
        Packet::Publish(publish("t", &payload, 1, 1)),
        Packet::Publish(publish("t", "small", 1, 2)),
    ] {
        weir_mqtt::codec::encode(&packet, V3_1_1, &mut bytes).unwrap();
    }
    let (byte_by_byte, pieces) = bytes.split_at(3000);
    for piece in byte_by_byte.chunks(1).chain(pieces.chunks(100)) {
        publisher.send_bytes(piece).await;
    }
    for number in [1, 2] {
        match publisher.receive().await {
            Packet::PubAck(puback) => assert_eq!(puback.packet_id, id(number)),
            other => panic!("expected PUBACK, got {other:?}"),
        }
    }
    assert_eq!(
        subscriber.receive_publish().await.payload,
        payload.as_bytes()
    );
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"small");
    publisher.publish(publish("t", "after", 1, 3)).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"after");
}

#[tokio::test]
async fn a_publisher_with_slow_rules_delays_neither_receivers_nor_a_takeover() {
    const MESSAGES: u16 = 200;
    let limits = ScriptLimits {
        time: std::time::Duration::from_millis(20),
        operations: u64::MAX,
        ..ScriptLimits::default()
    };
    let (scripts, errors) = Scripts::load_each([("u", "fn slow(x) { loop { } }")], limits);
    assert!(errors.is_empty());
    let catalog = Catalog {
        scripts: Arc::new(scripts),
    };
    let (rule, _) = compile(r#"SELECT u.slow(1) AS x FROM "slow""#, &catalog).unwrap();
    let pipeline = Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC));
    pipeline.swap(vec![Arc::new(LiveRule {
        id: "slow".into(),
        rule: Arc::new(rule),
        sinks: Vec::new(),
        counters: Arc::default(),
        on_error: OnError::Drop,
        crossing: None,
    })]);
    let broker = TestBroker::with_rules(BrokerSettings::default(), Arc::new(pipeline)).await;
    let handled = || broker.broker.stats().messages_in[0].get();
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("slow", 0).await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut bytes = Vec::new();
    for _ in 0..MESSAGES {
        let packet = Packet::Publish(publish("slow", "x", 0, 0));
        weir_mqtt::codec::encode(&packet, V5, &mut bytes).unwrap();
    }
    publisher.send_bytes(&bytes).await;
    subscriber.receive_publish().await;
    assert!(handled() < u64::from(MESSAGES), "the first comes first");
    let taker = broker.connect(V5, "pub").await;
    assert!(
        handled() < u64::from(MESSAGES),
        "the takeover waited for all of them"
    );
    publisher
        .expect_disconnect(ReasonCode::SessionTakenOver)
        .await;
    taker.disconnect().await;
}

#[tokio::test]
async fn packets_before_a_malformed_one_are_handled_however_long_they_take() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.connect(V5, "pub").await;
    // More than one step's bytes in one buffer: a packet that came in two reads, and those behind it.
    let mut bytes = Vec::new();
    let large = "x".repeat(70_000);
    for payload in [&large, "second", "third"] {
        let packet = Packet::Publish(publish("t", payload, 0, 0));
        weir_mqtt::codec::encode(&packet, V5, &mut bytes).unwrap();
    }
    bytes.extend_from_slice(&[0, 0]);
    publisher.send_bytes(&bytes).await;
    for payload in [&large, "second", "third"] {
        assert_eq!(
            subscriber.receive_publish().await.payload,
            payload.as_bytes()
        );
    }
    publisher
        .expect_disconnect(ReasonCode::MalformedPacket)
        .await;
}

/// A pipeline whose only rule writes into a sink with room for one row that never leaves it.
fn with_stuck_sink(folder: &std::path::Path) -> Arc<Pipeline> {
    let config: weir_sinks::SinkConfig = toml::from_str(
        "type = 'http'\nurl = 'http://127.0.0.1:9/'\nbuffer = { kind = 'memory', max_rows = 1 }\n",
    )
    .unwrap();
    let sink = weir_sinks::open(&weir_sinks::SinkSpec {
        rule_id: "stuck".to_owned(),
        sink_id: "s".to_owned(),
        plan: config.check(None).unwrap().0,
        connector: None,
        data_dir: folder.to_path_buf(),
        store_id: "test".to_owned(),
        console: weir_sinks::ConsoleOutput::new(std::io::sink()),
        rows: None,
        letters: None,
    })
    .unwrap();
    let (rule, _) = compile(r#"SELECT qos FROM "t""#, &Catalog::default()).unwrap();
    let pipeline = Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC));
    pipeline.swap(vec![Arc::new(LiveRule {
        id: "stuck".into(),
        rule: Arc::new(rule),
        sinks: vec![LiveSink {
            id: "s".into(),
            target: Target::Queue(sink),
            marks: false,
        }],
        counters: Arc::default(),
        on_error: OnError::Drop,
        crossing: None,
    })]);
    Arc::new(pipeline)
}

#[tokio::test]
async fn a_publish_that_waits_for_room_goes_by_the_rules_that_come_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = with_stuck_sink(folder.path());
    let broker = TestBroker::with_rules(BrokerSettings::default(), Arc::clone(&pipeline)).await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.connect(V3_1_1, "pub").await;
    publisher.publish(publish("t", "first", 1, 1)).await;
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"first");
    for (payload, number) in [("second", 2), ("third", 3)] {
        let message = publish("t", payload, 1, number);
        publisher.send(Packet::Publish(message)).await;
    }
    // The answer to a ping does not wait: so both are read and neither is acknowledged.
    publisher.expect_nothing().await;
    subscriber.expect_nothing().await;
    // The same rules again: they wait again.
    pipeline.swap(pipeline.rules());
    publisher.expect_nothing().await;
    pipeline.swap(Vec::new());
    for (payload, number) in [("second", 2), ("third", 3)] {
        match publisher.receive().await {
            Packet::PubAck(puback) => assert_eq!(puback.packet_id, id(number)),
            other => panic!("expected PUBACK, got {other:?}"),
        }
        let message = subscriber.receive_publish().await;
        assert_eq!(message.payload, payload.as_bytes());
    }
}
