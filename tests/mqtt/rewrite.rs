//! Topics that the operator's rules replace, and subscriptions that it gives to every client.

use weir::broker::{AutoSubscribe, BrokerSettings};
use weir::core::topic_rewrite::{RewriteAction, RewriteRule, Rewrites};
use weir_mqtt::{Connect, QoS, ReasonCode, SubscribeOptions, Utf8};

use crate::client::{ALL, TestBroker, V5, persistent, publish};

fn rule(action: RewriteAction, source: &str, regex: &str, destination: &str) -> RewriteRule {
    RewriteRule::new(action, source, regex, destination).unwrap()
}

fn rewriting() -> BrokerSettings {
    BrokerSettings {
        rewrites: Rewrites::new(vec![
            rule(RewriteAction::All, "old/#", "^old/(.+)$", "new/$1"),
            rule(RewriteAction::Publish, "me/up", "^me/up$", "by/%c"),
        ]),
        ..BrokerSettings::default()
    }
}

#[tokio::test]
async fn publishes_and_subscriptions_meet_at_the_new_topic() {
    for version in ALL {
        let broker = TestBroker::with(rewriting()).await;
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("old/+", 1).await;
        subscriber.subscribe("by/#", 1).await;
        let mut publisher = broker.connect(version, "pub").await;
        for (topic, arrives) in [
            ("old/a", "new/a"),
            ("new/b", "new/b"),
            ("me/up", "by/pub"),
            ("$delayed/0/old/c", "new/c"),
        ] {
            publisher.publish(publish(topic, "x", 1, 1)).await;
            let message = subscriber.receive_publish().await;
            assert_eq!(&*message.topic, arrives);
            subscriber.acknowledge(&message).await;
        }
        let gone = subscriber.unsubscribe("old/+").await;
        if version.is_v5() {
            assert_eq!(gone, [ReasonCode::Success]);
        }
        publisher.publish(publish("old/a", "x", 1, 1)).await;
        subscriber.expect_nothing().await;
    }
}

#[tokio::test]
async fn an_alias_stands_for_the_topic_that_the_client_meant() {
    let broker = TestBroker::with(rewriting()).await;
    let mut client = broker.connect(V5, "a").await;
    client.subscribe("new/a", 0).await;
    for topic in ["old/a", ""] {
        let mut message = publish(topic, "x", 0, 0);
        message.properties.get_or_insert_default().topic_alias = weir_mqtt::TopicAlias::new(1);
        client.send(weir_mqtt::Packet::Publish(message)).await;
        assert_eq!(&*client.receive_publish().await.topic, "new/a");
    }
}

#[tokio::test]
async fn every_client_is_subscribed_to_what_the_operator_says() {
    let settings = BrokerSettings {
        auto_subscribe: vec![
            AutoSubscribe {
                topic: "to/%c".to_owned(),
                options: SubscribeOptions::with_qos(QoS::AtLeastOnce),
            },
            AutoSubscribe {
                topic: "of/%u/#".to_owned(),
                options: SubscribeOptions::with_qos(QoS::AtMostOnce),
            },
        ],
        ..BrokerSettings::default()
    };
    for version in ALL {
        let broker = TestBroker::with(settings.clone()).await;
        let mut sender = broker.connect(version, "sender").await;
        let mut kept = publish("to/dev", "kept", 1, 1);
        kept.retain = true;
        sender.publish(kept).await;
        let mut connect = Connect::new(version, Utf8::from("dev"));
        connect.username = Some(Utf8::from("ann"));
        let (mut client, _) = broker.connect_with(connect).await;
        let message = client.receive_publish().await;
        assert_eq!(&message.payload[..], b"kept");
        client.acknowledge(&message).await;
        for (topic, level) in [("to/dev", 1), ("of/ann/x", 0)] {
            sender.publish(publish(topic, "x", 1, 2)).await;
            let message = client.receive_publish().await;
            assert_eq!((&*message.topic, message.qos.as_u8()), (topic, level));
            client.acknowledge(&message).await;
        }
        // `to/sender`, and the two of `dev`; `sender` has no user name.
        assert_eq!(broker.broker.stats().subscriptions.get(), 3);
    }
}

#[tokio::test]
async fn a_session_that_comes_back_is_not_subscribed_twice() {
    let settings = BrokerSettings {
        auto_subscribe: vec![AutoSubscribe {
            topic: "all".to_owned(),
            options: SubscribeOptions::with_qos(QoS::AtLeastOnce),
        }],
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for _ in 0..2 {
        let (mut client, _) = broker.connect_with(persistent(V5, "a")).await;
        let message = publish("all", "x", 0, 0);
        client.send(weir_mqtt::Packet::Publish(message)).await;
        client.receive_publish().await;
        client.expect_nothing().await;
        client.vanish();
    }
    assert_eq!(broker.broker.stats().subscriptions.get(), 1);
}
