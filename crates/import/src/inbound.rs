//! Topics that EMQX takes in from other brokers: entries of `in` of a connector.

use serde_json::{Map, Value};

use crate::connector::string;
use crate::note::{Level, Notes};
use crate::toml_text::text;

/// A topic that comes in over a connector of type `mqtt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// What rules call it in EMQX: `orders` of `$sources/mqtt:orders`.
    pub(crate) name: String,
    /// The connector's name in weir.
    pub(crate) connector: String,
    /// What is subscribed to at the other broker.
    pub(crate) filter: String,
    pub(crate) share: Option<String>,
    pub(crate) qos: Option<u64>,
    /// The topic here; without one the messages are for rules alone.
    pub(crate) local_topic: Option<String>,
    pub(crate) retain: Option<&'static str>,
}

impl Inbound {
    /// A source of EMQX, since 5.4.
    pub(crate) fn of_source(
        name: &str,
        connector: &str,
        source: &Map<String, Value>,
    ) -> Option<Self> {
        let parameters = source.get("parameters")?.as_object()?;
        Self::new(name, connector, parameters, "topic", "qos")
    }

    /// The part of a bridge that takes messages in; before 5.0.12 the keys stood at the bridge itself.
    pub(crate) fn of_bridge(
        name: &str,
        connector: &str,
        bridge: &Map<String, Value>,
        notes: &mut Notes,
    ) -> Option<Self> {
        let (mut inbound, local, names) = match bridge.get("ingress").and_then(Value::as_object) {
            Some(ingress) => {
                let remote = ingress.get("remote")?.as_object()?;
                let inbound = Self::new(name, connector, remote, "topic", "qos")?;
                let local = ingress.get("local").and_then(Value::as_object).cloned();
                (
                    inbound,
                    local.unwrap_or_default(),
                    ["topic", "payload", "retain", "qos"],
                )
            }
            None => {
                let inbound = Self::new(name, connector, bridge, "remote_topic", "remote_qos")?;
                (
                    inbound,
                    bridge.clone(),
                    ["local_topic", "payload", "retain", "local_qos"],
                )
            }
        };
        let [topic, payload, retain, qos] =
            names.map(|name| string(&local, name).unwrap_or_default());
        if topic.is_empty() {
            return Some(inbound);
        }
        let of = format!("connector {connector}");
        if topic.replace("${topic}", "").contains("${") {
            notes.add(
                Level::Changed,
                &of,
                format!(
                    "messages of {} are for rules alone: EMQX published them as `{topic}`, which a rule FROM \"$bridges/mqtt:{connector}\" with a sink of type `republish` can do",
                    inbound.filter
                ),
            );
            return Some(inbound);
        }
        if !payload.is_empty() && payload != "${payload}" {
            notes.add(
                Level::Changed,
                &of,
                format!(
                    "messages of {} keep their payload: EMQX made `{payload}` of it, which a rule FROM \"$bridges/mqtt:{connector}\" with a sink of type `republish` can do",
                    inbound.filter
                ),
            );
        }
        if !qos.is_empty() && qos != "${qos}" {
            notes.add(
                Level::Changed,
                &of,
                format!(
                    "messages of {} keep the QoS that they come in with: EMQX published them with `{qos}`, which a rule FROM \"$bridges/mqtt:{connector}\" with a sink of type `republish` can do",
                    inbound.filter
                ),
            );
        }
        if !matches!(retain.as_str(), "" | "true" | "false" | "${retain}") {
            notes.add(
                Level::Changed,
                &of,
                format!(
                    "messages of {} are retained or not as they come in: EMQX decided by `{retain}`",
                    inbound.filter
                ),
            );
        }
        inbound.local_topic = Some(topic);
        inbound.retain = match retain.as_str() {
            "true" => Some("set"),
            "false" => Some("strip"),
            _ => None,
        };
        Some(inbound)
    }

    fn new(
        name: &str,
        connector: &str,
        config: &Map<String, Value>,
        topic: &str,
        qos: &str,
    ) -> Option<Self> {
        let filter = string(config, topic).filter(|topic| !topic.is_empty())?;
        let shared = filter
            .strip_prefix("$share/")
            .and_then(|rest| rest.split_once('/'))
            .map(|(group, filter)| (group.to_owned(), filter.to_owned()));
        let (share, filter) = match shared {
            Some((group, filter)) => (Some(group), filter),
            None => (None, filter),
        };
        Some(Self {
            name: name.to_owned(),
            connector: connector.to_owned(),
            filter,
            share,
            qos: config.get(qos).and_then(Value::as_u64),
            ..Self::default()
        })
    }

    /// As an element of `in`.
    pub(crate) fn to_toml(&self) -> String {
        let mut parts = vec![format!("filter = {}", text(&self.filter))];
        if let Some(qos) = self.qos {
            parts.push(format!("qos = {}", qos.min(2)));
        }
        if let Some(group) = &self.share {
            parts.push(format!("share = {}", text(group)));
        }
        if let Some(retain) = self.retain {
            parts.push(format!("retain = {}", text(retain)));
        }
        match self.local_topic.as_deref() {
            // It keeps its name.
            Some("${topic}") => {}
            Some(topic) => parts.push(format!("local_topic = {}", text(topic))),
            None => parts.push("rules_only = true".to_owned()),
        }
        format!("{{ {} }}", parts.join(", "))
    }
}
