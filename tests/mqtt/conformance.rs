//! `docs/conformance.md` is made from the tests: which statements of the standards each of them shows. `UPDATE=1` rewrites it.
//!
//! A comment of a test names what it shows: `[MQTT-3.3.1-8]` of MQTT 5, `[MQTT3-3.3.1-8]` of MQTT 3.1.1.
//! `statements/*.tsv` lists every numbered statement, whom it binds and what it says in short.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const PAGE: &str = "docs/conformance.md";

/// One of the two standards.
struct Standard {
    name: &'static str,
    /// What stands before a number in a comment.
    prefix: &'static str,
    table: &'static str,
}

const STANDARDS: [Standard; 2] = [
    Standard {
        name: "MQTT 5.0",
        prefix: "MQTT-",
        table: include_str!("statements/v5.tsv"),
    },
    Standard {
        name: "MQTT 3.1.1",
        prefix: "MQTT3-",
        table: include_str!("statements/v3_1_1.tsv"),
    },
];

/// Whom a statement binds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Party {
    Server,
    Client,
    Both,
}

/// A numbered statement, as a line of the table says it.
struct Statement {
    /// With its prefix: what a comment names.
    name: String,
    number: &'static str,
    party: Party,
    summary: &'static str,
}

/// A test and the statements, or whatever else, that its comments name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Test {
    file: String,
    name: String,
    shows: Vec<String>,
}

impl Standard {
    fn statements(&self) -> impl Iterator<Item = Statement> {
        self.table.lines().map(|line| {
            let mut fields = line.split('\t');
            let (Some(number), Some(party), Some(summary), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                panic!("not a number, a party and a summary: {line}")
            };
            let party = match party {
                "server" => Party::Server,
                "client" => Party::Client,
                "both" => Party::Both,
                other => panic!("{number}: {other} is no party"),
            };
            Statement {
                name: format!("{}{number}", self.prefix),
                number,
                party,
                summary,
            }
        })
    }
}

#[test]
fn every_statement_that_binds_a_server_is_shown_by_a_test_and_the_page_says_by_which() {
    let tests = all_tests("MQTT");
    let shown_by = shown_by(&tests);
    let mut unknown: Vec<&str> = shown_by.keys().copied().collect();
    let mut without_test = Vec::new();
    for statement in STANDARDS.iter().flat_map(Standard::statements) {
        unknown.retain(|name| *name != statement.name);
        if statement.party != Party::Client && !shown_by.contains_key(&*statement.name) {
            without_test.push(format!("{}: {}", statement.name, statement.summary));
        }
    }
    assert!(unknown.is_empty(), "no such statement: {unknown:?}");
    assert!(
        without_test.is_empty(),
        "no test names these:\n{}",
        without_test.join("\n")
    );
    let page = page(&shown_by);
    let path = Path::new(ROOT).join(PAGE);
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "{PAGE} is stale; run this test with UPDATE=1"
    );
}

pub(crate) fn shown_by(tests: &[Test]) -> BTreeMap<&str, Vec<&Test>> {
    let mut shown_by: BTreeMap<&str, Vec<&Test>> = BTreeMap::new();
    for test in tests {
        for statement in &test.shows {
            let tests = shown_by.entry(statement).or_default();
            if tests.last().is_none_or(|last| *last != test) {
                tests.push(test);
            }
        }
    }
    shown_by
}

fn page(shown_by: &BTreeMap<&str, Vec<&Test>>) -> String {
    let mut out = String::from(
        "# Conformance\n\n\
         <!-- Made from the tests by `UPDATE=1 cargo nextest run -p weir --test mqtt conformance`. -->\n\n\
         Every numbered statement of the two standards that binds a server, and the tests that show it.\n\
         The summaries are weir's own; the standards have the words that count.\n\
         Statements that bind clients alone stand here only where a test shows what the broker answers to a client that \
         breaks them.\n\
         3.1.1 prints one number, 3.8.3-4, as 3-8.3-4.\n",
    );
    for standard in &STANDARDS {
        chapters(standard, shown_by, &mut out);
    }
    out
}

fn chapters(standard: &Standard, shown_by: &BTreeMap<&str, Vec<&Test>>, out: &mut String) {
    let statements: Vec<Statement> = standard.statements().collect();
    let of_clients = |statement: &&Statement| statement.party == Party::Client;
    let clients = statements.iter().filter(of_clients).count();
    writeln!(
        out,
        "\n## {}\n\n{} statements: {} bind a server, {clients} bind clients alone.",
        standard.name,
        statements.len(),
        statements.len() - clients,
    )
    .unwrap();
    let mut chapter = "";
    for statement in &statements {
        let tests = shown_by.get(&*statement.name);
        if statement.party == Party::Client && tests.is_none() {
            continue;
        }
        if section(statement.number) != chapter {
            chapter = section(statement.number);
            write!(
                out,
                "\n### {chapter} {}\n\n| statement | in short | shown by |\n|---|---|---|\n",
                title(chapter)
            )
            .unwrap();
        }
        let shown: Vec<String> = tests.into_iter().flatten().map(|test| link(test)).collect();
        let client = if statement.party == Party::Client {
            " *(clients)*"
        } else {
            ""
        };
        writeln!(
            out,
            "| {} | {}{client} | {} |",
            statement.number,
            statement.summary,
            shown.join("<br>")
        )
        .unwrap();
    }
}

/// The packet or chapter of a statement: `3.8` of `3.8.4-1`.
fn section(number: &str) -> &str {
    let end = number.match_indices(['.', '-']).nth(1);
    &number[..end.map_or(number.len(), |(at, _)| at)]
}

fn title(chapter: &str) -> &'static str {
    match chapter {
        "1.5" => "Data representation",
        "2.1" => "Structure of a packet",
        "2.2" | "2.3" => "Variable header",
        "3.1" => "CONNECT",
        "3.2" => "CONNACK",
        "3.3" => "PUBLISH",
        "3.4" => "PUBACK",
        "3.5" => "PUBREC",
        "3.6" => "PUBREL",
        "3.7" => "PUBCOMP",
        "3.8" => "SUBSCRIBE",
        "3.9" => "SUBACK",
        "3.10" => "UNSUBSCRIBE",
        "3.11" => "UNSUBACK",
        "3.12" => "PINGREQ",
        "3.14" => "DISCONNECT",
        "3.15" => "AUTH",
        "4.1" => "Session state",
        "4.2" => "Network connections",
        "4.3" => "Quality of service",
        "4.4" => "Delivery again",
        "4.5" => "Receipt",
        "4.6" => "Order",
        "4.7" => "Topic names and filters",
        "4.8" => "Shared subscriptions (5.0), errors (3.1.1)",
        "4.9" => "Flow control",
        "4.12" => "Enhanced authentication",
        "4.13" => "Errors",
        "6.0" => "WebSocket",
        "7.0" | "7.1" => "Conformance",
        other => panic!("chapter {other} has no title"),
    }
}

pub(crate) fn link(test: &Test) -> String {
    let stem = Path::new(&test.file).file_stem().unwrap().to_string_lossy();
    format!("[{stem}::{}](../{})", test.name, test.file)
}

/// Every test of the repository, in the order of their files, with what its comments name that begins with `prefix`.
pub(crate) fn all_tests(prefix: &str) -> Vec<Test> {
    let mut files = Vec::new();
    for folder in ["crates", "tests"] {
        sources(&Path::new(ROOT).join(folder), &mut files);
    }
    files.sort();
    let root = Path::new(ROOT);
    files
        .iter()
        .flat_map(|path| {
            let file = path.strip_prefix(root).unwrap().to_string_lossy();
            tests_in(prefix, &file, &std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// The tests of one source file. A test is a function under an attribute that ends in `test`; what it shows stands in
/// the comments above it and in its body.
fn tests_in(prefix: &str, file: &str, source: &str) -> Vec<Test> {
    let mut tests = Vec::new();
    // Statements above the next item, and whether one of its attributes makes it a test.
    let (mut shows, mut is_test) = (Vec::new(), false);
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        if text.starts_with("//") {
            shows.extend(named(prefix, text));
        } else if text.starts_with("#[") {
            is_test |= is_test_attribute(text);
        } else {
            if let Some(name) = function_name(text).filter(|_| is_test) {
                let end = format!("{}}}", &line[..line.len() - text.len()]);
                let body = lines.by_ref().take_while(|line| *line != end);
                shows.extend(body.flat_map(|line| named(prefix, line)));
                tests.push(Test {
                    file: file.to_owned(),
                    name: name.to_owned(),
                    shows: std::mem::take(&mut shows),
                });
            }
            shows.clear();
            is_test = false;
        }
    }
    tests
}

fn is_test_attribute(line: &str) -> bool {
    let path = line.trim_start_matches("#[");
    let end = path.find([']', '(']).unwrap_or(path.len());
    path[..end] == *"test" || path[..end].ends_with("::test")
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = line.strip_prefix("fn ")?;
    rest.split_once('(').map(|(name, _)| name)
}

/// `MQTT-3.3.1-8` for each `[MQTT-3.3.1-8]` in the comment of a line.
fn named(prefix: &str, line: &str) -> Vec<String> {
    let Some((_, comment)) = line.split_once("//") else {
        return Vec::new();
    };
    let names = comment.split('[').skip(1);
    names
        .filter(|rest| rest.starts_with(prefix))
        .filter_map(|rest| rest.split_once(']'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn tests_are_found_with_the_statements_of_their_comments() {
    // Written otherwise, since this file is read for statements too.
    let source = "\
/// [V5-1.1.1-1] [V3-1.1.1-1]
#[test]
fn one() {
    // [V5-1.1.1-2] because
    let text = \"[V5-0.0.0-0]\"; // [V5-1.1.1-3]
    if true {
    }
}

/// [V5-9.9.9-9]
fn not_a_test() {}

#[tokio::test(flavor = \"current_thread\")]
async fn two() {
}
"
    .replace("[V5-", "[MQTT-")
    .replace("[V3-", "[MQTT3-");
    let test = |name: &str, shows: &[&str]| Test {
        file: "f.rs".to_owned(),
        name: name.to_owned(),
        shows: shows.iter().map(|&name| name.to_owned()).collect(),
    };
    let one = [
        "MQTT-1.1.1-1",
        "MQTT3-1.1.1-1",
        "MQTT-1.1.1-2",
        "MQTT-1.1.1-3",
    ];
    assert_eq!(
        tests_in("MQTT", "f.rs", &source),
        [test("one", &one), test("two", &[])]
    );
}
