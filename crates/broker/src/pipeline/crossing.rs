//! `out` of a bridge: messages that leave for the remote as they are, into the bridge's queue.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use weir_rules::event::{Event, Publish, What};
use weir_rules::value::{Text, Value};
use weir_sinks::Connector;
use weir_sinks::bridge::home::CLIENTS;
use weir_sinks::bridge::route::{OutRoute, Sender};
use weir_sinks::crossing::{self, Crossing as Message};

use super::counters::is_power_of_ten;
use super::world::World;

/// What stands before the name of a bridge where its state is told. No bridge takes these topics to its remote.
pub(crate) const BRIDGE_STATUS: &str = "$SYS/bridges/";

/// What one bridge sends without a rule.
pub struct Crossing {
    /// As whom the bridge is known in this broker: its own messages do not go back.
    client_id: Text,
    routes: Arc<[OutRoute]>,
    /// Where messages without a name at the remote are counted.
    connector: Arc<Connector>,
}

impl Crossing {
    /// The entries of `out` of a bridge.
    pub fn new(connector: &Arc<Connector>, routes: Arc<[OutRoute]>) -> Self {
        let bridge = connector.name();
        Self {
            client_id: format!("{CLIENTS}{bridge}").into(),
            routes,
            connector: Arc::clone(connector),
        }
    }

    /// Whether a message of `QoS` 0 is put into the queue now; counts it where it is not.
    fn keeps_qos0(&self) -> bool {
        let plan = self.connector.bridge_plan();
        if plan.is_none_or(|plan| plan.store_qos0) || self.connector.state().link.is_up() {
            return true;
        }
        if let Some(stats) = self.connector.bridge_stats() {
            stats.not_kept.fetch_add(1, Relaxed);
        }
        false
    }

    /// The rows that a message leaves in the queue: one for each entry, and one for entries that name it alike.
    pub(super) fn rows(&self, publish: &Publish, world: &World) -> Vec<Value> {
        let Some(topic) = publish.topic.as_str() else {
            return Vec::new();
        };
        // What bridges say of themselves changes with what they send: it would never end.
        if topic.starts_with(BRIDGE_STATUS) {
            return Vec::new();
        }
        let bridge = Some(&self.client_id);
        if bridge == Some(&publish.client_id) || bridge == publish.came_over.as_ref() {
            return Vec::new();
        }
        let message = Message {
            topic,
            payload: &publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties.as_ref(),
            sender: Sender {
                client_id: publish.client_id.as_str().unwrap_or_default(),
                username: publish.username.as_ref().and_then(Text::as_str),
                qos: publish.qos,
                node: world.node(),
                payload: &publish.payload,
            },
            node_id: world.id(),
        };
        let mut rows: Vec<Value> = Vec::new();
        for route in self
            .routes
            .iter()
            .filter(|route| route.filter.matches(topic))
        {
            if route.leaves_with(publish.qos) == 0 && !self.keeps_qos0() {
                continue;
            }
            match crossing::row(route, message) {
                Ok(row) => {
                    let same = |other: &Value| {
                        let alike = |key| other.get(key) == row.get(key);
                        ["topic", "qos", "payload"].into_iter().all(alike)
                    };
                    if !rows.iter().any(same) {
                        rows.push(row);
                    }
                }
                Err(why) => {
                    let stats = self.connector.bridge_stats();
                    let count = stats.map_or(1, |stats| {
                        stats.unmapped[why as usize].fetch_add(1, Relaxed) + 1
                    });
                    if is_power_of_ten(count) {
                        tracing::warn!(bridge = ?self.client_id, topic, count, "a message has no name at the remote: {why}");
                    }
                    // To the dead letters, by way of the queue.
                    rows.push(crossing::unmapped_row(route, message, why));
                }
            }
        }
        rows
    }
}

/// The bridge over which an event has come.
pub(super) fn came_over(event: &Event) -> Option<Text> {
    match &event.what {
        What::Publish(publish) => {
            let name = publish.client_id.as_str();
            let is_bridge = name.is_some_and(|name| name.starts_with(CLIENTS));
            if is_bridge {
                Some(publish.client_id.clone())
            } else {
                publish.came_over.clone()
            }
        }
        What::Ingress { source, .. } => {
            let name = source.as_str()?.strip_prefix("$bridges/mqtt:")?;
            Some(format!("{CLIENTS}{name}").into())
        }
        What::Broker { .. } => None,
    }
}
