//! Tells when files of a project may have changed: file system events, settled, and a rescan as a fallback.
//!
//! A tick means "look again", never "this changed": the reload compares contents, so a tick too many costs nothing
//! and a swapped link or an event that the system lost is found by the next rescan.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// An editor writes a file in several steps; this long without an event and it is done.
const SETTLE: Duration = Duration::from_millis(300);
/// Files that never rest are looked at anyway.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);
/// For file systems and containers that send no events.
const RESCAN: Duration = Duration::from_secs(5);

/// A stream of ticks.
pub struct Changes {
    events: mpsc::Receiver<()>,
    /// Ends the watching when it is dropped; `None` where the system offers no events.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Changes {
    /// Watches the folders, and the folders that hold them for links that are swapped.
    pub fn of(folders: &[&Path]) -> Self {
        // One waiting tick is as good as many.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event on some systems; the rescan reads, so it must not cause itself.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // A full channel holds a tick already.
                let _ = sender.try_send(());
            }
        });
        let watcher = match watcher {
            Ok(mut watcher) => {
                for folder in folders {
                    let targets = [
                        (std::fs::canonicalize(folder).ok(), RecursiveMode::Recursive),
                        (Some(parent(folder)), RecursiveMode::NonRecursive),
                    ];
                    for (target, mode) in targets {
                        let Some(target) = target else { continue };
                        if let Err(error) = watcher.watch(&target, mode) {
                            tracing::debug!(folder = %target.display(), %error, "not watched; the rescan finds changes");
                        }
                    }
                }
                Some(watcher)
            }
            Err(error) => {
                tracing::warn!(%error, "file changes are found by a rescan every 5 s only");
                None
            }
        };
        Self {
            events,
            _watcher: watcher,
        }
    }

    /// Resolves when it is time to look again.
    pub async fn next(&mut self) {
        match tokio::time::timeout(RESCAN, self.events.recv()).await {
            Ok(Some(())) => self.settle().await,
            // No watcher: its channel is closed, so wait the rescan out.
            Ok(None) => tokio::time::sleep(RESCAN).await,
            Err(_) => {}
        }
    }

    async fn settle(&mut self) {
        let at_most = Instant::now() + SETTLE_AT_MOST;
        while Instant::now() < at_most {
            if tokio::time::timeout(SETTLE, self.events.recv())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

fn parent(folder: &Path) -> PathBuf {
    match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => ".".into(),
        Some(parent) => parent.to_path_buf(),
        None => folder.to_path_buf(),
    }
}
