//! JSON text of values and back (rule-SQL §5.5): strict, bounded in depth, floats as the shortest text that reads back.

use std::cell::Cell;
use std::io::Write as _;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use bytes::Bytes;

use crate::error::{ErrorKind, Fault};
use crate::value::{Key, Object, Text, Value};

/// Arrays and objects may nest this deep in decoded text.
pub const MAX_DEPTH: usize = 128;

/// Values built by rules may nest deeper than what is decoded, but not without end.
const MAX_ENCODED_DEPTH: usize = 512;

/// Strings of a payload up to this size share the payload's memory; of a larger one they are copied,
/// so that a short text in a waiting row does not keep a large payload alive.
const SHARED_UP_TO: usize = 4096;

/// Decodes one JSON text.
///
/// # Errors
/// [`ErrorKind::Json`] with the place, when the text is not exactly one JSON value of RFC 8259.
pub fn decode(text: &[u8]) -> Result<Value, Fault> {
    let text = utf8(text).map_err(|message| Fault::new(ErrorKind::Json, message))?;
    build(text, None)
        .map_err(|error| Fault::new(ErrorKind::Json, format!("not JSON: {}", reason(&error))))
}

/// Builds the value of exactly one JSON text, whose strings may share `source`.
pub(crate) fn build(text: &str, source: Option<&Bytes>) -> serde_json::Result<Value> {
    let zeros = Zeros::default();
    let value = parse(text, Build::new(source, &zeros))?;
    if !zeros.found() {
        return Ok(value);
    }
    parse(&zeros.unsigned(text), Build::new(None, &zeros))
}

/// What is wrong with a JSON text, and where.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let mut reason = error.to_string();
    for of_serde in [
        "unexpected end of hex escape",
        "lone leading surrogate in hex escape",
    ] {
        if let Some(place) = reason.strip_prefix(of_serde) {
            reason = format!("a lone surrogate (half of a pair of \\u escapes){place}");
        }
    }
    reason
}

/// Whether a decoded text may hold `-0`, which the reader gives as a float, and which is the integer 0.
#[derive(Debug, Default)]
pub(crate) struct Zeros(Cell<bool>);

impl Zeros {
    pub(crate) const fn found(&self) -> bool {
        self.0.get()
    }

    /// The text with a space for the sign of each `-0`: every other byte stays where it is.
    pub(crate) fn unsigned(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let (mut in_string, mut escaped, mut before) = (false, false, ' ');
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let is_zero = || {
                let mut after = chars.clone();
                after.next() == Some('0')
                    && !matches!(after.next(), Some('0'..='9' | '.' | 'e' | 'E'))
            };
            // `1e-0` is an exponent.
            let sign = c == '-' && !in_string && !matches!(before, 'e' | 'E') && is_zero();
            out.push(if sign { ' ' } else { c });
            in_string ^= c == '"' && !escaped;
            escaped = in_string && c == '\\' && !escaped;
            before = c;
        }
        out
    }
}

/// The compact JSON text of `value`, appended to `out`. Undefined is `null`; an undefined member is left out.
///
/// # Errors
/// [`ErrorKind::Encode`] for bits and for text that is not UTF-8.
pub fn encode(value: &Value, out: &mut Vec<u8>) -> Result<(), Fault> {
    encode_at(value, out, 0)
}

/// The compact JSON text of `value`.
///
/// # Errors
/// As [`encode`].
pub fn to_text(value: &Value) -> Result<String, Fault> {
    let mut out = Vec::new();
    encode(value, &mut out)?;
    Ok(String::from_utf8(out).expect("only UTF-8 was written"))
}

pub(crate) fn utf8(text: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(text)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))
}

/// Runs `seed` over exactly one JSON text.
pub(crate) fn parse<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // Its own limit is one level off; the seeds count for themselves.
    deserializer.disable_recursion_limit();
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Builds the entire value.
#[derive(Clone, Copy)]
pub(crate) struct Build<'a> {
    /// How many arrays and objects are open.
    pub(crate) depth: usize,
    /// The bytes that texts may share.
    pub(crate) shared: Option<&'a Bytes>,
    /// Is told of a zero with a sign.
    zeros: &'a Zeros,
}

impl<'a> Build<'a> {
    pub(crate) fn new(source: Option<&'a Bytes>, zeros: &'a Zeros) -> Self {
        Self {
            depth: 0,
            zeros,
            shared: source.filter(|bytes| bytes.len() <= SHARED_UP_TO),
        }
    }

    /// The seed of a member, or an error at the depth limit.
    pub(crate) fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    pub(crate) fn float(self, float: f64) -> Option<Value> {
        if float == 0.0 && float.is_sign_negative() {
            self.zeros.0.set(true);
        }
        Value::finite(float)
    }

    pub(crate) fn text(self, text: &str) -> Value {
        Value::Text(self.shared.map_or_else(
            || text.into(),
            |shared| Text::from_bytes(shared.slice_ref(text.as_bytes())),
        ))
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The methods that every visitor of JSON scalars shares.
macro_rules! visit_scalars {
    ($build:ident) => {
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON value")
        }

        fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
            Ok(Value::Bool(value))
        }

        fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
            Ok(Value::Int(value))
        }

        fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
            // Past the 64-bit range an integer becomes the nearest float.
            Ok(i64::try_from(value).map_or_else(|_| Value::Float(value as f64), Value::Int))
        }

        fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
            self.$build()
                .float(value)
                .ok_or_else(|| E::custom("number out of range"))
        }

        fn visit_unit<E>(self) -> Result<Value, E> {
            Ok(Value::Null)
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value, E> {
            Ok(self.$build().text(text))
        }

        fn visit_str<E>(self, text: &str) -> Result<Value, E> {
            Ok(text.into())
        }
    };
}
pub(crate) use visit_scalars;

impl Build<'_> {
    const fn build(self) -> Self {
        self
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Value;

    visit_scalars!(build);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let member = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(member)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let member = self.deeper()?;
        let mut object = Object::default();
        while let Some(key) = map.next_key_seed(KeyOf)? {
            let value = map.next_value_seed(member)?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// Reads an object's key.
struct KeyOf;

impl<'de> DeserializeSeed<'de> for KeyOf {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf {
    type Value = Key;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(key.into())
    }
}

fn encode_at(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), Fault> {
    if depth > MAX_ENCODED_DEPTH {
        return Err(Fault::new(
            ErrorKind::Encode,
            format!("nested deeper than {MAX_ENCODED_DEPTH}"),
        ));
    }
    match value {
        Value::Undefined | Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) => encode_int(*int, out),
        Value::Float(float) => encode_float(*float, out),
        Value::Text(text) => match text.as_str() {
            Some(text) => encode_str(text, out),
            None => {
                return Err(Fault::new(
                    ErrorKind::Encode,
                    "text that is not UTF-8 cannot be put into JSON",
                )
                .with_value(value.clone()));
            }
        },
        Value::Bits(_) => {
            return Err(
                Fault::new(ErrorKind::Encode, "bits cannot be put into JSON")
                    .with_value(value.clone()),
            );
        }
        Value::Array(values) => {
            out.push(b'[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                encode_at(value, out, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Object(object) => {
            out.push(b'{');
            let mut first = true;
            for (key, value) in object.iter().filter(|(_, value)| !value.is_undefined()) {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                encode_str(key, out);
                out.push(b':');
                encode_at(value, out, depth + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn encode_int(int: i64, out: &mut Vec<u8>) {
    if int < 0 {
        out.push(b'-');
    }
    encode_digits(int.unsigned_abs(), out);
}

fn encode_digits(mut rest: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Raw UTF-8 with only `"`, `\` and control characters escaped.
pub(crate) fn encode_str(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // All of it is looked at, which the processor does many bytes at a time.
    let is_plain = |plain, byte: &u8| plain & (*byte >= 0x20) & (*byte != b'"') & (*byte != b'\\');
    if bytes.iter().fold(true, is_plain) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        if short == 0 {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// The shortest text that reads back equal, always with a fraction: `3.0`, `1.0e22`.
pub fn float_text(float: f64) -> String {
    let mut text = Vec::new();
    encode_float(float, &mut text);
    String::from_utf8(text).expect("digits are ASCII")
}

fn encode_float(float: f64, out: &mut Vec<u8>) {
    if let Some((digits, scale)) = short_decimal(float.abs()) {
        if float.is_sign_negative() {
            out.push(b'-');
        }
        encode_digits(digits / scale, out);
        let point = out.len();
        // The 1 before the decimals keeps their zeros, and its place is the point's.
        encode_digits(scale + digits % scale, out);
        out[point] = b'.';
        return;
    }
    let start = out.len();
    write!(out, "{float:?}").expect("writing to memory does not fail");
    let text = out.get(start..).unwrap_or_default();
    if let Some(exponent) = text.iter().position(|byte| *byte == b'e')
        && !text.contains(&b'.')
    {
        let at = start + exponent;
        out.splice(at..at, *b".0");
    }
}

/// What devices measure: the digits of a float that has one to four decimals, and the power of ten that they are
/// divided by. At most 15 digits belong to one float and one float to them, so that no shorter text reads back equal;
/// and their quotient is rounded as the text is when it is read.
fn short_decimal(float: f64) -> Option<(u64, u64)> {
    const LIMIT: f64 = 1e15;
    for (scale, power) in [(10, 10.0), (100, 100.0), (1_000, 1e3), (10_000, 1e4)] {
        let scaled = float * power;
        // The largest floats become infinite here.
        if scaled >= LIMIT {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative and below the limit"
        )]
        let digits = scaled as u64;
        #[expect(clippy::cast_precision_loss, reason = "floats hold 15 digits exactly")]
        let whole = digits as f64;
        if whole == scaled && whole / power == float {
            // Where a decimal less would do, rounding has hidden it.
            return (scale == 10 || !digits.is_multiple_of(10)).then_some((digits, scale));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        to_text(&decode(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn text_is_compact_with_keys_in_order_and_raw_utf8() {
        assert_eq!(
            round(r#" { "b" : [ 1 , null ] , "a" : "\u00e9\/\u0001\ud83d\ude00" } "#),
            "{\"b\":[1,null],\"a\":\"é/\\u0001😀\"}"
        );
    }

    #[test]
    fn a_repeated_key_keeps_the_first_place_and_the_last_value() {
        assert_eq!(round(r#"{"a":{"x":1},"b":2,"a":3}"#), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn numbers_keep_their_type_and_floats_their_shortest_text() {
        assert_eq!(
            round("[1,1.0,-0.5,1e22,1e-7,0.1]"),
            "[1,1.0,-0.5,1.0e22,1.0e-7,0.1]"
        );
        assert_eq!(
            round("[9223372036854775807,9223372036854775808,-9223372036854775808]"),
            "[9223372036854775807,9.223372036854776e18,-9223372036854775808]"
        );
        assert_eq!(round("5e-324"), "5.0e-324");
        // Without fraction and exponent it is an integer, and there is one zero of these.
        assert_eq!(
            round(r#"[-0,-0.0,-0e1,{"-0":"\"-0","b\\":-0},"-0",1e-0,-0]"#),
            r#"[0,-0.0,-0.0,{"-0":"\"-0","b\\":0},"-0",1.0,0]"#
        );
        assert_eq!(round("-0"), "0");
        assert!(decode(b"[--0]").is_err());
        assert!(decode(b"[-0 0]").is_err());
        assert_eq!(round("0.30000000000000004"), "0.30000000000000004");
    }

    #[test]
    fn decimals_are_written_as_the_long_way_writes_them() {
        let check = |float: &f64| {
            let text = float_text(*float);
            assert_eq!(text.replace(".0e", "e"), format!("{float:?}"));
        };
        for digits in (0..100_000_u32).chain((0..5_000).map(|step| u32::MAX - step * 858_993)) {
            for power in [1.0, 10.0, 100.0, 1e3, 1e4, 1e5] {
                let float = f64::from(digits) / power;
                [float, -float, float.next_up(), float.next_down()]
                    .iter()
                    .for_each(check);
            }
        }
        for limit in [
            1e10,
            1e11,
            1e12,
            1e13,
            1e14,
            1e15,
            1e16,
            f64::MAX,
            1e-4,
            f64::MIN_POSITIVE,
        ] {
            for part in [0.0, 0.1, 0.25, 0.999, 1.0] {
                let float = limit - part;
                [float, -float, float.next_up(), float.next_down()]
                    .iter()
                    .for_each(check);
            }
        }
    }

    #[test]
    fn text_that_is_not_strict_json_is_refused() {
        for text in [
            "",
            "nul",
            "[1,]",
            "{\"a\":1,}",
            "NaN",
            "Infinity",
            "01",
            "1.",
            ".5",
            "+1",
            "1e999",
            "'a'",
            "// c\n1",
            "{a:1}",
            "1 2",
            "\"\\ud800\"",
            "\"\\udc00x\"",
            "\"\u{1}\"",
            "[\"\\x\"]",
            "\u{feff}1",
        ] {
            assert!(decode(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(decode(b"\"\xff\"").is_err());
    }

    #[test]
    fn a_lone_surrogate_is_called_one() {
        for text in [
            r#""\ud800""#,
            r#""\ud800x""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
        ] {
            let fault = decode(text.as_bytes()).unwrap_err();
            assert!(
                fault.message().contains("lone surrogate"),
                "{text}: {fault:?}"
            );
        }
    }

    #[test]
    fn nesting_of_128_is_decoded_and_129_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(decode(nested(128).as_bytes()).is_ok());
        assert!(decode(nested(129).as_bytes()).is_err());
        assert!(decode("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn undefined_members_are_left_out_and_undefined_elements_null() {
        let object: Value = [
            ("a", Value::Undefined),
            ("b", vec![Value::Undefined].into()),
        ]
        .into_iter()
        .collect();
        assert_eq!(to_text(&object).unwrap(), r#"{"b":[null]}"#);
        assert_eq!(to_text(&Value::Undefined).unwrap(), "null");
    }

    #[test]
    fn what_is_not_utf8_cannot_be_encoded() {
        let fault = to_text(&Value::Text(vec![0xff].into())).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Encode);
    }
}
