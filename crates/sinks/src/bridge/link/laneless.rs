//! Queues for which a bridge has no packet identifiers left, and whether any queue has a lane.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{BridgeLink, Inner};
use crate::codes;
use crate::connector::Fault;
use crate::error::SinkError;

/// What is known of lanes without a look at their file.
#[derive(Debug, Default)]
pub(super) struct Laneless {
    /// The epochs of queues that got none.
    queues: Mutex<BTreeSet<u64>>,
    /// How often lanes may have become free.
    freed: AtomicU64,
    /// Any queue has one.
    there: AtomicBool,
}

impl Laneless {
    pub(super) fn new(there: bool) -> Self {
        Self {
            there: AtomicBool::new(there),
            ..Self::default()
        }
    }

    pub(super) fn is_any_there(&self) -> bool {
        self.there.load(Ordering::Relaxed)
    }

    pub(super) fn are_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }
}

impl BridgeLink {
    /// Changes when a queue that got no lane may get one.
    pub(crate) fn lanes_freed(&self) -> u64 {
        self.inner.laneless.freed.load(Ordering::Acquire)
    }

    /// Whether the queue with this epoch has a lane. One that has none sends all the same, and is shown.
    pub(crate) fn has_lane(&self, epoch: u64, has_one: bool) {
        let without = {
            let mut queues = self.inner.laneless.queues.lock();
            if has_one {
                queues.remove(&epoch);
            } else {
                queues.insert(epoch);
            }
            queues.len()
        };
        self.inner.show_laneless(without);
    }
}

impl Inner {
    /// Only queues with these epochs are filled or hold rows.
    pub(super) fn lanes_may_be_free(&self, epochs: &[u64]) {
        let without = {
            let mut queues = self.laneless.queues.lock();
            queues.retain(|epoch| epochs.contains(epoch));
            queues.len()
        };
        self.laneless.freed.fetch_add(1, Ordering::Release);
        self.show_laneless(without);
    }

    fn show_laneless(&self, without: usize) {
        if without == 0 {
            return self.health.recovers_in(Fault::Lanes);
        }
        let message = format!(
            "{without} of the rules' sinks that send over this bridge at QoS 2 have no packet identifiers of their own: \
             their messages may come twice when the link breaks"
        );
        let error = SinkError::new(codes::LANES, message);
        self.health.fails_in(Fault::Lanes, error);
    }
}
