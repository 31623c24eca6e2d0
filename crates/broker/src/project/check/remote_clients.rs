//! Who is who at remote brokers: two bridges that are the same client there would throw each other out
//! (cloud-bridges CR-8).

use std::collections::{BTreeMap, BTreeSet};

use weir_sinks::ConnectorConfig;

use super::super::files::{FileId, Kind};
use super::{CheckedConnector, Pass, Refused};
use crate::problem::{Problem, Source};

/// A connector's name, its file, and what it says, or what is wrong with it.
pub(super) type Candidate<'a> = (
    &'a str,
    &'a Source,
    Result<(CheckedConnector, Vec<Problem>), Vec<Problem>>,
);

/// Who was there first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It runs as it is, or its last good version goes on.
    Runs,
    /// It runs, and is to become another.
    Changed,
    New,
}

impl Pass<'_> {
    /// Refuses who would be a client that another one is: who runs stays, and who comes goes.
    pub(super) fn refuse_same_clients(&self, candidates: &mut [Candidate<'_>]) {
        // For who is refused its last good version goes on, and that is somebody, too.
        while let Some((place, problems)) = self.same_client(candidates) {
            candidates[place].2 = Err(problems);
        }
    }

    fn same_client(&self, candidates: &[Candidate<'_>]) -> Option<(usize, Vec<Problem>)> {
        let mut order: Vec<_> = candidates.iter().enumerate().collect();
        order.sort_by_key(|(_, candidate)| self.standing(candidate));
        let mut clients = RemoteClients::default();
        order
            .into_iter()
            .find_map(|(place, (name, source, read))| match read {
                Ok((connector, _)) => {
                    let added = clients.add(name, source, &connector.config);
                    Some((place, added.err()?))
                }
                Err(_) => {
                    if let Some((_, kept)) = self.connector_before(name, source) {
                        // It goes on in any case.
                        let _ = clients.add(name, source, &kept.config);
                    }
                    None
                }
            })
    }

    /// Newcomers that are the same client as one whose file is gone and that goes on, since a rule needs it.
    pub(super) fn same_as_gone(&self, refused: &Refused) -> Refused {
        let sinks = self.checked.rules.values().flat_map(|rule| &rule.sinks);
        let used: BTreeSet<&str> = sinks
            .filter_map(|sink| sink.plan.connector.as_deref())
            .collect();
        let is_gone = |name: &&str| self.files.get(&FileId::connector(name)).is_none();
        let mut gone = RemoteClients::default();
        for name in used.into_iter().filter(is_gone) {
            let kept = self.last_good.get(&FileId::connector(name));
            if let (Some(source), Some(connector)) = (kept, self.checked.connectors.get(name)) {
                // Two that run are not the same client.
                let _ = gone.add(name, source, &connector.config);
            }
        }
        let here = self.files.of(Kind::Connector).filter_map(|(name, source)| {
            let file = FileId::connector(name);
            if refused.contains_key(&file) {
                return None;
            }
            let connector = self.checked.connectors.get(name)?;
            let (client, other) = gone.taken(&connector.config)?;
            let message = format!(
                "the connector `{other}` is the same client at the remote ({client}): its file is gone, but rules still use it"
            );
            let problem = Problem::whole(&source.path, "E1412", message)
                .help(format!("let no rule use `{other}` any more"));
            Some((file, vec![problem]))
        });
        here.collect()
    }

    fn standing(&self, (name, source, read): &Candidate<'_>) -> Standing {
        match self.last_good.get(&FileId::connector(name)) {
            _ if read.is_err() => Standing::Runs,
            Some(kept) if kept.text == source.text => Standing::Runs,
            Some(_) => Standing::Changed,
            None => Standing::New,
        }
    }
}

/// The connectors by what their remotes know them by.
#[derive(Default)]
pub(super) struct RemoteClients(BTreeMap<String, String>);

impl RemoteClients {
    /// What a connector's remote knows it by, and who is that already.
    fn taken(&self, config: &ConnectorConfig) -> Option<(String, &str)> {
        let ConnectorConfig::Mqtt(bridge) = config else {
            return None;
        };
        let mut clients = bridge.remote_clients().into_iter();
        clients.find_map(|client| {
            let other = self.0.get(&client)?;
            Some((client, other.as_str()))
        })
    }

    /// Takes down a connector.
    ///
    /// # Errors
    /// Another one is the same client.
    pub(super) fn add(
        &mut self,
        name: &str,
        source: &Source,
        config: &ConnectorConfig,
    ) -> Result<(), Vec<Problem>> {
        let ConnectorConfig::Mqtt(bridge) = config else {
            return Ok(());
        };
        if let Some((client, other)) = self.taken(config) {
            let message =
                format!("the connector `{other}` is the same client at the remote ({client})");
            let problem = Problem::whole(&source.path, "E1412", message).help(
                "let rules and topics share one connector, or give this one a device or client id of its own",
            );
            return Err(vec![problem]);
        }
        let clients = bridge.remote_clients().into_iter();
        self.0
            .extend(clients.map(|client| (client, name.to_owned())));
        Ok(())
    }
}
