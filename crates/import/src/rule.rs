//! One rule of EMQX as `rules/NAME.toml`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use weir_rules::{Catalog, Rule, Severity, SourceFilter, compile};

use crate::action::{Actions, Found, unique};
use crate::advice;
use crate::connector::{string, switch, without_secrets};
use crate::export::ExportedRule;
use crate::inbound::Inbound;
use crate::note::Notes;
use crate::sink::{Row, Sink};
use crate::source::{Sourced, source_name, sourced};
use crate::toml_text::{Table, block, comment, text_or_block};
use crate::words::layout;
use crate::{File, ImportedRule, Level, sample};

/// Imports a rule under that name; `None` when it has no statement.
pub(crate) fn import(
    rule: &ExportedRule,
    name: &str,
    actions: &Actions,
    notes: &mut Notes,
) -> Option<(File, ImportedRule)> {
    let of = format!("rule {}", rule.id);
    let Some(sql) = string(&rule.config, "sql").filter(|sql| !sql.trim().is_empty()) else {
        notes.add(Level::NotTaken, &of, "it has no statement");
        return None;
    };
    let Sourced {
        sql,
        condition,
        is_open,
    } = sourced(&layout(&sql), actions.inbound());
    if let Some(condition) = condition {
        notes.add(
            Level::Changed,
            &of,
            format!(
                "more comes in over the connector than the rule got in EMQX: `{condition}` in WHERE keeps it to that"
            ),
        );
    }
    if is_open {
        notes.add(
            Level::Todo,
            &of,
            "more comes in over the connector than the rule got in EMQX: ask for the topic in WHERE, where a column `event` hides the field, and switch the rule on",
        );
    }
    let compiled = compiled(&sql, &of, notes);
    let row = compiled.as_ref().map(Row::of).unwrap_or_default();
    let given = match rule.config.get("actions") {
        Some(Value::Array(given)) => given.clone(),
        _ => Vec::new(),
    };
    let mut sinks = Sinks {
        actions,
        row: &row,
        of: &of,
        notes,
        ids: BTreeSet::new(),
        text: String::new(),
        names: Vec::new(),
    };
    given.iter().for_each(|action| sinks.add(action));
    let Sinks { text, names, .. } = sinks;
    let is_fed = compiled
        .as_ref()
        .is_none_or(|rule| is_fed(rule, actions.inbound(), &of, notes));
    let test = compiled.as_ref().filter(|_| is_fed).and_then(|rule| {
        let test = sample::test(rule, actions.inbound());
        if test.is_none() {
            notes.add(
                Level::Todo,
                &of,
                "no message was found that passes it: write a test",
            );
        }
        test
    });
    let enabled = switch(&rule.config, "enable", true)
        && compiled.is_some()
        && is_fed
        && !is_open
        && (!names.is_empty() || given.is_empty());
    // A file whose name begins with `_` is left alone until it is mended.
    let path = match &compiled {
        Some(_) => format!("rules/{name}.toml"),
        None => format!("rules/_{name}.toml"),
    };
    let file = File {
        path: path.clone(),
        text: file_text(rule, &sql, enabled, &text, test.as_deref(), &of, notes),
    };
    let imported = ImportedRule {
        id: rule.id.clone(),
        path,
        enabled,
        sinks: names,
        tests: usize::from(test.is_some()),
    };
    Some((file, imported))
}

fn compiled(sql: &str, of: &str, notes: &mut Notes) -> Option<Rule> {
    let diagnostics = match compile(sql, &Catalog::default()) {
        Ok((rule, _)) => return Some(rule),
        Err(diagnostics) => diagnostics,
    };
    for found in diagnostics
        .iter()
        .filter(|found| found.severity == Severity::Error)
    {
        let more: Vec<&str> = [Some(found.label.as_str()), found.help.as_deref()]
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .collect();
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(" ({})", more.join("; "))
        };
        notes.add(
            Level::NotTaken,
            of,
            format!(
                "{} at {}:{} of its statement: {}{more}",
                found.code, found.span.line, found.span.column, found.message
            ),
        );
    }
    notes.add(
        Level::Todo,
        of,
        "mend the statement, take the `_` from the file's name, and switch the rule on",
    );
    None
}

/// Whether anything triggers the rule: what it reads of other brokers has to come in.
fn is_fed(rule: &Rule, inbound: &[Inbound], of: &str, notes: &mut Notes) -> bool {
    let mut fed = false;
    for source in rule.sources() {
        let SourceFilter::Bridge { text } = source else {
            fed = true;
            continue;
        };
        let comes_in = source_name(text).is_some_and(|(_, name)| {
            inbound
                .iter()
                .any(|inbound| name == "*" || inbound.connector == name)
        });
        fed |= comes_in;
        if !comes_in {
            notes.add(
                Level::NotTaken,
                of,
                format!(
                    "nothing comes in over {text}: no file of this import has an `in` for it; write one into the connector, or name a topic in FROM"
                ),
            );
        }
    }
    fed
}

fn file_text(
    rule: &ExportedRule,
    sql: &str,
    enabled: bool,
    sinks: &str,
    test: Option<&str>,
    of: &str,
    notes: &Notes,
) -> String {
    let name = string(&rule.config, "name").unwrap_or_default();
    let called = if name.is_empty() || name == rule.id {
        String::new()
    } else {
        format!(" ({name})")
    };
    let mut text = comment("", &format!("EMQX: rule {}{called}", rule.id));
    for note in notes.0.iter().filter(|note| note.of == of) {
        text.push_str(&comment(
            "",
            &format!("{}: {}", note.level.name(), note.text),
        ));
    }
    let mut head = Table::default();
    let description = string(&rule.config, "description").filter(|text| !text.trim().is_empty());
    if let Some(description) = description {
        head.set("description", &text_or_block(description.trim()));
    }
    if !enabled {
        head.set("enabled", "false");
    }
    head.set("sql", &block(sql, true));
    text.push_str(head.as_str());
    text.push_str(sinks);
    if let Some(test) = test {
        text.push('\n');
        text.push_str(test);
    }
    text
}

/// The sinks of one rule under way.
struct Sinks<'a> {
    actions: &'a Actions,
    row: &'a Row,
    of: &'a str,
    notes: &'a mut Notes,
    ids: BTreeSet<String>,
    text: String,
    /// For people: `postgres main`.
    names: Vec<String>,
}

impl Sinks<'_> {
    fn add(&mut self, action: &Value) {
        match action {
            Value::String(id) => self.named(id),
            Value::Object(function) => self.function(function),
            _ => self.refuse(
                "an action",
                &Map::new(),
                "it is neither a name nor a function",
            ),
        }
    }

    /// `type:name`
    fn named(&mut self, id: &str) {
        let Some((kind, name)) = id.strip_prefix("bridge:").unwrap_or(id).split_once(':') else {
            self.refuse(id, &Map::new(), "it is not written as `type:name`");
            return;
        };
        match self.actions.find(kind, name) {
            Found::Action(action) => {
                let id = unique(&mut self.ids, name, kind);
                let table = Sink::new(id, self.row, self.of, self.notes).action(&action);
                self.push(&table, &format!("{} {}", kind_name(kind), action.connector));
            }
            Found::Unsupported { kind, config } => {
                self.refuse(id, &config, &advice::instead(&kind));
            }
            Found::Missing(reason) => self.refuse(id, &Map::new(), &reason),
        }
    }

    /// `{function = …, args {…}}`
    fn function(&mut self, action: &Map<String, Value>) {
        let function = string(action, "function").unwrap_or_default();
        let args = match action.get("args") {
            Some(Value::Object(args)) => args.clone(),
            _ => Map::new(),
        };
        if !matches!(function.as_str(), "republish" | "console") {
            let reason = "functions in Erlang cannot be taken: write one in rhai (`udf/NAME.rhai`), or call a web service";
            self.refuse(&function, &args, reason);
            return;
        }
        let id = unique(&mut self.ids, &function, "sink");
        let sink = Sink::new(id, self.row, self.of, self.notes);
        let table = if function == "console" {
            sink.console()
        } else {
            sink.republish(&args)
        };
        self.push(&table, &function);
    }

    fn push(&mut self, table: &Table, name: &str) {
        self.text.push_str("\n[[sinks]]\n");
        self.text.push_str(table.as_str());
        self.names.push(name.to_owned());
    }

    /// What cannot be taken stays as a comment.
    fn refuse(&mut self, what: &str, config: &Map<String, Value>, reason: &str) {
        self.notes
            .add(Level::NotTaken, self.of, format!("{what}: {reason}"));
        self.text.push('\n');
        self.text.push_str(&comment("", "[[sinks]]"));
        self.text.push_str(&comment("", &format!("EMQX: {what}")));
        self.text.push_str(&comment("  ", &without_secrets(config)));
    }
}

/// weir's name of a type.
fn kind_name(kind: &str) -> &str {
    match kind {
        "pgsql" | "timescale" | "matrix" => "postgres",
        "webhook" => "http",
        kind => kind,
    }
}
