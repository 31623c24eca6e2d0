//! Rows in a real SQLite file.

use crate::bench::{Bench, spec};
use weir_sinks::{ConnectorConfig, SinkState, open};

/// What a SELECT gives, read by another connection.
pub(crate) async fn query(bench: &Bench, sql: &str) -> Vec<String> {
    run(&bench.folder.path().join("x.db"), sql).await
}

/// The first column of what a statement gives.
pub(crate) async fn run(path: &std::path::Path, sql: &str) -> Vec<String> {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let mut connection: SqliteConnection = options.connect().await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(&mut connection)
        .await
        .unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

pub(crate) const SQLITE: &str = "type = \"sqlite\"\npath = \"x.db\"";

#[tokio::test]
async fn rows_arrive_in_a_table_that_is_made_for_them() {
    let bench = Bench::new(
        "table = \"readings\"\ncreate_table = \"if_missing\"",
        Some(SQLITE),
    );
    bench.push(r#"{"device":"a1","temp":31,"ok":true,"tags":["x"]}"#);
    bench.push(r#"{"device":"a2","temp":31.5,"ok":false}"#);
    let counters = bench.settled().await;
    assert_eq!(counters.delivered, 2, "{:?}", bench.sink.last_error());
    let rows = query(&bench, "SELECT device || '|' || temp || '|' || ok || '|' || coalesce(tags, '-') FROM readings ORDER BY device").await;
    assert_eq!(rows, [r#"a1|31.0|1|["x"]"#, "a2|31.5|0|-"]);
}

#[tokio::test]
async fn an_upsert_keeps_one_row_a_key_with_the_last_values() {
    let sink = "table = \"latest\"\ncreate_table = \"if_missing\"\non_conflict = { keys = [\"device\"], do = \"update\" }";
    let bench = Bench::new(sink, Some(SQLITE));
    for number in 0..50 {
        bench.push(&format!(r#"{{"device":"d{}","n":{number}}}"#, number % 3));
    }
    assert_eq!(
        bench.settled().await.delivered,
        50,
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(
        query(&bench, "SELECT device || n FROM latest ORDER BY 1").await,
        ["d048", "d149", "d247"]
    );
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_parked_and_the_rest_is_stored() {
    let bench = Bench::new("table = \"t\"", Some(SQLITE));
    // The table is not there yet: the sink waits and shows why.
    for number in 0..20 {
        bench.push(&format!(
            "{{\"n\":{}}}",
            if number == 13 {
                "null".into()
            } else {
                number.to_string()
            }
        ));
    }
    bench
        .wait("an attempt failed", |c| c.batches_failed > 0)
        .await;
    assert!(
        matches!(bench.sink.state(), SinkState::Paused { .. }),
        "{:?}",
        bench.sink.state()
    );
    assert_eq!(bench.sink.last_error().unwrap().error.code(), "E3204");
    {
        use sqlx::{Connection as _, Executor as _};
        let path = bench.folder.path().join("x.db");
        let mut connection = sqlx::SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap();
        connection
            .execute("CREATE TABLE t (n INTEGER NOT NULL)")
            .await
            .unwrap();
    }
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3201"]),
        (19, 1)
    );
    assert_eq!(query(&bench, "SELECT count(*) || '' FROM t").await, ["19"]);
    assert!(
        bench.dead_letters()[0]["reason"]
            .as_str()
            .unwrap()
            .contains("NOT NULL"),
        "{:?}",
        bench.dead_letters()
    );
}

#[tokio::test]
async fn an_own_statement_counts_writes() {
    let sink = r#"
        sql = '''INSERT INTO latest (device, n, writes) VALUES (:device, ${v.n}, 1)
                 ON CONFLICT (device) DO UPDATE SET n = excluded.n, writes = latest.writes + 1'''
    "#;
    let bench = Bench::new(sink, Some(SQLITE));
    {
        use sqlx::{Connection as _, Executor as _};
        let path = bench.folder.path().join("x.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true);
        let mut connection = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        connection
            .execute("CREATE TABLE latest (device TEXT PRIMARY KEY, n INTEGER, writes INTEGER)")
            .await
            .unwrap();
    }
    (0..30).for_each(|number| bench.push(&format!(r#"{{"device":"a","v":{{"n":{number}}}}}"#)));
    assert_eq!(
        bench.settled().await.delivered,
        30,
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(
        query(&bench, "SELECT n || '/' || writes FROM latest").await,
        ["29/30"]
    );
}

#[tokio::test]
async fn a_second_life_of_the_sink_is_not_held_back_by_the_positions_of_the_first() {
    let bench = Bench::new("table = \"t\"\ncreate_table = \"if_missing\"", Some(SQLITE));
    (0..100).for_each(|_| bench.push("{\"n\":1}"));
    bench.settled().await;
    bench.sink.drain(std::time::Duration::from_secs(10)).await;
    let config: ConnectorConfig = toml::from_str(SQLITE).unwrap();
    let spec = spec(
        "connector = \"far\"\ntable = \"t\"",
        Some((&config, bench.connector.as_ref().unwrap())),
        bench.folder.path(),
    );
    let again = open(&spec).unwrap();
    (0..5).for_each(|_| crate::bench::push(&again, "{\"n\":2}"));
    crate::bench::wait(&again, "the second life delivers", |c| c.delivered == 5).await;
    assert_eq!(query(&bench, "SELECT count(*) || '' FROM t").await, ["105"]);
    assert_eq!(
        query(
            &bench,
            "SELECT count(*) || ' ' || max(position) FROM weir_delivery_positions"
        )
        .await,
        ["1 5"]
    );
}

#[tokio::test]
async fn a_path_may_be_a_url_and_its_folder_is_made() {
    let bench = Bench::new(
        "table = \"t\"\ncreate_table = \"if_missing\"",
        Some("type = \"sqlite\"\nurl = \"sqlite://data/deep/y.db\""),
    );
    bench.push("{\"n\":1}");
    assert_eq!(
        bench.settled().await.delivered,
        1,
        "{:?}",
        bench.sink.last_error()
    );
    assert!(bench.folder.path().join("data/deep/y.db").exists());
}

async fn execute(bench: &Bench, sql: &'static str) {
    use sqlx::{Connection as _, Executor as _};
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(bench.folder.path().join("x.db"))
        .create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap();
    connection.execute(sql).await.unwrap();
}

const FAST: &str = "retry = { initial = \"10ms\", max = \"50ms\" }\n";

#[tokio::test]
async fn a_field_that_is_no_column_parks_its_row_and_nobody_elses() {
    let bench = Bench::new(&format!("{FAST}table = \"t\""), Some(SQLITE));
    execute(&bench, "CREATE TABLE t (n INTEGER)").await;
    for number in 0..30 {
        if number % 3 == 1 {
            bench.push(&format!("{{\"n\":{number},\"rssi\":-70}}"));
        } else {
            bench.push(&format!("{{\"N\":{number}}}"));
        }
    }
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered),
        (20, 10),
        "{:?}",
        bench.sink.last_error()
    );
    let letters = bench.dead_letters();
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("\"rssi\"") && reason.contains("\"t\""),
        "{reason}"
    );
    execute(&bench, "ALTER TABLE t ADD COLUMN rssi INTEGER").await;
    bench.push("{\"n\":30,\"rssi\":-71}");
    assert_eq!(bench.settled().await.delivered, 21);
}

#[tokio::test]
async fn a_named_column_that_does_not_exist_pauses_the_sink() {
    let bench = Bench::new(
        &format!("{FAST}table = \"t\"\ncolumns = {{ n = \"n\", extra = \"n\" }}"),
        Some(SQLITE),
    );
    execute(&bench, "CREATE TABLE t (n INTEGER)").await;
    bench.push("{\"n\":1}");
    bench
        .wait("several attempts were made", |c| c.retries >= 2)
        .await;
    assert!(matches!(bench.sink.state(), SinkState::Paused { .. }));
    execute(&bench, "ALTER TABLE t ADD COLUMN extra INTEGER").await;
    assert_eq!(bench.settled().await.delivered, 1);
}

#[tokio::test]
async fn a_value_that_the_statement_cannot_take_parks_its_row_alone() {
    let sink = format!("{FAST}sql = \"INSERT INTO t VALUES (json_extract(:j, '$.a'))\"");
    let bench = Bench::new(&sink, Some(SQLITE));
    execute(&bench, "CREATE TABLE t (a)").await;
    for number in 0..20 {
        let json = if number == 7 { "{" } else { "{\\\"a\\\":1}" };
        bench.push(&format!("{{\"j\":\"{json}\"}}"));
    }
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3201"]),
        (19, 1)
    );
    // The same code for a table that is gone is not the row's fault.
    execute(&bench, "DROP TABLE t").await;
    bench.push(r#"{"j":"{}"}"#);
    bench
        .wait("an attempt failed", |c| {
            c.inflight_rows == 1 && c.retries > 0
        })
        .await;
    assert_eq!(bench.sink.last_error().unwrap().error.code(), "E3204");
    execute(&bench, "CREATE TABLE t (a)").await;
    assert_eq!(bench.settled().await.delivered, 20);
}

#[tokio::test]
async fn tables_that_are_dropped_are_made_again() {
    let sink = format!("{FAST}table = \"t\"\ncreate_table = \"if_missing\"");
    let bench = Bench::new(&sink, Some(SQLITE));
    bench.push("{\"n\":1}");
    bench.settled().await;
    execute(&bench, "DROP TABLE t").await;
    bench.push("{\"n\":2}");
    assert_eq!(bench.settled().await.delivered, 2);
    execute(&bench, "DROP TABLE weir_delivery_positions").await;
    bench.push("{\"n\":3}");
    assert_eq!(bench.settled().await.delivered, 3);
    assert_eq!(query(&bench, "SELECT n || '' FROM t").await, ["2", "3"]);
}

#[tokio::test]
async fn a_relative_path_of_a_sinks_own_database_starts_at_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let path = format!("{up}{}/own.db", folder.path().display());
    let text = format!(
        "type = \"sqlite\"\npath = \"{path}\"\ntable = \"t\"\ncreate_table = \"if_missing\""
    );
    let data = tempfile::tempdir().unwrap();
    let sink = open(&spec(&text, None, &data.path().join("a/b/c"))).unwrap();
    crate::bench::push(&sink, "{\"n\":1}");
    crate::bench::wait(&sink, "the row is stored", |c| c.delivered == 1).await;
    assert!(folder.path().join("own.db").exists());
}
