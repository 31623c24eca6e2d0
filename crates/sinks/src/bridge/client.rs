//! One connection to the remote: socket, TLS, CONNECT and CONNACK; then packets in and bytes out.
//!
//! What packets mean is the link's. Every attempt makes a connection of its own, so that fresh credentials are signed for
//! it and nothing of a lost link lives on.

use std::io;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use weir_mqtt::properties::MaximumQoS;
use weir_mqtt::{Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, Utf8, codec};

use super::certificate;
use super::dial;
use super::plan::{Address, BridgePlan};
use super::reconnect::Loss;
use super::redirect;
use super::remote_status::RemoteStatus;
use super::signer::ConnectCreds;
use super::web_socket;
use crate::codes;
use crate::error::SinkError;

/// Which version an attempt speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

impl Version {
    pub(crate) const fn wire(self) -> ProtocolVersion {
        match self {
            Self::V311 => ProtocolVersion::V3_1_1,
            Self::V5 => ProtocolVersion::V5,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V311 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        }
    }
}

/// Why the remote refused a message.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// The same message may be taken later.
    pub(crate) later: bool,
}

impl Refusal {
    pub(crate) fn of(reason: ReasonCode) -> Self {
        let later = matches!(
            reason,
            ReasonCode::QuotaExceeded
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::PacketIdentifierInUse
        );
        Self {
            reason: format!("0x{:02X} {}", reason.as_u8(), reason.name()),
            later,
        }
    }
}

/// What the remote said in its CONNACK.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) maximum_qos: u8,
    pub(crate) retain_available: bool,
    pub(crate) maximum_packet_size: Option<usize>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) subscription_identifiers: bool,
    pub(crate) keep_alive: Option<Duration>,
}

/// Why the link is gone.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) loss: Loss,
    pub(crate) error: SinkError,
    /// The remote has ended the connection, or answered so that it must end, perhaps over what it was sent.
    pub(crate) closed: bool,
    /// The servers that the remote has named instead of itself.
    pub(crate) redirect: Option<Box<str>>,
}

impl Failure {
    pub(crate) fn network(error: SinkError) -> Self {
        Self {
            loss: Loss::Network,
            error,
            closed: false,
            redirect: None,
        }
    }

    fn by_remote(error: SinkError) -> Self {
        Self {
            closed: true,
            ..Self::network(error)
        }
    }

    pub(crate) fn io(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
        if let Some(refused) = certificate::refused(error) {
            return refused;
        }
        if error.kind() == TimedOut {
            let message = "the remote broker takes nothing of what it is sent";
            return Self::network(SinkError::new(codes::TIMEOUT, message).caused_by(error));
        }
        let link_down = SinkError::new(codes::LINK_DOWN, "the link to the remote broker is down");
        Self {
            // Else it is the way there, and nobody has looked at what was sent.
            closed: matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof),
            ..Self::network(link_down.caused_by(error))
        }
    }

    pub(crate) fn closed() -> Self {
        let message = "the remote broker has closed the link";
        Self::by_remote(SinkError::new(codes::LINK_DOWN, message))
    }

    /// The same where CONNECT was written and not answered.
    fn hung_up(self) -> Self {
        match self.loss {
            Loss::Network => Self {
                loss: Loss::HungUp,
                ..self
            },
            _ => self,
        }
    }

    pub(crate) fn malformed(error: &(dyn std::error::Error + 'static)) -> Self {
        let message = "the remote broker has sent what is no MQTT";
        Self::network(SinkError::new(codes::LINK_DOWN, message).caused_by(error))
    }
}

/// How a client greets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greeting {
    pub(crate) version: Version,
    pub(crate) clean_start: bool,
    pub(crate) session_expiry: Duration,
    /// How many messages of `QoS` 1 and 2 it takes unacknowledged.
    pub(crate) receive_maximum: u16,
    /// The largest packet that it takes.
    pub(crate) max_packet_size: usize,
    /// Says in 3.1.1 that it is a bridge, by a bit of the protocol level that only some brokers know.
    pub(crate) bridge_flag: bool,
}

/// How the remote greeted back.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    pub(crate) session_present: bool,
    pub(crate) limits: Limits,
}

/// What the remote may send to us.
pub(crate) const MAX_INCOMING: usize = 16 * 1024 * 1024;
/// How much is read at a time.
const READ: usize = 64 * 1024;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A connection on which the remote has said welcome.
pub(crate) struct Conn {
    pub(crate) reader: FrameReader<ReadHalf<Box<dyn Io>>>,
    pub(crate) writer: WriteHalf<Box<dyn Io>>,
}

impl std::fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Io")
    }
}

/// Cuts packets out of a stream.
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    version: ProtocolVersion,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(from: R, version: ProtocolVersion) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            version,
        }
    }

    /// Reads more; false at the end. Nothing is lost when this is not waited for.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ);
        Ok(self.from.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next packet that is there whole.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, Failure> {
        let frame = codec::frame_length(&self.buffer, MAX_INCOMING)
            .map_err(|error| Failure::malformed(&error))?;
        let Some(length) = frame else {
            return Ok(None);
        };
        let frame = self.buffer.split_to(length).freeze();
        // Some brokers say of a message in PUBACK or PUBREC what these cannot say.
        let answers = matches!(frame.first().map(|kind| kind >> 4), Some(4 | 5));
        codec::decode(frame, self.version)
            .map(Some)
            .map_err(|error| Failure {
                closed: answers,
                ..Failure::malformed(&error)
            })
    }

    /// The next packet, waited for.
    pub(crate) async fn packet(&mut self) -> Result<Packet, Failure> {
        loop {
            if let Some(packet) = self.next()? {
                return Ok(packet);
            }
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => return Err(Failure::closed()),
                Err(error) => return Err(Failure::io(&error)),
            }
        }
    }
}

/// Connects, and signs in within the plan's time for it.
pub(crate) async fn connect(
    plan: &BridgePlan,
    address: &Address,
    creds: &ConnectCreds,
    base: &Path,
    greeting: Greeting,
) -> Result<(Conn, Welcome), Failure> {
    let stream = dial::reach(plan, address).await?;
    connect_over(stream, plan, address, creds, base, greeting).await
}

/// The same over a socket to one of the machines with that address.
pub(super) async fn connect_over(
    stream: TcpStream,
    plan: &BridgePlan,
    address: &Address,
    creds: &ConnectCreds,
    base: &Path,
    greeting: Greeting,
) -> Result<(Conn, Welcome), Failure> {
    let connected = async {
        let mut stream = dial::secure(stream, plan, address, creds, base).await?;
        if let Some(path) = &address.web_socket {
            let signed = creds.url.as_ref().map(|url| url.as_str());
            stream = web_socket::open(stream, address, path, signed).await?;
        }
        sign_in(plan, creds, greeting, stream).await
    };
    tokio::time::timeout(plan.connect_timeout, connected)
        .await
        .unwrap_or_else(|_| Err(dial::no_answer()))
}

async fn sign_in(
    plan: &BridgePlan,
    creds: &ConnectCreds,
    greeting: Greeting,
    stream: Box<dyn Io>,
) -> Result<(Conn, Welcome), Failure> {
    let version = greeting.version.wire();
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader, version);
    let bytes = connect_packet(plan, creds, greeting).map_err(Failure::network)?;
    let sent = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    if let Err(error) = sent.await {
        // Who hangs up over a certificate has said so before.
        let failure = Failure::io(&error);
        return Err(match reader.packet().await {
            Err(said) if said.loss == Loss::Credentials => said,
            _ => failure,
        });
    }
    // A remote that does not know the version may just hang up, or say what is no packet of it.
    let answer = reader.packet().await.map_err(Failure::hung_up)?;
    let Packet::ConnAck(connack) = answer else {
        let message = "the remote broker did not answer CONNECT with CONNACK";
        return Err(Failure::network(SinkError::new(codes::LINK_DOWN, message)));
    };
    if connack.reason.is_error() {
        let reference = connack.properties.server_reference.as_ref();
        return Err(Failure {
            redirect: redirect::named(connack.reason, reference),
            ..refused(connack.reason, greeting)
        });
    }
    let properties = &connack.properties;
    let limits = Limits {
        receive_maximum: properties.receive_maximum.map(NonZeroU16::get),
        maximum_qos: match properties.maximum_qos {
            None => 2,
            Some(MaximumQoS::AtLeastOnce) => 1,
            Some(MaximumQoS::AtMostOnce) => 0,
        },
        retain_available: properties.retain_available != Some(false),
        maximum_packet_size: properties
            .maximum_packet_size
            .and_then(|size| usize::try_from(size.get()).ok()),
        topic_alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
        subscription_identifiers: greeting.version == Version::V5
            && properties.subscription_identifier_available != Some(false),
        keep_alive: properties
            .server_keep_alive_s
            .map(|seconds| Duration::from_secs(seconds.into())),
    };
    let welcome = Welcome {
        session_present: connack.session_present,
        limits,
    };
    Ok((Conn { reader, writer }, welcome))
}

fn connect_packet(
    plan: &BridgePlan,
    creds: &ConnectCreds,
    greeting: Greeting,
) -> Result<Vec<u8>, SinkError> {
    let text = |what: &str, text: &str| {
        Utf8::new(text).map_err(|error| {
            SinkError::new(codes::BRIDGE, format!("the {what} is no MQTT text"))
                .caused_by(&error)
                .configuration()
        })
    };
    let mut connect = Connect::new(
        greeting.version.wire(),
        text("client id", &creds.client_id)?,
    );
    connect.clean_start = greeting.clean_start;
    connect.will = RemoteStatus::will(plan, &creds.client_id);
    connect.keep_alive_s = u16::try_from(plan.keepalive.as_secs()).unwrap_or(u16::MAX);
    if let Some(username) = &creds.username {
        connect.username = Some(text("user name", username)?);
        let password = creds.password.as_ref().map(|password| password.as_str());
        // Some clouds want a password with every user, though it be empty.
        connect.password = Some(Bytes::copy_from_slice(
            password.unwrap_or_default().as_bytes(),
        ));
    }
    if greeting.version == Version::V5 {
        let expiry = u32::try_from(greeting.session_expiry.as_secs()).unwrap_or(u32::MAX);
        connect.properties.session_expiry_interval_s =
            (!greeting.clean_start && expiry > 0).then_some(expiry);
        connect.properties.receive_maximum = NonZeroU16::new(greeting.receive_maximum);
        connect.properties.maximum_packet_size = u32::try_from(greeting.max_packet_size)
            .ok()
            .and_then(NonZeroU32::new);
    }
    let mut bytes = Vec::new();
    connect.encode(&mut bytes).map_err(|error| {
        SinkError::new(codes::BRIDGE, "the CONNECT cannot be written")
            .caused_by(&error)
            .configuration()
    })?;
    if greeting.bridge_flag && greeting.version == Version::V311 {
        mark_as_bridge(&mut bytes);
    }
    Ok(bytes)
}

/// Sets the bit of the protocol level by which mosquitto and others know a bridge.
fn mark_as_bridge(connect: &mut [u8]) {
    // Behind the packet type and the length (one to four bytes) stands the protocol name, then the level.
    let length = connect
        .iter()
        .skip(1)
        .take_while(|byte| **byte & 0x80 != 0)
        .count()
        + 1;
    if let Some(level) = connect.get_mut(1 + length + 2 + 4) {
        *level |= 0x80;
    }
}

fn refused(reason: ReasonCode, greeting: Greeting) -> Failure {
    let (loss, code) = match reason {
        ReasonCode::BadUserNameOrPassword
        | ReasonCode::NotAuthorized
        | ReasonCode::BadAuthenticationMethod => (Loss::Credentials, codes::AUTH),
        ReasonCode::UnsupportedProtocolVersion => {
            let flagged = greeting.bridge_flag && greeting.version == Version::V311;
            let message = format!(
                "the remote broker refuses the connection: it does not speak {}{}",
                greeting.version.name(),
                if flagged { " with `bridge_flag`" } else { "" }
            );
            return Failure {
                loss: Loss::Version,
                ..Failure::network(SinkError::new(codes::LINK_DOWN, message))
            };
        }
        _ => (Loss::Network, codes::LINK_DOWN),
    };
    let message = format!(
        "the remote broker refuses the connection: CONNACK 0x{:02X} {}",
        reason.as_u8(),
        reason.name()
    );
    Failure {
        loss,
        ..Failure::network(SinkError::new(code, message))
    }
}

/// The remote has said DISCONNECT.
pub(crate) fn dismissed(disconnect: &Disconnect) -> Failure {
    let taken_over = disconnect.reason == ReasonCode::SessionTakenOver;
    let (loss, code) = if taken_over {
        (Loss::TakenOver, codes::EVICTED)
    } else {
        (Loss::Dismissed, codes::LINK_DOWN)
    };
    let message = format!(
        "the remote broker closed the link: 0x{:02X} {}",
        disconnect.reason.as_u8(),
        disconnect.reason.name()
    );
    let closed = matches!(
        disconnect.reason,
        ReasonCode::NotAuthorized
            | ReasonCode::PacketTooLarge
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PayloadFormatInvalid
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
    );
    Failure {
        loss,
        closed,
        redirect: redirect::named(
            disconnect.reason,
            (disconnect.properties.as_ref())
                .and_then(|properties| properties.server_reference.as_ref()),
        ),
        ..Failure::network(SinkError::new(code, message))
    }
}

/// How long a goodbye may take.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_that_had_too_much_has_not_closed_the_link_over_one_message() {
        let over_a_message = |reason| {
            let disconnect = Disconnect {
                reason,
                properties: None,
            };
            dismissed(&disconnect).closed
        };
        for too_much in [
            ReasonCode::MessageRateTooHigh,
            ReasonCode::QuotaExceeded,
            ReasonCode::ConnectionRateExceeded,
            ReasonCode::ServerBusy,
        ] {
            assert!(!over_a_message(too_much), "{too_much:?}");
        }
        for perhaps_the_message in [ReasonCode::PacketTooLarge, ReasonCode::NotAuthorized] {
            assert!(over_a_message(perhaps_the_message));
        }
    }

    #[test]
    fn a_bridge_is_marked_in_the_protocol_level_whatever_the_length_takes() {
        for client_id in ["c".to_owned(), "c".repeat(200)] {
            let connect = Connect::new(ProtocolVersion::V3_1_1, Utf8::try_from(client_id).unwrap());
            let mut bytes = Vec::new();
            connect.encode(&mut bytes).unwrap();
            let before = bytes.clone();
            mark_as_bridge(&mut bytes);
            let changed: Vec<_> = (0..bytes.len())
                .filter(|at| bytes[*at] != before[*at])
                .collect();
            assert_eq!(changed.len(), 1);
            assert_eq!((before[changed[0]], bytes[changed[0]]), (4, 0x84));
        }
    }
}
