//! From a publish to rows in sink queues: match, evaluate, reserve room, hand over.
//!
//! No sink is ever waited for here, only the room in its queue is asked for. The live rules are one pointer that a
//! reload swaps: a message is seen by the old set or by the new one, never by half (DESIGN P4).

pub mod counters;
pub(crate) mod crossing;
mod paths;
mod rows;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::tz::TimeZone;
use tokio::sync::Notify;
use weir_rules::event::{Event, Publish, What};
use weir_rules::value::{Text, Value};
use weir_rules::{EvalError, Matched as MatchedRules, Rule, RuleSet};
use weir_sinks::plan::Target as PlanTarget;
use weir_sinks::{Full, Owed, Permit, SinkHandle, SinkPlan, record_size};

use crate::driver::events::RULES;
use crate::driver::flush;
use crate::project::rule_file::OnError;
use counters::{Here, RuleCounters};
pub use crossing::Crossing;
use rows::{route, settle};
use world::World;

/// The client id of messages that weir makes itself.
const INTERNAL_CLIENT: Text = Text::from_static(RULES);

/// Rules and sinks as they are live now.
pub struct Pipeline {
    live: ArcSwap<Live>,
    swaps: Arc<Swaps>,
    world: World,
}

/// One consistent set of rules.
pub struct Live {
    rules: RuleSet<LiveRule>,
    by_id: BTreeMap<Arc<str>, Arc<LiveRule>>,
}

impl Live {
    /// Whether the rule of that id is in it.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// The statement of a rule; empty when it is not in it.
    pub(crate) fn sql(&self, id: &str) -> &str {
        self.by_id.get(id).map_or("", |rule| rule.rule.sql())
    }

    /// A set of one rule.
    pub(crate) fn only(rule: Arc<LiveRule>) -> Self {
        Self {
            by_id: BTreeMap::from([(Arc::clone(&rule.id), Arc::clone(&rule))]),
            rules: RuleSet::new([rule]),
        }
    }
}

/// What became of a message of before.
pub(crate) struct Made {
    pub(crate) accepted: Accepted,
    /// Rows for sinks' queues.
    pub(crate) rows: usize,
    /// Rules that could not evaluate it.
    pub(crate) errors: usize,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            rules: RuleSet::new([]),
            by_id: BTreeMap::new(),
        }
    }
}

/// One rule with where its rows go.
pub struct LiveRule {
    /// Its file's path below the rules folder, without the ending.
    pub id: Arc<str>,
    /// The compiled statement.
    pub rule: Arc<Rule>,
    /// Where its rows go, in the order of the file.
    pub sinks: Vec<LiveSink>,
    /// Its counters, kept over reloads.
    pub counters: Arc<RuleCounters>,
    /// What becomes of messages that it cannot evaluate.
    pub on_error: OnError,
    /// For `out` of a bridge, which takes messages as they are: the statement is only for finding them.
    pub crossing: Option<Crossing>,
}

impl AsRef<Rule> for LiveRule {
    fn as_ref(&self) -> &Rule {
        &self.rule
    }
}

/// One `[[sinks]]` of a live rule.
pub struct LiveSink {
    /// Its id within the rule.
    pub id: Arc<str>,
    /// What takes its rows.
    pub target: Target,
    /// Its rows tell the far side which brokers their message has crossed.
    pub marks: bool,
}

impl LiveSink {
    /// Whether a sink of this plan tells that.
    pub fn marks(plan: &SinkPlan) -> bool {
        matches!(&plan.target, PlanTarget::Mqtt(message) if !message.clear_origin)
    }
}

/// What takes rows.
pub enum Target {
    /// A queue with its worker.
    Queue(SinkHandle),
    /// Back into this broker.
    Republish(Arc<SinkPlan>),
}

/// The rules that want one topic; connections keep it for topics that they have seen.
pub struct Matched {
    rules: Arc<MatchedRules<LiveRule>>,
    /// The set that the rules belong to: what they republish is matched against the same one.
    live: Arc<Live>,
    /// There are many rules, or one that runs a script or a jq program.
    heavy: bool,
}

/// So few rules are evaluated in microseconds, on a payload of at most so many bytes.
const FEW_RULES: usize = 16;
const SMALL_PAYLOAD: usize = 4096;

impl Matched {
    /// Whether a message with so large a payload may take the rules longer than looking at a clock is worth.
    pub fn may_take_long(&self, payload: usize) -> bool {
        self.heavy || payload > SMALL_PAYLOAD
    }
}

/// What became of a publish that rules wanted.
pub enum Accepted {
    /// Everything that its rules made is in the sinks' queues, or has its room there.
    Kept {
        /// Messages that republish sinks made. Their own rules have run already: they are only to be routed.
        republish: Vec<Publish>,
        /// Rows of durable sinks: to be committed with everything else that the message makes.
        rows: Vec<Owed>,
    },
    /// A sink that blocks has no room: the publish must not be routed nor acknowledged.
    NoRoom(Room),
    /// Rows would have to be kept, and the store has no room: the same.
    StoreFull,
}

/// Whether a publisher who waits for an acknowledgement may give the store rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreRoom {
    /// It may; or it cannot wait.
    Given,
    /// There is none now.
    None,
}

/// Where to wait for room in a sink's queue.
pub struct Room {
    full: Full,
    swaps: Arc<Swaps>,
    generation: u64,
}

impl Room {
    /// Resolves when there may be room again, or when the rules have changed: match and ask anew.
    pub async fn wait(&self) {
        let swapped = self.swaps.happened.notified();
        // Registered before the look, so that a swap in between is not missed.
        if self.swaps.generation.load(Ordering::Acquire) != self.generation {
            return;
        }
        tokio::select! {
            () = self.full.room() => {}
            () = swapped => {}
        }
    }
}

/// How often the live rules have changed, and a bell that rings each time.
#[derive(Default)]
struct Swaps {
    generation: AtomicU64,
    happened: Notify,
}

/// Everything that one message makes, before any of it is handed over.
#[derive(Default)]
struct Outcome {
    demands: Vec<Demand>,
    rows: Vec<Row>,
    republish: Vec<Publish>,
    /// The rules of the messages that were republished; the message itself has the first set, number 0.
    copies: Vec<Arc<MatchedRules<LiveRule>>>,
    /// What is to be told of evaluations, in their order. Those that only made nothing have no entry.
    notes: Vec<Told>,
}

/// A note on one rule of one set.
struct Told {
    set: usize,
    place: usize,
    note: Note,
}

/// What one sink is to take of one message.
struct Demand {
    sink: Address,
    rows: usize,
    bytes: usize,
}

/// Which sink of which rule of which set: nothing that threads would have to count their references to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Address {
    set: usize,
    rule: usize,
    sink: usize,
}

impl Address {
    /// The queue, where the first set of rules is `matched`.
    fn queue<'m>(
        self,
        matched: &'m MatchedRules<LiveRule>,
        copies: &'m [Arc<MatchedRules<LiveRule>>],
    ) -> Option<&'m SinkHandle> {
        let set = match self.set.checked_sub(1) {
            None => matched,
            Some(copy) => copies.get(copy)?,
        };
        match &set.rules.get(self.rule)?.sinks.get(self.sink)?.target {
            Target::Queue(queue) => Some(queue),
            Target::Republish(_) => None,
        }
    }
}

struct Row {
    /// Its sink's place among the demands.
    demand: usize,
    client_id: Text,
    message_id: u128,
    /// The brokers that its message has crossed, for a queue in memory.
    path: Text,
    value: RowValue,
}

enum RowValue {
    /// For a queue in memory.
    Plain(Value),
    /// For a queue in the store.
    Encoded(Bytes),
}

impl Outcome {
    /// Whether rows of a durable sink are among it.
    fn needs_store(&self, matched: &MatchedRules<LiveRule>) -> bool {
        let mut sinks = self.demands.iter().map(|demand| demand.sink);
        sinks.any(|sink| {
            let queue = sink.queue(matched, &self.copies);
            queue.is_some_and(SinkHandle::is_durable)
        })
    }

    fn add_row(&mut self, sink: Address, row: impl FnOnce(usize) -> Row) {
        let known = self.demands.iter().position(|demand| demand.sink == sink);
        let at = known.unwrap_or_else(|| {
            self.demands.push(Demand {
                sink,
                rows: 0,
                bytes: 0,
            });
            self.demands.len() - 1
        });
        let row = row(at);
        self.demands[at].rows += 1;
        self.demands[at].bytes += match &row.value {
            RowValue::Plain(value) => record_size(&row.client_id, value),
            RowValue::Encoded(bytes) => bytes.len(),
        };
        self.rows.push(row);
    }
}

enum Note {
    Passed {
        republished: u64,
        republish_failed: Vec<String>,
    },
    Error(EvalError, String),
    /// The rule made the message itself: it was not asked.
    Own,
}

impl Pipeline {
    /// A pipeline without rules.
    pub fn new(world: World) -> Self {
        Self {
            live: ArcSwap::default(),
            swaps: Arc::default(),
            world,
        }
    }

    /// The world that its rules ask.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Makes `rules` the live set; messages in flight end on the old one.
    pub fn swap(&self, rules: Vec<Arc<LiveRule>>) {
        // A bridge's `out` is found like a rule, and is none.
        let by_id = rules
            .iter()
            .filter(|rule| rule.crossing.is_none())
            .map(|rule| (Arc::clone(&rule.id), Arc::clone(rule)))
            .collect();
        self.live.store(Arc::new(Live {
            rules: RuleSet::new(rules),
            by_id,
        }));
        // After the store: whoever sees the new number finds the new set.
        self.swaps.generation.fetch_add(1, Ordering::Release);
        self.swaps.happened.notify_waiters();
    }

    /// The broker's time zone.
    pub fn time_zone(&self) -> &TimeZone {
        self.world.time_zone()
    }

    /// Changes whenever the live rules change.
    pub fn generation(&self) -> u64 {
        self.swaps.generation.load(Ordering::Acquire)
    }

    /// The live rules by id.
    pub fn rules(&self) -> Vec<Arc<LiveRule>> {
        self.live.load().by_id.values().cloned().collect()
    }

    /// One live rule.
    pub fn rule(&self, id: &str) -> Option<Arc<LiveRule>> {
        self.live.load().by_id.get(id).cloned()
    }

    /// The rules that want `topic`; `None` when no rule does.
    pub fn matched(&self, topic: &str) -> Option<Arc<Matched>> {
        let live = self.live.load_full();
        let rules = live.rules.matching(topic)?;
        let slow = rules.rules.iter().any(|rule| rule.rule.may_take_long());
        Some(Arc::new(Matched {
            heavy: slow || rules.rules.len() > FEW_RULES,
            rules,
            live,
        }))
    }

    /// Whether any rule listens to the broker event `topic` (`$events/…`).
    pub fn wants_event(&self, topic: &'static str) -> bool {
        self.live.load().rules.matching_event(topic).is_some()
    }

    /// The rules on a bridge, `$bridges/mqtt:NAME`; `None` when there are none.
    pub fn matched_bridge(&self, source: &str) -> Option<Arc<Matched>> {
        let live = self.live.load_full();
        let rules = live.rules.matching_bridge(source)?;
        let slow = rules.rules.iter().any(|rule| rule.rule.may_take_long());
        Some(Arc::new(Matched {
            heavy: slow || rules.rules.len() > FEW_RULES,
            rules,
            live,
        }))
    }

    /// Evaluates the rules on a bridge and, where the message is published here, those of its topic: all or nothing.
    /// `waits`: the message can be held back.
    pub fn accept_ingress(
        &self,
        matched: &Matched,
        event: Event,
        publish: Option<Publish>,
        waits: bool,
    ) -> Accepted {
        let waits = waits.then(|| self.generation());
        let mut outcome = Outcome::default();
        self.evaluate(0, &matched.rules, &event, &mut outcome);
        if let Some(publish) = publish
            && let Some(topic) = publish.topic.as_str()
            && let Some(rules) = matched.live.rules.matching(topic)
        {
            let publish = Event {
                timestamp_ms: publish.received_at_ms,
                what: What::Publish(publish),
            };
            self.evaluate(1, &rules, &publish, &mut outcome);
            outcome.copies.push(rules);
        }
        self.follow(&matched.live, event.timestamp_ms, &mut outcome);
        self.hand_over(&matched.rules, outcome, event.timestamp_ms, waits)
    }

    /// Evaluates the rules of `matched` and puts what they make into the sinks' queues, all or nothing.
    ///
    /// A message of QoS 0 is never held back: rows that find no room are dropped and counted by their sink.
    pub fn accept(&self, matched: &Arc<Matched>, publish: Publish, store: StoreRoom) -> Accepted {
        // Looked at before the evaluation: a swap during it is one that a waiting publisher has not seen.
        let waits = (publish.qos > 0).then(|| self.generation());
        let event = Event {
            timestamp_ms: publish.received_at_ms,
            what: What::Publish(publish),
        };
        let outcome = self.run(&matched.live, &matched.rules, &event);
        if waits.is_some() && store == StoreRoom::None && outcome.needs_store(&matched.rules) {
            return Accepted::StoreFull;
        }
        self.hand_over(&matched.rules, outcome, event.timestamp_ms, waits)
    }

    /// Puts what the rules of `live` make of a message of before into the sinks' queues, as if it were that time now;
    /// `None` when none of them wants it. It waits for room at any QoS, and what is republished is only given back.
    pub(crate) fn make(&self, live: &Live, event: &Event) -> Option<Made> {
        let matched = live.rules.matching_any(event)?;
        let waits = Some(self.generation());
        let id = match &event.what {
            What::Publish(publish) => publish.id,
            _ => 0,
        };
        // Other chance for each message, and the same when it is done again.
        let halves = (id >> 64) ^ (id & u128::from(u64::MAX));
        let seed = u64::try_from(halves).unwrap_or_default();
        let then = Self {
            live: ArcSwap::default(),
            swaps: Arc::clone(&self.swaps),
            world: self
                .world
                .at_with(i128::from(event.timestamp_ms) * 1_000_000, seed),
        };
        let mut outcome = Outcome::default();
        then.evaluate(0, &matched, event, &mut outcome);
        let rows = outcome.rows.len();
        let is_error = |told: &&Told| matches!(told.note, Note::Error(..));
        let errors = outcome.notes.iter().filter(is_error).count();
        let accepted = then.hand_over(&matched, outcome, event.timestamp_ms, waits);
        Some(Made {
            accepted,
            rows,
            errors,
        })
    }

    /// Offers a broker event to the rules; rows that find no room are dropped and counted.
    ///
    /// Returns the messages that republish sinks made, and the rows that are to be committed. The messages' own rules have
    /// run already: they are only to be routed.
    pub fn observe(&self, event: Event) -> (Vec<Publish>, Vec<Owed>) {
        let live = self.live.load_full();
        let Some(matched) = live.rules.matching_any(&event) else {
            return Default::default();
        };
        let outcome = self.run(&live, &matched, &event);
        match self.hand_over(&matched, outcome, event.timestamp_ms, None) {
            Accepted::Kept { republish, rows } => (republish, rows),
            Accepted::NoRoom(_) | Accepted::StoreFull => Default::default(),
        }
    }

    /// Runs an event's rules, and those of the messages that they republish, all of one set.
    fn run(&self, live: &Live, matched: &MatchedRules<LiveRule>, event: &Event) -> Outcome {
        let mut outcome = Outcome::default();
        self.evaluate(0, matched, event, &mut outcome);
        self.follow(live, event.timestamp_ms, &mut outcome);
        outcome
    }

    /// Runs the rules of what was republished.
    fn follow(&self, live: &Live, timestamp_ms: i64, outcome: &mut Outcome) {
        let mut next = 0;
        // Breadth first; every copy carries one more hop, so the chain ends at the sinks' max_hops.
        while let Some(copy) = outcome.republish.get(next) {
            if let Some(matched) = copy
                .topic
                .as_str()
                .and_then(|topic| live.rules.matching(topic))
            {
                let copy = Event {
                    timestamp_ms,
                    what: What::Publish(copy.clone()),
                };
                self.evaluate(outcome.copies.len() + 1, &matched, &copy, outcome);
                outcome.copies.push(matched);
            }
            next += 1;
        }
    }

    fn evaluate(
        &self,
        set: usize,
        matched: &MatchedRules<LiveRule>,
        event: &Event,
        outcome: &mut Outcome,
    ) {
        let input = matched.input(event);
        let made_by = event.made_by();
        for (place, rule) in matched.rules.iter().enumerate() {
            if made_by == Some(&*rule.id) {
                let note = Note::Own;
                outcome.notes.push(Told { set, place, note });
                continue;
            }
            if let Some(crossing) = &rule.crossing {
                if let What::Publish(publish) = &event.what {
                    let rows = crossing.rows(publish, &self.world);
                    route((set, place), rule, rows, event, self.world.id(), outcome);
                }
                continue;
            }
            // Most rules let most messages pass by: those are not touched.
            let held = matched.condition(place, &input);
            if held == Some(false) {
                continue;
            }
            let mut moment = self.world.moment();
            let mut evaluate = || match held {
                Some(_) => rule.rule.evaluate_passed(&input, &rule.id, &mut moment),
                None => rule.rule.evaluate(&input, &rule.id, &mut moment),
            };
            let result = if rule.rule.may_take_long() {
                // A script or a jq program may take milliseconds: the runtime gives this thread's other connections away meanwhile.
                flush::around_blocking(evaluate)
            } else {
                evaluate()
            };
            let note = match result {
                Ok(rows) if rows.is_empty() => continue,
                Ok(rows) => route((set, place), rule, rows, event, self.world.id(), outcome),
                Err(error) => Note::Error(
                    error,
                    event.trigger().as_str().unwrap_or_default().to_owned(),
                ),
            };
            outcome.notes.push(Told { set, place, note });
        }
    }

    /// Reserves room for all rows, then pushes them; or takes nothing when a sink that blocks has none and the
    /// publisher can wait. `waits` is then the generation of the rules that made the rows.
    fn hand_over(
        &self,
        matched: &MatchedRules<LiveRule>,
        outcome: Outcome,
        now_ms: i64,
        waits: Option<u64>,
    ) -> Accepted {
        let mut taken: Vec<Option<(&SinkHandle, Permit)>> =
            Vec::with_capacity(outcome.demands.len());
        for demand in &outcome.demands {
            let Some(sink) = demand.sink.queue(matched, &outcome.copies) else {
                taken.push(None);
                continue;
            };
            match (sink.try_reserve(demand.rows, demand.bytes), waits) {
                (Ok(permit), _) => taken.push(Some((sink, permit))),
                // Waiting would not help what is larger than the whole queue.
                (Err(full), Some(generation)) if !full.never => {
                    return Accepted::NoRoom(Room {
                        full,
                        swaps: Arc::clone(&self.swaps),
                        generation,
                    });
                }
                (Err(full), _) => {
                    let reason = if full.never {
                        "larger_than_queue"
                    } else {
                        "queue_full"
                    };
                    let rows = u64::try_from(demand.rows).unwrap_or(u64::MAX);
                    sink.count_dropped(rows, reason);
                    taken.push(None);
                }
            }
        }
        let mut stored: Vec<Vec<Bytes>> = Vec::new();
        for row in outcome.rows {
            let Some((sink, permit)) = &mut taken[row.demand] else {
                continue;
            };
            match row.value {
                RowValue::Plain(value) => {
                    sink.push(
                        permit,
                        row.client_id,
                        row.message_id,
                        value,
                        now_ms,
                        row.path,
                    );
                }
                RowValue::Encoded(bytes) => {
                    stored.resize_with(taken.len(), Vec::new);
                    stored[row.demand].push(bytes);
                }
            }
        }
        let stored = stored.into_iter().zip(taken);
        let rows = stored.filter(|(rows, _)| !rows.is_empty());
        let rows = rows.filter_map(|(rows, taken)| {
            let (sink, permit) = taken?;
            sink.claim(permit, rows)
        });
        let rows = rows.collect();
        let here = Here::get();
        let mut notes = outcome.notes.into_iter().peekable();
        let sets = std::iter::once(matched).chain(outcome.copies.iter().map(Arc::as_ref));
        for (set, matched) in sets.enumerate() {
            for (place, rule) in matched.rules.iter().enumerate() {
                match notes.next_if(|told| told.set == set && told.place == place) {
                    Some(told) => settle(rule, told.note, here, now_ms),
                    None => rule.counters.count(here, now_ms, Some(false)),
                }
            }
        }
        Accepted::Kept {
            republish: outcome.republish,
            rows,
        }
    }
}

#[cfg(test)]
mod tests;
