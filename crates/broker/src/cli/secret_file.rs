//! A file for a secret that is given once: whatever goes wrong, the secret stays somewhere, and the place is told.

use std::fs::File;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that only its owner may read. Nothing stands under its name before the secret is whole, except where the file
/// system has no hard links.
pub(super) struct SecretFile {
    path: PathBuf,
    /// Where the secret is written.
    written: PathBuf,
    file: File,
    way: Way,
    /// Whether `written` may be removed: it holds no secret, or one that stands under its name too.
    spare: bool,
}

/// How the file comes under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Replaces what is there.
    Rename,
    /// Unlike a rename, a link never replaces what somebody else has put there meanwhile.
    Link,
    /// It is there from the beginning.
    InPlace,
}

/// What went wrong when there was a secret to write.
pub(super) struct Unfinished {
    /// The reason.
    pub(super) error: Error,
    /// The file with the secret, or with what could be written of it.
    pub(super) kept: PathBuf,
}

impl SecretFile {
    /// Finds out whether the file can be written, before anybody asks for the secret.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where a file is there that is not to be replaced; what the system says otherwise.
    pub(super) fn begin(path: &Path, force: bool) -> std::io::Result<Self> {
        if !force && path.symlink_metadata().is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if force && path.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let beside = Self::beside(path);
        let way = if force { Way::Rename } else { Way::Link };
        let begun = Self::create(path, beside, way)?;
        if way == Way::Link && !begun.can_be_linked() {
            return Self::create(path, path.to_owned(), Way::InPlace);
        }
        Ok(begun)
    }

    fn beside(path: &Path) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:08x}", rand::random::<u32>()));
        path.with_file_name(name)
    }

    fn create(path: &Path, written: PathBuf, way: Way) -> std::io::Result<Self> {
        let mut options = File::options();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&written)?;
        Ok(Self {
            path: path.to_owned(),
            written,
            file,
            way,
            spare: true,
        })
    }

    /// Whether the file system has hard links; tried with the file that is still empty.
    fn can_be_linked(&self) -> bool {
        let probe = Self::beside(&self.path);
        let linked = std::fs::hard_link(&self.written, &probe).is_ok();
        linked && std::fs::remove_file(&probe).is_ok()
    }

    /// Writes the secret. From here on no file with it is removed that is the only one.
    pub(super) fn finish(&mut self, secret: &str) -> Result<(), Unfinished> {
        self.spare = false;
        self.write(secret).map_err(|error| Unfinished {
            error,
            kept: self.written.clone(),
        })?;
        // Where there was a rename, it is gone already.
        self.spare = self.way == Way::Link;
        Ok(())
    }

    fn write(&mut self, secret: &str) -> std::io::Result<()> {
        self.file.write_all(secret.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.sync_all()?;
        match self.way {
            Way::Rename => std::fs::rename(&self.written, &self.path),
            Way::Link => std::fs::hard_link(&self.written, &self.path),
            Way::InPlace => Ok(()),
        }
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if self.spare {
            let _ = std::fs::remove_file(&self.written);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_secret_that_cannot_come_under_its_name_stays_where_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.secret");
        let mut file = SecretFile::begin(&path, false).unwrap();
        assert_eq!(file.way, Way::Link);
        // Somebody else was faster.
        std::fs::write(&path, "other").unwrap();
        let Err(unfinished) = file.finish("fresh") else {
            panic!("what is there is replaced");
        };
        drop(file);
        assert_eq!(unfinished.error.kind(), ErrorKind::AlreadyExists);
        let kept = unfinished.kept;
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "fresh\n");
        let mode = kept.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
    }

    #[test]
    fn without_a_secret_nothing_stays_and_with_one_its_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gw.secret");
        let in_place = || SecretFile::create(&path, path.clone(), Way::InPlace).unwrap();
        for begin in [
            &(|| SecretFile::begin(&path, false).unwrap()) as &dyn Fn() -> SecretFile,
            &|| SecretFile::begin(&path, true).unwrap(),
            &in_place,
        ] {
            drop(begin());
            assert_eq!(names(folder.path()).len(), 0);
            let mut file = begin();
            assert!(file.finish("fresh").is_ok());
            drop(file);
            assert_eq!(names(folder.path()), ["gw.secret"]);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "fresh\n");
            let again = SecretFile::begin(&path, false).err().unwrap();
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
