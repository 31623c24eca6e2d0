//! Remotes of MQTT 3.1.1 that do not know the mark of a bridge in CONNECT.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_sinks::{Connector, ConnectorConfig, LinkState};
use weir_test_support::wait_until;

use crate::bench::PATIENCE;
use crate::crossing::Remote;

const APART: &str = "[[out]]\nfilter = \"#\"\nlocal_prefix = \"up/\"\nremote_prefix = \"up/\"\n";

/// What a remote does with a CONNECT that says that it is a bridge's.
#[derive(Clone, Copy)]
enum Flagged {
    Refused,
    HungUp,
}

/// The protocol levels of the first CONNECTs, as a remote sees them that knows 4 alone.
async fn levels(remote: &Remote, flagged: Flagged, many: usize) -> Vec<u8> {
    let mut levels = Vec::new();
    let mut held = Vec::new();
    while levels.len() < many {
        let mut stream = remote.connection().await;
        let mut packet = vec![0; 256];
        let length = stream.read(&mut packet).await.unwrap();
        if length == 0 {
            // It only looked whether somebody is there.
            continue;
        }
        assert!(length > 9, "CONNECT");
        levels.push(packet[8]);
        match (packet[8], flagged) {
            (0x84, Flagged::Refused) => stream.write_all(&[0x20, 2, 0, 1]).await.unwrap(),
            (0x84, Flagged::HungUp) => {}
            _ => {
                stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
                held.push(stream);
            }
        }
    }
    levels
}

#[tokio::test]
async fn a_test_of_the_bridge_asks_without_the_mark_too() {
    let remote = Remote::new().await;
    let text = format!("protocol = \"3.1.1\"\nbridge_flag = true\n{APART}");
    let ConnectorConfig::Mqtt(config) = toml::from_str(&remote.toml(&text)).unwrap() else {
        unreachable!()
    };
    let folder = tempfile::tempdir().unwrap();
    let far = levels(&remote, Flagged::Refused, 2);
    let test = weir_sinks::bridge::test(&config, folder.path(), true, None);
    let (levels, stages) = tokio::join!(far, test);
    assert_eq!(levels, [0x84, 4]);
    let connect = stages.iter().find(|stage| stage.name == "connect");
    assert!(connect.is_some_and(|stage| stage.ok), "{stages:?}");
}

fn open(remote: &Remote, more: &str) -> (tempfile::TempDir, std::sync::Arc<Connector>) {
    let text = format!("protocol = \"3.1.1\"\nbridge_flag = true\n{more}");
    let config: ConnectorConfig = toml::from_str(&remote.toml(&text)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    (folder, connector)
}

#[tokio::test]
async fn a_remote_that_does_not_take_the_mark_of_a_bridge_is_asked_without_it() {
    for flagged in [Flagged::Refused, Flagged::HungUp] {
        let remote = Remote::new().await;
        let (_folder, connector) = open(&remote, APART);
        assert_eq!(levels(&remote, flagged, 2).await, [0x84, 4]);
        let _ = connector;
    }
}

#[tokio::test]
async fn a_remote_that_has_refused_the_mark_is_not_asked_with_it_again_but_one_that_hung_up_is() {
    let remote = Remote::new().await;
    let (_folder, connector) = open(&remote, APART);
    // Each link ends with the call.
    assert_eq!(levels(&remote, Flagged::HungUp, 2).await, [0x84, 4]);
    assert_eq!(levels(&remote, Flagged::Refused, 2).await, [0x84, 4]);
    assert_eq!(levels(&remote, Flagged::Refused, 1).await, [4]);
    let _ = connector;
}

#[tokio::test]
async fn without_the_mark_nothing_is_sent_where_it_would_come_back_for_ever() {
    let remote = Remote::new().await;
    let both = "[[out]]\nfilter = \"#\"\n[[in]]\nfilter = \"#\"\n";
    let (_folder, connector) = open(&remote, both);
    assert_eq!(
        levels(&remote, Flagged::Refused, 3).await,
        [0x84, 0x84, 0x84]
    );
    wait_until("the refusal shows", PATIENCE, || async {
        connector.state().link == LinkState::Backoff
    })
    .await;
    let error = connector.state().last_error.unwrap().error.to_string();
    assert!(error.contains("bridge_flag"), "{error}");
}
