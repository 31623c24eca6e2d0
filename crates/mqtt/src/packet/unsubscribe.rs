//! UNSUBSCRIBE: topic filters that are no longer wanted.

use bytes::Bytes;

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

/// The filters of an UNSUBSCRIBE, decoded one after another, as [`SubscriptionRequests`](super::SubscriptionRequests).
#[derive(Clone, Debug)]
pub struct SubscriptionFilters(Reader);

impl Iterator for SubscriptionFilters {
    type Item = Result<SubscriptionFilter, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let text = self.0.utf8();
        let filter = text.and_then(|text| Ok(SubscriptionFilter::try_from(text)?));
        if filter.is_err() {
            self.0 = Reader::new(Bytes::new());
        }
        Some(filter)
    }
}

impl Unsubscribe {
    pub(crate) fn decode(reader: Reader, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let (head, filters) = Self::decode_head(reader, version)?;
        Ok(Self {
            filters: filters.collect::<Result<_, _>>()?,
            ..head
        })
    }

    /// The packet without its filters, and those.
    pub(crate) fn decode_head(
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<(Self, SubscriptionFilters), DecodeError> {
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
        let head = Self {
            packet_id,
            filters: Vec::new(),
            properties,
        };
        Ok((head, SubscriptionFilters(reader)))
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
