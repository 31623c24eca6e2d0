//! The quality of service of a message or a subscription.

use std::fmt;

/// How hard a message is tried: lower is weaker, so the lesser of two is their `min`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// Sent once and forgotten.
    #[default]
    AtMostOnce = 0,
    /// Sent until PUBACK.
    AtLeastOnce = 1,
    /// Sent until PUBREC, released with PUBREL, done with PUBCOMP.
    ExactlyOnce = 2,
}

/// A number that is no quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quality of service is 0, 1 or 2, not {0}")]
pub struct QoSError(pub u8);

impl QoS {
    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for QoS {
    type Error = QoSError;

    fn try_from(number: u8) -> Result<Self, QoSError> {
        match number {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            other => Err(QoSError(other)),
        }
    }
}

impl From<QoS> for u8 {
    fn from(qos: QoS) -> Self {
        qos.as_u8()
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_u8().fmt(f)
    }
}
