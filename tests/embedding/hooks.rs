//! What hooks see, and what they decide.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weir::broker::ClientIdentity;
use weir::hooks::{
    AddressAction, AddressSettings, AddressWindow, ClientInfo, ConnectStatusListener,
    ConnectionInfo, Dispatcher, IdentityRequest, Interceptor, Offline, SessionListener,
    Subscription, TopicRouter, message_channel,
};
use weir::store::{Done, Durability, Persist, Storage, StorageError};
use weir::{Broker, BrokerSettings, Message};
use weir_mqtt::{Connect, Packet, ProtocolVersion, ReasonCode, SubscriptionFilter, Utf8};

use crate::client::{Client, TestBroker, V3_1_1, V5, persistent, publish};
use crate::{Noted, Notes, notes, started};

fn user(version: ProtocolVersion, client_id: &'static str, username: &'static str) -> Connect {
    let mut connect = Connect::new(version, client_id.into());
    connect.username = Some(username.into());
    connect
}

async fn refused(broker: &TestBroker, connect: Connect) -> ReasonCode {
    broker.connect_with(connect).await.1.reason
}

#[tokio::test]
async fn a_client_is_known_by_the_name_that_the_hook_gives_it() {
    let of_tenant = |request: &IdentityRequest<'_>| {
        let tenant = request.username.map_or("", |name| name.as_str());
        format!("{tenant}/{}", request.client_id.as_str())
    };
    let broker = started(Broker::builder().unique_id(of_tenant)).await;
    let (one, _) = broker.connect_with(user(V5, "x", "one")).await;
    let (_two, _) = broker.connect_with(user(V5, "x", "two")).await;
    assert!(broker.broker.client("one/x").is_some());
    assert!(broker.broker.client("two/x").is_some());
    assert!(broker.broker.client("x").is_none());
    let (_again, _) = broker.connect_with(user(V5, "x", "one")).await;
    one.expect_disconnect(ReasonCode::SessionTakenOver).await;
}

#[tokio::test]
async fn a_client_whom_the_hook_gives_no_name_is_refused() {
    let settings = BrokerSettings {
        max_client_id: 10,
        ..BrokerSettings::default()
    };
    let echo = |request: &IdentityRequest<'_>| {
        let name = request.username.map_or("", |name| name.as_str());
        name.to_owned()
    };
    let broker = started(Broker::builder().settings(settings).unique_id(echo)).await;
    let nameless = Connect::new(V5, "x".into());
    let invalid = ReasonCode::ClientIdentifierNotValid;
    assert_eq!(refused(&broker, nameless).await, invalid);
    let too_long = user(V3_1_1, "x", "a name of too many bytes");
    assert_eq!(refused(&broker, too_long).await, invalid);
    assert_eq!(
        refused(&broker, user(V5, "x", "fits")).await,
        ReasonCode::Success
    );
}

#[tokio::test]
async fn the_user_name_can_be_the_identity() {
    let settings = BrokerSettings {
        identity: ClientIdentity::Username,
        ..BrokerSettings::default()
    };
    let broker = started(Broker::builder().settings(settings)).await;
    let (client, connack) = broker.connect_with(user(V5, "", "alice")).await;
    // [MQTT-3.2.2-16] Who sent no identifier is told the one that counts.
    let assigned = connack.properties.assigned_client_identifier;
    assert_eq!(assigned, Some(Utf8::from("alice")));
    let (_other, _) = broker
        .connect_with(user(V5, "another device", "alice"))
        .await;
    client.expect_disconnect(ReasonCode::SessionTakenOver).await;
    let nameless = Connect::new(V5, "x".into());
    assert_eq!(
        refused(&broker, nameless).await,
        ReasonCode::ClientIdentifierNotValid
    );
}

#[tokio::test]
async fn a_common_name_that_no_certificate_gives_is_no_identity() {
    let settings = BrokerSettings {
        identity: ClientIdentity::CertCn,
        ..BrokerSettings::default()
    };
    let broker = started(Broker::builder().settings(settings)).await;
    assert_eq!(
        refused(&broker, user(V5, "x", "alice")).await,
        ReasonCode::ClientIdentifierNotValid
    );
}

#[tokio::test]
async fn a_listener_sees_every_message_wherever_it_comes_from() {
    let (notes, mut noted) = notes();
    let builder = Broker::builder().on_message(move |message: &Message| {
        let from = &message.origin.client_id;
        notes.note(format!("{} by {:?}", message.topic, from.as_str()));
    });
    let broker = started(builder).await;
    let mut connect = Connect::new(V5, "a".into());
    let will = weir_mqtt::Will {
        topic: weir_mqtt::TopicName::new("will").unwrap(),
        payload: bytes::Bytes::from_static(b"gone"),
        qos: weir_mqtt::QoS::AtMostOnce,
        retain: false,
        properties: weir_mqtt::properties::WillProperties::default(),
    };
    connect.will = Some(will);
    let (mut client, _) = broker.connect_with(connect).await;
    for level in 0..3 {
        client.publish(publish("client", "x", level, 1)).await;
        assert_eq!(noted.next().await, "client by \"a\"");
    }
    broker.broker.publish(Message::text("inside", "x").unwrap());
    assert_eq!(noted.next().await, "inside by \"\"");
    client.vanish();
    assert_eq!(noted.next().await, "will by \"a\"");
}

#[tokio::test]
async fn a_channel_that_is_full_counts_what_it_missed() {
    let (listener, mut messages) = message_channel(2);
    let broker = Broker::builder()
        .on_message(listener.clone())
        .start()
        .await
        .unwrap();
    for topic in ["a", "b", "c"] {
        broker.publish(Message::text(topic, "x").unwrap());
    }
    assert_eq!(listener.missed(), 1);
    for topic in ["a", "b"] {
        assert_eq!(messages.recv().await.unwrap().topic, topic);
    }
}

struct Status(Notes, Mutex<u64>);

impl ConnectStatusListener for Status {
    fn online(&self, client: &ClientInfo) {
        let mut last = self.1.lock();
        assert!(client.session_epoch > *last, "epochs grow");
        *last = client.session_epoch;
        self.0.note(format!("{} on", client.client_id));
    }

    fn offline(&self, client: &ClientInfo, why: &Offline) {
        assert_eq!(client.session_epoch, *self.1.lock(), "of the same pair");
        assert!(!why.text.is_empty());
        self.0
            .note(format!("{} off: {}", client.client_id, why.reason.name()));
    }
}

#[tokio::test]
async fn clients_come_and_go_in_order_even_when_a_session_is_taken_over() {
    let (notes, mut noted) = notes();
    let broker = started(Broker::builder().on_status(Status(notes, Mutex::new(0)))).await;
    let first = broker.connect(V5, "a").await;
    let second = broker.connect(V5, "a").await;
    first.expect_disconnect(ReasonCode::SessionTakenOver).await;
    second.disconnect().await;
    broker.connect(V3_1_1, "a").await.vanish();
    for expected in [
        "a on",
        "a off: takenover",
        "a on",
        "a off: normal",
        "a on",
        "a off: tcp_closed",
    ] {
        assert_eq!(noted.next().await, expected);
    }
}

/// Keeps nothing and answers for nothing until it is told to.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<Done>>>);

impl Slow {
    async fn asked(&self, batches: usize) {
        while self.0.lock().len() < batches {
            tokio::task::yield_now().await;
        }
    }

    /// What a broker writes when it begins.
    async fn keeps_the_beginning(&self) {
        self.asked(1).await;
        self.keep_all();
    }

    fn keep_all(&self) {
        for done in std::mem::take(&mut *self.0.lock()) {
            done.kept();
        }
    }
}

impl Storage for Slow {
    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn commit(&self, _: Vec<Persist>, done: Done) {
        self.0.lock().push(done);
    }

    fn load(&self, _: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        Ok(())
    }
}

struct Sessions(Notes);

impl SessionListener for Sessions {
    fn subscribed(&self, client: &ClientInfo, subscription: &Subscription) {
        let (filter, qos) = (&subscription.filter, subscription.qos.as_u8());
        self.0.note(format!("{} +{filter} {qos}", client.client_id));
    }

    fn unsubscribed(&self, client: &ClientInfo, filter: &SubscriptionFilter) {
        self.0.note(format!("{} -{filter}", client.client_id));
    }
}

#[tokio::test]
async fn subscriptions_are_told_when_they_are_kept_and_not_before() {
    let (notes, mut noted) = notes();
    let storage = Slow::default();
    let builder = Broker::builder()
        .storage(storage.clone())
        .on_session(Sessions(notes));
    let broker = started(builder).await;
    storage.keeps_the_beginning().await;
    let connect = broker.connect_with(persistent(V5, "a"));
    let welcomed = async {
        storage.asked(1).await;
        storage.keep_all();
    };
    let ((mut client, _), ()) = tokio::join!(connect, welcomed);
    let subscribe = client.subscribe("$share/g/t/+", 1);
    let kept = async {
        storage.asked(1).await;
        assert_eq!(noted.so_far(), Vec::<String>::new(), "it is not kept yet");
        storage.keep_all();
    };
    tokio::join!(subscribe, kept);
    assert_eq!(noted.next().await, "a +$share/g/t/+ 1");
    let unsubscribe = client.unsubscribe("$share/g/t/+");
    let kept = async {
        storage.asked(1).await;
        storage.keep_all();
    };
    tokio::join!(unsubscribe, kept);
    assert_eq!(noted.next().await, "a -$share/g/t/+");
}

#[tokio::test]
async fn a_client_hears_nothing_of_what_is_not_kept_yet() {
    let storage = Slow::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    assert_eq!(broker.broker.durability(), Durability::Fsync);
    let mut client = broker.connect(V5, "a").await;
    let mut retained = publish("t", "x", 1, 1);
    retained.retain = true;
    client.send(Packet::Publish(retained)).await;
    storage.asked(1).await;
    // Nothing stands before the answer to a ping, so there was no PUBACK.
    client.expect_nothing().await;
    storage.keep_all();
    assert!(matches!(client.receive().await, Packet::PubAck(_)));
}

#[tokio::test]
async fn a_client_is_cut_off_when_what_it_waits_for_cannot_be_kept() {
    let storage = Slow::default();
    let broker = started(Broker::builder().storage(storage.clone())).await;
    storage.keeps_the_beginning().await;
    let mut client = broker.connect(V5, "a").await;
    let mut retained = publish("t", "x", 1, 1);
    retained.retain = true;
    client.send(Packet::Publish(retained)).await;
    storage.asked(1).await;
    storage.0.lock().clear();
    client
        .expect_disconnect(ReasonCode::ImplementationSpecificError)
        .await;
}

struct Elsewhere(Notes);

impl Dispatcher for Elsewhere {
    fn send(&self, message: &Message) {
        self.0.note(format!("all: {}", message.topic));
    }

    fn send_to(&self, client_id: &str, message: &Message) {
        self.0.note(format!("{client_id}: {}", message.topic));
    }
}

#[tokio::test]
async fn the_dispatcher_gets_what_is_made_here_and_not_what_comes_from_others() {
    let (notes, mut noted) = notes();
    let broker = started(Broker::builder().dispatcher(Elsewhere(notes))).await;
    let mut client = broker.connect(V5, "a").await;
    client.subscribe("#", 0).await;
    client
        .send(Packet::Publish(publish("mine", "x", 0, 0)))
        .await;
    assert_eq!(client.receive_publish().await.topic, "mine");
    let message = |topic| Message::text(topic, "x").unwrap();
    assert!(broker.broker.publish_local(message("theirs")).reached);
    assert_eq!(client.receive_publish().await.topic, "theirs");
    assert!(broker.broker.publish_to("a", message("for a")));
    assert_eq!(client.receive_publish().await.topic, "for a");
    assert!(!broker.broker.publish_to("b", message("for b")));
    assert_eq!(noted.so_far(), ["all: mine", "b: for b"]);
}

struct Steps(&'static str, Notes);

impl Steps {
    fn note(&self, connection: &ConnectionInfo, step: &str) {
        let client = connection.client_id.as_ref().map_or("-", |id| id.as_str());
        self.1.note(format!("{} {client} {step}", self.0));
    }
}

impl Interceptor for Steps {
    fn after_connected(&self, connection: &ConnectionInfo) {
        self.note(connection, "connected");
    }

    fn after_received_bytes(&self, connection: &ConnectionInfo, bytes: usize) {
        assert!(bytes > 0);
        self.note(connection, "received");
    }

    fn after_decoded(&self, connection: &ConnectionInfo, packet: &Packet) {
        let name = match packet {
            Packet::Connect(_) => "connect",
            Packet::PingReq => "ping",
            Packet::Disconnect(_) => "disconnect",
            _ => "other",
        };
        self.note(connection, &format!("decoded {name}"));
    }

    fn after_handled(&self, connection: &ConnectionInfo, _: Duration) {
        self.note(connection, "handled");
    }

    fn after_sent(&self, connection: &ConnectionInfo, bytes: usize) {
        assert!(bytes > 0);
        self.note(connection, "sent");
    }
}

#[tokio::test]
async fn interceptors_see_every_step_in_their_order() {
    let (notes, mut noted) = notes();
    let builder = Broker::builder()
        .interceptor(2, Steps("second", notes.clone()))
        .interceptor(1, Steps("first", notes));
    let broker = started(builder).await;
    let mut client = broker.connect(V5, "a").await;
    client.expect_nothing().await;
    client.disconnect().await;
    for step in [
        "- connected",
        "- received",
        "- decoded connect",
        "a sent",
        "a received",
        "a decoded ping",
        "a handled",
        "a sent",
        "a received",
        "a decoded disconnect",
        "a handled",
    ] {
        assert_eq!(noted.next().await, format!("first {step}"));
        assert_eq!(noted.next().await, format!("second {step}"));
    }
}

#[tokio::test]
async fn an_address_that_fails_too_often_is_banned_with_all_its_connections() {
    let (notes, mut noted) = notes();
    let settings = AddressSettings::new(move |address: IpAddr, windows: &[AddressWindow]| {
        assert_eq!(windows.len(), 2);
        match windows[0].errors {
            0 => AddressAction::Keep,
            errors => {
                notes.note(format!("{address} {errors}"));
                AddressAction::Ban(Duration::from_secs(600))
            }
        }
    })
    .windows([Duration::from_secs(60), Duration::from_secs(600)]);
    let broker = started(Broker::builder().addresses(settings)).await;
    let good = broker.connect(V5, "good").await;
    let mut bad = broker.open(V5).await;
    bad.send(Packet::PingReq).await;
    assert_eq!(noted.next().await, "127.0.0.1 1");
    good.expect_disconnect(ReasonCode::AdministrativeAction)
        .await;
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let window = broker.broker.address(loopback)[1];
    assert_eq!((window.accepts, window.errors), (2, 1));
    assert!(window.received_bytes > 0 && window.sent_bytes > 0);
    let mut banned = broker.open(V5).await;
    assert_eq!(banned.receive_or_end().await, None, "no answer at all");
    let refused = &broker.broker.stats().connects_refused;
    assert_eq!(refused.of(ReasonCode::Banned.as_u8()).get(), 1);
    broker.broker.unban_address(loopback);
    broker.connect(V5, "forgiven").await;
}

#[derive(serde::Deserialize)]
struct Reading {
    celsius: f64,
}

async fn told(client: &mut Client, noted: &mut Noted, topic: &str, payload: &str) -> Vec<String> {
    client.publish(publish(topic, payload, 1, 1)).await;
    noted.so_far()
}

#[tokio::test]
async fn messages_find_their_handlers_by_topic_with_what_stands_at_the_names() {
    let (notes, mut noted) = notes();
    let (things, readings) = (notes.clone(), notes);
    let router = TopicRouter::new()
        .on("/sys/${product}/${device}/thing", move |call| {
            let get = |name| call.get(name).unwrap_or("?");
            things.note(format!("{} of {}", get("device"), get("product")));
        })
        .unwrap()
        .on_json("room/${room}/#", move |call, reading: Reading| {
            let room = call.get("room").unwrap_or("?");
            readings.note(format!("{room}: {}", reading.celsius));
        })
        .unwrap();
    let broker = started(Broker::builder().on_message(router)).await;
    let mut client = broker.connect(V5, "a").await;
    let mut told =
        async |topic: &str, payload: &str| told(&mut client, &mut noted, topic, payload).await;
    assert_eq!(told("/sys/pump/7/thing", "").await, ["7 of pump"]);
    assert_eq!(
        told("room/1/now", r#"{"celsius": 21.5}"#).await,
        ["1: 21.5"]
    );
    assert!(told("room/1/now", "21.5 degrees").await.is_empty());
    assert!(told("elsewhere", "").await.is_empty());
}
