//! Clients that mean harm, each in its own way, and that come back when they are thrown out.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Map, json};
use weir_mqtt::{
    PacketId, ProtocolVersion, QoS, Subscribe, SubscribeOptions, SubscriptionFilter,
    SubscriptionRequest,
};

use super::engine::Engine;
use super::link::{Link, Session, connect_packet};
use super::progress::Progress;
use super::socket::{Moved, Poller, begin_connect, prepare_process, read, source_address, write};
use super::{Exit, Failure, Target, not_connected};
use crate::cli::out_line;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Clients that do nothing
    #[arg(long, default_value = "0")]
    idle: u32,
    /// Clients that mean harm
    #[arg(long, default_value = "0")]
    hostile: u32,
    /// Publishers among the good ones, over whose topics those that hardly read are spread
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pairs: u16,
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    target: Target,
}

/// What the hostile clients do.
#[derive(Clone, clap::Args)]
pub(super) struct Ways {
    /// Only these ways of being hostile
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL)]
    kinds: Vec<Kind>,
    /// How often a second each of them may send
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pace: u16,
    /// Have all of them come at the same moment, and come back so once a second
    #[arg(long)]
    together: bool,
}

impl Ways {
    /// As arguments of another process.
    pub(super) fn arguments(&self) -> Vec<String> {
        let kinds: Vec<_> = self.kinds.iter().map(Kind::to_string).collect();
        let mut arguments = vec!["--kinds".to_owned(), kinds.join(",")];
        arguments.extend(["--pace".to_owned(), self.pace.to_string()]);
        arguments.extend(self.together.then(|| "--together".to_owned()));
        arguments
    }

    /// The time over which they come for the first time. Who is thrown out comes back a second later, so that they never
    /// come all at once if they did not at first.
    fn arriving(&self) -> Duration {
        if self.together { Duration::ZERO } else { AWAY }
    }

    /// How long it takes until each client's turn comes again.
    fn turn(&self) -> Duration {
        Duration::from_secs(1) / u32::from(self.pace)
    }
}

/// A way to be a burden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Subscribe to a topic of the good ones and never read
    NeverReads,
    /// Subscribe to a topic of the good ones and read one byte a second
    ReadsSlowly,
    /// Send one byte a second
    ByteASecond,
    /// Never send CONNECT
    NoConnect,
    /// Announce a packet of 256 MiB, and send it in small parts
    HugeLength,
    /// Send SUBSCRIBE after SUBSCRIBE
    SubscribeFlood,
    /// Subscribe to 100,000 filters
    ManyFilters,
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().replace('_', "-"))
    }
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::NeverReads,
        Self::ReadsSlowly,
        Self::ByteASecond,
        Self::NoConnect,
        Self::HugeLength,
        Self::SubscribeFlood,
        Self::ManyFilters,
    ];

    /// The key in the JSON result.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NeverReads => "never_reads",
            Self::ReadsSlowly => "reads_slowly",
            Self::ByteASecond => "byte_a_second",
            Self::NoConnect => "no_connect",
            Self::HugeLength => "huge_length",
            Self::SubscribeFlood => "subscribe_flood",
            Self::ManyFilters => "many_filters",
        }
    }

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::NeverReads => "subscribe and never read",
            Self::ReadsSlowly => "subscribe and read one byte a second",
            Self::ByteASecond => "send one byte a second",
            Self::NoConnect => "never send CONNECT",
            Self::HugeLength => "announce a packet of 256 MiB",
            Self::SubscribeFlood => "send SUBSCRIBE after SUBSCRIBE",
            Self::ManyFilters => "subscribe to 100,000 filters",
        }
    }
}

/// How long one that was thrown out stays away.
const AWAY: Duration = Duration::from_secs(1);
/// The clients take turns in so many groups: all at once would be one burst, which no thousand strangers send.
const GROUPS: usize = 20;
const MANY_FILTERS: usize = 100_000;
/// Filters in one SUBSCRIBE.
const FILTERS: usize = 20;
/// A small window: what a client does not read must be the broker's problem at once, not the kernel's.
const SMALL_BUFFER: usize = 4096;

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let stop = until_stdin_ends();
    if args.idle > 0 {
        return idle(args, &stop);
    }
    prepare_process();
    // The crowd has machines of its own where it is real: here its work must not take the processors from the broker's
    // and the good ones'. This helps a little where it could not be started to run in the background.
    let _ = rustix::process::nice(19);
    let mut crowd = Crowd {
        poller: Poller::new()?,
        target: args.target.address()?,
        sources: args.target.sources,
        pairs: usize::from(args.pairs),
        clients: Vec::new(),
        closed: [0; Kind::ALL.len()],
    };
    let kinds = args.ways.kinds.iter().copied().cycle();
    let number = usize::try_from(args.hostile).unwrap_or(usize::MAX);
    let arriving = args.ways.arriving();
    crowd.clients = kinds
        .take(number)
        .enumerate()
        .map(|(at, kind)| Hostile::new(kind, arriving.mul_f64(at as f64 / number as f64)))
        .collect();
    crowd.work(args.ways.turn(), arriving, &stop)?;
    let closed = Kind::ALL.iter().zip(crowd.closed);
    let closed: Map<_, _> = closed
        .map(|(kind, times)| (kind.name().to_owned(), json!(times)))
        .collect();
    out_line(&json!(closed).to_string());
    Ok(Exit::Ok)
}

/// True once whoever started this process wants it to end, or is gone.
fn until_stdin_ends() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        told.store(true, Ordering::Relaxed);
    });
    stop
}

fn idle(args: &Args, stop: &AtomicBool) -> Result<Exit, Failure> {
    let mut engine = Engine::new(args.target.settings()?)?;
    let number = usize::try_from(args.idle).unwrap_or(usize::MAX);
    engine.links = (0..number).map(|number| Link::idle(number, true)).collect();
    let mut progress = Progress::new(true);
    if !engine.connect_from(0, &mut progress)? {
        return Err(not_connected(&engine));
    }
    out_line("ready");
    while !stop.load(Ordering::Relaxed) {
        engine.step(Duration::from_millis(50))?;
    }
    engine.disconnect();
    Ok(Exit::Ok)
}

/// One of them.
struct Hostile {
    kind: Kind,
    socket: Option<OwnedFd>,
    /// What it still has to write.
    out: Vec<u8>,
    written: usize,
    /// When it comes (back).
    opens_at: Instant,
    /// When it last wrote, or read, its byte.
    last_byte: Instant,
    filters: usize,
}

impl Hostile {
    /// One that comes after a while.
    fn new(kind: Kind, comes_after: Duration) -> Self {
        let now = Instant::now();
        Self {
            kind,
            socket: None,
            out: Vec::new(),
            written: 0,
            opens_at: now + comes_after,
            last_byte: now,
            filters: 0,
        }
    }

    /// What it says as soon as it is connected.
    fn first_words(&self, number: usize, pairs: usize) -> Vec<u8> {
        let id = format!("weir-bench-hostile-{number}");
        let mut words = connect_packet(&id, ProtocolVersion::V3_1_1, None, Session::Ends)
            .expect("a client id of plain letters");
        match self.kind {
            Kind::NoConnect => words.clear(),
            // One topic, not all: with all of them this would be a fan-out, not a client that hardly reads.
            Kind::NeverReads | Kind::ReadsSlowly => {
                subscribe([format!("bench/pair/{}/up", number % pairs)], &mut words)
            }
            // A PUBLISH of the longest length that can be written.
            Kind::HugeLength => {
                words.extend_from_slice(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b'x'])
            }
            Kind::ByteASecond | Kind::SubscribeFlood | Kind::ManyFilters => {}
        }
        words
    }

    /// What it adds at each tick, once all before is written.
    fn more_words(&mut self, number: usize) {
        let filters = match self.kind {
            Kind::HugeLength => return self.out.resize(1024, b'x'),
            Kind::SubscribeFlood => 0..FILTERS,
            Kind::ManyFilters if self.filters < MANY_FILTERS => {
                let first = self.filters;
                self.filters += FILTERS;
                first..self.filters
            }
            _ => return,
        };
        let names = filters.map(|filter| format!("hostile/{number}/{filter}/+"));
        subscribe(names, &mut self.out);
    }

    /// Whether it leaves what it is sent in its socket.
    fn lets_it_lie(&self) -> bool {
        matches!(self.kind, Kind::NeverReads | Kind::ReadsSlowly)
    }

    /// Writes, or reads, what it wants to by now; an error when it was thrown out.
    fn act(&mut self, number: usize) -> std::io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        if self.kind == Kind::ReadsSlowly && self.last_byte.elapsed() >= Duration::from_secs(1) {
            self.last_byte = Instant::now();
            if let Moved::Bytes(0) = read(socket, &mut [0])? {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
        let mut end = self.out.len();
        if self.kind == Kind::ByteASecond {
            if self.last_byte.elapsed() < Duration::from_secs(1) {
                return Ok(());
            }
            self.last_byte = Instant::now();
            end = end.min(self.written + 1);
        }
        if self.written < end
            && let Moved::Bytes(bytes) = write(socket, &self.out[self.written..end])?
        {
            self.written += bytes;
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            self.more_words(number);
        }
        Ok(())
    }
}

/// Appends a SUBSCRIBE; to more filters than it was ever meant for, if so.
fn subscribe(filters: impl IntoIterator<Item = String>, out: &mut Vec<u8>) {
    let requests = filters.into_iter().map(|filter| SubscriptionRequest {
        filter: SubscriptionFilter::parse(&filter).expect("a valid filter"),
        options: SubscribeOptions::with_qos(QoS::AtLeastOnce),
    });
    let packet = Subscribe {
        packet_id: PacketId::MIN,
        requests: requests.collect(),
        properties: None,
    };
    packet
        .encode(ProtocolVersion::V3_1_1, out)
        .expect("a SUBSCRIBE of a few kilobytes");
}

struct Crowd {
    poller: Poller,
    target: SocketAddr,
    sources: u8,
    pairs: usize,
    clients: Vec<Hostile>,
    /// How often each kind was thrown out.
    closed: [u64; Kind::ALL.len()],
}

impl Crowd {
    fn work(
        &mut self,
        turn: Duration,
        arriving: Duration,
        stop: &AtomicBool,
    ) -> std::io::Result<()> {
        let mut all_came_at = Some(Instant::now() + arriving + turn);
        let mut buffer = vec![0; 64 * 1024];
        let mut group = 0;
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next {
                next = now + turn / u32::try_from(GROUPS).expect("a small number");
                for key in (group % GROUPS..self.clients.len()).step_by(GROUPS) {
                    self.open_or_act(key, now);
                }
                group += 1;
                // All have had their first turn.
                if group >= GROUPS && all_came_at.take_if(|at| *at <= now).is_some() {
                    out_line("ready");
                }
            }
            let ready = self
                .poller
                .wait(next.saturating_duration_since(Instant::now()))?;
            for index in 0..ready {
                self.readable(self.poller.ready(index).key, &mut buffer);
            }
        }
        Ok(())
    }

    fn open_or_act(&mut self, key: usize, now: Instant) {
        let client = &mut self.clients[key];
        if client.socket.is_some() {
            if client.act(key).is_err() {
                self.thrown_out(key);
            }
            return;
        }
        if now < client.opens_at {
            return;
        }
        client.opens_at = now + AWAY;
        let buffer = client.lets_it_lie().then_some(SMALL_BUFFER);
        let source = source_address(key, self.sources);
        let Ok(socket) = begin_connect(self.target, source, buffer) else {
            return;
        };
        client.out = client.first_words(key, self.pairs);
        client.written = 0;
        client.filters = 0;
        client.last_byte = now;
        // One that lets it lie does not listen for anything either.
        if client.lets_it_lie() || self.poller.add(&socket, key, false).is_ok() {
            client.socket = Some(socket);
        }
    }

    fn readable(&mut self, key: usize, buffer: &mut [u8]) {
        let Some(socket) = &self.clients[key].socket else {
            return;
        };
        match read(socket, buffer) {
            Ok(Moved::Bytes(bytes)) if bytes > 0 => {}
            Ok(Moved::WouldBlock) => {}
            _ => self.thrown_out(key),
        }
    }

    fn thrown_out(&mut self, key: usize) {
        let client = &mut self.clients[key];
        client.socket = None;
        client.opens_at = Instant::now() + AWAY;
        let kind = Kind::ALL.iter().position(|kind| *kind == client.kind);
        self.closed[kind.expect("every kind is among all")] += 1;
    }
}
