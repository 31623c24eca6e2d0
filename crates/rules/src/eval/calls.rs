//! Calls of built-in functions and of user functions.

use std::sync::Arc;

use super::expressions::within_bounds;
use super::names::View;
use super::{Compiler, Eval, Failure, Scope};
use crate::ast::{self, Expr};
use crate::diagnostic::Place;
use crate::error::{ErrorKind, Fault};
use crate::functions::{
    self, Body, Call, Function, LazyArgs, LazyBody, Prepared, Purity, StrictBody,
};
use crate::value::Value;

/// A store could grow a value deeper with each message, until no stack can hold a walk over it.
const MAX_KEPT_DEPTH: usize = 256;

impl Compiler<'_> {
    pub(super) fn call(&mut self, call: &ast::Call, at: Place, view: &View) -> Eval {
        let args: Vec<Eval> = call.args.iter().map(|arg| self.value(arg, view)).collect();
        if let Some(namespace) = &call.namespace {
            // Names of functions have no case; those of scripts are in lower case.
            let (namespace, name) = (namespace.to_lowercase(), call.name.to_lowercase());
            return self.user_call(namespace, name, args, at);
        }
        match functions::lookup(&call.name) {
            Some(function) => match function.body {
                Body::Strict(body) => {
                    self.waits |= function.waits;
                    let keeps = function.purity == Purity::Impure;
                    strict(body, args, prepared(function, &call.args), keeps, at)
                }
                Body::Lazy(body) => lazy(body, args, at),
            },
            // The check has refused the statement already.
            None => Box::new(|_| Ok(Value::Undefined)),
        }
    }

    fn user_call(&mut self, namespace: String, name: String, args: Vec<Eval>, at: Place) -> Eval {
        self.uses_scripts = true;
        let scripts = Arc::clone(self.scripts);
        Box::new(move |scope| {
            let args = args
                .iter()
                .map(|arg| arg(scope))
                .collect::<Result<Vec<_>, _>>()?;
            scripts
                .call(&namespace, &name, &args)
                .map_err(|fault| scope.fail(at, &fault))
        })
    }
}

fn strict(
    body: StrictBody,
    args: Vec<Eval>,
    prepared: Option<Prepared>,
    keeps: bool,
    at: Place,
) -> Eval {
    Box::new(move |scope| {
        // Most calls have few arguments: they need no list on the heap.
        let mut few: [Value; 4] = Default::default();
        let many;
        let args: &[Value] = if args.len() <= few.len() {
            for (value, arg) in few.iter_mut().zip(&args) {
                *value = arg(scope)?;
            }
            &few[..args.len()]
        } else {
            many = args
                .iter()
                .map(|arg| arg(scope))
                .collect::<Result<Vec<_>, _>>()?;
            &many
        };
        if keeps && args.iter().any(|arg| arg.is_deeper_than(MAX_KEPT_DEPTH)) {
            let message = format!("a value nested deeper than {MAX_KEPT_DEPTH} cannot be kept");
            return Err(scope.fail(at, &Fault::new(ErrorKind::Limit, message)));
        }
        let event = scope.event();
        let mut call = Call {
            args,
            event,
            env: &mut *scope.env,
            rule_id: scope.rule_id,
            prepared: prepared.as_ref(),
            searched: &scope.searched,
        };
        let result = body(&mut call).map_err(|fault| scope.fail(at, &fault))?;
        within_bounds(scope, at, result)
    })
}

fn lazy(body: LazyBody, args: Vec<Eval>, at: Place) -> Eval {
    Box::new(move |scope| {
        let mut arguments = Arguments {
            scope,
            args: &args,
            failure: None,
        };
        let result = body(&mut arguments);
        match (result, arguments.failure.take()) {
            (Ok(value), _) => Ok(value),
            (Err(_), Some(failure)) => Err(failure),
            (Err(fault), None) => Err(scope.fail(at, &fault)),
        }
    })
}

/// The arguments of a lazy call; a failure keeps its own place.
struct Arguments<'x, 'a> {
    scope: &'x mut Scope<'a>,
    args: &'x [Eval],
    failure: Option<Failure>,
}

impl LazyArgs for Arguments<'_, '_> {
    fn len(&self) -> usize {
        self.args.len()
    }

    fn get(&mut self, index: usize) -> Result<Value, Fault> {
        let Some(arg) = self.args.get(index) else {
            return Ok(Value::Undefined);
        };
        arg(self.scope).map_err(|failure| {
            let fault = Fault::new(failure.kind, failure.message.clone());
            self.failure = Some(failure);
            fault
        })
    }
}

/// What can be prepared once: a regular expression that is a literal.
fn prepared(function: &Function, args: &[Expr]) -> Option<Prepared> {
    args.iter().enumerate().find_map(|(index, arg)| {
        function
            .prepare(args.len(), index, arg.literal()?)
            .ok()
            .flatten()
    })
}
