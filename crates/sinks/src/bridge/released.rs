//! The `QoS` 2 messages of which the remote has sent PUBREC: from then on only PUBREL may be sent, after a restart too.
//!
//! A file of queue numbers, behind the queue's epoch. A number is on stable storage before its PUBREL leaves, so that a
//! message which the remote has is never sent a second time.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::lanes::Ids;

/// A file of this size, or more, is begun anew when nothing in it is needed.
const LARGE: u64 = 64 * 1024;

/// So many numbers are kept when it is.
const NEWEST: usize = 2048;

/// A word with this bit is a packet identifier that is to be freed; without an identifier it says that all were.
const GIVEN_UP: u64 = 1 << 63;

/// What was released.
#[derive(Debug)]
pub(crate) struct Released {
    path: PathBuf,
    epoch: u64,
    ids: Ids,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<File>,
    bytes: u64,
    numbers: BTreeSet<u64>,
    /// The newest of all that are in the file, done or not.
    newest: BTreeSet<u64>,
    /// Packet identifiers of messages that were given up: the remote may have those half way.
    given_up: BTreeSet<u16>,
}

impl Released {
    /// What an earlier life of the queue has released; of another queue nothing is taken.
    pub(crate) fn open(path: &Path, epoch: u64, ids: Ids) -> Self {
        let (mut numbers, mut given_up, mut bytes) = (BTreeSet::new(), BTreeSet::new(), 0);
        if let Ok(mut file) = File::open(path) {
            let mut content = Vec::new();
            // What cannot be read is as if it had not been: such messages are sent again.
            let _ = file.read_to_end(&mut content);
            let mut words = content
                .as_chunks::<8>()
                .0
                .iter()
                .map(|word| u64::from_be_bytes(*word));
            if words.next() == Some(epoch) {
                for word in words {
                    if word & GIVEN_UP == 0 {
                        numbers.insert(word);
                    } else if word == GIVEN_UP {
                        given_up.clear();
                    } else {
                        given_up.extend(u16::try_from(word & !GIVEN_UP));
                    }
                }
                bytes = content.len() as u64 / 8 * 8;
            }
        }
        let state = Mutex::new(State {
            file: None,
            bytes,
            newest: numbers.clone(),
            numbers,
            given_up,
        });
        Self {
            path: path.to_owned(),
            epoch,
            ids,
            state,
        }
    }

    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The packet identifiers that the numbers go round in.
    pub(crate) const fn ids(&self) -> Ids {
        self.ids
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.state.lock().numbers.contains(&number)
    }

    /// Keeps numbers. Blocks until they are on stable storage.
    ///
    /// # Errors
    /// When they are not.
    pub(crate) fn add(&self, numbers: &[u64]) -> io::Result<()> {
        let mut state = self.state.lock();
        self.append(&mut state, numbers)?;
        state.numbers.extend(numbers);
        state.newest.extend(numbers);
        while state.newest.len() > NEWEST {
            state.newest.pop_first();
        }
        Ok(())
    }

    /// Messages are not sent any more: their identifiers are to be freed before later messages have them. Blocks until this
    /// is on stable storage.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn give_up(&self, numbers: impl Iterator<Item = u64>) -> io::Result<()> {
        let mut state = self.state.lock();
        let ids: BTreeSet<u16> = numbers.map(|number| self.ids.of(number)).collect();
        let ids: Vec<u16> = ids.difference(&state.given_up).copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let words: Vec<u64> = ids.iter().map(|id| GIVEN_UP | u64::from(*id)).collect();
        self.append(&mut state, &words)?;
        state.given_up.extend(ids);
        Ok(())
    }

    /// The identifiers of what was given up.
    pub(crate) fn given_up(&self) -> Vec<u16> {
        self.state.lock().given_up.iter().copied().collect()
    }

    /// The remote has freed the identifiers of what was given up. Blocks until this is on stable storage.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn freed(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        self.append(&mut state, &[GIVEN_UP])?;
        state.given_up.clear();
        Ok(())
    }

    /// Puts words behind the others, or begins the file anew with them.
    fn append(&self, state: &mut State, words: &[u64]) -> io::Result<()> {
        let anew = state.numbers.is_empty() && state.bytes >= LARGE;
        if anew {
            state.bytes = 0;
            state.file = None;
        }
        let mut out = Vec::with_capacity(8 * (words.len() + 1));
        if state.bytes == 0 {
            out.extend(self.epoch.to_be_bytes());
        }
        if anew {
            // That these are done may be forgotten by a crash: the queue gives them again.
            let newest = state.newest.iter();
            newest.for_each(|number| out.extend(number.to_be_bytes()));
            let given_up = state.given_up.iter();
            given_up.for_each(|id| out.extend((GIVEN_UP | u64::from(*id)).to_be_bytes()));
        }
        words.iter().for_each(|word| out.extend(word.to_be_bytes()));
        let bytes = state.bytes;
        let file = match &mut state.file {
            Some(file) => file,
            none => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                let mut options = OpenOptions::new();
                let file = options
                    .create(true)
                    .write(true)
                    .truncate(false)
                    .open(&self.path)?;
                // A word that was torn off is written over.
                file.set_len(bytes)?;
                none.insert(file)
            }
        };
        io::Seek::seek(file, io::SeekFrom::Start(bytes))?;
        file.write_all(&out)?;
        file.sync_data()?;
        state.bytes += out.len() as u64;
        Ok(())
    }

    /// The message is done. The file keeps its number until it is begun anew: the queue does not come back to it.
    pub(crate) fn done(&self, number: u64) {
        self.state.lock().numbers.remove(&number);
    }

    /// The newest number of all.
    pub(crate) fn last(&self) -> Option<u64> {
        self.state.lock().newest.last().copied()
    }

    /// Everything before this number is done.
    pub(crate) fn settled_below(&self, number: u64) {
        let mut state = self.state.lock();
        if state.numbers.first().is_some_and(|first| *first < number) {
            state.numbers = state.numbers.split_off(&number);
        }
    }

    /// The remote has lost the session: what it took but had not passed on is gone, and is sent again.
    ///
    /// # Errors
    /// When the file cannot be emptied.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.numbers.clear();
        state.newest.clear();
        state.given_up.clear();
        state.bytes = 0;
        state.file = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_released_is_known_after_a_restart_of_the_same_queue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridges/hq.released");
        let released = Released::open(&path, 7, Ids::OUT);
        released.add(&[3, 4]).unwrap();
        released.add(&[9]).unwrap();
        let again = Released::open(&path, 7, Ids::OUT);
        assert!([3, 4, 9].iter().all(|number| again.contains(*number)));
        assert!(!again.contains(5));
        again.add(&[10]).unwrap();
        assert!(Released::open(&path, 7, Ids::OUT).contains(10));
        assert!(!Released::open(&path, 8, Ids::OUT).contains(3));
    }

    #[test]
    fn what_was_given_up_is_known_until_it_is_freed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let open = || Released::open(&path, 7, Ids::OUT);
        let released = open();
        released.add(&[3]).unwrap();
        released.give_up([3, 4].into_iter()).unwrap();
        assert_eq!(open().given_up(), [Ids::OUT.of(3), Ids::OUT.of(4)]);
        assert!(open().contains(3) && !open().contains(4));
        released.freed().unwrap();
        assert!(open().given_up().is_empty() && open().contains(3));
    }

    #[test]
    fn a_torn_number_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        Released::open(&path, 7, Ids::OUT).add(&[3]).unwrap();
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend([0, 0, 0]);
        std::fs::write(&path, torn).unwrap();
        Released::open(&path, 7, Ids::OUT).add(&[4]).unwrap();
        let last = Released::open(&path, 7, Ids::OUT);
        assert!(last.contains(3) && last.contains(4));
    }

    #[test]
    fn a_file_in_which_nothing_is_needed_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let released = Released::open(&path, 7, Ids::OUT);
        for batch in 0..20_u64 {
            let numbers: Vec<u64> = (batch * 1000..(batch + 1) * 1000).collect();
            released.add(&numbers).unwrap();
            numbers.iter().for_each(|number| released.done(*number));
        }
        assert!(std::fs::metadata(&path).unwrap().len() < LARGE + 2 * 8 * 1001);
        let again = Released::open(&path, 7, Ids::OUT);
        again.settled_below(20_000);
        assert!(!again.contains(19_999));
        released.add(&[50_000]).unwrap();
        released.forget().unwrap();
        assert!(!Released::open(&path, 7, Ids::OUT).contains(50_000));
    }
}
