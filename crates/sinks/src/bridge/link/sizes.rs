//! A message that the remote refuses "for now" (0x97, 0x80, 0x83) again and again, though it is its size: PUBACK has no
//! word for that. Sent for ever it would hold up every message behind it.

use std::collections::HashMap;

use super::Who;

/// So often must a message be refused before it is given up: with the waits of a sink some minutes.
const TIMES: u32 = 50;

/// What is known of how large a message the remote takes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// The largest payload that it has taken.
    taken: Option<usize>,
    /// How often it has refused messages that are larger than all that it took.
    refused: HashMap<Who, Refused>,
}

#[derive(Debug)]
struct Refused {
    bytes: usize,
    times: u32,
}

impl Sizes {
    /// The remote has taken a payload of so many bytes: what is no larger can be taken.
    pub(super) fn taken(&mut self, bytes: usize) {
        if self.taken.is_none_or(|taken| taken < bytes) {
            self.taken = Some(bytes);
            self.refused.retain(|_, refused| refused.bytes > bytes);
        }
    }

    /// The remote has refused a message for now. How often it has done so, once that is often enough to give the message
    /// up; never when it may be anything else than its size: smaller ones are refused too, or none was taken yet.
    pub(super) fn refused(&mut self, who: Who, bytes: usize) -> Option<u32> {
        if self.taken.is_none_or(|taken| bytes <= taken) {
            self.refused.clear();
            return None;
        }
        // A smaller one that waits too says that it was nothing about these.
        self.refused
            .retain(|other, refused| *other == who || refused.bytes <= bytes);
        let known = self
            .refused
            .entry(who)
            .or_insert(Refused { bytes, times: 0 });
        known.times += 1;
        let times = known.times;
        if times < TIMES {
            return None;
        }
        self.refused.remove(&who);
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

    #[test]
    fn a_message_larger_than_all_that_the_remote_takes_is_given_up_after_a_while() {
        let mut sizes = Sizes::default();
        sizes.taken(100);
        for time in 1..TIMES {
            assert_eq!(sizes.refused((1, 7), 101), None);
            sizes.taken(usize::try_from(time).unwrap());
        }
        assert_eq!(sizes.refused((1, 7), 101), Some(TIMES));
        assert_eq!(sizes.refused((1, 7), 101), None, "it begins anew");
    }

    #[test]
    fn a_remote_that_takes_nothing_now_is_waited_for() {
        let mut sizes = Sizes::default();
        let mut given_up = |taken: Option<usize>, refused: &[usize]| {
            taken.into_iter().for_each(|bytes| sizes.taken(bytes));
            (0..10 * TIMES).any(|_| {
                let refused = refused.iter().zip(0..);
                let given_up = refused.filter_map(|(bytes, seq)| sizes.refused((1, seq), *bytes));
                given_up.count() > 0
            })
        };
        assert!(!given_up(None, &[500]), "nothing was ever taken");
        assert!(!given_up(Some(100), &[100]), "as large a one was taken");
        assert!(!given_up(None, &[500, 50]), "a smaller one is refused too");
        assert!(given_up(None, &[500]));
    }

    #[test]
    fn a_larger_message_that_is_taken_clears_those_that_were_refused() {
        let mut sizes = Sizes::default();
        sizes.taken(1);
        (1..TIMES).for_each(|_| assert_eq!(sizes.refused((1, 7), 50), None));
        sizes.taken(60);
        sizes.taken(2);
        assert_eq!(sizes.refused((1, 7), 50), None);
        assert!(sizes.refused.is_empty());
    }
}
