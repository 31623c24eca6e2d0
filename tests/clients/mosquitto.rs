//! mosquitto_pub and mosquitto_sub over TCP, TLS, one- and two-way, and a unix socket.

use weir_test_support::{LinePublisher, Subscriber, mosquitto_pub};

use crate::scene::Scene;

/// A message at each QoS, a retained one, a large one, a Will and a shared subscription, in every version.
async fn talks(port: u16, more: &[&str]) {
    let large = "z".repeat(90_000);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        let topic = format!("m/{version}/{port}");
        let with = |args: &[&'static str]| [&["-V", version], args, more].concat();
        let mut subscriber = Subscriber::start(port, &topic, &with(&["-q", "2"])).await;
        for qos in ["0", "1", "2"] {
            let args = [&with(&["-q", qos])[..], &["-t", &topic, "-m", qos]].concat();
            let _ = mosquitto_pub(port, &args).await.succeeded();
        }
        let args = [&with(&["-q", "1", "-r"])[..], &["-t", &topic, "-m", &large]].concat();
        let _ = mosquitto_pub(port, &args).await.succeeded();
        let received = subscriber.wait_for(4).await;
        let levels: Vec<u8> = received.iter().map(|message| message.qos).collect();
        assert_eq!(levels, [0, 1, 2, 1]);
        assert!(received[3].payload == large);
        let mut late = Subscriber::start(port, &topic, &with(&["-q", "1"])).await;
        assert!(late.wait_for(1).await[0].retain);

        let gone = format!("gone/{topic}");
        let mut mourner = Subscriber::start(port, &gone, &with(&["-q", "1"])).await;
        let will = [
            "--will-topic",
            &gone,
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
        ];
        let mortal = [&with(&["-q", "1"])[..], &will].concat();
        // Killed, without DISCONNECT.
        drop(Subscriber::start(port, &topic, &mortal).await);
        assert_eq!(mourner.wait_for(1).await[0].payload, "gone");

        let shared = format!("shared/{topic}");
        let filter = format!("$share/group/{shared}");
        let mut one = Subscriber::start(port, &filter, &with(&["-q", "1"])).await;
        let mut two = Subscriber::start(port, &filter, &with(&["-q", "1"])).await;
        let args = [&with(&["-q", "1"])[..], &["-t", &shared]].concat();
        let mut publisher = LinePublisher::start(port, &args);
        publisher.send("1\n2\n3\n4\n").await;
        publisher.finish().await;
        let mut came: Vec<String> = Vec::new();
        for member in [&mut one, &mut two] {
            let messages = member.wait_for(2).await.iter();
            came.extend(messages.map(|message| message.payload.clone()));
        }
        came.sort_unstable();
        assert_eq!(came, ["1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn mosquitto_talks_over_tcp() {
    let scene = Scene::start().await;
    talks(scene.port("mqtt"), &[]).await;
}

#[tokio::test]
async fn mosquitto_talks_over_tls_and_with_a_certificate_of_its_own() {
    let scene = Scene::start().await;
    let ports = scene.weir.ports("mqtts");
    let (ca, cert, key) = (
        scene.authority.text("ca.pem"),
        scene.authority.text("gw.pem"),
        scene.authority.text("gw.key"),
    );
    talks(ports[0], &["--cafile", &ca]).await;
    talks(ports[1], &["--cafile", &ca, "--cert", &cert, "--key", &key]).await;
    let refused = mosquitto_pub(ports[1], &["--cafile", &ca, "-t", "t", "-m", "x"]).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    let counted = [("listener", "two-way"), ("reason", "client_certificate")];
    let failures = scene
        .weir
        .metric("weir_handshake_failures_total", &counted)
        .await;
    assert!(failures >= 1.0);
}

#[tokio::test]
async fn mosquitto_talks_over_a_unix_socket() {
    let scene = Scene::start().await;
    let path = scene.site.path().join("mqtt.sock").display().to_string();
    talks(scene.port("mqtt"), &["--unix", &path]).await;
    let counted = [("transport", "unix")];
    let accepted = scene
        .weir
        .metric("weir_listener_accepted_total", &counted)
        .await;
    // In each version five publishers and six subscribers.
    assert!(accepted >= 33.0, "{accepted}");
    assert_eq!(scene.weir.stop().await, Some(0));
    assert!(!std::path::Path::new(&path).exists());
}
