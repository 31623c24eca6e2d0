//! The examples under `rules/` are true: they pass their checks and their own tests.

use crate::WEIR;
use std::time::Duration;
use weir_test_support::{Database, Postgres, Site, Subscriber, example, mosquitto_pub, wait_until};

/// `rules/`, as a user would copy it.
const RULES: [&str; 9] = [
    "alarm",
    "gateway",
    "hot",
    "last_seen",
    "presence",
    "demo/alert",
    "demo/cloud",
    "demo/hot",
    "demo/latest",
];
const CONNECTORS: [&str; 4] = ["cloud", "db", "hq", "pg_main"];

fn all_examples() -> Site {
    let site = Site::new();
    for rule in RULES {
        site.rule(rule, &example(&format!("{rule}.toml")));
    }
    for connector in CONNECTORS {
        site.connector(connector, &example(&format!("connectors/{connector}.toml")));
    }
    site.udf("climate", &example("udf/climate.rhai"));
    site.write("udf/climate.test.toml", &example("udf/climate.test.toml"));
    site
}

#[test]
fn every_example_is_in_these_lists() {
    let rules = weir_test_support::repository().join("rules");
    let count = |folder: &str| {
        std::fs::read_dir(rules.join(folder))
            .unwrap()
            .filter(|file| {
                let path = file.as_ref().unwrap().path();
                path.extension().is_some_and(|ending| ending == "toml")
            })
            .count()
    };
    assert_eq!(count("") + count("demo"), RULES.len());
    assert_eq!(count("connectors"), CONNECTORS.len());
}

#[tokio::test]
async fn every_example_passes_weir_check() {
    let site = all_examples();
    let checked = site.weir(WEIR, &["check"]).await.succeeded();
    for rule in RULES {
        let file = format!("rules/{rule}.toml");
        assert!(
            checked.stdout.contains(&file),
            "{file} is not in:\n{}",
            checked.stdout
        );
    }
    // The one about the cloud without TLS, which is how the example is tried on one machine.
    assert!(
        checked.stdout.contains("0 errors  1 warning"),
        "{}",
        checked.stdout
    );
}

#[tokio::test]
async fn every_example_passes_its_own_tests() {
    let site = all_examples();
    let tested = site.weir(WEIR, &["test"]).await.succeeded();
    let last = tested.stdout.lines().last().unwrap_or_default();
    assert!(last.ends_with(" passed, 0 failed"), "{}", tested.stdout);
    assert!(
        tested.stdout.contains("31.5 is over 30"),
        "{}",
        tested.stdout
    );
}

#[tokio::test]
async fn a_wrong_expectation_fails_with_what_was_expected_and_what_came() {
    let site = all_examples();
    let wrong = example("hot.toml").replace(
        "expect = [{ device = \"a1\", temp",
        "expect = [{ device = \"b7\", temp",
    );
    assert_ne!(
        wrong,
        example("hot.toml"),
        "the example has changed: change this test"
    );
    site.rule("hot", &wrong);

    let tested = site.weir(WEIR, &["test"]).await;
    assert_eq!(tested.code, Some(1), "{tested:?}");
    for part in ["31.5 is over 30", "\"b7\"", "\"a1\"", ", 1 failed"] {
        assert!(
            tested.stdout.contains(part),
            "`{part}` is not in:\n{}",
            tested.stdout
        );
    }
}

/// What the comments and descriptions of the examples say, seen from outside while they run together.
#[tokio::test]
async fn the_examples_do_what_they_say_when_they_run_together() {
    let database = Postgres::shared().await.create_database().await;
    let mut site = all_examples();
    for demo in RULES.iter().filter(|rule| rule.starts_with("demo/")) {
        site.remove_rule(demo);
    }
    site.env("PG_URL", database.url());
    let weir = site.start(WEIR).await;
    for (topic, payload) in [
        ("/dev/a1/up", r#"{"temp":12,"hum":50}"#),
        ("/dev/b2/up", r#"{"temp":61,"hum":40}"#),
        ("/dev/a1/up", r#"{"temp":31.5,"hum":40}"#),
        (
            "gateway/g1/readings",
            r#"{"version":2,"readings":[{"id":"s1","value":4.5,"ts":1700000000000},{"id":"s2","value":-1,"ts":1700000000000}]}"#,
        ),
        (
            "gateway/g1/readings",
            r#"{"version":2,"readings":[{"id":"s1","value":4.5,"ts":1700000000000}]}"#,
        ),
    ] {
        let args = ["-i", "gw", "-q", "1", "-t", topic, "-m", payload];
        let _ = mosquitto_pub(weir.mqtt_port(), &args).await.succeeded();
    }

    has_rows(
        &database,
        "SELECT device, temp FROM readings ORDER BY temp",
        "a1|31.5\nb2|61",
    )
    .await;
    has_rows(
        &database,
        "SELECT device, temp FROM last_seen ORDER BY device",
        "a1|31.5\nb2|61",
    )
    .await;
    // The same reading twice is one row: the table has the key that the rule names.
    let gateway = "SELECT gateway, sensor, value FROM gateway_readings";
    has_rows(&database, gateway, "gw|s1|4.5").await;

    // Retained: a subscriber that comes later is told each device's last level.
    let mut late = Subscriber::start(weir.mqtt_port(), "alarms/#", &["-q", "1"]).await;
    let mut levels: Vec<(String, String)> = late
        .wait_for(2)
        .await
        .iter()
        .map(|message| {
            let alarm: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
            (
                message.topic.clone(),
                alarm["level"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    levels.sort();
    let expected = [("alarms/a1", "warning"), ("alarms/b2", "critical")];
    assert_eq!(
        levels,
        expected.map(|(topic, level)| (topic.to_owned(), level.to_owned()))
    );

    wait_until("ten comings and goings in the file", DEADLINE, || async {
        let lines = lines_of(&site, "presence-");
        let of = |event: &str| {
            lines
                .iter()
                .filter(|line| line.contains(event) && line.contains("\"gw\""))
                .count()
        };
        of("client.connected") == 5 && of("client.disconnected") == 5
    })
    .await;
    wait_until("three alarms in the file", DEADLINE, || async {
        lines_of(&site, "alarms-").len() == 3
    })
    .await;
}

const DEADLINE: Duration = Duration::from_secs(20);

async fn has_rows(database: &Database, sql: &str, expected: &str) {
    wait_until(expected, DEADLINE, || async {
        database.try_psql(sql).await.as_deref() == Some(expected)
    })
    .await;
}

/// The lines of the files that rules wrote, by the beginning of their names.
fn lines_of(site: &Site, prefix: &str) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(site.path().join("data/files")) else {
        return Vec::new();
    };
    files
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().to_string_lossy().starts_with(prefix))
        .flat_map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}
