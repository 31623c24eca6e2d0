//! When a bridge connects (`start`): a pure decision over what has happened. Never here: sockets, clocks and queues.

use std::time::Duration;

use super::reconnect::Loss;
use crate::connector::LinkState;

/// When a bridge connects, as its file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the broker, and again when the link is lost.
    #[default]
    Automatic,
    /// When something waits; the link ends when nothing was to be sent for a while.
    Lazy {
        /// So many messages of one queue have to wait.
        threshold: usize,
        /// The link ends when nothing was sent for so long.
        idle_timeout: Duration,
    },
    /// With the broker, and not again.
    Once,
    /// When it is told to, and until it is told to stop.
    Manual,
}

/// What an operator tells a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// To connect.
    Start,
    /// To end the link, and to make none.
    Stop,
}

/// Whether a bridge connects now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    start: Start,
    awake: bool,
    /// It does not connect since its one attempt, or link, is over.
    spent: bool,
    /// It was told to stop: messages do not wake it.
    held: bool,
    /// It ended a link only to make it anew, and has not come up since: what fails meanwhile is no attempt of its own.
    renewing: bool,
    /// Somebody has taken the identity, for which it has come back once.
    displaced: bool,
}

impl Standing {
    /// That of a bridge that was just opened.
    pub const fn new(start: Start) -> Self {
        let awake = matches!(start, Start::Automatic | Start::Once);
        Self {
            start,
            awake,
            spent: false,
            held: false,
            renewing: false,
            displaced: false,
        }
    }

    /// It takes the place of another one: what that was told holds. One that is over connects anew, for its file is another.
    pub fn goes_on_like(&mut self, old: Self) {
        let alike = std::mem::discriminant(&self.start) == std::mem::discriminant(&old.start);
        if alike && !old.spent {
            self.awake = old.awake;
            self.held = old.held;
        }
    }

    /// Whether it has a link, or tries to.
    pub const fn is_awake(&self) -> bool {
        self.awake
    }

    /// Whether it never does anything else.
    pub const fn is_steady(&self) -> bool {
        matches!(self.start, Start::Automatic)
    }

    /// Whether it should have a link: it is none of those that wait for messages or a command.
    pub const fn is_missed(&self) -> bool {
        self.awake || self.spent
    }

    /// Messages are given to it; true when that changes anything.
    pub fn is_wanted(&mut self) -> bool {
        let wakes = matches!(self.start, Start::Lazy { .. });
        wakes && !self.held && self.becomes(true)
    }

    /// Somebody says what it shall do; true when that changes anything.
    pub fn is_told(&mut self, command: Command) -> bool {
        let before = *self;
        self.spent = false;
        self.renewing = false;
        self.displaced = false;
        self.held = command == Command::Stop && !self.is_steady();
        self.awake = !self.held;
        *self != before
    }

    /// The link begins to end since nothing is to be sent. A message or a command that comes meanwhile makes it anew.
    pub fn rests(&mut self) -> bool {
        matches!(self.start, Start::Lazy { .. }) && self.becomes(false)
    }

    /// It has a link; true when that changes anything.
    pub fn has_come_up(&mut self) -> bool {
        std::mem::take(&mut self.renewing)
    }

    /// An attempt has failed, or a link is gone, which was `idle` when nothing was on its way; true when it does not
    /// connect again by itself.
    pub fn has_lost(&mut self, loss: Loss, idle: bool) -> bool {
        let ends = match (self.start, loss) {
            // Made anew on purpose, or not tried: neither is an attempt that has failed.
            (_, Loss::Renewal) => {
                self.renewing = true;
                false
            }
            // Whoever ends it on purpose has put it to rest before.
            (_, Loss::Barred | Loss::Rest) => false,
            // What comes to wait wakes it.
            (Start::Lazy { .. }, _) => idle,
            // Most likely this was a test of the bridge, which leaves.
            (Start::Once, Loss::TakenOver) if !self.displaced => {
                self.displaced = true;
                self.renewing = true;
                false
            }
            (Start::Once, _) => !self.renewing,
            _ => false,
        };
        if ends && self.awake {
            self.awake = false;
            self.spent = self.start == Start::Once;
        }
        !self.awake
    }

    /// How many messages a queue keeps to itself before it gives the first; `None` when it gives each at once.
    pub const fn holds_back(&self) -> Option<usize> {
        match (self.awake, self.start) {
            (true, _) => None,
            (false, Start::Lazy { threshold, .. }) if !self.held => Some(threshold),
            (false, _) => Some(usize::MAX),
        }
    }

    /// What it is shown to be doing while it does not connect.
    pub const fn at_rest(&self) -> LinkState {
        match self.start {
            Start::Lazy { .. } if !self.held => LinkState::Idle,
            _ => LinkState::Stopped,
        }
    }

    fn becomes(&mut self, awake: bool) -> bool {
        std::mem::replace(&mut self.awake, awake) != awake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAZY: Start = Start::Lazy {
        threshold: 10,
        idle_timeout: Duration::from_secs(60),
    };
    const LOSSES: [Loss; 10] = [
        Loss::Network,
        Loss::Message,
        Loss::Dismissed,
        Loss::HungUp,
        Loss::Credentials,
        Loss::TakenOver,
        Loss::Version,
        Loss::Renewal,
        Loss::Barred,
        Loss::Rest,
    ];

    #[test]
    fn a_bridge_that_is_automatic_connects_whatever_happens() {
        let mut standing = Standing::new(Start::Automatic);
        assert!(!standing.is_told(Command::Stop) && !standing.is_wanted());
        for loss in LOSSES {
            assert!(!standing.has_lost(loss, true), "{loss:?}");
        }
        assert_eq!(standing.holds_back(), None);
    }

    #[test]
    fn a_lazy_bridge_connects_when_enough_waits_and_rests_when_nothing_is_to_be_sent() {
        let mut standing = Standing::new(LAZY);
        assert_eq!(standing.holds_back(), Some(10));
        assert_eq!(standing.at_rest(), LinkState::Idle);
        assert!(standing.is_wanted() && !standing.is_wanted());
        assert_eq!(standing.holds_back(), None);
        for loss in LOSSES {
            assert!(
                !standing.has_lost(loss, false),
                "{loss:?}: something waits still"
            );
        }
        assert!(standing.rests() && !standing.is_awake());
        assert_eq!(standing.holds_back(), Some(10));
    }

    #[test]
    fn a_lazy_bridge_whose_link_is_lost_while_nothing_is_to_be_sent_leaves_it_at_that() {
        for loss in LOSSES {
            let mut standing = Standing::new(LAZY);
            assert!(standing.is_wanted());
            let goes_on = matches!(loss, Loss::Renewal | Loss::Barred | Loss::Rest);
            assert_eq!(standing.has_lost(loss, true), !goes_on, "{loss:?}");
            assert_eq!(standing.is_wanted(), !goes_on, "{loss:?}: it can be woken");
        }
    }

    #[test]
    fn a_lazy_bridge_that_was_stopped_is_woken_by_no_message() {
        let mut standing = Standing::new(LAZY);
        assert!(standing.is_wanted() && standing.is_told(Command::Stop));
        assert!(!standing.is_wanted() && !standing.is_awake());
        assert_eq!(standing.holds_back(), Some(usize::MAX));
        assert_eq!(standing.at_rest(), LinkState::Stopped);
        assert!(standing.is_told(Command::Start) && standing.is_awake());
        assert!(standing.rests() && standing.is_wanted());
    }

    #[test]
    fn what_comes_while_a_link_ends_is_not_forgotten() {
        // It ends for want of messages, and one comes, or a command.
        let mut standing = Standing::new(LAZY);
        assert!(standing.is_wanted() && standing.rests() && standing.is_wanted());
        assert!(!standing.has_lost(Loss::Rest, true));
        assert!(standing.rests() && standing.is_told(Command::Start));
        assert!(!standing.has_lost(Loss::Rest, true) && standing.is_awake());
        for start in [LAZY, Start::Once, Start::Manual] {
            let mut standing = Standing::new(start);
            standing.is_told(Command::Start);
            assert!(standing.is_told(Command::Stop) && standing.is_told(Command::Start));
            assert!(!standing.has_lost(Loss::Rest, true) && standing.is_awake());
        }
    }

    #[test]
    fn a_bridge_that_connects_once_does_not_do_so_again_unless_it_is_told_to() {
        for loss in LOSSES {
            let mut standing = Standing::new(Start::Once);
            let goes_on = matches!(
                loss,
                Loss::Renewal | Loss::Barred | Loss::Rest | Loss::TakenOver
            );
            assert_eq!(standing.has_lost(loss, false), !goes_on, "{loss:?}");
            assert_eq!(standing.is_awake(), goes_on, "{loss:?}");
        }
        let mut standing = Standing::new(Start::Once);
        assert!(standing.has_lost(Loss::Network, false) && !standing.is_wanted());
        assert!(standing.is_missed());
        assert_eq!(standing.at_rest(), LinkState::Stopped);
        assert_eq!(standing.holds_back(), Some(usize::MAX));
        assert!(standing.is_told(Command::Start) && standing.is_awake());
        assert!(standing.has_lost(Loss::Network, false), "once more is once");
        assert!(standing.is_told(Command::Stop) && !standing.is_missed());
    }

    #[test]
    fn a_bridge_that_connects_once_and_makes_its_link_anew_tries_until_it_has() {
        let mut standing = Standing::new(Start::Once);
        assert!(!standing.has_lost(Loss::Renewal, true));
        for _ in 0..3 {
            assert!(!standing.has_lost(Loss::Network, false));
        }
        assert!(standing.has_come_up() && !standing.has_come_up());
        assert!(standing.has_lost(Loss::Network, false));
    }

    #[test]
    fn a_bridge_that_connects_once_comes_back_once_after_a_takeover() {
        let mut standing = Standing::new(Start::Once);
        assert!(!standing.has_lost(Loss::TakenOver, false));
        assert!(!standing.has_lost(Loss::Network, false) && standing.has_come_up());
        assert!(standing.has_lost(Loss::TakenOver, false));
        assert!(standing.is_told(Command::Start));
        assert!(!standing.has_lost(Loss::TakenOver, false));
    }

    #[test]
    fn what_takes_the_place_of_a_bridge_keeps_to_what_that_was_told() {
        for (start, command) in [
            (Start::Once, Command::Stop),
            (Start::Manual, Command::Start),
            (LAZY, Command::Start),
            (LAZY, Command::Stop),
        ] {
            let mut old = Standing::new(start);
            old.is_told(command);
            let mut new = Standing::new(start);
            new.goes_on_like(old);
            assert_eq!(new, old, "{start:?} {command:?}");
            let mut other = Standing::new(Start::Automatic);
            other.goes_on_like(old);
            assert_eq!(other, Standing::new(Start::Automatic));
        }
        let mut old = Standing::new(Start::Once);
        assert!(old.has_lost(Loss::Network, false));
        let mut new = Standing::new(Start::Once);
        new.goes_on_like(old);
        assert!(new.is_awake(), "its file is another");
    }

    #[test]
    fn a_manual_bridge_does_what_it_is_told_and_reconnects_meanwhile() {
        let mut standing = Standing::new(Start::Manual);
        assert!(!standing.is_awake() && !standing.is_wanted() && !standing.is_missed());
        assert_eq!(standing.at_rest(), LinkState::Stopped);
        assert!(standing.is_told(Command::Start) && !standing.is_told(Command::Start));
        assert!(!standing.has_lost(Loss::Network, true) && standing.is_awake());
        assert!(standing.is_told(Command::Stop) && !standing.is_told(Command::Stop));
        assert!(standing.has_lost(Loss::Network, true) && !standing.is_wanted());
    }
}
