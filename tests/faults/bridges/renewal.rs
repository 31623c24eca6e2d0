//! Credentials that end while messages cross: the bridge signs in anew in time, and nothing is lost, doubled or late.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use weir_test_support::{Site, wait_until};

use super::endurance::Way;
use super::kinds::AZURE;
use super::remote::Remote;
use super::{long, weir_binary};

const TICK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_expire_under_load_are_renewed_without_loss() {
    // Four streams of 50 messages a second are 200 a second. Each token is left after half of its life.
    let (expires, span, renewals) = if long().is_some() {
        (30, Duration::from_secs(120), 7.0)
    } else {
        (4, Duration::from_millis(4500), 2.0)
    };
    let remote = Remote::weir().await;
    let site = Site::new();
    site.config("data_dir = \"data\"\ndurability = \"os\"\n");
    let file = remote.connector(&AZURE);
    let file = file.replacen("[[out]]", &format!("expires = \"{expires}s\"\n[[out]]"), 1);
    site.connector("azure_iothub", &file);
    let near = site.start(&weir_binary()).await;
    let labels = [("connector", "azure_iothub")];
    wait_until("the bridge to be up", PATIENCE, || async {
        near.metric("weir_connector_up", &labels).await > 0.5
    })
    .await;
    let allowed = watch::Sender::new(0);
    let out = Way::start(
        "renewal".to_owned(),
        (near.mqtt_port(), "azure_iothub/out/"),
        (remote.port, AZURE.up),
        AZURE.cap,
        &allowed,
    )
    .await;
    let began = Instant::now();
    while began.elapsed() < span {
        tokio::time::sleep(TICK).await;
        allowed.send_replace(u64::try_from(began.elapsed().as_millis()).unwrap() / 20);
    }
    let messages = *allowed.borrow();
    wait_until("everything to arrive", PATIENCE, || async {
        out.is_done(messages)
    })
    .await;
    let signed = near.metric("weir_bridge_sign_calls_total", &labels).await;
    let connected = near.metric("weir_bridge_connected_total", &labels).await;
    let refused = remote.metric("weir_devices_refused_total").await;
    let [none, once] = [0, 1].map(|promised| out.count(promised));
    eprintln!(
        "tokens of {expires} s: {} messages in {:.0} s, signed in {connected} times, {none:?} {once:?}",
        none.sent + once.sent,
        span.as_secs_f64()
    );
    assert!(connected - 1.0 >= renewals, "signed in {connected} times");
    assert!(
        (signed - connected).abs() < 0.5,
        "{signed} signatures, {connected} links"
    );
    assert!(refused < 0.5, "refused {refused} times");
    for count in [none, once] {
        assert_eq!((count.lost, count.doubled, count.late), (0, 0, 0));
    }
}
