//! `weir try --cases`: statements with their messages, one JSON object a line in, one answer a line out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use weir_mqtt::TopicName;
use weir_rules::event::{Event, EventName, Publish, What};
use weir_rules::script::Scripts;
use weir_rules::template::{Template, TemplateKind, UndefinedPolicy};
use weir_rules::value::{Key, Text, Value};
use weir_rules::{Catalog, Diagnostic, Input, Rule, Severity, compile, json};

use super::run_test::{CLIENT_ID, NOW_MS};
use crate::pipeline::world::World;
use crate::problem::{Source, nearest};
pub use bounds::Bounds;
use bounds::Budget;
use fields::{Fault, Fields};

mod bounds;
mod fields;

/// One line of input.
struct Case<'l> {
    sql: String,
    /// Each with its index, where they stand in a list.
    messages: Vec<(Option<usize>, &'l RawValue)>,
    template: Option<String>,
    template_kind: TemplateKind,
    undefined: UndefinedPolicy,
    udf: BTreeMap<String, String>,
}

/// The keys of a case. Others are allowed (a name, what is expected) where they are no slip of the pen.
const KEYS: [&str; 7] = [
    "sql",
    "message",
    "messages",
    "template",
    "template_kind",
    "undefined",
    "udf",
];

/// What became of a case.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The rule made these rows.
    Outputs {
        /// In order, of all messages.
        outputs: Vec<Box<RawValue>>,
        /// The template for each of `outputs`, where there is one: as many, an error in the place of a text.
        #[serde(skip_serializing_if = "Option::is_none")]
        rendered: Option<Vec<Box<RawValue>>>,
        /// The messages that made no row.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        dropped: Vec<Lost>,
        /// What is malformed in the template. It stays as it is in what is rendered, as it does in a sink.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        template_errors: Vec<Malformed>,
        /// What the compiler warned of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Finding>,
    },
    /// The last message made no row, nor did one before it.
    Dropped {
        /// Always true.
        dropped: bool,
        /// `not_matched`, `no_result` or `exception`.
        why: &'static str,
        /// Each message, where there were several.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        messages: Vec<Lost>,
        /// What is malformed in the template.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        template_errors: Vec<Malformed>,
        /// The kind of the evaluation error.
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<&'static str>,
        /// The evaluation error.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Where in the statement: `line:column`.
        #[serde(skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// What the compiler warned of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Finding>,
    },
    /// The statement does not compile.
    Refused {
        /// `compile`.
        error: &'static str,
        /// The line of the input.
        line: usize,
        /// The first mistake.
        #[serde(flatten)]
        first: Finding,
        /// Every mistake, where there are several.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<Finding>,
    },
    /// The line cannot be used.
    Unusable {
        /// `case`.
        error: &'static str,
        /// The line of the input.
        line: usize,
        /// Where in the line, in characters from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        column: Option<usize>,
        /// What is wrong with it.
        message: String,
    },
    /// No message was given: the statement compiles.
    Compiled {
        /// Always true.
        compiled: bool,
        /// What is malformed in the template.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        template_errors: Vec<Malformed>,
        /// What the compiler warned of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Finding>,
    },
}

impl Answer {
    /// A line that cannot be used.
    pub fn unusable(line: usize, column: Option<usize>, message: impl Into<String>) -> Self {
        Self::Unusable {
            error: "case",
            line,
            column,
            message: message.into(),
        }
    }

    /// Whether whoever wrote the line has to mend it; a statement that does not compile may be what is tried.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Unusable { .. } => true,
            Self::Refused { .. } => false,
            Self::Outputs {
                template_errors, ..
            }
            | Self::Dropped {
                template_errors, ..
            }
            | Self::Compiled {
                template_errors, ..
            } => !template_errors.is_empty(),
        }
    }
}

/// A message that made no row, among others.
#[derive(Debug, Serialize)]
pub struct Lost {
    /// Which of `messages`, from 0.
    message: usize,
    /// `not_matched`, `no_result` or `exception`.
    why: &'static str,
    /// The kind of the evaluation error.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

/// Something in a template that is no place.
#[derive(Clone, Debug, Serialize)]
pub struct Malformed {
    /// `line:column` in the template.
    at: String,
    message: String,
}

/// A diagnostic, in short.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    code: String,
    /// `line:column` in the statement.
    at: String,
    message: String,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        let text = [Some(diagnostic.label.as_str()), diagnostic.help.as_deref()];
        let more = text
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .map(|text| format!("; {text}"));
        Self {
            code: diagnostic.code.to_string(),
            at: format!("{}:{}", diagnostic.span.line, diagnostic.span.column),
            message: more.fold(diagnostic.message.clone(), |message, more| {
                message + more.as_str()
            }),
        }
    }
}

/// Runs the case of one line, in a world of its own whose clock is each message's `timestamp`.
///
/// `number` is the line's, from 1.
pub fn answer(line: &[u8], number: usize, zone: &TimeZone, bounds: &Bounds) -> Answer {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let before = String::from_utf8_lossy(&line[..error.valid_up_to()]);
            return Answer::unusable(
                number,
                Some(before.chars().count() + 1),
                "not UTF-8 text: write the cases in UTF-8, and a payload of other bytes as `payload_hex`",
            );
        }
    };
    match run(text, number, zone, bounds) {
        Ok(answer) => answer,
        Err(fault) => {
            let column = fault
                .offset
                .map(|offset| text[..offset].chars().count() + 1);
            Answer::unusable(number, column, fault.message)
        }
    }
}

impl<'l> Case<'l> {
    fn read(line: &'l str) -> Result<Self, Fault> {
        let mut fields = Fields::of_line(line)?;
        for (key, value) in fields.iter() {
            if KEYS.contains(&key) {
                continue;
            }
            if let Some(meant) = nearest(key, KEYS) {
                let message = format!("unknown key `{key}`; did you mean `{meant}`?");
                return Err(fields.fault(value, message));
            }
        }
        let sql = fields.text("sql")?.ok_or_else(|| {
            Fault::from("the key `sql` is missing: it holds the statement, as a text")
        })?;
        let one = fields.raw("message");
        let messages = match (one, fields.list("messages")?) {
            (Some(one), Some(_)) => {
                return Err(fields.fault(
                    one,
                    "`message` and `messages` exclude each other: put all of them in `messages`",
                ));
            }
            (Some(message), None) => vec![(None, message)],
            (None, messages) => messages
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .map(|(index, message)| (Some(index), message))
                .collect(),
        };
        Ok(Self {
            sql,
            messages,
            template: fields.text("template")?,
            template_kind: fields
                .choice(
                    "template_kind",
                    &[
                        ("text", TemplateKind::Text),
                        ("json", TemplateKind::Json),
                        ("url", TemplateKind::Url),
                        ("topic", TemplateKind::Topic),
                        ("sql", TemplateKind::Sql),
                    ],
                )?
                .unwrap_or(TemplateKind::Text),
            undefined: fields
                .choice(
                    "undefined",
                    &[
                        ("text", UndefinedPolicy::Text),
                        ("empty", UndefinedPolicy::Empty),
                        ("fail", UndefinedPolicy::Fail),
                    ],
                )?
                .unwrap_or(UndefinedPolicy::Text),
            udf: fields.texts("udf")?,
        })
    }
}

fn run(line: &str, number: usize, zone: &TimeZone, bounds: &Bounds) -> Result<Answer, Fault> {
    let mut budget = Budget::new(bounds);
    let case = Case::read(line)?;
    if case.messages.len() > bounds.messages {
        let most = bounds.messages;
        let message = format!("`messages` holds more than {most}: ask in several parts");
        return Err(Fault::from(message.as_str()));
    }
    let messages = case
        .messages
        .iter()
        .map(|(index, message)| event(line, *index, message))
        .collect::<Result<Vec<Event>, Fault>>()?;
    let scripts = match Scripts::load_each(&case.udf, bounds.scripts) {
        (scripts, errors) if errors.is_empty() => Arc::new(scripts.over(&bounds.live)),
        (_, errors) => {
            let findings = errors.iter().map(|error| Finding {
                code: "E1011".to_owned(),
                at: format!("{}:{}", error.line, error.column),
                message: error.to_string(),
            });
            return Ok(refused(number, findings.collect()));
        }
    };
    let (rule, warnings) = match compile(&case.sql, &Catalog { scripts }) {
        Ok((rule, warnings)) => (rule, warnings.iter().map(Finding::from).collect()),
        Err(found) => {
            let errors = found
                .iter()
                .filter(|found| found.severity == Severity::Error);
            return Ok(refused(number, errors.map(Finding::from).collect()));
        }
    };
    let (template, template_errors) = match &case.template {
        Some(text) => {
            let (template, warnings) = Template::parse(text, case.template_kind);
            let source = Source::new("template", text.as_str());
            let errors = warnings.into_iter().map(|warning| {
                let (line, column) = source.position(warning.offset);
                Malformed {
                    at: format!("{line}:{column}"),
                    message: warning.message,
                }
            });
            (Some(template), errors.collect())
        }
        None => (None, Vec::new()),
    };
    if messages.is_empty() {
        return Ok(Answer::Compiled {
            compiled: true,
            template_errors,
            warnings,
        });
    }
    let world = World::new("weir", zone.clone());
    let (mut outputs, mut lost, mut last) = (Vec::new(), Vec::new(), None);
    let mut rendered = template.as_ref().map(|_| Vec::new());
    for (index, event) in messages.iter().enumerate() {
        let mut drop = |nothing: Nothing| {
            lost.push(Lost {
                message: index,
                why: nothing.why,
                kind: nothing.kind,
            });
            last = Some(nothing);
        };
        let rows = match evaluate(&rule, event, &world, &mut budget) {
            Ok(rows) => rows,
            Err(nothing) => {
                drop(nothing);
                continue;
            }
        };
        for row in &rows {
            // What is not among the outputs is not rendered either: the two go side by side.
            let text = match json::to_text(row) {
                Ok(text) => text,
                Err(fault) => {
                    drop(Nothing::of(&fault));
                    continue;
                }
            };
            if let Err(fault) = budget.take(text.len()) {
                drop(Nothing::of(&fault));
                break;
            }
            if let (Some(template), Some(rendered)) = (&template, &mut rendered) {
                let shown = budget
                    .has_room_for(template, row)
                    .map(|()| render(template, row, case.undefined, event.timestamp_ms));
                match shown.and_then(|shown| budget.take(shown.get().len()).map(|()| shown)) {
                    Ok(shown) => rendered.push(shown),
                    Err(fault) => {
                        drop(Nothing::of(&fault));
                        break;
                    }
                }
            }
            outputs.push(raw(text));
        }
    }
    Ok(match last {
        Some(nothing) if outputs.is_empty() => Answer::Dropped {
            dropped: true,
            why: nothing.why,
            kind: nothing.kind,
            message: nothing.message,
            at: nothing.at,
            messages: if messages.len() > 1 { lost } else { Vec::new() },
            template_errors,
            warnings,
        },
        _ => Answer::Outputs {
            outputs,
            rendered,
            dropped: lost,
            template_errors,
            warnings,
        },
    })
}

/// Why a message made no row.
struct Nothing {
    why: &'static str,
    kind: Option<&'static str>,
    message: Option<String>,
    at: Option<String>,
}

impl Nothing {
    fn because(why: &'static str) -> Self {
        Self {
            why,
            kind: None,
            message: None,
            at: None,
        }
    }

    /// A fault that has no place in the statement.
    fn of(fault: &weir_rules::Fault) -> Self {
        Self {
            why: "exception",
            kind: Some(fault.kind().name()),
            message: Some(fault.message().to_owned()),
            at: None,
        }
    }
}

fn evaluate(
    rule: &Rule,
    event: &Event,
    world: &World,
    budget: &mut Budget,
) -> Result<Vec<Value>, Nothing> {
    budget
        .begin_message()
        .map_err(|fault| Nothing::of(&fault))?;
    if !rule.matches(event) {
        return Err(Nothing::because("not_matched"));
    }
    let world = world.at(i128::from(event.timestamp_ms) * 1_000_000);
    let input = Input::new(event, rule.needs());
    let mut moment = world.moment();
    let mut watch = |value: &Value| budget.take_value(value);
    match rule.evaluate_watched(&input, "case", &mut moment, &mut watch) {
        Ok(rows) if rows.is_empty() => Err(Nothing::because("no_result")),
        Ok(rows) => Ok(rows),
        Err(error) => Err(Nothing {
            why: "exception",
            kind: Some(error.kind.name()),
            at: Some(format!("{}:{}", error.line, error.column)),
            message: Some(error.to_string()),
        }),
    }
}

fn refused(line: usize, errors: Vec<Finding>) -> Answer {
    let first = errors.first().cloned().unwrap_or_else(|| Finding {
        code: "E0002".to_owned(),
        at: "1:1".to_owned(),
        message: "the statement is refused".to_owned(),
    });
    Answer::Refused {
        error: "compile",
        line,
        first,
        errors: if errors.len() > 1 { errors } else { Vec::new() },
    }
}

/// The text of a template for one row; a bound statement as `{"sql", "binds"}`, what cannot be rendered as `{"error", "message"}`.
fn render(
    template: &Template,
    row: &Value,
    undefined: UndefinedPolicy,
    now_ms: i64,
) -> Box<RawValue> {
    let shown = match template.render(row, undefined, now_ms) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) if template.kind() == TemplateKind::Sql => return raw(text),
            Ok(text) => to_raw_value(&text),
            Err(error) => {
                let digits: String = error
                    .as_bytes()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                to_raw_value(&BTreeMap::from([("hex", digits)]))
            }
        },
        Err(error) => to_raw_value(&BTreeMap::from([
            ("error", error.code),
            ("message", &error.message),
        ])),
    };
    shown.expect("texts are JSON")
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("the encoder writes JSON")
}

/// The messages of a line that `weir sub --json` has written, or of a case; as `weir try` reads them.
///
/// # Errors
/// Where in the line, in characters from 1, and why it cannot be used.
pub fn messages(line: &[u8]) -> Result<Vec<Event>, (Option<usize>, String)> {
    let text = std::str::from_utf8(line).map_err(|_| (None, "not UTF-8 text".to_owned()))?;
    let read = || -> Result<Vec<Event>, Fault> {
        let mut fields = Fields::of_line(text)?;
        let one = fields.raw("message");
        if let Some(many) = fields.list("messages")? {
            let many = one.into_iter().chain(many).enumerate();
            return many
                .map(|(index, message)| event(text, Some(index), message))
                .collect();
        }
        let whole: &RawValue =
            serde_json::from_str(text).map_err(|error| Fault::from(error.to_string().as_str()))?;
        event(text, None, one.unwrap_or(whole)).map(|event| vec![event])
    };
    read().map_err(|fault| {
        let column = fault
            .offset
            .map(|offset| text[..offset].chars().count() + 1);
        (column, fault.message)
    })
}

/// A message by its fields; an event or a bridge's message where `event_topic` says so.
fn event(line: &str, index: Option<usize>, text: &RawValue) -> Result<Event, Fault> {
    let name = index.map_or_else(
        || "`message`".to_owned(),
        |index| format!("`messages[{index}]`"),
    );
    let mut message = Fields::of_value(line, name, text)?;
    // The version of the line, which is no field of a message.
    let _ = message.raw("v");
    let timestamp_ms = message.integer("timestamp")?.unwrap_or(NOW_MS);
    let payload = message.payload()?;
    let what = match message.raw("event_topic") {
        Some(topic) => broker_event(topic, message, payload)?,
        None => What::Publish(publish(message, text, payload, timestamp_ms)?),
    };
    Ok(Event { timestamp_ms, what })
}

fn publish(
    mut message: Fields<'_>,
    whole: &RawValue,
    payload: Option<Bytes>,
    timestamp_ms: i64,
) -> Result<Publish, Fault> {
    let Some(at) = message.raw("topic") else {
        return Err(message.fault(
            whole,
            "the key `topic` is missing (or `event_topic`, for an event)",
        ));
    };
    let topic = message.as_text("topic", at)?;
    if let Err(error) = TopicName::new(&topic) {
        let message = message.fault(
            at,
            format!("`topic`: {error}; give the topic of one message"),
        );
        return Err(message);
    }
    let qos = message.choice_of_numbers("qos", 0..=2)?.unwrap_or(0);
    let peer = message.address("peername")?;
    let flags = message.object("flags")?;
    let flag = |name: &str| {
        let flag = flags.as_ref().and_then(|flags| flags.get(name));
        matches!(flag, Some(Value::Bool(true)))
    };
    let (retain, dup) = (flag("retain"), flag("dup"));
    Ok(Publish {
        id: 1,
        topic: Text::from(&*topic),
        payload: payload.unwrap_or_default(),
        client_id: message
            .text("clientid")?
            .map_or(Text::from_static(CLIENT_ID), |id| Text::from(&*id)),
        username: message.text("username")?.map(|name| Text::from(&*name)),
        peer: peer.or(Some(([127, 0, 0, 1], 50_000).into())),
        qos,
        retain: message.boolean("retain")?.unwrap_or(retain),
        dup: message.boolean("dup")?.unwrap_or(dup),
        properties: message.object("pub_props")?,
        client_attrs: message.object("client_attrs")?,
        received_at_ms: timestamp_ms,
        given: message.rest()?.map(Arc::new),
        ..Publish::default()
    })
}

fn broker_event(at: &RawValue, message: Fields<'_>, payload: Option<Bytes>) -> Result<What, Fault> {
    let topic = message.as_text("event_topic", at)?;
    let is_of_bridge = topic.starts_with("$bridges/") || topic.starts_with("$sources/");
    let name = EventName::find(&topic);
    if name.is_none() && !is_of_bridge {
        let text = format!(
            "`event_topic`: there is no event `{topic}`; one is \"$events/client/connected\", or \"$bridges/mqtt:NAME\" of a bridge"
        );
        return Err(message.fault(at, text));
    }
    let mut fields = message.rest()?.unwrap_or_default();
    if let Some(payload) = payload {
        fields.insert(Key::from("payload"), Text::from_bytes(payload).into());
    }
    let fields = Arc::new(fields);
    Ok(match name {
        Some(name) if !is_of_bridge => What::Broker {
            topic: name.topic,
            event: name.event,
            fields,
            made_by: None,
            hops: 0,
        },
        _ => What::Ingress {
            source: topic.as_str().into(),
            fields,
        },
    })
}
