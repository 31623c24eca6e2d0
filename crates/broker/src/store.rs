//! What must outlive a crash: batches of [`Persist`] records in, commit tickets out.
//!
//! For now the state lives in memory only and every ticket is ready at once; who waits for a ticket need not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::core::persist::Persist;

/// The durable state of the broker.
#[derive(Debug, Default)]
pub struct Store {}

impl Store {
    /// A store whose contents end with the process.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Hands over one batch, all or nothing. The ticket is ready when it would survive a crash.
    pub fn commit(&self, batch: &mut Vec<Persist>) -> Ticket {
        batch.clear();
        Ticket::ready()
    }
}

/// The promise that a batch will be on stable storage.
#[derive(Debug, Default)]
pub struct Ticket(Option<Pending>);

#[derive(Debug)]
struct Pending {
    number: u64,
    commits: Arc<Commits>,
}

/// How far the committer has come.
#[derive(Debug, Default)]
pub struct Commits {
    issued: AtomicU64,
    committed: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Commits {
    /// The ticket of the next batch.
    pub fn issue(self: &Arc<Self>) -> Ticket {
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        Ticket(Some(Pending {
            number,
            commits: Arc::clone(self),
        }))
    }

    /// The first `number` batches are on stable storage.
    pub fn committed(&self, number: u64) {
        self.committed.fetch_max(number, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Ticket {
    /// The ticket of something that needs no storage, or is there already.
    pub const fn ready() -> Self {
        Self(None)
    }

    /// Whether the batch is on stable storage.
    pub fn is_ready(&self) -> bool {
        self.0.as_ref().is_none_or(|pending| {
            pending.commits.committed.load(Ordering::Acquire) >= pending.number
        })
    }

    /// Wakes the task when the batch is on stable storage.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let Some(pending) = &self.0 else {
            return Poll::Ready(());
        };
        // Registered before looking, so that a commit in between is not missed.
        pending.commits.waiting.lock().push(cx.waker().clone());
        if self.is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Resolves when the batch is on stable storage.
    pub async fn committed(&self) {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_ready_when_its_batch_and_all_before_are_committed() {
        let commits = Arc::new(Commits::default());
        let (first, second) = (commits.issue(), commits.issue());
        assert!(!first.is_ready());
        commits.committed(1);
        assert!(first.is_ready() && !second.is_ready());
        commits.committed(2);
        assert!(second.is_ready());
        assert!(Ticket::ready().is_ready());
    }
}
