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
}

impl Standing {
    /// That of a bridge that was just opened.
    pub const fn new(start: Start) -> Self {
        let awake = matches!(start, Start::Automatic | Start::Once);
        Self {
            start,
            awake,
            spent: false,
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
        wakes && self.becomes(true)
    }

    /// Somebody says what it shall do; true when that changes anything.
    pub fn is_told(&mut self, command: Command) -> bool {
        self.spent = false;
        match command {
            Command::Start => self.becomes(true),
            Command::Stop => !self.is_steady() && self.becomes(false),
        }
    }

    /// An attempt has failed, or a link is gone; true when it does not connect again by itself.
    pub fn has_lost(&mut self, loss: Loss) -> bool {
        let ends = match (self.start, loss) {
            // Made anew on purpose, or not tried: neither is an attempt that has failed.
            (_, Loss::Renewal | Loss::Barred) => false,
            (Start::Lazy { .. }, Loss::Rest) | (Start::Once, _) => true,
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
            (false, Start::Lazy { threshold, .. }) => Some(threshold),
            (false, _) => Some(usize::MAX),
        }
    }

    /// What it is shown to be doing while it does not connect.
    pub const fn at_rest(&self) -> LinkState {
        match self.start {
            Start::Lazy { .. } => LinkState::Idle,
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
            assert!(!standing.has_lost(loss), "{loss:?}");
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
        for loss in LOSSES.into_iter().filter(|loss| *loss != Loss::Rest) {
            assert!(!standing.has_lost(loss), "{loss:?}: something waits still");
        }
        assert!(standing.has_lost(Loss::Rest));
        assert_eq!(standing.holds_back(), Some(10));
        assert!(standing.is_told(Command::Start) && standing.is_awake());
        assert!(standing.is_told(Command::Stop) && !standing.is_awake());
    }

    #[test]
    fn a_bridge_that_connects_once_does_not_do_so_again_unless_it_is_told_to() {
        for loss in LOSSES {
            let mut standing = Standing::new(Start::Once);
            let goes_on = matches!(loss, Loss::Renewal | Loss::Barred);
            assert_eq!(standing.has_lost(loss), !goes_on, "{loss:?}");
            assert_eq!(standing.is_awake(), goes_on, "{loss:?}");
        }
        let mut standing = Standing::new(Start::Once);
        assert!(standing.has_lost(Loss::Network) && !standing.is_wanted());
        assert!(standing.is_missed());
        assert_eq!(standing.at_rest(), LinkState::Stopped);
        assert_eq!(standing.holds_back(), Some(usize::MAX));
        assert!(standing.is_told(Command::Start) && standing.is_awake());
        assert!(standing.has_lost(Loss::Network), "once more is once");
        assert!(!standing.is_told(Command::Stop) && !standing.is_missed());
    }

    #[test]
    fn a_manual_bridge_does_what_it_is_told_and_reconnects_meanwhile() {
        let mut standing = Standing::new(Start::Manual);
        assert!(!standing.is_awake() && !standing.is_wanted() && !standing.is_missed());
        assert_eq!(standing.at_rest(), LinkState::Stopped);
        assert!(standing.is_told(Command::Start) && !standing.is_told(Command::Start));
        assert!(!standing.has_lost(Loss::Network) && standing.is_awake());
        assert!(standing.is_told(Command::Stop) && !standing.is_told(Command::Stop));
        assert!(standing.has_lost(Loss::Rest) && !standing.is_wanted());
    }
}
