//! The bounded queue of one sink: in memory, or over a [`RowLog`] that outlives the process (`durable.rs`).
//!
//! Room is reserved before a message is routed and filled afterwards, so that a message is kept by all of its
//! sinks or by none. Every row is, at any moment, in exactly one place: waiting, under delivery, or counted as
//! delivered, dropped or dead-lettered; all of that changes under one lock.

mod durable;

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Record;
use crate::counters::{Histogram, ROWS, SinkCounters};
use crate::plan::{BatchLimits, BufferLimits, WhenFull};
use crate::row_log::RowLog;

pub use durable::{Claim, Owed};

/// The queue of one sink.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Where rows wait, when it is not here.
    log: Option<Arc<dyn RowLog>>,
    /// Held by whoever reads from the log, so that each row is taken once.
    reading: tokio::sync::Mutex<()>,
    /// More waits in the log than the limits allow.
    crowded: Notify,
    state: Mutex<State>,
    /// Rows came, or the queue was closed.
    filled: Notify,
    /// Room came back, or the queue was closed.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limits: BufferLimits,
    /// Rows that wait here: none where they wait in a log.
    waiting: VecDeque<Waiting>,
    inflight: VecDeque<InFlight>,
    /// What waits elsewhere.
    stored: Stored,
    /// Bytes of rows that wait or are under delivery.
    bytes: usize,
    /// Those of them that wait.
    waiting_bytes: usize,
    /// A row found no room since the last batch was taken: waiting for more rows is of no use.
    pressed: bool,
    reserved_rows: usize,
    reserved_bytes: usize,
    next_seq: u64,
    /// The worker sleeps until a batch of this size is there or its time is up: only then is it worth waking.
    wake: Wake,
    /// Raised each time room comes back.
    generation: u64,
    closed: bool,
    stopped: bool,
    /// Nobody fills it any more: it ends when it is empty.
    retired: bool,
    counters: SinkCounters,
}

/// How much has to wait before a sleeping worker is woken.
#[derive(Clone, Copy, Debug)]
struct Wake {
    rows: usize,
    bytes: usize,
}

impl Wake {
    /// It is awake, or busy: it looks by itself.
    const NEVER: Self = Self {
        rows: usize::MAX,
        bytes: usize::MAX,
    };
    /// It waits for a first row.
    const ANY: Self = Self { rows: 0, bytes: 0 };

    /// It waits for a batch.
    fn full(batch: &BatchLimits, buffer: &BufferLimits) -> Self {
        let (rows, bytes) = match batch.held_back {
            Some(rows) => (rows, usize::MAX),
            None => (batch.max_rows, batch.max_bytes),
        };
        // A buffer smaller than a batch never holds a whole one.
        Self {
            rows: rows.min(buffer.max_rows),
            bytes: bytes.min(buffer.max_bytes),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    since: Instant,
}

/// A row under delivery.
#[derive(Debug)]
struct InFlight {
    record: Record,
    /// What it counts in the queue's books.
    size: usize,
}

/// The rows of a queue that wait in its log.
#[derive(Debug, Default)]
struct Stored {
    /// Rows that are on their way into the log, or in it and not taken yet.
    rows: usize,
    /// Those of them whose commit is not done.
    committing: usize,
    committing_bytes: usize,
    /// The number of the next row to take.
    next: u64,
    /// Rows that a crash left over, taken or not, have numbers up to this.
    recovered_to: u64,
    /// An earlier life ended batches with rows of these numbers, and this one does so again.
    cuts: BTreeSet<u64>,
}

/// Room in a queue, held for the rows of one message. What is not filled is given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    queue: Arc<Queue>,
    rows: usize,
    bytes: usize,
}

/// The queue has no room now.
#[derive(Debug)]
pub struct Full {
    queue: Arc<Queue>,
    generation: u64,
    /// The message alone is larger than the whole queue: waiting will not help.
    pub never: bool,
}

impl Full {
    /// Resolves when room has come back since the reservation failed. It may have been taken again: ask anew.
    pub async fn room(&self) {
        loop {
            let notified = self.queue.freed.notified();
            {
                let state = self.queue.state.lock();
                if state.generation != self.generation || state.closed {
                    return;
                }
            }
            notified.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.rows > 0 || self.bytes > 0 {
            let mut state = self.queue.state.lock();
            state.reserved_rows = state.reserved_rows.saturating_sub(self.rows);
            state.reserved_bytes = state.reserved_bytes.saturating_sub(self.bytes);
            state.generation += 1;
            drop(state);
            self.queue.freed.notify_waiters();
        }
    }
}

impl State {
    fn rows(&self) -> usize {
        self.rows_waiting() + self.inflight.len()
    }

    fn rows_waiting(&self) -> usize {
        self.waiting.len() + self.stored.rows
    }

    /// Whether so much waits, or there is no room for more.
    fn has(&self, wake: Wake) -> bool {
        self.pressed || self.rows_waiting() >= wake.rows || self.waiting_bytes >= wake.bytes
    }

    /// Notes that a row found no room; true when that is news to a worker that waits for more rows.
    fn press(&mut self) -> bool {
        let news = !self.pressed && self.rows_waiting() > 0;
        self.pressed |= news;
        news
    }

    fn fits(&self, rows: usize, bytes: usize) -> bool {
        self.rows() + self.reserved_rows + rows <= self.limits.max_rows
            && self.bytes + self.reserved_bytes + bytes <= self.limits.max_bytes
            && self.may_commit(bytes)
    }

    /// Whether there would be room if nothing waited.
    fn fits_without_waiting(&self, bytes: usize) -> bool {
        let held = self.bytes - self.waiting_bytes + self.reserved_bytes;
        self.inflight.len() + self.reserved_rows < self.limits.max_rows
            && held + bytes <= self.limits.max_bytes
    }

    /// Takes the row that has waited longest; its bytes stay in the queue's books.
    fn pop_waiting(&mut self) -> Option<Record> {
        let record = self.waiting.pop_front()?.record;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(record.size_bytes());
        Some(record)
    }

    fn drop_row(&mut self, reason: &'static str) {
        self.counters.dropped += 1;
        *self.counters.dropped_by.entry(reason).or_default() += 1;
    }

    /// Gives back the room of a row that has left.
    fn leave(&mut self, size: usize) {
        self.bytes = self.bytes.saturating_sub(size);
        self.generation += 1;
    }

    fn take_inflight(&mut self, seq: u64) -> Option<Record> {
        let index = self
            .inflight
            .binary_search_by_key(&seq, |row| row.record.seq)
            .ok()?;
        let row = self.inflight.remove(index)?;
        self.leave(row.size);
        Some(row.record)
    }
}

impl Queue {
    /// An empty queue, or what an earlier life has left in `log`.
    pub(crate) fn new(limits: BufferLimits, log: Option<Arc<dyn RowLog>>) -> Arc<Self> {
        let counters = SinkCounters {
            batch_rows: Histogram::new(ROWS),
            ..SinkCounters::default()
        };
        let queue = Arc::new(Self {
            log,
            reading: tokio::sync::Mutex::default(),
            crowded: Notify::new(),
            state: Mutex::new(State {
                limits,
                waiting: VecDeque::new(),
                inflight: VecDeque::new(),
                stored: Stored::default(),
                bytes: 0,
                waiting_bytes: 0,
                pressed: false,
                reserved_rows: 0,
                reserved_bytes: 0,
                next_seq: 1,
                wake: Wake::NEVER,
                generation: 0,
                closed: false,
                stopped: false,
                retired: false,
                counters,
            }),
            filled: Notify::new(),
            freed: Notify::new(),
        });
        queue.recover();
        queue
    }

    pub(crate) fn set_limits(&self, limits: BufferLimits) {
        let mut state = self.state.lock();
        state.limits = limits;
        state.generation += 1;
        drop(state);
        self.freed.notify_waiters();
        self.crowded.notify_one();
        // What a full batch is depends on the limits.
        self.filled.notify_one();
    }

    /// Where its rows wait, when it is not here.
    pub(crate) fn log(&self) -> Option<&Arc<dyn RowLog>> {
        self.log.as_ref()
    }

    pub(crate) fn when_full(&self) -> WhenFull {
        self.state.lock().limits.when_full
    }

    /// Room for `rows` rows of `bytes` bytes together. Only a `block` queue ever says no.
    pub(crate) fn try_reserve(self: &Arc<Self>, rows: usize, bytes: usize) -> Result<Permit, Full> {
        let mut state = self.state.lock();
        if state.limits.when_full != WhenFull::Block {
            return Ok(Permit {
                queue: Arc::clone(self),
                rows: 0,
                bytes: 0,
            });
        }
        if !state.fits(rows, bytes) {
            let never = rows > state.limits.max_rows || bytes > state.limits.max_bytes;
            let generation = state.generation;
            let wake = !never && state.press();
            drop(state);
            if wake {
                self.filled.notify_one();
            }
            return Err(Full {
                queue: Arc::clone(self),
                generation,
                never,
            });
        }
        state.reserved_rows += rows;
        state.reserved_bytes += bytes;
        Ok(Permit {
            queue: Arc::clone(self),
            rows,
            bytes,
        })
    }

    /// Puts a row in, under the next number. With a permit of a `block` queue it always fits; the other policies make room or drop.
    pub(crate) fn push(&self, permit: &mut Permit, record: Record) {
        let size = record.size_bytes();
        let mut state = self.state.lock();
        state.counters.rows_in += 1;
        let (rows, bytes) = (permit.rows.min(1), permit.bytes.min(size));
        permit.rows -= rows;
        permit.bytes -= bytes;
        state.reserved_rows = state.reserved_rows.saturating_sub(rows);
        state.reserved_bytes = state.reserved_bytes.saturating_sub(bytes);
        if state.stopped {
            state.drop_row("sink_stopped");
            return;
        }
        let reserved = rows > 0;
        let mut pressed = false;
        if !reserved && !state.fits(1, size) {
            pressed = size <= state.limits.max_bytes && state.press();
            if !Self::make_room(&mut state, size) {
                drop(state);
                if pressed {
                    self.filled.notify_one();
                }
                return;
            }
        }
        let record = Record {
            seq: state.next_seq,
            ..record
        };
        state.next_seq += 1;
        let bytes_before = state.waiting_bytes;
        state.bytes += size;
        state.waiting_bytes += size;
        state.waiting.push_back(Waiting {
            record,
            since: Instant::now(),
        });
        let rows = state.waiting.len();
        // Once for the first row, which starts the batch's clock, and once when the batch is full: a wake a row would
        // cost more than the row.
        let first_or_full = pressed
            || rows == 1
            || rows == state.wake.rows
            || (bytes_before < state.wake.bytes && state.waiting_bytes >= state.wake.bytes);
        drop(state);
        if first_or_full {
            self.filled.notify_one();
        }
    }

    /// What the policy does for a row that finds no room; false when the row itself was dropped.
    fn make_room(state: &mut State, size: usize) -> bool {
        match state.limits.when_full {
            // A row for which no eviction makes room must not cost the others theirs.
            WhenFull::DropOldest if state.fits_without_waiting(size) => {
                while !state.fits(1, size) {
                    let Some(oldest) = state.pop_waiting() else {
                        break;
                    };
                    state.leave(oldest.size_bytes());
                    state.drop_row("queue_full");
                }
                true
            }
            WhenFull::DropOldest | WhenFull::DropNewest | WhenFull::Block => {
                state.drop_row("queue_full");
                false
            }
        }
    }

    /// Counts rows that never came in because there was no room for them (`QoS` 0 at a `block` queue).
    pub(crate) fn count_dropped(&self, rows: u64, reason: &'static str) {
        let mut state = self.state.lock();
        state.counters.rows_in += rows;
        state.counters.dropped += rows;
        *state.counters.dropped_by.entry(reason).or_default() += rows;
    }

    /// Waits for the next batch; `None` when the queue is closed and empty. The rows stay in the queue's books as
    /// under delivery until they are settled. Whoever stops waiting leaves the queue as it was.
    pub(crate) async fn take_batch(&self, limits: &BatchLimits) -> Option<Vec<Record>> {
        if let Some(log) = &self.log {
            return self.take_stored(log, limits).await;
        }
        loop {
            let wait = {
                let mut state = self.state.lock();
                state.wake = Wake::full(limits, &state.limits);
                match state.waiting.front() {
                    None if state.closed => return None,
                    None => None,
                    Some(first) => {
                        let ready_at = first.since + limits.patience();
                        let now = Instant::now();
                        if state.closed || now >= ready_at || Self::batch_is_full(&state, limits) {
                            return Some(Self::cut_batch(&mut state, limits));
                        }
                        Some(ready_at)
                    }
                }
            };
            match wait {
                None => self.filled.notified().await,
                Some(ready_at) => {
                    tokio::select! {
                        () = self.filled.notified() => {}
                        () = tokio::time::sleep_until(ready_at) => {}
                    }
                }
            }
        }
    }

    fn batch_is_full(state: &State, limits: &BatchLimits) -> bool {
        state.has(Wake::full(limits, &state.limits))
    }

    fn cut_batch(state: &mut State, limits: &BatchLimits) -> Vec<Record> {
        let mut batch = Vec::with_capacity(limits.max_rows.min(state.waiting.len()));
        let mut bytes = 0;
        while let Some(first) = state.waiting.front() {
            let size = first.record.size_bytes();
            if !batch.is_empty()
                && (batch.len() >= limits.max_rows || bytes + size > limits.max_bytes)
            {
                break;
            }
            bytes += size;
            if let Some(record) = state.pop_waiting() {
                let size = record.size_bytes();
                state.inflight.push_back(InFlight {
                    record: record.clone(),
                    size,
                });
                batch.push(record);
            }
        }
        state.pressed = false;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has far fewer rows than 2^52"
        )]
        state.counters.batch_rows.observe(batch.len() as f64);
        batch
    }

    /// The far side has confirmed rows.
    pub(crate) fn delivered(&self, rows: &[u64], now_ms: i64) {
        let mut state = self.state.lock();
        for seq in rows {
            if let Some(record) = state.take_inflight(*seq) {
                state.counters.delivered += 1;
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a latency in milliseconds is far below 2^52"
                )]
                let seconds = (now_ms - record.accepted_at_ms).max(0) as f64 / 1000.0;
                state.counters.end_to_end_seconds.observe(seconds);
            }
        }
        self.settle(state);
        self.freed.notify_waiters();
    }

    /// Rows are in the dead letters.
    pub(crate) fn dead_lettered(&self, rows: &[(u64, &'static str)]) {
        let mut state = self.state.lock();
        for (seq, code) in rows {
            if state.take_inflight(*seq).is_some() {
                state.counters.dead_lettered += 1;
                *state.counters.dead_lettered_by.entry(code).or_default() += 1;
            }
        }
        self.settle(state);
        self.freed.notify_waiters();
    }

    /// Rows for which there was no room among the dead letters are gone, and so are older letters.
    pub(crate) fn dropped_from_letters(&self, rows: &[u64], evicted: u64) {
        let mut state = self.state.lock();
        state.counters.letters_evicted += evicted;
        for seq in rows {
            if state.take_inflight(*seq).is_some() {
                state.drop_row("dead_letters_full");
            }
        }
        self.settle(state);
        self.freed.notify_waiters();
    }

    /// An attempt has ended; `left` says whether rows have to be given again.
    pub(crate) fn attempt(&self, took: Duration, left: bool, retry: bool) {
        let mut state = self.state.lock();
        state.counters.request_seconds.observe(took.as_secs_f64());
        state.counters.retries += u64::from(retry);
        if left {
            state.counters.batches_failed += 1;
        } else {
            state.counters.batches_ok += 1;
        }
    }

    pub(crate) fn holds_less_than(&self, rows: usize) -> bool {
        let state = self.state.lock();
        state.rows() < rows || state.closed
    }

    /// No more rows are awaited: what waits goes out at once, then `take_batch` ends.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
        self.freed.notify_waiters();
    }

    /// Ends the queue and hands over what was not settled, oldest first; those rows count as under delivery until
    /// they are settled. What is in a log stays there instead. Rows pushed later are dropped and counted.
    pub(crate) fn stop(&self) -> Vec<Record> {
        let mut state = self.state.lock();
        state.closed = true;
        state.stopped = true;
        if self.log.is_some() {
            state.stored.rows += state.inflight.len();
            state.inflight.clear();
        }
        while let Some(record) = state.pop_waiting() {
            let size = record.size_bytes();
            state.inflight.push_back(InFlight { record, size });
        }
        let rest = state
            .inflight
            .iter()
            .map(|row| row.record.clone())
            .collect();
        drop(state);
        self.freed.notify_waiters();
        rest
    }

    pub(crate) fn counters(&self) -> SinkCounters {
        let state = self.state.lock();
        let mut counters = state.counters.clone();
        counters.buffered_rows = state.rows_waiting() as u64;
        counters.inflight_rows = state.inflight.len() as u64;
        counters.buffered_bytes = state.bytes as u64;
        counters.buffer_limit_bytes = state.limits.max_bytes as u64;
        counters.oldest_accepted_at_ms = state
            .inflight
            .front()
            .map(|row| &row.record)
            .or_else(|| state.waiting.front().map(|waiting| &waiting.record))
            .map(|record| record.accepted_at_ms);
        counters
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
