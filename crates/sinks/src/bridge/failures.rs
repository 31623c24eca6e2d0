//! Why there was no link: the reasons that are counted.

use super::client::Failure;
use super::reconnect::Loss;
use crate::codes;

/// Why an attempt or a link failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The remote was not reached, or the link broke.
    Network,
    /// It did not answer in time, or did not acknowledge.
    Timeout,
    /// There was no secure connection.
    Tls,
    /// It refused the credentials, or there are none that are valid.
    Credentials,
    /// Something else has taken the identity.
    TakenOver,
    /// It does not speak the version of MQTT.
    Version,
    /// It closed the link over a message.
    Message,
    /// This machine's clock is not set.
    Clock,
    /// What must be read or written here cannot be.
    Here,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Network,
        Self::Timeout,
        Self::Tls,
        Self::Credentials,
        Self::TakenOver,
        Self::Version,
        Self::Message,
        Self::Clock,
        Self::Here,
    ];

    /// The reason in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Credentials => "credentials",
            Self::TakenOver => "taken_over",
            Self::Version => "version",
            Self::Message => "message",
            Self::Clock => "clock",
            Self::Here => "here",
        }
    }

    /// `None` where the link was only made anew, has ended on purpose, or was not tried.
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        Some(match (failure.loss, failure.error.code()) {
            (Loss::Renewal | Loss::Rest | Loss::Barred, _) => return None,
            (Loss::Credentials, _) | (_, codes::NOT_RENEWED | codes::TOKEN) => Self::Credentials,
            (Loss::TakenOver, _) => Self::TakenOver,
            (Loss::Version, _) => Self::Version,
            (Loss::Message, _) => Self::Message,
            (_, codes::TIMEOUT | codes::ACK_OVERDUE) => Self::Timeout,
            (_, codes::TLS) => Self::Tls,
            (_, codes::CLOCK_UNSET) => Self::Clock,
            (_, codes::FILE | codes::INPUTS | codes::BRIDGE) => Self::Here,
            (Loss::Network | Loss::HungUp | Loss::Dismissed, _) => Self::Network,
        })
    }
}
