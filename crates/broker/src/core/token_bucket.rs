//! A rate with a burst: tokens flow in evenly, and what happens takes them out.
//!
//! Two ways to use it: ask first and be refused, or take what is needed and wait until the debt is paid.

use super::Millis;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: u64,
    /// The most tokens that are saved up.
    pub burst: u64,
}

/// Thousandths of a token in one: a rate a second is then one a millisecond, in whole numbers.
const TOKEN: i64 = 1000;

/// Tokens of one rate.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    /// Thousandths of tokens; negative while there is a debt.
    level: i64,
    /// When the level was right.
    at: Millis,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Millis) -> Self {
        Self {
            level: thousandths(rate.burst),
            rate,
            at: now,
        }
    }

    /// Takes a token if there is one.
    pub fn try_take(&mut self, now: Millis) -> bool {
        self.flow(now);
        if self.level < TOKEN {
            return false;
        }
        self.level -= TOKEN;
        true
    }

    /// Takes `count` tokens, whether they are there or not. Gives the time until the debt is paid; 0 without a debt.
    pub fn charge(&mut self, now: Millis, count: u64) -> Millis {
        self.flow(now);
        self.level = self.level.saturating_sub(thousandths(count));
        if self.level >= 0 {
            return 0;
        }
        self.level
            .unsigned_abs()
            .div_ceil(self.rate.per_second.max(1))
    }

    /// Whether nothing was taken for so long that it is as good as new.
    pub fn is_full(&mut self, now: Millis) -> bool {
        self.flow(now);
        self.level >= thousandths(self.rate.burst)
    }

    fn flow(&mut self, now: Millis) {
        let elapsed = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        let rate = i64::try_from(self.rate.per_second).unwrap_or(i64::MAX);
        self.level = self
            .level
            .saturating_add(elapsed.saturating_mul(rate))
            .min(thousandths(self.rate.burst));
        self.at = self.at.max(now);
    }
}

fn thousandths(tokens: u64) -> i64 {
    i64::try_from(tokens)
        .unwrap_or(i64::MAX)
        .saturating_mul(TOKEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    #[test]
    fn a_burst_is_taken_at_once_and_the_rest_at_the_rate() {
        let mut bucket = TokenBucket::full(RATE, 0);
        assert_eq!(
            [(); 4].map(|()| bucket.try_take(0)),
            [true, true, true, false]
        );
        assert!(!bucket.try_take(99));
        assert!(bucket.try_take(100));
        assert!(!bucket.try_take(199));
        assert!(bucket.try_take(200));
    }

    #[test]
    fn a_debt_is_paid_by_waiting_as_long_as_it_says() {
        let mut bucket = TokenBucket::full(RATE, 0);
        assert_eq!(bucket.charge(0, 3), 0);
        assert_eq!(bucket.charge(0, 1), 100);
        assert_eq!(bucket.charge(100, 1), 100);
        assert_eq!(bucket.charge(500, 25), 2200, "three saved, 22 owed");
    }

    #[test]
    fn time_that_goes_back_gives_nothing_and_takes_nothing() {
        let mut bucket = TokenBucket::full(RATE, 1000);
        assert_eq!(bucket.charge(1000, 3), 0);
        assert!(!bucket.try_take(500));
        assert!(bucket.try_take(1100));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_passes_than_the_burst_and_the_rate(
            steps in prop::collection::vec((0u64..500, 1usize..5), 1..200)
        ) {
            let mut bucket = TokenBucket::full(RATE, 0);
            let (mut now, mut passed) = (0, 0u64);
            for (wait, tries) in steps {
                now += wait;
                passed += (0..tries).filter(|_| bucket.try_take(now)).count() as u64;
                prop_assert!(passed <= RATE.burst + now * RATE.per_second / 1000);
            }
        }
    }
}
