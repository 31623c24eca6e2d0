//! `weir test`: runs the tests in rule files, offline.

use serde_json::json;

use super::{Common, Exit, out_json, out_line, print_problems, say};
use crate::config::toml_file::Process;
use crate::problem::Problem;
use crate::project::check::{Verdict, check};
use crate::project::files::{Files, Folders, Kind};
use crate::project::run_test;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only tests whose rule or name contains this
    filter: Option<String>,
    /// Let a rule without a test fail
    #[arg(long)]
    require_tests: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let (files, unreadable) = Folders::of(&loaded.config.rules).scan();
    let checked = check(&files, &Files::default(), &Process);
    print_problems(&unreadable);
    let mut broken = unreadable.len();
    for report in checked
        .reports
        .iter()
        .filter(|report| report.verdict != Verdict::Ok)
    {
        broken += 1;
        let errors: Vec<Problem> = report
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .cloned()
            .collect();
        print_problems(&errors);
    }
    let (mut passed, mut failed, mut untested) = (0_usize, 0_usize, Vec::new());
    let mut results = Vec::new();
    for rule in checked.rules.values() {
        if rule.tests.is_empty() {
            untested.push(rule.id.to_string());
        }
        for (test, source, place) in &rule.tests {
            let name = format!("{}: {}", rule.id, test.name);
            if args
                .filter
                .as_ref()
                .is_some_and(|filter| !name.contains(filter.as_str()))
            {
                continue;
            }
            let result = run_test::run(rule, test);
            if result.passed {
                passed += 1;
            } else {
                failed += 1;
            }
            let (line, _) = source.position(place.start);
            if common.json {
                results.push(json!({
                    "rule": rule.id, "name": test.name, "file": source.path, "line": line,
                    "passed": result.passed, "differences": result.differences,
                }));
                continue;
            }
            if result.passed {
                if !common.quiet {
                    out_line(&format!("{}    {name}", common.good("ok")));
                }
            } else {
                out_line(&format!(
                    "{}  {name}   {}:{line}",
                    common.bad("FAIL"),
                    source.path.display()
                ));
                for difference in &result.differences {
                    out_line(&format!("        {difference}"));
                }
            }
        }
    }
    if common.json {
        out_json(
            &json!({ "v": 1, "passed": passed, "failed": failed, "broken_files": broken, "untested": untested, "tests": results }),
        );
    } else {
        for id in &untested {
            let word = if args.require_tests { "error" } else { "note" };
            say(&format!("{word}: the rule {id} has no test"));
        }
        let more = if broken > 0 {
            format!(", {} could not be read", super::count(broken, "file"))
        } else {
            String::new()
        };
        out_line(&format!("{passed} passed, {failed} failed{more}"));
    }
    if files.of(Kind::Rule).next().is_none() {
        say(&format!(
            "weir: there is no rule in {}",
            loaded.config.rules.dir.display()
        ));
        return Exit::Problems;
    }
    let bad = failed > 0 || broken > 0 || (args.require_tests && !untested.is_empty());
    if bad { Exit::Problems } else { Exit::Ok }
}
