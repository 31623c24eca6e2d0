//! A disk that forgets what was not synced: for tests, here and of those who keep something on such a disk.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};

/// A disk loses what it has not synced by this much at a time.
const SECTOR: usize = 512;

/// A disk in memory that forgets what was not synced when its power fails, that fills up, and whose bytes can be damaged.
///
/// Clones are the same disk.
#[derive(Clone, Default)]
pub struct Unreliable(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// By name, as programs see it.
    pub(crate) names: BTreeMap<String, usize>,
    /// As it would be after a loss of power.
    safe_names: BTreeMap<String, usize>,
    /// Changes of names that were not synced, in order.
    pending: Vec<Renaming>,
    pub(crate) files: HashMap<usize, Contents>,
    made: usize,
    /// How many operations are left until the power fails; `None` for ever.
    pub(crate) fuel: Option<u32>,
    /// Every so many appends one finds no room after a part of it.
    pub(crate) full_every: Option<u32>,
    appends: u32,
    /// Every so many times names cannot be synced.
    pub(crate) names_fail_every: Option<u32>,
    syncs_of_names: u32,
}

#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub(crate) now: Vec<u8>,
    safe: usize,
}

#[derive(Clone)]
enum Renaming {
    Set(String, usize),
    Gone(String),
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.fuel {
            None => Ok(()),
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn rename(&mut self, change: Renaming) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &Renaming) {
    match change {
        Renaming::Set(name, file) => drop(names.insert(name.clone(), *file)),
        Renaming::Gone(name) => drop(names.remove(name)),
    }
}

impl Unreliable {
    /// The power fails: of what was not synced, some is there and some is not, in any order.
    /// `chance` gives a number below the one that it is given.
    pub fn lose_power(&self, chance: &mut dyn FnMut(usize) -> usize) {
        let mut state = self.0.lock();
        let kept = chance(state.pending.len() + 1);
        let changes: Vec<Renaming> = state.pending.drain(..).take(kept).collect();
        for change in &changes {
            apply(&mut state.safe_names, change);
        }
        state.names = state.safe_names.clone();
        // In an order of its own, so that a seed means the same each time.
        let mut files: Vec<usize> = state.files.keys().copied().collect();
        files.sort_unstable();
        for file in files {
            let Some(contents) = state.files.get_mut(&file) else {
                continue;
            };
            let length = contents.safe + chance(contents.now.len() - contents.safe + 1);
            contents.now.truncate(length);
            let mut at = contents.safe;
            while at < length {
                let end = ((at / SECTOR + 1) * SECTOR).min(length);
                if chance(10) < 3 {
                    contents.now[at..end].fill(0);
                }
                at = end;
            }
            contents.safe = length;
        }
        (state.fuel, state.full_every, state.names_fail_every) = (None, None, None);
    }

    /// The power fails after so many operations; `None`: it does not.
    pub fn power_fails_after(&self, operations: Option<u32>) {
        self.0.lock().fuel = operations;
    }

    /// Every so many appends one finds no room after a part of it; `None`: there is room.
    pub fn full_every(&self, appends: Option<u32>) {
        self.0.lock().full_every = appends;
    }

    /// Every so many times names cannot be synced: they are there, and may be gone after a loss of power; `None`: they can.
    pub fn names_fail_every(&self, syncs: Option<u32>) {
        let mut state = self.0.lock();
        (state.names_fail_every, state.syncs_of_names) = (syncs, 0);
    }

    /// Turns bits of one byte of a file.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, name: &str, at: usize, bits: u8) {
        if let Some(byte) = self.contents(name, |bytes| bytes.get(at).copied()) {
            self.contents(name, |bytes| bytes[at] = byte ^ bits);
        }
    }

    /// Leaves only the first `length` bytes of a file.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn cut(&self, name: &str, length: usize) {
        self.contents(name, |bytes| bytes.truncate(length));
    }

    /// What is in a file.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn bytes_of(&self, name: &str) -> Vec<u8> {
        self.contents(name, |bytes| bytes.clone())
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// A disk of its own with the same files.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.0.lock();
        Self(Arc::new(Mutex::new(State {
            names: state.names.clone(),
            safe_names: state.safe_names.clone(),
            pending: state.pending.clone(),
            files: state.files.clone(),
            made: state.made,
            ..State::default()
        })))
    }

    fn contents<T>(&self, name: &str, what: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut state = self.0.lock();
        let file = *state.names.get(name).expect("there is such a file");
        let contents = state.files.get_mut(&file).expect("a name is of a file");
        let result = what(&mut contents.now);
        contents.safe = contents.safe.min(contents.now.len());
        result
    }
}

impl Disk for Unreliable {
    type File = OpenFile;
    type Lock = ();

    fn lock(&self) -> io::Result<()> {
        self.0.lock().step()
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let mut state = self.0.lock();
        state.step()?;
        let file = state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[file].now.len() as u64)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.step()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        let mut state = self.0.lock();
        state.step()?;
        let file = state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let bytes = &state.files[file].now;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Box::new(Cursor::new(bytes[from..].to_vec())))
    }

    fn create(&self, name: &str) -> io::Result<OpenFile> {
        let mut state = self.0.lock();
        state.step()?;
        state.made += 1;
        let file = state.made;
        state.files.insert(file, Contents::default());
        state.rename(Renaming::Set(name.to_owned(), file));
        Ok(OpenFile {
            disk: self.clone(),
            file,
        })
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let contents = state.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        contents
            .now
            .truncate(usize::try_from(length).unwrap_or(usize::MAX));
        contents.safe = contents.now.len();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.rename(Renaming::Gone(from.to_owned()));
        state.rename(Renaming::Set(to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(Renaming::Gone(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.syncs_of_names += 1;
        if (state.names_fail_every).is_some_and(|every| state.syncs_of_names.is_multiple_of(every))
        {
            return Err(io::Error::other("names cannot be synced"));
        }
        let changes = std::mem::take(&mut state.pending);
        for change in &changes {
            apply(&mut state.safe_names, change);
        }
        Ok(())
    }
}

/// A file of an [`Unreliable`] disk.
pub struct OpenFile {
    disk: Unreliable,
    file: usize,
}

impl DiskFile for OpenFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        // What the power failed in may be there in part.
        let stepped = state.step();
        state.appends += 1;
        let full = state
            .full_every
            .is_some_and(|every| state.appends.is_multiple_of(every));
        let contents = state
            .files
            .get_mut(&self.file)
            .ok_or(io::ErrorKind::NotFound)?;
        if stepped.is_err() || full {
            contents.now.extend_from_slice(&bytes[..bytes.len() / 2]);
            stepped?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        contents.now.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.step()?;
        let contents = state
            .files
            .get_mut(&self.file)
            .ok_or(io::ErrorKind::NotFound)?;
        contents.safe = contents.now.len();
        Ok(())
    }
}
