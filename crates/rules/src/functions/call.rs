//! What a function's body is given: its arguments, read by kind, and the world through [`Env`].
//!
//! A value of a wrong kind is a `bad_argument` that names the argument; results are kept within rule-SQL §14.

use std::sync::Arc;

use weir_mqtt::topic::TopicFilter;

use super::pattern::{Pattern, Prepared, Searched};
use super::type_test::with_article;
use crate::env::Env;
use crate::error::{ErrorKind, Fault};
use crate::event::Event;
use crate::json;
use crate::value::{Object, Value};

/// The longest text that a function may build.
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// The longest array that a function may build.
pub const MAX_ELEMENTS: usize = 1_000_000;

/// One call of a strict function.
pub struct Call<'a> {
    /// The arguments.
    pub args: &'a [Value],
    /// The event that is being evaluated.
    pub event: &'a Event,
    /// Clock, random numbers and store.
    pub env: &'a mut dyn Env,
    /// The rule's id, for `rule_id()`.
    pub rule_id: &'a str,
    /// What was prepared when the rule was compiled: a literal regular expression.
    pub prepared: Option<&'a Prepared>,
    /// How long the evaluation's backtracking searches have taken.
    pub searched: &'a Searched,
}

/// The arguments of a lazy function.
pub trait LazyArgs {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Computes the argument at `index`.
    ///
    /// # Errors
    /// Whatever fault the argument's expression has.
    fn get(&mut self, index: usize) -> Result<Value, Fault>;
}

/// Arguments of a lazy function that were computed already.
pub struct SliceArgs<'a>(pub &'a [Value]);

impl LazyArgs for SliceArgs<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&mut self, index: usize) -> Result<Value, Fault> {
        Ok(self.0.get(index).cloned().unwrap_or_default())
    }
}

impl<'a> Call<'a> {
    /// How many arguments there are.
    pub(super) fn count(&self) -> usize {
        self.args.len()
    }

    /// The argument at `index`; undefined when the form has none there.
    pub(super) fn value(&self, index: usize) -> &'a Value {
        self.args.get(index).unwrap_or(&Value::Undefined)
    }

    /// The argument as text; a boolean is taken as its text.
    pub(super) fn text(&self, index: usize) -> Result<&'a str, Fault> {
        match self.value(index) {
            Value::Text(text) => text
                .as_str()
                .ok_or_else(|| self.bad(index, "is not valid UTF-8")),
            Value::Bool(true) => Ok("true"),
            Value::Bool(false) => Ok("false"),
            _ => Err(self.wrong(index, "a string")),
        }
    }

    /// The argument as bytes; a boolean is taken as its text.
    pub(super) fn bytes(&self, index: usize) -> Result<&'a [u8], Fault> {
        match self.value(index) {
            Value::Text(text) => Ok(text.as_bytes()),
            Value::Bool(true) => Ok(b"true"),
            Value::Bool(false) => Ok(b"false"),
            _ => Err(self.wrong(index, "a string")),
        }
    }

    /// The argument as an integer.
    pub(super) fn int(&self, index: usize) -> Result<i64, Fault> {
        match self.value(index) {
            Value::Int(int) => Ok(*int),
            _ => Err(self.wrong(index, "an integer")),
        }
    }

    /// The argument as a count: an integer that is not negative.
    pub(super) fn size(&self, index: usize) -> Result<usize, Fault> {
        usize::try_from(self.int(index)?).map_err(|_| self.bad(index, "must not be negative"))
    }

    /// The argument as a float; integers are converted.
    pub(super) fn float(&self, index: usize) -> Result<f64, Fault> {
        match self.value(index) {
            #[expect(
                clippy::cast_precision_loss,
                reason = "mathematical functions compute in doubles"
            )]
            Value::Int(int) => Ok(*int as f64),
            Value::Float(float) => Ok(*float),
            _ => Err(self.wrong(index, "a number")),
        }
    }

    /// The argument as an array.
    pub(super) fn array(&self, index: usize) -> Result<&'a [Value], Fault> {
        match self.value(index) {
            Value::Array(values) => Ok(values),
            _ => Err(self.wrong(index, "an array")),
        }
    }

    /// The argument as an object; JSON text of one is decoded.
    pub(super) fn object(&self, index: usize) -> Result<Arc<Object>, Fault> {
        match self.value(index) {
            Value::Object(object) => Ok(Arc::clone(object)),
            Value::Text(text) => match json::decode(text.as_bytes()) {
                Ok(Value::Object(object)) => Ok(object),
                _ => Err(self.bad(index, "is not JSON text of an object")),
            },
            _ => Err(self.wrong(index, "an object")),
        }
    }

    /// The argument as a topic filter.
    pub(super) fn topic_filter(&self, index: usize) -> Result<TopicFilter, Fault> {
        TopicFilter::parse(self.text(index)?).map_err(|_| self.bad(index, "is not a topic filter"))
    }

    /// Runs `f` with the pattern at `index`: the one compiled with the rule, or one compiled now.
    pub(super) fn with_pattern<T>(
        &self,
        index: usize,
        f: impl FnOnce(&Pattern) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if let Some(Prepared::Regex(pattern)) = self.prepared {
            return f(pattern);
        }
        match Pattern::recent(self.text(index)?) {
            Ok(pattern) => f(&pattern),
            Err(reason) => Err(self.bad(index, &format!("is not a regular expression: {reason}"))),
        }
    }

    /// A fault about the argument at `index`: "argument 2 …".
    pub(super) fn bad(&self, index: usize, what: &str) -> Fault {
        self.fault(ErrorKind::BadArgument, index, what)
    }

    /// A fault of any kind about the argument at `index`.
    pub(super) fn fault(&self, kind: ErrorKind, index: usize, what: &str) -> Fault {
        Fault::new(kind, format!("argument {} {what}", index + 1))
            .with_value(self.value(index).clone())
    }

    /// The fault of an argument of a wrong kind.
    pub(super) fn wrong(&self, index: usize, wanted: &str) -> Fault {
        self.bad(
            index,
            &format!("must be {wanted}, not {}", with_article(self.value(index))),
        )
    }
}

/// The fault of a result that would be too large.
pub(super) fn too_large() -> Fault {
    Fault::new(ErrorKind::Limit, "the result would be over 4 MiB")
}

/// The fault of an array that would be too long.
pub(super) fn too_many() -> Fault {
    Fault::new(
        ErrorKind::Limit,
        "the result would have more than 1000000 elements",
    )
}

/// Text or bytes as a value, unless there are too many.
pub(super) fn text(bytes: impl Into<Vec<u8>>) -> Result<Value, Fault> {
    let bytes = bytes.into();
    if bytes.len() > MAX_TEXT_BYTES {
        Err(too_large())
    } else {
        Ok(Value::Text(bytes.into()))
    }
}

/// An array as a value, unless it is too long.
pub(super) fn array(values: Vec<Value>) -> Result<Value, Fault> {
    if values.len() > MAX_ELEMENTS {
        Err(too_many())
    } else {
        Ok(values.into())
    }
}

/// A float as a value, unless it is infinite or not a number.
pub(super) fn float(value: f64) -> Result<Value, Fault> {
    if value.is_finite() {
        Ok(Value::Float(value))
    } else {
        Err(Fault::new(
            ErrorKind::NotFinite,
            "the result is not a finite number",
        ))
    }
}

/// Text that is built piece by piece and never grows over the limit.
#[derive(Default)]
pub(super) struct Builder(Vec<u8>);

impl Builder {
    /// Appends, unless the whole would be too large.
    pub(super) fn push(&mut self, piece: impl AsRef<[u8]>) -> Result<(), Fault> {
        let piece = piece.as_ref();
        if self.0.len() + piece.len() > MAX_TEXT_BYTES {
            return Err(too_large());
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    /// Appends the same piece several times.
    pub(super) fn push_times(&mut self, piece: &str, times: usize) -> Result<(), Fault> {
        let bytes = piece.len().saturating_mul(times);
        if self.0.len().saturating_add(bytes) > MAX_TEXT_BYTES {
            return Err(too_large());
        }
        self.0
            .extend_from_slice(piece.repeat(if bytes == 0 { 0 } else { times }).as_bytes());
        Ok(())
    }

    /// The text.
    pub(super) fn finish(self) -> Value {
        Value::Text(self.0.into())
    }
}
