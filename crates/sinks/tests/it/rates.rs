//! How fast a bridge sends to a cloud that throws away what comes faster, whoever uses the link.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_rules::value::Text;
use weir_sinks::bridge::plan::BridgePlan;
use weir_sinks::bridge::route::Sender;
use weir_sinks::crossing::{Crossing, row};
use weir_sinks::{Connector, ConnectorConfig, MemoryRows, SinkHandle, record};

use crate::bench;
use crate::crossing::{Far, Remote, spec};

const ALIYUN: &str = "preset = \"aliyun_iot\"\nsign_method = \"hmacmd5\"\ntimestamp = false\nproduct_key = \"pk\"\ndevice_name = \"gw01\"\ndevice_secret = \"s\"\n\
                      [[out]]\nfilter = \"#\"\nremote_prefix = \"/pk/gw01/user/\"\n";

/// A bridge with a preset, an `out`, and rules' sinks.
struct Users {
    folder: tempfile::TempDir,
    config: ConnectorConfig,
    connector: Arc<Connector>,
    /// `out`, whose handle must live.
    _out: SinkHandle,
    sinks: Vec<SinkHandle>,
}

impl Users {
    /// `out` has `each` messages of these `QoS` waiting.
    fn start(remote: &Remote, preset: &str, out: &[u8]) -> Self {
        let address = remote.address();
        let config: ConnectorConfig = toml::from_str(&format!(
            "type = \"mqtt\"\naddresses = [\"{address}\"]\n{preset}"
        ))
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryRows::new(1, 77));
        let ConnectorConfig::Mqtt(bridge) = &config else {
            unreachable!()
        };
        let (plan, _) = BridgePlan::check(bridge).unwrap();
        for qos in out {
            let message = Crossing {
                topic: "t",
                payload: &Bytes::from_static(b"out"),
                qos: *qos,
                retain: false,
                properties: None,
                sender: Sender::default(),
                node_id: "n",
            };
            let row = row(&plan.out[0], message).unwrap();
            log.commit([record::encode(1, &Text::from_static("c"), now_ms(), &row)]);
        }
        let connector = Connector::open("hq", &config, folder.path()).unwrap();
        let out = weir_sinks::open(&spec(folder.path(), &connector, &log)).unwrap();
        Self {
            folder,
            config,
            connector,
            _out: out,
            sinks: Vec::new(),
        }
    }

    /// A rule's sink that has `messages` to send, each with `payload`.
    fn sink(&mut self, topic: &str, qos: u8, payload: &str, messages: u32) {
        let text = format!(
            "connector = \"far\"\ntopic = \"{topic}\"\nqos = {qos}\npayload = \"{payload}\""
        );
        let connector = Some((&self.config, &self.connector));
        let spec = bench::spec(&text, connector, self.folder.path());
        let sink = weir_sinks::open(&spec).unwrap();
        (0..messages).for_each(|number| bench::push(&sink, &format!("{{\"n\":{number}}}")));
        self.sinks.push(sink);
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_millis()).unwrap()
}

/// Takes so many messages: when each came, at which `QoS`, and its payload.
async fn take(far: &mut Far, many: usize) -> Vec<(Instant, u8, String)> {
    let mut came = Vec::new();
    while came.len() < many {
        let (kind, body) = far.packet().await;
        if kind >> 4 != 3 {
            continue;
        }
        let (qos, topic) = (kind >> 1 & 3, usize::from(body[1]));
        let payload = if qos == 0 { 2 + topic } else { 4 + topic };
        if qos == 1 {
            let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
            far.acknowledge(0x40, id).await;
        }
        let payload = String::from_utf8(body[payload..].to_vec()).unwrap();
        came.push((Instant::now(), qos, payload));
    }
    came
}

#[tokio::test]
async fn all_users_of_a_link_share_the_clouds_rate_in_turn() {
    let remote = Remote::new().await;
    let mut users = Users::start(&remote, ALIYUN, &[1; 12]);
    users.sink("/pk/gw01/user/a", 1, "a", 12);
    users.sink("/pk/gw01/user/b", 1, "b", 12);
    users.connector.start();
    let mut far = remote.accept(false).await;
    let came = take(&mut far, 36).await;
    // Ten at once, then ten a second.
    let took = came[35].0 - came[0].0;
    let least = Duration::from_millis(2500);
    assert!(took >= least && took < 3 * least, "{took:?}");
    let second = |at: usize| came[at + 20].0 - came[at].0 >= Duration::from_millis(900);
    assert!((0..15).all(second), "never more than twenty in a second");
    // Who came first may have had all that was there at once; from then on nobody goes twice while another waits.
    let behind = |user: &str, up_to: usize| {
        let behind = came[10..up_to].iter();
        behind.filter(|(.., who)| who == user).count()
    };
    let first = &came[0].2;
    let others: Vec<_> = ["a", "b", "out"]
        .into_iter()
        .filter(|user| user != first)
        .collect();
    for up_to in 11..30 {
        let [one, other] = [0, 1].map(|at| behind(others[at], up_to));
        let order: Vec<_> = came.iter().map(|(.., who)| who.as_str()).collect();
        assert!(one.abs_diff(other) <= 2, "{order:?}");
    }
}

#[tokio::test]
async fn a_rate_is_one_for_both_qos_where_the_cloud_has_one() {
    let remote = Remote::new().await;
    let tencent = "preset = \"tencent_iot\"\nproduct_id = \"P\"\ndevice_name = \"d\"\ndevice_secret = \"c2VjcmV0\"\n\
                   [[out]]\nfilter = \"#\"\nremote_prefix = \"P/d/\"\n";
    let qos: Vec<u8> = (0..50).map(|number| number % 2).collect();
    let users = Users::start(&remote, tencent, &qos);
    users.connector.start();
    let mut far = remote.accept(false).await;
    let came = take(&mut far, 50).await;
    let took = came[49].0 - came[0].0;
    assert!(took >= Duration::from_millis(1400), "{took:?}");
}

#[tokio::test]
async fn messages_of_qos_0_have_the_rate_that_the_cloud_gives_them_alone() {
    let remote = Remote::new().await;
    let qos: Vec<u8> = (0..40).map(|number| number % 2).collect();
    let users = Users::start(&remote, ALIYUN, &qos);
    users.connector.start();
    let mut far = remote.accept(false).await;
    let came = take(&mut far, 40).await;
    // Twenty of each: those of QoS 1 take a second, and those of QoS 0 do not make it longer.
    let took = came[39].0 - came[0].0;
    let (least, most) = (Duration::from_millis(900), Duration::from_millis(1900));
    assert!(took >= least && took < most, "{took:?}");
}

#[tokio::test]
async fn large_messages_leave_no_faster_than_the_bytes_that_the_cloud_takes() {
    let remote = Remote::new().await;
    let more = format!("byte_rate = \"1000B\"\n{ALIYUN}");
    let mut users = Users::start(&remote, &more, &[]);
    let payload = "x".repeat(60);
    users.sink("/pk/gw01/user/a", 0, &payload, 25);
    users.connector.start();
    let mut far = remote.accept(false).await;
    let came = take(&mut far, 25).await;
    // 25 packets of some 80 bytes, of which 1000 bytes leave at once.
    let took = came[24].0 - came[0].0;
    assert!(took >= Duration::from_millis(800), "{took:?}");
}

#[tokio::test]
async fn after_an_outage_what_has_gathered_leaves_more_slowly_than_the_cloud_takes_it() {
    let remote = Remote::new().await;
    let text = "client_id = \"w\"\nprotocol = \"3.1.1\"\nrate = 20\nbackoff = { base = \"100ms\", cap = \"200ms\" }\n\
                [[out]]\nfilter = \"#\"\n";
    let users = Users::start(&remote, text, &[1; 56]);
    users.connector.start();
    drop(remote.accept(false).await);
    let mut far = remote.accept(false).await;
    let came = take(&mut far, 56).await;
    // Sixteen at once and then sixteen a second, where it would have been twenty.
    let took = came[55].0 - came[0].0;
    assert!(took >= Duration::from_millis(2300), "{took:?}");
}
