//! `weir bench`: measures any MQTT broker from outside, and rules without one.
//!
//! Every message is numbered and stamped, so loss, repetition, order and latency are counted, not assumed.
//! docs/performance.md says what each scenario is and how to read the figures.

mod arrivals;
mod compare;
mod conn;
mod durability;
mod engine;
mod hostile;
mod hostile_clients;
mod incoming;
mod link;
mod messages;
mod peers;
mod plan;
mod process;
mod progress;
mod relay;
mod report;
mod rows;
mod rule;
mod socket;
mod traffic;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Subcommand;
use weir_mqtt::{ProtocolVersion, QoS};

use self::engine::{Engine, Settings};
use self::process::Processes;
use super::client::resolve;
use super::{Common, Exit, say};

#[derive(clap::Args)]
#[command(
    after_help = "Latency means something in runs with --rate; without it every publisher keeps \
                        its window full, and latency is mostly waiting. Throughput and CPU a message are then what to read.\n\
                        Exit codes: 1 below --min or messages of QoS 1 and 2 lost, 3 broker not reachable, 4 refused by it."
)]
pub(super) struct Args {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Publishers to subscribers, each pair on a topic of its own
    #[command(visible_alias = "pub")]
    Pairs(messages::PairsArgs),
    /// One publisher to many subscribers of one topic
    #[command(visible_alias = "sub")]
    Fanout(messages::FanoutArgs),
    /// Publishers into tens of thousands of filters, of which each message matches four of four kinds
    Wildcard(messages::WildcardArgs),
    /// Connections: how fast they come (and go), and the memory that each one takes
    Conn(conn::Args),
    /// What evaluating a rule costs a message, without a broker
    Rule(rule::Args),
    /// Well-behaved clients beside idle and hostile ones: what they feel of them
    Hostile(hostile::Args),
    /// The least that any broker costs: serves `pairs` or `fanout` by copying bytes
    Relay(relay::Args),
    /// Runs the scenarios against weir and every broker found on this machine, in turn; prints one table
    Compare(compare::Args),
    /// One load with each durability in turn, with rows for PostgreSQL; and the store alone
    Durability(durability::Args),
    /// What a row costs on its way to a sink: one load without a rule, with one that makes no rows, and with each sink
    Rows(rows::Args),
    /// The hostile clients of `hostile`, in a process of their own
    #[command(hide = true)]
    HostileClients(hostile_clients::Args),
}

/// Which broker, and how to be let in.
#[derive(Clone, clap::Args)]
struct Target {
    /// The broker's MQTT address
    #[arg(
        long,
        short = 'H',
        default_value = "127.0.0.1:1883",
        value_name = "HOST:PORT"
    )]
    host: String,
    /// The broker's process, for its CPU time and memory; what it started counts too
    #[arg(long)]
    pid: Option<u32>,
    /// The user name
    #[arg(long, short = 'u')]
    user: Option<String>,
    /// The password; better given by the variable, which no other user can see
    #[arg(long, short = 'P', env = "WEIR_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Speak MQTT 5 instead of 3.1.1
    #[arg(long)]
    v5: bool,
    /// Handshakes at once while connecting
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(1..))]
    at_once: u16,
    /// Loopback addresses (127.0.1.1 and on) that connections come from; 0: the system's choice
    #[arg(long, default_value = "0", value_name = "NUMBER")]
    sources: u8,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    match &args.scenario {
        Scenario::Compare(args) => return super::block_on(common, compare::run(common, args)),
        Scenario::Durability(args) => {
            return super::block_on(common, durability::run(common, args));
        }
        Scenario::Hostile(args) => return super::block_on(common, hostile::run(common, args)),
        Scenario::Rows(args) => return super::block_on(common, rows::run(common, args)),
        Scenario::Rule(args) => return rule::run(common, args),
        _ => {}
    }
    stop_in_time(common);
    let outcome = match &args.scenario {
        Scenario::Pairs(args) => messages::pairs(common, args),
        Scenario::Fanout(args) => messages::fanout(common, args),
        Scenario::Wildcard(args) => messages::wildcard(common, args),
        Scenario::Conn(args) => conn::run(common, args),
        Scenario::Relay(args) => relay::run(common, args),
        Scenario::HostileClients(args) => hostile_clients::run(args),
        Scenario::Compare(_)
        | Scenario::Durability(_)
        | Scenario::Hostile(_)
        | Scenario::Rows(_)
        | Scenario::Rule(_) => Ok(Exit::Usage),
    };
    outcome.unwrap_or_else(|failure| failure.tell())
}

/// Ends the process when `--timeout` has passed: what runs here has no other place to be interrupted.
fn stop_in_time(common: &Common) {
    if let Some(timeout) = common.timeout {
        std::thread::spawn(move || {
            std::thread::sleep(timeout);
            say("weir: not done in time");
            std::process::exit(124);
        });
    }
}

/// Why there is no result.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    fn usage(text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            text: text.into(),
        }
    }

    fn tell(&self) -> Exit {
        say(&format!("weir: {}", self.text));
        self.exit
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            exit: Exit::Unusable,
            text: error.to_string(),
        }
    }
}

impl Target {
    fn address(&self) -> Result<SocketAddr, Failure> {
        resolve(&self.host).map_err(|error| Failure::usage(error.to_string()))
    }

    /// The broker's processes; none when `--pid` was not given.
    fn processes(&self) -> Result<Processes, Failure> {
        match self.pid {
            None => Ok(Processes::default()),
            Some(pid) => Processes::of(pid)
                .ok_or_else(|| Failure::usage(format!("--pid {pid}: there is no such process"))),
        }
    }

    /// Settings without messages.
    fn settings(&self) -> Result<Settings, Failure> {
        let version = if self.v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V3_1_1
        };
        let user = self.user.clone();
        Ok(Settings {
            target: self.address()?,
            sources: self.sources,
            version,
            credentials: user.map(|user| (user, self.password.clone().unwrap_or_default())),
            publish_qos: QoS::AtMostOnce,
            subscribe_qos: QoS::AtMostOnce,
            session: link::Session::Ends,
            size: 0,
            window: 1,
            rate: 0,
            at_once: usize::from(self.at_once),
        })
    }
}

/// What kept the clients from being ready.
fn not_connected(engine: &Engine) -> Failure {
    let reason = engine.last_error.as_deref().unwrap_or("no reason is known");
    Failure {
        exit: if engine.refused {
            Exit::Refused
        } else {
            Exit::Unreachable
        },
        text: format!(
            "not all clients could connect to {}: {reason}",
            engine.settings.target
        ),
    }
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}
