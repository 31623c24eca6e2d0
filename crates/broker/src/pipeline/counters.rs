//! What is counted for a rule, and its last errors (rule-SQL §9).

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

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
#[derive(Debug)]
pub struct RuleCounters {
    /// What every message counts: each thread for itself, so that threads do not wait for each other's writes.
    shards: Box<[Shard]>,
    /// Evaluation errors by kind, in the order of [`KINDS`].
    pub errors: [AtomicU64; KINDS.len()],
    /// Rows that a republish sink refused: a bad topic, a missing field, too many hops.
    pub republish_failed: AtomicU64,
    last_errors: Mutex<VecDeque<RuleError>>,
}

/// What some of the threads have counted. As large as what processors pass between them.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    passed: AtomicU64,
    no_result: AtomicU64,
    republished: AtomicU64,
    last_match_ms: AtomicI64,
}

/// The shard that this thread counts in.
#[derive(Clone, Copy, Debug)]
pub struct Here(usize);

impl Here {
    /// That of the thread which asks.
    pub fn get() -> Self {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static HERE: usize = THREADS.fetch_add(1, Relaxed);
        }
        Self(HERE.with(|here| *here))
    }
}

/// How many shards a rule has: a power of two, for each thread that works at a time one, within reason.
fn shards() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| {
        std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .next_power_of_two()
            .min(16)
    });
    *COUNT
}

impl Default for RuleCounters {
    fn default() -> Self {
        Self {
            shards: (0..shards()).map(|_| Shard::default()).collect(),
            errors: Default::default(),
            republish_failed: AtomicU64::default(),
            last_errors: Mutex::default(),
        }
    }
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
    /// Messages whose source matched: each has passed, made nothing or failed.
    pub fn matched(&self) -> u64 {
        self.passed() + self.no_result() + self.failed()
    }

    /// Evaluations that made at least one row.
    pub fn passed(&self) -> u64 {
        self.sum(|shard| &shard.passed)
    }

    /// Evaluations whose WHERE did not hold, or whose FOREACH made nothing.
    pub fn no_result(&self) -> u64 {
        self.sum(|shard| &shard.no_result)
    }

    /// Rows that a republish sink made into messages.
    pub fn republished(&self) -> u64 {
        self.sum(|shard| &shard.republished)
    }

    /// When it last matched: milliseconds since the Unix epoch, 0 for never.
    pub fn last_match_ms(&self) -> i64 {
        let times = self.shards.iter().map(|shard| &shard.last_match_ms);
        times.map(|time| time.load(Relaxed)).max().unwrap_or(0)
    }

    /// Notes that the rule matched at `now_ms`; `passed` where that made a row, `None` where it failed.
    pub fn count(&self, here: Here, now_ms: i64, passed: Option<bool>) {
        let Some(shard) = self.shard(here) else {
            return;
        };
        shard.last_match_ms.store(now_ms, Relaxed);
        match passed {
            Some(true) => shard.passed.fetch_add(1, Relaxed),
            Some(false) => shard.no_result.fetch_add(1, Relaxed),
            None => return,
        };
    }

    /// Counts rows that a republish sink made into messages.
    pub fn count_republished(&self, here: Here, rows: u64) {
        if rows > 0
            && let Some(shard) = self.shard(here)
        {
            shard.republished.fetch_add(rows, Relaxed);
        }
    }

    fn shard(&self, here: Here) -> Option<&Shard> {
        self.shards.get(here.0 & (self.shards.len() - 1))
    }

    fn sum(&self, counter: fn(&Shard) -> &AtomicU64) -> u64 {
        let counts = self.shards.iter().map(counter);
        counts.map(|count| count.load(Relaxed)).sum()
    }

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
    fn what_threads_count_adds_up() {
        let counters = RuleCounters::default();
        std::thread::scope(|scope| {
            for thread in 1..=20 {
                let counters = &counters;
                scope.spawn(move || {
                    let here = Here::get();
                    counters.count(here, thread, Some(true));
                    counters.count(here, thread, Some(false));
                    counters.count(here, thread, None);
                    counters.count_republished(here, 2);
                    counters.error(ErrorKind::Type, None);
                });
            }
        });
        assert_eq!(
            (counters.passed(), counters.no_result(), counters.matched()),
            (20, 20, 60)
        );
        assert_eq!(counters.republished(), 40);
        counters.count(Here::get(), 30, None);
        assert_eq!(counters.last_match_ms(), 30);
    }

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
