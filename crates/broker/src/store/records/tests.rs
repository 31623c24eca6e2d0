use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::Path;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weir_mqtt::properties::{PayloadFormat, PublishProperties};
use weir_mqtt::{PacketId, QoS, SubscriptionFilter, SubscriptionId, TopicFilter, TopicName, Utf8};
use weir_rules::Value;
use weir_rules::event::RuleId;
use weir_rules::value::{Bits, Key, Object, Text};

use super::write::{write_number, write_object};
use super::*;
use crate::core::bans::{Ban, Who};
use crate::core::message::Origin;
use crate::core::shared_groups::{Group, Strategies};
use crate::core::will::Will;
use crate::store::{SessionId, SubscriptionOptions};

/// One record of each kind: the first with everything that may be absent.
fn one_of_each() -> Vec<Persist> {
    let session = || SessionId {
        client_id: "gate-7".into(),
        epoch: 300,
    };
    let packet_id = PacketId::new(4711).unwrap();
    let filter = |text| SubscriptionFilter::parse(text).unwrap();
    let name = filter("$share/workers/site/+/up");
    let bits = Bits {
        bytes: vec![0xA5, 0x80],
        len: 9,
    };
    let attributes = Object::from_iter([
        (Key::from("site"), Value::from("7")),
        (Key::from("none"), Value::Undefined),
        (Key::from("null"), Value::Null),
        (
            Key::from("flags"),
            Value::from(vec![Value::from(false), Value::from(true)]),
        ),
        (
            Key::from("numbers"),
            Value::from(Object::from_iter([
                (Key::from("int"), Value::Int(-5)),
                (Key::from("float"), Value::Float(0.5)),
            ])),
        ),
        (Key::from("bytes"), Value::Text(Text::from(vec![0xFF, 0]))),
        (Key::from("bits"), Value::Bits(Arc::new(bits))),
    ]);
    let properties = PublishProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        message_expiry_interval_s: Some(3600),
        response_topic: Some(TopicName::new("site/7/answer").unwrap()),
        correlation_data: Some(Bytes::from_static(&[0, 1, 0xFE])),
        user_properties: vec![
            ("b".into(), "1".into()),
            ("a".into(), "2".into()),
            ("b".into(), "3".into()),
        ],
        content_type: Some("application/json".into()),
        ..PublishProperties::default()
    };
    let message = Message {
        id: 0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF,
        topic: "site/7/up".into(),
        payload: Bytes::from_static(b"{\"t\": 41.5}"),
        qos: QoS::ExactlyOnce,
        retain: true,
        dup: true,
        properties: Some(Box::new(properties)),
        expires_at: Some(1_800_000_003_600),
        retain_s: None,
        accepted_at: 1_800_000_000_000,
        origin: Arc::new(Origin {
            client_id: "meter-1".into(),
            username: Some("meters".into()),
            peer: Some("[fe80::1%3]:1883".parse().unwrap()),
            attributes: Some(Arc::new(attributes)),
        }),
        hops: 2,
        made_by: Some("forward".into()),
    };
    let plain = Message::text("site/7/state", "on").unwrap();
    let waiting = Waiting {
        message: Arc::new(message),
        qos: QoS::AtLeastOnce,
        retain: true,
        subscription_ids: Some([1, SubscriptionId::MAX].map(subscription_id).into()),
        number: u64::MAX,
        group: Some(Group::new(name.clone(), &Strategies::default())),
    };
    vec![
        Persist::Owed {
            session: session(),
            waiting,
        },
        Persist::Session {
            session: session(),
            expiry_interval_s: 86_400,
        },
        Persist::Disconnected {
            session: session(),
            at: 1_800_000_000_123,
        },
        Persist::Subscribed {
            session: session(),
            filter: name,
            options: SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: false,
                retain_as_published: true,
                id: Some(subscription_id(300)),
            },
        },
        Persist::Unsubscribed {
            session: session(),
            filter: filter("site/#"),
        },
        Persist::InFlight {
            session: session(),
            number: 128,
            packet_id,
        },
        Persist::Released {
            session: session(),
            number: 127,
        },
        Persist::Settled {
            session: session(),
            number: 0,
        },
        Persist::Received {
            session: session(),
            packet_id,
        },
        Persist::ReceivedDone {
            session: session(),
            packet_id,
        },
        Persist::Retained {
            message: Arc::new(plain.retained()),
            change: 5,
        },
        Persist::RetainedCleared {
            topic: "site/7/state".into(),
            change: 6,
        },
        Persist::SessionEnded { session: session() },
        Persist::Will {
            session: session(),
            will: Some(Box::new(Will::restored(
                Message::text("site/7/state", "off").unwrap(),
                30,
            ))),
        },
        Persist::Delayed {
            number: 9,
            at: 1_800_000_060_000,
            message: Arc::new(Message::text("site/7/later", "x").unwrap()),
        },
        Persist::DelayedDone { number: 8 },
        Persist::Began {
            change: 6,
            epoch: 300,
        },
        Persist::Banned {
            who: Who::parse("address", "203.0.113.0/24").unwrap(),
            ban: Ban {
                since: 1_800_000_000_000,
                until: Some(1_800_000_600_000),
                reason: Some("it floods".to_owned()),
            },
        },
        Persist::Unbanned {
            who: Who::parse("user", "mallory").unwrap(),
        },
    ]
}

fn subscription_id(id: u32) -> SubscriptionId {
    SubscriptionId::new(id).unwrap()
}

fn utf8() -> impl Strategy<Value = Utf8> {
    "\\PC{0,12}".prop_map(|text| Utf8::try_from(text).unwrap())
}

fn topic() -> impl Strategy<Value = Utf8> {
    "[a-z0-9/$ é]{1,12}".prop_map(|text| Utf8::try_from(text).unwrap())
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = QoS> + Clone {
    (0_u8..3).prop_map(|qos| QoS::try_from(qos).unwrap())
}

fn packet_id() -> impl Strategy<Value = PacketId> + Clone {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn subscription_ids() -> impl Strategy<Value = SubscriptionId> + Clone {
    (1..=SubscriptionId::MAX).prop_map(subscription_id)
}

fn filter() -> impl Strategy<Value = SubscriptionFilter> {
    let filter = prop_oneof![
        topic(),
        topic().prop_map(|topic| Utf8::new(&format!("+/{topic}/#")).unwrap())
    ];
    let share = option::of("[a-z$]{1,8}".prop_map(|text| Utf8::try_from(text).unwrap()));
    (share, filter).prop_map(|(share, filter)| SubscriptionFilter {
        share,
        filter: TopicFilter::try_from(filter).unwrap(),
    })
}

fn subscription_options() -> impl Strategy<Value = SubscriptionOptions> {
    let id = option::of(subscription_ids());
    (qos(), any::<(bool, bool)>(), id).prop_map(|(qos, (no_local, retain_as_published), id)| {
        SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            id,
        }
    })
}

fn value() -> impl Strategy<Value = Value> {
    let bits = vec(any::<u8>(), 0..4).prop_flat_map(|bytes| {
        let most = bytes.len() * 8;
        (most.saturating_sub(7)..=most).prop_map(move |len| {
            let bytes = bytes.clone();
            Value::Bits(Arc::new(Bits { bytes, len }))
        })
    });
    let leaf = prop_oneof![
        Just(Value::Undefined),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        data().prop_map(|data| Value::Text(Text::from(data))),
        bits,
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Object> {
    let member = ("\\PC{0,30}".prop_map(Key::from), value);
    vec(member, 0..4).prop_map(Object::from_iter)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<SocketAddrV4>().prop_map(SocketAddr::from),
        any::<SocketAddrV6>().prop_map(SocketAddr::from),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    let attributes = option::of(object(value()).prop_map(Arc::new));
    let parts = (
        utf8(),
        option::of(utf8()),
        option::of(address()),
        attributes,
    );
    parts.prop_map(|(client_id, username, peer, attributes)| Origin {
        client_id,
        username,
        peer,
        attributes,
    })
}

fn properties() -> impl Strategy<Value = PublishProperties> {
    let format = prop_oneof![Just(PayloadFormat::Unspecified), Just(PayloadFormat::Utf8)];
    let parts = (
        option::of(format),
        any::<Option<u32>>(),
        option::of(topic().prop_map(|topic| TopicName::parse(topic).unwrap())),
        option::of(data()),
        vec((utf8(), utf8()), 0..4),
        option::of(utf8()),
    );
    parts.prop_map(
        |(format, expiry, response_topic, correlation_data, user_properties, content_type)| {
            PublishProperties {
                payload_format_indicator: format,
                message_expiry_interval_s: expiry,
                response_topic,
                correlation_data,
                user_properties,
                content_type,
                topic_alias: None,
                subscription_identifiers: Vec::new(),
            }
        },
    )
}

fn message() -> impl Strategy<Value = Arc<Message>> {
    let numbers = any::<(u128, Option<u64>, u64, u8)>();
    let flags = any::<(bool, bool)>();
    let rule = option::of("\\PC{0,12}".prop_map(|id| RuleId::from(&*id)));
    let parts = (
        numbers,
        topic(),
        data(),
        qos(),
        flags,
        option::of(properties().prop_map(Box::new)),
        origin(),
        rule,
    );
    parts.prop_map(
        |(numbers, topic, payload, qos, flags, properties, origin, made_by)| {
            let (id, expires_at, accepted_at, hops) = numbers;
            let (retain, dup) = flags;
            Arc::new(Message {
                id,
                topic,
                payload,
                qos,
                retain,
                dup,
                properties,
                expires_at,
                retain_s: None,
                accepted_at,
                origin: Arc::new(origin),
                hops,
                made_by,
            })
        },
    )
}

fn waiting() -> impl Strategy<Value = Waiting> {
    let ids = option::of(vec(subscription_ids(), 0..4).prop_map(Arc::from));
    let group = option::of(filter().prop_map(|name| Group::new(name, &Strategies::default())));
    let parts = (message(), qos(), any::<bool>(), ids, any::<u64>(), group);
    parts.prop_map(
        |(message, qos, retain, subscription_ids, number, group)| Waiting {
            message,
            qos,
            retain,
            subscription_ids,
            number,
            group,
        },
    )
}

fn session() -> impl Strategy<Value = SessionId> {
    (utf8(), any::<u64>()).prop_map(|(client_id, epoch)| SessionId { client_id, epoch })
}

fn who() -> impl Strategy<Value = Who> {
    let name = || "\\PC{1,12}".prop_map(|text| Utf8::try_from(text).unwrap());
    prop_oneof![
        name().prop_map(Who::Client),
        name().prop_map(Who::User),
        (any::<std::net::IpAddr>(), 0..=32_u8).prop_map(|(address, bits)| {
            Who::parse("address", &format!("{address}/{bits}")).unwrap()
        }),
    ]
}

fn ban() -> impl Strategy<Value = Ban> {
    let parts = (any::<(u64, Option<u64>)>(), option::of("\\PC{0,30}"));
    parts.prop_map(|((since, until), reason)| Ban {
        since,
        until,
        reason,
    })
}

/// A record of any kind.
fn record() -> impl Strategy<Value = Persist> {
    let numbered = || (session(), any::<u64>());
    let identified = || (session(), packet_id());
    prop_oneof![
        (session(), any::<u32>()).prop_map(|(session, expiry_interval_s)| Persist::Session {
            session,
            expiry_interval_s,
        }),
        numbered().prop_map(|(session, at)| Persist::Disconnected { session, at }),
        session().prop_map(|session| Persist::SessionEnded { session }),
        (session(), filter(), subscription_options()).prop_map(|(session, filter, options)| {
            Persist::Subscribed {
                session,
                filter,
                options,
            }
        }),
        (session(), filter())
            .prop_map(|(session, filter)| Persist::Unsubscribed { session, filter }),
        (session(), waiting()).prop_map(|(session, waiting)| Persist::Owed { session, waiting }),
        (session(), any::<u64>(), packet_id()).prop_map(|(session, number, packet_id)| {
            Persist::InFlight {
                session,
                number,
                packet_id,
            }
        }),
        numbered().prop_map(|(session, number)| Persist::Released { session, number }),
        numbered().prop_map(|(session, number)| Persist::Settled { session, number }),
        identified().prop_map(|(session, packet_id)| Persist::Received { session, packet_id }),
        identified().prop_map(|(session, packet_id)| Persist::ReceivedDone { session, packet_id }),
        (message(), any::<u64>())
            .prop_map(|(message, change)| Persist::Retained { message, change }),
        (topic(), any::<u64>())
            .prop_map(|(topic, change)| Persist::RetainedCleared { topic, change }),
        (session(), option::of((message(), any::<u32>()))).prop_map(|(session, will)| {
            let will = will.map(|(message, delay_s)| {
                Box::new(Will::restored(Message::clone(&message), delay_s))
            });
            Persist::Will { session, will }
        }),
        (any::<(u64, u64)>(), message()).prop_map(|((number, at), message)| Persist::Delayed {
            number,
            at,
            message,
        }),
        any::<u64>().prop_map(|number| Persist::DelayedDone { number }),
        any::<(u64, u64)>().prop_map(|(change, epoch)| Persist::Began { change, epoch }),
        (who(), ban()).prop_map(|(who, ban)| Persist::Banned { who, ban }),
        who().prop_map(|who| Persist::Unbanned { who }),
    ]
}

fn encoded(records: &[Persist]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_batch(records, &mut out);
    out
}

/// What was given before the end or the error.
fn decoded(bytes: &[u8]) -> (Vec<Persist>, Result<(), BadRecord>) {
    let mut records = Vec::new();
    let ended = decode_batch(bytes, &mut |record| records.push(record));
    (records, ended)
}

/// The address and the attributes of who published a record's message.
fn publisher(record: &Persist) -> Option<(Option<SocketAddr>, Option<&Object>)> {
    let message = match record {
        Persist::Owed { waiting, .. } => &waiting.message,
        Persist::Retained { message, .. } => message,
        _ => return None,
    };
    let origin = &message.origin;
    Some((origin.peer, origin.attributes.as_deref()))
}

/// Records have no equality; this shows their fields.
fn shown(records: &[Persist]) -> Vec<String> {
    records.iter().map(|record| format!("{record:?}")).collect()
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_was(record in record()) {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        let mut rest = [bytes.as_slice(), b"next"].concat();
        let mut slice = rest.as_slice();
        let back = decode(&mut slice);
        prop_assert_eq!(slice, b"next", "nothing of the next record is taken");
        let back = back.unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{record:?}"));
        // What the text does not show: flow labels, and bytes of a value that are not UTF-8.
        prop_assert_eq!(publisher(&back), publisher(&record));
        rest.clear();
        encode(&back, &mut rest);
        prop_assert_eq!(rest, bytes);
    }

    #[test]
    fn a_batch_that_was_cut_gives_its_first_records_and_no_other(records in vec(record(), 0..4)) {
        let (bytes, whole) = (encoded(&records), shown(&records));
        let ends: Vec<_> = (0..=records.len()).map(|count| encoded(&records[..count]).len()).collect();
        for cut in 0..=bytes.len() {
            let (given, ended) = decoded(&bytes[..cut]);
            prop_assert_eq!(shown(&given), &whole[..ends.partition_point(|end| *end <= cut) - 1]);
            prop_assert_eq!(ended.is_ok(), ends.contains(&cut));
        }
    }

    #[test]
    fn damaged_bytes_never_panic(
        records in vec(record(), 1..3),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&records);
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        if let (_, Err(bad)) = decoded(&bytes) {
            prop_assert!(bad.at <= bytes.len());
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in vec(any::<u8>(), 0..100)) {
        let _ = decoded(&bytes);
        // As the body of each kind.
        for kind in kind::SESSION..=kind::UNBANNED {
            let mut batch = Vec::new();
            write_block(&mut batch, |out| {
                out.push(kind);
                out.extend_from_slice(&bytes);
            });
            let _ = decoded(&batch);
        }
    }

    #[test]
    fn numbers_go_both_ways(number: u64, shift in 0..64_u32) {
        let number = number >> shift;
        let mut bytes = Vec::new();
        write_number(number, &mut bytes);
        prop_assert_eq!(Reader::new(&bytes).number("a number"), Ok(number));
    }
}

#[test]
fn a_flipped_bit_changes_no_record_before_it() {
    let records = one_of_each();
    let (bytes, whole) = (encoded(&records), shown(&records));
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (bit % 8);
        let (given, _) = decoded(&flipped);
        let (intact, _) = decoded(&bytes[..at]);
        let intact = intact.len();
        assert_eq!(shown(&given[..intact]), whole[..intact], "bit {bit}");
    }
}

#[test]
fn a_message_that_is_owed_to_many_is_written_once_and_read_as_one() {
    let waiting = |message: &Arc<Message>| Waiting {
        message: Arc::clone(message),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: None,
        number: 1,
        group: None,
    };
    let large = |letter: &str| Arc::new(Message::text("t", &letter.repeat(10_000)).unwrap());
    let messages = [large("a"), large("b")];
    let records: Vec<_> = (0..100)
        .flat_map(|epoch| {
            let session = SessionId {
                client_id: "gate-7".into(),
                epoch,
            };
            messages.each_ref().map(|message| Persist::Owed {
                session: session.clone(),
                waiting: waiting(message),
            })
        })
        .collect();
    let bytes = encoded(&records);
    assert!(bytes.len() < 30_000, "{} bytes", bytes.len());
    let (given, ended) = decoded(&bytes);
    assert_eq!(ended, Ok(()));
    assert_eq!(shown(&given), shown(&records));
    let places: std::collections::BTreeSet<_> = given
        .iter()
        .map(|record| match record {
            Persist::Owed { waiting, .. } => Arc::as_ptr(&waiting.message).addr(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places.len(), 2, "two messages in memory");

    // The second record alone points at nothing.
    let first = encoded(&records[..1]).len();
    let second = encoded(&records[..2]).len();
    let third = encoded(&records[..3]).len();
    let (_, refused) = decoded(&bytes[second..third]);
    assert_eq!(
        refused.unwrap_err().what,
        "a message that stands earlier in the batch"
    );
    assert!(second - first > 10_000 && third - second < 100);
}

/// [LESSON-16]
#[test]
fn records_of_this_version_stay_readable() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/records_v1.hex");
    // Never over one that is there: files with such records are out in the world.
    if std::env::var_os("UPDATE").is_some() && !golden.exists() {
        let lines = one_of_each().into_iter().map(|record| {
            let mut line = String::new();
            for byte in encoded(&[record]) {
                write!(line, "{byte:02x}").unwrap();
            }
            line + "\n"
        });
        std::fs::write(&golden, lines.collect::<String>()).unwrap();
    }
    let text = std::fs::read_to_string(&golden).unwrap();
    let digits: Vec<_> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    let bytes: Vec<_> = digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect();
    let (records, ended) = decoded(&bytes);
    assert_eq!(ended, Ok(()));
    assert_eq!(shown(&records), shown(&one_of_each()));
}

#[test]
fn the_golden_records_are_of_every_kind() {
    let mut kinds: Vec<_> = one_of_each()
        .iter()
        .map(|record| {
            let mut out = Vec::new();
            write_record(record, &mut Seen::default(), &mut out);
            out[0]
        })
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, (kind::SESSION..=kind::UNBANNED).collect::<Vec<_>>());
}

#[test]
fn fields_that_a_later_version_appends_are_skipped() {
    for record in one_of_each() {
        let mut bytes = Vec::new();
        write_block(&mut bytes, |out| {
            write_record(&record, &mut Seen::default(), out);
            out.extend_from_slice(b"more");
        });
        let (records, ended) = decoded(&bytes);
        assert_eq!(ended, Ok(()));
        assert_eq!(shown(&records), shown(&[record]));
    }
}

#[test]
fn fields_that_a_later_version_appends_to_a_message_are_skipped() {
    let message = Message::text("t", "x").unwrap();
    let mut block = Vec::new();
    write_message(&message, &mut block);
    let mut bytes = Vec::new();
    write_block(&mut bytes, |out| {
        out.extend_from_slice(Reader::new(&block).bytes("a message").unwrap());
        out.extend_from_slice(b"more");
    });
    bytes.extend_from_slice(b"after");
    let mut reader = Reader::new(&bytes);
    let back = reader.message().unwrap();
    assert_eq!(format!("{back:?}"), format!("{message:?}"));
    assert_eq!(reader.rest, b"after");
}

#[test]
fn what_is_unknown_or_missing_is_named_with_its_place() {
    let session = encoded(&[Persist::Session {
        session: SessionId {
            client_id: "a".into(),
            epoch: 1,
        },
        expiry_interval_s: 60,
    }]);
    assert_eq!(session, [5, kind::SESSION, 1, b'a', 1, 60]);
    let cases: [(&[u8], usize, &str); 9] = [
        (&[0], 1, "a kind of record"),
        (&[1, 0], 1, "a known kind of record"),
        (&[3, 99, 1, b'a'], 1, "a known kind of record"),
        (&[6, kind::SESSION, 1, b'a', 1, 60], 0, "a record"),
        (
            &[4, kind::SESSION, 1, b'a', 1],
            5,
            "a session expiry interval",
        ),
        (&[3, kind::SESSION, 2, b'a'], 2, "a client identifier"),
        (&[3, kind::SESSION, 1, 0xFF], 2, "a client identifier"),
        (
            &[5, kind::RECEIVED, 1, b'a', 1, 0],
            5,
            "a packet identifier",
        ),
        // The packet identifier has 17 bits.
        (
            &[7, kind::RECEIVED, 1, b'a', 1, 0x80, 0x80, 0x04],
            5,
            "a packet identifier",
        ),
    ];
    for (bytes, at, what) in cases {
        let (_, ended) = decoded(&[&session, bytes].concat());
        let at = session.len() + at;
        assert_eq!(ended, Err(BadRecord { at, what }), "{bytes:?}");
        let mut rest = bytes;
        assert!(decode(&mut rest).is_err());
        assert_eq!(rest, bytes, "a record that is refused stays there");
    }
    let bad = BadRecord {
        at: 5,
        what: "a QoS",
    };
    assert_eq!(bad.to_string(), "a QoS was expected at byte 5");
    assert!(decode(&mut &[][..]).is_err(), "no bytes are no record");
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let number = |bytes: &[u8]| Reader::new(bytes).number::<u64>("a number");
    let largest = [[0xFF; 9].as_slice(), &[0x01]].concat();
    assert_eq!(number(&largest), Ok(u64::MAX));
    let bad = Err(BadRecord {
        at: 0,
        what: "a number",
    });
    assert_eq!(number(&[[0xFF; 9].as_slice(), &[0x02]].concat()), bad);
    assert_eq!(number(&[0xFF; 11]), bad);
    assert_eq!(number(&[0x80]), bad);
}

#[test]
fn flags_that_are_not_known_are_refused() {
    assert_eq!(
        Reader::new(&[0b101]).flags("flags"),
        Ok([true, false, true])
    );
    assert_eq!(
        Reader::new(&[0b1000]).flags::<3>("flags"),
        Err(BadRecord {
            at: 0,
            what: "flags"
        })
    );
}

#[test]
fn a_count_without_its_items_takes_no_memory() {
    let count = [[0xFF; 9].as_slice(), &[0x01]].concat();
    assert!(Reader::new(&count).object(MAX_DEPTH).is_err());
    let ids: Result<Vec<_>, _> = Reader::new(&count).list("identifiers", Reader::subscription_id);
    assert!(ids.is_err());
}

#[test]
fn attributes_that_nest_too_deep_end_as_undefined() {
    let nested = |levels| (0..levels).fold(Value::Null, |value, _| Value::from(vec![value]));
    let member = |value| Object::from_iter([(Key::from("a"), value)]);
    let through = |object: &Object| {
        let mut bytes = Vec::new();
        write_object(object, MAX_DEPTH, &mut bytes);
        Reader::new(&bytes).object(MAX_DEPTH).unwrap()
    };
    let deepest = member(nested(MAX_DEPTH));
    assert_eq!(through(&deepest), deepest);
    let cut = (0..MAX_DEPTH).fold(Value::Undefined, |value, _| Value::from(vec![value]));
    assert_eq!(through(&member(nested(MAX_DEPTH + 1))), member(cut));

    let hostile = [&[1, 1, b'a'], [tag::ARRAY, 1].repeat(100_000).as_slice()].concat();
    let refused = Reader::new(&hostile).object(MAX_DEPTH).unwrap_err();
    assert_eq!(refused.what, "a value that nests less deep");
}
