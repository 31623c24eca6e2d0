//! The codec from outside: golden bytes, what is refused and why, and what holds for any packet and any bytes.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected may panic"
)]

mod arbitrary;
mod golden;
mod malformed;
mod property_rules;
mod publish_frame;
mod round_trip;

use bytes::Bytes;
use weir_mqtt::{PacketId, ProtocolVersion, Utf8};

const V3_1: ProtocolVersion = ProtocolVersion::V3_1;
const V3_1_1: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("tests use identifiers above 0")
}

fn text(text: &'static str) -> Utf8 {
    Utf8::from(text)
}

fn bytes(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

/// A frame of short length: first byte, length, body.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("tests use short frames");
    assert!(length < 128, "tests use short frames");
    [&[first, length], body].concat()
}
