//! A frame for many receivers says to each what a publish of its own would.

use bytes::Bytes;
use proptest::prelude::*;
use weir_mqtt::properties::PublishProperties;
use weir_mqtt::{
    AliasUse, Delivery, EncodeError, PacketId, ProtocolVersion, Publish, PublishFrame, QoS,
    SubscriptionId, TopicAlias, Utf8,
};

use crate::{V3_1_1, V5, arbitrary, id, text};

/// The same delivery, encoded alone.
fn alone(
    topic: &Utf8,
    properties: Option<&PublishProperties>,
    payload: &Bytes,
    (delivery, retain): (Delivery, bool),
    ids: &[SubscriptionId],
    version: ProtocolVersion,
) -> Publish {
    let (packet_id, dup) = match delivery {
        Delivery::AtMostOnce => (None, false),
        Delivery::AtLeastOnce { packet_id, dup } | Delivery::ExactlyOnce { packet_id, dup } => {
            (Some(packet_id), dup)
        }
    };
    let mut properties = properties.cloned().unwrap_or_default();
    properties.subscription_identifiers.extend_from_slice(ids);
    Publish {
        dup,
        qos: delivery.qos(),
        retain,
        topic: topic.clone(),
        packet_id,
        properties: (version.is_v5() && !properties.is_empty()).then(|| Box::new(properties)),
        payload: payload.clone(),
    }
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    let some = |make: fn(PacketId, bool) -> Delivery| {
        (arbitrary::packet_id(), any::<bool>())
            .prop_map(move |(packet_id, dup)| make(packet_id, dup))
    };
    prop_oneof![
        Just(Delivery::AtMostOnce),
        some(|packet_id, dup| Delivery::AtLeastOnce { packet_id, dup }),
        some(|packet_id, dup| Delivery::ExactlyOnce { packet_id, dup }),
    ]
}

proptest! {
    #[test]
    fn every_receiver_reads_what_was_published(
        version in arbitrary::version(),
        topic in arbitrary::topic_name(),
        properties in proptest::option::of(arbitrary::publish_properties()),
        payload in prop_oneof![
            arbitrary::binary(),
            (4090..4100usize).prop_map(|len| Bytes::from(vec![7; len])),
        ],
        receivers in proptest::collection::vec(
            (deliveries(), any::<bool>(), proptest::collection::vec(arbitrary::subscription_id(), 0..40)),
            1..4,
        ),
    ) {
        let properties = properties.map(|mut properties| {
            properties.subscription_identifiers.clear();
            properties
        });
        let frame = PublishFrame::new(&topic, properties.as_ref(), &payload, version).unwrap();
        for (delivery, retain, ids) in receivers {
            let expected =
                alone(topic.as_utf8(), properties.as_ref(), &payload, (delivery, retain), &ids, version);
            let mut whole = b"before".to_vec();
            frame.write(delivery, retain, &ids, &mut whole).unwrap();
            let decoded = weir_mqtt::codec::decode(Bytes::copy_from_slice(&whole[6..]), version);
            prop_assert_eq!(decoded, Ok(weir_mqtt::Packet::Publish(expected)));
            prop_assert_eq!(frame.len(delivery.qos(), &ids), whole.len() - 6);

            let mut parts = b"before".to_vec();
            frame.write_head(delivery, retain, &ids, &mut parts).unwrap();
            parts.extend_from_slice(frame.payload());
            prop_assert_eq!(parts, whole);
        }
    }

    #[test]
    fn an_alias_changes_the_topic_and_one_property_and_nothing_else(
        version in arbitrary::version(),
        topic in arbitrary::topic_name(),
        properties in proptest::option::of(arbitrary::publish_properties()),
        payload in arbitrary::binary(),
        delivery in deliveries(),
        ids in proptest::collection::vec(arbitrary::subscription_id(), 0..5),
        number in 1..=u16::MAX,
        in_place in any::<bool>(),
    ) {
        let properties = properties.map(|mut properties| {
            properties.subscription_identifiers.clear();
            properties.topic_alias = None;
            properties
        });
        let frame = PublishFrame::new(&topic, properties.as_ref(), &payload, version).unwrap();
        let number = TopicAlias::new(number).unwrap();
        let alias = if in_place { AliasUse::InPlace(number) } else { AliasUse::Introduce(number) };
        let mut bytes = Vec::new();
        frame.write_head_aliased(delivery, false, &ids, Some(alias), &mut bytes).unwrap();
        bytes.extend_from_slice(frame.payload());

        let mut expected =
            alone(topic.as_utf8(), properties.as_ref(), &payload, (delivery, false), &ids, version);
        if version.is_v5() {
            expected.properties.get_or_insert_default().topic_alias = Some(number);
            if in_place {
                expected.topic = Utf8::default();
            }
        }
        let decoded = weir_mqtt::codec::decode(Bytes::from(bytes), version);
        prop_assert_eq!(decoded, Ok(weir_mqtt::Packet::Publish(expected)));
        prop_assert_eq!(frame.topic(), topic.as_bytes());
    }
}

#[test]
fn the_commonest_packet_is_shared_whole() {
    let frame = PublishFrame::new("t", None, &Bytes::from_static(b"hi"), V3_1_1).unwrap();
    assert_eq!(frame.at_most_once().unwrap(), &b"\x30\x05\0\x01thi"[..]);
}

#[test]
fn a_long_payload_is_never_copied_into_the_frame() {
    let payload = Bytes::from(vec![7; 100_000]);
    let frame = PublishFrame::new("t", None, &payload, V5).unwrap();
    assert_eq!(frame.at_most_once(), None);
    assert_eq!(frame.payload().as_ptr(), payload.as_ptr());
    let mut head = Vec::new();
    let delivery = Delivery::AtLeastOnce {
        packet_id: id(1),
        dup: false,
    };
    frame.write_head(delivery, true, &[], &mut head).unwrap();
    assert_eq!(head, b"\x33\xA6\x8D\x06\0\x01t\0\x01\0");
    assert_eq!(frame.len(QoS::AtLeastOnce, &[]), head.len() + 100_000);
}

#[test]
fn a_message_without_a_topic_is_refused() {
    let payload = Bytes::new();
    assert_eq!(
        PublishFrame::new("", None, &payload, V5).unwrap_err(),
        EncodeError::Topic
    );
    assert_eq!(
        PublishFrame::new("a/#", None, &payload, V5).unwrap_err(),
        EncodeError::Topic
    );
    let alias = PublishProperties {
        topic_alias: TopicAlias::new(1),
        content_type: Some(text("x")),
        ..PublishProperties::default()
    };
    assert!(PublishFrame::new("", Some(&alias), &payload, V5).is_ok());
    assert_eq!(
        PublishFrame::new("", Some(&alias), &payload, V3_1_1).unwrap_err(),
        EncodeError::Topic
    );
}
