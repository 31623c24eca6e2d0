//! `weir test --update`: writes the rows that came in place of those that a test expects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use weir_import::inline;

use crate::config::toml_file::TomlFile;
use crate::problem::{Problem, Source};
use crate::project::check::CheckedRule;
use crate::project::expect::rows;
use crate::project::files::write_whole;
use crate::project::rule_file::RuleTest;
use crate::project::run_test;

/// New rows for tests, by the file that they stand in.
#[derive(Default)]
pub(super) struct Update {
    files: BTreeMap<PathBuf, (Source, Vec<Edit>)>,
}

/// A part of a file and what is to stand there.
struct Edit {
    at: Range<usize>,
    text: String,
}

impl Update {
    /// Notes what a test that fails would have to expect. Errors and requests of sinks are left to people.
    pub(super) fn look(
        &mut self,
        rule: &CheckedRule,
        test: &RuleTest,
        source: &Source,
        place: &Range<usize>,
    ) -> bool {
        let Some(expected) = &test.expect else {
            return false;
        };
        let Ok(got) = run_test::rows_made(rule, test) else {
            return false;
        };
        if rows("row", expected, &got, test.exact).is_empty() {
            return false;
        }
        let Some(at) = place_of_rows(source, place) else {
            return false;
        };
        let made = got.iter().enumerate().map(|(index, got)| {
            let expected = expected.get(index).filter(|_| !test.exact);
            row(expected, got)
        });
        let edit = Edit {
            at,
            text: list(&made.collect::<Vec<String>>()),
        };
        let file = self.files.entry(source.path.clone());
        file.or_insert_with(|| (source.clone(), Vec::new()))
            .1
            .push(edit);
        true
    }

    /// Writes the files.
    pub(super) fn write(self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for (path, (source, edits)) in self.files {
            if let Err(error) = write(&path, &edited(&source.text, edits)) {
                problems.push(Problem::whole(
                    path,
                    "E1000",
                    format!("cannot be written: {error}"),
                ));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

/// A link stays one: what it leads to is written.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    write_whole(&path.canonicalize()?, text.as_bytes())
}

/// Where the rows stand that the test at this place expects.
fn place_of_rows(source: &Source, test: &Range<usize>) -> Option<Range<usize>> {
    let file = TomlFile::parse(source).ok()?;
    (0_usize..)
        .map_while(|index| {
            let index = index.to_string();
            let found = file.get(&["test", &index])?.span();
            Some((found, file.get(&["test", &index, "expect"])))
        })
        .find(|(found, _)| found == test)
        .and_then(|(_, expect)| expect.map(|expect| expect.span()))
}

/// The row that came, as far as the test asks for it; what fits stays as it was.
fn row(expected: Option<&toml::Table>, got: &Json) -> String {
    let Json::Object(members) = got else {
        return inline(got);
    };
    let mut row = serde_json::Map::new();
    for (key, value) in members {
        let Some(expected) = expected.filter(|listed| !listed.is_empty()) else {
            row.insert(key.clone(), value.clone());
            continue;
        };
        let Some(wanted) = expected.get(key) else {
            continue;
        };
        let one = toml::Table::from_iter([(key.clone(), wanted.clone())]);
        let came = Json::Object([(key.clone(), value.clone())].into_iter().collect());
        let fits = rows("row", &[one], &[came], false).is_empty();
        let kept = serde_json::to_value(wanted)
            .ok()
            .filter(|_| fits && wanted.is_table());
        row.insert(key.clone(), kept.unwrap_or_else(|| value.clone()));
    }
    inline(&Json::Object(row))
}

fn list(rows: &[String]) -> String {
    match rows {
        [] => "[]".to_owned(),
        [row] => format!("[{row}]"),
        rows => {
            let lines: String = rows.iter().map(|row| format!("  {row},\n")).collect();
            format!("[\n{lines}]")
        }
    }
}

fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.at.start));
    let mut text = text.to_owned();
    for edit in edits {
        text.replace_range(edit.at, &edit.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::toml_file::Names;
    use crate::project::check::check;
    use crate::project::files::{FileId, Files};

    #[test]
    fn rows_are_written_where_they_stand_and_nothing_else_is_touched() {
        let before = "sql = 'SELECT payload.t AS t, topic, payload.n AS n FROM \"a/+\"'   # mine\n\
             [[test]]\nname = 'one'\ngiven = [{ topic = 'a/1', payload = { t = 2.5 } }]\n\
             expect = [ # here\n  { t = 3, topic = 'x' },\n]\n\
             [[test]]\nname = 'two'\nexact = true\nexpect = []\n\
             given = [{ topic = 'a/1' , payload = {n=1}}, { topic = 'a/2', payload = { t = 1 } }]\n\
             [[test]]\nname = 'fits'\nexpect = [{ t = { approx = 2, tol = 1 }, n = 'x' }]\n\
             given = [{ topic = 'a/1', payload = { t = 2.5, n = 'y' } }]\n\
             [[test]]\nname = 'right'\nexpect = [{ t = 1 }]\ngiven = [{ topic = 'a/1', payload = { t = 1 } }]\n";
        let after = "sql = 'SELECT payload.t AS t, topic, payload.n AS n FROM \"a/+\"'   # mine\n\
             [[test]]\nname = 'one'\ngiven = [{ topic = 'a/1', payload = { t = 2.5 } }]\n\
             expect = [{ t = 2.5, topic = \"a/1\" }]\n\
             [[test]]\nname = 'two'\nexact = true\nexpect = [\n  { topic = \"a/1\", n = 1 },\n  { t = 1, topic = \"a/2\" },\n]\n\
             given = [{ topic = 'a/1' , payload = {n=1}}, { topic = 'a/2', payload = { t = 1 } }]\n\
             [[test]]\nname = 'fits'\nexpect = [{ t = { approx = 2, tol = 1 }, n = \"y\" }]\n\
             given = [{ topic = 'a/1', payload = { t = 2.5, n = 'y' } }]\n\
             [[test]]\nname = 'right'\nexpect = [{ t = 1 }]\ngiven = [{ topic = 'a/1', payload = { t = 1 } }]\n";
        let source = Source::new("rules/r.toml", before);
        let files = Files([(FileId::rule("r"), source)].into_iter().collect());
        let checked = check(&files, &Files::default(), None, &Names);
        let rule = &checked.rules["r"];
        let mut update = Update::default();
        let found: Vec<bool> = rule
            .tests
            .iter()
            .map(|(test, source, place)| update.look(rule, test, source, place))
            .collect();
        assert_eq!(found, [true, true, true, false]);
        let (_, (source, edits)) = update.files.into_iter().next().unwrap();
        assert_eq!(edited(&source.text, edits), after);
    }
}
