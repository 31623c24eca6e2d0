use bytes::Bytes;
use weir_mqtt::{
    Connect, Disconnect, Packet, PacketId, ProtocolVersion, ReasonCode, Subscribe,
    SubscribeOptions, SubscriptionFilter, SubscriptionRequest, TopicName,
};

use weir_mqtt::properties::DisconnectProperties;

use super::*;
use crate::core::bans::Who;
use crate::driver::admission::Door;
use crate::driver::client::Client;
use crate::driver::slices::{HasTime, Left};
use crate::driver::tests::shared;
use crate::net::transport::Transport;
use crate::settings::BrokerSettings;

/// A client with a session that is kept.
pub(in crate::driver) async fn admitted(
    shared: &Arc<Shared>,
    client_id: &'static str,
    clean_start: bool,
) -> Client {
    admit(shared, client_id, clean_start).await.unwrap()
}

async fn admit(
    shared: &Arc<Shared>,
    client_id: &'static str,
    clean_start: bool,
) -> Result<Client, ReasonCode> {
    admit_when(shared, client_id, clean_start, &mut || true).await
}

/// The same where there is not always time for work that can wait.
pub(in crate::driver) async fn admit_when(
    shared: &Arc<Shared>,
    client_id: &'static str,
    clean_start: bool,
    has_time: HasTime<'_>,
) -> Result<Client, ReasonCode> {
    let mut connect = Connect::new(ProtocolVersion::V5, Utf8::from(client_id));
    connect.clean_start = clean_start;
    connect.properties.session_expiry_interval_s = Some(1000);
    let door = Door {
        peer: None,
        local: None,
        listener: "test".into(),
        transport: Transport::Tcp,
        certificate: None,
        identity: None,
        deadline: tokio::time::Instant::now(),
        allow_anonymous: true,
        durability: crate::store::Durability::Fsync,
        bridge: None,
    };
    let admitted = shared.admit(connect, door, None, has_time).await;
    admitted.map_err(|refusal| refusal.reason)
}

fn subscribe(client: &mut Client, filter: &str, no_local: bool) {
    let options = SubscribeOptions {
        no_local,
        ..SubscribeOptions::with_qos(QoS::AtLeastOnce)
    };
    let filter = SubscriptionFilter::parse(filter).unwrap();
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        requests: vec![SubscriptionRequest { filter, options }],
        properties: None,
    };
    let now = client.shared.clock.now();
    client.handle(now, Packet::Subscribe(subscribe), 0).unwrap();
}

fn message(topic: &str) -> Message {
    let payload = Bytes::from_static(b"x");
    Message::new(
        TopicName::new(topic).unwrap(),
        payload,
        QoS::AtLeastOnce,
        false,
    )
}

fn queued(handle: &Arc<SessionHandle>) -> usize {
    let slot = handle.lock();
    slot.session.queued_len() + slot.session.in_flight_len()
}

fn dropped(shared: &Shared, reason: DropReason) -> u64 {
    shared.stats.drops(reason)
}

/// What a loop that shares its connections goes by.
#[tokio::test]
async fn it_is_known_who_last_got_a_message_and_that_is_never_the_publisher_itself() {
    let shared = shared(BrokerSettings::default());
    let mut publisher = admitted(&shared, "publisher", true).await;
    let mut of_all = admitted(&shared, "of all", true).await;
    let mut reader = admitted(&shared, "reader", true).await;
    subscribe(&mut of_all, "a/#", false);
    subscribe(&mut reader, "a", false);
    subscribe(&mut publisher, "own", false);
    let now = shared.clock.now();
    flush::take_receiver();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        // Each time, also while what was put into its outbox before still waits there.
        let message = Message {
            qos,
            ..message("a")
        };
        publisher.router.publish(now, message);
        publisher.step_done(now);
        assert_eq!(flush::take_receiver(), Some(reader.session()), "{qos:?}");
    }
    publisher.router.publish(now, message("a/b"));
    publisher.step_done(now);
    assert_eq!(flush::take_receiver(), Some(of_all.session()));
    publisher.router.publish(now, message("own"));
    publisher.step_done(now);
    assert_eq!(flush::take_receiver(), None);
}

#[tokio::test]
async fn who_is_banned_while_it_waits_for_its_session_is_not_admitted() {
    let shared = shared(BrokerSettings::default());
    let old = admitted(&shared, "c", false).await;
    let mut new = std::pin::pin!(admit(&shared, "c", false));
    assert!(futures_util::poll!(&mut new).is_pending());
    assert!(
        old.handle.lock().close.is_some(),
        "it waits for the old one"
    );
    let who = Who::Client(Utf8::from("c"));
    shared.ban(who, None, None).map_err(drop).unwrap();
    drop(old);
    assert_eq!(new.await.map(drop), Err(ReasonCode::Banned));
    assert_eq!(shared.stats.sessions_connected.get(), 0);
}

#[tokio::test]
async fn a_clean_start_gets_nothing_over_routes_that_were_looked_up_before() {
    // [MQTT-3.1.2-4]
    let shared = shared(BrokerSettings::default());
    let mut old = admitted(&shared, "sub", false).await;
    subscribe(&mut old, "t", false);
    subscribe(&mut old, "$share/g/t", false);
    let mut router = Router::new(&shared);
    let topic = router.topic(&Utf8::from("t"));
    drop(old);
    let new = admitted(&shared, "sub", true).await;
    assert_eq!(shared.stats.sessions.get(), 1);
    assert_eq!(shared.stats.subscriptions.get(), 0);
    assert!(router.distribute(message("t"), topic));
    assert_eq!(queued(&new.handle), 0);
    assert_eq!(dropped(&shared, DropReason::SessionEnded), 1, "the group's");
    // And what the ended session knew is not known any more.
    let again = router.topic(&Utf8::from("t"));
    assert!(again.routes.is_empty());
}

#[tokio::test]
async fn a_session_that_has_ended_gets_nothing_though_its_filters_are_yet_to_leave_the_index() {
    let shared = shared(BrokerSettings::default());
    let mut old = admitted(&shared, "c", false).await;
    for number in 0..100 {
        subscribe(&mut old, &format!("t/{number}"), false);
    }
    let now = shared.clock.now();
    let properties = DisconnectProperties {
        session_expiry_interval_s: Some(0),
        ..DisconnectProperties::default()
    };
    let disconnect = Disconnect {
        reason: ReasonCode::Success,
        properties: Some(Box::new(properties)),
    };
    let leave = old
        .handle(now, Packet::Disconnect(disconnect), 0)
        .unwrap_err();
    old.leave(now, leave.reason);
    let forgotten = old.take_forgotten().unwrap();
    drop(old);
    let mut router = Router::new(&shared);
    let topic = router.topic(&Utf8::from("t/99"));
    assert!(!topic.routes.is_empty(), "the index has it yet");
    assert!(
        !router.distribute(message("t/99"), topic),
        "but nobody gets it"
    );
    assert_eq!(dropped(&shared, DropReason::SessionEnded), 0);
    let mut new = admitted(&shared, "c", false).await;
    assert!(!router.deliver_to("c", message("t/99")));
    subscribe(&mut new, "t/99", false);
    assert!(router.deliver_to("c", message("t/99")));
    assert_eq!(queued(&new.handle), 1);
    drop(forgotten);
    while shared.sweep_some() == Left::Some {}
    assert!(router.topic(&Utf8::from("t/1")).routes.is_empty());
    assert!(router.deliver_to("c", message("t/99")));
}

#[tokio::test]
async fn a_group_of_absent_members_takes_turns_and_goes_on_when_one_is_full() {
    let shared = shared(BrokerSettings {
        max_queued: 2,
        ..BrokerSettings::default()
    });
    let mut handles = Vec::new();
    for name in ["one", "two"] {
        let mut member = admitted(&shared, name, false).await;
        subscribe(&mut member, "$share/g/t", false);
        subscribe(&mut member, name, false);
        handles.push(Arc::clone(&member.handle));
    }
    let mut router = Router::new(&shared);
    let mut publish = |topic: &str| {
        assert!(matches!(
            router.publish(0, message(topic)),
            Routed::Done(true)
        ));
    };
    publish("t");
    publish("t");
    assert_eq!([queued(&handles[0]), queued(&handles[1])], [1, 1]);
    publish("one");
    publish("t");
    assert_eq!([queued(&handles[0]), queued(&handles[1])], [2, 2]);
    publish("t");
    assert_eq!(
        dropped(&shared, DropReason::QueueFull),
        1,
        "once, not for each member"
    );
}

#[tokio::test]
async fn no_local_is_about_who_made_the_message_not_whose_packet_caused_it() {
    let shared = shared(BrokerSettings::default());
    let mut client = admitted(&shared, "both", false).await;
    subscribe(&mut client, "t", true);
    let topic = client.router.topic(&Utf8::from("t"));
    // Republished by a rule in the name of the broker.
    let origin = crate::core::message::Origin {
        client_id: Utf8::from("$weir"),
        ..Default::default()
    };
    let by_rule = Message {
        origin: Arc::new(origin),
        ..message("t")
    };
    client.router.distribute(by_rule, Arc::clone(&topic));
    assert_eq!(queued(&client.handle), 1);
    let own = Message {
        origin: Arc::clone(&client.info.origin),
        ..message("t")
    };
    Router::new(&shared).distribute(own, topic);
    assert_eq!(queued(&client.handle), 1, "its own, by another way");
}
