//! A message that the remote refuses "for now" (0x97, 0x80, 0x83) again and again, though it is its size: PUBACK has no
//! word for that. Sent for ever it would hold up every message behind it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Who;
use crate::bridge::plan::MAX_INFLIGHT;

/// So often must a message be refused before it is given up: with the waits of a sink some minutes.
const TIMES: u32 = 50;

/// What is known of how large a message the remote takes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// The largest payload that it has taken.
    taken: Option<usize>,
    /// How often it has refused messages that are larger than all that it took.
    refused: HashMap<Who, Refused>,
    /// Messages that were given up one after the other, with none taken between them: it may be the remote.
    given_up: u32,
}

#[derive(Debug)]
struct Refused {
    bytes: usize,
    times: u32,
    since: Instant,
}

impl Refused {
    fn first(bytes: usize) -> Self {
        Self {
            bytes,
            times: 0,
            since: Instant::now(),
        }
    }
}

impl Sizes {
    /// The remote has taken a payload of so many bytes: what is no larger can be taken.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.given_up = 0;
        if self.taken.is_none_or(|taken| taken < bytes) {
            self.taken = Some(bytes);
            self.refused.retain(|_, refused| refused.bytes > bytes);
        }
    }

    /// Whether the remote has taken any message.
    pub(super) const fn has_taken_some(&self) -> bool {
        self.taken.is_some()
    }

    /// The remote has refused a message for now. How often it has done so, once that is often enough to give the message
    /// up; never when it is known to be anything else than its size: smaller ones are refused too, and others were taken.
    pub(super) fn refused(&mut self, who: Who, bytes: usize, least: Duration) -> Option<u32> {
        let Some(taken) = self.taken else {
            return self.refused_before_all(who, bytes, least);
        };
        if bytes <= taken {
            self.refused.clear();
            return None;
        }
        // A smaller one that waits too says that it was nothing about these.
        self.refused
            .retain(|other, refused| *other == who || refused.bytes <= bytes);
        let known = self.refused.entry(who).or_insert(Refused::first(bytes));
        known.times += 1;
        let times = known.times;
        if times < TIMES {
            return None;
        }
        self.refused.remove(&who);
        Some(times)
    }

    /// The same where none was taken yet: nothing can be told from others, which the first of the queue holds up. It is
    /// given up all the same, no sooner than `least` after the first time. The more messages in a row that happens to, the
    /// more often it must be.
    fn refused_before_all(&mut self, who: Who, bytes: usize, least: Duration) -> Option<u32> {
        if self.refused.len() >= usize::from(MAX_INFLIGHT) && !self.refused.contains_key(&who) {
            // Of a queue that is full most are gone.
            self.refused.clear();
        }
        let enough = TIMES << (2 * self.given_up.min(8));
        let known = self.refused.entry(who).or_insert(Refused::first(bytes));
        known.times = known.times.saturating_add(1);
        let times = known.times;
        if times < enough || known.since.elapsed() < least {
            return None;
        }
        self.refused.remove(&who);
        self.given_up += 1;
        Some(times)
    }

    /// A message is done with, or is gone.
    pub(super) fn forget(&mut self, who: Who) {
        self.refused.remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn a_message_larger_than_all_that_the_remote_takes_is_given_up_after_a_while() {
        let mut sizes = Sizes::default();
        sizes.taken(100);
        for time in 1..TIMES {
            assert_eq!(sizes.refused((1, 7), 101, AT_ONCE), None);
            sizes.taken(usize::try_from(time).unwrap());
        }
        assert_eq!(sizes.refused((1, 7), 101, AT_ONCE), Some(TIMES));
        assert_eq!(sizes.refused((1, 7), 101, AT_ONCE), None, "it begins anew");
    }

    #[test]
    fn a_remote_that_takes_nothing_now_is_waited_for() {
        let mut sizes = Sizes::default();
        sizes.taken(1);
        let mut given_up = |taken: Option<usize>, refused: &[usize]| {
            taken.into_iter().for_each(|bytes| sizes.taken(bytes));
            (0..10 * TIMES).any(|_| {
                let refused = refused.iter().zip(0..);
                let given_up =
                    refused.filter_map(|(bytes, seq)| sizes.refused((1, seq), *bytes, AT_ONCE));
                given_up.count() > 0
            })
        };
        assert!(!given_up(Some(100), &[100]), "as large a one was taken");
        assert!(!given_up(None, &[500, 50]), "a smaller one is refused too");
        assert!(given_up(None, &[500]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_before_which_none_was_taken_is_given_up_but_each_next_one_later() {
        let mut sizes = Sizes::default();
        let mut refused = Vec::new();
        for seq in 0..3 {
            refused.push(1);
            while sizes.refused((1, seq), 500, AT_ONCE).is_none() {
                refused[usize::try_from(seq).unwrap()] += 1;
            }
        }
        assert_eq!(refused, [50, 200, 800]);
        sizes.taken(1);
        (1..TIMES).for_each(|_| assert_eq!(sizes.refused((1, 3), 500, AT_ONCE), None));
        assert_eq!(sizes.refused((1, 3), 500, AT_ONCE), Some(TIMES));
        let mut sizes = Sizes::default();
        let least = Duration::from_secs(60);
        (0..2 * TIMES).for_each(|_| assert_eq!(sizes.refused((1, 7), 500, least), None));
        tokio::time::advance(least).await;
        assert_eq!(sizes.refused((1, 7), 500, least), Some(2 * TIMES + 1));
    }

    #[test]
    fn a_larger_message_that_is_taken_clears_those_that_were_refused() {
        let mut sizes = Sizes::default();
        sizes.taken(1);
        (1..TIMES).for_each(|_| assert_eq!(sizes.refused((1, 7), 50, AT_ONCE), None));
        sizes.taken(60);
        sizes.taken(2);
        assert_eq!(sizes.refused((1, 7), 50, AT_ONCE), None);
        assert!(sizes.refused.is_empty());
    }
}
