//! Files to live rules: check off to the side, open what is new, swap one pointer, let go of what is gone.
//!
//! A reload never drops a client or a row: sinks that did not change keep their queue and worker, changed ones keep
//! their queue, and those of removed rules get time to drain.

mod backfill;
mod bridge_status;
mod bridges;
mod companions;
mod filling;
mod initial_retained;
mod live;
pub(crate) mod queues;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use weir_rules::script::Scripts;
use weir_sinks::Connector;
use weir_sinks::bridge::Home;

pub use backfill::{BackfillError, Backfilled};
pub(crate) use bridge_status::{BridgeStatus, STATES};
pub use companions::{AccessFiles, Certificates, Companion};
pub use filling::Stopped;
pub use queues::{DropError, Leftover, Pile};
pub use report::{FileOutcome, ReloadReport};

use filling::{BeingFilled, Fate};
use live::OpenSink;
use report::{changed, outcomes, refused_files};

use crate::broker::Broker;
use crate::config::toml_file::{Outside, Process};
use crate::config::{Config, Policy, StartPolicy};
use crate::dead_letters::Letters;
use crate::pipeline::Pipeline;
use crate::pipeline::counters::RuleCounters;
use crate::problem::{Problem, Source};
use crate::project::check::{Checked, FileReport, Verdict, check};
use crate::project::files::{FileId, Files, Folders, LastGood, Scanned, write_whole};
use crate::store::Storage;

/// Where a project's files come from.
pub enum Project {
    /// Folders that are read at every reload.
    Folders(Folders),
    /// Files that are built in, with the values that they take from outside.
    BuiltIn(Files, Box<dyn Outside + Send + Sync>),
}

/// Keeps the live rules in step with the files.
pub struct Reloader {
    project: Project,
    last_good: Option<LastGood>,
    policy: Policy,
    start_policy: StartPolicy,
    max_rules: usize,
    data_dir: PathBuf,
    store_id: String,
    /// Where durable sinks keep their rows.
    storage: Option<Arc<dyn Storage>>,
    letters: Letters,
    /// The most bytes of dead letters that a sink keeps.
    letter_bytes: u64,
    oldest: queues::Oldest,
    pipeline: Arc<Pipeline>,
    /// Where bridges bring what they take from remotes, once it is known.
    home: OnceLock<Arc<dyn Home>>,
    /// The broker, once it is there.
    broker: OnceLock<Broker>,
    feeds: initial_retained::Feeds,
    companions: Mutex<Vec<Arc<dyn Companion>>>,
    /// One reload at a time; looked at by readers without waiting for one.
    state: Mutex<State>,
    turn: tokio::sync::Mutex<u64>,
    /// One backfill at a time; reloads go on meanwhile.
    filling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The files as they were at the last load, taken over or not.
    seen: Files,
    /// What became of them.
    reports: Vec<FileReport>,
    /// Files of companions that are bad.
    refused_beside: Vec<PathBuf>,
    /// What is live.
    checked: Checked,
    connectors: HashMap<String, (u64, Arc<Connector>)>,
    sinks: BTreeMap<(String, String), OpenSink>,
    /// Sinks of removed rules that still deliver what they have.
    draining: Vec<(OpenSink, tokio::task::JoinHandle<u64>)>,
    /// The next version of a rule, which gets messages of before.
    filling: Option<BeingFilled>,
    counters: HashMap<String, Arc<RuleCounters>>,
    totals: Totals,
}

/// How often files were loaded, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Reloads in which every file was good.
    pub ok: u64,
    /// Reloads in which at least one file was refused.
    pub with_refusals: u64,
}

impl Reloader {
    /// A reloader that has loaded nothing yet.
    pub fn new(
        project: Project,
        config: &Config,
        data_dir: &Path,
        pipeline: Arc<Pipeline>,
        storage: Option<Arc<dyn Storage>>,
    ) -> Self {
        // Built-in files are always good; keeping copies of them would say nothing.
        let last_good = matches!(project, Project::Folders(_)).then(|| LastGood::below(data_dir));
        Self {
            project,
            last_good,
            policy: config.rules.policy,
            start_policy: config.rules.start_policy,
            max_rules: config.rules.max_rules,
            data_dir: data_dir.to_path_buf(),
            store_id: store_id(data_dir),
            letters: Letters::new(storage.clone()),
            letter_bytes: config.dead_letter.max_bytes.bytes() as u64,
            oldest: queues::Oldest::default(),
            storage,
            pipeline,
            home: OnceLock::new(),
            broker: OnceLock::new(),
            feeds: initial_retained::Feeds::default(),
            companions: Mutex::default(),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::new(0),
            filling: tokio::sync::Mutex::default(),
        }
    }

    /// The dead letters of its sinks.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// Whether there are files that can change.
    pub fn has_folders(&self) -> bool {
        matches!(self.project, Project::Folders(_))
    }

    /// Loads something else with the rules from now on.
    pub fn accompany(&self, companion: Arc<dyn Companion>) {
        self.companions.lock().push(companion);
    }

    fn companions(&self) -> Vec<Arc<dyn Companion>> {
        self.companions.lock().clone()
    }

    /// The folders and files to watch.
    pub fn folders(&self) -> Vec<PathBuf> {
        let beside = self.companions();
        let mut folders = match &self.project {
            Project::Folders(folders) => folders.all().map(Path::to_path_buf).to_vec(),
            Project::BuiltIn(..) => Vec::new(),
        };
        folders.extend(beside.iter().flat_map(|companion| companion.files()));
        folders
    }

    /// Loads when a file's text is not what it was at the last load.
    pub async fn reload_if_changed(&self) -> Option<ReloadReport> {
        let last_good = self
            .last_good
            .as_ref()
            .map(LastGood::read)
            .unwrap_or_default();
        let files = self.read(&last_good).files;
        let changed = changed(&self.state.lock().seen, &files);
        let beside = self.companions();
        if changed.is_empty() && !beside.iter().any(|companion| companion.has_changed()) {
            None
        } else {
            Some(self.reload(false).await)
        }
    }

    /// Loads the files; with `dry_run` only says what that would do.
    pub async fn reload(&self, dry_run: bool) -> ReloadReport {
        let mut turn = self.turn.lock().await;
        self.load(&mut turn, dry_run, None, &mut |apply| apply())
    }

    /// The same for whoever has the turn; `over` is a file that is going to be there, or to be another, and `around` is
    /// given what makes the new rules the live ones.
    fn load(
        &self,
        turn: &mut u64,
        dry_run: bool,
        over: Option<(&FileId, &Source)>,
        around: &mut dyn FnMut(&mut dyn FnMut()),
    ) -> ReloadReport {
        let started = Instant::now();
        let first = *turn == 0;
        let last_good = match &self.last_good {
            Some(_) if first && self.start_policy == StartPolicy::SkipBad => Files::default(),
            Some(last_good) => last_good.read(),
            None => Files::default(),
        };
        let mut scanned = self.read(&last_good);
        let fate = match over {
            Some(_) => Fate::IsLive,
            None => self.fate_of_filling(&scanned.files, &last_good),
        };
        let waits = match &fate {
            Fate::IsLive if over.is_none() => self.waits_for_its_file(),
            _ => None,
        };
        let waits = waits.as_ref().map(|(file, source)| (file, source));
        if let Some((file, source)) = over.or(waits) {
            scanned.files.0.insert(file.clone(), source.clone());
            scanned.unreadable.remove(file);
        }
        let files = scanned.files;
        let before = self.state.lock().checked.clone();
        let mut checked = match &self.project {
            Project::Folders(_) => check(&files, &last_good, Some(&before), &Process),
            Project::BuiltIn(_, outside) => check(&files, &last_good, Some(&before), &**outside),
        };
        self.limit_rules(&mut checked);
        note_unreadable(&mut checked, scanned.unreadable);
        let changed = changed(&self.state.lock().seen, &files);
        let beside: Vec<FileOutcome> = self
            .companions()
            .iter()
            .flat_map(|companion| companion.reload(dry_run))
            .collect();
        let refused_beside: Vec<PathBuf> = refused_files(&beside).cloned().collect();
        let refused = checked.refused() + scanned.problems.len();
        let strict = first && self.start_policy == StartPolicy::Strict;
        let whole = strict || (self.policy == Policy::AllOrNothing && !first);
        let apply = !dry_run && (refused == 0 || !whole);
        let (mut failed, mut applied) = (Vec::new(), false);
        if apply {
            let mut fate = Some(fate);
            around(&mut || {
                failed = self.apply(&mut checked, fate.take().unwrap_or_default());
                applied = true;
            });
        }
        let apply = applied;
        let mut outcomes = outcomes(&checked, &changed, apply || dry_run);
        outcomes.extend(failed);
        outcomes.extend(scanned.problems.into_iter().map(|problem| FileOutcome {
            path: problem.file.clone(),
            outcome: "refused",
            detail: "not readable".to_owned(),
            diagnostics: vec![problem],
        }));
        if !dry_run {
            if apply {
                self.keep(&checked, &files);
            }
            let mut state = self.state.lock();
            state.seen = files;
            state.reports.clone_from(&checked.reports);
            if apply {
                state.checked = checked;
            }
            let all_good = refused == 0 && refused_beside.is_empty();
            state.refused_beside = refused_beside;
            if all_good {
                state.totals.ok += 1;
            } else {
                state.totals.with_refusals += 1;
            }
        }
        *turn += 1;
        let applied_beside = beside.iter().filter(|file| file.outcome == "ok").count();
        let changed_beside = beside.len();
        outcomes.extend(beside);
        let bad: BTreeSet<PathBuf> = refused_files(&outcomes).cloned().collect();
        let mut report = ReloadReport {
            v: 1,
            generation: *turn,
            changed: changed.len() + changed_beside,
            applied: if apply {
                changed
                    .iter()
                    .filter(|(_, path)| !bad.contains(path))
                    .count()
            } else {
                0
            } + if dry_run { 0 } else { applied_beside },
            refused: bad.len(),
            dry_run,
            millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            files: outcomes,
            text: String::new(),
        };
        report.text = report.to_text();
        report
    }

    fn read(&self, last_good: &Files) -> Scanned {
        match &self.project {
            Project::Folders(folders) => folders.scan_over(last_good),
            Project::BuiltIn(files, _) => Scanned {
                files: files.clone(),
                unreadable: BTreeMap::new(),
                problems: Vec::new(),
            },
        }
    }

    fn limit_rules(&self, checked: &mut Checked) {
        let over: Vec<String> = checked.rules.keys().skip(self.max_rules).cloned().collect();
        for id in over {
            let Some(rule) = checked.rules.remove(&id) else {
                continue;
            };
            let problem = Problem::whole(
                &rule.source.path,
                "E1012",
                format!(
                    "there are more than rules.max_rules = {} rules",
                    self.max_rules
                ),
            );
            if let Some(report) = checked
                .reports
                .iter_mut()
                .find(|report| report.file == FileId::rule(&id))
            {
                report.verdict = Verdict::Refused;
                report.problems.push(problem);
            }
        }
    }

    fn keep(&self, checked: &Checked, present: &Files) {
        if let Some(last_good) = &self.last_good
            && let Err(error) = last_good.keep(&checked.good, present)
        {
            tracing::error!(%error, "the last good versions could not be kept; a broken file would be left out after a restart");
        }
    }

    /// The files whose last good version runs, or that are left out.
    pub fn stale(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let bad = state
            .reports
            .iter()
            .filter(|report| report.verdict != Verdict::Ok);
        bad.map(|report| report.path.clone())
            .chain(state.refused_beside.iter().cloned())
            .collect()
    }

    /// The user functions that are live.
    pub fn scripts(&self) -> Arc<Scripts> {
        Arc::clone(&self.state.lock().checked.scripts)
    }

    /// How often files were loaded.
    pub fn totals(&self) -> Totals {
        self.state.lock().totals
    }
}

/// Marks the files that cannot be read: what stands in for one is not the file.
fn note_unreadable(checked: &mut Checked, unreadable: BTreeMap<FileId, Problem>) {
    for (file, problem) in unreadable {
        match checked
            .reports
            .iter_mut()
            .find(|report| report.file == file)
        {
            Some(report) => {
                if report.verdict == Verdict::Ok {
                    report.verdict = Verdict::Stale;
                }
                report.problems.insert(0, problem);
            }
            None => checked.reports.push(FileReport {
                file,
                path: problem.file.clone(),
                verdict: Verdict::Refused,
                summary: String::new(),
                problems: vec![problem],
            }),
        }
    }
}

/// The name of this data folder in the databases that sinks write to: random, made once.
pub(crate) fn store_id(data_dir: &Path) -> String {
    let path = data_dir.join("store_id");
    if let Ok(kept) = std::fs::read_to_string(&path) {
        let kept = kept.trim();
        if !kept.is_empty() {
            return kept.to_owned();
        }
    }
    let fresh = format!("{:032x}", rand::random::<u128>());
    if let Err(error) = write_whole(&path, fresh.as_bytes()) {
        tracing::warn!(%error, "the store id could not be kept; positions in databases start over at the next start");
    }
    fresh
}
