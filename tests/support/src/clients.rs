//! `mosquitto_pub` and `mosquitto_sub`: the clients that most people have.

use crate::programs::{self, Finished};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a message may take from one real client to another on a busy machine.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(20);

/// Runs `mosquitto_pub` against a port of this machine.
///
/// # Panics
/// When it is not installed, with the command that installs it.
pub async fn mosquitto_pub(port: u16, args: &[&str]) -> Finished {
    let mut command = Command::new(programs::find("mosquitto_pub"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    programs::run(command.args(args)).await
}

/// A running `mosquitto_pub -l`: each line that it is given is a message, sent once.
pub struct LinePublisher {
    child: Child,
    /// Empty when no more lines will come.
    stdin: Option<ChildStdin>,
}

impl LinePublisher {
    /// Connects; `args` name the topic, the QoS and the protocol version.
    ///
    /// # Panics
    /// When `mosquitto_pub` is not installed.
    #[must_use]
    pub fn start(port: u16, args: &[&str]) -> Self {
        let mut child = Command::new(programs::find("mosquitto_pub"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-l"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("mosquitto_pub runs");
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    /// Gives it lines, each with its end; returns when it has read them, not when they are sent.
    ///
    /// # Panics
    /// When it has ended.
    pub async fn send(&mut self, lines: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("it is told of the end only once");
        stdin
            .write_all(lines.as_bytes())
            .await
            .expect("mosquitto_pub reads until it is told of the end");
    }

    /// Tells it that no more lines come, and waits until every message is acknowledged.
    ///
    /// # Panics
    /// When it ends without that.
    pub async fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().await.expect("our own child");
        assert!(status.success(), "mosquitto_pub ended with {status}");
    }
}

/// A message as `mosquitto_sub` reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The topic it came on.
    pub topic: String,
    /// The QoS it came with.
    pub qos: u8,
    /// The retain flag it came with.
    pub retain: bool,
    /// Its payload, as text.
    pub payload: String,
}

/// A running `mosquitto_sub`; it ends with this value.
pub struct Subscriber {
    /// Killed when dropped.
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    received: Vec<Received>,
}

impl Subscriber {
    /// Connects, subscribes, and returns when the subscription stands.
    ///
    /// # Panics
    /// When `mosquitto_sub` is not installed, or is refused.
    pub async fn start(port: u16, filter: &str, args: &[&str]) -> Self {
        // Into a pipe it would speak only when its buffer is full.
        let mut child = Command::new(programs::find("stdbuf"))
            .arg("-oL")
            .arg(programs::find("mosquitto_sub"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", filter])
            // -d says when the subscription is acknowledged, among other lines.
            .args(["-d", "-F", "message %q %r %t %p"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("mosquitto_sub runs");
        let stdout = child.stdout.take().expect("stdout was piped");
        let mut subscriber = Self {
            _child: child,
            lines: BufReader::new(stdout).lines(),
            received: Vec::new(),
        };
        timeout(DELIVERY_DEADLINE, subscriber.until_subscribed())
            .await
            .expect("the broker acknowledges a subscription in time");
        subscriber
    }

    async fn until_subscribed(&mut self) {
        while let Some(line) = self.line().await {
            if line.starts_with("Subscribed ") {
                return;
            }
            self.take(&line);
        }
        panic!("mosquitto_sub ended before it was subscribed")
    }

    /// Everything received, when there are at least `count` messages.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn wait_for(&mut self, count: usize) -> &[Received] {
        let deadline = Instant::now() + DELIVERY_DEADLINE;
        while self.received.len() < count {
            match timeout_at(deadline, self.line()).await {
                Ok(Some(line)) => self.take(&line),
                ended => panic!(
                    "waited for {count} messages ({}), got {:?}",
                    if ended.is_err() {
                        "in vain"
                    } else {
                        "it ended"
                    },
                    self.received
                ),
            }
        }
        &self.received
    }

    /// Everything received up to now, and for `quiet` longer: for showing that nothing more comes.
    pub async fn all_within(&mut self, quiet: Duration) -> &[Received] {
        let end = Instant::now() + quiet;
        while let Ok(Some(line)) = timeout_at(end, self.line()).await {
            self.take(&line);
        }
        &self.received
    }

    async fn line(&mut self) -> Option<String> {
        self.lines.next_line().await.expect("a pipe can be read")
    }

    fn take(&mut self, line: &str) {
        if let Some(message) = parse(line) {
            self.received.push(message);
        }
    }
}

/// Reads `message QOS RETAIN TOPIC PAYLOAD`; other lines are talk.
fn parse(line: &str) -> Option<Received> {
    let mut parts = line.strip_prefix("message ")?.splitn(4, ' ');
    Some(Received {
        qos: parts.next()?.parse().ok()?,
        retain: parts.next()? == "1",
        topic: parts.next()?.to_owned(),
        payload: parts.next().unwrap_or_default().to_owned(),
    })
}
