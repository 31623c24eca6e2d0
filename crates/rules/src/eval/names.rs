//! What a name means at a place of the statement (rule-SQL §6): an alias given so far, then a field.

use std::ops::Range;
use std::sync::Arc;

use super::output::{self, first_is_payload};
use super::{Failure, Scope};
use crate::ast::{AliasStep, Body, Item, Statement};
use crate::diagnostic::Place;
use crate::event::{PublishField, What};
use crate::value::{Key, Object, Value};

/// An alias: which item it names, and where in the output it stands.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Key,
    /// The steps after the name, for `AS a.b[1]`.
    pub(crate) rest: Vec<AliasStep>,
    pub(crate) slot: usize,
}

/// Every alias of a statement.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) aliases: Vec<Named>,
    /// The element of FOREACH.
    pub(crate) element: Option<(Key, usize)>,
}

/// The aliases that an expression sees, nearest first.
pub(crate) type View = Vec<Layer>;

/// One part of a view.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// The aliases of these slots.
    Slots(Range<usize>),
    /// The element of FOREACH.
    Element,
}

/// One thing that a name can mean.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    /// The value of a slot.
    Slot(usize),
    /// What items with nested aliases build under one name.
    Built {
        base: Option<usize>,
        parts: Arc<[(usize, Vec<AliasStep>)]>,
        is_payload: bool,
    },
}

/// How a statement's items are laid out in slots, and what each place of it sees.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) names: Names,
    /// How many items stand before the element: all of SELECT, those of FOREACH.
    items: usize,
    /// How many items DO has.
    outputs: usize,
    foreach: bool,
}

impl Layout {
    pub(crate) fn of(statement: &Statement) -> Self {
        let mut names = Names::default();
        match &statement.body {
            Body::Select(items) => {
                names.add(items, 0);
                Self {
                    names,
                    items: items.len(),
                    outputs: 0,
                    foreach: false,
                }
            }
            Body::Foreach { items, outputs, .. } => {
                let outputs = outputs.as_deref().unwrap_or_default();
                names.add(items, 0);
                let named = names.aliases.iter().any(|alias| *alias.name == *"item");
                names.add(outputs, items.len() + 1);
                let element = match items.last() {
                    Some(Item::Expr {
                        alias: Some(alias), ..
                    }) => match alias.steps.first() {
                        Some(AliasStep::Key(name)) => name.clone(),
                        _ => "item".into(),
                    },
                    _ => {
                        // Where it has no alias, WHERE knows the whole collection by the element's name, too, unless an
                        // item before it is called so.
                        if !named {
                            names.aliases.push(Named {
                                name: "item".into(),
                                rest: Vec::new(),
                                slot: items.len().saturating_sub(1),
                            });
                        }
                        "item".into()
                    }
                };
                names.element = Some((element, items.len()));
                Self {
                    names,
                    items: items.len(),
                    outputs: outputs.len(),
                    foreach: true,
                }
            }
        }
    }

    /// How many slots there are.
    pub(crate) const fn slots(&self) -> usize {
        self.items + self.outputs + self.foreach as usize
    }

    /// What the item at `index` of SELECT or FOREACH sees: the aliases before it.
    pub(crate) fn item_view(&self, index: usize) -> View {
        vec![Layer::Slots(0..index)]
    }

    /// What the item of a slot sees.
    pub(crate) fn slot_view(&self, slot: usize) -> View {
        match slot.checked_sub(self.items + 1) {
            Some(output) => self.output_view(output),
            None => self.item_view(slot),
        }
    }

    /// What WHERE sees: every alias of SELECT or FOREACH.
    pub(crate) fn condition_view(&self) -> View {
        vec![Layer::Slots(0..self.items)]
    }

    /// The slot of the item at `index` of DO.
    pub(crate) const fn output_slot(&self, index: usize) -> usize {
        self.items + 1 + index
    }

    /// What the item at `index` of DO sees: DO aliases before it, the element, the other FOREACH aliases.
    pub(crate) fn output_view(&self, index: usize) -> View {
        let first = self.items + 1;
        vec![
            Layer::Slots(first..first + index),
            Layer::Element,
            Layer::Slots(0..self.items.saturating_sub(1)),
        ]
    }

    /// What INCASE sees: as DO, with all its aliases.
    pub(crate) fn filter_view(&self) -> View {
        self.output_view(self.outputs)
    }
}

impl Names {
    fn add(&mut self, items: &[Item], first_slot: usize) {
        for (index, item) in items.iter().enumerate() {
            if let Item::Expr {
                alias: Some(alias), ..
            } = item
                && let Some((AliasStep::Key(name), rest)) = alias.steps.split_first()
            {
                self.aliases.push(Named {
                    name: name.clone(),
                    rest: rest.to_vec(),
                    slot: first_slot + index,
                });
            }
        }
    }

    /// What `name` means besides a field, nearest first.
    pub(crate) fn bindings(&self, name: &str, view: &View) -> Vec<Binding> {
        view.iter()
            .filter_map(|layer| self.binding(name, layer))
            .collect()
    }

    fn binding(&self, name: &str, layer: &Layer) -> Option<Binding> {
        let slots = match layer {
            Layer::Element => {
                return self
                    .element
                    .as_ref()
                    .filter(|(element, _)| **element == *name)
                    .map(|(_, slot)| Binding::Slot(*slot));
            }
            Layer::Slots(slots) => slots,
        };
        let (mut base, mut parts) = (None, Vec::new());
        for alias in self
            .aliases
            .iter()
            .filter(|alias| slots.contains(&alias.slot) && *alias.name == *name)
        {
            if alias.rest.is_empty() {
                base = Some(alias.slot);
                parts.clear();
            } else {
                parts.push((alias.slot, alias.rest.clone()));
            }
        }
        match (base, parts.is_empty()) {
            (None, true) => None,
            (Some(slot), true) => Some(Binding::Slot(slot)),
            _ => Some(Binding::Built {
                base,
                parts: parts.into(),
                is_payload: first_is_payload(name),
            }),
        }
    }
}

impl Binding {
    /// The slots that are read.
    pub(super) fn slots(&self) -> Vec<usize> {
        match self {
            Self::Slot(slot) => vec![*slot],
            Self::Built { base, parts, .. } => base
                .iter()
                .copied()
                .chain(parts.iter().map(|(slot, _)| *slot))
                .collect(),
        }
    }

    /// The value, computing the items that it needs.
    pub(crate) fn value(&self, scope: &mut Scope<'_>, at: Place) -> Result<Value, Failure> {
        match self {
            Self::Slot(slot) => scope.slot(*slot),
            Self::Built {
                base,
                parts,
                is_payload,
            } => {
                let mut built = match base {
                    Some(slot) => scope.slot(*slot)?,
                    None => Value::Undefined,
                };
                for (slot, steps) in parts.iter() {
                    let value = scope.slot(*slot)?;
                    if *is_payload {
                        output::decode_payload(&mut built)
                            .map_err(|fault| scope.fail(at, &fault))?;
                    }
                    output::put(&mut built, steps, value);
                }
                Ok(built)
            }
        }
    }
}

/// A field of the source, resolved as far as it can be before the event is known.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Payload,
    Event,
    Timestamp,
    Node,
    Metadata,
    /// A field of its own in a publish, looked up by name elsewhere.
    Publish(PublishField, Key),
    /// A field that no publish has.
    Other(Key),
}

impl Field {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "payload" => Self::Payload,
            "event" => Self::Event,
            "timestamp" => Self::Timestamp,
            "node" => Self::Node,
            "metadata" => Self::Metadata,
            _ => PublishField::named(name).map_or_else(
                || Self::Other(name.into()),
                |field| Self::Publish(field, name.into()),
            ),
        }
    }

    pub(crate) fn value(&self, scope: &Scope<'_>) -> Value {
        let event = scope.event();
        match (self, &event.what) {
            (Self::Payload, _) => event.field("payload"),
            (Self::Event, _) => event.name().into(),
            (Self::Timestamp, _) => Value::Int(event.timestamp_ms),
            (Self::Node, _) => scope.env.node().into(),
            (Self::Metadata, _) => metadata(scope),
            (Self::Publish(field, _), What::Publish(publish)) => field.of(publish),
            (Self::Other(name), What::Publish(publish)) => publish.further(name),
            (
                Self::Publish(_, name) | Self::Other(name),
                What::Broker { fields, .. } | What::Ingress { fields, .. },
            ) => fields.get(name).cloned().unwrap_or_default(),
        }
    }
}

fn metadata(scope: &Scope<'_>) -> Value {
    [
        ("rule_id", Value::from(scope.rule_id)),
        ("trigger", scope.event().trigger().into()),
        ("matched", scope.matched()),
    ]
    .into_iter()
    .collect()
}

/// `*`: every source field.
pub(crate) fn copy_fields(scope: &Scope<'_>, output: &mut Object) {
    let mut copy = |name: &str, value: Value| {
        if !value.is_undefined() {
            output.insert(name.into(), value);
        }
    };
    scope.event().for_each_field(&mut copy);
    copy("node", scope.env.node().into());
    copy("metadata", metadata(scope));
}
