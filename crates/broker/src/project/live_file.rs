//! A file beside the rules that is read again while the broker runs: passwords, access lists, keys, the banned.
//!
//! Each is taken or refused alone; what a bad one held before goes on.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::config;
use crate::problem::{Problem, Source};

/// Reads a text and takes it over, or only looks whether it could; says in a few words what it holds.
type Take = Box<dyn Fn(&Source, bool) -> Result<String, Vec<Problem>> + Send + Sync>;

/// A file with what is to be done when it changes.
pub struct LiveFile {
    path: PathBuf,
    take: Take,
    /// A hash of the text that was looked at last; `None` when it could not be read. Not the text: it may hold secrets.
    seen: Mutex<Option<[u8; 32]>>,
}

/// What a look at the file gave.
pub struct Looked {
    /// Whether it differs from what it was at the last look.
    pub changed: bool,
    /// What it holds, or what is wrong with it.
    pub result: Result<String, Vec<Problem>>,
}

impl LiveFile {
    /// A file whose text is `source` now and has been taken.
    pub fn new(
        source: &Source,
        take: impl Fn(&Source, bool) -> Result<String, Vec<Problem>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            path: source.path.clone(),
            take: Box::new(take),
            seen: Mutex::new(Some(hash(source))),
        }
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its text is not what it was at the last look.
    pub fn has_changed(&self) -> bool {
        let read = config::read(&self.path).ok();
        *self.seen.lock() != read.as_ref().map(hash)
    }

    /// Reads it; a good one that changed is taken over if `apply`.
    pub fn look(&self, apply: bool) -> Looked {
        let read = config::read(&self.path);
        let text = read.as_ref().ok().map(hash);
        let mut seen = self.seen.lock();
        let changed = *seen != text;
        let result = read.and_then(|source| (self.take)(&source, apply && changed));
        if apply {
            *seen = text;
        }
        Looked { changed, result }
    }
}

fn hash(source: &Source) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(source.text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_change_is_taken_once_and_a_bad_one_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        std::fs::write(&path, "one").unwrap();
        let source = config::read(&path).unwrap();
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let takes = Arc::clone(&taken);
        let file = LiveFile::new(&source, move |source, apply| {
            if source.text.contains("bad") {
                return Err(vec![Problem::whole(&source.path, "E", "bad")]);
            }
            if apply {
                takes.lock().push(source.text.to_string());
            }
            Ok("fine".to_owned())
        });
        assert!(!file.has_changed());
        std::fs::write(&path, "two").unwrap();
        assert!(file.has_changed());
        let dry = file.look(false);
        assert!(dry.changed && dry.result.is_ok() && taken.lock().is_empty());
        assert!(file.look(true).changed && !file.look(true).changed);
        std::fs::write(&path, "bad").unwrap();
        assert!(file.look(true).result.is_err());
        // It is told at every look, and taken at none.
        assert!(!file.has_changed() && file.look(true).result.is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(file.has_changed() && file.look(true).result.is_err());
        assert_eq!(*taken.lock(), ["two"]);
    }
}
