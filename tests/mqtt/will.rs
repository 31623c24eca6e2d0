//! Wills.

use bytes::Bytes;
use weir_mqtt::{
    Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, SubscribeOptions, TopicName, Utf8,
    Will,
};

use crate::client::{ALL, Client, TestBroker, V5, qos};

fn with_will(version: ProtocolVersion, delay_s: Option<u32>) -> Connect {
    let mut connect = Connect::new(version, Utf8::from("mortal"));
    let mut will = Will {
        topic: TopicName::new("last/words").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: qos(1),
        retain: false,
        properties: weir_mqtt::properties::WillProperties::default(),
    };
    will.properties.will_delay_interval_s = delay_s;
    connect.will = Some(will);
    connect
}

async fn watcher(broker: &TestBroker, version: ProtocolVersion) -> Client {
    let mut watcher = broker.connect(version, "watcher").await;
    watcher.subscribe("last/words", 0).await;
    watcher
}

#[tokio::test]
async fn a_broken_connection_publishes_the_will_and_an_orderly_one_does_not() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        mortal.disconnect().await;
        watcher.expect_nothing().await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        mortal.vanish();
        let message = watcher.receive_publish().await;
        assert_eq!(
            (&*message.topic, &message.payload[..]),
            ("last/words", &b"gone"[..])
        );
        watcher.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_protocol_error_and_a_takeover_publish_the_will() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut watcher = watcher(&broker, version).await;
        let (mut mortal, _) = broker.connect_with(with_will(version, None)).await;
        mortal.send_bytes(b"\x00\x00").await;
        watcher.receive_publish().await;
        let (mortal, _) = broker.connect_with(with_will(version, None)).await;
        let (successor, _) = broker.connect_with(with_will(version, None)).await;
        watcher.receive_publish().await;
        mortal.expect_disconnect(ReasonCode::SessionTakenOver).await;
        successor.disconnect().await;
        watcher.expect_nothing().await;
    }
}

#[tokio::test]
async fn disconnect_can_ask_for_the_will() {
    // [MQTT-3.14.4-3] in its other direction: reason 0x04.
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let (mut mortal, _) = broker.connect_with(with_will(V5, None)).await;
    mortal
        .send(Packet::Disconnect(Disconnect::new(
            ReasonCode::DisconnectWithWill,
        )))
        .await;
    watcher.receive_publish().await;
}

#[tokio::test]
async fn a_delayed_will_waits_and_is_forgotten_when_the_client_comes_back() {
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let mut delayed = with_will(V5, Some(1));
    delayed.clean_start = false;
    delayed.properties.session_expiry_interval_s = Some(100);
    let (mortal, _) = broker.connect_with(delayed.clone()).await;
    mortal.vanish();
    let (mut mortal, _) = broker.connect_with(delayed.clone()).await;
    mortal.expect_nothing().await;
    tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
    watcher.expect_nothing().await;
    let since = std::time::Instant::now();
    mortal.vanish();
    watcher.receive_publish().await;
    assert!(since.elapsed().as_millis() >= 900, "{:?}", since.elapsed());
    // The end of the session does not wait for the delay. [MQTT-3.1.3-9]
    delayed.properties.session_expiry_interval_s = Some(0);
    delayed
        .will
        .as_mut()
        .unwrap()
        .properties
        .will_delay_interval_s = Some(1000);
    let (mortal, _) = broker.connect_with(delayed).await;
    mortal.vanish();
    watcher.receive_publish().await;
}

#[tokio::test]
async fn a_delayed_will_does_not_come_back_to_its_client_over_no_local() {
    let broker = TestBroker::start().await;
    let mut watcher = watcher(&broker, V5).await;
    let mut delayed = with_will(V5, Some(1));
    delayed.clean_start = false;
    delayed.properties.session_expiry_interval_s = Some(100);
    let (mut mortal, _) = broker.connect_with(delayed.clone()).await;
    let options = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::with_qos(qos(1))
    };
    mortal.subscribe_with("last/words", options).await;
    mortal.vanish();
    watcher.receive_publish().await;
    let (mut mortal, connack) = broker.connect_with(delayed).await;
    assert!(connack.session_present);
    mortal.expect_nothing().await;
}
