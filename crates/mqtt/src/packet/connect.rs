//! CONNECT: the first packet, which says the version of all that follow.
//!
//! An error from here says in which version the refusal can be answered, as far as the bytes told.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::kind;
use crate::properties::{self, ConnectProperties, WillProperties};
use crate::wire::{Reader, write_binary, write_frame, write_u16};
use crate::{DecodeError, EncodeError, ProtocolVersion, QoS, ReasonCode, TopicName, Utf8};

/// A client asks to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version of this and all following packets of the connection.
    pub version: ProtocolVersion,
    /// Whether to forget a session kept from before. Before MQTT 5 the same flag, "clean session",
    /// also says that this session ends with the connection.
    pub clean_start: bool,
    /// The longest silence of the client in seconds; 0: it may be silent for ever.
    pub keep_alive_s: u16,
    /// Who the client is; empty: the server makes a name.
    pub client_id: Utf8,
    /// The message to send for the client when it is lost.
    pub will: Option<Will>,
    /// The user name.
    pub username: Option<Utf8>,
    /// The password, or a token; only MQTT 5 allows it without a user name.
    pub password: Option<Bytes>,
    /// Empty before MQTT 5.
    pub properties: ConnectProperties,
}

/// The message that a server sends for a client that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where it goes.
    pub topic: TopicName,
    /// What it says: at most 65535 bytes.
    pub payload: Bytes,
    /// How hard it is tried.
    pub qos: QoS,
    /// Whether it is kept for later subscribers.
    pub retain: bool,
    /// Empty before MQTT 5.
    pub properties: WillProperties,
}

/// The connect flags.
mod flag {
    pub(super) const RESERVED: u8 = 0b0000_0001;
    pub(super) const CLEAN_START: u8 = 0b0000_0010;
    pub(super) const WILL: u8 = 0b0000_0100;
    pub(super) const WILL_QOS: u8 = 0b0001_1000;
    pub(super) const WILL_RETAIN: u8 = 0b0010_0000;
    pub(super) const PASSWORD: u8 = 0b0100_0000;
    pub(super) const USERNAME: u8 = 0b1000_0000;
}

impl Connect {
    /// A clean start without will, credentials and properties, and without keep-alive.
    pub fn new(version: ProtocolVersion, client_id: Utf8) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// The largest packet that the client takes. `[MQTT-3.1.2-24]`
    pub fn max_packet_size(&self) -> usize {
        let size = self
            .properties
            .maximum_packet_size
            .map_or(u32::MAX, NonZeroU32::get);
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// The version, of what may not be complete.
    pub(crate) fn version_of(mut begun: Reader) -> Option<ProtocolVersion> {
        read_version(&mut begun).ok()
    }

    pub(crate) fn decode(mut reader: Reader) -> Result<Self, DecodeError> {
        let version = read_version(&mut reader)?;
        read_body(reader, version).map_err(|error| error.answer_in(version))
    }

    /// Appends the packet, in its own version.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let v5 = self.version.is_v5();
        if self.password.is_some() && self.username.is_none() && !v5 {
            return Err(EncodeError::PasswordWithoutUserName);
        }
        if !client_id_allowed(self.version, &self.client_id, self.clean_start) {
            return Err(EncodeError::ClientIdentifier);
        }
        if v5 && data_without_method(&self.properties) {
            return Err(EncodeError::AuthenticationMethod);
        }
        write_frame(kind::CONNECT << 4, out, |out| {
            write_binary(self.version.protocol_name().as_bytes(), out)?;
            out.extend_from_slice(&[self.version.level(), self.flags()]);
            write_u16(self.keep_alive_s, out);
            if v5 {
                properties::write(Some(&self.properties), out)?;
            }
            write_binary(self.client_id.bytes(), out)?;
            if let Some(will) = &self.will {
                if v5 {
                    properties::write(Some(&will.properties), out)?;
                }
                write_binary(will.topic.as_bytes(), out)?;
                write_binary(&will.payload, out)?;
            }
            if let Some(username) = &self.username {
                write_binary(username.bytes(), out)?;
            }
            self.password
                .as_ref()
                .map_or(Ok(()), |password| write_binary(password, out))
        })
    }

    fn flags(&self) -> u8 {
        let when = |set: bool, flag: u8| if set { flag } else { 0 };
        let will = self.will.as_ref().map_or(0, |will| {
            flag::WILL | will.qos.as_u8() << 3 | when(will.retain, flag::WILL_RETAIN)
        });
        will | when(self.clean_start, flag::CLEAN_START)
            | when(self.username.is_some(), flag::USERNAME)
            | when(self.password.is_some(), flag::PASSWORD)
    }
}

/// Reads protocol name and level, and finds how an unknown version can be told so.
fn read_version(reader: &mut Reader) -> Result<ProtocolVersion, DecodeError> {
    let name = reader.binary()?;
    let known = ProtocolVersion::ALL
        .iter()
        .any(|v| v.protocol_name().as_bytes() == &name[..]);
    if !known {
        // [MQTT-3.1.2-1] Something else than MQTT is closed without an answer.
        return Err(unsupported("the protocol name is not one of MQTT"));
    }
    let level = reader.u8()?;
    let version = ProtocolVersion::ALL
        .into_iter()
        .find(|v| v.level() == level && v.protocol_name().as_bytes() == &name[..]);
    // [MQTT-3.1.2-2] Level 6 and up is somebody newer, who reads a CONNACK of version 5. Level 5 under the old
    // name, what is older, and levels with the top bit set (some bridges set it) read the old one.
    version.ok_or_else(|| {
        let answer_in = match level {
            6..0x80 => ProtocolVersion::V5,
            _ => ProtocolVersion::V3_1_1,
        };
        unsupported("the protocol level is not known").answer_in(answer_in)
    })
}

const fn unsupported(detail: &'static str) -> DecodeError {
    DecodeError::new(ReasonCode::UnsupportedProtocolVersion, detail)
}

fn read_body(mut reader: Reader, version: ProtocolVersion) -> Result<Connect, DecodeError> {
    let flags = reader.u8()?;
    check_flags(flags, version)?;
    let clean_start = flags & flag::CLEAN_START != 0;
    let keep_alive_s = reader.u16()?;
    let properties: ConnectProperties = read_properties(&mut reader, version)?;
    let connect = Connect {
        version,
        clean_start,
        keep_alive_s,
        client_id: Utf8::default(),
        will: None,
        username: None,
        password: None,
        properties,
    };
    let most = connect.max_packet_size();
    read_payload(reader, flags, connect).map_err(|error| error.taken_up_to(most))
}

/// Reads what stands behind the properties.
fn read_payload(mut reader: Reader, flags: u8, head: Connect) -> Result<Connect, DecodeError> {
    let version = head.version;
    let client_id = reader.utf8()?;
    let will = match flags & flag::WILL {
        0 => None,
        _ => Some(read_will(&mut reader, flags, version)?),
    };
    // In MQTT 3.1 the packet's end goes before the flags: what is announced may be missing.
    let cut_short = |reader: &Reader| version == ProtocolVersion::V3_1 && reader.is_empty();
    let username = match flags & flag::USERNAME {
        0 => None,
        _ if cut_short(&reader) => None,
        _ => Some(reader.utf8()?),
    };
    let password = match flags & flag::PASSWORD {
        0 => None,
        _ if cut_short(&reader) => None,
        _ => Some(reader.binary()?),
    };
    reader.finish()?;
    if !client_id_allowed(version, &client_id, head.clean_start) {
        // [MQTT3-3.1.3-8]
        let detail = "an empty client identifier with a session that is to be kept";
        return Err(DecodeError::new(
            ReasonCode::ClientIdentifierNotValid,
            detail,
        ));
    }
    if data_without_method(&head.properties) {
        return Err(DecodeError::protocol(
            "authentication data without a method",
        ));
    }
    Ok(Connect {
        client_id,
        will,
        username,
        password,
        ..head
    })
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    // MQTT 3.1, section 3.1: the reserved flag is not used, and without a will what is said of it is disregarded.
    let is_strict = version != ProtocolVersion::V3_1;
    // [MQTT-3.1.2-3]
    if is_strict && flags & flag::RESERVED != 0 {
        return Err(DecodeError::malformed("the reserved connect flag is set"));
    }
    // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    let says_how = flags & (flag::WILL_QOS | flag::WILL_RETAIN) != 0;
    if is_strict && flags & flag::WILL == 0 && says_how {
        return Err(DecodeError::malformed(
            "will QoS or will retain without a will",
        ));
    }
    // [MQTT3-3.1.2-22]
    if !version.is_v5() && flags & flag::USERNAME == 0 && flags & flag::PASSWORD != 0 {
        return Err(DecodeError::malformed("a password without a user name"));
    }
    Ok(())
}

fn read_will(
    reader: &mut Reader,
    flags: u8,
    version: ProtocolVersion,
) -> Result<Will, DecodeError> {
    // [MQTT-3.1.2-12]
    let qos = QoS::try_from((flags & flag::WILL_QOS) >> 3)
        .map_err(|_| DecodeError::malformed("will QoS 3"))?;
    let properties = read_properties(reader, version)?;
    let topic = TopicName::parse(reader.utf8()?)?;
    let payload = reader.binary()?;
    Ok(Will {
        topic,
        payload,
        qos,
        retain: flags & flag::WILL_RETAIN != 0,
        properties,
    })
}

fn read_properties<P: properties::Properties>(
    reader: &mut Reader,
    version: ProtocolVersion,
) -> Result<P, DecodeError> {
    if !version.is_v5() {
        return Ok(P::default());
    }
    Ok(properties::read(reader)?
        .map(|boxed| *boxed)
        .unwrap_or_default())
}

/// Whether the version lets a client without a name in.
fn client_id_allowed(version: ProtocolVersion, client_id: &str, clean_start: bool) -> bool {
    match version {
        ProtocolVersion::V3_1 => !client_id.is_empty(),
        ProtocolVersion::V3_1_1 => !client_id.is_empty() || clean_start,
        ProtocolVersion::V5 => true,
    }
}

fn data_without_method(properties: &ConnectProperties) -> bool {
    properties.authentication_data.is_some() && properties.authentication_method.is_none()
}
