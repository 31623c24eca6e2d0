//! What other threads know of a loop: where to leave word for it, and how to wake it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use parking_lot::{Mutex, RwLock};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use tokio::sync::oneshot;

use super::Doorkeeper;
use super::core::Running;

/// Among the events of the loop's epoll: somebody has left word.
pub(super) const BELL: u64 = u64::MAX;

/// What a loop has of the system.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// The sockets that the loop waits for.
    pub(super) epoll: OwnedFd,
    bell: OwnedFd,
}

/// A loop as others see it.
#[derive(Debug)]
pub(crate) struct Home {
    /// Tells loops apart.
    pub(super) id: u64,
    /// `None` when the loop has ended: whoever still knows of it keeps nothing of the system.
    descriptors: RwLock<Option<Arc<Descriptors>>>,
    inbox: Mutex<Inbox>,
    has_mail: AtomicBool,
    asleep: AtomicBool,
    /// How busy the loop was lately, in thousandths.
    pub(super) busy: AtomicU32,
    /// When that was measured, as alarms have it.
    pub(super) busy_until: AtomicU64,
    /// Connections that other loops have given to this one.
    pub(super) adopted: AtomicU64,
}

/// Word left for a loop.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Connections that want to be polled.
    pub(super) woken: Vec<u64>,
    /// What else it is to do.
    pub(super) orders: Vec<Order>,
    /// The loop has ended: nobody reads this any more.
    closed: bool,
}

/// What a loop can be told to do.
pub(super) enum Order {
    /// Accept connections.
    Listen {
        id: u64,
        socket: OwnedFd,
        doorkeeper: Arc<dyn Doorkeeper>,
        /// Dropped when the loop no longer listens.
        closed: oneshot::Sender<()>,
    },
    /// Close a listening socket.
    Unlisten(u64),
    /// Serve a connection that another loop has accepted.
    Serve(OwnedFd, SocketAddr, Arc<dyn Doorkeeper>),
    /// Go on with a connection that another loop has served until now.
    Adopt(Running),
    /// A connection is back that has taken its thread away from the loop.
    Return(Running),
    /// A connection has ended on a thread that it had taken away from the loop.
    Ended(u64),
    /// End with the last connection.
    EndWhenIdle,
    /// End with all connections.
    End,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

/// A number that nothing else has.
pub(super) fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Home {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Each ring is an edge of its own: the count is never read.
        let interest = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), interest)?;
        // Where the system has no such call, it is better known now.
        let mut events = Vec::with_capacity(1);
        epoll::wait(
            &epoll,
            spare_capacity(&mut events),
            Some(&Timespec::default()),
        )?;
        Ok(Self {
            id: next_id(),
            descriptors: RwLock::new(Some(Arc::new(Descriptors { epoll, bell }))),
            inbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            busy: AtomicU32::new(0),
            busy_until: AtomicU64::new(0),
            adopted: AtomicU64::new(0),
        })
    }

    /// What the loop has of the system.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn open(&self) -> io::Result<Arc<Descriptors>> {
        let descriptors = self.descriptors.read().clone();
        descriptors.ok_or_else(|| io::Error::other("the event loop has ended"))
    }

    /// Leaves an order. It comes back if the loop has ended.
    pub(super) fn order(&self, order: Order) -> Result<(), Order> {
        {
            let mut inbox = self.inbox.lock();
            if inbox.closed {
                return Err(order);
            }
            inbox.orders.push(order);
        }
        self.ring();
        Ok(())
    }

    /// Has a connection polled.
    pub(super) fn wake(&self, token: u64) {
        {
            let mut inbox = self.inbox.lock();
            if inbox.closed {
                return;
            }
            inbox.woken.push(token);
        }
        self.ring();
    }

    fn ring(&self) {
        self.has_mail.store(true, Ordering::Relaxed);
        // Either the loop sees the mail before it sleeps, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::Relaxed) {
            // It can fail only when the bell has rung 2^64 times.
            if let Some(Descriptors { bell, .. }) = self.descriptors.read().as_deref() {
                let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
            }
        }
    }

    /// The loop is about to sleep; false when it must not, because there is mail.
    pub(super) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may = !self.has_mail.load(Ordering::Relaxed);
        if !may {
            self.asleep.store(false, Ordering::Relaxed);
        }
        may
    }

    /// The loop is awake.
    pub(super) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Takes what was left, into buffers that are empty.
    pub(super) fn take_mail(&self, into: &mut Inbox) -> bool {
        if !self.has_mail.load(Ordering::Relaxed) {
            return false;
        }
        self.has_mail.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut inbox = self.inbox.lock();
        std::mem::swap(&mut inbox.woken, &mut into.woken);
        std::mem::swap(&mut inbox.orders, &mut into.orders);
        true
    }

    /// The loop ends, unless there is an order; whatever is left later comes back.
    pub(super) fn close_if_idle(&self) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.closed |= inbox.orders.is_empty();
        inbox.closed
    }

    /// The loop ends: gives the orders that it will not carry out; whatever is left later comes back.
    pub(super) fn close(&self) -> Vec<Order> {
        *self.descriptors.write() = None;
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        inbox.woken.clear();
        std::mem::take(&mut inbox.orders)
    }
}

#[cfg(test)]
impl Home {
    /// Whether the loop has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.inbox.lock().closed
    }
}
