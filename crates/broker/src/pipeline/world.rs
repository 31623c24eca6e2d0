//! What rules may ask of the world, answered for a running broker: clock, chance, names, and the store they share.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ahash::AHashMap;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use weir_rules::comparison::strict_key;
use weir_rules::env::{Env, Store};
use weir_rules::value::Value;

/// The most entries of the store that all rules share (rule-SQL §14); the oldest goes first.
const STORE_ENTRIES: usize = 100_000;

/// What all evaluations of one broker share.
#[derive(Clone)]
pub struct World {
    node: Arc<str>,
    /// Random, kept with the data.
    id: Arc<str>,
    time_zone: TimeZone,
    store: Arc<Mutex<Entries>>,
    clock: Clock,
    #[cfg(feature = "jq")]
    jq: crate::jq::Processes,
}

#[derive(Clone, Copy)]
enum Clock {
    System,
    /// Tests and `weir try` say what time it is.
    Fixed {
        now_ns: i128,
        seed: u64,
    },
}

impl World {
    /// The real world.
    pub fn new(node: &str, time_zone: TimeZone) -> Self {
        Self {
            node: node.into(),
            id: format!("{:016x}", rand::random::<u64>()).into(),
            time_zone,
            store: Arc::default(),
            clock: Clock::System,
            #[cfg(feature = "jq")]
            jq: crate::jq::Processes::default(),
        }
    }

    /// The broker's time zone.
    pub fn time_zone(&self) -> &TimeZone {
        &self.time_zone
    }

    /// A world that stands still: the same inputs give the same rows.
    pub fn fixed(node: &str, time_zone: TimeZone, now_ns: i128, seed: u64) -> Self {
        Self {
            clock: Clock::Fixed { now_ns, seed },
            ..Self::new(node, time_zone)
        }
    }

    /// The same world, its store shared, at another time.
    #[must_use]
    pub fn at(&self, now_ns: i128) -> Self {
        self.at_with(now_ns, 0)
    }

    /// The same world at another time, with a chance of its own.
    #[must_use]
    pub fn at_with(&self, now_ns: i128, seed: u64) -> Self {
        Self {
            clock: Clock::Fixed { now_ns, seed },
            ..self.clone()
        }
    }

    /// The same with an id that outlives the process.
    #[must_use]
    pub fn identified(self, id: &str) -> Self {
        Self {
            id: id.into(),
            ..self
        }
    }

    /// What tells this broker from every other: it stands in the paths of messages that cross bridges.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// This broker's name.
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// Names the program that runs jq programs; the first name counts.
    #[cfg(feature = "jq")]
    pub(crate) fn set_jq_program(&self, program: std::path::PathBuf) {
        self.jq.set_program(program);
    }

    /// What one evaluation sees.
    pub fn moment(&self) -> Moment<'_> {
        let seed = match self.clock {
            Clock::System => 0,
            Clock::Fixed { seed, .. } => seed,
        };
        Moment {
            world: self,
            store: Shared(&self.store),
            scratch: None,
            seed,
        }
    }
}

/// The [`Env`] of one evaluation.
pub struct Moment<'a> {
    world: &'a World,
    store: Shared<'a>,
    /// Made for the few rules that ask for it.
    scratch: Option<Entries>,
    seed: u64,
}

impl Env for Moment<'_> {
    fn now_ns(&self) -> i128 {
        match self.world.clock {
            Clock::System => now_ns(),
            Clock::Fixed { now_ns, .. } => now_ns,
        }
    }

    fn random(&mut self) -> u64 {
        match self.world.clock {
            Clock::System => rand::random(),
            Clock::Fixed { .. } => {
                // SplitMix64: a fixed seed gives a fixed sequence.
                self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut bits = self.seed;
                bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                bits ^ (bits >> 31)
            }
        }
    }

    fn time_zone(&self) -> &TimeZone {
        &self.world.time_zone
    }

    fn node(&self) -> &str {
        &self.world.node
    }

    fn hostname(&self) -> &str {
        static NAME: OnceLock<String> = OnceLock::new();
        NAME.get_or_init(|| {
            let system = rustix::system::uname();
            system.nodename().to_string_lossy().into_owned()
        })
    }
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(format!("WEIRVAR_{name}"))
            .or_else(|_| std::env::var(format!("EMQXVAR_{name}")))
            .ok()
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    fn scratch(&mut self) -> &mut dyn Store {
        self.scratch.get_or_insert_default()
    }

    #[cfg(feature = "jq")]
    fn jq(&self) -> Option<&dyn weir_rules::functions::jq::Runner> {
        Some(&self.world.jq)
    }
}

/// Nanoseconds since the Unix epoch by the system's clock.
pub fn now_ns() -> i128 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    }
}

/// Milliseconds since the Unix epoch by the system's clock.
pub fn now_ms() -> i64 {
    i64::try_from(now_ns() / 1_000_000).unwrap_or(i64::MAX)
}

/// A bounded map whose keys are compared strictly: by kind and canonical text.
#[derive(Default)]
struct Entries {
    values: AHashMap<Vec<u8>, Value>,
    order: VecDeque<Vec<u8>>,
}

impl Store for Entries {
    fn get(&self, key: &Value) -> Option<Value> {
        self.values.get(&strict_key(key)).cloned()
    }

    fn put(&mut self, key: Value, value: Value) -> Option<Value> {
        let key = strict_key(&key);
        let earlier = self.values.insert(key.clone(), value);
        if earlier.is_none() {
            self.order.push_back(key);
            if self.values.len() > STORE_ENTRIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.values.remove(&oldest);
            }
        }
        earlier
    }

    fn remove(&mut self, key: &Value) -> Option<Value> {
        let key = strict_key(key);
        let value = self.values.remove(&key)?;
        self.order.retain(|kept| *kept != key);
        Some(value)
    }
}

struct Shared<'a>(&'a Mutex<Entries>);

impl Store for Shared<'_> {
    fn get(&self, key: &Value) -> Option<Value> {
        self.0.lock().get(key)
    }

    fn put(&mut self, key: Value, value: Value) -> Option<Value> {
        self.0.lock().put(key, value)
    }

    fn remove(&mut self, key: &Value) -> Option<Value> {
        self.0.lock().remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_keys_are_compared_strictly() {
        let mut store = Entries::default();
        store.put(Value::Int(1), "int".into());
        store.put("1".into(), "text".into());
        store.put(Value::Float(1.0), "float".into());
        assert_eq!(store.values.len(), 2);
        assert_eq!(
            format!("{:?}", store.get(&Value::Int(1))),
            "Some(Text(\"float\"))"
        );
    }

    #[test]
    fn a_full_store_loses_its_oldest_entry() {
        let mut store = Entries::default();
        for key in 0..=i64::try_from(STORE_ENTRIES).unwrap() {
            store.put(Value::Int(key), Value::Null);
        }
        assert!(store.get(&Value::Int(0)).is_none());
        assert!(store.get(&Value::Int(1)).is_some());
    }

    #[test]
    fn a_fixed_world_draws_the_same_numbers_each_time() {
        let world = World::fixed("n", TimeZone::UTC, 5, 7);
        let (mut one, mut two) = (world.moment(), world.moment());
        assert_eq!((one.random(), one.random()), (two.random(), two.random()));
        assert_eq!(one.now_ns(), 5);
    }
}
