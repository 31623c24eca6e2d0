//! CONNECT: what a client may have of what it asks for.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use weir_mqtt::properties::{ConnAckProperties, MaximumQoS};
use weir_mqtt::{ConnAck, Connect, ProtocolVersion, QoS, ReasonCode, Utf8};

use super::session::{Link, NEVER_EXPIRES};

/// The parts of MQTT that an operator can switch off. Clients of MQTT 5 are told in CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The highest QoS that clients may publish with. Subscriptions may ask for any.
    pub max_qos: QoS,
    /// Whether messages may be retained.
    pub retain: bool,
    /// Whether filters may have wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether subscriptions may be shared.
    pub shared_subscriptions: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifiers: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            max_qos: QoS::ExactlyOnce,
            retain: true,
            wildcard_subscriptions: true,
            shared_subscriptions: true,
            subscription_identifiers: true,
        }
    }
}

impl Capabilities {
    /// Why a message with this QoS and RETAIN flag cannot be taken.
    pub fn refuse_publish(&self, qos: QoS, retain: bool) -> Option<Refused> {
        if qos > self.max_qos {
            // [MQTT-3.2.2-11] [MQTT-3.2.2-12]
            return Some(Refused::new(
                ReasonCode::QoSNotSupported,
                "the QoS is above the maximum QoS of this server",
            ));
        }
        // [MQTT-3.2.2-13] [MQTT-3.2.2-14]
        (retain && !self.retain).then_some(Refused::new(
            ReasonCode::RetainNotSupported,
            "this server does not retain messages",
        ))
    }

    /// What an MQTT 5 client is told; what is not told is available.
    fn tell(&self, properties: &mut ConnAckProperties) {
        let unless = |available: bool| (!available).then_some(false);
        // [MQTT-3.2.2-9]
        properties.maximum_qos = match self.max_qos {
            QoS::AtMostOnce => Some(MaximumQoS::AtMostOnce),
            QoS::AtLeastOnce => Some(MaximumQoS::AtLeastOnce),
            QoS::ExactlyOnce => None,
        };
        properties.retain_available = unless(self.retain);
        properties.wildcard_subscription_available = unless(self.wildcard_subscriptions);
        properties.shared_subscription_available = unless(self.shared_subscriptions);
        properties.subscription_identifier_available = unless(self.subscription_identifiers);
    }
}

/// A refusal: the code for programs and a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub reason: ReasonCode,
    /// What is wrong and which limit says so.
    pub why: &'static str,
}

impl Refused {
    /// A refusal.
    pub const fn new(reason: ReasonCode, why: &'static str) -> Self {
        Self { reason, why }
    }
}

/// What the broker grants at most.
#[derive(Clone, Copy, Debug)]
pub struct ConnectLimits {
    /// The longest client identifier, in bytes.
    pub client_id: usize,
    /// The most levels of a topic.
    pub topic_levels: usize,
    /// The receive maximum, both ways.
    pub receive_maximum: u16,
    /// The largest packet that is read.
    pub packet_size: usize,
    /// The highest topic alias of the client.
    pub topic_alias: u16,
    /// The highest topic alias of the broker.
    pub topic_alias_out: u16,
    /// The longest life of a session without connection, in seconds.
    pub session_expiry_s: u32,
    /// The longest keep-alive.
    pub keep_alive_s: Option<u16>,
    /// Whether clients that send an empty identifier get one.
    pub empty_client_ids: bool,
    /// Whether MQTT 3.1 clients are held to identifiers of 1 to 23 characters.
    pub short_v31_client_ids: bool,
    /// What clients may do at all.
    pub capabilities: Capabilities,
}

/// What one client gets.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The client identifier, sent or assigned, in memory of its own.
    pub client_id: Utf8,
    /// Whether the broker chose it.
    pub assigned: bool,
    /// What the session must know.
    pub link: Link,
    /// Seconds without a packet that the client promises not to exceed; 0: any.
    pub keep_alive_s: u16,
    /// Seconds that the session outlives the connection.
    pub session_expiry_s: u32,
    /// What the client asked for and did not get; for CONNACK.
    overrides: ConnAckProperties,
}

/// Checks a CONNECT against the limits. `assign` makes a client identifier for a client that sent none.
pub fn admit(
    connect: &Connect,
    limits: &ConnectLimits,
    assign: impl FnOnce() -> Utf8,
) -> Result<Admission, Refused> {
    check_client_id(connect, limits)?;
    check_will(connect, limits)?;
    let assigned = connect.client_id.is_empty();
    let client_id = if assigned {
        assign()
    } else {
        connect.client_id.detached()
    };
    let mut overrides = ConnAckProperties::default();
    if assigned {
        // [MQTT-3.2.2-16]
        overrides.assigned_client_identifier = Some(client_id.clone());
    }
    Ok(Admission {
        client_id,
        assigned,
        link: Link {
            version: connect.version,
            receive_maximum: receive_maximum(connect).min(limits.receive_maximum),
            max_packet_size: max_packet_size(connect),
            topic_aliases: topic_aliases(connect).min(limits.topic_alias_out),
        },
        keep_alive_s: keep_alive(connect, limits, &mut overrides),
        session_expiry_s: session_expiry(connect, limits, &mut overrides),
        overrides,
    })
}

fn check_client_id(connect: &Connect, limits: &ConnectLimits) -> Result<(), Refused> {
    let refused = |why| Err(Refused::new(ReasonCode::ClientIdentifierNotValid, why));
    if connect.client_id.len() > limits.client_id {
        return refused("the client identifier is longer than this server allows");
    }
    // [MQTT-3.1.3-6] A server may make one. [MQTT-3.1.3-8] [MQTT3-3.1.3-9]
    if connect.client_id.is_empty() && !limits.empty_client_ids {
        return refused("this server wants a client identifier");
    }
    // MQTT 3.1, section 3.1: between 1 and 23 characters. Few clients keep to it, so it is the operator's choice.
    if limits.short_v31_client_ids
        && connect.version == ProtocolVersion::V3_1
        && connect.client_id.chars().count() > 23
    {
        return refused("MQTT 3.1 allows 23 characters in a client identifier");
    }
    Ok(())
}

fn check_will(connect: &Connect, limits: &ConnectLimits) -> Result<(), Refused> {
    let Some(will) = &connect.will else {
        return Ok(());
    };
    if will.topic.starts_with("$SYS/") {
        let why = "only the broker publishes to $SYS";
        return Err(Refused::new(ReasonCode::NotAuthorized, why));
    }
    if will.topic.split('/').count() > limits.topic_levels {
        let why = "the will topic has more levels than this server allows";
        return Err(Refused::new(ReasonCode::TopicNameInvalid, why));
    }
    let refused = limits.capabilities.refuse_publish(will.qos, will.retain);
    refused.map_or(Ok(()), Err)
}

/// `[MQTT-3.1.2-26]` `[MQTT-3.1.2-27]`
fn topic_aliases(connect: &Connect) -> u16 {
    connect.properties.topic_alias_maximum.unwrap_or(0)
}

fn receive_maximum(connect: &Connect) -> u16 {
    connect
        .properties
        .receive_maximum
        .map_or(u16::MAX, NonZeroU16::get)
}

/// The largest packet that the client takes.
pub fn max_packet_size(connect: &Connect) -> usize {
    connect.max_packet_size()
}

/// `[MQTT-3.2.2-21]` Only MQTT 5 clients can be told another keep-alive than their own.
fn keep_alive(connect: &Connect, limits: &ConnectLimits, overrides: &mut ConnAckProperties) -> u16 {
    let asked = connect.keep_alive_s;
    match limits.keep_alive_s {
        Some(longest) if connect.version.is_v5() && (asked == 0 || asked > longest) => {
            overrides.server_keep_alive_s = Some(longest);
            longest
        }
        _ => asked,
    }
}

/// Versions before 5 have no number: a session that is kept is kept for as long as the broker keeps any.
fn session_expiry(
    connect: &Connect,
    limits: &ConnectLimits,
    overrides: &mut ConnAckProperties,
) -> u32 {
    let longest = limits.session_expiry_s;
    if !connect.version.is_v5() {
        return if connect.clean_start { 0 } else { longest };
    }
    let asked = connect.properties.session_expiry_interval_s.unwrap_or(0);
    if asked > longest {
        overrides.session_expiry_interval_s = Some(longest);
    }
    asked.min(longest)
}

/// The session expiry interval that a DISCONNECT asks for; `None` when it may not ask.
pub fn expiry_at_disconnect(
    connected_with_s: u32,
    asked_s: Option<u32>,
    limits: &ConnectLimits,
) -> Option<u32> {
    match asked_s {
        // [MQTT-3.14.2-2] in the words of 3.14.2.2.2: what was 0 at CONNECT stays 0.
        Some(seconds) if seconds > 0 && connected_with_s == 0 => None,
        Some(seconds) => Some(seconds.min(limits.session_expiry_s)),
        None => Some(connected_with_s),
    }
}

impl Admission {
    /// The method by which the client signed in, and the method's last word. `[MQTT-4.12.0-5]`
    pub fn set_authentication(&mut self, method: Utf8, data: Option<Bytes>) {
        self.overrides.authentication_method = Some(method);
        self.overrides.authentication_data = data;
    }

    /// What the client gets as the basis of its response topics.
    pub fn set_response_information(&mut self, information: Option<Utf8>) {
        self.overrides.response_information = information;
    }

    /// The broker knows the client under another name than its client identifier.
    pub fn rename(&mut self, client_id: Utf8) {
        if self.assigned {
            // [MQTT-3.2.2-16]
            self.overrides.assigned_client_identifier = Some(client_id.clone());
        }
        self.client_id = client_id;
    }

    /// The CONNACK that welcomes the client.
    pub fn connack(&self, session_present: bool, limits: &ConnectLimits) -> ConnAck {
        let mut connack = ConnAck::accepted(session_present);
        if self.link.version.is_v5() {
            let packet_size = u32::try_from(limits.packet_size).unwrap_or(u32::MAX);
            connack.properties = ConnAckProperties {
                receive_maximum: NonZeroU16::new(limits.receive_maximum),
                maximum_packet_size: NonZeroU32::new(packet_size),
                topic_alias_maximum: (limits.topic_alias > 0).then_some(limits.topic_alias),
                ..self.overrides.clone()
            };
            limits.capabilities.tell(&mut connack.properties);
        }
        connack
    }
}

/// The longest session expiry as MQTT says it, in seconds.
pub fn session_expiry_s(longest: std::time::Duration) -> u32 {
    u32::try_from(longest.as_secs()).unwrap_or(NEVER_EXPIRES)
}

#[cfg(test)]
mod tests {
    use weir_mqtt::ProtocolVersion;

    use super::*;

    const LIMITS: ConnectLimits = ConnectLimits {
        client_id: 10,
        topic_levels: 4,
        receive_maximum: 32,
        packet_size: 1000,
        topic_alias: 5,
        session_expiry_s: 100,
        keep_alive_s: Some(60),
        topic_alias_out: 4,
        empty_client_ids: true,
        short_v31_client_ids: true,
        capabilities: Capabilities {
            max_qos: QoS::AtLeastOnce,
            retain: false,
            wildcard_subscriptions: true,
            shared_subscriptions: false,
            subscription_identifiers: true,
        },
    };

    fn connect(version: ProtocolVersion, client_id: &'static str) -> Connect {
        Connect::new(version, Utf8::from(client_id))
    }

    fn admitted(connect: &Connect) -> Admission {
        admit(connect, &LIMITS, || Utf8::from("WEIR-1")).unwrap()
    }

    #[test]
    fn an_mqtt5_client_is_told_what_it_did_not_get() {
        let mut connect = connect(ProtocolVersion::V5, "");
        connect.properties.session_expiry_interval_s = Some(1000);
        let admission = admitted(&connect);
        let properties = admission.connack(false, &LIMITS).properties;
        assert_eq!(
            properties.assigned_client_identifier,
            Some(Utf8::from("WEIR-1"))
        );
        assert_eq!(properties.session_expiry_interval_s, Some(100));
        assert_eq!(properties.server_keep_alive_s, Some(60));
        assert_eq!(properties.topic_alias_maximum, Some(5));
        assert_eq!(
            (admission.session_expiry_s, admission.keep_alive_s),
            (100, 60)
        );
    }

    #[test]
    fn an_older_client_keeps_its_keep_alive_and_has_a_session_or_none() {
        let mut connect = connect(ProtocolVersion::V3_1_1, "a");
        connect.keep_alive_s = 600;
        assert_eq!(
            (
                admitted(&connect).session_expiry_s,
                admitted(&connect).keep_alive_s
            ),
            (0, 600)
        );
        connect.clean_start = false;
        assert_eq!(admitted(&connect).session_expiry_s, 100);
        assert_eq!(
            admitted(&connect).connack(true, &LIMITS).properties,
            ConnAckProperties::default()
        );
    }

    #[test]
    fn the_receive_maximum_is_the_lower_of_both() {
        let mut connect = connect(ProtocolVersion::V5, "a");
        assert_eq!(admitted(&connect).link.receive_maximum, 32);
        connect.properties.receive_maximum = NonZeroU16::new(3);
        assert_eq!(admitted(&connect).link.receive_maximum, 3);
    }

    fn refused(connect: &Connect) -> ReasonCode {
        let refused = admit(connect, &LIMITS, || Utf8::from("x")).unwrap_err();
        assert!(!refused.why.is_empty());
        refused.reason
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let long = connect(ProtocolVersion::V5, "12345678901");
        assert_eq!(refused(&long), ReasonCode::ClientIdentifierNotValid);
        let will = |qos, retain| {
            let mut connect = connect(ProtocolVersion::V5, "a");
            connect.will = Some(weir_mqtt::Will {
                topic: weir_mqtt::TopicName::new("gone").unwrap(),
                payload: Bytes::new(),
                qos,
                retain,
                properties: weir_mqtt::properties::WillProperties::default(),
            });
            connect
        };
        let qos2 = will(QoS::ExactlyOnce, false);
        assert_eq!(refused(&qos2), ReasonCode::QoSNotSupported);
        let retained = will(QoS::AtLeastOnce, true);
        assert_eq!(refused(&retained), ReasonCode::RetainNotSupported);
    }

    #[test]
    fn only_mqtt_3_1_is_held_to_23_characters_where_that_is_wanted() {
        let limits = ConnectLimits {
            client_id: 100,
            ..LIMITS
        };
        let id = "123456789012345678901234";
        let is_taken = |version| admit(&connect(version, id), &limits, Utf8::default).is_ok();
        assert!(!is_taken(ProtocolVersion::V3_1));
        assert!(is_taken(ProtocolVersion::V3_1_1) && is_taken(ProtocolVersion::V5));
    }

    #[test]
    fn what_is_switched_off_is_told_and_what_is_not_is_left_out() {
        let connack = admitted(&connect(ProtocolVersion::V5, "a")).connack(false, &LIMITS);
        let properties = connack.properties;
        assert_eq!(properties.maximum_qos, Some(MaximumQoS::AtLeastOnce));
        assert_eq!(properties.retain_available, Some(false));
        assert_eq!(properties.shared_subscription_available, Some(false));
        assert_eq!(properties.wildcard_subscription_available, None);
        assert_eq!(properties.subscription_identifier_available, None);
    }

    #[test]
    fn the_broker_gives_no_more_aliases_than_either_side_allows() {
        let mut connect = connect(ProtocolVersion::V5, "a");
        assert_eq!(admitted(&connect).link.topic_aliases, 0);
        connect.properties.topic_alias_maximum = Some(3);
        assert_eq!(admitted(&connect).link.topic_aliases, 3);
        connect.properties.topic_alias_maximum = Some(30);
        assert_eq!(admitted(&connect).link.topic_aliases, 4);
    }

    #[test]
    fn a_session_that_was_to_end_with_its_connection_cannot_be_prolonged_at_disconnect() {
        assert_eq!(expiry_at_disconnect(0, Some(5), &LIMITS), None);
        assert_eq!(expiry_at_disconnect(5, Some(7), &LIMITS), Some(7));
        assert_eq!(expiry_at_disconnect(5, Some(700), &LIMITS), Some(100));
        assert_eq!(expiry_at_disconnect(5, Some(0), &LIMITS), Some(0));
        assert_eq!(expiry_at_disconnect(5, None, &LIMITS), Some(5));
    }
}
