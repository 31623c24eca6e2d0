//! Who writes the rows of a sink: each start draws a number, its fence, and a database takes rows of the last one alone.
//!
//! Two weirs with copies of one store give the same numbers to different rows. A position in a database says something
//! only of rows of those who have written it, and the fence beside it says who that was: this start, an earlier one of
//! this very store, or somebody else. The fences of a store are in a small file for each sink in `data_dir/fences`:
//! a copy takes those along that were there before it, and none that came later.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use rand::Rng as _;
use sha2::{Digest, Sha256};

use crate::bridge::signer::mac::hex;
use crate::{SinkError, codes};

/// So many starts are remembered.
const STARTS: usize = 64;
/// Epoch, fence, the last row that it may have given, what was confirmed to it, by which database, check: 8 bytes each.
const SLOT_BYTES: usize = 48;
/// What versions without fences have left in a database.
const NO_FENCE: u64 = 0;
/// The bound of a start that is not over.
const OPEN: u64 = u64::MAX;

/// The fence of one life of a queue, and those of the lives before it.
#[derive(Debug)]
pub struct Fence {
    number: u64,
    /// The last row that was there when this life began.
    recovered_to: u64,
    epoch: u64,
    /// Where it is kept; none where the rows do not outlive the process.
    file: Option<FenceFile>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None where the file is there and could not be read yet.
    earlier: Option<Earlier>,
    /// The highest position that this start has asked any database to commit.
    tried: u64,
    /// The database that has confirmed a position to this start last, and the position.
    confirmed: Option<Confirmed>,
    /// Another weir has the position: nothing is committed before that is over.
    is_closed: bool,
    /// How this start stands in the file.
    kept: Option<Start>,
}

/// Those who have written a position before.
#[derive(Clone, Debug)]
struct Earlier {
    /// The last row that a version without fences can have given.
    unfenced_to: u64,
    starts: Vec<Start>,
}

/// A start of weir with this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    fence: u64,
    /// No row with a higher number was given under it.
    given_to: u64,
    confirmed: Option<Confirmed>,
}

/// What a database has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Confirmed {
    database: u64,
    position: u64,
}

impl Fence {
    /// The fence of a queue that ends with the process.
    pub fn fresh() -> Self {
        Self::new(0, 0, None, Some(Earlier::none(0)))
    }

    fn new(
        epoch: u64,
        recovered_to: u64,
        file: Option<FenceFile>,
        earlier: Option<Earlier>,
    ) -> Self {
        Self {
            number: drawn(),
            recovered_to,
            epoch,
            file,
            state: Mutex::new(State {
                earlier,
                tried: 0,
                confirmed: None,
                is_closed: false,
                kept: None,
            }),
        }
    }

    /// The fence of another life of a queue in the store, whose last row has the number `recovered_to`. To be opened
    /// before the queue takes rows: no later row can have been given by those who came earlier, and that is written here.
    /// Waits for a file. `is_new` says that there may be a file where there was none.
    pub(crate) fn open(
        data_dir: &Path,
        (rule, sink): (&str, &str),
        epoch: u64,
        recovered_to: u64,
        is_new: bool,
    ) -> Self {
        let mut digest = Sha256::new();
        for part in [rule, sink] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let name = hex(&digest.finalize()[..16]);
        let file = FenceFile::open(data_dir.join("fences").join(name));
        let read = file.read();
        let earlier = match &read {
            Ok(bytes) => {
                let bytes = bytes.as_deref();
                Some(Earlier::decode(
                    bytes.unwrap_or_default(),
                    epoch,
                    recovered_to,
                ))
            }
            Err(error) => {
                let file = file.path.display();
                tracing::warn!(code = codes::FILE, rule, sink, %file, %error, "the earlier starts cannot be read");
                None
            }
        };
        if let (Ok(before), Some(earlier)) = (read, &earlier)
            && (is_new || before.is_some())
        {
            let bytes = earlier.encode(epoch, None);
            if before.as_ref() != Some(&bytes)
                && let Err(error) = file.write(&bytes)
            {
                let path = file.path.display();
                tracing::warn!(code = codes::FILE, rule, sink, file = %path, %error, "what earlier starts have written cannot be told from what comes now: after a crash some rows may come twice");
                // With bounds that are open it would say too much; without it nobody is known.
                let _ = file.remove();
            }
        }
        Self::new(epoch, recovered_to, Some(file), earlier)
    }

    /// Sees to it that the next start knows this one: to be done before a database hears of it.
    ///
    /// # Errors
    /// When those before it cannot be read: then nobody can say which rows are stored.
    pub(crate) async fn keep(&self, (rule, sink): (&str, &str)) -> Result<(), SinkError> {
        if let Some(file) = &self.file
            && self.state.lock().earlier.is_none()
        {
            let reader = file.clone();
            let read = tokio::task::spawn_blocking(move || reader.read()).await;
            let bytes = read
                .unwrap_or_else(|error| Err(io::Error::other(error)))
                .map_err(|error| self.file_error("the earlier starts cannot be read", &error))?;
            let bytes = bytes.unwrap_or_default();
            let earlier = Earlier::decode(&bytes, self.epoch, self.recovered_to);
            self.state.lock().earlier = Some(earlier);
        }
        let is_kept = {
            let state = self.state.lock();
            let kept = state.kept.map(|kept| kept.given_to);
            state.is_closed || kept == Some(OPEN)
        };
        if is_kept {
            return Ok(());
        }
        if let Err(error) = self.note().await {
            // Delivery makes room on a full disk, so it goes on.
            tracing::warn!(
                code = codes::FILE,
                rule,
                sink,
                %error,
                "it cannot be noted that this start writes the rows: the next one may take it for another weir, and give rows that are not settled once more"
            );
        }
        Ok(())
    }

    /// Notes what an attempt has taught: that another weir has the position, and what was confirmed first or is missed.
    ///
    /// # Errors
    /// When it cannot be noted where this start has stopped: the next one would take rows of somebody else for its own.
    pub(crate) async fn note_attempt(&self) -> Result<(), SinkError> {
        let (is_closed, is_first) = {
            let state = self.state.lock();
            let kept = state.kept;
            (
                state.is_closed && kept.is_none_or(|kept| kept.given_to == OPEN),
                state.confirmed.is_some() && kept.is_some_and(|kept| kept.confirmed.is_none()),
            )
        };
        if !is_closed && !is_first {
            return Ok(());
        }
        match self.note().await {
            Err(error) if is_closed => {
                Err(self.file_error("it cannot be noted that another weir has the rows", &error))
            }
            // Only an alarm may be missing later.
            _ => Ok(()),
        }
    }

    /// Notes what was confirmed, so that the next start misses it where it is gone.
    pub(crate) async fn note_confirmed(&self) {
        let is_noted = {
            let state = self.state.lock();
            state
                .kept
                .is_none_or(|kept| kept.confirmed == state.confirmed)
        };
        if !is_noted && let Err(error) = self.note().await {
            tracing::warn!(code = codes::FILE, %error, "it cannot be noted which rows were confirmed");
        }
    }

    /// Puts it on stable storage.
    async fn note(&self) -> io::Result<()> {
        let Some(file) = self.file.clone() else {
            let mut state = self.state.lock();
            state.kept = Some(self.now(&state));
            return Ok(());
        };
        let (now, bytes) = {
            let state = self.state.lock();
            let now = self.now(&state);
            let Some(earlier) = &state.earlier else {
                return Err(io::Error::other("the earlier starts are not read"));
            };
            (now, earlier.encode(self.epoch, Some(now)))
        };
        let written = tokio::task::spawn_blocking(move || file.write(&bytes)).await;
        written.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.state.lock().kept = Some(now);
        Ok(())
    }

    fn now(&self, state: &State) -> Start {
        Start {
            fence: self.number,
            given_to: if state.is_closed { state.tried } else { OPEN },
            confirmed: state.confirmed,
        }
    }

    fn file_error(&self, what: &str, error: &io::Error) -> SinkError {
        let path = self.file.as_ref().map(|file| file.path.display());
        let path = path.map_or_else(String::new, |path| format!(" ({path})"));
        SinkError::new(codes::FILE, format!("{what}{path}")).caused_by(error)
    }

    /// The number, which no other start has drawn; small enough for a signed 64-bit column.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The last row that may have been given under a fence; `None` for one of somebody else.
    pub(crate) fn given_under(&self, fence: u64) -> Option<u64> {
        let state = self.state.lock();
        if fence == self.number {
            // What was confirmed to the start before may be put back under this one by hand.
            let earlier = state.earlier.iter().flat_map(|earlier| &earlier.starts);
            let before = earlier.filter_map(|start| start.confirmed).next_back();
            let before = before.map_or(0, |before| before.position);
            return Some(state.tried.max(before));
        }
        let earlier = state.earlier.as_ref()?;
        if fence == NO_FENCE {
            return Some(earlier.unfenced_to);
        }
        let start = earlier.starts.iter().find(|start| start.fence == fence)?;
        Some(start.given_to)
    }

    /// A transaction with this position is about to be committed; whether it was may never be known.
    pub(crate) fn tries(&self, position: u64) {
        let mut state = self.state.lock();
        state.tried = state.tried.max(position);
    }

    /// The highest position that this start has asked to be committed.
    pub(crate) fn tried(&self) -> u64 {
        self.state.lock().tried
    }

    /// A database has confirmed a position to this start.
    pub(crate) fn confirm(&self, database: u64, position: u64) {
        let confirmed = Confirmed { database, position };
        self.state.lock().confirmed = Some(confirmed);
    }

    /// What a database has confirmed to this start last.
    pub(crate) fn confirmed(&self, database: u64) -> Option<u64> {
        let confirmed = self.state.lock().confirmed;
        let confirmed = confirmed.filter(|confirmed| confirmed.database == database)?;
        Some(confirmed.position)
    }

    /// What a database has confirmed last, to this start or to the one before it that wrote there.
    pub(crate) fn confirmed_ever(&self, database: u64) -> Option<u64> {
        self.confirmed(database).or_else(|| {
            let state = self.state.lock();
            let mut starts = state.earlier.as_ref()?.starts.iter().rev();
            let confirmed = starts.find_map(|start| start.confirmed)?;
            (confirmed.database == database).then_some(confirmed.position)
        })
    }

    /// Another weir has the position.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
    }

    /// Whether another weir had the position when it was looked at last.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// This start may go on, once it is [kept](Self::keep) again.
    pub(crate) fn reopen(&self) {
        let mut state = self.state.lock();
        state.is_closed = false;
        state.kept = None;
    }
}

impl Earlier {
    fn none(unfenced_to: u64) -> Self {
        Self {
            unfenced_to,
            starts: Vec::new(),
        }
    }

    fn decode(bytes: &[u8], epoch: u64, recovered_to: u64) -> Self {
        let mut earlier = Self::none(recovered_to);
        let slots = bytes.chunks_exact(SLOT_BYTES);
        for mut start in slots.filter_map(|slot| decode(slot, epoch)) {
            // Rows that came later were never given under it.
            start.given_to = start.given_to.min(recovered_to);
            if start.fence == NO_FENCE {
                earlier.unfenced_to = start.given_to;
            } else {
                earlier.starts.push(start);
            }
        }
        while earlier.starts.len() >= STARTS {
            // Starts that end before anything is confirmed may be many, and the database names none of them.
            let mut starts = earlier.starts.iter();
            let gone = starts.position(|start| start.confirmed.is_none());
            earlier.starts.remove(gone.unwrap_or(0));
        }
        earlier
    }

    fn encode(&self, epoch: u64, now: Option<Start>) -> Vec<u8> {
        let unfenced = Start {
            fence: NO_FENCE,
            given_to: self.unfenced_to,
            confirmed: None,
        };
        let starts = self.starts.iter().copied().chain(now);
        let all = std::iter::once(unfenced).chain(starts);
        all.flat_map(|start| encode(epoch, start)).collect()
    }
}

fn drawn() -> u64 {
    rand::rng().random_range(NO_FENCE + 1..=i64::MAX.unsigned_abs())
}

/// The file of one sink's starts, for one life of its queue.
#[derive(Clone, Debug)]
struct FenceFile {
    path: PathBuf,
    life: u64,
    /// The last life that has opened it. Held while it is written: a write that was given up may still run, and must not
    /// come after one of a later life.
    last: Arc<Mutex<u64>>,
}

/// The last life of each file that was opened.
static LIVES: LazyLock<Mutex<HashMap<PathBuf, Arc<Mutex<u64>>>>> = LazyLock::new(Mutex::default);

impl FenceFile {
    fn open(path: PathBuf) -> Self {
        let last = Arc::clone(LIVES.lock().entry(path.clone()).or_default());
        let life = {
            let mut last = last.lock();
            *last += 1;
            *last
        };
        Self { path, life, last }
    }

    /// None where there is no such file.
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all, whatever happens.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let last = self.last.lock();
        if *last != self.life {
            return Err(io::Error::other("a later life of the sink has the file"));
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            if let Some(parent) = folder.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&beside, &self.path)?;
        // Its name, too, must outlive a loss of power.
        File::open(folder)?.sync_all()
    }

    fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn encode(epoch: u64, start: Start) -> [u8; SLOT_BYTES] {
    let confirmed = start.confirmed.unwrap_or(Confirmed {
        database: 0,
        position: 0,
    });
    let numbers = [
        epoch,
        start.fence,
        start.given_to,
        confirmed.position,
        confirmed.database,
    ];
    let mut slot = [0; SLOT_BYTES];
    for (place, number) in slot.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let check = Sha256::digest(&slot[..SLOT_BYTES - 8]);
    slot[SLOT_BYTES - 8..].copy_from_slice(&check[..8]);
    slot
}

/// The start in a slot; `None` when it is torn, or of another queue.
fn decode(slot: &[u8], epoch: u64) -> Option<Start> {
    let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let confirmed = Confirmed {
        position: number(24)?,
        database: number(32)?,
    };
    let start = Start {
        fence: number(8)?,
        given_to: number(16)?,
        confirmed: (confirmed.database != 0).then_some(confirmed),
    };
    (slot == encode(epoch, start)).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINK: (&str, &str) = ("rule", "sink");

    fn open(folder: &Path, epoch: u64, recovered_to: u64) -> Fence {
        Fence::open(folder, SINK, epoch, recovered_to, true)
    }

    fn path(fence: &Fence) -> &Path {
        &fence.file.as_ref().unwrap().path
    }

    #[tokio::test]
    async fn a_start_knows_those_before_it_with_the_last_row_that_each_may_have_given() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 10);
        assert_eq!(first.given_under(NO_FENCE), Some(10));
        first.keep(SINK).await.unwrap();
        first.tries(12);
        assert_eq!(first.given_under(first.number()), Some(12));
        let second = open(folder.path(), 7, 20);
        assert_ne!(second.number(), first.number());
        assert_eq!(second.given_under(first.number()), Some(20));
        second.keep(SINK).await.unwrap();
        // A bound stays what it was, and no later start raises it.
        let third = open(folder.path(), 7, 30);
        assert_eq!(third.given_under(first.number()), Some(20));
        assert_eq!(third.given_under(second.number()), Some(30));
        assert_eq!(third.given_under(4711), None);
        assert_eq!(third.given_under(NO_FENCE), Some(10));
    }

    #[tokio::test]
    async fn a_start_that_delivers_nothing_bounds_those_before_it_for_all_that_come() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 10);
        first.keep(SINK).await.unwrap();
        // It takes ten rows, and is killed.
        drop(open(folder.path(), 7, 20));
        let third = open(folder.path(), 7, 30);
        assert_eq!(third.given_under(first.number()), Some(20));
        assert_eq!(third.given_under(NO_FENCE), Some(10));
    }

    #[tokio::test]
    async fn a_start_that_another_weir_has_stopped_has_given_what_it_tried_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 0);
        first.keep(SINK).await.unwrap();
        first.tries(10);
        first.close();
        first.note_attempt().await.unwrap();
        first.keep(SINK).await.unwrap();
        let second = open(folder.path(), 7, 30);
        assert_eq!(second.given_under(first.number()), Some(10));
    }

    #[tokio::test]
    async fn that_another_weir_has_the_rows_is_not_told_before_it_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 0);
        first.keep(SINK).await.unwrap();
        first.tries(10);
        first.close();
        let beside = path(&first).with_extension("new");
        fs::create_dir(&beside).unwrap();
        let error = first.note_attempt().await.unwrap_err();
        assert_eq!(error.code(), codes::FILE);
        fs::remove_dir(&beside).unwrap();
        first.note_attempt().await.unwrap();
        let second = open(folder.path(), 7, 30);
        assert_eq!(second.given_under(first.number()), Some(10));
    }

    #[tokio::test]
    async fn where_bounds_cannot_be_written_nobody_is_known_to_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 0);
        first.keep(SINK).await.unwrap();
        let beside = path(&first).with_extension("new");
        fs::create_dir(&beside).unwrap();
        let second = open(folder.path(), 7, 20);
        assert_eq!(second.given_under(first.number()), Some(20));
        fs::remove_dir(&beside).unwrap();
        let third = open(folder.path(), 7, 30);
        assert_eq!(third.given_under(first.number()), None);
    }

    #[tokio::test]
    async fn a_start_that_goes_on_is_open_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 0);
        first.keep(SINK).await.unwrap();
        first.close();
        first.note_attempt().await.unwrap();
        first.reopen();
        first.keep(SINK).await.unwrap();
        let second = open(folder.path(), 7, 30);
        assert_eq!(second.given_under(first.number()), Some(30));
    }

    #[tokio::test]
    async fn a_late_write_of_an_earlier_life_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 0);
        let second = open(folder.path(), 7, 0);
        second.keep(SINK).await.unwrap();
        first.note().await.unwrap_err();
        let third = open(folder.path(), 7, 5);
        assert_eq!(third.given_under(second.number()), Some(5));
        assert_eq!(third.given_under(first.number()), None);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_read_later_and_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 7, 0);
        first.keep(SINK).await.unwrap();
        let aside = folder.path().join("aside");
        fs::rename(path(&first), &aside).unwrap();
        fs::create_dir(path(&first)).unwrap();
        let second = open(folder.path(), 7, 20);
        let error = second.keep(SINK).await.unwrap_err();
        assert_eq!(error.code(), codes::FILE);
        fs::remove_dir(path(&first)).unwrap();
        fs::rename(&aside, path(&first)).unwrap();
        second.keep(SINK).await.unwrap();
        assert_eq!(second.given_under(first.number()), Some(20));
    }

    #[tokio::test]
    async fn what_was_not_kept_or_is_damaged_or_of_another_queue_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let lost = open(folder.path(), 7, 0);
        let kept = open(folder.path(), 7, 0);
        assert_eq!(kept.given_under(lost.number()), None);
        kept.keep(SINK).await.unwrap();
        let bytes = fs::read(path(&kept)).unwrap();
        assert_eq!(open(folder.path(), 8, 0).given_under(kept.number()), None);
        let mut damaged = bytes.clone();
        damaged[SLOT_BYTES + 9] ^= 1;
        fs::write(path(&kept), damaged).unwrap();
        assert_eq!(open(folder.path(), 7, 0).given_under(kept.number()), None);
        fs::write(path(&kept), bytes).unwrap();
        assert_eq!(
            open(folder.path(), 7, 0).given_under(kept.number()),
            Some(0)
        );
    }

    #[tokio::test]
    async fn starts_that_nothing_was_confirmed_to_are_forgotten_before_the_one_that_the_database_names()
     {
        let folder = tempfile::tempdir().unwrap();
        let named = open(folder.path(), 7, 0);
        named.keep(SINK).await.unwrap();
        named.confirm(3, 5);
        named.note_attempt().await.unwrap();
        let mut numbers = Vec::new();
        for start in 0..STARTS as u64 + 10 {
            let fence = open(folder.path(), 7, start + 10);
            fence.keep(SINK).await.unwrap();
            numbers.push(fence.number());
        }
        let fence = open(folder.path(), 7, 100);
        let known = numbers.iter();
        let known = known.filter(|number| fence.given_under(**number).is_some());
        assert_eq!(known.count(), STARTS - 2);
        assert!(fence.given_under(numbers[STARTS + 9]).is_some());
        assert_eq!(fence.given_under(named.number()), Some(10));
        assert_eq!(fence.confirmed_ever(3), Some(5));
        assert_eq!(fence.confirmed_ever(4), None);
        let size = fs::metadata(path(&fence)).unwrap().len();
        assert_eq!(size, (STARTS * SLOT_BYTES) as u64);
    }
}
