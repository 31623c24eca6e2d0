//! `compare`: the same scenarios against weir and every broker that is installed here, in turn; one table.
//!
//! Each run has its broker started afresh, and the order is reversed with every repetition, so that whatever
//! else the machine does falls on all of them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::peers::{Peer, Running, known};
use super::report::{rounded, tenths};
use super::socket::prepare_process;
use super::{Common, Exit, Failure};
use crate::cli::{out_json, out_line, say};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only these brokers, e.g. weir,mosquitto; all that are installed unless given
    #[arg(long, value_delimiter = ',')]
    brokers: Vec<String>,
    /// Only these scenarios; all unless given
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Runs of each; the table has the medians
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..))]
    repetitions: u8,
    /// How long each run measures messages
    #[arg(long, default_value = "2s", value_parser = super::duration)]
    duration: Duration,
    /// More brokers, described as in crates/broker/src/cli/bench/peers.toml
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Print the scenarios and the brokers, and which of them are installed
    #[arg(long)]
    list: bool,
}

/// A scenario by name, its command line, how the relay serves it, and which rules the broker has.
struct Scenario {
    name: &'static str,
    args: &'static [&'static str],
    relay: Option<&'static str>,
    rules: Option<Rules>,
}

/// The rules of a scenario; only brokers that have weir's rules run it.
#[derive(Clone, Copy)]
enum Rules {
    /// A hundred, none of them on a topic of the messages.
    Elsewhere,
    /// Ten on the topics of the messages; one of them passes, and publishes each message once more.
    OnTopic,
}

impl Rules {
    /// The rule files: name and text.
    fn files(self) -> Vec<(String, String)> {
        let statement = |rule: u32| match (self, rule) {
            (Self::Elsewhere, rule) => {
                format!(r#"SELECT clientid, topic FROM "elsewhere/{rule}/#" WHERE qos < 3"#)
            }
            (Self::OnTopic, 0) => {
                r#"SELECT clientid, topic FROM "bench/#" WHERE qos < 3"#.to_owned()
            }
            (Self::OnTopic, rule) => {
                format!(r#"SELECT clientid, topic FROM "bench/#" WHERE clientid = 'nobody-{rule}'"#)
            }
        };
        let number = match self {
            Self::Elsewhere => 100,
            Self::OnTopic => 10,
        };
        let file = |rule| {
            let sql = statement(rule);
            // Nobody reads what is made: the rules are measured, not where rows go.
            let sink = "type = \"republish\"\ntopic = \"made/${clientid}\"";
            let text = format!("sql = '''\n{sql}\n'''\n[[sinks]]\n{sink}\n");
            (format!("rule-{rule}.toml"), text)
        };
        (0..number).map(file).collect()
    }
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pairs-q0",
        args: &["pairs"],
        relay: Some("pairs"),
        rules: None,
    },
    Scenario {
        name: "pairs-q1",
        args: &["pairs", "--qos", "1"],
        relay: Some("pairs"),
        rules: None,
    },
    Scenario {
        name: "fanout-100",
        args: &["fanout"],
        relay: Some("fanout"),
        rules: None,
    },
    Scenario {
        name: "fanout-1000",
        args: &["fanout", "--subscribers", "1000", "--window", "16"],
        relay: Some("fanout"),
        rules: None,
    },
    Scenario {
        name: "wildcard",
        args: &["wildcard"],
        relay: None,
        rules: None,
    },
    Scenario {
        name: "rate-q0",
        args: &["pairs", "--rate", "5000"],
        relay: Some("pairs"),
        rules: None,
    },
    Scenario {
        name: "rate-q1",
        args: &["pairs", "--rate", "5000", "--qos", "1"],
        relay: Some("pairs"),
        rules: None,
    },
    Scenario {
        name: "churn",
        args: &["conn", "--clients", "10000", "--churn"],
        relay: None,
        rules: None,
    },
    Scenario {
        name: "idle-8000",
        args: &["conn", "--clients", "8000", "--subscribe", "--hold", "1s"],
        relay: None,
        rules: None,
    },
    Scenario {
        name: "rules-elsewhere",
        args: &["pairs"],
        relay: None,
        rules: Some(Rules::Elsewhere),
    },
    Scenario {
        name: "rules-on-topic",
        args: &["pairs"],
        relay: None,
        rules: Some(Rules::OnTopic),
    },
];

impl Scenario {
    fn counts_messages(&self) -> bool {
        self.args[0] != "conn"
    }

    fn is_for(&self, peer: &Peer) -> bool {
        match self.rules {
            Some(_) => peer.has_rules(),
            None => self.relay.is_some() || !peer.is_relay(),
        }
    }
}

pub(super) async fn run(common: &Common, args: &Args) -> Exit {
    prepare_process();
    match prepared(args) {
        Ok((scenarios, peers)) if args.list => {
            list(&scenarios, &peers);
            Exit::Ok
        }
        Ok((scenarios, mut peers)) => {
            peers.retain(|peer| peer.installed().is_some());
            measure(common, args, &scenarios, &peers).await
        }
        Err(failure) => failure.tell(),
    }
}

fn prepared(args: &Args) -> Result<(Vec<&'static Scenario>, Vec<Peer>), Failure> {
    let mut peers = known(args.peers.as_deref())?;
    for wanted in &args.brokers {
        let Some(peer) = peers.iter().find(|peer| peer.name == *wanted) else {
            let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
            let names = names.join(", ");
            return Err(Failure::usage(format!(
                "there is no broker `{wanted}` among {names}"
            )));
        };
        if let Some(missing) = peer.missing() {
            return Err(Failure::usage(format!(
                "{wanted} is not installed: {missing}"
            )));
        }
    }
    peers.retain(|peer| args.brokers.is_empty() || args.brokers.contains(&peer.name));
    let mut scenarios = Vec::new();
    for wanted in &args.scenarios {
        match SCENARIOS.iter().find(|scenario| scenario.name == wanted) {
            Some(scenario) => scenarios.push(scenario),
            None => {
                let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
                let names = names.join(", ");
                return Err(Failure::usage(format!(
                    "there is no scenario `{wanted}` among {names}"
                )));
            }
        }
    }
    if scenarios.is_empty() {
        scenarios.extend(SCENARIOS);
    }
    Ok((scenarios, peers))
}

fn list(scenarios: &[&Scenario], peers: &[Peer]) {
    for scenario in scenarios {
        out_line(&format!(
            "{:<15} weir bench {}",
            scenario.name,
            scenario.args.join(" ")
        ));
    }
    for peer in peers {
        let found = peer.installed().map_or_else(
            || "not installed".to_owned(),
            |path| path.display().to_string(),
        );
        out_line(&format!("{:<15} {found}   {}", peer.name, peer.settings));
    }
}

/// What came of the runs of one broker in one scenario.
struct Row<'a> {
    scenario: &'a Scenario,
    peer: &'a Peer,
    results: Vec<Json>,
    error: Option<String>,
}

async fn measure(
    common: &Common,
    args: &Args,
    scenarios: &[&'static Scenario],
    peers: &[Peer],
) -> Exit {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for scenario in scenarios {
        let first = rows.len();
        let able = peers.iter().filter(|peer| scenario.is_for(peer));
        rows.extend(able.map(|peer| Row {
            scenario,
            peer,
            results: Vec::new(),
            error: None,
        }));
        for repetition in 0..args.repetitions {
            let mut order: Vec<usize> = (first..rows.len()).collect();
            if repetition % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let row = &mut rows[at];
                if !common.quiet {
                    let round = format!("{}/{}", repetition + 1, args.repetitions);
                    say(&format!("{:<15} {round} {}", scenario.name, row.peer.name));
                }
                match once(args, scenario, row.peer).await {
                    Ok(result) => row.results.push(result),
                    Err(error) => row.error = Some(error),
                }
            }
        }
    }
    if common.json {
        out_json(&json!({ "v": 1, "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>() }));
    } else {
        out_line(&table(&rows));
        for peer in peers {
            out_line(&format!("{}: {}", peer.name, peer.settings));
        }
    }
    // A peer that cannot do a scenario is a result; weir that cannot is a fault.
    let weir_failed = |row: &Row<'_>| row.peer.name == "weir" && row.error.is_some();
    if rows.iter().any(weir_failed) {
        Exit::Problems
    } else {
        Exit::Ok
    }
}

/// One run against a broker that is started for it.
async fn once(args: &Args, scenario: &Scenario, peer: &Peer) -> Result<Json, String> {
    let rules = scenario.rules.map_or_else(Vec::new, Rules::files);
    let relay = scenario.relay.unwrap_or_default();
    let running = peer.start(relay, &rules).await?;
    let measures = scenario.counts_messages().then_some(args.duration);
    let result = generator(scenario.args, measures, &running).await;
    running.stop().await;
    result
}

/// The slowest broker known takes 12 s for 10,000 connects.
const CONNECTS: Duration = Duration::from_secs(60);

/// `weir bench` with these arguments, in a process of its own; `measures`: for how long, where it counts messages.
pub(super) async fn generator(
    args: &[impl AsRef<OsStr>],
    measures: Option<Duration>,
    running: &Running,
) -> Result<Json, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let pid = running.pid().ok_or("it has ended")?.to_string();
    let mut command = Command::new(program);
    command
        .arg("bench")
        .args(args)
        .args(["--json", "--quiet", "--pid", &pid])
        .args(["--host", &format!("127.0.0.1:{}", running.port)])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let mut most = CONNECTS;
    if let Some(measures) = measures {
        let duration = format!("{}ms", measures.as_millis());
        command.args([
            "--duration",
            &duration,
            "--warmup",
            "700ms",
            "--drain",
            "2s",
        ]);
        most += measures;
    }
    let output = timeout(most, command.output())
        .await
        .map_err(|_| format!("not done in {} s", most.as_secs()))?
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        said.trim().lines().last().unwrap_or("no result").to_owned()
    })
}

const HEADINGS: [&str; 9] = [
    "scenario",
    "broker",
    "per s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "CPU µs each",
    "RSS",
    "lost/dup/ooo",
];

/// Where the figures of a message scenario and of a connect scenario lie.
fn figures(row: &Row<'_>) -> [(&'static str, &'static str); 5] {
    let (rate, cost) = if row.scenario.counts_messages() {
        ("/messages_per_s", "/broker/cpu_us_per_message")
    } else {
        ("/connects_per_s", "/broker/cpu_us_per_connect")
    };
    [
        ("per_s", rate),
        ("p50_us", "/latency_us/p50"),
        ("p99_us", "/latency_us/p99"),
        ("p999_us", "/latency_us/p999"),
        ("broker_cpu_us", cost),
    ]
}

/// The middle one, or the middle of two; `None` of nothing.
pub(super) fn median(figures: &[f64]) -> Option<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        return Some(figures[middle]);
    }
    (!figures.is_empty()).then(|| f64::midpoint(figures[middle - 1], figures[middle]))
}

impl Row<'_> {
    fn median(&self, pointer: &str) -> Option<f64> {
        let figures = self.results.iter();
        let figures: Vec<f64> = figures
            .filter_map(|result| result.pointer(pointer)?.as_f64())
            .collect();
        median(&figures)
    }

    fn sum(&self, key: &str) -> u64 {
        let counts = self.results.iter();
        counts
            .filter_map(|result| result["counts"][key].as_u64())
            .sum()
    }

    fn to_json(&self) -> Json {
        let mut json = json!({
            "scenario": self.scenario.name, "broker": self.peer.name, "settings": self.peer.settings,
            "runs": self.results.len(), "error": self.error,
        });
        for (key, pointer) in figures(self) {
            json[key] = json!(
                self.median(pointer)
                    .map(|figure| tenths(figure * 100.0) / 100.0)
            );
        }
        json["rss_peak_kib"] = json!(self.median("/broker/rss_peak_kib"));
        json["rss_bytes_per_connection"] = json!(self.median("/broker/rss_bytes_per_connection"));
        for key in ["lost", "duplicated", "out_of_order"] {
            json[key] = json!(self.sum(key));
        }
        json
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.scenario.name.to_owned(), self.peer.name.clone()];
        if self.results.is_empty() {
            cells.push(self.error.clone().unwrap_or_default());
            return cells;
        }
        let shown = |figure: Option<f64>, text: fn(f64) -> String| {
            figure.map_or_else(|| "-".to_owned(), text)
        };
        let figures = figures(self);
        for (_, pointer) in &figures[..4] {
            cells.push(shown(self.median(pointer), rounded));
        }
        cells.push(shown(self.median(figures[4].1), |us| format!("{us:.2}")));
        let each = self.median("/broker/rss_bytes_per_connection");
        cells.push(match each {
            Some(bytes) => format!("{} B each", rounded(bytes)),
            None => shown(self.median("/broker/rss_peak_kib"), |kib| {
                format!("{:.1} MiB", kib / 1024.0)
            }),
        });
        cells.push(if self.scenario.counts_messages() {
            let counts =
                ["lost", "duplicated", "out_of_order"].map(|key| self.sum(key).to_string());
            counts.join("/")
        } else {
            "-".to_owned()
        });
        cells
    }
}

/// The rows in columns.
fn table(rows: &[Row<'_>]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        let cells = lines.iter().filter(|line| line.len() > 3);
        let cells = cells.filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let cells = cells.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::toml_file::Names;
    use crate::project::check::check;
    use crate::project::files::{Files, Folders};

    fn row(peer: &Peer, figures: &[f64]) -> String {
        let results = figures.iter().map(|figure| {
            json!({ "messages_per_s": figure * 1e6, "latency_us": { "p50": figure, "p99": 2.0, "p999": 3.0 },
                    "broker": { "cpu_us_per_message": figure, "rss_peak_kib": 2048 },
                    "counts": { "lost": 1, "duplicated": 0, "out_of_order": 0 } })
        });
        let row = Row {
            scenario: &SCENARIOS[0],
            peer,
            results: results.collect(),
            error: figures.is_empty().then(|| "it did not start".to_owned()),
        };
        table(&[row]).lines().last().unwrap().to_owned()
    }

    #[test]
    fn a_row_has_the_medians_and_the_sums() {
        let peers = known(None).unwrap();
        let words: Vec<String> = row(&peers[0], &[3.0, 1.0, 2.0])
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        assert_eq!(words[2..5], ["2,000,000", "2", "2"]);
        assert_eq!(words[6..], ["2.00", "2.0", "MiB", "3/0/0"]);
        assert!(row(&peers[0], &[1.0, 2.0]).contains("1.50"));
    }

    #[test]
    fn the_rules_of_a_scenario_are_rules() {
        for rules in [Rules::Elsewhere, Rules::OnTopic] {
            let folder = tempfile::tempdir().unwrap();
            let files = rules.files();
            for (name, text) in &files {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
            let folders = Folders {
                rules: folder.path().to_path_buf(),
                ..Folders::of(&Config::default().rules)
            };
            let checked = check(&folders.scan().0, &Files::default(), None, &Names);
            assert_eq!(checked.rules.len(), files.len());
        }
    }

    #[test]
    fn a_broker_that_cannot_says_why() {
        let peers = known(None).unwrap();
        assert!(row(&peers[0], &[]).ends_with("it did not start"));
    }
}
