use bytes::Bytes;
use serde_json::json;
use weir_mqtt::{ProtocolVersion, QoS, SubscriptionFilter};
use weir_sinks::bridge::verifier::TimeCheck;
use weir_sinks::bridge::{Moment, sign_at};

use super::*;
use crate::auth::access_list::{AccessList, DenyAction, NoMatch};
use crate::auth::{Authorizer, PublishVerdict, Subject};
use crate::problem::Source as Text;

const TABLE: &str = r#"
[[device]]
scheme = "aliyun_iot"
tenant_key = "pk"
device = "gw-01"
secret = "old-secret"
next_secret = "new-secret"

[[device]]
scheme = "aliyun_iot"
tenant_key = "pk"
device = "off"
secret = "old-secret"
enabled = false

[[device]]
scheme = "tencent_iot"
tenant_key = "PID"
device = "edge"
secret = "b2xkLXNlY3JldA=="

[[device]]
scheme = "huawei_iotda"
device = "5f_edge"
secret = "old-secret"
topics = ["line/7/#"]

[[device]]
scheme = "onenet"
tenant_key = "pid"
device = "edge"
secret = "b2xkLXNlY3JldA=="

[[device]]
scheme = "aliyun_mq"
tenant_key = "post-cn-1"
device = "GID_weir@@@edge"
secret = "old-secret"
"#;

fn table(text: &str) -> Table {
    Table::parse(&Text::new("devices.toml", text))
        .unwrap_or_else(|problems| panic!("{}", problems[0]))
}

fn made(settings: DeviceSettings) -> Devices {
    Devices::of(table(TABLE), settings)
}

fn strict() -> DeviceSettings {
    DeviceSettings {
        times: Times {
            check: TimeCheck::Strict,
            ..Times::default()
        },
        ..DeviceSettings::default()
    }
}

/// What a device sends that signs `ago_s` seconds ago.
fn signed(provider: &str, inputs: serde_json::Value, ago_s: i64) -> ConnectRequest {
    let creds = sign_at(provider, &inputs, Moment::at(now_ms() - ago_s * 1000))
        .unwrap()
        .show();
    ConnectRequest {
        client_id: Utf8::try_from(creds.client_id).unwrap(),
        username: creds.username.map(|name| Utf8::try_from(name).unwrap()),
        password: creds.password.map(Bytes::from),
        peer: Some("127.0.0.1:1".parse().unwrap()),
        listener: "test".into(),
        certificate: None,
        version: ProtocolVersion::V3_1_1,
        allow_anonymous: false,
        encrypted: true,
        keep_alive_s: 300,
    }
}

fn aliyun(device: &str, secret: &str, ago_s: i64) -> ConnectRequest {
    let inputs = json!({"product_key": "pk", "device_name": device, "device_secret": secret, "timestamp": true});
    signed("aliyun_iot", inputs, ago_s)
}

async fn refusal(devices: &Devices, request: &ConnectRequest) -> Option<ReasonCode> {
    match devices.authenticate(request).await {
        Decision::Allow(_) => None,
        Decision::Deny(reason) => Some(reason),
        Decision::Ignore => panic!("it is a device"),
    }
}

fn counted(devices: &Devices, scheme: &str, reason: &str) -> u64 {
    devices
        .refusals()
        .find(|(known, why, _)| (*known, *why) == (scheme, reason))
        .map_or(0, |(_, _, count)| count)
}

#[tokio::test]
async fn a_device_is_admitted_as_itself_and_anybody_else_is_left_to_others() {
    let devices = made(DeviceSettings::default());
    let request = aliyun("gw-01", "old-secret", 0);
    let Decision::Allow(identity) = devices.authenticate(&request).await else {
        panic!("it is refused");
    };
    assert_eq!(identity.username.as_deref(), Some("gw-01&pk"));
    assert_eq!(identity.session.as_deref(), Some("aliyun_iot:pk:gw-01"));
    assert_eq!(identity.attributes["product_key"], "pk");
    assert_eq!(identity.attributes["device_name"], "gw-01");
    assert_eq!(identity.attributes["auth_scheme"], "aliyun_iot");
    assert_eq!(identity.attributes["client_id"], &*request.client_id);
    let other = crate::auth::tests::request(Some("ann"), "secret", false);
    assert_eq!(devices.authenticate(&other).await, Decision::Ignore);
    let few = DeviceSettings {
        schemes: vec![Scheme::Onenet],
        ..DeviceSettings::default()
    };
    let answer = made(few).authenticate(&request).await;
    assert_eq!(answer, Decision::Ignore);
}

#[tokio::test]
async fn unknown_switched_off_and_wrongly_signed_look_the_same_to_the_device_and_not_to_the_operator()
 {
    let devices = made(DeviceSettings::default());
    for (device, secret, reason) in [
        ("gw-01", "wrong", "wrong_signature"),
        ("nobody", "old-secret", "unknown_device"),
        ("off", "old-secret", "disabled"),
        ("off", "wrong", "wrong_signature"),
    ] {
        let before = counted(&devices, "aliyun_iot", reason);
        let answer = refusal(&devices, &aliyun(device, secret, 0)).await;
        assert_eq!(answer, Some(ReasonCode::BadUserNameOrPassword), "{device}");
        assert_eq!(counted(&devices, "aliyun_iot", reason), before + 1);
    }
    let mut malformed = aliyun("gw-01", "old-secret", 0);
    malformed.client_id = Utf8::from("a|signmethod=sha3|");
    let answer = refusal(&devices, &malformed).await;
    assert_eq!(answer, Some(ReasonCode::ClientIdentifierNotValid));
    assert_eq!(counted(&devices, "aliyun_iot", "malformed"), 1);
}

#[tokio::test]
async fn both_secrets_are_taken_until_the_old_one_leaves_the_table() {
    let devices = made(DeviceSettings::default());
    for secret in ["old-secret", "new-secret"] {
        assert_eq!(refusal(&devices, &aliyun("gw-01", secret, 0)).await, None);
    }
    let after = TABLE.replacen(
        "secret = \"old-secret\"\nnext_secret = \"new-secret\"",
        "secret = \"new-secret\"",
        1,
    );
    devices.replace(table(&after));
    assert_eq!(
        refusal(&devices, &aliyun("gw-01", "new-secret", 0)).await,
        None
    );
    let old = refusal(&devices, &aliyun("gw-01", "old-secret", 0)).await;
    assert_eq!(old, Some(ReasonCode::BadUserNameOrPassword));
}

#[tokio::test]
async fn strict_times_refuse_wrong_clocks_and_what_was_heard_before() {
    let devices = made(strict());
    let now = aliyun("gw-01", "old-secret", 0);
    assert_eq!(refusal(&devices, &now).await, None);
    let bad = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(refusal(&devices, &now).await, bad);
    assert_eq!(counted(&devices, "aliyun_iot", "replayed"), 1);
    for ago_s in [600, -600] {
        assert_eq!(
            refusal(&devices, &aliyun("gw-01", "old-secret", ago_s)).await,
            bad
        );
    }
    assert_eq!(counted(&devices, "aliyun_iot", "clock"), 2);
    let inputs =
        json!({"product_id": "PID", "device_name": "edge", "device_secret": "b2xkLXNlY3JldA=="});
    let tencent = signed("tencent_iot", inputs, 0);
    assert_eq!(refusal(&devices, &tencent).await, None);
    assert_eq!(refusal(&devices, &tencent).await, bad);
    let inputs = json!({"group_id": "GID_weir", "device_id": "edge", "access_key": "k", "access_secret": "old-secret", "instance_id": "post-cn-1"});
    let timeless = signed("aliyun_mq_signature", inputs, 0);
    let open = ConnectRequest {
        encrypted: false,
        ..timeless.clone()
    };
    // There is no time to check: it is taken where nobody can overhear it.
    assert_eq!(refusal(&devices, &open).await, bad);
    assert_eq!(counted(&devices, "aliyun_mq", "not_encrypted"), 1);
    assert_eq!(refusal(&devices, &timeless).await, None);
    // As the cloud does, the clock and the repetition are nobody's business.
    let devices = made(DeviceSettings::default());
    for _ in 0..2 {
        assert_eq!(refusal(&devices, &now).await, None);
        assert_eq!(refusal(&devices, &timeless).await, None);
        assert_eq!(
            refusal(&devices, &aliyun("gw-01", "old-secret", 600)).await,
            None
        );
    }
}

#[tokio::test]
async fn a_signature_of_the_hour_is_of_no_use_from_elsewhere() {
    let devices = made(strict());
    let inputs =
        json!({"device_id": "5f_edge", "device_secret": "old-secret", "check_timestamp": 1});
    let mut huawei = signed("huawei_iotda", inputs, 0);
    for _ in 0..2 {
        assert_eq!(refusal(&devices, &huawei).await, None);
    }
    huawei.peer = Some("127.0.0.2:1".parse().unwrap());
    let answer = refusal(&devices, &huawei).await;
    assert_eq!(answer, Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(counted(&devices, "huawei_iotda", "replayed"), 1);
}

#[tokio::test]
async fn what_a_client_makes_up_is_not_in_the_file_of_what_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let devices = made(strict());
    devices.remember_in(folder.path()).unwrap();
    let inputs =
        json!({"product_id": "PID", "device_name": "edge", "device_secret": "b2xkLXNlY3JldA=="});
    let tencent = signed("tencent_iot", inputs, 0);
    assert_eq!(refusal(&devices, &tencent).await, None);
    let text = std::fs::read_to_string(folder.path().join("devices.seen")).unwrap();
    let username = tencent.username.as_deref().unwrap();
    let connection = username.split(';').nth(2).unwrap();
    assert!(!text.contains(connection), "{text}");
    let mut words = text.split(' ');
    assert_eq!(words.next(), Some("once"));
    assert_eq!(words.next_back(), Some("tencent_iot:PID:edge\n"));
    let again = made(strict());
    again.remember_in(folder.path()).unwrap();
    assert_eq!(
        refusal(&again, &tencent).await,
        Some(ReasonCode::BadUserNameOrPassword)
    );
}

#[tokio::test]
async fn of_two_that_show_the_same_at_once_one_is_admitted() {
    let devices = Arc::new(made(strict()));
    let request = aliyun("gw-01", "old-secret", 0);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (devices, request) = (Arc::clone(&devices), request.clone());
            tokio::spawn(async move { refusal(&devices, &request).await })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += u32::from(task.await.unwrap().is_none());
    }
    assert_eq!(admitted, 1);
}

#[tokio::test]
async fn who_fails_too_often_is_told_to_come_later_even_with_the_right_secret() {
    let devices = made(DeviceSettings::default());
    for _ in 0..5 {
        refusal(&devices, &aliyun("gw-01", "wrong", 0)).await;
    }
    let mut request = aliyun("gw-01", "old-secret", 0);
    assert_eq!(
        refusal(&devices, &request).await,
        Some(ReasonCode::ServerBusy)
    );
    request.version = ProtocolVersion::V5;
    assert_eq!(
        refusal(&devices, &request).await,
        Some(ReasonCode::QuotaExceeded)
    );
    assert_eq!(counted(&devices, "aliyun_iot", "throttled"), 2);
    // The device itself, elsewhere.
    request.peer = Some("127.0.0.2:1".parse().unwrap());
    assert_eq!(refusal(&devices, &request).await, None);
}

#[tokio::test]
async fn md5_is_refused_where_it_is_not_good_enough() {
    let settings = DeviceSettings {
        allow_md5: false,
        ..DeviceSettings::default()
    };
    let inputs = json!({"product_key": "pk", "device_name": "gw-01", "device_secret": "old-secret", "sign_method": "hmacmd5"});
    let request = signed("aliyun_iot", inputs, 0);
    assert_eq!(
        refusal(&made(settings), &request).await,
        Some(ReasonCode::BadUserNameOrPassword)
    );
    assert_eq!(
        refusal(&made(DeviceSettings::default()), &request).await,
        None
    );
}

#[tokio::test]
async fn a_products_access_key_signs_for_every_device_that_there_is() {
    let product =
        "[[product]]\nscheme = \"onenet\"\ntenant_key = \"pid\"\nsecret = \"cHJvZHVjdA==\"\n";
    let inputs = |device: &str, key: &str| json!({"product_id": "pid", "device_name": device, "access_key": key, "scope": "product"});
    let of_product = |device: &str| signed("onenet", inputs(device, "cHJvZHVjdA=="), 0);
    let made = |text: &str, allow_product_token| {
        let settings = DeviceSettings {
            allow_product_token,
            ..DeviceSettings::default()
        };
        Devices::of(table(&format!("{text}{TABLE}")), settings)
    };
    let bad = Some(ReasonCode::BadUserNameOrPassword);
    let devices = made(product, true);
    assert_eq!(refusal(&devices, &of_product("edge")).await, None);
    let forged = signed("onenet", inputs("edge", "b2xkLXNlY3JldA=="), 0);
    assert_eq!(refusal(&devices, &forged).await, bad);
    assert_eq!(refusal(&devices, &of_product("nobody")).await, bad);
    assert_eq!(counted(&devices, "onenet", "unknown_device"), 1);
    // The device's own key still does.
    let own = json!({"product_id": "pid", "device_name": "edge", "access_key": "b2xkLXNlY3JldA=="});
    assert_eq!(refusal(&devices, &signed("onenet", own, 0)).await, None);
    let without = made("", true);
    assert_eq!(refusal(&without, &of_product("edge")).await, bad);
    let forbidden = made(product, false);
    assert_eq!(refusal(&forbidden, &of_product("edge")).await, bad);
    assert_eq!(counted(&forbidden, "onenet", "product_key"), 1);
}

#[tokio::test]
async fn a_client_id_that_is_not_signed_is_taken_where_that_is_wanted() {
    // HMAC-SHA256 of `deviceNamegw-01productKeypk` with `old-secret`.
    let password = "f2a84f905b16deda2d05f510df385894724fdae4813a963069e4167a1b1841d1";
    let request = ConnectRequest {
        password: Some(Bytes::from_static(password.as_bytes())),
        client_id: Utf8::from("any|securemode=2,signmethod=hmacsha256|"),
        ..aliyun("gw-01", "old-secret", 0)
    };
    for (lenient_content, expected) in [
        (true, None),
        (false, Some(ReasonCode::BadUserNameOrPassword)),
    ] {
        let settings = DeviceSettings {
            lenient_content,
            ..DeviceSettings::default()
        };
        let devices = made(settings);
        assert_eq!(refusal(&devices, &request).await, expected);
        let right = aliyun("gw-01", "old-secret", 0);
        assert_eq!(refusal(&devices, &right).await, None);
    }
}

#[tokio::test]
async fn a_listener_listens_to_the_devices_of_its_clouds_alone() {
    let settings = DeviceSettings {
        schemes: vec![Scheme::Onenet],
        listeners: BTreeMap::from([("plant".to_owned(), vec![Scheme::AliyunIot])]),
        ..DeviceSettings::default()
    };
    let devices = made(settings);
    let at = |listener: &str, request: &ConnectRequest| ConnectRequest {
        listener: listener.into(),
        ..request.clone()
    };
    let aliyun = aliyun("gw-01", "old-secret", 0);
    assert_eq!(refusal(&devices, &at("plant", &aliyun)).await, None);
    let elsewhere = devices.authenticate(&at("lab", &aliyun)).await;
    assert_eq!(elsewhere, Decision::Ignore);
    let inputs =
        json!({"product_id": "pid", "device_name": "edge", "access_key": "b2xkLXNlY3JldA=="});
    let onenet = signed("onenet", inputs, 0);
    assert_eq!(refusal(&devices, &at("lab", &onenet)).await, None);
    let elsewhere = devices.authenticate(&at("plant", &onenet)).await;
    assert_eq!(elsewhere, Decision::Ignore);
}

async fn subject(devices: &Devices, request: ConnectRequest) -> Subject {
    let Decision::Allow(identity) = devices.authenticate(&request).await else {
        panic!("it is refused");
    };
    Subject {
        client_id: request.client_id,
        username: identity.username.clone(),
        peer: request.peer,
        listener: request.listener,
        certificate: None,
        identity: Arc::new(identity),
    }
}

#[tokio::test]
async fn a_device_uses_its_own_topics_and_no_others_whatever_else_is_allowed() {
    let devices = made(DeviceSettings::default());
    let list = AccessList::new(None, Some(NoMatch::Allow), DenyAction::Ignore);
    let publish = |subject: &Subject, topic: &str| {
        list.publish(subject, topic, QoS::AtLeastOnce, false) == PublishVerdict::Allow
    };
    let subscribe = |subject: &Subject, filter: &str| {
        let filter = SubscriptionFilter::parse(filter).unwrap();
        list.subscribe(subject, &filter, QoS::AtLeastOnce).is_ok()
    };
    let gw = subject(&devices, aliyun("gw-01", "old-secret", 0)).await;
    for topic in [
        "/sys/pk/gw-01/thing/event/property/post",
        "/pk/gw-01/user/up",
        "/shadow/update/pk/gw-01",
        "/ota/device/inform/pk/gw-01",
    ] {
        assert!(publish(&gw, topic), "{topic}");
    }
    for topic in [
        "/sys/pk/off/thing/event/property/post",
        "/pk/gw-01x/user/up",
        "site/7/up",
        "$oc/devices/gw-01/x",
        "$SYS/x",
        "/broadcast/pk/x",
    ] {
        assert!(!publish(&gw, topic), "{topic}");
    }
    for filter in [
        "/sys/pk/gw-01/thing/#",
        "/broadcast/pk/#",
        "/ext/rrpc/+/pk/gw-01/x",
    ] {
        assert!(subscribe(&gw, filter), "{filter}");
    }
    for filter in [
        "#",
        "/sys/+/+/thing/#",
        "/sys/pk/+/thing/#",
        "/broadcast/#",
        "$share/g/#",
    ] {
        assert!(!subscribe(&gw, filter), "{filter}");
    }
    let inputs = json!({"device_id": "5f_edge", "device_secret": "old-secret"});
    let huawei = subject(&devices, signed("huawei_iotda", inputs, 0)).await;
    assert!(publish(
        &huawei,
        "$oc/devices/5f_edge/sys/properties/report"
    ));
    assert!(subscribe(&huawei, "$oc/devices/5f_edge/sys/commands/#"));
    assert!(publish(&huawei, "line/7/x") && !publish(&huawei, "line/8/x"));
    assert!(!publish(
        &huawei,
        "$oc/devices/5f_other/sys/properties/report"
    ));
    let inputs =
        json!({"product_id": "PID", "device_name": "edge", "device_secret": "b2xkLXNlY3JldA=="});
    let tencent = subject(&devices, signed("tencent_iot", inputs, 0)).await;
    assert!(
        publish(&tencent, "PID/edge/event") && publish(&tencent, "$thing/up/property/PID/edge")
    );
    assert!(
        !publish(&tencent, "$thing/down/property/PID/edge")
            && subscribe(&tencent, "$thing/down/property/PID/edge")
    );
    assert!(
        !subscribe(&tencent, "$thing/up/property/PID/edge")
            && !subscribe(&tencent, "$thing/down/+/+/+")
    );
    let inputs =
        json!({"product_id": "pid", "device_name": "edge", "access_key": "b2xkLXNlY3JldA=="});
    let onenet = subject(&devices, signed("onenet", inputs, 0)).await;
    assert!(
        publish(&onenet, "$sys/pid/edge/thing/property/post")
            && !publish(&onenet, "$sys/pid/edgy/thing/property/post")
    );
}

#[test]
fn what_a_bridges_preset_may_publish_a_device_of_its_cloud_may() {
    use weir_sinks::bridge::preset::ALL;
    for scheme in Scheme::ALL
        .into_iter()
        .filter(|scheme| topics::has_own(*scheme))
    {
        let preset = ALL
            .iter()
            .find(|preset| preset.name == scheme.name())
            .unwrap();
        let acl = topics::acl(scheme, "T", "D", &[]).unwrap().unwrap();
        let client = Subject {
            client_id: Utf8::from("c"),
            username: None,
            peer: None,
            listener: "test".into(),
            certificate: None,
            identity: Arc::default(),
        };
        // A leading `!` and Azure's shared names are nobody's own.
        let own = |pattern: &&&str| {
            !pattern.starts_with(['!'])
                && !pattern.starts_with("$iothub")
                && !pattern.contains("module_id")
        };
        for pattern in preset.topics.iter().filter(own) {
            let mut topic = String::new();
            for part in pattern.split_inclusive('}') {
                let (text, place) = part.split_once('{').unwrap_or((part, ""));
                topic.push_str(text);
                topic.push_str(match place {
                    "" => "",
                    "product_key}" | "product_id}" => "T",
                    _ => "D",
                });
            }
            let topic = topic.replace('+', "update").replace('#', "x");
            assert_eq!(
                acl.publish(&client, &topic),
                Some(true),
                "{} {topic}",
                scheme.name()
            );
        }
    }
}

#[tokio::test]
async fn a_device_that_leaves_it_to_the_cloud_is_subscribed_to_its_own_topics() {
    let devices = made(DeviceSettings::default());
    let subscriptions = async |extra: serde_json::Value| {
        let inputs = json!({"product_key": "pk", "device_name": "gw-01", "device_secret": "old-secret", "extra": extra});
        let subject = subject(&devices, signed("aliyun_iot", inputs, 0)).await;
        let requests = subject.identity.subscriptions.clone();
        let list = AccessList::new(None, None, DenyAction::Ignore);
        for request in &requests {
            assert!(request.options.no_local, "it hears what it says itself");
            let allowed = list.subscribe(&subject, &request.filter, QoS::AtLeastOnce);
            assert!(allowed.is_ok(), "{}", request.filter);
        }
        requests.len()
    };
    assert_eq!(subscriptions(json!([["_ss", "1"]])).await, 5);
    assert_eq!(subscriptions(json!([["_ss", "0"]])).await, 0);
    assert_eq!(subscriptions(json!([])).await, 0);
}

const PRODUCT: &str = r#"
[[product]]
scheme = "aliyun_iot"
tenant_key = "pk"
secret = "product-secret"

[[device]]
scheme = "aliyun_iot"
tenant_key = "pk"
device = "gw-02"
secret = "its-own-secret"
register = true

[[device]]
scheme = "aliyun_iot"
tenant_key = "pk"
device = "gw-03"
secret = "its-own-secret"
"#;

#[tokio::test]
async fn a_device_that_knows_its_products_secret_is_told_its_own_and_may_do_nothing_else() {
    let table = Table::parse(&Text::new("devices.toml", PRODUCT));
    let table = table.unwrap_or_else(|problems| panic!("{problems:?}"));
    let devices = Devices::of(table, DeviceSettings::default());
    let asks = |device: &str, secret: &str| {
        let inputs = json!({"product_key": "pk", "device_name": device, "product_secret": secret});
        signed("aliyun_iot_dynreg", inputs, 0)
    };
    let request = asks("gw-02", "product-secret");
    let Decision::Allow(identity) = devices.authenticate(&request).await else {
        panic!("it is refused");
    };
    // The device itself may be connected meanwhile.
    assert_eq!(identity.session, None);
    assert!(identity.expires_at_s.unwrap() <= now_ms() / 1000 + 15);
    assert!(!format!("{identity:?}").contains("its-own-secret"));
    let told = identity.first_message.unwrap();
    assert_eq!(&*told.topic, "/ext/register");
    let told: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(
        told,
        json!({"productKey": "pk", "deviceName": "gw-02", "deviceSecret": "its-own-secret"})
    );
    let wrong = Some(ReasonCode::BadUserNameOrPassword);
    for (device, secret, reason) in [
        ("gw-02", "its-own-secret", "wrong_signature"),
        ("gw-03", "product-secret", "may_not_register"),
        ("gw-04", "product-secret", "unknown_device"),
    ] {
        assert_eq!(refusal(&devices, &asks(device, secret)).await, wrong);
        assert_eq!(counted(&devices, "aliyun_iot", reason), 1, "{device}");
    }
    let open = ConnectRequest {
        encrypted: false,
        ..asks("gw-02", "product-secret")
    };
    let refused = refusal(&devices, &open).await;
    assert_eq!(refused, Some(ReasonCode::ClientIdentifierNotValid));
}

#[tokio::test]
async fn a_device_that_is_new_is_told_a_token_and_comes_in_with_it() {
    let settings = DeviceSettings {
        allow_plain_provision: true,
        ..DeviceSettings::default()
    };
    let devices = Devices::of(table(PRODUCT), settings);
    let inputs = json!({"product_key": "pk", "device_name": "gw-02", "product_secret": "product-secret", "auth_type": "regnwl"});
    let request = ConnectRequest {
        encrypted: false,
        ..signed("aliyun_iot_dynreg", inputs, 0)
    };
    let Decision::Allow(identity) = devices.authenticate(&request).await else {
        panic!("it is refused");
    };
    let told = identity.first_message.unwrap();
    assert_eq!(&*told.topic, "/ext/regnwl");
    let told: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    let with = |token: &serde_json::Value| {
        let inputs = json!({"product_key": told["productKey"], "device_name": told["deviceName"],
            "client_id": told["clientId"], "device_token": token});
        signed("aliyun_iot_connwl", inputs, 0)
    };
    let Decision::Allow(identity) = devices.authenticate(&with(&told["deviceToken"])).await else {
        panic!("its token is not taken");
    };
    assert_eq!(identity.session.as_deref(), Some("aliyun_iot:pk:gw-02"));
    let wrong = refusal(&devices, &with(&json!("other"))).await;
    assert_eq!(wrong, Some(ReasonCode::BadUserNameOrPassword));
}

#[test]
fn a_product_that_cannot_be_and_a_device_that_cannot_register_are_told() {
    for (from, to, wanted) in [
        (
            "scheme = \"aliyun_iot\"",
            "scheme = \"tencent_iot\"",
            "only products of aliyun_iot",
        ),
        (
            "secret = \"product-secret\"",
            "secret = \"\"",
            "`secret` is empty",
        ),
        (
            "tenant_key = \"pk\"",
            "tenant_key = \"\"",
            "`tenant_key` is empty",
        ),
        ("[[product]]", "[product]", "`product` is one table"),
    ] {
        let text = PRODUCT.replacen(from, to, 1);
        let Err(problems) = Table::parse(&Text::new("devices.toml", text.as_str())) else {
            panic!("{text}");
        };
        assert!(problems[0].message.contains(wanted), "{problems:?}");
    }
}

#[tokio::test]
async fn strict_times_take_what_is_the_same_for_many_over_tls_alone() {
    let product =
        "[[product]]\nscheme = \"onenet\"\ntenant_key = \"pid\"\nsecret = \"cHJvZHVjdA==\"\n";
    let token = "[[token]]\nscheme = \"aliyun_mq\"\ntenant_key = \"post-cn-1\"\ndevice = \"GID_weir@@@edge\"\ntype = \"RW\"\ntoken = \"t\"\n";
    let devices = Devices::of(table(&format!("{product}{token}{TABLE}")), strict());
    let inputs = json!({"product_id": "pid", "device_name": "edge", "access_key": "cHJvZHVjdA==", "scope": "product"});
    let of_product = signed("onenet", inputs, 0);
    let inputs = json!({"group_id": "GID_weir", "device_id": "edge", "access_key": "k", "instance_id": "post-cn-1", "tokens": [["RW", "t"]]});
    let with_token = signed("aliyun_mq_token", inputs, 0);
    for (scheme, request) in [("onenet", of_product), ("aliyun_mq", with_token)] {
        let open = ConnectRequest {
            encrypted: false,
            ..request.clone()
        };
        let bad = Some(ReasonCode::BadUserNameOrPassword);
        assert_eq!(refusal(&devices, &open).await, bad, "{scheme}");
        assert_eq!(counted(&devices, scheme, "not_encrypted"), 1);
        assert_eq!(refusal(&devices, &request).await, None, "{scheme}");
    }
}
