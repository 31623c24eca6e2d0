//! A rule as a graph for Graphviz: `weir explain --dot RULE | dot -Tsvg`.

use std::fmt::Write as _;

use weir_rules::{Column, format_condition};

use super::{Subject, sink_line};

/// Sources, what the rule does, and sinks, from left to right.
pub(super) fn graph(subject: &Subject) -> String {
    let plan = subject.rule.explain();
    let name = subject
        .checked
        .as_ref()
        .map_or("statement", |rule| &*rule.id);
    let mut lines = vec![name.to_owned()];
    if let Some(collection) = &plan.foreach {
        lines.push(format!("foreach {collection}"));
    }
    let conditions = plan.conditions.iter();
    lines.extend(conditions.map(|found| format!("where {}", format_condition(&found.text))));
    if let Some(filter) = &plan.filter {
        lines.push(format!("incase {}", format_condition(filter)));
    }
    let columns: Vec<String> = plan
        .columns
        .iter()
        .map(|column| match column {
            Column::Fields => "*".to_owned(),
            Column::Value { name, kind, .. } => format!("{name} {kind}"),
        })
        .collect();
    lines.push(format!("select {}", columns.join(", ")));

    let mut out = "digraph weir {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    let _ = writeln!(out, "  rule [label={}];", quoted(&lines));
    for (number, source) in plan.sources.iter().enumerate() {
        let label = quoted(std::slice::from_ref(source));
        let _ = writeln!(out, "  source{number} [shape=ellipse, label={label}];");
        let _ = writeln!(out, "  source{number} -> rule;");
    }
    let sinks = subject.checked.iter().flat_map(|rule| &rule.sinks);
    for (number, sink) in sinks.enumerate() {
        let label = quoted(&[sink.id.to_string(), sink_line(&sink.plan)]);
        let _ = writeln!(out, "  sink{number} [label={label}];");
        let _ = writeln!(out, "  rule -> sink{number};");
    }
    out.push('}');
    out
}

/// Lines as one text of a graph, each to the left.
fn quoted(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| {
        let line: Vec<&str> = line.split_whitespace().collect();
        line.join(" ").replace('\\', "\\\\").replace('"', "\\\"")
    });
    let text: String = lines.map(|line| format!("{line}\\l")).collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_rules::{Catalog, compile};

    use super::*;

    #[test]
    fn a_statement_is_drawn_from_its_sources_to_what_it_makes() {
        let sql = "FOREACH payload.a AS e DO e.x AS x, 'a\"b' AS q INCASE e.x > 1 FROM \"a/+\", \"b\" WHERE qos = 1";
        let (rule, _) = compile(sql, &Catalog::default()).unwrap();
        let graph = graph(&Subject {
            rule: Arc::new(rule),
            checked: None,
            more: String::new(),
            warnings: Vec::new(),
        });
        assert_eq!(
            graph,
            "digraph weir {\n  rankdir=LR;\n  node [shape=box];\n  \
             rule [label=\"statement\\lforeach payload.a\\lwhere qos = 1\\lincase e.x > 1\\lselect x any, q string\\l\"];\n  \
             source0 [shape=ellipse, label=\"a/+\\l\"];\n  source0 -> rule;\n  \
             source1 [shape=ellipse, label=\"b\\l\"];\n  source1 -> rule;\n}"
        );
        assert_eq!(
            quoted(&["a \"b\" \\c".to_owned()]),
            "\"a \\\"b\\\" \\\\c\\l\""
        );
    }
}
