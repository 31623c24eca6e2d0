//! What a sink counts. All of it changes under the queue's lock, so that a snapshot always satisfies
//! `rows_in = delivered + dropped + dead_lettered + buffered_rows + inflight_rows`.

use std::collections::BTreeMap;

use crate::error::SinkError;

/// A snapshot of one sink.
#[derive(Clone, Debug, Default)]
pub struct SinkCounters {
    /// Rows that rules gave to the sink.
    pub rows_in: u64,
    /// Rows that the far side has confirmed.
    pub delivered: u64,
    /// Rows that were thrown away, whatever the reason.
    pub dropped: u64,
    /// Rows in the dead letters, whatever the code.
    pub dead_lettered: u64,
    /// Rows that wait.
    pub buffered_rows: u64,
    /// Their bytes, those of rows under delivery included.
    pub buffered_bytes: u64,
    /// The limit of these bytes.
    pub buffer_limit_bytes: u64,
    /// Rows under delivery.
    pub inflight_rows: u64,
    /// When the oldest row that is not settled was accepted (milliseconds since the epoch).
    pub oldest_accepted_at_ms: Option<i64>,
    /// Attempts after the first.
    pub retries: u64,
    /// Batches whose rows were all settled.
    pub batches_ok: u64,
    /// Attempts after which rows were left to retry.
    pub batches_failed: u64,
    /// Rows thrown away, by reason.
    pub dropped_by: BTreeMap<&'static str, u64>,
    /// Dead letters that made room for newer ones (`when_full = "drop_oldest"`).
    pub letters_evicted: u64,
    /// Dead letters, by code.
    pub dead_lettered_by: BTreeMap<&'static str, u64>,
    /// Rows of a batch.
    pub batch_rows: Histogram,
    /// Seconds that one attempt took.
    pub request_seconds: Histogram,
    /// Seconds from accepting the message to the far side's confirmation.
    pub end_to_end_seconds: Histogram,
}

impl SinkCounters {
    /// Whether every row that came in is accounted for.
    pub fn balanced(&self) -> bool {
        self.rows_in
            == self.delivered
                + self.dropped
                + self.dead_lettered
                + self.buffered_rows
                + self.inflight_rows
    }
}

/// A histogram with fixed bounds.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Upper bounds; one count more than bounds, for what lies above them all.
    pub bounds: &'static [f64],
    /// How many lie in each bucket (not cumulated).
    pub counts: Vec<u64>,
    /// The sum of all.
    pub sum: f64,
}

/// Bounds for seconds.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Bounds for rows.
pub(crate) const ROWS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

impl Default for Histogram {
    fn default() -> Self {
        Self::new(SECONDS)
    }
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What a sink is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Nothing was delivered yet, nothing has failed.
    Starting,
    /// The last attempt succeeded.
    Up,
    /// The last attempt failed; the next one comes at `next_try_ms`.
    Retrying {
        /// Since when attempts fail (milliseconds since the epoch).
        since_ms: i64,
        /// When the next attempt comes.
        next_try_ms: i64,
    },
    /// Configuration or schema is wrong; the sink looks again now and then and loses nothing.
    Paused {
        /// Since when.
        since_ms: i64,
        /// When it looks again.
        next_try_ms: i64,
    },
    /// The sink was ended.
    Stopped,
}

impl SinkState {
    /// The state's name in tools and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Retrying { .. } => "retrying",
            Self::Paused { .. } => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A failure with its time.
#[derive(Clone, Debug)]
pub struct LastError {
    /// What failed.
    pub error: SinkError,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}
