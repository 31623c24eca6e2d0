//! `weir sinks`: the sinks of a running broker, and rows that wait for sinks that are no more.

use reqwest::Method;
use serde_json::Value as Json;

use super::api::{Api, age, bytes, encoded, table};
use super::{Common, Exit, block_on, out, out_json, out_line, say};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List them: state, rows that wait and since when, dead letters, last error
    Ls(Ls),
    /// End the queue of a sink that is in no rule any more, with the rows that wait in it
    Drop(Drop),
}

#[derive(clap::Args)]
struct Ls {
    /// Only those that are in no rule any more
    #[arg(long)]
    leftover: bool,
}

#[derive(clap::Args)]
struct Drop {
    /// The rule and the sink, as `weir sinks ls` shows them: plant-a/hot/history
    #[arg(value_name = "RULE/SINK")]
    sink: String,
    /// Do it: the rows are gone
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let api = match Api::of(common) {
        Ok(api) => api,
        Err(exit) => return exit,
    };
    block_on(common, async {
        let outcome = match &args.command {
            Command::Ls(args) => list(common, &api, args).await,
            Command::Drop(args) => drop_queue(common, &api, args).await,
        };
        outcome.unwrap_or_else(|exit| exit)
    })
}

async fn list(common: &Common, api: &Api, args: &Ls) -> Result<Exit, Exit> {
    let answer = api.ask(Method::GET, "/sinks").await?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let items: Vec<Json> = items
        .into_iter()
        .filter(|sink| !args.leftover || sink["leftover"] == true)
        .collect();
    if common.json {
        out_json(&serde_json::json!({ "v": 1, "sinks": items }));
        return Ok(Exit::Ok);
    }
    if items.is_empty() {
        out_line(if args.leftover {
            "no queue is left over"
        } else {
            "no rule has a sink"
        });
        return Ok(Exit::Ok);
    }
    let rows: Vec<_> = items.iter().map(cells).collect();
    let head = [
        "RULE/SINK",
        "TYPE",
        "STATE",
        "ROWS",
        "BYTES",
        "OLDEST",
        "DEAD",
        "LAST ERROR",
    ];
    out(&table(&head, &rows));
    if items.iter().any(|sink| sink["leftover"] == true) && !common.quiet {
        say("leftover: no rule has this sink any more; `weir sinks drop RULE/SINK` ends its queue");
    }
    Ok(Exit::Ok)
}

fn cells(sink: &Json) -> Vec<String> {
    let text = |key: &str| sink[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| sink[key].as_u64().unwrap_or(0);
    let state = match (text("state").as_str(), sink["leftover"] == true) {
        ("leftover", _) | (_, false) => text("state"),
        (state, true) => format!("{state}, leftover"),
    };
    let state = match text("circuit").as_str() {
        "-" | "closed" => state,
        _ => format!("{state}, circuit open"),
    };
    let error = &sink["last_error"];
    vec![
        format!("{}/{}", text("rule"), text("sink")),
        text("type"),
        state,
        (number("buffer_rows") + number("inflight")).to_string(),
        bytes(number("buffer_bytes")),
        sink["oldest_age_s"].as_i64().map_or("-".to_owned(), age),
        number("dead_letters").to_string(),
        error["code"].as_str().map_or("-".to_owned(), |code| {
            let detail: String = error["detail"]
                .as_str()
                .unwrap_or_default()
                .chars()
                .take(80)
                .collect();
            format!("[{code}] {detail}")
        }),
    ]
}

async fn drop_queue(common: &Common, api: &Api, args: &Drop) -> Result<Exit, Exit> {
    let Some((rule, sink)) = args.sink.rsplit_once('/') else {
        say("weir: write the rule and the sink: RULE/SINK, as `weir sinks ls` shows them");
        return Err(Exit::Usage);
    };
    if !args.yes {
        say(&format!(
            "weir: this drops the rows that wait for {}; say --yes if that is meant",
            args.sink
        ));
        return Err(Exit::Usage);
    }
    let path = format!("/sinks/{}/{}", encoded(rule), encoded(sink));
    let answer = api.ask(Method::DELETE, &path).await?;
    if common.json {
        out_json(&serde_json::json!({ "v": 1, "dropped": answer["dropped"] }));
    } else {
        out_line(&format!(
            "{} dropped",
            super::rows(answer["dropped"].as_u64().unwrap_or(0))
        ));
    }
    Ok(Exit::Ok)
}
