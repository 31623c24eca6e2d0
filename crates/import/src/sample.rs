//! A test for a rule: a message that passes it, guessed, and the rows that it makes of that message.
//!
//! The rule itself is the judge. Every part of the message that the statement looks at has some likely values; one
//! part after the other is turned until all of WHERE holds and a row comes out. What is left to chance, to the clock
//! or to the test's surroundings differs between two worlds, and is not expected.

mod knobs;

use serde_json::{Map, Value as Json, json};
use weir_rules::event::{Event, EventName, Publish, What};
use weir_rules::{Column, Input, Rule, SourceFilter, Staged, Value};

use self::knobs::knobs;
use crate::inbound::Inbound;
use crate::reads::reads;
use crate::source::source_name;
use crate::still::Still;
use crate::toml_text::{inline, key};
use crate::words::Step;

/// The search for a message ends after so many evaluations.
const MAX_TRIES: usize = 6_000;

/// So many of the topics that come in over connectors are tried.
const MAX_SOURCES: usize = 8;

/// One `[[test]]` as TOML, when a message that passes was found.
pub(crate) fn test(rule: &Rule, inbound: &[Inbound]) -> Option<String> {
    rule.sources()
        .iter()
        .flat_map(|filter| Source::all(filter, inbound))
        .take(MAX_SOURCES)
        .find_map(|source| test_by(rule, source))
}

fn test_by(rule: &Rule, source: Source) -> Option<String> {
    let mut search = Search {
        rule,
        knobs: knobs(&source, &reads(rule.sql())),
        source,
        tries: 0,
    };
    search.turn();
    let given = search.given();
    let one = evaluated(rule, &given, &Surroundings::FIRST).result.ok()?;
    let two = evaluated(rule, &given, &Surroundings::SECOND).result.ok()?;
    if one.is_empty() || one.len() != two.len() {
        return None;
    }
    let rows = one
        .iter()
        .zip(&two)
        .map(|(one, two)| certain(&to_json(one)?, &to_json(two)?))
        .map(|row| row.map(|row| asked_for(rule, row)))
        .collect::<Option<Vec<Json>>>()?;
    let name = if rows.len() == 1 {
        "a message like this gives this row"
    } else {
        "a message like this gives these rows"
    };
    Some(format!(
        "[[test]]\nname = \"{name}\"\ngiven = [{}]\nexpect = {}\n",
        given.to_toml(&rows),
        inline(&Json::Array(rows.clone()))
    ))
}

/// What triggers the rule.
enum Source {
    Topic(String),
    Event(&'static EventName),
    /// A message that comes in over a connector.
    Bridge {
        connector: String,
        filter: String,
    },
}

impl Source {
    /// What a source of FROM stands for: of a connector, every topic that comes in over it.
    fn all(filter: &SourceFilter, inbound: &[Inbound]) -> Vec<Self> {
        match filter {
            SourceFilter::Topic(filter) => vec![Self::Topic(filter.as_str().to_owned())],
            SourceFilter::Events { topics, .. } => {
                let event = topics.first().and_then(|topic| EventName::find(topic));
                event.map(Self::Event).into_iter().collect()
            }
            SourceFilter::Bridge { text } => inbound
                .iter()
                .filter(|inbound| {
                    source_name(text)
                        .is_some_and(|(_, name)| name == "*" || inbound.connector == name)
                })
                .map(|inbound| Self::Bridge {
                    connector: inbound.connector.clone(),
                    filter: inbound.filter.clone(),
                })
                .collect(),
        }
    }
}

/// A part of the message, its likely values, and the one that it has.
struct Knob {
    part: Part,
    values: Vec<Json>,
    at: usize,
}

#[derive(PartialEq)]
enum Part {
    /// The level of the topic that holds the wildcard of that number.
    Level(usize),
    /// A field beside the payload.
    Field(String),
    UserProperty(String),
    Payload(Vec<Step>),
}

/// The message of a test.
#[derive(Debug, Default)]
struct Given {
    topic: String,
    /// The connector that it comes in over.
    bridge: Option<String>,
    fields: Map<String, Json>,
    user_properties: Map<String, Json>,
    payload: Option<Json>,
    is_event: bool,
}

/// What a test does not fix.
struct Surroundings {
    now_ms: i64,
    seed: u64,
    id: u128,
    peer: ([u8; 4], u16),
    client_id: &'static str,
    node: &'static str,
    rule_id: &'static str,
    /// Where messages of a connector come from.
    server: &'static str,
}

impl Surroundings {
    const FIRST: Self = Self {
        now_ms: 1_767_225_600_000,
        seed: 1,
        id: 1,
        peer: ([127, 0, 0, 1], 50_000),
        client_id: "test",
        node: "weir",
        rule_id: "imported",
        server: "remote:1883",
    };
    const SECOND: Self = Self {
        now_ms: 1_780_000_000_123,
        seed: 99,
        id: 0xfeed_beef,
        peer: ([10, 9, 8, 7], 41_234),
        client_id: "another",
        node: "elsewhere",
        rule_id: "another",
        server: "another:8883",
    };
}

struct Search<'r> {
    rule: &'r Rule,
    source: Source,
    knobs: Vec<Knob>,
    tries: usize,
}

/// How close a message comes: terms of WHERE that hold; then an error, no row, or rows; then how far it got.
type Score = (usize, u8, usize);

impl Search<'_> {
    /// Turns the knobs until the message passes, or for as long as it comes closer.
    fn turn(&mut self) {
        let mut best = self.score();
        loop {
            let before = best;
            for knob in 0..self.knobs.len() {
                best = self.turn_one(knob, best);
            }
            if best.1 == 2 || best == before || self.tries >= MAX_TRIES {
                break;
            }
        }
        for first in 0..self.knobs.len() {
            for second in first + 1..self.knobs.len() {
                if best.1 == 2 || self.tries >= MAX_TRIES {
                    return;
                }
                best = self.turn_two(first, second, best);
            }
        }
    }

    /// Turns one knob to the first of its values that comes closest.
    fn turn_one(&mut self, knob: usize, best: Score) -> Score {
        let mut kept = (self.knobs[knob].at, best);
        for at in 0..self.knobs[knob].values.len() {
            self.knobs[knob].at = at;
            let score = self.score();
            if score > kept.1 {
                kept = (at, score);
            }
        }
        self.knobs[knob].at = kept.0;
        kept.1
    }

    fn turn_two(&mut self, first: usize, second: usize, best: Score) -> Score {
        let mut kept = (self.knobs[first].at, self.knobs[second].at, best);
        for at in 0..self.knobs[first].values.len() {
            if self.tries >= MAX_TRIES {
                break;
            }
            self.knobs[first].at = at;
            let score = self.turn_one(second, kept.2);
            if score > kept.2 {
                kept = (at, self.knobs[second].at, score);
            }
        }
        (self.knobs[first].at, self.knobs[second].at) = (kept.0, kept.1);
        kept.2
    }

    fn score(&mut self) -> Score {
        self.tries += 1;
        let staged = evaluated(self.rule, &self.given(), &Surroundings::FIRST);
        let held = staged
            .terms
            .iter()
            .filter(|term| matches!(term.held, Ok(Some(true))))
            .count();
        match staged.result {
            Err(error) => (held, 0, error.line * 10_000 + error.column),
            Ok(rows) => match rows.first() {
                None => (held, 1, 0),
                // A row that cannot be JSON cannot be expected.
                Some(_) if rows.iter().any(|row| to_json(row).is_none()) => (held, 1, 1),
                Some(row) => (held, 2, row.as_object().map_or(0, |row| row.len())),
            },
        }
    }

    fn given(&self) -> Given {
        let mut given = Given {
            is_event: matches!(self.source, Source::Event(_)),
            bridge: match &self.source {
                Source::Bridge { connector, .. } => Some(connector.clone()),
                _ => None,
            },
            ..Given::default()
        };
        let mut levels = Vec::new();
        for knob in &self.knobs {
            let value = knob.values.get(knob.at).cloned().unwrap_or_default();
            match &knob.part {
                Part::Level(_) => levels.push(value.as_str().unwrap_or("x").to_owned()),
                Part::Field(name) => {
                    given.fields.insert(name.clone(), value);
                }
                Part::UserProperty(name) => {
                    given.user_properties.insert(name.clone(), value);
                }
                Part::Payload(path) => {
                    put(given.payload.get_or_insert_default(), path, value);
                }
            }
        }
        if let Some(payload) = &mut given.payload {
            // A TOML table has no other order.
            payload.sort_all_objects();
        }
        given.topic = match &self.source {
            Source::Topic(filter) | Source::Bridge { filter, .. } => filled(filter, &levels),
            Source::Event(event) => event.topic.to_owned(),
        };
        given
    }
}

/// A filter with the wildcards filled in.
fn filled(filter: &str, values: &[String]) -> String {
    let mut values = values.iter();
    let levels: Vec<String> = filter
        .split('/')
        .map(|level| match level {
            "+" | "#" => values.next().cloned().unwrap_or_else(|| "x".to_owned()),
            level => level.to_owned(),
        })
        .collect();
    levels.join("/")
}

fn evaluated(rule: &Rule, given: &Given, around: &Surroundings) -> Staged {
    let event = given.event(around);
    let mut world = Still::new(around.now_ms, around.seed, around.node);
    let input = Input::new(&event, rule.needs());
    if rule.matches(&event) {
        rule.evaluate_staged(&input, around.rule_id, &mut world)
    } else {
        Staged {
            terms: Vec::new(),
            result: Ok(Vec::new()),
        }
    }
}

impl Given {
    fn payload_text(&self) -> Option<String> {
        self.payload.as_ref().map(Json::to_string)
    }

    fn event(&self, around: &Surroundings) -> Event {
        if self.is_event {
            let fields = self.event_fields();
            let fields = fields
                .iter()
                .map(|(name, value)| (name.as_str().into(), Value::from(value.clone())))
                .collect();
            if let Some(mut event) = Event::broker(&self.topic, fields) {
                event.timestamp_ms = around.now_ms;
                return event;
            }
        }
        let text = |name: &str| self.fields.get(name).and_then(Json::as_str);
        let properties = (!self.user_properties.is_empty()).then(|| {
            let pairs: Value = self
                .user_properties
                .iter()
                .map(|(name, value)| (name.as_str(), Value::from(value.clone())))
                .collect();
            let properties = [("User-Property".into(), pairs)];
            std::sync::Arc::new(properties.into_iter().collect())
        });
        let qos = self.fields.get("qos").and_then(Json::as_u64);
        let qos = qos.and_then(|qos| u8::try_from(qos).ok()).unwrap_or(0);
        let retain = self.fields.get("retain") == Some(&Json::Bool(true));
        if let Some(connector) = &self.bridge {
            let received_at = Value::Int(around.now_ms);
            // As `weir test` makes it.
            let fields = [
                ("id", format!("{:032x}", around.id).as_str().into()),
                ("server", around.server.into()),
                ("payload", self.payload_text().unwrap_or_default().into()),
                ("topic", self.topic.as_str().into()),
                ("qos", Value::Int(qos.into())),
                ("dup", false.into()),
                ("retain", retain.into()),
                (
                    "pub_props",
                    properties.map_or_else(|| json!({}).into(), Value::Object),
                ),
                ("message_received_at", received_at),
            ];
            let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
            return Event {
                timestamp_ms: around.now_ms,
                what: What::Ingress {
                    source: format!("$bridges/mqtt:{connector}").as_str().into(),
                    fields: std::sync::Arc::new(fields.collect()),
                },
            };
        }
        Event {
            timestamp_ms: around.now_ms,
            what: What::Publish(Publish {
                id: around.id,
                topic: self.topic.as_str().into(),
                payload: self.payload_text().unwrap_or_default().into(),
                client_id: text("clientid").unwrap_or(around.client_id).into(),
                username: text("username").map(Into::into),
                peer: Some(around.peer.into()),
                qos,
                retain,
                properties,
                received_at_ms: around.now_ms,
                ..Publish::default()
            }),
        }
    }

    /// The fields of a broker event: its payload is text.
    fn event_fields(&self) -> Map<String, Json> {
        let mut fields = self.fields.clone();
        if let Some(payload) = self.payload_text() {
            fields.insert("payload".to_owned(), Json::String(payload));
        }
        fields
    }

    /// As an element of `given`.
    fn to_toml(&self, rows: &[Json]) -> String {
        let mut parts = vec![format!("topic = {}", inline(&self.topic.as_str().into()))];
        if let Some(connector) = &self.bridge {
            parts.insert(
                0,
                format!("bridge = {}", inline(&connector.as_str().into())),
            );
        }
        if self.is_event {
            parts.push(format!("payload = {}", inline(&self.event_fields().into())));
            return format!("{{ {} }}", parts.join(", "));
        }
        for (name, value) in &self.fields {
            parts.push(format!("{} = {}", key(name), inline(value)));
        }
        if !self.user_properties.is_empty() {
            let properties = Json::Object(self.user_properties.clone());
            parts.push(format!("user_properties = {}", inline(&properties)));
        }
        if let (Some(payload), Some(text)) = (&self.payload, self.payload_text()) {
            // Where the row holds the payload as it came, the test says it to the byte.
            let as_text = rows.iter().any(|row| holds(row, &text));
            parts.push(if as_text {
                format!("payload_text = {}", inline(&text.into()))
            } else {
                format!("payload = {}", inline(payload))
            });
        }
        format!("{{ {} }}", parts.join(", "))
    }
}

fn holds(value: &Json, text: &str) -> bool {
    match value {
        Json::String(value) => value.contains(text),
        Json::Array(items) => items.iter().any(|item| holds(item, text)),
        Json::Object(members) => members.values().any(|member| holds(member, text)),
        _ => false,
    }
}

/// Sets a path in a payload that is being made.
fn put(here: &mut Json, path: &[Step], value: Json) {
    let Some((step, rest)) = path.split_first() else {
        *here = value;
        return;
    };
    match step {
        Step::Key(name) => {
            if !here.is_object() {
                *here = json!({});
            }
            if let Json::Object(members) = here {
                put(
                    members.entry(name.clone()).or_insert(Json::Null),
                    rest,
                    value,
                );
            }
        }
        Step::Index(_) | Step::Any => {
            let index = match step {
                Step::Index(index) => index - 1,
                _ => 0,
            };
            if !here.is_array() {
                *here = json!([]);
            }
            if let Json::Array(items) = here {
                // TOML has no null: what lies before is like what is meant, or an empty object.
                let filler = if rest.is_empty() {
                    value.clone()
                } else {
                    json!({})
                };
                while items.len() <= index {
                    items.push(filler.clone());
                }
                if let Some(item) = items.get_mut(index) {
                    put(item, rest, value);
                }
            }
        }
    }
}

fn to_json(row: &Value) -> Option<Json> {
    let mut text = Vec::new();
    weir_rules::json::encode(row, &mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What two worlds agree on; `None` where they agree on nothing.
fn certain(one: &Json, two: &Json) -> Option<Json> {
    match (one, two) {
        (Json::Object(one), Json::Object(two)) => {
            let members = one.iter().filter_map(|(name, one)| {
                let value = certain(one, two.get(name)?)?;
                Some((name.clone(), value))
            });
            Some(Json::Object(members.collect()))
        }
        _ => (one == two).then(|| one.clone()),
    }
}

/// Without what `*` brings along and nobody would look for.
fn asked_for(rule: &Rule, mut row: Json) -> Json {
    const ALONG: [&str; 7] = [
        "event",
        "metadata",
        "flags",
        "retain",
        "pub_props",
        "client_attrs",
        "peerhost",
    ];
    if let Json::Object(members) = &mut row {
        members.retain(|member, _| {
            let is_column =
                |column: &Column| matches!(column, Column::Value { name, .. } if name == member);
            !ALONG.contains(&member.as_str()) || rule.explain().columns.iter().any(is_column)
        });
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_rules::{Catalog, compile};

    fn test_of(sql: &str) -> Option<toml::Table> {
        let (rule, _) = compile(sql, &Catalog::default()).unwrap();
        let text = test(&rule, &[])?;
        let file: toml::Table = toml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        file["test"][0].as_table().cloned()
    }

    fn row(sql: &str) -> toml::Table {
        let test = test_of(sql).unwrap_or_else(|| panic!("no message passes {sql}"));
        test["expect"][0].as_table().unwrap().clone()
    }

    #[test]
    fn a_message_is_found_that_every_term_of_where_lets_pass() {
        let test = test_of(
            "SELECT payload.temp AS temp, nth(2, tokens(topic, '/')) AS room FROM \"site/+/up\" \
             WHERE payload.temp > 30 AND payload.kind = 'air' AND clientid =~ 'x' OR payload.force = true",
        )
        .unwrap();
        assert_eq!(test["expect"][0]["room"].as_str(), Some("a1"));
        let row = row(
            "SELECT payload.a AS a, payload.b AS b, qos FROM \"t\" WHERE payload.a >= 12.5 AND payload.b IN ('x', 'y') AND qos <> 0",
        );
        assert!(row["a"].as_float().unwrap() >= 12.5);
        assert_eq!(row["qos"].as_integer(), Some(1));
    }

    #[test]
    fn a_value_that_does_not_fit_its_function_is_replaced_by_one_that_does() {
        let row = row(
            "SELECT upper(payload.value) AS u, payload.list[2] * 2 AS l, strlen(payload.hum) AS n FROM \"t\"",
        );
        assert_eq!(row["u"].as_str(), Some("A1"));
        assert_eq!(row["l"].as_integer(), Some(14));
    }

    #[test]
    fn texts_that_a_function_decodes_and_topics_that_a_filter_matches_are_found() {
        let row = row(
            "SELECT base64_decode(payload.raw) AS raw, contains('fire', payload.alarms) AS fire FROM \"a/#\" WHERE topic =~ 'a/+/c' AND contains('fire', payload.alarms)",
        );
        assert_eq!(row["raw"].as_str(), Some("abc"));
        assert_eq!(row["fire"].as_bool(), Some(true));
    }

    #[test]
    fn two_parts_that_depend_on_each_other_are_turned_together() {
        let row = row(
            "SELECT payload.lo AS lo, payload.hi AS hi FROM \"t\" WHERE payload.lo + payload.hi = 84 AND payload.lo <> 84",
        );
        let part = |name: &str| row[name].as_integer().unwrap();
        assert_eq!(part("lo") + part("hi"), 84);
    }

    #[test]
    fn what_depends_on_chance_or_time_is_not_expected() {
        let row = row(
            "SELECT uuid_v4() AS u, timestamp AS t, id, node, peername, payload.a AS a FROM \"t\"",
        );
        let keys: Vec<&str> = row.keys().map(String::as_str).collect();
        assert_eq!(keys, ["a"]);
    }

    #[test]
    fn of_everything_only_what_tells_something_is_expected() {
        let row = row("SELECT *, retain FROM \"t/+\"");
        let keys: Vec<&str> = row.keys().map(String::as_str).collect();
        assert_eq!(keys, ["clientid", "payload", "qos", "retain", "topic"]);
    }

    #[test]
    fn elements_of_foreach_are_given_what_do_and_incase_read() {
        let test = test_of(
            "FOREACH payload.list AS s DO s.id AS id, s.v AS v INCASE s.v > 100 FROM \"gw/#\"",
        )
        .unwrap();
        assert!(test["expect"][0]["v"].as_integer().unwrap() > 100);
        assert_eq!(test["given"][0]["topic"].as_str(), Some("gw/a1"));
    }

    #[test]
    fn an_event_is_given_as_its_fields() {
        let test = test_of(
            "SELECT clientid, reason FROM \"$events/client_disconnected\" WHERE reason = 'kicked'",
        )
        .unwrap();
        assert_eq!(
            test["given"][0]["topic"].as_str(),
            Some("$events/client/disconnected")
        );
        assert_eq!(
            test["given"][0]["payload"]["reason"].as_str(),
            Some("kicked")
        );
    }

    #[test]
    fn a_payload_that_is_passed_on_as_it_came_is_given_to_the_byte() {
        let test = test_of("SELECT payload FROM \"t\"").unwrap();
        assert_eq!(
            test["given"][0]["payload_text"],
            test["expect"][0]["payload"]
        );
    }

    #[test]
    fn where_nothing_passes_there_is_no_test() {
        assert!(
            test_of("SELECT 1 AS a FROM \"t\" WHERE payload.a = 1 AND payload.a = 2").is_none()
        );
        assert!(test_of("SELECT payload FROM \"$bridges/mqtt:x\"").is_none());
    }
}
