//! A second weir as the clouds: bridges of every signing preset sign in to it, and it checks what they sign.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use weir_test_support::{
    Answer, Authority, CLOUD_DEVICES, LinePublisher, Site, Webhook, Weir, wait_until,
};

use crate::WEIR;

const DEADLINE: Duration = Duration::from_secs(120);

/// A preset, what its connector file says besides, and a topic that the cloud takes. `TLS` in the keys: over TLS.
const PRESETS: [(&str, &str, &str); 11] = [
    (
        "aliyun_iot",
        "product_key = \"a1Example\"\ndevice_name = \"gw-01\"\ndevice_secret = \"device-secret\"\n",
        "/sys/a1Example/gw-01/thing/event/property/post",
    ),
    (
        "aliyun_mq",
        "group_id = \"GID_weir\"\ndevice_id = \"edge\"\naccess_key = \"LTAI\"\naccess_secret = \"device-secret\"\ninstance_id = \"post-cn-1\"\n",
        "weir/up",
    ),
    (
        "tencent_iot",
        "product_id = \"WEIRPROD01\"\ndevice_name = \"edge\"\ndevice_secret = \"ZGV2aWNlLXNlY3JldA==\"\n",
        "$thing/up/property/WEIRPROD01/edge",
    ),
    (
        "huawei_iotda",
        "device_id = \"5f_edge\"\ndevice_secret = \"device-secret\"\n",
        "$oc/devices/5f_edge/sys/messages/up",
    ),
    (
        "onenet",
        "product_id = \"pid\"\ndevice_name = \"edge\"\naccess_key = \"ZGV2aWNlLXNlY3JldA==\"\n",
        "$sys/pid/edge/thing/property/post",
    ),
    (
        "baidu_iotcore",
        "core_id = \"core\"\ndevice_key = \"edge\"\ndevice_secret = \"device-secret\"\n",
        "$iot/edge/events",
    ),
    (
        "azure_iothub",
        "host = \"hub.example\"\ndevice_id = \"edge\"\nkey = \"ZGV2aWNlLXNlY3JldA==\"\nTLS",
        "devices/edge/messages/events/",
    ),
    (
        "aws_iot",
        "client_id = \"edge-aws\"\nCERTIFICATE",
        "site/7/up",
    ),
    (
        "thingsboard",
        "client_id = \"edge-tb\"\naccess_token = \"A1_TEST_TOKEN\"\n",
        "v1/devices/me/telemetry",
    ),
    (
        "cumulocity",
        "client_id = \"edge-c8y\"\ntenant = \"t1\"\nuser = \"edge\"\npassword = \"device-secret\"\n",
        "s/us",
    ),
    (
        "plain",
        "client_id = \"edge-plain\"\nusername = \"t1/edge\"\npassword = \"device-secret\"\n",
        "any/topic",
    ),
];

/// The broker that stands in for the clouds.
struct Cloud {
    weir: Weir,
    site: Site,
    authority: Authority,
    /// Knows the tokens of ThingsBoard.
    tokens: Webhook,
}

impl Cloud {
    async fn start(devices: &str, time_check: &str) -> Self {
        let (site, authority) = (Site::new(), Authority::new());
        authority.server("server", &["localhost"]);
        authority.client("device", "edge-aws", 1);
        authority.revoke(&[]);
        let tokens = Webhook::start().await;
        tokens.answer_always(Answer::status(200));
        let config = format!(
            "http.bind = \"127.0.0.1:0\"\ndata_dir = \"data\"\n\
             [[listeners]]\nbind = \"127.0.0.1:0\"\n\
             [[listeners]]\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\
             client_auth = \"optional\"\nclient_ca = \"{ca}\"\ncrl = \"{revoked}\"\n\
             [auth]\nno_match = \"allow\"\npassword_file = \"users\"\n\
             [auth.x509]\n\
             [auth.devices]\nfile = \"devices.toml\"\ntime_check = \"{time_check}\"\nskew = \"0s\"\n\
             [auth.http]\nurl = \"{url}\"\n",
            cert = authority.text("server.pem"),
            key = authority.text("server.key"),
            ca = authority.text("ca.pem"),
            revoked = authority.text("revoked.pem"),
            url = tokens.url(),
        );
        site.write("weir.toml", &config);
        site.write("devices.toml", devices);
        let hash = weir::auth::password_file::hash_password("device-secret").unwrap();
        site.write("users", &format!("t1/edge:{hash}\n"));
        site.rule(
            "all",
            "sql = '''SELECT topic, qos, payload.n AS n, payload.p AS p, payload.q AS q\n\
             FROM \"#\", \"$oc/#\", \"$sys/#\", \"$iot/#\", \"$thing/#\"'''\n\
             [[sinks]]\ntype = \"file\"\npath = \"all.ndjson\"\n",
        );
        site.rule(
            "came",
            "sql = '''SELECT clientid, username FROM \"$events/client/connected\"'''\n\
             [[sinks]]\ntype = \"file\"\npath = \"came.ndjson\"\n",
        );
        let weir = site.start(WEIR).await;
        Self {
            weir,
            site,
            authority,
            tokens,
        }
    }

    /// The lines of a file that its rules write.
    fn lines(&self, file: &str) -> Vec<Value> {
        self.site.file_rows(file)
    }

    /// The numbers that came from one preset at one QoS, in their order.
    fn numbers(&self, preset: &str, qos: u64) -> Vec<u64> {
        self.lines("all.ndjson")
            .iter()
            .filter(|line| line["p"] == preset && line["q"] == qos)
            .map(|line| {
                assert_eq!(line["qos"], qos, "{line}");
                line["n"].as_u64().unwrap()
            })
            .collect()
    }

    /// Client ids, in the order in which they came.
    fn came(&self) -> Vec<String> {
        let lines = self.lines("came.ndjson");
        let id = |line: &Value| line["clientid"].as_str().unwrap().to_owned();
        lines.iter().map(id).collect()
    }

    async fn refused(&self, reason: &str) -> f64 {
        let labels = [("reason", reason)];
        self.weir
            .metric("weir_devices_refused_total", &labels)
            .await
    }

    /// The connector file of a preset with these keys.
    fn connector(&self, preset: &str, keys: &str) -> String {
        let ca = self.authority.text("ca.pem");
        let (keys, tls) = match (keys.strip_suffix("TLS"), keys.strip_suffix("CERTIFICATE")) {
            (Some(keys), _) => (keys, Some(format!("tls = {{ ca = \"{ca}\" }}\n"))),
            (_, Some(keys)) => {
                let (cert, key) = (
                    self.authority.text("device.pem"),
                    self.authority.text("device.key"),
                );
                let tls =
                    format!("tls = {{ ca = \"{ca}\", cert = \"{cert}\", key = \"{key}\" }}\n");
                (keys, Some(tls))
            }
            _ => (keys, None),
        };
        let address = match tls {
            Some(_) => format!("mqtts://localhost:{}", self.weir.ports("mqtts")[0]),
            None => format!("mqtt://127.0.0.1:{}", self.weir.mqtt_port()),
        };
        // The shaping of some clouds would make this take minutes.
        format!(
            "type = \"mqtt\"\npreset = \"{preset}\"\naddresses = [\"{address}\"]\nrate = 1000\n{keys}{}",
            tls.unwrap_or_default()
        )
    }
}

/// Sends what comes on `out` to a connector of the preset's name.
fn rule(preset: &str, topic: &str, qos: u8) -> String {
    format!(
        "sql = '''SELECT payload.n AS n FROM \"out\"'''\n\
         [[sinks]]\nconnector = \"{preset}\"\ntopic = \"{topic}\"\nqos = {qos}\n\
         payload = '{{\"n\": ${{n}}, \"p\": \"{preset}\", \"q\": {qos}}}'\n"
    )
}

async fn state(near: &Weir, connector: &str) -> (String, String) {
    let (_, text) = near.get("/weir/v1/connectors").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let items = answer["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["name"] == connector).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (word(&found["state"]), word(&found["last_error"]["code"]))
}

async fn until_state(near: &Weir, connector: &str, wanted: &str) {
    wait_until(wanted, DEADLINE, || async {
        state(near, connector).await.0 == wanted
    })
    .await;
}

async fn publish(near: &Weir, numbers: std::ops::Range<u64>) {
    let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let mut publisher = LinePublisher::start(near.mqtt_port(), &["-t", "out", "-q", "1"]);
    publisher.send(&lines).await;
    publisher.finish().await;
}

#[tokio::test]
async fn a_bridge_of_every_signing_preset_is_let_in_and_delivers_at_qos_0_and_1() {
    const COUNT: u64 = 40;
    let cloud = Cloud::start(CLOUD_DEVICES, "cloud").await;
    let near_site = Site::new();
    for (preset, keys, topic) in PRESETS {
        near_site.connector(preset, &cloud.connector(preset, keys));
        for qos in [0, 1] {
            near_site.rule(&format!("{preset}_{qos}"), &rule(preset, topic, qos));
        }
    }
    let near = near_site.start(WEIR).await;
    publish(&near, 0..COUNT).await;
    let wanted: Vec<u64> = (0..COUNT).collect();
    for (preset, _, _) in PRESETS {
        for qos in [0, 1] {
            wait_until(&format!("{preset} at QoS {qos}"), DEADLINE, || async {
                cloud.numbers(preset, qos) == wanted
            })
            .await;
        }
    }
    // Devices are known by who they are, not by the client id that they made for this connection.
    let mut came = cloud.came();
    came.sort();
    assert_eq!(
        came,
        [
            "aliyun_iot:a1Example:gw-01",
            "aliyun_mq:post-cn-1:GID_weir@@@edge",
            "azure_iothub:hub.example:edge",
            "baidu_iotcore:core:edge",
            "edge-aws",
            "edge-c8y",
            "edge-plain",
            "edge-tb",
            "huawei_iotda::5f_edge",
            "onenet:pid:edge",
            "tencent_iot:WEIRPROD01:edge",
        ]
    );
    let asked = cloud.tokens.requests();
    let names: Vec<Value> = asked
        .iter()
        .map(|asked| asked.json()["username"].clone())
        .collect();
    assert_eq!(names, ["A1_TEST_TOKEN"]);
}

#[tokio::test]
async fn a_wrong_secret_is_told_on_both_sides_and_loses_nothing() {
    let wrong = CLOUD_DEVICES.replace(
        "5f_edge\"\nsecret = \"device-secret",
        "5f_edge\"\nsecret = \"hunter2-secret",
    );
    assert_ne!(wrong, CLOUD_DEVICES);
    let cloud = Cloud::start(&wrong, "cloud").await;
    let near_site = Site::new();
    let (preset, keys, topic) = PRESETS[3];
    near_site.connector(preset, &cloud.connector(preset, keys));
    near_site.rule("up", &rule(preset, topic, 1));
    let near = near_site.start(WEIR).await;
    publish(&near, 0..20).await;
    until_state(&near, preset, "auth_failed").await;
    assert_eq!(state(&near, preset).await.1, "E4103");
    assert!(cloud.refused("wrong_signature").await > 0.5);
    let printed = cloud.weir.printed();
    assert!(
        printed.contains("copy the device's secret into the table"),
        "{printed}"
    );
    for secret in ["device-secret", "hunter2"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    // A table that is no better is refused, and what is good is taken as soon as it is there.
    cloud
        .site
        .write("devices.toml", "[[device]]\nscheme = \"huawei\"\n");
    let report = cloud.weir.reload().await;
    assert!(
        report.stdout.contains("devices.toml:1:1"),
        "{}",
        report.stdout
    );
    cloud.site.write("devices.toml", CLOUD_DEVICES);
    let _ = cloud.weir.reload().await.succeeded();
    let wanted: Vec<u64> = (0..20).collect();
    wait_until("what has waited", DEADLINE, || async {
        cloud.numbers(preset, 1) == wanted
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_is_told_on_both_sides_and_cured_by_setting_it() {
    let cloud = Cloud::start(CLOUD_DEVICES, "strict").await;
    let (aliyun, azure) = (PRESETS[0], PRESETS[6]);
    for ((preset, keys, topic), offset_min, reason) in [
        (aliyun, 10, "clock"),
        (aliyun, -10, "clock"),
        // A token for an hour, made two hours ago.
        (azure, -120, "expired"),
    ] {
        let before = cloud.refused(reason).await;
        let delivered = cloud.numbers(preset, 1).len();
        let right = cloud.connector(preset, keys);
        let near_site = Site::new();
        near_site.rule("up", &rule(preset, topic, 1));
        let offset = format!("clock_offset_ms = {}\n", offset_min * 60_000);
        near_site.connector(preset, &format!("{offset}{right}"));
        let near = near_site.start(WEIR).await;
        publish(&near, 0..10).await;
        until_state(&near, preset, "auth_failed").await;
        let (_, code) = state(&near, preset).await;
        assert_eq!(code, "E4103", "{preset} {offset_min}");
        assert!(
            cloud.refused(reason).await > before,
            "{preset} {offset_min}"
        );
        let help = near.command(&["help", &code]).await.succeeded();
        assert!(help.stdout.contains("date -u"), "{}", help.stdout);
        near_site.connector(preset, &right);
        let _ = near.reload().await.succeeded();
        wait_until("what has waited", DEADLINE, || async {
            cloud.numbers(preset, 1).len() == delivered + 10
        })
        .await;
        let numbers = cloud.numbers(preset, 1).split_off(delivered);
        assert!(numbers.into_iter().eq(0..10), "{preset} {offset_min}");
        near.stop().await;
    }
    let printed = cloud.weir.printed();
    assert!(printed.contains("compare both clocks"), "{printed}");
    assert!(printed.contains("set the device's clock"), "{printed}");
}

#[tokio::test]
async fn a_token_that_ends_in_seconds_is_renewed_under_load_without_loss() {
    let cloud = Cloud::start(CLOUD_DEVICES, "strict").await;
    let near_site = Site::new();
    let (preset, keys, topic) = PRESETS[6];
    let keys = keys.replace("TLS", "expires = \"10s\"\nTLS");
    near_site.connector(preset, &cloud.connector(preset, &keys));
    near_site.rule("up", &rule(preset, topic, 1));
    let near = near_site.start(WEIR).await;
    // Load until the fourth token.
    let mut sent = 0;
    while cloud.came().len() < 4 {
        publish(&near, sent..sent + 200).await;
        sent += 200;
    }
    let mut copies: BTreeMap<u64, u32> = BTreeMap::new();
    wait_until("everything", DEADLINE, || async {
        cloud.numbers(preset, 1).contains(&(sent - 1))
    })
    .await;
    let numbers = cloud.numbers(preset, 1);
    for number in &numbers {
        *copies.entry(*number).or_default() += 1;
    }
    let missing: Vec<u64> = (0..sent).filter(|n| !copies.contains_key(n)).collect();
    assert!(missing.is_empty(), "lost of {sent}: {missing:?}");
    // Each token was left in time, with everything acknowledged: nothing came twice, and in its order.
    assert!(numbers.is_sorted(), "out of order");
    assert_eq!(numbers.len() as u64, sent, "{copies:?}");
    let refused: f64 = cloud.weir.metric("weir_devices_refused_total", &[]).await;
    assert!(refused < 0.5);
}

#[tokio::test]
async fn a_certificate_that_is_revoked_keeps_the_bridge_out_until_there_is_a_new_one() {
    let cloud = Cloud::start(CLOUD_DEVICES, "cloud").await;
    let near_site = Site::new();
    let (preset, keys, topic) = PRESETS[7];
    near_site.connector(preset, &cloud.connector(preset, keys));
    near_site.rule("up", &rule(preset, topic, 1));
    let near = near_site.start(WEIR).await;
    publish(&near, 0..10).await;
    until_state(&near, preset, "up").await;
    cloud.authority.revoke(&[1]);
    let _ = cloud.weir.reload().await.succeeded();
    let kick = ["clients", "kick", "edge-aws"];
    let _ = cloud.weir.command(&kick).await.succeeded();
    wait_until("the reason", DEADLINE, || async {
        let (_, text) = near.get("/weir/v1/connectors").await;
        let said = ["E4132", "CertificateRevoked", "auth_failed"];
        said.iter().all(|word| text.contains(word))
    })
    .await;
    publish(&near, 10..20).await;
    // The same files, with another certificate.
    cloud.authority.client("device", "edge-aws", 2);
    let wanted: Vec<u64> = (0..20).collect();
    wait_until("what has waited", DEADLINE, || async {
        cloud.numbers(preset, 1) == wanted
    })
    .await;
}
