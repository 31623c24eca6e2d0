//! Sockets that listen: TCP, and unix sockets in the file system.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{getsockname, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// Connections that the system completes before they are accepted: a burst of thousands must not wait for a resend.
const BACKLOG: u32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// Over the network.
    Tcp(TcpListening),
    /// In the file system; the file goes with the value.
    Unix(UnixSocket),
}

/// A TCP socket and what need not be asked of it again for each connection.
#[derive(Debug)]
pub struct TcpListening {
    listener: TcpListener,
    options: AcceptOptions,
}

/// What is to be done with each connection that a TCP socket accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptOptions {
    /// The socket's address, unless it listens on all.
    address: Option<SocketAddr>,
    /// Connections have TCP_NODELAY from the listening socket.
    no_delay: bool,
}

/// A unix socket and its file.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// A connection that was accepted.
pub(crate) enum Accepted {
    /// With the client's address and this side's.
    Tcp(TcpStream, SocketAddr, Option<SocketAddr>),
    /// From the same machine.
    Unix(UnixStream),
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(TcpListening::new(listener, false))
    }
}

impl Socket {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is in use or not this machine's.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of the process before may still be in their last minute.
        socket.set_reuseaddr(true)?;
        // Small packets must not wait for the peer's delayed acknowledgements: batching is done before the socket.
        // Accepted connections inherit it.
        let no_delay = cfg!(target_os = "linux") && socket.set_nodelay(true).is_ok();
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListening::new(listener, no_delay)))
    }

    /// Listens in the file system. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// When another process listens there, or there is a file that is no socket.
    pub fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        let is_socket =
            std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        if is_socket {
            let answer = std::os::unix::net::UnixStream::connect(path);
            if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                std::fs::remove_file(path)?;
            }
        }
        let listener = UnixListener::bind(path)?;
        let socket = UnixSocket {
            listener,
            path: path.to_path_buf(),
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self::Unix(socket))
    }

    /// The address, when there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.listener.accept().await?;
                let local = socket.options.apply(&stream);
                Ok(Accepted::Tcp(stream, peer, local))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
        }
    }
}

impl TcpListening {
    fn new(listener: TcpListener, no_delay: bool) -> Self {
        let address = listener.local_addr().ok();
        Self {
            listener,
            options: AcceptOptions {
                address: address.filter(|address| !address.ip().is_unspecified()),
                no_delay,
            },
        }
    }

    /// The socket itself, for who accepts without a runtime.
    pub(crate) fn into_parts(self) -> io::Result<(OwnedFd, AcceptOptions)> {
        Ok((self.listener.into_std()?.into(), self.options))
    }
}

impl AcceptOptions {
    /// Makes a connection what it is to be; gives the address that it came in at.
    pub(crate) fn apply(&self, connection: impl AsFd) -> Option<SocketAddr> {
        if !self.no_delay
            && let Err(error) = sockopt::set_tcp_nodelay(&connection, true)
        {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        self.address
            .or_else(|| SocketAddr::try_from(getsockname(&connection).ok()?).ok())
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // A file that is left is replaced at the next start.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn no_connection_waits_to_fill_its_segments() {
        let own = Socket::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let given = Socket::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
        for socket in [own, given] {
            let address = socket.local_addr().unwrap();
            let _client = TcpStream::connect(address).await.unwrap();
            let Accepted::Tcp(stream, _, local) = socket.accept().await.unwrap() else {
                panic!("a TCP socket gives TCP connections")
            };
            assert!(stream.nodelay().unwrap());
            assert_eq!(local, Some(address));
        }
    }

    #[tokio::test]
    async fn a_unix_socket_comes_and_goes_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mqtt.sock");
        let socket = Socket::unix(&path, 0o640).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(
            Socket::unix(&path, 0o640).is_err(),
            "somebody listens there"
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_file_that_was_left_is_replaced_and_another_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mqtt.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Socket::unix(&path, 0o600).unwrap());
        std::fs::write(&path, "precious").unwrap();
        assert!(Socket::unix(&path, 0o600).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
