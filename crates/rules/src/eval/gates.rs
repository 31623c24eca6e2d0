//! The cheapest terms of WHERE: `field OP constant`. Whoever has many rules for one message asks these first, in one
//! flat list, and does not touch the rules that they rule out.
//!
//! A term is taken out of its order only where nobody can tell: the terms before it have no effect and cannot fail,
//! but for a payload that is no JSON, and then none of this has a say.

use crate::ast::{Expr, ExprKind, Step};
use crate::comparison::Comparison;
use crate::event::{Event, PublishField, What};
use crate::explain::{Condition, Turn, terms};
use crate::functions::Pattern;
use crate::input::Input;
use crate::path::PathSet;
use crate::value::{Key, Value};

use super::names::{Field, View};
use super::{Compiler, Lasting, folded};

/// What can be said about WHERE by comparing fields with constants.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    terms: Vec<Term>,
    /// Their places among the terms of WHERE.
    places: Vec<usize>,
    /// There is no more to WHERE than these.
    complete: bool,
}

/// `field OP constant`
#[derive(Clone, Debug)]
struct Term {
    field: Operand,
    operator: Comparison,
    constant: Value,
    /// A term before this one looks into the payload, which must be JSON then.
    after_payload: bool,
}

#[derive(Clone, Debug)]
enum Operand {
    Payload(Vec<Key>),
    Publish(PublishField),
    /// Stands for a WHERE that never holds.
    Nothing,
}

/// A term of a rule among others: its field is found by number.
#[derive(Debug)]
pub(crate) struct Gate {
    field: Place,
    operator: Comparison,
    constant: Value,
    after_payload: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Payload(usize),
    Publish(PublishField),
    Nothing,
}

impl Gates {
    /// The gates of a rule without WHERE: there is nothing to ask.
    pub(crate) const fn open() -> Self {
        Self {
            terms: Vec::new(),
            places: Vec::new(),
            complete: true,
        }
    }

    /// The gates of a WHERE that never holds.
    fn closed() -> Self {
        let never = Term {
            field: Operand::Nothing,
            operator: Comparison::Equal,
            constant: Value::Undefined,
            after_payload: false,
        };
        Self {
            terms: vec![never],
            ..Self::open()
        }
    }

    /// Puts the terms of WHERE into the order in which they are asked: these first.
    pub(crate) fn order(&self, all: &mut [Condition]) {
        for (place, term) in self.places.iter().zip(&self.terms) {
            if let Some(condition) = all.get_mut(*place) {
                condition.turn = match term.field {
                    Operand::Payload(_) => Turn::Payload,
                    Operand::Publish(_) | Operand::Nothing => Turn::Field,
                };
            }
        }
        all.sort_by_key(|condition| !matches!(condition.turn, Turn::Field | Turn::Payload));
    }

    /// The terms for a message of which `needs` is read, and whether they are all of WHERE.
    pub(crate) fn among(&self, needs: &PathSet) -> (Vec<Gate>, bool) {
        let gates: Vec<Gate> = self
            .terms
            .iter()
            .filter_map(|term| {
                let field = match &term.field {
                    // Where another rule reads more than this value, it has no number of its own.
                    Operand::Payload(keys) => Place::Payload(needs.value_at(keys)?),
                    Operand::Publish(field) => Place::Publish(*field),
                    Operand::Nothing => Place::Nothing,
                };
                Some(Gate {
                    field,
                    operator: term.operator,
                    constant: term.constant.clone(),
                    after_payload: term.after_payload,
                })
            })
            .collect();
        let complete = self.complete && gates.len() == self.terms.len();
        (gates, complete)
    }
}

impl Gate {
    /// Whether the term holds; `None` where that cannot be told here.
    #[inline]
    pub(crate) fn holds(&self, input: &Input<'_>) -> Option<bool> {
        match self.field {
            Place::Payload(number) => {
                let value = input.value(number)?;
                Some(self.operator.holds(value, &self.constant))
            }
            Place::Publish(field) => {
                if self.after_payload && !input.is_readable() {
                    return None;
                }
                self.holds_for(input.event(), field)
            }
            Place::Nothing => Some(false),
        }
    }

    fn holds_for(&self, event: &Event, field: PublishField) -> Option<bool> {
        let What::Publish(publish) = &event.what else {
            return None;
        };
        if publish.given.is_some() {
            return Some(self.operator.holds(&field.of(publish), &self.constant));
        }
        let text = match field {
            PublishField::ClientId => Some(&publish.client_id),
            PublishField::Topic => Some(&publish.topic),
            PublishField::Username => publish.username.as_ref(),
            _ => None,
        };
        Some(match (text, &self.constant) {
            (Some(text), Value::Text(constant)) => self
                .operator
                .accepts(text.as_bytes().cmp(constant.as_bytes())),
            _ => self.operator.holds(&field.of(publish), &self.constant),
        })
    }
}

impl Compiler<'_> {
    /// What comparisons with constants say about `condition`.
    pub(crate) fn gates(&self, condition: &Expr, view: &View) -> Gates {
        let (mut gates, mut looked_inside) = (Gates::open(), false);
        let Lasting::Parts(lasting) = self.lasting(terms(condition), view, false) else {
            return Gates::closed();
        };
        for (place, term) in lasting.into_iter().enumerate() {
            if let Some((field, operator, constant)) = self.gate(term, view) {
                let is_inside = matches!(field, Operand::Payload(_));
                gates.terms.push(Term {
                    field,
                    operator,
                    constant,
                    after_payload: looked_inside,
                });
                gates.places.push(place);
                looked_inside |= is_inside;
                continue;
            }
            gates.complete = false;
            match self.safe_test(term, view) {
                Some(looks_inside) => looked_inside |= looks_inside,
                None => break,
            }
        }
        gates
    }

    fn gate(&self, term: &Expr, view: &View) -> Option<(Operand, Comparison, Value)> {
        let ExprKind::Compare {
            operator,
            left,
            right,
        } = &term.kind
        else {
            return None;
        };
        if let Some(constant) = folded(right) {
            return Some((self.operand(left, view)?, *operator, constant));
        }
        let constant = folded(left)?;
        Some((self.operand(right, view)?, operator.turned(), constant))
    }

    fn operand(&self, expr: &Expr, view: &View) -> Option<Operand> {
        match &expr.kind {
            ExprKind::Path { .. } => self.payload_keys(expr, view).map(Operand::Payload),
            ExprKind::Name { name, .. } if self.names.bindings(name, view).is_empty() => {
                match Field::named(name) {
                    Field::Publish(
                        field @ (PublishField::ClientId
                        | PublishField::Topic
                        | PublishField::Username
                        | PublishField::Qos
                        | PublishField::Retain
                        | PublishField::ReceivedAt),
                        _,
                    ) => Some(Operand::Publish(field)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Whether a condition that cannot fail looks into the payload; `None` where it may fail or has effects.
    pub(super) fn safe_test(&self, expr: &Expr, view: &View) -> Option<bool> {
        let values = |parts: &[&Expr]| {
            parts
                .iter()
                .try_fold(false, |found, part| Some(found | self.safe(part, view)?))
        };
        let is_text = |pattern: &Expr| pattern.literal().and_then(Value::as_str).is_some();
        match &expr.kind {
            ExprKind::And(parts) | ExprKind::Or(parts) => {
                parts.iter().try_fold(false, |found, part| {
                    Some(found | self.safe_test(part, view)?)
                })
            }
            ExprKind::Not(part) => self.safe_test(part, view),
            ExprKind::Compare { left, right, .. } => values(&[left, right]),
            ExprKind::InArray { value, array, .. } => values(&[value, array]),
            ExprKind::Between {
                value, low, high, ..
            } => values(&[value, low, high]),
            ExprKind::Is { value, .. } => self.safe(value, view),
            ExprKind::InList { value, list, .. } => {
                let parts: Vec<&Expr> = std::iter::once(&**value).chain(list).collect();
                values(&parts)
            }
            ExprKind::Like { value, pattern, .. } if is_text(pattern) => self.safe(value, view),
            ExprKind::Regex { value, pattern, .. } => {
                let pattern = pattern.literal().and_then(Value::as_str)?;
                // One that turns back may give up, which is an error.
                Pattern::new(pattern).ok().filter(Pattern::is_linear)?;
                self.safe(value, view)
            }
            ExprKind::TopicMatch { topic, filter } => values(&[topic, filter]),
            _ => None,
        }
    }

    /// The same for a value.
    fn safe(&self, expr: &Expr, view: &View) -> Option<bool> {
        if folded(expr).is_some() {
            return Some(false);
        }
        let is_field = |name: &str| self.names.bindings(name, view).is_empty();
        match &expr.kind {
            ExprKind::Name { name, .. } if is_field(name) => Some(false),
            ExprKind::Path { root, steps } => match &root.kind {
                ExprKind::Name { name, .. } if is_field(name) => steps
                    .iter()
                    .all(|step| match step {
                        Step::Key(_) => true,
                        Step::Index(index) => index.literal().is_some(),
                        Step::Slice { .. } => false,
                    })
                    .then(|| &**name == "payload"),
                _ => None,
            },
            _ => None,
        }
    }
}
