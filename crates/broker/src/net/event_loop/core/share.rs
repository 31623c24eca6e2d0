//! What part of a loop's time work gets that can wait, while others are served.

use std::time::Duration;

/// How long such work goes on before the sockets are looked at again: whoever has something to say then waits no longer
/// than this and the step that was begun.
const SLICE: Duration = Duration::from_micros(20);

/// How long it may go on in all until it rests.
const TURN: Duration = Duration::from_micros(100);

/// Then it rests so many times as long as it went on: who floods it does not get the processor for that.
const REST: u32 = 3;

/// Slices make a turn, and after each turn comes a rest.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// What the present turn has taken so far.
    taken: Duration,
}

impl Share {
    /// How long such work may go on now.
    pub(super) fn slice(&self) -> Duration {
        SLICE.min(TURN.saturating_sub(self.taken))
    }

    /// It went on for `took`, and there is more of it or not: how long it is to rest.
    pub(super) fn rest_after(&mut self, took: Duration, is_more: bool) -> Duration {
        self.taken += took;
        if is_more && self.taken < TURN {
            return Duration::ZERO;
        }
        std::mem::take(&mut self.taken) * REST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_are_looked_at_between_the_slices_of_a_turn() {
        let mut share = Share::default();
        let mut slices = 0;
        while share.rest_after(share.slice(), true) == Duration::ZERO {
            slices += 1;
            assert!(share.slice() <= SLICE);
        }
        assert_eq!(slices + 1, TURN.as_micros() / SLICE.as_micros());
    }

    #[test]
    fn whoever_floods_gets_a_fourth_of_the_time_whatever_a_step_takes() {
        for step in [1, 19, 30, 99, 5000].map(Duration::from_micros) {
            let mut share = Share::default();
            let (mut worked, mut rested) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..10_000 {
                worked += step;
                rested += share.rest_after(step, true);
            }
            assert!(worked * REST <= rested + TURN * REST, "{step:?}");
            assert!(rested <= worked * REST, "it is served, {step:?}");
        }
    }

    #[test]
    fn a_turn_that_ends_early_rests_for_what_it_took() {
        let mut share = Share::default();
        let took = Duration::from_micros(7);
        assert_eq!(share.rest_after(took, true), Duration::ZERO);
        assert_eq!(share.rest_after(took, false), 2 * took * REST);
        assert_eq!(share.slice(), SLICE);
    }
}
