//! A remote that throws the bridge out, in a version of MQTT that has no word for it.

use std::time::Duration;

use weir_sinks::bridge::plan::Backoff;
use weir_sinks::bridge::reconnect::{Loss, Reconnect, Waiting};
use weir_sinks::{Connector, ConnectorConfig, LinkState};
use weir_test_support::wait_until;

use crate::bench::PATIENCE;
use crate::crossing::Remote;

#[tokio::test]
async fn three_links_of_3_1_1_that_end_at_once_are_told_as_an_identity_that_is_taken() {
    let remote = Remote::new().await;
    let config: ConnectorConfig =
        toml::from_str(&remote.toml("protocol = \"3.1.1\"\n[[out]]\nfilter = \"#\"")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    for _ in 0..3 {
        drop(remote.accept(false).await);
    }
    wait_until("it is evicted", PATIENCE, || async {
        connector.state().link == LinkState::Evicted
    })
    .await;
    let state = connector.state();
    let error = state.last_error.unwrap().error;
    assert_eq!(error.code(), "E4110", "{error}");
    let text = error.to_string();
    assert!(text.contains("three links in a row"), "{text}");
    assert!(text.contains("has closed the link"), "the cause: {text}");
    let wait = state.next_try_ms.unwrap() - state.since_ms;
    assert!((59_000..=181_000).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_remote_of_mqtt_5_that_says_why_it_ends_links_has_not_given_the_identity_away() {
    let remote = Remote::new().await;
    let config: ConnectorConfig =
        toml::from_str(&remote.toml("protocol = \"5\"\n[[out]]\nfilter = \"#\"")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::open("hq", &config, folder.path()).unwrap();
    connector.start();
    for _ in 0..5 {
        let mut far = remote.accept(false).await;
        // Message rate too high.
        far.send(&[0xE0, 2, 0x96, 0]).await;
    }
    let error = connector.state().last_error.unwrap().error;
    assert_eq!(error.code(), "E4107", "{error}");
}

fn reconnect(seed: u64) -> Reconnect {
    let backoff = Backoff {
        base: Duration::from_secs(5),
        cap: Duration::from_secs(60),
        stable: Duration::from_secs(30),
        spacing: Duration::from_secs(1),
    };
    Reconnect::new(backoff, seed)
}

const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(600);

#[test]
fn who_is_thrown_out_again_and_again_waits_longer_each_time_and_not_in_step_with_others() {
    let waits = |seed| {
        let mut reconnect = reconnect(seed);
        // The other one comes back only after its own wait: meanwhile the link holds.
        let mut held = Duration::from_secs(40);
        let waits = (0..20).map(|_| {
            let (wait, waiting) = reconnect.after(Loss::TakenOver, Some(held), held);
            assert_eq!(waiting, Waiting::Evicted);
            held = wait;
            wait
        });
        waits.collect::<Vec<_>>()
    };
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for seed in 0..20 {
        let waits = waits(seed);
        assert!(waits.iter().all(|wait| (LEAST..=MOST).contains(wait)));
        assert!(waits[0] <= 3 * LEAST, "{waits:?}");
        assert!(waits[10..].iter().any(|wait| *wait > MOST / 2), "{waits:?}");
        firsts.push(waits[0]);
        lasts.push(waits[19]);
    }
    for waits in [&mut firsts, &mut lasts] {
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 15, "{waits:?}");
    }
}

#[test]
fn after_a_link_that_held_for_long_or_broke_by_itself_the_waits_start_over() {
    for (loss, held) in [(Loss::Network, 40), (Loss::TakenOver, 2 * 3600)] {
        let mut reconnect = reconnect(7);
        let short = Some(Duration::from_secs(40));
        (0..20).for_each(|_| _ = reconnect.after(Loss::TakenOver, short, LEAST));
        let held = Some(Duration::from_secs(held));
        let (mut wait, _) = reconnect.after(loss, held, LEAST);
        if loss == Loss::Network {
            assert!(wait < LEAST, "no longer evicted");
            (wait, _) = reconnect.after(Loss::TakenOver, short, LEAST);
        }
        assert!((LEAST..=3 * LEAST).contains(&wait), "{wait:?}");
    }
}
