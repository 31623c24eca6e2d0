//! The values of one payload that rules read: where they stand in its text, and what they are once someone asked.

use std::cell::OnceCell;
use std::ops::Range;

use bytes::Bytes;

use crate::json::{self, Build, Zeros};
use crate::value::Value;

/// So many values need no memory of their own.
const INLINE: usize = 8;

/// The values of a payload by their numbers in the set of paths that are read.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    first: [Slot; INLINE],
    more: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Where the value's text starts and ends; nowhere while there is none.
    start: u32,
    end: u32,
    value: OnceCell<Value>,
}

impl Slots {
    /// Room for so many values, none of them there.
    pub(crate) fn new(count: usize) -> Self {
        let mut more = Vec::new();
        more.resize_with(count.saturating_sub(INLINE), Slot::default);
        Self {
            more,
            ..Self::default()
        }
    }

    /// Notes where the text of a value is. Payloads of more than 4 GiB are not decoded.
    pub(crate) fn note(&mut self, number: usize, start: usize, end: usize) {
        if let (Some(slot), Ok(start), Ok(end)) = (
            self.slot_mut(number),
            u32::try_from(start),
            u32::try_from(end),
        ) {
            (slot.start, slot.end) = (start, end);
        }
    }

    /// Notes that there are no such values after all.
    pub(crate) fn forget(&mut self, numbers: Range<usize>) {
        for number in numbers {
            if let Some(slot) = self.slot_mut(number) {
                (slot.start, slot.end) = (0, 0);
            }
        }
    }

    /// The value with this number, built when it is first asked for; undefined where the payload has none.
    #[inline]
    pub(crate) fn value(&self, number: usize, payload: &Bytes) -> &Value {
        let slot = match number.checked_sub(INLINE) {
            None => self.first.get(number),
            Some(number) => self.more.get(number),
        };
        match slot {
            Some(slot) if slot.end > 0 => slot
                .value
                .get_or_init(|| build(payload, slot.start as usize..slot.end as usize)),
            _ => &Value::Undefined,
        }
    }

    fn slot_mut(&mut self, number: usize) -> Option<&mut Slot> {
        match number.checked_sub(INLINE) {
            None => self.first.get_mut(number),
            Some(number) => self.more.get_mut(number),
        }
    }
}

/// The value whose text, found right already, is at `place`.
fn build(payload: &Bytes, place: Range<usize>) -> Value {
    let Some(text) = payload
        .get(place)
        .and_then(|text| std::str::from_utf8(text).ok())
    else {
        return Value::Undefined;
    };
    let zeros = Zeros::default();
    let build = Build::new(Some(payload), &zeros);
    let plain = match text.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            text.get(1..text.len() - 1).map(|inner| build.text(inner))
        }
        [b't', ..] => Some(Value::Bool(true)),
        [b'f', ..] => Some(Value::Bool(false)),
        [b'n', ..] => Some(Value::Null),
        [b'-' | b'0'..=b'9', ..] => number(text),
        _ => None,
    };
    plain.unwrap_or_else(|| json::build(text, Some(payload)).unwrap_or_default())
}

/// A JSON number: an integer where it has neither fraction nor exponent and is in range, else the nearest float.
fn number(text: &str) -> Option<Value> {
    let whole = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-');
    if whole && let Ok(int) = text.parse() {
        return Some(Value::Int(int));
    }
    text.parse().ok().and_then(Value::finite)
}
