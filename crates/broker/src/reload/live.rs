//! The connectors and sinks that are open: from one set of rules to the next, and what they say of themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weir_sinks::config::BufferKind;
use weir_sinks::dead_letter::LetterLog;
use weir_sinks::{Connector, ConsoleOutput, Prepared, RowLog, SinkHandle, SinkSpec, Standing};

use super::bridges::bridges_with_routes;
use super::filling::{Fate, Next, Stopped};
use super::queues::{QueueOf, letters_name, queue_name};
use super::report::FileOutcome;
use super::{Leftover, Reloader, State};
use crate::pipeline::world::now_ms;
use crate::pipeline::{LiveRule, LiveSink, Target};
use crate::problem::Problem;
use crate::project::check::{Checked, CheckedRule, CheckedSink, Verdict};
use crate::project::files::FileId;

/// How long the sinks of a removed rule may take to deliver what they have.
pub(super) const DRAIN: Duration = Duration::from_secs(30);
/// An evaluation that began on the old rules ends well within this; only then are their sinks closed.
pub(super) const IN_FLIGHT: Duration = Duration::from_secs(1);

/// Open sinks by rule and sink.
pub(super) type Sinks = BTreeMap<(String, String), OpenSink>;

#[derive(Clone)]
pub(super) struct OpenSink {
    /// Of the configuration that it has now. Where a version that is not live yet shares it, that is the one of that version.
    pub(super) fingerprint: u64,
    pub(super) kind: &'static str,
    pub(super) handle: SinkHandle,
}

/// The queues whose packet identifiers bridges keep.
#[derive(Default)]
struct LanesInUse {
    bridges: Vec<Arc<Connector>>,
    epochs: Vec<u64>,
}

impl LanesInUse {
    /// Bridges forget the queues that nobody fills and that are empty. Waits for files.
    fn give_back(self) {
        for connector in self.bridges {
            if let Err(error) = connector.keep_lanes(&self.epochs) {
                tracing::warn!(connector = connector.name(), %error, "it cannot be noted which packet identifiers of a bridge are free again");
            }
        }
    }
}

/// Which version of a rule a sink is opened for, where another one is being filled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The one that is live.
    Live,
    /// The one that is being filled.
    Next,
}

impl Reloader {
    /// Opens what is new, swaps the live rules, lets go of what is gone. Returns what could not be opened.
    pub(super) fn apply(&self, checked: &mut Checked, fate: Fate) -> Vec<FileOutcome> {
        let mut failed = Vec::new();
        let mut state = self.state.lock();
        let (mut goes_on, mut is_live) = (None, false);
        match fate {
            Fate::None => {}
            Fate::IsLive => is_live = true,
            // Before another version goes live: no row of before comes behind its rows.
            Fate::Stops(why) => state.stop_filling(why),
            Fate::GoesOn(next) => goes_on = Some(next),
        }
        let connectors = self.open_connectors(checked, goes_on.as_deref(), &state, &mut failed);
        let mut sinks = BTreeMap::new();
        let mut live = Vec::new();
        let rules: Vec<CheckedRule> = checked
            .rules
            .values()
            .filter(|rule| rule.enabled)
            .cloned()
            .collect();
        // The first sink of a bridge connects it.
        for plan in (rules.iter().flat_map(|rule| &rule.sinks)).map(|sink| &sink.plan) {
            let connector = plan
                .connector
                .as_ref()
                .and_then(|name| connectors.get(name));
            if let Some((_, connector)) = connector.filter(|_| plan.needs_session()) {
                connector.keep_session();
            }
        }
        for rule in &rules {
            let whose = state.whose(&rule.id, is_live);
            match self.live_rule(rule, whose, &connectors, &mut state, &mut sinks) {
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
        live.extend(self.crossings(&connectors, &state, &mut sinks, &mut failed));
        if let Some(next) = goes_on {
            self.go_on_filling(next.rule, &connectors, &mut state, &mut sinks);
        }
        if is_live && let Some(next) = &mut state.filling {
            configured_as(&sinks, &mut next.sinks);
        }
        self.pipeline.swap(live);
        let still_used = |key: &(String, String), sink: &OpenSink| {
            let used: Option<&OpenSink> = sinks.get(key);
            used.is_some_and(|used| used.handle.is_same(&sink.handle))
        };
        let gone: Vec<OpenSink> = std::mem::take(&mut state.sinks)
            .into_iter()
            .filter(|(key, sink)| !still_used(key, sink))
            .map(|(_, sink)| sink)
            .filter(|sink| !state.is_filled(sink))
            .collect();
        // A sink that is back goes on where it was.
        state.draining.retain(|(sink, drain)| {
            let back = sinks.values().any(|used| used.handle.is_same(&sink.handle));
            if back {
                drain.abort();
            }
            !back
        });
        state.sinks = sinks;
        let before = std::mem::replace(&mut state.connectors, connectors);
        self.take_turns(before, &state.connectors);
        let rules = &checked.rules;
        let filled = state.filling.as_ref().map(|next| next.id().to_owned());
        state
            .counters
            .retain(|id, _| rules.contains_key(id) || filled.as_ref() == Some(id));
        state.draining.retain(|(_, drain)| !drain.is_finished());
        for sink in gone {
            state.let_go(sink);
        }
        let lanes = self.lanes_in_use(&state);
        self.send_retained(&state);
        drop(state);
        lanes.give_back();
        self.bridges_changed();
        failed
    }

    /// The queues that are filled or hold rows, and the bridges that may forget the others. What is opened later is opened
    /// by a later load, and there is one at a time.
    fn lanes_in_use(&self, state: &State) -> LanesInUse {
        let none = LanesInUse::default();
        let Some(storage) = &self.storage else {
            return none;
        };
        let draining = |rule: &str, sink: &str| {
            let mut handles = state.draining.iter().map(|(open, _)| &open.handle);
            handles.any(|handle| (handle.rule_id(), handle.sink_id()) == (rule, sink))
        };
        let in_use = |name: &str, standing: &Standing| match QueueOf::of(name) {
            Some(QueueOf::Sink(rule, sink)) => {
                standing.rows > 0 || state.has_sink(rule, sink) || draining(rule, sink)
            }
            _ => false,
        };
        let bridges: Vec<_> = (state.connectors.values())
            .filter(|(_, connector)| connector.bridge_plan().is_some())
            .map(|(_, connector)| Arc::clone(connector))
            .collect();
        if bridges.is_empty() {
            return none;
        }
        let queues = storage.queues().into_iter();
        let epochs = queues
            .filter(|(name, standing)| in_use(name, standing))
            .filter_map(|(name, _)| Some(storage.rows(&name)?.epoch()))
            .collect();
        LanesInUse { bridges, epochs }
    }

    /// The next version of a rule goes on with what the files say now of everything else.
    fn go_on_filling(
        &self,
        rule: CheckedRule,
        connectors: &HashMap<String, (u64, Arc<Connector>)>,
        state: &mut State,
        live: &mut Sinks,
    ) {
        let mut sinks = BTreeMap::new();
        let opened = self.live_rule(&rule, Whose::Next, connectors, state, &mut sinks);
        match opened {
            Ok(_) => {
                configured_as(&sinks, live);
                if let Some(next) = &mut state.filling {
                    next.sinks = sinks;
                }
            }
            Err((sink, error)) => {
                let why = format!("its sink `{sink}` cannot be opened: {error}");
                state.stop_filling(Stopped::Refused(why));
            }
        }
    }

    pub(super) fn live_rule(
        &self,
        rule: &CheckedRule,
        whose: Whose,
        connectors: &HashMap<String, (u64, Arc<Connector>)>,
        state: &mut State,
        sinks: &mut BTreeMap<(String, String), OpenSink>,
    ) -> Result<Arc<LiveRule>, (Arc<str>, weir_sinks::SinkError)> {
        let counters = Arc::clone(state.counters.entry(rule.id.to_string()).or_default());
        let (mut opened, mut prepared) = (BTreeMap::new(), Vec::new());
        let mut targets = Vec::new();
        for sink in rule.sinks.iter().filter(|sink| sink.plan.enabled) {
            let id = Arc::clone(&sink.id);
            match self.target((rule, whose), sink, connectors, state, &mut opened) {
                Ok((target, change)) => {
                    prepared.extend(change);
                    let marks = LiveSink::marks(&sink.plan);
                    targets.push(LiveSink { id, target, marks });
                }
                Err(error) => {
                    // Their workers run already: unseen, each reload would start more of them on the same rows.
                    for sink in opened.into_values() {
                        if !state.is_live(&sink) && !state.is_filled(&sink) {
                            state.let_go(sink);
                        }
                    }
                    return Err((id, error));
                }
            }
        }
        // Only now that every sink is there: else the version before goes on, with its sinks as they were.
        prepared.into_iter().for_each(Prepared::install);
        sinks.extend(opened);
        Ok(Arc::new(LiveRule {
            id: Arc::clone(&rule.id),
            rule: Arc::clone(&rule.rule),
            sinks: targets,
            counters,
            on_error: rule.on_error,
            crossing: None,
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

    pub(super) fn open_connectors(
        &self,
        checked: &Checked,
        next: Option<&Next>,
        state: &State,
        failed: &mut Vec<FileOutcome>,
    ) -> HashMap<String, (u64, Arc<Connector>)> {
        let used: BTreeSet<&str> = checked
            .rules
            .values()
            .chain(next.map(|next| &next.rule))
            .filter(|rule| rule.enabled)
            .flat_map(|rule| rule.sinks.iter().filter(|sink| sink.plan.enabled))
            .filter_map(|sink| sink.plan.connector.as_deref())
            .chain(bridges_with_routes(checked))
            .collect();
        let mut open = HashMap::new();
        for name in used {
            let of_next = || next?.connectors.get(name);
            let Some(connector) = checked.connectors.get(name).or_else(of_next) else {
                continue;
            };
            if let Some((fingerprint, kept)) = state.connectors.get(name)
                && *fingerprint == connector.fingerprint
            {
                open.insert(name.to_owned(), (*fingerprint, Arc::clone(kept)));
                continue;
            }
            if let Some((_, kept)) = state.connectors.get(name)
                && kept.adopt(&connector.config)
            {
                open.insert(name.to_owned(), (connector.fingerprint, Arc::clone(kept)));
                continue;
            }
            let home = self.home.get().cloned();
            match Connector::open_at(name, &connector.config, Path::new("."), home) {
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

    /// Where the rows of a sink go; and what is to be installed for that, when an open one is to change.
    fn target(
        &self,
        (rule, whose): (&CheckedRule, Whose),
        sink: &CheckedSink,
        connectors: &HashMap<String, (u64, Arc<Connector>)>,
        state: &State,
        sinks: &mut BTreeMap<(String, String), OpenSink>,
    ) -> Result<(Target, Option<Prepared>), weir_sinks::SinkError> {
        if matches!(sink.plan.target, weir_sinks::plan::Target::Republish(_)) {
            return Ok((Target::Republish(Arc::clone(&sink.plan)), None));
        }
        let key = (rule.id.to_string(), sink.id.to_string());
        let rows = (sink.plan.buffer.kind == BufferKind::Disk)
            .then(|| self.rows_of(&rule.id, &sink.id))
            .flatten();
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
            rows: rows.clone(),
            letters: self.letters_of(&rule.id, &sink.id),
        };
        let filled = state.filled_sink(&key, rows.is_some());
        let open = match (filled, whose) {
            (Some(filled), Whose::Next) => Some(filled),
            _ => open_now(state, &key, rows.is_some()),
        };
        let (mut fingerprint, mut change) = (sink.fingerprint, None);
        let handle = match open {
            Some(open) if open.fingerprint == fingerprint => open.handle.clone(),
            // Its rows are those of the next version already.
            Some(open) if whose == Whose::Live && state.is_filled(open) => {
                fingerprint = open.fingerprint;
                open.handle.clone()
            }
            Some(open) => {
                change = Some(open.handle.prepare(&spec())?);
                open.handle.clone()
            }
            None => weir_sinks::open(&spec())?,
        };
        sinks.insert(
            key,
            OpenSink {
                fingerprint,
                kind: sink.plan.kind.name(),
                handle: handle.clone(),
            },
        );
        Ok((Target::Queue(handle), change))
    }

    /// Where the rows of a durable sink wait.
    pub(super) fn rows_of(&self, rule: &str, sink: &str) -> Option<Arc<dyn RowLog>> {
        self.storage.as_ref()?.rows(&queue_name(rule, sink))
    }

    /// Where its dead letters stand.
    pub(super) fn letters_of(&self, rule: &str, sink: &str) -> Option<LetterLog> {
        let storage = Arc::clone(self.storage.as_ref()?);
        let name = letters_name(rule, sink);
        Some(LetterLog::new(self.letter_bytes, move || {
            storage.rows(&name)
        }))
    }

    /// Every open sink with its type; those that drain are still open.
    pub fn open_sinks(&self) -> Vec<(&'static str, SinkHandle)> {
        let state = self.state.lock();
        let draining = state
            .draining
            .iter()
            .filter(|(_, drain)| !drain.is_finished())
            .map(|(sink, _)| sink);
        let filled = state.filled_alone();
        (state.sinks.values().chain(filled).chain(draining))
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

    /// The connectors that have no link now and should.
    pub fn connectors_down(&self) -> Vec<String> {
        let mut down: Vec<String> = self
            .open_connectors_now()
            .iter()
            .filter(|connector| connector.is_down())
            .map(|connector| connector.name().to_owned())
            .collect();
        down.sort();
        down
    }

    /// Every open connector for the HTTP side.
    pub fn connectors_json(&self) -> Vec<serde_json::Value> {
        let bridges = self.bridges();
        self.open_connectors_now()
            .iter()
            .map(|connector| {
                let state = connector.state();
                json!({
                    "name": connector.name(), "type": connector.kind(), "state": state.link.name(), "since_ms": state.since_ms,
                    "last_ok_ms": state.last_ok_ms, "next_try_ms": state.next_try_ms,
                    "refused_filters": state.refused_filters, "bridge": bridges.get(connector.name()),
                    "last_error": state.last_error.map(|last| json!({
                        "code": last.error.code(), "detail": last.error.to_string(), "at_ms": last.at_ms,
                    })),
                })
            })
            .collect()
    }

    /// The sink that a rule has now, or that its next version has.
    pub fn live_sink(&self, rule: &str, sink: &str) -> Option<SinkHandle> {
        let state = self.state.lock();
        let key = (rule.to_owned(), sink.to_owned());
        let filled = || state.filling.as_ref()?.sinks.get(&key);
        let open = state.sinks.get(&key).or_else(filled)?;
        Some(open.handle.clone())
    }

    /// Every sink for the HTTP side: those that are open, and those of which only rows are left. May wait for a file.
    pub fn sinks_json(&self) -> Vec<serde_json::Value> {
        let now = now_ms();
        let age_s = |at: Option<i64>| at.map(|at| (now - at).max(0) / 1000);
        let mut leftovers = self.leftovers();
        let letters: HashMap<_, _> = self
            .letter_piles()
            .into_iter()
            .map(|pile| ((pile.rule.clone(), pile.sink.clone()), pile))
            .collect();
        let mut sinks = Vec::new();
        for (kind, sink) in &self.open_sinks() {
            let counters = sink.counters();
            let key = (sink.rule_id().to_owned(), sink.sink_id().to_owned());
            let is_left = |left: &Leftover| (&*left.rule, &*left.sink) == (&*key.0, &*key.1);
            let leftover = self.live_sink(&key.0, &key.1).is_none();
            // It still delivers.
            leftovers.retain(|left| !(leftover && is_left(left)));
            let pile = letters.get(&key);
            sinks.push(json!({
                "rule": key.0, "sink": key.1, "type": kind, "state": sink.state().name(),
                "leftover": leftover, "circuit": sink.circuit().name(),
                "rows_in": counters.rows_in, "delivered": counters.delivered, "dropped": counters.dropped,
                "dead_lettered": counters.dead_lettered, "retries": counters.retries,
                "buffer_rows": counters.buffered_rows, "buffer_bytes": counters.buffered_bytes,
                "buffer_limit_bytes": counters.buffer_limit_bytes,
                "inflight": counters.inflight_rows, "oldest_accepted_at_ms": counters.oldest_accepted_at_ms,
                "oldest_age_s": age_s(counters.oldest_accepted_at_ms),
                "dead_letters": pile.map_or(0, |pile| pile.rows),
                "dead_letter_bytes": pile.map_or(0, |pile| pile.bytes),
                "last_error": sink.last_error().map(|last| json!({
                    "code": last.error.code(), "detail": last.error.to_string(), "at_ms": last.at_ms,
                })),
            }));
        }
        for left in leftovers {
            let pile = letters.get(&(left.rule.clone(), left.sink.clone()));
            sinks.push(json!({
                "rule": left.rule, "sink": left.sink, "type": null, "state": "leftover", "leftover": true,
                "buffer_rows": left.standing.rows, "buffer_bytes": left.standing.bytes, "inflight": 0,
                "oldest_accepted_at_ms": left.oldest_accepted_at_ms,
                "oldest_age_s": age_s(left.oldest_accepted_at_ms),
                "dead_letters": pile.map_or(0, |pile| pile.rows),
                "dead_letter_bytes": pile.map_or(0, |pile| pile.bytes),
                "last_error": null,
            }));
        }
        sinks
    }

    /// Ends every sink; returns how many rows went to the dead letters or were lost because time ran out.
    pub async fn close(&self, within: Duration) -> u64 {
        self.feeds.end();
        let (sinks, draining) = {
            let mut state = self.state.lock();
            state.stop_filling(Stopped::Ending);
            (
                std::mem::take(&mut state.sinks),
                std::mem::take(&mut state.draining),
            )
        };
        let (retired, draining): (Vec<_>, Vec<_>) = draining
            .into_iter()
            .partition(|(sink, _)| sink.handle.is_durable());
        let mut drains: Vec<_> = draining.into_iter().map(|(_, drain)| drain).collect();
        let retired = retired.into_iter().map(|(sink, watch)| {
            watch.abort();
            sink
        });
        drains.extend(sinks.into_values().chain(retired).map(|sink| {
            tokio::spawn(async move {
                let drained = sink.handle.drain(within).await;
                if drained.kept > 0 {
                    tracing::info!(
                        rule = sink.handle.rule_id(),
                        sink = sink.handle.sink_id(),
                        rows = drained.kept,
                        "rows wait in the store for the next start"
                    );
                }
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

impl State {
    pub(super) fn is_live(&self, sink: &OpenSink) -> bool {
        let mut live = self.sinks.values();
        live.any(|live| live.handle.is_same(&sink.handle))
    }

    /// A sink ends when it has delivered what it has; until then a rule that has it again finds it.
    pub(super) fn let_go(&mut self, sink: OpenSink) {
        self.draining.retain(|(known, drain)| {
            let is_it = known.handle.is_same(&sink.handle);
            if is_it {
                drain.abort();
            }
            !is_it
        });
        let drain = tokio::spawn(drained(sink.handle.clone()));
        self.draining.push((sink, drain));
    }
}

/// The open sink of this name that keeps its rows where they are to be kept: one that is live, or one that drains and
/// would have the same rows.
pub(super) fn open_now<'s>(
    state: &'s State,
    key: &(String, String),
    durable: bool,
) -> Option<&'s OpenSink> {
    let live = state.sinks.get(key);
    if let Some(live) = live.filter(|open| open.handle.is_durable() == durable) {
        return Some(live);
    }
    let draining = state.draining.iter().map(|(sink, _)| sink);
    durable.then_some(draining)?.find(|sink| {
        let handle = &sink.handle;
        handle.is_durable()
            && (handle.rule_id(), handle.sink_id()) == (&*key.0, &*key.1)
            && handle.revive()
    })
}

/// Lets the sink of a removed rule deliver what it has; returns how many rows it could not. Those of a durable one stay
/// in the store for as long as that takes.
async fn drained(handle: SinkHandle) -> u64 {
    tokio::time::sleep(IN_FLIGHT).await;
    if handle.is_durable() {
        handle.retire().await;
        tracing::info!(
            rule = handle.rule_id(),
            sink = handle.sink_id(),
            "the sink of a removed rule has delivered everything and has ended"
        );
        return 0;
    }
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

/// Takes note in `others` of how the sinks are configured that both have.
pub(super) fn configured_as(these: &Sinks, others: &mut Sinks) {
    for (key, open) in these {
        let other = others.get_mut(key);
        if let Some(other) = other.filter(|other| other.handle.is_same(&open.handle)) {
            other.fingerprint = open.fingerprint;
        }
    }
}

/// Carries the open sinks of a rule that goes on as it is.
fn keep_open(rule: &LiveRule, state: &State, sinks: &mut BTreeMap<(String, String), OpenSink>) {
    for sink in &rule.sinks {
        let key = (rule.id.to_string(), sink.id.to_string());
        if let Some(open) = state.sinks.get(&key) {
            sinks.insert(key, open.clone());
        }
    }
}
