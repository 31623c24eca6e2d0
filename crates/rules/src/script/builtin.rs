//! SQL's own pure functions inside scripts: `sql::upper(s)`.
//!
//! Those that read the message, the clock, random numbers or the store are not offered.

use std::sync::{Arc, OnceLock};

use rhai::{Dynamic, EvalAltResult, FuncRegistration, Module, NativeCallContext};

use super::convert;
use crate::env::Nowhere;
use crate::error::Fault;
use crate::event::{Event, What};
use crate::functions::{self, Body, Call, Function, MAX_TEXT_BYTES, Purity, Searched, SliceArgs};
use crate::value::{Object, Value};

/// The most arguments that a variadic function takes from a script.
const MOST_ARGUMENTS: usize = 12;

/// The module `sql`, built once.
pub(super) fn module() -> Arc<Module> {
    static MODULE: OnceLock<Arc<Module>> = OnceLock::new();
    Arc::clone(MODULE.get_or_init(|| {
        let mut module = Module::new();
        for function in functions::all().filter(|function| function.purity == Purity::Pure) {
            for arguments in (0..=MOST_ARGUMENTS).filter(|count| function.form(*count).is_some()) {
                register(&mut module, function, arguments);
            }
        }
        module.into()
    }))
}

type Answer = Result<Dynamic, Box<EvalAltResult>>;

fn register(module: &mut Module, function: &'static Function, arguments: usize) {
    macro_rules! takes {
        ($($arg:ident)*) => {
            FuncRegistration::new(function.name).set_into_module(
                module,
                move |at: NativeCallContext<'_>, $($arg: Dynamic),*| {
                    call(function, &at, &[$($arg),*])
                },
            )
        };
    }
    match arguments {
        0 => takes!(),
        1 => takes!(a),
        2 => takes!(a b),
        3 => takes!(a b c),
        4 => takes!(a b c d),
        5 => takes!(a b c d e),
        6 => takes!(a b c d e f),
        7 => takes!(a b c d e f g),
        8 => takes!(a b c d e f g h),
        9 => takes!(a b c d e f g h i),
        10 => takes!(a b c d e f g h i j),
        11 => takes!(a b c d e f g h i j k),
        _ => takes!(a b c d e f g h i j k l),
    };
}

fn call(function: &'static Function, at: &NativeCallContext<'_>, args: &[Dynamic]) -> Answer {
    let fail = |why: String| -> Box<EvalAltResult> {
        EvalAltResult::ErrorRuntime(
            format!("sql::{}: {why}", function.name).into(),
            at.call_position(),
        )
        .into()
    };
    let args = args
        .iter()
        .map(|arg| convert::from_script(arg.clone(), MAX_TEXT_BYTES))
        .collect::<Result<Vec<Value>, String>>()
        .map_err(|why| fail(format!("was given {why}")))?;
    let result = evaluate(function, &args).map_err(|fault| fail(fault.message().to_owned()))?;
    let engine = at.engine();
    let longest = convert::Longest {
        string_bytes: engine.max_string_size(),
        array_elements: engine.max_array_size(),
        map_entries: engine.max_map_size(),
    };
    convert::to_script(&result, longest, &mut { MAX_TEXT_BYTES })
        .map_err(|why| fail(format!("its result {why}")))
}

fn evaluate(function: &Function, args: &[Value]) -> Result<Value, Fault> {
    static NOTHING: OnceLock<Event> = OnceLock::new();
    match function.body {
        Body::Lazy(body) => body(&mut SliceArgs(args)),
        Body::Strict(body) => {
            let event = NOTHING.get_or_init(|| Event {
                timestamp_ms: 0,
                what: What::Broker {
                    topic: "",
                    event: "",
                    fields: Arc::new(Object::default()),
                    made_by: None,
                    hops: 0,
                },
            });
            body(&mut Call {
                args,
                event,
                env: &mut Nowhere,
                rule_id: "",
                prepared: None,
                searched: &Searched::default(),
            })
        }
    }
}
