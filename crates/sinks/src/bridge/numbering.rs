//! The numbers that a sink's messages have in its queue, as the remote comes to know them.

use std::path::PathBuf;
use std::sync::Arc;

use super::lanes::Whose;
use super::link::{BridgeLink, Numbered};
use super::released::Released;
use crate::mqtt::link_broke;
use crate::{SinkError, codes};

/// A queue that outlives the process: where it keeps things, and its epoch.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) data_dir: PathBuf,
    pub(crate) epoch: u64,
}

/// Gives messages their numbers, so that one of `QoS` 2 is the same one after a restart.
pub(crate) struct Numbering {
    whose: Whose,
    /// `None` where rows wait in memory.
    kept: Option<Kept>,
    /// `None` also before the first link: until then an earlier connector may still write it.
    released: Option<Arc<Released>>,
    /// The link on which identifiers of before were freed.
    freed_on: u64,
    /// How often lanes had become free when there was none for this queue.
    refused_at: Option<u64>,
}

impl Numbering {
    pub(crate) const fn new(whose: Whose, kept: Option<Kept>) -> Self {
        Self {
            whose,
            kept,
            released: None,
            freed_on: 0,
            refused_at: None,
        }
    }

    /// Whether messages are to be told apart over restarts.
    pub(crate) const fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Before messages from `first` on are given to a link. Once for each link identifiers are freed that messages before
    /// these may have left half way at the remote.
    ///
    /// # Errors
    /// When what must be remembered cannot be, or the link is gone.
    pub(crate) async fn prepare(
        &mut self,
        link: &BridgeLink,
        number: u64,
        first: u64,
    ) -> Result<(), SinkError> {
        let Some(released) = self.opened(link).await? else {
            return Ok(());
        };
        if self.freed_on != number {
            self.begin(link, number, first, &released).await?;
            self.freed_on = number;
        }
        released.settled_below(first);
        Ok(())
    }

    /// What the queue has released; `None` where its messages have no identifiers of their own.
    async fn opened(&mut self, link: &BridgeLink) -> Result<Option<Arc<Released>>, SinkError> {
        let Some(kept) = &self.kept else {
            return Ok(None);
        };
        let freed = link.lanes_freed();
        if self.released.is_none() && self.refused_at != Some(freed) {
            let (of, asked, whose) = (link.clone(), kept.clone(), self.whose);
            self.released =
                blocking(move || of.released(&asked.data_dir, asked.epoch, whose)).await?;
            // Every lane is taken: what the link returns may come a second time. It is asked for again when one may be free.
            self.refused_at = self.released.is_none().then_some(freed);
            link.has_lane(kept.epoch, self.released.is_some());
        }
        Ok(self.released.clone())
    }

    /// The first messages on a link.
    async fn begin(
        &self,
        link: &BridgeLink,
        number: u64,
        first: u64,
        released: &Arc<Released>,
    ) -> Result<(), SinkError> {
        let plan = link.plan();
        let of = Arc::clone(released);
        // A link that is gone says nothing of the session on the next one.
        if !link.is_resumed(number).ok_or_else(link_broke)? {
            return blocking(move || of.forget()).await;
        }
        if plan.qos_cap < 2 {
            return Ok(());
        }
        if released.last().is_none_or(|last| last < first) {
            // Behind a crash that has forgotten what was done, these identifiers are those of later messages.
            let before = match self.whose {
                Whose::Out => u64::from(plan.max_inflight),
                Whose::Rule => released.ids().span(),
            };
            let earlier = first.saturating_sub(before).max(1)..first;
            link.release(released, earlier);
        }
        let given_up = released.given_up();
        if !given_up.is_empty() {
            link.free(&given_up);
            link.freed(number, |ids| !given_up.iter().any(|id| ids.contains(id)))
                .await;
            link.is_resumed(number).ok_or_else(link_broke)?;
            blocking(move || of.freed()).await?;
        }
        Ok(())
    }

    /// Messages are not sent any more, whether there is a link or not: the remote may have them half way.
    ///
    /// # Errors
    /// When this cannot be remembered.
    pub(crate) async fn abandons(
        &mut self,
        link: &BridgeLink,
        seqs: Vec<u64>,
    ) -> Result<(), SinkError> {
        let Some(released) = self.opened(link).await? else {
            return Ok(());
        };
        self.freed_on = 0;
        blocking(move || released.give_up(seqs.into_iter())).await
    }

    /// How the message with this number is known. One that lies too far behind for an identifier of its own, which a
    /// later message may have now, is not.
    pub(crate) fn of(&self, seq: u64, again: bool) -> Option<Numbered<'_>> {
        self.released
            .as_ref()
            .filter(|released| !lies_behind(released, seq))
            .map(|released| Numbered {
                seq,
                again,
                released,
            })
    }

    /// Whether the remote has the message for good, though a crash has forgotten that: a later message was released, and
    /// that one was not sent before this one was answered.
    pub(crate) fn is_done(&self, seq: u64) -> bool {
        self.released
            .as_ref()
            .is_some_and(|released| lies_behind(released, seq) && released.contains(seq))
    }

    /// A message is not sent after all. It may be half way at the remote, which would keep its identifier taken.
    pub(crate) fn gives_up(&self, link: &BridgeLink, seq: u64, again: bool) {
        if let Some(released) = &self.released
            && (again || released.contains(seq))
        {
            link.release(released, std::iter::once(seq));
        }
    }

    /// Messages whose numbers are so far apart may not be on their way together.
    pub(crate) fn span(&self) -> Option<u64> {
        self.released.as_ref().map(|released| released.ids().span())
    }
}

fn lies_behind(released: &Released, seq: u64) -> bool {
    let last = released.last();
    last.is_some_and(|last| seq + released.ids().span() <= last)
}

/// What waits for a file, away from the tasks that carry packets.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, SinkError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| cannot_remember(&error))
}

fn cannot_remember(error: &std::io::Error) -> SinkError {
    let message = "the bridge cannot write what it must remember below data_dir/bridges";
    SinkError::new(codes::FILE, message).caused_by(error)
}
