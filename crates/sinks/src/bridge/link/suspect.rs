//! A message over which the remote closes the link, each time that it comes: too large for it, on a topic that it forbids,
//! or what else it does not say in MQTT 3.1.1. Sent for ever it would hold up every message behind it.

/// So often must the remote have closed the link over a message before it is given up.
const TIMES: u32 = 3;

/// The epoch of a message's queue, and its number there.
pub(in crate::bridge) type Who = (u64, u64);

/// The message that may be to blame.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    who: Option<Who>,
    times: u32,
    /// Messages that were given up one after the other, with nothing acknowledged between them: it may be the remote.
    given_up: u32,
    /// So many messages go out one at a time, since one of them is it.
    alone: usize,
}

impl Suspect {
    /// The remote has closed the link while these messages were on their way; true when one message alone was.
    pub(super) fn closed_over(&mut self, on_their_way: &[Who]) -> bool {
        match on_their_way {
            [] => false,
            [who] => {
                self.times = if self.who == Some(*who) {
                    self.times.saturating_add(1)
                } else {
                    1
                };
                self.who = Some(*who);
                self.alone = self.alone.max(1);
                true
            }
            many => {
                self.alone = self.alone.max(many.len());
                false
            }
        }
    }

    /// How often the remote has closed the link over this message, once that is often enough to give it up. The more
    /// messages in a row that happens to, the more often it must be.
    pub(super) fn is_to_blame(&mut self, who: Who) -> Option<u32> {
        let enough = TIMES << (2 * self.given_up.min(8));
        if self.who != Some(who) || self.times < enough {
            return None;
        }
        let times = self.times;
        *self = Self {
            given_up: self.given_up + 1,
            alone: self.alone,
            ..Self::default()
        };
        Some(times)
    }

    /// The remote has answered for a message.
    pub(super) fn answered(&mut self) {
        (self.who, self.times, self.given_up) = (None, 0, 0);
    }

    /// A message is done; true when from now on messages may go together again.
    pub(super) fn done(&mut self) -> bool {
        let was = self.alone;
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

    #[test]
    fn a_message_over_which_the_link_was_closed_three_times_is_to_blame() {
        let mut suspect = Suspect::default();
        assert!(!suspect.closed_over(&[(1, 7), (1, 8)]));
        assert!(suspect.goes_alone());
        for _ in 0..3 {
            assert_eq!(suspect.is_to_blame((1, 7)), None);
            assert!(suspect.closed_over(&[(1, 7)]));
        }
        assert_eq!(suspect.is_to_blame((1, 8)), None);
        assert_eq!(suspect.is_to_blame((1, 7)), Some(3));
        assert_eq!(suspect.is_to_blame((1, 7)), None, "its turn is over");
        assert!(!suspect.done() && suspect.done() && !suspect.goes_alone());
    }

    #[test]
    fn a_message_is_innocent_where_the_remote_has_answered_since() {
        let mut suspect = Suspect::default();
        for _ in 0..2 {
            suspect.closed_over(&[(1, 7)]);
        }
        suspect.answered();
        suspect.closed_over(&[(1, 7)]);
        assert_eq!(suspect.is_to_blame((1, 7)), None);
    }

    #[test]
    fn a_remote_that_closes_over_every_message_gets_more_time_with_each() {
        let mut suspect = Suspect::default();
        let mut closed = Vec::new();
        for seq in 0..4 {
            closed.push(0);
            while suspect.is_to_blame((1, seq)).is_none() {
                suspect.closed_over(&[(1, seq)]);
                closed[usize::try_from(seq).unwrap()] += 1;
            }
        }
        assert_eq!(closed, [3, 12, 48, 192]);
    }
}
