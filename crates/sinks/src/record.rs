//! Rows as bytes, for the broker's store: what a rule made of a message, exactly.
//!
//! The first byte is the version of the format. Numbers are unsigned LEB128, texts stand behind their length. Bytes that
//! are no record are an error and never a panic; memory is only taken for what is really there.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use weir_rules::value::{Bits, Key, Object, Text, Value};

use crate::Record;

/// The formats that are written; the second has a path before the row. A reader refuses any other: it would have to guess.
const VERSION: u8 = 1;
const WITH_PATH: u8 = 2;

/// What stands before a value. The numbers stand in files: each is fixed for ever.
mod tag {
    pub(super) const UNDEFINED: u8 = 0;
    pub(super) const NULL: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const TRUE: u8 = 3;
    pub(super) const INT: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const BITS: u8 = 7;
    pub(super) const ARRAY: u8 = 8;
    pub(super) const OBJECT: u8 = 9;
}

/// Arrays and objects that nest deeper are written as undefined, since a reader has to stop somewhere. JSON that nests a
/// quarter as deep is refused when it is read.
const MAX_DEPTH: usize = 512;

/// Bytes that are no record, or one of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} was expected at byte {at} of the row")]
pub struct BadRecord {
    /// Where.
    pub at: usize,
    /// What was expected there.
    pub what: &'static str,
}

/// A row as it is kept; its number is given by the queue.
pub fn encode(message_id: u128, client_id: &Text, accepted_at_ms: i64, row: &Value) -> Bytes {
    encode_with_path(message_id, client_id, accepted_at_ms, &Text::default(), row)
}

/// The same with the brokers that the message has crossed.
pub fn encode_with_path(
    message_id: u128,
    client_id: &Text,
    accepted_at_ms: i64,
    path: &Text,
    row: &Value,
) -> Bytes {
    let has_path = !path.as_bytes().is_empty();
    let mut out = Vec::with_capacity(128);
    out.push(if has_path { WITH_PATH } else { VERSION });
    out.extend_from_slice(&message_id.to_be_bytes());
    out.extend_from_slice(&accepted_at_ms.to_be_bytes());
    write_bytes(client_id.as_bytes(), &mut out);
    if has_path {
        write_bytes(path.as_bytes(), &mut out);
    }
    write_value(row, MAX_DEPTH, &mut out);
    // In one piece of just its size: it waits, and is freed by another thread.
    Bytes::copy_from_slice(&out)
}

/// The row that [`encode`] has written, with the number that the queue gave it.
///
/// # Errors
/// When the bytes are no record, or one of a later version.
pub fn decode(seq: u64, bytes: &[u8]) -> Result<Record, BadRecord> {
    let mut reader = Reader { rest: bytes, at: 0 };
    let version = "a version of the format that is known";
    let [format] = reader.array(version)?;
    if ![VERSION, WITH_PATH].contains(&format) {
        return Err(BadRecord {
            at: 0,
            what: version,
        });
    }
    let record = Record {
        seq,
        message_id: u128::from_be_bytes(reader.array("a message id")?),
        accepted_at_ms: i64::from_be_bytes(reader.array("a time")?),
        client_id: reader.text("a client id")?,
        path: if format == WITH_PATH {
            reader.text("a path")?
        } else {
            Text::default()
        },
        row: reader.value(MAX_DEPTH)?,
    };
    if reader.rest.is_empty() {
        Ok(record)
    } else {
        Err(reader.bad("the end"))
    }
}

fn write_number(number: usize, out: &mut Vec<u8>) {
    let mut rest = number as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7F) as u8);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_number(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// `depth`: how many arrays and objects may still be opened.
fn write_value(value: &Value, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Undefined => out.push(tag::UNDEFINED),
        Value::Null => out.push(tag::NULL),
        Value::Bool(false) => out.push(tag::FALSE),
        Value::Bool(true) => out.push(tag::TRUE),
        Value::Int(int) => {
            out.push(tag::INT);
            out.extend_from_slice(&int.to_be_bytes());
        }
        Value::Float(float) => {
            out.push(tag::FLOAT);
            out.extend_from_slice(&float.to_be_bytes());
        }
        Value::Text(text) => {
            out.push(tag::TEXT);
            write_bytes(text.as_bytes(), out);
        }
        Value::Bits(bits) => {
            out.push(tag::BITS);
            write_number(bits.len, out);
            write_bytes(&bits.bytes, out);
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => out.push(tag::UNDEFINED),
        Value::Array(items) => {
            out.push(tag::ARRAY);
            write_number(items.len(), out);
            for item in &**items {
                write_value(item, depth - 1, out);
            }
        }
        Value::Object(members) => {
            out.push(tag::OBJECT);
            write_number(members.len(), out);
            for (key, value) in members.iter() {
                write_bytes(key.as_bytes(), out);
                write_value(value, depth - 1, out);
            }
        }
    }
}

/// What is still to be read.
struct Reader<'b> {
    rest: &'b [u8],
    /// How many bytes have been read before `rest`.
    at: usize,
}

impl<'b> Reader<'b> {
    fn bad(&self, what: &'static str) -> BadRecord {
        BadRecord { at: self.at, what }
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'b [u8], BadRecord> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.bad(what))?;
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], BadRecord> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn number(&mut self, what: &'static str) -> Result<usize, BadRecord> {
        let bad = self.bad(what);
        let mut number: u64 = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array(what).map_err(|_| bad)?;
            let bits = u64::from(byte & 0x7F);
            number |= bits << shift;
            // Of the tenth byte only one bit has a place.
            if number >> shift != bits {
                return Err(bad);
            }
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| bad);
            }
        }
        Err(bad)
    }

    fn bytes(&mut self, what: &'static str) -> Result<&'b [u8], BadRecord> {
        let len = self.number(what)?;
        self.take(len, what)
    }

    fn text(&mut self, what: &'static str) -> Result<Text, BadRecord> {
        Ok(Text::from(self.bytes(what)?.to_vec()))
    }

    fn value(&mut self, depth: usize) -> Result<Value, BadRecord> {
        let unknown = self.bad("a known kind of value");
        let deeper = depth.checked_sub(1);
        let too_deep = self.bad("a value that nests less deep");
        let [tag] = self.array("a value")?;
        Ok(match tag {
            tag::UNDEFINED => Value::Undefined,
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::INT => Value::Int(i64::from_be_bytes(self.array("an integer")?)),
            tag::FLOAT => {
                let bad = self.bad("a finite float");
                let float = f64::from_be_bytes(self.array(bad.what)?);
                Value::Float(Some(float).filter(|float| float.is_finite()).ok_or(bad)?)
            }
            tag::TEXT => Value::Text(self.text("a text")?),
            tag::BITS => Value::Bits(Arc::new(self.bits()?)),
            tag::ARRAY => {
                let depth = deeper.ok_or(too_deep)?;
                let count = self.number("an array")?;
                let items: Result<Vec<_>, _> = (0..count).map(|_| self.value(depth)).collect();
                Value::from(items?)
            }
            tag::OBJECT => {
                let depth = deeper.ok_or(too_deep)?;
                let count = self.number("an object")?;
                let members: Result<Object, _> = (0..count)
                    .map(|_| Ok((self.key()?, self.value(depth)?)))
                    .collect();
                Value::from(members?)
            }
            _ => return Err(unknown),
        })
    }

    fn key(&mut self) -> Result<Key, BadRecord> {
        let bad = self.bad("a key");
        let key = std::str::from_utf8(self.bytes("a key")?).map_err(|_| bad)?;
        Ok(Key::from(key))
    }

    fn bits(&mut self) -> Result<Bits, BadRecord> {
        let len = self.number("a number of bits")?;
        let bad = self.bad("as many bytes as the bits need");
        let bytes = self.bytes(bad.what)?;
        if bytes.len() == len.div_ceil(8) {
            Ok(Bits {
                bytes: bytes.to_vec(),
                len,
            })
        } else {
            Err(bad)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any row that a rule may make.
    pub(crate) fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Undefined),
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>()
                .prop_filter("rules make no others", |float| float.is_finite())
                .prop_map(Value::Float),
            proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|bytes| Value::Text(Text::from(bytes))),
            proptest::collection::vec(any::<u8>(), 1..9).prop_flat_map(|bytes| {
                let most = bytes.len() * 8;
                (most - 7..=most).prop_map(move |len| {
                    let bytes = bytes.clone();
                    Value::Bits(Arc::new(Bits { bytes, len }))
                })
            }),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((".{0,8}", inner), 0..6).prop_map(|members| {
                    let members = members.into_iter();
                    let object: Object = members
                        .map(|(key, value)| (Key::from(key.as_str()), value))
                        .collect();
                    Value::from(object)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_was(
            message_id: u128, client in proptest::collection::vec(any::<u8>(), 0..30), at: i64, path in "[a-z,]{0,9}",
            row in value(), seq: u64,
        ) {
            let client = Text::from(client);
            let path = Text::from(path.as_str());
            let bytes = encode_with_path(message_id, &client, at, &path, &row);
            let record = decode(seq, &bytes).unwrap();
            prop_assert_eq!((record.seq, record.message_id, record.accepted_at_ms), (seq, message_id, at));
            prop_assert_eq!(record.client_id.as_bytes(), client.as_bytes());
            prop_assert_eq!(record.path.as_bytes(), path.as_bytes());
            // What has the same bytes is the same, kinds and all.
            prop_assert_eq!(format!("{:?}", record.row), format!("{row:?}"));
            prop_assert_eq!(encode_with_path(message_id, &record.client_id, at, &record.path, &record.row), bytes);
        }

        #[test]
        fn damaged_bytes_are_an_error_or_another_row_and_never_a_panic(
            row in value(), cut: prop::sample::Index, at: prop::sample::Index, byte: u8,
        ) {
            let bytes = encode(1, &Text::from_static("c"), 2, &row);
            prop_assert!(decode(1, &bytes[..cut.index(bytes.len())]).is_err());
            let mut damaged = bytes.to_vec();
            let place = at.index(damaged.len());
            damaged[place] = byte;
            let _ = decode(1, &damaged);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(1, &bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = decode(1, &versioned);
        }
    }

    #[test]
    fn a_count_without_its_values_takes_no_memory() {
        let mut bytes = encode(1, &Text::from_static("c"), 2, &Value::Null).to_vec();
        bytes.pop();
        bytes.push(tag::ARRAY);
        bytes.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(decode(1, &bytes).is_err());
    }

    #[test]
    fn a_row_of_another_version_is_refused() {
        let mut bytes = encode(1, &Text::from_static("c"), 2, &Value::Null).to_vec();
        bytes[0] = WITH_PATH + 1;
        assert_eq!(decode(1, &bytes).unwrap_err().at, 0);
    }

    #[test]
    fn what_nests_without_end_is_cut_and_can_be_read() {
        let mut row = Value::Int(1);
        for _ in 0..2 * MAX_DEPTH {
            row = Value::from(vec![row]);
        }
        let bytes = encode(1, &Text::from_static("c"), 2, &row);
        assert!(decode(1, &bytes).is_ok());
    }
}
