//! What came of it: for people a table, for machines a document.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;
use serde_json::json;

use super::plan::Kind;
use super::verdict::Verdict;

/// One consumer.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
}

/// What the clients did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) resent: u64,
    pub(crate) connects: u64,
    pub(crate) loaded: Duration,
}

/// The whole run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) totals: Totals,
    pub(crate) done: Vec<(Kind, u64)>,
    pub(crate) skipped: Vec<String>,
    pub(crate) checked: Vec<Checked>,
    /// Retained messages that are as they must be, of how many.
    pub(crate) kept: (usize, usize),
    pub(crate) problems: Vec<String>,
    pub(crate) folder: Option<PathBuf>,
}

impl Report {
    /// Whether all promises were kept.
    pub(crate) fn holds(&self) -> bool {
        self.problems.is_empty()
            && self.kept.0 == self.kept.1
            && self.checked.iter().all(|checked| checked.verdict.holds())
    }

    /// The table.
    pub(crate) fn text(&self) -> String {
        let totals = &self.totals;
        let mut text = format!(
            "load       {} sent, {} acknowledged, {} refused, {} resent, {} connections in {:.0} s\n",
            totals.sent,
            totals.acknowledged,
            totals.refused,
            totals.resent,
            totals.connects,
            totals.loaded.as_secs_f64()
        );
        let done = self
            .done
            .iter()
            .map(|(kind, count)| format!("{} {count}", name(*kind)));
        let done: Vec<String> = done.collect();
        let mut line = |line: String| {
            // A text cannot refuse to be written to.
            let _ = writeln!(text, "{line}");
        };
        line(format!("faults     {}", done.join(", ")));
        for skipped in &self.skipped {
            line(format!("skipped    {skipped}"));
        }
        line(format!(
            "\n{:<22} {:>10} {:>10} {:>6} {:>8} {:>8} {:>9} {:>9}",
            "", "promised", "there", "lost", "doubled", "late", "uncalled", "repeats"
        ));
        for Checked { name, verdict } in &self.checked {
            line(format!(
                "{name:<22} {:>10} {:>10} {:>6} {:>8} {:>8} {:>9} {:>9}",
                verdict.expected,
                verdict.arrived,
                verdict.lost,
                verdict.doubled,
                verdict.unordered,
                verdict.uncalled,
                verdict.repeats
            ));
            for example in &verdict.examples {
                line(format!("    {example}"));
            }
        }
        let (kept, all) = self.kept;
        line(format!(
            "retained               {kept} of {all} are the last acknowledged or a later one"
        ));
        for problem in &self.problems {
            line(format!("problem    {problem}"));
        }
        if let Some(folder) = &self.folder {
            line(format!("kept       {}", folder.display()));
        }
        text
    }

    /// The document.
    pub(crate) fn json(&self) -> serde_json::Value {
        let consumers: Vec<_> = self
            .checked
            .iter()
            .map(|Checked { name, verdict }| {
                json!({
                    "name": name,
                    "promised": verdict.expected,
                    "there": verdict.arrived,
                    "lost": verdict.lost,
                    "doubled": verdict.doubled,
                    "late": verdict.unordered,
                    "uncalled": verdict.uncalled,
                    "repeats": verdict.repeats,
                    "examples": verdict.examples,
                })
            })
            .collect();
        let faults: serde_json::Map<String, serde_json::Value> = self
            .done
            .iter()
            .map(|(kind, count)| (name(*kind), json!(count)))
            .collect();
        json!({
            "v": 1,
            "seed": self.seed,
            "holds": self.holds(),
            "seconds": self.totals.loaded.as_secs(),
            "sent": self.totals.sent,
            "acknowledged": self.totals.acknowledged,
            "refused": self.totals.refused,
            "resent": self.totals.resent,
            "connections": self.totals.connects,
            "faults": faults,
            "skipped": self.skipped,
            "consumers": consumers,
            "retained": { "kept": self.kept.0, "of": self.kept.1 },
            "problems": self.problems,
            "folder": self.folder,
        })
    }
}

/// What a kind of fault is called on the command line.
pub(crate) fn name(kind: Kind) -> String {
    kind.to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}
