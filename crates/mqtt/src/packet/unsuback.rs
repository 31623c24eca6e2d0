//! UNSUBACK: what became of each filter of an UNSUBSCRIBE; before MQTT 5 it only says that it came.

use super::{kind, read_reason};
use crate::properties::{self, AckProperties};
use crate::wire::{Reader, write_frame, write_u16};
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, ReasonCode};

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// The one of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter; none at all before MQTT 5.
    pub reasons: Vec<ReasonCode>,
    /// `None` when there are none.
    pub properties: Option<Box<AckProperties>>,
}

const REASONS: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::PacketIdentifierInUse,
];

impl UnsubAck {
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
        if !version.is_v5() {
            reader.finish()?;
            return Ok(Self::new(packet_id, Vec::new()));
        }
        let properties = properties::read(&mut reader)?;
        if reader.is_empty() {
            return Err(DecodeError::protocol("UNSUBACK without a reason code"));
        }
        let mut reasons = Vec::new();
        while !reader.is_empty() {
            reasons.push(read_reason(&mut reader, REASONS)?);
        }
        Ok(Self {
            packet_id,
            reasons,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.reasons.is_empty() && version.is_v5() {
            return Err(EncodeError::NoFilters);
        }
        if let Some(&reason) = self.reasons.iter().find(|reason| !REASONS.contains(reason)) {
            return Err(EncodeError::Reason(reason));
        }
        write_frame(kind::UNSUBACK << 4, out, |out| {
            write_u16(self.packet_id.get(), out);
            if version.is_v5() {
                properties::write(self.properties.as_deref(), out)?;
                out.extend(self.reasons.iter().map(|reason| reason.as_u8()));
            }
            Ok(())
        })
    }
}
