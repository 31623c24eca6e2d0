//! Conditions: Kleene's logic, comparisons, IN, BETWEEN, LIKE, RLIKE, IS, `=~` (rule-SQL §7.5, §8).

use weir_mqtt::topic::TopicFilter;

use super::like::LikePattern;
use super::members::{count_look, is_long};
use super::names::View;
use super::{Compiler, Eval, Failure, Scope, Test, fixed, folded};
use crate::ast::{Expr, ExprKind};
use crate::comparison::Comparison;
use crate::diagnostic::Place;
use crate::error::{ErrorKind, Fault};
use crate::functions::Pattern;
use crate::value::Value;

impl Compiler<'_> {
    /// The closure that tells whether `expr` holds.
    pub(crate) fn test(&mut self, expr: &Expr, view: &View) -> Test {
        let at = expr.at;
        if let Some(held) = fixed(expr) {
            return Box::new(move |_| Ok(Some(held)));
        }
        match &expr.kind {
            ExprKind::And(parts) => self.all(parts, view, false),
            ExprKind::Or(parts) => self.all(parts, view, true),
            ExprKind::Not(part) => {
                let part = self.test(part, view);
                Box::new(move |scope| part(scope).map(|held| held.map(|held| !held)))
            }
            ExprKind::Compare {
                operator,
                left,
                right,
            } => self.compare(*operator, left, right, view),
            ExprKind::TopicMatch { topic, filter } => self.topic_match(topic, filter, view),
            ExprKind::InList {
                value,
                list,
                negated,
            } => self.in_list(value, list, *negated, view),
            ExprKind::InArray {
                value,
                array,
                negated,
            } => self.in_array(value, array, *negated, view),
            ExprKind::Between {
                value,
                low,
                high,
                negated,
            } => {
                let negated = *negated;
                let (value, low, high) = (
                    self.value(value, view),
                    self.value(low, view),
                    self.value(high, view),
                );
                Box::new(move |scope| {
                    let (value, low, high) = (value(scope)?, low(scope)?, high(scope)?);
                    Ok(Some(is_between(&value, &low, &high, negated)))
                })
            }
            ExprKind::Like {
                value,
                pattern,
                escape,
                ignore_case,
                negated,
            } => self.like(value, pattern, *escape, *ignore_case, *negated, view),
            ExprKind::Regex {
                value,
                pattern,
                negated,
            } => self.regex(value, pattern, *negated, view),
            ExprKind::Is {
                value,
                test,
                negated,
            } => {
                let (value, test, negated) = (self.value(value, view), *test, *negated);
                Box::new(move |scope| {
                    let value = value(scope)?;
                    Ok(Some(test.holds(&value) != negated))
                })
            }
            _ => {
                let value = self.value(expr, view);
                Box::new(move |scope| {
                    let value = value(scope)?;
                    truth(&value).map_err(|fault| scope.fail(at, &fault))
                })
            }
        }
    }

    /// AND (or OR) of all parts, left to right; the first that is false (or true) decides. Constant parts that decide
    /// nothing are left out, and so is what follows one that does.
    fn all(&mut self, parts: &[Expr], view: &View, deciding: bool) -> Test {
        let parts = match self.lasting(parts, view, deciding) {
            Lasting::Decided => return Box::new(move |_| Ok(Some(deciding))),
            Lasting::Parts(places) => places,
        };
        let parts: Vec<Test> = parts.iter().map(|part| self.test(part, view)).collect();
        Box::new(move |scope| {
            let mut held = Some(!deciding);
            for part in &parts {
                match part(scope)? {
                    Some(value) if value == deciding => return Ok(Some(deciding)),
                    Some(_) => {}
                    None => held = None,
                }
            }
            Ok(held)
        })
    }

    /// The parts of AND (or OR) that are asked.
    pub(crate) fn lasting<'e>(
        &self,
        parts: impl IntoIterator<Item = &'e Expr>,
        view: &View,
        deciding: bool,
    ) -> Lasting<'e> {
        let mut lasting: Vec<&Expr> = Vec::new();
        for part in parts {
            match fixed(part) {
                Some(held) if held == deciding => {
                    // Nobody can tell whether those before it were asked.
                    let is_quiet = |part: &&Expr| self.safe_test(part, view) == Some(false);
                    if lasting.iter().all(is_quiet) {
                        return Lasting::Decided;
                    }
                    lasting.push(part);
                    break;
                }
                Some(_) => {}
                None => lasting.push(part),
            }
        }
        Lasting::Parts(lasting)
    }

    fn compare(&mut self, operator: Comparison, left: &Expr, right: &Expr, view: &View) -> Test {
        // The common case, a payload member against a literal, without copying the member.
        if let Some(constant) = folded(right)
            && let Some(path) = self.payload_path(left, view)
        {
            return Box::new(move |scope| Ok(Some(operator.holds(&*path.get(scope)?, &constant))));
        }
        let (left, right) = (self.value(left, view), self.value(right, view));
        Box::new(move |scope| {
            let (left, right) = (left(scope)?, right(scope)?);
            Ok(Some(operator.holds(&left, &right)))
        })
    }

    fn topic_match(&mut self, topic: &Expr, filter: &Expr, view: &View) -> Test {
        let topic = self.value(topic, view);
        let matches = |topic: &Value, filter: &TopicFilter| {
            topic.as_str().is_some_and(|topic| filter.matches(topic))
        };
        if let Some(filter) = filter
            .literal()
            .and_then(Value::as_str)
            .and_then(|filter| TopicFilter::parse(filter).ok())
        {
            return Box::new(move |scope| Ok(Some(matches(&topic(scope)?, &filter))));
        }
        let filter = self.value(filter, view);
        Box::new(move |scope| {
            let (topic, filter) = (topic(scope)?, filter(scope)?);
            let filter = filter
                .as_str()
                .and_then(|filter| TopicFilter::parse(filter).ok());
            Ok(Some(filter.is_some_and(|filter| matches(&topic, &filter))))
        })
    }

    fn in_list(&mut self, value: &Expr, list: &[Expr], negated: bool, view: &View) -> Test {
        let value = self.value(value, view);
        let list: Vec<Eval> = list
            .iter()
            .map(|candidate| self.value(candidate, view))
            .collect();
        Box::new(move |scope| {
            let value = value(scope)?;
            for candidate in &list {
                let candidate = candidate(scope)?;
                if is_decided(&value, &candidate, negated) {
                    return Ok(Some(!negated));
                }
            }
            Ok(Some(negated))
        })
    }

    fn in_array(&mut self, value: &Expr, array: &Expr, negated: bool, view: &View) -> Test {
        let (value, array) = (self.value(value, view), self.value(array, view));
        let place = self.memberships;
        self.memberships += 1;
        Box::new(move |scope| {
            let (value, array) = (value(scope)?, array(scope)?);
            let Value::Array(candidates) = array else {
                return Ok(Some(false));
            };
            Ok(Some(if is_long(&candidates) {
                scope.members(place).holds(&value, &candidates, negated)
            } else {
                is_member(&value, &candidates, negated)
            }))
        })
    }

    fn like(
        &mut self,
        value: &Expr,
        pattern: &Expr,
        escape: Option<char>,
        ignore_case: bool,
        negated: bool,
        view: &View,
    ) -> Test {
        let value = self.value(value, view);
        if let Some(literal) = pattern.literal().and_then(Value::as_str) {
            let pattern = LikePattern::new(literal, escape, ignore_case);
            return Box::new(move |scope| {
                let value = value(scope)?;
                Ok(Some(
                    value
                        .as_str()
                        .is_some_and(|text| pattern.matches(text) != negated),
                ))
            });
        }
        let at = pattern.at;
        let pattern = self.value(pattern, view);
        Box::new(move |scope| {
            let (value, pattern) = (value(scope)?, pattern(scope)?);
            let Some(pattern) = pattern.as_str() else {
                return Err(not_text(scope, at, "LIKE", &pattern));
            };
            let matches = |text: &str| {
                LikePattern::new(pattern, escape, ignore_case).matches(text) != negated
            };
            Ok(Some(value.as_str().is_some_and(matches)))
        })
    }

    fn regex(&mut self, value: &Expr, pattern: &Expr, negated: bool, view: &View) -> Test {
        let (value, place) = (self.value(value, view), pattern.at);
        if let Some(pattern) = pattern
            .literal()
            .and_then(Value::as_str)
            .and_then(|pattern| Pattern::new(pattern).ok())
        {
            let at = place;
            return Box::new(move |scope| {
                let value = value(scope)?;
                found(scope, &pattern, &value, negated).map_err(|fault| scope.fail(at, &fault))
            });
        }
        let at = pattern.at;
        let pattern = self.value(pattern, view);
        Box::new(move |scope| {
            let (value, pattern) = (value(scope)?, pattern(scope)?);
            let Some(source) = pattern.as_str() else {
                return Err(not_text(scope, at, "RLIKE", &pattern));
            };
            let compiled = Pattern::recent(source).map_err(|message| {
                let fault = Fault::new(
                    ErrorKind::BadArgument,
                    format!("not a regular expression: {message}"),
                );
                scope.fail(at, &fault.with_value(pattern.clone()))
            })?;
            found(scope, &compiled, &value, negated).map_err(|fault| scope.fail(at, &fault))
        })
    }
}

/// What is left of AND (or OR) without what is known before any message comes.
pub(crate) enum Lasting<'e> {
    /// A constant part decides, and those before it can neither fail nor have an effect.
    Decided,
    /// These are asked.
    Parts(Vec<&'e Expr>),
}

/// `value [NOT] BETWEEN low AND high`
pub(super) fn is_between(value: &Value, low: &Value, high: &Value, negated: bool) -> bool {
    if negated {
        Comparison::Less.holds(value, low) || Comparison::Greater.holds(value, high)
    } else {
        Comparison::GreaterOrEqual.holds(value, low) && Comparison::LessOrEqual.holds(value, high)
    }
}

/// `value [NOT] IN list`
pub(super) fn is_member(value: &Value, list: &[Value], negated: bool) -> bool {
    list.iter()
        .any(|candidate| is_decided(value, candidate, negated))
        != negated
}

/// Whether this candidate settles IN (it is equal) or NOT IN (it is not different).
fn is_decided(value: &Value, candidate: &Value, negated: bool) -> bool {
    count_look();
    if negated {
        !Comparison::NotEqual.holds(value, candidate)
    } else {
        value.equals(candidate)
    }
}

fn not_text(scope: &Scope<'_>, at: Place, operator: &str, pattern: &Value) -> Failure {
    let message = format!(
        "{operator} takes a pattern that is text, not {}",
        pattern.article_name()
    );
    scope.fail(
        at,
        &Fault::new(ErrorKind::Type, message).with_value(pattern.clone()),
    )
}

/// What a value says as a condition.
pub(super) fn truth(value: &Value) -> Result<Option<bool>, Fault> {
    match value {
        Value::Bool(held) => Ok(Some(*held)),
        Value::Undefined | Value::Null => Ok(None),
        other => {
            let message = format!("a condition is a boolean, not {}", other.article_name());
            Err(Fault::new(ErrorKind::NotBoolean, message).with_value(other.clone()))
        }
    }
}

/// What is no text is found by no pattern, and not found by none either.
fn found(
    scope: &Scope<'_>,
    pattern: &Pattern,
    value: &Value,
    negated: bool,
) -> Result<Option<bool>, Fault> {
    match value.as_str() {
        Some(text) => Ok(Some(pattern.is_match(text, &scope.searched)? != negated)),
        None => Ok(Some(false)),
    }
}
