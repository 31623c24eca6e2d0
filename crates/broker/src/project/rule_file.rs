//! One rule file: its keys, its statement's place, its sinks and its tests (user-experience §2.4).
//!
//! Reads and checks the form only; what the statement and the sinks mean is checked in `check.rs`.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use toml::de::DeValue;
use weir_rules::Diagnostic;
use weir_sinks::{ConnectorConfig, SinkConfig};

use crate::config::toml_file::{Outside, TomlFile, fill_in};
use crate::problem::{Problem, Severity, Source};

/// A rule file whose form is right.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// What the rule is for.
    pub description: Option<String>,
    /// Whether it runs.
    pub enabled: bool,
    /// What becomes of messages that it cannot evaluate.
    pub on_error: OnError,
    /// The statement.
    pub sql: SqlText,
    /// Where its rows go.
    pub sinks: Vec<SinkTable>,
    /// Its tests, each with its place.
    pub tests: Vec<(RuleTest, Range<usize>)>,
}

/// One `[[sinks]]` of a file.
#[derive(Clone, Debug)]
pub struct SinkTable {
    /// Its keys.
    pub config: SinkConfig,
    /// Where each key's value stands, by dotted path; the table itself under the empty path.
    pub places: BTreeMap<String, Range<usize>>,
    /// What was filled in from outside: a changed variable is a changed sink.
    pub filled: Vec<String>,
}

impl SinkTable {
    /// The place of a key, or of the nearest table around it that is there.
    pub fn place(&self, key: &str) -> Range<usize> {
        nearest_place(&self.places, key)
    }
}

/// The place of a dotted key, or of the nearest table around it that is there.
pub fn nearest_place(places: &BTreeMap<String, Range<usize>>, key: &str) -> Range<usize> {
    let mut key = key;
    loop {
        if let Some(place) = places.get(key) {
            return place.clone();
        }
        match key.rsplit_once('.') {
            Some((outer, _)) => key = outer,
            None => return places.get("").cloned().unwrap_or(0..0),
        }
    }
}

/// Where every value below `value` stands, by dotted path.
pub fn places(value: &Spanned<DeValue<'_>>) -> BTreeMap<String, Range<usize>> {
    fn walk(prefix: &str, value: &Spanned<DeValue<'_>>, out: &mut BTreeMap<String, Range<usize>>) {
        out.insert(prefix.to_owned(), value.span());
        if let DeValue::Array(items) = value.get_ref() {
            for (at, item) in items.iter().enumerate() {
                walk(&format!("{prefix}[{at}]"), item, out);
            }
        }
        if let DeValue::Table(table) = value.get_ref() {
            for (key, value) in table {
                let key = key.get_ref();
                let path = if prefix.is_empty() {
                    key.to_string()
                } else {
                    format!("{prefix}.{key}")
                };
                walk(&path, value, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

/// What becomes of messages that a rule cannot evaluate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// They are remembered with the rule's last errors.
    #[default]
    DeadLetter,
    /// They are only counted.
    Drop,
}

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub struct SqlText {
    /// The statement.
    pub text: String,
    /// Where its first byte stands in the file that holds it.
    offset: usize,
    /// Whether a byte of the statement is a byte of the file: not so where a TOML escape stands between.
    exact: bool,
    /// The place of the whole literal.
    literal: Range<usize>,
    /// The file that holds it, where that is not the rule's own.
    pub file: Option<Source>,
}

impl SqlText {
    /// The place of a part of the statement in its file.
    pub fn place(&self, part: Range<usize>) -> Range<usize> {
        if self.exact {
            self.offset + part.start..self.offset + part.end
        } else {
            self.literal.clone()
        }
    }

    /// What the compiler found, at its place in the file.
    ///
    /// `source` is the rule's own file.
    pub fn problem(&self, source: &Source, diagnostic: Diagnostic) -> Problem {
        let source = self.file.as_ref().unwrap_or(source);
        let place = self.place(diagnostic.span.start..diagnostic.span.end);
        let mut problem = Problem::at(source, place, diagnostic.code.name(), diagnostic.message)
            .severity(match diagnostic.severity {
                weir_rules::Severity::Error => Severity::Error,
                weir_rules::Severity::Warning => Severity::Warning,
            })
            .label(diagnostic.label);
        problem.help = diagnostic.help;
        problem
    }

    /// The statement that stands as a literal in a rule file.
    pub(super) fn of(source: &Source, literal: &Spanned<String>) -> Self {
        let span = literal.span();
        let raw = &source.text[span.clone()];
        let quotes = if raw.starts_with("'''") || raw.starts_with("\"\"\"") {
            3
        } else {
            1
        };
        let mut start = quotes.min(raw.len());
        if quotes == 3 {
            // A line break right after the opening quotes is not part of the text.
            start += ["\r\n", "\n"]
                .iter()
                .find(|newline| raw[start..].starts_with(**newline))
                .map_or(0, |newline| newline.len());
        }
        let text = literal.get_ref().clone();
        let exact = raw[start..].starts_with(&text);
        Self {
            text,
            offset: span.start + start,
            exact,
            literal: span,
            file: None,
        }
    }

    /// The statement that is a whole file.
    pub fn of_file(source: Source) -> Self {
        Self {
            text: source.text.to_string(),
            offset: 0,
            exact: true,
            literal: 0..source.text.len(),
            file: Some(source),
        }
    }
}

/// One `[[test]]`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("anyOf" = [{ "required": ["expect"] }, { "required": ["expect_sink"] }, { "required": ["expect_error"] }])))]
pub struct RuleTest {
    /// What it shows, as a sentence.
    pub name: String,
    /// The messages, in order.
    pub given: Vec<Given>,
    /// The rows, by their listed keys.
    #[cfg_attr(
        test,
        schemars(with = "Option<Vec<serde_json::Map<String, serde_json::Value>>>")
    )]
    pub expect: Option<Vec<toml::Table>>,
    /// Whether unlisted keys are an error.
    #[serde(default)]
    pub exact: bool,
    /// What each sink would send, by sink id.
    #[serde(default)]
    #[cfg_attr(
        test,
        schemars(with = "BTreeMap<String, Vec<serde_json::Map<String, serde_json::Value>>>")
    )]
    pub expect_sink: BTreeMap<String, Vec<toml::Table>>,
    /// The kind of the evaluation error that must come.
    pub expect_error: Option<String>,
    /// What time it is; midnight at the start of 2026 unless given.
    pub now: Option<String>,
    /// What random functions start from.
    #[serde(default)]
    pub seed: u64,
}

/// One message of a test.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The topic name; at the remote, where `bridge` is given.
    pub topic: String,
    /// The bridge that the message came in over, for rules `FROM "$bridges/mqtt:NAME"`.
    pub bridge: Option<String>,
    /// The payload as a value that becomes JSON.
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    pub payload: Option<toml::Value>,
    /// The payload as text.
    pub payload_text: Option<String>,
    /// The payload as hexadecimal digits.
    pub payload_hex: Option<String>,
    /// The publisher's client id.
    pub clientid: Option<String>,
    /// The publisher's user name.
    pub username: Option<String>,
    /// 0, 1 or 2.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(max = 2)))]
    pub qos: u8,
    /// The RETAIN flag.
    #[serde(default)]
    pub retain: bool,
    /// MQTT 5 user properties.
    #[serde(default)]
    pub user_properties: BTreeMap<String, String>,
}

impl Given {
    fn is_event_of_bridge(&self) -> bool {
        self.bridge.is_some() && self.topic.starts_with("$events/")
    }
}

/// One rule: its statement, where its rows go, and its tests.
// Sinks and tests are taken out before and read one by one; named here so that they are among the known keys.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [{ "required": ["sql"] }, { "required": ["sql_file"] }])))]
pub(super) struct Head {
    /// What the rule is for.
    description: Option<String>,
    /// Whether it runs.
    #[serde(default = "yes")]
    enabled: bool,
    /// What becomes of messages that it cannot evaluate.
    #[serde(default)]
    on_error: OnError,
    /// The statement, best in `'''…'''`, where nothing needs an escape.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    sql: Option<Spanned<String>>,
    /// A file beside the rule that holds the statement.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    sql_file: Option<Spanned<String>>,
    /// Where its rows go.
    #[serde(rename = "sinks")]
    #[cfg_attr(test, schemars(with = "Option<Vec<SinkConfig>>"))]
    _sinks: Option<IgnoredAny>,
    /// Its tests, which `weir test` runs.
    #[serde(rename = "test")]
    #[cfg_attr(test, schemars(with = "Option<Vec<RuleTest>>"))]
    _test: Option<IgnoredAny>,
}

const fn yes() -> bool {
    true
}

/// What a rule file needs from the rest of the project.
pub struct Around<'a> {
    /// Values from outside.
    pub outside: &'a dyn Outside,
    /// The connector of that name, for `${conn:key}`.
    pub connector: &'a dyn Fn(&str) -> Option<ConnectorConfig>,
    /// The statement file of that name beside the rule.
    pub sql_file: &'a dyn Fn(&str) -> Option<Source>,
}

/// A rule file that cannot be used.
pub struct Unread {
    /// Everything that is wrong with its form.
    pub problems: Vec<Problem>,
    /// Its statement, where that could be read: it may have mistakes of its own.
    pub sql: Option<SqlText>,
}

/// Reads a rule file.
///
/// # Errors
/// When its form is wrong.
pub fn read(source: &Source, around: &Around<'_>) -> Result<RuleFile, Unread> {
    let mut file = TomlFile::parse(source).map_err(|problems| Unread {
        problems,
        sql: None,
    })?;
    let mut problems = Vec::new();
    let sinks = sinks(&mut file, around, &mut problems);
    let tests = tests(&mut file, &mut problems);
    let head: Option<Head> = file.read().map_err(|problem| problems.push(*problem)).ok();
    let sql = head
        .as_ref()
        .and_then(|head| statement(source, head, around, &mut problems));
    match (head, sql) {
        (Some(head), Some(sql)) if problems.is_empty() => Ok(RuleFile {
            description: head.description,
            enabled: head.enabled,
            on_error: head.on_error,
            sql,
            sinks,
            tests,
        }),
        (_, sql) => Err(Unread { problems, sql }),
    }
}

fn statement(
    source: &Source,
    head: &Head,
    around: &Around<'_>,
    problems: &mut Vec<Problem>,
) -> Option<SqlText> {
    match (&head.sql, &head.sql_file) {
        (Some(sql), None) => Some(SqlText::of(source, sql)),
        (None, Some(name)) => match (around.sql_file)(name.get_ref()) {
            Some(file) => Some(SqlText::of_file(file)),
            None => {
                problems.push(Problem::at(
                    source,
                    name.span(),
                    "E1000",
                    format!("there is no file `{}` beside the rule", name.get_ref()),
                ));
                None
            }
        },
        (Some(_), Some(name)) => {
            problems.push(Problem::at(
                source,
                name.span(),
                "E1003",
                "a rule has `sql` or `sql_file`, not both",
            ));
            None
        }
        (None, None) => {
            problems.push(
                Problem::at(source, 0..0, "E1003", "the key `sql` is missing")
                    .help("add  sql = '''SELECT … FROM \"topic/#\"'''  above the first [[sinks]]"),
            );
            None
        }
    }
}

/// A sink's view of what lies outside: its connector's values come first.
struct WithConnector<'a> {
    outside: &'a dyn Outside,
    connector: Option<ConnectorConfig>,
    /// It names a connector that is not there, which is told at that key: what is to come from it is not told again.
    lacks_connector: bool,
    filled: std::cell::RefCell<Vec<String>>,
}

impl Outside for WithConnector<'_> {
    fn value(&self, kind: &str, name: &str) -> Result<String, String> {
        let value = if kind == "conn" {
            match &self.connector {
                Some(connector) => connector.value(name).ok_or_else(|| {
                    format!("the sink's connector has no key `{name}` that may be used here")
                }),
                None => Err(format!(
                    "`${{conn:{name}}}` needs a sink with a `connector`"
                )),
            }
        } else {
            self.outside.value(kind, name)
        }?;
        self.filled.borrow_mut().push(value.clone());
        Ok(value)
    }

    fn stand_in(&self, kind: &str, name: &str) -> Option<String> {
        if kind == "conn" && self.lacks_connector {
            return Some(format!("${{conn:{name}}}"));
        }
        self.outside.stand_in(kind, name)
    }
}

fn sinks(
    file: &mut TomlFile<'_>,
    around: &Around<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<SinkTable> {
    let mut sinks = Vec::new();
    for mut table in tables(file, "sinks", problems) {
        let places = places(&table);
        let name = table
            .get_ref()
            .get("connector")
            .and_then(|name| name.get_ref().as_str().map(str::to_owned));
        let connector = name.as_deref().and_then(around.connector);
        let outside = WithConnector {
            outside: around.outside,
            lacks_connector: name.is_some() && connector.is_none(),
            connector,
            filled: std::cell::RefCell::default(),
        };
        fill_in(file.source, &mut table, &outside, problems);
        match file.read_value(table) {
            Ok(config) => sinks.push(SinkTable {
                config,
                places,
                filled: outside.filled.into_inner(),
            }),
            Err(problem) => problems.push(*problem),
        }
    }
    sinks
}

fn tests(file: &mut TomlFile<'_>, problems: &mut Vec<Problem>) -> Vec<(RuleTest, Range<usize>)> {
    let mut tests = Vec::new();
    for table in tables(file, "test", problems) {
        let span = table.span();
        match file.read_value::<RuleTest>(table) {
            Ok(test) => {
                if test.expect.is_none()
                    && test.expect_sink.is_empty()
                    && test.expect_error.is_none()
                {
                    problems.push(
                        Problem::at(file.source, span, "E1007", format!("the test `{}` expects nothing, so it cannot fail", test.name))
                            .help("add `expect = […]`, `expect_sink.ID = […]` or `expect_error = \"kind\"`"),
                    );
                    continue;
                }
                if let Some(given) = test.given.iter().find(|given| given.is_event_of_bridge()) {
                    let message = format!(
                        "the test `{}` has an event come in over a bridge: `{}`",
                        test.name, given.topic
                    );
                    problems.push(Problem::at(file.source, span, "E1006", message).help(
                        "events are of this broker: leave out `bridge`, or name the message's topic at the remote",
                    ));
                    continue;
                }
                tests.push((test, span));
            }
            Err(problem) => problems.push(*problem),
        }
    }
    tests
}

/// Reads the tests of a `NAME.test.toml`.
///
/// # Errors
/// Everything that is wrong with its form.
pub fn read_tests(source: &Source) -> Result<Vec<(RuleTest, Range<usize>)>, Vec<Problem>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct OnlyTests {
        #[serde(rename = "test")]
        _test: Option<IgnoredAny>,
    }
    let mut file = TomlFile::parse(source)?;
    let mut problems = Vec::new();
    let tests = tests(&mut file, &mut problems);
    if let Err(problem) = file.read::<OnlyTests>() {
        problems.push(*problem);
    }
    if problems.is_empty() {
        Ok(tests)
    } else {
        Err(problems)
    }
}

/// Takes a list of tables out of a file; anything else under that key is a problem.
fn tables<'s>(
    file: &mut TomlFile<'s>,
    key: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Spanned<DeValue<'s>>> {
    let Some(value) = file.take(key) else {
        return Vec::new();
    };
    let span = value.span();
    match value.into_inner() {
        DeValue::Array(array) => array.into_iter().collect(),
        _ => {
            problems.push(Problem::at(
                file.source,
                span,
                "E1003",
                format!("`{key}` must be a list of tables: write [[{key}]]"),
            ));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests_of_reading {
    use super::*;
    use crate::config::toml_file::Names;

    fn read_text(text: &str) -> Result<RuleFile, Vec<Problem>> {
        let source = Source::new("rules/x.toml", text);
        let around = Around {
            outside: &Names,
            connector: &|_| None,
            sql_file: &|_| None,
        };
        read(&source, &around).map_err(|unread| unread.problems)
    }

    #[test]
    fn a_place_in_the_statement_is_a_place_in_the_file() {
        let text = "description = 'x'\nsql = '''\nSELECT a\nFROM \"t\"\n'''\n";
        let file = read_text(text).unwrap();
        let at = file.sql.text.find("FROM").unwrap();
        let place = file.sql.place(at..at + 4);
        assert_eq!(&text[place], "FROM");
    }

    #[test]
    fn a_statement_with_escapes_is_shown_as_a_whole() {
        let text = "sql = \"SELECT a FROM \\\"t\\\"\"\n";
        let file = read_text(text).unwrap();
        assert_eq!(&text[file.sql.place(3..4)], "\"SELECT a FROM \\\"t\\\"\"");
    }

    #[test]
    fn several_problems_of_one_file_come_at_once() {
        let problems =
            read_text("sqll = 'x'\n[[sinks]]\ntype = 'consol'\n[[test]]\nname = 'n'\ngiven = []\n")
                .unwrap_err();
        let codes: Vec<(&str, usize)> = problems
            .iter()
            .map(|problem| (problem.code.as_str(), problem.line))
            .collect();
        assert_eq!(codes, [("E1003", 3), ("E1007", 4), ("E1002", 1)]);
        assert_eq!(problems[2].label, "did you mean `sql`?");
    }

    #[test]
    fn a_test_that_expects_nothing_is_refused() {
        let problems = read_text("sql = 'SELECT 1 FROM \"t\"'\n[[test]]\nname = 'n'\ngiven = []\n")
            .unwrap_err();
        assert_eq!(problems[0].code, "E1007");
    }

    #[test]
    fn an_event_does_not_come_in_over_a_bridge() {
        let problems = read_text(
            "sql = 'SELECT * FROM \"$bridges/mqtt:hq\"'\n[[test]]\nname = 'n'\n\
             given = [{ topic = 'a', bridge = 'hq' }, { topic = '$events/client/connected', bridge = 'hq' }]\nexpect = []\n",
        )
        .unwrap_err();
        assert_eq!((problems[0].code.as_str(), problems[0].line), ("E1006", 2));
    }
}
