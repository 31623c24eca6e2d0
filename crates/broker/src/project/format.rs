//! Statements in the house layout, in the files that hold them.

use toml::Spanned;

use super::rule_file::SqlText;
use crate::config::toml_file::TomlFile;
use crate::problem::{Problem, Source};

/// A rule file with its statement in the house layout and all else as it is.
///
/// # Errors
/// What is wrong with the syntax of the file or of its statement.
pub fn rule_file(source: &Source) -> Result<String, Vec<Problem>> {
    let file = TomlFile::parse(source)?;
    let mut text = source.text.to_string();
    let Some((sql, place)) = file
        .get(&["sql"])
        .and_then(|value| Some((value.get_ref().as_str()?, value.span())))
    else {
        return Ok(text);
    };
    let literal = Spanned::new(place.clone(), sql.to_owned());
    let formatted = formatted(source, &SqlText::of(source, &literal))?;
    if let Some(written) = in_toml(&formatted, sql, &text[place.clone()]) {
        text.replace_range(place, &written);
    }
    Ok(text)
}

/// A statement's own file in the house layout.
///
/// # Errors
/// What is wrong with its syntax.
pub fn statement_file(source: &Source) -> Result<String, Vec<Problem>> {
    let formatted = formatted(source, &SqlText::of_file(source.clone()))?;
    Ok(format!("{formatted}{}", line_break(&source.text)))
}

/// Whether a file of TOML has neither a statement nor the name of one.
pub fn has_no_statement(source: &Source) -> bool {
    TomlFile::parse(source)
        .is_ok_and(|file| file.get(&["sql"]).or(file.get(&["sql_file"])).is_none())
}

/// The name of the statement file that a rule file names.
pub fn sql_file(source: &Source) -> Option<String> {
    let file = TomlFile::parse(source).ok()?;
    file.get(&["sql_file"])?
        .get_ref()
        .as_str()
        .map(str::to_owned)
}

fn formatted(source: &Source, sql: &SqlText) -> Result<String, Vec<Problem>> {
    let formatted = weir_rules::format(&sql.text).map_err(|diagnostics| {
        diagnostics
            .into_iter()
            .map(|diagnostic| sql.problem(source, diagnostic))
            .collect::<Vec<_>>()
    })?;
    let unix = formatted.replace("\r\n", "\n");
    Ok(unix.replace('\n', line_break(&source.text)))
}

/// How the lines of a file end.
fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The statement as a literal string of TOML, on lines of its own where it was there or needs them.
///
/// Nothing where it must stay as it was `written`: it is the same, or holds what a literal string cannot.
fn in_toml(formatted: &str, before: &str, written: &str) -> Option<String> {
    let cannot = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if formatted == before || formatted.contains("'''") || formatted.contains(cannot) {
        return None;
    }
    let lines = formatted.contains('\n') || written.contains('\n');
    Some(if lines {
        let line_break = if written.contains("\r\n") || formatted.contains("\r\n") {
            "\r\n"
        } else {
            "\n"
        };
        format!("'''{line_break}{formatted}{line_break}'''")
    } else if written.starts_with("'''") || formatted.contains('\'') {
        format!("'''{formatted}'''")
    } else {
        format!("'{formatted}'")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> String {
        let source = Source::new("rules/x.toml", text);
        let formatted = rule_file(&source).unwrap();
        let again = Source::new("rules/x.toml", formatted.as_str());
        assert_eq!(rule_file(&again).unwrap(), formatted);
        formatted
    }

    #[test]
    fn only_the_rules_own_statement_is_changed() {
        let sink = "# why\nenabled  =  true\n[[sinks]]\nsql = '''\nselect 1\n'''\n";
        assert_eq!(
            rule(&format!(
                "sql = '''\nselect a,\n b from 't'\n''' # so\n{sink}"
            )),
            format!("sql = '''\nSELECT a,\n       b\nFROM   \"t\"\n''' # so\n{sink}")
        );
    }

    #[test]
    fn every_form_of_a_text_becomes_one_that_needs_no_escapes() {
        for (before, after) in [
            ("'select a from t'", "'SELECT a FROM \"t\"'"),
            ("\"select a from \\\"t\\\"\"", "'SELECT a FROM \"t\"'"),
            ("'''select a from 't' '''", "'''SELECT a FROM \"t\"'''"),
            (
                "'''select 'x' as a from t where a = '' '''",
                "'''SELECT 'x' AS a FROM \"t\" WHERE a = '''''",
            ),
            (
                "\"select 'x' as a from t\"",
                "'''SELECT 'x' AS a FROM \"t\"'''",
            ),
            (
                "\"\"\"\nselect a from t\"\"\"",
                "'''\nSELECT a FROM \"t\"\n'''",
            ),
            (
                "'''\r\nselect a,\r\n b from t'''",
                "'''\r\nSELECT a,\r\n       b\r\nFROM   \"t\"\r\n'''",
            ),
            // A literal text cannot hold three quotes.
            ("\"select '''' as a from t\"", "\"select '''' as a from t\""),
        ] {
            assert_eq!(
                rule(&format!("sql = {before}\n")),
                format!("sql = {after}\n")
            );
        }
    }

    #[test]
    fn a_mistake_has_its_place_in_the_file() {
        let source = Source::new("rules/x.toml", "sql = '''\nSELECT a\nFROM'''\n");
        let problems = rule_file(&source).unwrap_err();
        assert_eq!((problems[0].code.as_str(), problems[0].line), ("E0002", 3));
    }

    #[test]
    fn a_rule_without_statement_stays_as_it_is() {
        assert_eq!(rule("sql_file = 'x.sql'\n"), "sql_file = 'x.sql'\n");
        let source = Source::new("rules/x.toml", "sql_file = 'x.sql'\n");
        assert_eq!(sql_file(&source).unwrap(), "x.sql");
    }

    #[test]
    fn a_statement_file_ends_with_a_line_break() {
        let source = Source::new("rules/x.sql", "select a from t");
        assert_eq!(statement_file(&source).unwrap(), "SELECT a FROM \"t\"\n");
    }
}
