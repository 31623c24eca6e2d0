use super::*;
use crate::WhenFull;

fn check(text: &str) -> Result<(SinkPlan, Vec<ConfigError>), Vec<ConfigError>> {
    check_with(text, None)
}

fn check_with(
    text: &str,
    connector: Option<&str>,
) -> Result<(SinkPlan, Vec<ConfigError>), Vec<ConfigError>> {
    let connector: Option<ConnectorConfig> = connector.map(|text| toml::from_str(text).unwrap());
    toml::from_str::<SinkConfig>(text)
        .unwrap()
        .check(connector.as_ref())
}

fn errors(text: &str) -> Vec<(&'static str, String)> {
    check(text)
        .unwrap_err()
        .into_iter()
        .map(|error| (error.code, error.key))
        .collect()
}

const ALIYUN: &str = r#"
type = "mqtt"
preset = "aliyun_iot"
product_key = "a1Example"
device_name = "gw-01"
device_secret = "s3cret"
region = "cn-shanghai"
"#;

#[test]
fn an_unknown_key_is_an_error_that_lists_the_known_ones() {
    let error = toml::from_str::<SinkConfig>("type = \"http\"\nurll = \"x\"")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("unknown field `urll`") && error.contains("`url`"),
        "{error}"
    );
    let error = toml::from_str::<ConnectorConfig>("type = \"http\"\nurll = \"x\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("urll"), "{error}");
}

#[test]
fn a_number_without_a_unit_is_an_error_that_says_so() {
    let error = toml::from_str::<SinkConfig>("type = \"http\"\ntimeout = 5")
        .unwrap_err()
        .to_string();
    assert!(error.contains("no unit"), "{error}");
    let error = toml::from_str::<SinkConfig>("type = \"http\"\nbatch = { max_bytes = \"5\" }")
        .unwrap_err()
        .to_string();
    assert!(error.contains("no unit"), "{error}");
}

#[test]
fn a_sink_has_a_type_or_a_connector() {
    assert_eq!(errors("id = \"x\""), [("E3001", "type".into())]);
    assert_eq!(
        errors("type = \"http\"\nconnector = \"c\""),
        [("E3001", "type".into())]
    );
    assert_eq!(
        errors("connector = \"nope\""),
        [("E3005", "connector".into())]
    );
    assert_eq!(
        errors("type = \"mqtt\"\ntopic = \"t\""),
        [("E3003", "connector".into())]
    );
}

#[test]
fn keys_of_another_type_are_named_all_at_once() {
    let found = errors("type = \"console\"\nurl = \"http://x\"\ntable = \"t\"\nqos = 1");
    let keys: Vec<_> = found.iter().map(|(_, key)| key.as_str()).collect();
    assert_eq!(keys, ["table", "url", "qos"]);
    assert!(found.iter().all(|(code, _)| *code == "E3002"));
}

#[test]
fn what_a_type_needs_is_asked_for() {
    assert_eq!(errors("type = \"http\""), [("E3003", "url".into())]);
    assert_eq!(errors("type = \"republish\""), [("E3003", "topic".into())]);
    assert_eq!(errors("type = \"file\""), [("E3003", "path".into())]);
    assert_eq!(
        errors("type = \"sqlite\"\npath = \"x.db\""),
        [("E3003", "table".into())]
    );
    assert_eq!(
        errors("type = \"sqlite\"\ntable = \"t\""),
        [("E3003", "path".into())]
    );
}

#[test]
fn values_out_of_range_are_refused() {
    assert_eq!(
        errors("type = \"republish\"\ntopic = \"t\"\nqos = 3"),
        [("E3004", "qos".into())]
    );
    assert_eq!(
        errors("type = \"file\"\npath = \"../x\""),
        [("E3602", "path".into())]
    );
    assert_eq!(
        errors("type = \"console\"\nbatch = { max_rows = 0 }"),
        [("E3004", "batch.max_rows".into())]
    );
    assert_eq!(
        errors("type = \"console\"\nretry = { initial = \"5s\", max = \"1s\" }"),
        [("E3004", "retry.max".into())]
    );
    assert_eq!(
        errors("type = \"http\"\nurl = \"ftp://x\""),
        [("E3004", "url".into())]
    );
    assert_eq!(
        errors("type = \"http\"\nurl = \"http://x\"\nmethod = \"BREW\""),
        [("E3004", "method".into())]
    );
    assert!(toml::from_str::<SinkConfig>("type = \"http\"\nok_status = [\"2xx\"]").is_err());
}

#[test]
fn defaults_are_those_of_the_manual() {
    let (plan, warnings) = check("type = \"sqlite\"\npath = \"x.db\"\ntable = \"t\"").unwrap();
    assert!(warnings.is_empty());
    assert_eq!(
        plan.batch,
        BatchLimits {
            max_rows: 500,
            max_bytes: 1 << 20,
            max_wait: Duration::from_millis(50),
            held_back: None,
        }
    );
    assert_eq!(
        (plan.buffer.kind, plan.buffer.max_bytes),
        (BufferKind::Disk, 1 << 30)
    );
    assert_eq!(plan.buffer.when_full, WhenFull::Block);
    let memory = "type = \"http\"\nurl = \"http://x\"\nbuffer = { kind = \"memory\" }";
    let (plan_in_memory, _) = check(memory).unwrap();
    assert_eq!(plan_in_memory.buffer.max_bytes, 64 << 20);
    let (console, _) = check("type = \"console\"").unwrap();
    assert_eq!(console.buffer.kind, BufferKind::Memory);
    let (_, warnings) = check("type = \"console\"\nbuffer = { kind = \"disk\" }").unwrap();
    assert_eq!(warnings[0].code, "W3001");
    assert_eq!(
        plan.retry.give_up, None,
        "retriable failures never give up by default"
    );
    let (plan, _) = check("type = \"http\"\nurl = \"http://x\"").unwrap();
    assert_eq!(plan.batch.max_rows, 1);
    let Target::Http(http) = plan.target else {
        panic!("an http sink")
    };
    assert_eq!(http.method, "POST");
}

#[test]
fn connector_values_fill_templates_and_secrets_do_not() {
    let sink = |topic: &str| format!("connector = \"c\"\ntopic = \"{topic}\"\nqos = 1");
    let (plan, _) = check_with(
        &sink("/sys/${conn:product_key}/${conn:device_name}/thing/up"),
        Some(ALIYUN),
    )
    .unwrap();
    let rendered = crate::render(&plan, &weir_rules::json::decode(b"{}").unwrap(), 0)
        .unwrap()
        .to_json();
    assert_eq!(rendered["topic"], "/sys/a1Example/gw-01/thing/up");
    let errors = check_with(&sink("/sys/${conn:device_secret}"), Some(ALIYUN)).unwrap_err();
    assert!(
        errors
            .iter()
            .any(|error| error.code == "E3008" && error.message.contains("device_secret"))
    );
    assert_eq!(
        self::errors("type = \"republish\"\ntopic = \"${conn:x}\""),
        [("E3008", "topic".into())]
    );
}

#[test]
fn a_cloud_sink_keeps_to_the_clouds_bounds() {
    let codes = |text: &str| -> Vec<_> {
        let errors = check_with(text, Some(ALIYUN)).unwrap_err();
        errors
            .into_iter()
            .map(|error| (error.code, error.key))
            .collect()
    };
    let own = "/sys/a1Example/gw-01/thing/up";
    assert_eq!(
        codes(&format!("connector = \"c\"\ntopic = \"{own}\"\nqos = 2")),
        [("E4105", "qos".into())]
    );
    assert_eq!(
        codes(&format!(
            "connector = \"c\"\ntopic = \"{own}\"\nretain = true"
        )),
        [("E4105", "retain".into())]
    );
    let errors = check_with(
        "connector = \"c\"\ntopic = \"/sys/other/gw-01/up\"",
        Some(ALIYUN),
    )
    .unwrap_err();
    assert_eq!(errors[0].code, "E4104");
    assert!(errors[0].message.contains("topic_not_owned"));
}

#[test]
fn the_debug_form_of_a_plan_shows_no_secret() {
    let text =
        "type = \"http\"\nurl = \"http://x\"\nauth = { kind = \"bearer\", token = \"t0ps3cret\" }";
    let (plan, _) = check(text).unwrap();
    assert!(!format!("{plan:?}").contains("t0ps3cret"));
    let config: SinkConfig = toml::from_str(text).unwrap();
    assert!(!format!("{config:?}").contains("t0ps3cret"));
    let connector: ConnectorConfig =
        toml::from_str("type = \"postgres\"\nurl = \"postgres://u:t0ps3cret@h/d\"").unwrap();
    assert!(!format!("{connector:?}").contains("t0ps3cret"));
}

#[test]
fn a_connector_that_cannot_work_is_refused_by_itself() {
    let check = |text: &str| toml::from_str::<ConnectorConfig>(text).unwrap().check();
    assert_eq!(
        check("type = \"postgres\"\nurl = \"mysql://h\"").unwrap_err()[0].key,
        "url"
    );
    assert!(
        check("type = \"postgres\"\nurl = \"postgres://u:p@h/d\"")
            .unwrap()
            .is_empty()
    );
    assert!(check("type = \"http\"").unwrap().is_empty());
    assert_eq!(
        check("type = \"http\"\ntls = { insecure = true }").unwrap()[0].code,
        "W3002"
    );
}

#[test]
fn a_connector_of_the_sinks_own_is_checked_like_a_file() {
    assert_eq!(
        errors("type = \"postgres\"\nurl = \"mysql://h/d\"\ntable = \"t\""),
        [("E3004", "url".into())]
    );
    assert_eq!(
        errors("type = \"sqlite\"\npath = \"\"\ntable = \"t\""),
        [("E3003", "path".into())]
    );
}

#[test]
fn the_manuals_sinks_are_understood() {
    let postgres = "type = \"postgres\"\nurl = \"postgres://u@h/d\"\npool = { max = 8, acquire_timeout = \"5s\" }\n\
                    statement_timeout = \"10s\"\nhealth = { every = \"15s\", timeout = \"3s\" }";
    let sinks = [
        (
            Some(postgres),
            r#"id = "history"
            connector = "pg_main"
            table = "iot.readings"
            columns = { device = "device", temp = "temp", at = "at", dew = "dew" }
            on_conflict = { keys = ["device", "at"], do = "update", set = ["temp"] }
            missing = "null"
            create_table = "never"
            batch = { max_rows = 500, max_bytes = "1MiB", max_wait = "50ms" }
            buffer = { kind = "disk", max_bytes = "256MiB", when_full = "drop_oldest" }
            retry = { initial = "200ms", max = "30s", give_up = "10m" }"#,
        ),
        (
            None,
            r#"id = "page"
            type = "http"
            method = "POST"
            url = "https://hooks.example.net/alert/${device}"
            headers = { "content-type" = "application/json", "x-trace" = "${id}" }
            auth = { kind = "bearer", token = "t" }
            body = '{"text": "hot device", "device": ${device}, "temp": ${temp}}'
            batch = { max_rows = 50, max_wait = "200ms", format = "json_array" }
            timeout = "5s"
            ok_status = ["200-299"]"#,
        ),
        (
            Some(ALIYUN),
            r#"id = "cloud"
            connector = "aliyun_gw"
            topic = "/sys/${conn:product_key}/${conn:device_name}/thing/event/property/post"
            qos = 1
            retain = false
            content_type = "application/json"
            payload = '{"id":"${id}","version":"1.0","params":{"temp":${temp}}}'"#,
        ),
        (
            None,
            "type = \"republish\"\ntopic = \"alerts/${device}\"\nretain = true\nqos = 1\nmax_hops = 4",
        ),
        (None, "type = \"console\"\nmax_per_second = 10"),
        (
            None,
            "type = \"file\"\npath = \"hot-${date:%Y-%m-%d}.ndjson\"\nformat = \"ndjson\"\nrotate = { max_bytes = \"100MiB\", keep = 7 }",
        ),
    ];
    for (connector, sink) in sinks {
        let (plan, _) =
            check_with(sink, connector).unwrap_or_else(|errors| panic!("{sink}: {errors:?}"));
        assert!(plan.enabled);
    }
}

#[test]
fn delivery_and_the_id_of_a_row_are_for_databases_and_the_id_has_a_place() {
    let postgres = "type = \"postgres\"\nurl = \"postgres://h/d\"\n";
    let (plan, _) = check(&format!(
        "{postgres}table = \"t\"\ncolumns = {{ n = \"n\" }}\ndelivery = \"at_least_once\"\nmessage_id = \"id\"\n\
         on_conflict = {{ keys = [\"id\"], do = \"ignore\" }}"
    ))
    .unwrap();
    assert_eq!(plan.delivery, crate::config::Delivery::AtLeastOnce);
    assert_eq!(
        plan.places(),
        [weir_rules::template::Place::field("n")],
        "the id is no field of a row"
    );
    let (plan, _) = check(&format!(
        "{postgres}sql = \"INSERT INTO t VALUES (:n, :id)\"\nmessage_id = \"id\""
    ))
    .unwrap();
    assert_eq!(plan.delivery, crate::config::Delivery::ExactlyOnce);
    assert_eq!(plan.places(), [weir_rules::template::Place::field("n")]);
    for (more, key) in [
        (
            "sql = \"INSERT INTO t VALUES (:n)\"\nmessage_id = \"id\"",
            "message_id",
        ),
        ("table = \"t\"\nmessage_id = \"\"", "message_id"),
        (
            "table = \"t\"\ncolumns = { id = \"n\" }\nmessage_id = \"id\"",
            "message_id",
        ),
        // The row's own field would be hidden by the id.
        (
            "table = \"t\"\ncolumns = { device = \"id\" }\nmessage_id = \"id\"",
            "message_id",
        ),
        (
            "table = \"t\"\ncolumns = { device = \"id.name\" }\nmessage_id = \"id\"",
            "message_id",
        ),
    ] {
        assert_eq!(
            errors(&format!("{postgres}{more}")),
            [("E3004", key.to_owned())]
        );
    }
    // Names of columns that differ in case alone are one column in SQLite.
    let other_case = "table = \"t\"\ncolumns = { ID = \"n\" }\nmessage_id = \"id\"";
    let sqlite = format!("type = \"sqlite\"\npath = \"d.db\"\n{other_case}");
    assert_eq!(errors(&sqlite), [("E3004", "message_id".to_owned())]);
    check(&format!("{postgres}{other_case}")).unwrap();
    let http =
        "type = \"http\"\nurl = \"http://h\"\ndelivery = \"at_least_once\"\nmessage_id = \"id\"";
    let both = ["delivery", "message_id"].map(|key| ("E3002", key.to_owned()));
    assert_eq!(errors(http), both);
}
