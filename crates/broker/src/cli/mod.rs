//! The command line: one file per command; results on stdout, all else on stderr (user-experience §4).

mod api;
mod bans;
mod bench;
mod bridge;
mod bridge_command;
mod capture;
mod check;
mod client;
mod clients;
mod codes;
mod demo;
mod dlq;
mod explain;
mod fmt;
mod help;
mod import;
mod init;
mod lines;
mod passwd;
mod reload;
mod replay;
mod run;
mod schema;
mod secret_file;
mod sinks;
mod test;
mod torture;
mod r#try;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::config::{Config, Loaded};
use crate::problem::Problem;

/// How a command ended; the numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Fine.
    Ok,
    /// Found problems: check, test, a refused reload, counts that differ.
    Problems,
    /// Used wrongly.
    Usage,
    /// The peer cannot be reached.
    Unreachable,
    /// The peer refused: login or access.
    Refused,
    /// The configuration is not valid at start.
    ConfigInvalid,
    /// A port or the data folder cannot be used.
    Unusable,
    /// `--timeout` ended it.
    Timeout,
    /// Ctrl-C ended it.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Problems => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Refused => 4,
            Exit::ConfigInvalid => 5,
            Exit::Unusable => 6,
            Exit::Timeout => 124,
            Exit::Interrupted => 130,
        })
    }
}

#[derive(Parser)]
#[command(
    name = "weir",
    version,
    about = "An MQTT broker with a SQL rule engine inside",
    after_help = "First steps: `weir demo` shows everything at once, `weir init my-site` starts your own.\n\
                  Exit codes: 0 fine, 1 problems found, 2 usage, 3 peer not reachable, 4 refused by peer, \
                  5 config invalid at start, 6 port or data folder not usable, 124 --timeout, 130 Ctrl-C.",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Configuration file; ./weir.toml where it exists, else built-in loopback defaults
    #[arg(long, global = true, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides one key of the configuration: --set mqtt.max_packet_size=2MiB
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The broker's HTTP address for commands that ask a running one
    #[arg(long, global = true, env = "WEIR_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Machine-readable output: one document, or one line per event
    #[arg(long, global = true)]
    json: bool,
    /// Say only what was asked for
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say more; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Give up after this time, e.g. 10s (exit 124)
    #[arg(long, global = true, value_parser = humantime::parse_duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Colour on the terminal
    #[arg(long, global = true, default_value = "auto")]
    color: Color,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker in the foreground
    Run(run::Args),
    /// Show the main job at once: devices, rules, SQLite, a webhook and a cloud, all on this machine
    Demo(demo::Args),
    /// Write a starting point into a folder: weir.toml, connectors, a rule with tests, a function
    Init(init::Args),
    /// Check configuration, connectors, functions and rules, offline; --online asks the databases too
    Check(check::Args),
    /// Write the statements of rule files in the house layout
    Fmt(fmt::Args),
    /// Run the tests in rule files
    Test(test::Args),
    /// Run one message through a statement or a rule, stage by stage; sends nothing
    Try(r#try::Args),
    /// Show what a rule or a statement does: filter, fields, conditions in their order, columns, sinks
    Explain(explain::Args),
    /// Print the JSON Schema of a kind of file, for editors that know `#:schema` lines in TOML
    Schema(schema::Args),
    /// Make a running broker read its files again
    Reload(reload::Args),
    /// What an operator does to the clients of a running broker
    Clients(clients::Args),
    /// The sinks of a running broker, and rows that wait for sinks that are no more
    Sinks(sinks::Args),
    /// Rows that sinks have refused: list, show, retry, export, drop
    Dlq(dlq::Args),
    /// Whom a running broker turns away: clients, users, addresses
    Bans(bans::Args),
    /// What [capture] has kept of messages
    Capture(capture::Args),
    /// Messages of before through the rules of now: what would a new version of a rule change?
    Replay(replay::Args),
    /// Publish messages
    Pub(client::PubArgs),
    /// Subscribe and print messages
    Sub(client::SubArgs),
    /// Add a user to a password file; the password comes from stdin
    Passwd(passwd::Args),
    /// Measure a broker, or what a rule costs
    Bench(bench::Args),
    /// Break everything around a weir of its own under load, and count what was promised
    Torture(torture::Args),
    /// Take rules and connectors over from another broker
    Import(import::Args),
    /// Test a bridge stage by stage, show how it signs in, fetch a device's secret, start and stop one that waits for that
    Bridge(bridge::Args),
    /// Explain a code that a finding has, or a command
    Help(help::Args),
    /// Print the version
    Version,
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Run a program that ends with the weir that has started this
    #[command(hide = true)]
    Guarded(torture::GuardedArgs),
    /// Kill processes when the weir that has started this is gone
    #[command(hide = true)]
    KillAfter(torture::KillAfterArgs),
    /// Run jq programs for the weir that has started this
    #[cfg(feature = "jq")]
    #[command(hide = true)]
    JqWorker,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // One TLS provider for the whole process; an error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    #[cfg(feature = "jq")]
    crate::jq::this_process_is_weir();
    let common = cli.common;
    let exit = match cli.command {
        Command::Run(args) => run::run(&common, &args),
        Command::Demo(args) => demo::run(&common, &args),
        Command::Init(args) => init::run(&common, &args),
        Command::Check(args) => check::run(&common, &args),
        Command::Fmt(args) => fmt::run(&common, &args),
        Command::Test(args) => test::run(&common, &args),
        Command::Try(args) => r#try::run(&common, &args),
        Command::Explain(args) => explain::run(&common, &args),
        Command::Schema(args) => schema::run(&common, &args),
        Command::Reload(args) => reload::run(&common, &args),
        Command::Clients(args) => clients::run(&common, &args),
        Command::Sinks(args) => sinks::run(&common, &args),
        Command::Dlq(args) => dlq::run(&common, &args),
        Command::Bans(args) => bans::run(&common, &args),
        Command::Capture(args) => capture::run(&common, &args),
        Command::Replay(args) => replay::run(&common, &args),
        Command::Pub(args) => client::publish(&common, args),
        Command::Sub(args) => client::subscribe(&common, args),
        Command::Passwd(args) => passwd::run(&common, &args),
        Command::Bench(args) => bench::run(&common, &args),
        Command::Torture(args) => torture::run(&common, &args),
        Command::Guarded(args) => torture::guarded(&args),
        Command::KillAfter(args) => torture::kill_after(&args),
        Command::Import(args) => import::run(&common, &args),
        Command::Bridge(args) => bridge::run(&common, &args),
        Command::Help(args) => help::run(&common, &args),
        Command::Version => version(&common),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
            out(&String::from_utf8_lossy(&script));
            Exit::Ok
        }
        #[cfg(feature = "jq")]
        Command::JqWorker => return crate::jq::worker::serve(),
    };
    exit.into()
}

fn version(common: &Common) -> Exit {
    let commit = option_env!("WEIR_COMMIT").unwrap_or("unknown");
    if common.json {
        out_json(
            &serde_json::json!({ "v": 1, "version": env!("CARGO_PKG_VERSION"), "commit": commit, "features": [] }),
        );
    } else {
        out_line(&format!("weir {} ({commit})", env!("CARGO_PKG_VERSION")));
    }
    Exit::Ok
}

/// The HTTP address of the running broker that is meant.
fn server(common: &Common) -> Result<String, Exit> {
    match &common.server {
        Some(server) => Ok(server.trim_end_matches('/').to_owned()),
        None => Ok(format!("http://{}", common.load()?.config.http.bind)),
    }
}

/// There is no broker where one was asked.
fn no_broker(server: &str, error: &reqwest::Error) -> Exit {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    say(&format!("weir: no broker answers at {server}: {cause}"));
    say("      is it running, and is this its http.bind? --server URL asks another one");
    Exit::Unreachable
}

impl Common {
    /// The configuration, or the problems printed.
    fn load(&self) -> Result<Loaded, Exit> {
        Config::load(self.config.as_deref(), &self.set).map_err(|problems| {
            print_problems(&problems);
            Exit::ConfigInvalid
        })
    }

    /// Whether to paint.
    fn paints(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| {
                    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
                };
                set("CLICOLOR_FORCE") || (std::io::stdout().is_terminal() && !set("NO_COLOR"))
            }
        }
    }

    /// Text in green where colour is wanted; the word itself always tells.
    fn good(&self, text: &str) -> String {
        if self.paints() {
            format!("\x1b[32m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Text in red where colour is wanted.
    fn bad(&self, text: &str) -> String {
        if self.paints() {
            format!("\x1b[31m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes a result. A reader that went away (`| head`) ends the process quietly, as other tools do.
fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

fn out_line(text: &str) {
    out(&format!("{text}\n"));
}

fn out_json<T: Serialize>(value: &T) {
    out_line(&serde_json::to_string(value).expect("results have text keys only"));
}

/// Writes what is not a result.
fn say(text: &str) {
    // Nothing can be done when stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn print_problems(problems: &[Problem]) {
    for problem in problems {
        say(&format!("{problem}\n"));
    }
}

/// Runs `task` on a runtime of its own, up to `--timeout` and until Ctrl-C.
fn block_on<F: Future<Output = Exit>>(common: &Common, task: F) -> Exit {
    on_a_runtime(async {
        tokio::select! {
            exit = task => exit,
            () = deadline(common) => Exit::Timeout,
            _ = tokio::signal::ctrl_c() => Exit::Interrupted,
        }
    })
}

/// Runs `task` on a runtime of its own; what it left behind gets a moment to end.
fn on_a_runtime<F: Future<Output = Exit>>(task: F) -> Exit {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    crate::broker::prepare_runtime(&mut builder);
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot start: {error}"));
            return Exit::Unusable;
        }
    };
    let exit = runtime.block_on(task);
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// Lets this process, and those that it starts, open as many files as the system allows it to: a connection is one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    // Where it cannot be raised, whatever needs more files says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
}

/// A huge page is zeroed when it is first touched: milliseconds in which every connection of a thread stands still, because
/// one of them has subscribed to much. Also the memory of many small connections is less without them.
fn without_huge_pages() {
    // Where the system has none, or says no, it goes on as it is.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Resolves when `--timeout` has passed.
async fn deadline(common: &Common) {
    match common.timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

/// `1 row`, `2 rows`.
fn rows(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "row")
}

/// `1 file`, `2 files`.
fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
