//! The storage that a broker has by itself: a log in the data folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use weir_sinks::{Exchanged, RowLog, Standing};
use weir_store::{Batch, Committer, Folder, Log, OpenError, Options, Trouble};

pub use weir_store::{Damage, Gap, Missing, Recovered};

use super::records::{decode_batch, encode_batch};
use super::{Done, Durability, Persist, State, Storage, StorageError};

/// So many records of a snapshot are one batch.
const RECORDS_A_BATCH: usize = 64;

/// Keeps everything in files; one thread writes for all connections, and syncs once for all that wait.
pub struct Disk {
    committer: Arc<Committer>,
    durability: Durability,
    /// What was in the files, until it is loaded.
    state: Mutex<Option<State>>,
    condition: Arc<Condition>,
    /// Somebody goes on when a batch is written.
    tells_written: AtomicBool,
}

/// Room that is kept for the time when there is none: what has been accepted can still be written then, and the store
/// can be opened.
pub(super) struct Reserve {
    pub(super) file: PathBuf,
    pub(super) bytes: u64,
}

impl Reserve {
    /// Makes it where it is not; false when there is no room for it.
    fn make(&self) -> bool {
        let known = fs::metadata(&self.file);
        if self.bytes == 0 || known.is_ok_and(|file| file.len() == self.bytes) {
            return true;
        }
        // With some more at first, so that a disk with just so much room does not turn back and forth.
        let make = || -> io::Result<()> {
            let mut file = File::create(&self.file)?;
            take_room(&mut file, self.bytes + self.bytes / 4)?;
            file.set_len(self.bytes)?;
            file.sync_all()
        };
        let made = make().is_ok();
        if !made {
            self.release();
        }
        made
    }

    fn release(&self) {
        // Without one there is nothing to release.
        let _ = fs::remove_file(&self.file);
    }
}

/// Blocks of a disk that are really there.
fn take_room(file: &mut File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            outcome => return Ok(outcome?),
        }
    }
    io::copy(&mut io::repeat(0).take(bytes), file).map(drop)
}

/// How the files are.
struct Condition {
    reserve: Reserve,
    /// Publishers are to be held back: the reserve is being used, or there is none.
    full: AtomicBool,
    /// A write waits for room.
    stuck: AtomicBool,
    /// The last batch was refused, so that this is one line in the log.
    failing: AtomicBool,
}

impl Condition {
    fn is_full(&self, why: &dyn std::fmt::Display) {
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                code = "E1605",
                error = %why,
                "the store has no room: clients that publish what needs it are held back until there is some"
            );
        }
    }

    /// From the thread that writes.
    fn trouble(&self, trouble: Option<&io::Error>) {
        self.stuck.store(trouble.is_some(), Ordering::Relaxed);
        if let Some(error) = trouble {
            self.is_full(error);
            self.reserve.release();
        }
    }

    fn has_room(&self) -> bool {
        if !self.full.load(Ordering::Relaxed) {
            return true;
        }
        if self.stuck.load(Ordering::Relaxed) || !self.reserve.make() {
            return false;
        }
        self.full.store(false, Ordering::Relaxed);
        tracing::info!("the store has room again");
        true
    }

    fn refused(&self, error: &io::Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(
                code = "E1606",
                %error,
                "the store cannot be written: nobody is told that something is kept which may not be; see to the disk and start weir again"
            );
        }
    }

    fn kept(&self) {
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the store can be written again");
        }
    }
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
        Self::open_reserving(folder, durability, 0)
    }

    /// The same with so many bytes of the disk kept back: on a full disk they are used for what was accepted before, and
    /// publishers are held back until there is room again. The files are opened on a full disk too.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_reserving(
        folder: impl AsRef<Path>,
        durability: Durability,
        reserve_bytes: u64,
    ) -> Result<(Self, Recovered), StorageError> {
        let options = Options::default();
        let folder = Folder::open(folder.as_ref()).map_err(StorageError::new)?;
        let reserve = Reserve {
            file: folder.path().join("reserve"),
            bytes: reserve_bytes,
        };
        Self::open_with(folder, reserve, durability, options)
    }

    pub(super) fn open_with<D: weir_store::Disk>(
        disk: D,
        reserve: Reserve,
        durability: Durability,
        options: Options,
    ) -> Result<(Self, Recovered), StorageError> {
        let folder = Arc::new(disk);
        let read = || {
            let (mut state, mut unknown) = (State::default(), None);
            let mut take = |batch: &[u8]| {
                if let Err(error) = decode_batch(batch, &mut |record| state.apply(record)) {
                    unknown.get_or_insert(error);
                }
            };
            let opened = Log::open(Arc::clone(&folder), &mut take)?;
            Ok::<_, OpenError>((opened, state, unknown))
        };
        let opened = read().or_else(|error| match error {
            OpenError::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull => {
                reserve.release();
                read()
            }
            error => Err(error),
        });
        let ((log, recovered), state, unknown) = opened.map_err(StorageError::new)?;
        if let Some(error) = unknown {
            // The checksum was right: a later version has written it. Going on would throw away what it means.
            return Err(StorageError::new(format!(
                "a record is of a later version of weir ({error})"
            )));
        }
        let options = Options {
            sync: durability == Durability::Fsync,
            ..options
        };
        let committer = Committer::start(log, folder, options, || Box::<Fold>::default(), tell)
            .map_err(StorageError::new)?;
        let condition = Arc::new(Condition {
            reserve,
            full: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        });
        if !condition.reserve.make() {
            condition.is_full(&"there is less than store.reserve");
        }
        let told = Arc::clone(&condition);
        committer.on_trouble(move |trouble| told.trouble(trouble));
        let disk = Self {
            committer: Arc::new(committer),
            durability,
            state: Mutex::new(Some(state)),
            condition,
            tells_written: AtomicBool::new(false),
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
        let is_row = |record: &&Persist| matches!(record, Persist::Row { .. });
        let others = batch.len() - batch.iter().filter(is_row).count();
        let mut records = Vec::with_capacity(64 * others);
        encode_batch(&batch, &mut records);
        let rows = batch.into_iter().filter_map(|record| match record {
            Persist::Row { queue, row } => Some((queue, row)),
            _ => None,
        });
        let rows = rows.collect();
        let condition = Arc::clone(&self.condition);
        let is_awaited = done.is_awaited();
        let written = is_awaited && self.tells_written.load(Ordering::Relaxed);
        let written = written.then(|| Box::new(done.written()) as weir_store::Written);
        let answer = move |outcome| match outcome {
            Ok(()) => {
                condition.kept();
                done.kept();
            }
            Err(error) => {
                condition.refused(&error);
                done.failed();
            }
        };
        let batch = Batch {
            records,
            rows,
            taken: Vec::new(),
        };
        if is_awaited {
            self.committer.commit_noting(batch, written, answer);
        } else {
            self.committer.commit_soon(batch, answer);
        }
    }

    fn tell_what_is_written(&self) {
        self.tells_written.store(true, Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        self.condition.has_room()
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        if let Some(state) = self.state.lock().take() {
            state.records(each);
        }
        Ok(())
    }

    fn load_state(&self) -> Result<State, StorageError> {
        Ok(self.state.lock().take().unwrap_or_default())
    }

    fn rows(&self, name: &str) -> Option<Arc<dyn RowLog>> {
        match self.committer.queue(name) {
            Ok(queue) => Some(Arc::new(Rows {
                queue,
                committer: Arc::downgrade(&self.committer),
                condition: Arc::clone(&self.condition),
            })),
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

    fn drop_rows(&self, name: &str) -> Result<bool, StorageError> {
        self.committer.drop_queue(name).map_err(StorageError::new)
    }

    fn flush(&self) {
        self.committer.end();
    }
}

/// The rows of one sink.
struct Rows {
    queue: weir_store::Queue,
    /// A handle must not keep the files open.
    committer: Weak<Committer>,
    condition: Arc<Condition>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.queue.fmt(f)
    }
}

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
        self.queue.id()
    }

    fn epoch(&self) -> u64 {
        self.queue.epoch()
    }

    fn read(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        self.queue.read(from, most_rows, most_bytes)
    }

    fn read_at_hand(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> Option<Vec<(u64, Bytes)>> {
        self.queue.read_at_hand(from, most_rows, most_bytes)
    }

    fn settle(&self, up_to: u64) {
        self.queue.settle(up_to);
    }

    fn exchange(&self, rows: Vec<Bytes>, taken: Vec<(u64, u64)>, done: Exchanged) {
        let Some(committer) = self.committer.upgrade() else {
            return done(Err(io::Error::other("the store has ended")));
        };
        let id = self.queue.id();
        let batch = Batch {
            records: Vec::new(),
            rows: rows.into_iter().map(|row| (id, row)).collect(),
            taken,
        };
        let condition = Arc::clone(&self.condition);
        committer.commit(batch, move |outcome| {
            match &outcome {
                Ok(()) => condition.kept(),
                Err(error) => condition.refused(error),
            }
            done(outcome);
        });
    }

    fn standing(&self) -> Standing {
        standing(&self.queue.standing())
    }

    fn on_arrival(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.queue.on_arrival(wake);
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
        Trouble::Missing(missing) => tell_missing(&missing),
        Trouble::Gap(gap) => tell_gap(&gap),
    }
}

/// Says which frames no file of the store has.
pub fn tell_missing(missing: &Missing) {
    tracing::error!(
        code = "E1604",
        from = missing.from,
        to = missing.to,
        behind = missing.behind,
        before = missing.before,
        "frames of the store are missing: a file is gone or was cut, what stood in it is lost"
    );
}

/// Says which rows of a sink no file of the store has.
pub fn tell_gap(gap: &Gap) {
    tracing::error!(
        code = "E1604",
        queue = gap.queue,
        from = gap.from,
        to = gap.to,
        "rows of a sink are lost in a damaged file of the store"
    );
}

/// What the records of a log come to, for a snapshot. Messages stay in the files, and are copied from one to the other: so
/// the memory of a snapshot is that of sessions and of the numbers of what they are owed.
struct Fold {
    state: State,
    /// Messages that are still to come.
    left: usize,
    /// Some that are to be one batch.
    records: Vec<Persist>,
    bytes: Vec<u8>,
}

impl Default for Fold {
    fn default() -> Self {
        Self {
            state: State::outline(),
            left: 0,
            records: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl Fold {
    fn write(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.bytes.clear();
        encode_batch(&self.records, &mut self.bytes);
        self.records.clear();
        each(&self.bytes)
    }
}

impl weir_store::Fold for Fold {
    fn take(&mut self, batch: &[u8]) {
        // The same bytes were decoded when they were opened, or were encoded by this very program.
        let _ = decode_batch(batch, &mut |record| self.state.apply(record));
    }

    fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut state = std::mem::take(&mut self.state);
        let mut outcome = Ok(());
        state.records(|record| {
            if outcome.is_ok() {
                self.records.push(record);
                if self.records.len() == RECORDS_A_BATCH {
                    outcome = self.write(each);
                }
            }
        });
        outcome?;
        self.left = state.begin_again();
        self.state = state;
        self.write(each)
    }

    fn is_whole(&self) -> bool {
        self.left == 0
    }

    fn again(
        &mut self,
        batch: &[u8],
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let _ = decode_batch(batch, &mut |record| {
            if self.state.takes_again(&record) {
                self.records.push(record);
                self.left = self.left.saturating_sub(1);
            }
        });
        if self.left == 0 || self.records.len() >= RECORDS_A_BATCH {
            self.write(each)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_mqtt::{PacketId, QoS};
    use weir_store::Fold as _;

    use super::*;
    use crate::Message;
    use crate::store::{SessionId, Waiting, conformance};

    fn owed(client_id: &'static str, number: u64, message: &Arc<Message>) -> Persist {
        let session = SessionId {
            client_id: client_id.into(),
            epoch: 1,
        };
        let waiting = Waiting {
            message: Arc::clone(message),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            number,
            group: None,
        };
        Persist::Owed { session, waiting }
    }

    #[test]
    fn a_snapshot_holds_no_message_in_memory_and_comes_to_the_same() {
        let session = |client_id: &'static str| SessionId {
            client_id: client_id.into(),
            epoch: 1,
        };
        let begins = |client_id| Persist::Session {
            session: session(client_id),
            expiry_interval_s: 60,
        };
        let message = |payload: &str| Arc::new(Message::text("t", payload).unwrap());
        let shared = message("for both");
        let retained = |change, payload| Persist::Retained {
            change,
            message: message(payload),
        };
        let batches = [
            vec![begins("a"), begins("b")],
            vec![
                owed("a", 1, &message("settled")),
                owed("a", 2, &message("in flight")),
            ],
            vec![
                owed("a", 3, &shared),
                owed("b", 1, &shared),
                retained(1, "old"),
            ],
            vec![
                Persist::InFlight {
                    session: session("a"),
                    number: 2,
                    packet_id: PacketId::MIN,
                },
                Persist::Settled {
                    session: session("a"),
                    number: 1,
                },
                retained(2, "second"),
                owed("nobody", 1, &message("of no session")),
            ],
            // After a restart numbers and changes may be given again.
            vec![
                owed("a", 1, &message("under its number")),
                retained(2, "third"),
            ],
        ];
        let encoded = batches.map(|batch| {
            let mut bytes = Vec::new();
            encode_batch(&batch, &mut bytes);
            bytes
        });
        let (mut fold, mut direct) = (Fold::default(), State::default());
        for batch in &encoded {
            fold.take(batch);
            decode_batch(batch, &mut |record| direct.apply(record)).unwrap();
        }
        let mut written = Vec::new();
        let mut each = |batch: &[u8]| {
            written.push(batch.to_vec());
            Ok(())
        };
        fold.give(&mut each).unwrap();
        assert!(!fold.is_whole(), "messages are left where they stand");
        for batch in &encoded {
            fold.again(batch, &mut each).unwrap();
        }
        assert!(fold.is_whole());
        let bytes = written.concat();
        assert_eq!(
            bytes.windows(8).filter(|part| part == b"for both").count(),
            1
        );
        for gone in [&b"settled"[..], b"old", b"second", b"of no session"] {
            assert!(!bytes.windows(gone.len()).any(|part| part == gone));
        }
        let mut again = State::default();
        for batch in &written {
            decode_batch(batch, &mut |record| again.apply(record)).unwrap();
        }
        let records = |state: &State| {
            let mut records = Vec::new();
            state.records(|record| records.push(format!("{record:?}")));
            records
        };
        assert_eq!(records(&again), records(&direct));
        // Without the last batch something is missing, and the snapshot is none.
        let mut fold = Fold::default();
        encoded.iter().for_each(|batch| fold.take(batch));
        fold.give(&mut |_| Ok(())).unwrap();
        for batch in &encoded[..4] {
            fold.again(batch, &mut |_| Ok(())).unwrap();
        }
        assert!(!fold.is_whole());
    }

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
                let reserve = Reserve {
                    file: folder.path().join("reserve"),
                    bytes: 4096,
                };
                let disk = Folder::open(folder.path()).unwrap();
                Disk::open_with(disk, reserve, Durability::Fsync, options)
                    .unwrap()
                    .0
            }
        });
    }
}
