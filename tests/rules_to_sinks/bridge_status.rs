//! What bridges say of themselves: on `$SYS/bridges/NAME`, over HTTP, in metrics, and at their remote.

use std::time::Duration;

use serde_json::Value;
use weir_test_support::{Mosquitto, Site, Subscriber, Weir, mosquitto_pub, wait_until};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(1);

fn hq(port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"weir.hq\"\n\
         backoff = {{ base = \"100ms\", cap = \"300ms\" }}\n{more}"
    )
}

/// The states that are said, one after the other.
struct Said {
    subscriber: Subscriber,
    read: usize,
}

impl Said {
    async fn by(weir: &Weir) -> Self {
        let subscriber = Subscriber::start(weir.mqtt_port(), "$SYS/bridges/hq", &["-q", "1"]);
        Self {
            subscriber: subscriber.await,
            read: 0,
        }
    }

    async fn next(&mut self) -> String {
        self.read += 1;
        let got = &self.subscriber.wait_for(self.read).await[self.read - 1];
        got.payload.clone()
    }

    /// The next one that is as wanted.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let said: Value = serde_json::from_str(&self.next().await).unwrap();
            if wanted(&said) {
                return said;
            }
        }
    }
}

#[tokio::test]
async fn a_bridge_says_what_it_does_on_a_topic_that_no_bridge_takes_along() {
    let mut remote = Mosquitto::start().await;
    let mut there = remote.subscribe("sys/#", &["-q", "1"]).await;
    let site = Site::new();
    let out =
        "[[out]]\nfilter = \"up/#\"\n[[out]]\nfilter = \"$SYS/#\"\nremote_prefix = \"sys/\"\n";
    site.connector("hq", &hq(remote.port(), out));
    let weir = site.start(WEIR).await;
    let mut said = Said::by(&weir).await;
    let up = said.until(|said| said["state"] == "connected").await;
    assert_eq!(up["address"], format!("mqtt://127.0.0.1:{}", remote.port()));
    assert_eq!(up["attempt"], 1);
    assert!(up["since"].as_i64().unwrap() > 1_700_000_000, "{up}");

    remote.stop().await;
    let lost = said.until(|said| said["state"] == "backoff").await;
    let error = lost["last_error"].as_str().unwrap();
    assert!(error.starts_with("E4107: "), "{error}");
    for _ in 0..3 {
        let message = &["-t", "up/x", "-q", "1", "-m", "waits"];
        let _ = mosquitto_pub(weir.mqtt_port(), message).await.succeeded();
    }
    let waiting = |said: &Value| said["queue_records"].as_u64() >= Some(3);
    let full = said.until(|said| waiting(said) && said["attempt"].as_u64() > Some(1));
    assert!(full.await["queue_bytes"].as_u64() > Some(0));

    remote.start_again().await;
    said.until(|said| said["state"] == "connected").await;
    let (_, text) = weir.get("/weir/v1/connectors").await;
    let shown: Value = serde_json::from_str(&text).unwrap();
    let bridge = &shown["items"][0]["bridge"];
    assert_eq!(
        (&bridge["state"], &bridge["address"]),
        (&Value::from("connected"), &up["address"])
    );
    let metric = async |name, label, value| {
        let labels = [("connector", "hq"), (label, value)];
        weir.metric(name, &labels).await
    };
    for (state, is) in [("connected", 1.0), ("backoff", 0.0)] {
        let value = metric("weir_bridge_state", "state", state).await;
        assert!((value - is).abs() < 0.1, "{state}: {value}");
    }
    assert!(metric("weir_bridge_failures_total", "reason", "network").await > 0.5);
    let sent = weir.metric("weir_bridge_sent_bytes_total", &[("connector", "hq")]);
    assert!(sent.await >= 15.0);

    std::fs::remove_file(site.path().join("connectors/hq.toml")).unwrap();
    let _ = weir.reload().await.succeeded();
    while !said.next().await.is_empty() {}
    let crossed = there.all_within(QUIET).await;
    let of = |what: &str| {
        crossed
            .iter()
            .any(|message| message.topic.starts_with(what))
    };
    assert!(of("sys/$SYS/broker/"), "others of `$SYS` do cross");
    assert!(!of("sys/$SYS/bridges/"));
}

#[tokio::test]
async fn a_bridge_that_is_to_be_quiet_says_nothing() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    let quiet = "status = { local = false }\n[[out]]\nfilter = \"up/#\"\n";
    site.connector("hq", &hq(remote.port(), quiet));
    let loud = hq(remote.port(), "[[out]]\nfilter = \"up/#\"\n").replace("weir.hq", "weir.loud");
    site.connector("loud", &loud);
    let weir = site.start(WEIR).await;
    let mut said = Subscriber::start(weir.mqtt_port(), "$SYS/bridges/#", &["-q", "1"]).await;
    said.wait_for(1).await;
    wait_until("both are up", PATIENCE, || async {
        let (_, text) = weir.get("/weir/v1/connectors").await;
        text.matches("\"state\":\"connected\"").count() == 2
    })
    .await;
    let said = said.all_within(QUIET).await;
    assert!(
        said.iter()
            .all(|message| message.topic == "$SYS/bridges/loud")
    );
}

#[tokio::test]
async fn a_remote_shows_the_state_of_the_link_also_when_weir_is_killed() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    let status = "status = { remote = true }\n[[out]]\nfilter = \"up/#\"\n";
    site.connector("hq", &hq(remote.port(), status));
    let topic = "$SYS/broker/connection/weir.hq/state";
    let mut state = remote.subscribe(topic, &["-q", "1"]).await;
    let weir = site.start(WEIR).await;
    assert_eq!(state.wait_for(1).await[0].payload, "1");
    weir.kill().await;
    assert_eq!(state.wait_for(2).await[1].payload, "0");
    let weir = site.start(WEIR).await;
    assert_eq!(state.wait_for(3).await[2].payload, "1");
    assert_eq!(weir.stop().await, Some(0));
    assert_eq!(state.wait_for(4).await[3].payload, "0");
}
