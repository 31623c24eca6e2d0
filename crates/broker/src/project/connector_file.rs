//! One connector file (user-experience §2.3): its type first, then the keys that the type has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use weir_sinks::{ConfigError, ConnectorConfig};

use super::check::{CheckedConnector, fingerprint, from_sinks};
use super::rule_file;
use crate::config::toml_file::{Outside, TomlFile};
use crate::problem::{Problem, Source, nearest};

const TYPES: [&str; 4] = ["postgres", "sqlite", "http", "mqtt"];

/// Reads a connector file; warnings come with the connector.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(
    source: &Source,
    outside: &dyn Outside,
) -> Result<(CheckedConnector, Vec<Problem>), Vec<Problem>> {
    let mut file = TomlFile::parse(source)?;
    let places = places(&file);
    let filled = Recorded {
        outside,
        values: std::cell::RefCell::default(),
        stood_in: std::cell::Cell::default(),
    };
    let mut problems = Vec::new();
    file.fill_in(&filled, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let config = config(&mut file).map_err(|problem| vec![*problem])?;
    let all_located = |errors: &[ConfigError]| -> Vec<Problem> {
        errors
            .iter()
            .map(|error| from_sinks(source, &places, error))
            .collect()
    };
    let warnings = match config.check() {
        Ok(warnings) => all_located(&warnings),
        // A URL that is only a name cannot be judged.
        Err(_) if filled.stood_in.get() => Vec::new(),
        Err(errors) => return Err(all_located(&errors)),
    };
    let fingerprint = fingerprint(&(&source.text, filled.values.into_inner()));
    Ok((
        CheckedConnector {
            config: Arc::new(config),
            fingerprint,
        },
        warnings,
    ))
}

/// A finding about a file that is read, at its place there.
pub fn located(source: &Source, finding: &ConfigError) -> Problem {
    let places = TomlFile::parse(source).map_or_else(|_| BTreeMap::new(), |file| places(&file));
    from_sinks(source, &places, finding)
}

fn config(file: &mut TomlFile<'_>) -> Result<ConnectorConfig, Box<Problem>> {
    let help = format!("a connector is one of: {}", TYPES.join(", "));
    let Some(kind) = file.take("type") else {
        return Err(
            Problem::at(file.source, 0..0, "E1003", "the key `type` is missing")
                .help(help)
                .into(),
        );
    };
    match kind.get_ref().as_str() {
        Some("postgres") => file.read().map(ConnectorConfig::Postgres),
        Some("sqlite") => file.read().map(ConnectorConfig::Sqlite),
        Some("http") => file.read().map(ConnectorConfig::Http),
        Some("mqtt") => file
            .read()
            .map(|bridge| ConnectorConfig::Mqtt(Box::new(bridge))),
        Some(other) => {
            let problem = Problem::at(
                file.source,
                kind.span(),
                "E1003",
                format!("`{other}` is no type of connector"),
            )
            .help(help);
            let problem = match nearest(other, TYPES) {
                Some(near) => problem.label(format!("did you mean `{near}`?")),
                None => problem,
            };
            Err(problem.into())
        }
        None => Err(
            Problem::at(file.source, kind.span(), "E1003", "`type` must be a text")
                .help(help)
                .into(),
        ),
    }
}

fn places(file: &TomlFile<'_>) -> BTreeMap<String, Range<usize>> {
    let mut places = BTreeMap::new();
    for (key, span) in file.keys() {
        if let Some(value) = file.get(&[key]) {
            for (below, place) in rule_file::places(value) {
                places.insert(
                    if below.is_empty() || below.starts_with('[') {
                        format!("{key}{below}")
                    } else {
                        format!("{key}.{below}")
                    },
                    place,
                );
            }
        } else {
            places.insert(key.to_owned(), span);
        }
    }
    places
}

/// Remembers what was filled in, so that a changed variable is a changed connector.
struct Recorded<'a> {
    outside: &'a dyn Outside,
    values: std::cell::RefCell<Vec<String>>,
    /// Whether a name took the place of a value.
    stood_in: std::cell::Cell<bool>,
}

impl Outside for Recorded<'_> {
    fn value(&self, kind: &str, name: &str) -> Result<String, String> {
        if kind == "conn" {
            // Stays for the messages' templates: its own keys are known to the bridge.
            return Ok(format!("${{conn:{name}}}"));
        }
        let value = self.outside.value(kind, name)?;
        self.values.borrow_mut().push(value.clone());
        Ok(value)
    }

    fn stand_in(&self, kind: &str, name: &str) -> Option<String> {
        let name = self.outside.stand_in(kind, name)?;
        self.stood_in.set(true);
        Some(name)
    }
}
