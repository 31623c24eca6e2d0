//! A running weir: files checked, sinks open, listeners bound, everything stopped in order again.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weir_sinks::bridge::Home;

use crate::admin::{self, Admin};
use crate::auth::Access;
use crate::bridge_home::BridgeHome;
use crate::bridge_status;
use crate::broker::{Broker, ListenerSettings, Socket, Transport, WebSocketSettings};
use crate::capture::Capture;
use crate::config::{Bind, Config, Durable, Listener, StartPolicy};
use crate::pipeline::Pipeline;
use crate::pipeline::world::{World, now_ms};
use crate::problem::Problem;
use crate::project::watch::Changes;
use crate::reload::{self, AccessFiles, Certificates, Project, ReloadReport, Reloader};
use crate::store::disk::{tell_gap, tell_missing};
use crate::store::{Disk, Done, Durability, Persist, State, Storage, StorageError};

/// How long clients and sinks get to finish at the end.
const GRACE: Duration = Duration::from_secs(10);

/// Why a broker cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is not valid; exit code 5.
    #[error("the configuration is not valid")]
    Config(Vec<Problem>),
    /// A port or the data folder cannot be used; exit code 6.
    #[error("{0}")]
    Unusable(String),
}

/// A running weir.
pub struct App {
    /// The MQTT server.
    pub broker: Broker,
    /// The live rules.
    pub pipeline: Arc<Pipeline>,
    /// Files to live rules.
    pub reloader: Arc<Reloader>,
    /// Where MQTT clients connect over the network.
    pub mqtt: Vec<SocketAddr>,
    /// Every listener: how clients reach it, and where it is.
    pub listeners: Vec<(Transport, String)>,
    /// Where health, metrics and reload are.
    pub http: SocketAddr,
    /// What the first load of the files gave.
    pub first_load: ReloadReport,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    store: Option<Arc<Disk>>,
    capture: Option<Arc<Capture>>,
    /// Held as long as the broker runs: two brokers on one data folder would mix their dead letters.
    _lock: File,
}

impl App {
    /// Starts a broker as configured. Must be called inside a multi-thread tokio runtime.
    ///
    /// # Errors
    /// When the configuration, a port or the data folder cannot be used.
    pub async fn start(
        config: &Config,
        project: Project,
        access: Access,
    ) -> Result<Self, StartError> {
        let doors = doors(config)?;
        let data_dir = config.data_dir();
        let lock = lock(&data_dir)?;
        if let Some(devices) = &access.devices {
            devices.remember_in(&data_dir).map_err(|error| {
                let file = data_dir.join("devices.seen");
                StartError::Unusable(format!("[E1603] {}: {error}", file.display()))
            })?;
        }
        let world = World::new(&config.node(), time_zone(&config.rules.timezone)?);
        let pipeline = Arc::new(Pipeline::new(
            world.identified(&reload::store_id(&data_dir)),
        ));
        let store = storage(config, &data_dir)?.map(Arc::new);
        let reloader = Arc::new(Reloader::new(
            project,
            config,
            &data_dir,
            Arc::clone(&pipeline),
            store.clone().map(|store| store as Arc<dyn Storage>),
        ));
        let settings = config.broker_settings();
        let home = BridgeHome::new(&data_dir, &settings);
        reloader.belongs_to(Arc::clone(&home) as Arc<dyn Home>);
        let certificates: Vec<_> = doors
            .iter()
            .filter_map(|(_, settings)| settings.tls.clone())
            .collect();
        reloader.accompany(Arc::new(Certificates(certificates)));
        reloader.letters().take_files(&data_dir).await;
        // Before any listener opens: the first publish meets every rule.
        let first_load = reloader.reload(false).await;
        if config.rules.start_policy == StartPolicy::Strict && first_load.refused > 0 {
            return Err(StartError::Config(first_load.problems().cloned().collect()));
        }
        reloader.tell_what_waits_for_nobody();
        let capture = capture(config, &data_dir)?;
        let mut builder = Broker::builder()
            .settings(settings)
            .pipeline(Arc::clone(&pipeline))
            .authenticator(access.authenticator)
            .authorizer(access.authorizer)
            .banned(access.banned);
        if let Some(scram) = access.scram {
            builder = builder.mechanism(scram);
        }
        if let Some(store) = &store {
            builder = builder.storage(StaysOpen(Arc::clone(store)));
        }
        if let Some(capture) = &capture {
            builder = builder.capture(Arc::clone(capture));
        }
        let broker = builder
            .start()
            .await
            .map_err(|error| StartError::Unusable(error.to_string()))?;
        home.begin(&broker);
        reloader.start_bridges(&broker);
        reloader.accompany(Arc::new(AccessFiles {
            files: access.files,
            broker: broker.clone(),
        }));
        warn_of_silence(config);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let told = bridge_status::tell(
            broker.clone(),
            Arc::clone(&reloader),
            home,
            ended(stopped.clone()),
        );
        tasks.spawn(told);
        let mut mqtt = Vec::new();
        let mut listeners = Vec::new();
        for (listener, mut settings) in doors {
            let socket = open(&listener)?;
            let place = match socket.local_addr() {
                Some(address) => {
                    mqtt.push(address);
                    address.to_string()
                }
                None => listener.bind.to_string(),
            };
            if listener.name.is_none() {
                // With the port that it got.
                settings.name = format!("{}:{place}", settings.transport.name()).into();
            }
            listeners.push((settings.transport, place));
            let (broker, stopped) = (broker.clone(), ended(stopped.clone()));
            tasks.spawn(async move { broker.serve(socket, settings, stopped).await });
        }
        let socket = bind(config.http.bind, "http.bind").await?;
        let http = local(&socket)?;
        let admin = Admin {
            broker: broker.clone(),
            pipeline: Arc::clone(&pipeline),
            reloader: Arc::clone(&reloader),
            devices: access.devices,
            started_s: now_ms() / 1000,
            capture: capture.clone(),
            mqtt: web_listener(config, http).map(|settings| Arc::new(broker.listener(settings))),
        };
        tasks.spawn(admin::serve(socket, admin, ended(stopped.clone())));
        if config.rules.watch && !reloader.folders().is_empty() {
            tasks.spawn(watch_files(Arc::clone(&reloader), ended(stopped)));
        }
        Ok(Self {
            broker,
            pipeline,
            reloader,
            mqtt,
            listeners,
            http,
            first_load,
            stop,
            tasks,
            store,
            capture,
            _lock: lock,
        })
    }

    /// Stops: no new connections, clients say good-bye, sinks deliver what they have within a grace period.
    ///
    /// Returns how many rows could not be delivered in time.
    pub async fn stop(mut self) -> u64 {
        // Nobody may be left to hear it; that is fine too.
        let _ = self.stop.send(true);
        self.broker.stop(GRACE).await;
        let left = self.reloader.close(GRACE).await;
        // Last: how far the sinks have come is written, too.
        if let Some(store) = &self.store {
            store.flush();
        }
        if let Some(capture) = &self.capture {
            capture.flush();
        }
        // A request that never ends must not keep the process.
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(1), ended)
            .await
            .is_err()
        {
            self.tasks.abort_all();
        }
        left
    }
}

/// The store of a broker whose sinks go on when the clients are gone: it is flushed behind them.
struct StaysOpen(Arc<Disk>);

impl Storage for StaysOpen {
    fn durability(&self) -> Durability {
        self.0.durability()
    }

    fn commit(&self, batch: Vec<Persist>, done: Done) {
        self.0.commit(batch, done);
    }

    fn has_room(&self) -> bool {
        self.0.has_room()
    }

    fn load(&self, each: &mut dyn FnMut(Persist)) -> Result<(), StorageError> {
        self.0.load(each)
    }

    fn tell_what_is_written(&self) {
        self.0.tell_what_is_written();
    }

    fn load_state(&self) -> Result<State, StorageError> {
        self.0.load_state()
    }
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // A dropped sender means the same as `true`.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn watch_files(reloader: Arc<Reloader>, stopped: impl Future<Output = ()>) {
    let folders = reloader.folders();
    let paths: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let mut changes = Changes::of(&paths);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = changes.next() => {
                if let Some(report) = reloader.reload_if_changed().await {
                    report.log();
                }
            }
        }
    }
}

/// Every listener with what it decides for itself; its certificates are read before anything is opened.
fn doors(config: &Config) -> Result<Vec<(Listener, ListenerSettings)>, StartError> {
    let (mut doors, mut problems) = (Vec::new(), Vec::new());
    for (at, listener) in config.listeners().into_iter().enumerate() {
        match listener.settings(at, &config.auth) {
            Ok(settings) => doors.push((listener, settings)),
            Err(problem) => problems.push(*problem),
        }
    }
    if problems.is_empty() {
        Ok(doors)
    } else {
        Err(StartError::Config(problems))
    }
}

/// MQTT on the HTTP port.
fn web_listener(config: &Config, http: SocketAddr) -> Option<ListenerSettings> {
    let path = config.http.mqtt_path.clone()?;
    Some(ListenerSettings {
        name: format!("http:{http}").into(),
        transport: Transport::Ws,
        allow_anonymous: Listener::tcp(http).admits_anonymous(&config.auth),
        web_socket: Some(WebSocketSettings {
            path,
            ..WebSocketSettings::default()
        }),
        ..ListenerSettings::default()
    })
}

fn open(listener: &Listener) -> Result<Socket, StartError> {
    let socket = match &listener.bind {
        Bind::Address(address) => Socket::tcp(*address),
        Bind::Path(path) => Socket::unix(path, listener.mode()),
    };
    socket.map_err(|error| in_use("an MQTT listener", &listener.bind, &error))
}

fn in_use(what: &str, place: &impl std::fmt::Display, error: &std::io::Error) -> StartError {
    StartError::Unusable(format!(
        "[E1601] {what} cannot use {place}: {error}; is another broker running? Choose another port, or 0 for a free one"
    ))
}

/// Clients from the network may do nothing that nobody allows. Whoever did not mean that should know why.
fn warn_of_silence(config: &Config) {
    let auth = &config.auth;
    let open = config
        .listeners()
        .iter()
        .any(|listener| !listener.is_local());
    if open && auth.acl_file.is_none() && auth.no_match.is_none() {
        tracing::warn!(
            "nothing says what clients from the network may do, so they may publish and subscribe to nothing: \
             set auth.acl_file, or auth.no_match = \"allow\""
        );
    }
}

async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| in_use(what, &address, &error))
}

fn local(socket: &TcpListener) -> Result<SocketAddr, StartError> {
    socket
        .local_addr()
        .map_err(|error| StartError::Unusable(format!("[E1601] no local address: {error}")))
}

/// Opens the store, and says what a crash or a bad disk has left in it.
fn storage(config: &Config, data_dir: &Path) -> Result<Option<Disk>, StartError> {
    let durability = match config.durability {
        Durable::Fsync => Durability::Fsync,
        Durable::Os => Durability::Os,
        Durable::Memory => return Ok(None),
    };
    let folder = data_dir.join("store");
    let (disk, recovered) =
        Disk::open_reserving(&folder, durability, config.store.reserve.bytes() as u64).map_err(
            |error| StartError::Unusable(format!("[E1603] {}: {error}", folder.display())),
        )?;
    if recovered.torn_bytes > 0 {
        tracing::info!(
            bytes = recovered.torn_bytes,
            "the store ended in a write that a crash has torn{}",
            if durability == Durability::Fsync {
                "; it was never acknowledged"
            } else {
                "; it may have been acknowledged, since durability is not \"fsync\""
            }
        );
    }
    for damage in &recovered.damage {
        tracing::error!(
            code = "E1604",
            file = damage.file,
            at = damage.at,
            bytes = damage.bytes,
            copy = damage.copy,
            "a file of the store is damaged: what is sound is there, the rest is lost"
        );
    }
    for missing in &recovered.missing {
        tell_missing(missing);
    }
    for gap in &recovered.gaps {
        tell_gap(gap);
    }
    Ok(Some(disk))
}

/// Opens the capture, where there is one.
fn capture(config: &Config, data_dir: &Path) -> Result<Option<Arc<Capture>>, StartError> {
    let filters = config.capture.topic_filters();
    if filters.is_empty() {
        return Ok(None);
    }
    let opened = Capture::open(data_dir, filters, config.capture.bounds());
    opened.map(|capture| Some(Arc::new(capture))).map_err(|error| {
        let folder = crate::capture::folder(data_dir);
        StartError::Unusable(format!(
            "[E1607] the capture in {} cannot be used: {error}; leave out [capture] to start without it",
            folder.display()
        ))
    })
}

fn lock(data_dir: &Path) -> Result<File, StartError> {
    let unusable = |error: std::io::Error| {
        StartError::Unusable(format!("[E1602] data_dir {}: {error}", data_dir.display()))
    };
    make_private(data_dir).map_err(unusable)?;
    let file = File::create(data_dir.join("lock")).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(StartError::Unusable(format!(
            "[E1602] data_dir {} is in use by another weir; give this one its own with --set data_dir=…",
            data_dir.display()
        ))),
    }
}

/// The data folder holds payloads: nobody else may read it.
fn make_private(data_dir: &Path) -> std::io::Result<()> {
    if data_dir.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(data_dir)
}

/// `system`, an IANA name, or an offset such as `+08:00`.
///
/// # Errors
/// E1006 when it is none of these.
pub fn time_zone(name: &str) -> Result<TimeZone, StartError> {
    if name == "system" {
        return Ok(system_time_zone());
    }
    TimeZone::get(name)
        .ok()
        .or_else(|| offset(name))
        .ok_or_else(|| {
            StartError::Config(vec![
                Problem::whole(
                    "weir.toml",
                    "E1006",
                    format!("rules.timezone `{name}` is not known"),
                )
                .help(
                    "write an IANA name such as Asia/Shanghai, an offset such as +08:00, or system",
                ),
            ])
        })
}

/// The zone of the environment: an offset alone, which is no `TZ` that the system knows, is taken for what it says.
pub fn system_time_zone() -> TimeZone {
    let offset = std::env::var("TZ").ok().and_then(|text| offset(&text));
    offset.unwrap_or_else(TimeZone::system)
}

/// The zone of an offset such as `+08:00`, which POSIX writes with the sign the other way round.
fn offset(text: &str) -> Option<TimeZone> {
    let flipped = match text.split_at_checked(1)? {
        ("+", rest) => format!("-{rest}"),
        ("-", rest) => format!("+{rest}"),
        _ => return None,
    };
    TimeZone::posix(&format!("OFFSET{flipped}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_names_or_offsets() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(
            time_zone("Asia/Shanghai").unwrap().to_offset(at).seconds(),
            8 * 3600
        );
        assert_eq!(
            time_zone("-03:30").unwrap().to_offset(at).seconds(),
            -(3 * 3600 + 1800)
        );
        assert!(time_zone("Mars/Olympus").is_err());
    }

    #[tokio::test]
    async fn a_data_folder_serves_one_broker_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).is_err());
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }
}
