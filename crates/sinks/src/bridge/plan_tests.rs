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
fn a_certificate_of_aliyun_needs_no_secret_and_goes_to_its_own_host() {
    let device = DEVICE.replace("device_secret = \"s\"\n", "");
    let tls = "tls = { cert = \"d.pem\", key = \"d.key\" }\n";
    let (plan, _) = check(&format!("{device}{tls}")).unwrap();
    let host = "mqtts://x509.itls.cn-shanghai.aliyuncs.com:1883";
    assert_eq!(plan.addresses[0].to_string(), host);
    let creds = plan.credentials.sign(Moment::at(0)).unwrap();
    assert_eq!(creds.client_id, "a1Example.gw-01|securemode=2|");
    assert_eq!(creds.username.as_deref(), Some("gw-01&a1Example"));
    assert_eq!(creds.password, None);
    let elsewhere = errors(&format!("{device}{tls}region = \"us-west-1\"\n"));
    assert_eq!(elsewhere, [(codes::BOUND, "region".to_owned())]);
    let open = errors(&format!("{device}{tls}addresses = [\"mqtt://h\"]\n"));
    assert_eq!(open, [(codes::BRIDGE, "addresses".to_owned())]);
    // With a secret the certificate is beside it.
    let (plan, _) = check(&format!("{DEVICE}{tls}region = \"cn-shanghai\"")).unwrap();
    let creds = plan
        .credentials
        .sign(Moment::at(1_700_000_000_000))
        .unwrap();
    assert!(creds.password.is_some());
    let nothing = errors(&format!("{device}region = \"cn-shanghai\"\n"));
    assert_eq!(nothing, [(codes::KEY_MISSING, "device_secret".to_owned())]);
}

#[test]
fn when_a_bridge_connects_is_what_its_file_says() {
    const HQ: &str = "addresses = [\"mqtt://h\"]\nclient_id = \"w\"\n";
    const OUT: &str = "[[out]]\nfilter = \"a/#\"\n";
    let start = |line: &str| check(&format!("{HQ}{line}{OUT}")).unwrap().0.start;
    assert_eq!(start(""), Start::Automatic);
    assert_eq!(start("start = \"automatic\"\n"), Start::Automatic);
    assert_eq!(start("start = \"once\"\n"), Start::Once);
    assert_eq!(start("start = \"manual\"\n"), Start::Manual);
    let lazy = |threshold, seconds| Start::Lazy {
        threshold,
        idle_timeout: Duration::from_secs(seconds),
    };
    assert_eq!(start("start = \"lazy\"\n"), lazy(10, 60));
    let given = "start = \"lazy\"\nthreshold = 1\nidle_timeout = \"5s\"\n";
    assert_eq!(start(given), lazy(1, 5));
    let wrong = |lines: &str| errors(&format!("{HQ}{lines}"));
    for mode in ["automatic", "once", "manual"] {
        let lines = format!("start = \"{mode}\"\nthreshold = 1\nidle_timeout = \"5s\"\n");
        let both = ["threshold", "idle_timeout"].map(|key| (codes::START, key.to_owned()));
        assert_eq!(wrong(&lines), both, "{mode}");
    }
    let lines =
        "start = \"lazy\"\nthreshold = 0\nidle_timeout = \"500ms\"\n[[in]]\nfilter = \"a\"\n";
    let all = [
        (codes::START, "start"),
        (codes::BAD_VALUE, "threshold"),
        (codes::BAD_VALUE, "idle_timeout"),
    ];
    assert_eq!(wrong(lines), all.map(|(code, key)| (code, key.to_owned())));
    let lines = "start = \"lazy\"\nqueue = { store_qos0 = false }\n";
    let (_, warnings) = check(&format!("{HQ}{lines}{OUT}")).unwrap();
    assert_eq!(warnings[0].code, "W4111");
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
            tls: false,
            web_socket: None,
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
    assert_eq!(with("[\"http://h\"]"), [("E4101", "addresses".into())]);
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
            tls: true,
            web_socket: None,
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

#[test]
fn each_cloud_signs_from_its_own_keys_and_finds_its_address() {
    for (text, address, client_id) in [
        (
            "preset = \"tencent_iot\"\nproduct_id = \"P\"\ndevice_name = \"d\"\ndevice_secret = \"c2VjcmV0\"",
            "mqtts://P.iotcloud.tencentdevices.com:8883",
            "Pd",
        ),
        (
            "preset = \"baidu_iotcore\"\ncore_id = \"c\"\ndevice_key = \"d\"\ndevice_secret = \"s\"",
            "mqtts://c.iot.gz.baidubce.com:1884",
            "d",
        ),
        (
            "preset = \"azure_iothub\"\nhost = \"h.azure-devices.net\"\ndevice_id = \"d\"\nkey = \"c2VjcmV0\"",
            "mqtts://h.azure-devices.net:8883",
            "d",
        ),
        (
            "preset = \"aliyun_mq\"\ninstance_id = \"i\"\ngroup_id = \"G\"\ndevice_id = \"d\"\naccess_key = \"a\"\naccess_secret = \"s\"",
            "mqtts://i.mqtt.aliyuncs.com:8883",
            "G@@@d",
        ),
        (
            "preset = \"onenet\"\naddresses = [\"mqtts://o:8883\"]\nproduct_id = \"P\"\ndevice_name = \"d\"\naccess_key = \"c2VjcmV0\"",
            "mqtts://o:8883",
            "d",
        ),
        (
            "preset = \"thingsboard\"\naddresses = [\"mqtts://t\"]\naccess_token = \"T\"",
            "mqtts://t:8883",
            "",
        ),
    ] {
        let (plan, warnings) = check(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(warnings, [], "{text}");
        assert_eq!(plan.addresses[0].to_string(), address);
        let at = Moment::at(1_700_000_000_000);
        assert_eq!(plan.credentials.sign(at).unwrap().client_id, client_id);
    }
}

#[test]
fn what_an_access_key_of_aws_signs_is_asked_for_in_a_web_socket() {
    let keys = "preset = \"aws_iot\"\nclient_id = \"c\"\nregion = \"eu-west-1\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"\n";
    let (plan, warnings) = check(&format!("{keys}host = \"a.example\"")).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(plan.addresses[0].to_string(), "wss://a.example:443/mqtt");
    assert_eq!(
        errors(&format!("{keys}addresses = [\"mqtts://a.example:443\"]")),
        [("E4101", "addresses".into())]
    );
    // After a failover it would be an unsigned CONNECT.
    assert_eq!(
        errors(&format!(
            "{keys}addresses = [\"wss://a.example\", \"mqtts://b.example:8883\"]"
        )),
        [("E4101", "addresses".into())]
    );
    let authorizer =
        "preset = \"aws_iot\"\nclient_id = \"c\"\nhost = \"a.example\"\nauthorizer = \"A\"";
    let (plan, _) = check(authorizer).unwrap();
    assert_eq!(plan.addresses[0].to_string(), "mqtts://a.example:443");
}

#[test]
fn aws_names_its_protocol_on_port_443_alone() {
    let with = |port: u16| {
        let text = format!(
            "preset = \"aws_iot\"\nclient_id = \"c\"\naddresses = [\"mqtts://h:{port}\"]\ntls = {{ cert = \"c\", key = \"k\" }}"
        );
        let (plan, _) = check(&text).unwrap();
        plan.credentials.sign(Moment::at(0)).unwrap().alpn.unwrap()
    };
    assert_eq!(with(443).as_deref(), Some("x-amzn-mqtt-ca"));
    assert_eq!(with(8883), None);
    let certificate = "preset = \"aws_iot\"\nclient_id = \"c\"\ntls = { cert = \"c\", key = \"k\" }\naddresses = ";
    assert_eq!(
        errors(&format!("{certificate}[\"mqtts://h\", \"wss://h\"]")),
        [("E4101", "addresses".into())]
    );
    assert_eq!(
        errors("preset = \"aws_iot\"\nclient_id = \"c\"\nhost = \"h\""),
        [("E3003", "tls.cert".into())]
    );
}

#[test]
fn soft_bounds_warn_and_bad_secrets_are_refused_by_the_file() {
    let tencent = "preset = \"tencent_iot\"\nproduct_id = \"P\"\ndevice_name = \"d\"\n";
    let (_, warnings) = check(&format!(
        "{tencent}device_secret = \"c2VjcmV0\"\nrate = 100"
    ))
    .unwrap();
    assert_eq!(
        (warnings[0].code, warnings[0].key.as_str()),
        ("W4102", "rate")
    );
    let hard = errors(&format!(
        "{tencent}device_secret = \"c2VjcmV0\"\nkeepalive = \"59s\""
    ));
    assert_eq!(hard, [("E4105", "keepalive".into())]);
    let bad = errors(&format!("{tencent}device_secret = \"hunter2\""));
    assert_eq!(bad, [("E4101", "device_secret".into())]);
    assert_eq!(errors(tencent), [("E3003", "device_secret".into())]);
    assert_eq!(
        errors("preset = \"google_iot\""),
        [("E4101", "preset".into())]
    );
    let strange = errors(&format!(
        "{tencent}device_secret = \"c2VjcmV0\"\ncore_id = \"c\""
    ));
    assert_eq!(strange, [("E4101", "core_id".into())]);
}

fn plain(more: &str) -> String {
    format!("addresses = [\"mqtt://h\"]\nclient_id = \"w\"\n{more}")
}

#[test]
fn the_remote_keeps_a_session_where_topics_cross_by_themselves() {
    assert!(check(&plain("")).unwrap().0.clean_start);
    for more in ["in = [{ filter = \"a\" }]", "out = [{ filter = \"a\" }]"] {
        let plan = check(&plain(more)).unwrap().0;
        assert!(!plan.clean_start, "{more}");
        assert_eq!(plan.session_expiry.as_secs(), 3600);
    }
    let plan = check(&plain("clean_start = true\nin = [{ filter = \"a\" }]"))
        .unwrap()
        .0;
    assert!(plan.clean_start);
}

#[test]
fn what_goes_out_and_would_come_back_is_refused_where_the_remote_may_send_it_back() {
    let both = |more: &str| {
        plain(&format!(
            "{more}\nin = [{{ filter = \"#\" }}]\nout = [{{ filter = \"up/#\" }}]"
        ))
    };
    for more in ["", "protocol = \"auto\"", "protocol = \"3.1.1\""] {
        assert_eq!(
            errors(&both(more)),
            [("E4114", "in[0].filter".into())],
            "{more}"
        );
    }
    for more in [
        "protocol = \"5\"",
        "protocol = \"3.1.1\"\nbridge_flag = true",
        "protocol = \"3.1.1\"\necho_guard = true",
        "echo_guard = true",
    ] {
        assert!(check(&both(more)).is_ok(), "{more}");
    }
    let shared = plain(
        "protocol = \"5\"\nin = [{ filter = \"#\", share = \"g\" }]\nout = [{ filter = \"up/#\" }]",
    );
    assert_eq!(errors(&shared), [("E4114", "in[0].filter".into())]);
    let guarded = shared.replace("protocol = \"5\"", "echo_guard = true");
    // Another one of the group may get it.
    assert_eq!(errors(&guarded), [("E4114", "in[0].filter".into())]);
    let apart = plain("in = [{ filter = \"down/#\" }]\nout = [{ filter = \"up/#\" }]");
    assert!(check(&apart).is_ok());
}

#[test]
fn entries_are_held_to_the_bridges_bounds_and_to_the_device() {
    assert_eq!(
        errors(&plain("qos_cap = 1\nin = [{ filter = \"a\", qos = 2 }]")),
        [("E4101", "in[0].qos".into())]
    );
    assert_eq!(
        errors(&plain("queue = { max_bytes = \"1MB\" }")),
        [("E4101", "queue".into())]
    );
    let ttl = |ttl: &str| {
        plain(&format!(
            "queue = {{ ttl = \"{ttl}\" }}\nout = [{{ filter = \"a\" }}]"
        ))
    };
    for short in ["0s", "999ms"] {
        assert_eq!(errors(&ttl(short)), [("E3004", "queue.ttl".into())]);
    }
    assert!(check(&ttl("1s")).is_ok());
    let (_, warnings) = check(&plain("in = [{ filter = \"a/#\" }, { filter = \"a/b\" }]")).unwrap();
    assert_eq!(
        (warnings[0].code, &*warnings[0].key),
        ("W4103", "in[1].filter")
    );
}

#[test]
fn a_forced_qos_raises_and_lowers_what_leaves_and_stays_below_the_cap() {
    let (plan, _) = check(&plain(
        "out = [{ filter = \"a\", qos_force = 1 }, { filter = \"b\", qos = 1 }]",
    ))
    .unwrap();
    assert_eq!([0, 1, 2].map(|qos| plan.out[0].leaves_with(qos)), [1, 1, 1]);
    assert_eq!([0, 1, 2].map(|qos| plan.out[1].leaves_with(qos)), [0, 1, 1]);
    for wrong in [
        "qos_cap = 1\nout = [{ filter = \"a\", qos_force = 2 }]",
        "out = [{ filter = \"a\", qos_force = 1, qos = 1 }]",
    ] {
        assert_eq!(
            errors(&plain(wrong)),
            [("E4101", "out[0].qos_force".into())]
        );
    }
    let inbound = "in = [{ filter = \"a\", qos_force = 1 }]";
    assert_eq!(
        errors(&plain(inbound)),
        [("E4101", "in[0].qos_force".into())]
    );
}

#[test]
fn azure_is_told_the_topic_that_a_message_had_here() {
    let device =
        "preset = \"azure_iothub\"\nhost = \"h.example\"\ndevice_id = \"d\"\nkey = \"a2V5\"\n";
    let name = |more: &str, entry: &str| {
        let (plan, _) = check(&format!("{device}{more}[[out]]\n{entry}")).unwrap();
        plan.out[0]
            .map
            .apply("line/7 a", Default::default())
            .unwrap()
    };
    let fixed = "filter = \"line/#\"\nremote_topic = \"devices/d/messages/events/\"\n";
    let events = "devices/d/messages/events/";
    assert_eq!(name("", fixed), format!("{events}wt=line%2F7%20a"));
    assert_eq!(name("carry_topic = false\n", fixed), events);
    let prefix = "filter = \"line/#\"\nremote_prefix = \"devices/d/messages/events/\"\n";
    assert_eq!(name("", prefix), format!("{events}wt=line%2F7%20a"));
    let typed = "filter = \"line/#\"\nremote_topic = \"devices/d/messages/events/$.ct=json\"\n";
    assert_eq!(
        name("", typed),
        format!("{events}$.ct=json&wt=line%2F7%20a")
    );
    let own = "filter = \"line/#\"\nremote_topic = \"devices/d/messages/events/wt=x\"\n";
    assert_eq!(name("", own), format!("{events}wt=x"));
    let answers = "filter = \"line/#\"\nremote_topic = \"$iothub/methods/res/200/\"\n";
    assert_eq!(name("", answers), "$iothub/methods/res/200/");
    let elsewhere = errors("addresses = [\"mqtt://h\"]\nclient_id = \"c\"\ncarry_topic = true\n");
    assert_eq!(elsewhere, [(codes::BRIDGE, "carry_topic".to_owned())]);
}

#[test]
fn an_option_that_would_do_nothing_is_refused() {
    let both = "in = [{ filter = \"down/#\" }]\nout = [{ filter = \"up/#\" }]";
    for key in ["echo_guard", "dedupe_retained", "initial_retained"] {
        let plan = check(&plain(&format!("{key} = true\n{both}"))).unwrap().0;
        let is_on = [plan.echo_guard, plan.dedupe_retained, plan.initial_retained];
        assert_eq!(is_on.iter().filter(|is_on| **is_on).count(), 1, "{key}");
        let alone = plain(&format!("{key} = true"));
        assert_eq!(errors(&alone), [("E4101", key.to_owned())]);
        for more in ["protocol = \"5\"", "bridge_flag = true"] {
            let text = plain(&format!("{key} = true\n{more}\n{both}"));
            if key == "initial_retained" {
                assert!(check(&text).is_ok(), "{more}");
            } else {
                assert_eq!(errors(&text), [("E4101", key.to_owned())], "{more}");
            }
        }
        let off = plain(&format!("{key} = false\nprotocol = \"5\""));
        assert!(check(&off).is_ok(), "{key}");
    }
    let plan = check(&plain(both)).unwrap().0;
    assert!(!plan.echo_guard && !plan.dedupe_retained && !plan.initial_retained);
}

#[test]
fn a_remote_shows_the_state_of_the_link_where_it_takes_a_will() {
    let status = "status = { remote = true }";
    let (with, _) = check(&plain(status)).unwrap();
    assert_eq!(with.remote_status, Some(RemoteStatus::default()));
    let (without, _) = check(&plain("")).unwrap();
    assert_eq!(without.remote_status, None);
    assert_eq!(
        errors(&format!("{DEVICE}region = \"cn-shanghai\"\n{status}")),
        [(codes::BOUND, "status.remote".to_owned())]
    );
    assert_eq!(
        errors(&plain("status = { remote = true, topic = \"a/+\" }")),
        [(codes::BRIDGE, "status.topic".to_owned())]
    );
    assert_eq!(
        errors(&plain("status = { topic = \"a\" }")),
        [(codes::BRIDGE, "status.topic".to_owned())]
    );
    let azure = "preset = \"azure_iothub\"\nhost = \"h.azure-devices.net\"\ndevice_id = \"d\"\nkey = \"c2VjcmV0\"\n";
    assert_eq!(
        errors(&format!("{azure}{status}")),
        [(codes::KEY_MISSING, "status.topic".to_owned())]
    );
    let of_another = "status = { remote = true, topic = \"devices/other/messages/events/\" }";
    assert_eq!(
        errors(&format!("{azure}{of_another}")),
        [(codes::TOPIC_NOT_OWNED, "status.topic".to_owned())]
    );
}

#[test]
fn what_is_signed_follows_the_address_where_the_file_does_not_say() {
    let keys = "preset = \"aws_iot\"\nclient_id = \"c\"\nregion = \"eu-west-1\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"\n";
    let two = "addresses = [\"wss://one.example\", \"wss://two.example\"]\n";
    let hosts = |text: &str| {
        let (plan, _) = check(text).unwrap();
        let sign = |address| {
            let at = Moment {
                now_ms: 1_700_000_000_000,
                random: 0,
            };
            let creds = plan.credentials.sign_for(address, at).unwrap();
            let url = creds.url.unwrap();
            url.split(['/', ':']).nth(3).unwrap().to_owned()
        };
        plan.addresses.iter().map(sign).collect::<Vec<_>>()
    };
    assert_eq!(
        hosts(&format!("{keys}{two}")),
        ["one.example", "two.example"]
    );
    let given = format!("{keys}{two}host = \"account.example\"");
    assert_eq!(hosts(&given), ["account.example", "account.example"]);
}

#[test]
fn a_protocol_that_a_cloud_does_not_take_on_that_port_is_warned_of() {
    let warned = |port: u16, alpn: &str| {
        let text = format!(
            "preset = \"aws_iot\"\nclient_id = \"c\"\naddresses = [\"mqtts://h.example:{port}\"]\n\
             tls = {{ cert = \"c.pem\", key = \"c.key\"{alpn} }}"
        );
        let (_, warnings) = check(&text).unwrap();
        let about = warnings
            .into_iter()
            .map(|warning| (warning.code, warning.key));
        about.collect::<Vec<_>>()
    };
    let mqtt = ", alpn = [\"mqtt\"]";
    assert_eq!(warned(443, mqtt), [("W4101", "tls.alpn".to_owned())]);
    assert_eq!(warned(443, ", alpn = [\"x-amzn-mqtt-ca\"]"), []);
    assert_eq!(warned(443, ""), []);
    assert_eq!(warned(8883, mqtt), []);
}

#[test]
fn a_table_about_tls_that_no_address_uses_is_warned_of() {
    let warned = |scheme: &str| {
        let text = format!(
            "addresses = [\"{scheme}://h\"]\nclient_id = \"c\"\ntls = {{ ca = \"ca.pem\" }}"
        );
        let (_, warnings) = check(&text).unwrap();
        let about = warnings.into_iter().map(|w| (w.code, w.key));
        about.collect::<Vec<_>>()
    };
    assert_eq!(warned("mqtt"), [("W4101", "tls".to_owned())]);
    assert_eq!(warned("mqtts"), []);
}

#[test]
fn what_no_handshake_can_carry_is_refused() {
    let text = "addresses = [\"mqtts://h\"]\nclient_id = \"c\"\ntls = { server_name = \"a b\", alpn = [\"\"] }";
    let keys = ["tls.server_name", "tls.alpn"].map(|key| ("E3004", key.to_owned()));
    assert_eq!(errors(text), keys);
}

#[test]
fn two_bridges_that_sign_as_one_client_of_aws_are_known_as_one() {
    let text = "type = \"mqtt\"\npreset = \"aws_iot\"\nclient_id = \"c\"\nhost = \"h.example\"\nregion = \"r\"\n\
                access_key_id = \"k\"\nsecret_access_key = \"s\"";
    let ConnectorConfig::Mqtt(config) = toml::from_str(text).unwrap() else {
        unreachable!()
    };
    assert_eq!(config.remote_clients(), ["c at h.example"]);
}
