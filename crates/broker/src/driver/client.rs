//! One connected client: its packets go in here, what they cause leaves through the session's outbox and the router.
//!
//! Nothing waits here. A publish that a sink has no room for is parked; who drives the client polls until there is.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;
use weir_mqtt::codec::ManyFilters;
use weir_mqtt::properties::{AckProperties, DisconnectProperties};
use weir_mqtt::{Disconnect, EncodeError, Packet, ProtocolVersion, Publish, ReasonCode, Utf8};

use super::Shared;
use super::access::Expiry;
use super::emulation::Emulation;
use super::events::{self, ClientInfo, Receiver};
use super::flush::{self, Output};
use super::forgotten::Forgotten;
use super::gate::{Gate, Replies};
use super::handle::{SessionHandle, Writer};
use super::ingress::Ingress;
use super::lease::Leased;
use super::limits::Rates;
use super::router::Router;
use super::sign_in::SignIn;
use super::subscribe::Unfinished;
use crate::auth::Subject;
use crate::core::Millis;
use crate::core::connect::{Admission, Refused, expiry_at_disconnect};
use crate::core::limits::WhenExceeded;
use crate::core::outbox::WriteBatch;
use crate::core::subscriptions::SessionKey;
use crate::hooks::Notices;
use crate::net::wire::SocketWriter;
use crate::stats::CloseReason;
use crate::store::{Durability, Waits};

/// Why a connection ends, and what is said to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// For events and statistics.
    pub(crate) reason: CloseReason,
    /// The reason code of the DISCONNECT that an MQTT 5 client gets.
    pub(crate) say: Option<ReasonCode>,
    /// The same for people; empty where the code says it all.
    pub(crate) why: &'static str,
}

impl From<Refused> for Leave {
    fn from(refused: Refused) -> Self {
        Self::because(refused.reason, refused.why)
    }
}

impl Leave {
    /// The client broke the protocol or a limit, in words.
    pub(crate) const fn because(code: ReasonCode, why: &'static str) -> Self {
        Self {
            reason: CloseReason::ProtocolError,
            say: Some(code),
            why,
        }
    }

    /// The socket has ended.
    pub(crate) const fn closed() -> Self {
        Self {
            reason: CloseReason::TcpClosed,
            say: None,
            why: "",
        }
    }

    /// The broker wants the connection to end.
    pub(crate) const fn by_broker(reason: CloseReason) -> Self {
        let say = match reason {
            CloseReason::TakenOver => Some(ReasonCode::SessionTakenOver),
            CloseReason::ServerShutdown => Some(ReasonCode::ServerShuttingDown),
            CloseReason::KeepAliveTimeout => Some(ReasonCode::KeepAliveTimeout),
            CloseReason::StorageFailed => Some(ReasonCode::ImplementationSpecificError),
            CloseReason::Kicked | CloseReason::PacketTimeout => {
                Some(ReasonCode::AdministrativeAction)
            }
            CloseReason::NotAuthorized => Some(ReasonCode::NotAuthorized),
            // The maximum connection time authorized for this connection has been exceeded (MQTT 5, 3.14.2.1).
            CloseReason::PermissionExpired => Some(ReasonCode::MaximumConnectTime),
            CloseReason::RateExceeded => Some(ReasonCode::MessageRateTooHigh),
            CloseReason::Normal | CloseReason::TcpClosed | CloseReason::ProtocolError => None,
        };
        let why = match reason {
            CloseReason::TakenOver => "another connection uses this client identifier",
            CloseReason::PermissionExpired => "what the client logged in with has expired",
            CloseReason::RateExceeded => "the client sends more than it may",
            CloseReason::KeepAliveTimeout => "nothing came for longer than the keep-alive allows",
            CloseReason::NotAuthorized => "the client published where it may not",
            CloseReason::Kicked => "an operator has ended the connection",
            CloseReason::PacketTimeout => "a packet was too long in coming",
            CloseReason::StorageFailed => "the storage could not keep what the client sent",
            // The code says it, or nothing is said at all.
            CloseReason::ServerShutdown
            | CloseReason::Normal
            | CloseReason::TcpClosed
            | CloseReason::ProtocolError => "",
        };
        Self { reason, say, why }
    }
}

/// A client whose CONNECT was accepted, until it leaves.
pub(crate) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) router: Router,
    /// Who the client is, for what it may do.
    pub(super) subject: Arc<Subject>,
    pub(super) info: Arc<ClientInfo>,
    /// What session listeners are yet to hear; `None` when there are none.
    pub(super) notices: Option<Box<Notices>>,
    /// Status listeners know that the client is here.
    pub(super) announced: bool,
    /// What acknowledgements wait for at most.
    pub(super) durability: Durability,
    /// Acknowledgements of the present step, encoded.
    pub(super) replies: Replies,
    pub(super) gate: Gate,
    /// The topic of each alias from 1 on.
    pub(super) aliases: Vec<Option<Utf8>>,
    /// Publishes that wait for room in a sink, and those behind them.
    pub(super) parked: VecDeque<Publish>,
    /// Resolves when the first parked publish is worth another try.
    pub(super) room: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How fast the client may send, where that is limited.
    rates: Option<Box<Rates>>,
    /// While too much of what clients did waits for the storage, and this one added to it: nothing is read.
    line: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// While it has sent too much: nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
    /// Ends the connection when the client's permission does.
    pub(super) expiry: Option<Expiry>,
    /// Tells the client when the tokens end that it was let in for, and ends the connection then.
    pub(super) leased: Option<Leased>,
    /// The rules of the cloud that the client is held to.
    pub(super) cloud: Option<Box<Emulation>>,
    /// An acknowledgement has made room in the receive maximum.
    pub(super) refill: bool,
    /// Packets handled and PUBLISH packets read since the last count.
    pub(super) counts: Counts,
    keep_alive_ms: Option<Millis>,
    /// The largest packet that the client takes.
    max_packet_size: usize,
    /// When to send again what is not acknowledged, if that is wanted.
    retry: Option<Retry>,
    /// Acknowledgements of the client's so far.
    pub(super) acknowledged: u64,
    /// For the client that is a bridge: how its messages come in.
    pub(super) ingress: Option<Box<Ingress>>,
    /// How the client signed in, if it was not with a password.
    pub(super) sign_in: Option<Box<SignIn>>,
    /// Whether acknowledgements may say why. `[MQTT-3.1.2-29]`
    explains: bool,
    /// The publish that is tried now has been parked before.
    pub(super) retrying: bool,
    /// A packet that was begun and is not done yet.
    pub(super) unfinished: Option<Box<Unfinished>>,
    pub(super) left: bool,
    /// The filters of its session, once that has ended and while some are left.
    pub(super) forgotten: Option<Forgotten>,
    /// What its DISCONNECT carried, where a rule listens.
    pub(super) farewell: Option<Box<DisconnectProperties>>,
}

/// Why a connection's task was woken.
pub(crate) struct News {
    /// The broker wants the connection to end.
    pub(crate) leave: Option<Leave>,
    /// Others have written to the client.
    pub(crate) was_written_to: bool,
}

/// Sending again over the same connection, which only versions before 5 allow. `[MQTT-4.4.0-1]`
#[derive(Debug)]
struct Retry {
    every: Millis,
    at: Millis,
    /// Acknowledgements when it was last looked.
    acknowledged: u64,
}

impl Retry {
    fn new(shared: &Shared, version: ProtocolVersion) -> Option<Self> {
        let every = shared
            .settings
            .retry_interval
            .filter(|_| !version.is_v5())?;
        let every = u64::try_from(every.as_millis()).ok()?;
        Some(Self {
            every,
            at: shared.clock.now() + every,
            acknowledged: 0,
        })
    }
}

/// What is counted once for each step.
#[derive(Debug, Default)]
pub(super) struct Counts {
    packets: u64,
    bytes: u64,
    pub(super) messages: [u64; 3],
    pub(super) payload_bytes: u64,
}

impl Client {
    /// A client that owns its session and is attached to it.
    pub(super) fn new(
        shared: &Arc<Shared>,
        handle: Arc<SessionHandle>,
        router: Router,
        info: Arc<ClientInfo>,
        subject: Arc<Subject>,
        admission: &Admission,
        explains: bool,
    ) -> Self {
        let (keep_alive_s, version) = (admission.keep_alive_s, info.version);
        // [MQTT-3.1.2-22] One and a half times the keep-alive, or what the settings say.
        let factor = shared.settings.keepalive_factor.max(1.0);
        let keep_alive = std::time::Duration::from_secs(u64::from(keep_alive_s)).mul_f64(factor);
        let cloud = Emulation::of(&subject.identity, shared.clock.now());
        Self {
            shared: Arc::clone(shared),
            handle,
            router,
            info,
            subject,
            leased: None,
            cloud,
            notices: shared.notices(),
            announced: false,
            durability: Durability::Fsync,
            replies: Replies::default(),
            gate: Gate::default(),
            aliases: Vec::new(),
            parked: VecDeque::new(),
            room: None,
            rates: Rates::new(&shared.settings.limits.client, shared.clock.now()),
            line: None,
            pause: None,
            expiry: None,
            // What an earlier connection left is sent again in the first step.
            refill: true,
            counts: Counts::default(),
            keep_alive_ms: match keep_alive_s {
                0 => shared.settings.idle_timeout,
                _ => Some(keep_alive),
            }
            .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(Millis::MAX)),
            max_packet_size: admission.link.max_packet_size,
            explains,
            sign_in: None,
            ingress: None,
            retry: Retry::new(shared, version),
            acknowledged: 0,
            retrying: false,
            unfinished: None,
            left: false,
            forgotten: None,
            farewell: None,
        }
    }

    /// The largest packet that the client takes.
    pub(crate) fn max_packet_size(&self) -> usize {
        self.max_packet_size
    }

    /// Which session it has.
    pub(crate) fn session(&self) -> SessionKey {
        self.handle.key
    }

    /// The wire format.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.info.version
    }

    /// Who.
    pub(crate) fn client_id(&self) -> &Utf8 {
        &self.handle.client_id
    }

    /// How long the client may be silent.
    pub(crate) fn keep_alive_ms(&self) -> Option<Millis> {
        self.keep_alive_ms
    }

    /// The DISCONNECT with which the client is left, and a shorter one in case that is larger than the client takes.
    pub(crate) fn last_words(&self, leave: Leave) -> Option<[Disconnect; 2]> {
        let reason = leave.say.filter(|_| self.info.version.is_v5())?;
        let (reason, mut server_reference) = self.shared.refer(reason);
        if leave.reason == CloseReason::Kicked
            && let Some(said) = &self.handle.lock().farewell
        {
            server_reference = said.server.clone().or(server_reference);
        }
        let properties = DisconnectProperties {
            reason_string: self.shared.in_words(leave.why),
            server_reference,
            ..DisconnectProperties::default()
        };
        let long = Disconnect {
            reason,
            properties: Some(Box::new(properties)),
        };
        Some([long, Disconnect::new(reason)])
    }

    /// Handles one packet. Acknowledgements leave with [`step_done`](Self::step_done).
    pub(crate) fn handle(
        &mut self,
        now: Millis,
        packet: Packet,
        bytes: usize,
    ) -> Result<(), Leave> {
        self.count(now, matches!(packet, Packet::Publish(_)), bytes)?;
        match packet {
            Packet::Publish(publish) => self.publish(now, publish),
            Packet::PubAck(puback) => self.puback(&puback),
            Packet::PubRec(pubrec) => self.pubrec(&pubrec),
            Packet::PubRel(pubrel) => self.pubrel(&pubrel),
            Packet::PubComp(pubcomp) => self.pubcomp(&pubcomp),
            Packet::Subscribe(subscribe) => self.subscribe(now, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(now, unsubscribe),
            Packet::PingReq => self.ping(),
            Packet::Disconnect(disconnect) => Err(self.disconnect(&disconnect)),
            Packet::Auth(auth) => self.auth(auth),
            // [MQTT-3.1.0-2] A second CONNECT, and what only servers send.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                let why = "a second CONNECT, or a packet that only servers send";
                Err(Leave::because(ReasonCode::ProtocolError, why))
            }
        }
    }

    /// The same for a packet that may have very many filters, which are yet to be decoded.
    pub(crate) fn handle_many(
        &mut self,
        now: Millis,
        packet: ManyFilters,
        bytes: usize,
    ) -> Result<(), Leave> {
        self.count(now, false, bytes)?;
        match packet {
            ManyFilters::Subscribe(head, requests) => self.subscribe_many(now, head, requests),
            ManyFilters::Unsubscribe(head, filters) => self.unsubscribe_many(now, head, filters),
        }
    }

    fn count(&mut self, now: Millis, is_publish: bool, bytes: usize) -> Result<(), Leave> {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        if self.rates.is_some() {
            self.charge(now, is_publish, bytes)?;
        }
        Ok(())
    }

    /// Counts what the client sends. What came is handled; if it was too much, nothing more is read for a while.
    fn charge(&mut self, now: Millis, is_publish: bool, bytes: usize) -> Result<(), Leave> {
        let Some(rates) = &mut self.rates else {
            return Ok(());
        };
        let wait = rates.charge(now, is_publish, bytes);
        if wait == 0 {
            return Ok(());
        }
        self.shared.stats.throttled.add(1);
        if rates.when_exceeded == WhenExceeded::Disconnect {
            return Err(Leave::by_broker(CloseReason::RateExceeded));
        }
        let until = self.shared.clock.instant(now.saturating_add(wait));
        self.pause = Some(Box::pin(tokio::time::sleep_until(until)));
        Ok(())
    }

    /// Whether a client that had sent too much, or for which the storage was too slow, may go on now.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self
            .pause
            .as_mut()
            .is_some_and(|pause| pause.as_mut().poll(cx).is_ready());
        if over {
            self.pause = None;
        }
        let line = self.line.as_mut();
        let short = line.is_some_and(|line| line.as_mut().poll(cx).is_ready());
        if short {
            self.line = None;
        }
        over || short
    }

    /// `[MQTT-3.12.4-1]` Promises nothing about storage, so it does not wait at the gate.
    fn ping(&mut self) -> Result<(), Leave> {
        if self.router.watch().ping {
            let expiry_s = self.handle.lock().session.expiry_interval_s();
            self.router.observe(events::ping(&self.info, expiry_s));
        }
        let mut slot = self.handle.lock();
        encoded(weir_mqtt::codec::encode(
            &Packet::PingResp,
            self.info.version,
            slot.session.outbox().control(),
        ))
    }

    fn disconnect(&mut self, disconnect: &Disconnect) -> Leave {
        let asked = disconnect
            .properties
            .as_ref()
            .and_then(|properties| properties.session_expiry_interval_s);
        let mut slot = self.handle.lock();
        let connected_with = slot.session.expiry_interval_s();
        match expiry_at_disconnect(connected_with, asked, &self.shared.connect_limits) {
            None => {
                let why = "a session expiry interval of 0 cannot be raised in DISCONNECT";
                return Leave::because(ReasonCode::ProtocolError, why);
            }
            Some(expiry) if expiry != connected_with => {
                slot.session
                    .set_expiry_interval(expiry, &mut self.router.effects);
            }
            Some(_) => {}
        }
        drop(slot);
        if self.router.watch().disconnected {
            self.farewell.clone_from(&disconnect.properties);
        }
        let mut slot = self.handle.lock();
        // [MQTT-3.14.4-3] Only reason 0x04 asks for the Will.
        if disconnect.reason == ReasonCode::Success {
            slot.session.set_will(None, &mut self.router.effects);
        }
        Leave {
            reason: CloseReason::Normal,
            say: None,
            why: "",
        }
    }

    /// The end of a step, such as one socket read: commits, acknowledges, wakes receivers.
    pub(crate) fn step_done(&mut self, now: Millis) {
        if std::mem::take(&mut self.refill) && self.handle.lock().session.has_some_waiting() {
            self.send_waiting(now);
        }
        // Who is promised nothing is answered at once.
        let acknowledges = self.replies.packets > 0 && self.durability > Durability::Memory;
        let waits = if acknowledges || self.notices.is_some() {
            Waits::Somebody
        } else {
            Waits::Nobody
        };
        let ticket = self.router.finish_for(now, waits);
        if !ticket.is_ready() && self.shared.store.line().is_long() {
            let line = Arc::clone(self.shared.store.line());
            self.line = Some(Box::pin(line.is_short()));
        }
        if let Some(notices) = &mut self.notices {
            notices.step_done(&ticket);
        }
        if self.replies.packets > 0 {
            let ticket = ticket.at_most(self.durability);
            let mut slot = self.handle.lock();
            self.gate
                .acknowledge(ticket, &mut self.replies, slot.session.outbox());
        }
        let counts = std::mem::take(&mut self.counts);
        let stats = &self.shared.stats;
        stats.handled_packets.add(counts.packets);
        stats.handled_bytes.add(counts.bytes);
        if counts.payload_bytes > 0 {
            stats.payload_bytes_in.add(counts.payload_bytes);
        }
        for (counter, n) in stats.messages_in.iter().zip(counts.messages) {
            counter.add(n);
        }
        flush::step_done();
    }

    /// Has what waits for the client written with what this step left for others, after it. False when the connection
    /// must write it itself.
    pub(crate) fn owe_output(&self) -> bool {
        let mut slot = self.handle.lock();
        if !slot.session.outbox().has_some_to_take() {
            return true;
        }
        let by_others = slot.socket.is_some() && flush::is_told();
        drop(slot);
        if by_others {
            flush::owe(std::iter::once(Arc::clone(&self.handle)));
        }
        by_others
    }

    /// When to look whether the client acknowledges anything.
    pub(crate) fn retry_at(&self) -> Option<Millis> {
        self.retry.as_ref().map(|retry| retry.at)
    }

    /// Sends everything again that is in flight if the client has read it all and acknowledged nothing since the last
    /// look.
    pub(crate) fn retry(&mut self, now: Millis) {
        let Some(retry) = &mut self.retry else { return };
        retry.at = now + retry.every;
        let before = std::mem::replace(&mut retry.acknowledged, self.acknowledged);
        if before != self.acknowledged {
            return;
        }
        let again = {
            let mut slot = self.handle.lock();
            let read = slot.session.outbox().is_empty();
            read && slot.session.send_all_again()
        };
        if again {
            self.send_waiting(now);
            drop(self.router.finish(now));
        }
    }

    /// Moves what waits in the session into its outbox, as far as there is room.
    fn send_waiting(&mut self, now: Millis) {
        let has_backlog = {
            let mut slot = self.handle.lock();
            let has_backlog = slot.session.has_backlog();
            if !has_backlog {
                slot.session.refill(now, None, &mut self.router.effects);
            }
            has_backlog
        };
        if has_backlog {
            // Retained messages are locked before sessions.
            let retained = self.shared.retained.read();
            self.handle
                .lock()
                .session
                .refill(now, Some(&retained), &mut self.router.effects);
        }
        self.router.note_held(&self.handle, &mut self.handle.lock());
        self.tell_delivered();
    }

    pub(super) fn tell_delivered(&mut self) {
        let receiver = Receiver {
            client_id: &self.handle.client_id,
            subject: Some(&self.subject),
        };
        for message in std::mem::take(&mut self.router.effects.delivered) {
            self.router
                .tell_receiver(&events::DELIVERED, &message, receiver, None);
        }
    }

    /// Whether someone has something for this client, such as output. The task is woken when that changes.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> bool {
        self.handle.poll_ready(cx)
    }

    /// Whether rules that may take long have run since this was last asked.
    pub(crate) fn ran_rules(&mut self) -> bool {
        std::mem::take(&mut self.router.ran_rules)
    }

    /// What others want of the connection, or have done to it.
    pub(crate) fn news(&self) -> News {
        let slot = self.handle.lock();
        let leave = slot.close.map(|reason| {
            let leave = Leave::by_broker(reason);
            Leave {
                say: slot.farewell.as_ref().map(|said| said.code).or(leave.say),
                ..leave
            }
        });
        News {
            leave,
            was_written_to: slot.warm,
        }
    }

    /// Takes what is to be written; true when there will be more as soon as that is written.
    ///
    /// Who has taken something must come again when it is written: until then nobody else writes to the client.
    pub(crate) fn take_output(&mut self, now: Millis, batch: &mut WriteBatch) -> bool {
        let (output, waits) = {
            let mut slot = self.handle.lock();
            (slot.take_output(batch), slot.session.has_sendable())
        };
        match output {
            Output::Later => return false,
            Output::Taken(sent) => self.shared.stats.sent(&sent),
        }
        if !waits {
            return false;
        }
        self.send_waiting(now);
        // These sends settle nothing that anyone waits for.
        drop(self.router.finish(now));
        self.handle.lock().session.outbox().has_some_to_take()
    }

    /// Lets acknowledgements go whose commits have come; true when some went.
    pub(crate) fn poll_gate(&mut self, cx: &Context<'_>) -> bool {
        if self.notices.is_some() {
            self.poll_notices(cx);
        }
        if self.gate.is_empty() {
            return false;
        }
        let went = self.gate.poll(cx, self.handle.lock().session.outbox());
        if self.gate.has_failed() {
            self.handle.request_close(CloseReason::StorageFailed);
        }
        went
    }

    /// Whether it waits for anything but its client: that has to be asked.
    pub(crate) fn waits(&self) -> bool {
        self.is_held_back()
            || self.is_unfinished()
            || !self.gate.is_empty()
            || self.notices.is_some()
    }

    /// Tries parked publishes again when a sink may have room or the rules have changed, until that takes too long; true
    /// when it tried, even if they are parked again: then there is something else to wait for.
    pub(crate) fn poll_room(
        &mut self,
        now: Millis,
        until: Instant,
        cx: &mut Context<'_>,
    ) -> Result<bool, Leave> {
        let goes_on = self.poll_pause(cx);
        let Some(room) = &mut self.room else {
            return Ok(goes_on);
        };
        if room.as_mut().poll(cx) == Poll::Pending {
            return Ok(goes_on);
        }
        self.room = None;
        self.retrying = true;
        while self.room.is_none()
            && let Some(publish) = self.parked.pop_front()
        {
            self.accept(now, publish)?;
            self.retrying = false;
            if self.room.is_none() && !self.parked.is_empty() && Instant::now() >= until {
                self.room = Some(Box::pin(std::future::ready(())));
            }
        }
        self.step_done(now);
        Ok(true)
    }

    /// Whether another packet may be handled: otherwise reading must stop for a while.
    pub(crate) fn takes_packets(&self) -> bool {
        self.pause.is_none()
            && self.line.is_none()
            && !self.gate.is_full()
            && self.parked.len() < usize::from(self.shared.connect_limits.receive_maximum)
    }

    /// Whether the client is held back by a sink or the storage, so that its silence means nothing.
    pub(crate) fn is_held_back(&self) -> bool {
        self.room.is_some() || self.pause.is_some() || self.line.is_some() || self.gate.is_full()
    }

    /// Lets others write to the client.
    pub(crate) fn share_socket(&self, socket: Option<SocketWriter>) {
        self.handle.lock().socket = socket;
    }

    /// Whether others have written to the client since this was last asked; the first who does from now on wakes the
    /// task.
    pub(crate) fn was_written_to(&self) -> bool {
        std::mem::take(&mut self.handle.lock().warm)
    }

    /// Whether a publisher is writing to the client now; the task is woken when it has ended.
    pub(crate) fn is_written_to(&self) -> bool {
        let mut slot = self.handle.lock();
        slot.task_waits = slot.writer == Writer::Publisher;
        slot.task_waits
    }

    /// Whether so much waits to be written that the client must read before it may send more.
    pub(crate) fn must_read_first(&self) -> bool {
        self.handle.lock().session.outbox().len() > self.shared.session_limits.outbox_bytes
    }

    /// Gives memory back after a while of silence.
    pub(crate) fn shrink(&mut self) {
        self.router.shrink();
        self.replies.shrink();
        self.handle.lock().session.outbox().shrink();
    }

    /// [`reply`](Self::reply) with the reason in words, where the client wants them and they fit. `[MQTT-3.1.2-29]`
    pub(super) fn reply_because(
        &mut self,
        why: &'static str,
        mut encode: impl FnMut(
            Option<Box<AckProperties>>,
            ProtocolVersion,
            &mut Vec<u8>,
        ) -> Result<(), EncodeError>,
    ) -> Result<(), Leave> {
        if !why.is_empty() && self.explains {
            let properties = AckProperties {
                reason_string: Some(Utf8::from(why)),
                ..AckProperties::default()
            };
            let before = self.replies.bytes.len();
            let (version, out) = (self.info.version, &mut self.replies.bytes);
            encoded(encode(Some(Box::new(properties)), version, out))?;
            if self.replies.bytes.len() - before <= self.max_packet_size {
                self.replies.packets += 1;
                return Ok(());
            }
            self.replies.bytes.truncate(before);
        }
        self.reply(|version, out| encode(None, version, out))
    }

    /// Puts one acknowledgement among those of this step. `[MQTT-3.1.2-24]` A client that does not take packets of its
    /// size cannot be served.
    pub(super) fn reply(
        &mut self,
        encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Leave> {
        let before = self.replies.bytes.len();
        encoded(encode(self.info.version, &mut self.replies.bytes))?;
        if self.replies.bytes.len() - before > self.max_packet_size {
            self.replies.bytes.truncate(before);
            let why = "an acknowledgement is larger than the client takes";
            return Err(Leave::because(ReasonCode::PacketTooLarge, why));
        }
        self.replies.packets += 1;
        Ok(())
    }
}

impl Drop for Client {
    /// However the task ends, the session must not stay owned.
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.leave(now, CloseReason::TcpClosed);
    }
}

/// The broker makes only packets that can be encoded; if it did not, the client is better off without this connection.
pub(super) fn encoded(result: Result<(), EncodeError>) -> Result<(), Leave> {
    result.map_err(|error| {
        tracing::error!(%error, "a packet could not be encoded");
        let why = "the broker made a packet that cannot be sent";
        Leave::because(ReasonCode::ImplementationSpecificError, why)
    })
}
