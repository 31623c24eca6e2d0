//! What must hold for any text, payload and value.
#![expect(clippy::unwrap_used, reason = "what was made to be encoded can be")]

#[path = "support/mod.rs"]
mod support;

use proptest::prelude::*;
use support::World;
use weir_rules::comparison::Comparison;
use weir_rules::{Catalog, EvalError, Event, Input, Origin, Value, compile, fuzz, json};

/// Pieces of statements: random sequences of them come near to what people mistype.
const PIECES: &[&str] = &[
    "SELECT",
    "FOREACH",
    "DO",
    "INCASE",
    "FROM",
    "WHERE",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "LIKE",
    "IS",
    "NULL",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "\"t/#\"",
    "'s'",
    "''",
    "payload",
    "payload.a",
    "qos",
    "item",
    "upper",
    "nth",
    "if",
    "climate.f",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    "..",
    ":",
    ";",
    "*",
    "+",
    "-",
    "/",
    "%",
    "=",
    "<",
    ">=",
    "<>",
    "=~",
    "||",
    "~",
    "!",
    "1",
    "0",
    ".5",
    "1.",
    "1..2",
    "9999999999999999999",
    "1e5",
    "--",
    "/*",
    "*/",
    "'",
    "\"",
    "`",
    "\\",
    "é",
    "\u{0}",
    "\n",
    "XOR",
    "DIV",
    "MOD",
    "DISTINCT",
    "ORDER BY",
    "x'00'",
    "._a",
    "$events/client/connected",
];

fn near_statement() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..30);
    (any::<bool>(), pieces, any::<bool>()).prop_map(|(select, pieces, from)| {
        let middle = pieces.join(" ");
        format!(
            "{}{middle}{}",
            if select { "SELECT " } else { "" },
            if from { " FROM \"t/#\"" } else { "" }
        )
    })
}

/// An expression of the language, every part in parentheses.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "0",
        "2.5",
        "'x'",
        "'5'",
        "TRUE",
        "NULL",
        "null()",
        "payload.a",
        "payload.b.c",
        "payload.a[1]",
        "payload.a[1..-1]",
        "payload",
        "qos",
        "topic",
        "retain",
        "missing",
        "[1..3]",
        "{}",
        "payload.a['k']",
        "clientid",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(4, 24, 3, |inner| {
            let operators = prop::sample::select(vec![
                "+",
                "-",
                "*",
                "/",
                "%",
                "DIV",
                "||",
                "=",
                "<>",
                "<",
                ">=",
                "=~",
                "AND",
                "OR",
                "IN",
                "NOT IN",
                "LIKE",
                "NOT ILIKE",
                "RLIKE",
            ]);
            let calls = prop::sample::select(vec![
                "upper",
                "length",
                "abs",
                "str",
                "json_decode",
                "is_null",
                "map_keys",
                "first",
                "typeof",
            ]);
            let tests = prop::sample::select(vec![
                "IS NULL",
                "IS NOT TRUE",
                "[1]",
                ".a",
                "IN (1, 'x')",
                "BETWEEN 0 AND 2",
                "LIKE '%1_'",
            ]);
            prop_oneof![
                (inner.clone(), operators, inner.clone())
                    .prop_map(|(a, operator, b)| format!("({a}) {operator} ({b})")),
                (calls, inner.clone()).prop_map(|(call, a)| format!("{call}({a})")),
                (inner.clone(), tests).prop_map(|(a, test)| format!("({a}) {test}")),
                inner.clone().prop_map(|a| format!("NOT ({a})")),
                inner.clone().prop_map(|a| format!("- ({a})")),
                (inner.clone(), inner.clone(), inner.clone())
                    .prop_map(|(a, b, c)| format!("CASE WHEN {a} THEN {b} ELSE {c} END")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("[{a}, {{'k': {b}}}]")),
            ]
        })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Undefined),
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-5_i32..5).prop_map(|whole| Value::from(f64::from(whole) / 2.0)),
        "[0-9]{1,3}(\\.[0-9])?|true|false|null|[a-c]{0,2}|.{0,3}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A JSON text, sometimes damaged.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let text = value().prop_map(|value| json::to_text(&value).unwrap().into_bytes());
    let object = prop::collection::vec(("[abc]", value()), 0..5)
        .prop_map(|members| {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("\"{key}\":{}", json::to_text(value).unwrap()))
                .collect();
            format!("{{{}}}", members.join(",")).into_bytes()
        })
        .boxed();
    let damaged = (object.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut text, at, byte)| {
            let at = at.index(text.len());
            text[at] = byte;
            text
        },
    );
    prop_oneof![
        text,
        object,
        damaged,
        prop::collection::vec(any::<u8>(), 0..40)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 20_000 }) })]

    #[test]
    fn any_text_compiles_or_is_refused(text in any::<String>()) {
        fuzz::rule_text(&text);
    }

    #[test]
    fn anything_like_a_statement_compiles_or_is_refused(text in near_statement()) {
        fuzz::rule_text(&text);
    }

    #[test]
    fn what_compiles_is_evaluated_without_panic(text in near_statement(), payload in payload()) {
        if let Ok((rule, _)) = compile(&text, &Catalog::default()) {
            let event = Event::publish("t/1", payload);
            let mut world = World::new();
            let first = world.evaluate(&rule, &Input::new(&event, rule.needs()));
            let staged = rule.evaluate_staged(&Input::new(&event, rule.needs()), "rule", &mut World::new());
            let shown = |result: &Result<Vec<Value>, EvalError>| result.as_ref().map(|rows| format!("{rows:?}")).map_err(ToString::to_string);
            prop_assert_eq!(shown(&first), shown(&staged.result));
        }
    }

    #[test]
    fn what_the_grammar_allows_is_never_a_syntax_error(
        a in expression(), b in expression(), c in expression(), foreach in any::<bool>(), payload in payload(),
    ) {
        let sql = if foreach {
            format!("FOREACH {a} AS x, {b} AS e DO e, x, {c} AS y INCASE y = e FROM \"t/#\"")
        } else {
            format!("SELECT {a} AS x, {b} AS y.z, y.z AS w, x AS payload.v FROM \"t/#\" WHERE {c}")
        };
        match compile(&sql, &Catalog::default()) {
            Ok((rule, _)) => {
                let event = Event::publish("t/1", payload);
                let run = || format!("{:?}", World::new().evaluate(&rule, &Input::new(&event, rule.needs())));
                prop_assert_eq!(run(), run());
            }
            Err(findings) => {
                let mistaken = |code: &str| code.starts_with('W') || code == "E0104" || code == "E0108";
                let wrong = findings.iter().find(|finding| !mistaken(finding.code.name()));
                prop_assert!(wrong.is_none(), "{}\n{}", sql, wrong.unwrap().render(&sql, &Origin::default()));
            }
        }
    }

    #[test]
    fn a_partial_decode_gives_what_a_full_one_gives(payload in payload()) {
        fuzz::payload(&payload);
    }

    #[test]
    fn the_operators_of_comparison_agree_with_each_other(a in value(), b in value()) {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        prop_assert!(!(Equal.holds(&a, &b) && NotEqual.holds(&a, &b)));
        prop_assert_eq!(Equal.holds(&a, &b), Equal.holds(&b, &a));
        prop_assert_eq!(NotEqual.holds(&a, &b), NotEqual.holds(&b, &a));
        prop_assert_eq!(Less.holds(&a, &b), Greater.holds(&b, &a));
        prop_assert_eq!(LessOrEqual.holds(&a, &b), GreaterOrEqual.holds(&b, &a));
        prop_assert!(!Less.holds(&a, &b) || (LessOrEqual.holds(&a, &b) && NotEqual.holds(&a, &b)));
        // Only undefined is neither equal to nor different from something.
        let undecided = !Equal.holds(&a, &b) && !NotEqual.holds(&a, &b);
        prop_assert_eq!(undecided, a.is_undefined() != b.is_undefined());
    }

    #[test]
    fn every_value_equals_itself_and_strict_equals_are_equal_members(a in value(), b in value()) {
        prop_assert!(a.equals(&a) && a.strict_equals(&a));
        let wrap = |value: &Value| Value::from(vec![value.clone()]);
        prop_assert_eq!(a.strict_equals(&b), wrap(&a).equals(&wrap(&b)));
    }

    #[test]
    fn json_reads_back_equal(a in value()) {
        let text = json::to_text(&a).unwrap();
        let again = json::decode(text.as_bytes()).unwrap();
        prop_assert_eq!(json::to_text(&again).unwrap(), text);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "only rules may not read files")]
fn the_corpus_of_the_fuzz_targets_passes() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let files = |target: &str| -> Vec<Vec<u8>> {
        let folder = std::fs::read_dir(corpus.join(target)).unwrap();
        folder
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    };
    let (texts, payloads) = (files("rule_text"), files("payload"));
    assert!(!texts.is_empty() && !payloads.is_empty());
    texts
        .iter()
        .for_each(|text| fuzz::rule_text(&String::from_utf8_lossy(text)));
    payloads.iter().for_each(|payload| fuzz::payload(payload));
}

#[test]
fn a_deep_or_long_statement_is_refused_or_runs_but_never_overflows() {
    let event = Event::publish("t/1", "{}");
    let deep = |open: &str, inner: &str, close: &str, times: usize| {
        format!(
            "SELECT {}{inner}{} AS a FROM \"t/#\"",
            open.repeat(times),
            close.repeat(times)
        )
    };
    let cases = [
        (deep("(", "1", ")", 30_000), false),
        (deep("[", "1", "]", 30_000), false),
        (deep("NOT ", "TRUE", "", 15_000), false),
        (deep("- ", "qos", "", 30_000), false),
        (deep("abs(", "1", ")", 12_000), false),
        (deep("{'a':", "1", "}", 10_000), false),
        (deep("CASE WHEN ", "TRUE", " THEN 1 END", 2_000), false),
        (deep("payload[", "1", "]", 5_000), false),
        (deep("(", "1", " + 1)", 41), false),
        (deep("1 + ", "1", "", 15_000), false),
        (
            deep("((1 + ", "1", " + 1) + 1 + 1 + 1 + 1 + 1 + 1)", 19),
            true,
        ),
        (deep("TRUE OR ", "FALSE", "", 2_000), true),
        (deep("FALSE OR TRUE AND ", "TRUE", "", 3_000), true),
        (deep("'a' || ", "'b'", "", 200), true),
        (
            format!("SELECT payload{} AS a FROM \"t/#\"", ".a".repeat(128)),
            true,
        ),
        (
            format!("SELECT payload{} AS a FROM \"t/#\"", ".a".repeat(20_000)),
            false,
        ),
        (
            format!("SELECT 1 IN ({}1) AS a FROM \"t/#\"", "2, ".repeat(20_000)),
            true,
        ),
        (
            format!("SELECT {}1 AS a FROM \"t/#\"", "1 AS a, ".repeat(300)),
            false,
        ),
        (
            format!("SELECT 1 AS a{} FROM \"t/#\"", ".b".repeat(20_000)),
            false,
        ),
        (
            format!("SELECT [{}[]] AS a FROM \"t/#\"", "[], ".repeat(1_000)),
            false,
        ),
        (
            format!("SELECT 1 AS a FROM {}\"t/#\"", "\"a\", ".repeat(64)),
            false,
        ),
        (
            format!("SELECT 1 AS a FROM \"t/#\" -- {}", "x".repeat(65_536)),
            false,
        ),
    ];
    for (sql, compiles) in cases {
        let shown = &sql[..sql.len().min(60)];
        match compile(&sql, &Catalog::default()) {
            Ok((rule, _)) => {
                assert!(compiles, "{shown} should be refused");
                let result = World::new().evaluate(&rule, &Input::new(&event, rule.needs()));
                assert!(result.is_ok(), "{shown}: {result:?}");
            }
            Err(errors) => {
                assert!(
                    !compiles,
                    "{shown}: {}",
                    errors[0].render(&sql, &Origin::default())
                );
                assert!(
                    errors.iter().any(|error| error.code.name() == "E0110"),
                    "{shown}: {:?}",
                    errors[0]
                );
            }
        }
    }
}
