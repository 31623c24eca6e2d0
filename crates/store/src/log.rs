//! The files: segments of frames, and a snapshot that stands for everything before it.
//!
//! A segment that was written before a restart is never written to again. So only the last one can end in a frame that a
//! crash has torn, and it is cut there when the log is opened.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::disk::{Disk, DiskFile};
use crate::frame::{self, Found, Frames, MOST_BYTES};

const SEGMENT: &str = "log-";
const SNAPSHOT: &str = "snapshot-";
/// Being written: what a crash leaves of it is nothing.
const UNFINISHED: &str = "unfinished-";
/// Copies of files in which something was damaged.
const DAMAGED: &str = "damaged-";
/// Begins every file: what it is, and the version of the format.
const MAGIC: &[u8; 8] = b"weirlog\x01";
/// The only frame of a snapshot with this number is its last: without it the snapshot is not whole.
const END_OF_SNAPSHOT: u64 = u64::MAX;

/// Why a log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The system says no.
    #[error("{name}: {error}")]
    Io {
        /// The file, or what was to be done.
        name: String,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The file was written by a version of weir that this one does not know.
    #[error(
        "{name} is not a log of this version of weir: it was written by another one, or it is another file"
    )]
    Version {
        /// The file.
        name: String,
    },
}

impl OpenError {
    fn io(name: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let name = name.into();
        |error| Self::Io { name, error }
    }
}

/// Bytes of a file that are none of ours, though they were safe once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where the bytes begin.
    pub at: u64,
    /// How many there are.
    pub bytes: u64,
    /// The copy of the file as it was found.
    pub copy: String,
}

/// What was found when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Batches that are there.
    pub batches: u64,
    /// Bytes at the end of the last segment that a crash has torn. Where batches are synced before they are answered, they were
    /// never acknowledged.
    pub torn_bytes: u64,
    /// What is not sound. The batches in it are lost; those around it are there.
    pub damage: Vec<Damage>,
}

/// What batches come to, for writing a snapshot.
pub trait Fold: Send {
    /// Takes the next batch.
    fn take(&mut self, batch: &[u8]);

    /// Gives batches that come to the same.
    fn give(self: Box<Self>, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
}

/// An open log.
pub struct Log<D: Disk> {
    disk: Arc<D>,
    file: D::File,
    /// The number of the segment that is written.
    segment: u64,
    length: u64,
    /// The number of the last frame.
    last: u64,
    synced: u64,
    /// Bytes of the segments before this one.
    closed_bytes: u64,
    snapshot_bytes: u64,
    buffer: Vec<u8>,
    /// Nothing more is taken: nobody knows what is on the disk.
    broken: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log on `disk` and gives every batch that is in it to `each`, in order.
    ///
    /// # Errors
    /// When the files cannot be read or made. Damage is no error: it is reported, and what is sound is given.
    pub fn open(disk: Arc<D>, each: &mut dyn FnMut(&[u8])) -> Result<(Self, Recovered), OpenError> {
        let names = disk.list().map_err(OpenError::io("the folder"))?;
        for name in names.iter().filter(|name| name.starts_with(UNFINISHED)) {
            disk.remove(name).map_err(OpenError::io(name.as_str()))?;
        }
        let (mut snapshots, mut segments) = (numbered(&names, SNAPSHOT), numbered(&names, SEGMENT));
        snapshots.sort_unstable();
        segments.sort_unstable();
        let mut recovered = Recovered::default();
        let mut reader = Reader {
            disk: &*disk,
            last: 0,
            synced: 0,
            carried: Vec::new(),
            torn: None,
            recovered: &mut recovered,
        };
        let snapshot = snapshots.last().copied();
        let mut snapshot_bytes = 0;
        if let Some(number) = snapshot {
            snapshot_bytes = reader.snapshot(&name_of(SNAPSHOT, number), each)?;
        }
        let from = snapshot.unwrap_or(0);
        let live: Vec<u64> = segments
            .iter()
            .copied()
            .filter(|number| *number >= from)
            .collect();
        // A segment may have been begun and never written to: the one before it is the one that a crash may have torn.
        let mut last_written = None;
        for number in live.iter().rev() {
            if !reader.is_empty(&name_of(SEGMENT, *number))? {
                last_written = Some(*number);
                break;
            }
        }
        let mut closed_bytes = 0;
        for number in &live {
            let name = name_of(SEGMENT, *number);
            if reader.is_empty(&name)? {
                // What cannot be removed now is removed at the next start.
                let _ = disk.remove(&name);
                continue;
            }
            closed_bytes += reader.segment(&name, last_written == Some(*number), each)?;
        }
        let (last, synced) = (reader.last, reader.synced);
        let (carried, torn) = (std::mem::take(&mut reader.carried), reader.torn.take());
        let next = segments.last().copied().unwrap_or(0).max(from) + 1;
        let mut log = Self {
            file: begin(&*disk, &name_of(SEGMENT, next))?,
            disk,
            segment: next,
            length: MAGIC.len() as u64,
            last,
            // What was read is on the disk, and the files before this one are not written again.
            synced: synced.max(last),
            closed_bytes,
            snapshot_bytes,
            buffer: Vec::new(),
            broken: false,
        };
        if !carried.is_empty() {
            let name = name_of(SEGMENT, next);
            log.append(carried.iter().map(Vec::as_slice))
                .and_then(|()| log.sync())
                .map_err(OpenError::io(name))?;
        }
        if let Some((name, length)) = torn {
            log.disk
                .truncate(&name, length)
                .map_err(OpenError::io(name.as_str()))?;
        }
        log.forget_before(from, &snapshots, &segments);
        Ok((log, recovered))
    }

    /// Appends batches, not yet synced. All of them are there or, after an error, none.
    ///
    /// # Errors
    /// Of the system; a full disk is one that may pass.
    pub fn append<'b>(&mut self, batches: impl IntoIterator<Item = &'b [u8]>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier error has left the log in doubt",
            ));
        }
        self.buffer.clear();
        let mut last = self.last;
        for batch in batches {
            if batch.len() > MOST_BYTES {
                return Err(io::Error::other("a batch is larger than 1 GiB"));
            }
            last += 1;
            frame::write(last, self.synced, batch, &mut self.buffer);
        }
        if let Err(error) = self.file.append(&self.buffer) {
            // A part of it may be there: it must not stand before what comes next.
            let name = name_of(SEGMENT, self.segment);
            self.broken = self.disk.truncate(&name, self.length).is_err();
            return Err(error);
        }
        self.length += self.buffer.len() as u64;
        self.last = last;
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    /// Returns when everything that was appended is on stable storage.
    ///
    /// # Errors
    /// Of the system. What was not synced before may be there or not, so nothing more is taken.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.sync() {
            self.broken = true;
            return Err(error);
        }
        self.synced = self.last;
        Ok(())
    }

    /// The size of the segment that is written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes that a snapshot now would stand for, beside those of the last one.
    pub fn bytes_to_fold(&self) -> u64 {
        self.closed_bytes + self.length
    }

    /// The size of the snapshot that is there.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// Goes on in a new segment. Gives its number: a snapshot of everything before may be made.
    ///
    /// # Errors
    /// Of the system; then the old segment goes on.
    pub fn rotate(&mut self) -> io::Result<u64> {
        self.sync()?;
        self.reopen()?;
        Ok(self.segment)
    }

    /// A new segment behind the one that is written.
    fn reopen(&mut self) -> io::Result<()> {
        let next = self.segment + 1;
        self.file = begin(&*self.disk, &name_of(SEGMENT, next)).map_err(io::Error::other)?;
        self.closed_bytes += self.length;
        self.segment = next;
        self.length = MAGIC.len() as u64;
        Ok(())
    }

    /// Takes note that a snapshot stands for everything before `segment`.
    pub fn folded(&mut self, segment: u64, snapshot_bytes: u64, folded_bytes: u64) {
        debug_assert!(segment <= self.segment, "it was rotated to before");
        self.snapshot_bytes = snapshot_bytes;
        self.closed_bytes = self.closed_bytes.saturating_sub(folded_bytes);
    }

    /// Files that a snapshot has made superfluous; what cannot be removed now is removed at the next start.
    fn forget_before(&self, from: u64, snapshots: &[u64], segments: &[u64]) {
        let old = |numbers: &[u64], kind| -> Vec<String> {
            let old = numbers.iter().filter(|number| **number < from);
            old.map(|number| name_of(kind, *number)).collect()
        };
        for name in old(snapshots, SNAPSHOT)
            .iter()
            .chain(&old(segments, SEGMENT))
        {
            let _ = self.disk.remove(name);
        }
    }
}

/// Makes the snapshot that stands for everything before segment `number`, from the one before it and the segments
/// between. Runs beside a log that is being written. Gives the snapshot's size and that of what it stands for.
///
/// # Errors
/// Of the system; then everything is as it was.
pub(crate) fn fold<D: Disk>(
    disk: &D,
    number: u64,
    mut fold: Box<dyn Fold>,
) -> Result<(u64, u64), OpenError> {
    let names = disk.list().map_err(OpenError::io("the folder"))?;
    let snapshots = numbered(&names, SNAPSHOT);
    let before = snapshots
        .iter()
        .copied()
        .filter(|snapshot| *snapshot < number)
        .max();
    let mut segments = numbered(&names, SEGMENT);
    segments.retain(|segment| *segment >= before.unwrap_or(0) && *segment < number);
    segments.sort_unstable();
    let mut recovered = Recovered::default();
    let mut reader = Reader {
        disk,
        last: 0,
        synced: 0,
        carried: Vec::new(),
        torn: None,
        recovered: &mut recovered,
    };
    let mut take = |batch: &[u8]| fold.take(batch);
    if let Some(before) = before {
        reader.snapshot(&name_of(SNAPSHOT, before), &mut take)?;
    }
    let mut folded = 0;
    for segment in &segments {
        folded += reader.segment(&name_of(SEGMENT, *segment), false, &mut take)?;
    }
    let last = reader.last;
    let unfinished = name_of(UNFINISHED, number);
    let write = || -> io::Result<u64> {
        let mut file = begin(disk, &unfinished).map_err(io::Error::other)?;
        let (mut buffer, mut length) = (Vec::new(), MAGIC.len() as u64);
        fold.give(&mut |batch| {
            frame::write(last, last, batch, &mut buffer);
            if buffer.len() > 1 << 20 {
                file.append(&buffer)?;
                length += buffer.len() as u64;
                buffer.clear();
            }
            Ok(())
        })?;
        frame::write(END_OF_SNAPSHOT, last, &[], &mut buffer);
        file.append(&buffer)?;
        file.sync()?;
        disk.rename(&unfinished, &name_of(SNAPSHOT, number))?;
        disk.sync_names()?;
        Ok(length + buffer.len() as u64)
    };
    let length = match write() {
        Ok(length) => length,
        Err(error) => {
            let _ = disk.remove(&unfinished);
            return Err(OpenError::Io {
                name: unfinished,
                error,
            });
        }
    };
    for segment in segments {
        let _ = disk.remove(&name_of(SEGMENT, segment));
    }
    if let Some(before) = before {
        let _ = disk.remove(&name_of(SNAPSHOT, before));
    }
    Ok((length, folded))
}

/// A new file with its head, durable by name.
fn begin<D: Disk>(disk: &D, name: &str) -> Result<D::File, OpenError> {
    let begin = || {
        let mut file = disk.create(name)?;
        file.append(MAGIC)?;
        file.sync()?;
        disk.sync_names()?;
        Ok(file)
    };
    begin().map_err(OpenError::io(name))
}

fn name_of(kind: &str, number: u64) -> String {
    format!("{kind}{number:016x}")
}

fn numbered(names: &[String], kind: &str) -> Vec<u64> {
    let numbers = names.iter().filter_map(|name| name.strip_prefix(kind));
    numbers
        .filter(|digits| digits.len() == 16)
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .collect()
}

/// Bytes that are no frame, and the frames behind them up to the next such place.
struct Hole {
    at: u64,
    bytes: u64,
    behind: Vec<frame::Frame>,
}

/// Reads the files of a log in order.
struct Reader<'d, D: Disk> {
    disk: &'d D,
    /// The number of the last frame.
    last: u64,
    /// The highest number that any frame says was synced.
    synced: u64,
    /// Batches behind a tear: they go into the next segment.
    carried: Vec<Vec<u8>>,
    /// The last segment, and where it is to be cut when they are there.
    torn: Option<(String, u64)>,
    recovered: &'d mut Recovered,
}

impl<D: Disk> Reader<'_, D> {
    /// The frames of a file; `None` where a crash came before anything was written to it.
    fn frames(&self, name: &str) -> Result<Option<Frames<Box<dyn io::Read>>>, OpenError> {
        let file = self.disk.read(name).map_err(OpenError::io(name))?;
        let mut frames = Frames::new(file);
        let head = frames.peek(MAGIC.len()).map_err(OpenError::io(name))?;
        let (kind, version) = (&MAGIC[..MAGIC.len() - 1], MAGIC[MAGIC.len() - 1]);
        if head.len() < MAGIC.len() {
            return Ok(None);
        }
        if head.starts_with(kind) && head.last() != Some(&version) {
            return Err(OpenError::Version {
                name: name.to_owned(),
            });
        }
        if head == MAGIC || !self.is_zero(name)? {
            // A head that is none of ours is damage like any other: the reader finds it in front of the first frame.
            if head == MAGIC {
                frames.skip(MAGIC.len());
            }
            return Ok(Some(frames));
        }
        Ok(None)
    }

    fn is_zero(&self, name: &str) -> Result<bool, OpenError> {
        let mut file = self.disk.read(name).map_err(OpenError::io(name))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(OpenError::io(name))? {
                0 => return Ok(true),
                count if buffer[..count].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }

    /// Whether nothing was ever written to a file.
    fn is_empty(&self, name: &str) -> Result<bool, OpenError> {
        match self.frames(name)? {
            Some(mut frames) => {
                let rest = frames.peek(1).map_err(OpenError::io(name))?;
                Ok(rest.is_empty())
            }
            None => Ok(true),
        }
    }

    /// Gives the batches of a segment; gives its size.
    fn segment(
        &mut self,
        name: &str,
        is_last: bool,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, OpenError> {
        let Some(mut frames) = self.frames(name)? else {
            return Ok(0);
        };
        let mut at = MAGIC.len() as u64;
        // Bad bytes, and the frames behind them: only those tell a tear from damage.
        let mut holes: Vec<Hole> = Vec::new();
        loop {
            match frames.next().map_err(OpenError::io(name))? {
                Found::End => break,
                Found::Bad(bytes) => {
                    holes.push(Hole {
                        at,
                        bytes,
                        behind: Vec::new(),
                    });
                    at += bytes;
                }
                Found::Frame(frame, bytes) => {
                    at += bytes;
                    match holes.last_mut() {
                        Some(hole) => hole.behind.push(frame),
                        None => self.give(&frame, each),
                    }
                }
            }
        }
        for place in 0..holes.len() {
            let rest = &holes[place..];
            // Frames that were written before the hole was synced were not known to be safe either.
            let was_synced = rest
                .iter()
                .flat_map(|hole| &hole.behind)
                .any(|frame| frame.synced > self.last);
            if is_last && !was_synced {
                self.torn = Some((name.to_owned(), rest[0].at));
                let from = rest[0].at;
                for hole in holes.drain(place..) {
                    self.recovered.torn_bytes += hole.bytes;
                    // Whole frames behind it count: they may have been acknowledged, if this is damage after all.
                    for frame in hole.behind {
                        self.give(&frame, each);
                        self.carried.push(frame.batch);
                    }
                }
                return Ok(from);
            }
            let (from, bytes) = (rest[0].at, rest[0].bytes);
            self.damaged(name, from, bytes)?;
            for frame in std::mem::take(&mut holes[place].behind) {
                self.give(&frame, each);
            }
        }
        if is_last {
            // What was read may still be in the system's memory alone: what comes next must not stand on sand.
            self.disk.truncate(name, at).map_err(OpenError::io(name))?;
        }
        Ok(at)
    }

    /// Damage: it is kept aside and named.
    fn damaged(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), OpenError> {
        let copy = format!("{DAMAGED}{name}");
        let known = self
            .recovered
            .damage
            .iter()
            .any(|damage| damage.copy == copy);
        if !known {
            let keep = || -> io::Result<()> {
                let mut from = self.disk.read(name)?;
                let mut to = self.disk.create(&copy)?;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match from.read(&mut buffer)? {
                        0 => return to.sync(),
                        count => to.append(&buffer[..count])?,
                    }
                }
            };
            // Without room for a copy the log is opened all the same.
            let _ = keep();
        }
        self.recovered.damage.push(Damage {
            file: name.to_owned(),
            at,
            bytes,
            copy,
        });
        Ok(())
    }

    fn give(&mut self, frame: &frame::Frame, each: &mut dyn FnMut(&[u8])) {
        self.last = self.last.max(frame.number);
        self.synced = self.synced.max(frame.synced);
        self.recovered.batches += 1;
        each(&frame.batch);
    }

    /// Gives the batches of a snapshot; gives its size.
    fn snapshot(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<u64, OpenError> {
        let Some(mut frames) = self.frames(name)? else {
            self.damaged(name, 0, 0)?;
            return Ok(0);
        };
        let mut at = MAGIC.len() as u64;
        let mut whole = false;
        loop {
            match frames.next().map_err(OpenError::io(name))? {
                Found::End => break,
                Found::Bad(bytes) => {
                    self.damaged(name, at, bytes)?;
                    at += bytes;
                }
                Found::Frame(frame, bytes) => {
                    at += bytes;
                    if frame.number == END_OF_SNAPSHOT {
                        whole = true;
                        self.last = self.last.max(frame.synced);
                    } else {
                        self.give(&frame, each);
                    }
                }
            }
        }
        if !whole {
            // It was synced before it got its name.
            self.damaged(name, at, 0)?;
        }
        Ok(at)
    }
}
