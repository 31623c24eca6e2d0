//! Conditions that decide nothing: never boolean, never true, true whatever comes.

use super::satisfiable::{MAX_CONSTANTS, Test, constraint, key_of, satisfiable, scalar};
use super::{Check, View};
use crate::ast::{Arithmetic, Expr, ExprKind};
use crate::comparison::Comparison;
use crate::diagnostic::Code;
use crate::eval::constant;
use crate::event::EventName;
use crate::explain::{Type, type_of};
use crate::source::SourceFilter;
use crate::value::Value;

impl Check<'_> {
    pub(super) fn condition(&mut self, expr: &Expr, view: &View) {
        self.expr(expr, view);
        self.must_be_boolean(expr, view);
        self.raw_payload(expr, view);
        self.decides_nothing(expr);
    }

    /// A condition, or a side of its AND or OR, that is the same for every message.
    pub(super) fn decides_nothing(&mut self, expr: &Expr) {
        self.constant_sides(expr);
        if let Some(held) = constant_condition(expr) {
            let never = if held { "always holds" } else { "never holds" };
            // Which side is to blame was said already.
            if !self.has_constant_side(expr) {
                let label = self.quoted_path(expr).unwrap_or_default();
                let message = format!("the condition {never}");
                self.say(Code::ConstantCondition, expr.at, message, label);
            }
        }
    }

    fn has_constant_side(&self, expr: &Expr) -> bool {
        matches!(&expr.kind, ExprKind::And(parts) | ExprKind::Or(parts)
            if parts.iter().any(|part| self.noted.contains(&(Code::ConstantCondition, part.at))))
    }

    /// Sides of AND and OR that are the same for every message, the innermost first.
    fn constant_sides(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::And(parts) | ExprKind::Or(parts) => {
                for part in parts {
                    self.constant_sides(part);
                    self.constant_side(part, matches!(expr.kind, ExprKind::And(_)));
                }
            }
            ExprKind::Not(part) => self.constant_sides(part),
            _ => {}
        }
    }

    fn constant_side(&mut self, part: &Expr, is_and: bool) {
        let Some(held) = constant_condition(part) else {
            return;
        };
        if self.has_constant_side(part) {
            return;
        }
        let text = part.at.text(self.sql);
        let (message, label) = match (is_and, held) {
            (true, true) | (false, false) => {
                let word = if held { "always" } else { "never" };
                let message = format!("`{text}` {word} holds");
                (message, "it changes nothing: leave it out")
            }
            (true, false) => (
                format!("`{text}` never holds"),
                "so the whole AND never holds",
            ),
            (false, true) => (
                format!("`{text}` always holds"),
                "so the whole OR always holds",
            ),
        };
        let label = self.quoted_path(part).unwrap_or_else(|| label.to_owned());
        self.say(Code::ConstantCondition, part.at, message, label);
    }

    /// `'payload.temp' > 30` compares a text that looks like a path.
    fn quoted_path(&self, expr: &Expr) -> Option<String> {
        let ExprKind::Compare { left, right, .. } = &expr.kind else {
            return None;
        };
        [left, right].into_iter().find_map(|side| {
            let text = side.literal()?.as_str()?;
            let (root, _) = text.split_once('.')?;
            let is_path = self.fields.contains(&root) && !text.contains(' ');
            is_path.then(|| format!("'{text}' is a text: without quotes it is the value"))
        })
    }

    /// Parts of AND and OR.
    pub(super) fn sides(&mut self, expr: &Expr, parts: &[Expr], view: &View) {
        let mut before: Option<&Expr> = None;
        for part in parts {
            match constant(part) {
                // `a = 1 OR 2`
                Some(Ok(value))
                    if !matches!(value, Value::Bool(_) | Value::Null | Value::Undefined)
                        && let Some(whole) =
                            before.and_then(|before| self.same_again(before, part)) =>
                {
                    let label = format!("write the whole: `{whole}`");
                    self.not_boolean(part, &value, label);
                }
                Some(_) => self.must_be_boolean(part, view),
                None => {
                    self.must_be_boolean(part, view);
                    before = Some(part);
                }
            }
        }
        if matches!(expr.kind, ExprKind::And(_)) {
            self.contradiction(parts, view);
        } else {
            self.tautology(parts);
        }
    }

    /// What is most likely meant by a constant after a comparison: the same comparison with it.
    fn same_again(&self, before: &Expr, constant: &Expr) -> Option<String> {
        let text = |expr: &Expr| expr.at.text(self.sql);
        let right = text(constant);
        let (left, operator) = match &before.kind {
            ExprKind::Compare {
                operator,
                left,
                right,
            } => match (scalar(left), scalar(right)) {
                (Some(_), None) => (right, operator.turned().symbol()),
                _ => (left, operator.symbol()),
            },
            ExprKind::InList { value, negated, .. } => (value, if *negated { "<>" } else { "=" }),
            ExprKind::Like {
                value,
                ignore_case,
                negated,
                ..
            } => match (negated, ignore_case) {
                (false, false) => (value, "LIKE"),
                (false, true) => (value, "ILIKE"),
                (true, false) => (value, "NOT LIKE"),
                (true, true) => (value, "NOT ILIKE"),
            },
            ExprKind::Regex { value, negated, .. } => {
                (value, if *negated { "NOT RLIKE" } else { "RLIKE" })
            }
            ExprKind::TopicMatch { topic, .. } => (topic, "=~"),
            _ => return None,
        };
        Some(format!("{} {operator} {right}", text(left)))
    }

    fn not_boolean(&mut self, expr: &Expr, value: &Value, label: impl Into<String>) {
        let message = format!("a condition is a boolean, not {}", value.article_name());
        self.say(Code::ConstantFault, expr.at, message, label);
    }

    /// What must be a boolean and is a constant that is none, or of a type that is another (rule-SQL §7.5).
    pub(super) fn must_be_boolean(&mut self, expr: &Expr, view: &View) {
        if let Some(result) = constant(expr) {
            if let Ok(value) = result
                && !matches!(value, Value::Bool(_) | Value::Null | Value::Undefined)
            {
                self.not_boolean(expr, &value, "");
            }
            return;
        }
        let what = match (&expr.kind, self.type_of(expr, view)) {
            (
                ExprKind::Arithmetic {
                    operator: Arithmetic::Concat,
                    ..
                },
                _,
            ) => "a string",
            (ExprKind::Arithmetic { .. } | ExprKind::Negate(_), _) => "a number or a string",
            (_, Type::String) => "a string",
            (_, Type::Integer | Type::Float | Type::Number) => "a number",
            (_, Type::Array) => "an array",
            (_, Type::Object) => "an object",
            (_, Type::Any | Type::Boolean) => return,
        };
        let label = match &expr.kind {
            ExprKind::Arithmetic {
                operator: Arithmetic::Concat,
                ..
            } => "`||` joins texts: between conditions write OR",
            _ => "compare it with something",
        };
        let message = format!("this is {what}, and a condition is a boolean");
        self.say(Code::NeverBoolean, expr.at, message, label);
    }

    /// The type of an expression, where nothing hides the fields in it.
    pub(super) fn type_of(&self, expr: &Expr, view: &View) -> Type {
        match &expr.kind {
            ExprKind::Name { name, .. } if !self.is_field(name, view) => Type::Any,
            _ => type_of(expr),
        }
    }

    /// A comparison with a constant that no value of the operand's kind satisfies.
    pub(super) fn never_holds(&mut self, expr: &Expr, view: &View) {
        let Some(constraint) = constraint(expr) else {
            return;
        };
        let Some((kind, domain)) = self.domain(constraint.operand, view) else {
            return self.empty_between(expr, &constraint.test);
        };
        if satisfiable(&[&constraint.test], Some(&domain)) {
            return;
        }
        let operand = constraint.operand.at.text(self.sql);
        let message = format!("`{}` never holds", expr.at.text(self.sql));
        self.say(
            Code::NeverHolds,
            expr.at,
            message,
            format!("`{operand}` is {kind}"),
        );
    }

    /// `x BETWEEN 20 AND 10`
    fn empty_between(&mut self, expr: &Expr, test: &Test) {
        if let ExprKind::Between { low, high, .. } = &expr.kind
            && constant(expr).is_none()
            && !satisfiable(&[test], None)
        {
            let message = format!("`{}` never holds", expr.at.text(self.sql));
            let (low, high) = (low.at.text(self.sql), high.at.text(self.sql));
            let label = format!("write BETWEEN {high} AND {low}");
            self.say(Code::NeverHolds, expr.at, message, label);
        }
    }

    /// What an operand can be, where it can be few things; besides undefined.
    fn domain(&self, operand: &Expr, view: &View) -> Option<(String, Vec<Value>)> {
        let booleans = || {
            let values = vec![Value::Bool(true), Value::Bool(false)];
            Some(("true or false".to_owned(), values))
        };
        match &operand.kind {
            ExprKind::Name { name, .. } if self.is_field(name, view) => match name.as_str() {
                "qos" => Some((
                    "0, 1 or 2".to_owned(),
                    [0, 1, 2].map(Value::Int).into_iter().collect(),
                )),
                "retain" | "clean_start" | "is_superuser" | "is_anonymous" => booleans(),
                "event" => self.event_names(),
                _ => None,
            },
            ExprKind::Path { root, .. } => match (&root.kind, key_of(operand)?.as_str()) {
                (ExprKind::Name { name, .. }, "flags\0retain" | "flags\0dup")
                    if self.is_field(name, view) =>
                {
                    booleans()
                }
                _ => None,
            },
            ExprKind::Name { .. } => None,
            _ if type_of(operand) == Type::Boolean => {
                let (kind, mut values) = booleans()?;
                values.push(Value::Null);
                Some((kind, values))
            }
            _ => None,
        }
    }

    /// What `event` can be with the sources of this rule.
    fn event_names(&self) -> Option<(String, Vec<Value>)> {
        let mut names: Vec<&str> = Vec::new();
        for source in &self.sources {
            match source {
                SourceFilter::Topic(_) => names.push("message.publish"),
                SourceFilter::Events { topics, .. } => {
                    let found = topics.iter().filter_map(|topic| EventName::find(topic));
                    names.extend(found.map(|event| event.event));
                }
                SourceFilter::Bridge { .. } => return None,
            }
        }
        names.dedup();
        let kind = match names.as_slice() {
            [name] => format!("always '{name}' with this FROM"),
            [first, .., last] if names.len() <= 4 => {
                let middle = names.get(1..names.len() - 1)?;
                let middle: String = middle.iter().map(|name| format!(", '{name}'")).collect();
                format!("'{first}'{middle} or '{last}' with this FROM")
            }
            _ => "one of other names with this FROM".to_owned(),
        };
        Some((kind, names.into_iter().map(Value::from).collect()))
    }

    /// Sides of an AND that no value satisfies together.
    fn contradiction(&mut self, parts: &[Expr], view: &View) {
        let mut seen: Vec<(String, &Expr, Test)> = Vec::new();
        for part in parts {
            let Some(constraint) = constraint(part) else {
                continue;
            };
            let Some(key) = key_of(constraint.operand) else {
                continue;
            };
            let domain = self.domain(constraint.operand, view);
            let domain = domain.as_ref().map(|(_, values)| values.as_slice());
            // What never holds by itself was said already.
            if !satisfiable(&[&constraint.test], domain) {
                continue;
            }
            let same = || seen.iter().filter(|(other, ..)| *other == key);
            let tests: Vec<&Test> = same()
                .map(|(.., test)| test)
                .chain([&constraint.test])
                .collect();
            if tests.len() > 1 && !satisfiable(&tests, domain) {
                let alone = |other: &&(String, &Expr, Test)| {
                    !satisfiable(&[&other.2, &constraint.test], domain)
                };
                let message = format!("`{}` never holds here", part.at.text(self.sql));
                let label = match same().find(alone) {
                    Some((_, other, _)) => format!("it excludes `{}`", other.at.text(self.sql)),
                    None => "it excludes what stands before it".to_owned(),
                };
                self.say(Code::NeverHolds, part.at, message, label);
                continue;
            }
            if tests.len() < MAX_CONSTANTS {
                seen.push((key, part, constraint.test));
            }
        }
    }

    /// `x <> 1 OR x <> 2` holds for every value.
    fn tautology(&mut self, parts: &[Expr]) {
        let mut seen: Vec<(String, Value)> = Vec::new();
        for part in parts {
            let ExprKind::Compare {
                operator: Comparison::NotEqual,
                left,
                right,
            } = &part.kind
            else {
                continue;
            };
            let (Some(key), Some(value)) = (key_of(left), scalar(right)) else {
                continue;
            };
            let equals = |value: &Value| Test::Compare(Comparison::Equal, value.clone());
            let excludes = |(other, earlier): &(String, Value)| {
                *other == key && !satisfiable(&[&equals(earlier), &equals(&value)], None)
            };
            if seen.iter().any(excludes) {
                let message = format!(
                    "one of these holds whatever `{}` is",
                    left.at.text(self.sql)
                );
                let label = "to exclude all of them write AND, or NOT IN (…)";
                let at = parts.first().map_or(part.at, |first| first.at.to(part.at));
                return self.say(Code::ConstantCondition, at, message, label);
            }
            seen.push((key, value));
            if seen.len() > MAX_CONSTANTS {
                return;
            }
        }
    }

    /// `x IN 'a'`: what stands there is no array and never will be.
    pub(super) fn not_an_array(&mut self, expr: &Expr, array: &Expr, negated: bool, view: &View) {
        let what = match (constant(array), self.type_of(array, view)) {
            (Some(Ok(Value::Array(_))), _) => return,
            (Some(Ok(value)), _) => value.article_name(),
            (_, Type::String) => "a string",
            (_, Type::Integer | Type::Float | Type::Number) => "a number",
            (_, Type::Boolean) => "a boolean",
            (_, Type::Object) => "an object",
            (_, Type::Array | Type::Any) => return,
        };
        let word = if negated { "NOT IN" } else { "IN" };
        let message = format!("`{word}` never holds: what follows it is {what}");
        let text = array.at.text(self.sql);
        let label = if array.literal().is_some() {
            format!("write `{word} ({text})`")
        } else if what == "a string" {
            "for a part of a text: `indexof(text, part) >= 0`".to_owned()
        } else {
            "it takes a list in parentheses, or an array".to_owned()
        };
        self.say(Code::NeverHolds, expr.at, message, label);
    }
}

/// Whether a condition holds for every message, or for none.
fn constant_condition(expr: &Expr) -> Option<bool> {
    match constant(expr)?.ok()? {
        Value::Bool(held) => Some(held),
        Value::Null | Value::Undefined => Some(false),
        _ => None,
    }
}
