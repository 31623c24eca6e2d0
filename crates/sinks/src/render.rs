//! A row as its sink will send it: pure, so that delivery, `weir try` and `weir test` show the same thing.
//!
//! Secrets are no part of it: signatures and authorization headers are added when a request leaves.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use weir_rules::json;
use weir_rules::template::UndefinedPolicy;
use weir_rules::value::Value;

use crate::codes;
use crate::error::{RenderError, SinkError};
use crate::message_ids::with_field;
use crate::plan::{FilePlan, HttpPlan, MessagePlan, SinkPlan, StatementPlan, Target};
use crate::table::TablePlan;

/// What one row becomes.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Rendered {
    /// A statement with its parameters.
    Sql(SqlCall),
    /// A request.
    Http(HttpRequest),
    /// A message, for another broker or for this one.
    Mqtt(MqttMessage),
    /// A line of a file.
    File(FileLine),
    /// A line on standard output.
    Line(ConsoleLine),
}

impl Rendered {
    /// As JSON, for tools.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A statement with its parameters.
#[derive(Clone, Debug, Serialize)]
pub struct SqlCall {
    /// The statement.
    pub sql: String,
    /// The parameters, in order.
    pub binds: Vec<serde_json::Value>,
}

/// A request, without what signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Names in lower case.
    #[serde(serialize_with = "as_map")]
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

/// A message, for another broker or for this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MqttMessage {
    /// The topic.
    pub topic: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// The payload.
    pub payload: Body,
    /// Its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileLine {
    /// The file below `data_dir/files`.
    pub path: String,
    /// The line, without its end.
    pub line: String,
}

/// A line on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsoleLine {
    /// The line, without its end.
    pub line: String,
}

/// Bytes that show as JSON where they are JSON, as text where they are text, else as `{"base64": …}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(pub Bytes);

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&self.0) {
            return value.serialize(serializer);
        }
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        use base64::Engine as _;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(
            "base64",
            &base64::engine::general_purpose::STANDARD.encode(&self.0),
        )?;
        map.end()
    }
}

fn as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// Renders one row; `now_ms` is what `${date:…}` shows.
///
/// # Errors
/// What sends the row to the dead letters: a missing field (E3101), a topic that is none (E3102), and so on.
pub fn render(plan: &SinkPlan, row: &Value, now_ms: i64) -> Result<Rendered, RenderError> {
    match &plan.target {
        Target::Table(table) => {
            let row = with_sample_id(row, table.message_id.as_deref());
            table_call(table, &row).map(Rendered::Sql)
        }
        Target::Statement(statement) => {
            let row = with_sample_id(row, statement.message_id.as_deref());
            statement_call(statement, &row, now_ms).map(Rendered::Sql)
        }
        Target::Http(http) => http_request(http, row, now_ms).map(Rendered::Http),
        // Only the broker makes such rows, and only for itself.
        Target::Bridge => Err(RenderError::new(
            codes::DEFECT,
            "a bridge's own row is not rendered",
        )),
        Target::Mqtt(message) | Target::Republish(message) => {
            message_for(message, row, now_ms).map(Rendered::Mqtt)
        }
        Target::File(file) => file_line(file, row, now_ms).map(Rendered::File),
        Target::Console { .. } => {
            console_line(row).map(|line| Rendered::Line(ConsoleLine { line }))
        }
    }
}

/// Where the id of a row goes: it has one only in a queue.
fn with_sample_id<'r>(row: &'r Value, name: Option<&str>) -> Cow<'r, Value> {
    match name {
        Some(name) => Cow::Owned(with_field(row, name, "<message_id>".into(), false)),
        None => Cow::Borrowed(row),
    }
}

fn table_call(table: &TablePlan, row: &Value) -> Result<SqlCall, RenderError> {
    let cells = table.cells(row).map_err(as_render_error)?;
    let binds = cells
        .values
        .iter()
        .map(|value| json_value(value))
        .collect::<Result<_, _>>()?;
    Ok(SqlCall {
        sql: table.statement_for_one(&cells.columns),
        binds,
    })
}

fn statement_call(
    statement: &StatementPlan,
    row: &Value,
    now_ms: i64,
) -> Result<SqlCall, RenderError> {
    let binds = statement_binds(statement, row, now_ms)?;
    Ok(SqlCall {
        sql: statement.sql.sql().to_owned(),
        binds: binds.iter().map(json_value).collect::<Result<_, _>>()?,
    })
}

/// The parameters of the user's own statement.
pub(crate) fn statement_binds(
    statement: &StatementPlan,
    row: &Value,
    now_ms: i64,
) -> Result<Vec<Value>, RenderError> {
    Ok(statement
        .sql
        .render_binds(row, statement.undefined, now_ms)?)
}

/// The request of one row.
pub(crate) fn http_request(
    http: &HttpPlan,
    row: &Value,
    now_ms: i64,
) -> Result<HttpRequest, RenderError> {
    let url = http.url.render_text(row, http.undefined, now_ms)?;
    if url::Url::parse(&url).is_err() {
        return Err(RenderError::new(
            codes::BAD_URL,
            format!("`{}` is no URL", shortened(&url)),
        ));
    }
    let mut headers = Vec::with_capacity(http.headers.len());
    for (name, value) in &http.headers {
        let value = value.render_text(row, http.undefined, now_ms)?;
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(RenderError::new(
                codes::BAD_URL,
                format!("the header `{name}` holds a control character"),
            ));
        }
        headers.push((name.clone(), value));
    }
    let body = http.body.render(row, http.undefined, now_ms)?;
    Ok(HttpRequest {
        method: http.method.clone(),
        url,
        headers,
        body: Body(body.into()),
    })
}

/// The message of one row.
pub(crate) fn message_for(
    plan: &MessagePlan,
    row: &Value,
    now_ms: i64,
) -> Result<MqttMessage, RenderError> {
    let topic = plan.topic.render_text(row, plan.undefined, now_ms)?;
    if let Some(owner) = &plan.owner
        && !owner.owns(&topic)
    {
        let message = format!(
            "topic_not_owned: `{}` does not belong to `{}`",
            shortened(&topic),
            owner.device_name
        );
        return Err(RenderError::new(codes::TOPIC_NOT_OWNED, message));
    }
    let payload = plan.payload.render(row, plan.undefined, now_ms)?;
    Ok(MqttMessage {
        topic,
        qos: plan.qos,
        retain: plan.retain,
        payload: Body(payload.into()),
        content_type: plan.content_type.clone(),
    })
}

/// The line of one row and where it goes.
pub(crate) fn file_line(
    plan: &FilePlan,
    row: &Value,
    now_ms: i64,
) -> Result<FileLine, RenderError> {
    let path = plan.path.render_text(row, plan.undefined, now_ms)?;
    let line = match plan.format {
        crate::config::FileFormat::Ndjson => console_line(row)?,
        crate::config::FileFormat::Csv => csv_line(plan, row)?,
    };
    Ok(FileLine { path, line })
}

/// One JSON object on one line: the encoder writes no line ends outside strings and escapes those inside.
pub(crate) fn console_line(row: &Value) -> Result<String, RenderError> {
    json::to_text(row)
        .map_err(|fault| RenderError::new(codes::NOT_TEXT, fault.message().to_owned()))
}

fn csv_line(plan: &FilePlan, row: &Value) -> Result<String, RenderError> {
    let mut line = String::new();
    for (place, column) in plan.columns.iter().enumerate() {
        if place > 0 {
            line.push(',');
        }
        let value = row.get(column).unwrap_or(&Value::Undefined);
        match (value, plan.undefined) {
            (Value::Null, _)
            | (Value::Undefined, UndefinedPolicy::Empty | UndefinedPolicy::Fail) => {}
            (value, _) => csv_field(&mut line, &text_of(value)?),
        }
    }
    Ok(line)
}

/// The heading of a CSV file.
pub(crate) fn csv_heading(columns: &[String]) -> String {
    let mut line = String::new();
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            line.push(',');
        }
        csv_field(&mut line, column);
    }
    line
}

fn csv_field(line: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}

/// The text of a value (rule-SQL §5.4), where it has one.
pub(crate) fn text_of(value: &Value) -> Result<String, RenderError> {
    let text = value
        .str_text()
        .map_err(|fault| RenderError::new(codes::NOT_TEXT, fault.message().to_owned()))?;
    match text.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(RenderError::new(
            codes::NOT_TEXT,
            "the value is not valid UTF-8",
        )),
    }
}

/// A value for a tool's eyes: undefined shows as null, bytes that are no text as `{"base64": …}`.
pub(crate) fn json_value(value: &Value) -> Result<serde_json::Value, RenderError> {
    if let Value::Text(text) = value
        && text.as_str().is_none()
    {
        return Ok(Body(text.bytes().clone())
            .serialize(serde_json::value::Serializer)
            .unwrap_or_default());
    }
    let mut bytes = Vec::new();
    json::encode(value, &mut bytes)
        .map_err(|fault| RenderError::new(codes::NOT_TEXT, fault.message().to_owned()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| RenderError::new(codes::NOT_TEXT, error.to_string()))
}

fn as_render_error(error: SinkError) -> RenderError {
    RenderError::new(error.code(), error.message())
}

fn shortened(text: &str) -> String {
    text.chars().take(96).collect()
}

impl From<weir_rules::template::RenderError> for RenderError {
    fn from(error: weir_rules::template::RenderError) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
