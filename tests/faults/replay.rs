//! What was captured: what a new version of a rule would make of it, and a rule that begins with it, without a seam.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use weir_test_support::{Site, Weir, mosquitto_pub, wait_until};

use crate::WEIR;
use crate::killed::Client;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const CAPTURE: &str = "[capture]\nfilters = [\"t\", \"dev/#\"]\n";

/// A rule whose rows are lines of `data/files/NAME.ndjson`.
pub(crate) fn rule(name: &str, sql: &str) -> String {
    format!(
        "sql = '''{sql}'''\n[[sinks]]\nid = \"all\"\ntype = \"file\"\npath = \"{name}.ndjson\"\n"
    )
}

const FIRST: &str =
    "SELECT payload.n AS n, payload.unit AS unit FROM \"dev/+/up\" WHERE payload.n > 1";
const SECOND: &str =
    "SELECT payload.n * 10 AS n, payload.unit AS unit FROM \"dev/+/up\" WHERE payload.n <> 2";

pub(crate) fn site(more: &str) -> Site {
    let site = Site::new();
    site.config(&format!("{CAPTURE}{more}"));
    site
}

async fn send(weir: &Weir, topic: &str, payload: &str, qos: &str) {
    let args = ["-t", topic, "-m", payload, "-q", qos, "-i", "device"];
    let sent = mosquitto_pub(weir.mqtt_port(), &args).await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
}

/// Returns when so many messages can be read.
pub(crate) async fn captured(site: &Site, messages: u64) -> Json {
    let mut listed = Json::Null;
    for _ in 0..600 {
        let ls = site.weir(WEIR, &["capture", "ls", "--json"]).await;
        listed = serde_json::from_str(&ls.stdout).unwrap_or_default();
        let items = listed["items"].as_array().into_iter().flatten();
        if items
            .filter_map(|item| item["messages"].as_u64())
            .sum::<u64>()
            >= messages
        {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{messages} messages were not captured: {listed}");
}

pub(crate) async fn replay(site: &Site, args: &[&str]) -> (Option<i32>, String, String) {
    let args: Vec<&str> = ["replay"].iter().chain(args).copied().collect();
    let done = site.weir(WEIR, &args).await;
    (done.code, done.stdout, done.stderr)
}

async fn three_messages(site: &Site) -> Weir {
    let weir = site.start(WEIR).await;
    send(&weir, "dev/a/up", r#"{"n":1,"unit":"C"}"#, "0").await;
    send(&weir, "dev/a/up", r#"{"n":2,"unit":"C"}"#, "1").await;
    send(&weir, "dev/b/up", r#"{"n":3,"unit":"C"}"#, "2").await;
    send(&weir, "elsewhere", "x", "1").await;
    captured(site, 3).await;
    weir
}

fn segments(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.path().join("data/store/capture")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("capture-")
    });
    files.sort();
    files
}

#[tokio::test]
async fn a_new_version_is_held_against_the_one_that_runs() {
    let site = site("");
    site.rule("hot", &rule("hot", FIRST));
    site.write("hot.toml", &rule("hot", SECOND));
    let weir = three_messages(&site).await;
    let listed = captured(&site, 3).await;
    assert_eq!(
        listed["items"][0]["filters"],
        serde_json::json!(["t", "dev/#"])
    );
    assert_eq!(
        listed["items"][0]["messages"], 3,
        "what no filter wants is not kept"
    );
    // While weir runs.
    let (code, said, told) = replay(&site, &["--rule", "hot.toml", "--from", "1h"]).await;
    assert_eq!(code, Some(1), "{said}{told}");
    for words in [
        "dev/a/up  added      {\"n\":10,\"unit\":\"C\"}",
        "dev/a/up  missing    {\"n\":2,\"unit\":\"C\"}",
        "dev/b/up  different",
        "    n  3 -> 30",
        "3 messages, 3 for the rule: 0 rows the same, 1 added, 1 missing, 1 different",
    ] {
        assert!(said.contains(words), "{words}: {said}{told}");
    }
    assert!(!said.contains("unit  "), "the same in both: {said}");
    // And when it does not.
    weir.kill().await;
    let (code, said, _) = replay(&site, &["--rule", "hot.toml", "--json"]).await;
    assert_eq!(code, Some(1));
    let lines: Vec<Json> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["added", "missing", "different", "summary"]);
    assert_eq!(lines[2]["fields"], serde_json::json!(["n"]));
    assert_eq!(
        (&lines[2]["before"]["n"], &lines[2]["after"]["n"]),
        (&3.into(), &30.into())
    );
    let (code, said, _) = replay(&site, &["--rule", "hot", "--from", "24h"]).await;
    assert_eq!(code, Some(0), "the same version: {said}");
    let against = [
        "--rule",
        "rules/hot.toml",
        "--against",
        "hot.toml",
        "--from",
        "24h",
    ];
    let (code, said, _) = replay(&site, &against).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("1 added, 1 missing, 1 different"), "{said}");
    // Nothing was sent by any of this.
    assert_eq!(lines_of(&site, "hot").len(), 2);
}

#[tokio::test]
async fn a_captured_message_outlives_a_kill_and_damage_is_named() {
    let site = site("");
    site.write("hot.toml", &rule("hot", FIRST));
    three_messages(&site).await.kill().await;
    let file = segments(&site).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(b"\xf0wfr torn");
    fs::write(&file, &bytes).unwrap();
    let weir = site.start(WEIR).await;
    send(&weir, "dev/a/up", r#"{"n":4}"#, "1").await;
    let listed = captured(&site, 4).await;
    assert_eq!(
        (&listed["damaged"], &listed["missing"]),
        (&0.into(), &0.into()),
        "a tear is cut"
    );
    weir.kill().await;
    let mut bytes = fs::read(&file).unwrap();
    // In the first frame with messages, behind the head of the file.
    let middle = bytes
        .windows(8)
        .position(|part| part == b"dev/a/up")
        .unwrap();
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let ls = site.weir(WEIR, &["capture", "ls"]).await;
    assert_eq!(ls.code, Some(1), "{}", ls.stderr);
    let (_, said, told) = replay(&site, &["--rule", "hot.toml"]).await;
    assert!(said.contains("\"n\":4"), "what is sound is there: {said}");
    assert!(told.contains("is damaged at byte"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_replayed_is_refused_in_words() {
    let site = Site::new();
    site.write("hot.toml", &rule("hot", FIRST));
    site.write(
        "bad.toml",
        &rule("bad", "SELECT uper(payload.n) AS n FROM \"dev/+/up\""),
    );
    let (code, _, told) = replay(&site, &["--rule", "hot.toml", "--from", "1h"]).await;
    assert_eq!(code, Some(2));
    assert!(
        told.contains("E1608") && told.contains("capture.filters"),
        "{told}"
    );
    site.config(CAPTURE);
    let weir = three_messages(&site).await;
    for (args, words) in [
        (&["--rule", "bad.toml"][..], "error[E0102]"),
        (
            &["--rule", "hot.toml", "--until", "2020-01-01T00:00:00Z"],
            "[E1608] nothing was captured between",
        ),
        (&["--rule", "hot.toml", "--from", "yesterday"], "is no time"),
        (&["--rule", "none.toml"], "there is no file none.toml"),
        (&["--from", "1h"], "--rule names the file"),
        (&["no.jsonl"], "cannot read no.jsonl"),
        (&["--rule", "bad.toml", "--backfill"], "error[E0102]"),
        (
            &["--rule", "hot.toml", "--id", "../hot", "--backfill"],
            "is no id of a rule",
        ),
    ] {
        let args: Vec<&str> = ["replay"].iter().chain(args).copied().collect();
        let done = weir.command(&args).await;
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{args:?}: {}", done.stderr);
    }
    weir.kill().await;
    site.config("[capture]\nfilters = [\"dev/#/up\"]\n");
    let check = site.weir(WEIR, &["check"]).await;
    assert_ne!(check.code, Some(0));
    assert!(
        check.stderr.contains("capture.filters[0]"),
        "{}{}",
        check.stdout,
        check.stderr
    );
}

#[tokio::test]
async fn a_recorded_file_goes_through_the_rules_and_sends_nothing() {
    let site = Site::new();
    site.rule("hot", &rule("hot", FIRST));
    site.write(
        "seen.jsonl",
        concat!(
            r#"{"v":1,"topic":"dev/a/up","qos":1,"retain":false,"payload":"{\"n\":5,\"unit\":\"C\"}"}"#,
            "\n",
            r#"{"sql":"SELECT 1","message":{"topic":"dev/a/up","payload":{"n":1}}}"#,
            "\n",
            r#"{"topic":"dev/b/up","payload_hex":"ff"}"#,
            "\n",
        ),
    );
    let (code, said, told) = replay(&site, &["seen.jsonl"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(
        said.starts_with("replayed 3 in ") && said.contains("passed 1  rows 1"),
        "{said}{told}"
    );
    site.write("next.toml", &rule("hot", SECOND));
    let args = [
        "seen.jsonl",
        "--rule",
        "next.toml",
        "--id",
        "hot",
        "--against",
        "rules/hot.toml",
    ];
    let (code, said, _) = replay(&site, &args).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("    n  5 -> 50"), "{said}");
    site.write("bad.jsonl", "{\"topic\":\"dev/+/up\"}\nx\n");
    let (code, _, told) = replay(&site, &["bad.jsonl"]).await;
    assert_eq!(code, Some(2));
    assert!(
        told.contains("bad.jsonl:1:") && told.contains("2 lines of bad.jsonl"),
        "{told}"
    );
    assert!(!site.path().join("data/files").exists());
}

#[tokio::test]
async fn a_capture_that_cannot_be_written_delays_nobody_and_is_told() {
    let site = site("");
    let weir = site.start(WEIR).await;
    fs::remove_dir_all(site.path().join("data/store/capture")).unwrap();
    send(&weir, "dev/a/up", "x", "1").await;
    wait_until("a word about it", PATIENCE, || {
        let printed = weir.printed();
        async move { printed.contains("E1607") }
    })
    .await;
    assert!(weir.metric("weir_capture_lost_total", &[]).await > 0.5);
    send(&weir, "dev/a/up", "x", "2").await;
}

/// The lines that a rule's sink has written.
pub(crate) fn lines_of(site: &Site, name: &str) -> Vec<Json> {
    let file = site.path().join(format!("data/files/{name}.ndjson"));
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// `(p, n)` of each row.
pub(crate) fn arrived(site: &Site, name: &str) -> Vec<(u64, u64)> {
    let number = |row: &Json, key: &str| row[key].as_u64().unwrap();
    let rows = lines_of(site, name);
    rows.iter()
        .map(|row| (number(row, "p"), number(row, "n")))
        .collect()
}

/// Publishers that go on until they are told to stop; each gives how many of its messages were acknowledged.
pub(crate) struct Publishers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<u16>>,
}

impl Publishers {
    pub(crate) async fn start(weir: &Weir) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = Vec::new();
        for p in 0..4 {
            let mut client = Client::connect(weir, &format!("p{p}")).await;
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            tasks.push(tokio::spawn(async move {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let payload = format!("{{\"p\":{p},\"n\":{n}}}");
                    let answer = client.publish(0x32, n, &payload).await;
                    assert_eq!(answer.expect("PUBACK")[0], 0x40);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    // A debug build on a busy machine has to be faster than what comes.
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                n
            }));
        }
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    pub(crate) async fn until(&self, count: usize) {
        wait_until("some acknowledgements", PATIENCE, || {
            let acknowledged = self.acknowledged.load(Ordering::Relaxed);
            async move { acknowledged >= count }
        })
        .await;
    }

    pub(crate) async fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for task in self.tasks {
            sent.push(task.await.unwrap().into());
        }
        sent
    }
}

pub(crate) const EVERYTHING: &str = "SELECT payload.p AS p, payload.n AS n FROM \"t\"";

/// Every message of each publisher is one row, in its order.
pub(crate) fn assert_seamless(rows: &[(u64, u64)], sent: &[u64]) {
    for (p, sent) in (0..).zip(sent) {
        let own: Vec<u64> = rows
            .iter()
            .filter(|row| row.0 == p)
            .map(|row| row.1)
            .collect();
        let expected: Vec<u64> = (1..=*sent).collect();
        let first = own.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(own, expected, "publisher {p} of {sent}: first at {first:?}");
    }
}

#[tokio::test]
async fn a_rule_that_begins_with_what_was_captured_misses_no_message_and_doubles_none() {
    let site = site("");
    let weir = site.start(WEIR).await;
    let publishers = Publishers::start(&weir).await;
    publishers.until(400).await;
    for name in ["one", "two", "three"] {
        site.write(&format!("{name}.toml"), &rule(name, EVERYTHING));
        let file = format!("{name}.toml");
        let done = weir
            .command(&[
                "replay",
                "--rule",
                &file,
                "--from",
                "1h",
                "--backfill",
                "--json",
            ])
            .await;
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        let done: Json = serde_json::from_str(&done.stdout).unwrap();
        assert!(done["rows"].as_u64().unwrap() >= 400, "{done}");
        assert_eq!(done["missing"], 0);
        assert!(site.path().join("rules").join(&file).exists());
        let now = publishers.acknowledged.load(Ordering::Relaxed);
        publishers.until(now + 200).await;
    }
    let sent = publishers.end().await;
    let all: u64 = sent.iter().sum();
    for name in ["one", "two", "three"] {
        wait_until("every row", PATIENCE, || {
            let rows = arrived(&site, name).len() as u64;
            async move { rows >= all }
        })
        .await;
    }
    assert_eq!(weir.stop().await, Some(0));
    for name in ["one", "two", "three"] {
        assert_seamless(&arrived(&site, name), &sent);
    }
}

#[tokio::test]
async fn a_backfill_that_finds_no_room_waits_for_it() {
    let site = site("");
    let weir = site.start(WEIR).await;
    let publishers = Publishers::start(&weir).await;
    publishers.until(600).await;
    let narrow = rule("narrow", EVERYTHING) + "buffer = { max_rows = 16 }\n";
    site.write("narrow.toml", &narrow);
    let done = weir
        .command(&["replay", "--rule", "narrow.toml", "--backfill"])
        .await;
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
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

#[tokio::test]
async fn a_rule_that_does_not_go_live_leaves_what_was() {
    let site = site("");
    site.rule("hot", &rule("hot", FIRST));
    let weir = three_messages(&site).await;
    let off = format!("enabled = false\n{}", rule("hot", SECOND));
    site.write("hot.toml", &off);
    let done = weir
        .command(&["replay", "--rule", "hot.toml", "--backfill"])
        .await;
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr.contains("E1609") && done.stderr.contains("not enabled"),
        "{}",
        done.stderr
    );
    let kept = fs::read_to_string(site.path().join("rules/hot.toml")).unwrap();
    assert_eq!(kept, rule("hot", FIRST));
    send(&weir, "dev/a/up", r#"{"n":9,"unit":"C"}"#, "1").await;
    wait_until("its row", PATIENCE, || {
        let rows = lines_of(&site, "hot");
        async move { rows.last().is_some_and(|row| row["n"] == 9) }
    })
    .await;
    // Where the file cannot be written the rule does not stay live, and nothing of it is left in the folder.
    let taken = site.path().join("rules/new.toml");
    fs::create_dir(&taken).unwrap();
    site.write("new.toml", &rule("new", FIRST));
    let done = weir
        .command(&["replay", "--rule", "new.toml", "--backfill"])
        .await;
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("new.toml"), "{}", done.stderr);
    assert!(!site.path().join("rules/.new.toml.partial").exists());
    send(&weir, "dev/a/up", r#"{"n":10,"unit":"C"}"#, "1").await;
    wait_until("its row", PATIENCE, || {
        let rows = lines_of(&site, "hot");
        async move { rows.last().is_some_and(|row| row["n"] == 10) }
    })
    .await;
    let rows = lines_of(&site, "new");
    assert!(rows.iter().all(|row| row["n"] != 10), "{rows:?}");
    fs::remove_dir(&taken).unwrap();
    // A captureless weir says what it lacks.
    weir.kill().await;
    site.config("");
    let weir = site.start(WEIR).await;
    site.write("hot.toml", &rule("hot", SECOND));
    let done = weir
        .command(&["replay", "--rule", "hot.toml", "--backfill"])
        .await;
    assert!(done.stderr.contains("E1608"), "{}", done.stderr);
}
