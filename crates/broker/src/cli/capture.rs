//! `weir capture`: what was kept of messages. It reads the files of the data folder, whether weir runs or not.

use std::ops::ControlFlow;

use serde_json::json;

use super::replay::{cannot_read, no_capture, shown_time, tell_what_is_missing};
use super::{Common, Exit, count, out_json, out_line};
use crate::capture::read::{ALL, Found, open, read};
use crate::core::Millis;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List what is there: filters, from, to, messages, bytes
    Ls,
}

/// Messages that the same filters have taken.
#[derive(Default)]
struct Part {
    filters: Vec<String>,
    from: Millis,
    to: Millis,
    messages: u64,
    bytes: u64,
}

pub(super) fn run(common: &Common, args: &Args) -> Exit {
    let Command::Ls = args.command;
    let data_dir = match common.load() {
        Ok(loaded) => loaded.config.data_dir(),
        Err(exit) => return exit,
    };
    let recording = match open(&data_dir) {
        Ok(Some(recording)) => recording,
        Ok(None) => return no_capture(&data_dir),
        Err(error) => return cannot_read(&data_dir, &error),
    };
    let mut parts: Vec<Part> = Vec::new();
    let reading = read(&recording, ALL, &mut |found| {
        match found {
            Found::Filters(filters) => {
                if parts.last().is_none_or(|part| part.filters != filters) {
                    parts.push(Part {
                        filters,
                        ..Part::default()
                    });
                }
            }
            Found::Message(_, message) => {
                if parts.is_empty() {
                    parts.push(Part::default());
                }
                let Some(part) = parts.last_mut() else {
                    return ControlFlow::Continue(());
                };
                if part.messages == 0 {
                    part.from = message.accepted_at;
                }
                part.to = part.to.max(message.accepted_at);
                part.messages += 1;
                part.bytes += (message.topic.len() + message.payload.len()) as u64;
            }
        }
        ControlFlow::Continue(())
    });
    let reading = match reading {
        Ok(reading) => reading,
        Err(error) => return cannot_read(&data_dir, &error),
    };
    parts.retain(|part| part.messages > 0);
    if common.json {
        let items: Vec<_> = parts
            .iter()
            .map(|part| {
                json!({
                    "filters": part.filters, "from_ms": part.from, "to_ms": part.to, "messages": part.messages,
                    "bytes": part.bytes,
                })
            })
            .collect();
        out_json(&json!({
            "v": 1, "items": items, "file_bytes": reading.bytes, "missing": reading.missing,
            "damaged": reading.spoiled.len(),
        }));
    } else {
        for part in &parts {
            let messages = usize::try_from(part.messages).unwrap_or(usize::MAX);
            out_line(&format!(
                "{}  {}  {}, {} bytes  {}",
                shown_time(part.from),
                shown_time(part.to),
                count(messages, "message"),
                part.bytes,
                part.filters.join(" "),
            ));
        }
        if parts.is_empty() {
            out_line("nothing was captured yet");
        }
    }
    tell_what_is_missing(&reading);
    if reading.spoiled.is_empty() {
        Exit::Ok
    } else {
        Exit::Problems
    }
}
