//! The demo, as the README's first command runs it, with each of its two databases.

use crate::WEIR;
use serde_json::Value;
use weir_test_support::{Postgres, Site};

/// Runs the demo for three seconds; it exits with 0 only when all counts agree.
async fn summary(site: &Site) -> Value {
    let demo = site
        .weir(WEIR, &["demo", "--for", "3s", "--json"])
        .await
        .succeeded();
    serde_json::from_str(&demo.stdout).unwrap_or_else(|error| panic!("{error}: {}", demo.stdout))
}

/// For each rule: it matched everything, and what it passed has arrived.
fn counts_agree(summary: &Value) {
    let published = summary["published"].as_u64().unwrap();
    assert!(published > 0, "{summary}");
    let rules = summary["rules"].as_array().unwrap();
    let names: Vec<&str> = rules
        .iter()
        .map(|rule| rule["rule"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["hot", "latest", "alert", "cloud"]);
    for rule in rules {
        assert_eq!(rule["matched"], published, "{summary}");
        assert_eq!(rule["passed"], rule["arrived"], "{summary}");
        assert_ne!(rule["arrived"], 0, "{summary}");
    }
}

#[tokio::test]
async fn with_sqlite_all_four_rules_deliver_what_they_passed() {
    let site = Site::new();
    counts_agree(&summary(&site).await);
}

#[tokio::test]
async fn with_postgres_the_same_rules_deliver_the_same() {
    let database = Postgres::shared().await.create_database().await;
    let mut site = Site::new();
    site.env("WEIR_DEMO_PG", database.url());
    let summary = summary(&site).await;
    counts_agree(&summary);

    let hot = summary["rules"][0]["arrived"].as_u64().unwrap();
    assert_eq!(database.count("SELECT count(*) FROM readings").await, hot);
    let published = summary["published"].as_u64().unwrap();
    assert_eq!(
        database.count("SELECT sum(writes) FROM latest").await,
        published
    );
}
