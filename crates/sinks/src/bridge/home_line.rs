//! The line from a bridge into its broker: a client that never leaves the process.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::Instant;
use weir_mqtt::{Connect, Packet, ProtocolVersion, Publish, Utf8, codec};

use super::client::{Failure, FrameReader, Version};
use super::home::Home;
use super::link::Inner;
use crate::codes;
use crate::error::SinkError;

/// How often the broker is told that the bridge is there.
pub(super) const HOME_PING: Duration = Duration::from_secs(20);
/// How long the broker may take to say welcome.
const HOME_WELCOME: Duration = Duration::from_secs(10);

/// A client within the broker: what the remote sends is its.
pub(super) struct HomeLine {
    pub(super) reader: FrameReader<ReadHalf<DuplexStream>>,
    pub(super) writer: WriteHalf<DuplexStream>,
    /// For the broker.
    pub(super) out: Vec<u8>,
    version: ProtocolVersion,
    pub(super) ping_at: Instant,
    max_packet_size: usize,
}

impl HomeLine {
    /// The session in the broker begins and ends with the one at the remote: both know the same packet ids.
    pub(super) async fn open(
        inner: &Inner,
        home: &Arc<dyn Home>,
        version: Version,
        clean_start: bool,
    ) -> Result<Self, Failure> {
        let version = version.wire();
        let client_id = Utf8::try_from(inner.gateway.client_id())
            .map_err(|error| home_failure("has no usable name").caused_by_text(&error))?;
        let mut connect = Connect::new(version, client_id);
        connect.clean_start = clean_start;
        connect.keep_alive_s = 60;
        if version.is_v5() {
            connect.properties.session_expiry_interval_s = Some(u32::MAX);
        }
        let mut bytes = Vec::new();
        connect
            .encode(&mut bytes)
            .map_err(|error| home_failure("has no usable name").caused_by_text(&error))?;
        let (reader, mut writer) = tokio::io::split(home.dial(&inner.gateway));
        let mut reader = FrameReader::new(reader, version);
        let welcomed = async {
            writer
                .write_all(&bytes)
                .await
                .map_err(|_| home_failure("is not taken in"))?;
            match reader.packet().await {
                Ok(Packet::ConnAck(connack)) if !connack.reason.is_error() => Ok(()),
                Ok(Packet::ConnAck(connack)) => Err(home_failure(connack.reason.name())),
                _ => Err(home_failure("is not taken in")),
            }
        };
        match tokio::time::timeout(HOME_WELCOME, welcomed).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(home_failure("gets no answer")),
        }
        Ok(Self {
            reader,
            writer,
            out: Vec::new(),
            version,
            ping_at: Instant::now() + HOME_PING,
            max_packet_size: home.max_packet_size(),
        })
    }
}

/// The own broker does not take the bridge: it stops, or has no room.
pub(super) fn home_failure(why: &str) -> Failure {
    let message = format!("the bridge has no way into its own broker: it {why}");
    Failure::network(SinkError::new(codes::LINK_DOWN, message))
}

impl Failure {
    fn caused_by_text(self, error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            error: self.error.caused_by(error),
            ..self
        }
    }
}

impl HomeLine {
    /// Whether the broker takes so large a message.
    pub(super) fn takes(&self, publish: &Publish) -> bool {
        // A packet that is nearly as large as may be is measured.
        publish.payload.len() + publish.topic.len() + 1024 < self.max_packet_size || {
            let mut packet = Vec::new();
            publish.encode(self.version, &mut packet).is_ok()
                && packet.len() <= self.max_packet_size
        }
    }

    /// Puts a packet in line.
    pub(super) fn send(&mut self, packet: &Packet) {
        if let Err(error) = codec::encode(packet, self.version, &mut self.out) {
            tracing::error!(%error, "a packet of the remote broker cannot be passed on");
        }
    }
}
