//! Reading a capture, while it is being written or when nobody has it open.

use std::io::{self, Read as _};
use std::ops::ControlFlow;

use super::{Closed, ENTRIES, ENTRY_BYTES, HEAD, HEAD_BYTES, MAGIC, SEGMENT, name_of};
use crate::disk::{Disk as _, Folder};
use crate::frame::{Found, Frames};

/// Segments that begin so long after a moment hold nothing of before: clocks of writers may differ a little.
const CLOCKS_DIFFER_MS: u64 = 60_000;

/// The files of a capture.
#[derive(Clone, Debug)]
pub struct Recording {
    folder: Folder,
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// What the writer of the entries that follow says of all of them.
    Head(&'a [u8]),
    /// An entry.
    Entry {
        /// Entries are numbered.
        number: u64,
        /// When it was made: milliseconds since the Unix epoch.
        at_ms: u64,
        /// It.
        bytes: &'a [u8],
    },
}

/// Bytes of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoiled {
    /// The file.
    pub file: String,
    /// Where the bytes begin.
    pub at: u64,
    /// How many there are.
    pub bytes: u64,
}

/// What reading has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes of all files that were read.
    pub bytes: u64,
    /// How many numbers are missing between the first and the last entry: lost when they came, or damaged since.
    pub missing: u64,
    /// What is damaged. What a crash has torn off the end of the newest file is not.
    pub spoiled: Vec<Spoiled>,
    last: Option<u64>,
}

impl Recording {
    /// The capture in `folder`.
    pub const fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// Gives every entry from `number` on that was made at `at_ms` or later, in order, until it is told to stop. What
    /// is removed meanwhile is not there.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(
        &self,
        number: u64,
        at_ms: u64,
        each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> io::Result<Reading> {
        let mut reading = Reading::default();
        let mut segments = numbered(&self.folder)?;
        let keep = segments.iter().rposition(|first| *first <= number);
        segments.drain(..keep.unwrap_or(0));
        let mut begins = Vec::with_capacity(segments.len());
        for first in &segments {
            begins.push(if at_ms == 0 {
                None
            } else {
                begun(&self.folder, *first)?
            });
        }
        let is_early = |begun: &Option<u64>| {
            begun.is_some_and(|begun| begun.saturating_add(CLOCKS_DIFFER_MS) < at_ms)
        };
        // The one before the first that begins too late may reach beyond its begin.
        let early = begins.iter().take_while(|begun| is_early(begun)).count();
        let newest = segments.last().copied();
        for first in segments.into_iter().skip(early.saturating_sub(1)) {
            let each = &mut |item: Item<'_>| match item {
                Item::Entry {
                    number: own,
                    at_ms: at,
                    ..
                } if own < number || at < at_ms => ControlFlow::Continue(()),
                item => each(item),
            };
            let end = read_segment(&self.folder, first, &mut reading, each)?;
            let Some(end) = end else { break };
            if newest != Some(first) {
                reading.spoiled.extend(end);
            }
        }
        Ok(reading)
    }
}

fn numbered(folder: &Folder) -> io::Result<Vec<u64>> {
    let names = folder.list()?;
    let numbers = names.iter().filter_map(|name| name.strip_prefix(SEGMENT));
    let mut numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The salt of a file; `None` when it is no capture of this version.
fn salt_of(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(MAGIC)?;
    rest.chunks_exact(8).find_map(|pair| {
        let (salt, sum) = pair.split_at(4);
        let salt: [u8; 4] = salt.try_into().ok()?;
        (crc32fast::hash(&salt).to_le_bytes() == *sum).then(|| u32::from_le_bytes(salt))
    })
}

/// The frames of a segment; `None` when it was removed, or is none.
fn frames(folder: &Folder, first: u64) -> io::Result<Option<Frames<Box<dyn io::Read>>>> {
    let mut file = match folder.read(&name_of(first), 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut head = Vec::new();
    (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(salt_of(&head).map(|salt| Frames::new(file, salt)))
}

/// When a segment was begun.
fn begun(folder: &Folder, first: u64) -> io::Result<Option<u64>> {
    let Some(mut frames) = frames(folder, first)? else {
        return Ok(None);
    };
    Ok(match frames.next()? {
        Found::Frame(frame, _) => head_of(&frame.batch).map(|(begun, _)| begun),
        _ => None,
    })
}

fn head_of(body: &[u8]) -> Option<(u64, &[u8])> {
    let (begun, head) = body.strip_prefix(&[HEAD])?.split_at_checked(8)?;
    Some((u64::from_le_bytes(begun.try_into().ok()?), head))
}

/// Gives what stands behind the last frame: in the newest file it may be torn, or on its way. `None`: it was told to stop.
fn read_segment(
    folder: &Folder,
    first: u64,
    reading: &mut Reading,
    each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> io::Result<Option<Option<Spoiled>>> {
    let length = match folder.length(&name_of(first)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(None));
        }
        length => length?,
    };
    let Some(mut frames) = frames(folder, first)? else {
        // One that was only just made has no head yet.
        if length >= HEAD_BYTES as u64 {
            reading.spoiled.push(Spoiled {
                file: name_of(first),
                at: 0,
                bytes: length,
            });
        }
        return Ok(Some(None));
    };
    let mut at = HEAD_BYTES as u64;
    let mut bad = None;
    loop {
        match frames.next()? {
            Found::End => break,
            Found::Bad(bytes) => {
                bad = Some(Spoiled {
                    file: name_of(first),
                    at,
                    bytes,
                });
                at += bytes;
            }
            Found::Frame(frame, bytes) => {
                reading.spoiled.extend(bad.take());
                at += bytes;
                reading.bytes += bytes;
                if let Some((_, head)) = head_of(&frame.batch) {
                    if each(Item::Head(head)).is_break() {
                        return Ok(None);
                    }
                    continue;
                }
                let entries = frame.batch.strip_prefix(&[ENTRIES]).unwrap_or_default();
                if entries_of(entries, reading, each).is_break() {
                    return Ok(None);
                }
            }
        }
    }
    Ok(Some(bad))
}

fn entries_of(
    mut rest: &[u8],
    reading: &mut Reading,
    each: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    while let Some((head, behind)) = rest.split_first_chunk::<ENTRY_BYTES>() {
        let (number, more) = head.split_at(8);
        let (at_ms, length) = more.split_at(8);
        let u64_of = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let Some((bytes, behind)) = behind.split_at_checked(length) else {
            break;
        };
        rest = behind;
        let number = u64_of(number);
        if let Some(last) = reading.last {
            reading.missing += number.saturating_sub(last + 1);
        }
        reading.last = Some(number);
        each(Item::Entry {
            number,
            at_ms: u64_of(at_ms),
            bytes,
        })?;
    }
    ControlFlow::Continue(())
}

/// What stands in the folder, and the number of the next entry. A torn end is cut; what holds no entry is removed.
pub(super) fn recover(folder: &Folder) -> io::Result<(Vec<Closed>, u64)> {
    let mut closed = Vec::new();
    let mut next = 0;
    for first in numbered(folder)? {
        let name = name_of(first);
        let (mut last, mut last_at_ms) = (None, 0);
        let mut sound = HEAD_BYTES as u64;
        if let Some(mut frames) = frames(folder, first)? {
            let mut at = sound;
            loop {
                match frames.next()? {
                    Found::End => break,
                    Found::Bad(bytes) => at += bytes,
                    Found::Frame(frame, bytes) => {
                        at += bytes;
                        sound = at;
                        let entries = frame.batch.strip_prefix(&[ENTRIES]).unwrap_or_default();
                        let _ = entries_of(entries, &mut Reading::default(), &mut |item| {
                            if let Item::Entry { number, at_ms, .. } = item {
                                (last, last_at_ms) = (Some(number), at_ms);
                            }
                            ControlFlow::Continue(())
                        });
                    }
                }
            }
        } else if folder.length(&name)? >= HEAD_BYTES as u64 {
            // Not ours to remove, and not ours to write on.
            next = next.max(first + 1);
            continue;
        }
        let Some(last) = last else {
            folder.remove(&name)?;
            next = next.max(first);
            continue;
        };
        if folder.length(&name)? > sound {
            folder.truncate(&name, sound)?;
        }
        next = next.max(last + 1);
        closed.push(Closed {
            first,
            bytes: sound,
            last_at_ms,
        });
    }
    Ok((closed, next))
}
