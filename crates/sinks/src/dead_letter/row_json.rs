//! A row as a line of JSON keeps it, and back without loss. What JSON has no word for stands there as base64 or null, and
//! beside the row it is said where, and what it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use weir_rules::value::{Bits, Key, Object, Text, Value};

use crate::render::json_value;

/// What values are that JSON has no word for, by their places (JSON Pointers, RFC 6901).
pub(super) type Kinds = BTreeMap<String, String>;

/// Bytes that are no text; base64 in the row.
const BYTES: &str = "bytes";
/// Bits, with their number behind it; base64 in the row.
const BITS: &str = "bits:";
/// No value; null in the row.
const UNDEFINED: &str = "undefined";

/// Rows that nest deeper are cut where they are kept, too.
const MAX_DEPTH: usize = 512;

/// The row, and what of it is not what it looks like.
pub(super) fn written(row: &Value) -> (Json, Kinds) {
    let mut writer = Writer::default();
    let row = writer.value(row, MAX_DEPTH);
    (row, writer.kinds)
}

#[derive(Default)]
struct Writer {
    place: String,
    kinds: Kinds,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Json {
        match value {
            Value::Text(text) if text.as_str().is_none() => {
                self.mark(BYTES.to_owned());
                STANDARD.encode(text.as_bytes()).into()
            }
            Value::Bits(bits) => {
                self.mark(format!("{BITS}{}", bits.len));
                STANDARD.encode(&bits.bytes).into()
            }
            Value::Array(items) if depth > 0 => {
                let items = items.iter().enumerate();
                items
                    .map(|(at, item)| self.within(&at.to_string(), item, depth))
                    .collect()
            }
            Value::Object(members) if depth > 0 => {
                let members = members.iter();
                let members: serde_json::Map<String, Json> = members
                    .map(|(key, value)| (key.to_string(), self.within(key, value, depth)))
                    .collect();
                members.into()
            }
            Value::Undefined | Value::Array(_) | Value::Object(_) => {
                self.mark(UNDEFINED.to_owned());
                Json::Null
            }
            scalar => json_value(scalar).unwrap_or_default(),
        }
    }

    fn within(&mut self, step: &str, value: &Value, depth: usize) -> Json {
        let outer = self.place.len();
        push_step(&mut self.place, step);
        let written = self.value(value, depth - 1);
        self.place.truncate(outer);
        written
    }

    fn mark(&mut self, kind: String) {
        self.kinds.insert(self.place.clone(), kind);
    }
}

fn push_step(place: &mut String, step: &str) {
    place.push('/');
    place.push_str(&step.replace('~', "~0").replace('/', "~1"));
}

/// The row that [`written`] made these of; `None` where a kind is unknown, names a place that is not there, or does not fit
/// what stands in it.
pub(super) fn read(row: Value, mut kinds: Kinds) -> Option<Value> {
    if kinds.is_empty() {
        return Some(row);
    }
    let row = restored(row, &mut String::new(), &mut kinds)?;
    kinds.is_empty().then_some(row)
}

fn restored(value: Value, place: &mut String, kinds: &mut Kinds) -> Option<Value> {
    if let Some(kind) = kinds.remove(place.as_str()) {
        return of_kind(&value, &kind);
    }
    let mut within = |step: &str, value: Value| {
        let outer = place.len();
        push_step(place, step);
        let value = restored(value, place, kinds);
        place.truncate(outer);
        value
    };
    match value {
        Value::Array(items) => {
            let items = Arc::unwrap_or_clone(items).into_iter().enumerate();
            let items: Option<Vec<Value>> = items
                .map(|(at, item)| within(&at.to_string(), item))
                .collect();
            items.map(Value::from)
        }
        Value::Object(members) => {
            let members = Arc::unwrap_or_clone(members).into_iter();
            let members: Option<Object> = members
                .map(|(key, value): (Key, Value)| {
                    let value = within(&key, value)?;
                    Some((key, value))
                })
                .collect();
            members.map(Value::from)
        }
        scalar => Some(scalar),
    }
}

fn of_kind(value: &Value, kind: &str) -> Option<Value> {
    if kind == UNDEFINED {
        return matches!(value, Value::Null).then_some(Value::Undefined);
    }
    let bytes = STANDARD.decode(value.as_str()?).ok()?;
    if kind == BYTES {
        return Some(Value::Text(Text::from(bytes)));
    }
    let len: usize = kind.strip_prefix(BITS)?.parse().ok()?;
    (bytes.len() == len.div_ceil(8)).then(|| Value::Bits(Arc::new(Bits { bytes, len })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(pairs: &[(&str, &str)]) -> Kinds {
        let own = |(place, kind): &(&str, &str)| ((*place).to_owned(), (*kind).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn bytes_are_base64_and_their_place_is_named() {
        let bytes = || Value::Text(Text::from(vec![0xFF, 0x00]));
        let row: Object = [
            (Key::from("a/b"), Value::from(vec![Value::Int(1), bytes()])),
            (Key::from("text"), Value::from("plain")),
        ]
        .into_iter()
        .collect();
        let (json, marks) = written(&row.into());
        assert_eq!(json.to_string(), r#"{"a/b":[1,"/wA="],"text":"plain"}"#);
        assert_eq!(marks, kinds(&[("/a~1b/1", "bytes")]));
    }

    #[test]
    fn kinds_that_do_not_fit_are_refused() {
        let row = || Value::from(vec![Value::from("/wA="), Value::Null]);
        for wrong in [
            ("/2", "bytes"),
            ("/0", "colour"),
            ("/0", "bits:4"),
            ("/0", "bits:"),
            ("/0", "undefined"),
            ("/1", "bytes"),
            ("0", "bytes"),
        ] {
            assert!(read(row(), kinds(&[wrong])).is_none(), "{wrong:?}");
        }
        let right = kinds(&[("/0", "bits:13"), ("/1", "undefined")]);
        assert!(read(row(), right).is_some());
    }
}
