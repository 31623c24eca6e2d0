//! CONNECT field by field, and CONNACK as the first and only answer.

use std::time::Duration;

use weir::broker::{Broker, BrokerSettings};
use weir_mqtt::{Connect, Packet, ProtocolVersion, ReasonCode, Utf8, codec};

use crate::client::{ALL, Client, TestBroker, V3_1, V3_1_1, V5, persistent, publish};
use crate::raw::{connect, frame, properties, text};

fn with_id(version: ProtocolVersion, client_id: &str) -> Connect {
    Connect::new(version, Utf8::new(client_id).unwrap())
}

#[tokio::test]
async fn connect_flags_that_contradict_each_other_or_the_payload_end_the_connection() {
    // [MQTT-3.1.4-1] [MQTT3-3.1.4-1]
    let broker = TestBroker::start().await;
    for version in [V3_1_1, V5] {
        let name = text(b"c");
        let will = [properties(version, b""), text(b"w"), text(b"gone")].concat();
        let and = |rest: &[u8]| [&name, rest].concat();
        let packets = [
            // [MQTT-3.1.2-3] [MQTT3-3.1.2-3]
            ("reserved flag", connect(version, 0x03, &name)),
            // [MQTT-3.1.2-11] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13]
            ("will QoS 1 without will", connect(version, 0x0A, &name)),
            ("will QoS 2 without will", connect(version, 0x12, &name)),
            // [MQTT-3.1.2-13] [MQTT3-3.1.2-15]
            ("will retain without will", connect(version, 0x22, &name)),
            // [MQTT-3.1.2-12] [MQTT3-3.1.2-14]
            ("will QoS 3", connect(version, 0x1E, &and(&will))),
            // [MQTT-3.1.2-9] [MQTT3-3.1.2-9]
            ("no will", connect(version, 0x06, &name)),
            (
                "half a will",
                connect(version, 0x06, &and(&will[..will.len() - 6])),
            ),
            // [MQTT3-3.1.2-11]
            ("unannounced will", connect(version, 0x02, &and(&will))),
            // [MQTT-3.1.2-16] [MQTT3-3.1.2-18]
            (
                "unannounced user name",
                connect(version, 0x02, &and(&text(b"u"))),
            ),
            // [MQTT-3.1.2-17] [MQTT3-3.1.2-19]
            ("no user name", connect(version, 0x82, &name)),
            // [MQTT-3.1.2-18] [MQTT3-3.1.2-20]
            (
                "unannounced password",
                connect(version, 0x82, &and(&[text(b"u"), text(b"p")].concat())),
            ),
            // [MQTT-3.1.2-19] [MQTT3-3.1.2-21]
            ("no password", connect(version, 0xC2, &and(&text(b"u")))),
            // [MQTT-3.1.3-3] [MQTT3-3.1.3-3]
            ("no client identifier", connect(version, 0x02, b"")),
        ];
        for (what, packet) in packets {
            broker.cuts_off(version, what, &packet).await;
        }
    }
    // [MQTT3-3.1.2-22] MQTT 5 allows a password alone.
    let alone = [text(b"c"), text(b"p")].concat();
    let packet = connect(V3_1_1, 0x42, &alone);
    broker.cuts_off(V3_1_1, "password alone", &packet).await;
}

#[tokio::test]
async fn the_fields_of_connect_are_read_in_their_order() {
    // [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT3-3.1.3-1] [MQTT3-3.1.3-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut watcher = broker.connect(version, "watcher").await;
        watcher.subscribe("will/topic", 0).await;
        let payload = [
            text(b"the-id"),
            properties(version, b""),
            text(b"will/topic"),
            text(b"will payload"),
            text(b"user name"),
            text(b"password"),
        ];
        let mut client = broker.open(version).await;
        client
            .send_bytes(&connect(version, 0xC6, &payload.concat()))
            .await;
        assert!(matches!(client.receive().await, Packet::ConnAck(_)));
        // Only who is called so is taken over.
        broker.connect(version, "user name").await.vanish();
        client.expect_nothing().await;
        let same = broker.connect(version, "the-id").await;
        client.expect_disconnect(ReasonCode::SessionTakenOver).await;
        assert_eq!(
            &watcher.receive_publish().await.payload[..],
            b"will payload"
        );
        same.disconnect().await;
    }
}

#[tokio::test]
async fn another_protocol_than_mqtt_is_not_served() {
    // [MQTT-3.1.2-1] [MQTT3-3.1.2-1]
    let broker = TestBroker::start().await;
    for (name, level) in [(&b"HTTP"[..], 4), (b"mqtt", 4), (b"MQTTX", 5), (b"", 5)] {
        let body = [text(name), vec![level, 2, 0, 0], b"\0\0\x01c".to_vec()].concat();
        let mut client = broker.open(V5).await;
        client.send_bytes(&frame(0x10, &body)).await;
        assert_eq!(client.receive_or_end().await, None);
    }
}

#[tokio::test]
async fn letters_and_digits_make_client_identifiers() {
    // [MQTT-3.1.3-5] [MQTT3-3.1.3-5]
    let broker = TestBroker::start().await;
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in ALL {
        for at in 0..all.len() {
            let length = 1 + at % 23;
            let client_id: String = all.chars().cycle().skip(at).take(length).collect();
            let mut client = broker.connect(version, &client_id).await;
            client.expect_nothing().await;
        }
    }
}

#[tokio::test]
async fn a_client_identifier_that_is_not_allowed_is_refused() {
    let settings = BrokerSettings {
        max_client_id: 30,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    // [MQTT-3.1.3-8] [MQTT-3.2.2-7] [MQTT-4.13.2-1] [MQTT3-3.1.3-9] [MQTT3-3.2.2-5]
    for version in ALL {
        let connect = with_id(version, &"c".repeat(31));
        let (mut client, connack) = broker.connect_with(connect).await;
        assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
        assert_eq!(client.receive_or_end().await, None);
    }
    // [MQTT3-3.1.3-7] [MQTT3-3.1.3-8] Nobody cannot come back to a session.
    let mut client = broker.open(V3_1_1).await;
    client.send_bytes(&connect(V3_1_1, 0, b"\0\0")).await;
    assert_eq!(client.receive_bytes(4).await, b"\x20\x02\0\x02");
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn clients_without_identifier_do_not_meet() {
    // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [MQTT3-3.1.3-6]
    let broker = TestBroker::start().await;
    for version in [V3_1_1, V5] {
        let (mut one, _) = broker.connect_with(with_id(version, "")).await;
        let (mut two, _) = broker.connect_with(with_id(version, "")).await;
        one.subscribe("one", 0).await;
        two.subscribe("two", 0).await;
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(publish("one", "x", 1, 1)).await;
        assert_eq!(&*one.receive_publish().await.topic, "one");
        one.expect_nothing().await;
        two.expect_nothing().await;
    }
    // The name that was told is the session's name.
    let mut nameless = persistent(V5, "");
    let (mut client, connack) = broker.connect_with(nameless.clone()).await;
    client.subscribe("t", 0).await;
    nameless.client_id = connack.properties.assigned_client_identifier.unwrap();
    let (_client, connack) = broker.connect_with(nameless).await;
    assert!(connack.session_present);
    client.expect_disconnect(ReasonCode::SessionTakenOver).await;
}

#[tokio::test]
async fn an_operator_can_refuse_clients_without_identifier() {
    // [MQTT-3.1.3-8] [MQTT3-3.1.3-9]
    let broker = TestBroker::with(BrokerSettings {
        empty_client_ids: false,
        ..BrokerSettings::default()
    })
    .await;
    for version in [V3_1_1, V5] {
        let (mut client, connack) = broker.connect_with(with_id(version, "")).await;
        assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
        assert_eq!(client.receive_or_end().await, None);
        broker.connect(version, "a").await.disconnect().await;
    }
}

#[tokio::test]
async fn sessions_are_told_apart_by_their_client_identifiers() {
    // [MQTT-3.1.3-2] [MQTT3-3.1.3-2]
    let broker = TestBroker::start().await;
    for version in [V3_1_1, V5] {
        let (mut first, _) = broker.connect_with(persistent(version, "client")).await;
        first.subscribe("t", 1).await;
        first.disconnect().await;
        for other in ["Client", "client ", "clien", "clientt"] {
            let (other, connack) = broker.connect_with(persistent(version, other)).await;
            assert!(!connack.session_present);
            other.disconnect().await;
        }
        let (_, connack) = broker.connect_with(persistent(version, "client")).await;
        assert!(connack.session_present);
        // For the next version nobody is left.
        for name in ["client", "Client", "client ", "clien", "clientt"] {
            broker.connect(version, name).await.disconnect().await;
        }
    }
}

#[tokio::test]
async fn session_present_says_whether_a_session_goes_on() {
    // [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    // [MQTT3-3.1.2-4] [MQTT3-3.1.2-6] [MQTT3-3.1.4-3] [MQTT3-3.2.2-1] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3]
    let broker = TestBroker::start().await;
    for version in [V3_1_1, V5] {
        let mut publisher = broker.connect(version, "pub").await;
        // None, then one that goes on, which a clean start forgets, with what it was subscribed to.
        for (clean_start, present) in [(false, false), (false, true), (true, false), (false, false)]
        {
            let mut connect = persistent(version, "client");
            connect.clean_start = clean_start;
            let (mut client, connack) = broker.connect_with(connect).await;
            assert_eq!(
                (connack.reason, connack.session_present),
                (ReasonCode::Success, present)
            );
            publisher.publish(publish("t", "x", 1, 1)).await;
            if present {
                let message = client.receive_publish().await;
                client.acknowledge(&message).await;
            }
            client.expect_nothing().await;
            if !clean_start {
                client.subscribe("t", 1).await;
            }
            if clean_start && version.is_v5() {
                // Of MQTT 5 alone a clean start may leave a session: not this time.
                let mut goodbye = weir_mqtt::Disconnect::new(ReasonCode::Success);
                goodbye
                    .properties
                    .insert(Box::default())
                    .session_expiry_interval_s = Some(0);
                client.send(Packet::Disconnect(goodbye)).await;
                assert_eq!(client.receive_or_end().await, None);
            } else {
                client.disconnect().await;
            }
        }
        broker.connect(version, "client").await.disconnect().await;
    }
}

#[tokio::test]
async fn a_refusal_has_no_session_and_is_the_last_word() {
    // [MQTT-3.2.2-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT3-3.2.2-4] [MQTT3-3.2.2-5]
    let broker = TestBroker::start().await;
    for version in [V3_1_1, V5] {
        let (client, _) = broker.connect_with(persistent(version, "same")).await;
        client.disconnect().await;
        // A Will that speaks for the broker is refused.
        let mut connect = persistent(version, "same");
        connect.will = Some(weir_mqtt::Will {
            topic: weir_mqtt::TopicName::new("$SYS/x").unwrap(),
            payload: bytes::Bytes::new(),
            qos: weir_mqtt::QoS::AtMostOnce,
            retain: false,
            properties: weir_mqtt::properties::WillProperties::default(),
        });
        let mut refused = broker.open(version).await;
        refused.send(Packet::Connect(Box::new(connect))).await;
        let code = if version.is_v5() { 0x87 } else { 5 };
        let connack = refused.receive_bytes(4).await;
        assert_eq!((connack[0], connack[2], connack[3]), (0x20, 0, code));
        refused.receive_bytes(usize::from(connack[1]) - 2).await;
        assert_eq!(refused.receive_or_end().await, None);
    }
}

#[tokio::test]
async fn what_no_return_code_says_is_not_answered() {
    // [MQTT3-3.2.2-6]
    let settings = BrokerSettings {
        max_topic_levels: 2,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for version in [V3_1, V3_1_1] {
        let payload = [text(b"c"), text(b"a/b/c"), text(b"gone")].concat();
        let mut client = broker.open(version).await;
        client.send_bytes(&connect(version, 0x06, &payload)).await;
        assert_eq!(client.receive_or_end().await, None);
    }
}

/// A CONNECT and what the client sends without waiting for the answer.
async fn send_at_once(client: &mut Client, connect: Connect, packets: &[Packet]) {
    let version = connect.version;
    let mut bytes = Vec::new();
    codec::encode(&Packet::Connect(Box::new(connect)), version, &mut bytes).unwrap();
    for packet in packets {
        codec::encode(packet, version, &mut bytes).unwrap();
    }
    client.send_bytes(&bytes).await;
}

#[tokio::test]
async fn connack_is_the_first_packet_and_comes_once() {
    // [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT3-3.1.4-4] [MQTT3-3.2.0-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut client, _) = broker.connect_with(persistent(version, "client")).await;
        client.subscribe("t", 1).await;
        client.disconnect().await;
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(publish("t", "waits", 1, 1)).await;
        let mut client = broker.open(version).await;
        let packets = [
            Packet::Publish(publish("t", "own", 0, 0)),
            Packet::PingReq,
            Packet::Disconnect(weir_mqtt::Disconnect::new(ReasonCode::Success)),
        ];
        send_at_once(&mut client, persistent(version, "client"), &packets).await;
        let all = client.receive_all().await;
        match &all[0] {
            Packet::ConnAck(connack) => assert_eq!(connack.reason, ReasonCode::Success),
            other => panic!("expected CONNACK, got {other:?}"),
        }
        let welcomes = all.iter().filter(|one| matches!(one, Packet::ConnAck(_)));
        assert_eq!(welcomes.count(), 1);
        assert!(all.contains(&Packet::PingResp));
        broker.connect(version, "client").await.disconnect().await;
    }
}

#[tokio::test]
async fn nothing_is_handled_after_a_connect_that_was_refused() {
    // [MQTT-3.1.4-2] [MQTT-3.1.4-6] [MQTT-3.14.0-1] [MQTT3-3.1.4-5]
    let settings = BrokerSettings {
        max_client_id: 30,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    for version in ALL {
        let mut client = broker.open(version).await;
        let mut retained = publish("t", "refused", 1, 1);
        retained.retain = true;
        // The last of them would be answered by DISCONNECT in a connection.
        let packets = [
            Packet::Publish(retained),
            Packet::Connect(Box::new(with_id(version, "second"))),
        ];
        send_at_once(&mut client, with_id(version, &"c".repeat(31)), &packets).await;
        let all = client.receive_all().await;
        assert!(matches!(&all[..], [Packet::ConnAck(_)]), "{all:?}");
        subscriber.expect_nothing().await;
    }
    assert_eq!(broker.broker.stats().messages_in[1].get(), 0);
}

#[tokio::test]
async fn before_connack_there_is_no_disconnect() {
    // [MQTT-3.1.0-1] [MQTT-3.14.0-1] [MQTT3-3.1.0-1]
    let broker = TestBroker::start().await;
    for first in [
        &b"\x30\x05\0\x01t\0x"[..],
        b"\xC0\0",
        b"\xE0\0",
        b"\xF0\x06\x18\x04\x15\0\x01m",
        b"\0\0",
        b"\x82\x07\0\x01\0\0\x01a\0",
    ] {
        let mut client = broker.open(V5).await;
        client.send_bytes(first).await;
        assert_eq!(client.receive_or_end().await, None, "{first:x?}");
    }
    let mut client = broker.open(V5).await;
    client.send_bytes(&connect(V5, 0x03, b"\0\x01c")).await;
    let all = client.receive_all().await;
    assert!(matches!(&all[..], [Packet::ConnAck(_)]), "{all:?}");
}

/// An authenticator that never comes to an end.
struct Undecided;

impl weir::auth::Authenticator for Undecided {
    fn authenticate<'a>(
        &'a self,
        _: &'a weir::auth::ConnectRequest,
    ) -> futures_util::future::BoxFuture<'a, weir::auth::Decision> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_connect_that_cannot_be_decided_ends_the_connection() {
    // [MQTT-3.1.4-2] [MQTT3-4.8.0-2]
    let settings = BrokerSettings {
        connect_timeout: Duration::from_millis(50),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::built(
        Broker::builder()
            .settings(settings)
            .authenticator(Undecided),
    )
    .await;
    for version in ALL {
        let mut client = broker.open(version).await;
        let connect = with_id(version, "c");
        client.send(Packet::Connect(Box::new(connect))).await;
        let all = client.receive_all().await;
        let welcomed = all.iter().any(
            |packet| matches!(packet, Packet::ConnAck(one) if one.reason == ReasonCode::Success),
        );
        assert!(!welcomed && all.len() <= 1, "{all:?}");
    }
}

#[tokio::test]
async fn without_a_method_there_is_no_auth_and_none_that_is_unknown_is_served() {
    let broker = TestBroker::start().await;
    // [MQTT-4.12.0-6]
    let (mut client, connack) = broker.connect_with(with_id(V5, "c")).await;
    assert_eq!(connack.properties.authentication_method, None);
    client.publish(publish("t", "x", 1, 1)).await;
    client.expect_nothing().await;
    // [MQTT-4.12.0-1]
    let mut connect = with_id(V5, "c");
    connect.properties.authentication_method = Some(Utf8::from("NO-SUCH-METHOD"));
    let (mut client, connack) = broker.connect_with(connect).await;
    assert_eq!(connack.reason, ReasonCode::BadAuthenticationMethod);
    assert_eq!(client.receive_or_end().await, None);
}

/// MQTT 3.1, section 3.1: bit 0 of the flags is not used; without the Will flag Will QoS and Will Retain are disregarded.
#[tokio::test]
async fn what_version_3_1_disregards_is_disregarded() {
    let broker = TestBroker::start().await;
    for (flags, what) in [
        (0x03, "the reserved flag"),
        (0x0A, "will QoS 1 without a will"),
        (0x1A, "will QoS 3 without a will"),
        (0x22, "will retain without a will"),
    ] {
        let mut client = broker.open(V3_1).await;
        client
            .send_bytes(&connect(V3_1, flags, &text(b"old")))
            .await;
        let Packet::ConnAck(connack) = client.receive().await else {
            panic!("expected CONNACK")
        };
        assert_eq!(connack.reason, ReasonCode::Success, "{what}");
        // Flags of the fixed header that 3.1 does not use.
        client.send_bytes(&[0xCF, 0]).await;
        assert!(matches!(client.receive().await, Packet::PingResp), "{what}");
        client.disconnect().await;
    }
}
