//! Names and paths: through aliases, into fields, into the decoded payload.

use std::borrow::Cow;
use std::sync::Arc;

use super::names::{Binding, Field, View};
use super::{Compiler, Eval, Failure, Scope};
use crate::ast::{Expr, ExprKind, Step};
use crate::diagnostic::Place;
use crate::error::{ErrorKind, Fault};
use crate::json;
use crate::path;
use crate::value::{Key, Value};

/// A path step that is ready to be taken.
enum Taken {
    Key(Key),
    /// `[3]`
    Constant(Value),
    /// `[expr]`
    Computed(Eval),
    Slice {
        from: i64,
        to: i64,
        at: Place,
    },
}

/// Keys into the payload, for the shortest way to a value.
#[derive(Clone)]
pub(super) struct PayloadPath {
    keys: Arc<[Key]>,
    at: Place,
}

impl PayloadPath {
    /// The value, borrowed from what the rules of a message share.
    pub(super) fn get<'i>(&self, scope: &Scope<'i>) -> Result<Cow<'i, Value>, Failure> {
        scope
            .input
            .at(&self.keys)
            .map_err(|fault| scope.fail(self.at, &fault))
    }
}

impl Compiler<'_> {
    /// A path of keys into the payload that no alias can stand before, if `expr` is one.
    pub(super) fn payload_path(&mut self, expr: &Expr, view: &View) -> Option<PayloadPath> {
        let keys = self.payload_keys(expr, view)?;
        self.needs.add(&keys);
        Some(PayloadPath {
            keys: keys.into(),
            at: expr.at,
        })
    }

    /// The keys of such a path.
    pub(super) fn payload_keys(&self, expr: &Expr, view: &View) -> Option<Vec<Key>> {
        let ExprKind::Path { root, steps } = &expr.kind else {
            return None;
        };
        let ExprKind::Name { name, .. } = &root.kind else {
            return None;
        };
        if &**name != "payload" || !self.names.bindings(name, view).is_empty() {
            return None;
        }
        steps
            .iter()
            .map(|step| match step {
                Step::Key(key) => Some(key.clone()),
                _ => None,
            })
            .collect()
    }

    /// What `name` means besides a field; the slots are noted as referred to.
    fn bindings(&mut self, name: &str, view: &View) -> Vec<Binding> {
        let bindings = self.names.bindings(name, view);
        for slot in bindings.iter().flat_map(Binding::slots) {
            self.share(slot);
        }
        bindings
    }

    pub(super) fn name(&mut self, name: &Key, at: Place, view: &View) -> Eval {
        let bindings = self.bindings(name, view);
        let field = Field::named(name);
        if bindings.is_empty() {
            return Box::new(move |scope| Ok(field.value(scope)));
        }
        Box::new(move |scope| {
            for binding in &bindings {
                let value = binding.value(scope, at)?;
                if !value.is_undefined() {
                    return Ok(value);
                }
            }
            Ok(field.value(scope))
        })
    }

    pub(super) fn path(&mut self, expr: &Expr, view: &View) -> Eval {
        if let Some(path) = self.payload_path(expr, view) {
            return Box::new(move |scope| path.get(scope).map(Cow::into_owned));
        }
        let ExprKind::Path { root, steps } = &expr.kind else {
            return Box::new(|_| Ok(Value::Undefined));
        };
        let taken: Vec<Taken> = steps.iter().map(|step| self.step(step, view)).collect();
        let ExprKind::Name { name, .. } = &root.kind else {
            let root = self.value(root, view);
            return Box::new(move |scope| {
                let value = root(scope)?;
                walk(scope, value, &taken)
            });
        };
        let bindings = self.bindings(name, view);
        let field = self.field_path(name, steps, expr.at);
        Box::new(move |scope| aliased_path(scope, &bindings, &field, &taken))
    }

    /// The field that a path starts in; into the payload, as far as its leading keys go.
    fn field_path(&mut self, name: &Key, steps: &[Step], at: Place) -> FieldPath {
        if &**name != "payload" {
            return FieldPath {
                start: Start::Field(Field::named(name)),
                skip: 0,
                at,
            };
        }
        let keys: Vec<Key> = steps
            .iter()
            .map_while(|step| match step {
                Step::Key(key) => Some(key.clone()),
                _ => None,
            })
            .collect();
        self.needs.add(&keys);
        FieldPath {
            skip: keys.len(),
            start: Start::Payload(PayloadPath {
                keys: keys.into(),
                at,
            }),
            at,
        }
    }

    fn step(&mut self, step: &Step, view: &View) -> Taken {
        match step {
            Step::Key(key) => Taken::Key(key.clone()),
            Step::Slice { from, to, at } => Taken::Slice {
                from: *from,
                to: *to,
                at: *at,
            },
            Step::Index(index) => match index.literal() {
                Some(value) => Taken::Constant(value.clone()),
                None => Taken::Computed(self.value(index, view)),
            },
        }
    }
}

/// Where a path starts when no alias leads anywhere.
struct FieldPath {
    start: Start,
    /// How many steps the start takes already.
    skip: usize,
    at: Place,
}

enum Start {
    Field(Field),
    Payload(PayloadPath),
}

/// The first alias through which the whole path leads to a value, else the field.
fn aliased_path(
    scope: &mut Scope<'_>,
    bindings: &[Binding],
    field: &FieldPath,
    steps: &[Taken],
) -> Result<Value, Failure> {
    for binding in bindings {
        let start = binding.value(scope, field.at)?;
        let value = walk(scope, start, steps)?;
        if !value.is_undefined() {
            return Ok(value);
        }
    }
    let start = match &field.start {
        Start::Field(field) => field.value(scope),
        Start::Payload(path) => path.get(scope)?.into_owned(),
    };
    walk(scope, start, steps.get(field.skip..).unwrap_or_default())
}

fn walk(scope: &mut Scope<'_>, mut value: Value, steps: &[Taken]) -> Result<Value, Failure> {
    for step in steps {
        value = match step {
            Taken::Key(key) => path::member(&value, key).into_owned(),
            Taken::Constant(index) => path::element(&value, index).into_owned(),
            Taken::Computed(index) => {
                let index = index(scope)?;
                path::element(&value, &index).into_owned()
            }
            Taken::Slice { from, to, at } => {
                slice(&value, *from, *to).map_err(|fault| scope.fail(*at, &fault))?
            }
        };
    }
    Ok(value)
}

fn slice(value: &Value, from: i64, to: i64) -> Result<Value, Fault> {
    let decoded;
    let elements = match value {
        Value::Array(elements) => elements,
        Value::Text(text) => {
            decoded = json::decode(text.as_bytes()).unwrap_or_default();
            match &decoded {
                Value::Array(elements) => elements,
                _ => return Err(not_array(value)),
            }
        }
        _ => return Err(not_array(value)),
    };
    Ok(path::slice(elements, from, to).to_vec().into())
}

fn not_array(value: &Value) -> Fault {
    Fault::new(ErrorKind::NotArray, "a range needs an array").with_value(value.clone())
}
