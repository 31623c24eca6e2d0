//! Bytes to packets and back: find where a frame ends, decode it whole, append one.
//!
//! Nothing waits here: a caller that has too few bytes is told so and comes again with more.

use bytes::{Buf, Bytes};

pub use crate::error::{DecodeError, EncodeError};
use crate::packet::{
    Auth, ConnAck, Connect, Disconnect, Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck,
    Subscribe, SubscriptionFilters, SubscriptionRequests, UnsubAck, Unsubscribe, kind,
};
use crate::wire::{MAX_VARINT, Reader, parse_varint};
use crate::{ProtocolVersion, ReasonCode};

pub use crate::publish_frame::{Delivery, PublishFrame};

/// The largest packet that the protocol allows, in bytes on the wire.
pub const MAX_PACKET_SIZE: usize = 5 + MAX_VARINT as usize;

/// The length in bytes of the first frame in `buf`; `None`: it is not complete yet.
///
/// Refuses a frame of more than `max_packet_size` bytes, and one that cannot become a packet, as soon as its
/// first bytes tell.
pub fn frame_length(buf: &[u8], max_packet_size: usize) -> Result<Option<usize>, DecodeError> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(None);
    };
    if first >> 4 == 0 {
        return Err(DecodeError::malformed("packet type 0 is reserved"));
    }
    let Some((remaining, length_bytes)) = parse_varint(rest)? else {
        return Ok(None);
    };
    let total = 1 + length_bytes + remaining as usize;
    if total > max_packet_size {
        let detail = "the packet is larger than the maximum packet size";
        return Err(DecodeError::new(ReasonCode::PacketTooLarge, detail));
    }
    Ok((total <= buf.len()).then_some(total))
}

/// The version that a CONNECT speaks which is not complete yet; `None` where it has not come to that, or is none.
pub fn version_of_connect(begun: &[u8]) -> Option<ProtocolVersion> {
    let (&first, rest) = begun.split_first()?;
    let (_, length_bytes) = parse_varint(rest).ok()??;
    let body = rest.get(length_bytes..)?;
    // Protocol name and level.
    let head = Bytes::copy_from_slice(body.get(..body.len().min(16))?);
    let version = Connect::version_of(Reader::new(head));
    version.filter(|_| first >> 4 == kind::CONNECT)
}

/// Decodes exactly one frame. A CONNECT says its own version, and `version` does not count.
///
/// The packet's texts and payload are slices of `frame`. Slicing allocates nothing when `frame` is itself part of
/// a shared buffer, as `BytesMut::split_to(n).freeze()` makes them.
pub fn decode(frame: Bytes, version: ProtocolVersion) -> Result<Packet, DecodeError> {
    let (first, body) = split(frame)?;
    decode_body(first >> 4, first & 0x0F, body, version)
}

/// A SUBSCRIBE or UNSUBSCRIBE whose filters are yet to be decoded.
#[derive(Clone, Debug)]
pub enum ManyFilters {
    /// The packet without requests, and those.
    Subscribe(Subscribe, SubscriptionRequests),
    /// The packet without filters, and those.
    Unsubscribe(Unsubscribe, SubscriptionFilters),
}

/// The same as [`decode`] for a frame that may have very many filters: they are left to be decoded some at a time. `None`
/// for other packets.
pub fn decode_head(
    frame: Bytes,
    version: ProtocolVersion,
) -> Result<Option<ManyFilters>, DecodeError> {
    let (first, body) = split(frame)?;
    let packet_type = first >> 4;
    if !matches!(packet_type, kind::SUBSCRIBE | kind::UNSUBSCRIBE) {
        return Ok(None);
    }
    check_flags(packet_type, first & 0x0F, version)?;
    Ok(Some(if packet_type == kind::SUBSCRIBE {
        let (head, requests) = Subscribe::decode_head(body, version)?;
        ManyFilters::Subscribe(head, requests)
    } else {
        let (head, filters) = Unsubscribe::decode_head(body, version)?;
        ManyFilters::Unsubscribe(head, filters)
    }))
}

/// The first byte of a frame, and what follows its length.
#[inline]
fn split(mut frame: Bytes) -> Result<(u8, Reader), DecodeError> {
    let too_short = DecodeError::malformed("the packet ends too early");
    let first = frame.try_get_u8().map_err(|_| too_short)?;
    let (remaining, length_bytes) = parse_varint(&frame)?.ok_or(too_short)?;
    frame.advance(length_bytes);
    if frame.len() != remaining as usize {
        return Err(DecodeError::malformed(
            "the frame is not as long as it says",
        ));
    }
    Ok((first, Reader::new(frame)))
}

#[inline]
fn decode_body(
    packet_type: u8,
    flags: u8,
    body: Reader,
    version: ProtocolVersion,
) -> Result<Packet, DecodeError> {
    // PUBLISH first: it is what comes most, and the only one whose flags say something.
    if packet_type == kind::PUBLISH {
        return Publish::decode(flags, body, version).map(Packet::Publish);
    }
    if packet_type == kind::CONNECT {
        let connect = Connect::decode(body)?;
        check_flags(packet_type, flags, connect.version)?;
        return Ok(Packet::Connect(Box::new(connect)));
    }
    check_flags(packet_type, flags, version)?;
    Ok(match packet_type {
        kind::CONNACK => Packet::ConnAck(Box::new(ConnAck::decode(body, version)?)),
        kind::PUBACK => Packet::PubAck(PubAck::decode(body, version)?),
        kind::PUBREC => Packet::PubRec(PubRec::decode(body, version)?),
        kind::PUBREL => Packet::PubRel(PubRel::decode(body, version)?),
        kind::PUBCOMP => Packet::PubComp(PubComp::decode(body, version)?),
        kind::SUBSCRIBE => Packet::Subscribe(Subscribe::decode(body, version)?),
        kind::SUBACK => Packet::SubAck(SubAck::decode(body, version)?),
        kind::UNSUBSCRIBE => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        kind::UNSUBACK => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        kind::PINGREQ => body.finish().map(|()| Packet::PingReq)?,
        kind::PINGRESP => body.finish().map(|()| Packet::PingResp)?,
        kind::DISCONNECT => Packet::Disconnect(Disconnect::decode(body, version)?),
        kind::AUTH => Packet::Auth(Auth::decode(body, version)?),
        _ => return Err(DecodeError::malformed("packet type 0 is reserved")),
    })
}

/// `[MQTT-2.1.3-1]` The flags of every packet but PUBLISH have one allowed value. MQTT 3.1 does not use all of them: the
/// others may be anything there, and DUP marks repetitions.
fn check_flags(packet_type: u8, flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    const QOS: u8 = 0b0110;
    let is_old = version == ProtocolVersion::V3_1;
    let (used, expected) = match packet_type {
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE if is_old => (QOS, 0b0010),
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => (0b1111, 0b0010),
        _ if is_old => (0, 0),
        _ => (0b1111, 0),
    };
    if flags & used == expected {
        Ok(())
    } else {
        Err(DecodeError::malformed(
            "reserved flags of the fixed header are set",
        ))
    }
}

/// Appends `packet` as it looks in `version`; a CONNECT goes by its own version. On an error `out` is as before.
pub fn encode(
    packet: &Packet,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match packet {
        Packet::Connect(connect) => connect.encode(out),
        Packet::ConnAck(connack) => connack.encode(version, out),
        Packet::Publish(publish) => publish.encode(version, out),
        Packet::PubAck(puback) => puback.encode(version, out),
        Packet::PubRec(pubrec) => pubrec.encode(version, out),
        Packet::PubRel(pubrel) => pubrel.encode(version, out),
        Packet::PubComp(pubcomp) => pubcomp.encode(version, out),
        Packet::Subscribe(subscribe) => subscribe.encode(version, out),
        Packet::SubAck(suback) => suback.encode(version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
        Packet::UnsubAck(unsuback) => unsuback.encode(version, out),
        Packet::PingReq => encode_empty(kind::PINGREQ, out),
        Packet::PingResp => encode_empty(kind::PINGRESP, out),
        Packet::Disconnect(disconnect) => disconnect.encode(version, out),
        Packet::Auth(auth) => auth.encode(version, out),
    }
}

/// Appends a PUBLISH: the same as [`Publish::encode`].
pub fn encode_publish(
    publish: &Publish,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    publish.encode(version, out)
}

#[expect(clippy::unnecessary_wraps, reason = "an arm among those that can fail")]
fn encode_empty(packet_type: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(&[packet_type << 4, 0]);
    Ok(())
}
