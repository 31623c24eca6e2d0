//! The properties of MQTT 5: one struct for each packet that has any, one typed field for each property allowed there.
//!
//! A property that is not in the struct's list is malformed in that packet; one that may stand once and stands
//! twice is a protocol error. Written order is the order of the fields.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;

use crate::wire::{MAX_VARINT, Reader, varint_len, write_binary, write_u16, write_varint};
use crate::{DecodeError, EncodeError, ReasonCode, TopicName, Utf8};

/// Identifies a subscription in the publishes that it causes: 1 to 268,435,455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The largest identifier.
    pub const MAX: u32 = MAX_VARINT;

    /// The identifier `id`; `None` for 0 and for what a variable byte integer cannot hold.
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) if id.get() <= Self::MAX => Some(Self(id)),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// A number that stands for a topic name on one connection: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicAlias(NonZeroU16);

impl TopicAlias {
    /// The alias `alias`; `None` for 0, which is none. `[MQTT-3.3.2-8]`
    pub const fn new(alias: u16) -> Option<Self> {
        match NonZeroU16::new(alias) {
            Some(alias) => Some(Self(alias)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// What a payload claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Bytes of any kind.
    Unspecified,
    /// UTF-8 text.
    Utf8,
}

/// The QoS above which a server takes no publishes; that it takes all is said by leaving the property out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaximumQoS {
    /// QoS 0 only.
    AtMostOnce,
    /// QoS 0 and 1.
    AtLeastOnce,
}

/// The identifiers of the standard's table 2-4.
mod id {
    pub(super) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(super) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(super) const CONTENT_TYPE: u8 = 0x03;
    pub(super) const RESPONSE_TOPIC: u8 = 0x08;
    pub(super) const CORRELATION_DATA: u8 = 0x09;
    pub(super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(super) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(super) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(super) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(super) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(super) const SERVER_REFERENCE: u8 = 0x1C;
    pub(super) const REASON_STRING: u8 = 0x1F;
    pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(super) const TOPIC_ALIAS: u8 = 0x23;
    pub(super) const MAXIMUM_QOS: u8 = 0x24;
    pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(super) const USER_PROPERTY: u8 = 0x26;
    pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(super) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(super) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(super) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $id:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// Whether no property is set.
            pub fn is_empty(&self) -> bool {
                true $(&& self.$field.is_unset())*
            }
        }

        impl Properties for $name {
            fn read_one(&mut self, id: u8, reader: &mut Reader) -> Result<(), DecodeError> {
                match id {
                    $(id::$id => self.$field.read_into(reader),)*
                    // Section 2.2.2.2: an identifier that is not valid for its packet type is malformed.
                    _ => Err(DecodeError::malformed("a property that this packet does not have")),
                }
            }

            fn encoded_len(&self) -> usize {
                0 $(+ self.$field.encoded_len())*
            }

            fn write_all(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                $(self.$field.write_as(id::$id, out)?;)*
                Ok(())
            }
        }
    )*};
}

properties! {
    /// Properties of a CONNECT.
    ConnectProperties {
        /// How long the session outlives the connection; `u32::MAX` is for ever, none is 0.
        session_expiry_interval_s: Option<u32> = SESSION_EXPIRY_INTERVAL,
        /// How many publishes of QoS 1 and 2 the client takes unacknowledged; none is 65535.
        receive_maximum: Option<NonZeroU16> = RECEIVE_MAXIMUM,
        /// The largest packet that the client takes.
        maximum_packet_size: Option<NonZeroU32> = MAXIMUM_PACKET_SIZE,
        /// The largest topic alias that the client takes; none is 0, no aliases.
        topic_alias_maximum: Option<u16> = TOPIC_ALIAS_MAXIMUM,
        /// Whether the client asks for response information.
        request_response_information: Option<bool> = REQUEST_RESPONSE_INFORMATION,
        /// Whether reason strings and user properties may be sent with failures; none is yes.
        request_problem_information: Option<bool> = REQUEST_PROBLEM_INFORMATION,
        /// Names and values of the client's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
        /// The name of an extended authentication.
        authentication_method: Option<Utf8> = AUTHENTICATION_METHOD,
        /// What the authentication method wants to say.
        authentication_data: Option<Bytes> = AUTHENTICATION_DATA,
    }

    /// Properties of the will in a CONNECT.
    WillProperties {
        /// How long after the connection's end the will is sent; none is 0.
        will_delay_interval_s: Option<u32> = WILL_DELAY_INTERVAL,
        /// What the payload claims to be.
        payload_format_indicator: Option<PayloadFormat> = PAYLOAD_FORMAT_INDICATOR,
        /// How long the message is worth delivering; none is for ever.
        message_expiry_interval_s: Option<u32> = MESSAGE_EXPIRY_INTERVAL,
        /// What the payload is, often a MIME type.
        content_type: Option<Utf8> = CONTENT_TYPE,
        /// Where an answer is expected.
        response_topic: Option<TopicName> = RESPONSE_TOPIC,
        /// What ties the answer to the request.
        correlation_data: Option<Bytes> = CORRELATION_DATA,
        /// Names and values of the publisher's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
    }

    /// Properties of a CONNACK.
    ConnAckProperties {
        /// The session expiry in use where it is not the one asked for.
        session_expiry_interval_s: Option<u32> = SESSION_EXPIRY_INTERVAL,
        /// How many publishes of QoS 1 and 2 the server takes unacknowledged; none is 65535.
        receive_maximum: Option<NonZeroU16> = RECEIVE_MAXIMUM,
        /// The highest QoS that the server takes; none is QoS 2.
        maximum_qos: Option<MaximumQoS> = MAXIMUM_QOS,
        /// Whether retained messages are supported; none is yes.
        retain_available: Option<bool> = RETAIN_AVAILABLE,
        /// The largest packet that the server takes.
        maximum_packet_size: Option<NonZeroU32> = MAXIMUM_PACKET_SIZE,
        /// The client identifier that the server made for a client without one.
        assigned_client_identifier: Option<Utf8> = ASSIGNED_CLIENT_IDENTIFIER,
        /// The largest topic alias that the server takes; none is 0, no aliases.
        topic_alias_maximum: Option<u16> = TOPIC_ALIAS_MAXIMUM,
        /// The reason for people.
        reason_string: Option<Utf8> = REASON_STRING,
        /// Names and values of the server's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
        /// Whether filters may have wildcards; none is yes.
        wildcard_subscription_available: Option<bool> = WILDCARD_SUBSCRIPTION_AVAILABLE,
        /// Whether subscriptions may have identifiers; none is yes.
        subscription_identifier_available: Option<bool> = SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        /// Whether subscriptions may be shared; none is yes.
        shared_subscription_available: Option<bool> = SHARED_SUBSCRIPTION_AVAILABLE,
        /// The keep-alive that the client must use instead of its own.
        server_keep_alive_s: Option<u16> = SERVER_KEEP_ALIVE,
        /// The basis for response topics.
        response_information: Option<Utf8> = RESPONSE_INFORMATION,
        /// The server to use instead.
        server_reference: Option<Utf8> = SERVER_REFERENCE,
        /// The name of the extended authentication.
        authentication_method: Option<Utf8> = AUTHENTICATION_METHOD,
        /// What the authentication method wants to say.
        authentication_data: Option<Bytes> = AUTHENTICATION_DATA,
    }

    /// Properties of a PUBLISH.
    PublishProperties {
        /// What the payload claims to be.
        payload_format_indicator: Option<PayloadFormat> = PAYLOAD_FORMAT_INDICATOR,
        /// How long the message is worth delivering; none is for ever.
        message_expiry_interval_s: Option<u32> = MESSAGE_EXPIRY_INTERVAL,
        /// The number that stands for the topic.
        topic_alias: Option<TopicAlias> = TOPIC_ALIAS,
        /// Where an answer is expected.
        response_topic: Option<TopicName> = RESPONSE_TOPIC,
        /// What ties the answer to the request.
        correlation_data: Option<Bytes> = CORRELATION_DATA,
        /// Names and values of the publisher's own, in its order. `[MQTT-3.3.2-18]`
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
        /// The subscriptions that caused this copy: only from a server to a client.
        subscription_identifiers: Vec<SubscriptionId> = SUBSCRIPTION_IDENTIFIER,
        /// What the payload is, often a MIME type.
        content_type: Option<Utf8> = CONTENT_TYPE,
    }

    /// Properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    AckProperties {
        /// The reason for people.
        reason_string: Option<Utf8> = REASON_STRING,
        /// Names and values of the sender's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
    }

    /// Properties of a SUBSCRIBE.
    SubscribeProperties {
        /// Identifies these subscriptions in the publishes that they cause.
        subscription_identifier: Option<SubscriptionId> = SUBSCRIPTION_IDENTIFIER,
        /// Names and values of the client's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
    }

    /// Properties of an UNSUBSCRIBE.
    UnsubscribeProperties {
        /// Names and values of the client's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
    }

    /// Properties of a DISCONNECT.
    DisconnectProperties {
        /// The session expiry from now on: only from a client.
        session_expiry_interval_s: Option<u32> = SESSION_EXPIRY_INTERVAL,
        /// The reason for people.
        reason_string: Option<Utf8> = REASON_STRING,
        /// Names and values of the sender's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
        /// The server to use instead: only from a server.
        server_reference: Option<Utf8> = SERVER_REFERENCE,
    }

    /// Properties of an AUTH.
    AuthProperties {
        /// The name of the extended authentication.
        authentication_method: Option<Utf8> = AUTHENTICATION_METHOD,
        /// What the authentication method wants to say.
        authentication_data: Option<Bytes> = AUTHENTICATION_DATA,
        /// The reason for people.
        reason_string: Option<Utf8> = REASON_STRING,
        /// Names and values of the sender's own.
        user_properties: Vec<(Utf8, Utf8)> = USER_PROPERTY,
    }
}

/// The properties of one kind of packet.
pub(crate) trait Properties: Default {
    fn read_one(&mut self, id: u8, reader: &mut Reader) -> Result<(), DecodeError>;
    /// The length of all properties, without the length that stands in front of them.
    fn encoded_len(&self) -> usize;
    fn write_all(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// Reads the length and the properties; nothing is made for an empty block.
pub(crate) fn read<P: Properties>(reader: &mut Reader) -> Result<Option<Box<P>>, DecodeError> {
    let len = reader.varint()?;
    if len == 0 {
        return Ok(None);
    }
    let mut block = reader.block(len)?;
    let mut properties = Box::<P>::default();
    while !block.is_empty() {
        let id = block.u8()?;
        properties.read_one(id, &mut block)?;
    }
    Ok(Some(properties))
}

/// Writes the length and the properties.
pub(crate) fn write<P: Properties>(
    properties: Option<&P>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match properties {
        Some(properties) => {
            write_varint(properties.encoded_len(), out)?;
            properties.write_all(out)
        }
        None => {
            out.push(0);
            Ok(())
        }
    }
}

/// The place of a property in its struct: once at most, or as often as it comes.
trait Place {
    fn read_into(&mut self, reader: &mut Reader) -> Result<(), DecodeError>;
    fn encoded_len(&self) -> usize;
    fn write_as(&self, id: u8, out: &mut Vec<u8>) -> Result<(), EncodeError>;
    fn is_unset(&self) -> bool;
}

impl<V: Value> Place for Option<V> {
    fn read_into(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let value = V::read(reader)?;
        match self.replace(value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::protocol("a property stands twice")),
        }
    }

    fn encoded_len(&self) -> usize {
        self.as_ref().map_or(0, |value| 1 + value.encoded_len())
    }

    fn write_as(&self, id: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.as_ref().map_or(Ok(()), |value| {
            out.push(id);
            value.write(out)
        })
    }

    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

impl<V: Value> Place for Vec<V> {
    fn read_into(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        self.push(V::read(reader)?);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.iter().map(|value| 1 + value.encoded_len()).sum()
    }

    fn write_as(&self, id: u8, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.iter().try_for_each(|value| {
            out.push(id);
            value.write(out)
        })
    }

    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

/// A value of a property as it stands on the wire.
trait Value: Sized {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;
    fn encoded_len(&self) -> usize;
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

macro_rules! value {
    ($type:ty, |$reader:ident| $read:expr, |$it:ident| $len:expr, |$value:ident, $out:ident| $write:expr) => {
        impl Value for $type {
            fn read($reader: &mut Reader) -> Result<Self, DecodeError> {
                $read
            }

            fn encoded_len(&self) -> usize {
                let $it = self;
                $len
            }

            fn write(&self, $out: &mut Vec<u8>) -> Result<(), EncodeError> {
                let $value = self;
                $write
            }
        }
    };
}

value!(
    bool,
    |reader| match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol(
            "a property that is 0 or 1 has another value"
        )),
    },
    |_it| 1,
    |value, out| {
        out.push(u8::from(*value));
        Ok(())
    }
);
value!(u16, |reader| reader.u16(), |_it| 2, |value, out| {
    write_u16(*value, out);
    Ok(())
});
value!(u32, |reader| reader.u32(), |_it| 4, |value, out| {
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
});
value!(
    NonZeroU16,
    |reader| Self::new(reader.u16()?).ok_or(DecodeError::protocol("receive maximum 0")),
    |_it| 2,
    |value, out| value.get().write(out)
);
value!(
    NonZeroU32,
    |reader| Self::new(reader.u32()?).ok_or(DecodeError::protocol("maximum packet size 0")),
    |_it| 4,
    |value, out| value.get().write(out)
);
value!(
    TopicAlias,
    |reader| Self::new(reader.u16()?).ok_or(DecodeError::new(
        ReasonCode::TopicAliasInvalid,
        "topic alias 0"
    )),
    |_it| 2,
    |value, out| value.get().write(out)
);
value!(
    SubscriptionId,
    |reader| Self::new(reader.varint()?).ok_or(DecodeError::protocol("subscription identifier 0")),
    |it| varint_len(it.get() as usize),
    |value, out| write_varint(value.get() as usize, out)
);
value!(
    PayloadFormat,
    |reader| match reader.u8()? {
        0 => Ok(Self::Unspecified),
        1 => Ok(Self::Utf8),
        _ => Err(DecodeError::protocol("payload format indicator above 1")),
    },
    |_it| 1,
    |value, out| matches!(value, PayloadFormat::Utf8).write(out)
);
value!(
    MaximumQoS,
    |reader| match reader.u8()? {
        0 => Ok(Self::AtMostOnce),
        1 => Ok(Self::AtLeastOnce),
        _ => Err(DecodeError::protocol("maximum QoS above 1")),
    },
    |_it| 1,
    |value, out| matches!(value, MaximumQoS::AtLeastOnce).write(out)
);
value!(
    Utf8,
    |reader| reader.utf8(),
    |it| 2 + it.len(),
    |value, out| write_binary(value.bytes(), out)
);
value!(
    Bytes,
    |reader| reader.binary(),
    |it| 2 + it.len(),
    |value, out| write_binary(value, out)
);
value!(
    TopicName,
    |reader| Self::parse(reader.utf8()?).map_err(DecodeError::from),
    |it| 2 + it.len(),
    |value, out| write_binary(value.as_utf8().bytes(), out)
);
value!(
    (Utf8, Utf8),
    |reader| Ok((reader.utf8()?, reader.utf8()?)),
    |it| 4 + it.0.len() + it.1.len(),
    |value, out| {
        value.0.write(out)?;
        value.1.write(out)
    }
);

/// Writes subscription identifiers as properties of a PUBLISH.
pub(crate) fn write_subscription_ids(
    ids: &[SubscriptionId],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    ids.iter().try_for_each(|value| {
        out.push(id::SUBSCRIPTION_IDENTIFIER);
        value.write(out)
    })
}

/// The length of what [`write_subscription_ids`] writes.
pub(crate) fn subscription_ids_len(ids: &[SubscriptionId]) -> usize {
    ids.iter().map(|value| 1 + value.encoded_len()).sum()
}
