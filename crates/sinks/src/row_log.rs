//! Where the rows of a durable sink wait: an ordered log that outlives the process.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// The rows of one sink in the broker's store.
///
/// Rows come in by the broker's own commits, together with everything else that their message made, and show here when
/// they are kept. Their numbers rise from 1 within the epoch, over restarts.
pub trait RowLog: Send + Sync + fmt::Debug {
    /// What the store calls the queue in its commits.
    fn id(&self) -> u64;

    /// The life of the queue: made with it, random, the same after each restart.
    fn epoch(&self) -> u64;

    /// Rows that are kept, from this number on and in order: at least one if there is one. May block on a file.
    ///
    /// # Errors
    /// When the rows cannot be read now.
    fn read(&self, from: u64, most_rows: usize, most_bytes: usize)
    -> io::Result<Vec<(u64, Bytes)>>;

    /// The same where that reads no file; else, or where it is not known, `None`.
    fn read_at_hand(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> Option<Vec<(u64, Bytes)>> {
        let _ = (from, most_rows, most_bytes);
        None
    }

    /// Everything up to this number has been delivered, dropped or parked and is not wanted again. Never waited for: after
    /// a crash some of it may come again. A smaller number than before says nothing new.
    fn settle(&self, up_to: u64);

    /// Puts rows behind the others, and takes rows away wherever they stand, in one commit: after a crash all of that has
    /// happened or nothing. `taken` are rows of any queues of the same store, each by the [`id`](Self::id) of its log and its
    /// number. `done` is told, from any thread: it must not wait.
    fn exchange(&self, rows: Vec<Bytes>, taken: Vec<(u64, u64)>, done: Exchanged);

    /// What waits.
    fn standing(&self) -> Standing;

    /// `wake` is called, cheaply and with no lock held, whenever rows have come.
    fn on_arrival(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// Who is told what became of an [exchange](RowLog::exchange).
pub type Exchanged = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The same for who can wait.
pub(crate) async fn exchange(
    log: &dyn RowLog,
    rows: Vec<Bytes>,
    taken: Vec<(u64, u64)>,
) -> io::Result<()> {
    let (told, outcome) = tokio::sync::oneshot::channel();
    log.exchange(rows, taken, Box::new(|outcome| drop(told.send(outcome))));
    outcome
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the store has ended")))
}

/// What waits in a [`RowLog`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The number of the oldest row that is not settled, or of the next row where there is none.
    pub head: u64,
    /// The number of the newest row; 0 before the first.
    pub tail: u64,
    /// Rows that are not settled.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A [`RowLog`] in memory, for tests: whoever opens it again finds what was not settled.
pub struct MemoryRows {
    id: u64,
    epoch: u64,
    /// All logs of one store.
    store: Arc<Mutex<BTreeMap<u64, MemoryState>>>,
}

#[derive(Default)]
struct MemoryState {
    rows: BTreeMap<u64, Bytes>,
    tail: u64,
    settled: u64,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl MemoryRows {
    /// An empty log, in a store of its own.
    pub fn new(id: u64, epoch: u64) -> Self {
        let store = Arc::default();
        Self { id, epoch, store }
    }

    /// Another one in the same store.
    #[must_use]
    pub fn beside(&self, id: u64, epoch: u64) -> Self {
        let store = Arc::clone(&self.store);
        Self { id, epoch, store }
    }

    fn state<T>(&self, look: impl FnOnce(&mut MemoryState) -> T) -> T {
        look(self.store.lock().entry(self.id).or_default())
    }

    /// Keeps rows, as a commit does.
    pub fn commit(&self, rows: impl IntoIterator<Item = Bytes>) {
        let wake = self.state(|state| {
            for row in rows {
                state.tail += 1;
                let seq = state.tail;
                state.rows.insert(seq, row);
            }
            state.wake.clone()
        });
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Loses everything behind this number, as a backup that is put back does.
    pub fn go_back_to(&self, tail: u64) {
        self.state(|state| {
            state.rows.split_off(&(tail + 1));
            state.tail = tail;
            state.settled = state.settled.min(tail);
        });
    }

    /// Takes back what was settled last, as a crash does.
    ///
    /// The rows themselves are gone: they are given again, by whoever has them.
    pub fn crash_before_settling(&self, rows: impl IntoIterator<Item = (u64, Bytes)>) {
        self.state(|state| {
            for (seq, row) in rows {
                state.settled = state.settled.min(seq - 1);
                state.rows.insert(seq, row);
            }
        });
    }

    /// Forgets everything, as when the queue is dropped.
    pub fn clear(&self) {
        self.store.lock().remove(&self.id);
    }

    /// The rows that wait, with their numbers.
    pub fn waiting(&self) -> Vec<(u64, Bytes)> {
        self.state(|state| {
            let rows = state.rows.iter();
            rows.map(|(seq, row)| (*seq, row.clone())).collect()
        })
    }
}

impl fmt::Debug for MemoryRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRows").finish_non_exhaustive()
    }
}

impl RowLog for MemoryRows {
    fn id(&self) -> u64 {
        self.id
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn read(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        self.state(|state| {
            let mut bytes = 0;
            let within = state
                .rows
                .range(from..)
                .take(most_rows)
                .take_while(|(_, row)| {
                    let first = bytes == 0;
                    bytes += row.len();
                    first || bytes <= most_bytes
                });
            Ok(within.map(|(seq, row)| (*seq, row.clone())).collect())
        })
    }

    fn read_at_hand(
        &self,
        from: u64,
        most_rows: usize,
        most_bytes: usize,
    ) -> Option<Vec<(u64, Bytes)>> {
        self.read(from, most_rows, most_bytes).ok()
    }

    fn settle(&self, up_to: u64) {
        self.state(|state| {
            state.settled = state.settled.max(up_to);
            state.rows = state.rows.split_off(&(up_to + 1));
        });
    }

    fn exchange(&self, rows: Vec<Bytes>, taken: Vec<(u64, u64)>, done: Exchanged) {
        let mut store = self.store.lock();
        for (id, seq) in taken {
            if let Some(state) = store.get_mut(&id) {
                state.rows.remove(&seq);
            }
        }
        drop(store);
        self.commit(rows);
        done(Ok(()));
    }

    fn standing(&self) -> Standing {
        self.state(|state| Standing {
            head: state.rows.keys().next().copied().unwrap_or(state.tail + 1),
            tail: state.tail,
            rows: state.rows.len() as u64,
            bytes: state.rows.values().map(|row| row.len() as u64).sum(),
        })
    }

    fn on_arrival(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.state(|state| state.wake = Some(wake.into()));
    }
}
