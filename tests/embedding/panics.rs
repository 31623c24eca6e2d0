//! A panic in a hook is counted and harms nothing else: who observes is passed over, who decides has refused.
//!
//! Each method of each hook panics in its turn; docs/embedding.md says what follows.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use weir::auth::enhanced::{Exchange, Mechanism, Step};
use weir::auth::{
    Authenticator, Authorizer, BoxFuture, ConnectRequest, Decision, Identity, PublishVerdict,
    Subject,
};
use weir::broker::ListenerSettings;
use weir::hooks::{
    AddressAction, AddressListener, AddressSettings, AddressWindow, ClientInfo,
    ConnectStatusListener, ConnectionInfo, Dispatcher, Hook, IdentityRequest, Interceptor,
    MessageListener, Offline, SessionListener, Subscription, TopicRouter, UniqueId,
};
use weir::store::{Done, Durability, Persist, State, Storage, StorageError};
use weir::{Broker, BrokerBuilder, Message, StartError};
use weir_mqtt::properties::AuthProperties;
use weir_mqtt::{
    Auth, Connect, Packet, ProtocolVersion, QoS, ReasonCode, SubscriptionFilter, Utf8,
};

use crate::client::{Client, TestBroker, V3_1_1, V5, persistent, publish, until};
use crate::{PATIENCE, started};

/// Every hook; all its methods do what they should, but for the one of this name, which panics.
#[derive(Clone, Copy)]
struct Panicking(&'static str);

impl Panicking {
    fn in_method(self, name: &str) {
        assert!(self.0 != name, "a test's hook");
    }
}

impl MessageListener for Panicking {
    fn on_message(&self, _: &Message) {
        self.in_method("on_message");
    }
}

impl Dispatcher for Panicking {
    fn send(&self, _: &Message) {
        self.in_method("send");
    }

    fn send_to(&self, _: &str, _: &Message) {
        self.in_method("send_to");
    }
}

impl ConnectStatusListener for Panicking {
    fn online(&self, _: &ClientInfo) {
        self.in_method("online");
    }

    fn offline(&self, _: &ClientInfo, _: &Offline) {
        self.in_method("offline");
    }
}

impl SessionListener for Panicking {
    fn subscribed(&self, _: &ClientInfo, _: &Subscription) {
        self.in_method("subscribed");
    }

    fn unsubscribed(&self, _: &ClientInfo, _: &SubscriptionFilter) {
        self.in_method("unsubscribed");
    }
}

impl Interceptor for Panicking {
    fn after_connected(&self, _: &ConnectionInfo) {
        self.in_method("after_connected");
    }

    fn after_received_bytes(&self, _: &ConnectionInfo, _: usize) {
        self.in_method("after_received_bytes");
    }

    fn after_decoded(&self, _: &ConnectionInfo, _: &Packet) {
        self.in_method("after_decoded");
    }

    fn after_handled(&self, _: &ConnectionInfo, _: Duration) {
        self.in_method("after_handled");
    }

    fn after_sent(&self, _: &ConnectionInfo, _: usize) {
        self.in_method("after_sent");
    }
}

impl AddressListener for Panicking {
    fn seen(&self, _: IpAddr, _: &[AddressWindow]) -> AddressAction {
        self.in_method("seen");
        AddressAction::Keep
    }
}

impl UniqueId for Panicking {
    fn unique_id(&self, request: &IdentityRequest<'_>) -> String {
        self.in_method("unique_id");
        request.client_id.to_string()
    }
}

impl Authenticator for Panicking {
    fn authenticate<'a>(&'a self, _: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        self.in_method("authenticate");
        Box::pin(async {
            tokio::task::yield_now().await;
            self.in_method("authenticate, later");
            Decision::Allow(Identity::default())
        })
    }
}

impl Authorizer for Panicking {
    fn generation(&self) -> u64 {
        self.in_method("generation");
        0
    }

    fn publish(&self, _: &Subject, topic: &str, _: QoS, _: bool) -> PublishVerdict {
        if topic == "t" {
            self.in_method("publish");
        }
        PublishVerdict::Allow
    }

    fn subscribe(
        &self,
        _: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode> {
        if filter.to_string() == "t" {
            self.in_method("subscribe");
        }
        Ok(qos)
    }
}

impl Mechanism for Panicking {
    fn name(&self) -> &str {
        self.in_method("name");
        "TEST"
    }

    fn begin(&self) -> Box<dyn Exchange> {
        self.in_method("begin");
        Box::new(*self)
    }
}

impl Exchange for Panicking {
    /// A client that says `again` signs in again.
    fn step(&mut self, data: &[u8]) -> Step {
        self.in_method("step");
        if data == b"again" {
            self.in_method("step, again");
        }
        Step::Done {
            identity: Identity::default(),
            data: None,
        }
    }
}

impl Storage for Panicking {
    fn durability(&self) -> Durability {
        self.in_method("durability");
        Durability::Fsync
    }

    fn commit(&self, _: Vec<Persist>, done: Done) {
        self.in_method("commit");
        done.kept();
    }

    fn has_room(&self) -> bool {
        self.in_method("has_room");
        true
    }

    fn load(&self, _: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        self.in_method("load");
        Ok(())
    }

    fn load_state(&self) -> Result<State, StorageError> {
        self.in_method("load_state");
        let mut state = State::default();
        self.load(&mut |record| state.apply(record))?;
        Ok(state)
    }

    fn tell_what_is_written(&self) {
        self.in_method("tell_what_is_written");
    }

    fn flush(&self) {
        self.in_method("flush");
    }
}

/// Where a hook is put in.
type Build = fn(BrokerBuilder, Panicking) -> BrokerBuilder;

const LISTENS: Build = |builder, hook| builder.on_message(hook);
const ROUTES: Build = |builder, hook| {
    let router = TopicRouter::new().on("t", move |_| hook.in_method("handler"));
    builder.on_message(router.unwrap())
};
const DISPATCHES: Build = |builder, hook| builder.dispatcher(hook);
const WATCHES: Build = |builder, hook| builder.on_status(hook);
const HEARS: Build = |builder, hook| builder.on_session(hook);
const INTERCEPTS: Build = |builder, hook| builder.interceptor(0, hook);
const COUNTS: Build = |builder, hook| builder.addresses(AddressSettings::new(hook));
const NAMES: Build = |builder, hook| builder.unique_id(hook);
const ADMITS: Build = |builder, hook| builder.authenticator(hook);
const SIGNS_IN: Build = |builder, hook| builder.mechanism(Arc::new(hook));
const ALLOWS: Build = |builder, hook| builder.authorizer(hook);
const KEEPS: Build = |builder, hook| builder.storage(hook);

/// Methods whose panic nobody feels.
const UNFELT: [(&str, Hook, Build); 16] = [
    ("on_message", Hook::Message, LISTENS),
    ("handler", Hook::Message, ROUTES),
    ("send", Hook::Dispatcher, DISPATCHES),
    ("send_to", Hook::Dispatcher, DISPATCHES),
    ("online", Hook::ConnectStatus, WATCHES),
    ("offline", Hook::ConnectStatus, WATCHES),
    ("subscribed", Hook::Session, HEARS),
    ("unsubscribed", Hook::Session, HEARS),
    ("after_connected", Hook::Interceptor, INTERCEPTS),
    ("after_received_bytes", Hook::Interceptor, INTERCEPTS),
    ("after_decoded", Hook::Interceptor, INTERCEPTS),
    ("after_handled", Hook::Interceptor, INTERCEPTS),
    ("after_sent", Hook::Interceptor, INTERCEPTS),
    ("seen", Hook::Address, COUNTS),
    ("generation", Hook::Authorizer, ALLOWS),
    ("has_room", Hook::Storage, KEEPS),
];

/// A client does all that clients do, as if there were no hook.
async fn is_served(broker: &TestBroker, client_id: &str) {
    let mut client = broker.connect(V5, client_id).await;
    assert_eq!(client.subscribe("t", 1).await, [ReasonCode::GrantedQoS1]);
    client.send(Packet::Publish(publish("t", "x", 0, 0))).await;
    assert_eq!(&*client.receive_publish().await.payload, b"x");
    assert_eq!(client.unsubscribe("t").await, [ReasonCode::Success]);
    client.expect_nothing().await;
    client.disconnect().await;
    let elsewhere = Message::text("t", "x").unwrap();
    assert!(!broker.broker.publish_to("nobody", elsewhere));
}

/// This hook has panicked, and no other.
async fn has_panicked(broker: &TestBroker, hook: Hook) {
    let panics = broker.broker.hook_panics();
    // What follows the client's last packet is nothing that it can see.
    until(|| panics.of(hook) > 0).await;
    for other in Hook::ALL {
        assert!(other == hook || panics.of(other) == 0, "{other:?}");
    }
}

#[tokio::test]
async fn a_hook_without_a_panic_harms_nobody_either() {
    for (_, hook, build) in UNFELT {
        let broker = started(build(Broker::builder(), Panicking(""))).await;
        is_served(&broker, "a").await;
        assert_eq!(broker.broker.hook_panics().of(hook), 0);
    }
}

#[tokio::test]
async fn who_observes_and_panics_is_passed_over() {
    for (method, hook, build) in UNFELT {
        let broker = started(build(Broker::builder(), Panicking(method))).await;
        is_served(&broker, "a").await;
        has_panicked(&broker, hook).await;
        is_served(&broker, "b").await;
    }
}

#[tokio::test]
async fn listeners_behind_one_that_panics_are_called() {
    let (notes, mut noted) = crate::notes();
    let builder = Broker::builder()
        .on_message(Panicking("on_message"))
        .on_message(move |message: &Message| notes.note(message.topic.as_str()));
    let broker = started(builder).await;
    is_served(&broker, "a").await;
    assert_eq!(noted.next().await, "t");
}

/// CONNECT of a client that signs in with a mechanism.
fn signing_in(version: ProtocolVersion) -> Connect {
    let mut connect = Connect::new(version, "a".into());
    connect.properties.authentication_method = Some(Utf8::from("TEST"));
    connect
}

/// CONNECT of one that does not.
fn plain(version: ProtocolVersion) -> Connect {
    Connect::new(version, "a".into())
}

/// A method, its place, how the hook is put in, who asks for it, and the answer.
type Deciding = (
    &'static str,
    Hook,
    Build,
    fn(ProtocolVersion) -> Connect,
    ReasonCode,
);

#[tokio::test]
async fn who_decides_whether_a_client_comes_in_and_panics_has_refused_it() {
    let unavailable = ReasonCode::ServerUnavailable;
    let broken = ReasonCode::ImplementationSpecificError;
    let unknown = ReasonCode::BadAuthenticationMethod;
    let table: [Deciding; 6] = [
        ("unique_id", Hook::UniqueId, NAMES, plain, unavailable),
        (
            "authenticate",
            Hook::Authenticator,
            ADMITS,
            plain,
            unavailable,
        ),
        (
            "authenticate, later",
            Hook::Authenticator,
            ADMITS,
            plain,
            unavailable,
        ),
        ("begin", Hook::Mechanism, SIGNS_IN, signing_in, broken),
        ("step", Hook::Mechanism, SIGNS_IN, signing_in, broken),
        ("name", Hook::Mechanism, SIGNS_IN, signing_in, unknown),
    ];
    for (method, hook, build, connect, expected) in table {
        let broker = started(build(Broker::builder(), Panicking(method))).await;
        for version in [V5, V3_1_1] {
            let connect = connect(version);
            if connect.properties.authentication_method.is_some() && !version.is_v5() {
                continue;
            }
            let (client, connack) = broker.connect_with(connect).await;
            assert_eq!(connack.reason, expected);
            is_over(client).await;
        }
        has_panicked(&broker, hook).await;
        // The others are whole.
        let broker = started(build(Broker::builder(), Panicking(""))).await;
        let (_, connack) = broker.connect_with(connect(V5)).await;
        assert_eq!(connack.reason, ReasonCode::Success);
    }
}

async fn is_over(mut client: Client) {
    assert_eq!(client.receive_or_end().await, None);
}

#[tokio::test]
async fn who_signs_in_again_and_brings_the_mechanism_down_is_sent_away() {
    let builder = Broker::builder().mechanism(Arc::new(Panicking("step, again")));
    let broker = started(builder).await;
    let (mut client, connack) = broker.connect_with(signing_in(V5)).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    let properties = AuthProperties {
        authentication_method: Some(Utf8::from("TEST")),
        authentication_data: Some(Bytes::from_static(b"again")),
        ..AuthProperties::default()
    };
    client
        .send(Packet::Auth(Auth {
            reason: ReasonCode::ReAuthenticate,
            properties: Some(Box::new(properties)),
        }))
        .await;
    client
        .expect_disconnect(ReasonCode::ImplementationSpecificError)
        .await;
    has_panicked(&broker, Hook::Mechanism).await;
    is_served(&broker, "b").await;
}

#[tokio::test]
async fn what_brings_the_authorizer_down_is_forbidden_and_the_client_goes_on() {
    for method in ["subscribe", "publish"] {
        let broker = started(Broker::builder().authorizer(Panicking(method))).await;
        let mut client = broker.connect(V5, "a").await;
        let forbidden = match method {
            "subscribe" => client.subscribe("t", 1).await[0],
            _ => client.publish(publish("t", "x", 1, 1)).await,
        };
        assert_eq!(forbidden, ReasonCode::NotAuthorized, "{method}");
        has_panicked(&broker, Hook::Authorizer).await;
        assert_eq!(client.subscribe("allowed", 0).await, [ReasonCode::Success]);
        let message = publish("allowed", "x", 0, 0);
        client.send(Packet::Publish(message)).await;
        assert_eq!(client.receive_publish().await.topic, "allowed");
    }
}

#[tokio::test]
async fn a_storage_that_panics_when_it_is_to_keep_something_has_kept_nothing() {
    let broker = started(Broker::builder().storage(Panicking("commit"))).await;
    let (_, connack) = broker.connect_with(persistent(V5, "a")).await;
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
    // What needs no storage goes on.
    let mut client = broker.connect(V5, "b").await;
    assert!(!client.publish(publish("t", "x", 1, 1)).await.is_error());
    let mut retained = publish("t", "x", 1, 2);
    retained.retain = true;
    client.send(Packet::Publish(retained)).await;
    client
        .expect_disconnect(ReasonCode::ImplementationSpecificError)
        .await;
    has_panicked(&broker, Hook::Storage).await;
}

#[tokio::test]
async fn a_storage_that_panics_when_it_is_to_keep_nothing_harms_nobody() {
    for method in ["durability", "tell_what_is_written", "flush"] {
        let broker = started(Broker::builder().storage(Panicking(method))).await;
        let promised = match method {
            "durability" => Durability::Memory,
            _ => Durability::Fsync,
        };
        assert_eq!(broker.broker.durability(), promised);
        // Whoever comes there goes on when something is written.
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = ListenerSettings {
            durability: Durability::Os,
            ..ListenerSettings::default()
        };
        broker.listen(socket, settings);
        is_served(&broker, "a").await;
        assert!(broker.broker.stop(PATIENCE).await);
        has_panicked(&broker, Hook::Storage).await;
    }
}

#[tokio::test]
async fn a_broker_does_not_start_without_the_sessions_that_it_should_have() {
    for method in ["load", "load_state"] {
        let started = Broker::builder().storage(Panicking(method)).start().await;
        assert!(matches!(started, Err(StartError::Storage(_))), "{method}");
    }
}

#[tokio::test]
async fn a_task_that_panics_is_called_again_when_its_time_comes() {
    let broker = started(Broker::builder()).await;
    let panics = broker.broker.hook_panics();
    let soon = Duration::from_millis(1);
    broker
        .broker
        .schedule_once(soon, || panic!("a test's task"));
    until(|| panics.of(Hook::Schedule) == 1).await;
    broker.broker.schedule(soon, || panic!("a test's task"));
    until(|| panics.of(Hook::Schedule) > 2).await;
    is_served(&broker, "a").await;
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_which_hook_has_panicked() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The broker has threads of its own. No other test of this program looks at the log.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let broker = started(Broker::builder().on_session(Panicking("subscribed"))).await;
    is_served(&broker, "a").await;
    has_panicked(&broker, Hook::Session).await;
    let written = || String::from_utf8_lossy(&log.0.lock()).into_owned();
    until(|| written().contains("a hook panicked hook=\"session\"")).await;
}
