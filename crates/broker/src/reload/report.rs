//! What a reload did, file by file, for people and for programs.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::live::DRAIN;
use crate::problem::Problem;
use crate::project::check::{Checked, Verdict};
use crate::project::files::{FileId, Files, Kind};

/// What a reload did.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadReport {
    /// The version of this document.
    pub v: u32,
    /// Counts the reloads of this process.
    pub generation: u64,
    /// How many files differ from the reload before.
    pub changed: usize,
    /// How many of those were taken over.
    pub applied: usize,
    /// How many files are bad.
    pub refused: usize,
    /// Whether nothing was taken over because this was only a check.
    pub dry_run: bool,
    /// How long it took.
    pub millis: u64,
    /// Every file that changed or is bad.
    pub files: Vec<FileOutcome>,
    /// All of it as people read it.
    pub text: String,
}

/// What a reload did with one file.
#[derive(Clone, Debug, Serialize)]
pub struct FileOutcome {
    /// The file.
    pub path: PathBuf,
    /// `ok`, `refused`, `removed` or `unchanged`.
    pub outcome: &'static str,
    /// One line for people.
    pub detail: String,
    /// What is wrong with it.
    pub diagnostics: Vec<Problem>,
}

impl ReloadReport {
    /// Every problem of every file.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.files.iter().flat_map(|file| &file.diagnostics)
    }

    /// Writes the outcome to the log.
    pub fn log(&self) {
        tracing::info!(
            generation = self.generation,
            changed = self.changed,
            applied = self.applied,
            refused = self.refused,
            millis = self.millis,
            "files loaded"
        );
        for file in &self.files {
            for problem in file.diagnostics.iter().filter(|problem| problem.is_error()) {
                tracing::error!(
                    file = %problem.place(),
                    code = problem.code,
                    "{} ({})\n{problem}",
                    problem.message,
                    file.detail
                );
            }
        }
    }

    pub(super) fn to_text(&self) -> String {
        let mut out = format!(
            "reload #{}   {} changed   {} applied   {} refused   {} ms{}\n",
            self.generation,
            self.changed,
            self.applied,
            self.refused,
            self.millis,
            if self.dry_run {
                "   (dry run: nothing was taken over)"
            } else {
                ""
            }
        );
        let places: Vec<String> = self.files.iter().map(FileOutcome::place).collect();
        let width = places.iter().map(String::len).max().unwrap_or(0);
        for (file, place) in self.files.iter().zip(&places) {
            // Writing into a String cannot fail.
            let _ = writeln!(
                out,
                "  {:<9}{place:<width$}   {}",
                file.outcome, file.detail
            );
        }
        for problem in self.problems() {
            let _ = writeln!(out, "{problem}");
        }
        out
    }
}

impl FileOutcome {
    fn place(&self) -> String {
        match self
            .diagnostics
            .iter()
            .find(|problem| problem.is_error() && problem.file == self.path)
        {
            Some(problem) => problem.place(),
            None => self.path.display().to_string(),
        }
    }
}

/// The files that are bad.
pub(super) fn refused_files(outcomes: &[FileOutcome]) -> impl Iterator<Item = &PathBuf> {
    let bad = outcomes.iter().filter(|file| file.outcome == "refused");
    bad.map(|file| &file.path)
}

/// The files whose text differs, with their paths.
pub(super) fn changed(before: &Files, now: &Files) -> Vec<(FileId, PathBuf)> {
    let mut changed: Vec<(FileId, PathBuf)> = now
        .0
        .iter()
        .filter(|(file, source)| before.get(file).is_none_or(|kept| kept.text != source.text))
        .map(|(file, source)| (file.clone(), source.path.clone()))
        .collect();
    changed.extend(
        before
            .0
            .iter()
            .filter(|(file, _)| !now.0.contains_key(file))
            .map(|(file, source)| (file.clone(), source.path.clone())),
    );
    changed
}

pub(super) fn outcomes(
    checked: &Checked,
    changed: &[(FileId, PathBuf)],
    applied: bool,
) -> Vec<FileOutcome> {
    let is_changed = |file: &FileId| changed.iter().any(|(changed, _)| changed == file);
    let mut outcomes: Vec<FileOutcome> = checked
        .reports
        .iter()
        .filter(|report| report.verdict != Verdict::Ok || is_changed(&report.file))
        .map(|report| {
            let (outcome, detail) = match report.verdict {
                Verdict::Ok if !applied => (
                    "unchanged",
                    "another file is bad and rules.policy is all_or_nothing".to_owned(),
                ),
                Verdict::Ok => ("ok", report.summary.clone()),
                Verdict::Stale => ("refused", "its last good version goes on".to_owned()),
                Verdict::Refused => ("refused", "left out".to_owned()),
            };
            FileOutcome {
                path: report.path.clone(),
                outcome,
                detail,
                diagnostics: report.problems.clone(),
            }
        })
        .collect();
    for (file, path) in changed {
        if !checked.reports.iter().any(|report| report.file == *file) && file.kind == Kind::Rule {
            outcomes.push(FileOutcome {
                path: path.clone(),
                outcome: "removed",
                detail: format!(
                    "its sinks have {} s to deliver what they have",
                    DRAIN.as_secs()
                ),
                diagnostics: Vec::new(),
            });
        }
    }
    outcomes
}
