//! Rows in a SQLite file. Rows and position are one transaction, so a batch that is given again is stored once.

mod own_table;
mod positions;

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Executor as _, Row as _, SqlSafeStr as _,
    Sqlite,
};
use weir_rules::json;
use weir_rules::value::Value;

use crate::config::CreateTable;
use crate::config::connector::SqliteConnector;
use crate::halving::{Write, WriteError, write_halving_others};
use crate::plan::StatementPlan;
use crate::positions::Terms;
use crate::render::statement_binds;
use crate::table::{Cells, TablePlan};
use crate::{Batch, Outcome, Record, Sink, SinkError, codes, now_ms};

/// A file with its pool.
#[derive(Clone)]
pub(crate) struct SqliteDatabase {
    pool: SqlitePool,
    migrated: Arc<AtomicBool>,
    timeout: Duration,
}

impl SqliteDatabase {
    pub(crate) fn open(config: &SqliteConnector, base: &Path) -> Result<Self, SinkError> {
        let wrong = |error: &sqlx::Error| {
            SinkError::new(codes::BAD_VALUE, "the SQLite path cannot be used")
                .caused_by(error)
                .configuration()
        };
        let options = if config.path.starts_with("sqlite:") {
            SqliteConnectOptions::from_str(&config.path).map_err(|error| wrong(&error))?
        } else {
            SqliteConnectOptions::new().filename(&config.path)
        };
        let options = if config.path.contains(":memory:") {
            options
        } else {
            let file = base.join(options.get_filename());
            // A folder that cannot be made shows when the file is opened, and is tried again then.
            if let Some(folder) = file.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            options.filename(file)
        };
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What is counted as delivered has to outlive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            // Writers of one file wait for each other anyway; in a pool they wait in turn.
            .max_connections(config.pool.max.unwrap_or(1).max(1))
            .acquire_timeout(
                config
                    .pool
                    .acquire_timeout
                    .map_or(Duration::from_secs(5), |span| span.0),
            )
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            migrated: Arc::new(AtomicBool::new(false)),
            timeout: config.statement_timeout.0,
        })
    }

    /// Tells it from other databases.
    pub(crate) fn name(&self) -> String {
        let options = self.pool.connect_options();
        options.get_filename().to_string_lossy().into_owned()
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.pool
            .size()
            .saturating_sub(u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX))
    }

    pub(crate) async fn ping(&self) -> Result<(), SinkError> {
        let mut connection = self.acquire(false).await?;
        sqlx::query("SELECT 1 FROM sqlite_master LIMIT 1")
            .fetch_optional(&mut *connection)
            .await
            .map(|_| ())
            .map_err(|error| classify(&error).into_error())
    }

    /// A connection; to a database that has weir's table, if that is asked for.
    async fn acquire(&self, own_table: bool) -> Result<PoolConnection<Sqlite>, SinkError> {
        let mut connection = self
            .pool
            .acquire()
            .await
            .map_err(|error| classify(&error).into_error())?;
        if own_table && !self.migrated.load(Ordering::Acquire) {
            if let Err(error) = own_table::make(&mut connection).await {
                drop(connection.detach());
                return Err(error);
            }
            self.migrated.store(true, Ordering::Release);
        }
        Ok(connection)
    }
}

/// Delivers into one table or through one statement.
pub(crate) struct SqliteSink {
    database: SqliteDatabase,
    target: Target,
    terms: Terms,
    /// Whether the table was made, or found, since the sink was opened.
    created: bool,
    /// Whether no two rows of the table may have one `message_id`; none before that was asked.
    unique_ids: Option<bool>,
}

#[derive(Clone)]
enum Target {
    Table(TablePlan),
    Statement(StatementPlan),
}

impl SqliteSink {
    pub(crate) fn table(database: SqliteDatabase, plan: TablePlan, terms: Terms) -> Self {
        Self {
            database,
            target: Target::Table(plan),
            terms,
            created: false,
            unique_ids: None,
        }
    }

    pub(crate) fn statement(database: SqliteDatabase, plan: StatementPlan, terms: Terms) -> Self {
        Self {
            database,
            target: Target::Statement(plan),
            terms,
            created: false,
            unique_ids: None,
        }
    }
}

#[async_trait]
impl Sink for SqliteSink {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Vec<Outcome> {
        let ids = self.terms.message_ids.as_ref();
        let with_ids = ids.map(|ids| ids.given(batch));
        let batch = Batch {
            records: with_ids.as_deref().unwrap_or(batch.records),
            ..*batch
        };
        let mut call = Call { sink: self, batch };
        match call.prepare(batch.records).await {
            Ok(refused) => write_halving_others(&mut call, batch.records, refused).await,
            Err(error) => {
                call.forget(&error);
                let error = error.into_error();
                vec![Outcome::Retry { after: None, error }; batch.records.len()]
            }
        }
    }

    async fn check(&mut self) -> Result<(), SinkError> {
        self.database.ping().await
    }
}

struct Call<'a> {
    sink: &'a mut SqliteSink,
    batch: Batch<'a>,
}

#[async_trait]
impl Write for Call<'_> {
    async fn write(&mut self, records: &[Record]) -> Result<(), WriteError> {
        let retry = |error| WriteError::Retry { after: None, error };
        let mut connection = self.acquire().await.map_err(retry)?;
        let limit = self.sink.database.timeout * 3;
        let attempt = async {
            let written = self.transaction(&mut connection, records).await;
            if self.sink.unique_ids == Some(false) && matches!(written, Err(WriteError::Refused(_)))
            {
                // Somebody may have made an index over the ids since.
                self.sink.unique_ids = None;
                return self.transaction(&mut connection, records).await;
            }
            written
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(written) => {
                if let Err(error) = &written {
                    self.forget(error);
                }
                written
            }
            Err(_) => {
                // A connection in an unknown state is not given to anybody else.
                drop(connection.detach());
                Err(retry(SinkError::new(
                    codes::TIMEOUT,
                    "the database did not answer in time",
                )))
            }
        }
    }
}

impl Call<'_> {
    async fn acquire(&self) -> Result<PoolConnection<Sqlite>, SinkError> {
        let sink = &self.sink;
        sink.database.acquire(sink.terms.position.is_some()).await
    }

    /// A table that was there may have been dropped, weir's own too.
    fn forget(&mut self, error: &WriteError) {
        if matches!(error, WriteError::Retry { error, .. } if error.is_configuration()) {
            self.sink.created = false;
            self.sink.unique_ids = None;
            self.sink.database.migrated.store(false, Ordering::Release);
        }
    }

    /// Makes the table if that is asked for, and says which rows have fields that it has no columns for.
    async fn prepare(&mut self, records: &[Record]) -> Result<Vec<Option<SinkError>>, WriteError> {
        let nothing = vec![None; records.len()];
        let Target::Table(plan) = &self.sink.target else {
            return Ok(nothing);
        };
        let create = plan.create == CreateTable::IfMissing && !self.sink.created;
        if !create && plan.columns.is_some() {
            return Ok(nothing);
        }
        let retry = |error| WriteError::Retry { after: None, error };
        let failed = |error: sqlx::Error| classify(&error).into_write_error();
        let mut connection = self.acquire().await.map_err(retry)?;
        if create {
            let rows = records.iter().map(|record| plan.cells(&record.row));
            let cells: Vec<_> = rows.filter_map(Result::ok).collect();
            if cells.is_empty() {
                return Ok(nothing);
            }
            connection
                .execute(AssertSqlSafe(plan.create_statement(&cells)).into_sql_str())
                .await
                .map_err(failed)?;
            self.sink.created = true;
        }
        if plan.columns.is_some() {
            return Ok(nothing);
        }
        let columns = read_columns(&mut connection, plan).await.map_err(failed)?;
        if columns.is_empty() {
            // There is no such table: the write will say so.
            return Ok(nothing);
        }
        let known = |name: &str| {
            columns
                .iter()
                .any(|column| column.eq_ignore_ascii_case(name))
        };
        let foreign = |record: &Record| plan.foreign_field(&record.row, known);
        Ok(records.iter().map(foreign).collect())
    }

    async fn transaction(
        &mut self,
        connection: &mut SqliteConnection,
        records: &[Record],
    ) -> Result<(), WriteError> {
        let failed = |error: sqlx::Error| classify(&error).into_write_error();
        if let Some(position) = &self.sink.terms.position {
            position.keep(&self.batch).await?;
        }
        let mut transaction = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        let left = match &self.sink.terms.position {
            Some(position) => {
                let advance = positions::advance(&mut transaction, position, &self.batch, records);
                Some(advance.await?)
            }
            None => None,
        };
        let position = left.map(|left| left.position);
        let left = left.map_or(records, |left| left.records);
        if !left.is_empty() {
            match self.sink.target.clone() {
                Target::Table(plan) => self.insert(&mut transaction, &plan, left).await?,
                Target::Statement(plan) => self.call(&mut transaction, &plan, left).await?,
            }
        }
        if let (Some(known), Some(position)) = (&self.sink.terms.position, position) {
            known.commits(&self.batch, position);
        }
        transaction.commit().await.map_err(failed)?;
        if let (Some(known), Some(position)) = (&self.sink.terms.position, position) {
            known.committed(&self.batch, position);
        }
        Ok(())
    }

    async fn insert(
        &mut self,
        connection: &mut SqliteConnection,
        plan: &TablePlan,
        records: &[Record],
    ) -> Result<(), WriteError> {
        let cells = records
            .iter()
            .map(|record| plan.cells(&record.row))
            .collect::<Result<Vec<_>, _>>()
            .map_err(WriteError::Refused)?;
        let unique_ids = match (plan.id_column(), self.sink.unique_ids) {
            (None, _) => false,
            (Some(_), Some(known)) => known,
            (Some(column), None) => {
                let asked = is_unique(connection, plan, column).await;
                let found = asked.map_err(|error| classify(&error).into_write_error())?;
                *self.sink.unique_ids.insert(found)
            }
        };
        let groups: Vec<_> = cells.chunk_by(|a, b| a.columns == b.columns).collect();
        for rows in groups {
            // SQLite counts parameters, and a statement with many rows is prepared once per length.
            let width = rows[0].columns.len().max(1);
            for rows in rows.chunks((MAX_PARAMETERS / width).clamp(1, 64)) {
                insert_rows(connection, plan, rows, unique_ids).await?;
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        connection: &mut SqliteConnection,
        plan: &StatementPlan,
        records: &[Record],
    ) -> Result<(), WriteError> {
        let now = now_ms();
        for record in records {
            let binds = statement_binds(plan, &record.row, now)
                .map_err(|error| WriteError::Refused(error.into()))?;
            let mut arguments = SqliteArguments::default();
            for value in &binds {
                bind(&mut arguments, value)?;
            }
            run(connection, plan.sql.sql().to_owned(), arguments).await?;
        }
        Ok(())
    }
}

/// Fewer than any SQLite allows.
const MAX_PARAMETERS: usize = 900;

async fn insert_rows(
    connection: &mut SqliteConnection,
    plan: &TablePlan,
    rows: &[Cells<'_>],
    unique_ids: bool,
) -> Result<(), WriteError> {
    let columns = &rows[0].columns;
    let one = format!("({})", vec!["?"; columns.len()].join(", "));
    let values = vec![one; rows.len()].join(", ");
    let sql = format!(
        "{} VALUES {values}{}",
        plan.insert_head(columns),
        plan.insert_tail_with_ids(columns, unique_ids)
    );
    let mut arguments = SqliteArguments::default();
    for row in rows {
        for value in &row.values {
            bind(&mut arguments, value)?;
        }
    }
    run(connection, sql, arguments).await
}

async fn run(
    connection: &mut SqliteConnection,
    sql: String,
    arguments: SqliteArguments,
) -> Result<(), WriteError> {
    let query = sqlx::query_with(AssertSqlSafe(sql.clone()), arguments);
    let Err(error) = query.execute(&mut *connection).await else {
        return Ok(());
    };
    let verdict = classify(&error);
    if !matches!(&verdict, Verdict::Retry(error) if error.is_configuration())
        || primary_code(&error) != Some(GENERIC)
    {
        return Err(verdict.into_write_error());
    }
    // SQLite has one code for a statement that is wrong and for a value that a function in it cannot take. A
    // statement that can be prepared anew, with the tables as they are now, is not what is wrong.
    let failed = |error: sqlx::Error| classify(&error).into_write_error();
    connection.clear_cached_statements().await.map_err(failed)?;
    connection
        .prepare(AssertSqlSafe(sql).into_sql_str())
        .await
        .map_err(failed)?;
    let message = verdict.into_error().message().to_owned();
    Err(WriteError::Refused(SinkError::new(
        codes::ROW_REFUSED,
        message,
    )))
}

/// SQLITE_ERROR.
const GENERIC: u32 = 1;

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}

/// The columns that can be written to; none when there is no such table.
async fn read_columns(
    connection: &mut SqliteConnection,
    plan: &TablePlan,
) -> Result<Vec<String>, sqlx::Error> {
    let (schema, table) = match plan.name.as_slice() {
        [schema, table] => (Some(schema), Some(table)),
        name => (None, name.last()),
    };
    let rows = match schema {
        Some(schema) => {
            sqlx::query("SELECT name FROM pragma_table_info(?1, ?2)")
                .bind(table)
                .bind(schema)
                .fetch_all(connection)
                .await?
        }
        None => {
            sqlx::query("SELECT name FROM pragma_table_info(?1)")
                .bind(table)
                .fetch_all(connection)
                .await?
        }
    };
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Whether an index over this column alone lets no two rows have one value.
async fn is_unique(
    connection: &mut SqliteConnection,
    plan: &TablePlan,
    column: &str,
) -> Result<bool, sqlx::Error> {
    let (schema, table) = match plan.name.as_slice() {
        [schema, table] => (schema.as_str(), Some(table)),
        name => ("main", name.last()),
    };
    sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1, ?2) AS i WHERE i.\"unique\" AND NOT i.partial \
           AND (SELECT count(*) = 1 AND max(c.name) = ?3 COLLATE NOCASE FROM pragma_index_info(i.name, ?2) AS c))",
    )
    .bind(table)
    .bind(schema)
    .bind(column)
    .fetch_one(connection)
    .await?
    .try_get(0)
}

fn bind(arguments: &mut SqliteArguments, value: &Value) -> Result<(), WriteError> {
    let added = match value {
        Value::Undefined | Value::Null => arguments.add(None::<i64>),
        Value::Bool(value) => arguments.add(*value),
        Value::Int(value) => arguments.add(*value),
        Value::Float(value) => arguments.add(*value),
        Value::Text(text) => match text.as_str() {
            Some(text) => arguments.add(text.to_owned()),
            None => arguments.add(text.as_bytes().to_vec()),
        },
        Value::Bits(_) | Value::Array(_) | Value::Object(_) => match json::to_text(value) {
            Ok(text) => arguments.add(text),
            Err(fault) => {
                let error = SinkError::new(codes::VALUE_NOT_STORABLE, fault.message().to_owned());
                return Err(WriteError::Refused(error));
            }
        },
    };
    added.map_err(|error| {
        WriteError::Refused(
            SinkError::new(codes::VALUE_NOT_STORABLE, "the value cannot be bound")
                .caused_by(&*error),
        )
    })
}

/// What an error of the database means.
#[derive(Debug)]
pub(crate) enum Verdict {
    Retry(SinkError),
    Refused(SinkError),
}

impl Verdict {
    pub(crate) fn into_error(self) -> SinkError {
        match self {
            Self::Retry(error) | Self::Refused(error) => error,
        }
    }

    pub(crate) fn into_write_error(self) -> WriteError {
        match self {
            Self::Retry(error) => WriteError::Retry { after: None, error },
            Self::Refused(error) => WriteError::Refused(error),
        }
    }
}

/// Sorts an error by SQLite's primary result code.
fn classify(error: &sqlx::Error) -> Verdict {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::PoolTimedOut => Verdict::Retry(SinkError::new(
                codes::TIMEOUT,
                "no connection to the database became free in time",
            )),
            other => Verdict::Retry(
                SinkError::new(codes::UNREACHABLE, "the database cannot be used").caused_by(other),
            ),
        };
    };
    let extended = database
        .code()
        .and_then(|code| code.parse::<u32>().ok())
        .unwrap_or(1);
    let message = database.message().to_owned();
    match extended & 0xff {
        18..=20 => Verdict::Refused(SinkError::new(codes::ROW_REFUSED, message)),
        13 => Verdict::Retry(SinkError::new(codes::DISK_FULL, message)),
        5..=7 | 9 | 10 | 14 | 15 => Verdict::Retry(SinkError::new(codes::TRY_LATER, message)),
        _ => Verdict::Retry(SinkError::new(codes::SCHEMA, message).configuration()),
    }
}
