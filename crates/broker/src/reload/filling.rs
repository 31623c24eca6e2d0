//! A version of a rule that gets messages of before, as reloads see it: they go on meanwhile, and stop it where they change
//! what it began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::sync::Notify;

use super::live::{OpenSink, Whose};
use super::{Reloader, State};
use crate::config::toml_file::Process;
use crate::problem::{Problem, Source};
use crate::project::check::{Checked, CheckedConnector, CheckedRule, Verdict, check};
use crate::project::files::{FileId, Files, Kind};

/// Why a backfill was stopped before its rule was live.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Stopped {
    /// Another text stands in the rule's file, or one where there was none.
    #[error("the file of the rule was changed meanwhile")]
    Changed,
    /// The file is gone.
    #[error("the file of the rule was removed meanwhile")]
    Removed,
    /// The text of its statement or of one of its functions is another one.
    #[error("a statement or function that the rule uses was changed meanwhile")]
    Functions,
    /// With the other files as they are now it cannot be.
    #[error("files that the rule uses were changed meanwhile: {0}")]
    Refused(String),
    /// The broker ends.
    #[error("weir ends")]
    Ending,
}

/// Where a backfill hears that it is to stop.
#[derive(Default)]
pub(super) struct Stop {
    /// Held while rows are made and handed to the store: once it says why, there are no more.
    why: Mutex<Option<Stopped>>,
    said: Notify,
}

impl Stop {
    fn say(&self, why: Stopped) {
        self.why.lock().get_or_insert(why);
        self.said.notify_one();
    }

    /// Nothing stops it as long as this is held.
    ///
    /// # Errors
    /// Why it is to stop.
    pub(super) fn not_yet(&self) -> Result<MutexGuard<'_, Option<Stopped>>, Stopped> {
        let why = self.why.lock();
        match &*why {
            Some(why) => Err(why.clone()),
            None => Ok(why),
        }
    }

    /// Resolves when it is to stop.
    pub(super) async fn heard(&self) -> Stopped {
        loop {
            if let Err(why) = self.not_yet() {
                return why;
            }
            // What is said in between is kept for whoever asks next.
            self.said.notified().await;
        }
    }
}

/// A version of a rule with open sinks that is not live yet.
pub(super) struct BeingFilled {
    file: FileId,
    source: Source,
    /// What stood in its place when it began.
    before: Option<Source>,
    sql: String,
    /// The functions that its statement may use.
    functions: Vec<(String, Arc<str>)>,
    pub(super) sinks: BTreeMap<(String, String), OpenSink>,
    /// It is live, and its file is not in its place yet.
    pub(super) is_live: bool,
    pub(super) stop: Arc<Stop>,
}

impl BeingFilled {
    /// `files`: without it.
    pub(super) fn new(
        rule: &CheckedRule,
        source: Source,
        files: &Files,
        sinks: BTreeMap<(String, String), OpenSink>,
    ) -> Self {
        let file = FileId::rule(&rule.id);
        Self {
            before: files.get(&file).cloned(),
            file,
            source,
            sql: rule.sql.text.clone(),
            functions: functions(files, &rule.sql.text),
            sinks,
            is_live: false,
            stop: Arc::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.file.id
    }

    /// Whether the rule's own file is another one than it was.
    fn own_change(&self, files: &Files) -> Option<Stopped> {
        let now = files.get(&self.file).map(|source| &source.text);
        if now == self.before.as_ref().map(|source| &source.text) {
            return None;
        }
        Some(now.map_or(Stopped::Removed, |_| Stopped::Changed))
    }
}

/// The texts that a statement may take functions from.
fn functions(files: &Files, sql: &str) -> Vec<(String, Arc<str>)> {
    let scripts = files.of(Kind::Script);
    // Names of functions have no case, those of scripts are in lower case.
    let sql = sql.to_lowercase();
    scripts
        .filter(|(name, _)| sql.contains(&format!("{name}.")))
        .map(|(name, source)| (name.to_owned(), Arc::clone(&source.text)))
        .collect()
}

/// The next version of a rule among the files of now.
pub(super) struct Next {
    pub(super) rule: CheckedRule,
    pub(super) connectors: BTreeMap<String, CheckedConnector>,
}

/// What a load means for the version that is being filled.
#[derive(Default)]
pub(super) enum Fate {
    /// There is none.
    #[default]
    None,
    /// It goes live, or is.
    IsLive,
    /// It cannot go on.
    Stops(Stopped),
    /// It goes on.
    GoesOn(Box<Next>),
}

impl Reloader {
    /// What the version that is being filled has to do with files as they are now.
    pub(super) fn fate_of_filling(&self, files: &Files, last_good: &Files) -> Fate {
        let (id, source, sql, known) = {
            let state = self.state.lock();
            let Some(next) = &state.filling else {
                return Fate::None;
            };
            if let Some(why) = next.own_change(files) {
                return Fate::Stops(why);
            }
            if next.is_live {
                return Fate::IsLive;
            }
            let id = next.id().to_owned();
            (
                id,
                next.source.clone(),
                next.sql.clone(),
                next.functions.clone(),
            )
        };
        if functions(files, &sql) != known {
            return Fate::Stops(Stopped::Functions);
        }
        match self.next_version(files, last_good, &id, &source) {
            Ok((_, rule)) if rule.sql.text != sql => Fate::Stops(Stopped::Functions),
            Ok((checked, rule)) => Fate::GoesOn(Box::new(Next {
                rule,
                connectors: checked.connectors,
            })),
            Err(problems) => {
                let first = problems.iter().find(|problem| problem.is_error());
                let why = first.map_or_else(String::new, |problem| problem.message.clone());
                Fate::Stops(Stopped::Refused(why))
            }
        }
    }

    /// A rule that is live while its file is not in its place yet.
    pub(super) fn waits_for_its_file(&self) -> Option<(FileId, Source)> {
        let state = self.state.lock();
        let next = state.filling.as_ref().filter(|next| next.is_live)?;
        Some((next.file.clone(), next.source.clone()))
    }

    /// Why the version that is being filled must not take the place of its file, if so.
    pub(super) fn change_of_filled(&self, last_good: &Files) -> Option<Stopped> {
        let files = self.read(last_good).files;
        self.state.lock().filling.as_ref()?.own_change(&files)
    }

    /// The rule `id` with another text among `files`, and everything around it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn next_version(
        &self,
        files: &Files,
        last_good: &Files,
        id: &str,
        source: &Source,
    ) -> Result<(Checked, CheckedRule), Vec<Problem>> {
        let file = FileId::rule(id);
        let mut files = files.clone();
        files.0.insert(file.clone(), source.clone());
        // No last good version stands in for this one.
        let mut others = last_good.clone();
        others.0.remove(&file);
        let before = self.state.lock().checked.clone();
        let checked = check(&files, &others, Some(&before), &Process);
        let report = checked.reports.iter().find(|report| report.file == file);
        let is_bad = report.is_some_and(|report| report.verdict != Verdict::Ok);
        match checked.rules.get(id).filter(|_| !is_bad) {
            Some(rule) => {
                let rule = rule.clone();
                Ok((checked, rule))
            }
            None => Err(report.map_or_else(Vec::new, |report| report.problems.clone())),
        }
    }
}

impl State {
    /// For which version of a rule its sinks are opened.
    pub(super) fn whose(&self, id: &str, next_is_live: bool) -> Whose {
        let is_next = |next: &BeingFilled| next_is_live && next.id() == id;
        if self.filling.as_ref().is_some_and(is_next) {
            Whose::Next
        } else {
            Whose::Live
        }
    }

    /// Whether a rule, or the next version of one, has the sink.
    pub(super) fn has_sink(&self, rule: &str, sink: &str) -> bool {
        let key = (rule.to_owned(), sink.to_owned());
        let filled = |next: &BeingFilled| next.sinks.contains_key(&key);
        self.sinks.contains_key(&key) || self.filling.as_ref().is_some_and(filled)
    }

    /// The sink of the next version, where it keeps its rows in the same place.
    pub(super) fn filled_sink(&self, key: &(String, String), durable: bool) -> Option<&OpenSink> {
        let filled = self.filling.as_ref()?.sinks.get(key)?;
        (filled.handle.is_durable() == durable).then_some(filled)
    }

    /// Whether the next version of a rule has this very sink.
    pub(super) fn is_filled(&self, sink: &OpenSink) -> bool {
        let mut filled = self.filling.iter().flat_map(|next| next.sinks.values());
        filled.any(|filled| filled.handle.is_same(&sink.handle))
    }

    /// The sinks that the next version of a rule alone has.
    pub(super) fn filled_alone(&self) -> impl Iterator<Item = &OpenSink> {
        let filled = self.filling.iter().flat_map(|next| next.sinks.values());
        filled.filter(|sink| !self.is_live(sink))
    }

    /// Stops what is being filled, if something is: no more of its rows are made, those that were made go out.
    pub(super) fn stop_filling(&mut self, why: Stopped) {
        if let Some(next) = &self.filling {
            next.stop.say(why);
        }
        self.end_filling();
    }

    /// The sinks of the version that was being filled are those of the rule that is live, to be kept, changed or let go
    /// by the next load.
    pub(super) fn end_filling(&mut self) {
        let Some(next) = self.filling.take() else {
            return;
        };
        for (key, open) in next.sinks {
            match self.sinks.get(&key) {
                Some(live) if live.handle.is_same(&open.handle) => {}
                Some(_) => self.let_go(open),
                None => drop(self.sinks.insert(key, open)),
            }
        }
    }
}
