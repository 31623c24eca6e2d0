//! `weir import emqx FILE…`: an export of EMQX 5 as the files of a project.

use std::path::{Path, PathBuf};

use serde_json::json;
use weir_import::{Export, Imported, ImportedRule, Level, Note, ReadError};

use super::{Common, Exit, count, out_json, out_line, say};
use crate::project::files::write_whole;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: Origin,
}

#[derive(clap::Subcommand)]
enum Origin {
    /// Rules, connectors, actions and bridges of EMQX 5
    Emqx(EmqxArgs),
}

#[derive(clap::Args)]
struct EmqxArgs {
    /// cluster.hocon, emqx.conf, JSON of the REST API or a data backup (.tar.gz); of several, a later one wins
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The folder to write rules/ and connectors/ into; made when it is not there
    #[arg(long, default_value = ".", value_name = "DIR")]
    into: PathBuf,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

const WHAT_IT_TAKES: &str = "      an export of EMQX 5 is its data/configs/cluster.hocon, JSON of its REST API, or `emqx ctl data export`";

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let Origin::Emqx(args) = &args.from;
    let export = match read(&args.files) {
        Ok(export) => export,
        Err(exit) => return exit,
    };
    let imported = weir_import::import(&export);
    let there: Vec<String> = imported
        .files
        .iter()
        .map(|file| args.into.join(&file.path))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() && !args.force {
        say(&format!(
            "weir: {} there already: {}",
            count(there.len(), "file"),
            there.join(", ")
        ));
        say("      nothing was written; --force writes over them, --into DIR writes elsewhere");
        return Exit::Problems;
    }
    for file in &imported.files {
        let path = args.into.join(&file.path);
        if let Err(error) = write(&path, &file.text) {
            say(&format!("weir: cannot write {}: {error}", path.display()));
            return Exit::Unusable;
        }
    }
    let lost = imported
        .notes
        .iter()
        .filter(|note| note.level == Level::NotTaken)
        .count();
    if common.json {
        let files: Vec<&str> = imported.files.iter().map(|file| &*file.path).collect();
        out_json(&json!({
            "v": 1, "dir": args.into, "files": files, "rules": imported.rules, "variables": imported.variables, "notes": imported.notes, "not_taken": lost,
        }));
    } else {
        print(&imported, &args.into);
    }
    if lost > 0 { Exit::Problems } else { Exit::Ok }
}

fn read(files: &[PathBuf]) -> Result<Export, Exit> {
    let mut whole = Export::default();
    for file in files {
        let bytes = std::fs::read(file).map_err(|error| {
            say(&format!("weir: cannot read {}: {error}", file.display()));
            say(WHAT_IT_TAKES);
            Exit::Unusable
        })?;
        let export = Export::read(&bytes).map_err(|error| {
            let colon = if matches!(error, ReadError::Hocon(_)) {
                ":"
            } else {
                ": "
            };
            say(&format!("weir: {}{colon}{error}", file.display()));
            say(WHAT_IT_TAKES);
            Exit::Problems
        })?;
        whole.merge(export);
    }
    if whole.is_empty() {
        let names: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        say(&format!(
            "weir: there are no rules, connectors, actions or bridges in {}",
            names.join(", ")
        ));
        say(WHAT_IT_TAKES);
        return Err(Exit::Problems);
    }
    Ok(whole)
}

/// A private key is for its owner alone.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    write_whole(path, text.as_bytes())?;
    #[cfg(unix)]
    if path.to_string_lossy().ends_with(".key.pem") {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn print(imported: &Imported, into: &Path) {
    let sinks = |rule: &ImportedRule| {
        let sinks = if rule.sinks.is_empty() {
            "none".to_owned()
        } else {
            rule.sinks.join(", ")
        };
        if rule.enabled {
            sinks
        } else {
            format!("{sinks} (off)")
        }
    };
    let width = |texts: &mut dyn Iterator<Item = usize>, least: usize| {
        texts.max().unwrap_or(0).max(least).min(48)
    };
    let rules = width(
        &mut imported.rules.iter().map(|rule| rule.id.chars().count()),
        "rule".len(),
    );
    let wide = width(
        &mut imported
            .rules
            .iter()
            .map(|rule| sinks(rule).chars().count()),
        "sinks".len(),
    );
    out_line(&format!(
        "{:<rules$}  {:<wide$}  tests  notes",
        "rule", "sinks"
    ));
    for rule in &imported.rules {
        let of = format!("rule {}", rule.id);
        let notes = imported.notes.iter().filter(|note| note.of == of).count();
        out_line(&format!(
            "{:<rules$}  {:<wide$}  {:>5}  {notes:>5}",
            rule.id,
            sinks(rule),
            rule.tests
        ));
    }
    for level in [Level::NotTaken, Level::Todo, Level::Changed] {
        let notes: Vec<&Note> = imported
            .notes
            .iter()
            .filter(|note| note.level == level)
            .collect();
        if !notes.is_empty() {
            out_line(&format!("\n{}", level.name()));
        }
        for note in notes {
            out_line(&format!("  {}: {}", note.of, note.text));
        }
    }
    out_line(&format!(
        "\nwrote {} into {}",
        count(imported.files.len(), "file"),
        into.display()
    ));
    if !imported.variables.is_empty() {
        out_line("\nset where weir runs, before the next step");
        for name in &imported.variables {
            out_line(&format!("  export {name}='…'"));
        }
    }
    let folder = if into == Path::new(".") {
        String::new()
    } else {
        format!("cd {} && ", into.display())
    };
    out_line(&format!("next  {folder}weir check && weir test"));
}
