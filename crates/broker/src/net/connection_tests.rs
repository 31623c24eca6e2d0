//! Connections over pipes in memory, where a test says which bytes lie there when the broker looks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use weir_mqtt::properties::WillProperties;
use weir_mqtt::{
    Connect, Disconnect, Packet, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    SubscribeOptions, SubscriptionFilter, SubscriptionRequest, TopicName, Utf8, Will, codec,
};

use super::connection::serve;
use super::stream::Stream;
use super::transport::Transport;
use crate::auth::AllowAll;
use crate::auth::anonymous::Anonymous;
use crate::auth::enhanced::Mechanisms;
use crate::broker::BrokerSettings;
use crate::driver::admission::Door;
use crate::driver::{Parts, Shared};
use crate::pipeline::Pipeline;
use crate::pipeline::world::World;

const VERSION: ProtocolVersion = ProtocolVersion::V5;

fn broker() -> Arc<Shared> {
    let pipeline = Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC));
    Shared::new(Parts {
        settings: BrokerSettings::default(),
        pipeline: Arc::new(pipeline),
        authenticator: Arc::new(Anonymous),
        authorizer: Arc::new(AllowAll),
        mechanisms: Mechanisms::default(),
        banned: Arc::default(),
        hooks: crate::hooks::Hooks::default(),
        storage: None,
    })
}

/// A connection that the broker serves and over which nothing has been said.
fn open(broker: &Arc<Shared>) -> DuplexStream {
    let (ours, theirs) = duplex(4096);
    let door = Door {
        peer: None,
        local: None,
        listener: "test".into(),
        transport: Transport::Tcp,
        certificate: None,
        identity: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        allow_anonymous: true,
        bridge: None,
    };
    let theirs: Box<dyn Stream> = Box::new(theirs);
    tokio::spawn(serve(Arc::clone(broker), theirs, Box::new(door)));
    ours
}

async fn send(stream: &mut DuplexStream, packet: Packet) {
    let mut bytes = Vec::new();
    codec::encode(&packet, VERSION, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
}

async fn receive(stream: &mut DuplexStream) -> Packet {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await.unwrap());
        if codec::frame_length(&bytes, usize::MAX).unwrap() == Some(bytes.len()) {
            return codec::decode(Bytes::from(bytes), VERSION).unwrap();
        }
    }
}

async fn connect(broker: &Arc<Shared>, connect: Connect) -> DuplexStream {
    let mut stream = open(broker);
    send(&mut stream, Packet::Connect(Box::new(connect))).await;
    assert!(matches!(receive(&mut stream).await, Packet::ConnAck(_)));
    stream
}

fn mortal() -> Connect {
    let mut connect = Connect::new(VERSION, Utf8::from("mortal"));
    connect.will = Some(Will {
        topic: TopicName::new("last/words").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    });
    connect
}

/// CONNECT is seen first, but the old connection's last packets are there too: they count, and so does the goodbye.
#[tokio::test]
async fn a_disconnect_that_has_come_counts_though_its_client_is_already_back() {
    let broker = broker();
    let mut watcher = connect(&broker, Connect::new(VERSION, Utf8::from("watcher"))).await;
    let filter = SubscriptionFilter::parse("last/words").unwrap();
    let options = SubscribeOptions::with_qos(QoS::AtMostOnce);
    let subscribe = Subscribe {
        packet_id: weir_mqtt::PacketId::MIN,
        requests: vec![SubscriptionRequest { filter, options }],
        properties: None,
    };
    send(&mut watcher, Packet::Subscribe(subscribe)).await;
    assert!(matches!(receive(&mut watcher).await, Packet::SubAck(_)));
    let mut old = connect(&broker, mortal()).await;
    let mut new = open(&broker);
    send(&mut new, Packet::Connect(Box::new(mortal()))).await;
    let last = Publish::new(Utf8::from("last/words"), Bytes::from_static(b"alive"));
    send(&mut old, Packet::Publish(last)).await;
    let goodbye = Disconnect::new(ReasonCode::Success);
    send(&mut old, Packet::Disconnect(goodbye)).await;
    assert!(matches!(receive(&mut new).await, Packet::ConnAck(_)));
    let Packet::Publish(seen) = receive(&mut watcher).await else {
        panic!("expected the last message")
    };
    assert_eq!(&seen.payload[..], b"alive");
    send(&mut watcher, Packet::PingReq).await;
    assert_eq!(receive(&mut watcher).await, Packet::PingResp);
}
