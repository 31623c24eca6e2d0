//! weir's own tree of a statement: only what the language has, every node with its place in the text.

use crate::comparison::Comparison;
use crate::diagnostic::Place;
use crate::value::{Key, Value};

/// A whole rule statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) body: Body,
    pub(crate) sources: Vec<Source>,
    /// An entry of FROM could not be read, so what the sources are is not known.
    pub(crate) lost_sources: bool,
    pub(crate) condition: Option<Expr>,
    /// The first keyword, for what is said about the statement as a whole.
    pub(crate) at: Place,
}

/// What a statement yields.
#[derive(Debug)]
pub(crate) enum Body {
    /// `SELECT items`
    Select(Vec<Item>),
    /// `FOREACH items [DO outputs] [INCASE filter]`; the last item is the collection.
    Foreach {
        items: Vec<Item>,
        outputs: Option<Vec<Item>>,
        filter: Option<Expr>,
    },
}

/// One entry of FROM.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) quoted: bool,
    pub(crate) at: Place,
}

/// One entry of a list of items.
#[derive(Debug)]
pub(crate) enum Item {
    /// `*`
    Star(Place),
    /// `expr [AS alias]`
    Expr { expr: Expr, alias: Option<Alias> },
}

/// The name that an item's value gets in the output.
#[derive(Debug)]
pub(crate) struct Alias {
    pub(crate) steps: Vec<AliasStep>,
    /// Written without AS.
    pub(crate) implicit: bool,
    pub(crate) at: Place,
}

/// One step of an alias: the first is always a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AliasStep {
    Key(Key),
    /// `[0]`
    Prepend,
    /// `[-0]`
    Append,
    /// `[n]`
    At(i64),
}

/// An expression and its place.
#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) at: Place,
}

/// The kinds of expressions.
#[derive(Debug)]
pub(crate) enum ExprKind {
    /// Stands where an error was reported, so that the rest can still be checked.
    Error,
    Literal(Value),
    Name {
        name: Key,
        quoted: bool,
    },
    /// `root.key[index][from..to]`, with at least one step.
    Path {
        root: Box<Expr>,
        steps: Vec<Step>,
    },
    Call(Call),
    /// At least two conditions.
    And(Vec<Expr>),
    /// At least two conditions.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Compare {
        operator: Comparison,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `topic =~ filter`
    TopicMatch {
        topic: Box<Expr>,
        filter: Box<Expr>,
    },
    /// `value IN (a, b)`
    InList {
        value: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    /// `value IN array`
    InArray {
        value: Box<Expr>,
        array: Box<Expr>,
        negated: bool,
    },
    Between {
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
    Like {
        value: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<char>,
        ignore_case: bool,
        negated: bool,
    },
    Regex {
        value: Box<Expr>,
        pattern: Box<Expr>,
        negated: bool,
    },
    Is {
        value: Box<Expr>,
        test: IsTest,
        negated: bool,
    },
    Arithmetic {
        operator: Arithmetic,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Negate(Box<Expr>),
    Case {
        operand: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Array(Vec<Expr>),
    Object(Vec<(Key, Expr)>),
    /// `[from..to]`
    Range {
        from: i64,
        to: i64,
    },
}

/// `name(args)` or `namespace.name(args)`.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// The name's own place.
    pub(crate) name_at: Place,
    pub(crate) args: Vec<Expr>,
}

/// One step of a path.
#[derive(Debug)]
pub(crate) enum Step {
    /// `.key`, `.'key'` or `['key']`
    Key(Key),
    /// `[expr]`
    Index(Expr),
    /// `[from..to]`
    Slice { from: i64, to: i64, at: Place },
}

/// What `IS` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsTest {
    Null,
    True,
    False,
}

/// The operators on numbers and texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    IntegerDivide,
    Modulo,
    Concat,
}

impl IsTest {
    /// Whether the value is what is asked.
    pub(crate) const fn holds(self, value: &Value) -> bool {
        match self {
            Self::Null => matches!(value, Value::Undefined | Value::Null),
            Self::True => matches!(value, Value::Bool(true)),
            Self::False => matches!(value, Value::Bool(false)),
        }
    }
}

impl Statement {
    /// The items of every list.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        let (items, outputs) = match &self.body {
            Body::Select(items) => (items, None),
            Body::Foreach { items, outputs, .. } => (items, outputs.as_deref()),
        };
        items.iter().chain(outputs.unwrap_or_default())
    }

    /// Calls `visit` for each whole expression.
    pub(crate) fn for_each_expr<'s>(&'s self, visit: &mut dyn FnMut(&'s Expr)) {
        for item in self.items() {
            if let Item::Expr { expr, .. } = item {
                visit(expr);
            }
        }
        if let Body::Foreach {
            filter: Some(filter),
            ..
        } = &self.body
        {
            visit(filter);
        }
        self.condition.iter().for_each(visit);
    }
}

impl Arithmetic {
    /// As it is written.
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::IntegerDivide => "DIV",
            Self::Modulo => "MOD",
            Self::Concat => "||",
        }
    }
}

impl Expr {
    pub(crate) const fn new(kind: ExprKind, at: Place) -> Self {
        Self { kind, at }
    }

    pub(crate) const fn error(at: Place) -> Self {
        Self {
            kind: ExprKind::Error,
            at,
        }
    }

    /// The literal value, when this is one.
    pub(crate) const fn literal(&self) -> Option<&Value> {
        match &self.kind {
            ExprKind::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Calls `visit` for each direct part of this expression.
    pub(crate) fn for_each_part<'e>(&'e self, visit: &mut dyn FnMut(&'e Self)) {
        match &self.kind {
            ExprKind::Error
            | ExprKind::Literal(_)
            | ExprKind::Name { .. }
            | ExprKind::Range { .. } => {}
            ExprKind::Path { root, steps } => {
                visit(root);
                for step in steps {
                    if let Step::Index(index) = step {
                        visit(index);
                    }
                }
            }
            ExprKind::Call(call) => call.args.iter().for_each(visit),
            ExprKind::And(parts) | ExprKind::Or(parts) | ExprKind::Array(parts) => {
                parts.iter().for_each(visit)
            }
            ExprKind::Not(part) | ExprKind::Negate(part) | ExprKind::Is { value: part, .. } => {
                visit(part)
            }
            ExprKind::Compare { left, right, .. }
            | ExprKind::Arithmetic { left, right, .. }
            | ExprKind::TopicMatch {
                topic: left,
                filter: right,
            }
            | ExprKind::InArray {
                value: left,
                array: right,
                ..
            }
            | ExprKind::Like {
                value: left,
                pattern: right,
                ..
            }
            | ExprKind::Regex {
                value: left,
                pattern: right,
                ..
            } => {
                visit(left);
                visit(right);
            }
            ExprKind::InList { value, list, .. } => {
                visit(value);
                list.iter().for_each(visit);
            }
            ExprKind::Between {
                value, low, high, ..
            } => {
                visit(value);
                visit(low);
                visit(high);
            }
            ExprKind::Case {
                operand,
                branches,
                otherwise,
            } => {
                operand.iter().for_each(|operand| visit(operand));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter().for_each(|otherwise| visit(otherwise));
            }
            ExprKind::Object(members) => members.iter().for_each(|(_, value)| visit(value)),
        }
    }

    /// Whether this gives a condition: a boolean or unknown.
    pub(crate) const fn is_condition(&self) -> bool {
        matches!(
            self.kind,
            ExprKind::And(_) | ExprKind::Or(_) | ExprKind::Not(_)
        ) || self.is_comparison()
    }

    /// Whether this is a comparison: they do not chain.
    pub(crate) const fn is_comparison(&self) -> bool {
        matches!(
            self.kind,
            ExprKind::Compare { .. }
                | ExprKind::TopicMatch { .. }
                | ExprKind::InList { .. }
                | ExprKind::InArray { .. }
                | ExprKind::Between { .. }
                | ExprKind::Like { .. }
                | ExprKind::Regex { .. }
                | ExprKind::Is { .. }
        )
    }
}
