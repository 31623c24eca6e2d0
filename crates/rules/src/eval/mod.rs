//! Compiled expressions: closures over a [`Scope`], made once per rule, run once per message.

mod arithmetic;
mod calls;
mod conditions;
mod expressions;
pub(crate) mod gates;
mod like;
mod members;
pub(crate) mod names;
pub(crate) mod output;
mod paths;

pub(crate) use arithmetic::negate;
pub(crate) use conditions::Lasting;
pub(crate) use expressions::{constant, fixed, folded};

use std::sync::Arc;

use crate::diagnostic::Place;
use crate::env::Env;
use crate::error::{EvalError, Fault};
use crate::event::Event;
use crate::functions::Searched;
use crate::input::Input;
use crate::path::PathSet;
use crate::script::Scripts;
use crate::source::SourceFilter;
use crate::value::Value;
use members::Members;

/// An evaluation error on its way out; boxed, so that results stay small.
pub(crate) type Failure = Box<EvalError>;

/// A compiled expression.
pub(crate) type Eval = Box<dyn Fn(&mut Scope<'_>) -> Result<Value, Failure> + Send + Sync>;

/// A compiled condition: true, false or unknown.
pub(crate) type Test = Box<dyn Fn(&mut Scope<'_>) -> Result<Option<bool>, Failure> + Send + Sync>;

/// What every evaluation of a rule shares.
pub(crate) struct Program {
    /// The statement, for the places of errors.
    pub(crate) sql: Arc<str>,
    pub(crate) sources: Vec<SourceFilter>,
    /// What computes each slot: the items in their order, FOREACH before DO. The element's slot has none.
    pub(crate) slots: Vec<Option<Eval>>,
    /// For each slot whether something refers to it, so that its value is kept once computed.
    pub(crate) shared: Vec<bool>,
}

/// One evaluation of a rule: its inputs, and the items that were computed so far.
pub(crate) struct Scope<'a> {
    pub(crate) program: &'a Program,
    pub(crate) input: &'a Input<'a>,
    pub(crate) env: &'a mut dyn Env,
    pub(crate) rule_id: &'a str,
    /// Values of slots; empty until the first is needed, so that a WHERE that does not hold costs nothing.
    values: Vec<Option<Value>>,
    /// What each `IN list` has seen; empty until one of them comes to a long list.
    members: Vec<Members>,
    /// How long its backtracking searches have taken.
    pub(crate) searched: Searched,
    /// Who may stop it.
    watch: Option<&'a mut Watch<'a>>,
}

/// Who may stop an evaluation: told of the value of each item of an output, and of each element that FOREACH comes to.
pub type Watch<'w> = dyn FnMut(&Value) -> Result<(), Fault> + 'w;

impl<'a> Scope<'a> {
    pub(crate) fn new(
        program: &'a Program,
        input: &'a Input<'a>,
        rule_id: &'a str,
        env: &'a mut dyn Env,
    ) -> Self {
        Self {
            program,
            input,
            env,
            rule_id,
            values: Vec::new(),
            members: Vec::new(),
            searched: Searched::default(),
            watch: None,
        }
    }

    /// Has the evaluation watched.
    pub(crate) fn watched_by(mut self, watch: &'a mut Watch<'a>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Tells who watches of a value that was made.
    #[inline]
    pub(crate) fn tell(&mut self, at: Place, value: &Value) -> Result<(), Failure> {
        match &mut self.watch {
            None => Ok(()),
            Some(watch) => watch(value).map_err(|fault| self.fail(at, &fault)),
        }
    }

    pub(crate) fn event(&self) -> &'a Event {
        self.input.event()
    }

    /// The value of an item, computed at most once where more than the output asks for it.
    pub(crate) fn slot(&mut self, slot: usize) -> Result<Value, Failure> {
        if let Some(Some(value)) = self.values.get(slot) {
            return Ok(value.clone());
        }
        let program = self.program;
        let value = match program.slots.get(slot) {
            Some(Some(eval)) => eval(self)?,
            _ => Value::Undefined,
        };
        if program.shared.get(slot).is_some_and(|shared| *shared) {
            self.set(slot, value.clone());
        }
        Ok(value)
    }

    /// What the `IN list` with this number has seen.
    pub(crate) fn members(&mut self, place: usize) -> &mut Members {
        if self.members.len() <= place {
            self.members.resize_with(place + 1, Members::default);
        }
        &mut self.members[place]
    }

    /// Sets a slot, e.g. the element of FOREACH.
    pub(crate) fn set(&mut self, slot: usize, value: Value) {
        if self.values.len() <= slot {
            self.values
                .resize(self.program.slots.len().max(slot + 1), None);
        }
        self.values[slot] = Some(value);
    }

    /// Forgets the slots from `first` on: they are computed anew for the next element.
    pub(crate) fn forget_from(&mut self, first: usize) {
        self.values
            .iter_mut()
            .skip(first)
            .for_each(|value| *value = None);
    }

    /// The error for a fault in the expression at `at`.
    pub(crate) fn fail(&self, at: Place, fault: &Fault) -> Failure {
        Box::new(EvalError::at(at.locate(&self.program.sql), fault))
    }

    /// The text of the first FROM entry that matches.
    pub(crate) fn matched(&self) -> Value {
        let event = self.event();
        self.program
            .sources
            .iter()
            .find(|source| source.matches(event))
            .map_or(Value::Undefined, |source| source.text().into())
    }
}

/// Turns expressions into closures, and notes what they read.
pub(crate) struct Compiler<'c> {
    pub(crate) names: &'c names::Names,
    pub(crate) scripts: &'c Arc<Scripts>,
    /// Payload paths read so far.
    pub(crate) needs: PathSet,
    /// Whether a user function is called.
    pub(crate) uses_scripts: bool,
    /// It calls a function that may take long.
    pub(crate) waits: bool,
    /// The slots that names refer to.
    pub(crate) shared: Vec<bool>,
    /// How many `IN list` there are so far.
    pub(crate) memberships: usize,
}
