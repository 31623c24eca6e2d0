//! `weir bridge start` and `weir bridge stop`: a bridge of a running broker connects, or ends its link.

use reqwest::Method;
use serde_json::json;

use super::api::{Api, encoded};
use super::{Common, Exit, block_on, out_json, out_line};

/// Which bridge.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The connector's name: its file without .toml
    name: String,
}

pub(super) fn start(common: &Common, args: &Args) -> Exit {
    tell(common, &args.name, "start")
}

pub(super) fn stop(common: &Common, args: &Args) -> Exit {
    tell(common, &args.name, "stop")
}

fn tell(common: &Common, name: &str, what: &str) -> Exit {
    let api = match Api::of(common) {
        Ok(api) => api,
        Err(exit) => return exit,
    };
    let path = format!("/connectors/{}/{what}", encoded(name));
    block_on(common, async {
        let mut answer = match api.ask(Method::POST, &path).await {
            Ok(answer) => answer,
            Err(exit) => return exit,
        };
        if common.json {
            answer["v"] = json!(1);
            out_json(&answer);
            return Exit::Ok;
        }
        let of = |key: &str| answer[key].as_str().unwrap_or_default();
        let (state, address) = (of("state"), of("address"));
        let to = match state {
            "connected" | "degraded" => format!(" to {address}"),
            _ => String::new(),
        };
        out_line(&format!("{name} is {state}{to}"));
        Exit::Ok
    })
}
