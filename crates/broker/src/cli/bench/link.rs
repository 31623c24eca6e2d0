//! One client's connection: its socket, what waits to be written, what was half read, and what it is for.

use std::os::fd::OwnedFd;

use weir_mqtt::{Connect, EncodeError, PacketId, ProtocolVersion, QoS, Subscribe};
use weir_mqtt::{SubscribeOptions, SubscriptionFilter, SubscriptionRequest, Utf8};

use super::arrivals::Arrivals;
use super::plan::Subscriber;
use super::socket::{Moved, write};

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Publishes; the place of its window among the publishers.
    Publisher(usize),
    /// Receives.
    Subscriber,
    /// Is there.
    Idle,
}

/// Whether a client's session outlives its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    Ends,
    Kept,
}

/// Longer than any run.
const KEPT_S: u32 = 3600;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    New,
    Connecting,
    Subscribing,
    Ready,
    Closed,
}

pub(super) struct Link {
    pub socket: Option<OwnedFd>,
    pub role: Role,
    /// Its number among those of its role: the end of its client id.
    pub number: usize,
    pub state: State,
    /// The beginning of a packet whose end has not come.
    pub unread: Vec<u8>,
    pub out: Vec<u8>,
    /// How much of `out` is written.
    pub written: usize,
    /// Waits for room to write.
    pub blocked: bool,
    /// Is among those to be flushed.
    pub dirty: bool,
    pub began_ns: u64,
    pub filters: Vec<String>,
    /// How many of the filters are asked for.
    pub asked: usize,
    /// Which streams reach it, and what has come of each.
    pub first: usize,
    pub step: usize,
    pub arrivals: Vec<Arrivals>,
    /// How many QoS 1 and 2 messages the broker takes before it has acknowledged one.
    pub receive_maximum: usize,
}

impl Link {
    pub(super) fn new(role: Role, number: usize) -> Self {
        Self {
            socket: None,
            role,
            number,
            state: State::New,
            unread: Vec::new(),
            out: Vec::new(),
            written: 0,
            blocked: false,
            dirty: false,
            began_ns: 0,
            filters: Vec::new(),
            asked: 0,
            first: 0,
            step: 1,
            arrivals: Vec::new(),
            receive_maximum: usize::from(u16::MAX),
        }
    }

    pub(super) fn subscriber(number: usize, plan: &Subscriber) -> Self {
        Self {
            filters: plan.filters.clone(),
            first: plan.first,
            step: plan.step,
            arrivals: vec![Arrivals::default(); plan.streams],
            ..Self::new(Role::Subscriber, number)
        }
    }

    /// A client that only stays, with one subscription of its own if it is to.
    pub(super) fn idle(number: usize, subscribes: bool) -> Self {
        Self {
            filters: subscribes
                .then(|| format!("bench/device/{number}/down"))
                .into_iter()
                .collect(),
            ..Self::new(Role::Idle, number)
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// `weir-bench-RUN-s7`: the relay reads from it who belongs to whom.
    pub(super) fn client_id(&self, run: u32) -> String {
        let letter = match self.role {
            Role::Publisher(_) => 'p',
            Role::Subscriber => 's',
            Role::Idle => 'i',
        };
        format!("weir-bench-{run:08x}-{letter}{}", self.number)
    }

    /// Begins anew on this socket.
    pub(super) fn opened(&mut self, socket: OwnedFd, now_ns: u64) {
        self.socket = Some(socket);
        self.state = State::Connecting;
        self.unread.clear();
        self.out.clear();
        self.written = 0;
        self.asked = 0;
        self.began_ns = now_ns;
        // Writable means connected.
        self.blocked = true;
    }

    /// The stream's record, if that stream reaches this client.
    #[inline]
    pub(super) fn arrivals_of(&mut self, stream: usize) -> Option<&mut Arrivals> {
        if stream % self.step != self.first {
            return None;
        }
        self.arrivals.get_mut(stream / self.step)
    }

    /// Appends a SUBSCRIBE of the next filters, at most `most`; false when all are asked for.
    pub(super) fn ask(
        &mut self,
        most: usize,
        qos: QoS,
        version: ProtocolVersion,
    ) -> Result<bool, EncodeError> {
        let end = (self.asked + most).min(self.filters.len());
        if self.asked == end {
            return Ok(false);
        }
        let requests = self.filters[self.asked..end]
            .iter()
            .map(|filter| SubscriptionRequest {
                filter: SubscriptionFilter::parse(filter).expect("a scenario's filters are valid"),
                options: SubscribeOptions::with_qos(qos),
            })
            .collect();
        self.asked = end;
        Subscribe {
            packet_id: PacketId::MIN,
            requests,
            properties: None,
        }
        .encode(version, &mut self.out)?;
        Ok(true)
    }

    /// Writes what waits, as far as there is room; whether all of it is written.
    pub(super) fn flush(&mut self) -> std::io::Result<bool> {
        let Some(socket) = &self.socket else {
            return Ok(true);
        };
        while self.written < self.out.len() {
            match write(socket, &self.out[self.written..])? {
                Moved::Bytes(bytes) => self.written += bytes,
                Moved::WouldBlock => return Ok(false),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }
}

/// A CONNECT, encoded.
pub(super) fn connect_packet(
    client_id: &str,
    version: ProtocolVersion,
    credentials: Option<&(String, String)>,
    session: Session,
) -> Result<Vec<u8>, String> {
    let text = |text: &str| Utf8::new(text).map_err(|error| format!("`{text}`: {error}"));
    let mut connect = Connect::new(version, text(client_id)?);
    // Long enough that no run needs a PINGREQ.
    connect.keep_alive_s = 600;
    if session == Session::Kept {
        connect.clean_start = false;
        // Older versions have no word for it: the session stays until it is forgotten.
        connect.properties.session_expiry_interval_s = version.is_v5().then_some(KEPT_S);
    }
    if let Some((user, password)) = credentials {
        connect.username = Some(text(user)?);
        connect.password = Some(password.clone().into());
    }
    let mut out = Vec::new();
    connect
        .encode(&mut out)
        .map_err(|error| error.to_string())?;
    Ok(out)
}
