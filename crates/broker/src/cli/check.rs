//! `weir check`: configuration, connectors, functions and rules, complete and offline; with `--online` the databases too.

mod github;
mod online;
mod sarif;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;
use weir_sinks::{ConnectorConfig, bridge};

use super::{Common, Exit, count, out_json, out_line, print_problems};
use crate::config::toml_file::Process;
use crate::problem::{Problem, Severity};
use crate::project::check::{Checked, FileReport, Verdict, check};
use crate::project::connector_file;
use crate::project::files::{Files, Folders, Kind};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only these files (or files below these folders); everything is read all the same, as files need each other
    paths: Vec<PathBuf>,
    /// Let warnings fail the check too
    #[arg(long)]
    deny_warnings: bool,
    /// Ask the databases too: whether their tables take what the rules make. Nothing is written there
    #[arg(long)]
    online: bool,
    /// How findings are printed on standard output
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// As workflow commands of GitHub Actions, which shows them beside the lines of a change
    Github,
    /// As one SARIF 2.1.0 document, for code scanners and editors
    Sarif,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let loaded = match crate::config::Config::load(common.config.as_deref(), &common.set) {
        Ok(loaded) => loaded,
        Err(problems) => return end_early(common, args, &problems),
    };
    let (files, mut unreadable) = Folders::of(&loaded.config.rules).scan();
    unreadable.extend(crate::auth::check_files(&loaded.config.auth));
    let checked = check(&files, &Files::default(), None, &Process);
    let certificates = loaded.config.check_files();
    let mut reports: Vec<FileReport> = checked.reports.clone();
    warn_of_certificates(&files, &checked, &loaded.config.data_dir(), &mut reports);
    reports.retain(|report| is_wanted(&report.path, &args.paths));
    if args.online
        && let Err(exit) = online::ask(common, &checked, &mut reports)
    {
        return exit;
    }
    let unreadable: Vec<Problem> = unreadable
        .into_iter()
        .chain(certificates)
        .filter(|problem| is_wanted(&problem.file, &args.paths))
        .collect();
    if reports.is_empty() && unreadable.is_empty() {
        // A check of nothing must not pass.
        let dir = &loaded.config.rules.dir;
        let problem = match args.paths.first() {
            Some(path) => {
                Problem::whole(path, "E1000", "this is no file of the project").help(format!(
                    "name a file below {}, or its folder; without names every file is checked",
                    dir.display()
                ))
            }
            None => Problem::whole(dir, "E1000", "there is no file to check")
                .help("`weir init DIR` writes a first rule"),
        };
        return end_early(common, args, &[problem]);
    }
    let errors = unreadable.len()
        + reports
            .iter()
            .filter(|report| report.verdict != Verdict::Ok)
            .count();
    let warnings = reports
        .iter()
        .flat_map(|report| &report.problems)
        .filter(|problem| problem.severity == Severity::Warning)
        .count();
    print(common, args, &reports, &unreadable, errors, warnings);
    if errors > 0 || (args.deny_warnings && warnings > 0) {
        Exit::Problems
    } else {
        Exit::Ok
    }
}

/// Client certificates of bridges that end soon: a live bridge says so when it connects.
fn warn_of_certificates(files: &Files, checked: &Checked, base: &Path, reports: &mut [FileReport]) {
    for report in reports
        .iter_mut()
        .filter(|of| of.file.kind == Kind::Connector)
    {
        let connector = checked.connectors.get(&*report.file.id);
        if let Some(connector) = connector
            && let ConnectorConfig::Mqtt(bridge) = &*connector.config
            && let Some(warning) = bridge::check_certificate(bridge, base)
            && let Some(source) = files.get(&report.file)
        {
            report
                .problems
                .push(connector_file::located(source, &warning));
        }
    }
}

/// Prints what keeps everything else from being checked.
fn end_early(common: &Common, args: &Args, problems: &[Problem]) -> Exit {
    if common.json {
        let path = problems.first().map(|problem| &problem.file);
        out_json(
            &json!({ "v": 1, "files": [{ "path": path, "ok": false, "diagnostics": problems }] }),
        );
    } else if !print_for_machines(args.format, problems.iter()) {
        print_problems(problems);
    }
    Exit::Problems
}

/// Prints findings in a format for programs; `false` if the format is for people.
fn print_for_machines<'a>(format: Format, problems: impl Iterator<Item = &'a Problem>) -> bool {
    match format {
        Format::Text => return false,
        Format::Github => problems.for_each(|problem| out_line(&github::annotation(problem))),
        Format::Sarif => out_json(&sarif::document(&problems.collect::<Vec<_>>())),
    }
    true
}

fn is_wanted(path: &Path, wanted: &[PathBuf]) -> bool {
    let clean = |path: &Path| path.strip_prefix(".").unwrap_or(path).to_path_buf();
    wanted.is_empty()
        || wanted
            .iter()
            .any(|wanted| clean(path).starts_with(clean(wanted)))
}

fn print(
    common: &Common,
    args: &Args,
    reports: &[FileReport],
    unreadable: &[Problem],
    errors: usize,
    warnings: usize,
) {
    if common.json {
        let files: Vec<_> = reports
            .iter()
            .map(|report| json!({ "path": report.path, "ok": report.verdict == Verdict::Ok, "diagnostics": report.problems }))
            .chain(unreadable.iter().map(|problem| json!({ "path": problem.file, "ok": false, "diagnostics": [problem] })))
            .collect();
        out_json(&json!({ "v": 1, "files": files, "errors": errors, "warnings": warnings }));
        return;
    }
    let problems = || {
        reports
            .iter()
            .flat_map(|report| &report.problems)
            .chain(unreadable)
    };
    let printed = print_for_machines(args.format, problems());
    if args.format == Format::Sarif {
        return;
    }
    if !printed {
        let width = reports
            .iter()
            .map(|report| report.path.display().to_string().len())
            .max()
            .unwrap_or(0);
        for report in reports
            .iter()
            .filter(|report| !common.quiet || report.verdict != Verdict::Ok)
        {
            let word = if report.verdict == Verdict::Ok {
                common.good("ok")
            } else {
                common.bad("error")
            };
            let path = report.path.display().to_string();
            let untested = report.file.kind == Kind::Rule
                && report.verdict == Verdict::Ok
                && report.summary.ends_with(" 0 tests");
            let note = if untested {
                "   note: no test shows what it does"
            } else {
                ""
            };
            out_line(format!("{path:<width$}  {word}  {}{note}", report.summary).trim_end());
        }
        for problem in problems() {
            out_line(&format!("\n{problem}"));
        }
    }
    let total = reports.len() + unreadable.len();
    out_line(&format!(
        "{}{}  {} ok  {}  {}",
        if !printed && problems().next().is_some() {
            "\n"
        } else {
            ""
        },
        count(total, "file"),
        total - errors,
        count(errors, "error"),
        count(warnings, "warning")
    ));
    if args.format == Format::Text {
        let codes: BTreeSet<&str> = problems().map(|problem| problem.code.as_str()).collect();
        let codes = Vec::from_iter(codes).join(" ");
        if !codes.is_empty() && !common.quiet {
            out_line(&format!("more: weir help {codes}"));
        }
    }
}
