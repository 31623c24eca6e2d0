//! Rows in a real Postgres: types, poison rows, servers that go away, and COMMITs whose answer is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_sinks::SinkState;
use weir_test_support::{Database, Postgres};

use crate::bench::Bench;

async fn database() -> Database {
    Postgres::shared().await.create_database().await
}

fn connector(url: &str) -> String {
    format!("type = \"postgres\"\nurl = \"{url}\"\npool = {{ acquire_timeout = \"2s\" }}")
}

#[tokio::test]
async fn values_take_the_types_of_the_tables_columns() {
    let database = database().await;
    database
        .psql(
            "CREATE SCHEMA iot; CREATE TABLE iot.readings (device varchar(20), temp double precision, n integer, \
             at timestamptz, ok boolean, extra jsonb, tags text[], raw bytea, id uuid, price numeric(6,2), gone int DEFAULT 7)",
        )
        .await;
    let bench = Bench::new("table = \"iot.readings\"", Some(&connector(database.url())));
    bench.push(
        r#"{"device":"a'1","temp":31.5,"n":3.0,"at":"2026-01-02T03:04:05Z","ok":true,"extra":{"a":[1,null]},
            "tags":["x","y\"z"],"raw":"AB","id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","price":1.5}"#,
    );
    bench.push(r#"{"device":"b","temp":null}"#);
    let counters = bench.settled().await;
    assert_eq!(
        counters.delivered,
        2,
        "{:?} {:?}",
        bench.sink.last_error(),
        bench.dead_letters()
    );
    let row = database
        .psql(
            "SELECT device, temp, n, at AT TIME ZONE 'UTC', ok, extra, tags[2], raw, id, price, gone \
             FROM iot.readings WHERE device LIKE 'a%'",
        )
        .await;
    assert_eq!(
        row.trim(),
        "a'1|31.5|3|2026-01-02 03:04:05|t|{\"a\": [1, null]}|y\"z|\\x4142|6f9619ff-8b86-d011-b42d-00c04fc964ff|1.50|7"
    );
    // Fields that a row does not have keep the column's default.
    assert_eq!(
        database
            .psql("SELECT temp IS NULL, gone FROM iot.readings WHERE device = 'b'")
            .await
            .trim(),
        "t|7"
    );
}

/// [LESSON-22]
#[tokio::test]
async fn poison_rows_are_parked_with_the_reason_and_the_rest_of_the_batch_is_stored() {
    let database = database().await;
    database
        .psql("CREATE TABLE t (n integer PRIMARY KEY, s varchar(3))")
        .await;
    let bench = Bench::new("table = \"t\"", Some(&connector(database.url())));
    for number in 0..400 {
        match number {
            57 => bench.push(r#"{"n":"x57","s":"a"}"#),
            200 => bench.push(r#"{"n":3,"s":"dup"}"#),
            399 => bench.push(r#"{"n":399,"s":"too long"}"#),
            n => bench.push(&format!(r#"{{"n":{n},"s":"a"}}"#)),
        }
    }
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered),
        (397, 3),
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(database.count("SELECT count(*) FROM t").await, 397);
    let letters = bench.dead_letters();
    let reasons: Vec<_> = letters
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        reasons[0].contains("22P02")
            && reasons[1].contains("23505")
            && reasons[2].contains("22001"),
        "{reasons:?}"
    );
    assert_eq!(
        letters[2]["row"]["s"], "too long",
        "a length is refused, not cut"
    );
}

#[tokio::test]
async fn an_upsert_batch_with_repeated_keys_leaves_the_last_of_each() {
    let database = database().await;
    let sink = "table = \"latest\"\ncreate_table = \"if_missing\"\non_conflict = { keys = [\"device\"], do = \"update\" }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    for number in 0..200 {
        bench.push(&format!(r#"{{"device":"d{}","n":{number}}}"#, number % 3));
    }
    assert_eq!(
        bench.settled().await.delivered,
        200,
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(
        database
            .psql("SELECT device, n FROM latest ORDER BY 1")
            .await
            .trim(),
        "d0|198\nd1|199\nd2|197"
    );
}

#[tokio::test]
async fn a_partial_update_keeps_what_it_does_not_set() {
    let database = database().await;
    database
        .psql("CREATE TABLE seen (device text PRIMARY KEY, first int, last int)")
        .await;
    let sink = "table = \"seen\"\ncolumns = { device = \"device\", first = \"n\", last = \"n\" }\n\
                on_conflict = { keys = [\"device\"], do = \"update\", set = [\"last\"] }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    (0..20).for_each(|number| bench.push(&format!(r#"{{"device":"a","n":{number}}}"#)));
    assert_eq!(
        bench.settled().await.delivered,
        20,
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(
        database.psql("SELECT first, last FROM seen").await.trim(),
        "0|19"
    );
}

#[tokio::test]
async fn an_own_statement_takes_parameters_of_any_type() {
    let database = database().await;
    database.psql("CREATE TABLE last_seen (device text PRIMARY KEY, temp double precision, at timestamptz, tags int[])").await;
    let sink = r#"
        sql = '''
        INSERT INTO last_seen (device, temp, at, tags) VALUES (:device, :temp, :at, :tags) -- ':device'
        ON CONFLICT (device) DO UPDATE SET temp = EXCLUDED.temp, at = EXCLUDED.at
        WHERE last_seen.at < EXCLUDED.at;
        '''
    "#;
    let bench = Bench::new(sink, Some(&connector(database.url())));
    bench.push(r#"{"device":"a","temp":1,"at":"2026-01-01T00:00:02Z","tags":[1,2]}"#);
    bench.push(r#"{"device":"a","temp":2.5,"at":"2026-01-01T00:00:03Z"}"#);
    bench.push(r#"{"device":"a","temp":9,"at":"2026-01-01T00:00:01Z"}"#);
    bench.push(r#"{"device":"b","temp":"warm"}"#);
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered),
        (3, 1),
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(
        database
            .psql("SELECT device, temp, tags FROM last_seen")
            .await
            .trim(),
        "a|2.5|{1,2}"
    );
}

#[tokio::test]
async fn a_missing_table_pauses_the_sink_until_somebody_makes_it() {
    let database = database().await;
    let sink = "table = \"t\"\ncolumns = { n = \"n\", extra = \"extra\" }\nretry = { initial = \"10ms\", max = \"100ms\" }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    (0..10).for_each(|number| bench.push(&format!("{{\"n\":{number},\"extra\":1}}")));
    bench
        .wait("an attempt failed", |c| c.batches_failed > 0)
        .await;
    assert!(
        matches!(bench.sink.state(), SinkState::Paused { .. }),
        "{:?}",
        bench.sink.state()
    );
    assert_eq!(bench.sink.last_error().unwrap().error.code(), "E3204");
    database.psql("CREATE TABLE t (n int)").await;
    bench
        .wait("the missing column shows", |_| {
            bench
                .sink
                .last_error()
                .unwrap()
                .error
                .to_string()
                .contains("no column \"extra\"")
        })
        .await;
    database.psql("ALTER TABLE t ADD COLUMN extra int").await;
    assert_eq!(bench.settled().await.delivered, 10);
    assert_eq!(bench.sink.state(), SinkState::Up);
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_and_in_the_middle_costs_nothing() {
    let server = Postgres::start().await;
    let database = server.create_database().await;
    database.psql("CREATE TABLE t (n int)").await;
    server.stop().await;
    let sink =
        "table = \"t\"\nretry = { initial = \"20ms\", max = \"200ms\" }\nbatch = { max_rows = 50 }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    (0..500).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    bench
        .wait("an attempt failed", |c| c.batches_failed > 0)
        .await;
    assert_eq!(
        bench.connector.as_ref().unwrap().state().link,
        weir_sinks::LinkState::Down
    );
    server.start_again().await;
    bench
        .wait("some rows are stored", |c| c.delivered > 0)
        .await;
    server.stop().await;
    (500..1000).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    server.start_again().await;
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (1000, 0));
    assert_eq!(
        database
            .psql("SELECT count(*), count(DISTINCT n) FROM t")
            .await
            .trim(),
        "1000|1000"
    );
    assert_eq!(
        bench.connector.as_ref().unwrap().state().link,
        weir_sinks::LinkState::Up
    );
}

#[tokio::test]
async fn backends_killed_under_load_double_and_lose_nothing() {
    let database = database().await;
    database.psql("CREATE TABLE t (n int)").await;
    let sink =
        "table = \"t\"\nretry = { initial = \"1ms\", max = \"20ms\" }\nbatch = { max_rows = 20 }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    for round in 0..15 {
        (0..100).for_each(|number| bench.push(&format!("{{\"n\":{}}}", round * 100 + number)));
        database.psql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'weir' AND datname = current_database()").await;
    }
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered),
        (1500, 0),
        "{:?}",
        bench.sink.last_error()
    );
    assert_eq!(
        database
            .psql("SELECT count(*), count(DISTINCT n) FROM t")
            .await
            .trim(),
        "1500|1500"
    );
}

/// Stands between sink and server and breaks connections around COMMIT: every other time before the server has seen
/// it, every other time after the server has answered it.
async fn cutting_proxy(server: String, cuts: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let done = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&done);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(relay(client, server, Arc::clone(&counted), cuts));
        }
    });
    (port, done)
}

async fn relay(mut client: TcpStream, mut server: TcpStream, done: Arc<AtomicUsize>, cuts: usize) {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let commit = up[..length].windows(6).any(|part| part == b"COMMIT");
                if commit && done.load(Ordering::SeqCst) < cuts {
                    let cut = done.fetch_add(1, Ordering::SeqCst);
                    if cut.is_multiple_of(2) {
                        // The server commits, and nobody hears of it.
                        server.write_all(&up[..length]).await.unwrap();
                        let _ = server.read(&mut down).await;
                    }
                    return;
                }
                if server.write_all(&up[..length]).await.is_err() { return; }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() { return; }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_stores_its_rows_once() {
    let database = database().await;
    database.psql("CREATE TABLE t (n int)").await;
    // The first COMMIT on a fresh database is the migration's.
    let warm = Bench::new("table = \"t\"", Some(&connector(database.url())));
    warm.push("{\"n\":-1}");
    warm.settled().await;
    let url = database.url();
    let address = url
        .split('@')
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let (port, cuts) = cutting_proxy(address.clone(), 12).await;
    let proxied = url.replace(&address, &format!("127.0.0.1:{port}"));
    let sink =
        "table = \"t\"\nretry = { initial = \"1ms\", max = \"5ms\" }\nbatch = { max_rows = 10 }";
    let bench = Bench::new(sink, Some(&connector(&proxied)));
    (0..200).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    let counters = bench.settled().await;
    assert_eq!(
        cuts.load(Ordering::SeqCst),
        12,
        "the proxy has cut around COMMIT"
    );
    assert_eq!(
        (counters.delivered, counters.dead_lettered),
        (200, 0),
        "{:?}",
        bench.sink.last_error()
    );
    assert!(counters.retries >= 12);
    assert_eq!(
        database
            .psql("SELECT count(*), count(DISTINCT n) FROM t WHERE n >= 0")
            .await
            .trim(),
        "200|200"
    );
    assert_eq!(
        database
            .psql("SELECT max(position) FROM weir_delivery_positions")
            .await
            .trim(),
        "200"
    );
}

#[tokio::test]
async fn two_brokers_that_start_together_share_weirs_tables_and_leave_other_tools_alone() {
    let database = database().await;
    database
        .psql("CREATE TABLE _sqlx_migrations (mine int); CREATE TABLE t (n int)")
        .await;
    let benches: Vec<_> = (0..4)
        .map(|_| Bench::new("table = \"t\"", Some(&connector(database.url()))))
        .collect();
    benches.iter().for_each(|bench| bench.push("{\"n\":1}"));
    for bench in &benches {
        assert_eq!(
            bench.settled().await.delivered,
            1,
            "{:?}",
            bench.sink.last_error()
        );
    }
    assert_eq!(database.count("SELECT count(*) FROM t").await, 4);
    assert_eq!(
        database
            .psql("SELECT count(*) FROM _sqlx_migrations")
            .await
            .trim(),
        "0"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_and_shown() {
    // Accepts connections and says nothing: a hung far side without a reset.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let config = format!(
        "type = \"postgres\"\nurl = \"postgres://weir@127.0.0.1:{port}/x\"\npool = {{ acquire_timeout = \"300ms\" }}"
    );
    let bench = Bench::new(
        "table = \"t\"\nretry = { initial = \"10ms\" }",
        Some(&config),
    );
    bench.push("{}");
    bench
        .wait("an attempt failed", |c| c.batches_failed > 0)
        .await;
    assert_eq!(bench.sink.last_error().unwrap().error.code(), "E3403");
    let drained = bench.sink.drain(Duration::from_millis(500)).await;
    assert_eq!(drained.dead_lettered, 1);
    held.abort();
}

#[tokio::test]
async fn a_field_that_is_no_column_parks_its_row_and_nobody_elses() {
    let database = database().await;
    database.psql("CREATE TABLE t (n int)").await;
    let sink = "table = \"t\"\nretry = { initial = \"10ms\", max = \"50ms\" }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    for number in 0..300 {
        if number % 3 == 1 {
            bench.push(&format!("{{\"n\":{number},\"rssi\":-70}}"));
        } else {
            bench.push(&format!("{{\"n\":{number}}}"));
        }
    }
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (200, 100));
    let letters = bench.dead_letters();
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("\"rssi\"") && reason.contains("\"t\""),
        "{reason}"
    );
    // A column that somebody adds is seen by the next row.
    database.psql("ALTER TABLE t ADD COLUMN rssi int").await;
    bench.push("{\"n\":300,\"rssi\":-71}");
    assert_eq!(bench.settled().await.delivered, 201);
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_parked_with_its_code_and_the_rest_is_stored() {
    let database = database().await;
    database
        .psql("CREATE TABLE t (n smallint, s text, x double precision)")
        .await;
    let bench = Bench::new("table = \"t\"", Some(&connector(database.url())));
    bench.push(r#"{"n":1,"s":"a","x":1}"#);
    bench.push(r#"{"n":2,"s":"nul \u0000 byte","x":1}"#);
    bench.push(r#"{"n":70000,"s":"out of range","x":1}"#);
    bench.push(r#"{"n":3,"s":"b","x":2}"#);
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (2, 2));
    let letters = bench.dead_letters();
    let of = |code: &str| {
        letters
            .iter()
            .find(|letter| letter["code"] == code)
            .unwrap()
    };
    assert_eq!(of("E3202")["row"]["n"], 2);
    let range = of("E3201");
    assert_eq!(range["row"]["n"], 70_000);
    assert!(
        range["reason"].as_str().unwrap().contains("22003"),
        "{range}"
    );
    assert_eq!(database.count("SELECT sum(n) FROM t").await, 4);
}

#[tokio::test]
async fn a_row_too_large_for_postgres_is_parked_and_the_rest_is_stored() {
    let database = database().await;
    // What an index holds is bounded; a text may have a gigabyte.
    database
        .psql("CREATE TABLE t (n int, s text); CREATE INDEX ON t (s)")
        .await;
    let bench = Bench::new("table = \"t\"", Some(&connector(database.url())));
    bench.push(r#"{"n":1,"s":"a"}"#);
    let mut noise = 12_345_u64;
    let blob: String = (0..40_000)
        .map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + u8::try_from((noise >> 33) % 90).unwrap()).to_string()
        })
        .filter(|c| c != "\"" && c != "\\")
        .collect();
    bench.push(&format!("{{\"n\":2,\"s\":\"{blob}\"}}"));
    bench.push(r#"{"n":3,"s":"b"}"#);
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3201"]),
        (2, 1)
    );
    assert_eq!(bench.dead_letters()[0]["row"]["n"], 2);
}

#[tokio::test]
async fn a_column_that_is_dropped_pauses_the_sink_until_it_is_back() {
    for columns in ["", "columns = { n = \"n\", extra = \"extra\" }\n"] {
        let database = database().await;
        database.psql("CREATE TABLE t (n int, extra int)").await;
        let sink =
            format!("table = \"t\"\n{columns}retry = {{ initial = \"10ms\", max = \"50ms\" }}");
        let bench = Bench::new(&sink, Some(&connector(database.url())));
        bench.push("{\"n\":1,\"extra\":1}");
        bench.settled().await;
        database.psql("ALTER TABLE t DROP COLUMN extra").await;
        (2..10).for_each(|number| bench.push(&format!("{{\"n\":{number},\"extra\":1}}")));
        bench
            .wait("the sink is paused", |_| {
                matches!(bench.sink.state(), SinkState::Paused { .. })
            })
            .await;
        let error = bench.sink.last_error().unwrap().error;
        assert_eq!(error.code(), "E3204");
        assert!(error.to_string().contains("column \"extra\""), "{error}");
        database.psql("ALTER TABLE t ADD COLUMN extra int").await;
        let counters = bench.settled().await;
        assert_eq!(
            (counters.delivered, counters.dead_lettered),
            (9, 0),
            "{columns}"
        );
        assert_eq!(database.count("SELECT count(DISTINCT n) FROM t").await, 9);
    }
}

#[tokio::test]
async fn a_permission_that_is_revoked_pauses_the_sink_until_it_is_given_back() {
    let database = database().await;
    let role = format!("weir_r{:x}", rand::random::<u64>());
    database
        .psql(&format!(
            "CREATE TABLE t (n int); CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}; GRANT INSERT, SELECT ON t TO {role}"
        ))
        .await;
    let (scheme, rest) = database.url().split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let sink = "table = \"t\"\nretry = { initial = \"10ms\", max = \"50ms\" }";
    let bench = Bench::new(sink, Some(&connector(&format!("{scheme}://{role}@{host}"))));
    bench.push("{\"n\":1}");
    bench.settled().await;
    database
        .psql(&format!("REVOKE INSERT ON t FROM {role}"))
        .await;
    bench.push("{\"n\":2}");
    bench
        .wait("the sink is paused", |_| {
            matches!(bench.sink.state(), SinkState::Paused { .. })
        })
        .await;
    let error = bench.sink.last_error().unwrap().error;
    assert_eq!(error.code(), "E3204");
    assert!(error.to_string().contains("42501"), "{error}");
    database.psql(&format!("GRANT INSERT ON t TO {role}")).await;
    assert_eq!(bench.settled().await.delivered, 2);
    assert_eq!(bench.sink.state(), SinkState::Up);
}

#[tokio::test]
async fn tables_that_are_dropped_are_made_again() {
    let database = database().await;
    let sink = "table = \"t\"\ncreate_table = \"if_missing\"\nretry = { initial = \"10ms\", max = \"50ms\" }";
    let bench = Bench::new(sink, Some(&connector(database.url())));
    bench.push("{\"n\":1}");
    bench.settled().await;
    database.psql("DROP TABLE t").await;
    bench.push("{\"n\":2}");
    assert_eq!(bench.settled().await.delivered, 2);
    database.psql("DROP TABLE weir_delivery_positions").await;
    bench.push("{\"n\":3}");
    assert_eq!(bench.settled().await.delivered, 3);
    database
        .psql("DROP TABLE t, weir_delivery_positions, weir_migrations")
        .await;
    bench.push("{\"n\":4}");
    assert_eq!(bench.settled().await.delivered, 4);
    assert_eq!(database.count("SELECT n FROM t").await, 4);
}

/// Stands between sink and server; every request takes `delay` longer.
async fn slow_proxy(server: String, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_server, &mut to_client).await },
                );
                let mut up = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_client.read(&mut up).await {
                    tokio::time::sleep(delay).await;
                    if to_server.write_all(&up[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_slow_link_carries_a_batch_of_own_statements_however_long_all_of_them_take() {
    let database = database().await;
    database.psql("CREATE TABLE t (n int)").await;
    let url = database.url();
    let address = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let port = slow_proxy(address.to_owned(), Duration::from_millis(200)).await;
    let connector = format!(
        "{}\nstatement_timeout = \"500ms\"",
        connector(&url.replace(address, &format!("127.0.0.1:{port}")))
    );
    // Weir's own tables are not what is slow here.
    let warm = Bench::new("table = \"t\"", Some(&self::connector(database.url())));
    warm.push("{\"n\":-1}");
    warm.settled().await;
    let bench = Bench::new(
        "sql = \"INSERT INTO t VALUES (:n)\"\nbatch = { max_rows = 40, max_wait = \"10s\" }",
        Some(&connector),
    );
    (0..40).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.retries),
        (40, 0),
        "{:?}",
        bench.sink.last_error()
    );
}
