use super::*;
use crate::config::connector::ConnectorConfig;

fn check(text: &str) -> Result<(BridgePlan, Vec<ConfigError>), Vec<ConfigError>> {
    match toml::from_str(&format!("type = \"mqtt\"\n{text}")).unwrap() {
        ConnectorConfig::Mqtt(config) => BridgePlan::check(&config),
        other => panic!("{other:?}"),
    }
}

fn errors(text: &str) -> Vec<(&'static str, String)> {
    check(text)
        .unwrap_err()
        .into_iter()
        .map(|error| (error.code, error.key))
        .collect()
}

const DEVICE: &str = "preset = \"aliyun_iot\"\nproduct_key = \"a1Example\"\ndevice_name = \"gw-01\"\ndevice_secret = \"s\"\n";

#[test]
fn the_presets_address_and_bounds_are_filled_in() {
    let (plan, warnings) = check(&format!("{DEVICE}region = \"cn-shanghai\"")).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(
        plan.addresses[0].to_string(),
        "mqtts://a1Example.iot-as-mqtt.cn-shanghai.aliyuncs.com:1883"
    );
    assert_eq!(
        (plan.qos_cap, plan.retain_allowed, plan.protocol),
        (1, false, Protocol::V311)
    );
    assert_eq!(
        (plan.keepalive, plan.backoff.spacing),
        (Duration::from_secs(300), Duration::from_secs(12))
    );
    let creds = plan
        .credentials
        .sign(Moment::at(1_700_000_000_000))
        .unwrap();
    assert!(
        creds.client_id.contains("securemode=2"),
        "{}",
        creds.client_id
    );
    let (plan, _) = check(&format!("{DEVICE}instance_id = \"iot-abc\"")).unwrap();
    assert_eq!(plan.addresses[0].host, "iot-abc.mqtt.iothub.aliyuncs.com");
}

#[test]
fn plain_tcp_to_a_cloud_is_allowed_with_a_warning_and_signs_mode_3() {
    let (plan, warnings) =
        check(&format!("{DEVICE}region = \"cn-shanghai\"\ntls = false")).unwrap();
    assert_eq!(warnings[0].key, "tls");
    assert!(
        plan.credentials
            .sign(Moment::at(0))
            .unwrap()
            .client_id
            .contains("securemode=3")
    );
    let (plan, _) = check(&format!("{DEVICE}addresses = [\"mqtt://127.0.0.1:2883\"]")).unwrap();
    assert!(
        plan.credentials
            .sign(Moment::at(0))
            .unwrap()
            .client_id
            .contains("securemode=3")
    );
    assert_eq!(
        plan.addresses[0],
        Address {
            host: "127.0.0.1".into(),
            port: 2883,
            tls: false
        }
    );
}

#[test]
fn the_clouds_hard_bounds_cannot_be_crossed() {
    let with = |line: &str| errors(&format!("{DEVICE}region = \"cn-shanghai\"\n{line}"));
    assert_eq!(with("keepalive = \"29s\""), [("E4105", "keepalive".into())]);
    assert_eq!(
        with("keepalive = \"1201s\""),
        [("E4105", "keepalive".into())]
    );
    assert_eq!(with("qos_cap = 2"), [("E4105", "qos_cap".into())]);
    assert_eq!(
        with("backoff = { base = \"5s\" }"),
        [("E4105", "backoff.base".into())]
    );
    assert_eq!(with("username = \"u\""), [("E4101", "username".into())]);
    assert_eq!(
        with("sign_method = \"sha256\""),
        [("E4101", "sign_method".into())]
    );
}

#[test]
fn what_is_not_supported_yet_is_refused_and_not_ignored() {
    let with = |line: &str| {
        errors(&format!(
            "addresses = [\"mqtt://h\"]\nclient_id = \"w\"\n{line}"
        ))
    };
    assert_eq!(
        with("in = [{ filter = \"a/#\" }]"),
        [("E4102", "in".into())]
    );
    assert_eq!(
        with("out = [{ filter = \"a/#\" }]"),
        [("E4102", "out".into())]
    );
    assert_eq!(with("start = \"lazy\""), [("E4102", "start".into())]);
    assert_eq!(
        with("clean_start = false"),
        [("E4102", "clean_start".into())]
    );
    assert_eq!(
        errors("preset = \"clearblade\""),
        [("E4102", "preset".into())]
    );
    assert_eq!(errors("preset = \"azur\""), [("E4101", "preset".into())]);
    assert!(check("addresses = [\"mqtt://h\"]\nclient_id = \"w\"\nin = []\nout = []").is_ok());
}

#[test]
fn addresses_are_checked() {
    let with = |list: &str| errors(&format!("client_id = \"w\"\naddresses = {list}"));
    assert_eq!(with("[]"), [("E3003", "addresses".into())]);
    assert_eq!(with("[\"ws://h\"]"), [("E4101", "addresses".into())]);
    assert_eq!(with("[\"mqtt://u:p@h\"]"), [("E4101", "addresses".into())]);
    assert_eq!(
        with("[\"mqtt://a\", \"mqtts://b\"]"),
        [("E4101", "addresses".into())]
    );
    assert_eq!(
        errors("client_id = \"w\"\ntls = false\naddresses = [\"mqtts://h\"]"),
        [("E4101", "tls".into())]
    );
    assert_eq!(
        errors("addresses = [\"mqtt://h\"]"),
        [("E3003", "client_id".into())]
    );
    let (plan, _) = check("client_id = \"w\"\naddresses = [\"mqtts://[::1]\"]").unwrap();
    assert_eq!(
        plan.addresses[0],
        Address {
            host: "::1".into(),
            port: 8883,
            tls: true
        }
    );
}

#[test]
fn keys_of_a_cloud_need_its_preset() {
    let found = errors(
        "addresses = [\"mqtt://h\"]\nclient_id = \"w\"\nproduct_key = \"p\"\nregion = \"r\"",
    );
    let keys: Vec<_> = found.into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys, ["product_key", "region"]);
}
