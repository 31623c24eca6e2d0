//! What scripts can do, and that what they must not do ends as a `udf` fault, promptly.

use super::*;
use crate::json;

/// With time enough for a debug build on a busy machine, so that the other limits are what ends a script.
fn load(source: &str) -> Scripts {
    let limits = ScriptLimits {
        time: Duration::from_secs(2),
        ..ScriptLimits::default()
    };
    let (scripts, errors) = Scripts::load_each([("u", source)], limits);
    assert_eq!(errors, []);
    scripts
}

fn refusal(source: &str) -> ScriptError {
    Scripts::load([("u", source)]).unwrap_err().remove(0)
}

fn call(source: &str, args: &[Value]) -> Result<Value, Fault> {
    load(source).call("u", "f", args)
}

fn json_of(value: &Value) -> String {
    let mut out = Vec::new();
    json::encode(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The message of a call that must fail, within a time that no runaway script keeps.
fn failure(source: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let (began, clock) = (Instant::now(), Instant::now);
    let fault = call(source, &[]).unwrap_err();
    assert!(
        clock().duration_since(began) < Duration::from_secs(10),
        "a runaway script must end promptly"
    );
    assert_eq!(fault.kind(), ErrorKind::Udf);
    fault.message().to_owned()
}

#[test]
fn values_go_in_and_come_back() {
    let args =
        json::decode(br#"{"i":7,"f":1.5,"b":true,"s":"\u00e9","a":[1,[2]],"o":{"k":1},"n":null}"#)
            .unwrap();
    let back = call("fn f(x) { x }", &[args]).unwrap();
    assert_eq!(
        json_of(&back),
        r#"{"a":[1,[2]],"b":true,"f":1.5,"i":7,"o":{"k":1},"s":"é"}"#
    );
    let binary = Value::Text(vec![0xff, 0].into());
    assert!(
        call("fn f(x) { x }", std::slice::from_ref(&binary))
            .unwrap()
            .strict_equals(&binary)
    );
    for nothing in [Value::Null, Value::Undefined] {
        assert!(matches!(
            call("fn f(x) { if x == () { () } else { 1 } }", &[nothing]),
            Ok(Value::Undefined)
        ));
    }
}

#[test]
fn forms_are_known_by_arity_and_private_functions_are_not() {
    let scripts = load("fn f(a, b) { a + b } fn f(a) { a } private fn g() { 1 } fn _h2() { g() }");
    assert_eq!(scripts.forms("u", "f"), Some(&[1, 2][..]));
    assert_eq!(scripts.forms("u", "_h2"), Some(&[0][..]));
    assert_eq!(scripts.forms("u", "g"), None);
    assert_eq!(scripts.forms("v", "f"), None);
    assert_eq!(
        scripts
            .call("u", "f", &[2.into(), 3.into()])
            .unwrap()
            .as_int(),
        Some(5)
    );
}

#[test]
fn closures_switches_and_methods_work() {
    let source = "fn f(a) { let by = 2; let b = a.map(|x| x * by).filter(|x| x > 2); switch b.len() { 2 => b[1].twice(), _ => 0 } }
        fn twice() { this * 2 }";
    let scripts = load(source);
    let args = json::decode(b"[1,2,3]").unwrap();
    assert_eq!(scripts.call("u", "f", &[args]).unwrap().as_int(), Some(12));
    let mut names: Vec<&str> = scripts.functions("u").collect();
    names.sort_unstable();
    assert_eq!(names, ["f", "twice"]);
}

#[test]
fn constants_are_seen_by_plain_and_by_global_name() {
    let source =
        "const K = 20 + 1; const T = [1, 2]; fn f() { g() + global::K + K + T[1] } fn g() { K }";
    assert_eq!(call(source, &[]).unwrap().as_int(), Some(65));
}

#[test]
fn pure_sql_functions_are_offered() {
    assert_eq!(
        call(
            "fn f(s) { sql::upper(s) + sql::sha256('x').len() }",
            &["a".into()]
        )
        .unwrap()
        .as_str(),
        Some("A64")
    );
    assert_eq!(
        call("fn f() { sql::concat(1, true, \"x\") }", &[])
            .unwrap()
            .as_str(),
        Some("1truex")
    );
    assert_eq!(
        call("fn f() { sql::coalesce((), 5) }", &[])
            .unwrap()
            .as_int(),
        Some(5)
    );
    assert!(failure("fn f() { sql::now_timestamp() }").contains("now_timestamp"));
    assert!(failure("fn f() { sql::kv_store_get(1) }").contains("kv_store_get"));
    assert!(failure("fn f() { sql::uuid_v4() }").contains("uuid_v4"));
    assert_eq!(
        failure("fn f() {\n sql::abs(\"x\") }"),
        "u.rhai:2: sql::abs: argument 1 must be a number, not a string"
    );
}

#[test]
fn nothing_is_kept_between_calls() {
    let scripts = load("const C = [0]; fn f() { let c = C; c[0] += 1; c[0] }");
    for _ in 0..3 {
        assert_eq!(scripts.call("u", "f", &[]).unwrap().as_int(), Some(1));
    }
}

#[test]
fn a_thrown_error_carries_the_line_it_was_thrown_on() {
    assert_eq!(
        failure("fn f() {\n  g()\n}\nfn g() {\n  throw \"too hot\";\n}"),
        "u.rhai:5: too hot"
    );
    assert!(failure("fn f() {\n\n  1 / 0 }").starts_with("u.rhai:3: "));
    assert!(failure("fn f() { nothing }").contains("nothing"));
}

#[test]
fn an_endless_loop_ends() {
    assert_eq!(
        failure("\nfn f() { loop { } }"),
        "u.rhai:2: took more than 100000 operations"
    );
    assert_eq!(
        failure("fn f() { let x = 0; while true { x += 1 } }"),
        "u.rhai:1: took more than 100000 operations"
    );
}

#[test]
fn wall_time_is_limited_where_operations_are_not() {
    let limits = ScriptLimits {
        operations: 0,
        ..ScriptLimits::default()
    };
    let (scripts, errors) = Scripts::load_each([("u", "fn f() { loop { } }")], limits);
    assert_eq!(errors, []);
    assert_eq!(
        scripts.call("u", "f", &[]).unwrap_err().message(),
        "u.rhai:1: took longer than 10 ms"
    );
}

#[test]
fn deep_recursion_ends() {
    assert!(failure("fn f() { f() }").contains("64 calls"));
    assert!(failure("fn f() { g() } fn g() { 1 + (2 * (3 + f())) }").contains("64 calls"));
    // The deepest expression inside the deepest recursion fits the stack, and a deeper one does not load.
    for (open, close, deepest) in [
        ("1+(", ")", 30),
        ("[", "]", 20),
        ("if true {", "}", 20),
        ("#{a:", "}", 20),
    ] {
        let nested = |depth| {
            format!(
                "fn f() {{ {}f(){} }}",
                open.repeat(depth),
                close.repeat(depth)
            )
        };
        let message = failure(&nested(deepest));
        assert!(message.contains("64 calls"), "{message}");
        assert!(refusal(&nested(64)).message.contains("complexity"));
    }
}

#[test]
fn memory_eaters_end() {
    for source in [
        "fn f() { let s = \"x\"; loop { s += s; } }",
        "fn f() { let s = \"\"; s.pad(10000000, 'x'); s }",
        "fn f() { let a = []; loop { a.push(\"x\"); } }",
        "fn f() { let a = [1]; loop { a += a; } }",
        "fn f() { let a = []; a.pad(1000000000, 1); a }",
        "fn f() { let m = #{}; let i = 0; loop { m[`k${i}`] = i; i += 1; } }",
        "fn f() { let a = [1]; loop { a = [a, a]; } }",
        "fn f() { let b = blob(1000000000, 1); b }",
        "fn f() { sql::repeat(\"x\", 1000000000) }",
        "fn f() { let a = []; for i in 0..1000000 { a = [a]; } a }",
    ] {
        let message = failure(source);
        assert!(!message.is_empty(), "{source}");
    }
}

#[test]
fn huge_arguments_and_results_are_refused() {
    let long = Value::from("x".repeat(64 * 1024 + 1));
    let fault = call("fn f(x) { 1 }", &[long]).unwrap_err();
    assert_eq!(
        fault.message(),
        "argument 1 of u.f is longer than the 65536 bytes that a script may hold"
    );
    let elements = |count: i64| -> Value { (0..count).map(Value::Int).collect() };
    assert!(call("fn f(x) { x.len() }", &[elements(10_000)]).is_ok());
    let fault = call("fn f(x) { 1 }", &[elements(10_001)]).unwrap_err();
    assert!(fault.message().contains("10000 elements"));
    let nested = "fn f() { let a = 1; for i in 0..200 { a = [a]; } a }";
    assert!(failure(nested).contains("nest deeper"));
}

#[test]
fn what_is_no_value_cannot_be_returned() {
    assert!(failure("fn f() { Fn(\"g\") }").contains("Fn"));
    assert!(failure("fn f() { 0..5 }").contains("SQL does not have"));
    assert!(failure("fn f() { 1.0e308 * 10.0 }").contains("not finite"));
}

#[test]
fn scripts_cannot_reach_out() {
    for source in [
        "fn f() { eval(\"1\") }",
        "fn f() { import \"x\" as y; 1 }",
        "import \"x\" as y; fn f() { 1 }",
        "fn f() { print(1) }",
        "fn f() { debug(1) }",
    ] {
        assert!(refusal(source).line == 1, "{source}");
    }
    for source in [
        "fn f() { timestamp() }",
        "fn f() { sleep(1) }",
        "fn f() { exit(1) }",
        "fn f() { rand() }",
        "fn f() { let e = Fn(\"ev\" + \"al\"); e.call(\"1 + 1\") }",
    ] {
        let message = failure(source);
        assert!(message.starts_with("u.rhai:1: "), "{source}: {message}");
    }
}

#[test]
fn code_outside_of_functions_is_refused_with_its_place() {
    let error = refusal("fn f() { 1 }\nlet x = 1;");
    assert_eq!((error.line, error.column), (2, 1));
    assert_eq!(
        error.to_string(),
        "u.rhai:2:1: only functions and constants may stand outside of functions"
    );
}

#[test]
fn a_bad_file_is_reported_alone() {
    let files = [
        ("good", "fn f() { 1 }"),
        ("bad", "fn f() {\n  1 +\n}"),
        ("upper", "fn f() { 1 }"),
        ("No", "fn f() { 1 }"),
    ];
    let (scripts, errors) = Scripts::load_each(files, ScriptLimits::default());
    assert_eq!(scripts.call("good", "f", &[]).unwrap().as_int(), Some(1));
    assert_eq!(scripts.forms("bad", "f"), None);
    let named: Vec<_> = errors
        .iter()
        .map(|error| (error.namespace.as_str(), error.line))
        .collect();
    assert_eq!(named, [("bad", 3), ("upper", 0), ("No", 0)]);
    assert!(
        refusal("fn Upper() { 1 }")
            .message
            .contains("`Upper` must be lower case")
    );
}

#[test]
fn a_name_that_needs_its_case_is_refused_with_its_line() {
    assert_eq!(
        Scripts::load([("upper", "")]).unwrap_err()[0].to_string(),
        "upper.rhai: `upper` is a built-in function"
    );
    let error = refusal("fn f() { 1 }\nfn toF(c) { c }");
    assert_eq!(
        error.to_string(),
        "u.rhai:2: the function name `toF` must be lower case: letters, digits and `_`; make it `private` or rename it"
    );
}
