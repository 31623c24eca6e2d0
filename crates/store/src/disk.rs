//! What the log's files lie on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A folder of files that only grow.
pub trait Disk: Send + Sync + 'static {
    /// A file that is being written.
    type File: DiskFile;
    /// While it is there, nobody else opens the log.
    type Lock: Send;

    /// Takes the folder for one log alone.
    ///
    /// # Errors
    /// `WouldBlock` when another one has it, else of the system.
    fn lock(&self) -> io::Result<Self::Lock>;

    /// The names of all files.
    ///
    /// # Errors
    /// Of the system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Reads a file from byte `from` on.
    ///
    /// # Errors
    /// Of the system.
    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>>;

    /// The size of a file.
    ///
    /// # Errors
    /// Of the system.
    fn length(&self, name: &str) -> io::Result<u64>;

    /// Makes a new, empty file; one of that name is replaced.
    ///
    /// # Errors
    /// Of the system.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Cuts a file to its first `length` bytes, and makes that durable.
    ///
    /// # Errors
    /// Of the system.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;

    /// Gives a file another name; a file of that name is replaced.
    ///
    /// # Errors
    /// Of the system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Of the system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable: files that were made, renamed and removed.
    ///
    /// # Errors
    /// Of the system.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that grows.
pub trait DiskFile: Send + 'static {
    /// Writes at the end.
    ///
    /// # Errors
    /// Of the system; then any part of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written is on stable storage.
    ///
    /// # Errors
    /// Of the system; then nobody knows what is.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`; it is made, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        make(&path, &mut |parent| File::open(parent)?.sync_all())?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Makes a folder and what is missing above it. The name of each is made durable by `sync` in the folder that it stands in.
fn make(path: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    make(parent, sync)?;
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(parent)
}

impl Disk for Folder {
    type File = File;
    type Lock = File;

    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        let mut file = File::open(self.0.join(name))?;
        if from > 0 {
            file.seek(SeekFrom::Start(from))?;
        }
        Ok(Box::new(file))
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.0.join(name))?.len())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = self.0.join(name);
        drop(options.open(&path)?);
        // What is written goes to the end, also after the file was cut.
        OpenOptions::new().append(true).open(path)
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.0.join(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_is_made_durable_in_each_folder_above_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data/store");
        let mut synced = Vec::new();
        make(&path, &mut |parent| {
            synced.push(parent.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(synced, [root.path().to_owned(), root.path().join("data")]);
        assert!(path.is_dir());
    }
}
