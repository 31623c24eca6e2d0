//! Clients of MQTT 5 whose sessions outlive their connections: they come back until they are dropped.

use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use weir_mqtt::{
    Connect, Packet, PacketId, ProtocolVersion, PubAck, PubComp, PubRec, PubRel, Publish, QoS,
    Subscribe, SubscribeOptions, SubscriptionFilter, SubscriptionRequest, Utf8, codec,
};

use super::tally::Stream;

const VERSION: ProtocolVersion = ProtocolVersion::V5;
const MAX_PACKET: usize = 1 << 20;
const AGAIN: Duration = Duration::from_millis(50);
/// Each payload is as long as this at least.
const PAYLOAD: usize = 100;

/// Sessions that a broker should have had and had not.
pub(super) static SESSIONS_LOST: AtomicU64 = AtomicU64::new(0);

/// A connection that has been let in.
pub(super) struct Connection {
    stream: TcpStream,
    read: BytesMut,
    pub(super) session_present: bool,
    receive_maximum: usize,
}

impl Connection {
    /// Connects; `None` when nobody is there, or nobody who answers.
    pub(super) async fn open(port: u16, id: &str, keeps_session: bool) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let mut connection = Self {
            stream,
            read: BytesMut::new(),
            session_present: false,
            receive_maximum: usize::from(u16::MAX),
        };
        let mut connect = Connect::new(VERSION, Utf8::new(id).unwrap());
        connect.clean_start = !keeps_session;
        if keeps_session {
            connect.properties.session_expiry_interval_s = Some(86_400);
        }
        connection
            .write(&[Packet::Connect(Box::new(connect))])
            .await?;
        let Packet::ConnAck(ack) = connection.next().await? else {
            return None;
        };
        assert!(!ack.reason.is_error(), "{id}: {ack:?}");
        connection.session_present = ack.session_present;
        if let Some(most) = ack.properties.receive_maximum {
            connection.receive_maximum = usize::from(most.get());
        }
        Some(connection)
    }

    pub(super) async fn write(&mut self, packets: &[Packet]) -> Option<()> {
        let mut bytes = Vec::new();
        for packet in packets {
            codec::encode(packet, VERSION, &mut bytes).unwrap();
        }
        self.stream.write_all(&bytes).await.ok()
    }

    /// The next packet; `None` when the connection has ended. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.buffered() {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// A packet that has been read already.
    fn buffered(&mut self) -> Option<Packet> {
        let length = codec::frame_length(&self.read, MAX_PACKET).unwrap()?;
        if self.read.len() < length {
            return None;
        }
        let frame = self.read.split_to(length).freeze();
        Some(codec::decode(frame, VERSION).unwrap())
    }

    pub(super) async fn subscribe(&mut self, filters: &[String], qos: QoS) -> Option<()> {
        let request = |filter: &String| SubscriptionRequest {
            filter: SubscriptionFilter::parse(filter).unwrap(),
            options: SubscribeOptions::with_qos(qos),
        };
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: PacketId::MIN,
            requests: filters.iter().map(request).collect(),
            properties: None,
        });
        self.write(&[subscribe]).await
    }
}

/// A client in a task of its own; it ends with this value.
pub(super) struct Client(JoinHandle<()>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection to a broker that may be away; `known` says whether there must be a session.
async fn connected(port: u16, id: &str, known: &mut bool) -> Connection {
    loop {
        if let Some(connection) = Connection::open(port, id, true).await {
            if *known && !connection.session_present {
                SESSIONS_LOST.fetch_add(1, Ordering::Relaxed);
            }
            *known = true;
            return connection;
        }
        sleep(AGAIN).await;
    }
}

#[derive(Clone, Copy)]
struct Flight {
    id: PacketId,
    stream: usize,
    number: u64,
    /// PUBREC has come. `[MQTT-4.3.3-6]`
    received: bool,
}

/// Publishes streams in turn.
pub(super) struct Publisher {
    streams: Arc<[Stream]>,
    window: usize,
    last_id: u16,
    /// In the order in which they were sent first. `[MQTT-4.6.0-1]`
    flights: VecDeque<Flight>,
    unanswered: watch::Sender<usize>,
    turn: usize,
}

impl Publisher {
    /// Publishes each stream up to the number that `allowed` says.
    pub(super) fn start(
        port: u16,
        id: String,
        streams: Arc<[Stream]>,
        window: usize,
        mut allowed: watch::Receiver<u64>,
    ) -> (Client, watch::Receiver<usize>) {
        let (unanswered, watched) = watch::channel(0);
        let mut publisher = Self {
            streams,
            window,
            last_id: 0,
            flights: VecDeque::new(),
            unanswered,
            turn: 0,
        };
        let task = tokio::spawn(async move {
            let mut known = false;
            loop {
                let connection = connected(port, &id, &mut known).await;
                publisher.converse(connection, &mut allowed).await;
            }
        });
        (Client(task), watched)
    }

    async fn converse(
        &mut self,
        mut connection: Connection,
        allowed: &mut watch::Receiver<u64>,
    ) -> Option<()> {
        let window = self.window.min(connection.receive_maximum);
        if !connection.session_present {
            self.flights
                .iter_mut()
                .for_each(|flight| flight.received = false);
        }
        let mut out: Vec<Packet> = self
            .flights
            .iter()
            .map(|flight| self.again(flight))
            .collect();
        loop {
            let limit = *allowed.borrow_and_update();
            self.fill(&mut out, window, limit);
            connection.write(&out).await?;
            out.clear();
            self.unanswered.send_replace(self.flights.len());
            tokio::select! {
                packet = connection.next() => {
                    out.extend(self.take(&packet?));
                    while let Some(packet) = connection.buffered() {
                        out.extend(self.take(&packet));
                    }
                }
                changed = allowed.changed() => changed.ok()?,
            }
        }
    }

    /// New messages, as many as may leave now.
    fn fill(&mut self, out: &mut Vec<Packet>, window: usize, limit: u64) {
        while self.flights.len() < window {
            let streams = self.streams.len();
            let waits = (0..streams)
                .map(|at| (self.turn + at) % streams)
                .find(|at| self.streams[*at].sent() < limit);
            let Some(at) = waits else { return };
            self.turn = at + 1;
            let number = self.streams[at].send();
            let mut flight = Flight {
                id: PacketId::MIN,
                stream: at,
                number,
                received: false,
            };
            if self.streams[at].qos > 0 {
                flight.id = self.free_id();
                self.flights.push_back(flight);
            }
            out.push(self.publish(&flight, false));
        }
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last_id).unwrap();
            if !self.flights.iter().any(|flight| flight.id == id) {
                return id;
            }
        }
    }

    fn publish(&self, flight: &Flight, dup: bool) -> Packet {
        let stream = &self.streams[flight.stream];
        let payload = format!("{} {} {:.<PAYLOAD$}", flight.stream, flight.number, "");
        let topic = Utf8::new(&stream.topic(flight.number)).unwrap();
        let mut publish = Publish::new(topic, Bytes::from(payload));
        publish.qos = QoS::try_from(stream.qos).unwrap();
        publish.retain = stream.retained;
        publish.dup = dup;
        publish.packet_id = (stream.qos > 0).then_some(flight.id);
        Packet::Publish(publish)
    }

    fn again(&self, flight: &Flight) -> Packet {
        if flight.received {
            Packet::PubRel(PubRel::success(flight.id))
        } else {
            self.publish(flight, true)
        }
    }

    fn take(&mut self, packet: &Packet) -> Option<Packet> {
        match packet {
            Packet::PubAck(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                self.settle(ack.packet_id);
            }
            Packet::PubComp(comp) => self.settle(comp.packet_id),
            Packet::PubRec(rec) => {
                assert!(!rec.reason.is_error(), "{rec:?}");
                let flights = &mut self.flights;
                if let Some(flight) = flights.iter_mut().find(|flight| flight.id == rec.packet_id) {
                    flight.received = true;
                }
                return Some(Packet::PubRel(PubRel::success(rec.packet_id)));
            }
            _ => {}
        }
        None
    }

    fn settle(&mut self, id: PacketId) {
        self.flights.retain(|flight| flight.id != id);
    }
}

/// Takes streams in at the highest `QoS`, and says on `stands` when it has subscribed.
pub(super) fn subscriber(
    port: u16,
    id: String,
    filters: Vec<String>,
    streams: Arc<[Stream]>,
) -> (Client, watch::Receiver<bool>) {
    let (stands, watched) = watch::channel(false);
    let task = tokio::spawn(async move {
        let (mut known, mut received) = (false, HashSet::new());
        loop {
            let mut connection = connected(port, &id, &mut known).await;
            if !connection.session_present {
                received.clear();
            }
            if !*stands.borrow()
                && connection
                    .subscribe(&filters, QoS::ExactlyOnce)
                    .await
                    .is_none()
            {
                continue;
            }
            while let Some(packet) = connection.next().await {
                let mut answers: Vec<Packet> = Vec::new();
                let mut next = Some(packet);
                while let Some(packet) = next {
                    if let Packet::SubAck(ack) = &packet {
                        assert!(
                            ack.reasons.iter().all(|reason| !reason.is_error()),
                            "{id}: {ack:?}"
                        );
                        stands.send_replace(true);
                    }
                    answers.extend(take(&packet, &streams, &mut received));
                    next = connection.buffered();
                }
                if connection.write(&answers).await.is_none() {
                    break;
                }
            }
        }
    });
    (Client(task), watched)
}

fn take(packet: &Packet, streams: &[Stream], received: &mut HashSet<PacketId>) -> Option<Packet> {
    match packet {
        Packet::Publish(publish) => {
            // `[MQTT-4.3.3-10]`
            let again = publish.qos == QoS::ExactlyOnce
                && publish.packet_id.is_some_and(|id| !received.insert(id));
            if !again {
                let (stream, number) = read(&publish.payload);
                streams[stream].take(number);
            }
            let id = publish.packet_id?;
            Some(match publish.qos {
                QoS::ExactlyOnce => Packet::PubRec(PubRec::success(id)),
                _ => Packet::PubAck(PubAck::success(id)),
            })
        }
        Packet::PubRel(rel) => {
            received.remove(&rel.packet_id);
            Some(Packet::PubComp(PubComp::success(rel.packet_id)))
        }
        _ => None,
    }
}

/// The stream and the number that a payload begins with.
fn read(payload: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(payload).unwrap();
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap();
    (word().parse().unwrap(), word().parse().unwrap())
}

/// What is retained below a filter: topics and numbers, sorted.
pub(super) async fn retained(port: u16, filter: &str) -> Vec<(String, u64)> {
    let mut connection = Connection::open(port, "retained", false).await.unwrap();
    let filters = [filter.to_owned()];
    connection
        .subscribe(&filters, QoS::AtMostOnce)
        .await
        .unwrap();
    let mut kept = Vec::new();
    let quiet = Duration::from_millis(200);
    while let Ok(packet) = tokio::time::timeout(quiet, connection.next()).await {
        if let Packet::Publish(publish) = packet.unwrap()
            && publish.retain
        {
            kept.push((publish.topic.to_string(), read(&publish.payload).1));
        }
    }
    kept.sort();
    kept
}
