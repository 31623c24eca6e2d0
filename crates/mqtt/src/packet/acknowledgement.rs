//! PUBACK, PUBREC, PUBREL and PUBCOMP: a packet identifier, and in MQTT 5 a reason and properties.
//!
//! The four differ in their type, in PUBREL's flags and in the reasons that they can give.

use super::{kind, read_reason};
use crate::properties::{self, AckProperties};
use crate::wire::{Reader, write_frame, write_u16};
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, ReasonCode};

macro_rules! acknowledgement {
    ($(#[$doc:meta])* $name:ident, $first:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            /// The publish that this is about.
            pub packet_id: PacketId,
            /// What became of it; always success before MQTT 5.
            pub reason: ReasonCode,
            /// `None` when there are none.
            pub properties: Option<Box<AckProperties>>,
        }

        impl $name {
            /// Without properties.
            pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
                Self { packet_id, reason, properties: None }
            }

            /// All is well.
            pub const fn success(packet_id: PacketId) -> Self {
                Self::new(packet_id, ReasonCode::Success)
            }

            pub(crate) fn decode(
                mut reader: Reader,
                version: ProtocolVersion,
            ) -> Result<Self, DecodeError> {
                let packet_id = reader.packet_id()?;
                let (reason, properties) = read_rest(reader, version, $allowed)?;
                Ok(Self { packet_id, reason, properties })
            }

            /// Appends the packet.
            pub fn encode(
                &self,
                version: ProtocolVersion,
                out: &mut Vec<u8>,
            ) -> Result<(), EncodeError> {
                if !$allowed.contains(&self.reason) {
                    return Err(EncodeError::Reason(self.reason));
                }
                write_frame($first, out, |out| {
                    write_u16(self.packet_id.get(), out);
                    write_rest(self.reason, self.properties.as_deref(), version, out)
                })
            }
        }
    };
}

acknowledgement!(
    /// A publish of QoS 1 has arrived.
    PubAck, kind::PUBACK << 4, RECEIPT
);
acknowledgement!(
    /// A publish of QoS 2 has arrived.
    PubRec, kind::PUBREC << 4, RECEIPT
);
acknowledgement!(
    /// The sender of a QoS 2 publish has seen its PUBREC and will not send it again.
    PubRel, kind::PUBREL << 4 | 0b0010, RELEASE
);
acknowledgement!(
    /// A publish of QoS 2 is done and its packet identifier free.
    PubComp, kind::PUBCOMP << 4, RELEASE
);

const RECEIPT: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

const RELEASE: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

type Rest = (ReasonCode, Option<Box<AckProperties>>);

/// Reads what may be left out: the properties, and the reason too.
fn read_rest(
    mut reader: Reader,
    version: ProtocolVersion,
    allowed: &[ReasonCode],
) -> Result<Rest, DecodeError> {
    if !version.is_v5() || reader.is_empty() {
        reader.finish()?;
        return Ok((ReasonCode::Success, None));
    }
    let reason = read_reason(&mut reader, allowed)?;
    let properties = if reader.is_empty() {
        None
    } else {
        properties::read(&mut reader)?
    };
    reader.finish()?;
    Ok((reason, properties))
}

/// Writes the shortest form.
fn write_rest(
    reason: ReasonCode,
    properties: Option<&AckProperties>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let properties = properties.filter(|properties| !properties.is_empty());
    if !version.is_v5() || (reason == ReasonCode::Success && properties.is_none()) {
        return Ok(());
    }
    out.push(reason.as_u8());
    match properties {
        Some(properties) => properties::write(Some(properties), out),
        None => Ok(()),
    }
}
