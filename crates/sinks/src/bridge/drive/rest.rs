//! A bridge that does not connect now: it waits until enough is to be sent, or for a command (`start`).

use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Link, Times, renewed};
use crate::bridge::client::Failure;
use crate::bridge::link::Inner;
use crate::bridge::reconnect::Loss;
use crate::bridge::start::{Standing, Start};
use crate::codes;
use crate::error::SinkError;

/// When the next CONNECT comes.
#[derive(Clone, Copy)]
pub(super) struct NotBefore {
    /// When nobody says anything.
    pub(super) by_itself: Instant,
    /// When somebody says that it shall come now: what the cloud asks for.
    pub(super) at_most: Instant,
}

/// Waits until the bridge is to connect, not before its time; false when it is to end.
pub(super) async fn until_wanted(inner: &Inner, mut not_before: NotBefore) -> bool {
    let mut standing = inner.standing.subscribe();
    loop {
        let hurried = inner.hurry.notified();
        tokio::pin!(hurried);
        hurried.as_mut().enable();
        let now = *standing.borrow_and_update();
        let wanted = async {
            if !now.is_awake() {
                inner.health.set(now.at_rest());
                // The sender lives as long as `inner`.
                let _ = standing.wait_for(Standing::is_awake).await;
            }
            tokio::select! {
                () = sleep_until(not_before.by_itself) => true,
                () = halts(&mut standing) => false,
            }
        };
        tokio::select! {
            wanted = wanted => if wanted { return true },
            () = hurried => not_before.by_itself = not_before.by_itself.min(not_before.at_most),
            () = inner.stop.notified() => return false,
        }
    }
}

/// Resolves when the bridge is to have no link any more.
pub(super) async fn halts(standing: &mut watch::Receiver<Standing>) {
    // The sender lives as long as the bridge does.
    let _ = standing.wait_for(|standing| !standing.is_awake()).await;
}

/// The link ends since it is not needed now.
pub(super) fn rested() -> Failure {
    let message = "the link has ended: nothing is to be sent, or the bridge was told to stop";
    Failure {
        loss: Loss::Rest,
        ..Failure::network(SinkError::new(codes::LINK_DOWN, message))
    }
}

impl Link {
    /// When the link ends if nothing is to be sent until then.
    pub(super) fn rests_at(&self) -> Option<Instant> {
        match self.inner.plan().start {
            Start::Lazy { idle_timeout, .. } => {
                self.inner.idle_since().map(|since| since + idle_timeout)
            }
            _ => None,
        }
    }

    /// A link that nobody has needed for long enough begins to end.
    pub(super) fn rest_if_idle(&self, times: &mut Times) {
        let now = Instant::now();
        if times.renew_at.is_none() && self.rests_at().is_some_and(|at| now >= at) {
            self.inner.stats.rests.fetch_add(1, Relaxed);
            (self.inner.standing).send_if_modified(Standing::rests);
            times.rest(now);
        }
    }
}

impl Times {
    /// The link is to end, and not to be made anew.
    pub(super) fn rest(&mut self, now: Instant) {
        self.rests = true;
        self.renew_at.get_or_insert(now);
    }

    /// Why the link ends that has nothing out any more.
    pub(super) fn closed(&self) -> Failure {
        if self.rests { rested() } else { renewed() }
    }
}
