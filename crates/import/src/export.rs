//! What an export holds, whatever its form: rules, connectors, actions, and the bridges of older versions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::archive;
use crate::hocon::{self, HoconError, merge};

/// A section's entries, by type and name.
pub(crate) type Entries = BTreeMap<(String, String), Map<String, Value>>;

/// One or several files of EMQX, read and merged.
#[derive(Clone, Debug, Default)]
pub struct Export {
    root: Map<String, Value>,
    /// Files that it names and that were not read.
    pub(crate) includes: Vec<String>,
    /// Names of type `mqtt` that were taken for sources, and that no rule has among its actions.
    pub(crate) guessed: BTreeSet<String>,
}

/// Why a file is no export of EMQX.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is neither HOCON nor JSON; the place comes first.
    #[error(transparent)]
    Hocon(#[from] HoconError),
    /// It is not text.
    #[error("the file is not UTF-8 text")]
    NotText,
    /// It is a backup that cannot be unpacked.
    #[error("{0}")]
    Archive(String),
    /// It is of EMQX 4, whose rules look different.
    #[error("this is an export of EMQX 4: import it into EMQX 5 first, and export it there")]
    Version4,
}

/// A rule as EMQX has it.
#[derive(Clone, Debug)]
pub(crate) struct ExportedRule {
    pub(crate) id: String,
    pub(crate) config: Map<String, Value>,
}

const SECTIONS: [&str; 4] = ["connectors", "actions", "bridges", "sources"];

impl Export {
    /// Reads one file: a configuration, JSON of the REST API, or a data backup (`.tar.gz`).
    ///
    /// # Errors
    /// When it is none of them.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let unpacked;
        let text = if archive::is_archive(bytes) {
            unpacked = archive::configuration(bytes).map_err(ReadError::Archive)?;
            &unpacked
        } else {
            std::str::from_utf8(bytes).map_err(|_| ReadError::NotText)?
        };
        let read = hocon::parse(text)?;
        let mut guessed = BTreeSet::new();
        let mut export = Self {
            root: shaped(read.value, &mut guessed),
            includes: read
                .includes
                .into_iter()
                .map(|(line, what)| format!("line {line}: {what}"))
                .collect(),
            guessed,
        };
        export.settle();
        let is_old = |rule: &ExportedRule| rule.config.contains_key("rawsql");
        if export.rules().iter().any(is_old) {
            return Err(ReadError::Version4);
        }
        Ok(export)
    }

    /// Whether there is nothing to import.
    pub fn is_empty(&self) -> bool {
        self.rules().is_empty() && SECTIONS.iter().all(|name| self.section(name).is_empty())
    }

    /// Adds another file; what both say is as the later one says.
    pub fn merge(&mut self, later: Self) {
        merge(&mut self.root, later.root);
        self.includes.extend(later.includes);
        self.guessed.extend(later.guessed);
        self.settle();
    }

    /// What was taken for a source and is among the actions of a rule is an action.
    fn settle(&mut self) {
        let used: BTreeSet<String> = self
            .rules()
            .iter()
            .filter_map(|rule| rule.config.get("actions")?.as_array().cloned())
            .flatten()
            .filter_map(|action| Some(action.as_str()?.strip_prefix("mqtt:")?.to_owned()))
            .collect();
        for name in self.guessed.intersection(&used) {
            let sources = self.root.get_mut("sources");
            let config = sources
                .and_then(|sources| sources.get_mut("mqtt")?.as_object_mut()?.shift_remove(name));
            if let Some(config) = config {
                let action = json!({ "actions": { "mqtt": { name: config } } });
                if let Value::Object(action) = action {
                    merge(&mut self.root, action);
                }
            }
        }
        self.guessed.retain(|name| !used.contains(name));
    }

    /// Every rule, in the order of the file.
    pub(crate) fn rules(&self) -> Vec<ExportedRule> {
        let in_engine = self
            .root
            .get("rule_engine")
            .and_then(|engine| engine.get("rules"));
        [in_engine, self.root.get("rules")]
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .flatten()
            .filter_map(|(id, config)| {
                Some(ExportedRule {
                    id: id.clone(),
                    config: config.as_object()?.clone(),
                })
            })
            .collect()
    }

    /// The entries of one section.
    pub(crate) fn section(&self, name: &str) -> Entries {
        let types = self.root.get(name).and_then(Value::as_object);
        types
            .into_iter()
            .flatten()
            .filter_map(|(kind, entries)| Some((kind, entries.as_object()?)))
            .flat_map(|(kind, entries)| {
                entries.iter().filter_map(|(name, config)| {
                    let config = config.as_object()?.clone();
                    Some(((canonical(kind).to_owned(), name.clone()), config))
                })
            })
            .collect()
    }

    /// The names of sections that are not looked at.
    pub(crate) fn others(&self) -> Vec<&str> {
        self.root
            .iter()
            .filter(|(name, value)| {
                let known = SECTIONS.contains(&name.as_str())
                    || ["rule_engine", "rules", "meta", "data"].contains(&name.as_str());
                !known && (value.is_object() || value.is_array())
            })
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// What the newest version calls a type.
pub(crate) fn canonical(kind: &str) -> &str {
    match kind {
        "webhook" => "http",
        "kafka" => "kafka_producer",
        "gcp_pubsub" => "gcp_pubsub_producer",
        "influxdb_api_v1" | "influxdb_api_v2" => "influxdb",
        "redis_single" | "redis_sentinel" | "redis_cluster" => "redis",
        "mongodb_single" | "mongodb_rs" | "mongodb_sharded" => "mongodb",
        kind => kind,
    }
}

/// Lists, as the REST API gives them, to objects by name, as the configuration has them.
fn shaped(value: Value, guessed: &mut BTreeSet<String>) -> Map<String, Value> {
    let mut root = match value {
        // One rule alone.
        Value::Object(rule) if rule.contains_key("id") && rule.contains_key("sql") => {
            Map::from_iter([("data".to_owned(), json!([rule]))])
        }
        Value::Object(root) => root,
        Value::Array(items) => Map::from_iter([("data".to_owned(), Value::Array(items))]),
        _ => return Map::new(),
    };
    for name in [
        "rules",
        "connectors",
        "actions",
        "bridges",
        "sources",
        "data",
    ] {
        let items = match root.get(name) {
            Some(Value::Array(items)) => items.clone(),
            // A page of the REST API.
            Some(Value::Object(page)) => match page.get("data") {
                Some(Value::Array(items)) => items.clone(),
                _ => continue,
            },
            _ => continue,
        };
        root.shift_remove(name);
        for item in items {
            if let Value::Object(item) = item {
                place(&mut root, name, item, guessed);
            }
        }
    }
    root
}

/// Puts an item of a list where the configuration has it.
fn place(
    root: &mut Map<String, Value>,
    list: &str,
    mut item: Map<String, Value>,
    guessed: &mut BTreeSet<String>,
) {
    let section = match list {
        "data" => section_of(&item),
        list => list,
    };
    let word = |item: &mut Map<String, Value>, key: &str| match item.shift_remove(key) {
        Some(Value::String(word)) => Some(word),
        _ => None,
    };
    let path = if section == "rules" {
        // A rule keeps its name, which is for people.
        let Some(id) = word(&mut item, "id") else {
            return;
        };
        vec![id]
    } else {
        let (Some(kind), Some(name)) = (word(&mut item, "type"), word(&mut item, "name")) else {
            return;
        };
        if list == "data" && section == "sources" && kind == "mqtt" {
            guessed.insert(name.clone());
        }
        vec![kind, name]
    };
    let mut value = Value::Object(item);
    for key in path.into_iter().rev() {
        value = Value::Object(Map::from_iter([(key, value)]));
    }
    merge(root, Map::from_iter([(section.to_owned(), value)]));
}

/// Whether an item with parameters takes messages in: an action of type `mqtt` says what becomes of RETAIN, or makes a payload.
fn is_source(item: &Map<String, Value>) -> bool {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let says = |key: &str| {
        item.get("parameters")
            .and_then(|all| all.get(key))
            .is_some()
    };
    kind.ends_with("_consumer")
        || (kind == "mqtt" && says("topic") && !says("retain") && !says("payload"))
}

/// Which list an item is from, when only its keys tell.
fn section_of(item: &Map<String, Value>) -> &'static str {
    let has = |key: &str| item.contains_key(key);
    if (has("sql") && has("actions")) || has("rawsql") {
        "rules"
    } else if has("parameters") {
        if is_source(item) {
            "sources"
        } else {
            "actions"
        }
    } else if has("local_topic") || has("egress") || has("ingress") || has("method") || has("sql") {
        "bridges"
    } else {
        "connectors"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Export {
        Export::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn lists_of_the_rest_api_are_the_same_as_the_configuration() {
        let configuration = read(
            r#"rule_engine { rules { r1 { sql = "SELECT 1 FROM t", name = "One", actions = [] } } }
               actions.http.call { connector = web, parameters { method = post } }
               bridges.webhook.old { url = "http://x" }"#,
        );
        let lists = read(
            r#"{"rules": {"data": [{"id": "r1", "sql": "SELECT 1 FROM t", "name": "One", "actions": []}], "meta": {}},
                "actions": [{"type": "http", "name": "call", "connector": "web", "parameters": {"method": "post"}}],
                "bridges": [{"type": "webhook", "name": "old", "url": "http://x"}]}"#,
        );
        assert_eq!(configuration.rules()[0].id, lists.rules()[0].id);
        assert_eq!(configuration.rules()[0].config, lists.rules()[0].config);
        for section in SECTIONS {
            assert_eq!(
                configuration.section(section),
                lists.section(section),
                "{section}"
            );
        }
        assert!(
            lists
                .section("bridges")
                .contains_key(&("http".into(), "old".into()))
        );
    }

    #[test]
    fn an_answer_of_the_rest_api_alone_is_known_by_its_items() {
        let rules = read(
            r#"{"data": [{"id": "r", "sql": "SELECT 1 FROM t", "actions": []}], "meta": {"count": 1}}"#,
        );
        assert_eq!(rules.rules()[0].id, "r");
        let alone = read(r#"{"id": "r", "sql": "SELECT 1 FROM t", "actions": []}"#);
        assert_eq!(alone.rules()[0].config, rules.rules()[0].config);
        let mixed = read(
            r#"[{"type": "mqtt", "name": "hq", "server": "h:1883"},
                {"type": "mqtt", "name": "up", "connector": "hq", "parameters": {}},
                {"type": "webhook", "name": "w", "url": "http://x", "method": "post"}]"#,
        );
        assert_eq!(mixed.section("connectors").len(), 1);
        assert_eq!(mixed.section("actions").len(), 1);
        assert_eq!(mixed.section("bridges").len(), 1);
    }

    #[test]
    fn an_item_that_may_be_source_or_action_is_an_action_where_a_rule_has_it_among_its_own() {
        let items = r#"[{"type": "mqtt", "name": "up", "connector": "hq", "parameters": {"topic": "a"}},
                        {"type": "mqtt", "name": "down", "connector": "hq", "parameters": {"topic": "b"}}]"#;
        let mut export = read(items);
        assert_eq!(export.section("sources").len(), 2);
        export.merge(read(
            r#"[{"id": "r", "sql": "SELECT 1 FROM t", "actions": ["mqtt:up"]}]"#,
        ));
        let key = |name: &str| ("mqtt".to_owned(), name.to_owned());
        assert!(export.section("actions").contains_key(&key("up")));
        assert!(!export.section("sources").contains_key(&key("up")));
        assert!(export.section("sources").contains_key(&key("down")));
        assert_eq!(export.guessed, BTreeSet::from(["down".to_owned()]));
    }

    #[test]
    fn a_later_file_is_merged_over_an_earlier_one() {
        let mut export = read("rule_engine.rules.a { sql = one, enable = true }\nlisteners {}\n");
        export.merge(read(
            "rule_engine.rules { a { enable = false }, b { sql = two } }",
        ));
        let rules = export.rules();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0].config["enable"], Value::Bool(false));
        assert_eq!(rules[0].config["sql"], "one");
        assert_eq!(export.others(), ["listeners"]);
    }

    #[test]
    fn what_is_no_export_is_refused_with_its_reason() {
        let error = |text: &str| Export::read(text.as_bytes()).unwrap_err();
        assert!(read("listeners {}").is_empty());
        assert!(!read("actions.http.a { connector = b }").is_empty());
        assert_eq!(
            error(
                r#"{"version": "4.4", "rules": [{"id": "r", "rawsql": "SELECT 1", "actions": []}]}"#
            ),
            ReadError::Version4
        );
        assert_eq!(error("a {").to_string(), "1:3: this `{` is never closed");
        assert_eq!(Export::read(&[0xff, 0xfe]).unwrap_err(), ReadError::NotText);
    }
}
