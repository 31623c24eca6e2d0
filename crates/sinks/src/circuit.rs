//! When to leave a far side alone: a circuit as a pure value. Never here: a clock or a sleep.

/// So many attempts in a row fail before a circuit opens.
const OPENS_AFTER: u32 = 5;

/// What becomes of attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CircuitState {
    /// They are made.
    #[default]
    Closed,
    /// One is being made, to see whether the far side is back.
    HalfOpen,
    /// None is made until the longest wait is nearly over.
    Open,
}

impl CircuitState {
    /// The state's name in tools.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Its number in metrics: the worse, the greater.
    pub const fn number(self) -> u64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// Opens after failures in a row, and is closed by the first attempt that gets something done.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    failures: u32,
    state: CircuitState,
}

impl Circuit {
    /// How it is.
    pub fn state(&self) -> CircuitState {
        self.state
    }

    /// An attempt begins.
    pub fn begins(&mut self) {
        if self.state == CircuitState::Open {
            self.state = CircuitState::HalfOpen;
        }
    }

    /// An attempt got something done: rows were delivered, or refused for good. The far side is there.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// An attempt got nothing done.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= OPENS_AFTER {
            self.state = CircuitState::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CircuitState::{Closed, HalfOpen, Open};

    fn attempt(circuit: &mut Circuit, works: bool) -> [CircuitState; 2] {
        circuit.begins();
        let during = circuit.state();
        if works {
            circuit.worked();
        } else {
            circuit.failed();
        }
        [during, circuit.state()]
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_probe_decides() {
        let mut circuit = Circuit::default();
        for _ in 1..OPENS_AFTER {
            assert_eq!(attempt(&mut circuit, false), [Closed, Closed]);
        }
        assert_eq!(attempt(&mut circuit, false), [Closed, Open]);
        assert_eq!(attempt(&mut circuit, false), [HalfOpen, Open]);
        assert_eq!(attempt(&mut circuit, true), [HalfOpen, Closed]);
        assert_eq!(
            attempt(&mut circuit, false),
            [Closed, Closed],
            "it counts anew"
        );
    }

    #[test]
    fn failures_with_progress_between_them_do_not_open_it() {
        let mut circuit = Circuit::default();
        for _ in 0..10 {
            for _ in 1..OPENS_AFTER {
                attempt(&mut circuit, false);
            }
            assert_eq!(attempt(&mut circuit, true), [Closed, Closed]);
        }
    }
}
