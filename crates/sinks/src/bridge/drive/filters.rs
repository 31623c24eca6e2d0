//! What the remote is asked for: SUBSCRIBE and UNSUBSCRIBE of the filters of `in`, and what it says to them.

use std::sync::atomic::Ordering::Relaxed;

use weir_mqtt::properties::SubscribeProperties;
use weir_mqtt::{
    PacketId, ReasonCode, RetainHandling, Subscribe, SubscribeOptions, SubscriptionFilter,
    SubscriptionRequest, Unsubscribe,
};

use super::{Link, failed_to_remember, renewed};
use crate::bridge::client::{Failure, Version};
use crate::bridge::home::{Subscribed, subscription_id};
use crate::bridge::link::Asked;
use crate::codes;
use crate::error::SinkError;

impl Link {
    /// The filters have changed while the link is up.
    pub(super) fn rerouted(&mut self) -> Result<(), Failure> {
        if self.home.is_none() && !self.inner.gateway.routes().is_empty() {
            // Until now nothing came in: a new link asks for it, and opens the way into the broker.
            return Err(renewed());
        }
        self.subscribe()
    }

    /// Asks for every filter, and no longer for those that are gone.
    pub(super) fn subscribe(&mut self) -> Result<(), Failure> {
        let Some(home) = &self.inner.home else {
            return Ok(());
        };
        let routes = self.inner.gateway.routes();
        let file = Subscribed::of(home.data_dir(), self.inner.health.name());
        let before = file.read();
        let mut known = before.clone();
        for route in routes.iter() {
            known.entry(route.subscription()).or_insert(None);
        }
        let wanted = |filter: &String| routes.iter().any(|route| route.subscription() == *filter);
        let gone: Vec<_> = before
            .keys()
            .filter(|filter| !wanted(filter))
            .cloned()
            .collect();
        // Until the remote has confirmed that a filter is gone, it may be there.
        file.write(&known)
            .map_err(|error| failed_to_remember(&error))?;
        self.inner.stats.refused_filters.store(0, Relaxed);
        self.inner.with_up(|up| {
            let gone: Vec<_> = gone
                .iter()
                .filter_map(|filter| SubscriptionFilter::parse(filter).ok())
                .collect();
            if !gone.is_empty() {
                let packet_id = up.ask_id();
                up.asked.insert(packet_id.get(), Asked::Unsubscribe);
                let unsubscribe = Unsubscribe {
                    packet_id,
                    filters: gone,
                    properties: None,
                };
                up.append(|version, out| unsubscribe.encode(version, out));
            }
            for route in routes.iter() {
                let filter = route.subscription();
                // In 3.1.1 the remote would send every retained message again.
                if up.version() == Version::V311
                    && before.get(&filter) == Some(&Some(route.qos.as_u8()))
                {
                    continue;
                }
                let Ok(parsed) = SubscriptionFilter::parse(&filter) else {
                    continue;
                };
                let packet_id = up.ask_id();
                up.asked
                    .insert(packet_id.get(), Asked::Subscribe(filter, route.qos.as_u8()));
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
                let properties = SubscribeProperties {
                    subscription_identifier: up
                        .limits()
                        .subscription_identifiers
                        .then(|| subscription_id(route)),
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
        });
        Ok(())
    }

    pub(super) fn subscribed(&self, id: PacketId, reasons: &[ReasonCode]) {
        let asked = self
            .inner
            .with_up(|up| up.asked.remove(&id.get()))
            .flatten();
        let Some(Asked::Subscribe(filter, qos)) = asked else {
            return;
        };
        if let Some(reason) = reasons.iter().find(|reason| reason.is_error()) {
            self.inner.stats.refused_filters.fetch_add(1, Relaxed);
            let message = format!(
                "the remote broker refuses the filter `{filter}`: 0x{:02X} {}",
                reason.as_u8(),
                reason.name()
            );
            let error = SinkError::new(codes::FILTER_REFUSED, message);
            // The link is up; of its filters one is missing.
            self.inner.health.noted(&error);
        } else if let Some(home) = &self.inner.home {
            let file = Subscribed::of(home.data_dir(), self.inner.health.name());
            let mut known = file.read();
            known.insert(filter, Some(qos));
            // Where it cannot be kept, the filter is asked for again.
            if let Err(error) = file.write(&known) {
                tracing::warn!(%error, "the filters of a bridge cannot be kept");
            }
        }
    }

    pub(super) fn unsubscribed(&self, id: PacketId) -> Result<(), Failure> {
        self.inner.with_up(|up| up.asked.remove(&id.get()));
        let Some(home) = &self.inner.home else {
            return Ok(());
        };
        let routes = self.inner.gateway.routes();
        let file = Subscribed::of(home.data_dir(), self.inner.health.name());
        let mut known = file.read();
        known.retain(|filter, _| routes.iter().any(|route| route.subscription() == *filter));
        file.write(&known)
            .map_err(|error| failed_to_remember(&error))
    }
}
