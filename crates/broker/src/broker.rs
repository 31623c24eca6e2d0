//! The MQTT server as one value: settings in, listeners served, messages published from inside.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use weir_sinks::Owed;

pub use crate::auth::acl::Network;
use crate::builder::{BrokerBuilder, StartError};
use crate::core::message::Message;
use crate::driver::Shared;
use crate::driver::router::{Routed, Router};
pub use crate::driver::slow::SlowSubscriber;
use crate::hooks::Panics;
use crate::net::connection::LINGER;
use crate::net::listener::Listener;
pub use crate::net::settings::{CertificateName, ListenerSettings, ProxySettings};
pub use crate::net::socket::Socket;
pub use crate::net::tls::{ClientAuth, Pem, ServerCertificate, Tls, TlsSettings};
pub use crate::net::transport::Transport;
pub use crate::net::websocket::handshake::WebSocketSettings;
pub use crate::settings::{AutoSubscribe, BrokerSettings, ClientIdentity};
use crate::stats::{BrokerStats, CloseReason};
use crate::store::{Durability, Failed, Ticket, Waits};

/// How long a stop waits for clients to read the last word: somewhat longer than each connection does, so that it closes
/// by itself.
const LAST_READ: Duration = LINGER.saturating_add(Duration::from_millis(100));

/// Lets a broker on this runtime save system calls: its threads tell when they have nothing else to do.
pub fn prepare_runtime(runtime: &mut tokio::runtime::Builder) {
    crate::driver::flush::prepare(runtime);
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
    /// storage is flushed. Waits at most `grace` for the clients to go, of which half a second is for reading the last word
    /// once all sessions have ended; true when they have.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.shared.ending.send_replace(true);
        self.shared.close_all(CloseReason::ServerShutdown);
        let mut listeners = std::mem::take(&mut *self.listeners.lock());
        let stats = &self.shared.stats;
        let step = async || {
            sleep(Duration::from_millis(5)).await;
            // Those that are admitted meanwhile are told, too.
            if stats.sessions_connected.get() > 0 {
                self.shared.close_all(CloseReason::ServerShutdown);
            }
        };
        let all_closed = async {
            while listeners.join_next().await.is_some() {}
            while stats.sessions_connected.get() > 0 {
                step().await;
            }
        };
        // What was said last is to be read before the sockets are closed.
        let all_read = async {
            while stats.connections_size.get() > 0 {
                step().await;
            }
        };
        let until = Instant::now() + grace;
        // Whoever has not left by then is cut off with the process.
        if timeout_at(until, all_closed).await.is_ok() {
            let _ = timeout_at(until.min(Instant::now() + LAST_READ), all_read).await;
        }
        let ended = stats.sessions_connected.get() == 0;
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
