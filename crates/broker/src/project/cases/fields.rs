//! The keys of a JSON object in a line, taken one by one; what does not fit is told in words of our own, with its place.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use weir_rules::json;
use weir_rules::value::{Key, Object, Value};

use crate::problem::nearest;
use crate::project::run_test::unhex;

/// Why a line cannot be used.
#[derive(Debug)]
pub(super) struct Fault {
    /// In bytes from the start of the line, at the start of a character.
    pub(super) offset: Option<usize>,
    pub(super) message: String,
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self {
            offset: None,
            message: message.to_owned(),
        }
    }
}

/// An object of a line. What was taken is gone; each value is still as it was written.
pub(super) struct Fields<'l> {
    line: &'l str,
    /// What messages call the object: `messages[1]`; empty for the line itself.
    name: String,
    left: Vec<(String, &'l RawValue)>,
}

/// An object's keys and values, those that stand twice included.
struct Pairs<'l>(Vec<(String, &'l RawValue)>);

impl<'l> Deserialize<'l> for Pairs<'l> {
    fn deserialize<D: Deserializer<'l>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap;
        impl<'l> Visitor<'l> for OfMap {
            type Value = Pairs<'l>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<Pairs<'l>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(OfMap)
    }
}

impl<'l> Fields<'l> {
    /// The object that a line is.
    pub(super) fn of_line(line: &'l str) -> Result<Self, Fault> {
        const CURE: &str = "a case is one object on one line: {\"sql\": \"SELECT …\", \"message\": {\"topic\": \"t\"}}";
        let pairs: Pairs<'l> = serde_json::from_str(line).map_err(|error| {
            let offset = start_of_character(line, error.column().saturating_sub(1));
            match error.classify() {
                Category::Data => Fault::from(format!("not a JSON object; {CURE}").as_str()),
                Category::Eof => Fault {
                    offset: Some(line.trim_end().len()),
                    message: format!("the JSON is not complete: a brace, bracket or quote is never closed; {CURE}"),
                },
                Category::Syntax | Category::Io => {
                    let found = line[offset..].chars().next();
                    let found = match found {
                        None => "the end".to_owned(),
                        Some(found) if found.is_control() => {
                            format!("`{}`", found.escape_default())
                        }
                        Some(found) => format!("`{found}`"),
                    };
                    Fault {
                        offset: Some(offset),
                        message: format!("not valid JSON: {found} cannot stand here; {CURE}"),
                    }
                }
            }
        })?;
        Self::new(line, String::new(), pairs)
    }

    /// The object that a value of the line is.
    pub(super) fn of_value(
        line: &'l str,
        name: String,
        value: &'l RawValue,
    ) -> Result<Self, Fault> {
        let pairs: Pairs<'l> = serde_json::from_str(value.get()).map_err(|_| {
            let fault = format!("{name} is an object: {{\"topic\": \"t\", \"payload\": …}}");
            Fault {
                offset: offset(line, value),
                message: fault,
            }
        })?;
        Self::new(line, name, pairs)
    }

    fn new(line: &'l str, name: String, Pairs(left): Pairs<'l>) -> Result<Self, Fault> {
        let fields = Self { line, name, left };
        for (at, (key, value)) in fields.left.iter().enumerate() {
            if fields.left[..at].iter().any(|(before, _)| before == key) {
                return Err(fields.fault(value, format!("the key `{key}` stands twice; leave one")));
            }
        }
        Ok(fields)
    }

    /// A fault at a value of this line.
    pub(super) fn fault(&self, value: &RawValue, message: impl Into<String>) -> Fault {
        let message = message.into();
        Fault {
            offset: offset(self.line, value),
            message: if self.name.is_empty() {
                message
            } else {
                format!("{}: {message}", self.name)
            },
        }
    }

    /// What is left.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'l RawValue)> {
        self.left.iter().map(|(key, value)| (key.as_str(), *value))
    }

    /// A value as it is written; null is none.
    pub(super) fn raw(&mut self, key: &str) -> Option<&'l RawValue> {
        let at = self.left.iter().position(|(name, _)| name == key)?;
        let (_, value) = self.left.remove(at);
        (value.get() != "null").then_some(value)
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Fault> {
        let value = self.raw(key);
        value.map(|value| self.as_text(key, value)).transpose()
    }

    pub(super) fn as_text(&self, key: &str, value: &RawValue) -> Result<String, Fault> {
        if !value.get().starts_with('"') {
            return Err(self.fault(value, format!("`{key}` takes a text, in double quotes")));
        }
        serde_json::from_str(value.get())
            .map_err(|_| self.fault(value, format!("`{key}` has an escape that is no character: a \\ud800 to \\udfff needs its other half")))
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        known: &[(&str, T)],
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        let written = self.as_text(key, value)?;
        if let Some((_, choice)) = known.iter().find(|(name, _)| *name == written) {
            return Ok(Some(*choice));
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let hint = nearest(&written, names.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(self.fault(
            value,
            format!(
                "`{key}` is one of {}, not `{written}`{hint}",
                names.join(", ")
            ),
        ))
    }

    pub(super) fn integer(&mut self, key: &str) -> Result<Option<i64>, Fault> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        match value.get().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.fault(value, format!("`{key}` takes milliseconds, an integer"))),
        }
    }

    pub(super) fn choice_of_numbers(
        &mut self,
        key: &str,
        known: RangeInclusive<u8>,
    ) -> Result<Option<u8>, Fault> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        let number = value
            .get()
            .parse()
            .ok()
            .filter(|number| known.contains(number));
        let wanted = || {
            let (least, most) = (known.start(), known.end());
            self.fault(value, format!("`{key}` is a number from {least} to {most}"))
        };
        number.map(Some).ok_or_else(wanted)
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Fault> {
        match self.raw(key) {
            None => Ok(None),
            Some(value) => match value.get() {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(self.fault(value, format!("`{key}` is true or false, without quotes"))),
            },
        }
    }

    pub(super) fn address(&mut self, key: &str) -> Result<Option<SocketAddr>, Fault> {
        let Some(value) = self.raw(key) else {
            return Ok(None);
        };
        match self.as_text(key, value)?.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(self.fault(
                value,
                format!("`{key}` is an address and a port, such as \"10.0.0.7:50123\""),
            )),
        }
    }

    pub(super) fn object(&mut self, key: &str) -> Result<Option<Arc<Object>>, Fault> {
        match self.raw(key) {
            None => Ok(None),
            Some(value) => match self.value(key, value)? {
                Value::Object(object) => Ok(Some(object)),
                _ => Err(self.fault(value, format!("`{key}` takes an object, in braces"))),
            },
        }
    }

    pub(super) fn list(&mut self, key: &str) -> Result<Option<Vec<&'l RawValue>>, Fault> {
        match self.raw(key) {
            None => Ok(None),
            Some(value) => serde_json::from_str(value.get()).map(Some).map_err(|_| {
                self.fault(value, format!("`{key}` takes a list, in square brackets"))
            }),
        }
    }

    /// Texts by name.
    pub(super) fn texts(&mut self, key: &str) -> Result<BTreeMap<String, String>, Fault> {
        let Some(value) = self.raw(key) else {
            return Ok(BTreeMap::new());
        };
        let Ok(Pairs(pairs)) = serde_json::from_str::<Pairs<'l>>(value.get()) else {
            let message = format!("`{key}` takes an object of texts: {{\"name\": \"fn …\"}}");
            return Err(self.fault(value, message));
        };
        pairs
            .into_iter()
            .map(|(name, text)| {
                let text = self.as_text(&format!("{key}.{name}"), text)?;
                Ok((name, text))
            })
            .collect()
    }

    /// `payload` is a text, or any other JSON as it was written; `payload_hex` any bytes.
    pub(super) fn payload(&mut self) -> Result<Option<Bytes>, Fault> {
        let at = self.left.iter().position(|(key, _)| key == "payload");
        let payload = at.map(|at| self.left.remove(at).1);
        match (payload, self.raw("payload_hex")) {
            (Some(_), Some(value)) => Err(self.fault(
                value,
                "`payload` and `payload_hex` exclude each other: leave one",
            )),
            (Some(text), None) if text.get().starts_with('"') => {
                Ok(Some(self.as_text("payload", text)?.into()))
            }
            (Some(text), None) => Ok(Some(Bytes::copy_from_slice(text.get().as_bytes()))),
            (None, Some(value)) => match unhex(&self.as_text("payload_hex", value)?) {
                Some(bytes) => Ok(Some(bytes.into())),
                None => Err(self.fault(
                    value,
                    "`payload_hex` is pairs of hexadecimal digits, such as \"00ff\"",
                )),
            },
            (None, None) => Ok(None),
        }
    }

    /// Every key that is left, as fields.
    pub(super) fn rest(self) -> Result<Option<Object>, Fault> {
        let fields: Object = self
            .left
            .iter()
            .map(|(key, text)| Ok((Key::from(key.as_str()), self.value(key, text)?)))
            .collect::<Result<_, Fault>>()?;
        Ok((!fields.is_empty()).then_some(fields))
    }

    fn value(&self, key: &str, text: &RawValue) -> Result<Value, Fault> {
        json::decode(text.get().as_bytes())
            .map_err(|fault| self.fault(text, format!("`{key}`: {}", fault.message())))
    }
}

/// Where in the line a value of it stands; it is a part of the line's own text.
fn offset(line: &str, value: &RawValue) -> Option<usize> {
    let (start, at) = (line.as_ptr().addr(), value.get().as_ptr().addr());
    at.checked_sub(start)
        .filter(|offset| *offset < line.len() && line.is_char_boundary(*offset))
}

fn start_of_character(line: &str, offset: usize) -> usize {
    let mut offset = offset.min(line.len());
    while !line.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
