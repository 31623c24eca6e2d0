//! Aliyun's own SDK for Python, with another address and TLS that its threads may share, with weir as its cloud.

use std::time::Duration;

use serde_json::{Value, json};
use weir_test_support::{Authority, Postgres, Site, linkkit, repository, wait_until};

use crate::WEIR;

/// The SDK waits as long for an answer.
const DEADLINE: Duration = Duration::from_secs(25);

const DEVICES: &str = "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"a1Example\"\ndevice = \"gw-01\"\nsecret = \"device-secret\"\n";

/// What Aliyun's rules did: a property into a table, an answer to the device, and an order to one that is too warm.
const PROPERTIES: &str = r#"
sql = '''
SELECT payload.id AS id, nth(3, tokens(topic, '/')) AS device, payload.params.temp AS temp, payload.params.hum AS hum
FROM   "/sys/a1Example/+/thing/event/property/post"
'''

[[sinks]]
id = "rows"
connector = "db"
table = "readings"
create_table = "if_missing"
columns = { device = "device", temp = "temp", hum = "hum" }

[[sinks]]
id = "reply"
type = "republish"
topic = "/sys/a1Example/${device}/thing/event/property/post_reply"
payload = '{"id": ${id}, "code": 200, "message": "success", "data": {}}'
"#;

const TOO_WARM: &str = r#"
sql = '''
SELECT nth(3, tokens(topic, '/')) AS device
FROM   "/sys/a1Example/+/thing/event/property/post"
WHERE  payload.params.temp > 22
'''

[[sinks]]
type = "republish"
topic = "/sys/a1Example/${device}/thing/service/property/set"
payload = '{"method": "thing.service.property.set", "id": "7", "version": "1.0.0", "params": {"temp": 21}}'
"#;

#[tokio::test]
async fn aliyuns_sdk_posts_properties_into_postgres_and_is_answered() {
    let (site, authority) = (Site::new(), Authority::new());
    authority.server("server", &["localhost"]);
    let database = Postgres::shared().await.create_database().await;
    site.write(
        "weir.toml",
        &format!(
            "http.bind = \"127.0.0.1:0\"\nauth.devices = {{ file = \"devices.toml\" }}\n\
             [[listeners]]\nbind = \"127.0.0.1:0\"\n\
             [[listeners]]\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\ncert = \"{}\"\nkey = \"{}\"\n",
            authority.text("server.pem"),
            authority.text("server.key")
        ),
    );
    site.write("devices.toml", DEVICES);
    site.connector(
        "db",
        &format!("type = \"postgres\"\nurl = \"{}\"\n", database.url()),
    );
    site.rule("properties", PROPERTIES);
    site.rule("too_warm", TOO_WARM);
    let weir = site.start(WEIR).await;
    let script = repository().join("tests/clients/linkkit_device.py");
    let model = repository()
        .join("tests/clients/linkkit_model.json")
        .display()
        .to_string();
    let ca = authority.text("ca.pem");
    for (word, secure) in [("mqtt", false), ("mqtts", true)] {
        let port = weir.ports(word)[0].to_string();
        let mut args = vec![&*port, "a1Example", "gw-01", "device-secret", &model];
        if secure {
            args.push(&ca);
        }
        let talk = linkkit(&script, &args).await.succeeded();
        let seen: Value = serde_json::from_str(talk.stdout.lines().last().unwrap()).unwrap();
        let replies = json!([[1, 200], [2, 200], [3, 200]]);
        assert_eq!(seen["replies"], replies, "{word}: {seen}");
        assert_eq!(seen["changed"]["temp"], 21, "{word}");
    }
    // It was told that they came; the rows may be on their way.
    wait_until("six rows", DEADLINE, || async {
        database.try_count("SELECT count(*) FROM readings").await == Some(6)
    })
    .await;
    let right = "SELECT count(*) FROM readings WHERE device = 'gw-01' AND temp::numeric = 20.5 + hum::numeric - 40";
    assert_eq!(database.count(right).await, 6);

    let args = [
        &*weir.ports("mqtt")[0].to_string(),
        "a1Example",
        "gw-01",
        "another-secret",
        &model,
    ];
    let wrong = [("scheme", "aliyun_iot"), ("reason", "wrong_signature")];
    let is_refused = async || weir.metric("weir_devices_refused_total", &wrong).await > 0.5;
    tokio::select! {
        // It would try again and again.
        talk = linkkit(&script, &args) => panic!("{}{}", talk.stdout, talk.stderr),
        () = wait_until("the refusal", DEADLINE, is_refused) => {}
    }
}
