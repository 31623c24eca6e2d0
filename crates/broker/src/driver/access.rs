//! What clients may do when that changes: subscriptions that are no longer allowed end, and who is banned now leaves.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::handle::{ConnectionKey, SessionHandle};
use super::router::{Router, wall_ms};
use crate::auth::Subject;
use crate::core::Effects;
use crate::stats::CloseReason;

impl Shared {
    /// Holds every session against what is in force now. Messages that already wait in a session were allowed when they
    /// came, and stay.
    pub(crate) fn enforce_access(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut router = Router::new(self);
        self.registry.each(|handle| {
            let subject = handle.lock().subject.clone();
            let Some(subject) = subject else { return };
            let address = subject.peer.map(|peer| peer.ip());
            let username = subject.username.as_deref();
            if self
                .entrance
                .welcomes(now, &subject.client_id, username, address)
                .is_err()
            {
                handle.request_close(CloseReason::Kicked);
            }
            self.revoke(handle, &subject, &mut router.effects);
        });
        drop(router.finish(now));
    }

    /// Ends the subscriptions that `subject` may not have.
    pub(super) fn revoke(
        &self,
        handle: &Arc<SessionHandle>,
        subject: &Subject,
        effects: &mut Effects,
    ) {
        let revoked: Vec<_> = {
            let mut slot = handle.lock();
            if slot.ended {
                return;
            }
            let filters: Vec<_> = slot
                .session
                .subscriptions()
                .filter(|(filter, options)| {
                    let allowed = self.authorizer.subscribe(subject, filter, options.qos);
                    allowed.is_err()
                })
                .map(|(filter, _)| filter.clone())
                .collect();
            filters
                .into_iter()
                .filter(|filter| slot.session.unsubscribed(filter, effects))
                .collect()
        };
        if revoked.is_empty() {
            return;
        }
        tracing::info!(
            client_id = %handle.client_id,
            subscriptions = revoked.len(),
            "subscriptions are no longer allowed and have ended"
        );
        self.stats.subscriptions_revoked.add(revoked.len() as u64);
        self.forget_subscriptions(handle.key, &revoked);
    }
}

/// Ends a connection when its permission does.
#[derive(Debug)]
pub(super) struct Expiry(tokio::task::AbortHandle);

impl Expiry {
    /// Watches over the connection `key`, whose permission ends at a time of the wall clock.
    pub(super) fn watch(handle: &Arc<SessionHandle>, key: ConnectionKey, at_s: i64) -> Self {
        let left_ms = at_s.saturating_mul(1000).saturating_sub(wall_ms());
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        let handle = Arc::downgrade(handle);
        let task = tokio::spawn(async move {
            tokio::time::sleep(left).await;
            if let Some(handle) = handle.upgrade()
                && handle.lock().owner == Some(key)
            {
                handle.request_close(CloseReason::PermissionExpired);
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.0.abort();
    }
}
