//! What a bridge holds of a session at the remote, when that session is another one: a broker and remotes of this test's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use weir_sinks::bridge::{self, Gateway, Home};
use weir_sinks::{Connector, ConnectorConfig, MemoryRows};

use crate::bench::{self, PATIENCE};
use crate::crossing::{Far, Remote, commit, spec};

/// A broker that tells how a bridge greets it, and at first has no room.
#[derive(Debug)]
pub(crate) struct Broker {
    folder: PathBuf,
    refuses: AtomicUsize,
    greeted: UnboundedSender<bool>,
    /// Whether it reads what a bridge brings; it greets in any case.
    reads: watch::Sender<bool>,
}

impl Broker {
    pub(crate) fn new(folder: &Path, refuses: usize) -> (Arc<Self>, UnboundedReceiver<bool>) {
        let (greeted, greetings) = unbounded_channel();
        let broker = Self {
            folder: folder.to_owned(),
            refuses: AtomicUsize::new(refuses),
            greeted,
            reads: watch::Sender::new(true),
        };
        (Arc::new(broker), greetings)
    }
}

impl Home for Broker {
    fn dial(&self, _: &Arc<Gateway>) -> DuplexStream {
        let (mut ours, theirs) = tokio::io::duplex(4096);
        let left = self.refuses.load(Ordering::Relaxed);
        if left > 0 {
            self.refuses.store(left - 1, Ordering::Relaxed);
            return theirs;
        }
        let greeted = self.greeted.clone();
        let mut reads = self.reads.subscribe();
        tokio::spawn(async move {
            let mut connect = [0; 256];
            let _ = ours.read(&mut connect).await;
            // Type, length, protocol name, level, flags.
            let _ = greeted.send(connect[9] & 0b10 != 0);
            let v5 = connect[8] == 5;
            let welcome: &[u8] = if v5 {
                &[0x20, 3, 0, 0, 0]
            } else {
                &[0x20, 2, 0, 0]
            };
            let _ = ours.write_all(welcome).await;
            let _ = reads.wait_for(|reads| *reads).await;
            while matches!(ours.read(&mut connect).await, Ok(1..)) {}
        });
        theirs
    }

    fn receive_maximum(&self) -> u16 {
        10
    }

    fn max_packet_size(&self) -> usize {
        65_536
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn linked(&self, _: &str, _: bool) {}

    fn data_dir(&self) -> &Path {
        &self.folder
    }
}

async fn next_clean(greetings: &mut UnboundedReceiver<bool>) -> bool {
    let next = tokio::time::timeout(PATIENCE, greetings.recv()).await;
    next.unwrap().unwrap()
}

/// SUBSCRIBE is asked of a session that does not have the filter, and answered.
async fn subscribe(far: &mut Far) {
    let (kind, body) = far.packet().await;
    assert_eq!(kind, 0x82, "SUBSCRIBE");
    far.send(&[0x90, 3, body[0], body[1], 0]).await;
}

const MORE: &str = "protocol = \"3.1.1\"\nkeepalive = \"5s\"\nqos_cap = 1\nfailover = \"round_robin\"\n\
                    [[in]]\nfilter = \"a/#\"\nqos = 0";

#[tokio::test]
async fn a_session_that_begins_anew_is_not_forgotten_when_the_broker_has_no_room_just_then() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bridges")).unwrap();
    std::fs::write(folder.path().join("bridges/hq.filters"), "0 a/#\n").unwrap();
    let remote = Remote::new().await;
    let (broker, mut greetings) = Broker::new(folder.path(), 1);
    let config = toml::from_str(&remote.toml(MORE)).unwrap();
    let connector = Connector::open_at("hq", &config, folder.path(), Some(broker)).unwrap();
    connector.start();
    let _first = remote.accept(false).await;
    // That attempt fails here; at the remote there is a session now.
    let mut far = remote.accept(true).await;
    assert!(
        next_clean(&mut greetings).await,
        "the old session is not gone on with"
    );
    subscribe(&mut far).await;
    drop(far);
    // From now on it is known.
    let _far = remote.accept(true).await;
    assert!(!next_clean(&mut greetings).await);
}

#[tokio::test]
async fn a_session_at_another_address_is_another_session() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Remote::new().await, Remote::new().await);
    let (broker, mut greetings) = Broker::new(folder.path(), 0);
    let both = format!("\", \"{}\"]\n", two.address());
    let config = toml::from_str(&one.toml(MORE).replace("\"]\n", &both)).unwrap();
    let connector = Connector::open_at("hq", &config, folder.path(), Some(broker)).unwrap();
    connector.start();
    let mut far = one.accept(false).await;
    assert!(next_clean(&mut greetings).await);
    subscribe(&mut far).await;
    drop(far);
    let mut far = two.accept(true).await;
    assert!(
        next_clean(&mut greetings).await,
        "its ids are not the ones that are known"
    );
    subscribe(&mut far).await;
}

#[tokio::test]
async fn a_test_of_a_bridge_leaves_no_session_that_was_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    for (protocol, goodbye) in [("5", vec![0, 5, 0x11, 0, 0, 0, 0]), ("3.1.1", vec![])] {
        let ConnectorConfig::Mqtt(config) = remote.config(protocol) else {
            unreachable!()
        };
        let answers = async {
            // It is looked first whether anybody listens.
            drop(remote.connection().await);
            let mut far = remote.accept(false).await;
            assert_eq!(far.packet().await, (0xE0, goodbye), "DISCONNECT");
            if protocol == "3.1.1" {
                let (mut far, clean) = remote.accept_either(false).await;
                assert!(clean, "the session is removed");
                assert_eq!(far.packet().await.0, 0xE0);
            }
        };
        let (stages, ()) = tokio::join!(bridge::test(&config, folder.path(), true, None), answers);
        assert!(stages.iter().all(|stage| stage.ok), "{stages:?}");
    }
}

#[tokio::test]
async fn a_remote_that_is_not_read_is_not_blamed_for_saying_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let (broker, mut greetings) = Broker::new(folder.path(), 0);
    broker.reads.send_replace(false);
    let more = "protocol = \"3.1.1\"\nack_timeout = \"300ms\"\n[[in]]\nfilter = \"a/#\"\nqos = 0\n\
                [[out]]\nfilter = \"b/#\"";
    let config: ConnectorConfig = toml::from_str(&remote.toml(more)).unwrap();
    let home: Arc<dyn Home> = Arc::<Broker>::clone(&broker);
    let connector = Connector::open_at("hq", &config, folder.path(), Some(home)).unwrap();
    connector.start();
    let mut far = remote.accept(false).await;
    assert!(next_clean(&mut greetings).await);
    subscribe(&mut far).await;
    // More than waits for the broker before the remote is read no further.
    let mut flood = Vec::new();
    for _ in 0..50 {
        // PUBLISH of 32768 bytes behind its length: topic `a/b`, and the payload.
        flood.extend([0x30, 0x80, 0x80, 0x02, 0, 3]);
        flood.extend(b"a/b");
        flood.resize(flood.len() + 32_768 - 5, b'x');
    }
    far.send(&flood).await;
    let log = Arc::new(MemoryRows::new(1, 83));
    commit(&log, &config, "one");
    let sink = weir_sinks::open(&spec(folder.path(), &connector, &log)).unwrap();
    let (_, id, _) = far.publish().await;
    far.acknowledge(0x50, id).await;
    // Longer than an answer may take.
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    broker.reads.send_replace(true);
    assert_eq!(far.packet().await.0, 0x62, "PUBREL");
    far.acknowledge(0x70, id).await;
    bench::wait(&sink, "it is delivered", |c| c.delivered == 1).await;
    let stats = connector.bridge_stats().unwrap();
    assert_eq!(stats.connects.load(Ordering::Relaxed), 1);
}
