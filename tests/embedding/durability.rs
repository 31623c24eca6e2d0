//! What acknowledgements wait for, listener by listener, with a storage that answers when the test wants it to.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use weir::Broker;
use weir::broker::ListenerSettings;
use weir::store::{Done, Durability, Memory, Persist, Storage, StorageError};
use weir_mqtt::{Packet, QoS, ReasonCode};

use crate::client::{Client, TestBroker, V5, persistent, publish};
use crate::{PATIENCE, started};

/// Has what it is given and says nothing of it.
#[derive(Clone, Default)]
struct Held {
    memory: Memory,
    unanswered: Arc<Mutex<Vec<Done>>>,
    tells_written: Arc<Mutex<bool>>,
}

impl Held {
    /// Answers for everything; gives whether somebody waited, of each batch.
    async fn next(&self) -> Vec<bool> {
        while self.unanswered.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let unanswered = std::mem::take(&mut *self.unanswered.lock().unwrap());
        let awaited = unanswered.iter().map(Done::is_awaited).collect();
        unanswered.into_iter().for_each(Done::kept);
        awaited
    }

    /// Answers for the first alone, once there are so many.
    async fn first_of(&self, batches: usize) {
        while self.unanswered.lock().unwrap().len() < batches {
            tokio::task::yield_now().await;
        }
        self.unanswered.lock().unwrap().remove(0).kept();
    }

    fn written(&self) {
        let unanswered = self.unanswered.lock().unwrap();
        unanswered.iter().for_each(|done| done.written()());
    }

    fn kept(&self) {
        let unanswered = std::mem::take(&mut *self.unanswered.lock().unwrap());
        unanswered.into_iter().for_each(Done::kept);
    }

    fn failed(&self) {
        let unanswered = std::mem::take(&mut *self.unanswered.lock().unwrap());
        unanswered.into_iter().for_each(Done::failed);
    }
}

impl Storage for Held {
    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        let (_, taken) = weir::store::Ticket::new();
        self.memory.commit(batch, taken);
        self.unanswered.lock().unwrap().push(done);
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        self.memory.load(each)
    }

    fn tell_what_is_written(&self) {
        *self.tells_written.lock().unwrap() = true;
    }
}

/// A client of a listener of its own.
async fn client(broker: &TestBroker, durability: Durability) -> Client {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let place = TestBroker {
        broker: broker.broker.clone(),
        address: socket.local_addr().unwrap(),
    };
    let settings = ListenerSettings {
        allow_anonymous: true,
        durability,
        ..ListenerSettings::default()
    };
    place.listen(socket, settings);
    place.connect(V5, durability.name()).await
}

async fn retain(client: &mut Client, id: u16) {
    retain_at(client, 1, id).await;
}

async fn retain_at(client: &mut Client, qos: u8, id: u16) {
    let mut message = publish("t", "x", qos, id);
    message.retain = true;
    client.send(Packet::Publish(message)).await;
}

async fn is_acknowledged(client: &mut Client) -> bool {
    matches!(client.receive().await, Packet::PubAck(ack) if !ack.reason.is_error())
}

#[tokio::test]
async fn each_listener_waits_for_what_it_promises() {
    let storage = Held::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    let mut fsync = client(&broker, Durability::Fsync).await;
    assert!(!*storage.tells_written.lock().unwrap());
    let mut os = client(&broker, Durability::Os).await;
    assert!(*storage.tells_written.lock().unwrap(), "now it is worth it");
    let mut memory = client(&broker, Durability::Memory).await;
    retain(&mut memory, 1).await;
    assert!(
        is_acknowledged(&mut memory).await,
        "while the store is held"
    );
    for client in [&mut fsync, &mut os] {
        retain(client, 1).await;
        client.expect_nothing().await;
    }
    storage.written();
    assert!(is_acknowledged(&mut os).await);
    fsync.expect_nothing().await;
    storage.kept();
    assert!(is_acknowledged(&mut fsync).await);
    // All the same, it is kept.
    assert_eq!(storage.memory.state().retained().count(), 1);
    // What could not be kept ends those who wait for it, and no others.
    for client in [&mut fsync, &mut os, &mut memory] {
        retain(client, 2).await;
    }
    assert!(is_acknowledged(&mut memory).await);
    os.expect_nothing().await;
    fsync.expect_nothing().await;
    storage.failed();
    os.expect_disconnect(ReasonCode::ImplementationSpecificError)
        .await;
    fsync
        .expect_disconnect(ReasonCode::ImplementationSpecificError)
        .await;
    memory.expect_nothing().await;
    storage.kept();
    assert!(broker.broker.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_storage_is_told_for_which_batches_somebody_waits() {
    let storage = Held::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    let mut fsync = client(&broker, Durability::Fsync).await;
    let mut memory = client(&broker, Durability::Memory).await;
    storage.kept();
    retain_at(&mut fsync, 0, 0).await;
    assert_eq!(storage.next().await, [false], "QoS 0 is not acknowledged");
    retain_at(&mut fsync, 1, 1).await;
    assert_eq!(storage.next().await, [true]);
    assert!(is_acknowledged(&mut fsync).await);
    retain_at(&mut fsync, 2, 2).await;
    assert_eq!(storage.next().await, [true], "PUBREC waits");
    assert!(matches!(fsync.receive().await, Packet::PubRec(_)));
    retain_at(&mut memory, 1, 1).await;
    assert!(is_acknowledged(&mut memory).await, "it waits for nothing");
    assert_eq!(storage.next().await, [false]);
    assert!(broker.broker.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_retained_message_comes_though_it_is_kept_after_the_answer_to_its_subscribe() {
    let storage = Held::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    let mut memory = client(&broker, Durability::Memory).await;
    retain_at(&mut memory, 2, 1).await;
    assert!(matches!(memory.receive().await, Packet::PubRec(_)));
    storage.next().await;
    let connecting = broker.connect_with(persistent(V5, "subscriber"));
    let ((mut subscriber, _), _) = tokio::join!(connecting, storage.next());
    let (granted, ()) = tokio::join!(subscriber.subscribe("t", 2), storage.first_of(2));
    assert_eq!(granted, [ReasonCode::GrantedQoS2]);
    // Its identifier at QoS 2 must outlive a crash.
    storage.first_of(1).await;
    assert_eq!(subscriber.receive_publish().await.qos, QoS::ExactlyOnce);
    assert!(broker.broker.stop(PATIENCE).await);
}
