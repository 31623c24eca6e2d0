//! `$SYS/broker/#`.

use std::collections::BTreeMap;
use std::time::Duration;

use weir::broker::BrokerSettings;
use weir_mqtt::ReasonCode;

use crate::client::{ALL, TestBroker, V5, publish};

async fn broker() -> TestBroker {
    let settings = BrokerSettings {
        sys_interval: Some(Duration::from_millis(50)),
        max_retained: 0,
        ..BrokerSettings::default()
    };
    TestBroker::with(settings).await
}

#[tokio::test]
async fn a_new_subscriber_gets_every_value_and_then_what_changes() {
    let broker = broker().await;
    for version in ALL {
        let mut client = broker.connect(version, "a").await;
        client.subscribe("$SYS/#", 0).await;
        let mut values = BTreeMap::new();
        // Until all have come that are looked at here; a value that changes meanwhile comes again without the flag.
        while !(values.contains_key("$SYS/broker/version")
            && values.get("$SYS/broker/clients/connected") == Some(&"1".to_owned())
            && values.get("$SYS/broker/subscriptions/count") == Some(&"1".to_owned())
            && values.contains_key("$SYS/broker/load/messages/received/1min")
            && values.contains_key("$SYS/broker/retained messages/count")
            && values.contains_key("$SYS/broker/uptime"))
        {
            let message = client.receive_publish().await;
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            values.insert(message.topic.to_string(), text);
        }
        assert!(values["$SYS/broker/version"].starts_with("weir version "));
        assert!(values["$SYS/broker/uptime"].ends_with(" seconds"));
        assert_eq!(values["$SYS/broker/retained messages/count"], "0");
        client.vanish();
    }
}

#[tokio::test]
async fn publishes_are_counted_with_the_bytes_of_their_payloads() {
    let broker = broker().await;
    let mut subscriber = broker.connect(V5, "subscriber").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.connect(V5, "publisher").await;
    publisher.publish(publish("t", "seven b", 1, 1)).await;
    publisher.publish(publish("nobody", "three", 1, 2)).await;
    subscriber.receive_publish().await;
    let mut watcher = broker.connect(V5, "watcher").await;
    watcher.subscribe("$SYS/broker/publish/#", 0).await;
    let mut values = BTreeMap::new();
    loop {
        let message = watcher.receive_publish().await;
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        values.insert(message.topic.to_string(), text);
        let of = |topic: &str| {
            let value = values.get(&format!("$SYS/broker/publish/{topic}"));
            value.map_or(0, |text| text.parse::<u64>().unwrap())
        };
        // What is sent grows with what is said here itself.
        if of("messages/received") == 2
            && of("bytes/received") == 12
            && of("messages/sent") >= 1
            && of("bytes/sent") >= 7
        {
            break;
        }
    }
}

#[tokio::test]
async fn wildcards_at_the_front_do_not_reach_it() {
    // [MQTT-4.7.2-1]
    let broker = broker().await;
    let mut client = broker.connect(V5, "a").await;
    client.subscribe("#", 0).await;
    client.subscribe("+/broker/#", 0).await;
    let mut other = broker.connect(V5, "other").await;
    other.subscribe("$SYS/broker/uptime", 0).await;
    other.receive_publish().await;
    client.expect_nothing().await;
}

#[tokio::test]
async fn only_the_broker_publishes_there() {
    let broker = broker().await;
    let mut client = broker.connect(V5, "a").await;
    let reason = client
        .publish(publish("$SYS/broker/uptime", "x", 1, 1))
        .await;
    assert_eq!(reason, ReasonCode::NotAuthorized);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "a").await;
    client.subscribe("$SYS/#", 0).await;
    client.expect_nothing().await;
}
