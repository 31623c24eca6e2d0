//! `weir help`: the text of a code, or a command's help as clap has it.

use clap::CommandFactory;

use super::{Cli, Common, Exit, codes, out, say};
use crate::problem::nearest;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Codes as findings print them, such as E0102 (e0102 and 102 are the same), or a command
    #[arg(value_name = "CODE|COMMAND")]
    what: Vec<String>,
    /// List every code
    #[arg(long)]
    codes: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    if args.codes {
        out(&codes::list());
        return Exit::Ok;
    }
    if !args.what.first().is_some_and(|word| looks_like_code(word)) {
        return command(common, &args.what);
    }
    let mut texts = Vec::new();
    for word in &args.what {
        match codes::meant(word).as_slice() {
            [] => return unknown(word, "code", codes::all()),
            [code] => texts.extend(codes::explained(code)),
            several => texts.push(codes::titles(several)),
        }
    }
    out(&texts.join("\n\n"));
    Exit::Ok
}

/// Digits, perhaps after a letter: no command is called so.
fn looks_like_code(word: &str) -> bool {
    let digits = word.strip_prefix(char::is_alphabetic).unwrap_or(word);
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}

fn command(common: &Common, path: &[String]) -> Exit {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for name in path {
        if command.find_subcommand(name).is_none() {
            let known: Vec<&str> = command
                .get_subcommands()
                .map(clap::Command::get_name)
                .collect();
            return unknown(name, "command", known);
        }
        let Some(found) = command.find_subcommand_mut(name) else {
            return Exit::Usage;
        };
        command = found;
    }
    let help = command.render_long_help();
    out(&if common.paints() {
        help.ansi().to_string()
    } else {
        help.to_string()
    });
    Exit::Ok
}

fn unknown<'k>(written: &str, what: &str, known: impl IntoIterator<Item = &'k str>) -> Exit {
    let upper = written.to_ascii_uppercase();
    let compared = if what == "code" { &upper } else { written };
    let hint = nearest(compared, known)
        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    say(&format!("weir: there is no {what} `{written}`{hint}"));
    if what == "code" {
        say("      `weir help --codes` lists them");
    }
    Exit::Usage
}
