//! The storage that a broker has by itself: a log in the data folder.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use weir_sinks::{RowLog, Standing};
use weir_store::{Batch, Committer, Folder, Log, Options, Trouble};

pub use weir_store::{Damage, Recovered};

use super::records::{decode_batch, encode_batch};
use super::{Done, Durability, Persist, State, Storage, StorageError};

/// So many records of a snapshot are one batch.
const RECORDS_A_BATCH: usize = 64;

/// Keeps everything in files; one thread writes for all connections, and syncs once for all that wait.
pub struct Disk {
    committer: Committer,
    durability: Durability,
    /// What was in the files, until it is loaded.
    state: Mutex<Option<State>>,
    /// Whether the last write failed, so that a full disk is one line in the log.
    failing: Arc<AtomicBool>,
}

impl Disk {
    /// Opens the files in `folder`, which are made if they are not there, and says what was found in them.
    ///
    /// # Errors
    /// When the files cannot be read or made, or are of another version. Damage is no error: it is in [`Recovered`].
    pub fn open(
        folder: impl AsRef<Path>,
        durability: Durability,
    ) -> Result<(Self, Recovered), StorageError> {
        Self::open_with(folder.as_ref(), durability, Options::default())
    }

    fn open_with(
        folder: &Path,
        durability: Durability,
        options: Options,
    ) -> Result<(Self, Recovered), StorageError> {
        let folder = Arc::new(Folder::open(folder).map_err(StorageError::new)?);
        let (mut state, mut unknown) = (State::default(), None);
        let mut take = |batch: &[u8]| {
            if let Err(error) = decode_batch(batch, &mut |record| state.apply(record)) {
                unknown.get_or_insert(error);
            }
        };
        let (log, recovered) =
            Log::open(Arc::clone(&folder), &mut take).map_err(StorageError::new)?;
        if let Some(error) = unknown {
            // The checksum was right: a later version has written it. Going on would throw away what it means.
            return Err(StorageError::new(format!(
                "{}: a record is of a later version of weir ({error})",
                folder.path().display()
            )));
        }
        let options = Options {
            sync: durability == Durability::Fsync,
            ..options
        };
        let committer = Committer::start(log, folder, options, || Box::<Fold>::default(), tell)
            .map_err(StorageError::new)?;
        let disk = Self {
            committer,
            durability,
            state: Mutex::new(Some(state)),
            failing: Arc::default(),
        };
        Ok((disk, recovered))
    }
}

impl Storage for Disk {
    fn durability(&self) -> Durability {
        self.durability
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        if batch.is_empty() {
            done.kept();
            return;
        }
        let mut records = Vec::with_capacity(64 * batch.len());
        encode_batch(&batch, &mut records);
        let rows = batch.into_iter().filter_map(|record| match record {
            Persist::Row { queue, row } => Some((queue, row.into())),
            _ => None,
        });
        let rows = rows.collect();
        let failing = Arc::clone(&self.failing);
        self.committer.commit(Batch { records, rows }, move |outcome| match outcome {
            Ok(()) => {
                if failing.load(Ordering::Relaxed) && failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the store can be written again");
                }
                done.kept();
            }
            Err(error) => {
                if !failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the store cannot be written: what needs it is not acknowledged");
                }
                done.failed();
            }
        });
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        if let Some(state) = self.state.lock().take() {
            state.records(each);
        }
        Ok(())
    }

    fn rows(&self, name: &str) -> Option<Arc<dyn RowLog>> {
        match self.committer.queue(name) {
            Ok(queue) => Some(Arc::new(Rows(queue))),
            Err(error) => {
                tracing::error!(%error, "the store can keep no rows for a sink: they wait in memory");
                None
            }
        }
    }

    fn queues(&self) -> Vec<(String, Standing)> {
        let queues = self.committer.queues().into_iter();
        queues
            .map(|queue| (queue.name.clone(), standing(&queue)))
            .collect()
    }

    fn flush(&self) {
        self.committer.end();
    }
}

/// The rows of one sink.
#[derive(Debug)]
struct Rows(weir_store::Queue);

/// There, the tail is the number of the row that comes next.
fn standing(queue: &weir_store::Standing) -> Standing {
    Standing {
        head: queue.head,
        tail: queue.tail.saturating_sub(1),
        rows: queue.rows,
        bytes: queue.bytes,
    }
}

impl RowLog for Rows {
    fn id(&self) -> u64 {
        self.0.id()
    }

    fn epoch(&self) -> u64 {
        self.0.epoch()
    }

    fn read(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        self.0.read(from, most_rows, most_bytes)
    }

    fn settle(&self, up_to: u64) {
        self.0.settle(up_to);
    }

    fn standing(&self) -> Standing {
        standing(&self.0.standing())
    }

    fn on_arrival(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.0.on_arrival(wake);
    }
}

/// What the store has to say that nobody waits for.
fn tell(trouble: Trouble) {
    match trouble {
        Trouble::Fold(error) => {
            tracing::error!(%error, "no snapshot of the store can be made: its log grows until one can");
        }
        Trouble::Damage(damage) => tracing::error!(
            code = "E1604",
            file = damage.file,
            at = damage.at,
            bytes = damage.bytes,
            copy = damage.copy,
            "a file of the store is damaged"
        ),
        Trouble::Gap(gap) => tracing::error!(
            code = "E1604",
            queue = gap.queue,
            from = gap.from,
            to = gap.to,
            "rows of a sink are lost in a damaged file of the store"
        ),
    }
}

/// What the records of a log come to, for a snapshot.
#[derive(Default)]
struct Fold(State);

impl weir_store::Fold for Fold {
    fn take(&mut self, batch: &[u8]) {
        // The same bytes were decoded when they were opened, or were encoded by this very program.
        let _ = decode_batch(batch, &mut |record| self.0.apply(record));
    }

    fn give(self: Box<Self>, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (mut records, mut bytes, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        let mut write = |records: &mut Vec<Persist>| {
            bytes.clear();
            encode_batch(records, &mut bytes);
            records.clear();
            each(&bytes)
        };
        self.0.records(|record| {
            if outcome.is_ok() {
                records.push(record);
                if records.len() == RECORDS_A_BATCH {
                    outcome = write(&mut records);
                }
            }
        });
        outcome?;
        if records.is_empty() {
            return Ok(());
        }
        write(&mut records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn it_passes_the_suite_that_every_storage_has_to_pass() {
        for durability in [Durability::Fsync, Durability::Os] {
            conformance::check(|| {
                let folder = tempfile::tempdir().unwrap();
                move || Disk::open(folder.path(), durability).unwrap().0
            });
        }
    }

    #[test]
    fn it_passes_the_suite_while_snapshots_are_made_all_the_time() {
        conformance::check(|| {
            let folder = tempfile::tempdir().unwrap();
            let options = Options {
                segment_bytes: 1,
                fold_bytes: 1,
                ..Options::default()
            };
            move || {
                Disk::open_with(folder.path(), Durability::Fsync, options)
                    .unwrap()
                    .0
            }
        });
    }
}
