//! What each bridge is doing now, as its topic and the HTTP side show it.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use weir_sinks::bridge::home::origin_of;
use weir_sinks::{Connector, LinkState};

use super::{Reloader, State};

/// One bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BridgeStatus {
    /// What it is doing.
    pub(crate) state: &'static str,
    /// Since when: seconds since the epoch.
    pub(crate) since: i64,
    /// Where its remote is, as it was tried last.
    pub(crate) address: Option<String>,
    /// How many attempts there were in a row.
    pub(crate) attempt: u64,
    /// Messages of `out`, and rows of rules' sinks, that the remote has not taken yet.
    pub(crate) queue_records: u64,
    /// Their bytes.
    pub(crate) queue_bytes: u64,
    /// The last failure, `CODE: sentence`, kept after recovery.
    pub(crate) last_error: Option<String>,
}

impl BridgeStatus {
    /// Whether anything but the numbers of the queue differs.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let numberless = |status: &Self| Self {
            queue_records: 0,
            queue_bytes: 0,
            ..status.clone()
        };
        numberless(self) != numberless(other)
    }

    fn of(connector: &Connector, (queue_records, queue_bytes): (u64, u64)) -> Self {
        let known = connector.state();
        let last_error = known
            .last_error
            .map(|last| format!("{}: {}", last.error.code(), last.error));
        Self {
            state: known.link.bridge_name(),
            since: known.since_ms / 1000,
            address: known.address,
            attempt: known.attempt,
            queue_records,
            queue_bytes,
            last_error,
        }
    }
}

/// Every state that a bridge may be in, by name.
pub(crate) const STATES: [LinkState; 9] = [
    LinkState::Idle,
    LinkState::Up,
    LinkState::Degraded,
    LinkState::Connecting,
    LinkState::Backoff,
    LinkState::AuthFailed,
    LinkState::Evicted,
    LinkState::ClockUnset,
    LinkState::Stopped,
];

impl Reloader {
    /// Somebody may want to look at the bridges again.
    pub(super) fn bridges_changed(&self) {
        if let Some(home) = self.home.get() {
            home.changed();
        }
    }

    /// Every bridge whose file is there, by name.
    pub(crate) fn bridges(&self) -> BTreeMap<String, BridgeStatus> {
        let state = self.state.lock();
        let queues = queues(&state);
        let bridges = state
            .connectors
            .iter()
            .filter_map(|(name, (_, connector))| {
                connector.bridge_plan()?;
                let queue = queues.get(name.as_str()).copied().unwrap_or_default();
                Some((name.clone(), BridgeStatus::of(connector, queue)))
            });
        bridges.collect()
    }

    /// The bridges that say what they do on a topic.
    pub(crate) fn bridges_that_tell(&self) -> BTreeMap<String, BridgeStatus> {
        let mut bridges = self.bridges();
        let state = self.state.lock();
        bridges.retain(|name, _| {
            let plan = (state.connectors.get(name)).and_then(|(_, open)| open.bridge_plan());
            plan.is_some_and(|plan| plan.status)
        });
        bridges
    }
}

/// How many rows wait for each connector, and their bytes.
fn queues(state: &State) -> HashMap<String, (u64, u64)> {
    let mut queues: HashMap<String, (u64, u64)> = HashMap::new();
    for ((rule, sink), open) in &state.sinks {
        let Some(connector) = connector_of(state, rule, sink) else {
            continue;
        };
        let counters = open.handle.counters();
        let (rows, bytes) = queues.entry(connector).or_default();
        *rows += counters.buffered_rows + counters.inflight_rows;
        *bytes += counters.buffered_bytes;
    }
    queues
}

fn connector_of(state: &State, rule: &str, sink: &str) -> Option<String> {
    if let Some(bridge) = rule.strip_prefix(&origin_of("")) {
        return Some(bridge.to_owned());
    }
    let rule = state.checked.rules.get(rule)?;
    let sink = rule.sinks.iter().find(|known| &*known.id == sink)?;
    sink.plan.connector.as_deref().map(str::to_owned)
}
