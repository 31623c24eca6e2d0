//! Bodies of the fuzz targets as plain functions, so that property tests run them too.

use std::sync::Arc;

use bytes::Bytes;

use crate::compile::{Catalog, compile};
use crate::diagnostic::Origin;
use crate::env::Nowhere;
use crate::event::Event;
use crate::format::format;
use crate::input::Input;
use crate::json;
use crate::path::{self, PathSet};
use crate::payload;
use crate::rule::Rule;
use crate::ruleset::{Matched, RuleSet};
use crate::value::{Key, Value};

/// What rules find at `paths` is what the decoder gives there.
fn short_way(payload: &Bytes, paths: &[&[&str]]) {
    let mut needs = PathSet::default();
    for path in paths {
        needs.add(path);
    }
    let event = Event::publish("t", payload.clone());
    let input = Input::new(&event, &needs);
    let decoded = payload::decode(payload, &needs);
    for path in paths {
        let keys: Vec<Key> = path.iter().map(|key| Key::from(*key)).collect();
        match (input.at(&keys), &decoded) {
            (Ok(found), Ok(decoded)) => {
                let wanted = path.iter().fold(decoded.clone(), |at, key| {
                    path::member(&at, key).into_owned()
                });
                assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "at {path:?}");
                if let Some(value) = needs.value_at(&keys).and_then(|number| input.value(number)) {
                    assert_eq!(format!("{value:?}"), format!("{wanted:?}"), "{path:?}");
                }
            }
            (Err(found), Err(wanted)) => assert_eq!(found.message(), wanted.message()),
            (found, wanted) => panic!("{path:?} gives {found:?}, not {wanted:?}"),
        }
    }
}

/// So many that an index answers for them, and of every kind that the equality of `=` knows.
macro_rules! members {
    () => {
        "payload.a, payload.c, payload.c, 0, 1, '1', 1.0, '1.0', -1, '-1', '01', '1e0', 2.5, '2.5', 1e300, '1e300', \
         9007199254740993, '9007199254740993', 9.007199254740992e15, 1 = 1, 'true', 1 = 2, 'false', '', ' 1', 'x', \
         '{}', payload.a.b, [1], ['1'], [], NULL, '~p', 7, '3.5', '1e2'"
    };
}

/// Rules of every kind, all on one topic: comparisons, paths, elements, functions, conversions, things that fail.
const RULES: [&str; 11] = [
    "SELECT payload.a.b AS b FROM 't' WHERE payload.a.b > 1",
    "SELECT *, payload.c AS payload.d FROM 't' WHERE payload.c <> 'x' AND payload.a.b IS NOT NULL",
    "SELECT payload FROM 't' WHERE payload.a = payload.c OR NOT payload.x",
    "FOREACH payload.x AS e DO e.a AS a, e, payload.c AS c INCASE e.a < 5 OR is_null(e.a) FROM 't'",
    "SELECT payload[1] AS first, payload.x[-1] AS last, payload.x[2..3] AS some FROM 't'",
    "SELECT json_encode(payload.a) AS a, map_get('b.c', payload.a) AS m, int(payload.c) AS i FROM 't'",
    "SELECT payload.a + payload.c AS sum, -payload.c AS minus, payload.a * 2 AS twice FROM 't'",
    "SELECT str(payload.c) AS s, upper(payload.c) AS u, sprintf('~p ~10s', payload.a, payload.c) AS f FROM 't'",
    "SELECT CASE payload.c WHEN 1 THEN 'one' WHEN '1' THEN 'text' ELSE typeof(payload.c) END AS k FROM 't' \
     WHERE payload.c BETWEEN 0 AND 9 OR payload.c LIKE '%x_' OR payload.c IN (1, 'a', payload.a)",
    "SELECT sprintf(payload.c, payload.a, payload.x) AS f, sprintf_s(payload.c, payload.x) AS l FROM 't'",
    LONG_LISTS,
];

/// Membership by index, and the same one by one.
const LONG_LISTS: &str = concat!(
    "FOREACH [",
    members!(),
    "] AS list, payload.x AS e DO e IN list AS found, e IN (",
    members!(),
    ") AS found_one_by_one, e NOT IN list AS absent, e NOT IN (",
    members!(),
    ") AS absent_one_by_one FROM 't'"
);

/// An index over a long list answers as going through it does.
fn lists(outputs: &[Value]) {
    for output in outputs {
        for (by_index, one_by_one) in [
            ("found", "found_one_by_one"),
            ("absent", "absent_one_by_one"),
        ] {
            let answer = |key: &str| output.get(key).and_then(Value::as_bool);
            assert!(answer(by_index).is_some(), "{output:?}");
            assert_eq!(answer(by_index), answer(one_by_one), "{output:?}");
        }
    }
}

/// What each rule makes of a payload alone is what it makes of it among the others.
fn rules(payload: &Bytes) {
    thread_local! {
        static SET: (Vec<Arc<Rule>>, Arc<Matched<Rule>>) = {
            let rules: Vec<Arc<Rule>> = RULES
                .iter()
                .map(|sql| Arc::new(compile(sql, &Catalog::default()).expect("the rules are right").0))
                .collect();
            let matched = RuleSet::new(rules.clone()).matching("t").expect("all are on this topic");
            (rules, matched)
        };
    }
    SET.with(|(rules, matched)| {
        let event = Event::publish("t", payload.clone());
        let together = matched.input(&event);
        for (place, rule) in rules.iter().enumerate() {
            let input = Input::new(&event, rule.needs());
            let alone = rule.evaluate(&input, "r", &mut Nowhere);
            let among = matched.evaluate(place, &together, "r", &mut Nowhere);
            assert_eq!(
                format!("{alone:?}"),
                format!("{among:?}"),
                "{}",
                RULES[place]
            );
            if let (LONG_LISTS, Ok(outputs)) = (RULES[place], &alone) {
                lists(outputs);
            }
        }
    });
}

/// Any text compiles or is refused with diagnostics that can be rendered; what compiles can be evaluated, and its layout
/// is stable.
pub fn rule_text(sql: &str) {
    let diagnostics = match compile(sql, &Catalog::default()) {
        Ok((rule, warnings)) => {
            let event =
                Event::publish("t/1", r#"{"a":{"b":[1,2.5,null]},"c":"x","d":"{\"e\":1}"}"#);
            let input = Input::new(&event, rule.needs());
            // Errors are results, too.
            let _ = rule.evaluate(&input, "r", &mut Nowhere);
            warnings
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a refusal says why");
            errors
        }
    };
    for diagnostic in diagnostics {
        assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.end <= sql.len());
        diagnostic.render(sql, &Origin::default());
    }
    if let Ok(formatted) = format(sql) {
        assert_eq!(format(&formatted).as_ref(), Ok(&formatted));
    }
}

/// A partial decode gives what a full decode and a look-up give, and the short way what the long way gives.
pub fn payload(bytes: &[u8]) {
    let shared = Bytes::copy_from_slice(bytes);
    rules(&shared);
    short_way(&shared, &[&["a", "b"], &["c"]]);
    short_way(&shared, &[&["a"], &["b", "a"], &["b", "c"]]);
    short_way(&shared, &[&[]]);
    let full = payload::decode(&shared, &PathSet::everything());
    let mut needs = PathSet::default();
    needs.add(&["a", "b"]);
    needs.add(&["c"]);
    let partial = payload::decode(&shared, &needs);
    if let (Ok(full), Ok(partial)) = (&full, &partial) {
        for keys in [&["a", "b"][..], &["c"]] {
            let look = |value: &Value| {
                keys.iter()
                    .fold(value.clone(), |at, key| path::member(&at, key).into_owned())
            };
            assert!(look(full).strict_equals(&look(partial)));
        }
        let text = json::to_text(full).expect("what was decoded can be encoded");
        let again = json::decode(text.as_bytes()).expect("what was encoded can be decoded");
        assert!(again.strict_equals(full));
    }
    assert_eq!(full.is_err(), partial.is_err());
}
