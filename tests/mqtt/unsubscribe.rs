//! UNSUBSCRIBE and UNSUBACK.

use weir_mqtt::{
    Packet, ProtocolVersion, PubComp, PubRec, ReasonCode, SubscriptionFilter, Unsubscribe,
};

use crate::client::{ALL, Client, TestBroker, V5, id, persistent, publish};

async fn unsubscribe(client: &mut Client, filters: &[&str]) -> Vec<ReasonCode> {
    let parsed = filters
        .iter()
        .map(|filter| SubscriptionFilter::parse(filter).unwrap());
    client
        .send(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(77),
            filters: parsed.collect(),
            properties: None,
        }))
        .await;
    match client.receive().await {
        Packet::UnsubAck(unsuback) => {
            assert_eq!(unsuback.packet_id, id(77));
            unsuback.reasons
        }
        other => panic!("expected UNSUBACK, got {other:?}"),
    }
}

/// What UNSUBACK says: one code for each filter from MQTT 5 on, nothing before.
fn told(version: ProtocolVersion, existed: &[bool]) -> Vec<ReasonCode> {
    let code = |existed: &bool| {
        if *existed {
            ReasonCode::Success
        } else {
            ReasonCode::NoSubscriptionExisted
        }
    };
    let codes = existed.iter().map(code);
    if version.is_v5() {
        codes.collect()
    } else {
        Vec::new()
    }
}

#[tokio::test]
async fn only_the_filter_that_is_named_ends() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT3-3.10.4-1] [MQTT3-3.10.4-2]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut client = broker.connect(version, "sub").await;
        client.subscribe("a/+", 0).await;
        client.subscribe("a/b", 1).await;
        let mut publisher = broker.connect(version, "pub").await;
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT3-3.10.4-4] [MQTT3-3.10.4-5] Answered also when nothing ends.
        for other in ["a/#", "+/b", "A/b", "a/b/", "#", "$share/g/a/b"] {
            let reasons = unsubscribe(&mut client, &[other]).await;
            assert_eq!(reasons, told(version, &[false]), "{other}");
        }
        publisher.publish(publish("a/b", "both", 1, 1)).await;
        let message = client.receive_publish().await;
        assert_eq!(message.qos.as_u8(), 1);
        client.acknowledge(&message).await;
        let reasons = unsubscribe(&mut client, &["a/b"]).await;
        assert_eq!(reasons, told(version, &[true]));
        publisher.publish(publish("a/b", "one", 1, 1)).await;
        assert_eq!(client.receive_publish().await.qos.as_u8(), 0);
        unsubscribe(&mut client, &["a/+"]).await;
        publisher.publish(publish("a/b", "none", 1, 1)).await;
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn many_filters_end_at_once_with_one_answer_in_their_order() {
    // [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT3-3.10.4-6]
    let broker = TestBroker::start().await;
    for version in ALL {
        let mut client = broker.connect(version, "sub").await;
        for filter in ["a", "b", "c"] {
            client.subscribe(filter, 0).await;
        }
        // The second "a" comes after the first has ended.
        let reasons = unsubscribe(&mut client, &["x", "a", "y", "c", "a"]).await;
        assert_eq!(reasons, told(version, &[false, true, false, true, false]));
        let mut publisher = broker.connect(version, "pub").await;
        for topic in ["a", "b", "c"] {
            publisher.publish(publish(topic, "x", 1, 1)).await;
        }
        assert_eq!(&*client.receive_publish().await.topic, "b");
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_delivery_that_began_is_completed_after_unsubscribe() {
    // [MQTT-3.10.4-3] [MQTT3-3.10.4-3]
    let broker = TestBroker::start().await;
    for version in ALL {
        let (mut client, _) = broker.connect_with(persistent(version, "sub")).await;
        client.subscribe("t", 2).await;
        let mut publisher = broker.connect(version, "pub").await;
        publisher.publish(publish("t", "1", 1, 1)).await;
        publisher.publish(publish("t", "2", 2, 2)).await;
        let one = client.receive_publish().await;
        let two = client.receive_publish().await;
        unsubscribe(&mut client, &["t"]).await;
        client.acknowledge(&one).await;
        let packet_id = two.packet_id.unwrap();
        client
            .send(Packet::PubRec(PubRec::success(packet_id)))
            .await;
        assert!(matches!(client.receive().await, Packet::PubRel(_)));
        // Also over another connection.
        client.vanish();
        let (mut client, _) = broker.connect_with(persistent(version, "sub")).await;
        match client.receive().await {
            Packet::PubRel(pubrel) => assert_eq!(pubrel.packet_id, packet_id),
            other => panic!("expected PUBREL, got {other:?}"),
        }
        client
            .send(Packet::PubComp(PubComp::success(packet_id)))
            .await;
        client.expect_nothing().await;
        client.disconnect().await;
        broker.connect(version, "sub").await.disconnect().await;
    }
}

#[tokio::test]
async fn unsuback_has_the_codes_of_unsuback() {
    // [MQTT-3.11.3-2]
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "sub").await;
    client.subscribe("a", 0).await;
    let reasons = unsubscribe(&mut client, &["a", "b"]).await;
    let codes: Vec<u8> = reasons.iter().map(|reason| reason.as_u8()).collect();
    assert_eq!(codes, [0x00, 0x11]);
}
