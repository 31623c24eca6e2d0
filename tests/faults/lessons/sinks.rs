//! Webhooks that are slow, hang, or are away.

use std::time::Duration;

use weir_test_support::{Answer, Site, Subscriber, Webhook, Weir, free_port, wait_until};

use crate::WEIR;
use crate::killed::Client;

const PATIENCE: Duration = Duration::from_secs(60);
const SINK: [(&str, &str); 1] = [("rule", "hook")];

fn site(url: &str, more: &str) -> Site {
    let site = Site::new();
    site.rule(
        "hook",
        &format!(
            "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\ntype = \"http\"\nurl = \"{url}\"\n\
             retry = {{ initial = \"20ms\", max = \"100ms\" }}\n{more}"
        ),
    );
    site
}

async fn publish(weir: &Weir, numbers: std::ops::RangeInclusive<u16>) {
    let mut client = Client::connect(weir, "p").await;
    for n in numbers {
        let answer = client.publish(0x32, n, &format!("{{\"n\":{n}}}")).await;
        assert_eq!(answer.expect("PUBACK")[0], 0x40);
    }
}

/// The rows that were answered with 204, in their order.
fn taken(webhook: &Webhook) -> Vec<u64> {
    webhook
        .requests()
        .iter()
        .filter(|request| request.answered == 204)
        .map(|request| request.json()["n"].as_u64().unwrap())
        .collect()
}

async fn none_was_given_up(weir: &Weir) {
    for name in [
        "weir_sink_rows_dropped_total",
        "weir_sink_rows_dead_lettered_total",
    ] {
        assert!(weir.metric(name, &SINK).await < 0.5, "{name}");
    }
}

/// [LESSON-2]
#[tokio::test]
async fn a_slow_webhook_holds_rows_back_and_loses_none() {
    let webhook = Webhook::start().await;
    // Longer than weir waits for an answer, and what else overload looks like.
    let late = Answer::status(200).after(Duration::from_secs(20));
    for answer in [
        late.clone(),
        late,
        Answer::status(504),
        Answer::status(429),
        Answer::status(500),
    ] {
        webhook.answer_next(answer);
    }
    let site = site(&webhook.url(), "timeout = \"300ms\"\n");
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=30).await;
    wait_until("every row is taken", PATIENCE, || {
        let count = taken(&webhook).len();
        async move { count >= 30 }
    })
    .await;
    assert_eq!(taken(&webhook), (1..=30).collect::<Vec<u64>>());
    none_was_given_up(&weir).await;
}

/// [LESSON-3]
#[tokio::test]
async fn rows_that_wait_for_a_webhook_are_there_after_restarts() {
    let port = free_port();
    let site_of = |url: &str| site(url, "");
    let site = site_of(&format!("http://127.0.0.1:{port}/"));
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=10).await;
    assert_eq!(weir.stop().await, Some(0));
    let weir = site.start(WEIR).await;
    publish(&weir, 11..=20).await;
    weir.kill().await;
    // The far side has moved: only where it goes has changed, not what waits.
    let webhook = Webhook::start().await;
    let rule = std::fs::read_to_string(site.path().join("rules/hook.toml")).unwrap();
    let moved = rule.replace(
        &format!("127.0.0.1:{port}"),
        &format!("127.0.0.1:{}", webhook.port()),
    );
    site.rule("hook", &moved);
    let weir = site.start(WEIR).await;
    webhook.wait_for(20, PATIENCE).await;
    assert_eq!(taken(&webhook), (1..=20).collect::<Vec<u64>>());
    none_was_given_up(&weir).await;
}

/// [LESSON-23]
#[tokio::test]
async fn a_webhook_that_hangs_keeps_no_message_from_subscribers() {
    let webhook = Webhook::start().await;
    webhook.answer_always(Answer::status(200).after(Duration::from_secs(60)));
    let site = site(&webhook.url(), "");
    let weir = site.start(WEIR).await;
    let mut subscriber = Subscriber::start(weir.mqtt_port(), "t", &["-q", "1"]).await;
    publish(&weir, 1..=50).await;
    assert_eq!(subscriber.wait_for(50).await[49].payload, "{\"n\":50}");
    assert!(weir.metric("weir_sink_rows_delivered_total", &SINK).await < 0.5);
}

/// [LESSON-21]
#[tokio::test]
async fn rows_in_are_rows_delivered_dropped_parked_and_waiting() {
    let webhook = Webhook::start().await;
    let site = site(
        &webhook.url(),
        "buffer = { max_bytes = \"2KiB\", when_full = \"drop_newest\" }\ntimeout = \"60s\"\n",
    );
    webhook.answer_next(Answer::status(400));
    webhook.answer_next(Answer::status(204));
    webhook.answer_always(Answer::status(204).after(Duration::from_secs(60)));
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=2).await;
    webhook.wait_for(2, PATIENCE).await;
    publish(&weir, 3..=300).await;
    let weir = &weir;
    let of = |name: &'static str| async move { weir.metric(name, &SINK).await };
    wait_until("the second row is counted", PATIENCE, || async {
        of("weir_sink_rows_delivered_total").await > 0.5
    })
    .await;
    let dropped = of("weir_sink_rows_dropped_total").await;
    let full = [("rule", "hook"), ("reason", "queue_full")];
    assert!(dropped > 100.0, "{dropped}");
    assert_eq!(
        weir.metric("weir_sink_rows_dropped_total", &full).await,
        dropped
    );
    assert_eq!(of("weir_sink_rows_dead_lettered_total").await, 1.0);
    let sum = of("weir_sink_rows_delivered_total").await
        + dropped
        + of("weir_sink_rows_dead_lettered_total").await
        + of("weir_sink_buffer_rows").await
        + of("weir_sink_inflight_rows").await;
    assert_eq!((of("weir_sink_rows_in_total").await, sum), (300.0, 300.0));
}
