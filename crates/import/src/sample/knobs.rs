//! The parts of a message that a statement looks at, each with its likely values.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{Knob, Part, Source};
use crate::reads::Reads;
use crate::words::Step;

pub(super) fn knobs(source: &Source, reads: &Reads) -> Vec<Knob> {
    let mut knobs = Vec::new();
    let mut add = |part: Part, values: Vec<Json>| {
        knobs.push(Knob {
            part,
            values,
            at: 0,
        })
    };
    match source {
        Source::Topic(filter) | Source::Bridge { filter, .. } => {
            let wildcards = filter
                .split('/')
                .filter(|level| matches!(*level, "+" | "#"));
            for (index, level) in wildcards.enumerate() {
                let before = filter.trim_end_matches('#');
                add(Part::Level(index), levels(index, level, before, reads));
            }
            let is_bridge = matches!(source, Source::Bridge { .. });
            for name in ["clientid", "username", "qos", "retain"] {
                if is_bridge && matches!(name, "clientid" | "username") {
                    continue;
                }
                let asked = match name {
                    "retain" => reads.fields.contains("retain") || reads.fields.contains("flags"),
                    "clientid" => reads.everything || reads.fields.contains(name),
                    name => reads.fields.contains(name),
                };
                if asked {
                    add(Part::Field(name.to_owned()), field_values(name, reads));
                }
            }
            for name in &reads.user_properties {
                let values = field_values(name, reads)
                    .into_iter()
                    .filter(Json::is_string)
                    .collect();
                add(Part::UserProperty(name.clone()), values);
            }
        }
        Source::Event(event) => {
            for name in event.fields.iter().filter(|name| **name != "payload") {
                let shown = reads.everything && matches!(*name, "clientid" | "username" | "topic");
                if shown || reads.fields.contains(*name) {
                    add(Part::Field((*name).to_owned()), field_values(name, reads));
                }
            }
        }
    }
    for path in &reads.payload {
        let last = path.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            _ => None,
        });
        add(
            Part::Payload(path.clone()),
            payload_values(last.unwrap_or("value"), reads),
        );
    }
    if reads.payload.is_empty() && (reads.everything || reads.fields.contains("payload")) {
        let values = vec![json!({"value": 1}), json!({})];
        add(Part::Payload(Vec::new()), values);
    }
    knobs
}

/// Likely texts for the wildcard of that number; `before` is the filter up to a last `#`.
fn levels(index: usize, wildcard: &str, before: &str, reads: &Reads) -> Vec<Json> {
    let usual = ["a1", "b2", "c3", "d4"];
    let mut values = vec![Json::from(*usual.get(index).unwrap_or(&"x"))];
    for constant in &reads.constants {
        let text = match constant {
            Json::String(text) => text.clone(),
            constant => constant.to_string(),
        };
        let text = text.replace(['+', '#'], "a1");
        let text = match text.strip_prefix(before) {
            Some(rest) if wildcard == "#" => rest.to_owned(),
            _ => text,
        };
        let fits = !text.is_empty() && (wildcard == "#" || !text.contains('/'));
        if fits {
            values.push(Json::String(text));
        }
    }
    values.push(json!("7"));
    unique(values)
}

/// Likely values of a field, the most usual first.
fn field_values(name: &str, reads: &Reads) -> Vec<Json> {
    let usual = match name {
        "clientid" | "from_clientid" => json!("c1"),
        "username" | "from_username" => json!("ann"),
        "qos" => return vec![json!(0), json!(1), json!(2)],
        "retain" | "is_superuser" | "is_anonymous" | "clean_start" | "is_bridge" => {
            return vec![json!(false), json!(true)];
        }
        "flags" => {
            return vec![
                json!({"dup": false, "retain": false}),
                json!({"dup": false, "retain": true}),
            ];
        }
        "topic" => json!("t/1"),
        "peername" => json!("10.0.0.7:50000"),
        "sockname" => json!("10.0.0.1:1883"),
        "peerhost" => json!("10.0.0.7"),
        "proto_name" => json!("MQTT"),
        "proto_ver" => json!(5),
        "keepalive" => json!(60),
        "reason" => json!("normal"),
        "reason_code" => json!("success"),
        "action" => json!("publish"),
        "result" => json!("allow"),
        "expiry_interval" | "receive_maximum" => json!(0),
        name if name.ends_with("_at") => json!(1_767_225_600_000_i64),
        name if name.ends_with("_props") || name.ends_with("_attrs") || name == "details" => {
            json!({})
        }
        _ => json!("x"),
    };
    let mut values = vec![usual];
    let topics = reads.constants.iter().filter_map(Json::as_str);
    if name == "topic" {
        values.extend(topics.map(|topic| topic.replace(['+', '#'], "a1").into()));
    }
    values.extend(reads.constants.iter().flat_map(around));
    for reason in ["keepalive_timeout", "no_subscribers", "queue_full"] {
        if name == "reason" {
            values.push(json!(reason));
        }
    }
    unique(values)
}

/// Likely values of something in a payload, the most likely first.
fn payload_values(name: &str, reads: &Reads) -> Vec<Json> {
    let name = name.to_ascii_lowercase();
    let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let likely = if is(&["temp"]) {
        json!(21.5)
    } else if is(&["hum", "level", "percent", "battery"]) {
        json!(40)
    } else if name == "lat" || is(&["latitude"]) {
        json!(52.5)
    } else if name == "lon" || name == "lng" || is(&["longitude"]) {
        json!(13.4)
    } else if name == "ts" || name == "at" || name == "t" || is(&["time", "_at"]) {
        json!(1_767_225_600_000_i64)
    } else if is(&["status", "state"]) {
        json!("ok")
    } else if name.ends_with("id")
        || is(&[
            "name", "device", "type", "kind", "unit", "msg", "text", "mode", "code", "vin",
        ])
    {
        json!("a1")
    } else {
        json!(7)
    };
    let mut values = vec![likely];
    values.extend(reads.constants.iter().flat_map(around));
    values.extend([
        json!(42),
        json!(100),
        json!(1000),
        json!(21.5),
        json!(-1),
        json!("a1"),
        json!(true),
        json!(false),
        json!(1_767_225_600_000_i64),
        json!([1, 2]),
        json!({"a": 1}),
        json!("2026-01-01T00:00:00Z"),
        json!("616263"),
        json!("YWJj"),
        json!("{\"a\":1}"),
        json!("[{\"a\":1}]"),
        json!([{"a": 1}]),
    ]);
    values.extend(reads.constants.iter().map(|constant| json!([constant])));
    unique(values)
}

/// A constant and what lies on either side of it; of a pattern, a text that it may match.
fn around(constant: &Json) -> Vec<Json> {
    match constant {
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => vec![
                number.into(),
                number.saturating_add(1).into(),
                number.saturating_sub(1).into(),
            ],
            (None, Some(number)) => {
                vec![number.into(), (number + 1.0).into(), (number - 1.0).into()]
            }
            _ => Vec::new(),
        },
        Json::String(text) => {
            let matching = text
                .trim_matches(['^', '$'])
                .replace('%', "x")
                .replace('_', "y");
            vec![text.as_str().into(), matching.into()]
        }
        _ => Vec::new(),
    }
}

fn unique(values: Vec<Json>) -> Vec<Json> {
    let mut seen = BTreeSet::new();
    values
        .into_iter()
        .filter(|value| seen.insert(value.to_string()))
        .collect()
}
