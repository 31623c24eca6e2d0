//! Warnings about what a rule, its sinks and the other rules mean together.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_rules::Rule;
use weir_sinks::plan::{SinkPlan, Target};

use super::{CheckedRule, FileReport, Verdict};
use crate::problem::{Problem, Severity, Source};
use crate::project::files::FileId;
use crate::project::rule_file::SinkTable;

/// A sink that reads a field which no row of the rule has: every row would fail, or lack it.
pub(super) fn missing_fields(
    source: &Source,
    table: &SinkTable,
    rule: &Rule,
    plan: &SinkPlan,
) -> Vec<Problem> {
    let missing = rule.missing_fields(&plan.places());
    missing
        .into_iter()
        .map(|missing| {
            let name = missing.name;
            // The value that names the field, where one can be told.
            let place = table
                .places
                .iter()
                .filter(|(key, _)| !key.is_empty())
                .find(|(_, place)| source.text[(*place).clone()].contains(&name))
                .map_or_else(|| table.place(""), |(_, place)| place.clone());
            let problem = Problem::at(
                source,
                place,
                "W1001",
                format!("the sink reads `{name}`, and no row has it"),
            )
            .severity(Severity::Warning);
            match missing.near {
                Some(near) => problem.label(format!("did you mean `{near}`?")),
                None => problem.label("SELECT does not make it"),
            }
        })
        .collect()
}

/// Rules whose messages come back to them, by themselves or by way of others.
pub(super) fn circles(rules: &BTreeMap<String, CheckedRule>, reports: &mut [FileReport]) {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let live = || rules.iter().filter(|(_, rule)| rule.enabled);
    for (id, rule) in live() {
        for (other, _) in live().filter(|(_, to)| feeds(rule, to)) {
            next.entry(id).or_default().push(other);
        }
    }
    for report in reports {
        let id = report.file.id.as_str();
        if report.file != FileId::rule(id) || report.verdict != Verdict::Ok {
            continue;
        }
        let Some(way) = way_back(id, &next) else {
            continue;
        };
        let message = if way.len() == 1 {
            "the rule publishes to topics that it reads itself".to_owned()
        } else {
            let names: Vec<String> = way
                .iter()
                .chain([&id])
                .map(|id| format!("`{id}`"))
                .collect();
            format!("rules feed each other: {}", names.join(" -> "))
        };
        let help = if way.len() == 1 {
            "weir keeps these messages from it; another topic, or a narrower FROM, says what is meant"
        } else {
            "each message goes round until `max_hops`: publish to a topic that none of them reads"
        };
        let source = &rules[id].source;
        let place = sql_place(source);
        report.problems.push(
            Problem::at(source, place, "W1002", message)
                .severity(Severity::Warning)
                .help(help),
        );
    }
}

fn feeds(rule: &CheckedRule, to: &CheckedRule) -> bool {
    rule.sinks.iter().any(|sink| match &sink.plan.target {
        Target::Republish(message) => rule
            .rule
            .feeds(&message.topic, &to.rule)
            .is_some_and(|feed| feed.always),
        _ => false,
    })
}

/// The shortest way from a rule back to it, itself first.
fn way_back<'r>(id: &'r str, next: &BTreeMap<&'r str, Vec<&'r str>>) -> Option<Vec<&'r str>> {
    let mut ways = std::collections::VecDeque::from([vec![id]]);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        for other in next.get(last).into_iter().flatten() {
            if *other == id {
                return Some(way);
            }
            if seen.insert(*other) {
                ways.push_back(way.iter().chain([other]).copied().collect());
            }
        }
    }
    None
}

/// Where the statement stands, or else the start of the file.
pub(super) fn sql_place(source: &Source) -> std::ops::Range<usize> {
    let text: &Arc<str> = &source.text;
    match text.find("sql") {
        Some(at) => at..at + 3,
        None => 0..0,
    }
}
