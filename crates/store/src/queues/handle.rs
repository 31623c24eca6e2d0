//! A queue in the hands of who reads it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::waiting::Room;
use super::{Queues, Standing, State, standing};
use crate::body::QueueId;
use crate::committer::Trouble;

/// A queue of rows: they are put in by [`Committer::commit`](crate::Committer::commit), and read here.
#[derive(Clone)]
pub struct Queue {
    state: Arc<State>,
    queues: Arc<Queues>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.standing().fmt(to)
    }
}

impl Queue {
    pub(crate) fn new(state: Arc<State>, queues: Arc<Queues>) -> Self {
        Self { state, queues }
    }

    /// What names it in a [`Batch`](crate::Batch).
    pub fn id(&self) -> QueueId {
        self.state.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// A random number of 63 bits that was made with it: numbers of rows mean nothing beside those of another epoch.
    pub fn epoch(&self) -> u64 {
        self.state.epoch
    }

    /// All of how it stands, at one moment.
    pub fn standing(&self) -> Standing {
        standing(&self.state)
    }

    /// All rows before this number are settled.
    pub fn head(&self) -> u64 {
        self.standing().head
    }

    /// The number of the row that comes next.
    pub fn tail(&self) -> u64 {
        self.standing().tail
    }

    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.standing().rows
    }

    /// The bytes of the rows that wait.
    pub fn bytes(&self) -> u64 {
        self.standing().bytes
    }

    /// Rows that are kept and not settled, in order from number `from` on: at least one if there is one, then as long as
    /// they are no more than `most_rows` and `most_bytes`. It may wait for a file.
    ///
    /// Where rows were lost with what they stood in, it goes on behind them; whoever opened the store was told.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        let (mut seq, mut out) = (from, Vec::new());
        let mut room = Room::new(most_rows, most_bytes);
        loop {
            let wanted = self.state.inner.lock().give(&mut seq, &mut room, &mut out);
            let Some((first, count, place)) = wanted else {
                return Ok(out);
            };
            let loaded = self.queues.load(self.state.id, first, count, place);
            let mut inner = self.state.inner.lock();
            let spot = inner.spots.get(&first);
            // Else a snapshot has moved it, or it is settled meanwhile.
            if spot.is_none_or(|spot| spot.place != place) {
                continue;
            }
            let loaded = loaded?;
            let gaps = if loaded.len() as u64 == count {
                Vec::new()
            } else {
                let before = inner.gaps();
                inner.lose(first, count, &loaded, place);
                let after = inner.gaps();
                after
                    .into_iter()
                    .filter(|gap| !before.contains(gap))
                    .collect()
            };
            inner.loaded = loaded;
            drop(inner);
            for gap in gaps {
                self.queues.tell(Trouble::Gap(self.state.gap(gap)));
            }
        }
    }

    /// The same where all of it is in memory; else `None`.
    pub fn read_at_hand(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> Option<Vec<(u64, Bytes)>> {
        let (mut seq, mut out) = (from, Vec::new());
        let mut room = Room::new(most_rows, most_bytes);
        let inner = self.state.inner.lock();
        let from_file = inner.give(&mut seq, &mut room, &mut out);
        from_file.is_none().then_some(out)
    }

    /// All rows up to this number are consumed. Nobody waits for it: it is written with what comes next, or after a moment,
    /// and after a crash some of these rows may be there again.
    pub fn settle(&self, up_to: u64) {
        if !self.state.inner.lock().settle(up_to) || self.queues.ended.load(Ordering::Acquire) {
            return;
        }
        if self.queues.note_unwritten(Arc::clone(&self.state)) {
            let nudge = self.queues.nudge.lock().clone();
            if let Some(nudge) = nudge {
                nudge();
            }
        }
    }

    /// `wake` is called after rows have become readable, on the committer's thread: it must not wait. It takes the place of
    /// the one before, and is not called for rows that are there already.
    pub fn on_arrival(&self, wake: impl Fn() + Send + Sync + 'static) {
        *self.state.wake.lock() = Some(Arc::new(wake));
    }
}
