//! The threads of a broker's loops: one for each, and more while connections keep some of them to themselves.
//!
//! A thread whose loop was given to another takes the next one that needs a thread. How many there are is bounded: a
//! connection that would need one more keeps its loop waiting.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use super::core::{Core, run};

/// Threads that connections may keep from their loops at the same time. What takes its time is work for the
/// processor, so that more of them would be done later and not sooner.
pub(super) const MAX_KEPT: usize = 64;

/// A thread without a loop ends after this long.
const REST: Duration = Duration::from_secs(10);

/// The threads.
pub(super) struct Crew {
    state: Mutex<State>,
    /// There is a loop to run, or none is left.
    called: Condvar,
    /// The last thread has nothing to do any more and goes.
    dismissed: Condvar,
    runtime: Handle,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crew")
    }
}

#[derive(Default)]
struct State {
    /// Loops that need a thread, each with a thread on its way.
    waiting: VecDeque<Box<Core>>,
    /// Threads that have no loop and wait for one.
    resting: usize,
    threads: usize,
    /// Threads so far: their names are numbers.
    begun: usize,
    /// Loops that have not ended.
    loops: usize,
}

/// No thread could be had for a loop.
pub(super) struct NoThread {
    pub(super) core: Box<Core>,
    pub(super) error: io::Error,
}

impl Crew {
    /// Nobody yet.
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            state: Mutex::default(),
            called: Condvar::new(),
            dismissed: Condvar::new(),
            runtime,
        }
    }

    /// Has a new loop run.
    pub(super) fn begin(self: &Arc<Self>, core: Box<Core>) -> Result<(), NoThread> {
        self.state.lock().loops += 1;
        self.go_on(core).inspect_err(|_| self.ended())
    }

    /// Has a loop run that has lost its thread.
    pub(super) fn go_on(self: &Arc<Self>, core: Box<Core>) -> Result<(), NoThread> {
        let mut state = self.state.lock();
        if state.resting > state.waiting.len() {
            state.waiting.push_back(core);
            self.called.notify_one();
            return Ok(());
        }
        if state.threads >= state.loops + MAX_KEPT {
            let error = io::Error::other("connections keep too many threads to themselves");
            return Err(NoThread { core, error });
        }
        let crew = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name(format!("weir-io-{}", state.begun))
            // It takes what waits when this lock is free.
            .spawn(move || crew.work());
        match spawned {
            Ok(_) => {
                state.threads += 1;
                state.begun += 1;
                state.waiting.push_back(core);
                Ok(())
            }
            Err(error) => Err(NoThread { core, error }),
        }
    }

    /// A loop has ended.
    pub(super) fn ended(&self) {
        let mut state = self.state.lock();
        state.loops -= 1;
        if state.loops == 0 {
            self.called.notify_all();
        }
    }

    /// What a thread does.
    fn work(&self) {
        let _context = self.runtime.enter();
        // A pause of some microseconds would be twice as long with the slack of 50 that is usual.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
        while let Some(core) = self.next() {
            run(core);
        }
    }

    /// Waits until no thread is left. False when some are after `limit`.
    pub(super) fn has_left_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.threads > 0 {
            if self.dismissed.wait_until(&mut state, until).timed_out() {
                return state.threads == 0;
            }
        }
        true
    }

    /// Waits for a loop that needs a thread; `None` when the thread is to end.
    fn next(&self) -> Option<Box<Core>> {
        let mut state = self.state.lock();
        let mut rested = false;
        loop {
            if let Some(core) = state.waiting.pop_front() {
                return Some(core);
            }
            if rested || state.loops == 0 {
                state.threads -= 1;
                if state.threads == 0 {
                    self.dismissed.notify_all();
                }
                return None;
            }
            state.resting += 1;
            rested = self.called.wait_for(&mut state, REST).timed_out();
            state.resting -= 1;
        }
    }
}

#[cfg(test)]
impl Crew {
    /// How many threads there are.
    pub(super) fn threads(&self) -> usize {
        self.state.lock().threads
    }
}
