//! Whom an operator has turned away stays away, also when weir was killed.

use serde_json::Value as Json;
use weir_test_support::{Site, Weir, mosquitto_pub};

use crate::WEIR;

/// How a publisher ends: 0 when it was let in.
async fn comes(weir: &Weir, client_id: &str, username: &str) -> Option<i32> {
    let args = [
        "-i", client_id, "-u", username, "-t", "t", "-m", "x", "-q", "1",
    ];
    mosquitto_pub(weir.mqtt_port(), &args).await.code
}

async fn says(weir: &Weir, args: &[&str]) -> (Option<i32>, String) {
    let finished = weir.command(args).await;
    (finished.code, finished.stdout + finished.stderr.as_str())
}

#[tokio::test]
async fn bans_hold_over_a_kill_until_their_time_or_their_end() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    assert_eq!(comes(&weir, "mallory", "m").await, Some(0));
    for args in [
        &["bans", "add", "client", "mallory", "--reason", "it floods"][..],
        &["bans", "add", "user", "eve", "--for", "1h"],
        &["bans", "add", "user", "brief", "--for", "1ms"],
        &["bans", "add", "client", "forgiven"],
        &["bans", "rm", "client", "forgiven"],
    ] {
        let (code, said) = says(&weir, args).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    // At once behind the answer.
    weir.kill().await;

    let weir = site.start(WEIR).await;
    assert_ne!(comes(&weir, "mallory", "m").await, Some(0));
    assert_ne!(comes(&weir, "x", "eve").await, Some(0));
    assert_eq!(comes(&weir, "forgiven", "m").await, Some(0));
    assert_eq!(comes(&weir, "x", "brief").await, Some(0));
    let (_, listed) = says(&weir, &["bans", "ls", "--json"]).await;
    let listed: Json = serde_json::from_str(&listed).unwrap();
    let items = listed["items"].as_array().unwrap();
    let names: Vec<_> = items
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mallory", "eve"]);
    assert_eq!(items[0]["reason"], "it floods");
    assert!(items[1]["until_ms"].as_u64() > items[1]["since_ms"].as_u64());

    let (code, said) = says(&weir, &["bans", "add", "address", "127.0.0.0/8"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(comes(&weir, "x", "m").await, Some(0));
    let (_, table) = says(&weir, &["bans", "ls"]).await;
    assert!(table.contains("address  127.0.0.0/8"), "{table}");
    for args in [
        ["bans", "rm", "address", "127.0.0.0/8"],
        ["bans", "rm", "client", "mallory"],
    ] {
        assert_eq!(says(&weir, &args).await.0, Some(0));
    }
    weir.kill().await;
    let weir = site.start(WEIR).await;
    assert_eq!(comes(&weir, "mallory", "m").await, Some(0));
    assert_ne!(comes(&weir, "x", "eve").await, Some(0));
}

#[tokio::test]
async fn a_connected_client_leaves_when_it_is_banned() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    let mut client = crate::killed::Client::connect(&weir, "mallory").await;
    assert_eq!(
        says(&weir, &["bans", "add", "client", "mallory"]).await.0,
        Some(0)
    );
    while client.publish(0x32, 1, "x").await.is_some() {}
}

#[tokio::test]
async fn a_ban_of_nobody_is_refused_in_words() {
    let site = Site::new();
    let weir = site.start(WEIR).await;
    for (args, words) in [
        (
            &["bans", "add", "address", "10.0.0.0/40"][..],
            "names nobody",
        ),
        (
            &["bans", "add", "sensor", "a"],
            "the kind is client, user or address",
        ),
        (&["bans", "add", "client", "a", "--for", "1"], "duration"),
        (&["bans", "rm", "client", "a"], "E1410"),
    ] {
        let (code, said) = says(&weir, args).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
