//! A client that does exactly what a test says, packet by packet, and a broker of the test's own on a free port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir::BrokerBuilder;
use weir::broker::{Broker, BrokerSettings, ListenerSettings, Socket};
use weir::pipeline::Pipeline;
use weir::pipeline::world::World;
use weir_mqtt::{
    ConnAck, Connect, Packet, PacketId, ProtocolVersion, PubAck, PubComp, PubRec, PubRel, Publish,
    QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionFilter, SubscriptionRequest,
    Unsubscribe, Utf8, codec,
};

pub(crate) use weir_mqtt::ProtocolVersion::{V3_1, V3_1_1, V5};

pub(crate) const ALL: [ProtocolVersion; 3] = ProtocolVersion::ALL;

/// Nothing that a test waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker on a port of its own.
pub(crate) struct TestBroker {
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::with(BrokerSettings::default()).await
    }

    pub(crate) async fn with(settings: BrokerSettings) -> Self {
        let pipeline = Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC));
        Self::with_rules(settings, Arc::new(pipeline)).await
    }

    pub(crate) async fn with_rules(settings: BrokerSettings, pipeline: Arc<Pipeline>) -> Self {
        Self::built(Broker::builder().settings(settings).pipeline(pipeline)).await
    }

    pub(crate) async fn built(builder: BrokerBuilder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = builder.start().await.unwrap();
        let settings = ListenerSettings {
            name: "test".into(),
            max_connections: 1000,
            allow_anonymous: true,
            ..ListenerSettings::default()
        };
        let serving = broker.clone();
        tokio::spawn(async move {
            serving
                .serve(listener, settings, std::future::pending())
                .await
        });
        Self { broker, address }
    }

    /// A connection over which nothing has been said.
    pub(crate) async fn open(&self, version: ProtocolVersion) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::over(stream, version)
    }

    /// Listens at one more place, for as long as the broker runs.
    pub(crate) fn listen(&self, socket: impl Into<Socket>, settings: ListenerSettings) {
        let (broker, socket) = (self.broker.clone(), socket.into());
        tokio::spawn(async move { broker.serve(socket, settings, std::future::pending()).await });
    }

    /// A client that has sent CONNECT and got the answer.
    pub(crate) async fn connect_with(&self, connect: Connect) -> (Client, ConnAck) {
        let mut client = self.open(connect.version).await;
        client.send(Packet::Connect(Box::new(connect))).await;
        let Packet::ConnAck(connack) = client.receive().await else {
            panic!("expected CONNACK")
        };
        (client, *connack)
    }

    /// A client with a clean session.
    pub(crate) async fn connect(&self, version: ProtocolVersion, client_id: &str) -> Client {
        let (client, connack) = self
            .connect_with(Connect::new(version, Utf8::new(client_id).unwrap()))
            .await;
        assert_eq!(connack.reason, ReasonCode::Success);
        client
    }
}

/// A CONNECT with a session that is to be kept.
pub(crate) fn persistent(version: ProtocolVersion, client_id: &str) -> Connect {
    let mut connect = Connect::new(version, Utf8::new(client_id).unwrap());
    connect.clean_start = false;
    if version.is_v5() {
        connect.properties.session_expiry_interval_s = Some(1000);
    }
    connect
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

pub(crate) fn qos(number: u8) -> QoS {
    QoS::try_from(number).unwrap()
}

/// Waits for something that nobody tells of.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it does not come about");
}

/// A message to be published.
pub(crate) fn publish(topic: &str, payload: &str, level: u8, packet_id: u16) -> Publish {
    let mut publish = Publish::new(
        Utf8::new(topic).unwrap(),
        Bytes::copy_from_slice(payload.as_bytes()),
    );
    publish.qos = qos(level);
    publish.packet_id = PacketId::new(packet_id).filter(|_| level > 0);
    publish
}

/// A connection that speaks in packets.
pub(crate) struct Client {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
    pub(crate) version: ProtocolVersion,
}

/// Whatever carries bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Client {
    /// A client over any stream.
    pub(crate) fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        version: ProtocolVersion,
    ) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: BytesMut::new(),
            version,
        }
    }

    /// Sends CONNECT with a clean session and gets the answer.
    pub(crate) async fn hello(&mut self, client_id: &str) -> ConnAck {
        let connect = Connect::new(self.version, Utf8::new(client_id).unwrap());
        self.send(Packet::Connect(Box::new(connect))).await;
        match self.receive().await {
            Packet::ConnAck(connack) => *connack,
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        codec::encode(&packet, self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends unless the broker has closed the connection.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next packet; panics when the connection ends or nothing comes.
    pub(crate) async fn receive(&mut self) -> Packet {
        self.receive_or_end()
            .await
            .expect("the broker closed the connection")
    }

    /// The next packet, or `None` when the broker closes the connection.
    pub(crate) async fn receive_or_end(&mut self) -> Option<Packet> {
        tokio::time::timeout(PATIENCE, self.next())
            .await
            .expect("nothing came")
    }

    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(len) = codec::frame_length(&self.buffer, usize::MAX).unwrap() {
                let frame = self.buffer.split_to(len).freeze();
                return Some(codec::decode(frame, self.version).unwrap());
            }
            // A reset is an end too.
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next bytes as they are.
    pub(crate) async fn receive_bytes(&mut self, len: usize) -> Vec<u8> {
        let read = async {
            while self.buffer.len() < len {
                let n = self.stream.read_buf(&mut self.buffer).await.unwrap();
                assert!(n > 0, "the broker closed the connection");
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("nothing came");
        self.buffer.split_to(len).to_vec()
    }

    pub(crate) async fn receive_publish(&mut self) -> Publish {
        match self.receive().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// Nothing stands before the answer to a ping: so nothing was sent.
    pub(crate) async fn expect_nothing(&mut self) {
        self.send(Packet::PingReq).await;
        assert_eq!(self.receive().await, Packet::PingResp);
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, level: u8) -> Vec<ReasonCode> {
        self.subscribe_with(filter, SubscribeOptions::with_qos(qos(level)))
            .await
    }

    pub(crate) async fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscribeOptions,
    ) -> Vec<ReasonCode> {
        let filter = SubscriptionFilter::parse(filter).unwrap();
        let requests = vec![SubscriptionRequest { filter, options }];
        self.send(Packet::Subscribe(Subscribe {
            packet_id: id(9),
            requests,
            properties: None,
        }))
        .await;
        match self.receive().await {
            Packet::SubAck(suback) => {
                assert_eq!(suback.packet_id, id(9));
                suback.reasons
            }
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub(crate) async fn unsubscribe(&mut self, filter: &str) -> Vec<ReasonCode> {
        let filters = vec![SubscriptionFilter::parse(filter).unwrap()];
        self.send(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(8),
            filters,
            properties: None,
        }))
        .await;
        match self.receive().await {
            Packet::UnsubAck(unsuback) => unsuback.reasons,
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }

    /// Publishes and sees the exchange through; gives the reason of the first acknowledgement.
    pub(crate) async fn publish(&mut self, message: Publish) -> ReasonCode {
        let (level, packet_id) = (message.qos, message.packet_id);
        self.send(Packet::Publish(message)).await;
        match level {
            QoS::AtMostOnce => {
                self.expect_nothing().await;
                ReasonCode::Success
            }
            QoS::AtLeastOnce => match self.receive().await {
                Packet::PubAck(PubAck {
                    packet_id: acked,
                    reason,
                    ..
                }) if Some(acked) == packet_id => reason,
                other => panic!("expected PUBACK, got {other:?}"),
            },
            QoS::ExactlyOnce => {
                let reason = self.receive_pubrec(packet_id.unwrap()).await;
                if !reason.is_error() {
                    self.send(Packet::PubRel(PubRel::success(packet_id.unwrap())))
                        .await;
                    let done = Packet::PubComp(PubComp::success(packet_id.unwrap()));
                    assert_eq!(self.receive().await, done);
                }
                reason
            }
        }
    }

    pub(crate) async fn receive_pubrec(&mut self, packet_id: PacketId) -> ReasonCode {
        match self.receive().await {
            Packet::PubRec(PubRec {
                packet_id: received,
                reason,
                ..
            }) if received == packet_id => reason,
            other => panic!("expected PUBREC, got {other:?}"),
        }
    }

    /// Acknowledges a message that was received, to the end.
    pub(crate) async fn acknowledge(&mut self, message: &Publish) {
        let Some(packet_id) = message.packet_id else {
            return;
        };
        if message.qos == QoS::AtLeastOnce {
            return self.send(Packet::PubAck(PubAck::success(packet_id))).await;
        }
        self.send(Packet::PubRec(PubRec::success(packet_id))).await;
        assert_eq!(
            self.receive().await,
            Packet::PubRel(PubRel::success(packet_id))
        );
        self.send(Packet::PubComp(PubComp::success(packet_id)))
            .await;
    }

    pub(crate) async fn disconnect(mut self) {
        self.send(Packet::Disconnect(weir_mqtt::Disconnect::new(
            ReasonCode::Success,
        )))
        .await;
        assert_eq!(
            self.receive_or_end().await,
            None,
            "the broker closes after DISCONNECT"
        );
    }

    /// The broker says why and closes; before MQTT 5 it only closes.
    pub(crate) async fn expect_disconnect(mut self, reason: ReasonCode) {
        if self.version.is_v5() {
            match self.receive().await {
                Packet::Disconnect(disconnect) => {
                    assert_eq!(disconnect.reason, reason);
                    let properties = disconnect.properties.unwrap_or_default();
                    assert_eq!(properties.session_expiry_interval_s, None);
                }
                other => panic!("expected DISCONNECT, got {other:?}"),
            }
        }
        assert_eq!(self.receive_or_end().await, None);
    }

    /// The socket breaks without a word.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}
