//! A remote never has more unacknowledged messages than its receive maximum allows.

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use weir_mqtt::ProtocolVersion::V5;
use weir_mqtt::{ConnAck, Packet, PacketId, PubAck, PubComp, PubRec, QoS};
use weir_test_support::{LinePublisher, Site};

use super::link::Link;
use crate::WEIR;

const MESSAGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for a message that must not come.
const QUIET: Duration = Duration::from_millis(20);

/// What of a remote's receive maximum is used: PUBLISH takes, PUBACK and PUBCOMP give back. `[MQTT-4.9.0-2]`
#[derive(Default)]
struct Quota {
    /// With what is to be said next.
    open: VecDeque<Packet>,
    of: HashMap<PacketId, QoS>,
    most: usize,
}

impl Quota {
    fn take(&mut self, packet: &Packet) {
        match packet {
            Packet::Publish(publish) => {
                let id = publish.packet_id.unwrap();
                assert!(self.of.insert(id, publish.qos).is_none(), "{id} is in use");
                self.most = self.most.max(self.of.len());
                self.open.push_back(match publish.qos {
                    QoS::ExactlyOnce => Packet::PubRec(PubRec::success(id)),
                    _ => Packet::PubAck(PubAck::success(id)),
                });
            }
            Packet::PubRel(rel) => {
                let done = Packet::PubComp(PubComp::success(rel.packet_id));
                self.open.push_back(done);
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self) -> Option<Packet> {
        let answer = self.open.pop_front()?;
        match &answer {
            Packet::PubAck(PubAck { packet_id, .. })
            | Packet::PubComp(PubComp { packet_id, .. }) => {
                self.of.remove(packet_id);
            }
            _ => {}
        }
        Some(answer)
    }
}

/// Everything that the bridge sends to a remote that answers only when nothing more comes.
async fn sent_to_a_remote_that_takes(most: u16) -> (Vec<u64>, Vec<u64>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = Site::new();
    site.connector(
        "hq",
        &format!(
            "type = \"mqtt\"\nprotocol = \"5\"\nclient_id = \"window\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
             [[out]]\nfilter = \"m/#\"\n"
        ),
    );
    let weir = site.start(WEIR).await;
    let mut link = timeout(PATIENCE, Link::accept(&listener, V5))
        .await
        .unwrap();
    assert!(matches!(link.next().await, Packet::Connect(_)));
    let lines: String = (0..MESSAGES).map(|n| format!("{n}\n")).collect();
    for qos in ["1", "2"] {
        let topic = format!("m/{qos}");
        let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", &topic, "-q", qos]);
        publisher.send(&lines).await;
        publisher.finish().await;
    }
    // All of it waits now.
    let mut connack = ConnAck::accepted(false);
    connack.properties.receive_maximum = NonZero::new(most);
    link.send(&[Packet::ConnAck(Box::new(connack))]).await;
    let mut quota = Quota::default();
    let mut came = [Vec::new(), Vec::new()];
    loop {
        match timeout(QUIET, link.next()).await {
            Ok(Packet::PingReq) => link.send(&[Packet::PingResp]).await,
            Ok(packet) => {
                if let Packet::Publish(publish) = &packet {
                    let number = std::str::from_utf8(&publish.payload)
                        .unwrap()
                        .parse()
                        .unwrap();
                    came[usize::from(publish.qos == QoS::ExactlyOnce)].push(number);
                }
                quota.take(&packet);
            }
            Err(_) => match quota.answer() {
                Some(answer) => link.send(&[answer]).await,
                None if came.iter().all(|came| came.len() == MESSAGES) => break,
                None => {}
            },
        }
    }
    let [once, exactly] = came;
    (once, exactly, quota.most)
}

#[tokio::test]
async fn a_receive_maximum_of_1_and_of_10_is_used_and_never_exceeded() {
    let all: Vec<u64> = (0..MESSAGES as u64).collect();
    for most in [1, 10] {
        let sent = timeout(PATIENCE, sent_to_a_remote_that_takes(most)).await;
        let (once, exactly, at_once) = sent.expect("everything is sent in time");
        assert_eq!(once, all);
        assert_eq!(exactly, all);
        assert_eq!(at_once, usize::from(most));
    }
}
