//! Which topics cross a bridge, under which names: pure. Never here: packets and links.
//!
//! As in other bridges, an `in` entry subscribes at the remote to `remote_prefix + filter` and an `out` entry takes
//! `local_prefix + filter` from here; on the way one prefix is taken off and the other put in front, as plain text.

use std::fmt;
use std::sync::Arc;

use weir_mqtt::{QoS, TopicFilter};

use super::places::{PayloadMap, parts, wildcards};
use super::preset::TopicOwner;
use crate::codes;
use crate::config::connector::{BridgeRoute, RetainPolicy};
use crate::error::ConfigError;

pub use super::places::{Part, Sender};

/// A topic that comes out longer is no topic.
const MAX_TOPIC: usize = 65_535;

/// One `[[in]]`: topics that are taken from the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InRoute {
    /// What is subscribed to at the remote.
    pub filter: TopicFilter,
    /// The group, where several weirs share what the remote sends.
    pub share: Option<String>,
    /// The name that the message gets here; `None`: it is for rules alone.
    pub map: Option<TopicMap>,
    /// The highest `QoS` that is asked for.
    pub qos: QoS,
    /// What becomes of the RETAIN flag.
    pub retain: RetainPolicy,
    /// The payload that the message gets here, where it is another one.
    pub payload: Option<PayloadMap>,
}

/// One `[[out]]`: topics that are sent to the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRoute {
    /// What is taken from here.
    pub filter: TopicFilter,
    /// The name that the message gets there.
    pub map: TopicMap,
    /// The highest `QoS` with which it leaves.
    pub qos: QoS,
    /// It leaves with that one, whatever it came with.
    pub force: bool,
    /// What becomes of the RETAIN flag.
    pub retain: RetainPolicy,
    /// The payload that the message gets there, where it is another one.
    pub payload: Option<PayloadMap>,
    /// Whose topics the names there must be.
    pub owner: Option<Arc<TopicOwner>>,
}

impl OutRoute {
    /// The name that a message gets at the remote.
    ///
    /// # Errors
    /// When there is none, or it is not the device's.
    pub fn name(&self, topic: &str, sender: Sender<'_>) -> Result<String, Unmapped> {
        let name = self.map.apply(topic, sender)?;
        match &self.owner {
            Some(owner) if !owner.owns(&name) => Err(Unmapped::NotOwned),
            _ => Ok(name),
        }
    }

    /// The response topic of a message, as it is called at the remote.
    pub fn response(&self, topic: &str, sender: Sender<'_>) -> Option<String> {
        self.map.response(&self.filter, topic, sender)
    }

    /// The `QoS` with which a message leaves that came with `qos`.
    pub fn leaves_with(&self, qos: u8) -> u8 {
        if self.force {
            self.qos.as_u8()
        } else {
            qos.min(self.qos.as_u8())
        }
    }
}

impl InRoute {
    /// The response topic of a message, as it is called here.
    pub fn response(&self, topic: &str, sender: Sender<'_>) -> Option<String> {
        self.map.as_ref()?.response(&self.filter, topic, sender)
    }

    /// The filter as SUBSCRIBE has it.
    pub fn subscription(&self) -> String {
        match &self.share {
            Some(group) => format!("$share/{group}/{}", self.filter.as_str()),
            None => self.filter.as_str().to_owned(),
        }
    }
}

impl RetainPolicy {
    /// The flag of a message that has crossed.
    pub const fn apply(self, retain: bool) -> bool {
        match self {
            Self::Keep => retain,
            Self::Strip => false,
            Self::Set => true,
        }
    }
}

/// How a topic's name changes on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicMap {
    /// One prefix off, the other in front. Where the filter is empty this renames one topic.
    Prefix {
        /// What is taken off.
        off: String,
        /// What is put in front.
        put: String,
    },
    /// A new name with places.
    Template {
        /// What wildcards stand for is read by it.
        filter: TopicFilter,
        /// The name.
        parts: Vec<Part>,
    },
}

/// As rows of the queue have it.
pub(crate) const NOT_OWNED: &str = "topic_not_owned";

/// Why a topic has no name on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// A place of the template has no value.
    Template,
    /// What came of it is no topic name.
    BadTopic,
    /// What came of it is another device's at the cloud.
    NotOwned,
}

impl Unmapped {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Template, Self::BadTopic, Self::NotOwned];
}

impl fmt::Display for Unmapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Template => "template",
            Self::BadTopic => "bad_topic",
            Self::NotOwned => NOT_OWNED,
        })
    }
}

impl TopicMap {
    /// The name on the other side.
    ///
    /// # Errors
    /// When there is none.
    pub fn apply(&self, topic: &str, sender: Sender<'_>) -> Result<String, Unmapped> {
        let name = match self {
            Self::Prefix { off, put } => {
                let rest = topic.strip_prefix(&**off).unwrap_or(topic);
                format!("{put}{rest}")
            }
            Self::Template { filter, parts } => {
                let wildcards = wildcards(filter.as_str(), topic);
                let mut name = String::new();
                for part in parts {
                    name.push_str(&part.in_a_name(topic, &wildcards, sender)?);
                }
                name
            }
        };
        let bad = name.is_empty()
            || name.len() > MAX_TOPIC
            || name.contains(['+', '#', '\0'])
            || name.starts_with('$') && !self.may_begin_with_dollar();
        if bad {
            return Err(Unmapped::BadTopic);
        }
        Ok(name)
    }

    /// A response topic that the filter matches, on the other side: named as a message on it would be. `None` where it
    /// stays as it is: it would have no name, or the same as everything else.
    fn response(&self, filter: &TopicFilter, topic: &str, sender: Sender<'_>) -> Option<String> {
        let names_differ = match self {
            Self::Prefix { .. } => true,
            Self::Template { parts, .. } => parts
                .iter()
                .any(|part| matches!(part, Part::Topic | Part::EncodedTopic | Part::Wildcard(_))),
        };
        let mapped = names_differ && filter.matches(topic);
        mapped.then(|| self.apply(topic, sender).ok()).flatten()
    }

    /// The same where the remote has one topic for everything, `…/messages/events/` with properties behind it: the name
    /// here goes along as the property `wt`, unless the template says so itself.
    #[must_use]
    pub(super) fn carrying_topic(self, filter: &TopicFilter) -> Self {
        const EVENTS: &str = "/messages/events";
        let mut parts = match &self {
            // What stands behind is no name there.
            Self::Prefix { put, .. } if put.trim_end_matches('/').ends_with(EVENTS) => {
                vec![Part::Text(put.clone())]
            }
            Self::Template { parts, .. } => parts.clone(),
            Self::Prefix { .. } => return self,
        };
        let shown = self.shown(filter.as_str());
        if !shown.contains(EVENTS) || shown.contains("wt=") {
            return self;
        }
        let between = match parts.last() {
            Some(Part::Text(text)) if text.ends_with('/') => "wt=",
            Some(Part::Text(text)) if text.ends_with(EVENTS) => "/wt=",
            _ => "&wt=",
        };
        parts.extend([Part::Text(between.to_owned()), Part::EncodedTopic]);
        Self::Template {
            filter: filter.clone(),
            parts,
        }
    }

    /// For checks and people: the name with its places, of topics that match `filter`.
    pub(super) fn shown(&self, filter: &str) -> String {
        match self {
            Self::Prefix { off, put } => {
                let rest = filter.strip_prefix(&**off).unwrap_or(filter);
                format!("{put}{}", rest.replace(['+', '#'], "${1}"))
            }
            Self::Template { parts, .. } => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Wildcard(at) => format!("${{{at}}}"),
                    _ => "${topic}".to_owned(),
                })
                .collect(),
        }
    }

    /// Topics of the broker itself are only met by who names them.
    fn may_begin_with_dollar(&self) -> bool {
        match self {
            Self::Prefix { off, put } => put.starts_with('$') || put.is_empty() && off.is_empty(),
            Self::Template { filter, parts } => match parts.first() {
                Some(Part::Text(text)) => text.starts_with('$'),
                Some(Part::Topic) => filter.as_str().starts_with('$'),
                _ => false,
            },
        }
    }

    /// A filter that every name matches which may come of it.
    pub fn names(&self, filter: &str) -> String {
        match self {
            Self::Prefix { off, put } => {
                let rest = filter.strip_prefix(&**off).unwrap_or(filter);
                let joined = format!("{put}{rest}");
                // A wildcard that the prefix grew together with.
                let levels = joined.split('/').map(|level| match level {
                    "#" | "+" => level,
                    level if level.contains('#') => "#",
                    level if level.contains('+') => "+",
                    level => level,
                });
                levels.collect::<Vec<_>>().join("/")
            }
            Self::Template { parts, .. } => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(part) => text.push_str(part),
                        Part::Node | Part::Qos | Part::EncodedTopic | Part::EncodedPayload => {
                            text.push('\0')
                        }
                        // May hold further levels.
                        _ => text.push('\u{1}'),
                    }
                }
                let mut levels = Vec::new();
                for level in text.split('/') {
                    if level.contains('\u{1}') {
                        levels.push("#");
                        break;
                    }
                    levels.push(if level.contains('\0') { "+" } else { level });
                }
                levels.join("/")
            }
        }
    }
}

/// Whether some topic matches both filters.
pub fn overlap(a: &str, b: &str) -> bool {
    // [MQTT-4.7.2-1] A wildcard at the beginning stands for no `$`.
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if wild(a) && b.starts_with('$') || wild(b) && a.starts_with('$') {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(x), Some(y)) if x == "+" || y == "+" || x == y => {}
            _ => return false,
        }
    }
}

/// An `out` entry whose names an `in` entry takes back: their places.
pub fn loops(inbound: &[InRoute], out: &[OutRoute]) -> Option<(usize, usize)> {
    let names: Vec<_> = out
        .iter()
        .map(|route| route.map.names(route.filter.as_str()))
        .collect();
    // What is for rules alone goes nowhere from there by itself.
    let back =
        |route: &InRoute, name: &str| route.map.is_some() && overlap(route.filter.as_str(), name);
    inbound.iter().enumerate().find_map(|(at, route)| {
        let out = names.iter().position(|name| back(route, name))?;
        Some((at, out))
    })
}

/// Which entries are read: their keys differ a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `[[in]]`
    In,
    /// `[[out]]`
    Out,
}

impl Way {
    const fn key(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// One entry whose keys were read.
pub(super) struct Read {
    pub(super) filter: TopicFilter,
    pub(super) map: Option<TopicMap>,
    pub(super) payload: Option<PayloadMap>,
}

/// Reads an entry's filter and how its topics are named.
pub(super) fn read(way: Way, at: usize, route: &BridgeRoute) -> Result<Read, ConfigError> {
    let place = |key: &str| format!("{}[{at}].{key}", way.key());
    let error = |key: &str, message: String, help: &str| {
        Err(ConfigError::new(codes::BRIDGE, place(key), message).help(help))
    };
    let (local, remote) = (
        route.local_prefix.as_deref().unwrap_or_default(),
        route.remote_prefix.as_deref().unwrap_or_default(),
    );
    for (key, prefix) in [("local_prefix", local), ("remote_prefix", remote)] {
        if prefix.contains(['+', '#', '\0']) {
            return error(
                key,
                format!("`{prefix}` has a wildcard"),
                "a prefix is plain text",
            );
        }
    }
    let (own, other, new, wrong) = match way {
        Way::In => (
            remote,
            local,
            &route.local_topic,
            ("remote_topic", &route.remote_topic),
        ),
        Way::Out => (
            local,
            remote,
            &route.remote_topic,
            ("local_topic", &route.local_topic),
        ),
    };
    if wrong.1.is_some() {
        let help = "the topic on the side where a message comes from is given by `filter`";
        return error(wrong.0, format!("`{}` has no meaning here", wrong.0), help);
    }
    let Some(given) = route.filter.as_deref() else {
        let message = "the key `filter` is missing".to_owned();
        return Err(
            ConfigError::new(codes::KEY_MISSING, place("filter"), message)
                .help("`filter = \"sensors/#\"`; \"\" with two prefixes renames one topic"),
        );
    };
    if given.is_empty() && new.is_none() && (own.is_empty() || other.is_empty()) {
        let help = "an empty filter stands for one topic: give both prefixes, or a filter";
        return error("filter", "the filter is empty".to_owned(), help);
    }
    let joined = format!("{own}{given}");
    if joined.starts_with("$share/") {
        let help = "give the group as `share = \"GROUP\"`";
        return error("filter", format!("`{joined}` is a shared filter"), help);
    }
    let filter = match TopicFilter::parse(&joined) {
        Ok(filter) => filter,
        Err(why) => {
            let help =
                "`+` stands alone in its level, `#` at the end; a prefix before one ends in `/`";
            return error(
                "filter",
                format!("`{joined}` is no topic filter: {why}"),
                help,
            );
        }
    };
    if route.rules_only {
        if way == Way::Out {
            let help = "a rule's sink sends what a rule makes";
            return error("rules_only", "`rules_only` is for `in`".to_owned(), help);
        }
        if new.is_some() || !other.is_empty() {
            let help = "remove one of the two";
            return error(
                "rules_only",
                "a message for rules alone gets no topic here".to_owned(),
                help,
            );
        }
        if route.payload.is_some() {
            let message = "rules see a message as it came".to_owned();
            return error(
                "payload",
                message,
                "remove it: the rule makes what it wants",
            );
        }
        return Ok(Read {
            filter,
            map: None,
            payload: None,
        });
    }
    let map = match new {
        None => TopicMap::Prefix {
            off: own.to_owned(),
            put: other.to_owned(),
        },
        Some(_) if !other.is_empty() => {
            let key = if way == Way::In {
                "local_topic"
            } else {
                "remote_topic"
            };
            let help = "give the prefix or the topic, not both";
            return error(key, "prefix and topic exclude each other".to_owned(), help);
        }
        Some(text) => {
            let key = if way == Way::In {
                "local_topic"
            } else {
                "remote_topic"
            };
            let wildcards = joined
                .split('/')
                .filter(|level| matches!(*level, "+" | "#"));
            match name_parts(text, wildcards.count()) {
                Ok(parts) => TopicMap::Template {
                    filter: filter.clone(),
                    parts,
                },
                Err(message) => {
                    let help = "places are ${topic}, ${pct:topic}, ${1} to ${9} for the wildcards, ${clientid}, ${username}, ${qos}, ${node}, ${base64:payload}";
                    return error(key, message, help);
                }
            }
        }
    };
    let payload = match &route.payload {
        None => None,
        Some(text) => match PayloadMap::read(text, &filter) {
            Ok(payload) => Some(payload),
            Err(message) => {
                let help = "places are ${payload}, ${base64:payload} and those of topics";
                return error("payload", message, help);
            }
        },
    };
    Ok(Read {
        filter,
        map: Some(map),
        payload,
    })
}

/// The pieces of a name.
fn name_parts(text: &str, wildcards: usize) -> Result<Vec<Part>, String> {
    let parts = parts(text, wildcards)?;
    for part in &parts {
        match part {
            Part::Text(text) if text.contains(['+', '#', '\0']) => {
                return Err(format!("`{text}` has a wildcard"));
            }
            Part::Payload => {
                return Err("there is no `${payload}` in a topic".to_owned());
            }
            _ => {}
        }
    }
    if parts.is_empty() {
        return Err("the topic is empty".to_owned());
    }
    Ok(parts)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
