//! Reason codes: the outcomes that MQTT 5 names, and how older versions say the same.

use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// A reason code of MQTT 5 (its table 2-6); below 0x80 is success.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $variant = $code,)*
        }

        impl ReasonCode {
            /// Every reason code, lowest first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason code of a byte; `None` for bytes that the standard gives no meaning.
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name for logs, metrics and rules, in snake case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success; normal disconnection; granted QoS 0.
    #[default]
    Success = 0x00, "success";
    /// Granted QoS 1.
    GrantedQoS1 = 0x01, "granted_qos_1";
    /// Granted QoS 2.
    GrantedQoS2 = 0x02, "granted_qos_2";
    /// The client leaves and wants its will sent.
    DisconnectWithWill = 0x04, "disconnect_with_will_message";
    /// Accepted, but nobody subscribes to the topic.
    NoMatchingSubscribers = 0x10, "no_matching_subscribers";
    /// There was nothing to unsubscribe.
    NoSubscriptionExisted = 0x11, "no_subscription_existed";
    /// The authentication exchange goes on.
    ContinueAuthentication = 0x18, "continue_authentication";
    /// The client starts to authenticate again.
    ReAuthenticate = 0x19, "re_authenticate";
    /// Refused, and the reason is not told.
    UnspecifiedError = 0x80, "unspecified_error";
    /// The bytes are not a packet.
    MalformedPacket = 0x81, "malformed_packet";
    /// A packet that the standard does not allow here.
    ProtocolError = 0x82, "protocol_error";
    /// Valid, but not accepted by this implementation.
    ImplementationSpecificError = 0x83, "implementation_specific_error";
    /// The CONNECT asks for a version that is not spoken here.
    UnsupportedProtocolVersion = 0x84, "unsupported_protocol_version";
    /// The client identifier is not accepted.
    ClientIdentifierNotValid = 0x85, "client_identifier_not_valid";
    /// Wrong user name or password.
    BadUserNameOrPassword = 0x86, "bad_user_name_or_password";
    /// The client may not do this.
    NotAuthorized = 0x87, "not_authorized";
    /// The server is not available.
    ServerUnavailable = 0x88, "server_unavailable";
    /// The server is busy.
    ServerBusy = 0x89, "server_busy";
    /// The client was banned.
    Banned = 0x8A, "banned";
    /// The server shuts down.
    ServerShuttingDown = 0x8B, "server_shutting_down";
    /// The authentication method is unknown or not the one of this connection.
    BadAuthenticationMethod = 0x8C, "bad_authentication_method";
    /// Nothing came for one and a half times the keep-alive.
    KeepAliveTimeout = 0x8D, "keep_alive_timeout";
    /// Another connection took the client identifier.
    SessionTakenOver = 0x8E, "session_taken_over";
    /// The topic filter is well formed but not accepted.
    TopicFilterInvalid = 0x8F, "topic_filter_invalid";
    /// The topic name is well formed but not accepted.
    TopicNameInvalid = 0x90, "topic_name_invalid";
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91, "packet_identifier_in_use";
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92, "packet_identifier_not_found";
    /// More publishes in flight than the receive maximum.
    ReceiveMaximumExceeded = 0x93, "receive_maximum_exceeded";
    /// A topic alias that is 0 or above the maximum.
    TopicAliasInvalid = 0x94, "topic_alias_invalid";
    /// The packet is larger than the maximum packet size.
    PacketTooLarge = 0x95, "packet_too_large";
    /// Too many messages per time.
    MessageRateTooHigh = 0x96, "message_rate_too_high";
    /// A limit of the implementation or its administrator is reached.
    QuotaExceeded = 0x97, "quota_exceeded";
    /// Closed by an administrator.
    AdministrativeAction = 0x98, "administrative_action";
    /// The payload is not in the format that it claims.
    PayloadFormatInvalid = 0x99, "payload_format_invalid";
    /// Retained messages are not supported.
    RetainNotSupported = 0x9A, "retain_not_supported";
    /// The quality of service is not supported.
    QoSNotSupported = 0x9B, "qos_not_supported";
    /// The client should use another server for now.
    UseAnotherServer = 0x9C, "use_another_server";
    /// The client should use another server from now on.
    ServerMoved = 0x9D, "server_moved";
    /// Shared subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E, "shared_subscriptions_not_supported";
    /// Too many connections per time.
    ConnectionRateExceeded = 0x9F, "connection_rate_exceeded";
    /// The connection was open for as long as it may be.
    MaximumConnectTime = 0xA0, "maximum_connect_time";
    /// Subscription identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription_identifiers_not_supported";
    /// Wildcards in subscriptions are not supported.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard_subscriptions_not_supported";
}

impl ReasonCode {
    /// The byte on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed.
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The reason code of a SUBACK that grants `qos`.
    pub const fn granted(qos: crate::QoS) -> Self {
        match qos {
            crate::QoS::AtMostOnce => Self::Success,
            crate::QoS::AtLeastOnce => Self::GrantedQoS1,
            crate::QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The return code with which a CONNACK of MQTT 3.1 and 3.1.1 says `reason`; `None` when none says it.
///
/// What is wrong at the server is said as 3, server unavailable: the client may try again.
/// What is wrong with a CONNECT and has no code is not said at all. `[MQTT3-3.2.2-6]`
pub const fn connack_v3(reason: ReasonCode) -> Option<u8> {
    match reason {
        ReasonCode::Success => Some(0),
        ReasonCode::UnsupportedProtocolVersion => Some(1),
        ReasonCode::ClientIdentifierNotValid => Some(2),
        ReasonCode::ServerUnavailable
        | ReasonCode::ServerBusy
        | ReasonCode::UnspecifiedError
        | ReasonCode::ImplementationSpecificError
        | ReasonCode::UseAnotherServer
        | ReasonCode::ServerMoved
        | ReasonCode::ConnectionRateExceeded => Some(3),
        ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => Some(4),
        // A limit of the administrator's: to try again would be in vain.
        ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::QuotaExceeded => Some(5),
        _ => None,
    }
}

/// The reason that a CONNACK return code of MQTT 3.1 and 3.1.1 stands for.
pub const fn from_connack_v3(return_code: u8) -> Option<ReasonCode> {
    match return_code {
        0 => Some(ReasonCode::Success),
        1 => Some(ReasonCode::UnsupportedProtocolVersion),
        2 => Some(ReasonCode::ClientIdentifierNotValid),
        3 => Some(ReasonCode::ServerUnavailable),
        4 => Some(ReasonCode::BadUserNameOrPassword),
        5 => Some(ReasonCode::NotAuthorized),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_byte() {
        for &reason in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_u8(reason.as_u8()), Some(reason));
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
        assert_eq!((0..=255).filter_map(ReasonCode::from_u8).count(), 43);
    }

    #[test]
    fn names_are_unique_and_in_snake_case() {
        let mut names: Vec<_> = ReasonCode::ALL.iter().map(|r| r.name()).collect();
        assert!(names.iter().all(|n| {
            n.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
        }));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ReasonCode::ALL.len());
        assert_eq!(ReasonCode::QuotaExceeded.to_string(), "quota_exceeded");
    }

    #[test]
    fn return_codes_of_older_versions_go_both_ways() {
        for code in 0..=5 {
            assert_eq!(connack_v3(from_connack_v3(code).unwrap()), Some(code));
        }
        assert_eq!(from_connack_v3(6), None);
        assert_eq!(connack_v3(ReasonCode::Banned), Some(5));
        assert_eq!(connack_v3(ReasonCode::QuotaExceeded), Some(5));
        assert_eq!(connack_v3(ReasonCode::TopicNameInvalid), None);
    }
}
