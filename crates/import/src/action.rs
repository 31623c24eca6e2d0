//! What an action's name in a rule stands for, in the export's version of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::connector::{Kind, string, switch};
use crate::export::{Entries, Export, canonical};
use crate::inbound::Inbound;
use crate::note::{Level, Notes};

/// Where a connector of weir comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Connector,
    /// EMQX before 5.4 kept connector and action in one.
    Bridge,
}

/// A connector file to write.
pub(crate) struct ConnectorFile {
    pub(crate) kind: Kind,
    /// Its name in weir.
    pub(crate) name: String,
    /// As EMQX calls it: `connector pgsql:main`.
    pub(crate) origin: String,
    pub(crate) config: Map<String, Value>,
}

/// An action that weir has a sink for.
pub(crate) struct Action {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    /// The connector's name in weir, and its configuration.
    pub(crate) connector: String,
    pub(crate) connector_config: Map<String, Value>,
    /// As the newest version has them.
    pub(crate) parameters: Map<String, Value>,
    pub(crate) options: Map<String, Value>,
}

/// What a name stands for.
pub(crate) enum Found {
    Action(Box<Action>),
    /// weir has no sink for it.
    Unsupported {
        kind: String,
        config: Map<String, Value>,
    },
    /// The export does not have it, or not its connector; the sentence says which.
    Missing(String),
}

/// The export's connectors and actions, each connector with its name in weir.
pub(crate) struct Actions {
    connectors: Entries,
    actions: Entries,
    bridges: Entries,
    files: BTreeMap<(Origin, String, String), String>,
    inbound: Vec<Inbound>,
}

impl Actions {
    pub(crate) fn of(export: &Export, notes: &mut Notes) -> Self {
        let mut actions = Self {
            connectors: export.section("connectors"),
            actions: export.section("actions"),
            bridges: export.section("bridges"),
            files: BTreeMap::new(),
            inbound: Vec::new(),
        };
        let mut taken = BTreeSet::new();
        let connectors = actions
            .connectors
            .keys()
            .map(|key| (Origin::Connector, key));
        let bridges = actions
            .bridges
            .iter()
            .filter(|(_, config)| !matches!(config.get("connector"), Some(Value::String(_))))
            .map(|(key, _)| (Origin::Bridge, key));
        for (origin, (kind, name)) in connectors.chain(bridges) {
            if Kind::of(kind).is_some() {
                let file = unique(&mut taken, &file_name(name), kind);
                actions
                    .files
                    .insert((origin, kind.clone(), name.clone()), file);
            }
        }
        actions.take_in(export, notes);
        actions
    }

    /// Finds what comes in from other brokers, and notes what cannot be taken of it.
    fn take_in(&mut self, export: &Export, notes: &mut Notes) {
        let sources = export.section("sources");
        let bridges = self.bridges.iter().filter(|(_, config)| takes_in(config));
        let all = sources
            .iter()
            .map(|(key, config)| (key, config, true))
            .chain(bridges.map(|(key, config)| (key, config, false)));
        let mut found = Vec::new();
        for ((kind, name), config, is_source) in all {
            if !switch(config, "enable", true) {
                notes.add(
                    Level::Changed,
                    "export",
                    format!("{kind}:{name} takes messages in and is off: it was left out"),
                );
                continue;
            }
            let origin = match (config.get("connector"), is_source) {
                (Some(Value::String(connector)), _) => {
                    let connector = connector
                        .split_once(':')
                        .map_or(connector.as_str(), |(_, name)| name);
                    (Origin::Connector, kind.clone(), connector.to_owned())
                }
                _ => (Origin::Bridge, kind.clone(), name.clone()),
            };
            let connector = self.files.get(&origin).filter(|_| kind == "mqtt");
            let inbound = connector.and_then(|connector| {
                if is_source {
                    Inbound::of_source(name, connector, config)
                } else {
                    Inbound::of_bridge(name, connector, config, notes)
                }
            });
            match inbound {
                Some(inbound) => found.push(inbound),
                None if kind == "mqtt" => notes.add(
                    Level::NotTaken,
                    "export",
                    format!("{kind}:{name} takes messages in, and the export has no connector or no topic for it"),
                ),
                None => notes.add(
                    Level::NotTaken,
                    "export",
                    format!("{kind}:{name} takes messages in, and weir takes them from MQTT brokers alone: let the other side publish them to weir"),
                ),
            }
        }
        self.inbound = found;
    }

    /// What comes in over the connectors of type `mqtt`.
    pub(crate) fn inbound(&self) -> &[Inbound] {
        &self.inbound
    }

    /// The connectors to write.
    pub(crate) fn connector_files(&self) -> Vec<ConnectorFile> {
        let file = |((origin, kind, name), file): (&(Origin, String, String), &String)| {
            let config = self.connector_config(*origin, kind, name)?;
            let word = match origin {
                Origin::Connector => "connector",
                Origin::Bridge => "bridge",
            };
            Some(ConnectorFile {
                kind: Kind::of(kind)?,
                name: file.clone(),
                origin: format!("{word} {kind}:{name}"),
                config,
            })
        };
        self.files.iter().filter_map(file).collect()
    }

    fn connector_config(
        &self,
        origin: Origin,
        kind: &str,
        name: &str,
    ) -> Option<Map<String, Value>> {
        let key = (kind.to_owned(), name.to_owned());
        match origin {
            Origin::Connector => self.connectors.get(&key).cloned(),
            Origin::Bridge => {
                let bridge = self.bridges.get(&key)?;
                match bridge.get("connector") {
                    Some(Value::Object(inner)) => Some(inner.clone()),
                    _ => Some(bridge.clone()),
                }
            }
        }
    }

    /// What `type:name` in a rule stands for.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Found {
        let kind = canonical(kind);
        let key = (kind.to_owned(), name.to_owned());
        if let Some(action) = self.actions.get(&key) {
            return match Kind::of(kind) {
                Some(known) => self.new_form(known, kind, name, action),
                None => unsupported(kind, action),
            };
        }
        match (self.bridges.get(&key), Kind::of(kind)) {
            (Some(bridge), Some(known)) => self.old_form(known, kind, name, bridge),
            (Some(bridge), None) => unsupported(kind, bridge),
            (None, Some(_)) => Found::Missing(format!("the export has no action `{kind}:{name}`")),
            (None, None) => unsupported(kind, &Map::new()),
        }
    }

    /// Since 5.4: an action that names its connector.
    fn new_form(&self, known: Kind, kind: &str, name: &str, action: &Map<String, Value>) -> Found {
        let connector = string(action, "connector").unwrap_or_default();
        self.action(
            known,
            name,
            action,
            (Origin::Connector, kind, &connector),
            object(action, "parameters"),
        )
    }

    /// Before: a bridge, which is both; before 5.0.12 one of type `mqtt` could name a connector.
    fn old_form(&self, known: Kind, kind: &str, name: &str, bridge: &Map<String, Value>) -> Found {
        let named = match bridge.get("connector") {
            Some(Value::String(connector)) => Some(
                connector
                    .split_once(':')
                    .map_or(connector.as_str(), |(_, name)| name),
            ),
            _ => None,
        };
        let connector = match named {
            Some(connector) => (Origin::Connector, kind, connector),
            None => (Origin::Bridge, kind, name),
        };
        let parameters = match (known, bridge.get("egress")) {
            (Kind::Mqtt, Some(Value::Object(egress))) => object(egress, "remote"),
            (Kind::Mqtt, _) => {
                let renamed = [
                    ("topic", "remote_topic"),
                    ("qos", "remote_qos"),
                    ("retain", "retain"),
                    ("payload", "payload"),
                ];
                renamed
                    .iter()
                    .filter_map(|(new, old)| Some(((*new).to_owned(), bridge.get(*old)?.clone())))
                    .collect()
            }
            // The connector's file has the headers, the URL and the time limit.
            _ => ["method", "body", "sql"]
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), bridge.get(*key)?.clone())))
                .collect(),
        };
        if known == Kind::Mqtt && !parameters.contains_key("topic") {
            return Found::Missing(format!("`{kind}:{name}` only takes messages in"));
        }
        self.action(known, name, bridge, connector, parameters)
    }

    fn action(
        &self,
        kind: Kind,
        name: &str,
        config: &Map<String, Value>,
        (origin, connector_kind, connector): (Origin, &str, &str),
        parameters: Map<String, Value>,
    ) -> Found {
        let key = (origin, connector_kind.to_owned(), connector.to_owned());
        let file = self.files.get(&key);
        let found = self.connector_config(origin, connector_kind, connector);
        let (Some(file), Some(connector_config)) = (file, found) else {
            return Found::Missing(format!(
                "the export has no connector `{connector_kind}:{connector}`"
            ));
        };
        Found::Action(Box::new(Action {
            kind,
            name: name.to_owned(),
            enabled: switch(config, "enable", true) && switch(&connector_config, "enable", true),
            connector: file.clone(),
            connector_config,
            parameters,
            options: object(config, "resource_opts"),
        }))
    }

    /// Actions that EMQX feeds without a rule, from a topic of their own: the topic and `type:name`.
    pub(crate) fn fed_by_topic(&self) -> Vec<(String, String)> {
        let of = |((kind, name), config): (&(String, String), &Map<String, Value>)| {
            let pointers = [
                "/local_topic",
                "/parameters/local/topic",
                "/egress/local/topic",
            ];
            let config = Value::Object(config.clone());
            let is_inbound = config.get("direction") == Some(&json!("ingress"));
            let topic = pointers
                .iter()
                .find_map(|pointer| config.pointer(pointer)?.as_str())
                .filter(|topic| !topic.is_empty() && !is_inbound)?;
            Some((topic.to_owned(), format!("{kind}:{name}")))
        };
        self.all_actions().filter_map(of).collect()
    }

    /// Every `type:name`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all_actions()
            .filter(|(_, config)| !is_inbound(config))
            .map(|((kind, name), _)| format!("{kind}:{name}"))
            .collect()
    }

    /// A bridge that became an action in a newer version may still stand in the file.
    fn all_actions(&self) -> impl Iterator<Item = (&(String, String), &Map<String, Value>)> {
        let old = self
            .bridges
            .iter()
            .filter(|(key, _)| !self.actions.contains_key(*key));
        self.actions.iter().chain(old)
    }
}

/// Whether a bridge takes messages in, and whatever else it does.
fn takes_in(bridge: &Map<String, Value>) -> bool {
    bridge.get("direction") == Some(&json!("ingress")) || has_part(bridge, "ingress")
}

/// Whether it does nothing else.
fn is_inbound(bridge: &Map<String, Value>) -> bool {
    takes_in(bridge) && !has_part(bridge, "egress")
}

fn has_part(bridge: &Map<String, Value>, name: &str) -> bool {
    bridge
        .get(name)
        .and_then(Value::as_object)
        .is_some_and(|part| !part.is_empty())
}

fn unsupported(kind: &str, config: &Map<String, Value>) -> Found {
    Found::Unsupported {
        kind: kind.to_owned(),
        config: config.clone(),
    }
}

fn object(config: &Map<String, Value>, name: &str) -> Map<String, Value> {
    match config.get(name) {
        Some(Value::Object(inner)) => inner.clone(),
        _ => Map::new(),
    }
}

/// A name that a file of weir can have: other signs become `_`, and none is hidden.
pub(crate) fn file_name(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.is_empty() || name.starts_with('_') {
        format!("x{name}")
    } else {
        name
    }
}

/// The name, or with `more`, or with a number after it: the first that is free.
pub(crate) fn unique(taken: &mut BTreeSet<String>, name: &str, more: &str) -> String {
    let numbered = (2..).map(|number| format!("{name}_{more}_{number}"));
    let free = [name.to_owned(), format!("{name}_{more}")]
        .into_iter()
        .chain(numbered)
        // Some file systems do not tell `A` from `a`.
        .find(|name| !taken.contains(&name.to_lowercase()))
        .unwrap_or_default();
    taken.insert(free.to_lowercase());
    free
}
