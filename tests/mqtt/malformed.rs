//! What is not MQTT: closed with the right reason, and the broker goes on.

use weir::broker::BrokerSettings;
use weir_mqtt::{Packet, PacketId, PubRel, ReasonCode};

use crate::client::{ALL, TestBroker, V3_1_1, V5, publish};

/// [MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[tokio::test]
async fn malformed_packets_are_answered_with_their_reason_and_the_broker_goes_on() {
    let broker = TestBroker::start().await;
    let cases: [(&[u8], ReasonCode); 7] = [
        (b"\x00\x00", ReasonCode::MalformedPacket),
        (b"\x30\xff\xff\xff\xff\x01", ReasonCode::MalformedPacket),
        // QoS 3.
        (b"\x36\x05\x00\x01t\x00\x01", ReasonCode::MalformedPacket),
        // A wildcard in a topic name.
        (b"\x30\x04\x00\x01#\x00", ReasonCode::MalformedPacket),
        // SUBSCRIBE with the wrong flags.
        (
            b"\x80\x07\x00\x01\x00\x00\x01a\x00",
            ReasonCode::MalformedPacket,
        ),
        // SUBSCRIBE without a filter.
        (b"\x82\x03\x00\x01\x00", ReasonCode::ProtocolError),
        // Only servers send SUBACK.
        (b"\x90\x04\x00\x01\x00\x00", ReasonCode::ProtocolError),
    ];
    for (bytes, reason) in cases {
        let mut client = broker.connect(V5, "bad").await;
        client.send_bytes(bytes).await;
        client.expect_disconnect(reason).await;
    }
    for version in ALL {
        broker.connect(version, "good").await.expect_nothing().await;
    }
}

#[tokio::test]
async fn packets_before_a_malformed_one_are_still_handled() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "s").await;
    subscriber.subscribe("t", 0).await;
    let mut client = broker.connect(V3_1_1, "bad").await;
    client.send_bytes(b"\x30\x04\x00\x01tx\xf0\x00").await;
    assert_eq!(client.receive_or_end().await, None);
    assert_eq!(&subscriber.receive_publish().await.payload[..], b"x");
}

/// It is read on for a while, so that it can read why; others must not wait for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_sending_after_its_refusal_keeps_nobody_waiting() {
    use tokio::io::AsyncWriteExt as _;
    let broker = TestBroker::start().await;
    let mut good = broker.connect(V5, "good").await;
    let flooding = (0..4).map(|_| {
        let address = broker.address;
        tokio::spawn(async move {
            let mut flood = tokio::net::TcpStream::connect(address).await.unwrap();
            // No protocol that anyone speaks.
            let refused = b"\x10\x0e\x00\x04MQTT\x09\x02\x00\x00\x00\x02id";
            flood.write_all(refused).await.unwrap();
            let junk = vec![0; 1 << 16];
            while flood.write_all(&junk).await.is_ok() {}
        })
    });
    let flooding: Vec<_> = flooding.collect();
    for _ in 0..20 {
        good.expect_nothing().await;
    }
    // Their connections end although they never fall silent.
    for flood in flooding {
        flood.await.unwrap();
    }
}

/// [MQTT-3.2.2-15]
#[tokio::test]
async fn a_packet_above_the_maximum_is_refused_by_its_length_alone() {
    let settings = BrokerSettings {
        max_packet_size: 1000,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut client = broker.connect(V5, "large").await;
    // 256 MiB are announced, nothing of them is sent.
    client.send_bytes(b"\x30\xff\xff\xff\x7f").await;
    client.expect_disconnect(ReasonCode::PacketTooLarge).await;
}

/// [MQTT-3.2.2-17] [MQTT-3.3.2-9]
#[tokio::test]
async fn a_topic_alias_that_was_not_granted_or_not_set_is_refused() {
    let settings = BrokerSettings {
        topic_alias_maximum: 2,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for (alias, topic, reason) in [
        (3, "t", ReasonCode::TopicAliasInvalid),
        (1, "", ReasonCode::ProtocolError),
    ] {
        let mut client = broker.connect(V5, "alias").await;
        let mut message = publish(topic, "x", 0, 0);
        message.properties = Some(Box::default());
        message.properties.as_mut().unwrap().topic_alias = weir_mqtt::TopicAlias::new(alias);
        client.send(Packet::Publish(message)).await;
        client.expect_disconnect(reason).await;
    }
}

#[tokio::test]
async fn more_in_flight_than_the_receive_maximum_is_refused() {
    // [MQTT-3.3.4-7]
    let settings = BrokerSettings {
        max_inflight: 2,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut client = broker.connect(V5, "eager").await;
    for number in 1..=2 {
        client
            .send(Packet::Publish(publish("t", "x", 2, number)))
            .await;
        client.receive_pubrec(PacketId::new(number).unwrap()).await;
    }
    client.send(Packet::Publish(publish("t", "x", 2, 3))).await;
    client
        .expect_disconnect(ReasonCode::ReceiveMaximumExceeded)
        .await;
    let errors = broker.broker.stats().protocol_errors.nonzero();
    let code = ReasonCode::ReceiveMaximumExceeded.as_u8();
    assert_eq!(errors.collect::<Vec<_>>(), [(code, 1)]);
}

#[tokio::test]
async fn a_release_of_an_unknown_identifier_is_completed_and_says_so() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "a").await;
    client
        .send(Packet::PubRel(PubRel::success(PacketId::MIN)))
        .await;
    match client.receive().await {
        Packet::PubComp(pubcomp) => {
            assert_eq!(pubcomp.reason, ReasonCode::PacketIdentifierNotFound)
        }
        other => panic!("expected PUBCOMP, got {other:?}"),
    }
}
