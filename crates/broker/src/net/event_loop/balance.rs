//! When a loop has too much to do while another has time.
//!
//! A loop measures which part of its time it neither slept nor did what could have waited, a tenth of a second at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::millis;
use super::home::Home;

/// How long is measured.
const WINDOW: Duration = Duration::from_millis(100);

/// What was measured longer ago than this says nothing: the loop has slept since.
const STALE_MS: u64 = 250;

/// A loop that is busier than this, in thousandths of its time, wants to give connections away.
const TOO_BUSY: u32 = 700;

/// A loop that is less busy than this takes some.
const HAS_TIME: u32 = 350;

/// Windows between two changes: what a change has brought must show first.
const REST: u32 = 3;

/// What a loop is to do about its load.
pub(super) enum Advice {
    /// Nothing.
    GoOn,
    /// Count anew how often each connection is polled.
    Count,
    /// Give the other loop half of the work of those that were polled.
    ShareWith(Arc<Home>),
}

/// How busy a loop is.
#[derive(Debug)]
pub(super) struct Load {
    begun: Instant,
    rested: Duration,
    /// Windows until connections may be given away again.
    rests: u32,
    /// The last window was busy too, and who was polled in this one is counted.
    counting: bool,
    guests: u32,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            rested: Duration::ZERO,
            rests: 0,
            counting: false,
            guests: 0,
        }
    }

    /// The loop has waited so long, or done what can wait.
    pub(super) fn rested(&mut self, time: Duration) {
        self.rested += time;
    }

    /// Ends a window whose time has come.
    pub(super) fn look(&mut self, now: Instant, home: &Home, all: &[Arc<Home>]) -> Advice {
        let lasted = now.saturating_duration_since(self.begun);
        if lasted < WINDOW {
            return Advice::GoOn;
        }
        let awake = lasted.saturating_sub(self.rested);
        let busy = awake.as_micros() * 1000 / lasted.as_micros().max(1);
        let busy = u32::try_from(busy).unwrap_or(1000);
        home.report(busy, millis(now));
        (self.begun, self.rested) = (now, Duration::ZERO);
        self.rests = self.rests.saturating_sub(1);
        let was_counting = std::mem::take(&mut self.counting);
        if busy < TOO_BUSY || self.rests > 0 {
            return Advice::GoOn;
        }
        let Some(idlest) = idlest_of(home, all, millis(now)) else {
            return Advice::GoOn;
        };
        if was_counting {
            self.rests = REST;
            return Advice::ShareWith(Arc::clone(idlest));
        }
        self.counting = true;
        Advice::Count
    }

    /// Where a connection that has just come in is to live, if not here.
    pub(super) fn place_for_guest<'all>(
        &mut self,
        home: &Home,
        all: &'all [Arc<Home>],
    ) -> Option<&'all Arc<Home>> {
        if home.busy.load(Ordering::Relaxed) < TOO_BUSY {
            return None;
        }
        self.guests = self.guests.wrapping_add(1);
        // Every second one: the measure lags behind.
        if self.guests.is_multiple_of(2) {
            return None;
        }
        idlest_of(home, all, millis(self.begun))
    }
}

/// The loop with most time, if it has enough.
fn idlest_of<'all>(home: &Home, all: &'all [Arc<Home>], now_ms: u64) -> Option<&'all Arc<Home>> {
    all.iter()
        .filter(|other| other.id != home.id)
        .map(|other| (other.busy_at(now_ms), other))
        .filter(|(busy, _)| *busy < HAS_TIME)
        .min_by_key(|(busy, _)| *busy)
        .map(|(_, other)| other)
}

impl Home {
    /// The loop was so busy until now.
    fn report(&self, busy: u32, now_ms: u64) {
        self.busy.store(busy, Ordering::Relaxed);
        self.busy_until.store(now_ms, Ordering::Relaxed);
    }

    /// How busy the loop is, as far as it is known.
    fn busy_at(&self, now_ms: u64) -> u32 {
        let until = self.busy_until.load(Ordering::Relaxed);
        if now_ms.saturating_sub(until) > STALE_MS {
            return 0;
        }
        self.busy.load(Ordering::Relaxed)
    }
}
