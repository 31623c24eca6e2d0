//! `durability`: one load with each durability in turn, a persistent subscriber and rows for PostgreSQL; and what the
//! store does alone.
//!
//! Each run has its weir started afresh, and the order is reversed with every repetition.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use weir_store::{Batch, Committer, Fold, Folder, Log, Options};

use super::compare::{generator, median};
use super::peers::{self, parse};
use super::report::rounded;
use super::socket::prepare_process;
use super::{Common, Exit, Failure};
use crate::cli::{out_json, out_line, say};
use crate::torture::postgres::Postgres;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Clients that publish, for each run of its own
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    publishers: Vec<usize>,
    /// The durabilities; the first one is what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "memory,fsync")]
    durabilities: Vec<Durability>,
    /// Where a rule puts a row for each message
    #[arg(long, default_value = "postgres")]
    sink: Rows,
    /// Of publishes and subscriptions
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of payload, at least 24
    #[arg(long, default_value = "128", value_name = "BYTES", value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    size: u32,
    /// Messages of one publisher that may be under way
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u16).range(2..))]
    window: u16,
    /// Runs of each; the table has the medians
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// How long each run measures
    #[arg(long, default_value = "3s", value_parser = super::duration)]
    duration: Duration,
    /// A PostgreSQL server that is there, in which the table weir_bench is made anew
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Exit with 1 when a later durability gives less than this part of the first one
    #[arg(long, value_name = "PART")]
    min_ratio: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Durability {
    Memory,
    Os,
    Fsync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Rows {
    /// PostgreSQL: they are kept in the store until they are there
    Postgres,
    /// A file
    File,
    /// There is no rule
    None,
}

impl Durability {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Fsync => "fsync",
        }
    }
}

pub(super) const TABLE: &str =
    "DROP TABLE IF EXISTS weir_bench; CREATE TABLE weir_bench (topic text, client text, n bigint)";

/// A weir as `peers.toml` describes one.
pub(super) const WEIR: &str = r#"
[[broker]]
name = "{durability}"
program = "{weir}"
args = ["--config", "{dir}/weir.toml", "run", "--quiet"]
[broker.files]
"weir.toml" = '''
data_dir = "{dir}/data"
durability = "{durability}"
http.bind = "127.0.0.1:0"
[[listeners]]
kind = "tcp"
bind = "127.0.0.1:{port}"
[mqtt]
max_inflight = 1000
max_queued = 100_000
[rules]
dir = "{dir}/rules"
connectors_dir = "{dir}/connectors"
udf_dir = "{dir}/udf"
watch = false
'''
"#;

const RULE: &str = r#"
"rules/bench.toml" = '''
sql = "SELECT topic, clientid AS client, timestamp AS n FROM \"bench/#\""
[[sinks]]
id = "rows"
{sink}
'''
"#;

pub(super) const CONNECTOR: &str = r#"
"connectors/postgres.toml" = '''
type = "postgres"
url = "{postgres}"
'''
"#;

/// The runs of one number of publishers.
struct Row {
    publishers: usize,
    /// Messages a second of each durability's runs.
    rates: Vec<Vec<f64>>,
    /// Of the store alone, with the last durability.
    store: Vec<f64>,
}

pub(super) async fn run(common: &Common, args: &Args) -> Exit {
    prepare_process();
    match measured(common, args).await {
        Ok(rows) => tell(common, args, &rows),
        Err(failure) => failure.tell(),
    }
}

fn problem(text: String) -> Failure {
    Failure {
        exit: Exit::Unusable,
        text,
    }
}

async fn measured(common: &Common, args: &Args) -> Result<Vec<Row>, Failure> {
    let folder = peers::Folder::new("postgres")?;
    let postgres = match (&args.postgres, args.sink) {
        (_, Rows::File | Rows::None) => None,
        (Some(url), Rows::Postgres) => Some(Postgres::given(url).await.map_err(problem)?),
        (None, Rows::Postgres) => {
            let started = Postgres::start(&folder.0.join("postgres")).await;
            let missing = || {
                Failure::usage(
                    "PostgreSQL is not installed; --postgres names a server that is there",
                )
            };
            Some(started.map_err(problem)?.ok_or_else(missing)?)
        }
    };
    let mut rows = Vec::new();
    for publishers in &args.publishers {
        let mut row = Row {
            publishers: *publishers,
            rates: vec![Vec::new(); args.durabilities.len()],
            store: Vec::new(),
        };
        for repetition in 0..args.repetitions {
            let mut order: Vec<usize> = (0..args.durabilities.len()).collect();
            if repetition % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let durability = args.durabilities[at];
                if !common.quiet {
                    let round = format!("{}/{}", repetition + 1, args.repetitions);
                    say(&format!("{publishers:>6} {round} {}", durability.name()));
                }
                if let Some(postgres) = &postgres {
                    postgres.execute(TABLE).await.map_err(problem)?;
                }
                let rate = once(args, *publishers, durability, postgres.as_ref()).await;
                row.rates[at].push(rate.map_err(problem)?);
            }
            let load = Raw::of(args, *publishers);
            let alone = tokio::task::spawn_blocking(move || load.measure());
            let alone = alone.await.map_err(|error| problem(error.to_string()))?;
            row.store.push(alone?);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// One run against a weir that is started for it: messages a second that were acknowledged, or delivered at QoS 0.
async fn once(
    args: &Args,
    publishers: usize,
    durability: Durability,
    postgres: Option<&Postgres>,
) -> Result<f64, String> {
    let url = postgres.map(|postgres| postgres.url_through(None));
    let text = described(args.sink, durability, url.as_deref());
    let mut peers = parse(&text).map_err(|error| error.to_string())?;
    let running = peers.remove(0).start("", &[]).await?;
    let numbers = [
        ("--publishers", publishers as u64),
        ("--subscribers", 1),
        ("--qos", u64::from(args.qos)),
        ("--size", u64::from(args.size)),
        ("--window", u64::from(args.window)),
    ];
    let mut load = vec!["pairs".to_owned(), "--persistent".to_owned()];
    for (name, number) in numbers {
        load.extend([name.to_owned(), number.to_string()]);
    }
    let result = generator(&load, Some(args.duration), &running).await;
    running.stop().await;
    let rate = if args.qos > 0 {
        "acknowledged_per_s"
    } else {
        "messages_per_s"
    };
    result?[rate].as_f64().ok_or_else(|| "no result".to_owned())
}

/// A weir as `peers.toml` describes one.
fn described(sink: Rows, durability: Durability, postgres: Option<&str>) -> String {
    let mut text = WEIR.to_owned();
    let sink = match sink {
        Rows::Postgres => "connector = \"postgres\"\ntable = \"weir_bench\"",
        Rows::File => "type = \"file\"\npath = \"rows.ndjson\"",
        Rows::None => "",
    };
    if !sink.is_empty() {
        text.push_str(&RULE.replace("{sink}", sink));
    }
    if let Some(url) = postgres {
        text.push_str(&CONNECTOR.replace("{postgres}", url));
    }
    text.replace("{durability}", durability.name())
}

fn tell(common: &Common, args: &Args, rows: &[Row]) -> Exit {
    let mut too_slow = false;
    let mut told = Vec::new();
    for row in rows {
        let medians: Vec<f64> = row.rates.iter().filter_map(|rates| median(rates)).collect();
        let first = medians.first().copied().unwrap_or_default().max(1.0);
        let store = median(&row.store).unwrap_or_default();
        let mut line = format!("{:>6} publishers", row.publishers);
        let mut each = Vec::new();
        for ((durability, rate), rates) in args.durabilities.iter().zip(&medians).zip(&row.rates) {
            let ratio = rate / first;
            let name = durability.name();
            line.push_str(&format!("   {name} {}/s ({ratio:.2})", rounded(*rate)));
            too_slow |= args.min_ratio.is_some_and(|least| ratio < least);
            each.push(json!({ "durability": name, "per_s": rate, "ratio": ratio, "runs": rates }));
        }
        line.push_str(&format!("   the store alone {}/s", rounded(store)));
        if common.json {
            told.push(
                json!({ "publishers": row.publishers, "durabilities": each, "store_per_s": store }),
            );
        } else {
            out_line(&line);
        }
    }
    if common.json {
        out_json(&json!({ "v": 1, "qos": args.qos, "rows": Json::Array(told) }));
    }
    if too_slow { Exit::Problems } else { Exit::Ok }
}

/// The load of a run as the store sees it: each publisher has two batches under way, half a window each.
struct Raw {
    publishers: usize,
    messages: usize,
    records: usize,
    rows: bool,
    sync: bool,
    time: Duration,
}

/// About what a message of the load takes beside its payload, as it is owed to a session, and as a row.
const BESIDE_PAYLOAD: usize = 100;
const ROW_BYTES: usize = 90;

struct Nothing;

impl Fold for Nothing {
    fn take(&mut self, _: &[u8]) {}

    fn give(&mut self, _: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
        Ok(())
    }
}

impl Raw {
    fn of(args: &Args, publishers: usize) -> Self {
        let messages = usize::from(args.window / 2);
        Self {
            publishers,
            messages,
            records: messages * (args.size as usize + BESIDE_PAYLOAD),
            rows: args.sink == Rows::Postgres,
            sync: args.durabilities.last() == Some(&Durability::Fsync),
            time: args.duration,
        }
    }

    fn measure(&self) -> Result<f64, Failure> {
        let store = |error: &dyn std::fmt::Display| problem(format!("the store: {error}"));
        let folder = peers::Folder::new("store")?;
        let disk = Arc::new(Folder::open(&folder.0)?);
        let opened = Log::open(Arc::clone(&disk), &mut |_| ());
        let (log, _) = opened.map_err(|error| store(&error))?;
        let options = Options {
            sync: self.sync,
            ..Options::default()
        };
        let committer = Committer::start(log, disk, options, || Box::new(Nothing), |_| ())?;
        let queue = committer.queue("rows")?;
        let (told, kept) = channel();
        let commit = || {
            let told = told.clone();
            let rows = if self.rows { self.messages } else { 0 };
            let batch = Batch {
                records: vec![7; self.records],
                rows: vec![(queue.id(), vec![7; ROW_BYTES].into()); rows],
                ..Batch::default()
            };
            // Who measures may have ended.
            committer.commit(batch, move |outcome| drop(told.send(outcome)));
        };
        (0..2 * self.publishers).for_each(|_| commit());
        let (begun, mut messages) = (Instant::now(), 0.0);
        while begun.elapsed() < self.time
            && let Ok(outcome) = kept.recv()
        {
            outcome?;
            messages += self.messages as f64;
            queue.settle(u64::MAX);
            commit();
        }
        Ok(messages / begun.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weir_with_each_sink_is_well_described() {
        for (sink, files) in [(Rows::Postgres, 3), (Rows::File, 2), (Rows::None, 1)] {
            let url = (sink == Rows::Postgres).then_some("postgres://weir@127.0.0.1:1/postgres");
            let text = described(sink, Durability::Fsync, url);
            let peers = parse(&text).unwrap();
            assert_eq!(peers[0].name, "fsync");
            assert_eq!(text.matches(".toml\" = ").count(), files);
            // Nothing is left to be filled in but what every broker's start fills in.
            for place in ["{durability}", "{postgres}", "{sink}"] {
                assert!(!text.contains(place), "{place}");
            }
        }
    }

    #[test]
    fn the_store_alone_keeps_what_it_is_given() {
        let load = Raw {
            publishers: 2,
            messages: 4,
            records: 400,
            rows: true,
            sync: true,
            time: Duration::from_millis(20),
        };
        assert!(load.measure().unwrap() > 0.0);
    }
}
