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
mod tests {
    use std::sync::mpsc::channel;

    use bytes::Bytes;

    use super::*;
    use crate::disk::{DiskFile, Folder};

    struct Nothing;

    impl Fold for Nothing {
        fn take(&mut self, _: &[u8]) {}

        fn give(&mut self, _: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            Err(io::Error::other("it cannot be made"))
        }
    }

    fn committer(folder: &std::path::Path, options: Options) -> Committer {
        let disk = Arc::new(Folder::open(folder).unwrap());
        let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
        Committer::start(log, disk, options, || Box::new(Nothing), |_| ()).unwrap()
    }

    fn in_the_log(folder: &std::path::Path) -> Vec<Vec<u8>> {
        let disk = Arc::new(Folder::open(folder).unwrap());
        let mut batches = Vec::new();
        Log::open(disk, &mut |batch| batches.push(batch.to_vec())).unwrap();
        batches
    }

    #[test]
    fn batches_of_many_threads_are_all_there_in_the_order_of_each() {
        let folder = tempfile::tempdir().unwrap();
        let committer = committer(folder.path(), Options::default());
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let committer = &committer;
                scope.spawn(move || {
                    let (told, kept) = channel();
                    for number in 0..50 {
                        let told = told.clone();
                        committer.commit(Batch::records(vec![thread, number]), move |outcome| {
                            told.send(outcome).unwrap()
                        });
                    }
                    for _ in 0..50 {
                        kept.recv().unwrap().unwrap();
                    }
                });
            }
        });
        let (batches, syncs) = committer.counts();
        assert_eq!(batches, 400);
        assert!(syncs < 400, "one sync serves many: {syncs}");
        drop(committer);
        let found = in_the_log(folder.path());
        assert_eq!(found.len(), 400);
        for thread in 0..8 {
            let own = found.iter().filter(|batch| batch[0] == thread);
            assert!(own.map(|batch| batch[1]).is_sorted(), "thread {thread}");
        }
    }

    #[test]
    fn batches_that_nobody_waits_for_share_a_sync_and_keep_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            gather: Duration::from_secs(3600),
            ..Options::default()
        };
        let committer = committer(folder.path(), options);
        let (told, kept) = channel();
        let done = |number| {
            let told = told.clone();
            move |outcome: Outcome| told.send((number, outcome.is_ok())).unwrap()
        };
        committer.commit_soon(Batch::records(vec![0]), done(0));
        assert_eq!(kept.recv().unwrap(), (0, true), "alone it goes at once");
        for number in 1..100 {
            committer.commit_soon(Batch::records(vec![number]), done(number));
        }
        assert!(kept.try_recv().is_err(), "they gather");
        committer.commit(Batch::records(vec![100]), done(100));
        for number in 1..=100 {
            assert_eq!(kept.recv().unwrap(), (number, true));
        }
        assert_eq!(committer.counts(), (101, 2));
        committer.commit_soon(Batch::records(vec![101]), done(101));
        committer.end();
        assert_eq!(kept.recv().unwrap(), (101, true), "the end waits for none");
        drop(committer);
        let expected: Vec<_> = (0..=101).map(|number| vec![number]).collect();
        assert_eq!(in_the_log(folder.path()), expected);
    }

    #[test]
    fn a_snapshot_that_cannot_be_made_is_not_tried_with_every_group() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            fold_bytes: 4096,
            ..Options::default()
        };
        let committer = committer(folder.path(), options);
        let (told, kept) = channel();
        for _ in 0..200 {
            let told = told.clone();
            committer.commit(Batch::records(vec![7; 100]), move |outcome| {
                told.send(outcome).unwrap()
            });
            kept.recv().unwrap().unwrap();
        }
        drop(committer);
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert!(files < 20, "{files} files");
        assert_eq!(in_the_log(folder.path()).len(), 200);
    }

    /// A folder that has no room for more, for a while.
    struct Filling(Folder, Arc<AtomicBool>);

    struct FillingFile(std::fs::File, Arc<AtomicBool>);

    impl Disk for Filling {
        type File = FillingFile;
        type Lock = <Folder as Disk>::Lock;

        fn lock(&self) -> io::Result<Self::Lock> {
            self.0.lock()
        }

        fn length(&self, name: &str) -> io::Result<u64> {
            self.0.length(name)
        }

        fn list(&self) -> io::Result<Vec<String>> {
            self.0.list()
        }

        fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn io::Read>> {
            self.0.read(name, from)
        }

        fn create(&self, name: &str) -> io::Result<FillingFile> {
            Ok(FillingFile(self.0.create(name)?, Arc::clone(&self.1)))
        }

        fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
            self.0.truncate(name, length)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }

        fn sync_names(&self) -> io::Result<()> {
            self.0.sync_names()
        }
    }

    impl DiskFile for FillingFile {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) {
                self.0.append(&bytes[..bytes.len() / 2])?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.append(bytes)
        }

        fn sync(&mut self) -> io::Result<()> {
            self.0.sync()
        }
    }

    #[test]
    fn what_finds_no_room_waits_and_everything_behind_it_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let full = Arc::<AtomicBool>::default();
        let disk = Arc::new(Filling(
            Folder::open(folder.path()).unwrap(),
            Arc::clone(&full),
        ));
        let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
        let committer =
            Committer::start(log, disk, Options::default(), || Box::new(Nothing), |_| ()).unwrap();
        let (told, trouble) = channel();
        committer.on_trouble(move |error| told.send(error.is_some()).unwrap());
        let (told, kept) = channel();
        let commit = |number| {
            let told = told.clone();
            committer.commit(Batch::records(vec![number]), move |outcome| {
                told.send((number, outcome.is_ok())).unwrap();
            });
        };
        full.store(true, Ordering::SeqCst);
        commit(1);
        assert!(trouble.recv().unwrap(), "it is told that there is no room");
        (2..5).for_each(commit);
        full.store(false, Ordering::SeqCst);
        assert!(!trouble.recv().unwrap(), "it is told that there is room");
        for number in 1..5 {
            assert_eq!(kept.recv().unwrap(), (number, true));
        }
        full.store(true, Ordering::SeqCst);
        commit(5);
        assert!(trouble.recv().unwrap());
        committer.end();
        assert_eq!(
            kept.recv().unwrap(),
            (5, false),
            "it does not wait for ever"
        );
        drop(committer);
        full.store(false, Ordering::SeqCst);
        let expected: Vec<_> = (1..5).map(|number| vec![number]).collect();
        assert_eq!(in_the_log(folder.path()), expected);
    }

    #[test]
    fn a_batch_is_written_before_it_is_kept_and_what_is_refused_is_neither() {
        let dir = tempfile::tempdir().unwrap();
        let committer = committer(dir.path(), Options::default());
        let (said, heard) = channel();
        let put = |rows| {
            let (written, kept) = (said.clone(), said.clone());
            let batch = Batch {
                records: b"x".to_vec(),
                rows,
                taken: Vec::new(),
            };
            committer.commit_noting(
                batch,
                Some(Box::new(move || written.send("written").unwrap())),
                move |outcome| {
                    kept.send(if outcome.is_ok() { "kept" } else { "refused" })
                        .unwrap()
                },
            );
        };
        put(Vec::new());
        assert_eq!(
            [heard.recv().unwrap(), heard.recv().unwrap()],
            ["written", "kept"]
        );
        // There is no such queue.
        put(vec![(77, Bytes::from_static(b"row"))]);
        assert_eq!(heard.recv().unwrap(), "refused");
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn who_comes_after_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let committer = committer(folder.path(), Options::default());
        committer.end();
        let (told, kept) = channel();
        committer.commit(Batch::records(vec![1]), move |outcome| {
            told.send(outcome).unwrap()
        });
        assert!(kept.recv().unwrap().is_err());
    }

    #[derive(Default)]
    struct Records(Vec<Vec<u8>>);

    impl Fold for Records {
        fn take(&mut self, batch: &[u8]) {
            self.0.push(batch.to_vec());
        }

        fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            self.0.iter().try_for_each(|batch| each(batch))
        }
    }

    fn with_snapshots(folder: &std::path::Path) -> Committer {
        let disk = Arc::new(Folder::open(folder).unwrap());
        let (log, recovered) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
        assert!(recovered.gaps.is_empty(), "{recovered:?}");
        let options = Options {
            segment_bytes: 1 << 14,
            fold_bytes: 1 << 15,
            ..Options::default()
        };
        Committer::start(log, disk, options, || Box::<Records>::default(), |_| ()).unwrap()
    }

    fn put(committer: &Committer, queue: &Queue, rows: impl IntoIterator<Item = Vec<u8>>) {
        let (told, kept) = channel();
        let rows = rows
            .into_iter()
            .map(|row| (queue.id(), row.into()))
            .collect();
        let records = Vec::new();
        committer.commit(
            Batch {
                records,
                rows,
                ..Batch::default()
            },
            move |outcome| {
                told.send(outcome).unwrap();
            },
        );
        kept.recv().unwrap().unwrap();
    }

    #[test]
    fn a_queue_keeps_its_epoch_its_numbers_and_what_is_not_settled() {
        let folder = tempfile::tempdir().unwrap();
        let first = with_snapshots(folder.path());
        let queue = first.queue("sink").unwrap();
        let epoch = queue.epoch();
        assert!(epoch < 1 << 63);
        for number in 0..200_u8 {
            put(&first, &queue, [vec![number; 1000]]);
        }
        queue.settle(120);
        first.end();
        let second = with_snapshots(folder.path());
        let queue = second.queue("sink").unwrap();
        assert_eq!(
            (queue.epoch(), queue.head(), queue.tail()),
            (epoch, 121, 201)
        );
        assert_eq!((queue.rows(), queue.bytes()), (80, 80_000));
        put(&second, &queue, [b"next".to_vec()]);
        let rows = queue.read(0, 1000, usize::MAX).unwrap();
        let numbers: Vec<u64> = rows.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(numbers, (121..=201).collect::<Vec<_>>());
        assert_eq!((rows[0].1[0], &rows[80].1[..]), (120, &b"next"[..]));
    }

    #[test]
    fn rows_are_read_while_snapshots_move_them() {
        let folder = tempfile::tempdir().unwrap();
        let committer = with_snapshots(folder.path());
        let queue = committer.queue("sink").unwrap();
        let (arrived, seen) = channel();
        queue.on_arrival(move || arrived.send(()).unwrap_or_default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..2_000_u32 {
                    put(&committer, &queue, [number.to_le_bytes().repeat(500)]);
                }
            });
            let mut next = 1;
            while next <= 2_000 {
                let rows = queue.read(next, 100, 50_000).unwrap();
                for (seq, row) in &rows {
                    assert_eq!(*seq, next);
                    let number = u32::try_from(next - 1).unwrap();
                    assert_eq!(row[..4], number.to_le_bytes());
                    next += 1;
                }
                // What waits is more than is kept whole.
                queue.settle(next.saturating_sub(800));
                if rows.is_empty() {
                    seen.recv().unwrap();
                }
            }
        });
    }

    #[test]
    fn what_is_settled_is_written_without_anything_else_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let committer = with_snapshots(folder.path());
        let queue = committer.queue("sink").unwrap();
        put(&committer, &queue, [vec![1], vec![2]]);
        let bytes = || -> u64 {
            let files = std::fs::read_dir(folder.path()).unwrap();
            files
                .map(|file| file.unwrap().metadata().unwrap().len())
                .sum()
        };
        let before = bytes();
        queue.settle(1);
        while bytes() == before {
            std::thread::yield_now();
        }
        assert_eq!(queue.rows(), 1);
    }

    #[test]
    fn a_queue_that_is_dropped_is_gone_and_a_new_one_of_its_name_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let committer = with_snapshots(folder.path());
        let old = committer.queue("sink").unwrap();
        put(&committer, &old, [vec![1]]);
        assert!(committer.drop_queue("sink").unwrap());
        assert!(!committer.drop_queue("sink").unwrap());
        put(&committer, &old, [vec![2]]);
        drop(committer);
        let committer = with_snapshots(folder.path());
        assert!(committer.queues().is_empty());
        let new = committer.queue("sink").unwrap();
        assert_ne!((new.id(), new.epoch()), (old.id(), old.epoch()));
        assert_eq!(new.tail(), 1);
        let (told, kept) = channel();
        let rows = vec![(7, vec![1].into())];
        let records = Vec::new();
        committer.commit(
            Batch {
                records,
                rows,
                ..Batch::default()
            },
            move |outcome| {
                told.send(outcome).unwrap();
            },
        );
        assert!(
            kept.recv().unwrap().is_err(),
            "there was never such a queue"
        );
    }

    #[test]
    fn a_folder_is_for_one_store_at_a_time_and_free_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let committer = with_snapshots(folder.path());
        let disk = Arc::new(Folder::open(folder.path()).unwrap());
        let second = Log::open(Arc::clone(&disk), &mut |_| ());
        assert!(matches!(second.err().unwrap(), OpenError::InUse));
        committer.end();
        assert!(Log::open(disk, &mut |_| ()).is_ok());
    }

    /// Gives batches until it is told to stop.
    struct Endless(std::sync::mpsc::Sender<bool>);

    impl Fold for Endless {
        fn take(&mut self, _: &[u8]) {}

        fn give(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            let _ = self.0.send(true);
            let ended = loop {
                if let Err(error) = each(&[1]) {
                    break error;
                }
                std::thread::yield_now();
            };
            let _ = self.0.send(false);
            Err(ended)
        }
    }

    #[test]
    fn the_end_waits_for_a_snapshot_that_stops_at_its_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(Folder::open(folder.path()).unwrap());
        let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
        let options = Options {
            fold_bytes: 1,
            ..Options::default()
        };
        let (running, steps) = channel();
        let running = Mutex::new(running);
        let make = move || -> Box<dyn Fold> { Box::new(Endless(running.lock().clone())) };
        let committer = Committer::start(log, disk, options, make, |_| ()).unwrap();
        committer.commit(Batch::records(vec![1]), |_| ());
        assert!(steps.recv().unwrap());
        committer.end();
        assert_eq!(steps.try_recv(), Ok(false), "it has ended before");
    }

    #[test]
    fn the_owner_is_told_when_a_snapshot_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(Folder::open(folder.path()).unwrap());
        let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
        let options = Options {
            fold_bytes: 1,
            ..Options::default()
        };
        let (told, troubles) = channel();
        let told = Mutex::new(told);
        let tell = move |trouble| drop(told.lock().send(trouble));
        let committer = Committer::start(log, disk, options, || Box::new(Nothing), tell).unwrap();
        committer.commit(Batch::records(vec![1]), |_| ());
        let trouble = troubles.recv().unwrap();
        assert!(
            matches!(&trouble, Trouble::Fold(error) if error.to_string().contains("it cannot be made")),
            "{trouble:?}"
        );
    }
}
