//! Expressions to closures that give values.

use crate::ast::{Expr, ExprKind};
use crate::diagnostic::Place;
use crate::error::{ErrorKind, Fault};
use crate::functions::MAX_TEXT_BYTES;
use crate::value::{Key, KeyHash, Object, Value};

use super::names::View;
use super::{Compiler, Eval, Failure, Scope, Test, arithmetic};

impl Compiler<'_> {
    /// The closure that computes `expr` where the aliases of `view` are seen.
    pub(crate) fn value(&mut self, expr: &Expr, view: &View) -> Eval {
        let at = expr.at;
        if let Some(value) = folded(expr) {
            return Box::new(move |_| Ok(value.clone()));
        }
        match &expr.kind {
            ExprKind::Error => Box::new(|_| Ok(Value::Undefined)),
            // Folded above.
            ExprKind::Literal(_) => Box::new(|_| Ok(Value::Undefined)),
            ExprKind::Name { name, .. } => self.name(name, at, view),
            ExprKind::Path { .. } => self.path(expr, view),
            ExprKind::Call(call) => self.call(call, at, view),
            ExprKind::Arithmetic {
                operator,
                left,
                right,
            } => {
                let (operator, left, right) =
                    (*operator, self.value(left, view), self.value(right, view));
                Box::new(move |scope| {
                    let (left, right) = (left(scope)?, right(scope)?);
                    operator
                        .apply(&left, &right)
                        .map_err(|fault| scope.fail(at, &fault))
                })
            }
            ExprKind::Negate(operand) => {
                let operand = self.value(operand, view);
                Box::new(move |scope| {
                    let operand = operand(scope)?;
                    arithmetic::negate(&operand).map_err(|fault| scope.fail(at, &fault))
                })
            }
            ExprKind::Case {
                operand,
                branches,
                otherwise,
            } => self.case(operand.as_deref(), branches, otherwise.as_deref(), view),
            ExprKind::Array(elements) => {
                let elements: Vec<Eval> = elements
                    .iter()
                    .map(|element| self.value(element, view))
                    .collect();
                let at = expr.at;
                Box::new(move |scope| {
                    let built: Result<Value, Failure> =
                        elements.iter().map(|element| element(scope)).collect();
                    built.and_then(|value| within_bounds(scope, at, value))
                })
            }
            ExprKind::Object(members) => {
                let (object, at) = (self.object(members, view), expr.at);
                Box::new(move |scope| {
                    object(scope).and_then(|value| within_bounds(scope, at, value))
                })
            }
            ExprKind::Range { from, to } => {
                let range: Value = (*from..=*to).map(Value::Int).collect();
                Box::new(move |_| Ok(range.clone()))
            }
            ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Not(_)
            | ExprKind::Compare { .. }
            | ExprKind::TopicMatch { .. }
            | ExprKind::InList { .. }
            | ExprKind::InArray { .. }
            | ExprKind::Between { .. }
            | ExprKind::Like { .. }
            | ExprKind::Regex { .. }
            | ExprKind::Is { .. } => {
                let test = self.test(expr, view);
                // An unknown result is undefined.
                Box::new(move |scope| {
                    test(scope).map(|held| held.map_or(Value::Undefined, Value::Bool))
                })
            }
        }
    }

    fn object(&mut self, members: &[(Key, Expr)], view: &View) -> Eval {
        let members: Vec<(Key, Eval)> = members
            .iter()
            .map(|(key, value)| (key.clone(), self.value(value, view)))
            .collect();
        Box::new(move |scope| {
            let mut object = Object::with_capacity_and_hasher(members.len(), KeyHash);
            for (key, value) in &members {
                object.insert(key.clone(), value(scope)?);
            }
            Ok(object.into())
        })
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        branches: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
        view: &View,
    ) -> Eval {
        let otherwise = otherwise.map(|otherwise| self.value(otherwise, view));
        let last = move |scope: &mut Scope<'_>| {
            otherwise
                .as_ref()
                .map_or(Ok(Value::Undefined), |value| value(scope))
        };
        let Some(operand) = operand else {
            let branches: Vec<(Test, Eval)> = branches
                .iter()
                .map(|(when, then)| (self.test(when, view), self.value(then, view)))
                .collect();
            return Box::new(move |scope| {
                for (when, then) in &branches {
                    if when(scope)? == Some(true) {
                        return then(scope);
                    }
                }
                last(scope)
            });
        };
        let operand = self.value(operand, view);
        let branches: Vec<(Eval, Eval)> = branches
            .iter()
            .map(|(when, then)| (self.value(when, view), self.value(then, view)))
            .collect();
        Box::new(move |scope| {
            let operand = operand(scope)?;
            for (when, then) in &branches {
                if operand.equals(&when(scope)?) {
                    return then(scope);
                }
            }
            last(scope)
        })
    }
}

/// What an expression of literals and operators always gives, where that is a value. One that always fails is left
/// to fail when it is computed.
pub(crate) fn folded(expr: &Expr) -> Option<Value> {
    constant(expr)?.ok()
}

/// The value of an expression of literals and operators, where it has one.
pub(crate) fn constant(expr: &Expr) -> Option<Result<Value, (Place, Fault)>> {
    let both = |left: &Expr, right: &Expr| match (constant(left)?, constant(right)?) {
        (Ok(left), Ok(right)) => Some(Ok((left, right))),
        (Err(fault), _) | (_, Err(fault)) => Some(Err(fault)),
    };
    match &expr.kind {
        ExprKind::Literal(value) => Some(Ok(value.clone())),
        ExprKind::Arithmetic {
            operator,
            left,
            right,
        } => Some(both(left, right)?.and_then(|(left, right)| {
            operator
                .apply(&left, &right)
                .map_err(|fault| (expr.at, fault))
        })),
        ExprKind::Negate(operand) => Some(
            constant(operand)?
                .and_then(|operand| arithmetic::negate(&operand).map_err(|fault| (expr.at, fault))),
        ),
        ExprKind::Compare {
            operator,
            left,
            right,
        } => {
            Some(both(left, right)?.map(|(left, right)| Value::Bool(operator.holds(&left, &right))))
        }
        ExprKind::Array(elements) => {
            let elements: Option<Result<Vec<Value>, _>> = elements.iter().map(constant).collect();
            Some(elements?.map(Value::from))
        }
        ExprKind::Object(members) => {
            let member = |(key, value): &(Key, Expr)| {
                Some(constant(value)?.map(|value| (key.clone(), value)))
            };
            let members: Option<Result<Vec<_>, _>> = members.iter().map(member).collect();
            Some(members?.map(|members| members.into_iter().collect()))
        }
        _ => None,
    }
}

/// A value that a literal or a function has built, unless it would be over 4 MiB.
pub(super) fn within_bounds(scope: &Scope<'_>, at: Place, value: Value) -> Result<Value, Failure> {
    let is_built = matches!(value, Value::Array(_) | Value::Object(_));
    if is_built && value.weighs_more_than(MAX_TEXT_BYTES) {
        return Err(scope.fail(
            at,
            &Fault::new(ErrorKind::Limit, "the value would be over 4 MiB"),
        ));
    }
    Ok(value)
}
