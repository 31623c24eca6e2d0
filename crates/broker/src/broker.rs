//! The MQTT server as one value: settings in, listeners served, messages published from inside.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use weir_sinks::Owed;

pub use crate::auth::acl::Network;
use crate::builder::{BrokerBuilder, StartError};
use crate::core::connect::Capabilities;
use crate::core::limits::LimitSettings;
use crate::core::message::Message;
use crate::core::shared_groups::Strategies;
use crate::core::topic_rewrite::Rewrites;
use crate::driver::Shared;
pub use crate::driver::auto_subscribe::AutoSubscribe;
use crate::driver::router::{Routed, Router};
pub use crate::driver::slow::SlowSubscriber;
use crate::hooks::Panics;
pub use crate::net::handshake::{CertificateName, ProxySettings};
use crate::net::listener::Listener;
pub use crate::net::socket::Socket;
pub use crate::net::tls::{ClientAuth, Pem, ServerCertificate, Tls, TlsSettings};
pub use crate::net::transport::Transport;
pub use crate::net::websocket::handshake::WebSocketSettings;
use crate::stats::{BrokerStats, CloseReason};
use crate::store::{Durability, Failed, Ticket, Waits};

/// Limits of the MQTT server; the names are those of `[mqtt]` in `weir.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSettings {
    /// The largest packet that is read, in bytes with its fixed header.
    pub max_packet_size: usize,
    /// The longest client identifier, in bytes.
    pub max_client_id: usize,
    /// The most levels of a topic name or filter.
    pub max_topic_levels: usize,
    /// The receive maximum in both directions.
    pub max_inflight: u16,
    /// The most messages that wait in one session.
    pub max_queued: usize,
    /// The most bytes that wait in one session.
    pub max_queued_bytes: usize,
    /// The longest time that a session outlives its connection.
    pub session_expiry_max: Duration,
    /// A client is given up after its keep-alive times this.
    pub keepalive_factor: f64,
    /// The longest keep-alive; MQTT 5 clients that ask for more or for none are told this one. `None`: theirs counts.
    pub keepalive_max_s: Option<u16>,
    /// The most subscriptions of one session.
    pub max_subscriptions_per_client: usize,
    /// How many bytes may wait to be written to one client.
    pub max_outbox_bytes: usize,
    /// The highest topic alias that an MQTT 5 client may use.
    pub topic_alias_maximum: u16,
    /// The highest topic alias that the broker uses, where the client takes any.
    pub topic_alias_out: u16,
    /// What clients may do at all.
    pub capabilities: Capabilities,
    /// Whether the broker makes a client identifier for clients that send an empty one; otherwise they are refused.
    pub empty_client_ids: bool,
    /// Whether MQTT 3.1 clients are held to identifiers of 1 to 23 characters.
    pub short_v31_client_ids: bool,
    /// A client without keep-alive is given up after this long without a packet. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Whether MQTT 5 clients are told in words why something is refused.
    pub reason_strings: bool,
    /// Whether payloads that are said to be UTF-8 text are checked.
    pub check_payload_format: bool,
    /// What MQTT 5 clients that ask get as response information; `%c` is the client identifier.
    pub response_information: Option<String>,
    /// The server that clients are sent to when this one shuts down or cannot take them.
    pub server_reference: Option<String>,
    /// The most messages of `$delayed/…` that wait.
    pub max_delayed: usize,
    /// The most bytes of messages that wait so.
    pub max_delayed_bytes: usize,
    /// How shared subscriptions choose among their members.
    pub shared_groups: Strategies,
    /// Topics that are replaced by others on their way in.
    pub rewrites: Rewrites,
    /// What every client is subscribed to when it connects.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// How often `$SYS/broker/#` is said. `None`: never.
    pub sys_interval: Option<Duration>,
    /// What a client of MQTT 3.1 or 3.1.1 does not acknowledge for this long is sent again over the same connection.
    /// `None`: only over the next.
    pub retry_interval: Option<Duration>,
    /// How much clients may send, and how fast they may come.
    pub limits: LimitSettings,
    /// How long a connection may take to send CONNECT.
    pub connect_timeout: Duration,
    /// How long a packet may be in coming once it has begun; a large one may take longer while enough of it comes.
    /// `None`: for ever.
    pub packet_timeout: Option<Duration>,
    /// The most retained messages.
    pub max_retained: usize,
    /// The most bytes of retained messages.
    pub max_retained_bytes: usize,
    /// Under which name the broker knows a client.
    pub identity: ClientIdentity,
    /// Whether client identifiers such as `aliyun_iot:a1Example:gw-01`, which begin with the name of a devices' scheme
    /// and a colon, are kept for the devices that `[auth.devices]` admits.
    pub reserve_device_names: bool,
    /// Threads for plain TCP connections. `None`: as many as the machine has processors.
    pub threads: Option<NonZeroUsize>,
}

/// Under which name the broker knows a client: its session, takeover, access rules, events.
///
/// Refused is a client that has no such name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ClientIdentity {
    /// Its client identifier.
    #[default]
    ClientId,
    /// The user name that was authenticated.
    Username,
    /// The common name of its certificate.
    #[serde(rename = "cert_cn")]
    CertCn,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            name: "listener".into(),
            transport: Transport::default(),
            max_connections: 100_000,
            allow_anonymous: false,
            durability: Durability::Fsync,
            proxy: None,
            tls: None,
            identity: CertificateName::None,
            web_socket: None,
        }
    }
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            max_packet_size: 1 << 20,
            max_client_id: 256,
            max_topic_levels: 64,
            max_inflight: 32,
            max_queued: 1000,
            max_queued_bytes: 16 << 20,
            session_expiry_max: Duration::from_secs(2 * 60 * 60),
            keepalive_factor: 1.5,
            keepalive_max_s: None,
            max_subscriptions_per_client: 1000,
            max_outbox_bytes: 1 << 20,
            topic_alias_maximum: 16,
            topic_alias_out: 16,
            capabilities: Capabilities::default(),
            empty_client_ids: true,
            short_v31_client_ids: false,
            idle_timeout: None,
            reason_strings: true,
            check_payload_format: true,
            response_information: None,
            server_reference: None,
            max_delayed: 10_000,
            max_delayed_bytes: 64 << 20,
            shared_groups: Strategies::default(),
            rewrites: Rewrites::default(),
            auto_subscribe: Vec::new(),
            sys_interval: None,
            retry_interval: None,
            limits: LimitSettings::default(),
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Some(Duration::from_secs(30)),
            max_retained: 1_000_000,
            max_retained_bytes: 256 << 20,
            identity: ClientIdentity::ClientId,
            reserve_device_names: false,
            threads: None,
        }
    }
}

/// Lets a broker on this runtime save system calls: its threads tell when they have nothing else to do.
pub fn prepare_runtime(runtime: &mut tokio::runtime::Builder) {
    crate::driver::flush::prepare(runtime);
}

/// What one listener decides for itself.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The name in logs, metrics and rules of access.
    pub name: Arc<str>,
    /// How the bytes are carried.
    pub transport: Transport,
    /// The most connections that are open at once.
    pub max_connections: usize,
    /// Whether clients without credentials are admitted.
    pub allow_anonymous: bool,
    /// Clients that come here are content with this, where the storage promises more: their acknowledgements do not wait
    /// for it. What they leave is kept like everything else.
    pub durability: Durability,
    /// Whether a PROXY header stands before everything else, and whose is believed.
    pub proxy: Option<ProxySettings>,
    /// The certificates, where there is TLS.
    pub tls: Option<Arc<Tls>>,
    /// Which name in a client's certificate is its user name.
    pub identity: CertificateName,
    /// What is asked of the handshake, where MQTT is carried over WebSocket.
    pub web_socket: Option<WebSocketSettings>,
}

impl ListenerSettings {
    /// Whether MQTT begins with the first byte of a connection.
    pub(crate) fn is_plain(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.web_socket.is_none()
    }
}

/// The MQTT server. Cheap to clone; all clones are one broker, which goes on when they are dropped: it ends with
/// [`stop`](Self::stop).
///
/// What it can tell of its clients, and do to them, stands in [`clients`](crate::clients).
#[derive(Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
    builder: Arc<BrokerBuilder>,
    addresses: Arc<[SocketAddr]>,
    /// Serving listeners, until `stop` has waited for them.
    listeners: Arc<Mutex<JoinSet<()>>>,
}

/// What became of a message that was published from inside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// Whether anyone wanted it: a subscriber, a session, a rule.
    pub reached: bool,
    ticket: Ticket,
}

impl Published {
    /// Waits until what the message left in sessions and retained messages is as durable as the storage makes it.
    ///
    /// # Errors
    /// When the storage could not keep it.
    pub async fn kept(&self) -> Result<(), Failed> {
        self.ticket.committed().await
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Puts a broker together.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// Begins to keep time, and to sweep.
    pub(crate) fn new(
        shared: Arc<Shared>,
        builder: BrokerBuilder,
        addresses: Arc<[SocketAddr]>,
    ) -> Self {
        tokio::spawn(Arc::clone(&shared).keep_time());
        tokio::spawn(Arc::clone(&shared).keep_sweeping());
        Self {
            shared,
            builder: Arc::new(builder),
            addresses,
            listeners: Arc::default(),
        }
    }

    /// The addresses that [`BrokerBuilder::listen`] asked for, in its order, with the ports that were taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves a listener until the broker stops, in a task of its own.
    pub(crate) fn serve_on(&self, listener: TcpListener, settings: ListenerSettings) {
        let serving = self.clone();
        self.listeners.lock().spawn(async move {
            let never = std::future::pending();
            serving.serve(listener, settings, never).await;
        });
    }

    /// Accepts connections until `shutdown` resolves or the broker is stopped.
    pub async fn serve(
        &self,
        socket: impl Into<Socket>,
        settings: ListenerSettings,
        shutdown: impl Future<Output = ()>,
    ) {
        self.listener(settings).serve(socket.into(), shutdown).await;
    }

    /// A place where clients come in.
    pub(crate) fn listener(&self, settings: ListenerSettings) -> Listener {
        if settings.durability == Durability::Os {
            self.shared.store.tell_what_is_written();
        }
        Listener::new(Arc::clone(&self.shared), settings)
    }

    /// Publishes from inside: rules, retained messages, subscribers, sessions and hooks see it like any other message.
    ///
    /// There is nobody to wait: what a sink that blocks has no room for is dropped and counted.
    pub fn publish(&self, message: Message) -> Published {
        self.publish_through(Router::new(&self.shared), message)
    }

    /// Publishes what another broker's [`Dispatcher`](crate::hooks::Dispatcher) sent: as [`publish`](Self::publish), but
    /// it is not dispatched again.
    pub fn publish_local(&self, message: Message) -> Published {
        self.publish_through(Router::of_elsewhere(&self.shared), message)
    }

    fn publish_through(&self, mut router: Router, mut message: Message) -> Published {
        let now = self.shared.clock.now();
        message.id = router.message_id(now);
        message.accepted_at = now;
        let reached = match router.publish(now, message) {
            Routed::Done(reached) => reached,
            routed => {
                if let Some((reason, message)) = routed.dropped() {
                    router.drop_message(reason, &message);
                }
                false
            }
        };
        let ticket = router.finish(now);
        Published { reached, ticket }
    }

    /// Commits rows that rules have made of messages of before.
    pub(crate) fn keep_rows(&self, rows: Vec<Owed>) -> Ticket {
        let mut batch = Vec::new();
        let claims = crate::driver::router::into_batch(rows, &mut batch);
        let store = &self.shared.store;
        store.commit_with(&mut batch, claims, Waits::Somebody)
    }

    /// Holds every client against the access list and the list of the banned, after they have changed: subscriptions
    /// that are no longer allowed end, and clients that are banned are disconnected.
    pub fn enforce_access(&self) {
        self.shared.enforce_access();
    }

    /// The sessions whose clients are furthest behind, the slowest first, at most `limit` of them.
    pub fn slow_subscribers(&self, limit: usize) -> Vec<SlowSubscriber> {
        self.shared.slow_subscribers(limit)
    }

    /// What the broker counts.
    pub fn stats(&self) -> &Arc<BrokerStats> {
        &self.shared.stats
    }

    /// How often hooks have panicked.
    pub fn hook_panics(&self) -> &Panics {
        &self.shared.hooks.panics
    }

    /// What the storage promises of messages that were acknowledged.
    pub fn durability(&self) -> Durability {
        self.shared.store.durability()
    }

    /// Stops: no new connections, every client is told and asked to leave, Wills and status listeners are done, the
    /// storage is flushed. Waits at most `grace` for the connections to end; true when all have.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.shared.ending.send_replace(true);
        self.shared.close_all(CloseReason::ServerShutdown);
        let mut listeners = std::mem::take(&mut *self.listeners.lock());
        let all_closed = async {
            while listeners.join_next().await.is_some() {}
            while self.shared.stats.sessions_connected.get() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                // Those that were admitted meanwhile.
                self.shared.close_all(CloseReason::ServerShutdown);
            }
        };
        // Whoever has not left by then is cut off with the process.
        let ended = tokio::time::timeout(grace, all_closed).await.is_ok();
        self.shared.store.flush();
        ended
    }

    /// Starts a broker like this one, which was [stopped](Self::stop), on the same addresses. With a
    /// [storage](BrokerBuilder::storage) it goes on with the sessions of this one.
    ///
    /// # Errors
    /// As [`BrokerBuilder::start`].
    pub async fn start_again(&self) -> Result<Self, StartError> {
        let builder = BrokerBuilder::clone(&self.builder);
        builder.at(&self.addresses).start().await
    }
}
