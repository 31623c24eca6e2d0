//! Connections over pipes in memory, where a test says which bytes lie there when the broker looks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::task::yield_now;
use weir_mqtt::properties::WillProperties;
use weir_mqtt::{
    Connect, Disconnect, Packet, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    SubscribeOptions, SubscriptionFilter, SubscriptionRequest, TopicName, Utf8, Will, codec,
};

use super::connection::serve;
use super::held::{HELD_AT_MOST_MS, LOOK_EVERY_MS};
use super::transport::Transport;
use super::wire::Wire;
use crate::auth::anonymous::Anonymous;
use crate::auth::enhanced::Mechanisms;
use crate::auth::{AllowAll, Authenticator, ConnectRequest, Decision, Identity};
use crate::driver::admission::Door;
use crate::driver::{Clock, Parts, Shared};
use crate::pipeline::Pipeline;
use crate::pipeline::world::World;
use crate::settings::BrokerSettings;

const VERSION: ProtocolVersion = ProtocolVersion::V5;

fn broker() -> Arc<Shared> {
    Shared::new(parts())
}

pub(super) fn parts() -> Parts {
    let pipeline = Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC));
    Parts {
        settings: BrokerSettings::default(),
        pipeline: Arc::new(pipeline),
        authenticator: Arc::new(Anonymous),
        authorizer: Arc::new(AllowAll),
        mechanisms: Mechanisms::default(),
        capture: None,
        banned: Arc::default(),
        hooks: crate::hooks::Hooks::default(),
        storage: None,
    }
}

/// For how many pieces of work that can wait a loop has time.
const PLENTY: usize = usize::MAX;

/// A connection whose loop may have no time for work that can wait, and to whose client others may write whenever it
/// is written to.
struct Wired {
    stream: DuplexStream,
    time: Arc<AtomicUsize>,
    waits: Arc<AtomicBool>,
    on_write: Option<Box<dyn Fn() + Send>>,
}

impl Wire for Wired {
    fn has_time(&self) -> bool {
        let spend = |time| match time {
            PLENTY => Some(PLENTY),
            time => usize::checked_sub(time, 1),
        };
        let order = Ordering::Relaxed;
        let has_time = self.time.fetch_update(order, order, spend).is_ok();
        self.waits.store(!has_time, Ordering::Relaxed);
        has_time
    }

    fn waits_no_more(&self) {
        self.waits.store(false, Ordering::Relaxed);
    }
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wired {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.on_write.iter().for_each(|on_write| on_write());
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection that the broker serves and over which nothing has been said.
fn open(broker: &Arc<Shared>) -> DuplexStream {
    open_with(broker, &Arc::new(AtomicUsize::new(PLENTY)), None)
}

fn open_with(
    broker: &Arc<Shared>,
    time: &Arc<AtomicUsize>,
    on_write: Option<Box<dyn Fn() + Send>>,
) -> DuplexStream {
    open_wired(broker, time, on_write, &Arc::default())
}

/// The same; `waits` says whether the connection waits for its loop to have time.
fn open_wired(
    broker: &Arc<Shared>,
    time: &Arc<AtomicUsize>,
    on_write: Option<Box<dyn Fn() + Send>>,
    waits: &Arc<AtomicBool>,
) -> DuplexStream {
    let (ours, theirs) = duplex(4096);
    let door = Door {
        peer: None,
        local: None,
        listener: "test".into(),
        transport: Transport::Tcp,
        certificate: None,
        identity: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
        allow_anonymous: true,
        durability: crate::store::Durability::Fsync,
        bridge: None,
    };
    let theirs = Wired {
        stream: theirs,
        time: Arc::clone(time),
        waits: Arc::clone(waits),
        on_write,
    };
    tokio::spawn(serve(Arc::clone(broker), theirs, Box::new(door)));
    ours
}

async fn send(stream: &mut DuplexStream, packet: Packet) {
    let mut bytes = Vec::new();
    codec::encode(&packet, VERSION, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
}

async fn receive(stream: &mut DuplexStream) -> Packet {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await.unwrap());
        if codec::frame_length(&bytes, usize::MAX).unwrap() == Some(bytes.len()) {
            return codec::decode(Bytes::from(bytes), VERSION).unwrap();
        }
    }
}

async fn connect(broker: &Arc<Shared>, connect: Connect) -> DuplexStream {
    connect_over(open(broker), connect).await
}

async fn connect_over(mut stream: DuplexStream, connect: Connect) -> DuplexStream {
    send(&mut stream, Packet::Connect(Box::new(connect))).await;
    assert!(matches!(receive(&mut stream).await, Packet::ConnAck(_)));
    stream
}

fn mortal() -> Connect {
    let mut connect = Connect::new(VERSION, Utf8::from("mortal"));
    connect.will = Some(Will {
        topic: TopicName::new("last/words").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    });
    connect
}

async fn send_subscribe(stream: &mut DuplexStream, filter: &str) {
    let filter = SubscriptionFilter::parse(filter).unwrap();
    let options = SubscribeOptions::with_qos(QoS::AtMostOnce);
    let subscribe = Subscribe {
        packet_id: weir_mqtt::PacketId::MIN,
        requests: vec![SubscriptionRequest { filter, options }],
        properties: None,
    };
    send(stream, Packet::Subscribe(subscribe)).await;
}

async fn subscribe(stream: &mut DuplexStream, filter: &str) {
    send_subscribe(stream, filter).await;
    assert!(matches!(receive(stream).await, Packet::SubAck(_)));
}

async fn send_goodbye(stream: &mut DuplexStream) {
    let goodbye = Disconnect::new(ReasonCode::Success);
    send(stream, Packet::Disconnect(goodbye)).await;
}

async fn publish(stream: &mut DuplexStream, topic: &'static str, payload: &'static [u8]) {
    let publish = Publish::new(Utf8::from(topic), Bytes::from_static(payload));
    send(stream, Packet::Publish(publish)).await;
}

/// Nothing but these messages has come to the client.
async fn expect(stream: &mut DuplexStream, payloads: &[&[u8]]) {
    send(stream, Packet::PingReq).await;
    for payload in payloads {
        let Packet::Publish(seen) = receive(stream).await else {
            panic!("expected {payload:?}")
        };
        assert_eq!(&seen.payload[..], *payload);
    }
    assert_eq!(receive(stream).await, Packet::PingResp);
}

/// CONNECT is seen first, but the old connection's last packets are there too: they count, and so does the goodbye.
#[tokio::test]
async fn a_disconnect_that_has_come_counts_though_its_client_is_already_back() {
    let broker = broker();
    let mut watcher = connect(&broker, Connect::new(VERSION, Utf8::from("watcher"))).await;
    subscribe(&mut watcher, "last/words").await;
    let mut old = connect(&broker, mortal()).await;
    let mut new = open(&broker);
    send(&mut new, Packet::Connect(Box::new(mortal()))).await;
    publish(&mut old, "last/words", b"alive").await;
    send_goodbye(&mut old).await;
    assert!(matches!(receive(&mut new).await, Packet::ConnAck(_)));
    expect(&mut watcher, &[b"alive"]).await;
}

#[tokio::test]
async fn what_stands_behind_a_held_subscribe_counts_when_the_client_is_taken_over() {
    let broker = broker();
    let mut watcher = connect(&broker, Connect::new(VERSION, Utf8::from("watcher"))).await;
    subscribe(&mut watcher, "last/words").await;
    let time = Arc::new(AtomicUsize::new(0));
    let mut old = connect_over(open_with(&broker, &time, None), mortal()).await;
    send_subscribe(&mut old, "a").await;
    publish(&mut old, "last/words", b"alive").await;
    send_goodbye(&mut old).await;
    expect(&mut watcher, &[]).await;
    let _new = connect(&broker, mortal()).await;
    assert!(matches!(receive(&mut old).await, Packet::SubAck(_)));
    expect(&mut watcher, &[b"alive"]).await;
}

#[tokio::test]
async fn a_goodbye_behind_a_held_subscribe_counts_though_the_client_can_no_longer_be_written_to() {
    let broker = broker();
    let mut watcher = connect(&broker, Connect::new(VERSION, Utf8::from("watcher"))).await;
    subscribe(&mut watcher, "last/words").await;
    let time = Arc::new(AtomicUsize::new(PLENTY));
    let mut mortal = connect_over(open_with(&broker, &time, None), mortal()).await;
    subscribe(&mut mortal, "news").await;
    time.store(0, Ordering::Relaxed);
    send_subscribe(&mut mortal, "a").await;
    publish(&mut mortal, "last/words", b"alive").await;
    send_goodbye(&mut mortal).await;
    expect(&mut watcher, &[]).await;
    drop(mortal);
    // What is written to it now finds nobody.
    publish(&mut watcher, "news", b"news").await;
    while broker.stats.sessions_connected.get() > 1 {
        yield_now().await;
    }
    expect(&mut watcher, &[b"alive"]).await;
}

/// `[MQTT-3.12.4-1]` `[MQTT-3.8.4-1]`
#[tokio::test]
async fn a_ping_behind_a_held_subscribe_is_answered_and_the_subscribe_is_not_held_for_ever() {
    let (clock, passed_ms) = Clock::by_hand();
    let broker = Shared::at(clock, parts());
    let time = Arc::new(AtomicUsize::new(0));
    let waits = Arc::<AtomicBool>::default();
    let open = open_wired(&broker, &time, None, &waits);
    let mut client = connect_over(open, Connect::new(VERSION, Utf8::from("patient"))).await;
    send_subscribe(&mut client, "a").await;
    yield_now().await;
    passed_ms.store(LOOK_EVERY_MS, Ordering::Relaxed);
    send(&mut client, Packet::PingReq).await;
    assert_eq!(receive(&mut client).await, Packet::PingResp);
    assert!(waits.load(Ordering::Relaxed));
    passed_ms.store(HELD_AT_MOST_MS, Ordering::Relaxed);
    assert!(matches!(receive(&mut client).await, Packet::SubAck(_)));
    assert!(
        !waits.load(Ordering::Relaxed),
        "what comes is heard at once"
    );
    // That ping was answered; this one was not.
    send(&mut client, Packet::PingReq).await;
    assert_eq!(receive(&mut client).await, Packet::PingResp);
    publish(&mut client, "a", b"hello").await;
    assert!(matches!(receive(&mut client).await, Packet::Publish(_)));
}

fn many(count: usize) -> Subscribe {
    let options = SubscribeOptions::with_qos(QoS::AtMostOnce);
    let filters = (0..count).map(|number| SubscriptionFilter::parse(&format!("many/{number}")));
    let requests = filters.map(|filter| SubscriptionRequest {
        filter: filter.unwrap(),
        options,
    });
    Subscribe {
        packet_id: weir_mqtt::PacketId::MIN,
        requests: requests.collect(),
        properties: None,
    }
}

/// Filters that take many pieces of a loop's time, and time for some of them.
const MANY: usize = 200;
const SOME: usize = 20;

fn subscriptions(broker: &Shared, client_id: &str) -> usize {
    let session = broker.session(client_id).unwrap();
    session.lock().session.subscriptions_len()
}

/// Waits until there is no time any more: then the client is in the middle of its SUBSCRIBE.
async fn in_the_middle(broker: &Shared, time: &AtomicUsize, client_id: &str) -> usize {
    while time.load(Ordering::Relaxed) > 0 {
        yield_now().await;
    }
    let begun = subscriptions(broker, client_id);
    assert!((1..MANY).contains(&begun), "{begun}");
    begun
}

/// `[MQTT-3.12.4-1]`
#[tokio::test]
async fn a_ping_in_the_middle_of_a_subscribe_of_many_filters_is_answered() {
    let (clock, passed_ms) = Clock::by_hand();
    let broker = Shared::at(clock, parts());
    let time = Arc::new(AtomicUsize::new(SOME));
    let client = open_with(&broker, &time, None);
    let mut client = connect_over(client, Connect::new(VERSION, Utf8::from("patient"))).await;
    send(&mut client, Packet::Subscribe(many(MANY))).await;
    let begun = in_the_middle(&broker, &time, "patient").await;
    for round in 1..3 {
        passed_ms.store(round * LOOK_EVERY_MS, Ordering::Relaxed);
        send(&mut client, Packet::PingReq).await;
        assert_eq!(receive(&mut client).await, Packet::PingResp);
    }
    assert_eq!(subscriptions(&broker, "patient"), begun);
    // It does not wait for ever.
    passed_ms.fetch_add(HELD_AT_MOST_MS, Ordering::Relaxed);
    while subscriptions(&broker, "patient") == begun {
        yield_now().await;
    }
    time.store(PLENTY, Ordering::Relaxed);
    publish(&mut client, "many/0", b"behind").await;
    let Packet::SubAck(suback) = receive(&mut client).await else {
        panic!("expected SUBACK")
    };
    assert_eq!(suback.reasons, vec![ReasonCode::Success; MANY]);
    expect(&mut client, &[b"behind"]).await;
}

#[tokio::test]
async fn who_is_taken_over_in_the_middle_of_a_subscribe_has_subscribed_to_all_and_the_rest_counts()
{
    let broker = broker();
    let mut watcher = connect(&broker, Connect::new(VERSION, Utf8::from("watcher"))).await;
    subscribe(&mut watcher, "last/words").await;
    let lasting = || {
        let mut connect = mortal();
        connect.clean_start = false;
        connect.properties.session_expiry_interval_s = Some(100);
        connect
    };
    let time = Arc::new(AtomicUsize::new(SOME));
    let mut old = connect_over(open_with(&broker, &time, None), lasting()).await;
    send(&mut old, Packet::Subscribe(many(MANY))).await;
    publish(&mut old, "last/words", b"alive").await;
    send_goodbye(&mut old).await;
    in_the_middle(&broker, &time, "mortal").await;
    time.store(PLENTY, Ordering::Relaxed);
    let mut new = open(&broker);
    send(&mut new, Packet::Connect(Box::new(lasting()))).await;
    let Packet::ConnAck(connack) = receive(&mut new).await else {
        panic!("expected CONNACK")
    };
    assert!(connack.session_present);
    assert_eq!(subscriptions(&broker, "mortal"), MANY);
    assert!(matches!(receive(&mut old).await, Packet::SubAck(_)));
    // And the goodbye has taken the Will away.
    expect(&mut watcher, &[b"alive"]).await;
    assert_eq!(broker.stats.subscriptions.get(), MANY as u64 + 1);
}

/// `[MQTT-3.1.2-10]`
#[tokio::test]
async fn a_goodbye_that_is_still_in_the_socket_counts_for_who_is_taken_over_in_a_long_subscribe() {
    let broker = broker();
    let mut watcher = connect(&broker, Connect::new(VERSION, Utf8::from("watcher"))).await;
    subscribe(&mut watcher, "last/words").await;
    let time = Arc::new(AtomicUsize::new(SOME));
    let mut old = connect_over(open_with(&broker, &time, None), mortal()).await;
    send(&mut old, Packet::Subscribe(many(MANY))).await;
    in_the_middle(&broker, &time, "mortal").await;
    // Nobody looks before the client is back.
    send_goodbye(&mut old).await;
    time.store(PLENTY, Ordering::Relaxed);
    let _new = connect(&broker, mortal()).await;
    expect(&mut watcher, &[]).await;
}

/// Waits with its answer until it may.
#[derive(Default)]
struct Slow {
    asked: AtomicBool,
    may_answer: tokio::sync::Notify,
}

impl Authenticator for Slow {
    fn authenticate<'a>(&'a self, _: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.asked.store(true, Ordering::Relaxed);
        Box::pin(async {
            self.may_answer.notified().await;
            Decision::Allow(Identity::default())
        })
    }
}

#[tokio::test]
async fn a_large_connect_is_counted_for_as_long_as_it_is_looked_at() {
    let slow = Arc::new(Slow::default());
    let mut parts = parts();
    parts.authenticator = Arc::new(Arc::clone(&slow));
    let broker = Shared::new(parts);
    let large = &broker.entrance.large_connects;
    let free = large.free();
    let mut client = open(&broker);
    let mut connect = Connect::new(VERSION, Utf8::from("large"));
    let text = Utf8::try_from("v".repeat(60_000)).unwrap();
    connect.properties.user_properties = vec![(Utf8::from("k"), text)];
    send(&mut client, Packet::Connect(Box::new(connect))).await;
    while !slow.asked.load(Ordering::Relaxed) {
        yield_now().await;
    }
    assert_eq!(large.free(), free - 1);
    slow.may_answer.notify_one();
    assert!(matches!(receive(&mut client).await, Packet::ConnAck(_)));
    assert_eq!(large.free(), free);
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_subscribe_leaves_nothing_behind() {
    let broker = broker();
    let time = Arc::new(AtomicUsize::new(SOME));
    let client = open_with(&broker, &time, None);
    let mut client = connect_over(client, Connect::new(VERSION, Utf8::from("brief"))).await;
    send(&mut client, Packet::Subscribe(many(MANY))).await;
    in_the_middle(&broker, &time, "brief").await;
    time.store(PLENTY, Ordering::Relaxed);
    drop(client);
    while !broker.remembers_nothing() {
        yield_now().await;
    }
    assert_eq!(broker.stats.subscriptions.get(), 0);
}

/// Who leaves much behind waits for it, and nobody else does.
#[tokio::test]
async fn a_clean_start_waits_for_time_where_very_many_filters_are_to_go() {
    let broker = broker();
    let lasting = |clean_start| {
        let mut connect = Connect::new(VERSION, Utf8::from("heavy"));
        connect.clean_start = clean_start;
        connect.properties.session_expiry_interval_s = Some(100);
        connect
    };
    let mut old = connect(&broker, lasting(false)).await;
    send(&mut old, Packet::Subscribe(many(MANY))).await;
    assert!(matches!(receive(&mut old).await, Packet::SubAck(_)));
    send_goodbye(&mut old).await;
    while broker.stats.sessions_connected.get() > 0 {
        yield_now().await;
    }
    let time = Arc::new(AtomicUsize::new(SOME));
    let mut new = open_with(&broker, &time, None);
    send(&mut new, Packet::Connect(Box::new(lasting(true)))).await;
    while time.load(Ordering::Relaxed) > 0 {
        yield_now().await;
    }
    let left = broker.stats.subscriptions.get();
    assert!((1..MANY as u64).contains(&left), "{left}");
    let mut other = connect(&broker, Connect::new(VERSION, Utf8::from("other"))).await;
    subscribe(&mut other, "many/+").await;
    publish(&mut other, "many/0", b"one").await;
    expect(&mut other, &[b"one"]).await;
    let welcome = std::pin::pin!(receive(&mut new));
    assert!(
        futures_util::poll!(welcome).is_pending(),
        "not before they are gone"
    );
}

/// Whatever is written to the client, more comes for it at the same time.
#[tokio::test]
async fn a_client_that_is_flooded_is_heard_and_so_are_others() {
    let broker = broker();
    let time = Arc::new(AtomicUsize::new(PLENTY));
    let shared = Arc::downgrade(&broker);
    let flood = move || {
        let handle = shared
            .upgrade()
            .and_then(|broker| broker.session("flooded"));
        if let Some(handle) = handle {
            handle.lock().session.outbox().append(&[0xD0, 0], 1);
        }
    };
    let open = open_with(&broker, &time, Some(Box::new(flood)));
    let connect_flooded = Connect::new(VERSION, Utf8::from("flooded"));
    let (mut reads, mut writes) = tokio::io::split(connect_over(open, connect_flooded).await);
    let reading =
        tokio::spawn(async move { tokio::io::copy(&mut reads, &mut tokio::io::sink()).await });
    let mut other = connect(&broker, Connect::new(VERSION, Utf8::from("other"))).await;
    expect(&mut other, &[]).await;
    writes.write_all(&[0xE0, 0]).await.unwrap();
    assert!(reading.await.unwrap().unwrap() > 0);
}
