//! Broker events and messages as rules see them (rule-SQL §4.3), and messages that rules made.
//!
//! Built only when a rule listens: whether one does is a flag, looked up once for each generation of the rules.

mod properties;

use std::net::SocketAddr;
use std::sync::Arc;

use weir_mqtt::properties::{AckProperties, DisconnectProperties};
use weir_mqtt::{Connect, ProtocolVersion, QoS, ReasonCode, SubscriptionFilter, TopicName, Utf8};
use weir_rules::event::{Event, Publish, RuleId, What};
use weir_rules::value::{Key, Object, Text, Value};

use super::router::{qos_of, wall_ms};
use crate::auth::{Identity, Subject};
use crate::core::Millis;
use crate::core::connect::Admission;
use crate::core::message::{Message, Origin};
use crate::core::subscriptions::SubscriptionOptions;
use crate::pipeline::Pipeline;
use crate::stats::CloseReason;

/// The two names of a broker event.
pub(crate) struct Name {
    topic: &'static str,
    event: &'static str,
}

const CONNECTED: Name = Name {
    topic: "$events/client/connected",
    event: "client.connected",
};
const DISCONNECTED: Name = Name {
    topic: "$events/client/disconnected",
    event: "client.disconnected",
};
const CONNACK: Name = Name {
    topic: "$events/client/connack",
    event: "client.connack",
};
const PING: Name = Name {
    topic: "$events/client/ping",
    event: "client.ping",
};
const AUTHENTICATED: Name = Name {
    topic: "$events/auth/check_authn_complete",
    event: "client.check_authn_complete",
};
const AUTHORIZED: Name = Name {
    topic: "$events/auth/check_authz_complete",
    event: "client.check_authz_complete",
};
const SUBSCRIBED: Name = Name {
    topic: "$events/session/subscribed",
    event: "session.subscribed",
};
const UNSUBSCRIBED: Name = Name {
    topic: "$events/session/unsubscribed",
    event: "session.unsubscribed",
};
const DROPPED: Name = Name {
    topic: "$events/message/dropped",
    event: "message.dropped",
};
/// A message went to a client.
pub(crate) const DELIVERED: Name = Name {
    topic: "$events/message/delivered",
    event: "message.delivered",
};
/// A client acknowledged a message.
pub(crate) const ACKED: Name = Name {
    topic: "$events/message/acked",
    event: "message.acked",
};
/// A message did not go to a client that wanted it.
pub(crate) const DELIVERY_DROPPED: Name = Name {
    topic: "$events/message/delivery_dropped",
    event: "delivery.dropped",
};

/// Which broker events any rule listens to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// The generation of the rules that this was asked of.
    generation: Option<u64>,
    /// `$events/client/connected`
    pub(crate) connected: bool,
    /// `$events/client/disconnected`
    pub(crate) disconnected: bool,
    /// `$events/client/connack`
    pub(crate) connack: bool,
    /// `$events/client/ping`
    pub(crate) ping: bool,
    /// `$events/auth/check_authn_complete`
    pub(crate) authenticated: bool,
    /// `$events/auth/check_authz_complete`
    pub(crate) authorized: bool,
    /// `$events/session/subscribed`
    pub(crate) subscribed: bool,
    /// `$events/session/unsubscribed`
    pub(crate) unsubscribed: bool,
    /// `$events/message/dropped`
    pub(crate) dropped: bool,
    /// `$events/message/delivered`
    pub(crate) delivered: bool,
    /// `$events/message/acked`
    pub(crate) acked: bool,
    /// `$events/message/delivery_dropped`
    pub(crate) delivery_dropped: bool,
}

impl Watch {
    /// Asks again when the rules have changed.
    pub(crate) fn refresh(&mut self, pipeline: &Pipeline) {
        let generation = pipeline.generation();
        if self.generation == Some(generation) {
            return;
        }
        *self = Self {
            generation: Some(generation),
            connected: pipeline.wants_event(CONNECTED.topic),
            disconnected: pipeline.wants_event(DISCONNECTED.topic),
            connack: pipeline.wants_event(CONNACK.topic),
            ping: pipeline.wants_event(PING.topic),
            authenticated: pipeline.wants_event(AUTHENTICATED.topic),
            authorized: pipeline.wants_event(AUTHORIZED.topic),
            subscribed: pipeline.wants_event(SUBSCRIBED.topic),
            unsubscribed: pipeline.wants_event(UNSUBSCRIBED.topic),
            dropped: pipeline.wants_event(DROPPED.topic),
            delivered: pipeline.wants_event(DELIVERED.topic),
            acked: pipeline.wants_event(ACKED.topic),
            delivery_dropped: pipeline.wants_event(DELIVERY_DROPPED.topic),
        };
    }
}

/// What events say of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    /// Who.
    pub(crate) origin: Arc<Origin>,
    /// The listener's address.
    pub(crate) local: Option<SocketAddr>,
    /// The protocol.
    pub(crate) version: ProtocolVersion,
    /// When it connected, by the wall clock.
    pub(crate) connected_at_ms: i64,
    /// Whether it began a session of its own.
    pub(crate) clean_start: bool,
    /// The properties of its CONNECT, where a rule listened for them when it came.
    pub(crate) connect_properties: Option<Arc<Object>>,
    /// Seconds of silence that it promised not to exceed; 0: any.
    pub(crate) keep_alive_s: u16,
    /// Of two connections of one client, the later one's is greater, over restarts too.
    pub(crate) session_epoch: u64,
}

/// The fields of an event while it is being built.
struct Fields(Object);

impl Fields {
    fn new() -> Self {
        Self(Object::default())
    }

    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    fn text(self, key: &str, text: &Utf8) -> Self {
        self.set(key, text_of(text))
    }

    /// What is unknown stays undefined.
    fn optional<V: Into<Value>>(self, key: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    fn client(self, origin: &Origin) -> Self {
        self.text("clientid", &origin.client_id)
            .optional("username", origin.username.as_ref().map(text_of))
            .optional("peername", origin.peer.map(|peer| peer.to_string()))
            .optional("peerhost", origin.peer.map(|peer| peer.ip().to_string()))
    }

    fn protocol(self, info: &ClientInfo) -> Self {
        let origin = &info.origin;
        self.text("clientid", &origin.client_id)
            .optional("username", origin.username.as_ref().map(text_of))
            .optional("peername", origin.peer.map(|peer| peer.to_string()))
            .optional("sockname", info.local.map(|local| local.to_string()))
            .set("proto_name", info.version.protocol_name())
            .set("proto_ver", i64::from(info.version.level()))
    }

    /// What was agreed on when the client came.
    fn connection(self, info: &ClientInfo, expiry_s: u32) -> Self {
        let properties = info.connect_properties.clone().unwrap_or_default();
        self.protocol(info)
            .set("keepalive", i64::from(info.keep_alive_s))
            .set("clean_start", info.clean_start)
            .set("expiry_interval", i64::from(expiry_s))
            .set("conn_props", Value::Object(properties))
    }

    /// What the sign-in said of the client; an empty object for nothing.
    fn attributes(self, origin: &Origin) -> Self {
        let attributes = origin.attributes.clone().unwrap_or_default();
        self.set("client_attrs", Value::Object(attributes))
    }

    fn message(self, message: &Message) -> Self {
        let flags = Fields::new()
            .set("dup", message.dup)
            .set("retain", message.retain);
        self.set("id", format!("{:032x}", message.id))
            .set("payload", Text::from_bytes(message.payload.clone()))
            .text("topic", &message.topic)
            .set("qos", i64::from(message.qos.as_u8()))
            .set("flags", flags.0)
            .set("retain", message.retain)
            .set(
                "pub_props",
                message
                    .properties
                    .as_deref()
                    .map(properties::of_publish)
                    .unwrap_or_default(),
            )
            .set("publish_received_at", signed(message.accepted_at))
    }

    fn event(self, name: &Name) -> Event {
        self.event_about(name, None, 0)
    }

    /// Something became of a message.
    fn event_of(self, name: &Name, message: &Message) -> Event {
        self.event_about(name, message.made_by.clone(), message.hops)
    }

    fn event_about(self, name: &Name, made_by: Option<RuleId>, hops: u8) -> Event {
        let what = What::Broker {
            topic: name.topic,
            event: name.event,
            fields: Arc::new(self.0),
            made_by,
            hops,
        };
        Event {
            timestamp_ms: wall_ms(),
            what,
        }
    }
}

fn text_of(text: &Utf8) -> Text {
    Text::from_bytes(text.bytes().clone())
}

fn signed(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Who is at the other end of a connection that is only coming about.
pub(crate) struct Caller<'c> {
    /// What it sent.
    pub(crate) connect: &'c Connect,
    /// Its address.
    pub(crate) peer: Option<SocketAddr>,
    /// The listener's address.
    pub(crate) local: Option<SocketAddr>,
}

impl Caller<'_> {
    fn fields(&self) -> Fields {
        Fields::new()
            .text("clientid", &self.connect.client_id)
            .optional("username", self.connect.username.as_ref().map(text_of))
            .optional("peername", self.peer.map(|peer| peer.to_string()))
    }
}

/// CONNACK has been answered to a client that is not admitted.
pub(crate) fn refused(caller: &Caller<'_>, reason: ReasonCode) -> Event {
    let connect = caller.connect;
    let expiry_s = connect.properties.session_expiry_interval_s.unwrap_or(0);
    caller
        .fields()
        .optional("sockname", caller.local.map(|local| local.to_string()))
        .set("proto_name", connect.version.protocol_name())
        .set("proto_ver", i64::from(connect.version.level()))
        .set("keepalive", i64::from(connect.keep_alive_s))
        .set("clean_start", connect.clean_start)
        .set("expiry_interval", i64::from(expiry_s))
        .set("connected_at", wall_ms())
        .set("conn_props", properties::of_connect(&connect.properties))
        .set("reason_code", connack_reason(connect.version, reason))
        .event(&CONNACK)
}

/// CONNACK has welcomed a client.
pub(crate) fn welcomed(info: &ClientInfo, admission: &Admission) -> Event {
    Fields::new()
        .connection(info, admission.session_expiry_s)
        .set("connected_at", info.connected_at_ms)
        .set(
            "reason_code",
            connack_reason(info.version, ReasonCode::Success),
        )
        .event(&CONNACK)
}

/// A client has sent PINGREQ.
pub(crate) fn ping(info: &ClientInfo, expiry_s: u32) -> Event {
    Fields::new().connection(info, expiry_s).event(&PING)
}

/// The names of MQTT 5; before it, those of its few return codes, spelt as EMQX does.
fn connack_reason(version: ProtocolVersion, reason: ReasonCode) -> &'static str {
    if version.is_v5() {
        return reason.name();
    }
    match reason {
        ReasonCode::Success => "connection_accepted",
        ReasonCode::UnsupportedProtocolVersion => "unacceptable_protocol_version",
        ReasonCode::ClientIdentifierNotValid => "client_identifier_not_valid",
        ReasonCode::BadUserNameOrPassword => "malformed_username_or_password",
        ReasonCode::NotAuthorized | ReasonCode::Banned => "unauthorized_client",
        _ => "server_unavaliable",
    }
}

/// The properties of a CONNECT, as rules see them.
pub(crate) fn connect_properties(connect: &Connect) -> Arc<Object> {
    Arc::new(properties::of_connect(&connect.properties))
}

/// The authenticators have answered.
pub(crate) fn authenticated(caller: &Caller<'_>, answer: Result<&Identity, ReasonCode>) -> Event {
    let identity = answer.ok();
    let attributes = identity.and_then(attributes).unwrap_or_default();
    caller
        .fields()
        .set(
            "reason_code",
            answer.err().unwrap_or(ReasonCode::Success).name(),
        )
        .set(
            "is_superuser",
            identity.is_some_and(|identity| identity.superuser),
        )
        .set(
            "is_anonymous",
            identity.is_some_and(|identity| identity.username.is_none()),
        )
        .set("client_attrs", Value::Object(attributes))
        .event(&AUTHENTICATED)
}

/// What the sign-in said of a client, as rules see it.
pub(crate) fn attributes(identity: &Identity) -> Option<Arc<Object>> {
    let attributes: Object = identity
        .attributes
        .iter()
        .map(|(name, value)| (Key::from(name.as_str()), Value::from(value.as_str())))
        .collect();
    (!attributes.is_empty()).then(|| Arc::new(attributes))
}

/// A client as the origin of what it does.
fn origin_of(client_id: &Utf8, subject: Option<&Subject>) -> Origin {
    Origin {
        client_id: client_id.clone(),
        username: subject.and_then(|subject| subject.username.clone()),
        peer: subject.and_then(|subject| subject.peer),
        attributes: subject.and_then(|subject| attributes(&subject.identity)),
    }
}

/// The access list was asked.
pub(crate) fn authorized(
    subject: &Subject,
    action: &'static str,
    topic: &str,
    allowed: bool,
) -> Event {
    let origin = origin_of(&subject.client_id, Some(subject));
    Fields::new()
        .client(&origin)
        .set("topic", topic)
        .set("action", action)
        .set("authz_source", "acl")
        .set("result", if allowed { "allow" } else { "deny" })
        .attributes(&origin)
        .event(&AUTHORIZED)
}

/// A client is connected.
pub(crate) fn connected(info: &ClientInfo, admission: &Admission) -> Event {
    Fields::new()
        .connection(info, admission.session_expiry_s)
        .set("mountpoint", Value::Undefined)
        .set("receive_maximum", i64::from(admission.link.receive_maximum))
        .set("is_bridge", false)
        .set("connected_at", info.connected_at_ms)
        .attributes(&info.origin)
        .event(&CONNECTED)
}

/// A client is gone; `said` is what its DISCONNECT carried.
pub(crate) fn disconnected(
    info: &ClientInfo,
    reason: CloseReason,
    said: Option<&DisconnectProperties>,
) -> Event {
    let reason = match reason {
        CloseReason::ProtocolError | CloseReason::ServerShutdown => "internal_error",
        other => other.name(),
    };
    Fields::new()
        .protocol(info)
        .set("reason", reason)
        .set("disconnected_at", wall_ms())
        .set("connected_at", info.connected_at_ms)
        .set(
            "disconn_props",
            said.map(properties::of_disconnect).unwrap_or_default(),
        )
        .attributes(&info.origin)
        .event(&DISCONNECTED)
}

/// A session has subscribed; `user_properties` are those of the SUBSCRIBE.
pub(crate) fn subscribed(
    info: &ClientInfo,
    filter: &SubscriptionFilter,
    options: SubscriptionOptions,
    user_properties: &[(Utf8, Utf8)],
) -> Event {
    Fields::new()
        .client(&info.origin)
        .set("topic", filter.to_string())
        .set("qos", i64::from(options.qos.as_u8()))
        .set(
            "sub_props",
            properties::of_subscribe(options.id, user_properties),
        )
        .attributes(&info.origin)
        .event(&SUBSCRIBED)
}

/// A session has unsubscribed; `qos` is the one that it had, `user_properties` are those of the UNSUBSCRIBE.
pub(crate) fn unsubscribed(
    info: &ClientInfo,
    filter: &SubscriptionFilter,
    qos: QoS,
    user_properties: &[(Utf8, Utf8)],
) -> Event {
    Fields::new()
        .client(&info.origin)
        .set("topic", filter.to_string())
        .set("qos", i64::from(qos.as_u8()))
        .set(
            "unsub_props",
            properties::of_subscribe(None, user_properties),
        )
        .attributes(&info.origin)
        .event(&UNSUBSCRIBED)
}

/// A message was not routed at all.
pub(crate) fn message_dropped(message: &Message, reason: &'static str) -> Event {
    Fields::new()
        .client(&message.origin)
        .message(message)
        .set("reason", reason)
        .event_of(&DROPPED, message)
}

/// The client that a message went to, or did not.
#[derive(Clone, Copy)]
pub(crate) struct Receiver<'r> {
    /// Its identifier.
    pub(crate) client_id: &'r Utf8,
    /// What else is known of it; `None` before it has connected once.
    pub(crate) subject: Option<&'r Subject>,
}

/// Something became of a message at one receiver.
pub(crate) fn of_receiver(
    name: &Name,
    message: &Message,
    receiver: Receiver<'_>,
    reason: Option<&'static str>,
    acknowledgement: Option<&AckProperties>,
) -> Event {
    let origin = origin_of(receiver.client_id, receiver.subject);
    let sender = &message.origin;
    Fields::new()
        .client(&origin)
        .text("from_clientid", &sender.client_id)
        .optional("from_username", sender.username.as_ref().map(text_of))
        .message(message)
        .optional("reason", reason)
        .optional(
            "puback_props",
            acknowledgement.map(properties::of_acknowledgement),
        )
        .event_of(name, message)
}

/// A message as rules see it. Nothing is copied.
pub(crate) fn rule_publish(message: &Message) -> Publish {
    Publish {
        id: message.id,
        topic: text_of(&message.topic),
        payload: message.payload.clone(),
        client_id: text_of(&message.origin.client_id),
        username: message.origin.username.as_ref().map(text_of),
        peer: message.origin.peer,
        qos: message.qos.as_u8(),
        retain: message.retain,
        dup: message.dup,
        properties: message
            .properties
            .as_deref()
            .map(|properties| Arc::new(properties::of_publish(properties))),
        received_at_ms: wall_ms(),
        hops: message.hops,
        made_by: message.made_by.clone(),
        // Of a bridge it is the client identifier.
        came_over: None,
        client_attrs: message.origin.attributes.clone(),
        given: None,
    }
}

/// The fields of a message that came over a bridge (rule-SQL §4.3).
pub(crate) fn of_ingress(id: u128, message: &weir_mqtt::Publish, server: &str) -> Object {
    let properties = message.properties.as_deref().map(properties::of_publish);
    Fields::new()
        .set("id", format!("{id:032x}"))
        .set("server", server)
        .set(
            "payload",
            Value::Text(Text::from_bytes(message.payload.clone())),
        )
        .text("topic", &message.topic)
        .set("qos", i64::from(message.qos.as_u8()))
        .set("dup", message.dup)
        .set("retain", message.retain)
        .set("pub_props", properties.unwrap_or_default())
        .set("message_received_at", wall_ms())
        .0
}

/// The client identifier of messages that rules make.
pub(crate) const RULES: &str = "$weir";

/// A message that a rule made; `None` when its topic is none.
pub(crate) fn message_of(publish: Publish, now: Millis) -> Option<Message> {
    thread_local! {
        /// Of most of them; every thread has its own, because all would write the count of references.
        static OF_RULES: Arc<Origin> = Arc::new(Origin {
            client_id: Utf8::from(RULES),
            ..Origin::default()
        });
    }
    let topic = TopicName::parse(Utf8::try_from(publish.topic.into_bytes()).ok()?).ok()?;
    let properties = publish
        .properties
        .as_deref()
        .map(properties::to_publish)
        .filter(|properties| !properties.is_empty());
    let expiry_s = properties
        .as_ref()
        .and_then(|properties| properties.message_expiry_interval_s);
    let is_of_rules = publish.client_id.as_bytes() == RULES.as_bytes()
        && publish.username.is_none()
        && publish.peer.is_none()
        && publish.client_attrs.is_none();
    let origin = if is_of_rules {
        OF_RULES.with(Arc::clone)
    } else {
        Arc::new(Origin {
            client_id: Utf8::try_from(publish.client_id.into_bytes()).unwrap_or_default(),
            username: publish
                .username
                .and_then(|name| Utf8::try_from(name.into_bytes()).ok()),
            peer: publish.peer,
            attributes: publish.client_attrs,
        })
    };
    Some(Message {
        id: publish.id,
        dup: publish.dup,
        properties: properties.map(Box::new),
        expires_at: expiry_s.map(|seconds| now + u64::from(seconds) * 1000),
        accepted_at: now,
        origin,
        hops: publish.hops,
        made_by: publish.made_by,
        ..Message::new(topic, publish.payload, qos_of(publish.qos), publish.retain)
    })
}
