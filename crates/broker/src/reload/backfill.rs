//! A rule that begins with messages of before: their rows first, then it goes live, and between the two is no seam.
//!
//! What was captured is read from the beginning, and again what has come meanwhile, until little is left. That last part
//! is read while no message is on its way ([`Capture::hand_over`]), and at its end the rule is live: what comes
//! later meets it, and what came before was captured. So each message is met once, and rows stay in their order.
//!
//! It has the turn of a reload for its beginning and for that last part. Other reloads go on between, and stop it where
//! they change the rule (`filling.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec::Drain;

use thiserror::Error;
use tokio::sync::mpsc;
use weir_sinks::Owed;
use weir_sinks::config::BufferKind;
use weir_sinks::plan::Target;

use super::filling::{BeingFilled, Stop, Stopped};
use super::live::{Whose, configured_as};
use super::queues::queue_name;
use super::{Project, Reloader};
use crate::broker::Broker;
use crate::capture::Capture;
use crate::capture::read::{Found, Range, event, first_time, read, shown_time};
use crate::config::toml_file::Process;
use crate::core::Millis;
use crate::core::message::Message;
use crate::pipeline::{Accepted, Live, LiveRule, Room};
use crate::problem::{Problem, Source};
use crate::project::check::check;
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
const A_COMMIT: usize = 64;
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
    /// A reload has changed what it began with, or weir ends.
    #[error("{why}; {}", so_far(.done, *.goes_on))]
    Stopped {
        /// Why.
        #[source]
        why: Stopped,
        /// How far it came.
        done: Backfilled,
        /// No message that is still to be read was accepted before; `None` where nobody knows.
        goes_on: Option<Millis>,
    },
    /// The store cannot keep the rows.
    #[error(transparent)]
    NotKept(#[from] Failed),
}

impl Reloader {
    /// Sends the rows that the rule `id` with this text makes of messages that were captured since `from` to its sinks, then
    /// lets it go live and writes its file. Other reloads go on meanwhile; one that changes the rule or what it uses stops it.
    ///
    /// # Errors
    /// When it does not go live; rows may have been sent. What was live before is live then, or what the files say.
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
        let source = Source::new(folders.path(&FileId::rule(id)), text);
        let _alone = self.filling.lock().await;
        let (rule, stop) = {
            let _turn = self.turn.lock().await;
            self.opened(id, &source)?
        };
        tracing::info!(
            rule = id,
            "a backfill begins: the rule gets messages of before"
        );
        let mut filling = Filling {
            reloader: self,
            broker,
            capture,
            only: Live::only(rule),
            stop,
            next: 0,
            from,
            up_to: None,
            done: Backfilled::default(),
            owed: Vec::new(),
            tickets: VecDeque::new(),
        };
        let outcome = match filling.all_but_the_last().await {
            Ok(()) => filling.hand_over(id, &source).await,
            Err(error) => Err(error),
        };
        let Err(mut error) = outcome else {
            let (messages, rows) = (filling.done.messages, filling.done.rows);
            tracing::info!(rule = id, messages, rows, "the rule is live behind them");
            return Ok(filling.done);
        };
        tracing::warn!(rule = id, %error, "the backfill has ended, and the rule did not go live");
        // After the end nothing is opened again.
        if !matches!(&error, BackfillError::Stopped { why, .. } if *why == Stopped::Ending) {
            let mut turn = self.turn.lock().await;
            self.state.lock().end_filling();
            // What was live before is live again, and sinks that were opened or changed for it are as they were.
            self.load(&mut turn, false, None, &mut |apply| apply());
        }
        // Whoever does it again knows how far this one came.
        let _ = filling.committed().await;
        if let BackfillError::Stopped { why, goes_on, .. } = &mut error
            && *why != Stopped::Ending
        {
            *goes_on = filling.goes_on().await;
        }
        Err(error)
    }

    /// Has the storage make the queues that the next load opens: that waits where a disk is full, and while nobody can
    /// publish there must be no waiting.
    async fn make_queues(&self, (file, source): (&FileId, &Source)) {
        let Some(storage) = self.storage.clone() else {
            return;
        };
        let last_good = self.good_files();
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

    fn good_files(&self) -> Files {
        let last_good = self.last_good.as_ref();
        last_good.map(LastGood::read).unwrap_or_default()
    }

    /// The rule with its sinks open, not live; and where it hears that it is to stop.
    fn opened(
        &self,
        id: &str,
        source: &Source,
    ) -> Result<(Arc<LiveRule>, Arc<Stop>), BackfillError> {
        let last_good = self.good_files();
        let files = self.read(&last_good).files;
        let (checked, rule) = self
            .next_version(&files, &last_good, id, source)
            .map_err(BackfillError::Refused)?;
        if !rule.enabled {
            return Err(BackfillError::Disabled);
        }
        let mut state = self.state.lock();
        let connectors = self.open_connectors(&checked, None, &state, &mut Vec::new());
        let mut sinks = BTreeMap::new();
        let live = self
            .live_rule(&rule, Whose::Live, &connectors, &mut state, &mut sinks)
            .map_err(|(sink, error)| {
                let message = format!("the sink `{sink}` cannot be opened: {error}");
                BackfillError::Refused(vec![Problem::whole(&source.path, error.code(), message)])
            })?;
        state.connectors.extend(connectors);
        configured_as(&sinks, &mut state.sinks);
        let next = BeingFilled::new(&rule, source.clone(), &files, sinks);
        let stop = Arc::clone(&next.stop);
        state.filling = Some(next);
        Ok((live, stop))
    }
}

/// A backfill on its way.
struct Filling<'a> {
    reloader: &'a Reloader,
    broker: &'a Broker,
    capture: &'a Arc<Capture>,
    only: Live,
    stop: Arc<Stop>,
    /// The number of the first message that is still to be read.
    next: u64,
    from: Millis,
    /// When the last message was accepted that has made rows.
    up_to: Option<Millis>,
    done: Backfilled,
    /// Rows that are still to be committed.
    owed: Vec<Owed>,
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

    fn stopped(&self, why: Stopped) -> BackfillError {
        BackfillError::Stopped {
            why,
            done: self.done,
            goes_on: None,
        }
    }

    /// From when on everything that is still to be read was accepted. Some of what was read may be of then too: messages are
    /// not captured in the order of their times.
    async fn goes_on(&self) -> Option<Millis> {
        let (capture, range) = (Arc::clone(self.capture), self.range());
        let reading = tokio::task::spawn_blocking(move || {
            capture.flush();
            first_time(&capture.recording(), range)
        });
        let unread = reading.await.ok()?.ok()?;
        unread.into_iter().chain(self.up_to).min()
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
        let mut some = Vec::with_capacity(A_COMMIT);
        while take.recv_many(&mut some, A_COMMIT).await > 0 {
            let mut rest = some.drain(..).peekable();
            while let Some(room) = self.some(&mut rest)? {
                self.wait_for(&room).await?;
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

    /// Makes rows of messages and hands them to the store; gives where to wait when there is no room for more. It is not
    /// stopped in between: once it is, there is no row behind those that were handed over.
    fn some(
        &mut self,
        messages: &mut Peekable<Drain<'_, (u64, Box<Message>)>>,
    ) -> Result<Option<Room>, BackfillError> {
        let stop = Arc::clone(&self.stop);
        let _goes_on = stop.not_yet().map_err(|why| self.stopped(why))?;
        let mut no_room = None;
        while let Some((number, message)) = messages.peek() {
            no_room = self.message(*number, message);
            if no_room.is_some() {
                break;
            }
            messages.next();
        }
        self.commit();
        Ok(no_room)
    }

    async fn wait_for(&self, room: &Room) -> Result<(), BackfillError> {
        tokio::select! {
            () = room.wait() => Ok(()),
            why = self.stop.heard() => Err(self.stopped(why)),
        }
    }

    /// One message; gives where to wait when there is no room for its rows, and then nothing has happened.
    fn message(&mut self, number: u64, message: &Message) -> Option<Room> {
        let pipeline = &self.reloader.pipeline;
        let own = |rule: &str| self.only.has(rule);
        if !message.made_by.as_deref().is_some_and(own)
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
                    self.up_to = self.up_to.max(Some(message.accepted_at));
                    self.owed.extend(rows);
                }
            }
        }
        self.next = number + 1;
        None
    }

    /// Hands the rows to the store.
    fn commit(&mut self) {
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
    async fn hand_over(&mut self, id: &str, source: &Source) -> Result<(), BackfillError> {
        let written = Beside::write(&source.path, source.text.as_bytes());
        let written = written.map_err(|error| not_written(source, error))?;
        for attempt in 0..LAST_TRIES {
            match self.go_live(id, source, FEW << attempt).await? {
                Last::Done => {
                    self.committed().await?;
                    return self.put(source, written).await;
                }
                Last::NoRoom(room) => {
                    self.wait_for(&room).await?;
                    self.up_to_now().await?;
                }
                Last::More => self.up_to_now().await?,
                Last::Failed(error) => return Err(error),
            }
        }
        Err(BackfillError::TooMany)
    }

    /// Reads the last messages, if these are few, and lets the rule go live behind them.
    async fn go_live(
        &mut self,
        id: &str,
        source: &Source,
        few: u64,
    ) -> Result<Last, BackfillError> {
        let (reloader, file) = (self.reloader, FileId::rule(id));
        reloader.make_queues((&file, source)).await;
        let mut turn = reloader.turn.lock().await;
        self.may_take_its_place()?;
        let mut last = None;
        let mut around = |apply: &mut dyn FnMut()| {
            let capture = Arc::clone(self.capture);
            last = Some(capture.hand_over(|| {
                let outcome = self.last(few);
                if matches!(outcome, Last::Done) {
                    self.done.live_from = capture.next_number();
                    apply();
                }
                outcome
            }));
        };
        let report = reloader.load(&mut turn, false, Some((&file, source)), &mut around);
        let refused = || BackfillError::Refused(report.problems().cloned().collect());
        let last = last.ok_or_else(refused)?;
        if matches!(last, Last::Done) {
            let is_live = reloader.pipeline.rule(id);
            if is_live.is_none_or(|rule| rule.rule.sql() != self.only.sql(id)) {
                return Err(refused());
            }
            if let Some(next) = &mut reloader.state.lock().filling {
                next.is_live = true;
            }
        }
        Ok(last)
    }

    /// Whoever has the turn asks: another file in the rule's place is somebody's who knows nothing of this one.
    fn may_take_its_place(&self) -> Result<(), BackfillError> {
        let heard = self.stop.not_yet().err();
        let why = heard.or_else(|| {
            let last_good = self.reloader.good_files();
            self.reloader.change_of_filled(&last_good)
        });
        why.map_or(Ok(()), |why| Err(self.stopped(why)))
    }

    /// Puts the file of the rule that is live into its place.
    async fn put(&self, source: &Source, written: Beside) -> Result<(), BackfillError> {
        let _turn = self.reloader.turn.lock().await;
        self.may_take_its_place()?;
        let put = written.put();
        put.map_err(|error| not_written(source, error))?;
        self.reloader.state.lock().end_filling();
        Ok(())
    }

    /// What has come since, while nothing more comes.
    fn last(&mut self, few: u64) -> Last {
        if self.left() > few {
            return Last::More;
        }
        self.capture.flush();
        let stop = Arc::clone(&self.stop);
        let _goes_on = match stop.not_yet() {
            Ok(goes_on) => goes_on,
            Err(why) => return Last::Failed(self.stopped(why)),
        };
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
        // In front of the first row of the live rule.
        self.commit();
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

fn so_far(done: &Backfilled, goes_on: Option<Millis>) -> String {
    if done.messages == 0 {
        return "no row was made of messages of before".to_owned();
    }
    let made = format!(
        "{} rows of {} messages of before were made and go out",
        done.rows, done.messages
    );
    match goes_on {
        Some(at) => format!(
            "{made}; `--from {}` leaves out none of the others, and some come again",
            shown_time(at)
        ),
        None => made,
    }
}

fn not_written(source: &Source, error: io::Error) -> BackfillError {
    BackfillError::Write {
        path: source.path.clone(),
        error,
    }
}
