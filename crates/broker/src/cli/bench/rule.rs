//! `rule`: what evaluating one rule costs a message; no broker, no network, no sink.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_rules::RuleSet;
use weir_rules::event::Event;

use super::report::{as_f64, grouped, rounded, tenths, time};
use super::{Common, Exit, Failure, duration};
use crate::app::time_zone;
use crate::cli::{out_json, out_line, print_problems};
use crate::config::toml_file::Names;
use crate::pipeline::world::{World, now_ms};
use crate::project::check::{CheckedRule, Verdict, check};
use crate::project::files::{Files, Folders};
use crate::project::rule_file::Given;
use crate::project::run_test::event;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The rule's file; connectors and functions come from the project
    file: PathBuf,
    /// The message's topic; that of the file's first test unless given, or one that the statement's source matches
    #[arg(long, short)]
    topic: Option<String>,
    /// The message's payload; that of the file's first test unless given
    #[arg(long, short)]
    payload: Option<String>,
    /// So many rules like it on the same topic
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    copies: u16,
    /// How long to measure
    #[arg(long, default_value = "2s", value_parser = duration)]
    duration: Duration,
    /// Exit with 1 when fewer messages than this are evaluated in a second
    #[arg(long, value_name = "RATE")]
    min: Option<f64>,
}

/// Messages between two looks at the clock.
const BATCH: u32 = 256;

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let rule = match read(&loaded.config.rules, &args.file) {
        Ok(rule) => rule,
        Err(failure) => return failure.tell(),
    };
    let event = match message(args, &rule) {
        Ok(event) => event,
        Err(failure) => return failure.tell(),
    };
    let Ok(zone) = time_zone(&loaded.config.rules.timezone) else {
        let name = &loaded.config.rules.timezone;
        return Failure::usage(format!("rules.timezone `{name}` is not known")).tell();
    };
    let world = World::new(&loaded.config.node(), zone);
    let copies = (0..args.copies).map(|_| Arc::clone(&rule.rule));
    let Some(matched) = RuleSet::new(copies).matching_any(&event) else {
        let topic = event.trigger();
        let topic = topic.as_str().unwrap_or_default();
        return Failure::usage(format!(
            "the rule does not match `{topic}`; --topic gives another"
        ))
        .tell();
    };
    let evaluate = || {
        let input = matched.input(black_box(&event));
        let mut counts = (0, 0);
        // As the pipeline does it: what is sure not to pass costs nothing more.
        for (place, rule) in matched.rules.iter().enumerate() {
            let result = match matched.condition(place, &input) {
                Some(false) => continue,
                Some(true) => rule.evaluate_passed(&input, "bench", &mut world.moment()),
                None => rule.evaluate(&input, "bench", &mut world.moment()),
            };
            match result {
                Ok(rows) => counts.0 += black_box(rows).len() as u64,
                Err(_) => counts.1 += 1,
            }
        }
        counts
    };
    // What is done once, such as filling caches, is not what a message costs.
    for _ in 0..BATCH {
        evaluate();
    }
    let (mut messages, mut rows, mut errors) = (0, 0, 0);
    let start = Instant::now();
    while start.elapsed() < args.duration || messages == 0 {
        for _ in 0..BATCH {
            let (made, failed) = evaluate();
            rows += made;
            errors += failed;
        }
        messages += u64::from(BATCH);
    }
    report(
        common,
        args,
        &rule,
        Outcome {
            messages,
            rows,
            errors,
            time: start.elapsed(),
        },
    )
}

struct Outcome {
    messages: u64,
    rows: u64,
    errors: u64,
    time: Duration,
}

fn report(common: &Common, args: &Args, rule: &CheckedRule, outcome: Outcome) -> Exit {
    let Outcome {
        messages,
        rows,
        errors,
        time: spent,
    } = outcome;
    let per_s = as_f64(messages) / spent.as_secs_f64();
    let ns = spent.as_secs_f64() * 1e9 / as_f64(messages);
    if common.json {
        out_json(&json!({
            "v": 1, "scenario": "rule", "rule": rule.id, "copies": args.copies,
            "messages": messages, "rows": rows, "errors": errors,
            "ns_per_message": tenths(ns), "messages_per_s": tenths(per_s),
        }));
    } else {
        out_line(&format!(
            "rule         {}   {} on the message's topic\n\
             evaluation   {} a message   {} messages/s on one core\n\
             came out     {} rows and {} errors of {} messages",
            rule.id,
            super::super::count(usize::from(args.copies), "rule"),
            time(ns / 1e3),
            rounded(per_s),
            grouped(rows),
            grouped(errors),
            grouped(messages)
        ));
    }
    if args.min.is_some_and(|least| per_s < least) {
        Exit::Problems
    } else {
        Exit::Ok
    }
}

/// The checked rule of a file, with the project's connectors and functions.
fn read(rules: &crate::config::Rules, file: &Path) -> Result<CheckedRule, Failure> {
    let missing = || Failure::usage(format!("there is no rule file {}", file.display()));
    let id = file.file_stem().and_then(|stem| stem.to_str());
    let id = id.filter(|_| file.is_file()).ok_or_else(missing)?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folders = Folders {
        rules: folder.unwrap_or(Path::new(".")).to_path_buf(),
        ..Folders::of(rules)
    };
    let (files, _) = folders.scan();
    let mut checked = check(&files, &Files::default(), None, &Names);
    if let Some(rule) = checked.rules.remove(id) {
        return Ok(rule);
    }
    let ours = checked.reports.iter().filter(|report| report.file.id == id);
    for report in ours.filter(|report| report.verdict != Verdict::Ok) {
        print_problems(&report.problems);
    }
    Err(Failure {
        exit: Exit::Problems,
        text: format!("{} holds no rule that can run", file.display()),
    })
}

/// The message of the file's first test, with what the command line says instead.
fn message(args: &Args, rule: &CheckedRule) -> Result<Event, Failure> {
    let tested = rule.tests.iter().find_map(|(test, ..)| test.given.first());
    let mut given = tested.cloned().unwrap_or_default();
    if let Some(topic) = &args.topic {
        given.topic.clone_from(topic);
    } else if given.topic.is_empty() {
        let sources = &rule.rule.explain().sources;
        given.topic = crate::cli::r#try::example_topic(sources.first().map_or("", String::as_str));
    }
    if let Some(payload) = &args.payload {
        given = Given {
            payload: None,
            payload_hex: None,
            payload_text: Some(payload.clone()),
            ..given
        };
    }
    event(&given, now_ms()).map_err(Failure::usage)
}
