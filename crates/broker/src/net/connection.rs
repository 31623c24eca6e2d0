//! One network connection: bytes in, frames cut, packets to the client; its outbox out, many frames with one write.
//!
//! A read goes through a buffer of the thread, so that an idle connection holds none. Writing never stops reading,
//! unless the client takes nothing: then it must read before it may send more.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::task::yield_now;
use tokio::time::timeout;
use weir_mqtt::{ConnAck, Connect, DecodeError, Packet, ProtocolVersion, ReasonCode, codec};

use super::event_loop::Alarm;
use super::exchange::converse;
use crate::core::Millis;
use crate::core::connect::max_packet_size;
use crate::core::outbox::WriteBatch;
use crate::driver::Shared;
use crate::driver::admission::{Door, Refusal};
use crate::driver::client::{Client, Leave};
use crate::driver::events::Caller;
use crate::hooks::Tap;
use crate::stats::{BrokerStats, CloseReason};

use super::wire::Wire;

/// The most bytes of one read.
const READ_SIZE: usize = 64 * 1024;

/// Rounds of writing and reading before other tasks of the thread get their turn.
const MAX_ROUNDS: usize = 16;

/// A step ends after frames of this many bytes, or after this long: then receivers are woken, acknowledgements leave,
/// and other tasks get their turn.
const STEP_BYTES: usize = 64 * 1024;
const STEP_TIME: Duration = Duration::from_millis(5);

/// Frames between two looks at the clock.
const CLOCK_EVERY: u32 = 16;

/// A payload of at least this size has memory of its own if it would otherwise hold a buffer of more than twice its
/// size; smaller ones are copied by whoever keeps them.
const OWN_PAYLOAD: usize = 4096;

/// A packet that is longer in coming than the deadline for one is waited for while this many bytes of it come within
/// each further deadline: a large one over a slow line is no attack.
const ENOUGH_OF_A_PACKET: usize = 64 * 1024;

/// Buffers are given back after this long without traffic.
const IDLE_AFTER_MS: Millis = 2000;

/// How long a client gets to read the last words before the socket is closed.
pub(super) const LINGER: Duration = Duration::from_millis(500);

/// How much more of such a client is read.
const LINGER_BYTES: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Serves one connection to its end.
///
/// What is held while the connection idles is one boxed [`Connection`]; what its beginning and its end need is boxed for
/// as long as they last.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S, door: Box<Door>)
where
    S: Wire + Send,
{
    let _counted = Counted::new(&shared);
    let Some(mut connection) = Box::pin(welcome(shared, stream, door)).await else {
        return;
    };
    let leave = poll_fn(|cx| connection.poll(cx)).await;
    Box::pin(connection.end(leave)).await;
}

/// A connection that is counted as open.
struct Counted(Arc<BrokerStats>);

impl Counted {
    fn new(shared: &Shared) -> Self {
        shared.stats.connections_accepted.add(1);
        shared.stats.connections_size.add(1);
        Self(Arc::clone(&shared.stats))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections_size.sub(1);
        self.0.connections_closed.add(1);
    }
}

/// Reads CONNECT and answers it, all within the deadline. Gives the connection of a client that is admitted.
async fn welcome<S>(
    shared: Arc<Shared>,
    mut stream: S,
    door: Box<Door>,
) -> Option<Box<Connection<S>>>
where
    S: Wire + Send,
{
    // A banned address gets no answer.
    let now = shared.clock.now();
    if door
        .peer
        .is_some_and(|peer| shared.entrance.shuts_out(now, peer.ip()))
    {
        return None;
    }
    let mut tap = shared.hooks.tap(&door).ok()?;
    let mut unread = Vec::new();
    let (peer, transport) = (door.peer, door.transport.name());
    let deadline = door.deadline;
    let mut alarm = stream.alarm();
    let first = read_connect(&shared, &mut stream, &mut unread, &mut tap);
    let refusal = match alarm.until(deadline, first).await.flatten() {
        None => {
            tap.iter().for_each(|tap| tap.failed());
            return None;
        }
        Some(Ok(connect)) => {
            let (version, max) = (connect.version, max_packet_size(&connect));
            let proof = converse(&shared, &mut stream, &mut unread, &connect, door.peer);
            let admitted = match alarm.until(deadline, proof).await.flatten() {
                None => {
                    tap.iter().for_each(|tap| tap.failed());
                    return None;
                }
                Some(Err(refusal)) => {
                    let caller = Caller {
                        connect: &connect,
                        peer: door.peer,
                        local: door.local,
                    };
                    shared.tell_refused(&caller, &refusal);
                    Err(refusal)
                }
                Some(Ok(proof)) => shared.admit(connect, *door, proof).await,
            };
            match admitted {
                Ok(client) => {
                    tap.iter_mut()
                        .for_each(|tap| tap.welcomed(client.client_id()));
                    return Some(Connection::new(shared, stream, client, unread, tap));
                }
                Err(refusal) => {
                    let Refusal { reason, say, .. } = refusal;
                    shared.stats.connects_refused.of(reason.as_u8()).add(1);
                    say.then(|| (version, shared.connack_of(&refusal), max))
                }
            }
        }
        Some(Err(error)) => {
            shared
                .stats
                .connects_refused
                .of(error.reason.as_u8())
                .add(1);
            tracing::debug!(?peer, transport, %error, "the first packet is no CONNECT that can be accepted");
            error.connack().map(|(version, mut connack)| {
                // [MQTT-3.1.2-24] A client that could not say how much it takes gets no more than must be.
                let most = error.max_packet_size;
                connack.properties.reason_string = most.and_then(|_| shared.in_words(error.detail));
                (version, connack, most.unwrap_or(usize::MAX))
            })
        }
    };
    tap.iter().for_each(|tap| tap.failed());
    if let Some((version, connack, max)) = refusal {
        let mut bytes = Vec::new();
        // [MQTT-3.1.2-24]
        let mut fits = connack.encode(version, &mut bytes).is_ok() && bytes.len() <= max;
        if !fits {
            bytes.clear();
            let short = ConnAck::refused(connack.reason);
            fits = short.encode(version, &mut bytes).is_ok() && bytes.len() <= max;
        }
        if fits && stream.write_all(&bytes).await.is_ok() {
            linger(&mut stream).await;
        }
    }
    None
}

/// The first packet; `None` when the socket ends before it is there.
async fn read_connect<S>(
    shared: &Shared,
    stream: &mut S,
    unread: &mut Vec<u8>,
    tap: &mut Option<Box<Tap>>,
) -> Option<Result<Connect, DecodeError>>
where
    S: AsyncRead + Unpin,
{
    let mut chunk = [0; 1024];
    loop {
        // [MQTT-3.1.0-1] Anything but CONNECT is refused before it is even complete.
        if unread.first().is_some_and(|first| first >> 4 != 1) {
            return Some(Err(not_connect()));
        }
        match codec::frame_length(unread, shared.settings.max_packet_size) {
            Err(error) => return Some(Err(error)),
            Ok(Some(len)) => {
                shared.stats.received_packets.add(1);
                shared.stats.handled_packets.add(1);
                shared.stats.handled_bytes.add(len as u64);
                let frame: Vec<u8> = unread.drain(..len).collect();
                let decoded = codec::decode(Bytes::from(frame), ProtocolVersion::V5);
                if let (Some(tap), Ok(packet)) = (tap, &decoded) {
                    tap.decoded(packet);
                }
                return Some(match decoded {
                    Ok(Packet::Connect(connect)) => Ok(*connect),
                    Ok(_) => Err(not_connect()),
                    Err(error) => Err(error),
                });
            }
            Ok(None) => {}
        }
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        if n == 0 {
            return None;
        }
        shared.stats.received_bytes.add(n as u64);
        tap.iter().for_each(|tap| tap.received(n));
        unread.extend_from_slice(&chunk[..n]);
    }
}

fn not_connect() -> DecodeError {
    DecodeError {
        reason: ReasonCode::ProtocolError,
        detail: "the first packet is not CONNECT",
        answer_in: None,
        max_packet_size: None,
    }
}

/// Closes for writing and lets the client read what was said: closing at once would reset the connection, and the
/// last packet with it, if something of the client is unread.
async fn linger<S>(stream: &mut S)
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

/// A connection whose client is admitted.
struct Connection<S> {
    shared: Arc<Shared>,
    stream: S,
    client: Client,
    /// Who watches the connection's steps; mostly nobody.
    tap: Option<Box<Tap>>,
    /// What is being written.
    batch: WriteBatch,
    /// The client's outbox may have something.
    output_waits: bool,
    /// The beginning of a frame whose rest has not come yet.
    unread: Unread,
    /// When `unread` last began to wait, and how much of it there was then.
    unread_since: (Millis, usize),
    /// `unread` came together with CONNECT and has not been looked at.
    is_early: bool,
    /// Whole frames that wait because the client is held back or the step was long enough.
    held: Bytes,
    /// The size of the buffer that holds `held`.
    held_in: usize,
    /// What is wrong with the bytes that came after `held`.
    broken: Option<Box<DecodeError>>,
    /// The last step ended before its work did: others get their turn first.
    step_was_cut: bool,
    /// It is the last round: nothing is put off any more.
    hurried: bool,
    /// When the last bytes came.
    heard_at: Millis,
    /// When bytes last went either way.
    active_at: Millis,
    /// Whether buffers may hold memory.
    warm: bool,
    alarm: Alarm,
    /// When it rings; [`Millis::MAX`]: it is not set.
    alarm_at: Millis,
}

impl<S> Connection<S>
where
    S: Wire + Send,
{
    fn new(
        shared: Arc<Shared>,
        stream: S,
        client: Client,
        unread: Vec<u8>,
        tap: Option<Box<Tap>>,
    ) -> Box<Self> {
        let now = shared.clock.now();
        // Who is watched writes itself, so that every byte is seen.
        client.share_socket(stream.writer().filter(|_| tap.is_none()));
        let alarm = stream.alarm();
        Box::new(Self {
            shared,
            stream,
            client,
            tap,
            batch: WriteBatch::default(),
            output_waits: true,
            is_early: !unread.is_empty(),
            unread: Unread(unread),
            unread_since: (now, 0),
            held: Bytes::new(),
            held_in: 0,
            broken: None,
            step_was_cut: false,
            hurried: false,
            heard_at: now,
            active_at: now,
            warm: true,
            alarm,
            alarm_at: Millis::MAX,
        })
    }

    /// The client has left, or is to leave.
    async fn end(mut self: Box<Self>, leave: Leave) {
        tracing::debug!(client_id = %self.client.client_id(), reason = leave.reason.name(), "connection ends");
        let said = self.say_goodbye(leave).await;
        self.client.leave(self.shared.clock.now(), leave.reason);
        let Self {
            client, mut stream, ..
        } = *self;
        drop(client);
        if said {
            linger(&mut stream).await;
        } else {
            stream.close().await;
        }
    }

    /// Works until the connection is to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        if std::mem::take(&mut self.is_early) {
            let early = std::mem::take(&mut self.unread.0);
            if let Err(leave) = self.take_bytes(&early) {
                return Poll::Ready(leave);
            }
        }
        self.poll_run(cx)
    }

    /// Writes and reads until the connection is to end.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        for _ in 0..MAX_ROUNDS {
            if self.client.poll_ready(cx) {
                let news = self.client.news();
                if let Some(leave) = news.leave {
                    return Poll::Ready(self.last_round(leave, cx));
                }
                if news.was_written_to {
                    (self.active_at, self.warm) = (self.shared.clock.now(), true);
                }
                self.output_waits = true;
            }
            let progress = match self.round(cx) {
                Ok(progress) => progress,
                Err(leave) => return Poll::Ready(leave),
            };
            if std::mem::take(&mut self.step_was_cut) {
                break;
            }
            if !progress {
                return self.poll_alarm(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A client that is taken over has often said goodbye before it came back: what has come by now still counts, and
    /// a DISCONNECT among it takes the Will away.
    fn last_round(&mut self, leave: Leave, cx: &mut Context<'_>) -> Leave {
        if leave.reason != CloseReason::TakenOver {
            return leave;
        }
        self.hurried = true;
        match self.round(cx) {
            Err(own) if own.reason == CloseReason::Normal => own,
            _ => leave,
        }
    }

    /// Everything that can be done now, once; false when there was nothing.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        self.output_waits |= self.client.poll_gate(cx);
        self.write(cx)?;
        let mut progress = false;
        if self.client.is_held_back() {
            let until = Instant::now() + STEP_TIME;
            if self.client.poll_room(self.shared.clock.now(), until, cx)? {
                self.heard_at = self.shared.clock.now();
                self.output_waits = true;
                // A publish that waits again has a new future, which must be polled.
                progress = true;
                self.step_was_cut = Instant::now() >= until;
            }
        }
        if !self.step_was_cut && !self.held.is_empty() && self.may_handle(&self.held) {
            let held = std::mem::take(&mut self.held);
            self.handle_frames(held, self.held_in)?;
            progress = true;
        }
        if self.held.is_empty()
            && let Some(error) = self.broken.take()
        {
            return Err(self.broken(&error));
        }
        if self.step_was_cut {
            self.write(cx)?;
            return Ok(true);
        }
        if self.may_read()
            && let Poll::Ready(result) = self.poll_read(cx)
        {
            result?;
            progress = true;
            if self.step_was_cut {
                self.write(cx)?;
            }
        }
        Ok(progress || (self.output_waits && self.batch.is_empty()))
    }

    fn may_read(&self) -> bool {
        self.held.is_empty()
            && self.broken.is_none()
            && self.client.takes_packets()
            && (self.batch.is_empty() || !self.client.must_read_first())
    }

    /// Writes as much as the socket takes.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Leave> {
        let mut writes = 0;
        loop {
            if self.batch.is_empty() {
                if !self.output_waits {
                    return Ok(());
                }
                if writes >= MAX_ROUNDS {
                    // Others write faster than this ends.
                    self.step_was_cut = true;
                    return Ok(());
                }
                writes += 1;
                let now = self.shared.clock.now();
                self.output_waits = self.client.take_output(now, &mut self.batch);
                if self.batch.is_empty() {
                    continue;
                }
                self.active_at = now;
                self.warm = true;
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.shared.stats.sent_bytes.add(n as u64);
                    if let Some(tap) = &self.tap {
                        tap.sent(n);
                    }
                    self.batch.advance(n);
                    // Others may write only after this has been asked for again.
                    self.output_waits |= self.batch.is_empty();
                }
                Poll::Ready(_) => return Err(Leave::closed()),
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        match self.batch.contiguous() {
            Some(bytes) => stream.poll_write(cx, bytes),
            None => {
                let (slices, len) = self.batch.slices();
                stream.poll_write_vectored(cx, &slices[..len])
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Leave>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            if ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).is_err() {
                return Poll::Ready(Err(Leave::closed()));
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Err(Leave::closed()));
            }
            self.shared.stats.received_bytes.add(bytes.len() as u64);
            if let Some(tap) = &self.tap {
                tap.received(bytes.len());
            }
            Poll::Ready(self.take_bytes(bytes))
        })
    }

    /// Cuts whole frames off what has come, keeps the rest, handles the frames.
    fn take_bytes(&mut self, bytes: &[u8]) -> Result<(), Leave> {
        let now = self.shared.clock.now();
        (self.heard_at, self.active_at, self.warm) = (now, now, true);
        let waited = !self.unread.0.is_empty();
        let (frames, buffer, cut) = self
            .unread
            .take_whole(bytes, self.shared.settings.max_packet_size);
        if !waited || cut.frames > 0 {
            self.unread_since = (now, self.unread.0.len());
        }
        self.shared.stats.received_packets.add(cut.frames);
        if !frames.is_empty() {
            self.handle_frames(frames, buffer)?;
        }
        match cut.error {
            // What came before it is handled first.
            Some(error) if !self.held.is_empty() => {
                self.broken = Some(Box::new(error));
                Ok(())
            }
            Some(error) => Err(self.broken(&error)),
            None => Ok(()),
        }
    }

    /// One step: handles whole frames, which stand in a buffer of `buffer` bytes. What the client cannot take now, or
    /// what would make the step too long, is held.
    fn handle_frames(&mut self, mut frames: Bytes, buffer: usize) -> Result<(), Leave> {
        let now = self.shared.clock.now();
        let (until, bytes) = (Instant::now() + STEP_TIME, frames.len());
        let (mut result, mut count) = (Ok(()), 0_u32);
        while result.is_ok() && !frames.is_empty() {
            let handled = bytes - frames.len();
            // A frame costs little unless rules run on it.
            count += 1;
            let look = self.client.ran_rules() || count % CLOCK_EVERY == 0;
            self.step_was_cut =
                handled >= STEP_BYTES || (handled > 0 && look && Instant::now() >= until);
            if self.step_was_cut || !self.may_handle(&frames) {
                (self.held, self.held_in) = (frames, buffer);
                break;
            }
            result = self.handle_frame(now, &mut frames, buffer);
        }
        self.client.step_done(now);
        // What receivers are owed goes before what the client itself is.
        self.output_waits |= !self.client.owe_output();
        result
    }

    /// Whether the first of these frames may be handled now. If not, the task is polled when it may be.
    fn may_handle(&self, frames: &[u8]) -> bool {
        let can_wait = frames.first().is_some_and(|first| can_wait(*first));
        self.client.takes_packets() && (!can_wait || self.hurried || self.stream.has_time())
    }

    fn handle_frame(
        &mut self,
        now: Millis,
        frames: &mut Bytes,
        buffer: usize,
    ) -> Result<(), Leave> {
        let len = match codec::frame_length(frames, self.shared.settings.max_packet_size) {
            Ok(Some(len)) => len,
            Ok(None) => frames.len(),
            Err(error) => return Err(self.broken(&error)),
        };
        match codec::decode(frames.split_to(len), self.client.version()) {
            Ok(mut packet) => {
                if let Packet::Publish(publish) = &mut packet
                    && (OWN_PAYLOAD..buffer / 2).contains(&publish.payload.len())
                {
                    publish.payload = Bytes::copy_from_slice(&publish.payload);
                }
                let Some(tap) = &mut self.tap else {
                    return self.client.handle(now, packet, len);
                };
                tap.decoded(&packet);
                let result = self.client.handle(now, packet, len);
                tap.handled();
                result
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &DecodeError) -> Leave {
        if let Some(tap) = &self.tap {
            tap.failed();
        }
        tracing::debug!(client_id = %self.client.client_id(), %error, "a packet was refused");
        Leave::because(error.reason, error.detail)
    }

    /// Keep-alive and the memory of idle connections. One alarm, set again only when it rings.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Leave> {
        loop {
            if self.alarm_at == Millis::MAX {
                let Some(at) = self.next_look() else {
                    return Poll::Pending;
                };
                self.set_alarm(at);
            } else if let Some(at) = self.packet_deadline()
                && at < self.alarm_at
            {
                self.set_alarm(at);
            }
            ready!(self.alarm.poll(cx));
            let now = self.shared.clock.now();
            if self.client.is_held_back() || !self.held.is_empty() {
                // The broker does not read: that the client is silent means nothing.
                self.heard_at = now;
                self.unread_since = (now, self.unread.0.len());
            }
            if self.packet_deadline().is_some_and(|at| at <= now) {
                if self.unread.0.len() < self.unread_since.1 + ENOUGH_OF_A_PACKET {
                    return Poll::Ready(Leave::by_broker(CloseReason::PacketTimeout));
                }
                self.unread_since = (now, self.unread.0.len());
            }
            if self
                .client
                .keep_alive_ms()
                .is_some_and(|limit| self.heard_at.saturating_add(limit) <= now)
            {
                // [MQTT-3.1.2-22]
                return Poll::Ready(Leave::by_broker(CloseReason::KeepAliveTimeout));
            }
            if self.client.retry_at().is_some_and(|at| at <= now) {
                self.client.retry(now);
                self.output_waits = true;
                cx.waker().wake_by_ref();
            }
            if self.warm && self.active_at + IDLE_AFTER_MS <= now {
                if self.client.was_written_to() {
                    self.active_at = now;
                } else {
                    self.shrink();
                }
            }
            match self.next_look() {
                Some(at) => self.set_alarm(at.max(now + 1)),
                None => {
                    self.alarm_at = Millis::MAX;
                    self.alarm.unset();
                }
            }
        }
    }

    fn set_alarm(&mut self, at: Millis) {
        self.alarm_at = at;
        self.alarm.set(self.shared.clock.instant(at));
    }

    /// When the packet that has begun to come must be whole, or well on its way.
    fn packet_deadline(&self) -> Option<Millis> {
        if self.unread.0.is_empty() {
            return None;
        }
        let limit = self.shared.packet_timeout_ms?;
        Some(self.unread_since.0.saturating_add(limit))
    }

    fn next_look(&self) -> Option<Millis> {
        let silent = self
            .client
            .keep_alive_ms()
            .map(|limit| self.heard_at.saturating_add(limit));
        let idle = self.warm.then_some(self.active_at + IDLE_AFTER_MS);
        let retry = self.client.retry_at();
        [silent, idle, retry, self.packet_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn shrink(&mut self) {
        self.warm = false;
        self.batch.shrink();
        self.unread.0.shrink_to_fit();
        self.client.shrink();
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

/// Whether the packet that begins so is for the index of subscriptions: many filters in one, and every publisher has to
/// look anew where its topics lead. Messages go before.
fn can_wait(first: u8) -> bool {
    const SUBSCRIBE: u8 = 8;
    const UNSUBSCRIBE: u8 = 10;
    matches!(first >> 4, SUBSCRIBE | UNSUBSCRIBE)
}

/// The beginning of a frame, until the rest of it is there.
#[derive(Debug, Default)]
struct Unread(Vec<u8>);

impl Unread {
    /// The whole frames of what was kept and of `bytes`, and the size of the buffer that they stand in. The rest is
    /// kept. However small the pieces are in which a frame comes, none of it is moved more often than the buffer grows.
    fn take_whole(&mut self, bytes: &[u8], max_packet_size: usize) -> (Bytes, usize, Cut) {
        let Self(unread) = self;
        if unread.is_empty() {
            let cut = cut(bytes, max_packet_size);
            unread.extend_from_slice(&bytes[cut.len..]);
            return (Bytes::copy_from_slice(&bytes[..cut.len]), cut.len, cut);
        }
        unread.extend_from_slice(bytes);
        let cut = cut(unread, max_packet_size);
        if cut.len == 0 {
            return (Bytes::new(), 0, cut);
        }
        // The frame that was begun ends in `bytes`, and so the rest is no longer than they are.
        let rest = unread[cut.len..].to_vec();
        let mut whole = std::mem::replace(unread, rest);
        whole.truncate(cut.len);
        let buffer = whole.capacity();
        (Bytes::from(whole), buffer, cut)
    }
}

/// What [`cut`] found.
#[derive(Debug)]
struct Cut {
    /// Bytes of whole frames.
    len: usize,
    /// How many frames.
    frames: u64,
    /// What is wrong with the bytes after them.
    error: Option<DecodeError>,
}

/// Finds the whole frames at the beginning of `bytes`.
fn cut(bytes: &[u8], max_packet_size: usize) -> Cut {
    let mut cut = Cut {
        len: 0,
        frames: 0,
        error: None,
    };
    loop {
        match codec::frame_length(&bytes[cut.len..], max_packet_size) {
            Ok(Some(len)) => {
                cut.len += len;
                cut.frames += 1;
            }
            Ok(None) => return cut,
            Err(error) => {
                return Cut {
                    error: Some(error),
                    ..cut
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_mqtt::Utf8;

    use super::*;

    #[test]
    fn a_frame_in_small_pieces_is_not_copied_for_every_piece() {
        let frame = {
            let topic = Utf8::from("t");
            let publish = weir_mqtt::Publish::new(topic, Bytes::from(vec![7; 300_000]));
            let mut bytes = Vec::new();
            codec::encode(&Packet::Publish(publish), ProtocolVersion::V5, &mut bytes).unwrap();
            bytes
        };
        for piece in [1, 100] {
            // Ends within a third frame.
            let bytes = [&frame[..], &frame, &frame[..50]].concat();
            let mut unread = Unread::default();
            let (mut whole, mut moves, mut buffers) = (Vec::new(), 0, Vec::new());
            for bytes in bytes.chunks(piece) {
                let before = (unread.0.as_ptr(), unread.0.capacity());
                let (frames, buffer, cut) = unread.take_whole(bytes, 1 << 20);
                assert!(cut.error.is_none());
                moves += usize::from(before != (unread.0.as_ptr(), unread.0.capacity()));
                if !frames.is_empty() {
                    buffers.push(buffer);
                }
                whole.extend_from_slice(&frames);
            }
            assert_eq!(whole, [&frame[..], &frame].concat());
            assert_eq!(unread.0, &frame[..50]);
            assert!(moves < 60, "{moves} moves of the buffer");
            assert!(buffers.iter().all(|buffer| *buffer >= frame.len()));
        }
    }
}
