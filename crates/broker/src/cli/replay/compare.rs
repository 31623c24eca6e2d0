//! What another version of a rule would change.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde_json::{Value as Json, json};
use weir_rules::event::{Event, What};
use weir_store::capture::Reading;

use super::{
    Args, New, cannot_read, new_version, no_capture, range, running, shown_time,
    tell_what_is_missing, version,
};
use crate::capture::read::{ALL, Found, Range, event, open, read};
use crate::cli::{Common, Exit, count, out_json, out_line, say};
use crate::config::{self, Config};
use crate::core::Millis;
use crate::project::compare::{Change, Kind, Version, changes};
use crate::project::files::{FileId, Folders};

/// Both versions, and what they differ in so far.
struct Comparison<'a> {
    common: &'a Common,
    limit: usize,
    /// `None`: no version runs, and every row is new.
    before: Option<Version>,
    after: Version,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    messages: u64,
    /// Those that are for the rule.
    matched: u64,
    same: u64,
    added: u64,
    missing: u64,
    different: u64,
    shown: usize,
    errors_before: u64,
    errors_after: u64,
}

pub(super) fn run(common: &Common, args: &Args) -> Result<Exit, Exit> {
    let config = common.load()?.config;
    let New { id, rule, .. } = new_version(&config, args)?;
    let sources = rule.rule.explain().sources.join(", ");
    let before = match &args.against {
        Some(path) => Some(against(&config, &id, path)?),
        None => running(&config, &id)?,
    };
    if before.is_none() {
        say(&format!(
            "weir: no version of the rule `{id}` has run here: every row is new"
        ));
    }
    let mut comparison = Comparison {
        common,
        limit: args.limit,
        before: before.map(|rule| version(&config, rule)).transpose()?,
        after: version(&config, rule)?,
        tally: Tally::default(),
    };
    match &args.file {
        Some(file) => super::file::each(file, &mut |_, event| {
            comparison.take(None, &event);
            ControlFlow::Continue(())
        })?,
        None => from_capture(&config, args, &mut comparison)?,
    }
    if comparison.tally.matched == 0 {
        say(&format!(
            "weir: none of {} is for the rule `{id}`, which wants {sources}",
            count(
                usize::try_from(comparison.tally.messages).unwrap_or(usize::MAX),
                "message"
            ),
        ));
    }
    Ok(comparison.end())
}

/// The version in another file, with the project around it.
fn against(
    config: &Config,
    id: &str,
    path: &str,
) -> Result<crate::project::check::CheckedRule, Exit> {
    let mut files = Folders::of(&config.rules).scan().0;
    let source = config::read(path.as_ref()).map_err(|problems| {
        crate::cli::print_problems(&problems);
        Exit::Usage
    })?;
    files.0.insert(FileId::rule(id), source);
    super::checked(&files, id)
}

fn from_capture(config: &Config, args: &Args, comparison: &mut Comparison<'_>) -> Result<(), Exit> {
    let data_dir = config.data_dir();
    let range = range(args)?;
    let recording = match open(&data_dir) {
        Ok(Some(recording)) => recording,
        Ok(None) => return Err(no_capture(&data_dir)),
        Err(error) => return Err(cannot_read(&data_dir, &error)),
    };
    let mut filters = BTreeSet::new();
    let reading = read(&recording, range, &mut |found| {
        match found {
            Found::Filters(more) => filters.extend(more),
            Found::Message(number, message) => comparison.take(Some(number), &event(&message)),
        }
        ControlFlow::Continue(())
    });
    let reading = reading.map_err(|error| cannot_read(&data_dir, &error))?;
    tell_what_is_missing(&reading);
    if comparison.tally.messages == 0 {
        return Err(nothing_then(&recording, range, &reading));
    }
    if comparison.tally.matched == 0 {
        let filters: Vec<String> = filters.into_iter().collect();
        say(&format!("weir: captured is {}", filters.join(" ")));
    }
    Ok(())
}

/// There are no messages of the time that was asked for.
pub(super) fn nothing_then(
    recording: &weir_store::capture::Recording,
    range: Range,
    reading: &Reading,
) -> Exit {
    let end = if range.to == Millis::MAX {
        "now".to_owned()
    } else {
        shown_time(range.to)
    };
    say(&format!(
        "weir: [E1608] nothing was captured between {} and {end}",
        shown_time(range.from)
    ));
    let mut span: Option<(Millis, Millis)> = None;
    let all = read(recording, ALL, &mut |found| {
        if let Found::Message(_, message) = found {
            let at = message.accepted_at;
            let (first, last) = span.unwrap_or((at, at));
            span = Some((first.min(at), last.max(at)));
        }
        ControlFlow::Continue(())
    });
    if let (Ok(_), Some((first, last))) = (all, span) {
        say(&format!(
            "      the capture has messages from {} to {}",
            shown_time(first),
            shown_time(last)
        ));
    } else if reading.spoiled.is_empty() {
        say("      the capture is empty");
    }
    Exit::Usage
}

impl Comparison<'_> {
    fn take(&mut self, number: Option<u64>, event: &Event) {
        self.tally.messages += 1;
        let wanted = |version: &Version| version.wants(event);
        if !wanted(&self.after) && !self.before.as_ref().is_some_and(wanted) {
            return;
        }
        self.tally.matched += 1;
        let before = self
            .before
            .as_ref()
            .map_or(Ok(Vec::new()), |version| version.rows(event));
        let after = self.after.rows(event);
        self.tally.errors_before += u64::from(before.is_err());
        self.tally.errors_after += u64::from(after.is_err());
        let rows = before
            .as_ref()
            .map_or(0, Vec::len)
            .max(after.as_ref().map_or(0, Vec::len));
        let found = changes(before, after);
        self.tally.same += (rows - found.len()) as u64;
        for change in found {
            match change.kind {
                Kind::Added => self.tally.added += 1,
                Kind::Missing => self.tally.missing += 1,
                Kind::Different => self.tally.different += 1,
            }
            if self.limit == 0 || self.tally.shown < self.limit {
                self.tally.shown += 1;
                self.show(number, event, &change);
            }
        }
    }

    fn show(&self, number: Option<u64>, event: &Event, change: &Change) {
        let topic = event.trigger();
        let topic = topic.as_str().unwrap_or_default();
        let at = u64::try_from(event.timestamp_ms).unwrap_or(0);
        if self.common.json {
            let mut line = json!({ "v": 1, "at_ms": at, "topic": topic, "number": number });
            if let What::Publish(publish) = &event.what {
                line["clientid"] = json!(publish.client_id.as_str());
            }
            let more = serde_json::to_value(change).unwrap_or_default();
            if let (Json::Object(line), Json::Object(more)) = (&mut line, more) {
                line.extend(more);
            }
            out_json(&line);
            return;
        }
        let word = match change.kind {
            Kind::Added => self.common.good("added    "),
            Kind::Missing => self.common.bad("missing  "),
            Kind::Different => "different".to_owned(),
        };
        let whole = change.after.as_ref().or(change.before.as_ref());
        let row = match change.kind {
            Kind::Different => String::new(),
            _ => whole.map_or_else(String::new, Json::to_string),
        };
        let line = format!("{}  {topic}  {word}  {row}", shown_time(at));
        out_line(line.trim_end());
        if let Some(error) = &change.error {
            let version = if change.kind == Kind::Added {
                "before"
            } else {
                "now"
            };
            out_line(&format!("    {version}: {error}"));
        }
        let of = |row: &Option<Json>, field: &str| {
            let value = row.as_ref().and_then(|row| row.get(field));
            value.map_or_else(|| "(none)".to_owned(), Json::to_string)
        };
        let width = change.fields.iter().map(String::len).max().unwrap_or(0);
        for field in &change.fields {
            let (before, after) = (of(&change.before, field), of(&change.after, field));
            out_line(&format!("    {field:<width$}  {before} -> {after}"));
        }
    }

    fn end(self) -> Exit {
        let tally = &self.tally;
        let found = tally.added + tally.missing + tally.different;
        if self.common.json {
            out_json(&json!({
                "v": 1, "kind": "summary", "messages": tally.messages, "matched": tally.matched, "same": tally.same,
                "added": tally.added, "missing": tally.missing, "different": tally.different,
                "errors_before": tally.errors_before, "errors_after": tally.errors_after,
            }));
        } else {
            let more = usize::try_from(found).unwrap_or(usize::MAX) - tally.shown;
            if more > 0 {
                out_line(&format!("({more} more; --limit 0 shows all)"));
            }
            out_line(&format!(
                "{} messages, {} for the rule: {} rows the same, {} added, {} missing, {} different; errors {} before, {} now",
                tally.messages,
                tally.matched,
                tally.same,
                tally.added,
                tally.missing,
                tally.different,
                tally.errors_before,
                tally.errors_after,
            ));
        }
        if found == 0 && tally.errors_before == tally.errors_after {
            Exit::Ok
        } else {
            Exit::Problems
        }
    }
}
