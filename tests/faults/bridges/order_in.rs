//! What the remote sends is acknowledged in the order in which it was sent, whatever becomes of it here.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use weir_mqtt::ProtocolVersion::V3_1_1;
use weir_mqtt::{ConnAck, Packet, PacketId, Publish, QoS, ReasonCode, SubAck, Utf8, codec};
use weir_test_support::Site;

use super::weir_binary;

const PATIENCE: Duration = Duration::from_secs(30);
/// More than the broker takes.
const TOO_LARGE: usize = 100_000;

/// A remote of MQTT 3.1.1, which has no way to be told how large a message may be.
struct Link(TcpStream, BytesMut);

impl Link {
    async fn send(&mut self, packets: &[Packet]) {
        let mut bytes = Vec::new();
        for packet in packets {
            codec::encode(packet, V3_1_1, &mut bytes).unwrap();
        }
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn next(&mut self) -> Packet {
        loop {
            if let Some(length) = codec::frame_length(&self.1, usize::MAX).unwrap()
                && self.1.len() >= length
            {
                let frame = self.1.split_to(length).freeze();
                return codec::decode(frame, V3_1_1).unwrap();
            }
            assert!(self.0.read_buf(&mut self.1).await.unwrap() > 0, "closed");
        }
    }
}

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
        let (stream, _) = listener.accept().await.unwrap();
        let mut link = Link(stream, BytesMut::new());
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
