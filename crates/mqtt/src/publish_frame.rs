//! A PUBLISH that goes to many: encoded once for a protocol version, written for each receiver with a few copies.
//!
//! Receivers differ in QoS, packet identifier, retain flag and subscription identifiers; topic, properties
//! and payload are the same bytes for all.

use bytes::Bytes;

use crate::packet::publish::{check_topic, first_byte};
use crate::properties::{
    self, Properties, PublishProperties, subscription_ids_len, write_subscription_ids,
};
use crate::wire::{MAX_VARINT, varint_len, write_binary, write_u16, write_varint};
use crate::{EncodeError, PacketId, ProtocolVersion, QoS, SubscriptionId, TopicAlias};

/// A message in one protocol version, ready to be written to any number of receivers.
#[derive(Clone, Debug)]
pub struct PublishFrame {
    version: ProtocolVersion,
    /// The packet as it is with QoS 0 and without flags, up to the payload or, where that is short, with it.
    encoded: Vec<u8>,
    /// Where in `encoded` the fixed header ends.
    topic_at: usize,
    /// Where the topic ends: the packet identifier goes here.
    properties_at: usize,
    /// The length of the properties, without the length in front of them.
    properties_len: usize,
    /// Where the properties end and the payload begins.
    payload_at: usize,
    payload: Bytes,
}

/// How one receiver gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Comes back in the PUBACK.
        packet_id: PacketId,
        /// Whether it was sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Comes back in the PUBREC.
        packet_id: PacketId,
        /// Whether it was sent before.
        dup: bool,
    },
}

/// The topic alias of one delivery, MQTT 5 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasUse {
    /// The alias is told beside the topic name, and stands for it from then on.
    Introduce(TopicAlias),
    /// The alias stands in place of the topic name, which is left empty. `[MQTT-3.3.2-1]`
    InPlace(TopicAlias),
}

impl AliasUse {
    /// Bytes of the property: identifier and number.
    pub const PROPERTY_LEN: usize = 3;
    const PROPERTY_ID: u8 = 0x23;

    fn write(self, out: &mut Vec<u8>) {
        let (Self::Introduce(alias) | Self::InPlace(alias)) = self;
        out.push(Self::PROPERTY_ID);
        write_u16(alias.get(), out);
    }
}

impl Delivery {
    /// The quality of service.
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce { .. } => QoS::AtLeastOnce,
            Self::ExactlyOnce { .. } => QoS::ExactlyOnce,
        }
    }

    const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { packet_id, .. } | Self::ExactlyOnce { packet_id, .. } => {
                Some(packet_id)
            }
        }
    }

    fn first_byte(self, retain: bool) -> u8 {
        let dup = match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        };
        first_byte(self.qos(), dup, retain)
    }
}

impl PublishFrame {
    /// Payloads up to this length are kept beside the topic, so that most deliveries are one copy.
    const SHORT_PAYLOAD: usize = 4096;

    /// Prepares a message. `properties` do not count before MQTT 5.
    pub fn new(
        topic: &str,
        properties: Option<&PublishProperties>,
        payload: &Bytes,
        version: ProtocolVersion,
    ) -> Result<Self, EncodeError> {
        Self::new_in(Vec::new(), topic, properties, payload, version)
    }

    /// The same in a buffer that was used before, so that nothing need be allocated. See
    /// [`into_buffer`](Self::into_buffer).
    pub fn new_in(
        buffer: Vec<u8>,
        topic: &str,
        properties: Option<&PublishProperties>,
        payload: &Bytes,
        version: ProtocolVersion,
    ) -> Result<Self, EncodeError> {
        check_topic(topic, properties, version)?;
        let properties_len = match properties {
            Some(properties) if version.is_v5() => properties.encoded_len(),
            _ => 0,
        };
        let mut length = 2 + topic.len() + payload.len();
        if version.is_v5() {
            length += varint_len(properties_len) + properties_len;
        }
        let inline = payload.len() <= Self::SHORT_PAYLOAD;
        let whole = 1 + varint_len(length) + length;
        let apart = if inline { 0 } else { payload.len() };
        let mut encoded = buffer;
        encoded.clear();
        encoded.reserve(whole - apart);
        encoded.push(Delivery::AtMostOnce.first_byte(false));
        write_varint(length, &mut encoded)?;
        let topic_at = encoded.len();
        write_binary(topic.as_bytes(), &mut encoded)?;
        let properties_at = encoded.len();
        if version.is_v5() {
            properties::write(properties, &mut encoded)?;
        }
        let payload_at = encoded.len();
        if inline {
            encoded.extend_from_slice(payload);
        }
        Ok(Self {
            version,
            encoded,
            topic_at,
            properties_at,
            properties_len,
            payload_at,
            payload: payload.clone(),
        })
    }

    /// The version that this was prepared for.
    pub const fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// The length on the wire, to be held against a receiver's maximum packet size.
    pub fn len(&self, qos: QoS, subscription_ids: &[SubscriptionId]) -> usize {
        let remaining = self.remaining_length(qos > QoS::AtMostOnce, subscription_ids, None);
        1 + varint_len(remaining) + remaining
    }

    /// The topic's bytes.
    pub fn topic(&self) -> &[u8] {
        let (head, _) = self.head().split_at(self.properties_at);
        let (_, topic) = head.split_at(self.topic_at);
        topic.split_at(2.min(topic.len())).1
    }

    /// The payload, shared: what follows [`write_head`](Self::write_head).
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The whole packet with QoS 0, without retain and subscription identifiers, in one piece;
    /// `None` when the payload is too long to be kept beside the rest.
    pub fn at_most_once(&self) -> Option<&[u8]> {
        self.is_inline().then_some(&self.encoded)
    }

    /// The buffer, for the next message.
    pub fn into_buffer(self) -> Vec<u8> {
        self.encoded
    }

    /// Appends the packet. Subscription identifiers do not count before MQTT 5. On an error `out` is as before.
    pub fn write(
        &self,
        delivery: Delivery,
        retain: bool,
        subscription_ids: &[SubscriptionId],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        // Almost every fan-out is this case, and one copy is all of it.
        if delivery == Delivery::AtMostOnce && subscription_ids.is_empty() && self.is_inline() {
            append_with_first_byte(delivery.first_byte(retain), &self.encoded, out);
            return Ok(());
        }
        self.write_head(delivery, retain, subscription_ids, out)?;
        out.extend_from_slice(&self.payload);
        Ok(())
    }

    /// Appends all of the packet but its [`payload`](Self::payload), which must follow: so that a long one can
    /// be sent from where it is. On an error `out` is as before.
    pub fn write_head(
        &self,
        delivery: Delivery,
        retain: bool,
        subscription_ids: &[SubscriptionId],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.write_head_aliased(delivery, retain, subscription_ids, None, out)
    }

    /// [`write_head`](Self::write_head) with a topic alias, which does not count before MQTT 5.
    pub fn write_head_aliased(
        &self,
        delivery: Delivery,
        retain: bool,
        subscription_ids: &[SubscriptionId],
        alias: Option<AliasUse>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let (head, properties) = self.head().split_at(self.properties_at);
        let (_, topic) = head.split_at(self.topic_at);
        let alias = alias.filter(|_| self.version.is_v5());
        let has_packet_id = delivery.packet_id().is_some();
        let remaining = self.remaining_length(has_packet_id, subscription_ids, alias);
        if remaining > MAX_VARINT as usize {
            return Err(EncodeError::TooLarge);
        }
        // With room for the payload too where that is copied after it.
        let rest = if self.is_inline() {
            remaining
        } else {
            self.payload_at
        };
        out.reserve(rest + 5);
        out.push(delivery.first_byte(retain));
        write_varint(remaining, out)?;
        match alias {
            Some(AliasUse::InPlace(_)) => write_u16(0, out),
            _ => out.extend_from_slice(topic),
        }
        if let Some(packet_id) = delivery.packet_id() {
            write_u16(packet_id.get(), out);
        }
        let added = self.added_properties(subscription_ids, alias);
        if added == 0 {
            out.extend_from_slice(properties);
            return Ok(());
        }
        write_varint(self.properties_len + added, out)?;
        if let Some(alias) = alias {
            alias.write(out);
        }
        write_subscription_ids(subscription_ids, out)?;
        let (_, properties) = properties.split_at(varint_len(self.properties_len));
        out.extend_from_slice(properties);
        Ok(())
    }

    /// Bytes of the properties that only one receiver gets.
    fn added_properties(
        &self,
        subscription_ids: &[SubscriptionId],
        alias: Option<AliasUse>,
    ) -> usize {
        if !self.version.is_v5() {
            return 0;
        }
        let alias = alias.map_or(0, |_| AliasUse::PROPERTY_LEN);
        alias + subscription_ids_len(subscription_ids)
    }

    fn remaining_length(
        &self,
        has_packet_id: bool,
        subscription_ids: &[SubscriptionId],
        alias: Option<AliasUse>,
    ) -> usize {
        let packet_id = if has_packet_id { 2 } else { 0 };
        let mut length = self.payload_at - self.topic_at + packet_id + self.payload.len();
        let added = self.added_properties(subscription_ids, alias);
        if added > 0 {
            length +=
                added + varint_len(self.properties_len + added) - varint_len(self.properties_len);
        }
        if let Some(AliasUse::InPlace(_)) = alias {
            length -= self.properties_at - self.topic_at - 2;
        }
        length
    }

    fn head(&self) -> &[u8] {
        self.encoded.split_at(self.payload_at).0
    }

    fn is_inline(&self) -> bool {
        self.encoded.len() == self.payload_at + self.payload.len()
    }
}

fn append_with_first_byte(first: u8, packet: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(packet);
    if let Some(byte) = out.get_mut(start) {
        *byte = first;
    }
}
