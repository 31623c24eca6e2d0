//! paho-mqtt, the Python client, as another real client.

use crate::files::repository;
use crate::programs::{self, Finished};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Runs a Python script of the repository that uses paho-mqtt.
///
/// # Panics
/// When the Python environment is missing, with the command that makes it.
pub async fn paho(script: &Path, args: &[&str]) -> Finished {
    programs::run(Command::new(python()).arg(script).args(args)).await
}

/// `WEIR_TEST_PYTHON`, or the environment that `make test-tools` made under `target/`.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("WEIR_TEST_PYTHON") {
        return python.into();
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let python = repository().join(target).join("venv/bin/python");
    assert!(
        python.is_file(),
        "there is no Python with paho-mqtt: run `make test-tools`, or set WEIR_TEST_PYTHON"
    );
    python
}
