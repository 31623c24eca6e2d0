//! What one message costs: decode and WHERE, hit and miss, by payload size and by the number of rules on its topic;
//! FOREACH and a user function.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use weir_rules::env::{Env, Store};
use weir_rules::script::Scripts;
use weir_rules::{Catalog, Event, Matched, Rule, RuleSet, Value, compile};

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
    fn hostname(&self) -> &str {
        "machine"
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

/// The rule of the first sentence of the manual.
fn sentence(filter: &str, threshold: i64) -> Arc<Rule> {
    compiled(&format!(
        "SELECT payload.temp FROM \"{filter}\" WHERE payload.temp > {threshold}"
    ))
}

fn compiled(sql: &str) -> Arc<Rule> {
    compiled_with(sql, &Catalog::default())
}

fn compiled_with(sql: &str, catalog: &Catalog) -> Arc<Rule> {
    let (rule, _) = compile(sql, catalog).expect("the statement is right");
    Arc::new(rule)
}

fn wide(index: usize, threshold: i64) -> Arc<Rule> {
    compiled(&format!(
        "SELECT payload.device AS device, payload.temp AS temp, payload.hum AS hum, {index} AS rule \
         FROM \"dev/+/up\" WHERE payload.temp > {threshold}"
    ))
}

fn on_topic(rules: impl IntoIterator<Item = Arc<Rule>>) -> Arc<Matched<Rule>> {
    RuleSet::new(rules)
        .matching("dev/1/up")
        .expect("the rules are on this topic")
}

/// As the broker does it: one input for all rules of a message.
fn run(bencher: Bencher<'_, '_>, payload: String, matched: &Matched<Rule>) {
    let event = Event::publish("dev/1/up", payload);
    let mut env = Nowhere(jiff::tz::TimeZone::UTC);
    bencher.bench_local(|| {
        let input = matched.input(black_box(&event));
        (0..matched.rules.len())
            .map(|place| {
                let rows = matched.evaluate(place, &input, "rule", &mut env);
                black_box(rows.expect("no evaluation error")).len()
            })
            .sum::<usize>()
    });
}

const SIZES: [usize; 4] = [100, 300, 1024, 4096];
const COUNTS: [usize; 3] = [1, 10, 1000];

#[divan::bench(args = SIZES, sample_size = 1000)]
fn sentence_passes(bencher: Bencher<'_, '_>, size: usize) {
    run(
        bencher,
        payload(size),
        &on_topic([sentence("dev/+/up", 30)]),
    );
}

#[divan::bench(args = SIZES, sample_size = 1000)]
fn sentence_does_not_pass(bencher: Bencher<'_, '_>, size: usize) {
    run(
        bencher,
        payload(size),
        &on_topic([sentence("dev/+/up", 90)]),
    );
}

#[divan::bench(args = COUNTS, sample_size = 100)]
fn rules_pass_300_bytes(bencher: Bencher<'_, '_>, count: usize) {
    run(
        bencher,
        payload(300),
        &on_topic((0..count).map(|index| wide(index, 30))),
    );
}

#[divan::bench(args = COUNTS, sample_size = 100)]
fn rules_do_not_pass_300_bytes(bencher: Bencher<'_, '_>, count: usize) {
    run(
        bencher,
        payload(300),
        &on_topic((0..count).map(|index| wide(index, 90))),
    );
}

#[divan::bench(args = COUNTS, sample_size = 100)]
fn one_of_the_rules_passes_300_bytes(bencher: Bencher<'_, '_>, count: usize) {
    let rule = |index: usize| wide(index, if index == count / 2 { 30 } else { 90 });
    run(bencher, payload(300), &on_topic((0..count).map(rule)));
}

/// The first step of a message on a topic that its publisher has not used yet, and its one rule: the others are on
/// topics of their own.
#[divan::bench(args = [0, 100, 10_000], sample_size = 1000)]
fn find_and_pass_beside_rules_elsewhere(bencher: Bencher<'_, '_>, others: usize) {
    let elsewhere = (0..others).map(|index| sentence(&format!("dev/{index}/down"), 30));
    let set = RuleSet::new(elsewhere.chain([sentence("dev/+/up", 30)]));
    let event = Event::publish("dev/1/up", payload(300));
    let mut env = Nowhere(jiff::tz::TimeZone::UTC);
    bencher.bench_local(|| {
        let matched = set.matching(black_box("dev/1/up"))?;
        let input = matched.input(black_box(&event));
        matched.evaluate(0, &input, "rule", &mut env).ok()
    });
}

/// Ten rules that each look at a text and a number, of which one passes.
#[divan::bench(args = SIZES, sample_size = 1000)]
fn one_of_ten_passes(bencher: Bencher<'_, '_>, size: usize) {
    let rule = |index: usize| {
        compiled(&format!(
            "SELECT payload.temp AS temp, clientid FROM \"dev/+/up\" \
             WHERE payload.device = 'a1-000{index}' AND payload.temp > 30"
        ))
    };
    run(bencher, payload(size), &on_topic((0..10).map(rule)));
}

/// Half of a hundred elements pass.
#[divan::bench(sample_size = 100)]
fn foreach_100_elements(bencher: Bencher<'_, '_>) {
    let elements: Vec<String> = (0..100)
        .map(|index| format!(r#"{{"id":"s{index}","value":{index}.5,"unit":"C"}}"#))
        .collect();
    let rule = compiled(
        "FOREACH payload.sensors AS s DO s.id AS id, s.value AS value INCASE s.value > 50 FROM \"dev/+/up\"",
    );
    let payload = format!(r#"{{"sensors":[{}]}}"#, elements.join(","));
    run(bencher, payload, &on_topic([rule]));
}

/// One field is computed by a script.
#[divan::bench(sample_size = 100)]
fn user_function_300_bytes(bencher: Bencher<'_, '_>) {
    let scripts = Scripts::load([("unit", "fn fahrenheit(celsius) { celsius * 1.8 + 32 }")])
        .expect("the script is right");
    let catalog = Catalog {
        scripts: Arc::new(scripts),
    };
    let rule = compiled_with(
        "SELECT unit.fahrenheit(payload.temp) AS temp FROM \"dev/+/up\" WHERE payload.temp > 30",
        &catalog,
    );
    run(bencher, payload(300), &on_topic([rule]));
}

#[divan::bench]
fn compile_a_rule() -> usize {
    let sql = "SELECT payload.device AS device, payload.temp AS temp FROM \"dev/+/up\" WHERE payload.temp > 30 AND qos = 1";
    compile(black_box(sql), &Catalog::default()).map_or(0, |(_, warnings)| warnings.len())
}
