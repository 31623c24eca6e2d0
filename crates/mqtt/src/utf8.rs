//! Text as MQTT sends it: UTF-8 without U+0000, at most 65535 bytes, over bytes that are shared.
//!
//! A decoded text is a slice of its frame and keeps that frame's buffer alive; what is to be kept
//! for long is [`detached`](Utf8::detached) first.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use crate::TopicError;

/// A UTF-8 encoded string of MQTT. Cloning shares the bytes.
#[derive(Clone, Default)]
pub struct Utf8(ByteString);

/// Why something is not a UTF-8 encoded string of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Utf8Error {
    /// The bytes are not UTF-8 at all; surrogates and overlong forms are not either. `[MQTT-1.5.4-1]`
    #[error("text is not valid UTF-8")]
    Invalid,
    /// `[MQTT-1.5.4-2]`
    #[error("text contains U+0000")]
    Nul,
    /// The length in front of a string has 16 bits.
    #[error("text is longer than 65535 bytes")]
    TooLong,
}

impl Utf8 {
    /// The longest text that fits on the wire, in bytes.
    pub const MAX_LEN: usize = u16::MAX as usize;

    /// A copy of `text`.
    pub fn new(text: &str) -> Result<Self, Utf8Error> {
        check(text)?;
        Ok(Self(ByteString::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of the text.
    pub fn bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// The bytes of the text, without the text.
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }

    /// The same text in memory of its own, so that keeping it does not keep the frame it came in.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(ByteString::from(self.as_str()))
    }

    /// `bytes` as a topic name that may be empty: what is checked beside UTF-8 is checked in one pass.
    #[inline]
    pub(crate) fn topic(bytes: Bytes) -> Result<Self, TopicError> {
        if has_wildcard_or_nul(&bytes) {
            return Err(
                Self::try_from(bytes).map_or_else(TopicError::from, |_| TopicError::Wildcard)
            );
        }
        match ByteString::try_from(bytes) {
            Ok(text) => Ok(Self(text)),
            Err(_) => Err(Utf8Error::Invalid.into()),
        }
    }

    /// The part of this text that `part` was borrowed from.
    pub(crate) fn slice_ref(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part))
    }
}

fn check(text: &str) -> Result<(), Utf8Error> {
    if text.len() > Utf8::MAX_LEN {
        return Err(Utf8Error::TooLong);
    }
    if text.as_bytes().contains(&0) {
        return Err(Utf8Error::Nul);
    }
    Ok(())
}

/// Whether `+`, `#` or U+0000 is among `bytes`: eight at a time, since every PUBLISH is asked.
#[inline]
fn has_wildcard_or_nul(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const HASH: u64 = u64::from_ne_bytes([b'#'; 8]);
    // `+` and `#` differ in this bit alone.
    const DIFFERENCE: u64 = u64::from_ne_bytes([b'+' ^ b'#'; 8]);
    // Sets the top bit of a byte that is zero; of others only above one that is.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let check = |word: u64| zero(word) | zero((word & !DIFFERENCE) ^ HASH);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let found = words
        .iter()
        .fold(0, |found, word| found | check(u64::from_ne_bytes(*word)));
    found | check(u64::from_ne_bytes(last)) != 0
}

impl TryFrom<Bytes> for Utf8 {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        let text = ByteString::try_from(bytes).map_err(|_| Utf8Error::Invalid)?;
        check(&text)?;
        Ok(Self(text))
    }
}

impl TryFrom<String> for Utf8 {
    type Error = Utf8Error;

    fn try_from(text: String) -> Result<Self, Utf8Error> {
        check(&text)?;
        Ok(Self(ByteString::from(text)))
    }
}

impl From<&'static str> for Utf8 {
    /// For texts that stand in the source.
    ///
    /// # Panics
    /// If the text contains U+0000 or is longer than 65535 bytes.
    fn from(text: &'static str) -> Self {
        check(text).expect("a text in the source is fit for the wire");
        Self(ByteString::from_static(text))
    }
}

impl Deref for Utf8 {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Utf8 {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Utf8 {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Utf8 {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Utf8 {}

impl PartialEq<str> for Utf8 {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Utf8 {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialOrd for Utf8 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Utf8 {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Utf8 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;

    #[test]
    fn text_is_refused_for_what_the_standard_forbids() {
        let refused = |bytes: &'static [u8]| Utf8::try_from(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(refused(b"a\xFF"), Utf8Error::Invalid);
        assert_eq!(refused(b"\xED\xA0\x80"), Utf8Error::Invalid, "U+D800");
        assert_eq!(refused(b"\xC0\x80"), Utf8Error::Invalid, "overlong U+0000");
        assert_eq!(refused(b"a\0"), Utf8Error::Nul);
        assert_eq!(Utf8::try_from("x".repeat(65536)), Err(Utf8Error::TooLong));
        assert_eq!(Utf8::try_from("x".repeat(65535)).unwrap().len(), 65535);
    }

    #[test]
    fn wildcards_and_nul_are_found_at_every_place() {
        for len in 0..20 {
            let clean: Vec<u8> = (0..len)
                .map(|at| b"/a\"$*,\x01\xFF\x7F\x80"[at % 10])
                .collect();
            assert!(!has_wildcard_or_nul(&clean));
            for at in 0..len {
                for byte in 0..=255 {
                    let mut bytes = clean.clone();
                    bytes[at] = byte;
                    assert_eq!(
                        has_wildcard_or_nul(&bytes),
                        [0, b'+', b'#'].contains(&byte),
                        "{bytes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_kept() {
        // [MQTT-1.5.4-3] U+FEFF is never stripped.
        let text = Utf8::try_from(Bytes::from_static(b"\xEF\xBB\xBFa")).unwrap();
        assert_eq!(text, "\u{FEFF}a");
    }

    #[test]
    fn a_detached_text_has_memory_of_its_own() {
        let frame = Bytes::from(b"topic".to_vec());
        let text = Utf8::try_from(frame.clone()).unwrap();
        assert_eq!(text.bytes().as_ptr(), frame.as_ptr());
        let own = text.detached();
        assert_ne!(own.bytes().as_ptr(), frame.as_ptr());
        assert_eq!(own, text);
    }
}
