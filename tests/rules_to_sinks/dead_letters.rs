//! Rows that a database refuses: kept with the reason in the store, the rest of their batch stored; looked at, tried again,
//! dropped by an operator.

use crate::WEIR;
use serde_json::Value as Json;
use std::fs;
use std::time::Duration;
use weir_test_support::{Database, LinePublisher, Postgres, Site, Weir, mosquitto_pub, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

const SINK: [(&str, &str); 2] = [("rule", "plant/numbers"), ("sink", "history")];

fn rule(more: &str) -> String {
    format!(
        "sql = '''SELECT payload.n AS n FROM \"n\"'''\n\
         [[sinks]]\n\
         id = \"history\"\n\
         connector = \"db\"\n\
         table = \"numbers\"\n\
         retry = {{ initial = \"20ms\", max = \"100ms\" }}\n\
         batch = {{ max_rows = 100, max_wait = \"300ms\" }}\n{more}"
    )
}

/// A site whose table takes every number but 13 and 14.
async fn site(more: &str) -> (Site, Database) {
    let database = Postgres::shared().await.create_database().await;
    database
        .psql("CREATE TABLE numbers (n int CHECK (n NOT IN (13, 14)))")
        .await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    site.rule("plant/numbers", &rule(more));
    (site, database)
}

async fn publish(weir: &Weir, numbers: impl IntoIterator<Item = u32>) {
    let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", "n", "-q", "1"]);
    let lines = numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n"));
    publisher.send(&lines.collect::<String>()).await;
    publisher.finish().await;
}

/// The value of a counter of the sink; the identity must hold whenever it is looked at.
async fn counter(weir: &Weir, name: &str) -> u64 {
    let (_, text) = weir.get("/weir/v1/sinks").await;
    let sinks: Json = serde_json::from_str(&text).unwrap();
    let sink = &sinks["items"][0];
    let of = |key: &str| sink[key].as_u64().unwrap();
    assert_eq!(
        of("rows_in"),
        of("delivered") + of("dropped") + of("dead_lettered") + of("buffer_rows") + of("inflight"),
        "{sink}"
    );
    of(name)
}

async fn until(weir: &Weir, name: &str, value: u64) {
    wait_until(&format!("{name} is {value}"), PATIENCE, || async {
        counter(weir, name).await == value
    })
    .await;
}

async fn letters(weir: &Weir) -> Vec<Json> {
    let listed = weir.command(&["dlq", "ls", "--json"]).await.succeeded();
    let listed: Json = serde_json::from_str(&listed.stdout).unwrap();
    listed["dead_letters"].as_array().unwrap().clone()
}

async fn gauge(weir: &Weir, name: &str) -> f64 {
    weir.metric(name, &SINK).await
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_a_dead_letter_and_the_rest_is_stored() {
    let (site, database) = site("").await;
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=40).await;
    until(&weir, "delivered", 38).await;
    until(&weir, "dead_lettered", 2).await;
    assert_eq!(
        database
            .count("SELECT count(DISTINCT n) FROM numbers")
            .await,
        38
    );

    let found = letters(&weir).await;
    let rows: Vec<_> = found
        .iter()
        .map(|letter| letter["row"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [13, 14], "{found:?}");
    assert_eq!(found[0]["code"], "E3201");
    let reason = found[0]["reason"].as_str().unwrap();
    assert!(reason.contains("numbers_n_check"), "{reason}");
    let text = weir.command(&["dlq", "ls"]).await.succeeded().stdout;
    assert!(
        text.contains("plant/numbers/history") && text.contains("E3201"),
        "{text}"
    );
    assert!((gauge(&weir, "weir_dead_letter_rows").await - 2.0).abs() < 0.1);
    assert!(gauge(&weir, "weir_dead_letter_bytes").await > 100.0);
    let (_, metrics) = weir.get("/metrics").await;
    assert!(
        metrics.contains("weir_dead_letter_oldest_age_seconds{"),
        "{metrics}"
    );
    assert!(
        !site.path().join("data/dead_letters").exists(),
        "no file beside the store"
    );
    let id = found[1]["id"].as_str().unwrap();
    let shown = weir.command(&["dlq", "show", id]).await.succeeded().stdout;
    let shown: Json = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown, found[1]);

    weir.kill().await;
    let weir = site.start(WEIR).await;
    assert_eq!(
        letters(&weir).await,
        found,
        "neither lost nor doubled by a kill"
    );
}

#[tokio::test]
async fn a_letter_that_is_retried_has_its_time_and_id_and_goes_when_its_row_is_in_the_queue() {
    let (site, database) = site("").await;
    let weir = site.start(WEIR).await;
    publish(&weir, 11..=15).await;
    until(&weir, "dead_lettered", 2).await;
    let first = letters(&weir).await;

    // The database says no again.
    let id = first[0]["id"].as_str().unwrap();
    let said = weir.command(&["dlq", "retry", id]).await.succeeded().stdout;
    assert!(said.contains("1 row"), "{said}");
    until(&weir, "dead_lettered", 3).await;
    let again = letters(&weir).await;
    assert_eq!(again.len(), 2, "{again:?}");
    assert_eq!(
        (&again[0], again[1]["id"] == first[0]["id"]),
        (&first[1], false)
    );
    for key in ["message_id", "accepted_at_ms", "client_id", "row"] {
        assert_eq!(again[1][key], first[0][key], "{key}");
    }
    assert!(
        again[1]["seq"].as_u64() > first[1]["seq"].as_u64(),
        "at the end of the queue"
    );
    let gone = weir.command(&["dlq", "retry", id]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("E1406"), "{}", gone.stderr);

    database
        .psql("ALTER TABLE numbers DROP CONSTRAINT numbers_n_check")
        .await;
    let nothing = weir.command(&["dlq", "retry"]).await;
    assert_eq!(nothing.code, Some(2), "{}", nothing.stderr);
    let _ = weir
        .command(&["dlq", "retry", "--rule", "plant/numbers"])
        .await
        .succeeded();
    until(&weir, "delivered", 5).await;
    assert!(letters(&weir).await.is_empty());
    assert!(gauge(&weir, "weir_dead_letter_rows").await.abs() < 0.1);
    weir.kill().await;
    let weir = site.start(WEIR).await;
    assert!(letters(&weir).await.is_empty());
    assert_eq!(weir.stop().await, Some(0));
    assert_eq!(database.count("SELECT count(*) FROM numbers").await, 5);
}

#[tokio::test]
async fn letters_are_exported_and_dropped_by_what_they_have_in_common() {
    let (site, _database) = site("").await;
    let weir = site.start(WEIR).await;
    publish(&weir, [13, 14, 13]).await;
    until(&weir, "dead_lettered", 3).await;
    let _ = weir
        .command(&["dlq", "export", "--out", "letters.ndjson"])
        .await
        .succeeded();
    let exported = fs::read_to_string(site.path().join("letters.ndjson")).unwrap();
    let exported: Vec<Json> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found = letters(&weir).await;
    assert_eq!(exported, found);

    let id = found[1]["id"].as_str().unwrap();
    let asked = weir.command(&["dlq", "drop", id]).await;
    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    let _ = weir
        .command(&["dlq", "drop", id, "--yes"])
        .await
        .succeeded();
    assert_eq!(
        letters(&weir).await,
        [found[0].clone(), found[2].clone()],
        "from the middle"
    );
    let others = weir
        .command(&["dlq", "drop", "--code", "E3202", "--yes"])
        .await
        .succeeded();
    assert!(others.stdout.starts_with("0 rows"), "{}", others.stdout);
    let young = weir
        .command(&["dlq", "drop", "--older-than", "1h", "--yes"])
        .await
        .succeeded();
    assert!(young.stdout.starts_with("0 rows"), "{}", young.stdout);
    let (status, _) = weir.get("/weir/v1/dead-letters?colour=red").await;
    assert_eq!(status, 400);
    let page = weir.get("/weir/v1/dead-letters?limit=1").await.1;
    let page: Json = serde_json::from_str(&page).unwrap();
    assert_eq!(page["next"], found[0]["id"], "{page}");
    let _ = weir
        .command(&["dlq", "drop", "--code", "e3201", "--yes"])
        .await
        .succeeded();
    assert!(letters(&weir).await.is_empty());
    assert_eq!(
        counter(&weir, "dead_lettered").await,
        3,
        "what came is counted all the same"
    );
}

#[tokio::test]
async fn a_list_goes_on_when_the_sink_of_its_last_letter_has_none_any_more() {
    let (site, _database) = site("").await;
    site.rule("plant/others", &rule(""));
    let weir = site.start(WEIR).await;
    publish(&weir, [13]).await;
    wait_until("both are parked", PATIENCE, || async {
        letters(&weir).await.len() == 2
    })
    .await;
    let page = async |after: &str| {
        let path = format!("/weir/v1/dead-letters?limit=1{after}");
        let (status, text) = weir.get(&path).await;
        (status, serde_json::from_str::<Json>(&text).unwrap())
    };
    let (_, first) = page("").await;
    let gone = first["items"][0]["rule"].as_str().unwrap();
    let drop = ["dlq", "drop", "--rule", gone, "--yes"];
    let _ = weir.command(&drop).await.succeeded();
    let left = letters(&weir).await;
    let after = format!("&after={}", first["next"].as_str().unwrap());
    let (_, second) = page(&after).await;
    assert_eq!(second["items"], Json::from(left), "{second}");
    let (status, nowhere) = page("&after=ffff-1").await;
    assert_eq!(
        (status, &nowhere["code"]),
        (404, &"E1406".into()),
        "{nowhere}"
    );
}

#[tokio::test]
async fn more_letters_than_the_queue_has_room_for_are_retried_as_far_as_it_has() {
    let (site, database) = site("buffer = { max_rows = 100 }\n").await;
    let weir = site.start(WEIR).await;
    publish(&weir, (0..130).map(|_| 13)).await;
    until(&weir, "dead_lettered", 130).await;
    database
        .psql("ALTER TABLE numbers DROP CONSTRAINT numbers_n_check")
        .await;
    wait_until("all are tried again", PATIENCE, || async {
        weir.command(&["dlq", "retry", "--all"]).await;
        letters(&weir).await.is_empty()
    })
    .await;
    until(&weir, "delivered", 130).await;
    assert_eq!(database.count("SELECT count(*) FROM numbers").await, 130);
}

#[tokio::test]
async fn letters_outlive_their_rule_and_wait_for_its_return() {
    let (site, database) = site("").await;
    let weir = site.start(WEIR).await;
    publish(&weir, [13]).await;
    until(&weir, "dead_lettered", 1).await;
    site.remove_rule("plant/numbers");
    let _ = weir.reload().await.succeeded();
    let refused = weir.command(&["dlq", "retry", "--all"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("no rule has this sink"),
        "{}",
        refused.stderr
    );
    assert_eq!(letters(&weir).await.len(), 1);
    database
        .psql("ALTER TABLE numbers DROP CONSTRAINT numbers_n_check")
        .await;
    site.rule("plant/numbers", &rule(""));
    let _ = weir.reload().await.succeeded();
    let _ = weir.command(&["dlq", "retry", "--all"]).await.succeeded();
    until(&weir, "delivered", 1).await;
    assert!(letters(&weir).await.is_empty());
}

#[tokio::test]
async fn letters_of_a_sink_that_buffers_in_memory_are_in_the_store_too() {
    let (site, database) = site("buffer = { kind = \"memory\" }\n").await;
    let weir = site.start(WEIR).await;
    publish(&weir, 12..=14).await;
    until(&weir, "dead_lettered", 2).await;
    weir.kill().await;
    let weir = site.start(WEIR).await;
    assert_eq!(letters(&weir).await.len(), 2);
    database
        .psql("ALTER TABLE numbers DROP CONSTRAINT numbers_n_check")
        .await;
    let _ = weir.command(&["dlq", "retry", "--all"]).await.succeeded();
    until(&weir, "delivered", 2).await;
    assert!(letters(&weir).await.is_empty());
}

#[tokio::test]
async fn full_dead_letters_stop_a_sink_that_blocks_until_somebody_makes_room() {
    let (site, database) = site("").await;
    site.config("dead_letter.max_bytes = \"1KiB\"\n");
    let weir = site.start(WEIR).await;
    publish(&weir, (0..40).map(|_| 13)).await;
    wait_until("the sink is paused", PATIENCE, || async {
        let (_, text) = weir.get("/weir/v1/sinks").await;
        counter(&weir, "rows_in").await == 40 && text.contains("paused") && text.contains("E3010")
    })
    .await;
    assert_eq!(counter(&weir, "dropped").await, 0);
    publish(&weir, [1]).await;
    database
        .psql("ALTER TABLE numbers DROP CONSTRAINT numbers_n_check")
        .await;
    // A restart asks the database again.
    weir.kill().await;
    let weir = site.start(WEIR).await;
    until(
        &weir,
        "delivered",
        41 - u64::try_from(letters(&weir).await.len()).unwrap(),
    )
    .await;
    assert_eq!(weir.stop().await, Some(0));
}

#[tokio::test]
async fn a_stop_while_dead_letters_are_full_loses_none_of_the_rows_behind_the_refused_ones() {
    let (site, database) = site("").await;
    site.config("dead_letter.max_bytes = \"1KiB\"\n");
    let weir = site.start(WEIR).await;
    publish(&weir, (0..40).map(|_| 13).chain(1..=10)).await;
    wait_until("the sink is paused", PATIENCE, || async {
        let (_, text) = weir.get("/weir/v1/sinks").await;
        counter(&weir, "rows_in").await == 50 && text.contains("paused") && text.contains("E3010")
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
    assert_eq!(
        database.count("SELECT count(*) FROM numbers").await,
        0,
        "nothing goes past a row that is not parked"
    );
    database
        .psql("ALTER TABLE numbers DROP CONSTRAINT numbers_n_check")
        .await;
    let weir = site.start(WEIR).await;
    let parked = u64::try_from(letters(&weir).await.len()).unwrap();
    until(&weir, "delivered", 50 - parked).await;
    let stored = database.count("SELECT count(*) FROM numbers").await;
    assert_eq!(stored + parked, 50);
    assert_eq!(weir.stop().await, Some(0));
}

/// Ten refused rows, one after another, for a sink whose dead letters have room for about half of them.
async fn ten_refused(policy: &str) -> (Site, Database, Weir) {
    let (site, database) = site(&format!("buffer = {{ when_full = \"{policy}\" }}\n")).await;
    site.config("dead_letter.max_bytes = \"2KiB\"\n");
    let weir = site.start(WEIR).await;
    for row in 1..=10 {
        publish(&weir, [13]).await;
        wait_until("the row is dealt with", PATIENCE, || async {
            counter(&weir, "dead_lettered").await + counter(&weir, "dropped").await == row
        })
        .await;
    }
    (site, database, weir)
}

async fn numbers(weir: &Weir) -> Vec<u64> {
    let letters = letters(weir).await;
    let numbers = letters.iter().map(|letter| letter["seq"].as_u64().unwrap());
    numbers.collect()
}

#[tokio::test]
async fn full_dead_letters_of_drop_newest_drop_what_comes_and_count_it() {
    let (_site, _database, weir) = ten_refused("drop_newest").await;
    let kept = numbers(&weir).await;
    let count = kept.len() as u64;
    assert!(
        count > 1 && kept == (1..=count).collect::<Vec<_>>(),
        "{kept:?}"
    );
    assert_eq!(counter(&weir, "dropped").await, 10 - count);
    let labels = [SINK[0], SINK[1], ("reason", "dead_letters_full")];
    let dropped = weir.metric("weir_sink_rows_dropped_total", &labels).await;
    assert!((dropped - (10 - count) as f64).abs() < 0.1, "{dropped}");
}

#[tokio::test]
async fn full_dead_letters_of_drop_oldest_keep_the_newest_and_count_the_others() {
    let (_site, _database, weir) = ten_refused("drop_oldest").await;
    let kept = numbers(&weir).await;
    let count = kept.len() as u64;
    assert!(
        count > 1 && kept == (11 - count..=10).collect::<Vec<_>>(),
        "{kept:?}"
    );
    assert_eq!(counter(&weir, "dead_lettered").await, 10);
    let evicted = gauge(&weir, "weir_sink_dead_letters_evicted_total").await;
    assert!((evicted - (10 - count) as f64).abs() < 0.1, "{evicted}");
}

#[tokio::test]
async fn the_files_of_an_earlier_version_are_taken_into_the_store() {
    let (site, database) = site("").await;
    let line = |n: u32, seq: u32| {
        format!(
            "{{\"v\":1,\"at_ms\":1700000000000,\"rule\":\"plant/numbers\",\"sink\":\"history\",\"code\":\"E3201\",\
             \"reason\":\"refused\",\"attempts\":1,\"epoch\":77,\"seq\":{seq},\
             \"message_id\":\"000000000000000000000000000000ff\",\"client_id\":\"c\",\
             \"accepted_at_ms\":1699999999000,\"row\":{{\"n\":{n}}}}}\n"
        )
    };
    let file = "data/dead_letters/plant/numbers/history.ndjson";
    site.write(file, &format!("{}{}", line(21, 1), line(22, 2)));
    let bad = "data/dead_letters/other/s.ndjson";
    site.write(bad, "not a letter\n");
    let weir = site.start(WEIR).await;
    let found = letters(&weir).await;
    let rows: Vec<_> = found
        .iter()
        .map(|letter| letter["row"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [21, 22], "{found:?}");
    assert_eq!(found[0]["at_ms"], 1_700_000_000_000_u64);
    assert!(!site.path().join(file).exists());
    assert!(site.path().join(format!("{bad}.unread")).exists());
    assert_eq!(weir.stop().await, Some(0));
    // As after a crash before the file was removed.
    site.write(file, &format!("{}{}", line(21, 1), line(23, 3)));
    let weir = site.start(WEIR).await;
    assert_eq!(letters(&weir).await.len(), 3, "none twice");
    let _ = weir.command(&["dlq", "retry", "--all"]).await.succeeded();
    until(&weir, "delivered", 3).await;
    assert_eq!(database.count("SELECT sum(n) FROM numbers").await, 66);
}

#[tokio::test]
async fn bytes_that_are_no_text_come_back_from_a_file_as_they_were() {
    let database = Postgres::shared().await.create_database().await;
    database
        .psql("CREATE TABLE blobs (b bytea CHECK (octet_length(b) <> 4))")
        .await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    site.rule(
        "plant/numbers",
        "sql = '''SELECT payload AS b FROM \"n\"'''\n\
         [[sinks]]\nid = \"history\"\nconnector = \"db\"\ntable = \"blobs\"\n",
    );
    let weir = site.start(WEIR).await;
    fs::write(site.path().join("message"), [0xFF, 0x00, b'~', 0xFE]).unwrap();
    let message = site.path().join("message").display().to_string();
    let args = ["-t", "n", "-q", "1", "-f", &message];
    let _ = mosquitto_pub(weir.mqtt_port(), &args).await.succeeded();
    until(&weir, "dead_lettered", 1).await;
    for args in [
        &["dlq", "export", "--out", "letters.ndjson"][..],
        &["dlq", "drop", "--all", "--yes"],
    ] {
        let _ = weir.command(args).await.succeeded();
    }
    assert_eq!(weir.stop().await, Some(0));
    let exported = fs::read_to_string(site.path().join("letters.ndjson")).unwrap();
    let letter: Json = serde_json::from_str(&exported).unwrap();
    assert_eq!(letter["row"]["b"], "/wB+/g==", "{letter}");
    assert_eq!(letter["row_kinds"]["/b"], "bytes", "{letter}");

    site.write("data/dead_letters/plant/numbers/history.ndjson", &exported);
    let weir = site.start(WEIR).await;
    assert_eq!(letters(&weir).await.len(), 1);
    database
        .psql("ALTER TABLE blobs DROP CONSTRAINT blobs_b_check")
        .await;
    let _ = weir.command(&["dlq", "retry", "--all"]).await.succeeded();
    until(&weir, "delivered", 1).await;
    let stored = database.psql("SELECT encode(b, 'hex') FROM blobs").await;
    assert_eq!(stored.trim(), "ff007efe");
}
