//! A world for rules under test: a clock that stands, random numbers that count, stores in memory.

use weir_rules::env::{Env, Store};
use weir_rules::{EvalError, Input, Rule, Value};

/// The same in every run.
pub(crate) struct World {
    zone: jiff::tz::TimeZone,
    random: u64,
    store: Pairs,
    scratch: Pairs,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            zone: jiff::tz::TimeZone::UTC,
            random: 0,
            store: Pairs::default(),
            scratch: Pairs::default(),
        }
    }

    /// Evaluates a rule; what lives as long as one evaluation starts empty.
    pub(crate) fn evaluate(
        &mut self,
        rule: &Rule,
        input: &Input<'_>,
    ) -> Result<Vec<Value>, EvalError> {
        self.scratch = Pairs::default();
        rule.evaluate(input, "rule", self)
    }
}

impl Env for World {
    fn now_ns(&self) -> i128 {
        1_700_000_000_123_456_789
    }

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }

    fn time_zone(&self) -> &jiff::tz::TimeZone {
        &self.zone
    }

    fn node(&self) -> &str {
        "weir@test"
    }

    fn hostname(&self) -> &str {
        "machine"
    }
    fn variable(&self, name: &str) -> Option<String> {
        (name == "SITE").then(|| "north".to_owned())
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    fn scratch(&mut self) -> &mut dyn Store {
        &mut self.scratch
    }
}

/// A store that looks at every key.
#[derive(Default)]
struct Pairs(Vec<(Value, Value)>);

impl Store for Pairs {
    fn get(&self, key: &Value) -> Option<Value> {
        self.0
            .iter()
            .find(|(known, _)| known.strict_equals(key))
            .map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: Value, value: Value) -> Option<Value> {
        let earlier = self.remove(&key);
        self.0.push((key, value));
        earlier
    }

    fn remove(&mut self, key: &Value) -> Option<Value> {
        let at = self
            .0
            .iter()
            .position(|(known, _)| known.strict_equals(key))?;
        Some(self.0.remove(at).1)
    }
}
