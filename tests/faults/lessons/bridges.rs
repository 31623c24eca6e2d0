//! A bridge to a broker that hangs, takes little at a time, or forgets to answer.

use std::num::NonZero;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir_mqtt::ProtocolVersion::V5;
use weir_mqtt::{ConnAck, Packet, PacketId, PubAck, PubComp, PubRec, Publish, codec};
use weir_test_support::{Mosquitto, Site, Weir, wait_until};

use crate::WEIR;
use crate::killed::Client;

const PATIENCE: Duration = Duration::from_secs(60);
const SINK: [(&str, &str); 1] = [("rule", "bridge")];

fn site(port: u16, connector: &str, sink: &str) -> Site {
    let site = Site::new();
    site.connector(
        "hq",
        &format!(
            "type = \"mqtt\"\nprotocol = \"5\"\nclient_id = \"weir-test\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
             backoff = {{ base = \"50ms\", cap = \"200ms\" }}\n{connector}"
        ),
    );
    site.rule(
        "bridge",
        &format!(
            "sql = '''SELECT payload.n AS n FROM \"t\"'''\n[[sinks]]\nconnector = \"hq\"\ntopic = \"out\"\n\
             retry = {{ initial = \"50ms\", max = \"200ms\" }}\n{sink}"
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

fn number(publish: &Publish) -> u64 {
    let row: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
    row["n"].as_u64().unwrap()
}

/// A remote broker that answers what a test says.
struct Remote(TcpListener);

impl Remote {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next connection, with this receive maximum.
    async fn accept(&self, receive_maximum: Option<u16>) -> Link {
        let (stream, _) = timeout(PATIENCE, self.0.accept()).await.unwrap().unwrap();
        let mut link = Link(stream, BytesMut::new());
        assert!(matches!(link.next().await, Some(Packet::Connect(_))));
        let mut connack = ConnAck::accepted(false);
        connack.properties.receive_maximum = receive_maximum.and_then(NonZero::new);
        link.send(Packet::ConnAck(Box::new(connack))).await;
        link
    }
}

struct Link(TcpStream, BytesMut);

impl Link {
    async fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        codec::encode(&packet, V5, &mut bytes).unwrap();
        self.0.write_all(&bytes).await.unwrap();
    }

    /// The next packet; `None` when the connection ends.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(length) = codec::frame_length(&self.1, usize::MAX).unwrap() {
                let frame: Bytes = self.1.split_to(length).freeze();
                return Some(codec::decode(frame, V5).unwrap());
            }
            if self.0.read_buf(&mut self.1).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next PUBLISH; pings are answered.
    async fn publish(&mut self) -> Option<Publish> {
        loop {
            match timeout(PATIENCE, self.next()).await.unwrap()? {
                Packet::Publish(publish) => return Some(publish),
                Packet::PingReq => self.send(Packet::PingResp).await,
                other => panic!("expected PUBLISH, got {other:?}"),
            }
        }
    }

    async fn puback(&mut self, id: PacketId) {
        self.send(Packet::PubAck(PubAck::success(id))).await;
    }
}

/// [LESSON-1]
#[tokio::test]
async fn a_remote_that_hangs_is_told_of_and_what_waits_never_expires() {
    let mosquitto = Mosquitto::start().await;
    let mut there = mosquitto
        .subscribe("out", &["-q", "1", "-c", "-i", "there"])
        .await;
    let site = site(mosquitto.port(), "ack_timeout = \"1s\"\n", "qos = 1\n");
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=1).await;
    there.wait_for(1).await;
    let up = |weir: &Weir| {
        let (port, labels) = (weir.http_port(), "weir_connector_up{connector=\"hq\"");
        async move {
            let (_, text) = weir_test_support::http_get(port, "/metrics").await;
            let line = text.lines().find(|line| line.starts_with(labels));
            line.is_some_and(|line| line.ends_with(" 1"))
        }
    };
    assert!(up(&weir).await);
    // It keeps its connections, and reads and says nothing any more.
    mosquitto.pause().await;
    publish(&weir, 2..=20).await;
    wait_until("the connector to be down", PATIENCE, || async {
        !up(&weir).await
    })
    .await;
    let age = "weir_sink_oldest_row_age_seconds";
    wait_until("the oldest row to have an age", PATIENCE, || async {
        weir.metric(age, &SINK).await > 1.0
    })
    .await;
    mosquitto.go_on().await;
    wait_until("all to be acknowledged", PATIENCE, || async {
        weir.metric("weir_sink_rows_delivered_total", &SINK).await > 19.5
    })
    .await;
    assert!(weir.metric("weir_sink_rows_dropped_total", &SINK).await < 0.5);
    // What was taken without an answer may have come twice, and nothing is missing.
    let messages = there.all_within(Duration::from_millis(500)).await;
    for n in 1..=20 {
        let payload = format!("{{\"n\":{n}}}");
        assert!(
            messages.iter().any(|message| message.payload == payload),
            "{n}"
        );
    }
}

/// [LESSON-4]
#[tokio::test]
async fn what_a_remote_has_not_acknowledged_comes_again_after_a_kill() {
    let remote = Remote::start().await;
    let site = site(remote.port(), "", "qos = 1\n");
    let weir = site.start(WEIR).await;
    let mut link = remote.accept(None).await;
    publish(&weir, 1..=10).await;
    assert_eq!(number(&link.publish().await.unwrap()), 1);
    // It has seen the first one, and does not say so.
    weir.kill().await;
    let weir = site.start(WEIR).await;
    let mut link = remote.accept(None).await;
    for n in 1..=10 {
        let publish = link.publish().await.unwrap();
        assert_eq!(number(&publish), n);
        link.puback(publish.packet_id.unwrap()).await;
    }
    wait_until("all to be settled", PATIENCE, || async {
        weir.metric("weir_sink_rows_delivered_total", &SINK).await > 9.5
    })
    .await;
}

/// [LESSON-6] [LESSON-7]
#[tokio::test]
async fn a_long_backlog_leaves_in_windows_of_the_remotes_receive_maximum() {
    const WINDOW: usize = 7;
    const MESSAGES: u16 = 60;
    let remote = Remote::start().await;
    let site = site(remote.port(), "", "qos = 1\n");
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=1).await;
    let mut link = remote.accept(Some(7)).await;
    // The first row goes by itself; the others wait together until it is acknowledged.
    let first = link.publish().await.unwrap();
    publish(&weir, 2..=MESSAGES).await;
    link.puback(first.packet_id.unwrap()).await;
    let mut under_way = std::collections::VecDeque::new();
    for n in 2..=u64::from(MESSAGES) {
        let publish = link.publish().await.unwrap();
        assert_eq!(number(&publish), n);
        under_way.push_back(publish.packet_id.unwrap());
        assert!(under_way.len() <= WINDOW);
        if under_way.len() < WINDOW && n < u64::from(MESSAGES) {
            // Nothing is acknowledged, and the next one comes all the same.
            continue;
        }
        if n == 1 + WINDOW as u64 {
            let more = timeout(Duration::from_millis(300), link.next()).await;
            assert!(more.is_err(), "more than it takes: {more:?}");
        }
        let first = under_way.pop_front().unwrap();
        link.puback(first).await;
    }
    for id in under_way {
        link.puback(id).await;
    }
    wait_until("all to be settled", PATIENCE, || async {
        weir.metric("weir_sink_rows_delivered_total", &SINK).await > f64::from(MESSAGES) - 0.5
    })
    .await;
}

/// [LESSON-5] [LESSON-8]
#[tokio::test]
async fn a_bridge_whose_buffer_was_full_comes_back_and_sends_what_it_kept() {
    let mut mosquitto = Mosquitto::start().await;
    let site = site(
        mosquitto.port(),
        "",
        "qos = 1\nretain = true\nbuffer = { max_bytes = \"4KiB\", when_full = \"drop_oldest\" }\n",
    );
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=1).await;
    mosquitto.stop().await;
    publish(&weir, 2..=500).await;
    mosquitto.start_again().await;
    // Nothing new is published: the reconnect sends it.
    wait_until("each row to be delivered or dropped", PATIENCE, || async {
        let delivered = weir.metric("weir_sink_rows_delivered_total", &SINK).await;
        delivered + weir.metric("weir_sink_rows_dropped_total", &SINK).await > 499.5
    })
    .await;
    assert!(weir.metric("weir_sink_rows_dropped_total", &SINK).await > 100.0);
    let mut there = mosquitto.subscribe("out", &["-q", "1"]).await;
    assert_eq!(there.wait_for(1).await[0].payload, "{\"n\":500}");
}

/// [LESSON-9]
#[tokio::test]
async fn an_answer_that_never_comes_blocks_no_window() {
    let remote = Remote::start().await;
    let site = site(remote.port(), "ack_timeout = \"300ms\"\n", "qos = 1\n");
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=10).await;
    let mut link = remote.accept(Some(4)).await;
    let mut seen = Vec::new();
    // The first message is never acknowledged, all others are.
    while let Some(publish) = link.publish().await {
        let n = number(&publish);
        seen.push(n);
        if n != 1 {
            link.puback(publish.packet_id.unwrap()).await;
        }
    }
    let mut link = remote.accept(Some(4)).await;
    while !(1..=10).all(|n| seen.contains(&n)) || seen.iter().filter(|n| **n == 1).count() < 2 {
        let publish = link.publish().await.expect("the link that answers stays");
        seen.push(number(&publish));
        link.puback(publish.packet_id.unwrap()).await;
    }
    wait_until("all to be settled", PATIENCE, || async {
        weir.metric("weir_sink_rows_delivered_total", &SINK).await > 9.5
    })
    .await;
}

/// [LESSON-9]
#[tokio::test]
async fn a_link_that_breaks_before_pubrel_or_pubcomp_loses_nothing() {
    let remote = Remote::start().await;
    let site = site(remote.port(), "", "qos = 2\n");
    let weir = site.start(WEIR).await;
    publish(&weir, 1..=1).await;
    for breaks_at in ["PUBREC", "PUBREL", "never"] {
        let mut link = remote.accept(None).await;
        let publish = link.publish().await.unwrap();
        assert_eq!(number(&publish), 1);
        let id = publish.packet_id.unwrap();
        link.send(Packet::PubRec(PubRec::success(id))).await;
        if breaks_at == "PUBREC" {
            continue;
        }
        assert!(matches!(link.next().await, Some(Packet::PubRel(rel)) if rel.packet_id == id));
        if breaks_at == "PUBREL" {
            continue;
        }
        link.send(Packet::PubComp(PubComp::success(id))).await;
        wait_until("it is settled", PATIENCE, || async {
            weir.metric("weir_sink_rows_delivered_total", &SINK).await > 0.5
        })
        .await;
    }
}
