//! PUBLISH: a message. The packet that everything else is for, so the one whose decoding must cost nothing.

use bytes::Bytes;

use super::kind;
use crate::properties::{self, Properties, PublishProperties};
use crate::topic::has_wildcard;
use crate::wire::{Reader, varint_len, write_binary, write_u16, write_varint};
use crate::{DecodeError, EncodeError, PacketId, ProtocolVersion, QoS, TopicError, Utf8};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Whether this may be a repetition: never with QoS 0.
    pub dup: bool,
    /// How hard the message is tried.
    pub qos: QoS,
    /// To a server: keep it. From a server: it was kept, or the subscription asked to see the flag.
    pub retain: bool,
    /// The topic name: no wildcard; empty only in MQTT 5, with a topic alias.
    pub topic: Utf8,
    /// There exactly when the QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// `None` when there are none.
    pub properties: Option<Box<PublishProperties>>,
    /// The message itself.
    pub payload: Bytes,
}

pub(crate) const DUP: u8 = 0b1000;
pub(crate) const RETAIN: u8 = 0b0001;

impl Publish {
    /// A message of QoS 0, not retained, without properties.
    pub fn new(topic: Utf8, payload: Bytes) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: None,
            payload,
        }
    }

    // Inlined into its one caller, so that the packet is made where it is returned and never moved.
    #[inline]
    pub(crate) fn decode(
        flags: u8,
        mut reader: Reader,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        // [MQTT-3.3.1-4]
        let qos =
            QoS::try_from((flags >> 1) & 0b11).map_err(|_| DecodeError::malformed("QoS 3"))?;
        let dup = flags & DUP != 0;
        // [MQTT-3.3.1-2]
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP with QoS 0"));
        }
        let topic = reader.topic()?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id()?),
        };
        let properties = if version.is_v5() {
            properties::read(&mut reader)?
        } else {
            None
        };
        if topic.is_empty() {
            check_alias(properties.as_deref(), version)?;
        }
        let retain = flags & RETAIN != 0;
        Ok(Self {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.packet_id.is_some() != (self.qos > QoS::AtMostOnce)
            || (self.dup && self.packet_id.is_none())
        {
            return Err(EncodeError::PacketId);
        }
        let properties = self.properties.as_deref();
        check_topic(&self.topic, properties, version)?;
        let start = out.len();
        let written = self.write(version, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let properties_len = self.properties.as_ref().map_or(0, |p| p.encoded_len());
        let length = 2
            + self.topic.len()
            + self.packet_id.map_or(0, |_| 2)
            + if version.is_v5() {
                varint_len(properties_len) + properties_len
            } else {
                0
            }
            + self.payload.len();
        out.reserve(5 + length);
        out.push(first_byte(self.qos, self.dup, self.retain));
        write_varint(length, out)?;
        write_binary(self.topic.as_bytes(), out)?;
        if let Some(packet_id) = self.packet_id {
            write_u16(packet_id.get(), out);
        }
        if version.is_v5() {
            properties::write(self.properties.as_deref(), out)?;
        }
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

pub(crate) fn first_byte(qos: QoS, dup: bool, retain: bool) -> u8 {
    kind::PUBLISH << 4
        | if dup { DUP } else { 0 }
        | qos.as_u8() << 1
        | if retain { RETAIN } else { 0 }
}

/// A topic may be empty only where an alias stands for it. `[MQTT-3.3.2-1]`
fn check_alias(
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
) -> Result<(), DecodeError> {
    if !version.is_v5() {
        return Err(TopicError::Empty.into());
    }
    match properties.and_then(|properties| properties.topic_alias) {
        Some(_) => Ok(()),
        None => Err(DecodeError::protocol("neither topic name nor topic alias")),
    }
}

pub(crate) fn check_topic(
    topic: &str,
    properties: Option<&PublishProperties>,
    version: ProtocolVersion,
) -> Result<(), EncodeError> {
    let named = !topic.is_empty() || check_alias(properties, version).is_ok();
    if named && !has_wildcard(topic) {
        Ok(())
    } else {
        Err(EncodeError::Topic)
    }
}
