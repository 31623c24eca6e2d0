//! Frames: one batch each, with what tells a frame that was torn by a crash from one that was damaged later.

use std::io::{self, Read};

/// Begins every frame, so that the next one can be found behind damage.
const MARK: [u8; 4] = *b"\xf0wfr";
/// Mark, length, number, synced, checksum.
pub(crate) const HEAD_BYTES: usize = 4 + 4 + 8 + 8 + 4;
/// No batch is larger; a length beyond it is damage.
pub(crate) const MOST_BYTES: usize = 1 << 30;

/// A frame that was read whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Frames are numbered through all segments.
    pub(crate) number: u64,
    /// All frames up to this number were on stable storage when this one was written.
    pub(crate) synced: u64,
    pub(crate) batch: Vec<u8>,
}

/// No frame has a higher number: a log would have to be written for thousands of years.
const MOST_NUMBER: u64 = 1 << 56;

/// Writes a frame whose batch is what `fill` appends. `salt` is of the file: bytes that were a frame elsewhere, or that a
/// publisher made to look like one, are none here.
pub(crate) fn write(
    number: u64,
    synced: u64,
    salt: u32,
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    fill(out);
    let frame = &mut out[start..];
    let length = u32::try_from(frame.len() - HEAD_BYTES).expect("batches are bounded");
    frame[..4].copy_from_slice(&MARK);
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    frame[16..24].copy_from_slice(&synced.to_le_bytes());
    let checksum = checksum(salt, &frame[..24], &frame[HEAD_BYTES..]);
    frame[24..28].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(salt: u32, head: &[u8], batch: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(head);
    hasher.update(batch);
    hasher.finalize()
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub(crate) enum Found {
    /// A frame, and how many bytes it takes.
    Frame(Frame, u64),
    /// The end of the file.
    End,
    /// Bytes that are no frame, up to the next mark or the end: how many.
    Bad(u64),
}

/// Reads frames one after another, and goes on behind what is none.
pub(crate) struct Frames<R> {
    from: R,
    salt: u32,
    /// Bytes that were read and not used yet.
    ahead: Vec<u8>,
    used: usize,
    ended: bool,
}

impl<R: Read> Frames<R> {
    pub(crate) fn new(from: R, salt: u32) -> Self {
        Self {
            from,
            salt,
            ahead: Vec::new(),
            used: 0,
            ended: false,
        }
    }

    /// The next `count` bytes without using them; fewer at the end of the file.
    pub(crate) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while !self.ended && self.ahead.len() - self.used < count {
            self.ahead.drain(..self.used);
            self.used = 0;
            let missing = (count - self.ahead.len()).max(64 * 1024) as u64;
            let before = self.ahead.len();
            Read::by_ref(&mut self.from)
                .take(missing)
                .read_to_end(&mut self.ahead)?;
            self.ended = self.ahead.len() == before;
        }
        let rest = &self.ahead[self.used..];
        Ok(&rest[..rest.len().min(count)])
    }

    pub(crate) fn skip(&mut self, count: usize) {
        self.used += count;
    }

    pub(crate) fn next(&mut self) -> io::Result<Found> {
        if self.peek(1)?.is_empty() {
            return Ok(Found::End);
        }
        if let Some(frame) = self.frame()? {
            let bytes = HEAD_BYTES + frame.batch.len();
            self.skip(bytes);
            return Ok(Found::Frame(frame, bytes as u64));
        }
        // Not one byte of what looks like a frame is trusted: the next mark may stand inside it.
        let mut bad = 1;
        self.skip(1);
        loop {
            let window = self.peek(64 * 1024)?;
            if window.is_empty() {
                return Ok(Found::Bad(bad));
            }
            let mark = window.windows(MARK.len()).position(|bytes| bytes == MARK);
            let (step, found) = match mark {
                Some(at) => (at, true),
                // The last bytes may begin a mark.
                None if window.len() >= MARK.len() => (window.len() - MARK.len() + 1, false),
                None => (window.len(), false),
            };
            self.skip(step);
            bad += step as u64;
            if found {
                if self.frame()?.is_some() {
                    return Ok(Found::Bad(bad));
                }
                self.skip(1);
                bad += 1;
            }
        }
    }

    /// The frame that begins here, if one does.
    fn frame(&mut self) -> io::Result<Option<Frame>> {
        let head: [u8; HEAD_BYTES] = match self.peek(HEAD_BYTES)?.try_into() {
            Ok(head) => head,
            Err(_) => return Ok(None),
        };
        let (mark, rest) = head.split_at(MARK.len());
        let (length, rest) = rest.split_at(4);
        let (number, rest) = rest.split_at(8);
        let (synced, sum) = rest.split_at(8);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        if mark != MARK || length > MOST_BYTES {
            return Ok(None);
        }
        let salt = self.salt;
        let whole = self.peek(HEAD_BYTES + length)?;
        let Some(batch) = whole.get(HEAD_BYTES..HEAD_BYTES + length) else {
            return Ok(None);
        };
        if checksum(salt, &head[..HEAD_BYTES - 4], batch).to_le_bytes() != sum {
            return Ok(None);
        }
        let number_of = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let (number, synced) = (number_of(number), number_of(synced));
        if number > MOST_NUMBER || synced > number {
            return Ok(None);
        }
        Ok(Some(Frame {
            number,
            synced,
            batch: batch.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u32 = 77;

    fn write(number: u64, synced: u64, batch: &[u8], out: &mut Vec<u8>) {
        super::write(number, synced, SALT, out, |out| {
            out.extend_from_slice(batch)
        });
    }

    fn read(mut bytes: &[u8]) -> Vec<Result<(u64, Vec<u8>), u64>> {
        let mut frames = Frames::new(&mut bytes, SALT);
        let mut found = Vec::new();
        loop {
            match frames.next().unwrap() {
                Found::Frame(frame, _) => found.push(Ok((frame.number, frame.batch))),
                Found::Bad(bytes) => found.push(Err(bytes)),
                Found::End => return found,
            }
        }
    }

    #[test]
    fn frames_read_back_as_they_were_written() {
        let mut bytes = Vec::new();
        let large = vec![7; 200_000];
        for (number, batch) in [&b""[..], b"one", &MARK, &large].iter().enumerate() {
            write(number as u64, 0, batch, &mut bytes);
        }
        let found = read(&bytes);
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], Ok((1, b"one".to_vec())));
        assert_eq!(found[3], Ok((3, large)));
    }

    #[test]
    fn any_flipped_byte_costs_its_frame_and_no_other() {
        let mut bytes = Vec::new();
        for number in 0..5 {
            write(number, 0, format!("batch {number}").as_bytes(), &mut bytes);
        }
        let each = bytes.len() / 5;
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x40;
            let found = read(&damaged);
            let numbers: Vec<u64> = found.iter().flatten().map(|(number, _)| *number).collect();
            let lost = (place / each) as u64;
            assert_eq!(
                numbers,
                (0..5).filter(|number| *number != lost).collect::<Vec<_>>()
            );
            assert_eq!(found.iter().filter(|found| found.is_err()).count(), 1);
        }
    }

    #[test]
    fn a_cut_file_gives_the_frames_before_the_cut() {
        let mut bytes = Vec::new();
        write(1, 0, b"first", &mut bytes);
        let first = bytes.len();
        write(2, 1, b"second", &mut bytes);
        for length in 0..bytes.len() {
            let found = read(&bytes[..length]);
            let whole = found.iter().flatten().count();
            assert_eq!(whole, usize::from(length >= first), "{length}");
        }
    }

    #[test]
    fn a_frame_of_another_file_inside_a_batch_is_no_frame_behind_a_hole() {
        let mut inner = Vec::new();
        super::write(7, 6, SALT + 1, &mut inner, |out| {
            out.extend_from_slice(b"forged")
        });
        let mut bytes = Vec::new();
        write(1, 0, &inner, &mut bytes);
        bytes[5] ^= 1;
        let all = bytes.len() as u64;
        assert_eq!(read(&bytes), [Err(all)]);
    }

    #[test]
    fn numbers_that_no_log_can_reach_are_refused() {
        for (number, synced) in [(u64::MAX, 0), (MOST_NUMBER + 1, 0), (5, u64::MAX), (5, 6)] {
            let mut bytes = Vec::new();
            write(number, synced, b"batch", &mut bytes);
            assert!(read(&bytes)[0].is_err(), "{number}, {synced}");
        }
    }
}
