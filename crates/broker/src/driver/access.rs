//! What clients may do when that changes: subscriptions that are no longer allowed end, and who is banned now leaves.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::handle::{ConnectionKey, SessionHandle};
use super::router::{Router, wall_ms};
use super::slices::Left;
use super::{CHANGES_AT_ONCE, Shared};
use crate::auth::Subject;
use crate::core::bans::{Ban, Bans, MOST_BANS, Who};
use crate::core::persist::Persist;
use crate::core::{Effects, Millis};
use crate::stats::CloseReason;
use crate::store::Ticket;

/// A list of bans is as long as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST_BANS} bans already")]
pub struct TooManyBans;

impl Shared {
    /// Turns someone away from now on; the ticket is ready when that would survive a crash.
    pub(crate) fn ban(
        self: &Arc<Self>,
        who: Who,
        duration: Option<Duration>,
        reason: Option<String>,
    ) -> Result<Ticket, TooManyBans> {
        let now = self.clock.now();
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(Millis::MAX);
        let ban = Ban {
            since: now,
            until: duration.map(|duration| now.saturating_add(ms(duration))),
            reason,
        };
        let ticket = {
            let mut bans = self.entrance.bans.write();
            let mut batch = forgotten(&mut bans, now);
            if bans.len() >= MOST_BANS {
                return Err(TooManyBans);
            }
            bans.insert(who.clone(), ban.clone());
            batch.push(Persist::Banned { who, ban });
            // Under the lock, so that the store has the changes in their order.
            self.store.commit(&mut batch)
        };
        self.enforce_access();
        Ok(ticket)
    }

    /// Lets someone in again; `None` when nobody of that name was turned away.
    pub(crate) fn unban(&self, who: Who) -> Option<Ticket> {
        let mut bans = self.entrance.bans.write();
        let mut batch = forgotten(&mut bans, self.clock.now());
        let was_there = bans.remove(&who);
        if was_there {
            batch.push(Persist::Unbanned { who });
        }
        let ticket = self.store.commit(&mut batch);
        was_there.then_some(ticket)
    }

    /// Whom operators have turned away, until now.
    pub(crate) fn bans(&self) -> Vec<(Who, Ban)> {
        let now = self.clock.now();
        let bans = self.entrance.bans.read();
        let in_force = bans.iter().filter(|(_, ban)| !ban.is_over(now));
        in_force
            .map(|(who, ban)| (who.clone(), ban.clone()))
            .collect()
    }

    /// Holds every session against what is in force now. Messages that already wait in a session were allowed when they
    /// came, and stay.
    pub(crate) fn enforce_access(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut router = Router::new(self);
        self.registry.each(|handle| {
            let subject = handle.lock().subject.clone();
            let Some(subject) = subject else { return };
            if self.welcomes(&subject).is_err() {
                handle.request_close(CloseReason::Kicked);
            }
            let mut review = Review::default();
            while self.review_some(handle, &subject, &mut review, &mut router.effects) == Left::Some
            {
            }
            review.tell(handle);
        });
        drop(router.finish(now));
    }

    /// Holds some of a session's subscriptions against what `subject` may have, and ends those that it may not.
    pub(super) fn review_some(
        &self,
        handle: &Arc<SessionHandle>,
        subject: &Subject,
        review: &mut Review,
        effects: &mut Effects,
    ) -> Left {
        let mut slot = handle.lock();
        if slot.ended {
            return Left::Nothing;
        }
        let end = review.left.min(slot.session.subscriptions_len());
        review.left = end.saturating_sub(CHANGES_AT_ONCE);
        let session = &mut slot.session;
        let mut revoked: Vec<_> = (review.left..end)
            .filter_map(|place| session.subscription_at(place))
            .filter(|(filter, options)| {
                let allowed = self.authorizer.subscribe(subject, filter, options.qos);
                allowed.is_err()
            })
            .map(|(filter, _)| filter.clone())
            .collect();
        revoked.retain(|filter| session.unsubscribed(filter, effects));
        review.revoked += revoked.len();
        self.stats.subscriptions_revoked.add(revoked.len() as u64);
        // Publishers may have something for it.
        MutexGuard::unlock_fair(slot);
        self.forget_subscriptions(handle.key, &revoked);
        if review.left == 0 {
            Left::Nothing
        } else {
            Left::Some
        }
    }
}

/// How far it has been looked which subscriptions of a session are still allowed: from the end, since one that ends
/// gives its place to the last.
#[derive(Debug)]
pub(super) struct Review {
    /// Those at places below this are still to be looked at.
    left: usize,
    /// How many have ended.
    revoked: usize,
}

impl Default for Review {
    fn default() -> Self {
        Self {
            left: usize::MAX,
            revoked: 0,
        }
    }
}

impl Review {
    /// Tells the log what has come of it.
    pub(super) fn tell(&self, handle: &SessionHandle) {
        if self.revoked > 0 {
            tracing::info!(
                client_id = %handle.client_id,
                subscriptions = self.revoked,
                "subscriptions are no longer allowed and have ended"
            );
        }
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

/// Takes out of the list what is over; gives what the store is to hear of that.
fn forgotten(bans: &mut Bans, now: Millis) -> Vec<Persist> {
    let over = bans.forget_the_past(now).into_iter();
    over.map(|who| Persist::Unbanned { who }).collect()
}
