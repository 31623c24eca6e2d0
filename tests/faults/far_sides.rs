//! Webhooks and brokers that are away, slow or overloaded for a while.

use crate::WEIR;
use std::time::Duration;
use weir_test_support::{Answer, Mosquitto, Site, Webhook, Weir, mosquitto_pub};

const DEADLINE: Duration = Duration::from_secs(60);

async fn publish(weir: &Weir, payload: &str) {
    let _ = mosquitto_pub(weir.mqtt_port(), &["-t", "t", "-q", "1", "-m", payload])
        .await
        .succeeded();
}

/// [LESSON-2]
#[tokio::test]
async fn a_webhook_that_fails_gets_the_same_request_again_under_the_same_key() {
    let webhook = Webhook::start().await;
    webhook.answer_next(Answer::status(503));
    webhook.answer_next(Answer::status(429).header("retry-after", "1"));
    let site = Site::new();
    site.rule(
        "hook",
        &format!(
            "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\ntype = \"http\"\nurl = \"{}/hook\"\n",
            webhook.url()
        ),
    );
    let weir = site.start(WEIR).await;
    publish(&weir, "{\"n\":1}").await;
    publish(&weir, "{\"n\":2}").await;

    let requests = webhook.wait_for(4, DEADLINE).await;
    let answered: Vec<u16> = requests.iter().map(|request| request.answered).collect();
    assert_eq!(answered, [503, 429, 204, 204]);
    let bodies: Vec<i64> = requests
        .iter()
        .map(|request| request.json()["n"].as_i64().unwrap())
        .collect();
    assert_eq!(
        bodies,
        [1, 1, 1, 2],
        "a row that is tried again is not overtaken"
    );
    let waited = requests[2].at - requests[1].at;
    assert!(
        waited >= Duration::from_secs(1),
        "Retry-After was one second, it waited {waited:?}"
    );

    let keys: Vec<&str> = requests
        .iter()
        .map(|request| request.header("idempotency-key").unwrap())
        .collect();
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[0], keys[2]);
    assert_ne!(keys[0], keys[3]);
}

/// [LESSON-23]
#[tokio::test]
async fn a_slow_webhook_holds_nobody_else_up() {
    let webhook = Webhook::start().await;
    webhook.answer_always(Answer::status(200).after(Duration::from_secs(30)));
    let mosquitto = Mosquitto::start().await;
    let mut there = mosquitto.subscribe("out", &["-q", "1"]).await;
    let site = Site::new();
    site.connector(
        "hq",
        &format!(
            "type = \"mqtt\"\nclient_id = \"weir-test\"\naddresses = [\"{}\"]\n",
            mosquitto.url()
        ),
    );
    site.rule(
        "both",
        &format!(
            "sql = '''SELECT payload.n AS n FROM \"t\"'''\n\
             [[sinks]]\nid = \"slow\"\ntype = \"http\"\nurl = \"{}\"\n\
             [[sinks]]\nid = \"fast\"\nconnector = \"hq\"\ntopic = \"out\"\nqos = 1\n",
            webhook.url()
        ),
    );
    let weir = site.start(WEIR).await;
    for n in 0..20 {
        publish(&weir, &format!("{{\"n\":{n}}}")).await;
    }
    let messages = there.wait_for(20).await;
    assert_eq!(messages[19].payload, "{\"n\":19}");
}

/// [LESSON-5]
#[tokio::test]
async fn a_bridge_delivers_what_came_while_the_other_broker_was_away() {
    let mut mosquitto = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &format!(
            "type = \"mqtt\"\nclient_id = \"weir-test\"\naddresses = [\"{}\"]\nbackoff = {{ base = \"200ms\", cap = \"1s\" }}\n",
            mosquitto.url()
        ),
    );
    site.rule(
        "bridge",
        "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\nconnector = \"hq\"\ntopic = \"out\"\nqos = 1\nretain = true\n",
    );
    let weir = site.start(WEIR).await;
    mosquitto.stop().await;
    for n in 0..10 {
        publish(&weir, &format!("{{\"n\":{n}}}")).await;
    }
    mosquitto.start_again().await;

    // Retained at the other broker: it does not matter who connects first.
    let mut there = mosquitto.subscribe("out", &["-q", "1"]).await;
    weir_test_support::wait_until("ten acknowledged messages", DEADLINE, || async {
        weir.metric("weir_sink_rows_delivered_total", &[("rule", "bridge")])
            .await
            > 9.5
    })
    .await;
    let messages = there.all_within(Duration::from_millis(300)).await;
    assert_eq!(
        messages.last().map(|message| message.payload.as_str()),
        Some("{\"n\":9}")
    );
}
