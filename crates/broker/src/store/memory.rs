//! A storage in memory: a broker that stops and starts again in one process finds its sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_sinks::{MemoryRows, RowLog, Standing};

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
pub struct Memory {
    state: Arc<Mutex<State>>,
    rows: Arc<Mutex<Rows>>,
}

/// The queues of durable sinks, by name and by number.
#[derive(Debug)]
struct Rows {
    /// One of the store that all of them are in; it has no rows itself.
    store: MemoryRows,
    /// The number of the last one.
    last: u64,
    names: BTreeMap<String, u64>,
    queues: BTreeMap<u64, Arc<MemoryRows>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            store: MemoryRows::new(0, 0),
            last: 0,
            names: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }
}

impl Memory {
    /// With this in it.
    #[cfg(test)]
    pub(crate) fn of(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
            ..Self::default()
        }
    }

    /// What is kept now.
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }
}

impl Storage for Memory {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        let mut state = self.state.lock();
        for record in batch {
            match record {
                Persist::Row { queue, row } => {
                    let log = self.rows.lock().queues.get(&queue).cloned();
                    if let Some(log) = log {
                        log.commit([row]);
                    }
                }
                record => state.apply(record),
            }
        }
        drop(state);
        done.kept();
    }

    fn rows(&self, name: &str) -> Option<Arc<dyn RowLog>> {
        let mut rows = self.rows.lock();
        let known = rows.names.get(name).and_then(|id| rows.queues.get(id));
        if let Some(known) = known {
            return Some(Arc::<MemoryRows>::clone(known));
        }
        rows.last += 1;
        let (id, epoch) = (rows.last, rand::random::<u64>() >> 1);
        let log = Arc::new(rows.store.beside(id, epoch.max(1)));
        rows.names.insert(name.to_owned(), id);
        rows.queues.insert(id, Arc::clone(&log));
        Some(log)
    }

    fn queues(&self) -> Vec<(String, Standing)> {
        let rows = self.rows.lock();
        let names = rows.names.iter();
        names
            .filter_map(|(name, id)| Some((name.clone(), rows.queues.get(id)?.standing())))
            .collect()
    }

    fn drop_rows(&self, name: &str) -> Result<bool, StorageError> {
        let mut rows = self.rows.lock();
        let Some(id) = rows.names.remove(name) else {
            return Ok(false);
        };
        if let Some(log) = rows.queues.remove(&id) {
            log.clear();
        }
        Ok(true)
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
