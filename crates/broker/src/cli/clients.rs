//! `weir clients`: what an operator does to the clients of a running broker.

use serde_json::Value as Json;

use super::api::{encoded, query};
use super::{Common, Exit, block_on, count, out_json, out_line, say, server};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// End the connections of clients; MQTT 5 clients can be sent to another server
    Kick(Kick),
}

#[derive(clap::Args)]
struct Kick {
    /// The clients, by their identifiers
    #[arg(required_unless_present = "all")]
    clients: Vec<String>,
    /// All of them; needs somewhere to send them
    #[arg(long, conflicts_with = "clients", requires = "elsewhere")]
    all: bool,
    /// Send them to this server for now
    #[arg(long, value_name = "SERVER", group = "elsewhere")]
    use_server: Option<String>,
    /// Send them to this server for good
    #[arg(long, value_name = "SERVER", group = "elsewhere")]
    moved_to: Option<String>,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let Command::Kick(kick) = &args.command;
    let server = match server(common) {
        Ok(server) => server,
        Err(exit) => return exit,
    };
    let query = query(&[
        ("use_server", kick.use_server.as_deref()),
        ("moved_to", kick.moved_to.as_deref()),
    ]);
    let mut urls = vec![format!("{server}/weir/v1/clients{query}")];
    if !kick.all {
        let of = |id: &String| format!("{server}/weir/v1/clients/{}{query}", encoded(id));
        urls = kick.clients.iter().map(of).collect();
    }
    block_on(common, async {
        let (mut done, mut exit) = (0, Exit::Ok);
        for url in urls {
            let request = reqwest::Client::new().delete(&url);
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => return super::no_broker(&server, &error),
            };
            let is_success = answer.status().is_success();
            let body = answer.text().await.unwrap_or_default();
            let body: Json = serde_json::from_str(&body).unwrap_or(Json::String(body));
            if is_success {
                done += body["disconnected"].as_u64().unwrap_or(0);
            } else {
                let of = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
                say(&format!("weir: {}: {}", of("title"), of("detail")));
                exit = Exit::Problems;
            }
        }
        if common.json {
            out_json(&serde_json::json!({ "v": 1, "disconnected": done }));
        } else {
            let done = usize::try_from(done).unwrap_or(usize::MAX);
            out_line(&format!("{} disconnected", count(done, "client")));
        }
        exit
    })
}
