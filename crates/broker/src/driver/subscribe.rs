//! SUBSCRIBE and UNSUBSCRIBE from a client.

use std::sync::Arc;

use ahash::HashMap;
use weir_mqtt::{
    ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionFilter, SubscriptionId,
    SubscriptionRequest, UnsubAck, Unsubscribe,
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
        let (granted, reasons) = self.grant(&subscribe.requests, id);
        let packet_id = subscribe.packet_id;
        self.reply(|version, out| SubAck::new(packet_id, reasons).encode(version, out))?;
        {
            let mut slot = self.handle.lock();
            for one in &granted {
                slot.session
                    .subscribed(one.filter.clone(), one.options, &mut self.router.effects);
            }
        }
        // SUBACK goes into the outbox before the retained messages.
        self.step_done(now);
        self.enter(now, &granted);
        self.tell_subscribed(&granted);
        Ok(())
    }

    /// What is granted, each filter once however often it was asked for, and one code for each request.
    fn grant(
        &self,
        requests: &[SubscriptionRequest],
        id: Option<SubscriptionId>,
    ) -> (Vec<Granted>, Vec<ReasonCode>) {
        let mut granted: Vec<Granted> = Vec::new();
        let mut places: HashMap<&SubscriptionFilter, usize> = HashMap::default();
        let mut new_filters = 0;
        let slot = self.handle.lock();
        let reasons = (0..)
            .zip(requests)
            .map(|(at, SubscriptionRequest { filter, options })| {
                if at >= self.shared.settings.max_subscriptions_per_client {
                    return ReasonCode::QuotaExceeded;
                }
                let known = places.get(filter).copied();
                let new = known.is_none() && !slot.session.is_subscribed(filter);
                if let Some(refusal) = self.refusal(filter, &slot.session, new, new_filters) {
                    return refusal;
                }
                let qos = match self
                    .shared
                    .authorizer
                    .subscribe(&self.subject, filter, options.qos)
                {
                    Ok(qos) => qos.min(options.qos),
                    Err(refusal) => return refusal,
                };
                // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]; shared subscriptions get no retained messages.
                let retrieve = filter.share.is_none()
                    && match options.retain_handling {
                        RetainHandling::OnSubscribe => true,
                        RetainHandling::OnNewSubscription => new,
                        RetainHandling::Never => false,
                    };
                let granted_options = SubscriptionOptions {
                    qos,
                    no_local: options.no_local,
                    retain_as_published: options.retain_as_published,
                    id,
                };
                if let Some(known) = known {
                    // As if it came later: the last options count.
                    granted[known].options = granted_options;
                    granted[known].retrieve |= retrieve;
                } else {
                    new_filters += usize::from(new);
                    places.insert(filter, granted.len());
                    granted.push(Granted {
                        filter: filter.detached(),
                        options: granted_options,
                        retrieve,
                        new,
                    });
                }
                ReasonCode::granted(qos)
            })
            .collect();
        drop(slot);
        (granted, reasons)
    }

    fn refusal(
        &self,
        filter: &SubscriptionFilter,
        session: &Session,
        new: bool,
        new_filters: usize,
    ) -> Option<ReasonCode> {
        let settings = &self.shared.settings;
        if filter.filter.as_str().split('/').count() > settings.max_topic_levels {
            return Some(ReasonCode::TopicFilterInvalid);
        }
        let full =
            session.subscriptions_len() + new_filters >= settings.max_subscriptions_per_client;
        (full && new).then_some(ReasonCode::QuotaExceeded)
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
