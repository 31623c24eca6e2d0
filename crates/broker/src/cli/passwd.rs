//! `weir passwd FILE USER`: adds a user to a password file, or changes one.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use super::{Common, Exit, out_json, out_line, say};
use crate::auth::scram::{self, Credentials};
use crate::auth::{self, password_file};
use crate::project::files::write_whole;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The password file; made when it is not there
    file: PathBuf,
    /// The user name
    user: String,
    /// Write credentials for SCRAM-SHA-256 (`auth.scram_file`) instead of a password hash
    #[arg(long)]
    scram: bool,
    /// Remove the user instead
    #[arg(long)]
    delete: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    // SCRAM knows a user under one name, however it is typed.
    let name = |user: &str| match args.scram {
        true => scram::prepared(user).map(std::borrow::Cow::into_owned),
        false => Ok(user.to_owned()),
    };
    if args.scram && args.user.len() > scram::MAX_NAME {
        say("weir: for SCRAM a user name is no longer than 1024 bytes");
        return Exit::Usage;
    }
    let user = match name(&args.user) {
        Ok(user) => user,
        Err(error) => {
            say(&format!("weir: the user name: {error}"));
            return Exit::Usage;
        }
    };
    if !auth::is_user_name(&user) {
        say("weir: a user name is not empty and has no `:`");
        return Exit::Usage;
    }
    let mut lines: Vec<String> = match std::fs::read_to_string(&args.file) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            say(&format!(
                "weir: cannot read {}: {error}",
                args.file.display()
            ));
            return Exit::Unusable;
        }
    };
    let before = lines.len();
    lines.retain(|line| {
        line.split_once(':')
            .is_none_or(|(known, _)| name(known).as_deref() != Ok(&*user))
    });
    let known = lines.len() < before;
    if args.delete && !known {
        say(&format!(
            "weir: there is no user `{user}` in {}",
            args.file.display()
        ));
        return Exit::Problems;
    }
    if !args.delete {
        let password = match read_password() {
            Ok(password) => password,
            Err(message) => {
                say(&format!("weir: {message}"));
                return Exit::Usage;
            }
        };
        let hash = if args.scram {
            let credentials = Credentials::new(&password);
            credentials
                .map(|credentials| credentials.to_line())
                .map_err(|error| format!("the password: {error}"))
        } else {
            password_file::hash_password(&password).map_err(|error| error.to_string())
        };
        match hash {
            Ok(hash) => lines.push(format!("{user}:{hash}")),
            Err(error) => {
                say(&format!("weir: {error}"));
                return Exit::Problems;
            }
        }
    }
    if !args.file.exists()
        && let Err(error) = create_private(&args.file)
    {
        say(&format!(
            "weir: cannot write {}: {error}",
            args.file.display()
        ));
        return Exit::Unusable;
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if let Err(error) = write_whole(&args.file, text.as_bytes()) {
        say(&format!(
            "weir: cannot write {}: {error}",
            args.file.display()
        ));
        return Exit::Unusable;
    }
    let done = match (args.delete, known) {
        (true, _) => "removed",
        (false, true) => "changed",
        (false, false) => "added",
    };
    if common.json {
        out_json(&serde_json::json!({ "v": 1, "user": user, "outcome": done }));
    } else {
        out_line(&format!(
            "{done} {user}; a running broker takes it over on SIGHUP"
        ));
    }
    Exit::Ok
}

/// Makes an empty file that only its owner may read.
fn create_private(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
}

/// The password's line from stdin; a terminal is asked twice.
fn read_password() -> Result<String, String> {
    let stdin = std::io::stdin();
    let ask = |prompt: &str| -> Result<String, String> {
        if stdin.is_terminal() {
            say(prompt);
        }
        let mut line = String::new();
        stdin
            .lock()
            .read_line(&mut line)
            .map_err(|error| format!("cannot read the password: {error}"))?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let password = ask("password (it is shown; a pipe or `read -s` hides it):")?;
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    if stdin.is_terminal() && ask("again:")? != password {
        return Err("the two passwords differ".to_owned());
    }
    Ok(password)
}
