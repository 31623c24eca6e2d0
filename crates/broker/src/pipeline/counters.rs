//! What is counted for a rule, and its last errors (rule-SQL §9).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;
use weir_rules::error::ErrorKind;

/// Every kind of evaluation error, in the order of the counters.
pub const KINDS: [ErrorKind; 14] = [
    ErrorKind::PayloadDecode,
    ErrorKind::Type,
    ErrorKind::BadArgument,
    ErrorKind::NotBoolean,
    ErrorKind::NotArray,
    ErrorKind::DivZero,
    ErrorKind::Overflow,
    ErrorKind::NotFinite,
    ErrorKind::Json,
    ErrorKind::Encode,
    ErrorKind::RegexLimit,
    ErrorKind::Jq,
    ErrorKind::Udf,
    ErrorKind::Limit,
];

/// How many errors a rule remembers.
const REMEMBERED: usize = 50;

/// One rule's counters; they outlive a change of the rule.
#[derive(Debug, Default)]
pub struct RuleCounters {
    /// Messages whose source matched.
    pub matched: AtomicU64,
    /// Evaluations that made at least one row.
    pub passed: AtomicU64,
    /// Evaluations whose WHERE did not hold, or whose FOREACH made nothing.
    pub no_result: AtomicU64,
    /// Evaluation errors by kind, in the order of [`KINDS`].
    pub errors: [AtomicU64; KINDS.len()],
    /// Rows that a republish sink made into messages.
    pub republished: AtomicU64,
    /// Rows that a republish sink refused: a bad topic, a missing field, too many hops.
    pub republish_failed: AtomicU64,
    /// When it last matched: milliseconds since the Unix epoch, 0 for never.
    pub last_match_ms: AtomicI64,
    last_errors: Mutex<VecDeque<RuleError>>,
}

/// One remembered error.
#[derive(Clone, Debug, Serialize)]
pub struct RuleError {
    /// When: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The kind, e.g. `payload_decode`.
    pub kind: &'static str,
    /// What went wrong and where in the statement.
    pub message: String,
    /// The topic of the message.
    pub topic: String,
}

impl RuleCounters {
    /// Evaluation errors of all kinds.
    pub fn failed(&self) -> u64 {
        self.errors.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Counts an error and remembers it, where it is to be kept; tells whether it is one to log (the 1st, 10th, 100th … of its kind).
    pub fn error(&self, kind: ErrorKind, error: Option<RuleError>) -> bool {
        let index = KINDS
            .iter()
            .position(|known| *known == kind)
            .expect("KINDS lists every kind");
        let count = self.errors[index].fetch_add(1, Relaxed) + 1;
        if let Some(error) = error {
            self.remember(error);
        }
        is_power_of_ten(count)
    }

    /// Remembers an error that belongs to no evaluation.
    pub fn remember(&self, error: RuleError) {
        let mut last = self.last_errors.lock();
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(error);
    }

    /// The last errors, oldest first.
    pub fn last_errors(&self) -> Vec<RuleError> {
        self.last_errors.lock().iter().cloned().collect()
    }
}

/// Whether a repeating event is one to log: the 1st, 10th, 100th …
pub(super) fn is_power_of_ten(mut count: u64) -> bool {
    while count >= 10 && count.is_multiple_of(10) {
        count /= 10;
    }
    count == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeating_error_is_logged_at_1_10_100() {
        let counters = RuleCounters::default();
        let error = || RuleError {
            at_ms: 0,
            kind: "type",
            message: String::new(),
            topic: String::new(),
        };
        let logged: Vec<u32> = (1..=1000)
            .filter(|_| counters.error(ErrorKind::Type, Some(error())))
            .collect();
        assert_eq!(logged, [1, 10, 100, 1000]);
        assert_eq!(counters.failed(), 1000);
        assert_eq!(counters.last_errors().len(), REMEMBERED);
    }
}
