//! Runs every `tests/golden/**/*.sql`: statements with what they give, written by people who know SQL but no Rust.
//!
//! A file holds cases, separated by a line of `----`. A case is a head of `-- key: value` lines and a statement:
//!
//! - `-- topic:`, `-- payload:`, `-- clientid:`, `-- event:` with `-- fields:` say what happens; each `payload` or
//!   `event` is one message (a topic and a client id stay for the next), and without any there is one empty message;
//! - `-- result:` (JSON) or `-- failed:` (an evaluation error) after it is what the rule made of it;
//! - `-- error:` or `-- warning:`, each followed by lines of `-- | …`, are the compiler's findings.
//!
//! `UPDATE=1` rewrites the expectations; the difference is what reviewers read.
#![expect(
    clippy::unwrap_used,
    reason = "a golden file that cannot be read is a mistake in it"
)]

#[path = "support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::World;
use weir_rules::event::{Publish, What};
use weir_rules::script::Scripts;
use weir_rules::{Catalog, Code, Event, Input, Origin, Rule, Severity, Value, compile, json};

const SEPARATOR: &str = "----";

/// Keys of a head that are expectations, and so are written anew.
const EXPECTATIONS: [&str; 4] = ["result", "failed", "error", "warning"];

#[test]
#[expect(clippy::disallowed_methods, reason = "only rules may not read files")]
fn every_golden_statement_gives_what_its_file_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let catalog = catalog();
    let update = std::env::var_os("UPDATE").is_some();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let (mut cases, mut wrong) = (0, Vec::new());
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let found: Vec<String> = split(&text)
            .iter()
            .map(|case| run(case, &catalog))
            .collect();
        cases += found.len();
        let found = found.join(&format!("{SEPARATOR}\n"));
        if found != text {
            if update {
                std::fs::write(file, found).unwrap();
            } else {
                wrong.push(difference(file, &text, &found));
            }
        }
    }
    assert!(
        cases >= 120,
        "only {cases} cases in {} files were found",
        files.len()
    );
    assert!(
        wrong.is_empty(),
        "{} files differ (UPDATE=1 rewrites them):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// `diagnostics/CODE.sql` shows what each code is given for.
#[test]
#[expect(clippy::disallowed_methods, reason = "only rules may not read files")]
fn every_code_has_a_golden_file_that_shows_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/diagnostics");
    for code in Code::ALL {
        let file = folder.join(format!("{code}.sql"));
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let shown = format!("-- | {}[{code}]: ", code.severity().name());
        assert!(text.contains(&shown), "{} shows no {code}", file.display());
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}

fn split(text: &str) -> Vec<String> {
    let mut cases = vec![String::new()];
    for line in text.lines() {
        if line == SEPARATOR {
            cases.push(String::new());
        } else {
            let case = cases.last_mut().unwrap();
            case.push_str(line);
            case.push('\n');
        }
    }
    cases
}

fn difference(file: &Path, expected: &str, found: &str) -> String {
    let mut text = format!("{}\n", file.display());
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    for (index, line) in expected
        .iter()
        .enumerate()
        .filter(|(_, line)| !found.contains(line))
    {
        writeln!(text, "  -{}: {line}", index + 1).unwrap();
    }
    for (index, line) in found
        .iter()
        .enumerate()
        .filter(|(_, line)| !expected.contains(line))
    {
        writeln!(text, "  +{}: {line}", index + 1).unwrap();
    }
    text
}

/// What is said so far about the next message.
struct Message {
    topic: String,
    client_id: String,
    event: Option<String>,
}

/// The case as it must look: its head with every expectation as it was found.
fn run(case: &str, catalog: &Catalog) -> String {
    let head_lines = case
        .lines()
        .take_while(|line| line.starts_with("--"))
        .count();
    let head: Vec<&str> = case.lines().take(head_lines).collect();
    let sql = case.lines().skip(head_lines).collect::<Vec<_>>().join("\n");
    let compiled = compile(&sql, catalog);
    let mut out = String::new();
    let mut message = Message {
        topic: "t/1".to_owned(),
        client_id: "c1".to_owned(),
        event: None,
    };
    let (mut world, mut sent) = (World::new(), false);
    for line in head {
        let (key, value) = line
            .trim_start_matches("--")
            .split_once(':')
            .unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        if EXPECTATIONS.contains(&key) || line.starts_with("-- |") {
            continue;
        }
        writeln!(out, "{line}").unwrap();
        match key {
            "topic" => value.clone_into(&mut message.topic),
            "clientid" => value.clone_into(&mut message.client_id),
            "event" => message.event = Some(value.to_owned()),
            "payload" | "fields" | "payload_hex" => {
                sent = true;
                if let Ok((rule, _)) = &compiled {
                    out.push_str(&evaluate(rule, &event(&message, key, value), &mut world));
                }
            }
            _ => {}
        }
    }
    let findings = match &compiled {
        Ok((rule, warnings)) => {
            if !sent {
                out.push_str(&evaluate(rule, &event(&message, "payload", ""), &mut world));
            }
            warnings
        }
        Err(findings) => findings,
    };
    for finding in findings {
        writeln!(
            out,
            "-- {}:",
            if finding.severity == Severity::Error {
                "error"
            } else {
                "warning"
            }
        )
        .unwrap();
        for line in finding.render(&sql, &Origin::default()).lines() {
            writeln!(out, "-- | {line}").unwrap();
        }
    }
    writeln!(out, "{sql}").unwrap();
    out
}

fn catalog() -> Catalog {
    let script = "fn dew_point(t, h) { t - (100.0 - h) / 5.0 }\nfn fail() { throw \"no reading\" }";
    Catalog {
        scripts: Arc::new(Scripts::load([("climate", script)]).unwrap()),
    }
}

fn event(message: &Message, key: &str, value: &str) -> Event {
    if let Some(topic) = &message.event {
        let fields = json::decode(if value.is_empty() { "{}" } else { value }.as_bytes()).unwrap();
        let fields = fields.as_object().unwrap().clone();
        if topic.starts_with("$bridges/") || topic.starts_with("$sources/") {
            return Event {
                timestamp_ms: 1_700_000_000_123,
                what: What::Ingress {
                    source: topic.as_str().into(),
                    fields: Arc::new(fields),
                },
            };
        }
        let mut event = Event::broker(topic, fields).expect("a known event");
        event.timestamp_ms = 1_700_000_000_123;
        return event;
    }
    let payload = if key == "payload_hex" {
        (0..value.len() / 2)
            .map(|at| u8::from_str_radix(&value[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    } else {
        value.as_bytes().to_vec()
    };
    Event {
        timestamp_ms: 1_700_000_000_123,
        what: What::Publish(Publish {
            id: 0x0123_4567_89ab,
            topic: message.topic.as_str().into(),
            payload: payload.into(),
            client_id: message.client_id.as_str().into(),
            peer: Some("192.0.2.1:50000".parse().unwrap()),
            qos: 1,
            received_at_ms: 1_700_000_000_120,
            ..Publish::default()
        }),
    }
}

fn evaluate(rule: &Rule, event: &Event, world: &mut World) -> String {
    if !rule.matches(event) {
        return "-- result: not matched\n".to_owned();
    }
    match world.evaluate(rule, &Input::new(event, rule.needs())) {
        Ok(outputs) => match json::to_text(&Value::from(outputs)) {
            Ok(text) => format!("-- result: {text}\n"),
            Err(fault) => format!("-- result: no JSON: {}\n", fault.message()),
        },
        Err(error) => format!("-- failed: {error}\n"),
    }
}
