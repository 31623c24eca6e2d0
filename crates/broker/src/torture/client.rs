//! Clients that never give up: they connect, take their session up again, and go on until they are told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use weir_mqtt::{
    Connect, Disconnect, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Subscribe,
    SubscribeOptions, SubscriptionFilter, SubscriptionRequest, Utf8, codec,
};

use super::session::{Inbound, Outbound};
use super::verdict::{Arrival, Sender};

/// How far the run has come, for all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Publishers publish.
    Load,
    /// Publishers only bring to an end what they have begun; subscribers stay.
    Finish,
    /// Everybody leaves.
    End,
}

/// What all clients of one kind have done, while they do it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    /// PUBACK and PUBCOMP, whatever they say.
    pub(crate) answered: AtomicU64,
    pub(crate) connects: AtomicU64,
    /// CONNACK said that there is no session where there must be one.
    pub(crate) sessions_lost: AtomicU64,
    /// The other side spoke no MQTT, or broke its rules.
    pub(crate) nonsense: Mutex<Vec<String>>,
}

/// Who a client is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    pub(crate) port: u16,
    pub(crate) version: ProtocolVersion,
}

/// How long anything may take that a healthy broker does at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// A silent connection is asked so often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(2);
const MAX_PACKET: usize = 1 << 20;

/// Why a connection is over.
#[derive(Debug)]
enum Over {
    /// Lost, refused, too slow: the next one may be better.
    Lost,
    /// What came can never be right.
    Nonsense(String),
}

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self::Lost
    }
}

struct Connection {
    stream: TcpStream,
    version: ProtocolVersion,
    read: BytesMut,
    write: Vec<u8>,
    /// When something came last.
    heard: Instant,
    pinged: Instant,
}

impl Connection {
    /// Connects; also whether the broker has kept the session.
    async fn open(who: &Identity) -> Result<(Self, bool), Over> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, who.port));
        let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|_| Over::Lost)??;
        stream.set_nodelay(true)?;
        let now = Instant::now();
        let mut connection = Self {
            stream,
            version: who.version,
            read: BytesMut::new(),
            write: Vec::new(),
            heard: now,
            pinged: now,
        };
        let client_id =
            Utf8::new(&who.client_id).map_err(|error| Over::Nonsense(error.to_string()))?;
        let mut connect = Connect::new(who.version, client_id);
        connect.clean_start = false;
        connect.keep_alive_s = 10;
        if who.version.is_v5() {
            connect.properties.session_expiry_interval_s = Some(86_400);
        }
        connection.put(&Packet::Connect(Box::new(connect)))?;
        connection.flush().await?;
        match timeout(PATIENCE, connection.packet()).await {
            Ok(Ok(Packet::ConnAck(ack))) if !ack.reason.is_error() => {
                Ok((connection, ack.session_present))
            }
            Ok(Ok(Packet::ConnAck(_))) | Err(_) => Err(Over::Lost),
            Ok(Ok(other)) => Err(Over::Nonsense(format!(
                "{} instead of CONNACK",
                other.name()
            ))),
            Ok(Err(over)) => Err(over),
        }
    }

    fn put(&mut self, packet: &Packet) -> Result<(), Over> {
        codec::encode(packet, self.version, &mut self.write)
            .map_err(|error| Over::Nonsense(error.to_string()))
    }

    async fn flush(&mut self) -> Result<(), Over> {
        let written = timeout(PATIENCE, self.stream.write_all(&self.write)).await;
        written.map_err(|_| Over::Lost)??;
        self.write.clear();
        Ok(())
    }

    /// The next packet, for as long as it takes. May be dropped at any time.
    async fn packet(&mut self) -> Result<Packet, Over> {
        loop {
            let nonsense = |error: weir_mqtt::DecodeError| Over::Nonsense(error.to_string());
            let length = codec::frame_length(&self.read, MAX_PACKET).map_err(nonsense)?;
            if let Some(length) = length.filter(|length| self.read.len() >= *length) {
                let frame = self.read.split_to(length).freeze();
                return codec::decode(frame, self.version).map_err(nonsense);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(Over::Lost);
            }
            self.heard = Instant::now();
        }
    }

    /// Asks a silent broker whether it is there, and gives it up in the end.
    fn tick(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        if now - self.heard > PATIENCE + PING_EVERY {
            return Err(Over::Lost);
        }
        if now - self.heard > PING_EVERY && now - self.pinged > PING_EVERY {
            self.pinged = now;
            self.put(&Packet::PingReq)?;
        }
        Ok(())
    }

    async fn leave(mut self) {
        let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        if self.put(&goodbye).is_ok() && self.flush().await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }
}

/// Takes note of how a connection ended, and waits a little before the next.
async fn after(over: Over, who: &Identity, counters: &Counters, rng: &mut StdRng) {
    if let Over::Nonsense(what) = over {
        let mut nonsense = counters.nonsense.lock();
        if nonsense.len() < 20 {
            nonsense.push(format!("{}: {what}", who.client_id));
        }
    }
    sleep(Duration::from_millis(rng.random_range(5..150))).await;
}

/// Connects anew and checks that the session is where it was left.
async fn connect(
    who: &Identity,
    had_session: &mut bool,
    counters: &Counters,
) -> Result<(Connection, bool), Over> {
    let (connection, present) = Connection::open(who).await?;
    counters.connects.fetch_add(1, Ordering::Relaxed);
    if *had_session && !present {
        counters.sessions_lost.fetch_add(1, Ordering::Relaxed);
    }
    *had_session = true;
    Ok((connection, present))
}

/// A publisher: one message each `every`, as long as its window has room.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) who: Identity,
    pub(crate) out: Outbound,
    pub(crate) every: Duration,
    pub(crate) seed: u64,
}

impl Publisher {
    /// Publishes until the load ends, and then until everything is answered; its log.
    pub(crate) async fn run(
        mut self,
        mut phase: watch::Receiver<Phase>,
        counters: Arc<Counters>,
    ) -> (Sender, u64) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut had_session = false;
        loop {
            let now = *phase.borrow();
            if now == Phase::End || (now == Phase::Finish && self.out.is_quiet()) {
                return (self.out.log, self.out.resent);
            }
            let connected = tokio::select! {
                connected = connect(&self.who, &mut had_session, &counters) => connected,
                _ = phase.wait_for(|phase| *phase == Phase::End) => continue,
            };
            let over = match connected {
                Ok((connection, present)) => {
                    match self
                        .converse(connection, present, &mut phase, &counters)
                        .await
                    {
                        Ok(()) => continue,
                        Err(over) => over,
                    }
                }
                Err(over) => over,
            };
            after(over, &self.who, &counters, &mut rng).await;
        }
    }

    async fn converse(
        &mut self,
        mut connection: Connection,
        present: bool,
        phase: &mut watch::Receiver<Phase>,
        counters: &Counters,
    ) -> Result<(), Over> {
        for packet in self.out.resume(present) {
            connection.put(&packet)?;
        }
        connection.flush().await?;
        let mut next = interval(self.every);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut second = interval(Duration::from_millis(500));
        loop {
            let loads = *phase.borrow() == Phase::Load;
            tokio::select! {
                packet = connection.packet() => self.take(&packet?, &mut connection, counters)?,
                _ = next.tick(), if loads && self.out.has_room() => {
                    let packet = self.out.send();
                    counters.sent.fetch_add(1, Ordering::Relaxed);
                    connection.put(&packet)?;
                }
                _ = second.tick() => connection.tick()?,
                _ = phase.changed() => {}
            }
            connection.flush().await?;
            let now = *phase.borrow();
            if now == Phase::End || (now == Phase::Finish && self.out.is_quiet()) {
                connection.leave().await;
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        packet: &Packet,
        connection: &mut Connection,
        counters: &Counters,
    ) -> Result<(), Over> {
        if let Packet::Disconnect(_) = packet {
            return Err(Over::Lost);
        }
        if matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)) {
            counters.answered.fetch_add(1, Ordering::Relaxed);
        }
        match self.out.acknowledged(packet) {
            Some(answer) => connection.put(&answer),
            None => Ok(()),
        }
    }
}

/// A subscriber with a session that outlives its connections.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) who: Identity,
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    /// Leaves now and then, and comes back.
    pub(crate) restless: bool,
    pub(crate) seed: u64,
    pub(crate) came: Arc<Mutex<Vec<Arrival>>>,
    /// Told when the subscription stands.
    pub(crate) stands: watch::Sender<bool>,
}

impl Subscriber {
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>, counters: Arc<Counters>) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut had_session = false;
        let mut inbound = Inbound::default();
        while *phase.borrow() != Phase::End {
            let connected = tokio::select! {
                connected = connect(&self.who, &mut had_session, &counters) => connected,
                _ = phase.wait_for(|phase| *phase == Phase::End) => continue,
            };
            let ended = match connected {
                Ok((connection, present)) => {
                    inbound.resume(present);
                    let talk =
                        self.converse(connection, present, &mut inbound, &mut phase, &mut rng);
                    talk.await
                }
                Err(over) => Err(over),
            };
            match ended {
                // Stays away for a while.
                Ok(()) if *phase.borrow() == Phase::Load => {
                    let away = Duration::from_millis(rng.random_range(100..4000));
                    tokio::select! {
                        () = sleep(away) => {}
                        _ = phase.wait_for(|phase| *phase != Phase::Load) => {}
                    }
                }
                Ok(()) => {}
                Err(over) => after(over, &self.who, &counters, &mut rng).await,
            }
        }
    }

    async fn converse(
        &self,
        mut connection: Connection,
        present: bool,
        inbound: &mut Inbound,
        phase: &mut watch::Receiver<Phase>,
        rng: &mut StdRng,
    ) -> Result<(), Over> {
        if !(present && *self.stands.borrow()) {
            connection.put(&self.subscribe()?)?;
            connection.flush().await?;
        }
        let stays = Duration::from_millis(rng.random_range(300..6000));
        let leaves = Instant::now() + stays;
        let mut second = interval(Duration::from_millis(500));
        loop {
            let restless = self.restless && *phase.borrow() == Phase::Load;
            tokio::select! {
                packet = connection.packet() => {
                    let packet = packet?;
                    match &packet {
                        Packet::Disconnect(_) => return Err(Over::Lost),
                        Packet::SubAck(ack) if ack.reasons.iter().any(|reason| reason.is_error()) => {
                            return Err(Over::Lost);
                        }
                        Packet::SubAck(_) => {
                            self.stands.send_replace(true);
                        }
                        _ => {}
                    }
                    let (arrival, answer) = inbound.take(&packet);
                    self.came.lock().extend(arrival);
                    if let Some(answer) = answer {
                        connection.put(&answer)?;
                    }
                }
                () = sleep_until(leaves), if restless => {
                    // Half of the time without a word.
                    if rng.random() {
                        connection.leave().await;
                    }
                    return Ok(());
                }
                _ = second.tick() => connection.tick()?,
                _ = phase.changed() => {}
            }
            connection.flush().await?;
            if *phase.borrow() == Phase::End {
                connection.leave().await;
                return Ok(());
            }
        }
    }

    fn subscribe(&self) -> Result<Packet, Over> {
        let filter = SubscriptionFilter::parse(&self.filter)
            .map_err(|error| Over::Nonsense(error.to_string()))?;
        Ok(Packet::Subscribe(Subscribe {
            packet_id: PacketId::MIN,
            requests: vec![SubscriptionRequest {
                filter,
                options: SubscribeOptions::with_qos(self.qos),
            }],
            properties: None,
        }))
    }
}
