//! A panic in a hook ends that call and nothing else: caught, counted, logged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use weir_mqtt::{QoS, ReasonCode, SubscriptionFilter};

use crate::auth::enhanced::{Exchange, Mechanism, Step};
use crate::auth::{Authenticator, Authorizer, ConnectRequest, Decision, PublishVerdict, Subject};
use crate::stats::Counter;

/// A place where hooks are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hook {
    /// [`UniqueId`](super::UniqueId)
    UniqueId,
    /// [`Authenticator`]
    Authenticator,
    /// [`Mechanism`] and [`Exchange`]
    Mechanism,
    /// [`Authorizer`]
    Authorizer,
    /// [`MessageListener`](super::MessageListener)
    Message,
    /// [`ConnectStatusListener`](super::ConnectStatusListener)
    ConnectStatus,
    /// [`SessionListener`](super::SessionListener)
    Session,
    /// [`Storage`](crate::store::Storage)
    Storage,
    /// [`Dispatcher`](super::Dispatcher)
    Dispatcher,
    /// [`AddressListener`](super::AddressListener)
    Address,
    /// [`Interceptor`](super::Interceptor)
    Interceptor,
    /// [`Broker::schedule`](crate::Broker::schedule)
    Schedule,
}

impl Hook {
    /// Every place, in the order of the counters.
    pub const ALL: [Self; 12] = [
        Self::UniqueId,
        Self::Authenticator,
        Self::Mechanism,
        Self::Authorizer,
        Self::Message,
        Self::ConnectStatus,
        Self::Session,
        Self::Storage,
        Self::Dispatcher,
        Self::Address,
        Self::Interceptor,
        Self::Schedule,
    ];

    /// As logs and metrics write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UniqueId => "unique_id",
            Self::Authenticator => "authenticator",
            Self::Mechanism => "mechanism",
            Self::Authorizer => "authorizer",
            Self::Message => "message",
            Self::ConnectStatus => "connect_status",
            Self::Session => "session",
            Self::Storage => "storage",
            Self::Dispatcher => "dispatcher",
            Self::Address => "address",
            Self::Interceptor => "interceptor",
            Self::Schedule => "schedule",
        }
    }
}

/// How often hooks have panicked, by their place.
#[derive(Debug, Default)]
pub struct Panics([Counter; Hook::ALL.len()]);

impl Panics {
    /// How often hooks of one place have panicked.
    pub fn of(&self, hook: Hook) -> u64 {
        self.0[hook as usize].get()
    }

    /// Calls a hook; `None` when it panicked.
    pub(crate) fn guard<T>(&self, hook: Hook, call: impl FnOnce() -> T) -> Option<T> {
        // What the hook leaves half done is its own.
        let result = catch_unwind(AssertUnwindSafe(call));
        self.noted(hook, result.ok())
    }

    fn noted<T>(&self, hook: Hook, result: Option<T>) -> Option<T> {
        if result.is_none() {
            self.0[hook as usize].add(1);
            tracing::error!(hook = hook.name(), "a hook panicked");
        }
        result
    }
}

/// Refuses where the authenticator panics.
pub(crate) struct GuardedAuthenticator {
    pub(crate) inner: Arc<dyn Authenticator>,
    pub(crate) panics: Arc<Panics>,
}

impl Authenticator for GuardedAuthenticator {
    fn authenticate<'a>(&'a self, request: &'a ConnectRequest) -> BoxFuture<'a, Decision> {
        async move {
            let begin = || self.inner.authenticate(request);
            let denied = Decision::Deny(ReasonCode::ServerUnavailable);
            let Some(answer) = self.panics.guard(Hook::Authenticator, begin) else {
                return denied;
            };
            let decision = AssertUnwindSafe(answer).catch_unwind().await;
            self.panics
                .noted(Hook::Authenticator, decision.ok())
                .unwrap_or(denied)
        }
        .boxed()
    }
}

/// Refuses where the mechanism panics.
pub(crate) struct GuardedMechanism {
    name: String,
    inner: Arc<dyn Mechanism>,
    panics: Arc<Panics>,
}

/// A conversation that ends with a refusal when it panics.
struct GuardedExchange {
    /// `None` once it has panicked.
    inner: Option<Box<dyn Exchange>>,
    panics: Arc<Panics>,
}

impl GuardedMechanism {
    /// Asks for the name, which stays; `None` when that panics.
    pub(crate) fn new(inner: Arc<dyn Mechanism>, panics: &Arc<Panics>) -> Option<Self> {
        let name = panics.guard(Hook::Mechanism, || inner.name().to_owned())?;
        Some(Self {
            name,
            inner,
            panics: Arc::clone(panics),
        })
    }
}

impl Mechanism for GuardedMechanism {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self) -> Box<dyn Exchange> {
        let begin = || self.inner.begin();
        Box::new(GuardedExchange {
            inner: self.panics.guard(Hook::Mechanism, begin),
            panics: Arc::clone(&self.panics),
        })
    }
}

impl GuardedExchange {
    /// Nothing more is asked of the mechanism. That it is dropped is its own doing, too.
    fn end(&mut self) {
        if let Some(inner) = self.inner.take() {
            self.panics.guard(Hook::Mechanism, || drop(inner));
        }
    }
}

impl Drop for GuardedExchange {
    fn drop(&mut self) {
        self.end();
    }
}

impl Exchange for GuardedExchange {
    fn step(&mut self, data: &[u8]) -> Step {
        let panics = &self.panics;
        let step = self
            .inner
            .as_mut()
            .and_then(|inner| panics.guard(Hook::Mechanism, || inner.step(data)));
        if step.is_none() {
            self.end();
        }
        // A reason that CONNACK and DISCONNECT have both.
        step.unwrap_or(Step::Refused(ReasonCode::ImplementationSpecificError))
    }
}

/// Forbids where the authorizer panics.
pub(crate) struct GuardedAuthorizer {
    pub(crate) inner: Arc<dyn Authorizer>,
    pub(crate) panics: Arc<Panics>,
}

impl Authorizer for GuardedAuthorizer {
    fn generation(&self) -> u64 {
        let ask = || self.inner.generation();
        let generation = self.panics.guard(Hook::Authorizer, ask);
        generation.unwrap_or(u64::MAX)
    }

    fn publish(&self, subject: &Subject, topic: &str, qos: QoS, retain: bool) -> PublishVerdict {
        let ask = || self.inner.publish(subject, topic, qos, retain);
        let verdict = self.panics.guard(Hook::Authorizer, ask);
        verdict.unwrap_or(PublishVerdict::Ignore)
    }

    fn subscribe(
        &self,
        subject: &Subject,
        filter: &SubscriptionFilter,
        qos: QoS,
    ) -> Result<QoS, ReasonCode> {
        let ask = || self.inner.subscribe(subject, filter, qos);
        let granted = self.panics.guard(Hook::Authorizer, ask);
        granted.unwrap_or(Err(ReasonCode::NotAuthorized))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics whatever one does with it.
    struct Fragile;

    impl Exchange for Fragile {
        fn step(&mut self, _: &[u8]) -> Step {
            panic!("in step")
        }
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("in drop")
        }
    }

    #[test]
    fn an_exchange_that_panics_when_it_is_dropped_harms_nobody() {
        let panics = Arc::<Panics>::default();
        let begun = || GuardedExchange {
            inner: Some(Box::new(Fragile) as Box<dyn Exchange>),
            panics: Arc::clone(&panics),
        };
        drop(begun());
        assert_eq!(panics.of(Hook::Mechanism), 1);
        let mut exchange = begun();
        for _ in 0..2 {
            let refused = ReasonCode::ImplementationSpecificError;
            assert!(matches!(exchange.step(b""), Step::Refused(reason) if reason == refused));
        }
        drop(exchange);
        assert_eq!(panics.of(Hook::Mechanism), 3);
    }
}
