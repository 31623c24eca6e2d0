//! When to try again: decorrelated jitter as a pure, seeded schedule. Never here: a clock or a sleep.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Waiting times of consecutive failures.
///
/// Each wait is drawn from `[base, 3 × the last one]` and cut at `cap`, so that many sinks that lost the same far
/// side do not come back together.
#[derive(Clone, Debug)]
pub struct Schedule {
    base: Duration,
    cap: Duration,
    last: Duration,
    rng: StdRng,
}

impl Schedule {
    /// A schedule; `cap` is raised to `base` where it lies below.
    pub fn new(base: Duration, cap: Duration, seed: u64) -> Self {
        let base = base.max(Duration::from_millis(1));
        Self {
            base,
            cap: cap.max(base),
            last: base,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let low = self.base.as_secs_f64();
        let high = (self.last.as_secs_f64() * 3.0).max(low);
        let drawn = Duration::from_secs_f64(self.rng.random_range(low..=high));
        self.last = drawn.clamp(self.base, self.cap);
        self.last
    }

    /// The wait of an open circuit: near the longest one.
    pub fn long_wait(&mut self) -> Duration {
        let cap = self.cap.as_secs_f64();
        let drawn = Duration::from_secs_f64(self.rng.random_range(cap / 2.0..=cap));
        self.last = drawn.clamp(self.base, self.cap);
        self.last
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.last = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn same_seed_same_waits() {
        let make = || Schedule::new(Duration::from_millis(200), Duration::from_secs(30), 7);
        let (mut a, mut b) = (make(), make());
        assert!((0..50).all(|_| a.next_wait() == b.next_wait()));
    }

    #[test]
    fn waits_grow_to_the_cap_and_a_success_starts_over() {
        let mut schedule = Schedule::new(Duration::from_millis(200), Duration::from_secs(30), 1);
        let longest = (0..100).map(|_| schedule.next_wait()).max().unwrap();
        assert_eq!(longest, Duration::from_secs(30));
        schedule.reset();
        assert!(schedule.next_wait() <= Duration::from_millis(600));
    }

    #[test]
    fn an_open_circuit_waits_at_least_half_of_the_longest_time() {
        let mut schedule = Schedule::new(Duration::from_millis(200), Duration::from_secs(30), 1);
        let waits = (0..100).map(|_| schedule.long_wait());
        let most = (Duration::from_secs(15), Duration::from_secs(30));
        assert!(
            waits
                .into_iter()
                .all(|wait| wait >= most.0 && wait <= most.1)
        );
    }

    #[test]
    fn a_thousand_links_that_fail_together_do_not_come_back_together() {
        let mut slots = std::collections::HashMap::new();
        for seed in 0..1000 {
            let mut schedule = Schedule::new(Duration::from_secs(5), Duration::from_secs(60), seed);
            *slots
                .entry(schedule.next_wait().as_millis() / 100)
                .or_insert(0) += 1;
        }
        assert!(slots.values().all(|count| *count <= 50), "{slots:?}");
    }

    proptest! {
        #[test]
        fn every_wait_lies_between_base_and_cap(base in 1u64..10_000, cap in 1u64..100_000, seed: u64) {
            let mut schedule = Schedule::new(Duration::from_millis(base), Duration::from_millis(cap), seed);
            for _ in 0..100 {
                let wait = schedule.next_wait();
                prop_assert!(wait >= Duration::from_millis(base));
                prop_assert!(wait <= Duration::from_millis(cap.max(base)));
            }
        }
    }
}
