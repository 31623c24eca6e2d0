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

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use thiserror::Error;

use crate::body::{self, Batch, Head, Part, QueueId};
use crate::disk::{Disk, DiskFile};
use crate::frame::{self, Found, Frames};
use crate::queues::{FileId, Gap, Heads, Moved, Place, Queues, State, random};

const SEGMENT: &str = "log-";
const SNAPSHOT: &str = "snapshot-";
const ROWS: &str = "rows-";
/// Being written: what a crash leaves of it is nothing.
const UNFINISHED: &str = "unfinished-";
/// Copies of files in which something was damaged.
const DAMAGED: &str = "damaged-";
/// Begins every file: what it is, and the version of the format.
const MAGIC: &[u8; 8] = b"weirlog\x02";
/// Magic, and twice a salt with its checksum.
const HEAD_BYTES: usize = 8 + 2 * 8;
/// No segment has more rows, since each takes four bytes beside its own.
const MOST_ROWS_MISSING: u64 = 1 << 30;
/// Rows are copied in frames of about this size.
const ROWS_FRAME_BYTES: usize = 64 << 10;

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

/// What batches come to, for writing a snapshot.
pub trait Fold: Send {
    /// Takes the records of the next batch.
    fn take(&mut self, batch: &[u8]);

    /// Gives batches that come to the same.
    fn give(self: Box<Self>, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;
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

/// A snapshot that was made.
pub(crate) struct Folded {
    pub(crate) number: u64,
    pub(crate) snapshot_bytes: u64,
    /// The size of the segments that it stands for.
    pub(crate) bytes: u64,
    rows_bytes: u64,
    rows_gone: Vec<u64>,
    /// What was not sound in the files that it stands for.
    pub(crate) damage: Vec<Damage>,
    /// What was not there.
    pub(crate) missing: Vec<Missing>,
    pub(crate) gaps: Vec<Gap>,
}

/// Makes the snapshot that stands for everything before segment `number`, up to the frame numbered `last`, from the one
/// before it and the segments between. Rows that are not settled are copied. Runs beside a log that is being written, and ends early when `stop` is
/// set.
///
/// # Errors
/// Of the system; then everything is as it was.
pub(crate) fn fold<D: Disk>(
    disk: &D,
    number: u64,
    last: u64,
    queues: &Queues,
    heads: &Heads,
    mut fold: Box<dyn Fold>,
    stop: &AtomicBool,
) -> Result<Folded, OpenError> {
    let names = disk.list().map_err(OpenError::io("the folder"))?;
    let snapshots = numbered(&names, SNAPSHOT);
    let before = snapshots
        .iter()
        .copied()
        .filter(|snapshot| *snapshot < number)
        .max();
    let mut segments = numbered(&names, SEGMENT);
    segments.retain(|segment| *segment >= before.unwrap_or(0) && *segment < number);
    let (mut rewritten, mut gone) = (Vec::new(), Vec::new());
    for rows in numbered(&names, ROWS) {
        let name = name_of(ROWS, rows);
        let length = disk.length(&name).map_err(OpenError::io(name))?;
        // A snapshot that could not be made may have left one: nobody knows of it.
        let live = heads.live.get(&FileId::Rows(rows)).copied().unwrap_or(0);
        if live < length / 4 || live == 0 {
            gone.push(rows);
            if live > 0 {
                rewritten.push(rows);
            }
        }
    }
    let by_id: HashMap<QueueId, &Head> = heads.heads.iter().map(|head| (head.id, head)).collect();
    let mut copy = RowsFile::new(disk, number);
    let mut take = |body: &[u8], place: Place| {
        if stop.load(Ordering::Acquire) {
            return Err(OpenError::Ending);
        }
        let mut outcome = Ok(());
        understood(body, place.file, &mut |part| match part {
            Part::Records(records) => fold.take(records),
            Part::Rows(rows) => {
                let Some(head) = by_id.get(&rows.queue) else {
                    return;
                };
                for (seq, row) in rows.each() {
                    if head.has(seq) && outcome.is_ok() {
                        outcome = copy.put(rows.queue, seq, row);
                    }
                }
            }
            _ => {}
        })?;
        outcome.map_err(OpenError::io(name_of(ROWS, number)))
    };
    let mut made = || -> Result<(u64, u64, Recovered), OpenError> {
        let mut reader = Reader::new(disk, before.unwrap_or(0), &mut take);
        reader.must_copy = true;
        for rows in &rewritten {
            reader.whole_file(FileId::Rows(*rows))?;
        }
        if let Some(before) = before {
            reader.whole_file(FileId::Snapshot(before))?;
        }
        let mut bytes = 0;
        for segment in &segments {
            bytes += reader.segment(*segment, false)?;
        }
        reader.follows(number, last + 1);
        // What is lost behind the last frame that could be read has had its numbers too.
        Ok((bytes, reader.last.max(last), reader.recovered))
    };
    let made = made();
    let unfinished = name_of(UNFINISHED, number);
    let write =
        |fold: Box<dyn Fold>, last: u64, copy: &mut RowsFile<'_, D>| -> io::Result<(u64, u64)> {
            let rows_bytes = copy.finish()?;
            let (mut file, salt) = begin(disk, &unfinished).map_err(io::Error::other)?;
            let (mut buffer, mut length) = (Vec::new(), HEAD_BYTES as u64);
            if !heads.heads.is_empty() {
                for _ in 0..2 {
                    frame::write(last, last, salt, &mut buffer, |out| {
                        write_heads(&heads.heads, out);
                    });
                }
            }
            fold.give(&mut |records| {
                if stop.load(Ordering::Acquire) {
                    return Err(io::Error::other(OpenError::Ending));
                }
                frame::write(last, last, salt, &mut buffer, |out| {
                    body::records(records, out)
                });
                if buffer.len() > 1 << 20 {
                    file.append(&buffer)?;
                    length += buffer.len() as u64;
                    buffer.clear();
                }
                Ok(())
            })?;
            frame::write(last, last, salt, &mut buffer, body::end);
            file.append(&buffer)?;
            file.sync()?;
            disk.rename(&unfinished, &name_of(SNAPSHOT, number))?;
            disk.sync_names()?;
            Ok((length + buffer.len() as u64, rows_bytes))
        };
    let outcome = made.and_then(|(bytes, last, found)| {
        let lengths = write(fold, last, &mut copy).map_err(OpenError::io(unfinished.as_str()))?;
        Ok((bytes, found, lengths))
    });
    let (bytes, found, (snapshot_bytes, rows_bytes)) = match outcome {
        Ok(made) => made,
        Err(error) => {
            // The snapshot may have its name and not be durable by it: then its rows must stay too.
            if disk.remove(&unfinished).is_ok() || !names_has(disk, &name_of(SNAPSHOT, number)) {
                copy.remove();
            }
            return Err(error);
        }
    };
    let files = segments.iter().map(|number| FileId::Segment(*number));
    let files: HashSet<FileId> = files
        .chain(gone.iter().map(|number| FileId::Rows(*number)))
        .collect();
    // Who reads rows looks them up again when a file is gone.
    let gaps = queues.moved(&files, &copy.moved);
    for file in &files {
        let _ = disk.remove(&file_name(*file));
    }
    if let Some(before) = before {
        let _ = disk.remove(&name_of(SNAPSHOT, before));
    }
    Ok(Folded {
        number,
        snapshot_bytes,
        bytes,
        rows_bytes,
        rows_gone: gone,
        damage: found.damage,
        missing: found.missing,
        gaps,
    })
}

fn names_has<D: Disk>(disk: &D, name: &str) -> bool {
    disk.list()
        .is_ok_and(|names| names.iter().any(|known| known == name))
}

fn write_heads(heads: &[Head], out: &mut Vec<u8>) {
    body::batch(&[], out);
    heads.iter().for_each(|head| body::head(head, out));
}

/// Rows that are copied, in a file that is made when there is one.
struct RowsFile<'d, D: Disk> {
    disk: &'d D,
    number: u64,
    file: Option<(D::File, u32)>,
    length: u64,
    waiting: Vec<(QueueId, u64, Vec<Vec<u8>>)>,
    waiting_bytes: usize,
    moved: Moved,
}

impl<'d, D: Disk> RowsFile<'d, D> {
    fn new(disk: &'d D, number: u64) -> Self {
        Self {
            disk,
            number,
            file: None,
            length: HEAD_BYTES as u64,
            waiting: Vec::new(),
            waiting_bytes: 0,
            moved: Moved::new(),
        }
    }

    fn put(&mut self, queue: QueueId, seq: u64, row: &[u8]) -> io::Result<()> {
        let run = self.waiting.iter_mut().rev().find(|run| run.0 == queue);
        match run {
            Some((_, first, rows)) if *first + rows.len() as u64 == seq => rows.push(row.to_vec()),
            _ => self.waiting.push((queue, seq, vec![row.to_vec()])),
        }
        self.waiting_bytes += row.len() + 4;
        if self.waiting_bytes >= ROWS_FRAME_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        let salt = self.begun()?;
        let place = Place {
            file: FileId::Rows(self.number),
            offset: self.length,
            salt,
        };
        let mut buffer = Vec::new();
        frame::write(1, 1, salt, &mut buffer, |out| {
            body::batch(&[], out);
            for (queue, first, rows) in &waiting {
                body::rows(*queue, *first, rows.iter().map(Vec::as_slice), out);
            }
        });
        self.append(&buffer)?;
        for (queue, first, rows) in waiting {
            let sizes = rows
                .iter()
                .map(|row| u32::try_from(row.len()).unwrap_or(u32::MAX));
            let moved = self.moved.entry(queue).or_default();
            moved.push((first, sizes.collect(), place));
        }
        Ok(())
    }

    fn begun(&mut self) -> io::Result<u32> {
        if let Some((_, salt)) = &self.file {
            return Ok(*salt);
        }
        let (file, salt) =
            begin(self.disk, &name_of(ROWS, self.number)).map_err(io::Error::other)?;
        self.file = Some((file, salt));
        Ok(salt)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((file, _)) = &mut self.file {
            file.append(bytes)?;
            self.length += bytes.len() as u64;
        }
        Ok(())
    }

    /// Gives the size of the file, which is durable then; 0 when there is none.
    fn finish(&mut self) -> io::Result<u64> {
        self.write()?;
        let Some((_, salt)) = &self.file else {
            return Ok(0);
        };
        let mut buffer = Vec::new();
        frame::write(1, 1, *salt, &mut buffer, body::end);
        self.append(&buffer)?;
        if let Some((file, _)) = &mut self.file {
            file.sync()?;
        }
        Ok(self.length)
    }

    fn remove(&self) {
        // Also when it could not be begun: a part of it may be there.
        let _ = self.disk.remove(&name_of(ROWS, self.number));
    }
}

/// A new file with its head, durable by name; and its salt.
fn begin<D: Disk>(disk: &D, name: &str) -> Result<(D::File, u32), OpenError> {
    let salt = random().to_le_bytes();
    let salt = [salt[0], salt[1], salt[2], salt[3]];
    let begin = || {
        let mut file = disk.create(name)?;
        let mut head = MAGIC.to_vec();
        for _ in 0..2 {
            head.extend_from_slice(&salt);
            head.extend_from_slice(&crc32fast::hash(&salt).to_le_bytes());
        }
        file.append(&head)?;
        file.sync()?;
        disk.sync_names()?;
        Ok((file, u32::from_le_bytes(salt)))
    };
    begin().map_err(OpenError::io(name))
}

/// The salt in the head of a file, and whether all of the head is sound.
fn salt_of(head: &[u8]) -> (Option<u32>, bool) {
    let copies = head.get(MAGIC.len()..).unwrap_or_default().chunks_exact(8);
    let sound: Vec<u32> = copies
        .filter_map(|copy| {
            let (salt, sum) = copy.split_at(4);
            (crc32fast::hash(salt).to_le_bytes() == sum)
                .then(|| u32::from_le_bytes(salt.try_into().unwrap_or_default()))
        })
        .collect();
    let all = sound.len() == 2 && sound[0] == sound[1] && head.starts_with(MAGIC);
    (sound.first().copied(), all)
}

/// Gives the parts of a body. The checksum was right: what cannot be understood is of another version.
fn understood<'b>(
    body: &'b [u8],
    file: FileId,
    each: &mut dyn FnMut(Part<'b>),
) -> Result<(), OpenError> {
    body::parts(body, each).ok_or_else(|| OpenError::Version {
        name: file_name(file),
    })
}

fn name_of(kind: &str, number: u64) -> String {
    format!("{kind}{number:016x}")
}

fn file_name(file: FileId) -> String {
    match file {
        FileId::Segment(number) => name_of(SEGMENT, number),
        FileId::Snapshot(number) => name_of(SNAPSHOT, number),
        FileId::Rows(number) => name_of(ROWS, number),
    }
}

/// The numbers of the files of a kind, in order.
fn numbered(names: &[String], kind: &str) -> Vec<u64> {
    let numbers = names.iter().filter_map(|name| name.strip_prefix(kind));
    let mut numbers: Vec<u64> = numbers
        .filter(|digits| digits.len() == 16)
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        // A file of another number is none of ours: there must be one behind it.
        .filter(|number| *number < u64::MAX)
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Bytes that are no frame, and the frames behind them up to the next such place.
struct Hole {
    at: u64,
    bytes: u64,
    behind: Vec<(frame::Frame, u64)>,
}

type Take<'t> = dyn FnMut(&[u8], Place) -> Result<(), OpenError> + 't;

type FileFrames = Frames<Box<dyn io::Read>>;

/// Reads the files of a log in order.
struct Reader<'d, D: Disk> {
    disk: &'d D,
    /// Takes the body of each frame.
    take: &'d mut Take<'d>,
    /// The number of the last frame.
    last: u64,
    /// The highest number that any frame says was synced.
    synced: u64,
    /// Bodies behind a tear: they go into the next segment.
    carried: Vec<Vec<u8>>,
    /// The segments that end in a tear, and where they are to be cut.
    torn: Vec<(u64, u64)>,
    /// Whether it is an error when there can be no copy of what is damaged.
    must_copy: bool,
    /// The snapshot stands for all segments before this one.
    from: u64,
    /// The snapshot or segment that was read last.
    before: Option<String>,
    /// Where the segments end that were read.
    ends: HashMap<u64, u64>,
    /// So many frames may have stood in the damage behind the last frame.
    hidden: u64,
    /// Frames are missing, and nobody knows how long they were.
    misses_frames: bool,
    recovered: Recovered,
}

impl<'d, D: Disk> Reader<'d, D> {
    fn new(disk: &'d D, from: u64, take: &'d mut Take<'d>) -> Self {
        Self {
            disk,
            take,
            last: 0,
            synced: 0,
            carried: Vec::new(),
            torn: Vec::new(),
            must_copy: false,
            from,
            before: None,
            ends: HashMap::new(),
            hidden: 0,
            misses_frames: false,
            recovered: Recovered::default(),
        }
    }

    /// The head of a file: its salt if there is one, and whether it is sound. `None` where a crash came before anything
    /// was written to it.
    fn head(&self, name: &str) -> Result<Option<(Option<u32>, bool)>, OpenError> {
        let mut head = Vec::new();
        let file = self.disk.read(name, 0).map_err(OpenError::io(name))?;
        file.take(HEAD_BYTES as u64)
            .read_to_end(&mut head)
            .map_err(OpenError::io(name))?;
        let version = MAGIC.len() - 1;
        let (salt, sound) = salt_of(&head);
        let is_ours = head.starts_with(&MAGIC[..version]);
        if is_ours && head.len() > version && head[version] != MAGIC[version] {
            return Err(OpenError::Version {
                name: name.to_owned(),
            });
        }
        if head.len() < HEAD_BYTES || (salt.is_none() && self.is_zero(name)?) {
            return Ok(None);
        }
        Ok(Some((salt, sound)))
    }

    /// The frames of a file and its salt; `None` where there are none. A head that is not sound is damage.
    fn frames(&mut self, name: &str) -> Result<Option<(FileFrames, u32)>, OpenError> {
        let Some((salt, sound)) = self.head(name)? else {
            return Ok(None);
        };
        let Some(salt) = salt else {
            let length = self.disk.length(name).map_err(OpenError::io(name))?;
            self.damaged(name, 0, length)?;
            self.hides(length);
            return Ok(None);
        };
        if !sound {
            self.damaged(name, 0, HEAD_BYTES as u64)?;
        }
        Ok(Some((self.body(name, salt)?, salt)))
    }

    fn body(&self, name: &str, salt: u32) -> Result<FileFrames, OpenError> {
        let file = self.disk.read(name, HEAD_BYTES as u64);
        Ok(Frames::new(file.map_err(OpenError::io(name))?, salt))
    }

    fn is_zero(&self, name: &str) -> Result<bool, OpenError> {
        let mut file = self.disk.read(name, 0).map_err(OpenError::io(name))?;
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
        let length = self.disk.length(name).map_err(OpenError::io(name))?;
        match self.head(name)? {
            Some((salt, _)) => Ok(salt.is_some() && length <= HEAD_BYTES as u64),
            None => Ok(true),
        }
    }

    /// Whether a segment has a whole frame, or is damaged in a way that hides it.
    fn has_frame(&self, number: u64) -> Result<bool, OpenError> {
        let name = name_of(SEGMENT, number);
        let salt = match self.head(&name)? {
            None => return Ok(false),
            Some((None, _)) => return Ok(true),
            Some((Some(salt), _)) => salt,
        };
        let mut frames = self.body(&name, salt)?;
        loop {
            match frames.next().map_err(OpenError::io(name.as_str()))? {
                Found::End => return Ok(false),
                Found::Frame(..) => return Ok(true),
                Found::Bad(_) => {}
            }
        }
    }

    /// Where segments end whose tails were carried into the next one.
    fn cuts(&self, segments: &[u64]) -> Result<HashMap<u64, u64>, OpenError> {
        let mut cuts = HashMap::new();
        for number in segments {
            let name = name_of(SEGMENT, *number);
            let Some((Some(salt), _)) = self.head(&name)? else {
                continue;
            };
            let first = self.body(&name, salt)?.next();
            if let Found::Frame(frame, _) = first.map_err(OpenError::io(name))? {
                cuts.extend(body::cut_of(&frame.batch));
            }
        }
        Ok(cuts)
    }

    /// Takes the frames of a segment; gives its size.
    fn segment(&mut self, number: u64, can_be_torn: bool) -> Result<u64, OpenError> {
        let end = self.frames_of_segment(number, can_be_torn)?;
        self.ends.insert(number, end);
        self.before = Some(name_of(SEGMENT, number));
        Ok(end)
    }

    fn frames_of_segment(&mut self, number: u64, can_be_torn: bool) -> Result<u64, OpenError> {
        let file = FileId::Segment(number);
        let name = file_name(file);
        let Some((mut frames, salt)) = self.frames(&name)? else {
            return self.disk.length(&name).map_err(OpenError::io(name));
        };
        let mut at = HEAD_BYTES as u64;
        let place = |offset| Place { file, offset, salt };
        // Bad bytes, and the frames behind them: only those tell a tear from damage.
        let mut holes: Vec<Hole> = Vec::new();
        let mut is_first = true;
        loop {
            match frames.next().map_err(OpenError::io(name.as_str()))? {
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
                    match holes.last_mut() {
                        Some(hole) => hole.behind.push((frame, at)),
                        None => {
                            self.give_next(number, &frame, is_first, place(at))?;
                            is_first = false;
                        }
                    }
                    at += bytes;
                }
            }
        }
        for hole in 0..holes.len() {
            let rest = &holes[hole..];
            // Frames that were written before the hole was synced were not known to be safe either.
            let was_synced = rest
                .iter()
                .flat_map(|hole| &hole.behind)
                .any(|(frame, _)| frame.synced > self.last);
            if can_be_torn && !was_synced {
                let from = rest[0].at;
                self.torn.push((number, from));
                for hole in holes.drain(hole..) {
                    self.recovered.torn_bytes += hole.bytes;
                    // Whole frames behind it count: they may have been acknowledged, if this is damage after all.
                    for (frame, _) in hole.behind {
                        self.note(&frame);
                        self.carried.push(frame.batch);
                    }
                }
                return Ok(from);
            }
            let (from, bytes) = (rest[0].at, rest[0].bytes);
            self.damaged(&name, from, bytes)?;
            self.hides(bytes);
            for (frame, at) in std::mem::take(&mut holes[hole].behind) {
                self.give_next(number, &frame, is_first, place(at))?;
                is_first = false;
            }
        }
        if can_be_torn {
            // What was read may still be in the system's memory alone: what comes next must not stand on sand.
            self.disk
                .truncate(&name, at)
                .map_err(OpenError::io(name.as_str()))?;
        }
        Ok(at)
    }

    /// Takes a frame of a segment; `is_first`: of its frames that are there.
    fn give_next(
        &mut self,
        segment: u64,
        frame: &frame::Frame,
        is_first: bool,
        place: Place,
    ) -> Result<(), OpenError> {
        match body::cut_of(&frame.batch) {
            // What was carried over a tear counts on from behind it, and knows where the tear was.
            Some((torn, cut)) => {
                let end = self.ends.get(&torn).copied().unwrap_or(0);
                if torn >= self.from && cut > HEAD_BYTES as u64 && end < cut {
                    self.missing(segment, None);
                }
            }
            None => {
                // Damage where a segment ends or begins may be all that is left of more than its own bytes.
                self.misses_frames |= is_first && frame.number > self.last + 1;
                self.follows(segment, frame.number);
            }
        }
        self.hidden = 0;
        self.give(frame, place)
    }

    /// Frames are numbered through all segments: where one does not follow the last, and no damage can have held all
    /// between, those between are missing.
    fn follows(&mut self, segment: u64, number: u64) {
        if number.saturating_sub(self.last + 1) > self.hidden {
            self.missing(segment, Some(number - 1));
        }
    }

    /// Frames are missing before those of a segment, or between them: up to number `to`.
    fn missing(&mut self, segment: u64, to: Option<u64>) {
        self.misses_frames = true;
        self.recovered.missing.push(Missing {
            from: self.last + 1,
            to,
            behind: self.before.clone(),
            before: name_of(SEGMENT, segment),
        });
    }

    /// Frames may have stood in damage of so many bytes, the last of them in part.
    fn hides(&mut self, bytes: u64) {
        let frames = bytes.div_ceil(frame::HEAD_BYTES as u64);
        self.hidden = self.hidden.saturating_add(frames);
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
            let unfinished = format!("{UNFINISHED}{copy}");
            let keep = || -> io::Result<()> {
                let mut from = self.disk.read(name, 0)?;
                let mut to = self.disk.create(&unfinished)?;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match from.read(&mut buffer)? {
                        0 => break,
                        count => to.append(&buffer[..count])?,
                    }
                }
                to.sync()?;
                self.disk.rename(&unfinished, &copy)?;
                self.disk.sync_names()
            };
            // Without room for a copy the log is opened all the same: the file itself stays.
            if let Err(error) = keep() {
                let _ = self.disk.remove(&unfinished);
                if self.must_copy {
                    return Err(OpenError::Io { name: copy, error });
                }
            }
        }
        self.recovered.damage.push(Damage {
            file: name.to_owned(),
            at,
            bytes,
            copy,
        });
        Ok(())
    }

    fn note(&mut self, frame: &frame::Frame) {
        self.last = self.last.max(frame.number);
        self.synced = self.synced.max(frame.synced);
        self.recovered.batches += 1;
    }

    fn give(&mut self, frame: &frame::Frame, place: Place) -> Result<(), OpenError> {
        self.note(frame);
        (self.take)(&frame.batch, place)
    }

    /// Takes the frames of a file that was made as a whole; gives its size.
    fn whole_file(&mut self, file: FileId) -> Result<u64, OpenError> {
        let (hidden, frames) = (self.hidden, self.recovered.batches);
        let bytes = self.frames_of_whole(file)?;
        self.hidden = hidden;
        if matches!(file, FileId::Snapshot(_)) {
            // Any of its frames has the number of the last one that it stands for.
            let is_lost = self.recovered.batches == frames;
            self.hidden = if is_lost { u64::MAX } else { 0 };
            self.before = Some(file_name(file));
        }
        Ok(bytes)
    }

    fn frames_of_whole(&mut self, file: FileId) -> Result<u64, OpenError> {
        let name = file_name(file);
        let damages = self.recovered.damage.len();
        let Some((mut frames, salt)) = self.frames(&name)? else {
            if self.recovered.damage.len() == damages {
                self.damaged(&name, 0, 0)?;
            }
            return self.disk.length(&name).map_err(OpenError::io(name));
        };
        let mut at = HEAD_BYTES as u64;
        let mut whole = false;
        loop {
            match frames.next().map_err(OpenError::io(name.as_str()))? {
                Found::End => break,
                Found::Bad(bytes) => {
                    self.damaged(&name, at, bytes)?;
                    at += bytes;
                }
                Found::Frame(frame, bytes) => {
                    whole = false;
                    understood(&frame.batch, file, &mut |part| {
                        whole |= matches!(part, Part::End);
                    })?;
                    let place = Place {
                        file,
                        offset: at,
                        salt,
                    };
                    self.give(&frame, place)?;
                    at += bytes;
                }
            }
        }
        if !whole {
            // It was synced before it got its name.
            self.damaged(&name, at, 0)?;
        }
        Ok(at)
    }
}
