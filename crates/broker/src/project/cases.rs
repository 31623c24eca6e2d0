//! `weir try --cases`: statements with their messages, one JSON object a line in, one answer a line out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use weir_rules::event::{Event, EventName, Publish, What};
use weir_rules::script::{ScriptLimits, Scripts};
use weir_rules::template::{Template, TemplateKind, UndefinedPolicy};
use weir_rules::value::{Key, Object, Text, Value};
use weir_rules::{Catalog, Diagnostic, Input, Rule, Severity, compile, json};

use super::run_test::{NOW_MS, unhex};
use crate::pipeline::world::World;

/// One line of input. Further keys are allowed: a name, what is expected.
#[derive(Deserialize)]
struct Case<'l> {
    sql: String,
    #[serde(borrow)]
    message: Option<&'l RawValue>,
    #[serde(borrow)]
    messages: Option<Vec<&'l RawValue>>,
    template: Option<String>,
    template_kind: Option<TemplateKind>,
    undefined: Option<UndefinedPolicy>,
    #[serde(default)]
    udf: BTreeMap<String, String>,
}

/// What became of a case.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The rule made these rows.
    Outputs {
        /// In order, of all messages.
        outputs: Vec<Box<RawValue>>,
        /// The template for each row, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        rendered: Option<Vec<Box<RawValue>>>,
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
        /// What is wrong with it.
        message: String,
    },
    /// No message was given: the statement compiles.
    Compiled {
        /// Always true.
        compiled: bool,
        /// What the compiler warned of.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Finding>,
    },
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
pub fn answer(line: &str, zone: &TimeZone) -> Answer {
    match run(line, zone) {
        Ok(answer) => answer,
        Err(message) => Answer::Unusable {
            error: "case",
            message,
        },
    }
}

fn run(line: &str, zone: &TimeZone) -> Result<Answer, String> {
    let case: Case<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let messages = match (case.message, case.messages) {
        (Some(_), Some(_)) => return Err("`message` and `messages` exclude each other".to_owned()),
        (Some(message), None) => vec![message],
        (None, messages) => messages.unwrap_or_default(),
    };
    let messages = messages
        .into_iter()
        .map(event)
        .collect::<Result<Vec<Event>, String>>()?;
    // What a script gives must not depend on how busy the machine is.
    let limits = ScriptLimits {
        time: Duration::from_secs(2),
        ..ScriptLimits::default()
    };
    let scripts = match Scripts::load_each(&case.udf, limits) {
        (scripts, errors) if errors.is_empty() => Arc::new(scripts),
        (_, errors) => {
            let findings = errors.iter().map(|error| Finding {
                code: "E1011".to_owned(),
                at: format!("{}:{}", error.line, error.column),
                message: error.to_string(),
            });
            return Ok(refused(findings.collect()));
        }
    };
    let (rule, warnings) = match compile(&case.sql, &Catalog { scripts }) {
        Ok((rule, warnings)) => (rule, warnings.iter().map(Finding::from).collect()),
        Err(found) => {
            let errors = found
                .iter()
                .filter(|found| found.severity == Severity::Error);
            return Ok(refused(errors.map(Finding::from).collect()));
        }
    };
    if messages.is_empty() {
        return Ok(Answer::Compiled {
            compiled: true,
            warnings,
        });
    }
    let template = case
        .template
        .map(|text| Template::parse(&text, case.template_kind.unwrap_or(TemplateKind::Text)).0);
    let undefined = case.undefined.unwrap_or(UndefinedPolicy::Text);
    let world = World::new("weir", zone.clone());
    let (mut rows, mut nothing) = (Vec::new(), None);
    for event in &messages {
        match evaluate(&rule, event, &world) {
            Ok(made) => rows.extend(made.into_iter().map(|row| (row, event.timestamp_ms))),
            Err(why) => nothing = Some(why),
        }
    }
    let mut outputs = Vec::new();
    let mut rendered = template.as_ref().map(|_| Vec::new());
    for (row, now_ms) in &rows {
        match json::to_text(row) {
            Ok(text) => outputs.push(raw(text)),
            Err(fault) => {
                nothing = Some(Nothing {
                    why: "exception",
                    kind: Some(fault.kind().name()),
                    message: Some(fault.message().to_owned()),
                    at: None,
                });
            }
        }
        if let (Some(template), Some(rendered)) = (&template, &mut rendered) {
            rendered.push(render(template, row, undefined, *now_ms));
        }
    }
    Ok(match nothing {
        Some(nothing) if outputs.is_empty() => Answer::Dropped {
            dropped: true,
            why: nothing.why,
            kind: nothing.kind,
            message: nothing.message,
            at: nothing.at,
            warnings,
        },
        _ => Answer::Outputs {
            outputs,
            rendered,
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
}

fn evaluate(rule: &Rule, event: &Event, world: &World) -> Result<Vec<Value>, Nothing> {
    if !rule.matches(event) {
        return Err(Nothing::because("not_matched"));
    }
    let world = world.at(i128::from(event.timestamp_ms) * 1_000_000);
    let input = Input::new(event, rule.needs());
    match rule.evaluate(&input, "case", &mut world.moment()) {
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

fn refused(errors: Vec<Finding>) -> Answer {
    let first = errors.first().cloned().unwrap_or_else(|| Finding {
        code: "E0002".to_owned(),
        at: "1:1".to_owned(),
        message: "the statement is refused".to_owned(),
    });
    Answer::Refused {
        error: "compile",
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

/// A message by its fields; an event or a bridge's message where `event_topic` says so.
fn event(text: &RawValue) -> Result<Event, String> {
    let mut message =
        Message(serde_json::from_str(text.get()).map_err(|error| format!("a message: {error}"))?);
    let timestamp_ms = match message.take("timestamp")? {
        None => NOW_MS,
        Some(Value::Int(number)) => number,
        Some(_) => return Err("`timestamp` takes milliseconds, an integer".to_owned()),
    };
    let payload = message.payload()?;
    let what = match message.text("event_topic")? {
        Some(topic) => broker_event(&topic, message, payload)?,
        None => What::Publish(publish(message, payload, timestamp_ms)?),
    };
    Ok(Event { timestamp_ms, what })
}

fn publish(
    mut message: Message<'_>,
    payload: Option<Bytes>,
    timestamp_ms: i64,
) -> Result<Publish, String> {
    let topic = message
        .text("topic")?
        .ok_or("a message has a `topic`, or an `event_topic`")?;
    let integer = |value| match value {
        Some(Value::Int(number)) => u8::try_from(number).ok().filter(|qos| *qos <= 2),
        _ => None,
    };
    let qos = match message.take("qos")? {
        None => 0,
        value => integer(value).ok_or("`qos` is 0, 1 or 2")?,
    };
    let peer = message
        .text("peername")?
        .map(|peer| {
            peer.parse()
                .map_err(|_| format!("`peername` is an address and a port, not `{peer}`"))
        })
        .transpose()?;
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
            .map_or(Text::from_static("test"), |id| Text::from(&*id)),
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

fn broker_event(topic: &str, message: Message<'_>, payload: Option<Bytes>) -> Result<What, String> {
    let mut fields = message.rest()?.unwrap_or_default();
    if let Some(payload) = payload {
        fields.insert(Key::from("payload"), Text::from_bytes(payload).into());
    }
    if topic.starts_with("$bridges/") || topic.starts_with("$sources/") {
        return Ok(What::Ingress {
            source: topic.into(),
            fields: Arc::new(fields),
        });
    }
    let name = EventName::find(topic).ok_or_else(|| format!("there is no event `{topic}`"))?;
    Ok(What::Broker {
        topic: name.topic,
        event: name.event,
        fields: Arc::new(fields),
    })
}

/// The keys of a message that were not read yet, each with its JSON as it was written.
struct Message<'l>(BTreeMap<String, &'l RawValue>);

impl Message<'_> {
    fn take(&mut self, key: &str) -> Result<Option<Value>, String> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(text) => value(key, text).map(Some),
        }
    }

    /// A text; null is none.
    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.take(key)? {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(format!("`{key}` is a text")),
            },
        }
    }

    fn boolean(&mut self, key: &str) -> Result<Option<bool>, String> {
        match self.take(key)? {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(format!("`{key}` is true or false")),
        }
    }

    fn object(&mut self, key: &str) -> Result<Option<Arc<Object>>, String> {
        match self.take(key)? {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(format!("`{key}` is an object")),
        }
    }

    /// `payload` is a text, or any other JSON as it was written; `payload_hex` any bytes.
    fn payload(&mut self) -> Result<Option<Bytes>, String> {
        match (self.0.remove("payload"), self.text("payload_hex")?) {
            (Some(_), Some(_)) => Err("`payload` and `payload_hex` exclude each other".to_owned()),
            (Some(text), None) if text.get().starts_with('"') => {
                let text: String = serde_json::from_str(text.get())
                    .map_err(|error| format!("`payload`: {error}"))?;
                Ok(Some(text.into()))
            }
            (Some(text), None) => Ok(Some(Bytes::copy_from_slice(text.get().as_bytes()))),
            (None, Some(digits)) => unhex(&digits)
                .map(|bytes| Some(bytes.into()))
                .ok_or_else(|| "`payload_hex` is pairs of hexadecimal digits".to_owned()),
            (None, None) => Ok(None),
        }
    }

    /// Every key that is left, as fields.
    fn rest(self) -> Result<Option<Object>, String> {
        let fields: Object = self
            .0
            .into_iter()
            .map(|(key, text)| Ok((Key::from(key.as_str()), value(&key, text)?)))
            .collect::<Result<_, String>>()?;
        Ok((!fields.is_empty()).then_some(fields))
    }
}

fn value(key: &str, text: &RawValue) -> Result<Value, String> {
    json::decode(text.get().as_bytes()).map_err(|fault| format!("`{key}`: {}", fault.message()))
}
