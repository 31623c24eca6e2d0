//! Decoding a payload once for all rules that match it: only what they read is built, all of it is checked.

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::error::{ErrorKind, Fault};
use crate::json::{self, Build, Zeros, visit_scalars};
use crate::path::PathSet;
use crate::scan::scan;
use crate::slots::Slots;
use crate::value::{Key, KeyHash, Object, Value};

/// Larger payloads are not decoded for rules.
pub const MAX_SIZE: usize = 1024 * 1024;

/// A payload as rules look into it.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Where the values are that they read.
    pub(crate) slots: Slots,
    /// All of them as one value, where the text was not plain enough for that.
    pub(crate) tree: Option<Value>,
}

impl Decoded {
    /// Decodes what `needs` names.
    ///
    /// # Errors
    /// As [`decode`].
    pub(crate) fn of(payload: &Bytes, needs: &PathSet) -> Result<Self, Fault> {
        let mut slots = Slots::new(needs.values().len());
        let is_plain = payload.len() <= MAX_SIZE
            && std::str::from_utf8(payload).is_ok()
            && scan(payload, needs, &mut slots).is_some();
        let tree = if is_plain {
            None
        } else {
            Some(decode(payload, needs)?)
        };
        Ok(Self { slots, tree })
    }
}

/// Decodes the parts of `payload` that `needs` names. What lies beside them is absent from the result,
/// but must be valid all the same.
///
/// # Errors
/// [`ErrorKind::PayloadDecode`] when the payload is no JSON text, or larger than [`MAX_SIZE`].
pub fn decode(payload: &Bytes, needs: &PathSet) -> Result<Value, Fault> {
    let refuse = |message: String| {
        Fault::new(ErrorKind::PayloadDecode, message).with_value(excerpt(payload))
    };
    if payload.len() > MAX_SIZE {
        return Err(refuse(format!(
            "the payload has {} bytes, more than {MAX_SIZE}",
            payload.len()
        )));
    }
    let text =
        json::utf8(payload).map_err(|message| refuse(format!("the payload is {message}")))?;
    let zeros = Zeros::default();
    let read = |text: &str, source| {
        let build = Build::new(source, &zeros);
        if needs.is_whole() {
            json::parse(text, build)
        } else {
            json::parse(text, Pruned { needs, build })
        }
    };
    let mut result = read(text, Some(payload));
    if result.is_ok() && zeros.found() {
        result = read(&zeros.unsigned(text), None);
    }
    result.map_err(|error| refuse(format!("the payload is not JSON: {}", json::reason(&error))))
}

/// Enough of the payload to recognise it; an error shows 64 characters.
fn excerpt(payload: &Bytes) -> Value {
    Value::Text(
        payload
            .get(..payload.len().min(260))
            .unwrap_or_default()
            .to_vec()
            .into(),
    )
}

/// Builds what `needs` names and passes over the rest.
#[derive(Clone, Copy)]
struct Pruned<'a> {
    needs: &'a PathSet,
    build: Build<'a>,
}

impl Pruned<'_> {
    const fn build(self) -> Self {
        self
    }

    fn float(self, float: f64) -> Option<Value> {
        self.build.float(float)
    }

    /// A string between two steps stays whole: the next step goes into it.
    fn text(self, text: &str) -> Value {
        self.build.text(text)
    }
}

impl<'de> DeserializeSeed<'de> for Pruned<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.needs.is_whole() {
            self.build.deserialize(deserializer)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Pruned<'_> {
    type Value = Value;

    visit_scalars!(build);

    /// Only members are read here, and an array has none.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let skipped = Skipped(self.build.deeper()?);
        while seq.next_element_seed(skipped)?.is_some() {}
        Ok(Vec::new().into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let build = self.build.deeper()?;
        let mut object = Object::with_capacity_and_hasher(self.needs.len(), KeyHash);
        while let Some(wanted) = map.next_key_seed(WantedKey(self.needs))? {
            match wanted {
                Some((key, needs)) => {
                    let value = map.next_value_seed(Pruned { needs, build })?;
                    // A later member of the same name replaces the earlier one wholly.
                    object.insert(key.clone(), value);
                }
                None => {
                    map.next_value_seed(Skipped(build))?;
                }
            }
        }
        Ok(object.into())
    }
}

/// Passes over a value that nobody reads. It must be sound all the same, its numbers in range: what one rule reads
/// decides nothing for another.
#[derive(Clone, Copy)]
struct Skipped<'a>(Build<'a>);

impl<'de> DeserializeSeed<'de> for Skipped<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skipped<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.0.visit_f64(value).map(drop)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let member = Self(self.0.deeper()?);
        while seq.next_element_seed(member)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let member = Self(self.0.deeper()?);
        while map.next_key_seed(member)?.is_some() {
            map.next_value_seed(member)?;
        }
        Ok(())
    }
}

/// Finds a key among those that are read, without copying it.
struct WantedKey<'a>(&'a PathSet);

impl<'de, 'a> DeserializeSeed<'de> for WantedKey<'a> {
    type Value = Option<(&'a Key, &'a PathSet)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for WantedKey<'a> {
    type Value = Option<(&'a Key, &'a PathSet)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.member(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(payload: &str, paths: &[&[&str]]) -> Result<String, Fault> {
        let mut needs = PathSet::default();
        for path in paths {
            needs.add(path);
        }
        decode(&Bytes::copy_from_slice(payload.as_bytes()), &needs)
            .and_then(|value| json::to_text(&value))
    }

    #[test]
    fn only_what_is_read_is_built() {
        let payload = r#"{"a":{"x":1,"y":[1,2]},"b":"long","c":{"d":{"e":null,"f":0}}}"#;
        assert_eq!(
            pruned(payload, &[&["a", "x"], &["c", "d", "e"], &["nope"]]).unwrap(),
            r#"{"a":{"x":1},"c":{"d":{"e":null}}}"#
        );
        assert_eq!(
            pruned(payload, &[&["a"]]).unwrap(),
            r#"{"a":{"x":1,"y":[1,2]}}"#
        );
    }

    #[test]
    fn a_later_duplicate_replaces_the_whole_earlier_subtree() {
        assert_eq!(
            pruned(r#"{"a":{"x":1},"a":{"y":2}}"#, &[&["a", "x"]]).unwrap(),
            r#"{"a":{}}"#
        );
        assert_eq!(
            pruned(r#"{"a":{"x":1},"a":5}"#, &[&["a", "x"]]).unwrap(),
            r#"{"a":5}"#
        );
    }

    #[test]
    fn skipped_parts_are_checked() {
        for bad in [
            r#"{"a":1,"b":"\ud800"}"#,
            r#"{"a":1,"b":"\udc00\ud800"}"#,
            r#"{"a":1,"b":[1,]}"#,
            r#"{"a":1,"b":nul}"#,
            r#"{"a":1} x"#,
            r#"{"a":1"#,
            r#"{"a":1,"b":"\x"}"#,
            r#"{"a":1,"b":[1e999]}"#,
            r#"{"\ud800":0,"a":1}"#,
        ] {
            assert_eq!(
                pruned(bad, &[&["a"]]).unwrap_err().kind(),
                ErrorKind::PayloadDecode,
                "{bad}"
            );
        }
        assert!(pruned(r#"{"a":1,"b":"\ud83d\ude00\\ud800\"[[["}"#, &[&["a"]]).is_ok());
        assert!(
            decode(
                &Bytes::from_static(b"{\"a\":1,\"b\":\"\xff\"}"),
                &PathSet::default()
            )
            .is_err()
        );
    }

    #[test]
    fn skipped_parts_may_nest_to_128_and_no_deeper() {
        let nested = |depth: usize| {
            format!(
                r#"{{"a":1,"b":{}{}}}"#,
                "[".repeat(depth - 1),
                "]".repeat(depth - 1)
            )
        };
        assert!(pruned(&nested(128), &[&["a"]]).is_ok());
        assert!(pruned(&nested(129), &[&["a"]]).is_err());
        assert!(pruned(&format!(r#"{{"b":{}"#, "[".repeat(100_000)), &[&["a"]]).is_err());
    }

    #[test]
    fn a_string_on_the_way_stays_whole() {
        assert_eq!(
            pruned(r#"{"a":"{\"x\":1}"}"#, &[&["a", "x"]]).unwrap(),
            r#"{"a":"{\"x\":1}"}"#
        );
        assert_eq!(pruned(r#""{}""#, &[&["a"]]).unwrap(), r#""{}""#);
        assert_eq!(pruned("[1,[2]]", &[&["a"]]).unwrap(), "[]");
    }

    #[test]
    fn the_short_way_takes_what_devices_send() {
        let taken = |text: &str| {
            let mut needs = PathSet::default();
            needs.add(&["a"]);
            needs.add(&["b", "c"]);
            let payload = Bytes::copy_from_slice(text.as_bytes());
            Decoded::of(&payload, &needs).is_ok_and(|decoded| decoded.tree.is_none())
        };
        for text in [
            r#"{"a":1}"#,
            r#" { "a" : -1.5e-7 , "b" : { "c" : [ ] } } "#,
            r#"{"x":"\ud83d\ude00\n\"","a":"\u00e9","y":1e99,"z":[{},[[]],{"q":{"r":[1,true,null]}}]}"#,
            "[1,2]",
            "7",
            "{}",
        ] {
            assert!(taken(text), "{text}");
        }
        for text in [
            r#"{"\u0061":1}"#,
            r#"{"a":1e999}"#,
            r#"{"x":[1e999]}"#,
            r#"{"b":"{}"}"#,
            r#"{"a":1,}"#,
            r#"{"x":"\ud800"}"#,
            "{\"x\":\"\u{1}\"}",
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":-}"#,
            r#"{"a":tru}"#,
            r#"{"a":[1}}"#,
            r#"{"a":1"#,
            "",
            "\"x",
        ] {
            assert!(!taken(text), "{text}");
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_not_decoded() {
        let text = format!("\"{}\"", "x".repeat(MAX_SIZE));
        assert_eq!(
            pruned(&text, &[&["a"]]).unwrap_err().kind(),
            ErrorKind::PayloadDecode
        );
    }
}
