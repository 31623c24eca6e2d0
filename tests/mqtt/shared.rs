//! Chapter 4.8.2: shared subscriptions.

use weir_mqtt::{Packet, PubAck, PubRec, PubRel, QoS, ReasonCode, SubscriptionId};

use crate::client::{Client, TestBroker, V5, id, persistent, publish};
use crate::raw;

/// A member of a group whose session is kept.
async fn member(broker: &TestBroker, name: &str) -> Client {
    let (mut member, _) = broker.connect_with(persistent(V5, name)).await;
    member.subscribe("$share/g/t", 2).await;
    member
}

/// The member that got the one message, that message, and the other member, which got nothing.
async fn who_got_it(mut one: Client, mut two: Client) -> (Client, weir_mqtt::Publish, Client) {
    one.send(Packet::PingReq).await;
    match one.receive().await {
        Packet::Publish(message) => {
            assert_eq!(one.receive().await, Packet::PingResp);
            two.expect_nothing().await;
            (one, message, two)
        }
        Packet::PingResp => {
            let message = two.receive_publish().await;
            (two, message, one)
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn a_shared_delivery_has_the_lower_qos_of_message_and_member() {
    // [MQTT-4.8.2-3]
    let broker = TestBroker::start().await;
    for granted in 0..=2 {
        let mut member = broker.connect(V5, "member").await;
        member.subscribe("$share/g/t", granted).await;
        let mut publisher = broker.connect(V5, "pub").await;
        for level in 0..=2 {
            publisher.publish(publish("t", "x", level, 1)).await;
            let message = member.receive_publish().await;
            assert_eq!(message.qos.as_u8(), level.min(granted));
            member.acknowledge(&message).await;
        }
    }
}

#[tokio::test]
async fn a_qos_2_delivery_that_broke_off_is_completed_with_the_same_member() {
    // [MQTT-4.8.2-4]
    let broker = TestBroker::start().await;
    let (one, two) = (member(&broker, "one").await, member(&broker, "two").await);
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(publish("t", "x", 2, 1)).await;
    let (chosen, message, mut other) = who_got_it(one, two).await;
    assert_eq!(message.qos, QoS::ExactlyOnce);
    chosen.vanish();
    other.expect_nothing().await;
    // Whoever it was comes back and completes; the other is not asked.
    let mut returned = Vec::new();
    for name in ["one", "two"] {
        let (mut client, _) = broker.connect_with(persistent(V5, name)).await;
        client.send(Packet::PingReq).await;
        if let Packet::Publish(again) = client.receive().await {
            assert!(again.dup && again.packet_id == message.packet_id);
            assert_eq!(client.receive().await, Packet::PingResp);
            let packet_id = again.packet_id.unwrap();
            client
                .send(Packet::PubRec(PubRec::success(packet_id)))
                .await;
            let release = Packet::PubRel(PubRel::success(packet_id));
            assert_eq!(client.receive().await, release);
            returned.push(name);
        }
    }
    assert_eq!(returned.len(), 1, "{returned:?}");
}

#[tokio::test]
async fn a_qos_2_message_of_a_member_whose_session_ends_goes_to_nobody_else() {
    // [MQTT-4.8.2-5]
    let broker = TestBroker::start().await;
    let mut members = Vec::new();
    for name in ["one", "two"] {
        // Their sessions end with their connections.
        let mut member = broker.connect(V5, name).await;
        member.subscribe("$share/g/t", 2).await;
        members.push(member);
    }
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(publish("t", "x", 2, 1)).await;
    let (two, one) = (members.pop().unwrap(), members.pop().unwrap());
    let (chosen, _, mut other) = who_got_it(one, two).await;
    let sessions = broker.broker.stats().clone();
    let before = sessions.sessions.get();
    chosen.disconnect().await;
    while sessions.sessions.get() == before {
        tokio::task::yield_now().await;
    }
    other.expect_nothing().await;
    publisher.publish(publish("t", "next", 2, 1)).await;
    assert_eq!(&other.receive_publish().await.payload[..], b"next");
}

#[tokio::test]
async fn what_a_member_refuses_goes_to_nobody_else() {
    // [MQTT-4.8.2-6] [MQTT-4.4.0-2]
    let broker = TestBroker::start().await;
    let reason = ReasonCode::UnspecifiedError;
    for level in [1, 2] {
        let (one, two) = (member(&broker, "one").await, member(&broker, "two").await);
        let mut publisher = broker.connect(V5, "pub").await;
        publisher.publish(publish("t", "x", level, 1)).await;
        let (mut chosen, message, mut other) = who_got_it(one, two).await;
        let packet_id = message.packet_id.unwrap();
        let refusal = match level {
            1 => Packet::PubAck(PubAck::new(packet_id, reason)),
            _ => Packet::PubRec(PubRec::new(packet_id, reason)),
        };
        chosen.send(refusal).await;
        chosen.expect_nothing().await;
        other.expect_nothing().await;
        chosen.vanish();
        other.expect_nothing().await;
    }
}

#[tokio::test]
async fn a_copy_for_the_group_and_one_for_the_client_have_each_its_own_identifier() {
    // [MQTT-3.3.4-5]
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "both").await;
    for (packet_id, filter, number) in [(1, &b"$share/g/t"[..], 1), (2, b"t", 2)] {
        let body = [
            vec![0, packet_id],
            raw::properties(V5, &[0x0B, number]),
            raw::text(filter),
            vec![0],
        ];
        client.send_bytes(&raw::frame(0x82, &body.concat())).await;
        match client.receive().await {
            Packet::SubAck(suback) => assert_eq!(suback.packet_id, id(packet_id.into())),
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }
    let mut publisher = broker.connect(V5, "pub").await;
    publisher.publish(publish("t", "x", 0, 0)).await;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let properties = client.receive_publish().await.properties.unwrap();
        numbers.push(properties.subscription_identifiers.clone());
    }
    numbers.sort();
    let single = |number| vec![SubscriptionId::new(number).unwrap()];
    assert_eq!(numbers, [single(1), single(2)]);
    client.expect_nothing().await;
}
