use super::*;
use crate::SinkConfig;
use crate::config::connector::ConnectorConfig;
use serde_json::json;
use weir_rules::json as json_text;

fn rendered(
    sink: &str,
    connector: Option<&str>,
    row: &str,
) -> Result<serde_json::Value, RenderError> {
    let connector: Option<ConnectorConfig> = connector.map(|text| toml::from_str(text).unwrap());
    let config: SinkConfig = toml::from_str(sink).unwrap();
    let (plan, _) = config.check(connector.as_ref()).unwrap();
    let row = json_text::decode(row.as_bytes()).unwrap();
    render(&plan, &row, 1_700_000_000_000).map(|rendered| rendered.to_json())
}

const ROW: &str = r#"{"device":"a/1 \"x\"","temp":31.5,"id":"m1","list":[1,2]}"#;
const MQTT: &str = "type = \"mqtt\"\naddresses = [\"mqtt://h\"]\nclient_id = \"weir\"";

#[test]
fn a_webhook_is_a_request_with_encoded_places() {
    let sink = r#"
        type = "http"
        url = "https://hooks.example.net/alert/${device}"
        headers = { x-trace = "${id}" }
        auth = { kind = "bearer", token = "hush" }
        body = '{"text": "hot", "device": ${device}, "quoted": "is ${device}", "temp": ${temp}}'
    "#;
    assert_eq!(
        rendered(sink, None, ROW).unwrap(),
        json!({
            "method": "POST",
            "url": "https://hooks.example.net/alert/a%2F1%20%22x%22",
            "headers": {"x-trace": "m1", "content-type": "application/json"},
            "body": {"text": "hot", "device": "a/1 \"x\"", "quoted": "is a/1 \"x\"", "temp": 31.5},
        })
    );
}

#[test]
fn a_body_without_a_template_is_the_whole_row() {
    let request = rendered("type = \"http\"\nurl = \"http://h\"", None, ROW).unwrap();
    assert_eq!(
        request["body"],
        serde_json::from_str::<serde_json::Value>(ROW).unwrap()
    );
}

#[test]
fn a_header_cannot_be_split_by_a_row() {
    let sink = "type = \"http\"\nurl = \"http://h\"\nheaders = { x = \"${id}\" }";
    let error = rendered(sink, None, r#"{"id":"a\r\nevil: 1"}"#).unwrap_err();
    assert_eq!(error.code, "E3104");
}

#[test]
fn a_table_row_is_a_statement_with_binds() {
    let sink = r#"
        type = "sqlite"
        path = "x.db"
        table = "readings"
        columns = { device = "device", second = "list[2]", gone = "nope" }
        on_conflict = { keys = ["device"], do = "update" }
    "#;
    assert_eq!(
        rendered(sink, None, ROW).unwrap(),
        json!({
            "sql": "INSERT INTO \"readings\" (\"device\", \"gone\", \"second\") VALUES (?1, ?2, ?3) \
                    ON CONFLICT (\"device\") DO UPDATE SET \"gone\" = EXCLUDED.\"gone\", \"second\" = EXCLUDED.\"second\"",
            "binds": ["a/1 \"x\"", null, 2],
        })
    );
}

#[test]
fn an_own_statement_binds_what_it_names() {
    let sink = "type = \"postgres\"\nurl = \"postgres://h/d\"\nsql = \"INSERT INTO t VALUES (:device, :temp::float8, :nope);\"";
    assert_eq!(
        rendered(sink, None, ROW).unwrap(),
        json!({"sql": "INSERT INTO t VALUES ($1, $2::float8, $3)", "binds": ["a/1 \"x\"", 31.5, null]})
    );
}

#[test]
fn a_message_has_topic_and_payload() {
    let sink = "connector = \"c\"\ntopic = \"up/${id}\"\nqos = 1\nretain = true";
    assert_eq!(
        rendered(sink, Some(MQTT), r#"{"id":"m1"}"#).unwrap(),
        json!({"topic": "up/m1", "qos": 1, "retain": true, "payload": {"id": "m1"}})
    );
}

#[test]
fn a_topic_that_is_none_and_a_missing_field_refuse_the_row() {
    let sink = "type = \"republish\"\ntopic = \"alerts/${device}\"";
    assert_eq!(
        rendered(sink, None, r#"{"device":"a/+"}"#)
            .unwrap_err()
            .code,
        "E3102"
    );
    let error = rendered(sink, None, r#"{"temp":1}"#).unwrap_err();
    assert_eq!(error.code, "E3101");
    assert!(error.message.contains("device"), "{}", error.message);
    let sink = "type = \"republish\"\ntopic = \"alerts/${device}\"\nundefined = \"text\"";
    assert_eq!(
        rendered(sink, None, "{}").unwrap()["topic"],
        "alerts/undefined"
    );
}

#[test]
fn a_cloud_topic_that_a_row_turns_foreign_is_refused() {
    let aliyun = "type = \"mqtt\"\npreset = \"aliyun_iot\"\nproduct_key = \"pk\"\ndevice_name = \"gw\"\ndevice_secret = \"s\"\nregion = \"cn-shanghai\"";
    let sink = "connector = \"c\"\ntopic = \"/sys/pk/${device}/up\"";
    assert_eq!(
        rendered(sink, Some(aliyun), r#"{"device":"gw"}"#).unwrap()["topic"],
        "/sys/pk/gw/up"
    );
    assert_eq!(
        rendered(sink, Some(aliyun), r#"{"device":"other"}"#)
            .unwrap_err()
            .code,
        "E4104"
    );
}

#[test]
fn console_and_files_are_lines() {
    assert_eq!(
        rendered("type = \"console\"", None, r#"{"a":"x\ny"}"#).unwrap(),
        json!({"line": r#"{"a":"x\ny"}"#})
    );
    let sink = "type = \"file\"\npath = \"hot-${date:%Y-%m-%d}.csv\"\nformat = \"csv\"\ncolumns = [\"device\", \"temp\", \"nope\"]";
    assert_eq!(
        rendered(sink, None, ROW).unwrap(),
        json!({"path": "hot-2023-11-14.csv", "line": "\"a/1 \"\"x\"\"\",31.5,"})
    );
}
