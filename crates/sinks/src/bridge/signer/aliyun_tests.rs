use super::*;
use crate::bridge::signer::sign_vector;
use proptest::prelude::*;
use serde_json::json;

/// ALI-1 to ALI-4 and PUB-1 of the bridge specification; PUB-1 is a value that the vendor published.
fn vectors() -> Vec<(Value, &'static str, &'static str, &'static str)> {
    let secret = "0123456789abcdef0123456789abcdef";
    vec![
        (
            json!({"product_key": "a1WeirPk001", "device_name": "gw-01", "device_secret": secret,
                   "sign_method": "hmacsha256", "securemode": 2, "timestamp": 1_700_000_000_000_i64}),
            "a1WeirPk001.gw-01|securemode=2,signmethod=hmacsha256,timestamp=1700000000000|",
            "gw-01&a1WeirPk001",
            "b5f2a92e5802adab5fa97d82c489a387d1719e2f576cdc70042c4ec06d24b18c",
        ),
        (
            json!({"product_key": "a1WeirPk001", "device_name": "gw-01", "device_secret": secret,
                   "client_id": "AA-BB-CC-01", "sign_method": "hmacmd5", "securemode": 3, "timestamp": 1_700_000_000_000_i64}),
            "AA-BB-CC-01|securemode=3,signmethod=hmacmd5,timestamp=1700000000000|",
            "gw-01&a1WeirPk001",
            "dec40b6ce5f7575f71c8734370c38c47",
        ),
        (
            json!({"product_key": "a1WeirPk001", "device_name": "gw-01", "device_secret": secret,
                   "sign_method": "hmacsha1", "securemode": 3}),
            "a1WeirPk001.gw-01|securemode=3,signmethod=hmacsha1|",
            "gw-01&a1WeirPk001",
            "dc93a28da967e2678607ce2d719eb207a535538b",
        ),
        (
            json!({"product_key": "a1WeirPk001", "device_name": "line_7.temp@A:1",
                   "device_secret": "fedcba9876543210fedcba9876543210", "sign_method": "hmacsha256", "securemode": 2,
                   "timestamp": 2_524_608_000_000_i64, "extra": [["_v", "weir-1"], ["lan", "Rust"]]}),
            "a1WeirPk001.line_7.temp@A:1|securemode=2,signmethod=hmacsha256,timestamp=2524608000000,_v=weir-1,lan=Rust|",
            "line_7.temp@A:1&a1WeirPk001",
            "62a0dcf5baa442b51d7ec0c2e2c02a06bb2a467e42650c1be811f6c624f2158c",
        ),
        (
            json!({"product_key": "pk", "device_name": "device", "client_id": "12345", "timestamp": 789,
                   "sign_method": "hmacsha1", "device_secret": "secret", "securemode": 3}),
            "12345|securemode=3,signmethod=hmacsha1,timestamp=789|",
            "device&pk",
            "fafd82a3d602b37fb0fa8b7892f24a477f851a14",
        ),
    ]
}

#[test]
fn published_and_made_vectors_agree() {
    for (inputs, client_id, username, password) in vectors() {
        let shown = sign_vector("aliyun_iot", &inputs).unwrap().show();
        assert_eq!(shown.client_id, client_id);
        assert_eq!(shown.username.as_deref(), Some(username));
        assert_eq!(shown.password.as_deref(), Some(password));
    }
}

#[test]
fn what_cannot_be_signed_is_an_error_that_names_the_input() {
    let error = |inputs: Value| sign_vector("aliyun_iot", &inputs).unwrap_err().to_string();
    assert!(error(json!({"device_name": "d", "device_secret": "s"})).contains("product_key"));
    let base = |key: &str, value: Value| {
        let mut inputs = json!({"product_key": "p", "device_name": "d", "device_secret": "s"});
        inputs[key] = value;
        error(inputs)
    };
    assert!(base("sign_method", json!("sha256")).contains("sign_method"));
    assert!(base("device_name", json!("a&b")).contains("device_name"));
    assert!(base("client_id", json!("a|b")).contains("client_id"));
    assert!(base("timestamp", json!("soon")).contains("timestamp"));
    assert!(base("extra", json!([["a,b", "c"]])).contains("extra"));
    assert!(
        sign_vector("azure_iothub", &json!({}))
            .unwrap_err()
            .to_string()
            .contains("azure_iothub")
    );
}

#[test]
fn the_time_of_the_signature_is_sent_unless_the_clock_is_not_set() {
    let mut device = Device::from_inputs(&vectors()[0].0).unwrap();
    device.timestamp = Timestamp::Now;
    assert!(
        sign(&device, 1_800_000_000_123)
            .unwrap()
            .client_id
            .contains("timestamp=1800000000123")
    );
    assert!(!sign(&device, 1000).unwrap().client_id.contains("timestamp"));
}

#[test]
fn credentials_do_not_show_the_password() {
    let creds = sign_vector("aliyun_iot", &vectors()[0].0).unwrap();
    assert!(!format!("{creds:?}").contains("b5f2"));
}

proptest! {
    #[test]
    fn the_content_is_the_sorted_map(core in "[a-zA-Z0-9.]{1,20}", name in "[a-z@:._-]{4,32}", key in "[a-zA-Z0-9]{1,12}", time: Option<i64>) {
        let mut map = vec![("productKey", key.clone()), ("deviceName", name.clone()), ("clientId", core.clone())];
        map.extend(time.map(|time| ("timestamp", time.to_string())));
        map.sort();
        let sorted: String = map.into_iter().map(|(key, value)| format!("{key}{value}")).collect();
        prop_assert_eq!(content(&core, &name, &key, time), sorted);
    }
}
