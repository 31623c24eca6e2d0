//! A broker starts with what the storage has kept of the one before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::handle::SessionHandle;
use crate::core::Effects;
use crate::core::session::{NEVER_EXPIRES, Session};
use crate::store::{Persist, StorageError};

impl Shared {
    /// Before any listener opens: sessions, queues, subscriptions, retained and delayed messages, Wills.
    pub(crate) fn restore(self: &Arc<Self>) -> Result<(), StorageError> {
        let mut state = self.store.load()?;
        let now = self.clock.now();
        {
            let mut retained = self.retained.write();
            let kept = state.retained().filter(|message| !message.is_expired(now));
            retained.restore(kept, state.last_change());
            self.gauge_retained(&retained);
        }
        self.last_epoch.store(state.last_epoch(), Ordering::Relaxed);
        self.delayed.restore(state.delayed());
        self.stats.delayed_messages.set(self.delayed.len() as u64);
        let mut noticed = Effects::default();
        noticed.persist.push(Persist::Began {
            change: state.last_change(),
            epoch: state.last_epoch(),
        });
        {
            let mut bans = self.entrance.bans.write();
            bans.clone_from(state.bans());
            let over = bans.forget_the_past(now).into_iter();
            noticed
                .persist
                .extend(over.map(|who| Persist::Unbanned { who }));
        }
        for (client_id, kept) in state.take_sessions() {
            let (disconnected_at, expiry_interval_s) =
                (kept.disconnected_at, kept.expiry_interval_s);
            let session = Session::restored(client_id.clone(), self.session_limits, kept);
            let subscriptions: Vec<_> = session
                .subscriptions()
                .map(|(filter, options)| (filter.clone(), options))
                .collect();
            let (key, stats) = (self.next_key(), Arc::clone(&self.stats));
            let handle = SessionHandle::new(key, client_id.clone(), session, stats);
            {
                let mut slot = handle.lock();
                slot.begun = true;
                // After a crash nobody knows when the connection ended. What is said now counts after the next one too.
                let since = disconnected_at.unwrap_or(now);
                if disconnected_at.is_none() {
                    slot.session.note_disconnected(since, &mut noticed);
                }
                if let Some(will) = slot.session.will() {
                    slot.will_at = will.due(since, expiry_interval_s);
                }
                if expiry_interval_s != NEVER_EXPIRES {
                    let expiry_ms = u64::from(expiry_interval_s) * 1000;
                    slot.expires_at = since.saturating_add(expiry_ms);
                }
            }
            self.registry
                .get_or_insert(&client_id, || Arc::clone(&handle));
            self.change_index(|index| {
                for (filter, options) in &subscriptions {
                    index.restore(handle.key, Arc::clone(&handle), filter, *options);
                }
            });
            self.stats.sessions.add(1);
            self.stats.subscriptions.add(subscriptions.len() as u64);
            self.set_alarm(&handle);
        }
        // Nobody waits for it: at worst the next broker says the same.
        drop(self.store.commit(&mut noticed.persist));
        // What became due meanwhile comes before everything that clients do now.
        self.do_what_is_due(now);
        Ok(())
    }
}
