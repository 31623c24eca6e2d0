//! Runs one `[[test]]`: the production path up to the rendered request, in memory, in a world that stands still.

use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value as Json;
use weir_rules::event::{Event, Publish, What};
use weir_rules::value::{Key, Object, Text, Value};
use weir_rules::{EvalError, Input};
use weir_sinks::render;

use super::check::CheckedRule;
use super::expect::{Difference, rows};
use super::rule_file::{Given, RuleTest};
use crate::pipeline::world::World;

/// What time it is in tests that do not say: 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;

/// Who publishes where a test, or a case of `weir try`, does not say.
pub(crate) const CLIENT_ID: &str = "test";

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

fn outcome(rule: &CheckedRule, test: &RuleTest) -> Result<Vec<String>, String> {
    let now_ms = match &test.now {
        Some(text) => text
            .parse::<jiff::Timestamp>()
            .map_err(|error| format!("now: {error}"))?
            .as_millisecond(),
        None => NOW_MS,
    };
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
    let mut differences = errors_as_expected(test, &errors);
    if let Some(expected) = &test.expect {
        let got: Vec<Json> = made.iter().map(to_json).collect::<Result<_, _>>()?;
        differences.extend(
            rows("row", expected, &got, test.exact)
                .iter()
                .map(Difference::to_string),
        );
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
    Ok(Event {
        timestamp_ms: now_ms,
        what: What::Publish(Publish {
            id: 1,
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
