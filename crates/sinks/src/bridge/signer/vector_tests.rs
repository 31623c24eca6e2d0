use super::*;
use proptest::prelude::*;
use serde_json::json;

const VECTORS: &str = include_str!("../../../../../tests/rules_to_sinks/bridge_vectors.jsonl");

fn vectors() -> impl Iterator<Item = Value> {
    VECTORS
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
}

/// A moment that no vector may depend on.
const ELSEWHEN: Moment = Moment {
    now_ms: 1_999_999_999_999,
    random: 7,
};

fn sign(vector: &Value, at: Moment) -> ConnectCreds {
    sign_at(vector["provider"].as_str().unwrap(), &vector["inputs"], at)
        .unwrap_or_else(|error| panic!("{}: {error}", vector["id"]))
}

#[test]
fn every_vector_is_signed_as_it_expects() {
    for vector in vectors() {
        let shown = serde_json::to_value(sign(&vector, ELSEWHEN).show()).unwrap();
        assert_eq!(shown, vector["expect"], "{}", vector["id"]);
    }
}

#[test]
fn every_provider_has_a_vector_and_every_vector_a_provider() {
    let mut named: Vec<_> = vectors()
        .map(|vector| vector["provider"].as_str().unwrap().to_owned())
        .collect();
    named.sort();
    named.dedup();
    let mut known: Vec<_> = PROVIDERS.iter().map(|provider| provider.name).collect();
    known.sort_unstable();
    assert_eq!(named, known);
}

#[test]
fn the_same_moment_gives_the_same_credentials_and_another_a_fresh_connection_id() {
    let device = json!({"product_id": "P", "device_name": "d", "device_secret": "c2VjcmV0"});
    let sign = |random| {
        let at = Moment {
            now_ms: 1_700_000_000_000,
            random,
        };
        sign_at("tencent_iot", &device, at).unwrap()
    };
    assert_eq!(sign(1), sign(1));
    assert_ne!(sign(1), sign(2));
    assert!(sign(1).username.unwrap().ends_with(";1700003600"));
}

#[test]
fn secrets_show_in_neither_debug_output_nor_errors() {
    for vector in vectors() {
        let provider = Provider::named(vector["provider"].as_str().unwrap()).unwrap();
        let inputs = provider.inputs(&vector["inputs"]).unwrap();
        let creds = provider.sign(&inputs, ELSEWHEN).unwrap();
        let credentials = Credentials {
            provider,
            inputs,
            host_follows: false,
        };
        let shown = format!("{credentials:?} {creds:?}");
        let secrets = provider
            .secrets
            .iter()
            .filter_map(|key| vector["inputs"][*key].as_str())
            // `secret` itself is part of a key's name.
            .filter(|secret| secret.len() > 6);
        let derived = [creds.password.as_deref(), creds.url.as_deref()];
        let derived = derived.into_iter().flatten().map(String::as_str);
        for secret in secrets.chain(derived.filter(|secret| secret.len() > 6)) {
            assert!(!shown.contains(secret), "{}: {shown}", vector["id"]);
        }
    }
}

#[test]
fn a_key_that_is_no_base64_is_refused_without_being_repeated() {
    for (provider, key, mut inputs) in [
        (
            "tencent_iot",
            "device_secret",
            json!({"product_id": "P", "device_name": "d"}),
        ),
        (
            "onenet",
            "access_key",
            json!({"product_id": "P", "device_name": "d"}),
        ),
        (
            "azure_iothub",
            "key",
            json!({"host": "h", "device_id": "d"}),
        ),
    ] {
        for bad in ["hunter2!", "aGk", "", "===="] {
            inputs[key] = json!(bad);
            let error = sign_at(provider, &inputs, ELSEWHEN).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(key), "{text}");
            assert!(bad.is_empty() || !text.contains(bad), "{text}");
        }
    }
}

#[test]
fn each_missing_input_is_named_and_an_unknown_one_is_refused() {
    for vector in vectors() {
        let provider = vector["provider"].as_str().unwrap();
        let error = sign_at(provider, &json!({}), ELSEWHEN);
        assert!(
            matches!(&error, Err(SignError::Input(text)) if text.contains("is missing")),
            "{provider}: {error:?}"
        );
        let mut inputs = vector["inputs"].clone();
        inputs["divice"] = json!("x");
        let error = sign_at(provider, &inputs, ELSEWHEN)
            .unwrap_err()
            .to_string();
        assert!(error.contains("divice"), "{error}");
    }
}

#[test]
fn a_clock_that_is_not_set_gives_the_form_without_a_time_or_an_error() {
    let device = json!({"product_id": "P", "device_name": "d", "device_secret": "c2VjcmV0"});
    for now_ms in [-1, i64::MIN, 0, 1_000_000_000_000] {
        let at = Moment { now_ms, random: 1 };
        let tencent = sign_at("tencent_iot", &device, at).unwrap();
        assert!(tencent.username.unwrap().ends_with(";9223372036854775807"));
        let huawei = json!({"device_id": "d", "device_secret": "s"});
        let huawei = sign_at("huawei_iotda", &huawei, at).unwrap();
        assert!(huawei.client_id.starts_with("d_0_0_"));
        let baidu = json!({"core_id": "c", "device_key": "d", "device_secret": "s"});
        let baidu = sign_at("baidu_iotcore", &baidu, at).unwrap();
        assert_eq!(baidu.username.as_deref(), Some("thingidp@c|d|0|SHA256"));
        let azure = json!({"host": "h", "device_id": "d", "key": "c2VjcmV0"});
        let aws = json!({"client_id": "c", "host": "h", "region": "r", "access_key_id": "a", "secret_access_key": "s"});
        let mq = json!({"group_id": "g", "device_id": "d", "access_key": "k", "instance_id": "i", "tokens": [["RW", "t"]]});
        for (provider, inputs) in [
            ("azure_iothub", azure),
            ("aws_sigv4_ws", aws),
            ("aliyun_mq_token", mq),
        ] {
            assert!(matches!(
                sign_at(provider, &inputs, at),
                Err(SignError::ClockUnset)
            ));
        }
    }
}

#[test]
fn a_signature_that_ends_the_session_is_renewed_before_it_expires() {
    let now_ms = 1_700_000_000_000;
    let after = |lifetime_s: i64| {
        let creds = ConnectCreds {
            expires_at_ms: Some(now_ms + lifetime_s * 1000),
            ends_session: true,
            ..ConnectCreds::default()
        };
        let after_ms = creds.renew_after_ms(now_ms)?;
        Some(after_ms / 1000)
    };
    assert_eq!(after(3600), Some(3240));
    assert_eq!(after(600), Some(480));
    assert_eq!(after(60), Some(30));
    assert_eq!(after(40), Some(20));
    // It is not signed anew over and over.
    assert_eq!(after(1), Some(1));
    assert_eq!(after(0), None);
    assert_eq!(after(-5), None);
    assert_eq!(ConnectCreds::default().renew_after_ms(now_ms), None);
}

#[test]
fn temporary_access_keys_end_when_the_file_says() {
    let mut inputs = json!({"client_id": "c", "host": "h", "region": "r", "access_key_id": "a", "secret_access_key": "s"});
    let mut sign = |expires: Value| {
        inputs["session_expires"] = expires;
        let at = Moment {
            now_ms: 1_700_000_000_000,
            random: 0,
        };
        sign_at("aws_sigv4_ws", &inputs, at)
    };
    let endless = sign(Value::Null).unwrap();
    assert_eq!(endless.expires_at_ms, None);
    assert_eq!(endless.renew_after_ms(1_700_000_000_000), None);
    for hour_later in [json!("2023-11-14T23:13:20Z"), json!(1_700_003_600)] {
        let creds = sign(hour_later).unwrap();
        assert_eq!(creds.expires_at_ms, Some(1_700_003_600_000));
        assert_eq!(creds.renew_after_ms(1_700_000_000_000), Some(3_240_000));
    }
    let over = sign(json!("2023-11-14T22:13:20Z"));
    assert!(matches!(over, Err(SignError::Over(_))), "{over:?}");
    let wrong = sign(json!("tomorrow")).unwrap_err().to_string();
    assert!(
        wrong.contains("session_expires") && !wrong.contains("tomorrow"),
        "{wrong}"
    );
}

#[test]
fn a_client_is_known_though_its_credentials_cannot_be_made_now() {
    let named = |provider: &str, inputs: Value| {
        let provider = Provider::named(provider).unwrap();
        let credentials = Credentials {
            inputs: provider.inputs(&inputs).unwrap(),
            provider,
            host_follows: false,
        };
        credentials.identity()
    };
    let aws = json!({"client_id": "c", "host": "h", "region": "r", "access_key_id": "a", "secret_access_key": "s"});
    assert_eq!(named("aws_sigv4_ws", aws), "c");
    assert_eq!(named("aws_x509", json!({"client_id": "c"})), "c");
    let mq = json!({"group_id": "g", "device_id": "d", "access_key": "k", "instance_id": "i"});
    let with = |key: &str, value: Value| {
        let mut inputs = mq.clone();
        inputs[key] = value;
        inputs
    };
    let by_token = named("aliyun_mq_token", with("tokens", json!([["R", "t"]])));
    let by_secret = named("aliyun_mq_signature", with("access_secret", json!("s")));
    assert_eq!(by_token, by_secret);
    assert!(!by_token.is_empty());
}

#[test]
fn a_secret_in_a_file_is_read_at_each_signature() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let place = format!("${{file:{}}}", file.path().display());
    let provider = Provider::named("huawei_iotda").unwrap();
    let inputs = provider
        .inputs(&json!({"device_id": "d", "device_secret": place}))
        .unwrap();
    std::fs::write(file.path(), "first\n").unwrap();
    let first = provider.sign(&inputs, ELSEWHEN).unwrap();
    std::fs::write(file.path(), "second\n").unwrap();
    let second = provider.sign(&inputs, ELSEWHEN).unwrap();
    assert_ne!(first.password, second.password);
    std::fs::remove_file(file.path()).unwrap();
    assert!(matches!(
        provider.sign(&inputs, ELSEWHEN),
        Err(SignError::Secret(_))
    ));
}

proptest! {
    #[test]
    fn no_input_makes_a_signer_panic(
        values in proptest::collection::vec("\\PC{0,12}", 16), number: i64, now_ms: i64, random: u64,
    ) {
        for provider in PROVIDERS {
            let mut inputs = serde_json::Map::new();
            for (place, key) in provider.keys.iter().chain(provider.secrets).enumerate() {
                let value = if place % 3 == 2 { json!(number) } else { json!(values[place % values.len()]) };
                inputs.insert((*key).to_owned(), value);
            }
            let _ = sign_at(provider.name, &Value::Object(inputs), Moment { now_ms, random });
        }
    }

    #[test]
    fn the_hour_of_client_id_and_key_is_one_reading(hour in 438_300i64..800_000, late in 0i64..3_600_000) {
        let device = json!({"device_id": "d", "device_secret": "s"});
        let sign = |now_ms| sign_at("huawei_iotda", &device, Moment { now_ms, random: 0 }).unwrap();
        let creds = sign(hour * 3_600_000 + late);
        prop_assert_eq!(&creds, &sign(hour * 3_600_000));
        let key = creds.client_id.rsplit('_').next().unwrap();
        prop_assert_eq!(creds.password.unwrap(), mac::Hash::Sha256.hex_hmac(key.as_bytes(), "s"));
    }
}
