//! `hostile`: what well-behaved clients feel of thousands of idle ones and of a thousand that mean harm.
//!
//! The good ones run three times at the same rate: alone, beside the idle, and beside the idle and the hostile.
//! Idle and hostile clients live in processes of their own, so that they do not share the good ones' file limit or thread.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::hostile_clients::{Kind, Ways};
use super::process::Processes;
use super::report::{mebibytes, tenths, time};
use super::socket::prepare_process;
use super::{Common, Exit, Failure, Target, duration};
use crate::cli::{out_json, out_line, say};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Good clients, half of which publish to the other half
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(2..))]
    good: u16,
    /// Clients that are connected, subscribe once and do nothing
    #[arg(long, default_value = "10000")]
    idle: u32,
    /// Hostile clients, as many of each kind
    #[arg(long, default_value = "1000")]
    hostile: u32,
    #[command(flatten)]
    ways: Ways,
    /// Messages a second of the good ones together
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// QoS of the good ones
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// How long each of the three runs measures
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Exit with 1 when the hostile ones make the good ones' p99 more than so many times as long
    #[arg(long, value_name = "FACTOR")]
    max_ratio: Option<f64>,
    #[command(flatten)]
    target: Target,
}

/// How long ten thousand clients may take to connect.
const CONNECTING: Duration = Duration::from_secs(60);
/// Idle and hostile clients spread over these many loopback addresses.
const SOURCES: &str = "16";

/// The good ones' figures in one run.
struct Phase {
    name: &'static str,
    result: Json,
    rss_kib: u64,
}

impl Phase {
    fn p99_us(&self) -> Option<f64> {
        self.result.pointer("/latency_us/p99")?.as_f64()
    }
}

pub(super) async fn run(common: &Common, args: &Args) -> Exit {
    prepare_process();
    match phases(common, args).await {
        Ok((phases, closed)) => report(common, args, &phases, closed),
        Err(failure) => failure.tell(),
    }
}

async fn phases(common: &Common, args: &Args) -> Result<(Vec<Phase>, Json), Failure> {
    args.target.address()?;
    let tell = |text: &str| {
        if !common.quiet {
            say(text);
        }
    };
    let mut phases = Vec::new();
    tell("the good ones alone");
    phases.push(good(args, "alone").await?);
    tell(&format!("connecting {} idle clients", args.idle));
    let idle = Crowd::start(args, "--idle", args.idle).await?;
    tell("the good ones beside the idle");
    phases.push(good(args, "idle").await?);
    tell(&format!("connecting {} hostile clients", args.hostile));
    let hostile = Crowd::start(args, "--hostile", args.hostile).await?;
    tell("the good ones beside the hostile");
    phases.push(good(args, "hostile").await?);
    let closed = hostile.end().await;
    idle.end().await;
    Ok((phases, closed))
}

/// One run of the good ones.
async fn good(args: &Args, name: &'static str) -> Result<Phase, Failure> {
    let pairs = (args.good / 2).max(1).to_string();
    let mut command = child(this_program()?, args, "pairs");
    let duration = format!("{}ms", args.duration.as_millis());
    command
        .args(["--json", "--publishers", &pairs, "--subscribers", &pairs])
        .args([
            "--rate",
            &args.rate.to_string(),
            "--qos",
            &args.qos.to_string(),
        ])
        .args(["--duration", &duration, "--warmup", "1s"]);
    if let Some(pid) = args.target.pid {
        command.args(["--pid", &pid.to_string()]);
    }
    let limit = args.duration + CONNECTING;
    let output = timeout(
        limit,
        command.stdout(Stdio::piped()).spawn()?.wait_with_output(),
    )
    .await
    .map_err(|_| failed("the good ones did not come to an end"))??;
    let result = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("the good ones were not served; see above"))?;
    let processes = args.target.pid.and_then(Processes::of).unwrap_or_default();
    Ok(Phase {
        name,
        result,
        rss_kib: processes.rss_kib(),
    })
}

fn failed(text: &str) -> Failure {
    Failure {
        exit: Exit::Unreachable,
        text: text.to_owned(),
    }
}

/// This program.
fn this_program() -> Result<Command, Failure> {
    Ok(Command::new(std::env::current_exe()?))
}

/// This program as a process that runs only while no other wants the processor. A low priority is not enough: Linux
/// lets also such a process go on for a part of a millisecond when another wakes, which would be felt as latency. Where
/// the system says no, the figures are only worse.
async fn this_program_in_the_background() -> Result<Command, Failure> {
    let policy = ["--idle", "0"];
    let mut trial = Command::new("chrt");
    trial.args(policy).arg("true").stdin(Stdio::null());
    let trial = trial.stdout(Stdio::null()).stderr(Stdio::null());
    if !trial.status().await.is_ok_and(|status| status.success()) {
        return this_program();
    }
    let mut command = Command::new("chrt");
    command.args(policy).arg(std::env::current_exe()?);
    Ok(command)
}

/// `bench` of a scenario by `program` against the same broker.
fn child(program: Command, args: &Args, scenario: &str) -> Command {
    let target = &args.target;
    let mut command = program;
    command.args(["bench", scenario, "--quiet", "--host", &target.host]);
    if let Some(user) = &target.user {
        command.args(["--user", user]);
    }
    if let Some(password) = &target.password {
        command.env("WEIR_PASSWORD", password);
    }
    if target.v5 {
        command.arg("--v5");
    }
    command.kill_on_drop(true);
    command
}

/// Idle or hostile clients in a process of their own.
struct Crowd {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    /// Starts them and waits until all have tried to connect.
    async fn start(args: &Args, flag: &str, number: u32) -> Result<Self, Failure> {
        let program = this_program_in_the_background().await?;
        let mut command = child(program, args, "hostile-clients");
        command
            .args([flag, &number.to_string(), "--sources", SOURCES])
            .args(["--pairs", &(args.good / 2).max(1).to_string()])
            .args(args.ways.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        match timeout(CONNECTING, lines.next_line()).await {
            Ok(Ok(Some(line))) if line == "ready" => Ok(Self { child, lines }),
            _ => Err(failed("not all clients could connect; see above")),
        }
    }

    /// Ends them; what they have to say of it.
    async fn end(mut self) -> Json {
        drop(self.child.stdin.take());
        let said = timeout(Duration::from_secs(5), self.lines.next_line()).await;
        let said = said.ok().and_then(Result::ok).flatten();
        said.and_then(|line| serde_json::from_str(&line).ok())
            .unwrap_or(Json::Null)
    }
}

fn report(common: &Common, args: &Args, phases: &[Phase], closed: Json) -> Exit {
    let p99 = |at: usize| phases[at].p99_us();
    let ratio = match (p99(1), p99(2)) {
        (Some(without), Some(with)) if without > 0.0 => Some(with / without),
        _ => None,
    };
    let lost: u64 = phases
        .iter()
        .filter_map(|phase| phase.result["counts"]["lost"].as_u64())
        .sum();
    if common.json {
        let rows: Vec<_> = phases.iter().map(|phase| json!({
            "phase": phase.name, "latency_us": phase.result["latency_us"], "counts": phase.result["counts"],
            "messages_per_s": phase.result["messages_per_s"], "broker_rss_kib": phase.rss_kib,
        })).collect();
        out_json(&json!({
            "v": 1, "scenario": "hostile", "good": args.good, "idle": args.idle, "hostile": args.hostile,
            "phases": rows, "p99_ratio": ratio.map(|ratio| tenths(ratio * 10.0) / 10.0), "hostile_clients": closed,
        }));
    } else {
        out_line(&text(args, phases, ratio, &closed));
    }
    let too_much = match (args.max_ratio, ratio) {
        (Some(most), Some(ratio)) => ratio > most,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if too_much || (args.qos > 0 && lost > 0) {
        Exit::Problems
    } else {
        Exit::Ok
    }
}

fn text(args: &Args, phases: &[Phase], ratio: Option<f64>, closed: &Json) -> String {
    let mut lines = vec![format!(
        "hostile      {} good clients, {} messages a second at QoS {}; {} idle, {} hostile",
        args.good, args.rate, args.qos, args.idle, args.hostile
    )];
    for phase in phases {
        let figure = |name: &str| {
            let value = phase.result["latency_us"][name].as_f64();
            value.map_or_else(|| "-".to_owned(), time)
        };
        let rss = match phase.rss_kib {
            0 => String::new(),
            kib => format!("   broker's RSS {}", mebibytes(kib)),
        };
        lines.push(format!(
            "{:<12} p50 {}  p99 {}  p99.9 {}   lost {}{rss}",
            phase.name,
            figure("p50"),
            figure("p99"),
            figure("p999"),
            phase.result["counts"]["lost"]
        ));
    }
    lines.extend(
        ratio.map(|ratio| format!("p99          {ratio:.2} times that beside the idle ones")),
    );
    for kind in Kind::ALL {
        if let Some(times) = closed[kind.name()].as_u64() {
            lines.push(format!(
                "closed       {times} times: clients that {}",
                kind.what()
            ));
        }
    }
    lines.join("\n")
}
