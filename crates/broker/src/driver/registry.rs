//! Client identifiers to sessions.

use std::sync::Arc;

use ahash::HashMap;
use parking_lot::Mutex;
use weir_mqtt::Utf8;

use super::handle::SessionHandle;

/// Every session, under its client identifier.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<Utf8, Arc<SessionHandle>>>);

impl Registry {
    /// The session of `client_id`; `make` makes one if there is none.
    pub(super) fn get_or_insert(
        &self,
        client_id: &Utf8,
        make: impl FnOnce() -> Arc<SessionHandle>,
    ) -> Arc<SessionHandle> {
        let mut sessions = self.0.lock();
        if let Some(handle) = sessions.get(client_id) {
            return Arc::clone(handle);
        }
        let handle = make();
        sessions.insert(client_id.clone(), Arc::clone(&handle));
        handle
    }

    /// The session of `client_id`, when there is one.
    pub(super) fn get(&self, client_id: &str) -> Option<Arc<SessionHandle>> {
        let client_id = Utf8::new(client_id).ok()?;
        self.0.lock().get(&client_id).cloned()
    }

    /// Forgets this very session if `ended`, which looks at it under the registry's lock, says that it is over.
    pub(super) fn remove_if(
        &self,
        handle: &Arc<SessionHandle>,
        ended: impl FnOnce() -> bool,
    ) -> bool {
        let mut sessions = self.0.lock();
        let known = sessions
            .get(&handle.client_id)
            .is_some_and(|known| Arc::ptr_eq(known, handle));
        if !ended() {
            return false;
        }
        if known {
            sessions.remove(&handle.client_id);
        }
        true
    }

    /// Looks at every session. The list is a copy: nothing is locked while `look` runs.
    pub(super) fn each(&self, look: impl FnMut(&Arc<SessionHandle>)) {
        let all: Vec<_> = self.0.lock().values().map(Arc::clone).collect();
        all.iter().for_each(look);
    }
}
