//! From the table as written to a plan: every mistake at once, each with its key and its cure.

use std::time::Duration;

use weir_rules::template::{
    SqlDialect, SqlTemplate, Template, TemplateKind, TemplateWarning, UndefinedPolicy,
};

use super::{
    BatchLimits, BufferLimits, FilePlan, HttpPlan, MessagePlan, RetryPlan, SinkPlan, StatementPlan,
    Target,
};
use crate::bridge::plan::BridgePlan;
use crate::bridge::preset::TopicOwner;
use crate::codes;
use crate::config::connector::{
    ConnectorConfig, HttpConnector, PoolConfig, PostgresConnector, SqliteConnector,
};
use crate::config::{
    BatchFormat, BufferKind, Columns, FileFormat, Kind, Missing, OriginMark, SinkConfig,
    StatusRange, Undefined,
};
use crate::error::ConfigError;
use crate::secret::Secret;
use crate::table::TablePlan;
use crate::units::Span;

impl SinkConfig {
    /// Checks the table against the connector that it names: the plan and warnings, or every mistake.
    ///
    /// # Errors
    /// Each mistake names its key and what would cure it.
    pub fn check(
        &self,
        connector: Option<&ConnectorConfig>,
    ) -> Result<(SinkPlan, Vec<ConfigError>), Vec<ConfigError>> {
        let kind = self.resolve_kind(connector).map_err(|error| vec![error])?;
        let mut check = Check {
            config: self,
            kind,
            connector,
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        check.foreign_keys();
        let target = check.target();
        let inline = check.inline_connector();
        check.connector_of_its_own(inline.as_ref());
        let plan = SinkPlan {
            id: self.id.clone(),
            kind,
            enabled: self.enabled.unwrap_or(true),
            connector: self.connector.clone(),
            inline,
            batch: check.batch(),
            buffer: check.buffer(),
            retry: check.retry(),
            delivery: self.delivery.unwrap_or_default(),
            target: match target {
                Some(target) if check.errors.is_empty() => target,
                _ => return Err(check.errors),
            },
        };
        if check.errors.is_empty() {
            Ok((plan, check.warnings))
        } else {
            Err(check.errors)
        }
    }

    fn resolve_kind(&self, connector: Option<&ConnectorConfig>) -> Result<Kind, ConfigError> {
        match (self.kind, &self.connector) {
            (Some(_), Some(_)) => Err(ConfigError::new(codes::KIND, "type", "`type` and `connector` exclude each other")
                .help("keep `connector`; its file says the type")),
            (None, None) => Err(ConfigError::new(codes::KIND, "type", "the sink says neither `connector` nor `type`")
                .help("`connector = \"NAME\"` for connectors/NAME.toml, or `type = \"http\"` and the like")),
            (Some(Kind::Mqtt), None) => {
                Err(ConfigError::new(codes::KEY_MISSING, "connector", "an mqtt sink needs a connector file")
                    .help("create connectors/NAME.toml with type = \"mqtt\" and name it with `connector`"))
            }
            (Some(kind), None) => Ok(kind),
            (None, Some(name)) => connector.map(ConnectorConfig::kind).ok_or_else(|| {
                ConfigError::new(codes::UNKNOWN_CONNECTOR, "connector", format!("there is no connector `{name}`"))
                    .help(format!("create connectors/{name}.toml"))
            }),
        }
    }
}

/// One pass over a table, gathering mistakes.
struct Check<'a> {
    config: &'a SinkConfig,
    kind: Kind,
    connector: Option<&'a ConnectorConfig>,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

const SQL: &[Kind] = &[Kind::Postgres, Kind::Sqlite];
const MESSAGES: &[Kind] = &[Kind::Mqtt, Kind::Republish];

impl Check<'_> {
    fn error(&mut self, code: &'static str, key: &str, message: impl Into<String>) {
        self.errors.push(ConfigError::new(code, key, message));
    }

    fn missing(&mut self, key: &str, help: &str) {
        let message = format!("a {} sink needs `{key}`", self.kind.name());
        self.errors
            .push(ConfigError::new(codes::KEY_MISSING, key, message).help(help));
    }

    fn bad_message_id(&mut self, message: &str) {
        let error = ConfigError::new(codes::BAD_VALUE, "message_id", message);
        let help = "a column for texts or a uuid; of `sql` a place, as in `VALUES (:message_id)`";
        self.errors.push(error.help(help));
    }

    /// Keys that another type of sink would take.
    fn foreign_keys(&mut self) {
        let c = self.config;
        let inline = c.connector.is_none();
        let keys: [(&str, bool, &[Kind]); 27] = [
            ("table", c.table.is_some(), SQL),
            (
                "columns",
                c.columns.is_some(),
                &[Kind::Postgres, Kind::Sqlite, Kind::File],
            ),
            ("on_conflict", c.on_conflict.is_some(), SQL),
            ("missing", c.missing.is_some(), SQL),
            ("create_table", c.create_table.is_some(), SQL),
            ("sql", c.sql.is_some(), SQL),
            ("delivery", c.delivery.is_some(), SQL),
            ("message_id", c.message_id.is_some(), SQL),
            ("method", c.method.is_some(), &[Kind::Http]),
            (
                "url",
                c.url.is_some(),
                if inline {
                    &[Kind::Http, Kind::Postgres]
                } else {
                    &[Kind::Http]
                },
            ),
            ("headers", c.headers.is_some(), &[Kind::Http]),
            ("auth", c.auth.is_some(), &[Kind::Http]),
            ("body", c.body.is_some(), &[Kind::Http]),
            ("timeout", c.timeout.is_some(), &[Kind::Http]),
            ("ok_status", c.ok_status.is_some(), &[Kind::Http]),
            ("topic", c.topic.is_some(), MESSAGES),
            ("qos", c.qos.is_some(), MESSAGES),
            ("retain", c.retain.is_some(), MESSAGES),
            ("payload", c.payload.is_some(), MESSAGES),
            ("content_type", c.content_type.is_some(), MESSAGES),
            ("max_hops", c.max_hops.is_some(), &[Kind::Republish]),
            ("origin", c.origin.is_some(), MESSAGES),
            (
                "max_per_second",
                c.max_per_second.is_some(),
                &[Kind::Console],
            ),
            (
                "path",
                c.path.is_some(),
                if inline {
                    &[Kind::File, Kind::Sqlite]
                } else {
                    &[Kind::File]
                },
            ),
            ("format", c.format.is_some(), &[Kind::File]),
            ("rotate", c.rotate.is_some(), &[Kind::File]),
            (
                "batch.format",
                c.batch.as_ref().is_some_and(|batch| batch.format.is_some()),
                &[Kind::Http],
            ),
        ];
        for (key, given, kinds) in keys {
            if given && !kinds.contains(&self.kind) {
                let takers: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let message = format!("a {} sink takes no `{key}`", self.kind.name());
                self.errors.push(
                    ConfigError::new(codes::KEY_NOT_FOR_TYPE, key, message)
                        .help(format!("it belongs to {}", takers.join(", "))),
                );
            }
        }
    }

    fn target(&mut self) -> Option<Target> {
        match self.kind {
            Kind::Postgres => self.sql_target(SqlDialect::Postgres),
            Kind::Sqlite => self.sql_target(SqlDialect::Sqlite),
            Kind::Http => self.http().map(|plan| Target::Http(Box::new(plan))),
            Kind::Mqtt => self.message().map(Target::Mqtt),
            Kind::Republish => self.message().map(Target::Republish),
            Kind::Console => Some(Target::Console {
                max_per_second: self.config.max_per_second.unwrap_or(u32::MAX),
            }),
            Kind::File => self.file().map(Target::File),
        }
    }

    fn sql_target(&mut self, dialect: SqlDialect) -> Option<Target> {
        let c = self.config;
        if let Some(name) = &c.message_id
            && (name.is_empty() || name.contains('\0'))
        {
            self.bad_message_id("this is no name of a column");
        }
        match (&c.sql, &c.table) {
            (Some(_), Some(_)) => {
                self.error(
                    codes::KEY_NOT_FOR_TYPE,
                    "sql",
                    "`sql` and `table` exclude each other",
                );
                None
            }
            (None, None) => {
                self.missing(
                    "table",
                    "`table = \"NAME\"`, or `sql` with an own statement",
                );
                None
            }
            (Some(sql), None) => {
                for (key, given) in [
                    ("columns", c.columns.is_some()),
                    ("on_conflict", c.on_conflict.is_some()),
                    ("create_table", c.create_table.is_some()),
                ] {
                    if given {
                        self.error(
                            codes::KEY_NOT_FOR_TYPE,
                            key,
                            format!("`{key}` does nothing beside `sql`"),
                        );
                    }
                }
                self.statement(sql, dialect)
            }
            (None, Some(table)) => match TablePlan::check(c, table, dialect) {
                Ok(plan) => Some(Target::Table(plan)),
                Err(errors) => {
                    self.errors.extend(errors);
                    None
                }
            },
        }
    }

    fn statement(&mut self, sql: &str, dialect: SqlDialect) -> Option<Target> {
        let sql = sql.trim().trim_end_matches(';').trim_end();
        if sql.is_empty() {
            self.error(codes::BAD_VALUE, "sql", "the statement is empty");
            return None;
        }
        let (template, warnings) = SqlTemplate::parse(sql, dialect);
        self.template_warnings("sql", warnings);
        if let Some(name) = &self.config.message_id
            && !template
                .places()
                .any(|place| place.first_key() == Some(name.as_str()))
        {
            self.bad_message_id(&format!("the statement has no place `:{name}`"));
        }
        let undefined = match self.config.missing {
            Some(Missing::Reject) => UndefinedPolicy::Fail,
            Some(Missing::Null) | None => UndefinedPolicy::Empty,
        };
        Some(Target::Statement(StatementPlan {
            sql: template,
            dialect,
            undefined,
            message_id: self.config.message_id.clone(),
        }))
    }

    fn http(&mut self) -> Option<HttpPlan> {
        let c = self.config;
        let shared = match self.connector {
            Some(ConnectorConfig::Http(shared)) => shared.clone(),
            _ => HttpConnector::default(),
        };
        let format = c
            .batch
            .as_ref()
            .and_then(|batch| batch.format)
            .unwrap_or(BatchFormat::Single);
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in shared.headers.iter().chain(c.headers.iter().flatten()) {
            let name = name.to_ascii_lowercase();
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value.clone()));
        }
        if !headers.iter().any(|(name, _)| name == "content-type") {
            let default = if format == BatchFormat::Ndjson {
                "application/x-ndjson"
            } else {
                "application/json"
            };
            headers.push(("content-type".into(), default.into()));
        }
        let json = headers
            .iter()
            .any(|(name, value)| name == "content-type" && value.contains("json"));
        let method = c
            .method
            .clone()
            .unwrap_or_else(|| "POST".into())
            .to_ascii_uppercase();
        if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
            self.error(
                codes::BAD_VALUE,
                "method",
                format!("`{method}` is none of GET, POST, PUT, PATCH, DELETE"),
            );
        }
        let Some(url) = c.url.clone().or(shared.url) else {
            self.missing("url", "`url = \"https://…\"` here or in the connector");
            return None;
        };
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            self.error(
                codes::BAD_VALUE,
                "url",
                "the URL has to start with http:// or https://",
            );
        }
        let body_kind = if json {
            TemplateKind::Json
        } else {
            TemplateKind::Text
        };
        let url = self.template("url", &url, TemplateKind::Url);
        let headers = headers
            .into_iter()
            .map(|(name, value)| {
                let template =
                    self.template(&format!("headers.{name}"), &value, TemplateKind::Text);
                (name, template)
            })
            .collect();
        let body = self.template("body", c.body.as_deref().unwrap_or("${.}"), body_kind);
        Some(HttpPlan {
            method,
            url,
            headers,
            auth: c.auth.clone().or(shared.auth).unwrap_or_default(),
            body,
            format,
            timeout: c
                .timeout
                .or(shared.timeout)
                .map_or(Duration::from_secs(10), |span| span.0),
            ok_status: c
                .ok_status
                .clone()
                .unwrap_or_else(|| vec![StatusRange(200..=299)]),
            undefined: self.undefined(),
        })
    }

    fn message(&mut self) -> Option<MessagePlan> {
        let c = self.config;
        let qos = c.qos.unwrap_or(0);
        if qos > 2 {
            self.error(
                codes::BAD_VALUE,
                "qos",
                format!("{qos} is no QoS; use 0, 1 or 2"),
            );
        }
        let content_type = c.content_type.clone();
        let json = content_type
            .as_deref()
            .is_some_and(|kind| kind.contains("json"));
        let payload_kind = if json {
            TemplateKind::Json
        } else {
            TemplateKind::Text
        };
        let Some(topic) = &c.topic else {
            self.missing("topic", "`topic = \"alerts/${device}\"`");
            return None;
        };
        let owner = self.bridge_limits(topic, qos);
        let topic = self.template("topic", topic, TemplateKind::Topic);
        let payload = self.template(
            "payload",
            c.payload.as_deref().unwrap_or("${.}"),
            payload_kind,
        );
        Some(MessagePlan {
            topic,
            qos,
            retain: c.retain.unwrap_or(false),
            payload,
            content_type,
            max_hops: c.max_hops.unwrap_or(4),
            clear_origin: c.origin == Some(OriginMark::Clear),
            undefined: self.undefined(),
            owner,
        })
    }

    /// What the bridge's preset forbids its sinks.
    fn bridge_limits(&mut self, topic: &str, qos: u8) -> Option<TopicOwner> {
        let Some(ConnectorConfig::Mqtt(config)) = self.connector else {
            return None;
        };
        // The connector's own mistakes are reported with its own file.
        let (bridge, _) = BridgePlan::check(config).ok()?;
        if qos > bridge.qos_cap {
            self.errors.push(
                ConfigError::new(
                    codes::BOUND,
                    "qos",
                    format!("QoS {qos} is above the bridge's cap of {}", bridge.qos_cap),
                )
                .help("lower `qos`"),
            );
        }
        if self.config.retain == Some(true) && !bridge.preset.may_retain(topic) {
            let on = if bridge.retain_allowed {
                " on this topic"
            } else {
                ""
            };
            self.errors.push(ConfigError::new(
                codes::BOUND,
                "retain",
                format!("this cloud takes no retained messages{on}"),
            ));
        }
        let owner = bridge.owner.clone();
        if let Some(owner) = &owner {
            let filled = connector_values(topic, self.connector);
            if let Ok(filled) = filled
                && !owner.owns_template(&filled)
            {
                self.errors.push(
                    ConfigError::new(
                        codes::TOPIC_NOT_OWNED,
                        "topic",
                        format!(
                            "topic_not_owned: `{filled}` does not belong to device `{}`",
                            owner.device_name
                        ),
                    )
                    .help("use ${conn:product_key} and ${conn:device_name} at their levels"),
                );
            }
        }
        owner
    }

    fn file(&mut self) -> Option<FilePlan> {
        let c = self.config;
        let Some(path) = &c.path else {
            self.missing("path", "`path = \"hot-${date:%Y-%m-%d}.ndjson\"`");
            return None;
        };
        if path.starts_with('/') || path.split(['/', '\\']).any(|part| part == "..") {
            self.error(codes::FILE_PATH, "path", "the path leaves data_dir/files");
        }
        let format = c.format.unwrap_or_default();
        let columns = match (&c.columns, format) {
            (Some(Columns::Listed(columns)), FileFormat::Csv) if !columns.is_empty() => {
                columns.clone()
            }
            (_, FileFormat::Csv) => {
                self.missing("columns", "`columns = [\"device\", \"temp\"]`");
                return None;
            }
            (Some(_), FileFormat::Ndjson) => {
                self.error(
                    codes::KEY_NOT_FOR_TYPE,
                    "columns",
                    "`columns` goes with `format = \"csv\"`",
                );
                return None;
            }
            (None, FileFormat::Ndjson) => Vec::new(),
        };
        let rotate = c.rotate.clone().unwrap_or_default();
        let path = self.template("path", path, TemplateKind::Text);
        Some(FilePlan {
            path,
            format,
            columns,
            rotate_bytes: rotate.max_bytes.map(|size| size.0),
            keep: rotate.keep.unwrap_or(7),
            undefined: self.undefined(),
        })
    }

    fn inline_connector(&mut self) -> Option<ConnectorConfig> {
        let c = self.config;
        if c.connector.is_some() {
            return None;
        }
        match self.kind {
            Kind::Postgres => match &c.url {
                Some(url) => Some(ConnectorConfig::Postgres(PostgresConnector {
                    url: Secret::new(url.clone()),
                    pool: PoolConfig::default(),
                    statement_timeout: Span(Duration::from_secs(10)),
                    health: Default::default(),
                })),
                None => {
                    self.missing("url", "`url = \"postgres://…\"`, or a `connector`");
                    None
                }
            },
            Kind::Sqlite => match &c.path {
                Some(path) => Some(ConnectorConfig::Sqlite(SqliteConnector {
                    path: path.clone(),
                    pool: PoolConfig::default(),
                    statement_timeout: Span(Duration::from_secs(10)),
                    health: Default::default(),
                })),
                None => {
                    self.missing("path", "`path = \"readings.db\"`, or a `connector`");
                    None
                }
            },
            Kind::Http => Some(ConnectorConfig::Http(HttpConnector::default())),
            Kind::Mqtt | Kind::Republish | Kind::Console | Kind::File => None,
        }
    }

    /// A connector without a file has nobody else who checks it.
    fn connector_of_its_own(&mut self, inline: Option<&ConnectorConfig>) {
        match inline.map(ConnectorConfig::check) {
            Some(Ok(warnings)) => self.warnings.extend(warnings),
            Some(Err(errors)) => self.errors.extend(errors),
            None => {}
        }
    }

    fn batch(&mut self) -> BatchLimits {
        let given = self.config.batch.clone().unwrap_or_default();
        let shared_body = given
            .format
            .is_some_and(|format| format != BatchFormat::Single);
        let (rows, wait) = match self.kind {
            Kind::Postgres | Kind::Sqlite | Kind::File => (500, 50),
            Kind::Http if shared_body => (100, 200),
            Kind::Http => (1, 0),
            Kind::Mqtt | Kind::Republish | Kind::Console => (500, 0),
        };
        if given.max_rows == Some(0) || given.max_rows.is_some_and(|rows| rows > 50_000) {
            self.error(
                codes::BAD_VALUE,
                "batch.max_rows",
                "a batch has 1 to 50000 rows",
            );
        }
        if given
            .max_wait
            .is_some_and(|wait| wait.0 > Duration::from_secs(60))
        {
            self.error(
                codes::BAD_VALUE,
                "batch.max_wait",
                "rows wait at most 60s for each other",
            );
        }
        BatchLimits {
            max_rows: given.max_rows.unwrap_or(rows),
            max_bytes: given.max_bytes.map_or(1024 * 1024, |size| clamp(size.0)),
            max_wait: given
                .max_wait
                .map_or(Duration::from_millis(wait), |span| span.0),
            held_back: None,
        }
    }

    fn buffer(&mut self) -> BufferLimits {
        let given = self.config.buffer.clone().unwrap_or_default();
        // What stands on a console is gone with it.
        let kept = self.kind != Kind::Console;
        if given.kind == Some(BufferKind::Disk) && !kept {
            self.warnings.push(
                ConfigError::new(
                    "W3001",
                    "buffer.kind",
                    "rows for the console always wait in memory",
                )
                .help("`kind = \"memory\"` says the same without this warning"),
            );
        }
        let kind = match given.kind {
            Some(BufferKind::Memory) => BufferKind::Memory,
            _ if !kept => BufferKind::Memory,
            _ => BufferKind::Disk,
        };
        let most = match kind {
            BufferKind::Disk => 1024 * 1024 * 1024,
            BufferKind::Memory => 64 * 1024 * 1024,
        };
        if given.max_bytes.is_some_and(|size| size.0 < 1024) {
            self.error(
                codes::BAD_VALUE,
                "buffer.max_bytes",
                "a buffer needs at least 1KiB",
            );
        }
        if given.max_rows == Some(0) {
            self.error(
                codes::BAD_VALUE,
                "buffer.max_rows",
                "a buffer needs at least one row",
            );
        }
        BufferLimits {
            kind,
            max_rows: given.max_rows.unwrap_or(usize::MAX / 2),
            max_bytes: given.max_bytes.map_or(most, |size| clamp(size.0)),
            when_full: given.when_full.unwrap_or_default(),
        }
    }

    fn retry(&mut self) -> RetryPlan {
        let given = self.config.retry.clone().unwrap_or_default();
        let initial = given
            .initial
            .map_or(Duration::from_millis(200), |span| span.0);
        let max = given.max.map_or(Duration::from_secs(30), |span| span.0);
        if max < initial {
            self.error(codes::BAD_VALUE, "retry.max", "`max` lies below `initial`");
        }
        if initial < Duration::from_millis(1) {
            self.error(
                codes::BAD_VALUE,
                "retry.initial",
                "`initial` is at least 1ms",
            );
        }
        RetryPlan {
            initial,
            max,
            give_up: given.give_up.map(|span| span.0),
        }
    }

    fn undefined(&self) -> UndefinedPolicy {
        match self.config.undefined.unwrap_or_default() {
            Undefined::Fail => UndefinedPolicy::Fail,
            Undefined::Empty => UndefinedPolicy::Empty,
            Undefined::Text => UndefinedPolicy::Text,
        }
    }

    fn template(&mut self, key: &str, text: &str, kind: TemplateKind) -> Template {
        let text = match connector_values(text, self.connector) {
            Ok(text) => text,
            Err(message) => {
                self.error(codes::TEMPLATE, key, message);
                text.to_owned()
            }
        };
        let (template, warnings) = Template::parse(&text, kind);
        self.template_warnings(key, warnings);
        template
    }

    fn template_warnings(&mut self, key: &str, warnings: Vec<TemplateWarning>) {
        self.warnings.extend(
            warnings
                .into_iter()
                .map(|warning| ConfigError::new("W3008", key, warning.message)),
        );
    }
}

fn clamp(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX / 2)
}

/// Fills `${conn:key}` from the connector. What is filled in is plain text: a `$` in it starts no place.
fn connector_values(text: &str, connector: Option<&ConnectorConfig>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${conn:") {
        out.push_str(&rest[..start]);
        let inner = &rest[start + "${conn:".len()..];
        let Some(end) = inner.find('}') else {
            return Err("`${conn:` without its `}`".into());
        };
        let key = &inner[..end];
        let value = connector
            .ok_or_else(|| format!("`${{conn:{key}}}` needs a connector, and the sink names none"))?
            .value(key)
            .ok_or_else(|| format!("the connector has no value `{key}` that may be shown"))?;
        out.push_str(&value.replace('$', "${$}"));
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
