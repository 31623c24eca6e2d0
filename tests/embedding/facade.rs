//! What a program can ask of a broker, and do with it.

use std::num::NonZeroUsize;
use std::time::Duration;

use weir::config::Config;
use weir::hooks::Hook;
use weir::{Broker, BrokerSettings, Message, StartError};
use weir_mqtt::{Packet, ReasonCode};

use crate::client::{V3_1_1, V5, persistent, publish};
use crate::{PATIENCE, listening, notes, started};

fn message(topic: &str) -> Message {
    Message::text(topic, "x").unwrap()
}

#[tokio::test]
async fn a_message_for_one_client_reaches_it_only_if_it_has_subscribed() {
    let broker = started(Broker::builder()).await;
    let mut one = broker.connect(V5, "one").await;
    let mut other = broker.connect(V5, "other").await;
    for client in [&mut one, &mut other] {
        client.subscribe("news/+", 1).await;
    }
    assert!(broker.broker.publish_to("one", message("news/1")));
    assert_eq!(one.receive_publish().await.topic, "news/1");
    assert!(!broker.broker.publish_to("one", message("else")));
    assert!(!broker.broker.publish_to("nobody", message("news/1")));
    one.expect_nothing().await;
    other.expect_nothing().await;
}

#[tokio::test]
async fn clients_are_listed_in_pages_and_known_by_their_identifiers() {
    let broker = started(Broker::builder()).await;
    let mut clients = Vec::new();
    for name in ["d", "b", "a", "e", "c"] {
        clients.push(broker.connect(V3_1_1, name).await);
    }
    let names = |page| -> Vec<String> {
        let page = broker.broker.clients(page, 2);
        assert_eq!(page.total, 5);
        let clients = page.clients.into_iter();
        clients.map(|client| client.client_id.to_string()).collect()
    };
    assert_eq!([names(0), names(1)], [["a", "b"], ["c", "d"]]);
    assert_eq!(names(2), ["e"]);
    assert!(names(3).is_empty());
    let info = broker.broker.client("c").unwrap();
    assert_eq!(info.version, V3_1_1);
    assert_eq!(info.local, Some(broker.address));
    assert!(info.peer.unwrap().ip().is_loopback());
    assert_eq!(broker.broker.client("x"), None);
}

#[tokio::test]
async fn subscriptions_are_known_while_the_client_is_away_too() {
    let broker = started(Broker::builder()).await;
    let (mut client, _) = broker.connect_with(persistent(V5, "a")).await;
    client.subscribe("t/#", 2).await;
    client.subscribe("$share/g/s", 1).await;
    client.disconnect().await;
    let subscriptions = broker.broker.subscriptions("a").unwrap();
    let shown: Vec<_> = subscriptions
        .iter()
        .map(|one| format!("{} {}", one.filter, one.qos.as_u8()))
        .collect();
    assert_eq!(shown, ["$share/g/s 1", "t/# 2"]);
    assert_eq!(broker.broker.client("a"), None, "it is not connected");
    assert_eq!(broker.broker.subscriptions("b"), None);
}

#[tokio::test]
async fn a_client_is_disconnected_with_a_reason_and_keeps_its_session() {
    let broker = started(Broker::builder()).await;
    let (client, _) = broker.connect_with(persistent(V5, "a")).await;
    let reason = ReasonCode::MaximumConnectTime;
    assert!(broker.broker.disconnect("a", reason));
    client.expect_disconnect(reason).await;
    assert!(!broker.broker.disconnect("b", reason));
    let (client, connack) = broker.connect_with(persistent(V5, "a")).await;
    assert!(connack.session_present);
    // The reason was for the connection before.
    assert!(broker.broker.end_session("a").await);
    client
        .expect_disconnect(ReasonCode::AdministrativeAction)
        .await;
    let (_, connack) = broker.connect_with(persistent(V5, "a")).await;
    assert!(!connack.session_present);
    assert!(!broker.broker.end_session("b").await);
}

#[tokio::test]
async fn what_is_scheduled_runs_until_it_is_cancelled_or_the_broker_stops() {
    let broker = Broker::builder().start().await.unwrap();
    let (notes, mut noted) = notes();
    let every = Duration::from_millis(1);
    let (once, often) = (notes.clone(), notes);
    broker.schedule_once(every, move || once.note("once"));
    assert_eq!(noted.next().await, "once");
    let scheduled = broker.schedule(every, move || {
        often.note("often");
        panic!("a test's task");
    });
    for _ in 0..3 {
        assert_eq!(noted.next().await, "often");
    }
    assert!(broker.hook_panics().of(Hook::Schedule) >= 2);
    scheduled.cancel();
    let (later, mut noted_later) = crate::notes();
    broker.schedule(every, move || later.note("tick"));
    noted_later.next().await;
    broker.stop(PATIENCE).await;
    // The task and what it holds are gone.
    let gone = async { while noted_later.0.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_was_stopped_starts_again_at_its_address() {
    let broker = started(Broker::builder()).await;
    let client = broker.connect(V5, "a").await;
    let waiting = broker.broker.clone();
    let stop = tokio::spawn(async move { waiting.stop(PATIENCE).await });
    client
        .expect_disconnect(ReasonCode::ServerShuttingDown)
        .await;
    assert!(stop.await.unwrap(), "all connections ended");
    let again = listening(broker.broker.start_again().await.unwrap());
    assert_eq!(again.address, broker.address);
    again.connect(V5, "a").await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_and_starts_nothing() {
    let broker = started(Broker::builder()).await;
    let address = broker.address.to_string();
    let second = Broker::builder().listen(address.clone()).start().await;
    match second {
        Err(StartError::Listen { address: told, .. }) => assert_eq!(told, address),
        other => panic!("expected an error, got {other:?}"),
    }
}

#[test]
fn a_program_without_a_runtime_starts_a_broker_on_threads_of_its_own() {
    let running = Broker::builder()
        .listen("127.0.0.1:0")
        .start_on_threads(NonZeroUsize::new(1))
        .unwrap();
    let broker = listening(running.broker().clone());
    let elsewhere = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    elsewhere.block_on(async {
        let mut client = broker.connect(V5, "a").await;
        client.subscribe("t", 0).await;
        running.broker().publish(message("t"));
        assert_eq!(client.receive_publish().await.topic, "t");
    });
    assert!(running.stop(PATIENCE));
}

#[tokio::test]
async fn what_the_program_says_overrides_the_file() {
    let mut config = Config::default();
    config.mqtt.max_client_id = 5;
    config.listeners = Some(Vec::new());
    let file = started(Broker::builder().config(&config)).await;
    let refused = weir_mqtt::Connect::new(V5, "too long".into());
    let (_, connack) = file.connect_with(refused.clone()).await;
    assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
    let code = Broker::builder()
        .config(&config)
        .settings(BrokerSettings::default());
    let code = started(code).await;
    let (mut client, connack) = code.connect_with(refused).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    client.send(Packet::Publish(publish("t", "x", 0, 0))).await;
    client.expect_nothing().await;
}
