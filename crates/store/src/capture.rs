//! A log of entries that is bounded: the oldest go when they are too old, or when there are too many.
//!
//! Nobody waits for it. [`Capture::append`] puts an entry into memory; a thread writes what is there a few times a second
//! and syncs once a second. What does not fit into memory meanwhile is lost and counted, and its number is missing.
//!
//! A segment `capture-N` begins with `weircap`, the version of the format, and twice a random salt with its checksum; then
//! come frames (`frame.rs`). The first frame of each says when it was begun and what its writer wants to say of all
//! entries, the others hold entries: number, time, length, bytes, numbers little-endian. A segment is never written again
//! after a restart. A reader needs no lock: a frame is there whole or it is not there yet.

mod read;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk as _, DiskFile as _, Folder};
use crate::frame;
use crate::queues::random;

pub use read::{Item, Reading, Recording, Spoiled};

const SEGMENT: &str = "capture-";
const MAGIC: &[u8; 8] = b"weircap\x01";
/// Magic, and twice a salt with its checksum.
const HEAD_BYTES: usize = 8 + 2 * 8;
/// Number, time, length.
const ENTRY_BYTES: usize = 8 + 8 + 4;
/// What a frame holds.
const HEAD: u8 = 0;
const ENTRIES: u8 = 1;
/// So much waits in memory at most.
const MOST_WAITING: usize = 16 << 20;
/// Entries wait so long for others.
const GATHER: Duration = Duration::from_millis(50);
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// After a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all files.
    pub bytes: u64,
    /// How long an entry is kept at least, as long as there is room.
    pub age: Duration,
}

impl Bounds {
    /// Files are removed whole: eight of them fill the bound.
    fn segment_bytes(self) -> u64 {
        (self.bytes / 8).clamp(4 << 10, 64 << 20)
    }

    fn segment_age(self) -> Duration {
        self.age / 8
    }
}

/// What became of entries since the capture was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries that were taken.
    pub entries: u64,
    /// Entries that were lost: there was no room in memory, or the disk refused them.
    pub lost: u64,
    /// Bytes of all files now.
    pub bytes: u64,
}

/// An open capture. Dropping it writes what waits.
pub struct Capture {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For those who wait until it is done.
    done: Condvar,
}

struct Waiting {
    entries: Vec<u8>,
    /// How many entries that is.
    count: u64,
    /// The number of the next entry.
    next: u64,
    /// Entries below this number are with the system, or lost.
    written: u64,
    /// Somebody waits for `written`.
    hurry: bool,
    /// The next entries begin a file.
    anew: bool,
    ending: bool,
    tally: Tally,
}

impl Capture {
    /// Opens the capture in `folder`, whose torn end is cut. `head` stands in front of the entries of each file. `tell` hears
    /// of writes that fail, once until one succeeds.
    ///
    /// # Errors
    /// When the folder is in use by another capture, or cannot be read or written.
    pub fn open(
        folder: Folder,
        head: Vec<u8>,
        bounds: Bounds,
        tell: impl Fn(Option<&io::Error>) + Send + 'static,
    ) -> io::Result<Self> {
        let lock = folder.lock()?;
        let (closed, next) = read::recover(&folder)?;
        let bytes = closed.iter().map(|segment| segment.bytes).sum();
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting {
                entries: Vec::new(),
                count: 0,
                next,
                written: next,
                hurry: false,
                anew: false,
                ending: false,
                tally: Tally {
                    bytes,
                    ..Tally::default()
                },
            }),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let writer = Writer {
            folder,
            head,
            bounds,
            closed,
            current: None,
            full: Vec::new(),
            named: false,
            synced_at: Instant::now(),
            failing: false,
        };
        let of_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("weir-capture".to_owned())
            .spawn(move || {
                writer.run(&of_writer, &tell);
                drop(lock);
            })?;
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }

    /// Takes one entry, which `write` appends; gives its number. Numbers grow by one, also for what is lost.
    pub fn append(&self, at_ms: u64, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        let mut waiting = self.shared.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        if waiting.entries.len() > MOST_WAITING {
            waiting.tally.lost += 1;
            return number;
        }
        waiting.tally.entries += 1;
        waiting.count += 1;
        let begin = waiting.entries.len();
        let entries = &mut waiting.entries;
        entries.extend_from_slice(&number.to_le_bytes());
        entries.extend_from_slice(&at_ms.to_le_bytes());
        entries.extend_from_slice(&[0; 4]);
        write(entries);
        let length = u32::try_from(entries.len() - begin - ENTRY_BYTES).unwrap_or(u32::MAX);
        entries[begin + 16..begin + ENTRY_BYTES].copy_from_slice(&length.to_le_bytes());
        if begin == 0 {
            self.shared.work.notify_one();
        }
        number
    }

    /// The number that the next entry gets.
    pub fn next_number(&self) -> u64 {
        self.shared.waiting.lock().next
    }

    /// Returns when everything that was appended before can be read.
    pub fn flush(&self) {
        let mut waiting = self.shared.waiting.lock();
        let upto = waiting.next;
        while waiting.written < upto {
            waiting.hurry = true;
            self.shared.work.notify_one();
            self.shared.done.wait(&mut waiting);
        }
    }

    /// The same, and what comes next stands in a file of its own: a reader that has seen everything finds it at once.
    pub fn begin_anew(&self) {
        self.flush();
        self.shared.waiting.lock().anew = true;
    }

    /// What became of entries.
    pub fn tally(&self) -> Tally {
        self.shared.waiting.lock().tally
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.waiting.lock().ending = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            // One that has panicked has nothing more to write.
            let _ = writer.join();
        }
    }
}

/// A segment that is not written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Closed {
    first: u64,
    bytes: u64,
    last_at_ms: u64,
}

struct Current {
    segment: Closed,
    file: std::fs::File,
    salt: u32,
    begun: Instant,
    dirty: bool,
}

struct Writer {
    folder: Folder,
    head: Vec<u8>,
    bounds: Bounds,
    closed: Vec<Closed>,
    current: Option<Current>,
    /// Files of closed segments that are still to be synced.
    full: Vec<std::fs::File>,
    /// A file was made whose name is still to be synced.
    named: bool,
    synced_at: Instant,
    failing: bool,
}

impl Writer {
    fn run(mut self, shared: &Shared, tell: &impl Fn(Option<&io::Error>)) {
        // Once in a while something is too old, though nothing comes.
        let look = (self.bounds.segment_age() / 2).clamp(SYNC_EVERY, Duration::from_secs(60));
        loop {
            let (entries, first, next, count, anew, ending) = {
                let mut waiting = shared.waiting.lock();
                if waiting.entries.is_empty() && !waiting.ending {
                    let dirty = self.current.as_ref().is_some_and(|current| current.dirty);
                    let patience = if dirty { SYNC_EVERY } else { look };
                    shared.work.wait_for(&mut waiting, patience);
                }
                if !waiting.entries.is_empty() && !waiting.hurry && !waiting.ending {
                    shared.work.wait_for(&mut waiting, GATHER);
                }
                waiting.hurry = false;
                let anew = !waiting.entries.is_empty() && std::mem::take(&mut waiting.anew);
                let count = std::mem::take(&mut waiting.count);
                let entries = std::mem::take(&mut waiting.entries);
                let (first, next, ending) = (waiting.written, waiting.next, waiting.ending);
                (entries, first, next, count, anew, ending)
            };
            if anew {
                self.close();
            }
            let written = if entries.is_empty() {
                Ok(())
            } else {
                self.write(first, &entries)
            };
            if let Err(error) = &written {
                self.close_at_the_last_frame();
                if !std::mem::replace(&mut self.failing, true) {
                    tell(Some(error));
                }
            } else if !entries.is_empty() && std::mem::take(&mut self.failing) {
                tell(None);
            }
            {
                let mut waiting = shared.waiting.lock();
                waiting.written = next;
                if written.is_err() {
                    waiting.tally.entries -= count;
                    waiting.tally.lost += count;
                }
                waiting.tally.bytes = self.bytes();
                shared.done.notify_all();
            }
            // Whoever flushes wants to read: that does not wait for the disk.
            self.sync();
            self.keep_bounds();
            let mut waiting = shared.waiting.lock();
            waiting.tally.bytes = self.bytes();
            if ending && waiting.entries.is_empty() {
                break;
            }
            if written.is_err() && !waiting.ending {
                // What comes meanwhile waits in memory; whoever flushes hears at once that it is lost.
                shared.work.wait_for(&mut waiting, PAUSE);
            }
        }
        self.close();
        self.sync();
    }

    fn write(&mut self, first: u64, entries: &[u8]) -> io::Result<()> {
        let now = now_ms();
        let is_full = |current: &Current| {
            current.segment.bytes >= self.bounds.segment_bytes()
                || current.begun.elapsed() >= self.bounds.segment_age()
        };
        if self.current.as_ref().is_some_and(is_full) {
            self.close();
        }
        if self.current.is_none() {
            self.current = Some(self.begin(first, now)?);
        }
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let mut bytes = Vec::with_capacity(entries.len() + 64);
        frame::write(first, 0, current.salt, &mut bytes, |out| {
            out.push(ENTRIES);
            out.extend_from_slice(entries);
        });
        current.file.append(&bytes)?;
        current.segment.bytes += bytes.len() as u64;
        current.segment.last_at_ms = now;
        current.dirty = true;
        Ok(())
    }

    fn begin(&mut self, first: u64, now: u64) -> io::Result<Current> {
        let mut file = self.folder.create(&name_of(first))?;
        // Half of it is chance enough.
        let salt = (random() >> 32) as u32;
        let mut bytes = MAGIC.to_vec();
        for _ in 0..2 {
            bytes.extend_from_slice(&salt.to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&salt.to_le_bytes()).to_le_bytes());
        }
        frame::write(first, 0, salt, &mut bytes, |out| {
            out.push(HEAD);
            out.extend_from_slice(&now.to_le_bytes());
            out.extend_from_slice(&self.head);
        });
        file.append(&bytes)?;
        self.named = true;
        Ok(Current {
            segment: Closed {
                first,
                bytes: bytes.len() as u64,
                last_at_ms: now,
            },
            file,
            salt,
            begun: Instant::now(),
            dirty: true,
        })
    }

    /// Any part of a frame may be there that was not written whole.
    fn close_at_the_last_frame(&mut self) {
        if let Some(current) = &self.current {
            let name = name_of(current.segment.first);
            // Where that fails too, readers find the part and say so.
            let _ = self.folder.truncate(&name, current.segment.bytes);
        }
        self.close();
    }

    fn close(&mut self) {
        if let Some(current) = self.current.take() {
            self.full.push(current.file);
            self.closed.push(current.segment);
        }
    }

    /// Nothing was promised of what cannot be synced.
    fn sync(&mut self) {
        for mut file in self.full.drain(..) {
            let _ = file.sync();
        }
        if std::mem::take(&mut self.named) {
            let _ = self.folder.sync_names();
        }
        if let Some(current) = &mut self.current
            && current.dirty
            && self.synced_at.elapsed() >= SYNC_EVERY
        {
            let _ = current.file.sync();
            current.dirty = false;
            self.synced_at = Instant::now();
        }
    }

    fn bytes(&self) -> u64 {
        let current = self.current.iter().map(|current| &current.segment);
        self.closed
            .iter()
            .chain(current)
            .map(|segment| segment.bytes)
            .sum()
    }

    fn keep_bounds(&mut self) {
        let age = u64::try_from(self.bounds.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = now_ms().saturating_sub(age);
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.segment.last_at_ms < oldest)
        {
            self.close();
        }
        while let Some(first) = self.closed.first()
            && (first.last_at_ms < oldest || self.bytes() > self.bounds.bytes)
        {
            // A file that cannot be removed is tried again with the next one.
            match self.folder.remove(&name_of(first.first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return,
                _ => drop(self.closed.remove(0)),
            }
        }
    }
}

fn name_of(first: u64) -> String {
    format!("{SEGMENT}{first:020}")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
