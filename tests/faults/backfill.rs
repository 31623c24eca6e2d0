//! Rules change while another one begins with what was captured: nobody waits, and no row is doubled or missing.

use std::fs;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::time::timeout;
use weir_test_support::{Finished, Site, Webhook, Weir, free_port, wait_until};

use crate::WEIR;
use crate::killed::Client;
use crate::replay::{
    EVERYTHING, PATIENCE, Publishers, arrived, assert_seamless, captured, lines_of, rule, site,
};

/// A rule whose rows go to the connector `page`, few at a time.
fn paged(sql: &str) -> String {
    format!(
        "sql = '''{sql}'''\n[[sinks]]\nid = \"page\"\nconnector = \"page\"\n\
         buffer = {{ max_rows = 4 }}\nretry = {{ initial = \"20ms\", max = \"200ms\" }}\n"
    )
}

/// A version of a rule that takes every message.
fn version(version: u64) -> String {
    paged(&format!(
        "SELECT payload.n AS n, {version} AS version FROM \"t\""
    ))
}

fn page(site: &Site, port: u16) {
    let text = format!("type = \"http\"\nurl = \"http://127.0.0.1:{port}/\"\n");
    site.connector("page", &text);
}

async fn publish(weir: &Weir, numbers: std::ops::RangeInclusive<u16>) {
    let mut client = Client::connect(weir, "p0").await;
    for n in numbers {
        let answer = client.publish(0x32, n, &format!("{{\"n\":{n}}}")).await;
        assert_eq!(answer.expect("PUBACK")[0], 0x40);
    }
}

/// Forty messages are captured, and the far side of every page is away.
async fn forty_messages(site: &Site) -> Weir {
    page(site, free_port());
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=40).await;
    captured(site, 40).await;
    weir
}

fn backfill<'w>(weir: &'w Weir, args: &[&'w str]) -> impl Future<Output = Finished> + use<'w> {
    let args: Vec<&str> = (["replay", "--backfill"].iter().chain(args).copied()).collect();
    async move { weir.command(&args).await }
}

/// A backfill has filled the buffer of its sink, and waits for room in it.
async fn stands(weir: &Weir) {
    wait_until("a full buffer", PATIENCE, || async {
        let (_, body) = weir.get("/weir/v1/sinks").await;
        let listed: Json = serde_json::from_str(&body).unwrap_or_default();
        let sinks = listed["items"].as_array().or(listed.as_array());
        let count = |sink: &Json, key: &str| sink[key].as_u64().unwrap_or(0);
        sinks.into_iter().flatten().any(|sink| {
            let rows = count(sink, "buffer_rows") + count(sink, "inflight");
            sink["sink"] == "page" && sink["leftover"] == false && rows >= 4
        })
    })
    .await;
}

/// A reload that does not wait for somebody else.
async fn reload(weir: &Weir) {
    let reloaded = timeout(Duration::from_secs(30), weir.reload()).await;
    let reloaded = reloaded.expect("a reload waits for nobody");
    assert_eq!(
        reloaded.code,
        Some(0),
        "{}{}",
        reloaded.stdout,
        reloaded.stderr
    );
}

/// `(n, version)` of each row that has come.
fn paged_rows(webhook: &Webhook) -> Vec<(u64, u64)> {
    let rows = webhook.requests().into_iter().map(|request| request.json());
    rows.map(|row| (row["n"].as_u64().unwrap(), row["version"].as_u64().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_reload_does_not_wait_for_a_backfill_and_can_mend_what_holds_it_up() {
    let site = site("");
    let weir = forty_messages(&site).await;
    site.write("paged.toml", &version(1));
    let webhook = Webhook::start().await;
    let meanwhile = async {
        stands(&weir).await;
        site.rule("other", &rule("other", "SELECT payload.n AS n FROM \"t\""));
        reload(&weir).await;
        publish(&weir, 41..=41).await;
        wait_until("a row of the new rule", PATIENCE, || {
            let rows = lines_of(&site, "other");
            async move { rows.len() == 1 }
        })
        .await;
        assert!(!site.path().join("rules/paged.toml").exists());
        page(&site, webhook.port());
        reload(&weir).await;
    };
    let (done, ()) = tokio::join!(
        backfill(&weir, &["--rule", "paged.toml", "--json"]),
        meanwhile
    );
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let done: Json = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&done["rows"], &done["missing"]), (&41.into(), &0.into()));
    assert!(site.path().join("rules/paged.toml").exists());
    publish(&weir, 42..=42).await;
    webhook.wait_for(42, PATIENCE).await;
    assert_eq!(weir.stop().await, Some(0));
    let expected: Vec<(u64, u64)> = (1..=42).map(|n| (n, 1)).collect();
    assert_eq!(paged_rows(&webhook), expected);
}

#[tokio::test]
async fn a_backfill_of_a_rule_that_is_changed_meanwhile_stops_and_the_change_is_live() {
    let site = site("");
    site.rule(
        "paged",
        &paged("SELECT payload.n AS n, 1 AS version FROM \"t\" WHERE payload.n > 1000"),
    );
    let weir = forty_messages(&site).await;
    site.write("next.toml", &version(2));
    let webhook = Webhook::start().await;
    let meanwhile = async {
        stands(&weir).await;
        site.rule("paged", &version(3));
        reload(&weir).await;
    };
    let args = ["--rule", "next.toml", "--id", "paged"];
    let (done, ()) = tokio::join!(backfill(&weir, &args), meanwhile);
    assert_eq!(done.code, Some(2), "{}{}", done.stdout, done.stderr);
    for words in ["E1611", "was changed meanwhile", "--from"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    let (rows, _) = done.stderr.split_once(" rows of ").unwrap();
    let rows: u64 = rows.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((4..40).contains(&rows), "{rows}");
    let kept = fs::read_to_string(site.path().join("rules/paged.toml")).unwrap();
    assert_eq!(kept, version(3));
    page(&site, webhook.port());
    reload(&weir).await;
    publish(&weir, 41..=42).await;
    let all = usize::try_from(rows).unwrap() + 2;
    webhook.wait_for(all, PATIENCE).await;
    assert_eq!(weir.stop().await, Some(0));
    let before = (1..=rows).map(|n| (n, 2));
    let expected: Vec<(u64, u64)> = before.chain([(41, 3), (42, 3)]).collect();
    assert_eq!(paged_rows(&webhook), expected);
}

#[tokio::test]
async fn a_backfill_of_a_rule_whose_file_goes_away_stops() {
    let site = site("");
    site.rule(
        "paged",
        &paged("SELECT payload.n AS n, 1 AS version FROM \"t\" WHERE payload.n > 1000"),
    );
    let weir = forty_messages(&site).await;
    site.write("next.toml", &version(2));
    let meanwhile = async {
        stands(&weir).await;
        site.remove_rule("paged");
        reload(&weir).await;
    };
    let args = ["--rule", "next.toml", "--id", "paged"];
    let (done, ()) = tokio::join!(backfill(&weir, &args), meanwhile);
    assert_eq!(done.code, Some(2), "{}{}", done.stdout, done.stderr);
    for words in ["E1611", "was removed meanwhile"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    assert!(!site.path().join("rules/paged.toml").exists());
    let (_, rules) = weir.get("/weir/v1/rules").await;
    assert!(!rules.contains("\"paged\""), "{rules}");
}

#[tokio::test]
async fn a_backfill_of_a_rule_whose_function_is_changed_meanwhile_stops() {
    let site = site("");
    site.udf("scale", "fn ten(n) { n * 10 }");
    let before = paged("SELECT scale.ten(payload.n) AS n FROM \"t\" WHERE payload.n > 1000");
    site.rule("paged", &before);
    let weir = forty_messages(&site).await;
    site.write(
        "next.toml",
        &paged("SELECT scale.ten(payload.n) AS n FROM \"t\""),
    );
    let meanwhile = async {
        stands(&weir).await;
        site.udf("scale", "fn ten(n) { n * 100 }");
        reload(&weir).await;
    };
    let args = ["--rule", "next.toml", "--id", "paged"];
    let (done, ()) = tokio::join!(backfill(&weir, &args), meanwhile);
    assert_eq!(done.code, Some(2), "{}{}", done.stdout, done.stderr);
    for words in ["E1611", "function"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    let kept = fs::read_to_string(site.path().join("rules/paged.toml")).unwrap();
    assert_eq!(kept, before, "what was live goes on");
}

#[tokio::test]
async fn a_rule_begins_without_a_seam_while_others_change_all_the_time() {
    let site = site("");
    let weir = site.start(WEIR).await;
    let publishers = Publishers::start(&weir).await;
    publishers.until(600).await;
    let narrow = rule("narrow", EVERYTHING) + "buffer = { max_rows = 16 }\n";
    site.write("narrow.toml", &narrow);
    let mut filling = Box::pin(backfill(&weir, &["--rule", "narrow.toml"]));
    let mut reloads: u32 = 0;
    let done = loop {
        let other = rule(
            "other",
            &format!("SELECT payload.n AS n FROM \"u\" WHERE payload.n > {reloads}"),
        );
        site.rule("other", &other);
        tokio::select! {
            done = &mut filling => break done,
            () = reload(&weir) => reloads += 1,
        }
    };
    drop(filling);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert!(reloads > 0, "there were reloads meanwhile");
    let sent = publishers.end().await;
    let all: u64 = sent.iter().sum();
    wait_until("every row", PATIENCE, || {
        let rows = arrived(&site, "narrow").len() as u64;
        async move { rows >= all }
    })
    .await;
    assert_eq!(weir.stop().await, Some(0));
    assert_seamless(&arrived(&site, "narrow"), &sent);
}
