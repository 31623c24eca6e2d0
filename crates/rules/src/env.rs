//! What a rule may ask of the world; the caller hands it in, so a rule is a function of its inputs.

use crate::value::Value;

/// Clock, random numbers, store and names for the evaluation of rules.
pub trait Env {
    /// Nanoseconds since the Unix epoch.
    fn now_ns(&self) -> i128;
    /// The next 64 random bits.
    fn random(&mut self) -> u64;
    /// The zone of `rules.timezone`.
    fn time_zone(&self) -> &jiff::tz::TimeZone;
    /// This broker's name.
    fn node(&self) -> &str;
    /// The machine's name.
    fn hostname(&self) -> &str;
    /// The operator's variable of that name (`WEIRVAR_name`, else `EMQXVAR_name`).
    fn variable(&self, name: &str) -> Option<String>;
    /// The key-value store that all rules of a broker share.
    fn store(&mut self) -> &mut dyn Store;
    /// The store of this one evaluation (`proc_dict_*`); empty at its start.
    fn scratch(&mut self) -> &mut dyn Store;
    /// What runs the programs of the function `jq`. Without: they are errors.
    #[cfg(feature = "jq")]
    fn jq(&self) -> Option<&dyn crate::functions::jq::Runner> {
        None
    }
}

/// A key-value store; keys are compared strictly (rule-SQL §5.1).
pub trait Store {
    /// The value of `key`.
    fn get(&self, key: &Value) -> Option<Value>;
    /// Sets `key`, returning its earlier value.
    fn put(&mut self, key: Value, value: Value) -> Option<Value>;
    /// Removes `key`, returning its value.
    fn remove(&mut self, key: &Value) -> Option<Value>;
}

/// No world at all: that of a pure function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nowhere;

impl Env for Nowhere {
    fn now_ns(&self) -> i128 {
        0
    }

    fn random(&mut self) -> u64 {
        0
    }

    fn time_zone(&self) -> &jiff::tz::TimeZone {
        const UTC: &jiff::tz::TimeZone = &jiff::tz::TimeZone::UTC;
        UTC
    }

    fn node(&self) -> &str {
        ""
    }

    fn hostname(&self) -> &str {
        ""
    }

    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn store(&mut self) -> &mut dyn Store {
        self
    }

    fn scratch(&mut self) -> &mut dyn Store {
        self
    }
}

impl Store for Nowhere {
    fn get(&self, _key: &Value) -> Option<Value> {
        None
    }

    fn put(&mut self, _key: Value, _value: Value) -> Option<Value> {
        None
    }

    fn remove(&mut self, _key: &Value) -> Option<Value> {
        None
    }
}
