//! A `[[sinks]]` table that was checked: templates parsed, defaults filled in, keys that do not belong refused.
//!
//! Only a plan can be rendered or opened, so nothing is checked a second time.

mod check;

use std::time::Duration;

use serde::Deserialize;
use weir_rules::template::{Place, SqlDialect, SqlTemplate, Template, UndefinedPolicy};

use crate::bridge::plan::BridgePlan;
use crate::bridge::preset::TopicOwner;
use crate::config::connector::ConnectorConfig;
use crate::config::{Auth, BatchFormat, BufferKind, Delivery, FileFormat, Kind, StatusRange};
use crate::table::TablePlan;

/// A sink that can be rendered and opened.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// The id that the file gives, if it does.
    pub id: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Whether it takes rows.
    pub enabled: bool,
    /// The connector that it names.
    pub connector: Option<String>,
    /// The connector of its own, where it names none and needs one.
    pub inline: Option<ConnectorConfig>,
    /// How rows are put together.
    pub batch: BatchLimits,
    /// How much may wait.
    pub buffer: BufferLimits,
    /// When a failed batch is tried again.
    pub retry: RetryPlan,
    /// How often a row may come into a database; other far sides have their own ways.
    pub delivery: Delivery,
    /// What is made of a row.
    pub target: Target,
}

/// How rows are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// At most so many rows.
    pub max_rows: usize,
    /// At most so many bytes, unless one row alone is larger.
    pub max_bytes: usize,
    /// How long the first row waits for others.
    pub max_wait: Duration,
    /// The far side is left in peace until so many wait, however long that takes.
    pub held_back: Option<usize>,
}

impl BatchLimits {
    /// How long the first row waits at most.
    pub(crate) fn patience(&self) -> Duration {
        match self.held_back {
            // Longer than any process lives.
            Some(_) => Duration::from_secs(365 * 24 * 3600),
            None => self.max_wait,
        }
    }
}

/// How much may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// Where rows wait.
    pub kind: BufferKind,
    /// At most so many rows.
    pub max_rows: usize,
    /// At most so many bytes.
    pub max_bytes: usize,
    /// What happens to the next row.
    pub when_full: WhenFull,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Publishers of `QoS` 1 and 2 wait; rows of `QoS` 0 are dropped and counted.
    #[default]
    Block,
    /// The oldest rows make room.
    DropOldest,
    /// The new row is dropped.
    DropNewest,
}

/// When a failed batch is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// The shortest wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// After so long a row goes to the dead letters.
    pub give_up: Option<Duration>,
}

/// What is made of a row.
#[derive(Clone, Debug)]
pub enum Target {
    /// A row of a table.
    Table(TablePlan),
    /// The parameters of the user's own statement.
    Statement(StatementPlan),
    /// A request.
    Http(Box<HttpPlan>),
    /// A message for another broker.
    Mqtt(MessagePlan),
    /// A message that crosses a bridge as it is.
    Bridge,
    /// A message for this broker.
    Republish(MessagePlan),
    /// A line on standard output.
    Console {
        /// Lines a second.
        max_per_second: u32,
    },
    /// A line in a file.
    File(FilePlan),
}

/// The user's own statement.
#[derive(Clone, Debug)]
pub struct StatementPlan {
    /// The statement with its places.
    pub sql: SqlTemplate,
    /// Which database it is for.
    pub dialect: SqlDialect,
    /// What a row without the field gives.
    pub undefined: UndefinedPolicy,
    /// The place that is filled with the row's id.
    pub message_id: Option<String>,
}

/// How a row becomes a request.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: Template,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Template)>,
    /// How requests are signed.
    pub auth: Auth,
    /// The body of one row.
    pub body: Template,
    /// How rows share a body.
    pub format: BatchFormat,
    /// How long one request may take.
    pub timeout: Duration,
    /// What means delivered.
    pub ok_status: Vec<StatusRange>,
    /// What a missing field becomes.
    pub undefined: UndefinedPolicy,
}

/// How a row becomes a message.
#[derive(Clone, Debug)]
pub struct MessagePlan {
    /// The topic.
    pub topic: Template,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// The payload.
    pub payload: Template,
    /// Its type, a property on MQTT 5.
    pub content_type: Option<String>,
    /// How often one message may be republished.
    pub max_hops: u32,
    /// It does not say where it comes from.
    pub clear_origin: bool,
    /// What a missing field becomes.
    pub undefined: UndefinedPolicy,
    /// The product and device that the topic must belong to.
    pub owner: Option<TopicOwner>,
}

/// How a row becomes a line of a file.
#[derive(Clone, Debug)]
pub struct FilePlan {
    /// The path below `data_dir/files`.
    pub path: Template,
    /// The form.
    pub format: FileFormat,
    /// The columns of a CSV file.
    pub columns: Vec<String>,
    /// A file of that size is set aside.
    pub rotate_bytes: Option<u64>,
    /// How many files that were set aside are kept.
    pub keep: usize,
    /// What a missing field becomes.
    pub undefined: UndefinedPolicy,
}

impl SinkPlan {
    /// The queue of a bridge's `out`: rows are made with [`crate::crossing::row`].
    pub fn of_bridge(bridge: &BridgePlan) -> Self {
        Self {
            id: None,
            kind: Kind::Mqtt,
            enabled: true,
            connector: None,
            inline: None,
            batch: BatchLimits {
                max_rows: 2048,
                max_bytes: 4 << 20,
                max_wait: Duration::ZERO,
                held_back: None,
            },
            buffer: bridge.queue.clone(),
            retry: RetryPlan {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(10),
                give_up: None,
            },
            delivery: Delivery::AtLeastOnce,
            target: Target::Bridge,
        }
    }

    /// Whether what it sends over a bridge comes once only where the remote keeps the session.
    pub fn needs_session(&self) -> bool {
        let exact = matches!(&self.target, Target::Mqtt(message) if message.qos == 2);
        exact && self.enabled && self.buffer.kind == BufferKind::Disk
    }

    /// Where in a row the sink reads, each place once; none where it takes whole rows.
    pub fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = match &self.target {
            Target::Table(table) => table.places().cloned().collect(),
            Target::Statement(statement) => statement
                .sql
                .places()
                // No row has it; it is given at delivery.
                .filter(|place| statement.message_id.as_deref() != place.first_key())
                .cloned()
                .collect(),
            Target::Http(http) => std::iter::once(&http.url)
                .chain(std::iter::once(&http.body))
                .chain(http.headers.iter().map(|(_, value)| value))
                .flat_map(Template::places)
                .cloned()
                .collect(),
            Target::Mqtt(message) | Target::Republish(message) => message
                .topic
                .places()
                .chain(message.payload.places())
                .cloned()
                .collect(),
            Target::File(file) => file
                .columns
                .iter()
                .map(|column| Place::field(column))
                .chain(file.path.places().cloned())
                .collect(),
            Target::Console { .. } | Target::Bridge => Vec::new(),
        };
        places.sort_by_cached_key(Place::to_string);
        places.dedup();
        places
    }
}
