//! Bridges to a real mosquitto, and to a listener that only counts CONNECTs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use weir_sinks::{ConnectorConfig, LinkState, bridge};
use weir_test_support::{Mosquitto, wait_until};

use crate::bench::{Bench, PATIENCE};

pub(crate) fn number(payload: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(payload).unwrap()["n"]
        .as_u64()
        .unwrap()
}

fn plain(port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"weir\"\n\
         backoff = {{ base = \"100ms\", cap = \"300ms\" }}\n{more}"
    )
}

/// [MQTT3-7.0.0-1]
#[tokio::test]
async fn a_message_carries_topic_qos_retain_and_payload() {
    for (protocol, qos) in [("auto", 0), ("5", 1), ("5", 2), ("3.1.1", 2)] {
        let remote = Mosquitto::start().await;
        let mut subscriber = remote.subscribe("up/#", &["-q", "2"]).await;
        let connector = plain(remote.port(), &format!("protocol = \"{protocol}\""));
        let bench = Bench::new(
            &format!("topic = \"up/${{device}}\"\nqos = {qos}\npayload = \"t=${{temp}}\""),
            Some(&connector),
        );
        bench.push(r#"{"device":"a1","temp":31.5}"#);
        let got = subscriber.wait_for(1).await[0].clone();
        assert_eq!(
            (got.topic.as_str(), got.payload.as_str(), got.qos),
            ("up/a1", "t=31.5", qos),
            "{protocol}"
        );
        assert_eq!(bench.settled().await.delivered, 1);
    }
}

/// [LESSON-4]
#[tokio::test]
async fn a_remote_that_dies_under_load_gets_every_message_in_order_afterwards() {
    let mut remote = Mosquitto::start_with("allow_anonymous true\nmax_queued_messages 0\n").await;
    let bench = Bench::new("topic = \"up/x\"\nqos = 1", Some(&plain(remote.port(), "")));
    // The remote keeps nothing over its death, so what matters is what the second life receives.
    (0..6000).for_each(|number| bench.push(&format!("{{\"n\":{number}}}")));
    bench
        .wait("some are acknowledged", |c| c.delivered > 500)
        .await;
    remote.stop().await;
    wait_until("the link is down", PATIENCE, || async {
        bench.connector.as_ref().unwrap().state().link != LinkState::Up
    })
    .await;
    let acknowledged = bench.sink.counters().delivered;
    remote.start_again().await;
    let mut subscriber = remote.subscribe("up/x", &["-q", "1"]).await;
    let mut count = 1;
    while number(&subscriber.wait_for(count).await[count - 1].payload) != 5999 {
        count += 1;
    }
    let got = subscriber.wait_for(count).await;
    let got: Vec<_> = got.iter().map(|message| number(&message.payload)).collect();
    // What the subscriber saw starts after it subscribed, and has no gap, no repeat and no step back from there.
    assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1), "{got:?}");
    assert!(acknowledged < 6000, "the remote died in the middle");
    let counters = bench.settled().await;
    assert_eq!(
        (counters.delivered, counters.dead_lettered),
        (6000, 0),
        "{:?}",
        bench.sink.last_error()
    );
}

#[tokio::test]
async fn a_new_link_takes_the_place_of_an_idle_one_without_a_fight_over_the_client_id() {
    let remote = Mosquitto::start().await;
    let config: ConnectorConfig = toml::from_str(&plain(remote.port(), "")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = "connector = \"far\"\ntopic = \"up/x\"\nqos = 1";
    let connector = || weir_sinks::Connector::open("far", &config, folder.path()).unwrap();
    let old = connector();
    let bench = weir_sinks::open(&crate::bench::spec(
        sink,
        Some((&config, &old)),
        folder.path(),
    ))
    .unwrap();
    wait_until("the first link is up", PATIENCE, || async {
        old.state().link == LinkState::Up
    })
    .await;
    let new = connector();
    bench
        .reconfigure(&crate::bench::spec(
            sink,
            Some((&config, &new)),
            folder.path(),
        ))
        .unwrap();
    assert_eq!(
        new.state().link,
        LinkState::Idle,
        "the old link goes before the new one is made"
    );
    let weak = std::sync::Arc::downgrade(&old);
    drop(old);
    wait_until("the old link is gone", PATIENCE, || async {
        weak.strong_count() == 0
    })
    .await;
    crate::bench::push(&bench, "{\"n\":1}");
    crate::bench::wait(&bench, "the new link delivers", |c| c.delivered == 1).await;
    assert_eq!(
        new.bridge_stats().unwrap().connects.load(Ordering::SeqCst),
        1
    );
}

#[tokio::test]
async fn the_link_is_one_for_all_sinks_of_a_connector() {
    let remote = Mosquitto::start().await;
    let mut subscriber = remote.subscribe("#", &["-q", "1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let config: ConnectorConfig = toml::from_str(&plain(remote.port(), "")).unwrap();
    let connector = weir_sinks::Connector::open("far", &config, folder.path()).unwrap();
    let sinks: Vec<_> = (0..3)
        .map(|number| {
            let text = format!("connector = \"far\"\ntopic = \"t/{number}\"\nqos = 1");
            weir_sinks::open(&crate::bench::spec(
                &text,
                Some((&config, &connector)),
                folder.path(),
            ))
            .unwrap()
        })
        .collect();
    for sink in &sinks {
        (0..50).for_each(|number| crate::bench::push(sink, &format!("{{\"n\":{number}}}")));
    }
    for sink in &sinks {
        crate::bench::wait(sink, "all are delivered", |c| c.delivered == 50).await;
    }
    assert_eq!(subscriber.wait_for(150).await.len(), 150);
    assert_eq!(
        connector
            .bridge_stats()
            .unwrap()
            .connects
            .load(Ordering::Relaxed),
        1
    );
}

#[tokio::test]
async fn refused_credentials_are_shown_and_nothing_is_lost() {
    let remote = Mosquitto::start_with_password("weir", "right").await;
    let connector = plain(remote.port(), "username = \"weir\"\npassword = \"wrong\"");
    let bench = Bench::new("topic = \"up/x\"\nqos = 1", Some(&connector));
    bench.push("{}");
    wait_until("the refusal shows", PATIENCE, || async {
        bench.connector.as_ref().unwrap().state().link == LinkState::AuthFailed
    })
    .await;
    bench
        .wait("the sink says why", |_| {
            bench
                .sink
                .last_error()
                .is_some_and(|last| last.error.code() == "E4103")
        })
        .await;
    let counters = bench.sink.counters();
    assert_eq!(counters.buffered_rows + counters.inflight_rows, 1);
}

/// The client id of a CONNECT: after fixed header, protocol name, level, flags, keep-alive and, from level 5 on,
/// properties.
fn client_id(packet: &[u8]) -> String {
    let name = if packet[1] < 128 { 2 } else { 3 };
    let mut start = name + 10;
    if packet[name + 6] == 5 {
        start += 1 + usize::from(packet[start]);
    }
    let size = usize::from(u16::from_be_bytes([packet[start], packet[start + 1]]));
    String::from_utf8_lossy(&packet[start + 2..start + 2 + size]).into_owned()
        + if packet[name + 6] == 5 { " in 5" } else { "" }
}

/// Takes CONNECTs apart and refuses or drops them; gives their client ids.
async fn refusing_remote(
    answer: &'static [u8],
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut packet = vec![0; 1024];
            let length = stream.read(&mut packet).await.unwrap_or(0);
            if length > 12 {
                let _ = sender.send(client_id(&packet));
            }
            let _ = stream.write_all(answer).await;
        }
    });
    (port, receiver)
}

#[tokio::test]
async fn credentials_are_signed_anew_for_every_connect() {
    // CR-1, CR-5: CONNACK 3 (server unavailable) makes the bridge try again by its schedule.
    let (port, mut connects) = refusing_remote(&[0x20, 2, 0, 3]).await;
    let connector = format!(
        "type = \"mqtt\"\npreset = \"aliyun_iot\"\nproduct_key = \"pk\"\ndevice_name = \"gw01\"\ndevice_secret = \"s\"\n\
         addresses = [\"mqtt://127.0.0.1:{port}\"]"
    );
    let bench = Bench::new("topic = \"/sys/pk/gw01/up\"\nqos = 1", Some(&connector));
    bench.push("{}");
    let time = |id: &str| {
        id.split("timestamp=")
            .nth(1)
            .unwrap()
            .trim_end_matches('|')
            .parse::<u64>()
            .unwrap()
    };
    let first = connects.recv().await.unwrap();
    let began = std::time::Instant::now();
    let second = tokio::time::timeout(PATIENCE, connects.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(
        first.starts_with("pk.gw01|securemode=3,signmethod=hmacsha256,timestamp="),
        "{first}"
    );
    assert!(
        time(&second) - time(&first) >= 11_000,
        "each attempt is signed at its own time"
    );
    assert!(
        began.elapsed() >= Duration::from_millis(11_900),
        "the cloud's spacing of 12 s: {:?}",
        began.elapsed()
    );
    let stats = bench.connector.as_ref().unwrap().bridge_stats().unwrap();
    assert_eq!(
        stats.sign_calls.load(Ordering::Relaxed),
        stats.connects.load(Ordering::Relaxed)
    );
    assert_eq!(stats.connects.load(Ordering::Relaxed), 2);
}

/// [MQTT3-7.0.0-1]
#[tokio::test]
async fn a_remote_that_does_not_know_mqtt_5_is_spoken_to_in_3_1_1() {
    let (port, mut connects) = refusing_remote(&[0x20, 2, 0, 1]).await;
    let bench = Bench::new("topic = \"t\"", Some(&plain(port, "")));
    bench.push("{}");
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(
            tokio::time::timeout(PATIENCE, connects.recv())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    assert_eq!(seen, ["weir in 5", "weir"]);
}

#[tokio::test]
async fn a_remote_that_was_away_at_first_is_spoken_to_in_5() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let bench = Bench::new("topic = \"t\"", Some(&plain(port, "")));
    bench.push("{}");
    let connector = bench.connector.as_ref().unwrap();
    wait_until("some attempts have failed", PATIENCE, || async {
        let stats = connector.bridge_stats().unwrap();
        stats.connects.load(Ordering::Relaxed) >= 3
    })
    .await;
    // It is there now, and hangs up on whoever speaks 5: each round begins with 5 all the same.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept())
            .await
            .unwrap()
            .unwrap();
        let mut packet = vec![0; 1024];
        assert!(stream.read(&mut packet).await.unwrap() > 12);
        seen.push(client_id(&packet));
    }
    assert_eq!(seen, ["weir in 5", "weir", "weir in 5", "weir"]);
}

/// [LESSON-9]
#[tokio::test]
async fn an_acknowledgement_that_never_comes_makes_the_link_anew() {
    // Accepts the connection and then acknowledges nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut connects) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = sender.send(());
            tokio::spawn(async move {
                let mut bytes = vec![0; 4096];
                let _ = stream.read(&mut bytes).await;
                let _ = stream.write_all(&[0x20, 2, 0, 0]).await;
                while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
            });
        }
    });
    let bench = Bench::new(
        "topic = \"t\"\nqos = 1",
        Some(&plain(
            port,
            "protocol = \"3.1.1\"\nack_timeout = \"300ms\"",
        )),
    );
    bench.push("{}");
    for _ in 0..2 {
        tokio::time::timeout(PATIENCE, connects.recv())
            .await
            .unwrap()
            .unwrap();
    }
    let error = bench
        .connector
        .as_ref()
        .unwrap()
        .state()
        .last_error
        .unwrap()
        .error;
    assert_eq!(error.code(), "E4111");
    assert_eq!(bench.sink.counters().delivered, 0);
}

#[tokio::test]
async fn a_bridge_is_tested_stage_by_stage() {
    let remote = Mosquitto::start().await;
    let folder = tempfile::tempdir().unwrap();
    let parse = |text: &str| match toml::from_str(text).unwrap() {
        ConnectorConfig::Mqtt(config) => config,
        other => panic!("{other:?}"),
    };
    let config = parse(&plain(remote.port(), ""));
    let stages = bridge::test(&config, folder.path(), true, None).await;
    let names: Vec<_> = stages.iter().map(|stage| (stage.name, stage.ok)).collect();
    assert_eq!(
        names,
        [
            ("config", true),
            ("dns", true),
            ("tcp", true),
            ("connect", true)
        ],
        "{stages:?}"
    );
    let offline = bridge::test(&config, folder.path(), false, None).await;
    assert_eq!(offline.len(), 1);
    assert_eq!(offline[0].credentials.as_ref().unwrap().client_id, "weir");
    let closed = parse(&plain(weir_test_support::free_port(), ""));
    let stages = bridge::test(&closed, folder.path(), true, None).await;
    assert_eq!(
        stages.last().map(|stage| (stage.name, stage.ok)),
        Some(("tcp", false))
    );
    let refused = Mosquitto::start_with_password("weir", "right").await;
    let wrong = parse(&plain(
        refused.port(),
        "username = \"weir\"\npassword = \"wrong\"",
    ));
    let stages = bridge::test(&wrong, folder.path(), true, None).await;
    assert_eq!(
        stages.last().map(|stage| (stage.name, stage.code)),
        Some(("connect", Some("E4103"))),
        "{stages:?}"
    );
}
