//! The remote is killed and hangs while messages cross both ways.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weir_test_support::{Site, Weir, wait_until};

use super::client::{Client, Publisher, SESSIONS_LOST, retained, subscriber};
use super::kinds::{KINDS, Kind, PLAINS};
use super::remote::{Fault, Remote};
use super::tally::{Count, Stream};
use super::{long, say, weir_binary};

/// Streams of one kind: three QoS and one of retained messages, each way.
const STREAMS: u64 = 8;
const WINDOW: usize = 20;
const SHORT_HANG: Duration = Duration::from_secs(1);
/// Longer than `ack_timeout`.
const LONG_HANG: Duration = Duration::from_secs(5);
/// After this there is something on its way from every publisher.
const UNDER_WAY: Duration = Duration::from_millis(10);
/// A bridge takes three links in a row that are shorter than 5 s for those of one who shares its identity, and waits.
const LINKS_HOLD: Duration = Duration::from_millis(5500);

struct Size {
    /// Messages of each stream.
    messages: u64,
    faults: Vec<Fault>,
    /// How long what waits may take to arrive.
    patience: Duration,
}

impl Size {
    fn of_this_run() -> Self {
        use Fault::{Hang, Kill};
        match long() {
            None => Self {
                messages: 2000 / STREAMS,
                faults: vec![Kill, Kill, Hang(LONG_HANG)],
                patience: Duration::from_secs(180),
            },
            Some(messages) => {
                let mut faults = vec![Kill; 10];
                faults.insert(3, Hang(SHORT_HANG));
                faults.insert(7, Hang(LONG_HANG));
                Self {
                    messages: messages.div_ceil(STREAMS),
                    faults,
                    patience: Duration::from_secs(300),
                }
            }
        }
    }
}

/// One way over one bridge, from a publisher to a subscriber.
pub(super) struct Way {
    streams: Arc<[Stream]>,
    unanswered: watch::Receiver<usize>,
    _clients: [Client; 2],
}

impl Way {
    pub(super) async fn start(
        name: String,
        (from, from_prefix): (u16, &str),
        (to, to_prefix): (u16, &str),
        cap: u8,
        allowed: &watch::Sender<u64>,
    ) -> Self {
        let stream = |qos, retained| Stream::new(from_prefix, qos, cap, retained);
        let streams: Arc<[Stream]> = [
            stream(0, false),
            stream(1, false),
            stream(2, false),
            stream(1, true),
        ]
        .into();
        let filters = vec![format!("{to_prefix}q/#"), format!("{to_prefix}r/#")];
        let (reader, mut stands) =
            subscriber(to, format!("{name}-to"), filters, Arc::clone(&streams));
        stands.wait_for(|stands| *stands).await.unwrap();
        let (writer, unanswered) = Publisher::start(
            from,
            format!("{name}-from"),
            Arc::clone(&streams),
            WINDOW,
            allowed.subscribe(),
        );
        Self {
            streams,
            unanswered,
            _clients: [reader, writer],
        }
    }

    fn promised(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(|stream| stream.promised > 0)
    }

    /// Whether of each stream more than so many have arrived, QoS 0 aside.
    fn is_past(&self, number: u64) -> bool {
        self.promised().all(|stream| stream.arrived() > number)
    }

    pub(super) fn is_done(&self, messages: u64) -> bool {
        *self.unanswered.borrow() == 0
            && (self.streams.iter()).all(|stream| stream.sent() == messages)
            && self.promised().all(|stream| stream.arrived() == messages)
    }

    /// How many are on their way.
    fn crossing(&self) -> u64 {
        self.promised()
            .map(|stream| stream.sent() - stream.arrived())
            .sum()
    }

    /// What came of all streams that were promised this much.
    pub(super) fn count(&self, promised: u8) -> Count {
        let mut count = Count::default();
        for stream in self
            .streams
            .iter()
            .filter(|stream| stream.promised == promised)
        {
            count += stream.count();
        }
        count
    }
}

/// A bridge under load.
struct Bridge {
    kind: Kind,
    out: Way,
    inward: Way,
    /// Faults that came while messages were on their way out and in.
    struck: [u32; 2],
    ended: Option<Duration>,
}

impl Bridge {
    async fn start(kind: Kind, near: u16, far: u16, allowed: &watch::Sender<u64>) -> Self {
        let name = kind.name;
        let (local_out, local_in) = (format!("{name}/out/"), format!("{name}/in/"));
        let out = Way::start(
            format!("{name}-out"),
            (near, &local_out),
            (far, kind.up),
            kind.cap,
            allowed,
        );
        let inward = Way::start(
            format!("{name}-in"),
            (far, kind.down),
            (near, &local_in),
            kind.cap,
            allowed,
        );
        Self {
            kind,
            out: out.await,
            inward: inward.await,
            struck: [0; 2],
            ended: None,
        }
    }

    fn ways(&self) -> [&Way; 2] {
        [&self.out, &self.inward]
    }
}

/// One weir with a bridge of each kind to one remote.
struct Scene {
    remote: Remote,
    near: Weir,
    _site: Site,
    bridges: Vec<Bridge>,
    allowed: watch::Sender<u64>,
}

impl Scene {
    async fn start(remote: Remote, kinds: &[Kind]) -> Self {
        let site = Site::new();
        site.config(
            "data_dir = \"data\"\ndurability = \"os\"\n\
             [mqtt]\nmax_queued = 1000000\nmax_queued_bytes = \"1GiB\"\n",
        );
        for kind in kinds {
            site.connector(kind.name, &remote.connector(kind));
        }
        let near = site.start(&weir_binary()).await;
        let allowed = watch::Sender::new(0);
        let mut bridges = Vec::new();
        for kind in kinds {
            let up = [("connector", kind.name), ("type", "mqtt")];
            wait_until(kind.name, Duration::from_secs(30), || async {
                near.metric("weir_connector_up", &up).await > 0.5
                    && near.metric("weir_bridge_filters_refused", &up[..1]).await < 0.5
            })
            .await;
            let bridge = Bridge::start(*kind, near.mqtt_port(), remote.port, &allowed).await;
            bridges.push(bridge);
        }
        Self {
            remote,
            near,
            _site: site,
            bridges,
            allowed,
        }
    }

    fn all_past(&self, number: u64) -> bool {
        let mut ways = self.bridges.iter().flat_map(Bridge::ways);
        ways.all(|way| way.is_past(number))
    }

    /// Every fault comes when each bridge has carried something of its part of the messages both ways, and while there
    /// is more to send.
    async fn load(&mut self, size: &Size) {
        let began = Instant::now();
        let parts = size.faults.len() as u64 + 1;
        for (part, fault) in (0_u64..).zip(&size.faults) {
            let start = size.messages * part / parts;
            let end = size.messages * (part + 1) / parts;
            let half = start.midpoint(end);
            self.allowed.send_replace(half);
            let what = format!("all bridges to carry part {part}");
            wait_until(&what, size.patience, || async { self.all_past(start) }).await;
            if part >= 2 {
                tokio::time::sleep(LINKS_HOLD).await;
            }
            self.allowed.send_replace(end);
            tokio::time::sleep(UNDER_WAY).await;
            self.strike(*fault, began).await;
        }
        self.allowed.send_replace(size.messages);
        let until = Instant::now() + size.patience;
        while self.bridges.iter().any(|bridge| bridge.ended.is_none()) && Instant::now() < until {
            for bridge in &mut self.bridges {
                let done = bridge.ways().iter().all(|way| way.is_done(size.messages));
                if done && bridge.ended.is_none() {
                    bridge.ended = Some(began.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What comes twice comes now.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn strike(&mut self, fault: Fault, began: Instant) {
        for bridge in &mut self.bridges {
            let crossing = [bridge.out.crossing() > 0, bridge.inward.crossing() > 0];
            for (struck, crossing) in bridge.struck.iter_mut().zip(crossing) {
                *struck += u32::from(crossing);
            }
        }
        say(&format!(
            "{fault:?} after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        self.remote.suffer(fault).await;
    }

    /// What came of each kind, and what is wrong with it.
    async fn judge(&self, size: &Size) -> Vec<String> {
        let mut wrong = Vec::new();
        for bridge in &self.bridges {
            let kind = &bridge.kind;
            let labels = [("connector", kind.name)];
            let connects = self
                .near
                .metric("weir_bridge_connects_total", &labels)
                .await;
            for (way, name) in bridge.ways().into_iter().zip(["out", "in"]) {
                let [none, once, exactly] = [0, 1, 2].map(|promised| way.count(promised));
                let line = format!(
                    "{:<13} {name:<3} messages {:>6}  lost {} doubled {} late {}  QoS 1: doubled {}  QoS 0: sent {} \
                     lost {} doubled {} late {}  struck {:?}  connects {connects}  {:.1} s",
                    kind.name,
                    once.sent + exactly.sent,
                    once.lost + exactly.lost,
                    exactly.doubled,
                    once.late + exactly.late,
                    once.doubled,
                    none.sent,
                    none.lost,
                    none.doubled,
                    none.late,
                    bridge.struck,
                    bridge.ended.unwrap_or_default().as_secs_f64(),
                );
                say(&line);
                let kept = once.lost + exactly.lost + exactly.doubled + once.late + exactly.late;
                if kept + none.doubled + none.late > 0 || bridge.ended.is_none() {
                    wrong.push(line);
                }
                let unstruck = bridge.struck.contains(&0);
                if unstruck && size.messages >= 10_000 {
                    wrong.push(format!(
                        "{}: no fault came while messages crossed",
                        kind.name
                    ));
                }
            }
            wrong.extend(self.kept(bridge).await);
        }
        wrong
    }

    /// Retained messages: the last of each topic, where the remote keeps them.
    async fn kept(&self, bridge: &Bridge) -> Vec<String> {
        let kind = &bridge.kind;
        let wanted = |way: &Way, from: &str, to: &str| {
            let last = way.streams[3].last();
            let renamed = last
                .into_iter()
                .map(|(topic, number)| (topic.replacen(from, to, 1), number));
            let mut renamed: Vec<_> = renamed.collect();
            renamed.sort();
            renamed
        };
        let name = kind.name;
        let (local_out, local_in) = (format!("{name}/out/"), format!("{name}/in/"));
        let mut there = wanted(&bridge.out, &local_out, kind.up);
        if !kind.retains {
            there.clear();
        }
        let here = wanted(&bridge.inward, kind.down, &local_in);
        let mut wrong = Vec::new();
        for (port, prefix, wanted) in [
            (self.remote.port, kind.up, there),
            (self.near.mqtt_port(), &*local_in, here),
        ] {
            let found = retained(port, &format!("{prefix}r/#")).await;
            if found != wanted {
                wrong.push(format!("{name}: retained {found:?}, not {wanted:?}"));
            }
        }
        wrong
    }
}

async fn endures(remote: Remote, kinds: &[Kind]) {
    let chosen = std::env::var("BRIDGES_KINDS").unwrap_or_default();
    let kinds: Vec<Kind> = kinds
        .iter()
        .filter(|kind| chosen.is_empty() || chosen.split(',').any(|name| name == kind.name))
        .copied()
        .collect();
    if kinds.is_empty() {
        return;
    }
    let size = Size::of_this_run();
    let mut scene = Scene::start(remote, &kinds).await;
    scene.load(&size).await;
    let wrong = scene.judge(&size).await;
    let sessions_lost = SESSIONS_LOST.load(Ordering::Relaxed);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(sessions_lost, 0, "sessions of the test's own clients");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_a_cloud_is_killed_and_hangs_and_a_mosquitto_is_cut_off() {
    let clouds = async { endures(Remote::weir().await, &KINDS).await };
    let mosquitto = async { endures(Remote::mosquitto().await, &PLAINS).await };
    if long().is_some() {
        clouds.await;
        mosquitto.await;
    } else {
        tokio::join!(clouds, mosquitto);
    }
}
