//! Bridges whose topics cross by themselves: opened with the connectors, connected when the broker is there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use weir_rules::{Catalog, compile};
use weir_sinks::bridge::Home;
use weir_sinks::bridge::home::origin_of;
use weir_sinks::bridge::route::OutRoute;
use weir_sinks::{
    Connector, ConnectorConfig, ConsoleOutput, SinkError, SinkHandle, SinkPlan, SinkSpec,
};

use super::live::{OpenSink, Sinks, open_now};
use super::report::FileOutcome;
use super::{Reloader, State};
use crate::broker::Broker;
use crate::pipeline::{Crossing, LiveRule, LiveSink, Target};
use crate::problem::Problem;
use crate::project::check::Checked;

/// The one sink of a bridge's `out`.
pub(super) const OUT: &str = "out";

type Connectors = HashMap<String, (u64, Arc<Connector>)>;

/// The connectors that are needed though no sink names them.
pub(super) fn bridges_with_routes(checked: &Checked) -> impl Iterator<Item = &str> {
    checked.connectors.iter().filter_map(|(name, connector)| {
        let ConnectorConfig::Mqtt(bridge) = &*connector.config else {
            return None;
        };
        bridge.has_routes().then_some(name.as_str())
    })
}

impl Reloader {
    /// Names the broker that bridges belong to: before the first load.
    pub fn belongs_to(&self, home: Arc<dyn Home>) {
        // Only the first counts, and there is only one.
        let _ = self.home.set(home);
    }

    /// Connects the bridges: the broker is there. Later ones are connected when they are loaded.
    pub fn start_bridges(&self, broker: &Broker) {
        // Only the first counts, and there is only one.
        let _ = self.broker.set(broker.clone());
        for connector in self.open_connectors_now() {
            self.start_bridge(&connector);
        }
        self.send_retained(&self.state.lock());
    }

    fn start_bridge(&self, connector: &Arc<Connector>) {
        if let Some(home) = self.home.get()
            && home.is_ready()
        {
            connector.start();
        }
    }

    /// Links of before end, and those that take their place begin: both may have one client id.
    pub(super) fn take_turns(&self, before: Connectors, now: &Connectors) {
        let mut before = before;
        for (name, (_, connector)) in now {
            let old = before.remove(name).map(|(_, old)| old);
            let replaced = old.filter(|old| !Arc::ptr_eq(old, connector));
            if let Some(old) = &replaced {
                connector.goes_on_like(old);
            }
            let has_routes = |old: &Arc<Connector>| old.has_routes() || connector.has_routes();
            match replaced.filter(has_routes) {
                None => self.start_bridge(connector),
                Some(old) => {
                    let connector = Arc::clone(connector);
                    let is_ready = self.home.get().is_some_and(|home| home.is_ready());
                    tokio::spawn(async move {
                        old.end().await;
                        if is_ready {
                            connector.start();
                        }
                    });
                }
            }
        }
        // What is in no file any more takes nothing in; what waits for it goes out.
        for (_, (_, gone)) in before {
            gone.take_no_more();
        }
    }

    /// `out` of every bridge, as the pipeline finds it.
    pub(super) fn crossings(
        &self,
        connectors: &Connectors,
        state: &State,
        sinks: &mut Sinks,
        failed: &mut Vec<FileOutcome>,
    ) -> Vec<Arc<LiveRule>> {
        let mut live = Vec::new();
        for (name, (fingerprint, connector)) in connectors {
            match self.crossing(name, *fingerprint, connector, state, sinks) {
                Ok(rule) => live.extend(rule),
                Err(error) => {
                    let path = PathBuf::from(format!("{name}.toml"));
                    failed.push(FileOutcome {
                        path: path.clone(),
                        outcome: "refused",
                        detail: "its `out` could not be opened".to_owned(),
                        diagnostics: vec![Problem::whole(path, error.code(), error.to_string())],
                    });
                }
            }
        }
        live
    }

    fn crossing(
        &self,
        name: &str,
        fingerprint: u64,
        connector: &Arc<Connector>,
        state: &State,
        sinks: &mut Sinks,
    ) -> Result<Option<Arc<LiveRule>>, SinkError> {
        let Some(plan) = connector.bridge_plan().filter(|plan| !plan.out.is_empty()) else {
            return Ok(None);
        };
        let id = origin_of(name);
        let key = (id.clone(), OUT.to_owned());
        let rows = self.rows_of(&id, OUT);
        let spec = || SinkSpec {
            rule_id: id.clone(),
            sink_id: OUT.to_owned(),
            plan: SinkPlan::of_bridge(&plan),
            connector: Some(Arc::clone(connector)),
            data_dir: self.data_dir.clone(),
            store_id: self.store_id.clone(),
            console: ConsoleOutput::stdout(),
            rows: rows.clone(),
            letters: self.letters_of(&id, OUT),
        };
        let handle = match open_now(state, &key, rows.is_some()) {
            Some(open) if open.fingerprint == fingerprint => open.handle.clone(),
            Some(open) => {
                open.handle.reconfigure(&spec())?;
                open.handle.clone()
            }
            None => weir_sinks::open(&spec())?,
        };
        let rule = out_rule(connector, Arc::clone(&plan.out), handle.clone())?;
        sinks.insert(
            key,
            OpenSink {
                fingerprint,
                kind: "mqtt",
                handle,
            },
        );
        Ok(Some(rule))
    }
}

/// Entries of `out` of a bridge, as the pipeline finds them.
///
/// # Errors
/// When there is no statement with their filters.
pub(super) fn out_rule(
    connector: &Arc<Connector>,
    routes: Arc<[OutRoute]>,
    queue: SinkHandle,
) -> Result<Arc<LiveRule>, SinkError> {
    let filters: Vec<String> = routes
        .iter()
        .map(|route| format!("\"{}\"", route.filter.as_str().replace('"', "\"\"")))
        .collect();
    let sql = format!("SELECT topic FROM {}", filters.join(", "));
    let (rule, _) = compile(&sql, &Catalog::default()).map_err(|problems| {
        let why = problems
            .first()
            .map_or_else(String::new, |problem| problem.message.clone());
        let message = format!("`out` cannot be followed: {why}");
        SinkError::new(weir_sinks::codes::BRIDGE, message)
    })?;
    Ok(Arc::new(LiveRule {
        id: origin_of(connector.name()).into(),
        rule: Arc::new(rule),
        sinks: vec![LiveSink {
            id: OUT.into(),
            target: Target::Queue(queue),
            // Its rows name this broker themselves.
            marks: false,
        }],
        counters: Arc::default(),
        on_error: crate::project::rule_file::OnError::default(),
        crossing: Some(Crossing::new(connector, routes)),
    }))
}
