//! weir itself, as its users run it: the real binary in a folder with rule files.

use crate::programs::{self, Finished};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// A debug build on a busy machine; a healthy start takes a fraction of a second.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a polite end may take before it is one that a test should hear about.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A folder with what a user writes: `weir.toml`, `rules/`, `connectors/`, `udf/`.
pub struct Site {
    folder: TempDir,
    /// Given to every weir that runs here.
    environment: Vec<(String, String)>,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// An empty site, with listeners on free loopback ports.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("weir-site-")
            .tempdir()
            .expect("a temporary folder");
        for name in ["rules", "connectors", "udf"] {
            std::fs::create_dir(folder.path().join(name)).expect("an empty folder");
        }
        let site = Self {
            folder,
            environment: Vec::new(),
        };
        site.config("");
        site
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Sets more of `weir.toml`, which already gives the listeners and the HTTP address.
    pub fn config(&self, more: &str) {
        let text = format!(
            "listeners = [{{ kind = \"tcp\", bind = \"127.0.0.1:0\" }}]\n\
             http.bind = \"127.0.0.1:0\"\n{more}"
        );
        self.write("weir.toml", &text);
    }

    /// Writes `rules/NAME.toml` in the way that editors do: whole, by a rename.
    pub fn rule(&self, name: &str, text: &str) {
        self.write(&format!("rules/{name}.toml"), text);
    }

    /// Removes `rules/NAME.toml`.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove_rule(&self, name: &str) {
        let file = self.path().join(format!("rules/{name}.toml"));
        std::fs::remove_file(file).expect("the rule was there");
    }

    /// Writes `connectors/NAME.toml`.
    pub fn connector(&self, name: &str, text: &str) {
        self.write(&format!("connectors/{name}.toml"), text);
    }

    /// Writes `udf/NAME.rhai`.
    pub fn udf(&self, name: &str, text: &str) {
        self.write(&format!("udf/{name}.rhai"), text);
    }

    /// A variable for `${env:NAME}` and for weir's own settings.
    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes any file of the site, whole, by a rename.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn write(&self, path: &str, text: &str) {
        let file = self.path().join(path);
        let folder = file.parent().expect("a file lies in a folder");
        std::fs::create_dir_all(folder).expect("a folder of our own");
        // A leading dot: never loaded while it is half written.
        let unfinished = folder.join(".unfinished");
        std::fs::write(&unfinished, text).expect("a file of our own");
        std::fs::rename(&unfinished, &file).expect("a file of our own");
    }

    /// The rows that a file sink has written to `file` so far; none while there is no such file.
    ///
    /// # Panics
    /// When a whole line is no JSON.
    #[must_use]
    pub fn file_rows(&self, file: &str) -> Vec<serde_json::Value> {
        let path = self.path().join("data/files").join(file);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a row is JSON"))
            .collect()
    }

    /// Runs a command of weir in this folder to its end.
    pub async fn weir(&self, binary: &str, args: &[&str]) -> Finished {
        programs::run(self.command(binary).args(args)).await
    }

    /// Starts `weir run` here and returns when it is ready.
    ///
    /// # Panics
    /// With everything that it said, when it does not become ready.
    pub async fn start(&self, binary: &str) -> Weir {
        let mut command = self.command(binary);
        command.arg("run");
        Weir::start(self, binary, command).await
    }

    /// The same under `strace`, which writes what the program asks of files and sockets to `trace`: every byte, in hex, with
    /// the names behind the descriptors. The trace is whole when its last line says that the program has exited.
    ///
    /// # Panics
    /// As [`start`](Self::start), and when `strace` is not installed or not permitted.
    pub async fn start_traced(&self, binary: &str, trace: &Path) -> Weir {
        const CALLS: &str = "trace=recvfrom,recvmsg,sendto,sendmsg,write,writev,pwrite64,pwritev,fdatasync,fsync,sync_file_range,syncfs";
        let mut command = self.command(&programs::find("strace").to_string_lossy());
        command
            // weir stays our own child; the tracer ends when it does.
            .args(["-D", "-f", "-yy", "-xx", "-s", "1048576", "-e", CALLS])
            .args(["-e", "signal=none", "-o"])
            .arg(trace)
            .args([binary, "run"]);
        Weir::start(self, binary, command).await
    }

    fn command(&self, binary: &str) -> Command {
        let mut command = Command::new(binary);
        command
            .current_dir(self.path())
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A running weir; it is killed with this value.
pub struct Weir {
    child: Child,
    binary: PathBuf,
    folder: PathBuf,
    /// What it has printed so far, both streams.
    printed: Arc<Mutex<String>>,
    mqtt_port: u16,
    http_port: u16,
}

impl Weir {
    async fn start(site: &Site, binary: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}"));
        let printed = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("stdout was piped"), &printed);
        collect(child.stderr.take().expect("stderr was piped"), &printed);
        let mut weir = Self {
            child,
            binary: binary.into(),
            folder: site.path().to_path_buf(),
            printed,
            mqtt_port: 0,
            http_port: 0,
        };
        weir.until_ready().await;
        weir
    }

    /// The port of the MQTT listener.
    #[must_use]
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    /// The ports that the banner gives after a word such as `mqtts`, in its order.
    #[must_use]
    pub fn ports(&self, word: &str) -> Vec<u16> {
        self.printed()
            .lines()
            .filter_map(|line| port(line, word))
            .collect()
    }

    /// The port of the HTTP listener.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("weir is running")
    }

    /// Everything that it has printed so far.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the text.
    #[must_use]
    pub fn printed(&self) -> String {
        self.printed.lock().expect("nothing panics here").clone()
    }

    /// Runs another command of weir that talks to this one.
    pub async fn command(&self, args: &[&str]) -> Finished {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .current_dir(&self.folder)
            .env("NO_COLOR", "1")
            .env("WEIR_SERVER", self.http_url());
        programs::run(&mut command).await
    }

    /// `weir reload`.
    pub async fn reload(&self) -> Finished {
        self.command(&["reload"]).await
    }

    /// Asks for a reload with a signal.
    pub async fn hang_up(&self) {
        programs::signal("HUP", self.pid()).await;
    }

    /// `GET path`: the status and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        http_get(self.http_port, path).await
    }

    /// `POST path` with a body: the status and the body of the answer.
    ///
    /// # Panics
    /// When nobody answers.
    pub async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        try_http(
            self.http_port,
            "POST",
            path,
            &format!("Content-Length: {length}\r\n\r\n{body}"),
        )
        .await
        .unwrap_or_else(|| panic!("no answer to POST {path}"))
    }

    /// The sum of all samples of a metric that carry these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        text.lines()
            .filter(|line| is_sample(line, name, labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Ends it politely and returns its exit code.
    ///
    /// # Panics
    /// With everything that it said, when it does not end.
    pub async fn stop(mut self) -> Option<i32> {
        programs::signal("TERM", self.pid()).await;
        match timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(status) => status.expect("our own child").code(),
            Err(_) => panic!("weir did not end:\n{}", self.printed()),
        }
    }

    /// Stops it as a hung machine is stopped: its connections stand, and it neither reads nor says anything.
    pub async fn pause(&self) {
        programs::signal("STOP", self.pid()).await;
    }

    /// Lets it go on.
    pub async fn go_on(&self) {
        programs::signal("CONT", self.pid()).await;
    }

    /// Kills it without a warning.
    ///
    /// # Panics
    /// When it has ended before.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("our own child");
    }

    /// Reads the ports from the banner, then asks until it says that it is ready.
    async fn until_ready(&mut self) {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let ended = self.child.try_wait().expect("our own child");
            let printed = self.printed();
            if let (Some(mqtt), Some(http)) = (port(&printed, "mqtt"), port(&printed, "http")) {
                (self.mqtt_port, self.http_port) = (mqtt, http);
                if matches!(try_get(http, "/health/ready").await, Some((200, _))) {
                    return;
                }
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "weir did not become ready ({ended:?}); it said:\n{printed}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Weir {
    /// A test that fails shows what weir said.
    #[expect(
        clippy::print_stderr,
        reason = "a failed test's output is what its reader sees"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("weir said:\n{}", self.printed());
        }
    }
}

/// Appends what a stream says to the text, line by line, in the background.
fn collect(stream: impl AsyncRead + Unpin + Send + 'static, printed: &Arc<Mutex<String>>) {
    let printed = Arc::clone(printed);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut printed = printed.lock().expect("nothing panics here");
            printed.push_str(&line);
            printed.push('\n');
        }
    });
}

/// The port in the banner after a word: `mqtt 127.0.0.1:1883` or `http http://127.0.0.1:18083`.
fn port(printed: &str, word: &str) -> Option<u16> {
    let mut words = printed.split_whitespace();
    while let Some(found) = words.next() {
        if found == word
            && let Some(address) = words.clone().next()
            && let Some((_, port)) = address.trim_end_matches('/').rsplit_once(':')
            && let Ok(port) = port.parse()
        {
            return Some(port);
        }
    }
    None
}

fn is_sample(line: &str, name: &str, labels: &[(&str, &str)]) -> bool {
    let Some(rest) = line.strip_prefix(name) else {
        return false;
    };
    rest.starts_with([' ', '{'])
        && labels
            .iter()
            .all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
}

/// `GET path` at a port of this machine: the status and the body.
///
/// # Panics
/// When nobody answers.
pub async fn http_get(port: u16, path: &str) -> (u16, String) {
    try_get(port, path)
        .await
        .unwrap_or_else(|| panic!("no answer to GET {path} at port {port}"))
}

async fn try_get(port: u16, path: &str) -> Option<(u16, String)> {
    try_http(port, "GET", path, "\r\n").await
}

/// `rest` is what follows the first headers: more of them, an empty line, a body.
async fn try_http(port: u16, method: &str, path: &str, rest: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    // HTTP/1.0: the answer is whole when the connection ends, and never in chunks.
    let request = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{rest}");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_the_banner() {
        let banner = "weir 0.1.0\nmqtt 127.0.0.1:4711\nhttp http://127.0.0.1:4712/\n";
        assert_eq!(port(banner, "mqtt"), Some(4711));
        assert_eq!(port(banner, "http"), Some(4712));
        assert_eq!(port("mqtt listener starts", "mqtt"), None);
    }

    #[test]
    fn a_sample_is_chosen_by_name_and_labels() {
        let line = "weir_sink_rows_in_total{rule=\"hot\",sink=\"db\"} 3";
        assert!(is_sample(
            line,
            "weir_sink_rows_in_total",
            &[("rule", "hot")]
        ));
        assert!(!is_sample(
            line,
            "weir_sink_rows_in_total",
            &[("rule", "cold")]
        ));
        assert!(!is_sample(line, "weir_sink_rows", &[]));
    }
}
