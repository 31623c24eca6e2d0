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
