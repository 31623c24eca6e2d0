//! `weir demo`: the main job at once, with nothing else installed (user-experience §1).
//!
//! The real broker, devices over real TCP, a SQLite file, a webhook receiver, and a cloud that checks signatures.
//! At the end the counts of all of them must agree: it is the smoke test too.

mod cloud;
mod database;
mod webhook;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_mqtt::QoS;

use crate::app::{App, StartError};
use crate::auth::access_list::{AccessList, DenyAction};
use crate::broker::{Broker, BrokerSettings, ListenerSettings};
use crate::client::{Client, ClientError, Options};
use crate::config::toml_file::{Outside, Process};
use crate::config::{Config, Listener};
use crate::pipeline::world::now_ms;
use crate::problem::Source;
use crate::project::files::{FileId, Files};
use crate::reload::Project;
use database::{Arrived, Database};
use webhook::Webhook;

const DEVICES: u64 = 6;
const EVERY: Duration = Duration::from_millis(500);
/// The last rows may still be on their way when the devices stop.
const SETTLE: Duration = Duration::from_secs(20);

const RULES: [(&str, &str); 4] = [
    ("hot", include_str!("../../../../rules/demo/hot.toml")),
    ("latest", include_str!("../../../../rules/demo/latest.toml")),
    ("alert", include_str!("../../../../rules/demo/alert.toml")),
    ("cloud", include_str!("../../../../rules/demo/cloud.toml")),
];
const CLOUD_CONNECTOR: &str = include_str!("../../../../rules/connectors/cloud.toml");

/// A running demo.
pub struct Demo {
    app: App,
    database: Database,
    before: Arrived,
    webhook: Webhook,
    cloud: Broker,
    /// What the devices sent and the broker acknowledged.
    sent: Arc<AtomicU64>,
    /// What a plain subscriber got: the user's own messages count too.
    published: Arc<AtomicU64>,
    subscriber: tokio::task::JoinHandle<()>,
    started: Instant,
    stop: watch::Sender<bool>,
    devices: JoinSet<Result<(), String>>,
    data_dir: PathBuf,
}

/// How far a demo is; at the end, its result.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The version of this document.
    pub v: u32,
    /// Whether all counts agree.
    pub ok: bool,
    /// How long it has run.
    pub seconds: f64,
    /// Messages on `/dev/+/up`, as a plain subscriber has counted them.
    pub published: u64,
    /// The rules.
    pub rules: Vec<RuleSummary>,
    /// What does not agree.
    pub differences: Vec<String>,
}

/// One rule of the demo.
#[derive(Clone, Debug, Serialize)]
pub struct RuleSummary {
    /// Its id.
    pub rule: &'static str,
    /// Messages that matched.
    pub matched: u64,
    /// Messages that made a row.
    pub passed: u64,
    /// Evaluation errors.
    pub errors: u64,
    /// What the far side itself has counted.
    pub arrived: u64,
    /// The far side, for people.
    pub sink: String,
}

/// What the demo's files take from outside: its own addresses.
struct Addresses {
    database: String,
    webhook: SocketAddr,
    cloud: SocketAddr,
    secret: String,
}

impl Outside for Addresses {
    fn value(&self, kind: &str, name: &str) -> Result<String, String> {
        match (kind, name) {
            ("env", "WEIR_DEMO_DB") => Ok(self.database.clone()),
            ("env", "WEIR_DEMO_HOOK") => Ok(format!("http://{}", self.webhook)),
            ("env", "ALIYUN_URL") => Ok(format!("mqtt://{}", self.cloud)),
            ("env", "ALIYUN_DEVICE_SECRET") => Ok(self.secret.clone()),
            _ => Process.value(kind, name),
        }
    }
}

impl Demo {
    /// Starts everything in `data_dir`; `postgres` is a database's URL that takes SQLite's place.
    ///
    /// # Errors
    /// When a part cannot start.
    pub async fn start(data_dir: &Path, postgres: Option<&str>) -> Result<Self, StartError> {
        let unusable = |what: &str, error: &dyn std::fmt::Display| {
            StartError::Unusable(format!("{what}: {error}"))
        };
        std::fs::create_dir_all(data_dir)
            .map_err(|error| unusable(&data_dir.display().to_string(), &error))?;
        let file = data_dir.join("demo.db");
        let database = Database::open(&file, postgres)
            .await
            .map_err(|error| unusable("the demo's database", &error))?;
        let before = database.arrived().await;
        let webhook = Webhook::default();
        let hook = webhook
            .start()
            .await
            .map_err(|error| unusable("the demo's webhook", &error))?;
        let secret = format!("{:032x}", rand::random::<u128>());
        let (cloud, cloud_address) = start_cloud(&secret)
            .await
            .map_err(|error| unusable("the demo's cloud", &error))?;
        let outside = Addresses {
            database: postgres.map_or_else(|| file.display().to_string(), str::to_owned),
            webhook: hook,
            cloud: cloud_address,
            secret,
        };
        let config = config(data_dir).await;
        let project = Project::BuiltIn(files(database.connector()), Box::new(outside));
        let app = App::start(&config, project, crate::auth::Access::default()).await?;
        if app.first_load.refused > 0 {
            return Err(StartError::Config(
                app.first_load.problems().cloned().collect(),
            ));
        }
        let (stop, stopped) = watch::channel(false);
        let (sent, published) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let subscriber = subscriber(app.mqtt[0], Arc::clone(&published))
            .await
            .map_err(|error| unusable("the demo's subscriber", &error))?;
        let mut devices = JoinSet::new();
        for number in 0..DEVICES {
            devices.spawn(device(
                app.mqtt[0],
                number,
                Arc::clone(&sent),
                stopped.clone(),
            ));
        }
        Ok(Self {
            app,
            database,
            before,
            webhook,
            cloud,
            sent,
            published,
            subscriber,
            started: Instant::now(),
            stop,
            devices,
            data_dir: data_dir.to_path_buf(),
        })
    }

    /// The first lines of the screen.
    pub fn banner(&self) -> String {
        format!(
            "weir {}  demo   data {}   config built in (`weir init` writes one out)\nmqtt {}   http http://{}   Ctrl-C ends, data stays",
            env!("CARGO_PKG_VERSION"),
            self.data_dir.display(),
            self.app.mqtt[0],
            self.app.http,
        )
    }

    /// Where its broker listens.
    pub fn mqtt(&self) -> SocketAddr {
        self.app.mqtt[0]
    }

    /// How far it is.
    pub async fn summary(&self) -> Summary {
        let arrived = self.database.arrived().await;
        let published = self.published.load(Relaxed);
        let mut rules = Vec::new();
        for (id, _) in RULES {
            let Some(rule) = self.app.pipeline.rule(id) else {
                continue;
            };
            let counters = &rule.counters;
            let (arrived, sink) = match id {
                "hot" => (
                    positive(arrived.readings - self.before.readings),
                    format!("{}:readings", self.database.name()),
                ),
                "latest" => (
                    positive(arrived.writes - self.before.writes),
                    format!("{}:latest {} keys", self.database.name(), arrived.devices),
                ),
                "alert" => (self.webhook.hits(), "http (202)".to_owned()),
                _ => (
                    self.cloud.stats().messages_in[1].get(),
                    "mqtt aliyun acked".to_owned(),
                ),
            };
            rules.push(RuleSummary {
                rule: id,
                matched: counters.matched(),
                passed: counters.passed(),
                errors: counters.failed(),
                arrived,
                sink,
            });
        }
        let differences = differences(self.sent.load(Relaxed), published, &rules);
        Summary {
            v: 1,
            ok: differences.is_empty(),
            seconds: self.started.elapsed().as_secs_f64(),
            published,
            rules,
            differences,
        }
    }

    /// Stops the devices, lets the last rows arrive, and says whether all counts agree.
    pub async fn finish(mut self) -> Summary {
        // Nobody may be left to hear it; that is fine too.
        let _ = self.stop.send(true);
        let mut failures = Vec::new();
        while let Some(ended) = self.devices.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => failures.push(reason),
                Err(error) => failures.push(error.to_string()),
            }
        }
        let deadline = Instant::now() + SETTLE;
        let mut summary = self.summary().await;
        while !summary.ok && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            summary = self.summary().await;
        }
        self.subscriber.abort();
        self.app.stop().await;
        self.cloud.stop(Duration::from_secs(1)).await;
        summary.differences.extend(failures);
        summary.ok = summary.differences.is_empty();
        summary
    }
}

fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Published = matched, and passed = arrived, for every rule.
fn differences(sent: u64, published: u64, rules: &[RuleSummary]) -> Vec<String> {
    let mut differences = Vec::new();
    for rule in rules {
        if rule.matched != published {
            differences.push(format!(
                "{}: {} messages were published, {} matched",
                rule.rule, published, rule.matched
            ));
        }
        if rule.passed != rule.arrived {
            differences.push(format!(
                "{}: {} rows were made, {} arrived at {}",
                rule.rule, rule.passed, rule.arrived, rule.sink
            ));
        }
        // The devices send nothing that a rule cannot read; a user who tries things may.
        if rule.errors > 0 && sent == published {
            differences.push(format!("{}: {} evaluation errors", rule.rule, rule.errors));
        }
    }
    if rules.len() != RULES.len() {
        differences.push(format!("{} of {} rules are live", rules.len(), RULES.len()));
    }
    if sent == 0 {
        differences.push("nothing was published".to_owned());
    }
    if published < sent {
        differences.push(format!(
            "the devices sent {sent} messages, a subscriber got {published}"
        ));
    }
    differences
}

/// Counts what a plain subscriber gets, independently of the rules.
async fn subscriber(
    broker: SocketAddr,
    published: Arc<AtomicU64>,
) -> Result<tokio::task::JoinHandle<()>, ClientError> {
    let options = Options {
        client_id: "demo-counter".to_owned(),
        ..Options::default()
    };
    let mut client = Client::connect(broker, &options).await?;
    client
        .subscribe(&["/dev/+/up".to_owned()], QoS::AtLeastOnce)
        .await?;
    Ok(tokio::spawn(async move {
        while client.next_message().await.is_ok() {
            published.fetch_add(1, Relaxed);
        }
    }))
}

fn files(database: &str) -> Files {
    let mut files = Files::default();
    for (id, text) in RULES {
        // The tables are there: see `Database::open`.
        let text = text.replace("\nenabled = false\n", "\nenabled = true\n");
        files.0.insert(
            FileId::rule(id),
            Source::new(format!("(built in) rules/demo/{id}.toml"), text),
        );
    }
    files.0.insert(
        FileId::connector("db"),
        Source::new("(built in) connectors/db.toml", database),
    );
    files.0.insert(
        FileId::connector("cloud"),
        Source::new("(built in) connectors/cloud.toml", CLOUD_CONNECTOR),
    );
    files
}

/// The usual ports where they are free, else others.
async fn config(data_dir: &Path) -> Config {
    let mut config = Config {
        data_dir: Some(data_dir.to_path_buf()),
        ..Config::default()
    };
    let bind = free_or_any(1883).await;
    config.listeners = Some(vec![Listener {
        max_connections: 1000,
        ..Listener::tcp(bind)
    }]);
    config.http.bind = free_or_any(18083).await;
    config.rules.watch = false;
    config
}

async fn free_or_any(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(wanted).await {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

async fn start_cloud(secret: &str) -> std::io::Result<(Broker, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let devices = cloud::knows(secret).map_err(|problems| {
        let problem = problems.first().map(ToString::to_string);
        std::io::Error::other(problem.unwrap_or_default())
    })?;
    let broker = Broker::builder()
        .settings(BrokerSettings {
            reserve_device_names: true,
            ..BrokerSettings::default()
        })
        .authenticator(devices)
        .authorizer(AccessList::new(None, None, DenyAction::Ignore))
        .start()
        .await
        .map_err(std::io::Error::other)?;
    let settings = ListenerSettings {
        name: "cloud".into(),
        max_connections: 100,
        allow_anonymous: false,
        ..ListenerSettings::default()
    };
    let server = broker.clone();
    tokio::spawn(async move {
        server
            .serve(listener, settings, std::future::pending())
            .await
    });
    Ok((broker, address))
}

/// One simulated device: the same readings in every run, over a real connection.
async fn device(
    broker: SocketAddr,
    number: u64,
    sent: Arc<AtomicU64>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(number + 1);
    let id = format!("d{}", number + 1);
    let options = Options {
        client_id: format!("demo-{id}"),
        ..Options::default()
    };
    let mut client = Client::connect(broker, &options)
        .await
        .map_err(|error| format!("device {id}: {error}"))?;
    let topic = format!("/dev/{id}/up");
    // Spread over the interval, so that the table moves evenly.
    let mut turn = tokio::time::interval_at(
        tokio::time::Instant::now() + EVERY.mul_f64(random.random_range(0.0..1.0)),
        EVERY,
    );
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        let temp = f64::from(random.random_range(200..340)) / 10.0;
        let hum = random.random_range(30..70);
        let payload = format!(r#"{{"temp":{temp},"hum":{hum},"ts":{}}}"#, now_ms());
        client
            .publish(&topic, Bytes::from(payload), QoS::AtLeastOnce, false)
            .await
            .map_err(|error| format!("device {id}: {error}"))?;
        sent.fetch_add(1, Relaxed);
    }
    client
        .disconnect()
        .await
        .map_err(|error| format!("device {id}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(rule: &'static str, matched: u64, passed: u64, arrived: u64) -> RuleSummary {
        RuleSummary {
            rule,
            matched,
            passed,
            errors: 0,
            arrived,
            sink: "x".to_owned(),
        }
    }

    #[test]
    fn counts_agree_only_when_every_rule_saw_everything_and_everything_arrived() {
        let good = [
            rule("hot", 9, 3, 3),
            rule("latest", 9, 9, 9),
            rule("alert", 9, 3, 3),
            rule("cloud", 9, 5, 5),
        ];
        assert!(differences(9, 9, &good).is_empty());
        let mut lost = good.clone();
        lost[3].arrived = 4;
        assert_eq!(differences(9, 9, &lost).len(), 1);
        assert!(!differences(0, 9, &good).is_empty());
        assert!(!differences(9, 9, &good[..3]).is_empty());
    }
}
