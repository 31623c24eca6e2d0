//! Rows that cannot be delivered, kept with the reason until somebody looks at them.
//!
//! They stand in the broker's store, in a queue beside that of their sink: a row that is parked leaves the one and comes
//! into the other in one commit, so that it is in exactly one of them whatever happens. A broker without a store writes
//! them to files ([`mod@file`]); those are taken over when it has one.

pub mod file;
mod row_json;
mod stored;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use self::file::LetterFile;
pub use self::stored::{BadLetter, DeadLetter};
use crate::error::SinkError;
use crate::plan::WhenFull;
use crate::queue::Queue;
use crate::row_log::{RowLog, exchange};
use crate::{Record, codes, now_ms, record};

/// A row and why it is to be parked.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) record: Record,
    pub(crate) error: SinkError,
    pub(crate) attempts: u32,
}

/// Where the dead letters of a sink stand in a store.
#[derive(Clone)]
pub struct LetterLog {
    open: Arc<dyn Fn() -> Option<Arc<dyn RowLog>> + Send + Sync>,
    max_bytes: u64,
}

impl LetterLog {
    /// `open` makes the log where there is none yet; it is called with the first letter, on a thread that may wait. The
    /// letters of the sink take no more than `max_bytes`.
    pub fn new(
        max_bytes: u64,
        open: impl Fn() -> Option<Arc<dyn RowLog>> + Send + Sync + 'static,
    ) -> Self {
        let open = Arc::new(open);
        Self { open, max_bytes }
    }
}

impl std::fmt::Debug for LetterLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LetterLog")
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// The dead letters of one sink.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    epoch: u64,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File(LetterFile),
    Store {
        log: LetterLog,
        opened: Arc<OnceLock<Arc<dyn RowLog>>>,
    },
}

/// Whether what finds no room is parked all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// What has no room follows the sink's `when_full`.
    Kept,
    /// The sink ends: nothing could wait any more.
    Ignored,
}

/// What became of letters.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    /// How many from the first on are dealt with; for the others there is no room.
    pub(crate) letters: usize,
    /// Rows that found no room among the dead letters and are gone, by their numbers.
    pub(crate) dropped: Vec<u64>,
    /// Older letters that made room.
    pub(crate) evicted: u64,
}

impl DeadLetters {
    /// In the store where there is one, else in a file below `data_dir`.
    pub(crate) fn new(
        (rule, sink): (&str, &str),
        data_dir: &Path,
        log: Option<LetterLog>,
        epoch: u64,
        recovered_to: u64,
    ) -> Self {
        let place = match log {
            Some(log) => Place::Store {
                log,
                opened: Arc::default(),
            },
            None => Place::File(LetterFile::new(data_dir, rule, sink, epoch, recovered_to)),
        };
        Self { epoch, place }
    }

    /// Keeps letters on stable storage and takes their rows out of `queue`, where they wait in a log; the first of them at
    /// least, or it is an error.
    pub(crate) async fn append(
        &self,
        letters: &[Letter],
        queue: &Queue,
        limit: Limit,
    ) -> Result<Parked, SinkError> {
        let (log, opened) = match &self.place {
            Place::File(file) => {
                file.append(letters).await?;
                return Ok(Parked {
                    letters: letters.len(),
                    ..Parked::default()
                });
            }
            Place::Store { log, opened } => (log, opened),
        };
        let failed = |error: &std::io::Error| {
            SinkError::new(codes::FILE, "the dead letters cannot be written").caused_by(error)
        };
        let opened = match opened.get() {
            Some(opened) => Arc::clone(opened),
            None => {
                let open = Arc::clone(&log.open);
                let made = tokio::task::spawn_blocking(move || open()).await;
                let made = made.ok().flatten().ok_or_else(|| {
                    SinkError::new(codes::FILE, "the store can keep no dead letters")
                })?;
                Arc::clone(opened.get_or_init(|| made))
            }
        };
        let rows: Vec<(u64, Bytes)> = letters
            .iter()
            .map(|letter| (letter.record.seq, self.encoded(letter).encode()))
            .collect();
        let room = Room::make(&opened, rows, log.max_bytes, queue.when_full(), limit).await?;
        let letters = &letters[..room.letters];
        let mut taken = room.evicted.clone();
        if let Some(log) = queue.log() {
            taken.extend(letters.iter().map(|letter| (log.id(), letter.record.seq)));
        }
        exchange(&*opened, room.rows, taken)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Parked {
            letters: letters.len(),
            dropped: room.dropped,
            evicted: room.evicted.len() as u64,
        })
    }

    fn encoded(&self, letter: &Letter) -> DeadLetter {
        let Letter {
            record,
            error,
            attempts,
        } = letter;
        DeadLetter {
            at_ms: now_ms(),
            attempts: *attempts,
            epoch: self.epoch,
            seq: record.seq,
            code: error.code().to_owned(),
            reason: error.to_string(),
            row: record::encode_with_path(
                record.message_id,
                &record.client_id,
                record.accepted_at_ms,
                &record.path,
                &record.row,
            ),
        }
    }
}

/// Letters that fit, and what that costs.
struct Room {
    /// How many from the first on are kept or dropped.
    letters: usize,
    rows: Vec<Bytes>,
    dropped: Vec<u64>,
    evicted: Vec<(u64, u64)>,
}

impl Room {
    async fn make(
        log: &Arc<dyn RowLog>,
        letters: Vec<(u64, Bytes)>,
        max_bytes: u64,
        when_full: WhenFull,
        limit: Limit,
    ) -> Result<Self, SinkError> {
        let mut room = Self {
            letters: letters.len(),
            rows: Vec::with_capacity(letters.len()),
            dropped: Vec::new(),
            evicted: Vec::new(),
        };
        let mut held = log.standing().bytes;
        let size: u64 = letters.iter().map(|(_, row)| row.len() as u64).sum();
        let fits = held + size <= max_bytes || limit == Limit::Ignored;
        match when_full {
            _ if fits => room.rows = letters.into_iter().map(|(_, row)| row).collect(),
            WhenFull::Block => {
                for (_, row) in letters {
                    held += row.len() as u64;
                    if held > max_bytes {
                        break;
                    }
                    room.rows.push(row);
                }
                room.letters = room.rows.len();
                if room.letters == 0 {
                    return Err(SinkError::new(
                        codes::DEAD_LETTERS_FULL,
                        format!("the dead letters of the sink have reached {max_bytes} bytes"),
                    )
                    .configuration());
                }
            }
            WhenFull::DropNewest => {
                for (seq, row) in letters {
                    let after = held + row.len() as u64;
                    if after <= max_bytes {
                        held = after;
                        room.rows.push(row);
                    } else {
                        room.dropped.push(seq);
                    }
                }
            }
            WhenFull::DropOldest => {
                let mut size = 0;
                // Of those that are parked now the newest stay.
                for (seq, row) in letters.into_iter().rev() {
                    let after = size + row.len() as u64;
                    if after <= max_bytes {
                        size = after;
                        room.rows.push(row);
                    } else {
                        room.dropped.push(seq);
                    }
                }
                room.rows.reverse();
                room.evict(log, (held + size).saturating_sub(max_bytes))
                    .await?;
            }
        }
        Ok(room)
    }

    /// Chooses the oldest letters, of so many bytes at least.
    async fn evict(&mut self, log: &Arc<dyn RowLog>, bytes: u64) -> Result<(), SinkError> {
        let (mut from, mut left) = (log.standing().head, bytes);
        while left > 0 {
            let reading = Arc::clone(log);
            let read = tokio::task::spawn_blocking(move || reading.read(from, 256, 1 << 20)).await;
            let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let read = read.map_err(|error| {
                SinkError::new(codes::FILE, "the dead letters cannot be read").caused_by(&error)
            })?;
            if read.is_empty() {
                return Ok(());
            }
            for (seq, row) in read {
                from = seq + 1;
                if left > 0 {
                    self.evicted.push((log.id(), seq));
                    left = left.saturating_sub(row.len() as u64);
                }
            }
        }
        Ok(())
    }
}
