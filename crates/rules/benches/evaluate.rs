//! What one message costs: decode and WHERE, hit and miss, by payload size and by the number of rules on its topic.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use weir_rules::env::{Env, Store};
use weir_rules::{Catalog, Event, Input, Matched, Rule, RuleSet, Value, compile};

fn main() {
    divan::main();
}

/// A world that these rules never ask.
struct Nowhere(jiff::tz::TimeZone);

impl Env for Nowhere {
    fn now_ns(&self) -> i128 {
        0
    }
    fn random(&mut self) -> u64 {
        0
    }
    fn time_zone(&self) -> &jiff::tz::TimeZone {
        &self.0
    }
    fn node(&self) -> &str {
        "bench"
    }
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
    fn store(&mut self) -> &mut dyn Store {
        self
    }
    fn scratch(&mut self) -> &mut dyn Store {
        self
    }
}

impl Store for Nowhere {
    fn get(&self, _: &Value) -> Option<Value> {
        None
    }
    fn put(&mut self, _: Value, _: Value) -> Option<Value> {
        None
    }
    fn remove(&mut self, _: &Value) -> Option<Value> {
        None
    }
}

/// An object of about `size` bytes with three fields that rules read among others that they do not.
fn payload(size: usize) -> String {
    let mut text = String::from(r#"{"temp":31.5,"device":"a1-0007","hum":40"#);
    let mut index = 0;
    while text.len() + 30 < size {
        text.push_str(&format!(r#","field{index}":{{"v":{index}.5,"u":"C"}}"#));
        index += 1;
    }
    text.push('}');
    text
}

fn rules(count: usize, threshold: i64) -> Matched<Rule> {
    let rule = |index: usize| {
        let sql = format!(
            "SELECT payload.device AS device, payload.temp AS temp, payload.hum AS hum, {index} AS rule \
             FROM \"dev/+/up\" WHERE payload.temp > {threshold}"
        );
        Arc::new(
            compile(&sql, &Catalog::default())
                .expect("the statement is right")
                .0,
        )
    };
    RuleSet::new((0..count).map(rule))
        .matching("dev/1/up")
        .expect("the rules are on this topic")
}

fn run(bencher: Bencher<'_, '_>, size: usize, count: usize, threshold: i64) {
    let matched = rules(count, threshold);
    let event = Event::publish("dev/1/up", payload(size));
    let mut env = Nowhere(jiff::tz::TimeZone::UTC);
    bencher.bench_local(|| {
        let input = Input::new(black_box(&event), &matched.needs);
        let mut outputs = 0;
        for rule in &matched.rules {
            outputs += rule
                .evaluate(&input, "rule", &mut env)
                .map_or(0, |rows| black_box(rows).len());
        }
        outputs
    });
}

const SIZES: [usize; 4] = [100, 300, 1024, 4096];
const COUNTS: [usize; 3] = [1, 10, 1000];

#[divan::bench(args = SIZES)]
fn one_rule_hit(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, size, 1, 30);
}

#[divan::bench(args = SIZES)]
fn one_rule_miss(bencher: Bencher<'_, '_>, size: usize) {
    run(bencher, size, 1, 90);
}

#[divan::bench(args = COUNTS)]
fn rules_hit_300_bytes(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, 300, count, 30);
}

#[divan::bench(args = COUNTS)]
fn rules_miss_300_bytes(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, 300, count, 90);
}

#[divan::bench]
fn compile_a_rule() -> usize {
    let sql = "SELECT payload.device AS device, payload.temp AS temp FROM \"dev/+/up\" WHERE payload.temp > 30 AND qos = 1";
    compile(black_box(sql), &Catalog::default()).map_or(0, |(_, warnings)| warnings.len())
}
