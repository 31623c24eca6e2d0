//! PostgreSQL for tests: one server for a test process, one database for each test.
//!
//! `WEIR_TEST_PG_URL` names a server to use instead. Tests that stop the server always have one of
//! their own.

use crate::cluster::Cluster;
use crate::programs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::process::Command;
use tokio::task::spawn_blocking;

/// A PostgreSQL server.
pub struct Postgres {
    /// `postgres://…`, without a database.
    server: String,
    /// Empty when the server is not ours.
    cluster: Option<Arc<Mutex<Cluster>>>,
}

impl Postgres {
    /// The server that all tests of this process share.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, with the command that installs it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        spawn_blocking(|| {
            SHARED.get_or_init(|| match std::env::var("WEIR_TEST_PG_URL") {
                Ok(url) => Self {
                    server: without_database(&url).to_owned(),
                    cluster: None,
                },
                Err(_) => Self::own(),
            })
        })
        .await
        .expect("PostgreSQL starts")
    }

    /// A server for this test alone, which may stop it and start it again.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, with the command that installs it.
    pub async fn start() -> Self {
        spawn_blocking(Self::own).await.expect("PostgreSQL starts")
    }

    fn own() -> Self {
        let cluster = Cluster::start();
        Self {
            server: format!("postgres://weir@127.0.0.1:{}", cluster.port()),
            cluster: Some(Arc::new(Mutex::new(cluster))),
        }
    }

    /// The URL of the server's maintenance database.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        let (server, options) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{server}/{database}{mark}{options}")
    }

    /// Stops the server as a crash would: connections break, what was committed stays.
    ///
    /// # Panics
    /// When the server is not this test's own.
    pub async fn stop(&self) {
        self.with_cluster(Cluster::stop).await;
    }

    /// Starts the server again on the port that it had.
    ///
    /// # Panics
    /// When the server is not this test's own, or runs already.
    pub async fn start_again(&self) {
        self.with_cluster(Cluster::launch).await;
    }

    async fn with_cluster(&self, act: fn(&mut Cluster)) {
        let cluster = self
            .cluster
            .clone()
            .expect("a test that stops the server starts its own with `Postgres::start`");
        spawn_blocking(move || act(&mut cluster.lock().expect("no test panicked in here")))
            .await
            .expect("the server obeys");
    }

    /// An empty database that no other test knows.
    pub async fn create_database(&self) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir_{}_{number}", std::process::id());
        psql(&self.url(), &format!("DROP DATABASE IF EXISTS {name}")).await;
        psql(&self.url(), &format!("CREATE DATABASE {name}")).await;
        Database {
            url: self.url_of(&name),
            name,
        }
    }

    /// What `psql` prints for a statement in the maintenance database.
    pub async fn psql(&self, sql: &str) -> String {
        psql(&self.url(), sql).await
    }
}

/// One database of a server.
#[derive(Clone, Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://…/name`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the real `psql` prints for a statement: one line a row, columns divided by `|`.
    ///
    /// # Panics
    /// With psql's words, when the statement fails.
    pub async fn psql(&self, sql: &str) -> String {
        psql(&self.url, sql).await
    }

    /// The one number that a statement gives.
    ///
    /// # Panics
    /// When the statement fails or gives something else.
    pub async fn count(&self, sql: &str) -> u64 {
        let printed = self.psql(sql).await;
        printed
            .parse()
            .unwrap_or_else(|_| panic!("`{sql}` gave `{printed}`, not a number"))
    }

    /// The one number that a statement gives; `None` while the server is away or the table is missing.
    pub async fn try_count(&self, sql: &str) -> Option<u64> {
        self.try_psql(sql).await?.parse().ok()
    }

    /// What `psql` prints; `None` while the server is away or the table is missing.
    pub async fn try_psql(&self, sql: &str) -> Option<String> {
        let finished = run_psql(&self.url, sql).await;
        (finished.code == Some(0)).then(|| finished.stdout.trim_end().to_owned())
    }
}

async fn psql(url: &str, sql: &str) -> String {
    let finished = run_psql(url, sql).await.succeeded();
    finished.stdout.trim_end().to_owned()
}

async fn run_psql(url: &str, sql: &str) -> programs::Finished {
    let mut command = Command::new(programs::find("psql"));
    command
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url])
        .args(["-c", sql])
        .env("PGCONNECT_TIMEOUT", "5")
        // A message about an existing table is not worth a line.
        .env("PGOPTIONS", "-c client_min_messages=warning");
    programs::run(&mut command).await
}

/// `postgres://user@host:port/db?x=y` without `/db`.
fn without_database(url: &str) -> String {
    let (base, options) = url.split_once('?').unwrap_or((url, ""));
    let after_scheme = base.find("://").map_or(0, |at| at + 3);
    let server = match base[after_scheme..].find('/') {
        Some(slash) => &base[..after_scheme + slash],
        None => base,
    };
    if options.is_empty() {
        server.to_owned()
    } else {
        format!("{server}?{options}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_taken_off_a_url() {
        assert_eq!(
            without_database("postgres://u:p@h:1/d"),
            "postgres://u:p@h:1"
        );
        assert_eq!(without_database("postgres://h"), "postgres://h");
        assert_eq!(
            without_database("postgres://h/d?sslmode=disable"),
            "postgres://h?sslmode=disable"
        );
    }

    #[tokio::test]
    async fn a_stopped_server_comes_back_with_its_rows() {
        let postgres = Postgres::start().await;
        let database = postgres.create_database().await;
        database.psql("CREATE TABLE t (a int)").await;
        database.psql("INSERT INTO t VALUES (1), (2)").await;

        postgres.stop().await;
        assert_eq!(database.try_count("SELECT count(*) FROM t").await, None);
        postgres.start_again().await;

        assert_eq!(database.count("SELECT count(*) FROM t").await, 2);
    }

    #[tokio::test]
    async fn databases_of_one_server_know_nothing_of_each_other() {
        let postgres = Postgres::shared().await;
        let (one, other) = (
            postgres.create_database().await,
            postgres.create_database().await,
        );
        one.psql("CREATE TABLE t (a int)").await;
        assert_eq!(other.psql("SELECT to_regclass('t')").await, "");
        assert_ne!(one.name(), other.name());
    }
}
