//! Whose session the bridge's client in the broker, its filters and its released numbers belong to.
//!
//! A session at the remote that begins anew is told of once, in the CONNACK of one attempt. A mark on disk keeps that in
//! mind until everything here has begun anew too, whatever comes between.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The files `NAME.fresh`, `NAME.remote` and `NAME.filters`.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    folder: PathBuf,
    bridge: String,
}

impl Mirror {
    pub(super) fn of(data_dir: &Path, bridge: &str) -> Self {
        Self {
            folder: data_dir.join("bridges"),
            bridge: bridge.to_owned(),
        }
    }

    pub(super) fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.bridge))
    }

    /// Whether anything of a session is here.
    pub(super) fn is_of_any(&self) -> bool {
        ["fresh", "filters", "released", "lanes"]
            .iter()
            .any(|what| self.file(what).exists())
    }

    /// Whether what is here belongs to the session that `remote` (`host:port`) goes on with. What was written before
    /// remotes were remembered belongs to any.
    pub(super) fn is_of(&self, remote: &str) -> bool {
        let known = std::fs::read_to_string(self.file("remote"));
        !self.file("fresh").exists() && known.map_or(true, |known| known == remote)
    }

    /// The session is another one: the filters are forgotten, and until [`is_now_of`](Self::is_now_of) nothing that is
    /// here belongs to any session.
    ///
    /// # Errors
    /// When this is not on stable storage.
    pub(super) fn begin(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        File::create(self.file("fresh"))?.sync_all()?;
        self.sync()?;
        remove(&self.file("filters"))
    }

    /// Everything here has begun anew with the session at `remote`.
    ///
    /// # Errors
    /// When this cannot be kept.
    pub(super) fn is_now_of(&self, remote: &str) -> io::Result<()> {
        let known = std::fs::read_to_string(self.file("remote")).unwrap_or_default();
        if known != remote {
            std::fs::create_dir_all(&self.folder)?;
            let beside = self.file("remote-new");
            std::fs::write(&beside, remote)?;
            File::open(&beside)?.sync_all()?;
            std::fs::rename(beside, self.file("remote"))?;
            // The mark must not go before this is there.
            self.sync()?;
        }
        remove(&self.file("fresh"))
    }

    fn sync(&self) -> io::Result<()> {
        // Where folders cannot be opened, their entries need no syncing.
        File::open(&self.folder).map_or(Ok(()), |folder| folder.sync_all())
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
