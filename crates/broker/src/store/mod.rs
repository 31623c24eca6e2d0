//! What must outlive a crash: batches of [`Persist`] records in, [tickets](Ticket) out.
//!
//! Where the records go is a [`Storage`]; without one the state ends with the process and every ticket is ready at
//! once. Acknowledgements wait for their tickets, so a client hears nothing that a crash could take back.

#[cfg(test)]
mod bad_disk;
pub mod conformance;
pub mod disk;
mod memory;
pub(crate) mod records;
mod state;
mod stored;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tokio::sync::Notify;
use weir_sinks::{Claim, RowLog, Standing};

use crate::hooks::{Hook, Panics};

pub use crate::core::bans::{Ban, Bans, Who};
pub use crate::core::persist::{Persist, SessionId};
pub use crate::core::queue::Waiting;
pub use crate::core::subscriptions::SubscriptionOptions;
pub use crate::core::will::Will;
pub use disk::Disk;
pub use memory::Memory;
pub use state::{OwedState, SessionState, State};
pub(crate) use stored::Stored;
pub use ticket::{Done, Failed, Ticket};
pub(crate) use ticket::{Line, Waits};

/// What a [`Storage`] promises of a batch whose [`Done`] was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// It is gone when the process ends.
    Memory,
    /// It outlives the process, and not a loss of power.
    Os,
    /// It is on stable storage.
    Fsync,
}

impl Durability {
    /// As logs and statistics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }
}

/// Why a storage cannot be read.
#[derive(Debug, Error)]
#[error("the stored sessions cannot be read: {0}")]
pub struct StorageError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StorageError {
    /// With its cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Keeps sessions, queues, retained messages and QoS 2 identifiers: one hook for all of them, because one message
/// touches several, and they must survive together or not at all.
///
/// Every implementation has to pass [`conformance::check`].
///
/// # Order
/// Connections commit on their own threads, so records of two connections may come in another order than they were
/// made: [`Persist::Settled`] of a message even before its [`Persist::Owed`]. [`State`] knows what to make of it, and
/// an implementation that keeps a log and folds it into a [`State`] need not think about it.
pub trait Storage: Send + Sync + 'static {
    /// What is promised of a batch once it is done.
    fn durability(&self) -> Durability;

    /// Takes one batch: all of it is kept or nothing. Must not wait: it is called on a connection's own task.
    ///
    /// Whoever waits for the batch goes on with [`Done::kept`], which may be called at once or much later, from any
    /// thread. [`Done::failed`], or dropping it, ends the connections that wait: they must not be told that it was kept.
    /// [`Done::is_awaited`] says whether anybody does.
    fn commit(&self, batch: Vec<Persist>, done: Done);

    /// Whether there is room for more than what has been handed over. While there is none, clients that publish what
    /// would need some are held back. Asked about once a second.
    fn has_room(&self) -> bool {
        true
    }

    /// Gives the records that make up the state again, once, when a broker starts.
    ///
    /// # Errors
    /// When the state cannot be read; then the broker does not start.
    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError>;

    /// What the records of [`load`](Self::load) come to: for a storage that has it at hand.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn load_state(&self) -> Result<State, StorageError> {
        let mut state = State::default();
        self.load(&mut |record| state.apply(record))?;
        Ok(state)
    }

    /// The rows of one durable sink, by a name that is the same after a restart; `None` when this storage keeps no rows:
    /// then they wait in memory. Rows come as [`Persist::Row`] with the other records of their batch.
    fn rows(&self, name: &str) -> Option<Arc<dyn RowLog>> {
        let _ = name;
        None
    }

    /// Every queue of rows by its name, those of sinks that are no more, too.
    fn queues(&self) -> Vec<(String, Standing)> {
        Vec::new()
    }

    /// Ends a queue with all that waits in it; false when there is none of this name. It may wait.
    ///
    /// # Errors
    /// When that cannot be kept: then the queue stays.
    fn drop_rows(&self, name: &str) -> Result<bool, StorageError> {
        let _ = name;
        Ok(false)
    }

    /// Clients of a listener go on when [`Done::written`] was called: from now on it is worth calling.
    fn tell_what_is_written(&self) {}

    /// Called when a broker stops, after the last batch: what is still on its way may be brought to its place.
    fn flush(&self) {}
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn durability(&self) -> Durability {
        (**self).durability()
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        (**self).commit(batch, done);
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        (**self).load(each)
    }

    fn load_state(&self) -> Result<State, StorageError> {
        (**self).load_state()
    }

    fn has_room(&self) -> bool {
        (**self).has_room()
    }

    fn rows(&self, name: &str) -> Option<Arc<dyn RowLog>> {
        (**self).rows(name)
    }

    fn queues(&self) -> Vec<(String, Standing)> {
        (**self).queues()
    }

    fn drop_rows(&self, name: &str) -> Result<bool, StorageError> {
        (**self).drop_rows(name)
    }

    fn tell_what_is_written(&self) {
        (**self).tell_what_is_written();
    }

    fn flush(&self) {
        (**self).flush();
    }
}

/// About how many bytes a batch occupies until it is answered.
fn weight(batch: &[Persist]) -> usize {
    let mut last = None;
    let messages = batch.iter().map(|record| match record {
        Persist::Owed { waiting, .. } => {
            let place = Arc::as_ptr(&waiting.message);
            let again = last.replace(place) == Some(place);
            if again { 0 } else { waiting.message.size() }
        }
        Persist::Retained { message, .. } | Persist::Delayed { message, .. } => message.size(),
        Persist::Will { will, .. } => will.as_ref().map_or(0, |will| will.message().size()),
        Persist::Row { row, .. } => row.len(),
        _ => 0,
    });
    messages.sum::<usize>() + size_of_val(batch)
}

/// The broker's side of a [`Storage`].
pub(crate) struct Store {
    storage: Option<Arc<dyn Storage>>,
    panics: Arc<Panics>,
    line: Arc<Line>,
    /// There was no room when it was last asked.
    full: AtomicBool,
    room: Notify,
}

impl Store {
    /// A store whose contents end with the process when there is no `storage`.
    pub(crate) fn new(storage: Option<Arc<dyn Storage>>, panics: Arc<Panics>) -> Self {
        Self {
            storage,
            panics,
            line: Arc::default(),
            full: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// What is promised of a ticket that is ready.
    pub(crate) fn durability(&self) -> Durability {
        let ask = || self.storage.as_ref().map(|storage| storage.durability());
        let answer = self.panics.guard(Hook::Storage, ask).flatten();
        answer.unwrap_or(Durability::Memory)
    }

    /// Everything that was kept, folded.
    pub(crate) fn load(&self) -> Result<State, StorageError> {
        let Some(storage) = &self.storage else {
            return Ok(State::default());
        };
        self.panics
            .guard(Hook::Storage, || storage.load_state())
            .unwrap_or_else(|| Err(StorageError::new("it panicked")))
    }

    /// Somebody goes on when a batch is written.
    pub(crate) fn tell_what_is_written(&self) {
        if let Some(storage) = &self.storage {
            self.panics
                .guard(Hook::Storage, || storage.tell_what_is_written());
        }
    }

    /// Whether there is a storage at all.
    pub(crate) fn is_there(&self) -> bool {
        self.storage.is_some()
    }

    /// Asks whether there is room.
    pub(crate) fn look(&self) {
        let Some(storage) = &self.storage else {
            return;
        };
        let room = self.panics.guard(Hook::Storage, || storage.has_room());
        // One that panics says so when it is to keep something.
        self.full.store(room == Some(false), Ordering::Release);
        if room != Some(false) {
            self.room.notify_waiters();
        }
    }

    /// Whether there was no room when it was last asked.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Resolves when there is room.
    pub(crate) async fn has_room(&self) {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Registered before the look, so that a change in between is not missed.
            room.as_mut().enable();
            if !self.is_full() {
                return;
            }
            room.await;
        }
    }

    /// What was handed over and is not answered yet.
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Hands over one batch, all or nothing. The ticket is ready when it would survive a crash.
    pub(crate) fn commit(&self, batch: &mut Vec<Persist>) -> Ticket {
        self.commit_with(batch, Vec::new(), Waits::Somebody)
    }

    /// The same for a batch in which there are rows of sinks; `claims` are told what becomes of it.
    pub(crate) fn commit_with(
        &self,
        batch: &mut Vec<Persist>,
        claims: Vec<Claim>,
        waits: Waits,
    ) -> Ticket {
        let Some(storage) = &self.storage else {
            batch.clear();
            return Ticket::ready();
        };
        let batch = std::mem::take(batch);
        let (ticket, done) = Ticket::in_line(&self.line, weight(&batch));
        let done = done.with_claims(claims).awaited_by(waits);
        // A panic drops `done`, and so fails the batch.
        self.panics
            .guard(Hook::Storage, || storage.commit(batch, done));
        ticket
    }

    /// The broker stops.
    pub(crate) fn flush(&self) {
        if let Some(storage) = &self.storage {
            self.panics.guard(Hook::Storage, || storage.flush());
        }
    }
}
