//! The promise that a batch will be kept, and the hand that keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;
use weir_sinks::Claim;

use super::Durability;

const PENDING: u8 = 0;
const KEPT: u8 = 1;
const FAILED: u8 = 2;
/// The system has it; it is not on stable storage yet.
const WRITTEN: u8 = 3;

/// The promise that a batch will be kept. All clones are one promise.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    fate: Option<Arc<Fate>>,
    /// Nobody has to wait for stable storage.
    written_is_enough: bool,
}

/// A batch was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the storage could not keep it")]
pub struct Failed;

/// What became of one batch, and who wants to know.
#[derive(Debug, Default)]
struct Fate {
    state: AtomicU8,
    /// Somebody who waits goes on when it is written.
    hurried: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    /// The line in which the batch waits, and its bytes there.
    line: Option<(Arc<Line>, usize)>,
}

/// What was handed to a storage and not answered yet, all of it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes: AtomicUsize,
    shorter: Notify,
}

/// With more bytes than this in the line, whoever adds to it stops reading from its client.
const LONG_LINE: usize = 32 << 20;

impl Line {
    /// Whether it is so long that nothing more should be added for now.
    pub(crate) fn is_long(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > LONG_LINE
    }

    /// Resolves when the line is short again.
    pub(crate) async fn is_short(self: Arc<Self>) {
        loop {
            let mut shorter = std::pin::pin!(self.shorter.notified());
            // Registered before the look, so that a change in between is not missed.
            shorter.as_mut().enable();
            if self.bytes.load(Ordering::Acquire) <= LONG_LINE / 2 {
                return;
            }
            shorter.await;
        }
    }

    fn leave(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before > LONG_LINE / 2 && before - bytes <= LONG_LINE / 2 {
            self.shorter.notify_waiters();
        }
    }
}

impl Fate {
    fn written(&self) {
        let pending = Ordering::AcqRel;
        let first = self
            .state
            .compare_exchange(PENDING, WRITTEN, pending, Ordering::Relaxed);
        if first.is_ok() && self.hurried.load(Ordering::Acquire) {
            // Those who wait for more ask again and wait on.
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn decide(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        if let Some((line, bytes)) = &self.line {
            line.leave(*bytes);
        }
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Says what became of a batch. Dropped without a word, the batch has failed.
#[derive(Debug)]
#[must_use = "a batch that nobody answers for has failed"]
pub struct Done {
    fate: Option<Arc<Fate>>,
    /// The rows of the batch, as their sinks count them.
    claims: Vec<Claim>,
    waits: Waits,
}

/// Who waits for a batch to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// A client, for its acknowledgement; or somebody else.
    Somebody,
    /// Nobody.
    Nobody,
}

impl Done {
    /// The batch is as durable as the storage says.
    pub fn kept(mut self) {
        self.claims.drain(..).for_each(Claim::kept);
        if let Some(fate) = self.fate.take() {
            fate.decide(KEPT);
        }
    }

    /// What says that the system has the batch, though it is not as durable as the storage promises: clients of listeners
    /// with `durability = "os"` go on. A storage that never says so makes them wait like all others.
    pub fn written(&self) -> impl FnOnce() + Send + 'static {
        let fate = self.fate.clone();
        move || {
            if let Some(fate) = fate {
                fate.written();
            }
        }
    }

    /// Whether somebody waits for the batch to be kept: a client for its acknowledgement, most often. Else it may be kept a
    /// few milliseconds later, together with others.
    pub fn is_awaited(&self) -> bool {
        self.waits == Waits::Somebody
    }

    /// Who waits for it.
    pub(crate) fn awaited_by(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// Tells the sinks of the batch's rows, too.
    pub(crate) fn with_claims(mut self, claims: Vec<Claim>) -> Self {
        self.claims = claims;
        self
    }

    /// The batch is lost. Dropping does the same; this says it aloud.
    pub fn failed(self) {}
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(fate) = self.fate.take() {
            fate.decide(FAILED);
        }
    }
}

impl Ticket {
    /// The ticket of something that needs no storage, or is there already.
    pub const fn ready() -> Self {
        Self {
            fate: None,
            written_is_enough: false,
        }
    }

    /// The same for whoever is content with less than what the storage promises: `Os` with what the system has, `Memory`
    /// with nothing at all.
    #[must_use]
    pub fn at_most(self, durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::ready(),
            Durability::Os => {
                if let Some(fate) = &self.fate {
                    fate.hurried.store(true, Ordering::Release);
                }
                Self {
                    written_is_enough: true,
                    ..self
                }
            }
            Durability::Fsync => self,
        }
    }

    fn of(fate: Arc<Fate>) -> Self {
        Self {
            fate: Some(fate),
            written_is_enough: false,
        }
    }

    /// The ticket of one batch, and what decides it.
    pub fn new() -> (Self, Done) {
        let fate = Arc::new(Fate::default());
        let done = Done {
            fate: Some(Arc::clone(&fate)),
            claims: Vec::new(),
            waits: Waits::Somebody,
        };
        (Self::of(fate), done)
    }

    /// The same for a batch of so many bytes, which stands in `line` until it is decided.
    pub(crate) fn in_line(line: &Arc<Line>, bytes: usize) -> (Self, Done) {
        line.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fate = Arc::new(Fate {
            line: Some((Arc::clone(line), bytes)),
            ..Fate::default()
        });
        let done = Done {
            fate: Some(Arc::clone(&fate)),
            claims: Vec::new(),
            waits: Waits::Somebody,
        };
        (Self::of(fate), done)
    }

    /// Whether the batch is kept.
    pub fn is_ready(&self) -> bool {
        self.now() == Poll::Ready(Ok(()))
    }

    fn now(&self) -> Poll<Result<(), Failed>> {
        let Some(fate) = &self.fate else {
            return Poll::Ready(Ok(()));
        };
        match fate.state.load(Ordering::Acquire) {
            PENDING => Poll::Pending,
            WRITTEN if !self.written_is_enough => Poll::Pending,
            WRITTEN | KEPT => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(Failed)),
        }
    }

    /// What became of the batch; the task is woken when that is known.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<(), Failed>> {
        let (Some(fate), Poll::Pending) = (&self.fate, self.now()) else {
            return self.now();
        };
        {
            let mut waiting = fate.waiting.lock();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // Registered before looking again, so that a decision in between is not missed.
        self.now()
    }

    /// Resolves when it is known what became of the batch.
    ///
    /// # Errors
    /// When it was not kept.
    pub async fn committed(&self) -> Result<(), Failed> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_ready_when_its_batch_is_kept() {
        let (ticket, done) = Ticket::new();
        assert!(!ticket.is_ready());
        done.kept();
        assert!(ticket.is_ready() && ticket.clone().is_ready());
        assert!(Ticket::ready().is_ready());
    }

    #[test]
    fn who_is_content_with_less_waits_for_less() {
        #[derive(Default)]
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (ticket, done) = Ticket::new();
        let (os, fsync) = (
            ticket.clone().at_most(Durability::Os),
            ticket.clone().at_most(Durability::Fsync),
        );
        assert!(ticket.clone().at_most(Durability::Memory).is_ready());
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        assert!(os.poll_ready(&Context::from_waker(&waker)).is_pending());
        let written = done.written();
        written();
        assert!(woken.0.load(Ordering::Relaxed) && os.is_ready());
        assert!(!fsync.is_ready() && !ticket.is_ready());
        done.kept();
        assert!(fsync.is_ready() && os.is_ready());
        // What is kept stays so, whatever is said late.
        let (ticket, done) = Ticket::new();
        let written = done.written();
        done.failed();
        written();
        let os = ticket.at_most(Durability::Os);
        assert_eq!(
            os.poll_ready(&Context::from_waker(Waker::noop())),
            Poll::Ready(Err(Failed))
        );
    }

    #[test]
    fn a_batch_that_nobody_answers_for_has_failed() {
        let (ticket, done) = Ticket::new();
        drop(done);
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(ticket.poll_ready(&cx), Poll::Ready(Err(Failed)));
        assert!(!ticket.is_ready());
    }

    #[test]
    fn a_line_that_was_long_is_short_when_half_of_it_is_answered() {
        let line = Arc::<Line>::default();
        let mut waiting: Vec<_> = (0..9)
            .map(|_| Ticket::in_line(&line, LONG_LINE / 8).1)
            .collect();
        assert!(line.is_long());
        let mut short = std::pin::pin!(Arc::clone(&line).is_short());
        let mut cx = Context::from_waker(Waker::noop());
        while waiting.len() > 4 {
            assert!(short.as_mut().poll(&mut cx).is_pending());
            match waiting.len() % 2 {
                0 => drop(waiting.pop()),
                _ => waiting.pop().unwrap().kept(),
            }
        }
        assert!(short.as_mut().poll(&mut cx).is_ready() && !line.is_long());
    }

    #[test]
    fn everyone_who_waits_is_woken_once() {
        #[derive(Default)]
        struct Count(AtomicU8);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let (ticket, done) = Ticket::new();
        for count in &counts {
            let waker = Waker::from(Arc::clone(count));
            for _ in 0..2 {
                let pending = ticket.poll_ready(&Context::from_waker(&waker));
                assert_eq!(pending, Poll::Pending);
            }
        }
        done.kept();
        assert!(
            counts
                .iter()
                .all(|count| count.0.load(Ordering::Relaxed) == 1)
        );
    }
}
