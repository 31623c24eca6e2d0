//! Wills.

use bytes::Bytes;
use weir::BrokerSettings;
use weir::core::limits::{ClientLimits, LimitSettings};
use weir::core::token_bucket::Rate;
use weir::core::topic_rewrite::{RewriteAction, RewriteRule, Rewrites};
use weir_mqtt::{
    Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, SubscribeOptions, TopicName, Utf8,
    Will, codec,
};

use crate::client::{ALL, Client, TestBroker, V5, publish, qos};

fn with_will(version: ProtocolVersion, delay_s: Option<u32>) -> Connect {
    let mut connect = Connect::new(version, Utf8::from("mortal"));
    let mut will = Will {
        topic: TopicName::new("last/words").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: qos(1),
        retain: false,
        properties: weir_mqtt::properties::WillProperties::default(),
    };
    will.properties.will_delay_interval_s = delay_s;
    connect.will = Some(will);
    connect
}

async fn watcher(broker: &TestBroker, version: ProtocolVersion) -> Client {
    let mut watcher = broker.connect(version, "watcher").await;
    watcher.subscribe("last/words", 0).await;
    watcher
}

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.14.4-3] [MQTT3-3.1.2-8] [MQTT3-3.14.4-3]
#[tokio::test]
async fn a_broken_connection_publishes_the_will_and_an_orderly_one_does_not() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        mortal.disconnect().await;
        watcher.expect_nothing().await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        mortal.vanish();
        let message = watcher.receive_publish().await;
        assert_eq!(
            (&*message.topic, &message.payload[..]),
            ("last/words", &b"gone"[..])
        );
        watcher.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_protocol_error_and_a_takeover_publish_the_will() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mut mortal, _) = broker.connect_with(with_will(version, None)).await;
        mortal.send_bytes(b"\x00\x00").await;
        watcher.receive_publish().await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        let (successor, _) = broker.connect_with(with_will(version, None)).await;
        watcher.receive_publish().await;
        mortal.expect_disconnect(ReasonCode::SessionTakenOver).await;
        successor.disconnect().await;
        watcher.expect_nothing().await;
    }
}

/// [MQTT-3.1.2-8] Whoever ends the connection: only the client's own goodbye takes the Will back.
#[tokio::test]
async fn an_operator_who_ends_the_connection_has_the_will_published() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        let reason = ReasonCode::AdministrativeAction;
        assert!(broker.broker.disconnect("mortal", reason));
        mortal.expect_disconnect(reason).await;
        assert_eq!(&watcher.receive_publish().await.payload[..], b"gone");
        watcher.expect_nothing().await;
    }
    // One that is to wait waits here, too, and is forgotten when the client comes back before.
    let mut watcher = watcher(&broker, V5).await;
    let lasting = || {
        let mut connect = with_will(V5, Some(1000));
        connect.clean_start = false;
        connect.properties.session_expiry_interval_s = Some(1000);
        connect
    };
    let (mortal, _) = broker.connect_with(lasting()).await;
    assert!(
        broker
            .broker
            .disconnect("mortal", ReasonCode::AdministrativeAction)
    );
    mortal
        .expect_disconnect(ReasonCode::AdministrativeAction)
        .await;
    let (mortal, connack) = broker.connect_with(lasting()).await;
    assert!(connack.session_present);
    mortal.disconnect().await;
    watcher.expect_nothing().await;
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-22] [MQTT3-3.1.2-24]
#[tokio::test]
async fn a_client_that_is_silent_for_longer_than_its_keep_alive_has_its_will_published() {
    let broker = TestBroker::start().await;
    let waits = ALL.map(async |version| {
        let name = format!("silent/{version}");
        let mut watcher = broker.connect(version, &format!("watcher/{version}")).await;
        watcher.subscribe(&name, 0).await;
        let mut connect = with_will(version, None);
        connect.client_id = Utf8::new(&name).unwrap();
        connect.will.as_mut().unwrap().topic = TopicName::new(&name).unwrap();
        connect.keep_alive_s = 1;
        let (silent, _) = broker.connect_with(connect).await;
        let message = watcher.receive_publish().await;
        assert_eq!(&message.payload[..], b"gone");
        silent.expect_disconnect(ReasonCode::KeepAliveTimeout).await;
    });
    futures_util::future::join_all(waits).await;
}

/// A broker that takes one message a second of each client.
async fn unhurried() -> TestBroker {
    TestBroker::with(BrokerSettings {
        limits: LimitSettings {
            client: ClientLimits {
                messages: Some(Rate {
                    per_second: 1,
                    burst: 2,
                }),
                ..ClientLimits::default()
            },
            ..LimitSettings::default()
        },
        ..BrokerSettings::default()
    })
    .await
}

/// Sends fifty messages and DISCONNECT at once; when this returns, they have come and wait.
async fn send_much_and_goodbye(
    mortal: &mut Client,
    watcher: &mut Client,
    version: ProtocolVersion,
) {
    watcher.subscribe("up", 0).await;
    let mut bytes = Vec::new();
    for _ in 0..50 {
        let message = Packet::Publish(publish("up", "x", 0, 0));
        codec::encode(&message, version, &mut bytes).unwrap();
    }
    let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
    codec::encode(&goodbye, version, &mut bytes).unwrap();
    mortal.send_bytes(&bytes).await;
    assert_eq!(&*watcher.receive_publish().await.topic, "up");
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[tokio::test]
async fn a_goodbye_behind_messages_that_wait_for_the_rate_counts_when_the_client_comes_back() {
    let broker = unhurried().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mut mortal, _) = broker.connect_with(with_will(version, None)).await;
        send_much_and_goodbye(&mut mortal, &mut watcher, version).await;
        let again = Connect::new(version, Utf8::from("mortal"));
        let (again, _) = broker.connect_with(again).await;
        for _ in 1..50 {
            assert_eq!(&*watcher.receive_publish().await.topic, "up");
        }
        again.disconnect().await;
        watcher.expect_nothing().await;
    }
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[tokio::test]
async fn a_goodbye_behind_messages_that_wait_for_the_rate_counts_when_an_operator_ends_the_connection()
 {
    let broker = unhurried().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mut mortal, _) = broker.connect_with(with_will(version, None)).await;
        send_much_and_goodbye(&mut mortal, &mut watcher, version).await;
        let reason = ReasonCode::AdministrativeAction;
        assert!(broker.broker.disconnect("mortal", reason));
        while mortal.receive_or_end().await.is_some() {}
        watcher.send(Packet::PingReq).await;
        while let Packet::Publish(message) = watcher.receive().await {
            assert_eq!(&*message.topic, "up");
        }
    }
}

#[tokio::test]
async fn disconnect_can_ask_for_the_will() {
    // [MQTT-3.14.4-3] Only reason 0 withdraws it; this is 0x04.
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let (mut mortal, _) = broker.connect_with(with_will(V5, None)).await;
    mortal
        .send(Packet::Disconnect(Disconnect::new(
            ReasonCode::DisconnectWithWill,
        )))
        .await;
    watcher.receive_publish().await;
}

/// [MQTT-3.1.2-8]
#[tokio::test]
async fn a_delayed_will_waits_and_is_forgotten_when_the_client_comes_back() {
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let mut delayed = with_will(V5, Some(1));
    delayed.clean_start = false;
    delayed.properties.session_expiry_interval_s = Some(100);
    let (mortal, _) = broker.connect_with(delayed.clone()).await;
    mortal.vanish();
    // [MQTT-3.1.3-9]
    let (mut mortal, _) = broker.connect_with(delayed.clone()).await;
    mortal.expect_nothing().await;
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    watcher.expect_nothing().await;
    let since = std::time::Instant::now();
    mortal.vanish();
    watcher.receive_publish().await;
    assert!(since.elapsed().as_millis() >= 900, "{:?}", since.elapsed());
    // The end of the session does not wait for the delay. [MQTT-3.1.2-8]
    delayed.properties.session_expiry_interval_s = Some(0);
    delayed
        .will
        .as_mut()
        .unwrap()
        .properties
        .will_delay_interval_s = Some(1000);
    let (mortal, _) = broker.connect_with(delayed).await;
    mortal.vanish();
    watcher.receive_publish().await;
}

#[tokio::test]
async fn a_delayed_will_does_not_come_back_to_its_client_over_no_local() {
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let mut delayed = with_will(V5, Some(1));
    delayed.clean_start = false;
    delayed.properties.session_expiry_interval_s = Some(100);
    let (mut mortal, _) = broker.connect_with(delayed.clone()).await;
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::with_qos(qos(1))
    };
    mortal.subscribe_with("last/words", options).await;
    mortal.vanish();
    watcher.receive_publish().await;
    let (mut mortal, connack) = broker.connect_with(delayed).await;
    assert!(connack.session_present);
    mortal.expect_nothing().await;
}

#[tokio::test]
async fn a_will_is_retained_if_it_says_so_and_has_its_qos() {
    let broker = TestBroker::start().await;
    for version in ALL {
        for (retain, level) in [(false, 0), (true, 1), (false, 2), (true, 0)] {
            let mut watcher = broker.connect(version, "watcher").await;
            watcher.subscribe("last/words", 2).await;
            let mut connect = with_will(version, None);
            let will = connect.will.as_mut().unwrap();
            (will.retain, will.qos) = (retain, qos(level));
            broker.connect_with(connect).await.0.vanish();
            let message = watcher.receive_publish().await;
            assert_eq!((message.qos, message.retain), (qos(level), false));
            watcher.acknowledge(&message).await;
            let mut late = broker.connect(version, "late").await;
            late.subscribe("last/words", 0).await;
            if retain {
                // [MQTT-3.1.2-15] [MQTT3-3.1.2-17]
                let message = late.receive_publish().await;
                assert_eq!((&message.payload[..], message.retain), (&b"gone"[..], true));
                let mut clear = publish("last/words", "", 0, 0);
                clear.retain = true;
                late.publish_and_receive(clear).await;
            } else {
                // [MQTT-3.1.2-14] [MQTT3-3.1.2-16]
                late.expect_nothing().await;
            }
        }
    }
}

impl Client {
    /// Publishes what comes back at once.
    async fn publish_and_receive(&mut self, message: weir_mqtt::Publish) {
        self.send(Packet::Publish(message)).await;
        self.receive_publish().await;
    }
}

#[tokio::test]
async fn a_will_that_was_published_or_withdrawn_is_gone() {
    // [MQTT-3.1.2-10] [MQTT3-3.1.2-10] [MQTT3-3.1.2-12]
    let broker = TestBroker::start().await;
    for version in ALL {
        for published in [true, false] {
            let mut watcher = watcher(&broker, version).await;
            let mut connect = with_will(version, None);
            connect.clean_start = false;
            if version.is_v5() {
                connect.properties.session_expiry_interval_s = Some(1000);
            }
            let (mortal, _) = broker.connect_with(connect.clone()).await;
            if published {
                mortal.vanish();
                watcher.receive_publish().await;
            } else {
                mortal.disconnect().await;
            }
            // The session goes on, and now without a Will.
            connect.will = None;
            let (mut mortal, _) = broker.connect_with(connect).await;
            mortal.send_bytes(b"\0\0").await;
            mortal.expect_disconnect(ReasonCode::MalformedPacket).await;
            watcher.expect_nothing().await;
            // And so does the end of the session.
            broker.connect(version, "mortal").await.vanish();
            broker.connect(version, "mortal").await.disconnect().await;
            watcher.expect_nothing().await;
        }
    }
}

#[tokio::test]
async fn properties_of_a_will_are_passed_on_in_their_order() {
    // [MQTT-3.1.3-10] [MQTT-3.3.2-18]
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let mut connect = with_will(V5, None);
    let pairs = [("z", "1"), ("a", "2"), ("z", "1"), ("m", "3"), ("a", "0")]
        .map(|(name, value)| (Utf8::from(name), Utf8::from(value)))
        .to_vec();
    let properties = &mut connect.will.as_mut().unwrap().properties;
    properties.user_properties = pairs.clone();
    properties.content_type = Some(Utf8::from("text"));
    broker.connect_with(connect).await.0.vanish();
    let received = watcher.receive_publish().await.properties.unwrap();
    assert_eq!(received.user_properties, pairs);
    assert_eq!(received.content_type, Some(Utf8::from("text")));
}

/// A CONNECT with a Will for `topic`.
fn with_will_for(version: ProtocolVersion, topic: &str, retain: bool) -> Connect {
    let mut connect = with_will(version, None);
    let will = connect.will.as_mut().unwrap();
    will.topic = TopicName::new(topic).unwrap();
    will.retain = retain;
    connect
}

#[tokio::test]
async fn the_topic_of_a_will_is_treated_like_that_of_a_publish() {
    let rewrite = RewriteRule::new(RewriteAction::Publish, "old/#", "^old/(.+)$", "of/%c/$1");
    let rewrites = Rewrites::new(vec![rewrite.unwrap()]);
    for version in ALL {
        let settings = BrokerSettings {
            rewrites: rewrites.clone(),
            ..BrokerSettings::default()
        };
        let broker = TestBroker::with(settings).await;
        let mut watcher = broker.connect(version, "watcher").await;
        watcher.subscribe("of/#", 0).await;
        watcher.subscribe("last/words", 0).await;
        for (topic, retain, arrives) in [
            ("old/a", false, "of/mortal/a"),
            ("$delayed/0/last/words", false, "last/words"),
            ("$delayed/1/old/b", false, "of/mortal/b"),
            ("$retain/1000/last/words", true, "last/words"),
        ] {
            let (mortal, _) = broker
                .connect_with(with_will_for(version, topic, retain))
                .await;
            mortal.vanish();
            let message = watcher.receive_publish().await;
            assert_eq!(&*message.topic, arrives, "{topic}");
            let expiry = message
                .properties
                .and_then(|of| of.message_expiry_interval_s);
            assert_eq!(expiry, None, "{topic}");
        }
        let mut later = broker.connect(version, "later").await;
        later.subscribe("#", 0).await;
        let kept = later.receive_publish().await;
        assert_eq!((&*kept.topic, kept.retain), ("last/words", true));
        let expiry = kept.properties.and_then(|of| of.message_expiry_interval_s);
        assert_eq!(expiry.is_some_and(|left| left <= 1000), version.is_v5());
        later.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_will_for_a_topic_that_is_none_behind_its_prefix_is_refused_with_the_connection() {
    let broker = TestBroker::start().await;
    for version in ALL {
        for (topic, retain) in [
            ("$delayed/x/t", false),
            ("$delayed/1/", false),
            ("$retain/-1/t", true),
            ("$retain/5/t", false),
        ] {
            let mut client = broker.open(version).await;
            let connect = with_will_for(version, topic, retain);
            client.send(Packet::Connect(Box::new(connect))).await;
            let answer = client.receive_or_end().await;
            // CONNACK has a code for this only in MQTT 5.
            let reason = answer.map(|answer| match answer {
                Packet::ConnAck(connack) => connack.reason,
                other => panic!("expected CONNACK, got {other:?}"),
            });
            let expected = version.is_v5().then_some(ReasonCode::TopicNameInvalid);
            assert_eq!(reason, expected, "{topic}");
        }
        let (_, connack) = broker
            .connect_with(with_will_for(version, "$delayed/1/$SYS/x", false))
            .await;
        assert_eq!(
            connack.reason,
            ReasonCode::NotAuthorized,
            "behind the prefix"
        );
    }
}
