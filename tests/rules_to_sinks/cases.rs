//! The language as its users see it: the golden cases, and every example of the manual, through `weir try --cases`.
//!
//! A golden case says what must hold (`name`), where that stands (`spec`), what is tried (`case`) and what keys of the
//! answer must be (`expect`); `message_has` is a part of the message. In the manual, a block of `sql` is followed by a
//! block of `json` with the message and the answer.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value as Json, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use weir_test_support::repository;

use crate::WEIR;

/// What one case is called, what is asked, what must come.
struct Case {
    name: String,
    asked: Json,
    expected: Map<String, Json>,
}

#[tokio::test]
async fn every_golden_case_gives_what_it_says() {
    let mut cases = Vec::new();
    for folder in ["language", "functions"] {
        let folder = repository().join("tests/rules_to_sinks/cases").join(folder);
        for entry in std::fs::read_dir(&folder).unwrap() {
            golden(&entry.unwrap().path(), &mut cases);
        }
    }
    assert!(cases.len() >= 600, "only {} cases were found", cases.len());
    hold(&cases).await;
}

#[tokio::test]
async fn every_example_of_the_manual_gives_what_it_says() {
    for (page, least) in [("docs/rule-sql.md", 60), ("docs/common-mistakes.md", 20)] {
        let text = std::fs::read_to_string(repository().join(page)).unwrap();
        let cases = examples(page, &text);
        assert!(
            cases.len() >= least,
            "only {} examples in {page}",
            cases.len()
        );
        hold(&cases).await;
    }
}

fn golden(file: &Path, cases: &mut Vec<Case>) {
    let text = std::fs::read_to_string(file).unwrap();
    let place = file.file_stem().unwrap().to_string_lossy();
    for (number, line) in (1..).zip(text.lines()) {
        let Json::Object(mut case) = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("{}:{number}: {error}", file.display());
        }) else {
            panic!("{}:{number}: not an object", file.display());
        };
        let Some(Json::Object(expected)) = case.remove("expect") else {
            panic!("{}:{number}: no `expect`", file.display());
        };
        cases.push(Case {
            name: format!("{place}:{number}: {}", case["name"].as_str().unwrap()),
            asked: case.remove("case").unwrap(),
            expected,
        });
    }
}

/// Pairs of blocks: a statement, and its message with the answer.
fn examples(page: &str, text: &str) -> Vec<Case> {
    const ASKED: [&str; 6] = [
        "message",
        "messages",
        "template",
        "template_kind",
        "undefined",
        "udf",
    ];
    let mut cases = Vec::new();
    let mut blocks = text.split("\n```sql\n");
    let mut line = blocks.next().map_or(0, |first| first.lines().count() + 2);
    for block in blocks {
        let (sql, rest) = block.split_once("\n```\n").unwrap();
        let answer = rest.trim_start().strip_prefix("```json\n");
        let answer = answer.unwrap_or_else(|| panic!("{page}:{line}: no block of json follows"));
        let (answer, _) = answer.split_once("\n```").unwrap();
        let mut asked: Map<String, Json> =
            serde_json::from_str(answer).unwrap_or_else(|error| panic!("{page}:{line}: {error}"));
        let keys: Vec<String> = asked
            .keys()
            .filter(|key| !ASKED.contains(&key.as_str()))
            .cloned()
            .collect();
        let expected = keys
            .into_iter()
            .map(|key| {
                let value = asked.remove(&key).unwrap();
                (key, value)
            })
            .collect();
        asked.insert("sql".to_owned(), sql.into());
        cases.push(Case {
            name: format!("{page}:{line}"),
            asked: asked.into(),
            expected,
        });
        line += block.lines().count() + 1;
    }
    cases
}

/// Asks weir about all of them at once.
async fn hold(cases: &[Case]) {
    let lines: String = cases
        .iter()
        .map(|case| format!("{}\n", case.asked))
        .collect();
    let mut weir = Command::new(WEIR)
        .args(["try", "--cases", "-"])
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = weir.stdin.take().unwrap();
    let (written, finished) = tokio::join!(
        async {
            stdin.write_all(lines.as_bytes()).await.unwrap();
            drop(stdin);
        },
        weir.wait_with_output()
    );
    let () = written;
    let output = String::from_utf8(finished.unwrap().stdout).unwrap();
    let answers: Vec<Json> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), cases.len(), "one answer for each case");
    let mut wrong = String::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let unlike = case
            .expected
            .iter()
            .any(|(key, wanted)| match key.as_str() {
                "message_has" => !answer["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(wanted.as_str().unwrap())),
                key => answer.get(key) != Some(wanted),
            });
        if unlike {
            let (wanted, asked) = (json!(case.expected), &case.asked);
            write!(
                wrong,
                "\n{}\n  asked    {asked}\n  expected {wanted}\n  got      {answer}\n",
                case.name
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
