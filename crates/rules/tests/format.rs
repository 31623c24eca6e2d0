//! The formatter: `tests/golden_format/*.sql` show the layout, properties that the meaning stays.
//!
//! A golden file holds statements as somebody wrote them, each followed by a line of `----` and the statement in the
//! house layout. `UPDATE=1` rewrites the latter.
#![expect(
    clippy::unwrap_used,
    reason = "a golden file that cannot be read is a mistake in it"
)]

#[path = "support/mod.rs"]
mod support;

use proptest::prelude::*;
use support::World;
use weir_rules::{Catalog, Column, Event, Input, Rule, compile, format};

const SEPARATOR: &str = "----\n";

#[test]
#[expect(clippy::disallowed_methods, reason = "only rules may not read files")]
fn every_golden_statement_gets_the_layout_of_its_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_format");
    let update = std::env::var_os("UPDATE").is_some();
    let (mut cases, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut found = Vec::new();
        for before in text.split(SEPARATOR).step_by(2) {
            cases += 1;
            let after = format(before).unwrap_or_else(|errors| panic!("{before}{errors:?}"));
            assert_eq!(format(&after).as_ref(), Ok(&after), "it is not stable");
            found.push(format!("{before}{SEPARATOR}{after}\n"));
        }
        let found = found.join(SEPARATOR);
        if found != text {
            if update {
                std::fs::write(&file, found).unwrap();
            } else {
                wrong.push(format!("{}:\n{found}", file.display()));
            }
        }
    }
    assert!(cases >= 20, "only {cases} cases were found");
    assert!(
        wrong.is_empty(),
        "these differ (UPDATE=1 rewrites them):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_statement_that_cannot_be_parsed_is_refused_with_its_diagnostics() {
    let errors = format("SELECT a, FROM 't' WHERE b = ").unwrap_err();
    let codes: Vec<_> = errors.iter().map(|error| error.code.name()).collect();
    assert_eq!(codes, ["E0002", "E0002"]);
}

#[test]
fn what_exists_does_not_matter() {
    assert_eq!(
        format("select unknown_function(A.B) as C from '$events/x'").unwrap(),
        r#"SELECT unknown_function(A.B) AS C FROM "$events/x""#
    );
}

#[test]
fn a_statement_that_would_outgrow_the_limit_stays_as_it_is() {
    let conditions = vec!["a=1"; 8_000].join(" OR ");
    let sql = format!("SELECT a FROM \"t\" WHERE {conditions}");
    assert!(sql.len() < 64 * 1024);
    assert_eq!(format(&sql).unwrap(), sql);
}

/// The tokens of an expression that is valid wherever one may stand.
fn expression() -> impl Strategy<Value = Vec<String>> {
    let leaf = prop::sample::select(vec![
        "1",
        "2.5",
        ".5",
        "1e3",
        "'it''s'",
        "'-- no comment'",
        "true",
        "NULL",
        "null ( )",
        "payload . a",
        "payload . from",
        "payload . a . 1 . _b",
        "payload . 'x y'",
        "payload [ 1 ]",
        "payload . a [ - 1 ] . b",
        "payload . a [ 1 .. - 1 ]",
        "\"qos\"",
        "`topic`",
        "qos",
        "[ 1 .. 3 ]",
        "[ - 3 .. - 1 ]",
        "[ ]",
        "{ }",
        "Upper ( topic )",
        "climate . dew_point ( 1 , 2 )",
        "TRUE . a",
        "1 .a",
    ]);
    tokens(leaf).prop_recursive(4, 24, 3, |inner| {
        let inner = inner.boxed();
        let filled = move |pattern: &'static str| {
            (inner.clone(), inner.clone(), inner.clone()).prop_map(move |(a, b, c)| {
                pattern
                    .split(' ')
                    .flat_map(|token| match token {
                        "A" => a.clone(),
                        "B" => b.clone(),
                        "C" => c.clone(),
                        token => vec![token.to_owned()],
                    })
                    .collect::<Vec<String>>()
            })
        };
        prop::sample::select(vec![
            "A + B",
            "A - B * C",
            "A || B || C",
            "A / B",
            "A DIV B",
            "A and B",
            "A OR B",
            "( A )",
            "- A",
            "( + A )",
            "( NOT A )",
            "( A = B )",
            "( A == B )",
            "( A != B )",
            "( A >= B )",
            "( A =~ B )",
            "( A is not null )",
            "( A in ( B , C ) )",
            "( A Not In ( B ) )",
            "( A between ( B ) and ( C ) )",
            "( A like '%x' escape '!' )",
            "( A rlike 'x' )",
            "coalesce ( A , B , C )",
            "MOD ( A , B )",
            "climate . F ( A )",
            "cast ( A as float )",
            "case when A then B else C end",
            "CASE A WHEN B THEN C END",
            "CASE WHEN A THEN B WHEN B THEN C END [ 1 ]",
            "[ A , B ]",
            "{ 'k' : A , 'from' : B }",
            "( A ) . b [ C ]",
        ])
        .prop_flat_map(filled)
    })
}

fn tokens(text: impl Strategy<Value = &'static str>) -> impl Strategy<Value = Vec<String>> {
    text.prop_map(|text| {
        let tokens = if text.starts_with('\'') {
            vec![text]
        } else {
            text.split(' ').collect()
        };
        tokens.into_iter().map(str::to_owned).collect()
    })
}

fn statement() -> impl Strategy<Value = Vec<String>> {
    let item = (
        expression(),
        tokens(prop::sample::select(vec![
            "",
            "as a",
            "AS end . left . 1",
            "x",
            "as b [ - 0 ] . from",
            "\"q\"",
        ])),
    )
        .prop_map(|(mut expression, alias)| {
            expression.extend(alias);
            expression
        });
    let items = prop::collection::vec(item, 1..4).prop_map(|items| items.join(&",".to_owned()));
    let sources = tokens(prop::sample::select(vec![
        "\"t/#\"",
        "'t/1'",
        "t , 't/1' , \"t/1\"",
        "'a\"b' , \"t/1\"",
    ]));
    let form = prop::sample::select(vec![
        "select I from S",
        "Select * , I From S Where E",
        "SELECT I FROM S WHERE E ;",
        "foreach I do I incase E from S where E",
        "FOREACH I FROM S ;",
    ]);
    (form, items, sources, expression()).prop_map(|(form, items, sources, condition)| {
        let clause = |token: &str| match token {
            "I" => items.clone(),
            "S" => sources.clone(),
            "E" => condition.clone(),
            token => vec![token.to_owned()],
        };
        form.split(' ')
            .flat_map(clause)
            .filter(|token| !token.is_empty())
            .collect()
    })
}

/// A statement with random white space and numbered comments between its tokens, and how many comments there are.
fn written() -> impl Strategy<Value = (String, usize)> {
    let gap = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        " ",
        " ",
        " ",
        "\n",
        "  ",
        "\r\n\t",
        "/*@*/",
        " /*@*/\n",
        "--@\n",
        "\n-- @\n\n",
    ]);
    (statement(), prop::collection::vec(gap, 1..60)).prop_map(|(tokens, gaps)| {
        let (mut text, mut comments) = (String::new(), 0);
        for (index, token) in tokens.iter().enumerate() {
            let gap = gaps[index % gaps.len()];
            let is_digit = |token: &String| token.starts_with(|c: char| c.is_ascii_digit());
            let gap = match index.checked_sub(1).map(|before| tokens[before].as_str()) {
                // A key that is a keyword stands next to its dot, and one of digits next to what it is a key of.
                Some(".") => "",
                Some(_) if token == "." && tokens.get(index + 1).is_some_and(is_digit) => "",
                Some(before) if gap.is_empty() && must_be_apart(before, token) => " ",
                Some("-" | "/" | "*" | "||") if gap.starts_with(['-', '/']) => " ",
                _ => gap,
            };
            if gap.contains('@') {
                text.push_str(&gap.replace('@', &format!("@{comments}@")));
                comments += 1;
            } else {
                text.push_str(gap);
            }
            text.push_str(token);
        }
        (text, comments)
    })
}

fn must_be_apart(before: &str, token: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_\"`'.".contains(c));
    let sign = |token: &str| token.starts_with(['-', '+', '/', '*', '=', '~', '<', '>', '|', '!']);
    (word(before.chars().last()) && word(token.chars().next()) && token != "." && token != "..")
        || (sign(before) && sign(token))
        || (before.ends_with(|c: char| c.is_ascii_digit()) && token == ".")
}

/// A text without what layout may change.
fn bare(text: &str) -> String {
    let mut bare = text.replace("\r\n", "\n");
    while let Some((before, rest)) = bare.split_once("/*@") {
        bare = format!("{before}{}", rest.split_once("*/").unwrap().1);
    }
    for start in ["--@", "-- @"] {
        while let Some((before, rest)) = bare.split_once(start) {
            bare = format!("{before}{}", rest.split_once('\n').unwrap_or_default().1);
        }
    }
    bare.retain(|c| !c.is_whitespace());
    bare.to_lowercase().replace("==", "=").replace("!=", "<>")
}

fn explained(rule: &Rule) -> String {
    let plan = rule.explain();
    let columns: Vec<String> = plan
        .columns
        .iter()
        .map(|column| match column {
            Column::Fields => "*".to_owned(),
            Column::Value {
                name, kind, text, ..
            } => format!("{name} {kind} {}", bare(text)),
        })
        .collect();
    let bared =
        |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| bare(text)).collect::<Vec<_>>();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {columns:?} {:?}",
        plan.sources,
        plan.decode,
        bared(&mut plan.foreach.iter()),
        bared(&mut plan.conditions.iter().map(|condition| &condition.text)),
        bared(&mut plan.filter.iter()),
        plan.user_functions,
    )
}

fn evaluated(rule: &Rule, payload: &str) -> String {
    let event = Event::publish("t/1", payload.to_owned());
    let result = World::new().evaluate(rule, &Input::new(&event, rule.needs()));
    format!("{:?}", result.map_err(|error| (error.kind, error.message)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(debug_assertions) { 600 } else { 20_000 }) })]

    #[test]
    fn the_layout_is_stable_and_keeps_the_meaning_and_the_comments((sql, comments) in written()) {
        let formatted = match format(&sql) {
            Ok(formatted) => formatted,
            Err(errors) => {
                let limit = errors.iter().all(|error| error.code.name() == "E0110");
                prop_assert!(limit, "{}\n{:?}", sql, errors);
                return Ok(());
            }
        };
        prop_assert_eq!(format(&formatted).unwrap(), formatted.as_str(), "{}", sql);
        let numbers: Vec<&str> = formatted.split('@').skip(1).step_by(2).collect();
        let expected: Vec<String> = (0..comments).map(|number| number.to_string()).collect();
        prop_assert_eq!(numbers, expected, "{}\n{}", sql, formatted);

        let payloads = ["{}", r#"{"a":[1,2,{"b":3}],"from":"x"}"#, r#"{"a":"it's","x y":-1}"#, "7", "no JSON"];
        match (compile(&sql, &Catalog::default()), compile(&formatted, &Catalog::default())) {
            (Ok((before, _)), Ok((after, _))) => {
                prop_assert_eq!(explained(&before), explained(&after), "{}\n{}", sql, formatted);
                for payload in payloads {
                    prop_assert_eq!(evaluated(&before, payload), evaluated(&after, payload), "{}\n{}", sql, formatted);
                }
            }
            (Err(before), Err(after)) => {
                let codes = |findings: &[weir_rules::Diagnostic]| findings
                    .iter()
                    .map(|finding| finding.code.name())
                    .filter(|code| !["W0005", "W0006"].contains(code))
                    .collect::<Vec<_>>();
                prop_assert_eq!(codes(&before), codes(&after), "{}\n{}", sql, formatted);
            }
            (before, after) => prop_assert!(false, "{}\n{:?}\n{}\n{:?}", sql, before.err(), formatted, after.err()),
        }
    }
}
