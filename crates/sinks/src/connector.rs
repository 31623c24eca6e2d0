//! A far side that several sinks share: a pool, a client or one bridge, and what is known of its health.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::health::{Fault, Health};
use crate::bridge::link::BridgeLink;
use crate::bridge::plan::BridgePlan;
use crate::bridge::start::{Command, Standing};
use crate::bridge::{BridgeStats, Home};
use crate::codes;
use crate::config::connector::{BridgeConfig, ConnectorConfig, HealthConfig};
use crate::counters::LastError;
use crate::error::{ConfigError, SinkError};
use crate::http::HttpClient;
use crate::postgres::PostgresDatabase;
use crate::sqlite::SqliteDatabase;

mod health;

/// How long a bridge may take to leave: what is out is acknowledged first.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// A far side that is open: whether it is up shows in its state.
pub struct Connector {
    kind: crate::config::Kind,
    link: Link,
    health: Arc<Health>,
    /// What a bridge was opened with, or was given since.
    bridge: Mutex<Option<BridgeConfig>>,
}

/// What sinks use of a connector.
pub(crate) enum Link {
    Postgres(PostgresDatabase),
    Sqlite(SqliteDatabase),
    Http(HttpClient),
    Mqtt(BridgeLink),
}

/// Whether a far side is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing was asked of it yet, or nothing is to be sent (`start = "lazy"`).
    Idle,
    /// The last thing asked of it worked.
    Up,
    /// The link of a bridge is up, and something about it is wrong: the last error says what.
    Degraded,
    /// A connection is being made.
    Connecting,
    /// A connection was lost or refused; the next attempt comes later.
    Backoff,
    /// Credentials are refused.
    AuthFailed,
    /// Something else uses the identity.
    Evicted,
    /// The clock is not set, and the credentials need the time.
    ClockUnset,
    /// The last thing asked of it failed.
    Down,
    /// It was closed, or does not connect by itself (`start`).
    Stopped,
}

impl LinkState {
    /// The name in tools and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Connecting => "connecting",
            Self::Backoff => "backoff",
            Self::AuthFailed => "auth_failed",
            Self::Evicted => "evicted",
            Self::ClockUnset => "clock_unset",
            Self::Down => "down",
            Self::Stopped => "stopped",
        }
    }

    /// The name on `$SYS/bridges/NAME`: a bridge that is up is `connected` there.
    pub const fn bridge_name(self) -> &'static str {
        match self {
            Self::Up => "connected",
            other => other.name(),
        }
    }

    /// Whether messages cross.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

/// What is known of a connector.
#[derive(Clone, Debug)]
pub struct ConnectorState {
    /// Whether it is up.
    pub link: LinkState,
    /// Since when (milliseconds since the epoch).
    pub since_ms: i64,
    /// When something last worked.
    pub last_ok_ms: Option<i64>,
    /// The last failure, kept after recovery.
    pub last_error: Option<LastError>,
    /// When the next attempt comes, where one is planned.
    pub next_try_ms: Option<i64>,
    /// Filters of `in` that the remote refuses now, each with its reason. The others work.
    pub refused_filters: Vec<String>,
    /// Of a bridge: the address of the last attempt, `scheme://host:port`.
    pub address: Option<String>,
    /// Of a bridge: how many attempts there were since a link was lost, or since the start; it stays when one succeeds.
    pub attempt: u64,
}

impl ConnectorConfig {
    /// Checks the file by itself: warnings, or every mistake.
    ///
    /// # Errors
    /// Each mistake names its key and what would cure it.
    pub fn check(&self) -> Result<Vec<ConfigError>, Vec<ConfigError>> {
        match self {
            Self::Mqtt(bridge) => BridgePlan::check(bridge).map(|(_, warnings)| warnings),
            Self::Postgres(postgres) => PostgresDatabase::check(postgres)
                .map_err(|error| vec![error])
                .map(|()| Vec::new()),
            Self::Sqlite(sqlite) if sqlite.path.is_empty() => Err(vec![ConfigError::new(
                codes::KEY_MISSING,
                "path",
                "the path is empty",
            )]),
            Self::Sqlite(_) => Ok(Vec::new()),
            Self::Http(http) => match http.tls.settings() {
                Some(tls) if !tls.mistakes().is_empty() => Err(tls.mistakes()),
                Some(tls) if tls.insecure => Ok(vec![ConfigError::new(
                    "W3002",
                    "tls.insecure",
                    "the server's certificate is not checked",
                )]),
                _ => Ok(Vec::new()),
            },
        }
    }
}

impl Connector {
    /// Opens a connector without connecting; `base` is where relative paths (a SQLite file, certificates) start.
    ///
    /// # Errors
    /// Only what no waiting can cure: a URL or file that cannot be read.
    pub fn open(name: &str, config: &ConnectorConfig, base: &Path) -> Result<Arc<Self>, SinkError> {
        Self::open_at(name, config, base, None)
    }

    /// The same for a bridge that takes messages from the remote: into `home`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(
        name: &str,
        config: &ConnectorConfig,
        base: &Path,
        home: Option<Arc<dyn Home>>,
    ) -> Result<Arc<Self>, SinkError> {
        let health = Health::new(name);
        let link = match config {
            ConnectorConfig::Postgres(postgres) => {
                Link::Postgres(PostgresDatabase::open(postgres)?)
            }
            ConnectorConfig::Sqlite(sqlite) => Link::Sqlite(SqliteDatabase::open(sqlite, base)?),
            ConnectorConfig::Http(http) => Link::Http(HttpClient::open(http, base)?),
            ConnectorConfig::Mqtt(bridge) => {
                let (plan, _) =
                    BridgePlan::check(bridge).map_err(|errors| config_error(&errors))?;
                let health = Arc::clone(&health);
                if let Some(home) = &home {
                    health.tells(home);
                }
                Link::Mqtt(BridgeLink::new(plan, base.to_owned(), health, home))
            }
        };
        let bridge = match config {
            ConnectorConfig::Mqtt(bridge) => Some((**bridge).clone()),
            _ => None,
        };
        let connector = Arc::new(Self {
            kind: config.kind(),
            link,
            health,
            bridge: Mutex::new(bridge),
        });
        match config {
            ConnectorConfig::Postgres(postgres) => watch(&connector, &postgres.health),
            ConnectorConfig::Sqlite(sqlite) => watch(&connector, &sqlite.health),
            // A web server has no request without consequences; a bridge pings by itself.
            ConnectorConfig::Http(_) | ConnectorConfig::Mqtt(_) => {}
        }
        Ok(connector)
    }

    /// The name of its file.
    pub fn name(&self) -> &str {
        self.health.name()
    }

    /// Its type.
    pub fn kind(&self) -> &'static str {
        self.kind.name()
    }

    /// What is known of it.
    pub fn state(&self) -> ConnectorState {
        self.health.state()
    }

    /// Takes another configuration without a new connection, where only the topics of a bridge have changed; false where
    /// it needs another connector.
    pub fn adopt(&self, config: &ConnectorConfig) -> bool {
        let (Link::Mqtt(link), ConnectorConfig::Mqtt(new)) = (&self.link, config) else {
            return false;
        };
        let mut bridge = self.bridge.lock();
        let same = bridge.as_ref().is_some_and(|old| old.connects_like(new));
        let Ok((plan, _)) = BridgePlan::check(new) else {
            return false;
        };
        if same {
            *bridge = Some((**new).clone());
            link.reroute(plan);
        }
        same
    }

    /// Connects a bridge whose topics cross by themselves; others wait for the first sink.
    pub fn start(&self) {
        let has_routes = self
            .bridge
            .lock()
            .as_ref()
            .is_some_and(BridgeConfig::has_routes);
        if let (Link::Mqtt(link), true) = (&self.link, has_routes) {
            link.start();
        }
    }

    /// Tells a bridge to connect, whatever its `start` says. Resolves when it has, or could not within its
    /// `connect_timeout`.
    ///
    /// # Errors
    /// Why there is no link yet. A bridge that is no `once` goes on trying.
    pub async fn connect(&self) -> Result<(), SinkError> {
        let Link::Mqtt(link) = &self.link else {
            return Ok(());
        };
        link.start();
        link.tell(Command::Start);
        let spent = async {
            match link.standing() {
                Some(mut standing) => {
                    // The sender lives as long as the link does.
                    let _ = standing.wait_for(|standing| !standing.is_awake()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            up = link.up(link.plan().connect_timeout) => up.map(|_| ()),
            () = spent => Err(link.why_down()),
        }
    }

    /// Tells a bridge to end its link, and to make none before it is told to. Resolves when the remote has been told.
    ///
    /// # Errors
    /// When the bridge would connect again by itself (`start = "automatic"`).
    pub async fn disconnect(&self) -> Result<(), SinkError> {
        let Link::Mqtt(link) = &self.link else {
            return Ok(());
        };
        let Some(standing) = link.standing() else {
            let message = "the bridge connects by itself: it has `start = \"automatic\"`";
            return Err(SinkError::new(codes::NOT_STOPPED, message));
        };
        link.tell(Command::Stop);
        let has_gone = link.has_gone(LEAVES_WITHIN).await;
        // It may have been waiting to try again. One that was told to start meanwhile shows what it does.
        let standing = *standing.borrow();
        if has_gone && !standing.is_awake() {
            self.health.set(standing.at_rest());
        }
        Ok(())
    }

    /// Takes the place of another connector of this name: what a bridge was told holds.
    pub fn goes_on_like(&self, old: &Self) {
        let (Link::Mqtt(link), Link::Mqtt(old)) = (&self.link, &old.link) else {
            return;
        };
        if let Some(old) = old.standing() {
            link.goes_on_like(*old.borrow());
        }
    }

    /// Whether it has no connection, though it should have one.
    pub fn is_down(&self) -> bool {
        let waits = self
            .standing()
            .is_some_and(|standing| !standing.borrow().is_missed());
        let fine = matches!(
            self.state().link,
            LinkState::Up | LinkState::Degraded | LinkState::Idle | LinkState::Connecting
        );
        !(waits || fine)
    }

    /// Whether a bridge is to have a link now, and every change of that; `None` where it always is.
    pub(crate) fn standing(&self) -> Option<watch::Receiver<Standing>> {
        match &self.link {
            Link::Mqtt(link) => link.standing(),
            _ => None,
        }
    }

    /// Whether topics cross a bridge by themselves.
    pub fn has_routes(&self) -> bool {
        self.bridge
            .lock()
            .as_ref()
            .is_some_and(BridgeConfig::has_routes)
    }

    /// A sink that needs the session at the remote of a bridge will use it: before the first of its sinks connects it.
    pub fn keep_session(&self) {
        if let Link::Mqtt(link) = &self.link {
            link.keep_session();
        }
    }

    /// Only queues with these epochs are filled or hold rows: what a bridge remembers of others is dropped. May wait for a
    /// file.
    ///
    /// # Errors
    /// When that cannot be read or written.
    pub fn keep_lanes(&self, epochs: &[u64]) -> std::io::Result<()> {
        match &self.link {
            Link::Mqtt(link) => link.keep_lanes(epochs),
            _ => Ok(()),
        }
    }

    /// What a bridge does by itself; `None` for other connectors.
    pub fn bridge_plan(&self) -> Option<Arc<BridgePlan>> {
        match &self.link {
            Link::Mqtt(link) => Some(link.plan()),
            _ => None,
        }
    }

    /// Resolves when a bridge has a link; at once for other connectors.
    pub async fn linked(&self) {
        if let Link::Mqtt(link) = &self.link {
            while !link.has_come_up(Duration::from_secs(60)).await {}
        }
    }

    /// Nothing is taken from the remote of a bridge any more.
    pub fn take_no_more(&self) {
        if let Link::Mqtt(link) = &self.link {
            link.take_no_more();
        }
    }

    /// Ends the connection of a bridge, whoever holds the connector. Resolves when the remote was told.
    pub async fn end(&self) {
        if let Link::Mqtt(link) = &self.link {
            link.end().await;
        }
    }

    /// What a bridge has done; nothing for other connectors.
    pub fn bridge_stats(&self) -> Option<&BridgeStats> {
        match &self.link {
            Link::Mqtt(link) => Some(link.stats()),
            _ => None,
        }
    }

    /// Connections of a pool that are in use.
    pub fn pool_in_use(&self) -> Option<u32> {
        match &self.link {
            Link::Postgres(database) => Some(database.in_use()),
            Link::Sqlite(database) => Some(database.in_use()),
            Link::Http(_) | Link::Mqtt(_) => None,
        }
    }

    /// A real round trip to the far side, within `limit`. An HTTP connector has no address of its own to ask.
    ///
    /// # Errors
    /// Why the far side did not answer.
    pub async fn check(&self, limit: Duration) -> Result<(), SinkError> {
        let asked = async {
            match &self.link {
                Link::Postgres(database) => database.ping().await,
                Link::Sqlite(database) => database.ping().await,
                Link::Http(_) => Ok(()),
                Link::Mqtt(link) => {
                    link.start();
                    link.tell(Command::Start);
                    link.up(limit).await.map(|_| ())
                }
            }
        };
        let answer = match tokio::time::timeout(limit, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(SinkError::new(
                codes::TIMEOUT,
                "the far side did not answer in time",
            )),
        };
        if !matches!(self.link, Link::Mqtt(_)) {
            self.report(answer.as_ref().err());
        }
        answer
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// A sink tells how its last attempt went. A bridge knows better itself.
    pub(crate) fn report(&self, error: Option<&SinkError>) {
        if matches!(self.link, Link::Mqtt(_)) {
            return;
        }
        match error {
            None => self.health.ok(),
            // A missing table is the sink's business: the far side has answered.
            Some(error) if error.is_configuration() => {}
            Some(error) => self.health.failed(error, LinkState::Down, None),
        }
    }
}

/// Asks the far side now and then, for as long as anybody holds the connector: a database that hangs without closing
/// its connections shows only so.
fn watch(connector: &Arc<Connector>, health: &HealthConfig) {
    let (weak, every, limit) = (Arc::downgrade(connector), health.every.0, health.timeout.0);
    if every.is_zero() {
        return;
    }
    // Without a runtime (a check of files alone) there is nothing to keep watch for.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(connector) = weak.upgrade() else {
                    return;
                };
                // What it finds is in the state.
                let _ = connector.check(limit).await;
            }
        });
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.name())
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

fn config_error(errors: &[ConfigError]) -> SinkError {
    let code = errors.first().map_or(codes::BRIDGE, |error| error.code);
    let text = errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    SinkError::new(code, text).configuration()
}
