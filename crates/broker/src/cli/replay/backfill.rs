//! Rows of captured messages for the sinks of a rule, which goes live behind them.

use serde_json::{Value as Json, json};

use super::{Args, New, new_version, time};
use crate::cli::{Common, Exit, block_on, out_json, out_line, say, server};

/// Asks the running broker, which has the sinks and the queues.
pub(super) fn run(common: &Common, args: &Args) -> Result<Exit, Exit> {
    let config = common.load()?.config;
    let New { id, text, .. } = new_version(&config, args)?;
    let from = args
        .from
        .as_deref()
        .map_or(Ok(0), |text| time(text, "from"))?;
    let server = server(common)?;
    let body = json!({ "rule": id, "text": text, "from_ms": from });
    Ok(block_on(common, async {
        let request = reqwest::Client::new().post(format!("{server}/weir/v1/backfill"));
        let answer = match request.body(body.to_string()).send().await {
            Ok(answer) => answer,
            Err(error) => return crate::cli::no_broker(&server, &error),
        };
        let is_success = answer.status().is_success();
        let body = answer.text().await.unwrap_or_default();
        let mut body: Json = serde_json::from_str(&body).unwrap_or(Json::String(body));
        if !is_success {
            let of = |key: &str| body[key].as_str().unwrap_or_default();
            say(&format!(
                "weir: [{}] {}: {}",
                of("code"),
                of("title"),
                of("detail")
            ));
            return Exit::Usage;
        }
        if common.json {
            body["v"] = json!(1);
            out_json(&body);
            return Exit::Ok;
        }
        let of = |key: &str| body[key].as_u64().unwrap_or(0);
        out_line(&format!(
            "{id} is live; {} messages of before made {} rows, errors {}",
            of("messages"),
            of("rows"),
            of("errors"),
        ));
        for (key, words) in [
            ("missing", "messages are missing in the capture"),
            (
                "not_republished",
                "rows of republish sinks were left out: they would go to subscribers of now",
            ),
        ] {
            if of(key) > 0 {
                say(&format!("weir: warning: {} {words}", of(key)));
            }
        }
        Exit::Ok
    }))
}
