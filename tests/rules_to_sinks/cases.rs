//! The language as its users see it: the golden cases, and every example of the manual, through `weir try --cases`.
//!
//! A golden case says what must hold (`name`), where that stands (`spec`), what is tried (`case`) and what keys of the
//! answer must be (`expect`); `message_has` is a part of the message. In the manual, a block of `sql` is followed by a
//! block of `json` with the message and the answer.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value as Json, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use weir_test_support::{Site, Weir, repository};

use crate::WEIR;

/// What one case is called, what is asked, what must come.
struct Case {
    name: String,
    asked: Json,
    expected: Map<String, Json>,
}

#[tokio::test]
async fn every_golden_case_gives_what_it_says() {
    let mut cases = Vec::new();
    for folder in ["language", "functions"] {
        let folder = repository().join("tests/rules_to_sinks/cases").join(folder);
        for entry in std::fs::read_dir(&folder).unwrap() {
            golden(&entry.unwrap().path(), &mut cases);
        }
    }
    assert!(cases.len() >= 600, "only {} cases were found", cases.len());
    hold(&cases).await;
}

#[tokio::test]
async fn every_example_of_the_manual_gives_what_it_says() {
    for (page, least) in [("docs/rule-sql.md", 60), ("docs/common-mistakes.md", 20)] {
        let text = std::fs::read_to_string(repository().join(page)).unwrap();
        let cases = examples(page, &text);
        assert!(
            cases.len() >= least,
            "only {} examples in {page}",
            cases.len()
        );
        hold(&cases).await;
    }
}

fn golden(file: &Path, cases: &mut Vec<Case>) {
    let text = std::fs::read_to_string(file).unwrap();
    let place = file.file_stem().unwrap().to_string_lossy();
    for (number, line) in (1..).zip(text.lines()) {
        let Json::Object(mut case) = serde_json::from_str(line).unwrap_or_else(|error| {
            panic!("{}:{number}: {error}", file.display());
        }) else {
            panic!("{}:{number}: not an object", file.display());
        };
        let Some(Json::Object(expected)) = case.remove("expect") else {
            panic!("{}:{number}: no `expect`", file.display());
        };
        cases.push(Case {
            name: format!("{place}:{number}: {}", case["name"].as_str().unwrap()),
            asked: case.remove("case").unwrap(),
            expected,
        });
    }
}

/// Pairs of blocks: a statement, and its message with the answer.
fn examples(page: &str, text: &str) -> Vec<Case> {
    const ASKED: [&str; 6] = [
        "message",
        "messages",
        "template",
        "template_kind",
        "undefined",
        "udf",
    ];
    let mut cases = Vec::new();
    let mut blocks = text.split("\n```sql\n");
    let mut line = blocks.next().map_or(0, |first| first.lines().count() + 2);
    for block in blocks {
        let (sql, rest) = block.split_once("\n```\n").unwrap();
        let answer = rest.trim_start().strip_prefix("```json\n");
        let answer = answer.unwrap_or_else(|| panic!("{page}:{line}: no block of json follows"));
        let (answer, _) = answer.split_once("\n```").unwrap();
        let mut asked: Map<String, Json> =
            serde_json::from_str(answer).unwrap_or_else(|error| panic!("{page}:{line}: {error}"));
        let keys: Vec<String> = asked
            .keys()
            .filter(|key| !ASKED.contains(&key.as_str()))
            .cloned()
            .collect();
        let expected = keys
            .into_iter()
            .map(|key| {
                let value = asked.remove(&key).unwrap();
                (key, value)
            })
            .collect();
        asked.insert("sql".to_owned(), sql.into());
        cases.push(Case {
            name: format!("{page}:{line}"),
            asked: asked.into(),
            expected,
        });
        line += block.lines().count() + 1;
    }
    cases
}

/// What weir answers to those lines, and how it ended.
async fn answers(lines: &[u8]) -> (Vec<Json>, Option<i32>) {
    answers_in("UTC", lines).await
}

async fn answers_in(zone: &str, lines: &[u8]) -> (Vec<Json>, Option<i32>) {
    let mut weir = Command::new(WEIR)
        .args(["try", "--cases", "-"])
        .env("TZ", zone)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = weir.stdin.take().unwrap();
    let (written, finished) = tokio::join!(
        async {
            stdin.write_all(lines).await.unwrap();
            drop(stdin);
        },
        weir.wait_with_output()
    );
    let () = written;
    let finished = finished.unwrap();
    let output = String::from_utf8(finished.stdout).unwrap();
    let answers = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (answers, finished.status.code())
}

/// The answer to one case.
async fn answer(case: Json) -> Json {
    let (mut answers, _) = answers(format!("{case}\n").as_bytes()).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

const HOT: &str = "SELECT payload.t AS t, clientid FROM \"dev/+\" WHERE payload.t > 30";

#[tokio::test]
async fn the_zone_is_a_name_or_an_offset_in_the_environment() {
    let case = json!({
        "sql": "SELECT unix_ts_to_rfc3339(0) AS t, timezone_to_offset_seconds('local') AS s FROM \"t\"",
        "message": {"topic": "t"}
    });
    for (zone, text, seconds) in [
        ("Asia/Kolkata", "1970-01-01T05:30:00+05:30", 19_800),
        ("+08:00", "1970-01-01T08:00:00+08:00", 28_800),
        ("-03:30", "1969-12-31T20:30:00-03:30", -12_600),
        ("CST-8", "1970-01-01T08:00:00+08:00", 28_800),
        ("UTC", "1970-01-01T00:00:00+00:00", 0),
    ] {
        let (answers, _) = answers_in(zone, format!("{case}\n").as_bytes()).await;
        assert_eq!(
            answers[0]["outputs"],
            json!([{"t": text, "s": seconds}]),
            "{zone}"
        );
    }
}

#[tokio::test]
async fn every_line_that_is_not_blank_has_one_answer_whatever_it_is() {
    let good = json!({"sql": HOT, "message": {"topic": "dev/a", "payload": {"t": 31}}}).to_string();
    let mut lines = b"\xef\xbb\xbf".to_vec();
    lines.extend(good.bytes());
    lines.extend(b"\r\n\n  \t\n{\"sql\": \"\xff\xfe\"}\n");
    lines.extend(b"[1]\n{\"sql\": \n{\"sql\": x}\n\0\n{\"sql\":\"\\ud800\"}\n");
    lines.extend("[".repeat(100_000).bytes());
    lines.push(b'\n');
    lines.extend(good.bytes());
    let (answers, code) = answers(&lines).await;

    assert_eq!(code, Some(1));
    let row = json!({"outputs": [{"t": 31, "clientid": "test"}]});
    assert_eq!(answers[0], row);
    assert_eq!(answers.last(), Some(&row));
    let bad = &answers[1..answers.len() - 1];
    let places: Vec<(u64, Option<u64>)> = bad
        .iter()
        .map(|answer| {
            assert_eq!(answer["error"], "case", "{answer}");
            (answer["line"].as_u64().unwrap(), answer["column"].as_u64())
        })
        .collect();
    assert_eq!(
        places[..6],
        [
            (4, Some(10)),
            (5, None),
            (6, Some(8)),
            (7, Some(9)),
            (8, Some(1)),
            (9, Some(8)),
        ]
    );
    assert_eq!(places.len(), 7);
}

#[tokio::test]
async fn what_is_wrong_with_a_case_is_told_with_its_key_and_what_to_write() {
    let told = async |line: &str, wanted: &str| {
        let (answers, code) = answers(line.as_bytes()).await;
        assert_eq!(code, Some(1), "{line}");
        assert_eq!(answers[0]["line"], 1, "{}", answers[0]);
        let message = answers[0]["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{line}\n{message}");
        assert!(
            !message.contains("invalid type") && !message.contains(" at line "),
            "{message}"
        );
    };
    told("[]", "a case is one object on one line").await;
    told("{}", "the key `sql` is missing").await;
    told(r#"{"sql": 3}"#, "`sql` takes a text").await;
    told(r#"{"sql": "", "sql": ""}"#, "`sql` stands twice").await;
    told(r#"{"sql": "", "mesage": {}}"#, "did you mean `message`?").await;
    told(r#"{"sql": "", "udf": ["x"]}"#, "`udf` takes an object").await;
    told(r#"{"sql": "", "messages": {}}"#, "`messages` takes a list").await;
    told(
        r#"{"sql": "", "template_kind": "jsom"}"#,
        "did you mean `json`?",
    )
    .await;
    told(
        r#"{"sql": "", "message": {"topic": "t"}, "messages": []}"#,
        "exclude each other",
    )
    .await;
    told(
        r#"{"sql": "", "messages": [{"topic": "t"}, {"topic": "t", "qos": 3}]}"#,
        "`messages[1]`: `qos` is a number from 0 to 2",
    )
    .await;
    told(r#"{"sql": "", "message": "t"}"#, "`message` is an object").await;
    told(
        r#"{"sql": "", "message": {}}"#,
        "the key `topic` is missing",
    )
    .await;
    told(
        r#"{"sql": "", "message": {"event_topic": "$events/x"}}"#,
        "there is no event `$events/x`",
    )
    .await;
    told(
        r#"{"sql": "", "message": {"topic": "t", "payload_hex": "+f"}}"#,
        "`payload_hex` is pairs",
    )
    .await;
}

#[tokio::test]
async fn a_topic_that_no_message_has_is_an_error() {
    for topic in ["", "dev/+", "dev/#", "a\0b", &"x".repeat(65_536)] {
        let answer = answer(json!({"sql": HOT, "message": {"topic": topic}})).await;
        assert_eq!(answer["error"], "case", "{answer}");
        assert_eq!(answer["line"], 1, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with("`message`: `topic`: "), "{message}");
    }
}

#[tokio::test]
async fn of_several_messages_those_that_made_no_row_are_named() {
    let message = |payload: &str| json!({"topic": "dev/a", "payload": payload});
    let messages = [
        message(r#"{"t":31}"#),
        message("no JSON"),
        message(r#"{"t":1}"#),
        json!({"topic": "other"}),
        message(r#"{"t":32}"#),
    ];
    let some = answer(json!({"sql": HOT, "messages": messages})).await;
    assert_eq!(some["outputs"].as_array().unwrap().len(), 2, "{some}");
    let lost = json!([
        {"message": 1, "why": "exception", "kind": "payload_decode"},
        {"message": 2, "why": "no_result"},
        {"message": 3, "why": "not_matched"},
    ]);
    assert_eq!(some["dropped"], lost, "{some}");

    let none = answer(json!({"sql": HOT, "messages": messages[1..4]})).await;
    assert_eq!(none["dropped"], true, "{none}");
    assert_eq!(none["why"], "not_matched", "{none}");
    assert_eq!(none["messages"][0]["kind"], "payload_decode", "{none}");
    assert_eq!(none["messages"][2]["message"], 2, "{none}");
}

#[tokio::test]
async fn outputs_and_what_is_rendered_of_them_stand_side_by_side() {
    let payload = |text: &str| json!({"topic": "t", "payload": text});
    let answer = answer(json!({
        "sql": "SELECT payload.a AS a FROM \"t\"",
        "messages": [payload(r#"{"a":1}"#), payload("{}"), payload(r#"{"a":3}"#)],
        "template": "a is ${a}",
        "undefined": "fail",
    }))
    .await;
    assert_eq!(answer["outputs"], json!([{"a": 1}, {}, {"a": 3}]));
    assert_eq!(answer["rendered"][0], "a is 1");
    assert_eq!(answer["rendered"][1]["error"], "E3101", "{answer}");
    assert_eq!(answer["rendered"][2], "a is 3");

    // Bytes that are no text cannot be a row of JSON, and are rendered no more than they are shown.
    let bytes = self::answer(json!({
        "sql": "FOREACH payload.s AS s DO CASE WHEN s = 1 THEN bin2hexstr('a') ELSE hexstr2bin('ff') END AS b FROM \"t\"",
        "message": {"topic": "t", "payload": {"s": [0, 1, 0]}},
        "template": "b",
    }))
    .await;
    assert_eq!(bytes["outputs"], json!([{"b": "61"}]), "{bytes}");
    assert_eq!(bytes["rendered"], json!(["b"]), "{bytes}");
    assert_eq!(bytes["dropped"][0]["message"], 0, "{bytes}");
}

#[tokio::test]
async fn a_malformed_template_is_told_with_its_place() {
    let case = |template: &str, kind: &str| {
        json!({
            "sql": "SELECT 1 AS a FROM \"t\"", "message": {"topic": "t"},
            "template": template, "template_kind": kind,
        })
    };
    for kind in ["text", "json", "url", "sql"] {
        let (answers, code) = answers(format!("{}\n", case("${a}\n é${a", kind)).as_bytes()).await;
        assert_eq!(code, Some(1), "{kind}");
        let errors = &answers[0]["template_errors"];
        assert_eq!(errors[0]["at"], "2:3", "{kind}: {}", answers[0]);
        assert!(errors[0]["message"].as_str().unwrap().contains("`${a`"));
        // As a sink has it, which warns of it and sends it as it is.
        assert_eq!(answers[0]["outputs"], json!([{"a": 1}]), "{kind}");
    }
    let good = answer(case("${a}", "text")).await;
    assert_eq!(good, json!({"outputs": [{"a": 1}], "rendered": ["1"]}));
}

#[tokio::test]
async fn a_message_without_a_client_has_the_same_one_in_every_mode() {
    let site = Site::new();
    let sql = "SELECT clientid FROM \"t\"";
    let one = site
        .weir(WEIR, &["try", sql, "-t", "t"])
        .await
        .succeeded()
        .stdout;
    assert!(one.contains(r#"{"clientid":"test"}"#), "{one}");
    let batch = answer(json!({"sql": sql, "message": {"topic": "t"}})).await;
    assert_eq!(batch["outputs"], json!([{"clientid": "test"}]));
    let help = site.weir(WEIR, &["try", "--help"]).await.succeeded().stdout;
    assert!(help.contains("[default: test]"), "{help}");
    assert!(help.contains("clientid (`test` unless given"), "{help}");
}

#[tokio::test]
async fn a_message_that_no_client_could_send_is_not_tried() {
    let site = Site::new();
    for (topic, wanted) in [
        ("a/+", "must not contain `+` or `#`"),
        ("", "must not be empty"),
        ("$events/nothing", "there is no event `$events/nothing`"),
    ] {
        let tried = site
            .weir(WEIR, &["try", "SELECT 1 AS a FROM \"#\"", "-t", topic])
            .await;
        assert_eq!(tried.code, Some(2), "{tried:?}");
        assert!(tried.stderr.contains(wanted), "{}", tried.stderr);
        assert!(tried.stderr.contains("--topic"), "{}", tried.stderr);
    }
}

/// What a running weir answers to a case, with the status.
async fn ask(weir: &Weir, case: Json) -> (u16, Json) {
    let (status, body) = weir.post("/weir/v1/rules/test", &case.to_string()).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_running_weir_answers_a_case_as_the_command_does() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let ask = async |case| ask(&weir, case).await;
    let sql = "SELECT payload.temp * 2 AS twice FROM \"t\" WHERE qos = 0";
    let (status, answer) =
        ask(json!({ "sql": sql, "message": { "topic": "t", "payload": { "temp": 21 } } })).await;
    assert_eq!(
        (status, answer),
        (200, json!({ "outputs": [{ "twice": 42 }] }))
    );
    let (_, answer) = ask(json!({ "sql": sql, "message": { "topic": "t", "qos": 1 } })).await;
    assert_eq!(answer, json!({ "dropped": true, "why": "no_result" }));
    let (_, answer) = ask(json!({ "sql": sql, "message": { "topic": "t", "payload": "{" } })).await;
    assert_eq!(answer["kind"], "payload_decode");
    let (status, answer) = ask(json!({ "sql": "SELECT uper(topic) AS t FROM \"t\"" })).await;
    assert_eq!((status, &answer["code"]), (200, &json!("E0102")));
    let (status, answer) = ask(json!({ "message": {} })).await;
    assert_eq!((status, &answer["code"]), (400, &json!("E1404")));
}

#[tokio::test]
async fn a_case_that_makes_too_much_is_a_limit() {
    let huge = r#"FOREACH [1..10000] AS i DO repeat('x', 100000) AS x FROM "t""#;
    let wide = (0..200)
        .map(|at| format!("payload AS p{at}"))
        .collect::<Vec<_>>();
    let wide = format!("SELECT {} FROM \"t\"", wide.join(", "));
    let many = "${x}".repeat(2000);
    let message = json!({ "topic": "t", "payload": "x".repeat(100_000) });
    let cases = [
        json!({ "sql": huge, "message": message }),
        json!({ "sql": wide, "message": message }),
        json!({ "sql": "SELECT payload AS x FROM \"t\"", "message": message, "template": many }),
    ];
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let site = Site::new();
    let weir = site.start(WEIR).await;
    for (case, line) in cases.iter().zip(answers(lines.as_bytes()).await.0) {
        let (status, body) = weir.post("/weir/v1/rules/test", &case.to_string()).await;
        let answer: Json = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["kind"]), (200, &json!("limit")), "{body}");
        assert_eq!(line["kind"], "limit", "{line}");
    }
}

#[tokio::test]
async fn a_running_weir_bounds_the_tests_that_it_is_asked_for() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let ask = async |case| ask(&weir, case).await;
    let endless = json!({
        "sql": "FOREACH [1..1000000] AS i DO i INCASE sha256(repeat(str(i), 100000)) = '' FROM \"t\"",
        "message": { "topic": "t" },
    });
    let (a, b, c) = tokio::join!(ask(endless.clone()), ask(endless.clone()), ask(endless));
    let mut answers = [a, b, c];
    answers.sort_by_key(|(status, _)| *status);
    for (status, answer) in &answers[..2] {
        assert_eq!(
            (*status, &answer["kind"]),
            (200, &json!("limit")),
            "{answer}"
        );
        assert!(
            answer["message"].as_str().unwrap().contains("5 s"),
            "{answer}"
        );
    }
    let (status, answer) = &answers[2];
    assert_eq!(
        (*status, &answer["code"]),
        (429, &json!("E1404")),
        "{answer}"
    );
    let messages = vec![json!({ "topic": "t" }); 1001];
    let (status, answer) = ask(json!({ "sql": "SELECT 1 FROM \"t\"", "messages": messages })).await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("E1404")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_running_weir_knows_its_user_functions_in_a_case() {
    let site = Site::new();
    site.udf("climate", "fn double(x) { x * 2 }\nfn more(x) { x + 1 }\n");
    site.udf("other", "fn one() { 1 }\n");
    let weir = site.start(WEIR).await;
    let with = async |udf: Json| {
        let sql = "SELECT climate.double(21) AS a, other.one() AS b FROM \"t\"";
        let case = json!({ "sql": sql, "message": { "topic": "t" }, "udf": udf });
        ask(&weir, case).await.1
    };
    assert_eq!(
        with(json!({})).await,
        json!({ "outputs": [{ "a": 42, "b": 1 }] })
    );
    let own = json!({ "climate": "fn double(x) { x + x + 1 }" });
    assert_eq!(with(own).await, json!({ "outputs": [{ "a": 43, "b": 1 }] }));
}

/// Asks weir about all of them at once.
async fn hold(cases: &[Case]) {
    let lines: String = cases
        .iter()
        .map(|case| format!("{}\n", case.asked))
        .collect();
    let (answers, _) = answers(lines.as_bytes()).await;
    assert_eq!(answers.len(), cases.len(), "one answer for each case");
    let mut wrong = String::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let unlike = case
            .expected
            .iter()
            .any(|(key, wanted)| match key.as_str() {
                "message_has" => !answer["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(wanted.as_str().unwrap())),
                key => answer.get(key) != Some(wanted),
            });
        if unlike {
            let (wanted, asked) = (json!(case.expected), &case.asked);
            write!(
                wrong,
                "\n{}\n  asked    {asked}\n  expected {wanted}\n  got      {answer}\n",
                case.name
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
