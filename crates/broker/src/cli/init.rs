//! `weir init DIR`: a folder to start from, with a rule that has tests, and schemas for editors.

use std::path::PathBuf;

use super::{Common, Exit, out_json, out_line, say, schema};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The folder; made when it is not there
    dir: PathBuf,
}

/// Where each file goes and what it says; the schemas that they name in their first line come on top.
const FILES: [(&str, &str); 5] = [
    ("weir.toml", include_str!("init_files/weir.toml")),
    (
        "connectors/local.toml",
        include_str!("init_files/local.toml"),
    ),
    ("rules/hot.toml", include_str!("init_files/hot.toml")),
    ("udf/climate.rhai", include_str!("init_files/climate.rhai")),
    (".gitignore", include_str!("init_files/gitignore")),
];

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let files: Vec<(String, &str)> = FILES
        .iter()
        .map(|(name, text)| ((*name).to_owned(), *text))
        .chain(schema::files())
        .collect();
    if let Some((name, _)) = files.iter().find(|(name, _)| args.dir.join(name).exists()) {
        say(&format!(
            "{} is there already; nothing was written",
            args.dir.join(name).display()
        ));
        return Exit::Problems;
    }
    for (name, text) in &files {
        if let Err(error) =
            crate::project::files::write_whole(&args.dir.join(name), text.as_bytes())
        {
            say(&format!(
                "cannot write {}: {error}",
                args.dir.join(name).display()
            ));
            return Exit::Unusable;
        }
    }
    if common.json {
        let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
        out_json(&serde_json::json!({ "v": 1, "dir": args.dir, "files": names }));
    } else {
        for (name, _) in &files {
            out_line(&format!("wrote {}", args.dir.join(name).display()));
        }
        out_line(&format!(
            "\nnext  cd {}\n      weir test        # the rule's tests",
            args.dir.display()
        ));
        out_line(
            "      weir run         # then, in another terminal:\n      weir pub /dev/me/up '{\"temp\":41,\"hum\":40}'",
        );
    }
    Exit::Ok
}
