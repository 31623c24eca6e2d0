//! What clouds take, as a connector's file and a rule's sink are held to it.

use weir_sinks::bridge::plan::BridgePlan;
use weir_sinks::{ConfigError, ConnectorConfig, SinkConfig};

const ALIYUN: &str = "preset = \"aliyun_iot\"\nproduct_key = \"pk\"\ndevice_name = \"gw01\"\ndevice_secret = \"s\"\nregion = \"cn-shanghai\"\n";
const AZURE: &str = "preset = \"azure_iothub\"\nhost = \"h.azure-devices.net\"\ndevice_id = \"d\"\nkey = \"c2VjcmV0\"\n";
const AWS: &str =
    "preset = \"aws_iot\"\nclient_id = \"c\"\nhost = \"h\"\ntls = { cert = \"c\", key = \"k\" }\n";
const TENCENT: &str = "preset = \"tencent_iot\"\nproduct_id = \"P\"\ndevice_name = \"d\"\ndevice_secret = \"c2VjcmV0\"\n";
const HUAWEI: &str = "preset = \"huawei_iotda\"\naddresses = [\"mqtts://h\"]\ndevice_id = \"d\"\ndevice_secret = \"s\"\n";

fn config(text: &str) -> ConnectorConfig {
    toml::from_str(&format!("type = \"mqtt\"\n{text}")).unwrap()
}

/// Codes and keys of the mistakes, or of the warnings where there is none.
fn said(text: &str) -> Vec<(&'static str, String)> {
    let ConnectorConfig::Mqtt(config) = config(text) else {
        unreachable!()
    };
    let said = match BridgePlan::check(&config) {
        Ok((_, warnings)) => warnings,
        Err(errors) => errors,
    };
    of(said)
}

fn of(said: Vec<ConfigError>) -> Vec<(&'static str, String)> {
    said.into_iter()
        .map(|error| (error.code, error.key))
        .collect()
}

fn inbound(preset: &str, filters: impl IntoIterator<Item = String>) -> String {
    let entries = filters
        .into_iter()
        .map(|filter| format!("[[in]]\nfilter = \"{filter}\"\nrules_only = true\n"));
    format!("{preset}{}", entries.collect::<String>())
}

#[test]
fn a_rate_over_what_the_cloud_takes_at_qos_1_is_warned_of() {
    let with = |rate: u32, more: &str| said(&format!("{ALIYUN}rate = {rate}\n{more}"));
    for rate in [11, 30, 31] {
        assert_eq!(with(rate, ""), [("W4102", "rate".into())], "{rate}");
    }
    assert_eq!(with(10, ""), []);
    // Nothing leaves at QoS 1.
    assert_eq!(with(30, "qos_cap = 0"), []);
    assert_eq!(with(31, "qos_cap = 0"), [("W4102", "rate".into())]);
}

#[test]
fn more_bytes_a_second_than_the_cloud_takes_are_warned_of() {
    for (preset, most) in [(ALIYUN, 1_000_000), (AWS, 512_000), (HUAWEI, 125_000)] {
        let with = |bytes: u32| said(&format!("byte_rate = \"{bytes}B\"\n{preset}"));
        assert_eq!(with(most), [], "{preset}");
        assert_eq!(with(most + 1), [("W4102", "byte_rate".into())], "{preset}");
    }
    assert_eq!(
        said(&format!("byte_rate = \"0B\"\n{ALIYUN}")),
        [("E3004", "byte_rate".into())]
    );
}

#[test]
fn more_filters_than_the_cloud_takes_are_refused_or_warned_of() {
    let many = |preset: &str, prefix: &str, many: usize| {
        let filters = (0..many).map(|number| format!("{prefix}{number}"));
        let said = said(&inbound(preset, filters));
        said.into_iter()
            .filter(|(_, key)| key == "in")
            .collect::<Vec<_>>()
    };
    assert_eq!(many(AWS, "a/", 50), []);
    assert_eq!(many(AWS, "a/", 51), [("E4105", "in".into())]);
    let azure = "devices/d/messages/devicebound/";
    assert_eq!(many(AZURE, azure, 5), []);
    assert_eq!(many(AZURE, azure, 6), [("E4105", "in".into())]);
    for (preset, prefix, most) in [
        (ALIYUN, "/pk/gw01/user/", 100),
        (TENCENT, "P/d/", 100),
        (HUAWEI, "$oc/devices/d/user/", 50),
    ] {
        assert_eq!(many(preset, prefix, most), [], "{preset}");
        assert_eq!(
            many(preset, prefix, most + 1),
            [("W4102", "in".into())],
            "{preset}"
        );
    }
}

#[test]
fn a_filter_that_the_cloud_gives_another_device_is_refused() {
    let one = |preset: &str, filter: &str| said(&inbound(preset, [filter.to_owned()]));
    for (preset, filters) in [
        (
            ALIYUN,
            &[
                "/pk/gw01/user/get",
                "/sys/pk/gw01/#",
                "/sys/pk/gw01/rrpc/request/+",
                "/shadow/get/pk/gw01",
                "/broadcast/pk/#",
                "/broadcast/pk/news",
                "/ota/device/upgrade/pk/gw01",
                "/ext/session/pk/gw01/combine/login_reply",
            ][..],
        ),
        (
            TENCENT,
            &[
                "P/d/control",
                "$thing/down/property/P/d",
                "$shadow/operation/result/P/d",
                "$ota/update/P/d",
                "$broadcast/rxd/P/d",
                "$rrpc/rxd/P/d/+",
                "$sys/operation/result/P/d",
                "$gateway/operation/result/P/d",
            ],
        ),
        (HUAWEI, &["$oc/devices/d/sys/commands/#", "my/own/#", "#"]),
        (
            AZURE,
            &[
                "devices/d/messages/devicebound/#",
                "$iothub/twin/res/#",
                "$iothub/twin/PATCH/properties/desired/#",
                "$iothub/methods/POST/#",
            ],
        ),
        (AWS, &["#", "plant/+", "$aws/things/t/shadow/update/delta"]),
    ] {
        for filter in filters {
            assert_eq!(one(preset, filter), [], "{filter}");
        }
    }
    for (preset, filters) in [
        (
            ALIYUN,
            &[
                "/pk/other/user/get",
                "/sys/pk/+/thing/#",
                "/sys/#",
                "#",
                "+/pk/gw01/#",
                "/broadcast/other/#",
                "sys/pk/gw01/#",
            ][..],
        ),
        (
            TENCENT,
            &["P/e/control", "P/+/control", "$thing/down/+/P/e", "news"],
        ),
        (HUAWEI, &["$oc/devices/e/sys/commands/#", "$oc/#"]),
        (
            AZURE,
            &[
                "devices/e/messages/devicebound/#",
                "devices/d/#",
                "devices/d/messages/events/#",
                "$iothub/#",
                "telemetry",
            ],
        ),
        (AWS, &["$aws/#", "$aws/other/t"]),
    ] {
        for filter in filters {
            assert_eq!(
                one(preset, filter),
                [("E4104", "in[0].filter".into())],
                "{filter}"
            );
        }
    }
    // Within one of the four: nobody says whether the hub takes it.
    assert_eq!(
        one(AZURE, "$iothub/methods/POST/reboot/#"),
        [("W4102", "in[0].filter".into())]
    );
}

#[test]
fn aws_keeps_topics_for_itself_and_retains_none_of_them() {
    let out = |more: &str| said(&format!("{AWS}[[out]]\nfilter = \"a/#\"\n{more}"));
    assert_eq!(out("remote_prefix = \"$aws/rules/r/\""), []);
    assert_eq!(out("remote_prefix = \"$aws/things/t/shadow/\""), []);
    assert_eq!(
        out("remote_prefix = \"$aws/own/\""),
        [("E4104", "out[0].filter".into())]
    );
    assert_eq!(out("retain = \"set\""), []);
    assert_eq!(
        out("retain = \"set\"\nremote_prefix = \"$aws/rules/r/\""),
        [("E4105", "out[0].retain".into())]
    );
    let aws = config(AWS);
    let sink = |text: &str| {
        let config: SinkConfig =
            toml::from_str(&format!("connector = \"far\"\nqos = 1\n{text}")).unwrap();
        config
            .check(Some(&aws))
            .map_or_else(of, |(_, said)| of(said))
    };
    assert_eq!(sink("topic = \"$aws/rules/r/${device}\""), []);
    assert_eq!(sink("topic = \"t/${device}\"\nretain = true"), []);
    assert_eq!(
        sink("topic = \"$aws/own/${device}\""),
        [("E4104", "topic".into())]
    );
    assert_eq!(
        sink("topic = \"$aws/rules/r/${device}\"\nretain = true"),
        [("E4105", "retain".into())]
    );
}
