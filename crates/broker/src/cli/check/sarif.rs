//! Findings as SARIF 2.1.0, the form that code scanners exchange.

use std::collections::BTreeSet;
use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use crate::problem::{Problem, Severity};

/// What a path in a URI reference may not have as it is; a `:` would make a scheme of what stands before it.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b':')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The whole document: one run, its rules the codes that occur.
pub(super) fn document(problems: &[&Problem]) -> Value {
    let codes: BTreeSet<&str> = problems
        .iter()
        .map(|problem| problem.code.as_str())
        .collect();
    let rules: Vec<Value> = codes.iter().map(|code| json!({ "id": code })).collect();
    let results: Vec<Value> = problems
        .iter()
        .map(|problem| {
            json!({
                "ruleId": problem.code,
                "ruleIndex": codes.iter().position(|code| *code == problem.code),
                "level": level(problem.severity),
                "message": { "text": problem.text() },
                "locations": [{ "physicalLocation": location(problem) }],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "weir",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// A problem with a file as a whole has no region.
fn location(problem: &Problem) -> Value {
    let artifact = json!({ "uri": uri(&problem.file) });
    if problem.line == 0 {
        return json!({ "artifactLocation": artifact });
    }
    json!({
        "artifactLocation": artifact,
        "region": {
            "startLine": problem.line,
            "startColumn": problem.column,
            "endColumn": problem.column + problem.length,
        },
    })
}

/// Relative paths stay relative, to where weir was started; absolute ones say that they are files.
fn uri(path: &Path) -> String {
    let text = path.display().to_string();
    let encoded = utf8_percent_encode(&text, NOT_IN_A_PATH);
    if path.is_absolute() {
        format!("file://{encoded}")
    } else {
        encoded.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Source;

    #[test]
    fn a_result_names_its_rule_its_level_and_its_place() {
        let source = Source::new("rules/ü é.toml", "a = 1\nsql = 'SELECT uper(ü)'\n");
        let error = Problem::at(&source, 20..24, "E0102", "unknown function `uper`")
            .label("did you mean `upper`?")
            .help("see `docs/functions.md`");
        let warning = Problem::at(&source, 0..1, "W3001", "not read").severity(Severity::Warning);
        let whole = Problem::whole("/etc/a:b.toml", "E1000", "cannot be read");
        let document = document(&[&error, &warning, &whole, &error]);

        assert_eq!(document["version"], "2.1.0");
        let run = &document["runs"][0];
        assert_eq!(
            run["tool"]["driver"]["rules"],
            json!([{ "id": "E0102" }, { "id": "E1000" }, { "id": "W3001" }])
        );
        assert_eq!(run["results"].as_array().unwrap().len(), 4);
        assert_eq!(
            run["results"][0],
            json!({
                "ruleId": "E0102",
                "ruleIndex": 0,
                "level": "error",
                "message": { "text": "unknown function `uper`\ndid you mean `upper`?\nhelp: see `docs/functions.md`" },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": "rules/%C3%BC%20%C3%A9.toml" },
                    "region": { "startLine": 2, "startColumn": 15, "endColumn": 19 },
                }}],
            })
        );
        assert_eq!(run["results"][1]["level"], "warning");
        assert_eq!(run["results"][1]["ruleIndex"], 2);
        assert_eq!(
            run["results"][2]["locations"][0]["physicalLocation"],
            json!({ "artifactLocation": { "uri": "file:///etc/a%3Ab.toml" } })
        );
    }

    #[test]
    fn without_a_finding_the_document_has_an_empty_list_of_results() {
        assert_eq!(document(&[])["runs"][0]["results"], json!([]));
    }
}
