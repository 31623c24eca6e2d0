//! What waits to be written to one client: bounded bytes, written with one call for many frames.
//!
//! Small frames are copied into one contiguous buffer that is swapped with the writer's; large payloads are shared.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use weir_mqtt::QoS;

/// How many slices one vectored write takes at most.
const MAX_SLICES: usize = 64;

/// What must not leave before the storage has kept what it was made with. Clones are one hold; it begins closed, and is
/// opened once.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<AtomicBool>);

impl Hold {
    /// What it holds may leave.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether what it holds may leave.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A part of what is held.
#[derive(Debug)]
enum Held {
    /// What is behind waits for this.
    Until(Hold),
    /// Small frames, and heads of large ones.
    Frames(Vec<u8>),
    /// A large payload.
    Payload(Bytes),
}

/// Frames for one client, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What stands before `tail`; empty unless large payloads were sent.
    sealed: VecDeque<Bytes>,
    /// Bytes in `sealed`.
    sealed_bytes: usize,
    /// The contiguous end, where small frames are appended.
    tail: Vec<u8>,
    /// PUBLISH packets that wait for holds, each behind its own. Other packets overtake them.
    held: VecDeque<Held>,
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
        let held = self.held.iter().map(|held| match held {
            Held::Until(_) => 0,
            Held::Frames(frames) => frames.len(),
            Held::Payload(payload) => payload.len(),
        });
        self.sealed_bytes + self.tail.len() + held.sum::<usize>()
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
        self.behind_messages()
    }

    /// Where one control packet is encoded that may leave no earlier than the messages before it.
    pub fn held_control(&mut self) -> &mut Vec<u8> {
        self.counts.packets += 1;
        self.behind_messages()
    }

    fn behind_messages(&mut self) -> &mut Vec<u8> {
        self.release();
        // The order of messages is kept: what comes behind a held one waits with it.
        match self.held.back() {
            None => return &mut self.tail,
            Some(Held::Frames(_)) => {}
            Some(_) => self.held.push_back(Held::Frames(Vec::new())),
        }
        match self.held.back_mut() {
            Some(Held::Frames(frames)) => frames,
            _ => &mut self.tail,
        }
    }

    /// Appends a large payload after the header that was just encoded, without copying it.
    pub fn share(&mut self, payload: Bytes) {
        if self.held.is_empty() {
            self.seal(payload);
        } else {
            self.held.push_back(Held::Payload(payload));
        }
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

    /// Messages that are put in from now on stay until `hold` is open.
    pub fn hold(&mut self, hold: &Hold) {
        self.release();
        let is_known = |held: &Held| matches!(held, Held::Until(other) if other.is(hold));
        if !hold.is_open() && !self.held.iter().any(is_known) {
            self.held.push_back(Held::Until(hold.clone()));
        }
    }

    /// Whether something waits that may be taken now.
    pub fn has_some_to_take(&mut self) -> bool {
        self.release();
        self.sealed_bytes + self.tail.len() > 0
    }

    /// Whether messages stay for now.
    pub fn is_held(&mut self) -> bool {
        self.release();
        !self.held.is_empty()
    }

    /// What is not held any more may be taken.
    fn release(&mut self) {
        while let Some(first) = self.held.pop_front() {
            match first {
                Held::Until(hold) if !hold.is_open() => {
                    self.held.push_front(Held::Until(hold));
                    return;
                }
                Held::Until(_) => {}
                Held::Frames(frames) => {
                    self.tail.extend_from_slice(&frames);
                }
                Held::Payload(payload) => self.seal(payload),
            }
        }
    }

    fn seal(&mut self, payload: Bytes) {
        let header = std::mem::take(&mut self.tail);
        self.sealed_bytes += header.len() + payload.len();
        self.sealed.push_back(Bytes::from(header));
        self.sealed.push_back(payload);
    }

    /// True once for each time that the outbox goes from taken to waiting: then the writer must be woken.
    pub fn signal(&mut self) -> bool {
        let wake = !self.signalled && !self.is_empty();
        self.signalled |= wake;
        wake
    }

    /// Moves everything that is not held into `batch`, which must be empty; its buffer is used again. What is held counts
    /// as sent with what stands before it.
    pub fn take_into(&mut self, batch: &mut WriteBatch) -> SentCounts {
        debug_assert!(
            batch.is_empty(),
            "what is being written must not be mixed with what comes after"
        );
        batch.written = 0;
        batch.tail.clear();
        self.release();
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
            self.held = VecDeque::new();
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

    fn message(outbox: &mut Outbox, frame: &[u8]) {
        outbox.publish(QoS::ExactlyOnce, 0).extend_from_slice(frame);
    }

    fn taken(outbox: &mut Outbox) -> Vec<u8> {
        let mut batch = WriteBatch::default();
        outbox.take_into(&mut batch);
        drained(&mut batch, 3)
    }

    #[test]
    fn what_is_held_stays_with_all_messages_behind_it_until_it_is_opened() {
        for large in [false, true] {
            let (first, second) = (Hold::default(), Hold::default());
            let mut outbox = Outbox::default();
            message(&mut outbox, b"before");
            outbox.hold(&first);
            message(&mut outbox, b"held");
            if large {
                outbox.share(Bytes::from_static(b"PAYLOAD"));
            }
            outbox.hold(&first);
            outbox.hold(&second);
            message(&mut outbox, b"more");
            assert!(outbox.has_some_to_take() && outbox.is_held());
            assert_eq!(taken(&mut outbox), b"before");
            assert!(!outbox.has_some_to_take() && outbox.is_held());
            assert_eq!(outbox.len(), if large { 15 } else { 8 });
            assert_eq!(taken(&mut outbox), b"");
            message(&mut outbox, b"last");
            second.open();
            assert_eq!(taken(&mut outbox), b"", "the first holds the second too");
            first.open();
            assert!(!outbox.is_held());
            let rest: &[u8] = if large {
                b"heldPAYLOADmorelast"
            } else {
                b"heldmorelast"
            };
            assert_eq!(taken(&mut outbox), rest);
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn acknowledgements_overtake_what_is_held() {
        let hold = Hold::default();
        let mut outbox = Outbox::default();
        outbox.hold(&hold);
        message(&mut outbox, b"held");
        outbox.append(b"ack", 1);
        outbox.control().extend_from_slice(b"ping");
        assert_eq!(taken(&mut outbox), b"ackping");
        hold.open();
        assert_eq!(taken(&mut outbox), b"held");
    }

    #[test]
    fn what_stands_between_two_holds_leaves_when_the_first_is_opened() {
        let (first, second) = (Hold::default(), Hold::default());
        let mut outbox = Outbox::default();
        outbox.hold(&first);
        message(&mut outbox, b"head");
        outbox.share(Bytes::from_static(b"PAYLOAD"));
        outbox.hold(&second);
        message(&mut outbox, b"tail");
        first.open();
        assert_eq!(taken(&mut outbox), b"headPAYLOAD");
        second.open();
        assert_eq!(taken(&mut outbox), b"tail");
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
