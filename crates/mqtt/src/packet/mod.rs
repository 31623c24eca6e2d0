//! The fifteen control packets, one model for all three versions.
//!
//! What a version does not have is left out when a packet of that version is written: properties and most
//! reason codes before MQTT 5, the session-present flag before 3.1.1.

mod acknowledgement;
mod auth;
mod connack;
mod connect;
mod disconnect;
pub(crate) mod publish;
mod suback;
mod subscribe;
mod unsuback;
mod unsubscribe;

pub use acknowledgement::{PubAck, PubComp, PubRec, PubRel};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use publish::Publish;
pub use suback::SubAck;
pub use subscribe::{
    RetainHandling, Subscribe, SubscribeOptions, SubscriptionRequest, SubscriptionRequests,
};
pub use unsuback::UnsubAck;
pub use unsubscribe::{SubscriptionFilters, Unsubscribe};

use crate::wire::Reader;
use crate::{DecodeError, ReasonCode};

/// Any control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A client asks to be connected.
    Connect(Box<Connect>),
    /// The answer to CONNECT.
    ConnAck(Box<ConnAck>),
    /// A message.
    Publish(Publish),
    /// A publish of QoS 1 has arrived.
    PubAck(PubAck),
    /// A publish of QoS 2 has arrived.
    PubRec(PubRec),
    /// The sender of a QoS 2 publish has seen its PUBREC.
    PubRel(PubRel),
    /// A publish of QoS 2 is done.
    PubComp(PubComp),
    /// A client subscribes.
    Subscribe(Subscribe),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck),
    /// A client unsubscribes.
    Unsubscribe(Unsubscribe),
    /// The answer to UNSUBSCRIBE.
    UnsubAck(UnsubAck),
    /// Is anybody there?
    PingReq,
    /// Yes.
    PingResp,
    /// The connection ends in order.
    Disconnect(Disconnect),
    /// A step of an extended authentication: MQTT 5 only.
    Auth(Auth),
}

/// The packet types: the upper half of the first byte.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBSCRIBE: u8 = 10;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

impl Packet {
    /// The packet's name in the standard, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck(_) => "PUBACK",
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::PubComp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::SubAck(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// Reads a reason code and refuses those that the packet cannot have.
fn read_reason(reader: &mut Reader, allowed: &[ReasonCode]) -> Result<ReasonCode, DecodeError> {
    let reason = ReasonCode::from_u8(reader.u8()?)
        .ok_or(DecodeError::malformed("a reason code that does not exist"))?;
    if allowed.contains(&reason) {
        Ok(reason)
    } else {
        Err(DecodeError::protocol(
            "a reason code that this packet does not have",
        ))
    }
}
