//! Rules over bridges: circles of two weirs that marks end, and messages of `out` that have no name at the remote.

use std::time::Duration;

use weir_test_support::{Site, Subscriber, Weir, mosquitto_pub, wait_until};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a message that goes round to come back.
const QUIET: Duration = Duration::from_millis(1500);

fn hq(client_id: &str, port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"{client_id}\"\n\
         backoff = {{ base = \"100ms\", cap = \"300ms\" }}\nprotocol = \"5\"\n{more}"
    )
}

/// A rule that sends what it reads over the bridge, under another topic.
fn send_on(from: &str, topic: &str, more: &str) -> String {
    format!(
        "sql = '''SELECT payload FROM \"{from}\"'''\n[[sinks]]\nconnector = \"hq\"\ntopic = \"{topic}\"\n\
         payload = \"${{payload}}\"\nqos = 1\n{more}"
    )
}

async fn publish(port: u16, topic: &str, message: &str) {
    let args = ["-t", topic, "-q", "1", "-m", message];
    let _ = mosquitto_pub(port, &args).await.succeeded();
}

/// Two weirs, each with a connector to the other, whose rules send on what the other's rule sends.
async fn two_weirs(more: &str) -> ((Site, Weir), (Site, Weir)) {
    let (first, second) = (Site::new(), Site::new());
    let far = second.start(WEIR).await;
    first.connector("hq", &hq("near", far.mqtt_port(), ""));
    first.rule("ping", &send_on("ping/#", "pong/x", more));
    let near = first.start(WEIR).await;
    second.connector("hq", &hq("far", near.mqtt_port(), ""));
    second.rule("pong", &send_on("pong/#", "ping/x", more));
    let _ = far.reload().await.succeeded();
    ((first, near), (second, far))
}

#[tokio::test]
async fn marks_on_rules_messages_end_a_circle_of_two_weirs() {
    let ((_first, near), (_second, far)) = two_weirs("").await;
    let mut there = Subscriber::start(far.mqtt_port(), "pong/#", &["-q", "1"]).await;
    let mut here = Subscriber::start(near.mqtt_port(), "ping/#", &["-q", "1"]).await;
    publish(near.mqtt_port(), "ping/start", "one").await;
    there.wait_for(1).await;
    let there = there.all_within(QUIET).await.len();
    let here = here.all_within(QUIET).await;
    let here: Vec<_> = here.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!((there, here), (1, vec!["ping/start"]));
}

#[tokio::test]
async fn a_rule_that_clears_the_origin_may_answer() {
    let ((_first, near), (_second, _far)) = two_weirs("origin = \"clear\"\n").await;
    let mut here = Subscriber::start(near.mqtt_port(), "ping/#", &["-q", "1"]).await;
    publish(near.mqtt_port(), "ping/start", "one").await;
    // The original, and what has been there and back, again and again.
    here.wait_for(3).await;
}

#[tokio::test]
async fn what_a_rule_republishes_keeps_the_mark_of_what_it_read() {
    let (first, second) = (Site::new(), Site::new());
    second.rule(
        "back",
        "sql = '''SELECT payload FROM \"up/#\"'''\n[[sinks]]\ntype = \"republish\"\ntopic = \"down/x\"\n\
         payload = \"${payload}\"\n",
    );
    let far = second.start(WEIR).await;
    first.connector(
        "hq",
        &hq("near", far.mqtt_port(), "[[in]]\nfilter = \"down/#\"\n"),
    );
    first.rule("there", &send_on("down/#", "up/x", ""));
    let near = first.start(WEIR).await;
    let mut there = Subscriber::start(far.mqtt_port(), "down/#", &["-q", "1"]).await;
    publish(near.mqtt_port(), "down/start", "one").await;
    there.wait_for(1).await;
    assert_eq!(there.all_within(QUIET).await.len(), 1);
    wait_until("it was thrown away when it came back", PATIENCE, || async {
        let labels = [("connector", "hq"), ("reason", "loop")];
        near.metric("weir_bridge_dropped_total", &labels).await > 0.0
    })
    .await;
}

#[tokio::test]
async fn a_message_without_a_name_at_the_remote_is_a_dead_letter_until_it_has_one() {
    let (first, second) = (Site::new(), Site::new());
    let far = second.start(WEIR).await;
    let mut there = Subscriber::start(far.mqtt_port(), "#", &["-q", "1"]).await;
    let out = |name: &str| {
        let out = format!("[[out]]\nfilter = \"a/#\"\nremote_topic = \"{name}\"\n");
        hq("near", far.mqtt_port(), &out)
    };
    first.connector("hq", &out("there/${username}"));
    let near = first.start(WEIR).await;
    publish(near.mqtt_port(), "a/b", "one").await;
    wait_until("it is a dead letter", PATIENCE, || async {
        let labels = [("rule", "$bridges/hq"), ("sink", "out")];
        near.metric("weir_sink_rows_dead_lettered_total", &labels)
            .await
            > 0.0
    })
    .await;
    let labels = [("connector", "hq"), ("reason", "template")];
    assert_eq!(
        near.metric("weir_bridge_unmapped_total", &labels).await,
        1.0
    );
    let listed = near.command(&["dlq", "ls", "--json"]).await.succeeded();
    assert!(listed.stdout.contains("E4116"), "{}", listed.stdout);
    first.connector("hq", &out("there/${topic}"));
    let _ = near.reload().await.succeeded();
    let _ = near
        .command(&["dlq", "retry", "--rule", "$bridges/hq"])
        .await
        .succeeded();
    let got = there.wait_for(1).await[0].clone();
    assert_eq!(
        (got.topic.as_str(), got.payload.as_str()),
        ("there/a/b", "one")
    );
}

#[tokio::test]
async fn messages_of_qos_0_do_not_wait_where_the_file_says_so() {
    let site = Site::new();
    // Nobody listens there.
    let more = "queue = { store_qos0 = false }\n[[out]]\nfilter = \"a/#\"\n";
    site.connector("hq", &hq("near", 1, more));
    let weir = site.start(WEIR).await;
    let args = ["-t", "a/b", "-q", "0", "-m", "gone"];
    let _ = mosquitto_pub(weir.mqtt_port(), &args).await.succeeded();
    wait_until("it is counted", PATIENCE, || async {
        let labels = [("connector", "hq")];
        weir.metric("weir_bridge_not_kept_total", &labels).await > 0.0
    })
    .await;
    publish(weir.mqtt_port(), "a/b", "waits").await;
    let labels = [("rule", "$bridges/hq"), ("sink", "out")];
    assert_eq!(weir.metric("weir_sink_rows_in_total", &labels).await, 1.0);
}
