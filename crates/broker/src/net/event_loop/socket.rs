//! A TCP socket on a loop.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core;
use super::task::{ARMED, Alarm, CLOSED, NEWCOMER, Place, READABLE, Task, WRITABLE};
use crate::core::subscriptions::SessionKey;
use crate::net::wire::{SocketWriter, Wire};

/// A TCP socket that its connection reads and everyone may write to. Only the connection's own task may poll it: that
/// is the one which the loop polls when something happens to the socket.
#[derive(Debug)]
pub(crate) struct LoopSocket {
    socket: SocketWriter,
    task: Arc<Task>,
}

impl LoopSocket {
    pub(super) fn new(socket: SocketWriter, task: Arc<Task>) -> Self {
        Self { socket, task }
    }

    /// The socket itself.
    pub(crate) fn fd(&self) -> &OwnedFd {
        self.socket.fd()
    }

    fn write(&self, write: impl Fn() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        // Taken away before the try: room that comes meanwhile sets it again.
        if self.task.clear(WRITABLE) & WRITABLE == 0 {
            return Poll::Pending;
        }
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.watch_for_room();
                Poll::Pending
            }
            result => {
                self.task.set(WRITABLE);
                Poll::Ready(result)
            }
        }
    }
}

impl LoopSocket {
    /// Most sockets always have room, so a loop watches only those that once had none. What has room by the time that
    /// the watch begins is reported at once.
    fn watch_for_room(&self) {
        if self.task.set(ARMED) & ARMED != 0 {
            return;
        }
        let Place { home, token } = self.task.place();
        let data = epoll::EventData::new_u64(token);
        let watched = home.open().and_then(|descriptors| {
            Ok(epoll::modify(
                &descriptors.epoll,
                self.fd(),
                data,
                interest(true),
            )?)
        });
        if let Err(error) = watched {
            tracing::error!(%error, "cannot watch a socket");
        }
    }
}

/// What a loop waits for: edges, so that nothing is to be changed afterwards.
pub(super) fn interest(armed: bool) -> epoll::EventFlags {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    if armed {
        flags | epoll::EventFlags::OUT
    } else {
        flags
    }
}

impl Wire for LoopSocket {
    fn writer(&self) -> Option<SocketWriter> {
        Some(self.socket.clone())
    }

    fn alarm(&self) -> Alarm {
        Alarm::Loop(Arc::clone(&self.task))
    }

    fn has_time(&self) -> bool {
        core::has_time_for(&self.task)
    }

    fn waits_no_more(&self) {
        core::waits_no_more(&self.task);
    }

    fn has_read_all(&self) -> bool {
        !self.task.has(READABLE | CLOSED)
    }

    fn admitted(&self, session: SessionKey) {
        self.task.session.store(session, Ordering::Relaxed);
        self.task.clear(NEWCOMER);
    }

    /// To shut it down first would be one system call more.
    async fn close(self) {}
}

impl AsyncRead for LoopSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Taken away before the try, as in writing.
        if self.task.clear(READABLE) & (READABLE | CLOSED) == 0 {
            return Poll::Pending;
        }
        loop {
            let free = buffer.initialize_unfilled();
            let wanted = free.len();
            match recv(self.socket.fd(), free, RecvFlags::empty()) {
                Ok((n, _)) => {
                    // Less than was asked for: there is no more, and the next that comes is told anew.
                    if n == wanted || n == 0 {
                        self.task.set(READABLE);
                    }
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Poll::Pending,
                Err(error) => {
                    self.task.set(READABLE);
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }
}

impl AsyncWrite for LoopSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|| self.socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|| self.socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.socket.fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::task::Waker;

    use super::super::home::Home;
    use super::*;

    #[test]
    fn all_is_read_when_less_came_than_was_asked_for_until_more_is_told_of() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (inside, _) = listener.accept().unwrap();
        let home = Arc::new(Home::new().unwrap());
        let task = Arc::new(Task::new(Place { home, token: 1 }));
        let mut socket = LoopSocket::new(SocketWriter::new(inside.into()), Arc::clone(&task));
        let mut read = |happened: u16, room: usize| {
            task.set(happened);
            assert!(!socket.has_read_all());
            let mut bytes = vec![0; room];
            let mut buffer = ReadBuf::new(&mut bytes);
            let mut context = Context::from_waker(Waker::noop());
            let read = Pin::new(&mut socket).poll_read(&mut context, &mut buffer);
            assert!(matches!(read, Poll::Ready(Ok(()))));
            (buffer.filled().len(), socket.has_read_all())
        };
        client.write_all(b"abcdefg").unwrap();
        assert_eq!(read(READABLE, 3), (3, false), "there may be more");
        assert_eq!(read(0, 5), (4, true));
        client.write_all(b"hi").unwrap();
        assert_eq!(read(READABLE, 5), (2, true));
        drop(client);
        assert_eq!(
            read(READABLE | CLOSED, 5),
            (0, false),
            "the end is to be heard"
        );
    }
}
