//! SUBSCRIBE and UNSUBSCRIBE from a client.

use std::sync::Arc;

use weir_mqtt::{
    ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionFilter, SubscriptionRequest,
    UnsubAck, Unsubscribe,
};

use super::client::{Client, Leave};
use super::events;
use crate::core::Millis;
use crate::core::session::Session;
use crate::core::subscriptions::SubscriptionOptions;
use crate::stats::DropReason;

/// A subscription that was granted.
struct Granted {
    filter: SubscriptionFilter,
    options: SubscriptionOptions,
    /// Whether retained messages are to be sent now.
    retrieve: bool,
    /// Whether it did not exist before.
    new: bool,
}

impl Client {
    pub(super) fn subscribe(&mut self, now: Millis, subscribe: Subscribe) -> Result<(), Leave> {
        let id = subscribe
            .properties
            .as_deref()
            .and_then(|properties| properties.subscription_identifier);
        let mut granted = Vec::new();
        let mut reasons = Vec::new();
        {
            let mut slot = self.handle.lock();
            for SubscriptionRequest { filter, options } in &subscribe.requests {
                if let Some(refusal) = self.refusal(filter, &slot.session) {
                    reasons.push(refusal);
                    continue;
                }
                reasons.push(ReasonCode::granted(options.qos));
                let new = !slot.session.is_subscribed(filter);
                // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]; shared subscriptions get no retained messages.
                let retrieve = filter.share.is_none()
                    && match options.retain_handling {
                        RetainHandling::OnSubscribe => true,
                        RetainHandling::OnNewSubscription => new,
                        RetainHandling::Never => false,
                    };
                let options = SubscriptionOptions {
                    qos: options.qos,
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    id,
                };
                let filter = filter.detached();
                slot.session
                    .subscribed(filter.clone(), options, &mut self.router.effects);
                granted.push(Granted {
                    filter,
                    options,
                    retrieve,
                    new,
                });
            }
        }
        let packet_id = subscribe.packet_id;
        self.reply(|version, out| SubAck::new(packet_id, reasons).encode(version, out))?;
        // SUBACK goes into the outbox before the retained messages.
        self.step_done(now);
        self.enter(now, &granted);
        self.tell_subscribed(&granted);
        Ok(())
    }

    fn refusal(&self, filter: &SubscriptionFilter, session: &Session) -> Option<ReasonCode> {
        if filter.filter.as_str().split('/').count() > self.shared.settings.max_topic_levels {
            return Some(ReasonCode::TopicFilterInvalid);
        }
        let full = session.subscriptions_len() >= self.shared.settings.max_subscriptions_per_client;
        (full && !session.is_subscribed(filter)).then_some(ReasonCode::QuotaExceeded)
    }

    /// Puts subscriptions into the index and sends the retained messages.
    fn enter(&mut self, now: Millis, granted: &[Granted]) {
        if granted.is_empty() {
            return;
        }
        {
            // Held over both, so that a retained message that is published meanwhile comes once: see `Router::retain`.
            let retained = self.shared.retained.read();
            self.shared.change_index(|index| {
                for one in granted {
                    let handle = Arc::clone(&self.handle);
                    index.subscribe(self.handle.key, handle, &one.filter, one.options);
                }
            });
            let mut slot = self.handle.lock();
            for one in granted.iter().filter(|one| one.retrieve) {
                for message in retained.matching(&one.filter.filter, now) {
                    let own = message.origin.client_id == self.handle.client_id;
                    let skipped = own && one.options.no_local;
                    if !skipped && !slot.session.retrieve(message, one.options) {
                        self.shared.stats.dropped(DropReason::QueueFull, 1);
                    }
                }
            }
            slot.session
                .refill(now, Some(&retained), &mut self.router.effects);
        }
        self.tell_delivered();
        let new = granted.iter().filter(|granted| granted.new).count();
        self.shared.stats.subscriptions.add(new as u64);
    }

    fn tell_subscribed(&mut self, granted: &[Granted]) {
        if self.router.watch().subscribed {
            for one in granted {
                let event = events::subscribed(&self.info, &one.filter, one.options);
                self.router.observe(event);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe) -> Result<(), Leave> {
        let mut existed = Vec::new();
        let mut reasons = Vec::new();
        {
            let mut slot = self.handle.lock();
            for filter in &unsubscribe.filters {
                if slot.session.unsubscribed(filter, &mut self.router.effects) {
                    existed.push(filter.clone());
                    reasons.push(ReasonCode::Success);
                } else {
                    reasons.push(ReasonCode::NoSubscriptionExisted);
                }
            }
        }
        self.shared.forget_subscriptions(self.handle.key, &existed);
        if self.router.watch().unsubscribed {
            for filter in &existed {
                self.router
                    .observe(events::unsubscribed(&self.info, filter));
            }
        }
        let packet_id = unsubscribe.packet_id;
        self.reply(|version, out| UnsubAck::new(packet_id, reasons).encode(version, out))
    }
}
