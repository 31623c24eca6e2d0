//! Clients that come in for tokens of Aliyun MQ: they are told of the end, show others, and go with the last.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir::auth::devices::{DeviceSettings, Devices};
use weir_mqtt::{Packet, ProtocolVersion, ReasonCode};

use crate::client::{Client, TestBroker, V3_1_1, V5, publish};
use crate::cloud_rules::{cloud_of, signed, table};

/// A token of the one client, as it stands in the table.
fn row(rights: &str, token: &str, more: &str) -> String {
    format!(
        "[[token]]\nscheme = \"aliyun_mq\"\ntenant_key = \"post-cn-1\"\ndevice = \"GID_weir@@@edge\"\n\
         type = \"{rights}\"\ntoken = \"{token}\"\n{more}\n"
    )
}

fn in_ms(ms: u128) -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() + ms
}

fn ends_in(ms: u128) -> String {
    format!("expires_ms = {}", in_ms(ms))
}

async fn come(
    broker: &TestBroker,
    version: ProtocolVersion,
    tokens: &[(&str, &str)],
) -> (Client, ReasonCode) {
    let inputs = json!({
        "group_id": "GID_weir", "device_id": "edge", "access_key": "LTAI", "instance_id": "post-cn-1", "tokens": tokens,
    });
    let connect = signed(version, "aliyun_mq_token", &inputs);
    let (client, connack) = broker.connect_with(connect).await;
    (client, connack.reason)
}

async fn notice(client: &mut Client) -> (String, Value) {
    let publish = client.receive_publish().await;
    let payload = serde_json::from_slice(&publish.payload).unwrap();
    (publish.topic.to_string(), payload)
}

fn upload(rights: &str, token: &str) -> weir_mqtt::Publish {
    let payload = json!({"token": token, "type": rights}).to_string();
    publish("$SYS/uploadToken", &payload, 1, 7)
}

async fn start(rows: &[String]) -> (Arc<Devices>, TestBroker) {
    let devices = Devices::of(table(&rows.concat()), DeviceSettings::default());
    let devices = Arc::new(devices);
    let broker = cloud_of(Arc::clone(&devices)).await;
    (devices, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_is_shown_has_to_be_good() {
    let rows = [
        row("R", "123", ""),
        row("W", "abcd", ""),
        row("RW", "old", "expires_ms = 1700000000000"),
    ];
    let (_devices, broker) = start(&rows).await;
    let bad = ReasonCode::BadUserNameOrPassword;
    for (tokens, expected) in [
        (&[("R", "123"), ("W", "abcd")][..], ReasonCode::Success),
        (&[("W", "abcd")], ReasonCode::Success),
        (&[("R", "123"), ("W", "other")], bad),
        (&[("RW", "123")], bad),
        (&[("RW", "old")], bad),
    ] {
        let (_client, reason) = come(&broker, V3_1_1, tokens).await;
        assert_eq!(reason, expected, "{tokens:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_its_client_do_what_its_type_says() {
    let rows = [
        row("R", "reads", ""),
        row("W", "writes", ""),
        row("RW", "some", "topics = [\"line/7/#\"]"),
    ];
    let (_devices, broker) = start(&rows).await;
    for (rights, token, publishes, subscribes, elsewhere) in [
        ("R", "reads", false, true, true),
        ("W", "writes", true, false, false),
        ("RW", "some", true, true, false),
    ] {
        let (mut client, reason) = come(&broker, V5, &[(rights, token)]).await;
        assert_eq!(reason, ReasonCode::Success);
        let published = client.publish(publish("line/7/up", "x", 1, 1)).await;
        assert_eq!(!published.is_error(), publishes, "{rights} {published:?}");
        // `#` does not reach it.
        let published = client.publish(publish("$oc/up", "x", 1, 2)).await;
        let everywhere = publishes && elsewhere || rights == "W";
        assert_eq!(!published.is_error(), everywhere, "{rights} {published:?}");
        let subscribed = client.subscribe("line/7/down", 1).await;
        assert_eq!(!subscribed[0].is_error(), subscribes, "{rights}");
        let subscribed = client.subscribe("$oc/down", 1).await;
        assert_eq!(
            !subscribed[0].is_error(),
            subscribes && elsewhere,
            "{rights}"
        );
        let subscribed = client.subscribe("line/8/down", 1).await;
        assert_eq!(!subscribed[0].is_error(), elsewhere, "{rights}");
        client.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_token_ends_soon_is_told_and_stays_when_it_shows_another() {
    for version in [V3_1_1, V5] {
        let ends_ms = in_ms(60_000);
        let first = row("RW", "first", &format!("expires_ms = {ends_ms}"));
        let second = row("RW", "second", "");
        let (devices, broker) = start(&[first, second.clone()]).await;
        let (mut client, reason) = come(&broker, version, &[("RW", "first")]).await;
        assert_eq!(reason, ReasonCode::Success);
        // It has not subscribed to it.
        let (topic, told) = notice(&mut client).await;
        assert_eq!(topic, "$SYS/tokenExpireNotice");
        assert_eq!(told["type"], "RW");
        assert_eq!(told["expireTime"].as_u64().map(u128::from), Some(ends_ms));
        let taken = client.publish(upload("RW", "second")).await;
        assert_eq!(taken, ReasonCode::Success);
        // What it came with is gone, and it stays; then what it has shown is gone too.
        devices.replace(table(&second));
        client.expect_nothing().await;
        assert!(!client.publish(publish("up", "x", 1, 8)).await.is_error());
        devices.replace(table(""));
        let (topic, told) = notice(&mut client).await;
        assert_eq!(topic, "$SYS/tokenInvalidNotice");
        assert_eq!(told, json!({"code": 3, "type": "RW"}));
        client
            .expect_disconnect(ReasonCode::MaximumConnectTime)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_with_its_token() {
    for version in [V3_1_1, V5] {
        let (_devices, broker) = start(&[row("RW", "short", &ends_in(1_500))]).await;
        let (mut client, reason) = come(&broker, version, &[("RW", "short")]).await;
        assert_eq!(reason, ReasonCode::Success);
        assert_eq!(notice(&mut client).await.0, "$SYS/tokenExpireNotice");
        let (topic, told) = notice(&mut client).await;
        assert_eq!(topic, "$SYS/tokenInvalidNotice");
        assert_eq!(told, json!({"code": 2, "type": "RW"}));
        client
            .expect_disconnect(ReasonCode::MaximumConnectTime)
            .await;
        let (_client, reason) = come(&broker, version, &[("RW", "short")]).await;
        assert_eq!(reason, ReasonCode::BadUserNameOrPassword);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_is_not_taken_in_the_place_of_one_that_is() {
    let rows = [
        row("RW", "good", ""),
        row("R", "other-type", ""),
        row("RW", "over", "expires_ms = 1700000000000"),
    ];
    for (payload, code) in [
        (json!({"token": "forged", "type": "RW"}), 1),
        (json!({"token": "other-type", "type": "R"}), 5),
        (json!({"token": "over", "type": "RW"}), 2),
        (json!({"type": "RW"}), 1),
        (json!("RW"), 1),
    ] {
        let (_devices, broker) = start(&rows).await;
        let (mut client, _) = come(&broker, V5, &[("RW", "good")]).await;
        let message = publish("$SYS/uploadToken", &payload.to_string(), 1, 7);
        client.send(Packet::Publish(message)).await;
        let (topic, told) = notice(&mut client).await;
        assert_eq!(topic, "$SYS/tokenInvalidNotice");
        assert_eq!(told["code"], code, "{payload}");
        client.expect_disconnect(ReasonCode::NotAuthorized).await;
    }
}
