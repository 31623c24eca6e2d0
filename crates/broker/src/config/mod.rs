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

use crate::broker::ClientIdentity;
use crate::problem::{Problem, Source, shown};
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
    pub fn broker_settings(&self) -> crate::broker::BrokerSettings {
        crate::broker::BrokerSettings {
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
mod tests {
    use super::*;

    fn load(text: &str, sets: &[&str]) -> Result<Config, Vec<Problem>> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let source = Source::new("weir.toml", text);
        Config::from_parts(Some(&source), overrides(std::iter::empty(), &sets).unwrap())
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.mqtt.max_packet_size.bytes(), 1024 * 1024);
        assert_eq!(config.listeners()[0].address().unwrap().port(), 1883);
        assert_eq!(config.rules.policy, Policy::PerFile);
    }

    #[test]
    fn a_set_wins_over_the_environment_and_the_environment_over_the_file() {
        let env = [
            ("WEIR_MQTT__MAX_QUEUED".to_owned(), "7".to_owned()),
            ("WEIR_MQTT__MAX_INFLIGHT".to_owned(), "8".to_owned()),
        ];
        let over = overrides(env.into_iter(), &["mqtt.max_inflight=9".to_owned()]).unwrap();
        let source = Source::new(
            "weir.toml",
            "[mqtt]\nmax_queued = 1\nmax_inflight = 2\nmax_topic_levels = 3\n",
        );
        let config = Config::from_parts(Some(&source), over).unwrap();
        assert_eq!(
            (
                config.mqtt.max_queued,
                config.mqtt.max_inflight,
                config.mqtt.max_topic_levels
            ),
            (7, 9, 3)
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_key_that_was_meant() {
        let problems = load("[mqtt]\nmax_infligt = 2\n", &[]).unwrap_err();
        assert_eq!((problems[0].code.as_str(), problems[0].line), ("E1002", 2));
        assert_eq!(problems[0].label, "did you mean `max_inflight`?");
    }

    #[test]
    fn an_unknown_environment_key_is_an_error_too() {
        let over = overrides(
            [("WEIR_MQTT__MAX_QUEUE".to_owned(), "7".to_owned())].into_iter(),
            &[],
        )
        .unwrap();
        assert_eq!(Config::from_parts(None, over).unwrap_err()[0].code, "E1002");
    }

    #[test]
    fn a_size_needs_its_unit() {
        let problems = load("[mqtt]\nmax_packet_size = 100\n", &[]).unwrap_err();
        assert_eq!(problems[0].line, 2);
        assert!(
            problems[0].message.contains("unit"),
            "{}",
            problems[0].message
        );
    }

    #[test]
    fn a_capture_of_what_is_no_topic_filter_is_refused_with_its_place() {
        for (set, words) in [
            (
                r#"capture.filters=["a/#", "a#"]"#,
                "capture.filters[1] `a#`",
            ),
            (r#"capture.filters=["$share/g/a"]"#, "shared subscription"),
            (r#"capture.max_bytes="1KiB""#, "capture.max_bytes"),
            (r#"capture.max_age="1ms""#, "capture.max_age"),
        ] {
            let problems = load("", &[set]).unwrap_err();
            assert!(
                problems[0].message.contains(words),
                "{}",
                problems[0].message
            );
        }
        let config = load("", &[r#"capture.filters=["a/+", "$SYS/#"]"#]).unwrap();
        assert_eq!(config.capture.topic_filters().len(), 2);
    }

    #[test]
    fn a_listener_on_the_network_needs_a_login_or_an_explicit_yes() {
        let open = "[[listeners]]\nbind = '0.0.0.0:1883'\n";
        assert_eq!(load(open, &[]).unwrap_err()[0].code, "E1006");
        assert!(load(open, &["auth.allow_anonymous=true"]).is_ok());
    }

    /// What is said of one listener.
    fn refusal(listener: &str) -> Vec<String> {
        let problems = load(&format!("[[listeners]]\n{listener}"), &[]).unwrap_err();
        problems
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    }

    #[test]
    fn devices_sign_the_client_id_that_they_send() {
        for identity in ["username", "cert_cn"] {
            let text =
                format!("[mqtt]\nidentity = '{identity}'\n[auth.devices]\nfile = 'devices.toml'\n");
            let problems = load(&text, &[]).unwrap_err();
            assert_eq!(problems[0].code, "E1006");
            assert!(problems[0].message.starts_with("mqtt.identity"), "{text}");
        }
        let own = "[mqtt]\nidentity = 'clientid'\n[auth.devices]\nfile = 'devices.toml'\n";
        assert!(
            load(own, &[])
                .unwrap()
                .broker_settings()
                .reserve_device_names
        );
        assert!(
            !load("", &[])
                .unwrap()
                .broker_settings()
                .reserve_device_names
        );
    }

    #[test]
    fn a_proxy_on_loopback_lets_the_network_in_and_a_certificate_keeps_it_out() {
        let open = refusal("bind = '127.0.0.1:1883'\nproxy_protocol = true\n");
        assert!(open[0].contains("nobody has to log in"), "{open:?}");
        let tls = "kind = 'tls'\nbind = '0.0.0.0:8883'\ncert = 'c'\nkey = 'k'\n";
        assert_eq!(refusal(tls).len(), 1);
        let required = format!("[[listeners]]\n{tls}client_ca = 'ca'\nclient_auth = 'require'\n");
        let config = load(&required, &[]).unwrap();
        assert!(config.listeners()[0].admits_anonymous(&config.auth));
        assert!(load("[[listeners]]\nkind = 'unix'\nbind = './s'\n", &[]).is_ok());
        let own = "[[listeners]]\nbind = '0.0.0.0:1'\nallow_anonymous = true\n";
        assert!(load(own, &[]).is_ok());
    }

    #[test]
    fn a_key_that_does_not_fit_its_listener_is_an_error() {
        for (listener, message) in [
            (
                "bind = './sock'",
                "listeners[0].bind is `./sock` for kind = \"tcp\"",
            ),
            ("kind = 'unix'\nbind = '127.0.0.1:1'", "listeners[0].bind"),
            (
                "bind = '127.0.0.1:1'\ncert = 'c'",
                "listeners[0].cert is set",
            ),
            (
                "kind = 'tls'\nbind = '127.0.0.1:1'\ncert = 'c'",
                "listeners[0].key is missing",
            ),
            (
                "kind = 'tls'\nbind = '127.0.0.1:1'\ncert = 'c'\nkey = 'k'\ncrl = 'r'",
                "listeners[0].client_auth",
            ),
            (
                "bind = '127.0.0.1:1'\nidentity = 'cn'",
                "listeners[0].identity",
            ),
            ("bind = '127.0.0.1:1'\npath = '/mqtt'", "listeners[0].path"),
            (
                "kind = 'ws'\nbind = '127.0.0.1:1'\npath = 'mqtt'",
                "listeners[0].path",
            ),
            ("bind = '127.0.0.1:1'\nmode = '0660'", "listeners[0].mode"),
            (
                "bind = '127.0.0.1:1'\ntrusted_proxies = ['::1']",
                "listeners[0].trusted_proxies",
            ),
            ("bind = 'here'", "`here` is not an address"),
            (
                "kind = 'unix'\nbind = './s'\nmode = '999'",
                "`999` is not a file's mode",
            ),
            (
                "kind = 'quic'\nbind = '127.0.0.1:1'",
                "`quic` is not one of: tcp, tls, ws, wss, unix",
            ),
        ] {
            let said = refusal(listener);
            assert!(said[0].contains(message), "{listener}: {said:?}");
        }
    }

    #[test]
    fn a_listener_promises_at_most_what_the_broker_does() {
        let listener = "durability = \"os\"\n[[listeners]]\nbind = '127.0.0.1:1'\ndurability = ";
        let with = |durability: &str| load(&format!("{listener}'{durability}'\n"), &[]);
        assert!(with("memory").is_ok() && with("os").is_ok());
        let problems = with("fsync").unwrap_err();
        assert!(
            problems[0]
                .message
                .contains("listeners[0].durability = \"fsync\" is more than"),
            "{}",
            problems[0].message
        );
    }

    #[test]
    fn lists_are_replaced_whole() {
        let config = load(
            "[[listeners]]\nbind = '127.0.0.1:1'\n",
            &[r#"listeners=[{bind="127.0.0.1:2"}]"#],
        )
        .unwrap();
        assert_eq!(
            config
                .listeners()
                .iter()
                .map(|l| l.address().unwrap().port())
                .collect::<Vec<_>>(),
            [2]
        );
    }

    /// The keys of a table, as the error for an unknown one lists them.
    fn keys_of(section: &str) -> Vec<String> {
        let text = match section {
            "" => "no_such_key = 1\n".to_owned(),
            "listeners" => "[[listeners]]\nno_such_key = 1\n".to_owned(),
            section => format!("[{section}]\nno_such_key = 1\n"),
        };
        let help = load(&text, &[]).unwrap_err()[0].help.clone().unwrap();
        help.trim_start_matches("known keys: ")
            .split(", ")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_example_file_loads_and_names_every_key() {
        let text = include_str!("../../../../weir.toml");
        load(text, &[]).unwrap();
        for section in [
            "",
            "log",
            "listeners",
            "mqtt",
            "auth",
            "auth.x509",
            "auth.jwt",
            "auth.devices",
            "auth.postgres",
            "auth.http",
            "limits",
            "capture",
            "http",
            "rules",
        ] {
            for key in keys_of(section) {
                let named = text.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.starts_with(&format!("{key} ="))
                        || line.starts_with(&format!("[{key}]"))
                        || line.starts_with(&format!("[[{key}]]"))
                        || line.starts_with(&format!("[{section}.{key}]"))
                });
                assert!(named, "weir.toml does not show `{key}` of [{section}]");
            }
        }
    }
}
