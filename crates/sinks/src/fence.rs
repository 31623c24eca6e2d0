//! Who writes the rows of a sink: each start draws a number, its fence, and a database takes rows of the last one alone.
//!
//! Two weirs with copies of one store give the same numbers to different rows. A position in a database says something
//! only of rows of those who have written it, and the fence beside it says who that was: this start, an earlier one of
//! this very store, or somebody else. The fences of a store are in a small file for each sink in `data_dir/fences`:
//! a copy takes those along that were there before it, and none that came later.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng as _;
use sha2::{Digest, Sha256};

use crate::bridge::signer::mac::hex;

/// So many starts are remembered.
const STARTS: usize = 64;
/// Epoch, fence, the last row that it may have given, check: 8 bytes each.
const SLOT_BYTES: usize = 32;
/// What versions without fences have left in a database.
const NO_FENCE: u64 = 0;
/// The bound of a start that is not over.
const OPEN: u64 = u64::MAX;

/// The fence of one life of a queue, and those of the lives before it.
#[derive(Debug)]
pub struct Fence {
    number: u64,
    earlier: Vec<Start>,
    /// The last row that was there when this life began.
    recovered_to: u64,
    epoch: u64,
    /// Where it is kept; none where the rows do not outlive the process.
    path: Option<PathBuf>,
    kept: bool,
    /// The database has confirmed rows under it.
    held: AtomicBool,
}

/// A start of weir with this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    fence: u64,
    /// No row with a higher number was given under it.
    given_to: u64,
}

impl Fence {
    /// The fence of a queue that ends with the process.
    pub fn fresh() -> Self {
        Self {
            number: drawn(),
            earlier: Vec::new(),
            recovered_to: 0,
            epoch: 0,
            path: None,
            kept: true,
            held: AtomicBool::new(false),
        }
    }

    /// The fence of another life of a queue in the store, whose last row has the number `recovered_to`. May wait for a
    /// file, and writes nothing.
    pub(crate) fn open(
        data_dir: &Path,
        rule: &str,
        sink: &str,
        epoch: u64,
        recovered_to: u64,
    ) -> Self {
        let mut digest = Sha256::new();
        for part in [rule, sink] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let name = hex(&digest.finalize()[..16]);
        let path = data_dir.join("fences").join(name);
        // Without the file, or with one that cannot be read, nothing is known: a position of somebody unknown skips no row.
        let bytes = fs::read(&path).unwrap_or_default();
        let slots = bytes.chunks_exact(SLOT_BYTES);
        let mut earlier: Vec<Start> = slots.filter_map(|slot| decode(slot, epoch)).collect();
        // Rows that came later were never given under those.
        for start in &mut earlier {
            start.given_to = start.given_to.min(recovered_to);
        }
        let forgotten = earlier.len().saturating_sub(STARTS - 1);
        earlier.drain(..forgotten);
        Self {
            number: drawn(),
            earlier,
            recovered_to,
            epoch,
            path: Some(path),
            kept: false,
            held: AtomicBool::new(false),
        }
    }

    /// Puts it on stable storage, once: before a database hears of it.
    ///
    /// # Errors
    /// When that cannot be written. A database that has it is taken for somebody else's by the next start then, which
    /// costs an alarm and no row.
    pub(crate) async fn keep(&mut self) -> io::Result<()> {
        let Some(path) = self.path.clone().filter(|_| !self.kept) else {
            return Ok(());
        };
        let now = Start {
            fence: self.number,
            given_to: OPEN,
        };
        let starts = self.earlier.iter().copied().chain([now]);
        let bytes: Vec<u8> = starts.flat_map(|start| encode(self.epoch, start)).collect();
        let written = tokio::task::spawn_blocking(move || write(&path, &bytes)).await;
        written.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.kept = true;
        Ok(())
    }

    /// The number, which no other start has drawn; small enough for a signed 64-bit column.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The last row that may have been given under a fence, where this start has given those up to `given_to`; `None`
    /// for one of somebody else.
    pub(crate) fn given_under(&self, fence: u64, given_to: u64) -> Option<u64> {
        match fence {
            NO_FENCE => Some(self.recovered_to),
            fence if fence == self.number => Some(given_to),
            fence => {
                let mut starts = self.earlier.iter();
                let start = starts.find(|start| start.fence == fence)?;
                Some(start.given_to)
            }
        }
    }

    /// Whether a database has confirmed rows under it.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }
}

fn drawn() -> u64 {
    rand::rng().random_range(NO_FENCE + 1..=i64::MAX.unsigned_abs())
}

/// Whole or not at all, whatever happens.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    // Its name, too, must outlive a loss of power.
    File::open(folder)?.sync_all()
}

fn encode(epoch: u64, start: Start) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(&epoch.to_le_bytes());
    slot[8..16].copy_from_slice(&start.fence.to_le_bytes());
    slot[16..24].copy_from_slice(&start.given_to.to_le_bytes());
    let check = Sha256::digest(&slot[..24]);
    slot[24..].copy_from_slice(&check[..8]);
    slot
}

/// The start in a slot; `None` when it is torn, or of another queue.
fn decode(slot: &[u8], epoch: u64) -> Option<Start> {
    let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let start = Start {
        fence: number(8)?,
        given_to: number(16)?,
    };
    (slot == encode(epoch, start)).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, epoch: u64, recovered_to: u64) -> Fence {
        Fence::open(folder, "rule", "sink", epoch, recovered_to)
    }

    #[tokio::test]
    async fn a_start_knows_those_before_it_with_the_last_row_that_each_may_have_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = open(folder.path(), 7, 10);
        assert_eq!(first.given_under(NO_FENCE, 12), Some(10));
        assert_eq!(first.given_under(first.number(), 12), Some(12));
        first.keep().await.unwrap();
        let mut second = open(folder.path(), 7, 20);
        assert_ne!(second.number(), first.number());
        assert_eq!(second.given_under(first.number(), 20), Some(20));
        // A version without fences may have run in between.
        assert_eq!(second.given_under(NO_FENCE, 20), Some(20));
        second.keep().await.unwrap();
        // A bound stays what it was, and no later start raises it.
        let third = open(folder.path(), 7, 30);
        assert_eq!(third.given_under(first.number(), 30), Some(20));
        assert_eq!(third.given_under(second.number(), 30), Some(30));
        assert_eq!(third.given_under(4711, 30), None);
    }

    #[tokio::test]
    async fn what_was_not_kept_or_is_damaged_or_of_another_queue_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let lost = open(folder.path(), 7, 0);
        let mut kept = open(folder.path(), 7, 0);
        assert_eq!(kept.given_under(lost.number(), 9), None);
        kept.keep().await.unwrap();
        assert_eq!(
            open(folder.path(), 8, 0).given_under(kept.number(), 9),
            None
        );
        let path = kept.path.clone().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(
            open(folder.path(), 7, 0).given_under(kept.number(), 9),
            None
        );
    }

    #[tokio::test]
    async fn the_file_is_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = Vec::new();
        for start in 0..STARTS as u64 + 10 {
            let mut fence = open(folder.path(), 7, start);
            fence.keep().await.unwrap();
            numbers.push(fence.number());
        }
        let fence = open(folder.path(), 7, 100);
        let known = numbers
            .iter()
            .filter(|number| fence.given_under(**number, 0).is_some());
        assert_eq!(known.count(), STARTS - 1);
        assert!(fence.given_under(numbers[STARTS + 9], 0).is_some());
        let size = fs::metadata(fence.path.as_ref().unwrap()).unwrap().len();
        assert_eq!(size, (STARTS * SLOT_BYTES) as u64);
    }
}
