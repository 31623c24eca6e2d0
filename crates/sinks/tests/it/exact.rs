//! A rule's sink at `QoS` 2 over a bridge, against a remote of this test's own: what it has is never sent twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_rules::value::Text;
use weir_sinks::{Connector, ConnectorConfig, MemoryRows, SinkHandle, record};
use weir_test_support::wait_until;

use crate::bench;
use crate::crossing::{Far, Remote};

const SINK: &str = "connector = \"hq\"\ntopic = \"t\"\nqos = 2\npayload = \"${n}\"";

pub(crate) fn commit(log: &MemoryRows, n: u32) {
    let row = bench::row(&format!("{{\"n\":{n}}}"));
    log.commit([record::encode(1, &Text::from_static("c"), 0, &row)]);
}

pub(crate) fn open_sink(
    folder: &Path,
    config: &ConnectorConfig,
    connector: &Arc<Connector>,
    name: &str,
    log: &Arc<MemoryRows>,
) -> SinkHandle {
    let mut spec = bench::spec(SINK, Some((config, connector)), folder);
    spec.sink_id = name.to_owned();
    spec.rows = Some(Arc::clone(log) as Arc<dyn weir_sinks::RowLog>);
    weir_sinks::open(&spec).unwrap()
}

fn open(
    folder: &Path,
    config: &ConnectorConfig,
    log: &Arc<MemoryRows>,
) -> (Arc<Connector>, SinkHandle) {
    let connector = Connector::open("hq", config, folder).unwrap();
    let sink = open_sink(folder, config, &connector, "one", log);
    (connector, sink)
}

/// Answers everything until so many new messages have come: their payloads, DUP flags and ids. What is released first.
pub(crate) async fn take(far: &mut Far, many: usize) -> (Vec<u16>, Vec<(String, bool, u16)>) {
    let (mut released, mut came) = (Vec::new(), Vec::new());
    let mut completed = 0;
    while completed < many {
        let (kind, body) = far.packet().await;
        if kind == 0x62 {
            let id = u16::from_be_bytes([body[0], body[1]]);
            far.acknowledge(0x70, id).await;
            if came.iter().any(|(_, _, of)| *of == id) {
                completed += 1;
            } else {
                released.push(id);
            }
            continue;
        }
        assert_eq!(kind >> 4, 3, "PUBLISH");
        let topic = usize::from(body[1]);
        let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
        let payload = String::from_utf8(body[4 + topic..].to_vec()).unwrap();
        came.push((payload, kind & 0b1000 != 0, id));
        far.acknowledge(0x50, id).await;
    }
    (released, came)
}

/// [MQTT-4.3.3-6] [MQTT-4.4.0-1]
#[tokio::test]
async fn a_rules_message_that_the_remote_has_is_only_released_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
    let log = Arc::new(MemoryRows::new(1, 77));
    (1..=3).for_each(|n| commit(&log, n));
    let first = open(folder.path(), &config, &log);
    // The session is kept though no topic crosses by itself.
    let mut far = remote.accept(false).await;
    let (_, one, payload) = far.publish().await;
    assert_eq!(payload, "1");
    let (_, two, _) = far.publish().await;
    let (_, three, _) = far.publish().await;
    assert!(one != two && two != three);
    far.acknowledge(0x50, one).await;
    let (kind, body) = far.packet().await;
    assert_eq!((kind, body), (0x62, one.to_be_bytes().to_vec()), "PUBREL");
    // The second is with the remote, its PUBREC is lost; then the crash.
    drop(far);
    first.1.drain(Duration::ZERO).await;
    drop(first);

    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(true).await;
    let (released, came) = take(&mut far, 2).await;
    assert!(released.contains(&one), "the first is only released");
    assert_eq!(
        came,
        [("2".to_owned(), true, two), ("3".to_owned(), true, three)],
        "DUP, under the ids that they had"
    );
    bench::wait(&sink, "all are delivered", |c| c.delivered == 3).await;
    assert!(log.waiting().is_empty());
}

#[tokio::test]
async fn messages_of_two_rules_are_told_apart_at_the_remote() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
    let logs = [7, 8].map(|epoch| Arc::new(MemoryRows::new(epoch, epoch)));
    commit(&logs[0], 1);
    commit(&logs[1], 2);
    let open = || {
        let connector = Connector::open("hq", &config, folder.path()).unwrap();
        let sinks = [0, 1].map(|at| {
            open_sink(
                folder.path(),
                &config,
                &connector,
                ["a", "b"][at],
                &logs[at],
            )
        });
        (connector, sinks)
    };
    let (connector, sinks) = open();
    let mut far = remote.accept(false).await;
    let mut first = Vec::new();
    for _ in 0..2 {
        let (_, id, payload) = far.publish().await;
        first.push((payload, true, id));
    }
    assert_ne!(first[0].2, first[1].2);
    drop(far);
    for sink in &sinks {
        sink.drain(Duration::ZERO).await;
    }
    drop((connector, sinks));

    let (_connector, sinks) = open();
    let mut far = remote.accept(true).await;
    let (_, mut again) = take(&mut far, 2).await;
    first.sort();
    again.sort();
    assert_eq!(again, first);
    for sink in &sinks {
        bench::wait(sink, "it is delivered", |c| c.delivered == 1).await;
    }
}

#[tokio::test]
async fn a_file_that_asks_for_a_clean_session_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("clean_start = true")).unwrap();
    let log = Arc::new(MemoryRows::new(1, 79));
    let _open = open(folder.path(), &config, &log);
    let (_far, clean) = remote.accept_either(false).await;
    assert!(clean);
}

#[tokio::test]
async fn what_was_done_long_before_a_crash_is_not_sent_though_the_queue_has_forgotten_that() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
    let log = Arc::new(MemoryRows::new(1, 80));
    // The file as an earlier life left it: the remote has had 1 to 600, and may have 600 half way.
    std::fs::create_dir(folder.path().join("bridges")).unwrap();
    std::fs::write(folder.path().join("bridges/hq.lanes"), "0 80\n").unwrap();
    let words = std::iter::once(80_u64).chain(1..=600);
    let file: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
    std::fs::write(folder.path().join("bridges/hq.released-0"), file).unwrap();
    (1..=601).for_each(|n| commit(&log, n));
    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(true).await;
    let (released, came) = take(&mut far, 1).await;
    assert_eq!(came[0].0, "601");
    // Of the lane only identifiers that no later message may have are released.
    let lane = released.iter().filter(|id| **id >= 41_216).count();
    assert!(lane <= 256, "{lane}");
    bench::wait(&sink, "all are settled", |c| c.delivered == 601).await;
}

/// Takes the next PUBLISH messages and never says PUBREC: the ids under which the remote has them half way.
async fn take_half(far: &mut Far, many: usize) -> BTreeSet<u16> {
    let mut half = BTreeSet::new();
    while half.len() < many {
        half.insert(far.publish().await.1);
    }
    half
}

/// As a remote that keeps the method of [MQTT-4.3.3-10]: what comes under an id that it has half way is a repeat.
async fn take_exactly(far: &mut Far, half: &mut BTreeSet<u16>, many: usize) -> Vec<String> {
    let (mut new, mut completed) = (Vec::new(), 0);
    while completed < many {
        let (kind, body) = far.packet().await;
        if kind == 0x62 {
            let id = u16::from_be_bytes([body[0], body[1]]);
            completed += usize::from(half.remove(&id) && !new.is_empty());
            far.acknowledge(0x70, id).await;
            continue;
        }
        assert_eq!(kind >> 4, 3, "PUBLISH");
        let topic = usize::from(body[1]);
        let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
        if half.insert(id) {
            new.push(String::from_utf8(body[4 + topic..].to_vec()).unwrap());
        }
        far.acknowledge(0x50, id).await;
    }
    new
}

/// Ends what still asks for a link.
async fn refuse_until(remote: &Remote, done: impl Future<Output = ()>) {
    let refuse = async {
        loop {
            drop(remote.connection().await);
        }
    };
    tokio::select! {
        () = refuse => {}
        () = done => {}
    }
}

#[tokio::test]
async fn messages_that_were_given_up_half_way_swallow_no_later_ones() {
    for restarts in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let remote = Remote::new().await;
        let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
        let log = Arc::new(MemoryRows::new(1, 81));
        let give_up =
            format!("{SINK}\nretry = {{ give_up = \"1s\" }}\nbatch = {{ max_rows = 500 }}");
        let open = || {
            let connector = Connector::open("hq", &config, folder.path()).unwrap();
            let mut spec = bench::spec(&give_up, Some((&config, &connector)), folder.path());
            spec.rows = Some(Arc::clone(&log) as Arc<dyn weir_sinks::RowLog>);
            let sink = weir_sinks::open(&spec).unwrap();
            (connector, sink)
        };
        (1..=500).for_each(|n| commit(&log, n));
        let (mut connector, mut sink) = open();
        let mut far = remote.accept(false).await;
        let mut half = take_half(&mut far, 20).await;
        drop(far);
        let given_up = async {
            bench::wait(&sink, "they are given up", |c| c.dead_lettered == 500).await;
        };
        refuse_until(&remote, given_up).await;
        if restarts {
            let ends = async {
                sink.drain(Duration::ZERO).await;
                connector.end().await
            };
            refuse_until(&remote, ends).await;
            (connector, sink) = open();
        }
        (501..=540).for_each(|n| commit(&log, n));
        let mut far = remote.accept_live(true).await;
        let new = take_exactly(&mut far, &mut half, 40).await;
        let all: Vec<String> = (501..=540).map(|n| n.to_string()).collect();
        assert_eq!(new, all);
        wait_until("all are settled", bench::PATIENCE, || async {
            log.waiting().is_empty()
        })
        .await;
        drop((connector, sink));
    }
}

/// [MQTT-4.3.3-13] holds for ids that a remote knows; some say nothing to others.
#[tokio::test]
async fn a_remote_that_is_silent_about_ids_that_it_does_not_know_gets_every_message() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let more = "protocol = \"3.1.1\"\nack_timeout = \"2s\"";
    let config: ConnectorConfig = toml::from_str(&remote.toml(more)).unwrap();
    let log = Arc::new(MemoryRows::new(1, 82));
    std::fs::create_dir(folder.path().join("bridges")).unwrap();
    std::fs::write(folder.path().join("bridges/hq.lanes"), "0 82\n").unwrap();
    (1..=530).for_each(|n| commit(&log, n));
    weir_sinks::RowLog::settle(&*log, 256);
    let (connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(true).await;
    let mut half = BTreeSet::new();
    let mut completed = 0;
    while completed < 530 - 256 {
        let (kind, body) = far.packet().await;
        if kind == 0x62 {
            let id = u16::from_be_bytes([body[0], body[1]]);
            if half.remove(&id) {
                completed += 1;
                far.acknowledge(0x70, id).await;
            }
        } else if kind >> 4 == 3 {
            let topic = usize::from(body[1]);
            let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
            half.insert(id);
            far.acknowledge(0x50, id).await;
        }
    }
    bench::wait(&sink, "all are delivered", |c| c.delivered == 530 - 256).await;
    let connected = &connector.bridge_stats().unwrap().connected;
    assert_eq!(connected.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_link_without_a_session_is_made_anew_before_the_first_message_that_needs_one() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    let at_least_once = SINK.replace("qos = 2", "qos = 1");
    let first = weir_sinks::open(&bench::spec(
        &at_least_once,
        Some((&config, &connector)),
        folder.path(),
    ))
    .unwrap();
    bench::push(&first, "{\"n\":1}");
    let (mut far, clean) = remote.accept_either(false).await;
    assert!(clean);
    let (_, id, _) = far.publish().await;
    far.acknowledge(0x40, id).await;

    let log = Arc::new(MemoryRows::new(1, 83));
    commit(&log, 2);
    let second = open_sink(folder.path(), &config, &connector, "two", &log);
    let (kind, _) = far.packet().await;
    assert_eq!(kind, 0xE0, "DISCONNECT");
    let mut far = remote.accept(false).await;
    let (_, came) = take(&mut far, 1).await;
    assert_eq!(came[0].0, "2");
    bench::wait(&second, "it is delivered", |c| c.delivered == 1).await;
}

#[tokio::test]
async fn identifiers_that_a_queue_before_may_have_left_half_way_are_freed_before_another_has_them()
{
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
    let log = Arc::new(MemoryRows::new(1, 84));
    commit(&log, 1);
    let (_connector, sink) = open(folder.path(), &config, &log);
    let mut far = remote.accept(true).await;
    let (released, came) = take(&mut far, 1).await;
    assert!(released.contains(&came[0].2));
    let lane = released.iter().filter(|id| **id >= 41_216).count();
    assert_eq!(lane, 512);
    bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
}
