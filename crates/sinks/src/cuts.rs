//! Where the rows of a sink were cut into requests, so that after a restart they are cut there again: only then does a
//! request that comes twice have the `Idempotency-Key` that it had before.
//!
//! A file of fixed size for each such sink in `data_dir/requests`. It only ever cuts: whatever it says, no row is left out.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::bridge::signer::mac::hex;

/// So many cuts are remembered. What the store has settled is known to it a fraction of a second later, so that only the
/// last few can be asked for again.
const SLOTS: u64 = 1024;
/// Epoch, number of the last row, how many cuts were noted before, check: 8 bytes each.
const SLOT_BYTES: usize = 32;

/// The cuts of one sink.
#[derive(Debug)]
pub(crate) struct Cuts {
    path: PathBuf,
    epoch: u64,
    /// Made with the first cut.
    file: Option<Arc<File>>,
    /// How many were noted.
    count: u64,
    /// Those that are remembered.
    known: BTreeSet<u64>,
}

impl Cuts {
    /// The cuts of a sink, and what is known of earlier lives: the last row of each request.
    pub(crate) fn open(
        data_dir: &Path,
        rule: &str,
        sink: &str,
        epoch: u64,
    ) -> (Self, BTreeSet<u64>) {
        let mut digest = Sha256::new();
        for part in [rule, sink] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let name = hex(&digest.finalize()[..16]);
        let path = data_dir.join("requests").join(name);
        // Without the file, or with one that cannot be read, nothing is known: rows are cut as they come.
        let bytes = fs::read(&path).unwrap_or_default();
        let slots = bytes.chunks_exact(SLOT_BYTES);
        let found: Vec<(u64, u64)> = slots.filter_map(|slot| decode(slot, epoch)).collect();
        let known: BTreeSet<u64> = found.iter().map(|(to, _)| *to).collect();
        let cuts = Self {
            path,
            epoch,
            file: None,
            count: found.iter().map(|(_, place)| place + 1).max().unwrap_or(0),
            known: known.clone(),
        };
        (cuts, known)
    }

    /// Puts on stable storage that a request ends with the row of this number.
    pub(crate) async fn note(&mut self, to: u64) -> io::Result<()> {
        if self.known.contains(&to) {
            return Ok(());
        }
        let (path, file) = (self.path.clone(), self.file.take());
        let at = self.count % SLOTS * SLOT_BYTES as u64;
        let slot = encode(self.epoch, to, self.count);
        let write = move || -> io::Result<Arc<File>> {
            let file = match file {
                Some(file) => file,
                None => Arc::new(create(&path)?),
            };
            file.write_all_at(&slot, at)?;
            file.sync_data()?;
            Ok(file)
        };
        let written = tokio::task::spawn_blocking(write).await;
        self.file = Some(written.unwrap_or_else(|error| Err(io::Error::other(error)))?);
        self.count += 1;
        self.known.insert(to);
        while self.known.len() as u64 > SLOTS {
            self.known.pop_first();
        }
        Ok(())
    }
}

/// Opens the file, or makes it with its folder.
fn create(path: &Path) -> io::Result<File> {
    let is_new = !path.exists();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    if is_new && let Some(folder) = path.parent() {
        // Its name, too, must outlive a loss of power.
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

fn encode(epoch: u64, to: u64, place: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(&epoch.to_le_bytes());
    slot[8..16].copy_from_slice(&to.to_le_bytes());
    slot[16..24].copy_from_slice(&place.to_le_bytes());
    let check = Sha256::digest(&slot[..24]);
    slot[24..].copy_from_slice(&check[..8]);
    slot
}

/// The cut in a slot and how many were noted before it; `None` when there is none, or it is torn, or of another queue.
fn decode(slot: &[u8], epoch: u64) -> Option<(u64, u64)> {
    let number = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let (to, place) = (number(8)?, number(16)?);
    (slot == encode(epoch, to, place)).then_some((to, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, epoch: u64) -> (Cuts, Vec<u64>) {
        let (cuts, known) = Cuts::open(folder, "rule", "sink", epoch);
        (cuts, known.into_iter().collect())
    }

    #[tokio::test]
    async fn cuts_are_known_to_the_next_life_of_the_same_queue_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (mut cuts, known) = open(folder.path(), 7);
        assert!(known.is_empty());
        for to in [10, 15, 15, 40, 12] {
            cuts.note(to).await.unwrap();
        }
        assert_eq!(open(folder.path(), 7).1, [10, 12, 15, 40]);
        assert!(open(folder.path(), 8).1.is_empty());
        assert_eq!(Cuts::open(folder.path(), "rule", "other", 7).1.len(), 0);
        let (mut cuts, _) = open(folder.path(), 7);
        cuts.note(50).await.unwrap();
        assert_eq!(open(folder.path(), 7).1, [10, 12, 15, 40, 50]);
    }

    #[tokio::test]
    async fn the_file_is_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let (mut cuts, _) = open(folder.path(), 7);
        for to in 1..=SLOTS + 10 {
            cuts.note(to).await.unwrap();
        }
        let (cuts, known) = open(folder.path(), 7);
        assert_eq!(known.first(), Some(&11));
        assert_eq!(known.last(), Some(&(SLOTS + 10)));
        assert_eq!(fs::metadata(&cuts.path).unwrap().len(), SLOTS * 32);
    }

    #[tokio::test]
    async fn a_torn_slot_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (mut cuts, _) = open(folder.path(), 7);
        cuts.note(1).await.unwrap();
        cuts.note(2).await.unwrap();
        let mut bytes = fs::read(&cuts.path).unwrap();
        bytes[40] ^= 1;
        fs::write(&cuts.path, bytes).unwrap();
        assert_eq!(open(folder.path(), 7).1, [1]);
    }
}
