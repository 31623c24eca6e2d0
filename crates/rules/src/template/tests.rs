//! What rows become in each kind of template.

use proptest::prelude::*;

use super::*;

const ROW: &str = r#"{"a":{"b":[1,2.5,"x"]},"name":"Bär \"1\"","t":31.0,"n":null,"ok":true,"x y":1,
    "payload":"{\"temp\":20,\"inner\":\"{\\\"deep\\\":1}\"}","path":"a/b c","list":[1,2]}"#;

fn row() -> Value {
    json::decode(ROW.as_bytes()).unwrap()
}

fn render_as(
    text: &str,
    kind: TemplateKind,
    undefined: UndefinedPolicy,
) -> Result<String, RenderError> {
    Template::parse(text, kind)
        .0
        .render_text(&row(), undefined, 1_753_452_000_123)
}

fn text(template: &str) -> String {
    render_as(template, TemplateKind::Text, UndefinedPolicy::Text).unwrap()
}

#[test]
fn places_are_filled_with_the_text_of_their_value() {
    assert_eq!(
        text("t=${t} ok=${ok} n=${n} s=${name}"),
        r#"t=31.0 ok=true n=null s=Bär "1""#
    );
    assert_eq!(
        text("${a.b} ${.a.b[1]} ${a.b[-1]} ${a.b[9]} ${a.b[0]}"),
        r#"[1,2.5,"x"] 1 x undefined undefined"#
    );
    assert_eq!(
        text("${'x y'} ${.'x y'} ${list[2]} ${a['b'][2]}"),
        "1 1 2 2.5"
    );
}

#[test]
fn the_whole_row_is_json_and_a_dollar_can_be_written() {
    let whole = text("${.}");
    assert!(
        whole.starts_with(r#"{"a":{"b":[1,2.5,"x"]},"name":"Bär \"1\"","t":31.0,"#),
        "{whole}"
    );
    assert_eq!(text("${}"), whole);
    assert_eq!(text("${$}{t} $ ${$}${t}"), "${t} $ $31.0");
}

#[test]
fn text_on_the_way_is_decoded_once() {
    assert_eq!(text("${payload.temp}"), "20");
    assert_eq!(text("${payload.inner}"), r#"{"deep":1}"#);
    assert_eq!(text("${payload.inner.deep}"), "undefined");
    assert_eq!(text("${name.x}"), "undefined");
    assert_eq!(text("${t.x} ${n.x}"), "undefined undefined");
}

#[test]
fn a_place_that_is_not_well_formed_stays_and_is_warned_about() {
    for odd in [
        "${a b}",
        "${a..b}",
        "${a.}",
        "${a[x]}",
        "${a[]}",
        "${'a}",
        "${a",
        "${",
        "${a-b}",
        "${date:%q}",
        "${a[1}",
    ] {
        let (template, warnings) = Template::parse(&format!("x{odd}y"), TemplateKind::Text);
        assert_eq!(warnings.len(), 1, "{odd}");
        assert_eq!(warnings[0].offset, 1, "{odd}");
        assert_eq!(
            template
                .render_text(&row(), UndefinedPolicy::Fail, 0)
                .unwrap(),
            format!("x{odd}y")
        );
    }
    assert_eq!(text("${a b ${t}"), "${a b 31.0");
}

#[test]
fn a_missing_field_fails_is_empty_or_is_its_name_for_nothing() {
    let error = render_as("x ${gone.b[2]}", TemplateKind::Text, UndefinedPolicy::Fail).unwrap_err();
    assert_eq!(
        (error.code, error.field.as_deref()),
        ("E3101", Some("gone.b[2]"))
    );
    assert_eq!(error.to_string(), "the row has no field `gone.b[2]`");
    assert_eq!(
        render_as("x${gone}", TemplateKind::Text, UndefinedPolicy::Empty).unwrap(),
        "x"
    );
    assert_eq!(
        render_as("x${gone}", TemplateKind::Text, UndefinedPolicy::Text).unwrap(),
        "xundefined"
    );
    assert_eq!(
        render_as("x${n}", TemplateKind::Text, UndefinedPolicy::Fail).unwrap(),
        "xnull"
    );
}

#[test]
fn json_places_are_encoded_outside_and_escaped_inside_quotes() {
    let json = |template| render_as(template, TemplateKind::Json, UndefinedPolicy::Empty).unwrap();
    assert_eq!(
        json(r#"{"n":${name},"t":${t}}"#),
        r#"{"n":"Bär \"1\"","t":31.0}"#
    );
    assert_eq!(json(r#"{"m":"hi ${name}!"}"#), r#"{"m":"hi Bär \"1\"!"}"#);
    assert_eq!(
        json(r#"{"m":"\"${t}\"","k":${a.b}}"#),
        r#"{"m":"\"31.0\"","k":[1,2.5,"x"]}"#
    );
    assert_eq!(
        json(r#"{"${path}":${gone},"x":"${gone}"}"#),
        r#"{"a/b c":null,"x":""}"#
    );
    assert_eq!(json(r#"["${a.b}"]"#), r#"["[1,2.5,\"x\"]"]"#);
}

#[test]
fn text_that_is_not_utf8_cannot_be_json() {
    let mut object = crate::value::Object::default();
    object.insert("b".into(), Value::Text(vec![0xff].into()));
    let row = Value::from(object);
    for template in [r#"{"b":${b}}"#, r#"{"b":"${b}"}"#] {
        let error = Template::parse(template, TemplateKind::Json)
            .0
            .render(&row, UndefinedPolicy::Fail, 0)
            .unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), ("E3103", Some("b")));
    }
    let raw = Template::parse("${b}", TemplateKind::Text).0;
    assert_eq!(raw.render(&row, UndefinedPolicy::Fail, 0).unwrap(), [0xff]);
    assert_eq!(
        raw.render_text(&row, UndefinedPolicy::Fail, 0)
            .unwrap_err()
            .code,
        "E3103"
    );
}

#[test]
fn url_places_cannot_add_parts() {
    let url = render_as(
        "http://h/${path}?q=${name}&r=a+b",
        TemplateKind::Url,
        UndefinedPolicy::Fail,
    )
    .unwrap();
    assert_eq!(url, "http://h/a%2Fb%20c?q=B%C3%A4r%20%221%22&r=a+b");
}

#[test]
fn a_topic_without_a_name_or_with_wildcards_is_refused() {
    let mut object = crate::value::Object::default();
    for (key, value) in [
        ("plus", "a+"),
        ("hash", "#"),
        ("nul", "a\0b"),
        ("empty", ""),
        ("fine", "a/b"),
    ] {
        object.insert(key.into(), value.into());
    }
    let row = Value::from(object);
    let topic = |text| {
        Template::parse(text, TemplateKind::Topic)
            .0
            .render_text(&row, UndefinedPolicy::Fail, 0)
    };
    assert_eq!(topic("out/${fine}").unwrap(), "out/a/b");
    for refused in ["o/${plus}", "o/${hash}", "o/${nul}", "${empty}", "", "a/+"] {
        assert_eq!(topic(refused).unwrap_err().code, "E3102", "{refused}");
    }
}

#[test]
fn dates_are_utc_and_come_from_the_callers_clock() {
    assert_eq!(text("log-${date:%Y-%m-%d}.ndjson"), "log-2025-07-25.ndjson");
    assert_eq!(text("${date:%H:%M:%S.%3N%:z}"), "14:00:00.123+00:00");
    assert_eq!(text("${date}"), "undefined");
}

#[test]
fn sql_renders_as_statement_and_binds() {
    let shown = render_as(
        "INSERT INTO t VALUES (:t, ${a.b}, :gone)",
        TemplateKind::Sql,
        UndefinedPolicy::Empty,
    );
    assert_eq!(
        shown.unwrap(),
        r#"{"sql":"INSERT INTO t VALUES ($1, $2, $3)","binds":[31.0,[1,2.5,"x"],null]}"#
    );
}

#[test]
fn fields_are_the_first_keys_of_the_places() {
    let fields = |text, kind| {
        Template::parse(text, kind)
            .0
            .fields()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        fields("${a.b} ${.} ${$} ${date:%Y} ${'x y'.z}", TemplateKind::Text),
        ["a", "x y"]
    );
    assert_eq!(fields("VALUES (:a, ${b.c})", TemplateKind::Sql), ["a", "b"]);
}

proptest! {
    #[test]
    fn any_bytes_are_a_template_of_some_kind(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&data);
    }

    #[test]
    fn any_near_template_is_read_without_panic(
        choice in any::<u8>(),
        parts in proptest::collection::vec(
            prop_oneof!["[${}.a-c'\\[\\]0-9:\" -]{0,6}", Just("${a.b[2]}".to_owned()), Just("$$".to_owned()), Just("${date:".to_owned())],
            0..12,
        ),
    ) {
        let mut data = vec![choice];
        data.extend(parts.concat().bytes());
        fuzz(&data);
    }

    #[test]
    fn no_value_breaks_out_of_a_json_template(value in ".*") {
        let mut object = crate::value::Object::default();
        object.insert("v".into(), value.as_str().into());
        let row = Value::from(object);
        let rendered = Template::parse(r#"{"in":"${v}","out":${v}}"#, TemplateKind::Json).0
            .render(&row, UndefinedPolicy::Fail, 0).unwrap();
        let back: serde_json::Value = serde_json::from_slice(&rendered).unwrap();
        prop_assert_eq!(back["in"].as_str(), Some(value.as_str()));
        prop_assert_eq!(back["out"].as_str(), Some(value.as_str()));
    }
}
