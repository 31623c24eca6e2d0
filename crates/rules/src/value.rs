//! The values that rules compute with (rule-SQL §5).
//!
//! Cheap to clone: text shares its bytes, arrays and objects share their members.
//! Comparing is in `comparison.rs`, the text of values in `text.rs`, JSON in `json.rs`.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use compact_str::CompactString;
use indexmap::IndexMap;

/// One value of the rule language.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// No value: an absent field, key or index. Never serialised.
    #[default]
    Undefined,
    /// The JSON null.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// An IEEE double, always finite.
    Float(f64),
    /// A sequence of bytes; text operations need valid UTF-8.
    Text(Text),
    /// A bit sequence whose length need not be a multiple of eight.
    Bits(Arc<Bits>),
    /// An ordered list.
    Array(Arc<Vec<Value>>),
    /// String keys in insertion order.
    Object(Arc<Object>),
}

/// A string of the rule language: shared bytes, usually but not always UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

/// An object's key. JSON keys are always valid UTF-8. Up to 24 bytes of it need no memory of their own, and a copy
/// shares nothing: threads that make rows of one rule do not meet at its keys.
pub type Key = CompactString;

/// An object: keys in insertion order; a repeated key keeps the first place and the last value.
pub type Object = IndexMap<Key, Value, KeyHash>;

/// Hashes the keys of objects. The seed is drawn once for the program: a draw for each object would cost more than
/// the object, and peers do not learn it either way.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHash;

impl BuildHasher for KeyHash {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> Self::Hasher {
        static SEED: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);
        SEED.build_hasher()
    }
}

/// A bit sequence, made only by `subbits(…, 'bits')`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The bits, first bit in the highest place of the first byte; unused low bits of the last byte are 0.
    pub bytes: Vec<u8>,
    /// How many bits there are.
    pub len: usize,
}

impl Text {
    /// Text over bytes that are already shared.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, given away.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The text, or `None` when the bytes are not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl Value {
    /// The same value in memory of its own: nothing of it is a view of a larger buffer any more.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Text(text) => Self::Text(Text::from(text.as_bytes().to_vec())),
            Self::Array(items) => Self::Array(Arc::new(items.iter().map(Self::detached).collect())),
            Self::Object(members) => Self::Object(Arc::new(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), value.detached()))
                    .collect(),
            )),
            other => other.clone(),
        }
    }

    /// As [`Self::detached`], in the memory of the containers where nobody else has them.
    pub fn detach(&mut self) {
        match self {
            Self::Text(text) => *text = Text::from(text.as_bytes().to_vec()),
            Self::Array(items) => match Arc::get_mut(items) {
                Some(items) => items.iter_mut().for_each(Self::detach),
                None => *self = self.detached(),
            },
            Self::Object(members) => match Arc::get_mut(members) {
                Some(members) => members.values_mut().for_each(Self::detach),
                None => *self = self.detached(),
            },
            _ => {}
        }
    }

    /// The type's name as `typeof` gives it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::Text(_) => "string",
            Self::Bits(_) => "bits",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// The type as a sentence names it: `an integer`.
    pub(crate) const fn article_name(&self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::Bits(_) => "bits",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// Whether this is undefined.
    pub const fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// Whether this is undefined or null: `IS NULL`.
    pub const fn is_nullish(&self) -> bool {
        matches!(self, Self::Undefined | Self::Null)
    }

    /// A float, when it is finite.
    pub fn finite(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }

    /// The string, when this is one and valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.as_str(),
            _ => None,
        }
    }

    /// The string's bytes, when this is a string.
    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, when this is one.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, when this is one.
    pub const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The object, when this is one.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The array, when this is one.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The member `key` of an object; `None` for anything else and where it is undefined.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?
            .get(key)
            .filter(|value| !value.is_undefined())
    }

    /// Whether the value would be larger than `limit` bytes if its parts stood in it by themselves: they are shared, so
    /// that `[a, a]` of an `[a, a]` of … is small in memory and has no end when it is written out.
    pub fn weighs_more_than(&self, limit: usize) -> bool {
        fn left(value: &Value, limit: usize) -> Option<usize> {
            let own = match value {
                Value::Text(text) => text.as_bytes().len(),
                Value::Bits(bits) => bits.bytes.len(),
                _ => 0,
            };
            let limit = limit.checked_sub(own + 1)?;
            match value {
                Value::Array(values) => values
                    .iter()
                    .try_fold(limit, |limit, value| left(value, limit)),
                Value::Object(object) => object.iter().try_fold(limit, |limit, (key, value)| {
                    left(value, limit.checked_sub(key.len())?)
                }),
                _ => Some(limit),
            }
        }
        left(self, limit).is_none()
    }

    /// Whether arrays and objects nest deeper than `limit` (a scalar has depth 0).
    pub fn is_deeper_than(&self, limit: usize) -> bool {
        match self {
            Self::Array(values) => {
                limit == 0 || values.iter().any(|value| value.is_deeper_than(limit - 1))
            }
            Self::Object(object) => {
                limit == 0 || object.values().any(|value| value.is_deeper_than(limit - 1))
            }
            _ => false,
        }
    }
}

impl PartialEq for Value {
    /// Strict equality (rule-SQL §5.1): `1` equals `1.0` and differs from `'1'`; undefined equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.strict_equals(other)
    }
}

impl std::fmt::Display for Text {
    /// What is not UTF-8 shows as U+FFFD.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl From<Bytes> for Text {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::from(bytes))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::Array(Arc::new(values))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(Arc::new(object))
    }
}

impl From<f64> for Value {
    /// A float; what is not finite becomes undefined, because the language has no such values.
    fn from(value: f64) -> Self {
        Self::finite(value).unwrap_or_default()
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        values.into_iter().collect::<Vec<_>>().into()
    }
}

impl<K: Into<Key>> FromIterator<(K, Value)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(members: I) -> Self {
        members
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect::<Object>()
            .into()
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Self::Int(value),
                (None, value) => value.map_or(Self::Undefined, Self::from),
            },
            Json::String(text) => text.into(),
            Json::Array(values) => values.into_iter().map(Self::from).collect(),
            Json::Object(members) => members
                .into_iter()
                .map(|(key, value)| (key, Self::from(value)))
                .collect(),
        }
    }
}

impl From<&Value> for serde_json::Value {
    /// For tools and tests: text that is not UTF-8 shows U+FFFD, bits show as their hex digits.
    fn from(value: &Value) -> Self {
        match value {
            Value::Undefined | Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => String::from_utf8_lossy(text.as_bytes()).into(),
            Value::Bits(bits) => bits.hex().into(),
            Value::Array(values) => Self::Array(values.iter().map(Self::from).collect()),
            Value::Object(object) => Self::Object(
                object
                    .iter()
                    .filter(|(_, value)| !value.is_undefined())
                    .map(|(key, value)| (key.to_string(), Self::from(value)))
                    .collect(),
            ),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Undefined | Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(&String::from_utf8_lossy(text.as_bytes())),
            Self::Bits(bits) => serializer.serialize_str(&bits.hex()),
            Self::Array(values) => serializer.collect_seq(values.iter()),
            Self::Object(object) => {
                let defined = object.iter().filter(|(_, value)| !value.is_undefined());
                serializer.collect_map(defined.map(|(key, value)| (&**key, value)))
            }
        }
    }
}

impl Bits {
    fn hex(&self) -> String {
        self.bytes
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    }
}
