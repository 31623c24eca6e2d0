//! What waits for the thread that writes: when a group of it is due, and what the thread is worth waking for.
//!
//! A batch that somebody waits for is due at once. One that nobody waits for is due at once after a quiet time, and gathers
//! with others else: a write, a sync and two changes of threads for each would cost far more than the batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most so many bytes are written for one sync.
const GROUP_BYTES: usize = 8 << 20;
/// So many bytes gather no longer.
const ENOUGH_BYTES: usize = 1 << 20;

/// When a batch is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// As soon as can be: somebody waits for it.
    Now,
    /// With what comes next, or after a moment.
    Soon,
}

/// What the thread is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// Write; nothing in it: what was settled is due.
    Write(Vec<T>),
    /// Sleep until that time, or until it is woken.
    Sleep(Option<Instant>),
    /// End.
    End,
}

/// Batches in the order in which they came, each with its bytes.
#[derive(Debug)]
pub(crate) struct Line<T> {
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
    /// Somebody waits for one of them, or they are enough.
    is_due: bool,
    /// The thread sleeps until what can wait is due: no need to wake it for that.
    naps: bool,
    /// How long batches gather behind a group.
    gather: Duration,
    /// Until when they do.
    gather_until: Option<Instant>,
    /// When what was settled is to be written.
    settle_at: Option<Instant>,
    ending: bool,
}

impl<T> Line<T> {
    pub(crate) fn new(gather: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            is_due: false,
            naps: false,
            gather,
            gather_until: None,
            settle_at: None,
            ending: false,
        }
    }

    /// Puts a batch behind the others; true when the thread has to be woken. Not to be called when it ends.
    pub(crate) fn put(&mut self, batch: T, bytes: usize, when: When) -> bool {
        let first = self.waiting.is_empty();
        self.waiting.push_back((batch, bytes));
        self.bytes += bytes;
        let was_due = self.is_due;
        self.is_due |= when == When::Now || self.bytes >= ENOUGH_BYTES;
        (self.is_due && !was_due) || (first && !self.naps)
    }

    /// Something was settled; true when the thread has to be woken.
    pub(crate) fn settled(&mut self, due: Instant) -> bool {
        self.settle_at = Some(due);
        !self.naps
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        self.ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Ends the line; gives what was in it.
    pub(crate) fn close(&mut self) -> VecDeque<(T, usize)> {
        self.ending = true;
        std::mem::take(&mut self.waiting)
    }

    /// What the thread is to do now.
    pub(crate) fn next(&mut self, now: Instant) -> Next<T> {
        self.naps = false;
        let gather_until = self.gather_until.filter(|until| *until > now);
        if self.waiting.is_empty() {
            if self.ending {
                return Next::End;
            }
            if self.settle_at.is_some_and(|at| at <= now) {
                self.settle_at = None;
                return Next::Write(Vec::new());
            }
            self.naps = gather_until.is_some();
            return Next::Sleep(gather_until.into_iter().chain(self.settle_at).min());
        }
        if gather_until.is_some() && !self.is_due && !self.ending {
            self.naps = true;
            return Next::Sleep(gather_until);
        }
        self.gather_until = Some(now + self.gather);
        self.settle_at = None;
        Next::Write(self.group())
    }

    /// What waits now, up to a bound.
    fn group(&mut self) -> Vec<T> {
        let mut bytes = 0;
        let fits = |(_, weight): &&(T, usize)| {
            let fits = bytes == 0 || bytes + weight <= GROUP_BYTES;
            bytes += weight;
            fits
        };
        let within = self.waiting.iter().take_while(fits).count();
        let group = self.waiting.drain(..within);
        let group = group.map(|(batch, weight)| {
            self.bytes -= weight;
            batch
        });
        let group = group.collect();
        // What is left waits behind a whole group.
        self.is_due = !self.waiting.is_empty();
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: Duration = Duration::from_millis(5);
    const MS: Duration = Duration::from_millis(1);

    /// A line whose thread is never late: it does what it is to do at the very time.
    struct Driven {
        line: Line<u32>,
        now: Instant,
        sleeps_until: Option<Instant>,
        woken: usize,
        groups: Vec<Vec<u32>>,
    }

    impl Driven {
        fn new() -> Self {
            let mut driven = Self {
                line: Line::new(GATHER),
                now: Instant::now(),
                sleeps_until: None,
                woken: 0,
                groups: Vec::new(),
            };
            driven.go_on();
            driven
        }

        fn go_on(&mut self) {
            loop {
                match self.line.next(self.now) {
                    Next::Write(group) => self.groups.push(group),
                    Next::Sleep(until) => {
                        self.sleeps_until = until;
                        return;
                    }
                    Next::End => return,
                }
            }
        }

        fn put(&mut self, batch: u32, bytes: usize, when: When) {
            if self.line.put(batch, bytes, when) {
                self.woken += 1;
                self.go_on();
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(at) = self.sleeps_until.filter(|at| *at <= end) {
                self.now = at;
                self.go_on();
            }
            self.now = end;
        }
    }

    #[test]
    fn a_batch_alone_is_written_at_once_whoever_waits_for_it() {
        for when in [When::Now, When::Soon] {
            let mut thread = Driven::new();
            for number in 0..3 {
                thread.put(number, 100, when);
                assert_eq!(thread.groups.len(), number as usize + 1);
                thread.pass(GATHER);
            }
            assert_eq!(thread.groups, [[0], [1], [2]]);
        }
    }

    #[test]
    fn batches_that_nobody_waits_for_are_few_groups_and_wake_the_thread_once() {
        let mut thread = Driven::new();
        // 5,000 a second, for a second.
        for number in 0..5_000 {
            thread.put(number, 100, When::Soon);
            thread.pass(MS / 5);
        }
        thread.pass(GATHER);
        assert_eq!(thread.woken, 1);
        assert!(
            (190..=201).contains(&thread.groups.len()),
            "{} groups",
            thread.groups.len()
        );
        let all: Vec<u32> = thread.groups.concat();
        assert_eq!(all, (0..5_000).collect::<Vec<_>>());
    }

    #[test]
    fn none_waits_longer_than_it_may_gather() {
        let mut thread = Driven::new();
        thread.put(0, 1, When::Soon);
        thread.pass(MS);
        thread.put(1, 1, When::Soon);
        thread.pass(GATHER - 2 * MS);
        assert_eq!(thread.groups.len(), 1);
        thread.pass(MS);
        assert_eq!(thread.groups, [[0], [1]]);
    }

    #[test]
    fn one_that_somebody_waits_for_takes_those_before_it_along_at_once() {
        let mut thread = Driven::new();
        for number in 0..3 {
            thread.put(number, 1, When::Soon);
        }
        assert_eq!(thread.groups, [[0]]);
        thread.put(3, 1, When::Now);
        assert_eq!(thread.groups, [vec![0], vec![1, 2, 3]]);
        thread.put(4, 1, When::Now);
        assert_eq!(thread.groups[2], [4]);
    }

    #[test]
    fn enough_bytes_gather_no_longer() {
        let mut thread = Driven::new();
        for number in 0..4 {
            thread.put(number, ENOUGH_BYTES / 3 + 1, When::Soon);
        }
        assert_eq!(thread.groups, [vec![0], vec![1, 2, 3]]);
    }

    #[test]
    fn what_is_more_than_a_group_follows_without_a_pause() {
        let mut line = Line::new(GATHER);
        let now = Instant::now();
        for number in 0..3 {
            line.put(number, GROUP_BYTES / 2 + 1, When::Soon);
        }
        for number in 0..3 {
            assert_eq!(line.next(now), Next::Write(vec![number]));
        }
        assert!(matches!(line.next(now), Next::Sleep(Some(_))));
    }

    #[test]
    fn the_end_writes_what_gathers_and_waits_for_nothing() {
        let mut thread = Driven::new();
        thread.put(0, 1, When::Soon);
        thread.put(1, 1, When::Soon);
        thread.line.end();
        assert_eq!(thread.line.next(thread.now), Next::Write(vec![1]));
        assert_eq!(thread.line.next(thread.now), Next::End);
    }

    #[test]
    fn what_was_settled_is_written_alone_when_nothing_else_is() {
        let mut thread = Driven::new();
        assert!(thread.line.settled(thread.now + 20 * MS));
        thread.go_on();
        thread.pass(19 * MS);
        assert!(thread.groups.is_empty());
        thread.pass(MS);
        assert_eq!(thread.groups, [vec![]]);
        // A thread that naps looks at it by itself, and it goes with what comes before.
        thread.put(1, 1, When::Soon);
        assert!(!thread.line.settled(thread.now + 20 * MS));
        thread.pass(GATHER);
        thread.put(2, 1, When::Soon);
        thread.pass(100 * MS);
        assert_eq!(thread.groups, [vec![], vec![1], vec![2]]);
    }
}
