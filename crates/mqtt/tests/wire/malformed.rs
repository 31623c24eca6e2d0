//! What is refused, with the reason that a DISCONNECT or CONNACK gives for it.

use bytes::Bytes;
use weir_mqtt::{
    ConnAck, Connect, Packet, ProtocolVersion, Publish, QoS, ReasonCode, SubAck, Utf8, codec,
};

use crate::{V3_1, V3_1_1, V5, bytes, frame, id, text};

pub(crate) const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
pub(crate) const PROTOCOL: ReasonCode = ReasonCode::ProtocolError;

/// Decoding fails for this reason.
#[track_caller]
pub(crate) fn refused(version: ProtocolVersion, what: &str, wire: &[u8], reason: ReasonCode) {
    match codec::decode(Bytes::copy_from_slice(wire), version) {
        Err(error) => assert_eq!(error.reason, reason, "{what}: {error}"),
        Ok(packet) => panic!("{what} in {version}: accepted as {packet:?}"),
    }
}

#[track_caller]
fn refused_in_all(what: &str, wire: &[u8], reason: ReasonCode) {
    for version in ProtocolVersion::ALL {
        refused(version, what, wire, reason);
    }
}

/// [MQTT-2.1.3-1] [MQTT3-2.2.2-1]
#[test]
fn flags_of_the_fixed_header_are_checked_in_every_packet() {
    // A body for each type that would be right but for the flags, and the flags that are right.
    let bodies: [(u8, u8, &[u8]); 13] = [
        (1, 0, b"\0\x04MQTT\x04\x02\0\0\0\x01c"),
        (2, 0, b"\0\0"),
        (4, 0, b"\0\x01"),
        (5, 0, b"\0\x01"),
        (6, 2, b"\0\x01"),
        (7, 0, b"\0\x01"),
        (8, 2, b"\0\x01\0\x01a\0"),
        (9, 0, b"\0\x01\0"),
        (10, 2, b"\0\x01\0\x01a"),
        (11, 0, b"\0\x01"),
        (12, 0, b""),
        (13, 0, b""),
        (14, 0, b""),
    ];
    for (packet_type, right, body) in bodies {
        for flags in 0..16 {
            let wire = frame(packet_type << 4 | flags, body);
            if flags == right {
                assert!(
                    codec::decode(wire.into(), V3_1_1).is_ok(),
                    "type {packet_type}"
                );
            } else {
                refused(
                    V3_1_1,
                    &format!("type {packet_type}, flags {flags}"),
                    &wire,
                    MALFORMED,
                );
            }
        }
    }
    refused(V5, "AUTH with flags", b"\xF1\0", MALFORMED);
}

/// MQTT 3.1, section 2.1: what CONNECT does not use of its first byte is ignored; which version it is stands further on.
#[test]
fn the_flags_of_an_old_connect_may_be_anything() {
    for flags in 0..16 {
        let old = frame(0x10 | flags, b"\0\x06MQIsdp\x03\x02\0\0\0\x01c");
        for asked in ProtocolVersion::ALL {
            assert!(codec::decode(old.clone().into(), asked).is_ok(), "{flags}");
        }
        let new = frame(0x10 | flags, b"\0\x04MQTT\x04\x02\0\0\0\x01c");
        assert_eq!(codec::decode(new.into(), V3_1).is_ok(), flags == 0);
    }
}

#[test]
fn reserved_packet_types_are_malformed() {
    refused_in_all("type 0", b"\0\0", MALFORMED);
    refused(V3_1, "type 15", b"\xF0\0", MALFORMED);
    refused(V3_1_1, "type 15", b"\xF0\0", MALFORMED);
    assert_eq!(
        codec::frame_length(b"\x01", 100).unwrap_err().reason,
        MALFORMED
    );
}

/// [MQTT-1.5.5-1]
#[test]
fn lengths_are_checked_as_soon_as_they_are_seen() {
    let reason = |buf: &[u8], max| codec::frame_length(buf, max).unwrap_err().reason;
    assert_eq!(codec::frame_length(b"", 100), Ok(None));
    assert_eq!(codec::frame_length(b"\x30", 100), Ok(None));
    assert_eq!(codec::frame_length(b"\x30\x80", 1000), Ok(None));
    assert_eq!(codec::frame_length(b"\x30\x02a", 100), Ok(None));
    assert_eq!(codec::frame_length(b"\x30\x02ab", 100), Ok(Some(4)));
    assert_eq!(codec::frame_length(b"\x30\x02abc", 100), Ok(Some(4)));
    // A fifth byte is one too many; the fourth already says that it would come.
    assert_eq!(
        reason(b"\x30\xFF\xFF\xFF\xFF", codec::MAX_PACKET_SIZE),
        MALFORMED
    );
    assert_eq!(reason(b"\x30\x80\x00", 100), MALFORMED, "0 in two bytes");
    assert_eq!(
        reason(b"\x30\x82\x80\x00", 100),
        MALFORMED,
        "2 in three bytes"
    );
    // The packet of 100 bytes passes, the one of 101 does not, before its body is there.
    assert_eq!(codec::frame_length(b"\x30\x62", 100), Ok(None));
    assert_eq!(reason(b"\x30\x63", 100), ReasonCode::PacketTooLarge);
    let largest = b"\x30\xFF\xFF\xFF\x7F";
    assert_eq!(
        codec::frame_length(largest, codec::MAX_PACKET_SIZE),
        Ok(None)
    );
    assert_eq!(
        reason(largest, codec::MAX_PACKET_SIZE - 1),
        ReasonCode::PacketTooLarge
    );
}

#[test]
fn a_frame_that_is_not_as_long_as_it_says_is_malformed() {
    refused_in_all("nothing", b"", MALFORMED);
    refused_in_all("no length", b"\xC0", MALFORMED);
    refused_in_all("too short", b"\x40\x02\0", MALFORMED);
    refused_in_all("too long", b"\x40\x02\0\x01\0", MALFORMED);
}

#[test]
fn packets_cut_short_anywhere_are_refused() {
    let whole: [(ProtocolVersion, u8, &[u8]); 7] = [
        (
            V3_1_1,
            0x10,
            b"\0\x04MQTT\x04\xC6\0\0\0\x01c\0\x01w\0\x01m\0\x01u\0\x01p",
        ),
        (
            V5,
            0x10,
            b"\0\x04MQTT\x05\xC6\0\0\x05\x11\0\0\0\x01\0\x01c\0\0\x01w\0\x01m\0\x01u\0\x01p",
        ),
        (V5, 0x20, b"\0\0\x05\x11\0\0\0\x01"),
        (V3_1_1, 0x40, b"\0\x01"),
        (V3_1_1, 0x82, b"\0\x01\0\x01a\0"),
        (V5, 0xA2, b"\0\x01\x07\x26\0\x01k\0\x01v\0\x01a"),
        (V5, 0x32, b"\0\x01t\0\x01\x05\x02\0\0\0\x01"),
    ];
    for (version, first, body) in whole {
        assert!(codec::decode(frame(first, body).into(), version).is_ok());
        for cut in 0..body.len() {
            let wire = frame(first, &body[..cut]);
            let decoded = codec::decode(wire.into(), version);
            assert!(decoded.is_err(), "{first:x} cut at {cut}: {decoded:?}");
        }
    }
}

#[test]
fn bytes_after_the_last_field_are_malformed() {
    for (first, body) in [
        (0x10, &b"\0\x04MQTT\x04\x02\0\0\0\x01c!"[..]),
        (0x20, b"\0\0!"),
        (0x40, b"\0\x01!"),
        (0x50, b"\0\x01!"),
        (0x62, b"\0\x01!"),
        (0x70, b"\0\x01!"),
        (0xB0, b"\0\x01!"),
        (0xC0, b"!"),
        (0xD0, b"!"),
        (0xE0, b"!"),
    ] {
        refused(V3_1_1, "one byte more", &frame(first, body), MALFORMED);
    }
    for (first, body) in [
        (0x10, &b"\0\x04MQTT\x05\x02\0\0\0\0\x01c!"[..]),
        (0x20, b"\0\0\0!"),
        (0x40, b"\0\x01\0\0!"),
        (0xC0, b"!"),
        (0xE0, b"\0\0!"),
        (0xF0, b"\x18\x04\x15\0\x01m!"),
    ] {
        refused(V5, "one byte more", &frame(first, body), MALFORMED);
    }
}

/// [MQTT3-2.3.1-1]
#[test]
fn packet_identifier_0_is_a_protocol_error() {
    for (first, body) in [
        (0x32, &b"\0\x01t\0\0"[..]),
        (0x34, b"\0\x01t\0\0"),
        (0x40, b"\0\0"),
        (0x50, b"\0\0"),
        (0x62, b"\0\0"),
        (0x70, b"\0\0"),
        (0x82, b"\0\0\0\x01a\0"),
        (0x90, b"\0\0\0"),
        (0xA2, b"\0\0\0\x01a"),
        (0xB0, b"\0\0"),
    ] {
        refused_in_all("packet identifier 0", &frame(first, body), PROTOCOL);
    }
}

#[test]
fn publish_flags_and_topics_are_checked() {
    refused_in_all("QoS 3", b"\x36\x05\0\x01t\0\x01", MALFORMED);
    refused_in_all("DUP with QoS 0", b"\x38\x04\0\x01t\0", MALFORMED);
    refused_in_all("+ in a topic", b"\x30\x06\0\x03a/+\0", MALFORMED);
    refused_in_all("# in a topic", b"\x30\x06\0\x03a#b\0", MALFORMED);
    refused_in_all("U+0000 in a topic", b"\x30\x06\0\x03a\0b\0", MALFORMED);
    refused_in_all("not UTF-8", b"\x30\x06\0\x03a\xFFb\0", MALFORMED);
    refused_in_all("a surrogate", b"\x30\x06\0\x03\xED\xA0\x80\0", MALFORMED);
    refused_in_all(
        "topic longer than the packet",
        b"\x30\x04\0\x03ab",
        MALFORMED,
    );
    refused(V3_1, "empty topic", b"\x30\x02\0\0", MALFORMED);
    refused(V3_1_1, "empty topic", b"\x30\x02\0\0", MALFORMED);
    refused(V5, "neither topic nor alias", b"\x30\x03\0\0\0", PROTOCOL);
    refused(
        V5,
        "neither, with another property",
        b"\x30\x05\0\0\x02\x01\x01",
        PROTOCOL,
    );
}

#[test]
fn connect_flags_are_checked() {
    let connect = |flags: u8, rest: &[u8]| {
        frame(
            0x10,
            &[b"\0\x04MQTT\x04", &[flags][..], b"\0\0", rest].concat(),
        )
    };
    refused_in_all("reserved flag", &connect(0x03, b"\0\x01c"), MALFORMED);
    refused_in_all(
        "will QoS 1 without will",
        &connect(0x0A, b"\0\x01c"),
        MALFORMED,
    );
    refused_in_all(
        "will retain without will",
        &connect(0x22, b"\0\x01c"),
        MALFORMED,
    );
    refused_in_all(
        "will QoS 3",
        &connect(0x1E, b"\0\x01c\0\x01w\0\0"),
        MALFORMED,
    );
    refused_in_all(
        "password without user name",
        &connect(0x42, b"\0\x01c\0\x01p"),
        MALFORMED,
    );
    refused_in_all(
        "will topic with wildcard",
        &connect(0x06, b"\0\x01c\0\x01#\0\0"),
        MALFORMED,
    );
    refused_in_all(
        "empty will topic",
        &connect(0x06, b"\0\x01c\0\0\0\0"),
        MALFORMED,
    );
    refused_in_all(
        "U+0000 in client id",
        &connect(0x02, b"\0\x01\0"),
        MALFORMED,
    );
    let reason = ReasonCode::ClientIdentifierNotValid;
    refused_in_all(
        "nobody with a session to keep",
        &connect(0x00, b"\0\0"),
        reason,
    );
    assert!(codec::decode(connect(0x02, b"\0\0").into(), V3_1_1).is_ok());
    let nobody = b"\0\x06MQIsdp\x03\x02\0\0\0\0";
    refused_in_all("nobody in 3.1", &frame(0x10, nobody), reason);
}

/// What a server answers to a CONNECT with this name and level.
fn answer(name: &[u8], level: u8) -> Option<Vec<u8>> {
    let length = u8::try_from(name.len()).unwrap();
    let body = [&[0, length], name, &[level, 0x02, 0, 0, 0, 1, b'c']].concat();
    let error = codec::decode(frame(0x10, &body).into(), V3_1_1).unwrap_err();
    assert_eq!(error.reason, ReasonCode::UnsupportedProtocolVersion);
    let (version, connack) = error.connack()?;
    let mut out = Vec::new();
    connack.encode(version, &mut out).unwrap();
    Some(out)
}

#[test]
fn unknown_protocol_levels_are_answered_so_that_the_client_understands() {
    let (old, new) = (
        Some(b"\x20\x02\0\x01".to_vec()),
        Some(b"\x20\x03\0\x84\0".to_vec()),
    );
    assert_eq!(answer(b"MQTT", 0), old);
    assert_eq!(answer(b"MQTT", 3), old);
    assert_eq!(answer(b"MQTT", 6), new);
    assert_eq!(answer(b"MQTT", 0x84), old, "a bridge's private level");
    assert_eq!(answer(b"MQIsdp", 4), old);
    assert_eq!(answer(b"MQIsdp", 5), old);
    assert_eq!(answer(b"HTTP", 4), None);
    assert_eq!(answer(b"mqtt", 4), None);
}

#[test]
fn a_bad_connect_of_a_known_version_is_answered_where_the_version_can_say_it() {
    let connack = |body: &[u8]| {
        codec::decode(frame(0x10, body).into(), V3_1_1)
            .unwrap_err()
            .connack()
    };
    assert_eq!(connack(b"\0\x04MQTT\x04\x03\0\0\0\x01c"), None);
    let nobody = Some((
        V3_1_1,
        ConnAck::refused(ReasonCode::ClientIdentifierNotValid),
    ));
    assert_eq!(connack(b"\0\x04MQTT\x04\x00\0\0\0\0"), nobody);
    let malformed = Some((V5, ConnAck::refused(MALFORMED)));
    assert_eq!(connack(b"\0\x04MQTT\x05\x03\0\0\0\0\x01c"), malformed);
    // Errors of other packets are not answered with CONNACK.
    assert_eq!(
        codec::decode(bytes(b"\xC1\0"), V5).unwrap_err().connack(),
        None
    );
}

#[test]
fn subscriptions_are_checked() {
    refused_in_all("bad #", b"\x82\x0A\0\x01\0\x05a/#/b\0", MALFORMED);
    let subscribe = |version: ProtocolVersion, filter: &[u8], options: u8| {
        let length = u8::try_from(filter.len()).unwrap();
        let properties: &[u8] = if version == V5 { b"\0" } else { b"" };
        frame(
            0x82,
            &[b"\0\x01", properties, &[0, length], filter, &[options]].concat(),
        )
    };
    let unsubscribe = |version: ProtocolVersion, filter: &[u8]| {
        let length = u8::try_from(filter.len()).unwrap();
        let properties: &[u8] = if version == V5 { b"\0" } else { b"" };
        frame(
            0xA2,
            &[b"\0\x01", properties, &[0, length], filter].concat(),
        )
    };
    for version in ProtocolVersion::ALL {
        for filter in [
            "",
            "a/#/b",
            "a#",
            "a/b#",
            "#a",
            "##",
            "a+",
            "+a/b",
            "a/++",
            "a/+b",
            "a\0",
            "$share/g",
            "$share//a",
            "$share/g/",
            "$share/+/a",
            "$share/#/a",
            "$share/g/a#",
            "$queue/",
        ] {
            refused(
                version,
                filter,
                &subscribe(version, filter.as_bytes(), 0),
                MALFORMED,
            );
            refused(
                version,
                filter,
                &unsubscribe(version, filter.as_bytes()),
                MALFORMED,
            );
        }
        refused(
            version,
            "not UTF-8",
            &subscribe(version, b"\xC3(", 0),
            MALFORMED,
        );
        refused(version, "QoS 3", &subscribe(version, b"a", 3), PROTOCOL);
        refused(
            version,
            "reserved bit",
            &subscribe(version, b"a", 0x40),
            MALFORMED,
        );
        refused(
            version,
            "reserved bit",
            &subscribe(version, b"a", 0x80),
            MALFORMED,
        );
        let nothing: &[u8] = if version == V5 {
            b"\0\x01\0"
        } else {
            b"\0\x01"
        };
        refused(
            version,
            "nothing subscribed",
            &frame(0x82, nothing),
            PROTOCOL,
        );
        refused(
            version,
            "nothing unsubscribed",
            &frame(0xA2, nothing),
            PROTOCOL,
        );
    }
    for options in [0x04, 0x08, 0x10, 0x20] {
        refused(
            V3_1_1,
            "an option of v5",
            &subscribe(V3_1_1, b"a", options),
            MALFORMED,
        );
        assert!(codec::decode(subscribe(V5, b"a", options).into(), V5).is_ok());
    }
    refused(
        V5,
        "retain handling 3",
        &subscribe(V5, b"a", 0x30),
        PROTOCOL,
    );
    refused(
        V5,
        "no-local on shared",
        &subscribe(V5, b"$share/g/a", 0x04),
        PROTOCOL,
    );
}

#[test]
fn answers_of_older_versions_are_checked() {
    refused(V3_1_1, "return code 6", b"\x20\x02\0\x06", MALFORMED);
    refused(
        V3_1_1,
        "reserved CONNACK flags",
        b"\x20\x02\x02\0",
        MALFORMED,
    );
    refused(
        V3_1_1,
        "session present in a refusal",
        b"\x20\x02\x01\x05",
        PROTOCOL,
    );
    refused(V3_1_1, "SUBACK code 3", b"\x90\x03\0\x01\x03", MALFORMED);
    refused(V3_1_1, "SUBACK code of v5", b"\x90\x03\0\x01\x87", PROTOCOL);
    refused(V3_1_1, "SUBACK of nothing", b"\x90\x02\0\x01", PROTOCOL);
    refused(V5, "SUBACK of nothing", b"\x90\x03\0\x01\0", PROTOCOL);
    refused(V5, "UNSUBACK of nothing", b"\xB0\x03\0\x01\0", PROTOCOL);
    refused(
        V5,
        "session present in a refusal",
        b"\x20\x03\x01\x87\0",
        PROTOCOL,
    );
}

/// [MQTT-2.2.1-2] [MQTT-3.3.1-2] [MQTT-3.3.2-2] [MQTT-3.2.2-8] [MQTT-3.9.3-2] [MQTT3-2.3.1-5] [MQTT3-3.3.1-2] [MQTT3-3.3.2-2]
#[test]
fn packets_that_the_standard_forbids_are_not_written() {
    let mut out = b"before".to_vec();
    let mut fails = |packet: Packet, version| {
        assert!(
            codec::encode(&packet, version, &mut out).is_err(),
            "{packet:?}"
        );
        assert_eq!(out, b"before");
    };
    let publish = |topic: Utf8| Publish::new(topic, bytes(b""));
    fails(Packet::Publish(publish(text(""))), V5);
    fails(Packet::Publish(publish(text("a/+"))), V3_1_1);
    let without_id = Publish {
        qos: QoS::AtLeastOnce,
        ..publish(text("a"))
    };
    fails(Packet::Publish(without_id), V5);
    let with_id = Publish {
        packet_id: Some(id(1)),
        ..publish(text("a"))
    };
    fails(Packet::Publish(with_id), V5);
    let dup = Publish {
        dup: true,
        ..publish(text("a"))
    };
    fails(Packet::Publish(dup), V5);
    fails(Packet::SubAck(SubAck::new(id(1), Vec::new())), V5);
    let misplaced = SubAck::new(id(1), vec![ReasonCode::ServerBusy]);
    fails(Packet::SubAck(misplaced), V5);
    let misplaced = ConnAck::refused(ReasonCode::SessionTakenOver);
    fails(Packet::ConnAck(Box::new(misplaced)), V5);
    let mut connect = Connect::new(V3_1_1, text("c"));
    connect.password = Some(bytes(b"p"));
    fails(Packet::Connect(Box::new(connect.clone())), V5);
    connect.username = Some(text("u"));
    connect.password = Some(Bytes::from(vec![0; 65536]));
    fails(Packet::Connect(Box::new(connect)), V5);
}

#[test]
fn the_version_of_a_connect_is_known_from_its_first_bytes() {
    for version in ProtocolVersion::ALL {
        let mut bytes = Vec::new();
        let connect = Connect::new(version, Utf8::try_from("a".repeat(200)).unwrap());
        connect.encode(&mut bytes).unwrap();
        // Type, two bytes of length, the name behind its length, the level.
        let enough = 1 + 2 + 2 + version.protocol_name().len() + 1;
        for len in 0..bytes.len() {
            let expected = (len >= enough).then_some(version);
            assert_eq!(codec::version_of_connect(&bytes[..len]), expected, "{len}");
        }
        bytes[0] = 0x30;
        assert_eq!(codec::version_of_connect(&bytes), None);
    }
}
