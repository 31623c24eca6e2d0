//! `weir explain`: what a rule, or a statement, does.

use crate::WEIR;
use serde_json::{Value, json};
use weir_test_support::Site;

const HOT: &str = "sql = '''
SELECT clientid AS id, payload.temp AS temp
FROM   \"site/+/up\"
WHERE  upper(clientid)='A' AND payload.temp>30 AND 1 = 1
  AND  qos==1
'''
[[sinks]]
type = \"republish\"
topic = \"out/${device}\"
";

const STATEMENT: &str = "SELECT payload.t AS t FROM 'a' WHERE payload.t+1>2 and qos = 1";

#[tokio::test]
async fn each_condition_has_a_line_in_the_order_in_which_they_are_asked() {
    let site = Site::new();
    site.rule("hot", HOT);
    let explained = site.weir(WEIR, &["explain", "hot"]).await.succeeded();
    let lines: Vec<&str> = explained.stdout.lines().collect();
    let from = lines.iter().position(|line| line.starts_with("  where"));
    let conditions = &lines[from.unwrap()..];
    assert_eq!(
        conditions[..4],
        [
            "  where   upper(clientid) = 'A'   then: as written",
            "    and   payload.temp > 30       then: as written; needs payload.temp number (or its text)",
            "    and   qos = 1                 then: as written",
            "  select  id string, temp number or its text (by where)",
        ],
        "{explained:?}"
    );
    // What is constant is warned of, and is not asked.
    assert!(explained.stderr.contains("W0009"), "{explained:?}");
}

#[tokio::test]
async fn a_comparison_of_a_field_is_told_to_be_asked_first() {
    let site = Site::new();
    let explained = site
        .weir(
            WEIR,
            &[
                "explain",
                "SELECT qos FROM \"t\" WHERE payload.a LIKE 'x%' AND payload.b = 2 AND qos = 1",
            ],
        )
        .await
        .succeeded();
    let conditions: Vec<&str> = explained
        .stdout
        .lines()
        .filter(|line| line.starts_with("  where") || line.starts_with("    and"))
        .collect();
    assert_eq!(
        conditions,
        [
            "  where   payload.b = 2         first: a payload value and a constant; needs payload.b number (or its text)",
            "    and   qos = 1               first: a field and a constant",
            "    and   payload.a LIKE 'x%'   then: as written; needs payload.a string",
        ]
    );
}

#[tokio::test]
async fn a_rule_is_found_by_its_id_its_file_and_its_path() {
    let site = Site::new();
    site.rule("hot", HOT);
    let by_id = site.weir(WEIR, &["explain", "hot"]).await.succeeded();
    for name in ["hot.toml", "rules/hot.toml", "./rules/hot.toml"] {
        let found = site.weir(WEIR, &["explain", name]).await.succeeded();
        assert_eq!(found.stdout, by_id.stdout, "{name}");
    }
}

#[tokio::test]
async fn the_warnings_of_a_rule_and_its_sinks_stand_below_it() {
    let site = Site::new();
    site.rule("hot", HOT);
    let explained = site
        .weir(WEIR, &["explain", "hot", "--json"])
        .await
        .succeeded();
    let document: Value = serde_json::from_str(&explained.stdout).unwrap();
    let codes: Vec<&Value> = document["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| &found["code"])
        .collect();
    assert_eq!(codes, ["W0009", "W1001"], "{document}");
    assert_eq!(
        document["steps"][1],
        json!({
            "condition": "payload.temp > 30",
            "turn": "written",
            "needs": [{ "path": "payload.temp", "type": "number", "or_text": true }],
        })
    );
}

#[tokio::test]
async fn a_statement_is_explained_without_a_file_and_a_wrong_one_refused() {
    let site = Site::new();
    let explained = site.weir(WEIR, &["explain", STATEMENT]).await.succeeded();
    assert!(
        explained.stdout.starts_with("  match   a\n"),
        "{explained:?}"
    );
    assert!(
        explained.stdout.contains("\n    and   qos = 1"),
        "{explained:?}"
    );
    let refused = site
        .weir(WEIR, &["explain", "SELECT uper(clientid) AS c FROM 't'"])
        .await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("E0102"), "{refused:?}");
}

#[tokio::test]
async fn a_where_that_never_holds_is_said_to() {
    let site = Site::new();
    let sql = "SELECT qos FROM 't' WHERE qos = 1 AND 1 = 2 AND payload.x = 1";
    let explained = site.weir(WEIR, &["explain", sql]).await.succeeded();
    assert!(
        explained.stdout.contains("  where   1 = 2   never holds\n"),
        "{explained:?}"
    );
    assert!(
        explained.stdout.contains("decode  nothing"),
        "{explained:?}"
    );
}
