//! The credentials of the Aliyun preset, through the command that people check their devices with.

use crate::WEIR;
use serde_json::{Value, json};
use weir_test_support::{Site, repository};

#[tokio::test]
async fn signed_credentials_agree_with_every_vector() {
    let file = repository().join("tests/rules_to_sinks/aliyun_vectors.jsonl");
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
        for key in ["client_id", "username", "password"] {
            assert_eq!(
                answer[key], vector["expect"][key],
                "{}: {key}",
                vector["id"]
            );
        }
    }
}
