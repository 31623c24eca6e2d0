//! A world that stands still, for evaluating a rule twice: what differs between two of them is no expectation.

use jiff::tz::TimeZone;
use weir_rules::Value;
use weir_rules::env::{Env, Store};

/// Clock, chance and stores of one evaluation.
pub(crate) struct Still {
    now_ms: i64,
    seed: u64,
    zone: TimeZone,
    node: &'static str,
    store: Entries,
    scratch: Entries,
}

impl Still {
    pub(crate) fn new(now_ms: i64, seed: u64, node: &'static str) -> Self {
        Self {
            now_ms,
            seed,
            zone: TimeZone::UTC,
            node,
            store: Entries::default(),
            scratch: Entries::default(),
        }
    }
}

impl Env for Still {
    fn now_ns(&self) -> i128 {
        i128::from(self.now_ms) * 1_000_000
    }

    fn random(&mut self) -> u64 {
        // Knuth's linear congruential numbers: any that differ between two seeds do.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed
    }

    fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    fn node(&self) -> &str {
        self.node
    }

    fn hostname(&self) -> &str {
        self.node()
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    fn scratch(&mut self) -> &mut dyn Store {
        &mut self.scratch
    }
}

/// The few entries of one evaluation.
#[derive(Default)]
struct Entries(Vec<(Value, Value)>);

impl Store for Entries {
    fn get(&self, key: &Value) -> Option<Value> {
        let entry = self.0.iter().find(|(known, _)| known == key)?;
        Some(entry.1.clone())
    }

    fn put(&mut self, key: Value, value: Value) -> Option<Value> {
        let earlier = self.remove(&key);
        self.0.push((key, value));
        earlier
    }

    fn remove(&mut self, key: &Value) -> Option<Value> {
        let index = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(index).1)
    }
}
