//! A PUBLISH of the remote of a bridge: another name for its topic, rules on the bridge, and then the way of any message.
//!
//! The bridge is a client of this broker, with a session that knows the remote's packet identifiers: what the remote sends
//! again after a restart is known again, and it is acknowledged when what it made is kept.

use std::sync::Arc;

use bytes::Bytes;
use weir_mqtt::{PacketId, Publish, QoS, ReasonCode, TopicName, Utf8};
use weir_rules::event::{Event, What};
use weir_sinks::bridge::Gateway;
use weir_sinks::bridge::home::{Dropped, has_come_round, mark, path_of};
use weir_sinks::bridge::route::{Sender, Unmapped};

use super::client::{Client, Leave};
use super::events;
use super::router::{Routed, wall_ms};
use crate::core::Millis;
use crate::pipeline::Matched;
use crate::stats::DropReason;

/// What a client that is a bridge knows beyond others.
pub(super) struct Ingress {
    pub(super) gateway: Arc<Gateway>,
    /// `$bridges/mqtt:NAME`
    source: String,
    /// The rules on the bridge, under the generation in which they were found.
    rules: Option<(u64, Option<Arc<Matched>>)>,
}

/// What becomes of a message of the remote.
#[derive(Default)]
struct Placed {
    /// Its topic here; `None` where it is for rules alone.
    topic: Option<Utf8>,
    retain: bool,
    /// Another payload, where the entry makes one.
    payload: Option<Bytes>,
    /// Another response topic, where the entry is for it too.
    response: Option<TopicName>,
}

impl Ingress {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            source: format!("$bridges/mqtt:{}", gateway.bridge()),
            gateway,
            rules: None,
        }
    }
}

impl Client {
    /// A PUBLISH of the remote has come; it may have waited for room.
    pub(super) fn accept_ingress(&mut self, now: Millis, publish: Publish) -> Result<(), Leave> {
        let Some(gateway) = self
            .ingress
            .as_ref()
            .map(|ingress| Arc::clone(&ingress.gateway))
        else {
            return Ok(());
        };
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if qos > QoS::AtMostOnce && self.shared.store.is_full() && !self.knows(qos, packet_id) {
            let shared = Arc::clone(&self.shared);
            return self.wait_for(publish, async move { shared.store.has_room().await });
        }
        if let Some(id) = packet_id
            && !self.take_once(qos, id)?
        {
            // [MQTT-4.3.3-10] Acknowledged again, routed once.
            return self.acknowledge(qos, packet_id, ReasonCode::Success);
        }
        let placed = match self.place(&gateway, &publish) {
            Ok(placed) => placed,
            Err(why) => {
                gateway.count_dropped(why);
                tracing::debug!(
                    bridge = gateway.bridge(),
                    why = why.name(),
                    "a message of the remote goes nowhere"
                );
                return self.acknowledge(qos, packet_id, ReasonCode::Success);
            }
        };
        let mut message = publish.clone();
        message.retain = placed.retain;
        message.payload = placed.payload.unwrap_or(message.payload);
        if let Some(properties) = message.properties.as_deref_mut() {
            properties.subscription_identifiers.clear();
            properties.topic_alias = None;
            if let Some(response) = placed.response {
                properties.response_topic = Some(response);
            }
        }
        // Whoever sends it on will find this broker in its path.
        mark(
            message.properties.get_or_insert_default(),
            self.shared.pipeline.world().id(),
        );
        let rules = self.rules_of_bridge();
        let is_published = placed.topic.is_some();
        if let Some(topic) = placed.topic {
            message.topic = topic;
        }
        let message = self.message(now, message);
        let event = rules.as_ref().map(|_| Event {
            timestamp_ms: wall_ms(),
            what: What::Ingress {
                source: self
                    .ingress
                    .as_ref()
                    .map_or("", |ingress| &ingress.source)
                    .into(),
                fields: Arc::new(events::of_ingress(message.id, &publish, &gateway.server())),
            },
        });
        let ingress = rules.as_deref().zip(event);
        match self
            .router
            .publish_ingress(now, message, ingress, is_published)
        {
            Routed::Done(_) => {
                gateway.has_taken(&publish);
                self.acknowledge(qos, packet_id, ReasonCode::Success)
            }
            Routed::NoRoom(room, message) => {
                if qos == QoS::AtMostOnce {
                    self.router.drop_message(DropReason::SinkFull, &message);
                    return Ok(());
                }
                self.not_taken(qos, packet_id);
                self.wait_for(publish, async move { room.wait().await })
            }
            Routed::StoreFull(message) => {
                if qos == QoS::AtMostOnce {
                    self.router.drop_message(DropReason::StoreFull, &message);
                    return Ok(());
                }
                self.not_taken(qos, packet_id);
                let shared = Arc::clone(&self.shared);
                self.wait_for(publish, async move { shared.store.has_room().await })
            }
        }
    }

    /// Whether the remote sends again what was routed already.
    fn knows(&self, qos: QoS, id: Option<PacketId>) -> bool {
        let is_known = |id| self.handle.lock().session.received().contains(id);
        qos == QoS::ExactlyOnce && id.is_some_and(is_known)
    }

    /// Where a message of the remote belongs, and what becomes of it here.
    fn place(&self, gateway: &Gateway, publish: &Publish) -> Result<Placed, Dropped> {
        let world = self.shared.pipeline.world();
        let properties = publish.properties.as_deref();
        if path_of(properties).is_some_and(|path| has_come_round(path, world.id())) {
            return Err(Dropped::Loop);
        }
        if let Some(why) = gateway.holds_back(publish) {
            return Err(why);
        }
        let subscriptions =
            properties.map_or(&[][..], |properties| &properties.subscription_identifiers);
        let route = gateway
            .route(&publish.topic, subscriptions)
            .ok_or(Dropped::NoRoute)?;
        let mut placed = Placed {
            retain: route.retain.apply(publish.retain),
            ..Placed::default()
        };
        let Some(map) = &route.map else {
            return Ok(placed);
        };
        let sender = Sender {
            client_id: &self.info.origin.client_id,
            username: None,
            qos: publish.qos.as_u8(),
            node: world.node(),
            payload: &publish.payload,
        };
        let dropped = |why| match why {
            Unmapped::Template => Dropped::Template,
            Unmapped::BadTopic | Unmapped::NotOwned => Dropped::BadTopic,
        };
        let name = map.apply(&publish.topic, sender).map_err(dropped)?;
        // The broker speaks of itself there, and clients through `$share` and its like.
        if name.starts_with("$SYS/") || name.starts_with("$share/") {
            return Err(Dropped::BadTopic);
        }
        let name = TopicName::new(&name).map_err(|_| Dropped::BadTopic)?;
        placed.topic = Some(name.into_utf8());
        if let Some(payload) = &route.payload {
            let changed = payload.changed(&publish.topic, sender, placed.retain);
            placed.payload = changed.map_err(dropped)?.map(Into::into);
        }
        // Whoever answers on it here is heard there, if an `out` takes it.
        placed.response = properties
            .and_then(|properties| properties.response_topic.as_ref())
            .and_then(|topic| route.response(topic.as_str(), sender))
            .and_then(|name| TopicName::new(&name).ok());
        Ok(placed)
    }

    fn rules_of_bridge(&mut self) -> Option<Arc<Matched>> {
        let pipeline = &self.shared.pipeline;
        let ingress = self.ingress.as_mut()?;
        let generation = pipeline.generation();
        match &ingress.rules {
            Some((known, rules)) if *known == generation => rules.clone(),
            _ => {
                let rules = pipeline.matched_bridge(&ingress.source);
                ingress.rules = Some((generation, rules.clone()));
                rules
            }
        }
    }

    /// Nothing has happened yet, and nothing does until there is room: neither for this message nor for those behind it.
    fn wait_for(
        &mut self,
        publish: Publish,
        room: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Leave> {
        self.parked.push_front(publish);
        self.wait(room);
        Ok(())
    }
}
