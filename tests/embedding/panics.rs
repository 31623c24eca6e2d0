//! A panic in a hook is counted and harms nothing else: who observes is passed over, who decides has refused.

use std::net::IpAddr;
use std::time::Duration;

use weir::auth::{
    Authenticator, Authorizer, BoxFuture, ConnectRequest, Decision, PublishVerdict, Subject,
};
use weir::hooks::{
    AddressAction, AddressSettings, AddressWindow, ClientInfo, ConnectStatusListener,
    ConnectionInfo, Dispatcher, Hook, IdentityRequest, Interceptor, SessionListener, Subscription,
};
use weir::store::{Done, Durability, Persist, Storage, StorageError};
use weir::{Broker, BrokerBuilder, Message, StartError};
use weir_mqtt::{Connect, Packet, QoS, ReasonCode, SubscriptionFilter};

use crate::client::{TestBroker, V5, persistent, publish};
use crate::started;

/// Panics wherever it is asked.
struct Panicking;

impl Authenticator for Panicking {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        if request.client_id == "at once" {
            panic!("a test's authenticator");
        }
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("a test's authenticator, later")
        })
    }
}

impl Authorizer for Panicking {
    fn generation(&self) -> u64 {
        0
    }

    fn publish(&self, _: &Subject, topic: &str, _: QoS, _: bool) -> PublishVerdict {
        assert_eq!(topic, "allowed");
        PublishVerdict::Allow
    }

    fn subscribe(
        &self,
        _: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode> {
        assert_eq!(filter.to_string(), "allowed");
        Ok(qos)
    }
}

impl ConnectStatusListener for Panicking {
    fn online(&self, _: &ClientInfo) {
        panic!("a test's listener");
    }
}

impl SessionListener for Panicking {
    fn subscribed(&self, _: &ClientInfo, _: &Subscription) {
        panic!("a test's listener");
    }
}

impl Dispatcher for Panicking {
    fn send(&self, _: &Message) {
        panic!("a test's dispatcher");
    }

    fn send_to(&self, _: &str, _: &Message) {
        panic!("a test's dispatcher");
    }
}

impl Interceptor for Panicking {
    fn after_decoded(&self, _: &ConnectionInfo, _: &Packet) {
        panic!("a test's interceptor");
    }

    fn after_handled(&self, _: &ConnectionInfo, _: Duration) {
        panic!("a test's interceptor");
    }
}

impl Storage for Panicking {
    fn durability(&self) -> Durability {
        panic!("a test's storage");
    }

    fn commit(&self, _: Vec<Persist>, _: Done) {
        panic!("a test's storage");
    }

    fn load(&self, _: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        Ok(())
    }
}

/// A client does all that clients do, as if there were no hook.
async fn serves_as_ever(builder: BrokerBuilder, hook: Hook) -> TestBroker {
    let broker = started(builder).await;
    let mut client = broker.connect(V5, "a").await;
    assert_eq!(client.subscribe("t", 1).await, [ReasonCode::GrantedQoS1]);
    client.send(Packet::Publish(publish("t", "x", 0, 0))).await;
    assert_eq!(&*client.receive_publish().await.payload, b"x");
    client.expect_nothing().await;
    client.disconnect().await;
    assert!(broker.broker.hook_panics().of(hook) > 0, "it has panicked");
    broker
}

async fn reason(broker: &TestBroker, connect: Connect) -> ReasonCode {
    broker.connect_with(connect).await.1.reason
}

#[tokio::test]
async fn who_observes_and_panics_is_passed_over() {
    let builder = Broker::builder;
    let message = builder().on_message(|_: &Message| panic!("a test's listener"));
    serves_as_ever(message, Hook::Message).await;
    serves_as_ever(builder().on_status(Panicking), Hook::ConnectStatus).await;
    serves_as_ever(builder().on_session(Panicking), Hook::Session).await;
    serves_as_ever(builder().interceptor(0, Panicking), Hook::Interceptor).await;
    let addresses = AddressSettings::new(|_: IpAddr, _: &[AddressWindow]| -> AddressAction {
        panic!("a test's listener")
    });
    serves_as_ever(builder().addresses(addresses), Hook::Address).await;
    let broker = serves_as_ever(builder().dispatcher(Panicking), Hook::Dispatcher).await;
    let message = Message::text("t", "x").unwrap();
    assert!(!broker.broker.publish_to("nobody", message));
}

#[tokio::test]
async fn a_client_whose_name_or_credentials_bring_a_hook_down_is_refused() {
    let unnamed = |request: &IdentityRequest<'_>| -> String {
        assert!(request.username.is_some());
        "named".to_owned()
    };
    let broker = started(Broker::builder().unique_id(unnamed)).await;
    let refused = reason(&broker, Connect::new(V5, "a".into())).await;
    assert_eq!(refused, ReasonCode::ServerUnavailable);
    assert_eq!(broker.broker.hook_panics().of(Hook::UniqueId), 1);
    let mut named = Connect::new(V5, "a".into());
    named.username = Some("u".into());
    assert_eq!(reason(&broker, named).await, ReasonCode::Success);

    let broker = started(Broker::builder().authenticator(Panicking)).await;
    for client_id in ["at once", "later"] {
        let refused = reason(&broker, Connect::new(V5, client_id.into())).await;
        assert_eq!(refused, ReasonCode::ServerUnavailable);
    }
    assert_eq!(broker.broker.hook_panics().of(Hook::Authenticator), 2);
}

#[tokio::test]
async fn what_brings_the_authorizer_down_is_forbidden_and_the_client_goes_on() {
    let broker = started(Broker::builder().authorizer(Panicking)).await;
    let mut client = broker.connect(V5, "a").await;
    assert_eq!(client.subscribe("t", 1).await, [ReasonCode::NotAuthorized]);
    let forbidden = client.publish(publish("t", "x", 1, 1)).await;
    assert_eq!(forbidden, ReasonCode::NotAuthorized);
    assert_eq!(client.subscribe("allowed", 0).await, [ReasonCode::Success]);
    client
        .send(Packet::Publish(publish("allowed", "x", 0, 0)))
        .await;
    assert_eq!(client.receive_publish().await.topic, "allowed");
    assert_eq!(broker.broker.hook_panics().of(Hook::Authorizer), 2);
}

#[tokio::test]
async fn a_storage_that_panics_has_kept_nothing() {
    let broker = started(Broker::builder().storage(Panicking)).await;
    assert_eq!(broker.broker.durability(), Durability::Memory);
    let refused = reason(&broker, persistent(V5, "a")).await;
    assert_eq!(refused, ReasonCode::ServerUnavailable);
    // What needs no storage goes on.
    let mut client = broker.connect(V5, "b").await;
    assert!(!client.publish(publish("t", "x", 1, 1)).await.is_error());
    let mut retained = publish("t", "x", 1, 2);
    retained.retain = true;
    client.send(Packet::Publish(retained)).await;
    client
        .expect_disconnect(ReasonCode::ImplementationSpecificError)
        .await;
}

struct Unreadable;

impl Storage for Unreadable {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn commit(&self, _: Vec<Persist>, done: Done) {
        done.kept();
    }

    fn load(&self, _: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        panic!("a test's storage");
    }
}

#[tokio::test]
async fn a_broker_does_not_start_without_the_sessions_that_it_should_have() {
    let started = Broker::builder().storage(Unreadable).start().await;
    assert!(matches!(started, Err(StartError::Storage(_))));
}
