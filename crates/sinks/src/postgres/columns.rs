//! A table's columns as Postgres has them, and values as the text that their types read.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use weir_rules::json;
use weir_rules::value::Value;

use super::sqlstate::classify;
use crate::bridge::signer::mac::hex;
use crate::halving::WriteError;
use crate::table::TablePlan;
use crate::{SinkError, codes};

/// One column, or one parameter of a statement.
#[derive(Clone, Debug)]
pub(super) struct ColumnType {
    pub(super) name: String,
    /// As Postgres writes it, without a length: an assignment refuses what is too long, a cast would cut it.
    pub(super) type_name: String,
    kind: TypeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TypeKind {
    Integer,
    Number,
    Text,
    Json,
    Bytes,
    Array,
    Other,
}

/// All columns of a table.
#[derive(Clone, Debug)]
pub(super) struct TableTypes {
    columns: HashMap<String, ColumnType>,
    /// No two rows have one value in the sink's `message_id`.
    unique_ids: bool,
}

impl TableTypes {
    /// Reads them; `None` when there is no such table.
    pub(super) async fn read(
        connection: &mut PgConnection,
        plan: &TablePlan,
    ) -> Result<Option<Self>, WriteError> {
        let table = plan.quoted_name();
        let unique_ids = match plan.id_column() {
            Some(column) => is_unique(connection, &table, column).await?,
            None => false,
        };
        let rows = sqlx::query(
            "SELECT a.attname::text, format_type(a.atttypid, -1), t.typcategory::text, \
                    (CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END)::regtype::text \
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped",
        )
        .bind(&table)
        .fetch_all(connection)
        .await
        .map_err(|error| classify(&error).into_write_error())?;
        let mut columns = HashMap::new();
        for row in rows {
            let read = |place: usize| {
                row.try_get::<String, _>(place)
                    .map_err(|error| classify(&error).into_write_error())
            };
            let (name, type_name, category, base) = (read(0)?, read(1)?, read(2)?, read(3)?);
            let kind = TypeKind::of(&category, &base);
            columns.insert(
                name.clone(),
                ColumnType {
                    name,
                    type_name,
                    kind,
                },
            );
        }
        Ok((!columns.is_empty()).then_some(Self {
            columns,
            unique_ids,
        }))
    }

    pub(super) fn unique_ids(&self) -> bool {
        self.unique_ids
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.columns.contains_key(name)
    }

    /// The types of these columns. One that the sink names and the table lacks is the operator's business and keeps
    /// the sink waiting; one that only the row names is the row's.
    pub(super) fn of(
        &self,
        plan: &TablePlan,
        names: &[Cow<'_, str>],
    ) -> Result<Vec<&ColumnType>, WriteError> {
        names
            .iter()
            .map(|name| {
                self.columns.get(&**name).ok_or_else(|| {
                    let error = plan.no_column(name);
                    if error.is_configuration() {
                        WriteError::Retry { after: None, error }
                    } else {
                        WriteError::Refused(error)
                    }
                })
            })
            .collect()
    }
}

/// Whether an index over this column alone lets no two rows have one value.
async fn is_unique(
    connection: &mut PgConnection,
    table: &str,
    column: &str,
) -> Result<bool, WriteError> {
    let failed = |error: sqlx::Error| classify(&error).into_write_error();
    let row = sqlx::query(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
           ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = to_regclass($1) AND a.attname = $2 AND i.indisunique AND i.indimmediate AND i.indisvalid \
           AND i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indexprs IS NULL)",
    )
    .bind(table)
    .bind(column)
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    row.try_get(0).map_err(failed)
}

impl TypeKind {
    fn of(category: &str, base: &str) -> Self {
        match (base, category) {
            ("smallint" | "integer" | "bigint", _) => Self::Integer,
            ("json" | "jsonb", _) => Self::Json,
            ("bytea", _) => Self::Bytes,
            (_, "N") => Self::Number,
            (_, "S") => Self::Text,
            (_, "A") => Self::Array,
            _ => Self::Other,
        }
    }
}

impl ColumnType {
    /// A parameter of that type.
    pub(super) fn parameter(type_name: String, category: &str) -> Self {
        let kind = TypeKind::of(category, &type_name);
        Self {
            name: String::new(),
            type_name,
            kind,
        }
    }

    /// The text that the type's input reads; `None` is NULL.
    pub(super) fn text(&self, value: &Value) -> Result<Option<String>, SinkError> {
        let text = match (self.kind, value) {
            (_, Value::Undefined | Value::Null) => return Ok(None),
            (TypeKind::Json, value) => json_text(value)?,
            (TypeKind::Array, Value::Array(items)) => array_literal(items)?,
            (TypeKind::Bytes, Value::Text(text)) => format!("\\x{}", hex(text.as_bytes())),
            (TypeKind::Text, Value::Float(_)) => plain_text(value)?,
            (_, value) => scalar_text(value, self.kind == TypeKind::Integer)?,
        };
        if text.contains('\0') {
            return Err(SinkError::new(
                codes::VALUE_NOT_STORABLE,
                "Postgres stores no U+0000 in a text",
            ));
        }
        Ok(Some(text))
    }
}

fn scalar_text(value: &Value, integer: bool) -> Result<String, SinkError> {
    Ok(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        // 3.0 goes into an integer column, 3.5 does not.
        Value::Float(value) if integer && value.fract() == 0.0 && value.abs() < 9.2e18 => {
            format!("{value:.0}")
        }
        Value::Float(value) => json::float_text(*value),
        Value::Text(text) => match text.as_str() {
            Some(text) => text.to_owned(),
            None => return Err(not_text()),
        },
        other => json_encoded(other)?,
    })
}

fn plain_text(value: &Value) -> Result<String, SinkError> {
    crate::render::text_of(value).map_err(SinkError::from)
}

/// A text that is a JSON document is taken as one; any other text is a JSON string.
fn json_text(value: &Value) -> Result<String, SinkError> {
    if let Value::Text(text) = value {
        let text = text.as_str().ok_or_else(not_text)?;
        let document =
            text.trim_start().starts_with(['{', '[']) && json::decode(text.as_bytes()).is_ok();
        if document {
            return Ok(text.to_owned());
        }
    }
    json_encoded(value)
}

fn json_encoded(value: &Value) -> Result<String, SinkError> {
    json::to_text(value)
        .map_err(|fault| SinkError::new(codes::VALUE_NOT_STORABLE, fault.message().to_owned()))
}

fn not_text() -> SinkError {
    SinkError::new(
        codes::VALUE_NOT_STORABLE,
        "the value is not valid UTF-8 and the column is no bytea",
    )
}

/// `{1,"a b",NULL,{2}}`
fn array_literal(items: &[Value]) -> Result<String, SinkError> {
    let mut out = String::from("{");
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        match item {
            Value::Undefined | Value::Null => out.push_str("NULL"),
            Value::Array(items) => out.push_str(&array_literal(items)?),
            other => {
                out.push('"');
                for c in scalar_text(other, true)?.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
    }
    out.push('}');
    Ok(out)
}

/// Splits rows into statements that meet no key twice: `ON CONFLICT DO UPDATE` refuses to change one row two times.
/// Where the last row of a key leaves nothing of the earlier ones, only that one is kept.
pub(super) fn statements<C: AsRef<str>>(
    plan: &TablePlan,
    columns: &[C],
    rows: Vec<Vec<Option<String>>>,
) -> Vec<Vec<Vec<Option<String>>>> {
    let Some(keys) = plan.update_keys(columns) else {
        return vec![rows];
    };
    // NULL is never equal to NULL, so a key with NULL in it conflicts with nothing.
    let key = |row: &[Option<String>]| {
        keys.iter()
            .map(|place| row.get(*place).cloned().flatten())
            .collect::<Option<Vec<_>>>()
    };
    if plan.last_row_wins(columns) {
        let mut seen = HashSet::new();
        let mut kept: Vec<_> = rows
            .into_iter()
            .rev()
            .filter(|row| key(row).is_none_or(|key| seen.insert(key)))
            .collect();
        kept.reverse();
        return vec![kept];
    }
    let mut statements = vec![Vec::new()];
    let mut seen = HashSet::new();
    for row in rows {
        if let Some(key) = key(&row)
            && !seen.insert(key.clone())
        {
            statements.push(Vec::new());
            seen.clear();
            seen.insert(key);
        }
        if let Some(last) = statements.last_mut() {
            last.push(row);
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(base: &str, category: &str) -> ColumnType {
        ColumnType {
            name: "c".into(),
            type_name: base.into(),
            kind: TypeKind::of(category, base),
        }
    }

    fn value(text: &str) -> Value {
        json::decode(text.as_bytes()).unwrap()
    }

    fn text(base: &str, category: &str, json: &str) -> String {
        column(base, category).text(&value(json)).unwrap().unwrap()
    }

    #[test]
    fn values_become_the_text_that_the_column_reads() {
        assert_eq!(text("bigint", "N", "3.0"), "3");
        assert_eq!(
            text("bigint", "N", "3.5"),
            "3.5",
            "the database says what is wrong"
        );
        assert_eq!(text("double precision", "N", "1e300"), "1.0e300");
        assert_eq!(text("text", "S", "2.50"), "2.5");
        assert_eq!(text("boolean", "B", "true"), "true");
        assert_eq!(text("jsonb", "U", r#"{"a":[1,"x"]}"#), r#"{"a":[1,"x"]}"#);
        assert_eq!(text("jsonb", "U", r#""plain""#), r#""plain""#);
        assert_eq!(text("jsonb", "U", r#""{\"a\":1}""#), r#"{"a":1}"#);
        assert_eq!(text("text", "S", "[1,2]"), "[1,2]");
        assert_eq!(
            text("text[]", "A", r#"["a\"b",null,["c\\"]]"#),
            r#"{"a\"b",NULL,{"c\\"}}"#
        );
        assert_eq!(text("bytea", "U", r#""AB""#), "\\x4142");
        assert!(column("text", "S").text(&Value::Null).unwrap().is_none());
        assert_eq!(
            column("text", "S")
                .text(&value(r#""a\u0000b""#))
                .unwrap_err()
                .code(),
            "E3202"
        );
        assert_eq!(
            column("text", "S")
                .text(&Value::Text(vec![0xff].into()))
                .unwrap_err()
                .code(),
            "E3202"
        );
    }

    fn upsert(set: serde_json::Value) -> TablePlan {
        let mut on_conflict = serde_json::json!({"keys": ["k"], "do": "update"});
        if !set.is_null() {
            on_conflict["set"] = set;
        }
        let config: crate::SinkConfig =
            serde_json::from_value(serde_json::json!({"table": "t", "on_conflict": on_conflict}))
                .unwrap();
        TablePlan::check(&config, "t", weir_rules::template::SqlDialect::Postgres).unwrap()
    }

    fn rows(rows: &[(&str, &str)]) -> Vec<Vec<Option<String>>> {
        rows.iter()
            .map(|(k, v)| vec![Some((*k).into()), Some((*v).into())])
            .collect()
    }

    #[test]
    fn of_rows_with_one_key_the_last_is_kept_in_order() {
        let plan = upsert(serde_json::Value::Null);
        let split = statements(
            &plan,
            &["k", "v"],
            rows(&[("a", "1"), ("b", "2"), ("a", "3")]),
        );
        assert_eq!(split, vec![rows(&[("b", "2"), ("a", "3")])]);
    }

    #[test]
    fn a_partial_update_is_split_so_that_no_statement_meets_a_key_twice() {
        let plan = upsert(serde_json::json!([]));
        let split = statements(
            &plan,
            &["k", "v"],
            rows(&[("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")]),
        );
        assert_eq!(
            split,
            vec![
                rows(&[("a", "1"), ("b", "2")]),
                rows(&[("a", "3"), ("b", "4")])
            ]
        );
    }
}
