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
    ///
    /// # Errors
    /// When the test expects other rows, and those that came cannot stand in their place.
    pub(super) fn look(
        &mut self,
        rule: &CheckedRule,
        test: &RuleTest,
        source: &Source,
        place: &Range<usize>,
    ) -> Result<bool, Box<Problem>> {
        let Some(expected) = &test.expect else {
            return Ok(false);
        };
        let Ok(got) = run_test::rows_made(rule, test) else {
            return Ok(false);
        };
        if rows("row", expected, &got, test.exact).is_empty() {
            return Ok(false);
        }
        let Some(at) = place_of_rows(source, place) else {
            return Ok(false);
        };
        if !is_list(source.text.get(at.clone()).unwrap_or_default()) {
            let message = format!(
                "the rows of `{}` cannot be written: they are tables of their own",
                test.name
            );
            return Err(Box::new(Problem::at(source, at, "E1000", message).help(
                "`--update` writes rows that stand in a list: `expect = [{ key = 1 }]` in place of `[[test.expect]]`",
            )));
        }
        let mut made = Vec::new();
        for (index, got) in got.iter().enumerate() {
            let expected = expected.get(index).filter(|_| !test.exact);
            made.push(row(expected, got).ok_or_else(|| {
                let message = format!(
                    "row {} of `{}` came without any key, and a row that lists none cannot fail",
                    index + 1,
                    test.name
                );
                Box::new(Problem::at(source, at.clone(), "E1007", message).help(
                    "where the row is to be empty, say so: `expect = [{}]` and `exact = true`",
                ))
            })?);
        }
        let edit = Edit {
            at,
            text: list(&made),
        };
        let file = self.files.entry(source.path.clone());
        file.or_insert_with(|| (source.clone(), Vec::new()))
            .1
            .push(edit);
        Ok(true)
    }

    /// Writes the files; one that would no longer be TOML stays as it is.
    pub(super) fn write(self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for (path, (source, edits)) in self.files {
            let text = edited(&source.text, edits);
            if let Err(found) = TomlFile::parse(&Source::new(path.clone(), text.as_str())) {
                problems.extend(found.into_iter().map(|problem| {
                    problem.help(
                        "nothing was written into the file: write the rows of its tests by hand",
                    )
                }));
            } else if let Err(error) = write(&path, &text) {
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

/// Whether that is a value: an array of tables has its first header for a place.
fn is_list(text: &str) -> bool {
    text.starts_with('[') && text.ends_with(']') && !text.starts_with("[[")
}

/// The row that came, as far as the test asks for it; what fits stays as it was. Whole where it lacks a key that the
/// test lists, as what is left might be nothing; none where there is nothing at all.
fn row(expected: Option<&toml::Table>, got: &Json) -> Option<String> {
    let Json::Object(members) = got else {
        return Some(inline(got));
    };
    let listed = expected.filter(|listed| !listed.is_empty());
    if members.is_empty() && listed.is_some() {
        return None;
    }
    let listed = listed.filter(|listed| listed.keys().all(|key| members.contains_key(key)));
    let mut row = serde_json::Map::new();
    for (key, value) in members {
        let Some(listed) = listed else {
            row.insert(key.clone(), value.clone());
            continue;
        };
        let Some(wanted) = listed.get(key) else {
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
    Some(inline(&Json::Object(row)))
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
        let (found, update) = looked("rules/r.toml", before);
        assert_eq!(found, [Ok(true), Ok(true), Ok(true), Ok(false)]);
        let (_, (source, edits)) = update.files.into_iter().next().unwrap();
        assert_eq!(edited(&source.text, edits), after);
    }

    #[test]
    fn rows_that_are_tables_of_their_own_are_left_with_an_error_that_names_their_place() {
        let rule = "sql = 'SELECT payload.t AS t FROM \"a\"'\n\
             [[test]]\nname = 'one'\ngiven = [{ topic = 'a', payload = { t = 2.5 } }]\n\
             [[test.expect]]\nt = 3\n";
        let (found, update) = looked("rules/r.toml", rule);
        assert_eq!(
            found,
            [Err(
                "rules/r.toml:5 E1000 the rows of `one` cannot be written: they are tables of their own".to_owned()
            )]
        );
        assert!(update.files.is_empty());
    }

    #[test]
    fn a_row_without_a_key_that_the_test_lists_is_written_whole() {
        let rule = |expect: &str| {
            format!(
                "sql = 'SELECT payload.t AS tmep, payload.n AS n FROM \"a\"'\n\
                 [[test]]\nname = 'one'\ngiven = [{{ topic = 'a', payload = {{ t = 3, n = 1 }} }}]\nexpect = {expect}\n"
            )
        };
        for expect in ["[{ temp = 3 }]", "[{ temp = 3, n = 1 }]"] {
            let (found, update) = looked("rules/r.toml", &rule(expect));
            assert_eq!(found, [Ok(true)]);
            let (_, (source, edits)) = update.files.into_iter().next().unwrap();
            assert_eq!(
                edited(&source.text, edits),
                rule("[{ tmep = 3, n = 1 }]"),
                "{expect}"
            );
        }
    }

    #[test]
    fn a_row_without_any_key_takes_no_place_of_one_that_lists_some() {
        let rule = "sql = 'SELECT payload.t AS t FROM \"a\"'\n\
             [[test]]\nname = 'one'\ngiven = [{ topic = 'a', payload = {} }]\nexpect = [{ t = 3 }]\n";
        let (found, update) = looked("rules/r.toml", rule);
        assert_eq!(
            found,
            [Err(
                "rules/r.toml:5 E1007 row 1 of `one` came without any key, and a row that lists none cannot fail"
                    .to_owned()
            )]
        );
        assert!(update.files.is_empty());
    }

    #[test]
    fn a_file_that_would_no_longer_be_toml_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        let before = "a = [1]\n";
        std::fs::write(&path, before).unwrap();
        let edit = Edit {
            at: 4..5,
            text: "[[".to_owned(),
        };
        let source = Source::new(path.clone(), before);
        let update = Update {
            files: [(path.clone(), (source, vec![edit]))].into_iter().collect(),
        };
        let problems = update.write().unwrap_err();
        assert_eq!(problems[0].code, "E1001");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }

    /// What comes of looking at each test of a rule's file, and the update.
    fn looked(path: &str, text: &str) -> (Vec<Result<bool, String>>, Update) {
        let source = Source::new(path, text);
        let files = Files([(FileId::rule("r"), source)].into_iter().collect());
        let checked = check(&files, &Files::default(), None, &Names);
        let rule = &checked.rules["r"];
        let mut update = Update::default();
        let look = |(test, source, place): &(RuleTest, Source, Range<usize>)| {
            update.look(rule, test, source, place).map_err(|problem| {
                let place = format!("{}:{}", problem.file.display(), problem.line);
                format!("{place} {} {}", problem.code, problem.message)
            })
        };
        let found = rule.tests.iter().map(look).collect();
        (found, update)
    }
}
