//! `$delayed/{seconds}/topic` and `$retain/{seconds}/topic`.

use weir::broker::BrokerSettings;
use weir_mqtt::{Packet, Publish, ReasonCode};

use crate::client::{ALL, TestBroker, V5, persistent, publish};

fn retained(topic: &str, payload: &str, level: u8) -> Publish {
    let mut message = publish(topic, payload, level, 3);
    message.retain = true;
    message
}

fn refused(version: weir_mqtt::ProtocolVersion, reason: ReasonCode) -> ReasonCode {
    if version.is_v5() {
        reason
    } else {
        ReasonCode::Success
    }
}

#[tokio::test]
async fn a_delayed_message_comes_later_with_its_qos_though_its_publisher_is_gone() {
    let broker = TestBroker::start().await;
    for version in ALL {
        for level in [0, 1, 2] {
            let mut subscriber = broker.connect(version, "sub").await;
            subscriber.subscribe("#", 2).await;
            let mut publisher = broker.connect(version, "pub").await;
            publisher
                .publish(publish("$delayed/1/late", "late", level, 1))
                .await;
            publisher.publish(publish("soon", "soon", 0, 0)).await;
            publisher.disconnect().await;
            assert_eq!(broker.broker.stats().delayed_messages.get(), 1);
            assert_eq!(&*subscriber.receive_publish().await.topic, "soon");
            let message = subscriber.receive_publish().await;
            assert_eq!(
                (&*message.topic, &message.payload[..]),
                ("late", &b"late"[..])
            );
            assert_eq!(message.qos.as_u8(), level);
            subscriber.acknowledge(&message).await;
            subscriber.disconnect().await;
        }
    }
    assert_eq!(broker.broker.stats().delayed_messages.get(), 0);
}

#[tokio::test]
async fn delayed_messages_come_in_the_order_of_their_times() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "a").await;
    client.subscribe("t/#", 0).await;
    for (seconds, name) in [(2, "c"), (1, "a"), (0, "now"), (1, "b")] {
        let topic = format!("$delayed/{seconds}/t/{name}");
        client
            .send(Packet::Publish(publish(&topic, "x", 0, 0)))
            .await;
    }
    for name in ["t/now", "t/a", "t/b", "t/c"] {
        assert_eq!(&*client.receive_publish().await.topic, name);
    }
}

#[tokio::test]
async fn no_more_messages_wait_than_the_settings_allow() {
    let settings = BrokerSettings {
        max_delayed: 1,
        ..BrokerSettings::default()
    };
    for version in ALL {
        let broker = TestBroker::with(settings.clone()).await;
        let mut client = broker.connect(version, "a").await;
        let delayed = |level, id| publish("$delayed/1000/t", "x", level, id);
        assert!(!client.publish(delayed(1, 1)).await.is_error());
        for level in [1, 2] {
            let reason = client.publish(delayed(level, 2)).await;
            assert_eq!(reason, refused(version, ReasonCode::QuotaExceeded));
        }
        let dropped = weir::stats::DropReason::DelayedFull;
        assert_eq!(broker.broker.stats().drops(dropped), 2);
    }
}

#[tokio::test]
async fn a_prefix_without_seconds_or_topic_is_refused() {
    for version in ALL {
        let broker = TestBroker::start().await;
        let mut client = broker.connect(version, "a").await;
        client.subscribe("#", 0).await;
        for topic in ["$delayed/x/t", "$delayed/1/", "$retain/t", "$retain/-1/t"] {
            let reason = client.publish(retained(topic, "x", 1)).await;
            let invalid = refused(version, ReasonCode::TopicNameInvalid);
            assert_eq!(reason, invalid, "{topic}");
        }
        // The prefix makes no sense without the flag.
        let reason = client.publish(publish("$retain/5/t", "x", 1, 3)).await;
        assert_eq!(reason, refused(version, ReasonCode::TopicNameInvalid));
        assert_eq!(
            client
                .publish(publish("$delayed/1/$SYS/x", "x", 1, 4))
                .await,
            refused(version, ReasonCode::NotAuthorized),
            "what may not be published now may not be published later"
        );
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_retained_message_with_a_time_expires() {
    for version in ALL {
        let broker = TestBroker::start().await;
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(retained("$retain/1/short", "x", 1)).await;
        publisher.publish(retained("$retain/0/kept", "x", 1)).await;
        publisher
            .publish(retained("$retain/1000/long", "x", 1))
            .await;
        assert_eq!(broker.broker.stats().retained_messages.get(), 3);
        // A message that comes after a second has passed, by the broker's own clock.
        publisher.subscribe("clock", 0).await;
        publisher
            .publish(publish("$delayed/1/clock", "x", 0, 0))
            .await;
        publisher.receive_publish().await;
        let mut subscriber = broker.connect(V5, "sub").await;
        subscriber.subscribe("#", 0).await;
        let (kept, long) = (
            subscriber.receive_publish().await,
            subscriber.receive_publish().await,
        );
        assert_eq!((&*kept.topic, &*long.topic), ("kept", "long"));
        assert!(kept.retain && long.retain);
        let left = long.properties.unwrap().message_expiry_interval_s.unwrap();
        assert!((1..1000).contains(&left), "{left}");
        subscriber.expect_nothing().await;
    }
}

fn expiry_s(message: &Publish) -> Option<u32> {
    let properties = message.properties.as_deref()?;
    properties.message_expiry_interval_s
}

/// [MQTT-3.3.2-6] The time is that of the retained copy: the others have the interval that their publisher gave, if any.
#[tokio::test]
async fn how_long_a_message_is_retained_is_nothing_to_those_who_get_it_at_once() {
    for prefix in ["$retain/1000", "$delayed/0/$retain/1000"] {
        for (own, retained_at_most) in [(None, 1000), (Some(50), 50), (Some(5000), 1000)] {
            let broker = TestBroker::start().await;
            let mut subscriber = broker.connect(V5, "sub").await;
            subscriber.subscribe("t", 0).await;
            let mut publisher = broker.connect(V5, "pub").await;
            let mut message = retained(&format!("{prefix}/t"), "x", 1);
            if own.is_some() {
                let properties = message.properties.get_or_insert_default();
                properties.message_expiry_interval_s = own;
            }
            assert!(!publisher.publish(message).await.is_error());
            let live = subscriber.receive_publish().await;
            assert_eq!((&*live.topic, live.retain), ("t", false));
            assert_eq!(expiry_s(&live), own, "{prefix}");
            let mut later = broker.connect(V5, "later").await;
            later.subscribe("#", 0).await;
            let kept = later.receive_publish().await;
            let left = expiry_s(&kept).unwrap();
            assert!(
                kept.retain && (1..=retained_at_most).contains(&left),
                "{left}"
            );
        }
    }
}

#[tokio::test]
async fn what_waits_for_an_absent_client_does_not_end_with_the_retained_copy() {
    let broker = TestBroker::start().await;
    let (mut away, _) = broker.connect_with(persistent(V5, "away")).await;
    away.subscribe("t", 1).await;
    away.disconnect().await;
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(retained("$retain/1/t", "x", 1)).await;
    publisher.subscribe("clock", 0).await;
    // A message that comes after a second has passed, by the broker's own clock.
    let clock = publish("$delayed/1/clock", "x", 0, 0);
    publisher.send(Packet::Publish(clock)).await;
    publisher.receive_publish().await;
    let (mut away, _) = broker.connect_with(persistent(V5, "away")).await;
    let message = away.receive_publish().await;
    assert_eq!((&*message.topic, expiry_s(&message)), ("t", None));
    let mut later = broker.connect(V5, "later").await;
    later.subscribe("t", 0).await;
    later.expect_nothing().await;
}
