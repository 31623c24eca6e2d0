//! `out` of a bridge against a remote of this test's own, byte by byte: packet ids, PUBREL, and what is remembered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir_rules::value::{Object, Text};
use weir_sinks::bridge::route::Sender;
use weir_sinks::crossing::{Crossing, row};
use weir_sinks::{
    Connector, ConnectorConfig, ConsoleOutput, MemoryRows, SinkHandle, SinkPlan, SinkSpec, record,
};
use weir_test_support::wait_until;

use crate::bench::PATIENCE;

/// A remote that says what the test tells it to.
pub(crate) struct Remote {
    listener: TcpListener,
}

impl Remote {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    pub(crate) fn address(&self) -> String {
        let port = self.listener.local_addr().unwrap().port();
        format!("mqtt://127.0.0.1:{port}")
    }

    /// A connector to it, with `more` in its table.
    pub(crate) fn toml(&self, more: &str) -> String {
        let address = self.address();
        format!(
            "type = \"mqtt\"\naddresses = [\"{address}\"]\nclient_id = \"w\"\n\
             backoff = {{ base = \"100ms\", cap = \"200ms\" }}\n{more}\n"
        )
    }

    pub(crate) fn config(&self, protocol: &str) -> ConnectorConfig {
        let more = format!("protocol = \"{protocol}\"\n[[out]]\nfilter = \"#\"");
        toml::from_str(&self.toml(&more)).unwrap()
    }

    /// The next link, with or without the session of before.
    pub(crate) async fn accept(&self, session_present: bool) -> Far {
        let (far, clean) = self.accept_either(session_present).await;
        assert!(!clean);
        far
    }

    /// The same, behind connections that have ended meanwhile.
    pub(crate) async fn accept_live(&self, session_present: bool) -> Far {
        loop {
            let stream = self.connection().await;
            let mut first = [0; 64];
            // What has ended is read to its end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = stream.try_read(&mut first);
            if matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
            {
                let mut far = Far { stream, v5: false };
                far.send(&[0x20, 2, u8::from(session_present), 0]).await;
                return far;
            }
        }
    }

    /// The next link of MQTT 5 that begins a session, welcomed with these properties behind their length.
    pub(crate) async fn accept_saying(&self, properties: &[u8]) -> Far {
        let stream = self.connection().await;
        let mut far = Far { stream, v5: true };
        assert_eq!(far.packet().await.0 >> 4, 1, "CONNECT");
        let length = u8::try_from(2 + properties.len()).unwrap();
        far.send(&[0x20, length, 0, 0]).await;
        far.send(properties).await;
        far
    }

    /// The next connection, before anything is said on it.
    pub(crate) async fn connection(&self) -> TcpStream {
        let (stream, _) = tokio::time::timeout(PATIENCE, self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        stream
    }

    /// The next link, and whether it asks for a clean session.
    pub(crate) async fn accept_either(&self, session_present: bool) -> (Far, bool) {
        let stream = self.connection().await;
        let mut far = Far { stream, v5: false };
        let (kind, body) = far.packet().await;
        assert_eq!(kind >> 4, 1, "CONNECT");
        let present = u8::from(session_present);
        far.v5 = body[6] == 5;
        if far.v5 {
            far.send(&[0x20, 3, present, 0, 0]).await;
        } else {
            far.send(&[0x20, 2, present, 0]).await;
        }
        // Protocol name, level, then the flags.
        (far, body[7] & 0b10 != 0)
    }
}

pub(crate) struct Far {
    pub(crate) stream: TcpStream,
    pub(crate) v5: bool,
}

impl Far {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// First byte and body of the next packet.
    pub(crate) async fn packet(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let kind = self.stream.read_u8().await.unwrap();
            // Everything here is short.
            let length = self.stream.read_u8().await.unwrap();
            assert!(length < 0x80);
            let mut body = vec![0; length.into()];
            self.stream.read_exact(&mut body).await.unwrap();
            (kind, body)
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }

    /// The next packet that is not about ids of before.
    pub(crate) async fn publish(&mut self) -> (u8, u16, String) {
        loop {
            let (kind, body) = self.packet().await;
            if kind == 0x62 {
                self.send(&[0x70, 2, body[0], body[1]]).await;
                continue;
            }
            assert_eq!(kind >> 4, 3, "PUBLISH");
            let topic = usize::from(body[1]);
            let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
            let mut payload = 4 + topic;
            if self.v5 {
                // Properties, which here are short.
                payload += 1 + usize::from(body[payload]);
            }
            let payload = String::from_utf8(body[payload..].to_vec()).unwrap();
            return (kind, id, payload);
        }
    }

    pub(crate) async fn acknowledge(&mut self, kind: u8, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[kind, 2, high, low]).await;
    }
}

pub(crate) fn commit(log: &MemoryRows, config: &ConnectorConfig, payload: &str) {
    commit_with(log, config, payload, None);
}

pub(crate) fn commit_with(
    log: &MemoryRows,
    config: &ConnectorConfig,
    payload: &str,
    properties: Option<&Arc<Object>>,
) {
    let ConnectorConfig::Mqtt(bridge) = config else {
        unreachable!()
    };
    let (plan, _) = weir_sinks::bridge::plan::BridgePlan::check(bridge).unwrap();
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let message = Crossing {
        topic: "t",
        payload: &payload,
        qos: 2,
        retain: false,
        properties,
        sender: Sender::default(),
        node_id: "n",
    };
    let row = row(&plan.out[0], message).unwrap();
    log.commit([record::encode(1, &Text::from_static("c"), 0, &row)]);
}

pub(crate) fn open(
    folder: &std::path::Path,
    config: &ConnectorConfig,
    log: &Arc<MemoryRows>,
) -> (Arc<Connector>, SinkHandle) {
    let connector = Connector::open("hq", config, folder).unwrap();
    connector.start();
    let sink = weir_sinks::open(&spec(folder, &connector, log)).unwrap();
    (connector, sink)
}

/// `out` of a connector.
pub(crate) fn spec(
    folder: &std::path::Path,
    connector: &Arc<Connector>,
    log: &Arc<MemoryRows>,
) -> SinkSpec {
    SinkSpec {
        rule_id: "$bridges/hq".to_owned(),
        sink_id: "out".to_owned(),
        plan: SinkPlan::of_bridge(&connector.bridge_plan().unwrap()),
        connector: Some(Arc::clone(connector)),
        data_dir: folder.to_path_buf(),
        store_id: "s".to_owned(),
        console: ConsoleOutput::new(std::io::sink()),
        rows: Some(Arc::clone(log) as Arc<dyn weir_sinks::RowLog>),
        letters: None,
    }
}

/// [MQTT-4.3.3-6] [MQTT-4.4.0-1]
#[tokio::test]
async fn a_message_that_the_remote_has_is_only_released_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("3.1.1");
    let log = Arc::new(MemoryRows::new(1, 77));
    commit(&log, &config, "one");
    commit(&log, &config, "two");
    let first = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (kind, one, payload) = far.publish().await;
    assert_eq!((kind, payload.as_str()), (0x34, "one"));
    let (_, two, payload) = far.publish().await;
    assert_eq!(payload, "two");
    // The first is with the remote, the second was never seen by it.
    far.acknowledge(0x50, one).await;
    let (kind, body) = far.packet().await;
    assert_eq!((kind, body), (0x62, one.to_be_bytes().to_vec()), "PUBREL");
    // A crash: neither is settled.
    drop(far);
    first.1.drain(Duration::ZERO).await;
    drop(first);

    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(true).await;
    let mut released = false;
    let (kind, id, payload) = loop {
        let (kind, body) = far.packet().await;
        if kind == 0x62 {
            released |= body == one.to_be_bytes();
            far.acknowledge(0x70, u16::from_be_bytes([body[0], body[1]]))
                .await;
            continue;
        }
        let topic = usize::from(body[1]);
        let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
        break (
            kind,
            id,
            String::from_utf8(body[4 + topic..].to_vec()).unwrap(),
        );
    };
    assert!(released, "PUBREL of the first comes before the second");
    assert_eq!(
        (kind, id, payload.as_str()),
        (0x3C, two, "two"),
        "DUP, under the id that it had"
    );
    far.acknowledge(0x50, two).await;
    assert_eq!(far.packet().await.0, 0x62);
    far.acknowledge(0x70, two).await;
    crate::bench::wait(&sink, "both are delivered", |c| c.delivered == 2).await;
    assert!(log.waiting().is_empty());
}

#[tokio::test]
async fn a_remote_that_has_lost_the_session_gets_the_message_again() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("3.1.1");
    let log = Arc::new(MemoryRows::new(1, 78));
    commit(&log, &config, "one");
    let (connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (_, one, _) = far.publish().await;
    far.acknowledge(0x50, one).await;
    assert_eq!(far.packet().await.0, 0x62);
    drop(far);
    wait_until("the link is down", PATIENCE, || async {
        connector.state().link != weir_sinks::LinkState::Up
    })
    .await;
    let mut far = remote.accept(false).await;
    let (kind, id, payload) = far.publish().await;
    assert_eq!(
        (kind, id, payload.as_str()),
        (0x34, one, "one"),
        "anew, without DUP"
    );
    far.acknowledge(0x50, one).await;
    assert_eq!(far.packet().await.0, 0x62);
    far.acknowledge(0x70, one).await;
    crate::bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
}

#[tokio::test]
async fn what_has_waited_for_longer_than_the_files_time_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let more = "queue = { ttl = \"1h\" }\nprotocol = \"3.1.1\"\n[[out]]\nfilter = \"#\"";
    let config: ConnectorConfig = toml::from_str(&remote.toml(more)).unwrap();
    let log = Arc::new(MemoryRows::new(1, 80));
    // It was accepted in 1970.
    commit(&log, &config, "old");
    let row = crate::bench::row(r#"{"topic":"t","payload":"new","qos":1,"retain":false}"#);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = i64::try_from(now.unwrap().as_millis()).unwrap();
    log.commit([record::encode(2, &Text::from_static("c"), now_ms, &row)]);
    let (connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(false).await;
    let (_, id, payload) = far.publish().await;
    assert_eq!(payload, "new");
    far.acknowledge(0x40, id).await;
    crate::bench::wait(&sink, "both are settled", |c| c.delivered == 2).await;
    let stats = connector.bridge_stats().unwrap();
    let expired = stats.expired.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(expired, 1);
}
