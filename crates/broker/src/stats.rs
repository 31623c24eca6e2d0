//! What the broker counts: plain atomics, written by connections once per socket read, read by `/metrics`.
//!
//! Never here: names and labels of the exposition format, and no client id or topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

use crate::core::outbox::SentCounts;
use crate::net::transport::Transport;

/// Every counter and gauge of the MQTT server.
#[derive(Debug, Default)]
pub struct BrokerStats {
    /// Network connections that were accepted.
    pub connections_accepted: Counter,
    /// Network connections that have ended.
    pub connections_closed: Counter,
    /// Network connections that are open now.
    pub connections_size: Counter,
    /// Every listener that there has been.
    pub listeners: RwLock<Vec<Arc<ListenerStats>>>,
    /// Connections turned away because a listener was full.
    pub connections_over_limit: Counter,
    /// Control packets that were read and handled to the end.
    pub handled_packets: Counter,
    /// Bytes of the packets that were handled to the end.
    pub handled_bytes: Counter,
    /// Control packets that were read from sockets.
    pub received_packets: Counter,
    /// Bytes that were read from sockets.
    pub received_bytes: Counter,
    /// Control packets that were written to sockets.
    pub sent_packets: Counter,
    /// Bytes that were written to sockets.
    pub sent_bytes: Counter,
    /// PUBLISH packets received, by QoS.
    pub messages_in: [Counter; 3],
    /// PUBLISH packets handed to an outbox, by QoS.
    pub messages_out: [Counter; 3],
    /// Bytes of the payloads of PUBLISH packets received.
    pub payload_bytes_in: Counter,
    /// Bytes of the payloads of PUBLISH packets handed to an outbox.
    pub payload_bytes_out: Counter,
    /// Messages not delivered to a session, by [`DropReason`].
    pub messages_dropped: [Counter; DropReason::ALL.len()],
    /// Filters of SUBSCRIBE packets refused, by the code that MQTT 5 gives to the reason.
    pub subscribes_refused: ReasonCounters,
    /// Connections that ended because the client broke the protocol or a limit, by the code that MQTT 5 gives to the
    /// reason.
    pub protocol_errors: ReasonCounters,
    /// Connections that ended, by [`CloseReason`].
    pub disconnects: [Counter; CloseReason::ALL.len()],
    /// CONNECT packets refused, by the code that MQTT 5 gives to the reason.
    pub connects_refused: ReasonCounters,
    /// CONNECT packets whose credentials were refused, by the code that MQTT 5 gives to the reason.
    pub auth_failures: ReasonCounters,
    /// Times that a client had to wait because it sent more than it may.
    pub throttled: Counter,
    /// Subscriptions that ended because they were no longer allowed.
    pub subscriptions_revoked: Counter,
    /// 1 while the storage has no room.
    pub store_full: Counter,
    /// Sessions that exist now, connected or not.
    pub sessions: Counter,
    /// Sessions that have a connection now.
    pub sessions_connected: Counter,
    /// The most sessions that had a connection at once.
    pub sessions_connected_most: Counter,
    /// Messages of `$delayed/…` that wait.
    pub delayed_messages: Counter,
    /// Subscriptions that exist now.
    pub subscriptions: Counter,
    /// Retained messages held now.
    pub retained_messages: Counter,
    /// Bytes of the retained messages held now.
    pub retained_bytes: Counter,
}

/// One number that only ever changes by addition and subtraction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Adds `n`; nothing is written for 0.
    pub fn add(&self, n: u64) {
        if n != 0 {
            self.0.fetch_add(n, Relaxed);
        }
    }

    /// Takes `n` away, for gauges.
    pub fn sub(&self, n: u64) {
        if n != 0 {
            self.0.fetch_sub(n, Relaxed);
        }
    }

    /// Raises a gauge to `n` if it is lower.
    pub fn raise(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

/// One counter for each reason code of MQTT 5.
#[derive(Debug)]
pub struct ReasonCounters(Box<[Counter; 256]>);

impl Default for ReasonCounters {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| Counter::default())))
    }
}

impl ReasonCounters {
    /// The counter of one reason code.
    pub fn of(&self, code: u8) -> &Counter {
        &self.0[usize::from(code)]
    }

    /// The codes that were counted at least once, with their counts.
    pub fn nonzero(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        (0u8..=255)
            .zip(self.0.iter())
            .map(|(code, counter)| (code, counter.get()))
            .filter(|(_, n)| *n > 0)
    }
}

/// Why a message did not reach a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue of a session was at its bound by count or bytes.
    QueueFull,
    /// A QoS 0 message met an outbox at its bound: the client reads too slowly.
    OutboxFull,
    /// A QoS 0 message met a session without a connection.
    OfflineQos0,
    /// Its message expiry interval passed while it waited.
    Expired,
    /// It is larger than the maximum packet size of the receiver.
    TooLarge,
    /// The session ended while messages waited in it.
    SessionEnded,
    /// Retained messages are at their bound: routed, but not retained.
    RetainedFull,
    /// A sink that blocks had no room for what rules made of it.
    SinkFull,
    /// The publisher may not publish to the topic.
    NotAuthorized,
    /// The payload was said to be UTF-8 text and is not.
    PayloadFormat,
    /// `$delayed/…` or `$retain/…` without a number or a topic.
    TopicInvalid,
    /// Too many messages of `$delayed/…` wait.
    DelayedFull,
    /// Its payload is larger than clients may send.
    PayloadTooLarge,
    /// The storage has no room for what it would leave there.
    StoreFull,
    /// A bridge of another broker brought back what came from here.
    Loop,
    /// The device is held to its cloud's rate, and this is above it.
    CloudRate,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 16] = [
        Self::QueueFull,
        Self::OutboxFull,
        Self::OfflineQos0,
        Self::Expired,
        Self::TooLarge,
        Self::SessionEnded,
        Self::RetainedFull,
        Self::SinkFull,
        Self::NotAuthorized,
        Self::PayloadFormat,
        Self::TopicInvalid,
        Self::DelayedFull,
        Self::PayloadTooLarge,
        Self::StoreFull,
        Self::Loop,
        Self::CloudRate,
    ];

    /// The label value in metrics and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::OutboxFull => "outbox_full",
            Self::OfflineQos0 => "qos0_msg",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::SessionEnded => "session_ended",
            Self::RetainedFull => "retained_full",
            Self::SinkFull => "sink_full",
            Self::NotAuthorized => "authz_deny",
            Self::PayloadTooLarge => "payload_too_large",
            Self::PayloadFormat => "payload_format",
            Self::TopicInvalid => "topic_invalid",
            Self::DelayedFull => "delayed_full",
            Self::StoreFull => "store_full",
            Self::Loop => "loop",
            Self::CloudRate => "cloud_rate",
        }
    }
}

/// Why a connection ended, in the words of `$events/client/disconnected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    Normal,
    /// An operator ended the connection.
    Kicked,
    /// Nothing was heard for longer than the keep-alive allows.
    KeepAliveTimeout,
    /// The socket ended without DISCONNECT.
    TcpClosed,
    /// Another connection took the session over.
    TakenOver,
    /// The client broke the protocol.
    ProtocolError,
    /// The broker is shutting down.
    ServerShutdown,
    /// A packet that had begun to come was too long in coming.
    PacketTimeout,
    /// The client did what it may not do.
    NotAuthorized,
    /// What the client logged in with has expired.
    PermissionExpired,
    /// The client sent more than it may.
    RateExceeded,
    /// The storage could not keep what the client was to be told is kept.
    StorageFailed,
}

impl CloseReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 12] = [
        Self::Normal,
        Self::Kicked,
        Self::KeepAliveTimeout,
        Self::TcpClosed,
        Self::TakenOver,
        Self::ProtocolError,
        Self::ServerShutdown,
        Self::PacketTimeout,
        Self::NotAuthorized,
        Self::PermissionExpired,
        Self::RateExceeded,
        Self::StorageFailed,
    ];

    /// The label value in metrics and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Kicked => "kicked",
            Self::KeepAliveTimeout => "keepalive_timeout",
            Self::TcpClosed => "tcp_closed",
            Self::TakenOver => "takenover",
            Self::ProtocolError => "protocol_error",
            Self::ServerShutdown => "server_shutdown",
            Self::PacketTimeout => "packet_timeout",
            Self::NotAuthorized => "not_authorized",
            Self::PermissionExpired => "permission_expired",
            Self::RateExceeded => "rate_exceeded",
            Self::StorageFailed => "storage_failed",
        }
    }

    /// A sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Normal => "the client sent DISCONNECT",
            Self::Kicked => "an operator ended the connection",
            Self::KeepAliveTimeout => "nothing was heard for longer than the keep-alive allows",
            Self::TcpClosed => "the connection ended without DISCONNECT",
            Self::TakenOver => "another connection took the session over",
            Self::ProtocolError => "the client broke the protocol",
            Self::ServerShutdown => "the broker is stopping",
            Self::PacketTimeout => "a packet was too long in coming",
            Self::NotAuthorized => "the client did what it may not do",
            Self::PermissionExpired => "what the client logged in with has expired",
            Self::RateExceeded => "the client sent more than it may",
            Self::StorageFailed => "the storage could not keep what was to be kept",
        }
    }
}

/// What one listener counts.
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// Its name.
    pub name: Arc<str>,
    /// How its clients reach it.
    pub transport: Transport,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that are open now.
    pub open: Counter,
    /// Connections turned away because there were too many.
    pub over_limit: Counter,
    /// Times that the system could give it no connection.
    pub accept_errors: Counter,
    /// Connections that did not come to MQTT, by [`HandshakeFailure`].
    pub handshake_failures: [Counter; HandshakeFailure::ALL.len()],
}

impl ListenerStats {
    /// Counts a connection that did not come to MQTT.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.handshake_failures[reason as usize].add(1);
    }
}

/// Why a connection did not come to MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It took too long.
    Timeout,
    /// The client ended it.
    Closed,
    /// The PROXY header was malformed, or came from somebody who is not trusted.
    Proxy,
    /// No TLS, or none that both sides speak.
    Tls,
    /// The client's certificate was missing, not good or without the name that is asked for.
    ClientCertificate,
    /// The request for a WebSocket was refused.
    WebSocket,
}

impl HandshakeFailure {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Timeout,
        Self::Closed,
        Self::Proxy,
        Self::Tls,
        Self::ClientCertificate,
        Self::WebSocket,
    ];

    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::ClientCertificate => "client_certificate",
            Self::WebSocket => "web_socket",
        }
    }
}

impl BrokerStats {
    /// The counters of a listener; one that comes again goes on counting.
    pub fn listener(&self, name: &Arc<str>, transport: Transport) -> Arc<ListenerStats> {
        let mut listeners = self.listeners.write();
        let known = listeners
            .iter()
            .find(|known| known.name == *name && known.transport == transport);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let fresh = Arc::new(ListenerStats {
            name: Arc::clone(name),
            transport,
            ..ListenerStats::default()
        });
        listeners.push(Arc::clone(&fresh));
        fresh
    }

    /// Counts messages that did not reach a session.
    pub fn dropped(&self, reason: DropReason, n: u64) {
        self.messages_dropped[reason as usize].add(n);
    }

    /// Counts what one write carries.
    pub fn sent(&self, counts: &SentCounts) {
        self.sent_packets.add(counts.packets);
        if counts.payload_bytes > 0 {
            self.payload_bytes_out.add(counts.payload_bytes);
        }
        for (counter, n) in self.messages_out.iter().zip(counts.messages) {
            counter.add(n);
        }
    }

    /// Counts a connection's end.
    pub fn closed(&self, reason: CloseReason) {
        self.disconnects[reason as usize].add(1);
    }

    /// The drops of one reason so far.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.messages_dropped[reason as usize].get()
    }
}
