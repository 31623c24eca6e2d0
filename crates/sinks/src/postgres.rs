//! Rows in Postgres: whole batches through UNNEST, typed by the table's own columns. Rows and position are one
//! transaction, so a batch that is given again after a lost COMMIT is stored once.

mod columns;
pub(crate) mod own_table;
mod positions;
pub(crate) mod sqlstate;
mod statement;

use std::collections::HashSet;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Postgres};

use self::columns::{ColumnType, TableTypes};
use self::sqlstate::classify;
use self::statement::Prepared;
use crate::config::CreateTable;
use crate::config::connector::PostgresConnector;
use crate::error::ConfigError;
use crate::halving::{Write, WriteError, write_halving_others};
use crate::plan::StatementPlan;
use crate::positions::Terms;
use crate::render::statement_binds;
use crate::table::{Cells, TablePlan};
use crate::{Batch, Outcome, Record, Sink, SinkError, codes, now_ms};

/// A database with its pool.
#[derive(Clone)]
pub(crate) struct PostgresDatabase {
    pool: PgPool,
    migrated: Arc<AtomicBool>,
    timeout: Duration,
}

impl PostgresDatabase {
    /// Whether the URL can be read at all.
    pub(crate) fn check(config: &PostgresConnector) -> Result<(), ConfigError> {
        options(config).map(|_| ()).map_err(|error| {
            ConfigError::new(codes::BAD_VALUE, "url", error.to_string())
                .help("`postgres://user:password@host:5432/database`")
        })
    }

    pub(crate) fn open(config: &PostgresConnector) -> Result<Self, SinkError> {
        let options = options(config)?;
        let timeout = config.statement_timeout.0;
        let pool = PgPoolOptions::new()
            .max_connections(config.pool.max.unwrap_or(8).max(1))
            .acquire_timeout(
                config
                    .pool
                    .acquire_timeout
                    .map_or(Duration::from_secs(5), |span| span.0),
            )
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    let sql = format!("SET statement_timeout = {}", timeout.as_millis());
                    connection.execute(AssertSqlSafe(sql)).await.map(|_| ())
                })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            migrated: Arc::new(AtomicBool::new(false)),
            timeout,
        })
    }

    /// How it is reached.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        (*self.pool.connect_options()).clone()
    }

    /// Tells it from other databases.
    pub(crate) fn name(&self) -> String {
        let options = self.pool.connect_options();
        let database = options.get_database().unwrap_or(options.get_username());
        format!("{}:{}/{database}", options.get_host(), options.get_port())
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.pool
            .size()
            .saturating_sub(u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX))
    }

    /// The server's own timeout ends slow statements; this one is for a server that does not answer at all, and for
    /// each statement by itself: how many a batch needs, and how far away the server is, is not known.
    fn limit(&self) -> Duration {
        self.timeout * 2 + Duration::from_secs(5)
    }

    pub(crate) async fn ping(&self) -> Result<(), SinkError> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(|error| classify(&error).into_error())?;
        connection
            .ping()
            .await
            .map_err(|error| classify(&error).into_error())
    }

    /// A connection; to a database that has weir's table, if that is asked for.
    async fn acquire(&self, own_table: bool) -> Result<PoolConnection<Postgres>, SinkError> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(|error| classify(&error).into_error())?;
        if own_table && !self.migrated.load(Ordering::Acquire) {
            // Run under an advisory lock, so that two brokers that start together do not collide.
            match tokio::time::timeout(self.limit(), own_table::make(&mut connection)).await {
                Ok(Ok(())) => self.migrated.store(true, Ordering::Release),
                Ok(Err(error)) => {
                    drop(connection.detach());
                    return Err(error);
                }
                Err(_) => {
                    drop(connection.detach());
                    return Err(SinkError::new(
                        codes::TIMEOUT,
                        "weir's own table could not be made in time",
                    ));
                }
            }
        }
        Ok(connection)
    }
}

fn options(config: &PostgresConnector) -> Result<PgConnectOptions, SinkError> {
    let url = config.url.reveal().map_err(|error| {
        SinkError::new(codes::BAD_VALUE, "the URL's file cannot be read").caused_by(&error)
    })?;
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(
            SinkError::new(codes::BAD_VALUE, "the URL has to start with postgres://")
                .configuration(),
        );
    }
    // The driver's own message is not passed on: it may quote the URL with its password.
    PgConnectOptions::from_str(&url)
        .map(|options| options.application_name("weir"))
        .map_err(|_| SinkError::new(codes::BAD_VALUE, "the URL cannot be read").configuration())
}

/// Delivers into one table or through one statement.
pub(crate) struct PostgresSink {
    database: PostgresDatabase,
    target: Target,
    terms: Terms,
}

enum Target {
    Table {
        plan: TablePlan,
        types: Option<TableTypes>,
        /// Every column that the table was seen with.
        had: HashSet<String>,
    },
    Statement {
        plan: StatementPlan,
        prepared: Option<Prepared>,
    },
}

impl PostgresSink {
    pub(crate) fn table(database: PostgresDatabase, plan: TablePlan, terms: Terms) -> Self {
        Self {
            database,
            target: Target::Table {
                plan,
                types: None,
                had: HashSet::new(),
            },
            terms,
        }
    }

    pub(crate) fn statement(database: PostgresDatabase, plan: StatementPlan, terms: Terms) -> Self {
        Self {
            database,
            target: Target::Statement {
                plan,
                prepared: None,
            },
            terms,
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let ids = self.terms.message_ids.as_ref();
        let with_ids = ids.map(|ids| ids.given(batch));
        let batch = Batch {
            records: with_ids.as_deref().unwrap_or(batch.records),
            ..*batch
        };
        let mut call = Call { sink: self, batch };
        match call.foreign_fields(batch.records).await {
            Ok(refused) => write_halving_others(&mut call, batch.records, refused).await,
            Err(error) => vec![Outcome::Retry { after: None, error }; batch.records.len()],
        }
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        self.database.ping().await
    }
}

struct Call<'a> {
    sink: &'a mut PostgresSink,
    batch: Batch<'a>,
}

#[async_trait]
impl Write for Call<'_> {
    async fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
        let retry = |error| WriteError::Retry { after: None, error };
        let mut connection = self.acquire().await.map_err(retry)?;
        let learnt_before = self.has_learnt();
        let mut written = self.transaction(&mut connection, records).await;
        if learnt_before && matches!(written, Err(WriteError::Refused(_))) {
            // Somebody may have changed the table so that it takes them now.
            self.forget_target();
            written = self.transaction(&mut connection, records).await;
        }
        if let Err(error) = &written {
            self.forget(error);
            detach_after_timeout(connection, error);
        }
        written
    }
}

/// A connection in an unknown state is not given to anybody else.
fn detach_after_timeout(connection: PoolConnection<Postgres>, error: &WriteError) {
    if matches!(error, WriteError::Retry { error, .. } if error.code() == codes::TIMEOUT) {
        drop(connection.detach());
    }
}

/// Waits for one answer of the server, but not for ever.
async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| {
            Err(WriteError::Retry {
                after: None,
                error: SinkError::new(codes::TIMEOUT, "the database did not answer in time"),
            })
        })
}

fn failed(error: sqlx::Error) -> WriteError {
    classify(&error).into_write_error()
}

impl Call<'_> {
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, SinkError> {
        let sink = &self.sink;
        sink.database.acquire(sink.terms.position.is_some()).await
    }

    /// What is known of the table may be out of date when something failed.
    fn forget(&mut self, error: &WriteError) {
        if matches!(error, WriteError::Retry { error, .. } if !error.is_configuration()) {
            return;
        }
        if matches!(error, WriteError::Retry { .. }) {
            // Weir's own table may be what is missing.
            self.sink.database.migrated.store(false, Ordering::Release);
        }
        self.forget_target();
    }

    fn has_learnt(&self) -> bool {
        match &self.sink.target {
            Target::Table { types, .. } => types.is_some(),
            Target::Statement { prepared, .. } => prepared.is_some(),
        }
    }

    fn forget_target(&mut self) {
        match &mut self.sink.target {
            Target::Table { types, .. } => *types = None,
            Target::Statement { prepared, .. } => *prepared = None,
        }
    }

    /// The rows with fields that the table has no columns for. Asks the server only when there seem to be some: what
    /// is known of the table may be older than its newest column.
    async fn foreign_fields(
        &mut self,
        records: &[Record],
    ) -> Result<Vec<Option<SinkError>>, SinkError> {
        let by_rows = match &self.sink.target {
            Target::Table { plan, types, .. } => plan.columns.is_none().then_some(types.is_some()),
            Target::Statement { .. } => None,
        };
        let Some(learnt) = by_rows else {
            return Ok(vec![None; records.len()]);
        };
        if learnt {
            let found = self.known_foreign_fields(records);
            if found.iter().all(Option::is_none) {
                return Ok(found);
            }
        }
        self.forget_target();
        let mut connection = self.acquire().await?;
        match self.prepare(&mut connection, records).await {
            Ok(()) => match self.lost_column(records) {
                Some(error) => {
                    self.forget_target();
                    Err(error)
                }
                None => Ok(self.known_foreign_fields(records)),
            },
            // The write finds the rows at fault.
            Err(WriteError::Refused(_)) => Ok(vec![None; records.len()]),
            Err(error) => {
                self.forget(&error);
                detach_after_timeout(connection, &error);
                Err(error.into_error())
            }
        }
    }

    /// That the table has no longer a column which the rows fill: somebody has changed it, and no row is at fault.
    fn lost_column(&self, records: &[Record]) -> Option<SinkError> {
        let Target::Table {
            plan,
            types: Some(types),
            had,
        } = &self.sink.target
        else {
            return None;
        };
        let mut lost = had.iter().filter(|name| !types.has(name));
        let lost = lost.find(|name| {
            let mut rows = records.iter();
            rows.any(|record| {
                plan.foreign_field(&record.row, |column| column != *name)
                    .is_some()
            })
        })?;
        let message = format!(
            "table {} has lost its column \"{lost}\", which rows fill; add it again, or take the field out of the rule and load it anew",
            plan.quoted_name()
        );
        Some(SinkError::new(codes::SCHEMA, message).configuration())
    }

    fn known_foreign_fields(&self, records: &[Record]) -> Vec<Option<SinkError>> {
        match &self.sink.target {
            Target::Table {
                plan,
                types: Some(types),
                ..
            } => records
                .iter()
                .map(|record| plan.foreign_field(&record.row, |name| types.has(name)))
                .collect(),
            _ => vec![None; records.len()],
        }
    }

    async fn transaction(
        &mut self,
        connection: &mut PgConnection,
        records: &[Record],
    ) -> Result<(), WriteError> {
        let limit = self.sink.database.limit();
        self.prepare(connection, records).await?;
        if let Some(position) = &self.sink.terms.position {
            position.keep(&self.batch).await?;
        }
        let begun = async { connection.begin().await.map_err(failed) };
        let mut transaction = within(limit, begun).await?;
        let left = match &self.sink.terms.position {
            Some(position) => {
                let advance = positions::advance(&mut transaction, position, &self.batch, records);
                Some(within(limit, advance).await?)
            }
            None => None,
        };
        let position = left.map(|left| left.position);
        let left = left.map_or(records, |left| left.records);
        if !left.is_empty() {
            match &self.sink.target {
                Target::Table {
                    plan,
                    types: Some(types),
                    ..
                } => insert(&mut transaction, plan, types, left, limit).await?,
                Target::Statement {
                    plan,
                    prepared: Some(prepared),
                } => {
                    call(&mut transaction, plan, prepared, left, limit).await?;
                }
                Target::Table { types: None, .. } | Target::Statement { prepared: None, .. } => {
                    // The position must not be committed without its rows.
                    let error = SinkError::new(codes::DEFECT, "the target was not prepared");
                    return Err(WriteError::Retry { after: None, error });
                }
            }
        }
        if let (Some(known), Some(position)) = (&self.sink.terms.position, position) {
            known.commits(&self.batch, position);
        }
        within(limit, async { transaction.commit().await.map_err(failed) }).await?;
        if let (Some(known), Some(position)) = (&self.sink.terms.position, position) {
            known.committed(&self.batch, position);
        }
        Ok(())
    }

    /// Learns the table's columns or the statement's parameters, outside the transaction.
    async fn prepare(
        &mut self,
        connection: &mut PgConnection,
        records: &[Record],
    ) -> Result<(), WriteError> {
        let limit = self.sink.database.limit();
        match &mut self.sink.target {
            Target::Table { types: Some(_), .. }
            | Target::Statement {
                prepared: Some(_), ..
            } => {}
            Target::Table { plan, types, had } => {
                let mut found = within(limit, TableTypes::read(connection, plan)).await?;
                if found.is_none() && plan.create == CreateTable::IfMissing {
                    within(limit, create(connection, plan, records)).await?;
                    found = within(limit, TableTypes::read(connection, plan)).await?;
                }
                let Some(found) = found else {
                    let error = SinkError::new(
                        codes::SCHEMA,
                        format!("there is no table {}", plan.quoted_name()),
                    );
                    return Err(WriteError::Retry {
                        after: None,
                        error: error.configuration(),
                    });
                };
                had.extend(found.names().map(str::to_owned));
                *types = Some(found);
            }
            Target::Statement { plan, prepared } => {
                let learnt = Prepared::learn(connection, plan.sql.sql());
                *prepared = Some(within(limit, learnt).await?);
            }
        }
        Ok(())
    }
}

async fn create(
    connection: &mut PgConnection,
    plan: &TablePlan,
    records: &[Record],
) -> Result<(), WriteError> {
    let cells: Vec<_> = records
        .iter()
        .filter_map(|record| plan.cells(&record.row).ok())
        .collect();
    if cells.is_empty() {
        let error = SinkError::new(
            codes::VALUE_NOT_STORABLE,
            "no row has fields to make a table of",
        );
        return Err(WriteError::Refused(error));
    }
    let made = connection
        .execute(AssertSqlSafe(plan.create_statement(&cells)))
        .await;
    match made {
        Ok(_) => Ok(()),
        // Somebody else made it at the same moment.
        Err(error)
            if error.as_database_error().is_some_and(|error| {
                matches!(error.code().as_deref(), Some("42P07" | "23505"))
            }) =>
        {
            Ok(())
        }
        Err(error) => Err(classify(&error).into_write_error()),
    }
}

/// Writes rows in as few statements as their columns and keys allow.
async fn insert(
    connection: &mut PgConnection,
    plan: &TablePlan,
    types: &TableTypes,
    records: &[Record],
    limit: Duration,
) -> Result<(), WriteError> {
    let cells = records
        .iter()
        .map(|record| plan.cells(&record.row))
        .collect::<Result<Vec<_>, _>>()
        .map_err(WriteError::Refused)?;
    let groups: Vec<_> = cells.chunk_by(|a, b| a.columns == b.columns).collect();
    for rows in groups {
        let columns = types.of(plan, &rows[0].columns)?;
        let texts = rows
            .iter()
            .map(|row| texts(row, &columns))
            .collect::<Result<Vec<_>, _>>()?;
        for rows in columns::statements(plan, &rows[0].columns, texts) {
            let unique_ids = types.unique_ids();
            let inserted = insert_rows(connection, plan, &columns, rows, unique_ids);
            within(limit, inserted).await?;
        }
    }
    Ok(())
}

fn texts(row: &Cells<'_>, columns: &[&ColumnType]) -> Result<Vec<Option<String>>, WriteError> {
    row.values
        .iter()
        .zip(columns)
        .map(|(value, column)| column.text(value).map_err(WriteError::Refused))
        .collect()
}

async fn insert_rows(
    connection: &mut PgConnection,
    plan: &TablePlan,
    columns: &[&ColumnType],
    rows: Vec<Vec<Option<String>>>,
    unique_ids: bool,
) -> Result<(), WriteError> {
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    let casts: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| format!("u.c{place}::{}", column.type_name))
        .collect();
    let arrays: Vec<_> = (1..=columns.len())
        .map(|number| format!("${number}::text[]"))
        .collect();
    let aliases: Vec<_> = (0..columns.len())
        .map(|place| format!("c{place}"))
        .collect();
    let sql = format!(
        "{} SELECT {} FROM unnest({}) AS u({}){}",
        plan.insert_head(&names),
        casts.join(", "),
        arrays.join(", "),
        aliases.join(", "),
        plan.insert_tail_with_ids(&names, unique_ids),
    );
    let mut by_column: Vec<Vec<Option<String>>> =
        vec![Vec::with_capacity(rows.len()); columns.len()];
    for row in rows {
        for (column, value) in by_column.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for column in by_column {
        query = query.bind(column);
    }
    query
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(|error| classify(&error).into_write_error())
}

async fn call(
    connection: &mut PgConnection,
    plan: &StatementPlan,
    prepared: &Prepared,
    records: &[Record],
    limit: Duration,
) -> Result<(), WriteError> {
    let now = now_ms();
    for record in records {
        let binds = statement_binds(plan, &record.row, now)
            .map_err(|error| WriteError::Refused(error.into()))?;
        let mut query = sqlx::query(AssertSqlSafe(prepared.sql.clone()));
        for (value, column) in binds.iter().zip(&prepared.parameters) {
            query = query.bind(column.text(value).map_err(WriteError::Refused)?);
        }
        let executed = async { query.execute(&mut *connection).await.map_err(failed) };
        within(limit, executed).await?;
    }
    Ok(())
}
