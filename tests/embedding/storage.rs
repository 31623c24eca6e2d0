//! A broker that starts with the storage of another goes on where that one has stopped.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::stats::DropReason;
use weir::store::{Done, Durability, Memory, Persist, Storage, StorageError};
use weir::{Broker, BrokerSettings, Message};
use weir_mqtt::{Packet, PubComp, PubRec, PubRel, Publish, QoS, ReasonCode};

use crate::client::{Client, TestBroker, V3_1_1, V5, id, persistent, publish};
use crate::{PATIENCE, listening, started};

async fn restarted(broker: TestBroker) -> TestBroker {
    assert!(broker.broker.stop(PATIENCE).await, "all connections ended");
    let again = listening(broker.broker.start_again().await.unwrap());
    assert_eq!(again.address, broker.address);
    again
}

#[tokio::test]
async fn sessions_with_their_subscriptions_and_queues_come_back() {
    let broker = started(Broker::builder().storage(Memory::default())).await;
    let (mut client, _) = broker.connect_with(persistent(V5, "a")).await;
    client.subscribe("t/+", 1).await;
    client.disconnect().await;
    let message = |topic, text| {
        let message = Message::text(topic, text).unwrap();
        message.with_qos(QoS::AtLeastOnce)
    };
    for text in ["1", "2"] {
        let published = broker.broker.publish(message("t/1", text));
        assert!(published.reached);
        published.kept().await.unwrap();
    }
    let broker = restarted(broker).await;
    assert_eq!(broker.broker.stats().sessions.get(), 1);
    broker.broker.publish(message("t/2", "3"));
    let (mut client, connack) = broker.connect_with(persistent(V5, "a")).await;
    assert!(connack.session_present);
    for expected in ["1", "2", "3"] {
        let received = client.receive_publish().await;
        assert_eq!(&*received.payload, expected.as_bytes());
        client.acknowledge(&received).await;
    }
    client.expect_nothing().await;
    let broker = restarted(broker).await;
    let (mut client, _) = broker.connect_with(persistent(V5, "a")).await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn what_was_in_flight_is_sent_again_with_its_identifier() {
    let broker = started(Broker::builder().storage(Memory::default())).await;
    let (mut client, _) = broker.connect_with(persistent(V3_1_1, "a")).await;
    client.subscribe("t", 2).await;
    let message = |text| {
        let message = Message::text("t", text).unwrap();
        message.with_qos(QoS::ExactlyOnce)
    };
    broker.broker.publish(message("one"));
    broker.broker.publish(message("two"));
    let one = client.receive_publish().await;
    let two = client.receive_publish().await;
    let released = one.packet_id.unwrap();
    client.send(Packet::PubRec(PubRec::success(released))).await;
    assert_eq!(
        client.receive().await,
        Packet::PubRel(PubRel::success(released))
    );
    client.vanish();
    let broker = restarted(broker).await;
    let (mut client, _) = broker.connect_with(persistent(V3_1_1, "a")).await;
    assert_eq!(
        client.receive().await,
        Packet::PubRel(PubRel::success(released))
    );
    let again = client.receive_publish().await;
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    assert_eq!((again.packet_id, again.dup), (two.packet_id, true));
    assert_eq!(again.payload, two.payload);
}

#[tokio::test]
async fn a_message_that_was_taken_once_is_not_taken_again_after_a_restart() {
    let broker = started(Broker::builder().storage(Memory::default())).await;
    let (mut publisher, _) = broker.connect_with(persistent(V5, "p")).await;
    let message = publish("t", "x", 2, 7);
    publisher.send(Packet::Publish(message.clone())).await;
    publisher.receive_pubrec(id(7)).await;
    publisher.vanish();
    let broker = restarted(broker).await;
    let mut subscriber = broker.connect(V5, "s").await;
    subscriber.subscribe("t", 2).await;
    let (mut publisher, connack) = broker.connect_with(persistent(V5, "p")).await;
    assert!(connack.session_present);
    // [MQTT-4.3.3-10]
    publisher.publish(message).await;
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn retained_messages_come_back_and_deleted_ones_do_not() {
    let broker = started(Broker::builder().storage(Memory::default())).await;
    let retain = |broker: &TestBroker, topic, text| {
        let message = Message::text(topic, text).unwrap();
        broker.broker.publish(message.retained());
    };
    retain(&broker, "a", "1");
    retain(&broker, "b", "1");
    retain(&broker, "a", "2");
    retain(&broker, "b", "");
    let broker = restarted(broker).await;
    assert_eq!(broker.broker.stats().retained_messages.get(), 1);
    retain(&broker, "b", "3");
    let broker = restarted(broker).await;
    let mut client = broker.connect(V5, "c").await;
    client.subscribe("#", 0).await;
    for (topic, payload) in [("a", "2"), ("b", "3")] {
        let retained = client.receive_publish().await;
        assert_eq!(retained.topic, topic);
        assert_eq!(&*retained.payload, payload.as_bytes());
    }
    client.expect_nothing().await;
}

#[tokio::test]
async fn a_session_that_ends_with_its_connection_or_by_a_word_does_not_come_back() {
    let broker = started(Broker::builder().storage(Memory::default())).await;
    let mut clean = broker.connect(V5, "clean").await;
    clean.subscribe("t", 1).await;
    let (mut ended, _) = broker.connect_with(persistent(V5, "ended")).await;
    ended.subscribe("t", 1).await;
    assert!(broker.broker.end_session("ended").await);
    let broker = restarted(broker).await;
    assert_eq!(broker.broker.stats().sessions.get(), 0);
    assert_eq!(broker.broker.stats().subscriptions.get(), 0);
}

#[tokio::test]
async fn a_session_expires_in_time_though_the_broker_was_away() {
    let settings = BrokerSettings {
        session_expiry_max: Duration::from_secs(1),
        ..BrokerSettings::default()
    };
    let builder = Broker::builder()
        .settings(settings)
        .storage(Memory::default());
    let broker = started(builder).await;
    let (client, _) = broker.connect_with(persistent(V5, "a")).await;
    client.disconnect().await;
    let broker = restarted(broker).await;
    let expired = async {
        while broker.broker.stats().sessions.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, expired).await.unwrap();
    let broker = restarted(broker).await;
    assert_eq!(broker.broker.stats().sessions.get(), 0);
}

/// A storage that has no room while it is told so.
#[derive(Clone, Default)]
struct Full(Arc<AtomicBool>);

impl Storage for Full {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn commit(&self, _: Vec<Persist>, done: Done) {
        done.kept();
    }

    fn has_room(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn load(&self, _: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A broker whose storage is full, a client that watches it, and a client of a version without reasons: what it
/// publishes waits.
async fn where_all_waits(storage: &Full) -> (TestBroker, Client, Client) {
    storage.0.store(true, Ordering::Relaxed);
    let mut settings = BrokerSettings::default();
    settings.limits.client.max_payload = Some(8);
    let broker = started(
        Broker::builder()
            .settings(settings)
            .storage(storage.clone()),
    )
    .await;
    let mut watcher = broker.connect(V5, "watcher").await;
    let kept = || {
        let mut message = publish("kept", "x", 1, 1);
        message.retain = true;
        message
    };
    // It is asked about once a second.
    while watcher.publish(kept()).await != ReasonCode::QuotaExceeded {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for topic in ["t", "plain", "later"] {
        watcher.subscribe(topic, 0).await;
    }
    let mut client = broker.connect(V3_1_1, "waits").await;
    let mut retained = publish("$retain/1000/t", "x", 1, 7);
    retained.retain = true;
    client.send(Packet::Publish(retained)).await;
    for topic in ["plain", "$delayed/0/later"] {
        client
            .send(Packet::Publish(publish(topic, "x", 0, 0)))
            .await;
    }
    let too_large = publish("plain", "123456789", 0, 0);
    client.send(Packet::Publish(too_large)).await;
    (broker, watcher, client)
}

#[tokio::test]
async fn what_waited_for_room_is_treated_as_its_topic_says() {
    let storage = Full::default();
    let (broker, mut watcher, mut client) = where_all_waits(&storage).await;
    watcher.expect_nothing().await;
    storage.0.store(false, Ordering::Relaxed);
    assert!(matches!(client.receive().await, Packet::PubAck(_)));
    for topic in ["t", "plain", "later"] {
        let message = watcher.receive_publish().await;
        assert_eq!(message.topic, topic);
        assert_eq!(expiry_s(&message), None);
    }
    let mut late = broker.connect(V5, "late").await;
    late.subscribe("t", 0).await;
    let left = expiry_s(&late.receive_publish().await);
    assert!(left.is_some_and(|left| left <= 1000), "{left:?}");
}

#[tokio::test]
async fn what_waited_behind_it_at_qos_0_is_looked_at_as_ever_when_its_client_leaves() {
    let storage = Full::default();
    let (broker, mut watcher, client) = where_all_waits(&storage).await;
    let before = broker.broker.stats().drops(DropReason::StoreFull);
    // DISCONNECT stands behind all of them; what is at QoS 1 the client still has.
    client.disconnect().await;
    assert!(broker.broker.client("waits").is_none());
    let message = watcher.receive_publish().await;
    assert_eq!(
        (&*message.topic, &message.payload[..]),
        ("plain", &b"x"[..])
    );
    watcher.expect_nothing().await;
    // There is still no room to keep what is for later, and what is too large nobody may publish.
    let dropped = |reason| broker.broker.stats().drops(reason);
    assert_eq!(dropped(DropReason::StoreFull), before + 1);
    assert_eq!(dropped(DropReason::PayloadTooLarge), 1);
}

fn expiry_s(message: &Publish) -> Option<u32> {
    let properties = message.properties.as_deref()?;
    properties.message_expiry_interval_s
}

/// A storage that keeps nothing while it waits: a disk that is slow.
#[derive(Clone, Default)]
struct Slow {
    kept: Memory,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    waits: bool,
    batches: Vec<(Vec<Persist>, Done)>,
}

impl Slow {
    fn wait(&self) {
        self.waiting.lock().unwrap().waits = true;
    }

    /// How many batches wait.
    fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().batches.len()
    }

    fn go_on(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.waits = false;
        for (batch, done) in std::mem::take(&mut waiting.batches) {
            self.kept.commit(batch, done);
        }
    }
}

impl Storage for Slow {
    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.waits {
            waiting.batches.push((batch, done));
        } else {
            self.kept.commit(batch, done);
        }
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        self.kept.load(each)
    }
}

async fn until_batches_wait(storage: &Slow, count: usize) {
    let there = async {
        while storage.waiting() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.unwrap();
}

#[tokio::test]
async fn a_qos_2_message_leaves_when_it_is_kept_that_it_is_owed_and_not_before() {
    let storage = Slow::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    for version in [V5, V3_1_1] {
        let (mut subscriber, _) = broker.connect_with(persistent(version, "s")).await;
        subscriber.subscribe("t", 2).await;
        let (mut publisher, _) = broker.connect_with(persistent(version, "p")).await;
        storage.wait();
        publisher
            .send(Packet::Publish(publish("t", "x", 2, 7)))
            .await;
        until_batches_wait(&storage, 1).await;
        // A crash now would leave the subscriber with an identifier that nobody knows.
        subscriber.expect_nothing().await;
        storage.go_on();
        publisher.receive_pubrec(id(7)).await;
        let received = subscriber.receive_publish().await;
        assert_eq!((&*received.payload, received.dup), (b"x".as_slice(), false));
        subscriber.acknowledge(&received).await;
        publisher.send(Packet::PubRel(PubRel::success(id(7)))).await;
        assert!(matches!(publisher.receive().await, Packet::PubComp(_)));
        subscriber.disconnect().await;
        publisher.disconnect().await;
    }
}

#[tokio::test]
async fn a_queued_qos_2_message_leaves_when_its_identifier_is_kept() {
    let storage = Slow::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    let mut connect = persistent(V5, "s");
    connect.properties.receive_maximum = NonZeroU16::new(1);
    let (mut subscriber, _) = broker.connect_with(connect).await;
    subscriber.subscribe("t", 2).await;
    for text in ["one", "two"] {
        let message = Message::text("t", text).unwrap();
        let published = broker.broker.publish(message.with_qos(QoS::ExactlyOnce));
        published.kept().await.unwrap();
    }
    let one = subscriber.receive_publish().await;
    let first = one.packet_id.unwrap();
    subscriber
        .send(Packet::PubRec(PubRec::success(first)))
        .await;
    assert_eq!(
        subscriber.receive().await,
        Packet::PubRel(PubRel::success(first))
    );
    storage.wait();
    let done = Packet::PubComp(PubComp::success(first));
    subscriber.send(done).await;
    until_batches_wait(&storage, 1).await;
    subscriber.expect_nothing().await;
    storage.go_on();
    let two = subscriber.receive_publish().await;
    assert_eq!(&*two.payload, b"two");
}
