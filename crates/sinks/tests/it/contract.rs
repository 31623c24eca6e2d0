//! What every sink promises, asked of each: rows arrive, in order, once; a far side that is away is waited for.

use std::future::Future;
use std::time::Duration;

use weir_sinks::SinkState;
use weir_test_support::{Answer, Mosquitto, Postgres, Webhook, wait_until};

use crate::bench::{Bench, PATIENCE};

/// Rows with rising numbers, pushed while the far side may be away; `received` says what has arrived.
async fn keeps_the_contract<F: Future<Output = Vec<u64>>>(bench: &Bench, received: impl Fn() -> F) {
    for number in 0..300 {
        bench.push(&format!("{{\"n\":{number}}}"));
    }
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered, counters.dropped),
        (300, 0, 0),
        "{:?}",
        bench.sink.last_error()
    );
    wait_until("all rows are there", PATIENCE, || async {
        received().await.len() >= 300
    })
    .await;
    assert_eq!(
        received().await,
        (0..300).collect::<Vec<_>>(),
        "each once, in order"
    );
    assert_eq!(bench.sink.state(), SinkState::Up);
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let bench = Bench::new(
        "table = \"t\"\ncreate_table = \"if_missing\"",
        Some(crate::sqlite::SQLITE),
    );
    keeps_the_contract(&bench, || async {
        let rows = crate::sqlite::query(&bench, "SELECT n || '' FROM t ORDER BY rowid").await;
        rows.iter().map(|row| row.parse().unwrap()).collect()
    })
    .await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let database = Postgres::shared().await.create_database().await;
    let connector = format!("type = \"postgres\"\nurl = \"{}\"", database.url());
    let bench = Bench::new(
        "table = \"t\"\ncreate_table = \"if_missing\"",
        Some(&connector),
    );
    keeps_the_contract(&bench, || async {
        let rows = database.psql("SELECT n FROM t ORDER BY ctid").await;
        rows.lines()
            .map(|row| row.trim().parse().unwrap())
            .collect()
    })
    .await;
}

#[tokio::test]
async fn http_keeps_the_contract() {
    let server = Webhook::start().await;
    server.answer_next(Answer::status(503));
    let sink = format!(
        "url = \"{}/hook\"\nbatch = {{ max_rows = 40, format = \"json_array\" }}\nretry = {{ initial = \"1ms\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, Some("type = \"http\""));
    keeps_the_contract(&bench, || async {
        let requests = server.requests();
        // The first one was refused with 503 and came again.
        let bodies = requests.iter().skip(1).map(|request| request.json());
        bodies
            .flat_map(|body| {
                body.as_array()
                    .unwrap()
                    .iter()
                    .map(|row| row["n"].as_u64().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    })
    .await;
}

#[tokio::test]
async fn mqtt_keeps_the_contract() {
    for protocol in ["5", "3.1.1"] {
        let remote = Mosquitto::start().await;
        let subscriber = remote.subscribe("up/#", &["-q", "1"]).await;
        let connector = format!(
            "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\nclient_id = \"weir\"\nprotocol = \"{protocol}\"",
            remote.port()
        );
        let bench = Bench::new("topic = \"up/x\"\nqos = 1", Some(&connector));
        let subscriber = tokio::sync::Mutex::new(subscriber);
        keeps_the_contract(&bench, || async {
            let mut subscriber = subscriber.lock().await;
            let all = subscriber.all_within(Duration::from_millis(300)).await;
            all.iter()
                .map(|message| crate::mqtt::number(&message.payload))
                .collect()
        })
        .await;
    }
}

#[tokio::test]
async fn files_keep_the_contract() {
    let bench = Bench::new("type = \"file\"\npath = \"a/out.ndjson\"", None);
    let path = bench.folder.path().join("files/a/out.ndjson");
    keeps_the_contract(&bench, || async {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["n"]
                    .as_u64()
                    .unwrap()
            })
            .collect()
    })
    .await;
}

#[tokio::test]
async fn a_row_whose_path_no_file_can_have_is_parked_and_the_others_are_written() {
    let bench = Bench::new(
        "type = \"file\"\npath = \"${device}/out.ndjson\"\nretry = { initial = \"10ms\", max = \"50ms\" }",
        None,
    );
    let files = bench.folder.path().join("files");
    std::fs::create_dir_all(files.join("folder/out.ndjson")).unwrap();
    std::fs::write(files.join("plain"), "").unwrap();
    bench.push("{\"device\":\"a\"}");
    for device in [&"x".repeat(300), "folder", "plain", "plain/deeper"] {
        bench.push(&format!("{{\"device\":\"{device}\"}}"));
    }
    bench.push("{\"device\":\"b\"}");
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3602"]),
        (2, 4),
        "{:?}",
        bench.sink.last_error()
    );
}

#[tokio::test]
async fn a_fixed_path_that_cannot_be_written_is_waited_for() {
    let bench = Bench::new(
        "type = \"file\"\npath = \"out.ndjson\"\nretry = { initial = \"10ms\", max = \"50ms\" }",
        None,
    );
    let path = bench.folder.path().join("files/out.ndjson");
    std::fs::create_dir_all(&path).unwrap();
    bench.push("{\"n\":1}");
    bench
        .wait("several attempts were made", |c| c.retries >= 2)
        .await;
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(bench.settled().await.delivered, 1);
}
