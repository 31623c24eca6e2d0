//! Who is who at remote brokers: two bridges that are the same client there would throw each other out
//! (cloud-bridges CR-8).

use std::collections::BTreeMap;

use weir_sinks::ConnectorConfig;

use crate::problem::{Problem, Source};

/// The connectors by what their remotes know them by.
#[derive(Default)]
pub(super) struct RemoteClients(BTreeMap<String, String>);

impl RemoteClients {
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
        let clients = bridge.remote_clients();
        let taken = clients
            .iter()
            .find_map(|client| Some((client, self.0.get(client)?)));
        if let Some((client, other)) = taken {
            let message =
                format!("the connector `{other}` is the same client at the remote ({client})");
            let problem = Problem::whole(&source.path, "E1412", message).help(
                "let rules and topics share one connector, or give this one a device or client id of its own",
            );
            return Err(vec![problem]);
        }
        let clients = clients.into_iter();
        self.0
            .extend(clients.map(|client| (client, name.to_owned())));
        Ok(())
    }
}
