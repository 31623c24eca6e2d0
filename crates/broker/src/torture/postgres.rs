//! Rows in PostgreSQL: a server of our own from the installed programs, or one that is there.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep, timeout};

use super::process::{Process, find, free_ports};
use super::verdict::Arrival;

/// A server, and where it is reached.
pub(crate) struct Postgres {
    /// Without the proxy in between, for us.
    url: String,
    /// `None`: it is somebody else's, and is never killed.
    own: Option<Own>,
}

struct Own {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    run_as: Option<(u32, u32)>,
    process: Option<Process>,
}

const START: Duration = Duration::from_secs(40);
/// Any statement of ours.
const PATIENCE: Duration = Duration::from_secs(60);

/// A commit is written before it is confirmed, so that it outlives the death of the server; the machine does not die.
const SETTINGS: [&str; 5] = [
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=127.0.0.1",
    "shared_buffers=32MB",
    "timezone=UTC",
];

/// No key: a row that came twice is there twice.
const TABLE: &str = "CREATE TABLE weir_torture (at bigserial, p int NOT NULL, n int NOT NULL)";

impl Postgres {
    /// A server of our own in `folder`; `None` where none is installed.
    pub(crate) async fn start(folder: &Path) -> Result<Option<Self>, String> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        let problem = |error: io::Error| format!("PostgreSQL: {error}");
        std::fs::create_dir(folder).map_err(problem)?;
        let run_as = unprivileged(folder).map_err(problem)?;
        let [port] = free_ports().map_err(problem)?;
        let mut own = Own {
            programs,
            folder: folder.to_owned(),
            port,
            run_as,
            process: None,
        };
        own.initdb().await?;
        own.launch().map_err(problem)?;
        let postgres = Self {
            url: format!("postgres://weir@127.0.0.1:{port}/postgres"),
            own: Some(own),
        };
        postgres.make_table(true).await?;
        Ok(Some(postgres))
    }

    /// A server that is there; its table `weir_torture` is ours.
    pub(crate) async fn given(url: &str) -> Result<Self, String> {
        let postgres = Self {
            url: url.to_owned(),
            own: None,
        };
        postgres.make_table(false).await?;
        Ok(postgres)
    }

    /// The port where it listens, when it is ours.
    pub(crate) fn port(&self) -> Option<u16> {
        self.own.as_ref().map(|own| own.port)
    }

    /// The same with another port, for a proxy.
    pub(crate) fn url_through(&self, port: Option<u16>) -> String {
        port.map_or_else(
            || self.url.clone(),
            |port| format!("postgres://weir@127.0.0.1:{port}/postgres?sslmode=disable"),
        )
    }

    pub(crate) async fn kill(&mut self) {
        if let Some(process) = self.own.as_mut().and_then(|own| own.process.take()) {
            process.kill().await;
        }
    }

    pub(crate) fn launch(&mut self) -> io::Result<()> {
        self.own.as_mut().map_or(Ok(()), Own::launch)
    }

    pub(crate) fn hang(&mut self, hangs: bool) {
        if let Some(process) = self.own.as_mut().and_then(|own| own.process.as_mut()) {
            process.hang(hangs);
        }
    }

    /// After a kill the old server's children may live a moment longer, and keep the new one from starting.
    pub(crate) fn look_after(&mut self) {
        let Some(own) = &mut self.own else { return };
        let ended = own
            .process
            .as_mut()
            .is_some_and(|process| process.ended().is_some());
        if ended {
            own.process = None;
            // Tried again at the next look.
            let _ = own.launch();
        }
    }

    async fn make_table(&self, waits: bool) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let made = async {
                let mut connection = PgConnection::connect(&self.url).await?;
                sqlx::query("DROP TABLE IF EXISTS weir_torture")
                    .execute(&mut connection)
                    .await?;
                sqlx::query(TABLE).execute(&mut connection).await?;
                connection.close().await
            };
            match made.await {
                Ok(()) => return Ok(()),
                Err(_) if waits && began.elapsed() < START => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(format!("PostgreSQL: {error}")),
            }
        }
    }

    /// Statements of ours.
    pub(crate) async fn execute(&self, sql: &'static str) -> Result<(), String> {
        let executed = async {
            let mut connection = PgConnection::connect(&self.url).await?;
            sqlx::raw_sql(sql).execute(&mut connection).await?;
            connection.close().await
        };
        let executed: Result<(), sqlx::Error> = executed.await;
        executed.map_err(|error| format!("PostgreSQL: {error}"))
    }

    /// How many rows there are; `None` while it is away.
    pub(crate) async fn rows(&self) -> Option<usize> {
        let count = async {
            let mut connection = PgConnection::connect(&self.url).await?;
            let row = sqlx::query("SELECT count(*) FROM weir_torture")
                .fetch_one(&mut connection)
                .await?;
            row.try_get::<i64, _>(0)
        };
        let count = timeout(Duration::from_secs(5), count).await.ok()?.ok()?;
        usize::try_from(count).ok()
    }

    /// Everything, in the order of its arrival.
    pub(crate) async fn arrivals(&self) -> Result<Vec<Arrival>, String> {
        let rows = async {
            let mut connection = PgConnection::connect(&self.url).await?;
            sqlx::query("SELECT p, n FROM weir_torture ORDER BY at")
                .fetch_all(&mut connection)
                .await
        };
        let rows = timeout(PATIENCE, rows)
            .await
            .map_err(|_| "PostgreSQL does not answer".to_owned())?
            .map_err(|error| format!("PostgreSQL: {error}"))?;
        let arrival = |row: &sqlx::postgres::PgRow| {
            Arrival::of_row(|column| row.try_get::<i32, _>(column).ok().map(i64::from))
        };
        Ok(rows.iter().map(arrival).collect())
    }
}

impl Own {
    async fn initdb(&self) -> Result<(), String> {
        let mut command = tokio::process::Command::new(self.programs.join("initdb"));
        command
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions"])
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        let output = command.output().await;
        let output = output.map_err(|error| format!("initdb: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("initdb: {}", said.trim()))
    }

    fn launch(&mut self) -> io::Result<()> {
        let mut args = vec![
            "-D".to_owned(),
            self.folder.join("data").display().to_string(),
            format!("-p{}", self.port),
            format!("-cunix_socket_directories={}", self.folder.display()),
        ];
        for setting in SETTINGS {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let program = self.programs.join("postgres");
        let process = Process::start(&program, &args, &self.folder, self.run_as)?;
        self.process = Some(process);
        Ok(())
    }
}

/// The folder that has `initdb` and `postgres`: the newest of Debian's, or one on `PATH`.
fn programs() -> Option<PathBuf> {
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
    let postgres = find("postgres", &folders)?;
    let folder = postgres.parent()?.to_path_buf();
    folder.join("initdb").is_file().then_some(folder)
}

/// The server refuses to run as root: then the folder is given to somebody else.
fn unprivileged(folder: &Path) -> io::Result<Option<(u32, u32)>> {
    if std::fs::metadata(folder)?.uid() != 0 {
        return Ok(None);
    }
    let Some((user, group)) = user("postgres").or_else(|| user("nobody")) else {
        return Ok(None);
    };
    chown(folder, Some(user), Some(group))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    // What it prints is written by us.
    let log = std::fs::File::create(folder.join("log"))?;
    drop(log);
    Ok(Some((user, group)))
}

/// The numeric user and group of a name.
fn user(name: &str) -> Option<(u32, u32)> {
    let file = std::fs::read_to_string("/etc/passwd").ok()?;
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some((user, group))
    })
}
