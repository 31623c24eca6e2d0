//! What one case may take: messages, time, and bytes of what it makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_rules::script::{ScriptLimits, Scripts};
use weir_rules::template::Template;
use weir_rules::value::Value;
use weir_rules::{ErrorKind, Fault};

/// The most bytes that a case may make: of values in the rows of one message, and of texts in its answer.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// What a value counts beside its text.
const SLOT: usize = 24;

/// What a case may take, and what it may call.
#[derive(Debug)]
pub struct Bounds {
    /// How many messages it may have.
    pub messages: usize,
    /// How long it may take.
    pub time: Option<Duration>,
    /// What one call of a user function may use.
    pub scripts: ScriptLimits,
    /// The user functions that are there beside its own.
    pub live: Arc<Scripts>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            messages: usize::MAX,
            time: None,
            // What a script gives must not depend on how busy the machine is.
            scripts: ScriptLimits {
                time: Duration::from_secs(2),
                ..ScriptLimits::default()
            },
            live: Arc::default(),
        }
    }
}

/// What is left to a case.
pub(super) struct Budget {
    time: Duration,
    until: Option<Instant>,
    /// Of the answer's texts.
    texts: usize,
    /// Of the values of this message's rows.
    values: usize,
}

impl Budget {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self {
            time: bounds.time.unwrap_or_default(),
            until: bounds
                .time
                .and_then(|time| Instant::now().checked_add(time)),
            texts: MAX_BYTES,
            values: MAX_BYTES,
        }
    }

    /// The next message's rows may be as large again.
    pub(super) fn begin_message(&mut self) -> Result<(), Fault> {
        self.values = MAX_BYTES;
        self.take(0)
    }

    /// A text of so many bytes goes into the answer. Where it is too long, nothing else goes into it either.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        self.in_time()?;
        match self.texts.checked_sub(bytes) {
            Some(left) if left > 0 => {
                self.texts = left;
                Ok(())
            }
            _ => {
                self.texts = 0;
                Err(too_much())
            }
        }
    }

    /// A row has this value.
    pub(super) fn take_value(&mut self, value: &Value) -> Result<(), Fault> {
        self.in_time()?;
        self.values = left_by(value, self.values).ok_or_else(too_much)?;
        Ok(())
    }

    /// Whether the answer may hold the template's text for this row: a place may be named many times.
    pub(super) fn has_room_for(&self, template: &Template, row: &Value) -> Result<(), Fault> {
        let mut left = self.texts;
        for place in template.places() {
            self.in_time()?;
            left = left_by(&place.value(row), left).ok_or_else(too_much)?;
        }
        Ok(())
    }

    fn in_time(&self) -> Result<(), Fault> {
        match self.until {
            Some(until) if Instant::now() >= until => Err(Fault::new(
                ErrorKind::Limit,
                format!(
                    "the case takes longer than {} s: give it fewer messages",
                    self.time.as_secs()
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// What of `left` bytes the value leaves; a part that it holds twice counts twice, as it does in a text of it.
fn left_by(value: &Value, left: usize) -> Option<usize> {
    let left = left.checked_sub(SLOT)?;
    match value {
        Value::Undefined | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            Some(left)
        }
        Value::Text(text) => left.checked_sub(text.as_bytes().len()),
        Value::Bits(bits) => left.checked_sub(bits.bytes.len()),
        Value::Array(items) => items
            .iter()
            .try_fold(left, |left, item| left_by(item, left)),
        Value::Object(members) => members.iter().try_fold(left, |left, (key, value)| {
            left_by(value, left.checked_sub(key.len())?)
        }),
    }
}

fn too_much() -> Fault {
    Fault::new(
        ErrorKind::Limit,
        format!(
            "the case makes more than {} MiB: give it fewer messages, or smaller ones",
            MAX_BYTES / 1024 / 1024
        ),
    )
}
