//! `weir fmt`: writes the statements of rule files in the house layout; the rest of the files stays as it is.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Common, Exit, out, out_json, out_line, print_problems, say};
use crate::config;
use crate::problem::{Problem, Source};
use crate::project::files::{FileId, Folders, Kind, write_whole};
use crate::project::format;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Files, or folders of rules; every rule of the project unless given. `-` formats a statement from stdin
    paths: Vec<PathBuf>,
    /// Change nothing, and fail when a file would be changed
    #[arg(long)]
    check: bool,
}

/// A file that may hold a statement.
struct Candidate {
    source: Source,
    is_statement: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    if args.paths == [Path::new("-")] {
        return stdin(common, args.check);
    }
    let (candidates, mut problems) = match candidates(common, &args.paths) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let mut changed = Vec::new();
    for Candidate {
        source,
        is_statement,
    } in candidates
    {
        if !is_statement && !common.quiet && format::has_no_statement(&source) {
            say(&format!(
                "weir: {}: there is no `sql` in it to format",
                source.path.display()
            ));
        }
        let formatted = if is_statement {
            format::statement_file(&source)
        } else {
            format::rule_file(&source)
        };
        match formatted {
            Ok(text) if *text == *source.text => {}
            Ok(text) => match write(&source.path, &text, args.check) {
                Ok(()) => changed.push((source, text)),
                Err(error) => problems.push(Problem::whole(
                    source.path,
                    "E1000",
                    format!("cannot be written: {error}"),
                )),
            },
            Err(found) => problems.extend(found),
        }
    }
    if common.json {
        let changed: Vec<&Path> = changed.iter().map(|(source, _)| &*source.path).collect();
        out_json(&json!({ "v": 1, "changed": changed, "diagnostics": problems }));
    } else {
        for (source, text) in &changed {
            out_line(&source.path.display().to_string());
            if args.check && !common.quiet {
                say(&difference(source, text));
            }
        }
        print_problems(&problems);
    }
    if problems.is_empty() && (changed.is_empty() || !args.check) {
        Exit::Ok
    } else {
        Exit::Problems
    }
}

/// What would be changed: the lines from the first to the last that differ, as they are and as they would be.
fn difference(source: &Source, after: &str) -> String {
    const MOST: usize = 20;
    let before: Vec<&str> = source.text.split_inclusive('\n').collect();
    let after: Vec<&str> = after.split_inclusive('\n').collect();
    let pairs = before.iter().zip(&after);
    let same = pairs.take_while(|(one, two)| one == two).count();
    let (before, after) = (&before[same..], &after[same..]);
    let pairs = before.iter().rev().zip(after.iter().rev());
    let same_end = pairs.take_while(|(one, two)| one == two).count();
    let mut text = format!("  {}:{}", source.path.display(), same + 1);
    for (sign, lines) in [('-', before), ('+', after)] {
        let lines = &lines[..lines.len() - same_end];
        for line in lines.iter().take(MOST) {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line, ""),
                None => (*line, "   (no line break after it)"),
            };
            let shown = line.replace('\r', "\\r");
            text.push_str(&format!("\n  {sign} {shown}{end}"));
        }
        if lines.len() > MOST {
            text.push_str(&format!("\n  {sign} … {} more", lines.len() - MOST));
        }
    }
    text
}

fn stdin(common: &Common, check: bool) -> Exit {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    let source = Source::new("stdin", text);
    let formatted = match read {
        Ok(_) => format::statement_file(&source),
        Err(error) => Err(vec![Problem::whole("stdin", "E1001", error.to_string())]),
    };
    match formatted {
        Ok(text) if check && *text != *source.text => {
            if !common.quiet {
                say(&difference(&source, &text));
            }
            Exit::Problems
        }
        Ok(_) if check => Exit::Ok,
        Ok(text) => {
            out(&text);
            Exit::Ok
        }
        Err(problems) => {
            print_problems(&problems);
            Exit::Problems
        }
    }
}

/// The files that are meant, and what is wrong with those that cannot be read.
fn candidates(common: &Common, paths: &[PathBuf]) -> Result<(Vec<Candidate>, Vec<Problem>), Exit> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    if paths.is_empty() {
        let folder = common.load()?.config.rules.dir;
        of_folder(&folder, &mut found, &mut problems);
        if found.is_empty() && problems.is_empty() {
            // As with `weir check`: doing nothing must not look like success.
            problems.push(
                Problem::whole(folder, "E1000", "there is no rule to format")
                    .help("`weir init DIR` writes a first rule"),
            );
        }
    }
    for path in paths {
        if path.is_dir() {
            let before = found.len() + problems.len();
            of_folder(path, &mut found, &mut problems);
            if found.len() + problems.len() == before {
                problems.push(
                    Problem::whole(path, "E1000", "there is no rule to format in this folder")
                        .help("name a folder of rules, or a file"),
                );
            }
            continue;
        }
        match config::read(path) {
            Ok(source) => found.push(Candidate {
                is_statement: path.extension().is_some_and(|ending| ending == "sql"),
                source,
            }),
            Err(unreadable) => problems.extend(unreadable),
        }
    }
    Ok((found, problems))
}

/// The rules below a folder, and the statement files that they name: other SQL is none of ours.
fn of_folder(folder: &Path, found: &mut Vec<Candidate>, problems: &mut Vec<Problem>) {
    let folders = Folders {
        rules: folder.to_path_buf(),
        ..Folders::below(folder)
    };
    let (files, unreadable) = folders.scan();
    problems.extend(unreadable);
    for (id, source) in files.of(Kind::Rule) {
        let sql = format::sql_file(source)
            .and_then(|name| files.get(&FileId::sql_beside(id, &name)?).cloned());
        found.push(Candidate {
            source: source.clone(),
            is_statement: false,
        });
        found.extend(sql.map(|source| Candidate {
            source,
            is_statement: true,
        }));
    }
}

fn write(path: &Path, text: &str, only_check: bool) -> std::io::Result<()> {
    if only_check {
        return Ok(());
    }
    // A link stays one: what it leads to is written.
    write_whole(&path.canonicalize()?, text.as_bytes())
}
