//! UNSUBSCRIBE from a client, some filters at a time; see `subscribe`.

use weir_mqtt::packet::SubscriptionFilters;
use weir_mqtt::{PacketId, QoS, ReasonCode, SubscriptionFilter, UnsubAck, Unsubscribe, Utf8};

use super::CHANGES_AT_ONCE;
use super::client::{Client, Leave};
use super::events;
use super::slices::Left;
use super::subscribe::{Filters, LOOKS_AT_ONCE, Unfinished, take_some};
use crate::core::{Effects, Millis};
use crate::hooks::Notice;

/// An UNSUBSCRIBE on its way.
pub(super) struct Unsubscribing {
    packet_id: PacketId,
    /// The user properties of the UNSUBSCRIBE.
    said: Vec<(Utf8, Utf8)>,
    /// All of them, as long as it is not known whether they are what they should be.
    unchecked: Option<Filters<SubscriptionFilter, SubscriptionFilters>>,
    /// How many there are; with `unchecked`, how many were looked at.
    count: usize,
    /// Those that are not done.
    filters: Filters<SubscriptionFilter, SubscriptionFilters>,
    /// The codes of those that are.
    reasons: Vec<ReasonCode>,
    /// What must be kept of it, in one piece.
    effects: Effects,
    /// What is to be told then.
    notices: Vec<Notice>,
}

impl Client {
    pub(super) fn unsubscribe(
        &mut self,
        now: Millis,
        mut unsubscribe: Unsubscribe,
    ) -> Result<(), Leave> {
        let filters = std::mem::take(&mut unsubscribe.filters);
        let count = filters.len();
        self.check_unsuback(count)?;
        let filters = Filters::Decoded(filters.into_iter());
        self.begin_unsubscribe(now, unsubscribe, filters, Some(count))
    }

    pub(super) fn unsubscribe_many(
        &mut self,
        now: Millis,
        head: Unsubscribe,
        filters: SubscriptionFilters,
    ) -> Result<(), Leave> {
        self.begin_unsubscribe(now, head, Filters::Encoded(filters), None)
    }

    /// Without a `count` the filters are to be looked at first.
    fn begin_unsubscribe(
        &mut self,
        now: Millis,
        head: Unsubscribe,
        filters: Filters<SubscriptionFilter, SubscriptionFilters>,
        count: Option<usize>,
    ) -> Result<(), Leave> {
        let work = Unsubscribing {
            packet_id: head.packet_id,
            said: head
                .properties
                .map_or_else(Vec::new, |properties| properties.user_properties),
            unchecked: count.is_none().then(|| filters.clone()),
            count: count.unwrap_or(0),
            filters,
            reasons: Vec::new(),
            effects: Effects::default(),
            notices: Vec::new(),
        };
        self.unfinished = Some(Box::new(Unfinished::Unsubscribe(work)));
        self.go_on(now).map(drop)
    }

    /// Handles the next filters.
    pub(super) fn unsubscribe_some(&mut self, work: &mut Unsubscribing) -> Result<Left, Leave> {
        if let Some(unchecked) = &mut work.unchecked {
            let looked_at = take_some(unchecked, LOOKS_AT_ONCE)?.len();
            work.count += looked_at;
            if looked_at == LOOKS_AT_ONCE {
                return Ok(Left::Some);
            }
            work.unchecked = None;
            self.check_unsuback(work.count)?;
        }
        // All of them were found right.
        let filters = work.filters.by_ref().take(CHANGES_AT_ONCE);
        let mut filters: Vec<_> = filters.map_while(Result::ok).collect();
        self.rewrite(filters.iter_mut());
        let (mut existed, mut qos) = (Vec::new(), Vec::new());
        {
            let mut slot = self.handle.lock();
            for filter in &filters {
                let options = slot.session.options(filter).copied();
                if slot.session.unsubscribed(filter, &mut work.effects) {
                    qos.push(options.map_or(QoS::AtMostOnce, |options| options.qos));
                    existed.push(filter.clone());
                    work.reasons.push(ReasonCode::Success);
                } else {
                    work.reasons.push(ReasonCode::NoSubscriptionExisted);
                }
            }
        }
        self.shared.forget_subscriptions(self.handle.key, &existed);
        self.put_down_unsubscribed(&mut work.notices, &existed);
        if self.router.watch().unsubscribed {
            for (filter, qos) in existed.iter().zip(qos) {
                let event = events::unsubscribed(&self.info, filter, qos, &work.said);
                self.router.observe(event);
            }
        }
        if work.reasons.len() < work.count {
            return Ok(Left::Some);
        }
        self.router
            .effects
            .persist
            .append(&mut work.effects.persist);
        self.note(&mut work.notices);
        self.say_unsubscribed(work)?;
        Ok(Left::Nothing)
    }

    fn say_unsubscribed(&mut self, work: &mut Unsubscribing) -> Result<(), Leave> {
        let packet_id = work.packet_id;
        let reasons = std::mem::take(&mut work.reasons);
        let why = if reasons.contains(&ReasonCode::NoSubscriptionExisted) {
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

    fn check_unsuback(&self, codes: usize) -> Result<(), Leave> {
        self.check_answer(codes, |version, out| {
            let codes = vec![ReasonCode::Success; codes];
            UnsubAck::new(PacketId::MIN, codes).encode(version, out)
        })
    }
}
