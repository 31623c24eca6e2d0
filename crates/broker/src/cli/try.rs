//! `weir try`: one message through a statement or a rule, stage by stage; sends nothing.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use weir_mqtt::TopicName;
use weir_rules::event::{Event, EventName, What};
use weir_rules::script::{ScriptLimits, Scripts};
use weir_rules::value::{Object, Value};
use weir_rules::{Catalog, Diagnostic, Input, Origin, Rule, compile};
use weir_sinks::render;

use super::lines::{Line, Lines};
use super::{Common, Exit, out_json, out_line, say};
use crate::app::{system_time_zone, time_zone};
use crate::config::Config;
use crate::pipeline::world::{World, now_ms};
use crate::project::cases::{Answer, Bounds, answer};
use crate::project::check::CheckedSink;
use crate::project::files::{Folders, Kind};
use crate::project::rule_file::Given;
use crate::project::run_test::{CLIENT_ID, event, to_json};

/// What `weir try --help` says of `--cases`.
const CASES_HELP: &str = "\
A line of --cases is {\"sql\": …, \"message\": {…}}; \"messages\": [{…}, …] are several in turn.
  message        topic; payload (a text, or any JSON, sent as its text) or payload_hex;
                 clientid (`test` unless given, as in every mode), username, qos, retain,
                 pub_props, client_attrs; timestamp (ms, also the clock; the start of 2026 unless
                 given); any other field of the source. event_topic names an event
                 (\"$events/client/connected\") or a bridge (\"$bridges/mqtt:hq\") instead of a
                 publish; the other keys are then its fields.
  template       a text with ${places}, filled from every row
  template_kind  text (as it is left out), json, url, topic or sql
  undefined      what a missing place becomes: text (`undefined`, as it is left out), empty, fail
  udf            {\"name\": \"fn of a script …\"}: scripts of user functions

Blank lines are skipped. Every other line has one answer, in the same order:
  {\"outputs\": […], \"rendered\": […]}
                 rows of all messages, and the template for each where one was given: as many as
                 outputs. A row that cannot be written has {\"error\": \"E3101\", \"message\": …}
                 there, an SQL template {\"sql\", \"binds\"}, what is not UTF-8 {\"hex\": …}.
                 \"dropped\": [{\"message\": 1, \"why\": …, \"kind\": …}] is added where messages made
                 no row; `message` counts from 0.
  {\"dropped\": true, \"why\": \"not_matched\"|\"no_result\"|\"exception\", \"kind\", \"message\", \"at\"}
                 no message made a row, and why the last did not; of several, \"messages\" has the
                 same of each.
  {\"error\": \"compile\", \"line\": 3, \"code\": \"E0102\", \"at\": \"1:8\", \"message\": …}
                 `at` is the place in the statement; with \"errors\" where there are several.
  {\"compiled\": true}
                 no message was given.
  {\"error\": \"case\", \"line\": 3, \"column\": 15, \"message\": …}
                 the line cannot be used: exit 1 in the end.
\"template_errors\": [{\"at\": \"1:6\", \"message\": …}] is added where a `${` of the template begins no
place; it stays as it is, as in a sink, and exit is 1 in the end. \"warnings\" are the compiler's.
A message whose rows, or the rows so far, come to more than 16 MiB is dropped with the kind `limit`.
`line` counts the lines of the input from 1. The time zone comes from TZ.";

#[derive(clap::Args)]
#[command(after_long_help = CASES_HELP)]
pub(super) struct Args {
    /// The statement
    #[arg(required_unless_present_any = ["rule", "cases"], conflicts_with = "rule")]
    sql: Option<String>,
    /// A rule of the project instead of a statement
    #[arg(long, short)]
    rule: Option<String>,
    /// Statements with their messages, one JSON object a line (- for stdin); one answer a line. See below
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sql", "rule", "topic", "payload"])]
    cases: Option<String>,
    /// The message's topic; one that the statement's first source matches unless given
    #[arg(long, short)]
    topic: Option<String>,
    /// The payload: text, @file, or - for one JSON payload a line from stdin (answers are lines of JSON)
    #[arg(long, short, default_value = "")]
    payload: String,
    /// The publisher's client id; the tests of rules and the cases of --cases have the same unless they say
    #[arg(long, default_value = CLIENT_ID)]
    clientid: String,
    /// The publisher's user name
    #[arg(long)]
    username: Option<String>,
    /// The message's QoS
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
}

/// What is tried: a rule with its sinks, or a statement alone.
struct Subject {
    id: String,
    rule: Arc<Rule>,
    sinks: Vec<CheckedSink>,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    if let Some(file) = &args.cases {
        return cases(file);
    }
    let config = match common.load() {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    let subject = match &args.rule {
        Some(id) => match super::explain::find(common, id) {
            Ok(rule) => Subject {
                id: rule.id.to_string(),
                rule: rule.rule,
                sinks: rule.sinks,
            },
            Err(exit) => return exit,
        },
        None => match statement(&config, args.sql.as_deref().unwrap_or_default()) {
            Ok(rule) => Subject {
                id: "try".to_owned(),
                rule: Arc::new(rule),
                sinks: Vec::new(),
            },
            Err(exit) => return exit,
        },
    };
    let Ok(zone) = time_zone(&config.rules.timezone) else {
        say(&format!(
            "weir: rules.timezone `{}` is not known",
            config.rules.timezone
        ));
        return Exit::ConfigInvalid;
    };
    let world = World::new(&config.node(), zone);
    if args.payload == "-" {
        return each_line(&subject, args, &world);
    }
    let payload = match payload(&args.payload) {
        Ok(payload) => payload,
        Err(error) => {
            let from = args.payload.strip_prefix('@').unwrap_or_default();
            say(&format!(
                "weir: cannot read the payload from {from}: {error}"
            ));
            say("      --payload takes a text, @FILE, or - for one payload a line from stdin");
            return Exit::Usage;
        }
    };
    let tried = match tried(&subject, args, payload, &world) {
        Ok(tried) => tried,
        Err(message) => {
            say(&format!("weir: {message}"));
            return Exit::Usage;
        }
    };
    if common.json {
        out_json(&tried.json);
    } else {
        out_line(&tried.text);
    }
    if tried.passed {
        Exit::Ok
    } else {
        Exit::Problems
    }
}

/// Compiles a statement with the project's user functions; says what is found.
fn statement(config: &Config, sql: &str) -> Result<Rule, Exit> {
    let (rule, diagnostics) = compiled(config, sql);
    for diagnostic in &diagnostics {
        say(&diagnostic.render(sql, &Origin::default()));
    }
    if rule.is_none() && Path::new(sql).is_file() {
        say(&format!(
            "weir: {sql} is a file: `weir try --rule {sql}` tries a rule, --cases {sql} answers cases"
        ));
    }
    rule.ok_or(Exit::Problems)
}

/// Compiles a statement with the project's user functions; `None` where it is refused.
pub(super) fn compiled(config: &Config, sql: &str) -> (Option<Rule>, Vec<Diagnostic>) {
    let (files, _) = Folders::of(&config.rules).scan();
    let (scripts, _) = Scripts::load_each(
        files
            .of(Kind::Script)
            .map(|(name, source)| (name, &source.text)),
        ScriptLimits::default(),
    );
    let catalog = Catalog {
        scripts: Arc::new(scripts),
    };
    match compile(sql, &catalog) {
        Ok((rule, warnings)) => (Some(rule), warnings),
        Err(errors) => (None, errors),
    }
}

fn payload(text: &str) -> std::io::Result<Vec<u8>> {
    match text.strip_prefix('@') {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            Ok(bytes)
        }
        Some(path) => std::fs::read(path),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Answers the cases of a file, or of stdin, line by line.
fn cases(file: &str) -> Exit {
    let lines: Box<dyn BufRead> = if file == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        match std::fs::File::open(file) {
            Ok(file) => Box::new(std::io::BufReader::new(file)),
            Err(error) => {
                say(&format!("weir: cannot read {file}: {error}"));
                say(
                    "      --cases takes a file of JSON lines, or - for stdin; `weir try --help` shows one",
                );
                return Exit::Usage;
            }
        }
    };
    let zone = system_time_zone();
    let bounds = Bounds::default();
    let mut exit = Exit::Ok;
    let mut answered = false;
    for line in Lines::new(lines) {
        let answer = match line {
            Ok((number, Line::Whole(line))) => answer(&line, number, &zone, &bounds),
            Ok((number, Line::TooLong)) => Answer::unusable(
                number,
                None,
                "the line is longer than 300 MiB: write one case a line",
            ),
            Err(error) => {
                say(&format!("weir: cannot read {file}: {error}"));
                say(
                    "      --cases takes a file of JSON lines, or - for stdin; `weir try --help` shows one",
                );
                return Exit::Usage;
            }
        };
        if answer.is_bad_input() {
            exit = Exit::Problems;
        }
        answered = true;
        out_json(&answer);
    }
    if !answered {
        say(&format!("weir: there is no case in {file}"));
    }
    exit
}

/// NDJSON in, NDJSON out; exit 1 when none passes.
fn each_line(subject: &Subject, args: &Args, world: &World) -> Exit {
    let mut passed = false;
    for line in Lines::new(std::io::stdin().lock()) {
        match line {
            Ok((_, Line::Whole(line))) => match tried(subject, args, line, world) {
                Ok(tried) => {
                    passed |= tried.passed;
                    out_json(&tried.json);
                }
                Err(message) => out_json(&json!({ "v": 1, "passed": false, "error": message })),
            },
            Ok((number, Line::TooLong)) => out_json(
                &json!({ "v": 1, "passed": false, "error": format!("line {number} is longer than 300 MiB") }),
            ),
            Err(error) => {
                say(&format!("weir: cannot read stdin: {error}"));
                return Exit::Usage;
            }
        }
    }
    if passed { Exit::Ok } else { Exit::Problems }
}

struct Tried {
    passed: bool,
    text: String,
    json: Json,
}

/// The stages of one message, gathered for people and for tools.
struct Stages {
    lines: Vec<String>,
    json: Vec<Json>,
}

impl Stages {
    fn add(&mut self, stage: &str, ok: bool, text: &str, value: Json) {
        let word = if ok { "ok" } else { "NO" };
        self.lines.push(format!("{stage:<8} {word}   {text}"));
        self.json
            .push(json!({ "stage": stage, "ok": ok, "value": value }));
    }

    fn end(self, passed: bool) -> Tried {
        let verdict = if passed { "passed" } else { "not passed" };
        let text = format!("{}\n{verdict}", self.lines.join("\n"));
        Tried {
            passed,
            text,
            json: json!({ "v": 1, "passed": passed, "stages": self.json }),
        }
    }
}

/// # Errors
/// When the message is none that a client or the broker could send.
fn tried(subject: &Subject, args: &Args, payload: Vec<u8>, world: &World) -> Result<Tried, String> {
    let mut stages = Stages {
        lines: Vec::new(),
        json: Vec::new(),
    };
    let sources = &subject.rule.explain().sources;
    let event = message(args, sources, payload)?;
    let topic = event.trigger().as_str().unwrap_or_default().to_owned();
    let matched = subject.rule.matches(&event);
    stages.add(
        "match",
        matched,
        &format!("{topic}   {}", sources.join(", ")),
        json!({ "topic": topic, "sources": sources }),
    );
    if !matched {
        return Ok(stages.end(false));
    }
    let input = Input::new(&event, subject.rule.needs());
    let staged = subject
        .rule
        .evaluate_staged(&input, &subject.id, &mut world.moment());
    match input.decoded() {
        None => {}
        Some(Ok(value)) => {
            let value = to_json(value).unwrap_or(Json::Null);
            stages.add("decode", true, &value.to_string(), value.clone());
        }
        Some(Err(kind)) => stages.add("decode", false, kind.name(), json!(kind.name())),
    }
    for term in &staged.terms {
        let (ok, outcome) = match &term.held {
            Ok(Some(held)) => (*held, held.to_string()),
            Ok(None) => (false, "unknown".to_owned()),
            Err(error) => (false, error.to_string()),
        };
        let values: serde_json::Map<String, Json> = term
            .values
            .iter()
            .map(|(name, value)| (name.clone(), shown(value)))
            .collect();
        let text = format!("{}  ->  {} is {outcome}", term.text, term.with_values);
        stages.add(
            "where",
            ok,
            &text,
            json!({ "term": term.text, "values": values, "held": outcome }),
        );
    }
    let rows = match &staged.result {
        Ok(rows) if rows.is_empty() => {
            if subject.rule.explain().foreach.is_some() {
                stages.add("foreach", false, "no element made a row", json!([]));
            }
            return Ok(stages.end(false));
        }
        Ok(rows) => rows,
        Err(error) => {
            stages.add(
                "select",
                false,
                &error.to_string(),
                json!({ "kind": error.kind.name(), "error": error.to_string() }),
            );
            return Ok(stages.end(false));
        }
    };
    let mut passed = true;
    for row in rows {
        let value = shown(row);
        stages.add("select", true, &value.to_string(), value.clone());
        for sink in &subject.sinks {
            match render(&sink.plan, row, event.timestamp_ms) {
                Ok(rendered) => {
                    let rendered = rendered.to_json();
                    stages.add(&sink.id, true, &rendered.to_string(), rendered.clone());
                }
                Err(error) => {
                    passed = false;
                    stages.add(
                        &sink.id,
                        false,
                        &format!("[{}] {error}", error.code),
                        json!({ "code": error.code, "error": error.message }),
                    );
                }
            }
        }
    }
    Ok(stages.end(passed))
}

/// A value as shown; undefined is a word of its own, never null.
fn shown(value: &Value) -> Json {
    match value {
        Value::Undefined => json!("(undefined)"),
        value => to_json(value).unwrap_or_else(|error| json!(format!("({error})"))),
    }
}

fn message(args: &Args, sources: &[String], payload: Vec<u8>) -> Result<Event, String> {
    let topic = args
        .topic
        .clone()
        .unwrap_or_else(|| example_topic(sources.first().map_or("", String::as_str)));
    let given = Given {
        topic,
        qos: args.qos,
        clientid: Some(args.clientid.clone()),
        username: args.username.clone(),
        ..Given::default()
    };
    let now = now_ms();
    if given.topic.starts_with("$events/") {
        if EventName::find(&given.topic).is_none() {
            return Err(format!(
                "there is no event `{}`: name one with --topic, such as $events/client/connected",
                given.topic
            ));
        }
        // The payload gives the event's fields.
        let given = Given {
            payload: None,
            payload_text: Some(String::from_utf8_lossy(&payload).into_owned()),
            ..given
        };
        return event(&given, now).or_else(|_| {
            Event::broker(&given.topic, Object::default())
                .filter(|_| payload.is_empty())
                .map(|event| Event {
                    timestamp_ms: now,
                    ..event
                })
                .ok_or_else(|| {
                    "--payload: the fields of an event are a JSON object: {\"clientid\": \"a\"}"
                        .to_owned()
                })
        });
    }
    if let Err(error) = TopicName::new(&given.topic) {
        return Err(format!(
            "`{}` is no topic of a message: {error}; name one with --topic, such as dev/a/up",
            given.topic.escape_debug()
        ));
    }
    let mut event = event(&given, now)?;
    if let What::Publish(publish) = &mut event.what {
        publish.payload = payload.into();
    }
    Ok(event)
}

/// A topic that a filter matches: `/dev/+/up` gives `/dev/x/up`.
pub(super) fn example_topic(filter: &str) -> String {
    let filter = filter.trim_matches('"');
    let levels: Vec<&str> = filter
        .split('/')
        .map(|level| {
            if matches!(level, "+" | "#") {
                "x"
            } else {
                level
            }
        })
        .collect();
    levels.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_topic_is_one_that_the_filter_matches() {
        for filter in ["/dev/+/up", "#", "a/b", "+/x/#"] {
            assert!(
                weir_mqtt::TopicFilter::parse(filter)
                    .unwrap()
                    .matches(&example_topic(filter)),
                "{filter}"
            );
        }
    }
}
