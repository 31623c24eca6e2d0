//! A sink from the outside: opened without its far side, filled by the pipeline, looked at, changed, drained.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use weir_rules::template::SqlDialect;
use weir_rules::value::{Text, Value};

use crate::bridge::numbering::Kept;
use crate::circuit::CircuitState;
use crate::config::{self, BufferKind};
use crate::connector::Connector;
use crate::console::{ConsoleOutput, ConsoleSink};
use crate::counters::{LastError, SinkCounters, SinkState};
use crate::crossing::CrossingSink;
use crate::cuts::Cuts;
use crate::dead_letter::{DeadLetters, Letter, LetterLog, Limit};
use crate::fence::Fence;
use crate::file::FileSink;
use crate::http::HttpSink;
use crate::message_ids::MessageIds;
use crate::mqtt::MqttSink;
use crate::plan::{BufferLimits, SinkPlan, Target, WhenFull};
use crate::positions::{Position, Terms};
use crate::postgres::PostgresSink;
use crate::queue::{Full, Owed, Permit, Queue};
use crate::row_log::{RowLog, exchange};
use crate::sqlite::SqliteSink;
use crate::worker::{Delivery, Shared, Status, Worker};
use crate::{Record, Sink, SinkError, codes, now_ms, record};

/// What [`open`] needs.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    /// The rule's id, a path without `.toml`.
    pub rule_id: String,
    /// The sink's id within the rule.
    pub sink_id: String,
    /// What it is and does.
    pub plan: SinkPlan,
    /// The connector that the plan names. A plan with a connector of its own opens that itself.
    pub connector: Option<Arc<Connector>>,
    /// Where dead letters and files go.
    pub data_dir: PathBuf,
    /// Names this broker's store, so that two brokers may write into one database.
    pub store_id: String,
    /// Where console sinks write.
    pub console: ConsoleOutput,
    /// Where rows wait when the plan keeps them on disk; without it they wait in memory all the same.
    pub rows: Option<Arc<dyn RowLog>>,
    /// Where dead letters stand; without it they are lines in files below `data_dir`.
    pub letters: Option<LetterLog>,
}

/// One open sink; clones are the same sink.
#[derive(Clone)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    worker: Arc<Mutex<Option<JoinHandle<()>>>>,
    _shed: Arc<Shed>,
}

/// The task that makes room in a log; it ends with the last handle.
struct Shed(Option<JoinHandle<()>>);

impl Drop for Shed {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Why dead letters cannot be tried again now.
#[derive(Debug, Error)]
pub enum RetryError {
    /// The sink's queue is full, or has ended.
    #[error("the sink's queue has no room for it now")]
    NoRoom,
    /// It cannot be recorded.
    #[error("the store cannot be written: {0}")]
    Store(#[from] std::io::Error),
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Rows that were not delivered in time and are in the dead letters now.
    pub dead_lettered: u64,
    /// Rows that were not delivered in time and wait in the store for the next start.
    pub kept: u64,
    /// Rows that could not even be written there.
    pub lost: u64,
}

/// Opens a sink and starts its worker on the current runtime. The far side need not be up.
///
/// A queue in the store goes on with the rows, the numbers and the epoch of its earlier lives. One in memory starts a new
/// epoch with each opening, drawn at random: the numbers of its rows start at 1 again, and positions that an earlier life
/// left in the database do not hold them back.
///
/// # Errors
/// Only what no waiting can cure: a connector of another type, a TLS file that cannot be read.
pub fn open(spec: &SinkSpec) -> Result<SinkHandle, SinkError> {
    let delivery = delivery(spec)?;
    Ok(start(spec, delivery))
}

/// Opens a queue and worker around a sink of the caller's own.
pub fn open_with(spec: &SinkSpec, sink: Box<dyn Sink>) -> SinkHandle {
    let delivery = Delivery {
        sink,
        batch: spec.plan.batch.clone(),
        retry: spec.plan.retry.clone(),
        connector: None,
        has_circuit: matches!(spec.plan.target, Target::Http(_)),
    };
    start(spec, delivery)
}

fn start(spec: &SinkSpec, delivery: Delivery) -> SinkHandle {
    let log = spec.rows.clone();
    let log = log.filter(|_| spec.plan.buffer.kind == BufferKind::Disk);
    let epoch = log.as_ref().map_or_else(fresh_epoch, |log| log.epoch());
    let queue = Queue::new(spec.plan.buffer.clone(), log);
    let recovered_to = queue.recovered_to();
    let cuts = queue.is_durable().then(|| {
        let (cuts, known) = Cuts::open(&spec.data_dir, &spec.rule_id, &spec.sink_id, epoch);
        queue.cut_again(known);
        cuts
    });
    let fence = if queue.is_durable() {
        let sink = (&*spec.rule_id, &*spec.sink_id);
        // One whose rows come at least once may keep a position later.
        let target = &spec.plan.target;
        let is_table = matches!(target, Target::Table(_) | Target::Statement(_));
        Fence::open(&spec.data_dir, sink, epoch, recovered_to, is_table)
    } else {
        Fence::fresh()
    };
    let shed = queue
        .is_durable()
        .then(|| tokio::spawn(Arc::clone(&queue).shed()));
    let shared = Arc::new(Shared {
        rule: spec.rule_id.clone(),
        sink: spec.sink_id.clone(),
        epoch,
        queue,
        status: Mutex::new(Status {
            state: SinkState::Starting,
            last_error: None,
            circuit: CircuitState::default(),
        }),
        replacement: Mutex::new(None),
        nudge: Notify::new(),
        standing_changed: Notify::new(),
        dead_letters: DeadLetters::new(
            (&spec.rule_id, &spec.sink_id),
            &spec.data_dir,
            spec.letters.clone(),
            epoch,
            recovered_to,
        ),
    });
    let worker = tokio::spawn(Worker::new(Arc::clone(&shared), delivery, cuts, fence).run());
    SinkHandle {
        shared,
        worker: Arc::new(Mutex::new(Some(worker))),
        _shed: Arc::new(Shed(shed)),
    }
}

/// A number that no earlier epoch has had, small enough for a signed 64-bit column.
fn fresh_epoch() -> u64 {
    rand::rng().random_range(1..=i64::MAX.unsigned_abs())
}

/// The sink that a plan describes, for [`open`] and for checks of a connector.
fn delivery(spec: &SinkSpec) -> Result<Delivery, SinkError> {
    let connector = match (&spec.connector, &spec.plan.inline) {
        (Some(connector), _) => Some(Arc::clone(connector)),
        (None, Some(inline)) => {
            let name = format!("{}.{}", spec.rule_id, spec.sink_id);
            // Relative paths start where those of connector files do.
            Some(Connector::open(&name, inline, Path::new("."))?)
        }
        (None, None) => None,
    };
    let sink: Box<dyn Sink> = match (&spec.plan.target, connector.as_deref()) {
        (Target::Console { max_per_second }, _) => {
            Box::new(ConsoleSink::new(spec.console.clone(), *max_per_second))
        }
        (Target::File(file), _) => Box::new(FileSink::new(file.clone(), &spec.data_dir)),
        (Target::Republish(_), _) => {
            return Err(SinkError::new(
                codes::KIND,
                "republish sinks are routed by the broker itself",
            ));
        }
        (_, None) => {
            return Err(SinkError::new(
                codes::UNKNOWN_CONNECTOR,
                "the sink's connector is not open",
            ));
        }
        (target, Some(connector)) => connected(spec, target, connector)?,
    };
    Ok(Delivery {
        sink,
        batch: spec.plan.batch.clone(),
        retry: spec.plan.retry.clone(),
        connector,
        has_circuit: matches!(spec.plan.target, Target::Http(_)),
    })
}

fn connected(
    spec: &SinkSpec,
    target: &Target,
    connector: &Connector,
) -> Result<Box<dyn Sink>, SinkError> {
    use crate::connector::Link;
    let sink: Box<dyn Sink> = match (target, connector.link()) {
        (Target::Table(table), Link::Postgres(database))
            if table.dialect == SqlDialect::Postgres =>
        {
            let terms = terms(spec, table.message_id.as_ref(), &database.name());
            let database = database.clone();
            Box::new(PostgresSink::table(database, table.clone(), terms))
        }
        (Target::Statement(statement), Link::Postgres(database))
            if statement.dialect == SqlDialect::Postgres =>
        {
            let terms = terms(spec, statement.message_id.as_ref(), &database.name());
            Box::new(PostgresSink::statement(
                database.clone(),
                statement.clone(),
                terms,
            ))
        }
        (Target::Table(table), Link::Sqlite(database)) if table.dialect == SqlDialect::Sqlite => {
            let terms = terms(spec, table.message_id.as_ref(), &database.name());
            let database = database.clone();
            Box::new(SqliteSink::table(database, table.clone(), terms))
        }
        (Target::Statement(statement), Link::Sqlite(database))
            if statement.dialect == SqlDialect::Sqlite =>
        {
            let terms = terms(spec, statement.message_id.as_ref(), &database.name());
            Box::new(SqliteSink::statement(
                database.clone(),
                statement.clone(),
                terms,
            ))
        }
        (Target::Http(http), Link::Http(client)) => Box::new(HttpSink::new(
            client.clone(),
            (**http).clone(),
            spec.store_id.clone(),
        )),
        (Target::Mqtt(message), Link::Mqtt(link)) => {
            let rows = spec.rows.as_ref();
            let rows = rows.filter(|_| spec.plan.buffer.kind == BufferKind::Disk);
            let kept = rows.map(|rows| kept(spec, &**rows));
            Box::new(MqttSink::new(link.clone(), message.clone(), kept))
        }
        (Target::Bridge, Link::Mqtt(link)) => {
            // Without a store numbers begin anew, and nothing can be remembered of them.
            let rows = spec.rows.as_ref();
            let kept = rows.map(|rows| kept(spec, &**rows));
            Box::new(CrossingSink::new(link.clone(), kept))
        }
        _ => {
            return Err(SinkError::new(
                codes::KIND,
                format!(
                    "connector `{}` is not of the type that the sink was checked against",
                    connector.name()
                ),
            ));
        }
    };
    Ok(sink)
}

/// How a database tells the rows of a sink apart.
fn terms(spec: &SinkSpec, message_id: Option<&String>, database: &str) -> Terms {
    Terms {
        position: (spec.plan.delivery == config::Delivery::ExactlyOnce)
            .then(|| Position::new(spec.store_id.clone(), database)),
        message_ids: message_id.map(|name| {
            let ids = MessageIds::new(&spec.store_id, name);
            match &spec.plan.target {
                Target::Table(table) if table.dialect == SqlDialect::Sqlite => ids.in_any_case(),
                _ => ids,
            }
        }),
    }
}

fn kept(spec: &SinkSpec, rows: &dyn RowLog) -> Kept {
    Kept {
        data_dir: spec.data_dir.clone(),
        epoch: rows.epoch(),
    }
}

/// Another configuration of a sink, ready to take the place of the one it has.
#[must_use = "nothing changes until it is installed"]
pub struct Prepared {
    sink: SinkHandle,
    delivery: Delivery,
    limits: BufferLimits,
}

impl Prepared {
    /// Gives it to the sink. Takes effect between two attempts.
    pub fn install(self) {
        let shared = &self.sink.shared;
        shared.queue.set_limits(self.limits);
        *shared.replacement.lock() = Some(self.delivery);
        shared.nudge.notify_one();
    }
}

impl SinkHandle {
    /// The rule's id.
    pub fn rule_id(&self) -> &str {
        &self.shared.rule
    }

    /// The sink's id within the rule.
    pub fn sink_id(&self) -> &str {
        &self.shared.sink
    }

    /// What the queue does when it is full.
    pub fn when_full(&self) -> WhenFull {
        self.shared.queue.when_full()
    }

    /// Whether rows wait in the store: then they are [claimed](Self::claim) and committed, else [pushed](Self::push).
    pub fn is_durable(&self) -> bool {
        self.shared.queue.is_durable()
    }

    /// Room for what one message makes for this sink. Sizes come from [`crate::record_size`]; of a durable sink they are
    /// those of the [encoded](crate::record::encode) rows.
    ///
    /// # Errors
    /// Only a `block` queue is ever full; the others make room when a row is pushed.
    pub fn try_reserve(&self, rows: usize, bytes: usize) -> Result<Permit, Full> {
        self.shared.queue.try_reserve(rows, bytes)
    }

    /// Puts a row in. Never fails: the permit holds its room. `path` names the nodes that its message has crossed; it may be
    /// empty.
    pub fn push(
        &self,
        permit: &mut Permit,
        client_id: Text,
        message_id: u128,
        row: Value,
        now_ms: i64,
        path: Text,
    ) {
        let record = Record {
            seq: 0,
            message_id,
            client_id,
            accepted_at_ms: now_ms,
            path,
            row,
        };
        self.shared.queue.push(permit, record);
    }

    /// Makes a reservation rows that are to be committed with the rest of what their message made; those that the policy
    /// takes. `None` when it takes none of them, or when the sink is not durable.
    pub fn claim(&self, permit: Permit, rows: Vec<Bytes>) -> Option<Owed> {
        self.shared.queue.claim(permit, rows)
    }

    /// Puts dead letters of this sink at the end of its queue again, with the time and the message id that they have, all of
    /// them or none; `letters` is the log in which they stand, from which they go in the same commit. What is to be put is
    /// their [`row`](crate::dead_letter::DeadLetter::row).
    ///
    /// # Errors
    /// When the queue has no room for them, has ended, or cannot be written: then they stay dead letters.
    pub async fn retry(
        &self,
        letters: &Arc<dyn RowLog>,
        rows: Vec<(u64, Bytes)>,
    ) -> Result<(), RetryError> {
        let queue = &self.shared.queue;
        let bytes = rows.iter().map(|(_, row)| row.len()).sum();
        let taken = rows.iter().map(|(seq, _)| (letters.id(), *seq)).collect();
        let Some(log) = queue.log() else {
            return self.retry_in_memory(letters, rows, taken).await;
        };
        let claim = queue.readmit(rows.len(), bytes).ok_or(RetryError::NoRoom)?;
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        match exchange(&**log, rows, taken).await {
            Ok(()) => {
                claim.kept();
                Ok(())
            }
            Err(error) => {
                claim.taken_back();
                Err(error.into())
            }
        }
    }

    /// The same where rows wait in memory: they are there before they go from the store, so that whatever happens between
    /// the two doubles rows and loses none.
    async fn retry_in_memory(
        &self,
        letters: &Arc<dyn RowLog>,
        rows: Vec<(u64, Bytes)>,
        taken: Vec<(u64, u64)>,
    ) -> Result<(), RetryError> {
        let records: Result<Vec<_>, _> = rows
            .iter()
            .map(|(seq, row)| record::decode(*seq, row))
            .collect();
        let records = records.map_err(|error| RetryError::Store(std::io::Error::other(error)))?;
        let bytes = records.iter().map(Record::size_bytes).sum();
        let mut permit = (self.shared.queue)
            .readmit_in_memory(records.len(), bytes)
            .ok_or(RetryError::NoRoom)?;
        for record in records {
            self.shared.queue.push(&mut permit, record);
        }
        if self.shared.queue.has_stopped() {
            return Err(RetryError::NoRoom);
        }
        exchange(&**letters, Vec::new(), taken).await?;
        Ok(())
    }

    /// Whether this is the very same sink.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Nobody gives the sink rows any more: it ends when it has delivered what it has, however long that takes.
    /// Resolves when it has ended, or was [revived](Self::revive).
    pub async fn retire(&self) {
        let queue = &self.shared.queue;
        queue.retire();
        // Nothing is held back any more.
        self.shared.standing_changed.notify_one();
        loop {
            self.emptied().await;
            if queue.end_if_empty() {
                return;
            }
        }
    }

    /// Takes a retired sink into service again; false when it has ended already.
    pub fn revive(&self) -> bool {
        let goes_on = self.shared.queue.revive();
        // What it waits for may be another thing again.
        self.shared.standing_changed.notify_one();
        goes_on
    }

    /// Ends a durable sink at once; what waits stays in its log.
    pub async fn abandon(&self) {
        self.shared.queue.close();
        let worker = self.worker.lock().take();
        if let Some(worker) = worker {
            worker.abort();
            // Its sink must be gone first.
            let _ = worker.await;
        }
        self.shared.queue.stop();
        self.shared.status.lock().state = SinkState::Stopped;
    }

    /// Resolves when fewer rows than this wait or are under delivery, or the sink ends.
    pub async fn holds_less_than(&self, rows: usize) {
        let queue = &self.shared.queue;
        loop {
            // Notes what happens from here on.
            let left = queue.left();
            if queue.holds_less_than(rows) {
                return;
            }
            left.await;
        }
    }

    /// Resolves when nothing waits any more and nothing is under delivery.
    async fn emptied(&self) {
        let queue = &self.shared.queue;
        loop {
            // Notes what happens from here on.
            let left = queue.left();
            if queue.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Counts rows for which there was no room and nobody who could wait (`QoS` 0).
    pub fn count_dropped(&self, rows: u64, reason: &'static str) {
        self.shared.queue.count_dropped(rows, reason);
    }

    /// A snapshot of the counters, consistent in itself.
    pub fn counters(&self) -> SinkCounters {
        self.shared.queue.counters()
    }

    /// What the sink is doing.
    pub fn state(&self) -> SinkState {
        self.shared.status.lock().state.clone()
    }

    /// Whether its far side is left alone for a while; only that of an HTTP sink ever is.
    pub fn circuit(&self) -> CircuitState {
        self.shared.status.lock().circuit
    }

    /// The last failure, kept after recovery.
    pub fn last_error(&self) -> Option<LastError> {
        self.shared.status.lock().last_error.clone()
    }

    /// Gives the sink another configuration; rows, counters and numbering stay. Takes effect between two attempts.
    ///
    /// # Errors
    /// As [`open`]; then nothing has changed.
    pub fn reconfigure(&self, spec: &SinkSpec) -> Result<(), SinkError> {
        self.prepare(spec)?.install();
        Ok(())
    }

    /// Opens what another configuration needs, and leaves the sink as it is until [`Prepared::install`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn prepare(&self, spec: &SinkSpec) -> Result<Prepared, SinkError> {
        Ok(Prepared {
            sink: self.clone(),
            delivery: delivery(spec)?,
            limits: spec.plan.buffer.clone(),
        })
    }

    /// Delivers what waits, for at most `within`; the rest goes to the dead letters. The sink has ended then.
    ///
    /// A durable sink whose far side does not answer ends at once, and what waits stays in the store.
    pub async fn drain(&self, within: Duration) -> Drained {
        self.shared.queue.close();
        // A worker that waits for its next attempt makes it now.
        self.shared.nudge.notify_one();
        let worker = self.worker.lock().take();
        if let Some(mut worker) = worker
            && tokio::time::timeout(within, &mut worker).await.is_err()
        {
            worker.abort();
            // Its sink must be gone before its rows are given to somebody else.
            let _ = worker.await;
        }
        let rest = self.shared.queue.stop();
        self.shared.status.lock().state = SinkState::Stopped;
        if rest.is_empty() {
            return Drained {
                dead_lettered: 0,
                kept: self.counters().buffered_rows,
                lost: 0,
            };
        }
        let reason = self.last_error().map_or_else(
            || {
                SinkError::new(
                    codes::SHUT_DOWN,
                    "the sink was ended before the row was delivered",
                )
            },
            |last| {
                SinkError::new(
                    codes::SHUT_DOWN,
                    "the sink was ended before the row was delivered",
                )
                .caused_by(&last.error)
            },
        );
        let rows: Vec<_> = rest
            .iter()
            .map(|record| (record.seq, codes::SHUT_DOWN))
            .collect();
        let letters: Vec<_> = rest
            .into_iter()
            .map(|record| Letter {
                record,
                error: reason.clone(),
                attempts: 0,
            })
            .collect();
        let queue = &self.shared.queue;
        let append = self
            .shared
            .dead_letters
            .append(&letters, queue, Limit::Ignored);
        match append.await {
            Ok(_) => {
                self.shared.queue.dead_lettered(&rows);
                Drained {
                    dead_lettered: rows.len() as u64,
                    kept: 0,
                    lost: 0,
                }
            }
            Err(error) => {
                tracing::error!(
                    rule = %self.shared.rule,
                    sink = %self.shared.sink,
                    rows = rows.len(),
                    code = error.code(),
                    "rows are lost: {error}"
                );
                self.shared.status.lock().last_error = Some(LastError {
                    error,
                    at_ms: now_ms(),
                });
                Drained {
                    dead_lettered: 0,
                    kept: 0,
                    lost: rows.len() as u64,
                }
            }
        }
    }
}

impl std::fmt::Debug for SinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkHandle")
            .field("rule", &self.shared.rule)
            .field("sink", &self.shared.sink)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
