//! `weir.toml`, the environment and `--set`, merged into one checked configuration (user-experience §3).
//!
//! Precedence, low to high: built in, file, `WEIR_SECTION__KEY`, `--set section.key=value`. An unknown key is an
//! error wherever it stands.

mod auth;
mod capture;
mod limits;
mod listeners;
mod mqtt;
#[cfg(test)]
mod schema;
pub mod toml_file;
mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use auth::{Auth, DeviceScheme, Devices, DevicesPostgres, Jwt, Link, Postgres, TimeCheck};
pub use capture::Capture;
pub use limits::Limits;
pub use listeners::{Bind, FileMode, Listener, MinTls, Sni};
pub use mqtt::Mqtt;
pub use units::{ByteSize, Span};

use crate::problem::{Problem, Source, shown};
use crate::settings::{BrokerSettings, ClientIdentity};
use toml_file::{Process, TomlFile};

/// The whole configuration of a broker.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sessions, dead letters and last good rules; `./data` unless set.
    pub data_dir: Option<PathBuf>,
    /// When a client hears that its message is kept.
    pub durability: Durable,
    /// What is kept of sessions and messages.
    pub store: Store,
    /// What is kept of rows that their sinks refuse.
    pub dead_letter: DeadLetter,
    /// Messages that are kept for a while, for `weir replay`.
    pub capture: Capture,
    /// The name that rules see as `node` and that bridges use in client ids.
    pub node: Option<String>,
    /// What is logged and how.
    pub log: Log,
    /// Where MQTT clients connect; one TCP listener on loopback unless set.
    pub listeners: Option<Vec<Listener>>,
    /// Limits of the protocol.
    pub mqtt: Mqtt,
    /// Who may connect.
    pub auth: Auth,
    /// How much clients may send, and how fast they may come.
    pub limits: Limits,
    /// Health, metrics and reload over HTTP.
    pub http: Http,
    /// Rules, connectors and user functions.
    pub rules: Rules,
}

/// What must outlive a crash before it is acknowledged: sessions, what is owed to them, retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Durable {
    /// It is on stable storage.
    #[default]
    Fsync,
    /// The system has it: a crash of weir loses nothing, a loss of power may.
    Os,
    /// Nothing is kept: it ends with the process.
    Memory,
}

impl From<Durable> for crate::store::Durability {
    fn from(durable: Durable) -> Self {
        match durable {
            Durable::Fsync => Self::Fsync,
            Durable::Os => Self::Os,
            Durable::Memory => Self::Memory,
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// So much of the disk is kept back: when the disk is full, what was accepted before is written there, and clients
    /// that publish what would have to be kept wait, or are told 0x97. 0 keeps nothing back.
    pub reserve: ByteSize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            reserve: ByteSize::mib(16),
        }
    }
}

/// `[dead_letter]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetter {
    /// The most bytes of dead letters that each sink keeps. When they are reached its `when_full` says what happens: `block`
    /// stops the sink, and it waits; `drop_newest` drops the rows that are refused; `drop_oldest` drops the oldest letters.
    pub max_bytes: ByteSize,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(256),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level, or levels by target: `info,weir::reload=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Always text.
    Text,
    /// Always JSON.
    Json,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port; port 0 takes a free one. Loopback only in this version.
    pub bind: SocketAddr,
    /// Where MQTT over WebSocket is on this port; nowhere unless set.
    pub mqtt_path: Option<String>,
}

/// `[rules]`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// One rule a file, below this folder.
    pub dir: PathBuf,
    /// One connector a file.
    pub connectors_dir: PathBuf,
    /// User functions.
    pub udf_dir: PathBuf,
    /// Reload when a file changes.
    pub watch: bool,
    /// What a bad file does to the others.
    pub policy: Policy,
    /// What a bad file does at start.
    pub start_policy: StartPolicy,
    /// The most rules.
    pub max_rules: usize,
    /// IANA name, offset or `system`, for the date functions.
    pub timezone: String,
}

/// What a bad file does to the others at a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// It is refused alone.
    PerFile,
    /// Nothing is taken over.
    AllOrNothing,
}

/// What a bad file does at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum StartPolicy {
    /// Its last good version runs.
    LastGood,
    /// It is left out.
    SkipBad,
    /// The broker does not start.
    Strict,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 18083)),
            mqtt_path: None,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            dir: "rules".into(),
            connectors_dir: "connectors".into(),
            udf_dir: "udf".into(),
            watch: true,
            policy: Policy::PerFile,
            start_policy: StartPolicy::LastGood,
            max_rules: 10_000,
            timezone: "system".to_owned(),
        }
    }
}

/// A configuration with what it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file, when there was one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads `file` (or `./weir.toml` where it exists), the environment and `--set` pairs.
    ///
    /// # Errors
    /// Every problem that was found, each with its place.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Loaded, Vec<Problem>> {
        let file = match file {
            Some(path) => Some(path.to_path_buf()),
            None => Some(PathBuf::from("weir.toml")).filter(|path| path.exists()),
        };
        let overrides = overrides(std::env::vars(), sets)?;
        let source = match &file {
            Some(path) => Some(read(path)?),
            None => None,
        };
        let config = Self::from_parts(source.as_ref(), overrides)?;
        Ok(Loaded { config, file })
    }

    fn from_parts(source: Option<&Source>, overrides: toml::Table) -> Result<Self, Vec<Problem>> {
        let mut merged = toml::Table::new();
        if let Some(source) = source {
            let mut problems = Vec::new();
            let mut parsed = TomlFile::parse(source)?;
            parsed.fill_in(&Process, &mut problems);
            // Read once by itself, so that an error points into the file.
            if let Err(problem) = parsed.read::<Self>() {
                problems.push(*problem);
            }
            if !problems.is_empty() {
                return Err(problems);
            }
            merged = parsed.read().map_err(|problem| vec![*problem])?;
        }
        merge(&mut merged, overrides);
        let config: Self = toml::Value::Table(merged)
            .try_into()
            .map_err(|error: toml::de::Error| vec![from_override(&error)])?;
        let problems = config.check(source.map_or(Path::new("weir.toml"), |source| &source.path));
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }

    fn check(&self, path: &Path) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |message: String, help: &str| {
            problems.push(Problem::whole(path, "E1006", message).help(help));
        };
        self.mqtt.check(&mut refuse);
        let listeners = self.listeners();
        let own = crate::store::Durability::from(self.durability);
        for (at, listener) in listeners.iter().enumerate() {
            listener.check(at, &mut refuse);
            let wanted = listener.durability.map(crate::store::Durability::from);
            if let Some(wanted) = wanted.filter(|wanted| *wanted > own) {
                refuse(
                    format!(
                        "listeners[{at}].durability = \"{}\" is more than durability = \"{}\" of the broker",
                        wanted.name(),
                        own.name()
                    ),
                    "a listener can only promise less: raise `durability` at the top, and lower it at the other listeners",
                );
            }
        }
        self.auth.check(&listeners, &mut refuse);
        if self.auth.devices.is_some() && self.mqtt.identity != ClientIdentity::ClientId {
            refuse(
                "mqtt.identity puts another name in the place of the client id, which devices of [auth.devices] sign"
                    .to_owned(),
                "leave mqtt.identity out: devices are known by scheme, tenant key and name whatever it says",
            );
        }
        if self
            .http
            .mqtt_path
            .as_ref()
            .is_some_and(|path| !path.starts_with('/'))
        {
            refuse(
                "http.mqtt_path does not begin with `/`".to_owned(),
                "for example \"/mqtt\"",
            );
        }
        self.limits.check(&mut refuse);
        self.capture.check(&mut refuse);
        if !self.http.bind.ip().is_loopback() {
            refuse(
                format!("http.bind {} is not a loopback address", self.http.bind),
                "the HTTP side has no access control in this version: bind it to 127.0.0.1",
            );
        }
        problems
    }

    /// The limits as the MQTT server takes them.
    pub fn broker_settings(&self) -> BrokerSettings {
        BrokerSettings {
            limits: self.limits.settings(),
            reserve_device_names: self.auth.devices.is_some(),
            ..self.mqtt.settings()
        }
    }

    /// Where MQTT clients connect.
    pub fn listeners(&self) -> Vec<Listener> {
        self.listeners
            .clone()
            .unwrap_or_else(|| vec![Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 1883)))])
    }

    /// What is wrong with the files that listeners need. Read by the broker at its start and by `weir check`; other
    /// commands may not be allowed to read a private key, and need not.
    pub fn check_files(&self) -> Vec<Problem> {
        self.listeners()
            .iter()
            .enumerate()
            .filter_map(|(at, listener)| listener.tls(at)?.load().err())
            .map(|problem| *problem)
            .collect()
    }

    /// The folder for what must be kept.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "data".into())
    }

    /// This broker's name.
    pub fn node(&self) -> String {
        self.node.clone().unwrap_or_else(|| "weir".to_owned())
    }
}

/// Reads a file as a source.
///
/// # Errors
/// E1000 when it cannot be read, with the reason.
pub fn read(path: &Path) -> Result<Source, Vec<Problem>> {
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Source::new(shown(path), text)),
            Err(error) => Err(vec![
                Problem::whole(
                    shown(path),
                    "E1001",
                    format!(
                        "not UTF-8 text: byte {} is not part of a character",
                        error.utf8_error().valid_up_to()
                    ),
                )
                .help("save it as UTF-8"),
            ]),
        },
        Err(error) => {
            let problem = Problem::whole(shown(path), "E1000", format!("cannot be read: {error}"));
            Err(vec![match error.kind() {
                std::io::ErrorKind::NotFound => {
                    problem.help("correct the name: a relative one starts where weir was started")
                }
                std::io::ErrorKind::IsADirectory => problem.help("name a file in it"),
                std::io::ErrorKind::PermissionDenied => {
                    problem.help("give the user that weir runs as the right to read it")
                }
                _ => problem,
            }])
        }
    }
}

/// `WEIR_A__B=c` and `--set a.b=c` as one table; `--set` wins.
fn overrides(
    env: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<toml::Table, Vec<Problem>> {
    let mut table = toml::Table::new();
    let mut problems = Vec::new();
    for (name, value) in env {
        if let Some(path) = name
            .strip_prefix("WEIR_")
            .filter(|path| path.contains("__") || is_top_level(path))
        {
            let steps: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            put(&mut table, &steps, literal(&value));
        }
    }
    for set in sets {
        match set.split_once('=') {
            Some((path, value)) if !path.trim().is_empty() => {
                let steps: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
                put(&mut table, &steps, literal(value.trim()));
            }
            _ => problems.push(Problem::whole(
                "--set",
                "E1002",
                format!("`{set}` is not of the form key=value"),
            )),
        }
    }
    if problems.is_empty() {
        Ok(table)
    } else {
        Err(problems)
    }
}

fn is_top_level(name: &str) -> bool {
    matches!(name, "DATA_DIR" | "NODE")
}

/// A value as TOML where it reads as TOML, else as text, so that `--set data_dir=/tmp/x` needs no quotes.
fn literal(text: &str) -> toml::Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn put(table: &mut toml::Table, steps: &[String], value: toml::Value) {
    let Some((first, rest)) = steps.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let below = table
        .entry(first.clone())
        .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if !below.is_table() {
        *below = toml::Value::Table(toml::Table::new());
    }
    if let Some(below) = below.as_table_mut() {
        put(below, rest, value);
    }
}

fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(over)) => merge(below, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn from_override(error: &toml::de::Error) -> Problem {
    let source = Source::new("--set or WEIR_… variable", "");
    let mut problem = toml_file::describe(&source, error, 0..0);
    (problem.line, problem.column) = (0, 0);
    let whole = error.to_string();
    if let Some(place) = whole
        .lines()
        .find_map(|line| line.trim().strip_prefix("in "))
    {
        problem.message = format!("{} in {place}", problem.message);
    }
    problem
}

#[cfg(test)]
mod tests;
