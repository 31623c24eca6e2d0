//! `weir check --online`: what rules make, held against the tables that their rows go to.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use weir_rules::{Column, Type};
use weir_sinks::Connector;
use weir_sinks::online::{Fields, compare};

use super::super::{Common, Exit, block_on};
use crate::problem::{Problem, Severity};
use crate::project::check::{Checked, CheckedRule, FileReport, Verdict};
use crate::project::files::FileId;

/// Adds what the databases say to the reports of the rules.
pub(super) fn ask(
    common: &Common,
    checked: &Checked,
    reports: &mut [FileReport],
) -> Result<(), Exit> {
    let mut found: Vec<(FileId, Problem)> = Vec::new();
    let exit = block_on(common, async {
        let mut connectors = HashMap::new();
        for rule in checked.rules.values() {
            let file = FileId::rule(&rule.id);
            if reports.iter().any(|report| report.file == file) {
                let problems = of_rule(rule, checked, &mut connectors).await;
                found.extend(problems.into_iter().map(|problem| (file.clone(), problem)));
            }
        }
        Exit::Ok
    });
    if exit != Exit::Ok {
        return Err(exit);
    }
    for (file, problem) in found {
        if let Some(report) = reports.iter_mut().find(|report| report.file == file) {
            if problem.is_error() {
                report.verdict = Verdict::Refused;
            }
            report.problems.push(problem);
        }
    }
    Ok(())
}

type Connectors = HashMap<String, Result<Arc<Connector>, weir_sinks::SinkError>>;

async fn of_rule(
    rule: &CheckedRule,
    checked: &Checked,
    connectors: &mut Connectors,
) -> Vec<Problem> {
    let fields = fields(rule);
    let mut problems = Vec::new();
    for sink in rule.sinks.iter().filter(|sink| sink.plan.enabled) {
        let (opened, whose) = match (&sink.plan.connector, &sink.plan.inline) {
            (Some(name), _) => {
                let Some(config) = checked.connectors.get(&**name) else {
                    continue;
                };
                let opened = connectors
                    .entry(name.to_string())
                    .or_insert_with(|| Connector::open(name, &config.config, Path::new(".")));
                (opened.clone(), format!("connectors/{name}.toml"))
            }
            // As delivery opens it.
            (None, Some(inline)) => {
                let name = format!("{}.{}", rule.id, sink.id);
                let opened = Connector::open(&name, inline, Path::new("."));
                (opened, "the sink's own `url`".to_owned())
            }
            (None, None) => continue,
        };
        let asked = match &opened {
            Ok(connector) => compare(connector, &sink.plan, &fields).await,
            Err(error) => Err(error.clone()),
        };
        let at = &rule.source.path;
        match asked {
            Ok(findings) => problems.extend(findings.into_iter().map(|finding| {
                let severity = if finding.is_warning {
                    Severity::Warning
                } else {
                    Severity::Error
                };
                Problem::whole(
                    at,
                    finding.code,
                    format!("sink `{}`: {}", sink.id, finding.message),
                )
                .severity(severity)
                .help(finding.help)
            })),
            Err(error) => {
                let message = format!("sink `{}`: its database cannot be asked: {error}", sink.id);
                let problem = Problem::whole(at, error.code(), message);
                problems.push(problem.help(format!("see {whose}")));
            }
        }
    }
    problems
}

/// The top-level fields of the rule's rows.
fn fields(rule: &CheckedRule) -> Fields {
    let mut fields = Fields::default();
    for column in &rule.rule.explain().columns {
        match column {
            Column::Fields => fields.others = true,
            Column::Value { name, kind, .. } => match name.split_once(['.', '[']) {
                Some((first, rest)) => {
                    let kind = if rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
                        Type::Any
                    } else {
                        Type::Object
                    };
                    fields.named.insert(first.to_owned(), kind);
                }
                None => {
                    fields.named.insert(name.clone(), *kind);
                }
            },
        }
    }
    fields
}
