//! What a rule can see: one publish, or one thing that happened in the broker (rule-SQL §4).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use crate::value::{Object, Text, Value};

mod names;
pub use names::{EventName, event_names};
pub(crate) use names::{REFUSED_EVENTS, fields_of_event};

/// The id of the rule that made a message. Up to 24 bytes need no memory of their own: a count of references that all
/// threads write would cost more than copies of so few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleId(CompactString);

impl std::ops::Deref for RuleId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RuleId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

/// One thing that happened, offered to every rule whose FROM matches.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the rule was triggered: milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// What happened.
    pub what: What,
}

/// The sources of FROM.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every event is a publish, which would be allocated for nothing"
)]
pub enum What {
    /// A PUBLISH: `event` is `message.publish`.
    Publish(Publish),
    /// One of `$events/…`, with the fields of §4.3 as an object.
    Broker {
        /// The canonical event topic, e.g. `$events/client/connected`.
        topic: &'static str,
        /// The value of the field `event`, e.g. `client.connected`.
        event: &'static str,
        /// Every further field.
        fields: Arc<Object>,
        /// The rule that republished the message that this tells of: what becomes of it does not trigger that rule.
        made_by: Option<RuleId>,
        /// How many rules republished that message.
        hops: u8,
    },
    /// A message from a remote broker: `$bridges/mqtt:name`.
    Ingress {
        /// The source text, e.g. `$bridges/mqtt:hq`.
        source: Text,
        /// Every further field.
        fields: Arc<Object>,
    },
}

/// The fields of a publish. Texts are shared with the packet and the connection; nothing is copied.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Unique for each message; `id` shows it as 32 hex digits.
    pub id: u128,
    /// The topic name.
    pub topic: Text,
    /// The raw payload.
    pub payload: Bytes,
    /// The publisher's client identifier.
    pub client_id: Text,
    /// The publisher's user name, when it has one.
    pub username: Option<Text>,
    /// The publisher's address; `None` for messages made inside the broker.
    pub peer: Option<SocketAddr>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag.
    pub dup: bool,
    /// MQTT 5 properties under their hyphenated names.
    pub properties: Option<Arc<Object>>,
    /// When the broker read it: milliseconds since the Unix epoch.
    pub received_at_ms: i64,
    /// How many rules republished it before it came here.
    pub hops: u8,
    /// The rule that republished it; a message does not trigger the rule that made it.
    pub made_by: Option<RuleId>,
    /// The bridge over which it, or what a rule made it of, has come into this broker.
    pub came_over: Option<Text>,
    /// What the publisher's sign-in said of it: `client_attrs`.
    pub client_attrs: Option<Arc<Object>>,
    /// Fields that stand in for those above, or beside them: of messages that were written by hand.
    pub given: Option<Arc<Object>>,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            id: 0,
            topic: Text::default(),
            payload: Bytes::new(),
            client_id: Text::default(),
            username: None,
            peer: None,
            qos: 0,
            retain: false,
            dup: false,
            properties: None,
            received_at_ms: 0,
            hops: 0,
            made_by: None,
            came_over: None,
            client_attrs: None,
            given: None,
        }
    }
}

/// The fields of a publish that a rule can name, besides those that depend on the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishField {
    Id,
    ClientId,
    Username,
    Payload,
    PeerHost,
    PeerName,
    Topic,
    Qos,
    Flags,
    Retain,
    PubProps,
    ReceivedAt,
    ClientAttrs,
}

impl PublishField {
    /// Every field with its name, in the order in which `*` copies them.
    pub(crate) const ALL: [(&'static str, Self); 13] = [
        ("id", Self::Id),
        ("clientid", Self::ClientId),
        ("username", Self::Username),
        ("payload", Self::Payload),
        ("peerhost", Self::PeerHost),
        ("peername", Self::PeerName),
        ("topic", Self::Topic),
        ("qos", Self::Qos),
        ("flags", Self::Flags),
        ("retain", Self::Retain),
        ("pub_props", Self::PubProps),
        ("publish_received_at", Self::ReceivedAt),
        ("client_attrs", Self::ClientAttrs),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, field)| *field)
    }

    fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    pub(crate) fn of(self, publish: &Publish) -> Value {
        if let Some(given) = &publish.given
            && let Some(value) = given.get(self.name())
        {
            return value.clone();
        }
        match self {
            Self::Id => format!("{:032x}", publish.id).into(),
            Self::ClientId => publish.client_id.clone().into(),
            Self::Username => publish
                .username
                .clone()
                .map_or(Value::Undefined, Value::Text),
            Self::Payload => Text::from_bytes(publish.payload.clone()).into(),
            Self::PeerHost => publish
                .peer
                .map_or(Value::Undefined, |peer| peer.ip().to_string().into()),
            Self::PeerName => publish
                .peer
                .map_or(Value::Undefined, |peer| peer.to_string().into()),
            Self::Topic => publish.topic.clone().into(),
            Self::Qos => Value::Int(publish.qos.into()),
            Self::Flags => [
                ("dup", Value::Bool(publish.dup)),
                ("retain", Value::Bool(publish.retain)),
            ]
            .into_iter()
            .collect(),
            Self::Retain => Value::Bool(publish.retain),
            Self::PubProps => Value::Object(publish.properties.clone().unwrap_or_default()),
            Self::ReceivedAt => Value::Int(publish.received_at_ms),
            Self::ClientAttrs => Value::Object(publish.client_attrs.clone().unwrap_or_default()),
        }
    }
}

impl Publish {
    /// A field that the manual does not name, where it was given by hand.
    pub(crate) fn further(&self, name: &str) -> Value {
        let given = self.given.as_ref();
        given
            .and_then(|given| given.get(name))
            .cloned()
            .unwrap_or_default()
    }
}

impl Event {
    /// A publish with everything else at its default: for tests, `try` and the like.
    pub fn publish(topic: &str, payload: impl Into<Bytes>) -> Self {
        Self {
            timestamp_ms: 0,
            what: What::Publish(Publish {
                topic: topic.into(),
                payload: payload.into(),
                client_id: Text::from_static("client"),
                ..Publish::default()
            }),
        }
    }

    /// A broker event: `topic` in either spelling, e.g. `$events/client/connected`.
    pub fn broker(topic: &str, fields: Object) -> Option<Self> {
        let name = EventName::find(topic)?;
        let what = What::Broker {
            topic: name.topic,
            event: name.event,
            fields: Arc::new(fields),
            made_by: None,
            hops: 0,
        };
        Some(Self {
            timestamp_ms: 0,
            what,
        })
    }

    /// The topic, event topic or bridge that triggers rules.
    pub fn trigger(&self) -> Text {
        match &self.what {
            What::Publish(publish) => publish.topic.clone(),
            What::Broker { topic, .. } => Text::from_static(topic),
            What::Ingress { source, .. } => source.clone(),
        }
    }

    /// The rule that made the message: it is not to see it again, nor what becomes of it.
    pub fn made_by(&self) -> Option<&str> {
        match &self.what {
            What::Publish(publish) => publish.made_by.as_deref(),
            What::Broker { made_by, .. } => made_by.as_deref(),
            What::Ingress { .. } => None,
        }
    }

    /// How many rules republished the message.
    pub fn hops(&self) -> u8 {
        match &self.what {
            What::Publish(publish) => publish.hops,
            What::Broker { hops, .. } => *hops,
            What::Ingress { .. } => 0,
        }
    }

    /// The value of the field `event`.
    pub fn name(&self) -> Text {
        match &self.what {
            What::Publish(_) => Text::from_static("message.publish"),
            What::Broker { event, .. } => Text::from_static(event),
            What::Ingress { source, .. } => source.clone(),
        }
    }

    /// The raw payload, where the source has one.
    #[inline]
    pub fn payload(&self) -> Option<&Bytes> {
        match &self.what {
            What::Publish(publish) => Some(&publish.payload),
            What::Broker { fields, .. } | What::Ingress { fields, .. } => fields
                .get("payload")
                .and_then(Value::as_text)
                .map(Text::bytes),
        }
    }

    /// A field by its name; `node` and `metadata` depend on where the rule runs and are not here.
    pub fn field(&self, name: &str) -> Value {
        match name {
            "event" => self.name().into(),
            "timestamp" => Value::Int(self.timestamp_ms),
            _ => match &self.what {
                What::Publish(publish) => PublishField::named(name)
                    .map_or_else(|| publish.further(name), |field| field.of(publish)),
                What::Broker { fields, .. } | What::Ingress { fields, .. } => {
                    fields.get(name).cloned().unwrap_or_default()
                }
            },
        }
    }

    /// Every field but `node` and `metadata`, in the order of the manual.
    pub(crate) fn for_each_field(&self, mut visit: impl FnMut(&str, Value)) {
        match &self.what {
            What::Publish(publish) => {
                PublishField::ALL
                    .iter()
                    .for_each(|(name, field)| visit(name, field.of(publish)));
                for (name, value) in publish.given.iter().flat_map(|given| given.iter()) {
                    if PublishField::named(name).is_none() {
                        visit(name, value.clone());
                    }
                }
            }
            What::Broker { fields, .. } | What::Ingress { fields, .. } => {
                fields
                    .iter()
                    .for_each(|(name, value)| visit(name, value.clone()));
            }
        }
        visit("event", self.name().into());
        visit("timestamp", Value::Int(self.timestamp_ms));
    }
}
