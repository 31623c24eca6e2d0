//! The end of a connection: what the client has said before it counts, and it is told why.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::timeout;
use weir_mqtt::{ProtocolVersion, codec};

use super::{Connection, STEP_BYTES};
use crate::core::Millis;
use crate::driver::client::Leave;
use crate::driver::slices::{Left, in_slices};
use crate::net::wire::{TimeOf, Wire};
use crate::stats::CloseReason;

/// How long a client gets to read the last words before the socket is closed.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// When a connection has broken in writing, the end of what was sent before is waited for so long.
const LAST_WAIT_MS: Millis = 100;

/// What has come before the end is handled for at least so long.
const LAST_MS: Millis = 1000;

/// How much more of such a client is read.
const LINGER_BYTES: usize = 1 << 20;

/// The last rounds of a connection.
pub(super) struct Last {
    pub(super) leave: Leave,
    /// Nothing can be written any more.
    is_cut_off: bool,
    /// The end is near if nothing comes.
    waits: bool,
    pub(super) rounds: usize,
    /// When what is held is not worth the wait any more.
    pub(super) until: Millis,
}

impl Last {
    pub(super) fn of(leave: Leave, now: Millis) -> Self {
        Self {
            leave,
            is_cut_off: false,
            waits: false,
            rounds: 0,
            until: now.saturating_add(LAST_MS),
        }
    }
}

impl<S> Connection<S>
where
    S: Wire + Send,
{
    /// The client has left, or is to leave.
    pub(super) async fn end(mut self: Box<Self>, leave: Leave) {
        self.finish_what_was_begun().await;
        if leave.reason == CloseReason::TakenOver {
            self.hear_the_last().await;
        }
        let leave = self.held_goodbye().unwrap_or(leave);
        tracing::debug!(client_id = %self.client.client_id(), reason = leave.reason.name(), "connection ends");
        if let (CloseReason::ProtocolError, Some(code)) = (leave.reason, leave.say) {
            let counters = &self.shared.stats.protocol_errors;
            counters.of(code.as_u8()).add(1);
        }
        let said = self.say_goodbye(leave).await;
        self.client.leave(self.shared.clock.now(), leave.reason);
        let forgotten = self.client.take_forgotten();
        let Self {
            client, mut stream, ..
        } = *self;
        drop(client);
        if let Some(mut forgotten) = forgotten {
            // The client knows meanwhile that this is the end.
            drop(timeout(LINGER, stream.shutdown()).await);
            in_slices(&mut TimeOf(&mut stream), || forgotten.take_out_some()).await;
        }
        if said {
            linger(&mut stream).await;
        } else {
            stream.close().await;
        }
    }

    /// What was begun is not left half done, though nobody may hear the answer.
    async fn finish_what_was_begun(&mut self) {
        if !self.client.is_unfinished() {
            return;
        }
        let (stream, client) = (&mut self.stream, &mut self.client);
        let clock = &self.shared.clock;
        in_slices(&mut TimeOf(stream), || {
            // Where it cannot go on, nothing of it was done.
            client.go_on(clock.now()).unwrap_or(Left::Nothing)
        })
        .await;
        self.client.step_done(self.shared.clock.now());
    }

    /// What was begun may have kept from reading what has come behind it. It is only held.
    async fn hear_the_last(&mut self) {
        if self.heard_all || self.broken.is_some() || self.held.len() >= STEP_BYTES {
            return;
        }
        let mut chunk = vec![0; STEP_BYTES];
        let mut buffer = ReadBuf::new(&mut chunk);
        let read = poll_fn(|cx| {
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
            Poll::Ready(matches!(read, Poll::Ready(Ok(()))))
        });
        if read.await {
            let bytes = buffer.filled();
            self.shared.stats.received_bytes.add(bytes.len() as u64);
            let most = self.shared.settings.max_packet_size;
            let (frames, _, _) = self.unread.take_whole(bytes, most);
            self.held.append(&frames);
        }
    }

    /// `[MQTT-3.1.2-10]` A DISCONNECT that has come takes the Will away, though what stands before it was not handled.
    fn held_goodbye(&mut self) -> Option<Leave> {
        let version = self.client.version();
        let frame = self.held.disconnect(version)?;
        let len = frame.len();
        let packet = codec::decode(frame, version).ok()?;
        let said = self.handle_packet(self.shared.clock.now(), packet, len);
        said.err()
            .filter(|leave| leave.reason == CloseReason::Normal)
    }

    /// The connection is to end. What has come by now still counts, and a DISCONNECT among it takes the Will away: so
    /// there are some rounds more if there is something, or how it ends.
    pub(super) fn goes_on_after(&mut self, leave: Leave) -> Result<(), Leave> {
        let may_hear_more = !self.heard_all || !self.held.is_empty();
        let broke = leave.reason == CloseReason::TcpClosed && may_hear_more;
        match &mut self.last {
            None if broke => {
                let last = Last::of(leave, self.shared.clock.now());
                self.last = Some(Last {
                    is_cut_off: true,
                    ..last
                });
                Ok(())
            }
            Some(last) if broke && !last.is_cut_off => {
                last.is_cut_off = true;
                Ok(())
            }
            Some(last) if leave.reason != CloseReason::Normal => Err(last.leave),
            _ => Err(leave),
        }
    }

    /// Nothing is left to do. What a client sent before its connection broke may yet be on its way through the system.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        let Some(last) = &mut self.last else {
            return Poll::Pending;
        };
        let (leave, mut until) = (last.leave, last.until);
        // What stands behind something that was begun counts if there is time for it.
        if !self.client.is_unfinished() {
            if !last.is_cut_off {
                return Poll::Ready(leave);
            }
            let now = self.shared.clock.now();
            until = now.saturating_add(LAST_WAIT_MS);
        }
        if !std::mem::replace(&mut last.waits, true) {
            self.set_alarm(until);
        }
        self.alarm.poll(cx).map(|()| leave)
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.is_cut_off)
    }

    /// Writes what the socket takes without waiting: the outbox and, to an MQTT 5 client, DISCONNECT.
    async fn say_goodbye(&mut self, leave: Leave) -> bool {
        if leave.reason == CloseReason::TcpClosed {
            return false;
        }
        let mut last = Vec::new();
        for disconnect in self.client.last_words(leave).into_iter().flatten() {
            let encoded = disconnect.encode(ProtocolVersion::V5, &mut last);
            // [MQTT-3.1.2-24]
            if encoded.is_ok() && last.len() <= self.client.max_packet_size() {
                break;
            }
            last.clear();
        }
        self.output_waits = true;
        let mut written = 0;
        poll_fn(|cx| {
            self.client.poll_ready(cx);
            if self.client.is_written_to() {
                return Poll::Pending;
            }
            // Nobody else writes before or after the last word.
            self.client.share_socket(None);
            if self.write(cx).is_err() || !self.batch.is_empty() {
                return Poll::Ready(());
            }
            while written < last.len() {
                match Pin::new(&mut self.stream).poll_write(cx, &last[written..]) {
                    Poll::Ready(Ok(n)) if n > 0 => written += n,
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
        written > 0
    }
}

/// Closes for writing and lets the client read what was said: closing at once would reset the connection, and the
/// last packet with it, if something of the client is unread.
pub(in crate::net) async fn linger<S>(stream: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let rest = async {
        stream.shutdown().await?;
        let mut chunk = [0; 4096];
        let mut unread = 0;
        while unread < LINGER_BYTES {
            match stream.read(&mut chunk).await? {
                0 => break,
                n => unread += n,
            }
            // A client that goes on sending must not keep others waiting.
            yield_now().await;
        }
        io::Result::Ok(())
    };
    // Whoever has not read it by now will not.
    drop(timeout(LINGER, rest).await);
}
