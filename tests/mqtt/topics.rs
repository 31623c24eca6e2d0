//! Chapter 4.7: which filters match which topics, over the wire.

use weir_mqtt::Packet;

use crate::client::{ALL, TestBroker, publish};

#[tokio::test]
async fn a_subscriber_gets_what_its_filter_matches_and_nothing_else() {
    // [MQTT-3.3.2-3] [MQTT3-3.3.2-3]
    let broker = TestBroker::start().await;
    let topics = [
        "a", "/a", "a/", "a/b", "a/b/c", "a//c", "b", "b/b", "/", "$a/b", "$a", "A/b", "é/b",
    ];
    let cases: [(&str, &[&str]); 12] = [
        // [MQTT-4.7.1-1] [MQTT3-4.7.1-2]
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a//c"]),
        // [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
        (
            "#",
            &[
                "a", "/a", "a/", "a/b", "a/b/c", "a//c", "b", "b/b", "/", "A/b", "é/b",
            ],
        ),
        ("+/b", &["a/b", "b/b", "A/b", "é/b"]),
        ("$a/#", &["$a/b", "$a"]),
        ("$a/+", &["$a/b"]),
        // [MQTT-4.7.1-2] [MQTT3-4.7.1-3]
        ("+", &["a", "b"]),
        ("+/+/c", &["a/b/c", "a//c"]),
        ("a/+", &["a/", "a/b"]),
        ("/+", &["/a", "/"]),
        ("+/", &["a/", "/"]),
        // [MQTT-4.7.3-4] [MQTT3-4.7.3-4]
        ("a/b", &["a/b"]),
        ("e\u{301}/b", &[]),
    ];
    for version in ALL {
        let mut publisher = broker.connect(version, "pub").await;
        for (filter, expected) in cases {
            let mut subscriber = broker.connect(version, "sub").await;
            subscriber.subscribe(filter, 0).await;
            for topic in topics {
                publisher
                    .send(Packet::Publish(publish(topic, "x", 0, 0)))
                    .await;
            }
            publisher.expect_nothing().await;
            for topic in expected {
                let message = subscriber.receive_publish().await;
                assert_eq!(&&*message.topic, topic, "{filter}");
            }
            subscriber.expect_nothing().await;
        }
    }
}

#[tokio::test]
async fn topics_of_one_character_and_of_65535_bytes_are_served() {
    // [MQTT-4.7.3-1] [MQTT-4.7.3-3] [MQTT3-4.7.3-1] [MQTT3-4.7.3-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        for topic in ["/".to_owned(), " ".to_owned(), "é".repeat(32_767) + "x"] {
            let mut client = broker.connect(version, "a").await;
            client.subscribe(&topic, 0).await;
            client
                .send(Packet::Publish(publish(&topic, "x", 0, 0)))
                .await;
            assert_eq!(*client.receive_publish().await.topic, topic);
        }
    }
}

#[tokio::test]
async fn a_session_that_goes_on_matches_as_before() {
    // [MQTT-3.3.2-3] [MQTT3-3.3.2-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut client, _) = broker
            .connect_with(crate::client::persistent(version, "sub"))
            .await;
        client.subscribe("a/+", 1).await;
        client.vanish();
        let mut publisher = broker.connect(version, "pub").await;
        for topic in ["a/b", "a", "b/b", "a/c"] {
            publisher.publish(publish(topic, "x", 1, 1)).await;
        }
        let (mut client, _) = broker
            .connect_with(crate::client::persistent(version, "sub"))
            .await;
        for topic in ["a/b", "a/c"] {
            let message = client.receive_publish().await;
            assert_eq!(&*message.topic, topic);
            client.acknowledge(&message).await;
        }
        client.expect_nothing().await;
        client.disconnect().await;
        broker.connect(version, "sub").await.disconnect().await;
    }
}
