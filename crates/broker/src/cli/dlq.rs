//! `weir dlq`: rows that sinks of a running broker have refused.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value as Json;

use super::api::{Api, age, encoded, query, table};
use super::{Common, Exit, block_on, out, out_json, out_line, say};

/// So many are asked for at a time.
const PAGE: &str = "1000";

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List them, oldest first in each sink
    Ls(Ls),
    /// Print some whole, with their rows
    Show {
        /// Their ids, as `weir dlq ls` shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Give them to their sinks again, at the end of the queue, with their time and message id
    Retry(Which),
    /// Write them as JSON lines; they stay
    Export(Export),
    /// Drop them
    Drop(Drop),
}

/// Which dead letters.
#[derive(clap::Args)]
struct By {
    /// Those of this rule
    #[arg(long)]
    rule: Option<String>,
    /// Those of sinks with this id
    #[arg(long)]
    sink: Option<String>,
    /// Those with this code, e.g. E3201
    #[arg(long)]
    code: Option<String>,
    /// Those that were parked at least so long ago, e.g. 7d
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    older_than: Option<Duration>,
}

#[derive(clap::Args)]
struct Ls {
    #[command(flatten)]
    by: By,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(clap::Args)]
struct Export {
    #[command(flatten)]
    by: By,
    /// Into this file; to standard output unless given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Which {
    /// Their ids, as `weir dlq ls` shows them
    #[arg(conflicts_with_all = ["rule", "sink", "code", "older_than", "all"])]
    ids: Vec<String>,
    #[command(flatten)]
    by: By,
    /// All there are
    #[arg(long, conflicts_with_all = ["rule", "sink", "code", "older_than"])]
    all: bool,
}

#[derive(clap::Args)]
struct Drop {
    #[command(flatten)]
    which: Which,
    /// Do it: the rows are gone
    #[arg(long)]
    yes: bool,
}

impl By {
    fn query(&self, more: &[(&str, Option<&str>)]) -> String {
        let seconds = self.older_than.map(|age| age.as_secs().to_string());
        let mut pairs = vec![
            ("rule", self.rule.as_deref()),
            ("sink", self.sink.as_deref()),
            ("code", self.code.as_deref()),
            ("older_than_s", seconds.as_deref()),
        ];
        pairs.extend_from_slice(more);
        query(&pairs)
    }

    fn says_nothing(&self) -> bool {
        self.rule.is_none()
            && self.sink.is_none()
            && self.code.is_none()
            && self.older_than.is_none()
    }
}

impl Which {
    /// The requests that mean these: the path behind `/dead-letters`, with `action` behind what it names.
    fn paths(&self, action: &str) -> Result<Vec<String>, Exit> {
        if !self.ids.is_empty() {
            let ids = self.ids.iter();
            return Ok(ids.map(|id| format!("/{}{action}", encoded(id))).collect());
        }
        if self.by.says_nothing() && !self.all {
            say("weir: say which: ids, --rule, --sink, --code, --older-than, or --all");
            return Err(Exit::Usage);
        }
        let all = self.all.then_some("true");
        Ok(vec![format!("{action}{}", self.by.query(&[("all", all)]))])
    }
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let api = match Api::of(common) {
        Ok(api) => api,
        Err(exit) => return exit,
    };
    block_on(common, async {
        let outcome = match &args.command {
            Command::Ls(args) => list(common, &api, args).await,
            Command::Show { ids } => show(common, &api, ids).await,
            Command::Retry(which) => retry(common, &api, which).await,
            Command::Export(args) => export(common, &api, args).await,
            Command::Drop(args) => drop_letters(common, &api, args).await,
        };
        outcome.unwrap_or_else(|exit| exit)
    })
}

/// The letters that are meant, page by page, until `each` has enough.
async fn pages(
    api: &Api,
    by: &By,
    mut each: impl FnMut(&Json) -> Result<bool, Exit>,
) -> Result<(), Exit> {
    let mut after: Option<String> = None;
    loop {
        let asked = by.query(&[("after", after.as_deref()), ("limit", Some(PAGE))]);
        let page = api
            .ask(Method::GET, &format!("/dead-letters{asked}"))
            .await?;
        for item in page["items"].as_array().into_iter().flatten() {
            if !each(item)? {
                return Ok(());
            }
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

async fn list(common: &Common, api: &Api, args: &Ls) -> Result<Exit, Exit> {
    let (mut items, mut more) = (Vec::new(), false);
    pages(api, &args.by, |item| {
        more = items.len() == args.limit;
        if !more {
            items.push(item.clone());
        }
        Ok(!more)
    })
    .await?;
    if common.json {
        out_json(&serde_json::json!({ "v": 1, "dead_letters": items, "more": more }));
        return Ok(Exit::Ok);
    }
    if items.is_empty() {
        out_line("no dead letters");
        return Ok(Exit::Ok);
    }
    let now = crate::pipeline::world::now_ms();
    let rows: Vec<_> = items.iter().map(|item| cells(item, now)).collect();
    out(&table(
        &["ID", "RULE/SINK", "CODE", "AGE", "TRIES", "REASON"],
        &rows,
    ));
    if more && !common.quiet {
        say(&format!(
            "there are more than {}; --limit shows more",
            args.limit
        ));
    }
    Ok(Exit::Ok)
}

fn cells(letter: &Json, now_ms: i64) -> Vec<String> {
    let text = |key: &str| letter[key].as_str().unwrap_or("-").to_owned();
    let reason: String = text("reason")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(90)
        .collect();
    vec![
        text("id"),
        format!("{}/{}", text("rule"), text("sink")),
        text("code"),
        letter["at_ms"]
            .as_i64()
            .map_or("-".to_owned(), |at| age((now_ms - at).max(0) / 1000)),
        letter["attempts"].to_string(),
        reason,
    ]
}

async fn show(common: &Common, api: &Api, ids: &[String]) -> Result<Exit, Exit> {
    let mut exit = Exit::Ok;
    for id in ids {
        match api
            .ask(Method::GET, &format!("/dead-letters/{}", encoded(id)))
            .await
        {
            Ok(letter) if common.json => out_json(&letter),
            Ok(letter) => out_line(&serde_json::to_string_pretty(&letter).unwrap_or_default()),
            Err(Exit::Problems) => exit = Exit::Problems,
            Err(other) => return Err(other),
        }
    }
    Ok(exit)
}

async fn retry(common: &Common, api: &Api, which: &Which) -> Result<Exit, Exit> {
    let (mut retried, mut left, mut exit) = (0, Vec::new(), Exit::Ok);
    for path in which.paths("/retry")? {
        match api.ask(Method::POST, &format!("/dead-letters{path}")).await {
            Ok(answer) => {
                retried += answer["retried"].as_u64().unwrap_or(0);
                left.extend(answer["left"].as_array().cloned().unwrap_or_default());
            }
            Err(Exit::Problems) => exit = Exit::Problems,
            Err(other) => return Err(other),
        }
    }
    if common.json {
        out_json(&serde_json::json!({ "v": 1, "retried": retried, "left": left }));
    } else {
        out_line(&format!("{} in the queue again", super::rows(retried)));
    }
    for left in &left {
        let of = |key: &str| left[key].as_str().unwrap_or_default();
        say(&format!(
            "weir: some of {}/{} stay: {}",
            of("rule"),
            of("sink"),
            of("detail")
        ));
        exit = Exit::Problems;
    }
    Ok(exit)
}

async fn export(common: &Common, api: &Api, args: &Export) -> Result<Exit, Exit> {
    let unusable = |error: &std::io::Error| {
        say(&format!("weir: the file cannot be written: {error}"));
        Exit::Unusable
    };
    let mut file = match &args.out {
        Some(path) => Some(std::fs::File::create(path).map_err(|error| unusable(&error))?),
        None => None,
    };
    let mut count = 0;
    pages(api, &args.by, |item| {
        count += 1;
        match &mut file {
            Some(file) => writeln!(file, "{item}").map_err(|error| unusable(&error))?,
            None => out_json(item),
        }
        Ok(true)
    })
    .await?;
    if let Some(file) = file {
        file.sync_all().map_err(|error| unusable(&error))?;
    }
    if !common.quiet {
        say(&format!(
            "{} exported; they are still there",
            super::rows(count)
        ));
    }
    Ok(Exit::Ok)
}

async fn drop_letters(common: &Common, api: &Api, args: &Drop) -> Result<Exit, Exit> {
    let paths = args.which.paths("")?;
    if !args.yes {
        say(
            "weir: the rows would be gone for good; say --yes if that is meant, `weir dlq export` keeps them in a file",
        );
        return Err(Exit::Usage);
    }
    let (mut dropped, mut exit) = (0, Exit::Ok);
    for path in paths {
        match api
            .ask(Method::DELETE, &format!("/dead-letters{path}"))
            .await
        {
            Ok(answer) => dropped += answer["dropped"].as_u64().unwrap_or(0),
            Err(Exit::Problems) => exit = Exit::Problems,
            Err(other) => return Err(other),
        }
    }
    if common.json {
        out_json(&serde_json::json!({ "v": 1, "dropped": dropped }));
    } else {
        out_line(&format!("{} dropped", super::rows(dropped)));
    }
    Ok(exit)
}
