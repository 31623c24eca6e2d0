//! One network connection: bytes in, frames cut, packets to the client; its outbox out, many frames with one write.
//!
//! A read goes through a buffer of the thread, so that an idle connection holds none. Writing never stops reading,
//! unless the client takes nothing: then it must read before it may send more.

mod goodbye;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::ReadBuf;
use weir_mqtt::{DecodeError, Packet, codec};

pub(crate) use self::goodbye::LINGER;
use self::goodbye::Last;
pub(super) use self::goodbye::linger;
use super::event_loop::Alarm;
use super::frames::Unread;
use super::held::Held;
use super::welcome::welcome;
use crate::core::Millis;
use crate::core::outbox::WriteBatch;
use crate::driver::Shared;
use crate::driver::admission::Door;
use crate::driver::client::{Client, Leave};
use crate::driver::slices::Left;
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
const STEP_TIME_MS: Millis = 5;

/// Frames between two looks at the clock.
const CLOCK_EVERY: u32 = 16;

/// A payload of at least this size has memory of its own if it would otherwise hold a buffer of more than twice its
/// size; smaller ones are copied by whoever keeps them.
const OWN_PAYLOAD: usize = 4096;

/// A packet that is longer in coming than the deadline for one is waited for while this many bytes of it come within
/// each further deadline: a large one over a slow line is no attack.
const ENOUGH_OF_A_PACKET: usize = 64 * 1024;

/// The filters of a packet that is so long are decoded some at a time too.
const MANY_BYTES: usize = 1024;

/// Buffers are given back after this long without traffic.
const IDLE_AFTER_MS: Millis = 2000;

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

/// A connection whose client is admitted.
pub(super) struct Connection<S> {
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
    held: Held,
    /// What is wrong with the bytes that came after `held`.
    broken: Option<Box<DecodeError>>,
    /// The last step ended before its work did: others get their turn first.
    step_was_cut: bool,
    /// So did writing.
    write_was_cut: bool,
    /// The connection ends so; what the client has sent before still counts.
    last: Option<Last>,
    /// The client has closed, or all is read that came before the connection broke.
    heard_all: bool,
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

/// When a packet is handled.
#[derive(PartialEq, Eq)]
enum Turn {
    Now,
    /// The task is polled when it may be.
    Later,
    /// Nobody wants it any more.
    Never,
}

impl<S> Connection<S>
where
    S: Wire + Send,
{
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: S,
        client: Client,
        unread: Vec<u8>,
        tap: Option<Box<Tap>>,
    ) -> Box<Self> {
        let now = shared.clock.now();
        stream.admitted(client.session());
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
            held: Held::default(),
            broken: None,
            step_was_cut: false,
            write_was_cut: false,
            last: None,
            heard_all: false,
            heard_at: now,
            active_at: now,
            warm: true,
            alarm,
            alarm_at: Millis::MAX,
        })
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
                match news.leave {
                    // A client that is taken over has often said goodbye before it came back.
                    Some(leave) if leave.reason == CloseReason::TakenOver => {
                        let now = self.shared.clock.now();
                        self.last.get_or_insert_with(|| Last::of(leave, now));
                    }
                    Some(leave) => return Poll::Ready(leave),
                    None => {}
                }
                if news.was_written_to {
                    (self.active_at, self.warm) = (self.shared.clock.now(), true);
                }
                self.output_waits = true;
            }
            let progress = match self.round(cx) {
                Ok(progress) => progress,
                Err(leave) => match self.goes_on_after(leave) {
                    Ok(()) => true,
                    Err(leave) => return Poll::Ready(leave),
                },
            };
            if let Some(last) = &mut self.last {
                // What was begun is brought to its end before what stands behind it is read.
                last.rounds += usize::from(!self.client.is_unfinished());
                let is_long = last.until <= self.shared.clock.now() || self.held.is_empty();
                if last.rounds > MAX_ROUNDS && is_long {
                    return Poll::Ready(last.leave);
                }
                if !progress {
                    return self.poll_end(cx);
                }
            }
            let write_was_cut = std::mem::take(&mut self.write_was_cut);
            if std::mem::take(&mut self.step_was_cut) || write_was_cut {
                break;
            }
            if !progress || self.has_done_all() {
                return self.poll_alarm(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether another round would find nothing to do, for all that is known without looking at the socket.
    fn has_done_all(&self) -> bool {
        self.stream.has_read_all()
            && !self.output_waits
            && self.batch.is_empty()
            && self.held.is_empty()
            && self.broken.is_none()
            && self.last.is_none()
            && !self.client.waits()
    }

    /// Everything that can be done now, once; false when there was nothing.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Leave> {
        self.output_waits |= self.client.poll_gate(cx);
        self.write(cx)?;
        let mut progress = false;
        if self.client.is_held_back() {
            let until = Instant::now() + Duration::from_millis(STEP_TIME_MS);
            if self.client.poll_room(self.shared.clock.now(), until, cx)? {
                self.heard_at = self.shared.clock.now();
                self.output_waits = true;
                // A publish that waits again has a new future, which must be polled.
                progress = true;
                self.step_was_cut = Instant::now() >= until;
            }
        }
        if !self.step_was_cut && self.client.is_unfinished() && self.may_go_on() {
            self.go_on()?;
            progress = true;
        }
        if !self.step_was_cut && !self.held.is_empty() {
            let (held, buffer) = self.held.take();
            let now = self.shared.clock.now();
            match self.turn_of(&held, now) {
                Turn::Later => self.held.put(held, buffer),
                first => {
                    self.handle_frames(now, held, buffer, Some(first))?;
                    progress = true;
                }
            }
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
        self.held.is_empty() && !self.client.is_unfinished() && self.may_read_ahead()
    }

    /// Whether what was begun may go on now.
    fn may_go_on(&mut self) -> bool {
        if !self.stream.has_time() {
            if self.held.waits(self.shared.clock.now()) {
                return false;
            }
            self.stream.waits_no_more();
        }
        true
    }

    /// Goes on with what was begun, for one slice.
    fn go_on(&mut self) -> Result<(), Leave> {
        let now = self.shared.clock.now();
        let left = self.client.go_on(now);
        if left == Ok(Left::Some) {
            self.held.goes_on(now);
            return Ok(());
        }
        self.held.has_waited();
        self.client.step_done(now);
        self.output_waits |= !self.client.owe_output();
        left.map(drop)
    }

    fn may_read_ahead(&self) -> bool {
        self.broken.is_none()
            && !self.heard_all
            && self.held.len() < STEP_BYTES
            && self.client.takes_packets()
            && (self.batch.is_empty() || !self.client.must_read_first())
    }

    /// Writes as much as the socket takes.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Leave> {
        if self.is_cut_off() {
            self.batch.clear();
            self.output_waits = false;
        }
        let mut writes = 0;
        loop {
            if self.batch.is_empty() {
                if !self.output_waits {
                    return Ok(());
                }
                if writes >= MAX_ROUNDS {
                    // Others write faster than this ends. The client is heard nevertheless.
                    self.write_was_cut = true;
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
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let bytes = buffer.filled();
            if read.is_err() || bytes.is_empty() {
                self.heard_all = true;
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
        if !self.held.is_empty() {
            self.held.append(&frames);
        } else if !frames.is_empty() {
            self.handle_frames(now, frames, buffer, None)?;
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
    /// what would make the step too long, is held. `first` is the turn of the first of them, where that is known.
    fn handle_frames(
        &mut self,
        now: Millis,
        mut frames: Bytes,
        buffer: usize,
        mut first: Option<Turn>,
    ) -> Result<(), Leave> {
        let bytes = frames.len();
        let (mut result, mut count) = (Ok(()), 0_u32);
        while result.is_ok() && !frames.is_empty() {
            let handled = bytes - frames.len();
            // A frame costs little unless rules run on it.
            count += 1;
            let look = self.client.ran_rules() || count % CLOCK_EVERY == 0;
            self.step_was_cut = handled >= STEP_BYTES
                || (handled > 0 && look && self.shared.clock.now() >= now + STEP_TIME_MS);
            let turn = match first.take() {
                _ if self.step_was_cut => Turn::Later,
                Some(turn) => turn,
                None => self.turn_of(&frames, now),
            };
            if turn == Turn::Later {
                self.held.put(frames, buffer);
                break;
            }
            let frame = self.next_frame(&mut frames);
            if turn == Turn::Now {
                result = frame.and_then(|frame| self.handle_frame(now, frame, buffer));
            }
        }
        self.client.step_done(now);
        // What receivers are owed goes before what the client itself is.
        self.output_waits |= !self.client.owe_output();
        result
    }

    /// When the first of these frames is handled.
    fn turn_of(&mut self, frames: &[u8], now: Millis) -> Turn {
        if self.client.is_unfinished() {
            return Turn::Later;
        }
        let is_last = self.last.is_some();
        // What has come before the end is handled; how much that is was bounded while it was read.
        if !is_last && !self.client.takes_packets() {
            return Turn::Later;
        }
        if frames.first().is_none_or(|first| !can_wait(*first)) || (is_last && !self.is_cut_off()) {
            return Turn::Now;
        }
        if !self.stream.has_time() {
            // Nobody is there to hear the answer.
            let is_wanted = !self.is_cut_off();
            if is_wanted && self.held.waits(now) {
                return Turn::Later;
            }
            self.stream.waits_no_more();
            if !is_wanted {
                return Turn::Never;
            }
        }
        self.held.has_waited();
        Turn::Now
    }

    fn next_frame(&self, frames: &mut Bytes) -> Result<Bytes, Leave> {
        match codec::frame_length(frames, self.shared.settings.max_packet_size) {
            Ok(Some(len)) => Ok(frames.split_to(len)),
            Ok(None) => Ok(std::mem::take(frames)),
            Err(error) => {
                frames.clear();
                Err(self.broken(&error))
            }
        }
    }

    fn handle_frame(&mut self, now: Millis, frame: Bytes, buffer: usize) -> Result<(), Leave> {
        let len = frame.len();
        let may_be_many = frame.first().is_some_and(|first| can_wait(*first)) && len >= MANY_BYTES;
        // Who watches is shown whole packets.
        if may_be_many && self.tap.is_none() {
            return match codec::decode_head(frame, self.client.version()) {
                Ok(Some(packet)) => self.client.handle_many(now, packet, len),
                Ok(None) => Ok(()),
                Err(error) => Err(self.broken(&error)),
            };
        }
        match codec::decode(frame, self.client.version()) {
            Ok(Packet::PingReq) if self.held.was_answered() => Ok(()),
            Ok(mut packet) => {
                if let Packet::Publish(publish) = &mut packet
                    && (OWN_PAYLOAD..buffer / 2).contains(&publish.payload.len())
                {
                    publish.payload = Bytes::copy_from_slice(&publish.payload);
                }
                self.handle_packet(now, packet, len)
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn handle_packet(&mut self, now: Millis, packet: Packet, len: usize) -> Result<(), Leave> {
        let Some(tap) = &mut self.tap else {
            return self.client.handle(now, packet, len);
        };
        tap.decoded(&packet);
        let result = self.client.handle(now, packet, len);
        tap.handled();
        result
    }

    /// While a SUBSCRIBE is held: whether more has come, such as a PINGREQ, which does not wait for it, or the end.
    fn look_ahead(&mut self, now: Millis, cx: &mut Context<'_>) -> Result<(), Leave> {
        if self.may_read_ahead()
            && let Poll::Ready(result) = self.poll_read(cx)
        {
            result?;
        }
        if self.held.look_for_ping(now, self.client.version()) {
            self.handle_packet(now, Packet::PingReq, 2)?;
            self.client.step_done(now);
            self.output_waits |= !self.client.owe_output();
        }
        Ok(())
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
            } else if let Some(at) = self.urgent_look()
                && at < self.alarm_at
            {
                self.set_alarm(at);
            }
            ready!(self.alarm.poll(cx));
            let now = self.shared.clock.now();
            let is_behind = self.client.is_unfinished() || !self.held.is_empty();
            if self.client.is_held_back() || is_behind {
                // The broker does not read: that the client is silent means nothing.
                self.heard_at = now;
                self.unread_since = (now, self.unread.0.len());
            }
            if self.held.next_look().is_some_and(|at| at <= now) {
                if let Err(leave) = self.look_ahead(now, cx)
                    && let Err(leave) = self.goes_on_after(leave)
                {
                    return Poll::Ready(leave);
                }
                // Whatever it was, there may be something to write now, or the first of what is held has its turn.
                self.alarm_at = Millis::MAX;
                cx.waker().wake_by_ref();
                return Poll::Pending;
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

    /// What the alarm is set earlier for.
    fn urgent_look(&self) -> Option<Millis> {
        let looks = [self.packet_deadline(), self.held.next_look()];
        looks.into_iter().flatten().min()
    }

    fn next_look(&self) -> Option<Millis> {
        let silent = self
            .client
            .keep_alive_ms()
            .map(|limit| self.heard_at.saturating_add(limit));
        let idle = self.warm.then_some(self.active_at + IDLE_AFTER_MS);
        let retry = self.client.retry_at();
        [silent, idle, retry, self.urgent_look()]
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
}

/// Whether the packet that begins so is for the index of subscriptions: many filters in one, and every publisher has to
/// look anew where its topics lead. Messages go before.
fn can_wait(first: u8) -> bool {
    const SUBSCRIBE: u8 = 8;
    const UNSUBSCRIBE: u8 = 10;
    matches!(first >> 4, SUBSCRIBE | UNSUBSCRIBE)
}
