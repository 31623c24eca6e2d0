//! What a rule does, for people: `weir explain` and `weir try` print these.

mod needed;

use std::fmt;
use std::ops::Range;

pub use needed::Needed;

use crate::ast::{Arithmetic, Body, Call, Expr, ExprKind, Item, Statement};
use crate::error::EvalError;
use crate::eval::fixed;
use crate::functions;
use crate::path::PathSet;
use crate::value::Value;

/// A rule in its own words.
#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    /// The entries of FROM.
    pub sources: Vec<String>,
    /// What is decoded of the payload.
    pub decode: Decode,
    /// The collection of FOREACH.
    pub foreach: Option<String>,
    /// The terms of WHERE, in the order in which they are tested. Those that always hold are left out, and what stands
    /// behind one that never does.
    pub conditions: Vec<Condition>,
    /// INCASE, where there is one.
    pub filter: Option<String>,
    /// What the output holds.
    pub columns: Vec<Column>,
    /// The user functions that are called, e.g. `climate.dew_point`.
    pub user_functions: Vec<String>,
}

/// One term of WHERE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// As it is written.
    pub text: String,
    /// When it is asked, and why then.
    pub turn: Turn,
    /// What it needs of the values in it, so that it can hold.
    pub needs: Vec<Needed>,
}

/// When a term of WHERE is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before the others, without entering the rule: it compares a field with a constant.
    Field,
    /// The same with a value of the payload.
    Payload,
    /// After those, in the order of the text.
    Written,
    /// Never: it holds for no message, and so does WHERE.
    Never,
}

/// What is decoded of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decode {
    /// Nothing: the rule never looks inside.
    Nothing,
    /// These paths.
    Paths(Vec<String>),
    /// All of it.
    Everything,
}

/// One entry of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// `*`
    Fields,
    /// A value under a name.
    Value {
        /// The name, a path where the output nests.
        name: String,
        /// The type, as far as it can be told.
        kind: Type,
        /// What computes it.
        text: String,
        /// Where that stands, in bytes from the start of the statement.
        at: Range<usize>,
    },
}

/// The type of an expression, as far as it can be told before any message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the types'")]
pub enum Type {
    Any,
    Boolean,
    Integer,
    Float,
    Number,
    String,
    Array,
    Object,
}

/// One evaluation, stage by stage.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Each term of WHERE.
    pub terms: Vec<Term>,
    /// What the evaluation gave.
    pub result: Result<Vec<Value>, EvalError>,
}

/// What one term of WHERE gave.
#[derive(Clone, Debug)]
pub struct Term {
    /// As it is written: `payload.temp > 30`.
    pub text: String,
    /// With the values in it: `29 > 30`.
    pub with_values: String,
    /// The names and paths in it, and their values.
    pub values: Vec<(String, Value)>,
    /// Whether it held; `None` is unknown, which does not hold.
    pub held: Result<Option<bool>, EvalError>,
}

impl Turn {
    /// Why it is asked then, in a few words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Field => "first: a field and a constant",
            Self::Payload => "first: a payload value and a constant",
            Self::Written => "then: as written",
            Self::Never => "never holds",
        }
    }

    /// The name for machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Payload => "payload",
            Self::Written => "written",
            Self::Never => "never",
        }
    }
}

impl Type {
    /// The name that is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `asked` are the terms of WHERE that are asked; `names` gives the output path of an item of the list that makes the output.
pub(crate) fn explain(
    statement: &Statement,
    sql: &str,
    needs: &PathSet,
    asked: &[&Expr],
    names: &dyn Fn(usize, &Item) -> String,
) -> Explain {
    let text = |expr: &Expr| expr.at.text(sql).to_owned();
    let column = |(index, item): (usize, &Item)| match item {
        Item::Star(_) => Column::Fields,
        Item::Expr { expr, .. } => Column::Value {
            name: names(index, item),
            kind: type_of(expr),
            text: text(expr),
            at: expr.at.start..expr.at.end,
        },
    };
    let (columns, foreach, filter) = match &statement.body {
        Body::Select(items) => (items.iter().enumerate().map(column).collect(), None, None),
        Body::Foreach {
            items,
            outputs,
            filter,
        } => {
            let collection = items.last().and_then(|item| match item {
                Item::Expr { expr, .. } => Some(text(expr)),
                Item::Star(_) => None,
            });
            let columns = match outputs {
                Some(outputs) => outputs.iter().enumerate().map(column).collect(),
                None => vec![Column::Fields],
            };
            (columns, collection, filter.as_ref().map(text))
        }
    };
    let mut user_functions = Vec::new();
    statement.for_each_expr(&mut |expr| note_user_functions(expr, &mut user_functions));
    Explain {
        sources: statement
            .sources
            .iter()
            .map(|source| source.text.clone())
            .collect(),
        decode: decode(needs),
        foreach,
        conditions: conditions(statement, sql, asked),
        filter,
        columns,
        user_functions,
    }
}

fn conditions(statement: &Statement, sql: &str, asked: &[&Expr]) -> Vec<Condition> {
    let condition = |term: &Expr, turn: Turn| Condition {
        text: term.at.text(sql).to_owned(),
        turn,
        needs: needed::needed(term, sql),
    };
    let turn = |term: &Expr| match fixed(term) {
        Some(false) => Turn::Never,
        _ => Turn::Written,
    };
    if asked.is_empty() {
        // WHERE holds always, or never.
        let all = statement.condition.iter().flat_map(terms);
        let never = all
            .filter(|term| fixed(term) == Some(false))
            .map(|term| condition(term, Turn::Never));
        return never.take(1).collect();
    }
    asked
        .iter()
        .map(|term| condition(term, turn(term)))
        .collect()
}

fn decode(needs: &PathSet) -> Decode {
    if needs.is_empty() {
        Decode::Nothing
    } else if needs.is_whole() {
        Decode::Everything
    } else {
        Decode::Paths(needs.paths())
    }
}

/// The sides of the outermost ANDs.
pub(crate) fn terms(condition: &Expr) -> Vec<&Expr> {
    match &condition.kind {
        ExprKind::And(parts) => parts.iter().collect(),
        _ => vec![condition],
    }
}

fn note_user_functions(expr: &Expr, found: &mut Vec<String>) {
    if let ExprKind::Call(call) = &expr.kind
        && let Some(namespace) = &call.namespace
    {
        // Names of functions have no case; scripts have theirs in lower case.
        let name = format!("{namespace}.{}", call.name).to_lowercase();
        if !found.contains(&name) {
            found.push(name);
        }
    }
    expr.for_each_part(&mut |part| note_user_functions(part, found));
}

pub(crate) fn type_of(expr: &Expr) -> Type {
    match &expr.kind {
        ExprKind::Literal(value) => match value {
            Value::Bool(_) => Type::Boolean,
            Value::Int(_) => Type::Integer,
            Value::Float(_) => Type::Float,
            Value::Text(_) => Type::String,
            _ => Type::Any,
        },
        _ if expr.is_condition() => Type::Boolean,
        ExprKind::Array(_) | ExprKind::Range { .. } => Type::Array,
        ExprKind::Object(_) => Type::Object,
        ExprKind::Negate(_) => Type::Number,
        ExprKind::Arithmetic {
            operator,
            left,
            right,
        } => match operator {
            Arithmetic::Concat => Type::String,
            Arithmetic::Divide => Type::Float,
            Arithmetic::IntegerDivide | Arithmetic::Modulo => Type::Integer,
            Arithmetic::Add if type_of(left) == Type::String || type_of(right) == Type::String => {
                Type::String
            }
            Arithmetic::Add => Type::Any,
            _ if type_of(left) == Type::Integer && type_of(right) == Type::Integer => Type::Integer,
            _ => Type::Number,
        },
        ExprKind::Call(call) if call.namespace.is_none() => type_of_call(call),
        ExprKind::Name { name, .. } => type_of_field(name),
        _ => Type::Any,
    }
}

fn type_of_field(name: &str) -> Type {
    match name {
        "id" | "clientid" | "username" | "topic" | "peerhost" | "peername" | "event" | "node"
        | "payload" => Type::String,
        "qos" | "timestamp" | "publish_received_at" => Type::Integer,
        "retain" => Type::Boolean,
        "flags" | "pub_props" | "metadata" | "client_attrs" => Type::Object,
        _ => Type::Any,
    }
}

fn type_of_call(call: &Call) -> Type {
    use functions::Category;
    let name = call.name.to_ascii_lowercase();
    let argument = |index: usize| call.args.get(index);
    match name.as_str() {
        "nth" => argument(1).map_or(Type::Any, type_of_elements),
        "first" | "last" | "element_at" => argument(0).map_or(Type::Any, type_of_elements),
        "topic" | "payload" if !call.args.is_empty() => match &*name {
            "topic" => Type::String,
            _ => Type::Any,
        },
        "topic" | "payload" | "clientid" | "username" | "peerhost" | "clientip" | "msgid"
        | "event" | "rule_id" | "node" | "principal" => Type::String,
        "flags" => Type::Object,
        "qos" => Type::Integer,
        "contains_topic" | "contains_topic_match" => Type::Boolean,
        "abs" | "trunc" | "array_sum" | "array_max" | "array_min" | "kv_store_incr" => Type::Number,
        "ceil" | "ceiling" | "floor" | "round" | "sign" | "rand_int" | "div" | "mod" => {
            Type::Integer
        }
        "eq" => Type::Boolean,
        "int" | "strlen" | "length" | "numbytes" | "indexof" | "ascii" | "map_size"
        | "cardinality" | "array_position" | "crc32" | "hash_to_range" => Type::Integer,
        "bool" | "contains" | "array_contains" | "map_has" | "regex_match" | "regexp_matches"
        | "startswith" | "endswith" | "topic_match" | "kv_store_put" | "kv_store_del" => {
            Type::Boolean
        }
        "float" | "array_avg" => Type::Float,
        "subbits" | "json_value" | "jwt_value" | "json_decode" | "decode" => Type::Any,
        "bytes" => Type::String,
        "split"
        | "tokens"
        | "regex_extract"
        | "topic_split"
        | "map_keys"
        | "keys"
        | "map_values"
        | "values"
        | "map_to_entries"
        | "items"
        | "sublist"
        | "sequence"
        | "array_append"
        | "array_concat"
        | "array_distinct"
        | "array_remove"
        | "array_reverse"
        | "array_slice"
        | "array_flatten"
        | "array_sort"
        | "array_union"
        | "array_intersect"
        | "array_except"
        | "map_to_redis_hset_args"
        | "json_path"
        | "jq" => Type::Array,
        "map" | "map_new" | "map_put" | "mput" | "map_merge" | "map_remove" | "map_pick" => {
            Type::Object
        }
        "array_join" | "typeof" | "newuuid" | "ulid" | "hostname" | "getenv" => Type::String,
        "now_rfc3339" | "unix_ts_to_rfc3339" | "format_date" | "format_time" | "convert_tz" => {
            Type::String
        }
        name if name.starts_with("uuid_") => Type::String,
        name => match functions::lookup(name).map(|function| function.category) {
            Some(Category::TypeTest) => Type::Boolean,
            // What is no integer of them stands above.
            Some(Category::Math) => Type::Float,
            Some(Category::Bits | Category::Time) => Type::Integer,
            Some(
                Category::String
                | Category::Conversion
                | Category::Hash
                | Category::Compression
                | Category::Encoding,
            ) => Type::String,
            _ => Type::Any,
        },
    }
}

/// The type of the elements of an array.
fn type_of_elements(array: &Expr) -> Type {
    match &array.kind {
        ExprKind::Range { .. } => Type::Integer,
        ExprKind::Call(call) if call.namespace.is_none() => {
            match call.name.to_ascii_lowercase().as_str() {
                "split" | "tokens" | "regex_extract" | "topic_split" | "map_keys" | "keys" => {
                    Type::String
                }
                "sequence" => Type::Integer,
                "sublist" => call.args.last().map_or(Type::Any, type_of_elements),
                _ => Type::Any,
            }
        }
        _ => Type::Any,
    }
}
