//! Rules as a broker uses them: many on one topic, one decode for all, told stage by stage.
#![expect(clippy::unwrap_used, reason = "what is asked for is there")]

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;

use support::World;
use weir_rules::{
    Catalog, Column, Condition, Decode, Event, Input, Needed, Rule, RuleSet, Turn, Type, Value,
    compile, json,
};

fn rule(sql: &str) -> Arc<Rule> {
    Arc::new(
        compile(sql, &Catalog::default())
            .unwrap_or_else(|errors| panic!("{errors:?}"))
            .0,
    )
}

fn outputs(rule: &Rule, input: &Input<'_>) -> String {
    json::to_text(&Value::from(World::new().evaluate(rule, input).unwrap())).unwrap()
}

#[test]
fn the_rules_of_a_topic_are_found_once_each_and_in_their_order() {
    let rules = [
        rule("SELECT payload.a AS x FROM \"dev/+/up\""),
        rule("SELECT payload.b.c AS x FROM \"other\", \"dev/#\", \"dev/1/up\""),
        rule("SELECT topic FROM \"$events/client/connected\""),
        rule("SELECT clientid FROM \"dev/1/up\""),
    ];
    let set = RuleSet::new(rules.iter().map(Arc::clone));
    let matched = set.matching("dev/1/up").unwrap();
    let found: Vec<usize> = matched
        .rules
        .iter()
        .map(|found| {
            rules
                .iter()
                .position(|rule| Arc::ptr_eq(rule, found))
                .unwrap()
        })
        .collect();
    assert_eq!(found, [0, 1, 3]);
    assert_eq!(matched.needs.paths(), ["a", "b.c"]);
    assert!(set.matching("nothing").is_none());
    assert!(
        set.matching("$events/client/connected").is_none(),
        "a publish is no event"
    );
    assert_eq!(
        set.matching_event("$events/client/connected")
            .unwrap()
            .rules
            .len(),
        1
    );
}

#[test]
fn what_the_only_rule_of_many_topics_needs_is_made_once() {
    let set = RuleSet::new([
        rule("SELECT payload.a AS x FROM \"dev/+/up\", \"dev/1/#\""),
        rule("SELECT payload.b AS x FROM \"dev/3/up\", \"$events/client/connected\""),
    ]);
    let first = set.matching("dev/1/up").unwrap();
    assert_eq!(first.needs.paths(), ["a"]);
    assert!(Arc::ptr_eq(&first, &set.matching("dev/2/up").unwrap()));
    assert_eq!(set.matching("dev/3/up").unwrap().needs.paths(), ["a", "b"]);
    let event = set.matching_event("$events/client/connected").unwrap();
    assert_eq!(event.needs.paths(), ["b"]);
}

#[test]
fn matched_rules_share_one_decode_of_what_they_read_together() {
    let set = RuleSet::new([
        rule("SELECT payload.a AS x FROM \"t\""),
        rule("SELECT payload.b AS x FROM \"t\" WHERE payload.a = 1"),
    ]);
    let matched = set.matching("t").unwrap();
    let event = Event::publish("t", r#"{"a":1,"b":[2],"c":"never built"}"#);
    let input = Input::new(&event, &matched.needs);
    assert!(
        input.decoded().is_none(),
        "nothing is decoded before a rule looks inside"
    );
    assert_eq!(outputs(&matched.rules[0], &input), r#"[{"x":1}]"#);
    assert_eq!(outputs(&matched.rules[1], &input), r#"[{"x":[2]}]"#);
    let decoded = input.decoded().unwrap().unwrap();
    assert_eq!(json::to_text(decoded).unwrap(), r#"{"a":1,"b":[2]}"#);
}

#[test]
fn a_rule_that_never_looks_inside_pays_for_no_decode() {
    let rule = rule("SELECT payload, clientid FROM \"t\"");
    let event = Event::publish("t", "not json");
    let input = Input::new(&event, rule.needs());
    assert_eq!(
        outputs(&rule, &input),
        r#"[{"payload":"not json","clientid":"client"}]"#
    );
    assert!(rule.needs().is_empty() && input.decoded().is_none());
}

#[test]
fn one_broken_payload_fails_only_the_rules_that_look_inside() {
    let inside = rule("SELECT payload.a AS a FROM \"t\"");
    let outside = rule("SELECT topic FROM \"t\"");
    let event = Event::publish("t", "{");
    let input = Input::new(&event, inside.needs());
    let error = World::new().evaluate(&inside, &input).unwrap_err();
    assert_eq!(
        (error.kind.name(), error.line, error.column),
        ("payload_decode", 1, 8)
    );
    assert_eq!(outputs(&outside, &input), r#"[{"topic":"t"}]"#);
}

#[test]
fn stages_show_each_term_with_the_values_in_it() {
    let rule = rule(
        "SELECT 1 AS x FROM \"t\" WHERE payload.temp > 30 AND upper(clientid) = 'CLIENT' AND payload.on",
    );
    let event = Event::publish("t", r#"{"temp":29}"#);
    let staged = rule.evaluate_staged(&Input::new(&event, rule.needs()), "r", &mut World::new());
    let shown: Vec<_> = staged
        .terms
        .iter()
        .map(|term| {
            (
                term.text.as_str(),
                term.with_values.as_str(),
                term.held.clone().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("payload.temp > 30", "29 > 30", Some(false)),
            (
                "upper(clientid) = 'CLIENT'",
                "upper(\"client\") = 'CLIENT'",
                Some(true)
            ),
            ("payload.on", "undefined", None),
        ]
    );
    assert!(staged.result.unwrap().is_empty());
}

fn needs(condition: &Condition) -> Vec<String> {
    let text = |needed: &Needed| {
        let or_text = if needed.or_text { " or text" } else { "" };
        format!("{} {}{or_text}", needed.path, needed.kind)
    };
    condition.needs.iter().map(text).collect()
}

#[test]
fn a_condition_tells_what_it_needs_of_the_values_in_it() {
    let of = |condition: &str| -> Vec<String> {
        let rule = rule(&format!("SELECT 1 AS x FROM \"t\" WHERE {condition}"));
        rule.explain().conditions.iter().flat_map(needs).collect()
    };
    assert_eq!(
        of("payload.a BETWEEN 1 AND 2.5"),
        ["payload.a number or text"]
    );
    assert_eq!(of("payload.a IN (1, 2)"), ["payload.a number or text"]);
    assert_eq!(of("payload.a = TRUE"), ["payload.a boolean or text"]);
    assert_eq!(of("payload.a = 'on'"), ["payload.a string"]);
    assert_eq!(of("payload.a LIKE 'x%'"), ["payload.a string"]);
    assert_eq!(of("payload.a"), ["payload.a boolean"]);
    assert_eq!(of("qos IN payload.list"), ["payload.list array"]);
    assert_eq!(
        of("payload.a - payload.b > 5 AND payload.c % 2 = 1"),
        ["payload.a number", "payload.b number", "payload.c integer"]
    );
    assert_eq!(of("abs(payload.a) > 5"), ["payload.a number"]);
    for open in [
        "payload.a <> 5",
        "payload.a = '5'",
        "payload.a < 'm'",
        "payload.a IN (1, 'on')",
        "payload.a = 1 OR payload.b = 2",
        "payload.a IS NULL",
        "qos = 1",
    ] {
        assert!(of(open).is_empty(), "{open}");
    }
}

#[test]
fn a_constant_condition_is_not_asked_for_each_message() {
    let asked = |condition: &str| -> Vec<(String, Turn)> {
        let rule = rule(&format!("SELECT 1 AS x FROM \"t\" WHERE {condition}"));
        let conditions = &rule.explain().conditions;
        let pair = |condition: &Condition| (condition.text.clone(), condition.turn);
        conditions.iter().map(pair).collect()
    };
    let pair = |text: &str, turn| (text.to_owned(), turn);
    assert_eq!(asked("1 = 1 AND qos = 1"), [pair("qos = 1", Turn::Field)]);
    assert_eq!(asked("1 = 1"), []);
    let never = [pair("1 = 2", Turn::Never)];
    assert_eq!(asked("1 = 2"), never);
    assert_eq!(asked("qos = 1 AND 1 = 2 AND payload.x = 1"), never);
    assert_eq!(
        asked("qos = 1 AND payload.x - 1 = 1 AND 1 = 2 AND qos = 2"),
        [
            pair("qos = 1", Turn::Field),
            pair("payload.x - 1 = 1", Turn::Written),
            pair("1 = 2", Turn::Never)
        ]
    );
    // Nothing is decoded for what is never asked.
    let rule = rule("SELECT 1 AS x FROM \"t\" WHERE qos = 1 AND 1 = 2 AND payload.x = 1");
    assert_eq!(rule.explain().decode, Decode::Nothing);
}

#[test]
fn a_matched_set_does_not_enter_a_rule_that_never_holds() {
    let set = RuleSet::new([
        rule("SELECT 1 AS x FROM \"t\" WHERE clientid LIKE 'a%' AND 'a' =~ 'b'"),
        rule("SELECT 1 AS x FROM \"t\" WHERE 1 = 1"),
        rule("SELECT 1 AS x FROM \"t\" WHERE payload.x - 1 > 0 AND 1 = 2"),
    ]);
    let matched = set.matching("t").unwrap();
    let event = Event::publish("t", "");
    let input = matched.input(&event);
    let told = [0, 1, 2].map(|place| matched.condition(place, &input));
    assert_eq!(told, [Some(false), Some(true), None]);
}

#[test]
fn a_rule_explains_itself() {
    let rule = rule(
        "SELECT clientid, payload.a.b AS v, payload.n * 2 AS twice FROM \"t/+\" WHERE payload.n > 1 AND qos = 1",
    );
    let explain = rule.explain();
    assert_eq!(explain.sources, ["t/+"]);
    assert_eq!(
        explain.decode,
        Decode::Paths(vec!["a.b".into(), "n".into()])
    );
    let [number, field] = explain.conditions.as_slice() else {
        panic!("{:?}", explain.conditions);
    };
    assert_eq!(
        (&*number.text, number.turn),
        ("payload.n > 1", Turn::Payload)
    );
    assert_eq!((&*field.text, field.turn), ("qos = 1", Turn::Field));
    assert_eq!(needs(number), ["payload.n number or text"]);
    assert!(field.needs.is_empty());
    let column = |name: &str, kind, text: &str| {
        let at = rule.sql().find(text).unwrap();
        Column::Value {
            name: name.into(),
            kind,
            text: text.into(),
            at: at..at + text.len(),
        }
    };
    assert_eq!(
        explain.columns,
        [
            column("clientid", Type::String, "clientid"),
            column("v", Type::Any, "payload.a.b"),
            column("twice", Type::Number, "payload.n * 2"),
        ]
    );
    assert_eq!(
        rule.output_fields().unwrap()[1],
        ("v".to_owned(), Type::Any)
    );
}

#[test]
fn comparisons_with_constants_are_tested_first_where_that_cannot_be_told() {
    let conditions = |condition: &str| {
        rule(&format!("SELECT 1 AS x FROM \"t\" WHERE {condition}"))
            .explain()
            .conditions
            .iter()
            .map(|condition| condition.text.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        conditions("payload.a RLIKE 'x+' AND payload.b IS NULL AND 30 + 1 < payload.n"),
        [
            "30 + 1 < payload.n",
            "payload.a RLIKE 'x+'",
            "payload.b IS NULL"
        ]
    );
    // What may fail before them decides whether they are asked at all.
    assert_eq!(
        conditions("qos = 1 AND payload.a - 1 > 5 AND payload.n = 2"),
        ["qos = 1", "payload.a - 1 > 5", "payload.n = 2"]
    );
}

#[test]
fn a_matched_set_tells_without_its_rules_what_comparisons_decide() {
    let set = RuleSet::new([
        rule("SELECT 1 AS x FROM \"t\" WHERE payload.a > 1"),
        rule("SELECT 1 AS x FROM \"t\" WHERE payload.a > 9 AND upper(payload.b) = 'X'"),
        rule("SELECT 1 AS x FROM \"t\" WHERE upper(payload.b) = 'X'"),
        rule("SELECT 1 AS x FROM \"t\""),
    ]);
    let matched = set.matching("t").unwrap();
    let told = |payload: &'static str| -> Vec<Option<bool>> {
        let event = Event::publish("t", payload);
        let input = matched.input(&event);
        (0..4)
            .map(|place| matched.condition(place, &input))
            .collect()
    };
    let always = Some(true);
    assert_eq!(told(r#"{"a":5}"#), [Some(true), Some(false), None, always]);
    assert_eq!(told(r#"{"a":10}"#), [Some(true), None, None, always]);
    assert_eq!(told("{}"), [Some(false), Some(false), None, always]);
    assert_eq!(told("{"), [None, None, None, always]);
}

#[test]
fn a_value_that_grows_deeper_with_each_message_is_refused_in_time() {
    let rule = rule("SELECT kv_store_put('k', [kv_store_get('k')]) AS x FROM \"t\"");
    let event = Event::publish("t", "");
    let mut world = World::new();
    let errors: Vec<_> = (0..300)
        .filter_map(|_| {
            world
                .evaluate(&rule, &Input::new(&event, rule.needs()))
                .err()
        })
        .map(|error| error.kind.name())
        .collect();
    assert_eq!(errors.len(), 300 - 256);
    assert!(errors.iter().all(|kind| *kind == "limit"));
}

#[test]
fn rules_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Rule>();
    shared::<RuleSet<Rule>>();
}
