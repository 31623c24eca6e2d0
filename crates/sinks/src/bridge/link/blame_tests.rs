//! Which message is blamed when the remote closes the link.

use super::*;
use crate::bridge::client::Failure;

fn bridge() -> BridgeLink {
    let config = "addresses = [\"mqtt://127.0.0.1:1\"]\nclient_id = \"w\"";
    let (plan, _) = BridgePlan::check(&toml::from_str(config).unwrap()).unwrap();
    BridgeLink::new(plan, PathBuf::new(), Health::new("hq"), None)
}

/// A link comes up, with nothing left half way on the one before where the session is new; its number.
fn bring_up(link: &BridgeLink, session: Session) -> u64 {
    let limits = Limits {
        receive_maximum: None,
        maximum_qos: 2,
        retain_available: true,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        subscription_identifiers: false,
        keep_alive: None,
    };
    link.inner.bring_up(Version::V311, limits, session, false);
    *link.inner.changed.borrow()
}

/// The remote closes the link: whether that is over one message.
fn close(link: &BridgeLink) -> bool {
    link.inner.take_down(Some(&Failure::closed()))
}

/// Everything is with the remote; the ids of messages at `QoS` 1 and 2.
fn write(link: &BridgeLink) -> Vec<u16> {
    let bytes = link.inner.take_out();
    link.inner.wrote(bytes.len());
    let ids = |up: &mut Up| up.outstanding.keys().copied().collect();
    link.inner.with_up(ids).unwrap()
}

async fn send(link: &BridgeLink, number: u64, who: Who, qos: u8) -> oneshot::Receiver<Answer> {
    let message = Outgoing {
        topic: "t",
        payload: &Bytes::new(),
        qos,
        retain: false,
        properties: None,
        who,
        numbered: None,
    };
    link.publish(message, number).await.unwrap()
}

#[tokio::test]
async fn a_message_alone_is_blamed() {
    let link = bridge();
    let number = bring_up(&link, Session::New);
    let _answer = send(&link, number, (1, 1), 1).await;
    assert!(close(&link));
}

#[tokio::test]
async fn a_message_of_qos_0_of_which_a_part_was_written_is_blamed() {
    let link = bridge();
    let number = bring_up(&link, Session::New);
    let _answer = send(&link, number, (1, 1), 0).await;
    link.inner.take_out();
    assert!(!close(&link), "the remote has seen nothing of it");
    let number = bring_up(&link, Session::New);
    let _answer = send(&link, number, (1, 1), 0).await;
    let half = link.inner.take_out().len() - 1;
    link.inner.wrote(half);
    assert!(close(&link));
    // Behind one that the remote may not have liked it goes alone at first.
    let number = bring_up(&link, Session::New);
    let _answer = send(&link, number, (1, 1), 0).await;
    link.inner.wrote(half + 1);
    let _answer = send(&link, number, (1, 2), 0).await;
    link.inner.wrote(half);
    assert!(!close(&link));
    let suspect = link.inner.suspect.lock();
    assert!(suspect.goes_alone());
}

#[tokio::test]
async fn a_message_behind_one_of_qos_0_that_may_be_unread_is_not_blamed() {
    let link = bridge();
    let number = bring_up(&link, Session::New);
    let _forbidden = send(&link, number, (1, 1), 0).await;
    write(&link);
    let _answer = send(&link, number, (2, 1), 1).await;
    assert!(!close(&link));
    // Now it goes alone, and not before the remote has read what is before it.
    let number = bring_up(&link, Session::New);
    let _forbidden = send(&link, number, (1, 2), 0).await;
    write(&link);
    let second = link.clone();
    let waits = tokio::spawn(async move { vec![send(&second, number, (2, 1), 1).await] });
    let asked = async {
        while link.inner.with_up(|up| up.sounded).flatten().is_none() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked)
        .await
        .unwrap();
    assert!(write(&link).is_empty());
    link.inner.heard();
    let _answer = waits.await.unwrap();
    assert_eq!(write(&link).len(), 1);
    assert!(close(&link), "it alone was on its way");
}

#[tokio::test]
async fn a_message_beside_one_that_the_remote_has_half_way_is_not_blamed() {
    let link = bridge();
    let number = bring_up(&link, Session::New);
    let _first = send(&link, number, (1, 1), 2).await;
    let [id] = write(&link)[..] else {
        unreachable!()
    };
    assert!(
        link.inner
            .to_release(weir_mqtt::PacketId::new(id).unwrap())
            .is_none()
    );
    let _second = send(&link, number, (2, 1), 1).await;
    assert!(!close(&link));
}

#[tokio::test]
async fn a_message_is_not_blamed_where_the_remote_may_not_have_liked_a_pubrel() {
    let link = bridge();
    for _ in 0..4 {
        // Ids of before are to be freed.
        let number = bring_up(&link, Session::Resumed);
        let sent = send(&link, number, (1, 1), 1);
        let sent = tokio::time::timeout(Duration::from_millis(50), sent).await;
        write(&link);
        assert!(!close(&link));
        drop(sent);
    }
    let number = bring_up(&link, Session::New);
    let _answer = send(&link, number, (1, 1), 1).await;
}
