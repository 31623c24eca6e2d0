//! User functions: `udf/NAME.rhai` gives SQL the functions `NAME.f(…)` (rule-SQL §13).
//!
//! A script is pure: no clock, no files, no `import`, no `eval`, no output, nothing kept between calls.
//! It runs within [`ScriptLimits`]; over one of them, or when it throws, the call is a `udf` fault with the script's line.

mod builtin;
mod convert;
mod top_level;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage,
    BasicMapPackage, BasicMathPackage, BasicStringPackage, BitFieldPackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, FnAccess, Module, Position, Scope};

use crate::error::{ErrorKind, Fault};
use crate::functions;
use crate::value::Value;

/// How often the clock is read: a reading costs as much as a few operations.
const OPERATIONS_PER_CLOCK: u64 = 32;

/// What the deepest expression inside the deepest recursion takes of the stack, with room to spare.
/// On a thread that has less left, a call gets a stack of its own for as long as it takes.
const STACK_BYTES: usize = if cfg!(debug_assertions) {
    32 << 20
} else {
    16 << 20
};

/// What one call of a user function may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Operations of the interpreter.
    pub operations: u64,
    /// Functions that call functions.
    pub call_levels: usize,
    /// The longest string; also all strings inside one array or map together.
    pub string_bytes: usize,
    /// The elements of one array, those of the arrays inside it included.
    pub array_elements: usize,
    /// The entries of one map.
    pub map_entries: usize,
    /// How deep expressions and blocks may nest.
    pub expression_depth: usize,
    /// The variables of one function.
    pub variables: usize,
    /// Wall time.
    pub time: Duration,
    /// All arguments together, and the result.
    pub total_bytes: usize,
}

/// User functions by namespace. Without any, `Scripts::default()`.
#[derive(Debug, Default)]
pub struct Scripts {
    namespaces: HashMap<String, Arc<Namespace>>,
}

/// One script file, ready to be called.
struct Namespace {
    engine: Engine,
    ast: AST,
    /// The numbers of arguments that each public function takes, ascending.
    forms: HashMap<String, Vec<usize>>,
    /// Where each function begins, for errors whose own place rhai does not know.
    lines: HashMap<(String, usize), usize>,
    /// `global::NAME` needs the constants to be set before each call.
    has_constants: bool,
    limits: ScriptLimits,
}

/// Why a script file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{namespace}.rhai{}: {message}", self.place())]
pub struct ScriptError {
    /// The file's name without `.rhai`.
    pub namespace: String,
    /// From 1; 0 when the whole file is meant.
    pub line: usize,
    /// From 1; 0 when the whole line is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self {
            operations: 100_000,
            call_levels: 64,
            string_bytes: 64 * 1024,
            array_elements: 10_000,
            map_entries: 10_000,
            expression_depth: 64,
            variables: 64,
            time: Duration::from_millis(10),
            total_bytes: 4 * 1024 * 1024,
        }
    }
}

impl Scripts {
    /// Loads script files given as `(namespace, source)`; all of them or none.
    ///
    /// # Errors
    /// What is wrong with each file that is refused.
    pub fn load<N: Into<String>, S: AsRef<str>>(
        files: impl IntoIterator<Item = (N, S)>,
    ) -> Result<Self, Vec<ScriptError>> {
        let (scripts, errors) = Self::load_each(files, ScriptLimits::default());
        if errors.is_empty() {
            Ok(scripts)
        } else {
            Err(errors)
        }
    }

    /// Loads the files that are sound and says what is wrong with the others.
    pub fn load_each<N: Into<String>, S: AsRef<str>>(
        files: impl IntoIterator<Item = (N, S)>,
        limits: ScriptLimits,
    ) -> (Self, Vec<ScriptError>) {
        let mut scripts = Self::default();
        let mut errors = Vec::new();
        for (name, source) in files {
            let name = name.into();
            if scripts.namespaces.contains_key(&name) {
                errors.push(ScriptError::whole_file(
                    &name,
                    "there are two files of this name",
                ));
                continue;
            }
            match Namespace::load(&name, source.as_ref(), limits) {
                Ok(namespace) => {
                    scripts.namespaces.insert(name, Arc::new(namespace));
                }
                Err(error) => errors.push(error),
            }
        }
        (scripts, errors)
    }

    /// These, and of `others` those whose names are not taken.
    #[must_use]
    pub fn over(mut self, others: &Self) -> Self {
        for (name, namespace) in &others.namespaces {
            self.namespaces
                .entry(name.clone())
                .or_insert_with(|| Arc::clone(namespace));
        }
        self
    }

    /// Whether there is a script of that name.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The scripts' names.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }

    /// The names of a script's public functions.
    pub fn functions(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.namespaces
            .get(namespace)
            .into_iter()
            .flat_map(|found| found.forms.keys())
            .map(String::as_str)
    }

    /// The numbers of arguments that a function takes, ascending.
    pub fn forms(&self, namespace: &str, name: &str) -> Option<&[usize]> {
        self.namespaces
            .get(namespace)?
            .forms
            .get(name)
            .map(Vec::as_slice)
    }

    /// Calls a user function.
    ///
    /// # Errors
    /// A `udf` fault when the script throws, goes over a limit, or returns what is no value.
    pub fn call(&self, namespace: &str, name: &str, args: &[Value]) -> Result<Value, Fault> {
        match self.namespaces.get(namespace) {
            Some(found) => found.call(namespace, name, args),
            None => Err(Fault::new(
                ErrorKind::Udf,
                format!("there is no script {namespace}.rhai"),
            )),
        }
    }
}

impl Namespace {
    fn load(name: &str, source: &str, limits: ScriptLimits) -> Result<Self, ScriptError> {
        check_name(name)
            .map_err(|why| ScriptError::whole_file(name, format!("the name `{name}` {why}")))?;
        if functions::lookup(name).is_some() {
            return Err(ScriptError::whole_file(
                name,
                format!("`{name}` is a built-in function"),
            ));
        }
        let mut engine = sandbox(limits);
        let mut ast = engine.compile(source).map_err(|error| {
            ScriptError::at(name, error.position(), error.err_type().to_string())
        })?;
        if let Some((line, column)) = top_level::first_stray_code(source) {
            return Err(ScriptError {
                namespace: name.to_owned(),
                line,
                column,
                message: "only functions and constants may stand outside of functions".to_owned(),
            });
        }
        ast.set_source(name);
        let lines = top_level::function_lines(source);
        let forms = public_functions(name, &ast, &lines)?;
        let constants = constants(&engine, &ast).map_err(|error| {
            let (message, position) = explain(*error, limits);
            ScriptError::at(name, position, message)
        })?;
        let has_constants = constants.iter_var().next().is_some();
        engine.register_global_module(constants.into());
        Ok(Self {
            engine,
            ast,
            forms,
            lines,
            has_constants,
            limits,
        })
    }

    fn call(&self, namespace: &str, name: &str, args: &[Value]) -> Result<Value, Fault> {
        let limits = self.limits;
        let longest = convert::Longest {
            string_bytes: limits.string_bytes,
            array_elements: limits.array_elements,
            map_entries: limits.map_entries,
        };
        let mut room = limits.total_bytes;
        let args = args
            .iter()
            .enumerate()
            .map(|(index, value)| {
                convert::to_script(value, longest, &mut room).map_err(|why| {
                    Fault::new(
                        ErrorKind::Udf,
                        format!("argument {} of {namespace}.{name} {why}", index + 1),
                    )
                    .with_value(value.clone())
                })
            })
            .collect::<Result<Vec<Dynamic>, Fault>>()?;
        let form = (name.to_owned(), args.len());
        stacker::maybe_grow(STACK_BYTES, STACK_BYTES, || {
            match Clock::during(|| self.run(name, args)) {
                Ok(result) => convert::from_script(result, limits.total_bytes).map_err(|why| {
                    Fault::new(ErrorKind::Udf, format!("{namespace}.{name} returned {why}"))
                }),
                Err(error) => {
                    let (message, position) = explain(*error, limits);
                    let line = position.line().or_else(|| self.lines.get(&form).copied());
                    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                    Err(Fault::new(
                        ErrorKind::Udf,
                        format!("{namespace}.rhai{line}: {message}"),
                    ))
                }
            }
        })
    }

    fn run(&self, name: &str, args: Vec<Dynamic>) -> Result<Dynamic, Box<EvalAltResult>> {
        let options = CallFnOptions::new().eval_ast(self.has_constants);
        self.engine
            .call_fn_with_options(options, &mut Scope::new(), &self.ast, name, args)
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace")
            .field("forms", &self.forms)
            .finish_non_exhaustive()
    }
}

impl ScriptError {
    fn place(&self) -> String {
        let known = [self.line, self.column]
            .into_iter()
            .take_while(|number| *number > 0);
        known.map(|number| format!(":{number}")).collect()
    }

    fn whole_file(namespace: &str, message: impl Into<String>) -> Self {
        Self::at(namespace, Position::NONE, message)
    }

    fn at(namespace: &str, position: Position, message: impl Into<String>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            line: position.line().unwrap_or(0),
            column: position.position().unwrap_or(0),
            message: message.into(),
        }
    }
}

/// When the call on this thread began; scripts never see it.
struct Clock;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Clock {
    fn during<T>(call: impl FnOnce() -> T) -> T {
        BEGAN.set(Some(now()));
        let result = call();
        BEGAN.set(None);
        result
    }

    fn has_passed(time: Duration) -> bool {
        BEGAN
            .get()
            .is_some_and(|began| now().duration_since(began) > time)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a wall-time limit needs the real clock; no script can read it"
)]
fn now() -> Instant {
    Instant::now()
}

/// An engine with everything that a pure function needs and nothing that reaches out: the language core
/// package is left out for its `sleep` and `exit`.
fn sandbox(limits: ScriptLimits) -> Engine {
    let mut engine = Engine::new_raw();
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BitFieldPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicBlobPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    engine.register_static_module("sql", builtin::module());
    for symbol in ["eval", "import", "export", "print", "debug"] {
        engine.disable_symbol(symbol);
    }
    engine
        .set_max_operations(limits.operations)
        .set_max_call_levels(limits.call_levels)
        .set_max_string_size(limits.string_bytes)
        .set_max_array_size(limits.array_elements)
        .set_max_map_size(limits.map_entries)
        .set_max_expr_depths(limits.expression_depth, limits.expression_depth)
        .set_max_variables(limits.variables)
        .set_max_modules(0);
    engine.on_progress(move |operations| {
        let reads_clock = operations % OPERATIONS_PER_CLOCK == 0;
        (reads_clock && Clock::has_passed(limits.time)).then_some(Dynamic::UNIT)
    });
    engine
}

fn public_functions(
    namespace: &str,
    ast: &AST,
    lines: &HashMap<(String, usize), usize>,
) -> Result<HashMap<String, Vec<usize>>, ScriptError> {
    let mut forms: HashMap<String, Vec<usize>> = HashMap::new();
    // A closure is a function whose name, with a `$`, no script can write.
    let public = |function: &rhai::ScriptFnMetadata<'_>| {
        function.access == FnAccess::Public && !function.name.contains('$')
    };
    for function in ast.iter_functions().filter(public) {
        let arity = function.params.len();
        if let Err(why) = check_name(function.name) {
            let line = lines.get(&(function.name.to_owned(), arity)).copied();
            let message = format!(
                "the function name `{}` {why}; make it `private` or rename it",
                function.name
            );
            return Err(ScriptError {
                line: line.unwrap_or(0),
                ..ScriptError::whole_file(namespace, message)
            });
        }
        forms
            .entry(function.name.to_owned())
            .or_default()
            .push(arity);
    }
    for arities in forms.values_mut() {
        arities.sort_unstable();
        arities.dedup();
    }
    Ok(forms)
}

/// SQL function names have no case, so those of scripts must not need one.
fn check_name(name: &str) -> Result<(), &'static str> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let goes_on_well = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts_well && goes_on_well {
        Ok(())
    } else {
        Err("must be lower case: letters, digits and `_`")
    }
}

/// The script's constants as a module, so that functions see them by their plain names too.
fn constants(engine: &Engine, ast: &AST) -> Result<Module, Box<EvalAltResult>> {
    let mut scope = Scope::new();
    stacker::maybe_grow(STACK_BYTES, STACK_BYTES, || {
        Clock::during(|| engine.run_ast_with_scope(&mut scope, ast))
    })?;
    let mut module = Module::new();
    for (name, _, value) in scope.iter() {
        module.set_var(name, value);
    }
    Ok(module)
}

/// What went wrong, and where in the script.
fn explain(error: EvalAltResult, limits: ScriptLimits) -> (String, Position) {
    let mut error = error;
    let mut position = error.position();
    while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) = error {
        error = *inner;
        if !error.position().is_none() {
            position = error.position();
        }
    }
    error.clear_position();
    let message = match error {
        EvalAltResult::ErrorTerminated(..) => {
            format!("took longer than {} ms", limits.time.as_millis())
        }
        EvalAltResult::ErrorTooManyOperations(_) => {
            format!("took more than {} operations", limits.operations)
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            format!("more than {} calls inside each other", limits.call_levels)
        }
        EvalAltResult::ErrorRuntime(thrown, _) => thrown.to_string(),
        other => other.to_string(),
    };
    (message, position)
}

#[cfg(test)]
mod tests;
