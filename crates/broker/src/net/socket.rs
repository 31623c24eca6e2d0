//! Sockets that listen: TCP, and unix sockets in the file system.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// Connections that the system completes before they are accepted: a burst of thousands must not wait for a resend.
const BACKLOG: u32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// Over the network.
    Tcp(TcpListener),
    /// In the file system; the file goes with the value.
    Unix(UnixSocket),
}

/// A unix socket and its file.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// A connection that was accepted.
pub(crate) enum Accepted {
    /// With the client's address.
    Tcp(TcpStream, SocketAddr),
    /// From the same machine.
    Unix(UnixStream),
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
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
        socket.bind(address)?;
        socket.listen(BACKLOG).map(Self::Tcp)
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
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok(Accepted::Unix(stream))
            }
        }
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
