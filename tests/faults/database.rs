//! PostgreSQL goes away in the middle and comes back: each message is one row, in order.
//!
//! `WEIR_SOAK=1` (`make soak`) is ten times as much: a million messages, a minute away.

use crate::WEIR;
use std::time::Duration;
use tokio::time::sleep;
use weir_test_support::{
    Database, LinePublisher, Postgres, Site, Weir, paho, repository, wait_until,
};

const PUBLISHERS: usize = 20;

/// How much is sent, and how long the database is away.
struct Load {
    per_publisher: usize,
    away: Duration,
    deadline: Duration,
}

impl Load {
    fn chosen() -> Self {
        let (messages, away, deadline) = if std::env::var_os("WEIR_SOAK").is_some() {
            (1_000_000, 60, 1200)
        } else {
            (100_000, 10, 180)
        };
        Self {
            per_publisher: messages / PUBLISHERS,
            away: Duration::from_secs(away),
            deadline: Duration::from_secs(deadline),
        }
    }

    fn messages(&self) -> u64 {
        (self.per_publisher * PUBLISHERS) as u64
    }
}

/// No key on the table: a row that came twice would be there twice.
const TABLE: &str = "CREATE TABLE arrived (at bigserial, publisher int, n int)";

fn rule(buffer: &str) -> String {
    format!(
        r#"
sql = '''SELECT payload.p AS publisher, payload.n AS n FROM "load/+"'''
[[sinks]]
id = "arrived"
connector = "db"
table = "arrived"
{buffer}
"#
    )
}

struct Scene {
    postgres: Postgres,
    database: Database,
    weir: Weir,
    publishers: Vec<LinePublisher>,
    _site: Site,
}

impl Scene {
    async fn start(rule: &str) -> Self {
        let postgres = Postgres::start().await;
        let database = postgres.create_database().await;
        database.psql(TABLE).await;
        let site = Site::new();
        site.connector(
            "db",
            &format!("type = \"postgres\"\nurl = \"{}\"\n", database.url()),
        );
        site.rule("arrived", rule);
        let weir = site.start(WEIR).await;
        let publishers = (0..PUBLISHERS)
            .map(|publisher| {
                let topic = format!("load/{publisher}");
                LinePublisher::start(weir.mqtt_port(), &["-t", &topic, "-q", "1"])
            })
            .collect();
        Self {
            postgres,
            database,
            weir,
            publishers,
            _site: site,
        }
    }

    /// Gives each publisher the messages of a range; they are read as fast as weir takes them.
    async fn send(&mut self, numbers: std::ops::Range<usize>) {
        let sends = self
            .publishers
            .iter_mut()
            .enumerate()
            .map(|(publisher, client)| {
                let lines: String = numbers
                    .clone()
                    .map(|n| format!("{{\"p\":{publisher},\"n\":{n}}}\n"))
                    .collect();
                async move { client.send(&lines).await }
            });
        futures_util::future::join_all(sends).await;
    }

    async fn finish_publishing(&mut self) {
        let publishers = std::mem::take(&mut self.publishers);
        futures_util::future::join_all(publishers.into_iter().map(LinePublisher::finish)).await;
    }

    async fn at_least(&self, rows: u64, deadline: Duration) {
        wait_until(&format!("{rows} rows"), deadline, || async {
            self.database
                .try_count("SELECT count(*) FROM arrived")
                .await
                >= Some(rows)
        })
        .await;
    }

    /// Every message is a row, none is two, and each publisher's came in the order that it sent.
    async fn each_message_is_one_row(&self, load: &Load) {
        self.at_least(load.messages(), load.deadline).await;
        let count = |sql: &'static str| self.database.count(sql);
        assert_eq!(count("SELECT count(*) FROM arrived").await, load.messages());
        assert_eq!(
            count("SELECT count(*) FROM (SELECT DISTINCT publisher, n FROM arrived) x").await,
            load.messages()
        );
        let late = "SELECT count(*) FROM (SELECT n < lag(n) OVER (PARTITION BY publisher ORDER BY at) AS late FROM arrived) x WHERE late";
        assert_eq!(
            count(late).await,
            0,
            "rows after a later one of the same publisher"
        );
        self.the_counters_agree(load).await;
    }

    /// in = delivered, and nothing was dropped, put aside or is left.
    async fn the_counters_agree(&self, load: &Load) {
        let sink = [("rule", "arrived"), ("sink", "arrived")];
        wait_until("the counters to agree", Duration::from_secs(10), || async {
            self.weir
                .metric("weir_sink_rows_delivered_total", &sink)
                .await
                >= load.messages() as f64
        })
        .await;
        for (name, expected) in [
            ("weir_sink_rows_in_total", load.messages() as f64),
            ("weir_sink_rows_delivered_total", load.messages() as f64),
            ("weir_sink_rows_dropped_total", 0.0),
            ("weir_sink_rows_dead_lettered_total", 0.0),
            ("weir_sink_buffer_rows", 0.0),
            ("weir_sink_inflight_rows", 0.0),
        ] {
            let counted = self.weir.metric(name, &sink).await;
            assert!(
                (counted - expected).abs() < 0.5,
                "{name} is {counted}, not {expected}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_one_row() {
    let load = Load::chosen();
    let mut scene = Scene::start(&rule("")).await;
    scene.send(0..load.per_publisher).await;
    scene.finish_publishing().await;
    scene.each_message_is_one_row(&load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_one_row_when_the_database_is_away_in_the_middle() {
    let load = Load::chosen();
    let mut scene = Scene::start(&rule("")).await;
    scene.send(0..load.per_publisher / 2).await;
    // Stopped while rows are being written, not before and not after.
    scene.at_least(load.messages() / 10, load.deadline).await;
    scene.postgres.stop().await;
    scene.send(load.per_publisher / 2..load.per_publisher).await;
    sleep(load.away).await;
    scene.postgres.start_again().await;
    scene.finish_publishing().await;
    scene.each_message_is_one_row(&load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_holds_the_publishers_back_and_loses_nothing() {
    let load = Load {
        per_publisher: 500,
        away: Duration::from_secs(1),
        deadline: Duration::from_secs(60),
    };
    let mut scene = Scene::start(&rule(
        "buffer = { max_bytes = \"64KiB\", when_full = \"block\" }",
    ))
    .await;
    scene.postgres.stop().await;
    scene.send(0..load.per_publisher).await;
    sleep(load.away).await;
    let waiting = scene
        .weir
        .metric("weir_sink_rows_in_total", &[("sink", "arrived")])
        .await;
    assert!(
        waiting < load.messages() as f64,
        "a 64 KiB buffer took all {waiting} rows"
    );
    scene.postgres.start_again().await;
    scene.finish_publishing().await;
    scene.each_message_is_one_row(&load).await;
}

#[tokio::test]
async fn weir_starts_while_its_database_is_away_and_the_rows_wait() {
    let postgres = Postgres::start().await;
    let database = postgres.create_database().await;
    database.psql(TABLE).await;
    postgres.stop().await;

    let site = Site::new();
    site.connector(
        "db",
        &format!("type = \"postgres\"\nurl = \"{}\"\n", database.url()),
    );
    site.rule("arrived", &rule(""));
    let weir = site.start(WEIR).await;
    let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", "load/0", "-q", "1"]);
    publisher
        .send("{\"p\":0,\"n\":0}\n{\"p\":0,\"n\":1}\n")
        .await;
    publisher.finish().await;
    let waiting = weir
        .metric("weir_sink_rows_in_total", &[("sink", "arrived")])
        .await;
    assert!((waiting - 2.0).abs() < f64::EPSILON, "{waiting}");

    postgres.start_again().await;
    wait_until("both rows", Duration::from_secs(60), || async {
        database.try_count("SELECT count(*) FROM arrived").await == Some(2)
    })
    .await;
}

#[tokio::test]
async fn an_mqtt_5_publisher_is_told_what_a_full_buffer_refused_and_the_rest_arrives() {
    const MESSAGES: usize = 3000;
    let rule = rule("buffer = { max_bytes = \"64KiB\", when_full = \"block\" }");
    let mut scene = Scene::start(&rule).await;
    scene.publishers.clear();
    scene.postgres.stop().await;

    let script = repository().join("tests/faults/paho_load.py");
    let (port, count) = (scene.weir.mqtt_port().to_string(), MESSAGES.to_string());
    let told = paho(&script, &[&port, "load/0", &count]).await.succeeded();
    let told: serde_json::Value =
        serde_json::from_str(&told.stdout).expect("the script prints JSON");
    let numbers = |list: &serde_json::Value| -> Vec<u64> {
        let list = list.as_array().cloned().unwrap_or_default();
        let mut numbers: Vec<u64> = list.iter().filter_map(serde_json::Value::as_u64).collect();
        numbers.sort_unstable();
        numbers
    };
    let accepted = numbers(&told["accepted"]);
    let refused = numbers(&told["refused"]["Quota exceeded"]);
    assert!(!accepted.is_empty() && !refused.is_empty(), "{told}");
    assert_eq!(accepted.len() + refused.len(), MESSAGES, "{told}");

    scene.postgres.start_again().await;
    scene
        .at_least(accepted.len() as u64, Duration::from_secs(60))
        .await;
    let rows = scene
        .database
        .psql("SELECT n FROM arrived ORDER BY n")
        .await;
    let rows: Vec<u64> = rows.lines().filter_map(|row| row.parse().ok()).collect();
    assert_eq!(
        rows, accepted,
        "each accepted message is a row, and no refused one is"
    );
}
