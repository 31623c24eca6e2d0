//! An export of EMQX 5 to the files of a weir project: `weir import emqx`.
//!
//! [`Export::read`] takes a configuration (`cluster.hocon`, `emqx.conf`), JSON of the REST API or a data backup;
//! [`import`] makes rules, connectors and tests of it, and notes of what it cannot take.
//!
//! Never here: files, sockets, clocks, tokio. The same export gives the same files.

mod archive;
mod hocon;

mod action;
mod advice;
mod connector;
mod export;
mod inbound;
mod note;
mod rule;
mod sink;
mod source;

mod reads;
mod sample;
mod still;
mod toml_text;
mod words;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

pub use export::{Export, ReadError};
pub use hocon::HoconError;
pub use note::{Level, Note};
pub use toml_text::inline;

use action::{Actions, file_name, unique};
use connector::Kind;
use export::{ExportedRule, canonical};
use note::Notes;

/// What became of an export.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// The files to write.
    pub files: Vec<File>,
    /// Every rule, in the order of the export.
    pub rules: Vec<ImportedRule>,
    /// The variables of the environment that the files take secrets from, and give no value to fall back to.
    pub variables: Vec<String>,
    /// What the user has to know.
    pub notes: Vec<Note>,
}

/// A file of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Below the project's folder: `rules/hot.toml`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImportedRule {
    /// Its id in EMQX.
    pub id: String,
    /// Its file.
    pub path: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The sinks that were taken, by type and connector.
    pub sinks: Vec<String>,
    /// How many tests it got.
    pub tests: usize,
}

/// Makes a project of an export.
///
/// ```
/// let export = weir_import::Export::read(br#"
///     rule_engine.rules.hot {
///       sql = "SELECT payload.temp AS temp FROM \"dev/+/up\" WHERE payload.temp > 30"
///       actions = [{ function = console }]
///     }
/// "#)?;
/// let imported = weir_import::import(&export);
/// assert_eq!(imported.files[0].path, "rules/hot.toml");
/// assert_eq!(imported.rules[0].tests, 1);
/// assert!(imported.notes.is_empty());
/// # Ok::<(), weir_import::ReadError>(())
/// ```
pub fn import(export: &Export) -> Imported {
    let mut notes = Notes::default();
    for include in &export.includes {
        notes.add(
            Level::NotTaken,
            "export",
            format!("{include} is not followed: import that file too"),
        );
    }
    for name in &export.guessed {
        notes.add(
            Level::Changed,
            "export",
            format!(
                "mqtt:{name} has a topic and neither payload nor RETAIN, and was taken for a source: if it is an action, import it in a list `actions`"
            ),
        );
    }
    let actions = Actions::of(export, &mut notes);
    let mut files = Vec::new();
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    for rule in export.rules().iter().chain(&fed_by_topic(&actions)) {
        let name = unique(&mut names, &file_name(&rule.id), "rule");
        if let Some((file, imported)) = rule::import(rule, &name, &actions, &mut notes) {
            files.push(file);
            rules.push(imported);
        }
    }
    for connector in actions.connector_files() {
        files.extend(connector::files(&connector, actions.inbound(), &mut notes));
    }
    left_over(export, &actions, &mut notes);
    notes.0.sort_by_key(|note| note.level);
    Imported {
        variables: variables(&files),
        files,
        rules,
        notes: notes.0,
    }
}

/// The names of every `${env:NAME}` of the files that is not a comment's.
fn variables(files: &[File]) -> Vec<String> {
    let lines = files
        .iter()
        .filter(|file| file.path.ends_with(".toml"))
        .flat_map(|file| file.text.lines())
        .filter(|line| !line.starts_with('#'));
    let names: BTreeSet<&str> = lines
        .flat_map(|line| line.split("${env:").skip(1))
        .filter_map(|rest| Some(rest.split_once('}')?.0))
        .filter(|name| !name.contains(":-"))
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

/// EMQX can feed an action from a topic without a rule; here it gets one.
fn fed_by_topic(actions: &Actions) -> Vec<ExportedRule> {
    let rule = |(topic, action): (String, String)| {
        let name = action.split_once(':').map_or(&*action, |(_, name)| name);
        let config = json!({
            "sql": format!("SELECT * FROM \"{}\"", topic.replace('"', "\"\"")),
            "description": format!("What EMQX sent to {action} without a rule"),
            "actions": [action],
        });
        ExportedRule {
            id: name.to_owned(),
            config: match config {
                Value::Object(config) => config,
                _ => Map::new(),
            },
        }
    };
    actions.fed_by_topic().into_iter().map(rule).collect()
}

/// Notes about what is in the export and in no file.
fn left_over(export: &Export, actions: &Actions, notes: &mut Notes) {
    let used: BTreeSet<String> = export
        .rules()
        .iter()
        .filter_map(|rule| rule.config.get("actions")?.as_array().cloned())
        .flatten()
        .filter_map(|action| action.as_str().map(str::to_owned))
        .filter_map(|action| {
            let action = action.strip_prefix("bridge:").unwrap_or(&action);
            let (kind, name) = action.split_once(':')?;
            Some(format!("{}:{name}", canonical(kind)))
        })
        .chain(actions.fed_by_topic().into_iter().map(|(_, action)| action))
        .collect();
    for action in actions.names() {
        if used.contains(&action) {
            continue;
        }
        let has_connector = action
            .split_once(':')
            .is_some_and(|(kind, _)| Kind::of(kind).is_some());
        let taken = if has_connector {
            "nothing but its connector was taken"
        } else {
            "it was left out"
        };
        notes.add(
            Level::Changed,
            "export",
            format!("no rule uses {action}: {taken}"),
        );
    }
    let others = export.others();
    if !others.is_empty() {
        notes.add(
            Level::Changed,
            "export",
            format!("not looked at: {}", others.join(", ")),
        );
    }
}

#[cfg(test)]
mod tests;
