//! `weir replay`: messages of before through the rules of now, and what another version of a rule would make of them.
//!
//! What was captured is read from the files of the data folder by this process: it needs no lock, goes on at its own
//! pace beside a broker that runs, and works when none does. Only `--backfill` asks the broker; `--to broker` is a client of
//! one.

mod backfill;
mod compare;
mod file;
mod publish;

use std::io;
use std::path::Path;

use jiff::Timestamp;
use weir_store::capture::Reading;

use super::{Common, Exit, count, print_problems, say};
use crate::app::time_zone;
pub(super) use crate::capture::read::shown_time;
use crate::capture::read::{ALL, Range};
use crate::config::toml_file::Names;
use crate::config::{self, Config};
use crate::core::Millis;
use crate::pipeline::world::{World, now_ms};
use crate::project::check::{CheckedRule, Verdict, check};
use crate::project::compare::Version;
use crate::project::files::{FileId, Files, Folders, LastGood};

/// What `weir replay --help` says.
const FORMS: &str = "\
weir replay --rule FILE --from 24h    what the version of a rule in FILE would change: the messages that
                                      [capture] has kept go through the version that runs and
                                      through this one; neither sends anything
weir replay --rule FILE --from 24h --backfill
                                      sends the rows that FILE makes of them to its sinks, and then
                                      makes FILE the version that runs: no message is left out
                                      between the two, and none comes twice. Reloads go on meanwhile;
                                      one that changes the rule's file, statement or functions stops
                                      it, as the end of the broker does (E1611)
weir replay FILE.jsonl                recorded messages through the rules of the project: lines that
                                      `weir sub --json` has written, or cases of `weir try --cases`;
                                      with --rule and --against, what would change
weir replay --from 1h --to broker --host HOST:PORT
weir replay FILE.jsonl --to broker --speed 10
                                      publishes them again, in their order, with their QoS, retain
                                      flag and properties, at the pace at which they came, so many
                                      times as fast, or as fast as the broker takes them (max).
                                      Ctrl-C waits for what is under way, and says what was done

A TIME is a moment (2026-01-31T08:00:00Z) or so long ago (24h).
Exit code of a comparison, as diff has it: 0 no differences, 1 differences, 2 trouble.";

/// Where messages go.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// Through rules, and nowhere else
    Rules,
    /// To a broker, as messages
    Broker,
}

#[derive(clap::Args)]
#[command(after_long_help = FORMS)]
pub(super) struct Args {
    /// Recorded messages, one JSON object a line (- for stdin); what was captured unless given
    file: Option<String>,
    /// The rule: a file with the new version, or the id of one of the project
    #[arg(long, short)]
    rule: Option<String>,
    /// Which rule it is a version of; the one that its file is named after unless given
    #[arg(long, requires = "rule", value_name = "ID")]
    id: Option<String>,
    /// Compare with the version in this file instead of the one that runs
    #[arg(
        long,
        requires = "rule",
        conflicts_with = "backfill",
        value_name = "FILE"
    )]
    against: Option<String>,
    /// Messages since then; everything that is there unless given
    #[arg(long, value_name = "TIME", conflicts_with = "file")]
    from: Option<String>,
    /// Messages before then
    #[arg(long, value_name = "TIME", conflicts_with_all = ["file", "backfill"])]
    until: Option<String>,
    /// Where they go; through rules unless given
    #[arg(long, value_enum, value_name = "WHERE", conflicts_with = "backfill")]
    to: Option<To>,
    /// Send the rows, and let the rule go live behind them
    #[arg(long, requires = "rule", conflicts_with = "file")]
    backfill: bool,
    /// Show so many differences; 0 shows all
    #[arg(long, default_value = "20")]
    limit: usize,
    #[command(flatten)]
    target: publish::Target,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    if let Err(exit) = publish::goes_together(args) {
        return exit;
    }
    let outcome = match (&args.file, args.backfill) {
        (_, true) => backfill::run(common, args),
        _ if args.to == Some(To::Broker) => publish::run(common, args),
        (Some(file), _) if args.against.is_none() => file::run(common, args, file),
        _ => compare::run(common, args),
    };
    outcome.unwrap_or_else(|exit| exit)
}

/// A version of a rule, from a file or of the project.
struct New {
    id: String,
    rule: CheckedRule,
    text: String,
}

/// The rule that `--rule` names.
fn new_version(config: &Config, args: &Args) -> Result<New, Exit> {
    let Some(name) = args.rule.as_deref() else {
        say("weir: --rule names the file with the new version of a rule");
        say(
            "      `weir replay --rule hot.toml --from 24h`, or `weir replay FILE.jsonl` for recorded messages",
        );
        return Err(Exit::Usage);
    };
    let mut files = Folders::of(&config.rules).scan().0;
    let path = Path::new(name);
    let id = if path.is_file() {
        let id = args
            .id
            .clone()
            .unwrap_or_else(|| id_of(path, &config.rules.dir));
        let source = config::read(path).map_err(|problems| {
            print_problems(&problems);
            Exit::Usage
        })?;
        files.0.insert(FileId::rule(&id), source);
        id
    } else {
        name.strip_suffix(".toml").unwrap_or(name).to_owned()
    };
    let Some(text) = files
        .get(&FileId::rule(&id))
        .map(|source| source.text.to_string())
    else {
        say(&format!(
            "weir: there is no file {name}, and no rule of that id in {}",
            config.rules.dir.display()
        ));
        return Err(Exit::Usage);
    };
    let rule = checked(&files, &id)?;
    Ok(New { id, rule, text })
}

/// The rule `id` of some files, or what is wrong with it.
fn checked(files: &Files, id: &str) -> Result<CheckedRule, Exit> {
    let checked = check(files, &Files::default(), None, &Names);
    let report = checked
        .reports
        .iter()
        .find(|report| report.file == FileId::rule(id));
    match checked.rules.get(id) {
        Some(rule) if report.is_none_or(|report| report.verdict == Verdict::Ok) => Ok(rule.clone()),
        _ => {
            if let Some(report) = report {
                print_problems(&report.problems);
            }
            Err(Exit::Usage)
        }
    }
}

/// `plant-a/hot` for `rules/plant-a/hot.toml`; the name alone for a file that lies elsewhere.
fn id_of(path: &Path, rules: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let rules = rules.canonicalize().unwrap_or_else(|_| rules.to_owned());
    let inside = whole.strip_prefix(&rules).ok();
    let name = inside
        .or_else(|| path.file_name().map(Path::new))
        .unwrap_or(path);
    let name = name.to_string_lossy();
    name.strip_suffix(".toml").unwrap_or(&name).to_owned()
}

/// The version that runs, or that ran last; `None` when there was none.
fn running(config: &Config, id: &str) -> Result<Option<CheckedRule>, Exit> {
    let files = LastGood::below(&config.data_dir()).read();
    if files.get(&FileId::rule(id)).is_none() {
        return Ok(None);
    }
    checked(&files, id).map(Some)
}

fn version(config: &Config, rule: CheckedRule) -> Result<Version, Exit> {
    let Ok(zone) = time_zone(&config.rules.timezone) else {
        say(&format!(
            "weir: rules.timezone `{}` is not known",
            config.rules.timezone
        ));
        return Err(Exit::ConfigInvalid);
    };
    Ok(Version::new(rule, World::new(&config.node(), zone)))
}

/// The captured messages that are meant.
fn range(args: &Args) -> Result<Range, Exit> {
    let of = |text: &Option<String>, option, otherwise| {
        let text = text.as_deref();
        text.map_or(Ok(otherwise), |text| time(text, option))
    };
    Ok(Range {
        from: of(&args.from, "from", 0)?,
        to: of(&args.until, "until", Millis::MAX)?,
        ..ALL
    })
}

/// `24h` ago, or a moment.
fn time(text: &str, option: &str) -> Result<Millis, Exit> {
    let now = now_ms();
    let ago = humantime::parse_duration(text).ok();
    let ago = ago.and_then(|ago| i64::try_from(ago.as_millis()).ok());
    let at = match ago {
        Some(ago) => Some(now.saturating_sub(ago)),
        None => text
            .parse::<Timestamp>()
            .ok()
            .map(Timestamp::as_millisecond),
    };
    at.map(|at| u64::try_from(at).unwrap_or(0)).ok_or_else(|| {
        say(&format!("weir: --{option} {text} is no time"));
        say("      write how long ago it is, such as 24h or 90m, or a moment such as 2026-01-31T08:00:00Z");
        Exit::Usage
    })
}

/// Nothing was ever captured.
pub(super) fn no_capture(data_dir: &Path) -> Exit {
    say(&format!(
        "weir: [E1608] nothing was captured in {}",
        data_dir.display()
    ));
    say("      set capture.filters in weir.toml and start weir: messages are kept from then on");
    Exit::Usage
}

/// The files of the capture cannot be read.
pub(super) fn cannot_read(data_dir: &Path, error: &io::Error) -> Exit {
    let folder = crate::capture::folder(data_dir);
    say(&format!(
        "weir: [E1607] the capture in {} cannot be read: {error}",
        folder.display()
    ));
    Exit::Unusable
}

/// What is not there, though it should be.
pub(super) fn tell_what_is_missing(reading: &Reading) {
    for spoiled in &reading.spoiled {
        say(&format!(
            "weir: warning: {} is damaged at byte {}: {} cannot be read",
            spoiled.file,
            spoiled.at,
            count(usize::try_from(spoiled.bytes).unwrap_or(usize::MAX), "byte"),
        ));
    }
    if reading.missing > 0 {
        say(&format!(
            "weir: warning: {} missing in the capture: lost when it was written, or damaged since",
            count(
                usize::try_from(reading.missing).unwrap_or(usize::MAX),
                "message"
            ),
        ));
    }
}
