//! The rule language: SQL text in, objects out.
//!
//! [`compile`] turns a statement into a [`Rule`] or into diagnostics that name every mistake with its place;
//! [`Rule::evaluate`] turns an [`Event`] into output objects. Many rules are found by topic in a
//! [`RuleSet`], and share one decode of the payload parts that any of them reads.
//!
//! Never here: sockets, files, clocks, threads, tokio. The same inputs give the same outputs.

mod ast;
mod check;
mod parse;

pub mod diagnostic;
mod rule;
mod ruleset;
mod source;

mod compile;
mod eval;
mod explain;
mod format;
mod input;
mod lint;
mod nearest;

pub mod comparison;
pub mod json;
pub mod path;
pub mod payload;
mod scan;
mod slots;
mod text;
pub mod value;

pub mod env;
pub mod error;
pub mod event;

pub mod functions;
pub mod script;
pub mod template;

#[doc(hidden)]
pub mod fuzz;

pub use compile::{Catalog, compile};
pub use diagnostic::{Code, Diagnostic, Origin, Severity, Span};
pub use error::{ErrorKind, EvalError, Fault};
pub use eval::Watch;
pub use event::Event;
pub use explain::{Column, Condition, Decode, Explain, Needed, Staged, Term, Turn, Type};
pub use format::{format, format_condition};
pub use input::Input;
pub use lint::{Feed, MissingField};
pub use path::PathSet;
pub use rule::Rule;
pub use ruleset::{Matched, RuleSet};
pub use source::SourceFilter;
pub use text::{float_text, number};
pub use value::Value;
