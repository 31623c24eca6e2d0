//! The wire of MQTT 3.1, 3.1.1 and 5.0: packets to bytes, bytes to packets, topic names and filters.
//!
//! A packet of any version is one model, the one of version 5; older versions leave its properties empty.
//! Decoding shares the frame's bytes and copies nothing; whatever a peer sends is a value or a [`DecodeError`].
//!
//! There is no socket, clock or session here: what a packet means is for others to decide.

// What a peer sends must not be able to panic: indices are the usual way in which it does.
#![warn(clippy::indexing_slicing)]

pub mod codec;
mod error;
pub mod packet;
pub mod properties;
mod publish_frame;
pub mod reason;
pub mod topic;
pub mod topic_tree;

mod packet_id;
mod protocol_version;
mod qos;
mod utf8;
mod wire;

#[doc(hidden)]
pub mod fuzz;

pub use error::{DecodeError, EncodeError};
pub use packet::{
    Auth, ConnAck, Connect, Disconnect, Packet, PubAck, PubComp, PubRec, PubRel, Publish,
    RetainHandling, SubAck, Subscribe, SubscribeOptions, SubscriptionRequest, UnsubAck,
    Unsubscribe, Will,
};
pub use packet_id::PacketId;
pub use properties::{SubscriptionId, TopicAlias};
pub use protocol_version::ProtocolVersion;
pub use publish_frame::{AliasUse, Delivery, PublishFrame};
pub use qos::{QoS, QoSError};
pub use reason::ReasonCode;
pub use topic::{SubscriptionFilter, TopicError, TopicFilter, TopicFilterError, TopicName};
pub use topic_tree::TopicTree;
pub use utf8::{Utf8, Utf8Error};
