//! SUBACK: what became of each filter of a SUBSCRIBE, in its order.

use super::{kind, read_reason};
use crate::properties::{self, AckProperties};
use crate::wire::{Reader, write_frame, write_u16};
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, ReasonCode};

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// The one of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter: the QoS granted or a failure. Before MQTT 5 every failure is 0x80.
    pub reasons: Vec<ReasonCode>,
    /// `None` when there are none.
    pub properties: Option<Box<AckProperties>>,
}

const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// `[MQTT3-3.9.3-2]`
const REASONS_V3: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
];

impl SubAck {
    /// Without properties.
    pub const fn new(packet_id: PacketId, reasons: Vec<ReasonCode>) -> Self {
        Self {
            packet_id,
            reasons,
            properties: None,
        }
    }

    pub(crate) fn decode(
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() {
            properties::read(&mut reader)?
        } else {
            None
        };
        let allowed = if version.is_v5() { REASONS } else { REASONS_V3 };
        if reader.is_empty() {
            return Err(DecodeError::protocol("SUBACK without a reason code"));
        }
        let mut reasons = Vec::new();
        while !reader.is_empty() {
            reasons.push(read_reason(&mut reader, allowed)?);
        }
        Ok(Self {
            packet_id,
            reasons,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.reasons.is_empty() {
            return Err(EncodeError::NoFilters);
        }
        if let Some(&reason) = self.reasons.iter().find(|reason| !REASONS.contains(reason)) {
            return Err(EncodeError::Reason(reason));
        }
        write_frame(kind::SUBACK << 4, out, |out| {
            write_u16(self.packet_id.get(), out);
            if version.is_v5() {
                properties::write(self.properties.as_deref(), out)?;
                out.extend(self.reasons.iter().map(|reason| reason.as_u8()));
            } else {
                out.extend(self.reasons.iter().map(|reason| reason.as_u8().min(0x80)));
            }
            Ok(())
        })
    }
}
