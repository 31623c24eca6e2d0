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

/// What a sink knows of its position in the database.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The position was compared with the store.
    pub(crate) compared: bool,
    /// The database has confirmed rows up to this number.
    pub(crate) confirmed: u64,
}

/// A position that no row of this queue can have given: the store was put back to an earlier state. Rows that come now
/// have numbers that were used before, and would be taken for rows that are stored.
pub(crate) fn tell_ahead(rule: &str, sink: &str, position: u64, given_to: u64) {
    tracing::error!(
        code = codes::POSITION_AHEAD,
        rule,
        sink,
        position,
        store = given_to,
        "the database has rows of this sink that the store knows nothing of: data_dir was put back to an earlier state; \
         the position starts over, no row is skipped"
    );
}

/// A position behind what was confirmed: the database was put back to an earlier state.
pub(crate) fn behind(key: [&str; 3], position: u64, confirmed: u64) -> SinkError {
    let [store, rule, sink] = key.map(|text| text.replace('\'', "''"));
    let message = format!(
        "rows {} to {confirmed} were confirmed and are not in the database any more; to go on without them: UPDATE \
         weir_delivery_positions SET position = {confirmed} WHERE store_id = '{store}' AND rule_id = '{rule}' AND \
         sink_id = '{sink}'",
        position + 1
    );
    SinkError::new(codes::POSITION_BEHIND, message).configuration()
}

/// A migration that did not run: somebody has to grant or mend something.
pub(crate) fn migration_error(error: &MigrateError) -> SinkError {
    SinkError::new(codes::SCHEMA, "weir's own tables cannot be made")
        .caused_by(error)
        .configuration()
}
