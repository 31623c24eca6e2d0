//! `weir torture`: a weir of its own under load, everything around it broken at random moments, and in the end a count of
//! what was promised. docs/torture.md says how to read it.
//!
//! `plan` is what breaks when, `session` and `client` are exact clients, `verdict` is the count; the rest are the processes
//! and lines that are broken.

mod brokers;
mod client;
mod disk;
mod load;
pub(crate) mod plan;
pub(crate) mod postgres;
pub(crate) mod process;
mod proxy;
mod report;
mod scene;
mod session;
mod site;
pub(crate) mod verdict;
mod webhook;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use weir_mqtt::QoS;

use self::load::{Load, Logs};
use self::plan::{Event, Kind, Wishes};
use self::report::{Checked, Totals};
pub(crate) use self::report::{Report, name};
use self::scene::Scene;
use self::verdict::{Copies, Fate, judge, retained_holds};

/// What the rows of a bridge go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RemoteKind {
    /// A second weir
    Weir,
    /// mosquitto, which is not killed: it keeps nothing safe before it is asked to
    Mosquitto,
    /// No bridge
    None,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    pub(crate) kills: u32,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) publishers: usize,
    /// Messages a second, all publishers together.
    pub(crate) rate: u32,
    pub(crate) keep: bool,
    /// A server that is there.
    pub(crate) postgres: Option<String>,
    pub(crate) remote: RemoteKind,
}

/// How long publishers may take to bring to an end what they have begun.
const FINISH: Duration = Duration::from_secs(120);
/// Consumers that nothing has come to for so long get nothing more.
const STALL: Duration = Duration::from_secs(45);
/// And at most so long altogether.
const DRAIN: Duration = Duration::from_secs(1800);
const STOP: Duration = Duration::from_secs(60);
const SUBSCRIBE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);
const TELL: Duration = Duration::from_secs(10);

/// A folder of the run, removed with this value unless it is to be kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(settings: &Settings) -> std::io::Result<Self> {
        let name = format!("weir-torture-{}-{}", settings.seed, std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        let keep = settings.keep;
        Ok(Self { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is in the system's folder for such things.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs it all; `tell` gets a line now and then.
///
/// # Errors
/// When the scene cannot be set. A broken promise is no error but in the report.
pub(crate) async fn run(settings: &Settings, tell: &dyn Fn(&str)) -> Result<Report, String> {
    let folder = Folder::new(settings).map_err(|error| format!("no folder: {error}"))?;
    let mut scene = Scene::set(&folder.path, settings).await?;
    let events = plan::plan(&Wishes {
        seed: settings.seed,
        time: settings.time,
        kills: settings.kills,
        kinds: scene.kinds.clone(),
        peers: scene.peers(),
    });
    let mut load = Load::new(settings.seed);
    let port = scene.clients.port();
    load.subscribe("session, QoS 1", port, "torture/+", QoS::AtLeastOnce, false);
    load.subscribe("session, QoS 2", port, "torture/+", QoS::ExactlyOnce, false);
    load.subscribe(
        "QoS 1, comes and goes",
        port,
        "torture/+",
        QoS::AtLeastOnce,
        true,
    );
    load.subscribe(
        "QoS 2, comes and goes",
        port,
        "torture/+",
        QoS::ExactlyOnce,
        true,
    );
    if let Some(remote) = &scene.remote {
        load.subscribe(
            "remote, QoS 1",
            remote.port,
            "far/1",
            QoS::AtLeastOnce,
            false,
        );
        load.subscribe(
            "remote, QoS 2",
            remote.port,
            "far/2",
            QoS::ExactlyOnce,
            false,
        );
    }
    load.all_stand(SUBSCRIBE).await?;
    load.publish(port, settings.publishers, settings.rate);
    let began = Instant::now();
    let done = torment(&mut scene, &load, &events, settings, tell).await;
    let loaded = began.elapsed();
    tell("the faults are over, publishers finish");
    let logs = load.finish(FINISH).await?;
    let counters = &load.counters;
    let mut totals = Totals {
        sent: counters.sent.load(Ordering::Relaxed),
        acknowledged: 0,
        resent: logs.resent,
        connects: counters.connects.load(Ordering::Relaxed),
        refused: 0,
        loaded,
    };
    for sent in logs
        .senders
        .iter()
        .chain(&logs.keepers)
        .flat_map(|sender| &sender.messages)
    {
        match sent.fate {
            Fate::Acknowledged => totals.acknowledged += 1,
            Fate::Refused => totals.refused += 1,
            Fate::Open => {}
        }
    }
    tell("what is owed is delivered");
    drain(&mut scene, &load, &logs, tell).await;
    let mut problems = Vec::new();
    let kept = retained(&scene, settings.seed, &logs, &mut problems).await;
    load.end().await;
    end_weir(&mut scene, &mut problems).await;
    let checked = check(&scene, &load, &logs, &mut problems).await?;
    if logs.unfinished > 0 {
        problems.push(format!(
            "{} publishers got no answer to all that they sent within {} s",
            logs.unfinished,
            FINISH.as_secs()
        ));
    }
    let sessions = load.counters.sessions_lost.load(Ordering::Relaxed);
    if sessions > 0 {
        problems.push(format!(
            "{sessions} times a session was gone that must be there"
        ));
    }
    problems.extend(load.counters.nonsense.lock().iter().cloned());
    problems.append(&mut scene.weir.fell);
    problems.extend(scene.remote.iter().flat_map(|remote| remote.fell.clone()));
    let panics = scene.weir.log().matches("panicked at").count();
    if panics > 0 {
        problems.push(format!("{panics} panics in weir's log"));
    }
    Ok(Report {
        seed: settings.seed,
        totals,
        done,
        skipped: scene.skipped.clone(),
        checked,
        kept,
        problems,
        folder: folder.keep.then(|| folder.path.clone()),
    })
}

/// Lets the plan happen; how often each kind of fault did.
async fn torment(
    scene: &mut Scene,
    load: &Load,
    events: &[Event],
    settings: &Settings,
    tell: &dyn Fn(&str),
) -> Vec<(Kind, u64)> {
    let began = Instant::now();
    let mut told = began;
    let mut done: Vec<(Kind, u64)> = scene.kinds.iter().map(|kind| (*kind, 0)).collect();
    let mut left = events.iter();
    let mut next = left.next();
    loop {
        let until = next.map_or(settings.time, |event| event.at);
        let at = began + until;
        if Instant::now() < at {
            sleep_until(at.min(Instant::now() + LOOK)).await;
            scene.look_after();
        } else if let Some(event) = next {
            if event.begins
                && let Some((_, count)) = done
                    .iter_mut()
                    .find(|(kind, _)| *kind == event.fault.kind())
            {
                *count += 1;
            }
            scene.apply(*event).await;
            next = left.next();
        } else {
            return done;
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            let faults: u64 = done.iter().map(|(_, count)| count).sum();
            tell(&format!(
                "{} s: {} sent, {} answered, {faults} faults, {} connections",
                began.elapsed().as_secs(),
                load.counters.sent.load(Ordering::Relaxed),
                load.counters.answered.load(Ordering::Relaxed),
                load.counters.connects.load(Ordering::Relaxed),
            ));
        }
    }
}

/// Waits until everybody has what is owed to them, or nothing comes any more.
async fn drain(scene: &mut Scene, load: &Load, logs: &Logs, tell: &dyn Fn(&str)) {
    let began = Instant::now();
    let (mut before, mut changed, mut told) = (Vec::new(), began, began);
    while began.elapsed() < DRAIN {
        sleep(Duration::from_secs(1)).await;
        scene.look_after();
        let counts = scene.counts(load).await;
        if counts != before {
            (before, changed) = (counts, Instant::now());
        } else if check(scene, load, logs, &mut Vec::new())
            .await
            .is_ok_and(|all| all.iter().all(|checked| checked.verdict.lost == 0))
        {
            return;
        }
        if changed.elapsed() > STALL {
            return;
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(&format!("still coming: {before:?}"));
        }
    }
}

/// Holds what everybody got against what was promised.
async fn check(
    scene: &Scene,
    load: &Load,
    logs: &Logs,
    problems: &mut Vec<String>,
) -> Result<Vec<Checked>, String> {
    let mut checked = Vec::new();
    let mut add = |name: &str, arrivals: &[verdict::Arrival], copies| {
        checked.push(Checked {
            name: name.to_owned(),
            verdict: judge(&logs.senders, arrivals, copies),
        });
    };
    for watcher in &load.watchers {
        // A bridge sends again at QoS 1 what it had not heard of when its link broke.
        let copies = if watcher.name == "remote, QoS 1" {
            Copies::AnyNumber
        } else {
            Copies::AsPublished
        };
        let came = watcher.came.lock().clone();
        add(watcher.name, &came, copies);
    }
    let rows = site::rows(&scene.folder).await;
    let rows = rows.map_err(|error| format!("SQLite: {error}"))?;
    add("SQLite", &rows, Copies::AsPublished);
    if let Some(postgres) = &scene.postgres {
        add(
            "PostgreSQL",
            &postgres.arrivals().await?,
            Copies::AsPublished,
        );
    }
    let book = scene.webhook.book();
    add("webhook", &book.arrivals, Copies::AsPublished);
    if book.changed > 0 {
        problems.push(format!(
            "{} requests had an Idempotency-Key that had come with other rows",
            book.changed
        ));
    }
    Ok(checked)
}

/// Reads the retained messages; how many are as they must be, of how many.
async fn retained(
    scene: &Scene,
    seed: u64,
    logs: &Logs,
    problems: &mut Vec<String>,
) -> (usize, usize) {
    let mut reader = Load::new(seed);
    let port = scene.clients.port();
    reader.subscribe("retained", port, "kept/+", QoS::AtLeastOnce, false);
    let came = std::sync::Arc::clone(&reader.watchers[0].came);
    let all_there = async {
        while came.lock().len() < logs.keepers.len() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let _ = timeout(Duration::from_secs(10), all_there).await;
    reader.end().await;
    let came = came.lock();
    let first = u32::try_from(logs.senders.len()).unwrap_or(u32::MAX);
    let mut kept = 0;
    for (number, keeper) in (first..).zip(&logs.keepers) {
        let found = came.iter().find(|arrival| arrival.sender == number);
        let found = found.map(|arrival| arrival.number);
        if retained_holds(keeper, found) {
            kept += 1;
        } else {
            problems.push(format!(
                "the retained message of p{number} is {found:?}, of {} sent",
                keeper.messages.len()
            ));
        }
    }
    (kept, logs.keepers.len())
}

/// Ends weir as an operator does.
async fn end_weir(scene: &mut Scene, problems: &mut Vec<String>) {
    match timeout(STOP, scene.weir.stop()).await {
        Ok(Some(Ok(status))) if status.success() => {}
        Ok(Some(Ok(status))) => {
            problems.push(format!("weir ended with {status} when it was asked to"))
        }
        Ok(Some(Err(error))) => problems.push(format!("weir: {error}")),
        Ok(None) => problems.push("weir was not running at the end".to_owned()),
        Err(_) => problems.push(format!("weir did not end within {} s", STOP.as_secs())),
    }
}

/// For messages: where things are.
fn place(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
