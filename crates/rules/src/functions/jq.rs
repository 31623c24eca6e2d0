//! The function `jq`, by jaq: only in builds with the feature `jq`.
//!
//! A jq program may run without end, take all memory or recurse until the stack is full, and nothing inside a process
//! can stop it. So a rule only checks it here; a [`Runner`], which comes with [`Env`](crate::env::Env), runs it where it
//! harms nobody: the broker's does so in a process of its own.

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader, lex};
use jaq_core::native::{Fun, run};
use jaq_core::{Compiler, Ctx, Filter, Vars, unwrap_valr};
use jaq_json::{Val, read, write};

use super::call::{self, Call};
use super::{Category, Function, Kind, MAX_TEXT_BYTES, Param};
use crate::error::{ErrorKind, Fault};
use crate::json;
use crate::value::Value;

/// How long a program may run, in milliseconds, unless the call says less.
const LONGEST_MS: i64 = 10_000;
/// The longest text of a program.
pub const MAX_PROGRAM_BYTES: usize = 8 * 1024;
/// How deep brackets of a program may nest.
const MAX_NESTING: usize = 128;
/// What jaq's parser and compiler, which call themselves, may need of the stack: a part, and one for each byte. The worst,
/// a chain of minus signs, needs between 8 and 16 KiB a byte in a debug build.
const STACK_BYTES: usize = 4 * 1024 * 1024;
const STACK_BYTES_EACH: usize = 24 * 1024;
/// How many programs are kept compiled.
const RECENT: usize = 16;
/// Filters of jq that would look at, speak to or end the process.
const REFUSED: [&str; 5] = ["env", "now", "halt", "input_filename", "stderr_empty"];
/// How much of a program an error shows.
const SHOWN_CHARS: usize = 40;

pub(super) const FUNCTIONS: &[Function] = &[Function::new(
    Category::Encoding,
    "jq",
    &[
        &[Param::new("program", Kind::JqProgram), Param::any("x")],
        &[
            Param::new("program", Kind::JqProgram),
            Param::any("x"),
            Param::int("ms"),
        ],
    ],
    "All results of a jq program for a value or its JSON text, as an array; it may run for so many milliseconds (10000), \
     and the publisher waits for it.",
    &[
        ("jq('.a[] | . + 1', {'a': [1, 2]})", "[2, 3]"),
        ("jq('{t: .temp}', '{\"temp\":1.5}')", "[{'t': 1.5}]"),
        ("jq('empty', 1)", "[]"),
    ],
    jq,
)
.reads()
.waits()];

/// A program to be run.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The program, at most [`MAX_PROGRAM_BYTES`] long; it has not been parsed.
    pub program: &'a str,
    /// JSON text, at most [`MAX_TEXT_BYTES`] long.
    pub input: &'a [u8],
    /// How long it may run.
    pub limit_ms: u64,
}

/// The JSON texts of all results, or why there are none, as a sentence for the rule's author.
pub type Answer = Result<Vec<Vec<u8>>, String>;

/// Runs programs that may be hostile. It must come back in time, and outlive whatever a program does.
pub trait Runner: Send + Sync {
    /// Runs one program with one input.
    ///
    /// # Errors
    /// Why it gave no results: its own error, or the limit that it went over.
    fn run(&self, ask: Ask<'_>) -> Answer;
}

fn jq(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut input = Vec::new();
    match call.value(1) {
        // Decoded by the language's own rules first: depth, strictness.
        Value::Text(text) if text.as_bytes().len() <= MAX_TEXT_BYTES => {
            json::decode(text.as_bytes()).map_err(|error| fault(error.message().to_owned()))?;
            input.extend_from_slice(text.as_bytes());
        }
        Value::Text(_) => return Err(fault("the input is over 4 MiB")),
        value => json::encode(value, &mut input)?,
    }
    if input.len() > MAX_TEXT_BYTES {
        return Err(fault("the input is over 4 MiB"));
    }
    let ms = if call.count() > 2 {
        call.int(2)?
    } else {
        LONGEST_MS
    };
    if !(1..=LONGEST_MS).contains(&ms) {
        return Err(call.bad(2, "must be from 1 to 10000 milliseconds"));
    }
    let program = call.text(0)?;
    bounded(program).map_err(fault)?;
    let Some(runner) = call.env.jq() else {
        return Err(fault(
            "nothing runs jq programs here: the program that embeds weir must name one (`BrokerBuilder::jq_program`)",
        ));
    };
    let results = runner
        .run(Ask {
            program,
            input: &input,
            limit_ms: ms.unsigned_abs(),
        })
        .map_err(fault)?;
    let values = results.iter().map(|text| json::decode(text));
    call::array(values.collect::<Result<_, Fault>>()?)
}

fn fault(message: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(ErrorKind::Jq, message)
}

/// Whether the text is a jq program, without running it. In this process: the stack is made to suffice.
pub(super) fn check(program: &str) -> Result<(), String> {
    bounded(program)?;
    // Chains without brackets, such as `- - - 1`, go as deep as they are long.
    let stack = STACK_BYTES + program.len() * STACK_BYTES_EACH;
    stacker::maybe_grow(stack, stack, || compiled(program).map(drop))
}

/// Programs that were run lately, compiled. What runs them may take all memory and never end: a [`Runner`] keeps this
/// where that harms nobody.
#[derive(Default)]
pub struct Programs(Vec<(String, Filter<JustLut<Val>>)>);

impl Programs {
    /// Compiles a program and runs it to its end, on whatever stack there is.
    ///
    /// # Errors
    /// What is wrong with the program, the error that it ends with, or that its results are too large.
    pub fn run(&mut self, program: &str, input: &[u8]) -> Answer {
        let recent = &mut self.0;
        match recent.iter().position(|(source, _)| source == program) {
            Some(place) => recent[..=place].rotate_right(1),
            None => {
                bounded(program)?;
                let filter = compiled(program)?;
                recent.truncate(RECENT - 1);
                recent.insert(0, (program.to_owned(), filter));
            }
        }
        results(&recent[0].1, input)
    }
}

/// Refuses what the parser should not see.
fn bounded(program: &str) -> Result<(), String> {
    if program.len() > MAX_PROGRAM_BYTES {
        return Err("the jq program is over 8 KiB".to_owned());
    }
    if nesting(program) > MAX_NESTING {
        return Err(format!(
            "the jq program nests brackets deeper than {MAX_NESTING}"
        ));
    }
    Ok(())
}

/// How deep the brackets of a program nest. Those in strings and comments do not count, `\(…)` in a string does.
fn nesting(program: &str) -> usize {
    // What each open bracket returns to when it closes: whether that is a string.
    let mut open: Vec<bool> = Vec::new();
    let (mut deepest, mut in_string, mut in_comment) = (0, false, false);
    let mut bytes = program.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            _ if in_comment => in_comment = byte != b'\n',
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                let interpolates = bytes.next() == Some(b'(');
                if interpolates {
                    open.push(true);
                    in_string = false;
                }
            }
            _ if in_string => {}
            b'#' => in_comment = true,
            b'(' | b'[' | b'{' => open.push(false),
            b')' | b']' | b'}' => in_string = open.pop().unwrap_or(false),
            _ => {}
        }
        deepest = deepest.max(open.len());
    }
    deepest
}

fn compiled(program: &str) -> Result<Filter<JustLut<Val>>, String> {
    let arena = Arena::default();
    let file = File {
        code: program,
        path: (),
    };
    let definitions = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    let modules = Loader::new(definitions)
        .load(&arena, file)
        .map_err(|errors| {
            let first = errors.first().map(|(_, error)| unreadable(error));
            format!("not a jq program: {}", first.unwrap_or_default())
        })?;
    let functions = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .map(without_the_world);
    Compiler::default()
        .with_funs(functions)
        .compile(modules)
        .map_err(|errors| {
            let unknown: Vec<String> = errors
                .iter()
                .flat_map(|(_, found)| found)
                .map(|(name, _)| format!("`{}`", shown(name)))
                .collect();
            format!("jq does not know {}", unknown.join(", "))
        })
}

/// What jaq expected, and where.
fn unreadable(error: &load::Error<&str>) -> String {
    let (expected, found) = match error {
        load::Error::Io(_) => return "it cannot load modules".to_owned(),
        load::Error::Lex(errors) => match errors.first() {
            Some((lex::Expect::Delim(open), found)) => (format!("an end of `{open}`"), *found),
            Some((expected, found)) => (expected.as_str().to_owned(), *found),
            None => return String::new(),
        },
        load::Error::Parse(errors) => match errors.first() {
            Some((expected, found)) => (expected.as_str().to_owned(), *found),
            None => return String::new(),
        },
    };
    if found.is_empty() {
        format!("expected {expected} at its end")
    } else {
        format!("expected {expected} at `{}`", shown(found))
    }
}

fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS - 1).chain(['…']).collect()
}

/// A rule's function sees nothing but its arguments.
fn without_the_world(function: Fun<JustLut<Val>>) -> Fun<JustLut<Val>> {
    let (name, arguments, native) = function;
    if REFUSED.contains(&name) {
        return run((name, arguments, |_| {
            let refused = jaq_core::Error::str("a rule cannot ask for this");
            Box::new(std::iter::once(Err(refused.into())))
        }));
    }
    (name, arguments, native)
}

fn results(filter: &Filter<JustLut<Val>>, input: &[u8]) -> Answer {
    let input = read::parse_single(input).map_err(|error| format!("not JSON: {error}"))?;
    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let (mut results, mut size) = (Vec::new(), 0);
    for output in filter.id.run((context, input)) {
        let output = unwrap_valr(output).map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        write::write(&mut text, &write::Pp::default(), 0, &output)
            .map_err(|error| error.to_string())?;
        size += text.len() + 1;
        if size > MAX_TEXT_BYTES {
            return Err("the results would be over 4 MiB".to_owned());
        }
        results.push(text);
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results_of(program: &str, input: &str) -> Result<Vec<String>, String> {
        let texts = Programs::default().run(program, input.as_bytes())?;
        Ok(texts
            .into_iter()
            .map(|text| String::from_utf8(text).unwrap())
            .collect())
    }

    #[test]
    fn results_are_json_texts_in_their_order() {
        assert_eq!(results_of(".", "[1,2.5]").unwrap(), ["[1,2.5]"]);
        assert_eq!(results_of(".[], length", "[1,2]").unwrap(), ["1", "2", "2"]);
        assert!(results_of("empty", "1").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_program_is_an_error() {
        for (program, said) in [
            ("{", "not a jq program: expected an end of `{`"),
            ("1 +", "not a jq program: expected term at its end"),
            ("if . then 1 oops", "not a jq program: expected"),
            ("nope", "jq does not know `nope`"),
            ("import \"a\" as a; 1", "not a jq program"),
            (".a", "cannot"),
            ("env", "a rule cannot ask for this"),
            ("$ENV", "jq does not know"),
            ("halt", "a rule cannot ask for this"),
            ("now", "a rule cannot ask for this"),
            ("input", "jq does not know `input`"),
            ("\"x\" | stderr", "a rule cannot ask for this"),
        ] {
            let error = results_of(program, "1").unwrap_err();
            assert!(error.contains(said), "{program}: {error}");
        }
    }

    #[test]
    fn results_without_end_are_cut_off_at_their_bound() {
        let error = results_of("repeat(\"xxxxxxxxxxxxxxxx\")", "1").unwrap_err();
        assert_eq!(error, "the results would be over 4 MiB");
    }

    #[test]
    fn brackets_count_where_they_are_brackets() {
        assert_eq!(nesting("[({.a})]"), 3);
        assert_eq!(nesting("\"((((\" | [1] # (((((\n | 1"), 1);
        assert_eq!(nesting(r#""\("\(1)")""#), 2);
        assert_eq!(nesting(r#""\"((" | [[]]"#), 2);
        assert_eq!(nesting(")))((("), 3);
    }

    #[test]
    fn a_program_that_is_too_long_or_too_deep_is_not_parsed() {
        let parens = |count: usize| format!("{}.{}", "(".repeat(count), ")".repeat(count));
        check(&parens(MAX_NESTING)).unwrap();
        for (program, said) in [
            (parens(MAX_NESTING + 1), "nests brackets deeper than 128"),
            (parens(100_000), "over 8 KiB"),
            ("-".repeat(100_000), "over 8 KiB"),
        ] {
            let error = check(&program).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_longest_chains_of_everything_do_not_harm_the_parser() {
        for (piece, end) in [
            ("-", "1"),
            (".|", "."),
            ("1,", "1"),
            ("1+", "1"),
            ("1//", "1"),
            (".a=", "1"),
            ("try ", "1"),
            (". as $x|", "."),
            ("label $x|", "."),
            ("def f:1;", "f"),
            ("def f:", "1"),
            ("if 1 then ", "1"),
            ("if 1 then 1 elif ", "1"),
            ("reduce ", "."),
            ("reduce . as $x(.;.)|", "."),
            (".a", ""),
            ("..", ""),
            (".?", ""),
            ("?", ""),
            (".[", ""),
            ("{a:", ""),
            ("[", ""),
            ("\"\\(", ""),
            ("def f(a):", ""),
            ("f(", ""),
            ("1 as [", ""),
            (". ?// ", ""),
        ] {
            let count = (MAX_PROGRAM_BYTES - end.len()) / piece.len();
            // Whether it is a program does not matter, only that there is an answer.
            drop(check(&(piece.repeat(count) + end)));
        }
    }
}
