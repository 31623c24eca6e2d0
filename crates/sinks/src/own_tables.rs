//! weir's own tables in the user's databases: how they are made, and how their rows are named.
//!
//! The same for every database; the statements themselves are in `migrations/`.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::{SinkError, codes};

/// Where the migrations that were run are noted: not the table that the user's own tools may use.
const MIGRATIONS_TABLE: &str = "weir_migrations";

/// One lane for now: all rows of a sink in one order.
pub(crate) const LANE: i32 = 0;

/// What makes the tables of `positions`, the text of the first migration.
pub(crate) fn migrator(positions: &'static str) -> Migrator {
    let mut migrator = Migrator::with_migrations(vec![Migration::new(
        1,
        "delivery positions".into(),
        MigrationType::Simple,
        positions.into_sql_str(),
        false,
    )]);
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // A newer weir may have added tables that this one does not know.
    migrator.set_ignore_missing(true);
    migrator
}

/// The statements of `positions` for a table that was made once and may have been dropped since.
pub(crate) fn made_again(positions: &str) -> String {
    positions.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ")
}

/// A migration that did not run: somebody has to grant or mend something.
pub(crate) fn migration_error(error: &MigrateError) -> SinkError {
    SinkError::new(codes::SCHEMA, "weir's own tables cannot be made")
        .caused_by(error)
        .configuration()
}
