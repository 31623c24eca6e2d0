//! Topic aliases from the broker to clients that take them.

use weir::broker::BrokerSettings;
use weir_mqtt::{Connect, ProtocolVersion, Publish, Utf8};

use crate::client::{ALL, Client, TestBroker, V5, publish};

const TOPIC: &str = "site/7/machine/12/temperature";

async fn subscriber(broker: &TestBroker, version: ProtocolVersion, aliases: u16) -> Client {
    let mut connect = Connect::new(version, Utf8::from("sub"));
    if version.is_v5() {
        connect.properties.topic_alias_maximum = Some(aliases);
    }
    let (mut client, _) = broker.connect_with(connect).await;
    client.subscribe("#", 2).await;
    client
}

fn alias(message: &Publish) -> Option<u16> {
    let properties = message.properties.as_deref()?;
    properties.topic_alias.map(|alias| alias.get())
}

#[tokio::test]
async fn a_topic_is_sent_once_and_then_as_its_alias_at_every_qos() {
    let broker = TestBroker::start().await;
    let mut subscriber = subscriber(&broker, V5, 5).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for level in [0, 1, 2] {
        for payload in ["short".to_owned(), "long".repeat(5000)] {
            publisher.publish(publish(TOPIC, &payload, level, 1)).await;
            let message = subscriber.receive_publish().await;
            let first = level == 0 && payload == "short";
            assert_eq!(&*message.topic, if first { TOPIC } else { "" });
            assert_eq!(alias(&message), Some(1));
            assert_eq!(message.payload, payload);
            subscriber.acknowledge(&message).await;
        }
    }
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11] [MQTT-3.3.2-8]
#[tokio::test]
async fn no_more_aliases_than_the_client_takes_and_the_broker_gives() {
    let settings = BrokerSettings {
        topic_alias_out: 2,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for (aliases, given) in [(0, 0), (1, 1), (10, 2)] {
        let mut subscriber = subscriber(&broker, V5, aliases).await;
        let mut publisher = broker.connect(V5, "pub").await;
        for round in 0..2 {
            for number in 1..=3 {
                let topic = format!("some/topic/{number}");
                publisher.publish(publish(&topic, "x", 0, 0)).await;
                let message = subscriber.receive_publish().await;
                let has_alias = alias(&message);
                assert!(has_alias.is_none_or(|alias| alias <= given));
                assert_eq!(message.topic.is_empty(), has_alias.is_some() && round > 0);
            }
        }
        subscriber.disconnect().await;
    }
}

/// [MQTT-3.1.2-27]
#[tokio::test]
async fn clients_that_ask_for_none_get_whole_topics() {
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut subscriber = broker.connect(version, "sub").await;
        subscriber.subscribe("#", 0).await;
        let mut publisher = broker.connect(V5, "pub").await;
        for _ in 0..3 {
            publisher.publish(publish(TOPIC, "x", 0, 0)).await;
            let message = subscriber.receive_publish().await;
            assert_eq!((&*message.topic, alias(&message)), (TOPIC, None));
        }
        subscriber.disconnect().await;
    }
}

#[tokio::test]
async fn a_new_connection_of_a_session_knows_no_alias_of_the_last_one() {
    // [MQTT-3.3.2-7]
    let broker = TestBroker::start().await;
    let mut connect = crate::client::persistent(V5, "sub");
    connect.properties.topic_alias_maximum = Some(5);
    let (mut subscriber, _) = broker.connect_with(connect.clone()).await;
    subscriber.subscribe("#", 1).await;
    let mut publisher = broker.connect(V5, "pub").await;
    for number in 1..=2 {
        publisher.publish(publish(TOPIC, "x", 1, number)).await;
        subscriber.receive_publish().await;
    }
    subscriber.vanish();
    let (mut subscriber, connack) = broker.connect_with(connect).await;
    assert!(connack.session_present);
    let (first, second) = (
        subscriber.receive_publish().await,
        subscriber.receive_publish().await,
    );
    assert!(first.dup && second.dup);
    assert_eq!((&*first.topic, alias(&first)), (TOPIC, Some(1)));
    assert_eq!((&*second.topic, alias(&second)), ("", Some(1)));
}
