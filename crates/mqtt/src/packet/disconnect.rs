//! DISCONNECT: the connection ends in order, from MQTT 5 on with a reason and from both sides.

use super::{kind, read_reason};
use crate::properties::{self, DisconnectProperties};
use crate::wire::{Reader, write_frame};
use crate::{DecodeError, EncodeError, ProtocolVersion, ReasonCode};

/// The connection ends in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Why; always success, the normal disconnection, before MQTT 5.
    pub reason: ReasonCode,
    /// `None` when there are none.
    pub properties: Option<Box<DisconnectProperties>>,
}

const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::DisconnectWithWill,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerBusy,
    ReasonCode::ServerShuttingDown,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::ConnectionRateExceeded,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

impl Disconnect {
    /// Without properties.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            properties: None,
        }
    }

    pub(crate) fn decode(
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(Self::new(ReasonCode::Success));
        }
        let reason = read_reason(&mut reader, REASONS)?;
        let properties = if reader.is_empty() {
            None
        } else {
            properties::read(&mut reader)?
        };
        reader.finish()?;
        Ok(Self { reason, properties })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !REASONS.contains(&self.reason) {
            return Err(EncodeError::Reason(self.reason));
        }
        let properties = self
            .properties
            .as_deref()
            .filter(|properties| !properties.is_empty());
        write_frame(kind::DISCONNECT << 4, out, |out| {
            if !version.is_v5() || (self.reason == ReasonCode::Success && properties.is_none()) {
                return Ok(());
            }
            out.push(self.reason.as_u8());
            match properties {
                Some(properties) => properties::write(Some(properties), out),
                None => Ok(()),
            }
        })
    }
}
