//! What a connection stands on: bytes in, bytes out, and where it can be had a way for others to write.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::LINGER;
use super::event_loop::Alarm;
use super::stream::Stream;
use crate::core::subscriptions::SessionKey;
use crate::driver::slices::SpareTime;

/// Bytes in, bytes out.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// A way to write from outside, for transports that are no more than a socket.
    fn writer(&self) -> Option<SocketWriter> {
        None
    }

    /// Wakes the connection's task at a time.
    fn alarm(&self) -> Alarm {
        Alarm::Runtime(None)
    }

    /// Whether there is time now for work that can wait. If not, the connection's task is polled when there is.
    fn has_time(&self) -> bool {
        true
    }

    /// The work for which there was no time is done, or is not wanted any more: what comes next is heard at once.
    fn waits_no_more(&self) {}

    /// The client is let in and has this session: from now on the connection is one of those that newcomers stand behind.
    fn admitted(&self, _session: SessionKey) {}

    /// Whether nothing is left to be read, as far as that is known; the task is polled when more has come.
    fn has_read_all(&self) -> bool {
        false
    }

    /// Nothing more will be read or written.
    fn close(mut self) -> impl Future<Output = ()> + Send
    where
        Self: Sized + Send,
    {
        async move {
            // It is going away either way; what TLS and WebSocket say last must not wait for a peer that never reads.
            drop(timeout(LINGER, self.shutdown()).await);
        }
    }
}

/// The time that a connection has for work that can wait.
pub(super) struct TimeOf<'a, S>(pub(super) &'a mut S);

impl<S: Wire> SpareTime for TimeOf<'_, S> {
    fn is_there(&mut self) -> bool {
        self.0.has_time()
    }

    fn waits_no_more(&mut self) {
        self.0.waits_no_more();
    }
}

thread_local! {
    /// How often this thread has written to a socket, or tried to.
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has written to a socket, or tried to.
pub(super) fn writes() -> u64 {
    WRITES.get()
}

fn count_write() {
    WRITES.set(WRITES.get().wrapping_add(1));
}

/// A TCP socket, shared by all who have something for it.
#[derive(Clone, Debug)]
pub(crate) struct SocketWriter(Arc<OwnedFd>);

impl SocketWriter {
    /// A socket that does not block.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(Arc::new(socket))
    }

    /// The socket itself.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Whether both are the same socket.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        count_write();
        Ok(send(&*self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        count_write();
        let mut nothing = SendAncillaryBuffer::default();
        Ok(sendmsg(
            &*self.0,
            slices,
            &mut nothing,
            SendFlags::NOSIGNAL,
        )?)
    }
}

impl<S: Stream + ?Sized> Wire for Box<S> {}
