//! SUBSCRIBE from a client, some filters at a time, and what UNSUBSCRIBE has in common with it.
//!
//! To others each slice is a packet of its own, as MQTT has it `[MQTT-3.8.4-5]`; to the client and to the storage the
//! packet is one: nothing is said, or kept, before all of it is done, and what was begun is brought to its end even if
//! the client has gone.

use std::sync::Arc;
use std::vec;

use ahash::{HashMap, HashMapExt as _, RandomState};
use indexmap::IndexMap;
use weir_mqtt::packet::SubscriptionRequests;
use weir_mqtt::{
    DecodeError, EncodeError, PacketId, ProtocolVersion, ReasonCode, RetainHandling, SubAck,
    Subscribe, SubscriptionFilter, SubscriptionId, SubscriptionRequest, TopicFilter, Utf8,
};

use super::CHANGES_AT_ONCE;
use super::client::{Client, Leave, encoded};
use super::events;
use super::slices::Left;
use super::unsubscribe::Unsubscribing;
use crate::core::connect::{Capabilities, Refused};
use crate::core::persist::Persist;
use crate::core::session::{Retrieval, Session};
use crate::core::subscriptions::SubscriptionOptions;
use crate::core::{Effects, Millis};
use crate::hooks::Notice;

/// Filters that are looked at in one step where nothing is done with them.
pub(super) const LOOKS_AT_ONCE: usize = 8 * CHANGES_AT_ONCE;

/// What was begun and is not done yet. No packet behind it is handled before.
pub(super) enum Unfinished {
    Subscribe(Subscribing),
    Unsubscribe(Unsubscribing),
}

/// The filters of a packet, one after another.
#[derive(Clone)]
pub(super) enum Filters<T, E> {
    Decoded(vec::IntoIter<T>),
    /// Yet to be decoded.
    Encoded(E),
}

impl<T, E: Iterator<Item = Result<T, DecodeError>>> Iterator for Filters<T, E> {
    type Item = Result<T, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Decoded(all) => all.next().map(Ok),
            Self::Encoded(all) => all.next(),
        }
    }
}

type Requests = Filters<SubscriptionRequest, SubscriptionRequests>;

/// A SUBSCRIBE on its way.
pub(super) struct Subscribing {
    /// `None`: the client did not ask, and gets no answer.
    packet_id: Option<PacketId>,
    id: Option<SubscriptionId>,
    /// The user properties of the SUBSCRIBE.
    said: Vec<(Utf8, Utf8)>,
    /// All of them, as long as it is not known whether they are what they should be.
    unchecked: Option<Requests>,
    /// How many there are; with `unchecked`, how many were looked at.
    count: usize,
    /// Those that are not done.
    requests: Requests,
    /// The codes of those that are.
    reasons: Vec<ReasonCode>,
    /// Why one of them was refused.
    why: &'static str,
    /// What must be kept of it, in one piece.
    effects: Effects,
    /// What is to be told then.
    notices: Vec<Notice>,
    /// How many subscriptions the broker had revoked by the beginning.
    revoked_before: u64,
    /// The retained messages that it asks for.
    retrievals: IndexMap<TopicFilter, Retrieval, RandomState>,
}

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

/// The answer does not fit.
const TOO_LONG: &str = "an acknowledgement is larger than the client takes";

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

/// The next filters of a packet; fewer than `most` when there are no more.
pub(super) fn take_some<T, E>(filters: &mut Filters<T, E>, most: usize) -> Result<Vec<T>, Leave>
where
    E: Iterator<Item = Result<T, DecodeError>>,
{
    let some = filters.take(most).collect::<Result<_, _>>();
    some.map_err(|error| Leave::because(error.reason, error.detail))
}

impl Client {
    pub(super) fn subscribe(&mut self, now: Millis, mut subscribe: Subscribe) -> Result<(), Leave> {
        let requests = std::mem::take(&mut subscribe.requests);
        let count = requests.len();
        let requests = Filters::Decoded(requests.into_iter());
        if self.has_nothing_to_check() {
            self.check_suback(count)?;
            return self.begin_subscribe(now, subscribe, requests, Some(count));
        }
        self.begin_subscribe(now, subscribe, requests, None)
    }

    pub(super) fn subscribe_many(
        &mut self,
        now: Millis,
        head: Subscribe,
        requests: SubscriptionRequests,
    ) -> Result<(), Leave> {
        self.begin_subscribe(now, head, Filters::Encoded(requests), None)
    }

    /// Without a `count` the requests are to be looked at first.
    fn begin_subscribe(
        &mut self,
        now: Millis,
        head: Subscribe,
        requests: Requests,
        count: Option<usize>,
    ) -> Result<(), Leave> {
        let properties = head.properties.map_or_else(Default::default, |all| *all);
        let id = properties.subscription_identifier;
        self.check_identifier(id)?;
        let work = Subscribing {
            packet_id: Some(head.packet_id),
            id,
            said: properties.user_properties,
            unchecked: count.is_none().then(|| requests.clone()),
            ..self.subscribing(requests, count.unwrap_or(0))
        };
        self.unfinished = Some(Box::new(Unfinished::Subscribe(work)));
        self.go_on(now).map(drop)
    }

    fn subscribing(&self, requests: Requests, count: usize) -> Subscribing {
        Subscribing {
            packet_id: None,
            id: None,
            said: Vec::new(),
            unchecked: None,
            count,
            requests,
            reasons: Vec::new(),
            why: "",
            effects: Effects::default(),
            notices: Vec::new(),
            revoked_before: self.shared.stats.subscriptions_revoked.get(),
            retrievals: IndexMap::default(),
        }
    }

    /// Subscriptions that the client did not ask for: nothing is said about them. The operator knows what is offered.
    pub(super) fn take_subscriptions(&mut self, now: Millis, requests: Vec<SubscriptionRequest>) {
        let count = requests.len();
        let mut work = self.subscribing(Filters::Decoded(requests.into_iter()), count);
        while matches!(self.subscribe_some(now, &mut work), Ok(Left::Some)) {}
    }

    /// Whether something was begun and is not done yet.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Goes on with what was begun, for one slice.
    pub(crate) fn go_on(&mut self, now: Millis) -> Result<Left, Leave> {
        let Some(mut unfinished) = self.unfinished.take() else {
            return Ok(Left::Nothing);
        };
        let left = match &mut *unfinished {
            Unfinished::Subscribe(work) => self.subscribe_some(now, work)?,
            Unfinished::Unsubscribe(work) => self.unsubscribe_some(work)?,
        };
        if left == Left::Some {
            self.unfinished = Some(unfinished);
        }
        Ok(left)
    }

    /// Handles the next requests, as if they were the last ones or a packet of their own.
    fn subscribe_some(&mut self, now: Millis, work: &mut Subscribing) -> Result<Left, Leave> {
        if work.unchecked.is_some() {
            self.check_some(work)?;
            if work.unchecked.is_some() || work.count > CHANGES_AT_ONCE {
                return Ok(Left::Some);
            }
        }
        let granted = self.grant_some(work);
        let taken = granted.iter().map(|one| (&one.filter, one.options));
        self.put_down_subscribed(&mut work.notices, taken);
        let is_done = work.reasons.len() == work.count;
        if is_done {
            self.keep(work);
            if let Some(packet_id) = work.packet_id {
                self.say_subscribed(packet_id, work)?;
            }
            // SUBACK goes into the outbox before the retained messages.
            self.step_done(now);
        }
        let left = if is_done { Left::Nothing } else { Left::Some };
        self.enter(now, &granted, work, left);
        self.tell_subscribed(&granted, &work.said);
        Ok(left)
    }

    /// What is to be kept of it goes to the storage with the end of this step.
    fn keep(&mut self, work: &mut Subscribing) {
        let records = &mut work.effects.persist;
        if self.shared.stats.subscriptions_revoked.get() != work.revoked_before {
            // The end of one that was revoked meanwhile has been said already.
            let slot = self.handle.lock();
            records.retain(|record| match record {
                Persist::Subscribed { filter, .. } => slot.session.is_subscribed(filter),
                _ => true,
            });
        }
        self.router.effects.persist.append(records);
        self.note(&mut work.notices);
    }

    fn say_subscribed(&mut self, packet_id: PacketId, work: &mut Subscribing) -> Result<(), Leave> {
        let reasons = std::mem::take(&mut work.reasons);
        self.reply_because(work.why, |properties, version, out| {
            let suback = SubAck {
                properties,
                ..SubAck::new(packet_id, reasons.clone())
            };
            suback.encode(version, out)
        })
    }

    fn check_suback(&self, codes: usize) -> Result<(), Leave> {
        self.check_answer(codes, |version, out| {
            let codes = vec![ReasonCode::Success; codes];
            SubAck::new(PacketId::MIN, codes).encode(version, out)
        })
    }

    /// `[MQTT-3.1.2-24]` A client that does not take the answer is not served; nothing was done by then. Tried only where
    /// it is long.
    pub(super) fn check_answer(
        &self,
        codes: usize,
        encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Leave> {
        /// Type, length, packet identifier, no properties.
        const BEFORE_CODES: usize = 1 + 4 + 2 + 1;
        if codes + BEFORE_CODES <= self.max_packet_size() {
            return Ok(());
        }
        let mut answer = Vec::new();
        encoded(encode(self.info.version, &mut answer))?;
        if answer.len() > self.max_packet_size() {
            return Err(Leave::because(ReasonCode::PacketTooLarge, TOO_LONG));
        }
        Ok(())
    }

    /// Whether filters are what they are, and all of them are offered.
    fn has_nothing_to_check(&self) -> bool {
        let settings = &self.shared.settings;
        let Capabilities {
            wildcard_subscriptions,
            shared_subscriptions,
            ..
        } = settings.capabilities;
        settings.rewrites.is_empty() && wildcard_subscriptions && shared_subscriptions
    }

    /// Looks at some of the requests: whether they are what they should be, and offered.
    fn check_some(&self, work: &mut Subscribing) -> Result<(), Leave> {
        let Some(unchecked) = &mut work.unchecked else {
            return Ok(());
        };
        let at_once = match self.shared.settings.rewrites.is_empty() {
            true => LOOKS_AT_ONCE,
            false => CHANGES_AT_ONCE,
        };
        let mut some = take_some(unchecked, at_once)?;
        self.rewrite(some.iter_mut().map(|request| &mut request.filter));
        self.check_capabilities(&some)?;
        work.count += some.len();
        if some.len() < at_once {
            work.unchecked = None;
            self.check_suback(work.count)?;
        }
        Ok(())
    }

    /// Puts other filters in place of these, where a rule of the operator says so.
    pub(super) fn rewrite<'a>(&self, filters: impl Iterator<Item = &'a mut SubscriptionFilter>) {
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

    fn check_identifier(&self, id: Option<SubscriptionId>) -> Result<(), Leave> {
        let capabilities = &self.shared.connect_limits.capabilities;
        if id.is_some() && !capabilities.subscription_identifiers {
            return Err(Leave::because(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "this server has no subscription identifiers",
            ));
        }
        Ok(())
    }

    /// What this server does not offer, as CONNACK said, is a protocol error (MQTT 5, 3.2.2.3.11 to 3.2.2.3.13). Older
    /// clients were told nothing and get a failure for each filter.
    fn check_capabilities(&self, requests: &[SubscriptionRequest]) -> Result<(), Leave> {
        if !self.info.version.is_v5() {
            return Ok(());
        }
        let capabilities = &self.shared.connect_limits.capabilities;
        let mut filters = requests.iter().map(|request| &request.filter);
        let refused = filters.find_map(|filter| not_offered(filter, capabilities));
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Grants some of the requests to the session, each filter once however often it is among them, and gives a code for
    /// each request.
    fn grant_some(&mut self, work: &mut Subscribing) -> Vec<Granted> {
        let begin = work.reasons.len();
        // Those behind the most that a client may have are refused without a look.
        let at_once = match begin < self.shared.settings.max_subscriptions_per_client {
            true => CHANGES_AT_ONCE,
            false => LOOKS_AT_ONCE,
        };
        // All of them were found right.
        let requests = work.requests.by_ref().take(at_once);
        let mut requests: Vec<_> = requests.map_while(Result::ok).collect();
        self.rewrite(requests.iter_mut().map(|request| &mut request.filter));
        let mut slot = self.handle.lock();
        let (granted, mut reasons, why) = self.grant(&slot.session, &requests, begin, work.id);
        // Under the same lock: whoever loses a right meanwhile has the subscription by then, or does not get it.
        for one in granted.iter().filter(|one| one.changes) {
            let effects = &mut work.effects;
            slot.session
                .subscribed(one.filter.clone(), one.options, effects);
        }
        drop(slot);
        if !why.is_empty() {
            work.why = why;
        }
        if work.packet_id.is_some() {
            self.tell_authorized(&requests, &reasons);
            for reason in reasons.iter().filter(|reason| reason.is_error()) {
                let counters = &self.shared.stats.subscribes_refused;
                counters.of(reason.as_u8()).add(1);
            }
        }
        if self.info.version == ProtocolVersion::V3_1 {
            // MQTT 3.1, section 3.8: a client cannot be told that a subscription was refused; the answer is positive.
            for (reason, request) in reasons.iter_mut().zip(&requests) {
                if reason.is_error() {
                    *reason = ReasonCode::granted(request.options.qos);
                }
            }
        }
        work.reasons.append(&mut reasons);
        granted
    }

    /// What is granted of requests the first of which has the place `begin` in its packet.
    fn grant(
        &self,
        session: &Session,
        requests: &[SubscriptionRequest],
        begin: usize,
        id: Option<SubscriptionId>,
    ) -> (Vec<Granted>, Vec<ReasonCode>, &'static str) {
        let mut granted: Vec<Granted> = Vec::new();
        let few = requests
            .len()
            .min(self.shared.settings.max_subscriptions_per_client);
        let mut places: HashMap<&SubscriptionFilter, usize> = HashMap::with_capacity(few);
        let mut new_filters = 0;
        let mut why = "";
        let reasons = (begin..)
            .zip(requests)
            .map(|(at, SubscriptionRequest { filter, options })| {
                if at >= self.shared.settings.max_subscriptions_per_client {
                    why = TOO_MANY;
                    return ReasonCode::QuotaExceeded;
                }
                let known = places.get(filter).copied();
                let present = session.options(filter);
                let new = known.is_none() && present.is_none();
                if let Some(refusal) = self.refusal(filter, session, new, new_filters) {
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

    /// Puts subscriptions into the index. With the last of them begins to send the retained messages.
    fn enter(&mut self, now: Millis, granted: &[Granted], work: &mut Subscribing, left: Left) {
        if granted.is_empty() && (left == Left::Some || work.retrievals.is_empty()) {
            return;
        }
        // Held over both, so that a retained message that is published meanwhile comes once: see `Router::retain`.
        let retained = self.shared.retained.read();
        // Without a change no publisher has to look anew where its topics lead.
        let changes = granted.iter().filter(|one| one.changes);
        self.shared.change_index_by(changes, |index, one| {
            let handle = Arc::clone(&self.handle);
            index.subscribe(self.handle.key, handle, &one.filter, one.options);
        });
        for one in granted.iter().filter(|one| one.retrieve) {
            let filter = &one.filter.filter;
            if retained.has_some_for(filter, now) {
                let retrieval = Retrieval {
                    walk: retained.walk(filter.detached()),
                    options: one.options,
                };
                work.retrievals
                    .insert(retrieval.walk.filter().clone(), retrieval);
            }
        }
        let mut slot = self.handle.lock();
        let session = &mut slot.session;
        let lost = granted.iter().filter(|one| one.changes);
        let lost = lost.filter(|one| !session.is_subscribed(&one.filter));
        let lost: Vec<_> = lost.map(|one| one.filter.clone()).collect();
        if left == Left::Nothing {
            let retrievals = std::mem::take(&mut work.retrievals);
            session.retrieve(retrievals.into_values().collect());
            session.refill(now, Some(&retained), &mut self.router.effects);
            // What the end of the step is to keep leaves after it, whatever the client says next.
            self.router.note_held(&self.handle, &mut slot);
        }
        drop(slot);
        drop(retained);
        // The right to them was lost before they were in the index: who took them out of the session did not find them.
        self.shared.change_index_by(&lost, |index, filter| {
            index.unsubscribe(self.handle.key, filter);
        });
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
}

#[cfg(test)]
mod tests;
