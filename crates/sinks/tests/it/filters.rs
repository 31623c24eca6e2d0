//! Filters that the remote refuses, or does not answer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_sinks::{Connector, ConnectorConfig, LinkState};
use weir_test_support::wait_until;

use crate::bench::PATIENCE;
use crate::crossing::{Far, Remote};
use crate::mirror::Broker;

fn open(folder: &Path, remote: &Remote, more: &str) -> Arc<Connector> {
    let two = "[[in]]\nfilter = \"a\"\nqos = 1\n[[in]]\nfilter = \"b\"\nqos = 1";
    let config: ConnectorConfig = toml::from_str(&remote.toml(&format!("{more}\n{two}"))).unwrap();
    let (broker, _) = Broker::new(folder, 0);
    let connector = Connector::open_at("hq", &config, folder, Some(broker)).unwrap();
    connector.start();
    connector
}

/// The id and the filter of the next SUBSCRIBE of MQTT 5, and whether it has an identifier.
async fn asked(far: &mut Far) -> ([u8; 2], String, bool) {
    let (kind, body) = far.packet().await;
    assert_eq!(kind, 0x82, "SUBSCRIBE");
    let properties = usize::from(body[2]);
    let filter = &body[3 + properties + 2..body.len() - 1];
    let filter = String::from_utf8(filter.to_vec()).unwrap();
    ([body[0], body[1]], filter, properties > 0)
}

#[tokio::test]
async fn a_filter_that_is_refused_is_shown_and_the_others_work() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let connector = open(folder.path(), &remote, "protocol = \"5\"");
    let mut far = remote.accept(false).await;
    for _ in 0..2 {
        let (id, filter, _) = asked(&mut far).await;
        let reason = if filter == "a" { 0x87 } else { 1 };
        far.send(&[0x90, 4, id[0], id[1], 0, reason]).await;
    }
    wait_until("the state has the filter", PATIENCE, || async {
        connector.state().refused_filters == ["a: 0x87 not_authorized"]
    })
    .await;
    let state = connector.state();
    assert_eq!(state.link, LinkState::Degraded);
    assert_eq!(state.last_error.unwrap().error.code(), "E4115");
    let stats = connector.bridge_stats().unwrap();
    assert_eq!(stats.refused_filters.load(Ordering::Relaxed), 1);
    // A message of the other filter is taken: it is counted.
    far.send(&[0x30, 5, 0, 1, b'b', 0, b'x']).await;
    wait_until("it is taken", PATIENCE, || async {
        stats.received.load(Ordering::Relaxed) == 1
    })
    .await;
    assert_eq!(stats.connects.load(Ordering::Relaxed), 1);
    assert!(
        std::fs::read_to_string(folder.path().join("bridges/hq.filters"))
            .unwrap()
            .contains("asked a")
    );
}

#[tokio::test]
async fn a_remote_that_knows_no_subscription_identifiers_is_asked_without() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let connector = open(folder.path(), &remote, "protocol = \"5\"");
    let mut far = remote.accept(false).await;
    let (id, first, identified) = asked(&mut far).await;
    assert!(identified);
    let _second = asked(&mut far).await;
    far.send(&[0x90, 4, id[0], id[1], 0, 0xA1]).await;
    let (id, again, identified) = asked(&mut far).await;
    assert_eq!((again, identified), (first, false));
    far.send(&[0x90, 4, id[0], id[1], 0, 1]).await;
    assert!(connector.state().refused_filters.is_empty());
}

#[tokio::test]
async fn a_subscribe_that_is_not_answered_makes_the_link_anew() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let connector = open(
        folder.path(),
        &remote,
        "protocol = \"5\"\nack_timeout = \"300ms\"",
    );
    let mut far = remote.accept(false).await;
    asked(&mut far).await;
    let mut far = remote.accept(false).await;
    asked(&mut far).await;
    let error = connector.state().last_error.unwrap().error;
    assert!(error.to_string().contains("SUBSCRIBE"), "{error}");
}
