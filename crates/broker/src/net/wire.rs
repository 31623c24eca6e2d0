//! What a connection stands on: bytes in, bytes out, and where it can be had a way for others to write.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::connection::LINGER;
use super::stream::Stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Bytes in, bytes out.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// A way to write from outside, for transports that are no more than a socket.
    fn writer(&self) -> Option<SocketWriter> {
        None
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

/// A socket's side for writing, shared by all who have something for it.
#[derive(Clone, Debug)]
pub(crate) struct SocketWriter(Arc<OwnedWriteHalf>);

impl SocketWriter {
    /// Whether both are the same socket.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream: &TcpStream = (*self.0).as_ref();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl<S: Stream + ?Sized> Wire for Box<S> {}

/// A TCP socket that its connection reads and everyone may write to.
#[derive(Debug)]
pub(crate) struct Tcp {
    reader: OwnedReadHalf,
    /// `None` once it is shut down.
    writer: Option<SocketWriter>,
}

impl Tcp {
    /// A socket that was accepted.
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer: Some(SocketWriter(Arc::new(writer))),
        }
    }
}

impl Wire for Tcp {
    fn writer(&self) -> Option<SocketWriter> {
        self.writer.clone()
    }

    async fn close(self) {
        // To shut it down first would be one system call more.
        if let Some(writer) = self.writer.and_then(|writer| Arc::into_inner(writer.0)) {
            writer.forget();
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.writer {
            Some(writer) => writer.poll_write(cx, || writer.try_write(bytes)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &self.writer {
            Some(writer) => writer.poll_write(cx, || writer.try_write_vectored(slices)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The last of those who may write shuts it down.
        self.writer = None;
        Poll::Ready(Ok(()))
    }
}
