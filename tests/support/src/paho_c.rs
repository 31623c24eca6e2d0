//! paho_c_pub and paho_c_sub, the clients in C.

use crate::programs;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// A running client; it ends with this value.
pub struct PahoC {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Starts `paho_c_pub` or `paho_c_sub`.
///
/// # Panics
/// When it is not installed, with the command that installs it.
#[must_use]
pub fn paho_c(program: &str, args: &[&str]) -> PahoC {
    // Into a pipe it would speak only when its buffer is full.
    let mut child = Command::new(programs::find("stdbuf"))
        .arg("-oL")
        .arg(programs::find(program))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .expect("a client in C runs");
    let stdout = child.stdout.take().expect("stdout was piped");
    PahoC {
        child,
        lines: BufReader::new(stdout).lines(),
    }
}

impl PahoC {
    /// The next line that it prints.
    ///
    /// # Panics
    /// When none comes.
    pub async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line())
            .await
            .expect("it prints in time");
        line.expect("a pipe can be read").expect("one more line")
    }

    /// Waits until it has done what it was for.
    ///
    /// # Panics
    /// When it fails.
    pub async fn ended(mut self) {
        let status = timeout(DEADLINE, self.child.wait())
            .await
            .expect("it ends in time");
        let status = status.expect("our own child");
        assert!(status.success(), "{status}");
    }
}
