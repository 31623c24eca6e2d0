//! A snapshot: what the files before a segment come to, and the rows that nobody has settled.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::body::{self, Head, Part, QueueId};
use crate::disk::{Disk, DiskFile};
use crate::frame;
use crate::queues::{FileId, Gap, Heads, Moved, Place, Queues};

use super::files::{
    HEAD_BYTES, ROWS, SEGMENT, SNAPSHOT, UNFINISHED, begin, file_name, name_of, numbered,
    understood,
};
use super::read::Reader;
use super::{Damage, Missing, OpenError, Recovered};

/// Rows are copied in frames of about this size.
const ROWS_FRAME_BYTES: usize = 64 << 10;

/// What batches come to, for writing a snapshot.
pub trait Fold: Send {
    /// Takes the records of the next batch.
    fn take(&mut self, batch: &[u8]);

    /// When all were taken: gives batches that come to the same. What is large may be left where it stands, for
    /// [`again`](Self::again).
    fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>;

    /// Whether nothing was left where it stands; else the same batches are read once more.
    fn is_whole(&self) -> bool {
        true
    }

    /// Takes the next batch of those once more, in the same order, and gives what was left in it.
    fn again(
        &mut self,
        _batch: &[u8],
        _each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        Ok(())
    }
}

/// A snapshot that was made.
pub(crate) struct Folded {
    pub(crate) number: u64,
    pub(crate) snapshot_bytes: u64,
    /// The size of the segments that it stands for.
    pub(crate) bytes: u64,
    pub(super) rows_bytes: u64,
    pub(super) rows_gone: Vec<u64>,
    /// What was not sound in the files that it stands for.
    pub(crate) damage: Vec<Damage>,
    /// What was not there.
    pub(crate) missing: Vec<Missing>,
    pub(crate) gaps: Vec<Gap>,
}

/// Makes the snapshot that stands for everything before segment `span.end`, up to the frame numbered `last`, from the one
/// numbered `span.start`, if that is not 0, and the segments between. Rows that are not settled are copied. Runs beside a log
/// that is being written, and ends early when `stop` is set.
///
/// A younger snapshot than `span.start` may be there: its name could not be made durable, so nothing was moved to the rows
/// that it had copied. It stays until this one has taken its place.
///
/// # Errors
/// Of the system; then everything is as it was.
pub(crate) fn fold<D: Disk>(
    disk: &D,
    span: Range<u64>,
    last: u64,
    queues: &Queues,
    heads: &Heads,
    mut fold: Box<dyn Fold>,
    stop: &AtomicBool,
) -> Result<Folded, OpenError> {
    let names = disk.list().map_err(OpenError::io("the folder"))?;
    let number = span.end;
    let before = (span.start > 0).then_some(span.start);
    let mut segments = numbered(&names, SEGMENT);
    segments.retain(|segment| span.contains(segment));
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
    let write = |fold: &mut dyn Fold, last: u64, copy: &mut RowsFile<'_, D>| {
        let io = |error| OpenError::io(unfinished.as_str())(error);
        let rows_bytes = copy.finish().map_err(io)?;
        let mut file = SnapshotFile::begin(disk, &unfinished, last)?;
        if !heads.heads.is_empty() {
            for _ in 0..2 {
                file.frame(|out| write_heads(&heads.heads, out));
            }
        }
        fold.give(&mut |records| file.records(records, stop))
            .map_err(io)?;
        if !fold.is_whole() {
            let mut write = |left: &[u8]| file.records(left, stop);
            let files = (before, &segments[..]);
            read_again(disk, files, fold, &mut write, stop)?;
        }
        if !fold.is_whole() {
            return Err(io(io::Error::other(
                "what was read of the log cannot be read once more",
            )));
        }
        let length = file.finish().map_err(io)?;
        disk.rename(&unfinished, &name_of(SNAPSHOT, number))
            .and_then(|()| disk.sync_names())
            .map_err(io)?;
        Ok((length, rows_bytes))
    };
    let outcome = made.and_then(|(bytes, last, found)| {
        let lengths = write(&mut *fold, last, &mut copy)?;
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
    let snapshots = numbered(&names, SNAPSHOT).into_iter();
    for before in snapshots.filter(|snapshot| *snapshot < number) {
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

/// Reads the records of a snapshot and segments once more, and gives `each` what a fold had left where it stands: so not all
/// of it is in memory at one time.
fn read_again<D: Disk>(
    disk: &D,
    (before, segments): (Option<u64>, &[u64]),
    fold: &mut dyn Fold,
    each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    stop: &AtomicBool,
) -> Result<(), OpenError> {
    let mut again = |body: &[u8], place: Place| {
        if stop.load(Ordering::Acquire) {
            return Err(OpenError::Ending);
        }
        let mut outcome = Ok(());
        understood(body, place.file, &mut |part| {
            if let Part::Records(records) = part
                && outcome.is_ok()
            {
                outcome = fold.again(records, each);
            }
        })?;
        outcome.map_err(OpenError::io("the snapshot that is being made"))
    };
    let mut reader = Reader::new(disk, before.unwrap_or(0), &mut again);
    reader.looks_again = true;
    if let Some(before) = before {
        reader.whole_file(FileId::Snapshot(before))?;
    }
    for segment in segments {
        reader.segment(*segment, false)?;
    }
    Ok(())
}

/// A snapshot that is being written.
struct SnapshotFile<D: Disk> {
    file: D::File,
    salt: u32,
    /// The number that each of its frames has.
    last: u64,
    buffer: Vec<u8>,
    written: u64,
}

impl<D: Disk> SnapshotFile<D> {
    fn begin(disk: &D, name: &str, last: u64) -> Result<Self, OpenError> {
        let (file, salt) = begin(disk, name)?;
        Ok(Self {
            file,
            salt,
            last,
            buffer: Vec::new(),
            written: HEAD_BYTES as u64,
        })
    }

    fn frame(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        frame::write(self.last, self.last, self.salt, &mut self.buffer, fill);
    }

    fn records(&mut self, records: &[u8], stop: &AtomicBool) -> io::Result<()> {
        if stop.load(Ordering::Acquire) {
            return Err(io::Error::other(OpenError::Ending));
        }
        self.frame(|out| body::records(records, out));
        if self.buffer.len() > 1 << 20 {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.append(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Gives the size of the file, which is durable then, but for its name.
    fn finish(mut self) -> io::Result<u64> {
        self.frame(body::end);
        self.write()?;
        self.file.sync()?;
        Ok(self.written)
    }
}

fn names_has<D: Disk>(disk: &D, name: &str) -> bool {
    disk.list()
        .is_ok_and(|names| names.iter().any(|known| known == name))
}

pub(super) fn write_heads(heads: &[Head], out: &mut Vec<u8>) {
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
