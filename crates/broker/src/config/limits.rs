//! `[limits]`: what one client, and all together, may do in a while.

use serde::Deserialize;

use super::{ByteSize, Span};
use crate::core::flapping::FlappingLimits;
use crate::core::limits::{ClientLimits, LimitSettings, WhenExceeded};
use crate::core::token_bucket::Rate;

/// `[limits]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// PUBLISH packets of one client.
    pub messages: Option<Count>,
    /// Bytes of one client.
    pub bytes: Option<Size>,
    /// What becomes of a client that sends more.
    pub when_exceeded: WhenExceeded,
    /// The largest payload; larger messages are refused, the client stays.
    pub max_payload: Option<ByteSize>,
    /// CONNECT packets of all clients.
    pub connect_rate: Option<Count>,
    /// CONNECT packets from one address, or one /64 of IPv6.
    pub connect_rate_per_address: Option<Count>,
    /// Clients that come and go all the time.
    pub flapping: Option<Flapping>,
}

/// So many a second.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(rename = "Rate"))]
pub struct Count {
    /// In the long run.
    pub per_second: u64,
    /// At once; as many as in a second unless set.
    pub burst: Option<u64>,
}

/// So many bytes a second.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(rename = "ByteRate"))]
pub struct Size {
    /// In the long run.
    pub per_second: ByteSize,
    /// At once; as many as in a second unless set.
    pub burst: Option<ByteSize>,
}

/// `limits.flapping`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Flapping {
    /// Ends of connections that are too many.
    pub disconnects: u32,
    /// In this time.
    pub within: Span,
    /// How long the client stays out.
    pub ban: Span,
}

impl Count {
    fn rate(self) -> Rate {
        Rate {
            per_second: self.per_second,
            burst: self.burst.unwrap_or(self.per_second),
        }
    }
}

impl Size {
    fn rate(self) -> Rate {
        let bytes = |size: ByteSize| size.bytes() as u64;
        Rate {
            per_second: bytes(self.per_second),
            burst: bytes(self.burst.unwrap_or(self.per_second)),
        }
    }
}

impl Limits {
    /// What cannot be.
    pub(super) fn check(&self, refuse: &mut impl FnMut(String, &str)) {
        let rates = [
            ("messages", self.messages.map(Count::rate)),
            ("bytes", self.bytes.map(Size::rate)),
            ("connect_rate", self.connect_rate.map(Count::rate)),
            (
                "connect_rate_per_address",
                self.connect_rate_per_address.map(Count::rate),
            ),
        ];
        for (key, rate) in rates {
            if rate.is_some_and(|rate| rate.per_second == 0 || rate.burst == 0) {
                refuse(
                    format!("limits.{key} lets nothing through"),
                    "per_second and burst must be at least 1; leave the key out for no limit",
                );
            }
        }
        if self
            .flapping
            .is_some_and(|flapping| flapping.disconnects < 2)
        {
            refuse(
                "limits.flapping.disconnects is less than 2".to_owned(),
                "every client disconnects once",
            );
        }
    }

    /// The limits as the MQTT server takes them.
    pub fn settings(&self) -> LimitSettings {
        let ms = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        LimitSettings {
            client: ClientLimits {
                messages: self.messages.map(Count::rate),
                bytes: self.bytes.map(Size::rate),
                when_exceeded: self.when_exceeded,
                max_payload: self.max_payload.map(ByteSize::bytes),
            },
            connects: self.connect_rate.map(Count::rate),
            connects_per_address: self.connect_rate_per_address.map(Count::rate),
            flapping: self.flapping.map(|flapping| FlappingLimits {
                disconnects: flapping.disconnects,
                within_ms: ms(flapping.within),
                ban_ms: ms(flapping.ban),
            }),
        }
    }
}
