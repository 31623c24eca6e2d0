//! A second weir that stands in for a cloud with all of its rules: bridges keep to them, and live through the end of
//! their tokens.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir_test_support::{Authority, LinePublisher, Site, Weir, wait_until};

use crate::WEIR;

const DEADLINE: Duration = Duration::from_secs(60);

/// The cloud, which writes down who comes and what arrives.
struct Cloud {
    weir: Weir,
    site: Site,
}

impl Cloud {
    async fn start(settings: &str, devices: &str) -> Self {
        let listener = "[[listeners]]\nbind = \"127.0.0.1:0\"\n";
        Self::behind(listener, settings, devices).await
    }

    async fn behind(listener: &str, settings: &str, devices: &str) -> Self {
        let site = Site::new();
        site.write(
            "weir.toml",
            &format!(
                "http.bind = \"127.0.0.1:0\"\ndata_dir = \"data\"\n{listener}[auth]\nno_match = \"allow\"\n{settings}"
            ),
        );
        site.write("devices.toml", devices);
        for (name, sql) in [
            ("came", "SELECT clientid FROM \"$events/client/connected\""),
            ("up", "SELECT payload.n AS n FROM \"#\", \"$sys/#\""),
        ] {
            let file = format!("[[sinks]]\ntype = \"file\"\npath = \"{name}.ndjson\"\n");
            site.rule(name, &format!("sql = '''{sql}'''\n{file}"));
        }
        let weir = site.start(WEIR).await;
        Self { weir, site }
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        self.site.file_rows(file)
    }

    fn came(&self) -> usize {
        self.lines("came.ndjson").len()
    }

    async fn until_arrived(&self, numbers: std::ops::Range<u64>) {
        let wanted: Vec<u64> = numbers.collect();
        wait_until("everything", DEADLINE, || async {
            let lines = self.lines("up.ndjson");
            let arrived = lines.iter().filter_map(|line| line["n"].as_u64());
            arrived.collect::<Vec<_>>() == wanted
        })
        .await;
    }

    async fn thrown_away(&self) -> f64 {
        let labels = [("reason", "cloud_rate")];
        self.weir
            .metric("weir_messages_dropped_total", &labels)
            .await
    }

    async fn refused(&self) -> f64 {
        self.weir.metric("weir_devices_refused_total", &[]).await
    }
}

/// A weir that sends what comes on `out` to a topic of the connector `cloud`.
fn near(connector: &str, topic: &str) -> Site {
    let site = Site::new();
    site.connector("cloud", connector);
    site.rule(
        "up",
        &format!(
            "sql = '''SELECT payload.n AS n FROM \"out\"'''\n\
             [[sinks]]\nconnector = \"cloud\"\ntopic = \"{topic}\"\nqos = 1\npayload = '{{\"n\": ${{n}}}}'\n"
        ),
    );
    site
}

async fn publish(near: &Weir, numbers: std::ops::Range<u64>) {
    let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let mut publisher = LinePublisher::start(near.mqtt_port(), &["-t", "out", "-q", "1"]);
    publisher.send(&lines).await;
    publisher.finish().await;
}

async fn connector(near: &Weir) -> Value {
    let (_, text) = near.get("/weir/v1/connectors").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["items"][0].clone()
}

const EMULATE: &str = "[auth.devices]\nfile = \"devices.toml\"\nemulate = true\n";

#[tokio::test]
async fn a_bridge_keeps_to_the_rules_of_its_cloud_without_being_told() {
    let devices = "[[device]]\nscheme = \"onenet\"\ntenant_key = \"pid\"\ndevice = \"edge\"\nsecret = \"ZGV2aWNlLXNlY3JldA==\"\n";
    let cloud = Cloud::start(EMULATE, devices).await;
    let text = format!(
        "type = \"mqtt\"\npreset = \"onenet\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\n\
         product_id = \"pid\"\ndevice_name = \"edge\"\naccess_key = \"ZGV2aWNlLXNlY3JldA==\"\n",
        cloud.weir.mqtt_port()
    );
    let near_site = near(&text, "$sys/pid/edge/thing/property/post");
    let near = near_site.start(WEIR).await;
    // Ten a second are taken: these are six seconds' worth.
    publish(&near, 0..60).await;
    cloud.until_arrived(0..60).await;
    assert_eq!(
        (cloud.thrown_away().await, cloud.refused().await),
        (0.0, 0.0)
    );
    // One that is told to go faster loses what is above the rate, without a word.
    near_site.connector("cloud", &format!("{text}rate = 1000\n"));
    let _ = near.reload().await.succeeded();
    publish(&near, 60..160).await;
    wait_until("what is thrown away", DEADLINE, || async {
        cloud.thrown_away().await > 0.5
    })
    .await;
}

#[tokio::test]
async fn what_has_gathered_while_a_cloud_was_away_does_not_come_upon_it_at_once() {
    let devices = "[[device]]\nscheme = \"onenet\"\ntenant_key = \"pid\"\ndevice = \"edge\"\nsecret = \"ZGV2aWNlLXNlY3JldA==\"\n";
    let port = weir_test_support::free_port();
    let listener = format!("[[listeners]]\nbind = \"127.0.0.1:{port}\"\n");
    let mut cloud = Cloud::behind(&listener, EMULATE, devices).await;
    let near_site = Site::new();
    near_site.connector(
        "cloud",
        &format!(
            "type = \"mqtt\"\npreset = \"onenet\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\n\
             product_id = \"pid\"\ndevice_name = \"edge\"\naccess_key = \"ZGV2aWNlLXNlY3JldA==\"\n\
             [[out]]\nfilter = \"out\"\nremote_topic = \"$sys/pid/edge/thing/property/post\"\n"
        ),
    );
    let near = near_site.start(WEIR).await;
    publish(&near, 0..15).await;
    cloud.until_arrived(0..15).await;
    let before = cloud.thrown_away().await;
    cloud.weir.kill().await;
    // Ten times what it takes in a second.
    publish(&near, 15..115).await;
    cloud.weir = cloud.site.start(WEIR).await;
    wait_until("everything", DEADLINE, || async {
        let lines = cloud.lines("up.ndjson");
        let arrived: BTreeSet<_> = lines.iter().filter_map(|line| line["n"].as_u64()).collect();
        arrived == (0..115).collect()
    })
    .await;
    assert_eq!((before, cloud.thrown_away().await), (0.0, 0.0));
}

#[tokio::test]
async fn where_a_cloud_has_a_rate_for_each_qos_both_are_kept() {
    let devices = "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"a1Example\"\ndevice = \"gw-01\"\nsecret = \"device-secret\"\n";
    let cloud = Cloud::start(EMULATE, devices).await;
    let near_site = Site::new();
    near_site.connector(
        "cloud",
        &format!(
            "type = \"mqtt\"\npreset = \"aliyun_iot\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\n\
             product_key = \"a1Example\"\ndevice_name = \"gw-01\"\ndevice_secret = \"device-secret\"\n\
             [[out]]\nfilter = \"out/#\"\nlocal_prefix = \"\"\nremote_prefix = \"/a1Example/gw-01/user/\"\n",
            cloud.weir.mqtt_port()
        ),
    );
    let near = near_site.start(WEIR).await;
    wait_until("the bridge is up", DEADLINE, || async {
        connector(&near).await["state"] == "up"
    })
    .await;
    // Thirty a second of the first are taken, and ten of the second.
    for (qos, numbers) in [("0", 0..90_u64), ("1", 90..130)] {
        let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let mut publisher = LinePublisher::start(near.mqtt_port(), &["-t", "out/x", "-q", qos]);
        publisher.send(&lines).await;
        publisher.finish().await;
    }
    wait_until("everything", DEADLINE, || async {
        let lines = cloud.lines("up.ndjson");
        let arrived: BTreeSet<_> = lines.iter().filter_map(|line| line["n"].as_u64()).collect();
        arrived == (0..130).collect()
    })
    .await;
    assert_eq!(
        (cloud.thrown_away().await, cloud.refused().await),
        (0.0, 0.0)
    );
}

/// A token of the one client, as it stands in the table of the cloud.
fn row(token: &str, more: &str) -> String {
    format!(
        "[[token]]\nscheme = \"aliyun_mq\"\ntenant_key = \"post-cn-1\"\ndevice = \"GID_weir@@@edge\"\n\
         type = \"RW\"\ntoken = \"{token}\"\n{more}\n"
    )
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// What the operator's service writes down.
fn issued(token: &str, expires_ms: u64) -> String {
    json!({"tokens": [{"type": "RW", "token": token}], "expires_ms": expires_ms}).to_string()
}

/// A bridge that takes its tokens from a file.
fn with_tokens(cloud: &Cloud, tokens: &str) -> Site {
    let site = near(
        &format!(
            "type = \"mqtt\"\npreset = \"aliyun_mq\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\nrate = 1000\n\
             group_id = \"GID_weir\"\ndevice_id = \"edge\"\naccess_key = \"LTAI\"\ninstance_id = \"post-cn-1\"\n\
             tokens_from = \"${{file:tokens.json}}\"\n",
            cloud.weir.mqtt_port()
        ),
        "weir/up",
    );
    site.write("tokens.json", tokens);
    site
}

const DEVICES: &str = "[auth.devices]\nfile = \"devices.toml\"\n";

#[tokio::test]
async fn a_token_that_ends_is_replaced_on_the_link_that_is_up() {
    let ends_ms = now_ms() + 30_000;
    let first = row("first", &format!("expires_ms = {ends_ms}"));
    let cloud = Cloud::start(DEVICES, &format!("{first}{}", row("second", ""))).await;
    let site = with_tokens(&cloud, &issued("first", ends_ms));
    let near = site.start(WEIR).await;
    publish(&near, 0..10).await;
    cloud.until_arrived(0..10).await;
    // The cloud has told of the end; at the half of the time the bridge looks into the file.
    site.write("tokens.json", &issued("second", now_ms() + 3_600_000));
    wait_until("the other token", DEADLINE, || async {
        near.printed().contains("the cloud has taken another token")
    })
    .await;
    // What it came with is revoked, and nobody notices.
    cloud.site.write("devices.toml", &row("second", ""));
    let _ = cloud.weir.reload().await.succeeded();
    publish(&near, 10..500).await;
    cloud.until_arrived(0..500).await;
    assert_eq!(cloud.came(), 1, "the link was made anew");
    for token in ["first", "second"] {
        assert!(!near.printed().contains(&format!("\"{token}\"")));
    }
}

#[tokio::test]
async fn a_token_that_is_revoked_is_not_tried_again_and_another_is_as_soon_as_it_is_there() {
    let cloud = Cloud::start(DEVICES, &row("first", "")).await;
    let site = with_tokens(&cloud, &issued("first", now_ms() + 3_600_000));
    let near = site.start(WEIR).await;
    publish(&near, 0..10).await;
    cloud.until_arrived(0..10).await;
    cloud.site.write("devices.toml", &row("second", ""));
    let _ = cloud.weir.reload().await.succeeded();
    wait_until("the reason", DEADLINE, || async {
        let connector = connector(&near).await;
        connector["state"] == "auth_failed" && connector["last_error"]["code"] == "E4140"
    })
    .await;
    publish(&near, 10..20).await;
    site.write("tokens.json", &issued("second", now_ms() + 3_600_000));
    cloud.until_arrived(0..20).await;
    assert_eq!((cloud.came(), cloud.refused().await), (2, 0.0));
}

#[tokio::test]
async fn a_device_of_aliyun_shows_a_certificate_in_the_place_of_a_secret() {
    let authority = Authority::new();
    authority.server("server", &["localhost"]);
    authority.client("device", "gw-01", 1);
    let listener = format!(
        "[[listeners]]\nbind = \"127.0.0.1:0\"\n\
         [[listeners]]\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\ncert = \"{}\"\nkey = \"{}\"\n\
         client_auth = \"require\"\nclient_ca = \"{}\"\n",
        authority.text("server.pem"),
        authority.text("server.key"),
        authority.text("ca.pem"),
    );
    let cloud = Cloud::behind(&listener, "[auth.x509]\n", "").await;
    let text = format!(
        "type = \"mqtt\"\npreset = \"aliyun_iot\"\nproduct_key = \"a1Example\"\ndevice_name = \"gw-01\"\n\
         addresses = [\"mqtts://localhost:{}\"]\ntls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}\n",
        cloud.weir.ports("mqtts")[0],
        authority.text("ca.pem"),
        authority.text("device.pem"),
        authority.text("device.key"),
    );
    let site = near(&text, "/sys/a1Example/gw-01/thing/event/property/post");
    let near = site.start(WEIR).await;
    publish(&near, 0..10).await;
    cloud.until_arrived(0..10).await;
    let came = cloud.lines("came.ndjson").remove(0);
    assert_eq!(came["clientid"], "a1Example.gw-01|securemode=2|");
}
