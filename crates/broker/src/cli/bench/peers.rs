//! Brokers on this machine: which are installed, and how each is started and ended.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Failure;

const KNOWN: &str = include_str!("peers.toml");

/// A broker as `peers.toml` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    pub name: String,
    /// A path, or a name to be found on PATH.
    pub program: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files to be written into its folder before it starts.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The folder for weir's rule files, where the broker has rules.
    rules: Option<String>,
    /// Arguments with which the program ends well where all is installed that the broker needs.
    #[serde(default)]
    probe: Vec<String>,
    /// What is not as it is by default, for the reader of the table.
    #[serde(default)]
    pub settings: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersFile {
    broker: Vec<Peer>,
}

/// Servers often lie outside a normal user's PATH.
const MORE_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin"];
/// The slowest of them takes some seconds to start.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(5);

/// All brokers that are known, with those of `more`.
pub(super) fn known(more: Option<&Path>) -> Result<Vec<Peer>, Failure> {
    let mut peers = parse(KNOWN).expect("a test parses it");
    if let Some(path) = more {
        let cannot = |error: String| Failure::usage(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
        for peer in parse(&text).map_err(|error| cannot(error.to_string()))? {
            peers.retain(|known| known.name != peer.name);
            peers.push(peer);
        }
    }
    Ok(peers)
}

/// The brokers of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Peer>, toml::de::Error> {
    toml::from_str::<PeersFile>(text).map(|file| file.broker)
}

impl Peer {
    /// The program's file, where all is installed that it needs.
    pub(super) fn installed(&self) -> Option<PathBuf> {
        self.file().filter(|file| self.has_all(file))
    }

    /// What is not installed.
    pub(super) fn missing(&self) -> Option<String> {
        let Some(file) = self.file() else {
            return Some(format!("there is no {}", self.program));
        };
        let probe = self.probe.join(" ");
        (!self.has_all(&file)).then(|| format!("`{} {probe}` fails", self.program))
    }

    /// Whether the program finds what it needs, from wherever it is started.
    fn has_all(&self, file: &Path) -> bool {
        let probe = || {
            std::process::Command::new(file)
                .args(&self.probe)
                .current_dir(std::env::temp_dir())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
        };
        self.probe.is_empty() || probe().is_ok_and(|status| status.success())
    }

    fn file(&self) -> Option<PathBuf> {
        if self.program == "{weir}" {
            return std::env::current_exe().ok();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(MORE_FOLDERS.iter().map(PathBuf::from))
            .map(|folder| folder.join(&self.program))
            .find(|file| file.is_file())
    }

    /// Whether it only serves what the relay can.
    pub(super) fn is_relay(&self) -> bool {
        self.args.iter().any(|argument| argument == "{relay}")
    }

    /// Whether it has weir's rules.
    pub(super) fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Starts it in a folder of its own, with these rule files, and waits until it accepts connections.
    pub(super) async fn start(
        &self,
        relay: &str,
        rules: &[(String, String)],
    ) -> Result<Running, String> {
        let program = self.file().ok_or("it is not installed")?;
        let folder = Folder::new(&self.name).map_err(|error| error.to_string())?;
        let port = free_port().map_err(|error| error.to_string())?;
        let filled = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{dir}", &folder.0.display().to_string())
                .replace("{relay}", relay)
        };
        let files = self.files.iter();
        let mut files: Vec<_> = files
            .map(|(name, text)| (folder.0.join(name), filled(text)))
            .collect();
        if let Some(dir) = &self.rules {
            let dir = PathBuf::from(filled(dir));
            let rules = rules.iter().cloned();
            files.extend(rules.map(|(name, text)| (dir.join(name), text)));
        }
        for (file, text) in files {
            let write = || {
                file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                std::fs::write(&file, text)
            };
            write().map_err(|error| error.to_string())?;
        }
        let log = folder.0.join("weir-bench.out");
        let out = std::fs::File::create(&log).map_err(|error| error.to_string())?;
        let err = out.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(program)
            .args(self.args.iter().map(|argument| filled(argument)))
            .envs(self.env.iter().map(|(name, value)| (name, filled(value))))
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut running = Running {
            child,
            port,
            folder,
        };
        running.until_it_listens(&log).await?;
        Ok(running)
    }
}

/// A broker that runs; it ends with this value.
pub(super) struct Running {
    child: Child,
    pub port: u16,
    #[expect(dead_code, reason = "removes the folder when the broker has ended")]
    folder: Folder,
}

impl Running {
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn until_it_listens(&mut self, log: &Path) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                .await
                .is_ok()
            {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let said = said.trim().lines().last().unwrap_or("it said nothing");
                return Err(format!("it did not start: {said}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end, and ends it when it does not.
    pub(super) async fn stop(mut self) {
        let pid = self
            .pid()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // One that has just ended by itself is as well.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// A new folder, removed with this value.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> std::io::Result<Self> {
        let unique: u64 = rand::random();
        let path = std::env::temp_dir().join(format!("weir-bench-{name}-{unique:016x}"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_brokers_are_well_described() {
        let peers = known(None).unwrap();
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "weir",
                "relay",
                "mosquitto",
                "flashmq",
                "rumqttd",
                "rmqtt",
                "nanomq",
                "aedes",
                "emqx"
            ]
        );
        for peer in &peers {
            let texts = peer
                .args
                .iter()
                .chain(peer.env.values())
                .chain(peer.files.values());
            let all: String = texts.cloned().collect();
            assert!(all.contains("{port}"), "{}", peer.name);
            assert!(
                !all.contains("0.0.0.0"),
                "{} listens beyond loopback",
                peer.name
            );
        }
    }

    #[test]
    fn weir_itself_is_always_installed() {
        assert!(known(None).unwrap()[0].installed().is_some());
    }

    #[test]
    fn a_broker_whose_program_lacks_something_is_not_installed() {
        let peer = |probe: &str| {
            let text = format!(
                "[[broker]]\nname = \"x\"\nprogram = \"sh\"\nprobe = [\"-c\", \"{probe}\"]\n"
            );
            parse(&text).unwrap().remove(0)
        };
        let whole = peer("exit 0");
        assert!(whole.installed().is_some() && whole.missing().is_none());
        let lacking = peer("exit 1");
        assert!(lacking.installed().is_none());
        assert_eq!(lacking.missing().unwrap(), "`sh -c exit 1` fails");
    }

    #[test]
    fn a_file_replaces_brokers_of_the_same_name_and_says_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("peers.toml");
        std::fs::write(
            &file,
            "[[broker]]\nname = \"mosquitto\"\nprogram = \"/opt/other\"\n",
        )
        .unwrap();
        let peers = known(Some(&file)).unwrap();
        let found = peers.iter().filter(|peer| peer.name == "mosquitto");
        assert_eq!(
            found.map(|peer| &*peer.program).collect::<Vec<_>>(),
            ["/opt/other"]
        );
        std::fs::write(&file, "[[broker]]\nname = \"x\"\nprogramm = \"y\"\n").unwrap();
        assert!(known(Some(&file)).unwrap_err().text.contains("programm"));
    }
}
