//! `weir reload`: makes a running broker read its files again, and prints what it says.

use reqwest::Method;
use serde_json::Value as Json;

use super::api::{Api, query};
use super::{Common, Exit, block_on, out_json, out_line};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let api = match Api::of(common) {
        Ok(api) => api,
        Err(exit) => return exit,
    };
    block_on(common, async {
        let dry_run = args.dry_run.then_some("true");
        let path = format!("/reload{}", query(&[("dry_run", dry_run)]));
        let report = match api.ask(Method::POST, &path).await {
            Ok(report) => report,
            Err(exit) => return exit,
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
