//! UNSUBSCRIBE: topic filters that are no longer wanted.

use super::kind;
use super::subscribe::write_filter;
use crate::properties::{self, UnsubscribeProperties};
use crate::wire::{Reader, write_frame, write_u16};
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, SubscriptionFilter};

/// A client unsubscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Comes back in the UNSUBACK.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<SubscriptionFilter>,
    /// `None` when there are none.
    pub properties: Option<Box<UnsubscribeProperties>>,
}

impl Unsubscribe {
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
        // [MQTT-3.10.3-2]
        if reader.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE without a topic filter"));
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(SubscriptionFilter::try_from(reader.utf8()?)?);
        }
        Ok(Self {
            packet_id,
            filters,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::NoFilters);
        }
        write_frame(kind::UNSUBSCRIBE << 4 | 0b0010, out, |out| {
            write_u16(self.packet_id.get(), out);
            if version.is_v5() {
                properties::write(self.properties.as_deref(), out)?;
            }
            self.filters
                .iter()
                .try_for_each(|filter| write_filter(filter, out))
        })
    }
}
