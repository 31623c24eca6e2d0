//! When a lost link is tried again: a pure decision over what has happened. Never here: a clock or a sleep.

use std::time::Duration;

use super::plan::Backoff;
use crate::config::connector::Failover;
use crate::retry::Schedule;

/// Why there is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The remote was not reached, or the link broke.
    Network,
    /// The remote ended the link over a message.
    Message,
    /// The remote said why it ended the link, and it was not the identity.
    Dismissed,
    /// The remote was reached and took CONNECT, and ended the connection without CONNACK.
    HungUp,
    /// The remote refused the credentials.
    Credentials,
    /// The remote said that somebody else has taken the identity.
    TakenOver,
    /// The remote does not speak the version that it was asked in.
    Version,
    /// The link was closed to sign in anew before the credentials expire.
    Renewal,
    /// The link was closed since it is not needed now, or not wanted.
    Rest,
    /// Nothing was tried: the credentials are known to be over for good, and there are no others yet.
    Barred,
}

impl Loss {
    /// Whether messages have gathered meanwhile that will leave all at once.
    pub(super) const fn is_an_outage(self) -> bool {
        !matches!(self, Self::Version | Self::Renewal | Self::Rest)
    }

    /// The place of the address that is tried next. `held`: the link was up.
    pub(super) const fn next_place(
        self,
        failover: Failover,
        held: bool,
        place: usize,
        places: usize,
    ) -> usize {
        match (failover, self) {
            (_, Self::Barred) => place,
            (Failover::Primary, _) if held => 0,
            // The address has done nothing to be left.
            (_, Self::Renewal | Self::Rest) => place,
            _ => (place + 1) % places,
        }
    }
}

/// What the bridge is shown to be doing meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing special.
    Backoff,
    /// Credentials are refused.
    AuthFailed,
    /// Something else uses the identity.
    Evicted,
}

/// The waits of one bridge.
#[derive(Clone, Debug)]
pub struct Reconnect {
    backoff: Backoff,
    schedule: Schedule,
    slow: Schedule,
    evicted: Schedule,
    auth_failures: u32,
    /// How often in a row the version was refused.
    version_failures: u32,
    short_links: u32,
}

/// A link that broke so soon after CONNACK was probably taken over.
const SHORT: Duration = Duration::from_secs(5);
/// Several clouds lock a device that keeps trying wrong credentials.
const AUTH_BASE: Duration = Duration::from_secs(30);
/// How soon other credentials are looked for. Without any there is no CONNECT.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const EVICTED_BASE: Duration = Duration::from_secs(60);
const EVICTED_CAP: Duration = Duration::from_secs(10 * 60);
/// The other one, which was thrown out in turn, would have been back by then.
const LEFT_ALONE: Duration = Duration::from_secs(2 * 10 * 60);

impl Reconnect {
    /// The waits of a bridge with these settings.
    pub fn new(backoff: Backoff, seed: u64) -> Self {
        let schedule = Schedule::new(backoff.base, backoff.cap, seed);
        let slow = Schedule::new(
            AUTH_BASE.max(backoff.base),
            backoff.cap.max(AUTH_BASE),
            seed ^ 1,
        );
        let evicted = Schedule::new(
            EVICTED_BASE.max(backoff.base),
            EVICTED_CAP.max(backoff.cap),
            seed ^ 2,
        );
        Self {
            backoff,
            schedule,
            slow,
            evicted,
            auth_failures: 0,
            version_failures: 0,
            short_links: 0,
        }
    }

    /// How long to wait after a loss. `held` is how long the link was up, if it was; `since_connect` how long ago the
    /// last CONNECT was, at least.
    pub fn after(
        &mut self,
        loss: Loss,
        held: Option<Duration>,
        since_connect: Duration,
    ) -> (Duration, Waiting) {
        if loss == Loss::Barred {
            return (LOOK_AGAIN, Waiting::AuthFailed);
        }
        match held {
            Some(held) if held >= self.backoff.stable => self.schedule.reset(),
            _ => {}
        }
        if held.is_some() {
            self.auth_failures = 0;
            self.slow.reset();
        }
        self.version_failures = if loss == Loss::Version {
            self.version_failures.saturating_add(1)
        } else {
            0
        };
        let may_be_the_identity = !matches!(
            loss,
            Loss::Renewal | Loss::Rest | Loss::Message | Loss::Dismissed
        );
        self.short_links = match held.filter(|_| may_be_the_identity) {
            Some(held) if held < SHORT => self.short_links + 1,
            Some(_) => 0,
            None => self.short_links,
        };
        // Of a remote that is not reached nothing is known.
        let is_evicted = loss == Loss::TakenOver || held.is_some() && self.short_links >= 3;
        if held.is_some_and(|held| held >= LEFT_ALONE || held >= self.backoff.stable && !is_evicted)
        {
            self.evicted.reset();
        }
        let (wait, waiting) = if is_evicted {
            (self.evicted_wait(), Waiting::Evicted)
        } else if loss == Loss::Credentials {
            self.auth_failures += 1;
            // A signature may have been made at the edge of an hour: once more at once, then slowly.
            let wait = if self.auth_failures == 1 {
                Duration::ZERO
            } else {
                self.slow.next_wait()
            };
            (wait, Waiting::AuthFailed)
        } else if matches!(loss, Loss::Renewal | Loss::Rest)
            || (loss == Loss::Version && self.version_failures == 1)
        {
            // The other version is tried at once. Where there is none, or it is refused too, the schedule holds.
            (Duration::ZERO, Waiting::Backoff)
        } else {
            (self.schedule.next_wait(), Waiting::Backoff)
        };
        (
            wait.max(self.backoff.spacing.saturating_sub(since_connect)),
            waiting,
        )
    }

    /// Longer each time, and at the longest not at the same time as the other one.
    fn evicted_wait(&mut self) -> Duration {
        match self.evicted.next_wait() {
            wait if wait >= EVICTED_CAP => self.evicted.long_wait(),
            wait => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff(base: u64, spacing: u64) -> Backoff {
        Backoff {
            base: Duration::from_secs(base),
            cap: Duration::from_secs(60),
            stable: Duration::from_secs(30),
            spacing: Duration::from_secs(spacing),
        }
    }

    #[test]
    fn refused_credentials_are_tried_once_more_at_once_and_then_slowly() {
        let mut reconnect = Reconnect::new(backoff(1, 0), 3);
        let (first, state) = reconnect.after(Loss::Credentials, None, Duration::ZERO);
        assert_eq!((first, state), (Duration::ZERO, Waiting::AuthFailed));
        for _ in 0..20 {
            let (wait, _) = reconnect.after(Loss::Credentials, None, Duration::ZERO);
            assert!(wait >= AUTH_BASE);
        }
    }

    #[test]
    fn three_links_that_break_at_once_mean_that_the_identity_is_taken() {
        let mut reconnect = Reconnect::new(backoff(1, 0), 3);
        let short = Some(Duration::from_secs(1));
        assert_eq!(
            reconnect.after(Loss::Network, short, Duration::ZERO).1,
            Waiting::Backoff
        );
        assert_eq!(
            reconnect.after(Loss::Network, short, Duration::ZERO).1,
            Waiting::Backoff
        );
        let (wait, state) = reconnect.after(Loss::Network, short, Duration::ZERO);
        assert_eq!(state, Waiting::Evicted);
        assert!(wait >= EVICTED_BASE);
    }

    #[test]
    fn a_refused_version_is_answered_at_once_only_the_first_time() {
        let mut reconnect = Reconnect::new(backoff(1, 0), 3);
        let mut wait = |loss| reconnect.after(loss, None, Duration::ZERO).0;
        assert_eq!(wait(Loss::Version), Duration::ZERO);
        for _ in 0..20 {
            assert!(wait(Loss::Version) > Duration::ZERO);
        }
        assert!(wait(Loss::Network) > Duration::ZERO);
        assert_eq!(wait(Loss::Version), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_two_connects_are_closer_than_the_clouds_spacing(
            losses in proptest::collection::vec((0u8..4, proptest::option::of(0u64..100), 0u64..20), 1..50),
            seed: u64,
        ) {
            let mut reconnect = Reconnect::new(backoff(12, 12), seed);
            for (loss, held, since) in losses {
                let loss = [Loss::Network, Loss::Credentials, Loss::TakenOver, Loss::Version][usize::from(loss)];
                let held = held.map(Duration::from_secs);
                let since = Duration::from_secs(since) + held.unwrap_or_default();
                let (wait, _) = reconnect.after(loss, held, since);
                prop_assert!(wait + since >= Duration::from_secs(12));
            }
        }
    }

    #[test]
    fn a_look_for_other_credentials_is_no_attempt() {
        let mut reconnect = Reconnect::new(backoff(1, 0), 7);
        let (first, _) = reconnect.after(Loss::Network, None, Duration::ZERO);
        for _ in 0..100 {
            let look = reconnect.after(Loss::Barred, None, Duration::ZERO);
            assert_eq!(look, (LOOK_AGAIN, Waiting::AuthFailed));
        }
        let (second, _) = reconnect.after(Loss::Network, None, Duration::ZERO);
        assert!(second <= first * 4, "{first:?} {second:?}");
    }

    #[test]
    fn an_address_is_left_when_its_link_fails_and_not_when_it_is_made_anew() {
        let next = |failover, loss: Loss, held| loss.next_place(failover, held, 1, 3);
        for failover in [Failover::Primary, Failover::RoundRobin] {
            assert_eq!(next(failover, Loss::Network, false), 2);
            assert_eq!(next(failover, Loss::Barred, false), 1);
        }
        assert_eq!(next(Failover::RoundRobin, Loss::Renewal, true), 1);
        assert_eq!(next(Failover::RoundRobin, Loss::Network, true), 2);
        assert_eq!(next(Failover::Primary, Loss::Renewal, true), 0);
        assert_eq!(next(Failover::Primary, Loss::Network, true), 0);
    }
}
