//! An SQL statement with `:name` and `${path}` places that become bind parameters, never text.
//!
//! Quoted text, quoted names, comments, dollar quotes and `::type` are the database's and stay as they are.

use super::place::Place;
use super::{Found, RenderError, TemplateWarning, UndefinedPolicy, date};
use crate::json;
use crate::value::{Object, Value};

/// Whose statement it is: how parameters are written and what quotes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlDialect {
    /// `$1`; dollar quotes, `E'…'`, comments that nest.
    Postgres,
    /// `?1`; names in brackets and backticks too.
    Sqlite,
}

/// A statement whose places are bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlTemplate {
    sql: String,
    binds: Vec<Bind>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bind {
    Place(Place),
    Date(String),
}

impl SqlTemplate {
    /// Reads a statement. Each place gets a parameter of its own, so that each may be cast on its own.
    pub fn parse(text: &str, dialect: SqlDialect) -> (Self, Vec<TemplateWarning>) {
        let mut parser = Parser {
            text,
            at: 0,
            dialect,
            out: Self {
                sql: String::new(),
                binds: Vec::new(),
            },
            warnings: Vec::new(),
        };
        parser.run();
        (parser.out, parser.warnings)
    }

    /// The statement as the database gets it.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// How many parameters the statement has.
    pub fn bind_count(&self) -> usize {
        self.binds.len()
    }

    /// The places that are bound, in order of their parameters.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.binds.iter().filter_map(|bind| match bind {
            Bind::Place(place) => Some(place),
            Bind::Date(_) => None,
        })
    }

    /// The values to bind for one row, in order; a missing field that the policy allows is null.
    ///
    /// # Errors
    /// A missing field when the policy says so.
    pub fn render_binds(
        &self,
        row: &Value,
        undefined: UndefinedPolicy,
        now_ms: i64,
    ) -> Result<Vec<Value>, RenderError> {
        self.binds
            .iter()
            .map(|bind| match bind {
                Bind::Date(format) => Ok(date(format, now_ms)?.into()),
                Bind::Place(place) => match place.value(row).into_owned() {
                    Value::Undefined if undefined == UndefinedPolicy::Fail => {
                        Err(RenderError::missing(place))
                    }
                    Value::Undefined => Ok(Value::Null),
                    value => Ok(value),
                },
            })
            .collect()
    }

    /// Appends `{"sql":…,"binds":[…]}`: what tests of templates compare.
    pub(super) fn render_json(
        &self,
        row: &Value,
        undefined: UndefinedPolicy,
        now_ms: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        let mut shown = Object::default();
        shown.insert("sql".into(), Value::from(self.sql.as_str()));
        shown.insert(
            "binds".into(),
            self.render_binds(row, undefined, now_ms)?.into(),
        );
        json::encode(&shown.into(), out).map_err(|fault| {
            RenderError::new(
                "E3103",
                format!("a bound value cannot be JSON: {}", fault.message()),
            )
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    dialect: SqlDialect,
    out: SqlTemplate,
    warnings: Vec<TemplateWarning>,
}

impl<'t> Parser<'t> {
    fn run(&mut self) {
        while let Some(c) = self.rest().chars().next() {
            let rest = self.rest();
            match c {
                '\'' => self.quoted(1, '\'', self.is_escape_string()),
                '"' => self.quoted(1, '"', false),
                '`' if self.dialect == SqlDialect::Sqlite => self.quoted(1, '`', false),
                '[' if self.dialect == SqlDialect::Sqlite => self.skip_past("]"),
                '-' if rest.starts_with("--") => self.skip_past("\n"),
                '/' if rest.starts_with("/*") => self.block_comment(),
                '$' if rest.starts_with("${") => self.braces(),
                '$' if self.dialect == SqlDialect::Postgres => self.dollar(),
                ':' if rest.starts_with("::") => self.copy(2),
                ':' => self.colon(),
                // A name is copied whole, so that the `$` and `E` inside it mean nothing.
                c if c.is_alphabetic() || c == '_' => {
                    let end = rest.find(|c: char| !(c == '_' || c == '$' || c.is_alphanumeric()));
                    let end = end.unwrap_or(rest.len());
                    let opens_place = rest[..end].ends_with('$') && rest[end..].starts_with('{');
                    self.copy(if opens_place { end - 1 } else { end });
                }
                c => self.copy(c.len_utf8()),
            }
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn copy(&mut self, length: usize) {
        self.out.sql.push_str(&self.rest()[..length]);
        self.at += length;
    }

    fn skip_past(&mut self, end: &str) {
        let rest = self.rest();
        self.copy(rest.find(end).map_or(rest.len(), |at| at + end.len()));
    }

    /// Whether the quote here opens Postgres' `E'…'`, in which a backslash escapes.
    fn is_escape_string(&self) -> bool {
        let mut before = self.text[..self.at].chars().rev();
        self.dialect == SqlDialect::Postgres
            && matches!(before.next(), Some('e' | 'E'))
            && !before
                .next()
                .is_some_and(|c| c == '_' || c == '$' || c.is_alphanumeric())
    }

    /// Copies a quoted text; a doubled quote simply opens the next one.
    fn quoted(&mut self, opening: usize, quote: char, backslash_escapes: bool) {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest[opening..].char_indices().find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = backslash_escapes && *c == '\\' && !escaped;
            closes
        });
        let end = end.map_or(rest.len(), |(at, c)| opening + at + c.len_utf8());
        self.warn_of_places(&rest[..end]);
        self.copy(end);
    }

    /// Postgres nests block comments, SQLite does not.
    fn block_comment(&mut self) {
        let rest = self.rest();
        let mut depth = 0_usize;
        let mut at = 0;
        while at < rest.len() {
            let here = &rest.as_bytes()[at..];
            if here.starts_with(b"/*") && (depth == 0 || self.dialect == SqlDialect::Postgres) {
                depth += 1;
                at += 2;
            } else if here.starts_with(b"*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                at += 1;
            }
        }
        self.copy(at);
    }

    /// `$tag$ … $tag$`, or a parameter of the user's own.
    fn dollar(&mut self) {
        let rest = self.rest();
        let tag_end = rest[1..]
            .find(|c: char| !(c == '_' || c.is_alphanumeric()))
            .map_or(rest.len(), |at| at + 1);
        let tag = &rest[1..tag_end];
        if rest[tag_end..].starts_with('$') && !tag.starts_with(|c: char| c.is_ascii_digit()) {
            let delimiter = &rest[..=tag_end];
            let body = &rest[tag_end + 1..];
            let end = body
                .find(delimiter)
                .map_or(rest.len(), |at| 2 * delimiter.len() + at);
            self.warn_of_places(&rest[..end]);
            return self.copy(end);
        }
        if tag.starts_with(|c: char| c.is_ascii_digit()) {
            self.warn(
                format!("`${tag}` would clash with the parameters of `:name` places"),
                self.at,
            );
        }
        self.copy(tag_end.max(1));
    }

    fn colon(&mut self) {
        let after = &self.rest()[1..];
        let end = after
            .find(|c: char| !(c == '_' || c.is_alphanumeric()))
            .unwrap_or(after.len());
        let name = &after[..end];
        if !name.starts_with(|c: char| c == '_' || c.is_alphabetic()) {
            return self.copy(1);
        }
        self.bind(Bind::Place(Place::field(name)));
        self.at += 1 + end;
    }

    fn braces(&mut self) {
        match Found::read(self.rest()) {
            Some((Found::Dollar, length)) => {
                self.out.sql.push('$');
                self.at += length;
            }
            Some((Found::Date(format), length)) => {
                self.bind(Bind::Date(format));
                self.at += length;
                self.keep_apart();
            }
            Some((Found::Place(place), length)) => {
                self.bind(Bind::Place(place));
                self.at += length;
                self.keep_apart();
            }
            None => {
                self.warnings
                    .push(TemplateWarning::ill_formed(self.rest(), self.at));
                self.copy(2);
            }
        }
    }

    fn bind(&mut self, bind: Bind) {
        self.out.binds.push(bind);
        let sign = if self.dialect == SqlDialect::Postgres {
            '$'
        } else {
            '?'
        };
        self.out
            .sql
            .push_str(&format!("{sign}{}", self.out.binds.len()));
    }

    /// `${a}1` must not become the parameter `$11`.
    fn keep_apart(&mut self) {
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            self.out.sql.push(' ');
        }
    }

    fn warn_of_places(&mut self, quoted: &str) {
        if let Some(at) = quoted.find("${")
            && Found::read(&quoted[at..]).is_some()
        {
            self.warn(
                "a place inside quotes is not filled; leave the quotes out".to_owned(),
                self.at + at,
            );
        }
    }

    fn warn(&mut self, message: String, offset: usize) {
        self.warnings.push(TemplateWarning { message, offset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(text: &str) -> (String, Vec<String>) {
        let (template, _) = SqlTemplate::parse(text, SqlDialect::Postgres);
        let places = template.places().map(ToString::to_string).collect();
        (template.sql, places)
    }

    fn unchanged(text: &str) {
        assert_eq!(postgres(text), (text.to_owned(), vec![]));
    }

    #[test]
    fn names_and_paths_become_numbered_parameters() {
        let (sql, places) =
            postgres("INSERT INTO t VALUES (:device, ${a.b[2]}, :device::text, ${.}::jsonb)");
        assert_eq!(sql, "INSERT INTO t VALUES ($1, $2, $3::text, $4::jsonb)");
        assert_eq!(places, ["device", "a.b[2]", "device", "."]);
        let (template, _) =
            SqlTemplate::parse("UPDATE t SET a=:a WHERE b=${b}", SqlDialect::Sqlite);
        assert_eq!(template.sql(), "UPDATE t SET a=?1 WHERE b=?2");
    }

    #[test]
    fn what_is_the_databases_stays_as_it_is() {
        unchanged("SELECT ':a', 'it''s :b', \"c:d\", e::text, '${x}'");
        unchanged(r"SELECT E'\':a', e'x\\', 1");
        unchanged("SELECT 1 -- :a\n, 2 /* :b /* :c */ :d */");
        unchanged("DO $$ BEGIN :a := ${b}; END $$; DO $x$ :a $y$ :b $x$");
        unchanged("SELECT a[1:2], b := 3, 'open :a");
        unchanged("SELECT a$b$c");
    }

    #[test]
    fn a_place_follows_wherever_quotes_end() {
        assert_eq!(postgres(r"SELECT 'a\', :b").0, r"SELECT 'a\', $1");
        assert_eq!(postgres(r"SELECT nameE'a\', :b").0, r"SELECT nameE'a\', $1");
        assert_eq!(postgres("SELECT '':a").0, "SELECT ''$1");
        assert_eq!(postgres("SELECT $$x$$, :b").0, "SELECT $$x$$, $1");
        assert_eq!(postgres("SELECT 1 -- c\n+:b").0, "SELECT 1 -- c\n+$1");
        assert_eq!(postgres("SELECT a[:b]").0, "SELECT a[$1]");
        assert_eq!(postgres("SELECT ${$}1").0, "SELECT $1");
        assert_eq!(postgres("SELECT x${a}1").0, "SELECT x$1 1");
    }

    #[test]
    fn sqlite_has_bracketed_names_and_comments_that_do_not_nest() {
        let text = "SELECT [a:b], `c:d` /* :x /* */ , :y";
        let (template, _) = SqlTemplate::parse(text, SqlDialect::Sqlite);
        assert_eq!(template.sql(), "SELECT [a:b], `c:d` /* :x /* */ , ?1");
    }

    #[test]
    fn doubtful_places_are_warned_about() {
        for text in ["VALUES ('${a}')", "VALUES ($1)", "VALUES (${a b})"] {
            assert_eq!(
                SqlTemplate::parse(text, SqlDialect::Postgres).1.len(),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn missing_fields_bind_null_unless_they_fail() {
        let (template, _) = SqlTemplate::parse("VALUES (:a, :b)", SqlDialect::Postgres);
        let row = json::decode(br#"{"a":null}"#).unwrap();
        let binds = template
            .render_binds(&row, UndefinedPolicy::Empty, 0)
            .unwrap();
        assert!(matches!(binds[..], [Value::Null, Value::Null]));
        let error = template
            .render_binds(&row, UndefinedPolicy::Fail, 0)
            .unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), ("E3101", Some("b")));
    }

    #[test]
    fn names_may_hold_letters_of_any_script() {
        assert_eq!(postgres(":a_1é, :_x").1, ["a_1é", "_x"]);
    }
}
