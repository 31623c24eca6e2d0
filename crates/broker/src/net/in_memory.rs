//! Connections in memory, driven by hand: no socket, no runtime, and time stands still until it is moved.
//!
//! Whoever drives a [`Net`] says which bytes lie there when a connection looks, how much of its output a client takes,
//! and whose turn it is. So a run can be repeated from its seed.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{EnterGuard, Runtime};

use super::connection::serve;
use super::transport::Transport;
use super::wire::Wire;
use crate::core::Millis;
use crate::driver::admission::Door;
use crate::driver::slices::Left;
use crate::driver::{Clock, Parts, Shared};

/// A broker and every connection to it.
pub(crate) struct Net {
    /// The broker.
    pub(crate) broker: Arc<Shared>,
    passed_ms: Arc<AtomicU64>,
    served: Vec<Served>,
    /// Timers can be made. None fires: nobody drives the runtime.
    _timers: EnterGuard<'static>,
}

/// One connection as the broker sees it.
struct Served {
    /// `None` when it has come to its end.
    task: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    awake: Arc<Awake>,
}

/// Whether a connection's task wants its turn.
struct Awake(AtomicBool);

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn timers() -> &'static Runtime {
    static TIMERS: OnceLock<Runtime> = OnceLock::new();
    TIMERS.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without sockets needs nothing of the machine")
    })
}

impl Net {
    /// A broker without connections.
    pub(crate) fn new(parts: Parts) -> Self {
        let (clock, passed_ms) = Clock::by_hand();
        Self {
            broker: Shared::at(clock, parts),
            passed_ms,
            served: Vec::new(),
            _timers: timers().enter(),
        }
    }

    /// Another broker takes the place of this one, as after a crash: its connections are cut off.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, parts: Parts) {
        self.served.clear();
        let (clock, passed_ms) = Clock::by_hand();
        passed_ms.store(self.passed_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        self.passed_ms = passed_ms;
        self.broker = Shared::at(clock, parts);
    }

    /// Opens a connection. The broker can be ahead of the client by `room` bytes.
    pub(crate) fn dial(&mut self, room: usize) -> Line {
        let line = Line(Arc::new(Mutex::new(Ends {
            room: room.max(1),
            ..Ends::default()
        })));
        let door = Door {
            peer: None,
            local: None,
            listener: "memory".into(),
            transport: Transport::Tcp,
            certificate: None,
            identity: None,
            deadline: tokio::time::Instant::now() + std::time::Duration::from_secs(3600),
            allow_anonymous: true,
            durability: crate::store::Durability::Fsync,
            bridge: None,
        };
        let stream = BrokerEnd(line.clone());
        let served = Served {
            task: Some(Box::pin(serve(
                Arc::clone(&self.broker),
                stream,
                Box::new(door),
            ))),
            awake: Arc::new(Awake(AtomicBool::new(true))),
        };
        self.served.retain(|served| served.task.is_some());
        self.served.push(served);
        line
    }

    /// How many connections the broker serves.
    pub(crate) fn open(&self) -> usize {
        let open = |served: &&Served| served.task.is_some();
        self.served.iter().filter(open).count()
    }

    /// Gives `turns` turns to connections that want one, as `pick` chooses among so many; false when none wanted it.
    pub(crate) fn run(&mut self, turns: usize, mut pick: impl FnMut(usize) -> usize) -> bool {
        let mut moved = false;
        for _ in 0..turns {
            let wants =
                |served: &Served| served.task.is_some() && served.awake.0.load(Ordering::Acquire);
            let ready: Vec<usize> = (0..self.served.len())
                .filter(|at| wants(&self.served[*at]))
                .collect();
            // What nobody cares for is swept up when there is nothing else to do.
            if ready.is_empty() && self.broker.sweep_some() == Left::Nothing {
                return moved;
            }
            moved = true;
            if ready.is_empty() {
                continue;
            }
            let at = ready[pick(ready.len()) % ready.len()];
            let served = &mut self.served[at];
            served.awake.0.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(&served.awake));
            if let Some(task) = &mut served.task
                && task
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_ready()
            {
                served.task = None;
            }
        }
        moved
    }

    /// Milliseconds since the broker's start.
    #[cfg(test)]
    pub(crate) fn passed_ms(&self) -> Millis {
        self.passed_ms.load(Ordering::Relaxed)
    }

    /// Time passes, and what is due is done.
    pub(crate) fn pass(&mut self, ms: Millis) {
        self.passed_ms.fetch_add(ms, Ordering::Relaxed);
        let now = self.broker.clock.now();
        self.broker.do_what_is_due(now);
        self.broker.expire_retained(now);
    }
}

/// The client's end of a connection.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<Ends>>);

/// What is on its way.
#[derive(Default)]
struct Ends {
    to_broker: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// How much may be on its way to the client.
    room: usize,
    /// There was not always room for what the broker had to say.
    was_full: bool,
    client: Client,
    /// The broker says no more.
    broker_gone: bool,
    waiting: [Option<Waker>; 2],
}

/// What the client has done with its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Client {
    #[default]
    There,
    Closed,
    Lost,
}

impl Line {
    /// Bytes to the broker.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut ends = self.0.lock();
        ends.to_broker.extend(bytes);
        if !bytes.is_empty() {
            ends.wake();
        }
    }

    /// At most `most` bytes that the broker has sent.
    pub(crate) fn take(&self, most: usize) -> Vec<u8> {
        let mut ends = self.0.lock();
        let most = most.min(ends.to_client.len());
        if most > 0 {
            ends.wake();
        }
        ends.to_client.drain(..most).collect()
    }

    /// The client closes its end; what it has sent still arrives.
    pub(crate) fn close(&self) {
        self.end(Client::Closed);
    }

    /// The connection breaks; what was on its way is lost.
    pub(crate) fn lose(&self) {
        let mut ends = self.0.lock();
        ends.to_broker.clear();
        ends.to_client.clear();
        drop(ends);
        self.end(Client::Lost);
    }

    fn end(&self, how: Client) {
        let mut ends = self.0.lock();
        if ends.client == Client::There {
            ends.client = how;
        }
        ends.wake();
    }

    /// Whether the client has been too slow for the broker at some time.
    pub(crate) fn was_full(&self) -> bool {
        self.0.lock().was_full
    }

    /// Whether the broker has ended the connection and everything it said was taken.
    pub(crate) fn is_over(&self) -> bool {
        let ends = self.0.lock();
        ends.broker_gone && ends.to_client.is_empty()
    }
}

impl Ends {
    fn wake(&mut self) {
        self.waiting
            .iter_mut()
            .filter_map(Option::take)
            .for_each(Waker::wake);
    }
}

/// The broker's end of a connection.
struct BrokerEnd(Line);

impl Drop for BrokerEnd {
    fn drop(&mut self) {
        self.0.0.lock().broker_gone = true;
    }
}

impl Wire for BrokerEnd {
    fn has_read_all(&self) -> bool {
        let ends = self.0.0.lock();
        ends.to_broker.is_empty() && ends.client == Client::There
    }
}

impl AsyncRead for BrokerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ends = self.0.0.lock();
        // Whoever has read all is told of more, whether it asks again or not.
        ends.waiting[0] = Some(cx.waker().clone());
        if ends.to_broker.is_empty() {
            match ends.client {
                Client::There => return Poll::Pending,
                Client::Closed => return Poll::Ready(Ok(())),
                Client::Lost => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let len = ends.to_broker.len().min(buf.remaining());
        let bytes: Vec<u8> = ends.to_broker.drain(..len).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BrokerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ends = self.0.0.lock();
        match ends.client {
            Client::There => {}
            // Nobody will take it.
            Client::Closed => return Poll::Ready(Ok(bytes.len())),
            Client::Lost => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        let len = bytes.len().min(ends.room - ends.to_client.len());
        ends.was_full |= len < bytes.len();
        if len == 0 && !bytes.is_empty() {
            ends.waiting[1] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ends.to_client.extend(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.0.lock().broker_gone = true;
        Poll::Ready(Ok(()))
    }
}
