//! Where an embedding program looks into the broker, and where it has a say: one trait a place.
//!
//! A hook runs on the task of the connection that caused it, so it must not wait; what takes time belongs behind
//! [`message_channel`] or a channel of your own. A hook that panics is counted and logged and harms nothing else: an
//! observer is skipped, a decision is a refusal. No session is locked while a hook runs, so it may use the
//! [`Broker`](crate::Broker) freely.

pub mod addresses;
mod client;
mod dispatch;
mod identity;
mod intercept;
mod messages;
mod panics;
pub mod router;
mod sessions;
mod status;
mod tap;

use std::sync::Arc;

pub use addresses::{AddressAction, AddressListener, AddressSettings, AddressWindow};
pub use client::{ClientInfo, Subscription};
pub use dispatch::Dispatcher;
pub use identity::{IdentityRequest, UniqueId};
pub use intercept::{ConnectionInfo, Interceptor};
pub use messages::{MessageChannel, MessageListener, message_channel};
pub use panics::{Hook, Panics};
pub use router::TopicRouter;
pub use sessions::SessionListener;
pub use status::{ConnectStatusListener, Offline};

pub(crate) use addresses::Addresses;
pub(crate) use panics::{GuardedAuthenticator, GuardedAuthorizer, GuardedMechanism};
pub(crate) use sessions::{Notice, Notices};
pub(crate) use tap::Tap;

/// Every hook of a broker. What nobody asked for costs one look at an empty place.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) unique_id: Option<Arc<dyn UniqueId>>,
    /// `None` when nobody observes messages, so that a message costs one look.
    pub(crate) messages: Option<MessageHooks>,
    pub(crate) status: Vec<Arc<dyn ConnectStatusListener>>,
    pub(crate) sessions: Vec<Arc<dyn SessionListener>>,
    /// In the order in which they are called.
    pub(crate) interceptors: Vec<(i32, Arc<dyn Interceptor>)>,
    pub(crate) addresses: Option<Arc<Addresses>>,
    pub(crate) panics: Arc<Panics>,
}

/// Who sees messages.
#[derive(Clone, Default)]
pub(crate) struct MessageHooks {
    pub(crate) listeners: Vec<Arc<dyn MessageListener>>,
    pub(crate) dispatcher: Option<Arc<dyn Dispatcher>>,
}

impl Hooks {
    /// The hooks that see messages, which there are from now on.
    pub(crate) fn messages_mut(&mut self) -> &mut MessageHooks {
        self.messages.get_or_insert_default()
    }
}
