//! One pass over a payload that checks all of it and notes where the values are that rules read.
//!
//! It says yes only to texts that it is sure of. Whatever else comes — a mistake, or a rarity such as an escape in a
//! key — is left to the decoder in `payload.rs`, which has the last word and the messages.
//!
//! What is left of the text goes from function to function: a slice that shrinks costs less than an index.

use crate::json::MAX_DEPTH;
use crate::path::PathSet;
use crate::slots::Slots;

/// A number with fewer bytes and an exponent of at most two digits is no float's overflow.
const PLAIN_NUMBER: usize = 200;

/// Notes in `slots` where the values of `needs` are; `None` leaves the text to the decoder.
pub(crate) fn scan(text: &[u8], needs: &PathSet, slots: &mut Slots) -> Option<()> {
    let mut notes = Notes { text, slots };
    let rest = notes.needed(space(text), needs, 0)?;
    space(rest).is_empty().then_some(())
}

struct Notes<'t, 's> {
    text: &'t [u8],
    slots: &'s mut Slots,
}

impl<'t> Notes<'t, '_> {
    const fn place(&self, rest: &[u8]) -> usize {
        self.text.len() - rest.len()
    }

    /// A value at which `needs` reads something, or something below it.
    fn needed(&mut self, rest: &'t [u8], needs: &PathSet, depth: usize) -> Option<&'t [u8]> {
        if needs.is_whole() {
            let after = value(rest, depth)?;
            let number = needs.values().start;
            self.slots.note(number, self.place(rest), self.place(after));
            return Some(after);
        }
        match rest {
            [b'{', members @ ..] => self.object(members, needs, depth),
            // A step into a string decodes it.
            [b'"', ..] if !needs.is_empty() => None,
            _ => value(rest, depth),
        }
    }

    fn object(&mut self, rest: &'t [u8], needs: &PathSet, depth: usize) -> Option<&'t [u8]> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let mut rest = space(rest);
        if let [b'}', rest @ ..] = rest {
            return Some(rest);
        }
        loop {
            let [b'"', key @ ..] = rest else {
                return None;
            };
            let (after, escapes) = string(key)?;
            if escapes {
                return None;
            }
            let name = key.get(..key.len() - after.len() - 1)?;
            rest = colon(after)?;
            rest = match needs.member_of_bytes(name) {
                Some(below) => {
                    // A later member of the same name replaces the earlier one wholly.
                    self.slots.forget(below.values());
                    self.needed(rest, below, depth + 1)?
                }
                None => value(rest, depth + 1)?,
            };
            rest = match space(rest) {
                [b',', rest @ ..] => space(rest),
                [b'}', rest @ ..] => return Some(rest),
                _ => return None,
            };
        }
    }
}

/// What follows any value, `depth` containers deep.
fn value(mut rest: &[u8], depth: usize) -> Option<&[u8]> {
    // A bit for each container that is open: 1 for an object.
    let (mut open, mut objects) = (0, 0_u128);
    loop {
        rest = match rest {
            [b'"', text @ ..] => string(text)?.0,
            [b'-' | b'0'..=b'9', ..] => number(rest)?,
            [b'{', inner @ ..] => {
                if depth + open >= MAX_DEPTH {
                    return None;
                }
                match space(inner) {
                    [b'}', after @ ..] => after,
                    inner => {
                        rest = key(inner)?;
                        open += 1;
                        objects = objects << 1 | 1;
                        continue;
                    }
                }
            }
            [b'[', inner @ ..] => {
                if depth + open >= MAX_DEPTH {
                    return None;
                }
                match space(inner) {
                    [b']', after @ ..] => after,
                    inner => {
                        rest = inner;
                        open += 1;
                        objects <<= 1;
                        continue;
                    }
                }
            }
            [b't', b'r', b'u', b'e', after @ ..]
            | [b'f', b'a', b'l', b's', b'e', after @ ..]
            | [b'n', b'u', b'l', b'l', after @ ..] => after,
            _ => return None,
        };
        // A value has ended, and with it perhaps what it stands in.
        loop {
            if open == 0 {
                return Some(rest);
            }
            let in_object = objects & 1 == 1;
            match space(rest) {
                [b',', next @ ..] => {
                    let next = space(next);
                    rest = if in_object { key(next)? } else { next };
                    break;
                }
                [b'}', after @ ..] if in_object => rest = after,
                [b']', after @ ..] if !in_object => rest = after,
                _ => return None,
            }
            open -= 1;
            objects >>= 1;
        }
    }
}

/// What follows white space, of which devices send none.
#[inline(always)]
fn space(rest: &[u8]) -> &[u8] {
    match rest {
        [byte, ..] if *byte > b' ' => rest,
        _ => some_space(rest),
    }
}

#[inline(never)]
fn some_space(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\t' | b'\r', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// What follows a key and its colon.
#[inline(always)]
fn key(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [b'"', text @ ..] => colon(string(text)?.0),
        _ => None,
    }
}

#[inline(always)]
fn colon(rest: &[u8]) -> Option<&[u8]> {
    match space(rest) {
        [b':', after @ ..] => Some(space(after)),
        _ => None,
    }
}

/// What follows a number.
#[inline(always)]
fn number(text: &[u8]) -> Option<&[u8]> {
    let unsigned = match text {
        [b'-', rest @ ..] => rest,
        _ => text,
    };
    let mut rest = match unsigned {
        [b'0', rest @ ..] => rest,
        _ => some_digits(unsigned)?,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = some_digits(fraction)?;
    }
    let mut exponent = 0;
    if let [b'e' | b'E', power @ ..] = rest {
        let digits = match power {
            [b'+' | b'-', digits @ ..] => digits,
            _ => power,
        };
        rest = some_digits(digits)?;
        exponent = digits.len() - rest.len();
    }
    let plain = exponent <= 2 && text.len() - rest.len() < PLAIN_NUMBER;
    plain.then_some(rest)
}

/// What follows one or more digits.
#[inline(always)]
fn some_digits(rest: &[u8]) -> Option<&[u8]> {
    let [b'0'..=b'9', rest @ ..] = rest else {
        return None;
    };
    let mut rest = rest;
    while let [b'0'..=b'9', after @ ..] = rest {
        rest = after;
    }
    Some(rest)
}

/// What follows a string and its closing quote, and whether it has escapes.
#[inline(always)]
fn string(mut rest: &[u8]) -> Option<(&[u8], bool)> {
    let mut escapes = false;
    loop {
        match plain_text(rest) {
            [b'"', after @ ..] => return Some((after, escapes)),
            [b'\\', after @ ..] => {
                escapes = true;
                rest = escape(after)?;
            }
            _ => return None,
        }
    }
}

/// The text from the next quote, backslash or control character on; looked for in eight bytes at a time.
#[inline(always)]
fn plain_text(mut rest: &[u8]) -> &[u8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some((bytes, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*bytes);
        // The lowest high bit of each stands in the first byte that it looks for.
        let below = |limit: u8, word: u64| word.wrapping_sub(ONES * u64::from(limit)) & !word;
        // Turned over in their second bit, quotes come directly after the control characters.
        let found = (below(0x21, word ^ (ONES * 2)) | below(1, word ^ (ONES * 0x5c))) & HIGHS;
        if found != 0 {
            return rest
                .get(found.trailing_zeros() as usize / 8..)
                .unwrap_or_default();
        }
        rest = after;
    }
    while let [byte, after @ ..] = rest
        && !matches!(byte, 0..0x20 | b'"' | b'\\')
    {
        rest = after;
    }
    rest
}

/// What follows an escape, its backslash left out.
#[cold]
fn escape(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            after @ ..,
        ] => Some(after),
        [b'u', unit @ ..] => match hex(unit)? {
            (0xd800..=0xdbff, [b'\\', b'u', unit @ ..]) => match hex(unit)? {
                (0xdc00..=0xdfff, after) => Some(after),
                _ => None,
            },
            (0xd800..=0xdfff, _) => None,
            (_, after) => Some(after),
        },
        _ => None,
    }
}

/// The number in four hex digits, and what follows them.
fn hex(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, after) = rest.split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | char::from(*digit).to_digit(16)?)
    })?;
    Some((unit, after))
}
