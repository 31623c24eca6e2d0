//! SUBSCRIBE: topic filters and how each is to be served.

use bytes::Bytes;

use super::kind;
use crate::properties::{self, SubscribeProperties};
use crate::wire::{Reader, write_frame, write_u16};
use crate::{
    DecodeError, EncodeError, PacketId, ProtocolVersion, QoS, SubscriptionFilter, Utf8Error,
};

/// A client subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Comes back in the SUBACK.
    pub packet_id: PacketId,
    /// At least one.
    pub requests: Vec<SubscriptionRequest>,
    /// `None` when there are none.
    pub properties: Option<Box<SubscribeProperties>>,
}

/// One subscription that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRequest {
    /// Which topics, and whether shared with a group.
    pub filter: SubscriptionFilter,
    /// How it is to be served.
    pub options: SubscribeOptions,
}

/// The subscription options; before MQTT 5 there is only the QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// The highest QoS that messages are sent with.
    pub qos: QoS,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether the retain flag is passed on as it was published.
    pub retain_as_published: bool,
    /// Whether retained messages are sent now.
    pub retain_handling: RetainHandling,
}

/// When a subscription gets the retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE: what versions before 5 always do.
    #[default]
    OnSubscribe = 0,
    /// Only if the subscription did not exist.
    OnNewSubscription = 1,
    /// Never.
    Never = 2,
}

mod option {
    pub(super) const QOS: u8 = 0b0000_0011;
    pub(super) const NO_LOCAL: u8 = 0b0000_0100;
    pub(super) const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
    pub(super) const RESERVED: u8 = 0b1100_0000;
}

impl SubscribeOptions {
    /// The options of a version that has only the QoS.
    pub fn with_qos(qos: QoS) -> Self {
        Self {
            qos,
            ..Self::default()
        }
    }

    fn from_byte(byte: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        // [MQTT-3.8.3-5]; in 3.1.1 [MQTT-3.8.3-4]: all but the QoS is reserved.
        let reserved = if version.is_v5() {
            option::RESERVED
        } else {
            !option::QOS
        };
        if byte & reserved != 0 {
            return Err(DecodeError::malformed(
                "reserved subscription options are set",
            ));
        }
        Ok(Self {
            qos: QoS::try_from(byte & option::QOS)
                .map_err(|_| DecodeError::protocol("a subscription of QoS 3"))?,
            no_local: byte & option::NO_LOCAL != 0,
            retain_as_published: byte & option::RETAIN_AS_PUBLISHED != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::OnSubscribe,
                1 => RetainHandling::OnNewSubscription,
                2 => RetainHandling::Never,
                _ => return Err(DecodeError::protocol("retain handling 3")),
            },
        })
    }

    fn to_byte(self, version: ProtocolVersion) -> u8 {
        if !version.is_v5() {
            return self.qos.as_u8();
        }
        self.qos.as_u8()
            | if self.no_local { option::NO_LOCAL } else { 0 }
            | if self.retain_as_published {
                option::RETAIN_AS_PUBLISHED
            } else {
                0
            }
            | (self.retain_handling as u8) << 4
    }
}

impl SubscriptionRequest {
    fn decode(reader: &mut Reader, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let filter = SubscriptionFilter::try_from(reader.utf8()?)?;
        let options = SubscribeOptions::from_byte(reader.u8()?, version)?;
        // [MQTT-3.8.3-4]
        if options.no_local && filter.share.is_some() {
            return Err(DecodeError::protocol("no-local on a shared subscription"));
        }
        Ok(Self { filter, options })
    }
}

/// The requests of a SUBSCRIBE, decoded one after another: a packet of very many need not be read in one go. A clone
/// begins where this one is. Nothing comes after an error.
#[derive(Clone, Debug)]
pub struct SubscriptionRequests {
    reader: Reader,
    version: ProtocolVersion,
}

impl Iterator for SubscriptionRequests {
    type Item = Result<SubscriptionRequest, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let request = SubscriptionRequest::decode(&mut self.reader, self.version);
        if request.is_err() {
            self.reader = Reader::new(Bytes::new());
        }
        Some(request)
    }
}

impl Subscribe {
    pub(crate) fn decode(reader: Reader, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let (head, requests) = Self::decode_head(reader, version)?;
        Ok(Self {
            requests: requests.collect::<Result<_, _>>()?,
            ..head
        })
    }

    /// The packet without its requests, and those.
    pub(crate) fn decode_head(
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<(Self, SubscriptionRequests), DecodeError> {
        let packet_id = reader.packet_id()?;
        let properties = if version.is_v5() {
            properties::read(&mut reader)?
        } else {
            None
        };
        // [MQTT-3.8.3-2]
        if reader.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE without a topic filter"));
        }
        let head = Self {
            packet_id,
            requests: Vec::new(),
            properties,
        };
        Ok((head, SubscriptionRequests { reader, version }))
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.requests.is_empty() {
            return Err(EncodeError::NoFilters);
        }
        write_frame(kind::SUBSCRIBE << 4 | 0b0010, out, |out| {
            write_u16(self.packet_id.get(), out);
            if version.is_v5() {
                properties::write(self.properties.as_deref(), out)?;
            }
            for SubscriptionRequest { filter, options } in &self.requests {
                if version.is_v5() && options.no_local && filter.share.is_some() {
                    return Err(EncodeError::NoLocalOnShared);
                }
                write_filter(filter, out)?;
                out.push(options.to_byte(version));
            }
            Ok(())
        })
    }
}

/// Writes a filter with the group that shares it.
pub(super) fn write_filter(
    filter: &SubscriptionFilter,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let length = u16::try_from(filter.encoded_len());
    write_u16(
        length.map_err(|_| EncodeError::Text(Utf8Error::TooLong))?,
        out,
    );
    for part in filter.prefix() {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(filter.filter.as_str().as_bytes());
    Ok(())
}
