//! What is read from files beside the rules and taken over with them: certificates, and who may do what.

use std::path::PathBuf;
use std::sync::Arc;

use super::FileOutcome;
use crate::broker::{Broker, Tls};
use crate::problem::shown;
use crate::project::live_file::{LiveFile, Looked};

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

/// Passwords, access lists, keys of tokens, the banned: each is taken or refused alone, whatever `rules.policy` says,
/// because a door is not to stay open until a rule is mended.
pub struct AccessFiles {
    /// The files.
    pub files: Vec<LiveFile>,
    /// Whose clients are held to what is taken over.
    pub broker: Broker,
}

impl Companion for AccessFiles {
    fn files(&self) -> Vec<PathBuf> {
        let paths = self.files.iter().map(LiveFile::path);
        paths.map(PathBuf::from).collect()
    }

    fn has_changed(&self) -> bool {
        self.files.iter().any(LiveFile::has_changed)
    }

    fn reload(&self, dry_run: bool) -> Vec<FileOutcome> {
        let mut outcomes = Vec::new();
        let mut taken = false;
        for file in &self.files {
            let Looked { changed, result } = file.look(!dry_run);
            let (outcome, detail, diagnostics) = match result {
                Ok(_) if !changed => continue,
                Ok(holds) => {
                    taken |= !dry_run;
                    ("ok", holds, Vec::new())
                }
                Err(problems) => (
                    "refused",
                    "what it held before goes on".to_owned(),
                    problems,
                ),
            };
            outcomes.push(FileOutcome {
                path: shown(file.path()),
                outcome,
                detail,
                diagnostics,
            });
        }
        if taken {
            self.broker.enforce_access();
        }
        outcomes
    }
}
