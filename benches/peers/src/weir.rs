//! weir beside its peers.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use weir_rules::{Catalog, Event, Rule, RuleSet, json};

use crate::engines::Run;

#[path = "../../../crates/rules/tests/support/mod.rs"]
#[expect(dead_code, reason = "tests need more of it")]
mod support;

const TOPIC: &str = "dev/1/up";

/// Every message finds its rules by its topic, though the broker remembers them for the topics in use.
pub fn compile(sql: &'static str, payload: Bytes) -> Run {
    let (rule, _) = weir_rules::compile(sql, &Catalog::default()).expect("a right statement");
    let rules: RuleSet<Rule> = RuleSet::new([Arc::new(rule)]);
    let event = Event::publish(TOPIC, payload);
    let mut world = support::World::new();
    Box::new(move |out| {
        let matched = rules
            .matching(black_box(TOPIC))
            .expect("a rule on the topic");
        let input = matched.input(black_box(&event));
        let outputs = matched.evaluate(0, &input, "rule", &mut world);
        for output in outputs.expect("no evaluation error") {
            json::encode(&output, out).expect("what JSON can hold");
        }
    })
}
