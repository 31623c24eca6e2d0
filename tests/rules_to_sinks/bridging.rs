//! Bridges whose topics cross by themselves: `in` and `out` between a real weir and a real mosquitto, or two weirs.

use std::time::Duration;

use weir_test_support::{
    Authority, LinePublisher, Mosquitto, Site, Subscriber, Weir, mosquitto_pub, wait_until,
};

use crate::WEIR;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a message that goes round to come back.
const QUIET: Duration = Duration::from_millis(1500);

/// A connector `hq` to that port.
fn hq(port: u16, more: &str) -> String {
    format!(
        "type = \"mqtt\"\naddresses = [\"mqtt://127.0.0.1:{port}\"]\nclient_id = \"weir.hq\"\n\
         backoff = {{ base = \"100ms\", cap = \"300ms\" }}\n{more}"
    )
}

async fn linked(weir: &Weir) {
    wait_until("the bridge is up", PATIENCE, || async {
        weir.metric(
            "weir_connector_up",
            &[("connector", "hq"), ("type", "mqtt")],
        )
        .await
            > 0.0
    })
    .await;
}

async fn bridge_metric(weir: &Weir, name: &str) -> f64 {
    weir.metric(name, &[("connector", "hq")]).await
}

async fn publish(port: u16, topic: &str, qos: &str, message: &str, more: &[&str]) {
    let args = [&["-t", topic, "-q", qos, "-m", message][..], more].concat();
    let _ = mosquitto_pub(port, &args).await.succeeded();
}

/// The numbers that arrived, in order.
fn numbers(subscriber: &[weir_test_support::Received]) -> Vec<u64> {
    subscriber
        .iter()
        .map(|message| message.payload.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn what_the_remote_sends_is_published_here_under_its_new_name() {
    for protocol in ["5", "3.1.1"] {
        let remote = Mosquitto::start().await;
        let site = Site::new();
        site.connector(
            "hq",
            &hq(
                remote.port(),
                &format!(
                    "protocol = \"{protocol}\"\n\
                     [[in]]\nfilter = \"cmd/#\"\nlocal_prefix = \"hq/\"\n\
                     [[in]]\nfilter = \"+/set/#\"\nlocal_topic = \"set/${{1}}/${{2}}\"\nqos = 1\n"
                ),
            ),
        );
        let weir = site.start(WEIR).await;
        linked(&weir).await;
        let mut here = Subscriber::start(weir.mqtt_port(), "#", &["-q", "2"]).await;
        for (topic, qos) in [
            ("cmd/a/b", "2"),
            ("k7/set/x/y", "2"),
            ("cmd", "0"),
            ("other", "1"),
        ] {
            publish(remote.port(), topic, qos, topic, &[]).await;
        }
        publish(remote.port(), "cmd/last", "1", "last", &[]).await;
        let mut got: Vec<_> = here.wait_for(4).await.iter().collect();
        // Each filter is a subscription of its own: across them there is no order.
        got.sort_by(|a, b| a.topic.cmp(&b.topic));
        let got: Vec<_> = got
            .into_iter()
            .map(|message| {
                (
                    message.topic.as_str(),
                    message.payload.as_str(),
                    message.qos,
                )
            })
            .collect();
        assert_eq!(
            got,
            [
                ("hq/cmd", "cmd", 0),
                ("hq/cmd/a/b", "cmd/a/b", 2),
                ("hq/cmd/last", "last", 1),
                ("set/k7/x/y", "k7/set/x/y", 1),
            ],
            "{protocol}"
        );
        assert!(bridge_metric(&weir, "weir_bridge_received_total").await >= 4.0);
    }
}

#[tokio::test]
async fn what_is_published_here_goes_out_under_its_new_name_with_flags_and_properties() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[out]]\nfilter = \"#\"\nlocal_prefix = \"up/\"\nremote_prefix = \"site1/\"\n\
             [[out]]\nfilter = \"log/+\"\nremote_topic = \"logs/${1}\"\nqos = 0\nretain = \"strip\"\n",
        ),
    );
    let weir = site.start(WEIR).await;
    let mut there = remote
        .subscribe("#", &["-q", "2", "-V", "5", "-F", "message %q %r %t %p|%P"])
        .await;
    let v5 = &["-V", "5", "-D", "PUBLISH", "user-property", "k", "v"][..];
    publish(weir.mqtt_port(), "up/a/b", "2", "two", v5).await;
    publish(weir.mqtt_port(), "log/x", "1", "log", &["-r"]).await;
    publish(weir.mqtt_port(), "elsewhere", "1", "no", &[]).await;
    publish(weir.mqtt_port(), "up/r", "1", "kept", &["-r"]).await;
    let got = there.wait_for(3).await;
    let mut got: Vec<_> = got
        .iter()
        .map(|message| {
            (
                message.topic.as_str(),
                message.payload.split('|').next().unwrap(),
                message.qos,
            )
        })
        .collect();
    // [MQTT-4.6.0-5] Order is kept for each QoS; the remote passes QoS 2 on when PUBREL has come.
    got.sort_unstable();
    assert_eq!(
        got,
        [
            ("logs/x", "log", 0),
            ("site1/a/b", "two", 2),
            ("site1/r", "kept", 1)
        ]
    );
    assert!(
        there
            .wait_for(3)
            .await
            .iter()
            .any(|message| message.topic == "site1/a/b" && message.payload.contains("k:v")),
        "{:?}",
        there.wait_for(3).await
    );
    let mut later = remote.subscribe("#", &["-q", "1"]).await;
    let kept = later.all_within(QUIET).await.to_vec();
    let kept: Vec<_> = kept
        .iter()
        .filter(|message| message.retain)
        .map(|message| &*message.topic)
        .collect();
    assert_eq!(kept, ["site1/r"]);
}

#[tokio::test]
async fn what_comes_while_either_side_is_away_arrives_once_and_in_order() {
    let remote = Mosquitto::start_with("allow_anonymous true\nmax_queued_messages 0\n").await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[in]]\nfilter = \"n/#\"\n[[out]]\nfilter = \"m/#\"\n",
        ),
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let kept = &["-q", "2", "-c", "-i", "reader"][..];
    // The session keeps what comes while nobody reads.
    drop(Subscriber::start(weir.mqtt_port(), "n/#", kept).await);
    let mut there = remote.subscribe("m/#", &["-q", "2"]).await;
    let mut from_remote = LinePublisher::start(remote.port(), &["-t", "n/x", "-q", "2"]);
    let mut from_here = LinePublisher::start(weir.mqtt_port(), &["-t", "m/x", "-q", "2"]);
    let lines = |range: std::ops::Range<u64>| range.map(|n| format!("{n}\n")).collect::<String>();
    from_remote.send(&lines(0..500)).await;
    from_here.send(&lines(0..500)).await;
    wait_until("some have crossed", PATIENCE, || async {
        bridge_metric(&weir, "weir_bridge_received_total").await > 100.0
    })
    .await;
    from_here.finish().await;
    // In the middle of it, and without a word.
    weir.kill().await;
    from_remote.send(&lines(500..800)).await;
    let weir = site.start(WEIR).await;
    from_remote.send(&lines(800..1000)).await;
    from_remote.finish().await;
    let got = numbers(there.wait_for(500).await);
    assert_eq!(got, (0..500).collect::<Vec<_>>());
    let mut here = Subscriber::start(weir.mqtt_port(), "n/#", kept).await;
    let got = numbers(here.wait_for(1000).await);
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    assert_eq!(here.all_within(QUIET).await.len(), 1000);
    assert_eq!(there.all_within(QUIET).await.len(), 500);
}

#[tokio::test]
async fn a_remote_that_takes_one_at_a_time_gets_one_at_a_time() {
    for most in [1_u64, 10] {
        let config =
            format!("allow_anonymous true\nmax_inflight_messages {most}\nmax_queued_messages 0\n");
        let remote = Mosquitto::start_with(&config).await;
        let site = Site::new();
        site.connector(
            "hq",
            &hq(
                remote.port(),
                "protocol = \"5\"\n[[out]]\nfilter = \"m/#\"\n",
            ),
        );
        let weir = site.start(WEIR).await;
        linked(&weir).await;
        let mut there = remote.subscribe("m/#", &["-q", "1"]).await;
        let mut from_here = LinePublisher::start(weir.mqtt_port(), &["-t", "m/x", "-q", "1"]);
        let lines: String = (0..300).map(|n| format!("{n}\n")).collect();
        from_here.send(&lines).await;
        let got = numbers(there.wait_for(300).await);
        assert_eq!(got, (0..300).collect::<Vec<_>>());
        from_here.finish().await;
        // mosquitto cuts off whoever sends more than its receive maximum.
        assert_eq!(
            bridge_metric(&weir, "weir_bridge_connects_total").await,
            1.0,
            "{most}"
        );
        assert_eq!(
            bridge_metric(&weir, "weir_bridge_returned_total").await,
            0.0,
            "{most}"
        );
    }
}

/// mosquitto as it is installed takes 20 of QoS 2 at a time, and closes the link over the 21st without having said so.
#[tokio::test]
async fn a_remote_that_cannot_say_how_many_it_takes_gets_as_many_as_mosquitto_takes() {
    let remote = Mosquitto::start_with("allow_anonymous true\nmax_queued_messages 0\n").await;
    let site = Site::new();
    let out = "protocol = \"3.1.1\"\n[[out]]\nfilter = \"m/#\"\n";
    site.connector("hq", &hq(remote.port(), out));
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let mut there = remote.subscribe("m/#", &["-q", "2"]).await;
    // While it stands still nothing is acknowledged: it then reads at once what was sent.
    remote.pause().await;
    let mut from_here = LinePublisher::start(weir.mqtt_port(), &["-t", "m/x", "-q", "2"]);
    let lines: String = (0..300).map(|n| format!("{n}\n")).collect();
    from_here.send(&lines).await;
    from_here.finish().await;
    remote.go_on().await;
    let got = numbers(there.wait_for(300).await);
    assert_eq!(got, (0..300).collect::<Vec<_>>());
    let connects = bridge_metric(&weir, "weir_bridge_connects_total").await;
    assert_eq!(connects, 1.0);
}

#[tokio::test]
async fn a_rule_reads_what_comes_over_a_bridge_and_nobody_else_has_to() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "protocol = \"5\"\n[[in]]\nfilter = \"d/+/t\"\nrules_only = true\n",
        ),
    );
    site.rule(
        "hot",
        "sql = '''SELECT topic, qos, event, server, retain, payload.t AS t, pub_props.\"Content-Type\" AS kind \
         FROM \"$bridges/mqtt:hq\" WHERE payload.t > 30'''\n\
         [[sinks]]\ntype = \"republish\"\ntopic = \"hot\"\nqos = 1\n",
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let mut here = Subscriber::start(weir.mqtt_port(), "#", &["-q", "1"]).await;
    publish(remote.port(), "d/k/t", "1", r#"{"t":10}"#, &[]).await;
    let more = &["-V", "5", "-D", "PUBLISH", "content-type", "json"][..];
    publish(remote.port(), "d/k/t", "2", r#"{"t":31}"#, more).await;
    let got = here.wait_for(1).await[0].clone();
    let row: serde_json::Value = serde_json::from_str(&got.payload).unwrap();
    assert_eq!(
        (
            got.topic.as_str(),
            row["topic"].as_str(),
            row["qos"].as_i64(),
            row["t"].as_i64()
        ),
        ("hot", Some("d/k/t"), Some(2), Some(31))
    );
    assert_eq!(
        (
            row["event"].as_str(),
            row["kind"].as_str(),
            row["retain"].as_bool()
        ),
        (Some("$bridges/mqtt:hq"), Some("json"), Some(false))
    );
    assert_eq!(row["server"], format!("127.0.0.1:{}", remote.port()));
    // The message itself was for the rule alone.
    assert_eq!(here.all_within(QUIET).await.len(), 1);
}

#[tokio::test]
async fn what_waits_behind_a_blocked_sink_is_for_rules_alone_also_when_the_link_ends() {
    let mut remote = Mosquitto::start().await;
    let site = Site::new();
    let routes = "protocol = \"5\"\n[[in]]\nfilter = \"d/#\"\nrules_only = true\n";
    site.connector("hq", &hq(remote.port(), routes));
    site.rule(
        "kept",
        "sql = '''SELECT payload FROM \"$bridges/mqtt:hq\"'''\n[[sinks]]\ntype = \"http\"\n\
         url = \"http://127.0.0.1:9/\"\nbuffer = { max_rows = 1, when_full = \"block\" }\n",
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let mut here = Subscriber::start(weir.mqtt_port(), "#", &["-q", "1"]).await;
    // The second one finds no room; the last one, which nobody sends again, stands behind it.
    for (topic, qos) in [("d/1", "1"), ("d/2", "1"), ("d/3", "0")] {
        publish(remote.port(), topic, qos, "1", &[]).await;
    }
    wait_until("all have come", PATIENCE, || async {
        bridge_metric(&weir, "weir_bridge_received_total").await >= 3.0
    })
    .await;
    remote.stop().await;
    wait_until("the link has ended", PATIENCE, || async {
        let labels = [("connector", "hq"), ("type", "mqtt")];
        weir.metric("weir_connector_up", &labels).await == 0.0
    })
    .await;
    let got = here.all_within(QUIET).await;
    assert!(got.is_empty(), "{got:?}");
}

#[tokio::test]
async fn a_loop_that_the_check_can_see_is_refused_and_says_what_to_do() {
    let site = Site::new();
    site.connector(
        "hq",
        &hq(1, "[[in]]\nfilter = \"#\"\n[[out]]\nfilter = \"up/#\"\n"),
    );
    let checked = site.weir(WEIR, &["check"]).await;
    assert_ne!(checked.code, Some(0));
    let said = format!("{}{}", checked.stdout, checked.stderr);
    for words in ["E4114", "loop_possible", "hq.toml:6", "protocol = \"5\""] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    site.connector(
        "hq",
        &hq(
            1,
            "protocol = \"5\"\n[[in]]\nfilter = \"#\"\n[[out]]\nfilter = \"up/#\"\n",
        ),
    );
    let _ = site.weir(WEIR, &["check"]).await.succeeded();
}

/// What each side got of its own hundred and of the other's.
async fn hundred_each_way(a: &Weir, b: &Weir) {
    let mut at_a = Subscriber::start(a.mqtt_port(), "#", &["-q", "1"]).await;
    let mut at_b = Subscriber::start(b.mqtt_port(), "#", &["-q", "1"]).await;
    for (weir, topic) in [(a, "from/a"), (b, "from/b")] {
        let mut publisher = LinePublisher::start(weir.mqtt_port(), &["-t", topic, "-q", "1"]);
        let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
        publisher.send(&lines).await;
        publisher.finish().await;
    }
    for subscriber in [&mut at_a, &mut at_b] {
        subscriber.wait_for(200).await;
        let got = subscriber.all_within(QUIET).await;
        for topic in ["from/a", "from/b"] {
            let of: Vec<u64> = got
                .iter()
                .filter(|message| message.topic == topic)
                .map(|message| message.payload.parse().unwrap())
                .collect();
            assert_eq!(of, (0..100).collect::<Vec<_>>(), "{topic}");
        }
        assert_eq!(got.len(), 200);
    }
}

#[tokio::test]
async fn two_weirs_bridged_both_ways_on_everything_do_not_go_round() {
    let (first, second) = (Site::new(), Site::new());
    let far = second.start(WEIR).await;
    first.connector(
        "hq",
        &hq(
            far.mqtt_port(),
            "protocol = \"5\"\n[[in]]\nfilter = \"#\"\n[[out]]\nfilter = \"#\"\n",
        ),
    );
    let near = first.start(WEIR).await;
    linked(&near).await;
    hundred_each_way(&near, &far).await;
}

#[tokio::test]
async fn marks_on_messages_end_a_circle_that_no_check_can_see() {
    // Each weir has a connector of its own to the other, which neither file can know of.
    let (first, second) = (Site::new(), Site::new());
    let far = second.start(WEIR).await;
    let both = "protocol = \"5\"\n[[in]]\nfilter = \"#\"\n[[out]]\nfilter = \"#\"\n";
    first.connector("hq", &hq(far.mqtt_port(), both));
    let near = first.start(WEIR).await;
    second.connector(
        "hq",
        &hq(
            near.mqtt_port(),
            &format!("{both}\n").replace("weir.hq", "weir.back"),
        ),
    );
    let _ = far.reload().await.succeeded();
    linked(&near).await;
    linked(&far).await;
    let mut at_a = Subscriber::start(near.mqtt_port(), "#", &["-q", "1"]).await;
    let mut at_b = Subscriber::start(far.mqtt_port(), "#", &["-q", "1"]).await;
    publish(near.mqtt_port(), "from/a", "1", "x", &[]).await;
    // Two bridges carry it there, one of which takes what the other brought for news, once.
    at_b.wait_for(1).await;
    let there = at_b.all_within(QUIET).await.len();
    let here = at_a.all_within(QUIET).await.len();
    assert!(
        here <= 2 && there <= 2,
        "{here} at home, {there} at the other side"
    );
}

#[tokio::test]
async fn what_came_over_a_bridge_does_not_leave_over_it_though_a_rule_publishes_it_anew() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[in]]\nfilter = \"down/#\"\n[[out]]\nfilter = \"up/#\"\n",
        ),
    );
    site.rule(
        "again",
        "sql = '''SELECT payload, topic FROM \"down/#\", \"local\"'''\n\
         [[sinks]]\ntype = \"republish\"\ntopic = \"up/${topic}\"\npayload = \"${payload}\"\nqos = 1\n",
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let mut here = Subscriber::start(weir.mqtt_port(), "up/#", &["-q", "1"]).await;
    let mut there = remote.subscribe("up/#", &["-q", "1"]).await;
    publish(remote.port(), "down/x", "1", "from there", &[]).await;
    here.wait_for(1).await;
    publish(weir.mqtt_port(), "local", "1", "from here", &[]).await;
    here.wait_for(2).await;
    let got = there.wait_for(1).await[0].clone();
    assert_eq!(
        (got.topic.as_str(), got.payload.as_str()),
        ("up/local", "from here")
    );
    assert_eq!(there.all_within(QUIET).await.len(), 1);
}

#[tokio::test]
async fn a_message_that_is_too_large_here_does_not_stop_those_behind_it() {
    for protocol in ["5", "3.1.1"] {
        let remote = Mosquitto::start().await;
        let site = Site::new();
        site.config("mqtt.max_packet_size = \"2KiB\"\n");
        let in_all = format!("protocol = \"{protocol}\"\n[[in]]\nfilter = \"a\"\n");
        site.connector("hq", &hq(remote.port(), &in_all));
        let weir = site.start(WEIR).await;
        linked(&weir).await;
        let mut here = Subscriber::start(weir.mqtt_port(), "a", &["-q", "2"]).await;
        for qos in ["1", "2"] {
            publish(remote.port(), "a", qos, &"x".repeat(4000), &[]).await;
            publish(remote.port(), "a", qos, qos, &[]).await;
        }
        assert_eq!(numbers(here.wait_for(2).await), [1, 2], "{protocol}");
        assert_eq!(
            bridge_metric(&weir, "weir_bridge_connects_total").await,
            1.0,
            "{protocol}"
        );
    }
}

#[tokio::test]
async fn the_state_of_the_link_is_kept_on_a_topic() {
    let mut remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector("hq", &hq(remote.port(), "[[in]]\nfilter = \"a\"\n"));
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let topic = "$SYS/broker/connection/hq/state";
    let mut state = Subscriber::start(weir.mqtt_port(), topic, &["-q", "1"]).await;
    let first = state.wait_for(1).await[0].clone();
    assert_eq!((first.payload.as_str(), first.retain), ("1", true));
    remote.stop().await;
    assert_eq!(state.wait_for(2).await[1].payload, "0");
    remote.start_again().await;
    assert_eq!(state.wait_for(3).await[2].payload, "1");
}

#[tokio::test]
async fn a_reload_changes_filters_on_the_link_that_is_up_and_keeps_what_waits() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[in]]\nfilter = \"a\"\n[[out]]\nfilter = \"m/#\"\n",
        ),
    );
    let weir = site.start(WEIR).await;
    linked(&weir).await;
    let mut here = Subscriber::start(weir.mqtt_port(), "#", &["-q", "1"]).await;
    let mut there = remote.subscribe("#", &["-q", "1"]).await;
    publish(remote.port(), "a", "1", "one", &[]).await;
    here.wait_for(1).await;
    site.connector(
        "hq",
        &hq(
            remote.port(),
            "[[in]]\nfilter = \"b\"\n[[out]]\nfilter = \"m/#\"\nremote_prefix = \"new/\"\n",
        ),
    );
    let _ = weir.reload().await.succeeded();
    publish(weir.mqtt_port(), "m/x", "1", "out", &[]).await;
    wait_until("the new name is in use", PATIENCE, || async {
        remote.log().contains("new/m/x")
    })
    .await;
    wait_until("the filter is new", PATIENCE, || async {
        let log = remote.log();
        log.contains("UNSUBSCRIBE from weir.hq") && log.contains("\tb (QoS")
    })
    .await;
    publish(remote.port(), "a", "1", "no more", &[]).await;
    publish(remote.port(), "b", "1", "two", &[]).await;
    let got = here
        .wait_for(3)
        .await
        .iter()
        .map(|message| &*message.payload)
        .collect::<Vec<_>>();
    assert_eq!(got, ["one", "out", "two"]);
    there.wait_for(1).await;
    assert_eq!(
        bridge_metric(&weir, "weir_bridge_connects_total").await,
        1.0
    );
}

#[tokio::test]
async fn topics_cross_over_tls_with_a_certificate_of_ones_own() {
    let authority = Authority::new();
    authority.server("server", &["127.0.0.1", "localhost"]);
    authority.client("weir", "weir", 7);
    for mutual in [false, true] {
        let port = weir_test_support::free_port();
        let remote = Mosquitto::start_with(&format!(
            "allow_anonymous true\nlistener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {mutual}\n",
            authority.path("ca.pem").display(),
            authority.path("server.pem").display(),
            authority.path("server.key").display(),
        ))
        .await;
        let site = Site::new();
        let own = if mutual {
            format!(
                ", cert = \"{}\", key = \"{}\"",
                authority.path("weir.pem").display(),
                authority.path("weir.key").display()
            )
        } else {
            String::new()
        };
        let tls = format!(
            "tls = {{ ca = \"{}\"{own} }}\n",
            authority.path("ca.pem").display()
        );
        site.connector(
            "hq",
            &hq(
                port,
                &format!("{tls}[[in]]\nfilter = \"down/#\"\n[[out]]\nfilter = \"up/#\"\n"),
            )
            .replace("mqtt://127.0.0.1", "mqtts://localhost"),
        );
        let weir = site.start(WEIR).await;
        linked(&weir).await;
        let mut here = Subscriber::start(weir.mqtt_port(), "down/#", &["-q", "2"]).await;
        let mut there = remote.subscribe("up/#", &["-q", "2"]).await;
        for qos in ["0", "1", "2"] {
            publish(remote.port(), "down/x", qos, qos, &[]).await;
            publish(weir.mqtt_port(), "up/x", qos, qos, &[]).await;
        }
        for subscriber in [&mut here, &mut there] {
            assert_eq!(numbers(subscriber.wait_for(3).await), [0, 1, 2], "{mutual}");
        }
    }
}

#[tokio::test]
async fn a_test_of_a_bridge_goes_stage_by_stage_up_to_a_message() {
    let remote = Mosquitto::start().await;
    let site = Site::new();
    site.connector("hq", &hq(remote.port(), "[[in]]\nfilter = \"a/#\"\n"));
    let mut there = remote.subscribe("hello", &["-q", "1"]).await;
    let tested = site
        .weir(WEIR, &["bridge", "test", "hq", "--publish", "hello"])
        .await
        .succeeded();
    for stage in ["config", "dns", "tcp", "connect", "subscribe", "publish"] {
        assert!(
            tested.stdout.contains(&format!("ok    {stage}")),
            "{stage}: {}",
            tested.stdout
        );
    }
    there.wait_for(1).await;
    site.connector("hq", &hq(weir_test_support::free_port(), ""));
    let refused = site.weir(WEIR, &["bridge", "test", "hq"]).await;
    assert!(
        refused.stdout.contains("FAIL  tcp") && refused.stdout.contains("likely: nothing listens"),
        "{}",
        refused.stdout
    );
}

#[tokio::test]
async fn no_client_takes_the_name_of_a_bridge() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let port = weir.mqtt_port();
    let refused = mosquitto_pub(port, &["-i", "$bridge/hq", "-t", "t", "-m", "x", "-q", "1"]).await;
    assert_ne!(refused.code, Some(0));
}
