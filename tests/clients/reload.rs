//! Certificates that change under a running broker, and files that are wrong before it runs.

use std::time::Duration;

use weir_test_support::{Finished, Site, mosquitto_pub, wait_until};

use crate::WEIR;
use crate::scene::Scene;

async fn publish(scene: &Scene) -> Finished {
    let ca = scene.authority.text("ca.pem");
    let args = ["--cafile", &ca, "-t", "t", "-m", "x", "-h", "localhost"];
    mosquitto_pub(scene.port("mqtts"), &args).await
}

#[tokio::test]
async fn a_new_certificate_is_taken_over_and_a_bad_one_is_refused_by_name() {
    let scene = Scene::start().await;
    let _ = publish(&scene).await.succeeded();
    scene.authority.write("server.pem", "no certificate");
    let refused = scene.weir.reload().await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for said in [
        "E1014",
        "server.pem",
        "listeners[1].cert holds no certificate",
        "go on",
    ] {
        assert!(refused.stdout.contains(said), "{said}: {}", refused.stdout);
    }
    let _ = publish(&scene).await.succeeded();
    let (_, ready) = scene.weir.get("/health/ready").await;
    assert!(
        ready.contains("degraded") && ready.contains("server.pem"),
        "{ready}"
    );

    // For a name that the client does not ask for: it refuses what it is shown.
    scene.authority.server("server", &["elsewhere.example"]);
    wait_until("the watcher", Duration::from_secs(20), || async {
        publish(&scene).await.code != Some(0)
    })
    .await;
    scene.authority.server("server", &["localhost"]);
    scene.weir.hang_up().await;
    wait_until("the signal", Duration::from_secs(20), || async {
        publish(&scene).await.code == Some(0)
    })
    .await;
    let (_, ready) = scene.weir.get("/health/ready").await;
    assert!(ready.contains("ok"), "{ready}");
}

#[tokio::test]
async fn a_broker_does_not_start_with_a_certificate_that_it_cannot_use() {
    let site = Site::new();
    site.rule("r", "sql = 'SELECT * FROM \"t\"'\n");
    let tls = "[[listeners]]\nkind = \"tls\"\nbind = \"127.0.0.1:0\"\ncert = \"a.pem\"\nkey = \"a.key\"\n";
    site.write("weir.toml", &format!("http.bind = \"127.0.0.1:0\"\n{tls}"));
    let run = site.weir(WEIR, &["run"]).await;
    assert_eq!(run.code, Some(5), "{run:?}");
    let check = site.weir(WEIR, &["check"]).await;
    assert_eq!(check.code, Some(1), "{check:?}");
    for said in [run.stderr, check.stdout] {
        assert!(said.contains("E1014") && said.contains("a.pem"), "{said}");
        assert!(said.contains("listeners[0].cert cannot be read"), "{said}");
    }
}
