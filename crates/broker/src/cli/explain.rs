//! `weir explain`: what a rule does, from the statement as it was compiled.

use serde_json::json;
use weir_rules::{Column, Decode};
use weir_sinks::config::BufferKind;
use weir_sinks::plan::{SinkPlan, Target, WhenFull};

use super::{Common, Exit, out_json, out_line, print_problems, say};
use crate::config::toml_file::Names;
use crate::project::check::{CheckedRule, Verdict, check};
use crate::project::files::{FileId, Files, Folders};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The rule's id: its file below the rules folder without .toml
    rule: String,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let (rule, more) = match find(common, &args.rule) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let plan = rule.rule.explain();
    if common.json {
        let sinks: Vec<_> = rule.sinks.iter().map(|sink| json!({ "id": sink.id, "type": sink.plan.kind.name(), "plan": sink_line(&sink.plan) })).collect();
        out_json(&json!({
            "v": 1, "rule": rule.id, "file": rule.source.path, "enabled": rule.enabled,
            "sources": plan.sources, "decode": decode(&plan.decode), "foreach": plan.foreach, "incase": plan.filter, "user_functions": plan.user_functions, "conditions": plan.conditions,
            "columns": plan.columns.iter().map(|column| match column {
                Column::Fields => json!({ "name": "*" }),
                Column::Value { name, kind, text } => json!({ "name": name, "type": kind.name(), "from": text }),
            }).collect::<Vec<_>>(),
            "scripts": rule.rule.uses_scripts(), "sinks": sinks,
        }));
        return Exit::Ok;
    }
    let state = if rule.enabled { "" } else { "   (disabled)" };
    out_line(&format!(
        "{}  {}{state}",
        rule.id,
        rule.source.path.display()
    ));
    if let Some(description) = &rule.description {
        out_line(&format!("          {description}"));
    }
    out_line(&format!("  match   {}{more}", plan.sources.join(", ")));
    out_line(&format!("  decode  {}", decode(&plan.decode)));
    if let Some(collection) = &plan.foreach {
        out_line(&format!("  foreach {collection}"));
    }
    for (index, condition) in plan.conditions.iter().enumerate() {
        out_line(&format!(
            "  {:<7} {condition}",
            if index == 0 { "where" } else { "  and" }
        ));
    }
    if let Some(filter) = &plan.filter {
        out_line(&format!("  incase  {filter}"));
    }
    let columns: Vec<String> = plan.columns.iter().map(column).collect();
    out_line(&format!("  select  {}", columns.join(", ")));
    if !plan.user_functions.is_empty() {
        out_line(&format!("  udf     {}", plan.user_functions.join(", ")));
    }
    let width = rule
        .sinks
        .iter()
        .map(|sink| sink.id.len())
        .max()
        .unwrap_or(0);
    for (index, sink) in rule.sinks.iter().enumerate() {
        out_line(&format!(
            "  {:<7} {:<width$}  {}",
            if index == 0 { "sinks" } else { "" },
            sink.id,
            sink_line(&sink.plan)
        ));
    }
    Exit::Ok
}

fn column(column: &Column) -> String {
    match column {
        Column::Fields => "* (every field)".to_owned(),
        Column::Value { name, kind, .. } => format!("{name} {kind}"),
    }
}

fn decode(decode: &Decode) -> String {
    match decode {
        Decode::Nothing => "nothing: the rule never looks into the payload".to_owned(),
        Decode::Paths(paths) => {
            let paths: Vec<String> = paths.iter().map(|path| format!("payload.{path}")).collect();
            format!("json, reads {}", paths.join(" "))
        }
        Decode::Everything => "json, all of it".to_owned(),
    }
}

/// A rule by its id, and how many others share its filters.
pub(super) fn find(common: &Common, id: &str) -> Result<(CheckedRule, String), Exit> {
    let loaded = common.load()?;
    let (files, _) = Folders::of(&loaded.config.rules).scan();
    let checked = check(&files, &Files::default(), None, &Names);
    let id = id.strip_suffix(".toml").unwrap_or(id);
    if let Some(rule) = checked.rules.get(id) {
        let sources = &rule.rule.explain().sources;
        let sharing = checked
            .rules
            .values()
            .filter(|other| other.rule.explain().sources == *sources)
            .count();
        let more = if sharing > 1 {
            format!("   1 of {sharing} rules on this source")
        } else {
            String::new()
        };
        return Ok((rule.clone(), more));
    }
    match checked
        .reports
        .iter()
        .find(|report| report.file == FileId::rule(id) && report.verdict != Verdict::Ok)
    {
        Some(report) => print_problems(&report.problems),
        None => {
            let known: Vec<&str> = checked.rules.keys().map(String::as_str).collect();
            let hint = crate::problem::nearest(id, known.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            say(&format!(
                "weir: there is no rule `{id}` in {}{hint}",
                loaded.config.rules.dir.display()
            ));
        }
    }
    Err(Exit::Problems)
}

/// Where a sink sends, in one line.
fn sink_line(plan: &SinkPlan) -> String {
    let via = plan
        .connector
        .as_deref()
        .map_or_else(String::new, |name| format!(" {name}"));
    let what = match &plan.target {
        Target::Table(table) => format!("into {}", table.name.join(".")),
        Target::Statement(_) => "own statement".to_owned(),
        Target::Http(http) => http.method.clone(),
        Target::Mqtt(message) | Target::Republish(message) => {
            format!(
                "qos {}{}",
                message.qos,
                if message.retain { " retained" } else { "" }
            )
        }
        Target::Console {
            max_per_second: u32::MAX,
        } => "lines".to_owned(),
        Target::Console { max_per_second } => format!("at most {max_per_second} lines/s"),
        Target::File(_) => "lines".to_owned(),
    };
    if matches!(plan.target, Target::Republish(_)) {
        return format!("{} {what}", plan.kind.name());
    }
    let full = match plan.buffer.when_full {
        WhenFull::Block => "block",
        WhenFull::DropOldest => "drop_oldest",
        WhenFull::DropNewest => "drop_newest",
    };
    let (kind, lost) = match plan.buffer.kind {
        BufferKind::Disk => ("disk", ""),
        BufferKind::Memory => (
            "memory",
            " (PUBACK does not wait for rows, and those that wait are lost in a crash)",
        ),
    };
    format!(
        "{}{via}  {what}  {} rows/{} ms  {kind} {} MiB, {full} when full{lost}",
        plan.kind.name(),
        plan.batch.max_rows,
        plan.batch.max_wait.as_millis(),
        plan.buffer.max_bytes >> 20,
    )
}
