//! When a bridge connects: for as long as messages wait, once, or when it is told to.

use std::time::Duration;

use serde_json::Value;
use weir_test_support::{
    LinePublisher, Mosquitto, Received, Site, Subscriber, Weir, free_port, mosquitto_pub,
    wait_until,
};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connector `hq` to that port.
fn hq(port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"weir.hq\"\n\
         backoff = {{ base = \"100ms\", cap = \"300ms\" }}\n{more}"
    )
}

const OUT: &str = "[[out]]\nfilter = \"m/#\"\n";

async fn state(weir: &Weir) -> String {
    let (_, text) = weir.get("/weir/v1/connectors").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["items"][0]["bridge"]["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn until_state(weir: &Weir, wanted: &str) {
    wait_until(wanted, PATIENCE, || async { state(weir).await == wanted }).await;
}

async fn count(weir: &Weir, name: &str) -> f64 {
    weir.metric(name, &[("connector", "hq")]).await
}

async fn publish(weir: &Weir, numbers: std::ops::Range<u64>) {
    let lines: String = numbers.map(|n| format!("{n}\n")).collect();
    let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", "m/x", "-q", "1"]);
    publisher.send(&lines).await;
    publisher.finish().await;
}

fn numbers(got: &[Received]) -> Vec<u64> {
    let numbers = got.iter().map(|message| message.payload.parse().unwrap());
    numbers.collect()
}

#[tokio::test]
async fn a_lazy_bridge_connects_when_enough_waits_and_leaves_when_nothing_was_sent_for_a_while() {
    let remote = Mosquitto::start().await;
    let mut there = remote.subscribe("m/#", &["-q", "1"]).await;
    let site = Site::new();
    let lazy = "start = \"lazy\"\nthreshold = 3\nidle_timeout = \"1s\"\n";
    site.connector("hq", &hq(remote.port(), &format!("{lazy}{OUT}")));
    let weir = site.start(WEIR).await;
    let mut said = Subscriber::start(
        weir.mqtt_port(),
        "$SYS/broker/connection/hq/state",
        &["-q", "1"],
    )
    .await;
    for round in 0..3_u32 {
        let first = u64::from(round) * 10;
        publish(&weir, first..first + 2).await;
        until_state(&weir, "idle").await;
        // What waits is kept here, and nobody was asked.
        assert_eq!(
            count(&weir, "weir_bridge_connects_total").await,
            f64::from(round)
        );
        publish(&weir, first + 2..first + 10).await;
        let got = numbers(there.wait_for(usize::try_from(first + 10).unwrap()).await);
        assert_eq!(got, (0..first + 10).collect::<Vec<_>>());
        wait_until("the link to end", PATIENCE, || async {
            count(&weir, "weir_bridge_rests_total").await > f64::from(round)
        })
        .await;
        until_state(&weir, "idle").await;
    }
    // It has left by itself each time, and nothing has failed.
    let failures = [("connector", "hq"), ("reason", "network")];
    assert_eq!(
        weir.metric("weir_bridge_failures_total", &failures).await,
        0.0
    );
    let (_, ready) = weir.get("/health/ready").await;
    assert!(ready.contains("\"ok\""), "{ready}");
    let states: Vec<String> = said
        .wait_for(7)
        .await
        .iter()
        .map(|m| m.payload.clone())
        .collect();
    assert_eq!(states, ["0", "1", "0", "1", "0", "1", "0"]);
}

#[tokio::test]
async fn a_rule_that_sends_over_a_lazy_bridge_connects_it_and_a_stop_of_weir_loses_nothing() {
    let remote = Mosquitto::start().await;
    let mut there = remote.subscribe("up", &["-q", "1"]).await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(remote.port(), "start = \"lazy\"\nthreshold = 2\n"),
    );
    let rule = |kind: &str| {
        format!(
            "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\nconnector = \"hq\"\ntopic = \"up\"\nqos = 1\n\
             payload = '${{n}}'\nbuffer = {{ kind = \"{kind}\" }}\n"
        )
    };
    site.rule("up", &rule("disk"));
    let weir = site.start(WEIR).await;
    let send = async |weir: &Weir, n: u64| {
        let message = format!("{{\"n\":{n}}}");
        let args = &["-t", "t", "-q", "1", "-m", &message];
        let _ = mosquitto_pub(weir.mqtt_port(), args).await.succeeded();
    };
    send(&weir, 0).await;
    // One is not enough to connect for, and stays in the store.
    assert_eq!(weir.stop().await, Some(0));
    let weir = site.start(WEIR).await;
    assert_eq!(count(&weir, "weir_bridge_connects_total").await, 0.0);
    send(&weir, 1).await;
    assert_eq!(numbers(there.wait_for(2).await), [0, 1]);
    assert_eq!(weir.stop().await, Some(0));
    // What waits in memory alone is sent before weir ends.
    site.rule("up", &rule("memory"));
    let weir = site.start(WEIR).await;
    send(&weir, 2).await;
    assert_eq!(weir.stop().await, Some(0));
    assert_eq!(numbers(there.wait_for(3).await), [0, 1, 2]);
}

#[tokio::test]
async fn a_bridge_that_connects_once_does_not_do_so_again_until_it_is_told_to() {
    let port = free_port();
    let site = Site::new();
    site.connector(
        "hq",
        &hq(port, &format!("start = \"once\"\nprotocol = \"5\"\n{OUT}")),
    );
    let weir = site.start(WEIR).await;
    until_state(&weir, "stopped").await;
    publish(&weir, 0..3).await;
    let (_, text) = weir.get("/weir/v1/connectors").await;
    assert!(text.contains("Connection refused"), "{text}");
    let (_, ready) = weir.get("/health/ready").await;
    assert!(ready.contains("degraded"), "it should have a link: {ready}");
    let refused = weir.command(&["bridge", "start", "hq"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("E4107"), "{}", refused.stderr);
    assert_eq!(count(&weir, "weir_bridge_connects_total").await, 2.0);

    let mut remote = Mosquitto::start().await;
    site.connector(
        "hq",
        &hq(
            remote.port(),
            &format!("start = \"once\"\nprotocol = \"5\"\n{OUT}"),
        ),
    );
    let mut there = remote
        .subscribe("m/#", &["-q", "1", "-c", "-i", "there"])
        .await;
    let _ = weir.reload().await.succeeded();
    // Another file is another bridge, and has its own attempt.
    assert_eq!(numbers(there.wait_for(3).await), [0, 1, 2]);
    remote.stop().await;
    until_state(&weir, "stopped").await;
    remote.start_again().await;
    publish(&weir, 3..5).await;
    assert_eq!(state(&weir).await, "stopped");
    let connects = count(&weir, "weir_bridge_connects_total").await;
    let started = weir.command(&["bridge", "start", "hq"]).await.succeeded();
    let wanted = format!("hq is connected to mqtt://127.0.0.1:{}", remote.port());
    assert_eq!(started.stdout.trim(), wanted);
    assert_eq!(
        count(&weir, "weir_bridge_connects_total").await,
        connects + 1.0
    );
    let mut there = remote
        .subscribe("m/#", &["-q", "1", "-c", "-i", "there"])
        .await;
    publish(&weir, 5..7).await;
    assert_eq!(numbers(there.wait_for(2).await).last(), Some(&6));
}

#[tokio::test]
async fn a_manual_bridge_waits_for_a_command_and_obeys_it() {
    let remote = Mosquitto::start().await;
    let mut there = remote.subscribe("m/#", &["-q", "1"]).await;
    let site = Site::new();
    let manual = |keepalive: u32| {
        let more = format!("start = \"manual\"\nkeepalive = \"{keepalive}s\"\n{OUT}");
        hq(remote.port(), &more)
    };
    site.connector("hq", &manual(60));
    let weir = site.start(WEIR).await;
    until_state(&weir, "stopped").await;
    publish(&weir, 0..3).await;
    assert_eq!(count(&weir, "weir_bridge_connects_total").await, 0.0);
    let (_, ready) = weir.get("/health/ready").await;
    assert!(ready.contains("\"ok\""), "nobody misses it: {ready}");

    let started = weir
        .command(&["bridge", "start", "hq", "--json"])
        .await
        .succeeded();
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    assert_eq!(
        (&started["v"], &started["state"]),
        (&1.into(), &"connected".into())
    );
    assert_eq!(numbers(there.wait_for(3).await), [0, 1, 2]);
    let stopped = weir.command(&["bridge", "stop", "hq"]).await.succeeded();
    assert_eq!(stopped.stdout.trim(), "hq is stopped");
    publish(&weir, 3..5).await;
    assert_eq!(count(&weir, "weir_bridge_connects_total").await, 1.0);
    let _ = weir.command(&["bridge", "start", "hq"]).await.succeeded();
    assert_eq!(numbers(there.wait_for(5).await), [0, 1, 2, 3, 4]);
    wait_until("all is acknowledged", PATIENCE, || async {
        count(&weir, "weir_bridge_acknowledged_total").await == 5.0
    })
    .await;
    // A reload that needs another link does not forget what was said.
    site.connector("hq", &manual(59));
    let _ = weir.reload().await.succeeded();
    publish(&weir, 5..7).await;
    assert_eq!(numbers(there.wait_for(7).await), [0, 1, 2, 3, 4, 5, 6]);
    until_state(&weir, "connected").await;
}

#[tokio::test]
async fn a_bridge_that_connects_by_itself_is_not_stopped_and_one_that_is_not_there_is_named() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector("hq", &hq(remote.port(), OUT));
    let weir = site.start(WEIR).await;
    until_state(&weir, "connected").await;
    for (args, code) in [
        (["bridge", "stop", "hq"], "E4152"),
        (["bridge", "stop", "nobody"], "E4153"),
        (["bridge", "start", "nobody"], "E4153"),
    ] {
        let answer = weir.command(&args).await;
        assert_eq!(answer.code, Some(1), "{args:?}");
        assert!(answer.stderr.contains(code), "{args:?}: {}", answer.stderr);
    }
    assert_eq!(state(&weir).await, "connected");
}

#[tokio::test]
async fn a_lazy_bridge_that_was_stopped_is_not_woken_by_what_waits_in_its_hands() {
    let mut remote = Mosquitto::start().await;
    let site = Site::new();
    let lazy = "start = \"lazy\"\nthreshold = 1\nidle_timeout = \"600s\"\n";
    site.connector("hq", &hq(remote.port(), &format!("{lazy}{OUT}")));
    let weir = site.start(WEIR).await;
    publish(&weir, 0..1).await;
    wait_until("it is acknowledged", PATIENCE, || async {
        count(&weir, "weir_bridge_acknowledged_total").await == 1.0
    })
    .await;
    // Nothing is to be sent, so the link is not made anew.
    remote.stop().await;
    until_state(&weir, "idle").await;
    publish(&weir, 1..3).await;
    until_state(&weir, "backoff").await;
    let _ = weir.command(&["bridge", "stop", "hq"]).await.succeeded();
    remote.start_again().await;
    let mut there = remote.subscribe("m/#", &["-q", "1"]).await;
    let connects = count(&weir, "weir_bridge_connects_total").await;
    publish(&weir, 3..5).await;
    assert_eq!(state(&weir).await, "stopped");
    assert_eq!(count(&weir, "weir_bridge_connects_total").await, connects);
    let _ = weir.command(&["bridge", "start", "hq"]).await.succeeded();
    assert_eq!(numbers(there.wait_for(4).await), [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_a_removed_rule_has_left_for_a_lazy_bridge_is_sent_however_little_it_is() {
    let remote = Mosquitto::start().await;
    let mut there = remote.subscribe("up", &["-q", "1"]).await;
    let site = Site::new();
    site.connector("hq", &hq(remote.port(), "start = \"lazy\"\n"));
    let rule = "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\nconnector = \"hq\"\ntopic = \"up\"\n\
                qos = 1\npayload = '${n}'\nbuffer = { kind = \"disk\" }\n";
    site.rule("up", rule);
    let weir = site.start(WEIR).await;
    let args = &["-t", "t", "-q", "1", "-m", "{\"n\":7}"];
    let _ = mosquitto_pub(weir.mqtt_port(), args).await.succeeded();
    assert_eq!(count(&weir, "weir_bridge_connects_total").await, 0.0);
    site.remove_rule("up");
    let _ = weir.reload().await.succeeded();
    assert_eq!(numbers(there.wait_for(1).await), [7]);
}

#[tokio::test]
async fn a_bridge_that_waits_to_try_again_does_so_now_when_it_is_told_to_start() {
    let mut remote = Mosquitto::start().await;
    let site = Site::new();
    let slow = hq(remote.port(), OUT).replace("100ms", "500s");
    site.connector("hq", &slow.replace("300ms", "600s"));
    let weir = site.start(WEIR).await;
    until_state(&weir, "connected").await;
    remote.stop().await;
    until_state(&weir, "backoff").await;
    remote.start_again().await;
    let _ = weir.command(&["bridge", "start", "hq"]).await.succeeded();
    assert_eq!(state(&weir).await, "connected");
}
