//! One thread that writes and syncs for all that wait.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::body::Batch;
use crate::disk::Disk;
use crate::line::{Line, Next, When};
use crate::log::{Change, Damage, Fold, Folded, Log, Missing, OpenError, fold};
use crate::queues::{Gap, Heads, Queue, Queues, Standing};

/// What became of a batch.
pub type Outcome = io::Result<()>;

/// What goes wrong beside what anyone waits for.
#[derive(Debug)]
pub enum Trouble {
    /// A snapshot cannot be made: the log grows until one can.
    Fold(OpenError),
    /// A file is not sound; a copy was kept.
    Damage(Damage),
    /// Frames are not there.
    Missing(Missing),
    /// Rows are lost.
    Gap(Gap),
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether a batch is done when it is on stable storage; else when the system has it.
    pub sync: bool,
    /// A segment ends when it is larger.
    pub segment_bytes: u64,
    /// A snapshot is made when the log has grown by this, and by twice the last snapshot.
    pub fold_bytes: u64,
    /// How long batches that nobody waits for gather behind what was written last.
    pub gather: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: true,
            segment_bytes: 64 << 20,
            fold_bytes: 64 << 20,
            gather: GATHER,
        }
    }
}

/// Far below what a sink's rows wait for each other, and 200 writes a second at most.
const GATHER: Duration = Duration::from_millis(5);
/// What was settled is written after this time, when nothing else is.
const SETTLE_AFTER: Duration = Duration::from_millis(200);
/// Between two tries of a write that found no room.
const PAUSE: Duration = Duration::from_millis(100);
/// No batch is larger.
const MOST_BATCH_BYTES: usize = 1 << 30;

type Done = Box<dyn FnOnce(Outcome) + Send>;
/// Is called when the system has a batch, before it is synced.
pub type Written = Box<dyn FnOnce() + Send>;
type OnTrouble = Box<dyn Fn(Option<&io::Error>) + Send + Sync>;
type MakeFold = Box<dyn Fn() -> Box<dyn Fold> + Send + Sync>;

struct Waiting {
    batch: Batch,
    change: Option<Change>,
    written: Option<Written>,
    done: Done,
}

struct Shared {
    line: Mutex<Line<Waiting>>,
    changed: Condvar,
    syncs: AtomicU64,
    batches: AtomicU64,
    on_trouble: OnceLock<OnTrouble>,
}

impl Shared {
    fn tell(&self, trouble: Option<&io::Error>) {
        if let Some(tell) = self.on_trouble.get() {
            tell(trouble);
        }
    }

    /// Waits a moment for room where there is none: what is behind must not be written before it. False when the write is
    /// not worth another try, or when all ends and another try has failed too.
    fn waits_for_room(&self, error: &io::Error, troubled: &mut bool) -> bool {
        if !is_no_room(error) {
            return false;
        }
        if !std::mem::replace(troubled, true) {
            self.tell(Some(error));
        } else if self.line.lock().is_ending() {
            return false;
        }
        let mut line = self.line.lock();
        if !line.is_ending() {
            self.changed.wait_for(&mut line, PAUSE);
        }
        true
    }
}

/// Takes batches from any thread; each is answered when it is kept.
pub struct Committer {
    shared: Arc<Shared>,
    queues: Arc<Queues>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread that writes to `log`, whose files lie on `disk`. `make_fold` gives an empty [`Fold`] for each
    /// snapshot. `tell` is called, from any thread, with what nobody else would hear of: it must not wait.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start<D: Disk>(
        log: Log<D>,
        disk: Arc<D>,
        options: Options,
        make_fold: impl Fn() -> Box<dyn Fold> + Send + Sync + 'static,
        tell: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let queues = Arc::clone(log.queues());
        let shared = Arc::new(Shared {
            line: Mutex::new(Line::new(options.gather)),
            changed: Condvar::new(),
            syncs: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            on_trouble: OnceLock::new(),
        });
        let nudged = Arc::clone(&shared);
        let nudge = move || {
            let mut line = nudged.line.lock();
            let wakes = line.settled(Instant::now() + SETTLE_AFTER);
            drop(line);
            if wakes {
                nudged.changed.notify_one();
            }
        };
        queues.owner(Arc::new(nudge), Arc::new(tell));
        let writer = Writer {
            shared: Arc::clone(&shared),
            log,
            disk,
            options,
            make_fold: Arc::new(Box::new(make_fold)),
            folding: Arc::default(),
            fold_at: 0,
            fold_failed: false,
            fold_thread: None,
        };
        let thread = std::thread::Builder::new()
            .name("weir-store".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            queues,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Puts a batch into the line. `done` is called once, on the committer's thread: it must not wait. The rows of the
    /// batch can be read before it is called.
    pub fn commit(&self, batch: Batch, done: impl FnOnce(Outcome) + Send + 'static) {
        self.commit_noting(batch, None, done);
    }

    /// The same for a batch that nobody waits for. Where others were written a moment ago it gathers with what comes next, for
    /// [`Options::gather`] at most. Its order among all batches is that of the calls.
    pub fn commit_soon(&self, batch: Batch, done: impl FnOnce(Outcome) + Send + 'static) {
        self.line_up(batch, When::Soon, None, Box::new(done));
    }

    /// The same as [`commit`](Self::commit); `written` is called first, when the batch would outlive this process, and not a loss of power. It is not
    /// called for a batch that cannot be written.
    pub fn commit_noting(
        &self,
        batch: Batch,
        written: Option<Written>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        self.line_up(batch, When::Now, written, Box::new(done));
    }

    fn line_up(&self, batch: Batch, when: When, written: Option<Written>, done: Done) {
        if batch.weight() > MOST_BATCH_BYTES {
            return done(Err(io::Error::other("a batch is larger than 1 GiB")));
        }
        if !batch.rows.is_empty()
            && let Some(id) = self.queues.unknown(&batch.rows)
        {
            return done(Err(io::Error::other(format!("there is no queue {id:x}"))));
        }
        let waiting = Waiting {
            batch,
            change: None,
            written,
            done,
        };
        self.put(waiting, when);
    }

    fn put(&self, waiting: Waiting, when: When) {
        let mut line = self.shared.line.lock();
        if line.is_ending() {
            drop(line);
            (waiting.done)(Err(io::Error::other("the store has ended")));
            return;
        }
        let bytes = waiting.batch.weight();
        let wakes = line.put(waiting, bytes, when);
        drop(line);
        if wakes {
            self.shared.changed.notify_one();
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let (told, kept) = channel();
        let waiting = Waiting {
            batch: Batch::default(),
            change: Some(change),
            written: None,
            done: Box::new(move |outcome| drop(told.send(outcome))),
        };
        self.put(waiting, When::Now);
        kept.recv()
            .unwrap_or_else(|_| Err(io::Error::other("the store has ended")))
    }

    /// The queue of a name. It is made, and waited for until it is kept, if there is none; not from the committer's thread.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn queue(&self, name: &str) -> io::Result<Queue> {
        let _one = self.queues.making.lock();
        let state = match self.queues.named(name) {
            Some(state) => state,
            None => {
                let head = self.queues.new_head(name);
                self.change(Change::Made(head.clone()))?;
                self.queues
                    .named(name)
                    .ok_or_else(|| io::Error::other("the store has ended"))?
            }
        };
        Ok(Queue::new(state, Arc::clone(&self.queues)))
    }

    /// All queues, by name.
    pub fn queues(&self) -> Vec<Standing> {
        self.queues.standings()
    }

    /// Ends a queue with all that waits in it, and says whether there was one. Rows that come for it afterwards are nothing.
    ///
    /// # Errors
    /// When it cannot be written; then the queue stays.
    pub fn drop_queue(&self, name: &str) -> io::Result<bool> {
        let _one = self.queues.making.lock();
        let Some(state) = self.queues.named(name) else {
            return Ok(false);
        };
        self.change(Change::Dropped(state.id()))?;
        Ok(true)
    }

    /// What finds no room waits, and everything behind it, so that nothing is written in another order than it came.
    /// `tell` is called when that begins, with why, and with `None` when there is room again: on the committer's thread,
    /// which tries again afterwards. It can be said once.
    pub fn on_trouble(&self, tell: impl Fn(Option<&io::Error>) + Send + Sync + 'static) {
        // A second one is not wanted.
        let _ = self.shared.on_trouble.set(Box::new(tell));
    }

    /// How many batches were written, and with how many syncs.
    pub fn counts(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.shared.batches), load(&self.shared.syncs))
    }

    /// Writes what waits, and ends the threads: the folder may be opened again afterwards. A snapshot that is being made ends
    /// at its next step.
    pub fn end(&self) {
        self.queues.end();
        self.shared.line.lock().end();
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there has failed its batches.
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a snapshot's thread has to say.
#[derive(Default)]
struct Folding {
    running: AtomicBool,
    stop: AtomicBool,
    /// `None` inside: there is no snapshot.
    done: Mutex<Option<Option<Folded>>>,
}

/// Says what became of a snapshot, however its thread ends.
struct FoldEnds(Arc<Folding>, Option<Folded>);

impl Drop for FoldEnds {
    fn drop(&mut self) {
        *self.0.done.lock() = Some(self.1.take());
        self.0.running.store(false, Ordering::Release);
    }
}

struct Writer<D: Disk> {
    shared: Arc<Shared>,
    log: Log<D>,
    disk: Arc<D>,
    options: Options,
    make_fold: Arc<MakeFold>,
    folding: Arc<Folding>,
    /// The size of the log at which a snapshot pays.
    fold_at: u64,
    fold_failed: bool,
    fold_thread: Option<JoinHandle<()>>,
}

/// Whoever still waits when the writer ends, for whatever reason, is told.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        let left = self.0.line.lock().close();
        for (waiting, _) in left {
            (waiting.done)(Err(io::Error::other("the store has ended")));
        }
    }
}

/// Whether a write may succeed later: there is no room, or the system says no for another reason.
fn is_no_room(error: &io::Error) -> bool {
    // Whatever the system says: what was written in part has been taken back.
    error.raw_os_error().is_some() || error.kind() == io::ErrorKind::StorageFull
}

impl<D: Disk> Writer<D> {
    fn run(mut self) {
        let _last_word = LastWord(Arc::clone(&self.shared));
        self.fold_at = self.worth_folding();
        while let Some(mut group) = self.next_group() {
            let outcome = self.write(&mut group);
            let count = group.len() as u64;
            self.shared.batches.fetch_add(count, Ordering::Relaxed);
            for waiting in group {
                (waiting.done)(match &outcome {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                });
            }
            self.tend();
        }
        // What was settled last; if it cannot be written, some rows come twice.
        let _ = self.log.commit(&mut [], &[], self.options.sync);
        // What a snapshot does not finish is nothing.
        self.folding.stop.store(true, Ordering::Release);
        if let Some(thread) = self.fold_thread.take() {
            let _ = thread.join();
        }
    }

    /// What is to be written; nothing when something was settled a while ago; `None` at the end.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut line = self.shared.line.lock();
        loop {
            match line.next(Instant::now()) {
                Next::Write(group) => return Some(group),
                Next::End => return None,
                Next::Sleep(None) => self.shared.changed.wait(&mut line),
                Next::Sleep(Some(at)) => {
                    self.shared.changed.wait_until(&mut line, at);
                }
            }
        }
    }

    fn write(&mut self, group: &mut [Waiting]) -> Outcome {
        let (mut batches, mut changes) = (Vec::with_capacity(group.len()), Vec::new());
        let mut told = Vec::new();
        for waiting in group.iter_mut() {
            told.extend(waiting.written.take());
            match waiting.change.take() {
                Some(change) => changes.push(change),
                None => batches.push(std::mem::take(&mut waiting.batch)),
            }
        }
        // What was settled may be lost in a crash: no sync for it alone.
        let sync = self.options.sync && !group.is_empty();
        let shared = &self.shared;
        let mut troubled = false;
        let mut again = |error: &io::Error| shared.waits_for_room(error, &mut troubled);
        self.log
            .commit_when_possible(&mut batches, &changes, sync, &mut again, &mut || {
                told.drain(..).for_each(|written| written());
            })?;
        if troubled {
            shared.tell(None);
        }
        if sync {
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        }
        for change in changes {
            match change {
                Change::Made(head) => drop(self.log.queues().insert(head)),
                Change::Dropped(id) => self.log.queues().remove(id),
            }
        }
        Ok(())
    }

    fn worth_folding(&self) -> u64 {
        self.options.fold_bytes.max(2 * self.log.snapshot_bytes())
    }

    /// Whether a snapshot pays: for the log, or for rows that are settled and whose files are still there.
    fn pays(&self) -> bool {
        if self.log.bytes_to_fold() >= self.fold_at {
            return true;
        }
        let (files, live) = self.log.rows_bytes();
        !self.fold_failed && files > 0 && files > 4 * live + self.options.fold_bytes
    }

    /// Ends a segment that is large enough, and begins a snapshot when one pays.
    fn tend(&mut self) {
        // Before what it has to say: one that ends in between is heard next time, and none is begun over it.
        let running = self.folding.running.load(Ordering::Acquire);
        match self.folding.done.lock().take() {
            Some(Some(folded)) => {
                self.log.folded(&folded);
                self.fold_at = self.worth_folding();
                self.fold_failed = false;
            }
            // Tried again when there is half as much more: not with every group.
            Some(None) => {
                self.fold_at = self.log.bytes_to_fold() + self.options.fold_bytes / 2;
                self.fold_failed = true;
            }
            None => {}
        }
        let fold_now = !running && self.pays();
        if !fold_now && self.log.length() < self.options.segment_bytes {
            return;
        }
        // Without a new segment the old one goes on; it is tried again behind the next group.
        let Ok(segment) = self.log.rotate() else {
            return;
        };
        if fold_now {
            self.fold(segment);
        }
    }

    fn fold(&mut self, segment: u64) {
        self.folding.running.store(true, Ordering::Release);
        let queues = Arc::clone(self.log.queues());
        // As they stand where the segment begins: nothing is written meanwhile.
        let (heads, last): (Heads, u64) = (queues.heads(), self.log.last());
        let span = self.log.snapshot()..segment;
        let (disk, folding, make) = (
            Arc::clone(&self.disk),
            Arc::clone(&self.folding),
            Arc::clone(&self.make_fold),
        );
        let thread = std::thread::Builder::new().name("weir-fold".to_owned());
        let started = thread.spawn(move || {
            // Also after a panic: the next one may be made.
            let mut end = FoldEnds(folding, None);
            let stop = &end.0.stop;
            match fold(&*disk, span, last, &queues, &heads, make(), stop) {
                Ok(mut folded) => {
                    let damage = folded.damage.drain(..).map(Trouble::Damage);
                    let missing = folded.missing.drain(..).map(Trouble::Missing);
                    let gaps = folded.gaps.drain(..).map(Trouble::Gap);
                    let troubles: Vec<_> = damage.chain(missing).chain(gaps).collect();
                    // First: what it stands for is gone, whatever becomes of what is told.
                    end.1 = Some(folded);
                    (troubles.into_iter()).for_each(|trouble| queues.tell(trouble));
                }
                Err(_) if stop.load(Ordering::Acquire) => {}
                Err(error) => queues.tell(Trouble::Fold(error)),
            }
        });
        match started {
            // The one before has said that it is done.
            Ok(thread) => self.fold_thread = Some(thread),
            Err(error) => {
                drop(FoldEnds(Arc::clone(&self.folding), None));
                self.log.queues().tell(Trouble::Fold(OpenError::Io {
                    name: "the thread of a snapshot".to_owned(),
                    error,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
