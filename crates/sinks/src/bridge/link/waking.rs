//! Whether there is to be a link, and waiting for one.

use std::time::Duration;

use tokio::sync::watch;

use super::BridgeLink;
use crate::bridge::start::{Command, Standing};
use crate::codes;
use crate::error::SinkError;

impl BridgeLink {
    /// Somebody says whether there is to be a link.
    pub(crate) fn tell(&self, command: Command) {
        self.inner
            .standing
            .send_if_modified(|standing| standing.is_told(command));
        if command == Command::Start {
            self.inner.hurry.notify_waiters();
        }
    }

    /// It takes the place of a bridge that stands so.
    pub(crate) fn goes_on_like(&self, old: Standing) {
        (self.inner.standing).send_modify(|standing| standing.goes_on_like(old));
    }

    /// Whether there is to be a link now, and every change of that; `None` where there always is.
    pub(crate) fn standing(&self) -> Option<watch::Receiver<Standing>> {
        let standing = self.inner.standing.subscribe();
        let is_steady = standing.borrow().is_steady();
        (!is_steady).then_some(standing)
    }

    /// Waits until there is a link for a message, for at most `limit`; its number, or why there is none.
    pub(crate) async fn up(&self, limit: Duration) -> Result<u64, SinkError> {
        let wanted = async {
            let mut standing = self.inner.standing.subscribe();
            loop {
                standing.mark_unchanged();
                (self.inner.standing).send_if_modified(Standing::is_wanted);
                tokio::select! {
                    number = self.is_up() => return number,
                    // The link of before has only now ended for want of messages.
                    _ = standing.changed() => {}
                }
            }
        };
        let up = tokio::time::timeout(limit, wanted).await;
        up.map_err(|_| self.why_down())
    }

    /// Waits until there is a link, for at most `limit`, and does nothing for it.
    pub(crate) async fn has_come_up(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.is_up()).await.is_ok()
    }

    async fn is_up(&self) -> u64 {
        let mut changed = self.inner.changed.subscribe();
        let up = changed.wait_for(|number| number % 2 == 1).await;
        // The sender lives as long as `self`.
        up.map_or(0, |number| *number)
    }

    /// Waits until there is no link, for at most `limit`.
    pub(crate) async fn has_gone(&self, limit: Duration) -> bool {
        let mut changed = self.inner.changed.subscribe();
        let gone = changed.wait_for(|number| number % 2 == 0);
        tokio::time::timeout(limit, gone).await.is_ok()
    }

    /// Why there is no link.
    pub(crate) fn why_down(&self) -> SinkError {
        if !self.inner.standing.borrow().is_missed() {
            let name = self.inner.health.name();
            let message = format!("the bridge waits for a command: `weir bridge start {name}`");
            return SinkError::new(codes::NOT_STARTED, message);
        }
        self.inner.health.last_error().unwrap_or_else(|| {
            SinkError::new(
                codes::LINK_DOWN,
                "the link to the remote broker is not up yet",
            )
        })
    }
}
