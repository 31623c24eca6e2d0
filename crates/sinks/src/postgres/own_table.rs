//! weir's own table in Postgres: looked for before it is made, since a login that may write need not be one that may
//! create.

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};

use super::sqlstate::classify;
use crate::own_tables::{Migrations, Standing, cure, migration_error};
use crate::{SinkError, codes};

const MIGRATIONS: Migrations = Migrations {
    positions: include_str!("../../../../migrations/postgres/0001_delivery_positions.sql"),
    fence: include_str!("../../../../migrations/postgres/0002_fence.sql"),
};

/// Makes the table where it is missing or old.
pub(super) async fn make(connection: &mut PgConnection) -> Result<(), SinkError> {
    let failed = |error: sqlx::Error| classify(&error).into_error();
    let before = standing(connection).await.map_err(failed)?;
    if before == Standing::Whole {
        return Ok(());
    }
    // Under an advisory lock, so that two brokers that start together do not collide.
    let migrator = MIGRATIONS.migrator();
    let migrated = migrator.run_direct(None, connection, false).await;
    let standing = standing(connection).await.map_err(failed)?;
    if standing != Standing::Whole {
        // Noted as made, and dropped since; or made by hand, and in no list.
        let text = AssertSqlSafe(MIGRATIONS.made_again(standing)).into_sql_str();
        if let Err(error) = connection.execute(text).await {
            let is_statement = |error: &MigrateError| {
                matches!(
                    error,
                    MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)
                )
            };
            return Err(match &migrated {
                Err(migrated) if standing == Standing::Missing && !is_statement(migrated) => {
                    migration_error(migrated)
                }
                _ => told(connection, standing, &error).await,
            });
        }
    }
    if migrated.is_err() {
        // Its lock is still held, and the connection goes on.
        let unlock = "SELECT pg_advisory_unlock_all()";
        connection.execute(unlock).await.map_err(failed)?;
    }
    Ok(())
}

/// What the login may not do is said with the statements for somebody who may.
async fn told(connection: &mut PgConnection, standing: Standing, error: &sqlx::Error) -> SinkError {
    let refused = classify(error).into_error();
    let code = error.as_database_error().and_then(|error| error.code());
    // No right to it, or no schema in which it could be made.
    if !matches!(code.as_deref(), Some("42501" | "3F000")) {
        return refused;
    }
    let login = sqlx::query("SELECT current_user::text").fetch_one(connection);
    let login: Result<String, _> = login.await.and_then(|row| row.try_get(0));
    let login = login.unwrap_or_else(|_| "weir".to_owned());
    let message = format!(
        "weir's own table {}, and the login may not mend that: {}",
        missing_or_old(standing),
        cure(&MIGRATIONS.to_run(standing), &login)
    );
    SinkError::new(codes::OWN_TABLE, message)
        .caused_by(&refused)
        .configuration()
}

fn missing_or_old(standing: Standing) -> &'static str {
    match standing {
        Standing::Missing => "weir_delivery_positions is missing",
        Standing::Old => "weir_delivery_positions lacks a column of this version",
        Standing::Whole => "weir_delivery_positions is there",
    }
}

async fn standing(connection: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT attname::text FROM pg_catalog.pg_attribute \
         WHERE attrelid = to_regclass('weir_delivery_positions') AND attnum > 0 AND NOT attisdropped",
    )
    .fetch_all(connection)
    .await?;
    let columns: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(Standing::of(&columns?))
}

/// What the login lacks for a sink that keeps its position there: what is wrong and what mends it. Nothing is made.
pub(crate) async fn lacking(
    connection: &mut PgConnection,
) -> Result<Option<(String, String)>, sqlx::Error> {
    let standing = standing(connection).await?;
    let row = sqlx::query(
        "SELECT current_user::text, coalesce(has_schema_privilege(current_schema()::text, 'CREATE'), false), \
           coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class \
             WHERE oid = to_regclass('weir_delivery_positions')), false), \
           coalesce((SELECT bool_and(has_table_privilege(to_regclass('weir_delivery_positions')::oid, privilege)) \
             FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS privilege), false)",
    )
    .fetch_one(connection)
    .await?;
    let login: String = row.try_get(0)?;
    let [may_create, owns, may_write]: [bool; 3] =
        [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
    let (is_well, wrong) = match standing {
        Standing::Missing => (may_create, missing_or_old(standing)),
        Standing::Old => (owns, missing_or_old(standing)),
        Standing::Whole => (may_write, "weir_delivery_positions is there"),
    };
    Ok((!is_well).then(|| {
        let may_not = match standing {
            Standing::Whole => "read and write it",
            Standing::Old => "alter it",
            Standing::Missing => "make it",
        };
        (
            format!("weir's own table {wrong}, and the login may not {may_not}"),
            cure(&MIGRATIONS.to_run(standing), &login),
        )
    }))
}
