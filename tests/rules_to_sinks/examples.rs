//! The examples under `rules/` are true: they pass their checks and their own tests.

use crate::WEIR;
use weir_test_support::{Site, example};

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
async fn every_example_passes_weir_check_without_a_warning() {
    let site = all_examples();
    let checked = site
        .weir(WEIR, &["check", "--deny-warnings"])
        .await
        .succeeded();
    for rule in RULES {
        let file = format!("rules/{rule}.toml");
        assert!(
            checked.stdout.contains(&file),
            "{file} is not in:\n{}",
            checked.stdout
        );
    }
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
        "device = \"a1\", temp = 31.5 }]\nexact",
        "device = \"b7\", temp = 31.5 }]\nexact",
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
