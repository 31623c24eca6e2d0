//! Delivery: rows of rules in, outcomes out.
//!
//! A sink is a bounded queue, in memory or in the broker's store, and a worker that takes batches from it, renders them
//! with the sink's current configuration, and settles every row: delivered, dropped, or parked in the dead letters with a
//! reason.
//! Never here: MQTT sessions and packets of weir's own listeners, and the evaluation of rules.

pub mod bridge;
pub mod circuit;
pub mod codes;
pub mod config;
pub mod connector;
mod console;
pub mod counters;
pub mod crossing;
mod cuts;
pub mod dead_letter;
mod error;
mod fence;
mod file;
mod halving;
mod http;
mod message_ids;
mod mqtt;
pub mod online;
mod open;
mod own_tables;
pub mod plan;
mod positions;
mod postgres;
mod queue;
pub mod record;
pub mod render;
pub mod retry;
mod row_log;
#[cfg(feature = "schema")]
mod schema;
pub mod secret;
mod sqlite;
mod table;
pub mod tls;
pub mod units;
mod worker;

use std::time::Duration;

use async_trait::async_trait;
use weir_rules::value::{Text, Value};

pub use crate::circuit::CircuitState;
pub use crate::config::SinkConfig;
pub use crate::config::connector::ConnectorConfig;
pub use crate::connector::{Connector, ConnectorState, LinkState};
pub use crate::console::ConsoleOutput;
pub use crate::counters::{Histogram, LastError, SinkCounters, SinkState};
pub use crate::error::{ConfigError, RenderError, SinkError};
pub use crate::fence::Fence;
pub use crate::open::{Drained, Prepared, RetryError, SinkHandle, SinkSpec, open, open_with};
pub use crate::plan::{SinkPlan, WhenFull};
pub use crate::queue::{Claim, Full, Owed, Permit};
pub use crate::render::{Rendered, render};
pub use crate::row_log::{Exchanged, MemoryRows, RowLog, Standing};
pub use crate::secret::Secret;

/// One row that a sink owes to its far side.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the sink's queue, from 1, within the queue's epoch.
    pub seq: u64,
    /// The message that made it.
    pub message_id: u128,
    /// Who published that message.
    pub client_id: Text,
    /// When the broker accepted that message, in milliseconds since the Unix epoch.
    pub accepted_at_ms: i64,
    /// The brokers that what it is made of has crossed, with commas between; empty where nobody asks.
    pub path: Text,
    /// What the rule made; rendered only at delivery.
    pub row: Value,
}

impl Record {
    /// About how much memory the record holds, which is what queue limits count.
    pub fn size_bytes(&self) -> usize {
        RECORD_OVERHEAD + self.client_id.as_bytes().len() + value_size(&self.row)
    }
}

/// What a queued record costs beside its row: its own fields and its slot.
const RECORD_OVERHEAD: usize = 96;

/// About how much memory a value holds: what [`SinkHandle::try_reserve`] wants to know about a row.
pub fn value_size(value: &Value) -> usize {
    const SLOT: usize = 24;
    match value {
        Value::Undefined | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => SLOT,
        Value::Text(text) => SLOT + text.as_bytes().len(),
        Value::Bits(bits) => SLOT + bits.bytes.len(),
        Value::Array(items) => SLOT + items.iter().map(value_size).sum::<usize>(),
        Value::Object(members) => {
            SLOT + members
                .iter()
                .map(|(key, value)| SLOT + key.len() + value_size(value))
                .sum::<usize>()
        }
    }
}

/// What the queue will count for one row of `client_id`.
pub fn record_size(client_id: &Text, row: &Value) -> usize {
    RECORD_OVERHEAD + client_id.as_bytes().len() + value_size(row)
}

/// Rows that go out together, in order, with a contiguous or thinned sequence range.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The rule that made the rows.
    pub rule: &'a str,
    /// The sink's id within the rule.
    pub sink: &'a str,
    /// The life of the queue that numbered the rows. Sequence numbers of two epochs cannot be compared.
    pub epoch: u64,
    /// Rows up to this number may have been delivered by an earlier attempt, or an earlier life of the process.
    pub given_to: u64,
    /// Which start of weir gives them.
    pub fence: &'a Fence,
    /// The rows; never empty, sequence numbers rising.
    pub records: &'a [Record],
}

impl Batch<'_> {
    /// The first sequence number.
    pub fn first_seq(&self) -> u64 {
        self.records.first().map_or(0, |record| record.seq)
    }

    /// The last sequence number.
    pub fn last_seq(&self) -> u64 {
        self.records.last().map_or(0, |record| record.seq)
    }
}

/// What became of one record of a batch.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The far side has confirmed it.
    Delivered,
    /// It has to be given again: after `after` where the far side (or the sink) names a time, else when the
    /// retry schedule says.
    Retry {
        /// How long to wait; `None` leaves it to the schedule.
        after: Option<Duration>,
        /// Why.
        error: SinkError,
    },
    /// It will never be taken: to the dead letters.
    Rejected {
        /// Why.
        error: SinkError,
    },
    /// Nothing was done about it, since another row of the batch has to be parked first.
    Untried,
}

/// A far side that takes batches.
#[async_trait]
pub trait Sink: Send {
    /// Its turn has come: what it replaces is gone. A sink that keeps a connection makes it now and not earlier.
    fn start(&mut self) {}

    /// Whether rows share requests that the far side tells apart by the rows in them.
    fn shares_requests(&self) -> bool {
        false
    }

    /// Delivers a batch: exactly one outcome per record, in the same order.
    ///
    /// A batch that was given before and was not confirmed may come again, whole or in parts.
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome>;

    /// These rows, by number, are not given again though they are not settled: they go to the dead letters.
    ///
    /// # Errors
    /// When the sink cannot remember that some of them may be half way at the far side.
    async fn gives_up(&mut self, rows: Vec<u64>) -> Result<(), SinkError> {
        let _ = rows;
        Ok(())
    }

    /// A real round trip to the far side.
    async fn check(&mut self) -> Result<(), SinkError>;
}

/// Milliseconds since the Unix epoch, by the system's clock.
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        })
}
