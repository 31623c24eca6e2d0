//! The function `jq` for a running broker: each program runs in a process of its own kind, `weir jq-worker`.
//!
//! A program may loop for ever, take all memory or overflow the stack; then its process ends or is ended, the rule
//! counts an exception, and the next program gets a new process. There are few of them, and each serves many programs,
//! one after the other. Whoever publishes waits for the answer, at most as long as the program may run.

pub(crate) mod worker;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use weir_rules::functions::jq::{Answer, Ask, Runner};

use worker::{GREETING, MAX_ANSWER_BYTES, MAX_MEMORY_MIB, STARTED};

/// How many programs run at a time; more wait for their turn.
const MOST_PROCESSES: usize = 4;
/// A process that takes longer than this to start is none.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How much is read of what a process said at its end.
const LAST_WORDS_BYTES: u64 = 4096;

/// The program of this process, where it is `weir` itself.
static OWN_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says that this process can be started again as `weir jq-worker`.
pub(crate) fn this_process_is_weir() {
    // The file may have been replaced since: what runs is what `/proc` names.
    let own = PathBuf::from("/proc/self/exe");
    let own = match own.exists() {
        true => Some(own),
        false => std::env::current_exe().ok(),
    };
    if let Some(own) = own {
        // Set once; again it would be the same.
        drop(OWN_PROGRAM.set(own));
    }
}

/// The processes that run jq programs for one broker. All of them end with it.
#[derive(Clone, Default)]
pub struct Processes(Arc<Pool>);

#[derive(Default)]
struct Pool {
    /// What to start, where it was named.
    program: OnceLock<PathBuf>,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// Have answered, and wait for the next program. Never more than [`MOST_PROCESSES`] less `busy`.
    idle: Vec<Process>,
    /// Places that are taken: by a process that runs or is being started.
    busy: usize,
}

impl Processes {
    /// Names the program that is started with the argument `jq-worker`: a `weir` that has the function. The first name
    /// counts.
    pub fn set_program(&self, program: PathBuf) {
        drop(self.0.program.set(program));
    }

    /// The identifiers of the processes that wait for a program.
    pub fn idle(&self) -> Vec<u32> {
        let state = self.0.state.lock();
        state.idle.iter().map(|idle| idle.child.id()).collect()
    }

    /// How many programs run now.
    pub fn busy(&self) -> usize {
        self.0.state.lock().busy
    }
}

impl Runner for Processes {
    fn run(&self, ask: Ask<'_>) -> Answer {
        let program = self.0.program.get().or_else(|| OWN_PROGRAM.get());
        let program = program.ok_or(
            "nothing runs jq programs here: the program that embeds weir must name one \
             (`BrokerBuilder::jq_program`)",
        )?;
        let limit = Duration::from_millis(ask.limit_ms);
        let Some(mut place) = self.0.place(Instant::now() + limit) else {
            return Err(format!(
                "{MOST_PROCESSES} other jq programs have run for {} ms, and no more may run at a time",
                ask.limit_ms
            ));
        };
        let mut until = Instant::now() + limit;
        let waiting = place.process.take().map(|idle| idle.begin(ask, until));
        let mut process = match waiting {
            Some(Ok(process)) => process,
            Some(Err((process, Ended::Late))) => {
                return Err(process.why(&Ended::Late, ask.limit_ms));
            }
            // None has waited, or it was killed meanwhile: the time of the program begins with the new one.
            None | Some(Err((_, Ended::Gone))) => {
                let process = Process::start(program)
                    .map_err(|error| format!("`{} jq-worker` {error}", program.display()))?;
                until = Instant::now() + limit;
                match process.begin(ask, until) {
                    Ok(process) => process,
                    Err((process, ended)) => return Err(process.why(&ended, ask.limit_ms)),
                }
            }
        };
        match process.answer(until) {
            Ok(answer) => {
                place.process = Some(process);
                answer
            }
            Err(ended) => Err(process.why(&ended, ask.limit_ms)),
        }
    }
}

impl Pool {
    /// Takes one of the places, if one becomes free in time.
    fn place(&self, until: Instant) -> Option<Place<'_>> {
        let mut state = self.state.lock();
        while state.busy >= MOST_PROCESSES {
            if self.freed.wait_until(&mut state, until).timed_out() && state.busy >= MOST_PROCESSES
            {
                return None;
            }
        }
        state.busy += 1;
        Some(Place {
            pool: self,
            process: state.idle.pop(),
        })
    }
}

/// A taken place. It is given back when dropped, whatever happened: with its process, or without one when that has
/// ended.
struct Place<'a> {
    pool: &'a Pool,
    process: Option<Process>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.busy -= 1;
        state.idle.extend(self.process.take());
        drop(state);
        self.pool.freed.notify_one();
    }
}

/// One `weir jq-worker`. It is killed when dropped; should this process be killed, it ends by itself.
struct Process {
    child: Child,
    /// Its standard input and output.
    socket: UnixStream,
    stderr: ChildStderr,
}

/// Why there is no answer.
enum Ended {
    /// It took too long.
    Late,
    /// The process is gone, or has said what it never says.
    Gone,
}

impl Process {
    fn start(program: &Path) -> Result<Self, String> {
        let (socket, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let stdin = theirs.try_clone().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .arg0("weir")
            .arg(worker::COMMAND)
            // No secrets, and no settings but one: memory that the allocator reserves ahead would escape the limit.
            .env_clear()
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            // Ctrl-C on a terminal is for the broker alone, which may still need answers.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(stdin)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot be started: {error}"))?;
        let Some(stderr) = child.stderr.take() else {
            return Err("has no standard error".to_owned());
        };
        let mut process = Self {
            child,
            socket,
            stderr,
        };
        let mut greeting = [0; GREETING.len()];
        let greeted = process.read(&mut greeting, Instant::now() + START_LIMIT);
        match greeted {
            Ok(()) if greeting == *GREETING => Ok(process),
            Err(Ended::Late) => Err("has not started in time".to_owned()),
            _ => Err(
                "is no weir of this version with the feature `jq`; see `BrokerBuilder::jq_program`"
                    .to_owned(),
            ),
        }
    }

    /// Hands a program over; the process comes back when it has begun with it.
    fn begin(mut self, ask: Ask<'_>, until: Instant) -> Result<Self, (Self, Ended)> {
        let mut said = [0];
        let begun = self
            .write(&worker::request(ask), until)
            .and_then(|()| self.read(&mut said, until));
        match begun {
            Ok(()) if said == [STARTED] => Ok(self),
            Ok(()) => Err((self, Ended::Gone)),
            Err(ended) => Err((self, ended)),
        }
    }

    fn answer(&mut self, until: Instant) -> Result<Answer, Ended> {
        let mut head = [0; 5];
        self.read(&mut head, until)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_ANSWER_BYTES {
            return Err(Ended::Gone);
        }
        let mut body = vec![0; length];
        self.read(&mut body, until)?;
        worker::answer(kind, body).ok_or(Ended::Gone)
    }

    fn read(&mut self, mut into: &mut [u8], until: Instant) -> Result<(), Ended> {
        while !into.is_empty() {
            self.socket
                .set_read_timeout(Some(left(until)?))
                .map_err(|_| Ended::Gone)?;
            let count = went(self.socket.read(into))?;
            into = &mut into[count..];
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], until: Instant) -> Result<(), Ended> {
        while !bytes.is_empty() {
            self.socket
                .set_write_timeout(Some(left(until)?))
                .map_err(|_| Ended::Gone)?;
            let count = went(self.socket.write(bytes))?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// What to tell the rule's author. The process is over with this.
    fn why(mut self, ended: &Ended, limit_ms: u64) -> String {
        let late = format!("the jq program ran longer than {limit_ms} ms");
        // Where it has ended itself, this changes nothing.
        let _ = self.child.kill();
        let status = self.child.wait();
        if matches!(ended, Ended::Late) {
            return late;
        }
        let mut said = Vec::new();
        let _ = (&mut self.stderr)
            .take(LAST_WORDS_BYTES)
            .read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        // The standard library says so before it aborts; nothing else tells the two apart.
        if said.contains("has overflowed its stack") {
            return "the jq program recursed too deeply".to_owned();
        }
        if said.contains("memory allocation of") {
            return format!("the jq program took more than {MAX_MEMORY_MIB} MiB of memory");
        }
        let Ok(status) = status else {
            return "the process of the jq program has ended".to_owned();
        };
        match status.signal() {
            Some(signal) if signal == rustix::process::Signal::XCPU.as_raw() => late,
            Some(signal) => format!("the process of the jq program was killed (signal {signal})"),
            None => format!("the process of the jq program has ended ({status})"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time until then; late when there is none.
fn left(until: Instant) -> Result<Duration, Ended> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Ended::Late);
    }
    // A timeout below a microsecond would be none.
    Ok(left.max(Duration::from_millis(1)))
}

/// How many bytes went over the socket: none when its timeout is over, and the caller looks at the clock.
fn went(result: std::io::Result<usize>) -> Result<usize, Ended> {
    match result {
        Ok(0) => Err(Ended::Gone),
        Ok(count) => Ok(count),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(0),
            _ => Err(Ended::Gone),
        },
    }
}
