//! What the broker sends: deliveries are looked at in place, all else goes through the codec.

use bytes::Bytes;
use weir_mqtt::{Packet, PubComp, PubRec, PubRel, ReasonCode, codec};

use super::arrivals::Arrival;
use super::engine::Engine;
use super::link::Role;
use super::traffic::Stamp;

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

impl Engine {
    /// Handles the whole packets in `bytes`; how many bytes those were.
    pub(super) fn take_in(&mut self, key: usize, bytes: &[u8]) -> Result<usize, String> {
        let now = self.now_ns();
        let mut used = 0;
        while let Some(length) = codec::frame_length(&bytes[used..], codec::MAX_PACKET_SIZE)
            .map_err(|error| format!("the broker sent what is no packet: {error}"))?
        {
            let frame = &bytes[used..used + length];
            used += length;
            match frame[0] >> 4 {
                PUBLISH => self.delivery(key, frame, now)?,
                PUBACK if frame.len() == 4 => {
                    let id = u16::from_be_bytes([frame[2], frame[3]]);
                    self.acknowledged(key, id, true);
                }
                _ => self.packet(key, frame, now)?,
            }
            if self.links[key].socket.is_none() {
                return Ok(bytes.len());
            }
        }
        Ok(used)
    }

    fn delivery(&mut self, key: usize, frame: &[u8], now: u64) -> Result<(), String> {
        let v5 = self.settings.version.is_v5();
        let (packet_id, payload) =
            delivered(frame, v5).ok_or("the broker sent a PUBLISH that ends too early")?;
        self.count(key, payload, now);
        match (frame[0] >> 1) & 0b11 {
            0 => {}
            1 => {
                let [high, low] = packet_id.to_be_bytes();
                self.links[key].out.extend_from_slice(&[0x40, 2, high, low]);
                self.mark_dirty(key);
            }
            _ => {
                let [high, low] = packet_id.to_be_bytes();
                self.links[key].out.extend_from_slice(&[0x50, 2, high, low]);
                self.mark_dirty(key);
            }
        }
        Ok(())
    }

    /// Counts a delivery: its latency, and whether it is the one that was to come.
    #[inline]
    fn count(&mut self, key: usize, payload: &[u8], now: u64) {
        let stamp = Stamp::read(payload).filter(|stamp| stamp.run == self.run);
        let found = stamp.and_then(|stamp| {
            let stream = usize::try_from(stamp.stream).ok()?;
            let arrivals = self.links[key].arrivals_of(stream)?;
            Some((stamp, stream, arrivals))
        });
        let Some((stamp, stream, arrivals)) = found else {
            self.tally.unexpected += 1;
            return;
        };
        match arrivals.note(stamp.number) {
            Arrival::InOrder => {}
            Arrival::OutOfOrder => self.tally.out_of_order += 1,
            Arrival::Duplicate => {
                self.tally.duplicated += 1;
                return;
            }
        }
        self.tally.received += 1;
        if let Some(stream) = self.streams.get(stream) {
            self.publishers[stream.publisher].delivered += 1;
        }
        self.latency
            .saturating_record(now.saturating_sub(stamp.sent_ns).max(1));
    }

    fn packet(&mut self, key: usize, frame: &[u8], now: u64) -> Result<(), String> {
        let version = self.settings.version;
        let packet = codec::decode(Bytes::copy_from_slice(frame), version)
            .map_err(|error| format!("the broker sent what is no packet: {error}"))?;
        let out = &mut self.links[key].out;
        match packet {
            Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                if let Some(most) = connack.properties.receive_maximum {
                    self.links[key].receive_maximum = usize::from(most.get());
                }
                let began = self.links[key].began_ns;
                self.handshakes
                    .saturating_record(now.saturating_sub(began).max(1));
                self.go_on(key)?;
            }
            Packet::ConnAck(connack) => {
                self.refused = true;
                return Err(format!(
                    "the broker refused the connection: {}",
                    connack.reason.name()
                ));
            }
            Packet::SubAck(suback) => {
                if let Some(reason) = suback.reasons.iter().find(|reason| reason.is_error()) {
                    self.refused = true;
                    return Err(format!(
                        "the broker refused a subscription: {}",
                        reason.name()
                    ));
                }
                self.go_on(key)?;
            }
            Packet::PubAck(ack) => {
                self.acknowledged(key, ack.packet_id.get(), !ack.reason.is_error())
            }
            Packet::PubRec(PubRec {
                packet_id, reason, ..
            }) if !reason.is_error() => {
                PubRel::success(packet_id)
                    .encode(version, out)
                    .map_err(|error| error.to_string())?;
                self.mark_dirty(key);
            }
            Packet::PubRec(refusal) => self.acknowledged(key, refusal.packet_id.get(), false),
            Packet::PubRel(PubRel { packet_id, .. }) => {
                PubComp::success(packet_id)
                    .encode(version, out)
                    .map_err(|error| error.to_string())?;
                self.mark_dirty(key);
            }
            Packet::PubComp(done) => self.acknowledged(key, done.packet_id.get(), true),
            Packet::Disconnect(disconnect) => {
                return Err(format!(
                    "the broker ended a connection: {}",
                    disconnect.reason.name()
                ));
            }
            _ => self.tally.unexpected += 1,
        }
        Ok(())
    }

    /// A message of this publisher is settled.
    fn acknowledged(&mut self, key: usize, packet_id: u16, well: bool) {
        let settled = match self.links[key].role {
            Role::Publisher(publisher) => self.publishers[publisher].settle(packet_id),
            _ => false,
        };
        if settled && well {
            self.tally.acknowledged += 1;
        } else {
            self.tally.unexpected += 1;
        }
    }
}

/// The packet identifier (0 at QoS 0) and the payload of a PUBLISH.
fn delivered(frame: &[u8], v5: bool) -> Option<(u16, &[u8])> {
    let (&first, rest) = frame.split_first()?;
    let (_, rest) = varint(rest)?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    let mut packet_id = 0;
    if first & 0b110 != 0 {
        let (id, after) = rest.split_first_chunk::<2>()?;
        packet_id = u16::from_be_bytes(*id);
        rest = after;
    }
    if v5 {
        let (length, after) = varint(rest)?;
        rest = after.get(length..)?;
    }
    Some((packet_id, rest))
}

/// A variable byte integer and what follows it.
fn varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use weir_mqtt::{PacketId, ProtocolVersion, Publish, QoS};

    use super::*;

    #[test]
    fn a_delivery_is_read_as_the_codec_writes_it() {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            for (qos, id) in [
                (QoS::AtMostOnce, 0),
                (QoS::AtLeastOnce, 7),
                (QoS::ExactlyOnce, 300),
            ] {
                let mut publish = Publish::new("a/b".into(), Bytes::from(vec![b'x'; 200]));
                publish.qos = qos;
                publish.packet_id = PacketId::new(id);
                let mut frame = Vec::new();
                publish.encode(version, &mut frame).unwrap();
                let (found, payload) = delivered(&frame, version.is_v5()).unwrap();
                assert_eq!((found, payload), (id, &[b'x'; 200][..]));
            }
        }
    }

    #[test]
    fn a_delivery_that_ends_too_early_is_none() {
        assert!(delivered(&[0x30, 3, 0, 9, b'a'], false).is_none());
        assert!(delivered(&[0x32, 3, 0, 1, b'a'], false).is_none());
        assert!(delivered(&[0x30, 4, 0, 1, b'a', 9], true).is_none());
    }
}
