//! `weir bridge`: how a bridge signs in, shown before it is used.

use std::io::BufRead;
use std::path::PathBuf;

use serde_json::json;
use weir_sinks::{ConnectorConfig, bridge};

use super::{Common, Exit, block_on, out_json, out_line, print_problems, say};
use crate::config::toml_file::Process;
use crate::project::connector_file;
use crate::project::files::{FileId, Folders};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Test a bridge stage by stage
    Test {
        /// The connector's name: its file without .toml
        name: String,
        /// Stop after the derived credentials; nothing is connected
        #[arg(long)]
        offline: bool,
        /// Print the password, to compare it with the vendor's own tool
        #[arg(long)]
        show_secrets: bool,
    },
    /// Sign test vectors: lines of {"provider","inputs"} in, lines of {"client_id","username","password"} out
    Sign {
        /// The file with the vectors; - for stdin
        #[arg(long, value_name = "FILE")]
        vectors: PathBuf,
    },
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    match &args.command {
        Command::Test {
            name,
            offline,
            show_secrets,
        } => test(common, name, *offline, *show_secrets),
        Command::Sign { vectors } => sign(vectors),
    }
}

fn test(common: &Common, name: &str, offline: bool, show_secrets: bool) -> Exit {
    let loaded = match common.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let folders = Folders::of(&loaded.config.rules);
    let (files, _) = folders.scan();
    let Some(source) = files.get(&FileId::connector(name)) else {
        say(&format!(
            "weir: there is no connector `{name}` in {}",
            loaded.config.rules.connectors_dir.display()
        ));
        return Exit::Problems;
    };
    let connector = match connector_file::read(source, &Process) {
        Ok((connector, warnings)) => {
            print_problems(&warnings);
            connector
        }
        Err(problems) => {
            print_problems(&problems);
            return Exit::Problems;
        }
    };
    let ConnectorConfig::Mqtt(config) = &*connector.config else {
        say(&format!(
            "weir: `{name}` is a {} connector, not a bridge",
            connector.config.kind().name()
        ));
        return Exit::Usage;
    };
    let base = loaded.config.data_dir();
    block_on(common, async {
        let mut stages = bridge::test(config, &base, !offline).await;
        if !show_secrets {
            for creds in stages
                .iter_mut()
                .filter_map(|stage| stage.credentials.as_mut())
            {
                creds.password = creds.password.as_deref().map(masked);
            }
        }
        let failed = stages.iter().find(|stage| !stage.ok);
        let exit = match failed.map(|stage| stage.name) {
            None => Exit::Ok,
            Some("config") => Exit::Problems,
            Some("connect") => Exit::Refused,
            Some(_) => Exit::Unreachable,
        };
        if common.json {
            out_json(
                &json!({ "v": 1, "connector": name, "ok": failed.is_none(), "stages": stages }),
            );
            return exit;
        }
        for stage in &stages {
            let word = if stage.ok {
                common.good("ok  ")
            } else {
                common.bad("FAIL")
            };
            let detail = match &stage.credentials {
                Some(creds) => format!(
                    "client id {}   user {}   password {}",
                    creds.client_id,
                    creds.username.as_deref().unwrap_or("none"),
                    creds.password.as_deref().unwrap_or("none")
                ),
                None => stage.detail.clone(),
            };
            let code = stage
                .code
                .map_or_else(String::new, |code| format!("   [{code}]"));
            out_line(&format!(
                "{word}  {:<8}  {detail}   {} ms{code}",
                stage.name, stage.millis
            ));
        }
        exit
    })
}

/// Enough of a secret to recognise it by.
fn masked(secret: &str) -> String {
    let shown: String = secret.chars().take(4).collect();
    format!(
        "{shown}…({} characters; --show-secrets prints it)",
        secret.chars().count()
    )
}

fn sign(path: &PathBuf) -> Exit {
    let text = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .lines()
            .collect::<Result<Vec<_>, _>>()
            .map(|lines| lines.join("\n"))
    } else {
        std::fs::read_to_string(path)
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            say(&format!("weir: cannot read {}: {error}", path.display()));
            return Exit::Usage;
        }
    };
    let mut exit = Exit::Ok;
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match signed(line) {
            Ok(creds) => out_json(&creds),
            Err(message) => {
                // One line out for each line in, so that the two can be laid side by side.
                out_json(&json!({ "error": message }));
                say(&format!(
                    "weir: {}:{}: {message}",
                    path.display(),
                    index + 1
                ));
                exit = Exit::Problems;
            }
        }
    }
    exit
}

fn signed(line: &str) -> Result<bridge::signer::ShownCreds, String> {
    let vector: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let provider = vector["provider"].as_str().ok_or("`provider` is missing")?;
    bridge::sign_vector(provider, &vector["inputs"])
        .map(|creds| creds.show())
        .map_err(|error| error.to_string())
}
