//! What waits to be written to one client: bounded bytes, written with one call for many frames.
//!
//! Small frames are copied into one contiguous buffer that is swapped with the writer's; large payloads are shared.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use weir_mqtt::QoS;

/// How many slices one vectored write takes at most.
const MAX_SLICES: usize = 64;

/// Frames for one client, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What stands before `tail`; empty unless large payloads were sent.
    sealed: VecDeque<Bytes>,
    /// Bytes in `sealed`.
    sealed_bytes: usize,
    /// The contiguous end, where small frames are appended.
    tail: Vec<u8>,
    /// What was put in since it was last taken.
    counts: SentCounts,
    /// Whether the writer has been told, or is being told, that there is something.
    signalled: bool,
}

/// What one write carries, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentCounts {
    /// Control packets.
    pub packets: u64,
    /// PUBLISH packets by QoS.
    pub messages: [u64; 3],
    /// Bytes of their payloads.
    pub payload_bytes: u64,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.sealed_bytes + self.tail.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a frame of `len` bytes fits under `limit`. An empty outbox takes any frame.
    pub fn has_room(&self, len: usize, limit: usize) -> bool {
        let waiting = self.len();
        waiting == 0 || waiting + len <= limit
    }

    /// Where a small PUBLISH is encoded, or the head of one with a payload of this many bytes.
    pub fn publish(&mut self, qos: QoS, payload: usize) -> &mut Vec<u8> {
        self.counts.packets += 1;
        self.counts.payload_bytes += payload as u64;
        self.counts.messages[usize::from(qos.as_u8())] += 1;
        &mut self.tail
    }

    /// Appends a large payload after the header that was just encoded, without copying it.
    pub fn share(&mut self, payload: Bytes) {
        let header = std::mem::take(&mut self.tail);
        self.sealed_bytes += header.len() + payload.len();
        self.sealed.push_back(Bytes::from(header));
        self.sealed.push_back(payload);
    }

    /// Where one control packet that is no PUBLISH is encoded.
    pub fn control(&mut self) -> &mut Vec<u8> {
        self.counts.packets += 1;
        &mut self.tail
    }

    /// Appends encoded control packets that are no PUBLISH.
    pub fn append(&mut self, bytes: &[u8], packets: u64) {
        self.counts.packets += packets;
        self.tail.extend_from_slice(bytes);
    }

    /// True once for each time that the outbox goes from taken to waiting: then the writer must be woken.
    pub fn signal(&mut self) -> bool {
        let wake = !self.signalled && !self.is_empty();
        self.signalled |= wake;
        wake
    }

    /// Moves everything into `batch`, which must be empty; its buffer is used again.
    pub fn take_into(&mut self, batch: &mut WriteBatch) -> SentCounts {
        debug_assert!(
            batch.is_empty(),
            "what is being written must not be mixed with what comes after"
        );
        batch.written = 0;
        batch.tail.clear();
        std::mem::swap(&mut self.tail, &mut batch.tail);
        std::mem::swap(&mut self.sealed, &mut batch.sealed);
        self.sealed_bytes = 0;
        self.signalled = false;
        std::mem::take(&mut self.counts)
    }

    /// Forgets everything, with its memory.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives the buffer's memory back when nothing waits.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.tail = Vec::new();
            self.sealed = VecDeque::new();
        }
    }
}

/// What is being written to the socket now.
#[derive(Debug, Default)]
pub struct WriteBatch {
    sealed: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// How much of `tail` is written already; 0 while `sealed` is not empty.
    written: usize,
}

impl WriteBatch {
    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.written >= self.tail.len()
    }

    /// The only slice, when there is just one.
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.sealed.is_empty().then(|| &self.tail[self.written..])
    }

    /// The first slices.
    pub fn slices(&self) -> ([IoSlice<'_>; MAX_SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut len = 0;
        let parts = self
            .sealed
            .iter()
            .map(|chunk| &chunk[..])
            .chain([&self.tail[self.written..]]);
        for (slot, part) in slices.iter_mut().zip(parts) {
            *slot = IoSlice::new(part);
            len += 1;
        }
        (slices, len)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sealed.clear();
        self.tail.clear();
        self.written = 0;
    }

    /// Gives memory back beyond `capacity` bytes.
    pub fn shrink_to(&mut self, capacity: usize) {
        if self.is_empty() && self.tail.capacity() > capacity {
            self.shrink();
        }
    }

    /// Forgets the first `n` bytes: they are written.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(first) = self.sealed.front_mut() {
            if n < first.len() {
                let _ = first.split_to(n);
                return;
            }
            n -= first.len();
            self.sealed.pop_front();
        }
        self.written += n;
    }

    /// Memory that the buffer holds while nothing is written.
    pub fn idle_capacity(&self) -> usize {
        self.tail.capacity()
    }

    /// Gives the buffer's memory back when everything is written.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(batch: &mut WriteBatch, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !batch.is_empty() {
            let (slices, len) = batch.slices();
            let bytes: Vec<u8> = slices[..len]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .take(step)
                .collect();
            batch.advance(bytes.len());
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn frames_and_shared_payloads_leave_in_order_however_little_the_socket_takes() {
        for step in 1..12 {
            let mut outbox = Outbox::default();
            outbox.append(b"ab", 1);
            outbox
                .publish(QoS::AtMostOnce, 7)
                .extend_from_slice(b"head");
            outbox.share(Bytes::from_static(b"PAYLOAD"));
            outbox.append(b"yz", 1);
            assert_eq!(outbox.len(), 15);
            let mut batch = WriteBatch::default();
            let counts = outbox.take_into(&mut batch);
            assert_eq!(
                counts,
                SentCounts {
                    packets: 3,
                    messages: [1, 0, 0],
                    payload_bytes: 7,
                }
            );
            assert!(outbox.is_empty());
            assert_eq!(drained(&mut batch, step), b"abheadPAYLOADyz");
        }
    }

    #[test]
    fn the_writer_is_signalled_once_until_it_has_taken() {
        let mut outbox = Outbox::default();
        assert!(!outbox.signal(), "nothing waits");
        outbox.append(b"a", 1);
        assert!(outbox.signal());
        outbox.append(b"b", 1);
        assert!(!outbox.signal(), "the writer was told already");
        let mut batch = WriteBatch::default();
        outbox.take_into(&mut batch);
        assert!(!outbox.signal());
        outbox.append(b"c", 1);
        assert!(outbox.signal());
    }

    #[test]
    fn a_frame_larger_than_the_bound_passes_alone() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(100, 10));
        outbox.append(b"x", 1);
        assert!(!outbox.has_room(10, 10));
        assert!(outbox.has_room(9, 10));
    }
}
