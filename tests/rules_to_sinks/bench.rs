//! `weir bench` against a running weir: its counts agree with what the broker counted, its JSON has the
//! keys that it promises, and its exit codes tell what went wrong. No figure is judged.

use serde_json::Value as Json;
use weir_test_support::{Finished, Site, Weir};

use crate::WEIR;

/// A short run of a scenario against this weir.
async fn bench(weir: &Weir, args: &[&str]) -> Finished {
    let host = format!("127.0.0.1:{}", weir.mqtt_port());
    let pid = weir.pid().to_string();
    let mut all = vec!["bench", args[0], "--json", "--host", &host, "--pid", &pid];
    all.extend(&args[1..]);
    weir.command(&all).await
}

fn json(finished: Finished) -> Json {
    serde_json::from_str(&finished.succeeded().stdout).unwrap()
}

/// One second, and a warm-up to be counted with it.
const SHORT: [&str; 4] = ["--duration", "1s", "--warmup", "100ms"];

fn short<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &SHORT].concat()
}

/// Everything sent has come, once and in order, and there are figures.
fn is_whole(result: &Json) {
    let counts = &result["counts"];
    for none in [
        "lost",
        "duplicated",
        "out_of_order",
        "unexpected",
        "closed",
        "given_up",
    ] {
        assert_eq!(counts[none], 0, "{none} in {result}");
    }
    assert!(counts["sent"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(counts["received"], counts["expected"], "{result}");
    for figure in [
        "/messages_per_s",
        "/latency_us/p50",
        "/latency_us/p999",
        "/latency_us/max",
        "/broker/cpu_us_per_message",
        "/broker/rss_peak_kib",
        "/generator/cpu_us_per_message",
        "/others_cpu_cores",
    ] {
        let value = result.pointer(figure);
        assert!(
            value.is_some_and(Json::is_number),
            "no {figure} in {result}"
        );
    }
    assert_eq!(result["v"], 1);
}

#[tokio::test]
async fn what_is_sent_in_pairs_is_what_the_broker_received_and_what_came() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let mut sent = 0;
    for (qos, subscribers, more) in [
        ("0", "5", &[][..]),
        ("1", "5", &["--v5"]),
        ("2", "5", &[]),
        ("1", "3", &[]),
        ("2", "9", &["--v5"]),
    ] {
        let args = [
            "pairs",
            "--publishers",
            "5",
            "--subscribers",
            subscribers,
            "--qos",
            qos,
        ];
        let result = json(bench(&weir, &short(&[&args, more].concat())).await);
        is_whole(&result);
        if qos > "0" {
            assert_eq!(result["counts"]["acknowledged"], result["counts"]["sent"]);
        }
        sent += result["counts"]["sent"].as_u64().unwrap();
    }
    let received = weir.metric("weir_messages_total", &[("dir", "in")]).await;
    assert_eq!(received, sent as f64);
}

#[tokio::test]
async fn fanouts_and_wildcards_deliver_as_often_as_they_say() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let fanout = [
        "fanout",
        "--publishers",
        "2",
        "--subscribers",
        "20",
        "--window",
        "8",
    ];
    let result = json(bench(&weir, &short(&fanout)).await);
    is_whole(&result);
    let counts = &result["counts"];
    assert_eq!(
        counts["expected"].as_u64().unwrap(),
        counts["sent"].as_u64().unwrap() * 20
    );
    let wildcard = [
        "wildcard",
        "--filters",
        "800",
        "--subscribers",
        "16",
        "--size",
        "2000",
    ];
    let result = json(bench(&weir, &short(&wildcard)).await);
    is_whole(&result);
    assert_eq!(result["filters"], 800);
    let counts = &result["counts"];
    assert_eq!(
        counts["expected"].as_u64().unwrap(),
        counts["sent"].as_u64().unwrap() * 4
    );
}

#[tokio::test]
async fn a_paced_run_sends_at_its_pace() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let args = ["pairs", "--rate", "500", "--qos", "1"];
    let result = json(bench(&weir, &short(&args)).await);
    is_whole(&result);
    // 1.1 s at 500 a second; a stalled machine may do less, but never more.
    let sent = result["counts"]["sent"].as_u64().unwrap();
    assert!((1..=560).contains(&sent), "{result}");
    assert!(result["sent_late_us"]["p99"].is_number(), "{result}");
}

#[tokio::test]
async fn connections_come_stay_and_go() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let args = ["conn", "--clients", "150", "--subscribe", "--hold", "100ms"];
    let result = json(bench(&weir, &args).await);
    assert_eq!(
        (&result["connected"], &result["failed"], &result["alive"]),
        (&150.into(), &0.into(), &150.into()),
        "{result}"
    );
    assert!(result["broker"]["rss_bytes_per_connection"].is_number());
    let result = json(bench(&weir, &["conn", "--clients", "300", "--churn"]).await);
    assert_eq!(
        (&result["scenario"], &result["connected"], &result["failed"]),
        (&"churn".into(), &300.into(), &0.into()),
        "{result}"
    );
    assert!(result["latency_us"]["p99"].is_number());
}

#[tokio::test]
async fn exit_codes_tell_too_slow_from_refused_from_not_there() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let hopeless = short(&[
        "pairs",
        "--publishers",
        "1",
        "--subscribers",
        "1",
        "--min",
        "1e12",
    ]);
    assert_eq!(bench(&weir, &hopeless).await.code, Some(1));
    let nowhere = ["bench", "pairs", "--host", "127.0.0.1:1"];
    assert_eq!(weir.command(&nowhere).await.code, Some(3));
    let no_process = bench(&weir, &["pairs", "--pid", "4294967295"]).await;
    assert_eq!(no_process.code, Some(2), "{}", no_process.stderr);
    weir.stop().await;

    site.write("users.txt", "");
    site.config("auth.password_file = \"users.txt\"\n");
    let weir = site.start(WEIR).await;
    let refused = bench(&weir, &["pairs"]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
}

#[tokio::test]
async fn a_rule_is_measured_alone_with_the_message_of_its_test() {
    let site = Site::new();
    site.rule(
        "hot",
        "sql = '''SELECT payload.t AS t FROM \"dev/+/up\" WHERE payload.t > 30'''\n\
         [[sinks]]\ntype = \"console\"\n\
         [[test]]\nname = \"hot\"\ngiven = [{ topic = \"dev/1/up\", payload = { t = 31 } }]\nexpect = [{ t = 31 }]\n",
    );
    let measure = [
        "bench",
        "rule",
        "rules/hot.toml",
        "--json",
        "--duration",
        "50ms",
    ];
    let result = json(site.weir(WEIR, &measure).await);
    assert_eq!(result["rows"], result["messages"], "{result}");
    assert_eq!(result["errors"], 0);
    assert!(result["ns_per_message"].as_f64().unwrap() > 0.0);

    let cold = [&measure[..], &["--payload", "{\"t\":1}", "--copies", "3"]].concat();
    let result = json(site.weir(WEIR, &cold).await);
    assert_eq!((&result["rows"], &result["copies"]), (&0.into(), &3.into()));

    let elsewhere = [&measure[..], &["--topic", "nobody/listens"]].concat();
    assert_eq!(site.weir(WEIR, &elsewhere).await.code, Some(2));
    let missing = site.weir(WEIR, &["bench", "rule", "rules/cold.toml"]).await;
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
}

#[tokio::test]
async fn good_clients_are_served_beside_hostile_ones() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let result = json(
        bench(
            &weir,
            &[
                "hostile",
                "--good",
                "10",
                "--idle",
                "100",
                "--hostile",
                "70",
                "--rate",
                "200",
                "--duration",
                "1s",
            ],
        )
        .await,
    );
    let phases = result["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| &phase["phase"]).collect();
    assert_eq!(names, ["alone", "idle", "hostile"], "{result}");
    for phase in phases {
        assert_eq!(phase["counts"]["lost"], 0, "{result}");
        assert_eq!(
            phase["counts"]["received"], phase["counts"]["expected"],
            "{result}"
        );
        assert!(phase["broker_rss_kib"].as_u64().unwrap() > 0, "{result}");
    }
    assert!(result["p99_ratio"].is_number(), "{result}");
    for kind in ["never_reads", "reads_slowly", "huge_length"] {
        assert!(result["hostile_clients"][kind].is_number(), "{result}");
    }
}

#[tokio::test]
async fn weir_the_relay_and_mosquitto_are_compared_in_one_table() {
    let site = Site::new();
    let compare = [
        "bench",
        "compare",
        "--brokers",
        "weir,relay,mosquitto",
        "--scenarios",
        "pairs-q1,fanout-100",
        "--repetitions",
        "1",
        "--duration",
        "300ms",
    ];
    let finished = site.weir(WEIR, &[&compare[..], &["--json"]].concat()).await;
    let result = json(finished);
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6, "{result}");
    for row in rows {
        assert_eq!(row["runs"], 1, "{row}");
        assert_eq!(row["lost"], 0, "{row}");
        for figure in [
            "per_s",
            "p50_us",
            "p999_us",
            "broker_cpu_us",
            "rss_peak_kib",
        ] {
            assert!(row[figure].is_number(), "no {figure} in {row}");
        }
    }
    let unknown = site
        .weir(WEIR, &["bench", "compare", "--brokers", "nobody"])
        .await;
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
}

#[tokio::test]
async fn rules_are_measured_with_the_brokers_that_have_them() {
    let site = Site::new();
    let compare = [
        "bench",
        "compare",
        "--brokers",
        "weir,relay",
        "--scenarios",
        "rules-elsewhere,rules-on-topic",
        "--repetitions",
        "1",
        "--duration",
        "300ms",
        "--json",
    ];
    let result = json(site.weir(WEIR, &compare).await);
    let rows = result["rows"].as_array().unwrap();
    let scenarios: Vec<_> = rows.iter().map(|row| &row["scenario"]).collect();
    assert_eq!(scenarios, ["rules-elsewhere", "rules-on-topic"], "{result}");
    for row in rows {
        assert_eq!((&row["broker"], &row["lost"]), (&"weir".into(), &0.into()));
        assert!(row["broker_cpu_us"].is_number(), "{row}");
    }
}

#[tokio::test]
async fn what_a_row_costs_is_measured_sink_by_sink() {
    let site = Site::new();
    let measure = [
        "bench",
        "rows",
        "--repetitions",
        "1",
        "--rate",
        "500",
        "--duration",
        "300ms",
    ];
    let result = json(site.weir(WEIR, &[&measure[..], &["--json"]].concat()).await);
    let sinks = result["sinks"].as_array().unwrap();
    let names: Vec<_> = sinks.iter().map(|sink| &sink["sink"]).collect();
    assert_eq!(names, ["none", "silent", "file", "sqlite"], "{result}");
    for sink in sinks {
        for figure in ["cpu_us_per_message", "cpu_us_per_row", "sleeps_per_message"] {
            assert!(sink[figure].is_number(), "no {figure} in {sink}");
        }
    }
    let bound = ["--sinks", "none", "--max-us=-1"];
    let finished = site.weir(WEIR, &[&measure[..], &bound].concat()).await;
    assert_eq!(finished.code, Some(1), "{}", finished.stdout);
}
