//! The credentials of every preset, through the command that people check their devices with.

use crate::WEIR;
use serde_json::{Value, json};
use weir_test_support::{Site, repository};

#[tokio::test]
async fn signed_credentials_agree_with_every_vector() {
    let file = repository().join("tests/rules_to_sinks/bridge_vectors.jsonl");
    let vectors: Vec<Value> = std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The answers are not shown to the program.
    let questions: String = vectors
        .iter()
        .map(|vector| {
            json!({"provider": vector["provider"], "inputs": vector["inputs"]}).to_string() + "\n"
        })
        .collect();
    let site = Site::new();
    site.write("vectors.jsonl", &questions);

    let args = ["bridge", "sign", "--vectors", "vectors.jsonl"];
    let signed = site.weir(WEIR, &args).await.succeeded();
    let answers: Vec<Value> = signed
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    assert_eq!(answers.len(), vectors.len(), "{}", signed.stdout);
    for (vector, answer) in vectors.iter().zip(&answers) {
        assert_eq!(answer, &vector["expect"], "{}", vector["id"]);
    }
}

#[tokio::test]
async fn one_set_of_inputs_is_signed_without_a_connector_file() {
    let site = Site::new();
    let args = [
        "bridge",
        "sign",
        "huawei_iotda",
        "--set",
        "device_id=d",
        "device_secret",
        "--now",
        "2024-12-31T23:59:59Z",
        "--json",
    ];
    let place = format!(
        "device_secret=${{file:{}}}",
        site.path().join("secret").display()
    );
    let args = args.map(|arg| {
        if arg.starts_with("device_secret") {
            &place
        } else {
            arg
        }
    });
    site.write("secret", "WeirHwSecret#2024\n");

    let answer = site.weir(WEIR, &args).await.succeeded();

    let answer: Value = serde_json::from_str(answer.stdout.trim()).unwrap();
    assert_eq!(answer["client_id"], "d_0_1_2024123123");
    let password = "a83db3f5814ff19a414abd92951f2e9dfd02843679350fc6c9796b76cb5e93ef";
    assert_eq!(answer["password"], password);
}

#[tokio::test]
async fn where_the_credentials_are_for_is_told_with_them() {
    let site = Site::new();
    let sign = async |preset: &str, set: &[&str]| -> Value {
        let args = [&["bridge", "sign", preset, "--json", "--set"], set].concat();
        let answer = site.weir(WEIR, &args).await.succeeded();
        serde_json::from_str(answer.stdout.trim()).unwrap()
    };
    let aliyun = &["product_key=pk", "device_name=d", "device_secret=s"];
    let told = sign(
        "aliyun_iot",
        &[&aliyun[..], &["region=cn-shanghai"]].concat(),
    )
    .await;
    let host = "pk.iot-as-mqtt.cn-shanghai.aliyuncs.com";
    assert_eq!(told["endpoint"], format!("mqtts://{host}:1883"));
    assert_eq!(
        json!([told["host"], told["port"], told["tls"], told["path"]]),
        json!([host, 1883, true, null])
    );
    let aws = [
        "client_id=c",
        "host=h.example",
        "region=r",
        "access_key_id=k",
        "secret_access_key=s",
        "session_expires=2100-01-01T00:00:00Z",
    ];
    let told = sign("aws_iot", &aws).await;
    assert_eq!(told["endpoint"], "wss://h.example:443/mqtt");
    assert_eq!(told["path"], "/mqtt");
    assert_eq!(told["expires_at_ms"], 4_102_444_800_000_i64);
    let told = sign("huawei_iotda", &["device_id=d", "device_secret=s"]).await;
    assert_eq!(told["endpoint"], Value::Null, "only the console knows it");
    let named = [
        "device_id=d",
        "device_secret=s",
        "addresses=mqtts://h.example",
    ];
    let told = sign("huawei_iotda", &named).await;
    assert_eq!(told["endpoint"], "mqtts://h.example:8883");
}
