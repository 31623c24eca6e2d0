//! The files: segments of frames, and a snapshot that stands for everything before it.
//!
//! A segment that was written before a restart is never written to again. So only the last one can end in a frame that a
//! crash has torn, and it is cut there when the log is opened.
//!
//! | file | what it is |
//! |---|---|
//! | `log-N` | a segment: a head, then a frame for each batch, with its records and its rows |
//! | `snapshot-N` | what the records before segment N come to, and how each queue stood there |
//! | `rows-N` | rows that nobody had settled when snapshot N was made; it stays until they are |
//! | `unfinished-…` | is being written: what a crash leaves of it is nothing |
//! | `damaged-…` | a copy of a file in which something was damaged |
//! | `lock` | is locked as long as the log is open |
//!
//! A file begins with `weirlog`, the version of the format, and twice a random salt with its checksum. A frame is a mark,
//! the length of its body, its number, the number up to which everything was synced when it was written, and a checksum
//! that begins with the salt. All numbers are little-endian. What stands in a body is in `body.rs`.

mod files;
mod fold;
mod read;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::body::{self, Batch, Head, Part, QueueId};
use crate::disk::{Disk, DiskFile};
use crate::frame;
use crate::queues::{FileId, Gap, Place, Queues, State};

use files::{
    DAMAGED, HEAD_BYTES, ROWS, SEGMENT, SNAPSHOT, UNFINISHED, begin, file_name, name_of, numbered,
    understood,
};
pub use fold::Fold;
use fold::write_heads;
pub(crate) use fold::{Folded, fold};
use read::Reader;

/// No segment has more rows, since each takes four bytes beside its own.
const MOST_ROWS_MISSING: u64 = 1 << 30;

/// Why a log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the folder is in use: another weir has this store open; end it, or give this one a data_dir of its own"
    )]
    InUse,
    /// It was told to end.
    #[error("the store ends")]
    Ending,
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
    /// How many there are; 0 where something is missing.
    pub bytes: u64,
    /// The copy of the file as it was found.
    pub copy: String,
}

/// Frames that were safe once and that no file has: a file is gone, or was cut where a frame ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The number of the first frame; frames are numbered through all segments.
    pub from: u64,
    /// The number of the last one, where it is known.
    pub to: Option<u64>,
    /// The file behind which they stood; `None` where there is none.
    pub behind: Option<String>,
    /// The segment before which they stood.
    pub before: String,
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
    /// What is not there.
    pub missing: Vec<Missing>,
    /// Rows that are lost with both.
    pub gaps: Vec<Gap>,
}

/// An open log.
pub struct Log<D: Disk> {
    disk: Arc<D>,
    queues: Arc<Queues>,
    _lock: D::Lock,
    file: D::File,
    salt: u32,
    /// The number of the segment that is written.
    segment: u64,
    length: u64,
    /// The number of the last frame.
    last: u64,
    synced: u64,
    /// Bytes of the segments before this one.
    closed_bytes: u64,
    /// The snapshot that stands for what is before; 0: there is none.
    snapshot: u64,
    snapshot_bytes: u64,
    /// The sizes of the files with rows that snapshots have left.
    rows_bytes: HashMap<u64, u64>,
    buffer: Vec<u8>,
    /// Nothing more is taken: nobody knows what is on the disk.
    broken: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log on `disk` and gives the records of every batch that is in it to `each`, in order.
    ///
    /// # Errors
    /// When the files cannot be read or made, or another process has them. Damage is no error: it is reported, and what is
    /// sound is given.
    pub fn open(disk: Arc<D>, each: &mut dyn FnMut(&[u8])) -> Result<(Self, Recovered), OpenError> {
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse,
            _ => OpenError::io("lock")(error),
        })?;
        let names = disk.list().map_err(OpenError::io("the folder"))?;
        for name in names.iter().filter(|name| name.starts_with(UNFINISHED)) {
            disk.remove(name).map_err(OpenError::io(name.as_str()))?;
        }
        let (snapshots, segments) = (numbered(&names, SNAPSHOT), numbered(&names, SEGMENT));
        let snapshot = snapshots.last().copied();
        let from = snapshot.unwrap_or(0);
        let mut rows_files = numbered(&names, ROWS);
        // Its snapshot was never finished.
        for number in rows_files.extract_if(.., |number| *number > from) {
            let name = name_of(ROWS, number);
            disk.remove(&name).map_err(OpenError::io(name))?;
        }
        let read = Arc::clone(&disk);
        let queues = Arc::new(Queues::new(Box::new(move |file, at| {
            read.read(&file_name(file), at)
        })));
        let mut carried = false;
        let mut take = |body: &[u8], place: Place| {
            carried = false;
            let take_part = &mut |part: Part<'_>| match part {
                Part::Records(records) => each(records),
                Part::Carried => carried = true,
                part => queues.recover(part, place, carried),
            };
            understood(body, place.file, take_part)
        };
        let mut reader = Reader::new(&*disk, from, &mut take);
        let mut snapshot_bytes = 0;
        if let Some(number) = snapshot {
            snapshot_bytes = reader.whole_file(FileId::Snapshot(number))?;
        }
        let snapshot_is_sound = reader.recovered.damage.is_empty();
        let mut rows_bytes = HashMap::new();
        for number in &rows_files {
            let bytes = reader.whole_file(FileId::Rows(*number))?;
            rows_bytes.insert(*number, bytes);
        }
        let damage_before = reader.recovered.damage.len();
        let live: Vec<u64> = segments
            .iter()
            .copied()
            .filter(|number| *number >= from)
            .collect();
        let cuts = reader.cuts(&live)?;
        // A segment may have been begun and never written to, or not one of its frames is whole: then a crash may have
        // torn the one before it too.
        let mut last_written = 0;
        for number in live.iter().rev() {
            if reader.has_frame(*number)? {
                last_written = *number;
                break;
            }
        }
        let mut closed_bytes = 0;
        for number in &live {
            let name = name_of(SEGMENT, *number);
            let cut = cuts.get(number).copied();
            if reader.is_empty(&name)? {
                // What cannot be removed now is removed at the next start.
                let _ = disk.remove(&name);
                continue;
            }
            if let Some(cut) = cut
                && disk.length(&name).map_err(OpenError::io(name.as_str()))? > cut
            {
                disk.truncate(&name, cut)
                    .map_err(OpenError::io(name.as_str()))?;
            }
            let can_be_torn = *number >= last_written && cut.is_none();
            closed_bytes += reader.segment(*number, can_be_torn)?;
        }
        let (last, synced, misses_frames) = (reader.last, reader.synced, reader.misses_frames);
        let (behind, torn) = (
            std::mem::take(&mut reader.carried),
            std::mem::take(&mut reader.torn),
        );
        let mut recovered = reader.recovered;
        let next = segments.last().copied().unwrap_or(0).max(from) + 1;
        for (number, _) in &torn {
            // What was read of it may still be in the system's memory alone, and what comes next counts on it.
            let name = name_of(SEGMENT, *number);
            let length = disk.length(&name).map_err(OpenError::io(name.as_str()))?;
            disk.truncate(&name, length).map_err(OpenError::io(name))?;
        }
        let (file, salt) = begin(&*disk, &name_of(SEGMENT, next))?;
        let mut log = Self {
            file,
            salt,
            disk,
            queues: Arc::clone(&queues),
            _lock: lock,
            segment: next,
            length: HEAD_BYTES as u64,
            last,
            // What was read is on the disk, and the files before this one are not written again.
            synced: synced.max(last),
            closed_bytes,
            snapshot: from,
            snapshot_bytes,
            rows_bytes,
            buffer: Vec::new(),
            broken: false,
        };
        let write = |log: &mut Self, number: u64, fill: &mut dyn FnMut(&mut Vec<u8>)| {
            log.buffer.clear();
            let place = log.stage(number, fill);
            let body = log.buffer[frame::HEAD_BYTES..].to_vec();
            log.append_staged(number)
                .and_then(|()| log.sync())
                .map_err(OpenError::io(name_of(SEGMENT, next)))?;
            Ok((place, body))
        };
        // Frames stand behind one tear at most: a segment begins when the one before it was synced.
        if let Some((number, cut)) = torn.iter().find(|(number, _)| *number == last_written)
            && !behind.is_empty()
        {
            // In one frame with the place of the cut: at any moment they are either there or here.
            let (place, body) = write(&mut log, last.max(1), &mut |out| {
                body::carried(*number, *cut, &behind, out);
            })?;
            take(&body, place)?;
        }
        for (number, cut) in &torn {
            let name = name_of(SEGMENT, *number);
            log.disk
                .truncate(&name, *cut)
                .map_err(OpenError::io(name.as_str()))?;
        }
        recovered.gaps = queues.gaps();
        let damage = &recovered.damage[damage_before..];
        let lost: u64 = damage.iter().map(|damage| damage.bytes).sum();
        // How long frames were that are missing, nobody knows.
        let missing = if misses_frames { MOST_ROWS_MISSING } else { 0 };
        let lost = lost + recovered.torn_bytes + missing;
        if lost > 0 {
            // Rows may have stood at the end of what is lost: their numbers mean something to who has read them.
            let heads = queues.skip(lost);
            if !heads.is_empty() {
                let number = log.last + 1;
                write(&mut log, number, &mut |out| write_heads(&heads, out))?;
            }
        }
        log.forget(from, &snapshots, &segments, snapshot_is_sound);
        log.forget_rows(&recovered);
        Ok((log, recovered))
    }

    /// The queues of the log.
    pub(crate) fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }

    /// Puts a frame into the buffer.
    fn stage(&mut self, number: u64, fill: &mut dyn FnMut(&mut Vec<u8>)) -> Place {
        let place = Place {
            file: FileId::Segment(self.segment),
            offset: self.length + self.buffer.len() as u64,
            salt: self.salt,
        };
        frame::write(number, self.synced, self.salt, &mut self.buffer, fill);
        place
    }

    /// Writes the buffer: frames up to number `last`.
    fn append_staged(&mut self, last: u64) -> io::Result<()> {
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

    /// Writes batches, what happened to queues, and what was settled since. With `sync` it is on stable storage
    /// afterwards. Rows are readable then. All of it is there or, after an error, nobody was told of any of it.
    ///
    /// # Errors
    /// Of the system; a full disk is one that may pass.
    pub(crate) fn commit(
        &mut self,
        group: &mut [Batch],
        changes: &[Change],
        sync: bool,
    ) -> io::Result<()> {
        self.commit_when_possible(group, changes, sync, &mut |_| false, &mut || {})
    }

    /// As [`Log::commit`]; a write that fails is tried again for as long as `again` says so, and `told` is called between the
    /// write and the sync.
    pub(crate) fn commit_when_possible(
        &mut self,
        group: &mut [Batch],
        changes: &[Change],
        sync: bool,
        again: &mut dyn FnMut(&io::Error) -> bool,
        told: &mut dyn FnMut(),
    ) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier error has left the log in doubt",
            ));
        }
        self.buffer.clear();
        let mut last = self.last;
        let unwritten = self.queues.take_unwritten();
        if !unwritten.is_empty() {
            last += 1;
            self.stage(last, &mut |out| {
                body::batch(&[], out);
                for state in &unwritten {
                    let (id, up_to) = Queues::settled(state);
                    body::settled(id, up_to, out);
                }
            });
        }
        for change in changes {
            // Twice: a damaged sector must not cost all rows of a queue for want of its name.
            for _ in 0..2 {
                last += 1;
                self.stage(last, &mut |out| {
                    body::batch(&[], out);
                    match change {
                        Change::Made(head) => body::head(head, out),
                        Change::Dropped(id) => body::dropped(*id, out),
                    }
                });
            }
        }
        let mut arrivals = Arrivals::default();
        for batch in &mut *group {
            last += 1;
            let rows = arrivals.number(&self.queues, batch);
            let place = self.stage(last, &mut |out| {
                if rows.is_empty() && batch.taken.is_empty() {
                    return body::records(&batch.records, out);
                }
                body::batch(&batch.records, out);
                for run in &rows {
                    let each = run.rows.iter().map(|row| &row[..]);
                    body::rows(run.queue, run.first, each, out);
                }
                for (queue, seq) in &batch.taken {
                    body::taken(*queue, *seq, out);
                }
            });
            arrivals
                .runs
                .extend(rows.into_iter().map(|run| (place, run)));
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut written = self.append_staged(last);
        while let Err(error) = &written
            && !self.broken
            && again(error)
        {
            written = self.append_staged(last);
        }
        if sync && written.is_ok() {
            told();
        }
        if let Err(error) = written.and_then(|()| if sync { self.sync() } else { Ok(()) }) {
            self.queues.put_back(unwritten);
            return Err(error);
        }
        for (queue, seq) in group.iter().flat_map(|batch| &batch.taken) {
            if let Some(state) = self.queues.get(*queue) {
                state.taken(*seq);
            }
        }
        arrivals.publish();
        Ok(())
    }

    /// Returns when everything that was appended is on stable storage.
    ///
    /// # Errors
    /// Of the system. What was not synced before may be there or not, so nothing more is taken.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.sync() {
            self.broken = true;
            return Err(error);
        }
        self.synced = self.last;
        Ok(())
    }

    /// The number of the last frame.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The size of the segment that is written.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes that a snapshot now would stand for, beside those of the last one.
    pub(crate) fn bytes_to_fold(&self) -> u64 {
        self.closed_bytes + self.length
    }

    /// The number of the snapshot that was made last, on which the next one is made; 0: there is none.
    pub(crate) fn snapshot(&self) -> u64 {
        self.snapshot
    }

    /// The size of the snapshot that is there.
    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// The size of all files with rows that snapshots have left, and of the rows that wait.
    pub(crate) fn rows_bytes(&self) -> (u64, u64) {
        (self.rows_bytes.values().sum(), self.queues.bytes())
    }

    /// Goes on in a new segment. Gives its number: a snapshot of everything before may be made.
    ///
    /// # Errors
    /// Of the system; then the old segment goes on.
    pub(crate) fn rotate(&mut self) -> io::Result<u64> {
        self.sync()?;
        let next = self.segment + 1;
        (self.file, self.salt) =
            begin(&*self.disk, &name_of(SEGMENT, next)).map_err(io::Error::other)?;
        self.closed_bytes += self.length;
        self.segment = next;
        self.length = HEAD_BYTES as u64;
        Ok(self.segment)
    }

    /// Takes note that a snapshot stands for everything before its segment.
    pub(crate) fn folded(&mut self, folded: &Folded) {
        self.snapshot = folded.number;
        self.snapshot_bytes = folded.snapshot_bytes;
        self.closed_bytes = self.closed_bytes.saturating_sub(folded.bytes);
        for number in &folded.rows_gone {
            self.rows_bytes.remove(number);
        }
        if folded.rows_bytes > 0 {
            self.rows_bytes.insert(folded.number, folded.rows_bytes);
        }
    }

    /// Files that a snapshot has made superfluous; what cannot be removed now is removed at the next start. Beside a
    /// snapshot that is damaged they are kept aside.
    fn forget(&self, from: u64, snapshots: &[u64], segments: &[u64], snapshot_is_sound: bool) {
        let old = |numbers: &[u64], kind| -> Vec<String> {
            let old = numbers.iter().filter(|number| **number < from);
            old.map(|number| name_of(kind, *number)).collect()
        };
        for name in old(snapshots, SNAPSHOT)
            .iter()
            .chain(&old(segments, SEGMENT))
        {
            let _ = if snapshot_is_sound {
                self.disk.remove(name)
            } else {
                self.disk.rename(name, &format!("{DAMAGED}{name}"))
            };
        }
    }

    /// Files of which every row is settled, as the files that stay say themselves.
    fn forget_rows(&mut self, recovered: &Recovered) {
        let files = self.queues.files();
        let disk = &self.disk;
        self.rows_bytes.retain(|number, _| {
            let name = name_of(ROWS, *number);
            let is_damaged = recovered.damage.iter().any(|damage| damage.file == name);
            let stays = is_damaged || files.contains(&FileId::Rows(*number));
            stays || disk.remove(&name).is_err()
        });
    }
}

/// What happens to a queue.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Made(Head),
    Dropped(QueueId),
}

/// Rows of one queue in one batch.
struct Run {
    queue: QueueId,
    first: u64,
    rows: Vec<Bytes>,
}

/// Rows of a group, numbered.
#[derive(Default)]
struct Arrivals {
    states: HashMap<QueueId, (Arc<State>, u64)>,
    runs: Vec<(Place, Run)>,
}

impl Arrivals {
    /// Numbers the rows of a batch; those of a queue that was dropped are none.
    fn number(&mut self, queues: &Queues, batch: &mut Batch) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        // The order within each queue stays.
        batch.rows.sort_by_key(|(queue, _)| *queue);
        for (queue, row) in batch.rows.drain(..) {
            if let Some(run) = runs.last_mut()
                && run.queue == queue
            {
                run.rows.push(row);
                continue;
            }
            if let Entry::Vacant(entry) = self.states.entry(queue) {
                let Some(state) = queues.get(queue) else {
                    continue;
                };
                let next = state.next();
                entry.insert((state, next));
            }
            runs.push(Run {
                queue,
                first: 0,
                rows: vec![row],
            });
        }
        for run in &mut runs {
            if let Some((_, next)) = self.states.get_mut(&run.queue) {
                run.first = *next;
                *next += run.rows.len() as u64;
            }
        }
        runs
    }

    fn publish(self) {
        for (place, run) in self.runs {
            if let Some((state, _)) = self.states.get(&run.queue) {
                state.arrived(run.first, run.rows, place);
            }
        }
        for (state, _) in self.states.values() {
            state.wake();
        }
    }
}
