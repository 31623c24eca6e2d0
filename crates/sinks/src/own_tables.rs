//! weir's own table in the user's databases: how it is made, and what is said when it cannot be.
//!
//! The statements are in `migrations/`. They are run only where the table is not as it has to be: a login that may write
//! need not be one that may create.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::{SinkError, codes};

/// Where the migrations that were run are noted: not the table that the user's own tools may use.
const MIGRATIONS_TABLE: &str = "weir_migrations";

/// The columns of `weir_delivery_positions`.
const COLUMNS: [&str; 8] = [
    "store_id",
    "rule_id",
    "sink_id",
    "lane",
    "epoch",
    "position",
    "updated_at",
    "fence",
];

/// The texts of the migrations for one kind of database, in order.
pub(crate) struct Migrations {
    pub(crate) positions: &'static str,
    pub(crate) fence: &'static str,
}

/// How weir's table is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Missing,
    /// An earlier version has made it, or somebody who had its statements.
    Old,
    Whole,
}

impl Standing {
    /// By the names of its columns; none where there is no table.
    pub(crate) fn of(columns: &[String]) -> Self {
        let has = |name: &&str| columns.iter().any(|column| column == name);
        match columns {
            [] => Self::Missing,
            _ if COLUMNS.iter().all(has) => Self::Whole,
            _ => Self::Old,
        }
    }
}

impl Migrations {
    pub(crate) fn migrator(&self) -> Migrator {
        let each = [
            (1, "delivery positions", self.positions),
            (2, "fence", self.fence),
        ];
        let each = each.map(|(version, name, text)| {
            let text = text.into_sql_str();
            Migration::new(version, name.into(), MigrationType::Simple, text, false)
        });
        let mut migrator = Migrator::with_migrations(each.into());
        migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
        // A newer weir may have added tables that this one does not know.
        migrator.set_ignore_missing(true);
        migrator
    }

    /// The statements for a table that is noted as made and is not there, or lacks a column.
    pub(crate) fn made_again(&self, standing: Standing) -> String {
        match standing {
            Standing::Missing => format!("{}{}", self.positions, self.fence),
            Standing::Old => self.fence.to_owned(),
            Standing::Whole => String::new(),
        }
    }

    /// The same on one line, for somebody who may run them.
    pub(crate) fn to_run(&self, standing: Standing) -> String {
        let text = self.made_again(standing);
        let lines = text.lines().map(str::trim);
        let lines: Vec<_> = lines.filter(|line| !line.starts_with("--")).collect();
        lines.join(" ")
    }
}

/// What the login needs of weir's table.
pub(crate) const GRANT: &str = "GRANT SELECT, INSERT, UPDATE ON weir_delivery_positions TO";

/// Somebody who may has to make the table, or the sink does without.
pub(crate) fn cure(statements: &str, login: &str) -> String {
    let grant = format!("{GRANT} {};", crate::table::quote(login));
    format!(
        "let somebody run who may: {statements}{}{grant} Or do without the table: delivery = \"at_least_once\" in the sink",
        if statements.is_empty() { "" } else { " " }
    )
}

/// A migration that did not run: somebody has to grant or mend something.
pub(crate) fn migration_error(error: &MigrateError) -> SinkError {
    SinkError::new(codes::SCHEMA, "weir's own table cannot be made")
        .caused_by(error)
        .configuration()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_whole_when_it_has_every_column() {
        let columns = |count: usize| COLUMNS[..count].iter().map(|name| (*name).to_owned());
        let standing = |count| Standing::of(&columns(count).collect::<Vec<_>>());
        assert_eq!(standing(0), Standing::Missing);
        assert_eq!(standing(7), Standing::Old);
        assert_eq!(standing(8), Standing::Whole);
    }
}
