//! Messages that the remote does not take and says so only by closing the link, or by a limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_rules::value::Text;
use weir_sinks::{ConnectorConfig, MemoryRows, SinkHandle, record};
use weir_test_support::{Mosquitto, wait_until};

use crate::bench::{self, Bench, PATIENCE};
use crate::crossing::{Far, Remote, commit, open};

/// Takes messages until one says `bad`; what came.
async fn take_until_bad(far: &mut Far, came: &mut Vec<String>) {
    loop {
        let (kind, body) = far.packet().await;
        match kind >> 4 {
            3 => {
                let topic = usize::from(body[1]);
                let id = u16::from_be_bytes([body[2 + topic], body[3 + topic]]);
                let payload = String::from_utf8_lossy(&body[4 + topic..]).into_owned();
                if payload == "bad" {
                    return;
                }
                came.push(payload);
                far.acknowledge(0x50, id).await;
            }
            6 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                far.acknowledge(0x70, id).await;
                if came.last().is_some_and(|last| last == "last") {
                    return;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_message_over_which_the_remote_closes_the_link_does_not_hold_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("3.1.1");
    let log = Arc::new(MemoryRows::new(1, 90));
    for payload in ["one", "two", "bad", "last"] {
        commit(&log, &config, payload);
    }
    let (connector, sink) = open(folder.path(), &config, &log);
    let (mut came, mut links) = (Vec::new(), 0);
    while came.last().is_none_or(|last| last != "last") {
        let mut far = remote.accept(links > 0).await;
        links += 1;
        take_until_bad(&mut far, &mut came).await;
    }
    came.dedup();
    assert_eq!(came, ["one", "two", "last"]);
    // Three times alone, or more where those were soon over; before that perhaps together with others.
    assert!((4..=8).contains(&links), "{links}");
    bench::wait(&sink, "all are settled", |c| {
        c.delivered == 3 && c.dead_lettered == 1
    })
    .await;
    let path = weir_sinks::dead_letter::file::path(folder.path(), "$bridges/hq", "out");
    let letters = std::fs::read_to_string(path).unwrap();
    assert!(letters.contains("E4117"), "{letters}");
    let stats = connector.bridge_stats().unwrap();
    let given_up = stats.given_up.load(Ordering::Relaxed);
    assert_eq!(given_up, 1);
}

/// [MQTT-3.1.2-24]
#[tokio::test]
async fn a_packet_of_the_size_that_the_remote_takes_is_sent_and_one_byte_more_is_not() {
    let remote = Remote::new().await;
    let config: ConnectorConfig =
        toml::from_str(&remote.toml("protocol = \"5\"\nclean_start = true")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let connector = weir_sinks::Connector::open("far", &config, folder.path()).unwrap();
    let sink = "connector = \"far\"\ntopic = \"t\"\nqos = 1\npayload = \"${p}\"";
    let sink = weir_sinks::open(&bench::spec(
        sink,
        Some((&config, &connector)),
        folder.path(),
    ))
    .unwrap();
    for many in [93, 92] {
        bench::push(&sink, &format!("{{\"p\":\"{}\"}}", "x".repeat(many)));
    }
    let mut far = remote.accept_saying(&[5, 0x27, 0, 0, 0, 100]).await;
    // Type, length, topic with its length, id, properties, payload: 2 + 3 + 2 + 1 + 92.
    let (_, id, payload) = far.publish().await;
    assert_eq!(payload.len(), 92);
    far.acknowledge(0x40, id).await;
    bench::wait(&sink, "one is sent, one refused", |c| {
        c.delivered == 1 && c.dead_lettered == 1
    })
    .await;
    assert_eq!(bench::dead_letters(folder.path())[0]["code"], "E4108");
}

#[tokio::test]
async fn a_remote_that_dies_again_and_again_costs_no_message() {
    let remote = Remote::new().await;
    let bench = Bench::new(
        "topic = \"t\"\nqos = 1\npayload = \"${n}\"\nbatch = { max_rows = 1 }",
        Some(&remote.toml("protocol = \"3.1.1\"")),
    );
    (0..3).for_each(|n| bench.push(&format!("{{\"n\":{n}}}")));
    let stats = bench.connector.as_ref().unwrap().bridge_stats().unwrap();
    let acknowledged = || stats.acknowledged.load(Ordering::Relaxed);
    // Each life takes one message, and is gone with the next one.
    for life in 0..3 {
        let (mut far, _) = remote.accept_either(life > 0).await;
        let (_, id, _) = far.publish().await;
        far.acknowledge(0x40, id).await;
        let is_heard = || async { acknowledged() > life };
        wait_until("it is heard", PATIENCE, is_heard).await;
    }
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (3, 0));
}

/// What the remote of a test says of a message: 0x97 over `limit` bytes.
async fn answer_by_size(far: &mut Far, limit: usize) -> String {
    let (_, id, payload) = far.publish().await;
    let [high, low] = id.to_be_bytes();
    if payload.len() > limit {
        far.send(&[0x40, 3, high, low, 0x97]).await;
    } else {
        far.acknowledge(0x40, id).await;
    }
    payload
}

#[tokio::test]
async fn a_message_that_is_refused_for_its_size_as_over_a_quota_does_not_hold_up_the_others() {
    let remote = Remote::new().await;
    let bench = Bench::new(
        "topic = \"t\"\nqos = 1\npayload = \"${p}\"\nretry = { initial = \"1ms\", max = \"2ms\" }",
        Some(&remote.toml("protocol = \"5\"\nclean_start = true")),
    );
    for payload in ["small", "much too large", "last"] {
        bench.push(&format!("{{\"p\":\"{payload}\"}}"));
    }
    let mut far = remote.accept_saying(&[0]).await;
    let (mut large, mut last) = (0, false);
    while large < 50 || !last {
        match answer_by_size(&mut far, 5).await.as_str() {
            "much too large" => large += 1,
            payload => last |= payload == "last",
        }
    }
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (2, 1));
    let letter = &bench.dead_letters()[0];
    assert_eq!(letter["code"], "E4106");
    assert!(
        letter["reason"].as_str().unwrap().contains("14 bytes"),
        "{letter}"
    );
}

#[tokio::test]
async fn a_message_that_is_refused_for_its_size_before_any_other_was_taken_does_not_hold_up_the_others()
 {
    let remote = Remote::new().await;
    let bench = Bench::new(
        "topic = \"t\"\nqos = 1\npayload = \"${p}\"\nretry = { initial = \"1ms\", max = \"2ms\" }",
        Some(&remote.toml("protocol = \"5\"\nclean_start = true")),
    );
    bench.push("{\"p\":\"much too large\"}");
    let mut far = remote.accept_saying(&[0]).await;
    // It is alone when it is sent first.
    answer_by_size(&mut far, 5).await;
    bench.push("{\"p\":\"last\"}");
    let mut large = 1;
    while answer_by_size(&mut far, 5).await != "last" {
        large += 1;
    }
    assert!(large >= 50, "{large}");
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (1, 1));
    let letter = &bench.dead_letters()[0];
    assert_eq!(letter["code"], "E4106");
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("no other message"), "{reason}");
}

/// A message on `t` for `out`, as the broker gives it: the queue knows of the row before that is kept.
fn give(sink: &SinkHandle, log: &MemoryRows, qos: u64, payload: &str) {
    let row =
        format!("{{\"topic\":\"t\",\"payload\":\"{payload}\",\"qos\":{qos},\"retain\":false}}");
    let row = record::encode(1, &Text::from_static("c"), 0, &bench::row(&row));
    let permit = sink.try_reserve(1, row.len()).unwrap();
    let owed = sink.claim(permit, vec![row]).unwrap();
    log.commit(owed.rows);
    owed.claim.kept();
}

/// In MQTT 3.1.1 it closes the link, and of a message of `QoS` 0 it has read a part then.
#[tokio::test]
async fn a_message_of_out_that_is_too_large_for_mosquitto_and_comes_first_does_not_hold_up_the_others()
 {
    for qos in 0..=2 {
        let folder = tempfile::tempdir().unwrap();
        let remote = Mosquitto::start_with("allow_anonymous true\nmax_packet_size 1000\n").await;
        let config: ConnectorConfig = toml::from_str(&format!(
            "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{}\"]\nclient_id = \"w\"\n\
             protocol = \"3.1.1\"\nbackoff = {{ base = \"10ms\", cap = \"20ms\" }}\n\
             [[out]]\nfilter = \"#\"",
            remote.port()
        ))
        .unwrap();
        let log = Arc::new(MemoryRows::new(1, 95 + qos));
        let (connector, sink) = open(folder.path(), &config, &log);
        // More than sockets hold.
        give(&sink, &log, qos, &"x".repeat(16 << 20));
        let stats = connector.bridge_stats().unwrap();
        let is_tried = || async { stats.returned.load(Ordering::Relaxed) > 0 };
        wait_until("it is tried", PATIENCE, is_tried).await;
        let mut there = remote.subscribe("t", &["-q", "2"]).await;
        give(&sink, &log, qos, "small");
        bench::wait(&sink, "all are settled", |c| {
            c.delivered == 1 && c.dead_lettered == 1
        })
        .await;
        assert_eq!(there.wait_for(1).await[0].payload, "small");
        let letters = weir_sinks::dead_letter::file::path(folder.path(), "$bridges/hq", "out");
        let letters = std::fs::read_to_string(letters).unwrap();
        assert!(letters.contains("E4117"), "{qos}");
    }
}

/// [MQTT-3.1.2-24]
#[tokio::test]
async fn a_message_of_out_larger_than_connack_allows_that_comes_first_does_not_hold_up_the_others()
{
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config = remote.config("5");
    let log = Arc::new(MemoryRows::new(1, 94));
    let (_connector, sink) = open(folder.path(), &config, &log);
    give(&sink, &log, 1, &"x".repeat(100));
    let mut far = remote.accept_saying(&[5, 0x27, 0, 0, 0, 100]).await;
    bench::wait(&sink, "it is given up", |c| c.dead_lettered == 1).await;
    give(&sink, &log, 1, "small");
    assert_eq!(far.publish().await.2, "small");
    let letters = weir_sinks::dead_letter::file::path(folder.path(), "$bridges/hq", "out");
    let letters = std::fs::read_to_string(letters).unwrap();
    assert!(letters.contains("E4108"));
}

#[tokio::test]
async fn a_quota_that_is_used_up_for_all_is_waited_for() {
    let remote = Remote::new().await;
    let bench = Bench::new(
        "topic = \"t\"\nqos = 1\npayload = \"${p}\"\nretry = { initial = \"1ms\", max = \"2ms\" }",
        Some(&remote.toml("protocol = \"5\"\nclean_start = true")),
    );
    bench.push("{\"p\":\"as large as others\"}");
    let mut far = remote.accept_saying(&[0]).await;
    answer_by_size(&mut far, usize::MAX).await;
    bench.settled().await;
    for payload in ["no larger", "tiny"] {
        bench.push(&format!("{{\"p\":\"{payload}\"}}"));
    }
    for _ in 0..200 {
        answer_by_size(&mut far, 0).await;
    }
    for _ in 0..2 {
        answer_by_size(&mut far, usize::MAX).await;
    }
    let counters = bench.settled().await;
    assert_eq!((counters.delivered, counters.dead_lettered), (3, 0));
}

/// It answers with 0x95, which PUBACK and PUBREC do not have.
#[tokio::test]
async fn a_message_that_mosquitto_takes_for_too_large_does_not_hold_up_the_others() {
    for (protocol, qos) in [("5", 1), ("5", 2)] {
        let remote = Mosquitto::start_with("allow_anonymous true\nmessage_size_limit 10\n").await;
        let port = remote.port();
        let bench = Bench::new(
            &format!("topic = \"t\"\nqos = {qos}\npayload = \"${{p}}\""),
            Some(&format!(
                "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"w\"\n\
                 protocol = \"{protocol}\"\nbackoff = {{ base = \"10ms\", cap = \"20ms\" }}"
            )),
        );
        for payload in ["small", "much too large", "last"] {
            bench.push(&format!("{{\"p\":\"{payload}\"}}"));
        }
        let counters = bench.settled().await;
        assert_eq!((counters.delivered, counters.dead_lettered), (2, 1));
        assert_eq!(bench.dead_letters()[0]["code"], "E4117");
    }
}

#[tokio::test]
async fn a_message_over_which_the_remote_closes_the_link_is_found_beside_the_traffic_of_another_queue()
 {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::new().await;
    let config: ConnectorConfig = toml::from_str(&remote.toml("protocol = \"3.1.1\"")).unwrap();
    let connector = weir_sinks::Connector::open("far", &config, folder.path()).unwrap();
    let open = |name: &str| {
        let sink = "connector = \"far\"\ntopic = \"t\"\nqos = 1\npayload = \"${n}\"";
        let mut spec = bench::spec(sink, Some((&config, &connector)), folder.path());
        spec.sink_id = name.to_owned();
        weir_sinks::open(&spec).unwrap()
    };
    let (bad, good) = (open("bad"), open("good"));
    bench::push(&bad, "{\"n\":\"bad\"}");
    let mut links = 0;
    while bad.counters().dead_lettered == 0 {
        bench::push(&good, "{\"n\":\"good\"}");
        let mut far = remote.accept_either(false).await.0;
        links += 1;
        assert!(links < 20, "it is never found");
        let until_bad = answer_until_bad(&mut far);
        let all_is_settled = async {
            bench::wait(&bad, "it is given up", |c| c.dead_lettered == 1).await;
            bench::wait(&good, "the others are delivered", |c| c.delivered == links).await;
        };
        tokio::select! {
            () = until_bad => {}
            () = all_is_settled => {}
        }
    }
    assert_eq!(good.counters().delivered, links);
}

async fn answer_until_bad(far: &mut Far) {
    loop {
        let (_, id, payload) = far.publish().await;
        if payload == "bad" {
            return;
        }
        far.acknowledge(0x40, id).await;
    }
}
