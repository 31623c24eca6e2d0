//! What holds for any packet and for any bytes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::Index;
use weir_mqtt::codec::ManyFilters;
use weir_mqtt::{Packet, ProtocolVersion, Subscribe, Unsubscribe, codec, fuzz};

use crate::arbitrary;

fn encoded(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    codec::encode(packet, version, &mut out).unwrap();
    out
}

fn packets() -> impl Strategy<Value = (ProtocolVersion, Vec<Packet>)> {
    arbitrary::version()
        .prop_flat_map(|version| (Just(version), vec(arbitrary::packet(version), 1..5)))
}

/// Cuts a stream into frames as a connection does, from pieces of any size.
fn received(stream: &[u8], piece: usize) -> Vec<Bytes> {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(length) = codec::frame_length(&buffer, codec::MAX_PACKET_SIZE).unwrap() {
            frames.push(buffer.split_to(length).freeze());
        }
    }
    assert!(buffer.is_empty());
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_packet_comes_out_of_its_encoding_unchanged((version, packets) in packets()) {
        for packet in packets {
            let wire = encoded(&packet, version);
            prop_assert_eq!(codec::frame_length(&wire, wire.len()), Ok(Some(wire.len())));
            prop_assert_eq!(codec::decode(wire.into(), version), Ok(packet));
        }
    }

    #[test]
    fn filters_that_are_decoded_one_after_another_are_those_that_are_decoded_in_one_go(
        (version, packets) in packets(),
        damage in of((any::<Index>(), any::<u8>())),
    ) {
        for packet in packets {
            let mut wire = encoded(&packet, version);
            if let Some((at, byte)) = &damage {
                let at = at.index(wire.len());
                wire[at] = *byte;
            }
            let wire = Bytes::from(wire);
            let whole = codec::decode(wire.clone(), version);
            match codec::decode_head(wire, version) {
                Ok(None) => prop_assert!(!matches!(whole, Ok(Packet::Subscribe(_) | Packet::Unsubscribe(_)))),
                Err(error) => prop_assert_eq!(whole, Err(error)),
                Ok(Some(ManyFilters::Subscribe(head, requests))) => {
                    let requests = requests.collect::<Result<_, _>>();
                    let parts = requests.map(|requests| Subscribe { requests, ..head });
                    prop_assert_eq!(whole, parts.map(Packet::Subscribe));
                }
                Ok(Some(ManyFilters::Unsubscribe(head, filters))) => {
                    let filters = filters.collect::<Result<_, _>>();
                    let parts = filters.map(|filters| Unsubscribe { filters, ..head });
                    prop_assert_eq!(whole, parts.map(Packet::Unsubscribe));
                }
            }
        }
    }

    #[test]
    fn packets_come_out_of_a_stream_however_it_is_cut((version, packets) in packets(), piece in 1..40usize) {
        let stream: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        let frames = received(&stream, piece);
        let decoded: Result<Vec<_>, _> =
            frames.into_iter().map(|frame| codec::decode(frame, version)).collect();
        prop_assert_eq!(decoded, Ok(packets));
    }

    #[test]
    fn a_frame_is_asked_for_until_it_is_whole((version, packets) in packets(), cut in any::<Index>()) {
        let wire = encoded(&packets[0], version);
        let part = &wire[..cut.index(wire.len())];
        prop_assert_eq!(codec::frame_length(part, codec::MAX_PACKET_SIZE), Ok(None));
    }

    #[test]
    fn any_bytes_are_refused_or_come_out_of_their_encoding(data in vec(any::<u8>(), 0..300)) {
        fuzz::codec(&data);
    }

    #[test]
    fn any_damage_to_a_packet_is_refused_or_comes_out_of_its_encoding(
        (version, packets) in packets(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut data = vec![match version {
            ProtocolVersion::V3_1 => 0,
            ProtocolVersion::V3_1_1 => 1,
            ProtocolVersion::V5 => 2,
        }];
        for packet in &packets {
            data.extend(encoded(packet, version));
        }
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        fuzz::codec(&data);
    }

    #[test]
    fn bodies_of_any_kind_never_panic(first in any::<u8>(), body in vec(any::<u8>(), 0..127)) {
        for version in ProtocolVersion::ALL {
            drop(codec::decode(crate::frame(first, &body).into(), version));
        }
    }
}

#[test]
fn the_corpus_of_the_fuzzers_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    for (target, body) in [("codec", fuzz::codec as fn(&[u8])), ("topic", fuzz::topic)] {
        let entries = std::fs::read_dir(format!("{corpus}/{target}")).unwrap();
        let mut seen = 0;
        for entry in entries {
            body(&std::fs::read(entry.unwrap().path()).unwrap());
            seen += 1;
        }
        assert!(seen > 0, "{target} has seeds");
    }
}
