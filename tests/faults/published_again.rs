//! `weir replay --to broker`: what was captured or recorded, published again.

use std::process::Stdio;

use serde_json::Value as Json;
use tokio::process::{Child, Command};
use weir_test_support::{Mosquitto, Received, Site, Weir, mosquitto_pub};

use crate::WEIR;
use crate::replay::{captured, lines_of, replay, rule, site};

/// `weir replay … --to broker` to this port.
async fn to_broker(site: &Site, port: u16, args: &[&str]) -> (Option<i32>, String, String) {
    let host = format!("127.0.0.1:{port}");
    let rest = ["--to", "broker", "--host", &host];
    let args: Vec<&str> = args.iter().chain(&rest).copied().collect();
    replay(site, &args).await
}

fn summary(said: &str) -> Json {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

async fn publish(weir: &Weir, args: &[&str]) {
    let sent = mosquitto_pub(weir.mqtt_port(), args).await;
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
}

/// Lines of `weir sub --json`: `n` and the time at which it came.
fn lines(messages: &[(u64, i64)]) -> String {
    let line = |(n, at): &(u64, i64)| {
        format!(
            "{{\"v\":1,\"timestamp\":{at},\"topic\":\"t/{n}\",\"qos\":1,\"payload\":\"{n}\"}}\n"
        )
    };
    messages.iter().map(line).collect()
}

fn payloads(received: &[Received]) -> Vec<&str> {
    let payloads = received.iter().map(|message| message.payload.as_str());
    payloads.collect()
}

#[tokio::test]
async fn captured_messages_keep_their_order_qos_flag_and_properties() {
    let site = site("");
    site.rule(
        "copy",
        "sql = '''SELECT payload FROM \"dev/a/up\"'''\n[[sinks]]\ntype = \"republish\"\ntopic = \"dev/copy\"\n",
    );
    let weir = site.start(WEIR).await;
    publish(&weir, &["-t", "dev/a/up", "-m", "0", "-q", "0"]).await;
    for n in 1..=20 {
        let (topic, n) = (format!("dev/{n}/up"), n.to_string());
        let args = [
            "-t",
            &topic,
            "-m",
            &n,
            "-q",
            if n.len() > 1 { "1" } else { "2" },
        ];
        publish(&weir, &args).await;
    }
    let property = ["-V", "5", "-D", "publish", "user-property", "site", "7"];
    let kept = [
        &["-t", "dev/kept", "-m", "21", "-q", "1", "-r"][..],
        &property,
    ]
    .concat();
    publish(&weir, &kept).await;
    // With the copy that a rule has made of the first one.
    captured(&site, 23).await;
    weir.kill().await;

    let far = Site::new();
    far.rule(
        "seen",
        &rule(
            "seen",
            "SELECT payload AS p, topic, qos, flags.retain AS retain, pub_props.'User-Property'.site AS site FROM \"dev/#\"",
        ),
    );
    let far_weir = far.start(WEIR).await;
    let args = ["--from", "1h", "--speed", "max", "--json"];
    let (code, said, told) = to_broker(&site, far_weir.mqtt_port(), &args).await;
    assert_eq!(code, Some(0), "{told}");
    let done = summary(&said);
    let counts = [
        "published",
        "acknowledged",
        "refused",
        "unacknowledged",
        "left_out",
    ];
    assert_eq!(
        counts.map(|name| done[name].as_u64().unwrap()),
        [22, 21, 0, 0, 1],
        "{said}"
    );
    assert!(told.contains("that rules had republished"), "{told}");
    assert_eq!(far_weir.stop().await, Some(0));
    let seen = lines_of(&far, "seen");
    let numbers: Vec<&str> = seen.iter().map(|row| row["p"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..=21).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
    let qos: Vec<u64> = seen
        .iter()
        .map(|row| row["qos"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (0..=21)
        .map(|n| match n {
            0 => 0,
            1..=9 => 2,
            _ => 1,
        })
        .collect();
    assert_eq!(qos, expected);
    let last = seen.last().unwrap();
    assert_eq!(
        (&last["topic"], &last["retain"], &last["site"]),
        (&"dev/kept".into(), &true.into(), &"7".into()),
        "{last}"
    );
    assert_eq!(seen[0]["retain"], false);
}

#[tokio::test]
async fn a_recorded_file_is_published_at_the_pace_at_which_it_came_times_the_speed() {
    let (site, mosquitto) = (Site::new(), Mosquitto::start().await);
    let mut subscriber = mosquitto.subscribe("t/#", &["-q", "1"]).await;
    site.write(
        "seen.jsonl",
        &lines(&[(1, 50_000), (2, 50_600), (3, 51_200)]),
    );
    for (speed, seconds) in [("1", 1.2), ("2", 0.6), ("max", 0.0)] {
        let args = ["seen.jsonl", "--speed", speed, "--json"];
        let (code, said, told) = to_broker(&site, mosquitto.port(), &args).await;
        assert_eq!(code, Some(0), "{told}");
        let done = summary(&said);
        assert_eq!(done["acknowledged"], 3, "{said}");
        assert!(
            done["seconds"].as_f64().unwrap() >= seconds,
            "{speed}: {said}"
        );
    }
    let received = subscriber.wait_for(9).await;
    assert_eq!(
        payloads(received),
        ["1", "2", "3", "1", "2", "3", "1", "2", "3"]
    );
    // What `weir sub` has recorded can be published.
    site.write("untimed.jsonl", "{\"topic\":\"t/4\",\"payload\":\"4\"}\n");
    let (code, said, told) = to_broker(&site, mosquitto.port(), &["untimed.jsonl"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(said.starts_with("published 1 in "), "{said}");
    assert!(told.contains("without `timestamp`"), "{told}");
    assert_eq!(payloads(subscriber.wait_for(10).await).last(), Some(&"4"));
}

#[tokio::test]
async fn more_messages_than_may_be_under_way_arrive_in_their_order() {
    let site = Site::new();
    // Slow as the subscriber may be, it gets all of them.
    let config = "allow_anonymous true\nmax_queued_messages 0\n";
    let mosquitto = Mosquitto::start_with(config).await;
    let mut subscriber = mosquitto.subscribe("t/#", &["-q", "1"]).await;
    let all: Vec<(u64, i64)> = (0..3_000).map(|n| (n, 1)).collect();
    site.write("seen.jsonl", &lines(&all));
    let args = ["seen.jsonl", "--speed", "max", "--json"];
    let (code, said, told) = to_broker(&site, mosquitto.port(), &args).await;
    assert_eq!(code, Some(0), "{told}");
    let done = summary(&said);
    assert_eq!(
        (
            &done["published"],
            &done["acknowledged"],
            &done["unacknowledged"]
        ),
        (&3_000.into(), &3_000.into(), &0.into())
    );
    let received = subscriber.wait_for(3_000).await;
    let expected: Vec<String> = (0..3_000).map(|n: u64| n.to_string()).collect();
    assert_eq!(payloads(received), expected);
}

/// A replay that has published three messages and waits an hour for the fourth.
async fn three_of_four(site: &Site, mosquitto: &Mosquitto) -> Child {
    let mut subscriber = mosquitto.subscribe("t/#", &["-q", "1"]).await;
    site.write(
        "seen.jsonl",
        &lines(&[(1, 1_000), (2, 1_000), (3, 1_000), (4, 3_601_000)]),
    );
    let host = format!("127.0.0.1:{}", mosquitto.port());
    let child = Command::new(WEIR)
        .args([
            "replay",
            "seen.jsonl",
            "--to",
            "broker",
            "--json",
            "--host",
            &host,
        ])
        .current_dir(site.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let received = subscriber.wait_for(3).await;
    assert_eq!(payloads(received), ["1", "2", "3"]);
    child
}

#[tokio::test]
async fn ctrl_c_ends_a_replay_with_its_counts() {
    let (site, mosquitto) = (Site::new(), Mosquitto::start().await);
    let child = three_of_four(&site, &mosquitto).await;
    let pid = child.id().unwrap().to_string();
    let told = Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(told.unwrap().success());
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let done = summary(&String::from_utf8(ended.stdout).unwrap());
    assert_eq!(
        (
            &done["published"],
            &done["acknowledged"],
            &done["unacknowledged"]
        ),
        (&3.into(), &3.into(), &0.into())
    );
    assert!(
        mosquitto.log().contains("disconnected."),
        "it has said good-bye: {}",
        mosquitto.log()
    );
}

#[tokio::test]
async fn a_broker_that_goes_away_ends_a_replay_with_its_counts() {
    let (site, mut mosquitto) = (Site::new(), Mosquitto::start().await);
    let child = three_of_four(&site, &mosquitto).await;
    mosquitto.stop().await;
    let ended = child.wait_with_output().await.unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(told.contains("the connection was lost"), "{told}");
    let done = summary(&String::from_utf8(ended.stdout).unwrap());
    assert_eq!(done["published"], 3);
    let (code, said, told) = to_broker(&site, mosquitto.port(), &["seen.jsonl"]).await;
    assert_eq!((code, &*said), (Some(3), ""), "{told}");
}

#[tokio::test]
async fn what_a_broker_does_not_take_is_counted_and_named() {
    let site = Site::new();
    let mosquitto = Mosquitto::start_with("allow_anonymous true\nmax_qos 1\n").await;
    let mut subscriber = mosquitto.subscribe("t/#", &["-q", "1"]).await;
    site.write(
        "seen.jsonl",
        "{\"topic\":\"t/1\",\"qos\":2,\"payload\":\"1\"}\n{\"topic\":\"t/2\",\"qos\":1,\"payload\":\"2\"}\n",
    );
    let (code, said, told) = to_broker(&site, mosquitto.port(), &["seen.jsonl"]).await;
    assert_eq!(code, Some(4), "{told}");
    assert!(said.contains("acknowledged 1  refused 1"), "{said}");
    assert!(told.contains("`t/1`: qos_not_supported"), "{told}");
    assert_eq!(payloads(subscriber.wait_for(1).await), ["2"]);
    for (args, words) in [
        (
            &["seen.jsonl", "--speed", "2"][..],
            "--speed has no meaning here",
        ),
        (
            &["seen.jsonl", "--to", "broker", "--rule", "x"],
            "--rule has no meaning here",
        ),
        (
            &["seen.jsonl", "--to", "broker", "--speed", "0"],
            "how many times as fast",
        ),
        (&["--to", "broker"], "[E1608] nothing was captured"),
    ] {
        let (code, _, told) = replay(&site, args).await;
        assert_eq!(code, Some(2), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: {told}");
    }
}
