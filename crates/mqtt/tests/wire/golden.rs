//! One packet, one version, its exact bytes: worked out by hand from the standard's tables.

use std::num::{NonZeroU16, NonZeroU32};

use weir_mqtt::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    MaximumQoS, PayloadFormat, PublishProperties, SubscribeProperties, UnsubscribeProperties,
    WillProperties,
};
use weir_mqtt::{
    Auth, ConnAck, Connect, Disconnect, Packet, ProtocolVersion, PubAck, PubComp, PubRec, PubRel,
    Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions,
    SubscriptionFilter, SubscriptionId, SubscriptionRequest, TopicAlias, TopicName, UnsubAck,
    Unsubscribe, Will, codec,
};

use crate::{V3_1, V3_1_1, V5, bytes, frame, id, text};

/// The bytes are the packet and the packet is the bytes.
#[track_caller]
fn same(version: ProtocolVersion, wire: &[u8], packet: &Packet) {
    assert_eq!(codec::frame_length(wire, 1024), Ok(Some(wire.len())));
    let decoded = codec::decode(wire.to_vec().into(), version);
    assert_eq!(decoded.as_ref(), Ok(packet), "decoding in {version}");
    let mut out = b"before".to_vec();
    codec::encode(packet, version, &mut out).unwrap();
    assert_eq!(&out[..6], b"before");
    assert_eq!(&out[6..], wire, "encoding in {version}");
}

/// The bytes are read as the packet, though it would be written otherwise.
#[track_caller]
fn reads_as(version: ProtocolVersion, wire: &[u8], packet: &Packet) {
    assert_eq!(
        codec::decode(wire.to_vec().into(), version).as_ref(),
        Ok(packet)
    );
}

fn user_property() -> Vec<(weir_mqtt::Utf8, weir_mqtt::Utf8)> {
    vec![(text("k"), text("v"))]
}

fn connect(version: ProtocolVersion, change: impl FnOnce(&mut Connect)) -> Packet {
    let mut connect = Connect::new(version, text("c"));
    change(&mut connect);
    Packet::Connect(Box::new(connect))
}

fn full_connect(version: ProtocolVersion) -> Packet {
    connect(version, |connect| {
        connect.clean_start = false;
        connect.keep_alive_s = 60;
        connect.will = Some(Will {
            topic: TopicName::new("w").unwrap(),
            payload: bytes(b"bye"),
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: WillProperties::default(),
        });
        connect.username = Some(text("u"));
        connect.password = Some(bytes(b"\xFF\0"));
    })
}

#[test]
fn connect_of_each_version_says_its_name_and_level() {
    same(
        V3_1,
        b"\x10\x0F\0\x06MQIsdp\x03\x02\0\0\0\x01c",
        &connect(V3_1, |_| {}),
    );
    same(
        V3_1_1,
        b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c",
        &connect(V3_1_1, |_| {}),
    );
    same(
        V5,
        b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01c",
        &connect(V5, |_| {}),
    );
    // The version that the caller names does not count.
    reads_as(
        V5,
        b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c",
        &connect(V3_1_1, |_| {}),
    );
}

/// [MQTT-3.1.3-1] [MQTT3-3.1.3-1]
#[test]
fn connect_carries_will_and_credentials_in_order() {
    let body = b"\0\x04MQTT\x04\xEC\0\x3C\0\x01c\0\x01w\0\x03bye\0\x01u\0\x02\xFF\0";
    same(V3_1_1, &frame(0x10, body), &full_connect(V3_1_1));
    let body = b"\0\x06MQIsdp\x03\xEC\0\x3C\0\x01c\0\x01w\0\x03bye\0\x01u\0\x02\xFF\0";
    same(V3_1, &frame(0x10, body), &full_connect(V3_1));
    let body = b"\0\x04MQTT\x05\xEC\0\x3C\0\0\x01c\0\0\x01w\0\x03bye\0\x01u\0\x02\xFF\0";
    same(V5, &frame(0x10, body), &full_connect(V5));
}

#[test]
fn connect_of_v5_carries_every_property() {
    let body = [
        &b"\0\x04MQTT\x05\x06\0\0"[..],
        b"\x24\x11\0\0\0\x0A\x21\0\x14\x27\0\0\x10\0\x22\0\x05\x19\x01\x17\0",
        b"\x26\0\x01k\0\x01v\x15\0\x01m\x16\0\x02\0\x01",
        b"\0\0",
        b"\x21\x18\0\0\0\x07\x01\x01\x02\0\0\0\x09\x03\0\x02ct\x08\0\x01r\x09\0\x02cd\x26\0\x01k\0\x01v",
        b"\0\x01w\0\0",
    ]
    .concat();
    let [connect_length, will_length] = [10, 49].map(|at| usize::from(body[at]));
    assert_eq!(
        (connect_length, will_length),
        (36, 33),
        "the vector's own arithmetic"
    );
    let packet = connect(V5, |connect| {
        connect.client_id = text("");
        connect.properties = ConnectProperties {
            session_expiry_interval_s: Some(10),
            receive_maximum: NonZeroU16::new(20),
            maximum_packet_size: NonZeroU32::new(4096),
            topic_alias_maximum: Some(5),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            user_properties: user_property(),
            authentication_method: Some(text("m")),
            authentication_data: Some(bytes(b"\0\x01")),
        };
        connect.will = Some(Will {
            topic: TopicName::new("w").unwrap(),
            payload: bytes(b""),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: WillProperties {
                will_delay_interval_s: Some(7),
                payload_format_indicator: Some(PayloadFormat::Utf8),
                message_expiry_interval_s: Some(9),
                content_type: Some(text("ct")),
                response_topic: Some(TopicName::new("r").unwrap()),
                correlation_data: Some(bytes(b"cd")),
                user_properties: user_property(),
            },
        });
    });
    same(V5, &frame(0x10, &body), &packet);
}

#[test]
fn connect_of_v3_1_may_announce_credentials_and_leave_them_out() {
    let body = b"\0\x06MQIsdp\x03\xC2\0\0\0\x01c";
    reads_as(V3_1, &frame(0x10, body), &connect(V3_1, |_| {}));
    let body = b"\0\x06MQIsdp\x03\xC2\0\0\0\x01c\0\x01u";
    let named = connect(V3_1, |connect| connect.username = Some(text("u")));
    reads_as(V3_1, &frame(0x10, body), &named);
}

#[test]
fn connect_of_v5_may_have_a_password_alone() {
    let body = b"\0\x04MQTT\x05\x42\0\0\0\0\x01c\0\x01p";
    let packet = connect(V5, |connect| connect.password = Some(bytes(b"p")));
    same(V5, &frame(0x10, body), &packet);
}

#[test]
fn connack_says_session_and_reason_in_the_words_of_its_version() {
    let connack = |connack: ConnAck| Packet::ConnAck(Box::new(connack));
    same(V3_1, b"\x20\x02\0\0", &connack(ConnAck::accepted(false)));
    same(V3_1_1, b"\x20\x02\x01\0", &connack(ConnAck::accepted(true)));
    same(V5, b"\x20\x03\x01\0\0", &connack(ConnAck::accepted(true)));
    let refused = connack(ConnAck::refused(ReasonCode::NotAuthorized));
    same(V3_1_1, b"\x20\x02\0\x05", &refused);
    same(V5, b"\x20\x03\0\x87\0", &refused);
}

#[test]
fn connack_of_v3_1_has_no_session_present_flag() {
    let mut out = Vec::new();
    ConnAck::accepted(true).encode(V3_1, &mut out).unwrap();
    assert_eq!(out, b"\x20\x02\0\0");
}

#[test]
fn connack_of_v5_carries_every_property() {
    let body = [
        &b"\0\0\x40\x11\0\0\0\x0A\x21\0\x14\x24\x01\x25\0\x27\0\0\x10\0\x12\0\x02id\x22\0\x05\x1F\0\x02rs"[..],
        b"\x26\0\x01k\0\x01v\x28\x01\x29\0\x2A\x01\x13\0\x3C\x1A\0\x02ri\x1C\0\x02sr\x15\0\x01m\x16\0\x01d",
    ]
    .concat();
    assert_eq!(
        usize::from(body[2]),
        body.len() - 3,
        "the vector's own arithmetic"
    );
    let packet = Packet::ConnAck(Box::new(ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties: ConnAckProperties {
            session_expiry_interval_s: Some(10),
            receive_maximum: NonZeroU16::new(20),
            maximum_qos: Some(MaximumQoS::AtLeastOnce),
            retain_available: Some(false),
            maximum_packet_size: NonZeroU32::new(4096),
            assigned_client_identifier: Some(text("id")),
            topic_alias_maximum: Some(5),
            reason_string: Some(text("rs")),
            user_properties: user_property(),
            wildcard_subscription_available: Some(true),
            subscription_identifier_available: Some(false),
            shared_subscription_available: Some(true),
            server_keep_alive_s: Some(60),
            response_information: Some(text("ri")),
            server_reference: Some(text("sr")),
            authentication_method: Some(text("m")),
            authentication_data: Some(bytes(b"d")),
        },
    }));
    same(V5, &frame(0x20, &body), &packet);
}

fn publish(change: impl FnOnce(&mut Publish)) -> Packet {
    let mut publish = Publish::new(text("a/b"), bytes(b"hi"));
    change(&mut publish);
    Packet::Publish(publish)
}

/// [MQTT-2.2.1-2] [MQTT3-2.3.1-5]
#[test]
fn publish_of_qos_0_has_no_packet_identifier() {
    for version in [V3_1, V3_1_1] {
        same(version, b"\x30\x07\0\x03a/bhi", &publish(|_| {}));
    }
    same(V5, b"\x30\x08\0\x03a/b\0hi", &publish(|_| {}));
    same(
        V3_1_1,
        b"\x31\x05\0\x03a/b",
        &publish(|p| {
            p.retain = true;
            p.payload = bytes(b"");
        }),
    );
}

#[test]
fn publish_of_qos_1_and_2_has_one() {
    let once = publish(|p| {
        p.qos = QoS::AtLeastOnce;
        p.packet_id = Some(id(10));
        p.dup = true;
    });
    same(V3_1, b"\x3A\x09\0\x03a/b\0\x0Ahi", &once);
    same(V3_1_1, b"\x3A\x09\0\x03a/b\0\x0Ahi", &once);
    same(V5, b"\x3A\x0A\0\x03a/b\0\x0A\0hi", &once);
    let twice = publish(|p| {
        p.qos = QoS::ExactlyOnce;
        p.packet_id = Some(id(0x1234));
        p.retain = true;
    });
    same(V3_1_1, b"\x35\x09\0\x03a/b\x12\x34hi", &twice);
    same(V5, b"\x35\x0A\0\x03a/b\x12\x34\0hi", &twice);
}

#[test]
fn publish_of_v5_carries_every_property() {
    let body = [
        &b"\0\0\x24\x01\0\x02\0\0\0\x09\x23\0\x01\x08\0\x01r\x09\0\x02cd\x26\0\x01k\0\x01v"[..],
        b"\x0B\x01\x0B\x80\x01\x03\0\x02ct",
        b"hi",
    ]
    .concat();
    assert_eq!(
        usize::from(body[2]),
        body.len() - 3 - 2,
        "the vector's own arithmetic"
    );
    let packet = publish(|p| {
        p.topic = text("");
        p.properties = Some(Box::new(PublishProperties {
            payload_format_indicator: Some(PayloadFormat::Unspecified),
            message_expiry_interval_s: Some(9),
            topic_alias: TopicAlias::new(1),
            response_topic: Some(TopicName::new("r").unwrap()),
            correlation_data: Some(bytes(b"cd")),
            user_properties: user_property(),
            subscription_identifiers: [1, 128]
                .into_iter()
                .filter_map(SubscriptionId::new)
                .collect(),
            content_type: Some(text("ct")),
        }));
    });
    same(V5, &frame(0x30, &body), &packet);
}

#[test]
fn user_properties_keep_their_order_and_their_repetitions() {
    let body = b"\0\x01t\x15\x26\0\x01b\0\x011\x26\0\x01a\0\x012\x26\0\x01b\0\x011";
    let packet = publish(|p| {
        p.topic = text("t");
        p.payload = bytes(b"");
        p.properties = Some(Box::new(PublishProperties {
            user_properties: [("b", "1"), ("a", "2"), ("b", "1")]
                .map(|(name, value)| (text(name), text(value)))
                .to_vec(),
            ..PublishProperties::default()
        }));
    });
    same(V5, &frame(0x30, body), &packet);
}

#[test]
fn publish_with_an_empty_block_of_properties_has_none() {
    reads_as(
        V5,
        b"\x30\x08\0\x03a/b\0hi",
        &publish(|p| p.properties = None),
    );
}

#[test]
fn acknowledgements_are_an_identifier_before_v5() {
    for version in [V3_1, V3_1_1] {
        same(
            version,
            b"\x40\x02\0\x01",
            &Packet::PubAck(PubAck::success(id(1))),
        );
        same(
            version,
            b"\x50\x02\0\x01",
            &Packet::PubRec(PubRec::success(id(1))),
        );
        same(
            version,
            b"\x62\x02\0\x01",
            &Packet::PubRel(PubRel::success(id(1))),
        );
        same(
            version,
            b"\x70\x02\0\x01",
            &Packet::PubComp(PubComp::success(id(1))),
        );
    }
}

#[test]
fn acknowledgements_of_v5_leave_out_what_says_nothing() {
    same(
        V5,
        b"\x40\x02\0\x01",
        &Packet::PubAck(PubAck::success(id(1))),
    );
    same(
        V5,
        b"\x70\x02\xFF\xFF",
        &Packet::PubComp(PubComp::success(id(65535))),
    );
    let refused = PubRec::new(id(1), ReasonCode::QuotaExceeded);
    same(V5, b"\x50\x03\0\x01\x97", &Packet::PubRec(refused));
    let unknown = PubRel::new(id(1), ReasonCode::PacketIdentifierNotFound);
    same(V5, b"\x62\x03\0\x01\x92", &Packet::PubRel(unknown));
    // Also right, only longer than it need be.
    reads_as(
        V5,
        b"\x40\x03\0\x01\0",
        &Packet::PubAck(PubAck::success(id(1))),
    );
    reads_as(
        V5,
        b"\x40\x04\0\x01\0\0",
        &Packet::PubAck(PubAck::success(id(1))),
    );
}

#[test]
fn acknowledgements_of_v5_carry_properties() {
    let mut puback = PubAck::new(id(1), ReasonCode::NoMatchingSubscribers);
    puback.properties = Some(Box::new(AckProperties {
        reason_string: Some(text("no")),
        user_properties: user_property(),
    }));
    let body = b"\0\x01\x10\x0C\x1F\0\x02no\x26\0\x01k\0\x01v";
    same(V5, &frame(0x40, body), &Packet::PubAck(puback));
}

#[test]
fn repetitions_of_v3_1_may_carry_dup() {
    reads_as(
        V3_1,
        b"\x6A\x02\0\x01",
        &Packet::PubRel(PubRel::success(id(1))),
    );
    assert!(codec::decode(bytes(b"\x6A\x02\0\x01"), V3_1_1).is_err());
}

fn request(filter: &str, options: SubscribeOptions) -> SubscriptionRequest {
    SubscriptionRequest {
        filter: SubscriptionFilter::parse(filter).unwrap(),
        options,
    }
}

#[test]
fn subscribe_lists_filters_with_their_qos() {
    let packet = Packet::Subscribe(Subscribe {
        packet_id: id(7),
        requests: vec![
            request("a/+", SubscribeOptions::with_qos(QoS::AtLeastOnce)),
            request("#", SubscribeOptions::with_qos(QoS::ExactlyOnce)),
        ],
        properties: None,
    });
    for version in [V3_1, V3_1_1] {
        same(version, b"\x82\x0C\0\x07\0\x03a/+\x01\0\x01#\x02", &packet);
    }
    same(V5, b"\x82\x0D\0\x07\0\0\x03a/+\x01\0\x01#\x02", &packet);
}

#[test]
fn subscribe_of_v5_carries_options_and_properties() {
    let options = |qos, no_local, retain_as_published, retain_handling| SubscribeOptions {
        qos,
        no_local,
        retain_as_published,
        retain_handling,
    };
    let packet = Packet::Subscribe(Subscribe {
        packet_id: id(7),
        requests: vec![
            request(
                "a",
                options(QoS::ExactlyOnce, true, false, RetainHandling::Never),
            ),
            request(
                "$share/g/b",
                options(
                    QoS::AtMostOnce,
                    false,
                    true,
                    RetainHandling::OnNewSubscription,
                ),
            ),
        ],
        properties: Some(Box::new(SubscribeProperties {
            subscription_identifier: SubscriptionId::new(268_435_455),
            user_properties: user_property(),
        })),
    });
    let body = b"\0\x07\x0C\x0B\xFF\xFF\xFF\x7F\x26\0\x01k\0\x01v\0\x01a\x26\0\x0A$share/g/b\x18";
    same(V5, &frame(0x82, body), &packet);
}

#[test]
fn suback_answers_every_filter() {
    let packet = Packet::SubAck(SubAck::new(
        id(7),
        vec![
            ReasonCode::Success,
            ReasonCode::GrantedQoS1,
            ReasonCode::GrantedQoS2,
            ReasonCode::UnspecifiedError,
        ],
    ));
    for version in [V3_1, V3_1_1] {
        same(version, b"\x90\x06\0\x07\0\x01\x02\x80", &packet);
    }
    same(V5, b"\x90\x07\0\x07\0\0\x01\x02\x80", &packet);
    let denied = SubAck::new(id(7), vec![ReasonCode::NotAuthorized]);
    same(V5, b"\x90\x04\0\x07\0\x87", &Packet::SubAck(denied.clone()));
    let mut out = Vec::new();
    denied.encode(V3_1_1, &mut out).unwrap();
    assert_eq!(out, b"\x90\x03\0\x07\x80");
}

#[test]
fn unsubscribe_lists_filters() {
    let mut unsubscribe = Unsubscribe {
        packet_id: id(7),
        filters: ["a/b", "$queue/#"]
            .map(|f| SubscriptionFilter::parse(f).unwrap())
            .to_vec(),
        properties: None,
    };
    let packet = Packet::Unsubscribe(unsubscribe.clone());
    for version in [V3_1, V3_1_1] {
        same(version, b"\xA2\x11\0\x07\0\x03a/b\0\x08$queue/#", &packet);
    }
    same(V5, b"\xA2\x12\0\x07\0\0\x03a/b\0\x08$queue/#", &packet);
    unsubscribe.properties = Some(Box::new(UnsubscribeProperties {
        user_properties: user_property(),
    }));
    unsubscribe.filters.truncate(1);
    let body = b"\0\x07\x07\x26\0\x01k\0\x01v\0\x03a/b";
    same(V5, &frame(0xA2, body), &Packet::Unsubscribe(unsubscribe));
}

#[test]
fn unsuback_answers_every_filter_from_v5_on() {
    for version in [V3_1, V3_1_1] {
        same(
            version,
            b"\xB0\x02\0\x07",
            &Packet::UnsubAck(UnsubAck::new(id(7), Vec::new())),
        );
    }
    let reasons = vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    same(
        V5,
        b"\xB0\x05\0\x07\0\0\x11",
        &Packet::UnsubAck(UnsubAck::new(id(7), reasons)),
    );
}

#[test]
fn pings_are_two_bytes() {
    for version in ProtocolVersion::ALL {
        same(version, b"\xC0\0", &Packet::PingReq);
        same(version, b"\xD0\0", &Packet::PingResp);
    }
}

#[test]
fn disconnect_has_a_reason_from_v5_on() {
    for version in ProtocolVersion::ALL {
        same(
            version,
            b"\xE0\0",
            &Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
        );
    }
    let with_will = Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill));
    same(V5, b"\xE0\x01\x04", &with_will);
    reads_as(V5, b"\xE0\x02\x04\0", &with_will);
    let packet = Packet::Disconnect(Disconnect {
        reason: ReasonCode::ServerMoved,
        properties: Some(Box::new(DisconnectProperties {
            session_expiry_interval_s: Some(0),
            reason_string: Some(text("go")),
            user_properties: user_property(),
            server_reference: Some(text("s")),
        })),
    });
    let body = b"\x9D\x15\x11\0\0\0\0\x1F\0\x02go\x26\0\x01k\0\x01v\x1C\0\x01s";
    same(V5, &frame(0xE0, body), &packet);
}

#[test]
fn auth_is_of_v5_only() {
    let done = Packet::Auth(Auth {
        reason: ReasonCode::Success,
        properties: None,
    });
    same(V5, b"\xF0\0", &done);
    let packet = Packet::Auth(Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties: Some(Box::new(AuthProperties {
            authentication_method: Some(text("m")),
            authentication_data: Some(bytes(b"d")),
            reason_string: Some(text("r")),
            user_properties: user_property(),
        })),
    });
    let body = b"\x18\x13\x15\0\x01m\x16\0\x01d\x1F\0\x01r\x26\0\x01k\0\x01v";
    same(V5, &frame(0xF0, body), &packet);
    for version in [V3_1, V3_1_1] {
        assert!(codec::decode(bytes(b"\xF0\0"), version).is_err());
        assert!(codec::encode(&done, version, &mut Vec::new()).is_err());
    }
}

#[test]
fn decoding_shares_the_frame() {
    let wire = bytes(b"\x30\x07\0\x03a/bhi");
    let Ok(Packet::Publish(publish)) = codec::decode(wire.clone(), V3_1_1) else {
        panic!("a publish");
    };
    assert_eq!(publish.topic.bytes().as_ptr(), wire[4..].as_ptr());
    assert_eq!(publish.payload.as_ptr(), wire[7..].as_ptr());
}
