//! Requests to a real HTTP server.

use std::time::Duration;

use weir_sinks::CircuitState;
use weir_test_support::{Answer, Webhook, wait_until};

use crate::bench::{Bench, PATIENCE};

#[tokio::test]
async fn a_request_carries_what_the_file_says_and_a_signature() {
    let server = Webhook::start().await;
    let sink = format!(
        "type = \"http\"\nurl = \"{}/alert/${{device}}\"\nheaders = {{ x-trace = \"${{id}}\" }}\n\
         auth = {{ kind = \"hmac_sha256\", key = \"k\", header = \"x-sig\" }}\nbody = '{{\"d\":${{device}}}}'",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    bench.push(r#"{"device":"a/1","id":"m1"}"#);
    let request = server.wait_for(1, PATIENCE).await.remove(0);
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/alert/a%2F1")
    );
    assert_eq!(request.header("x-trace"), Some("m1"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.json(), serde_json::json!({"d": "a/1"}));
    // HMAC-SHA256 with key `k` of {"d":"a/1"}.
    let expected = {
        use hmac::Mac as _;
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"k").unwrap();
        mac.update(br#"{"d":"a/1"}"#);
        mac.finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(request.header("x-sig"), Some(expected.as_str()));
}

/// [LESSON-2]
#[tokio::test]
async fn a_signature_covers_the_time_where_that_is_sent() {
    let server = Webhook::start().await;
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\n\
         auth = {{ kind = \"hmac_sha256\", key = \"k\", header = \"x-sig\", timestamp_header = \"x-time\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    bench.push("{\"n\":1}");
    let request = server.wait_for(1, PATIENCE).await.remove(0);
    let time = request.header("x-time").unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_700_000_000);
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"k").unwrap();
    mac.update(format!("{time}.{{\"n\":1}}").as_bytes());
    let signature = mac.finalize().into_bytes();
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request.header("x-sig"), Some(signature.as_str()));
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone_until_one_probe_works() {
    let server = Webhook::start().await;
    server.answer_always(Answer::status(500));
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\nretry = {{ initial = \"1ms\", max = \"400ms\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    (0..3).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    bench
        .wait("the circuit is open", |_| {
            bench.sink.circuit() == CircuitState::Open
        })
        .await;
    let requests = server.wait_for(7, PATIENCE).await;
    let probes = requests[5..].windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(
        probes
            .into_iter()
            .all(|wait| wait >= Duration::from_millis(190))
    );
    assert!(
        requests.iter().all(|request| request.json()["n"] == 0),
        "nothing overtakes"
    );
    server.answer_always(Answer::status(204));
    assert_eq!(bench.settled().await.delivered, 3);
    assert_eq!(bench.sink.circuit(), CircuitState::Closed);
}

#[tokio::test]
async fn a_server_that_closes_in_the_midst_of_its_answer_is_asked_again() {
    // No status line at all, a torn one, and something that is no HTTP.
    for answer in ["", "HTTP/1.1 2", "220 mail.example ESMTP ready\r\n"] {
        let (port, requests) = raw_server(answer, b"").await;
        let sink = format!(
            "type = \"http\"\nurl = \"http://127.0.0.1:{port}\"\nretry = {{ initial = \"1ms\", max = \"5ms\" }}"
        );
        let bench = Bench::new(&sink, None);
        bench.push("{}");
        let counters = bench.wait("it is tried again", |c| c.retries >= 2).await;
        assert_eq!(
            (counters.delivered, counters.dead_lettered),
            (0, 0),
            "{answer:?}"
        );
        assert_eq!(
            bench.sink.last_error().unwrap().error.code(),
            "E3401",
            "{answer:?}"
        );
        assert!(requests.load(std::sync::atomic::Ordering::SeqCst) >= 2);
    }
}

#[tokio::test]
async fn a_row_too_large_for_the_server_is_parked_and_its_neighbours_go_out() {
    let server = Webhook::start().await;
    server.refuse_larger_than(100_000);
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\nbatch = {{ max_rows = 2, max_wait = \"5s\", format = \"json_array\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    bench.push("{\"n\":1}");
    bench.push(&format!("{{\"n\":2,\"blob\":\"{}\"}}", "x".repeat(1 << 20)));
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3502"]),
        (1, 1)
    );
    assert_eq!(bench.dead_letters()[0]["row"]["n"], 2);
}

#[tokio::test]
async fn statuses_worth_a_retry_are_retried_with_the_same_idempotency_key() {
    let server = Webhook::start().await;
    for status in [500, 503, 429, 408, 425, 502] {
        server.answer_next(Answer::status(status));
    }
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\nretry = {{ initial = \"1ms\", max = \"5ms\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    bench.push("{\"n\":1}");
    bench.push("{\"n\":2}");
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.retries), (2, 6));
    let requests = server.requests();
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 8);
    assert!(keys[..7].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[7], keys[0], "another row has another key");
}

#[tokio::test]
async fn a_refusal_parks_the_row_with_what_the_server_said() {
    let server = Webhook::start().await;
    for status in [400, 404, 302] {
        server.answer_next(Answer::status(status));
    }
    let bench = Bench::new(
        &format!("type = \"http\"\nurl = \"{}\"", server.url()),
        None,
    );
    (0..4).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3502"]),
        (1, 3)
    );
    assert!(
        bench.dead_letters()[0]["reason"]
            .as_str()
            .unwrap()
            .contains("400")
    );
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let server = Webhook::start().await;
    server.answer_next(Answer::status(429).header("retry-after", "1"));
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    let soon = httpdate::fmt_http_date(soon);
    server.answer_next(Answer::status(503).header("retry-after", &soon));
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\nretry = {{ initial = \"1ms\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    let began = std::time::Instant::now();
    bench.push("{}");
    // A number of seconds, then a date that is between one and two seconds away when the server gives it.
    let requests = server.wait_for(3, PATIENCE).await;
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(bench.settled().await.delivered, 1);
}

#[tokio::test]
async fn a_server_that_wants_no_pause_gets_one_and_its_circuit_opens() {
    let server = Webhook::start().await;
    let past = httpdate::fmt_http_date(std::time::UNIX_EPOCH);
    for _ in 0..5 {
        server.answer_next(Answer::status(503).header("retry-after", &past));
    }
    server.answer_always(Answer::status(429).header("retry-after", "0"));
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\nretry = {{ initial = \"20ms\", max = \"400ms\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    bench.push("{}");
    let requests = server.wait_for(7, PATIENCE).await;
    let waits: Vec<_> = requests
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    let least = |waits: &[Duration]| waits.iter().min().copied().unwrap_or_default();
    assert!(least(&waits) >= Duration::from_millis(20), "{waits:?}");
    assert!(
        least(&waits[4..]) >= Duration::from_millis(190),
        "{waits:?}"
    );
    // Half open until the answer to the last request is there.
    wait_until("the circuit to open again", PATIENCE, || async {
        bench.sink.circuit() == CircuitState::Open
    })
    .await;
    server.answer_always(Answer::status(204));
    assert_eq!(bench.settled().await.delivered, 1);
}

#[tokio::test]
async fn a_slow_server_and_one_that_is_away_are_waited_for() {
    let server = Webhook::start().await;
    server.answer_next(Answer::status(200).after(Duration::from_secs(30)));
    let sink = format!(
        "type = \"http\"\nurl = \"{}\"\ntimeout = \"200ms\"\nretry = {{ initial = \"1ms\" }}",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    bench.push("{}");
    assert_eq!(bench.settled().await.delivered, 1);
    assert_eq!(bench.sink.last_error().unwrap().error.code(), "E3403");
    let port = weir_test_support::free_port();
    let sink = format!(
        "type = \"http\"\nurl = \"http://127.0.0.1:{port}\"\nretry = {{ initial = \"1ms\" }}"
    );
    let bench = Bench::new(&sink, None);
    bench.push("{}");
    bench
        .wait("several attempts were made", |c| c.retries >= 3)
        .await;
    assert_eq!(bench.sink.last_error().unwrap().error.code(), "E3401");
    assert_eq!(bench.sink.counters().dead_lettered, 0);
}

#[tokio::test]
async fn a_batch_is_one_request_and_rows_of_other_urls_go_apart() {
    let server = Webhook::start().await;
    let sink = format!(
        "type = \"http\"\nurl = \"{}/${{site}}\"\nbatch = {{ max_rows = 10, max_wait = \"10s\", format = \"ndjson\" }}\nbody = '{{\"n\":${{n}}}}'",
        server.url()
    );
    let bench = Bench::new(&sink, None);
    for number in 0..10 {
        let site = if number < 6 { "a" } else { "b" };
        bench.push(&format!("{{\"site\":\"{site}\",\"n\":{number}}}"));
    }
    assert_eq!(bench.settled().await.delivered, 10);
    let requests = server.requests();
    let targets: Vec<_> = requests
        .iter()
        .map(|request| request.target.as_str())
        .collect();
    assert_eq!(targets, ["/a", "/b"]);
    assert_eq!(
        requests[0].header("content-type"),
        Some("application/x-ndjson")
    );
    assert_eq!(
        requests[1].body.as_ref() as &[u8],
        b"{\"n\":6}\n{\"n\":7}\n{\"n\":8}\n{\"n\":9}\n"
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_rendered_does_not_stop_the_others() {
    let server = Webhook::start().await;
    let sink = format!("type = \"http\"\nurl = \"{}/${{site}}\"", server.url());
    let bench = Bench::new(&sink, None);
    bench.push("{\"n\":1}");
    bench.push("{\"site\":\"a\"}");
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered_by["E3101"]),
        (1, 1)
    );
}

/// Answers every request with `head` and then `more`, again and again until the sink hangs up; counts requests.
pub(crate) async fn raw_server(
    head: &'static str,
    more: &'static [u8],
) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = vec![0; 1 << 16];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                while !more.is_empty() && stream.write_all(more).await.is_ok() {}
            });
        }
    });
    (port, requests)
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_its_status_is_no_reason_to_send_again() {
    let (port, requests) =
        raw_server("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf", b"").await;
    let sink = format!("type = \"http\"\nurl = \"http://127.0.0.1:{port}\"");
    let bench = Bench::new(&sink, None);
    bench.push("{}");
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.retries), (1, 0));
    assert_eq!(requests.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    const CHUNK: &[u8] = b"10\r\n0123456789abcdef\r\n";
    let (port, _) = raw_server(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        CHUNK,
    )
    .await;
    let sink = format!("type = \"http\"\nurl = \"http://127.0.0.1:{port}\"\ntimeout = \"5s\"");
    let bench = Bench::new(&sink, None);
    let began = std::time::Instant::now();
    bench.push("{}");
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.retries), (1, 0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it did not wait for the timeout"
    );
}
