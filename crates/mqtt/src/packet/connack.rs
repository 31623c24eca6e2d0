//! CONNACK: the answer to CONNECT.

use super::{kind, read_reason};
use crate::properties::{self, ConnAckProperties};
use crate::reason::{connack_v3, from_connack_v3};
use crate::wire::{Reader, write_frame};
use crate::{DecodeError, EncodeError, ProtocolVersion, ReasonCode};

/// The answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server goes on with a session it kept: only with success, never in MQTT 3.1.
    pub session_present: bool,
    /// Success or why not; before MQTT 5 only what [`connack_v3`] can say.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: ConnAckProperties,
}

const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerUnavailable,
    ReasonCode::ServerBusy,
    ReasonCode::Banned,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::ConnectionRateExceeded,
];

impl ConnAck {
    /// The client is connected.
    pub fn accepted(session_present: bool) -> Self {
        let properties = ConnAckProperties::default();
        Self {
            session_present,
            reason: ReasonCode::Success,
            properties,
        }
    }

    /// The client is not connected, for `reason`.
    pub fn refused(reason: ReasonCode) -> Self {
        Self {
            session_present: false,
            reason,
            properties: ConnAckProperties::default(),
        }
    }

    pub(crate) fn decode(
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let session_present = match (reader.u8()?, version) {
            // MQTT 3.1 gives the byte no meaning.
            (_, ProtocolVersion::V3_1) | (0, _) => false,
            (1, _) => true,
            // [MQTT-3.2.2-1]
            _ => return Err(DecodeError::malformed("reserved flags of CONNACK are set")),
        };
        let (reason, properties) = if version.is_v5() {
            let reason = read_reason(&mut reader, REASONS)?;
            (
                reason,
                properties::read(&mut reader)?
                    .map(|boxed| *boxed)
                    .unwrap_or_default(),
            )
        } else {
            let reason = from_connack_v3(reader.u8()?)
                .ok_or(DecodeError::malformed("a return code that does not exist"))?;
            (reason, ConnAckProperties::default())
        };
        reader.finish()?;
        // [MQTT-3.2.2-6]
        if session_present && reason.is_error() {
            return Err(DecodeError::protocol(
                "session present in a CONNACK that refuses",
            ));
        }
        Ok(Self {
            session_present,
            reason,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !REASONS.contains(&self.reason) && version.is_v5() {
            return Err(EncodeError::Reason(self.reason));
        }
        let session_present = self.session_present
            && self.reason == ReasonCode::Success
            && version > ProtocolVersion::V3_1;
        write_frame(kind::CONNACK << 4, out, |out| {
            out.push(u8::from(session_present));
            if version.is_v5() {
                out.push(self.reason.as_u8());
                properties::write(Some(&self.properties), out)
            } else {
                let code = connack_v3(self.reason).ok_or(EncodeError::Reason(self.reason))?;
                out.push(code);
                Ok(())
            }
        })
    }
}
