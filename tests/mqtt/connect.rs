//! CONNECT and CONNACK.

use std::time::Duration;

use weir::broker::BrokerSettings;
use weir_mqtt::{Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, Utf8};

use crate::client::{ALL, Client, TestBroker, V3_1, V3_1_1, V5, persistent, until};

fn connect(version: ProtocolVersion, client_id: &'static str) -> Connect {
    Connect::new(version, Utf8::from(client_id))
}

/// [MQTT-3.1.4-5] [MQTT-4.2-1] [MQTT3-3.1.4-4] [MQTT3-7.1.1-1]
#[tokio::test]
async fn all_three_versions_connect_on_one_port() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut client, connack) = broker.connect_with(connect(version, "a")).await;
        assert_eq!(
            (connack.reason, connack.session_present),
            (ReasonCode::Success, false)
        );
        client.expect_nothing().await;
        client.disconnect().await;
    }
    assert_eq!(broker.broker.stats().connections_accepted.get(), 3);
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [MQTT3-3.1.3-6]
#[tokio::test]
async fn a_client_without_identifier_is_given_one() {
    let broker = TestBroker::start().await;
    let (_one, connack) = broker.connect_with(connect(V5, "")).await;
    let assigned = connack.properties.assigned_client_identifier.unwrap();
    assert!(assigned.starts_with("WEIR-"));
    let (_two, connack) = broker.connect_with(connect(V5, "")).await;
    assert_ne!(
        connack.properties.assigned_client_identifier.unwrap(),
        assigned
    );
    let (_three, connack) = broker.connect_with(connect(V3_1_1, "")).await;
    assert_eq!(connack.reason, ReasonCode::Success);
}

/// [MQTT-3.1.2-2] [MQTT-3.2.2-7] [MQTT3-3.1.2-2] [MQTT3-3.2.2-5]
#[tokio::test]
async fn an_unknown_protocol_level_is_refused_in_words_the_client_can_read() {
    let broker = TestBroker::start().await;
    let mut newer = broker.open(V5).await;
    newer
        .send_bytes(b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00")
        .await;
    let Packet::ConnAck(connack) = newer.receive().await else {
        panic!("expected CONNACK")
    };
    assert_eq!(connack.reason, ReasonCode::UnsupportedProtocolVersion);
    assert_eq!(newer.receive_or_end().await, None);
    let mut older = broker.open(V3_1_1).await;
    older
        .send_bytes(b"\x10\x0c\x00\x04MQTT\x02\x02\x00\x00\x00\x00")
        .await;
    let Packet::ConnAck(connack) = older.receive().await else {
        panic!("expected CONNACK")
    };
    assert_eq!(connack.reason, ReasonCode::UnsupportedProtocolVersion);
    assert_eq!(older.receive_or_end().await, None);
}

#[tokio::test]
async fn the_first_packet_must_be_connect_and_the_only_one() {
    let broker = TestBroker::start().await;
    let mut client = broker.open(V5).await;
    // [MQTT-3.1.0-1] [MQTT3-3.1.0-1]
    client.send(Packet::PingReq).await;
    assert_eq!(client.receive_or_end().await, None);
    // [MQTT-3.1.0-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT3-3.1.0-2] [MQTT3-4.8.0-1]
    for version in ALL {
        let mut client = broker.connect(version, "twice").await;
        client
            .send(Packet::Connect(Box::new(connect(version, "twice"))))
            .await;
        client.expect_disconnect(ReasonCode::ProtocolError).await;
    }
}

#[tokio::test]
async fn a_connection_without_connect_is_closed_at_the_deadline() {
    let settings = BrokerSettings {
        connect_timeout: Duration::from_millis(50),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut client = broker.open(V3_1).await;
    assert_eq!(client.receive_or_end().await, None);
}

/// [MQTT-3.1.4-3] [MQTT-3.1.3-2] [MQTT3-3.1.4-2] [MQTT3-3.1.3-2]
/// [LESSON-M3]
#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut first, _) = broker.connect_with(persistent(version, "same")).await;
        first.subscribe("t", 1).await;
        let (mut second, connack) = broker.connect_with(persistent(version, "same")).await;
        first.expect_disconnect(ReasonCode::SessionTakenOver).await;
        assert_eq!(
            connack.session_present,
            version > V3_1,
            "3.1 has no such flag"
        );
        // The session is whole: its subscription still works.
        let mut other = broker.connect(version, "other").await;
        other.publish(crate::client::publish("t", "x", 1, 1)).await;
        let message = second.receive_publish().await;
        assert_eq!(&message.payload[..], b"x");
        second.acknowledge(&message).await;
        second.disconnect().await;
        let (client, _) = broker.connect_with(connect(version, "same")).await;
        client.disconnect().await;
    }
}

/// [LESSON-M4]
#[tokio::test]
async fn many_connections_of_one_name_leave_exactly_one() {
    let broker = TestBroker::start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(broker.connect(V3_1_1, "same").await);
    }
    let mut last = clients.pop().unwrap();
    for mut client in clients {
        assert_eq!(client.receive_or_end().await, None);
    }
    last.expect_nothing().await;
    assert_eq!(broker.broker.stats().sessions.get(), 1);
    assert_eq!(broker.broker.stats().sessions_connected.get(), 1);
}

#[tokio::test]
async fn limits_are_told_to_mqtt5_clients() {
    let settings = BrokerSettings {
        max_packet_size: 5000,
        max_inflight: 7,
        topic_alias_maximum: 3,
        keepalive_max_s: Some(30),
        session_expiry_max: Duration::from_secs(60),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let (_client, connack) = broker.connect_with(persistent(V5, "a")).await;
    let properties = connack.properties;
    assert_eq!(properties.maximum_packet_size.unwrap().get(), 5000);
    assert_eq!(properties.receive_maximum.unwrap().get(), 7);
    assert_eq!(properties.topic_alias_maximum, Some(3));
    assert_eq!(properties.server_keep_alive_s, Some(30));
    assert_eq!(properties.session_expiry_interval_s, Some(60));
}

/// [MQTT-3.1.4-2] [MQTT-3.2.2-7] [MQTT3-3.2.2-5]
#[tokio::test]
async fn a_client_without_credentials_needs_a_listener_that_admits_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut broker = TestBroker::start().await;
    broker.address = listener.local_addr().unwrap();
    let strict = weir::broker::ListenerSettings {
        name: "strict".into(),
        max_connections: 10,
        allow_anonymous: false,
        ..weir::broker::ListenerSettings::default()
    };
    let serving = broker.broker.clone();
    tokio::spawn(async move {
        serving
            .serve(listener, strict, std::future::pending())
            .await
    });
    for version in ALL {
        let (mut client, connack) = broker.connect_with(connect(version, "a")).await;
        assert_eq!(connack.reason, ReasonCode::NotAuthorized);
        assert_eq!(client.receive_or_end().await, None);
    }
    assert_eq!(
        broker
            .broker
            .stats()
            .auth_failures
            .of(ReasonCode::NotAuthorized.as_u8())
            .get(),
        3
    );
}

#[tokio::test]
async fn shutdown_says_so_and_closes_everything() {
    let broker = TestBroker::start().await;
    let (old, new) = (
        broker.connect(V3_1_1, "old").await,
        broker.connect(V5, "new").await,
    );
    broker.broker.stop(Duration::from_secs(10)).await;
    // Whoever ends the process next cuts nobody off who has not read this.
    assert_eq!(broker.broker.stats().connections_size.get(), 0);
    // [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    new.expect_disconnect(ReasonCode::ServerShuttingDown).await;
    old.expect_disconnect(ReasonCode::ServerShuttingDown).await;
    assert_eq!(broker.broker.stats().sessions_connected.get(), 0);
}

#[tokio::test]
async fn a_session_cannot_be_prolonged_by_disconnect_if_it_was_to_end() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "a").await;
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.properties = Some(Box::default());
    disconnect
        .properties
        .as_mut()
        .unwrap()
        .session_expiry_interval_s = Some(10);
    client.send(Packet::Disconnect(disconnect)).await;
    client.expect_disconnect(ReasonCode::ProtocolError).await;
}

/// CONNECT of more than 60,000 bytes.
fn large_connect(client_id: &'static str) -> Vec<u8> {
    let mut connect = connect(V5, client_id);
    let pair = (Utf8::from("k"), Utf8::try_from("v".repeat(60_000)).unwrap());
    connect.properties.user_properties = vec![pair];
    let mut bytes = Vec::new();
    connect.encode(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn strangers_who_begin_large_connects_wait_for_each_other_and_others_for_nobody() {
    const OF_ONE_ADDRESS: u64 = 8;
    let settings = BrokerSettings {
        connect_timeout: Duration::from_secs(600),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let bytes = large_connect("half");
    let mut halves = Vec::new();
    for _ in 0..OF_ONE_ADDRESS {
        let mut client = broker.open(V5).await;
        client.send_bytes(&bytes[..30_000]).await;
        halves.push(client);
    }
    let read = || broker.broker.stats().received_bytes.get();
    until(|| read() == OF_ONE_ADDRESS * 30_000).await;
    let mut late = broker.open(V5).await;
    late.send_bytes(&large_connect("late")).await;
    // It is read as far as a small one goes.
    until(|| read() > OF_ONE_ADDRESS * 30_000 + 16 * 1024).await;
    broker.connect(V5, "small").await.disconnect().await;
    assert!(
        read() < OF_ONE_ADDRESS * 30_000 + 20 * 1024,
        "the rest is left alone"
    );
    halves.pop().unwrap().vanish();
    assert!(matches!(late.receive().await, Packet::ConnAck(_)));
    // Who comes to its end is welcome.
    let mut half = halves.pop().unwrap();
    half.send_bytes(&bytes[30_000..]).await;
    assert!(matches!(half.receive().await, Packet::ConnAck(_)));
}

#[tokio::test]
async fn strangers_who_do_not_go_on_with_large_connects_give_way_to_one_who_does() {
    const ADDRESSES: u8 = 8;
    const OF_ONE_ADDRESS: usize = 8;
    let settings = BrokerSettings {
        connect_timeout: Duration::from_secs(600),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let bytes = large_connect("large");
    let mut halves = Vec::new();
    for address in 1..=ADDRESSES {
        for _ in 0..OF_ONE_ADDRESS {
            let mut client = open_from([127, 0, 1, address], &broker).await;
            client.send_bytes(&bytes[..30_000]).await;
            halves.push(client);
        }
    }
    let read = || broker.broker.stats().received_bytes.get();
    until(|| read() == halves.len() as u64 * 30_000).await;
    let mut good = broker.open(V5).await;
    good.send_bytes(&bytes).await;
    assert!(matches!(good.receive().await, Packet::ConnAck(_)));
    // One gives way to one, is told so, and is counted.
    let told = halves.iter_mut().map(|half| Box::pin(half.receive()));
    let (told, ..) = futures_util::future::select_all(told).await;
    let Packet::ConnAck(connack) = told else {
        panic!("{told:?}")
    };
    assert_eq!(connack.reason, ReasonCode::ServerBusy);
    let refused = &broker.broker.stats().connects_refused;
    assert_eq!(refused.of(ReasonCode::ServerBusy.as_u8()).get(), 1);
}

/// A connection that comes from an address.
async fn open_from(address: [u8; 4], broker: &TestBroker) -> Client {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    let stream = socket.connect(broker.address).await.unwrap();
    Client::over(stream, V5)
}
