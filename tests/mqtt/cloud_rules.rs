//! A broker that stands in for a cloud holds devices to what the cloud enforces.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use weir::auth::access_list::{AccessList, DenyAction, NoMatch};
use weir::auth::chain::Chain;
use weir::auth::devices::{DeviceSettings, Devices, Table};
use weir::broker::Broker;
use weir::problem::Source;
use weir_mqtt::{Connect, Packet, ProtocolVersion, ReasonCode, Utf8};
use weir_sinks::bridge::sign_vector;

use crate::client::{Client, TestBroker, V3_1_1, V5, publish};

const TABLE: &str = "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"pk\"\ndevice = \"gw\"\nsecret = \"s\"\n\
                     [[device]]\nscheme = \"tencent_iot\"\ntenant_key = \"PID\"\ndevice = \"gw\"\nsecret = \"c2VjcmV0\"\n";

/// A broker that these devices sign in to.
pub(crate) async fn cloud_of(devices: Arc<Devices>) -> TestBroker {
    let mut chain = Chain::new();
    chain.push(devices);
    let list = AccessList::new(None, Some(NoMatch::Allow), DenyAction::Ignore);
    TestBroker::built(Broker::builder().authenticator(chain).authorizer(list)).await
}

pub(crate) fn table(text: &str) -> Table {
    Table::parse(&Source::new("devices.toml", text))
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

async fn emulating(emulate: bool) -> TestBroker {
    let settings = DeviceSettings {
        emulate,
        ..DeviceSettings::default()
    };
    cloud_of(Arc::new(Devices::of(table(TABLE), settings))).await
}

/// CONNECT of what a provider signs now.
pub(crate) fn signed(version: ProtocolVersion, provider: &str, inputs: &Value) -> Connect {
    let creds = sign_vector(provider, inputs).unwrap().show();
    let mut connect = Connect::new(version, Utf8::new(&creds.client_id).unwrap());
    connect.username = creds.username.map(|name| Utf8::new(&name).unwrap());
    connect.password = creds.password.map(Bytes::from);
    connect
}

fn aliyun(version: ProtocolVersion, keep_alive_s: u16) -> Connect {
    let inputs = json!({"product_key": "pk", "device_name": "gw", "device_secret": "s"});
    let mut connect = signed(version, "aliyun_iot", &inputs);
    connect.keep_alive_s = keep_alive_s;
    connect
}

async fn connected(broker: &TestBroker, version: ProtocolVersion) -> Client {
    let (client, connack) = broker.connect_with(aliyun(version, 300)).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    client
}

const UP: &str = "/pk/gw/user/up";

#[tokio::test(flavor = "multi_thread")]
async fn qos_2_is_granted_as_1_and_closes_the_connection_of_who_publishes_with_it() {
    for version in [V3_1_1, V5] {
        let broker = emulating(true).await;
        let mut device = connected(&broker, version).await;
        let granted = device.subscribe(UP, 2).await;
        assert_eq!(granted, [ReasonCode::GrantedQoS1]);
        device
            .send(Packet::Publish(publish(UP, "twice", 2, 1)))
            .await;
        device.expect_disconnect(ReasonCode::QoSNotSupported).await;
        // Who does not ask for the cloud's rules has MQTT's.
        let broker = emulating(false).await;
        let mut device = connected(&broker, version).await;
        let granted = device.subscribe("/pk/gw/user/down", 2).await;
        assert_eq!(granted, [ReasonCode::GrantedQoS2]);
        let reason = device.publish(publish(UP, "twice", 2, 1)).await;
        assert!(!reason.is_error());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_alive_outside_of_the_clouds_bounds_is_refused() {
    for (emulate, refused) in [(true, true), (false, false)] {
        let broker = emulating(emulate).await;
        for (version, code) in [
            (V3_1_1, ReasonCode::ServerUnavailable),
            (V5, ReasonCode::ImplementationSpecificError),
        ] {
            let (_device, connack) = broker.connect_with(aliyun(version, 20)).await;
            let expected = if refused { code } else { ReasonCode::Success };
            assert_eq!(connack.reason, expected, "{version:?}");
            let (_device, connack) = broker.connect_with(aliyun(version, 30)).await;
            assert_eq!(connack.reason, ReasonCode::Success);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_above_the_clouds_limit_closes_the_connection_and_nothing_is_retained() {
    let broker = emulating(true).await;
    let inputs = json!({"product_id": "PID", "device_name": "gw", "device_secret": "c2VjcmV0"});
    let mut connect = signed(V5, "tencent_iot", &inputs);
    connect.keep_alive_s = 240;
    let (mut device, connack) = broker.connect_with(connect).await;
    assert_eq!(connack.reason, ReasonCode::Success);
    let mut kept = publish("PID/gw/data", "kept", 1, 1);
    kept.retain = true;
    assert!(!device.publish(kept).await.is_error());
    device.subscribe("PID/gw/data", 0).await;
    device.expect_nothing().await;
    let large = "x".repeat(16 * 1024 + 1);
    device
        .send(Packet::Publish(publish("PID/gw/event", &large, 1, 2)))
        .await;
    device.expect_disconnect(ReasonCode::PacketTooLarge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_above_the_clouds_rate_is_acknowledged_and_thrown_away() {
    let broker = emulating(true).await;
    let mut device = connected(&broker, V3_1_1).await;
    device.subscribe("/pk/gw/user/up", 0).await;
    let (mut acknowledged, mut arrived) = (0, 0);
    for number in 1..=60 {
        device
            .send(Packet::Publish(publish(UP, "x", 1, number)))
            .await;
    }
    device.send(Packet::PingReq).await;
    loop {
        match device.receive().await {
            Packet::PubAck(ack) if !ack.reason.is_error() => acknowledged += 1,
            Packet::Publish(_) => arrived += 1,
            Packet::PingResp => {}
            other => panic!("{other:?}"),
        }
        if acknowledged == 60 {
            break;
        }
    }
    // Ten a second; what came late may still be on its way.
    assert!((1..60).contains(&arrived), "{arrived}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_connects_twice_evicts_itself_and_too_often_has_to_wait() {
    let broker = emulating(true).await;
    let first = connected(&broker, V5).await;
    let second = connected(&broker, V3_1_1).await;
    first.expect_disconnect(ReasonCode::SessionTakenOver).await;
    let mut last = second;
    for _ in 2..5 {
        let next = connected(&broker, V3_1_1).await;
        last.expect_disconnect(ReasonCode::SessionTakenOver).await;
        last = next;
    }
    // The sixth in a minute.
    for (version, code) in [
        (V5, ReasonCode::ConnectionRateExceeded),
        (V3_1_1, ReasonCode::ServerUnavailable),
    ] {
        let (_device, connack) = broker.connect_with(aliyun(version, 300)).await;
        assert_eq!(connack.reason, code);
    }
    last.expect_nothing().await;
}
