//! `weir schema`: what an editor needs to complete and check weir's files.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use super::{Common, Exit, out, out_json, out_line, say};
use crate::project::files::write_whole;
use crate::project::schema::SchemaKind;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Which files the schema is for
    #[arg(conflicts_with = "write")]
    kind: Option<SchemaKind>,
    /// Write every schema as DIR/schemas/KIND.json instead
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

/// Every schema's path in a project and its text.
pub(super) fn files() -> impl Iterator<Item = (String, &'static str)> {
    SchemaKind::value_variants()
        .iter()
        .map(|kind| (format!("schemas/{}.json", kind.name()), kind.text()))
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    if let Some(kind) = args.kind {
        out(kind.text());
        return Exit::Ok;
    }
    let Some(dir) = &args.write else {
        say("weir: which schema? rule, connector, config or test; --write DIR writes all of them");
        return Exit::Usage;
    };
    let mut written = Vec::new();
    for (name, text) in files() {
        let path = dir.join(name);
        if let Err(error) = write_whole(&path, text.as_bytes()) {
            say(&format!("weir: cannot write {}: {error}", path.display()));
            say("      --write takes a folder that you may write into");
            return Exit::Unusable;
        }
        written.push(path);
    }
    if common.json {
        out_json(&json!({ "v": 1, "files": written }));
    } else {
        for path in written {
            out_line(&format!("wrote {}", path.display()));
        }
    }
    Exit::Ok
}
