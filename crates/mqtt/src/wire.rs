//! The data types that packets are made of: integers, variable byte integers, strings, binary data.
//!
//! [`Reader`] takes them off the front of a frame without copying; the `write_` functions append them.

use bytes::{Buf, Bytes};

use crate::{DecodeError, EncodeError, PacketId, Utf8};

/// The largest number that a variable byte integer holds, and so the largest remaining length.
pub(crate) const MAX_VARINT: u32 = 268_435_455;

const TRUNCATED: DecodeError = DecodeError::malformed("the packet ends too early");

/// The rest of a packet that is being decoded.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.bytes.try_get_u8().map_err(|_| TRUNCATED)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.bytes.try_get_u16().map_err(|_| TRUNCATED)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.bytes.try_get_u32().map_err(|_| TRUNCATED)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, len) = parse_varint(&self.bytes)?.ok_or(TRUNCATED)?;
        self.bytes.advance(len);
        Ok(value)
    }

    #[inline]
    pub(crate) fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    pub(crate) fn utf8(&mut self) -> Result<Utf8, DecodeError> {
        Ok(Utf8::try_from(self.binary()?)?)
    }

    /// A text without wildcards, which may be empty.
    #[inline]
    pub(crate) fn topic(&mut self) -> Result<Utf8, DecodeError> {
        Ok(Utf8::topic(self.binary()?)?)
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        // [MQTT-2.2.1-3] [MQTT-2.2.1-4]
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("packet identifier 0"))
    }

    /// The next `len` bytes as a reader of their own.
    pub(crate) fn block(&mut self, len: u32) -> Result<Self, DecodeError> {
        Ok(Self::new(self.take(len as usize)?))
    }

    /// All that is left.
    #[inline]
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Refuses bytes after the last field.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("bytes after the last field"))
        }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.bytes.len() {
            return Err(TRUNCATED);
        }
        Ok(self.bytes.split_to(len))
    }
}

/// The variable byte integer at the front of `bytes` and its length; `None`: it goes on after their end.
#[inline]
pub(crate) fn parse_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // [MQTT-1.5.5-1] The shortest form is the only one.
            if byte == 0 && index > 0 {
                return Err(DecodeError::malformed(
                    "a length is not in its shortest form",
                ));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(DecodeError::malformed("a length has more than four bytes"))
    }
}

/// How many bytes `value` takes as a variable byte integer.
pub(crate) fn varint_len(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

pub(crate) fn write_varint(value: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut rest = u32::try_from(value).map_err(|_| EncodeError::TooLarge)?;
    if rest > MAX_VARINT {
        return Err(EncodeError::TooLarge);
    }
    while rest >= 0x80 {
        out.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_bits(rest));
    Ok(())
}

const fn low_bits(value: u32) -> u8 {
    (value & 0x7F) as u8
}

pub(crate) fn write_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn write_binary(data: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    write_u16(
        u16::try_from(data.len()).map_err(|_| EncodeError::BinaryTooLong)?,
        out,
    );
    out.extend_from_slice(data);
    Ok(())
}

/// Appends a packet: `first` byte, remaining length, and what `body` writes. On an error `out` is as before.
pub(crate) fn write_frame(
    first: u8,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    // Most packets are short: one byte is kept for the length, and the rare long body moves up.
    out.extend_from_slice(&[first, 0]);
    let written = body(out).and_then(|()| write_length(start + 1, out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Puts the length of what follows the placeholder at `at` in its place.
fn write_length(at: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length = out.len() - at - 1;
    match (u8::try_from(length), out.get_mut(at)) {
        (Ok(short @ 0..128), Some(place)) => *place = short,
        _ => {
            let mut bytes = Vec::with_capacity(4);
            write_varint(length, &mut bytes)?;
            out.splice(at..=at, bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;

    #[test]
    fn variable_byte_integers_go_both_ways_at_every_limit() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut out = Vec::new();
            write_varint(value as usize, &mut out).unwrap();
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value as usize), bytes.len());
            assert_eq!(parse_varint(bytes), Ok(Some((value, bytes.len()))));
            assert_eq!(parse_varint(&bytes[..bytes.len() - 1]), Ok(None));
        }
        assert_eq!(
            write_varint(268_435_456, &mut Vec::new()),
            Err(EncodeError::TooLarge)
        );
    }

    #[test]
    fn a_body_that_fails_leaves_nothing_behind() {
        let mut out = vec![7];
        let failed = write_frame(0x10, &mut out, |out| {
            out.extend_from_slice(b"half");
            Err(EncodeError::NoFilters)
        });
        assert_eq!((failed, out), (Err(EncodeError::NoFilters), vec![7]));
    }

    #[test]
    fn a_long_body_moves_up_for_its_length() {
        let mut out = vec![7];
        write_frame(0x10, &mut out, |out| {
            out.extend_from_slice(&[9; 200]);
            Ok(())
        })
        .unwrap();
        assert_eq!(&out[..5], &[7, 0x10, 0xC8, 0x01, 9]);
        assert_eq!(out.len(), 1 + 3 + 200);
    }
}
