//! The function table: one entry a function, read by the compiler, the tests and the manual.
//!
//! To add a function, add one [`Function`] to the file of its category; nothing else.
//! Functions reach the world only through [`Call`]: no clock, no random numbers, no files of their own.

mod array;
mod bits;
mod call;
mod compression;
mod conditional;
mod context;
mod conversion;
mod date_format;
pub(crate) mod decimal;
mod encoding;
mod foreign;
mod hash;
#[cfg(feature = "jq")]
pub mod jq;
mod map;
mod math;
mod pattern;
mod sprintf;
mod store;
mod string;
mod string_search;
mod time;
mod type_test;

use std::collections::HashMap;
use std::sync::OnceLock;

pub use call::{Call, LazyArgs, MAX_ELEMENTS, MAX_TEXT_BYTES, SliceArgs};
pub(crate) use foreign::{instead_of, other_form};
pub(crate) use sprintf::{Culprit, mistakes as format_mistakes};

pub use date_format::{format as format_instant, is_directive as is_date_directive};
pub use pattern::{Pattern, Prepared, Searched};

use crate::error::Fault;
use crate::value::Value;

/// One SQL function: what it is called, what it takes, what it does.
pub struct Function {
    /// The name in lower case; SQL finds it in any case.
    pub name: &'static str,
    /// The chapter of the manual that it stands in.
    pub category: Category,
    /// The accepted forms, shortest first. Wrong arity is E0103, a literal of a wrong kind E0104.
    pub forms: &'static [&'static [Param]],
    /// One or two sentences for the manual.
    pub doc: &'static str,
    /// `(expression, expression that it equals)`: run as tests, printed in the manual.
    pub examples: &'static [(&'static str, &'static str)],
    /// Whether a call with literal arguments may be folded when the rule is compiled.
    pub purity: Purity,
    /// Whether a call may take longer than a thread with connections should.
    pub waits: bool,
    /// What computes the result.
    pub body: Body,
}

/// Chapters of the manual, as in rule-SQL §11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the chapters' titles")]
pub enum Category {
    Math,
    TypeTest,
    Conversion,
    String,
    Map,
    Array,
    Hash,
    Compression,
    Bits,
    Encoding,
    Time,
    Context,
    Conditional,
    Store,
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// The name that the manual and error messages use.
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Stands for one or more further arguments; only the last parameter may.
    pub variadic: bool,
}

/// What an argument may be. Literals are checked when the rule is compiled, other values when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any value, undefined and null included.
    Any,
    /// Text, or a boolean that is taken as its text.
    Text,
    /// An integer or a float.
    Number,
    /// An integer.
    Integer,
    /// An array.
    Array,
    /// An object, or JSON text of one.
    Map,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A regular expression; a literal one is compiled with the rule.
    Regex,
    /// A jq program; a literal one is parsed with the rule.
    #[cfg(feature = "jq")]
    JqProgram,
    /// An MQTT topic filter.
    TopicFilter,
}

/// Whether equal arguments always give equal results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purity {
    /// Only the arguments count.
    Pure,
    /// Reads the event, the clock or the environment.
    Reads,
    /// Changes the store, or draws random numbers: never folded, never skipped.
    Impure,
}

/// What computes the result of a function whose arguments are computed beforehand.
pub type StrictBody = fn(&mut Call<'_>) -> Result<Value, Fault>;

/// What computes the result of a function that asks for its arguments.
pub type LazyBody = fn(&mut dyn LazyArgs) -> Result<Value, Fault>;

/// How a function gets its arguments.
#[derive(Clone, Copy)]
pub enum Body {
    /// All arguments are computed beforehand, left to right.
    Strict(StrictBody),
    /// Arguments are computed when asked for: `coalesce`, `if`.
    Lazy(LazyBody),
}

/// Every table, in the order of the manual.
const TABLES: &[&[Function]] = &[
    math::FUNCTIONS,
    type_test::FUNCTIONS,
    conversion::FUNCTIONS,
    string::FUNCTIONS,
    string_search::FUNCTIONS,
    string_search::MATCHING,
    sprintf::FUNCTIONS,
    map::FUNCTIONS,
    array::FUNCTIONS,
    hash::FUNCTIONS,
    compression::FUNCTIONS,
    bits::FUNCTIONS,
    encoding::FUNCTIONS,
    #[cfg(feature = "jq")]
    jq::FUNCTIONS,
    time::FUNCTIONS,
    context::FUNCTIONS,
    conditional::FUNCTIONS,
    store::FUNCTIONS,
];

/// Every function, chapter by chapter.
pub fn all() -> impl Iterator<Item = &'static Function> {
    TABLES.iter().copied().flatten()
}

/// The function of that name, in any case.
pub fn lookup(name: &str) -> Option<&'static Function> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Function, ahash::RandomState>> =
        OnceLock::new();
    let index = INDEX.get_or_init(|| all().map(|function| (function.name, function)).collect());
    index.get(name.to_ascii_lowercase().as_str()).copied()
}

/// The known name that a mistyped one most likely means, if one is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    crate::nearest::nearest(
        &name.to_ascii_lowercase(),
        all().map(|function| function.name),
    )
}

/// Why weir lacks a function that EMQX has.
pub fn not_provided(name: &str) -> Option<&'static str> {
    const EXTERNAL_SCHEMA: &str =
        "weir has no schema registry; decode the payload before it is published, or send JSON";
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "mongo_date" => Some("weir has no MongoDB sink; use `unix_ts_to_rfc3339`"),
        "term_encode" | "term_decode" => {
            Some("it is Erlang's own binary format; use `json_encode` and `json_decode`")
        }
        "schema_encode" | "schema_decode" | "schema_check" => Some(EXTERNAL_SCHEMA),
        "sparkplug_encode" | "sparkplug_decode" => {
            Some("weir does not decode Sparkplug B payloads")
        }
        #[cfg(not(feature = "jq"))]
        "jq" => Some(
            "this build has no jq (cargo's feature `jq`); use paths, FOREACH or a user function",
        ),
        name if name.starts_with("avro_") => Some(EXTERNAL_SCHEMA),
        name if name.starts_with("emqx_rule_funcs") => Some(
            "modules of EMQX cannot be called; use the function's own name, without the module",
        ),
        _ => None,
    }
}

impl Function {
    /// The form that takes this many arguments; where two do, the first.
    pub fn form(&self, arguments: usize) -> Option<&'static [Param]> {
        self.forms
            .iter()
            .copied()
            .find(|form| fits(form, arguments))
    }

    /// How calls may look, e.g. `trim(s)`, `trim(s, chars)`.
    pub fn signatures(&self) -> impl Iterator<Item = String> {
        self.forms.iter().map(|form| {
            let names: Vec<String> = form
                .iter()
                .map(|param| format!("{}{}", param.name, if param.variadic { ", …" } else { "" }))
                .collect();
            format!("{}({})", self.name, names.join(", "))
        })
    }

    /// Whether a literal may stand at `index` of a call with this many arguments.
    ///
    /// # Errors
    /// What the argument must be instead: the text of E0104.
    pub fn check_literal(
        &self,
        arguments: usize,
        index: usize,
        value: &Value,
    ) -> Result<(), String> {
        let mut refusal = None;
        for form in self.forms.iter().filter(|form| fits(form, arguments)) {
            let Some(param) = form.get(index).or(form.last()) else {
                continue;
            };
            match param.kind.check(value) {
                Ok(()) => return Ok(()),
                Err(message) => refusal = Some(format!("`{}` {message}", param.name)),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Does now what can be done once for a literal argument at `index`.
    ///
    /// # Errors
    /// Why the pattern is not one: the text of E0104.
    pub fn prepare(
        &self,
        arguments: usize,
        index: usize,
        literal: &Value,
    ) -> Result<Option<Prepared>, String> {
        let kind = self
            .form(arguments)
            .and_then(|form| form.get(index))
            .map(|param| param.kind);
        match (kind, literal) {
            (Some(Kind::Regex), Value::Text(text)) => {
                let pattern = text.as_str().ok_or("a pattern must be valid UTF-8")?;
                Ok(Some(Prepared::Regex(Pattern::new(pattern)?)))
            }
            _ => Ok(None),
        }
    }

    const fn new(
        category: Category,
        name: &'static str,
        forms: &'static [&'static [Param]],
        doc: &'static str,
        examples: &'static [(&'static str, &'static str)],
        body: StrictBody,
    ) -> Self {
        Self {
            name,
            category,
            forms,
            doc,
            examples,
            purity: Purity::Pure,
            waits: false,
            body: Body::Strict(body),
        }
    }

    const fn lazy(
        category: Category,
        name: &'static str,
        forms: &'static [&'static [Param]],
        doc: &'static str,
        examples: &'static [(&'static str, &'static str)],
        body: LazyBody,
    ) -> Self {
        Self {
            name,
            category,
            forms,
            doc,
            examples,
            purity: Purity::Pure,
            waits: false,
            body: Body::Lazy(body),
        }
    }

    const fn reads(mut self) -> Self {
        self.purity = Purity::Reads;
        self
    }

    #[cfg(feature = "jq")]
    const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    const fn impure(mut self) -> Self {
        self.purity = Purity::Impure;
        self
    }
}

impl Category {
    /// The chapter's title.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Math => "Mathematics",
            Self::TypeTest => "Type tests",
            Self::Conversion => "Conversion",
            Self::String => "Strings",
            Self::Map => "Maps",
            Self::Array => "Arrays",
            Self::Hash => "Hashes",
            Self::Compression => "Compression",
            Self::Bits => "Bits",
            Self::Encoding => "Encoding",
            Self::Time => "Date and time",
            Self::Context => "Message context",
            Self::Conditional => "Conditional",
            Self::Store => "Identifiers, store, environment",
        }
    }
}

impl Param {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            variadic: false,
        }
    }

    const fn any(name: &'static str) -> Self {
        Self::new(name, Kind::Any)
    }

    const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    const fn number(name: &'static str) -> Self {
        Self::new(name, Kind::Number)
    }

    const fn int(name: &'static str) -> Self {
        Self::new(name, Kind::Integer)
    }

    const fn array(name: &'static str) -> Self {
        Self::new(name, Kind::Array)
    }

    const fn map(name: &'static str) -> Self {
        Self::new(name, Kind::Map)
    }

    const fn one_of(name: &'static str, texts: &'static [&'static str]) -> Self {
        Self::new(name, Kind::OneOf(texts))
    }

    const fn and_more(mut self) -> Self {
        self.variadic = true;
        self
    }
}

impl Kind {
    /// Whether a literal is of this kind.
    ///
    /// # Errors
    /// What it must be instead, e.g. `must be an integer, not a string`.
    pub fn check(self, value: &Value) -> Result<(), String> {
        let wanted = match (self, value) {
            (Self::Any, _)
            | (Self::Text, Value::Text(_) | Value::Bool(_) | Value::Bits(_))
            | (Self::Number, Value::Int(_) | Value::Float(_))
            | (Self::Integer, Value::Int(_))
            | (Self::Array, Value::Array(_))
            | (Self::Map, Value::Object(_) | Value::Text(_)) => return Ok(()),
            (Self::OneOf(texts), Value::Text(text)) => {
                let given = String::from_utf8_lossy(text.as_bytes());
                if texts.contains(&given.as_ref()) {
                    return Ok(());
                }
                return Err(format!("must be one of {}, not '{given}'", quoted(texts)));
            }
            (Self::Regex, Value::Text(text)) => {
                let pattern = text.as_str().ok_or("must be valid UTF-8")?;
                return Pattern::new(pattern)
                    .map(drop)
                    .map_err(|e| format!("is not a regular expression: {e}"));
            }
            #[cfg(feature = "jq")]
            (Self::JqProgram, Value::Bool(_)) => return Ok(()),
            #[cfg(feature = "jq")]
            (Self::JqProgram, Value::Text(text)) => {
                return jq::check(text.as_str().ok_or("must be valid UTF-8")?);
            }
            (Self::TopicFilter, Value::Text(text)) => {
                let filter = text.as_str().ok_or("must be valid UTF-8")?;
                return weir_mqtt::topic::TopicFilter::parse(filter)
                    .map(drop)
                    .map_err(|e| format!("is not a topic filter: {e}"));
            }
            (Self::Text, _) => "a string",
            (Self::Number, _) => "a number",
            (Self::Integer, _) => "an integer",
            (Self::Array, _) => "an array",
            (Self::Map, _) => "an object or JSON text of one",
            (Self::OneOf(texts), _) => {
                return Err(format!(
                    "must be one of {}, not {}",
                    quoted(texts),
                    type_test::with_article(value)
                ));
            }
            (Self::Regex, _) => "a regular expression",
            (Self::TopicFilter, _) => "a topic filter",
            #[cfg(feature = "jq")]
            (Self::JqProgram, _) => "a jq program",
        };
        Err(format!(
            "must be {wanted}, not {}",
            type_test::with_article(value)
        ))
    }
}

fn fits(form: &[Param], arguments: usize) -> bool {
    match form.last() {
        Some(last) if last.variadic => arguments >= form.len(),
        _ => arguments == form.len(),
    }
}

fn quoted(texts: &[&str]) -> String {
    texts
        .iter()
        .map(|text| format!("'{text}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(lookup("UpPer").map(|function| function.name), Some("upper"));
        assert!(lookup("uper").is_none());
    }

    #[test]
    fn a_mistyped_name_is_met_with_the_nearest() {
        assert_eq!(nearest("uper"), Some("upper"));
        assert_eq!(nearest("jsondecode"), Some("json_decode"));
        assert_eq!(nearest("base64_endcoe"), Some("base64_encode"));
        assert_eq!(nearest("completely_else"), None);
    }

    #[test]
    fn functions_of_emqx_that_are_missing_say_why() {
        for name in [
            "mongo_date",
            "term_encode",
            "SCHEMA_DECODE",
            "avro_decode",
            "sparkplug_decode",
        ] {
            assert!(not_provided(name).is_some(), "{name}");
            assert!(lookup(name).is_none(), "{name}");
        }
        assert!(not_provided("upper").is_none());
    }

    #[test]
    fn every_name_is_there_once_and_in_lower_case() {
        let mut seen = std::collections::HashSet::new();
        for function in all() {
            assert!(
                seen.insert(function.name),
                "{} is there twice",
                function.name
            );
            assert_eq!(function.name, function.name.to_ascii_lowercase());
            assert!(
                !function.forms.is_empty() && function.doc.ends_with('.'),
                "{}",
                function.name
            );
        }
    }

    #[test]
    fn forms_are_ordered_and_only_the_last_parameter_repeats() {
        for function in all() {
            assert!(
                function.forms.is_sorted_by_key(|form| form.len()),
                "{}",
                function.name
            );
            for form in function.forms {
                assert!(
                    form.iter().rev().skip(1).all(|param| !param.variadic),
                    "{}",
                    function.name
                );
            }
        }
    }

    #[test]
    fn a_literal_of_a_wrong_kind_is_refused_with_what_is_wanted() {
        let upper = lookup("upper").unwrap();
        assert_eq!(
            upper.check_literal(1, 0, &Value::Int(1)).unwrap_err(),
            "`s` must be a string, not an integer"
        );
        let split = lookup("split").unwrap();
        assert!(
            split
                .check_literal(3, 2, &"trim".into())
                .unwrap_err()
                .contains("'notrim'")
        );
        assert!(split.check_literal(3, 2, &"notrim".into()).is_ok());
        let matches = lookup("regex_match").unwrap();
        assert!(
            matches
                .check_literal(2, 1, &"(".into())
                .unwrap_err()
                .contains("regular expression")
        );
    }
}
