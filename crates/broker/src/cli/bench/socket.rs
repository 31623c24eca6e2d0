//! Sockets that never block, and the wait for any of them: what a thread needs to be ten thousand clients.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with, sockopt,
};

/// What a socket is ready for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub key: usize,
    pub readable: bool,
    pub writable: bool,
}

/// Many sockets, each known by a key, and the wait for what becomes ready.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(1024),
        })
    }

    /// Waits for `socket` from now on; closing it ends that.
    pub(super) fn add(&self, socket: &OwnedFd, key: usize, writable_too: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(
            &self.epoll,
            socket,
            data,
            interest(writable_too),
        )?)
    }

    /// Waits for room to write too, or no longer.
    pub(super) fn change(
        &self,
        socket: &OwnedFd,
        key: usize,
        writable_too: bool,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::modify(
            &self.epoll,
            socket,
            data,
            interest(writable_too),
        )?)
    }

    /// Waits until something is ready, at most `longest`; how many are.
    pub(super) fn wait(&mut self, longest: Duration) -> io::Result<usize> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        let waited = epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        );
        match waited {
            Ok(_) | Err(Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error.into()),
        }
    }

    /// The `index`th of those that are ready.
    pub(super) fn ready(&self, index: usize) -> Ready {
        // Copied out: the kernel's layout leaves them unaligned.
        let epoll::Event { flags, data, .. } = self.events[index];
        let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        Ready {
            key: usize::try_from(data.u64()).expect("a key was a place in memory"),
            readable: flags.intersects(epoll::EventFlags::IN | broken),
            writable: flags.contains(epoll::EventFlags::OUT),
        }
    }
}

fn interest(writable_too: bool) -> epoll::EventFlags {
    if writable_too {
        epoll::EventFlags::IN | epoll::EventFlags::OUT
    } else {
        epoll::EventFlags::IN
    }
}

/// Begins to connect; the socket is writable when that has succeeded or failed.
pub(super) fn begin_connect(
    target: SocketAddr,
    source: Option<Ipv4Addr>,
    receive_buffer: Option<usize>,
) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(bytes) = receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    if let Some(source) = source {
        bind(&socket, &SocketAddrV4::new(source, 0))?;
    }
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The `number`th of `sources` addresses on the loopback interface, 127.0.1.1 and on: one address has some
/// 28,000 ports, and closed connections keep theirs for a minute.
pub(super) fn source_address(number: usize, sources: u8) -> Option<Ipv4Addr> {
    (sources > 0).then(|| {
        let last = u8::try_from(number % usize::from(sources)).unwrap_or(0);
        Ipv4Addr::new(127, 0, 1, 1 + last.min(253))
    })
}

/// Why a connect failed, if it did.
pub(super) fn connect_error(socket: &OwnedFd) -> Option<io::Error> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => None,
        Ok(Err(error)) | Err(error) => Some(error.into()),
    }
}

/// What came of an attempt to read or write.
pub(super) enum Moved {
    /// So many bytes; 0 read: the other side has closed.
    Bytes(usize),
    /// Not now.
    WouldBlock,
}

pub(super) fn read(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Moved> {
    moved(recv(socket, buffer, RecvFlags::empty()).map(|(bytes, _)| bytes))
}

pub(super) fn write(socket: &OwnedFd, bytes: &[u8]) -> io::Result<Moved> {
    moved(send(socket, bytes, SendFlags::NOSIGNAL))
}

fn moved(result: Result<usize, Errno>) -> io::Result<Moved> {
    match result {
        Ok(bytes) => Ok(Moved::Bytes(bytes)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Moved::WouldBlock),
        Err(error) => Err(error.into()),
    }
}

/// Lets this process open many files, and wake when it asked to.
pub(super) fn prepare_process() {
    crate::cli::raise_file_limit();
    // The default slack of 50 µs would be in every paced message.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
}
