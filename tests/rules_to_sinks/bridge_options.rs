//! What a bridge does only where its file asks for it: echoes that are dropped, retained messages that come once, and
//! those that were here before the bridge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_mqtt::{Connect, PacketId, ProtocolVersion, Publish, QoS, Utf8};
use weir_test_support::{
    LinePublisher, Mosquitto, Received, Site, Subscriber, Weir, mosquitto_pub, wait_until,
};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for what should not come, with the second for which retained messages wait.
const QUIET: Duration = Duration::from_millis(2500);

/// A connector `hq` to that port.
fn hq(port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"weir.hq\"\n\
         backoff = {{ base = \"100ms\", cap = \"300ms\" }}\n{more}"
    )
}

async fn linked(weir: &Weir) {
    wait_until("the bridge is up", PATIENCE, || async {
        let labels = [("connector", "hq"), ("type", "mqtt")];
        weir.metric("weir_connector_up", &labels).await > 0.0
    })
    .await;
}

/// The remote knows the filter.
async fn subscribed(remote: &Mosquitto, filter: &str) {
    wait_until("the filter is there", PATIENCE, || async {
        remote.log().contains(&format!("\t{filter} (QoS"))
    })
    .await;
}

async fn dropped(weir: &Weir, reason: &str) -> f64 {
    let labels = [("connector", "hq"), ("reason", reason)];
    weir.metric("weir_bridge_dropped_total", &labels).await
}

async fn publish(port: u16, topic: &str, qos: &str, message: &str, more: &[&str]) {
    let args = [&["-t", topic, "-q", qos, "-m", message][..], more].concat();
    let _ = mosquitto_pub(port, &args).await.succeeded();
}

fn of_topic<'a>(got: &'a [Received], topic: &str) -> Vec<&'a str> {
    got.iter()
        .filter(|message| message.topic == topic)
        .map(|message| &*message.payload)
        .collect()
}

#[tokio::test]
async fn what_a_remote_of_3_1_1_sends_back_is_dropped_once_for_each_send() {
    let remote = Mosquitto::start_with("allow_anonymous true\nmax_queued_messages 0\n").await;
    let site = Site::new();
    let both = "protocol = \"3.1.1\"\necho_guard = true\n[[in]]\nfilter = \"#\"\n[[out]]\nfilter = \"#\"\n";
    site.connector("hq", &hq(remote.port(), both));
    let weir = site.start(WEIR).await;
    subscribed(&remote, "#").await;
    let mut here = Subscriber::start(weir.mqtt_port(), "#", &["-q", "2"]).await;
    let mut there = remote.subscribe("#", &["-q", "2"]).await;
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    for qos in ["0", "1", "2"] {
        for (port, side) in [(weir.mqtt_port(), "here"), (remote.port(), "there")] {
            let topic = format!("{side}/{qos}");
            let mut publisher = LinePublisher::start(port, &["-t", &topic, "-q", qos]);
            publisher.send(&lines).await;
            publisher.finish().await;
        }
    }
    let all: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for at in [&mut here, &mut there] {
        at.wait_for(600).await;
        let got = at.all_within(QUIET).await;
        for topic in [
            "here/0", "here/1", "here/2", "there/0", "there/1", "there/2",
        ] {
            assert_eq!(of_topic(got, topic), all, "{topic}");
        }
        assert_eq!(got.len(), 600);
    }
    assert_eq!(dropped(&weir, "echo").await, 300.0);
    // The same from somebody else is a message as any other once the echo has come.
    publish(weir.mqtt_port(), "x", "1", "same", &["-r"]).await;
    wait_until("the echo is dropped", PATIENCE, || async {
        dropped(&weir, "echo").await == 301.0
    })
    .await;
    publish(remote.port(), "x", "1", "same", &[]).await;
    here.wait_for(602).await;
    let got = here.all_within(QUIET).await;
    assert_eq!(of_topic(got, "x"), ["same", "same"]);
}

#[tokio::test]
async fn retained_messages_of_a_remote_of_3_1_1_come_again_only_when_they_have_changed() {
    for dedupes in [true, false] {
        let remote = Mosquitto::start().await;
        for (topic, qos) in [("r/a", "0"), ("r/b", "1"), ("r/c", "2")] {
            publish(remote.port(), topic, qos, "1", &["-r"]).await;
        }
        let site = Site::new();
        let more = format!(
            "protocol = \"3.1.1\"\nclean_start = true\ndedupe_retained = {dedupes}\n[[in]]\nfilter = \"r/#\"\n"
        );
        site.connector("hq", &hq(remote.port(), &more));
        let weir = site.start(WEIR).await;
        linked(&weir).await;
        let mut here = Subscriber::start(weir.mqtt_port(), "r/#", &["-q", "2"]).await;
        here.wait_for(3).await;
        let connects = || weir.metric("weir_bridge_connects_total", &[("connector", "hq")]);
        for (round, payload) in ["2", "3"].into_iter().enumerate() {
            // Who takes the bridge's name ends its link.
            let as_bridge = &["-r", "-i", "weir.hq"];
            publish(remote.port(), "r/b", "1", payload, as_bridge).await;
            let links = if round == 0 { 2.0 } else { 3.0 };
            wait_until("the link is made anew", PATIENCE, || async {
                connects().await >= links
            })
            .await;
            linked(&weir).await;
            let all = if dedupes { 4 + round } else { 6 + 3 * round };
            here.wait_for(all).await;
        }
        let got = here.all_within(QUIET).await;
        assert_eq!(of_topic(got, "r/b"), ["1", "2", "3"], "{dedupes}");
        assert_eq!(got.len(), if dedupes { 5 } else { 9 });
        let known = if dedupes { 4.0 } else { 0.0 };
        assert_eq!(dropped(&weir, "known").await, known);
    }
}

#[tokio::test]
async fn what_is_retained_here_before_an_entry_of_out_is_sent_once() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    let weir = site.start(WEIR).await;
    for (topic, qos) in [("up/a", "1"), ("up/b", "0"), ("other/x", "1")] {
        publish(weir.mqtt_port(), topic, qos, topic, &["-r"]).await;
    }
    let mut there = remote.subscribe("#", &["-q", "1"]).await;
    let up = "[[out]]\nfilter = \"up/#\"\n";
    site.connector("hq", &hq(remote.port(), up));
    let _ = weir.reload().await.succeeded();
    linked(&weir).await;
    assert!(there.all_within(QUIET).await.is_empty(), "nobody asked");
    site.connector(
        "hq",
        &hq(remote.port(), &format!("initial_retained = true\n{up}")),
    );
    let _ = weir.reload().await.succeeded();
    let got = there.wait_for(2).await;
    assert_eq!(of_topic(got, "up/a"), ["up/a"]);
    assert_eq!(of_topic(got, "up/b"), ["up/b"]);
    // A further entry sends what is for it, and nothing else.
    let more = format!(
        "initial_retained = true\n{up}[[out]]\nfilter = \"other/#\"\nremote_prefix = \"far/\"\n"
    );
    site.connector("hq", &hq(remote.port(), &more));
    let _ = weir.reload().await.succeeded();
    let third = there.wait_for(3).await[2].clone();
    assert_eq!((&*third.topic, &*third.payload), ("far/other/x", "other/x"));
    assert_eq!(there.all_within(QUIET).await.len(), 3);
    // Neither a start nor a link is a reason to send it again.
    weir.kill().await;
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    publish(remote.port(), "kick", "0", "", &["-i", "weir.hq"]).await;
    publish(weir.mqtt_port(), "up/a", "1", "now", &[]).await;
    wait_until("it is there", PATIENCE, || async {
        remote.log().contains("up/a")
    })
    .await;
    there.wait_for(5).await;
    let got = there.all_within(QUIET).await;
    assert_eq!(of_topic(got, "up/a"), ["up/a", "now"]);
    assert_eq!(got.len(), 5);
    let mut later = remote.subscribe("#", &["-q", "1"]).await;
    let kept = later.all_within(QUIET).await;
    let kept: BTreeSet<&str> = kept.iter().map(|message| &*message.topic).collect();
    assert_eq!(kept, ["far/other/x", "up/a", "up/b"].into());
}

/// Publishes a retained message of QoS 1 to each of `up/0` to `up/{many}`; returns when all are acknowledged.
async fn retain_many(port: u16, many: u16, payload: &'static str) {
    const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut bytes = Vec::new();
    Connect::new(VERSION, Utf8::new("many").unwrap())
        .encode(&mut bytes)
        .unwrap();
    for n in 1..=many {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: Utf8::try_from(format!("up/{n}")).unwrap(),
            packet_id: PacketId::new(n),
            properties: None,
            payload: payload.as_bytes().into(),
        };
        publish.encode(VERSION, &mut bytes).unwrap();
    }
    let writing = tokio::spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer
    });
    // CONNACK and PUBACK have four bytes each.
    let mut answers = vec![0; 4 * (1 + usize::from(many))];
    let read = reader.read_exact(&mut answers);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    drop(writing.await.unwrap());
}

async fn in_queue(weir: &Weir) -> f64 {
    let labels = [("rule", "$bridges/hq"), ("sink", "out")];
    weir.metric("weir_sink_buffer_rows", &labels).await
}

#[tokio::test]
async fn a_crash_amid_retained_messages_loses_none_and_few_of_them_wait_at_a_time() {
    const MANY: u16 = 4000;
    let remote = Mosquitto::start_with("allow_anonymous true\nmax_queued_messages 0\n").await;
    let site = Site::new();
    let weir = site.start(WEIR).await;
    retain_many(weir.mqtt_port(), MANY, "1").await;
    let mut there = remote.subscribe("up/#", &["-q", "1"]).await;
    let out = "initial_retained = true\n[[out]]\nfilter = \"up/#\"\n";
    site.connector("hq", &hq(remote.port(), &format!("rate = 300\n{out}")));
    let _ = weir.reload().await.succeeded();
    there.wait_for(700).await;
    let waiting = in_queue(&weir).await;
    assert!((1.0..1300.0).contains(&waiting), "{waiting}");
    let noted = site.path().join("data/bridges/hq.initial");
    assert!(!noted.exists());
    weir.kill().await;
    site.connector("hq", &hq(remote.port(), out));
    let weir = site.start(WEIR).await;
    wait_until("all are in the queue", PATIENCE, || async {
        noted.exists()
    })
    .await;
    wait_until("all are out", PATIENCE, || async {
        in_queue(&weir).await == 0.0
    })
    .await;
    let got = there.all_within(QUIET).await;
    let topics: BTreeSet<&str> = got.iter().map(|message| &*message.topic).collect();
    assert_eq!(topics.len(), usize::from(MANY));
    let before = got.len();
    weir.kill().await;
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    assert_eq!(there.all_within(QUIET).await.len(), before);
}

#[tokio::test]
async fn a_message_that_is_retained_anew_meanwhile_is_the_last_one_at_the_remote() {
    const MANY: u16 = 3000;
    let remote = Mosquitto::start_with("allow_anonymous true\nmax_queued_messages 0\n").await;
    let site = Site::new();
    let weir = site.start(WEIR).await;
    retain_many(weir.mqtt_port(), MANY, "old").await;
    let out = "initial_retained = true\n[[out]]\nfilter = \"up/#\"\n";
    site.connector("hq", &hq(remote.port(), out));
    let _ = weir.reload().await.succeeded();
    wait_until("some are out", PATIENCE, || async {
        remote.log().contains("up/1000'")
    })
    .await;
    retain_many(weir.mqtt_port(), MANY, "new").await;
    let noted = site.path().join("data/bridges/hq.initial");
    wait_until("all are in the queue", PATIENCE, || async {
        noted.exists()
    })
    .await;
    wait_until("all are out", PATIENCE, || async {
        in_queue(&weir).await == 0.0
    })
    .await;
    let mut there = remote.subscribe("up/#", &["-q", "1"]).await;
    let got = there.wait_for(MANY.into()).await;
    let kept: BTreeMap<&str, &str> = got
        .iter()
        .map(|message| (&*message.topic, &*message.payload))
        .collect();
    assert_eq!(kept.len(), usize::from(MANY));
    let old: Vec<_> = kept
        .iter()
        .filter(|(_, payload)| **payload == "old")
        .collect();
    assert!(old.is_empty(), "{old:?}");
}
