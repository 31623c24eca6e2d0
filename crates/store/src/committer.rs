//! One thread that writes and syncs for all that wait.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::disk::Disk;
use crate::log::{Fold, Log, fold};

/// What became of a batch.
pub type Outcome = io::Result<()>;

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether a batch is done when it is on stable storage; else when the system has it.
    pub sync: bool,
    /// A segment ends when it is larger.
    pub segment_bytes: u64,
    /// A snapshot is made when the log has grown by this, and by twice the last snapshot.
    pub fold_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync: true,
            segment_bytes: 64 << 20,
            fold_bytes: 64 << 20,
        }
    }
}

/// At most so many bytes are written for one sync.
const GROUP_BYTES: usize = 8 << 20;

/// Between two tries of a write that found no room.
const PAUSE: Duration = Duration::from_millis(100);

type Done = Box<dyn FnOnce(Outcome) + Send>;
type OnTrouble = Box<dyn Fn(Option<&io::Error>) + Send + Sync>;
type MakeFold = Box<dyn Fn() -> Box<dyn Fold> + Send + Sync>;

struct Waiting {
    batch: Vec<u8>,
    done: Done,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    ending: bool,
}

struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
    syncs: AtomicU64,
    batches: AtomicU64,
    on_trouble: OnceLock<OnTrouble>,
}

/// Takes batches from any thread; each is answered when it is kept.
pub struct Committer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread that writes to `log`, whose files lie on `disk`. `make_fold` gives an empty [`Fold`] for each
    /// snapshot.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start<D: Disk>(
        log: Log<D>,
        disk: Arc<D>,
        options: Options,
        make_fold: impl Fn() -> Box<dyn Fold> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            line: Mutex::default(),
            changed: Condvar::new(),
            syncs: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            on_trouble: OnceLock::new(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            log,
            disk,
            options,
            make_fold: Arc::new(Box::new(make_fold)),
            folding: Arc::default(),
            fold_at: 0,
        };
        let thread = std::thread::Builder::new()
            .name("weir-store".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Puts a batch into the line. `done` is called once, on the committer's thread: it must not wait.
    pub fn commit(&self, batch: Vec<u8>, done: impl FnOnce(Outcome) + Send + 'static) {
        let mut line = self.shared.line.lock();
        if line.ending {
            drop(line);
            done(Err(io::Error::other("the store has ended")));
            return;
        }
        let first = line.waiting.is_empty();
        line.waiting.push_back(Waiting {
            batch,
            done: Box::new(done),
        });
        drop(line);
        if first {
            self.shared.changed.notify_one();
        }
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

    /// Writes what waits, and ends the thread.
    pub fn end(&self) {
        self.shared.line.lock().ending = true;
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
    /// Segment, snapshot's size, folded bytes; `None` inside: there is none.
    done: Mutex<Option<Option<(u64, u64, u64)>>>,
}

/// Says what became of a snapshot, however its thread ends.
struct FoldEnds(Arc<Folding>, Option<(u64, u64, u64)>);

impl Drop for FoldEnds {
    fn drop(&mut self) {
        *self.0.done.lock() = Some(self.1);
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
}

/// Whoever still waits when the writer ends, for whatever reason, is told.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        let left = {
            let mut line = self.0.line.lock();
            line.ending = true;
            std::mem::take(&mut line.waiting)
        };
        for waiting in left {
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
        while let Some(group) = self.next_group() {
            let outcome = self.write(&group);
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
        // A snapshot that is being made is left to its thread: what it does not finish is nothing.
    }

    /// What waits now, up to a bound; `None` at the end.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut line = self.shared.line.lock();
        while line.waiting.is_empty() {
            if line.ending {
                return None;
            }
            self.shared.changed.wait(&mut line);
        }
        let mut bytes = 0;
        let within = line
            .waiting
            .iter()
            .take_while(|waiting| {
                let fits = bytes == 0 || bytes + waiting.batch.len() <= GROUP_BYTES;
                bytes += waiting.batch.len();
                fits
            })
            .count();
        Some(line.waiting.drain(..within.max(1)).collect())
    }

    fn write(&mut self, group: &[Waiting]) -> Outcome {
        self.append(group)?;
        if self.options.sync {
            self.log.sync()?;
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits for room where there is none: what is behind must not be written before it.
    fn append(&mut self, group: &[Waiting]) -> Outcome {
        let mut troubled = false;
        loop {
            let batches = group.iter().map(|waiting| waiting.batch.as_slice());
            let appended = self.log.append(batches);
            match &appended {
                Err(error) if is_no_room(error) => {
                    if !troubled {
                        troubled = true;
                        self.tell(Some(error));
                    } else if self.shared.line.lock().ending {
                        return appended;
                    }
                    let mut line = self.shared.line.lock();
                    if !line.ending {
                        self.shared.changed.wait_for(&mut line, PAUSE);
                    }
                }
                _ => {
                    if troubled && appended.is_ok() {
                        self.tell(None);
                    }
                    return appended;
                }
            }
        }
    }

    fn tell(&self, trouble: Option<&io::Error>) {
        if let Some(tell) = self.shared.on_trouble.get() {
            tell(trouble);
        }
    }

    fn worth_folding(&self) -> u64 {
        self.options.fold_bytes.max(2 * self.log.snapshot_bytes())
    }

    /// Ends a segment that is large enough, and begins a snapshot when one pays.
    fn tend(&mut self) {
        match self.folding.done.lock().take() {
            Some(Some((segment, snapshot, folded))) => {
                self.log.folded(segment, snapshot, folded);
                self.fold_at = self.worth_folding();
            }
            // Tried again when there is half as much more: not with every group.
            Some(None) => self.fold_at = self.log.bytes_to_fold() + self.options.fold_bytes / 2,
            None => {}
        }
        let pays = self.log.bytes_to_fold() >= self.fold_at;
        let fold_now = pays && !self.folding.running.load(Ordering::Acquire);
        if !fold_now && self.log.length() < self.options.segment_bytes {
            return;
        }
        // Without a new segment the old one goes on; it is tried again behind the next group.
        let Ok(segment) = self.log.rotate() else {
            return;
        };
        if !fold_now {
            return;
        }
        self.folding.running.store(true, Ordering::Release);
        let (disk, folding, make) = (
            Arc::clone(&self.disk),
            Arc::clone(&self.folding),
            Arc::clone(&self.make_fold),
        );
        let thread = std::thread::Builder::new().name("weir-fold".to_owned());
        let started = thread.spawn(move || {
            // Also after a panic: the next one may be made.
            let mut end = FoldEnds(folding, None);
            let made = fold(&*disk, segment, make()).ok();
            end.1 = made.map(|(snapshot, folded)| (segment, snapshot, folded));
        });
        if started.is_err() {
            drop(FoldEnds(Arc::clone(&self.folding), None));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::disk::{DiskFile, Folder};

    struct Nothing;

    impl Fold for Nothing {
        fn take(&mut self, _: &[u8]) {}

        fn give(self: Box<Self>, _: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            Err(io::Error::other("it cannot be made"))
        }
    }

    fn committer(folder: &std::path::Path, options: Options) -> Committer {
        let disk = Arc::new(Folder::open(folder).unwrap());
        let (log, _) = Log::open(Arc::clone(&disk), &mut |_| ()).unwrap();
        Committer::start(log, disk, options, || Box::new(Nothing)).unwrap()
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
                        committer.commit(vec![thread, number], move |outcome| {
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
            committer.commit(vec![7; 100], move |outcome| told.send(outcome).unwrap());
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

        fn list(&self) -> io::Result<Vec<String>> {
            self.0.list()
        }

        fn read(&self, name: &str) -> io::Result<Box<dyn io::Read>> {
            self.0.read(name)
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
            Committer::start(log, disk, Options::default(), || Box::new(Nothing)).unwrap();
        let (told, trouble) = channel();
        committer.on_trouble(move |error| told.send(error.is_some()).unwrap());
        let (told, kept) = channel();
        let commit = |number| {
            let told = told.clone();
            committer.commit(vec![number], move |outcome| {
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
    fn who_comes_after_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let committer = committer(folder.path(), Options::default());
        committer.end();
        let (told, kept) = channel();
        committer.commit(vec![1], move |outcome| told.send(outcome).unwrap());
        assert!(kept.recv().unwrap().is_err());
    }
}
