//! Expressions to closures that give values.

use weir_mqtt::topic::TopicFilter;

use crate::ast::{Expr, ExprKind};
use crate::diagnostic::Place;
use crate::error::{ErrorKind, Fault};
use crate::functions::{MAX_TEXT_BYTES, Pattern, Searched};
use crate::value::{Key, KeyHash, Object, Value};

use super::conditions::{is_between, is_member, truth};
use super::like::LikePattern;
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
        _ => constant_test(expr),
    }
}

/// As [`constant`], for the conditions among the operators.
fn constant_test(expr: &Expr) -> Option<Result<Value, (Place, Fault)>> {
    let held = |held: Option<bool>| held.map_or(Value::Undefined, Value::Bool);
    let truth_of = |part: &Expr| {
        Some(constant(part)?.and_then(|value| truth(&value).map_err(|fault| (part.at, fault))))
    };
    match &expr.kind {
        ExprKind::And(parts) | ExprKind::Or(parts) => {
            let deciding = matches!(expr.kind, ExprKind::Or(_));
            let mut all = Some(!deciding);
            for part in parts {
                match truth_of(part)? {
                    // What follows is never reached.
                    Ok(Some(value)) if value == deciding => {
                        all = Some(deciding);
                        break;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => all = None,
                    Err(fault) => return Some(Err(fault)),
                }
            }
            Some(Ok(held(all)))
        }
        ExprKind::Not(part) => Some(truth_of(part)?.map(|value| held(value.map(|value| !value)))),
        ExprKind::TopicMatch { topic, filter } => {
            let (topic, filter) = (folded(topic)?, folded(filter)?);
            let filter = TopicFilter::parse(filter.as_str()?).ok()?;
            let matches = topic.as_str().is_some_and(|topic| filter.matches(topic));
            Some(Ok(matches.into()))
        }
        ExprKind::InList {
            value,
            list,
            negated,
        } => {
            let value = folded(value)?;
            let list: Vec<Value> = list.iter().map(folded).collect::<Option<_>>()?;
            Some(Ok(is_member(&value, &list, *negated).into()))
        }
        ExprKind::InArray {
            value,
            array,
            negated,
        } => match (folded(value)?, folded(array)?) {
            (value, Value::Array(list)) => Some(Ok(is_member(&value, &list, *negated).into())),
            _ => None,
        },
        ExprKind::Between {
            value,
            low,
            high,
            negated,
        } => {
            let (value, low, high) = (folded(value)?, folded(low)?, folded(high)?);
            Some(Ok(is_between(&value, &low, &high, *negated).into()))
        }
        ExprKind::Like {
            value,
            pattern,
            escape,
            ignore_case,
            negated,
        } => {
            let (value, pattern) = (folded(value)?, folded(pattern)?);
            let pattern = LikePattern::new(pattern.as_str()?, *escape, *ignore_case);
            let text = value.as_str();
            let matches = text.is_some_and(|text| pattern.matches(text) != *negated);
            Some(Ok(matches.into()))
        }
        ExprKind::Regex {
            value,
            pattern,
            negated,
        } => {
            let (value, pattern) = (folded(value)?, folded(pattern)?);
            let pattern = Pattern::recent(pattern.as_str()?).ok()?;
            // One that turns back may give up.
            let matches = match value.as_str() {
                Some(text) if pattern.is_linear() => {
                    pattern.is_match(text, &Searched::default()).ok()? != *negated
                }
                Some(_) => return None,
                None => false,
            };
            Some(Ok(matches.into()))
        }
        ExprKind::Is {
            value,
            test,
            negated,
        } => Some(Ok((test.holds(&folded(value)?) != *negated).into())),
        _ => None,
    }
}

/// Whether a condition is true, or false, whatever comes.
pub(crate) fn fixed(expr: &Expr) -> Option<bool> {
    match folded(expr)? {
        Value::Bool(held) => Some(held),
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
