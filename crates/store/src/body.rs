//! What stands in a frame: records, rows of queues, and what became of queues.

use bytes::Bytes;

/// Names a queue in a batch. It is random, and never used again.
pub type QueueId = u64;

/// Records alone: they follow.
const RECORDS: u8 = 0;
/// The length of the records, the records, sections.
const BATCH: u8 = 1;
/// Bodies that stood behind a tear of an earlier segment, and where that one ends.
const CARRIED: u8 = 2;
/// The last frame of a file that is written as a whole.
const END: u8 = 3;

/// Sections.
const ROWS: u8 = 1;
const SETTLED: u8 = 2;
const HEAD: u8 = 3;
const DROPPED: u8 = 4;
const TAKEN: u8 = 5;

/// No row has a higher number.
const MOST_SEQ: u64 = 1 << 60;

/// A queue, as it is known before its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: QueueId,
    pub(crate) epoch: u64,
    pub(crate) name: String,
    /// The number of the next row.
    pub(crate) next: u64,
    /// All rows up to this number are consumed.
    pub(crate) settled: u64,
    /// Numbers of no rows, from and to: they were never given to one that anyone was told of, or those were taken.
    pub(crate) skips: Vec<(u64, u64)>,
}

impl Head {
    /// Whether a row of this number waits.
    pub(crate) fn has(&self, seq: u64) -> bool {
        let at = self.skips.partition_point(|(_, to)| *to < seq);
        let is_skipped = self.skips.get(at).is_some_and(|(from, _)| *from <= seq);
        seq > self.settled && seq < self.next && !is_skipped
    }
}

/// Rows of a queue that follow one another.
pub(crate) struct Rows<'b> {
    pub(crate) queue: QueueId,
    pub(crate) first: u64,
    pub(crate) sizes: Vec<u32>,
    pub(crate) bytes: &'b [u8],
}

impl<'b> Rows<'b> {
    /// Each row with its number.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u64, &'b [u8])> + '_ {
        let mut rest = self.bytes;
        (self.first..).zip(&self.sizes).map(move |(seq, size)| {
            let (row, behind) = rest.split_at(*size as usize);
            rest = behind;
            (seq, row)
        })
    }
}

/// A part of a frame.
pub(crate) enum Part<'b> {
    Records(&'b [u8]),
    Rows(Rows<'b>),
    Settled(QueueId, u64),
    Head(Head),
    Dropped(QueueId),
    /// A row that is consumed though rows before it are not.
    Taken(QueueId, u64),
    /// What follows stood behind a tear.
    Carried,
    End,
}

pub(crate) fn records(records: &[u8], out: &mut Vec<u8>) {
    out.push(RECORDS);
    out.extend_from_slice(records);
}

/// Sections may follow.
pub(crate) fn batch(records: &[u8], out: &mut Vec<u8>) {
    out.push(BATCH);
    out.extend_from_slice(&length(records.len()));
    out.extend_from_slice(records);
}

/// Rows of one queue, numbered from `first` on.
pub(crate) fn rows<'r>(
    queue: QueueId,
    first: u64,
    rows: impl ExactSizeIterator<Item = &'r [u8]> + Clone,
    out: &mut Vec<u8>,
) {
    out.push(ROWS);
    out.extend_from_slice(&queue.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&length(rows.len()));
    rows.clone()
        .for_each(|row| out.extend_from_slice(&length(row.len())));
    rows.for_each(|row| out.extend_from_slice(row));
}

/// What [`rows`] adds to the rows of a batch of `count` rows at most.
pub(crate) fn most_bytes_beside(count: usize) -> usize {
    16 + 32 * count
}

pub(crate) fn settled(queue: QueueId, up_to: u64, out: &mut Vec<u8>) {
    out.push(SETTLED);
    out.extend_from_slice(&queue.to_le_bytes());
    out.extend_from_slice(&up_to.to_le_bytes());
}

pub(crate) fn head(head: &Head, out: &mut Vec<u8>) {
    out.push(HEAD);
    for number in [head.id, head.epoch, head.next, head.settled] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&length(head.skips.len()));
    for (from, to) in &head.skips {
        out.extend_from_slice(&from.to_le_bytes());
        out.extend_from_slice(&to.to_le_bytes());
    }
    out.extend_from_slice(&length(head.name.len()));
    out.extend_from_slice(head.name.as_bytes());
}

pub(crate) fn dropped(queue: QueueId, out: &mut Vec<u8>) {
    out.push(DROPPED);
    out.extend_from_slice(&queue.to_le_bytes());
}

pub(crate) fn taken(queue: QueueId, seq: u64, out: &mut Vec<u8>) {
    out.push(TAKEN);
    out.extend_from_slice(&queue.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
}

/// Bodies of frames that stood in `segment` behind byte `cut`, where it ends from now on.
pub(crate) fn carried(segment: u64, cut: u64, bodies: &[Vec<u8>], out: &mut Vec<u8>) {
    out.push(CARRIED);
    out.extend_from_slice(&segment.to_le_bytes());
    out.extend_from_slice(&cut.to_le_bytes());
    for body in bodies {
        out.extend_from_slice(&length(body.len()));
        out.extend_from_slice(body);
    }
}

pub(crate) fn end(out: &mut Vec<u8>) {
    out.push(END);
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("batches are bounded")
        .to_le_bytes()
}

/// The segment that the body ends, and where.
pub(crate) fn cut_of(body: &[u8]) -> Option<(u64, u64)> {
    let mut rest = body;
    (take::<1>(&mut rest)? == [CARRIED]).then_some(())?;
    Some((number(&mut rest)?, number(&mut rest)?))
}

/// Gives the parts of a body in order. `None` when it is not as this version writes it.
pub(crate) fn parts<'b>(body: &'b [u8], each: &mut dyn FnMut(Part<'b>)) -> Option<()> {
    let (kind, mut rest) = body.split_first()?;
    match *kind {
        RECORDS => each(Part::Records(rest)),
        BATCH => {
            let records = long(&mut rest)?;
            if !records.is_empty() {
                each(Part::Records(records));
            }
            while !rest.is_empty() {
                section(&mut rest, each)?;
            }
        }
        CARRIED => {
            each(Part::Carried);
            split(&mut rest, 16)?;
            while !rest.is_empty() {
                let body = long(&mut rest)?;
                // It is the first frame of a segment: it never stands behind a tear itself.
                (body.first() != Some(&CARRIED)).then_some(())?;
                parts(body, each)?;
            }
        }
        END => each(Part::End),
        _ => return None,
    }
    Some(())
}

fn section<'b>(rest: &mut &'b [u8], each: &mut dyn FnMut(Part<'b>)) -> Option<()> {
    let [tag] = take::<1>(rest)?;
    let id = number(rest)?;
    match tag {
        ROWS => {
            let first = number(rest)?;
            let count = count(rest)?;
            let sizes = split(rest, count.checked_mul(4)?)?;
            let sizes: Vec<u32> = sizes
                .chunks_exact(4)
                .map(|size| u32::from_le_bytes(size.try_into().unwrap_or_default()))
                .collect();
            let bytes = sizes.iter().map(|size| *size as usize).sum();
            (first > 0 && first < MOST_SEQ).then_some(())?;
            each(Part::Rows(Rows {
                queue: id,
                first,
                sizes,
                bytes: split(rest, bytes)?,
            }));
        }
        SETTLED => {
            let up_to = number(rest)?;
            (up_to < MOST_SEQ).then_some(())?;
            each(Part::Settled(id, up_to));
        }
        HEAD => {
            let (epoch, next, settled) = (number(rest)?, number(rest)?, number(rest)?);
            (next > settled && next < 2 * MOST_SEQ).then_some(())?;
            let mut skips = Vec::new();
            for _ in 0..count(rest)? {
                skips.push((number(rest)?, number(rest)?));
            }
            let name = std::str::from_utf8(long(rest)?).ok()?.to_owned();
            each(Part::Head(Head {
                id,
                epoch,
                name,
                next,
                settled,
                skips,
            }));
        }
        DROPPED => each(Part::Dropped(id)),
        TAKEN => {
            let seq = number(rest)?;
            (seq > 0 && seq < MOST_SEQ).then_some(())?;
            each(Part::Taken(id, seq));
        }
        _ => return None,
    }
    Some(())
}

fn split<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (bytes, behind) = rest.split_at_checked(count)?;
    *rest = behind;
    Some(bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    split(rest, N)?.try_into().ok()
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn count(rest: &mut &[u8]) -> Option<usize> {
    take(rest).map(|bytes| u32::from_le_bytes(bytes) as usize)
}

fn long<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = count(rest)?;
    split(rest, length)
}

/// What is committed together: all of it is there after a crash, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Opaque to the store.
    pub records: Vec<u8>,
    /// Rows for the ends of queues, in order.
    pub rows: Vec<(QueueId, Bytes)>,
    /// Rows that are consumed, by queue and number, though rows before them may wait. Those that are none are nothing.
    pub taken: Vec<(QueueId, u64)>,
}

impl Batch {
    /// At most so many bytes are written for it.
    pub(crate) fn weight(&self) -> usize {
        let rows: usize = self.rows.iter().map(|(_, row)| row.len()).sum();
        self.records.len() + rows + most_bytes_beside(self.rows.len() + self.taken.len())
    }

    /// Records alone.
    pub fn records(records: Vec<u8>) -> Self {
        Self {
            records,
            ..Self::default()
        }
    }
}

/// Rows that were read, each with its number.
pub(crate) type Read = Vec<(u64, Bytes)>;
