//! Eclipse Paho, in Python and in C.

use std::time::Duration;

use weir_test_support::{PahoC, paho, paho_c, repository, wait_until};

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

        let talk = Talk {
            scene: &scene,
            common: ["-c", &url, "-V", version, "-q", qos, "--cafile", &ca],
            name: &name,
        };
        talk.hears_of_a_client_that_is_lost().await;
        talk.shares_a_subscription().await;
    }
}

/// What clients in C have to say to one another over one transport, in one version.
struct Talk<'a> {
    scene: &'a Scene,
    common: [&'a str; 8],
    name: &'a str,
}

impl Talk<'_> {
    /// One more subscriber, whose subscription stands, where there are `others`.
    async fn subscriber(&self, others: u8, who: &str, filter: &str, more: &[&str]) -> PahoC {
        // Those of clients that have just ended are gone.
        self.until_there_are(others).await;
        let id = format!("{}-{who}", self.name);
        let args = [&self.common[..], &["-t", filter, "-i", &id], more].concat();
        let client = paho_c("paho_c_sub", &args);
        self.until_there_are(others + 1).await;
        client
    }

    async fn until_there_are(&self, subscriptions: u8) {
        wait_until("subscriptions", Duration::from_secs(20), || async {
            let found = self.scene.weir.metric("weir_subscriptions", &[]).await;
            (found - f64::from(subscriptions)).abs() < 0.5
        })
        .await;
    }

    async fn hears_of_a_client_that_is_lost(&self) {
        let topic = format!("gone/{}", self.name);
        let mut mourner = self.subscriber(1, "mourner", &topic, &[]).await;
        let will = ["--will-topic", &topic, "--will-payload", "gone"];
        // Killed, without DISCONNECT.
        drop(self.subscriber(2, "mortal", "unused", &will).await);
        assert_eq!(mourner.line().await, "gone", "{}", self.name);
    }

    async fn shares_a_subscription(&self) {
        let topic = format!("shared/{}", self.name);
        let filter = format!("$share/group/{topic}");
        let mut one = self.subscriber(1, "one", &filter, &[]).await;
        let mut two = self.subscriber(2, "two", &filter, &[]).await;
        for payload in ["1", "2", "3", "4"] {
            let id = format!("{}-p", self.name);
            let args = ["-t", &*topic, "-i", &id, "-m", payload];
            let publisher = paho_c("paho_c_pub", &[&self.common[..], &args].concat());
            publisher.ended().await;
        }
        let mut came = Vec::new();
        for member in [&mut one, &mut two] {
            came.push(member.line().await);
            came.push(member.line().await);
        }
        came.sort_unstable();
        assert_eq!(came, ["1", "2", "3", "4"], "{}", self.name);
    }
}
