//! `weir sinks`: what an operator sees of queues, and how the queue of a rule that is gone ends.

use crate::WEIR;
use serde_json::Value as Json;
use std::time::Duration;
use weir_test_support::{
    Answer, Database, LinePublisher, Postgres, Site, Webhook, Weir, wait_until,
};

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

/// A site whose only rule has this id, and the database that it writes to.
async fn site_of(rule: &str, postgres: &Postgres) -> (Site, Database) {
    let database = postgres.create_database().await;
    database.psql("CREATE TABLE numbers (n int)").await;
    let site = Site::new();
    let connector = format!("type = \"postgres\"\nurl = \"{}\"\n", database.url());
    site.connector("db", &connector);
    site.rule(rule, RULE);
    (site, database)
}

async fn leftover(weir: &Weir) -> f64 {
    weir.metric("weir_sink_leftover_queues", &[]).await
}

#[tokio::test]
async fn the_queue_of_a_rule_that_is_gone_is_shown_and_ends_when_it_is_dropped() {
    let postgres = Postgres::start().await;
    let (site, database) = site_of("plant/numbers", &postgres).await;
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
    let (site, database) = site_of("numbers", &postgres).await;
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

/// What weir says once it is so.
async fn until_shown(weir: &Weir, what: &str, is_so: impl Fn(&Json) -> bool) -> Json {
    wait_until(what, PATIENCE, || async {
        sinks(weir).await.first().is_some_and(&is_so)
    })
    .await;
    sinks(weir).await.remove(0)
}

#[tokio::test]
async fn reloads_of_a_rule_one_of_whose_sinks_cannot_be_opened_open_the_others_once() {
    let server = Webhook::start().await;
    server.answer_always(Answer::status(500));
    let site = Site::new();
    let broken = "type = \"http\"\nurl = \"https://127.0.0.1:9\"\ntls = { ca = \"missing.pem\" }\n";
    site.connector("broken", broken);
    let one = format!(
        "sql = '''SELECT payload.n AS n FROM \"n\"'''\n\
         [[sinks]]\nid = \"history\"\ntype = \"http\"\nurl = \"{}\"\n\
         retry = {{ initial = \"1h\", max = \"1h\" }}\n",
        server.url()
    );
    let two = format!("{one}[[sinks]]\nid = \"second\"\nconnector = \"broken\"\n");
    site.rule("numbers", &one);
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=5).await;
    server.wait_for(1, PATIENCE).await;
    assert_eq!(weir.stop().await, Some(0));
    let before = server.requests().len();
    site.remove_rule("numbers");
    let weir = site.start(WEIR).await;

    for _ in 0..3 {
        site.rule("numbers", &two);
        let refused = weir.reload().await;
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(told.contains("cannot be opened"), "{told}");
        let shown = &sinks(&weir).await[0];
        assert_eq!(
            (&shown["type"], &shown["leftover"]),
            (&"http".into(), &true.into()),
            "{shown}"
        );
        until_shown(&weir, "it was tried", |sink| {
            sink["last_error"]["code"].is_string()
        })
        .await;
    }
    assert_eq!(server.requests().len(), before + 1, "one worker, one try");
    site.rule("numbers", &one);
    let _ = weir.reload().await.succeeded();
    let shown = until_shown(&weir, "it is back", |sink| sink["leftover"] == false).await;
    let waiting = shown["buffer_rows"].as_u64().unwrap() + shown["inflight"].as_u64().unwrap();
    assert_eq!(waiting, 5, "{shown}");
}
