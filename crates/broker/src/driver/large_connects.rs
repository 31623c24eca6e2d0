//! CONNECT packets of strangers that are larger than most: how many are in memory at a time.
//!
//! Whoever has begun one and does not go on with it loses its place as soon as another waits for it.

use std::net::IpAddr;
use std::sync::Arc;
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
    /// Connections that have their part of what their address has, and no place.
    claims: Mutex<Claims>,
    /// For each address that has some, or waits for them.
    addresses: Mutex<HashMap<IpAddr, Share>>,
    /// Somebody has begun to wait.
    wanted: Notify,
}

impl Default for LargeConnects {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_A_TIME)),
            claims: Mutex::default(),
            addresses: Mutex::default(),
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
    /// Those that wait.
    claims: Claims,
}

/// Who waits, and for how many of them nobody has given way yet: for one that waits one gives way, not all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Claims {
    waiting: usize,
    open: usize,
}

impl Claims {
    fn begin(&mut self) {
        self.waiting += 1;
        self.open += 1;
    }

    /// One has a place now, whoever made it free, or has given up.
    fn end(&mut self) {
        self.waiting -= 1;
        self.open = self.open.min(self.waiting);
    }

    /// Gives way for one of them, if there is one for whom nobody has.
    fn take(&mut self) -> bool {
        let is_open = self.open > 0;
        self.open -= usize::from(is_open);
        is_open
    }
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
                let part = self.place(free, Some(member.network)).await?;
                Some((part, member))
            }
            None => None,
        };
        let of_all = self.place(Arc::clone(&self.all), None).await?;
        Some(LargeConnect {
            _of_all: of_all,
            of_address,
            all: Arc::clone(self),
            since: Instant::now(),
            bytes: 0,
        })
    }

    /// One that is free, among all or of one network. Whoever has to wait claims that another gives way.
    async fn place(
        &self,
        free: Arc<Semaphore>,
        of: Option<IpAddr>,
    ) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&free).try_acquire_owned() {
            return Some(place);
        }
        let _waits = Waits::of(self, of);
        free.acquire_owned().await.ok()
    }

    /// Changes the claims among all, or of one network.
    fn claims<T>(&self, of: Option<IpAddr>, change: impl FnOnce(&mut Claims) -> T) -> Option<T> {
        match of {
            None => Some(change(&mut self.claims.lock())),
            Some(network) => {
                let mut addresses = self.addresses.lock();
                let share = addresses.get_mut(&network)?;
                Some(change(&mut share.claims))
            }
        }
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
            claims: Claims::default(),
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

    /// Resolves when another waits, this one has stayed for long enough, and no other gives way instead.
    pub(crate) async fn gives_way(&self) {
        let until = self.may_stay_until();
        if Instant::now() < until {
            sleep_until(until).await;
        }
        loop {
            let mut wanted = std::pin::pin!(self.all.wanted.notified());
            // Registered before the look, so that one who comes in between is not missed.
            wanted.as_mut().enable();
            if self.is_claimed() {
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

    /// Whether another is to have this place, and this one's part of what its address has another of that address. Such
    /// claims are met with that.
    fn is_claimed(&self) -> bool {
        let network = self.of_address.as_ref().map(|(_, member)| member.network);
        let of_address = network.and_then(|network| self.all.claims(Some(network), Claims::take));
        let of_all = self.all.claims(None, Claims::take);
        of_address == Some(true) || of_all == Some(true)
    }
}

/// A connection that waits for a place.
struct Waits<'a> {
    all: &'a LargeConnects,
    /// For a part of what a network has, or for a place among all.
    of: Option<IpAddr>,
}

impl<'a> Waits<'a> {
    fn of(all: &'a LargeConnects, of: Option<IpAddr>) -> Self {
        all.claims(of, Claims::begin);
        all.wanted.notify_waiters();
        Self { all, of }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.all.claims(self.of, Claims::end);
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

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_address_has_its_share_and_leaves_the_rest_to_others() {
        let all = Arc::<LargeConnects>::default();
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

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    /// As many of one address as it may have, all of which have stayed for long.
    async fn all_of(all: &Arc<LargeConnects>, last: u8) -> Vec<LargeConnect> {
        let mut held = Vec::new();
        for _ in 0..OF_ONE_ADDRESS {
            let mut one = all.admit(address(last)).await.unwrap();
            one.since -= STAYS;
            held.push(one);
        }
        held
    }

    /// The number of those that give way now.
    fn give_way(held: &[LargeConnect]) -> usize {
        let give_way = |one: &&LargeConnect| one.gives_way().now_or_never().is_some();
        held.iter().filter(give_way).count()
    }

    #[tokio::test]
    async fn for_each_that_waits_one_gives_way_of_its_address() {
        let all = Arc::<LargeConnects>::default();
        let (of_one, of_other) = (all_of(&all, 1).await, all_of(&all, 2).await);
        assert_eq!(give_way(&of_one), 0);
        {
            let mut second = pin!(all.admit(address(1)));
            assert!(futures_util::poll!(&mut second).is_pending());
            assert_eq!(give_way(&of_other), 0, "nobody is kept waiting by it");
            assert_eq!(give_way(&of_one), 1);
            let mut third = pin!(all.admit(address(1)));
            assert!(futures_util::poll!(&mut third).is_pending());
            assert_eq!(give_way(&of_one), 1);
        }
        let claims = all.addresses.lock().values().next().unwrap().claims;
        assert_eq!(claims, Claims::default());
        {
            let mut late = pin!(all.admit(address(1)));
            assert!(futures_util::poll!(&mut late).is_pending());
        }
        assert_eq!(give_way(&of_one), 0, "that one has given up");
    }

    #[tokio::test]
    async fn who_waits_is_told_of_as_soon_as_it_does() {
        let all = Arc::<LargeConnects>::default();
        let mut held = all_of(&all, 1).await;
        let first = held.pop().unwrap();
        let mut gives_way = pin!(first.gives_way());
        assert!(futures_util::poll!(&mut gives_way).is_pending());
        let mut second = pin!(all.admit(address(1)));
        assert!(futures_util::poll!(&mut second).is_pending());
        gives_way.await;
    }

    #[tokio::test]
    async fn for_each_that_waits_one_gives_way_of_all() {
        let all = Arc::<LargeConnects>::default();
        let mut held = Vec::new();
        for last in 0..u8::try_from(AT_A_TIME / OF_ONE_ADDRESS).unwrap() {
            held.append(&mut all_of(&all, last).await);
        }
        let mut late = pin!(all.admit(address(100)));
        assert!(futures_util::poll!(&mut late).is_pending());
        assert_eq!(give_way(&held), 1);
        // Its place is free, and the other does not know yet.
        held.pop();
        assert_eq!(give_way(&held), 0);
        let mut later = pin!(all.admit(address(101)));
        assert!(futures_util::poll!(&mut later).is_pending());
        assert!(late.await.is_some());
        assert_eq!(give_way(&held), 1);
        held.pop();
        assert!(later.await.is_some());
        assert_eq!(*all.claims.lock(), Claims::default());
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
