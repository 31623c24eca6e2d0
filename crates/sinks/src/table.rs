//! Rows as rows of a table: which columns, which statement. Pure text; the databases are in `postgres` and `sqlite`.

use std::borrow::Cow;

use weir_rules::template::{Place, SqlDialect, SqlTemplate};
use weir_rules::value::Value;

use crate::codes;
use crate::config::{Columns, ConflictAction, CreateTable, Missing, SinkConfig};
use crate::error::{ConfigError, SinkError};

/// How a row becomes a row of a table.
#[derive(Clone, Debug)]
pub struct TablePlan {
    /// The table's name in its parts: `["iot", "readings"]`.
    pub name: Vec<String>,
    /// Column and place in the row; without a mapping, every field is the column of its name.
    pub columns: Option<Vec<(String, Place)>>,
    /// What happens when a row of that key is there.
    pub conflict: Option<Conflict>,
    /// What a row without the field gives.
    pub missing: Missing,
    /// Whether the table is made.
    pub create: CreateTable,
    /// Which database.
    pub dialect: SqlDialect,
    /// The column for the row's id.
    pub message_id: Option<String>,
}

/// What happens when a row of that key is there.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The columns of the unique constraint.
    pub keys: Vec<String>,
    /// What to do.
    pub action: ConflictAction,
    /// What an update sets; `None` is all columns but the keys.
    pub set: Option<Vec<String>>,
}

/// One row, cut into the table's columns.
#[derive(Clone, Debug)]
pub(crate) struct Cells<'r> {
    pub(crate) columns: Vec<Cow<'r, str>>,
    pub(crate) values: Vec<Cow<'r, Value>>,
}

impl TablePlan {
    pub(crate) fn check(
        config: &SinkConfig,
        table: &str,
        dialect: SqlDialect,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let name = split_name(table);
        if name.is_empty()
            || name.len() > 2
            || name
                .iter()
                .any(|part| part.is_empty() || part.contains('\0'))
        {
            errors.push(
                ConfigError::new(
                    codes::BAD_VALUE,
                    "table",
                    format!("`{table}` is no table name"),
                )
                .help("`name` or `schema.name`; a dot inside a name goes between double quotes"),
            );
        }
        let columns: Option<Vec<(String, Place)>> = match &config.columns {
            None => None,
            Some(Columns::Mapped(columns)) if !columns.is_empty() => Some(
                columns
                    .iter()
                    .map(|(column, field)| (column.clone(), place(field)))
                    .collect(),
            ),
            Some(_) => {
                errors.push(
                    ConfigError::new(codes::BAD_VALUE, "columns", "SQL columns are a table")
                        .help("`columns = { column = \"field\" }`"),
                );
                None
            }
        };
        let message_id = config.message_id.clone();
        let columns = match (columns, &message_id) {
            (Some(mut columns), Some(name)) => {
                errors.extend(Self::hidden_by_id(&columns, name, dialect));
                columns.push((name.clone(), Place::field(name)));
                Some(columns)
            }
            (columns, _) => columns,
        };
        let conflict = config.on_conflict.as_ref().map(|given| Conflict {
            keys: given.keys.clone(),
            action: given.action,
            set: given.set.clone(),
        });
        if let Some(conflict) = &conflict {
            Self::check_conflict(conflict, columns.as_deref(), &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            name,
            columns,
            conflict,
            missing: config.missing.unwrap_or_default(),
            create: config.create_table.unwrap_or_default(),
            dialect,
            message_id,
        })
    }

    /// Why the id cannot have that name: it is given to the sink as one more field of the row.
    fn hidden_by_id(
        columns: &[(String, Place)],
        name: &str,
        dialect: SqlDialect,
    ) -> Option<ConfigError> {
        let error = |message| ConfigError::new(codes::BAD_VALUE, "message_id", message);
        if columns
            .iter()
            .any(|(column, _)| is_same_column(dialect, column, name))
        {
            return Some(
                error(format!("`{name}` is among `columns`, too"))
                    .help("a column has one value: take another one for the id"),
            );
        }
        let mut columns = columns.iter();
        let (column, _) = columns.find(|(_, place)| place.first_key() == Some(name))?;
        Some(
            error(format!(
                "column `{column}` reads the row's field `{name}`, which the id hides"
            ))
            .help("give the field another name in SELECT, or take another column for the id"),
        )
    }

    fn check_conflict(
        conflict: &Conflict,
        columns: Option<&[(String, Place)]>,
        errors: &mut Vec<ConfigError>,
    ) {
        if conflict.keys.is_empty() {
            errors.push(ConfigError::new(
                codes::KEY_MISSING,
                "on_conflict.keys",
                "name at least one column",
            ));
        }
        if conflict.set.is_some() && conflict.action != ConflictAction::Update {
            errors.push(ConfigError::new(
                codes::KEY_NOT_FOR_TYPE,
                "on_conflict.set",
                "`set` goes with `do = \"update\"`",
            ));
        }
        let Some(columns) = columns else { return };
        for (key, names) in [
            ("on_conflict.keys", Some(&conflict.keys)),
            ("on_conflict.set", conflict.set.as_ref()),
        ] {
            for name in names.into_iter().flatten() {
                if !columns.iter().any(|(column, _)| column == name) {
                    errors.push(ConfigError::new(
                        codes::BAD_VALUE,
                        key,
                        format!("`{name}` is not among `columns`"),
                    ));
                }
            }
        }
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.columns
            .iter()
            .flatten()
            // No row has the id; it is given at delivery.
            .filter(|(column, _)| self.message_id.as_ref() != Some(column))
            .map(|(_, place)| place)
    }

    /// Cuts a row into columns; undefined fields are NULL or a reason to refuse.
    pub(crate) fn cells<'r>(&'r self, row: &'r Value) -> Result<Cells<'r>, SinkError> {
        let Value::Object(object) = row else {
            return Err(SinkError::new(
                codes::VALUE_NOT_STORABLE,
                "the row is no object, so it has no columns",
            ));
        };
        let Some(mapped) = &self.columns else {
            // A field of another row that this one lacks is its own column set: the table's default applies.
            let defined = object
                .iter()
                .filter(|(_, value)| !matches!(value, Value::Undefined));
            let (columns, values): (Vec<_>, Vec<_>) = defined
                .map(|(key, value)| (Cow::Borrowed(&**key), Cow::Borrowed(value)))
                .unzip();
            if columns.is_empty() {
                return Err(SinkError::new(
                    codes::VALUE_NOT_STORABLE,
                    "the row has no fields",
                ));
            }
            return Ok(Cells { columns, values });
        };
        let mut cells = Cells {
            columns: Vec::with_capacity(mapped.len()),
            values: Vec::with_capacity(mapped.len()),
        };
        for (column, place) in mapped {
            let value = place.value(row);
            if matches!(*value, Value::Undefined) && self.missing == Missing::Reject {
                let message = format!("the row has no `{place}` for column `{column}`");
                return Err(SinkError::new(codes::COLUMN_MISSING, message));
            }
            cells.columns.push(Cow::Borrowed(column));
            cells.values.push(value);
        }
        Ok(cells)
    }

    /// Why a row cannot go into a table with other columns than it has fields. Without a mapping the row chooses the
    /// columns, so the mistake is its own and must not stop the sink for the others.
    pub(crate) fn foreign_field(
        &self,
        row: &Value,
        known: impl Fn(&str) -> bool,
    ) -> Option<SinkError> {
        if self.columns.is_some() {
            return None;
        }
        let cells = self.cells(row).ok()?;
        // The id's column is the sink's business.
        let is_id = |column: &str| self.message_id.as_deref() == Some(column);
        let mut columns = cells.columns.iter();
        let foreign = columns.find(|column| !known(column) && !is_id(column))?;
        Some(self.no_column(foreign))
    }

    pub(crate) fn no_column(&self, name: &str) -> SinkError {
        let table = self.quoted_name();
        if self.columns.is_some() || self.message_id.as_deref() == Some(name) {
            let message = format!("table {table} has no column \"{name}\"");
            SinkError::new(codes::SCHEMA, message).configuration()
        } else {
            let message =
                format!("the row has a field \"{name}\", and table {table} has no such column");
            SinkError::new(codes::ROW_REFUSED, message)
        }
    }

    /// The quoted name.
    pub(crate) fn quoted_name(&self) -> String {
        self.name
            .iter()
            .map(|part| quote(part))
            .collect::<Vec<_>>()
            .join(".")
    }

    /// `INSERT INTO t (a, b)` before the rows.
    pub(crate) fn insert_head<C: AsRef<str>>(&self, columns: &[C]) -> String {
        let names: Vec<_> = columns
            .iter()
            .map(|column| quote(column.as_ref()))
            .collect();
        format!("INSERT INTO {} ({})", self.quoted_name(), names.join(", "))
    }

    /// ` ON CONFLICT …` after the rows.
    pub(crate) fn insert_tail<C: AsRef<str>>(&self, columns: &[C]) -> String {
        let Some(conflict) = &self.conflict else {
            return String::new();
        };
        let keys: Vec<_> = conflict.keys.iter().map(|key| quote(key)).collect();
        let keys = keys.join(", ");
        match conflict.action {
            ConflictAction::Error => String::new(),
            ConflictAction::Ignore => format!(" ON CONFLICT ({keys}) DO NOTHING"),
            ConflictAction::Update => {
                let set: Vec<_> = self
                    .updated_columns(columns)
                    .into_iter()
                    .map(|column| format!("{0} = EXCLUDED.{0}", quote(column)))
                    .collect();
                if set.is_empty() {
                    return format!(" ON CONFLICT ({keys}) DO NOTHING");
                }
                format!(" ON CONFLICT ({keys}) DO UPDATE SET {}", set.join(", "))
            }
        }
    }

    /// The same where it is known whether no two rows of the table may have one id: then a row that is there already stays,
    /// unless the sink says what happens.
    pub(crate) fn insert_tail_with_ids<C: AsRef<str>>(
        &self,
        columns: &[C],
        unique: bool,
    ) -> String {
        match (&self.message_id, &self.conflict) {
            (Some(name), None) if unique => format!(" ON CONFLICT ({}) DO NOTHING", quote(name)),
            _ => self.insert_tail(columns),
        }
    }

    /// The column whose values may be of one row each, where that matters.
    pub(crate) fn id_column(&self) -> Option<&str> {
        self.message_id
            .as_deref()
            .filter(|_| self.conflict.is_none())
    }

    fn updated_columns<'c, C: AsRef<str>>(&self, columns: &'c [C]) -> Vec<&'c str> {
        let Some(conflict) = &self.conflict else {
            return Vec::new();
        };
        columns
            .iter()
            .map(AsRef::as_ref)
            .filter(|column| match &conflict.set {
                Some(set) => set.iter().any(|name| name == column),
                None => !conflict.keys.iter().any(|key| key == column),
            })
            .collect()
    }

    /// Whether a later row of the same key leaves nothing of an earlier one, so that only the last has to be written.
    pub(crate) fn last_row_wins<C: AsRef<str>>(&self, columns: &[C]) -> bool {
        match &self.conflict {
            Some(conflict) if conflict.action == ConflictAction::Update => {
                let keys = columns
                    .iter()
                    .filter(|column| conflict.keys.iter().any(|key| key == column.as_ref()))
                    .count();
                self.updated_columns(columns).len() + keys == columns.len()
            }
            _ => false,
        }
    }

    /// Where the conflict's keys stand among `columns`, when an update could meet a row of its own statement.
    pub(crate) fn update_keys<C: AsRef<str>>(&self, columns: &[C]) -> Option<Vec<usize>> {
        let conflict = self.conflict.as_ref()?;
        if conflict.action != ConflictAction::Update {
            return None;
        }
        conflict
            .keys
            .iter()
            .map(|key| columns.iter().position(|column| column.as_ref() == key))
            .collect()
    }

    /// The statement for one row, as `weir try` shows it.
    pub(crate) fn statement_for_one<C: AsRef<str>>(&self, columns: &[C]) -> String {
        let sign = if self.dialect == SqlDialect::Postgres {
            '$'
        } else {
            '?'
        };
        let places: Vec<_> = (1..=columns.len())
            .map(|number| format!("{sign}{number}"))
            .collect();
        format!(
            "{} VALUES ({}){}",
            self.insert_head(columns),
            places.join(", "),
            self.insert_tail(columns)
        )
    }

    /// `CREATE TABLE IF NOT EXISTS` with types taken from rows.
    pub(crate) fn create_statement(&self, rows: &[Cells<'_>]) -> String {
        let mut columns: Vec<&str> = Vec::new();
        for cells in rows {
            for column in &cells.columns {
                if !columns.contains(&&**column) {
                    columns.push(column);
                }
            }
        }
        let keys: &[String] = self
            .conflict
            .as_ref()
            .map_or(&[], |conflict| &conflict.keys);
        let mut parts: Vec<String> = columns
            .iter()
            .map(|column| {
                let values = rows.iter().filter_map(|cells| {
                    let index = cells.columns.iter().position(|name| name == column)?;
                    cells.values.get(index).map(|value| &**value)
                });
                format!("{} {}", quote(column), column_type(self.dialect, values))
            })
            .collect();
        if let Some(name) = self.id_column() {
            parts.push(format!("UNIQUE ({})", quote(name)));
        }
        if !keys.is_empty() && keys.iter().all(|key| columns.contains(&key.as_str())) {
            let keys: Vec<_> = keys.iter().map(|key| quote(key)).collect();
            parts.push(format!("PRIMARY KEY ({})", keys.join(", ")));
        }
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({})",
            self.quoted_name(),
            parts.join(", ")
        )
    }
}

/// A column that takes all of these values, and as far as can be told the later ones: a device that sends `31` now
/// sends `31.5` next, so a number is never an integer column on Postgres.
fn column_type<'v>(dialect: SqlDialect, values: impl Iterator<Item = &'v Value>) -> &'static str {
    let (mut int, mut float, mut bool, mut text, mut json) = (false, false, false, false, false);
    for value in values {
        match value {
            Value::Undefined | Value::Null => {}
            Value::Bool(_) => bool = true,
            Value::Int(_) => int = true,
            Value::Float(_) => float = true,
            Value::Text(_) | Value::Bits(_) => text = true,
            Value::Array(_) | Value::Object(_) => json = true,
        }
    }
    let kinds = u8::from(int || float) + u8::from(bool) + u8::from(text) + u8::from(json);
    let postgres = dialect == SqlDialect::Postgres;
    match () {
        () if kinds != 1 || text => {
            if postgres {
                "text"
            } else {
                "TEXT"
            }
        }
        () if json => {
            if postgres {
                "jsonb"
            } else {
                "TEXT"
            }
        }
        () if bool => {
            if postgres {
                "boolean"
            } else {
                "BOOLEAN"
            }
        }
        () if float => {
            if postgres {
                "double precision"
            } else {
                "REAL"
            }
        }
        () => {
            if postgres {
                "numeric"
            } else {
                "NUMERIC"
            }
        }
    }
}

/// Whether a database takes two names for one column.
fn is_same_column(dialect: SqlDialect, one: &str, other: &str) -> bool {
    match dialect {
        SqlDialect::Sqlite => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

/// A name between double quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name` in its parts; a dot between double quotes belongs to the name.
fn split_name(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    parts
}

/// A field or path as `columns` writes it: `temp`, `a.b[2]`.
fn place(field: &str) -> Place {
    let (template, _) = SqlTemplate::parse(&format!("${{{field}}}"), SqlDialect::Postgres);
    let found = template.places().next().cloned();
    found
        .filter(|_| template.sql() == "$1")
        .unwrap_or_else(|| Place::field(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(toml: serde_json::Value, dialect: SqlDialect) -> TablePlan {
        let config: SinkConfig = serde_json::from_value(toml).unwrap();
        let table = config.table.clone().unwrap();
        TablePlan::check(&config, &table, dialect).unwrap()
    }

    fn row(text: &str) -> Value {
        weir_rules::json::decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_quoted_so_that_no_name_is_syntax() {
        let plan = plan(
            serde_json::json!({"table": "iot.\"odd.table\"\"x"}),
            SqlDialect::Postgres,
        );
        assert_eq!(plan.quoted_name(), "\"iot\".\"odd.tablex\"");
        assert_eq!(
            plan.insert_head(&["a\"b"]),
            "INSERT INTO \"iot\".\"odd.tablex\" (\"a\"\"b\")"
        );
    }

    #[test]
    fn a_mapping_reads_paths_and_gives_null_or_a_refusal_for_what_is_missing() {
        let mut plan = plan(
            serde_json::json!({"table": "t", "columns": {"d": "device", "second": "list[2]", "deep": "a.b"}}),
            SqlDialect::Postgres,
        );
        let value = row(r#"{"device":"x","list":[1,2],"a":{"b":3}}"#);
        let cells = plan.cells(&value).unwrap();
        assert_eq!(cells.columns, ["d", "deep", "second"]);
        assert!(matches!(*cells.values[1], Value::Int(3)));
        assert!(matches!(*cells.values[2], Value::Int(2)));
        plan.missing = Missing::Reject;
        let value = row(r#"{"device":"x"}"#);
        assert_eq!(plan.cells(&value).unwrap_err().code(), "E3203");
    }

    #[test]
    fn updates_set_all_but_the_keys_unless_told() {
        let all = plan(
            serde_json::json!({"table": "t", "on_conflict": {"keys": ["k"], "do": "update"}}),
            SqlDialect::Postgres,
        );
        assert_eq!(
            all.insert_tail(&["k", "a"]),
            " ON CONFLICT (\"k\") DO UPDATE SET \"a\" = EXCLUDED.\"a\""
        );
        assert!(all.last_row_wins(&["k", "a"]));
        assert_eq!(all.insert_tail(&["k"]), " ON CONFLICT (\"k\") DO NOTHING");
        let some = plan(
            serde_json::json!({"table": "t", "on_conflict": {"keys": ["k"], "do": "update", "set": ["a"]}}),
            SqlDialect::Postgres,
        );
        assert!(
            !some.last_row_wins(&["k", "a", "b"]),
            "b of the first row stays"
        );
    }

    #[test]
    fn a_made_table_takes_fractions_after_whole_numbers() {
        let plan = plan(
            serde_json::json!({"table": "t", "on_conflict": {"keys": ["id"], "do": "ignore"}}),
            SqlDialect::Postgres,
        );
        let rows = [
            row(r#"{"id":"a","n":1,"f":1.5,"b":true,"j":{},"mixed":1}"#),
            row(r#"{"id":"b","mixed":"x"}"#),
        ];
        let cells: Vec<_> = rows.iter().map(|row| plan.cells(row).unwrap()).collect();
        assert_eq!(
            plan.create_statement(&cells),
            "CREATE TABLE IF NOT EXISTS \"t\" (\"id\" text, \"n\" numeric, \"f\" double precision, \"b\" boolean, \
             \"j\" jsonb, \"mixed\" text, PRIMARY KEY (\"id\"))"
        );
    }

    #[test]
    fn conflict_columns_must_be_mapped() {
        let config: SinkConfig = serde_json::from_value(serde_json::json!({
            "table": "t", "columns": {"a": "a"}, "on_conflict": {"keys": ["k"], "do": "update"}
        }))
        .unwrap();
        let errors = TablePlan::check(&config, "t", SqlDialect::Sqlite).unwrap_err();
        assert_eq!(errors[0].key, "on_conflict.keys");
    }
}
