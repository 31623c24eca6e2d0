//! What the remote sends is acknowledged in the order in which it was sent, whatever becomes of it here.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::time::timeout;
use weir_mqtt::ProtocolVersion::V3_1_1;
use weir_mqtt::{ConnAck, Packet, PacketId, Publish, QoS, ReasonCode, SubAck, Utf8};
use weir_test_support::Site;

use super::link::Link;
use super::weir_binary;

const PATIENCE: Duration = Duration::from_secs(30);
/// More than the broker takes.
const TOO_LARGE: usize = 100_000;

fn message(number: u16, qos: QoS, bytes: usize) -> Packet {
    Packet::Publish(Publish {
        qos,
        packet_id: PacketId::new(number),
        ..Publish::new(Utf8::from("cmd/x"), Bytes::from(vec![b'x'; bytes]))
    })
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3]
#[tokio::test]
async fn a_message_that_is_too_large_is_acknowledged_in_its_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = Site::new();
    site.config("data_dir = \"data\"\n[mqtt]\nmax_packet_size = \"64KiB\"\n");
    site.connector(
        "hq",
        &format!(
            "type = \"mqtt\"\nprotocol = \"3.1.1\"\nclient_id = \"order\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
             [[in]]\nfilter = \"cmd/#\"\n"
        ),
    );
    let weir = site.start(&weir_binary()).await;
    let acknowledged = async {
        // A remote of MQTT 3.1.1 has no way to be told how large a message may be.
        let mut link = Link::accept(&listener, V3_1_1).await;
        assert!(matches!(link.next().await, Packet::Connect(_)));
        let connack = Packet::ConnAck(Box::new(ConnAck::accepted(false)));
        link.send(&[connack]).await;
        let Packet::Subscribe(subscribe) = link.next().await else {
            panic!("no SUBSCRIBE");
        };
        let suback = SubAck {
            packet_id: subscribe.packet_id,
            properties: None,
            reasons: vec![ReasonCode::GrantedQoS1],
        };
        link.send(&[Packet::SubAck(suback)]).await;
        let mut messages = Vec::new();
        for (number, qos) in (0..8).zip([QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().cycle()) {
            let bytes = if number % 4 < 2 { 10 } else { TOO_LARGE };
            messages.push(message(number + 1, qos, bytes));
        }
        link.send(&messages).await;
        let (mut acks, mut recs) = (Vec::new(), Vec::new());
        while acks.len() + recs.len() < messages.len() {
            match link.next().await {
                Packet::PubAck(ack) => acks.push(ack.packet_id.get()),
                Packet::PubRec(rec) => recs.push(rec.packet_id.get()),
                Packet::PingReq => link.send(&[Packet::PingResp]).await,
                other => panic!("{other:?}"),
            }
        }
        (acks, recs)
    };
    let (acks, recs) = timeout(PATIENCE, acknowledged).await.expect("in time");
    assert_eq!(acks, [1, 3, 5, 7]);
    assert_eq!(recs, [2, 4, 6, 8]);
    let labels = [("connector", "hq"), ("reason", "too_large")];
    let dropped = weir.metric("weir_bridge_dropped_total", &labels).await;
    assert_eq!(dropped, 4.0);
}
