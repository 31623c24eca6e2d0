//! How far a run has come: a bar on a terminal, a line each ten seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: usize = 24;
/// Nothing is shown of what takes less.
const FIRST_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Progress {
    quiet: bool,
    terminal: bool,
    start: Instant,
    shown: Instant,
    /// Whether there is a bar to be wiped.
    drawn: bool,
    phase: &'static str,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            start: now,
            shown: now,
            drawn: false,
            phase: "",
        }
    }

    /// What is done from now on.
    pub(super) fn phase(&mut self, phase: &'static str) {
        self.phase = phase;
    }

    /// `done` of `all`.
    pub(super) fn show(&mut self, done: usize, all: usize, noun: &str) {
        if self.is_due() {
            self.draw(share(done, all), &format!("{done} of {all} {noun}"));
        }
    }

    /// So much of the time is over.
    pub(super) fn show_time(&mut self, done: Duration, all: Duration, noun: &str) {
        if self.is_due() {
            let text = format!(
                "{:.0} of {:.0} s {noun}",
                done.as_secs_f64(),
                all.as_secs_f64()
            );
            let in_ms = |time: Duration| usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
            self.draw(share(in_ms(done), in_ms(all)), text.trim_end());
        }
    }

    fn is_due(&mut self) -> bool {
        if self.quiet {
            return false;
        }
        let every = if self.terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(10)
        };
        let now = Instant::now();
        if now - self.shown < every || now - self.start < FIRST_AFTER {
            return false;
        }
        self.shown = now;
        true
    }

    fn draw(&mut self, filled: usize, text: &str) {
        let mut stderr = std::io::stderr().lock();
        // Nothing can be done when stderr is closed.
        let _ = if self.terminal {
            let bar = format!("{}{}", "#".repeat(filled), "-".repeat(WIDTH - filled));
            write!(stderr, "\r\x1b[K{:<12} [{bar}] {text}", self.phase)
        } else {
            writeln!(stderr, "{:<12} {text}", self.phase)
        };
        let _ = stderr.flush();
        self.drawn |= self.terminal;
    }
}

impl Drop for Progress {
    /// Leaves no bar behind.
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// The part of the bar that is filled.
fn share(done: usize, all: usize) -> usize {
    (done.saturating_mul(WIDTH) / all.max(1)).min(WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_fuller_than_full() {
        assert_eq!(share(0, 10), 0);
        assert_eq!(share(5, 10), WIDTH / 2);
        assert_eq!(share(11, 10), WIDTH);
        assert_eq!(share(0, 0), 0);
    }
}
