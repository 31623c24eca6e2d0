//! The broker as a library: what a program sees of it through hooks, what it may decide, and what it can do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../mqtt/client.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "these tests say less than those of the protocol"
)]
mod client;

mod durability;
mod examples;
mod facade;
mod hooks;
mod panics;
mod storage;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use weir::{Broker, BrokerBuilder};

use client::TestBroker;

/// Nothing that a test waits for takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A broker on a free port, with what the test is about.
pub(crate) async fn started(builder: BrokerBuilder) -> TestBroker {
    listening(builder.listen("127.0.0.1:0").start().await.unwrap())
}

/// The way to a broker that listens.
pub(crate) fn listening(broker: Broker) -> TestBroker {
    let address = broker.addresses()[0];
    TestBroker { broker, address }
}

/// What hooks noted, one after the other.
#[derive(Clone)]
pub(crate) struct Notes(Arc<mpsc::UnboundedSender<String>>);

/// The other end of [`Notes`].
pub(crate) struct Noted(mpsc::UnboundedReceiver<String>);

pub(crate) fn notes() -> (Notes, Noted) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Notes(Arc::new(sender)), Noted(receiver))
}

impl Notes {
    pub(crate) fn note(&self, text: impl Into<String>) {
        // The test may have ended.
        drop(self.0.send(text.into()));
    }
}

impl Noted {
    /// The next note.
    pub(crate) async fn next(&mut self) -> String {
        let next = tokio::time::timeout(PATIENCE, self.0.recv()).await;
        next.expect("nothing was noted").unwrap()
    }

    /// What was noted by now.
    pub(crate) fn so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}
