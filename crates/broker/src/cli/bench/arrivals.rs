//! What one subscriber has seen of the numbered messages of one stream: what is missing, late or seen twice.

use std::collections::BTreeMap;

/// The numbers seen so far, kept as what is missing below the next one: nothing, while all is well.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    next: u64,
    /// The first and last number of each gap below `next`.
    gaps: BTreeMap<u64, u64>,
}

/// How one message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// After all before it that came at all.
    InOrder,
    /// For the first time, but after a later one.
    OutOfOrder,
    /// Again.
    Duplicate,
}

impl Arrivals {
    /// Notes that message `number` has come.
    #[inline]
    pub(super) fn note(&mut self, number: u64) -> Arrival {
        if number >= self.next {
            if number > self.next {
                self.gaps.insert(self.next, number - 1);
            }
            self.next = number.saturating_add(1);
            return Arrival::InOrder;
        }
        self.fill(number)
    }

    #[cold]
    fn fill(&mut self, number: u64) -> Arrival {
        let gap = self.gaps.range(..=number).next_back();
        let Some((&first, &last)) = gap.filter(|(_, last)| **last >= number) else {
            return Arrival::Duplicate;
        };
        self.gaps.remove(&first);
        if first < number {
            self.gaps.insert(first, number - 1);
        }
        if number < last {
            self.gaps.insert(number + 1, last);
        }
        Arrival::OutOfOrder
    }

    /// How many of the first `sent` messages have not come.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        let in_gaps: u64 = self.gaps.iter().map(|(first, last)| last - first + 1).sum();
        in_gaps + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Missing, out of order and duplicated, when these numbers come of `sent`.
    fn counts(numbers: &[u64], sent: u64) -> (u64, usize, usize) {
        let mut arrivals = Arrivals::default();
        let came: Vec<_> = numbers
            .iter()
            .map(|number| arrivals.note(*number))
            .collect();
        let of = |kind| came.iter().filter(|arrival| **arrival == kind).count();
        (
            arrivals.missing(sent),
            of(Arrival::OutOfOrder),
            of(Arrival::Duplicate),
        )
    }

    #[test]
    fn what_comes_in_order_is_neither_missing_nor_late() {
        assert_eq!(counts(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(counts(&[], 7), (7, 0, 0));
    }

    #[test]
    fn a_gap_is_missing_until_it_is_filled() {
        assert_eq!(counts(&[0, 3], 6), (4, 0, 0));
        assert_eq!(counts(&[0, 2, 1, 3], 4), (0, 1, 0));
        assert_eq!(counts(&[0, 9, 5, 4, 6, 1, 8], 10), (3, 5, 0));
    }

    #[test]
    fn what_comes_again_is_a_duplicate_however_late() {
        assert_eq!(counts(&[0, 1, 1, 2, 0], 3), (0, 0, 2));
        assert_eq!(counts(&[0, 5, 3, 3, 5], 6), (3, 1, 2));
    }
}
