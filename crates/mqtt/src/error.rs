//! What can be wrong with bytes from a peer, and with a packet that is to be sent.

use crate::packet::ConnAck;
use crate::{ProtocolVersion, ReasonCode, Utf8Error};

/// Bytes that are not a packet, or a packet that the standard forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DecodeError {
    /// What a DISCONNECT or CONNACK of MQTT 5 says.
    pub reason: ReasonCode,
    /// One phrase for the log.
    pub detail: &'static str,
    /// Only for a CONNECT: the version in which it can be refused. `None` when the peer may not speak MQTT.
    pub answer_in: Option<ProtocolVersion>,
    /// Only for a CONNECT: the largest packet that the client takes. `None` when it had not come to saying so.
    pub max_packet_size: Option<usize>,
}

impl DecodeError {
    pub(crate) const fn new(reason: ReasonCode, detail: &'static str) -> Self {
        Self {
            reason,
            detail,
            answer_in: None,
            max_packet_size: None,
        }
    }

    pub(crate) const fn malformed(detail: &'static str) -> Self {
        Self::new(ReasonCode::MalformedPacket, detail)
    }

    pub(crate) const fn protocol(detail: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, detail)
    }

    pub(crate) const fn answer_in(mut self, version: ProtocolVersion) -> Self {
        self.answer_in = Some(version);
        self
    }

    pub(crate) const fn taken_up_to(mut self, bytes: usize) -> Self {
        self.max_packet_size = Some(bytes);
        self
    }

    /// The CONNACK that refuses a bad CONNECT, with the version to encode it in; `None`: close without a word.
    pub fn connack(&self) -> Option<(ProtocolVersion, ConnAck)> {
        let version = self.answer_in?;
        // Before version 5 a CONNACK can only say these; anything else is answered by closing.
        let can_be_said = version.is_v5()
            || matches!(
                self.reason,
                ReasonCode::UnsupportedProtocolVersion
                    | ReasonCode::ClientIdentifierNotValid
                    | ReasonCode::ServerBusy
            );
        can_be_said.then(|| (version, ConnAck::refused(self.reason)))
    }
}

impl From<Utf8Error> for DecodeError {
    fn from(error: Utf8Error) -> Self {
        Self::malformed(match error {
            Utf8Error::Invalid => "a text is not valid UTF-8",
            Utf8Error::Nul => "a text contains U+0000",
            Utf8Error::TooLong => "a text is longer than 65535 bytes",
        })
    }
}

/// A packet that cannot be put on the wire in the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The remaining length of a packet has at most 268,435,455 bytes, and so has a block of properties.
    #[error("the packet is larger than MQTT allows")]
    TooLarge,
    /// The length in front of binary data has 16 bits.
    #[error("binary data is longer than 65535 bytes")]
    BinaryTooLong,
    /// A shared filter is longer than its parts were.
    #[error(transparent)]
    Text(#[from] Utf8Error),
    /// A publish has a packet identifier exactly when its QoS is above 0. `[MQTT-2.2.1-2]`
    #[error("packet identifier and QoS of a publish do not agree")]
    PacketId,
    /// A publish without a topic needs a topic alias, and wildcards are for filters.
    #[error("the topic of a publish is empty or contains a wildcard")]
    Topic,
    /// The packet type came with MQTT 5.
    #[error("there is no such packet before MQTT 5")]
    NotInVersion,
    /// The packet has no such reason code in the standard.
    #[error("reason code `{0}` does not belong in this packet")]
    Reason(ReasonCode),
    /// SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK speak of at least one filter.
    #[error("the packet names no topic filter")]
    NoFilters,
    /// Before MQTT 5 there is no password without a user name. `[MQTT3-3.1.2-22]`
    #[error("there is no password without a user name before MQTT 5")]
    PasswordWithoutUserName,
    /// Before MQTT 5 only a clean session goes without a client identifier, in MQTT 3.1 not even that.
    #[error("the client identifier is empty")]
    ClientIdentifier,
    /// A shared subscription cannot ask for no-local. `[MQTT-3.8.3-4]`
    #[error("no-local is not allowed on a shared subscription")]
    NoLocalOnShared,
    /// Authentication data comes with the method that it belongs to.
    #[error("the authentication method is missing")]
    AuthenticationMethod,
}
