//! Thousands of MQTT clients on one thread: connects them, moves their bytes, counts what arrives.
//!
//! One thread and few calls, so that little of the machine goes to the one who measures.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weir_mqtt::{ProtocolVersion, QoS};

use super::link::{Link, Role, Session, State, connect_packet};
use super::plan::Plan;
use super::progress::Progress;
use super::socket::{
    self, Moved, Poller, begin_connect, connect_error, prepare_process, source_address,
};
use super::traffic::{Publisher, StreamState};

/// What every scenario is given.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub target: SocketAddr,
    /// How many loopback addresses the connections come from; 0: the system's choice.
    pub sources: u8,
    pub version: ProtocolVersion,
    pub credentials: Option<(String, String)>,
    pub publish_qos: QoS,
    pub subscribe_qos: QoS,
    /// Of subscribers.
    pub session: Session,
    /// Bytes of payload.
    pub size: usize,
    /// Messages of one publisher that may be under way.
    pub window: usize,
    /// Messages a second of all publishers together; 0: as many as the windows let through.
    pub rate: u64,
    /// Handshakes at once.
    pub at_once: usize,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub sent: u64,
    /// Deliveries that were sent for.
    pub expected: u64,
    pub acknowledged: u64,
    pub received: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// Messages of others, packets that nobody asked for, acknowledgements with an error.
    pub unexpected: u64,
    /// Connections that the broker or the network ended.
    pub closed: u64,
    /// Deliveries that a publisher no longer waited for after a second without any.
    pub given_up: u64,
}

/// Filters in one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 10;
const SCRATCH: usize = 256 * 1024;
/// How long nothing may happen while clients connect.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Engine {
    pub(super) poller: Poller,
    pub(super) settings: Settings,
    /// Marks this run's messages and client ids.
    pub(super) run: u32,
    pub(super) padding: Vec<u8>,
    pub(super) streams: Vec<StreamState>,
    pub(super) links: Vec<Link>,
    pub(super) publishers: Vec<Publisher>,
    pub(super) tally: Tally,
    pub(super) latency: Histogram<u64>,
    /// How late messages were sent in a paced run.
    pub(super) lateness: Histogram<u64>,
    pub(super) handshakes: Histogram<u64>,
    pub(super) dirty: Vec<usize>,
    pub(super) last_error: Option<String>,
    /// Whether a CONNACK or SUBACK said no.
    pub(super) refused: bool,
    start: Instant,
    scratch: Vec<u8>,
    /// Clients between connect and ready.
    shaking_hands: usize,
    /// Whether a client leaves as soon as it is in.
    churning: bool,
    churned: usize,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 2).expect("the bounds are in order")
}

impl Engine {
    pub(super) fn new(settings: Settings) -> std::io::Result<Self> {
        prepare_process();
        Ok(Self {
            poller: Poller::new()?,
            run: rand::random(),
            padding: Vec::new(),
            streams: Vec::new(),
            links: Vec::new(),
            publishers: Vec::new(),
            tally: Tally::default(),
            latency: histogram(),
            lateness: histogram(),
            handshakes: histogram(),
            dirty: Vec::new(),
            last_error: None,
            refused: false,
            start: Instant::now(),
            scratch: vec![0; SCRATCH],
            shaking_hands: 0,
            churning: false,
            churned: 0,
            settings,
        })
    }

    /// Takes the clients and streams of a plan: subscribers first, then publishers.
    pub(super) fn take(&mut self, plan: &Plan) -> Result<(), String> {
        self.padding = vec![b'x'; self.payload_size() - super::traffic::STAMP];
        for stream in &plan.streams {
            self.streams.push(StreamState::new(stream, &self.settings)?);
        }
        let subscribers = plan.subscribers.iter().enumerate();
        self.links
            .extend(subscribers.map(|(number, one)| Link::subscriber(number, one)));
        for number in 0..plan.publishers {
            let streams = plan.streams.iter().enumerate();
            let mine: Vec<usize> = streams
                .filter(|(_, stream)| stream.publisher == number)
                .map(|(at, _)| at)
                .collect();
            let deliveries = plan.streams[mine[0]].deliveries;
            let link = self.links.len();
            self.links.push(Link::new(Role::Publisher(number), number));
            self.publishers
                .push(Publisher::new(link, mine, deliveries, number));
        }
        Ok(())
    }

    /// The payload's length: it has at least room for the stamp.
    pub(super) fn payload_size(&self) -> usize {
        self.settings.size.max(super::traffic::STAMP)
    }

    /// Nanoseconds since this engine was made.
    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Connects the clients from place `from` on, and subscribes them; whether all are ready.
    pub(super) fn connect_from(
        &mut self,
        from: usize,
        progress: &mut Progress,
    ) -> std::io::Result<bool> {
        let total = self.links.len();
        let mut next = from;
        let mut seen = (0, self.now_ns());
        loop {
            while next < total && self.shaking_hands < self.settings.at_once {
                self.open(next);
                next += 1;
            }
            self.step(Duration::from_millis(20))?;
            if next == total && self.shaking_hands == 0 {
                return Ok(self.links[from..].iter().all(Link::is_ready));
            }
            let far: usize = next
                + self.links[from..next]
                    .iter()
                    .map(|link| link.asked + usize::from(link.is_ready()))
                    .sum::<usize>();
            let now = self.now_ns();
            if far != seen.0 {
                seen = (far, now);
            } else if Duration::from_nanos(now - seen.1) > PATIENCE {
                let waiting = self.shaking_hands;
                self.fault(format!("{waiting} clients wait for an answer in vain"));
                return Ok(false);
            }
            progress.show(next - from, total - from, "clients");
        }
    }

    /// Connects and leaves `total` times; how often it succeeded.
    pub(super) fn churn(
        &mut self,
        total: usize,
        progress: &mut Progress,
    ) -> std::io::Result<usize> {
        self.churning = true;
        let clients = self.settings.at_once.min(total);
        self.links = (0..clients)
            .map(|number| Link::idle(number, false))
            .collect();
        let (mut begun, mut ended) = (0, 0);
        let mut seen = (0, self.now_ns());
        while ended < total {
            for key in 0..clients {
                if begun < total && matches!(self.links[key].state, State::New | State::Closed) {
                    self.links[key].number = begun;
                    self.open(key);
                    begun += 1;
                }
            }
            self.step(Duration::from_millis(20))?;
            ended = begun - self.shaking_hands;
            let now = self.now_ns();
            if ended != seen.0 {
                seen = (ended, now);
            } else if Duration::from_nanos(now - seen.1) > PATIENCE {
                self.fault("no answer to CONNECT".to_owned());
                break;
            }
            progress.show(ended, total, "connects");
        }
        Ok(self.churned)
    }

    /// Begins the connection of the client at `key`.
    fn open(&mut self, key: usize) {
        let source = source_address(key, self.settings.sources);
        let client_id = self.links[key].client_id(self.run);
        let credentials = self.settings.credentials.as_ref();
        let session = match self.links[key].role {
            Role::Subscriber => self.settings.session,
            Role::Publisher(_) | Role::Idle => Session::Ends,
        };
        let now = self.now_ns();
        let opened = connect_packet(&client_id, self.settings.version, credentials, session)
            .and_then(|packet| {
                let socket = begin_connect(self.settings.target, source, None)
                    .map_err(|error| error.to_string())?;
                self.poller
                    .add(&socket, key, true)
                    .map_err(|error| error.to_string())?;
                Ok((socket, packet))
            });
        match opened {
            Ok((socket, packet)) => {
                self.links[key].opened(socket, now);
                self.links[key].out = packet;
                self.shaking_hands += 1;
            }
            Err(error) => {
                self.links[key].state = State::Closed;
                self.tally.closed += 1;
                self.fault(format!("connect: {error}"));
            }
        }
    }

    /// Waits up to `longest` and handles what is ready.
    pub(super) fn step(&mut self, longest: Duration) -> std::io::Result<()> {
        let ready = self.poller.wait(longest)?;
        for index in 0..ready {
            let ready = self.poller.ready(index);
            if ready.writable {
                self.writable(ready.key);
            }
            if ready.readable {
                self.readable(ready.key);
            }
        }
        self.flush_dirty();
        Ok(())
    }

    pub(super) fn flush_dirty(&mut self) {
        while let Some(key) = self.dirty.pop() {
            self.links[key].dirty = false;
            if !self.links[key].blocked {
                self.flush(key);
            }
        }
    }

    pub(super) fn mark_dirty(&mut self, key: usize) {
        if !self.links[key].dirty {
            self.links[key].dirty = true;
            self.dirty.push(key);
        }
    }

    fn writable(&mut self, key: usize) {
        let link = &self.links[key];
        let Some(socket) = &link.socket else {
            return;
        };
        if link.state == State::Connecting
            && let Some(error) = connect_error(socket)
        {
            self.lost(key, format!("connect: {error}"));
            return;
        }
        self.flush(key);
    }

    /// Writes what waits, and asks to be told of room where there is none.
    fn flush(&mut self, key: usize) {
        let link = &mut self.links[key];
        match link.flush() {
            Ok(all) if all == link.blocked => {
                link.blocked = !all;
                if let Some(socket) = &link.socket
                    && let Err(error) = self.poller.change(socket, key, !all)
                {
                    self.lost(key, error.to_string());
                }
            }
            Ok(_) => {}
            Err(error) => self.lost(key, format!("write: {error}")),
        }
    }

    fn readable(&mut self, key: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let link = &mut self.links[key];
        let had = link.unread.len();
        if scratch.len() < had + SCRATCH {
            scratch.resize(had + SCRATCH, 0);
        }
        scratch[..had].copy_from_slice(&link.unread);
        let outcome = match &link.socket {
            Some(socket) => socket::read(socket, &mut scratch[had..]),
            None => Ok(Moved::WouldBlock),
        };
        match outcome {
            Ok(Moved::WouldBlock) => {}
            Ok(Moved::Bytes(0)) => self.lost(key, "the broker closed a connection".to_owned()),
            Ok(Moved::Bytes(bytes)) => {
                let bytes = &scratch[..had + bytes];
                match self.take_in(key, bytes) {
                    Ok(used) => {
                        let link = &mut self.links[key];
                        link.unread.clear();
                        link.unread.extend_from_slice(&bytes[used..]);
                    }
                    Err(error) => self.lost(key, error),
                }
            }
            Err(error) => self.lost(key, format!("read: {error}")),
        }
        self.scratch = scratch;
    }

    /// CONNACK or SUBACK has come: subscribes further, or is ready.
    pub(super) fn go_on(&mut self, key: usize) -> Result<(), String> {
        if self.churning {
            self.churned += 1;
            self.leave(key);
            self.shaking_hands -= 1;
            return Ok(());
        }
        let link = &mut self.links[key];
        let (qos, version) = (self.settings.subscribe_qos, self.settings.version);
        if link
            .ask(FILTERS_AT_ONCE, qos, version)
            .map_err(|error| error.to_string())?
        {
            link.state = State::Subscribing;
            self.mark_dirty(key);
        } else {
            link.state = State::Ready;
            self.shaking_hands -= 1;
        }
        Ok(())
    }

    /// The connection is gone, for this reason.
    pub(super) fn lost(&mut self, key: usize, error: String) {
        let link = &mut self.links[key];
        if matches!(link.state, State::Connecting | State::Subscribing) {
            self.shaking_hands -= 1;
        }
        if link.state != State::Closed {
            link.state = State::Closed;
            self.tally.closed += 1;
        }
        link.socket = None;
        self.fault(error);
    }

    /// Remembers the first fault: what comes after it is often its consequence.
    pub(super) fn fault(&mut self, error: String) {
        self.last_error.get_or_insert(error);
    }

    fn leave(&mut self, key: usize) {
        let link = &mut self.links[key];
        if let Some(socket) = link.socket.take() {
            say_goodbye(&socket);
        }
        link.state = State::Closed;
    }

    /// Does nothing but read for so long.
    pub(super) fn idle(&mut self, time: Duration, progress: &mut Progress) -> std::io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.step(left.min(Duration::from_millis(50)))?;
            progress.show_time(time - left, time, "held");
        }
    }

    /// Ends all connections in order.
    pub(super) fn disconnect(&mut self) {
        for key in 0..self.links.len() {
            self.leave(key);
        }
    }

    /// After [`disconnect`](Self::disconnect): leaves no session behind that was to be kept.
    pub(super) fn forget_sessions(&mut self, progress: &mut Progress) -> std::io::Result<()> {
        if self.settings.session == Session::Ends {
            return Ok(());
        }
        self.settings.session = Session::Ends;
        self.links.retain(|link| link.role == Role::Subscriber);
        for link in &mut self.links {
            link.filters.clear();
        }
        self.connect_from(0, progress)?;
        self.disconnect();
        Ok(())
    }
}

/// DISCONNECT, as far as it can be written at once: the connection is closed anyway.
fn say_goodbye(socket: &OwnedFd) {
    let _ = socket::write(socket, &[0xE0, 0]);
}
