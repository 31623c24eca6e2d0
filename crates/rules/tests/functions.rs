//! Every example of the function table holds; wrong arguments give the right kind of error; what one
//! function writes another reads back.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use weir_rules::env::{Env, Store};
use weir_rules::functions::{self, Body, Call, Purity, Searched, SliceArgs};
use weir_rules::{Catalog, ErrorKind, Event, Fault, Input, Value, compile};

/// A world that stands still, with one store for everything.
struct World {
    random: u64,
    zone: TimeZone,
    shared: Entries,
    scratch: Entries,
}

#[derive(Default)]
struct Entries(VecDeque<(Value, Value)>);

impl World {
    fn new() -> Self {
        Self {
            random: 7,
            zone: TimeZone::UTC,
            shared: Entries::default(),
            scratch: Entries::default(),
        }
    }
}

impl Env for World {
    fn now_ns(&self) -> i128 {
        1_753_452_000_500_000_000
    }

    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random ^ self.random >> 31
    }

    fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    fn node(&self) -> &str {
        "weir@test"
    }

    fn hostname(&self) -> &str {
        "machine"
    }
    fn variable(&self, name: &str) -> Option<String> {
        (name == "SITE").then(|| "hall 7".to_owned())
    }

    fn store(&mut self) -> &mut dyn Store {
        &mut self.shared
    }

    fn scratch(&mut self) -> &mut dyn Store {
        &mut self.scratch
    }

    #[cfg(feature = "jq")]
    fn jq(&self) -> Option<&dyn functions::jq::Runner> {
        Some(&Here)
    }
}

/// Runs the harmless jq programs of these tests in their own process.
#[cfg(feature = "jq")]
struct Here;

#[cfg(feature = "jq")]
impl functions::jq::Runner for Here {
    fn run(&self, ask: functions::jq::Ask<'_>) -> functions::jq::Answer {
        functions::jq::Programs::default().run(ask.program, ask.input)
    }
}

impl Store for Entries {
    fn get(&self, key: &Value) -> Option<Value> {
        self.0
            .iter()
            .find(|(own, _)| own.strict_equals(key))
            .map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: Value, value: Value) -> Option<Value> {
        let old = self.remove(&key);
        self.0.push_back((key, value));
        old
    }

    fn remove(&mut self, key: &Value) -> Option<Value> {
        let place = self.0.iter().position(|(own, _)| own.strict_equals(key))?;
        self.0.remove(place).map(|(_, value)| value)
    }
}

const PAYLOAD: &str = r#"{"a":{"b":[1,2]},"s":"text","n":null}"#;

/// The output row of `SELECT columns` for one message.
fn select(columns: &str) -> Result<Value, (ErrorKind, String)> {
    select_in(World::new(), columns)
}

fn select_in(mut world: World, columns: &str) -> Result<Value, (ErrorKind, String)> {
    let sql = format!("SELECT {columns} FROM \"site/+/up\"");
    let (rule, _) = compile(&sql, &Catalog::default())
        .map_err(|errors| panic!("{sql}: {errors:#?}"))
        .unwrap();
    let event = Event::publish("site/7/up", PAYLOAD);
    let rows = rule
        .evaluate(&Input::new(&event, rule.needs()), "the-rule", &mut world)
        .map_err(|error| (error.kind, error.to_string()))?;
    Ok(rows
        .into_iter()
        .next()
        .expect("a SELECT without WHERE gives a row"))
}

/// The value of an expression; undefined when it has none.
fn value(expression: &str) -> Result<Value, (ErrorKind, String)> {
    select(&format!("{expression} AS x")).map(|row| row.get("x").cloned().unwrap_or_default())
}

fn call(name: &str, args: &[Value]) -> Result<Value, Fault> {
    let event = Event::publish("t", "");
    match functions::lookup(name)
        .expect("the function is in the table")
        .body
    {
        Body::Strict(body) => body(&mut Call {
            args,
            event: &event,
            env: &mut World::new(),
            rule_id: "r",
            prepared: None,
            searched: &Searched::default(),
        }),
        Body::Lazy(body) => body(&mut SliceArgs(args)),
    }
}

/// Equal, and of the same types throughout: `1` is not `1.0` here.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|((k, a), (l, b))| k == l && same(a, b))
        }
        _ => a.type_name() == b.type_name() && a.strict_equals(b),
    }
}

#[test]
fn every_example_of_the_manual_holds() {
    let mut failures = Vec::new();
    for function in functions::all() {
        for (expression, expected) in function.examples {
            let (given, wanted) = (value(expression), value(expected).unwrap());
            match given {
                Ok(given) if same(&given, &wanted) => {}
                given => failures.push(format!("{expression} gives {given:?}, not {wanted:?}")),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_function_has_an_example_that_calls_it() {
    for function in functions::all() {
        let called = function
            .examples
            .iter()
            .any(|(expression, _)| expression.contains(&format!("{}(", function.name)));
        assert!(called, "{} has none", function.name);
    }
}

#[test]
fn most_of_emqx_is_there() {
    assert!(
        functions::all().count() >= 200,
        "{}",
        functions::all().count()
    );
}

#[test]
fn no_function_panics_on_any_value() {
    let odd: Vec<Value> = vec![
        Value::Undefined,
        Value::Null,
        true.into(),
        0.into(),
        (-1).into(),
        i64::MIN.into(),
        i64::MAX.into(),
        (-0.0).into(),
        1e308.into(),
        "".into(),
        "é\u{301}~%\\(".into(),
        Value::Text(vec![0xff, 0xfe].into()),
        Vec::new().into(),
        vec![1.into(), Value::Undefined, "x".into()].into(),
        [("k", Value::from(1))].into_iter().collect(),
    ];
    for function in functions::all() {
        for arguments in (0..=4).filter(|count| function.form(*count).is_some()) {
            let mut places = vec![0_usize; arguments];
            // All pairs for the first two arguments; the others go along.
            for first in 0..odd.len() {
                for second in 0..odd.len() {
                    for (place, at) in
                        places
                            .iter_mut()
                            .zip([first, second, first + second, first * 3 + second])
                    {
                        *place = at % odd.len();
                    }
                    let args: Vec<Value> = places.iter().map(|place| odd[*place].clone()).collect();
                    let _ = call(function.name, &args);
                }
            }
        }
    }
}

#[test]
fn pure_functions_do_not_look_at_the_world() {
    for function in functions::all().filter(|function| function.purity == Purity::Pure) {
        for (expression, _) in function.examples {
            // Twice the same; impure ones would draw other random numbers.
            let (once, again) = (value(expression).unwrap(), value(expression).unwrap());
            assert!(same(&once, &again), "{expression}");
        }
    }
}

#[test]
fn wrong_arguments_are_bad_arguments() {
    for expression in [
        "upper(payload.gone)",
        "upper(payload.n)",
        "upper(payload.a)",
        "abs(payload.s)",
        "bool(payload.s)",
        "int(payload.s)",
        "float(payload.a)",
        "float(1.5, 254 + 0)",
        "map(payload.s)",
        "hexstr2bin(concat('0', 'g'))",
        "hexstr2bin(concat('', '41'), '0x')",
        "substr(payload.s, 0 - 1)",
        "ascii(trim(' '))",
        "chr(0 - 1)",
        "nth(3, payload.a.b)",
        "nth(0, payload.a.b)",
        "first([])",
        "sublist(0 + 0, 1, payload.a.b)",
        "array_sort([1, 'a'])",
        "array_sum(['a'])",
        "base64_decode('a')",
        "base64_decode('aGVsbG8')",
        "base64_decode('-_8=')",
        "url_decode('%4')",
        "gunzip('no gzip')",
        "unzip(substr(zip('hello hello'), 0, 0))",
        "mget('a', qos + 0)",
        "unescape(concat('', '\\q'))",
        "regex_match('a', concat('(', ''))",
        "rfc3339_to_unix_ts('2025-07-25')",
        "date_to_unix_ts('second', '%Y', '2025')",
        "timezone_to_offset_seconds('+25:00')",
        "hash(concat('md', '4'), 'x')",
        "rand_int(0 + 0)",
        "greatest(1, 'a')",
        "topic_match('a', concat('#', '/a'))",
        "sprintf(concat('~b', ''), 'x')",
        "jwt_value('x', 'sub')",
        "convert_tz(0, 'Mars/Olympus')",
    ] {
        match value(expression) {
            Err((kind, _)) => assert_eq!(kind, ErrorKind::BadArgument, "{expression}"),
            Ok(value) => panic!("{expression} gives {value:?}"),
        }
    }
}

#[test]
fn other_faults_have_their_own_kinds() {
    use ErrorKind::{DivZero, Encode, Json, Limit, NotBoolean, NotFinite, Overflow};
    for (expression, kind) in [
        ("abs(-9223372036854775807 - 1)", Overflow),
        ("ceil(1.0e300)", Overflow),
        ("int('1e300')", Overflow),
        ("bitsl(4611686018427387904, 1)", Overflow),
        ("subbits(hexstr2bin('FFFFFFFFFFFFFFFF'), 64)", Overflow),
        ("array_sum([9223372036854775807, 1])", Overflow),
        ("sqrt(0 - 1)", NotFinite),
        ("log(0)", NotFinite),
        ("power(10, 400)", NotFinite),
        ("power(-8, 0.5)", NotFinite),
        ("asin(2)", NotFinite),
        ("fmod(1, 0 + 0)", DivZero),
        ("mod(1, qos() * 0)", DivZero),
        ("json_decode('{')", Json),
        ("json_encode(hexstr2bin('ff'))", Encode),
        ("repeat('x', 4194305)", Limit),
        ("pad('x', 4194305)", Limit),
        ("sequence(1, 1000001)", Limit),
        ("rand_str(4194305)", Limit),
        ("sprintf(concat('~99999999s', ''), 'x')", Limit),
        ("if('yes', 1)", NotBoolean),
    ] {
        match value(expression) {
            Err((given, _)) => assert_eq!(given, kind, "{expression}"),
            Ok(value) => panic!("{expression} gives {value:?}"),
        }
    }
}

#[test]
fn a_small_gzip_cannot_unfold_into_all_memory() {
    let zeros = Value::Text(vec![0; 4 << 20].into());
    let small = call("gzip", std::slice::from_ref(&zeros)).unwrap();
    assert!(same(
        &call("gunzip", std::slice::from_ref(&small)).unwrap(),
        &zeros
    ));
    let doubled = [
        small.as_text().unwrap().as_bytes(),
        small.as_text().unwrap().as_bytes(),
    ]
    .concat();
    assert_eq!(
        call("gunzip", &[Value::Text(doubled.into())])
            .unwrap_err()
            .kind(),
        ErrorKind::Limit
    );
}

#[test]
fn truncated_compressed_data_is_an_error() {
    for (write, read) in [
        ("gzip", "gunzip"),
        ("zip", "unzip"),
        ("zip_compress", "zip_uncompress"),
    ] {
        let packed = call(write, &["hello hello hello".into()]).unwrap();
        let bytes = packed.as_text().unwrap().as_bytes();
        for length in 0..bytes.len() {
            let cut = Value::Text(bytes[..length].to_vec().into());
            assert_eq!(
                call(read, &[cut]).unwrap_err().kind(),
                ErrorKind::BadArgument,
                "{read} of {length} bytes"
            );
        }
    }
}

#[test]
fn message_functions_read_the_message() {
    let row = select("topic(2) AS t, topic(4) AS none, payload('a.b') AS b, flags() AS f, rule_id() AS r, node() AS n, event() AS e, getenv('SITE') AS s").unwrap();
    let shown = serde_json::Value::from(&row);
    assert_eq!(shown["t"], "7");
    assert_eq!(shown.get("none"), None);
    assert_eq!(shown["b"], serde_json::json!([1, 2]));
    assert_eq!(
        shown["f"],
        serde_json::json!({"dup": false, "retain": false})
    );
    assert_eq!(
        (&shown["r"], &shown["n"], &shown["e"]),
        (
            &"the-rule".into(),
            &"weir@test".into(),
            &"message.publish".into()
        )
    );
    assert_eq!(shown["s"], "hall 7");
}

#[test]
fn an_hour_that_comes_twice_begins_in_the_one_that_is_meant() {
    let berlin = || World {
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        ..World::new()
    };
    for (expression, start) in [
        // 2025-10-26, clocks go from 3:00 back to 2:00 at 1761440400000.
        (
            "date_trunc('hour', 1761438600000, 'local')",
            1_761_436_800_000_i64,
        ),
        (
            "date_trunc('hour', 1761442200000, 'local')",
            1_761_440_400_000,
        ),
        (
            "date_trunc('minute', 1761442230000, 'local')",
            1_761_442_200_000,
        ),
        (
            "date_trunc('second', 1761442230999, 'local')",
            1_761_442_230_000,
        ),
        (
            "date_trunc('day', 1761442230000, 'local')",
            1_761_429_600_000,
        ),
        // 2025-03-30, they go from 2:00 to 3:00.
        (
            "date_trunc('hour', 1743298200000, 'local')",
            1_743_296_400_000,
        ),
    ] {
        let row = select_in(berlin(), &format!("{expression} AS x")).unwrap();
        assert_eq!(
            row.get("x").and_then(Value::as_int),
            Some(start),
            "{expression}"
        );
    }
}

#[test]
fn the_store_is_shared_and_the_scratch_is_not_kept() {
    let columns = "kv_store_put('k', 5) AS a, kv_store_get('k') AS b, kv_store_incr('k', 2) AS c, kv_store_del('k') AS d, \
        kv_store_get('k', 'gone') AS e, proc_dict_put('p', 1) AS f, proc_dict_put('p', 2) AS g, proc_dict_del('p') AS h";
    let shown = serde_json::Value::from(&select(columns).unwrap());
    assert_eq!(
        shown,
        serde_json::json!({"a": true, "b": 5, "c": 7, "d": true, "e": "gone", "g": 1, "h": 2})
    );
}

#[test]
fn identifiers_have_their_form_and_differ() {
    let texts = |expression| value(expression).unwrap().as_str().unwrap().to_owned();
    let uuid = texts("uuid_v4()");
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
    assert!(
        texts("uuid_v7()").starts_with("01984"),
        "it starts with the time"
    );
    assert!(
        texts("ulid()").starts_with("01K"),
        "it starts with the time"
    );
    assert_eq!(
        value("uuid_v4() = uuid_v4()").unwrap().as_bool(),
        Some(false)
    );
    assert!(
        texts("rand_str(40)")
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
}

#[test]
fn lazy_functions_compute_only_what_they_need() {
    assert_eq!(
        value("coalesce(1, 1 DIV (qos() * 0))").unwrap().as_int(),
        Some(1)
    );
    assert_eq!(
        value("if(true, 1, 1 DIV (qos() * 0))").unwrap().as_int(),
        Some(1)
    );
    assert_eq!(
        value("coalesce(payload.gone, 1 DIV (qos() * 0))")
            .unwrap_err()
            .0,
        ErrorKind::DivZero
    );
}

#[test]
fn text_functions_count_clusters_and_take_booleans() {
    assert_eq!(value("strlen('e\u{301}\r\n')").unwrap().as_int(), Some(2));
    assert_eq!(value("upper(1 = 1)").unwrap().as_str(), Some("TRUE"));
    assert_eq!(
        value("pad('ab', 5, 'both', '+-')").unwrap().as_str(),
        Some("+-ab+-+-")
    );
    assert_eq!(
        value("trim('\u{200e} a\u{a0}')").unwrap().as_str(),
        Some("a\u{a0}")
    );
    assert_eq!(
        value("tokens('äöü', 'ö')")
            .unwrap()
            .as_array()
            .map(<[Value]>::len),
        Some(2)
    );
}

fn text(bytes: &[u8]) -> Value {
    Value::Text(bytes.to_vec().into())
}

proptest! {
    #[test]
    fn what_one_function_writes_another_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let original = text(&bytes);
        for (write, read, options) in [
            ("base64_encode", "base64_decode", &[][..]),
            ("base64_encode", "base64_decode", &["urlsafe"][..]),
            ("base64_encode", "base64_decode", &["no_padding", "urlsafe"][..]),
            ("bin2hexstr", "hexstr2bin", &[][..]),
            ("bin2hexstr", "hexstr2bin", &["0x"][..]),
            ("encode", "decode", &["hex"][..]),
            ("encode", "decode", &["base64"][..]),
            ("url_encode", "url_decode", &[][..]),
            ("gzip", "gunzip", &[][..]),
            ("zip", "unzip", &[][..]),
            ("zip_compress", "zip_uncompress", &[][..]),
        ] {
            let with = |first: Value| {
                std::iter::once(first).chain(options.iter().map(|option| (*option).into())).collect::<Vec<Value>>()
            };
            let written = call(write, &with(original.clone())).unwrap();
            prop_assert!(same(&call(read, &with(written)).unwrap(), &original), "{}", write);
        }
    }

    #[test]
    fn bytes_that_nobody_wrote_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for read in ["base64_decode", "hexstr2bin", "url_decode", "gunzip", "unzip", "zip_uncompress", "json_decode", "unescape"] {
            let _ = call(read, &[text(&bytes)]);
        }
    }

    #[test]
    fn dates_are_read_back_as_they_were_written(ms in -60_000_000_000_000_i64..250_000_000_000_000, offset in -86_399_i64..86_399) {
        let format = Value::from("%Y-%m-%d %H:%M:%S.%3N %::z");
        let unit = Value::from("millisecond");
        let written = call("format_date", &[unit.clone(), offset.into(), format.clone(), ms.into()]).unwrap();
        prop_assert_eq!(call("date_to_unix_ts", &[unit, format, written]).unwrap().as_int(), Some(ms));
    }

    #[test]
    fn rfc3339_texts_are_read_back_as_they_were_written(ns in any::<i64>()) {
        let unit = Value::from("nanosecond");
        let written = call("unix_ts_to_rfc3339", &[ns.into(), unit.clone()]).unwrap();
        prop_assert_eq!(call("rfc3339_to_unix_ts", &[written, unit]).unwrap().as_int(), Some(ns));
    }

    #[test]
    fn formats_never_panic(format in ".{0,20}", int in any::<i64>(), float in any::<f64>()) {
        let _ = call("sprintf", &[format.as_str().into(), int.into(), float.into()]);
        let _ = call("format_date", &["second".into(), 0.into(), format.as_str().into(), int.into()]);
        let _ = call("date_to_unix_ts", &["second".into(), format.as_str().into(), format.as_str().into()]);
    }

    #[test]
    fn parts_of_a_text_make_up_the_text(s in "\\PC{0,20}", at in 0_i64..20) {
        let head = call("substr", &[s.as_str().into(), 0.into(), at.into()]).unwrap();
        let tail = call("substr", &[s.as_str().into(), at.into()]).unwrap();
        let whole = call("concat", &[head, tail]).unwrap();
        prop_assert_eq!(whole.as_str(), Some(s.as_str()));
    }

    #[test]
    fn numbers_rounded_to_text_are_the_nearest(x in -1e6..1e6_f64, decimals in 0_i64..12) {
        let shown = call("float2str", &[x.into(), decimals.into()]).unwrap();
        let back: f64 = shown.as_str().unwrap().parse().unwrap();
        let step = 10_f64.powi(-i32::try_from(decimals).unwrap());
        // Half a step, and what reading the text back rounds.
        prop_assert!((back - x).abs() <= step / 2.0 + x.abs() * f64::EPSILON, "{} for {}", back, x);
    }
}

#[cfg(feature = "jq")]
mod jq {
    use super::*;

    #[test]
    fn a_literal_program_that_is_none_does_not_compile() {
        for (program, said) in [
            ("{", "not a jq program"),
            ("nope", "jq does not know `nope`"),
            (&"(".repeat(200), "deeper than 128"),
            (&"-".repeat(20_000), "over 8 KiB"),
        ] {
            let sql = format!("SELECT jq('{program}', payload) AS r FROM \"t\"");
            let errors = compile(&sql, &Catalog::default()).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].message.contains(said), "{}", errors[0].message);
        }
    }

    #[test]
    fn a_computed_program_is_an_error_when_it_runs() {
        for (program, said) in [
            ("{", "not a jq program"),
            (&"(".repeat(200), "deeper than 128"),
            (&"-".repeat(20_000), "over 8 KiB"),
        ] {
            let fault = call("jq", &[program.into(), 1.into()]).unwrap_err();
            assert_eq!(fault.kind(), ErrorKind::Jq, "{}", fault.message());
            assert!(fault.message().contains(said), "{}", fault.message());
        }
        let no_json = call("jq", &[".".into(), "{".into()]).unwrap_err();
        assert_eq!(no_json.kind(), ErrorKind::Jq, "{}", no_json.message());
    }

    #[test]
    fn an_input_over_its_bound_is_refused() {
        let text = |length| vec![b' '; length];
        let run = |input: Vec<u8>| call("jq", &[".".into(), Value::Text(input.into())]);
        let mut fits = text(4 * 1024 * 1024);
        fits[0] = b'7';
        let answer = run(fits.clone()).unwrap();
        assert!(same(&answer, &vec![7.into()].into()));
        fits.push(b' ');
        assert_eq!(run(fits).unwrap_err().message(), "the input is over 4 MiB");
    }

    #[test]
    fn where_nothing_runs_programs_the_error_says_what_to_do() {
        struct Nobody(World);
        impl Env for Nobody {
            fn now_ns(&self) -> i128 {
                self.0.now_ns()
            }
            fn random(&mut self) -> u64 {
                self.0.random()
            }
            fn time_zone(&self) -> &TimeZone {
                self.0.time_zone()
            }
            fn node(&self) -> &str {
                "n"
            }
            fn hostname(&self) -> &str {
                "h"
            }
            fn variable(&self, _name: &str) -> Option<String> {
                None
            }
            fn store(&mut self) -> &mut dyn Store {
                self.0.store()
            }
            fn scratch(&mut self) -> &mut dyn Store {
                self.0.scratch()
            }
        }
        let event = Event::publish("t", "");
        let (rule, _) = compile("SELECT jq('.', 1) AS r FROM \"t\"", &Catalog::default()).unwrap();
        assert!(rule.may_take_long());
        let input = Input::new(&event, rule.needs());
        let error = rule
            .evaluate(&input, "r", &mut Nobody(World::new()))
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Jq);
        assert!(error.message.contains("jq_program"), "{error}");
    }
}
