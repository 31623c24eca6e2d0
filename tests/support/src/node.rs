//! MQTT.js, the JavaScript client, in Node and in a browser.

use crate::files::repository;
use crate::programs::{self, Finished};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Runs a script of the repository with Node; it finds MQTT.js by its name.
///
/// # Panics
/// When Node or MQTT.js is missing, with the command that installs it.
pub async fn node(script: &Path, args: &[&str]) -> Finished {
    let mut command = Command::new(programs::find("node"));
    command
        .arg(script)
        .args(args)
        .env("NODE_PATH", modules())
        .env("NODE_NO_WARNINGS", "1");
    programs::run(&mut command).await
}

/// The text of MQTT.js as a page loads it.
///
/// # Panics
/// When it is missing, with the command that installs it.
#[must_use]
pub fn mqtt_js() -> String {
    let file = modules().join("mqtt/dist/mqtt.min.js");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A browser without a window; it ends with this value.
pub struct Browser {
    _child: Child,
    _profile: TempDir,
}

/// Opens a page in a browser that trusts every certificate.
///
/// # Panics
/// When there is no browser, with the command that installs it.
#[must_use]
pub fn browse(url: &str) -> Browser {
    let profile = tempfile::Builder::new()
        .prefix("weir-browser-")
        .tempdir()
        .expect("a temporary folder");
    let child = Command::new(programs::find("chromium"))
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--disable-dev-shm-usage", "--disable-background-networking"])
        .args(["--disable-extensions", "--no-first-run"])
        // Without a way to ask it for more, it would end as soon as the page is loaded.
        .args(["--ignore-certificate-errors", "--remote-debugging-port=0"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the browser runs");
    Browser {
        _child: child,
        _profile: profile,
    }
}

/// `WEIR_TEST_NODE_MODULES`, or the folder that `make test-tools` made under `target/`.
fn modules() -> PathBuf {
    if let Some(modules) = std::env::var_os("WEIR_TEST_NODE_MODULES") {
        return modules.into();
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let modules = repository().join(target).join("node/node_modules");
    assert!(
        modules.join("mqtt").is_dir(),
        "there is no MQTT.js: run `make test-tools`, or set WEIR_TEST_NODE_MODULES"
    );
    modules
}
