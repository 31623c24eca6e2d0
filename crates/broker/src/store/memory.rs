//! A storage in memory: a broker that stops and starts again in one process finds its sessions.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Done, Durability, Persist, State, Storage, StorageError};

/// Keeps everything as long as one of its clones lives.
///
/// ```
/// use weir::store::Memory;
///
/// let storage = Memory::default();
/// let builder = weir::Broker::builder().storage(storage.clone());
/// // A broker that is started with a clone later on goes on where this one has stopped.
/// # drop(builder);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

impl Memory {
    /// With this in it.
    #[cfg(test)]
    pub(crate) fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// What is kept now.
    pub fn state(&self) -> State {
        self.0.lock().clone()
    }
}

impl Storage for Memory {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        {
            let mut state = self.0.lock();
            batch.into_iter().for_each(|record| state.apply(record));
        }
        done.kept();
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        self.state().records(each);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn it_passes_the_suite_that_every_storage_has_to_pass() {
        conformance::check(|| {
            let storage = Memory::default();
            move || storage.clone()
        });
    }
}
