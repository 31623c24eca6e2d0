//! A sink on the workbench: opened from TOML, filled with rows, looked at.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use weir_rules::value::{Text, Value};
use weir_sinks::{
    Connector, ConnectorConfig, ConsoleOutput, SinkConfig, SinkCounters, SinkHandle, SinkSpec,
    open, record_size,
};
use weir_test_support::wait_until;

/// Long enough for a loaded machine; no test waits for it when things go well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) sink: SinkHandle,
    pub(crate) connector: Option<Arc<Connector>>,
}

/// The plan of a sink, with what else `open` needs.
pub(crate) fn spec(
    sink: &str,
    connector: Option<(&ConnectorConfig, &Arc<Connector>)>,
    folder: &Path,
) -> SinkSpec {
    let config: SinkConfig = toml::from_str(sink).unwrap();
    let (plan, _) = config.check(connector.map(|(config, _)| config)).unwrap();
    SinkSpec {
        rule_id: "plant-a/hot".into(),
        sink_id: "history".into(),
        plan,
        connector: connector.map(|(_, connector)| Arc::clone(connector)),
        data_dir: folder.to_owned(),
        store_id: "store-1".into(),
        console: ConsoleOutput::new(std::io::sink()),
        rows: None,
        letters: None,
    }
}

impl Bench {
    pub(crate) fn new(sink: &str, connector: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config: Option<ConnectorConfig> = connector.map(|text| toml::from_str(text).unwrap());
        let opened = config
            .as_ref()
            .map(|config| Connector::open("far", config, folder.path()).unwrap());
        let sink = if config.is_some() {
            format!("connector = \"far\"\n{sink}")
        } else {
            sink.to_owned()
        };
        let spec = spec(&sink, config.as_ref().zip(opened.as_ref()), folder.path());
        let sink = open(&spec).unwrap();
        Self {
            folder,
            sink,
            connector: opened,
        }
    }

    pub(crate) fn push(&self, json: &str) {
        push(&self.sink, json);
    }

    pub(crate) async fn wait(
        &self,
        what: &str,
        done: impl Fn(&SinkCounters) -> bool,
    ) -> SinkCounters {
        wait(&self.sink, what, done).await
    }

    /// Waits until every row is settled.
    pub(crate) async fn settled(&self) -> SinkCounters {
        self.wait("every row is settled", |c| {
            c.buffered_rows + c.inflight_rows == 0
        })
        .await
    }

    pub(crate) fn dead_letters(&self) -> Vec<serde_json::Value> {
        dead_letters(self.folder.path())
    }
}

pub(crate) fn push(sink: &SinkHandle, json: &str) {
    let row = row(json);
    let client = Text::from_static("client-1");
    let mut permit = sink.try_reserve(1, record_size(&client, &row)).unwrap();
    sink.push(
        &mut permit,
        client,
        7,
        row,
        1_700_000_000_000,
        Text::default(),
    );
}

pub(crate) fn row(json: &str) -> Value {
    weir_rules::json::decode(json.as_bytes()).unwrap()
}

/// Waits for a state of the counters, and checks the identity each time it looks.
pub(crate) async fn wait(
    sink: &SinkHandle,
    what: &str,
    done: impl Fn(&SinkCounters) -> bool,
) -> SinkCounters {
    wait_until(what, PATIENCE, || async {
        let counters = sink.counters();
        assert!(counters.balanced(), "{counters:?}");
        done(&counters)
    })
    .await;
    sink.counters()
}

pub(crate) fn dead_letters(folder: &Path) -> Vec<serde_json::Value> {
    let path = weir_sinks::dead_letter::file::path(folder, "plant-a/hot", "history");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
