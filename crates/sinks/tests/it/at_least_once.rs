//! Databases in which weir may make nothing: the table made by somebody else, or none at all and an id in each row.

use std::path::Path;

use weir_sinks::SinkState;
use weir_test_support::{Database, Postgres, wait_until};

use crate::bench::{Bench, PATIENCE};
use crate::durable::{Life, log, numbered};
use crate::sqlite::run;

/// A login that may create nothing, and the URL that it uses.
async fn login(database: &Database) -> (String, String) {
    let role = format!("weir_r{:x}", rand::random::<u64>());
    let made = format!("REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN");
    database.psql(&made).await;
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let url = format!("{scheme}://{role}@{host}");
    (role, format!("type = \"postgres\"\nurl = \"{url}\""))
}

const BY_ID: &str = "delivery = \"at_least_once\"\nmessage_id = \"id\"\n";

/// Some rows, and the same again for those whose settling a crash took back, with some more.
async fn through_a_crash(connector: &str, folder: &Path, between: impl AsyncFn()) {
    let log = log();
    let life = Life::begin(connector, BY_ID, &log, folder);
    life.put(1..=50);
    between().await;
    life.put(51..=100);
    life.settled().await;
    life.end().await;
    log.crash_before_settling(numbered(41..=100));
    let life = Life::begin(connector, BY_ID, &log, folder);
    life.put(101..=120);
    life.settled().await;
    let counters = life.sink.counters();
    assert_eq!((counters.delivered, counters.dead_lettered), (80, 0));
    life.end().await;
}

#[tokio::test]
async fn a_login_that_may_not_create_has_each_row_at_least_once_and_once_by_its_id() {
    for unique in ["", " UNIQUE"] {
        let folder = tempfile::tempdir().unwrap();
        let database = Postgres::shared().await.create_database().await;
        let (role, connector) = login(&database).await;
        database
            .psql(&format!(
                "CREATE TABLE t (n bigint, id uuid NOT NULL{unique}); GRANT INSERT, SELECT ON t TO {role}"
            ))
            .await;
        through_a_crash(&connector, folder.path(), async || {
            database.psql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'weir' AND datname = current_database()").await;
        })
        .await;
        let counts = database
            .psql("SELECT count(DISTINCT n), count(DISTINCT id), count(DISTINCT (n, id)) FROM t")
            .await;
        assert_eq!(counts.trim(), "120|120|120");
        let rows = database.count("SELECT count(*) FROM t").await;
        if unique.is_empty() {
            assert!(rows >= 180, "{rows} rows, sixty of which came twice");
        } else {
            assert_eq!(rows, 120);
        }
        let own = "SELECT count(*) FROM pg_class WHERE relname LIKE 'weir%'";
        assert_eq!(database.count(own).await, 0, "nothing of weir's own");
    }
}

#[tokio::test]
async fn a_sqlite_file_without_weirs_table_has_each_row_at_least_once_and_once_by_its_id() {
    for (unique, expected) in [("", "180"), (" PRIMARY KEY", "120")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("far.db");
        run(
            &path,
            &format!("CREATE TABLE t (n INTEGER, id TEXT{unique})"),
        )
        .await;
        let connector = format!("type = \"sqlite\"\npath = \"{}\"", path.display());
        through_a_crash(&connector, folder.path(), async || {}).await;
        let counts = "SELECT count(DISTINCT n) || '|' || count(DISTINCT id) FROM t";
        assert_eq!(run(&path, counts).await, ["120|120"]);
        assert_eq!(run(&path, "SELECT count(*) || '' FROM t").await, [expected]);
        let own = "SELECT count(*) || '' FROM sqlite_master WHERE name LIKE 'weir%'";
        assert_eq!(run(&path, own).await, ["0"]);
    }
}

/// The statements between the words around them.
fn offered(text: &str) -> &str {
    let (_, rest) = text.split_once("who may: ").unwrap();
    rest.split_once(" Or do without").unwrap().0
}

#[tokio::test]
async fn weirs_table_may_be_made_by_somebody_else_from_the_statements_that_are_offered() {
    let database = Postgres::shared().await.create_database().await;
    let (role, connector) = login(&database).await;
    database
        .psql(&format!(
            "CREATE TABLE t (n int); GRANT INSERT ON t TO {role}"
        ))
        .await;
    let sink = "table = \"t\"\nretry = { initial = \"10ms\", max = \"50ms\" }";
    let told = async |bench: &Bench| {
        wait_until("the sink is paused", PATIENCE, || async {
            let last = bench.sink.last_error();
            matches!(bench.sink.state(), SinkState::Paused { .. })
                && last.is_some_and(|last| last.error.code() == "E3214")
        })
        .await;
        bench.sink.last_error().unwrap().error.to_string()
    };
    let bench = Bench::new(sink, Some(&connector));
    bench.push("{\"n\":1}");
    let text = told(&bench).await;
    assert!(text.contains("permission denied for schema"), "{text}");
    database.psql(offered(&text)).await;
    assert_eq!(bench.settled().await.delivered, 1);
    assert_eq!(bench.sink.state(), SinkState::Up);
    // A table that somebody has made from the statements of an earlier version.
    database
        .psql("ALTER TABLE weir_delivery_positions DROP COLUMN fence")
        .await;
    let bench = Bench::new(sink, Some(&connector));
    bench.push("{\"n\":2}");
    let text = told(&bench).await;
    assert!(text.contains("must be owner"), "{text}");
    database.psql(offered(&text)).await;
    assert_eq!(bench.settled().await.delivered, 1);
    assert_eq!(database.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn an_old_table_that_somebody_else_has_made_is_mended_and_no_lock_is_left() {
    let database = Postgres::shared().await.create_database().await;
    let old = include_str!("../../../../migrations/postgres/0001_delivery_positions.sql");
    database.psql("CREATE TABLE t (n int)").await;
    database.psql(old).await;
    let connector = format!("type = \"postgres\"\nurl = \"{}\"", database.url());
    let bench = Bench::new("table = \"t\"", Some(&connector));
    bench.push("{\"n\":1}");
    let counters = bench.settled().await;
    assert_eq!(counters.delivered, 1, "{:?}", bench.sink.last_error());
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(database.count(locks).await, 0);
}

#[tokio::test]
async fn an_own_statement_has_a_place_for_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("far.db");
    run(&path, "CREATE TABLE t (n INTEGER, id TEXT UNIQUE)").await;
    let connector = format!("type = \"sqlite\"\npath = \"{}\"", path.display());
    let sink = "delivery = \"at_least_once\"\nmessage_id = \"id\"\n\
                sql = \"INSERT INTO t (n, id) VALUES (:n, :id) ON CONFLICT DO NOTHING\"";
    let bench = Bench::new(sink, Some(&connector));
    (1..=3).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    assert_eq!(bench.settled().await.delivered, 3);
    let rows = "SELECT count(DISTINCT id) || ' ' || min(length(id)) FROM t";
    assert_eq!(run(&path, rows).await, ["3 32"]);
}

#[tokio::test]
async fn a_table_that_weir_makes_lets_no_two_rows_have_one_id() {
    let database = Postgres::shared().await.create_database().await;
    let sqlite = "type = \"sqlite\"\npath = \"x.db\"".to_owned();
    let postgres = format!("type = \"postgres\"\nurl = \"{}\"", database.url());
    for connector in [sqlite, postgres] {
        let folder = tempfile::tempdir().unwrap();
        let log = log();
        let more = format!("{BY_ID}create_table = \"if_missing\"\n");
        let life = Life::begin(&connector, &more, &log, folder.path());
        life.put(1..=10);
        life.settled().await;
        life.end().await;
        log.crash_before_settling(numbered(1..=10));
        let life = Life::begin(&connector, &more, &log, folder.path());
        life.settled().await;
        assert_eq!(life.sink.counters().delivered, 10);
        life.end().await;
        let rows = if connector.contains("sqlite") {
            run(&folder.path().join("x.db"), "SELECT count(*) || '' FROM t").await
        } else {
            vec![database.count("SELECT count(*) FROM t").await.to_string()]
        };
        assert_eq!(rows, ["10"]);
    }
}

#[tokio::test]
async fn a_column_for_the_id_that_is_not_there_pauses_the_sink_and_parks_no_row() {
    let database = Postgres::shared().await.create_database().await;
    database.psql("CREATE TABLE t (n int)").await;
    let connector = format!("type = \"postgres\"\nurl = \"{}\"", database.url());
    let sink = "table = \"t\"\nmessage_id = \"id\"\nretry = { initial = \"10ms\", max = \"50ms\" }";
    let bench = Bench::new(sink, Some(&connector));
    bench.push("{\"n\":1}");
    bench
        .wait("the sink is paused", |_| {
            matches!(bench.sink.state(), SinkState::Paused { .. })
        })
        .await;
    let error = bench.sink.last_error().unwrap().error;
    assert_eq!(error.code(), "E3204");
    assert!(error.to_string().contains("no column \"id\""), "{error}");
    database.psql("ALTER TABLE t ADD COLUMN id text").await;
    assert_eq!(bench.settled().await.delivered, 1);
    let id = database.psql("SELECT length(id) FROM t").await;
    assert_eq!(id.trim(), "32");
}
