//! One thread that writes and syncs for all that wait.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

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

type Done = Box<dyn FnOnce(Outcome) + Send>;
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
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            log,
            disk,
            options,
            make_fold: Arc::new(Box::new(make_fold)),
            folding: Arc::default(),
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
    /// Segment, snapshot's size, folded bytes.
    done: Mutex<Option<(u64, u64, u64)>>,
}

struct Writer<D: Disk> {
    shared: Arc<Shared>,
    log: Log<D>,
    disk: Arc<D>,
    options: Options,
    make_fold: Arc<MakeFold>,
    folding: Arc<Folding>,
}

impl<D: Disk> Writer<D> {
    fn run(mut self) {
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
        self.log
            .append(group.iter().map(|waiting| waiting.batch.as_slice()))?;
        if self.options.sync {
            self.log.sync()?;
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends a segment that is large enough, and begins a snapshot when one pays.
    fn tend(&mut self) {
        if let Some((segment, snapshot, folded)) = self.folding.done.lock().take() {
            self.log.folded(segment, snapshot, folded);
        }
        let pays =
            self.log.bytes_to_fold() >= self.options.fold_bytes.max(2 * self.log.snapshot_bytes());
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
            if let Ok((snapshot, folded)) = fold(&*disk, segment, make()) {
                *folding.done.lock() = Some((segment, snapshot, folded));
            }
            folding.running.store(false, Ordering::Release);
        });
        if started.is_err() {
            self.folding.running.store(false, Ordering::Release);
        }
    }
}
