//! Limits at work: how fast one client may send, how fast clients may come, who is turned away.

use std::net::IpAddr;
use std::sync::Arc;

use ahash::HashMap;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use weir_mqtt::{ReasonCode, Utf8};

use super::large_connects::LargeConnects;
use crate::auth::banned::Banned;
use crate::core::Millis;
use crate::core::bans::Bans;
use crate::core::flapping::Flapping;
use crate::core::limits::{ClientLimits, LimitSettings, WhenExceeded};
use crate::core::network::network_of;
use crate::core::token_bucket::{Rate, TokenBucket};

/// Addresses that are remembered at most. When there are more, those that have been quiet are forgotten.
const MAX_ADDRESSES: usize = 65_536;

/// How fast one client may send.
#[derive(Debug)]
pub(super) struct Rates {
    messages: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
    pub(super) when_exceeded: WhenExceeded,
}

impl Rates {
    /// `None` when there is no limit, so that no packet is counted for nothing.
    pub(super) fn new(limits: &ClientLimits, now: Millis) -> Option<Box<Self>> {
        if limits.messages.is_none() && limits.bytes.is_none() {
            return None;
        }
        Some(Box::new(Self {
            messages: limits.messages.map(|rate| TokenBucket::full(rate, now)),
            bytes: limits.bytes.map(|rate| TokenBucket::full(rate, now)),
            when_exceeded: limits.when_exceeded,
        }))
    }

    /// Counts a packet; gives the milliseconds that the client has to wait now.
    pub(super) fn charge(&mut self, now: Millis, is_publish: bool, bytes: usize) -> Millis {
        let messages = match &mut self.messages {
            Some(bucket) if is_publish => bucket.charge(now, 1),
            _ => 0,
        };
        let bytes = match &mut self.bytes {
            Some(bucket) => bucket.charge(now, bytes as u64),
            None => 0,
        };
        messages.max(bytes)
    }
}

/// Who may come in at all, and how fast.
#[derive(Debug)]
pub(crate) struct Entrance {
    connects: Option<Mutex<TokenBucket>>,
    addresses: Option<(Rate, Mutex<HashMap<IpAddr, TokenBucket>>)>,
    flapping: Option<Mutex<Flapping>>,
    banned: Arc<ArcSwap<Banned>>,
    /// Whom operators have turned away. Who changes it hands the change to the store before letting go.
    pub(super) bans: RwLock<Bans>,
    /// What strangers may have sent.
    pub(crate) large_connects: Arc<LargeConnects>,
}

impl Entrance {
    pub(super) fn new(settings: &LimitSettings, banned: Arc<ArcSwap<Banned>>, now: Millis) -> Self {
        Self {
            connects: settings
                .connects
                .map(|rate| Mutex::new(TokenBucket::full(rate, now))),
            addresses: settings
                .connects_per_address
                .map(|rate| (rate, Mutex::default())),
            flapping: settings
                .flapping
                .map(|limits| Mutex::new(Flapping::new(limits))),
            banned,
            bans: RwLock::default(),
            large_connects: Arc::default(),
        }
    }

    /// Whether an operator wants nothing to do with an address.
    pub(crate) fn shuts_out(&self, now: Millis, address: IpAddr) -> bool {
        self.bans.read().shut_out(now, address)
    }

    /// Whether a client may try to log in now. One address that floods takes nothing from the others.
    pub(super) fn admits(
        &self,
        now: Millis,
        client_id: &str,
        username: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), ReasonCode> {
        if let (Some((rate, buckets)), Some(address)) = (&self.addresses, address) {
            let mut buckets = buckets.lock();
            if buckets.len() >= MAX_ADDRESSES {
                buckets.retain(|_, bucket| !bucket.is_full(now));
            }
            if buckets.len() >= MAX_ADDRESSES {
                return Err(ReasonCode::ConnectionRateExceeded);
            }
            let bucket = buckets
                .entry(network_of(address))
                .or_insert_with(|| TokenBucket::full(*rate, now));
            if !bucket.try_take(now) {
                return Err(ReasonCode::ConnectionRateExceeded);
            }
        }
        if let Some(connects) = &self.connects
            && !connects.lock().try_take(now)
        {
            return Err(ReasonCode::ConnectionRateExceeded);
        }
        self.welcomes(now, client_id, username, address)
    }

    /// Whether nobody has anything against the client.
    pub(crate) fn welcomes(
        &self,
        now: Millis,
        client_id: &str,
        username: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), ReasonCode> {
        let flaps = self
            .flapping
            .as_ref()
            .is_some_and(|flapping| flapping.lock().is_banned(now, client_id));
        let is_banned = || {
            self.banned.load().holds(client_id, username, address)
                || self.bans.read().hold(now, client_id, username, address)
        };
        if flaps || is_banned() {
            return Err(ReasonCode::Banned);
        }
        Ok(())
    }

    /// A client has gone; true when it is banned for coming and going.
    pub(super) fn left(&self, now: Millis, client_id: &Utf8) -> bool {
        self.flapping
            .as_ref()
            .is_some_and(|flapping| flapping.lock().disconnected(now, client_id))
    }
}

/// Refusals in the log: the first of each reason, and then how many there were, once in a while.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(Mutex<HashMap<ReasonCode, (Millis, u64)>>);

/// Between two lines about the same reason.
const LOG_EVERY: Millis = 10_000;

impl RefusalLog {
    /// How many refusals were not logged since the last line; `None` when it is too early for another.
    pub(super) fn line(&self, now: Millis, reason: ReasonCode) -> Option<u64> {
        let mut reasons = self.0.lock();
        match reasons.get_mut(&reason) {
            Some((at, unsaid)) if now < *at + LOG_EVERY => {
                *unsaid += 1;
                None
            }
            Some((at, unsaid)) => {
                *at = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                reasons.insert(reason, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 1,
        burst: 2,
    };

    #[test]
    fn an_address_that_floods_takes_nothing_from_the_others() {
        let settings = LimitSettings {
            connects: Some(Rate {
                per_second: 1,
                burst: 4,
            }),
            connects_per_address: Some(RATE),
            ..LimitSettings::default()
        };
        let entrance = Entrance::new(&settings, Arc::default(), 0);
        let from = |now, address: &str| entrance.admits(now, "c", None, address.parse().ok());
        let full = Err(ReasonCode::ConnectionRateExceeded);
        assert_eq!([0; 2].map(|now| from(now, "10.0.0.1")), [Ok(()); 2]);
        assert_eq!([0; 9].map(|now| from(now, "10.0.0.1")), [full; 9]);
        assert_eq!([0; 2].map(|now| from(now, "2001:db8::1")), [Ok(()); 2]);
        // Another machine of the same household; and then all together are too many.
        assert_eq!(from(0, "2001:db8::2"), full);
        assert_eq!(from(0, "10.0.0.2"), full);
        assert_eq!(from(1000, "10.0.0.2"), Ok(()));
    }

    #[test]
    fn refusals_are_logged_at_once_and_then_counted() {
        let log = RefusalLog::default();
        assert_eq!(log.line(0, ReasonCode::Banned), Some(0));
        assert_eq!(log.line(1, ReasonCode::Banned), None);
        assert_eq!(log.line(2, ReasonCode::NotAuthorized), Some(0));
        assert_eq!(log.line(9_999, ReasonCode::Banned), None);
        assert_eq!(log.line(10_000, ReasonCode::Banned), Some(2));
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        assert!(Rates::new(&ClientLimits::default(), 0).is_none());
        let limits = ClientLimits {
            messages: Some(RATE),
            ..ClientLimits::default()
        };
        let mut rates = Rates::new(&limits, 0).unwrap();
        assert_eq!(
            [true, false, true].map(|publish| rates.charge(0, publish, 9)),
            [0; 3]
        );
        assert_eq!(rates.charge(0, true, 9), 1000);
    }
}
