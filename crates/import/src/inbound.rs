//! Topics that EMQX takes in from other brokers: entries of `in` of a connector, and rules over them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::connector::string;
use crate::note::{Level, Notes};
use crate::toml_text::text;
use crate::words::{Kind, tokens};

/// A topic that comes in over a connector of type `mqtt`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inbound {
    /// What rules call it in EMQX: `orders` of `$sources/mqtt:orders`.
    pub(crate) name: String,
    /// The connector's name in weir.
    pub(crate) connector: String,
    /// What is subscribed to at the other broker.
    pub(crate) filter: String,
    share: Option<String>,
    qos: Option<u64>,
    /// The topic here; without one the messages are for rules alone.
    local_topic: Option<String>,
    retain: Option<&'static str>,
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
                    ["topic", "payload", "retain"],
                )
            }
            None => {
                let inbound = Self::new(name, connector, bridge, "remote_topic", "remote_qos")?;
                (
                    inbound,
                    bridge.clone(),
                    ["local_topic", "payload", "retain"],
                )
            }
        };
        let [topic, payload, retain] = names.map(|name| string(&local, name).unwrap_or_default());
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

/// The statement with weir's names in place of EMQX's: rules over what comes in name the connector.
pub(crate) fn renamed(sql: &str, inbound: &[Inbound]) -> String {
    let names: BTreeMap<&str, &str> = inbound
        .iter()
        .map(|inbound| (&*inbound.name, &*inbound.connector))
        .collect();
    let mut out = String::with_capacity(sql.len());
    let mut from = 0;
    for token in tokens(sql) {
        if !matches!(token.kind, Kind::Quoted | Kind::Text) {
            continue;
        }
        let value = token.value();
        let Some((source, name)) = source_name(&value) else {
            continue;
        };
        let Some(connector) = names.get(name).filter(|connector| **connector != name) else {
            continue;
        };
        out.push_str(&sql[from..token.start]);
        out.push_str(&format!("\"{source}{connector}\""));
        from = token.start + token.text.len();
    }
    out.push_str(&sql[from..]);
    out
}

/// `$sources/mqtt:` and `orders` of `$sources/mqtt:orders`.
pub(crate) fn source_name(text: &str) -> Option<(&str, &str)> {
    ["$sources/mqtt:", "$bridges/mqtt:"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .map(|name| (&text[..text.len() - name.len()], name))
}
