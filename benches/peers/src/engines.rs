//! weir and its peers: each compiles a program once and keeps what it needs from message to message, as its
//! documentation recommends, with the fastest way to decode JSON that was found.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::cel_value::CelValue;
use crate::scenarios::Scenario;

/// Evaluates the program on the payload and appends what comes out as JSON.
pub type Run = Box<dyn FnMut(&mut Vec<u8>)>;

pub struct Engine {
    pub name: &'static str,
    pub program: fn(&Scenario) -> &'static str,
    pub compile: fn(&'static str, Bytes) -> Run,
}

/// The first one says what the answers are.
pub const ENGINES: &[Engine] = &[
    #[cfg(feature = "weir")]
    Engine {
        name: "weir",
        program: |scenario| scenario.weir,
        compile: crate::weir::compile,
    },
    Engine {
        name: "vrl",
        program: |scenario| scenario.vrl,
        compile: vrl,
    },
    Engine {
        name: "jaq",
        program: |scenario| scenario.jaq,
        compile: jaq,
    },
    Engine {
        name: "cel",
        program: |scenario| scenario.cel,
        compile: cel,
    },
    Engine {
        name: "rhai",
        program: |scenario| scenario.rhai,
        compile: rhai,
    },
];

/// The payload, for those that decode with `serde_json`: UTF-8 is checked once, which is faster than text by text.
fn decoded<'de, T: Deserialize<'de>>(payload: &'de Bytes) -> T {
    let text = std::str::from_utf8(black_box(payload)).expect("UTF-8");
    serde_json::from_str(text).expect("JSON")
}

fn vrl(program: &'static str, payload: Bytes) -> Run {
    use ::vrl::compiler::runtime::Runtime;
    use ::vrl::compiler::{TargetValueRef, TimeZone};
    use ::vrl::value::{Secrets, Value};

    let program = ::vrl::compiler::compile(program, &::vrl::stdlib::all())
        .expect("a right program")
        .program;
    let mut runtime = Runtime::default();
    let mut metadata = Value::Object(Default::default());
    let mut secrets = Secrets::new();
    let zone = TimeZone::default();
    Box::new(move |out| {
        let mut value: Value = decoded(&payload);
        let mut target = TargetValueRef {
            value: &mut value,
            metadata: &mut metadata,
            secrets: &mut secrets,
        };
        let output = runtime.resolve(&mut target, &program, &zone);
        runtime.clear();
        let output = output.expect("no evaluation error");
        if !output.is_null() {
            serde_json::to_writer(out, &output).expect("what JSON can hold");
        }
    })
}

fn jaq(program: &'static str, payload: Bytes) -> Run {
    use jaq_core::load::{Arena, File, Loader};
    use jaq_core::{Compiler, Ctx, Vars, data::JustLut, unwrap_valr};
    use jaq_json::{Val, read, write};

    let arena = Arena::default();
    let file = File {
        code: program,
        path: (),
    };
    let modules = Loader::new(
        jaq_core::defs()
            .chain(jaq_std::defs())
            .chain(jaq_json::defs()),
    )
    .load(&arena, file)
    .expect("a right program");
    let filter = Compiler::<_, JustLut<Val>>::default()
        .with_funs(
            jaq_core::funs()
                .chain(jaq_std::funs())
                .chain(jaq_json::funs()),
        )
        .compile(modules)
        .expect("a right program");
    let compact = write::Pp::default();
    Box::new(move |out| {
        let value = read::parse_single(black_box(&payload)).expect("JSON");
        let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
        for output in filter.id.run((context, value)) {
            let output = unwrap_valr(output).expect("no evaluation error");
            write::write(out, &compact, 0, &output).expect("what JSON can hold");
        }
    })
}

fn cel(program: &'static str, payload: Bytes) -> Run {
    use ::cel::{Context, Env, Value};

    let env = Arc::new(Env::stdlib());
    let program = env.compile(program).expect("a right program");
    let root = Context::with_env(env);
    Box::new(move |out| {
        let CelValue(value) = decoded(&payload);
        let mut context = root.new_inner_scope();
        context.add_variable_as_val("payload", value);
        let output = program.execute(&context).expect("no evaluation error");
        if output != Value::Null {
            let output = output.json().expect("what JSON can hold");
            serde_json::to_writer(out, &output).expect("what JSON can hold");
        }
    })
}

fn rhai(program: &'static str, payload: Bytes) -> Run {
    use ::rhai::{Dynamic, Engine, Scope};

    let engine = Engine::new();
    let program = engine.compile(program).expect("a right program");
    let mut scope = Scope::new();
    Box::new(move |out| {
        let value: Dynamic = decoded(&payload);
        scope.clear();
        scope.push_dynamic("payload", value);
        let output: Dynamic = engine
            .eval_ast_with_scope(&mut scope, &program)
            .expect("no evaluation error");
        if !output.is_unit() {
            serde_json::to_writer(out, &output).expect("what JSON can hold");
        }
    })
}
