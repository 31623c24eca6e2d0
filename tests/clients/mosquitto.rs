//! mosquitto_pub and mosquitto_sub over TLS, one- and two-way, and a unix socket.

use weir_test_support::{Subscriber, mosquitto_pub};

use crate::scene::Scene;

/// A message at each QoS, a retained one and a large one, in every version.
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
    }
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
    // In each version four publishers and two subscribers.
    assert!(accepted >= 18.0, "{accepted}");
    assert_eq!(scene.weir.stop().await, Some(0));
    assert!(!std::path::Path::new(&path).exists());
}
