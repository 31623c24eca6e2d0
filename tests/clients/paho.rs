//! Eclipse Paho, in Python and in C.

use weir_test_support::{paho, paho_c, repository};

use crate::ALL_OF_IT;
use crate::scene::Scene;

#[tokio::test]
async fn paho_for_python_talks_in_every_version_over_every_transport() {
    let script = repository().join("tests/clients/conversation.py");
    let scene = Scene::start().await;
    let ca = scene.authority.text("ca.pem");
    for (word, transport, secret) in [
        ("mqtt", "tcp", false),
        ("mqtts", "tcp", true),
        ("ws", "websockets", false),
        ("wss", "websockets", true),
    ] {
        let port = scene.port(word).to_string();
        for version in ["3", "4", "5"] {
            let mut args = vec![transport, &*port, version];
            if secret {
                args.push(&ca);
            }
            let talk = paho(&script, &args).await.succeeded();
            assert_eq!(talk.stdout.trim(), ALL_OF_IT, "{word} {version}");
        }
    }
}

#[tokio::test]
async fn paho_for_c_publishes_and_subscribes_over_every_transport() {
    let scene = Scene::start().await;
    let ca = scene.authority.text("ca.pem");
    let payload = "y".repeat(90_000);
    for (scheme, word, path, version, qos) in [
        ("tcp", "mqtt", "", "31", "1"),
        ("ssl", "mqtts", "", "311", "2"),
        ("ws", "ws", "/mqtt", "311", "1"),
        ("ws", "ws", "/mqtt", "5", "2"),
        ("wss", "wss", "/mqtt", "5", "0"),
    ] {
        let url = format!("{scheme}://localhost:{}{path}", scene.port(word));
        let topic = format!("c/{word}/{version}");
        let name = format!("{word}-{version}");
        let common = [
            "-c", &*url, "-V", version, "-q", qos, "-t", &topic, "--cafile", &ca,
        ];
        let publish = async |payload: &str, more: &[&str]| {
            let sent = ["-m", payload, "-i", &format!("{name}-p")];
            let publisher = paho_c("paho_c_pub", &[&common[..], &sent, more].concat());
            publisher.ended().await;
        };
        publish("kept", &["-r"]).await;
        let id = format!("{name}-s");
        let mut subscriber = paho_c("paho_c_sub", &[&common[..], &["-i", &id]].concat());
        // Now the subscription stands.
        assert_eq!(subscriber.line().await, "kept", "{url} {version}");
        publish(&payload, &[]).await;
        assert!(subscriber.line().await == payload, "{url} {version}");
    }
}
