//! Many rules, found by the topic or event that triggers them.

use std::sync::{Arc, OnceLock};

use weir_mqtt::topic_tree::TopicTree;

use crate::env::Env;
use crate::error::EvalError;
use crate::eval::gates::Gate;
use crate::event::{Event, What};
use crate::input::Input;
use crate::path::PathSet;
use crate::rule::Rule;
use crate::source::{SourceFilter, bridge_matches};
use crate::value::Value;

/// An immutable set of rules. `R` is whatever the caller keeps with a rule: its id, its sinks.
pub struct RuleSet<R> {
    /// In the order in which they were given, which is the order in which they are evaluated.
    rules: Vec<Arc<R>>,
    /// Topic filters to places in `rules`.
    topics: TopicTree<usize>,
    /// Canonical event topics to places in `rules`.
    events: Vec<(&'static str, usize)>,
    /// Bridge entries to places in `rules`.
    bridges: Vec<(String, usize)>,
    /// What a message finds that triggers only the rule at this place; made by the first one that does.
    alone: Vec<OnceLock<Arc<Matched<R>>>>,
}

/// Places in the rules of a set. One by itself, which is the usual case, takes no memory of its own.
#[derive(Default)]
struct Places {
    first: Option<usize>,
    more: Vec<usize>,
}

impl Places {
    fn add(&mut self, place: usize) {
        match self.first {
            None => self.first = Some(place),
            Some(first) if first == place => {}
            Some(_) => self.more.push(place),
        }
    }
}

impl FromIterator<usize> for Places {
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut found = Self::default();
        places.into_iter().for_each(|place| found.add(place));
        found
    }
}

/// The rules that one topic or event triggers, and what they read of its payload together.
#[derive(Debug)]
pub struct Matched<R> {
    /// Each rule once, in the order of the set.
    pub rules: Vec<Arc<R>>,
    /// The union of what the rules read: what [`Input::new`](crate::Input::new) wants.
    pub needs: PathSet,
    /// The cheap terms of the rules' WHERE, one rule's after the other's.
    gates: Vec<Gate>,
    /// For each rule where its gates end, and whether they are all of its WHERE.
    ends: Vec<(usize, bool)>,
}

impl<R: AsRef<Rule>> Matched<R> {
    /// An event for these rules. Nothing is decoded yet.
    pub const fn input<'a>(&'a self, event: &'a Event) -> Input<'a> {
        Input::new(event, &self.needs)
    }

    /// Whether WHERE of the rule at `place` holds, where that can be told without asking the rule; for an input that
    /// [`Self::input`] made.
    pub fn condition(&self, place: usize, input: &Input<'_>) -> Option<bool> {
        if !input.is_for(&self.needs) {
            return None;
        }
        let from = match place.checked_sub(1) {
            Some(before) => self.ends.get(before)?.0,
            None => 0,
        };
        let (end, complete) = *self.ends.get(place)?;
        for gate in self.gates.get(from..end)? {
            if !gate.holds(input)? {
                return Some(false);
            }
        }
        complete.then_some(true)
    }

    /// Evaluates the rule at `place`, as [`Rule::evaluate`] does; for an input that [`Self::input`] made.
    ///
    /// # Errors
    /// As [`Rule::evaluate`].
    pub fn evaluate(
        &self,
        place: usize,
        input: &Input<'_>,
        rule_id: &str,
        env: &mut dyn Env,
    ) -> Result<Vec<Value>, EvalError> {
        let Some(rule) = self.rules.get(place) else {
            return Ok(Vec::new());
        };
        let rule = (**rule).as_ref();
        match self.condition(place, input) {
            Some(false) => Ok(Vec::new()),
            Some(true) => rule.evaluate_passed(input, rule_id, env),
            None => rule.evaluate(input, rule_id, env),
        }
    }
}

impl<R: AsRef<Rule>> RuleSet<R> {
    /// A set of these rules.
    pub fn new(rules: impl IntoIterator<Item = Arc<R>>) -> Self {
        let mut set = Self {
            rules: Vec::new(),
            topics: TopicTree::new(),
            events: Vec::new(),
            bridges: Vec::new(),
            alone: Vec::new(),
        };
        for rule in rules {
            let at = set.rules.len();
            for source in (*rule).as_ref().sources() {
                match source {
                    SourceFilter::Topic(filter) => set.topics.insert(filter, at),
                    SourceFilter::Events { topics, .. } => {
                        set.events.extend(topics.iter().map(|topic| (*topic, at)))
                    }
                    SourceFilter::Bridge { text } => set.bridges.push((text.clone(), at)),
                }
            }
            set.rules.push(rule);
            set.alone.push(OnceLock::new());
        }
        set
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Arc<R>] {
        &self.rules
    }

    /// The rules that a PUBLISH on this topic triggers; `None` when there are none.
    pub fn matching(&self, topic: &str) -> Option<Arc<Matched<R>>> {
        let mut places = Places::default();
        self.topics.matching(topic, |at| places.add(*at));
        self.matched(places)
    }

    /// The rules that a broker event triggers, by its canonical topic.
    pub fn matching_event(&self, topic: &str) -> Option<Arc<Matched<R>>> {
        self.matched(
            self.events
                .iter()
                .filter(|(event, _)| *event == topic)
                .map(|(_, at)| *at)
                .collect(),
        )
    }

    /// The rules that a message from a bridge triggers, e.g. `$bridges/mqtt:hq`.
    pub fn matching_bridge(&self, source: &str) -> Option<Arc<Matched<R>>> {
        self.matched(
            self.bridges
                .iter()
                .filter(|(entry, _)| bridge_matches(entry, source))
                .map(|(_, at)| *at)
                .collect(),
        )
    }

    /// The rules that an event triggers, whatever its kind.
    pub fn matching_any(&self, event: &Event) -> Option<Arc<Matched<R>>> {
        match &event.what {
            What::Publish(publish) => self.matching(publish.topic.as_str()?),
            What::Broker { topic, .. } => self.matching_event(topic),
            What::Ingress { source, .. } => self.matching_bridge(source.as_str()?),
        }
    }

    fn matched(&self, places: Places) -> Option<Arc<Matched<R>>> {
        let first = places.first?;
        if places.more.is_empty() {
            let alone = self.alone[first].get_or_init(|| Arc::new(self.together(&[first])));
            return Some(Arc::clone(alone));
        }
        let mut places = places.more;
        places.push(first);
        places.sort_unstable();
        places.dedup();
        Some(Arc::new(self.together(&places)))
    }

    /// The rules at these places, each once and in their order.
    fn together(&self, places: &[usize]) -> Matched<R> {
        let rules: Vec<_> = places
            .iter()
            .map(|at| Arc::clone(&self.rules[*at]))
            .collect();
        let mut needs = PathSet::default();
        for rule in &rules {
            needs.merge((**rule).as_ref().needs());
        }
        let (mut gates, mut ends) = (Vec::new(), Vec::with_capacity(rules.len()));
        for rule in &rules {
            let (of_rule, complete) = (**rule).as_ref().gates.among(&needs);
            gates.extend(of_rule);
            ends.push((gates.len(), complete));
        }
        Matched {
            rules,
            needs,
            gates,
            ends,
        }
    }
}

impl<R> std::fmt::Debug for RuleSet<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleSet")
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}
