use super::*;
use crate::driver::events;
use std::path::Path;
use weir_rules::compile;
use weir_rules::value::Object;
use weir_sinks::{ConsoleOutput, SinkConfig, SinkSpec, open};

fn plan(text: &str) -> SinkPlan {
    let config: SinkConfig = toml::from_str(text).unwrap();
    config.check(None).unwrap().0
}

/// A sink whose far side never answers: rows stay where they are.
fn stuck(dir: &Path, max_rows: usize) -> SinkHandle {
    let text = format!(
        "type = 'http'\nurl = 'http://127.0.0.1:9/'\nbuffer = {{ kind = 'memory', max_rows = {max_rows} }}\n"
    );
    open(&SinkSpec {
        rule_id: "r".to_owned(),
        sink_id: "s".to_owned(),
        plan: plan(&text),
        connector: None,
        data_dir: dir.to_path_buf(),
        store_id: "test".to_owned(),
        console: ConsoleOutput::new(std::io::sink()),
        rows: None,
        letters: None,
    })
    .unwrap()
}

fn rule(id: &str, sql: &str, targets: Vec<Target>) -> Arc<LiveRule> {
    let (compiled, _) = compile(sql, &weir_rules::Catalog::default()).unwrap();
    let sinks = targets.into_iter().enumerate();
    Arc::new(LiveRule {
        id: id.into(),
        rule: Arc::new(compiled),
        sinks: sinks
            .map(|(at, target)| LiveSink {
                id: at.to_string().into(),
                target,
                marks: false,
            })
            .collect(),
        counters: Arc::default(),
        on_error: OnError::default(),
        crossing: None,
    })
}

fn pipeline(rules: Vec<Arc<LiveRule>>) -> Pipeline {
    let pipeline = Pipeline::new(World::fixed("n", TimeZone::UTC, 0, 0));
    pipeline.swap(rules);
    pipeline
}

fn publish(topic: &str, payload: &'static str, qos: u8) -> Publish {
    let Event {
        what: What::Publish(mut publish),
        ..
    } = Event::publish(topic, payload)
    else {
        unreachable!("a publish")
    };
    publish.qos = qos;
    publish
}

const EACH: &str = "FOREACH payload AS item DO item AS x FROM \"t\"";

#[tokio::test]
async fn a_message_finds_room_for_all_of_its_rows_or_is_not_taken_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let sink = stuck(dir.path(), 4);
    let rule = rule("r", EACH, vec![Target::Queue(sink.clone())]);
    let pipeline = pipeline(vec![Arc::clone(&rule)]);
    let matched = pipeline.matched("t").unwrap();
    let taken = |payload| {
        matches!(
            pipeline.accept(&matched, publish("t", payload, 1), StoreRoom::Given),
            Accepted::Kept { .. }
        )
    };
    assert!(taken("[1,2,3]"));
    assert!(!taken("[4,5]"));
    assert_eq!(sink.counters().rows_in, 3);
    assert_eq!(rule.counters.matched(), 1);
    assert!(taken("[4]"));
}

#[tokio::test]
async fn who_waits_for_room_is_not_woken_by_his_own_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let sink = stuck(dir.path(), 2);
    let pipeline = pipeline(vec![rule("r", EACH, vec![Target::Queue(sink)])]);
    let matched = pipeline.matched("t").unwrap();
    assert!(matches!(
        pipeline.accept(&matched, publish("t", "[1]", 1), StoreRoom::Given),
        Accepted::Kept { .. }
    ));
    let Accepted::NoRoom(room) =
        pipeline.accept(&matched, publish("t", "[2,3]", 1), StoreRoom::Given)
    else {
        panic!("two rows fit into one place")
    };
    let mut wait = std::pin::pin!(room.wait());
    assert!(futures_util::poll!(wait.as_mut()).is_pending());
    pipeline.swap(Vec::new());
    assert!(
        futures_util::poll!(wait.as_mut()).is_ready(),
        "a change of rules is worth a new try"
    );
}

#[tokio::test]
async fn a_message_that_can_never_fit_is_counted_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let sink = stuck(dir.path(), 2);
    let pipeline = pipeline(vec![rule("r", EACH, vec![Target::Queue(sink.clone())])]);
    let matched = pipeline.matched("t").unwrap();
    assert!(matches!(
        pipeline.accept(&matched, publish("t", "[1,2,3]", 1), StoreRoom::Given),
        Accepted::Kept { .. }
    ));
    let counters = sink.counters();
    assert_eq!((counters.rows_in, counters.dropped), (3, 3));
    assert!(counters.balanced());
}

#[tokio::test]
async fn a_message_of_qos_0_is_dropped_and_counted_where_there_is_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let sink = stuck(dir.path(), 1);
    let pipeline = pipeline(vec![rule("r", EACH, vec![Target::Queue(sink.clone())])]);
    let matched = pipeline.matched("t").unwrap();
    for payload in ["[1]", "[2]"] {
        assert!(matches!(
            pipeline.accept(&matched, publish("t", payload, 0), StoreRoom::Given),
            Accepted::Kept { .. }
        ));
    }
    assert_eq!(sink.counters().dropped, 1);
}

#[tokio::test]
async fn rows_of_durable_sinks_are_given_to_the_commit_and_those_of_copies_too() {
    let dir = tempfile::tempdir().unwrap();
    let text = "type = 'http'\nurl = 'http://127.0.0.1:9/'\nbuffer = { max_rows = 3 }\n";
    let log = Arc::new(weir_sinks::MemoryRows::new(5, 7));
    let sink = open(&SinkSpec {
        rule_id: "r".to_owned(),
        sink_id: "s".to_owned(),
        plan: plan(text),
        connector: None,
        data_dir: dir.path().to_path_buf(),
        store_id: "test".to_owned(),
        console: ConsoleOutput::new(std::io::sink()),
        rows: Some(log),
        letters: None,
    })
    .unwrap();
    let again = Target::Republish(Arc::new(plan("type = 'republish'\ntopic = 'u'\n")));
    let first = rule("first", "SELECT 1 AS x FROM \"t\"", vec![again]);
    let second = rule(
        "second",
        "SELECT 2 AS x FROM \"t\", \"u\"",
        vec![Target::Queue(sink.clone())],
    );
    let pipeline = pipeline(vec![first, second]);
    let matched = pipeline.matched("t").unwrap();
    let Accepted::Kept { rows, republish } =
        pipeline.accept(&matched, publish("t", "", 1), StoreRoom::Given)
    else {
        panic!("there is room")
    };
    assert_eq!(republish.len(), 1);
    let owed: Vec<_> = rows.iter().flat_map(|owed| &owed.rows).collect();
    assert_eq!(owed.len(), 2, "of the message and of its copy");
    assert!(rows.iter().all(|owed| owed.queue == 5));
    assert_eq!(sink.counters().buffered_rows, 2);
    assert!(
        matches!(
            pipeline.accept(&matched, publish("t", "", 1), StoreRoom::Given),
            Accepted::NoRoom(_)
        ),
        "what is being committed takes room"
    );
    // The commit fails.
    drop(rows);
    let counters = sink.counters();
    assert_eq!(
        (counters.rows_in, counters.dropped_by["not_stored"]),
        (2, 2)
    );
    assert!(counters.balanced());
}

#[test]
fn a_chain_of_republishing_ends_at_max_hops() {
    let target = || {
        Target::Republish(Arc::new(plan(
            "type = 'republish'\ntopic = '${to}'\nmax_hops = 3\n",
        )))
    };
    let ping = rule("ping", "SELECT 'b' AS to FROM \"a\"", vec![target()]);
    let pong = rule("pong", "SELECT 'a' AS to FROM \"b\"", vec![target()]);
    let pipeline = pipeline(vec![Arc::clone(&ping), Arc::clone(&pong)]);
    let matched = pipeline.matched("a").unwrap();
    let Accepted::Kept { republish, .. } =
        pipeline.accept(&matched, publish("a", "", 0), StoreRoom::Given)
    else {
        panic!("nothing blocks here")
    };
    let topics: Vec<&str> = republish
        .iter()
        .map(|publish| publish.topic.as_str().unwrap())
        .collect();
    assert_eq!(topics, ["b", "a", "b"]);
    let failed = |rule: &LiveRule| rule.counters.republish_failed.load(Ordering::Relaxed);
    assert_eq!(failed(&ping) + failed(&pong), 1);
}

#[test]
fn a_rule_is_not_triggered_by_what_it_made() {
    let target = Target::Republish(Arc::new(plan("type = 'republish'\ntopic = 'a'\n")));
    let echo = rule("echo", "SELECT 1 AS x FROM \"a\"", vec![target]);
    let pipeline = pipeline(vec![Arc::clone(&echo)]);
    let matched = pipeline.matched("a").unwrap();
    pipeline.accept(&matched, publish("a", "", 0), StoreRoom::Given);
    assert_eq!(echo.counters.matched(), 1);
}

#[test]
fn a_rule_is_not_triggered_by_what_becomes_of_what_it_made() {
    let target = || {
        Target::Republish(Arc::new(plan(
            "type = 'republish'\ntopic = 'log'\nmax_hops = 3\n",
        )))
    };
    let sql = "SELECT topic FROM \"$events/message/#\"";
    let echo = rule("echo", sql, vec![target()]);
    let other = rule("other", sql, vec![target()]);
    let pipeline = pipeline(vec![Arc::clone(&echo), Arc::clone(&other)]);
    let first = Event::broker("$events/message/acked", Object::default()).unwrap();
    let mut waiting = vec![first];
    let mut rounds = 0;
    while let Some(event) = waiting.pop() {
        rounds += 1;
        assert!(rounds < 100, "it never ends");
        let (made, _) = pipeline.observe(event);
        waiting.extend(made.into_iter().filter_map(|publish| {
            let message = events::message_of(publish, 0)?;
            Some(events::message_dropped(&message, "no_subscribers"))
        }));
    }
    // Each sees the first event, and what the other makes of it, as long as `max_hops` lets them.
    assert_eq!(echo.counters.passed(), 4);
    assert_eq!(other.counters.passed(), 4);
}

#[test]
fn one_bad_payload_is_an_error_of_the_rules_that_look_inside_only() {
    let inside = rule("inside", "SELECT payload.x AS x FROM \"t\"", vec![]);
    let outside = rule("outside", "SELECT topic FROM \"t\"", vec![]);
    let pipeline = pipeline(vec![Arc::clone(&inside), Arc::clone(&outside)]);
    let matched = pipeline.matched("t").unwrap();
    pipeline.accept(&matched, publish("t", "{x:", 0), StoreRoom::Given);
    assert_eq!(
        (inside.counters.failed(), outside.counters.failed()),
        (1, 0)
    );
    assert_eq!(outside.counters.passed(), 1);
    assert_eq!(inside.counters.last_errors()[0].kind, "payload_decode");
}

#[test]
fn every_rule_of_a_message_is_counted_however_its_where_was_decided() {
    let passes = rule(
        "passes",
        "SELECT 1 AS x FROM \"t\" WHERE payload.a > 1",
        vec![],
    );
    let compared = rule(
        "compared",
        "SELECT 1 AS x FROM \"t\" WHERE payload.a > 9",
        vec![],
    );
    let computed = rule(
        "computed",
        "SELECT 1 AS x FROM \"t\" WHERE abs(payload.a) > 9",
        vec![],
    );
    let fails = rule("fails", "SELECT 1 AS x FROM \"t\" WHERE payload.a", vec![]);
    let rules = [compared, passes, fails, computed];
    let pipeline = pipeline(rules.to_vec());
    let matched = pipeline.matched("t").unwrap();
    let mut message = publish("t", r#"{"a":5}"#, 0);
    message.received_at_ms = 77;
    pipeline.accept(&matched, message, StoreRoom::Given);
    let counts: Vec<_> = rules
        .iter()
        .map(|rule| &rule.counters)
        .map(|of| (of.matched(), of.passed(), of.no_result(), of.failed()))
        .collect();
    assert_eq!(
        counts,
        [(1, 0, 1, 0), (1, 1, 0, 0), (1, 0, 0, 1), (1, 0, 1, 0)]
    );
    assert!(rules.iter().all(|rule| rule.counters.last_match_ms() == 77));
}
