//! The names of broker events and the fields that each kind of source has (rule-SQL §4.2, §4.3).

/// One broker event that a rule can name in FROM.
#[derive(Debug, PartialEq, Eq)]
pub struct EventName {
    /// The canonical topic, e.g. `$events/client/connected`.
    pub topic: &'static str,
    /// The older spelling, where there is one, e.g. `$events/client_connected`.
    pub legacy: Option<&'static str>,
    /// The value of the field `event`, e.g. `client.connected`.
    pub event: &'static str,
    /// The fields besides `event`, `timestamp`, `node` and `metadata`.
    pub fields: &'static [&'static str],
}

impl EventName {
    /// The event of that topic in either spelling.
    pub fn find(topic: &str) -> Option<&'static Self> {
        EVENTS
            .iter()
            .find(|event| event.topic == topic || event.legacy == Some(topic))
    }
}

/// Every broker event.
pub fn event_names() -> &'static [EventName] {
    EVENTS
}

/// EMQX events of features that weir lacks.
pub(crate) const REFUSED_EVENTS: [(&str, &str); 2] = [
    ("$events/schema_validation", "weir has no schema validation"),
    (
        "$events/message_transformation",
        "weir has no message transformation",
    ),
];

/// The fields that every source has.
const COMMON: &[&str] = &["event", "timestamp", "node", "metadata"];

const PUBLISH: &[&str] = &[
    "id",
    "clientid",
    "username",
    "payload",
    "peerhost",
    "peername",
    "topic",
    "qos",
    "flags",
    "retain",
    "pub_props",
    "publish_received_at",
    "client_attrs",
];

const INGRESS: &[&str] = &[
    "id",
    "server",
    "payload",
    "topic",
    "qos",
    "dup",
    "retain",
    "pub_props",
    "message_received_at",
];

/// The source fields of an event topic; `None` stands for a publish, `Some` of anything unknown for a bridge.
pub(crate) fn fields_of_event(topic: Option<&str>) -> impl Iterator<Item = &'static str> {
    let own = match topic {
        None => PUBLISH,
        Some(topic) => EventName::find(topic).map_or(INGRESS, |event| event.fields),
    };
    own.iter().chain(COMMON).copied()
}

const EVENTS: &[EventName] = &[
    EventName {
        topic: "$events/client/connected",
        legacy: Some("$events/client_connected"),
        event: "client.connected",
        fields: &[
            "clientid",
            "username",
            "mountpoint",
            "peername",
            "sockname",
            "proto_name",
            "proto_ver",
            "keepalive",
            "clean_start",
            "receive_maximum",
            "expiry_interval",
            "is_bridge",
            "connected_at",
            "conn_props",
            "client_attrs",
        ],
    },
    EventName {
        topic: "$events/client/disconnected",
        legacy: Some("$events/client_disconnected"),
        event: "client.disconnected",
        fields: &[
            "reason",
            "clientid",
            "username",
            "peername",
            "sockname",
            "proto_name",
            "proto_ver",
            "disconn_props",
            "disconnected_at",
            "connected_at",
            "client_attrs",
        ],
    },
    EventName {
        topic: "$events/client/connack",
        legacy: Some("$events/client_connack"),
        event: "client.connack",
        fields: &[
            "reason_code",
            "clientid",
            "username",
            "peername",
            "sockname",
            "proto_name",
            "proto_ver",
            "keepalive",
            "clean_start",
            "expiry_interval",
            "connected_at",
            "conn_props",
        ],
    },
    EventName {
        topic: "$events/client/ping",
        legacy: None,
        event: "client.ping",
        fields: &[
            "clientid",
            "username",
            "peername",
            "sockname",
            "proto_name",
            "proto_ver",
            "keepalive",
            "clean_start",
            "expiry_interval",
            "conn_props",
        ],
    },
    EventName {
        topic: "$events/auth/check_authn_complete",
        legacy: Some("$events/client_check_authn_complete"),
        event: "client.check_authn_complete",
        fields: &[
            "clientid",
            "username",
            "peername",
            "reason_code",
            "is_superuser",
            "is_anonymous",
            "client_attrs",
        ],
    },
    EventName {
        topic: "$events/auth/check_authz_complete",
        legacy: Some("$events/client_check_authz_complete"),
        event: "client.check_authz_complete",
        fields: &[
            "clientid",
            "username",
            "peerhost",
            "peername",
            "topic",
            "action",
            "authz_source",
            "result",
            "client_attrs",
        ],
    },
    EventName {
        topic: "$events/session/subscribed",
        legacy: Some("$events/session_subscribed"),
        event: "session.subscribed",
        fields: &[
            "clientid",
            "username",
            "peerhost",
            "peername",
            "topic",
            "qos",
            "sub_props",
            "client_attrs",
        ],
    },
    EventName {
        topic: "$events/session/unsubscribed",
        legacy: Some("$events/session_unsubscribed"),
        event: "session.unsubscribed",
        fields: &[
            "clientid",
            "username",
            "peerhost",
            "peername",
            "topic",
            "qos",
            "unsub_props",
            "client_attrs",
        ],
    },
    EventName {
        topic: "$events/message/delivered",
        legacy: Some("$events/message_delivered"),
        event: "message.delivered",
        fields: &[
            "id",
            "from_clientid",
            "from_username",
            "clientid",
            "username",
            "payload",
            "peerhost",
            "peername",
            "topic",
            "qos",
            "flags",
            "retain",
            "pub_props",
            "publish_received_at",
        ],
    },
    EventName {
        topic: "$events/message/acked",
        legacy: Some("$events/message_acked"),
        event: "message.acked",
        fields: &[
            "id",
            "from_clientid",
            "from_username",
            "clientid",
            "username",
            "payload",
            "peerhost",
            "peername",
            "topic",
            "qos",
            "flags",
            "retain",
            "pub_props",
            "puback_props",
            "publish_received_at",
        ],
    },
    EventName {
        topic: "$events/message/dropped",
        legacy: Some("$events/message_dropped"),
        event: "message.dropped",
        fields: &[
            "id",
            "reason",
            "clientid",
            "username",
            "payload",
            "peerhost",
            "peername",
            "topic",
            "qos",
            "flags",
            "retain",
            "pub_props",
            "publish_received_at",
        ],
    },
    EventName {
        topic: "$events/message/delivery_dropped",
        legacy: Some("$events/delivery_dropped"),
        event: "delivery.dropped",
        fields: &[
            "id",
            "reason",
            "from_clientid",
            "from_username",
            "clientid",
            "username",
            "payload",
            "peerhost",
            "peername",
            "topic",
            "qos",
            "flags",
            "retain",
            "pub_props",
            "publish_received_at",
        ],
    },
    EventName {
        topic: "$events/sys/alarm_activated",
        legacy: None,
        event: "alarm.activated",
        fields: &["name", "details", "message", "activated_at"],
    },
    EventName {
        topic: "$events/sys/alarm_deactivated",
        legacy: None,
        event: "alarm.deactivated",
        fields: &[
            "name",
            "details",
            "message",
            "activated_at",
            "deactivated_at",
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_find_the_same_event() {
        for event in event_names() {
            assert_eq!(EventName::find(event.topic), Some(event));
            if let Some(legacy) = event.legacy {
                assert_eq!(EventName::find(legacy), Some(event));
            }
        }
        assert_eq!(EventName::find("$events/client/nope"), None);
    }
}
