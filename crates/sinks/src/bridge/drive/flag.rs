//! Whether a remote of 3.1.1 is told that this is a bridge. One that does not know the mark of it (`bridge_flag`) is asked
//! once more without.

use crate::bridge::client::Version;
use crate::bridge::plan::BridgePlan;
use crate::bridge::reconnect::Loss;

/// What is known of the remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flag {
    /// It may know the mark.
    #[default]
    Given,
    /// It hung up on it; perhaps it was only away.
    LeftOnce,
    /// It has said that it does not know it.
    Refused,
}

impl Flag {
    pub(super) fn is_given(self, plan: &BridgePlan) -> bool {
        plan.bridge_flag && self == Self::Given
    }

    /// An attempt in `version` has come to nothing, or its link has ended. True when the next one goes without the mark.
    pub(super) fn failed(&mut self, plan: &BridgePlan, version: Version, loss: Loss) -> bool {
        let was_given = version == Version::V311 && self.is_given(plan);
        *self = match (*self, loss) {
            (Self::Refused, _) => Self::Refused,
            // Without it what leaves would come back, over and over.
            _ if !was_given || plan.needs_bridge_flag() => Self::Given,
            (_, Loss::Version) => Self::Refused,
            (_, Loss::HungUp) => Self::LeftOnce,
            _ => Self::Given,
        };
        was_given && *self != Self::Given
    }
}
