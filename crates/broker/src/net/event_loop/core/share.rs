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
const PAUSE: Duration = Duration::from_micros(50);

/// What may be done is put off by pauses no longer than this: then it is done although others are served all the time.
const PUT_OFF_AT_MOST: Duration = Duration::from_micros(300);

/// Since when work that may be done waits only because others were served a moment ago.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    since: Option<Instant>,
}

impl PutOff {
    /// Others were served last at `served_at`: how much longer the work is put off.
    pub(super) fn rest(&mut self, now: Instant, served_at: Instant) -> Duration {
        let since = *self.since.get_or_insert(now);
        let begins = (served_at + PAUSE).min(since + PUT_OFF_AT_MOST);
        begins.saturating_duration_since(now)
    }

    /// It is begun: how long it was put off.
    pub(super) fn end(&mut self, now: Instant) -> Duration {
        let since = self.since.take();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
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
    fn work_is_put_off_while_others_are_served_and_for_a_moment_after() {
        let served_at = Instant::now();
        let mut put_off = PutOff::default();
        assert_eq!(put_off.rest(served_at, served_at), PAUSE);
        assert_eq!(put_off.rest(served_at + PAUSE, served_at), Duration::ZERO);
        assert_eq!(put_off.end(served_at + PAUSE), PAUSE);
    }

    #[test]
    fn work_is_not_put_off_for_ever_where_others_are_served_all_the_time() {
        let begun = Instant::now();
        let mut put_off = PutOff::default();
        let mut now = begun;
        while put_off.rest(now, now) > Duration::ZERO {
            now += Duration::from_micros(7);
        }
        assert!(now - begun >= PUT_OFF_AT_MOST && now - begun < PUT_OFF_AT_MOST + PAUSE);
        put_off.end(now);
        assert_eq!(put_off.rest(now, now), PAUSE, "the next is put off again");
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
