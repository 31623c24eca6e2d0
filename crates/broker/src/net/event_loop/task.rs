//! One connection on a loop: what has happened to it, where it lives, when it wants to be woken.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::core;
use super::home::Home;

/// The socket may have something to read.
pub(super) const READABLE: u16 = 1;
/// The socket may have room.
pub(super) const WRITABLE: u16 = 2;
/// The far side has closed, or the connection is broken: reading says which, as often as it is asked.
pub(super) const CLOSED: u16 = 4;
/// The connection is going to be polled.
pub(super) const QUEUED: u16 = 8;
/// Its alarm has rung.
pub(super) const RANG: u16 = 16;

/// Its loop watches for room in the socket.
pub(super) const ARMED: u16 = 32;

/// It has work that can wait.
pub(super) const LATER: u16 = 64;

/// Its client has not been admitted yet.
pub(super) const NEWCOMER: u16 = 128;

/// When it was last polled it had work that can wait, and it may have more of it.
pub(super) const PATIENT: u16 = 256;

/// It waits with that work until its loop has time. Without this, [`LATER`] only means that it is polled once more.
pub(super) const WAITS: u16 = 512;

/// No alarm is set.
pub(super) const NEVER: u64 = u64::MAX;

/// What a connection shares with its loop and with those who wake it.
#[derive(Debug)]
pub(crate) struct Task {
    place: Mutex<Place>,
    flags: AtomicU16,
    /// When the alarm is to ring, in milliseconds of [`core::millis`].
    pub(super) alarm: AtomicU64,
    /// Whose session the client has; 0 until it is admitted.
    pub(super) session: AtomicU64,
}

/// Where a connection lives.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) home: Arc<Home>,
    /// What its loop knows it by.
    pub(super) token: u64,
}

impl Task {
    /// Nothing has happened yet; an empty socket has room.
    pub(super) fn new(place: Place) -> Self {
        Self {
            place: Mutex::new(place),
            flags: AtomicU16::new(WRITABLE | NEWCOMER),
            alarm: AtomicU64::new(NEVER),
            session: AtomicU64::new(0),
        }
    }

    /// It lives elsewhere from now on.
    pub(super) fn move_to(&self, place: Place) {
        *self.place.lock() = place;
    }

    pub(super) fn place(&self) -> Place {
        self.place.lock().clone()
    }

    pub(super) fn set(&self, flags: u16) -> u16 {
        self.flags.fetch_or(flags, Ordering::AcqRel)
    }

    /// Whether there is any of these.
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    /// Takes flags away; gives what there was.
    pub(super) fn clear(&self, flags: u16) -> u16 {
        self.flags.fetch_and(!flags, Ordering::AcqRel)
    }
}

/// Whether a connection with these flags is left alone when that happens: it is polled anyway, with the work that it
/// waits with, and only more of it has come.
pub(super) fn is_only_more(flags: u16, happened: u16) -> bool {
    flags & (LATER | WAITS) == LATER | WAITS && happened == READABLE
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.set(QUEUED) & QUEUED != 0 {
            return;
        }
        let Place { home, token } = &*self.place.lock();
        if !core::wake_here(home, *token) {
            home.wake(*token);
        }
    }
}

/// The one time that a connection waits for, on whatever it runs.
#[derive(Debug)]
pub(crate) enum Alarm {
    /// A loop looks after it.
    Loop(Arc<Task>),
    /// The runtime does.
    Runtime(Option<Pin<Box<Sleep>>>),
}

impl Alarm {
    /// Sets it anew; what was set before does not matter any more.
    pub(crate) fn set(&mut self, at: Instant) {
        match self {
            Self::Loop(task) => {
                task.clear(RANG);
                let at = core::millis(at.into_std());
                task.alarm.store(at, Ordering::Relaxed);
            }
            Self::Runtime(Some(sleep)) => sleep.as_mut().reset(at),
            Self::Runtime(none) => *none = Some(Box::pin(sleep_until(at))),
        }
    }

    /// Ready when the time has come that was set last. The task is polled then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_due = match self {
            Self::Loop(task) => task.has(RANG) && task.clear(RANG) & RANG != 0,
            Self::Runtime(Some(sleep)) => sleep.as_mut().poll(cx).is_ready(),
            Self::Runtime(None) => false,
        };
        if is_due {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Takes it back.
    pub(crate) fn unset(&mut self) {
        match self {
            Self::Loop(task) => {
                task.alarm.store(NEVER, Ordering::Relaxed);
                task.clear(RANG);
            }
            Self::Runtime(sleep) => *sleep = None,
        }
    }

    /// The work's result, or `None` when it is not done in time.
    pub(crate) async fn until<T>(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        self.set(deadline);
        tokio::pin!(work);
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.poll(cx).map(|()| None)
        })
        .await;
        self.unset();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_left_only_while_its_connection_waits_and_is_polled_anyway() {
        assert!(is_only_more(LATER | WAITS | PATIENT, READABLE));
        assert!(!is_only_more(LATER | PATIENT, READABLE));
        assert!(!is_only_more(WAITS, READABLE));
        assert!(!is_only_more(LATER | WAITS, READABLE | CLOSED));
        assert!(!is_only_more(LATER | WAITS, RANG));
    }

    #[test]
    fn a_connection_that_has_done_its_work_after_all_hears_what_comes() {
        let home = Arc::new(Home::new().unwrap());
        let task = Task::new(Place { home, token: 1 });
        task.set(LATER | WAITS);
        core::waits_no_more(&task);
        assert!(task.has(LATER) && !is_only_more(task.set(READABLE), READABLE));
    }
}
