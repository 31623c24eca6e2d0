//! The threads that plain TCP connections live on: a socket's readiness polls its connection, and nothing stands between.
//!
//! A connection is a future, as on any runtime; what is saved is what a general runtime needs and a server of small
//! messages does not: a wake for each event, a queue between threads, a timer in a wheel that all threads share.
//! Each loop waits with epoll for its own sockets, polls the connections that something happened to, writes what they
//! left for others ([`flush`](crate::driver::flush)), and waits again.
//!
//! Connections begin on one loop, which serves them all as long as it has time: sharing nothing is cheapest. A loop that
//! is busy while another is not gives it half of the connections that keep it busy ([`balance`]).
//!
//! Everything else (TLS, WebSocket, timers of authenticators, sinks) stays on tokio, whose context every loop has.

mod balance;
mod core;
mod crew;
mod home;
mod listening;
mod socket;
mod task;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::core::Core;
pub(crate) use self::core::give_away;
use self::crew::Crew;
use self::home::{Home, Order};
pub(crate) use self::socket::LoopSocket;
pub(crate) use self::task::Alarm;

/// A connection's whole life.
pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who takes the connections that come in at a listening socket.
pub(crate) trait Doorkeeper: Send + Sync {
    /// Serves a connection; `None` when there is no room for it.
    fn admit(&self, socket: LoopSocket, peer: SocketAddr) -> Option<Serving>;

    /// A connection could not be accepted. The loop tries again after a while when this is true.
    fn failed(&self, error: &io::Error) -> bool;
}

/// The loops of one broker.
#[derive(Debug)]
pub(crate) struct EventLoops {
    homes: Arc<[Arc<Home>]>,
    #[cfg(test)]
    crew: Arc<Crew>,
}

impl EventLoops {
    /// As many loops as `threads`, or as the machine has processors. Must be called on a runtime; the loops end with it.
    ///
    /// # Errors
    /// When the system has no file descriptors or threads for them.
    pub(crate) fn start(
        threads: Option<NonZeroUsize>,
        ending: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let threads = threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        let homes = (0..threads)
            .map(|_| Home::new().map(Arc::new))
            .collect::<io::Result<Arc<[_]>>>()?;
        let runtime = Handle::current();
        let crew = Arc::new(Crew::new(runtime.clone()));
        let end = End {
            homes: Arc::clone(&homes),
            crew: Arc::clone(&crew),
        };
        let (running, mut all_ended) = mpsc::channel(1);
        for home in &*homes {
            let (home, all) = (Arc::clone(home), Arc::clone(&homes));
            let core = Core::new(home, all, Arc::clone(&crew), running.clone())?;
            crew.begin(Box::new(core)).map_err(|none| none.error)?;
        }
        drop(running);
        runtime.spawn(async move {
            ending.await;
            end.when_idle();
            // Dropped with the runtime before that: then the loops end at once.
            let _: Option<()> = all_ended.recv().await;
        });
        Ok(Self {
            homes,
            #[cfg(test)]
            crew,
        })
    }

    /// Accepts what comes in at `socket` until `shutdown` resolves; the socket is closed then.
    pub(crate) async fn listen(
        &self,
        socket: OwnedFd,
        doorkeeper: Arc<dyn Doorkeeper>,
        shutdown: impl Future<Output = ()>,
    ) {
        let (closed, has_closed) = oneshot::channel();
        let (home, id) = (&self.homes[0], home::next_id());
        let listen = Order::Listen {
            id,
            socket,
            doorkeeper,
            closed,
        };
        if home.order(listen).is_err() {
            return;
        }
        let unlisten = Unlisten(home, id);
        tokio::pin!(shutdown, has_closed);
        tokio::select! {
            () = &mut shutdown => {}
            // The loop has ended.
            _ = &mut has_closed => return,
        }
        drop(unlisten);
        // The address is free only then.
        drop(has_closed.await);
    }
}

/// Closes a listening socket when nobody waits for it any more.
struct Unlisten<'home>(&'home Home, u64);

impl Drop for Unlisten<'_> {
    fn drop(&mut self) {
        // A loop that has ended listens nowhere.
        drop(self.0.order(Order::Unlisten(self.1)));
    }
}

/// How long a runtime that ends waits for the loops, which may use its timers until they have ended.
const LAST_STEP: Duration = Duration::from_secs(1);

/// Ends the loops.
struct End {
    homes: Arc<[Arc<Home>]>,
    crew: Arc<Crew>,
}

impl End {
    /// As soon as their connections have.
    fn when_idle(&self) {
        self.homes
            .iter()
            .for_each(|home| drop(home.order(Order::EndWhenIdle)));
    }
}

impl Drop for End {
    /// With their connections, each after the step that it is in.
    fn drop(&mut self) {
        self.homes
            .iter()
            .for_each(|home| drop(home.order(Order::End)));
        if !self.crew.has_left_within(LAST_STEP) {
            tracing::warn!("the threads of connections are still at work after a second");
        }
    }
}

#[cfg(test)]
mod tests;
