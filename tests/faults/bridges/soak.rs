//! Clouds that enforce their limits: a bridge of each keeps to all of them, under more load at a time than they take.
//!
//! The cloud is a second weir with `emulate = true`: it throws away without a word what comes too fast, closes links over
//! QoS, size and topic, and refuses who connects too often or with another keep-alive. `make bridges-soak` does this for ten
//! minutes; `BRIDGES_SOAK` is how many seconds.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use weir_test_support::{Site, Weir, wait_until};

use super::endurance::Way;
use super::kinds::{KINDS, Kind};
use super::remote::Remote;
use super::{say, weir_binary};

/// Every `TICK` so many messages of each stream are published at once. Three streams of a bridge leave with QoS 1: nine
/// messages a second of the ten that the slowest clouds take.
const BURST: u64 = 9;
const TICK: Duration = Duration::from_secs(3);
/// What waits after the last restart leaves at four fifths of the rate, once the bridges may connect again.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long the load is kept up, and how often the cloud is killed meanwhile.
fn length() -> (Duration, u32) {
    match std::env::var("BRIDGES_SOAK") {
        Err(_) => (Duration::from_secs(6), 1),
        Ok(text) => {
            let seconds: u64 = text.parse().expect("BRIDGES_SOAK is a number of seconds");
            (Duration::from_secs(seconds), 4)
        }
    }
}

/// What the cloud has against its devices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Violations {
    /// Messages that came too fast.
    thrown_away: f64,
    /// CONNECTs that came too soon, or were not as they must be.
    refused: f64,
}

impl Violations {
    async fn of(remote: &Remote) -> Self {
        let rate = [("reason", "cloud_rate")];
        Self {
            thrown_away: remote.labelled("weir_messages_dropped_total", &rate).await,
            refused: remote.metric("weir_devices_refused_total").await,
        }
    }

    fn add(&mut self, other: Self) {
        self.thrown_away += other.thrown_away;
        self.refused += other.refused;
    }
}

/// Failures of links that are no outage of the cloud.
async fn cut(near: &Weir, kind: &Kind) -> f64 {
    let mut cut = 0.0;
    for reason in ["credentials", "taken_over", "version", "message", "here"] {
        let labels = [("connector", kind.name), ("reason", reason)];
        cut += near.metric("weir_bridge_failures_total", &labels).await;
    }
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_limit_of_a_cloud_is_crossed_while_more_is_published_than_it_takes() {
    let (length, kills) = length();
    let mut remote = Remote::emulating().await;
    let kinds: Vec<Kind> = KINDS.into_iter().filter(Kind::is_emulated).collect();
    let site = Site::new();
    site.config("data_dir = \"data\"\ndurability = \"os\"\n");
    for kind in &kinds {
        site.connector(kind.name, &remote.shaped_connector(kind));
    }
    let near = site.start(&weir_binary()).await;
    let allowed = watch::Sender::new(0);
    let mut ways = Vec::new();
    for kind in &kinds {
        let up = [("connector", kind.name), ("type", "mqtt")];
        wait_until(kind.name, Duration::from_secs(30), || async {
            near.metric("weir_connector_up", &up).await > 0.5
        })
        .await;
        let local = format!("{}/out/", kind.name);
        let way = Way::start(
            format!("{}-soak", kind.name),
            (near.mqtt_port(), &local),
            (remote.port, kind.up),
            kind.cap,
            &allowed,
        );
        ways.push(way.await);
    }
    let began = Instant::now();
    let mut violations = Violations::default();
    let (mut messages, mut killed) = (0, 0);
    while began.elapsed() < length {
        messages += BURST;
        allowed.send_replace(messages);
        tokio::time::sleep(TICK).await;
        if killed < kills && began.elapsed() >= length * (killed + 1) / (kills + 1) {
            violations.add(Violations::of(&remote).await);
            remote.leave().await;
            remote.come_back().await;
            killed += 1;
        }
    }
    wait_until("everything to arrive", PATIENCE, || async {
        ways.iter().all(|way| way.is_done(messages))
    })
    .await;
    violations.add(Violations::of(&remote).await);
    let mut wrong = Vec::new();
    for (kind, way) in kinds.iter().zip(&ways) {
        let [none, once] = [0, 1].map(|promised| way.count(promised));
        let cut = cut(&near, kind).await;
        let line = format!(
            "{:<13} QoS 1: {} messages, lost {} doubled {} late {}  QoS 0: {} messages, lost {}  cut {cut}",
            kind.name, once.sent, once.lost, once.doubled, once.late, none.sent, none.lost,
        );
        say(&line);
        if once.lost + once.late > 0 || cut > 0.0 {
            wrong.push(line);
        }
    }
    say(&format!(
        "{:.0} s, {killed} kills, {violations:?}",
        began.elapsed().as_secs_f64()
    ));
    assert!(killed > 0, "the cloud was never away");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(violations, Violations::default());
}
