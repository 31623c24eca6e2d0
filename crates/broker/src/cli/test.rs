//! `weir test`: runs the tests in rule files, offline.

mod junit;
mod update;

use std::ops::Range;
use std::path::{Path, PathBuf};

use junit::Outcome;
use serde_json::json;

use super::{Common, Exit, out_json, out_line, print_problems, say};
use crate::config::toml_file::Names;
use crate::problem::{Problem, Source, shown};
use crate::project::check::{Verdict, check};
use crate::project::files::{Files, Folders, Kind};
use crate::project::run_test::{self, TestResult};
use crate::project::script_test;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only tests whose rule or name contains this, or that stand in this file
    filter: Option<String>,
    /// Write the rows that came into tests of rules that expect others
    #[arg(long)]
    update: bool,
    /// Let a rule without a test fail
    #[arg(long)]
    require_tests: bool,
    /// Also write what was run into this file as JUnit XML, for build servers
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let folders = Folders::of(&loaded.config.rules);
    if args.update
        && let Err(problems) = update(common, &folders, args.filter.as_deref())
    {
        print_problems(&problems);
        return Exit::Problems;
    }
    let (files, unreadable) = folders.scan();
    let checked = check(&files, &Files::default(), None, &Names);
    let mut junit = junit::Report::default();
    let mut broken = 0;
    for problem in &unreadable {
        broken += 1;
        refuse(&mut junit, &problem.file, std::slice::from_ref(problem));
    }
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
        refuse(&mut junit, &report.path, &errors);
    }
    let mut tally = Tally {
        common,
        filter: args.filter.as_deref(),
        passed: 0,
        failed: 0,
        results: Vec::new(),
        junit,
    };
    let mut untested = Vec::new();
    for rule in checked.rules.values() {
        if rule.tests.is_empty() {
            untested.push(rule.id.to_string());
            if args.require_tests {
                let why = Outcome::Failed("the rule has no test".to_owned());
                tally
                    .junit
                    .add(&rule.id, "has a test", &rule.source.path, 1, why);
            }
        }
        for (test, source, place) in &rule.tests {
            tally.take(&rule.id, &test.name, source, place, || {
                run_test::run(rule, test)
            });
        }
    }
    for (name, source) in files.of(Kind::ScriptTests) {
        // One that cannot be read is among the reports above.
        for (test, place) in script_test::read(source).unwrap_or_default() {
            tally.take(name, &test.name, source, &place, || {
                script_test::run(&test, &checked.scripts)
            });
        }
    }
    let Tally {
        passed,
        failed,
        results,
        junit,
        ..
    } = tally;
    if let Some(path) = &args.junit
        && let Err(error) = std::fs::write(path, junit.xml())
    {
        say(&format!(
            "weir: cannot write {}: {error}; --junit takes a file in a folder that is there",
            path.display()
        ));
        return Exit::Unusable;
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
    if passed + failed == 0
        && let Some(filter) = &args.filter
    {
        say(&format!(
            "weir: no test has `{filter}` in its rule, its file or its name"
        ));
        say("      `weir test` without it runs every test of the project");
        return Exit::Problems;
    }
    let bad = failed > 0 || broken > 0 || (args.require_tests && !untested.is_empty());
    if bad { Exit::Problems } else { Exit::Ok }
}

/// Writes new rows into the tests that are meant and expect others.
fn update(common: &Common, folders: &Folders, filter: Option<&str>) -> Result<(), Vec<Problem>> {
    let (files, _) = folders.scan();
    let checked = check(&files, &Files::default(), None, &Names);
    let mut update = update::Update::default();
    let mut problems = Vec::new();
    for rule in checked.rules.values() {
        for (test, source, place) in &rule.tests {
            let name = format!("{}: {}", rule.id, test.name);
            if !is_meant(filter, &name, source) {
                continue;
            }
            match update.look(rule, test, source, place) {
                Ok(true) if !common.json => {
                    let (line, _) = source.position(place.start);
                    say(&format!(
                        "updated {name}   {}:{line}",
                        source.path.display()
                    ));
                }
                Ok(_) => {}
                Err(problem) => problems.push(*problem),
            }
        }
    }
    problems.extend(update.write().err().unwrap_or_default());
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// Whether the filter names a test, by its name with the rule's or by its file.
fn is_meant(filter: Option<&str>, name: &str, source: &Source) -> bool {
    filter.is_none_or(|filter| name.contains(filter) || source.path == shown(Path::new(filter)))
}

/// A file whose tests cannot be run.
fn refuse(junit: &mut junit::Report, file: &Path, problems: &[Problem]) {
    print_problems(problems);
    let reasons: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let name = file.display().to_string();
    let line = problems.first().map_or(0, |problem| problem.line);
    let why = Outcome::Error(reasons.join("\n\n"));
    junit.add(&name, "can be read", file, line, why);
}

/// Tests as they are run: printed one by one, counted.
struct Tally<'a> {
    common: &'a Common,
    filter: Option<&'a str>,
    passed: usize,
    failed: usize,
    results: Vec<serde_json::Value>,
    junit: junit::Report,
}

impl Tally<'_> {
    fn take(
        &mut self,
        of: &str,
        test: &str,
        source: &Source,
        place: &Range<usize>,
        run: impl FnOnce() -> TestResult,
    ) {
        let name = format!("{of}: {test}");
        if !is_meant(self.filter, &name, source) {
            return;
        }
        let result = run();
        if result.passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        let (line, _) = source.position(place.start);
        let outcome = if result.passed {
            Outcome::Passed
        } else {
            Outcome::Failed(result.differences.join("\n"))
        };
        self.junit.add(of, test, &source.path, line, outcome);
        if self.common.json {
            self.results.push(json!({
                "rule": of, "name": test, "file": source.path, "line": line,
                "passed": result.passed, "differences": result.differences,
            }));
        } else if !result.passed {
            out_line(&format!(
                "{}  {name}   {}:{line}",
                self.common.bad("FAIL"),
                source.path.display()
            ));
            for difference in &result.differences {
                out_line(&format!("        {difference}"));
            }
        } else if !self.common.quiet {
            out_line(&format!("{}    {name}", self.common.good("ok")));
        }
    }
}
