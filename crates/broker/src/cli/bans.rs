//! `weir bans`: whom a running broker turns away.

use reqwest::Method;
use serde_json::{Value as Json, json};

use super::api::{Api, query};
use super::{Common, Exit, block_on, out_json, out_line, say};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List every ban that is in force
    Ls,
    /// Turn someone away, now and after restarts; connections that this is about end
    Add(Add),
    /// Let someone in again
    Rm(Named),
}

#[derive(clap::Args)]
struct Named {
    /// client, user or address
    kind: String,
    /// The client id, the user name, or a network such as 203.0.113.0/24
    name: String,
}

#[derive(clap::Args)]
struct Add {
    #[command(flatten)]
    named: Named,
    /// For how long, e.g. 1h; until it is taken back unless given
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    /// Why, for those who read the list
    #[arg(long)]
    reason: Option<String>,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let api = match Api::of(common) {
        Ok(api) => api,
        Err(exit) => return exit,
    };
    block_on(common, async {
        let asked = match &args.command {
            Command::Ls => api.ask(Method::GET, "/bans").await,
            Command::Add(add) => {
                let Named { kind, name } = &add.named;
                let body = json!({ "kind": kind, "name": name, "for": add.duration, "reason": add.reason });
                api.tell(Method::POST, "/bans", body.to_string()).await
            }
            Command::Rm(Named { kind, name }) => {
                let whom = query(&[("kind", Some(kind)), ("name", Some(name))]);
                api.ask(Method::DELETE, &format!("/bans{whom}")).await
            }
        };
        let body = match asked {
            Ok(body) => body,
            Err(exit) => return exit,
        };
        match &args.command {
            Command::Ls => list(common, &body),
            Command::Add(Add { named, .. }) => said(common, &body, "is banned", named),
            Command::Rm(named) => said(common, &body, "may come in again", named),
        }
        Exit::Ok
    })
}

fn said(common: &Common, body: &Json, what: &str, Named { kind, name }: &Named) {
    if common.json {
        let mut body = body.clone();
        body["v"] = json!(1);
        out_json(&body);
    } else {
        out_line(&format!("{kind} {name} {what}"));
    }
}

fn list(common: &Common, body: &Json) {
    let nobody = Vec::new();
    let items = body["items"].as_array().unwrap_or(&nobody);
    if common.json {
        out_json(&json!({ "v": 1, "items": items }));
        return;
    }
    if items.is_empty() {
        say("nobody is banned");
    }
    for item in items {
        let of = |key: &str| item[key].as_str().unwrap_or_default();
        let until = item["until_ms"]
            .as_i64()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .map_or_else(|| "for good".to_owned(), |at| format!("until {at:.0}"));
        let line = format!(
            "{:<8} {:<24} {until:<26} {}",
            of("kind"),
            of("name"),
            of("reason")
        );
        out_line(line.trim_end());
    }
}
