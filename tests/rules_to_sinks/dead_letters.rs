//! A row that a database refuses: kept with the reason, the rest of its batch stored.

use crate::WEIR;
use std::fs;
use std::time::Duration;
use weir_test_support::{LinePublisher, Postgres, Site, wait_until};

const RULE: &str = r#"
sql = '''SELECT payload.n AS n FROM "n"'''
[[sinks]]
id = "numbers"
connector = "db"
table = "numbers"
batch = { max_rows = 100, max_wait = "300ms" }
"#;

#[tokio::test]
async fn a_row_that_the_database_refuses_is_a_dead_letter_and_the_rest_is_stored() {
    let database = Postgres::shared().await.create_database().await;
    database
        .psql("CREATE TABLE numbers (n int CHECK (n <> 13))")
        .await;
    let site = Site::new();
    site.connector(
        "db",
        &format!("type = \"postgres\"\nurl = \"{}\"\n", database.url()),
    );
    site.rule("numbers", RULE);
    let weir = site.start(WEIR).await;

    let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", "n", "-q", "1"]);
    let lines: String = (1..=40).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    publisher.send(&lines).await;
    publisher.finish().await;

    let sink = [("rule", "numbers"), ("sink", "numbers")];
    wait_until(
        "40 rows to be dealt with",
        Duration::from_secs(20),
        || async {
            let delivered = weir.metric("weir_sink_rows_delivered_total", &sink).await;
            let dead = weir
                .metric("weir_sink_rows_dead_lettered_total", &sink)
                .await;
            delivered + dead > 39.5
        },
    )
    .await;

    assert_eq!(database.count("SELECT count(*) FROM numbers").await, 39);
    assert_eq!(
        database
            .count("SELECT count(DISTINCT n) FROM numbers")
            .await,
        39
    );
    let dead = weir
        .metric("weir_sink_rows_dead_lettered_total", &sink)
        .await;
    assert!((dead - 1.0).abs() < f64::EPSILON, "{dead}");

    let file = site.path().join("data/dead_letters/numbers/numbers.ndjson");
    let letters = fs::read_to_string(&file).unwrap();
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(
        letters.contains("\"n\":13"),
        "the row is not in:\n{letters}"
    );
    assert!(
        letters.contains("numbers_n_check"),
        "the reason is not in:\n{letters}"
    );
}
