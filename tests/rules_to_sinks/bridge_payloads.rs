//! What a message has beside its topic, on the other side of a bridge: another payload, and where an answer goes.

use std::time::Duration;

use serde_json::{Value, json};
use weir_test_support::{Mosquitto, Site, Subscriber, Weir, mosquitto_pub, wait_until};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connector `hq` to that port.
fn hq(port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"weir.hq\"\nprotocol = \"5\"\n{more}"
    )
}

async fn linked(weir: &Weir) {
    wait_until("the bridge is up", PATIENCE, || async {
        let labels = [("connector", "hq"), ("type", "mqtt")];
        weir.metric("weir_connector_up", &labels).await > 0.0
    })
    .await;
}

async fn publish(port: u16, topic: &str, message: &str, more: &[&str]) {
    let args = [
        &["-t", topic, "-q", "1", "-m", message, "-V", "5"][..],
        more,
    ]
    .concat();
    let _ = mosquitto_pub(port, &args).await.succeeded();
}

fn request(response: &str) -> [&str; 4] {
    ["-D", "PUBLISH", "response-topic", response]
}

#[tokio::test]
async fn a_request_that_crosses_asks_for_its_answer_under_the_name_of_the_other_side() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[out]]\nfilter = \"#\"\nlocal_prefix = \"site/\"\nremote_prefix = \"plants/7/\"\n\
             [[in]]\nfilter = \"#\"\nremote_prefix = \"cmd/7/\"\nlocal_prefix = \"cmd/\"\n",
        ),
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    // %R is the response topic.
    let shown = &["-q", "1", "-V", "5", "-F", "message 1 0 %t %p|%R"][..];
    let mut there = remote.subscribe("plants/#", shown).await;
    let mut here = Subscriber::start(weir.mqtt_port(), "cmd/#", shown).await;
    publish(
        weir.mqtt_port(),
        "site/ask",
        "1",
        &request("site/answers/1"),
    )
    .await;
    publish(weir.mqtt_port(), "site/ask", "2", &request("elsewhere/1")).await;
    let got = there.wait_for(2).await;
    let got: Vec<_> = got.iter().map(|message| message.payload.as_str()).collect();
    assert_eq!(got, ["1|plants/7/answers/1", "2|elsewhere/1"]);
    publish(remote.port(), "cmd/7/ask", "3", &request("cmd/7/answers/3")).await;
    publish(
        remote.port(),
        "cmd/7/ask",
        "4",
        &request("plants/7/answers"),
    )
    .await;
    let got = here.wait_for(2).await;
    let got: Vec<_> = got.iter().map(|message| message.payload.as_str()).collect();
    assert_eq!(got, ["3|cmd/answers/3", "4|plants/7/answers"]);
}

#[tokio::test]
async fn a_payload_is_wrapped_as_the_other_side_wants_it() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[out]]\nfilter = \"dev/+/up\"\nremote_topic = \"telemetry\"\n\
             payload = '{\"device\":\"${1}\",\"by\":\"${clientid}\",\"value\":${payload}}'\n\
             [[out]]\nfilter = \"dev/+/raw\"\nremote_topic = \"raw/${base64:payload}\"\npayload = '${base64:payload}'\n\
             [[in]]\nfilter = \"set/+\"\nlocal_prefix = \"hq/\"\npayload = '[${topic}, ${payload}]'\n",
        ),
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let mut there = remote.subscribe("#", &["-q", "1"]).await;
    let mut here = Subscriber::start(weir.mqtt_port(), "hq/#", &["-q", "1"]).await;
    publish(
        weir.mqtt_port(),
        "dev/k\"7/up",
        "{\"t\":21.5}",
        &["-i", "k7"],
    )
    .await;
    publish(weir.mqtt_port(), "dev/k7/up", "say \"on\"", &["-i", "k7"]).await;
    publish(weir.mqtt_port(), "dev/k7/raw", "a?~", &[]).await;
    let got = there.wait_for(3).await.to_vec();
    let row = |at: usize| serde_json::from_str::<Value>(&got[at].payload).unwrap();
    let wanted = json!({"device": "k\"7", "by": "k7", "value": {"t": 21.5}});
    assert_eq!(row(0), wanted);
    let wanted = json!({"device": "k7", "by": "k7", "value": "say \"on\""});
    assert_eq!(row(1), wanted);
    assert_eq!((&*got[2].topic, &*got[2].payload), ("raw/YT9-", "YT9+"));
    publish(remote.port(), "set/x", "7", &[]).await;
    let got = &here.wait_for(1).await[0];
    assert_eq!((&*got.topic, &*got.payload), ("hq/set/x", "[\"set/x\", 7]"));
}

#[tokio::test]
async fn what_deletes_a_retained_message_does_so_on_the_other_side_too() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[out]]\nfilter = \"up/#\"\npayload = '[${payload}]'\n\
             [[in]]\nfilter = \"set/#\"\npayload = '[${payload}]'\n",
        ),
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let shown = &["-q", "1", "-F", "message 1 0 %t %p|"][..];
    for (from, to, topic) in [
        (weir.mqtt_port(), remote.port(), "up/x"),
        (remote.port(), weir.mqtt_port(), "set/x"),
    ] {
        let mut there = Subscriber::start(to, topic, shown).await;
        publish(from, topic, "1", &["-r"]).await;
        publish(from, topic, "", &["-r"]).await;
        let got = there.wait_for(2).await;
        let got: Vec<_> = got.iter().map(|message| message.payload.as_str()).collect();
        assert_eq!(got, ["[1]|", "|"], "{topic}");
    }
}

#[tokio::test]
async fn a_payload_that_cannot_be_wrapped_is_a_dead_letter_that_the_next_file_can_send() {
    let remote = Mosquitto::start().await;
    let shown = &["-q", "1", "-V", "5", "-F", "message 1 0 %t %p|%R"][..];
    let mut there = remote.subscribe("#", shown).await;
    let site = Site::new();
    let connector = |payload: &str| {
        hq(
            remote.port(),
            &format!("[[out]]\nfilter = \"m/#\"\nremote_prefix = \"up/\"\npayload = '{payload}'\n"),
        )
    };
    site.connector(
        "hq",
        &connector("{\"by\":\"${username}\",\"v\":${payload}}"),
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    publish(weir.mqtt_port(), "m/x", "1", &request("m/answer")).await;
    wait_until("the dead letter", PATIENCE, || async {
        let labels = [("rule", "$bridges/hq"), ("sink", "out")];
        weir.metric("weir_sink_rows_dead_lettered_total", &labels)
            .await
            > 0.0
    })
    .await;
    site.connector("hq", &connector("{\"v\":${payload}}"));
    let _ = weir.reload().await.succeeded();
    let _ = weir
        .command(&["dlq", "retry", "--rule", "$bridges/hq"])
        .await
        .succeeded();
    let got = &there.wait_for(1).await[0];
    assert_eq!(
        (&*got.topic, &*got.payload),
        ("up/m/x", "{\"v\":1}|up/m/answer")
    );
}
