//! `weir torture`, in short: everything around a weir is broken, and all promises hold.
//!
//! `WEIR_SOAK=1` (`make soak`) is thirty minutes with more than two hundred kills, of a seed that is printed.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use weir_test_support::{Site, wait_until};

use crate::WEIR;

#[tokio::test]
async fn all_promises_hold_while_everything_is_broken() {
    let soak = std::env::var_os("WEIR_SOAK").is_some();
    let args: &[&str] = if soak {
        &["torture", "--json", "--for", "30m", "--kills", "220"]
    } else {
        &[
            "torture", "--json", "--for", "20s", "--kills", "5", "--seed", "4",
        ]
    };
    let finished = Site::new().weir(WEIR, args).await;
    let said = format!("{}\n{}", finished.stderr, finished.stdout);
    if soak {
        eprintln!("{said}");
    }
    assert_eq!(finished.code, Some(0), "{said}");
    let report: Json = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["holds"], true, "{said}");
    // All that is broken was there to be broken.
    assert_eq!(report["skipped"], serde_json::json!([]), "{said}");
    assert!(report["faults"]["kill"].as_u64().unwrap() >= 5, "{said}");
    let consumers = report["consumers"].as_array().unwrap();
    assert_eq!(consumers.len(), 9, "{said}");
    for consumer in consumers {
        assert!(consumer["promised"].as_u64().unwrap() > 100, "{said}");
        for none in ["lost", "doubled", "late", "uncalled"] {
            assert_eq!(consumer[none], 0, "{said}");
        }
    }
}

/// Processes whose working folder has this in its path.
fn living_in(part: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lives_there = |process: &PathBuf| {
        std::fs::read_link(process.join("cwd"))
            .is_ok_and(|folder| folder.to_string_lossy().contains(part))
    };
    let processes = processes.map(|entry| entry.path());
    processes.filter(lives_there).collect()
}

/// How many of these, by the name of their program, stand still.
fn stopped_in(part: &str, program: &str) -> usize {
    let stopped = format!("({program}) T ");
    let stats = living_in(part).into_iter();
    stats
        .filter_map(|process| std::fs::read_to_string(process.join("stat")).ok())
        .filter(|stat| stat.contains(&stopped))
        .count()
}

/// The torture of a seed, and what its folder is called.
fn torture(seed: &str, more: &[&str]) -> (Child, String) {
    let torture = Command::new(WEIR)
        .args(["torture", "--for", "1m", "--seed", seed])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let part = format!("weir-torture-{seed}-{}", torture.id().unwrap());
    (torture, part)
}

/// Kills it, and returns when nothing of it is left.
async fn killed(mut torture: Child, part: &str) {
    torture.kill().await.unwrap();
    wait_until("all of them to end", Duration::from_secs(30), || {
        let left = living_in(part);
        async move { left.is_empty() }
    })
    .await;
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join(part));
}

#[tokio::test]
async fn nothing_that_it_has_started_outlives_it() {
    let (mut torture, part) = torture("5", &[]);
    let mut lines = BufReader::new(torture.stderr.take().unwrap()).lines();
    // The first line is its seed, the next is told when the load is there.
    for _ in 0..2 {
        lines.next_line().await.unwrap().unwrap();
    }
    let before = living_in(&part);
    // weir, the remote and PostgreSQL with its own.
    assert!(before.len() >= 3, "{before:?}");
    killed(torture, &part).await;
}

#[tokio::test]
async fn nothing_that_it_has_stopped_outlives_it() {
    let (torture, part) = torture("6", &["--kills", "1", "--faults", "hang"]);
    wait_until("PostgreSQL to stand still", Duration::from_secs(60), || {
        let postgres = stopped_in(&part, "postgres");
        // The server and its own.
        async move { postgres >= 3 }
    })
    .await;
    killed(torture, &part).await;
}
