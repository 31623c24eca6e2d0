//! `weir sinks`: what an operator sees of queues, and how the queue of a rule that is gone ends.

use crate::WEIR;
use serde_json::Value as Json;
use std::time::Duration;
use weir_test_support::{LinePublisher, Postgres, Site, Weir, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

const RULE: &str = r#"
sql = '''SELECT payload.n AS n FROM "n"'''
[[sinks]]
id = "history"
connector = "db"
table = "numbers"
retry = { initial = "20ms", max = "100ms" }
"#;

async fn publish(weir: &Weir, numbers: std::ops::RangeInclusive<u32>) {
    let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", "n", "-q", "1"]);
    let lines = numbers.map(|n| format!("{{\"n\":{n}}}\n"));
    publisher.send(&lines.collect::<String>()).await;
    publisher.finish().await;
}

async fn sinks(weir: &Weir) -> Vec<Json> {
    let listed = weir.command(&["sinks", "ls", "--json"]).await.succeeded();
    let listed: Json = serde_json::from_str(&listed.stdout).unwrap();
    listed["sinks"].as_array().unwrap().clone()
}

async fn leftover(weir: &Weir) -> f64 {
    weir.metric("weir_sink_leftover_queues", &[]).await
}

#[tokio::test]
async fn the_queue_of_a_rule_that_is_gone_is_shown_and_ends_when_it_is_dropped() {
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql("CREATE TABLE numbers (n int)").await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    site.rule("plant/numbers", RULE);
    let weir = site.start(WEIR).await;
    postgres.stop().await;
    publish(&weir, 1..=10).await;
    wait_until("the sink has an error", PATIENCE, || async {
        sinks(&weir).await[0]["last_error"]["code"].is_string()
    })
    .await;
    let shown = &sinks(&weir).await[0];
    assert_eq!(
        (&shown["rule"], &shown["leftover"]),
        (&"plant/numbers".into(), &false.into())
    );
    let waiting = shown["buffer_rows"].as_u64().unwrap() + shown["inflight"].as_u64().unwrap();
    assert_eq!(waiting, 10);
    assert!(shown["oldest_age_s"].as_i64().is_some(), "{shown}");
    let text = weir.command(&["sinks", "ls"]).await.succeeded().stdout;
    assert!(
        text.contains("plant/numbers/history") && text.contains("[E34"),
        "{text}"
    );

    let drop = ["sinks", "drop", "plant/numbers/history", "--yes"];
    let in_use = weir.command(&drop).await;
    assert_eq!(in_use.code, Some(1));
    assert!(in_use.stderr.contains("E1407"), "{}", in_use.stderr);
    assert_eq!(weir.stop().await, Some(0));
    site.remove_rule("plant/numbers");
    let weir = site.start(WEIR).await;
    let shown = &sinks(&weir).await[0];
    assert_eq!(
        (&shown["state"], &shown["buffer_rows"]),
        (&"leftover".into(), &10.into())
    );
    assert!(shown["oldest_age_s"].as_i64().is_some(), "{shown}");
    assert!((leftover(&weir).await - 1.0).abs() < 0.1);
    site.rule("plant/numbers", "sql = 'SELEKT'");
    weir.reload().await;
    let doubtful = weir.command(&drop).await;
    assert_eq!(doubtful.code, Some(1));
    assert!(doubtful.stderr.contains("E1407"), "{}", doubtful.stderr);
    site.remove_rule("plant/numbers");
    weir.reload().await;
    let unasked = weir.command(&drop[..3]).await;
    assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);
    let dropped = weir.command(&drop).await.succeeded();
    assert!(
        dropped.stdout.contains("10 rows dropped"),
        "{}",
        dropped.stdout
    );
    assert!(sinks(&weir).await.is_empty());
    assert!(leftover(&weir).await.abs() < 0.1);
    let gone = weir.command(&drop).await;
    assert!(gone.stderr.contains("E1406"), "{}", gone.stderr);
    weir.kill().await;

    postgres.start_again().await;
    site.rule("plant/numbers", RULE);
    let weir = site.start(WEIR).await;
    publish(&weir, 11..=12).await;
    wait_until("the new rows are there", PATIENCE, || async {
        database.count("SELECT count(*) FROM numbers").await >= 2
    })
    .await;
    assert_eq!(database.count("SELECT sum(n) FROM numbers").await, 23);
}

#[tokio::test]
async fn the_queue_of_a_rule_that_was_just_removed_can_be_dropped_while_it_drains() {
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql("CREATE TABLE numbers (n int)").await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    site.rule("numbers", RULE);
    let weir = site.start(WEIR).await;
    postgres.stop().await;
    publish(&weir, 1..=10).await;
    site.remove_rule("numbers");
    let _ = weir.reload().await.succeeded();
    let shown = &sinks(&weir).await[0];
    assert_eq!(shown["leftover"], true, "{shown}");
    let listed = weir
        .command(&["sinks", "ls", "--leftover"])
        .await
        .succeeded()
        .stdout;
    assert!(listed.contains(", leftover"), "{listed}");
    let _ = weir
        .command(&["sinks", "drop", "numbers/history", "--yes"])
        .await
        .succeeded();
    assert!(sinks(&weir).await.is_empty());
    postgres.start_again().await;
    site.rule("numbers", RULE);
    let _ = weir.reload().await.succeeded();
    publish(&weir, 11..=12).await;
    wait_until("the new rows are there", PATIENCE, || async {
        database.count("SELECT count(*) FROM numbers").await >= 2
    })
    .await;
    assert_eq!(database.count("SELECT sum(n) FROM numbers").await, 23);
}
