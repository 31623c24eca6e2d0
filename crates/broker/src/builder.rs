//! [`Broker::builder`]: a broker put together piece by piece; what is not said has a default that is safe.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::auth::anonymous::Anonymous;
use crate::auth::banned::Banned;
use crate::auth::enhanced::{Mechanism, Mechanisms};
use crate::auth::{AllowAll, Authenticator, Authorizer};
use crate::broker::{Broker, BrokerSettings, ListenerSettings};
use crate::capture::Capture;
use crate::config::Config;
use crate::driver::{Parts, Shared};
use crate::hooks::{
    AddressSettings, Addresses, ConnectStatusListener, Dispatcher, GuardedAuthenticator,
    GuardedAuthorizer, Hooks, Interceptor, MessageListener, SessionListener, UniqueId,
};
use crate::pipeline::Pipeline;
use crate::pipeline::world::World;
use crate::store::{Storage, StorageError};

/// Puts a [`Broker`] together.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let broker = weir::Broker::builder()
///     .listen("127.0.0.1:0")
///     .start()
///     .await?;
/// println!("MQTT on {}", broker.addresses()[0]);
/// # broker.stop(std::time::Duration::ZERO).await;
/// # Ok::<(), weir::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `start`"]
pub struct BrokerBuilder {
    settings: BrokerSettings,
    pipeline: Option<Arc<Pipeline>>,
    authenticator: Option<Arc<dyn Authenticator>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    mechanisms: Mechanisms,
    banned: Arc<ArcSwap<Banned>>,
    capture: Option<Arc<Capture>>,
    listen: Vec<Listen>,
    hooks: Hooks,
    addresses: Option<AddressSettings>,
    storage: Option<Arc<dyn Storage>>,
    #[cfg(feature = "jq")]
    jq_program: Option<std::path::PathBuf>,
}

#[derive(Clone)]
struct Listen {
    address: String,
    max_connections: Option<usize>,
    allow_anonymous: Option<bool>,
}

/// Why a broker cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address is none, or cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was given.
        address: String,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The threads cannot be had.
    #[error("no threads for the broker")]
    Threads(#[source] std::io::Error),
    /// The sessions that the storage has kept cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl BrokerBuilder {
    /// What a configuration file says of the MQTT server: its limits and its TCP listeners. What is said after this
    /// overrides the file.
    pub fn config(mut self, config: &Config) -> Self {
        self.settings = config.mqtt.settings();
        self.listen = config
            .listeners()
            .into_iter()
            .map(|listener| Listen {
                address: listener.bind.to_string(),
                max_connections: Some(listener.max_connections),
                allow_anonymous: config.auth.allow_anonymous,
            })
            .collect();
        self
    }

    /// Event loops for plain TCP, where the settings do not say how many.
    pub(crate) fn loops(mut self, threads: Option<NonZeroUsize>) -> Self {
        self.settings.threads = self.settings.threads.or(threads);
        self
    }

    /// The limits of the MQTT server.
    pub fn settings(mut self, settings: BrokerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The rules that messages pass. Without: none.
    pub fn pipeline(mut self, pipeline: Arc<Pipeline>) -> Self {
        self.pipeline = Some(pipeline);
        self
    }

    /// Who may connect. Without: everyone on loopback, nobody from elsewhere.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// What clients may publish and subscribe to. Without: everything.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Some(Arc::new(authorizer));
        self
    }

    /// A way to sign in beside passwords: the authentication method of an MQTT 5 client. May be called several times.
    pub fn mechanism(mut self, mechanism: Arc<dyn Mechanism>) -> Self {
        self.mechanisms = self.mechanisms.with(mechanism);
        self
    }

    /// What takes messages for a while.
    pub(crate) fn capture(mut self, capture: Arc<Capture>) -> Self {
        self.capture = Some(capture);
        self
    }

    /// Who is turned away whatever it knows. The list may be exchanged while the broker runs.
    pub fn banned(mut self, banned: Arc<ArcSwap<Banned>>) -> Self {
        self.banned = banned;
        self
    }

    /// Under which name a client is known, instead of its client identifier.
    pub fn unique_id(mut self, hook: impl UniqueId) -> Self {
        self.hooks.unique_id = Some(Arc::new(hook));
        self
    }

    /// Sees every message that is accepted. May be called several times.
    pub fn on_message(mut self, listener: impl MessageListener) -> Self {
        let hooks = self.hooks.messages_mut();
        hooks.listeners.push(Arc::new(listener));
        self
    }

    /// Takes messages to other brokers.
    pub fn dispatcher(mut self, dispatcher: impl Dispatcher) -> Self {
        self.hooks.messages_mut().dispatcher = Some(Arc::new(dispatcher));
        self
    }

    /// Hears of clients that come and go. May be called several times.
    pub fn on_status(mut self, listener: impl ConnectStatusListener) -> Self {
        self.hooks.status.push(Arc::new(listener));
        self
    }

    /// Hears of subscriptions. May be called several times.
    pub fn on_session(mut self, listener: impl SessionListener) -> Self {
        self.hooks.sessions.push(Arc::new(listener));
        self
    }

    /// Sees every step of every connection. Of several, those of a lower `order` are called first; of the same, those
    /// that were added first.
    pub fn interceptor(mut self, order: i32, interceptor: impl Interceptor) -> Self {
        let hooks = &mut self.hooks.interceptors;
        hooks.push((order, Arc::new(interceptor)));
        hooks.sort_by_key(|(order, _)| *order);
        self
    }

    /// Counts what network addresses do, and may ban them.
    pub fn addresses(mut self, settings: AddressSettings) -> Self {
        self.addresses = Some(settings);
        self
    }

    /// Where sessions, queues, retained messages and QoS 2 identifiers are kept. Without: they end with the broker.
    pub fn storage(mut self, storage: impl Storage) -> Self {
        self.storage = Some(Arc::new(storage));
        self
    }

    /// The program that runs jq programs for the rules' function `jq`: a `weir` of this version that was built with the
    /// feature `jq`, or any program that calls [`cli::main`](crate::cli::main) when its first argument is `jq-worker`.
    ///
    /// It is started a few times, on demand, and bounds its own memory and stack: what a jq program does harms it alone.
    /// Without, and where this process is not `weir` itself, the function is an error.
    #[cfg(feature = "jq")]
    pub fn jq_program(mut self, program: impl Into<std::path::PathBuf>) -> Self {
        self.jq_program = Some(program.into());
        self
    }

    /// Listens for MQTT over TCP on `address`, a name or a number with a port; port 0 takes a free one.
    ///
    /// Clients without credentials are admitted only on loopback. May be called several times.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(Listen {
            address: address.into(),
            max_connections: None,
            allow_anonymous: None,
        });
        self
    }

    /// The same builder with the ports that were taken.
    pub(crate) fn at(mut self, addresses: &[SocketAddr]) -> Self {
        for (listen, address) in self.listen.iter_mut().zip(addresses) {
            listen.address = address.to_string();
        }
        self
    }

    /// Starts the broker. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When one of the addresses cannot be listened on or the storage cannot be read; then nothing has been started.
    pub async fn start(self) -> Result<Broker, StartError> {
        let mut sockets = Vec::new();
        for listen in &self.listen {
            sockets.push(listen.bind().await?);
        }
        let shared = self.shared();
        shared.restore()?;
        let addresses = sockets.iter().map(|(_, address)| *address).collect();
        let listen = self.listen.clone();
        let broker = Broker::new(shared, self, addresses);
        for ((socket, address), listen) in sockets.into_iter().zip(listen) {
            broker.serve_on(socket, listen.settings(address));
        }
        Ok(broker)
    }

    fn shared(&self) -> Arc<Shared> {
        let pipeline = self.pipeline.clone().unwrap_or_else(|| {
            let world = World::new("weir", TimeZone::UTC);
            Arc::new(Pipeline::new(world))
        });
        #[cfg(feature = "jq")]
        if let Some(program) = &self.jq_program {
            pipeline.world().set_jq_program(program.clone());
        }
        let authenticator = self.authenticator.clone();
        let mut hooks = self.hooks.clone();
        // Each start counts for itself.
        hooks.panics = Arc::default();
        let this: Arc<OnceLock<Weak<Shared>>> = Arc::default();
        if let Some(settings) = &self.addresses {
            let this = Arc::clone(&this);
            let close = move |address: IpAddr| {
                if let Some(shared) = this.get().and_then(Weak::upgrade) {
                    shared.close_address(address);
                }
            };
            let panics = Arc::clone(&hooks.panics);
            let addresses = Addresses::new(settings.clone(), panics, Box::new(close));
            hooks.addresses = Some(addresses);
        }
        let shared = Shared::new(Parts {
            settings: self.settings.clone(),
            pipeline,
            authenticator: Arc::new(GuardedAuthenticator {
                inner: authenticator.unwrap_or_else(|| Arc::new(Anonymous)),
                panics: Arc::clone(&hooks.panics),
            }),
            authorizer: match self.authorizer.clone() {
                None => Arc::new(AllowAll),
                Some(inner) => Arc::new(GuardedAuthorizer {
                    inner,
                    panics: Arc::clone(&hooks.panics),
                }),
            },
            mechanisms: self.mechanisms.guarded(&hooks.panics),
            banned: Arc::clone(&self.banned),
            capture: self.capture.clone(),
            hooks,
            storage: self.storage.clone(),
        });
        // The only one that sets it.
        drop(this.set(Arc::downgrade(&shared)));
        shared
    }
}

impl Listen {
    async fn bind(&self) -> Result<(TcpListener, SocketAddr), StartError> {
        let refused = |error| StartError::Listen {
            address: self.address.clone(),
            error,
        };
        let socket = TcpListener::bind(&self.address).await.map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok((socket, address))
    }

    fn settings(&self, address: SocketAddr) -> ListenerSettings {
        let defaults = ListenerSettings::default();
        ListenerSettings {
            name: format!("tcp:{address}").into(),
            max_connections: self.max_connections.unwrap_or(defaults.max_connections),
            allow_anonymous: self.allow_anonymous.unwrap_or(address.ip().is_loopback()),
            ..defaults
        }
    }
}
