//! Clients that people use, in every version of the protocol that they speak.

use crate::sentence::Scene;
use weir_test_support::{mosquitto_pub, paho, repository};

/// The version as mosquitto_pub and as paho name it.
const VERSIONS: [(&str, &str); 3] = [("mqttv31", "3.1"), ("mqttv311", "3.1.1"), ("mqttv5", "5")];

/// [MQTT3-7.0.0-2]
#[tokio::test]
async fn every_version_of_mosquitto_pub_is_heard_at_every_qos() {
    let scene = Scene::start().await;
    let port = scene.weir.mqtt_port();
    let mut expected = Vec::new();
    for (version, _) in VERSIONS {
        for qos in ["0", "1", "2"] {
            let device = format!("{version}-{qos}");
            let topic = format!("/dev/{device}/up");
            for payload in ["{\"temp\":30}", "{\"temp\":31.5}"] {
                let args = ["-V", version, "-q", qos, "-t", &topic, "-m", payload];
                let _ = mosquitto_pub(port, &args).await.succeeded();
            }
            expected.push(format!("{device}|31.5"));
        }
    }
    all_arrived_once(scene, expected).await;
}

/// [MQTT3-7.0.0-2]
#[tokio::test]
async fn every_version_of_paho_is_heard_at_every_qos() {
    let script = repository().join("tests/rules_to_sinks/paho_publish.py");
    let scene = Scene::start().await;
    let port = scene.weir.mqtt_port().to_string();
    let mut expected = Vec::new();
    for (_, version) in VERSIONS {
        for qos in ["0", "1", "2"] {
            let device = format!("paho-{version}-{qos}");
            let topic = format!("/dev/{device}/up");
            let messages = ["{\"temp\":30}", "{\"temp\":31.5}"];
            let args = [&port, version, qos, &topic, messages[0], messages[1]];
            let _ = paho(&script, &args).await.succeeded();
            expected.push(format!("{device}|31.5"));
        }
    }
    all_arrived_once(scene, expected).await;
}

/// Each device sent one message that passes and one that does not.
async fn all_arrived_once(mut scene: Scene, mut expected: Vec<String>) {
    let devices = expected.len();
    scene.settled(2 * devices as u64, devices as u64).await;

    expected.sort();
    assert_eq!(scene.rows().await, expected);

    let mut alerts: Vec<String> = scene
        .webhook
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    alerts.sort();
    let device = |row: &String| row.split('|').next().unwrap_or_default().to_owned();
    let targets: Vec<String> = expected
        .iter()
        .map(|row| format!("/alert/{}", device(row)))
        .collect();
    assert_eq!(alerts, targets);

    let mut passed_on: Vec<String> = scene
        .headquarters
        .wait_for(devices)
        .await
        .iter()
        .map(|message| message.topic.clone())
        .collect();
    passed_on.sort();
    let topics: Vec<String> = expected
        .iter()
        .map(|row| format!("site-a/hot/{}", device(row)))
        .collect();
    assert_eq!(passed_on, topics);
}
