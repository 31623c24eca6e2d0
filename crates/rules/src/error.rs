//! Why an evaluation yielded nothing (rule-SQL §9).

use std::borrow::Cow;
use std::fmt;

use crate::diagnostic::Span;
use crate::value::Value;

/// The kinds of evaluation errors; their names are counted per rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of rule-SQL §9")]
pub enum ErrorKind {
    PayloadDecode,
    Type,
    BadArgument,
    NotBoolean,
    NotArray,
    DivZero,
    Overflow,
    NotFinite,
    Json,
    Encode,
    RegexLimit,
    Jq,
    Udf,
    Limit,
}

impl ErrorKind {
    /// The name in counters and messages, e.g. `payload_decode`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PayloadDecode => "payload_decode",
            Self::Type => "type",
            Self::BadArgument => "bad_argument",
            Self::NotBoolean => "not_boolean",
            Self::NotArray => "not_array",
            Self::DivZero => "div_zero",
            Self::Overflow => "overflow",
            Self::NotFinite => "not_finite",
            Self::Json => "json",
            Self::Encode => "encode",
            Self::RegexLimit => "regex_limit",
            Self::Jq => "jq",
            Self::Udf => "udf",
            Self::Limit => "limit",
        }
    }
}

/// A failure inside an expression, before its place is known. Boxed where it travels: the happy path stays small.
#[derive(Clone, Debug)]
pub struct Fault(Box<FaultInner>);

#[derive(Clone, Debug)]
struct FaultInner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    value: Option<Value>,
}

impl Fault {
    /// A fault with a sentence for the rule's author.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(FaultInner {
            kind,
            message: message.into(),
            value: None,
        }))
    }

    /// Names the value that caused it.
    #[must_use]
    pub fn with_value(mut self, value: Value) -> Self {
        self.0.value = Some(value);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The value that caused it, where one did.
    pub fn value(&self) -> Option<&Value> {
        self.0.value.as_ref()
    }
}

/// Why an evaluation yielded nothing, with the place in the statement. Displays as one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// The kind, as it is counted.
    pub kind: ErrorKind,
    /// What went wrong, as a sentence for the rule's author.
    pub message: String,
    /// The line of the expression in the statement, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The offending value, shortened to 64 characters.
    pub value: Option<String>,
}

/// How much of an offending value is shown.
const SHOWN_CHARS: usize = 64;

impl EvalError {
    pub(crate) fn at(span: Span, fault: &Fault) -> Self {
        Self {
            kind: fault.kind(),
            message: fault.message().to_owned(),
            line: span.line,
            column: span.column,
            value: fault.value().map(shown),
        }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} at {}:{}",
            self.kind.name(),
            self.message,
            self.line,
            self.column
        )?;
        match &self.value {
            Some(value) => write!(f, ", value {value}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for EvalError {}

/// A value as an error shows it: strings as their text, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Undefined => "undefined".to_owned(),
        Value::Text(text) => {
            String::from_utf8_lossy(text.as_bytes().get(..300).unwrap_or(text.as_bytes()))
                .into_owned()
        }
        _ => serde_json::to_string(value).unwrap_or_default(),
    };
    let text = text.replace(char::is_control, "\u{fffd}");
    if text.chars().count() <= SHOWN_CHARS {
        return text;
    }
    text.chars().take(SHOWN_CHARS - 1).chain(['…']).collect()
}
