//! Queues of rows in the store by name: those of sinks, those of dead letters, and those that nobody fills any more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;
use weir_sinks::dead_letter::DeadLetter;
use weir_sinks::{RowLog, Standing, record};

use super::{Reloader, State};
use crate::project::files::FileId;
use crate::store::Storage;

/// How `out` of a bridge is called among rules, before the name of the bridge.
const BRIDGES: &str = "$bridges/";

/// What a storage calls the rows of a sink: neither id has a line break in it.
pub(crate) fn queue_name(rule: &str, sink: &str) -> String {
    format!("{rule}\n{sink}")
}

/// What it calls the dead letters of a sink.
pub(crate) fn letters_name(rule: &str, sink: &str) -> String {
    format!("{rule}\n{sink}\ndead")
}

/// What a queue of a storage is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueOf<'n> {
    /// Rows of this rule and sink.
    Sink(&'n str, &'n str),
    /// Dead letters of this rule and sink.
    Letters(&'n str, &'n str),
}

impl<'n> QueueOf<'n> {
    /// By its name; `None` when it is of no kind that is known here.
    pub(crate) fn of(name: &'n str) -> Option<Self> {
        let mut parts = name.split('\n');
        let (rule, sink) = (parts.next()?, parts.next()?);
        match (parts.next(), parts.next()) {
            (None, _) => Some(Self::Sink(rule, sink)),
            (Some("dead"), None) => Some(Self::Letters(rule, sink)),
            _ => None,
        }
    }
}

/// When the oldest row of each queue came: read from the store only when another one is the oldest.
#[derive(Default)]
pub(super) struct Oldest(Mutex<HashMap<String, (Standing, Option<i64>)>>);

impl Oldest {
    /// Milliseconds since the epoch; `time` takes it from the row. May wait for a file.
    pub(super) fn of(
        &self,
        name: &str,
        standing: Standing,
        log: impl FnOnce() -> Option<Arc<dyn RowLog>>,
        time: fn(&bytes::Bytes) -> Option<i64>,
    ) -> Option<i64> {
        if standing.rows == 0 {
            self.0.lock().remove(name);
            return None;
        }
        let known = self.0.lock().get(name).copied();
        if let Some((then, at)) = known
            // What came since is younger.
            && (then.head, then.tail.saturating_sub(then.rows)) == (standing.head, standing.tail.saturating_sub(standing.rows))
        {
            return at;
        }
        let first = log().and_then(|log| log.read(standing.head, 1, 0).ok());
        let at = first.as_ref().and_then(|rows| time(&rows.first()?.1));
        self.0.lock().insert(name.to_owned(), (standing, at));
        at
    }
}

/// When the message of a row was accepted.
pub(super) fn accepted(row: &bytes::Bytes) -> Option<i64> {
    Some(record::decode(0, row).ok()?.accepted_at_ms)
}

/// When a letter was parked.
pub(super) fn parked(row: &bytes::Bytes) -> Option<i64> {
    Some(DeadLetter::decode(row).ok()?.at_ms)
}

/// Rows in the store of a sink that no rule has any more.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// The rule that had it.
    pub rule: String,
    /// The sink.
    pub sink: String,
    /// How many rows wait, and which.
    pub standing: Standing,
    /// When the oldest was accepted: milliseconds since the Unix epoch.
    pub oldest_accepted_at_ms: Option<i64>,
}

/// The dead letters of one sink.
#[derive(Clone, Debug)]
pub struct Pile {
    /// The rule that made their rows.
    pub rule: String,
    /// The sink.
    pub sink: String,
    /// How many there are.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest was parked: milliseconds since the Unix epoch.
    pub oldest_at_ms: Option<i64>,
}

/// Why the queue of a sink cannot be ended.
#[derive(Debug, Error)]
pub enum DropError {
    /// The rule has the sink.
    #[error("`{0}` has this sink")]
    InUse(String),
    /// The rule's file cannot be read as a rule, so nobody knows.
    #[error("the file of `{0}` has errors, so it may have this sink")]
    Doubtful(String),
    /// There is no such queue.
    #[error("there is no queue of this name")]
    Unknown,
    /// It cannot be written.
    #[error("the store cannot be written: {0}")]
    Store(String),
}

impl Reloader {
    /// Names the rows of sinks that are in no file: of a rule that was removed or renamed while weir did not run. They stay
    /// in the store, and go on when the rule is back.
    pub fn tell_what_waits_for_nobody(&self) {
        for left in self.leftovers() {
            tracing::warn!(
                rule = left.rule,
                sink = left.sink,
                rows = left.standing.rows,
                bytes = left.standing.bytes,
                "rows wait in the store for a sink that is in no rule file; they go out when it is back, and `weir sinks drop` ends them"
            );
        }
    }

    /// Queues with rows whose sink is in no rule that runs. May wait for a file.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let Some(storage) = &self.storage else {
            return Vec::new();
        };
        let queues = storage.queues();
        let left: Vec<_> = {
            let state = self.state.lock();
            let queues = queues.into_iter();
            queues
                .filter(|(name, standing)| match QueueOf::of(name) {
                    Some(QueueOf::Sink(rule, sink)) => {
                        standing.rows > 0 && !state.has_sink(rule, sink)
                    }
                    _ => false,
                })
                .collect()
        };
        let each = left.into_iter().filter_map(|(name, standing)| {
            let QueueOf::Sink(rule, sink) = QueueOf::of(&name)? else {
                return None;
            };
            let oldest = self
                .oldest
                .of(&name, standing, || storage.rows(&name), accepted);
            Some(Leftover {
                rule: rule.to_owned(),
                sink: sink.to_owned(),
                standing,
                oldest_accepted_at_ms: oldest,
            })
        });
        each.collect()
    }

    /// The dead letters of each sink that has or had some, of removed rules too. May wait for a file.
    pub fn letter_piles(&self) -> Vec<Pile> {
        let Some(storage) = &self.storage else {
            return Vec::new();
        };
        let queues = storage.queues().into_iter();
        let piles = queues.filter_map(|(name, standing)| {
            let QueueOf::Letters(rule, sink) = QueueOf::of(&name)? else {
                return None;
            };
            let oldest = self
                .oldest
                .of(&name, standing, || storage.rows(&name), parked);
            Some(Pile {
                rule: rule.to_owned(),
                sink: sink.to_owned(),
                rows: standing.rows,
                bytes: standing.bytes,
                oldest_at_ms: oldest,
            })
        });
        piles.collect()
    }

    /// The most bytes of dead letters that each sink keeps.
    pub fn letter_bytes(&self) -> u64 {
        self.letter_bytes
    }

    /// Ends the queue of a sink that no rule has any more, with all that waits in it; gives how many rows that were.
    ///
    /// # Errors
    /// When a rule has it, when there is none, or when the store cannot be written.
    pub async fn drop_sink(&self, rule: &str, sink: &str) -> Result<u64, DropError> {
        // No reload meanwhile.
        let _turn = self.turn.lock().await;
        let name = queue_name(rule, sink);
        let storage = self.storage.clone().ok_or(DropError::Unknown)?;
        let known = storage.queues();
        let standing = known.iter().find(|(known, _)| *known == name);
        let rows = standing.map(|(_, standing)| standing.rows);
        let (rows, draining) = {
            let mut state = self.state.lock();
            may_drop(&state, rule, sink)?;
            let rows = rows.ok_or(DropError::Unknown)?;
            let is_it = |handle: &weir_sinks::SinkHandle| {
                handle.is_durable() && (handle.rule_id(), handle.sink_id()) == (rule, sink)
            };
            let all = std::mem::take(&mut state.draining);
            let (ours, others): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(open, _)| is_it(&open.handle));
            state.draining = others;
            (rows, ours)
        };
        for (open, watch) in draining {
            watch.abort();
            open.handle.abandon().await;
        }
        let dropped = tokio::task::spawn_blocking(move || storage.drop_rows(&name)).await;
        match dropped {
            Ok(Ok(true)) => {
                tracing::warn!(
                    rule,
                    sink,
                    rows,
                    "the queue of a sink that no rule has was dropped"
                );
                Ok(rows)
            }
            Ok(Ok(false)) => Err(DropError::Unknown),
            Ok(Err(error)) => Err(DropError::Store(error.to_string())),
            Err(error) => Err(DropError::Store(error.to_string())),
        }
    }
}

fn may_drop(state: &State, rule: &str, sink: &str) -> Result<(), DropError> {
    if state.has_sink(rule, sink) {
        return Err(DropError::InUse(rule.to_owned()));
    }
    // `out` of a bridge stands in the file of its connector.
    if let Some(bridge) = rule.strip_prefix(BRIDGES) {
        let is_sound = state.checked.connectors.contains_key(bridge);
        return if !is_sound && state.seen.0.contains_key(&FileId::connector(bridge)) {
            Err(DropError::Doubtful(rule.to_owned()))
        } else {
            Ok(())
        };
    }
    match state.checked.rules.get(rule) {
        // Also one that is switched off.
        Some(checked) if checked.sinks.iter().any(|known| *known.id == *sink) => {
            Err(DropError::InUse(rule.to_owned()))
        }
        None if state.seen.0.contains_key(&FileId::rule(rule)) => {
            Err(DropError::Doubtful(rule.to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_queue_says_whose_it_is() {
        let (rows, letters) = (queue_name("a/b", "s"), letters_name("a/b", "s"));
        assert_eq!(QueueOf::of(&rows), Some(QueueOf::Sink("a/b", "s")));
        assert_eq!(QueueOf::of(&letters), Some(QueueOf::Letters("a/b", "s")));
        assert_eq!(QueueOf::of("a"), None);
        assert_eq!(QueueOf::of("a\nb\nc"), None);
    }
}
