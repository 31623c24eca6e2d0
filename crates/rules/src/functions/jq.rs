//! The function `jq`, by jaq: only in builds with the feature `jq`.
//!
//! A jq program may run without end, and nothing can stop it from outside. So each thread that evaluates rules has a
//! thread of its own for jq, which is left behind when its time is over; few may be left behind at a time.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::native::{Fun, run};
use jaq_core::{Compiler, Ctx, Filter, Vars, unwrap_valr};
use jaq_json::{Val, read, write};

use super::call::{self, Call};
use super::{Category, Function, MAX_TEXT_BYTES, Param};
use crate::error::{ErrorKind, Fault};
use crate::json;
use crate::value::Value;

/// How long a program may run, in milliseconds, unless the call says less.
const LONGEST_MS: i64 = 10_000;
/// How many programs that never end may be left behind.
const MOST_LEFT_BEHIND: usize = 8;
/// How many programs a thread keeps compiled.
const RECENT: usize = 16;
/// Filters of jq that would look at or end the process.
const REFUSED: [&str; 4] = ["env", "now", "halt", "input_filename"];

pub(super) const FUNCTIONS: &[Function] = &[Function::new(
    Category::Encoding,
    "jq",
    &[
        &[Param::text("program"), Param::any("x")],
        &[Param::text("program"), Param::any("x"), Param::int("ms")],
    ],
    "All results of a jq program for a value or its JSON text, as an array; it may run for so many milliseconds (10000).",
    &[
        ("jq('.a[] | . + 1', {'a': [1, 2]})", "[2, 3]"),
        ("jq('{t: .temp}', '{\"temp\":1.5}')", "[{'t': 1.5}]"),
        ("jq('empty', 1)", "[]"),
    ],
    jq,
)
.reads()];

struct Ask {
    program: String,
    input: Vec<u8>,
}

type Answer = Result<Vec<Vec<u8>>, String>;

struct Worker {
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

fn fault(message: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(ErrorKind::Jq, message)
}

fn jq(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut input = Vec::new();
    match call.value(1) {
        // Decoded by the language's own rules first: depth, strictness.
        Value::Text(text) => {
            json::decode(text.as_bytes())?;
            input.extend_from_slice(text.as_bytes());
        }
        value => json::encode(value, &mut input)?,
    }
    let ms = if call.count() > 2 {
        call.int(2)?
    } else {
        LONGEST_MS
    };
    if !(1..=LONGEST_MS).contains(&ms) {
        return Err(call.bad(2, "must be from 1 to 10000 milliseconds"));
    }
    let ask = Ask {
        program: call.text(0)?.to_owned(),
        input,
    };
    let results = answer(ask, Duration::from_millis(ms.unsigned_abs()))?;
    let values = results.iter().map(|text| json::decode(text));
    call::array(values.collect::<Result<_, Fault>>()?)
}

fn answer(ask: Ask, limit: Duration) -> Result<Vec<Vec<u8>>, Fault> {
    thread_local! {
        static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
    }
    WORKER.with_borrow_mut(|worker| {
        if worker.is_none() {
            if LEFT_BEHIND.load(Ordering::Relaxed) >= MOST_LEFT_BEHIND {
                return Err(fault("too many jq programs have not ended"));
            }
            *worker = Some(start()?);
        }
        let Some(running) = worker else {
            return Err(fault("jq does not run"));
        };
        let answer = match running.asks.send(ask) {
            Ok(()) => running.answers.recv_timeout(limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(answer) => answer.map_err(fault),
            Err(RecvTimeoutError::Timeout) => {
                LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
                *worker = None;
                Err(fault("the jq program has not ended in time"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                *worker = None;
                Err(fault("the jq program has ended its thread"))
            }
        }
    })
}

fn start() -> Result<Worker, Fault> {
    let (asks, to_run) = channel();
    let (done, answers) = channel();
    std::thread::Builder::new()
        .name("weir-jq".to_owned())
        // jaq calls itself for each level of a program.
        .stack_size(16 * 1024 * 1024)
        .spawn(move || work(&to_run, &done))
        .map_err(|error| fault(format!("no thread for jq: {error}")))?;
    Ok(Worker { asks, answers })
}

fn work(asks: &Receiver<Ask>, answers: &Sender<Answer>) {
    let mut recent: Vec<(String, Filter<JustLut<Val>>)> = Vec::new();
    while let Ok(Ask { program, input }) = asks.recv() {
        let place = recent.iter().position(|(source, _)| *source == program);
        let answer = match place {
            Some(place) => {
                recent[..=place].rotate_right(1);
                results(&recent[0].1, &input)
            }
            None => compiled(&program).and_then(|filter| {
                recent.truncate(RECENT - 1);
                recent.insert(0, (program, filter));
                results(&recent[0].1, &input)
            }),
        };
        if answers.send(answer).is_err() {
            // Nobody has waited for so long.
            LEFT_BEHIND.fetch_sub(1, Ordering::Relaxed);
            return;
        }
    }
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
        .map_err(|errors| format!("not a jq program: {errors:?}"))?;
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
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            format!("jq does not know {}", unknown.join(", "))
        })
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

    fn asked(program: &str, input: &str, ms: u64) -> Result<Vec<String>, Fault> {
        let ask = Ask {
            program: program.to_owned(),
            input: input.as_bytes().to_vec(),
        };
        let texts = answer(ask, Duration::from_millis(ms))?;
        Ok(texts
            .into_iter()
            .map(|text| String::from_utf8(text).unwrap())
            .collect())
    }

    #[test]
    fn a_program_that_never_ends_is_left_behind_and_the_next_one_runs() {
        let error = asked("def f: f; f", "1", 50).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Jq);
        assert_eq!(asked(".", "[1,2.5]", 5000).unwrap(), ["[1,2.5]"]);
    }

    #[test]
    fn what_is_wrong_with_a_program_is_an_error() {
        for (program, input) in [
            ("{", "1"),
            ("nope", "1"),
            (".a", "1"),
            ("env", "1"),
            ("halt", "1"),
        ] {
            let error = asked(program, input, 5000).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Jq, "{program}");
        }
        assert!(asked("repeat(\"xxxxxxxxxxxxxxxx\")", "1", 20_000).is_err());
    }
}
