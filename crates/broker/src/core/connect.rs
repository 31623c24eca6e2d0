//! CONNECT: what a client may have of what it asks for.

use std::num::{NonZeroU16, NonZeroU32};

use weir_mqtt::properties::ConnAckProperties;
use weir_mqtt::{ConnAck, Connect, ReasonCode, Utf8};

use super::session::{Link, NEVER_EXPIRES};

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
    /// The longest life of a session without connection, in seconds.
    pub session_expiry_s: u32,
    /// The longest keep-alive.
    pub keep_alive_s: Option<u16>,
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
) -> Result<Admission, ReasonCode> {
    if connect.client_id.len() > limits.client_id {
        return Err(ReasonCode::ClientIdentifierNotValid);
    }
    // [MQTT-4.12.0-1] There is no extended authentication yet.
    if connect.properties.authentication_method.is_some() {
        return Err(ReasonCode::BadAuthenticationMethod);
    }
    if let Some(will) = &connect.will {
        if will.topic.starts_with("$SYS/") {
            return Err(ReasonCode::NotAuthorized);
        }
        if will.topic.split('/').count() > limits.topic_levels {
            return Err(ReasonCode::TopicNameInvalid);
        }
    }
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
        },
        keep_alive_s: keep_alive(connect, limits, &mut overrides),
        session_expiry_s: session_expiry(connect, limits, &mut overrides),
        overrides,
    })
}

fn receive_maximum(connect: &Connect) -> u16 {
    connect
        .properties
        .receive_maximum
        .map_or(u16::MAX, NonZeroU16::get)
}

/// The largest packet that the client takes.
pub fn max_packet_size(connect: &Connect) -> usize {
    let size = connect
        .properties
        .maximum_packet_size
        .map_or(u32::MAX, NonZeroU32::get);
    usize::try_from(size).unwrap_or(usize::MAX)
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

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let refused = |connect: &Connect| admit(connect, &LIMITS, || Utf8::from("x")).unwrap_err();
        let long = connect(ProtocolVersion::V5, "12345678901");
        assert_eq!(refused(&long), ReasonCode::ClientIdentifierNotValid);
        let mut method = connect(ProtocolVersion::V5, "a");
        method.properties.authentication_method = Some(Utf8::from("X"));
        assert_eq!(refused(&method), ReasonCode::BadAuthenticationMethod);
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
