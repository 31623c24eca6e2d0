//! Files to live rules: check off to the side, open what is new, swap one pointer, let go of what is gone.
//!
//! A reload never drops a client or a row: sinks that did not change keep their queue and worker, changed ones keep
//! their queue, and those of removed rules get time to drain.

mod companions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use weir_sinks::{Connector, ConsoleOutput, LinkState, SinkHandle, SinkSpec};

pub use companions::{AccessFiles, Certificates, Companion};

use crate::config::toml_file::{Outside, Process};
use crate::config::{Config, Policy, StartPolicy};
use crate::pipeline::counters::RuleCounters;
use crate::pipeline::{LiveRule, LiveSink, Pipeline, Target};
use crate::problem::Problem;
use crate::project::check::{Checked, CheckedRule, CheckedSink, FileReport, Verdict, check};
use crate::project::files::{FileId, Files, Folders, Kind, LastGood, Scanned, write_whole};

/// How long the sinks of a removed rule may take to deliver what they have.
const DRAIN: Duration = Duration::from_secs(30);
/// An evaluation that began on the old rules ends well within this; only then are their sinks closed.
const IN_FLIGHT: Duration = Duration::from_secs(1);

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
    pipeline: Arc<Pipeline>,
    companions: Mutex<Vec<Arc<dyn Companion>>>,
    /// One reload at a time; looked at by readers without waiting for one.
    state: Mutex<State>,
    turn: tokio::sync::Mutex<u64>,
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
    counters: HashMap<String, Arc<RuleCounters>>,
    totals: Totals,
}

struct OpenSink {
    fingerprint: u64,
    kind: &'static str,
    handle: SinkHandle,
}

/// How often files were loaded, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Reloads in which every file was good.
    pub ok: u64,
    /// Reloads in which at least one file was refused.
    pub with_refusals: u64,
}

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

    fn to_text(&self) -> String {
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

impl Reloader {
    /// A reloader that has loaded nothing yet.
    pub fn new(
        project: Project,
        config: &Config,
        data_dir: &Path,
        pipeline: Arc<Pipeline>,
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
            pipeline,
            companions: Mutex::default(),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::new(0),
        }
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
        let started = Instant::now();
        let first = *turn == 0;
        let last_good = match &self.last_good {
            Some(_) if first && self.start_policy == StartPolicy::SkipBad => Files::default(),
            Some(last_good) => last_good.read(),
            None => Files::default(),
        };
        let scanned = self.read(&last_good);
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
        let failed = if apply {
            self.apply(&mut checked)
        } else {
            Vec::new()
        };
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

    /// Opens what is new, swaps the live rules, lets go of what is gone. Returns what could not be opened.
    fn apply(&self, checked: &mut Checked) -> Vec<FileOutcome> {
        let mut failed = Vec::new();
        let mut state = self.state.lock();
        let connectors = self.open_connectors(checked, &state, &mut failed);
        let mut sinks = BTreeMap::new();
        let mut live = Vec::new();
        let rules: Vec<CheckedRule> = checked
            .rules
            .values()
            .filter(|rule| rule.enabled)
            .cloned()
            .collect();
        for rule in &rules {
            match self.live_rule(rule, &connectors, &mut state, &mut sinks) {
                Ok(rule) => live.push(rule),
                Err((sink, error)) => {
                    // As a whole: a rule without one of its sinks would acknowledge what it does not keep.
                    let before = self.pipeline.rule(&rule.id);
                    self.refuse(checked, rule, &sink, &error, before.is_some());
                    if let Some(before) = before {
                        keep_open(&before, &state, &mut sinks);
                        live.push(before);
                    }
                }
            }
        }
        self.pipeline.swap(live);
        let gone: Vec<OpenSink> = std::mem::take(&mut state.sinks)
            .into_iter()
            .filter(|(key, _)| !sinks.contains_key(key))
            .map(|(_, sink)| sink)
            .collect();
        state.sinks = sinks;
        state.connectors = connectors;
        let rules = &checked.rules;
        state.counters.retain(|id, _| rules.contains_key(id));
        state.draining.retain(|(_, drain)| !drain.is_finished());
        for sink in gone {
            let drain = tokio::spawn(drained(sink.handle.clone()));
            state.draining.push((sink, drain));
        }
        failed
    }

    fn live_rule(
        &self,
        rule: &CheckedRule,
        connectors: &HashMap<String, (u64, Arc<Connector>)>,
        state: &mut State,
        sinks: &mut BTreeMap<(String, String), OpenSink>,
    ) -> Result<Arc<LiveRule>, (Arc<str>, weir_sinks::SinkError)> {
        let counters = Arc::clone(state.counters.entry(rule.id.to_string()).or_default());
        let mut opened = BTreeMap::new();
        let mut targets = Vec::new();
        for sink in rule.sinks.iter().filter(|sink| sink.plan.enabled) {
            let target = self
                .target(rule, sink, connectors, state, &mut opened)
                .map_err(|error| (Arc::clone(&sink.id), error))?;
            targets.push(LiveSink {
                id: Arc::clone(&sink.id),
                target,
            });
        }
        sinks.extend(opened);
        Ok(Arc::new(LiveRule {
            id: Arc::clone(&rule.id),
            rule: Arc::clone(&rule.rule),
            sinks: targets,
            counters,
            on_error: rule.on_error,
        }))
    }

    /// Marks a rule whose sink cannot be opened.
    fn refuse(
        &self,
        checked: &mut Checked,
        rule: &CheckedRule,
        sink: &str,
        error: &weir_sinks::SinkError,
        stands_in: bool,
    ) {
        let message = format!("the sink `{sink}` cannot be opened: {error}");
        let problem = Problem::whole(&rule.source.path, error.code(), message);
        let file = FileId::rule(&rule.id);
        if let Some(report) = checked
            .reports
            .iter_mut()
            .find(|report| report.file == file)
        {
            report.verdict = if stands_in {
                Verdict::Stale
            } else {
                Verdict::Refused
            };
            report.problems.insert(0, problem);
        }
        // The copy of the version before stays; what is live of it stays too.
        checked.good.0.remove(&file);
        if !stands_in {
            checked.rules.remove(&*rule.id);
        }
    }

    fn open_connectors(
        &self,
        checked: &Checked,
        state: &State,
        failed: &mut Vec<FileOutcome>,
    ) -> HashMap<String, (u64, Arc<Connector>)> {
        let used: BTreeSet<&str> = checked
            .rules
            .values()
            .filter(|rule| rule.enabled)
            .flat_map(|rule| rule.sinks.iter().filter(|sink| sink.plan.enabled))
            .filter_map(|sink| sink.plan.connector.as_deref())
            .collect();
        let mut open = HashMap::new();
        for name in used {
            let Some(connector) = checked.connectors.get(name) else {
                continue;
            };
            if let Some((fingerprint, kept)) = state.connectors.get(name)
                && *fingerprint == connector.fingerprint
            {
                open.insert(name.to_owned(), (*fingerprint, Arc::clone(kept)));
                continue;
            }
            match Connector::open(name, &connector.config, Path::new(".")) {
                Ok(opened) => {
                    open.insert(name.to_owned(), (connector.fingerprint, opened));
                }
                Err(error) => {
                    let path = checked
                        .good
                        .get(&FileId::connector(name))
                        .map_or_else(PathBuf::new, |source| source.path.clone());
                    failed.push(FileOutcome {
                        path: path.clone(),
                        outcome: "refused",
                        detail: "it could not be opened".to_owned(),
                        diagnostics: vec![Problem::whole(path, error.code(), error.to_string())],
                    });
                    if let Some(kept) = state.connectors.get(name) {
                        open.insert(name.to_owned(), kept.clone());
                    }
                }
            }
        }
        open
    }

    fn target(
        &self,
        rule: &CheckedRule,
        sink: &CheckedSink,
        connectors: &HashMap<String, (u64, Arc<Connector>)>,
        state: &State,
        sinks: &mut BTreeMap<(String, String), OpenSink>,
    ) -> Result<Target, weir_sinks::SinkError> {
        if matches!(sink.plan.target, weir_sinks::plan::Target::Republish(_)) {
            return Ok(Target::Republish(Arc::clone(&sink.plan)));
        }
        let key = (rule.id.to_string(), sink.id.to_string());
        let spec = || SinkSpec {
            rule_id: rule.id.to_string(),
            sink_id: sink.id.to_string(),
            plan: (*sink.plan).clone(),
            connector: sink
                .plan
                .connector
                .as_ref()
                .and_then(|name| connectors.get(name))
                .map(|(_, connector)| Arc::clone(connector)),
            data_dir: self.data_dir.clone(),
            store_id: self.store_id.clone(),
            console: ConsoleOutput::stdout(),
        };
        let handle = match state.sinks.get(&key) {
            Some(open) if open.fingerprint == sink.fingerprint => open.handle.clone(),
            Some(open) => {
                open.handle.reconfigure(&spec())?;
                open.handle.clone()
            }
            None => weir_sinks::open(&spec())?,
        };
        sinks.insert(
            key,
            OpenSink {
                fingerprint: sink.fingerprint,
                kind: sink.plan.kind.name(),
                handle: handle.clone(),
            },
        );
        Ok(Target::Queue(handle))
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

    /// How often files were loaded.
    pub fn totals(&self) -> Totals {
        self.state.lock().totals
    }

    /// Every open sink with its type; those that drain are still open.
    pub fn open_sinks(&self) -> Vec<(&'static str, SinkHandle)> {
        let state = self.state.lock();
        let draining = state
            .draining
            .iter()
            .filter(|(_, drain)| !drain.is_finished())
            .map(|(sink, _)| sink);
        state
            .sinks
            .values()
            .chain(draining)
            .map(|sink| (sink.kind, sink.handle.clone()))
            .collect()
    }

    /// Every open connector.
    pub fn open_connectors_now(&self) -> Vec<Arc<Connector>> {
        self.state
            .lock()
            .connectors
            .values()
            .map(|(_, connector)| Arc::clone(connector))
            .collect()
    }

    /// The connectors that have no link now.
    pub fn connectors_down(&self) -> Vec<String> {
        let mut down: Vec<String> = self
            .open_connectors_now()
            .iter()
            .filter(|connector| {
                !matches!(
                    connector.state().link,
                    LinkState::Up | LinkState::Idle | LinkState::Connecting
                )
            })
            .map(|connector| connector.name().to_owned())
            .collect();
        down.sort();
        down
    }

    /// Every open connector for the HTTP side.
    pub fn connectors_json(&self) -> Vec<serde_json::Value> {
        self.open_connectors_now()
            .iter()
            .map(|connector| {
                let state = connector.state();
                json!({
                    "name": connector.name(), "type": connector.kind(), "state": state.link.name(), "since_ms": state.since_ms,
                    "last_ok_ms": state.last_ok_ms, "next_try_ms": state.next_try_ms,
                    "last_error": state.last_error.map(|last| json!({
                        "code": last.error.code(), "detail": last.error.to_string(), "at_ms": last.at_ms,
                    })),
                })
            })
            .collect()
    }

    /// Every open sink for the HTTP side.
    pub fn sinks_json(&self) -> Vec<serde_json::Value> {
        self.open_sinks()
            .iter()
            .map(|(kind, sink)| {
                let counters = sink.counters();
                json!({
                    "rule": sink.rule_id(), "sink": sink.sink_id(), "type": kind, "state": sink.state().name(),
                    "rows_in": counters.rows_in, "delivered": counters.delivered, "dropped": counters.dropped,
                    "dead_lettered": counters.dead_lettered, "retries": counters.retries,
                    "buffer_rows": counters.buffered_rows, "buffer_bytes": counters.buffered_bytes,
                    "inflight": counters.inflight_rows, "oldest_accepted_at_ms": counters.oldest_accepted_at_ms,
                    "last_error": sink.last_error().map(|last| json!({
                        "code": last.error.code(), "detail": last.error.to_string(), "at_ms": last.at_ms,
                    })),
                })
            })
            .collect()
    }

    /// Ends every sink; returns how many rows went to the dead letters or were lost because time ran out.
    pub async fn close(&self, within: Duration) -> u64 {
        let (sinks, draining) = {
            let mut state = self.state.lock();
            (
                std::mem::take(&mut state.sinks),
                std::mem::take(&mut state.draining),
            )
        };
        let mut drains: Vec<_> = draining.into_iter().map(|(_, drain)| drain).collect();
        drains.extend(sinks.into_values().map(|sink| {
            tokio::spawn(async move {
                let drained = sink.handle.drain(within).await;
                drained.dead_lettered + drained.lost
            })
        }));
        let mut left = 0;
        for drain in drains {
            left += drain.await.unwrap_or(0);
        }
        self.state.lock().connectors.clear();
        left
    }
}

/// Lets the sink of a removed rule deliver what it has; returns how many rows it could not.
async fn drained(handle: SinkHandle) -> u64 {
    tokio::time::sleep(IN_FLIGHT).await;
    let drained = handle.drain(DRAIN).await;
    tracing::info!(
        rule = handle.rule_id(),
        sink = handle.sink_id(),
        dead_lettered = drained.dead_lettered,
        lost = drained.lost,
        "the sink of a removed rule has ended"
    );
    drained.dead_lettered + drained.lost
}

/// Carries the open sinks of a rule that goes on as it is.
fn keep_open(rule: &LiveRule, state: &State, sinks: &mut BTreeMap<(String, String), OpenSink>) {
    for sink in &rule.sinks {
        let key = (rule.id.to_string(), sink.id.to_string());
        if let Some(open) = state.sinks.get(&key) {
            let open = OpenSink {
                fingerprint: open.fingerprint,
                kind: open.kind,
                handle: open.handle.clone(),
            };
            sinks.insert(key, open);
        }
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

/// The files that are bad.
fn refused_files(outcomes: &[FileOutcome]) -> impl Iterator<Item = &PathBuf> {
    let bad = outcomes.iter().filter(|file| file.outcome == "refused");
    bad.map(|file| &file.path)
}

/// The files whose text differs, with their paths.
fn changed(before: &Files, now: &Files) -> Vec<(FileId, PathBuf)> {
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

fn outcomes(checked: &Checked, changed: &[(FileId, PathBuf)], applied: bool) -> Vec<FileOutcome> {
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

/// The name of this data folder in the databases that sinks write to: random, made once.
fn store_id(data_dir: &Path) -> String {
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
