//! `rows`: what a rule's row costs the broker on its way to a sink: the same load without a rule, with one that makes no
//! rows, and with each sink.
//!
//! Each run has its weir started afresh, and the order is reversed with every repetition.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::compare::{generator, median};
use super::durability::{CONNECTOR, TABLE, WEIR};
use super::peers::{self, Peer, parse};
use super::socket::prepare_process;
use super::{Common, Exit, Failure};
use crate::cli::{out_json, out_line, say};
use crate::torture::postgres::Postgres;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where rows go, in turn; what a row costs is the difference to the first one
    #[arg(long, value_delimiter = ',', default_value = "none,silent,file,sqlite")]
    sinks: Vec<Rows>,
    /// Messages a second of all publishers together
    #[arg(long, default_value = "5000", value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Of publishes; the one subscriber has QoS 0
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Clients that publish
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(1..))]
    publishers: u16,
    /// Bytes of payload, at least 24
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    size: u32,
    /// What an acknowledgement promises: memory, os or fsync
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// Runs of each; the table has the medians
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// How long each run measures
    #[arg(long, default_value = "5s", value_parser = super::duration)]
    duration: Duration,
    /// A PostgreSQL server that is there, in which the table weir_bench is made anew
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Another weir than this one, to compare builds
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// Exit with 1 when a row costs more CPU than this in any sink
    #[arg(long, value_name = "MICROSECONDS")]
    max_us: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Rows {
    /// There is no rule
    None,
    /// A rule looks at every message and makes no row
    Silent,
    /// A file
    File,
    /// An SQLite database
    Sqlite,
    /// PostgreSQL, started from its installed programs; its own CPU does not count
    Postgres,
}

impl Rows {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Silent => "silent",
            Self::File => "file",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// The statement and the sink of its rule.
    const fn rule(self) -> Option<(&'static str, &'static str)> {
        const ALL: &str = r#"SELECT topic, clientid AS client, timestamp AS n FROM \"bench/#\""#;
        const FILE: &str = "type = \"file\"\npath = \"rows.ndjson\"";
        Some(match self {
            Self::None => return None,
            Self::Silent => (
                r#"SELECT topic FROM \"bench/#\" WHERE clientid = 'nobody'"#,
                FILE,
            ),
            Self::File => (ALL, FILE),
            Self::Sqlite => (
                ALL,
                "type = \"sqlite\"\npath = \"{dir}/rows.db\"\ntable = \"weir_bench\"\ncreate_table = \"if_missing\"",
            ),
            Self::Postgres => (ALL, "connector = \"postgres\"\ntable = \"weir_bench\""),
        })
    }
}

/// One run, for each message.
#[derive(Clone, Copy)]
struct Cost {
    cpu_us: f64,
    /// How often one of the broker's threads went to sleep.
    sleeps: f64,
}

pub(super) async fn run(common: &Common, args: &Args) -> Exit {
    prepare_process();
    match measured(common, args).await {
        Ok(costs) => tell(common, args, &costs),
        Err(failure) => failure.tell(),
    }
}

fn problem(text: String) -> Failure {
    Failure {
        exit: Exit::Unusable,
        text,
    }
}

/// The runs of each sink.
async fn measured(common: &Common, args: &Args) -> Result<Vec<Vec<Cost>>, Failure> {
    let folder = peers::Folder::new("postgres")?;
    let postgres = match &args.postgres {
        _ if !args.sinks.contains(&Rows::Postgres) => None,
        Some(url) => Some(Postgres::given(url).await.map_err(problem)?),
        None => {
            let started = Postgres::start(&folder.0.join("postgres")).await;
            let missing = "PostgreSQL is not installed; --postgres names a server that is there";
            let started = started.map_err(problem)?;
            Some(started.ok_or_else(|| Failure::usage(missing))?)
        }
    };
    let mut costs = vec![Vec::new(); args.sinks.len()];
    for repetition in 0..args.repetitions {
        let mut order: Vec<usize> = (0..args.sinks.len()).collect();
        if repetition % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let sink = args.sinks[at];
            if !common.quiet {
                let round = format!("{}/{}", repetition + 1, args.repetitions);
                say(&format!("{round} {}", sink.name()));
            }
            if let Some(postgres) = &postgres {
                postgres.execute(TABLE).await.map_err(problem)?;
            }
            let url = postgres.as_ref().map(|postgres| postgres.url_through(None));
            let peer = described(args, sink, url.as_deref()).map_err(problem)?;
            costs[at].push(once(args, &peer).await.map_err(problem)?);
        }
    }
    Ok(costs)
}

async fn once(args: &Args, peer: &Peer) -> Result<Cost, String> {
    let running = peer.start("", &[]).await?;
    let numbers = [
        ("--publishers", u64::from(args.publishers)),
        ("--subscribers", 1),
        ("--qos", u64::from(args.qos)),
        ("--subscribe-qos", 0),
        ("--size", u64::from(args.size)),
        ("--rate", args.rate),
    ];
    let mut load = vec!["pairs".to_owned()];
    for (name, number) in numbers {
        load.extend([name.to_owned(), number.to_string()]);
    }
    let result = generator(&load, Some(args.duration), &running).await;
    running.stop().await;
    cost_of(&result?).ok_or_else(|| "no result".to_owned())
}

fn cost_of(result: &Json) -> Option<Cost> {
    let broker = &result["broker"];
    Some(Cost {
        cpu_us: broker["cpu_us_per_message"].as_f64()?,
        sleeps: broker["sleeps_per_message"].as_f64()?,
    })
}

/// A weir as `peers.toml` describes one.
fn described(args: &Args, sink: Rows, postgres: Option<&str>) -> Result<Peer, String> {
    let mut text = WEIR.replace("{durability}", &args.durability);
    if let Some(weir) = &args.weir {
        text = text.replace("{weir}", &weir.display().to_string());
    }
    if let Some((statement, target)) = sink.rule() {
        let rule = format!("sql = \"{statement}\"\n[[sinks]]\nid = \"rows\"\n{target}\n");
        text.push_str(&format!("\"rules/bench.toml\" = '''\n{rule}'''\n"));
    }
    if let (Rows::Postgres, Some(url)) = (sink, postgres) {
        text.push_str(&CONNECTOR.replace("{postgres}", url));
    }
    let mut peers = parse(&text).map_err(|error| error.to_string())?;
    Ok(peers.remove(0))
}

fn tell(common: &Common, args: &Args, costs: &[Vec<Cost>]) -> Exit {
    let of = |runs: &[Cost], figure: fn(&Cost) -> f64| {
        let figures: Vec<f64> = runs.iter().map(figure).collect();
        median(&figures).unwrap_or_default()
    };
    let first = costs
        .first()
        .map_or(0.0, |runs| of(runs, |cost| cost.cpu_us));
    let (mut too_much, mut told) = (false, Vec::new());
    for (place, (sink, runs)) in args.sinks.iter().zip(costs).enumerate() {
        let (cpu_us, sleeps) = (of(runs, |cost| cost.cpu_us), of(runs, |cost| cost.sleeps));
        let row_us = cpu_us - first;
        too_much |= args.max_us.is_some_and(|most| row_us > most);
        if common.json {
            let each: Vec<f64> = runs.iter().map(|cost| cost.cpu_us).collect();
            told.push(json!({
                "sink": sink.name(), "cpu_us_per_message": cpu_us, "cpu_us_per_row": row_us,
                "sleeps_per_message": sleeps, "runs": each,
            }));
            continue;
        }
        let row = if place == 0 {
            String::new()
        } else {
            format!("   a row {row_us:>7.2} µs")
        };
        out_line(&format!(
            "{:<9} {cpu_us:>7.2} µs of CPU a message   {sleeps:>6.3} sleeps{row}",
            sink.name()
        ));
    }
    if common.json {
        out_json(&json!({
            "v": 1, "rate": args.rate, "qos": args.qos, "durability": args.durability, "sinks": told,
        }));
    }
    if too_much { Exit::Problems } else { Exit::Ok }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        let words = ["rows"].iter().chain(line);
        let matches = Line::command().get_matches_from(words);
        Line::from_arg_matches(&matches).unwrap().args
    }

    #[test]
    fn a_weir_with_each_sink_is_well_described() {
        let every = args(&["--sinks", "none,silent,file,sqlite,postgres"]);
        for (sink, files) in every.sinks.iter().zip([1, 2, 2, 2, 3]) {
            let url = Some("postgres://weir@127.0.0.1:1/postgres");
            let peer = described(&every, *sink, url).unwrap();
            let text = format!("{peer:?}");
            assert_eq!(peer.name, "fsync");
            assert_eq!(text.matches(".toml\": ").count(), files, "{text}");
            for place in ["{durability}", "{postgres}"] {
                assert!(!text.contains(place), "{place}");
            }
        }
    }

    #[test]
    fn another_build_can_be_measured() {
        let other = args(&["--weir", "/opt/weir", "--durability", "os"]);
        let peer = described(&other, Rows::None, None).unwrap();
        assert_eq!((&*peer.name, &*peer.program), ("os", "/opt/weir"));
    }

    #[test]
    fn a_result_without_the_broker_is_none() {
        let whole = json!({ "broker": { "cpu_us_per_message": 2.5, "sleeps_per_message": 0.5 } });
        let cost = cost_of(&whole).unwrap();
        assert!((cost.cpu_us - 2.5).abs() < 1e-9 && (cost.sleeps - 0.5).abs() < 1e-9);
        assert!(cost_of(&json!({ "generator": {} })).is_none());
    }
}
