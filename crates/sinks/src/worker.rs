//! The loop of one sink: take a batch, deliver, settle every row; what is left is given again after a wait.
//!
//! One batch is in flight, so order is kept. The worker never drops a row: it is delivered, parked in the dead
//! letters, or still in the queue's books.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::bridge::start::Standing;
use crate::circuit::{Circuit, CircuitState};
use crate::connector::Connector;
use crate::counters::{LastError, SinkState};
use crate::cuts::Cuts;
use crate::dead_letter::{DeadLetters, Letter, Limit, Parked};
use crate::fence::Fence;
use crate::plan::{BatchLimits, RetryPlan};
use crate::queue::Queue;
use crate::retry::Schedule;
use crate::{Batch, Outcome, Record, Sink, SinkError, codes, now_ms};

/// What a worker and its handles share.
pub(crate) struct Shared {
    pub(crate) rule: String,
    pub(crate) sink: String,
    pub(crate) epoch: u64,
    pub(crate) queue: Arc<Queue>,
    pub(crate) status: Mutex<Status>,
    /// A sink with another configuration, taken over between two attempts.
    pub(crate) replacement: Mutex<Option<Delivery>>,
    /// Ends a wait before its time: the configuration changed, or the sink shall end.
    pub(crate) nudge: Notify,
    /// It was retired or taken back: what its queue holds back may have changed. It cuts no wait of a retry short.
    pub(crate) standing_changed: Notify,
    pub(crate) dead_letters: DeadLetters,
}

/// What a sink shows of itself.
pub(crate) struct Status {
    pub(crate) state: SinkState,
    pub(crate) last_error: Option<LastError>,
    pub(crate) circuit: CircuitState,
}

/// The part of a sink that a new configuration replaces.
pub(crate) struct Delivery {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) batch: BatchLimits,
    pub(crate) retry: RetryPlan,
    pub(crate) connector: Option<Arc<Connector>>,
    /// Whether a far side that fails again and again is left alone for longer.
    pub(crate) has_circuit: bool,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    delivery: Delivery,
    schedule: Schedule,
    circuit: Circuit,
    /// How often the present failure was logged or skipped.
    repeated: u64,
    /// How many rows were parked.
    parked: u64,
    /// The highest number that was given to any sink, in this life or an earlier one.
    given_to: u64,
    /// Where rows were cut into requests; none where the rows do not outlive the process.
    cuts: Option<Cuts>,
    fence: Fence,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        delivery: Delivery,
        cuts: Option<Cuts>,
        fence: Fence,
    ) -> Self {
        let schedule = Schedule::new(delivery.retry.initial, delivery.retry.max, shared.epoch);
        Self {
            given_to: shared.queue.recovered_to(),
            shared,
            delivery,
            schedule,
            circuit: Circuit::default(),
            repeated: 0,
            parked: 0,
            cuts,
            fence,
        }
    }

    /// Runs until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        self.delivery.sink.start();
        self.run_until_closed().await;
        self.fence.note_confirmed().await;
    }

    async fn run_until_closed(&mut self) {
        loop {
            self.take_replacement();
            let mut standing = self.delivery.connector.as_ref().and_then(|c| c.standing());
            let held_back = (standing.as_mut())
                .and_then(|standing| standing.borrow_and_update().holds_back())
                // Of one that shall end no more will come; a bridge that no message can wake keeps what waits.
                .filter(|most| *most == usize::MAX || !self.shared.queue.is_retired());
            let stays_down = held_back.is_some() || !self.is_up();
            if self.shared.queue.leaves_its_rows() && stays_down {
                // What waits is kept where it is: the next start goes on with it.
                return;
            }
            let limits = BatchLimits {
                held_back,
                ..self.delivery.batch.clone()
            };
            let batch = tokio::select! {
                batch = self.shared.queue.take_batch(&limits) => batch,
                // An idle sink, too, lets go of its old configuration at once.
                () = self.shared.nudge.notified() => continue,
                () = self.shared.standing_changed.notified() => continue,
                () = has_changed(&mut standing) => continue,
            };
            let Some(batch) = batch else {
                return;
            };
            if held_back.is_some() && self.shared.queue.leaves_its_rows() {
                return;
            }
            if !self.deliver(batch).await {
                return;
            }
        }
    }

    fn is_up(&self) -> bool {
        let status = self.shared.status.lock();
        matches!(status.state, SinkState::Up | SinkState::Starting)
    }

    /// Gives a batch until each of its rows is settled, or the queue ends and keeps what is left: then it is false, and no
    /// later row may be given, or the far side's position would go past those that were left.
    async fn deliver(&mut self, mut batch: Vec<Record>) -> bool {
        self.note_cut(batch.last().map(|row| row.seq)).await;
        let started = Instant::now();
        let mut attempts: u32 = 0;
        while !batch.is_empty() {
            self.take_replacement();
            self.circuit.begins();
            self.show_circuit();
            let began = Instant::now();
            let outcomes = {
                let batch = Batch {
                    rule: &self.shared.rule,
                    sink: &self.shared.sink,
                    epoch: self.shared.epoch,
                    given_to: self.given_to,
                    fence: &self.fence,
                    records: &batch,
                };
                self.given_to = self.given_to.max(batch.last_seq());
                deliver_or_catch(&mut *self.delivery.sink, &batch).await
            };
            attempts = attempts.saturating_add(1);
            let mut settled = Settled::sort(batch, outcomes, attempts);
            if let Err(error) = self.fence.note_attempt().await {
                settled.failure = Some((None, error));
            }
            if matches!(&settled.failure, Some((_, error)) if error.code() == codes::POSITION_BEHIND)
            {
                // A restart must not lose sight of the gap.
                self.fence.note_confirmed().await;
            }
            match &settled.failure {
                Some((_, error)) if !settled.progress() => {
                    // What somebody has to mend says nothing of the far side.
                    if self.delivery.has_circuit && !error.is_configuration() {
                        self.circuit.failed();
                    }
                }
                _ => self.circuit.worked(),
            }
            self.show_circuit();
            self.shared
                .queue
                .attempt(began.elapsed(), settled.failure.is_some(), attempts > 1);
            if !settled.delivered.is_empty() {
                self.shared.queue.delivered(&settled.delivered, now_ms());
            }
            let parked = settled.letters.last().map(|letter| letter.record.seq);
            if !self.park(settled.letters).await {
                return false;
            }
            batch = settled.left;
            if !batch.is_empty() {
                // What was refused is between requests from now on.
                self.note_cut(parked).await;
            }
            let Some((after, error)) = settled.failure else {
                self.succeeded();
                attempts = 0;
                continue;
            };
            let gave_up = self
                .delivery
                .retry
                .give_up
                .is_some_and(|limit| started.elapsed() >= limit);
            if gave_up {
                let reason =
                    SinkError::new(codes::GAVE_UP, format!("gave up after {attempts} attempts"))
                        .caused_by(&error);
                self.failed(&error, Duration::ZERO);
                self.tell_given_up(&batch).await;
                let letters = batch
                    .drain(..)
                    .map(|record| Letter {
                        record,
                        error: reason.clone(),
                        attempts,
                    })
                    .collect();
                if !self.park(letters).await {
                    return false;
                }
                continue;
            }
            let wait = self.wait_after(after);
            self.failed(&error, wait);
            if self.shared.queue.leaves_its_rows() {
                return false;
            }
            self.wait(wait).await;
        }
        true
    }

    /// The sink hears what it is not given again.
    async fn tell_given_up(&mut self, batch: &[Record]) {
        let rows = batch.iter().map(|record| record.seq).collect();
        if let Err(error) = self.delivery.sink.gives_up(rows).await {
            tracing::warn!(
                code = error.code(),
                rule = %self.shared.rule,
                sink = %self.shared.sink,
                %error,
                "it cannot be noted which rows were given up: a later one may be taken for one of them"
            );
        }
    }

    /// How long a failure is waited for, where the far side has named a time or not.
    fn wait_after(&mut self, named: Option<Duration>) -> Duration {
        match named {
            // A link that is away says itself when it is back.
            Some(named) if !self.delivery.has_circuit => named,
            // "At once", or a time that is over, must not make a loop without a pause.
            _ => {
                let own = match self.circuit.state() {
                    CircuitState::Open => self.schedule.long_wait(),
                    _ => self.schedule.next_wait(),
                };
                own.max(named.unwrap_or_default())
            }
        }
    }

    fn show_circuit(&self) {
        self.shared.status.lock().circuit = self.circuit.state();
    }

    /// Before rows are given that may share a request it is noted where that ends. One row alone may come again, too, and
    /// must not come with others then.
    async fn note_cut(&mut self, last: Option<u64>) {
        let (Some(cuts), Some(last)) = (&mut self.cuts, last) else {
            return;
        };
        if !self.delivery.sink.shares_requests() {
            return;
        }
        if let Err(error) = cuts.note(last).await {
            // Delivery makes room on a full disk, so it goes on.
            tracing::warn!(
                code = codes::FILE,
                rule = %self.shared.rule,
                sink = %self.shared.sink,
                %error,
                "it cannot be noted which rows share a request: after a crash some may come again under another Idempotency-Key"
            );
        }
    }

    async fn wait(&mut self, wait: Duration) {
        let nudge = &self.shared.nudge;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = nudge.notified() => {}
        }
    }

    /// Writes dead letters; as long as that fails their rows stay under delivery. False when the queue ends first.
    async fn park(&mut self, mut letters: Vec<Letter>) -> bool {
        while !letters.is_empty() {
            let queue = &self.shared.queue;
            let append = self
                .shared
                .dead_letters
                .append(&letters, queue, Limit::Kept);
            match append.await {
                Ok(parked) => {
                    let rest = letters.split_off(parked.letters);
                    self.parked(letters, &parked);
                    letters = rest;
                }
                Err(error) => {
                    if queue.leaves_its_rows() {
                        // They stay where they are, and are tried again by the next start.
                        return false;
                    }
                    let wait = self.schedule.next_wait();
                    self.failed(&error, wait);
                    self.wait(wait).await;
                }
            }
        }
        true
    }

    /// Letters are written.
    fn parked(&mut self, letters: Vec<Letter>, parked: &Parked) {
        let queue = &self.shared.queue;
        queue.dropped_from_letters(&parked.dropped, parked.evicted);
        for letter in &letters {
            self.parked += 1;
            // What exactly was wrong may quote the row: that is for the dead letters alone.
            if is_power_of_ten(self.parked) {
                tracing::warn!(
                    rule = %self.shared.rule,
                    sink = %self.shared.sink,
                    code = letter.error.code(),
                    seq = letter.record.seq,
                    parked = self.parked,
                    "row parked in the dead letters: {}",
                    codes::explain(letter.error.code()).map_or("refused", |text| text.title)
                );
            }
        }
        let rows: Vec<_> = letters
            .iter()
            .map(|letter| (letter.record.seq, letter.error.code()))
            .collect();
        // Those that were dropped are in the books no more.
        self.shared.queue.dead_lettered(&rows);
        if let Some(last) = letters.into_iter().next_back() {
            self.shared.status.lock().last_error = Some(LastError {
                error: last.error,
                at_ms: now_ms(),
            });
        }
    }

    fn succeeded(&mut self) {
        self.schedule.reset();
        self.repeated = 0;
        let mut status = self.shared.status.lock();
        if status.state != SinkState::Up {
            tracing::info!(rule = %self.shared.rule, sink = %self.shared.sink, "sink is up");
            status.state = SinkState::Up;
        }
        drop(status);
        if let Some(connector) = &self.delivery.connector {
            connector.report(None);
        }
    }

    fn failed(&mut self, error: &SinkError, wait: Duration) {
        let now = now_ms();
        let next_try_ms = now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        {
            let mut status = self.shared.status.lock();
            let since_ms = match status.state {
                SinkState::Retrying { since_ms, .. } | SinkState::Paused { since_ms, .. } => {
                    since_ms
                }
                _ => now,
            };
            status.state = if error.is_configuration() {
                SinkState::Paused {
                    since_ms,
                    next_try_ms,
                }
            } else {
                SinkState::Retrying {
                    since_ms,
                    next_try_ms,
                }
            };
            status.last_error = Some(LastError {
                error: error.clone(),
                at_ms: now,
            });
        }
        if let Some(connector) = &self.delivery.connector {
            connector.report(Some(error));
        }
        self.repeated += 1;
        // 1, 10, 100 …: a far side that is away for a week shall not fill the log.
        if is_power_of_ten(self.repeated) {
            tracing::warn!(
                rule = %self.shared.rule,
                sink = %self.shared.sink,
                code = error.code(),
                times = self.repeated,
                next_try_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "sink cannot deliver, rows wait: {}",
                error.for_log()
            );
        }
    }

    fn take_replacement(&mut self) {
        let replacement = self.shared.replacement.lock().take();
        if let Some(delivery) = replacement {
            self.schedule = Schedule::new(
                delivery.retry.initial,
                delivery.retry.max,
                self.shared.epoch,
            );
            self.circuit = Circuit::default();
            // The old link must be gone before the new one starts: both may have one client id.
            drop(std::mem::replace(&mut self.delivery, delivery));
            self.delivery.sink.start();
        }
    }
}

/// Resolves when a far side that was left in peace is there, or the other way round.
async fn has_changed(standing: &mut Option<watch::Receiver<Standing>>) {
    if let Some(standing) = standing
        && standing.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// A defect in a sink must not end its worker and leave rows behind unseen: it is shown, and tried again.
async fn deliver_or_catch(sink: &mut dyn Sink, batch: &Batch<'_>) -> Vec<Outcome> {
    let delivery = AssertUnwindSafe(sink.deliver(batch)).catch_unwind();
    delivery.await.unwrap_or_else(|_| {
        let error = SinkError::new(codes::DEFECT, "the sink has a defect and panicked");
        vec![Outcome::Retry { after: None, error }; batch.records.len()]
    })
}

fn is_power_of_ten(mut number: u64) -> bool {
    while number >= 10 && number.is_multiple_of(10) {
        number /= 10;
    }
    number == 1
}

/// A batch after an attempt.
struct Settled {
    delivered: Vec<u64>,
    letters: Vec<Letter>,
    left: Vec<Record>,
    failure: Option<(Option<Duration>, SinkError)>,
}

impl Settled {
    /// Whether any row is done with.
    fn progress(&self) -> bool {
        !self.delivered.is_empty() || !self.letters.is_empty()
    }

    fn sort(batch: Vec<Record>, outcomes: Vec<Outcome>, attempts: u32) -> Self {
        let mut settled = Self {
            delivered: Vec::new(),
            letters: Vec::new(),
            left: Vec::new(),
            failure: None,
        };
        let mut outcomes = outcomes.into_iter();
        for record in batch {
            // A sink that gives too few outcomes has a defect; its rows are given again rather than lost.
            let outcome = outcomes.next().unwrap_or_else(|| Outcome::Retry {
                after: None,
                error: SinkError::new(codes::TRY_LATER, "the sink gave no outcome for the row"),
            });
            match outcome {
                Outcome::Delivered => settled.delivered.push(record.seq),
                Outcome::Untried => settled.left.push(record),
                Outcome::Rejected { error } => settled.letters.push(Letter {
                    record,
                    error,
                    attempts,
                }),
                Outcome::Retry { after, error } => {
                    if settled.failure.is_none() {
                        settled.failure = Some((after, error));
                    }
                    settled.left.push(record);
                }
            }
        }
        if settled.failure.is_none() && !settled.left.is_empty() && !settled.progress() {
            let error = SinkError::new(codes::DEFECT, "the sink has tried none of the rows");
            settled.failure = Some((None, error));
        }
        settled
    }
}
