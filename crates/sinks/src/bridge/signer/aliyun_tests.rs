use super::*;
use crate::bridge::signer::{sign_at, sign_vector};
use proptest::prelude::*;
use serde_json::{Value, json};

fn device() -> Value {
    json!({"product_key": "p", "device_name": "d", "device_secret": "hunter2-secret"})
}

#[test]
fn what_cannot_be_signed_is_an_error_that_names_the_input() {
    let error = |inputs: Value| sign_vector("aliyun_iot", &inputs).unwrap_err().to_string();
    assert!(error(json!({"device_name": "d", "device_secret": "s"})).contains("product_key"));
    let base = |key: &str, value: Value| {
        let mut inputs = device();
        inputs[key] = value;
        error(inputs)
    };
    assert!(base("sign_method", json!("sha256")).contains("sign_method"));
    assert!(base("device_name", json!("a&b")).contains("device_name"));
    assert!(base("client_id", json!("a|b")).contains("client_id"));
    assert!(base("timestamp", json!("soon")).contains("timestamp"));
    assert!(base("extra", json!([["a,b", "c"]])).contains("extra"));
    assert!(base("device_secret", json!("")).contains("device_secret"));
}

#[test]
fn the_time_of_the_signature_is_sent_unless_the_clock_is_not_set() {
    let mut inputs = device();
    inputs["timestamp"] = json!(true);
    let client_id = |now_ms| {
        sign_at("aliyun_iot", &inputs, Moment { now_ms, random: 1 })
            .unwrap()
            .client_id
    };
    assert!(client_id(1_800_000_000_123).contains("timestamp=1800000000123"));
    assert!(!client_id(1000).contains("timestamp"));
    assert!(!client_id(-1).contains("timestamp"));
}

proptest! {
    #[test]
    fn the_content_is_the_sorted_map(core in "[a-zA-Z0-9.]{1,20}", name in "[a-z@:._-]{4,32}", key in "[a-zA-Z0-9]{1,12}", time: Option<i64>) {
        let mut map = vec![("productKey", key.clone()), ("deviceName", name.clone()), ("clientId", core.clone())];
        map.extend(time.map(|time| ("timestamp", time.to_string())));
        map.sort();
        let sorted: String = map.into_iter().map(|(key, value)| format!("{key}{value}")).collect();
        prop_assert_eq!(content::aliyun(Some(&core), &name, &key, time.map(|time| time.to_string()).as_deref()), sorted);
    }
}
