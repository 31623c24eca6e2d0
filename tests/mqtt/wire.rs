//! Chapters 1 and 2: text, numbers, flags and packet identifiers, as bytes that only a wrong client sends.

use weir_mqtt::{Packet, ReasonCode};

use crate::client::{ALL, TestBroker, V3_1_1, V5, publish as message};
use crate::raw::{connect, frame, properties, publish, subscribe, text, unsubscribe};

const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
const PROTOCOL: ReasonCode = ReasonCode::ProtocolError;

/// A surrogate, a byte that is no UTF-8, U+0000 in two bytes, a code point above the last one, and an unfinished one.
const NO_TEXTS: [&[u8]; 5] = [
    b"\xED\xA0\x80",
    b"a\xFF",
    b"\xC0\x80",
    b"\xF5\x80\x80\x80",
    b"\xE2\x82",
];

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_connection() {
    // [MQTT-1.5.4-1] [MQTT3-1.5.3-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        for bad in NO_TEXTS {
            let packets = [
                // [MQTT-3.3.2-1] [MQTT3-3.3.2-1]
                ("topic name", publish(version, bad, b"")),
                // [MQTT-3.8.3-1] [MQTT3-3.8.3-1]
                ("filter", subscribe(version, bad, 0)),
                // [MQTT-3.10.3-1] [MQTT3-3.10.3-1]
                ("filter to end", unsubscribe(version, bad)),
            ];
            for (what, packet) in packets {
                broker.disconnects(version, what, &packet, MALFORMED).await;
            }
        }
    }
    for bad in NO_TEXTS {
        let packets = [
            // [MQTT-1.5.7-1]
            ("name", [&b"\x26"[..], &text(bad), &text(b"v")].concat()),
            ("value", [&b"\x26"[..], &text(b"n"), &text(bad)].concat()),
            // [MQTT-3.3.2-13]
            ("response topic", [&b"\x08"[..], &text(bad)].concat()),
            // [MQTT-3.3.2-19]
            ("content type", [&b"\x03"[..], &text(bad)].concat()),
        ];
        for (what, property) in packets {
            let packet = publish(V5, b"t", &property);
            broker.disconnects(V5, what, &packet, MALFORMED).await;
        }
    }
}

#[tokio::test]
async fn text_in_connect_that_is_not_utf8_ends_the_connection() {
    // [MQTT-1.5.4-1] [MQTT3-1.5.3-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        for bad in NO_TEXTS {
            let will = [properties(version, b""), text(bad), text(b"gone")].concat();
            let packets = [
                // [MQTT-3.1.3-4] [MQTT3-3.1.3-4]
                ("client identifier", connect(version, 0x02, &text(bad))),
                // [MQTT-3.1.3-11] [MQTT3-3.1.3-10]
                (
                    "will topic",
                    connect(version, 0x06, &[text(b"c"), will].concat()),
                ),
                // [MQTT-3.1.3-12] [MQTT3-3.1.3-11]
                (
                    "user name",
                    connect(version, 0x82, &[text(b"c"), text(bad)].concat()),
                ),
            ];
            for (what, packet) in packets {
                broker.cuts_off(version, what, &packet).await;
            }
        }
    }
}

#[tokio::test]
async fn a_text_with_u0000_ends_the_connection() {
    // [MQTT-1.5.4-2] [MQTT-4.7.3-2] [MQTT3-1.5.3-2] [MQTT3-4.7.3-2]
    let broker = TestBroker::start().await;
    for version in ALL {
        for (what, packet) in [
            ("topic name", publish(version, b"a\0b", b"")),
            ("filter", subscribe(version, b"\0", 0)),
            ("filter to end", unsubscribe(version, b"a/\0")),
        ] {
            broker.disconnects(version, what, &packet, MALFORMED).await;
        }
        let name = connect(version, 0x02, &text(b"\0"));
        broker.cuts_off(version, "client identifier", &name).await;
    }
}

#[tokio::test]
async fn a_zero_width_no_break_space_is_a_character_like_others() {
    // [MQTT-1.5.4-3] [MQTT3-1.5.3-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut with = broker.connect(version, "\u{FEFF}same").await;
        let mut without = broker.connect(version, "same").await;
        with.subscribe("\u{FEFF}a\u{FEFF}/b", 0).await;
        without.subscribe("a/b", 0).await;
        let mut publisher = broker.connect(version, "pub").await;
        publisher
            .publish(message("\u{FEFF}a\u{FEFF}/b", "x", 1, 1))
            .await;
        let topic = with.receive_publish().await.topic;
        assert_eq!(topic.as_bytes(), b"\xEF\xBB\xBFa\xEF\xBB\xBF/b");
        without.expect_nothing().await;
    }
}

#[tokio::test]
async fn reserved_flags_of_the_fixed_header_end_the_connection() {
    // [MQTT-2.1.3-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2]
    let broker = TestBroker::start().await;
    for version in [V3_1_1, V5] {
        let subscribe = subscribe(version, b"a", 0);
        let unsubscribe = unsubscribe(version, b"a");
        for flags in 0..16 {
            let packets: [(&str, u8, u8, &[u8]); 5] = [
                // [MQTT-3.6.1-1] [MQTT3-3.6.1-1]
                ("PUBREL", 0x60, 0b0010, b"\0\x01"),
                // [MQTT-3.8.1-1] [MQTT3-3.8.1-1]
                ("SUBSCRIBE", 0x80, 0b0010, &subscribe[2..]),
                // [MQTT-3.10.1-1] [MQTT3-3.10.1-1]
                ("UNSUBSCRIBE", 0xA0, 0b0010, &unsubscribe[2..]),
                ("PINGREQ", 0xC0, 0, b""),
                // [MQTT-3.14.1-1] [MQTT3-3.14.1-1]
                ("DISCONNECT", 0xE0, 0, b""),
            ];
            for (what, packet_type, right, body) in packets {
                if flags != right {
                    let packet = frame(packet_type | flags, body);
                    broker.disconnects(version, what, &packet, MALFORMED).await;
                }
            }
        }
    }
    for flags in 1..16 {
        // [MQTT-3.15.1-1]
        let auth = frame(0xF0 | flags, b"\x18\x04\x15\0\x01m");
        broker.disconnects(V5, "AUTH", &auth, MALFORMED).await;
    }
}

#[tokio::test]
async fn packets_of_a_wrong_form_end_the_connection() {
    // [MQTT-4.13.1-1] [MQTT3-4.8.0-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let none = properties(version, b"");
        let with_id = |id: &[u8]| [id, &none].concat();
        let packets = [
            // [MQTT-3.3.1-4] [MQTT3-3.3.1-4]
            (
                "both QoS bits",
                frame(0x36, &[text(b"t"), with_id(b"\0\x01")].concat()),
                MALFORMED,
            ),
            // [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
            (
                "DUP with QoS 0",
                frame(0x38, &[text(b"t"), none.clone()].concat()),
                MALFORMED,
            ),
            // [MQTT-3.3.2-1] [MQTT3-3.3.2-1]
            ("no topic name", frame(0x30, b""), MALFORMED),
            // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1]
            (
                "+ in a topic name",
                publish(version, b"a/+", b""),
                MALFORMED,
            ),
            ("# in a topic name", publish(version, b"#", b""), MALFORMED),
            // [MQTT-2.2.1-3] [MQTT3-2.3.1-1]
            (
                "PUBLISH 0",
                frame(0x32, &[text(b"t"), with_id(b"\0\0")].concat()),
                PROTOCOL,
            ),
            (
                "SUBSCRIBE 0",
                frame(0x82, &[with_id(b"\0\0"), text(b"t"), vec![0]].concat()),
                PROTOCOL,
            ),
            (
                "UNSUBSCRIBE 0",
                frame(0xA2, &[with_id(b"\0\0"), text(b"t")].concat()),
                PROTOCOL,
            ),
            // [MQTT-3.8.3-2] [MQTT3-3.8.3-3]
            ("no filter", frame(0x82, &with_id(b"\0\x01")), PROTOCOL),
            // [MQTT-3.10.3-2] [MQTT3-3.10.3-2]
            (
                "no filter to end",
                frame(0xA2, &with_id(b"\0\x01")),
                PROTOCOL,
            ),
            // [MQTT-4.7.3-1] [MQTT3-4.7.3-1]
            ("empty filter", subscribe(version, b"", 0), MALFORMED),
            // [MQTT-4.7.1-1] [MQTT3-4.7.1-2]
            ("a/#/b", subscribe(version, b"a/#/b", 0), MALFORMED),
            ("a#", subscribe(version, b"a#", 0), MALFORMED),
            // [MQTT-4.7.1-2] [MQTT3-4.7.1-3]
            ("a+/b", subscribe(version, b"a+/b", 0), MALFORMED),
            // [MQTT-3.8.3-5] [MQTT3-3.8.3-4]
            ("bit 6", subscribe(version, b"a", 0x40), MALFORMED),
            ("bit 7", subscribe(version, b"a", 0x80), MALFORMED),
            ("QoS 3", subscribe(version, b"a", 3), PROTOCOL),
        ];
        for (what, packet, reason) in packets {
            broker.disconnects(version, what, &packet, reason).await;
        }
    }
    // [MQTT-4.7.3-1] [MQTT3-4.7.3-1]
    let empty = publish(V3_1_1, b"", b"");
    let disconnects = broker.disconnects(V3_1_1, "empty topic", &empty, MALFORMED);
    disconnects.await;
}

#[tokio::test]
async fn packets_of_a_wrong_form_in_mqtt5_end_the_connection() {
    // [MQTT-4.13.1-1]
    let broker = TestBroker::start().await;
    for (what, packet, reason) in [
        // [MQTT-1.5.5-1]
        ("length in two bytes", b"\xC0\x80\0".to_vec(), MALFORMED),
        (
            "length of properties in two bytes",
            b"\x30\x05\0\x01t\x80\0".to_vec(),
            MALFORMED,
        ),
        // [MQTT-2.2.2-1]
        (
            "no length of properties",
            frame(0x30, &text(b"t")),
            MALFORMED,
        ),
        // [MQTT-3.3.2-8]
        (
            "topic alias 0",
            publish(V5, b"t", b"\x23\0\0"),
            ReasonCode::TopicAliasInvalid,
        ),
        // [MQTT-3.3.2-14]
        (
            "# in a response topic",
            publish(V5, b"t", b"\x08\0\x01#"),
            MALFORMED,
        ),
        // [MQTT-3.3.4-6]
        (
            "subscription identifier",
            publish(V5, b"t", b"\x0B\x01"),
            PROTOCOL,
        ),
        // [MQTT-3.8.3-4]
        (
            "no local on a shared filter",
            subscribe(V5, b"$share/g/a", 0b0100),
            PROTOCOL,
        ),
        // [MQTT-4.8.2-1]
        ("no filter", subscribe(V5, b"$share/g", 0), MALFORMED),
        ("no share name", subscribe(V5, b"$share//a", 0), MALFORMED),
        // [MQTT-4.8.2-2]
        ("+", subscribe(V5, b"$share/g+/a", 0), MALFORMED),
        ("#", subscribe(V5, b"$share/#/a", 0), MALFORMED),
        ("empty", subscribe(V5, b"$share/g/", 0), MALFORMED),
        // [MQTT-4.12.0-7]
        ("AUTH", b"\xF0\x06\x18\x04\x15\0\x01m".to_vec(), PROTOCOL),
    ] {
        broker.disconnects(V5, what, &packet, reason).await;
    }
}

#[tokio::test]
async fn every_packet_has_its_properties_or_says_that_it_has_none() {
    // [MQTT-2.2.2-1]
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "a").await;
    client.send_bytes(&subscribe(V5, b"t", 0)).await;
    assert_eq!(client.receive_bytes(6).await, b"\x90\x04\0\x01\0\0");
    client.send_bytes(&publish(V5, b"t", b"")).await;
    assert_eq!(client.receive_bytes(7).await, b"\x30\x05\0\x01t\0x");
    client.send_bytes(&unsubscribe(V5, b"t")).await;
    assert_eq!(client.receive_bytes(6).await, b"\xB0\x04\0\x01\0\0");
}

#[tokio::test]
async fn answers_have_the_identifiers_of_what_they_answer() {
    // [MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.10.4-5]
    // [MQTT3-2.3.1-6] [MQTT3-2.3.1-7] [MQTT3-3.8.4-2] [MQTT3-3.10.4-4]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut client = broker.connect(version, "a").await;
        for id in [1, 255, 256, 0x1234, 65535_u16] {
            let number = id.to_be_bytes();
            let none = properties(version, b"");
            let with_id = [&number[..], &none].concat();
            for (packet, answer) in [
                // SUBSCRIBE, UNSUBSCRIBE, PUBLISH of QoS 1 and 2, PUBREL.
                (frame(0x82, &[&with_id[..], b"\0\x01a\0"].concat()), 0x90_u8),
                (frame(0xA2, &[&with_id[..], b"\0\x01a"].concat()), 0xB0),
                (frame(0x32, &[b"\0\x01t", &with_id[..]].concat()), 0x40),
                (frame(0x34, &[b"\0\x01t", &with_id[..]].concat()), 0x50),
                (frame(0x62, &number), 0x70),
            ] {
                client.send_bytes(&packet).await;
                let head = client.receive_bytes(4).await;
                assert_eq!((head[0], &head[2..]), (answer, &number[..]), "{version}");
                client.receive_bytes(usize::from(head[1]) - 2).await;
            }
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered() {
    // [MQTT-3.12.4-1] [MQTT3-3.12.4-1]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut client = broker.connect(version, "a").await;
        for _ in 0..3 {
            client.send(Packet::PingReq).await;
            assert_eq!(client.receive().await, Packet::PingResp);
        }
    }
}
