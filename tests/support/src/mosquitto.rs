//! mosquitto, the broker of somebody else: what weir bridges to.

use crate::clients::{Subscriber, mosquitto_pub};
use crate::ports::free_port;
use crate::programs::{self, Finished};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const START_DEADLINE: Duration = Duration::from_secs(10);
/// A free port can be taken by another test before mosquitto binds it.
const PORTS_TO_TRY: usize = 5;

/// A mosquitto of our own on a free loopback port; it ends with this value.
pub struct Mosquitto {
    folder: TempDir,
    port: u16,
    /// Empty while it is stopped.
    child: Option<Child>,
}

impl Mosquitto {
    /// A broker that lets anyone in.
    ///
    /// # Panics
    /// When mosquitto is not installed, with the command that installs it.
    pub async fn start() -> Self {
        Self::start_with("allow_anonymous true\n").await
    }

    /// A broker that lets in one user with one password.
    ///
    /// # Panics
    /// When mosquitto is not installed, with the command that installs it.
    pub async fn start_with_password(username: &str, password: &str) -> Self {
        let folder = folder();
        let file = folder.path().join("passwords");
        let mut command = Command::new(programs::find("mosquitto_passwd"));
        command.args(["-b", "-c"]).arg(&file);
        let _ = programs::run(command.args([username, password]))
            .await
            .succeeded();
        let config = format!("allow_anonymous false\npassword_file {}\n", file.display());
        Self::start_in(folder, &config).await
    }

    /// A broker with more lines of configuration; they say who may come in.
    ///
    /// # Panics
    /// When mosquitto is not installed, or refuses the configuration.
    pub async fn start_with(config: &str) -> Self {
        Self::start_in(folder(), config).await
    }

    async fn start_in(folder: TempDir, config: &str) -> Self {
        let mut mosquitto = Self {
            folder,
            port: 0,
            child: None,
        };
        for _ in 0..PORTS_TO_TRY {
            mosquitto.port = free_port();
            mosquitto.write_config(config);
            if mosquitto.launch().await {
                return mosquitto;
            }
        }
        panic!("mosquitto did not start:\n{}", mosquitto.log())
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `mqtt://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Everything that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Publishes with `mosquitto_pub`; `args` name the topic and the message.
    pub async fn publish(&self, args: &[&str]) -> Finished {
        mosquitto_pub(self.port, args).await
    }

    /// Subscribes with `mosquitto_sub`, and returns when the subscription stands.
    pub async fn subscribe(&self, filter: &str, args: &[&str]) -> Subscriber {
        Subscriber::start(self.port, filter, args).await
    }

    /// Stops it as a hung machine is stopped: its connections stand, and it neither reads nor says anything.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn pause(&self) {
        programs::signal("STOP", self.pid()).await;
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub async fn go_on(&self) {
        programs::signal("CONT", self.pid()).await;
    }

    fn pid(&self) -> u32 {
        let child = self.child.as_ref().expect("mosquitto runs");
        child.id().expect("mosquitto runs")
    }

    /// Kills it: its connections break without a word.
    pub async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("our own child can be killed");
        }
    }

    /// Starts it again on the port that it had.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "mosquitto is running already");
        assert!(
            self.launch().await,
            "mosquitto did not start again:\n{}",
            self.log()
        );
    }

    fn write_config(&self, more: &str) {
        let mut config = format!(
            "listener {} 127.0.0.1\npersistence false\nlog_dest stderr\nlog_type all\n",
            self.port
        );
        if programs::is_root(self.folder.path()) {
            // As root it would become user `mosquitto`, who may not read this folder.
            config.push_str("user root\n");
        }
        config.push_str(more);
        std::fs::write(self.config_file(), config).expect("a file in our own folder");
    }

    /// Starts the child; false when it ended instead of listening.
    async fn launch(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a file in our own folder");
        let mut child = Command::new(programs::find("mosquitto"))
            .arg("-c")
            .arg(self.config_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("mosquitto runs");
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if child.try_wait().expect("our own child").is_some() {
                return false;
            }
            if self.log().contains(" running") && self.accepts().await {
                self.child = Some(child);
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        false
    }

    async fn accepts(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .await
            .is_ok()
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("mosquitto.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("weir-mosquitto-")
        .tempdir()
        .expect("a temporary folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_goes_from_the_real_publisher_to_the_real_subscriber() {
        let mosquitto = Mosquitto::start().await;
        let mut subscriber = mosquitto.subscribe("a/#", &["-q", "1"]).await;
        let _ = mosquitto
            .publish(&["-t", "a/b", "-m", "{\"x\": 1}", "-q", "1"])
            .await
            .succeeded();
        let messages = subscriber.wait_for(1).await;
        assert_eq!(messages[0].topic, "a/b");
        assert_eq!(messages[0].payload, "{\"x\": 1}");
        assert_eq!(messages[0].qos, 1);
    }

    #[tokio::test]
    async fn a_password_is_asked_for_when_there_is_one() {
        let mosquitto = Mosquitto::start_with_password("gw", "s3cret").await;
        let message = ["-t", "a", "-m", "b"];
        let refused = mosquitto.publish(&message).await;
        assert_ne!(refused.code, Some(0), "{refused:?}");
        let login = [&message[..], &["-u", "gw", "-P", "s3cret"]].concat();
        let _ = mosquitto.publish(&login).await.succeeded();
    }
}
