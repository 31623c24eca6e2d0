//! weir's own table in a SQLite file.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};

use super::classify;
use crate::SinkError;
use crate::own_tables::{Migrations, Standing, migration_error};

const MIGRATIONS: Migrations = Migrations {
    positions: include_str!("../../../../migrations/sqlite/0001_delivery_positions.sql"),
    fence: include_str!("../../../../migrations/sqlite/0002_fence.sql"),
};

/// Makes the table where it is missing or old.
pub(super) async fn make(connection: &mut SqliteConnection) -> Result<(), SinkError> {
    let failed = |error: sqlx::Error| classify(&error).into_error();
    if standing(connection).await.map_err(failed)? == Standing::Whole {
        return Ok(());
    }
    let migrator = MIGRATIONS.migrator();
    let migrated = migrator.run_direct(None, connection, false).await;
    let standing = standing(connection).await.map_err(failed)?;
    if standing == Standing::Whole {
        return Ok(());
    }
    // Noted as made, and dropped since; or made by hand, and in no list.
    let text = AssertSqlSafe(MIGRATIONS.made_again(standing)).into_sql_str();
    let made = connection.execute(text).await;
    made.map(|_| ()).map_err(|error| match migrated {
        Err(migrated) if standing == Standing::Missing => migration_error(&migrated),
        _ => failed(error),
    })
}

async fn standing(connection: &mut SqliteConnection) -> Result<Standing, sqlx::Error> {
    let rows = sqlx::query("SELECT name FROM pragma_table_info('weir_delivery_positions')")
        .fetch_all(connection)
        .await?;
    let columns: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(Standing::of(&columns?))
}
