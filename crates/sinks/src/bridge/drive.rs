//! Makes a bridge's connection, carries packets between the remote and the broker, and makes it anew when it is lost.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use weir_mqtt::{
    Disconnect, Packet, PacketId, ProtocolVersion, PubComp, PubRel, ReasonCode, codec,
};

use self::aside::{mirrored, remember, signed};
use self::flag::Flag;
use self::renewal::Ending;
use super::client::{
    Conn, Failure, GOODBYE, Greeting, MAX_INCOMING, Refusal, Version, connect, dismissed,
};
use super::failures::Reason;
use super::home_line::{HOME_PING, HomeLine, home_failure};
use super::link::{Inner, Session};
use super::reconnect::{Loss, Reconnect, Waiting};
use super::redirect::followed;
use super::released::Released;
use super::remote_status::RemoteStatus;
use super::start::Standing;
use crate::codes;
use crate::config::connector::Protocol;
use crate::connector::LinkState;
use crate::error::SinkError;

mod aside;
mod filters;
mod flag;
mod inbound;
mod primary;
mod renewal;
mod rest;
mod tokens;

/// How long acknowledgements may take before a link is closed to sign in anew.
const DRAIN: Duration = Duration::from_secs(5);
/// How often refused filters are tried again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(300);
/// How much may wait for the broker before the remote is read no further.
const HOME_ROOM: usize = 1 << 20;

/// Connects, carries, waits, connects again, until nobody holds the bridge.
pub(super) async fn drive(inner: Arc<Inner>) {
    connect_again(&inner).await;
    inner.health.set(LinkState::Stopped);
    inner.has_ended();
}

async fn connect_again(inner: &Arc<Inner>) {
    let plan = inner.plan();
    let mut reconnect = Reconnect::new(plan.backoff.clone(), rand::random());
    let mut address = 0;
    let mut attempts = 0;
    let mut version = match plan.protocol {
        Protocol::V311 => Version::V311,
        Protocol::V5 | Protocol::Auto => Version::V5,
    };
    let mut proven = plan.protocol != Protocol::Auto;
    let mut flag = Flag::default();
    let mut not_before = rest::NotBefore {
        by_itself: Instant::now(),
        at_most: Instant::now(),
    };
    while rest::until_wanted(inner, not_before).await {
        let plan = inner.plan();
        let greets = (version, flag.is_given(&plan));
        let attempt = Attempt::run(inner, address, greets, attempts + 1).await;
        let held = attempt.up_at.map(|at| at.elapsed());
        let Some(failure) = attempt.failure else {
            return;
        };
        if let Some(reason) = Reason::of(&failure) {
            inner.stats.failures[reason as usize].fetch_add(1, Relaxed);
        }
        if held.is_some() {
            proven = true;
            attempts = 0;
        } else if failure.loss != Loss::Barred {
            attempts += 1;
        }
        let unflagged = flag.failed(&plan, version, failure.loss);
        let mut other_version = unflagged;
        if !proven && !unflagged {
            // A remote that does not know MQTT 5 says so, or just hangs up. Whatever becomes of 3.1.1, the next round
            // begins with 5 again: the remote may only have been away.
            other_version =
                version == Version::V5 && matches!(failure.loss, Loss::Version | Loss::HungUp);
            version = if other_version {
                Version::V311
            } else {
                Version::V5
            };
        }
        // It is this address that is asked in the other version, or without the flag.
        if !other_version {
            let (was_up, places) = (held.is_some(), plan.addresses.len());
            address = (failure.loss).next_place(plan.failover, was_up, address, places);
        }
        address = followed(&plan, failure.redirect.as_deref()).unwrap_or(address);
        // How long the way to the remote took does not count: CONNECT came behind it.
        let (wait, waiting) = reconnect.after(failure.loss, held, held.unwrap_or_default());
        let now = Instant::now();
        let spacing = plan
            .backoff
            .spacing
            .saturating_sub(held.unwrap_or_default());
        not_before = rest::NotBefore {
            by_itself: now + wait,
            at_most: now + spacing,
        };
        if failure.loss == Loss::Rest {
            continue;
        }
        // It is one attempt that goes on in the other version, and none without a clock.
        let goes_on = other_version || failure.error.code() == codes::CLOCK_UNSET;
        let rests = !goes_on && inner.has_lost(failure.loss, attempt.was_idle);
        let state = match (waiting, failure.error.code()) {
            (_, codes::CLOCK_UNSET) => LinkState::ClockUnset,
            (_, codes::TOKEN | codes::NOT_RENEWED) => LinkState::AuthFailed,
            (Waiting::Backoff, _) => LinkState::Backoff,
            (Waiting::AuthFailed, _) => LinkState::AuthFailed,
            (Waiting::Evicted, _) => LinkState::Evicted,
        };
        let error = match waiting {
            Waiting::Evicted => evicted(failure.error),
            _ => failure.error,
        };
        if rests {
            let at_rest = inner.standing.borrow().at_rest();
            inner.health.failed(&error, at_rest, None);
        } else {
            inner.health.failed(&error, state, Some(wait));
        }
    }
}

/// Links that end at once, one after the other, are told as what is most likely behind them: 3.1.1 has no word for it.
fn evicted(error: SinkError) -> SinkError {
    if error.code() == codes::EVICTED {
        return error;
    }
    let message =
        "three links in a row broke within 5 s: something else seems to use the bridge's identity";
    SinkError::new(codes::EVICTED, message).caused_by(&error)
}

/// One CONNECT and the link that comes of it.
struct Attempt {
    up_at: Option<Instant>,
    /// There was a link, and nothing was on its way when it ended.
    was_idle: bool,
    /// `None` when the bridge was told to leave.
    failure: Option<Failure>,
}

impl Attempt {
    async fn run(inner: &Arc<Inner>, address: usize, greets: (Version, bool), number: u64) -> Self {
        let mut attempt = Self {
            up_at: None,
            was_idle: false,
            failure: None,
        };
        let failure = attempt.connect(inner, address, greets, number).await;
        attempt.was_idle = inner.idle_since().is_some();
        let over_message = inner.take_down(failure.as_ref());
        attempt.failure = failure.map(|failure| Failure {
            loss: if over_message {
                Loss::Message
            } else {
                failure.loss
            },
            ..failure
        });
        attempt
    }

    async fn connect(
        &mut self,
        inner: &Arc<Inner>,
        address: usize,
        (version, bridge_flag): (Version, bool),
        number: u64,
    ) -> Option<Failure> {
        let plan = inner.plan();
        // CR-1: signed anew for each CONNECT, at its own time.
        let signed = signed(inner, address).await;
        if let Ok((creds, _)) = &signed
            && let Some(failure) = tokens::barred(inner, creds)
        {
            return Some(failure);
        }
        (inner.health).connects(plan.addresses[address].to_string(), number);
        inner.stats.connects.fetch_add(1, Relaxed);
        inner.stats.sign_calls.fetch_add(1, Relaxed);
        let (creds, now) = match signed {
            Ok(signed) => signed,
            Err(error) => return Some(Failure::network(error)),
        };
        inner.signed_with(&creds);
        let ending = Ending::of(&creds, now, address);
        let home = inner.home.as_ref().filter(|_| !plan.inbound.is_empty());
        let greeting = Greeting {
            version,
            clean_start: inner.is_clean_start(&plan),
            session_expiry: plan.session_expiry,
            receive_maximum: home
                .map_or(plan.max_inflight, |home| home.receive_maximum())
                .min(plan.max_inflight),
            max_packet_size: home.map_or(MAX_INCOMING, |home| {
                home.max_packet_size().min(MAX_INCOMING)
            }),
            bridge_flag,
        };
        let (place, address) = (address, &plan.addresses[address]);
        let connecting = connect(&plan, address, &creds, &inner.base, greeting);
        let mut standing = inner.standing.subscribe();
        let (conn, welcome) = tokio::select! {
            connected = connecting => match connected {
                Ok(connected) => connected,
                Err(failure) => return Some(failure),
            },
            () = inner.stop.notified() => return None,
            () = rest::halts(&mut standing) => return Some(rest::rested()),
        };
        let remote = format!("{}:{}", address.host, address.port);
        inner.gateway.set_server(remote.clone());
        let has_routes = !(plan.inbound.is_empty() && plan.out.is_empty());
        let mirrored = mirrored(inner, has_routes, &remote, welcome.session_present);
        let (mirror, resumed) = match mirrored.await {
            Ok(mirrored) => mirrored,
            Err(failure) => return Some(failure),
        };
        let home = match home {
            None => None,
            Some(home) => match HomeLine::open(inner, home, version, !resumed).await {
                Ok(line) => Some(line),
                Err(failure) => return Some(failure),
            },
        };
        if let Some(mirror) = mirror
            && let Err(failure) = remember(move || mirror.is_now_of(&remote)).await
        {
            return Some(failure);
        }
        self.up_at = Some(Instant::now());
        // [MQTT-3.1.2-21] Of 0 seconds nothing is asked of us: we still want to know that the remote is there.
        let keepalive = (welcome.limits.keep_alive)
            .filter(|keep_alive| !keep_alive.is_zero())
            .unwrap_or(plan.keepalive);
        let session = match (welcome.session_present, resumed) {
            (_, true) => Session::Resumed,
            (true, false) => Session::Strange,
            (false, false) => Session::New,
        };
        inner.bring_up(version, welcome.limits, session, greeting.clean_start);
        let link = Link {
            inner: Arc::clone(inner),
            conn,
            home,
            keepalive,
            writing: Bytes::new(),
            lines: inbound::Lines::default(),
            released: Vec::new(),
            tokens: tokens::Tokens::of(&plan, &creds),
            place,
            client_id: creds.client_id,
            primary: Box::pin(primary::is_back(Arc::clone(inner), place, version)),
            standing,
        };
        link.inner.says_up(&link.client_id);
        link.carry(ending).await
    }
}

/// A link that is up.
struct Link {
    inner: Arc<Inner>,
    conn: Conn,
    home: Option<HomeLine>,
    keepalive: Duration,
    /// What is on its way into the socket.
    writing: Bytes,
    /// What the remote has sent and is not told of yet.
    lines: inbound::Lines,
    /// Messages whose PUBREC has come, to be remembered before their PUBREL leaves.
    released: Vec<(Arc<Released>, u64, PacketId)>,
    /// The tokens that it was made with, where it was.
    tokens: Option<tokens::Tokens>,
    /// Which of the plan's addresses it leads to.
    place: usize,
    /// Who the bridge is at the remote.
    client_id: String,
    /// Ends when the first address is to be gone back to.
    primary: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether the bridge is to have a link.
    standing: watch::Receiver<Standing>,
}

/// When things are due.
struct Times {
    last_in: Instant,
    last_out: Instant,
    /// When a PINGREQ left that is not answered.
    pinged: Option<Instant>,
    /// When the link is to be made anew, whatever its credentials say.
    renew_at: Option<Instant>,
    /// It is not made anew then.
    rests: bool,
    ending: Option<Ending>,
    subscribe_at: Instant,
    /// Until when the remote was not read: its answers count as late only after that.
    deaf_until: Instant,
}

enum Turn {
    Read(std::io::Result<bool>),
    Wrote(std::io::Result<usize>),
    Flushed(std::io::Result<()>),
    HomeRead(std::io::Result<bool>),
    HomeWrote(std::io::Result<usize>),
    Asked,
    Time,
    Rerouted,
    /// The first address is back.
    Primary,
    /// There is to be no link any more.
    Halt,
    Stop,
}

/// Writes what there is to write, or sees that it leaves.
async fn push<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> Turn {
    if bytes.is_empty() {
        Turn::Flushed(writer.flush().await)
    } else {
        Turn::Wrote(writer.write(bytes).await)
    }
}

impl Link {
    /// Carries packets until the link is lost or told to end; `None` in the second case.
    async fn carry(mut self, ending: Option<Ending>) -> Option<Failure> {
        let now = Instant::now();
        // A rule may have come to need the session while the link was made without.
        let wanted = self.inner.wants_session();
        let mut times = Times {
            last_in: now,
            last_out: now,
            pinged: None,
            renew_at: wanted.then_some(now),
            rests: false,
            ending,
            subscribe_at: now + SUBSCRIBE_AGAIN,
            deaf_until: now,
        };
        let failure = match self.subscribe().await {
            Ok(()) => self.turns(&mut times).await,
            Err(failure) => Some(failure),
        };
        if failure
            .as_ref()
            .is_none_or(|failure| matches!(failure.loss, Loss::Renewal | Loss::Rest))
        {
            self.say_goodbye().await;
        }
        failure
    }

    async fn turns(&mut self, times: &mut Times) -> Option<Failure> {
        let mut flushing = false;
        let mut closing = false;
        let mut is_back = false;
        // What came in one piece with CONNACK was read with it.
        if let Err(failure) = self.read_remote(times).await {
            return Some(failure);
        }
        loop {
            if self.writing.is_empty() {
                self.writing = self.inner.take_out();
            }
            if closing && self.inner.is_quiet() {
                return Some(times.closed());
            }
            self.listen(times);
            let due = self.due(times, closing);
            let may_ask = !self.shows_token();
            let may_halt = !times.rests;
            let turn = {
                let (inner, primary) = (&self.inner, &mut self.primary);
                let standing = &mut self.standing;
                let (home_in, home_out, room, ready) = match &mut self.home {
                    Some(HomeLine {
                        reader,
                        writer,
                        out,
                        ..
                    }) => {
                        let room = out.len() < HOME_ROOM;
                        let ready = !out.is_empty();
                        (Some(reader), Some((writer, &*out)), room, ready)
                    }
                    None => (None, None, true, false),
                };
                tokio::select! {
                    read = self.conn.reader.fill(), if room => Turn::Read(read),
                    turn = push(&mut self.conn.writer, &self.writing), if flushing || !self.writing.is_empty() => turn,
                    read = async { match home_in { Some(reader) => reader.fill().await, None => pending().await } } => Turn::HomeRead(read),
                    wrote = async { match home_out { Some((writer, out)) => writer.write(out).await, None => pending().await } }, if ready => Turn::HomeWrote(wrote),
                    () = inner.written.notified(), if self.writing.is_empty() => Turn::Asked,
                    () = tokio::time::sleep_until(due) => Turn::Time,
                    () = inner.rerouted.notified(), if may_ask => Turn::Rerouted,
                    () = primary, if !is_back => Turn::Primary,
                    () = rest::halts(standing), if may_halt => Turn::Halt,
                    () = inner.stop.notified() => Turn::Stop,
                }
            };
            let result = match turn {
                Turn::Read(Ok(true)) => {
                    times.last_in = Instant::now();
                    self.read_remote(times).await
                }
                Turn::Read(Ok(false)) => Err(Failure::closed()),
                Turn::Wrote(Ok(0)) => Err(Failure::closed()),
                Turn::Wrote(Ok(bytes)) => {
                    self.writing.advance(bytes);
                    flushing = true;
                    times.last_out = Instant::now();
                    self.inner.wrote(bytes);
                    Ok(())
                }
                Turn::Flushed(Ok(())) => {
                    flushing = false;
                    Ok(())
                }
                Turn::Read(Err(error)) | Turn::Wrote(Err(error)) | Turn::Flushed(Err(error)) => {
                    Err(Failure::io(&error))
                }
                Turn::HomeRead(Ok(true)) => self.read_home(),
                Turn::HomeWrote(Ok(bytes)) if bytes > 0 => {
                    if let Some(home) = &mut self.home {
                        home.out.drain(..bytes);
                    }
                    Ok(())
                }
                Turn::HomeRead(_) | Turn::HomeWrote(_) => Err(home_failure("was sent away")),
                Turn::Asked => Ok(()),
                Turn::Rerouted => {
                    if self.inner.wants_session() && !closing {
                        times.renew_at = Some(Instant::now());
                    }
                    self.rerouted().await
                }
                Turn::Time => {
                    self.weigh_renewal(times).await;
                    self.rest_if_idle(times);
                    self.time(times, &mut closing)
                }
                Turn::Primary => {
                    is_back = true;
                    tracing::info!(connector = %self.inner.health.name(), "the first address answers again: the bridge goes back to it");
                    if !closing {
                        times.renew_at = Some(Instant::now());
                    }
                    Ok(())
                }
                Turn::Halt => {
                    times.rest(Instant::now());
                    Ok(())
                }
                Turn::Stop => return None,
            };
            if let Err(failure) = result {
                return Some(failure);
            }
        }
    }

    /// While too much waits for the broker the remote is not read, and cannot be heard to answer.
    fn listen(&self, times: &mut Times) {
        if (self.home.as_ref()).is_some_and(|home| home.out.len() >= HOME_ROOM) {
            times.deaf_until = Instant::now();
        }
    }

    /// When something is to be done though nothing happens.
    fn due(&self, times: &Times, closing: bool) -> Instant {
        let ping = match times.pinged {
            Some(at) => at.max(times.deaf_until) + self.ping_timeout(),
            None => times.last_in.min(times.last_out) + self.keepalive,
        };
        let overdue = [self.inner.oldest(), self.inner.asked_since()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(times.deaf_until) + self.inner.plan().ack_timeout);
        let renew = match (times.renew_at, &times.ending) {
            (Some(at), _) => Some(if closing { at + DRAIN } else { at }),
            (None, ending) => ending.as_ref().map(Ending::due),
        };
        let home = self.home.as_ref().map(|home| home.ping_at);
        // While a token waits for its PUBACK nothing is asked for.
        let subscribe = (!self.shows_token()).then_some(times.subscribe_at);
        let rests = self.rests_at().filter(|_| times.renew_at.is_none());
        [overdue, renew, home, subscribe, rests]
            .into_iter()
            .flatten()
            .fold(ping, Instant::min)
            // A message that comes meanwhile has its own time.
            .min(Instant::now() + self.inner.plan().ack_timeout)
    }

    fn ping_timeout(&self) -> Duration {
        (self.keepalive / 2)
            .min(Duration::from_secs(10))
            .max(Duration::from_secs(1))
    }

    /// What is due is done.
    fn time(&mut self, times: &mut Times, closing: &mut bool) -> Result<(), Failure> {
        self.listen(times);
        let now = Instant::now();
        let plan = self.inner.plan();
        if self
            .inner
            .oldest()
            .is_some_and(|at| now >= at.max(times.deaf_until) + plan.ack_timeout)
        {
            let seconds = plan.ack_timeout.as_secs();
            let message =
                format!("the remote broker has not acknowledged a message for {seconds} s");
            return Err(Failure::network(SinkError::new(
                codes::ACK_OVERDUE,
                message,
            )));
        }
        if let Some(at) = self.inner.asked_since()
            && now >= at.max(times.deaf_until) + plan.ack_timeout
        {
            let seconds = plan.ack_timeout.as_secs();
            let message = format!(
                "the remote broker has not answered a SUBSCRIBE or a token for {seconds} s"
            );
            return Err(Failure::network(SinkError::new(codes::TIMEOUT, message)));
        }
        match times.pinged {
            Some(at) if now >= at.max(times.deaf_until) + self.ping_timeout() => {
                let message = "the remote broker has not answered a PINGREQ";
                return Err(Failure::network(SinkError::new(codes::TIMEOUT, message)));
            }
            None if now >= times.last_in.min(times.last_out) + self.keepalive => {
                times.pinged = Some(now);
                self.to_remote(&Packet::PingReq);
            }
            _ => {}
        }
        if let Some(home) = &mut self.home
            && now >= home.ping_at
        {
            home.ping_at = now + HOME_PING;
            home.send(&Packet::PingReq);
        }
        if now >= times.subscribe_at && !self.shows_token() {
            times.subscribe_at = now + SUBSCRIBE_AGAIN;
            self.ask_again();
        }
        if let Some(at) = times.renew_at
            && now >= if *closing { at + DRAIN } else { at }
        {
            if *closing {
                return Err(times.closed());
            }
            // CR-4: nothing new goes in, and what is out may still be acknowledged.
            *closing = true;
            self.inner.stop_taking();
        }
        Ok(())
    }

    fn to_remote(&self, packet: &Packet) {
        self.inner
            .with_up(|up| up.append(|version, out| codec::encode(packet, version, out)));
    }

    /// Packets of the remote that are there.
    async fn read_remote(&mut self, times: &mut Times) -> Result<(), Failure> {
        while let Some(packet) = self.conn.reader.next()? {
            match packet {
                Packet::Publish(publish) if self.hears_of_tokens(&publish, times)? => {}
                Packet::Publish(publish) => self.received(publish),
                Packet::PubRel(pubrel) => match &mut self.home {
                    Some(home) => home.send(&Packet::PubRel(pubrel)),
                    None => self.to_remote(&Packet::PubComp(PubComp::success(pubrel.packet_id))),
                },
                Packet::PubAck(ack) if self.token_is_answered(&ack)? => {}
                Packet::PubAck(ack) if ack.reason.is_error() => {
                    self.inner.refused(ack.packet_id, Refusal::of(ack.reason));
                }
                Packet::PubAck(ack) => self.inner.taken(ack.packet_id),
                Packet::PubRec(ack) if ack.reason == ReasonCode::PacketIdentifierInUse => {
                    if let Some((released, seq)) = self.inner.in_use(ack.packet_id) {
                        self.released.push((released, seq, ack.packet_id));
                    }
                }
                Packet::PubRec(ack) if ack.reason.is_error() => {
                    self.inner.refused(ack.packet_id, Refusal::of(ack.reason));
                }
                Packet::PubRec(ack) => match self.inner.to_release(ack.packet_id) {
                    Some((released, seq)) => self.released.push((released, seq, ack.packet_id)),
                    None => self.to_remote(&Packet::PubRel(PubRel::success(ack.packet_id))),
                },
                Packet::PubComp(ack) => self.inner.taken(ack.packet_id),
                Packet::SubAck(suback) => {
                    self.subscribed(suback.packet_id, &suback.reasons).await;
                }
                Packet::UnsubAck(unsuback) => self.unsubscribed(unsuback.packet_id).await?,
                Packet::PingResp => {
                    self.inner.heard();
                    if let Some(at) = times.pinged.take() {
                        let us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
                        self.inner.stats.round_trip_us.store(us.max(1), Relaxed);
                        self.inner.health.ok();
                    }
                }
                Packet::Disconnect(disconnect) => return Err(dismissed(&disconnect)),
                _ => {}
            }
        }
        self.release().await
    }

    /// Remembers which messages are released, then releases them.
    async fn release(&mut self) -> Result<(), Failure> {
        if self.released.is_empty() {
            return Ok(());
        }
        let released = std::mem::take(&mut self.released);
        let ids: Vec<PacketId> = released.iter().map(|(_, _, id)| *id).collect();
        let add = move || {
            let mut rest = released;
            while let Some((file, ..)) = rest.first() {
                let file = Arc::clone(file);
                let of_file = |entry: &(Arc<Released>, u64, PacketId)| Arc::ptr_eq(&entry.0, &file);
                let (these, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(of_file);
                let numbers: Vec<u64> = these.iter().map(|(_, seq, _)| *seq).collect();
                file.add(&numbers)?;
                rest = others;
            }
            Ok(())
        };
        remember(add).await?;
        for id in ids {
            self.to_remote(&Packet::PubRel(PubRel::success(id)));
        }
        Ok(())
    }

    async fn say_goodbye(&mut self) {
        // What the broker has acknowledged meanwhile still leaves, and DISCONNECT behind it. The session stays.
        let link = (self.inner).with_up(|up| (up.version().wire(), up.limits().retain_available));
        let (version, retains) = link.unwrap_or((ProtocolVersion::V5, false));
        let mut bytes = std::mem::take(&mut self.writing).to_vec();
        bytes.extend_from_slice(&self.inner.take_out());
        // [MQTT-3.14.4-3] Its will is not published: what that would say is said here.
        if let Some(down) = RemoteStatus::said(&self.inner.plan(), &self.client_id, false, retains)
        {
            let _ = codec::encode(&down, version, &mut bytes);
        }
        let disconnect = Disconnect {
            reason: ReasonCode::Success,
            properties: None,
        };
        if disconnect.encode(version, &mut bytes).is_err() {
            return;
        }
        let left = async {
            self.conn.writer.write_all(&bytes).await?;
            self.conn.writer.flush().await?;
            self.conn.writer.shutdown().await
        };
        let _ = tokio::time::timeout(GOODBYE, left).await;
    }
}

fn renewed() -> Failure {
    let message = "the link is made anew: its credentials expire, its filters have changed, or a rule needs the session";
    Failure {
        loss: Loss::Renewal,
        ..Failure::network(SinkError::new(codes::LINK_DOWN, message))
    }
}
