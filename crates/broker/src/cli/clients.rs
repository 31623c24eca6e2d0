//! `weir clients`: what an operator does to the clients of a running broker.

use reqwest::Method;

use super::api::{Api, encoded, query};
use super::{Common, Exit, block_on, count, out_json, out_line};

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
    let api = match Api::of(common) {
        Ok(api) => api,
        Err(exit) => return exit,
    };
    let query = query(&[
        ("use_server", kick.use_server.as_deref()),
        ("moved_to", kick.moved_to.as_deref()),
    ]);
    let mut paths = vec![format!("/clients{query}")];
    if !kick.all {
        let of = |id: &String| format!("/clients/{}{query}", encoded(id));
        paths = kick.clients.iter().map(of).collect();
    }
    block_on(common, async {
        let (mut done, mut exit) = (0, Exit::Ok);
        for path in paths {
            match api.ask(Method::DELETE, &path).await {
                Ok(answer) => done += answer["disconnected"].as_u64().unwrap_or(0),
                Err(Exit::Problems) => exit = Exit::Problems,
                Err(exit) => return exit,
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
