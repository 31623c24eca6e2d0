//! What happens in the broker, as rules see it: every event that a client can cause, with its fields.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_test_support::{Answer, Site, Subscriber, Webhook, Weir, mosquitto_pub, wait_for};

use crate::WEIR;

const RULE: &str = r#"
sql = '''SELECT * FROM "$events/#"'''
[[sinks]]
id = "seen"
type = "http"
url = "URL"
"#;

const ACL: &str = "deny publish secret\ndeny subscribe closed\nallow all #\n";

/// A broker whose users are known to a web server, and a rule that posts every event.
struct Scene {
    weir: Weir,
    auth: Webhook,
    seen: Webhook,
    _site: Site,
}

impl Scene {
    async fn new() -> Self {
        let (auth, seen) = (Webhook::start().await, Webhook::start().await);
        auth.answer_always(
            Answer::status(200).body(r#"{"result":"allow","client_attrs":{"site":"7"}}"#),
        );
        let site = Site::new();
        site.write("acl", ACL);
        site.config(&format!(
            "auth.acl_file = \"acl\"\nauth.http.url = \"{}\"\n",
            auth.url()
        ));
        site.rule("seen", &RULE.replace("URL", &seen.url()));
        let weir = site.start(WEIR).await;
        Self {
            weir,
            auth,
            seen,
            _site: site,
        }
    }

    /// The first event of that name that holds these fields.
    async fn event(&self, name: &str, fields: Json) -> Json {
        let wanted = fields.as_object().unwrap();
        let what = format!("{name} with {fields}");
        wait_for(&what, Duration::from_secs(20), || async {
            let events = self
                .seen
                .requests()
                .into_iter()
                .map(|request| request.json());
            let mut found = events.filter(|event| {
                event["event"] == name && wanted.iter().all(|(key, value)| event[key] == *value)
            });
            found.next()
        })
        .await
    }

    /// How many events of each name came for a client.
    fn tally(&self, clientid: &str) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for request in self.seen.requests() {
            let event = request.json();
            if event["clientid"] == clientid {
                let name = event["event"].as_str().unwrap().to_owned();
                *tally.entry(name).or_default() += 1;
            }
        }
        tally
    }

    fn port(&self) -> u16 {
        self.weir.mqtt_port()
    }
}

#[tokio::test]
async fn a_clients_coming_and_going_is_told_with_what_it_said() {
    let scene = Scene::new().await;
    let said = ["-D", "CONNECT", "user-property", "room", "9"];
    let args = [
        &[
            "-V", "5", "-i", "mouth", "-u", "ann", "-P", "pw", "-t", "t", "-m", "x",
        ][..],
        &said,
    ]
    .concat();
    let sent = mosquitto_pub(scene.port(), &args).await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);

    let connected = scene
        .event("client.connected", json!({"clientid": "mouth"}))
        .await;
    assert_eq!(connected["username"], "ann");
    assert_eq!(connected["proto_ver"], 5);
    assert_eq!(connected["keepalive"], 60);
    assert_eq!(connected["clean_start"], true);
    assert_eq!(connected["client_attrs"], json!({"site": "7"}));
    assert_eq!(
        connected["conn_props"]["User-Property"],
        json!({"room": "9"})
    );
    assert!(
        connected["peername"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    let connack = scene
        .event("client.connack", json!({"clientid": "mouth"}))
        .await;
    assert_eq!(connack["reason_code"], "success");
    assert_eq!(connack["expiry_interval"], 0);
    let checked = scene
        .event("client.check_authn_complete", json!({"clientid": "mouth"}))
        .await;
    assert_eq!(checked["reason_code"], "success");
    assert_eq!(checked["is_anonymous"], false);
    assert_eq!(checked["client_attrs"], json!({"site": "7"}));
    let gone = scene
        .event("client.disconnected", json!({"clientid": "mouth"}))
        .await;
    assert_eq!(gone["reason"], "normal");
    assert_eq!(gone["connected_at"], connected["connected_at"]);
    let once = [
        "client.check_authn_complete",
        "client.connack",
        "client.connected",
        "client.disconnected",
    ];
    for name in once {
        assert_eq!(scene.tally("mouth")[name], 1, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_is_refused_is_told_in_the_words_of_its_version() {
    let scene = Scene::new().await;
    for (version, reason) in [("5", "not_authorized"), ("mqttv311", "unauthorized_client")] {
        scene.auth.answer_next(Answer::status(403));
        let args = [
            "-V", version, "-i", version, "-u", "eve", "-P", "no", "-t", "t", "-m", "x",
        ];
        assert_ne!(mosquitto_pub(scene.port(), &args).await.code, Some(0));
        let connack = scene
            .event("client.connack", json!({"clientid": version}))
            .await;
        assert_eq!(connack["reason_code"], reason);
        assert_eq!(connack["username"], "eve");
        let checked = scene
            .event("client.check_authn_complete", json!({"clientid": version}))
            .await;
        assert_eq!(checked["reason_code"], "not_authorized");
    }
    assert!(!scene.tally("5").contains_key("client.connected"));
}

#[tokio::test]
async fn a_message_is_followed_from_its_publisher_to_its_receivers() {
    let scene = Scene::new().await;
    let said = ["-D", "SUBSCRIBE", "user-property", "why", "test"];
    let args = [
        &["-V", "5", "-i", "ears", "-u", "bob", "-P", "pw", "-q", "1"][..],
        &said,
    ]
    .concat();
    let mut ears = Subscriber::start(scene.port(), "t", &args).await;
    let args = ["-V", "5", "-i", "mouth", "-u", "ann", "-P", "pw", "-q", "1"];
    for topic in ["t", "nobody", "secret"] {
        let args = [&args[..], &["-t", topic, "-m", topic]].concat();
        mosquitto_pub(scene.port(), &args).await;
    }
    ears.wait_for(1).await;

    let subscribed = scene
        .event("session.subscribed", json!({"clientid": "ears"}))
        .await;
    assert_eq!(
        (&subscribed["topic"], &subscribed["qos"]),
        (&json!("t"), &json!(1))
    );
    assert_eq!(
        subscribed["sub_props"]["User-Property"],
        json!({"why": "test"})
    );
    for name in ["message.delivered", "message.acked"] {
        let event = scene.event(name, json!({"clientid": "ears"})).await;
        assert_eq!(event["from_clientid"], "mouth");
        assert_eq!(event["from_username"], "ann");
        assert_eq!(event["username"], "bob", "the receiver's");
        assert_eq!(event["payload"], "t");
        assert_eq!(event["qos"], 1);
        assert_eq!(event["puback_props"].is_object(), name == "message.acked");
    }
    let dropped = scene
        .event("message.dropped", json!({"topic": "nobody"}))
        .await;
    assert_eq!(dropped["reason"], "no_subscribers");
    assert_eq!(dropped["clientid"], "mouth");
    let checks = [
        ("ears", "subscribe", "t", "allow"),
        ("mouth", "publish", "t", "allow"),
        ("mouth", "publish", "secret", "deny"),
    ];
    for (clientid, action, topic, result) in checks {
        let check =
            json!({"clientid": clientid, "action": action, "topic": topic, "result": result});
        scene.event("client.check_authz_complete", check).await;
    }
}

#[tokio::test]
async fn a_ping_and_an_unsubscribe_are_told_too() {
    let scene = Scene::new().await;
    let mut stream = TcpStream::connect(("127.0.0.1", scene.port()))
        .await
        .unwrap();
    // MQTT 3.1.1: CONNECT with a clean session as `p`, SUBSCRIBE and UNSUBSCRIBE `t`, PINGREQ.
    stream
        .write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01p")
        .await
        .unwrap();
    stream
        .write_all(b"\x82\x06\x00\x01\x00\x01t\x01\xa2\x05\x00\x02\x00\x01t\xc0\x00")
        .await
        .unwrap();
    // CONNACK, SUBACK, UNSUBACK, PINGRESP.
    let mut answers = [0; 4 + 5 + 4 + 2];
    stream.read_exact(&mut answers).await.unwrap();
    let ping = scene.event("client.ping", json!({"clientid": "p"})).await;
    assert_eq!(
        (&ping["keepalive"], &ping["clean_start"], &ping["proto_ver"]),
        (&json!(60), &json!(true), &json!(4))
    );
    let unsubscribed = scene
        .event("session.unsubscribed", json!({"clientid": "p"}))
        .await;
    assert_eq!(
        (&unsubscribed["topic"], &unsubscribed["qos"]),
        (&json!("t"), &json!(1))
    );
}
