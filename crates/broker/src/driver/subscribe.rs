//! SUBSCRIBE and UNSUBSCRIBE from a client.

use std::sync::Arc;

use ahash::{HashMap, HashMapExt as _};
use weir_mqtt::{
    ProtocolVersion, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionFilter,
    SubscriptionId, SubscriptionRequest, UnsubAck, Unsubscribe, Utf8,
};

use super::client::{Client, Leave};
use super::events;
use crate::core::Millis;
use crate::core::connect::{Capabilities, Refused};
use crate::core::session::{Retrieval, Session};
use crate::core::subscriptions::SubscriptionOptions;

/// A subscription that was granted.
struct Granted {
    /// In memory of its own if there is something to change.
    filter: SubscriptionFilter,
    options: SubscriptionOptions,
    /// Whether retained messages are to be sent now.
    retrieve: bool,
    /// Whether it did not exist before.
    new: bool,
    /// Whether it did not exist before with these options: there is something to change.
    changes: bool,
}

/// A session is full.
const TOO_MANY: &str = "more subscriptions than this server allows one client";

/// The storage is full.
const NO_ROOM: &str = "the server has no room to keep this subscription now";

/// What an MQTT 5 client is told.
const NOT_ALLOWED: &str = "the client may not subscribe to this filter";

/// Why nobody may subscribe with this filter here.
fn not_offered(filter: &SubscriptionFilter, capabilities: &Capabilities) -> Option<Refused> {
    if filter.share.is_some() && !capabilities.shared_subscriptions {
        return Some(Refused::new(
            ReasonCode::SharedSubscriptionsNotSupported,
            "this server has no shared subscriptions",
        ));
    }
    let wildcard = !filter.filter.is_exact() && !capabilities.wildcard_subscriptions;
    wildcard.then_some(Refused::new(
        ReasonCode::WildcardSubscriptionsNotSupported,
        "this server takes no wildcards in filters",
    ))
}

impl Client {
    pub(super) fn subscribe(&mut self, now: Millis, mut subscribe: Subscribe) -> Result<(), Leave> {
        let id = subscribe
            .properties
            .as_deref()
            .and_then(|properties| properties.subscription_identifier);
        self.rewrite(
            subscribe
                .requests
                .iter_mut()
                .map(|request| &mut request.filter),
        );
        self.check_capabilities(&subscribe)?;
        let (granted, mut reasons, why) = self.grant(&subscribe.requests, id);
        self.tell_authorized(&subscribe.requests, &reasons);
        for reason in reasons.iter().filter(|reason| reason.is_error()) {
            let counters = &self.shared.stats.subscribes_refused;
            counters.of(reason.as_u8()).add(1);
        }
        if self.info.version == ProtocolVersion::V3_1 {
            // MQTT 3.1, section 3.8: a client cannot be told that a subscription was refused; the answer is positive.
            for (reason, request) in reasons.iter_mut().zip(&subscribe.requests) {
                if reason.is_error() {
                    *reason = ReasonCode::granted(request.options.qos);
                }
            }
        }
        let packet_id = subscribe.packet_id;
        self.reply_because(why, |properties, version, out| {
            let suback = SubAck {
                properties,
                ..SubAck::new(packet_id, reasons.clone())
            };
            suback.encode(version, out)
        })?;
        let properties = subscribe.properties.as_deref();
        let said = properties.map_or(&[][..], |properties| &properties.user_properties);
        self.take(now, &granted, said);
        Ok(())
    }

    /// Subscriptions that the client did not ask for: nothing is said about them.
    pub(super) fn take_subscriptions(&mut self, now: Millis, requests: &[SubscriptionRequest]) {
        let (granted, ..) = self.grant(requests, None);
        self.take(now, &granted, &[]);
    }

    /// `said` are the user properties of the SUBSCRIBE.
    fn take(&mut self, now: Millis, granted: &[Granted], said: &[(Utf8, Utf8)]) {
        {
            let mut slot = self.handle.lock();
            for one in granted.iter().filter(|one| one.changes) {
                slot.session
                    .subscribed(one.filter.clone(), one.options, &mut self.router.effects);
            }
        }
        self.note_subscribed(granted.iter().map(|one| (&one.filter, one.options)));
        // SUBACK goes into the outbox before the retained messages.
        self.step_done(now);
        self.enter(now, granted);
        self.tell_subscribed(granted, said);
    }

    /// Puts other filters in place of these, where a rule of the operator says so.
    fn rewrite<'a>(&self, filters: impl Iterator<Item = &'a mut SubscriptionFilter>) {
        let rewrites = &self.shared.settings.rewrites;
        if rewrites.is_empty() {
            return;
        }
        for filter in filters {
            if let Some(other) = rewrites.filter(filter, self.sender()) {
                *filter = other;
            }
        }
    }

    /// What this server does not offer, as CONNACK said, is a protocol error (MQTT 5, 3.2.2.3.11 to 3.2.2.3.13). Older
    /// clients were told nothing and get a failure for each filter.
    fn check_capabilities(&self, subscribe: &Subscribe) -> Result<(), Leave> {
        let has_id = subscribe
            .properties
            .as_deref()
            .is_some_and(|properties| properties.subscription_identifier.is_some());
        let capabilities = &self.shared.connect_limits.capabilities;
        if has_id && !capabilities.subscription_identifiers {
            return Err(Leave::because(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "this server has no subscription identifiers",
            ));
        }
        if !self.info.version.is_v5() {
            return Ok(());
        }
        let mut filters = subscribe.requests.iter().map(|request| &request.filter);
        let refused = filters.find_map(|filter| not_offered(filter, capabilities));
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// What is granted, each filter once however often it was asked for, and one code for each request.
    fn grant(
        &self,
        requests: &[SubscriptionRequest],
        id: Option<SubscriptionId>,
    ) -> (Vec<Granted>, Vec<ReasonCode>, &'static str) {
        let mut granted: Vec<Granted> = Vec::new();
        let few = requests
            .len()
            .min(self.shared.settings.max_subscriptions_per_client);
        let mut places: HashMap<&SubscriptionFilter, usize> = HashMap::with_capacity(few);
        let mut new_filters = 0;
        let mut why = "";
        let slot = self.handle.lock();
        let reasons = (0..)
            .zip(requests)
            .map(|(at, SubscriptionRequest { filter, options })| {
                if at >= self.shared.settings.max_subscriptions_per_client {
                    why = TOO_MANY;
                    return ReasonCode::QuotaExceeded;
                }
                let known = places.get(filter).copied();
                let present = slot.session.options(filter);
                let new = known.is_none() && present.is_none();
                if let Some(refusal) = self.refusal(filter, &slot.session, new, new_filters) {
                    why = refusal.why;
                    return refusal.reason;
                }
                let qos = match self
                    .shared
                    .authorizer
                    .subscribe(&self.subject, filter, options.qos)
                {
                    Ok(qos) => {
                        let qos = qos.min(options.qos);
                        self.cloud.as_ref().map_or(qos, |cloud| cloud.granted(qos))
                    }
                    Err(refusal) => {
                        why = NOT_ALLOWED;
                        return refusal;
                    }
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
                let changes = present != Some(&granted_options);
                let kept = |changes| match changes {
                    true => filter.detached(),
                    false => filter.clone(),
                };
                if let Some(known) = known {
                    // As if it came later: the last options count.
                    let known = &mut granted[known];
                    known.options = granted_options;
                    known.retrieve |= retrieve;
                    if changes && !known.changes {
                        (known.filter, known.changes) = (kept(true), true);
                    }
                } else {
                    new_filters += usize::from(new);
                    places.insert(filter, granted.len());
                    granted.push(Granted {
                        filter: kept(changes),
                        options: granted_options,
                        retrieve,
                        new,
                        changes,
                    });
                }
                ReasonCode::granted(qos)
            })
            .collect();
        drop(slot);
        (granted, reasons, why)
    }

    fn refusal(
        &self,
        filter: &SubscriptionFilter,
        session: &Session,
        new: bool,
        new_filters: usize,
    ) -> Option<Refused> {
        let settings = &self.shared.settings;
        if let Some(refused) = not_offered(filter, &settings.capabilities) {
            return Some(refused);
        }
        if filter.filter.as_str().split('/').count() > settings.max_topic_levels {
            let why = "the filter has more levels than this server allows";
            return Some(Refused::new(ReasonCode::TopicFilterInvalid, why));
        }
        if new && session.is_durable() && self.shared.store.is_full() {
            return Some(Refused::new(ReasonCode::QuotaExceeded, NO_ROOM));
        }
        let full =
            session.subscriptions_len() + new_filters >= settings.max_subscriptions_per_client;
        (full && new).then_some(Refused::new(ReasonCode::QuotaExceeded, TOO_MANY))
    }

    /// Puts subscriptions into the index and sends the retained messages.
    fn enter(&mut self, now: Millis, granted: &[Granted]) {
        if granted.is_empty() {
            return;
        }
        {
            // Held over both, so that a retained message that is published meanwhile comes once: see `Router::retain`.
            let retained = self.shared.retained.read();
            // Without a change no publisher has to look anew where its topics lead.
            let changes = granted.iter().filter(|one| one.changes);
            self.shared.change_index_by(changes, |index, one| {
                let handle = Arc::clone(&self.handle);
                index.subscribe(self.handle.key, handle, &one.filter, one.options);
            });
            let to_retrieve = granted.iter().filter(|one| one.retrieve);
            let retrievals = to_retrieve
                .filter(|one| retained.has_some_for(&one.filter.filter, now))
                .map(|one| Retrieval {
                    walk: retained.walk(one.filter.filter.detached()),
                    options: one.options,
                });
            let retrievals: Vec<_> = retrievals.collect();
            let mut slot = self.handle.lock();
            slot.session.retrieve(retrievals);
            slot.session
                .refill(now, Some(&retained), &mut self.router.effects);
        }
        self.tell_delivered();
        let new = granted.iter().filter(|granted| granted.new).count();
        self.shared.stats.subscriptions.add(new as u64);
    }

    /// What the access list was asked about is every filter that was not refused before.
    fn tell_authorized(&mut self, requests: &[SubscriptionRequest], reasons: &[ReasonCode]) {
        if !self.router.watch().authorized {
            return;
        }
        for (request, reason) in requests.iter().zip(reasons) {
            if !reason.is_error() || *reason == ReasonCode::NotAuthorized {
                let filter = request.filter.to_string();
                self.router
                    .tell_authorized("subscribe", &filter, !reason.is_error());
            }
        }
    }

    fn tell_subscribed(&mut self, granted: &[Granted], said: &[(Utf8, Utf8)]) {
        if self.router.watch().subscribed {
            for one in granted {
                let event = events::subscribed(&self.info, &one.filter, one.options, said);
                self.router.observe(event);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, mut unsubscribe: Unsubscribe) -> Result<(), Leave> {
        self.rewrite(unsubscribe.filters.iter_mut());
        let (mut existed, mut qos) = (Vec::new(), Vec::new());
        let mut reasons = Vec::new();
        {
            let mut slot = self.handle.lock();
            for filter in &unsubscribe.filters {
                let options = slot.session.options(filter).copied();
                if slot.session.unsubscribed(filter, &mut self.router.effects) {
                    qos.push(options.map_or(QoS::AtMostOnce, |options| options.qos));
                    existed.push(filter.clone());
                    reasons.push(ReasonCode::Success);
                } else {
                    reasons.push(ReasonCode::NoSubscriptionExisted);
                }
            }
        }
        self.shared.forget_subscriptions(self.handle.key, &existed);
        self.note_unsubscribed(&existed);
        if self.router.watch().unsubscribed {
            let properties = unsubscribe.properties.as_deref();
            let said = properties.map_or(&[][..], |properties| &properties.user_properties);
            for (filter, qos) in existed.iter().zip(qos) {
                self.router
                    .observe(events::unsubscribed(&self.info, filter, qos, said));
            }
        }
        let packet_id = unsubscribe.packet_id;
        let why = if existed.len() < reasons.len() {
            "there was no subscription to one of these filters"
        } else {
            ""
        };
        self.reply_because(why, |properties, version, out| {
            let unsuback = UnsubAck {
                properties,
                ..UnsubAck::new(packet_id, reasons.clone())
            };
            unsuback.encode(version, out)
        })
    }
}
