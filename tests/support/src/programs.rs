//! Finding and running installed programs.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// How to get what is missing.
const INSTALL: &str = "run `make test-tools`, or: apt-get install postgresql mosquitto mosquitto-clients nodejs npm chromium paho.mqtt.c-examples strace";

/// Debian keeps servers outside a normal user's `PATH`.
const MORE_FOLDERS: [&str; 4] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/sbin",
    "/opt/homebrew/bin",
];

/// The full path of an installed program.
pub(crate) fn find(name: &str) -> PathBuf {
    find_in(name, &[]).unwrap_or_else(|| missing(name))
}

/// The full path of a program in one of `folders`, in `PATH` or where servers usually are.
pub(crate) fn find_in(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(MORE_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Fails the test with the command that installs what it needs.
pub(crate) fn missing(name: &str) -> ! {
    panic!("`{name}` is not installed: {INSTALL}")
}

/// A program that has ended, with what it said.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    fn new(command: &Command, output: Output) -> Self {
        Self {
            command: format!("{:?}", command.as_std()),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, when it exited with 0.
    ///
    /// # Panics
    /// With everything that the program said, when it did not.
    #[must_use]
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(
            self.code == Some(0),
            "{} exited with {:?}\n{}{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs a command to its end with nothing on its standard input.
pub(crate) async fn run(command: &mut Command) -> Finished {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{:?}: {error}", command.as_std()));
    Finished::new(command, output)
}

/// Sends a signal (`HUP`, `TERM`, `KILL`) to one process.
pub(crate) async fn signal(name: &str, pid: u32) {
    let mut kill = Command::new("sh");
    kill.arg("-c").arg("kill -s \"$0\" \"$1\"");
    let _ = run(kill.arg(name).arg(pid.to_string())).await.succeeded();
}

/// The numeric user and group of a name, from the password file.
pub(crate) fn user(name: &str) -> Option<(u32, u32)> {
    std::fs::read_to_string("/etc/passwd")
        .ok()?
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some((user, group))
        })
}

/// True when this process runs as root: some servers refuse to, or must be told.
pub(crate) fn is_root(own_folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(own_folder).is_ok_and(|folder| folder.uid() == 0)
}
