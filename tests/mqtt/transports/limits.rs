//! How many connections, and how long they may take.

use std::time::Duration;

use weir::broker::{BrokerSettings, ListenerSettings};
use weir::stats::CloseReason;
use weir_mqtt::ReasonCode;

use super::Scene;
use crate::client::{ALL, V5};

fn listener(max_connections: usize) -> ListenerSettings {
    ListenerSettings {
        allow_anonymous: true,
        max_connections,
        ..ListenerSettings::default()
    }
}

#[tokio::test]
async fn a_full_listener_turns_away_and_takes_the_next_when_one_has_left() {
    let scene = Scene::start(listener(2)).await;
    let mut first = scene.broker.open(V5).await;
    let mut second = scene.broker.open(V5).await;
    first.hello("first").await;
    second.hello("second").await;
    let mut third = scene.broker.open(V5).await;
    assert!(third.receive_or_end().await.is_none());
    assert_eq!(scene.stats().over_limit.get(), 1);
    assert_eq!(scene.stats().open.get(), 2);
    first.disconnect().await;
    while scene.stats().open.get() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut fourth = scene.broker.open(V5).await;
    assert_eq!(fourth.hello("fourth").await.reason, ReasonCode::Success);
}

#[tokio::test]
async fn a_packet_that_comes_byte_by_byte_is_not_waited_for() {
    let settings = BrokerSettings {
        packet_timeout: Some(Duration::from_millis(400)),
        ..BrokerSettings::default()
    };
    let scene = Scene::with(settings, listener(10)).await;
    for version in ALL {
        let mut slow = scene.broker.open(version).await;
        slow.hello("slow").await;
        // A whole packet in pieces is no offence.
        slow.send_bytes(&[0xC0]).await;
        slow.send_bytes(&[0]).await;
        assert_eq!(slow.receive().await, weir_mqtt::Packet::PingResp);
        // A publish of 1000 bytes, of which one comes every now and then: each is a sign of life for the keep-alive.
        slow.send_bytes(&[0x30, 0xE8, 0x07]).await;
        let closed =
            scene.broker.broker.stats().disconnects[CloseReason::PacketTimeout as usize].get();
        for _ in 0..200 {
            if !slow.try_send_bytes(&[0]).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = &scene.broker.broker.stats().disconnects[CloseReason::PacketTimeout as usize];
            if now.get() > closed {
                break;
            }
        }
        slow.expect_disconnect(ReasonCode::AdministrativeAction)
            .await;
    }
}

#[tokio::test]
async fn a_large_packet_over_a_slow_line_is_waited_for() {
    let settings = BrokerSettings {
        packet_timeout: Some(Duration::from_millis(200)),
        ..BrokerSettings::default()
    };
    let scene = Scene::with(settings, listener(10)).await;
    let mut slow = scene.broker.open(V5).await;
    slow.hello("slow").await;
    let mut bytes = Vec::new();
    let topic = weir_mqtt::Utf8::from("t");
    let publish = weir_mqtt::Publish::new(topic, vec![7; 900_000].into());
    weir_mqtt::codec::encode(&weir_mqtt::Packet::Publish(publish), V5, &mut bytes).unwrap();
    // Twice the deadline in all, but enough comes within each.
    for piece in bytes.chunks(100_000) {
        slow.send_bytes(piece).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    slow.expect_nothing().await;
}
