//! The main job in one sentence: devices over 30 degrees reach PostgreSQL, a webhook and another
//! broker. The rule is the example that the repository ships.

use crate::WEIR;
use std::time::Duration;
use weir_test_support::{
    Database, Mosquitto, Postgres, Site, Subscriber, Webhook, Weir, example, mosquitto_pub,
    wait_until,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// `rules/hot.toml` in a running weir, with a real service behind each of its sinks.
pub(crate) struct Scene {
    pub(crate) weir: Weir,
    pub(crate) database: Database,
    pub(crate) webhook: Webhook,
    pub(crate) headquarters: Subscriber,
    _mosquitto: Mosquitto,
    _site: Site,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        let database = Postgres::shared().await.create_database().await;
        let webhook = Webhook::start().await;
        let mosquitto = Mosquitto::start().await;
        let headquarters = mosquitto.subscribe("site-a/hot/#", &["-q", "1"]).await;

        let mut site = Site::new();
        site.rule("hot", &example("hot.toml"));
        site.connector("pg_main", &example("connectors/pg_main.toml"));
        site.connector("hq", &example("connectors/hq.toml"));
        site.env("PG_URL", database.url());
        site.env("HOOK_URL", &webhook.url());
        site.env("HQ_URL", &mosquitto.url());
        Self {
            weir: site.start(WEIR).await,
            database,
            webhook,
            headquarters,
            _mosquitto: mosquitto,
            _site: site,
        }
    }

    /// Returns when the rule has seen `matched` messages, and each of its three sinks has delivered
    /// the rows of the `passed` ones.
    pub(crate) async fn settled(&self, matched: u64, passed: u64) {
        let what = format!("{matched} messages to be dealt with");
        wait_until(&what, DEADLINE, || async {
            let count = async |name| self.weir.metric(name, &[("rule", "hot")]).await;
            count("weir_rule_matched_total").await >= matched as f64
                && count("weir_sink_rows_delivered_total").await >= 3.0 * passed as f64
        })
        .await;
    }

    /// What PostgreSQL has: `device|temp`, in order of device.
    pub(crate) async fn rows(&self) -> Vec<String> {
        let table = self.database.psql("SELECT to_regclass('readings')").await;
        if table.is_empty() {
            return Vec::new();
        }
        let rows = self
            .database
            .psql("SELECT device, temp FROM readings ORDER BY device")
            .await;
        rows.lines().map(str::to_owned).collect()
    }
}

async fn publish(scene: &Scene, topic: &str, payload: &str) {
    let _ = mosquitto_pub(
        scene.weir.mqtt_port(),
        &["-t", topic, "-m", payload, "-q", "1"],
    )
    .await
    .succeeded();
}

#[tokio::test]
async fn a_device_over_30_degrees_reaches_all_three_sinks() {
    let mut scene = Scene::start().await;
    publish(&scene, "/dev/a1/up", "{\"temp\":31.5}").await;
    scene.settled(1, 1).await;

    assert_eq!(scene.rows().await, ["a1|31.5"]);

    let requests = scene.webhook.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].target, "/alert/a1");
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(
        requests[0].json(),
        serde_json::json!({"text": "a1 has 31.5 degrees", "device": "a1", "temp": 31.5})
    );

    let messages = scene.headquarters.wait_for(1).await;
    assert_eq!(messages[0].topic, "site-a/hot/a1");
    assert_eq!(messages[0].payload, "{\"temp\": 31.5}");
    assert_eq!(messages[0].qos, 1);
}

#[tokio::test]
async fn a_device_at_30_degrees_reaches_none_of_them() {
    let mut scene = Scene::start().await;
    publish(&scene, "/dev/a1/up", "{\"temp\":30}").await;
    publish(&scene, "/dev/a1/up", "{\"hum\":99}").await;
    publish(&scene, "/dev/a1/down", "{\"temp\":99}").await;
    // The last one passes: what came before it would have arrived before it or with it.
    publish(&scene, "/dev/last/up", "{\"temp\":30.001}").await;
    scene.settled(3, 1).await;

    assert_eq!(scene.rows().await, ["last|30.001"]);
    assert_eq!(scene.webhook.requests().len(), 1);
    let messages = scene
        .headquarters
        .all_within(Duration::from_millis(200))
        .await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0].topic, "site-a/hot/last");
}

#[tokio::test]
async fn broken_json_is_an_error_of_that_rule_and_the_next_message_passes() {
    let scene = Scene::start().await;
    publish(&scene, "/dev/a1/up", "{temp:").await;
    publish(&scene, "/dev/a1/up", "{\"temp\":31.5}").await;
    scene.settled(2, 1).await;

    assert_eq!(scene.rows().await, ["a1|31.5"]);
    let errors = [("rule", "hot"), ("kind", "payload_decode")];
    let counted = scene.weir.metric("weir_rule_errors_total", &errors).await;
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
}
