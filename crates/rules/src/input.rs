//! One event on its way through the rules that match it: its payload is decoded at most once for all of them.

use std::cell::OnceCell;

use crate::error::{ErrorKind, Fault};
use crate::event::Event;
use crate::path::PathSet;
use crate::payload;
use crate::value::Value;

/// An event with what its payload decodes to, shared by all rules that match.
#[derive(Debug)]
pub struct Input<'a> {
    event: &'a Event,
    needs: &'a PathSet,
    decoded: OnceCell<Result<Value, Fault>>,
}

impl<'a> Input<'a> {
    /// An event for rules that together read `needs` of its payload. Nothing is decoded yet.
    pub const fn new(event: &'a Event, needs: &'a PathSet) -> Self {
        Self {
            event,
            needs,
            decoded: OnceCell::new(),
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
        self.decoded
            .get_or_init(|| match self.event.payload() {
                Some(payload) => payload::decode(&payload, self.needs),
                None => Ok(Value::Undefined),
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Whether a rule has looked into the payload, and what that gave.
    pub fn decoded(&self) -> Option<Result<&Value, ErrorKind>> {
        self.decoded
            .get()
            .map(|result| result.as_ref().map_err(Fault::kind))
    }
}
