//! Retained messages.

use weir_mqtt::{Publish, RetainHandling, SubscribeOptions};

use crate::client::{ALL, TestBroker, V5, publish};

fn retained(topic: &str, payload: &str, level: u8) -> Publish {
    let mut message = publish(topic, payload, level, 3);
    message.retain = true;
    message
}

/// [MQTT-3.3.1-5] [MQTT3-3.3.1-5] [MQTT3-3.3.1-6] [MQTT3-3.3.1-7] [MQTT3-3.3.1-8]
#[tokio::test]
async fn the_last_retained_message_is_given_to_new_subscriptions() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut publisher = broker.connect(version, "pub").await;
        // Also of QoS 0.
        publisher.publish(retained("r/a", "old", 0)).await;
        publisher.publish(retained("r/a", "new", 1)).await;
        publisher.publish(retained("r/b", "other", 2)).await;
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("r/#", 1).await;
        for (topic, payload) in [("r/a", "new"), ("r/b", "other")] {
            let message = subscriber.receive_publish().await;
            assert_eq!(
                (&*message.topic, &message.payload[..]),
                (topic, payload.as_bytes())
            );
            assert!(message.retain);
            subscriber.acknowledge(&message).await;
        }
        subscriber.expect_nothing().await;
        // [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT3-3.3.1-10] [MQTT3-3.3.1-11] An empty payload deletes; those who are subscribed get it like any message.
        publisher.publish(retained("r/a", "", 0)).await;
        let message = subscriber.receive_publish().await;
        assert!(message.payload.is_empty() && !message.retain);
        let mut late = broker.connect(version, "late").await;
        late.subscribe("r/a", 0).await;
        late.expect_nothing().await;
        publisher.publish(retained("r/b", "", 0)).await;
    }
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[tokio::test]
async fn retain_handling_says_when_retained_messages_come() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(retained("t", "x", 0)).await;
    let with = |retain_handling| SubscribeOptions {
        retain_handling,
        ..SubscribeOptions::default()
    };
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber
        .subscribe_with("t", with(RetainHandling::Never))
        .await;
    subscriber.expect_nothing().await;
    subscriber
        .subscribe_with("t", with(RetainHandling::OnNewSubscription))
        .await;
    subscriber.expect_nothing().await;
    subscriber.unsubscribe("t").await;
    subscriber
        .subscribe_with("t", with(RetainHandling::OnNewSubscription))
        .await;
    assert!(subscriber.receive_publish().await.retain);
    subscriber
        .subscribe_with("t", with(RetainHandling::OnSubscribe))
        .await;
    assert!(subscriber.receive_publish().await.retain);
    subscriber.expect_nothing().await;
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-13]
#[tokio::test]
async fn retain_as_published_keeps_the_flag_on_live_messages() {
    let broker = TestBroker::start().await;
    let mut publisher = broker.connect(V5, "pub").await;
    for keep in [false, true] {
        let mut subscriber = broker.connect(V5, "sub").await;
        let options = SubscribeOptions {
            retain_as_published: keep,
            ..SubscribeOptions::default()
        };
        subscriber.subscribe_with("rap", options).await;
        publisher.publish(retained("rap", "x", 0)).await;
        assert_eq!(subscriber.receive_publish().await.retain, keep);
        publisher.publish(retained("rap", "", 0)).await;
    }
}

#[tokio::test]
async fn a_message_without_the_flag_leaves_the_retained_one_alone() {
    // [MQTT-3.3.1-8] [MQTT3-3.3.1-12]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(retained("t", "kept", 1)).await;
        publisher.publish(publish("t", "live", 1, 4)).await;
        publisher.publish(publish("t", "", 2, 5)).await;
        publisher.publish(publish("other", "live", 1, 6)).await;
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("#", 0).await;
        let message = subscriber.receive_publish().await;
        assert_eq!((&*message.topic, &message.payload[..]), ("t", &b"kept"[..]));
        subscriber.expect_nothing().await;
    }
}

#[tokio::test]
async fn the_flag_is_for_new_subscriptions_and_off_for_those_that_there_are() {
    // [MQTT-3.3.1-12] [MQTT3-3.3.1-8] [MQTT3-3.3.1-9]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut publisher = broker.connect(version, "pub").await;
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("t", 1).await;
        for level in 0..=2 {
            publisher.publish(retained("t", "x", level)).await;
            let message = subscriber.receive_publish().await;
            assert!(!message.retain);
            subscriber.acknowledge(&message).await;
            // [MQTT3-3.3.1-5] Kept with its QoS, of which the subscription may take less.
            let mut late = broker.connect(version, "late").await;
            late.subscribe("t", 2).await;
            let message = late.receive_publish().await;
            assert!(message.retain);
            assert_eq!(message.qos.as_u8(), level);
            late.acknowledge(&message).await;
        }
        publisher.publish(retained("t", "", 0)).await;
    }
}

#[tokio::test]
async fn retained_messages_outlive_the_session_that_published_them() {
    // [MQTT3-3.1.2-7]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(retained("t", "kept", 1)).await;
        publisher.disconnect().await;
        // Again with a clean session, which forgets everything of the one before.
        broker.connect(version, "pub").await.vanish();
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("t", 0).await;
        assert_eq!(&subscriber.receive_publish().await.payload[..], b"kept");
    }
}

#[tokio::test]
async fn more_retained_messages_than_fit_anywhere_at_once_all_arrive() {
    let settings = weir::broker::BrokerSettings {
        max_inflight: 3,
        max_queued: 10,
        max_outbox_bytes: 2000,
        ..weir::broker::BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 0..300u16 {
        publisher
            .publish(retained(
                &format!("many/{number:03}"),
                &"p".repeat(100),
                u8::from(number % 2 == 1),
            ))
            .await;
    }
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("many/#", 1).await;
    for number in 0..300 {
        let message = subscriber.receive_publish().await;
        assert_eq!(&*message.topic, format!("many/{number:03}"));
        subscriber.acknowledge(&message).await;
    }
    subscriber.expect_nothing().await;
}

#[tokio::test]
async fn thousands_of_retained_messages_come_once_each_through_a_small_window() {
    for version in ALL {
        let broker = TestBroker::start().await;
        let mut publisher = broker.connect(version, "pub").await;
        for number in 0..2000 {
            let topic = format!("many/{number:04}");
            publisher.publish(retained(&topic, "kept", 1)).await;
        }
        let mut late = broker.connect(version, "late").await;
        late.subscribe("many/+", 1).await;
        // Set while the others are on their way: it comes as it is published and not again.
        publisher.publish(retained("many/1999", "new", 0)).await;
        let (mut kept, mut new) = (Vec::new(), 0);
        while kept.len() < 1999 || new == 0 {
            let message = late.receive_publish().await;
            late.acknowledge(&message).await;
            if message.payload == "new" {
                new += 1;
            } else {
                assert!(message.retain && message.qos.as_u8() == 1);
                kept.push(message.topic.to_string());
            }
        }
        late.expect_nothing().await;
        assert_eq!(new, 1);
        let numbers: Vec<_> = (0..1999)
            .map(|number| format!("many/{number:04}"))
            .collect();
        assert_eq!(kept, numbers);
    }
}
