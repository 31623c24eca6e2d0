//! What a rule makes, held against the table that its rows go to: before there are rows.
//!
//! Only Postgres is asked. Nothing is written there, and nothing of weir's own is made.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _, SqlSafeStr as _};
use weir_rules::Type;
use weir_rules::template::{SqlDialect, Step};

use crate::config::{CreateTable, Delivery};
use crate::connector::{Connector, Link};
use crate::plan::{SinkPlan, Target};
use crate::postgres::{PostgresDatabase, own_table, sqlstate};
use crate::table::{TablePlan, quote};
use crate::{SinkError, codes};

/// How long the database may take to say what is asked of it.
const LIMIT: Duration = Duration::from_secs(20);

/// The fields that a rule makes.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Each with its type, as far as that can be told.
    pub named: BTreeMap<String, Type>,
    /// Whether there may be others: `SELECT *`.
    pub others: bool,
}

/// Something that will go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A code of [`codes`].
    pub code: &'static str,
    /// Whether only some rows are in danger, or none for certain.
    pub is_warning: bool,
    /// What is wrong.
    pub message: String,
    /// Statements that would mend it, or what to do.
    pub help: String,
}

/// A column as Postgres has it.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    type_name: String,
    takes: Takes,
    /// A row that does not fill it is refused.
    needed: bool,
    /// Nobody may fill it.
    generated: bool,
}

/// What a column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Integers,
    Numbers,
    Booleans,
    Arrays,
    /// Texts, JSON and bytes take whatever there is.
    Everything,
    /// Times and the like, which are read from texts.
    Other,
}

/// Compares what a rule makes with the table or the statement of one of its sinks. Of other sinks nothing is said.
///
/// # Errors
/// When the database cannot be asked, or has not answered after 20 seconds: a lock on its catalogue is waited for else.
pub async fn compare(
    connector: &Connector,
    plan: &SinkPlan,
    fields: &Fields,
) -> Result<Vec<Finding>, SinkError> {
    let asked = tokio::time::timeout(LIMIT, ask(connector, plan, fields)).await;
    asked.unwrap_or_else(|_| {
        let message = format!("the database has not answered within {} s", LIMIT.as_secs());
        Err(SinkError::new(codes::TIMEOUT, message))
    })
}

async fn ask(
    connector: &Connector,
    plan: &SinkPlan,
    fields: &Fields,
) -> Result<Vec<Finding>, SinkError> {
    let Link::Postgres(database) = connector.link() else {
        return Ok(Vec::new());
    };
    let mut findings = of_target(database, plan, fields).await?;
    if plan.delivery == Delivery::ExactlyOnce {
        let mut connection = database.plain_connection().await?;
        let lacking = own_table::lacking(&mut connection).await.map_err(failed)?;
        findings.extend(lacking.map(|(message, help)| Finding {
            code: codes::OWN_TABLE,
            is_warning: false,
            message,
            help,
        }));
    }
    Ok(findings)
}

async fn of_target(
    database: &PostgresDatabase,
    plan: &SinkPlan,
    fields: &Fields,
) -> Result<Vec<Finding>, SinkError> {
    match &plan.target {
        Target::Table(table) if table.dialect == SqlDialect::Postgres => {
            let mut connection = database.plain_connection().await?;
            let columns = columns(&mut connection, table).await.map_err(failed)?;
            let mut findings = judge(table, columns.as_deref(), fields);
            if columns.is_some() && !may_insert(&mut connection, table).await.map_err(failed)? {
                findings.push(Finding {
                    code: codes::SCHEMA,
                    is_warning: false,
                    message: format!("the login may not insert into {}", table.quoted_name()),
                    help: format!("GRANT INSERT ON {} TO …;", table.quoted_name()),
                });
            }
            Ok(findings)
        }
        Target::Statement(statement) if statement.dialect == SqlDialect::Postgres => {
            let mut connection = database.plain_connection().await?;
            statement_findings(&mut connection, statement.sql.sql()).await
        }
        _ => Ok(Vec::new()),
    }
}

fn failed(error: sqlx::Error) -> SinkError {
    sqlstate::classify(&error).into_error()
}

async fn statement_findings(
    connection: &mut PgConnection,
    sql: &str,
) -> Result<Vec<Finding>, SinkError> {
    let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
    match connection.prepare(sql).await {
        Ok(_) => Ok(Vec::new()),
        Err(error) if error.as_database_error().is_some() => {
            let error = failed(error);
            if !error.is_configuration() {
                return Err(error);
            }
            Ok(vec![Finding {
                code: error.code(),
                is_warning: false,
                message: format!("Postgres does not take the statement: {error}"),
                help: "correct the statement, or make what it names".to_owned(),
            }])
        }
        Err(error) => Err(failed(error)),
    }
}

/// The columns of a table; `None` when there is none.
async fn columns(
    connection: &mut PgConnection,
    plan: &TablePlan,
) -> Result<Option<Vec<Column>>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.typcategory::text, \
                (CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END)::regtype::text, \
                (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '', \
                a.attgenerated <> '' OR a.attidentity = 'a' \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    )
    .bind(plan.quoted_name())
    .fetch_all(connection)
    .await?;
    let columns: Result<Vec<_>, sqlx::Error> = rows
        .iter()
        .map(|row| {
            Ok(Column {
                name: row.try_get(0)?,
                type_name: row.try_get(1)?,
                takes: takes(row.try_get(2)?, row.try_get(3)?),
                needed: row.try_get(4)?,
                generated: row.try_get(5)?,
            })
        })
        .collect();
    Ok(Some(columns?).filter(|columns| !columns.is_empty()))
}

async fn may_insert(connection: &mut PgConnection, plan: &TablePlan) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "SELECT has_table_privilege(to_regclass($1)::oid, 'INSERT') OR has_any_column_privilege(to_regclass($1)::oid, 'INSERT')",
    )
    .bind(plan.quoted_name())
    .fetch_one(connection)
    .await?
    .try_get(0)
}

fn takes(category: &str, base: &str) -> Takes {
    match (base, category) {
        ("smallint" | "integer" | "bigint", _) => Takes::Integers,
        ("json" | "jsonb" | "bytea", _) | (_, "S") => Takes::Everything,
        (_, "N") => Takes::Numbers,
        (_, "B") => Takes::Booleans,
        (_, "A") => Takes::Arrays,
        _ => Takes::Other,
    }
}

/// What a value of a type does at a column: `None` is well, and true stands for some of them only.
fn clash(kind: Type, takes: Takes) -> Option<bool> {
    use Takes::{Arrays, Booleans, Everything, Integers, Numbers};
    match (kind, takes) {
        (Type::Any, _) | (_, Everything) => None,
        (Type::Boolean, Integers | Numbers)
        | (Type::Array | Type::Object, Integers | Numbers | Booleans) => Some(false),
        (Type::Object, _) => Some(false),
        (Type::Array, Arrays) => None,
        (Type::Array, _) => Some(false),
        (Type::Float | Type::Number, Integers) => Some(true),
        (Type::String, Integers | Numbers | Booleans | Arrays) => Some(true),
        (Type::Integer | Type::Float | Type::Number, Booleans | Takes::Other) => Some(true),
        (Type::Integer | Type::Float | Type::Number | Type::Boolean, Arrays) => Some(false),
        (Type::Boolean, Takes::Other) => Some(false),
        _ => None,
    }
}

/// The type of a new column.
fn type_for(kind: Type) -> &'static str {
    match kind {
        Type::Boolean => "boolean",
        Type::Integer => "bigint",
        Type::Float => "double precision",
        Type::Number => "numeric",
        Type::Array | Type::Object => "jsonb",
        Type::String => "text",
        Type::Any => "text /* any type: choose */",
    }
}

/// Which column is filled with what; whether rows may fill others.
fn filled<'f>(plan: &'f TablePlan, fields: &'f Fields) -> (Vec<(&'f str, Option<Type>)>, bool) {
    let id = plan.message_id.as_deref();
    let Some(mapped) = &plan.columns else {
        let named = fields.named.iter().filter(|(name, _)| Some(&***name) != id);
        let named = named.map(|(name, kind)| (&**name, Some(*kind)));
        let id = id.map(|name| (name, Some(Type::String)));
        return (named.chain(id).collect(), fields.others);
    };
    let each = mapped.iter().map(|(column, place)| {
        if Some(&**column) == id {
            return (&**column, Some(Type::String));
        }
        let kind = match place.steps() {
            [Step::Key(name)] => match fields.named.get(name) {
                Some(kind) => Some(*kind),
                None => fields.others.then_some(Type::Any),
            },
            _ => Some(Type::Any),
        };
        (&**column, kind)
    });
    (each.collect(), false)
}

/// What will go wrong with a table of these columns, or with none.
fn judge(plan: &TablePlan, columns: Option<&[Column]>, fields: &Fields) -> Vec<Finding> {
    let table = plan.quoted_name();
    let (filled, others) = filled(plan, fields);
    let Some(columns) = columns else {
        if plan.create == CreateTable::IfMissing {
            return Vec::new();
        }
        let each = filled.iter().map(|(name, kind)| {
            let kind = type_for(kind.unwrap_or(Type::Any));
            format!("{} {kind}", quote(name))
        });
        let mut parts: Vec<String> = each.collect();
        if let Some(id) = plan.id_column() {
            parts.push(format!("UNIQUE ({})", quote(id)));
        }
        if let Some(conflict) = &plan.conflict {
            let keys: Vec<_> = conflict.keys.iter().map(|key| quote(key)).collect();
            parts.push(format!("PRIMARY KEY ({})", keys.join(", ")));
        }
        return vec![Finding {
            code: codes::TABLE_MISSING,
            is_warning: false,
            message: format!("there is no table {table}"),
            help: format!("CREATE TABLE {table} ({});", parts.join(", ")),
        }];
    };
    let mut findings = Vec::new();
    let find = |name: &str| columns.iter().find(|column| column.name == name);
    for (name, kind) in &filled {
        let Some(column) = find(name) else {
            findings.push(Finding {
                code: codes::TABLE_LACKS_COLUMN,
                is_warning: false,
                message: format!(
                    "table {table} has no column {}, which the rule fills",
                    quote(name)
                ),
                help: format!(
                    "ALTER TABLE {table} ADD COLUMN {} {};",
                    quote(name),
                    type_for(kind.unwrap_or(Type::Any))
                ),
            });
            continue;
        };
        if column.generated {
            findings.push(Finding {
                code: codes::COLUMN_TYPE,
                is_warning: false,
                message: format!(
                    "column {} of {table} is generated: nobody may fill it",
                    quote(name)
                ),
                help: "take the field out of the rule, or give the sink `columns`".to_owned(),
            });
        }
        match kind {
            None if column.needed => findings.push(needed(&table, column)),
            None => {}
            Some(kind) => {
                if let Some(is_warning) = clash(*kind, column.takes) {
                    let some = if is_warning {
                        "may not fit"
                    } else {
                        "never fits"
                    };
                    findings.push(Finding {
                        code: codes::COLUMN_TYPE,
                        is_warning,
                        message: format!(
                            "column {} of {table} is {}, and what the rule makes ({}) {some}",
                            quote(name),
                            column.type_name,
                            kind.name()
                        ),
                        help: format!(
                            "convert it in the rule, or: ALTER TABLE {table} ALTER COLUMN {} TYPE {};",
                            quote(name),
                            type_for(*kind)
                        ),
                    });
                }
            }
        }
    }
    for column in columns.iter().filter(|column| column.needed) {
        let is_filled = filled.iter().any(|(name, _)| *name == column.name);
        if !is_filled && !others {
            findings.push(needed(&table, column));
        }
    }
    findings
}

fn needed(table: &str, column: &Column) -> Finding {
    let name = quote(&column.name);
    Finding {
        code: codes::COLUMN_NOT_FILLED,
        is_warning: false,
        message: format!(
            "column {name} of {table} is NOT NULL without a default, and the rule does not fill it"
        ),
        help: format!(
            "fill it in the rule, or: ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;"
        ),
    }
}

impl PostgresDatabase {
    /// A connection of its own, which makes nothing in the database.
    async fn plain_connection(&self) -> Result<PgConnection, SinkError> {
        let options = self.connect_options();
        let connected = PgConnection::connect_with(&options);
        tokio::time::timeout(Duration::from_secs(10), connected)
            .await
            .map_err(|_| SinkError::new(codes::TIMEOUT, "the database did not answer in time"))?
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: serde_json::Value) -> TablePlan {
        let mut config = serde_json::json!({ "table": "iot.t" });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let config: crate::SinkConfig = serde_json::from_value(config).unwrap();
        TablePlan::check(&config, "iot.t", SqlDialect::Postgres).unwrap()
    }

    fn fields(named: &[(&str, Type)]) -> Fields {
        let named = named.iter().map(|(name, kind)| ((*name).to_owned(), *kind));
        Fields {
            named: named.collect(),
            others: false,
        }
    }

    fn column(name: &str, type_name: &str, takes: Takes, needed: bool) -> Column {
        Column {
            name: name.into(),
            type_name: type_name.into(),
            takes,
            needed,
            generated: false,
        }
    }

    fn codes_of(findings: &[Finding]) -> Vec<(&str, bool)> {
        findings
            .iter()
            .map(|finding| (finding.code, finding.is_warning))
            .collect()
    }

    #[test]
    fn a_missing_table_is_offered_with_the_rules_columns() {
        let fields = fields(&[("n", Type::Integer), ("at", Type::String), ("x", Type::Any)]);
        let plan = plan(serde_json::json!({ "on_conflict": { "keys": ["n"], "do": "update" } }));
        let found = judge(&plan, None, &fields);
        assert_eq!(codes_of(&found), [("E3207", false)]);
        assert_eq!(
            found[0].help,
            "CREATE TABLE \"iot\".\"t\" (\"at\" text, \"n\" bigint, \"x\" text /* any type: choose */, PRIMARY KEY (\"n\"));"
        );
        let made = self::plan(serde_json::json!({ "create_table": "if_missing" }));
        assert!(judge(&made, None, &fields).is_empty());
    }

    #[test]
    fn columns_that_are_missing_needed_or_of_another_type_are_named() {
        let columns = [
            column("n", "integer", Takes::Integers, false),
            column("ok", "integer", Takes::Integers, false),
            column("must", "text", Takes::Everything, true),
        ];
        let made = fields(&[
            ("n", Type::Float),
            ("ok", Type::Boolean),
            ("extra", Type::Array),
        ]);
        let found = judge(&plan(serde_json::json!({})), Some(&columns), &made);
        assert_eq!(
            codes_of(&found),
            [
                ("E3208", false),
                ("E3209", true),
                ("E3209", false),
                ("E3210", false)
            ]
        );
        assert!(
            found[0].help.contains("ADD COLUMN \"extra\" jsonb"),
            "{found:?}"
        );
        assert!(found[3].message.contains("\"must\""), "{found:?}");
        let star = Fields {
            others: true,
            ..made
        };
        let found = judge(&plan(serde_json::json!({})), Some(&columns), &star);
        assert!(
            !codes_of(&found).contains(&("E3210", false)),
            "a field of `*` may fill it"
        );
    }

    #[test]
    fn a_mapped_column_is_what_its_field_is() {
        let columns = [column("a", "bigint", Takes::Integers, true)];
        let plan = plan(serde_json::json!({ "columns": { "a": "n" } }));
        assert!(judge(&plan, Some(&columns), &fields(&[("n", Type::Integer)])).is_empty());
        let found = judge(&plan, Some(&columns), &fields(&[("m", Type::Integer)]));
        assert_eq!(codes_of(&found), [("E3210", false)]);
    }
}
