//! CONNECT packets of strangers that are larger than most: how many are in memory at a time.

use std::net::IpAddr;
use std::sync::Arc;

use ahash::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::network::network_of;

/// A CONNECT with identifier, Will and token is hardly ever larger.
pub(crate) const SMALL_CONNECT: usize = 16 * 1024;

/// How many that are larger are held in memory at a time, each up to the maximum packet size.
const AT_A_TIME: usize = 64;

/// How many of them one address has: who begins many and sends no more keeps nobody waiting elsewhere.
const OF_ONE_ADDRESS: usize = 8;

/// Who may send a CONNECT larger than [`SMALL_CONNECT`] now.
#[derive(Debug)]
pub(crate) struct LargeConnects {
    all: Arc<Semaphore>,
    /// For each address that has some, or waits for them.
    addresses: Mutex<HashMap<IpAddr, Share>>,
}

impl Default for LargeConnects {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_A_TIME)),
            addresses: Mutex::default(),
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
    _of_address: Option<(OwnedSemaphorePermit, Member)>,
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
                Some((free.acquire_owned().await.ok()?, member))
            }
            None => None,
        };
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(LargeConnect {
            _of_all: of_all,
            _of_address: of_address,
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
