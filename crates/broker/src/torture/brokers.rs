//! The broker under test and the one that it bridges to, each in a folder and on ports of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::process::Process;

/// A broker that is killed and started again on the same data and the same port.
pub(crate) struct Broker {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
    pub(crate) port: u16,
    process: Option<Process>,
    /// Ends that nobody had asked for.
    pub(crate) fell: Vec<String>,
}

/// A start on much data, in a debug build, on a busy machine.
const START: Duration = Duration::from_secs(60);

impl Broker {
    /// `weir run` in a folder that has a `weir.toml`.
    pub(crate) fn weir(name: &'static str, folder: &Path, port: u16) -> io::Result<Self> {
        let mut broker = Self {
            name,
            program: std::env::current_exe()?,
            args: vec!["run".to_owned(), "--config=weir.toml".to_owned()],
            folder: folder.to_owned(),
            port,
            process: None,
            fell: Vec::new(),
        };
        broker.launch()?;
        Ok(broker)
    }

    /// mosquitto, in a folder of its own.
    pub(crate) fn mosquitto(program: PathBuf, folder: &Path, port: u16) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let root = std::fs::metadata(folder)?.uid() == 0;
        // As root it would become a user who may not write into this folder.
        let user = if root { "user root\n" } else { "" };
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_dest stderr\n{user}"
        );
        std::fs::write(folder.join("mosquitto.conf"), config)?;
        let mut broker = Self {
            name: "mosquitto",
            program,
            args: vec!["-c".to_owned(), "mosquitto.conf".to_owned()],
            folder: folder.to_owned(),
            port,
            process: None,
            fell: Vec::new(),
        };
        broker.launch()?;
        Ok(broker)
    }

    pub(crate) fn launch(&mut self) -> io::Result<()> {
        if self.process.is_none() {
            let process = Process::start(&self.program, &self.args, &self.folder, None)?;
            self.process = Some(process);
        }
        Ok(())
    }

    pub(crate) async fn kill(&mut self) {
        self.look_after();
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    pub(crate) fn hang(&mut self, hangs: bool) {
        if let Some(process) = &mut self.process {
            process.hang(hangs);
        }
    }

    /// Notes when it has ended by itself, and starts it again.
    pub(crate) fn look_after(&mut self) {
        let ended = self.process.as_mut().and_then(Process::ended);
        if let Some(how) = ended {
            self.process = None;
            let said = self.last_words();
            self.fell
                .push(format!("{} ended by itself: {how}: {said}", self.name));
            // Tried again at the next look.
            let _ = self.launch();
        }
    }

    /// Ends it politely; `None` when it does not run.
    pub(crate) async fn stop(&mut self) -> Option<io::Result<ExitStatus>> {
        let process = self.process.take()?;
        Some(process.stop().await)
    }

    /// Returns when it accepts connections.
    pub(crate) async fn listens(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let ended = self.process.as_mut().and_then(Process::ended);
            if ended.is_some() || began.elapsed() > START {
                return Err(format!(
                    "{} does not start: {}",
                    self.name,
                    self.last_words()
                ));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Everything that it has printed, in all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.folder.join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.trim_end().lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}
