//! A broker and the commands whose rules use `jq`.

use std::sync::Arc;
use std::time::Duration;

use weir::Broker;
use weir::pipeline::world::World;
use weir::pipeline::{LiveRule, Pipeline};
use weir::project::rule_file::OnError;
use weir_rules::{Catalog, compile};
use weir_test_support::{Site, mosquitto_pub, wait_for, wait_until};

use crate::WEIR;
use crate::client::{TestBroker, V5, publish};

const DEADLINE: Duration = Duration::from_secs(20);

/// A rule that runs the program in the payload.
const ANY_PROGRAM: &str = "sql = '''SELECT jq(payload.program, 1, 300) AS r FROM \"any\"'''\n\
     [[sinks]]\ntype = \"console\"\n\
     [[test]]\nname = \"it adds\"\ngiven = [{ topic = \"any\", payload = { program = \". + 1\" } }]\n\
     expect = [{ r = [2] }]\n";

fn program(text: &str) -> String {
    serde_json::json!({ "program": text }).to_string()
}

#[tokio::test]
async fn a_statement_is_tried_with_jq_and_its_limits_are_named() {
    let site = Site::new();
    let sql = "SELECT jq('.a[] | . + 1', payload) AS r FROM \"t\"";
    let args = ["try", sql, "--payload", r#"{"a":[1,2]}"#];
    let tried = site.weir(WEIR, &args).await.succeeded();
    assert!(tried.stdout.contains("[2,3]"), "{}", tried.stdout);
    for (program, said) in [
        ("def f: f; f", "ran longer than 200 ms"),
        ("def f: 1 + f; f", "recursed too deeply"),
        ("\"x\" * 1000000000", "took more than 256 MiB of memory"),
    ] {
        let ms = if said.contains("200") { 200 } else { 10_000 };
        let sql = format!("SELECT jq('{program}', 1, {ms}) AS r FROM \"t\"");
        let tried = site.weir(WEIR, &["try", &sql]).await;
        assert_eq!(tried.code, Some(1), "{}", tried.stdout);
        assert!(tried.stdout.contains(said), "{}", tried.stdout);
    }
}

#[tokio::test]
async fn check_and_test_know_the_function() {
    let site = Site::new();
    site.rule("any", ANY_PROGRAM);
    drop(site.weir(WEIR, &["check"]).await.succeeded());
    drop(site.weir(WEIR, &["test"]).await.succeeded());
    site.rule(
        "bad",
        "sql = '''SELECT jq('{', payload) AS r FROM \"t\"'''\n[[sinks]]\ntype = \"console\"\n",
    );
    let checked = site.weir(WEIR, &["check"]).await;
    assert_eq!(checked.code, Some(1));
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("E0104"), "{said}");
    assert!(said.contains("not a jq program"), "{said}");
}

#[tokio::test]
async fn programs_that_harm_cost_one_message_each_and_the_broker_goes_on() {
    let site = Site::new();
    site.rule("any", ANY_PROGRAM);
    let weir = site.start(WEIR).await;
    let harm = ["def f: f; f", "def f: 1 + f; f", "[range(1e9)]", "nope"];
    for text in harm {
        let args = ["-t", "any", "-q", "1", "-m", &program(text)];
        drop(mosquitto_pub(weir.mqtt_port(), &args).await.succeeded());
    }
    let args = ["-t", "any", "-q", "1", "-m", &program(". + 41")];
    drop(mosquitto_pub(weir.mqtt_port(), &args).await.succeeded());
    wait_until("the messages to be dealt with", DEADLINE, || async {
        weir.metric("weir_rule_matched_total", &[("rule", "any")])
            .await
            >= 5.0
            && weir
                .metric("weir_sink_rows_delivered_total", &[("rule", "any")])
                .await
                >= 1.0
    })
    .await;
    let errors = weir.metric("weir_rule_errors_total", &[("rule", "any"), ("kind", "jq")]);
    assert_eq!(errors.await.to_string(), harm.len().to_string());
    assert!(weir.printed().contains("42"), "{}", weir.printed());
    assert_eq!(weir.stop().await, Some(0));
}

#[tokio::test]
async fn no_process_outlives_a_broker_that_was_killed() {
    let site = Site::new();
    site.rule("any", &ANY_PROGRAM.replace("300", "10000"));
    let weir = site.start(WEIR).await;
    let port = weir.mqtt_port();
    let endless = program("def f: f; f");
    let publisher = tokio::spawn(async move {
        mosquitto_pub(port, &["-t", "any", "-q", "0", "-m", &endless]).await
    });
    let parent = weir.pid();
    let child = wait_for("a process for jq", DEADLINE, || async { child_of(parent) }).await;
    weir.kill().await;
    wait_until("the process to end", DEADLINE, || async {
        !std::path::Path::new(&format!("/proc/{child}")).exists()
            || std::fs::read_to_string(format!("/proc/{child}/stat"))
                .is_ok_and(|stat| stat.contains(") Z "))
    })
    .await;
    drop(publisher.await);
}

/// A child of a process that has used some processor time: it computes.
fn child_of(parent: u32) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes.flatten().find_map(|process| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (_, after) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks: u64 = fields.get(11)?.parse().ok()?;
        (fields.get(1)?.parse() == Ok(parent) && ticks > 20).then_some(id)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_embeds_a_broker_names_what_runs_jq() {
    for (named, errors) in [(true, 0), (false, 1)] {
        let sql = "SELECT jq('.', 1) AS r FROM \"t\"";
        let (rule, _) = compile(sql, &Catalog::default()).unwrap();
        let rule = Arc::new(LiveRule {
            id: "r".into(),
            rule: Arc::new(rule),
            sinks: Vec::new(),
            counters: Arc::default(),
            on_error: OnError::Drop,
            crossing: None,
        });
        let pipeline = Arc::new(Pipeline::new(World::new("test", jiff::tz::TimeZone::UTC)));
        pipeline.swap(vec![Arc::clone(&rule)]);
        let mut builder = Broker::builder().listen("127.0.0.1:0").pipeline(pipeline);
        if named {
            builder = builder.jq_program(WEIR);
        }
        let broker = builder.start().await.unwrap();
        let address = broker.addresses()[0];
        let broker = TestBroker { broker, address };
        let mut client = broker.connect(V5, "c").await;
        client.publish(publish("t", "x", 1, 1)).await;
        assert_eq!(rule.counters.matched(), 1);
        assert_eq!(rule.counters.failed(), errors);
    }
}
