//! Which properties and reason codes each packet of MQTT 5 may have, and with which values.

use weir_mqtt::properties::AuthProperties;
use weir_mqtt::{
    Auth, ConnAck, Disconnect, Packet, PubAck, PubComp, PubRec, PubRel, ReasonCode, SubAck,
    UnsubAck, codec,
};

use crate::malformed::{MALFORMED, PROTOCOL, refused};
use crate::{V5, frame};

#[test]
fn property_values_out_of_range_are_refused() {
    let publish = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        frame(0x30, &[b"\0\x01t", &[length][..], properties].concat())
    };
    let connect = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        frame(
            0x10,
            &[
                b"\0\x04MQTT\x05\x02\0\0",
                &[length][..],
                properties,
                b"\0\x01c",
            ]
            .concat(),
        )
    };
    let connack = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        frame(0x20, &[b"\0\0", &[length][..], properties].concat())
    };
    let subscribe = |properties: &[u8]| {
        let length = u8::try_from(properties.len()).unwrap();
        frame(
            0x82,
            &[b"\0\x01", &[length][..], properties, b"\0\x01a\0"].concat(),
        )
    };
    let alias = ReasonCode::TopicAliasInvalid;
    refused(V5, "topic alias 0", &publish(b"\x23\0\0"), alias);
    refused(V5, "payload format 2", &publish(b"\x01\x02"), PROTOCOL);
    refused(
        V5,
        "subscription identifier 0",
        &publish(b"\x0B\0"),
        PROTOCOL,
    );
    refused(
        V5,
        "subscription identifier 0",
        &subscribe(b"\x0B\0"),
        PROTOCOL,
    );
    refused(
        V5,
        "five bytes",
        &subscribe(b"\x0B\x80\x80\x80\x80\x01"),
        MALFORMED,
    );
    refused(
        V5,
        "response topic with wildcard",
        &publish(b"\x08\0\x01#"),
        MALFORMED,
    );
    refused(V5, "empty response topic", &publish(b"\x08\0\0"), MALFORMED);
    refused(
        V5,
        "U+0000 in a user property",
        &publish(b"\x26\0\x01\0\0\0"),
        MALFORMED,
    );
    refused(V5, "receive maximum 0", &connect(b"\x21\0\0"), PROTOCOL);
    refused(
        V5,
        "maximum packet size 0",
        &connect(b"\x27\0\0\0\0"),
        PROTOCOL,
    );
    refused(
        V5,
        "request problem information 2",
        &connect(b"\x17\x02"),
        PROTOCOL,
    );
    refused(
        V5,
        "request response information 2",
        &connect(b"\x19\x02"),
        PROTOCOL,
    );
    refused(
        V5,
        "data without method",
        &connect(b"\x16\0\x01d"),
        PROTOCOL,
    );
    refused(V5, "maximum QoS 2", &connack(b"\x24\x02"), PROTOCOL);
    refused(V5, "retain available 2", &connack(b"\x25\x02"), PROTOCOL);
    refused(V5, "AUTH without method", b"\xF0\x02\x18\0", PROTOCOL);
    refused(V5, "AUTH without properties", b"\xF0\x01\x18", PROTOCOL);
    refused(
        V5,
        "value cut by the block's end",
        &publish(b"\x02\0\0\0"),
        MALFORMED,
    );
    refused(V5, "identifier alone", &publish(b"\x23"), MALFORMED);
    refused(
        V5,
        "block longer than the packet",
        b"\x30\x05\0\x01t\x04\x01",
        MALFORMED,
    );
    refused(
        V5,
        "length not in its shortest form",
        b"\x30\x05\0\x01t\x80\0",
        MALFORMED,
    );
}

/// Every property: its identifier, a value, and the packets (by type; 0 is the will) that may have it.
const PROPERTIES: [(u8, &[u8], &[u8]); 27] = [
    (0x01, b"\x01", &[3, 0]),
    (0x02, b"\0\0\0\x01", &[3, 0]),
    (0x03, b"\0\x01a", &[3, 0]),
    (0x08, b"\0\x01a", &[3, 0]),
    (0x09, b"\0\x01a", &[3, 0]),
    (0x0B, b"\x01", &[3, 8]),
    (0x11, b"\0\0\0\x01", &[1, 2, 14]),
    (0x12, b"\0\x01a", &[2]),
    (0x13, b"\0\x01", &[2]),
    (0x15, b"\0\x01a", &[1, 2, 15]),
    (0x16, b"\0\x01a", &[1, 2, 15]),
    (0x17, b"\x01", &[1]),
    (0x18, b"\0\0\0\x01", &[0]),
    (0x19, b"\x01", &[1]),
    (0x1A, b"\0\x01a", &[2]),
    (0x1C, b"\0\x01a", &[2, 14]),
    (0x1F, b"\0\x01a", &[2, 4, 5, 6, 7, 9, 11, 14, 15]),
    (0x21, b"\0\x01", &[1, 2]),
    (0x22, b"\0\x01", &[1, 2]),
    (0x23, b"\0\x01", &[3]),
    (0x24, b"\x01", &[2]),
    (0x25, b"\x01", &[2]),
    (
        0x26,
        b"\0\x01a\0\x01b",
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15],
    ),
    (0x27, b"\0\0\0\x01", &[1, 2]),
    (0x28, b"\x01", &[2]),
    (0x29, b"\x01", &[2]),
    (0x2A, b"\x01", &[2]),
];

/// A packet of this type with these properties and all else that it needs.
fn with_properties(packet_type: u8, properties: &[u8]) -> Vec<u8> {
    // Authentication data and AUTH need a method; the caller may bring it.
    let needs_method = packet_type == 15 || (packet_type == 1 && properties.contains(&0x16));
    let method: &[u8] = if needs_method && !properties.contains(&0x15) {
        b"\x15\0\x01m"
    } else {
        b""
    };
    let length = u8::try_from(properties.len() + method.len()).unwrap();
    let block = [&[length], method, properties].concat();
    let around =
        |first: u8, before: &[u8], after: &[u8]| frame(first, &[before, &block, after].concat());
    match packet_type {
        0 => around(0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", b"\0\x01w\0\0"),
        1 => around(0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\x01c"),
        2 => around(0x20, b"\0\0", b""),
        3 => around(0x30, b"\0\x01t", b"payload"),
        4 | 5 | 7 => around(packet_type << 4, b"\0\x01\0", b""),
        6 => around(0x62, b"\0\x01\0", b""),
        8 => around(0x82, b"\0\x01", b"\0\x01a\0"),
        9 => around(0x90, b"\0\x01", b"\0"),
        10 => around(0xA2, b"\0\x01", b"\0\x01a"),
        11 => around(0xB0, b"\0\x01", b"\0"),
        14 => around(0xE0, b"\0", b""),
        15 => around(0xF0, b"\x18", b""),
        other => panic!("packet type {other} has no properties"),
    }
}

const WITH_PROPERTIES: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15];

#[test]
fn each_property_is_allowed_in_its_packets_and_nowhere_else() {
    for (id, value, packets) in PROPERTIES {
        let property = [&[id], value].concat();
        for packet_type in WITH_PROPERTIES {
            let wire = with_properties(packet_type, &property);
            if packets.contains(&packet_type) {
                let decoded = codec::decode(wire.into(), V5);
                assert!(decoded.is_ok(), "{id:#x} in {packet_type}: {decoded:?}");
            } else {
                refused(V5, &format!("{id:#x} in {packet_type}"), &wire, MALFORMED);
            }
        }
    }
}

#[test]
fn properties_stand_once_but_for_those_that_may_repeat() {
    for (id, value, packets) in PROPERTIES {
        let twice = [&[id], value, &[id], value].concat();
        for &packet_type in packets {
            let wire = with_properties(packet_type, &twice);
            if id == 0x26 || (id, packet_type) == (0x0B, 3) {
                assert!(codec::decode(wire.into(), V5).is_ok());
            } else {
                refused(
                    V5,
                    &format!("{id:#x} twice in {packet_type}"),
                    &wire,
                    PROTOCOL,
                );
            }
        }
    }
}

#[test]
fn unknown_properties_are_malformed() {
    let known = PROPERTIES.map(|(id, ..)| id);
    for id in (0..=255).filter(|id| !known.contains(id)) {
        for packet_type in WITH_PROPERTIES {
            let wire = with_properties(packet_type, &[id, 0, 0, 0, 0]);
            refused(V5, &format!("{id:#x} in {packet_type}"), &wire, MALFORMED);
        }
    }
}

/// First byte; what stands before and after the code; the codes allowed.
type ReasonsOf = (u8, &'static [u8], &'static [u8], &'static [u8]);

/// For each packet with reason codes, those that it may have.
const REASONS: [ReasonsOf; 9] = [
    (
        0x20,
        b"\0",
        b"\0",
        &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
            0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    ),
    (
        0x40,
        b"\0\x01",
        b"",
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    (
        0x50,
        b"\0\x01",
        b"",
        &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
    ),
    (0x62, b"\0\x01", b"", &[0x00, 0x92]),
    (0x70, b"\0\x01", b"", &[0x00, 0x92]),
    (
        0x90,
        b"\0\x01\0",
        b"",
        &[
            0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
        ],
    ),
    (
        0xB0,
        b"\0\x01\0",
        b"",
        &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
    ),
    (
        0xE0,
        b"",
        b"",
        &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90,
            0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0,
            0xA1, 0xA2,
        ],
    ),
    (0xF0, b"", b"\x04\x15\0\x01m", &[0x00, 0x18, 0x19]),
];

#[test]
fn each_reason_code_is_allowed_in_its_packets_and_nowhere_else() {
    for (first, before, after, allowed) in REASONS {
        for code in 0..=255 {
            let wire = frame(first, &[before, &[code], after].concat());
            let what = format!("{code:#x} in {first:#x}");
            if allowed.contains(&code) {
                assert!(codec::decode(wire.into(), V5).is_ok(), "{what}");
            } else if ReasonCode::from_u8(code).is_some() {
                refused(V5, &what, &wire, PROTOCOL);
            } else {
                refused(V5, &what, &wire, MALFORMED);
            }
        }
    }
}

/// A packet of this first byte with this reason code.
fn packet_with(first: u8, reason: ReasonCode) -> Packet {
    let id = crate::id(1);
    match first >> 4 {
        2 => Packet::ConnAck(Box::new(ConnAck::refused(reason))),
        4 => Packet::PubAck(PubAck::new(id, reason)),
        5 => Packet::PubRec(PubRec::new(id, reason)),
        6 => Packet::PubRel(PubRel::new(id, reason)),
        7 => Packet::PubComp(PubComp::new(id, reason)),
        9 => Packet::SubAck(SubAck::new(id, vec![reason])),
        11 => Packet::UnsubAck(UnsubAck::new(id, vec![reason])),
        14 => Packet::Disconnect(Disconnect::new(reason)),
        15 => Packet::Auth(Auth {
            reason,
            properties: Some(Box::new(AuthProperties {
                authentication_method: Some(crate::text("m")),
                ..AuthProperties::default()
            })),
        }),
        other => panic!("packet type {other} has no reason code"),
    }
}

/// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2]
/// [MQTT-3.14.2-1] [MQTT-3.15.2-1]
#[test]
fn each_reason_code_is_written_into_its_packets_and_nowhere_else() {
    for (first, _, _, allowed) in REASONS {
        for &reason in ReasonCode::ALL {
            let mut out = Vec::new();
            let written = codec::encode(&packet_with(first, reason), V5, &mut out);
            let what = format!("{reason:?} in {first:#x}");
            assert_eq!(written.is_ok(), allowed.contains(&reason.as_u8()), "{what}");
        }
    }
}
