//! MQTT over WebSocket (RFC 6455, MQTT 5 §6): the bytes of binary frames are a stream like any other.
//!
//! Frames are unwrapped in the reader's own buffer as their bytes come, so a frame of any announced length costs no
//! memory, and an idle connection holds none. One write of the connection is one frame.

pub(crate) mod frame;
pub(crate) mod handshake;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use frame::{CloseCode, End, Reader};

/// The server's end of a WebSocket, after the handshake.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    io: S,
    reader: Reader,
    /// What came together with the client's request.
    early: Vec<u8>,
    writer: Writer,
}

/// What is being written below the payload.
#[derive(Debug, Default)]
struct Writer {
    /// The header of the frame that has begun, and how much of it is left.
    header: [u8; frame::HEADER_MAX],
    header_left: (u8, u8),
    /// Bytes of its payload that are still to be written.
    payload_left: usize,
    /// Whole control frames, which stand between frames of data.
    control: Vec<u8>,
    control_written: usize,
    /// The frame that closes has been put into `control`.
    closing: bool,
}

impl Writer {
    fn header(&self) -> &[u8] {
        let (start, end) = self.header_left;
        &self.header[usize::from(start)..usize::from(end)]
    }

    fn is_between_frames(&self) -> bool {
        self.payload_left == 0 && self.header().is_empty()
    }

    /// A pong, or the frame that closes. A pong that has not begun to be written gives way to the next one, so that a
    /// client that pings and never reads gains nothing.
    fn answer(&mut self, opcode: u8, payload: &[u8]) {
        if self.closing {
            return;
        }
        if self.control_written == 0 {
            self.control.clear();
        }
        // Behind one that is half written there is room for one more.
        if self.control.len() <= frame::CONTROL_MAX + 2 || opcode == frame::CLOSE {
            frame::control(opcode, payload, &mut self.control);
        }
    }

    fn close(&mut self, code: CloseCode) {
        self.answer(frame::CLOSE, &code.as_u16().to_be_bytes());
        self.closing = true;
    }
}

impl<S> WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Continues a connection whose handshake is done, and over which `early` has come already.
    pub(crate) fn new(io: S, early: Vec<u8>) -> Self {
        Self {
            io,
            reader: Reader::default(),
            early,
            writer: Writer::default(),
        }
    }

    /// Writes the control frames that wait, where no frame of data stands half written.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writer = &mut self.writer;
        while writer.is_between_frames() && writer.control_written < writer.control.len() {
            let rest = &writer.control[writer.control_written..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => writer.control_written += n,
            }
        }
        if writer.control_written > 0 && writer.control_written == writer.control.len() {
            (writer.control, writer.control_written) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Fills the buffer with bytes as they come; false at the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let n = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..n]);
            self.early.drain(..n);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
        }
        Poll::Ready(Ok(buf.filled().len() > before))
    }
}

impl<S> AsyncRead for WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        loop {
            match this.reader.ended() {
                None => {}
                // The client's good-bye: what comes after it is nothing.
                Some(End::Closed) => return Poll::Ready(Ok(())),
                Some(End::Failed(code)) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        code.reason(),
                    )));
                }
            }
            if !ready!(this.poll_fill(cx, buf))? {
                return Poll::Ready(Ok(()));
            }
            let len = this
                .reader
                .unwrap(&mut buf.filled_mut()[before..], |opcode, payload| {
                    this.writer.answer(opcode, payload);
                });
            buf.set_filled(before + len);
            match this.reader.ended() {
                // [MQTT-6.0.0-1] A text frame, and everything else that RFC 6455 forbids.
                Some(End::Failed(code)) => this.writer.close(*code),
                Some(End::Closed) => this.writer.closing = true,
                None => {}
            }
            // A client that does not take its pong has more to fear than a late one.
            if let Poll::Ready(written) = this.poll_control(cx) {
                written?;
            }
            if len > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S> AsyncWrite for WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// Whoever was told that a part was written goes on with the rest: a frame announces its length.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        const MOST: usize = 64;
        let this = self.get_mut();
        ready!(this.poll_control(cx))?;
        let writer = &mut this.writer;
        if writer.is_between_frames() {
            if writer.closing {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let len = slices.iter().take(MOST).map(|slice| slice.len()).sum();
            if len == 0 {
                return Poll::Ready(Ok(0));
            }
            writer.header_left = (0, frame::binary_header(len, &mut writer.header));
            writer.payload_left = len;
        }
        loop {
            let mut parts = [IoSlice::new(&[]); MOST + 1];
            let header = writer.header();
            let (header_len, mut left, mut count) = (header.len(), writer.payload_left, 1);
            parts[0] = IoSlice::new(header);
            for slice in slices.iter().take(MOST) {
                let taken = slice.len().min(left);
                parts[count] = IoSlice::new(&slice[..taken]);
                (left, count) = (left - taken, count + 1);
            }
            let n = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, &parts[..count]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_header = n.min(header_len);
            // At most `HEADER_MAX`.
            writer.header_left.0 += u8::try_from(of_header).unwrap_or(u8::MAX);
            if n > of_header {
                writer.payload_left -= n - of_header;
                return Poll::Ready(Ok(n - of_header));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_control(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    /// Says good-bye where that can be said, then ends the connection below.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.writer.closing {
            this.writer.close(CloseCode::Normal);
        }
        // In the middle of a frame of data nothing can be said any more.
        ready!(this.poll_control(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
