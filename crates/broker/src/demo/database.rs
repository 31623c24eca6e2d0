//! The demo's database, SQLite or the PostgreSQL of `WEIR_DEMO_PG`: the schema, and how much has arrived.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

/// What the demo's rules write to; read here to count what has arrived.
pub(super) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Rows and upserts that have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Rows in `readings`.
    pub(super) readings: i64,
    /// Upserts of `latest`.
    pub(super) writes: i64,
    /// Devices in `latest`.
    pub(super) devices: i64,
}

impl Database {
    /// Opens it and makes the table that `latest` needs.
    pub(super) async fn open(file: &Path, postgres: Option<&str>) -> Result<Self, sqlx::Error> {
        let database = match postgres {
            Some(url) => Self::Postgres(PgPool::connect(url).await?),
            None => {
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .create_if_missing(true);
                Self::Sqlite(SqlitePool::connect_with(options).await?)
            }
        };
        database
            .execute(include_str!("../../../../rules/demo/schema.sql"))
            .await?;
        Ok(database)
    }

    /// The connector file that rules reach it by.
    pub(super) fn connector(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "type = \"sqlite\"\npath = \"${env:WEIR_DEMO_DB}\"\n",
            Self::Postgres(_) => "type = \"postgres\"\nurl = \"${env:WEIR_DEMO_DB}\"\n",
        }
    }

    /// The word that the demo's table shows.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// What has arrived so far.
    pub(super) async fn arrived(&self) -> Arrived {
        Arrived {
            // The table is made with its first row.
            readings: self
                .number("SELECT COUNT(*) FROM readings")
                .await
                .unwrap_or(0),
            writes: self
                .number("SELECT CAST(COALESCE(SUM(writes), 0) AS BIGINT) FROM latest")
                .await
                .unwrap_or(0),
            devices: self
                .number("SELECT COUNT(*) FROM latest")
                .await
                .unwrap_or(0),
        }
    }

    async fn execute(&self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(pool) => sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(pool)
                .await
                .map(|_| ()),
            Self::Postgres(pool) => sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(pool)
                .await
                .map(|_| ()),
        }
    }

    async fn number(&self, sql: &'static str) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
            Self::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        }
    }
}
