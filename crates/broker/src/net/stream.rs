//! Streams that are not plain TCP: one type for all of them, and writes that are done when the socket has the bytes.
//!
//! Only plain TCP has the connection's code made for it; behind TLS or WebSocket a call through a table costs nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A two-way stream of bytes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Any of them.
pub(crate) type AnyStream = Box<dyn Stream>;

/// A stream that buffers what is written, made to say that it is written only when the buffer is empty again.
///
/// Nobody has to flush it. Whoever is told to wait comes again with the same bytes.
#[derive(Debug)]
pub(crate) struct Flushed<S> {
    io: S,
    /// Bytes that are in the buffer and not yet reported as written.
    taken: usize,
}

impl<S> Flushed<S> {
    /// With nothing in its buffer.
    pub(crate) fn new(io: S) -> Self {
        Self { io, taken: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Flushed<S> {
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.taken == 0 {
            this.taken = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        }
        this.poll_taken(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

    use super::*;

    #[tokio::test]
    async fn what_is_written_has_left_the_buffer() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut stream = Flushed::new(BufWriter::new(near));
        let writing = tokio::spawn(async move {
            stream.write_all(b"longer than the pipe").await.unwrap();
            // Nobody has flushed: dropping the buffer loses nothing.
            drop(stream);
        });
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        writing.await.unwrap();
        assert_eq!(all, b"longer than the pipe");
    }
}
