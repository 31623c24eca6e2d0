//! One event on its way through the rules that match it: its payload is decoded at most once for all of them.

use std::borrow::Cow;
use std::cell::OnceCell;

use bytes::Bytes;

use crate::error::{ErrorKind, Fault};
use crate::event::Event;
use crate::path::{self, PathSet};
use crate::payload::{self, Decoded};
use crate::slots::Slots;
use crate::value::{Key, Value};

/// An event with what its payload decodes to, shared by all rules that match.
#[derive(Debug)]
pub struct Input<'a> {
    event: &'a Event,
    needs: &'a PathSet,
    decoded: OnceCell<Result<Decoded, Fault>>,
    /// The decoded payload as one value, for who asks for that.
    tree: OnceCell<Result<Value, Fault>>,
}

/// What a payload holds.
enum Content<'i> {
    /// The source has no payload.
    Nothing,
    Slots(&'i Bytes, &'i Slots),
    Tree(&'i Value),
}

impl<'a> Input<'a> {
    /// An event for rules that together read `needs` of its payload. Nothing is decoded yet.
    pub const fn new(event: &'a Event, needs: &'a PathSet) -> Self {
        Self {
            event,
            needs,
            decoded: OnceCell::new(),
            tree: OnceCell::new(),
        }
    }

    /// The event.
    pub const fn event(&self) -> &'a Event {
        self.event
    }

    /// The decoded payload, pruned to what the rules need; undefined where the source has none.
    ///
    /// # Errors
    /// [`ErrorKind::PayloadDecode`] when it is not JSON.
    pub fn payload(&self) -> Result<&Value, Fault> {
        const UNDEFINED: &Value = &Value::Undefined;
        match self.content()? {
            Content::Nothing => Ok(UNDEFINED),
            Content::Tree(value) => Ok(value),
            Content::Slots(payload, _) => self
                .tree
                .get_or_init(|| payload::decode(payload, self.needs))
                .as_ref()
                .map_err(Clone::clone),
        }
    }

    /// The value at `keys` of the decoded payload: as many steps from [`Self::payload`].
    ///
    /// # Errors
    /// As [`Self::payload`].
    pub(crate) fn at(&self, keys: &[Key]) -> Result<Cow<'_, Value>, Fault> {
        if let Content::Slots(payload, slots) = self.content()? {
            let (mut needs, mut rest) = (self.needs, keys);
            loop {
                if needs.is_whole() {
                    return Ok(walk(slots.value(needs.values().start, payload), rest));
                }
                let Some((key, below)) = rest.split_first() else {
                    break;
                };
                let Some((_, member)) = needs.member(key) else {
                    break;
                };
                (needs, rest) = (member, below);
            }
        }
        self.payload().map(|value| walk(value, keys))
    }

    /// The value that has this number among those that the rules read together; `None` where it must be looked for
    /// by its path.
    #[inline]
    pub(crate) fn value(&self, number: usize) -> Option<&Value> {
        let payload = self.event.payload()?;
        let decoded = self.decode(payload).as_ref().ok()?;
        if decoded.tree.is_some() {
            return None;
        }
        Some(decoded.slots.value(number, payload))
    }

    /// Whether this was made for `needs`.
    pub(crate) fn is_for(&self, needs: &PathSet) -> bool {
        std::ptr::eq(self.needs, needs)
    }

    /// Whether the payload can be decoded, where there is one.
    pub(crate) fn is_readable(&self) -> bool {
        self.content().is_ok()
    }

    #[inline]
    fn decode(&self, payload: &Bytes) -> &Result<Decoded, Fault> {
        self.decoded
            .get_or_init(|| Decoded::of(payload, self.needs))
    }

    fn content(&self) -> Result<Content<'_>, Fault> {
        let Some(payload) = self.event.payload() else {
            return Ok(Content::Nothing);
        };
        self.decode(payload)
            .as_ref()
            .map(|decoded| match &decoded.tree {
                Some(tree) => Content::Tree(tree),
                None => Content::Slots(payload, &decoded.slots),
            })
            .map_err(Clone::clone)
    }

    /// Whether a rule has looked into the payload, and what that gave.
    pub fn decoded(&self) -> Option<Result<&Value, ErrorKind>> {
        self.decoded
            .get()
            .map(|_| self.payload().map_err(|fault| fault.kind()))
    }
}

/// Steps from a value.
fn walk<'v>(value: &'v Value, keys: &[Key]) -> Cow<'v, Value> {
    keys.iter()
        .fold(Cow::Borrowed(value), |value, key| match value {
            Cow::Borrowed(value) => path::member(value, key),
            Cow::Owned(value) => Cow::Owned(path::member(&value, key).into_owned()),
        })
}
