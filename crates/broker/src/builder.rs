//! [`Broker::builder`]: a broker put together piece by piece; what is not said has a default that is safe.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::auth::anonymous::Anonymous;
use crate::auth::banned::Banned;
use crate::auth::enhanced::{Mechanism, Mechanisms};
use crate::auth::{AllowAll, Authenticator, Authorizer};
use crate::broker::{Broker, BrokerSettings, ListenerSettings};
use crate::driver::{Parts, Shared};
use crate::pipeline::Pipeline;
use crate::pipeline::world::World;

/// Puts a [`Broker`] together.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let broker = weir::Broker::builder()
///     .listen("127.0.0.1:0")
///     .start()
///     .await?;
/// println!("MQTT on {}", broker.addresses()[0]);
/// # broker.shutdown(std::time::Duration::ZERO).await;
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
    listen: Vec<String>,
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
}

impl BrokerBuilder {
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

    /// Who is turned away whatever it knows. The list may be exchanged while the broker runs.
    pub fn banned(mut self, banned: Arc<ArcSwap<Banned>>) -> Self {
        self.banned = banned;
        self
    }

    /// Listens for MQTT over TCP on `address`, a name or a number with a port; port 0 takes a free one.
    ///
    /// Clients without credentials are admitted only on loopback. May be called several times.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Starts the broker. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When one of the addresses cannot be listened on; then nothing has been started.
    pub async fn start(self) -> Result<Broker, StartError> {
        let mut sockets = Vec::new();
        for address in &self.listen {
            sockets.push(bind(address).await?);
        }
        let pipeline = self.pipeline.unwrap_or_else(|| {
            let world = World::new("weir", TimeZone::UTC);
            Arc::new(Pipeline::new(world))
        });
        let shared = Shared::new(Parts {
            settings: self.settings,
            pipeline,
            authenticator: self.authenticator.unwrap_or_else(|| Arc::new(Anonymous)),
            authorizer: self.authorizer.unwrap_or_else(|| Arc::new(AllowAll)),
            mechanisms: self.mechanisms,
            banned: self.banned,
        });
        let addresses = sockets.iter().map(|(_, address)| *address).collect();
        let broker = Broker::new(shared, addresses);
        for (socket, address) in sockets {
            let settings = ListenerSettings {
                name: format!("tcp:{address}").into(),
                allow_anonymous: address.ip().is_loopback(),
                ..ListenerSettings::default()
            };
            let server = broker.clone();
            // Ends with the broker.
            tokio::spawn(async move {
                let never = std::future::pending();
                server.serve(socket, settings, never).await;
            });
        }
        Ok(broker)
    }
}

async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |error| StartError::Listen {
        address: address.to_owned(),
        error,
    };
    let socket = TcpListener::bind(address).await.map_err(refused)?;
    let address = socket.local_addr().map_err(refused)?;
    Ok((socket, address))
}
