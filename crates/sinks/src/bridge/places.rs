//! Places such as `${topic}` in the names and payloads of what crosses a bridge: pure.

use std::borrow::Cow;
use std::fmt;

use serde::de::IgnoredAny;
use weir_mqtt::TopicFilter;

use super::route::Unmapped;
use super::signer::mac::{b64, b64_of_a_name, pct};

/// A piece of a new name, or payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// `${topic}`: the whole name.
    Topic,
    /// `${pct:topic}`: the same with every byte but letters, digits and `-._~` as `%XX`.
    EncodedTopic,
    /// `${1}` to `${9}`: what the nth wildcard stands for.
    Wildcard(usize),
    /// `${clientid}`.
    ClientId,
    /// `${username}`.
    Username,
    /// `${qos}`.
    Qos,
    /// `${node}`.
    Node,
    /// `${payload}`; in payloads alone.
    Payload,
    /// `${base64:payload}`. In a name `-` and `_` stand for `+` and `/`, which would be no part of a level, and nothing is
    /// filled up with `=`.
    EncodedPayload,
}

/// As it is written.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self {
            Self::Text(text) => return f.write_str(text),
            Self::Wildcard(at) => return write!(f, "${{{at}}}"),
            Self::Topic => "topic",
            Self::EncodedTopic => "pct:topic",
            Self::ClientId => "clientid",
            Self::Username => "username",
            Self::Qos => "qos",
            Self::Node => "node",
            Self::Payload => "payload",
            Self::EncodedPayload => "base64:payload",
        };
        write!(f, "${{{place}}}")
    }
}

/// What a new name or payload may be made of beside the old name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender<'a> {
    /// Who published the message; empty where that is not known.
    pub client_id: &'a str,
    /// The name of that user.
    pub username: Option<&'a str>,
    /// The message's `QoS`.
    pub qos: u8,
    /// This broker.
    pub node: &'a str,
    /// The message's bytes.
    pub payload: &'a [u8],
}

impl Part {
    /// What a place stands for in a name; nothing of the text between places, and of the payload.
    pub(super) fn in_a_name<'a>(
        &'a self,
        topic: &'a str,
        wildcards: &[&'a str],
        sender: Sender<'a>,
    ) -> Result<Cow<'a, str>, Unmapped> {
        Ok(match self {
            Self::Text(text) => text.as_str().into(),
            Self::Topic => topic.into(),
            Self::EncodedTopic => pct(topic).into(),
            Self::Wildcard(at) => {
                let wildcard = wildcards.get(at - 1).ok_or(Unmapped::Template)?;
                (*wildcard).into()
            }
            Self::ClientId => sender.client_id.into(),
            Self::Username => sender.username.ok_or(Unmapped::Template)?.into(),
            Self::Qos => sender.qos.to_string().into(),
            Self::Node => sender.node.into(),
            Self::EncodedPayload => b64_of_a_name(sender.payload).into(),
            Self::Payload => return Err(Unmapped::Template),
        })
    }
}

/// What each wildcard of a filter stands for in a topic that it matches.
pub(super) fn wildcards<'t>(filter: &str, topic: &'t str) -> Vec<&'t str> {
    let mut found = Vec::new();
    let mut rest = Some(topic);
    for level in filter.split('/') {
        let (here, behind) = match rest {
            Some(text) => text
                .split_once('/')
                .map_or((text, None), |(here, behind)| (here, Some(behind))),
            None => ("", None),
        };
        match level {
            "+" => found.push(here),
            "#" => found.push(rest.unwrap_or_default()),
            _ => {}
        }
        rest = behind;
    }
    found
}

/// The pieces of a text with places, of messages that match a filter with so many wildcards.
pub(super) fn parts(text: &str, wildcards: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    let literal = |text: &str, parts: &mut Vec<Part>| {
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
    };
    while let Some((before, place)) = rest.split_once("${") {
        literal(before, &mut parts);
        let (name, after) = place
            .split_once('}')
            .ok_or_else(|| format!("`${{{place}` has no end"))?;
        parts.push(match name {
            "topic" => Part::Topic,
            "pct:topic" => Part::EncodedTopic,
            "clientid" => Part::ClientId,
            "username" => Part::Username,
            "qos" => Part::Qos,
            "node" => Part::Node,
            "payload" => Part::Payload,
            "base64:payload" => Part::EncodedPayload,
            name => match name.parse::<usize>() {
                Ok(at @ 1..=9) if at <= wildcards => Part::Wildcard(at),
                Ok(at @ 1..=9) => {
                    return Err(format!("there is no wildcard {at} in the filter"));
                }
                _ => return Err(format!("there is no `${{{name}}}`")),
            },
        });
        rest = after;
    }
    literal(rest, &mut parts);
    Ok(parts)
}

/// Another payload (`payload` of `in` and `out`).
///
/// One that begins with `{` or `[` has to be JSON: between quotes a place is text that cannot end them, outside it is a value. A
/// payload that is JSON is taken as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadMap {
    filter: TopicFilter,
    parts: Vec<(Stands, Part)>,
}

/// Where a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// In a text of any kind, or it is no place.
    Anywhere,
    /// In JSON, where a value is to be.
    ForAValue,
    /// Between the quotes of a JSON text.
    InQuotes,
}

impl PayloadMap {
    /// Reads a template for messages that match the filter.
    ///
    /// # Errors
    /// When a place is none, or what would be made is no JSON where it begins so.
    pub(super) fn read(text: &str, filter: &TopicFilter) -> Result<Self, String> {
        let levels = filter.as_str().split('/');
        let wildcards = levels.filter(|level| matches!(*level, "+" | "#")).count();
        let is_json = text.trim_start().starts_with(['{', '[']);
        let mut quoted = false;
        let parts = parts(text, wildcards)?.into_iter().map(|part| {
            let stands = match &part {
                Part::Text(text) => {
                    quoted = ends_in_quotes(text, quoted);
                    Stands::Anywhere
                }
                _ if !is_json => Stands::Anywhere,
                _ if quoted => Stands::InQuotes,
                _ => Stands::ForAValue,
            };
            (stands, part)
        });
        let map = Self {
            parts: parts.collect(),
            filter: filter.clone(),
        };
        if is_json {
            map.check_json()?;
        }
        Ok(map)
    }

    /// Fills every place with what shows whether it can stand there.
    fn check_json(&self) -> Result<(), String> {
        let probes = self
            .parts
            .iter()
            .map(|(stands, part)| match (stands, part) {
                (_, Part::Text(text)) => text.as_str(),
                // Behind a backslash it is no escape.
                (Stands::InQuotes, _) => "x",
                (_, Part::Qos) => "0",
                // It may be any value, and next to a number it is none.
                (_, Part::Payload) => "{}",
                _ => "\"x\"",
            });
        let made: String = probes.collect();
        serde_json::from_str::<IgnoredAny>(&made)
            .map(|_| ())
            .map_err(|error| {
                format!("it begins as JSON and is none: with its places filled, `{made}`: {error}")
            })
    }

    /// The payload that a message has on the other side, where it is another one. An empty one that goes on with RETAIN
    /// deletes what is retained there: it stays empty.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn changed(
        &self,
        topic: &str,
        sender: Sender<'_>,
        retain: bool,
    ) -> Result<Option<Vec<u8>>, Unmapped> {
        if retain && sender.payload.is_empty() {
            return Ok(None);
        }
        self.apply(topic, sender).map(Some)
    }

    /// The payload that a message has on the other side.
    ///
    /// # Errors
    /// When a place has no value, or none that can stand there: JSON takes no bytes that are no text.
    pub fn apply(&self, topic: &str, sender: Sender<'_>) -> Result<Vec<u8>, Unmapped> {
        let wildcards = wildcards(self.filter.as_str(), topic);
        let mut out = Vec::with_capacity(sender.payload.len() + 64);
        for (stands, part) in &self.parts {
            let value = match part {
                Part::Payload if *stands == Stands::Anywhere => {
                    out.extend_from_slice(sender.payload);
                    continue;
                }
                Part::Payload => std::str::from_utf8(sender.payload)
                    .map_err(|_| Unmapped::Template)?
                    .into(),
                Part::EncodedPayload => b64(sender.payload).into(),
                part => part.in_a_name(topic, &wildcards, sender)?,
            };
            let is_value = match part {
                Part::Qos => true,
                Part::Payload => serde_json::from_str::<IgnoredAny>(&value).is_ok(),
                _ => false,
            };
            match stands {
                Stands::ForAValue if !is_value => out.extend_from_slice(json(&value).as_bytes()),
                Stands::InQuotes => {
                    let text = json(&value);
                    // Without the quotes: they are in the template.
                    out.extend_from_slice(text.as_bytes().get(1..text.len() - 1).unwrap_or(b""));
                }
                _ => out.extend_from_slice(value.as_bytes()),
            }
        }
        Ok(out)
    }

    /// The template.
    pub fn shown(&self) -> String {
        let parts = self.parts.iter();
        parts.map(|(_, part)| part.to_string()).collect()
    }
}

/// A JSON text.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a piece of JSON ends between quotes.
fn ends_in_quotes(text: &str, mut quoted: bool) -> bool {
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> PayloadMap {
        PayloadMap::read(text, &TopicFilter::parse("a/+/#").unwrap()).unwrap()
    }

    fn made(text: &str, payload: &[u8]) -> Result<String, Unmapped> {
        let sender = Sender {
            client_id: "c\"1",
            username: Some("u"),
            qos: 1,
            node: "n",
            payload,
        };
        let made = map(text).apply("a/k7/x/y", sender)?;
        Ok(String::from_utf8(made).unwrap())
    }

    #[test]
    fn a_payload_is_made_of_the_old_one_and_of_where_it_comes_from() {
        let text = "${node} ${username} ${clientid} ${qos} ${1} ${2} ${pct:topic} ${payload}";
        let wanted = "n u c\"1 1 k7 x/y a%2Fk7%2Fx%2Fy 21.5";
        assert_eq!(made(text, b"21.5").unwrap(), wanted);
        assert_eq!(made("v=${base64:payload}", b"\xff\xfe?").unwrap(), "v=//4/");
        assert_eq!(made("always", b"").unwrap(), "always");
        assert_eq!(map(text).shown(), text);
    }

    #[test]
    fn nothing_that_is_sent_can_end_a_text_of_json() {
        let text = r#"{"id":"${clientid}","said":"${payload}","\"q":[${qos}]}"#;
        let wanted = r#"{"id":"c\"1","said":"a\"}\n","\"q":[1]}"#;
        assert_eq!(made(text, b"a\"}\n").unwrap(), wanted);
        assert_eq!(
            made(text, b"\xff"),
            Err(Unmapped::Template),
            "it is no text"
        );
        let bytes = r#"{"data":"${base64:payload}"}"#;
        assert_eq!(made(bytes, b"\xff").unwrap(), r#"{"data":"/w=="}"#);
    }

    #[test]
    fn what_begins_as_json_has_to_be_json() {
        let filter = TopicFilter::parse("a/+").unwrap();
        for text in [
            "{\"a\": ${payload}",
            "{${payload}: 1}",
            "{\"a\": 1${payload}}",
            "[${qos},]",
            "{a: ${qos}}",
            r#"{"a": "\${topic}"}"#,
            r#"{"a": "\u00${topic}"}"#,
            "[${topic}] and more",
        ] {
            let error = PayloadMap::read(text, &filter).unwrap_err();
            assert!(error.contains("is none"), "{text}: {error}");
        }
        for text in [r#"{"a\\${1}": [${qos}, ${payload}, "${payload}"]}"#, "{}"] {
            assert!(PayloadMap::read(text, &filter).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_message_that_deletes_a_retained_one_still_does() {
        let empty = Sender::default();
        let full = Sender {
            payload: b"1",
            ..empty
        };
        let map = map("[${payload}]");
        let changed = |sender, retain| map.changed("a/b", sender, retain).unwrap();
        assert_eq!(changed(empty, true), None);
        assert_eq!(changed(empty, false), Some(b"[\"\"]".to_vec()));
        assert_eq!(changed(full, true), Some(b"[1]".to_vec()));
    }

    #[test]
    fn where_json_wants_a_value_one_comes() {
        let text = r#"[${topic},${payload},${base64:payload}]"#;
        for (payload, value) in [
            ("{\"t\": 1}", "{\"t\": 1}"),
            ("21.5", "21.5"),
            ("on", "\"on\""),
            ("1,2", "\"1,2\""),
            ("", "\"\""),
        ] {
            let made = made(text, payload.as_bytes()).unwrap();
            let wanted = format!("[\"a/k7/x/y\",{value},\"{}\"]", b64(payload.as_bytes()));
            assert_eq!(made, wanted);
            assert!(serde_json::from_str::<serde_json::Value>(&made).is_ok());
        }
    }

    #[test]
    fn a_place_that_is_none_is_a_mistake_and_one_without_a_value_too() {
        let read = |text| PayloadMap::read(text, &TopicFilter::parse("a/+").unwrap());
        for text in ["${2}", "${temp}", "${", "${base64:topic}"] {
            assert!(read(text).is_err(), "{text}");
        }
        let nobody = Sender::default();
        let named = read("${username}").unwrap();
        assert_eq!(named.apply("a/b", nobody), Err(Unmapped::Template));
    }
}
