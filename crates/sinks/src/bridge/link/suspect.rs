//! A message over which the remote closes the link, each time that it comes: too large for it, on a topic that it forbids,
//! or what else it does not say in MQTT 3.1.1. Sent for ever it would hold up every message behind it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::bridge::plan::BridgePlan;

/// So often must the remote have closed the link over a message before it is given up.
const TIMES: u32 = 3;

/// The epoch of a message's queue, and its number there.
pub(in crate::bridge) type Who = (u64, u64);

/// So many answers for other messages, on links that hold, clear every message: none of those that are suspected comes
/// any more.
const CLEARED_AFTER: u32 = 1000;

/// So long at least is a message suspected before it is given up, where the waits between links may be as long.
const LEAST_SUSPECTED: Duration = Duration::from_secs(60);

impl BridgePlan {
    /// How long a message is suspected at least: a remote that is unwell itself is tried again by then.
    pub(super) fn least_suspected(&self) -> Duration {
        self.backoff.cap.min(LEAST_SUSPECTED)
    }
}

/// The messages that may be to blame: at most one of each queue, as its head holds up the others.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    suspected: HashMap<Who, Closed>,
    /// Messages that were given up one after the other, with nothing acknowledged between them: it may be the remote.
    given_up: u32,
    /// So many messages go out one at a time, since one of them is it.
    alone: usize,
    /// Answers for others since the link was closed last.
    others: u32,
    /// The message of `QoS` 0 that was half written then, with no other on its way: nobody answers for it.
    half: Option<Who>,
}

/// How often the remote has closed the link over a message alone, and since when.
#[derive(Debug)]
struct Closed {
    times: u32,
    since: Instant,
}

impl Suspect {
    /// The remote has closed the link while these messages were on their way; true when it was over one alone. That is
    /// `certain` where nothing else was on its way that the remote may not have liked.
    pub(super) fn closed_over(&mut self, on_their_way: &[Who], certain: bool) -> bool {
        self.others = 0;
        self.half = None;
        self.alone = self.alone.max(on_their_way.len());
        let [who] = on_their_way else {
            return false;
        };
        if certain {
            let closed = self.suspected.entry(*who).or_insert_with(|| Closed {
                times: 0,
                since: Instant::now(),
            });
            closed.times = closed.times.saturating_add(1);
        }
        certain
    }

    /// How often the remote has closed the link over this message, once that is often enough to give it up, and has gone
    /// on for at `least` so long. The more messages in a row that happens to, the more often it must be.
    pub(super) fn is_to_blame(&mut self, who: Who, least: Duration) -> Option<u32> {
        let enough = TIMES << (2 * self.given_up.min(8));
        let is_it = |closed: &&Closed| closed.times >= enough && closed.since.elapsed() >= least;
        let times = self.suspected.get(&who).filter(is_it)?.times;
        self.suspected.remove(&who);
        self.given_up += 1;
        self.over_with(who);
        Some(times)
    }

    /// What the link was closed over last was a message of `QoS` 0, of which a part was written.
    pub(super) fn was_half_written(&mut self, who: Who) {
        self.half = Some(who);
    }

    /// A message of `QoS` 0 was written whole: it does not come again.
    pub(super) fn written(&mut self, who: Who) {
        if self.half.is_none() {
            return;
        }
        self.others += 1;
        if self.half == Some(who) || self.others >= CLEARED_AFTER {
            self.suspected.remove(&who);
            self.half.into_iter().for_each(|half| self.over_with(half));
        }
    }

    fn over_with(&mut self, who: Who) {
        if self.half == Some(who) {
            self.half = None;
            self.suspected.remove(&who);
            self.alone = self.alone.saturating_sub(1);
        }
    }

    /// The remote has read messages of `QoS` 0.
    pub(super) fn has_read(&mut self) {
        self.given_up = 0;
    }

    /// The remote has answered for this message.
    pub(super) fn answered(&mut self, who: Who) {
        self.given_up = 0;
        if self.suspected.is_empty() {
            return;
        }
        self.others += 1;
        self.suspected.remove(&who);
        if self.others >= CLEARED_AFTER {
            self.suspected.clear();
        }
    }

    /// A message is done; true when from now on messages may go together again.
    pub(super) fn done(&mut self) -> bool {
        let was = self.alone;
        if was == 1 && !self.suspected.is_empty() {
            // It comes again.
            return false;
        }
        self.alone = was.saturating_sub(1);
        was == 1
    }

    pub(super) const fn goes_alone(&self) -> bool {
        self.alone > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn a_message_over_which_the_link_was_closed_three_times_is_to_blame() {
        let mut suspect = Suspect::default();
        assert!(!suspect.closed_over(&[(1, 7), (1, 8)], true));
        assert!(suspect.goes_alone());
        for _ in 0..3 {
            assert_eq!(suspect.is_to_blame((1, 7), AT_ONCE), None);
            assert!(suspect.closed_over(&[(1, 7)], true));
        }
        assert_eq!(suspect.is_to_blame((1, 8), AT_ONCE), None);
        assert_eq!(suspect.is_to_blame((1, 7), AT_ONCE), Some(3));
        let again = suspect.is_to_blame((1, 7), AT_ONCE);
        assert_eq!(again, None, "its turn is over");
        assert!(!suspect.done() && suspect.done() && !suspect.goes_alone());
    }

    #[test]
    fn a_message_is_innocent_where_the_remote_has_answered_for_it_since() {
        let mut suspect = Suspect::default();
        for _ in 0..2 {
            suspect.closed_over(&[(1, 7)], true);
        }
        suspect.answered((1, 7));
        suspect.closed_over(&[(1, 7)], true);
        assert_eq!(suspect.is_to_blame((1, 7), AT_ONCE), None);
    }

    #[test]
    fn answers_for_other_queues_clear_no_message_that_comes_again() {
        let mut suspect = Suspect::default();
        for other in 0..3 {
            suspect.closed_over(&[(1, 7)], true);
            suspect.closed_over(&[(3, 9)], true);
            suspect.answered((2, other));
            assert!(!suspect.done() && suspect.goes_alone());
        }
        assert_eq!(suspect.is_to_blame((1, 7), AT_ONCE), Some(3));
        assert_eq!(suspect.is_to_blame((3, 9), AT_ONCE), None, "12 times now");
        for other in 0..CLEARED_AFTER {
            suspect.answered((2, other.into()));
        }
        assert!(suspect.done() && !suspect.goes_alone(), "it never came");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_not_given_up_before_its_time() {
        let least = Duration::from_secs(60);
        let mut suspect = Suspect::default();
        for _ in 0..5 {
            suspect.closed_over(&[(1, 7)], true);
        }
        assert_eq!(suspect.is_to_blame((1, 7), least), None);
        tokio::time::advance(least).await;
        assert_eq!(suspect.is_to_blame((1, 7), least), Some(5));
    }

    #[test]
    fn a_message_of_qos_0_is_over_with_when_it_is_written_whole_or_given_up() {
        let mut suspect = Suspect::default();
        let close = |suspect: &mut Suspect, seq| {
            suspect.closed_over(&[(1, seq)], true);
            suspect.was_half_written((1, seq));
        };
        close(&mut suspect, 7);
        suspect.written((2, 1));
        assert!(suspect.goes_alone(), "another one");
        suspect.written((1, 7));
        assert!(!suspect.goes_alone() && suspect.suspected.is_empty());
        (0..3).for_each(|_| close(&mut suspect, 8));
        assert_eq!(suspect.is_to_blame((1, 8), AT_ONCE), Some(3));
        assert!(!suspect.goes_alone() && suspect.suspected.is_empty());
        // It never comes again.
        close(&mut suspect, 9);
        (0..CLEARED_AFTER).for_each(|other| suspect.written((2, other.into())));
        assert!(!suspect.goes_alone() && suspect.suspected.is_empty());
    }

    #[test]
    fn a_message_beside_something_else_is_not_counted_and_goes_alone() {
        let mut suspect = Suspect::default();
        for _ in 0..5 {
            assert!(!suspect.closed_over(&[(1, 7)], false));
        }
        assert!(suspect.goes_alone());
        assert_eq!(suspect.is_to_blame((1, 7), AT_ONCE), None);
    }

    #[test]
    fn a_remote_that_closes_over_every_message_gets_more_time_with_each() {
        let mut suspect = Suspect::default();
        let mut closed = Vec::new();
        for seq in 0..4 {
            closed.push(0);
            while suspect.is_to_blame((1, seq), AT_ONCE).is_none() {
                suspect.closed_over(&[(1, seq)], true);
                closed[usize::try_from(seq).unwrap()] += 1;
            }
        }
        assert_eq!(closed, [3, 12, 48, 192]);
    }
}
