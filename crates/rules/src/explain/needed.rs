//! What a condition needs of the fields and payload values in it, so that it can hold.

use super::{Type, type_of};
use crate::ast::{Arithmetic, Expr, ExprKind};
use crate::comparison::Comparison;
use crate::eval::folded;
use crate::functions::{self, Kind};
use crate::value::Value;

/// What a name or path must be, so that a condition may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// As it is written: `payload.temp`.
    pub path: String,
    /// The type.
    pub kind: Type,
    /// A text that reads as such a value does as well (rule-SQL §5.1).
    pub or_text: bool,
}

/// What `term` needs, in the order of the text; fields whose type is known anyway are left out.
pub(super) fn needed(term: &Expr, sql: &str) -> Vec<Needed> {
    let mut needed = Found {
        sql,
        all: Vec::new(),
    };
    needed.condition(term);
    needed.all
}

struct Found<'s> {
    sql: &'s str,
    all: Vec<Needed>,
}

impl Found<'_> {
    fn condition(&mut self, term: &Expr) {
        match &term.kind {
            ExprKind::Compare {
                operator,
                left,
                right,
            } => match (folded(left), folded(right)) {
                (None, Some(constant)) => self.compared(left, *operator, &[constant]),
                (Some(constant), None) => self.compared(right, operator.turned(), &[constant]),
                _ => {
                    self.value(left);
                    self.value(right);
                }
            },
            ExprKind::InList {
                value,
                list,
                negated,
            } => {
                let constants: Option<Vec<Value>> = list.iter().map(folded).collect();
                match constants {
                    Some(constants) if !negated => {
                        self.compared(value, Comparison::Equal, &constants)
                    }
                    _ => self.value(value),
                }
            }
            ExprKind::Between {
                value,
                low,
                high,
                negated: false,
            } => match (folded(low), folded(high)) {
                (Some(low), Some(high)) => {
                    self.compared(value, Comparison::GreaterOrEqual, &[low, high])
                }
                _ => self.value(value),
            },
            ExprKind::InArray { value, array, .. } => {
                self.value(value);
                self.must(array, Type::Array, false);
            }
            ExprKind::Like { value, .. } | ExprKind::Regex { value, .. } => {
                self.must(value, Type::String, false);
            }
            ExprKind::TopicMatch { topic, .. } => self.must(topic, Type::String, false),
            ExprKind::Is {
                value,
                test: crate::ast::IsTest::True | crate::ast::IsTest::False,
                negated: false,
            } => self.must(value, Type::Boolean, false),
            ExprKind::Name { .. } | ExprKind::Path { .. } => {
                self.must(term, Type::Boolean, false);
            }
            _ => self.value(term),
        }
    }

    /// `value OP constant` holds for one of the constants.
    fn compared(&mut self, value: &Expr, operator: Comparison, constants: &[Value]) {
        let all = |is: fn(&Value) -> bool| constants.iter().all(is);
        if operator == Comparison::NotEqual {
            self.value(value);
        } else if all(|value| matches!(value, Value::Int(_) | Value::Float(_))) {
            self.must(value, Type::Number, true);
        } else if all(|value| matches!(value, Value::Bool(_))) {
            self.must(value, Type::Boolean, true);
        } else if operator == Comparison::Equal && all(is_only_text) {
            self.must(value, Type::String, false);
        } else {
            self.value(value);
        }
    }

    /// What computing a value needs.
    fn value(&mut self, value: &Expr) {
        match &value.kind {
            ExprKind::Arithmetic {
                operator,
                left,
                right,
            } if !matches!(operator, Arithmetic::Add | Arithmetic::Concat) => {
                let kind = match operator {
                    Arithmetic::IntegerDivide | Arithmetic::Modulo => Type::Integer,
                    _ => Type::Number,
                };
                self.must(left, kind, false);
                self.must(right, kind, false);
            }
            ExprKind::Arithmetic { left, right, .. } => {
                self.value(left);
                self.value(right);
            }
            ExprKind::Negate(operand) => self.must(operand, Type::Number, false),
            ExprKind::Call(call) if call.namespace.is_none() => {
                let form = functions::lookup(&call.name)
                    // Two forms of a function may want different things.
                    .filter(|function| function.forms.len() == 1)
                    .and_then(|function| function.form(call.args.len()));
                for (index, arg) in call.args.iter().enumerate() {
                    let param = form.and_then(|form| form.get(index));
                    match param.map(|param| param.kind) {
                        Some(Kind::Number) => self.must(arg, Type::Number, false),
                        Some(Kind::Integer) => self.must(arg, Type::Integer, false),
                        Some(Kind::Array) => self.must(arg, Type::Array, false),
                        Some(Kind::Text | Kind::Regex) => self.must(arg, Type::String, false),
                        _ => self.value(arg),
                    }
                }
            }
            _ => {}
        }
    }

    fn must(&mut self, value: &Expr, kind: Type, or_text: bool) {
        let is_open = type_of(value) == Type::Any;
        if is_open && matches!(value.kind, ExprKind::Name { .. } | ExprKind::Path { .. }) {
            let path = value.at.text(self.sql).to_owned();
            let new = Needed {
                path,
                kind,
                or_text,
            };
            if !self.all.contains(&new) {
                self.all.push(new);
            }
        } else {
            self.value(value);
        }
    }
}

/// A text that is equal to nothing but itself.
fn is_only_text(value: &Value) -> bool {
    match value {
        Value::Text(text) => {
            text.number().is_none() && !matches!(text.as_bytes(), b"true" | b"false")
        }
        _ => false,
    }
}
