//! Recorded messages through the rules of the project.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::json;
use weir_rules::event::Event;

use super::{Args, new_version, version};
use crate::cli::lines::{Line, Lines};
use crate::cli::{Common, Exit, count, out_json, out_line, print_problems, say};
use crate::config::toml_file::Names;
use crate::project::cases::messages;
use crate::project::check::check;
use crate::project::compare::Version;
use crate::project::files::{Files, Folders};

/// Runs the messages of a file through one rule or all; sends nothing.
pub(super) fn run(common: &Common, args: &Args, file: &str) -> Result<Exit, Exit> {
    let config = common.load()?.config;
    let rules = match &args.rule {
        Some(_) => vec![new_version(&config, args)?.rule],
        None => {
            let files = Folders::of(&config.rules).scan().0;
            let checked = check(&files, &Files::default(), None, &Names);
            for report in &checked.reports {
                print_problems(&report.problems);
            }
            checked.rules.into_values().collect()
        }
    };
    let rules: Vec<Version> = rules
        .into_iter()
        .map(|rule| version(&config, rule))
        .collect::<Result<_, _>>()?;
    let started = Instant::now();
    let (mut replayed, mut passed, mut rows, mut errors) = (0_u64, 0_u64, 0_u64, 0_u64);
    each(file, &mut |line, event| {
        replayed += 1;
        let mut made = 0;
        for rule in rules.iter().filter(|rule| rule.wants(&event)) {
            match rule.rows(&event) {
                Ok(more) => made += more.len() as u64,
                Err(error) => {
                    errors += 1;
                    if args.limit == 0 || errors <= args.limit as u64 {
                        say(&format!("{file}:{line}: {}: {error}", rule.rule().id));
                    }
                }
            }
        }
        passed += u64::from(made > 0);
        rows += made;
        ControlFlow::Continue(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    if common.json {
        out_json(&json!({
            "v": 1, "replayed": replayed, "passed": passed, "rows": rows, "errors": errors, "seconds": seconds,
        }));
    } else {
        out_line(&format!(
            "replayed {replayed} in {seconds:.1} s  passed {passed}  rows {rows}  errors {errors}"
        ));
    }
    Ok(Exit::Ok)
}

/// Gives every message of a file with its line, until it is told to stop. Lines that cannot be used are told, and make it
/// an error when all are read.
pub(super) fn each(
    file: &str,
    take: &mut dyn FnMut(usize, Event) -> ControlFlow<()>,
) -> Result<(), Exit> {
    let lines: Box<dyn BufRead> = if file == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        match std::fs::File::open(file) {
            Ok(file) => Box::new(std::io::BufReader::new(file)),
            Err(error) => return Err(unreadable(file, &error)),
        }
    };
    let (mut bad, mut found) = (0, false);
    for line in Lines::new(lines) {
        let (number, read) = match line {
            Ok((number, Line::Whole(line))) => (number, messages(&line)),
            Ok((number, Line::TooLong)) => (
                number,
                Err((None, "the line is longer than 300 MiB".to_owned())),
            ),
            Err(error) => return Err(unreadable(file, &error)),
        };
        match read {
            Ok(events) => {
                found = true;
                let mut events = events.into_iter();
                if events.try_for_each(|event| take(number, event)).is_break() {
                    return Ok(());
                }
            }
            Err((column, why)) => {
                bad += 1;
                let column = column.map_or_else(String::new, |column| format!(":{column}"));
                say(&format!("{file}:{number}{column}: {why}"));
            }
        }
    }
    if bad > 0 {
        say(&format!(
            "weir: {} of {file} cannot be used",
            count(bad, "line")
        ));
        return Err(Exit::Usage);
    }
    if !found {
        say(&format!("weir: there is no message in {file}"));
        return Err(Exit::Usage);
    }
    Ok(())
}

fn unreadable(file: &str, error: &std::io::Error) -> Exit {
    say(&format!("weir: cannot read {file}: {error}"));
    say(
        "      weir replay takes a file of JSON lines, as `weir sub --json` writes them, or - for stdin",
    );
    Exit::Usage
}
