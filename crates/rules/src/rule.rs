//! A compiled rule: SELECT gives at most one output for a message, FOREACH one for each element that passes.

use std::sync::Arc;

use crate::ast::AliasStep;
use crate::diagnostic::Place;
use crate::env::Env;
use crate::error::{ErrorKind, EvalError, Fault};
use crate::eval::gates::Gates;
use crate::eval::names::copy_fields;
use crate::eval::{Eval, Failure, Program, Scope, Test, Watch, output};
use crate::event::Event;
use crate::explain::{Column, Explain, Staged, Term, Type};
use crate::input::Input;
use crate::json;
use crate::path::PathSet;
use crate::source::SourceFilter;
use crate::value::{Key, KeyHash, Object, Value};

/// The most outputs of one FOREACH (rule-SQL §14).
const MAX_OUTPUTS: usize = 10_000;

/// One rule, ready to be evaluated any number of times and on any thread.
pub struct Rule {
    pub(crate) program: Program,
    pub(crate) body: Body,
    pub(crate) condition: Option<Test>,
    /// What of WHERE can be told without the rule, for [`Matched`](crate::Matched).
    pub(crate) gates: Gates,
    /// WHERE taken apart, for [`Rule::evaluate_staged`].
    pub(crate) terms: Vec<ConditionTerm>,
    pub(crate) needs: PathSet,
    pub(crate) uses_scripts: bool,
    /// It calls a function that may take long.
    pub(crate) waits: bool,
    pub(crate) explain: Explain,
}

/// What a rule yields.
pub(crate) enum Body {
    Select(Vec<Placed>),
    Foreach(Foreach),
}

pub(crate) struct Foreach {
    /// The items before the collection.
    pub(crate) named: Vec<Placed>,
    /// The slot of the collection.
    pub(crate) collection: usize,
    /// The element's name and slot; the slots of DO follow.
    pub(crate) element: (Key, usize),
    pub(crate) filter: Option<Test>,
    pub(crate) outputs: Vec<Placed>,
    /// Where the collection stands in the statement.
    pub(crate) at: Place,
}

/// An item and where its value goes in the output.
pub(crate) enum Placed {
    Star,
    Value {
        slot: usize,
        steps: Vec<AliasStep>,
        at: Place,
    },
}

/// One side of the ANDs of WHERE.
pub(crate) struct ConditionTerm {
    pub(crate) at: Place,
    pub(crate) test: Test,
    /// The names and paths in it, with what computes them.
    pub(crate) reads: Vec<(Place, Eval)>,
}

impl Rule {
    /// The entries of FROM.
    pub fn sources(&self) -> &[SourceFilter] {
        &self.program.sources
    }

    /// Whether a PUBLISH on this topic triggers the rule.
    pub fn matches_topic(&self, topic: &str) -> bool {
        self.sources()
            .iter()
            .any(|source| matches!(source, SourceFilter::Topic(filter) if filter.matches(topic)))
    }

    /// Whether the event triggers the rule.
    pub fn matches(&self, event: &Event) -> bool {
        self.sources().iter().any(|source| source.matches(event))
    }

    /// The payload paths that the rule reads.
    pub const fn needs(&self) -> &PathSet {
        &self.needs
    }

    /// Whether the rule calls user functions.
    pub const fn uses_scripts(&self) -> bool {
        self.uses_scripts
    }

    /// Whether it may take milliseconds or more: it calls user functions or `jq`. Such a rule does not hold up a thread
    /// that has other connections.
    pub const fn may_take_long(&self) -> bool {
        self.uses_scripts || self.waits
    }

    /// The statement.
    pub fn sql(&self) -> &str {
        &self.program.sql
    }

    /// The output's fields with the types that can be told beforehand; `None` where `*` leaves them open.
    pub fn output_fields(&self) -> Option<Vec<(String, Type)>> {
        self.explain
            .columns
            .iter()
            .map(|column| match column {
                Column::Fields => None,
                Column::Value { name, kind, .. } => Some((name.clone(), *kind)),
            })
            .collect()
    }

    /// What the rule does, in its own words.
    pub const fn explain(&self) -> &Explain {
        &self.explain
    }

    /// Evaluates the rule for an event that matches it: the output objects, none when WHERE does not hold.
    ///
    /// # Errors
    /// The first evaluation error; the message then yields nothing for this rule.
    pub fn evaluate(
        &self,
        input: &Input<'_>,
        rule_id: &str,
        env: &mut dyn Env,
    ) -> Result<Vec<Value>, EvalError> {
        let mut scope = Scope::new(&self.program, input, rule_id, env);
        self.run(&mut scope).map_err(|failure| *failure)
    }

    /// As [`Self::evaluate`], for a statement that nobody has vouched for: `watch` ends it with its fault.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and what `watch` gives.
    pub fn evaluate_watched<'a>(
        &'a self,
        input: &'a Input<'a>,
        rule_id: &'a str,
        env: &'a mut dyn Env,
        watch: &'a mut Watch<'a>,
    ) -> Result<Vec<Value>, EvalError> {
        let mut scope = Scope::new(&self.program, input, rule_id, env).watched_by(watch);
        self.run(&mut scope).map_err(|failure| *failure)
    }

    /// As [`Self::evaluate`], where WHERE is known to hold.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_passed(
        &self,
        input: &Input<'_>,
        rule_id: &str,
        env: &mut dyn Env,
    ) -> Result<Vec<Value>, EvalError> {
        let mut scope = Scope::new(&self.program, input, rule_id, env);
        self.outputs(&mut scope).map_err(|failure| *failure)
    }

    /// As [`Self::evaluate`], telling what each term of WHERE gave. Every term is computed, also where an earlier
    /// one has decided, so this is for looking at rules, with an [`Env`] that is thrown away.
    pub fn evaluate_staged(&self, input: &Input<'_>, rule_id: &str, env: &mut dyn Env) -> Staged {
        let mut scope = Scope::new(&self.program, input, rule_id, env);
        let terms: Vec<Term> = self
            .terms
            .iter()
            .map(|term| self.term(term, &mut scope))
            .collect();
        let mut held = true;
        for term in &terms {
            match &term.held {
                Ok(Some(true)) => {}
                Ok(None) => held = false,
                Ok(Some(false)) => {
                    held = false;
                    break;
                }
                Err(error) => {
                    let result = Err(error.clone());
                    return Staged { terms, result };
                }
            }
        }
        let result = if held {
            self.outputs(&mut scope).map_err(|failure| *failure)
        } else {
            Ok(Vec::new())
        };
        Staged { terms, result }
    }

    fn term(&self, term: &ConditionTerm, scope: &mut Scope<'_>) -> Term {
        let sql = &self.program.sql;
        let text = term.at.text(sql).to_owned();
        let mut values = Vec::new();
        let mut with_values = String::new();
        let mut at = term.at.start;
        for (place, eval) in &term.reads {
            let value = eval(scope).unwrap_or_default();
            let shown = match &value {
                Value::Undefined => "undefined".to_owned(),
                value => json::to_text(value).unwrap_or_else(|_| crate::error::shown(value)),
            };
            with_values.push_str(sql.get(at..place.start).unwrap_or_default());
            with_values.push_str(&shown);
            at = place.end;
            values.push((place.text(sql).to_owned(), value));
        }
        with_values.push_str(sql.get(at..term.at.end).unwrap_or_default());
        let held = (term.test)(scope).map_err(|failure| *failure);
        Term {
            text,
            with_values,
            values,
            held,
        }
    }

    fn run(&self, scope: &mut Scope<'_>) -> Result<Vec<Value>, Failure> {
        if let Some(condition) = &self.condition
            && condition(scope)? != Some(true)
        {
            return Ok(Vec::new());
        }
        self.outputs(scope)
    }

    /// The outputs for a message that has passed WHERE.
    fn outputs(&self, scope: &mut Scope<'_>) -> Result<Vec<Value>, Failure> {
        match &self.body {
            Body::Select(items) => {
                let mut output = Object::with_capacity_and_hasher(items.len(), KeyHash);
                for item in items {
                    match item {
                        Placed::Star => copy_fields(scope, &mut output),
                        Placed::Value { slot, steps, at } => {
                            place(scope, &mut output, *slot, steps, *at)?
                        }
                    }
                }
                Ok(vec![output.into()])
            }
            Body::Foreach(foreach) => foreach.run(scope),
        }
    }
}

fn place(
    scope: &mut Scope<'_>,
    output: &mut Object,
    slot: usize,
    steps: &[AliasStep],
    at: Place,
) -> Result<(), Failure> {
    let value = scope.slot(slot)?;
    scope.tell(at, &value)?;
    output::put_item(output, steps, value).map_err(|fault| scope.fail(at, &fault))
}

impl Foreach {
    fn run(&self, scope: &mut Scope<'_>) -> Result<Vec<Value>, Failure> {
        for item in &self.named {
            if let Placed::Value { slot, .. } = item {
                scope.slot(*slot)?;
            }
        }
        let Value::Array(elements) = scope.slot(self.collection)? else {
            return Ok(Vec::new());
        };
        let mut outputs = Vec::new();
        for element in elements.iter() {
            scope.forget_from(self.element.1);
            scope.set(self.element.1, element.clone());
            scope.tell(self.at, &Value::Undefined)?;
            if let Some(filter) = &self.filter
                && filter(scope)? != Some(true)
            {
                continue;
            }
            if outputs.len() == MAX_OUTPUTS {
                let fault =
                    Fault::new(ErrorKind::Limit, format!("more than {MAX_OUTPUTS} outputs"));
                return Err(scope.fail(self.at, &fault));
            }
            outputs.push(self.output(scope, element)?);
        }
        Ok(outputs)
    }

    fn output(&self, scope: &mut Scope<'_>, element: &Value) -> Result<Value, Failure> {
        let mut output = Object::with_capacity_and_hasher(self.outputs.len(), KeyHash);
        for item in &self.outputs {
            match item {
                Placed::Value { slot, steps, at } => place(scope, &mut output, *slot, steps, *at)?,
                Placed::Star => {
                    copy_fields(scope, &mut output);
                    for item in &self.named {
                        if let Placed::Value { slot, steps, at } = item {
                            place(scope, &mut output, *slot, steps, *at)?;
                        }
                    }
                    if !element.is_undefined() {
                        output.insert(self.element.0.clone(), element.clone());
                    }
                }
            }
        }
        Ok(output.into())
    }
}

impl AsRef<Rule> for Rule {
    fn as_ref(&self) -> &Rule {
        self
    }
}

impl AsRef<Rule> for (Arc<str>, Rule) {
    fn as_ref(&self) -> &Rule {
        &self.1
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("sql", &self.program.sql)
            .finish_non_exhaustive()
    }
}
