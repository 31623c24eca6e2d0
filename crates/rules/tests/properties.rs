//! What must hold for any text, payload and value.
#![expect(clippy::unwrap_used, reason = "what was made to be encoded can be")]

#[path = "support/mod.rs"]
mod support;

use proptest::prelude::*;
use support::World;
use weir_rules::comparison::Comparison;
use weir_rules::event::What;
use weir_rules::{
    Catalog, Code, EvalError, Event, Input, Origin, RuleSet, Value, compile, fuzz, json,
};

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

/// JSON as people and devices spell it: spaces, escapes, numbers of every form, the same key twice; sometimes damaged.
fn spelled() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "7",
        "-12",
        "1.5",
        "-0.0",
        "0.1",
        "1e5",
        "1E-7",
        "2.5e+10",
        "1e999",
        "1e-999",
        "12345678901234567890",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "0.30000000000000004",
        "\"\"",
        "\"x\"",
        "\"30\"",
        "\"a longer text, of more than eight bytes\"",
        "\"\u{e9}\u{1f600}\"",
        "\"\\n\\t\\\"\\\\\\/\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"{\\\"b\\\":1}\"",
        "\"{}\"",
        "\"[1,2\"",
    ]);
    let space = prop::sample::select(vec!["", "", "", " ", "\n\t", "\r"]);
    let key = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "d",
        "",
        "a\\u0062",
        "\\u0061",
        "ab",
        "a longer key",
    ]);
    let value = scalar
        .prop_map(str::to_owned)
        .prop_recursive(4, 24, 5, move |inner| {
            prop_oneof![
                (prop::collection::vec(inner.clone(), 0..4), space.clone()).prop_map(
                    |(values, space)| format!(
                        "[{space}{}{space}]",
                        values.join(&format!("{space},{space}"))
                    )
                ),
                (
                    prop::collection::vec((key.clone(), inner), 0..5),
                    space.clone()
                )
                    .prop_map(|(members, space)| {
                        let members: Vec<String> = members
                            .iter()
                            .map(|(key, value)| {
                                format!("{space}\"{key}\"{space}:{space}{value}{space}")
                            })
                            .collect();
                        format!("{{{space}{}}}", members.join(","))
                    }),
            ]
        });
    let damage = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (value, damage).prop_map(|(text, damage)| {
        let mut text = text.into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text
    })
}

/// A condition of cheap terms among others.
fn condition() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "payload.a",
        "payload.b",
        "payload.b.a",
        "payload.c.c",
        "payload['d']",
        "clientid",
        "username",
        "topic",
        "qos",
        "retain",
        "payload",
        "node",
    ]);
    let constant = prop::sample::select(vec![
        "1", "0", "-12", "1.5", "30", "'x'", "'30'", "TRUE", "NULL", "'client'", "'t/1'", "2 + 5",
        "1 / 0", "[7]",
    ]);
    let operator = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let term = prop_oneof![
        6 => (field.clone(), operator.clone(), constant.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (constant.clone(), operator.clone(), field.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (field.clone(), operator, field.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (field.clone(), constant.clone(), constant.clone()).prop_map(|(a, b, c)| format!("{a} IN ({b}, {c})")),
        1 => field.clone().prop_map(|a| format!("{a} LIKE '%x%'")),
        1 => field.clone().prop_map(|a| format!("{a} IS NOT NULL")),
        1 => field.clone().prop_map(|a| format!("NOT {a} RLIKE '^[0-9]+$'")),
        1 => field.clone().prop_map(str::to_owned),
        1 => field.clone().prop_map(|a| format!("{a} - 1 > 5")),
        1 => (field.clone(), field).prop_map(|(a, b)| format!("({a} = 1 OR {b} = 'x')")),
    ];
    prop::collection::vec(term, 1..5).prop_map(|terms| terms.join(" AND "))
}

/// Comparisons of few fields with constants that all must hold.
fn comparisons() -> impl Strategy<Value = String> {
    let field = || prop::sample::select(vec!["payload.a", "payload.a", "qos", "retain", "topic"]);
    let constant = || {
        prop::sample::select(vec![
            "0", "1", "2", "1.5", "10", "-1", "''", "'1'", "'1.0'", "'10'", "'a'", "'b'", "'t/1'",
            "'true'", "TRUE", "FALSE",
        ])
    };
    let operator = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let is = prop::sample::select(vec!["NULL", "NOT NULL", "TRUE", "NOT TRUE", "FALSE"]);
    let not = || prop::sample::select(vec!["", "NOT "]);
    let term = prop_oneof![
        6 => (field(), operator, constant()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (field(), not(), constant(), constant()).prop_map(|(a, not, b, c)| format!("{a} {not}IN ({b}, {c})")),
        1 => (field(), not(), constant(), constant()).prop_map(|(a, not, b, c)| format!("{a} {not}BETWEEN {b} AND {c}")),
        1 => (field(), is).prop_map(|(a, is)| format!("{a} IS {is}")),
    ];
    prop::collection::vec(term, 1..5).prop_map(|terms| terms.join(" AND "))
}

/// Arithmetic of numbers, once as it is and once with each number read from the payload.
fn arithmetic() -> impl Strategy<Value = (String, String)> {
    let number = prop::sample::select(vec![
        ("1", "n1"),
        ("0", "n0"),
        ("2.5", "f"),
        ("'7'", "s"),
        ("TRUE", "t"),
    ]);
    let leaf = number.prop_map(|(literal, key)| (literal.to_owned(), format!("payload.{key}")));
    leaf.prop_recursive(4, 16, 2, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "DIV", "MOD", "||", "<", "="]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| (
                format!("({} {op} {})", a.0, b.0),
                format!("({} {op} {})", a.1, b.1)
            )),
            inner.prop_map(|a| (format!("[{}]", a.0), format!("[{}]", a.1))),
        ]
    })
}

/// What an evaluation gave, types and places of errors included.
fn shown(result: Result<Vec<Value>, EvalError>) -> String {
    match result {
        Ok(rows) => format!("{rows:?}"),
        Err(error) => error.to_string(),
    }
}

/// The same, but for the column of a payload's mistake: it is one further where the text that it is in is skipped, so it
/// depends on what other rules read.
fn shown_without_column(result: Result<Vec<Value>, EvalError>) -> String {
    let text = shown(result);
    match text.split_once(" column ") {
        Some((before, after)) if text.starts_with("payload_decode") => {
            format!(
                "{before}{}",
                after.trim_start_matches(|c: char| c.is_ascii_digit())
            )
        }
        _ => text,
    }
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
    fn however_it_is_spelled_the_short_way_gives_what_the_decoder_gives(payload in spelled()) {
        fuzz::payload(&payload);
    }

    #[test]
    fn a_rule_alone_gives_what_it_gives_among_others(
        conditions in prop::collection::vec(condition(), 1..12), payload in spelled(), qos in 0_u8..3,
    ) {
        // What is out of range is an error of all rules that look inside, once one of them reads it.
        prop_assume!(!String::from_utf8_lossy(&payload).contains("1e999"));
        let rules: Vec<_> = conditions
            .iter()
            .map(|condition| format!("SELECT payload.b AS b, qos AS q FROM \"t/#\" WHERE {condition}"))
            .filter_map(|sql| Some(std::sync::Arc::new(compile(&sql, &Catalog::default()).ok()?.0)))
            .collect();
        prop_assume!(!rules.is_empty());
        let mut event = Event::publish("t/1", payload);
        if let What::Publish(publish) = &mut event.what {
            publish.qos = qos;
        }
        let matched = RuleSet::new(rules).matching("t/1").unwrap();
        let together = matched.input(&event);
        for (place, rule) in matched.rules.iter().enumerate() {
            let mut world = World::new();
            let alone = world.evaluate(rule, &Input::new(&event, rule.needs()));
            let among = matched.evaluate(place, &together, "rule", &mut World::new());
            let (among, alone) = (shown_without_column(among), shown_without_column(alone));
            prop_assert_eq!(among, alone, "{}", rule.sql());
        }
    }

    #[test]
    fn a_condition_that_is_said_never_to_hold_never_does(
        condition in comparisons(),
        a in prop::sample::select(vec![
            "0", "1", "2", "1.5", "1.2", "3", "10", "-1", "-7", "\"\"", "\"1\"", "\"1.0\"", "\"01\"", "\"10\"",
            "\"1e1\"", "\"a\"", "\"aa\"", "\"b\"", "\"t/1\"", "\"true\"", "\"~\"", "true", "false", "null", "[1]", "{}",
        ]),
        qos in 0_u8..3, retain in any::<bool>(),
    ) {
        // Of a list, single members are named.
        prop_assume!(!condition.contains("topic IN"));
        let sql = format!("SELECT qos AS q FROM \"t/+\" WHERE {condition}");
        let (rule, warnings) = compile(&sql, &Catalog::default()).expect("the statement is right");
        let never = warnings.iter().find(|warning| warning.code == Code::NeverHolds);
        let mut event = Event::publish("t/1", format!("{{\"a\":{a}}}"));
        if let What::Publish(publish) = &mut event.what {
            publish.qos = qos;
            publish.retain = retain;
        }
        let rows = World::new().evaluate(&rule, &Input::new(&event, rule.needs())).unwrap();
        prop_assert!(rows.is_empty() || never.is_none(), "{}\n{}", sql, never.unwrap().render(&sql, &Origin::default()));
    }

    #[test]
    fn a_constant_gives_what_is_computed_of_its_parts((constant, computed) in arithmetic()) {
        let event = Event::publish("t/1", r#"{"n1":1,"n0":0,"f":2.5,"s":"7","t":true}"#);
        let run = |expr: &str| {
            let sql = format!("SELECT {expr} AS x FROM \"t/#\" WHERE coalesce({expr}, 1) = {expr}");
            let (rule, _) = compile(&sql, &Catalog::default()).ok()?;
            let result = World::new().evaluate(&rule, &Input::new(&event, rule.needs()));
            Some(result.map(|rows| format!("{rows:?}")).map_err(|error| (error.kind, error.message)))
        };
        // One that is sure to fail is refused.
        if let Some(result) = run(&constant) {
            prop_assert_eq!(result, run(&computed).unwrap(), "{}", constant);
        }
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
    let (texts, payloads, templates) = (files("rule_text"), files("payload"), files("template"));
    assert!(!texts.is_empty() && !payloads.is_empty() && !templates.is_empty());
    templates
        .iter()
        .for_each(|template| weir_rules::template::fuzz(template));
    texts
        .iter()
        .for_each(|text| fuzz::rule_text(&String::from_utf8_lossy(text)));
    payloads.iter().for_each(|payload| fuzz::payload(payload));
}

#[test]
fn a_text_full_of_mistakes_is_refused_with_some_of_them() {
    for mistake in ["，", "‘", "5 ", "12abc ", "a, # ", "\u{200b}"] {
        let sql = format!(
            "SELECT {} FROM \"t/#\"",
            mistake.repeat(60_000 / mistake.len())
        );
        let errors = compile(&sql, &Catalog::default()).expect_err("it has mistakes");
        assert!(errors.len() <= 600, "{mistake}: {} findings", errors.len());
    }
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
            format!(
                "SELECT 1 AS a FROM \"t/#\" WHERE {}qos <> 3",
                "qos <> 1 AND ".repeat(4_000)
            ),
            true,
        ),
        (
            format!(
                "SELECT 1 AS a FROM \"t/#\" WHERE {}TRUE",
                "node <> 'a' OR ".repeat(4_000)
            ),
            true,
        ),
        (
            format!(
                "SELECT 1 AS a FROM \"t/#\" WHERE qos IN ({}1) AND qos IN (1)",
                "2, ".repeat(20_000)
            ),
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
