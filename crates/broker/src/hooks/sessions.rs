//! Sessions subscribe and unsubscribe; told when that is as durable as the storage makes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use weir_mqtt::SubscriptionFilter;

use super::{ClientInfo, Hook, Hooks, Subscription};
use crate::store::Ticket;

/// Hears of subscriptions, once they are kept.
///
/// For one client the calls are in the order of its packets. Called on the connection's task; must not wait.
pub trait SessionListener: Send + Sync + 'static {
    /// A client has subscribed, or changed a subscription.
    fn subscribed(&self, client: &ClientInfo, subscription: &Subscription) {
        let _ = (client, subscription);
    }

    /// A client has unsubscribed.
    fn unsubscribed(&self, client: &ClientInfo, filter: &SubscriptionFilter) {
        let _ = (client, filter);
    }
}

/// Something that listeners are to hear.
#[derive(Debug)]
pub(crate) enum Notice {
    Subscribed(Subscription),
    Unsubscribed(SubscriptionFilter),
}

/// What listeners are to hear of one client, in order, each with the ticket that it waits for.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// Of the present step, whose ticket is not known yet.
    fresh: Vec<Notice>,
    waiting: VecDeque<(Ticket, Notice)>,
}

impl Notices {
    /// To be told with the ticket of the present step.
    pub(crate) fn push(&mut self, notice: Notice) {
        self.fresh.push(notice);
    }

    /// The step has ended.
    pub(crate) fn step_done(&mut self, ticket: &Ticket) {
        let fresh = self.fresh.drain(..);
        self.waiting
            .extend(fresh.map(|notice| (ticket.clone(), notice)));
    }

    /// The next that may be told; the task is woken when there is one.
    pub(crate) fn poll_next(&mut self, cx: &Context<'_>) -> Option<Notice> {
        loop {
            let (ticket, _) = self.waiting.front()?;
            let kept = match ticket.poll_ready(cx) {
                Poll::Pending => return None,
                Poll::Ready(kept) => kept.is_ok(),
            };
            let (_, notice) = self.waiting.pop_front()?;
            if kept {
                return Some(notice);
            }
        }
    }

    /// The connection ends: what still waits is told when its tickets are ready.
    pub(crate) fn finish(mut self, hooks: Arc<Hooks>, client: impl FnOnce() -> ClientInfo) {
        if self.waiting.is_empty() {
            return;
        }
        let client = client();
        tokio::spawn(async move {
            while let Some((ticket, notice)) = self.waiting.pop_front() {
                if ticket.committed().await.is_ok() {
                    hooks.session_changed(&client, &notice);
                }
            }
        });
    }
}

impl Hooks {
    /// Tells of a subscription that is kept.
    pub(crate) fn session_changed(&self, client: &ClientInfo, notice: &Notice) {
        for listener in &self.sessions {
            self.panics.guard(Hook::Session, || match notice {
                Notice::Subscribed(subscription) => listener.subscribed(client, subscription),
                Notice::Unsubscribed(filter) => listener.unsubscribed(client, filter),
            });
        }
    }
}
