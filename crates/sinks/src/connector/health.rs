//! The state of one connector, told by those who use it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{ConnectorState, LinkState};
use crate::bridge::Home;
use crate::counters::LastError;
use crate::error::SinkError;
use crate::now_ms;

/// What is wrong with a bridge though its link is up; the first that there is shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nobody renews the credentials.
    Credentials,
    /// The remote refuses a filter.
    Filter,
    /// There are no packet identifiers left for a rule's sink.
    Lanes,
}

/// The state of one connector.
pub(crate) struct Health {
    name: String,
    known: Mutex<Known>,
    /// Who is told that something has changed.
    home: OnceLock<Weak<dyn Home>>,
}

struct Known {
    /// As it is shown: `link` and the last error follow from the two below.
    shown: ConnectorState,
    /// Whether there is a link, whatever else is wrong.
    link: LinkState,
    faults: BTreeMap<Fault, LastError>,
}

impl Known {
    fn show(&mut self) {
        let fault = self
            .faults
            .values()
            .next()
            .filter(|_| self.link == LinkState::Up);
        let link = fault.map_or(self.link, |_| LinkState::Degraded);
        if let Some(fault) = fault {
            self.shown.last_error = Some(fault.clone());
        }
        if self.shown.link != link {
            self.shown.link = link;
            self.shown.since_ms = now_ms();
        }
    }
}

impl Health {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let shown = ConnectorState {
            link: LinkState::Idle,
            since_ms: now_ms(),
            last_ok_ms: None,
            last_error: None,
            next_try_ms: None,
            refused_filters: Vec::new(),
            address: None,
            attempt: 0,
        };
        Arc::new(Self {
            name: name.to_owned(),
            known: Mutex::new(Known {
                shown,
                link: LinkState::Idle,
                faults: BTreeMap::new(),
            }),
            home: OnceLock::new(),
        })
    }

    /// Every change is told to `home`.
    pub(crate) fn tells(&self, home: &Arc<dyn Home>) {
        // Only the first counts, and there is only one.
        let _ = self.home.set(Arc::downgrade(home));
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn state(&self) -> ConnectorState {
        self.known.lock().shown.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        {
            let mut known = self.known.lock();
            change(&mut known);
            known.show();
        }
        if let Some(home) = self.home.get().and_then(Weak::upgrade) {
            home.changed();
        }
    }

    pub(crate) fn set(&self, link: LinkState) {
        self.change(|known| {
            known.link = link;
            known.shown.next_try_ms = None;
        });
    }

    pub(crate) fn ok(&self) {
        self.change(|known| {
            known.link = LinkState::Up;
            known.shown.next_try_ms = None;
            known.shown.last_ok_ms = Some(now_ms());
        });
    }

    /// A bridge connects: where, and the how manyeth attempt in a row it is.
    pub(crate) fn connects(&self, address: String, attempt: u64) {
        self.change(|known| {
            known.link = LinkState::Connecting;
            known.shown.next_try_ms = None;
            known.shown.address = Some(address);
            known.shown.attempt = attempt;
        });
    }

    pub(crate) fn failed(&self, error: &SinkError, link: LinkState, wait: Option<Duration>) {
        let now = now_ms();
        self.change(|known| {
            // Said once when it starts; the state keeps the rest.
            let before = known.shown.last_error.as_ref();
            if before.is_none_or(|last| last.error != *error) {
                tracing::warn!(connector = %self.name, code = error.code(), state = link.name(), "{}", error.for_log());
            }
            known.link = link;
            known.shown.last_error = Some(LastError {
                error: error.clone(),
                at_ms: now,
            });
            known.shown.next_try_ms = wait
                .map(|wait| now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
        });
    }

    pub(crate) fn refuses(&self, filters: Vec<String>) {
        self.change(|known| {
            if filters.is_empty() {
                known.faults.remove(&Fault::Filter);
            }
            known.shown.refused_filters = filters;
        });
    }

    /// Something is wrong that leaves the link up.
    pub(crate) fn fails_in(&self, fault: Fault, error: SinkError) {
        self.change(|known| {
            let before = known.faults.get(&fault);
            if before.is_some_and(|before| before.error == error) {
                return;
            }
            tracing::warn!(connector = %self.name, code = error.code(), "{}", error.for_log());
            let at_ms = now_ms();
            known.faults.insert(fault, LastError { error, at_ms });
        });
    }

    /// It is wrong no more.
    pub(crate) fn recovers_in(&self, fault: Fault) {
        if self.known.lock().faults.contains_key(&fault) {
            self.change(|known| {
                known.faults.remove(&fault);
            });
        }
    }

    pub(crate) fn last_error(&self) -> Option<SinkError> {
        let known = self.known.lock();
        let last = known.shown.last_error.as_ref();
        last.map(|last| last.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn what_is_wrong_with_a_link_that_is_up_shows_while_it_is_up_and_wrong() {
        let health = Health::new("hq");
        let shown = || {
            let state = health.state();
            let code = state.last_error.map(|last| last.error.code());
            (state.link, code.unwrap_or_default())
        };
        let lanes = SinkError::new(codes::LANES, "too many");
        health.fails_in(Fault::Lanes, lanes);
        assert_eq!(shown(), (LinkState::Idle, ""));
        health.ok();
        assert_eq!(shown(), (LinkState::Degraded, codes::LANES));
        assert!(shown().0.is_up());
        let down = SinkError::new(codes::LINK_DOWN, "it is down");
        health.failed(&down, LinkState::Backoff, None);
        assert_eq!(shown(), (LinkState::Backoff, codes::LINK_DOWN));
        health.ok();
        assert_eq!(shown(), (LinkState::Degraded, codes::LANES));
        let token = SinkError::new(codes::NOT_RENEWED, "nobody does");
        health.fails_in(Fault::Credentials, token);
        assert_eq!(shown(), (LinkState::Degraded, codes::NOT_RENEWED));
        health.recovers_in(Fault::Credentials);
        assert_eq!(shown(), (LinkState::Degraded, codes::LANES));
        health.recovers_in(Fault::Lanes);
        assert_eq!(shown().0, LinkState::Up);
    }
}
