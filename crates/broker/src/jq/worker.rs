//! The process `weir jq-worker`: runs jq programs for the weir that has started it, and bounds itself first.
//!
//! Requests come on its standard input, answers go to its standard output, in frames:
//!
//! - request: milliseconds, length of the program, length of the input (`u32`, little-endian), program, input
//! - answer: [`STARTED`] when the program begins; then 0 and all results, or 1 and the error; the length of what follows
//!   (`u32`). A result is its length and its JSON text.
//!
//! When the standard input ends, so does the process, whatever it is doing.

use std::io::{Read, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use weir_rules::functions::jq::{Answer, Ask, Programs};

/// The command, which `weir --help` does not list.
pub(crate) const COMMAND: &str = "jq-worker";
/// What the process says when it is ready. It changes with the frames.
pub(crate) const GREETING: &[u8; 10] = b"weir-jq/1\n";
/// What the process says when it begins with a program: whoever hears less has lost an idle process, not a program.
pub(crate) const STARTED: u8 = 2;
/// How much memory a program may take, beside what weir itself has at its start and beside the stack.
pub(crate) const MAX_MEMORY_MIB: u64 = 256;
/// jaq calls itself for each level of a program that is not a tail call.
const STACK_BYTES: usize = 160 * 1024 * 1024;
/// How much longer than a program may run the process may compute. The other side ends it long before; this is for one
/// that was stopped itself.
const CPU_GRACE: Duration = Duration::from_secs(2);
/// The longest answer: results of 4 MiB, and the length of each, which is at least one byte long.
pub(crate) const MAX_ANSWER_BYTES: usize = 5 * 4 * 1024 * 1024;
/// The longest part of a request: the other side keeps to less.
const MAX_PART_BYTES: usize = 16 * 1024 * 1024;

struct Request {
    limit_ms: u32,
    program: String,
    input: Vec<u8>,
}

/// Serves until the standard input ends.
pub(crate) fn serve() -> ExitCode {
    match bound() {
        Ok(()) => {}
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "weir jq-worker: cannot bound itself: {error}"
            );
            return ExitCode::FAILURE;
        }
    }
    let (requests, to_run) = mpsc::sync_channel::<Request>(1);
    let thread = std::thread::Builder::new()
        .name("weir-jq".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _ends_the_process = EndsTheProcess;
            let mut programs = Programs::default();
            while let Ok(request) = to_run.recv() {
                allow_cpu(Duration::from_millis(request.limit_ms.into()));
                if say(&[STARTED]).is_err() {
                    return;
                }
                let answer = programs.run(&request.program, &request.input);
                if say(&framed(&answer)).is_err() {
                    return;
                }
            }
        });
    if thread.is_err() || say(GREETING).is_err() {
        return ExitCode::FAILURE;
    }
    let mut stdin = std::io::stdin().lock();
    while let Ok(request) = read(&mut stdin) {
        if requests.send(request).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A thread that panics, or cannot answer any more, takes the process along: the other side is waiting.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        std::process::exit(1);
    }
}

/// Takes from this process what a jq program does not need.
fn bound() -> std::io::Result<()> {
    // The first to go when the machine has no memory left. Not everywhere, and not needed.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|size| size.parse().ok())
        .ok_or(std::io::ErrorKind::InvalidData)?;
    let own = pages * rustix::param::page_size() as u64;
    let memory = own + STACK_BYTES as u64 + MAX_MEMORY_MIB * 1024 * 1024;
    let at_most = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::As, at_most(memory))?;
    setrlimit(Resource::Core, at_most(0))?;
    setrlimit(Resource::Fsize, at_most(0))?;
    // Those that it has, and one to spare.
    setrlimit(Resource::Nofile, at_most(8))?;
    // No core dump by a handler either, and no debugger.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Lets the process compute for so much longer.
fn allow_cpu(limit: Duration) {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let more = (limit + CPU_GRACE).as_secs() + 1;
    let current = Some(used.unsigned_abs() + more);
    let maximum = None;
    // Without it the other side still looks at the clock.
    let _ = setrlimit(Resource::Cpu, Rlimit { current, maximum });
}

fn say(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// The frame of a request.
pub(super) fn request(ask: Ask<'_>) -> Vec<u8> {
    let limit_ms = u32::try_from(ask.limit_ms).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(12 + ask.program.len() + ask.input.len());
    frame.extend(limit_ms.to_le_bytes());
    frame.extend(length(ask.program.as_bytes()));
    frame.extend(length(ask.input));
    frame.extend(ask.program.as_bytes());
    frame.extend(ask.input);
    frame
}

fn read(from: &mut impl Read) -> std::io::Result<Request> {
    let mut number = || {
        let mut bytes = [0; 4];
        from.read_exact(&mut bytes)?;
        Ok::<u32, std::io::Error>(u32::from_le_bytes(bytes))
    };
    let (limit_ms, program, input) = (number()?, number()?, number()?);
    let mut part = |length: u32| {
        let length = length as usize;
        if length > MAX_PART_BYTES {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        Ok::<Vec<u8>, std::io::Error>(bytes)
    };
    let program = String::from_utf8(part(program)?).map_err(std::io::Error::other)?;
    let input = part(input)?;
    Ok(Request {
        limit_ms,
        program,
        input,
    })
}

/// The frame of an answer.
fn framed(answer: &Answer) -> Vec<u8> {
    let (kind, body) = match answer {
        Ok(results) => {
            let mut body = Vec::new();
            for result in results {
                body.extend(length(result));
                body.extend(result);
            }
            (0, body)
        }
        Err(error) => (1, error.as_bytes().to_vec()),
    };
    let mut frame = vec![kind];
    frame.extend(length(&body));
    frame.extend(body);
    frame
}

/// What the body of an answer's frame says; nothing when it is none.
pub(super) fn answer(kind: u8, body: Vec<u8>) -> Option<Answer> {
    if kind == 1 {
        return Some(Err(String::from_utf8_lossy(&body).into_owned()));
    }
    let (mut results, mut rest) = (Vec::new(), &body[..]);
    while let Some((head, more)) = rest.split_first_chunk() {
        let (result, more) = more.split_at_checked(u32::from_le_bytes(*head) as usize)?;
        results.push(result.to_vec());
        rest = more;
    }
    (kind == 0 && rest.is_empty()).then_some(Ok(results))
}

/// All that is sent is far below 4 GiB.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}
