//! What a connected client tells hooks. Each is called without any lock.

use std::sync::Arc;
use std::task::Context;

use weir_mqtt::SubscriptionFilter;

use super::Shared;
use super::client::Client;
use super::events;
use crate::core::subscriptions::SubscriptionOptions;
use crate::hooks::{ClientInfo, Notice, Notices, Subscription};
use crate::stats::CloseReason;

impl events::ClientInfo {
    /// As hooks see it.
    pub(crate) fn shown(&self) -> ClientInfo {
        ClientInfo {
            client_id: self.origin.client_id.clone(),
            username: self.origin.username.clone(),
            peer: self.origin.peer,
            local: self.local,
            version: self.version,
            keep_alive_s: self.keep_alive_s,
            connected_at_ms: self.connected_at_ms,
            session_epoch: self.session_epoch,
        }
    }
}

impl Shared {
    /// Where notices of one client are kept; `None` when nobody wants them.
    pub(super) fn notices(&self) -> Option<Box<Notices>> {
        (!self.hooks.sessions.is_empty()).then(Box::default)
    }
}

impl Client {
    /// The client was welcomed.
    pub(super) fn tell_online(&mut self) {
        self.handle.lock().info = Some(Arc::clone(&self.info));
        if !self.shared.hooks.status.is_empty() {
            self.announced = true;
            self.shared.hooks.online(&self.info.shown());
        }
    }

    /// The client is gone; nobody else has its session yet.
    pub(super) fn tell_offline(&mut self, reason: CloseReason) {
        self.handle.lock().info = None;
        if let Some(notices) = self.notices.take() {
            notices.finish(Arc::clone(&self.shared.hooks), || self.info.shown());
        }
        if self.announced {
            self.shared.hooks.offline(&self.info.shown(), reason);
        }
    }

    /// Puts down what is to be told of subscriptions, if anyone listens.
    pub(super) fn put_down_subscribed<'a>(
        &self,
        notices: &mut Vec<Notice>,
        subscriptions: impl Iterator<Item = (&'a SubscriptionFilter, SubscriptionOptions)>,
    ) {
        if self.notices.is_some() {
            notices.extend(subscriptions.map(|(filter, options)| {
                Notice::Subscribed(Subscription::new(filter.detached(), options))
            }));
        }
    }

    /// The same for those that have ended.
    pub(super) fn put_down_unsubscribed(
        &self,
        notices: &mut Vec<Notice>,
        filters: &[SubscriptionFilter],
    ) {
        if self.notices.is_some() {
            let ended = |filter: &SubscriptionFilter| Notice::Unsubscribed(filter.detached());
            notices.extend(filters.iter().map(ended));
        }
    }

    /// To be told when the present step is kept.
    pub(super) fn note(&mut self, of_this_step: &mut Vec<Notice>) {
        if let Some(notices) = &mut self.notices {
            of_this_step.drain(..).for_each(|one| notices.push(one));
        }
    }

    /// Tells what is kept by now.
    pub(super) fn poll_notices(&mut self, cx: &Context<'_>) {
        while let Some(notice) = self
            .notices
            .as_mut()
            .and_then(|notices| notices.poll_next(cx))
        {
            let client = self.info.shown();
            self.shared.hooks.session_changed(&client, &notice);
        }
    }
}
