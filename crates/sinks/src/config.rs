//! One `[[sinks]]` table of a rule file, as written. What the keys mean together is decided by
//! [`SinkConfig::check`](crate::plan), which makes a [`crate::SinkPlan`] of it.

pub mod connector;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::secret::Secret;
use crate::units::{Size, Span};

/// The keys of one `[[sinks]]` table; which of them may stand together depends on the sink's type.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "Sink", extend("oneOf" = [{ "required": ["type"] }, { "required": ["connector"] }])))]
pub struct SinkConfig {
    /// The sink's name in metrics, dead letters and tests; without one, its type.
    pub id: Option<String>,
    /// `postgres`, `sqlite`, `http`, `republish`, `console` or `file`; a sink has this or `connector`.
    #[serde(rename = "type")]
    pub kind: Option<Kind>,
    /// The name of a file in `connectors/`.
    pub connector: Option<String>,
    /// Whether the sink takes rows (default true).
    pub enabled: Option<bool>,
    /// How rows are put together.
    pub batch: Option<BatchConfig>,
    /// How much may wait.
    pub buffer: Option<BufferConfig>,
    /// When a failed batch is tried again.
    pub retry: Option<RetryConfig>,
    /// What a template place without a value becomes: `fail` (default), `empty` or `text`.
    pub undefined: Option<Undefined>,

    /// SQL: the table, `name` or `schema.name`.
    pub table: Option<String>,
    /// SQL: column = row field. CSV files: the list of columns.
    pub columns: Option<Columns>,
    /// SQL: what happens when a row of that key is there.
    pub on_conflict: Option<OnConflict>,
    /// SQL: what a row without the field gives.
    pub missing: Option<Missing>,
    /// SQL: whether the table is made.
    pub create_table: Option<CreateTable>,
    /// SQL: an own statement with `:name` places.
    pub sql: Option<String>,
    /// SQL: `exactly_once` (default) keeps weir's position in a table of the database; `at_least_once` touches no other table than yours.
    pub delivery: Option<Delivery>,
    /// SQL: the column, or the place of `sql`, for an id of each row that stays the same over retries and restarts.
    pub message_id: Option<String>,

    /// HTTP: the method, POST (default), PUT, PATCH, GET or DELETE.
    pub method: Option<String>,
    /// HTTP: the URL, a template. `type = "postgres"`: the database's URL.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Template>"))]
    pub url: Option<String>,
    /// HTTP: headers, templates.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<BTreeMap<String, crate::schema::Template>>")
    )]
    pub headers: Option<BTreeMap<String, String>>,
    /// HTTP: how requests are signed.
    pub auth: Option<Auth>,
    /// HTTP: the body, a template.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Template>"))]
    pub body: Option<String>,
    /// HTTP: how long one request may take.
    pub timeout: Option<Span>,
    /// HTTP: which statuses mean delivered, like `["200-299"]`.
    pub ok_status: Option<Vec<StatusRange>>,

    /// MQTT and republish: the topic, a template.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Template>"))]
    pub topic: Option<String>,
    /// MQTT and republish: 0 (default), 1 or 2.
    #[cfg_attr(feature = "schema", schemars(range(max = 2)))]
    pub qos: Option<u8>,
    /// MQTT and republish: whether the message is retained.
    pub retain: Option<bool>,
    /// MQTT and republish: the payload, a template.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Template>"))]
    pub payload: Option<String>,
    /// MQTT and republish: the content type; with a JSON one, places are JSON.
    pub content_type: Option<String>,
    /// Republish: how often one message may be republished.
    pub max_hops: Option<u32>,
    /// MQTT and republish: whether the message names the brokers that it has crossed, so that none takes it twice.
    pub origin: Option<OriginMark>,

    /// Console: lines a second.
    pub max_per_second: Option<u32>,

    /// File: where, a template below `data_dir/files`. `type = "sqlite"`: the database file.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Template>"))]
    pub path: Option<String>,
    /// File: `ndjson` (default) or `csv`.
    pub format: Option<FileFormat>,
    /// File: when a new file is begun.
    pub rotate: Option<Rotate>,
}

/// What a sink without a connector file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Rows in Postgres.
    Postgres,
    /// Rows in SQLite.
    Sqlite,
    /// Requests to a web server.
    Http,
    /// Messages to another broker.
    // Not of its own in a rule: it needs a connector file, and `check` says so.
    #[cfg_attr(feature = "schema", schemars(skip))]
    Mqtt,
    /// Messages to this broker.
    Republish,
    /// Lines on standard output.
    Console,
    /// Lines in files.
    File,
}

impl Kind {
    /// The name in files and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Http => "http",
            Self::Mqtt => "mqtt",
            Self::Republish => "republish",
            Self::Console => "console",
            Self::File => "file",
        }
    }
}

/// `batch = { max_rows = 500, max_bytes = "1MiB", max_wait = "50ms" }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// At most so many rows.
    pub max_rows: Option<usize>,
    /// At most so many bytes.
    pub max_bytes: Option<Size>,
    /// How long the first row waits for others.
    pub max_wait: Option<Span>,
    /// HTTP: how rows share a body.
    pub format: Option<BatchFormat>,
}

/// How the rows of one HTTP request are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BatchFormat {
    /// One row a request.
    Single,
    /// `[row,row]`.
    JsonArray,
    /// One row a line.
    Ndjson,
}

/// `buffer = { kind = "memory", max_bytes = "64MiB", when_full = "block" }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BufferConfig {
    /// Where rows wait.
    pub kind: Option<BufferKind>,
    /// At most so many bytes.
    pub max_bytes: Option<Size>,
    /// At most so many rows.
    pub max_rows: Option<usize>,
    /// What happens to the next row.
    pub when_full: Option<crate::plan::WhenFull>,
}

/// Where rows wait for delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BufferKind {
    /// In the broker's store.
    Disk,
    /// In memory: a restart loses what waits.
    Memory,
}

/// `retry = { initial = "200ms", max = "30s", give_up = "10m" }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RetryConfig {
    /// The shortest wait.
    pub initial: Option<Span>,
    /// The longest wait.
    pub max: Option<Span>,
    /// After so long a row goes to the dead letters; without it, never.
    pub give_up: Option<Span>,
}

/// What a template place without a value becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Undefined {
    /// An error: the row goes to the dead letters.
    #[default]
    Fail,
    /// Nothing.
    Empty,
    /// The text `undefined`.
    Text,
}

/// `columns`: a table for SQL, a list for CSV.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Columns {
    /// Column = row field.
    Mapped(BTreeMap<String, String>),
    /// The columns, in order.
    Listed(Vec<String>),
}

/// `on_conflict = { keys = [...], do = "update", set = [...] }`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OnConflict {
    /// The columns of a unique constraint.
    pub keys: Vec<String>,
    /// What to do.
    #[serde(rename = "do", default)]
    pub action: ConflictAction,
    /// Which columns an update sets; without it, all but the keys.
    pub set: Option<Vec<String>>,
}

/// How often a row may come into a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Once: the rows and their position in `weir_delivery_positions` are one transaction.
    #[default]
    ExactlyOnce,
    /// Once, and again after a lost answer or a crash; weir has no table there.
    AtLeastOnce,
}

/// What happens when a row of that key is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum ConflictAction {
    /// The row is refused.
    #[default]
    Error,
    /// The old row stays.
    Ignore,
    /// The old row is changed.
    Update,
}

/// What a row without a field gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// NULL.
    #[default]
    Null,
    /// A dead letter.
    Reject,
}

/// Whether a table is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum CreateTable {
    /// No: the table is the operator's.
    #[default]
    Never,
    /// When it is not there, with types taken from the first rows.
    IfMissing,
}

/// `auth = { kind = "bearer", token = "…" }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Bearer {
        /// The token.
        token: Secret,
    },
    /// The lower-case hexadecimal HMAC-SHA256 of the body in a header; with a `timestamp_header` of the time, a dot and the
    /// body, so that a receiver can refuse what somebody sends once more much later.
    HmacSha256 {
        /// The key.
        key: Secret,
        /// The header (default `x-signature`).
        header: Option<String>,
        /// The header that carries the time of the attempt, in seconds since the Unix epoch; none unless set.
        timestamp_header: Option<String>,
    },
}

/// `"200-299"`, `"204"` or `204`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(pub std::ops::RangeInclusive<u16>);

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u16),
            Text(String),
        }
        let range = match Written::deserialize(deserializer)? {
            Written::Number(status) => status..=status,
            Written::Text(text) => {
                let (from, to) = text.split_once('-').unwrap_or((&text, &text));
                let read = |part: &str| {
                    part.trim().parse::<u16>().map_err(|_| {
                        serde::de::Error::custom(format!(
                            "`{text}` is no status; write \"200-299\" or \"204\""
                        ))
                    })
                };
                read(from)?..=read(to)?
            }
        };
        if range.is_empty() || *range.start() < 100 || *range.end() > 599 {
            return Err(serde::de::Error::custom(
                "statuses lie between 100 and 599, lower first",
            ));
        }
        Ok(Self(range))
    }
}

/// What a message that a rule makes tells of where it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum OriginMark {
    /// The brokers that what the rule read has crossed, and this one; and the bridge over which it came.
    #[default]
    Keep,
    /// Nothing: it may come back.
    Clear,
}

/// The form of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Comma-separated values with a heading.
    Csv,
}

/// `rotate = { max_bytes = "100MiB", keep = 7 }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// A file of that size is set aside.
    pub max_bytes: Option<Size>,
    /// How many files that were set aside are kept.
    pub keep: Option<usize>,
}
