//! Text with `${path}` places, filled from a rule's output row (rule-SQL §12).
//!
//! A place is written as its surroundings need: plain, as JSON, percent-encoded, as part of a topic, or bound to SQL.
//! A row never becomes syntax: no value can close a JSON string, add a URL part or end an SQL literal.

mod place;
mod sql;

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Serialize};

pub use place::{Place, Step};
pub use sql::{SqlDialect, SqlTemplate};

use crate::functions::{format_instant, is_date_directive};
use crate::json;
use crate::value::Value;

/// Everything but RFC 3986's unreserved characters.
pub(crate) const URL_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a template's text is, which decides how a place is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateKind {
    /// Places are written as the text of their value.
    Text,
    /// A place outside quotes is written as JSON, inside quotes as escaped text.
    Json,
    /// Places are percent-encoded.
    Url,
    /// As text; the whole must be a topic name.
    Topic,
    /// A statement with bound places; renders as `{"sql":…,"binds":[…]}`.
    Sql,
}

/// What a place whose field is missing becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UndefinedPolicy {
    /// The row is refused: E3101.
    #[default]
    Fail,
    /// Nothing; `null` where JSON or SQL needs a value.
    Empty,
    /// The text `undefined`, as EMQX has it; `null` where JSON or SQL needs a value.
    Text,
}

/// A template, parsed once.
#[derive(Clone, Debug)]
pub struct Template {
    kind: TemplateKind,
    parts: Vec<Part>,
    sql: Option<SqlTemplate>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Place(Place),
    /// A place between the quotes of a JSON text.
    QuotedPlace(Place),
    Date(String),
}

/// A part of a template, for those who look at it and do not render.
pub(crate) enum Piece<'t> {
    Literal(&'t str),
    Place(&'t Place),
    /// The format of `${date:…}`.
    Date(&'t str),
}

/// Something in a template that is probably not what was meant; the text stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateWarning {
    /// What is odd, in a sentence.
    pub message: String,
    /// Where, in bytes from the start of the template.
    pub offset: usize,
}

/// Why a row cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// `E3101` missing field, `E3102` not a topic name, `E3103` a value that this text cannot hold.
    pub code: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The place, e.g. `a.b[2]`, when one place is to blame.
    pub field: Option<String>,
}

impl Template {
    /// Reads a template. A `${…}` that is not well formed stays as it is, with a warning.
    ///
    /// ```
    /// use weir_rules::template::{Template, TemplateKind, UndefinedPolicy};
    /// use weir_rules::value::Value;
    ///
    /// let (template, warnings) = Template::parse("${device} is ${state}", TemplateKind::Text);
    /// assert!(warnings.is_empty());
    /// let row = weir_rules::json::decode(br#"{"device":"a1","state":"hot"}"#).unwrap();
    /// assert_eq!(template.render(&row, UndefinedPolicy::Fail, 0).unwrap(), b"a1 is hot");
    /// let missing = template.render(&Value::Null, UndefinedPolicy::Fail, 0).unwrap_err();
    /// assert_eq!(missing.code, "E3101");
    /// ```
    pub fn parse(text: &str, kind: TemplateKind) -> (Self, Vec<TemplateWarning>) {
        if kind == TemplateKind::Sql {
            let (sql, warnings) = SqlTemplate::parse(text, SqlDialect::Postgres);
            return (
                Self {
                    kind,
                    parts: Vec::new(),
                    sql: Some(sql),
                },
                warnings,
            );
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut quotes = JsonQuotes::default();
        let mut warnings = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            push_literal(&mut literal, &mut quotes, &rest[..start]);
            let offset = text.len() - rest.len() + start;
            match Found::read(&rest[start..]) {
                Some((found, length)) => {
                    match found {
                        Found::Dollar => literal.push('$'),
                        found => {
                            if !literal.is_empty() {
                                parts.push(Part::Literal(std::mem::take(&mut literal)));
                            }
                            parts.push(match found {
                                Found::Date(format) => Part::Date(format),
                                Found::Place(place)
                                    if kind == TemplateKind::Json && quotes.inside =>
                                {
                                    Part::QuotedPlace(place)
                                }
                                Found::Place(place) => Part::Place(place),
                                Found::Dollar => Part::Literal("$".into()),
                            });
                        }
                    }
                    rest = &rest[start + length..];
                }
                None => {
                    warnings.push(TemplateWarning::ill_formed(&rest[start..], offset));
                    push_literal(&mut literal, &mut quotes, "${");
                    rest = &rest[start + 2..];
                }
            }
        }
        push_literal(&mut literal, &mut quotes, rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        (
            Self {
                kind,
                parts,
                sql: None,
            },
            warnings,
        )
    }

    /// The kind it was parsed as.
    pub fn kind(&self) -> TemplateKind {
        self.kind
    }

    /// The first keys of the places, in order of appearance: the row's fields that this template reads.
    /// Places of the whole row name none.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.places().filter_map(Place::first_key)
    }

    /// The places, in order of appearance.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let places = self.parts.iter().filter_map(|part| match part {
            Part::Place(place) | Part::QuotedPlace(place) => Some(place),
            Part::Literal(_) | Part::Date(_) => None,
        });
        places.chain(self.sql.iter().flat_map(SqlTemplate::places))
    }

    /// The parts in their order; none of an SQL statement.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.parts.iter().map(|part| match part {
            Part::Literal(text) => Piece::Literal(text),
            Part::Place(place) | Part::QuotedPlace(place) => Piece::Place(place),
            Part::Date(format) => Piece::Date(format),
        })
    }

    /// Whether every row gives the same bytes.
    pub fn is_constant(&self) -> bool {
        self.sql
            .as_ref()
            .is_none_or(|sql| sql.places().next().is_none())
            && self
                .parts
                .iter()
                .all(|part| matches!(part, Part::Literal(_)))
    }

    /// The bytes for one row; `now_ms` is what `${date:…}` shows, in UTC.
    ///
    /// # Errors
    /// A missing field when the policy says so, a topic that is none, a value that the text cannot hold.
    pub fn render(
        &self,
        row: &Value,
        undefined: UndefinedPolicy,
        now_ms: i64,
    ) -> Result<Vec<u8>, RenderError> {
        let mut out = Vec::with_capacity(self.usual_length());
        self.render_into(row, undefined, now_ms, &mut out)?;
        Ok(out)
    }

    /// Room for what it mostly makes, so that most texts are written without moving them about.
    fn usual_length(&self) -> usize {
        const OF_A_FIELD: usize = 24;
        const OF_A_ROW: usize = 128;
        let of_part = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Place(place) | Part::QuotedPlace(place) if place.steps().is_empty() => OF_A_ROW,
            Part::Place(_) | Part::QuotedPlace(_) | Part::Date(_) => OF_A_FIELD,
        };
        self.parts.iter().map(of_part).sum()
    }

    /// As [`render`](Self::render), for texts that must be UTF-8: headers, URLs, file names, topics.
    ///
    /// # Errors
    /// As `render`, and E3103 when a value is not UTF-8.
    pub fn render_text(
        &self,
        row: &Value,
        undefined: UndefinedPolicy,
        now_ms: i64,
    ) -> Result<String, RenderError> {
        String::from_utf8(self.render(row, undefined, now_ms)?)
            .map_err(|_| RenderError::new("E3103", "the rendered text is not valid UTF-8"))
    }

    /// As [`render`](Self::render), appending. After an error `out` may hold a part of the text.
    ///
    /// # Errors
    /// As `render`.
    pub fn render_into(
        &self,
        row: &Value,
        undefined: UndefinedPolicy,
        now_ms: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        if let Some(sql) = &self.sql {
            return sql.render_json(row, undefined, now_ms, out);
        }
        let start = out.len();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Date(format) => out.extend_from_slice(date(format, now_ms)?.as_bytes()),
                Part::QuotedPlace(place) => write_quoted(place, row, undefined, out)?,
                Part::Place(place) => match self.kind {
                    TemplateKind::Json => write_json(place, row, undefined, out)?,
                    TemplateKind::Url => {
                        let text = plain(place, row, undefined)?;
                        out.extend(percent_encode(&text, URL_ESCAPED).flat_map(str::bytes));
                    }
                    _ => out.extend_from_slice(&plain(place, row, undefined)?),
                },
            }
        }
        if self.kind == TemplateKind::Topic {
            check_topic(&out[start..])
        } else {
            Ok(())
        }
    }
}

/// What stands between `${` and `}`.
pub(crate) enum Found {
    /// `${$}`
    Dollar,
    /// `${date:%Y}`
    Date(String),
    /// `${a.b[2]}`
    Place(Place),
}

impl Found {
    /// Reads at a `${`; gives what it is and how many bytes it takes.
    pub(crate) fn read(text: &str) -> Option<(Self, usize)> {
        let inner = text.strip_prefix("${")?;
        if inner.starts_with("$}") {
            return Some((Self::Dollar, 4));
        }
        if let Some(format) = inner.strip_prefix("date:") {
            let end = format.find('}')?;
            let format = &format[..end];
            return has_only_directives(format).then(|| (Self::Date(format.to_owned()), end + 8));
        }
        let (place, length) = Place::read(inner)?;
        inner[length..]
            .starts_with('}')
            .then_some((Self::Place(place), length + 3))
    }
}

impl TemplateWarning {
    fn ill_formed(text: &str, offset: usize) -> Self {
        let shown: String = text.chars().take_while(|c| *c != '\n').take(24).collect();
        let shown = shown.split_inclusive('}').next().unwrap_or_default();
        Self {
            message: format!("`{shown}` is not a well-formed place and stays as it is"),
            offset,
        }
    }
}

impl RenderError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
        }
    }

    fn missing(place: &Place) -> Self {
        Self {
            code: "E3101",
            message: format!("the row has no field `{place}`"),
            field: Some(place.to_string()),
        }
    }

    fn unfit(place: &Place, why: &str) -> Self {
        Self {
            code: "E3103",
            message: format!("`{place}` {why}"),
            field: Some(place.to_string()),
        }
    }
}

/// Whether the end of the text read so far lies inside a JSON string.
#[derive(Default)]
struct JsonQuotes {
    inside: bool,
    escaped: bool,
}

fn push_literal(literal: &mut String, quotes: &mut JsonQuotes, text: &str) {
    for byte in text.bytes() {
        match byte {
            _ if quotes.escaped => quotes.escaped = false,
            b'\\' if quotes.inside => quotes.escaped = true,
            b'"' => quotes.inside = !quotes.inside,
            _ => {}
        }
    }
    literal.push_str(text);
}

fn has_only_directives(format: &str) -> bool {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        rest = &rest[at..];
        match is_date_directive(rest) {
            Some(length) => rest = &rest[length..],
            None => return false,
        }
    }
    !format.is_empty()
}

fn date(format: &str, now_ms: i64) -> Result<String, RenderError> {
    format_instant(format, i128::from(now_ms) * 1_000_000, 0)
        .ok_or_else(|| RenderError::new("E3103", "the time is out of range"))
}

/// The text of a place's value; `None` of the missing ones that the policy leaves empty.
fn plain<'r>(
    place: &Place,
    row: &'r Value,
    undefined: UndefinedPolicy,
) -> Result<Cow<'r, [u8]>, RenderError> {
    let value = place.value(row);
    match value.as_ref() {
        Value::Undefined => match undefined {
            UndefinedPolicy::Fail => Err(RenderError::missing(place)),
            UndefinedPolicy::Empty => Ok(Cow::Borrowed(b"")),
            UndefinedPolicy::Text => Ok(Cow::Borrowed(b"undefined")),
        },
        // The commonest case copies once, into the output.
        Value::Text(text) => match value {
            Cow::Borrowed(Value::Text(text)) => Ok(Cow::Borrowed(text.as_bytes())),
            _ => Ok(Cow::Owned(text.as_bytes().to_vec())),
        },
        other => match other.str_text() {
            Ok(text) => Ok(Cow::Owned(text.as_bytes().to_vec())),
            Err(fault) => Err(RenderError::unfit(
                place,
                &format!("has no text: {}", fault.message()),
            )),
        },
    }
}

fn write_json(
    place: &Place,
    row: &Value,
    undefined: UndefinedPolicy,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let value = place.value(row);
    if matches!(*value, Value::Undefined) && undefined == UndefinedPolicy::Fail {
        return Err(RenderError::missing(place));
    }
    json::encode(&value, out)
        .map_err(|fault| RenderError::unfit(place, &format!("cannot be JSON: {}", fault.message())))
}

/// Writes the value's text as a JSON string without its quotes.
fn write_quoted(
    place: &Place,
    row: &Value,
    undefined: UndefinedPolicy,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    let text = plain(place, row, undefined)?;
    let text = std::str::from_utf8(&text)
        .map_err(|_| RenderError::unfit(place, "cannot be JSON: it is not valid UTF-8"))?;
    let mut quoted = Vec::with_capacity(text.len() + 2);
    json::encode(&Value::from(text), &mut quoted).map_err(|fault| {
        RenderError::unfit(place, &format!("cannot be JSON: {}", fault.message()))
    })?;
    out.extend_from_slice(&quoted[1..quoted.len() - 1]);
    Ok(())
}

fn check_topic(topic: &[u8]) -> Result<(), RenderError> {
    let why = match std::str::from_utf8(topic) {
        Err(_) => "is not valid UTF-8",
        Ok("") => "is empty",
        Ok(text) if text.len() > 65_535 => "is longer than 65535 bytes",
        Ok(text) if text.contains(['+', '#']) => "holds `+` or `#`",
        Ok(text) if text.contains('\0') => "holds U+0000",
        Ok(_) => return Ok(()),
    };
    let shown: String = String::from_utf8_lossy(topic).chars().take(64).collect();
    Err(RenderError::new(
        "E3102",
        format!("the topic `{}` {why}", shown.escape_debug()),
    ))
}

/// Bytes in, nothing out: what a fuzzer or a property test runs. Panics mean a defect.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let kinds = [
        TemplateKind::Text,
        TemplateKind::Json,
        TemplateKind::Url,
        TemplateKind::Topic,
        TemplateKind::Sql,
    ];
    let policies = [
        UndefinedPolicy::Fail,
        UndefinedPolicy::Empty,
        UndefinedPolicy::Text,
    ];
    let kind = kinds[usize::from(choice) % kinds.len()];
    let policy = policies[usize::from(choice) / kinds.len() % policies.len()];
    let row = json::decode(br#"{"a":{"b":[1,"\"\\ +#",null]},"s":"{\"a\":1.5}","x y":true}"#)
        .expect("the row is valid JSON");
    let (template, warnings) = Template::parse(&text, kind);
    assert!(
        warnings
            .iter()
            .all(|warning| text.is_char_boundary(warning.offset))
    );
    let rendered = template.render(&row, policy, 1_700_000_000_000);
    if template.is_constant()
        && warnings.is_empty()
        && !text.contains("${")
        && kind == TemplateKind::Text
    {
        assert_eq!(rendered.as_deref(), Ok(text.as_bytes()));
    }
    let _ = SqlTemplate::parse(&text, SqlDialect::Sqlite)
        .0
        .render_binds(&row, policy, 0);
}

#[cfg(test)]
mod tests;
