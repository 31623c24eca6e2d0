//! What the remote is asked for: SUBSCRIBE and UNSUBSCRIBE of the filters of `in`, and what it says to them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use weir_mqtt::properties::SubscribeProperties;
use weir_mqtt::{
    PacketId, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, SubscriptionFilter,
    SubscriptionRequest, Unsubscribe,
};

use super::{Link, remember, renewed};
use crate::bridge::client::{Failure, Version};
use crate::bridge::home::{Subscribed, subscription_id};
use crate::bridge::link::{Asked, Up};
use crate::bridge::route::InRoute;
use crate::codes;
use crate::connector::Fault;
use crate::error::SinkError;

impl Link {
    /// The filters have changed while the link is up.
    pub(super) async fn rerouted(&mut self) -> Result<(), Failure> {
        if self.home.is_none() && !self.inner.gateway.routes().is_empty() {
            // Until now nothing came in: a new link asks for it, and opens the way into the broker.
            return Err(renewed());
        }
        self.subscribe().await
    }

    /// Asks for every filter, and no longer for those that are gone.
    pub(super) async fn subscribe(&mut self) -> Result<(), Failure> {
        let Some(home) = &self.inner.home else {
            return Ok(());
        };
        let routes = self.inner.gateway.routes();
        let file = Subscribed::of(home.data_dir(), self.inner.health.name());
        let asked = Arc::clone(&routes);
        // Until the remote has confirmed that a filter is gone, it may be there.
        let before = remember(move || {
            let before = file.read();
            let mut known = before.clone();
            for route in asked.iter() {
                known.entry(route.subscription()).or_insert(None);
            }
            file.write(&known).map(|()| before)
        })
        .await?;
        let wanted = |filter: &String| routes.iter().any(|route| route.subscription() == *filter);
        let gone: Vec<_> = before
            .keys()
            .filter(|filter| !wanted(filter))
            .cloned()
            .collect();
        self.inner.refused_filters.lock().clear();
        self.tell_refused();
        self.inner.with_up(|up| {
            let gone: Vec<_> = gone
                .iter()
                .filter_map(|filter| SubscriptionFilter::parse(filter).ok())
                .collect();
            if !gone.is_empty() {
                let packet_id = up.ask_id(Asked::Unsubscribe);
                let unsubscribe = Unsubscribe {
                    packet_id,
                    filters: gone,
                    properties: None,
                };
                up.append(|version, out| unsubscribe.encode(version, out));
            }
            for route in routes.iter() {
                // In 3.1.1 the remote would send every retained message again.
                let is_there = before.get(&route.subscription()) == Some(&Some(route.qos.as_u8()));
                if up.version() == Version::V5 || !is_there {
                    ask(up, route, true);
                }
            }
        });
        Ok(())
    }

    /// Asks once more for filters that were refused, where the remote may have changed its mind.
    pub(super) fn ask_again(&mut self) {
        let refused = self.inner.refused_filters.lock().clone();
        for route in self.inner.gateway.routes().iter() {
            let reason = refused.get(&route.subscription());
            if reason.is_some_and(|reason| !is_for_good(*reason)) {
                self.inner.with_up(|up| ask(up, route, true));
            }
        }
    }

    /// Shows which filters are refused.
    fn tell_refused(&self) {
        let refused = self.inner.refused_filters.lock();
        self.inner
            .stats
            .refused_filters
            .store(refused.len() as u64, Relaxed);
        let shown = refused
            .iter()
            .map(|(filter, reason)| format!("{filter}: 0x{:02X} {}", reason.as_u8(), reason.name()))
            .collect();
        self.inner.health.refuses(shown);
    }

    pub(super) async fn subscribed(&mut self, id: PacketId, reasons: &[ReasonCode]) {
        let Some(Asked::Subscribe(filter, qos)) = self.inner.take_asked(id) else {
            return;
        };
        if let Some(reason) = reasons.iter().copied().find(|reason| reason.is_error()) {
            self.refused(filter, reason);
        } else if let Some(home) = &self.inner.home {
            self.inner.refused_filters.lock().remove(&filter);
            self.tell_refused();
            let file = Subscribed::of(home.data_dir(), self.inner.health.name());
            let kept = remember(move || {
                let mut known = file.read();
                known.insert(filter, Some(qos));
                file.write(&known)
            });
            // Where it cannot be kept, the filter is asked for again.
            if let Err(failure) = kept.await {
                tracing::warn!(error = %failure.error, "the filters of a bridge cannot be kept");
            }
        }
    }

    /// The link is up; of its filters one is missing.
    fn refused(&self, filter: String, reason: ReasonCode) {
        if reason == ReasonCode::SubscriptionIdentifiersNotSupported {
            let routes = self.inner.gateway.routes();
            let route = routes.iter().find(|route| route.subscription() == filter);
            let once_more = self.inner.with_up(|up| {
                // Only once, whatever the remote says to it.
                let had_one = std::mem::take(&mut up.limits_mut().subscription_identifiers);
                if let (true, Some(route)) = (had_one, route) {
                    ask(up, route, false);
                }
                had_one
            });
            if once_more == Some(true) {
                return;
            }
        }
        let when = if is_for_good(reason) {
            "weir does not ask again on this link"
        } else {
            "weir asks again in five minutes"
        };
        let message = format!(
            "the remote broker refuses the filter `{filter}`: 0x{:02X} {}; {when}",
            reason.as_u8(),
            reason.name()
        );
        let before = self.inner.refused_filters.lock().insert(filter, reason);
        self.tell_refused();
        if before != Some(reason) {
            let error = SinkError::new(codes::FILTER_REFUSED, message);
            self.inner.health.fails_in(Fault::Filter, error);
        }
    }

    pub(super) async fn unsubscribed(&mut self, id: PacketId) -> Result<(), Failure> {
        self.inner.take_asked(id);
        let Some(home) = &self.inner.home else {
            return Ok(());
        };
        let routes = self.inner.gateway.routes();
        let file = Subscribed::of(home.data_dir(), self.inner.health.name());
        remember(move || {
            let mut known = file.read();
            known.retain(|filter, _| routes.iter().any(|route| route.subscription() == *filter));
            file.write(&known)
        })
        .await
    }
}

/// Whether asking again is of no use: it is the filter that the remote does not take, whoever asks.
const fn is_for_good(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::TopicFilterInvalid
            | ReasonCode::SharedSubscriptionsNotSupported
            | ReasonCode::SubscriptionIdentifiersNotSupported
            | ReasonCode::WildcardSubscriptionsNotSupported
    )
}

/// SUBSCRIBE for one entry of `in`, each in a packet of its own: one that is refused does not touch the others.
fn ask(up: &mut Up, route: &InRoute, with_identifier: bool) {
    let filter = route.subscription();
    let Ok(parsed) = SubscriptionFilter::parse(&filter) else {
        return;
    };
    let packet_id = up.ask_id(Asked::Subscribe(filter, route.qos.as_u8()));
    let v5 = up.version() == Version::V5;
    let options = SubscribeOptions {
        qos: route.qos,
        // [MQTT-3.8.3-4] Not for shared ones.
        no_local: v5 && route.share.is_none(),
        retain_as_published: v5,
        retain_handling: if v5 {
            RetainHandling::OnNewSubscription
        } else {
            RetainHandling::OnSubscribe
        },
    };
    let identified = with_identifier && up.limits().subscription_identifiers;
    let properties = SubscribeProperties {
        subscription_identifier: identified.then(|| subscription_id(route)),
        ..SubscribeProperties::default()
    };
    let subscribe = Subscribe {
        packet_id,
        requests: vec![SubscriptionRequest {
            filter: parsed,
            options,
        }],
        properties: v5.then(|| Box::new(properties)),
    };
    up.append(|version, out| subscribe.encode(version, out));
}
