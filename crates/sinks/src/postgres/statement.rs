//! The user's own statement, made to take every parameter as text: Postgres says which types it expects, and each
//! `$n` becomes a cast of a text to that type. So any type works, and a bad value is the row's error, not ours.

use sqlx::postgres::{PgConnection, PgTypeInfo};
use sqlx::{AssertSqlSafe, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _};

use super::columns::ColumnType;
use super::sqlstate::classify;
use crate::halving::WriteError;
use crate::{SinkError, codes};

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) sql: String,
    pub(super) parameters: Vec<ColumnType>,
}

impl Prepared {
    /// Asks the server about the statement. Whatever it says is about the statement and not about a row.
    pub(super) async fn learn(
        connection: &mut PgConnection,
        sql: &str,
    ) -> Result<Self, WriteError> {
        let statement = connection
            .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
            .await
            .map_err(|error| configuration(classify(&error).into_error()))?;
        let types: Vec<PgTypeInfo> = match statement.parameters() {
            Some(Either::Left(types)) => types.to_vec(),
            _ => Vec::new(),
        };
        let mut parameters = Vec::with_capacity(types.len());
        for info in &types {
            let oid = info.oid().ok_or_else(|| {
                configuration(SinkError::new(
                    codes::SCHEMA,
                    "a parameter's type is not known to the server",
                ))
            })?;
            let row = sqlx::query("SELECT format_type(oid, -1), typcategory::text FROM pg_catalog.pg_type WHERE oid = $1")
                .bind(oid)
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| classify(&error).into_write_error())?;
            let read = |place: usize| {
                row.try_get::<String, _>(place)
                    .map_err(|error| classify(&error).into_write_error())
            };
            parameters.push(ColumnType::parameter(read(0)?, &read(1)?));
        }
        let names: Vec<_> = parameters
            .iter()
            .map(|parameter| parameter.type_name.as_str())
            .collect();
        Ok(Self {
            sql: cast_parameters(sql, &names),
            parameters,
        })
    }
}

fn configuration(error: SinkError) -> WriteError {
    // A server that is going away answers a prepare, too: that is no mistake of the statement.
    let passing = matches!(
        error.code(),
        codes::UNREACHABLE | codes::TRY_LATER | codes::TIMEOUT | codes::LOGIN | codes::TLS
    );
    WriteError::Retry {
        after: None,
        error: if passing {
            error
        } else {
            error.configuration()
        },
    }
}

/// Replaces each `$n` outside quotes and comments by a cast of a text.
pub(super) fn cast_parameters(sql: &str, types: &[&str]) -> String {
    let mut out = String::with_capacity(sql.len() + types.len() * 24);
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        let after_name = out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let taken = match next {
            '\'' => {
                let escape = ends_with_escape_prefix(&out);
                quoted(rest, '\'', escape)
            }
            '"' => quoted(rest, '"', false),
            '-' if rest.starts_with("--") => rest.find('\n').map_or(rest.len(), |at| at + 1),
            '/' if rest.starts_with("/*") => comment(rest),
            '$' if !after_name => match parameter(rest) {
                Some((number, length)) => {
                    match types.get(number.wrapping_sub(1)) {
                        Some(name) => out.push_str(&format!("CAST(${number}::text AS {name})")),
                        None => out.push_str(&rest[..length]),
                    }
                    rest = &rest[length..];
                    continue;
                }
                None => dollar_quoted(rest),
            },
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

fn ends_with_escape_prefix(out: &str) -> bool {
    let mut before = out.chars().rev();
    matches!(before.next(), Some('e' | 'E'))
        && !before
            .next()
            .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

/// `$12` and how many bytes it takes.
fn parameter(text: &str) -> Option<(usize, usize)> {
    let digits = text[1..].bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(1..=digits)?.parse().ok()?;
    Some((number, digits + 1))
}

/// The length of a quoted text; a doubled quote simply opens the next one.
fn quoted(text: &str, quote: char, backslash: bool) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if backslash && c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

fn comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn dollar_quoted(text: &str) -> usize {
    let tag = text[1..]
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(text.len(), |at| at + 1);
    if !text[tag..].starts_with('$') {
        return 1;
    }
    let delimiter = &text[..=tag];
    text[delimiter.len()..]
        .find(delimiter)
        .map_or(text.len(), |at| at + 2 * delimiter.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_cast_and_what_is_quoted_stays() {
        let types = ["text", "double precision"];
        assert_eq!(
            cast_parameters("INSERT INTO t VALUES ($1, $2::int)", &types),
            "INSERT INTO t VALUES (CAST($1::text AS text), CAST($2::text AS double precision)::int)"
        );
        for unchanged in [
            "SELECT '$1', \"$1\", $$ $1 $$, $a$ $1 $$ $a$ -- $1\n /* $1 /* $1 */ $1 */",
            r"SELECT E'it\'s $1'",
            "SELECT a$1 FROM t$2",
            "SELECT 'open $1",
        ] {
            assert_eq!(cast_parameters(unchanged, &types), unchanged);
        }
        assert_eq!(
            cast_parameters("SELECT 'it''s'||$1", &types),
            "SELECT 'it''s'||CAST($1::text AS text)"
        );
        assert_eq!(
            cast_parameters(r"SELECT 'a\'||$1", &types),
            r"SELECT 'a\'||CAST($1::text AS text)"
        );
    }

    #[test]
    fn a_parameter_that_is_not_ours_stays() {
        assert_eq!(cast_parameters("SELECT $3", &["text"]), "SELECT $3");
    }
}
