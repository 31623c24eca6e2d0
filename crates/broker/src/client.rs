//! A small MQTT client over the broker's own codec: for `weir pub`, `weir sub` and the demo's devices.
//!
//! One connection, no reconnects: whoever uses it decides what a lost connection means.

mod ahead;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

pub use ahead::{Ahead, Tally};
use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_mqtt::properties::ConnAckProperties;
use weir_mqtt::{
    Connect, Disconnect, Packet, PacketId, ProtocolVersion, PubAck, PubComp, PubRec, PubRel,
    Publish, QoS, ReasonCode, Subscribe, SubscribeOptions, SubscriptionFilter, SubscriptionRequest,
    TopicName, Utf8, codec,
};

/// The largest packet that the client takes.
const MAX_PACKET: usize = 256 << 20;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version to speak.
    pub version: ProtocolVersion,
    /// The client id; empty lets the broker choose.
    pub client_id: String,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// Whether an earlier session of that client id is forgotten.
    pub clean_start: bool,
    /// The keep-alive in seconds, 0 for none; the client sends PINGREQ by itself while it waits.
    pub keep_alive_s: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: ProtocolVersion::V5,
            client_id: String::new(),
            username: None,
            password: None,
            clean_start: true,
            keep_alive_s: 60,
        }
    }
}

/// Why the client could not do what it was asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection was lost.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The broker refused the client.
    #[error("the broker refused the connection: {}", .0.name())]
    Refused(ReasonCode),
    /// The broker refused a publish or a subscription.
    #[error("the broker refused {what}: {}", reason.name())]
    Denied {
        /// What was asked.
        what: String,
        /// Why it was refused.
        reason: ReasonCode,
    },
    /// The request cannot be sent.
    #[error("{0}")]
    Invalid(String),
}

/// A connected client.
pub struct Client {
    stream: TcpStream,
    version: ProtocolVersion,
    read: BytesMut,
    write: Vec<u8>,
    next_id: PacketId,
    keep_alive: Option<Duration>,
    /// What the broker has said in CONNACK.
    granted: ConnAckProperties,
    /// Messages that came while something else was waited for.
    inbox: VecDeque<Publish>,
}

impl Client {
    /// Connects and waits for CONNACK.
    ///
    /// # Errors
    /// When there is no connection, or the broker refuses.
    pub async fn connect(address: SocketAddr, options: &Options) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ClientError::Connect { address, source })?;
        stream
            .set_nodelay(true)
            .map_err(|source| ClientError::Connect { address, source })?;
        let mut client = Self {
            stream,
            version: options.version,
            read: BytesMut::new(),
            write: Vec::new(),
            next_id: PacketId::new(1).expect("1 is not 0"),
            keep_alive: (options.keep_alive_s > 0)
                .then(|| Duration::from_secs(u64::from(options.keep_alive_s))),
            granted: ConnAckProperties::default(),
            inbox: VecDeque::new(),
        };
        let mut connect = Connect::new(options.version, utf8(&options.client_id)?);
        connect.clean_start = options.clean_start;
        connect.keep_alive_s = options.keep_alive_s;
        connect.username = options.username.as_deref().map(utf8).transpose()?;
        connect.password = options.password.clone().map(Bytes::from);
        if !options.clean_start {
            connect.properties.session_expiry_interval_s = Some(3600);
        }
        client.send(&Packet::Connect(Box::new(connect))).await?;
        match client.receive().await? {
            Packet::ConnAck(ack) if !ack.reason.is_error() => {
                // [MQTT-3.2.2-21]
                if let Some(seconds) = ack.properties.server_keep_alive_s {
                    let idle = Duration::from_secs(u64::from(seconds));
                    client.keep_alive = (seconds > 0).then_some(idle);
                }
                client.granted = ack.properties;
                Ok(client)
            }
            Packet::ConnAck(ack) => Err(ClientError::Refused(ack.reason)),
            other => Err(ClientError::Lost(format!(
                "{} came instead of CONNACK",
                other.name()
            ))),
        }
    }

    /// Publishes and, at QoS 1 and 2, waits until the broker has taken the message over.
    ///
    /// # Errors
    /// When the connection is lost, or the broker refuses the message.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: Bytes,
        qos: QoS,
        retain: bool,
    ) -> Result<(), ClientError> {
        let topic = TopicName::new(topic)
            .map_err(|error| ClientError::Invalid(format!("topic `{topic}`: {error}")))?;
        let mut publish = Publish::new(topic.into_utf8(), payload);
        publish.qos = qos;
        publish.retain = retain;
        if qos == QoS::AtMostOnce {
            return self.send(&Packet::Publish(publish)).await;
        }
        let id = self.take_id();
        publish.packet_id = Some(id);
        let what = format!("the message on `{}`", publish.topic.as_str());
        self.send(&Packet::Publish(publish)).await?;
        loop {
            let reason = match self.receive().await? {
                Packet::PubAck(ack) if ack.packet_id == id => ack.reason,
                Packet::PubRec(rec) if rec.packet_id == id && !rec.reason.is_error() => {
                    self.send(&Packet::PubRel(PubRel::success(id))).await?;
                    continue;
                }
                Packet::PubRec(rec) if rec.packet_id == id => rec.reason,
                Packet::PubComp(comp) if comp.packet_id == id => comp.reason,
                other => {
                    self.take_in(other).await?;
                    continue;
                }
            };
            return if reason.is_error() {
                Err(ClientError::Denied { what, reason })
            } else {
                Ok(())
            };
        }
    }

    /// Subscribes to all filters with one SUBSCRIBE and waits for SUBACK.
    ///
    /// # Errors
    /// When a filter is not one, the connection is lost, or the broker refuses one of them.
    pub async fn subscribe(&mut self, filters: &[String], qos: QoS) -> Result<(), ClientError> {
        let mut requests = Vec::with_capacity(filters.len());
        for filter in filters {
            let filter = SubscriptionFilter::parse(filter)
                .map_err(|error| ClientError::Invalid(format!("filter `{filter}`: {error}")))?;
            requests.push(SubscriptionRequest {
                filter,
                options: SubscribeOptions::with_qos(qos),
            });
        }
        let id = self.take_id();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: id,
            requests,
            properties: None,
        }))
        .await?;
        loop {
            match self.receive().await? {
                Packet::SubAck(ack) if ack.packet_id == id => {
                    return match ack
                        .reasons
                        .iter()
                        .zip(filters)
                        .find(|(reason, _)| reason.is_error())
                    {
                        Some((reason, filter)) => Err(ClientError::Denied {
                            what: format!("the filter `{filter}`"),
                            reason: *reason,
                        }),
                        None => Ok(()),
                    };
                }
                other => self.take_in(other).await?,
            }
        }
    }

    /// The next message, acknowledged as its QoS asks.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next_message(&mut self) -> Result<Publish, ClientError> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            let packet = self.receive().await?;
            self.take_in(packet).await?;
        }
    }

    /// Says good-bye, so that no will is published.
    ///
    /// # Errors
    /// When the connection was lost before.
    pub async fn disconnect(mut self) -> Result<(), ClientError> {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)))
            .await?;
        self.stream
            .shutdown()
            .await
            .map_err(|error| ClientError::Lost(error.to_string()))
    }

    fn take_id(&mut self) -> PacketId {
        let id = self.next_id;
        self.next_id = id.next();
        id
    }

    /// Handles a packet that nobody waits for.
    async fn take_in(&mut self, packet: Packet) -> Result<(), ClientError> {
        match packet {
            Packet::Publish(publish) => {
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => {
                        self.send(&Packet::PubAck(PubAck::success(id))).await?
                    }
                    (QoS::ExactlyOnce, Some(id)) => {
                        self.send(&Packet::PubRec(PubRec::success(id))).await?
                    }
                    _ => {}
                }
                self.inbox.push_back(publish);
                Ok(())
            }
            Packet::PubRel(rel) => {
                self.send(&Packet::PubComp(PubComp::success(rel.packet_id)))
                    .await
            }
            Packet::Disconnect(disconnect) => Err(ClientError::Lost(format!(
                "the broker ended it: {}",
                disconnect.reason.name()
            ))),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<(), ClientError> {
        self.write.clear();
        codec::encode(packet, self.version, &mut self.write)
            .map_err(|error| ClientError::Invalid(error.to_string()))?;
        self.stream
            .write_all(&self.write)
            .await
            .map_err(|error| ClientError::Lost(error.to_string()))
    }

    /// The next packet; an idle connection is kept alive meanwhile.
    async fn receive(&mut self) -> Result<Packet, ClientError> {
        loop {
            let length = codec::frame_length(&self.read, MAX_PACKET)
                .map_err(|error| ClientError::Lost(error.to_string()))?;
            if let Some(length) = length.filter(|length| self.read.len() >= *length) {
                let frame = self.read.split_to(length).freeze();
                return codec::decode(frame, self.version)
                    .map_err(|error| ClientError::Lost(error.to_string()));
            }
            let read = self.stream.read_buf(&mut self.read);
            let read = match self.keep_alive {
                Some(idle) => match tokio::time::timeout(idle, read).await {
                    Ok(read) => read,
                    Err(_) => {
                        self.send(&Packet::PingReq).await?;
                        continue;
                    }
                },
                None => read.await,
            };
            match read {
                Ok(0) => return Err(ClientError::Lost("the broker closed it".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(ClientError::Lost(error.to_string())),
            }
        }
    }
}

fn utf8(text: &str) -> Result<Utf8, ClientError> {
    Utf8::new(text).map_err(|error| ClientError::Invalid(format!("`{text}`: {error}")))
}
