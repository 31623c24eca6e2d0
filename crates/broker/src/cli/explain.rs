//! `weir explain`: what a rule or a statement does, from the statement as it was compiled.

mod dot;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use weir_rules::{Column, Condition, Decode, Needed, Rule, Type, format_condition};
use weir_sinks::config::BufferKind;
use weir_sinks::plan::{SinkPlan, Target, WhenFull};

use super::{Common, Exit, out_json, out_line, print_problems, say, r#try};
use crate::config::toml_file::Names;
use crate::problem::{Problem, Source};
use crate::project::check::{CheckedRule, Verdict, check};
use crate::project::files::{FileId, Files, Folders, Kind};
use crate::project::rule_file::SqlText;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A rule's id or its file, or a statement: 'SELECT …'
    #[arg(value_name = "RULE|STATEMENT")]
    rule: String,
    /// The rule as a graph in the language of Graphviz, from its sources to its sinks
    #[arg(long)]
    dot: bool,
}

/// What is explained: a rule with its sinks, or a statement alone.
struct Subject {
    rule: Arc<Rule>,
    /// The rule as its file has it; a statement has none.
    checked: Option<CheckedRule>,
    /// How many rules share its sources.
    more: String,
    /// What the checks warn of.
    warnings: Vec<Problem>,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let subject = match subject(common, args.rule.trim()) {
        Ok(subject) => subject,
        Err(exit) => return exit,
    };
    if args.dot {
        out_line(&dot::graph(&subject));
    } else if common.json {
        out_json(&as_json(&subject));
    } else {
        print(&subject);
        print_problems(&subject.warnings);
    }
    Exit::Ok
}

fn subject(common: &Common, text: &str) -> Result<Subject, Exit> {
    if !is_statement(text) {
        let found = find_with_warnings(common, text)?;
        return Ok(Subject {
            rule: Arc::clone(&found.rule.rule),
            checked: Some(found.rule),
            more: found.more,
            warnings: found.warnings,
        });
    }
    let config = common.load()?.config;
    let (rule, warnings) = r#try::compiled(&config, text);
    // In place of a file's name stands what was given.
    let source = Source::new("statement", text);
    let sql = SqlText::of_file(source.clone());
    let problems: Vec<Problem> = warnings
        .into_iter()
        .map(|found| sql.problem(&source, found))
        .collect();
    match rule {
        Some(rule) => Ok(Subject {
            rule: Arc::new(rule),
            checked: None,
            more: String::new(),
            warnings: problems,
        }),
        None => {
            print_problems(&problems);
            Err(Exit::Problems)
        }
    }
}

/// Whether the argument is a statement: ids and paths have no blanks after such a word.
fn is_statement(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    first.len() < text.len()
        && ["SELECT", "FOREACH"]
            .iter()
            .any(|word| first.eq_ignore_ascii_case(word))
        || text.starts_with("--")
        || text.starts_with("/*")
}

fn as_json(subject: &Subject) -> Json {
    let plan = subject.rule.explain();
    let conditions: Vec<String> = plan
        .conditions
        .iter()
        .map(|condition| format_condition(&condition.text))
        .collect();
    let steps: Vec<Json> = plan
        .conditions
        .iter()
        .zip(&conditions)
        .map(|(condition, text)| {
            let needs: Vec<Json> = condition
                .needs
                .iter()
                .map(|need| json!({ "path": need.path, "type": need.kind.name(), "or_text": need.or_text }))
                .collect();
            json!({ "condition": text, "turn": condition.turn.name(), "needs": needs })
        })
        .collect();
    let columns: Vec<Json> = plan
        .columns
        .iter()
        .map(|column| match column {
            Column::Fields => json!({ "name": "*" }),
            Column::Value {
                name, kind, text, ..
            } => {
                json!({ "name": name, "type": kind.name(), "from": text })
            }
        })
        .collect();
    let mut found = json!({
        "v": 1, "sources": plan.sources, "decode": decode(&plan.decode), "foreach": plan.foreach,
        "incase": plan.filter.as_deref().map(format_condition), "user_functions": plan.user_functions,
        "conditions": conditions, "steps": steps, "columns": columns,
        "scripts": subject.rule.uses_scripts(), "diagnostics": subject.warnings,
    });
    let sinks = |rule: &CheckedRule| -> Vec<Json> {
        rule.sinks
            .iter()
            .map(|sink| json!({ "id": sink.id, "type": sink.plan.kind.name(), "plan": sink_line(&sink.plan) }))
            .collect()
    };
    if let (Some(rule), Some(members)) = (&subject.checked, found.as_object_mut()) {
        members.insert("rule".to_owned(), json!(rule.id));
        members.insert("file".to_owned(), json!(rule.source.path));
        members.insert("enabled".to_owned(), json!(rule.enabled));
        members.insert("sinks".to_owned(), json!(sinks(rule)));
    }
    found
}

fn print(subject: &Subject) {
    let plan = subject.rule.explain();
    if let Some(rule) = &subject.checked {
        let state = if rule.enabled { "" } else { "   (disabled)" };
        out_line(&format!(
            "{}  {}{state}",
            rule.id,
            rule.source.path.display()
        ));
        if let Some(description) = &rule.description {
            out_line(&format!("          {description}"));
        }
    }
    out_line(&format!(
        "  match   {}{}",
        plan.sources.join(", "),
        subject.more
    ));
    out_line(&format!("  decode  {}", decode(&plan.decode)));
    if let Some(collection) = &plan.foreach {
        out_line(&format!("  foreach {collection}"));
    }
    print_conditions(&plan.conditions);
    if let Some(filter) = &plan.filter {
        out_line(&format!("  incase  {}", format_condition(filter)));
    }
    let columns: Vec<String> = plan
        .columns
        .iter()
        .map(|found| column(found, &plan.conditions))
        .collect();
    out_line(&format!("  select  {}", columns.join(", ")));
    if !plan.user_functions.is_empty() {
        out_line(&format!("  udf     {}", plan.user_functions.join(", ")));
    }
    let sinks = subject
        .checked
        .as_ref()
        .map_or(&[][..], |rule| rule.sinks.as_slice());
    let width = sinks.iter().map(|sink| sink.id.len()).max().unwrap_or(0);
    for (index, sink) in sinks.iter().enumerate() {
        out_line(&format!(
            "  {:<7} {:<width$}  {}",
            if index == 0 { "sinks" } else { "" },
            sink.id,
            sink_line(&sink.plan)
        ));
    }
}

/// One line a condition, in the order in which they are asked: why then, and what the values in it must be.
fn print_conditions(conditions: &[Condition]) {
    let texts: Vec<String> = conditions
        .iter()
        .map(|condition| format_condition(&condition.text))
        .collect();
    let width = texts
        .iter()
        .map(|text| text.chars().count())
        .filter(|width| *width <= WIDE)
        .max()
        .unwrap_or(0);
    for (index, (condition, text)) in conditions.iter().zip(&texts).enumerate() {
        let word = if index == 0 { "where" } else { "  and" };
        let needs: Vec<String> = condition.needs.iter().map(need).collect();
        let needs = if needs.is_empty() {
            String::new()
        } else {
            format!("; needs {}", needs.join(", "))
        };
        out_line(&format!(
            "  {word:<7} {text:<width$}   {}{needs}",
            condition.turn.reason()
        ));
    }
}

/// Longer conditions do not move the notes of the others to the right.
const WIDE: usize = 60;

fn need(need: &Needed) -> String {
    let or_text = if need.or_text { " (or its text)" } else { "" };
    format!("{} {}{or_text}", need.path, need.kind)
}

/// A column with its type; where only WHERE tells the type, that is said.
fn column(column: &Column, conditions: &[Condition]) -> String {
    let (name, kind, text) = match column {
        Column::Fields => return "* (every field)".to_owned(),
        Column::Value {
            name, kind, text, ..
        } => (name, kind, text),
    };
    let mut needs = conditions.iter().flat_map(|condition| &condition.needs);
    match needs.find(|need| *kind == Type::Any && need.path == *text) {
        Some(need) if need.or_text => format!("{name} {} or its text (by where)", need.kind),
        Some(need) => format!("{name} {} (by where)", need.kind),
        None => format!("{name} {kind}"),
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

/// A rule by its id, or by the path of its file.
pub(super) fn find(common: &Common, id: &str) -> Result<CheckedRule, Exit> {
    find_with_warnings(common, id).map(|found| found.rule)
}

struct Found {
    rule: CheckedRule,
    more: String,
    warnings: Vec<Problem>,
}

fn find_with_warnings(common: &Common, id: &str) -> Result<Found, Exit> {
    let loaded = common.load()?;
    let (files, _) = Folders::of(&loaded.config.rules).scan();
    let checked = check(&files, &Files::default(), None, &Names);
    let is_file = |source: &Source| {
        source.path == Path::new(id)
            || matches!((source.path.canonicalize(), Path::new(id).canonicalize()), (Ok(a), Ok(b)) if a == b)
    };
    let by_path = files
        .of(Kind::Rule)
        .find(|(_, source)| is_file(source))
        .map(|(id, _)| id);
    let id = by_path.unwrap_or_else(|| id.strip_suffix(".toml").unwrap_or(id));
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
        let report = checked
            .reports
            .iter()
            .find(|report| report.file == FileId::rule(id));
        return Ok(Found {
            rule: rule.clone(),
            more,
            warnings: report.map_or_else(Vec::new, |report| report.problems.clone()),
        });
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
        Target::Bridge => "as it is".to_owned(),
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
