//! What is read from files beside the rules and taken over with them: certificates.

use std::path::PathBuf;
use std::sync::Arc;

use super::FileOutcome;
use crate::broker::Tls;
use crate::problem::shown;

/// Files that are loaded together with the rules, each time that these are.
pub trait Companion: Send + Sync + 'static {
    /// The files to watch.
    fn files(&self) -> Vec<PathBuf>;

    /// Whether a file is not what it was when it was last taken over or refused.
    fn has_changed(&self) -> bool;

    /// Reads the files again and says what became of those that have changed and of those that are bad: what was
    /// good before goes on in their place. With `dry_run` nothing is taken over.
    fn reload(&self, dry_run: bool) -> Vec<FileOutcome>;
}

/// The certificates of every listener.
pub struct Certificates(pub Vec<Arc<Tls>>);

impl Companion for Certificates {
    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self
            .0
            .iter()
            .flat_map(|tls| tls.settings().files())
            .collect();
        files.sort();
        files.dedup();
        files
    }

    fn has_changed(&self) -> bool {
        self.0.iter().any(|tls| !tls.changed().is_empty())
    }

    fn reload(&self, dry_run: bool) -> Vec<FileOutcome> {
        let mut outcomes: Vec<FileOutcome> = Vec::new();
        for tls in &self.0 {
            let (place, changed) = (&tls.settings().place, tls.changed());
            match tls.reload(dry_run) {
                Ok(()) => outcomes.extend(changed.into_iter().map(|path| FileOutcome {
                    path: shown(&path),
                    outcome: "ok",
                    detail: format!("{place}: new connections use it"),
                    diagnostics: Vec::new(),
                })),
                Err(problem) => outcomes.push(FileOutcome {
                    path: problem.file.clone(),
                    outcome: "refused",
                    detail: format!("{place}: the certificates before it go on"),
                    diagnostics: vec![*problem],
                }),
            }
        }
        outcomes
    }
}
