//! Nanoseconds for a publish, in and out, and for finding who wants its topic.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::ItemsCount;
use weir_mqtt::{
    Delivery, Packet, PacketId, ProtocolVersion, Publish, PublishFrame, QoS, TopicFilter,
    TopicTree, Utf8, codec,
};

fn main() {
    divan::main();
}

const FRAMES: usize = 200;
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];
const TOPIC: &str = "site/17/device/4/up.";

fn publish(qos: QoS) -> Publish {
    let mut publish = Publish::new(TOPIC.into(), Bytes::from(vec![b'x'; 100]));
    publish.qos = qos;
    publish.packet_id = (qos > QoS::AtMostOnce).then_some(PacketId::MIN);
    publish
}

/// What one read of a busy socket brings: many frames in one buffer.
fn read_buffer(qos: QoS, version: ProtocolVersion) -> Bytes {
    let mut out = Vec::new();
    for _ in 0..FRAMES {
        publish(qos)
            .encode(version, &mut out)
            .expect("a valid publish");
    }
    // Shared once beforehand, as a connection's buffer is.
    let mut buffer = BytesMut::from(&out[..]);
    buffer.split().freeze()
}

fn decode_all(mut buffer: Bytes, version: ProtocolVersion) {
    while let Ok(Some(length)) = codec::frame_length(&buffer, codec::MAX_PACKET_SIZE) {
        let packet = codec::decode(buffer.split_to(length), version);
        drop(black_box(packet));
    }
}

#[divan::bench(args = VERSIONS)]
fn decode_publish_qos_0(bencher: Bencher<'_, '_>, version: ProtocolVersion) {
    let buffer = read_buffer(QoS::AtMostOnce, version);
    bencher
        .counter(ItemsCount::new(FRAMES))
        .bench(|| decode_all(buffer.clone(), version));
}

#[divan::bench(args = VERSIONS)]
fn decode_publish_qos_1(bencher: Bencher<'_, '_>, version: ProtocolVersion) {
    let buffer = read_buffer(QoS::AtLeastOnce, version);
    bencher
        .counter(ItemsCount::new(FRAMES))
        .bench(|| decode_all(buffer.clone(), version));
}

#[divan::bench(args = VERSIONS)]
fn encode_publish_qos_1(bencher: Bencher<'_, '_>, version: ProtocolVersion) {
    let packet = Packet::Publish(publish(QoS::AtLeastOnce));
    let mut out = Vec::with_capacity(64 * 1024);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        out.clear();
        for _ in 0..FRAMES {
            codec::encode(black_box(&packet), version, &mut out).expect("a valid publish");
        }
    });
}

#[divan::bench(args = VERSIONS)]
fn prepare_frame(bencher: Bencher<'_, '_>, version: ProtocolVersion) {
    let payload = Bytes::from(vec![b'x'; 100]);
    bencher.bench(|| PublishFrame::new(black_box(TOPIC), None, &payload, version));
}

#[divan::bench(args = [QoS::AtMostOnce, QoS::AtLeastOnce])]
fn write_frame(bencher: Bencher<'_, '_>, qos: QoS) {
    let payload = Bytes::from(vec![b'x'; 100]);
    let frame =
        PublishFrame::new(TOPIC, None, &payload, ProtocolVersion::V5).expect("a valid publish");
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        _ => Delivery::AtLeastOnce {
            packet_id: PacketId::MIN,
            dup: false,
        },
    };
    let mut out = Vec::with_capacity(64 * 1024);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        out.clear();
        for _ in 0..FRAMES {
            frame
                .write(black_box(delivery), false, &[], &mut out)
                .expect("a valid publish");
        }
    });
}

/// 100,000 filters: four fifths are one device's topic, the others have a wildcard.
fn large_tree() -> TopicTree<u32> {
    let mut tree = TopicTree::new();
    for number in 0..100_000u32 {
        let (site, device) = (number / 100, number % 100);
        let text = match number % 10 {
            0 => format!("site/{site}/+/{device}/up"),
            5 => format!("site/{site}/device{device}/#"),
            _ => format!("site/{site}/device/{device}/up"),
        };
        tree.insert(&TopicFilter::parse(&text).expect("a valid filter"), number);
    }
    tree
}

#[divan::bench]
fn match_topic_among_100k_filters(bencher: Bencher<'_, '_>) {
    let tree = large_tree();
    let topics: Vec<Utf8> = (0..10_000u32)
        .map(|number| {
            format!(
                "site/{}/device/{}/up",
                number * 7919 % 1000,
                number * 104_729 % 100
            )
        })
        .map(|topic| Utf8::new(&topic).expect("a valid topic"))
        .collect();
    bencher.counter(ItemsCount::new(topics.len())).bench(|| {
        let mut hits = 0;
        for topic in &topics {
            tree.matching(topic, |_| hits += 1);
        }
        hits
    });
}

#[divan::bench]
fn insert_and_remove_a_wildcard_filter(bencher: Bencher<'_, '_>) {
    let mut tree = large_tree();
    let filter = TopicFilter::parse("site/500/+/new/up").expect("a valid filter");
    bencher.bench_local(|| {
        tree.insert(&filter, 0);
        tree.remove(&filter, |_| true)
    });
}
