//! Queues whose rows wait in a [`RowLog`]. Memory holds what is under delivery, however much waits.
//!
//! A row is counted from the moment that its message is accepted: first as one that is being committed, then as one in
//! the log. What an earlier life of the process has left in the log counts as having come in when the queue is made.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::MutexGuard;
use tokio::time::Instant;

use super::{InFlight, Permit, Queue, State, Wake};
use crate::plan::{BatchLimits, WhenFull};
use crate::record::{self, BadRecord};
use crate::row_log::RowLog;
use crate::{Record, codes};

/// So much may be on its way into the log at a time. Publishers of `QoS` 0 wait for no commit: this is what keeps a slow
/// disk from filling the memory.
const MOST_COMMITTING: usize = 32 << 20;
/// So few rows are decoded faster than another thread is woken to do so.
const FEW_ROWS: usize = 64;
/// How much the oldest rows are read ahead to make room for new ones.
const SHED_ROWS: usize = 4096;
const SHED_BYTES: usize = 1 << 20;
/// When rows that cannot be read are tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Rows for the store: they go into the commit of everything else that their message made.
#[derive(Debug)]
pub struct Owed {
    /// Which queue of the store: the [`id`](RowLog::id) of its log.
    pub queue: u64,
    /// The rows, encoded, in order.
    pub rows: Vec<Bytes>,
    /// What the rows take of the queue. To be told what became of the commit.
    pub claim: Claim,
}

/// Rows that are being committed. Dropped without a word they were not kept: their room is given back, and they count as
/// dropped.
#[derive(Debug)]
#[must_use = "rows that nobody answers for count as dropped"]
pub struct Claim {
    queue: Arc<Queue>,
    rows: usize,
    bytes: usize,
}

impl Claim {
    /// Whether both are of the same sink.
    pub fn is_of_queue_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Answers for the rows of another one of the same sink, too.
    pub fn join(&mut self, mut other: Self) {
        let (rows, bytes) = other.take();
        self.rows += rows;
        self.bytes += bytes;
    }

    /// The commit is done.
    pub fn kept(mut self) {
        let (rows, bytes) = self.take();
        let mut state = self.queue.state.lock();
        state.committed(rows, bytes);
        let crowded = state.is_crowded();
        self.queue.answered(state);
        if crowded {
            self.queue.crowded.notify_one();
        }
    }

    /// It was never to be: the rows did not come in, and stay where they were.
    pub(crate) fn taken_back(mut self) {
        let (rows, bytes) = self.take();
        let mut state = self.queue.state.lock();
        state.committed(rows, bytes);
        state.withdraw(rows, bytes);
        state.counters.rows_in = state.counters.rows_in.saturating_sub(rows as u64);
        self.queue.answered(state);
    }

    fn take(&mut self) -> (usize, usize) {
        (
            std::mem::take(&mut self.rows),
            std::mem::take(&mut self.bytes),
        )
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (rows, bytes) = self.take();
        if rows == 0 {
            return;
        }
        let mut state = self.queue.state.lock();
        state.committed(rows, bytes);
        state.withdraw(rows, bytes);
        state.drop_rows(rows, "not_stored");
        self.queue.answered(state);
    }
}

impl State {
    /// A commit has ended, well or not.
    fn committed(&mut self, rows: usize, bytes: usize) {
        self.stored.committing = self.stored.committing.saturating_sub(rows);
        self.stored.committing_bytes = self.stored.committing_bytes.saturating_sub(bytes);
        self.generation += 1;
    }

    /// Rows in the log are there no more, or are taken from it.
    fn withdraw(&mut self, rows: usize, bytes: usize) {
        self.stored.rows = self.stored.rows.saturating_sub(rows);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        self.leave(bytes);
    }

    fn drop_rows(&mut self, rows: usize, reason: &'static str) {
        let rows = rows as u64;
        self.counters.dropped += rows;
        *self.counters.dropped_by.entry(reason).or_default() += rows;
    }

    /// Whether so much more may be on its way into the log.
    pub(super) fn may_commit(&self, bytes: usize) -> bool {
        let committing = self.stored.committing_bytes;
        committing == 0 || committing + bytes <= MOST_COMMITTING
    }

    /// Whether the oldest rows in the log have to make room.
    fn is_crowded(&self) -> bool {
        self.limits.when_full == WhenFull::DropOldest
            && !self.stopped
            && self.stored.rows > self.stored.committing
            && (self.rows() > self.limits.max_rows || self.bytes > self.limits.max_bytes)
    }

    /// Whether a row that has no reservation is taken.
    fn takes(&self, bytes: usize) -> bool {
        if self.limits.when_full != WhenFull::DropOldest {
            return self.fits(1, bytes);
        }
        // The oldest rows go as soon as these are kept. How far the queue may be over its limits until then is what may
        // be under way.
        bytes <= self.limits.max_bytes && self.may_commit(bytes)
    }

    /// What the log needs not keep any more.
    fn settled_to(&self) -> u64 {
        let next = self
            .inflight
            .front()
            .map_or(self.stored.next, |row| row.record.seq);
        next.saturating_sub(1)
    }
}

/// A row as it was read.
struct Read {
    seq: u64,
    size: usize,
    record: Result<Record, BadRecord>,
}

impl Queue {
    /// Whether rows wait in a log.
    pub(crate) fn is_durable(&self) -> bool {
        self.log.is_some()
    }

    /// Takes over what an earlier life has left.
    pub(super) fn recover(self: &Arc<Self>) {
        let Some(log) = &self.log else { return };
        let standing = log.standing();
        let mut state = self.state.lock();
        state.counters.rows_in = standing.rows;
        state.stored.rows = usize::try_from(standing.rows).unwrap_or(usize::MAX);
        state.stored.next = standing.head.max(1);
        state.stored.recovered_to = standing.tail;
        state.bytes = usize::try_from(standing.bytes).unwrap_or(usize::MAX);
        state.waiting_bytes = state.bytes;
        drop(state);
        self.crowded.notify_one();
        let queue = Arc::downgrade(self);
        log.on_arrival(Box::new(move || {
            if let Some(queue) = queue.upgrade() {
                queue.arrived();
            }
        }));
    }

    /// It is known what became of a commit.
    fn answered(&self, state: MutexGuard<'_, State>) {
        let ends = state.closed;
        drop(state);
        self.freed.notify_waiters();
        if ends {
            // A worker that is about to end waits for this.
            self.filled.notify_one();
        }
    }

    /// Rows have come into the log. Only what the worker waits for wakes it: to do so for each commit would cost more than
    /// the rows.
    fn arrived(&self) {
        let mut state = self.state.lock();
        let wakes = state.has(state.wake);
        if wakes {
            state.wake = Wake::NEVER;
        }
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
    }

    /// Turns a reservation into rows that are to be committed, as far as the policy takes them. `None`: none of them.
    pub(crate) fn claim(
        self: &Arc<Self>,
        mut permit: Permit,
        mut rows: Vec<Bytes>,
    ) -> Option<Owed> {
        let queue = self.log.as_ref()?.id();
        let mut state = self.state.lock();
        state.counters.rows_in += rows.len() as u64;
        let reserved = permit.rows > 0;
        state.reserved_rows = state
            .reserved_rows
            .saturating_sub(std::mem::take(&mut permit.rows));
        state.reserved_bytes = state
            .reserved_bytes
            .saturating_sub(std::mem::take(&mut permit.bytes));
        if state.stopped {
            state.drop_rows(rows.len(), "sink_stopped");
            return None;
        }
        let (mut kept, mut bytes, mut pressed) = (0, 0, false);
        rows.retain(|row| {
            let size = row.len();
            if !reserved && !state.takes(size) {
                pressed |= state.press();
                state.drop_rows(1, "queue_full");
                return false;
            }
            kept += 1;
            bytes += size;
            state.stored.rows += 1;
            state.stored.committing += 1;
            state.stored.committing_bytes += size;
            state.bytes += size;
            state.waiting_bytes += size;
            true
        });
        drop(state);
        if pressed {
            self.filled.notify_one();
        }
        (kept > 0).then(|| Owed {
            queue,
            rows,
            claim: Claim {
                queue: Arc::clone(self),
                rows: kept,
                bytes,
            },
        })
    }

    /// Room for rows that are put in once more; they are to be committed. `None` when there is none: of such rows none is
    /// dropped, whatever the policy.
    pub(crate) fn readmit(self: &Arc<Self>, rows: usize, bytes: usize) -> Option<Claim> {
        let mut state = self.state.lock();
        if state.closed || !state.fits(rows, bytes) {
            return None;
        }
        state.counters.rows_in += rows as u64;
        state.stored.rows += rows;
        state.stored.committing += rows;
        state.stored.committing_bytes += bytes;
        state.bytes += bytes;
        state.waiting_bytes += bytes;
        drop(state);
        let queue = Arc::clone(self);
        Some(Claim { queue, rows, bytes })
    }

    /// The same for a queue in memory.
    pub(crate) fn readmit_in_memory(self: &Arc<Self>, rows: usize, bytes: usize) -> Option<Permit> {
        let mut state = self.state.lock();
        if state.closed || !state.fits(rows, bytes) {
            return None;
        }
        state.reserved_rows += rows;
        state.reserved_bytes += bytes;
        drop(state);
        let queue = Arc::clone(self);
        Some(Permit { queue, rows, bytes })
    }

    /// Batches end where an earlier life has ended them.
    pub(crate) fn cut_again(&self, cuts: BTreeSet<u64>) {
        let mut state = self.state.lock();
        let recovered_to = state.stored.recovered_to;
        state.stored.cuts = cuts
            .into_iter()
            .filter(|cut| *cut <= recovered_to)
            .collect();
    }

    /// Whether nothing waits, is under way or under delivery.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().rows() == 0
    }

    /// From now on it shall end when it is empty.
    pub(crate) fn retire(&self) {
        self.state.lock().retired = true;
    }

    /// Whether it shall end when it is empty.
    pub(crate) fn is_retired(&self) -> bool {
        self.state.lock().retired
    }

    /// It is filled again; false when it has ended.
    pub(crate) fn revive(&self) -> bool {
        let mut state = self.state.lock();
        state.retired = false;
        !state.stopped
    }

    /// Whether rows that are pushed are dropped.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Ends a retired queue that is empty; false when something is in it.
    pub(crate) fn end_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        if !state.retired {
            return true;
        }
        let empty = state.rows() + state.reserved_rows == 0;
        if empty {
            state.closed = true;
            state.stopped = true;
            drop(state);
            self.filled.notify_one();
        }
        empty
    }

    /// Resolves when something may have left the queue.
    pub(crate) fn left(&self) -> impl Future<Output = ()> {
        self.freed.notified()
    }

    /// Whether its rows shall stay where they are instead of being tried again.
    pub(crate) fn leaves_its_rows(&self) -> bool {
        self.is_durable() && self.state.lock().closed
    }

    /// The numbers that an earlier life may have begun to deliver or to park go up to this.
    pub(crate) fn recovered_to(&self) -> u64 {
        self.state.lock().stored.recovered_to
    }

    /// [`take_batch`](Self::take_batch) where rows wait in a log.
    pub(super) async fn take_stored(
        &self,
        log: &Arc<dyn RowLog>,
        limits: &BatchLimits,
    ) -> Option<Vec<Record>> {
        let mut since: Option<Instant> = None;
        loop {
            // Before the look at the log, so that what comes in between wakes it.
            let ends = {
                let mut state = self.state.lock();
                state.wake = Wake::ANY;
                // What is still on its way into the log is delivered, too.
                state.closed && state.stored.committing == 0
            };
            let tail = log.standing().tail;
            let ready_at = {
                let mut state = self.state.lock();
                if state.stopped {
                    return None;
                }
                let there = tail.saturating_sub(state.stored.next.saturating_sub(1));
                if there == 0 {
                    if ends {
                        return None;
                    }
                    since = None;
                    None
                } else {
                    let now = Instant::now();
                    let ready_at = *since.get_or_insert(now) + limits.patience();
                    let ready =
                        state.closed || now >= ready_at || Self::batch_is_full(&state, limits);
                    state.wake = if ready {
                        Wake::NEVER
                    } else {
                        Wake::full(limits, &state.limits)
                    };
                    Some((!ready).then_some(ready_at))
                }
            };
            match ready_at {
                None => self.filled.notified().await,
                Some(Some(ready_at)) => {
                    tokio::select! {
                        () = self.filled.notified() => {}
                        () = tokio::time::sleep_until(ready_at) => {}
                    }
                }
                Some(None) => match self.take_from(log, tail, limits).await {
                    Ok(batch) if batch.is_empty() => {}
                    Ok(batch) => return Some(batch),
                    Err(error) => {
                        tracing::error!(code = codes::FILE, %error, "rows that wait in the store cannot be read; they stay there");
                        tokio::time::sleep(READ_AGAIN).await;
                    }
                },
            }
        }
    }

    /// Takes the next rows; `tail` is the last one that was there. Off the event loop, since it may block on a file, unless
    /// they are few and in memory.
    async fn take_from(
        &self,
        log: &Arc<dyn RowLog>,
        tail: u64,
        limits: &BatchLimits,
    ) -> io::Result<Vec<Record>> {
        let _turn = self.reading.lock().await;
        let from = self.state.lock().stored.next;
        let (most_rows, most_bytes) = (limits.max_rows, limits.max_bytes);
        let decoded = |seq, row: &Bytes| Read {
            seq,
            size: row.len(),
            record: record::decode(seq, row),
        };
        let there = usize::try_from((tail + 1).saturating_sub(from)).unwrap_or(usize::MAX);
        let few = most_rows.min(there) <= FEW_ROWS;
        let at_hand = few.then(|| log.read_at_hand(from, most_rows.min(FEW_ROWS), most_bytes));
        let mut rows: Vec<Read> = match at_hand.flatten() {
            Some(rows) => rows.iter().map(|(seq, row)| decoded(*seq, row)).collect(),
            None => read(log, from, most_rows, most_bytes, decoded).await?,
        };
        let mut state = self.state.lock();
        if state.stopped {
            return Ok(Vec::new());
        }
        if let Some(first) = rows.first() {
            // By number: rows between may be gone.
            state.stored.cuts = state.stored.cuts.split_off(&first.seq);
            if let Some(cut) = state.stored.cuts.first() {
                rows.retain(|row| row.seq <= *cut);
            }
        }
        let mut batch = Vec::with_capacity(rows.len());
        if rows.first().is_none_or(|first| first.seq > from) {
            self.note_lost(&mut state, log);
        }
        if rows.is_empty() {
            // What had these numbers is lost, as the store has said.
            state.stored.next = state.stored.next.max(tail + 1);
        }
        for Read { seq, size, record } in rows {
            state.stored.next = seq + 1;
            state.stored.rows = state.stored.rows.saturating_sub(1);
            state.waiting_bytes = state.waiting_bytes.saturating_sub(size);
            match record {
                Ok(record) => {
                    let copy = record.clone();
                    state.inflight.push_back(InFlight { record: copy, size });
                    batch.push(record);
                }
                Err(error) => {
                    tracing::error!(code = codes::FILE, seq, %error, "a row of the store cannot be read and is dropped");
                    state.leave(size);
                    state.drop_rows(1, "unreadable");
                }
            }
        }
        state.pressed = false;
        if batch.is_empty() {
            self.settle(state);
            return Ok(batch);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has far fewer rows than 2^52"
        )]
        state.counters.batch_rows.observe(batch.len() as f64);
        Ok(batch)
    }

    /// Rows that were found to be damaged are counted. Looked at from here, so that nothing is missed: whatever was told to
    /// be kept is in the log already.
    fn note_lost(&self, state: &mut State, log: &Arc<dyn RowLog>) {
        let held = state.rows().saturating_sub(state.stored.committing);
        let standing = log.standing();
        let lost = held.saturating_sub(usize::try_from(standing.rows).unwrap_or(usize::MAX));
        // Rows between those under delivery may be done, which the log does not know.
        if lost == 0 || !state.inflight.is_empty() {
            return;
        }
        let there = usize::try_from(standing.bytes).unwrap_or(usize::MAX);
        let held = state.bytes.saturating_sub(state.stored.committing_bytes);
        state.withdraw(lost, held.saturating_sub(there));
        state.drop_rows(lost, "damaged");
    }

    /// Tells the log how far it is settled.
    pub(super) fn settle(&self, state: MutexGuard<'_, State>) {
        let Some(log) = &self.log else { return };
        let up_to = state.settled_to();
        drop(state);
        if up_to > 0 {
            log.settle(up_to);
        }
    }

    /// Drops the oldest rows of a queue that shall (`drop_oldest`), for as long as it lives.
    pub(crate) async fn shed(self: Arc<Self>) {
        let Some(log) = self.log.clone() else { return };
        loop {
            self.crowded.notified().await;
            while self.state.lock().is_crowded() {
                match self.shed_some(&log).await {
                    Ok(true) => {}
                    // They are being committed, or under delivery: whoever is told of the commit rings again.
                    Ok(false) => break,
                    Err(error) => {
                        tracing::error!(code = codes::FILE, %error, "rows that wait in the store cannot be read; they stay there");
                        tokio::time::sleep(READ_AGAIN).await;
                    }
                }
            }
        }
    }

    /// Drops some of the oldest rows; false when there were none.
    async fn shed_some(&self, log: &Arc<dyn RowLog>) -> io::Result<bool> {
        let _turn = self.reading.lock().await;
        let from = self.state.lock().stored.next;
        let sizes = read(log, from, SHED_ROWS, SHED_BYTES, |seq, row| {
            (seq, row.len())
        });
        let sizes = sizes.await?;
        let mut state = self.state.lock();
        let before = state.stored.next;
        for (seq, size) in sizes {
            if !state.is_crowded() {
                break;
            }
            state.stored.next = seq + 1;
            state.withdraw(1, size);
            state.drop_rows(1, "queue_full");
        }
        let some = state.stored.next > before;
        self.settle(state);
        self.freed.notify_waiters();
        Ok(some)
    }
}

/// Reads rows on a thread that may block, and makes of them there what is wanted.
async fn read<T: Send + 'static>(
    log: &Arc<dyn RowLog>,
    from: u64,
    most_rows: usize,
    most_bytes: usize,
    each: impl Fn(u64, &Bytes) -> T + Send + 'static,
) -> io::Result<Vec<T>> {
    let log = Arc::clone(log);
    let read = tokio::task::spawn_blocking(move || {
        let rows = log.read(from, most_rows, most_bytes)?;
        Ok(rows.iter().map(|(seq, row)| each(*seq, row)).collect())
    });
    read.await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
#[path = "durable_tests.rs"]
mod tests;
