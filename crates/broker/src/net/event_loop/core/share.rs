//! What part of a loop's time work gets that can wait, while others are served, and when.

use std::time::{Duration, Instant};

/// How long such work goes on before the sockets are looked at again: whoever has something to say then waits no longer
/// than this and the step that was begun.
const SLICE: Duration = Duration::from_micros(20);

/// How long it may go on in all until it rests.
const TURN: Duration = Duration::from_micros(100);

/// Then it rests so many times as long as it went on: who floods it does not get the processor for that.
const REST: u32 = 3;

/// How long nothing that can wait is begun after others were served. Whoever was written to may be a process on this
/// machine, and was woken on this very processor: it goes on as soon as the loop sleeps.
const PAUSE: Duration = Duration::from_micros(60);

/// Where less time than this lies between those whom others keep busy, there are no pauses: what can wait would hardly be
/// done.
const APART_AT_LEAST: Duration = PAUSE.saturating_mul(4);

/// Longer times count as much.
const FAR_APART: Duration = PAUSE.saturating_mul(16);

/// When others were served a moment ago, and what can wait is not begun.
#[derive(Debug)]
pub(super) struct Pauses {
    until: Instant,
    /// When others were served last.
    served_at: Instant,
    /// How much time there was lately between them.
    apart: Duration,
    /// Something was held back since what can wait was last done: there is no other pause before it is.
    holds_back: bool,
}

impl Pauses {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            until: now,
            served_at: now,
            apart: FAR_APART,
            holds_back: false,
        }
    }

    /// Others were served from `begun` until now.
    pub(super) fn begin(&mut self, begun: Instant, now: Instant) {
        let apart = begun.saturating_duration_since(self.served_at);
        self.apart = (self.apart * 7 + apart.min(FAR_APART)) / 8;
        self.served_at = now;
        if self.apart >= APART_AT_LEAST && !self.holds_back {
            self.until = now + PAUSE;
        }
    }

    /// How much of the present one is left.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }

    /// Something is not done because of the present one.
    pub(super) fn hold_back(&mut self) {
        self.holds_back = true;
    }

    /// Something that can wait is done.
    pub(super) fn end(&mut self) {
        self.holds_back = false;
    }
}

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
    fn there_is_a_pause_after_others_were_served() {
        let now = Instant::now();
        let mut pauses = Pauses::new(now);
        assert_eq!(pauses.left(now), Duration::ZERO);
        for message in 0..1000 {
            let now = now + message * Duration::from_millis(1);
            pauses.begin(now, now);
            assert_eq!(pauses.left(now), PAUSE, "{message}");
            pauses.hold_back();
            assert_eq!(pauses.left(now + PAUSE), Duration::ZERO);
            pauses.end();
        }
    }

    #[test]
    fn where_others_are_served_all_the_time_there_are_no_pauses_until_they_are_not_any_more() {
        let mut now = Instant::now();
        let mut pauses = Pauses::new(now);
        // However long each of them takes.
        for _ in 0..100 {
            let begun = now + PAUSE;
            now = begun + Duration::from_millis(1);
            pauses.begin(begun, now);
        }
        assert_eq!(pauses.left(now), Duration::ZERO);
        for _ in 0..100 {
            now += APART_AT_LEAST * 2;
            pauses.begin(now, now);
        }
        assert_eq!(pauses.left(now), PAUSE);
        // Some who come together do not end them, many do.
        for (many, left) in [(4, PAUSE), (40, Duration::ZERO)] {
            for _ in 0..many {
                now += PAUSE / 4;
                pauses.begin(now, now);
            }
            assert_eq!(pauses.left(now), left);
        }
    }

    #[test]
    fn what_was_held_back_once_is_done_before_the_next_pause() {
        let begun = Instant::now();
        let mut pauses = Pauses::new(begun);
        let (mut now, mut done) = (begun, 0);
        for _ in 0..100 {
            // Others are served for a while, now and then, and each time there is something else to do too.
            let turn = now + FAR_APART;
            now = turn + 10 * PAUSE;
            pauses.begin(turn, now);
            if pauses.left(now) > Duration::ZERO {
                pauses.hold_back();
            } else {
                pauses.end();
                done += 1;
            }
        }
        assert_eq!(done, 50);
    }

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
