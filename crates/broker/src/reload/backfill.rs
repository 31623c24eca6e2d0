//! A rule that begins with messages of before: their rows first, then it goes live, and between the two is no seam.
//!
//! What was captured is read from the beginning, and again what has come meanwhile, until little is left. That last part
//! is read while no message is on its way ([`Capture::hand_over`]), and at its end the rule is live: what comes
//! later meets it, and what came before was captured. So each message is met once, and rows stay in their order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::mpsc;
use weir_sinks::Owed;
use weir_sinks::config::BufferKind;
use weir_sinks::plan::Target;

use super::queues::queue_name;
use super::{Project, Reloader};
use crate::broker::Broker;
use crate::capture::Capture;
use crate::capture::read::{Found, Range, event, read};
use crate::config::toml_file::Process;
use crate::core::Millis;
use crate::core::message::Message;
use crate::pipeline::{Accepted, Live, LiveRule, Room};
use crate::problem::{Problem, Source};
use crate::project::check::{Verdict, check};
use crate::project::files::{Beside, FileId, Files, LastGood, is_rule_id};
use crate::store::{Failed, Ticket};

/// So many messages are read while everybody waits, twice as many with each try.
const FEW: u64 = 512;
/// So often it is tried to read all but these few.
const TRIES: u32 = 16;
/// So often those few are tried: at most 32,768 messages, well under a second.
const LAST_TRIES: u32 = 7;
/// Messages that are read ahead.
const AHEAD: usize = 1024;
/// Rows of so many messages are one batch.
const A_COMMIT: u32 = 64;
/// Batches that are on their way to the store.
const COMMITS: usize = 16;

/// What a backfill did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Backfilled {
    /// Messages that were captured and are for the rule.
    pub messages: u64,
    /// Rows that it made of them, for each sink.
    pub rows: u64,
    /// Messages that it could not evaluate.
    pub errors: u64,
    /// Rows of republish sinks, which were left out.
    pub not_republished: u64,
    /// Messages that are not in the capture though they came.
    pub missing: u64,
    /// The number of the first message that met the live rule.
    pub live_from: u64,
}

/// Why a rule did not go live.
#[derive(Debug, Error)]
pub enum BackfillError {
    /// Its rules are built in.
    #[error("the rules of this weir are built in")]
    BuiltIn,
    /// The id is none.
    #[error("`{0}` is no id of a rule: the path of a file below the rules folder, without .toml")]
    Id(String),
    /// The file is not good, or something around it.
    #[error("the rule is refused")]
    Refused(Vec<Problem>),
    /// It says `enabled = false`.
    #[error("the rule is not enabled")]
    Disabled,
    /// The capture cannot be read.
    #[error("the capture cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("{}: {error}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// What comes is more than what is read in the same time.
    #[error(
        "messages come faster than the rule takes those of before: do it again when fewer come"
    )]
    TooMany,
    /// The store cannot keep the rows.
    #[error(transparent)]
    NotKept(#[from] Failed),
}

impl Reloader {
    /// Sends the rows that the rule `id` with this text makes of messages that were captured since `from` to its sinks, then
    /// lets it go live and writes its file. Other reloads wait meanwhile.
    ///
    /// # Errors
    /// When it does not go live; rows may have been sent. What was live before is live then.
    pub async fn backfill(
        &self,
        broker: &Broker,
        capture: &Arc<Capture>,
        (id, text): (&str, &str),
        from: Millis,
    ) -> Result<Backfilled, BackfillError> {
        let Project::Folders(folders) = &self.project else {
            return Err(BackfillError::BuiltIn);
        };
        if !is_rule_id(id) {
            return Err(BackfillError::Id(id.to_owned()));
        }
        let path = folders.path(&FileId::rule(id));
        let source = Source::new(&path, text);
        let mut turn = self.turn.lock().await;
        let rule = self.opened(id, source.clone())?;
        let mut filling = Filling {
            reloader: self,
            broker,
            capture,
            only: Live::only(rule),
            next: 0,
            from,
            done: Backfilled::default(),
            owed: Vec::new(),
            uncommitted: 0,
            tickets: VecDeque::new(),
        };
        let outcome = match filling.all_but_the_last().await {
            Ok(()) => filling.hand_over(&mut turn, id, &source).await,
            Err(error) => Err(error),
        };
        let done = filling.done;
        if let Err(error) = outcome {
            self.end_replaced(false);
            // What was live before is live again, and sinks that were opened or changed for it are as they were.
            self.load(&mut turn, false, None, &mut |apply| apply());
            return Err(error);
        }
        self.end_replaced(true);
        Ok(done)
    }

    /// Has the storage make the queues that the next load opens: that waits where a disk is full, and while nobody can
    /// publish there must be no waiting.
    async fn make_queues(&self, (file, source): (&FileId, &Source)) {
        let Some(storage) = self.storage.clone() else {
            return;
        };
        let last_good = self
            .last_good
            .as_ref()
            .map(LastGood::read)
            .unwrap_or_default();
        let mut files = self.read(&last_good).files;
        files.0.insert(file.clone(), source.clone());
        let before = self.state.lock().checked.clone();
        let checked = check(&files, &last_good, Some(&before), &Process);
        let mut names = Vec::new();
        for rule in checked.rules.values().filter(|rule| rule.enabled) {
            let durable = rule.sinks.iter().filter(|sink| {
                let is_queue = !matches!(sink.plan.target, Target::Republish(_));
                sink.plan.enabled && is_queue && sink.plan.buffer.kind == BufferKind::Disk
            });
            names.extend(durable.map(|sink| queue_name(&rule.id, &sink.id)));
        }
        let making = tokio::task::spawn_blocking(move || {
            for name in names {
                drop(storage.rows(&name));
            }
        });
        if let Err(error) = making.await {
            tracing::error!(%error, "queues could not be made");
        }
    }

    /// Lets go of the sinks of the version before, or puts them back where the new one did not go live.
    fn end_replaced(&self, is_live: bool) {
        let mut state = self.state.lock();
        for (key, before) in std::mem::take(&mut state.replaced) {
            let gone = if is_live {
                Some(before)
            } else {
                state.sinks.insert(key, before)
            };
            if let Some(gone) = gone {
                state.let_go(gone);
            }
        }
    }

    /// The rule with its sinks open, not live.
    fn opened(&self, id: &str, source: Source) -> Result<Arc<LiveRule>, BackfillError> {
        let last_good = self
            .last_good
            .as_ref()
            .map(LastGood::read)
            .unwrap_or_default();
        let mut files = self.read(&last_good).files;
        files.0.insert(FileId::rule(id), source.clone());
        let before = self.state.lock().checked.clone();
        // No last good version stands in for this one.
        let mut others = Files::default();
        others.0.extend(
            last_good
                .0
                .into_iter()
                .filter(|(file, _)| *file != FileId::rule(id)),
        );
        let checked = check(&files, &others, Some(&before), &Process);
        let report = checked
            .reports
            .iter()
            .find(|report| report.file == FileId::rule(id));
        let is_bad = report.is_some_and(|report| report.verdict != Verdict::Ok);
        let problems = || report.map_or_else(Vec::new, |report| report.problems.clone());
        let Some(rule) = checked.rules.get(id).filter(|_| !is_bad) else {
            return Err(BackfillError::Refused(problems()));
        };
        if !rule.enabled {
            return Err(BackfillError::Disabled);
        }
        let mut state = self.state.lock();
        let connectors = self.open_connectors(&checked, &state, &mut Vec::new());
        let mut sinks = BTreeMap::new();
        let live = self
            .live_rule(rule, &connectors, &mut state, &mut sinks)
            .map_err(|(sink, error)| {
                let message = format!("the sink `{sink}` cannot be opened: {error}");
                BackfillError::Refused(vec![Problem::whole(&source.path, error.code(), message)])
            })?;
        // Where the reload that makes it live finds them.
        for (key, sink) in sinks {
            let handle = sink.handle.clone();
            if let Some(before) = state.sinks.insert(key.clone(), sink)
                && !before.handle.is_same(&handle)
            {
                state.replaced.push((key, before));
            }
        }
        state.connectors.extend(connectors);
        Ok(live)
    }
}

/// A backfill on its way.
struct Filling<'a> {
    reloader: &'a Reloader,
    broker: &'a Broker,
    capture: &'a Arc<Capture>,
    only: Live,
    /// The number of the first message that is still to be read.
    next: u64,
    from: Millis,
    done: Backfilled,
    /// Rows that are still to be committed, of so many messages.
    owed: Vec<Owed>,
    uncommitted: u32,
    /// Of those that are on their way.
    tickets: VecDeque<Ticket>,
}

/// How the last messages went.
enum Last {
    Done,
    NoRoom(Room),
    Failed(BackfillError),
    /// Too many are left.
    More,
}

impl Filling<'_> {
    fn range(&self) -> Range {
        Range {
            number: self.next,
            from: self.from,
            to: Millis::MAX,
        }
    }

    /// Everything up to now, and what has come meanwhile, as often as that is much.
    async fn all_but_the_last(&mut self) -> Result<(), BackfillError> {
        for _ in 0..TRIES {
            self.up_to_now().await?;
            if self.left() <= FEW {
                break;
            }
        }
        Ok(())
    }

    fn left(&self) -> u64 {
        self.capture.next_number().saturating_sub(self.next)
    }

    async fn up_to_now(&mut self) -> Result<(), BackfillError> {
        let (capture, range) = (Arc::clone(self.capture), self.range());
        let (give, mut take) = mpsc::channel(AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            capture.begin_anew();
            read(&capture.recording(), range, &mut |found| match found {
                Found::Message(number, message) => match give.blocking_send((number, message)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                },
                Found::Filters(_) => ControlFlow::Continue(()),
            })
        });
        while let Some((number, message)) = take.recv().await {
            while let Some(room) = self.message(number, &message) {
                // What has room already has to go first.
                self.commit();
                room.wait().await;
            }
            if self.uncommitted >= A_COMMIT {
                self.commit();
            }
            while self.tickets.len() > COMMITS
                && let Some(first) = self.tickets.pop_front()
            {
                first.committed().await?;
            }
        }
        self.committed().await?;
        let reading = reading.await.map_err(io::Error::other);
        let reading = reading.flatten().map_err(BackfillError::Read)?;
        self.done.missing += reading.missing;
        Ok(())
    }

    /// One message; gives where to wait when there is no room for its rows, and then nothing has happened.
    fn message(&mut self, number: u64, message: &Message) -> Option<Room> {
        let pipeline = &self.reloader.pipeline;
        let own = |rule: &Arc<str>| self.only.has(rule);
        if !message.made_by.as_ref().is_some_and(own)
            && let Some(made) = pipeline.make(&self.only, &event(message))
        {
            match made.accepted {
                Accepted::NoRoom(room) => return Some(room),
                // Only said to publishers: here the commit waits for the store's room.
                Accepted::StoreFull => {}
                Accepted::Kept { republish, rows } => {
                    self.done.messages += 1;
                    self.done.rows += made.rows as u64;
                    self.done.errors += made.errors as u64;
                    self.done.not_republished += republish.len() as u64;
                    self.owed.extend(rows);
                    self.uncommitted += 1;
                }
            }
        }
        self.next = number + 1;
        None
    }

    /// Hands the rows to the store.
    fn commit(&mut self) {
        self.uncommitted = 0;
        if !self.owed.is_empty() {
            let rows = std::mem::take(&mut self.owed);
            self.tickets.push_back(self.broker.keep_rows(rows));
        }
    }

    /// Returns when all of them are kept.
    async fn committed(&mut self) -> Result<(), Failed> {
        self.commit();
        for ticket in self.tickets.drain(..) {
            ticket.committed().await?;
        }
        Ok(())
    }

    /// The last messages and the change of the rules in one.
    ///
    /// The file is put in its place when all rows of before are kept: a crash before that leaves the rule that was, and
    /// never one that is live after the restart with some of its rows missing.
    async fn hand_over(
        &mut self,
        turn: &mut u64,
        id: &str,
        source: &Source,
    ) -> Result<(), BackfillError> {
        let not_written = |error| BackfillError::Write {
            path: source.path.clone(),
            error,
        };
        let file = FileId::rule(id);
        let written = Beside::write(&source.path, source.text.as_bytes()).map_err(not_written)?;
        for attempt in 0..LAST_TRIES {
            let few = FEW << attempt;
            let reloader = self.reloader;
            reloader.make_queues((&file, source)).await;
            let mut last = None;
            let mut around = |apply: &mut dyn FnMut()| {
                let capture = Arc::clone(self.capture);
                last = Some(capture.hand_over(|| {
                    let outcome = self.last(few);
                    // In front of the first row of the live rule.
                    self.commit();
                    if matches!(outcome, Last::Done) {
                        self.done.live_from = capture.next_number();
                        apply();
                    }
                    outcome
                }));
            };
            let report = reloader.load(turn, false, Some((&file, source)), &mut around);
            match last {
                Some(Last::Done) => {
                    self.committed().await?;
                    let is_live = self.reloader.pipeline.rule(id);
                    if is_live.is_some_and(|rule| rule.rule.sql() == self.only.sql(id)) {
                        return written.put().map_err(not_written);
                    }
                    return Err(BackfillError::Refused(report.problems().cloned().collect()));
                }
                Some(Last::NoRoom(room)) => {
                    room.wait().await;
                    self.up_to_now().await?;
                }
                Some(Last::Failed(error)) => return Err(error),
                Some(Last::More) => self.up_to_now().await?,
                None => {
                    return Err(BackfillError::Refused(report.problems().cloned().collect()));
                }
            }
        }
        Err(BackfillError::TooMany)
    }

    /// What has come since, while nothing more comes.
    fn last(&mut self, few: u64) -> Last {
        if self.left() > few {
            return Last::More;
        }
        self.capture.flush();
        let (capture, range) = (Arc::clone(self.capture), self.range());
        let mut no_room = None;
        let reading = read(&capture.recording(), range, &mut |found| match found {
            Found::Message(number, message) => match self.message(number, &message) {
                Some(room) => {
                    no_room = Some(room);
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            },
            Found::Filters(_) => ControlFlow::Continue(()),
        });
        match (reading, no_room) {
            (Err(error), _) => Last::Failed(BackfillError::Read(error)),
            (Ok(_), Some(room)) => Last::NoRoom(room),
            (Ok(reading), None) => {
                self.done.missing += reading.missing;
                Last::Done
            }
        }
    }
}
