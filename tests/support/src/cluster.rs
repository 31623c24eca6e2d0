//! A PostgreSQL server of our own: made in a temporary folder from the installed programs, gone with
//! the test. It never touches a cluster of the machine.

use crate::ports::free_port;
use crate::programs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs the server given as arguments; `stop` on standard input, or its end, stops it.
///
/// The end comes when the test process is gone, however it went: so no server outlives its test.
/// Only then is the folder removed. `QUIT` is PostgreSQL's immediate shutdown.
const GUARDIAN: &str = r#"
folder=$1; shift
"$@" >>"$folder/log" 2>&1 </dev/null & server=$!
echo started
read -r word || word=ended
kill -s QUIT "$server" 2>/dev/null
wait "$server"
[ "$word" = stop ] || rm -rf "$folder"
"#;

/// No fsync: the folder is thrown away, and the machine does not crash under it. A commit is still
/// written before it is confirmed, so that it outlives the server's own crash.
const SETTINGS: [&str; 7] = [
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    "shared_buffers=32MB",
    "autovacuum=off",
    "timezone=UTC",
];

const START_DEADLINE: Duration = Duration::from_secs(30);

/// One cluster: a folder, a port, and the process that guards the server.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    /// Kept over a stop, so that clients find the server again.
    port: u16,
    /// The unprivileged user that runs the server, when we are root.
    run_as: Option<(u32, u32)>,
    /// Empty while the server is stopped.
    guardian: Option<Child>,
}

impl Cluster {
    /// Makes the cluster and starts it.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("weir-pg-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let mut cluster = Self {
            programs: programs_folder(),
            run_as: unprivileged(&folder),
            folder,
            port: free_port(),
            guardian: None,
        };
        cluster.initdb();
        cluster.launch();
        cluster
    }

    /// The port, the same for the cluster's whole life.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server again on the data and the port that it had.
    pub(crate) fn launch(&mut self) {
        assert!(self.guardian.is_none(), "PostgreSQL is running already");
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARDIAN, "weir-test-postgres"])
            .arg(&self.folder)
            .arg(self.programs.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg(format!("-p{}", self.port))
            .arg(format!(
                "-cunix_socket_directories={}",
                self.folder.display()
            ));
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        self.drop_privileges(&mut command);
        let mut guardian = command
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell runs");
        let mut started = String::new();
        let stdout = guardian.stdout.take().expect("stdout was piped");
        BufReader::new(stdout)
            .read_line(&mut started)
            .expect("the guardian speaks");
        self.guardian = Some(guardian);
        self.wait_until_it_answers();
    }

    /// Stops the server at once, as a crash would: its connections break, its data stays.
    pub(crate) fn stop(&mut self) {
        let Some(mut guardian) = self.guardian.take() else {
            return;
        };
        if let Some(mut stdin) = guardian.stdin.take() {
            let _ = stdin.write_all(b"stop\n");
        }
        let _ = guardian.wait();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn initdb(&self) {
        let mut command = Command::new(self.programs.join("initdb"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions"])
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        self.drop_privileges(&mut command);
        let output = command.output().expect("initdb runs");
        assert!(
            output.status.success(),
            "initdb failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// `initdb` and `postgres` refuse to run as root.
    fn drop_privileges(&self, command: &mut Command) {
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + START_DEADLINE;
        while !self.answers() {
            assert!(
                Instant::now() < deadline && !self.log_says_it_cannot_start(),
                "PostgreSQL did not start:\n{}",
                std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            sleep(Duration::from_millis(15));
        }
    }

    /// The socket file and its lock say "ready" together; a bare TCP connect would say so too early.
    fn answers(&self) -> bool {
        let ready = std::fs::read_to_string(self.data().join("postmaster.pid")).is_ok_and(|file| {
            file.lines()
                .last()
                .is_some_and(|line| line.trim() == "ready")
        });
        ready && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    fn log_says_it_cannot_start(&self) -> bool {
        std::fs::read_to_string(self.folder.join("log"))
            .is_ok_and(|log| log.contains("could not create any TCP/IP sockets"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The folder that has `initdb` and `postgres`: the newest of Debian's, or the one in `PATH`.
fn programs_folder() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let folders: Vec<PathBuf> = versions.into_iter().rev().map(|(_, bin)| bin).collect();
    let Some(initdb) = programs::find_in("initdb", &folders) else {
        programs::missing("initdb")
    };
    initdb
        .parent()
        .expect("a program lies in a folder")
        .to_path_buf()
}

/// When we are root, gives the folder to a user that PostgreSQL agrees to run as.
fn unprivileged(folder: &Path) -> Option<(u32, u32)> {
    if !programs::is_root(folder) {
        return None;
    }
    let (user, group) = programs::user("postgres")
        .or_else(|| programs::user("nobody"))
        .expect("the machine has a user `nobody`");
    chown(folder, Some(user), Some(group)).expect("root may give a folder away");
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
        .expect("root may change a folder");
    Some((user, group))
}
