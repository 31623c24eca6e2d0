//! Any packet that a version can say.
//!
//! Strategies are boxed, since a debug build would run out of stack on the large ones.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use weir_mqtt::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties,
    MaximumQoS, PayloadFormat, PublishProperties, SubscribeProperties, UnsubscribeProperties,
    WillProperties,
};
use weir_mqtt::{
    Auth, ConnAck, Connect, Disconnect, Packet, PacketId, ProtocolVersion, PubAck, PubComp, PubRec,
    PubRel, Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions,
    SubscriptionFilter, SubscriptionId, SubscriptionRequest, TopicAlias, TopicFilter, TopicName,
    UnsubAck, Unsubscribe, Utf8, Will,
};

pub(crate) fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(ProtocolVersion::ALL.to_vec())
}

pub(crate) fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(PacketId::from)
}

pub(crate) fn subscription_id() -> impl Strategy<Value = SubscriptionId> {
    (1..=SubscriptionId::MAX).prop_filter_map("in range", SubscriptionId::new)
}

pub(crate) fn binary() -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from).boxed()
}

fn utf8() -> BoxedStrategy<Utf8> {
    prop_oneof![
        "[a-z0-9]{0,12}",
        "[^\\x00]{0,40}",
        // The length no longer fits in one byte.
        "[a-z]{250,260}",
    ]
    .prop_filter_map("fit for the wire", |text| Utf8::try_from(text).ok())
    .boxed()
}

pub(crate) fn topic_name() -> BoxedStrategy<TopicName> {
    prop_oneof!["[a-c/$]{1,8}", "[^\\x00+#]{1,20}"]
        .prop_filter_map("a topic name", |name| TopicName::new(&name).ok())
        .boxed()
}

pub(crate) fn topic_filter() -> BoxedStrategy<TopicFilter> {
    let level = prop_oneof![3 => "[a-c$]{0,2}", 2 => Just("+".to_owned()), 1 => "[^\\x00+#/]{0,4}"];
    let end = prop_oneof![Just(None), Just(Some("#".to_owned()))];
    (vec(level, 0..6), end)
        .prop_map(|(mut levels, end)| {
            levels.extend(end);
            levels.join("/")
        })
        .prop_filter_map("a topic filter", |filter| TopicFilter::parse(&filter).ok())
        .boxed()
}

fn subscription_filter() -> BoxedStrategy<SubscriptionFilter> {
    let group = prop_oneof![Just("$queue".to_owned()), "[^\\x00+#/]{1,5}"]
        .prop_filter_map("a group", |group| Utf8::try_from(group).ok());
    (of(group), topic_filter())
        .prop_map(|(share, filter)| SubscriptionFilter { share, filter })
        // A filter that looks shared without being so is another one when it is read.
        .prop_filter("reads as itself", |filter| {
            filter.share.is_some() || !filter.filter.as_str().starts_with('$')
        })
        .boxed()
}

fn user_properties() -> BoxedStrategy<Vec<(Utf8, Utf8)>> {
    vec((utf8(), utf8()), 0..3).boxed()
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn payload_format() -> impl Strategy<Value = PayloadFormat> {
    select(vec![PayloadFormat::Unspecified, PayloadFormat::Utf8])
}

fn reason(codes: &'static [ReasonCode]) -> impl Strategy<Value = ReasonCode> {
    select(codes)
}

/// Reasons that are allowed in all acknowledgements of publishes.
const RECEIPT: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::QuotaExceeded,
];
const RELEASE: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];
const CONNACK: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::Banned,
    ReasonCode::ServerMoved,
];
const CONNACK_V3: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::UnsupportedProtocolVersion,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::ServerUnavailable,
    ReasonCode::BadUserNameOrPassword,
    ReasonCode::NotAuthorized,
];
const SUBACK: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS2,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::WildcardSubscriptionsNotSupported,
];
const SUBACK_V3: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::GrantedQoS1,
    ReasonCode::GrantedQoS2,
    ReasonCode::UnspecifiedError,
];
const UNSUBACK: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoSubscriptionExisted,
    ReasonCode::NotAuthorized,
];
const DISCONNECT: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::DisconnectWithWill,
    ReasonCode::SessionTakenOver,
];

fn connect_properties() -> BoxedStrategy<ConnectProperties> {
    let numbers = (
        of(any::<u32>()),
        of(any::<NonZeroU16>()),
        of(any::<NonZeroU32>()),
        of(any::<u16>()),
        of(any::<bool>()),
        of(any::<bool>()),
    );
    (numbers, user_properties(), of((utf8(), of(binary()))))
        .prop_map(|(numbers, user, auth)| {
            let (method, data) = auth.map_or((None, None), |(method, data)| (Some(method), data));
            ConnectProperties {
                session_expiry_interval_s: numbers.0,
                receive_maximum: numbers.1,
                maximum_packet_size: numbers.2,
                topic_alias_maximum: numbers.3,
                request_response_information: numbers.4,
                request_problem_information: numbers.5,
                user_properties: user,
                authentication_method: method,
                authentication_data: data,
            }
        })
        .boxed()
}

fn will_properties() -> BoxedStrategy<WillProperties> {
    (
        of(any::<u32>()),
        of(payload_format()),
        of(any::<u32>()),
        of(utf8()),
        of(topic_name()),
        of(binary()),
        user_properties(),
    )
        .prop_map(|it| WillProperties {
            will_delay_interval_s: it.0,
            payload_format_indicator: it.1,
            message_expiry_interval_s: it.2,
            content_type: it.3,
            response_topic: it.4,
            correlation_data: it.5,
            user_properties: it.6,
        })
        .boxed()
}

fn connack_properties() -> BoxedStrategy<ConnAckProperties> {
    let numbers = (
        of(any::<u32>()),
        of(any::<NonZeroU16>()),
        of(select(vec![
            MaximumQoS::AtMostOnce,
            MaximumQoS::AtLeastOnce,
        ])),
        of(any::<NonZeroU32>()),
        of(any::<u16>()),
        of(any::<u16>()),
    );
    let texts = (
        of(utf8()),
        of(utf8()),
        of(utf8()),
        of(utf8()),
        of(utf8()),
        of(binary()),
    );
    (numbers, texts, user_properties(), vec(of(any::<bool>()), 4))
        .prop_map(
            |(numbers, texts, user_properties, bools)| ConnAckProperties {
                session_expiry_interval_s: numbers.0,
                receive_maximum: numbers.1,
                maximum_qos: numbers.2,
                retain_available: bools[0],
                maximum_packet_size: numbers.3,
                assigned_client_identifier: texts.0,
                topic_alias_maximum: numbers.4,
                reason_string: texts.1,
                user_properties,
                wildcard_subscription_available: bools[1],
                subscription_identifier_available: bools[2],
                shared_subscription_available: bools[3],
                server_keep_alive_s: numbers.5,
                response_information: texts.2,
                server_reference: texts.3,
                authentication_method: texts.4,
                authentication_data: texts.5,
            },
        )
        .boxed()
}

pub(crate) fn publish_properties() -> BoxedStrategy<PublishProperties> {
    (
        of(payload_format()),
        of(any::<u32>()),
        of(any::<NonZeroU16>().prop_filter_map("above 0", |alias| TopicAlias::new(alias.get()))),
        of(topic_name()),
        of(binary()),
        user_properties(),
        vec(subscription_id(), 0..3),
        of(utf8()),
    )
        .prop_map(|it| PublishProperties {
            payload_format_indicator: it.0,
            message_expiry_interval_s: it.1,
            topic_alias: it.2,
            response_topic: it.3,
            correlation_data: it.4,
            user_properties: it.5,
            subscription_identifiers: it.6,
            content_type: it.7,
        })
        .boxed()
}

/// Properties for the packet: none before version 5, and none rather than an empty block.
macro_rules! some_properties {
    ($version:expr, $strategy:expr) => {
        of($strategy).prop_map(move |properties| {
            properties
                .filter(|p| $version.is_v5() && !p.is_empty())
                .map(Box::new)
        })
    };
}

fn ack_properties() -> BoxedStrategy<AckProperties> {
    (of(utf8()), user_properties())
        .prop_map(|(reason_string, user_properties)| AckProperties {
            reason_string,
            user_properties,
        })
        .boxed()
}

fn connect(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let will = (
        topic_name(),
        binary(),
        qos(),
        any::<bool>(),
        will_properties(),
    );
    let named = (of(utf8()), of(binary()), connect_properties());
    (any::<bool>(), any::<u16>(), utf8(), of(will), named)
        .prop_map(
            move |(
                clean_start,
                keep_alive_s,
                client_id,
                will,
                (username, password, properties),
            )| {
                let v5 = version.is_v5();
                let nobody = client_id.is_empty() && !v5;
                Packet::Connect(Box::new(Connect {
                    version,
                    clean_start,
                    keep_alive_s,
                    client_id: if nobody { "somebody".into() } else { client_id },
                    will: will.map(|(topic, payload, qos, retain, properties)| Will {
                        topic,
                        payload,
                        qos,
                        retain,
                        properties: if v5 {
                            properties
                        } else {
                            WillProperties::default()
                        },
                    }),
                    password: password.filter(|_| v5 || username.is_some()),
                    username,
                    properties: if v5 {
                        properties
                    } else {
                        ConnectProperties::default()
                    },
                }))
            },
        )
        .boxed()
}

fn connack(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let codes = if version.is_v5() { CONNACK } else { CONNACK_V3 };
    (any::<bool>(), reason(codes), connack_properties())
        .prop_map(move |(present, reason, properties)| {
            Packet::ConnAck(Box::new(ConnAck {
                session_present: present
                    && reason == ReasonCode::Success
                    && version > ProtocolVersion::V3_1,
                reason,
                properties: if version.is_v5() {
                    properties
                } else {
                    ConnAckProperties::default()
                },
            }))
        })
        .boxed()
}

fn publish(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let properties = some_properties!(version, publish_properties());
    (
        any::<bool>(),
        qos(),
        any::<bool>(),
        topic_name(),
        packet_id(),
        properties,
        binary(),
    )
        .prop_map(
            move |(dup, qos, retain, topic, packet_id, properties, payload)| {
                let alias = properties.as_ref().is_some_and(|p| p.topic_alias.is_some());
                Packet::Publish(Publish {
                    dup: dup && qos > QoS::AtMostOnce,
                    qos,
                    retain,
                    topic: if alias && retain {
                        Utf8::default()
                    } else {
                        topic.into_utf8()
                    },
                    packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
                    properties,
                    payload,
                })
            },
        )
        .boxed()
}

macro_rules! acknowledgement {
    ($version:expr, $name:ident, $codes:expr) => {
        (
            packet_id(),
            reason($codes),
            some_properties!($version, ack_properties()),
        )
            .prop_map(move |(packet_id, reason, properties)| {
                let reason = if $version.is_v5() {
                    reason
                } else {
                    ReasonCode::Success
                };
                Packet::$name($name {
                    packet_id,
                    reason,
                    properties,
                })
            })
    };
}

fn subscribe(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let handling = select(vec![
        RetainHandling::OnSubscribe,
        RetainHandling::OnNewSubscription,
        RetainHandling::Never,
    ]);
    let request = (
        subscription_filter(),
        qos(),
        any::<bool>(),
        any::<bool>(),
        handling,
    )
        .prop_map(
            move |(filter, qos, no_local, retain_as_published, retain_handling)| {
                SubscriptionRequest {
                    options: if version.is_v5() {
                        let no_local = no_local && filter.share.is_none();
                        SubscribeOptions {
                            qos,
                            no_local,
                            retain_as_published,
                            retain_handling,
                        }
                    } else {
                        SubscribeOptions::with_qos(qos)
                    },
                    filter,
                }
            },
        );
    let properties = (of(subscription_id()), user_properties()).prop_map(
        |(subscription_identifier, user_properties)| SubscribeProperties {
            subscription_identifier,
            user_properties,
        },
    );
    (
        packet_id(),
        vec(request, 1..5),
        some_properties!(version, properties),
    )
        .prop_map(|(packet_id, requests, properties)| {
            Packet::Subscribe(Subscribe {
                packet_id,
                requests,
                properties,
            })
        })
        .boxed()
}

fn suback(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let codes = if version.is_v5() { SUBACK } else { SUBACK_V3 };
    (
        packet_id(),
        vec(reason(codes), 1..5),
        some_properties!(version, ack_properties()),
    )
        .prop_map(|(packet_id, reasons, properties)| {
            Packet::SubAck(SubAck {
                packet_id,
                reasons,
                properties,
            })
        })
        .boxed()
}

fn unsubscribe(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let properties =
        user_properties().prop_map(|user_properties| UnsubscribeProperties { user_properties });
    (
        packet_id(),
        vec(subscription_filter(), 1..5),
        some_properties!(version, properties),
    )
        .prop_map(|(packet_id, filters, properties)| {
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                filters,
                properties,
            })
        })
        .boxed()
}

fn unsuback(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    (
        packet_id(),
        vec(reason(UNSUBACK), 1..5),
        some_properties!(version, ack_properties()),
    )
        .prop_map(move |(packet_id, reasons, properties)| {
            let reasons = if version.is_v5() { reasons } else { Vec::new() };
            Packet::UnsubAck(UnsubAck {
                packet_id,
                reasons,
                properties,
            })
        })
        .boxed()
}

fn disconnect(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let properties = (of(any::<u32>()), of(utf8()), user_properties(), of(utf8())).prop_map(
        |(session_expiry_interval_s, reason_string, user_properties, server_reference)| {
            DisconnectProperties {
                session_expiry_interval_s,
                reason_string,
                user_properties,
                server_reference,
            }
        },
    );
    (reason(DISCONNECT), some_properties!(version, properties))
        .prop_map(move |(reason, properties)| {
            let reason = if version.is_v5() {
                reason
            } else {
                ReasonCode::Success
            };
            Packet::Disconnect(Disconnect { reason, properties })
        })
        .boxed()
}

fn auth() -> BoxedStrategy<Packet> {
    let codes = &[
        ReasonCode::Success,
        ReasonCode::ContinueAuthentication,
        ReasonCode::ReAuthenticate,
    ];
    let properties = (utf8(), of(binary()), of(utf8()), user_properties());
    (reason(codes), properties)
        .prop_map(|(reason, it)| {
            let properties = AuthProperties {
                authentication_method: Some(it.0),
                authentication_data: it.1,
                reason_string: it.2,
                user_properties: it.3,
            };
            Packet::Auth(Auth {
                reason,
                properties: Some(Box::new(properties)),
            })
        })
        .boxed()
}

/// Any packet that `version` can say.
pub(crate) fn packet(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        connect(version),
        connack(version),
        publish(version),
        acknowledgement!(version, PubAck, RECEIPT),
        acknowledgement!(version, PubRec, RECEIPT),
        acknowledgement!(version, PubRel, RELEASE),
        acknowledgement!(version, PubComp, RELEASE),
        subscribe(version),
        suback(version),
        unsubscribe(version),
    ];
    let rest = prop_oneof![
        unsuback(version),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
        disconnect(version),
    ];
    if version.is_v5() {
        prop_oneof![10 => common, 4 => rest, 1 => auth()].boxed()
    } else {
        prop_oneof![10 => common, 4 => rest].boxed()
    }
}
