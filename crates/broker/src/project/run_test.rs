//! Runs one `[[test]]`: the production path up to the rendered request, in memory, in a world that stands still.

use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value as Json;
use weir_rules::event::{Event, Publish, What};
use weir_rules::value::{Key, Object, Text, Value};
use weir_rules::{Column, EvalError, Input};
use weir_sinks::render;

use super::check::CheckedRule;
use super::expect::{Difference, rows};
use super::rule_file::{Given, RuleTest};
use crate::pipeline::world::World;

/// What time it is in tests that do not say: 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;

/// Who publishes where a test, or a case of `weir try`, does not say.
pub(crate) const CLIENT_ID: &str = "test";

/// The id of every message.
const MESSAGE_ID: u128 = 1;

/// Where messages of a bridge come from.
const SERVER: &str = "remote:1883";

/// How a test ended.
#[derive(Clone, Debug, Serialize)]
pub struct TestResult {
    /// Whether everything was as expected.
    pub passed: bool,
    /// What was not, one line each.
    pub differences: Vec<String>,
}

/// Runs one test of a rule.
pub fn run(rule: &CheckedRule, test: &RuleTest) -> TestResult {
    let differences = match outcome(rule, test) {
        Ok(differences) => differences,
        Err(reason) => vec![reason],
    };
    TestResult {
        passed: differences.is_empty(),
        differences,
    }
}

/// The rows that the messages of a test make.
///
/// # Errors
/// When a message cannot be made, or not be evaluated, or a row not be shown.
pub fn rows_made(rule: &CheckedRule, test: &RuleTest) -> Result<Vec<Json>, String> {
    let (made, errors) = made(rule, test, now_ms(test)?)?;
    match errors.first() {
        Some(error) => Err(error.to_string()),
        None => made.iter().map(to_json).collect(),
    }
}

fn now_ms(test: &RuleTest) -> Result<i64, String> {
    match &test.now {
        Some(text) => text
            .parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond)
            .map_err(|error| format!("now: {error}")),
        None => Ok(NOW_MS),
    }
}

/// The rows of all messages, and the errors.
fn made(
    rule: &CheckedRule,
    test: &RuleTest,
    now_ms: i64,
) -> Result<(Vec<Value>, Vec<EvalError>), String> {
    let world = World::fixed(
        "weir",
        TimeZone::UTC,
        i128::from(now_ms) * 1_000_000,
        test.seed,
    );
    let mut made: Vec<Value> = Vec::new();
    let mut errors: Vec<EvalError> = Vec::new();
    for given in &test.given {
        let event = event(given, now_ms)?;
        if !rule.rule.matches(&event) {
            continue;
        }
        let input = Input::new(&event, rule.rule.needs());
        match rule.rule.evaluate(&input, &rule.id, &mut world.moment()) {
            Ok(rows) => made.extend(rows),
            Err(error) => errors.push(error),
        }
    }
    Ok((made, errors))
}

fn outcome(rule: &CheckedRule, test: &RuleTest) -> Result<Vec<String>, String> {
    let now_ms = now_ms(test)?;
    let (made, errors) = made(rule, test, now_ms)?;
    let mut differences = errors_as_expected(test, &errors);
    if let Some(expected) = &test.expect {
        let got: Vec<Json> = made.iter().map(to_json).collect::<Result<_, _>>()?;
        for difference in rows("row", expected, &got, test.exact) {
            differences.push(difference.to_string());
            differences.extend(origin(rule, &difference));
        }
    }
    for (id, expected) in &test.expect_sink {
        let Some(sink) = rule.sinks.iter().find(|sink| *sink.id == **id) else {
            let known: Vec<&str> = rule.sinks.iter().map(|sink| &*sink.id).collect();
            differences.push(format!(
                "expect_sink.{id}: the rule has no such sink; there are: {}",
                known.join(", ")
            ));
            continue;
        };
        let mut got = Vec::new();
        for row in &made {
            match render(&sink.plan, row, now_ms) {
                Ok(rendered) => got.push(rendered.to_json()),
                Err(error) => differences.push(format!(
                    "{id} request:  expected one   got [{}] {}",
                    error.code, error.message
                )),
            }
        }
        let found = rows(&format!("{id} request"), expected, &got, test.exact);
        differences.extend(found.iter().map(Difference::to_string));
    }
    Ok(differences)
}

/// What computes the column that differs, and where it stands.
fn origin(rule: &CheckedRule, difference: &Difference) -> Option<String> {
    let (_, path) = difference.place.split_once(", ")?;
    let begins_with = |name: &str| {
        let rest = path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // Of two columns of one name the later one counts.
    let columns = rule.rule.explain().columns.iter().rev();
    let (text, at) = columns
        .filter_map(|column| match column {
            Column::Value { name, text, at, .. } => Some((name, text, at)),
            Column::Fields => None,
        })
        .find_map(|(name, text, at)| begins_with(name).then_some((text, at)))?;
    let source = rule.sql.file.as_ref().unwrap_or(&rule.source);
    let (line, column) = source.position(rule.sql.place(at.clone()).start);
    let text: Vec<&str> = text.split_whitespace().collect();
    Some(format!(
        "from   {}   {}:{line}:{column}",
        text.join(" "),
        source.path.display()
    ))
}

fn errors_as_expected(test: &RuleTest, errors: &[EvalError]) -> Vec<String> {
    match &test.expect_error {
        Some(kind) if errors.iter().any(|error| error.kind.name() == kind) => Vec::new(),
        Some(kind) => {
            let got: Vec<String> = errors.iter().map(EvalError::to_string).collect();
            vec![format!(
                "error:  expected {kind}   got {}",
                if got.is_empty() {
                    "none".to_owned()
                } else {
                    got.join("; ")
                }
            )]
        }
        None => errors
            .iter()
            .map(|error| format!("error:  expected none   got {error}"))
            .collect(),
    }
}

/// The event that a test's message is.
///
/// # Errors
/// When the payload is not what its key says.
pub fn event(given: &Given, now_ms: i64) -> Result<Event, String> {
    if given.topic.starts_with("$events/") {
        return broker_event(given, now_ms);
    }
    let source = given
        .bridge
        .as_ref()
        .map(|name| format!("$bridges/mqtt:{name}"));
    let properties = (!given.user_properties.is_empty()).then(|| {
        let pairs: Object = given
            .user_properties
            .iter()
            .map(|(name, value)| (Key::from(name.as_str()), Value::from(value.as_str())))
            .collect();
        Arc::new(Object::from_iter([(
            Key::from("User-Property"),
            Value::from(pairs),
        )]))
    });
    if let Some(source) = source {
        let properties = properties.map_or_else(|| Object::default().into(), Value::Object);
        let fields = [
            ("id", Value::from(format!("{MESSAGE_ID:032x}").as_str())),
            ("server", Value::from(SERVER)),
            ("payload", Value::Text(Text::from_bytes(payload(given)?))),
            ("topic", Value::from(given.topic.as_str())),
            ("qos", Value::Int(given.qos.into())),
            ("dup", Value::Bool(false)),
            ("retain", Value::Bool(given.retain)),
            ("pub_props", properties),
            ("message_received_at", Value::Int(now_ms)),
        ];
        let fields = fields.map(|(name, value)| (Key::from(name), value));
        return Ok(Event {
            timestamp_ms: now_ms,
            what: What::Ingress {
                source: source.as_str().into(),
                fields: Arc::new(Object::from_iter(fields)),
            },
        });
    }
    Ok(Event {
        timestamp_ms: now_ms,
        what: What::Publish(Publish {
            id: MESSAGE_ID,
            topic: given.topic.as_str().into(),
            payload: payload(given)?,
            client_id: given
                .clientid
                .as_deref()
                .map_or(Text::from_static(CLIENT_ID), Text::from),
            username: given.username.as_deref().map(Text::from),
            peer: Some(([127, 0, 0, 1], 50_000).into()),
            qos: given.qos,
            retain: given.retain,
            properties,
            received_at_ms: now_ms,
            ..Publish::default()
        }),
    })
}

/// A broker event: its fields are those of the given payload.
fn broker_event(given: &Given, now_ms: i64) -> Result<Event, String> {
    let fields = match weir_rules::json::decode(&payload(given)?) {
        Ok(Value::Object(fields)) => (*fields).clone(),
        _ if given.payload.is_none() => Object::default(),
        _ => return Err("given.payload: the fields of an event are an object".to_owned()),
    };
    let mut event = Event::broker(&given.topic, fields)
        .ok_or_else(|| format!("given.topic: there is no event `{}`", given.topic))?;
    event.timestamp_ms = now_ms;
    Ok(event)
}

fn payload(given: &Given) -> Result<Bytes, String> {
    match (&given.payload, &given.payload_text, &given.payload_hex) {
        (Some(value), None, None) => serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| format!("given.payload: {error}")),
        (None, Some(text), None) => Ok(Bytes::from(text.clone())),
        (None, None, Some(digits)) => unhex(digits).map(Bytes::from).ok_or_else(|| {
            format!("given.payload_hex: `{digits}` are not pairs of hexadecimal digits")
        }),
        (None, None, None) => Ok(Bytes::new()),
        _ => {
            Err("given: `payload`, `payload_text` and `payload_hex` exclude each other".to_owned())
        }
    }
}

pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

/// A value as tools show it.
///
/// # Errors
/// When it holds bytes that are not UTF-8.
pub fn to_json(value: &Value) -> Result<Json, String> {
    let mut text = Vec::new();
    weir_rules::json::encode(value, &mut text).map_err(|fault| fault.message().to_owned())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::toml_file::Names;
    use crate::problem::Source;
    use crate::project::check::check;
    use crate::project::files::{FileId, Files};

    /// The differences of each test in a rule's file.
    fn differences(text: &str) -> Vec<Vec<String>> {
        let file = Source::new("rules/r.toml", text);
        let files = Files([(FileId::rule("r"), file)].into_iter().collect());
        let checked = check(&files, &Files::default(), None, &Names);
        assert_eq!(checked.refused(), 0, "{:?}", checked.reports);
        let rule = &checked.rules["r"];
        let run = |(test, ..): &(RuleTest, Source, _)| run(rule, test).differences;
        rule.tests.iter().map(run).collect()
    }

    #[test]
    fn a_difference_says_what_computes_the_column() {
        let rule = "sql = '''\nSELECT 1 AS a.b, upper(\n  clientid) AS c, 2 AS \"d e\"\nFROM \"t\"'''\n[[test]]\nname = 't'\n\
            given = [{ topic = 't' }]\nexpect = [{ a = { b = 2 }, c = 'x', f = 1 }]\n";
        assert_eq!(
            differences(rule),
            [[
                "row 1, a.b:  expected 2   got 1",
                "from   1   rules/r.toml:2:8",
                "row 1, c:  expected \"x\"   got \"TEST\"",
                "from   upper( clientid)   rules/r.toml:2:18",
                "row 1, f:  expected 1   got nothing (the key is missing)",
            ]]
        );
    }

    #[test]
    fn a_message_may_have_come_in_over_a_bridge() {
        let rule = "sql = 'SELECT topic, payload.t AS t, event FROM \"$sources/mqtt:hq\"'\n[[test]]\nname = 't'\n\
            given = [{ bridge = 'hq', topic = 'down/1', payload = { t = 2 } }, { bridge = 'other', topic = 'x' }]\n\
            expect = [{ topic = 'down/1', t = 2, event = '$bridges/mqtt:hq' }]\n";
        assert_eq!(differences(rule), [[""; 0]]);
    }

    #[test]
    fn a_message_of_a_bridge_has_every_field_that_it_has_in_a_broker() {
        let rule = "sql = 'SELECT * FROM \"$bridges/mqtt:hq\"'\n[[test]]\nname = 't'\nexact = true\n\
            given = [{ bridge = 'hq', topic = 'down/1', payload_text = 'x', qos = 1 }]\n\
            [[test.expect]]\nevent = '$bridges/mqtt:hq'\ntimestamp = 1767225600000\nnode = 'weir'\n\
            metadata = { rule_id = 'r', trigger = '$bridges/mqtt:hq', matched = '$bridges/mqtt:hq' }\n\
            id = '00000000000000000000000000000001'\nserver = 'remote:1883'\npayload = 'x'\ntopic = 'down/1'\n\
            qos = 1\ndup = false\nretain = false\npub_props = {}\nmessage_received_at = 1767225600000\n";
        assert_eq!(differences(rule), [[""; 0]]);
    }
}
