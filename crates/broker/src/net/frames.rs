//! Where one frame ends and the next begins.

use bytes::Bytes;
use weir_mqtt::{DecodeError, codec};

/// The beginning of a frame, until the rest of it is there.
#[derive(Debug, Default)]
pub(super) struct Unread(pub(super) Vec<u8>);

impl Unread {
    /// The whole frames of what was kept and of `bytes`, and the size of the buffer that they stand in. The rest is
    /// kept. However small the pieces are in which a frame comes, none of it is moved more often than the buffer grows.
    pub(super) fn take_whole(
        &mut self,
        bytes: &[u8],
        max_packet_size: usize,
    ) -> (Bytes, usize, Cut) {
        let Self(unread) = self;
        if unread.is_empty() {
            let cut = cut(bytes, max_packet_size);
            unread.extend_from_slice(&bytes[cut.len..]);
            return (copied(&bytes[..cut.len]), cut.len, cut);
        }
        unread.extend_from_slice(bytes);
        let cut = cut(unread, max_packet_size);
        if cut.len == 0 {
            return (Bytes::new(), 0, cut);
        }
        // The frame that was begun ends in `bytes`, and so the rest is no longer than they are.
        let rest = unread[cut.len..].to_vec();
        let mut whole = std::mem::replace(unread, rest);
        whole.truncate(cut.len);
        let buffer = whole.capacity();
        (Bytes::from(whole), buffer, cut)
    }
}

/// Bytes that stand beside the count of those who hold them: a frame that comes alone is one piece of memory, of 24 or
/// 256 bytes in all.
struct Short<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Short<N> {
    fn copied(from: &[u8]) -> Bytes {
        let mut bytes = [0; N];
        bytes[..from.len()].copy_from_slice(from);
        let len = u8::try_from(from.len()).unwrap_or(u8::MAX);
        Bytes::from_owner(Self { bytes, len })
    }
}

impl<const N: usize> AsRef<[u8]> for Short<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The same as [`Bytes::copy_from_slice`], which takes a second piece of memory as soon as somebody holds a part.
fn copied(bytes: &[u8]) -> Bytes {
    match bytes.len() {
        0 => Bytes::new(),
        // Such as acknowledgements.
        1..=15 => Short::<15>::copied(bytes),
        16..=247 => Short::<247>::copied(bytes),
        _ => Bytes::copy_from_slice(bytes),
    }
}

/// What [`cut`] found.
#[derive(Debug)]
pub(super) struct Cut {
    /// Bytes of whole frames.
    pub(super) len: usize,
    /// How many frames.
    pub(super) frames: u64,
    /// What is wrong with the bytes after them.
    pub(super) error: Option<DecodeError>,
}

/// Finds the whole frames at the beginning of `bytes`.
fn cut(bytes: &[u8], max_packet_size: usize) -> Cut {
    let mut cut = Cut {
        len: 0,
        frames: 0,
        error: None,
    };
    loop {
        match codec::frame_length(&bytes[cut.len..], max_packet_size) {
            Ok(Some(len)) => {
                cut.len += len;
                cut.frames += 1;
            }
            Ok(None) => return cut,
            Err(error) => {
                return Cut {
                    error: Some(error),
                    ..cut
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::{Packet, ProtocolVersion, Utf8};

    use super::*;

    #[test]
    fn what_comes_alone_is_the_same_in_memory_of_its_own_however_long_it_is() {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(600).collect();
        for len in 0..bytes.len() {
            let copy = copied(&bytes[..len]);
            assert_eq!(copy, bytes[..len]);
            let part = copy.slice(len / 3..len);
            drop(copy);
            assert_eq!(part, bytes[len / 3..len]);
        }
    }

    #[test]
    fn a_frame_in_small_pieces_is_not_copied_for_every_piece() {
        let frame = {
            let topic = Utf8::from("t");
            let publish = weir_mqtt::Publish::new(topic, Bytes::from(vec![7; 300_000]));
            let mut bytes = Vec::new();
            codec::encode(&Packet::Publish(publish), ProtocolVersion::V5, &mut bytes).unwrap();
            bytes
        };
        for piece in [1, 100] {
            // Ends within a third frame.
            let bytes = [&frame[..], &frame, &frame[..50]].concat();
            let mut unread = Unread::default();
            let (mut whole, mut moves, mut buffers) = (Vec::new(), 0, Vec::new());
            for bytes in bytes.chunks(piece) {
                let before = (unread.0.as_ptr(), unread.0.capacity());
                let (frames, buffer, cut) = unread.take_whole(bytes, 1 << 20);
                assert!(cut.error.is_none());
                moves += usize::from(before != (unread.0.as_ptr(), unread.0.capacity()));
                if !frames.is_empty() {
                    buffers.push(buffer);
                }
                whole.extend_from_slice(&frames);
            }
            assert_eq!(whole, [&frame[..], &frame].concat());
            assert_eq!(unread.0, &frame[..50]);
            assert!(moves < 60, "{moves} moves of the buffer");
            assert!(buffers.iter().all(|buffer| *buffer >= frame.len()));
        }
    }
}
