//! CONNECT packets of strangers that are larger than most: how many are in memory at a time.
//!
//! Whoever has begun one and does not go on with it loses its place as soon as another waits for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ahash::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::core::network::network_of;

/// A CONNECT with identifier, Will and token is hardly ever larger.
pub(crate) const SMALL_CONNECT: usize = 16 * 1024;

/// How many that are larger are held in memory at a time, each up to the maximum packet size.
const AT_A_TIME: usize = 64;

/// How many of them one address has: who begins many and sends no more keeps nobody waiting elsewhere.
const OF_ONE_ADDRESS: usize = 8;

/// While others wait, one may stay for so long, and longer by what has come of it since, at so many bytes a second.
const STAYS: Duration = Duration::from_secs(2);
const BYTES_PER_S: u32 = 64 * 1024;

/// Who may send a CONNECT larger than [`SMALL_CONNECT`] now.
#[derive(Debug)]
pub(crate) struct LargeConnects {
    all: Arc<Semaphore>,
    /// For each address that has some, or waits for them.
    addresses: Mutex<HashMap<IpAddr, Share>>,
    /// Connections that have their part of what their address has, and no place.
    waiting: AtomicUsize,
    /// Somebody has begun to wait.
    wanted: Notify,
}

impl Default for LargeConnects {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_A_TIME)),
            addresses: Mutex::default(),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
        }
    }
}

/// What one address has of them.
#[derive(Debug)]
struct Share {
    free: Arc<Semaphore>,
    /// Connections that have a part of it or wait for one.
    connections: usize,
}

/// One that is read, or looked at. The next one may come when this is dropped.
#[derive(Debug)]
pub(crate) struct LargeConnect {
    _of_all: OwnedSemaphorePermit,
    of_address: Option<(OwnedSemaphorePermit, Member)>,
    all: Arc<LargeConnects>,
    since: Instant,
    /// How many bytes have come since.
    bytes: usize,
}

/// A connection that is counted with its address.
#[derive(Debug)]
struct Member {
    all: Arc<LargeConnects>,
    network: IpAddr,
}

impl LargeConnects {
    /// Waits until one more may come from this address.
    pub(crate) async fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<LargeConnect> {
        let of_address = match address {
            Some(address) => {
                let (free, member) = self.join(network_of(address));
                self.wanted.notify_waiters();
                Some((free.acquire_owned().await.ok()?, member))
            }
            None => None,
        };
        let of_all = match Arc::clone(&self.all).try_acquire_owned() {
            Ok(free) => free,
            Err(_) => {
                let _waits = Waits::of(self);
                Arc::clone(&self.all).acquire_owned().await.ok()?
            }
        };
        Some(LargeConnect {
            _of_all: of_all,
            of_address,
            all: Arc::clone(self),
            since: Instant::now(),
            bytes: 0,
        })
    }

    /// How many more may come now.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all.available_permits()
    }

    fn join(self: &Arc<Self>, network: IpAddr) -> (Arc<Semaphore>, Member) {
        let mut addresses = self.addresses.lock();
        let share = addresses.entry(network).or_insert_with(|| Share {
            free: Arc::new(Semaphore::new(OF_ONE_ADDRESS)),
            connections: 0,
        });
        share.connections += 1;
        let member = Member {
            all: Arc::clone(self),
            network,
        };
        (Arc::clone(&share.free), member)
    }
}

impl LargeConnect {
    /// More of it has come.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Resolves when another waits and this one has stayed for long enough.
    pub(crate) async fn gives_way(&self) {
        sleep_until(self.may_stay_until()).await;
        loop {
            let mut wanted = std::pin::pin!(self.all.wanted.notified());
            // Registered before the look, so that one who comes in between is not missed.
            wanted.as_mut().enable();
            if self.is_wanted() {
                return;
            }
            wanted.await;
        }
    }

    fn may_stay_until(&self) -> Instant {
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1) * bytes / BYTES_PER_S;
        self.since + STAYS + earned
    }

    /// Whether another would have this place.
    fn is_wanted(&self) -> bool {
        let of_address = || {
            let (_, member) = self.of_address.as_ref()?;
            let addresses = self.all.addresses.lock();
            Some(addresses.get(&member.network)?.connections > OF_ONE_ADDRESS)
        };
        self.all.waiting.load(Relaxed) > 0 || of_address() == Some(true)
    }
}

/// A connection that waits for a place.
struct Waits<'a>(&'a LargeConnects);

impl<'a> Waits<'a> {
    fn of(all: &'a LargeConnects) -> Self {
        all.waiting.fetch_add(1, Relaxed);
        all.wanted.notify_waiters();
        Self(all)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut addresses = self.all.addresses.lock();
        if let Some(share) = addresses.get_mut(&self.network) {
            share.connections -= 1;
            if share.connections == 0 {
                addresses.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn one_address_has_its_share_and_leaves_the_rest_to_others() {
        let all = Arc::<LargeConnects>::default();
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let mut first = Vec::new();
        for _ in 0..OF_ONE_ADDRESS {
            first.push(all.admit(address(1)).await.unwrap());
        }
        let mut more = pin!(all.admit(address(1)));
        assert!(futures_util::poll!(&mut more).is_pending());
        let other = all.admit(address(2)).await.unwrap();
        assert_eq!(all.free(), AT_A_TIME - OF_ONE_ADDRESS - 1);
        first.pop();
        first.push(more.await.unwrap());
        drop((first, other));
        assert_eq!(all.free(), AT_A_TIME);
        assert!(all.addresses.lock().is_empty());
    }

    #[tokio::test]
    async fn one_that_has_stayed_for_long_is_wanted_when_another_waits_for_it() {
        let all = Arc::<LargeConnects>::default();
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let mut of_one = Vec::new();
        for _ in 0..OF_ONE_ADDRESS {
            of_one.push(all.admit(address(1)).await.unwrap());
        }
        let of_other = all.admit(address(2)).await.unwrap();
        let mut first = of_one.pop().unwrap();
        first.since -= STAYS;
        {
            let mut gives_way = pin!(first.gives_way());
            assert!(futures_util::poll!(&mut gives_way).is_pending());
            let mut second = pin!(all.admit(address(1)));
            assert!(futures_util::poll!(&mut second).is_pending());
            gives_way.await;
            assert!(!of_other.is_wanted(), "nobody is kept waiting by it");
        }
        assert!(!first.is_wanted(), "that one has given up");
        let mut rest = Vec::new();
        for number in 0..AT_A_TIME - OF_ONE_ADDRESS - 1 {
            let address = IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
            rest.push(all.admit(Some(address)).await.unwrap());
        }
        let mut late = pin!(all.admit(address(3)));
        assert!(futures_util::poll!(&mut late).is_pending());
        assert!(first.is_wanted() && of_other.is_wanted());
        drop(first);
        assert!(late.await.is_some());
        assert_eq!(all.waiting.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn who_sends_may_stay_longer() {
        let mut large = Arc::<LargeConnects>::default().admit(None).await.unwrap();
        assert_eq!(large.may_stay_until(), large.since + STAYS);
        large.came(BYTES_PER_S as usize / 2);
        large.came(BYTES_PER_S as usize);
        let earned = Duration::from_millis(1500);
        assert_eq!(large.may_stay_until(), large.since + STAYS + earned);
    }

    #[tokio::test]
    async fn there_are_never_more_than_so_many_and_who_gives_up_leaves_nothing_behind() {
        let all = Arc::<LargeConnects>::default();
        let mut held = Vec::new();
        for number in 0..u32::try_from(AT_A_TIME).unwrap() {
            let address = IpAddr::from(number.to_be_bytes());
            held.push(all.admit(Some(address)).await.unwrap());
        }
        {
            let mut late = pin!(all.admit(Some(IpAddr::from([192, 0, 2, 1]))));
            assert!(futures_util::poll!(&mut late).is_pending());
        }
        assert_eq!(all.addresses.lock().len(), AT_A_TIME);
        drop(held);
        assert!(all.addresses.lock().is_empty());
        assert_eq!(all.free(), AT_A_TIME);
    }
}
