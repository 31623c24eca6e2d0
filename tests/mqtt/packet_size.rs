//! The maximum packet size of a client, and what is left out to keep within it.

use std::num::NonZeroU32;

use bytes::Bytes;
use weir::broker::BrokerSettings;
use weir_mqtt::properties::{AckProperties, WillProperties};
use weir_mqtt::{Connect, Packet, PubRec, PubRel, QoS, ReasonCode, TopicName, Utf8, Will, codec};

use crate::client::{Client, TestBroker, V5, id, publish};
use crate::raw;

/// The broker's reason strings are longer than nothing and shorter than this.
const ROOMY: u32 = 200;

/// The smallest size for which CONNACK, which must say what is granted, is sent; all answers below are smaller.
const SNUG: u32 = 40;

fn sized(size: u32) -> Connect {
    let mut connect = Connect::new(V5, Utf8::from("a"));
    connect.properties.maximum_packet_size = NonZeroU32::new(size);
    connect
}

/// The next packet and its length.
async fn next(client: &mut Client) -> (Packet, u32) {
    let mut bytes = client.receive_bytes(2).await;
    if bytes[1] >= 128 {
        bytes.extend(client.receive_bytes(1).await);
        let len = usize::from(bytes[1] % 128) + 128 * usize::from(bytes[2]);
        bytes.extend(client.receive_bytes(len).await);
    } else {
        let len = usize::from(bytes[1]);
        bytes.extend(client.receive_bytes(len).await);
    }
    let length = u32::try_from(bytes.len()).unwrap();
    (codec::decode(Bytes::from(bytes), V5).unwrap(), length)
}

/// The reason string and the number of user properties of an answer.
fn words(packet: &Packet) -> (Option<Utf8>, usize) {
    let of = |properties: Option<&AckProperties>| {
        let Some(properties) = properties else {
            return (None, 0);
        };
        let users = properties.user_properties.len();
        (properties.reason_string.clone(), users)
    };
    match packet {
        Packet::PubAck(puback) => of(puback.properties.as_deref()),
        Packet::PubRec(pubrec) => of(pubrec.properties.as_deref()),
        Packet::PubRel(pubrel) => of(pubrel.properties.as_deref()),
        Packet::PubComp(pubcomp) => of(pubcomp.properties.as_deref()),
        Packet::SubAck(suback) => of(suback.properties.as_deref()),
        Packet::UnsubAck(unsuback) => of(unsuback.properties.as_deref()),
        Packet::ConnAck(connack) => (
            connack.properties.reason_string.clone(),
            connack.properties.user_properties.len(),
        ),
        Packet::Disconnect(disconnect) => disconnect.properties.as_ref().map_or((None, 0), |p| {
            (p.reason_string.clone(), p.user_properties.len())
        }),
        other => panic!("unexpected {other:?}"),
    }
}

/// A broker that refuses filters of more than two levels.
async fn broker() -> TestBroker {
    TestBroker::with(BrokerSettings {
        max_topic_levels: 2,
        ..BrokerSettings::default()
    })
    .await
}

/// Sends `question` with every maximum packet size from small to roomy: the answer always comes, is never larger, and
/// says why exactly if that fits. Gives whether the broker has words for it at all.
async fn answers_fit(broker: &TestBroker, question: &[u8]) -> bool {
    let (mut client, _) = broker.connect_with(sized(ROOMY)).await;
    client.send_bytes(question).await;
    let (longest, full) = next(&mut client).await;
    let (why, _) = words(&longest);
    for size in SNUG..=full.max(SNUG) {
        let (mut client, _) = broker.connect_with(sized(size)).await;
        client.send_bytes(question).await;
        let (answer, length) = next(&mut client).await;
        assert_eq!(
            std::mem::discriminant(&answer),
            std::mem::discriminant(&longest)
        );
        assert!(length <= size, "{length} bytes of at most {size}");
        let (said, user_properties) = words(&answer);
        assert_eq!(said, why.clone().filter(|_| full <= size));
        assert_eq!(user_properties, 0);
    }
    why.is_some()
}

#[tokio::test]
async fn reasons_in_words_never_make_an_answer_larger_than_the_client_takes() {
    let broker = broker().await;
    let encoded = |packet: Packet| {
        let mut bytes = Vec::new();
        codec::encode(&packet, V5, &mut bytes).unwrap();
        bytes
    };
    // [MQTT-3.4.2-2] [MQTT-3.4.2-3]
    let not_allowed = encoded(Packet::Publish(publish("$SYS/x", "x", 1, 1)));
    assert!(answers_fit(&broker, &not_allowed).await);
    // [MQTT-3.5.2-2] [MQTT-3.5.2-3]
    let not_allowed = encoded(Packet::Publish(publish("$SYS/x", "x", 2, 1)));
    assert!(answers_fit(&broker, &not_allowed).await);
    // [MQTT-3.9.2-1] [MQTT-3.9.2-2]
    assert!(answers_fit(&broker, &raw::subscribe(V5, b"a/b/c", 0)).await);
    // [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    let alias = raw::publish(V5, b"t", b"\x23\xFF\xFF");
    assert!(answers_fit(&broker, &alias).await);
    // [MQTT-3.6.2-2] [MQTT-3.6.2-3]
    let unknown = encoded(Packet::PubRec(PubRec::success(id(1))));
    assert!(answers_fit(&broker, &unknown).await);
    // [MQTT-3.7.2-2] [MQTT-3.7.2-3]
    let unknown = encoded(Packet::PubRel(PubRel::success(id(1))));
    assert!(answers_fit(&broker, &unknown).await);
    // [MQTT-3.11.2-1] [MQTT-3.11.2-2]
    assert!(answers_fit(&broker, &raw::unsubscribe(V5, b"none")).await);
}

#[tokio::test]
async fn a_client_that_wants_no_words_gets_them_only_with_the_end() {
    // [MQTT-3.1.2-29]
    let broker = broker().await;
    let mut connect = sized(ROOMY);
    connect.properties.request_problem_information = Some(false);
    let (mut client, connack) = broker.connect_with(connect).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    for question in [
        Packet::Publish(publish("$SYS/x", "x", 1, 1)),
        Packet::Publish(publish("$SYS/x", "x", 2, 1)),
        Packet::PubRec(PubRec::success(id(1))),
        Packet::PubRel(PubRel::success(id(1))),
    ] {
        client.send(question).await;
        assert_eq!(words(&client.receive().await), (None, 0));
    }
    for question in [
        raw::subscribe(V5, b"a/b/c", 0),
        raw::unsubscribe(V5, b"none"),
    ] {
        client.send_bytes(&question).await;
        assert_eq!(words(&client.receive().await), (None, 0));
    }
    client
        .send_bytes(&raw::publish(V5, b"t", b"\x23\xFF\xFF"))
        .await;
    let (why, user_properties) = words(&client.receive().await);
    assert!(why.is_some() && user_properties == 0);
}

#[tokio::test]
async fn a_refusal_in_words_is_not_larger_than_the_client_takes() {
    // [MQTT-3.2.2-19] [MQTT-3.2.2-20]
    let broker = broker().await;
    let refused = |size| {
        let mut connect = sized(size);
        connect.will = Some(Will {
            topic: TopicName::new("a/b/c").unwrap(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: WillProperties::default(),
        });
        connect
    };
    let mut full = 0;
    for size in (5..=ROOMY).rev() {
        let mut client = broker.open(V5).await;
        client.send(Packet::Connect(Box::new(refused(size)))).await;
        let (answer, length) = next(&mut client).await;
        let (why, user_properties) = words(&answer);
        if size == ROOMY {
            assert!(why.is_some());
            full = length;
        }
        assert!(length <= size, "{length} bytes of at most {size}");
        assert_eq!(why.is_some(), full <= size);
        assert_eq!(user_properties, 0);
        assert!(
            matches!(answer, Packet::ConnAck(one) if one.reason == ReasonCode::TopicNameInvalid)
        );
    }
    // Not even the shortest fits.
    let mut client = broker.open(V5).await;
    client.send(Packet::Connect(Box::new(refused(4)))).await;
    assert_eq!(client.receive_or_end().await, None);
}

/// A CONNECT of MQTT 5 with these properties, and a client identifier that is no text.
fn malformed_connect(properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x02\x00\x00".to_vec();
    body.push(u8::try_from(properties.len()).unwrap());
    body.extend_from_slice(properties);
    body.extend_from_slice(b"\x00\x01\xFF");
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.append(&mut body);
    packet
}

#[tokio::test]
async fn the_refusal_of_a_malformed_connect_is_not_larger_than_the_client_takes_either() {
    // [MQTT-3.1.2-24] [MQTT-3.2.2-19]
    let broker = broker().await;
    let answer = async |question: Vec<u8>| {
        let mut client = broker.open(V5).await;
        client.send_bytes(&question).await;
        let (answer, length) = next(&mut client).await;
        assert!(
            matches!(&answer, Packet::ConnAck(one) if one.reason == ReasonCode::MalformedPacket)
        );
        assert_eq!(client.receive_or_end().await, None);
        (words(&answer).0, length)
    };
    let (why, full) = answer(malformed_connect(b"")).await;
    assert!(why.is_some(), "who sets no limit is told why");
    for size in 5..=full + 1 {
        let mut property = vec![0x27];
        property.extend_from_slice(&size.to_be_bytes());
        let (why, length) = answer(malformed_connect(&property)).await;
        assert!(length <= size, "{length} bytes of at most {size}");
        assert_eq!(why.is_some(), full <= size);
    }
    // A property that CONNECT does not have: whatever limit stands behind it is not known.
    let (why, length) = answer(malformed_connect(b"\x01\x00")).await;
    assert_eq!((why, length), (None, 5));
}
