//! `weir reload`: makes a running broker read its files again, and prints what it says.

use serde_json::Value as Json;

use super::{Common, Exit, block_on, out_json, out_line, say, server};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let server = match server(common) {
        Ok(server) => server,
        Err(exit) => return exit,
    };
    block_on(common, async {
        let url = format!(
            "{server}/weir/v1/reload{}",
            if args.dry_run { "?dry_run=true" } else { "" }
        );
        let answer = match reqwest::Client::new().post(&url).send().await {
            Ok(answer) => answer,
            Err(error) => return super::no_broker(&server, &error),
        };
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        let Some(report) = serde_json::from_str::<Json>(&body)
            .ok()
            .filter(|_| status.is_success())
        else {
            say(&format!("weir: {server} answered {status}: {body}"));
            return Exit::Refused;
        };
        if common.json {
            out_json(&report);
        } else {
            out_line(text(&report).trim_end());
        }
        if report["refused"].as_u64() == Some(0) {
            Exit::Ok
        } else {
            Exit::Problems
        }
    })
}

/// The server's report as people read it; it comes with the text, so that every client prints the same.
fn text(report: &Json) -> String {
    report["text"]
        .as_str()
        .map_or_else(|| report.to_string(), str::to_owned)
}
