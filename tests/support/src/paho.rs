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
    programs::run(Command::new(python("venv")).arg(script).args(args)).await
}

/// Runs a Python script of the repository that uses Aliyun's SDK, which needs an older paho-mqtt.
///
/// # Panics
/// When its Python environment is missing, with the command that makes it.
pub async fn linkkit(script: &Path, args: &[&str]) -> Finished {
    programs::run(Command::new(python("venv-linkkit")).arg(script).args(args)).await
}

/// `WEIR_TEST_PYTHON`, or the environment that `make test-tools` made under `target/`.
fn python(environment: &str) -> PathBuf {
    if let Some(python) = std::env::var_os("WEIR_TEST_PYTHON").filter(|_| environment == "venv") {
        return python.into();
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let python = repository()
        .join(target)
        .join(environment)
        .join("bin/python");
    assert!(
        python.is_file(),
        "there is no {}: run `make test-tools`",
        python.display()
    );
    python
}
