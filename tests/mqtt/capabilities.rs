//! What an operator can switch off or limit: told in CONNACK to MQTT 5 clients, and enforced for all.

use std::time::Duration;

use bytes::Bytes;
use weir::broker::BrokerSettings;
use weir::clients::Elsewhere;
use weir::core::connect::Capabilities;
use weir_mqtt::properties::{MaximumQoS, PayloadFormat, PublishProperties, WillProperties};
use weir_mqtt::{
    ConnAck, Connect, Disconnect, Packet, ProtocolVersion, QoS, ReasonCode, Subscribe,
    SubscribeOptions, SubscriptionFilter, SubscriptionId, SubscriptionRequest, TopicName, Utf8,
    Will,
};

use crate::client::{ALL, Client, TestBroker, V3_1, V3_1_1, V5, id, publish, qos};

fn with(capabilities: Capabilities) -> BrokerSettings {
    BrokerSettings {
        capabilities,
        ..BrokerSettings::default()
    }
}

fn with_will(version: ProtocolVersion, level: u8, retain: bool) -> Connect {
    let mut connect = Connect::new(version, Utf8::from("a"));
    connect.will = Some(Will {
        topic: TopicName::new("gone").unwrap(),
        payload: Bytes::from_static(b"\xff"),
        qos: qos(level),
        retain,
        properties: WillProperties::default(),
    });
    connect
}

async fn refused(broker: &TestBroker, connect: Connect) -> ConnAck {
    let (mut client, connack) = broker.connect_with(connect).await;
    assert!(connack.reason.is_error());
    assert_eq!(client.receive_or_end().await, None);
    connack
}

fn request(filter: &str) -> SubscriptionRequest {
    SubscriptionRequest {
        filter: SubscriptionFilter::parse(filter).unwrap(),
        options: SubscribeOptions::with_qos(QoS::ExactlyOnce),
    }
}

async fn last_words(mut client: Client) -> Disconnect {
    let Packet::Disconnect(disconnect) = client.receive().await else {
        panic!("expected DISCONNECT")
    };
    assert_eq!(client.receive_or_end().await, None);
    disconnect
}

#[tokio::test]
async fn a_client_is_told_nothing_of_what_is_as_usual() {
    let broker = TestBroker::start().await;
    let (_, connack) = broker.connect_with(Connect::new(V5, Utf8::from("a"))).await;
    let properties = connack.properties;
    assert_eq!(properties.maximum_qos, None);
    assert_eq!(properties.retain_available, None);
    assert_eq!(properties.wildcard_subscription_available, None);
    assert_eq!(properties.server_keep_alive_s, None);
    assert_eq!(properties.receive_maximum.unwrap().get(), 32);
    assert_eq!(properties.maximum_packet_size.unwrap().get(), 1 << 20);
    assert_eq!(properties.topic_alias_maximum, Some(16));
}

#[tokio::test]
async fn publishes_above_the_maximum_qos_end_the_connection() {
    // [MQTT-3.2.2-9] [MQTT-3.2.2-11]
    let broker = TestBroker::with(with(Capabilities {
        max_qos: QoS::AtLeastOnce,
        ..Capabilities::default()
    }))
    .await;
    for version in ALL {
        let (mut client, connack) = broker
            .connect_with(Connect::new(version, Utf8::from("a")))
            .await;
        let told = version.is_v5().then_some(MaximumQoS::AtLeastOnce);
        assert_eq!(connack.properties.maximum_qos, told);
        // [MQTT-3.2.2-10]
        assert_eq!(client.subscribe("t", 2).await, [ReasonCode::GrantedQoS2]);
        client.publish(publish("other", "x", 1, 1)).await;
        client.send(Packet::Publish(publish("t", "x", 2, 2))).await;
        client.expect_disconnect(ReasonCode::QoSNotSupported).await;
    }
    // [MQTT-3.2.2-12]
    let connack = refused(&broker, with_will(V5, 2, false)).await;
    assert_eq!(connack.reason, ReasonCode::QoSNotSupported);
    assert!(connack.properties.reason_string.is_some());
}

#[tokio::test]
async fn without_retained_messages_the_flag_ends_the_connection() {
    // [MQTT-3.2.2-13] [MQTT-3.2.2-14]
    let broker = TestBroker::with(with(Capabilities {
        retain: false,
        ..Capabilities::default()
    }))
    .await;
    for version in ALL {
        let mut client = broker.connect(version, "a").await;
        let mut message = publish("t", "x", 0, 0);
        message.retain = true;
        client.send(Packet::Publish(message)).await;
        client
            .expect_disconnect(ReasonCode::RetainNotSupported)
            .await;
    }
    let connack = refused(&broker, with_will(V5, 0, true)).await;
    assert_eq!(connack.reason, ReasonCode::RetainNotSupported);
}

#[tokio::test]
async fn subscriptions_of_a_kind_that_is_switched_off_are_refused() {
    let broker = TestBroker::with(with(Capabilities {
        wildcard_subscriptions: false,
        shared_subscriptions: false,
        subscription_identifiers: false,
        ..Capabilities::default()
    }))
    .await;
    let (client, connack) = broker.connect_with(Connect::new(V5, Utf8::from("a"))).await;
    let told = connack.properties;
    assert_eq!(told.wildcard_subscription_available, Some(false));
    assert_eq!(told.shared_subscription_available, Some(false));
    assert_eq!(told.subscription_identifier_available, Some(false));
    client.disconnect().await;
    for (filter, with_id, reason) in [
        ("a/+", false, ReasonCode::WildcardSubscriptionsNotSupported),
        ("a/#", false, ReasonCode::WildcardSubscriptionsNotSupported),
        (
            "$share/g/a",
            false,
            ReasonCode::SharedSubscriptionsNotSupported,
        ),
        ("a", true, ReasonCode::SubscriptionIdentifiersNotSupported),
    ] {
        let mut client = broker.connect(V5, "a").await;
        let mut subscribe = Subscribe {
            packet_id: id(1),
            requests: vec![request("plain"), request(filter)],
            properties: None,
        };
        if with_id {
            subscribe
                .properties
                .get_or_insert_default()
                .subscription_identifier = SubscriptionId::new(3);
        }
        client.send(Packet::Subscribe(subscribe)).await;
        let said = last_words(client).await;
        assert_eq!(said.reason, reason);
        assert!(said.properties.unwrap().reason_string.is_some());
    }
    // [MQTT3-3.8.3-2]
    for version in [V3_1, V3_1_1] {
        let mut client = broker.connect(version, "a").await;
        assert_eq!(client.subscribe("a", 1).await, [ReasonCode::GrantedQoS1]);
        // MQTT 3.1 has no failure in SUBACK: the client is told what it wants to hear and gets nothing.
        let failure = match version {
            V3_1 => [ReasonCode::GrantedQoS1],
            _ => [ReasonCode::UnspecifiedError],
        };
        assert_eq!(client.subscribe("a/+", 1).await, failure);
        assert_eq!(client.subscribe("$share/g/a", 1).await, failure);
        assert_eq!(broker.broker.stats().subscriptions.get(), 1);
        client.disconnect().await;
    }
}

#[tokio::test]
async fn the_longest_keep_alive_is_imposed_on_longer_ones_and_on_none() {
    // [MQTT-3.2.2-21]
    let settings = BrokerSettings {
        keepalive_max_s: Some(60),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for (asked, told) in [(0, Some(60)), (61, Some(60)), (60, None), (5, None)] {
        let mut connect = Connect::new(V5, Utf8::from("a"));
        connect.keep_alive_s = asked;
        let (client, connack) = broker.connect_with(connect).await;
        assert_eq!(connack.properties.server_keep_alive_s, told);
        client.disconnect().await;
    }
}

#[tokio::test]
async fn a_client_without_keep_alive_is_given_up_after_the_idle_timeout() {
    let settings = BrokerSettings {
        idle_timeout: Some(Duration::from_millis(50)),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for version in ALL {
        let client = broker.connect(version, "a").await;
        client.expect_disconnect(ReasonCode::KeepAliveTimeout).await;
    }
}

#[tokio::test]
async fn mqtt_3_1_clients_can_be_held_to_short_identifiers() {
    let settings = BrokerSettings {
        short_v31_client_ids: true,
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let long = "a-name-of-24-characters!";
    let connack = refused(&broker, Connect::new(V3_1, Utf8::from(long))).await;
    assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
    broker.connect(V3_1_1, long).await.disconnect().await;
    broker.connect(V5, long).await.disconnect().await;
}

#[tokio::test]
async fn a_payload_that_is_not_the_text_it_claims_to_be_is_refused() {
    let broker = TestBroker::start().await;
    let mut subscriber = broker.connect(V5, "sub").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = broker.connect(V5, "pub").await;
    let mut message = publish("t", "", 0, 0);
    message.payload = Bytes::from_static(b"\xff");
    message.properties = Some(Box::new(PublishProperties {
        payload_format_indicator: Some(PayloadFormat::Utf8),
        ..PublishProperties::default()
    }));
    for level in [1, 2] {
        message.qos = qos(level);
        message.packet_id = Some(id(5));
        let reason = publisher.publish(message.clone()).await;
        assert_eq!(reason, ReasonCode::PayloadFormatInvalid);
    }
    (message.qos, message.packet_id) = (QoS::AtMostOnce, None);
    publisher.publish(message.clone()).await;
    subscriber.expect_nothing().await;
    message.payload = Bytes::from_static("ü".as_bytes());
    publisher.publish(message).await;
    assert_eq!(subscriber.receive_publish().await.payload, "ü");

    let mut connect = with_will(V5, 0, false);
    let will = connect.will.as_mut().unwrap();
    will.properties.payload_format_indicator = Some(PayloadFormat::Utf8);
    let connack = refused(&broker, connect).await;
    assert_eq!(connack.reason, ReasonCode::PayloadFormatInvalid);
}

#[tokio::test]
async fn reasons_in_words_come_with_acknowledgements_only_where_they_are_wanted_and_fit() {
    // [MQTT-3.1.2-29]
    let broker = TestBroker::start().await;
    for (wanted, size, explained) in [
        (None, u32::MAX, true),
        (Some(true), u32::MAX, true),
        (Some(false), u32::MAX, false),
        (None, 24, false),
    ] {
        let mut connect = Connect::new(V5, Utf8::from("a"));
        connect.properties.request_problem_information = wanted;
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(size);
        let (mut client, _) = broker.connect_with(connect).await;
        client
            .send(Packet::Publish(publish("$SYS/x", "x", 1, 1)))
            .await;
        let Packet::PubAck(puback) = client.receive().await else {
            panic!("expected PUBACK")
        };
        assert_eq!(puback.reason, ReasonCode::NotAuthorized);
        let said = puback
            .properties
            .is_some_and(|properties| properties.reason_string.is_some());
        assert_eq!(said, explained, "{wanted:?} {size}");
        client.disconnect().await;
    }
}

#[tokio::test]
async fn a_disconnect_says_why_unless_it_would_be_too_large() {
    let broker = TestBroker::start().await;
    for (size, explained) in [(u32::MAX, true), (24, false)] {
        let mut connect = Connect::new(V5, Utf8::from("a"));
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(size);
        let (mut client, _) = broker.connect_with(connect).await;
        let mut message = publish("t", "x", 0, 0);
        message.properties = Some(Box::new(PublishProperties {
            topic_alias: weir_mqtt::TopicAlias::new(17),
            ..PublishProperties::default()
        }));
        client.send(Packet::Publish(message)).await;
        let said = last_words(client).await;
        assert_eq!(said.reason, ReasonCode::TopicAliasInvalid);
        let why = said
            .properties
            .and_then(|properties| properties.reason_string);
        assert_eq!(why.is_some(), explained);
    }
}

#[tokio::test]
async fn a_disconnect_for_a_broken_rule_or_by_an_operator_says_why() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect(V5, "a").await;
    let again = Connect::new(V5, Utf8::from("a"));
    client.send(Packet::Connect(Box::new(again))).await;
    let why = |said: Disconnect| {
        said.properties
            .and_then(|properties| properties.reason_string)
    };
    let said = last_words(client).await;
    assert_eq!(said.reason, ReasonCode::ProtocolError);
    assert!(why(said).is_some());
    let client = broker.connect(V5, "b").await;
    assert!(
        broker
            .broker
            .disconnect("b", ReasonCode::AdministrativeAction)
    );
    let said = last_words(client).await;
    assert_eq!(said.reason, ReasonCode::AdministrativeAction);
    assert!(why(said).is_some());
}

#[tokio::test]
async fn an_operator_can_send_clients_to_another_server() {
    let broker = TestBroker::start().await;
    let server = Utf8::from("other.example:1883");
    let one = broker.connect(V5, "one").await;
    assert!(
        broker
            .broker
            .redirect("one", &Elsewhere::Moved(server.clone()))
    );
    let two = broker.connect(V5, "two").await;
    let mut three = broker.connect(V3_1_1, "three").await;
    let elsewhere = Elsewhere::UseAnother(server.clone());
    assert_eq!(broker.broker.redirect_all(&elsewhere), 2);
    for (client, code) in [
        (one, ReasonCode::ServerMoved),
        (two, ReasonCode::UseAnotherServer),
    ] {
        let said = last_words(client).await;
        assert_eq!(said.reason, code);
        let properties = said.properties.unwrap();
        assert_eq!(properties.server_reference, Some(server.clone()));
    }
    assert_eq!(three.receive_or_end().await, None);
    assert!(!broker.broker.redirect("nobody", &elsewhere));
}

#[tokio::test]
async fn an_operator_can_have_codes_without_words() {
    let broker = TestBroker::with(BrokerSettings {
        reason_strings: false,
        max_topic_levels: 2,
        ..BrokerSettings::default()
    })
    .await;
    let mut client = broker.connect(V5, "a").await;
    client
        .send(Packet::Publish(publish("a/b/c", "x", 0, 0)))
        .await;
    let said = last_words(client).await;
    assert_eq!(said.reason, ReasonCode::TopicNameInvalid);
    assert_eq!(said.properties, None);
}

#[tokio::test]
async fn response_information_is_for_clients_that_ask() {
    // [MQTT-3.1.2-28]
    let settings = BrokerSettings {
        response_information: Some("answers/%c/".to_owned()),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    for (asked, given) in [
        (Some(true), Some(Utf8::from("answers/a/"))),
        (Some(false), None),
        (None, None),
    ] {
        let mut connect = Connect::new(V5, Utf8::from("a"));
        connect.properties.request_response_information = asked;
        let (client, connack) = broker.connect_with(connect).await;
        assert_eq!(connack.properties.response_information, given);
        client.disconnect().await;
    }
}

#[tokio::test]
async fn a_broker_that_ends_sends_its_clients_to_another() {
    let settings = BrokerSettings {
        server_reference: Some("other.example:1883".to_owned()),
        ..BrokerSettings::default()
    };
    let broker = TestBroker::with(settings).await;
    let client = broker.connect(V5, "a").await;
    let (ended, said) = tokio::join!(
        broker.broker.stop(Duration::from_secs(10)),
        last_words(client)
    );
    assert!(ended, "both have gone");
    assert_eq!(said.reason, ReasonCode::UseAnotherServer);
    let reference = said.properties.unwrap().server_reference;
    assert_eq!(reference, Some(Utf8::from("other.example:1883")));
}
